//! Where records and rows go that cannot be published: with what is wrong with them, and where they came from.
//!
//! Records that could not be decoded are in files of their source, with their original bytes; rows that broke an
//! expectation are in files of their set, with the columns that they would have had there.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, Int32Array, Int64Array, StringArray, StringBuilder, TimestampMicrosecondArray, UInt64Array,
    UInt64Builder, new_null_array,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit, UInt64Type};
use arrow::record_batch::RecordBatch;
use bessemer_schemas::{DataFile, Epoch, IncludeKind, ORIGIN_COLUMN, ObjectVersion, OffsetRange, unpack_origin};
use datafusion_execution::memory_pool::MemoryPool;
use futures::stream::{BoxStream, StreamExt, TryStreamExt};
use parquet::arrow::ParquetRecordBatchStreamBuilder;

use super::file_sequence::{FileSequence, MemoryBudget, Partition, WriterNaming};
use super::options::{BloomFilter, FeatureSetOptions};
use super::partition::escape;
use super::reader::{FileReader, read_error};
use super::shape::{Footer, Projection, file_shape};
use crate::{Error, Location, Result};

/// Rows of a row group of undecodable records: each may bring 64 KiB of original bytes.
const RECORD_GROUP_ROWS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(2_047);

/// Rows of a row group of rows that broke an expectation.
const ROW_GROUP_ROWS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(16_383);

/// Columns that quarantined rows of a set have behind the set's own.
pub(crate) const VIOLATION_COLUMNS: [&str; 5] = ["_violations", "_epoch", "_source", "_path", "_row"];

/// Columns of the batches of undecodable records, as the decoders make them.
const REJECT_COLUMNS: [&str; 7] = ["record", "line", "byte_start", "byte_len", "reason", "column", "original"];

/// Whose quarantine it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuarantineOwner<'a> {
    /// Undecodable records of a source.
    Source(&'a str),
    /// Rows of a feature set that broke an expectation.
    Set(&'a str),
}

/// Where the rows of one object, or of one range of offsets, come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartOrigin<'a> {
    /// Name of the source.
    pub source: &'a str,
    /// Path of the object, or `topic/partition`.
    pub path: String,
    /// Number of the row that is the first of it: 0, or the first offset.
    pub first_row: u64,
}

/// Says which source and object a packed row identity names.
pub trait Origins {
    /// The part of the epoch, if it is known.
    fn origin(&self, source: u64, object: u64) -> Option<PartOrigin<'_>>;
}

/// Writes quarantined records or rows as Parquet files.
pub struct QuarantineWriter {
    epoch: Epoch,
    projection: Projection,
    files: FileSequence,
    rows: u64,
}

/// Folder of a quarantine below a pipeline's state; the paths of its [`DataFile`]s are relative to it.
pub fn quarantine_location(state: &Location, owner: QuarantineOwner<'_>) -> Location {
    let (kind, name) = match owner {
        QuarantineOwner::Source(name) => ("source", name),
        QuarantineOwner::Set(name) => ("set", name),
    };
    // A quoted identifier may hold a `/`.
    let mut folder = format!("quarantine/{kind}/");
    escape(name, &mut folder);
    state.child(&folder)
}

/// The columns of a Kafka source's quarantine files.
pub fn message_schema() -> Schema {
    let nullable = |kind: IncludeKind| matches!(kind, IncludeKind::Timestamp | IncludeKind::Key);
    let part = |name: &str, kind: IncludeKind| Field::new(name, kind.data_type(), nullable(kind));
    Schema::new(vec![
        Field::new("epoch", DataType::Int64, false),
        Field::new("source", DataType::Utf8, false),
        part("topic", IncludeKind::Topic),
        part("partition", IncludeKind::Partition),
        part("offset", IncludeKind::Offset),
        part("timestamp", IncludeKind::Timestamp),
        part("key", IncludeKind::Key),
        part("headers", IncludeKind::Headers),
        Field::new("byte_len", DataType::UInt64, false),
        Field::new("reason", DataType::Utf8, false),
        Field::new("column", DataType::Utf8, true),
        Field::new("schema_id", DataType::Int64, true),
        Field::new("original", DataType::Binary, false),
    ])
}

