use std::sync::Arc;

use arrow::util::pretty::pretty_format_batches;
use arrow_schema::{DataType, Field, Schema, TimeUnit};

use crate::formats::text::{
    CHANGE_COLUMNS, JsonOptions, RecordFault, TextDecoder, TextDecoderOptions, TextFormat, TimestampFormat,
};

/// Decodes changes of rows with an id, a name, a day and a time; the rows, and why records are none.
fn decode(records: &[&str], timestamp_format: TimestampFormat) -> (String, Vec<String>) {
    let mut fields = vec![
        Field::new("id", DataType::Int64, false),
        Field::new("name", DataType::Utf8, true),
        Field::new("day", DataType::Date32, true),
        Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, None), true),
    ];
    fields.extend(CHANGE_COLUMNS.map(|kind| Field::new(kind.as_sql(), kind.data_type(), kind.is_nullable())));
    let mut decoder = TextDecoder::new(TextDecoderOptions {
        schema: Arc::new(Schema::new(fields)),
        projection: None,
        format: TextFormat::Debezium(JsonOptions { timestamp_format, ..JsonOptions::default() }),
        defaults: Vec::new(),
        limits: crate::formats::text::DecodeLimits::default(),
    })
    .unwrap();
    let mut reasons = Vec::new();
    for (record, number) in records.iter().zip(0..) {
        match decoder.decode_record(number, record.as_bytes()).unwrap() {
            Ok(()) => {}
            Err(RecordFault { reason, column }) => {
                reasons.push(format!("{number} {} {}", reason.as_str(), column.unwrap_or_default()));
            }
        }
    }
    decoder.flush().unwrap();
    let batches: Vec<_> = decoder.next_batch().into_iter().map(|decoded| decoded.batch).collect();
    let text = pretty_format_batches(&batches).unwrap().to_string();
    let lines = text.lines().filter(|line| !line.starts_with('+')).skip(1);
    let rows = lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>().join("\n");
    (rows, reasons)
}

#[test]
fn a_change_is_the_row_after_it_and_of_a_delete_the_row_before_it() {
    let records = [
        r#"{"before": null, "after": {"id": 1, "name": "a"}, "source": {"db": "x", "ts_ms": 1000}, "op": "c", "ts_ms": 9}"#,
        r#"{"op": "u", "before": {"id": 1, "name": "a"}, "after": {"name": "b", "id": 1, "more": [{}]}}"#,
        r#"{"schema": {"type": "struct", "fields": [{"op": "u"}]}, "payload":
            {"after": null, "before": {"id": 1, "name": "b"}, "source": {"ts_ms": null}, "op": "d", "transaction": null}}"#,
        r#"{"after": {"id": 2, "name": null}, "op": "r", "source": null}"#,
    ];
    let (rows, reasons) = decode(&records, TimestampFormat::iso());
    let expected =
        "| 1 | a | | | c | 1970-01-01T00:00:01Z |\n| 1 | b | | | u | |\n| 1 | b | | | d | |\n| 2 | | | | r | |";
    assert_eq!((rows.as_str(), reasons), (expected, Vec::new()));
}

#[test]
fn dates_and_times_are_numbers_or_texts() {
    let records = [
        r#"{"after": {"id": 1, "day": 15706, "at": 1500000}, "op": "c"}"#,
        r#"{"after": {"id": 2, "day": "2013-01-01", "at": "1970-01-01T00:00:01.5Z"}, "op": "c"}"#,
    ];
    let (rows, reasons) = decode(&records, TimestampFormat::epoch(TimeUnit::Microsecond));
    let expected =
        "| 1 | | 2013-01-01 | 1970-01-01T00:00:01.500 | c | |\n| 2 | | 2013-01-01 | 1970-01-01T00:00:01.500 | c | |";
    assert_eq!((rows.as_str(), reasons), (expected, Vec::new()));
    // In which unit a number is, nobody has said.
    assert_eq!(decode(&records, TimestampFormat::iso()).1, ["0 wrong_type at"]);
}

#[test]
fn what_is_no_change_of_a_row_is_rejected() {
    let records = [
        r#"{"id": 1, "name": "a"}"#,
        r#"{"after": {"id": 1}, "op": "x"}"#,
        r#"{"after": {"id": 1}, "op": 1}"#,
        r#"{"before": null, "after": null, "op": "t"}"#,
        r#"{"before": null, "after": null, "op": "d"}"#,
        r#"{"schema": {}, "payload": null}"#,
        r#"{"after": {"name": "a"}, "op": "c"}"#,
        r#"{"after": [1], "op": "c"}"#,
        r#"{"after": {"id": "1"}, "op": "c"}"#,
        r#"{"after": {"id": 1}, "after": {"id": 2}, "op": "c"}"#,
        r#"{"after": {"id": 1}, "op": "c", "more": {"a": 1, "a": 2}}"#,
        r#"{"after": {"id": 1}, "op": "c"} x"#,
        r#"{"after": {"id": 1, "op": "c"}"#,
        "[]",
        "",
        r#"{"after": {"id": 3}, "op": "c"}"#,
    ];
    let (rows, reasons) = decode(&records, TimestampFormat::iso());
    assert_eq!(rows, "| 3 | | | | c | |");
    let expected = [
        "0 invalid_envelope ",
        "1 invalid_envelope ",
        "2 invalid_envelope ",
        "3 no_row_image ",
        "4 no_row_image ",
        "5 invalid_envelope ",
        "6 null_in_not_null id",
        "7 invalid_json ",
        "8 wrong_type id",
        "9 duplicate_key ",
        "10 duplicate_key ",
        "11 invalid_json ",
        "12 invalid_json ",
        "13 invalid_json ",
        "14 invalid_json ",
    ];
    assert_eq!(reasons, expected);
}
