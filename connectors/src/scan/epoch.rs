//! What one epoch's scans read and whom they report to. It travels in the session's configuration, so that one logical
//! plan serves every epoch: `config.with_extension(Arc::new(scans))`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::RecordBatch;
use bessemer_schemas::{BadRecords, ObjectVersion, OffsetRange, SourceLedger};
use tokio::sync::mpsc;

use super::replay::ReplayPart;

/// One object of an epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanObject {
    /// The version to read.
    pub version: ObjectVersion,
    /// Whether this epoch reads it for the first time: only then its rejects are reported (an object of a snapshot
    /// set's history has its rejects in quarantine already).
    pub is_new: bool,
}

/// Offsets of one partition of an epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanOffsets {
    /// The offsets to read.
    pub range: OffsetRange,
    /// Whether this epoch reads them for the first time.
    pub is_new: bool,
}

/// What an epoch reads of one source, in the order of row identity.
#[derive(Debug, Clone, PartialEq)]
pub enum ScanInput {
    /// Objects of a store.
    Objects(Arc<[ScanObject]>),
    /// Offsets of Kafka partitions.
    Offsets(Arc<[ScanOffsets]>),
    /// Records of its quarantine.
    Replayed(Arc<[ReplayPart]>),
}

impl ScanInput {
    /// How many objects, ranges of offsets, or parts of a quarantine.
    pub fn len(&self) -> usize {
        match self {
            Self::Objects(objects) => objects.len(),
            Self::Offsets(ranges) => ranges.len(),
            Self::Replayed(parts) => parts.len(),
        }
    }

    /// Whether there is nothing to read.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether this epoch reads a part for the first time.
    pub fn is_new(&self, part: usize) -> bool {
        match self {
            Self::Objects(objects) => objects.get(part).is_some_and(|object| object.is_new),
            Self::Offsets(ranges) => ranges.get(part).is_some_and(|offsets| offsets.is_new),
            Self::Replayed(parts) => part < parts.len(),
        }
    }

    /// What of a part has to be covered until it was read to its end: bytes of an object, offsets of a range,
    /// records of a quarantine.
    pub fn extent(&self, part: usize) -> u64 {
        match self {
            Self::Objects(objects) => objects.get(part).map_or(0, |object| object.version.size),
            Self::Offsets(ranges) => ranges.get(part).map_or(0, |offsets| offsets.range.offsets()),
            Self::Replayed(parts) => parts.get(part).map_or(0, |part| part.records.num_rows() as u64),
        }
    }

    /// The parts of these numbers alone.
    #[must_use]
    pub fn parts(&self, numbers: &[u32]) -> Self {
        fn take<T: Clone>(all: &[T], numbers: &[u32]) -> Arc<[T]> {
            numbers.iter().filter_map(|number| all.get(usize::try_from(*number).ok()?).cloned()).collect()
        }
        match self {
            Self::Objects(objects) => Self::Objects(take(objects, numbers)),
            Self::Offsets(ranges) => Self::Offsets(take(ranges, numbers)),
            Self::Replayed(parts) => Self::Replayed(take(parts, numbers)),
        }
    }

    /// Where the rows of a part come from: path of the object, or `topic/partition`.
    pub fn path(&self, part: usize) -> Option<String> {
        match self {
            Self::Objects(objects) => objects.get(part).map(|object| object.version.path.clone()),
            Self::Offsets(ranges) => {
                ranges.get(part).map(|offsets| format!("{}/{}", offsets.range.topic, offsets.range.partition))
            }
            Self::Replayed(parts) => parts.get(part).map(ReplayPart::path),
        }
    }

    /// The number of the first row of a part: offsets do not begin at 0.
    pub fn first_row(&self, part: usize) -> u64 {
        match self {
            Self::Objects(_) => 0,
            Self::Offsets(ranges) => {
                ranges.get(part).map_or(0, |offsets| u64::try_from(offsets.range.start).unwrap_or(0))
            }
            Self::Replayed(parts) => parts.get(part).map_or(0, ReplayPart::first_row),
        }
    }
}

