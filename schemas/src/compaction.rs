//! Which files become fewer: tiers of small files, so that no row is rewritten often.
//!
//! ```text
//! rewrites 0 ──60 files, or 1 minute──► 1 ──60 files, or 1 hour──► 2 ──60 files, or 60 hours──► 3
//!      └─────────────── a quarter of what a file should be: it stays as it is ──────────────────┘
//! ```
//!
//! A merge of a few files that are large already would cost much and make little fewer: those wait for one on demand.
//! As many epochs as these times have seconds will do, too: what a process has seen of time is gone with it.
//!
//! A merge takes the oldest files of one tier of one partition, so that the files of a tier are always older than those
//! of the tiers before it, and the rows of a merged file can be put in the order in which they were committed.

use std::collections::BTreeMap;

use crate::{ByteSize, DataFile, Epoch, FileChanges, FileName};

/// Files of a tier that become one: so many one-second checkpoints are a minute.
const FAN_IN: usize = 60;
/// Files that one merge on demand takes: what it holds open is bounded by their bytes, too.
const FAN_IN_ON_DEMAND: usize = 256;
/// How often a row is rewritten in the background: a file of that tier stays as it is.
const TIERS: u8 = 3;
/// How long files of the first tier wait for others, in seconds or in epochs; of each further tier, sixty times longer.
const WAIT_SECONDS: u64 = 60;
/// A file that has this part of `file_bytes` stays as it is in the background: four of them are one.
const LARGE_PART: u64 = 4;
/// Files and bytes that one step of compaction merges, at most (a merge is never cut): an epoch waits for its commit.
const STEP: (usize, u64) = (512, 1 << 30);

/// What files of a set should be like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MergeLimits {
    /// What a file should have: one of this size is never merged, and one of a quarter of it on demand only.
    pub file_bytes: ByteSize,
    /// Rows of a row group: so much of each file is in memory while it is merged.
    pub row_group_rows: u64,
    /// Bytes of the files that are in memory at a time, as stored.
    pub open_bytes: ByteSize,
}

/// Files of one partition that become one, or a few where they are large.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merge {
    /// The files, in the order in which their rows were committed.
    pub files: Vec<DataFile>,
    /// How often a row will have been rewritten, at most.
    pub rewrites: u8,
}

/// The small files of one feature set or quarantine, by partition and tier.
#[derive(Debug)]
pub struct Tiers {
    limits: MergeLimits,
    partitions: BTreeMap<String, [Vec<Waiting>; TIERS as usize]>,
}

#[derive(Debug)]
struct Waiting {
    name: FileName,
    file: DataFile,
    /// When it was seen first.
    since: i64,
}

impl Tiers {
    /// No files yet.
    pub fn new(limits: MergeLimits) -> Self {
        Self { limits, partitions: BTreeMap::new() }
    }

    /// Takes in what an epoch did. `now` is the time in microseconds, from any beginning.
    pub fn apply(&mut self, changes: &FileChanges, now: i64) {
        if changes.replaces_all {
            self.partitions.clear();
        }
        for file in &changes.removed {
            let directory = directory(&file.path);
            let Some(tiers) = self.partitions.get_mut(directory) else { continue };
            for tier in tiers.iter_mut() {
                tier.retain(|waiting| waiting.file.path != file.path);
            }
            if tiers.iter().all(Vec::is_empty) {
                self.partitions.remove(directory);
            }
        }
        for file in &changes.added {
            self.add(file, now);
        }
    }

    /// Takes in a file that is in force.
    pub fn add(&mut self, file: &DataFile, now: i64) {
        let large = self.limits.file_bytes.0 / LARGE_PART;
        let Some(name) = name(file).filter(|_| file.bytes < large) else { return };
        let tiers = self.partitions.entry(directory(&file.path).to_owned()).or_default();
        if let Some(tier) = tiers.get_mut(usize::from(file.rewrites)) {
            let at = tier.partition_point(|waiting| waiting.name < name);
            tier.insert(at, Waiting { name, file: file.clone(), since: now });
        }
    }

    /// What is to be merged now: one merge a partition at most, the largest numbers of files first, as much as one step may.
    /// `epoch` is the one to come.
    pub fn due(&self, now: i64, epoch: Epoch) -> Vec<Merge> {
        let partitions = self.partitions.values();
        let mut merges: Vec<_> = partitions.filter_map(|tiers| self.due_in(tiers, now, epoch)).collect();
        merges.sort_by_key(|merge| std::cmp::Reverse(merge.files.len()));
        one_step(merges)
    }

