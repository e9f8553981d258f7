//! What a pipeline has read and written so far: the base, and the manifests after it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::pin::Pin;

use bessemer_schemas::{
    BadRecords, Base, BlockRef, DataFile, DefinitionDigest, Digest, Epoch, Failure, FileChanges, Manifest,
    ManifestKind, ObjectVersion, OffsetRange, SetLedger, SetState, SourceLedger, SourceSlice, Watermark,
};
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};

use super::block::{self, Changes, SliceBlock};
use super::{ManifestStore, ReadManifest};
use crate::{Location, Result};

/// Whose files: each owner has a folder of its own, and paths relative to it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileOwner {
    /// Data files of a feature set.
    Set(String),
    /// Quarantine files of a feature set: rows that broke an expectation.
    SetQuarantine(String),
    /// Quarantine files of a source: records that could not be decoded.
    SourceQuarantine(String),
    /// Partial aggregates of a feature set.
    SetState(String),
}

/// What a commit does to the state of a set that it replaces without one.
static DROPPED: FileChanges = FileChanges { added: Vec::new(), removed: Vec::new(), replaces_all: true };

impl fmt::Display for FileOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Set(name) => write!(f, "set `{name}`"),
            Self::SetQuarantine(name) => write!(f, "quarantine of set `{name}`"),
            Self::SourceQuarantine(name) => write!(f, "quarantine of source `{name}`"),
            Self::SetState(name) => write!(f, "state of set `{name}`"),
        }
    }
}

impl FileOwner {
    /// Reads `source:NAME` or `set:NAME`, as a base names the owners of quarantine files.
    pub(super) fn of_quarantine(key: &str) -> Option<Self> {
        match key.split_once(':')? {
            ("source", name) => Some(Self::SourceQuarantine(name.to_owned())),
            ("set", name) => Some(Self::SetQuarantine(name.to_owned())),
            _ => None,
        }
    }

    /// The changes that `manifest` makes to the files.
    pub(super) fn changes<'a>(&self, manifest: &'a Manifest) -> Option<&'a FileChanges> {
        match self {
            Self::Set(name) => manifest.sets.get(name).map(|set| &set.files),
            Self::SetQuarantine(name) => manifest.sets.get(name).map(|set| &set.quarantine),
            Self::SourceQuarantine(name) => manifest.quarantine.get(name),
            Self::SetState(name) => {
                let set = manifest.sets.get(name)?;
                let state = set.state.as_ref().map(|state| &state.files);
                state.or_else(|| set.files.replaces_all.then_some(&DROPPED))
            }
        }
    }

    /// Everyone whose files the commit of the set `name` may change.
    pub(super) fn of_set(name: &str) -> [Self; 3] {
        [Self::Set(name.to_owned()), Self::SetQuarantine(name.to_owned()), Self::SetState(name.to_owned())]
    }

    /// The blocks of `base` that hold the files.
    pub(super) fn blocks<'a>(&self, base: &'a Base) -> &'a [BlockRef] {
        let blocks = match self {
            Self::Set(name) => base.files.get(name),
            Self::SetQuarantine(name) => base.quarantine.get(&format!("set:{name}")),
            Self::SourceQuarantine(name) => base.quarantine.get(&format!("source:{name}")),
            // They are few: the base names them itself.
            Self::SetState(_) => None,
        };
        blocks.map_or(&[], Vec::as_slice)
    }
}

/// Files of one owner: blocks of the base that still hold, and what came and went since.
pub(super) struct LiveFiles<'a> {
    pub(super) blocks: &'a [BlockRef],
    pub(super) recent: Changes<DataFile>,
}

/// What a pipeline has read and written, up to and with its newest manifest. Its size is bounded: what is older than a
/// few hundred epochs is streamed from blocks when it is asked for.
#[derive(Debug, Clone)]
pub struct History {
    location: Location,
    base: Base,
    /// The manifests after the base, without theirs.
    recent: Vec<Manifest>,
    digest: Option<Digest>,
}

