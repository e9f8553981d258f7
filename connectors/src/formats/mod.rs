//! Formats: records to Arrow, strictly.

pub mod avro;
pub mod compression;
#[cfg(feature = "kafka")]
pub mod protobuf;
#[cfg(feature = "kafka")]
pub mod rows;
pub mod text;

mod growth;
pub(crate) mod ipc;
pub(crate) mod parquet;
#[cfg(test)]
#[cfg(feature = "kafka")]
mod test_records;
pub(crate) mod widening;

use arrow::array::RecordBatch;
use arrow_schema::{ArrowError, SchemaRef};

/// A file of a format that carries its schema, read front to back.
pub(crate) struct Opened {
    /// Its schema.
    pub(crate) schema: SchemaRef,
    /// Its batches.
    pub(crate) batches: Box<dyn Iterator<Item = Result<RecordBatch, ArrowError>> + Send>,
}
