//! Writes the rows of one stream of a feature set.

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use bessemer_schemas::{DataFile, Merge};
use datafusion_execution::memory_pool::MemoryPool;
use tokio_util::sync::CancellationToken;

use super::file_sequence::{FileSequence, MemoryBudget, Partition, WriterNaming};
use super::merge::{CommittedRows, committed_rows};
use super::options::{BloomFilter, FeatureSetOptions, SetFormat};
use super::partition::{Partitioner, directory};
use super::shape::{Footer, Projection, SortedBy, file_shape};
use crate::{Error, Result};

/// The set that is written, as far as its files say so, and what writing it may use.
#[derive(Debug, Clone)]
pub struct WrittenSet {
    /// The pipeline's name.
    pub pipeline: String,
    /// The set's name.
    pub name: String,
    /// The columns of `ENTITY (…)`.
    pub entity: Vec<String>,
    /// What rows are sorted by within a partition, if by anything.
    pub sorted_by: Option<SortedBy>,
    /// The budget that the writer reserves its memory from.
    pub memory: Option<Arc<dyn MemoryPool>>,
    /// Tasks that encode columns; the bytes are the same for any number.
    pub encoders: NonZeroUsize,
}

impl WrittenSet {
    /// A set without entity, order and budget, encoded by one task.
    pub fn new(pipeline: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            pipeline: pipeline.into(),
            name: name.into(),
            entity: Vec::new(),
            sorted_by: None,
            memory: None,
            encoders: NonZeroUsize::MIN,
        }
    }
}

/// How a merge ended, if not by an error.
#[derive(Debug, PartialEq, Eq)]
pub enum MergeEnd {
    /// All rows are written.
    Written,
    /// It was asked to stop.
    Stopped,
    /// Nothing was written: these files are of an earlier definition. Their columns or the order of their rows are not
    /// those of the set, and they are to be left out.
    Unlike(Vec<DataFile>),
}

/// Writes batches, sorted by the values of the partition columns, as Parquet files; one file is open at a time.
///
/// Dropped without [`SetWriter::finish`] or [`SetWriter::abort`] it leaves complete files that no manifest names, for
/// the next sweep.
pub struct SetWriter {
    name: String,
    partitioner: Partitioner,
    projection: Projection,
    files: FileSequence,
    open: Option<Partition>,
    seen: HashSet<String>,
    sorted_by: Option<SortedBy>,
    memory: Option<Arc<dyn MemoryPool>>,
    /// An empty text cannot be a partition value of a Delta table (protocol, "Partition Value Serialization").
    refuses_empty_text: bool,
}

impl SetWriter {
    /// A writer for batches of `schema`, which may have the hidden column of row identity; it is not written.
    pub fn new(options: &FeatureSetOptions, schema: &Schema, naming: WriterNaming, set: WrittenSet) -> Result<Self> {
        let projection = Projection::new(options, schema);
        let bloom_columns = match &options.bloom_filter {
            BloomFilter::Entity => set.entity.as_slice(),
            BloomFilter::None => &[],
            BloomFilter::Columns(columns) => columns,
        };
        let footer = Footer {
            pipeline: &set.pipeline,
            owner: ("bessemer.set", &set.name),
            epoch: naming.epoch,
            bloom_columns,
            sorted_by: set.sorted_by.as_ref(),
        };
        let shape = file_shape(options, projection.schema(), &footer, set.encoders)
            .map_err(|source| Error::Parquet { path: options.location.as_text().to_owned(), source })?;
        let budget = MemoryBudget::new(format!("feature set `{}`", set.name), set.memory.as_ref());
        Ok(Self {
            partitioner: Partitioner::new(&options.partition_by, schema)?,
            projection,
            files: FileSequence::new(options.location.clone(), Arc::new(shape), naming, budget),
            open: None,
            seen: HashSet::new(),
            sorted_by: set.sorted_by,
            memory: set.memory,
            refuses_empty_text: options.format == SetFormat::Delta,
            name: set.name,
        })
    }

    /// The columns of the files: without the hidden column and without those that are in the path.
    pub fn file_schema(&self) -> &SchemaRef {
        self.projection.schema()
    }

    /// Writes the rows of `batch`. After an error the writer is good for [`SetWriter::abort`] only.
    pub async fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let runs = self.partitioner.runs(batch)?;
        let columns = self.projection.apply(batch)?;
        for run in runs {
            let directory = directory(&run.values);
            if self.open.as_ref().is_none_or(|open| open.directory != directory) {
                self.begin_partition(Partition { directory, values: run.values, rewrites: 0 }).await?;
            }
            if let Some(partition) = &self.open {
                self.files.append(partition, columns.slice(run.rows.start, run.rows.len())).await?;
            }
        }
        Ok(())
    }

    /// Writes the rows of committed files of one partition once more, as fewer files: in the order in which the rows of
    /// one file are sorted, and where that leaves it open in the order of the files. One file at a time is read where
    /// rows are not sorted, else all of them side by side, a row group of each in memory.
    ///
    /// Files of an earlier definition may be unlike those of this writer: then nothing is written, and they are told.
    pub async fn merge(&mut self, merge: &Merge, stop: &CancellationToken) -> Result<MergeEnd> {
        let Some(first) = merge.files.first() else { return Ok(MergeEnd::Written) };
        let directory = first.path.rsplit_once('/').map_or(String::new(), |(directory, _)| format!("{directory}/"));
        let partition = Partition { directory, values: first.partition.clone(), rewrites: merge.rewrites };
        self.begin_partition(partition.clone()).await?;
        let (location, schema) = (self.files.location.clone(), Arc::clone(self.files.schema()));
        let (order, memory) = (self.sorted_by.clone(), self.memory.clone());
        let rows = match committed_rows(&location, &schema, &merge.files, order.as_ref(), memory.as_ref()).await? {
            CommittedRows::Merged(rows) => rows,
            CommittedRows::Unlike(files) => return Ok(MergeEnd::Unlike(files)),
        };
        let Some(written) = self.files.append_all(&partition, rows, stop).await? else {
            return Ok(MergeEnd::Stopped);
        };
        let expected: u64 = merge.files.iter().map(|file| file.rows).sum();
        if written != expected {
            let message = format!("merged files of feature set `{}` had {expected} rows, not {written}", self.name);
            return Err(Error::Internal { message });
        }
        Ok(MergeEnd::Written)
    }

    /// Ends the writing: every file is complete, and synced where it is on local disk. No rows make no file.
    pub async fn finish(self) -> Result<Vec<DataFile>> {
        self.files.finish().await
    }

    /// Gives up: removes what was written, where the store lets us; the next sweep finds the rest.
    pub async fn abort(self) {
        self.files.abort().await;
    }

    async fn begin_partition(&mut self, partition: Partition) -> Result<()> {
        let Partition { directory, values, .. } = &partition;
        self.files.end_open().await?;
        if !self.seen.insert(directory.clone()) {
            let message = format!("rows of feature set `{}` are not sorted: `{directory}` came back", self.name);
            return Err(Error::Internal { message });
        }
        if self.refuses_empty_text
            && let Some((column, _)) = values.iter().find(|(_, value)| value.as_deref() == Some(""))
        {
            return Err(Error::Delta {
                location: self.files.location.as_text().to_owned(),
                reason: format!(
                    "partition column `{column}` has an empty text, which a Delta table cannot tell from NULL: \
                     write `nullif({column}, '')`"
                ),
                transient: false,
            });
        }
        self.open = Some(partition);
        Ok(())
    }
}
#[cfg(test)]
mod tests;