impl History {
    /// What there was once the manifest `newest` was put.
    pub(super) async fn read(store: &ManifestStore, newest: Option<ReadManifest>) -> Result<Self> {
        let mut history =
            Self { location: store.location.clone(), base: Base::default(), recent: Vec::new(), digest: None };
        let Some(newest) = newest else { return Ok(history) };

        history.base = newest.manifest.base.clone().unwrap_or_default();
        let mut older = store.read_range(history.base.through.next()..=newest.manifest.epoch);
        while let Some(read) = older.try_next().await? {
            history.push(read);
        }
        Ok(history)
    }

    /// Reads what was committed since.
    pub(super) async fn catch_up(&mut self, store: &ManifestStore) -> Result<()> {
        while let Some(read) = store.find(self.next_epoch()).await? {
            self.push(read);
        }
        Ok(())
    }

    /// Adds the next manifest.
    pub(super) fn push(&mut self, read: ReadManifest) {
        let ReadManifest { mut manifest, digest } = read;
        if let Some(base) = manifest.base.take_if(|base| base.through > self.base.through) {
            self.recent.retain(|manifest| manifest.epoch > base.through);
            self.base = base;
        }
        manifest.base = None;
        self.recent.push(manifest);
        self.digest = Some(digest);
    }

    /// The newest manifest, without its base; `None` before the first.
    pub fn newest(&self) -> Option<&Manifest> {
        self.recent.last()
    }

    /// The epoch that the next commit makes.
    pub fn next_epoch(&self) -> Epoch {
        self.newest().map_or(Epoch::FIRST, |newest| newest.epoch.next())
    }

    /// The manifests after the base, oldest first, without theirs: the last few epochs.
    pub fn recent(&self) -> &[Manifest] {
        &self.recent
    }

    /// The definition of the newest manifest.
    pub fn definition(&self) -> Option<&DefinitionDigest> {
        self.newest().map(|newest| &newest.definition)
    }

    /// Why the pipeline stopped, if nothing was committed since.
    pub fn last_failure(&self) -> Option<&Failure> {
        let is_work = |manifest: &&Manifest| matches!(manifest.kind, ManifestKind::Data | ManifestKind::Failed);
        let last = self.recent.iter().rev().find(is_work);
        last.map_or(self.base.failure.as_ref(), |manifest| manifest.failure.as_ref())
    }

