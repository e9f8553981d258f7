//! Sets that emit rows once they are final: what is kept for them, from epoch to epoch. Those are partial aggregates of the
//! windows that are open, or rows that others depend on.
//!
//! ```text
//! segments from before ─► what the watermark before the epoch has passed ─► rows of the set
//! what is new ──────────► a segment of its own
//! segments ─────────────► those of one size merged, where they are many; those that are closed dropped
//! ```
//!
//! An epoch costs what it reads and what it emits, however many groups are open, and however many rows are kept of other
//! keys: these are looked up in memory (resident.rs). Each of them is rewritten a few times.

use std::collections::BTreeMap;
use std::sync::Arc;

use bessemer_connectors::manifest_store::History;
use bessemer_connectors::sink::StateFiles;
use bessemer_schemas::{DataFile, Digest, Segment, SetState, Watermark};
use bessemer_transforms::{Between, Emits, PlannedSet, SegmentRows};
use datafusion::arrow::array::RecordBatch;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::streaming::PartitionStream;
use futures::FutureExt;
use tracing::debug;

use super::absorb::{WrittenState, write_rows};
use super::kept;
use super::set::Attempt;
use super::unless_cancelled;
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

    fn rows(&self) -> u64 {
        self.files.files().iter().map(|file| file.rows).sum()
    }

    /// By how many eightfolds it is larger than the smallest.
    fn level(&self) -> u32 {
        (self.rows() / ROWS_MIN).max(1).ilog(FAN_IN as u64)
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
        let limit = limit(emits, watermarks)?;
        let states = history.states();
        let Some(state) = states.get(&set.name) else { return Ok(Self::beginning(limit)) };
        if state.fingerprint != kept::meaning(loaded, set, emits) {
            return Ok(Self { gives_up: true, ..Self::beginning(limit) });
        }
        Ok(Self::going_on(loaded, set, emits, &WrittenState::from(state), limit))
    }

    /// Nothing is kept yet, and nothing can be final.
    pub(super) fn beginning(limit: Option<i64>) -> Self {
        Self { limit, ..Self::default() }
    }

    /// What an epoch emits of what was `kept` before it, where rows before `limit` are final.
    pub(super) fn going_on(
        loaded: &Loaded,
        set: &PlannedSet,
        emits: &dyn Emits,
        kept: &WrittenState,
        limit: Option<i64>,
    ) -> Self {
        let segments = segments(loaded, set, emits, kept);
        let mut emission = Self { segments, closed: kept.closed, limit, ..Self::default() };
        if let Some(between) = emission.between() {
            let concerns = |segment: &OpenSegment| emits.concerns(segment.input(), segment.range(), between);
            emission.concerns = emission.segments.iter().map(concerns).collect();
        }
        emission
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
        set: &str,
        emits: &dyn Emits,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let Some(between) = self.between().filter(|_| self.concerns.contains(&true)) else { return Ok(None) };
        let mut segments: Vec<_> = (0..emits.states().len()).map(|_| Vec::new()).collect();
        for (input, rows) in self.concerned(attempt, set, emits, between).await? {
            if let Some(segments) = segments.get_mut(input) {
                segments.push(rows);
            }
        }
        let emit = emits.emit(attempt.session, segments, between);
        unless_cancelled(attempt.cancel, emit.map(|plan| Ok(Some(plan?)))).await
    }

    /// The segments that have a part in rows that are `between`, each with its input.
    async fn concerned(
        &self,
        attempt: &Attempt<'_>,
        set: &str,
        emits: &dyn Emits,
        between: Between,
    ) -> Result<Vec<(usize, SegmentRows)>> {
        let concerned = self.segments.iter().zip(&self.concerns).filter(|(_, concerns)| **concerns);
        let concerned: Vec<_> = concerned.map(|(segment, _)| segment).collect();
        let told: Vec<_> = concerned.iter().map(|it| (it.input(), it.range(), it.rows())).collect();
        let resident = if emits.is_narrow(&told, between) {
            let looked_up = concerned.iter().filter_map(|it| {
                let entry = &it.entry;
                Some((entry.input, entry.content.clone(), &it.files, emits.lookup(it.input())?))
            });
            let context = attempt.session.task_ctx();
            let resident = attempt.residents.of(set, looked_up.collect(), &context);
            unless_cancelled(attempt.cancel, resident).await?
        } else {
            Vec::new()
        };
        let (segments, in_memory) = (concerned.len(), resident.iter().flatten().count());
        debug!(set, segments, in_memory, "rows that become final are looked for");
        let resident = resident.into_iter().chain(std::iter::repeat(None));
        let rows = concerned.into_iter().zip(resident).map(|(segment, resident)| {
            let stored = || SegmentRows::Stored(segment.stream());
            (segment.input(), resident.map_or_else(stored, SegmentRows::Resident))
        });
        Ok(rows.collect())
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
            // Smaller ones, too: what of a row is still needed may be said by rows that came after it.
            let is_merged = |segment: &OpenSegment| segment.input() == input && segment.level() <= level;
            let (many, rest): (Vec<_>, _) = segments.into_iter().partition(is_merged);
            segments = rest;
            let beside = segments.iter().filter(|segment| segment.input() == input).map(|it| it.entry.newest).max();
            let many = many.iter().map(OpenSegment::stream).collect();
            let plan = emits.merge(attempt.session, input, many, closed, beside);
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
        Ok(WrittenState { files, ..WrittenState::of_segments(segments, closed) })
    }
}

/// The level that has so many segments of an input that they are merged.
fn crowded(segments: &[OpenSegment], input: usize) -> Option<u32> {
    let of_input = || segments.iter().filter(|segment| segment.input() == input);
    let of_level = |level: u32| of_input().filter(|segment| segment.level() == level).count();
    of_input().map(OpenSegment::level).filter(|level| of_level(*level) >= FAN_IN).min()
}

fn segments(loaded: &Loaded, set: &PlannedSet, emits: &dyn Emits, kept: &WrittenState) -> Vec<OpenSegment> {
    let schemas = emits.states();
    let open = |(entry, files): (&Segment, &[DataFile])| {
        // A state of as many inputs has the same fingerprint.
        let schema = schemas.get(entry.input as usize)?;
        let files = StateFiles::new(&loaded.parsed.settings.state, &set.name, files.to_vec(), Arc::clone(schema));
        Some(OpenSegment { entry: entry.clone(), files })
    };
    kept::segments(&kept.segments, &kept.files).filter_map(open).collect()
}

/// The time before which rows are final, where the watermarks are these.
pub(super) fn limit(emits: &dyn Emits, watermarks: &BTreeMap<String, Watermark>) -> Result<Option<i64>> {
    let at = watermarks.iter().filter_map(|(name, watermark)| Some((name.as_str(), watermark.at?)));
    Ok(emits.limit(&at.collect())?)
}

impl WrittenState {
    /// That of the segments, without their files.
    pub(super) fn of_segments(segments: Vec<Segment>, closed: Option<i64>) -> Self {
        let contents: Vec<_> = segments.iter().map(|segment| segment.content.0.as_str()).collect();
        let content = Digest::of(contents.join("\n").as_bytes());
        Self { files: Vec::new(), content, segments, closed }
    }
}

impl From<&SetState> for WrittenState {
    fn from(state: &SetState) -> Self {
        let SetState { files, content, segments, closed, .. } = state.clone();
        Self { files: files.added, content, segments, closed }
    }
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
