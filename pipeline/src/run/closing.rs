//! Sets that emit windows as they close: partial aggregates of the windows that are open, from epoch to epoch.
//!
//! ```text
//! segments from before ─► groups that the watermark before the epoch has passed ─► rows of the set
//! what is new ──────────► a segment of its own
//! segments ─────────────► those of one size merged, where they are many; those that are closed dropped
//! ```
//!
//! So an epoch costs what it reads and what it emits, however many groups are open; each of them is rewritten a few times.

use std::collections::BTreeMap;
use std::sync::Arc;

use bessemer_connectors::manifest_store::History;
use bessemer_connectors::sink::StateFiles;
use bessemer_schemas::{DataFile, DefinitionDigest, Segment, SetState, Watermark};
use bessemer_transforms::{Between, Closing, Incremental, PlannedSet};
use datafusion::arrow::array::RecordBatch;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::streaming::PartitionStream;
use futures::FutureExt;

use super::absorb::{WrittenState, write_groups};
use super::carry;
use super::set::Attempt;
use super::{fingerprint, unless_cancelled};
use crate::error::{Error, Result};
use crate::load::Loaded;

/// Segments of about one size that are merged: a group is rewritten once for every eightfold of the state.
const FAN_IN: usize = 8;
/// Groups of the smallest segments that are told apart by their size.
const GROUPS_MIN: u64 = 4_096;

/// The windows of a set in one epoch.
#[derive(Debug, Clone, Default)]
pub(super) struct Windows {
    segments: Vec<OpenSegment>,
    /// Windows before it were closed by earlier epochs, in ticks of the key.
    closed: Option<i64>,
    /// Windows before it close in this one.
    limit: Option<i64>,
    /// Whether windows are given up that another definition left open.
    gives_up: bool,
}

/// A segment and where it is.
#[derive(Debug, Clone)]
struct OpenSegment {
    entry: Segment,
    files: StateFiles,
}

impl OpenSegment {
    /// By how many eightfolds it is larger than the smallest.
    fn level(&self) -> u32 {
        let groups: u64 = self.files.files().iter().map(|file| file.rows).sum();
        (groups / GROUPS_MIN).max(1).ilog(FAN_IN as u64)
    }
}

impl Windows {
    /// The windows of `set` as `history` has them, and what of them the watermarks close.
    pub(super) fn find(
        loaded: &Loaded,
        set: &PlannedSet,
        history: &History,
        watermarks: &BTreeMap<String, Watermark>,
    ) -> Result<Self> {
        let Some((incremental, closing)) = set.closing() else { return Ok(Self::default()) };
        let at = watermarks.iter().filter_map(|(name, watermark)| Some((name.as_str(), watermark.at?)));
        let limit = closing.limit(&at.collect())?;
        let states = history.states();
        let Some(state) = states.get(&set.name) else { return Ok(Self { limit, ..Self::default() }) };
        if state.fingerprint != carry::fingerprint(loaded, set, incremental) {
            return Ok(Self { limit, gives_up: true, ..Self::default() });
        }
        let segments = segments(loaded, set, incremental, state);
        Ok(Self { segments, closed: state.closed, limit, gives_up: false })
    }

    /// Whether there are any from before.
    pub(super) fn goes_on(&self) -> bool {
        self.closed.is_some() || !self.segments.is_empty()
    }

    /// Whether windows close that have groups, or are given up.
    pub(super) fn is_due(&self) -> bool {
        self.gives_up || self.closing().is_some()
    }

    /// What closes.
    fn closing(&self) -> Option<Between> {
        let limit = self.limit.filter(|limit| self.closed.is_none_or(|closed| closed < *limit))?;
        let has_some = |segment: &OpenSegment| {
            let Segment { oldest, newest, .. } = segment.entry;
            let from = self.closed.map_or(oldest, |closed| closed.max(oldest));
            from < limit && from <= newest
        };
        // Nothing comes after the last: also what is in no window is told then.
        let to = (limit < i64::MAX).then_some(limit);
        self.segments.iter().any(has_some).then_some(Between { from: self.closed, to })
    }

    /// The plan of the rows of the windows that close, if some do.
    pub(super) async fn emit(
        &self,
        attempt: &Attempt<'_>,
        incremental: &Incremental,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let Some(between) = self.closing() else { return Ok(None) };
        let session = attempt.session;
        let emit = incremental.emit_between(session, streams(&self.segments), between);
        unless_cancelled(attempt.cancel, emit.map(|plan| Ok(Some(plan?)))).await
    }

    /// Adds what the scans of an attempt read, if there is something to read, and tidies up.
    pub(super) async fn absorb(
        &self,
        attempt: &Attempt<'_>,
        planned: &PlannedSet,
        incremental: &Incremental,
    ) -> Result<WrittenState> {
        let closed = self.limit.max(self.closed);
        let mut segments = self.segments.clone();
        segments.retain(|segment| closed.is_none_or(|closed| segment.entry.newest >= closed));
        let mut writer = SegmentWriter { attempt, planned, incremental, streams: 0 };
        // One merge at most, of what earlier epochs wrote: so every file of this one is in its manifest.
        if let Some(level) = crowded(&segments) {
            let (many, rest) = segments.into_iter().partition(|segment| segment.level() == level);
            segments = rest;
            let plan = incremental.merge(streams(&many), Between::open(closed))?;
            segments.extend(writer.write(plan).await?);
        }
        if planned.sources.keys().any(|name| attempt.scanned.of(name).is_some()) {
            let plan = incremental.absorb(attempt.session, None);
            let plan = unless_cancelled(attempt.cancel, plan.map(|plan| Ok(plan?))).await?;
            let new = writer.write(plan).await?;
            if let (Some(new), Some(closed)) = (&new, closed)
                && new.entry.oldest < closed
            {
                let message = format!("a row came into a window of `{}` that is closed", planned.name);
                return Err(Error::Internal { message });
            }
            segments.extend(new);
        }
        // The files are in the order of the segments.
        let files = segments.iter().flat_map(|segment| segment.files.files().to_vec()).collect();
        let segments: Vec<_> = segments.into_iter().map(|segment| segment.entry).collect();
        Ok(WrittenState { files, content: digest_of(&segments), segments, closed })
    }
}

