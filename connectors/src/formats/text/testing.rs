//! One way for all tests here to decode a text and to say what came out.

use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::types::UInt64Type;
use arrow::array::{Array, RecordBatch};
use arrow::util::display::array_value_to_string;
use arrow_schema::{DataType, Field, Schema};

use super::{CsvOptions, DecodeLimits, FileFault, JsonOptions, TextDecoder, TextDecoderOptions, TextFormat};

pub(super) fn json() -> TextFormat {
    TextFormat::Json(JsonOptions::default())
}

pub(super) fn csv() -> TextFormat {
    TextFormat::Csv(CsvOptions::default())
}

/// Nullable columns `a`, `b`, … of these types.
pub(super) fn columns(types: &[DataType]) -> Vec<Field> {
    let names = ["a", "b", "c", "d", "e"];
    types.iter().zip(names).map(|(data_type, name)| Field::new(name, data_type.clone(), true)).collect()
}

pub(super) fn options(format: TextFormat, fields: Vec<Field>) -> TextDecoderOptions {
    TextDecoderOptions {
        schema: Arc::new(Schema::new(fields)),
        projection: None,
        format,
        defaults: Vec::new(),
        limits: DecodeLimits::default(),
    }
}

/// Rows as `record: value|value`, then rejects as `record: !reason column`, in the order of the records.
pub(super) fn outcome(options: TextDecoderOptions, text: &[u8]) -> Result<Vec<String>, FileFault> {
    let mut decoder = TextDecoder::new(options).unwrap();
    for byte in text.chunks(3) {
        decoder.feed(byte)?;
    }
    decoder.finish_object()?;
    let mut lines: Vec<(u64, String)> = Vec::new();
    while let Some(decoded) = decoder.next_batch() {
        for (row, record) in decoded.numbers.iter().enumerate() {
            lines.push((record, show(&decoded.batch, row)));
        }
    }
    if let Some(rejects) = decoder.take_rejects()? {
        let record = rejects.column(0).as_primitive::<UInt64Type>();
        let (reason, column) = (rejects.column(4).as_string::<i32>(), rejects.column(5).as_string::<i32>());
        for row in 0..rejects.num_rows() {
            let column = if column.is_valid(row) { format!(" {}", column.value(row)) } else { String::new() };
            lines.push((record.value(row), format!("!{}{column}", reason.value(row))));
        }
    }
    lines.sort();
    Ok(lines.into_iter().map(|(_, line)| line).collect())
}

fn show(batch: &RecordBatch, row: usize) -> String {
    let cell = |array: &Arc<dyn Array>| {
        if array.is_null(row) { "null".to_owned() } else { array_value_to_string(array, row).unwrap() }
    };
    batch.columns().iter().map(cell).collect::<Vec<_>>().join("|")
}
