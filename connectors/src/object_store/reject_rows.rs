//! Rejects of rows that came from formats without text: their original is the row as JSON.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, RecordBatch, StringArray, UInt64Array};
use arrow::compute::cast;
use arrow::datatypes::{Float64Type, Int64Type, UInt64Type};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use arrow_schema::DataType;
use bessemer_schemas::RejectReason;
use serde_json::Value;

use crate::formats::text::{ORIGINAL_BYTES_MAX, reject_schema};
use crate::{Error, Result};

/// One reject.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct RowReject {
    /// Number of the record in its object.
    pub(super) record: u64,
    /// Why.
    pub(super) reason: RejectReason,
    /// Which column is at fault.
    pub(super) column: Option<String>,
    /// The record, or its beginning.
    pub(super) original: Vec<u8>,
    /// Length of the whole record.
    pub(super) length: u64,
}

impl RowReject {
    /// The reject of a row that is `json`, of which no more is kept than goes to quarantine.
    pub(super) fn new(record: u64, reason: RejectReason, column: &str, mut json: Vec<u8>) -> Self {
        let length = json.len() as u64;
        json.truncate(ORIGINAL_BYTES_MAX);
        json.shrink_to_fit();
        Self { record, reason, column: Some(column.to_owned()), original: json, length }
    }
}

/// A table of rejects.
pub(super) fn reject_batch(rejects: &[RowReject]) -> Result<RecordBatch> {
    let numbers =
        |of: fn(&RowReject) -> u64| -> ArrayRef { Arc::new(UInt64Array::from_iter_values(rejects.iter().map(of))) };
    let cut = |reject: &RowReject| reject.original.len().min(ORIGINAL_BYTES_MAX);
    let columns: Vec<ArrayRef> = vec![
        numbers(|reject| reject.record),
        // Rows of such formats have no lines; the record's number from 1 stands for it.
        numbers(|reject| reject.record + 1),
        numbers(|_| 0),
        numbers(|reject| reject.length),
        Arc::new(StringArray::from_iter_values(rejects.iter().map(|reject| reject.reason.as_str()))),
        Arc::new(rejects.iter().map(|reject| reject.column.as_deref()).collect::<StringArray>()),
        Arc::new(BinaryArray::from_iter_values(rejects.iter().map(|reject| &reject.original[..cut(reject)]))),
    ];
    Ok(RecordBatch::try_new(reject_schema(), columns)?)
}

/// A row as a JSON object, its columns in their order.
pub(super) fn row_json(batch: &RecordBatch, row: usize) -> Result<Vec<u8>> {
    let mut json = vec![b'{'];
    for (at, (field, column)) in batch.schema_ref().fields().iter().zip(batch.columns()).enumerate() {
        if at > 0 {
            json.push(b',');
        }
        write_json(&mut json, &Value::from(field.name().as_str()))?;
        json.push(b':');
        write_json(&mut json, &json_value(column, row)?)?;
    }
    json.push(b'}');
    Ok(json)
}

fn write_json(json: &mut Vec<u8>, value: &Value) -> Result<()> {
    let failed = |error| Error::Internal { message: format!("a row is no JSON: {error}") };
    serde_json::to_writer(json, value).map_err(failed)
}

fn json_value(column: &ArrayRef, row: usize) -> Result<Value> {
    if column.logical_nulls().is_some_and(|nulls| nulls.is_null(row)) {
        return Ok(Value::Null);
    }
    let one = column.slice(row, 1);
    Ok(match column.data_type() {
        DataType::Boolean => Value::from(one.as_boolean().value(0)),
        DataType::UInt64 => Value::from(one.as_primitive::<UInt64Type>().value(0)),
        data_type if data_type.is_integer() => {
            Value::from(cast(&one, &DataType::Int64)?.as_primitive::<Int64Type>().value(0))
        }
        data_type if data_type.is_floating() => {
            Value::from(cast(&one, &DataType::Float64)?.as_primitive::<Float64Type>().value(0))
        }
        _ => Value::from(ArrayFormatter::try_new(one.as_ref(), &FormatOptions::default())?.value(0).to_string()),
    })
}
