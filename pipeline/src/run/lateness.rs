//! Watermarks. Which rows of an epoch are late is decided by where the watermarks are before it, for each file and each
//! partition; where they are after it is in its manifest.

use std::collections::BTreeMap;
#[cfg(feature = "kafka")]
use std::collections::BTreeSet;
#[cfg(feature = "kafka")]
use std::time::Duration;

use bessemer_connectors::manifest_store::History;
use bessemer_connectors::scan::{ScanInput, ScanOffsets};
use bessemer_schemas::{ObjectVersion, OffsetRange, Slice, SourceSlice, Watermark};

use super::epoch::Assignment;
use super::intake::Taken;
use crate::error::{Error, Result};
use crate::load::Loaded;

/// Where a source's rows begin to be late; nothing of a source without `ON LATE`.
#[derive(Debug, Clone, Default)]
pub(super) struct Floors(Option<Watermark>);

impl Floors {
    /// Of the source `name`.
    pub(super) fn of(name: &str, loaded: &Loaded, history: &History) -> Self {
        let is_late = loaded.sources.iter().any(|source| source.name() == name && source.lateness().is_some());
        Self(if is_late { history.watermarks().remove(name) } else { None })
    }

    /// Whether nothing of the source may come any more.
    pub(super) fn is_final(&self) -> bool {
        self.0.as_ref().is_some_and(|watermark| watermark.is_final)
    }

    /// The watermark once rows have come to some of its idle partitions, if they have.
    #[cfg(feature = "kafka")]
    pub(super) fn woken<'r>(&self, left: impl Iterator<Item = &'r OffsetRange>) -> Option<Watermark> {
        let unread: BTreeSet<_> =
            left.filter(|range| !range.is_empty()).map(|range| (range.topic.as_str(), range.partition)).collect();
        self.0.as_ref()?.woken(|known| unread.contains(&(known.topic.as_str(), known.partition)))
    }

    /// How far partitions may be to be read, of which something is `left`.
    #[cfg(feature = "kafka")]
    pub(super) fn step<'r>(&self, left: impl Iterator<Item = &'r OffsetRange>, max_skew: Option<Duration>) -> Step {
        Step(self.0.as_ref().zip(max_skew).map(|(watermark, skew)| {
            let skew = i64::try_from(skew.as_micros()).unwrap_or(i64::MAX);
            (watermark.clone(), watermark.in_step(left, skew))
        }))
    }

    /// Of rows wherever they come from: what of the source is final is before it.
    pub(super) fn of_source(&self) -> Option<i64> {
        self.0.as_ref().and_then(|watermark| watermark.at)
    }

    /// Of the rows of an object.
    pub(super) fn object(&self, version: ObjectVersion) -> ObjectVersion {
        ObjectVersion { late_before: self.of_source(), ..version }
    }

    /// Of the rows of offsets.
    pub(super) fn offsets(&self, range: OffsetRange) -> OffsetRange {
        let watermark = self.0.as_ref();
        let late_before = watermark.and_then(|watermark| watermark.late_before(&range.topic, range.partition));
        OffsetRange { late_before, ..range }
    }
}

/// How far partitions may be to be read; without anything, however far.
#[cfg(feature = "kafka")]
#[derive(Debug)]
pub(super) struct Step(Option<(Watermark, Option<i64>)>);

#[cfg(feature = "kafka")]
impl Step {
    /// Whether a partition waits for slower ones that have something to read, too.
    pub(super) fn waits(&self, range: &OffsetRange) -> bool {
        let step = self.0.as_ref();
        step.is_some_and(|(watermark, last)| watermark.late_before(&range.topic, range.partition) > *last)
    }
}

/// Where the watermarks are after an epoch that did what was assigned.
pub(super) fn watermarks_after(
    assignment: &Assignment,
    taken: &Taken,
    loaded: &Loaded,
    history: &History,
) -> BTreeMap<String, Watermark> {
    let mut before = history.watermarks();
    before.extend(assignment.watermarks.clone());
    let mut after = assignment.watermarks.clone();
    for source in &loaded.sources {
        let (name, Some(lateness)) = (source.name(), source.lateness()) else { continue };
        let Some(input) = assignment.scans.get(name) else { continue };
        let newest =
            (0..input.len()).filter(|part| input.is_new(*part)).map(|part| (part, taken.newest_of(name, part)));
        let newest = newest.map(|(part, newest)| (part, newest.map(|newest| newest.saturating_sub(lateness.delay))));
        let mut watermark = before.remove(name).unwrap_or_default();
        match input {
            ScanInput::Offsets(ranges) => watermark.partitions(newest.filter_map(|(part, at)| {
                let range = &ranges.get(part)?.range;
                Some((range.topic.as_str(), range.partition, at))
            })),
            ScanInput::Objects(_) => newest.for_each(|(_, at)| watermark.arrives(at)),
            ScanInput::Replayed(_) => continue,
        }
        if let Some(oldest) = assignment.oldest_unread.get(name) {
            watermark = watermark.arrived(*oldest);
        }
        after.insert(name.to_owned(), watermark);
    }
    after
}

/// The slice of an epoch, with those ranges set apart whose rows were late by the watermark alone: read as one with those
/// before, they would be late by the newest of these, and by nothing else.
pub(super) fn set_apart(assignment: &Assignment, taken: &Taken, history: &History) -> Slice {
    let mut slice = assignment.slice.clone();
    let watermarks = history.watermarks();
    for (name, source) in &mut slice.sources {
        let (SourceSlice::Kafka { ranges }, Some(input)) = (source, assignment.scans.get(name)) else { continue };
        let ScanInput::Offsets(parts) = input else { continue };
        for range in ranges {
            let is_it = |part: &ScanOffsets| part.is_new && part.range == *range;
            let has_late = parts.iter().position(is_it).is_some_and(|part| taken.has_late(name, part));
            let known = watermarks.get(name).and_then(|known| known.of_partition(&range.topic, range.partition));
            range.is_apart = has_late && range.late_before > known && range.late_before > floor(name, range, history);
        }
    }
    slice
}

/// What rows of a partition are late by wherever the last of its ranges that is read apart began.
fn floor(name: &str, range: &OffsetRange, history: &History) -> Option<i64> {
    let read = history.ranges_read(name).into_iter().rev();
    let mut of_partition = read.filter(|read| (&read.topic, read.partition) == (&range.topic, range.partition));
    of_partition.next().and_then(|last| last.late_before)
}

/// Refuses input of a source that `run --final` said was at its end.
pub(super) fn check_goes_on(name: &str, floors: &Floors) -> Result<()> {
    if floors.is_final() { Err(Error::Final { name: name.to_owned() }) } else { Ok(()) }
}