/// What a scan tells the epoch. Reports of one object, or range of offsets, come in order; those of different ones mix.
#[derive(Debug, Clone)]
pub enum ScanReport {
    /// Rejected records, by `formats::text::reject_schema` (of Kafka by `kafka::reject_schema`).
    Rejects {
        /// The source.
        source: Arc<str>,
        /// Index of the object (or range of offsets) in the epoch's slice.
        object: u32,
        /// The records.
        batch: RecordBatch,
    },
    /// One piece of an object, or a range of offsets, was read to its end. An object read in pieces (row groups of one
    /// Parquet file, by several partitions) has several of these; `objects` and `bytes` of their ledgers add up to one
    /// object.
    ObjectDone {
        /// The source.
        source: Arc<str>,
        /// Index of the object in the epoch's slice.
        object: u32,
        /// What of [`ScanInput::extent`] the piece covers: the object was read to its end when the pieces cover all of it.
        covered: u64,
        /// What became of its records; `quarantined` is left to the writer of the quarantine.
        ledger: SourceLedger,
    },
    /// A further scan of the epoch read a range of offsets to its end. An object is pinned to its version; a log may
    /// forget records between two scans, so each of them says what it found.
    ReadAgain {
        /// The source.
        source: Arc<str>,
        /// Index of the range in the epoch's slice.
        object: u32,
        /// What became of its records.
        ledger: SourceLedger,
    },
    /// Some of the last records of a partition were bad; comes before the end of its range of offsets.
    BadRecords {
        /// The source.
        source: Arc<str>,
        /// Which.
        records: BadRecords,
    },
    /// Something was read. For people only: it is dropped where the queue is full.
    Progress {
        /// Bytes as stored.
        bytes: u64,
        /// Rows that the query sees.
        rows: u64,
    },
}

/// What one epoch reads of every source, and where its scans report.
#[derive(Debug)]
pub struct EpochScans {
    sources: BTreeMap<String, SourceScans>,
    reports: Option<mpsc::Sender<ScanReport>>,
    is_preview: bool,
}

#[derive(Debug, Clone)]
struct SourceScans {
    number: u64,
    input: ScanInput,
    bad_records: Arc<[BadRecords]>,
    /// The numbers of the parts in the epoch, where these are not all.
    numbers: Option<Arc<[u32]>>,
    has_reporter: Arc<AtomicBool>,
}

impl EpochScans {
    /// An epoch whose scans report to `reports`, which must be drained while the plan runs.
    pub fn new(reports: mpsc::Sender<ScanReport>) -> Self {
        Self { sources: BTreeMap::new(), reports: Some(reports), is_preview: false }
    }

    /// Scans that report to nobody.
    pub fn silent() -> Self {
        Self { sources: BTreeMap::new(), reports: None, is_preview: false }
    }

    /// Lets a scan stop after the rows that the plan asks for. Counts are then not those of the slice, so nothing is
    /// reported.
    #[must_use]
    pub fn for_preview(mut self) -> Self {
        self.is_preview = true;
        self.reports = None;
        self
    }

    /// What the epoch reads of a source. `number` is the source's number in row identity (below 64).
    #[must_use]
    pub fn with_source(mut self, name: impl Into<String>, number: u64, input: ScanInput) -> Self {
        let (bad_records, numbers, has_reporter) = (Arc::from([]), None, Arc::default());
        self.sources.insert(name.into(), SourceScans { number, input, bad_records, numbers, has_reporter });
        self
    }

    /// The same epoch for a plan that reads only these `parts` of some sources, by their numbers. Its reports are those of
    /// the epoch: which scan is the first, and what a part's number is.
    #[must_use]
    pub fn restricted(&self, parts: &BTreeMap<String, Arc<[u32]>>) -> Self {
        let sources = self.sources.iter().map(|(name, scans)| {
            let scans = match parts.get(name) {
                Some(parts) => {
                    SourceScans { input: scans.input.parts(parts), numbers: Some(Arc::clone(parts)), ..scans.clone() }
                }
                None => scans.clone(),
            };
            (name.clone(), scans)
        });
        Self { sources: sources.collect(), reports: self.reports.clone(), is_preview: self.is_preview }
    }

    /// Which of the records before those that the epoch reads of a Kafka source were bad.
    #[must_use]
    pub fn with_bad_records(mut self, name: &str, before: Vec<BadRecords>) -> Self {
        if let Some(scans) = self.sources.get_mut(name) {
            scans.bad_records = before.into();
        }
        self
    }

    /// Lets the next scan that is planned over `source` report, though an earlier one was to (its plan was thrown away).
    pub fn reset_reporter(&self, source: &str) {
        if let Some(scans) = self.sources.get(source) {
            scans.has_reporter.store(false, Ordering::Release);
        }
    }

    pub(crate) fn is_preview(&self) -> bool {
        self.is_preview
    }