    fn due_in(&self, tiers: &[Vec<Waiting>; TIERS as usize], now: i64, epoch: Epoch) -> Option<Merge> {
        let due = (0..TIERS).zip(tiers).find(|(tier, waiting)| self.is_due(*tier, waiting, now, epoch));
        let (tier, waiting) = due?;
        let files = self.limits.prefix(waiting.iter().map(|waiting| &waiting.file), FAN_IN, self.limits.file_bytes.0);
        (files.len() > 1).then_some(Merge { files, rewrites: tier + 1 })
    }

    fn is_due(&self, tier: u8, waiting: &[Waiting], now: i64, epoch: Epoch) -> bool {
        let [oldest, _, ..] = waiting else { return false };
        let seconds = WAIT_SECONDS * 60_u64.pow(u32::from(tier));
        let since = waiting.iter().map(|waiting| waiting.since).min().unwrap_or(now);
        let has_waited = epoch.0.saturating_sub(oldest.name.epoch.0) >= seconds
            || u64::try_from(now.saturating_sub(since)).is_ok_and(|micros| micros >= 1_000_000 * seconds);
        let bytes = || waiting.iter().map(|waiting| waiting.file.bytes).sum::<u64>();
        waiting.len() >= FAN_IN || has_waited || bytes() >= self.limits.file_bytes.0
    }
}

impl MergeLimits {
    /// What is to be merged on demand: all small files of each partition, whatever their tier, as much as one step may;
    /// empty where no partition has two. Asked again and again, it comes to an end: of what a merge makes, only the last
    /// file may be small.
    pub fn on_demand<'a>(&self, files: impl IntoIterator<Item = &'a DataFile>) -> Vec<Merge> {
        let mut partitions: BTreeMap<&str, Vec<(FileName, &DataFile)>> = BTreeMap::new();
        for file in files.into_iter().filter(|file| file.bytes < self.file_bytes.0) {
            let Some(name) = name(file) else { continue };
            partitions.entry(directory(&file.path)).or_default().push((name, file));
        }
        let merges = partitions.into_values().filter_map(|mut files| {
            files.sort_by_key(|(name, file)| (std::cmp::Reverse(file.rewrites), *name));
            // More than one file should have: the small rest of a merge is not to be rewritten for a little more.
            let files = self.prefix(files.into_iter().map(|(_, file)| file), FAN_IN_ON_DEMAND, 4 * self.file_bytes.0);
            let rewrites = files.iter().map(|file| file.rewrites).max()?.saturating_add(1);
            (files.len() > 1).then_some(Merge { files, rewrites })
        });
        one_step(merges)
    }

    /// The first of `files`: `count` at most, until they have `bytes`, and as many as may be in memory (but two).
    fn prefix<'a>(&self, files: impl Iterator<Item = &'a DataFile>, count: usize, bytes: u64) -> Vec<DataFile> {
        let (mut taken, mut total, mut open) = (Vec::new(), 0_u64, 0_u64);
        for file in files.take(count) {
            open = open.saturating_add(self.bytes_open(file));
            if total >= bytes || (taken.len() > 1 && open > self.open_bytes.0) {
                break;
            }
            total = total.saturating_add(file.bytes);
            taken.push(file.clone());
        }
        taken
    }

    /// Bytes of `file` that are in memory while it is read: those of a row group.
    fn bytes_open(&self, file: &DataFile) -> u64 {
        let share = u128::from(self.row_group_rows.min(file.rows)) * u128::from(file.bytes);
        u64::try_from(share / u128::from(file.rows.max(1))).unwrap_or(u64::MAX)
    }
}

impl Merge {
    /// Bytes of its files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }
}

/// The first of `merges`, as many as one step may do.
fn one_step(merges: impl IntoIterator<Item = Merge>) -> Vec<Merge> {
    let (mut files, mut bytes) = (0, 0);
    let is_within = |merge: &Merge| {
        let is_first = files == 0;
        files += merge.files.len();
        bytes += merge.bytes();
        is_first || (files <= STEP.0 && bytes <= STEP.1)
    };
    merges.into_iter().take_while(is_within).collect()
}

/// The folder of a partition, as paths begin.
fn directory(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(directory, _)| directory)
}

/// Its name, if it is of our form: what is not has no place in the order.
fn name(file: &DataFile) -> Option<FileName> {
    file.path.rsplit('/').next()?.parse().ok()
}

#[cfg(test)]
mod tests;
