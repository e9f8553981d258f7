//! What the tests of the record formats share: bytes of records in, rows and reasons out.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::util::pretty::pretty_format_batches;
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};

use super::rows::{RowBuilder, RowBuilderOptions};
use super::text::{DecodeLimits, RecordFault, TimestampFormat};

/// What a record becomes: nothing, or why it is no row.
pub(super) type Outcome = Result<(), RecordFault>;

pub(super) fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number > 0x7f {
        bytes.push(u8::try_from(number & 0x7f).unwrap() | 0x80);
        number >>= 7;
    }
    bytes.push(u8::try_from(number).unwrap());
    bytes
}

pub(super) fn columns(fields: Vec<Field>) -> SchemaRef {
    Arc::new(Schema::new(fields))
}

pub(super) fn micros() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// Rows of some of `columns`.
pub(super) fn rows_of(columns: &SchemaRef, projection: &[usize]) -> RowBuilder {
    RowBuilder::new(RowBuilderOptions {
        schema: columns,
        projection,
        defaults: &[],
        timestamp_format: &TimestampFormat::iso(),
        limits: DecodeLimits::default(),
        format: "record",
    })
    .unwrap()
}

/// Reads records one after another into rows of all columns.
pub(super) fn read_records(
    columns: &SchemaRef,
    records: &[Vec<u8>],
    mut read: impl FnMut(u64, &[u8], &mut RowBuilder) -> Outcome,
) -> (Option<RecordBatch>, Vec<Outcome>) {
    let all: Vec<_> = (0..columns.fields().len()).collect();
    let mut rows = rows_of(columns, &all);
    let outcomes = records.iter().zip(0..).map(|(record, number)| read(number, record, &mut rows)).collect();
    rows.flush().unwrap();
    (rows.next_batch(), outcomes)
}

/// The rows of records that all are some.
pub(super) fn table((batch, outcomes): (Option<RecordBatch>, Vec<Outcome>)) -> String {
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    let text = pretty_format_batches(&[batch.unwrap()]).unwrap().to_string();
    let lines = text.lines().filter(|line| !line.starts_with('+')).skip(1);
    lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>().join("\n")
}

/// What each record is: a row, or why not.
pub(super) fn reasons((_, outcomes): (Option<RecordBatch>, Vec<Outcome>)) -> Vec<String> {
    let told = outcomes.into_iter().map(|outcome| match outcome {
        Ok(()) => "row".to_owned(),
        Err(RecordFault { reason, column: None }) => reason.as_str().to_owned(),
        Err(RecordFault { reason, column: Some(column) }) => format!("{} {column}", reason.as_str()),
    });
    told.collect()
}
