//! Text as the value of a record: JSON, CSV and changes of Debezium, each a row or a reject, and JSON the same as in a
//! file.

use std::sync::Arc;

use arrow::util::display::{ArrayFormatter, FormatOptions};
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use bessemer_connectors::formats::text::{
    CHANGE_COLUMNS, CsvOptions, DecodeLimits, JsonOptions, TextDecoder, TextDecoderOptions, TextFormat,
};
use rand::Rng;
use rand::rngs::StdRng;

use crate::bytes::mutate;

/// Decodes random records of a random format.
pub(crate) fn check(rng: &mut StdRng, corpus: &[Vec<u8>]) -> Result<(u64, u64), String> {
    let format = match rng.random_range(0..3) {
        0 => TextFormat::Json(JsonOptions::default()),
        1 => TextFormat::Debezium(JsonOptions::default()),
        _ => TextFormat::Csv(CsvOptions { header: false, ..CsvOptions::default() }),
    };
    let limits = DecodeLimits { batch_rows: rng.random_range(1..8), ..DecodeLimits::default() };
    let (mut whole, mut framed) = (decoder(&format, limits)?, decoder(&format, limits)?);
    let (mut rows, mut rejected, records) = (Vec::new(), 0, rng.random_range(1..20));
    for number in 0..records {
        let mut record = match corpus.get(rng.random_range(0..corpus.len() * 2 + 2)) {
            Some(record) => record.clone(),
            None => record(rng, &format).into_bytes(),
        };
        if rng.random_bool(0.5) {
            mutate(rng, &mut record);
        }
        let told = |what: &str| Err(format!("{format:?} `{}`: {what}", record.escape_ascii()));
        let outcome = whole.decode_record(number, &record).map_err(|fault| fault.to_string())?;
        rejected += u64::from(outcome.is_err());
        take(&mut whole, &mut rows)?;
        let is_line = !record.iter().any(|byte| matches!(byte, b'\n' | b'\r')) && record.starts_with(b"{");
        if matches!(format, TextFormat::Json(_)) && is_line {
            framed.feed(&record).map_err(|fault| fault.to_string())?;
            let counts = framed.finish_object().map_err(|fault| fault.to_string())?;
            if (counts.records, counts.rejected) != (1, u64::from(outcome.is_err())) {
                return told(&format!("{outcome:?} alone, {counts:?} in a file"));
            }
            framed.take_rejects().map_err(|fault| fault.to_string())?;
            while framed.next_batch().is_some() {}
        }
    }
    whole.flush().map_err(|fault| fault.to_string())?;
    take(&mut whole, &mut rows)?;
    if rows.len() as u64 + rejected != records {
        return Err(format!("{records} records are {} rows and {rejected} rejects", rows.len()));
    }
    Ok((records, rejected))
}

fn decoder(format: &TextFormat, limits: DecodeLimits) -> Result<TextDecoder, String> {
    let is_csv = matches!(format, TextFormat::Csv(_));
    let mut fields = vec![
        Field::new("id", DataType::Int64, false),
        Field::new("name", DataType::Utf8, true),
        Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, None), true),
    ];
    if !is_csv {
        fields.push(Field::new_list("tags", Field::new_list_field(DataType::Utf8, true), true));
    }
    if matches!(format, TextFormat::Debezium(_)) {
        fields.extend(CHANGE_COLUMNS.map(|kind| Field::new(kind.as_sql(), kind.data_type(), kind.is_nullable())));
    }
    let schema = Arc::new(Schema::new(fields));
    let options = TextDecoderOptions { schema, projection: None, format: format.clone(), defaults: Vec::new(), limits };
    TextDecoder::new(options).map_err(|error| error.to_string())
}

/// Takes the rows that are ready, as text: every value is looked at.
fn take(decoder: &mut TextDecoder, rows: &mut Vec<String>) -> Result<(), String> {
    while let Some(decoded) = decoder.next_batch() {
        let options = FormatOptions::new();
        let columns = decoded.batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options));
        let columns = columns.collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())?;
        for row in 0..decoded.batch.num_rows() {
            let text = columns.iter().map(|column| column.value(row).try_to_string()).collect::<Result<Vec<_>, _>>();
            rows.push(text.map_err(|error| error.to_string())?.join(" "));
        }
    }
    Ok(())
}

fn record(rng: &mut StdRng, format: &TextFormat) -> String {
    let name = ["null", "\"a\"", "\"\\u00e9\"", "\"\"", "7", "[]"][rng.random_range(0..6)];
    let at = ["null", "\"2013-01-01\"", "\"2013-01-01T10:00:00Z\"", "\"x\"", "5"][rng.random_range(0..5)];
    let tags = ["null", "[]", "[\"a\", null]", "[1]", "{}"][rng.random_range(0..5)];
    let id: i32 = rng.random_range(-5..5);
    let row = format!(r#"{{"id": {id}, "name": {name}, "at": {at}, "tags": {tags}}}"#);
    match format {
        TextFormat::Csv(_) => format!("{id},{},2013-01-01", name.trim_matches('"')),
        TextFormat::Json(_) => row,
        TextFormat::Debezium(_) => {
            let (before, after) = if rng.random_bool(0.5) { ("null", row.as_str()) } else { (row.as_str(), "null") };
            let op = ["c", "u", "r", "d", "t", "x"][rng.random_range(0..6)];
            let change = format!(
                r#"{{"before": {before}, "after": {after}, "source": {{"ts_ms": {id}}}, "op": "{op}", "ts_ms": 1}}"#
            );
            if rng.random_bool(0.5) { change } else { format!(r#"{{"schema": {{"a": []}}, "payload": {change}}}"#) }
        }
    }
}
