//! Compaction: small files of append sets become fewer, in an epoch with an empty slice that adds the new files and
//! removes the old ones.
//!
//! ```text
//! plan     which files, by partition and tier                      (schemas, pure)
//! merge    write them once more, in a task beside the epochs
//! commit   between two epochs; then the Delta log follows, and the old files go
//! ```
//!
//! What was merged and not committed is deleted, or swept by the next run: a crash leaves the old files or the new ones.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use bessemer_connectors::sink::{MergeEnd, WriterNaming};
use bessemer_schemas::{
    ByteSize, DataFile, ErrorKind, FileChanges, Manifest, ManifestKind, Merge, MergeLimits, SetCommit, SetLedger, Tiers,
};
use bessemer_transforms::SetKind;
use futures::{FutureExt, TryStreamExt};
use object_store::ObjectStoreExt;
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;

use super::epoch::Naming;
use super::{Run, interrupted, set, unless_cancelled};
use crate::error::{Error, Result};
use crate::load::{Loaded, error_chain};

/// Attempts at epochs have lower numbers: no merge shares a name with one.
const FIRST_ATTEMPT: u32 = 1_000;
/// Pause after a step that failed, in microseconds: what ails it is rarely gone at once, and epochs go on meanwhile.
const REST_MICROS: i64 = 60_000_000;
/// Steps at the end of a run that ends: someone waits for it, and what is left is due in the next one.
const STEPS_AT_END: usize = 4;
/// Share of the memory for operators that the files of a merge may fill while they are read.
const MEMORY_SHARE: u64 = 4;

/// What one step merges, each with the set's number in the plan.
type Step = Vec<(usize, Merge)>;

/// What compaction knows in a run: of one that ends, at its end.
#[derive(Debug)]
pub(super) struct Compaction {
    /// Small files by the set's number in the plan.
    tiers: BTreeMap<usize, Tiers>,
    under_way: Option<UnderWay>,
    /// Nothing begins before.
    resting_until: i64,
}

/// A step whose files are being written.
#[derive(Debug)]
struct UnderWay {
    started_at: i64,
    stop: CancellationToken,
    task: AbortOnDropHandle<Done>,
}

/// Files of one partition of a set, and what they became.
#[derive(Debug)]
struct Merged {
    at: usize,
    removed: Vec<DataFile>,
    added: Vec<DataFile>,
}

/// How far a step came.
#[derive(Debug, Default)]
struct Done {
    merged: Vec<Merged>,
    /// Files of earlier definitions of a set, which are left out of its merges.
    unlike: Vec<(usize, Vec<DataFile>)>,
    /// The set and files of the merge that failed, which was the last.
    failed: Option<(usize, Vec<DataFile>, Error)>,
}

/// What compaction on demand did to one set.
#[derive(Debug, Serialize)]
pub(crate) struct CompactedSet {
    pub(crate) name: String,
    pub(crate) files_before: u64,
    pub(crate) files_after: u64,
    pub(crate) bytes_before: u64,
    pub(crate) bytes_after: u64,
}

impl Compaction {
    /// Whether the files of the step that was begun are written, well or not.
    #[cfg(test)]
    pub(super) fn has_merged(&self) -> bool {
        self.under_way.as_ref().is_none_or(|step| step.task.is_finished())
    }
}

