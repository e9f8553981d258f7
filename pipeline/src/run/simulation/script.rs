//! The scripted source: partitions whose every offset is decided beforehand, and become visible bit by bit.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bessemer_connectors::kafka::{Backlog, reject_schema};
use bessemer_connectors::scan::{EpochScans, Lateness, Reporter, ScanOffsets, ScanReport};
use bessemer_connectors::{Error, OffsetLog};
use bessemer_schemas::{ORIGIN_COLUMN, OffsetRange, RejectReason, SourceLedger, pack_origin};
use datafusion::arrow::array::{
    ArrayRef, BinaryArray, Int64Array, ListArray, RecordBatch, RecordBatchOptions, StringArray,
    TimestampMicrosecondArray, UInt64Array, new_empty_array, new_null_array,
};
use datafusion::arrow::buffer::{OffsetBuffer, ScalarBuffer};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::arrow::error::ArrowError;
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::{DataFusionError, Result as EngineResult};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use futures::{StreamExt, stream};
use rand::Rng;
use rand::rngs::StdRng;

use super::process::{Fault, Process, Slot};

/// Name of the source, and of its one topic.
pub(super) const NUMBERS: &str = "numbers";

/// How long a partition has nothing to read before it is idle, where rows may be late.
const IDLE_TIMEOUT: Duration = Duration::from_millis(1_500);

/// What is at an offset. Each number is there once in the whole script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    /// A record that becomes a row.
    Row(i64),
    /// A record that cannot be decoded.
    Damaged(i64),
    /// A record without a value.
    Tombstone,
    /// An offset that the broker keeps to itself.
    Gap,
}

/// All that will ever be in the log, and how much of it is there.
#[derive(Debug)]
pub(super) struct Script {
    partitions: Vec<Vec<Entry>>,
    /// The end of each partition that is there; the others are still to come.
    ends: Vec<usize>,
    /// In every partition the offsets before it were deleted.
    low: usize,
}

impl Script {
    pub(super) fn new(random: &mut StdRng) -> Self {
        let partitions = (0..random.random_range(1..4))
            .map(|partition| {
                (0..random.random_range(0..18)).map(|offset| entry(100 * partition + offset, random)).collect()
            })
            .collect();
        let mut script = Self { partitions, ends: vec![0], low: 0 };
        script.grow(random);
        script
    }

    /// Lets a little more be there.
    pub(super) fn grow(&mut self, random: &mut StdRng) {
        if self.ends.len() < self.partitions.len() && random.random_bool(0.3) {
            self.ends.push(0);
        }
        let at = random.random_range(0..self.ends.len());
        self.ends[at] = (self.ends[at] + random.random_range(0..7)).min(self.partitions[at].len());
    }

    /// Lets all of it be there.
    pub(super) fn grow_up(&mut self) {
        self.ends = self.partitions.iter().map(Vec::len).collect();
    }

    /// Deletes the first half of the longest partition, and as much of the others.
    pub(super) fn forget(&mut self) {
        self.low = self.ends.iter().max().map_or(0, |end| end.div_ceil(2));
    }

    /// What is not deleted of `range`.
    fn kept(&self, range: &OffsetRange) -> OffsetRange {
        let start = range.start.max(i64::try_from(self.low).unwrap()).min(range.end);
        OffsetRange { start, ..range.clone() }
    }

    /// All offsets of every partition.
    pub(super) fn whole(&self) -> Vec<OffsetRange> {
        (0..self.partitions.len()).map(|at| range(at, 0, self.partitions[at].len())).collect()
    }

    /// What is there of each partition and not in `read`.
    fn beyond(&self, read: &[OffsetRange]) -> Vec<OffsetRange> {
        let partitions = self.ends.iter().enumerate().map(|(at, end)| {
            let before = read.iter().find(|range| range.partition == i32::try_from(at).unwrap());
            let start = before.map_or(0, |range| usize::try_from(range.end).unwrap());
            assert!(start <= *end, "offsets were committed that are not there");
            range(at, start, *end)
        });
        partitions.collect()
    }

