//! A scan over records of a quarantine: they are decoded again, as the source's definition is now.
//!
//! The records of one epoch of a replay are in memory: whoever cuts the quarantine into epochs bounds them.

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, StringArray, UInt64Array, new_null_array};
use arrow::compute::{SortColumn, cast, lexsort_to_indices, partition, take_record_batch};
use arrow::datatypes::{Int32Type, Int64Type, TimestampMicrosecondType, UInt64Type};
use arrow_schema::SchemaRef;
use bessemer_schemas::{ObjectVersion, OffsetRange, RejectReason, SourceLedger};
use datafusion_common::Result as EngineResult;
use datafusion_execution::{SendableRecordBatchStream, TaskContext};
use datafusion_physical_plan::ExecutionPlan;
use datafusion_physical_plan::stream::RecordBatchStreamAdapter;
use datafusion_physical_plan::streaming::{PartitionStream, StreamingTableExec};
use futures::TryStreamExt;

use super::emit::stream_of;
use super::epoch::{Reporter, ScanReport};
use super::leaf::engine_error;
use crate::{Error, Result};

/// Where the records of a part came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplayOrigin {
    /// A partition of a topic; the range spans the offsets of the records.
    Topic(OffsetRange),
    /// An object; no more is known of it than its path and modification time.
    Object(ObjectVersion),
}

/// The column of a replayed record's bytes where somebody mended them; `original` stays what arrived, for quarantine.
pub const MENDED_COLUMN: &str = "mended";

/// Records of one partition of a topic, or of one object, in the order in which they were there.
#[derive(Debug, Clone, PartialEq)]
pub struct ReplayPart {
    /// Where they came from.
    pub origin: ReplayOrigin,
    /// The records, as quarantine holds them.
    pub records: RecordBatch,
}

impl ReplayPart {
    /// The parts of records as a source's quarantine holds them, in their order.
    pub fn parts_of(records: &RecordBatch) -> Result<Vec<Self>> {
        if records.num_rows() == 0 {
            return Ok(Vec::new());
        }
        let keys: &[&str] =
            if records.column_by_name("topic").is_some() { &["topic", "partition"] } else { &["path", "modified"] };
        let number = if keys[0] == "topic" { "offset" } else { "record" };
        let columns = keys.iter().chain([&number]).map(|name| column(records, name).cloned());
        let columns = columns.collect::<Result<Vec<_>>>()?;
        let sorted_by: Vec<_> = columns.into_iter().map(|values| SortColumn { values, options: None }).collect();
        let sorted = take_record_batch(records, &lexsort_to_indices(&sorted_by, None)?)?;

        let keys = keys.iter().map(|name| column(&sorted, name).cloned()).collect::<Result<Vec<_>>>()?;
        let parts = partition(&keys)?.ranges().into_iter().map(|rows| {
            let records = sorted.slice(rows.start, rows.end - rows.start);
            Ok(Self { origin: origin_of(&records)?, records })
        });
        parts.collect()
    }

    /// The same, where rows before a time are late once more; microseconds since 1970, UTC.
    #[must_use]
    pub fn with_late_before(mut self, before: Option<i64>) -> Self {
        match &mut self.origin {
            ReplayOrigin::Topic(range) => range.late_before = before,
            ReplayOrigin::Object(version) => version.late_before = before,
        }
        self
    }

    /// Where the records come from: path of the object, or `topic/partition`.
    pub(super) fn path(&self) -> String {
        match &self.origin {
            ReplayOrigin::Topic(range) => format!("{}/{}", range.topic, range.partition),
            ReplayOrigin::Object(version) => version.path.clone(),
        }
    }

    /// The number of the first row: offsets do not begin at 0.
    pub(super) fn first_row(&self) -> u64 {
        match &self.origin {
            ReplayOrigin::Topic(range) => u64::try_from(range.start).unwrap_or(0),
            ReplayOrigin::Object(_) => 0,
        }
    }

    /// The bytes to decode of each record: those that it was mended to, where it was.
    pub(crate) fn values(&self) -> Result<&ArrayRef> {
        self.records.column_by_name(MENDED_COLUMN).map_or_else(|| column(&self.records, "original"), Ok)
    }