/// The level that has so many segments that they are merged.
fn crowded(segments: &[OpenSegment]) -> Option<u32> {
    let of_level = |level: u32| segments.iter().filter(|segment| segment.level() == level).count();
    segments.iter().map(OpenSegment::level).filter(|level| of_level(*level) >= FAN_IN).min()
}

fn streams(segments: &[OpenSegment]) -> Vec<Arc<dyn PartitionStream>> {
    segments.iter().map(|segment| Arc::new(segment.files.clone()) as Arc<dyn PartitionStream>).collect()
}

fn segments(loaded: &Loaded, set: &PlannedSet, incremental: &Incremental, state: &SetState) -> Vec<OpenSegment> {
    let mut files = state.files.added.iter().cloned();
    let (place, schema) = (&loaded.parsed.settings.state, incremental.state_schema());
    let open = |entry: &Segment| {
        let files: Vec<DataFile> = files.by_ref().take(entry.files as usize).collect();
        let files = StateFiles::new(place, &set.name, files, Arc::clone(schema));
        OpenSegment { entry: entry.clone(), files }
    };
    state.segments.iter().map(open).collect()
}

/// The digest of a state that is a list of segments.
fn digest_of(segments: &[Segment]) -> bessemer_schemas::Digest {
    let contents: Vec<_> = segments.iter().map(|segment| segment.content.0.as_str()).collect();
    bessemer_schemas::Digest::of(contents.join("\n").as_bytes())
}

/// Whether the states of the sets that close windows are what was written, and mean what they meant; an error where one of
/// them is not. Those of other definitions than those `before` the run are given up, as the user said, who is told so.
pub(super) async fn check_states(
    loaded: &Loaded,
    history: &History,
    before: Option<&DefinitionDigest>,
) -> Result<Vec<String>> {
    let states = history.states();
    let mut given_up = Vec::new();
    for set in &loaded.plan.sets {
        let (Some((incremental, _)), Some(state)) = (set.closing(), states.get(&set.name)) else { continue };
        if state.fingerprint != carry::fingerprint(loaded, set, incremental) {
            let name = &set.name;
            if !is_redefined(loaded, set, before) {
                let why = "they are of another version of the program or its engine".to_owned();
                return Err(Error::StateLost { set: name.clone(), why });
            }
            given_up
                .push(format!("the windows of `{name}` that were open are given up: they are of another definition"));
            continue;
        }
        for segment in segments(loaded, set, incremental, state) {
            if let Some(why) = carry::damage(&segment.files, &segment.entry.content).await? {
                return Err(Error::StateLost { set: set.name.clone(), why: why.to_owned() });
            }
        }
    }
    Ok(given_up)
}

/// Whether the set or what it reads is not what it was.
fn is_redefined(loaded: &Loaded, set: &PlannedSet, before: Option<&DefinitionDigest>) -> bool {
    let (Some(before), now) = (before, fingerprint::definition(loaded)) else { return true };
    let plan = |of: &DefinitionDigest| of.sets.get(&set.name).map(|set| (set.plan.clone(), set.columns.clone()));
    let read = |of: &DefinitionDigest, name: &String| {
        of.sources.get(name).map(|source| (source.columns.clone(), source.decoding.clone()))
    };
    let mut names = set.sources.keys().chain(set.tables.keys());
    plan(before) != plan(&now) || names.any(|name| read(before, name) != read(&now, name))
}

/// Writes segments; each is a stream of files of its own.
struct SegmentWriter<'a> {
    attempt: &'a Attempt<'a>,
    planned: &'a PlannedSet,
    incremental: &'a Incremental,
    streams: usize,
}

impl SegmentWriter<'_> {
    /// Nothing where there is no group.
    async fn write(&mut self, plan: Arc<dyn ExecutionPlan>) -> Result<Option<OpenSegment>> {
        let stream = self.streams;
        self.streams += 1;
        let mut range: Option<(i64, i64)> = None;
        let look = |batch: &RecordBatch| {
            range = match (range, Closing::range(batch)?) {
                (Some((oldest, newest)), Some((least, most))) => Some((oldest.min(least), newest.max(most))),
                (known, found) => known.or(found),
            };
            Ok(())
        };
        let written = write_groups(self.attempt, self.planned, self.incremental, plan, stream, look).await?;
        let (files, content) = written;
        if files.files().is_empty() {
            return Ok(None);
        }
        let count = u32::try_from(files.files().len()).unwrap_or(u32::MAX);
        // Groups without a window are closed by the last one.
        let (oldest, newest) = range.unwrap_or((i64::MAX - 1, i64::MAX - 1));
        Ok(Some(OpenSegment { entry: Segment { files: count, content, oldest, newest }, files }))
    }
}