    /// What is at the offsets of `range`.
    pub(super) fn entries(&self, range: &OffsetRange) -> &[Entry] {
        let at = |offset: i64| usize::try_from(offset).unwrap();
        &self.partitions[usize::try_from(range.partition).unwrap()][at(range.start)..at(range.end)]
    }
}

fn entry(number: i64, random: &mut StdRng) -> Entry {
    match random.random_range(0..20) {
        0 | 1 => Entry::Damaged(number),
        2 => Entry::Tombstone,
        3 | 4 => Entry::Gap,
        _ => Entry::Row(number),
    }
}

fn range(partition: usize, start: usize, end: usize) -> OffsetRange {
    let offset = |at: usize| i64::try_from(at).unwrap();
    OffsetRange {
        topic: NUMBERS.to_owned(),
        partition: i32::try_from(partition).unwrap(),
        start: offset(start),
        end: offset(end),
        topic_id: None,
        late_before: None,
        is_apart: false,
    }
}

/// The event time of the row with a number: partitions are at different paces, and go back and forth a little.
pub(super) fn time(number: i64) -> i64 {
    let (partition, offset) = (number / 100, number % 100);
    let minutes = offset * (5 + 2 * partition) + [0, 7, -8, 2, -12][usize::try_from(number % 5).unwrap()];
    minutes.max(0) * 60_000_000
}

/// Which of `entries` are rows that are late, where they come to a partition whose rows before `late_before` are; and the
/// newest time of the others.
pub(super) fn late(entries: &[Entry], late_before: Option<i64>, delay: i64) -> (Vec<bool>, Option<i64>) {
    let (mut floor, mut newest) = (late_before, None);
    let is_late = entries.iter().map(|entry| {
        let Entry::Row(number) = entry else { return false };
        let at = time(*number);
        let is_late = floor.is_some_and(|floor| at < floor);
        if !is_late {
            newest = newest.max(Some(at));
            floor = floor.max(Some(at - delay));
        }
        is_late
    });
    (is_late.collect(), newest)
}

/// What a row's number says of it.
pub(super) fn kind(number: i64) -> String {
    format!("k{}", number % 3)
}

/// The script as a source.
#[derive(Debug, Clone)]
pub(super) struct ScriptedLog {
    slot: Slot,
    schema: SchemaRef,
    lateness: Option<Lateness>,
}

impl ScriptedLog {
    /// The log that the process in `slot` sees, of which rows may be late.
    pub(super) fn new(slot: Slot, lateness: Option<Lateness>) -> Self {
        let time = DataType::Timestamp(TimeUnit::Microsecond, None);
        let fields = [("number", DataType::Int64), ("kind", DataType::Utf8), ("at", time)];
        let fields: Vec<_> = fields.into_iter().map(|(name, of)| Field::new(name, of, false)).collect();
        Self { slot, schema: Arc::new(Schema::new(fields)), lateness }
    }
}

#[async_trait]
impl OffsetLog for ScriptedLog {
    fn name(&self) -> &'static str {
        NUMBERS
    }

    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn table_provider(&self, with_origin: bool) -> Arc<dyn TableProvider> {
        let mut fields = self.schema.fields().to_vec();
        if with_origin {
            fields.push(Arc::new(Field::new(ORIGIN_COLUMN, DataType::UInt64, false)));
        }
        let schema = Arc::new(Schema::new(fields));
        Arc::new(Table { slot: self.slot.clone(), schema, lateness: self.lateness })
    }

    async fn backlog(&self, read: Vec<OffsetRange>) -> Result<Backlog, Error> {
        let process = self.slot.process();
        ask(&process, "ask").await?;
        let script = process.world.script.lock().unwrap();
        Ok(Backlog::new(script.beyond(&read), &read))
    }

    fn lateness(&self) -> Option<Lateness> {
        self.lateness
    }

    fn idle_timeout(&self) -> Option<Duration> {
        self.lateness.map(|_| IDLE_TIMEOUT)
    }

    async fn acknowledge(&self, _: Vec<OffsetRange>) -> Result<(), Error> {
        ask(&self.slot.process(), "acknowledge").await
    }
}

