//! One row group being encoded: its leaf columns are independent, so that they may be encoded by several tasks.
//!
//! Which task encodes a column changes no byte: a column's bytes depend on the chunks it is given, and every column is
//! given the same chunks in the same order.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::datatypes::{FieldRef, SchemaRef};
use arrow::record_batch::RecordBatch;
use parquet::arrow::arrow_writer::{ArrowColumnChunk, ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves};
use parquet::errors::ParquetError;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::task::AbortOnDropHandle;

/// Chunks that wait for a task: it never idles for want of one, and little is held.
const CHUNKS_IN_FLIGHT: usize = 2;

/// The answer of the Parquet library, which the file's writer completes with its path.
pub(crate) type Encoded<T> = Result<T, ParquetError>;

/// A row group that is open.
pub(crate) struct RowGroup {
    encoders: Encoders,
    rows: usize,
}

enum Encoders {
    Here(Vec<ColumnEncoder>),
    Tasks(Vec<EncoderTask>),
}

/// One top-level column and the writers of its leaves.
struct ColumnEncoder {
    idx: usize,
    field: FieldRef,
    leaves: Vec<ArrowColumnWriter>,
}

/// The columns of one task by their number, each with the chunks of its leaves.
type EncodedColumns = Vec<(usize, Vec<ArrowColumnChunk>)>;

struct EncoderTask {
    chunks: mpsc::Sender<RecordBatch>,
    memory: Arc<AtomicUsize>,
    task: AbortOnDropHandle<Encoded<EncodedColumns>>,
}

impl RowGroup {
    /// Opens row group number `idx` of a file. `leaves` has the number of leaf columns of each column of `schema`.
    pub(crate) fn new(
        factory: &ArrowRowGroupWriterFactory,
        idx: usize,
        schema: &SchemaRef,
        leaves: &[usize],
        encoders: NonZeroUsize,
    ) -> Encoded<Self> {
        let mut writers = factory.create_column_writers(idx)?.into_iter();
        let columns: Vec<_> = schema
            .fields()
            .iter()
            .zip(leaves)
            .enumerate()
            .map(|(idx, (field, leaves))| ColumnEncoder {
                idx,
                field: Arc::clone(field),
                leaves: writers.by_ref().take(*leaves).collect(),
            })
            .collect();
        let encoders = if encoders.get() == 1 { Encoders::Here(columns) } else { spawn(columns, encoders) };
        Ok(Self { encoders, rows: 0 })
    }

    /// Rows so far.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes of memory that the encoders hold, as far as they have got.
    pub(crate) fn memory_bytes(&self) -> usize {
        match &self.encoders {
            Encoders::Here(columns) => columns.iter().map(ColumnEncoder::memory_bytes).sum(),
            Encoders::Tasks(tasks) => tasks.iter().map(|task| task.memory.load(Ordering::Relaxed)).sum(),
        }
    }

    /// Encodes a chunk, or hands it to the tasks.
    pub(crate) async fn write(&mut self, chunk: RecordBatch) -> Encoded<()> {
        self.rows += chunk.num_rows();
        match &mut self.encoders {
            Encoders::Here(columns) => columns.iter_mut().try_for_each(|column| column.write(&chunk)),
            Encoders::Tasks(tasks) => {
                for task in tasks {
                    // A task that is gone has failed; `close` tells how.
                    if task.chunks.send(chunk.clone()).await.is_err() {
                        break;
                    }
                }
                Ok(())
            }
        }
    }

    /// Ends it: the column chunks in the order of the leaves.
    pub(crate) async fn close(self) -> Encoded<Vec<ArrowColumnChunk>> {
        let mut columns = match self.encoders {
            Encoders::Here(columns) => columns.into_iter().map(ColumnEncoder::close).collect::<Encoded<Vec<_>>>()?,
            Encoders::Tasks(tasks) => {
                let mut columns = Vec::new();
                for EncoderTask { chunks, task, .. } in tasks {
                    drop(chunks);
                    columns.extend(task.await.map_err(|error| ParquetError::External(Box::new(error)))??);
                }
                columns
            }
        };
        columns.sort_by_key(|(idx, _)| *idx);
        Ok(columns.into_iter().flat_map(|(_, leaves)| leaves).collect())
    }
}

impl ColumnEncoder {
    fn write(&mut self, chunk: &RecordBatch) -> Encoded<()> {
        let leaves = compute_leaves(&self.field, chunk.column(self.idx))?;
        self.leaves.iter_mut().zip(&leaves).try_for_each(|(writer, leaf)| writer.write(leaf))
    }

    fn memory_bytes(&self) -> usize {
        self.leaves.iter().map(ArrowColumnWriter::memory_size).sum()
    }

    fn close(self) -> Encoded<(usize, Vec<ArrowColumnChunk>)> {
        let leaves = self.leaves.into_iter().map(ArrowColumnWriter::close).collect::<Encoded<_>>()?;
        Ok((self.idx, leaves))
    }
}

fn spawn(columns: Vec<ColumnEncoder>, encoders: NonZeroUsize) -> Encoders {
    let tasks = encoders.get().min(columns.len()).max(1);
    let mut shares: Vec<Vec<ColumnEncoder>> = (0..tasks).map(|_| Vec::new()).collect();
    for (idx, column) in columns.into_iter().enumerate() {
        shares[idx % tasks].push(column);
    }
    Encoders::Tasks(shares.into_iter().map(EncoderTask::spawn).collect())
}

impl EncoderTask {
    fn spawn(columns: Vec<ColumnEncoder>) -> Self {
        let (chunks, received) = mpsc::channel(CHUNKS_IN_FLIGHT);
        let memory = Arc::new(AtomicUsize::new(0));
        let task: JoinHandle<_> = tokio::spawn(encode(columns, received, Arc::clone(&memory)));
        Self { chunks, memory, task: AbortOnDropHandle::new(task) }
    }
}

/// Encoding a chunk takes well under a millisecond, so it may run between the tasks of the engine, as its own kernels
/// do; on the blocking pool it would run beside them, on more threads than there are cores.
async fn encode(
    mut columns: Vec<ColumnEncoder>,
    mut chunks: mpsc::Receiver<RecordBatch>,
    memory: Arc<AtomicUsize>,
) -> Encoded<EncodedColumns> {
    while let Some(chunk) = chunks.recv().await {
        columns.iter_mut().try_for_each(|column| column.write(&chunk))?;
        memory.store(columns.iter().map(ColumnEncoder::memory_bytes).sum(), Ordering::Relaxed);
    }
    columns.into_iter().map(ColumnEncoder::close).collect()
}
