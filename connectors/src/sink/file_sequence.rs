//! The files of one writer, one after another: their names, their uploads, their end.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use bessemer_schemas::{Claim, DataFile, Epoch, FileName};
use datafusion_execution::SendableRecordBatchStream;
use datafusion_execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use futures::TryStreamExt;
use object_store::ObjectStoreExt;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::merge::engine_error;
use super::parquet::{FileShape, ParquetFile};
use super::partition::PartitionValues;
use crate::{Error, Location, Result};

/// Finished files whose last bytes are on their way: a thousand small partitions must not wait for a store one by one.
const UPLOADS_IN_FLIGHT: usize = 8;

/// What the names of a writer's files are made of; the number of the file within the stream is the writer's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriterNaming {
    /// The epoch.
    pub epoch: Epoch,
    /// The claim.
    pub claim: Claim,
    /// The attempt at the epoch.
    pub attempt: u32,
    /// The stream of rows within the epoch.
    pub stream: u32,
}

/// Where the next rows go.
#[derive(Debug, Clone, Default)]
pub(crate) struct Partition {
    /// With its `/` at the end; empty where there are no partitions.
    pub(crate) directory: String,
    pub(crate) values: PartitionValues,
    /// How often the next rows were rewritten, these files included.
    pub(crate) rewrites: u8,
}

/// What a writer may hold in memory.
pub(crate) struct MemoryBudget {
    of: String,
    reservation: Option<MemoryReservation>,
}

impl MemoryBudget {
    /// For the writer `of` a set or quarantine; without a pool there is no bound but that of one row group.
    pub(crate) fn new(of: String, pool: Option<&Arc<dyn MemoryPool>>) -> Self {
        let reservation = pool.map(|pool| MemoryConsumer::new(format!("writer of {of}")).register(pool));
        Self { of, reservation }
    }

    fn hold(&self, bytes: usize) -> Result<()> {
        let Some(reservation) = &self.reservation else { return Ok(()) };
        let refused = |source| Error::MemoryExhausted { of: self.of.clone(), source: Box::new(source) };
        reservation.try_resize(bytes).map_err(refused)
    }
}

/// Writes rows into files; exactly one is open.
pub(crate) struct FileSequence {
    pub(crate) location: Location,
    shape: Arc<FileShape>,
    naming: WriterNaming,
    budget: MemoryBudget,
    seq: u32,
    open: Option<(ParquetFile, Partition)>,
    uploads: JoinSet<Result<()>>,
    done: Vec<DataFile>,
}

impl FileSequence {
    pub(crate) fn new(location: Location, shape: Arc<FileShape>, naming: WriterNaming, budget: MemoryBudget) -> Self {
        Self { location, shape, naming, budget, seq: 0, open: None, uploads: JoinSet::new(), done: Vec::new() }
    }

    /// The columns of the files.
    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.shape.schema
    }

    /// Writes rows of `partition`, into the open file if there is one: [`FileSequence::end_open`] comes between
    /// partitions.
    pub(crate) async fn append(&mut self, partition: &Partition, mut rows: RecordBatch) -> Result<()> {
        while rows.num_rows() > 0 {
            let (file, _) = if let Some(open) = &mut self.open {
                open
            } else {
                let file = self.create(&partition.directory)?;
                self.open.insert((file, partition.clone()))
            };
            let taken = file.write(&rows).await?;
            rows = rows.slice(taken, rows.num_rows() - taken);
            self.budget.hold(file.memory_bytes())?;
            if file.is_full() {
                self.end_open().await?;
            }
        }
        Ok(())
    }

    /// Writes all of `rows` into `partition`, and says how many there were; `None` where `stop` came before the last one.
    pub(crate) async fn append_all(
        &mut self,
        partition: &Partition,
        mut rows: SendableRecordBatchStream,
        stop: &CancellationToken,
    ) -> Result<Option<u64>> {
        let mut written = 0;
        while let Some(batch) = rows.try_next().await.map_err(engine_error)? {
            if stop.is_cancelled() {
                return Ok(None);
            }
            written += batch.num_rows() as u64;
            self.append(partition, batch).await?;
        }
        Ok(Some(written))
    }

    /// Ends the open file; its last bytes are sent while the next one is written.
    pub(crate) async fn end_open(&mut self) -> Result<()> {
        let Some((file, partition)) = self.open.take() else { return Ok(()) };
        let file = file.finish().await?;
        let Partition { values, rewrites, .. } = partition;
        self.done.push(DataFile { path: file.path, rows: file.rows, bytes: file.bytes, partition: values, rewrites });
        while self.uploads.len() >= UPLOADS_IN_FLIGHT {
            self.join_upload().await?;
        }
        self.uploads.spawn(file.upload.finish());
        self.budget.hold(0)
    }

    /// Waits until every file is there for good; on failure none is left.
    pub(crate) async fn finish(mut self) -> Result<Vec<DataFile>> {
        let ended = self.end_all().await;
        if ended.is_err() {
            self.abort().await;
            return ended.map(|()| Vec::new());
        }
        Ok(self.done)
    }

    /// Removes the files.
    pub(crate) async fn abort(mut self) {
        if let Some((file, _)) = self.open.take() {
            file.abort().await;
        }
        // An upload that is stopped half-way may still become visible, so they end first, well or not.
        while self.uploads.join_next().await.is_some() {}
        let (store, location) = (self.location.store(), &self.location);
        for file in self.done {
            // What cannot be deleted now is named by no manifest, and the next sweep finds it.
            store.delete(&location.path(&file.path)).await.ok();
        }
    }

    fn create(&mut self, directory: &str) -> Result<ParquetFile> {
        let WriterNaming { epoch, claim, attempt, stream } = self.naming;
        let name = FileName { epoch, claim, attempt, stream, seq: self.seq };
        self.seq += 1;
        ParquetFile::create(&self.location, format!("{directory}{name}"), &self.shape)
    }

    async fn end_all(&mut self) -> Result<()> {
        self.end_open().await?;
        while !self.uploads.is_empty() {
            self.join_upload().await?;
        }
        Ok(())
    }

    async fn join_upload(&mut self) -> Result<()> {
        match self.uploads.join_next().await {
            None => Ok(()),
            Some(Ok(result)) => result,
            Some(Err(error)) => Err(Error::Internal { message: format!("an upload task ended: {error}") }),
        }
    }
}
