//! The table of rejected records.

use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, BinaryBuilder, RecordBatch, StringBuilder, UInt64Builder};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};
use bessemer_schemas::RejectReason;

/// How many bytes of a rejected record are kept; `byte_len` has its full length.
pub const ORIGINAL_BYTES_MAX: usize = 64 << 10;

/// Columns of the table of rejected records:
///
/// | column | type | |
/// | --- | --- | --- |
/// | `record` | `UInt64` | number of the record in its object, from 0 |
/// | `line` | `UInt64` | physical line on which it begins, from 1 |
/// | `byte_start` | `UInt64` | offset in the decompressed object |
/// | `byte_len` | `UInt64` | length without the line break |
/// | `reason` | `Utf8` | code, [`RejectReason::as_str`] |
/// | `column` | `Utf8`, nullable | the column at fault, `outer.inner` for nested ones |
/// | `original` | `Binary` | the first [`ORIGINAL_BYTES_MAX`] bytes |
pub fn reject_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        Arc::new(Schema::new(vec![
            Field::new("record", DataType::UInt64, false),
            Field::new("line", DataType::UInt64, false),
            Field::new("byte_start", DataType::UInt64, false),
            Field::new("byte_len", DataType::UInt64, false),
            Field::new("reason", DataType::Utf8, false),
            Field::new("column", DataType::Utf8, true),
            Field::new("original", DataType::Binary, false),
        ]))
    });
    Arc::clone(&SCHEMA)
}

/// Where a record is in its object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) record: u64,
    pub(super) line: u64,
    pub(super) byte_start: u64,
    pub(super) byte_len: u64,
}

/// Collects rejected records.
#[derive(Debug, Default)]
pub(super) struct Rejects {
    record: UInt64Builder,
    line: UInt64Builder,
    byte_start: UInt64Builder,
    byte_len: UInt64Builder,
    reason: StringBuilder,
    column: StringBuilder,
    original: BinaryBuilder,
    rows: usize,
}

impl Rejects {
    pub(super) fn push(&mut self, place: Place, reason: RejectReason, column: Option<&str>, original: &[u8]) {
        self.record.append_value(place.record);
        self.line.append_value(place.line);
        self.byte_start.append_value(place.byte_start);
        self.byte_len.append_value(place.byte_len);
        self.reason.append_value(reason.as_str());
        self.column.append_option(column);
        self.original.append_value(&original[..original.len().min(ORIGINAL_BYTES_MAX)]);
        self.rows += 1;
    }

    pub(super) fn len(&self) -> usize {
        self.rows
    }

    /// What was collected, if anything.
    pub(super) fn take(&mut self) -> Result<Option<RecordBatch>, ArrowError> {
        if self.rows == 0 {
            return Ok(None);
        }
        self.rows = 0;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.record.finish()),
            Arc::new(self.line.finish()),
            Arc::new(self.byte_start.finish()),
            Arc::new(self.byte_len.finish()),
            Arc::new(self.reason.finish()),
            Arc::new(self.column.finish()),
            Arc::new(self.original.finish()),
        ];
        RecordBatch::try_new(reject_schema(), columns).map(Some)
    }
}
