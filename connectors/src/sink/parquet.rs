//! One Parquet file being written.
//!
//! The library's encoders cut pages by what each call brings, so rows are first cut into chunks of a fixed size counted
//! from the start of the row group: then the bytes do not depend on how the rows came.

use std::num::NonZeroUsize;
use std::sync::Arc;

use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use parquet::arrow::ArrowSchemaConverter;
use parquet::arrow::arrow_writer::ArrowRowGroupWriterFactory;
use parquet::basic::{Encoding, PageType};
use parquet::errors::ParquetError;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::metadata::PageEncodingStats;
use parquet::file::properties::{WriterPropertiesBuilder, WriterPropertiesPtr};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::{SchemaDescriptor, TypePtr};

use super::row_group::RowGroup;
use super::upload::Upload;
use crate::{Error, Location, Result};

/// Rows that are encoded at once: a batch of the engine, so that most batches pass without a copy.
const CHUNK_ROWS: usize = 8_192;

/// The format numbers row groups with 16 bits; a file ends well before that.
const ROW_GROUPS_MAX: usize = 32_000;

/// What all files of one writer have in common.
#[derive(Debug, Clone)]
pub(crate) struct FileShape {
    /// Columns in the file, as the arrays have them.
    pub(crate) schema: SchemaRef,
    /// Compression, statistics, bloom filters, metadata.
    pub(crate) properties: WriterPropertiesPtr,
    /// Rows of a row group.
    pub(crate) row_group_rows: usize,
    /// Bytes after which no further row group is begun.
    pub(crate) file_bytes: u64,
    /// Tasks that encode.
    pub(crate) encoders: NonZeroUsize,
    root: TypePtr,
    leaves: Vec<usize>,
}

impl FileShape {
    pub(crate) fn new(
        schema: SchemaRef,
        properties: WriterPropertiesPtr,
        row_group_rows: usize,
        file_bytes: u64,
        encoders: NonZeroUsize,
    ) -> Result<Self, ParquetError> {
        let descriptor = ArrowSchemaConverter::new().with_coerce_types(false).convert(&schema)?;
        let leaves = leaf_counts(&descriptor, schema.fields().len());
        let root = descriptor.root_schema_ptr();
        Ok(Self { schema, properties, row_group_rows, file_bytes, encoders, root, leaves })
    }

    /// The writer of a file, and what makes the encoders of its row groups.
    fn begin(
        &self,
        properties: WriterPropertiesPtr,
    ) -> Result<(SerializedFileWriter<Vec<u8>>, ArrowRowGroupWriterFactory), ParquetError> {
        let writer = SerializedFileWriter::new(Vec::new(), Arc::clone(&self.root), properties)?;
        let factory = ArrowRowGroupWriterFactory::new(&writer, Arc::clone(&self.schema));
        Ok((writer, factory))
    }
}

/// Whether the values of a column were too many for its dictionary.
fn overflowed(column: &ColumnChunkMetaData) -> bool {
    let is_plain = |page: &PageEncodingStats| {
        let is_data = matches!(page.page_type, PageType::DATA_PAGE | PageType::DATA_PAGE_V2);
        is_data && !matches!(page.encoding, Encoding::RLE_DICTIONARY | Encoding::PLAIN_DICTIONARY)
    };
    column.dictionary_page_offset().is_some()
        && column.page_encoding_stats().is_some_and(|pages| pages.iter().any(is_plain))
}

fn leaf_counts(descriptor: &SchemaDescriptor, columns: usize) -> Vec<usize> {
    let mut counts = vec![0; columns];
    for leaf in 0..descriptor.num_columns() {
        if let Some(count) = counts.get_mut(descriptor.get_column_root_idx(leaf)) {
            *count += 1;
        }
    }
    counts
}

/// A file that is open. Its object does not exist before [`ParquetFile::finish`] and the end of the [`Upload`].
pub(crate) struct ParquetFile {
    path: String,
    shape: Arc<FileShape>,
    writer: SerializedFileWriter<Vec<u8>>,
    factory: ArrowRowGroupWriterFactory,
    /// Those of the next row group.
    properties: WriterPropertiesPtr,
    row_group: Option<RowGroup>,
    waiting: Vec<RecordBatch>,
    waiting_rows: usize,
    rows: u64,
    upload: Upload,
}

/// A file whose bytes are all made.
pub(crate) struct FinishedFile {
    pub(crate) path: String,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    pub(crate) upload: Upload,
}

impl ParquetFile {
    /// Begins the file at `path` in `location`.
    pub(crate) fn create(location: &Location, path: String, shape: &Arc<FileShape>) -> Result<Self> {
        let begun = shape.begin(Arc::clone(&shape.properties));
        let (writer, factory) = begun.map_err(|source| Error::Parquet { path: path.clone(), source })?;
        let upload = Upload::new(location, &path);
        Ok(Self {
            path,
            shape: Arc::clone(shape),
            writer,
            factory,
            properties: Arc::clone(&shape.properties),
            row_group: None,
            waiting: Vec::new(),
            waiting_rows: 0,
            rows: 0,
            upload,
        })
    }

