//! Sets that emit rows once they are final: what is kept for them, from epoch to epoch. Those are partial aggregates of the
//! windows that are open, or rows that others depend on.
//!
//! ```text
//! segments from before ─► what the watermark before the epoch has passed ─► rows of the set
//! what is new ──────────► a segment of its own
//! segments ─────────────► those of one size merged, where they are many; those that are closed dropped
//! ```
//!
//! Where windows are kept, an epoch costs what it reads and what it emits, however many groups are open; each of them is
//! rewritten a few times.

use std::collections::BTreeMap;
use std::sync::Arc;

use bessemer_connectors::manifest_store::History;
use bessemer_connectors::sink::StateFiles;
use bessemer_schemas::{DataFile, DefinitionDigest, Segment, SetState, Watermark};
use bessemer_transforms::{Between, Emits, PlannedSet};
use datafusion::arrow::array::RecordBatch;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::streaming::PartitionStream;
use futures::FutureExt;

use super::absorb::{WrittenState, write_rows};
use super::carry;
use super::set::Attempt;
use super::{fingerprint, unless_cancelled};
use crate::error::{Error, Result};
use crate::load::Loaded;

/// Segments of about one size that are merged: a group is rewritten once for every eightfold of the state.
const FAN_IN: usize = 8;
/// Rows of the smallest segments that are told apart by their size.
const ROWS_MIN: u64 = 4_096;

/// What a set emits in one epoch, and what it keeps.
#[derive(Debug, Clone, Default)]
pub(super) struct Emission {
    segments: Vec<OpenSegment>,
    /// Rows before it were emitted by earlier epochs, in ticks of the time that the set is told by.
    closed: Option<i64>,
    /// Rows before it are final in this one.
    limit: Option<i64>,
    /// What of the segments is needed for the rows in between.
    concerns: Vec<bool>,
    /// Whether something is given up that another definition has kept.
    gives_up: bool,
}

/// A segment and where it is.
#[derive(Debug, Clone)]
struct OpenSegment {
    entry: Segment,
    files: StateFiles,
}

impl OpenSegment {
    fn input(&self) -> usize {
        self.entry.input as usize
    }

    fn range(&self) -> (i64, i64) {
        (self.entry.oldest, self.entry.newest)
    }

    fn stream(&self) -> Arc<dyn PartitionStream> {
        Arc::new(self.files.clone())
    }

    /// By how many eightfolds it is larger than the smallest.
    fn level(&self) -> u32 {
        let rows: u64 = self.files.files().iter().map(|file| file.rows).sum();
        (rows / ROWS_MIN).max(1).ilog(FAN_IN as u64)
    }
}

impl Emission {
    /// What `history` says is kept for `set`, and what the watermarks make final.
    pub(super) fn find(
        loaded: &Loaded,
        set: &PlannedSet,
        history: &History,
        watermarks: &BTreeMap<String, Watermark>,
    ) -> Result<Self> {
        let Some(emits) = set.emits() else { return Ok(Self::default()) };
        let at = watermarks.iter().filter_map(|(name, watermark)| Some((name.as_str(), watermark.at?)));
        let limit = emits.limit(&at.collect())?;
        let states = history.states();
        let Some(state) = states.get(&set.name) else { return Ok(Self { limit, ..Self::default() }) };
        if state.fingerprint != carry::fingerprint(loaded, set, emits.tables(), &emits.signature()) {
            return Ok(Self { limit, gives_up: true, ..Self::default() });
        }
        let segments = segments(loaded, set, emits, state);
        let mut emission = Self { segments, closed: state.closed, limit, ..Self::default() };
        if let Some(between) = emission.between() {
            let concerns = |segment: &OpenSegment| emits.concerns(segment.input(), segment.range(), between);
            emission.concerns = emission.segments.iter().map(concerns).collect();
        }
        Ok(emission)
    }

    /// Whether there are any from before.
    pub(super) fn goes_on(&self) -> bool {
        self.closed.is_some() || !self.segments.is_empty()
    }

    /// Whether something may be emitted, or is given up.
    pub(super) fn is_due(&self) -> bool {
        self.gives_up || self.concerns.contains(&true)
    }

    /// The rows that become final.
    fn between(&self) -> Option<Between> {
        let limit = self.limit.filter(|limit| self.closed.is_none_or(|closed| closed < *limit))?;
        // Nothing comes after the last: also what has no time is told then.
        let to = (limit < i64::MAX).then_some(limit);
        Some(Between { from: self.closed, to })
    }

    /// The plan of the rows that become final, if some may.
    pub(super) async fn emit(
        &self,
        attempt: &Attempt<'_>,
        emits: &dyn Emits,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let Some(between) = self.between().filter(|_| self.concerns.contains(&true)) else { return Ok(None) };
        let concerned = |input| {
            let segments = self.segments.iter().zip(&self.concerns);
            let concerned = segments.filter(|(segment, concerns)| segment.input() == input && **concerns);
            concerned.map(|(segment, _)| segment.stream()).collect()
        };
        let segments = (0..emits.states().len()).map(concerned).collect();
        let emit = emits.emit(attempt.session, segments, between);
        unless_cancelled(attempt.cancel, emit.map(|plan| Ok(Some(plan?)))).await
    }

