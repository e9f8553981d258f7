//! What the scans of an epoch report: counts for the ledger, rejects for quarantine.
//!
//! One task receives the reports of all scans; it owns the quarantine writers of the sources.
//! A query may leave a scan before its end (an empty join, a pruned branch). Every new object is nevertheless decoded
//! and counted once: what no query has read to its end is read by a scan of its own.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use bessemer_connectors::Source;
use bessemer_connectors::manifest_store::History;
use bessemer_connectors::scan::{ReplayOrigin, ScanInput, ScanReport};
use bessemer_connectors::sink::QuarantineWriter;
use bessemer_schemas::{BadRecords, FileChanges, ObjectVersion, OffsetRange, SourceLedger};
use datafusion::arrow::array::RecordBatch;
use datafusion::execution::SessionState;
use datafusion::physical_plan::ExecutionPlanProperties;
use futures::future::{BoxFuture, ready, try_join_all};
use futures::{FutureExt, TryStreamExt};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::epoch::{Naming, Scanned, abandon, join};
use super::unless_cancelled;
use crate::error::{Error, Forgotten, Result};
use crate::load::Loaded;
use crate::progress::Progress;

/// How much of an object was read, and what became of its records.
#[derive(Debug, Default)]
struct Done {
    covered: u64,
    ledger: SourceLedger,
}

impl Done {
    /// Whether all pieces came to their end.
    fn is_whole(&self, extent: u64) -> bool {
        self.covered >= extent
    }
}

/// A source, and the number of an object in the epoch's slice of it.
type Key = (Arc<str>, u32);

/// Everything reported so far, and the quarantine files being written.
pub(super) struct Intake {
    loaded: Arc<Loaded>,
    naming: Naming,
    progress: Progress,
    scanned: Scanned,
    /// Counts of the objects that were read to their end, by source and number of the object in the epoch.
    done: HashMap<Key, Done>,
    /// What the first scan of a range of offsets that came to its end found there.
    found: HashMap<Key, SourceLedger>,
    /// Rejects received of each object: a second scan of it gives the same ones first.
    received: HashMap<Key, u64>,
    writers: BTreeMap<String, QuarantineWriter>,
    /// Which of the last records were bad, by source, topic and partition.
    bad_records: BTreeMap<(Arc<str>, String, i32), BadRecords>,
    files_left: u64,
}

/// What the sources gave in an epoch.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// Counts of what is new, by source.
    pub(super) ledgers: BTreeMap<String, SourceLedger>,
    /// Quarantine files, by source.
    pub(super) quarantine: BTreeMap<String, FileChanges>,
    /// Which of the last records were bad, by source.
    pub(super) bad_records: BTreeMap<String, Vec<BadRecords>>,
    /// Rows of all objects that were read, new or not, by source.
    rows: BTreeMap<String, u64>,
    /// Sources of which a part was not read to its end.
    partly: BTreeSet<String>,
    /// The newest event time of each part that was read, by source; microseconds since 1970, UTC.
    newest: BTreeMap<String, BTreeMap<usize, i64>>,
    /// Parts that had rows that were late, by source.
    late: BTreeMap<String, BTreeSet<usize>>,
}

impl Taken {
    /// Rows of all objects of `source` that were read in this epoch.
    pub(super) fn rows_of(&self, source: &str) -> u64 {
        self.rows.get(source).copied().unwrap_or(0)
    }

    /// Whether everything that there was to read of `source` was read.
    pub(super) fn is_whole(&self, source: &str) -> bool {
        !self.partly.contains(source)
    }

    /// The newest event time of a part of `source`, where it has a row and is asked for one.
    pub(super) fn newest_of(&self, source: &str, part: usize) -> Option<i64> {
        self.newest.get(source)?.get(&part).copied()
    }

    /// Whether rows of a part of `source` were late.
    pub(super) fn has_late(&self, source: &str, part: usize) -> bool {
        self.late.get(source).is_some_and(|parts| parts.contains(&part))
    }
}

impl Intake {
    /// Nothing reported yet.
    pub(super) fn new(loaded: Arc<Loaded>, naming: Naming, progress: Progress, scanned: Scanned) -> Self {
        let files_left = scanned.0.iter().map(|(_, input)| input.len() as u64).sum();
        let (done, found, received, writers, bad_records) = Default::default();
        Self { loaded, naming, progress, scanned, done, found, received, writers, bad_records, files_left }
    }

    /// Takes reports until the last scan of the epoch is gone; where it cannot, it takes back what it wrote.
    pub(super) async fn collect(mut self, reports: mpsc::Receiver<ScanReport>) -> Result<Self> {
        match self.take(reports).await {
            Ok(()) => Ok(self),
            Err(error) => {
                self.abort().await;
                Err(error)
            }
        }
    }