    /// The same, one by one.
    pub(crate) fn each_value(&self) -> Result<impl Iterator<Item = &[u8]>> {
        let values = self.values()?.as_binary_opt::<i32>().ok_or_else(|| unfit("original"))?;
        Ok(values.iter().map(Option::unwrap_or_default))
    }

    /// The records `rows`, refused once more, as their quarantine's writer takes them, by `schema`.
    pub(crate) fn refused(&self, schema: &SchemaRef, refused: &[Refused]) -> Result<RecordBatch> {
        let rows = UInt64Array::from_iter_values(refused.iter().map(|refused| refused.row as u64));
        let taken = take_record_batch(&self.records, &rows)?;
        let columns = schema.fields().iter().map(|field| -> Result<ArrayRef> {
            Ok(match field.name().as_str() {
                "reason" => {
                    Arc::new(StringArray::from_iter_values(refused.iter().map(|refused| refused.reason.as_str())))
                }
                "column" => Arc::new(refused.iter().map(|refused| refused.column.as_deref()).collect::<StringArray>()),
                name => match taken.column_by_name(name) {
                    Some(column) => cast(column, field.data_type())?,
                    None => new_null_array(field.data_type(), taken.num_rows()),
                },
            })
        });
        Ok(RecordBatch::try_new(Arc::clone(schema), columns.collect::<Result<_>>()?)?)
    }
}

/// A column of quarantined records.
pub(crate) fn column<'a>(records: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef> {
    records.column_by_name(name).ok_or_else(|| unfit(name))
}

fn unfit(name: &str) -> Error {
    Error::Internal { message: format!("quarantined records have no usable column `{name}`") }
}

fn origin_of(records: &RecordBatch) -> Result<ReplayOrigin> {
    let last = records.num_rows() - 1;
    let text = |name: &str| -> Result<String> {
        let values = column(records, name)?.as_string_opt::<i32>().ok_or_else(|| unfit(name))?;
        Ok(values.value(0).to_owned())
    };
    if records.column_by_name("topic").is_some() {
        let offsets = column(records, "offset")?.as_primitive_opt::<Int64Type>().ok_or_else(|| unfit("offset"))?;
        let partition =
            column(records, "partition")?.as_primitive_opt::<Int32Type>().ok_or_else(|| unfit("partition"))?;
        return Ok(ReplayOrigin::Topic(OffsetRange {
            topic: text("topic")?,
            partition: partition.value(0),
            start: offsets.value(0),
            end: offsets.value(last) + 1,
            topic_id: None,
            late_before: None,
            is_apart: false,
        }));
    }
    let modified = column(records, "modified")?.as_primitive_opt::<TimestampMicrosecondType>();
    let modified = modified.ok_or_else(|| unfit("modified"))?.value(0);
    Ok(ReplayOrigin::Object(ObjectVersion { path: text("path")?, size: 0, modified, etag: None, late_before: None }))
}

/// The number of each record in its object.
pub(crate) fn record_numbers(records: &RecordBatch) -> Result<&UInt64Array> {
    column(records, "record")?.as_primitive_opt::<UInt64Type>().ok_or_else(|| unfit("record"))
}

/// A record that is no row this time either.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    /// Its place among the records of its part.
    pub(crate) row: usize,
    pub(crate) reason: RejectReason,
    pub(crate) column: Option<String>,
}

/// What became of the records of one part.
#[derive(Debug, Default)]
pub(crate) struct Replayed {
    /// Rows that the query sees.
    pub(crate) output: Vec<RecordBatch>,
    /// The others, by the reject schema of the source.
    pub(crate) rejects: Vec<RecordBatch>,
    pub(crate) ledger: SourceLedger,
}

/// Decodes the records of a source again.
pub(crate) trait ReplayReader: fmt::Debug + Send + Sync {
    /// The rows of `part`, which is number `at` of the epoch.
    fn read(&self, at: usize, part: &ReplayPart, batch_rows: usize) -> Result<Replayed>;
}