    /// Objects and number of a source; nothing of it is read where it has none.
    pub(crate) fn objects(&self, source: &str) -> (Arc<[ScanObject]>, u64) {
        match self.sources.get(source) {
            Some(SourceScans { input: ScanInput::Objects(objects), number, .. }) => (Arc::clone(objects), *number),
            _ => (Arc::from([]), 0),
        }
    }

    /// Ranges of a log of offsets, and the source's number in row identity; nothing of it is read where it has none.
    pub fn offsets(&self, source: &str) -> (Arc<[ScanOffsets]>, u64) {
        match self.sources.get(source) {
            Some(SourceScans { input: ScanInput::Offsets(ranges), number, .. }) => (Arc::clone(ranges), *number),
            _ => (Arc::from([]), 0),
        }
    }

    /// Records of a source's quarantine, and the source's number, where the epoch is a replay.
    pub(crate) fn replayed(&self, source: &str) -> Option<(Arc<[ReplayPart]>, u64)> {
        match self.sources.get(source) {
            Some(SourceScans { input: ScanInput::Replayed(parts), number, .. }) => Some((Arc::clone(parts), *number)),
            _ => None,
        }
    }

    /// Which of the records before those of the epoch were bad.
    #[cfg(feature = "kafka")]
    pub(crate) fn bad_records(&self, source: &str) -> Arc<[BadRecords]> {
        self.sources.get(source).map_or_else(|| Arc::from([]), |scans| Arc::clone(&scans.bad_records))
    }

    /// Where a scan of `source` that is being planned reports: the first one in an epoch does it for all, but for
    /// [`ScanReport::ReadAgain`].
    pub fn reporter(&self, source: &str) -> Reporter {
        let is_first = |scans: &SourceScans| !scans.has_reporter.swap(true, Ordering::AcqRel);
        let scans = self.sources.get(source);
        let reports_objects = self.reports.is_some() && scans.is_some_and(is_first);
        let numbers = scans.and_then(|scans| scans.numbers.clone());
        Reporter { reports: self.reports.clone(), numbers, reports_objects }
    }
}

/// Where one scan reports, and what.
#[derive(Debug, Clone)]
pub struct Reporter {
    reports: Option<mpsc::Sender<ScanReport>>,
    /// The numbers in the epoch of the parts that are read, where these are not all.
    numbers: Option<Arc<[u32]>>,
    reports_objects: bool,
}

impl Reporter {
    /// Whether it reports rejects and ledgers.
    pub(crate) fn reports_objects(&self) -> bool {
        self.reports_objects
    }

    /// The report that a range of offsets was read to its end, for [`Reporter::send`].
    pub fn range_done(&self, source: Arc<str>, object: u32, ledger: SourceLedger) -> ScanReport {
        if self.reports_objects {
            ScanReport::ObjectDone { source, object, covered: ledger.offsets, ledger }
        } else {
            ScanReport::ReadAgain { source, object, ledger }
        }
    }

    /// Sends rejects or a ledger, waiting for room. Where the epoch is gone already there is nobody to wait for.
    pub async fn send(&self, report: ScanReport) {
        if let Some(reports) = self.listener(&report) {
            // A closed queue means that the epoch was abandoned; the plan is about to be dropped.
            drop(reports.send(self.numbered(report)).await);
        }
    }

    /// [`Reporter::send`] from a thread that may block.
    #[cfg(feature = "kafka")]
    pub(crate) fn send_blocking(&self, report: ScanReport) {
        if let Some(reports) = self.listener(&report) {
            // As above.
            drop(reports.blocking_send(self.numbered(report)));
        }
    }

    /// A report with its part's number in the epoch.
    fn numbered(&self, mut report: ScanReport) -> ScanReport {
        if let (
            Some(numbers),
            ScanReport::Rejects { object, .. }
            | ScanReport::ObjectDone { object, .. }
            | ScanReport::ReadAgain { object, .. },
        ) = (&self.numbers, &mut report)
        {
            let number = usize::try_from(*object).ok().and_then(|at| numbers.get(at));
            *object = number.copied().unwrap_or(u32::MAX);
        }
        report
    }

    /// Who hears a report.
    fn listener(&self, report: &ScanReport) -> Option<&mpsc::Sender<ScanReport>> {
        let is_of_each_scan = matches!(report, ScanReport::ReadAgain { .. });
        self.reports.as_ref().filter(|_| self.reports_objects || is_of_each_scan)
    }

    /// Tells of progress without waiting.
    pub(crate) fn progress(&self, bytes: u64, rows: u64) {
        if let Some(reports) = &self.reports {
            // Only a display loses by a full queue.
            drop(reports.try_send(ScanReport::Progress { bytes, rows }));
        }
    }
}