    /// Gives up the quarantine files.
    pub(super) async fn abort(self) {
        abort_all(self.writers).await;
    }

    async fn take(&mut self, mut reports: mpsc::Receiver<ScanReport>) -> Result<()> {
        let mut rows = 0;
        // How many rejects of each object have come in this pass; a repeated scan begins with those known already.
        let mut seen: HashMap<Key, u64> = HashMap::new();
        while let Some(report) = reports.recv().await {
            match report {
                ScanReport::Progress { bytes, rows: more } => {
                    rows += more;
                    self.progress.advance(bytes, rows, self.files_left);
                }
                ScanReport::Rejects { source, object, batch } => {
                    let key = (source, object);
                    let seen = seen.entry(key.clone()).or_default();
                    let known = self.received.get(&key).copied().unwrap_or(0);
                    let skip = known.saturating_sub(*seen).min(batch.num_rows() as u64);
                    *seen += batch.num_rows() as u64;
                    self.quarantine(key, &batch, usize::try_from(skip).unwrap_or(0)).await?;
                }
                // Every scan that comes to the end of a partition says the same.
                ScanReport::BadRecords { source, records } => {
                    self.bad_records.insert((source, records.topic.clone(), records.partition), records);
                }
                ScanReport::ReadAgain { source, object, ledger } => self.compare(&(source, object), ledger)?,
                ScanReport::ObjectDone { source, object, covered, ledger } => {
                    self.compare(&(Arc::clone(&source), object), ledger)?;
                    self.files_left = self.files_left.saturating_sub(ledger.objects);
                    let done = self.done.entry((source, object)).or_default();
                    done.ledger.add(&ledger);
                    done.covered += covered;
                }
            }
        }
        Ok(())
    }

    /// Every scan of a range of offsets must find what the first one found: were records deleted in between, one set
    /// would hold rows that another never saw, and the ledger could be true of one of them only.
    fn compare(&mut self, key: &Key, ledger: SourceLedger) -> Result<()> {
        let Some(ScanInput::Offsets(ranges)) = self.scanned.of(&key.0) else { return Ok(()) };
        let first = *self.found.entry(key.clone()).or_insert(ledger);
        if (first.records, first.lost) == (ledger.records, ledger.lost) {
            return Ok(());
        }
        let range = ranges.get(key.1 as usize).map(|offsets| offsets.range.clone());
        let range = range.ok_or_else(|| unknown_part(&key.0, key.1))?;
        let records = (first.records, ledger.records);
        Err(Error::Forgotten(Box::new(Forgotten { name: key.0.to_string(), range, records })))
    }

