//! Parquet: the footer, and row groups one at a time, each fetched in few large reads and decoded where it is polled.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};
use bytes::{Buf, Bytes};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder, RowSelection,
};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::{FooterTail, PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use parquet::file::reader::{ChunkReader, Length};

use crate::object_store::PinnedObject;
use crate::{Error, Result};

/// Bytes read from the end at first: most footers fit.
const FOOTER_GUESS: u64 = 64 << 10;

/// Length of the metadata and the magic bytes, at the very end (Parquet format, "File format").
const TAIL: u64 = 8;

/// Magic bytes at the beginning and the tail.
const SHORTEST: u64 = 4 + TAIL;

/// Reads the footer.
pub(crate) async fn footer(object: &PinnedObject) -> Result<Arc<ParquetMetaData>> {
    let size = object.version().size;
    if size < SHORTEST {
        return Err(bad(object.path(), 0, format!("it has {size} bytes, too few for a Parquet file")));
    }
    let guess = object.read(size.saturating_sub(FOOTER_GUESS)..size).await?;
    let tail = <[u8; 8]>::try_from(&guess[guess.len().saturating_sub(8)..]).unwrap_or_default();
    let tail = FooterTail::try_new(&tail).map_err(|_| {
        let reason = "it does not end as a Parquet file does: it is none, is truncated, or is still being written";
        bad(object.path(), size - TAIL, reason)
    })?;
    let length = tail.metadata_length() as u64;
    if tail.is_encrypted_footer() {
        return Err(bad(object.path(), size - TAIL, "its footer is encrypted"));
    }
    let Some(start) = (size - TAIL).checked_sub(length) else {
        return Err(bad(object.path(), size - TAIL, "its footer claims to be longer than the file"));
    };
    let known_from = size - guess.len() as u64;
    let bytes = if start >= known_from {
        let from = usize::try_from(start - known_from).unwrap_or(0);
        guess.slice(from..guess.len() - 8)
    } else {
        object.read(start..size - TAIL).await?
    };
    let metadata = ParquetMetaDataReader::decode_metadata(&bytes).map_err(|error| failed(object, start, &error))?;
    Ok(Arc::new(metadata))
}

/// The schema as Arrow has it, with texts as views where `hints` (or nobody) asks for them: they are decoded without
/// being copied.
pub(crate) fn reader_metadata(
    object: &PinnedObject,
    footer: Arc<ParquetMetaData>,
    hints: Option<&Schema>,
) -> Result<ArrowReaderMetadata> {
    let plain = || ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Skip);
    let failed = |error: ParquetError| failed(object, 0, &error);
    let metadata = ArrowReaderMetadata::try_new(Arc::clone(&footer), plain()).map_err(failed)?;
    let Some(hinted) = hinted(metadata.schema(), hints) else { return Ok(metadata) };
    ArrowReaderMetadata::try_new(footer, plain().with_schema(hinted)).map_err(failed)
}

fn hinted(schema: &SchemaRef, hints: Option<&Schema>) -> Option<SchemaRef> {
    let mut is_changed = false;
    let fields = schema.fields().iter().map(|field| {
        let wanted = match hints {
            Some(hints) => hints.field_with_name(field.name()).ok().map(Field::data_type),
            None => None,
        };
        let view = match (field.data_type(), wanted) {
            (DataType::Utf8 | DataType::LargeUtf8, None | Some(DataType::Utf8View)) => DataType::Utf8View,
            (DataType::Binary | DataType::LargeBinary, None | Some(DataType::BinaryView)) => DataType::BinaryView,
            (DataType::Utf8View, Some(DataType::Utf8)) => DataType::Utf8,
            (DataType::BinaryView, Some(DataType::Binary)) => DataType::Binary,
            _ => return Arc::clone(field),
        };
        is_changed = true;
        Arc::new(field.as_ref().clone().with_data_type(view))
    });
    let fields: Vec<_> = fields.collect();
    is_changed.then(|| Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone())))
}

/// What to read of one row group.
#[derive(Debug, Clone)]
pub(crate) struct RowGroupRead<'a> {
    /// The file's metadata.
    pub(crate) metadata: &'a ArrowReaderMetadata,
    /// Number of the row group.
    pub(crate) group: usize,
    /// Top-level columns.
    pub(crate) columns: &'a [usize],
    /// Rows in a batch, at most.
    pub(crate) batch_rows: usize,
    /// Rows to read; all of them if `None`.
    pub(crate) rows: Option<RowSelection>,
}