    /// Every object of a log that was read, in the version that was read; sorted by path.
    pub fn objects_read(&self, source: &str) -> BoxStream<'static, Result<ObjectVersion>> {
        let blocks = self.base.objects.get(source).cloned().unwrap_or_default();
        let slices: Vec<_> = self.slices(source).cloned().collect();
        let location = self.location.clone();
        let recent = async move {
            let recent: Result<_> = objects_of(&location, slices.iter()).await;
            recent.map(|recent| block::read_merged(location, blocks, recent))
        };
        stream::once(recent).try_flatten().boxed()
    }

    /// Every version of an object of a log that needs no second look: those that were read and, by
    /// `on_change = 'ignore'`, those that were last seen and ignored. Sorted by path, which may come twice.
    pub fn objects_known(&self, source: &str) -> BoxStream<'static, Result<ObjectVersion>> {
        let blocks = self.base.ignored.get(source).cloned().unwrap_or_default();
        let recent = ignored_of(self.slices(source));
        if blocks.is_empty() && recent.is_empty() {
            return self.objects_read(source);
        }
        let ignored = block::read_merged(self.location.clone(), blocks, recent);
        by_path(self.objects_read(source), ignored)
    }

    /// The committed files of a feature set that are in force, sorted by path.
    pub fn live_files(&self, set: &str) -> BoxStream<'static, Result<DataFile>> {
        self.files(&FileOwner::Set(set.to_owned()))
    }

    /// The committed quarantine files in force of `source:NAME` or `set:NAME`, sorted by path; none of anything else.
    pub fn quarantine_files(&self, owner: &str) -> BoxStream<'static, Result<DataFile>> {
        FileOwner::of_quarantine(owner).map_or_else(|| stream::empty().boxed(), |owner| self.files(&owner))
    }

    /// The committed files of `owner` that are in force, sorted by path.
    pub fn files(&self, owner: &FileOwner) -> BoxStream<'static, Result<DataFile>> {
        let live = self.live(owner);
        block::read_merged(self.location.clone(), live.blocks.to_vec(), live.recent)
    }

    /// Everyone who owns a file that was committed.
    pub fn owners(&self) -> BTreeSet<FileOwner> {
        let based = self.base.files.keys().cloned().map(FileOwner::Set);
        let quarantined = self.base.quarantine.keys().filter_map(|key| FileOwner::of_quarantine(key));
        let states = self.base.states.keys().cloned().map(FileOwner::SetState);
        let recent = self.recent.iter().flat_map(|manifest| {
            let of_sets = manifest.sets.keys().flat_map(|set| FileOwner::of_set(set));
            of_sets.chain(manifest.quarantine.keys().cloned().map(FileOwner::SourceQuarantine))
        });
        based.chain(quarantined).chain(states).chain(recent).collect()
    }

    /// Version of each table when it was last read.
    pub fn table_versions(&self) -> BTreeMap<String, String> {
        let mut versions = self.base.tables.clone();
        for (name, slice) in self.recent.iter().flat_map(|manifest| &manifest.slice.sources) {
            if let SourceSlice::Table { version, .. } = slice {
                versions.insert(name.clone(), version.clone());
            }
        }
        versions
    }

    /// Number of the last listing of each log.
    pub fn listings(&self) -> BTreeMap<String, u64> {
        let mut listings = self.base.listings.clone();
        for (name, slice) in self.recent.iter().flat_map(|manifest| &manifest.slice.sources) {
            if let SourceSlice::Objects { listing, .. } = slice {
                let last = listings.entry(name.clone()).or_default();
                *last = (*last).max(*listing);
            }
        }
        listings
    }

    /// Offsets read so far of a Kafka source, by topic and partition: from the first one to the last.
    pub fn offsets_read(&self, source: &str) -> Vec<OffsetRange> {
        let whole = self.ranges_read(source).into_iter().map(|range| OffsetRange { is_apart: false, ..range });
        OffsetRange::joined(&whole.collect::<Vec<_>>())
    }

    /// The same as it is read once more: in pieces, where rows were late that would not be late in one.
    pub fn ranges_read(&self, source: &str) -> Vec<OffsetRange> {
        let based = self.base.offsets.get(source).into_iter().flatten();
        let recent = self.slices(source).filter_map(|slice| match slice {
            SourceSlice::Kafka { ranges } => Some(ranges),
            _ => None,
        });
        OffsetRange::joined(based.chain(recent.flatten()))
    }

    /// Which of the last records of a Kafka source's partitions were bad; nothing of those that have none.
    pub fn bad_records(&self, source: &str) -> Vec<BadRecords> {
        let mut last = self.base.bad_records.get(source).cloned().unwrap_or_default();
        for manifest in &self.recent {
            let Some(SourceSlice::Kafka { ranges }) = manifest.slice.sources.get(source) else { continue };
            let is_read = |of: &BadRecords| {
                let mut read = ranges.iter().filter(|range| !range.is_empty());
                read.any(|range| range.topic == of.topic && range.partition == of.partition)
            };
            last.retain(|of| !is_read(of));
            last.extend(manifest.bad_records.get(source).into_iter().flatten().cloned());
        }
        last
    }

    /// What became of the records of each source, over all epochs.
    pub fn source_totals(&self) -> BTreeMap<String, SourceLedger> {
        let mut totals = self.base.sources.clone();
        for (name, ledger) in self.recent.iter().flat_map(|manifest| &manifest.sources) {
            totals.entry(name.clone()).or_default().add(ledger);
        }
        totals
    }

    /// What became of the rows of each feature set: over all epochs, or in the last one if that replaced the set.
    pub fn set_totals(&self) -> BTreeMap<String, SetLedger> {
        let mut totals = self.base.sets.clone();
        for (name, commit) in self.recent.iter().flat_map(|manifest| &manifest.sets) {
            let total = totals.entry(name.clone()).or_default();
            if commit.files.replaces_all {
                *total = commit.ledger;
            } else {
                total.add(&commit.ledger);
            }
        }
        totals
    }

    /// What each snapshot set was last computed from.
    pub fn inputs(&self) -> BTreeMap<String, Digest> {
        let mut inputs = self.base.inputs.clone();
        for (name, commit) in self.recent.iter().flat_map(|manifest| &manifest.sets) {
            if let Some(digest) = &commit.inputs {
                inputs.insert(name.clone(), digest.clone());
            }
        }
        inputs
    }

    /// Partial aggregates of the snapshot sets that are kept up to date from them.
    pub fn states(&self) -> BTreeMap<String, SetState> {
        let mut states = self.base.states.clone();
        for (name, commit) in self.recent.iter().flat_map(|manifest| &manifest.sets) {
            if let Some(state) = &commit.state {
                states.insert(name.clone(), state.clone());
            } else if commit.files.replaces_all {
                states.remove(name);
            }
        }
        states
    }

    /// Where the watermarks were when snapshot sets with `EMIT EVERY` were last replaced.
    pub fn emitted_at(&self) -> BTreeMap<String, i64> {
        let mut emitted = self.base.emitted_at.clone();
        let recent = self.recent.iter().flat_map(|manifest| &manifest.sets);
        emitted.extend(recent.filter_map(|(name, commit)| Some((name.clone(), commit.emitted_at?))));
        emitted
    }

    /// Where the watermarks of the sources with `ON LATE` are.
    pub fn watermarks(&self) -> BTreeMap<String, Watermark> {
        let mut watermarks = self.base.watermarks.clone();
        watermarks.extend(self.recent.iter().flat_map(|manifest| manifest.watermarks.clone()));
        watermarks
    }

    pub(super) fn base(&self) -> &Base {
        &self.base
    }

    pub(super) fn location(&self) -> &Location {
        &self.location
    }

    pub(super) fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The slices of one source after the base, oldest first.
    pub(super) fn slices(&self, source: &str) -> impl Iterator<Item = &SourceSlice> {
        self.recent.iter().filter_map(move |manifest| manifest.slice.sources.get(source))
    }

    pub(super) fn live(&self, owner: &FileOwner) -> LiveFiles<'_> {
        let mut live = LiveFiles { blocks: owner.blocks(&self.base), recent: BTreeMap::new() };
        if let FileOwner::SetState(name) = owner {
            let based = self.base.states.get(name).into_iter().flat_map(|state| &state.files.added);
            live.recent.extend(based.map(|file| (file.path.clone(), Some(file.clone()))));
        }
        for changes in self.recent.iter().filter_map(|manifest| owner.changes(manifest)) {
            if changes.replaces_all {
                live = LiveFiles { blocks: &[], recent: BTreeMap::new() };
            }
            for file in &changes.removed {
                // No name is used twice: what was added since the base is not in its blocks.
                if live.recent.remove(&file.path).is_none() {
                    live.recent.insert(file.path.clone(), None);
                }
            }
            live.recent.extend(changes.added.iter().map(|file| (file.path.clone(), Some(file.clone()))));
        }
        live
    }

    /// The first of `files` that is not in force, if there is one. Reads only the blocks that could hold them.
    pub(super) async fn not_live<'a>(&self, owner: &FileOwner, files: &'a [DataFile]) -> Result<Option<&'a DataFile>> {
        let LiveFiles { blocks, mut recent } = self.live(owner);
        // What is recent is known; for the rest, a block that holds none of it is as good as none.
        let unknown: Vec<&str> =
            files.iter().map(|file| file.path.as_str()).filter(|path| !recent.contains_key(*path)).collect();
        let is_asked =
            |block: &&BlockRef| unknown.iter().any(|path| (block.first.as_str()..=block.last.as_str()).contains(path));
        for block in blocks.iter().filter(is_asked) {
            for file in block::read::<DataFile>(&self.location, block).await? {
                recent.entry(file.path.clone()).or_insert(Some(file));
            }
        }
        Ok(files.iter().find(|file| recent.get(&file.path).is_none_or(Option::is_none)))
    }

    /// Paths of the blocks of slices of all epochs, sorted.
    pub(super) fn slice_blocks(&self) -> BoxStream<'static, Result<SliceBlock>> {
        block::read_merged(self.location.clone(), self.base.slices.clone(), self.recent_slice_blocks())
    }

    /// Those after the base.
    pub(super) fn recent_slice_blocks(&self) -> Changes<SliceBlock> {
        let slices = self.recent.iter().flat_map(|manifest| manifest.slice.sources.values());
        let blocks = slices.filter_map(|slice| match slice {
            SourceSlice::Objects { block, .. } | SourceSlice::Table { block, .. } => block.as_ref(),
            _ => None,
        });
        blocks.map(|block| (block.path.clone(), Some(SliceBlock(block.path.clone())))).collect()
    }

    /// Entries after the base, in manifests or in blocks of slices.
    pub(super) fn pending_entries(&self) -> u64 {
        self.recent.iter().map(entries).sum()
    }
}