    /// Writes the rejects of one object after the first `skip`.
    async fn quarantine(&mut self, key: Key, batch: &RecordBatch, skip: usize) -> Result<()> {
        let fresh = batch.slice(skip, batch.num_rows() - skip);
        if fresh.num_rows() == 0 {
            return Ok(());
        }
        *self.received.entry(key.clone()).or_default() += fresh.num_rows() as u64;
        let (source, object) = key;
        let origin = self.scanned.of(&source).and_then(|input| RejectOrigin::of(input, object as usize));
        let origin = origin.ok_or_else(|| unknown_part(&source, object))?;
        let writer = match self.writers.entry(source.to_string()) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => {
                let parsed = &self.loaded.parsed;
                let (state, name, naming) = (&parsed.settings.state, parsed.name(), self.naming.writer(0));
                entry.insert(match origin {
                    RejectOrigin::Object(_) => QuarantineWriter::of_source(state, name, &source, naming, None)?,
                    RejectOrigin::Topic(_) => QuarantineWriter::of_topics(state, name, &source, naming, None)?,
                })
            }
        };
        match origin {
            RejectOrigin::Object(version) => writer.write_records(&source, version, &fresh).await?,
            RejectOrigin::Topic(range) => writer.write_messages(&source, range, &fresh).await?,
        }
        Ok(())
    }

    /// Reads the new objects and offsets that no query has read to their end.
    pub(super) async fn drain_rest(self, history: &History, cancel: &CancellationToken) -> Result<Self> {
        let mut rest: BTreeMap<String, ScanInput> = BTreeMap::new();
        for (source, input) in self.scanned.0.iter() {
            let key: Arc<str> = Arc::from(source.as_str());
            let is_read = |part: usize| {
                let done = u32::try_from(part).ok().and_then(|part| self.done.get(&(Arc::clone(&key), part)));
                done.is_some_and(|done| done.is_whole(input.extent(part)))
            };
            if (0..input.len()).any(|part| input.is_new(part) && !is_read(part)) {
                rest.insert(source.clone(), input.clone());
            }
        }
        if rest.is_empty() {
            return Ok(self);
        }
        let loaded = Arc::clone(&self.loaded);
        let (scans, reports) = Scanned::new(&rest).epoch_scans(history);
        let mut this = self;
        // Their scans begin anew, for all objects of the source.
        this.done.retain(|(source, _), _| !rest.contains_key(&**source));
        let session = bessemer_transforms::with_extension(&loaded.session, Arc::clone(&scans));
        let intake = tokio::spawn(this.collect(reports));
        let sources = loaded.sources.iter().filter(|source| rest.contains_key(source.name()));
        let read = unless_cancelled(cancel, read_all(sources, &session)).await;
        drop((session, scans));
        let intake = join(intake).await?;
        match read {
            Ok(()) => intake,
            Err(error) => {
                abandon(intake).await;
                Err(error)
            }
        }
    }

    /// Ends the quarantine files and adds up what is new.
    pub(super) async fn finish(self) -> Result<Taken> {
        let mut taken = Taken::default();
        for (source, input) in self.scanned.0.iter() {
            let key: Arc<str> = Arc::from(source.as_str());
            for part in 0..input.len() {
                let number = u32::try_from(part).unwrap_or(u32::MAX);
                let done = self.done.get(&(Arc::clone(&key), number));
                if done.is_none_or(|done| !done.is_whole(input.extent(part))) {
                    taken.partly.insert(source.clone());
                }
                let Some(Done { ledger, .. }) = done else { continue };
                *taken.rows.entry(source.clone()).or_default() += ledger.admitted;
                if let Some(newest) = ledger.event_time_max {
                    taken.newest.entry(source.clone()).or_default().insert(part, newest);
                }
                if ledger.late > 0 {
                    taken.late.entry(source.clone()).or_default().insert(part);
                }
                if input.is_new(part) {
                    taken.ledgers.entry(source.clone()).or_default().add(ledger);
                }
            }
        }
        for ((source, ..), records) in self.bad_records {
            taken.bad_records.entry(source.to_string()).or_default().push(records);
        }
        let mut writers = self.writers;
        while let Some((source, writer)) = writers.pop_first() {
            let added = match writer.finish().await {
                Ok(added) => added,
                Err(error) => {
                    abort_all(writers).await;
                    return Err(error.into());
                }
            };
            let ledger = taken.ledgers.entry(source.clone()).or_default();
            ledger.quarantined = added.iter().map(|file| file.rows).sum();
            taken.quarantine.insert(source, FileChanges::adding(added));
        }
        Ok(taken)
    }
}

/// Where rejected records come from.
enum RejectOrigin<'a> {
    Object(&'a ObjectVersion),
    Topic(&'a OffsetRange),
}

impl<'a> RejectOrigin<'a> {
    /// Of the records of a part.
    fn of(input: &'a ScanInput, part: usize) -> Option<Self> {
        Some(match input {
            ScanInput::Objects(objects) => Self::Object(&objects.get(part)?.version),
            ScanInput::Offsets(ranges) => Self::Topic(&ranges.get(part)?.range),
            ScanInput::Replayed(parts) => match &parts.get(part)?.origin {
                ReplayOrigin::Object(version) => Self::Object(version),
                ReplayOrigin::Topic(range) => Self::Topic(range),
            },
        })
    }
}

/// Reads sources to their ends, for their reports alone.
async fn read_all(sources: impl Iterator<Item = &Source>, session: &SessionState) -> Result<()> {
    for source in sources {
        let provider = source.table_provider(false);
        let plan = provider.scan(session, Some(&vec![]), &[], None).await.map_err(Error::engine)?;
        let partitions = 0..plan.output_partitioning().partition_count();
        let streams = partitions.map(|partition| plan.execute(partition, session.task_ctx()));
        let streams = streams.collect::<Result<Vec<_>, _>>().map_err(Error::engine)?;
        let read = streams.into_iter().map(|stream| stream.try_for_each(|_| ready(Ok(()))).boxed());
        let read: Vec<BoxFuture<'static, _>> = read.collect();
        try_join_all(read).await.map_err(Error::engine)?;
    }
    Ok(())
}

fn unknown_part(source: &str, object: u32) -> Error {
    Error::Internal { message: format!("a report of unknown part {object} of `{source}`") }
}

async fn abort_all(writers: BTreeMap<String, QuarantineWriter>) {
    for writer in writers.into_values() {
        writer.abort().await;
    }
}
