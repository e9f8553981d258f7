//! What the module `options` promises, tested.

use bessemer_schemas::{Diagnostic, OptionEntry, OptionMap, OptionValue, Span};

use super::{CsvOptions, DecodeLimits, Encoding, JsonOptions, OnExtra, TimestampFormat};

fn map(options: &[(&str, &str)]) -> OptionMap {
    let entry = |(key, value): &(&str, &str)| OptionEntry {
        key: (*key).to_owned(),
        key_span: Span::default(),
        value: OptionValue::Text((*value).to_owned()),
        value_span: Span::default(),
    };
    OptionMap::new("source `x`", Span::default(), options.iter().map(entry).collect())
}

fn messages(map: OptionMap) -> Vec<String> {
    map.finish("format `csv`").into_iter().map(|Diagnostic { message, .. }| message).collect()
}

#[test]
fn csv_options_are_taken() {
    let mut given = map(&[
        ("header", "false"),
        ("delimiter", "\\t"),
        ("quote", ""),
        ("escape", "\\"),
        ("comment", "#"),
        ("null_values", "NA, NULL"),
        ("trim", "true"),
        ("encoding", "latin-1"),
        ("on_extra", "reject"),
        ("timestamp_format", "%d/%m/%Y"),
    ]);
    let taken = CsvOptions::take(&mut given);
    let expected = CsvOptions {
        header: false,
        delimiter: b'\t',
        quote: None,
        escape: Some(b'\\'),
        comment: Some(b'#'),
        null_values: vec!["NA".to_owned(), "NULL".to_owned()],
        trim: true,
        encoding: Encoding::Latin1,
        on_extra: OnExtra::Reject,
        timestamp_format: TimestampFormat::pattern("%d/%m/%Y").unwrap(),
    };
    assert_eq!(taken, expected);
    assert_eq!(messages(given), [""; 0]);
}

#[test]
fn nothing_given_is_the_default() {
    let mut given = map(&[]);
    assert_eq!(CsvOptions::take(&mut given), CsvOptions::default());
    assert_eq!(JsonOptions::take(&mut given), JsonOptions::default());
    assert_eq!(DecodeLimits::take(&mut given), DecodeLimits::default());
}

#[test]
fn every_wrong_value_is_reported() {
    let mut given = map(&[
        ("delimiter", ";;"),
        ("quote", "ä"),
        ("encoding", "utf-9"),
        ("timestamp_format", "epoch"),
        ("max_record_bytes", "1GiB"),
    ]);
    CsvOptions::take(&mut given);
    DecodeLimits::take(&mut given);
    let messages = messages(given);
    assert_eq!(messages.len(), 5, "{messages:?}");
    assert!(messages.iter().all(|message| message.contains("cannot be")), "{messages:?}");
}

#[test]
fn marks_must_differ() {
    let mut given = map(&[("delimiter", ";"), ("quote", ";")]);
    CsvOptions::take(&mut given);
    assert_eq!(messages(given), ["options `delimiter` and `quote` of source `x` are the same character"]);
}