    /// Adds what the scans of an attempt read, if there is something to read, and tidies up.
    pub(super) async fn absorb(
        &self,
        attempt: &Attempt<'_>,
        planned: &PlannedSet,
        emits: &dyn Emits,
    ) -> Result<WrittenState> {
        let closed = self.limit.max(self.closed);
        let mut segments = self.segments.clone();
        let is_spent = |segment: &OpenSegment, closed| emits.is_spent(segment.input(), segment.range(), closed);
        segments.retain(|segment| closed.is_none_or(|closed| !is_spent(segment, closed)));
        let mut writer = SegmentWriter { attempt, planned, emits, streams: 0 };
        // One merge at most of an input, of what earlier epochs wrote: so every file of this one is in its manifest.
        for input in 0..emits.states().len() {
            let Some(level) = crowded(&segments, input) else { continue };
            let is_merged = |segment: &OpenSegment| {
                segment.input() == input && (emits.merges_all(input) || segment.level() == level)
            };
            let (many, rest): (Vec<_>, _) = segments.into_iter().partition(is_merged);
            segments = rest;
            let many = many.iter().map(OpenSegment::stream).collect();
            let plan = emits.merge(attempt.session, input, many, closed);
            let plan = unless_cancelled(attempt.cancel, plan.map(|plan| Ok(plan?))).await?;
            segments.extend(writer.write(input, plan).await?);
        }
        if planned.sources.keys().any(|name| attempt.scanned.of(name).is_some()) {
            for input in 0..emits.states().len() {
                let plan = emits.absorb(attempt.session, input);
                let plan = unless_cancelled(attempt.cancel, plan.map(|plan| Ok(plan?))).await?;
                let new = writer.write(input, plan).await?;
                if let (Some(new), Some(closed)) = (&new, closed)
                    && emits.is_late(input, new.range(), closed)
                {
                    let message = format!("a row came to `{}` after what depends on it", planned.name);
                    return Err(Error::Internal { message });
                }
                segments.extend(new);
            }
        }
        // The files are in the order of the segments.
        let files = segments.iter().flat_map(|segment| segment.files.files().to_vec()).collect();
        let segments: Vec<_> = segments.into_iter().map(|segment| segment.entry).collect();
        Ok(WrittenState { files, content: digest_of(&segments), segments, closed })
    }
}

/// The level that has so many segments of an input that they are merged.
fn crowded(segments: &[OpenSegment], input: usize) -> Option<u32> {
    let of_input = || segments.iter().filter(|segment| segment.input() == input);
    let of_level = |level: u32| of_input().filter(|segment| segment.level() == level).count();
    of_input().map(OpenSegment::level).filter(|level| of_level(*level) >= FAN_IN).min()
}

fn segments(loaded: &Loaded, set: &PlannedSet, emits: &dyn Emits, state: &SetState) -> Vec<OpenSegment> {
    let mut files = state.files.added.iter().cloned();
    let (place, schemas) = (&loaded.parsed.settings.state, emits.states());
    let open = |entry: &Segment| {
        let files: Vec<DataFile> = files.by_ref().take(entry.files as usize).collect();
        // A state of as many inputs has the same fingerprint.
        let schema = schemas.get(entry.input as usize)?;
        let files = StateFiles::new(place, &set.name, files, Arc::clone(schema));
        Some(OpenSegment { entry: entry.clone(), files })
    };
    state.segments.iter().filter_map(open).collect()
}

/// The digest of a state that is a list of segments.
fn digest_of(segments: &[Segment]) -> bessemer_schemas::Digest {
    let contents: Vec<_> = segments.iter().map(|segment| segment.content.0.as_str()).collect();
    bessemer_schemas::Digest::of(contents.join("\n").as_bytes())
}

/// Whether the states of the sets that emit rows once they are final are what was written, and mean what they meant; an error where one of
/// them is not. Those of other definitions than those `before` the run are given up, as the user said, who is told so.
pub(super) async fn check_states(
    loaded: &Loaded,
    history: &History,
    before: Option<&DefinitionDigest>,
) -> Result<Vec<String>> {
    let states = history.states();
    let mut given_up = Vec::new();
    for set in &loaded.plan.sets {
        let (Some(emits), Some(state)) = (set.emits(), states.get(&set.name)) else { continue };
        if state.fingerprint != carry::fingerprint(loaded, set, emits.tables(), &emits.signature()) {
            let name = &set.name;
            if !is_redefined(loaded, set, before) {
                let why = "they are of another version of the program or its engine".to_owned();
                return Err(Error::StateLost { set: name.clone(), why });
            }
            given_up.push(format!("what `{name}` has kept for rows to come is given up: it is of another definition"));
            continue;
        }
        for segment in segments(loaded, set, emits, state) {
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
    emits: &'a dyn Emits,
    streams: usize,
}

impl SegmentWriter<'_> {
    /// Nothing where there is no row.
    async fn write(&mut self, input: usize, plan: Arc<dyn ExecutionPlan>) -> Result<Option<OpenSegment>> {
        let stream = self.streams;
        self.streams += 1;
        let mut range: Option<(i64, i64)> = None;
        let look = |batch: &RecordBatch| {
            range = match (range, self.emits.range(input, batch)?) {
                (Some((oldest, newest)), Some((least, most))) => Some((oldest.min(least), newest.max(most))),
                (known, found) => known.or(found),
            };
            Ok(())
        };
        let schemas = self.emits.states();
        let Some(schema) = schemas.get(input) else { return Ok(None) };
        let (files, content) = write_rows(self.attempt, self.planned, schema, plan, stream, look).await?;
        if files.files().is_empty() {
            return Ok(None);
        }
        let count = u32::try_from(files.files().len()).unwrap_or(u32::MAX);
        // What has no time is final with the last that has one.
        let (oldest, newest) = range.unwrap_or((i64::MAX - 1, i64::MAX - 1));
        let input = u32::try_from(input).unwrap_or(u32::MAX);
        Ok(Some(OpenSegment { entry: Segment { input, files: count, content, oldest, newest }, files }))
    }
}