/// The columns of a source's quarantine files.
pub fn record_schema() -> Schema {
    let at = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    Schema::new(vec![
        Field::new("epoch", DataType::Int64, false),
        Field::new("source", DataType::Utf8, false),
        Field::new("path", DataType::Utf8, false),
        Field::new("modified", at, false),
        Field::new("record", DataType::UInt64, true),
        Field::new("line", DataType::UInt64, true),
        Field::new("byte_start", DataType::UInt64, true),
        Field::new("byte_len", DataType::UInt64, true),
        Field::new("reason", DataType::Utf8, false),
        Field::new("column", DataType::Utf8, true),
        Field::new("original", DataType::Binary, true),
    ])
}

/// The columns of a set's quarantine files: those of the set, then what was broken and where the row came from.
pub fn violation_schema(rows: &Schema) -> Schema {
    let text = || Field::new_list_field(DataType::Utf8, true);
    let visible = rows.fields().iter().filter(|field| field.name() != ORIGIN_COLUMN);
    let mut fields: Vec<Field> = visible.map(|field| field.as_ref().clone()).collect();
    let [violations, epoch, source, path, row] = VIOLATION_COLUMNS;
    fields.push(Field::new_list(violations, text(), false));
    fields.push(Field::new(epoch, DataType::Int64, false));
    fields.push(Field::new(source, DataType::Utf8, true));
    fields.push(Field::new(path, DataType::Utf8, true));
    fields.push(Field::new(row, DataType::UInt64, true));
    Schema::new(fields)
}

impl QuarantineWriter {
    /// A writer of undecodable records of the Kafka source `source`, below the pipeline's `state`.
    pub fn of_topics(
        state: &Location,
        pipeline: &str,
        source: &str,
        naming: WriterNaming,
        memory: Option<&Arc<dyn MemoryPool>>,
    ) -> Result<Self> {
        let owner = QuarantineOwner::Source(source);
        Self::new(state, pipeline, owner, &message_schema(), naming, memory)
    }

    /// A writer of undecodable records of `source`, below the pipeline's `state`.
    pub fn of_source(
        state: &Location,
        pipeline: &str,
        source: &str,
        naming: WriterNaming,
        memory: Option<&Arc<dyn MemoryPool>>,
    ) -> Result<Self> {
        let owner = QuarantineOwner::Source(source);
        Self::new(state, pipeline, owner, &record_schema(), naming, memory)
    }

    /// A writer of rows of `set` that broke an expectation; `rows` is the schema of the set's batches.
    pub fn of_set(
        state: &Location,
        pipeline: &str,
        set: &str,
        rows: &Schema,
        naming: WriterNaming,
        memory: Option<&Arc<dyn MemoryPool>>,
    ) -> Result<Self> {
        let owner = QuarantineOwner::Set(set);
        Self::new(state, pipeline, owner, &violation_schema(rows), naming, memory)
    }

    /// Rows so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Writes records of `object` of `source` that could not be decoded.
    pub async fn write_records(&mut self, source: &str, object: &ObjectVersion, rejects: &RecordBatch) -> Result<()> {
        let rows = rejects.num_rows();
        let schema = self.projection.schema();
        let mut columns: Vec<ArrayRef> = vec![
            self.epochs(rows)?,
            Arc::new(StringArray::from_iter_values(std::iter::repeat_n(source, rows))),
            Arc::new(StringArray::from_iter_values(std::iter::repeat_n(&object.path, rows))),
            Arc::new(TimestampMicrosecondArray::from_value(object.modified, rows).with_timezone("UTC")),
        ];
        for name in REJECT_COLUMNS {
            let column = rejects.column_by_name(name).ok_or_else(|| Error::Internal {
                message: format!("rejected records of source `{source}` have no column `{name}`"),
            })?;
            columns.push(cast(column, schema.field_with_name(name)?.data_type())?);
        }
        self.write(RecordBatch::try_new(Arc::clone(schema), columns)?).await
    }