/// Asks the brokers, which may not answer.
async fn ask(process: &Process, what: &str) -> Result<(), Error> {
    match process.meet(what, NUMBERS).await {
        Fault::None => Ok(()),
        Fault::Fatal => process.die().await,
        _ => {
            let (brokers, action) = ("script".to_owned(), what.to_owned());
            Err(Error::Broker { brokers, action, reason: "it is down".to_owned() })
        }
    }
}

#[derive(Debug)]
struct Table {
    slot: Slot,
    schema: SchemaRef,
    lateness: Option<Lateness>,
}

#[async_trait]
impl TableProvider for Table {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> EngineResult<Arc<dyn ExecutionPlan>> {
        let scans = state.config().get_extension::<EpochScans>().expect("a scan is in an epoch");
        let columns = projection.cloned().unwrap_or_else(|| (0..self.schema.fields().len()).collect());
        let schema = Arc::new(self.schema.project(&columns)?);
        let (ranges, number) = scans.offsets(NUMBERS);
        let partitions = state.config().target_partitions().min(ranges.len()).max(1);
        let (process, reporter) = (self.slot.process(), scans.reporter(NUMBERS));
        let (lateness, schema) = (self.lateness, Arc::clone(&schema));
        let leaf = Arc::new(Leaf { process, ranges, number, reporter, columns, schema: Arc::clone(&schema), lateness });
        let cut = |partition: usize| partition * leaf.ranges.len() / partitions;
        let streams = (0..partitions).map(|partition| -> Arc<dyn PartitionStream> {
            Arc::new(Part { leaf: Arc::clone(&leaf), run: cut(partition)..cut(partition + 1) })
        });
        Ok(Arc::new(StreamingTableExec::try_new(schema, streams.collect(), None, [], false, None)?))
    }
}

/// Some ranges of the script, one after another.
#[derive(Debug)]
struct Part {
    leaf: Arc<Leaf>,
    run: Range<usize>,
}

#[derive(Debug)]
struct Leaf {
    process: Arc<Process>,
    ranges: Arc<[ScanOffsets]>,
    number: u64,
    reporter: Reporter,
    columns: Vec<usize>,
    schema: SchemaRef,
    lateness: Option<Lateness>,
}

impl PartitionStream for Part {
    fn schema(&self) -> &SchemaRef {
        &self.leaf.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let leaf = Arc::clone(&self.leaf);
        let batches = stream::iter(self.run.clone()).then(move |at| {
            let leaf = Arc::clone(&leaf);
            async move { leaf.read(at).await.map_err(|error| DataFusionError::External(Box::new(error))) }
        });
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.leaf.schema), batches))
    }
}

impl Leaf {
    /// Reads a range, and reports it.
    async fn read(&self, at: usize) -> Result<RecordBatch, Error> {
        ask(&self.process, "read").await?;
        let ScanOffsets { range, is_new } = &self.ranges[at];
        let (kept, entries) = {
            let script = self.process.world.script.lock().unwrap();
            let kept = script.kept(range);
            (kept.clone(), script.entries(&kept).to_vec())
        };
        let lost = range.offsets() - kept.offsets();
        let (source, object): (Arc<str>, _) = (Arc::from(NUMBERS), u32::try_from(at).unwrap());
        let (is_late, newest) = match self.lateness {
            Some(lateness) => late(&entries, range.late_before, lateness.delay),
            None => (vec![false; entries.len()], None),
        };
        let refused = (kept.start..).zip(entries.iter().zip(&is_late));
        let refused = refused.filter_map(|(offset, (entry, is_late))| match entry {
            Entry::Damaged(number) => Some((offset, *number, RejectReason::InvalidJson)),
            Entry::Row(number) if *is_late => Some((offset, *number, RejectReason::Late)),
            _ => None,
        });
        let refused: Vec<_> = refused.collect();
        if *is_new && !refused.is_empty() {
            let batch = rejects(&refused);
            self.reporter.send(ScanReport::Rejects { source: Arc::clone(&source), object, batch }).await;
        }
        let found = ledger_of(&entries);
        let late = is_late.iter().filter(|is_late| **is_late).count() as u64;
        let admitted = found.admitted - late;
        let ledger = SourceLedger { offsets: range.offsets(), lost, late, admitted, event_time_max: newest, ..found };
        self.reporter.send(self.reporter.range_done(source, object, ledger)).await;
        let in_time = entries.iter().zip(&is_late).map(|(entry, is_late)| if *is_late { Entry::Gap } else { *entry });
        Ok(self.rows(at, lost, &in_time.collect::<Vec<_>>())?)
    }