/// A leaf of a plan over records of a quarantine.
pub(crate) fn replay_plan(
    schema: SchemaRef,
    source: Arc<str>,
    parts: Arc<[ReplayPart]>,
    reporter: Reporter,
    reader: Arc<dyn ReplayReader>,
) -> EngineResult<Arc<dyn ExecutionPlan>> {
    let stream = ReplayStream { schema: Arc::clone(&schema), work: ReplayWork { source, parts, reporter, reader } };
    Ok(Arc::new(StreamingTableExec::try_new(schema, vec![Arc::new(stream)], None, [], false, None)?))
}

#[derive(Debug)]
struct ReplayStream {
    schema: SchemaRef,
    work: ReplayWork,
}

#[derive(Debug, Clone)]
struct ReplayWork {
    source: Arc<str>,
    parts: Arc<[ReplayPart]>,
    reporter: Reporter,
    reader: Arc<dyn ReplayReader>,
}

impl PartitionStream for ReplayStream {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let batch_rows = context.session_config().batch_size().max(1);
        let work = self.work.clone();
        let rows = stream_of(move |emitter| async move {
            for (at, part) in work.parts.iter().enumerate() {
                // As any scan of records, it may wait for a schema; and it is long work.
                let (reader, parts) = (Arc::clone(&work.reader), Arc::clone(&work.parts));
                let read = tokio::task::spawn_blocking(move || read_part(&*reader, at, &parts, batch_rows)).await;
                let ended = |error| Error::Internal { message: format!("a replay ended early: {error}") };
                let replayed = read.map_err(ended)??;
                for batch in replayed.output {
                    emitter.emit(batch).await?;
                }
                let (object, covered) = (u32::try_from(at).unwrap_or(u32::MAX), part.records.num_rows() as u64);
                for batch in replayed.rejects {
                    let source = Arc::clone(&work.source);
                    work.reporter.send(ScanReport::Rejects { source, object, batch }).await;
                }
                work.reporter.progress(covered, replayed.ledger.admitted);
                let (source, ledger) = (Arc::clone(&work.source), replayed.ledger);
                work.reporter.send(ScanReport::ObjectDone { source, object, covered, ledger }).await;
            }
            Ok(())
        });
        let rows = rows.map_err(engine_error);
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), rows))
    }
}

fn read_part(reader: &dyn ReplayReader, at: usize, parts: &[ReplayPart], batch_rows: usize) -> Result<Replayed> {
    parts.get(at).map_or_else(|| Ok(Replayed::default()), |part| reader.read(at, part, batch_rows))
}

#[cfg(test)]
mod tests {
    use arrow::array::{BinaryArray, Int32Array, Int64Array};

    use super::*;

    #[test]
    fn records_are_in_parts_by_where_they_came_from_in_their_order() {
        let rows = [("b", 0, 7), ("a", 1, 3), ("b", 0, 5), ("a", 0, 9), ("a", 1, 2)];
        let batch = RecordBatch::try_from_iter([
            ("topic", Arc::new(rows.iter().map(|row| Some(row.0)).collect::<StringArray>()) as ArrayRef),
            ("partition", Arc::new(Int32Array::from_iter_values(rows.iter().map(|row| row.1)))),
            ("offset", Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.2)))),
            ("original", Arc::new(BinaryArray::from_iter_values(rows.iter().map(|row| row.2.to_string())))),
        ]);
        let parts = ReplayPart::parts_of(&batch.unwrap()).unwrap();
        let found: Vec<_> = parts
            .iter()
            .map(|part| {
                let originals = part.each_value().unwrap().map(|bytes| String::from_utf8_lossy(bytes).into_owned());
                (part.path(), part.first_row(), originals.collect::<Vec<_>>().join(" "))
            })
            .collect();
        let expected = [("a/0", 9, "9"), ("a/1", 2, "2 3"), ("b/0", 5, "5 7")];
        assert_eq!(found, expected.map(|(path, first, bytes)| (path.to_owned(), first, bytes.to_owned())));
    }
}
