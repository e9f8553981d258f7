//! Writes the rows of one stream of a feature set.

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use bessemer_schemas::DataFile;
use datafusion_execution::memory_pool::MemoryPool;

use super::file_sequence::{FileSequence, MemoryBudget, Partition, WriterNaming};
use super::options::{BloomFilter, FeatureSetOptions, SetFormat};
use super::partition::{PartitionValues, Partitioner, directory};
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
                self.begin_partition(directory, run.values).await?;
            }
            if let Some(partition) = &self.open {
                self.files.append(partition, columns.slice(run.rows.start, run.rows.len())).await?;
            }
        }
        Ok(())
    }

    /// Ends the writing: every file is complete, and synced where it is on local disk. No rows make no file.
    pub async fn finish(self) -> Result<Vec<DataFile>> {
        self.files.finish().await
    }

    /// Gives up: removes what was written, where the store lets us; the next sweep finds the rest.
    pub async fn abort(self) {
        self.files.abort().await;
    }

    async fn begin_partition(&mut self, directory: String, values: PartitionValues) -> Result<()> {
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
        self.open = Some(Partition { directory, values });
        Ok(())
    }
}
#[cfg(test)]
mod tests;
