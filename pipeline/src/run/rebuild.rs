//! What a set that emits rows once they are final keeps, computed anew: where it was lost, or to compare what it emitted.
//!
//! ```text
//! manifests since the set began ─► slices that rows to come may depend on ─► absorbed, several epochs at a time ─► state
//! ```
//!
//! Which rows were late is in the slices, and what was emitted says the time before which rows are. So a state does not
//! depend on how its rows were cut into epochs, and one that is made of the same slices gives the same rows from there on.
//! Each manifest tells the times of what its epoch has absorbed: what is too old for rows to come is not read again.

use std::collections::{BTreeMap, BTreeSet};

use bessemer_connectors::manifest_store::ManifestStore;
use bessemer_connectors::scan::{ScanInput, ScanObject, ScanOffsets};
use bessemer_connectors::sink::state_location;
use bessemer_connectors::{Location, Source};
use bessemer_schemas::{
    DataFile, Epoch, FileName, Manifest, ManifestKind, ObjectVersion, SetState, SliceLimits, SourceKind, SourceSlice,
    Watermark,
};
use bessemer_transforms::{Emits, PlannedSet};
use futures::{FutureExt, TryStreamExt};
use object_store::ObjectStoreExt;

use super::absorb::WrittenState;
use super::emission::{Emission, limit};
use super::epoch::{Assignment, Engine, Naming, Ran};
use super::intake::Taken;
use super::kept;
use crate::error::{Error, Result};
use crate::load::Loaded;

/// Attempts at epochs have lower numbers: no state that is made anew shares a name with one that they wrote.
pub(super) const FIRST_ATTEMPT: u32 = 1_000_000;
/// What is absorbed at a time, beyond one epoch; no more than the pipeline itself takes.
const BATCH: SliceLimits = SliceLimits { bytes: 1 << 30, rows: 2_000_000, files: 1_000 };

/// Makes the state of one set anew.
pub(super) struct Rebuild<'a> {
    pub(super) engine: Engine<'a>,
    pub(super) store: &'a ManifestStore,
    /// The set, and its number in the plan.
    pub(super) at: usize,
    pub(super) emits: &'a dyn Emits,
    /// Of the first files; each batch is an attempt of its own.
    pub(super) naming: Naming,
}

/// Tables as they are now: version and objects.
type Tables = BTreeMap<String, (String, Vec<ObjectVersion>)>;

/// Slices that are absorbed at a time.
#[derive(Debug, Default)]
struct Batch {
    objects: BTreeMap<String, Vec<ScanObject>>,
    offsets: BTreeMap<String, Vec<ScanOffsets>>,
    /// Rows that were admitted of topics, which may forget records.
    admitted: BTreeMap<String, u64>,
    /// Before it all rows were absorbed by earlier batches.
    closed: Option<i64>,
}

