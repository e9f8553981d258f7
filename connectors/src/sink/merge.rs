//! Committed files read back as one stream of rows, in order: what compaction writes once more.

use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use bessemer_schemas::DataFile;
use datafusion_common::DataFusionError;
use datafusion_execution::SendableRecordBatchStream;
use datafusion_execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation, UnboundedMemoryPool};
use datafusion_physical_expr::expressions::col;
use datafusion_physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion_physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet};
use datafusion_physical_plan::sorts::streaming_merge::StreamingMergeBuilder;
use datafusion_physical_plan::stream::RecordBatchStreamAdapter;
use futures::TryStreamExt;
use futures::stream::{self, StreamExt};
use parquet::arrow::ParquetRecordBatchStreamBuilder;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use parquet::file::statistics::Statistics;

use super::SortedBy;
use super::reader::{FileReader, read_error};
use super::shape::sorting;
use crate::{Error, Location, Result};

/// Bytes of the decoded batches of all files that are read side by side.
const BATCHES_BYTES: u64 = 64 << 20;
/// Rows of a batch: as the engine has them where there is room, and not so few that the work is all overhead.
const BATCH_ROWS: (u64, u64) = (64, 8_192);

/// One file, its footer read.
struct Opened {
    path: String,
    reader: FileReader,
    footer: ArrowReaderMetadata,
}

/// What committed files are to whoever merges them.
pub(super) enum CommittedRows {
    /// Their rows.
    Merged(SendableRecordBatchStream),
    /// These are of an earlier definition: they have other columns, or their rows another order.
    Unlike(Vec<DataFile>),
}

/// The rows of `files` in `location`, with the columns of `schema`; they are in the order in which they were committed.
/// Where their rows are sorted, so are these, and rows with the same value come in the order of the files. No row is read
/// where a file is unlike those that are written now.
pub(super) async fn committed_rows(
    location: &Location,
    schema: &SchemaRef,
    files: &[DataFile],
    sorted_by: Option<&SortedBy>,
    memory: Option<&Arc<dyn MemoryPool>>,
) -> Result<CommittedRows> {
    let mut opened = Vec::with_capacity(files.len());
    let mut unlike = Vec::new();
    for file in files {
        match open(location, schema, sorted_by, file).await? {
            Some(file) => opened.push(file),
            None => unlike.push(file.clone()),
        }
    }
    if !unlike.is_empty() {
        return Ok(CommittedRows::Unlike(unlike));
    }
    let is_one = opened.len() == 1;
    let Some(sorted_by) = sorted_by.filter(|_| !is_one) else {
        let of_set = Arc::clone(schema);
        let rows = stream::iter(opened).map(move |file| rows(file, Arc::clone(&of_set), BATCH_ROWS.1)).try_flatten();
        return Ok(CommittedRows::Merged(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(schema), rows))));
    };

    let unbounded: Arc<dyn MemoryPool> = Arc::new(UnboundedMemoryPool::default());
    let reservation = MemoryConsumer::new("compaction").register(memory.unwrap_or(&unbounded));
    let held = reservation.new_empty();
    held.try_grow(usize::try_from(bytes_open(&opened)).unwrap_or(usize::MAX)).map_err(engine_error)?;
    let batch_rows = batch_rows(&opened);
    let streams = opened
        .into_iter()
        .map(|file| {
            let rows = rows(file, Arc::clone(schema), batch_rows)?;
            Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(schema), rows)) as _)
        })
        .collect::<Result<Vec<SendableRecordBatchStream>, DataFusionError>>()
        .map_err(engine_error)?;
    let rows = merged(schema, sorted_by, streams, batch_rows, (reservation, held)).map_err(engine_error)?;
    Ok(CommittedRows::Merged(rows))
}

/// What the engine could not do; an error of ours that came through it is itself again.
pub(super) fn engine_error(error: DataFusionError) -> Error {
    match error {
        DataFusionError::External(error) => match error.downcast::<Error>() {
            Ok(error) => *error,
            Err(error) => Error::Engine(Box::new(DataFusionError::External(error))),
        },
        error @ DataFusionError::ResourcesExhausted(_) => {
            Error::MemoryExhausted { of: "compaction".to_owned(), source: Box::new(error) }
        }
        error => Error::Engine(Box::new(error)),
    }
}

/// Opens a file, if it is one that today's definition could have written.
async fn open(
    location: &Location,
    schema: &SchemaRef,
    sorted_by: Option<&SortedBy>,
    file: &DataFile,
) -> Result<Option<Opened>> {
    let failed = |error| read_error(&file.path, error);
    let mut reader = FileReader::new(location, file);
    let footer = Arc::new(reader.footer().await.map_err(failed)?);
    let as_written = ArrowReaderMetadata::try_new(Arc::clone(&footer), ArrowReaderOptions::new()).map_err(failed)?;
    if !has_columns(&as_written, schema) || !has_order(as_written.metadata(), schema, sorted_by) {
        return Ok(None);
    }
    // The file says more of its columns than their types, and less of how text is laid out in memory.
    let columns = as_written.schema().fields().iter().map(|field| {
        let wanted = schema.field_with_name(field.name());
        wanted.map_or_else(|_| Arc::clone(field), |wanted| with_type(field, wanted.data_type()))
    });
    let options = ArrowReaderOptions::new().with_schema(Arc::new(Schema::new(columns.collect::<Vec<_>>())));
    let Ok(footer) = ArrowReaderMetadata::try_new(footer, options) else { return Ok(None) };
    let rows = row_groups(footer.metadata()).map(RowGroupMetaData::num_rows).sum::<i64>();
    if u64::try_from(rows) != Ok(file.rows) {
        let reason = format!("it has {rows} rows, and {} by its manifest", file.rows);
        return Err(Error::Damaged { path: file.path.clone(), reason });
    }
    Ok(Some(Opened { path: file.path.clone(), reader, footer }))
}