    /// Bytes of memory held for it.
    pub(crate) fn memory_bytes(&self) -> usize {
        let encoding = self.row_group.as_ref().map_or(0, RowGroup::memory_bytes);
        encoding + self.upload.buffered_bytes()
    }

    /// Whether it has reached its size; it does only where a row group ends.
    pub(crate) fn is_full(&self) -> bool {
        let is_between_groups = self.row_group.is_none() && self.waiting.is_empty();
        let is_large = self.writer.bytes_written() as u64 >= self.shape.file_bytes;
        is_between_groups && (is_large || self.writer.flushed_row_groups().len() >= ROW_GROUPS_MAX)
    }

    /// Takes rows from the front of `batch`, at most up to the end of a chunk, and says how many it took.
    pub(crate) async fn write(&mut self, batch: &RecordBatch) -> Result<usize> {
        let in_group = self.row_group.as_ref().map_or(0, RowGroup::rows);
        let chunk_rows = CHUNK_ROWS.min(self.shape.row_group_rows - in_group);
        let rows = batch.num_rows().min(chunk_rows - self.waiting_rows);
        self.waiting.push(batch.slice(0, rows));
        self.waiting_rows += rows;
        if self.waiting_rows == chunk_rows {
            self.encode_waiting().await?;
            if in_group + chunk_rows == self.shape.row_group_rows {
                self.end_row_group().await?;
            }
        }
        Ok(rows)
    }

    /// Ends the file: its last row group and its footer.
    pub(crate) async fn finish(mut self) -> Result<FinishedFile> {
        if let Err(error) = self.encode_rest().await {
            self.upload.abort().await;
            return Err(error);
        }
        let bytes = self.writer.bytes_written() as u64;
        Ok(FinishedFile { path: self.path, rows: self.rows, bytes, upload: self.upload })
    }

    /// Gives up.
    pub(crate) async fn abort(self) {
        self.upload.abort().await;
    }

    async fn encode_rest(&mut self) -> Result<()> {
        if self.waiting_rows > 0 {
            self.encode_waiting().await?;
        }
        self.end_row_group().await?;
        self.writer.finish().map_err(|source| self.error(source))?;
        self.send_bytes().await
    }

    async fn encode_waiting(&mut self) -> Result<()> {
        let mut waiting = std::mem::take(&mut self.waiting);
        self.waiting_rows = 0;
        let chunk = match waiting.pop() {
            Some(only) if waiting.is_empty() => only,
            Some(last) => {
                waiting.push(last);
                concat_batches(&self.shape.schema, &waiting)?
            }
            None => return Ok(()),
        };
        self.rows += chunk.num_rows() as u64;
        let mut row_group = match self.row_group.take() {
            Some(open) => open,
            None => self.begin_row_group().map_err(|source| self.error(source))?,
        };
        row_group.write(chunk).await.map_err(|source| self.error(source))?;
        self.row_group = Some(row_group);
        Ok(())
    }

    fn begin_row_group(&self) -> Result<RowGroup, ParquetError> {
        let idx = self.writer.flushed_row_groups().len();
        RowGroup::new(&self.factory, idx, &self.shape.schema, &self.shape.leaves, self.shape.encoders)
    }

    async fn end_row_group(&mut self) -> Result<()> {
        let Some(row_group) = self.row_group.take() else { return Ok(()) };
        let columns = row_group.close().await.map_err(|source| self.error(source))?;
        let bytes = columns.iter().map(|column| column.close().bytes_written).sum::<u64>();
        // It would be copied at every growth.
        self.writer.inner_mut().reserve(usize::try_from(bytes).unwrap_or_default());
        let append = || {
            let mut group = self.writer.next_row_group()?;
            for column in columns {
                column.append_to_row_group(&mut group)?;
            }
            group.close()?;
            self.writer.flush()?;
            Ok(())
        };
        append().map_err(|source| self.error(source))?;
        self.give_up_dictionaries().map_err(|source| self.error(source))?;
        self.send_bytes().await
    }

    /// A column whose dictionary was too small for one row group is written without one from the next on: to fill it and
    /// to throw it away again costs as much as all the rest.
    fn give_up_dictionaries(&mut self) -> Result<(), ParquetError> {
        let Some(last) = self.writer.flushed_row_groups().last() else { return Ok(()) };
        let columns = last.columns().iter().filter(|column| overflowed(column));
        let given_up: Vec<_> = columns.map(|column| column.column_path().clone()).collect();
        if given_up.is_empty() {
            return Ok(());
        }
        let plain =
            |properties: WriterPropertiesBuilder, column| properties.set_column_dictionary_enabled(column, false);
        let properties = WriterPropertiesBuilder::from((*self.properties).clone());
        self.properties = Arc::new(given_up.into_iter().fold(properties, plain).build());
        (_, self.factory) = self.shape.begin(Arc::clone(&self.properties))?;
        Ok(())
    }

    async fn send_bytes(&mut self) -> Result<()> {
        let bytes = std::mem::take(self.writer.inner_mut());
        self.upload.put(Bytes::from(bytes)).await
    }

    fn error(&self, source: ParquetError) -> Error {
        Error::Parquet { path: self.path.clone(), source }
    }
}