impl Rebuild<'_> {
    /// What `state` was, made of the slices again.
    ///
    /// # Errors
    /// [`Error::NotRebuilt`] where something that it was made of is gone. Files may then be left.
    pub(super) async fn run(mut self, state: &SetState) -> Result<WrittenState> {
        let name = self.set().name.clone();
        let made = self.make(state).boxed().await;
        made.map_err(|error| match gone(&error) {
            Some(why) => Error::NotRebuilt { set: name, why },
            None => error,
        })
    }

    async fn make(&mut self, state: &SetState) -> Result<WrittenState> {
        let tables = self.tables().await?;
        let closed = self.closed(state).await?;
        let mut watermarks = self.store.history_through(Epoch(state.since.0.saturating_sub(1))).await?.watermarks();
        let mut kept = WrittenState::of_segments(Vec::new(), None);
        let mut batch = Batch::default();
        let mut manifests = self.store.manifests(state.since..=state.through);
        while let Some(manifest) = manifests.try_next().await? {
            if self.is_of_use(&manifest, closed) {
                self.check_tables(&manifest, &tables)?;
                let more = self.slices_of(&manifest).await?;
                if !batch.has_room_for(&more, self.engine.loaded.parsed.settings.limits) {
                    kept = self.absorb(kept, std::mem::take(&mut batch), &tables).await?;
                }
                if batch.is_empty() {
                    batch.closed = limit(self.emits, &watermarks_of(&manifest, &watermarks))?;
                }
                batch.extend(more);
            }
            watermarks.extend(manifest.watermarks);
        }
        if !batch.is_empty() {
            kept = self.absorb(kept, batch, &tables).await?;
        }
        Ok(WrittenState { closed, ..kept })
    }

    fn set(&self) -> &PlannedSet {
        &self.engine.loaded.plan.sets[self.at]
    }

    fn lacks(&self, why: String) -> Error {
        Error::NotRebuilt { set: self.set().name.clone(), why }
    }

    /// The time before which rows of the set were emitted; where the state that says so is of a program that may count it
    /// otherwise, it follows from the watermarks.
    async fn closed(&self, state: &SetState) -> Result<Option<i64>> {
        let last = self.store.read(state.through).await?;
        let is_known = |engine| kept::means_the_same(self.engine.loaded, self.set(), self.emits, state, engine);
        if is_known(datafusion::DATAFUSION_VERSION) || is_known(&last.writer.datafusion) {
            return Ok(state.closed);
        }
        let before = self.store.history_through(Epoch(state.through.0.saturating_sub(1))).await?;
        limit(self.emits, &watermarks_of(&last, &before.watermarks()))
    }

    /// Whether rows to come may depend on what an epoch has absorbed, where those before `closed` were emitted.
    fn is_of_use(&self, manifest: &Manifest, closed: Option<i64>) -> bool {
        let commit = manifest.sets.get(&self.set().name).filter(|_| manifest.kind == ManifestKind::Data);
        let Some(state) = commit.and_then(|commit| commit.state.as_ref()) else { return false };
        let engine = &manifest.writer.datafusion;
        if !kept::means_the_same(self.engine.loaded, self.set(), self.emits, state, engine) {
            return true;
        }
        let is_own = |file: &DataFile| name_of(file).is_some_and(|name| name.epoch == manifest.epoch);
        let mut own = kept::segments(&state.segments, &state.files.added).filter(|(_, files)| files.iter().any(is_own));
        own.any(|(segment, _)| {
            let range = (segment.oldest, segment.newest);
            closed.is_none_or(|closed| !self.emits.is_spent(segment.input as usize, range, closed))
        })
    }

    /// The tables that rows were looked up in before they were kept.
    async fn tables(&self) -> Result<Tables> {
        let mut tables = Tables::new();
        for name in self.emits.tables() {
            let table = table_now(self.engine.loaded, name).await?;
            tables.insert(name.clone(), table.map_err(|why| self.lacks(why))?);
        }
        Ok(tables)
    }

    fn check_tables(&self, manifest: &Manifest, tables: &Tables) -> Result<()> {
        let is_other = |(name, (now, _)): &(&String, &(String, _))| version_of(manifest, name) != Some(now);
        match tables.iter().find(is_other) {
            Some((name, _)) => {
                let epoch = manifest.epoch;
                Err(self.lacks(format!("table `{name}` has changed since epoch {epoch} looked rows up in it")))
            }
            None => Ok(()),
        }
    }

    /// What an epoch read of the set's sources.
    async fn slices_of(&self, manifest: &Manifest) -> Result<Batch> {
        let mut batch = Batch::default();
        for name in self.set().sources.keys() {
            match manifest.slice.sources.get(name) {
                None => {}
                Some(slice @ SourceSlice::Objects { .. }) => {
                    let objects = self.store.slice_objects(slice).await?.into_iter();
                    let objects = objects.map(|version| ScanObject { version, is_new: false });
                    batch.objects.insert(name.clone(), objects.collect());
                }
                Some(SourceSlice::Kafka { ranges }) => {
                    let ranges = ranges.iter().filter(|range| !range.is_empty());
                    let ranges = ranges.map(|range| ScanOffsets { range: range.clone(), is_new: false });
                    batch.offsets.insert(name.clone(), ranges.collect());
                    let admitted = manifest.sources.get(name).map_or(0, |ledger| ledger.admitted);
                    batch.admitted.insert(name.clone(), admitted);
                }
                // Of records that were all refused once more nothing was kept.
                Some(_) if manifest.sources.get(name).is_none_or(|ledger| ledger.admitted == 0) => {}
                Some(_) => {
                    return Err(self.lacks(format!("epoch {} has replayed records of `{name}`", manifest.epoch)));
                }
            }
        }
        Ok(batch)
    }

    /// Adds a batch to what is `kept` of those before.
    async fn absorb(&mut self, kept: WrittenState, batch: Batch, tables: &Tables) -> Result<WrittenState> {
        let Engine { loaded, progress, .. } = self.engine;
        let (closed, admitted) = (batch.closed, batch.admitted.clone());
        let before = kept.files.clone();
        let kept = WrittenState { closed, ..kept };
        // Nothing is between what is emitted and what was.
        let emission = Emission::going_on(loaded, self.set(), self.emits, &kept, closed);
        let assignment = batch.into_assignment(self.at, emission, tables);
        progress.begin(self.naming.epoch.0, assignment.bytes);
        let (taken, outcomes) = match self.engine.execute(&assignment, self.naming).await? {
            Ran::Whole(whole) => whole,
            Ran::Violated(failure) => {
                let message = format!("expectation `{}` was asked of no row, and failed", failure.expectation);
                return Err(Error::Internal { message });
            }
        };
        self.naming.attempt += 1;
        if let Some(why) = forgotten(&admitted, &taken) {
            return Err(self.lacks(why));
        }
        let state = outcomes.into_iter().find_map(|(_, outcome)| outcome.state);
        let state = state.ok_or_else(|| Error::Internal { message: "a state was not written".to_owned() })?;
        delete_replaced(&loaded.parsed.settings.state, &self.set().name, &before, &state.files).await?;
        Ok(state)
    }
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.objects.is_empty() && self.offsets.is_empty()
    }

    fn files(&self) -> u64 {
        self.objects.values().map(Vec::len).sum::<usize>() as u64
    }

    fn bytes(&self) -> u64 {
        self.objects.values().flatten().map(|object| object.version.size).sum()
    }

    fn rows(&self) -> u64 {
        self.offsets.values().flatten().map(|offsets| offsets.range.offsets()).sum()
    }

    /// Whether `more` may be read together with it; an epoch by itself always may.
    fn has_room_for(&self, more: &Self, limits: SliceLimits) -> bool {
        self.is_empty()
            || (more.follows(self)
                && self.bytes() + more.bytes() <= BATCH.bytes.min(limits.bytes)
                && self.rows() + more.rows() <= BATCH.rows.min(limits.rows)
                && self.files() + more.files() <= BATCH.files.min(limits.files))
    }

    /// Whether its offsets begin where those of `before` end: a partition is read in one go.
    fn follows(&self, before: &Self) -> bool {
        let is_next = |(name, new): (&String, &ScanOffsets)| {
            let (new, known) = (&new.range, before.offsets.get(name));
            let mut known = known.into_iter().flatten().map(|offsets| &offsets.range).rev();
            let known = known.find(|known| (&known.topic, known.partition) == (&new.topic, new.partition));
            known.is_none_or(|known| known.end == new.start)
        };
        self.offsets.iter().all(|(name, ranges)| ranges.iter().all(|range| is_next((name, range))))
    }

    fn extend(&mut self, more: Self) {
        more.objects.into_iter().for_each(|(name, objects)| self.objects.entry(name).or_default().extend(objects));
        more.offsets.into_iter().for_each(|(name, ranges)| self.offsets.entry(name).or_default().extend(ranges));
        more.admitted.into_iter().for_each(|(name, rows)| *self.admitted.entry(name).or_default() += rows);
    }

    fn into_assignment(self, at: usize, emission: Emission, tables: &Tables) -> Assignment {
        let mut assignment = Assignment { sets: vec![at], ..Assignment::default() };
        assignment.bytes = self.bytes() + self.rows();
        let objects = self.objects.into_iter().map(|(name, objects)| (name, ScanInput::Objects(objects.into())));
        let offsets = self.offsets.into_iter().map(|(name, mut ranges)| {
            ranges.sort_by(|left, right| left.range.cmp(&right.range));
            (name, ScanInput::Offsets(ranges.into()))
        });
        let tables = tables.iter().map(|(name, (_, objects))| (name.clone(), as_read(objects)));
        assignment.scans = objects.chain(offsets).chain(tables).collect();
        assignment.emissions.insert(at, emission);
        assignment
    }
}