    /// The rows of entries that are in a range from number `first` on.
    fn rows(&self, at: usize, first: u64, entries: &[Entry]) -> Result<RecordBatch, ArrowError> {
        let rows: Vec<(u64, i64)> = (first..)
            .zip(entries)
            .filter_map(|(row, entry)| if let Entry::Row(number) = entry { Some((row, *number)) } else { None })
            .collect();
        let column = |column: &usize| -> ArrayRef {
            match column {
                0 => Arc::new(Int64Array::from_iter_values(rows.iter().map(|(_, number)| *number))),
                1 => Arc::new(StringArray::from_iter_values(rows.iter().map(|(_, number)| kind(*number)))),
                2 => {
                    let times = rows.iter().map(|(_, number)| time(*number));
                    Arc::new(TimestampMicrosecondArray::from_iter_values(times))
                }
                _ => Arc::new(UInt64Array::from_iter_values(
                    rows.iter().map(|(row, _)| pack_origin(self.number, at as u64, *row)),
                )),
            }
        };
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        let columns = self.columns.iter().map(column).collect();
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)
    }
}

/// What becomes of offsets.
pub(super) fn ledger_of(entries: &[Entry]) -> SourceLedger {
    let mut ledger = SourceLedger { offsets: entries.len() as u64, ..SourceLedger::default() };
    for entry in entries {
        match entry {
            Entry::Row(_) => ledger.admitted += 1,
            Entry::Damaged(_) => ledger.undecodable += 1,
            Entry::Tombstone => ledger.tombstones += 1,
            Entry::Gap => ledger.gaps += 1,
        }
    }
    ledger.decoded = ledger.admitted;
    ledger.records = ledger.offsets - ledger.gaps;
    ledger
}

fn rejects(refused: &[(i64, i64, RejectReason)]) -> RecordBatch {
    let schema = reject_schema();
    let rows = refused.len();
    let text: Vec<String> = refused.iter().map(|(_, number, _)| number.to_string()).collect();
    let column = |field: &Arc<Field>| -> ArrayRef {
        match field.name().as_str() {
            "offset" => Arc::new(Int64Array::from_iter_values(refused.iter().map(|(offset, ..)| *offset))),
            "byte_len" => Arc::new(UInt64Array::from_iter_values(text.iter().map(|text| text.len() as u64))),
            "reason" => Arc::new(StringArray::from_iter_values(refused.iter().map(|(_, _, reason)| reason.as_str()))),
            "original" => Arc::new(BinaryArray::from_iter_values(&text)),
            "headers" => no_headers(field, rows),
            _ => new_null_array(field.data_type(), rows),
        }
    };
    let columns = schema.fields().iter().map(column).collect();
    RecordBatch::try_new(schema, columns).unwrap()
}

fn no_headers(field: &Field, rows: usize) -> ArrayRef {
    let DataType::List(item) = field.data_type() else { panic!("headers are a list") };
    let offsets = OffsetBuffer::new(ScalarBuffer::from(vec![0; rows + 1]));
    let values = new_empty_array(item.data_type());
    Arc::new(ListArray::new(Arc::clone(item), offsets, values, None))
}