/// Objects and files that a fold takes over from `manifest`.
fn entries(manifest: &Manifest) -> u64 {
    let of_slice = |slice: &SourceSlice| match slice {
        SourceSlice::Objects { objects, block, ignored, .. } => {
            (objects.len() + ignored.len()) as u64 + block.as_ref().map_or(0, |block| block.entries)
        }
        _ => 0,
    };
    let sets = manifest.sets.values().flat_map(|set| [&set.files, &set.quarantine]);
    let files =
        sets.chain(manifest.quarantine.values()).map(|changes| (changes.added.len() + changes.removed.len()) as u64);
    manifest.slice.sources.values().map(of_slice).chain(files).sum()
}

/// Merges two streams that are sorted by path.
fn by_path(
    left: BoxStream<'static, Result<ObjectVersion>>,
    right: BoxStream<'static, Result<ObjectVersion>>,
) -> BoxStream<'static, Result<ObjectVersion>> {
    let merged = stream::try_unfold((left.peekable(), right.peekable()), |(mut left, mut right)| async move {
        let next = |version: Option<&Result<ObjectVersion>>| match version {
            Some(Ok(version)) => Some(version.path.clone()),
            // An error comes out at once, and an end never before the other stream's.
            Some(Err(_)) => Some(String::new()),
            None => None,
        };
        let (of_left, of_right) = (next(Pin::new(&mut left).peek().await), next(Pin::new(&mut right).peek().await));
        let is_left = of_left.is_some() && (of_right.is_none() || of_left <= of_right);
        let version = if is_left { left.next().await } else { right.next().await };
        Ok(version.transpose()?.map(|version| (version, (left, right))))
    });
    merged.boxed()
}