/// Objects, to be read once more.
pub(super) fn as_read(objects: &[ObjectVersion]) -> ScanInput {
    ScanInput::Objects(objects.iter().map(|version| ScanObject { version: version.clone(), is_new: false }).collect())
}

/// The watermarks by which the epoch of `manifest` emitted, where they were at `before`: those that went before it, but
/// where it said that nothing comes any more, or that partitions are idle.
pub(super) fn watermarks_of(manifest: &Manifest, before: &BTreeMap<String, Watermark>) -> BTreeMap<String, Watermark> {
    let mut watermarks = before.clone();
    // What moved though nothing was read of the source had moved before anything was emitted.
    let is_before =
        |name: &String, watermark: &Watermark| watermark.is_final || !manifest.slice.sources.contains_key(name);
    let moved = manifest.watermarks.iter().filter(|(name, watermark)| is_before(name, watermark));
    watermarks.extend(moved.map(|(name, watermark)| (name.clone(), watermark.clone())));
    watermarks
}

/// The version of a table that an epoch read.
pub(super) fn version_of<'a>(manifest: &'a Manifest, table: &str) -> Option<&'a String> {
    match manifest.slice.sources.get(table) {
        Some(SourceSlice::Table { version, .. }) => Some(version),
        _ => None,
    }
}