/// Fetches the column chunks of a row group; the reader that comes back needs no more input.
pub(crate) async fn row_group(object: &PinnedObject, read: RowGroupRead<'_>) -> Result<RowGroupBatches> {
    let metadata = read.metadata.metadata();
    let mask = ProjectionMask::roots(read.metadata.parquet_schema(), read.columns.iter().copied());
    let ranges = chunk_ranges(object, metadata, read.group, &mask)?;
    let offset = ranges.iter().map(|range| range.start).min().unwrap_or(0);
    let bytes = ranges.iter().map(|range| range.end - range.start).sum();
    let fetched = object.read_ranges(ranges.clone()).await?;

    let starts = ranges.into_iter().map(|range| range.start);
    let chunks = ColumnChunks { size: object.version().size, chunks: starts.zip(fetched).collect() };
    let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(chunks, read.metadata.clone())
        .with_row_groups(vec![read.group])
        .with_projection(mask)
        .with_batch_size(read.batch_rows);
    let builder = match read.rows {
        Some(rows) => builder.with_row_selection(rows),
        None => builder,
    };
    let reader = builder.build().map_err(|error| failed(object, offset, &error))?;
    Ok(RowGroupBatches { reader, path: object.path().to_owned(), offset, bytes })
}

/// The batches of one row group.
pub(crate) struct RowGroupBatches {
    reader: ParquetRecordBatchReader,
    path: String,
    offset: u64,
    /// Bytes that were fetched.
    pub(crate) bytes: u64,
}

impl Iterator for RowGroupBatches {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        // Some damage makes the decoders panic; it is the file's fault, and only this file's.
        let decoded = catch_unwind(AssertUnwindSafe(|| self.reader.next()));
        let batch =
            decoded.unwrap_or_else(|_| Some(Err(ArrowError::ParquetError("its bytes are damaged".to_owned()))))?;
        Some(batch.map_err(|error| bad(&self.path, self.offset, format!("a row group is corrupt ({error})"))))
    }
}

fn chunk_ranges(
    object: &PinnedObject,
    metadata: &ParquetMetaData,
    group: usize,
    mask: &ProjectionMask,
) -> Result<Vec<Range<u64>>> {
    let (size, mut ranges) = (object.version().size, Vec::new());
    for (leaf, column) in metadata.row_group(group).columns().iter().enumerate() {
        if !mask.leaf_included(leaf) {
            continue;
        }
        // `byte_range` asserts what a damaged footer may break.
        let start = column.dictionary_page_offset().unwrap_or_else(|| column.data_page_offset());
        let range = u64::try_from(start).ok().zip(u64::try_from(column.compressed_size()).ok());
        let range = range.and_then(|(start, length)| Some(start..start.checked_add(length)?));
        match range.filter(|range| range.end <= size) {
            Some(range) => ranges.push(range),
            None => return Err(bad(object.path(), size - TAIL, "its footer points outside the file")),
        }
    }
    Ok(ranges)
}

/// The fetched column chunks of a row group, each at its place in the file.
struct ColumnChunks {
    size: u64,
    chunks: Vec<(u64, Bytes)>,
}

impl ColumnChunks {
    fn from(&self, start: u64) -> ParquetResult<Bytes> {
        let holds = |chunk: &&(u64, Bytes)| chunk.0 <= start && start < chunk.0 + chunk.1.len() as u64;
        let missing = || ParquetError::General(format!("a page at byte {start} is outside its column chunk"));
        let (at, bytes) = self.chunks.iter().find(holds).ok_or_else(missing)?;
        Ok(bytes.slice(usize::try_from(start - at).map_err(|_| missing())?..))
    }
}

impl Length for ColumnChunks {
    fn len(&self) -> u64 {
        self.size
    }
}

impl ChunkReader for ColumnChunks {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        Ok(self.from(start)?.reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        let bytes = self.from(start)?;
        if bytes.len() < length {
            return Err(ParquetError::EOF(format!("a page at byte {start} is longer than its column chunk")));
        }
        Ok(bytes.slice(..length))
    }
}

fn failed(object: &PinnedObject, offset: u64, error: &ParquetError) -> Error {
    bad(object.path(), offset, error.to_string())
}

fn bad(path: &str, offset: u64, reason: impl Into<String>) -> Error {
    Error::BadFile { path: path.to_owned(), format: "Parquet", offset, reason: reason.into() }
}