/// The objects that `slices`, oldest first, say were seen changed and were ignored, by path.
pub(super) fn ignored_of<'a>(slices: impl Iterator<Item = &'a SourceSlice>) -> Changes<ObjectVersion> {
    let ignored = slices.filter_map(|slice| match slice {
        SourceSlice::Objects { ignored, .. } => Some(ignored),
        _ => None,
    });
    ignored.flatten().map(|object| (object.path.clone(), Some(object.clone()))).collect()
}

/// The objects that `slices`, oldest first, say were read, by path.
pub(super) async fn objects_of<'a>(
    location: &Location,
    slices: impl Iterator<Item = &'a SourceSlice>,
) -> Result<Changes<ObjectVersion>> {
    let mut all = BTreeMap::new();
    for slice in slices.filter(|slice| matches!(slice, SourceSlice::Objects { .. })) {
        all.extend(slice_objects(location, slice).await?.into_iter().map(|object| (object.path.clone(), Some(object))));
    }
    Ok(all)
}

/// The objects of a slice, in its order.
pub(super) async fn slice_objects(location: &Location, slice: &SourceSlice) -> Result<Vec<ObjectVersion>> {
    let (SourceSlice::Objects { objects, block, .. } | SourceSlice::Table { objects, block, .. }) = slice else {
        return Ok(Vec::new());
    };
    match block {
        Some(block) => block::read(location, block).await,
        None => Ok(objects.clone()),
    }
}
