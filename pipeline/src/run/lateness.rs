//! Watermarks. Which rows of an epoch are late is decided by where the watermarks are before it, for each file and each
//! partition; where they are after it is in its manifest.

use std::collections::BTreeMap;

use bessemer_connectors::manifest_store::History;
use bessemer_connectors::scan::ScanInput;
use bessemer_schemas::{ObjectVersion, OffsetRange, Watermark};

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

    /// Of the rows of an object.
    pub(super) fn object(&self, version: ObjectVersion) -> ObjectVersion {
        let late_before = self.0.as_ref().and_then(|watermark| watermark.at);
        ObjectVersion { late_before, ..version }
    }

    /// Of the rows of offsets.
    pub(super) fn offsets(&self, range: OffsetRange) -> OffsetRange {
        let watermark = self.0.as_ref();
        let late_before = watermark.and_then(|watermark| watermark.late_before(&range.topic, range.partition));
        OffsetRange { late_before, ..range }
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
        if assignment.drained.contains(name) {
            watermark = watermark.arrived();
        }
        after.insert(name.to_owned(), watermark);
    }
    after
}

/// Refuses input of a source that `run --final` said was at its end.
pub(super) fn check_goes_on(name: &str, floors: &Floors) -> Result<()> {
    if floors.is_final() { Err(Error::Final { name: name.to_owned() }) } else { Ok(()) }
}