    /// Writes records of `range` of a Kafka source that could not be decoded.
    pub async fn write_messages(&mut self, source: &str, range: &OffsetRange, rejects: &RecordBatch) -> Result<()> {
        let rows = rejects.num_rows();
        let schema = self.projection.schema();
        let mut columns: Vec<ArrayRef> = vec![
            self.epochs(rows)?,
            Arc::new(StringArray::from_iter_values(std::iter::repeat_n(source, rows))),
            Arc::new(StringArray::from_iter_values(std::iter::repeat_n(&range.topic, rows))),
            Arc::new(Int32Array::from_value(range.partition, rows)),
        ];
        columns.extend(rejects.columns().iter().cloned());
        self.write(RecordBatch::try_new(Arc::clone(schema), columns)?).await
    }

    /// Writes quarantined records as they are in other files, by [`as_quarantined`].
    pub async fn write_again(&mut self, records: &RecordBatch) -> Result<()> {
        let columns = records.columns().to_vec();
        self.write(RecordBatch::try_new(Arc::clone(self.projection.schema()), columns)?).await
    }

    /// Writes rows of a set; `violations` has, for each row, the names of the expectations that it broke.
    pub async fn write_rows(
        &mut self,
        rows: &RecordBatch,
        violations: &ArrayRef,
        origins: &(dyn Origins + Sync),
    ) -> Result<()> {
        let schema = self.projection.schema();
        let named = rows.schema_ref().fields().iter().zip(rows.columns());
        let visible = named.filter(|(field, _)| field.name() != ORIGIN_COLUMN);
        let mut columns: Vec<ArrayRef> = visible.map(|(_, column)| Arc::clone(column)).collect();
        columns.push(cast(violations, schema.field_with_name(VIOLATION_COLUMNS[0])?.data_type())?);
        columns.push(self.epochs(rows.num_rows())?);
        columns.extend(origin_columns(rows, origins));
        self.write(RecordBatch::try_new(Arc::clone(schema), columns)?).await
    }

    /// Ends the writing: the files, none where nothing was written.
    pub async fn finish(self) -> Result<Vec<DataFile>> {
        self.files.finish().await
    }

    /// Gives up and removes what was written.
    pub async fn abort(self) {
        self.files.abort().await;
    }

    fn new(
        state: &Location,
        pipeline: &str,
        owner: QuarantineOwner<'_>,
        schema: &Schema,
        naming: WriterNaming,
        memory: Option<&Arc<dyn MemoryPool>>,
    ) -> Result<Self> {
        let mut options = FeatureSetOptions::with_defaults(quarantine_location(state, owner));
        options.bloom_filter = BloomFilter::None;
        let (key, name, what) = match owner {
            QuarantineOwner::Source(name) => ("bessemer.source", name, "source"),
            QuarantineOwner::Set(name) => ("bessemer.set", name, "feature set"),
        };
        options.row_group_rows = match owner {
            QuarantineOwner::Source(_) => RECORD_GROUP_ROWS,
            QuarantineOwner::Set(_) => ROW_GROUP_ROWS,
        };
        let projection = Projection::new(&options, schema);
        let footer = Footer { pipeline, owner: (key, name), epoch: naming.epoch, bloom_columns: &[], sorted_by: None };
        let shape = file_shape(&options, projection.schema(), &footer, NonZeroUsize::MIN)
            .map_err(|source| Error::Parquet { path: options.location.as_text().to_owned(), source })?;
        let budget = MemoryBudget::new(format!("the quarantine of {what} `{name}`"), memory);
        let files = FileSequence::new(options.location, Arc::new(shape), naming, budget);
        Ok(Self { epoch: naming.epoch, projection, files, rows: 0 })
    }

    async fn write(&mut self, rows: RecordBatch) -> Result<()> {
        self.rows += rows.num_rows() as u64;
        self.files.append(&Partition::default(), rows).await
    }