/// Whether the columns have the names of `schema`, and no nulls where it has none.
fn has_columns(file: &ArrowReaderMetadata, schema: &Schema) -> bool {
    let columns = file.schema().fields();
    let is_same = |(column, wanted): (&FieldRef, &FieldRef)| {
        let may_be_null =
            column.is_nullable() && !wanted.is_nullable() && may_have_nulls(file.metadata(), column.name());
        column.name() == wanted.name() && !may_be_null
    };
    columns.len() == schema.fields().len() && columns.iter().zip(schema.fields()).all(is_same)
}

/// Whether the statistics leave it open that there are nulls in a column.
fn may_have_nulls(footer: &ParquetMetaData, column: &str) -> bool {
    let leaves = row_groups(footer).flat_map(RowGroupMetaData::columns);
    let mut of_column = leaves.filter(|leaf| leaf.column_path().parts().first().is_some_and(|name| name == column));
    of_column.any(|leaf| leaf.statistics().and_then(Statistics::null_count_opt) != Some(0))
}

/// Whether the rows are sorted as those of files that are written now.
fn has_order(footer: &ParquetMetaData, schema: &Schema, sorted_by: Option<&SortedBy>) -> bool {
    let Some(sorted_by) = sorted_by else { return true };
    let order = sorting(schema, sorted_by);
    row_groups(footer).all(|group| group.sorting_columns() == order.as_ref())
}

fn with_type(field: &FieldRef, data_type: &DataType) -> FieldRef {
    Arc::new(field.as_ref().clone().with_data_type(data_type.clone()))
}

type Rows = stream::BoxStream<'static, Result<RecordBatch, DataFusionError>>;

fn rows(file: Opened, schema: SchemaRef, batch_rows: u64) -> Result<Rows, DataFusionError> {
    let Opened { path, reader, footer } = file;
    let ours = move |error| DataFusionError::External(Box::new(read_error(&path, error)));
    let builder = ParquetRecordBatchStreamBuilder::new_with_metadata(reader, footer);
    let rows = builder.with_batch_size(usize::try_from(batch_rows).unwrap_or(usize::MAX)).build();
    let in_set = move |batch: RecordBatch| Ok(RecordBatch::try_new(Arc::clone(&schema), batch.columns().to_vec())?);
    Ok(rows.map_err(&ours)?.map_err(ours).and_then(move |batch| std::future::ready(in_set(batch))).boxed())
}

/// Merges sorted streams; of equal rows those of the earlier stream come first.
fn merged(
    schema: &SchemaRef,
    sorted_by: &SortedBy,
    streams: Vec<SendableRecordBatchStream>,
    batch_rows: u64,
    (reservation, held): (MemoryReservation, MemoryReservation),
) -> Result<SendableRecordBatchStream, DataFusionError> {
    let options = SortOptions { descending: false, nulls_first: sorted_by.nulls_first };
    let order = LexOrdering::from([PhysicalSortExpr::new(col(&sorted_by.column, schema)?, options)]);
    let merged = StreamingMergeBuilder::new()
        .with_streams(streams)
        .with_schema(Arc::clone(schema))
        .with_expressions(&order)
        .with_metrics(BaselineMetrics::new(&ExecutionPlanMetricsSet::new(), 0))
        .with_batch_size(usize::try_from(batch_rows.max(BATCH_ROWS.0)).unwrap_or(usize::MAX))
        .with_reservation(reservation)
        .with_round_robin_tie_breaker(false)
        .build()?;
    // What is held for the row groups is given back when the last row was read.
    let with_memory = merged.inspect(move |_| _ = &held);
    Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(schema), with_memory)))
}

/// Bytes in memory, as stored, while all of `files` are read side by side: the largest row group of each.
fn bytes_open(files: &[Opened]) -> u64 {
    let largest = |file: &Opened| row_groups(file.footer.metadata()).map(RowGroupMetaData::compressed_size).max();
    files.iter().filter_map(largest).filter_map(|bytes| u64::try_from(bytes).ok()).sum()
}

/// Rows of a batch so that one batch of each file is not too much.
fn batch_rows(files: &[Opened]) -> u64 {
    let groups = || files.iter().flat_map(|file| row_groups(file.footer.metadata()));
    let sum = |of: fn(&RowGroupMetaData) -> i64| groups().map(of).sum::<i64>().max(1).unsigned_abs();
    let row_bytes = sum(RowGroupMetaData::total_byte_size).div_ceil(sum(RowGroupMetaData::num_rows)).max(1);
    (BATCHES_BYTES / (row_bytes * files.len() as u64)).clamp(BATCH_ROWS.0, BATCH_ROWS.1)
}

fn row_groups(footer: &ParquetMetaData) -> impl Iterator<Item = &RowGroupMetaData> {
    footer.row_groups().iter()
}
