//! The table of rejected records.

use std::sync::{Arc, LazyLock};

use arrow_schema::{DataType, Field, Schema, SchemaRef};
use bessemer_schemas::IncludeKind;

/// Columns of the table of rejected records of one range of offsets:
///
/// | column | type | |
/// | --- | --- | --- |
/// | `offset` | `Int64` | |
/// | `timestamp` | `Timestamp(µs, UTC)`, nullable | of the record |
/// | `key` | `Binary`, nullable | |
/// | `headers` | `List<Struct<key, value>>` | |
/// | `byte_len` | `UInt64` | length of the value |
/// | `reason` | `Utf8` | code, [`bessemer_schemas::RejectReason::as_str`] |
/// | `column` | `Utf8`, nullable | the column at fault |
/// | `schema_id` | `Int64`, nullable | the schema that the value was written with, where it says so |
/// | `original` | `Binary` | the first [`crate::formats::text::ORIGINAL_BYTES_MAX`] bytes of the value |
pub fn reject_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        Arc::new(Schema::new(vec![
            Field::new("offset", DataType::Int64, false),
            Field::new("timestamp", IncludeKind::Timestamp.data_type(), true),
            Field::new("key", DataType::Binary, true),
            Field::new("headers", IncludeKind::Headers.data_type(), false),
            Field::new("byte_len", DataType::UInt64, false),
            Field::new("reason", DataType::Utf8, false),
            Field::new("column", DataType::Utf8, true),
            Field::new("schema_id", DataType::Int64, true),
            Field::new("original", DataType::Binary, false),
        ]))
    });
    Arc::clone(&SCHEMA)
}