    fn epochs(&self, rows: usize) -> Result<ArrayRef> {
        let epoch = i64::try_from(self.epoch.0)
            .map_err(|_| Error::Internal { message: format!("epoch {} is beyond 63 bits", self.epoch) })?;
        Ok(Arc::new(Int64Array::from_value(epoch, rows)))
    }
}

/// Records of a source's quarantine with the columns that such files have today, of topics or of objects: what a file of
/// an older build lacks is null.
pub fn as_quarantined(records: &RecordBatch, is_of_topics: bool) -> Result<RecordBatch> {
    let schema = Arc::new(if is_of_topics { message_schema() } else { record_schema() });
    let columns = schema.fields().iter().map(|field| match records.column_by_name(field.name()) {
        Some(column) => cast(column, field.data_type()),
        None => Ok(new_null_array(field.data_type(), records.num_rows())),
    });
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    Ok(RecordBatch::try_new(schema, columns)?)
}

/// Source, path and row of each row; null where a row was made of many, or has lost its identity.
fn origin_columns(rows: &RecordBatch, origins: &(dyn Origins + Sync)) -> [ArrayRef; 3] {
    let packed = rows.column_by_name(ORIGIN_COLUMN).and_then(|column| column.as_primitive_opt::<UInt64Type>());
    let nothing = UInt64Array::new_null(rows.num_rows());
    let packed = packed.unwrap_or(&nothing);
    // Few rows are quarantined, and they come from fewer parts.
    let mut parts: HashMap<(u64, u64), Option<PartOrigin<'_>>> = HashMap::new();
    let (mut sources, mut paths, mut numbers) = (StringBuilder::new(), StringBuilder::new(), UInt64Builder::new());
    for origin in packed {
        let unpacked = origin.map(unpack_origin);
        let part = unpacked.and_then(|(source, object, _)| {
            parts.entry((source, object)).or_insert_with(|| origins.origin(source, object)).as_ref()
        });
        sources.append_option(part.map(|part| part.source));
        paths.append_option(part.map(|part| part.path.as_str()));
        numbers.append_option(unpacked.map(|(_, _, row)| row + part.map_or(0, |part| part.first_row)));
    }
    [Arc::new(sources.finish()), Arc::new(paths.finish()), Arc::new(numbers.finish())]
}

/// Reads at most `limit` rows of committed files, of a set or of a quarantine, in the order of the files. Reads no more than it needs.
pub fn read_rows(location: &Location, files: &[DataFile], limit: u64) -> BoxStream<'static, Result<RecordBatch>> {
    read_in_batches(location, files, limit, None)
}

/// The same in batches of so many rows, where that matters.
pub(super) fn read_in_batches(
    location: &Location,
    files: &[DataFile],
    limit: u64,
    batch_rows: Option<usize>,
) -> BoxStream<'static, Result<RecordBatch>> {
    // Whole files beyond the limit are not even opened.
    let mut missing = limit;
    let mut wanted = Vec::new();
    for file in files.iter().take_while(|_| limit > 0) {
        if missing == 0 {
            break;
        }
        let rows = missing.min(file.rows);
        missing -= rows;
        wanted.push((FileReader::new(location, file), file.path.clone(), rows));
    }
    let read = move |(reader, path, rows): (FileReader, String, u64)| async move {
        let failed = move |error| read_error(&path, error);
        let mut builder = ParquetRecordBatchStreamBuilder::new(reader).await.map_err(&failed)?;
        if let Some(batch_rows) = batch_rows {
            builder = builder.with_batch_size(batch_rows);
        }
        let rows = usize::try_from(rows).unwrap_or(usize::MAX);
        let stream = builder.with_limit(rows).build().map_err(&failed)?;
        Ok::<_, Error>(stream.map_err(failed))
    };
    futures::stream::iter(wanted).then(read).try_flatten().boxed()
}

/// The schema of batches that [`QuarantineWriter::write_records`] takes.
pub fn reject_schema() -> SchemaRef {
    let schema = record_schema();
    let fields: Vec<_> = schema.fields().iter().skip(4).map(Arc::clone).collect();
    Arc::new(Schema::new(fields))
}

#[cfg(test)]
mod tests;