impl Run<'_> {
    /// Looks at the files in force; from here on the files of each commit are looked at.
    pub(super) async fn begin_compacting(&mut self) -> Result<()> {
        let now = self.host.now_micros();
        let mut all = BTreeMap::new();
        for at in append_sets(&self.loaded) {
            let mut tiers = Tiers::new(limits(&self.loaded, at));
            let mut files = self.writer.history().live_files(&self.loaded.plan.sets[at].name);
            while let Some(file) = files.try_next().await? {
                tiers.add(&file, now);
            }
            all.insert(at, tiers);
        }
        self.compaction = Some(Compaction { tiers: all, under_way: None, resting_until: i64::MIN });
        Ok(())
    }

    /// Takes in the files of a commit.
    pub(super) fn note_files(&mut self, manifest: &Manifest) {
        let Some(compaction) = &mut self.compaction else { return };
        for (at, tiers) in &mut compaction.tiers {
            if let Some(set) = manifest.sets.get(&self.loaded.plan.sets[*at].name) {
                tiers.apply(&set.files, manifest.committed_at);
            }
        }
    }

    /// Between two epochs: commits what was merged meanwhile, and begins to merge what is due.
    pub(super) async fn compact_meanwhile(&mut self) -> Result<()> {
        if self.end_step().await? {
            // Who lists the folder of a set sees its rows twice until the old files are gone.
            self.publish().await?;
        }
        self.begin_step();
        Ok(())
    }

    /// Begins to merge what is due, unless that is being done already. Epochs go on meanwhile.
    fn begin_step(&mut self) {
        let now = self.host.now_micros();
        let attempt = self.next_merge();
        let Some(compaction) = &mut self.compaction else { return };
        if compaction.under_way.is_some() || now < compaction.resting_until {
            return;
        }
        let tiers = compaction.tiers.iter();
        let step: Step =
            tiers.flat_map(|(at, tiers)| tiers.due(now, attempt.epoch).into_iter().map(|merge| (*at, merge))).collect();
        if step.is_empty() {
            return;
        }
        let stop = self.cancel.child_token();
        let task = tokio::spawn(merge_all(Arc::clone(&self.loaded), attempt, step, stop.clone()));
        compaction.under_way = Some(UnderWay { started_at: now, stop, task: AbortOnDropHandle::new(task) });
    }

    /// Commits the step that was begun, once its files are written. Whether it did.
    ///
    /// # Errors
    /// Only where no epoch could be committed either; other trouble is said, and the files stay as they are for a while.
    async fn end_step(&mut self) -> Result<bool> {
        let Some(compaction) = &mut self.compaction else { return Ok(false) };
        match compaction.under_way.take_if(|step| step.task.is_finished()) {
            Some(step) => self.commit_step(step).await,
            None => Ok(false),
        }
    }

    /// At the end of a run: merges what is due, unless the user has stopped it.
    pub(super) async fn compact_at_end(&mut self) -> Result<()> {
        if self.cancel.is_cancelled() || self.pause.is_cancelled() {
            return Ok(());
        }
        let cancel = self.cancel;
        unless_cancelled(cancel, self.begin_compacting()).await?;
        for _ in 0..STEPS_AT_END {
            self.begin_step();
            let Some(step) = self.compaction.as_mut().and_then(|compaction| compaction.under_way.take()) else { break };
            self.progress.phase("compacting");
            if !self.commit_step(step).await? {
                break;
            }
            self.publish().await?;
        }
        Ok(())
    }

    /// Waits for the files of a step, and commits them; see [`Run::end_step`].
    async fn commit_step(&mut self, UnderWay { started_at, task, .. }: UnderWay) -> Result<bool> {
        let done = task.await.map_err(|error| Error::Internal { message: format!("a merge ended early: {error}") })?;
        if self.cancel.is_cancelled() {
            take_back(&self.loaded, &done.merged).await;
            return Ok(false);
        }
        self.leave_out(done.unlike);
        let is_some = !done.merged.is_empty();
        if is_some && let Err(error) = self.commit_merged(done.merged, started_at).await {
            if !self.writer.may_commit() {
                return Err(error);
            }
            self.rest(&error);
            return Ok(false);
        }
        if let Some((at, files, error)) = done.failed {
            self.rest(&error);
            if error.kind() != ErrorKind::Unavailable {
                self.leave_out([(at, files)]);
            }
        }
        Ok(is_some)
    }

    /// Files that no merge can take: they would be in its way again, and keep others from their turn.
    fn leave_out(&mut self, files: impl IntoIterator<Item = (usize, Vec<DataFile>)>) {
        let Some(compaction) = &mut self.compaction else { return };
        for (at, removed) in files {
            if let Some(tiers) = compaction.tiers.get_mut(&at) {
                tiers.apply(&FileChanges { removed, ..FileChanges::default() }, 0);
            }
        }
    }

    /// Says what went wrong, and begins nothing for a while.
    fn rest(&mut self, error: &Error) {
        let now = self.host.now_micros();
        warn!(%error, "compaction failed");
        self.progress.say(&format!("small files stay as they are for now: {}", error_chain(error)));
        if let Some(compaction) = &mut self.compaction {
            compaction.resting_until = now + REST_MICROS;
        }
    }

    /// Gives up the step that was begun, and waits until nothing is written any more.
    pub(super) async fn abandon_step(&mut self) {
        let Some(UnderWay { stop, task, .. }) = self.compaction.as_mut().and_then(|it| it.under_way.take()) else {
            return;
        };
        stop.cancel();
        // What a merge that failed could not take back is swept.
        if let Ok(done) = task.await {
            take_back(&self.loaded, &done.merged).await;
        }
    }

    /// Merges all small files of the append sets at `sets`, step by step.
    pub(super) async fn compact(&mut self, sets: &[usize]) -> Result<Vec<CompactedSet>> {
        let mut compacted = Vec::new();
        for at in sets.iter().copied() {
            let name = self.loaded.plan.sets[at].name.clone();
            let before = self.size_of(&name).await?;
            self.progress.phase(&format!("compacting {name}"));
            let mut left_out = HashSet::new();
            while self.compact_step(at, &mut left_out).await? {
                // Disk is given back as the work goes on, not at its end.
                self.publish().await?;
            }
            if !left_out.is_empty() {
                let files = crate::output::plural(left_out.len() as u64, "file");
                self.progress.say(&format!("{files} of an earlier definition of {name} stay as they are"));
            }
            let after = self.size_of(&name).await?;
            let ((files_before, bytes_before), (files_after, bytes_after)) = (before, after);
            compacted.push(CompactedSet { name, files_before, files_after, bytes_before, bytes_after });
        }
        Ok(compacted)
    }

    /// One step of it, without the files that were `left_out` before, by their paths. Whether there was something to merge.
    async fn compact_step(&mut self, at: usize, left_out: &mut HashSet<String>) -> Result<bool> {
        if self.cancel.is_cancelled() {
            return Err(interrupted());
        }
        let started_at = self.host.now_micros();
        let mut files: Vec<DataFile> =
            self.writer.history().live_files(&self.loaded.plan.sets[at].name).try_collect().await?;
        files.retain(|file| !left_out.contains(&file.path));
        let merges = limits(&self.loaded, at).on_demand(&files);
        if merges.is_empty() {
            return Ok(false);
        }
        let naming = self.next_merge();
        let step = merges.into_iter().map(|merge| (at, merge)).collect();
        let Done { merged, unlike, failed } =
            merge_all(Arc::clone(&self.loaded), naming, step, self.cancel.clone()).await;
        left_out.extend(unlike.into_iter().flat_map(|(_, files)| files).map(|file| file.path));
        if !merged.is_empty() {
            self.commit_merged(merged, started_at).await?;
        }
        failed.map_or(Ok(true), |(_, _, error)| Err(error))
    }

    /// The name of the files of the next merge.
    fn next_merge(&mut self) -> Naming {
        self.merges += 1;
        Naming { epoch: self.writer.next_epoch(), claim: self.writer.claim(), attempt: FIRST_ATTEMPT + self.merges }
    }

    /// Puts the new files into force and the old ones out of it, in one manifest.
    async fn commit_merged(&mut self, merged: Vec<Merged>, started_at: i64) -> Result<()> {
        let mut manifest = self.writer.draft(ManifestKind::Compaction, started_at);
        manifest.committed_at = self.host.now_micros();
        let count = |of: fn(&Merged) -> usize| merged.iter().map(of).sum::<usize>() as u64;
        let (before, after) = (count(|set| set.removed.len()), count(|set| set.added.len()));
        for Merged { at, removed, added } in &merged {
            let commit = manifest.sets.entry(self.loaded.plan.sets[*at].name.clone()).or_insert_with(moves_nothing);
            commit.files.added.extend_from_slice(added);
            commit.files.removed.extend_from_slice(removed);
        }
        let durable = self.files_of(&manifest)?;
        match self.writer.commit(manifest, &durable).await {
            Ok(committed) => {
                self.committed(committed);
                let files = crate::output::plural(before, "file");
                self.progress.say(&format!("compacted {files} into {after}"));
                Ok(())
            }
            Err(error) => {
                if self.writer.unresolved().is_none() {
                    take_back(&self.loaded, &merged).await;
                }
                Err(self.commit_error(error))
            }
        }
    }

    /// Files and bytes of a set.
    async fn size_of(&self, set: &str) -> Result<(u64, u64)> {
        let files = self.writer.history().live_files(set);
        let size = files.try_fold((0, 0), |(files, bytes), file| async move { Ok((files + 1, bytes + file.bytes)) });
        Ok(size.await?)
    }
}

