//! Partial aggregates of a feature set: files below the pipeline's state, written as one stream and read as one.

use std::sync::Arc;

use arrow::compute::cast;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use bessemer_schemas::{DataFile, Digest};
use datafusion_common::DataFusionError;
use datafusion_execution::memory_pool::MemoryPool;
use datafusion_execution::{SendableRecordBatchStream, TaskContext};
use datafusion_physical_plan::stream::RecordBatchStreamAdapter;
use datafusion_physical_plan::streaming::PartitionStream;
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStoreExt;

use super::file_sequence::WriterNaming;
use super::options::{BloomFilter, FeatureSetOptions};
use super::partition::escape;
use super::quarantine::read_in_batches;
use super::set_writer::{SetWriter, WrittenSet};
use crate::{Error, Location, Result};

/// Folder of a set's partial aggregates below a pipeline's state; the paths of its [`DataFile`]s are relative to it.
pub fn state_location(state: &Location, set: &str) -> Location {
    let mut folder = "aggregates/".to_owned();
    escape(set, &mut folder);
    state.child(&folder)
}

/// A writer of the partial aggregates of `set`.
pub fn state_writer(
    state: &Location,
    pipeline: &str,
    set: &str,
    schema: &SchemaRef,
    naming: WriterNaming,
    memory: &Arc<dyn MemoryPool>,
) -> Result<SetWriter> {
    let mut options = FeatureSetOptions::with_defaults(state_location(state, set));
    options.bloom_filter = BloomFilter::None;
    let written = WrittenSet { memory: Some(Arc::clone(memory)), ..WrittenSet::new(pipeline, set) };
    SetWriter::new(&options, schema, naming, written)
}

/// Partial aggregates that were written.
#[derive(Debug, Clone)]
pub struct StateFiles {
    location: Location,
    files: Vec<DataFile>,
    schema: SchemaRef,
}

impl StateFiles {
    /// The `files` of `set`, whose columns are those of `schema`.
    pub fn new(state: &Location, set: &str, files: Vec<DataFile>, schema: SchemaRef) -> Self {
        Self { location: state_location(state, set), files, schema }
    }

    /// The files.
    pub fn files(&self) -> &[DataFile] {
        &self.files
    }

    /// The digest of all their bytes.
    ///
    /// # Errors
    /// [`Error::Damaged`] where a file is gone; the store's trouble if it cannot be asked.
    pub async fn digest(&self) -> Result<Digest> {
        let mut hasher = blake3::Hasher::new();
        for file in &self.files {
            let failed = |error| missing(Error::store(format!("{}/{}", self.location.as_text(), file.path), error));
            let read = self.location.store().get(&self.location.path(&file.path)).await.map_err(failed)?;
            let mut bytes = read.into_stream();
            while let Some(bytes) = bytes.try_next().await.map_err(failed)? {
                hasher.update(&bytes);
            }
        }
        Ok(Digest(hasher.finalize().to_hex().to_string()))
    }
}

impl PartitionStream for StateFiles {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let batch_rows = context.session_config().batch_size();
        let rows = read_in_batches(&self.location, &self.files, u64::MAX, Some(batch_rows));
        let schema = Arc::clone(&self.schema);
        // A file says more of its columns than their types, and texts in views are plain texts in it.
        let rows = rows.map(move |batch| -> Result<RecordBatch, DataFusionError> {
            let batch = batch.map_err(|error| DataFusionError::External(Box::new(missing(error))))?;
            let columns = batch.columns().iter().zip(schema.fields());
            let columns = columns.map(|(column, field)| cast(column, field.data_type()));
            Ok(RecordBatch::try_new(Arc::clone(&schema), columns.collect::<Result<_, _>>()?)?)
        });
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), rows))
    }
}

/// A committed file that is not there is damage, unless another writer has taken over and swept it: that is told apart by
/// whoever holds the pipeline.
fn missing(error: Error) -> Error {
    match error {
        Error::NotFound { location, .. } => Error::Damaged { path: location, reason: "it is gone".to_owned() },
        error => error,
    }
}