/// The version and the objects of a table as it is now; a reason where it is none.
pub(super) async fn table_now(loaded: &Loaded, name: &str) -> Result<Result<(String, Vec<ObjectVersion>), String>> {
    let source = loaded.sources.iter().find_map(|source| match source {
        Source::Objects(source) if source.name() == name && source.kind() == SourceKind::Table => Some(source),
        _ => None,
    });
    match source {
        Some(source) => Ok(Ok(source.table_version().await?)),
        None => Ok(Err(format!("table `{name}` is no table of files"))),
    }
}

/// Why fewer rows came of topics than were `admitted` of them, if it is so.
pub(super) fn forgotten(admitted: &BTreeMap<String, u64>, taken: &Taken) -> Option<String> {
    let (name, _) = admitted.iter().find(|(name, rows)| taken.is_whole(name) && taken.rows_of(name) != **rows)?;
    Some(format!("the topic of source `{name}` has deleted or compacted records since"))
}

/// Why something cannot be read again, if that is what an error says: what was read is gone.
pub(super) fn gone(error: &Error) -> Option<String> {
    use bessemer_connectors::Error as Connector;

    match (error, error.connector()) {
        (Error::ReadBefore { name, path, what, .. }, _) => Some(format!("`{path}` of source `{name}` {what} since")),
        (_, Some(Connector::Unstable { name, path, what })) => {
            Some(format!("`{path}` of source `{name}` {what} since"))
        }
        (_, Some(Connector::OffsetsLost { topic, partition, .. })) => {
            Some(format!("topic `{topic}` has no longer the offsets of partition {partition}"))
        }
        (Error::Forgotten(_), _) => Some("its topic has deleted or compacted records meanwhile".to_owned()),
        (_, Some(Connector::TopicMissing { topic, .. })) => Some(format!("topic `{topic}` is gone")),
        _ => None,
    }
}

/// Deletes those files of a state that are not among those which took their place. No manifest names them.
pub(super) async fn delete_replaced(state: &Location, set: &str, old: &[DataFile], new: &[DataFile]) -> Result<()> {
    let location = state_location(state, set);
    let kept: BTreeSet<&String> = new.iter().map(|file| &file.path).collect();
    for file in old.iter().filter(|file| !kept.contains(&file.path)) {
        let deleted = location.store().delete(&location.path(&file.path)).await;
        deleted.map_err(|error| bessemer_connectors::Error::store(location.as_text(), error))?;
    }
    Ok(())
}

fn name_of(file: &DataFile) -> Option<FileName> {
    file.path.rsplit('/').next()?.parse().ok()
}