/// The numbers of the sets that append, in the plan: others are replaced as a whole.
pub(super) fn append_sets(loaded: &Loaded) -> impl Iterator<Item = usize> {
    let sets = loaded.plan.sets.iter().enumerate();
    sets.filter(|(_, set)| set.kind == SetKind::Append).map(|(at, _)| at)
}

fn limits(loaded: &Loaded, at: usize) -> MergeLimits {
    let (options, settings) = (&loaded.parsed.sets[at], &loaded.parsed.settings);
    let process = settings.process_memory.as_ref().map_or(u64::MAX, |process| process.limit() as u64);
    MergeLimits {
        file_bytes: options.file_bytes,
        row_group_rows: options.row_group_rows.get() as u64,
        open_bytes: ByteSize(settings.memory_bytes.min(process) / MEMORY_SHARE),
    }
}

/// A commit that neither made nor moved a row yet.
pub(super) fn moves_nothing() -> SetCommit {
    let (files, quarantine, ledger) = (FileChanges::default(), FileChanges::default(), SetLedger::default());
    SetCommit { files, quarantine, ledger, expectations: Vec::new(), inputs: None, state: None }
}

/// Writes the files of a step, up to the first merge that fails, which takes back what it wrote.
async fn merge_all(loaded: Arc<Loaded>, naming: Naming, step: Step, stop: CancellationToken) -> Done {
    let mut done = Done::default();
    for (stream, (at, merge)) in step.into_iter().enumerate() {
        match merge_one(&loaded, naming.writer(stream), at, &merge, &stop).await {
            Ok(Ok(added)) => done.merged.push(Merged { at, removed: merge.files, added }),
            // The rest is merged by a later step.
            Ok(Err(unlike)) => done.unlike.push((at, unlike)),
            Err(error) => {
                done.failed = Some((at, merge.files, error));
                break;
            }
        }
    }
    done
}

