//! Formats: records to Arrow, strictly.

pub mod compression;
pub mod text;

pub(crate) mod avro;
pub(crate) mod ipc;
pub(crate) mod parquet;
#[cfg(feature = "kafka")]
pub(crate) mod protobuf;
#[cfg(feature = "kafka")]
pub(crate) mod rows;
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