/// The files that were written, or those that are of an earlier definition.
async fn merge_one(
    loaded: &Loaded,
    naming: WriterNaming,
    at: usize,
    merge: &Merge,
    stop: &CancellationToken,
) -> Result<Result<Vec<DataFile>, Vec<DataFile>>> {
    let memory = &loaded.session.runtime_env().memory_pool;
    let schema = &loaded.plan.sets[at].schema;
    let mut writer = set::writer(loaded, at, schema, naming, memory, std::num::NonZeroUsize::MIN)?;
    let end = match writer.merge(merge, stop).boxed().await {
        Ok(MergeEnd::Written) => return Ok(Ok(writer.finish().boxed().await?)),
        Ok(MergeEnd::Unlike(files)) => Ok(Err(files)),
        Ok(MergeEnd::Stopped) => Err(interrupted()),
        Err(error) => Err(error.into()),
    };
    writer.abort().await;
    end
}

/// Deletes files that were written and will not be committed; what cannot be deleted now is swept by the next run.
async fn take_back(loaded: &Loaded, merged: &[Merged]) {
    for Merged { at, added, .. } in merged {
        let location = &loaded.parsed.sets[*at].location;
        for file in added {
            location.store().delete(&location.path(&file.path)).await.ok();
        }
    }
}
