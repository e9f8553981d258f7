//! What the module `json` promises, tested.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringArray};
use arrow_schema::{DataType, Field, Fields, TimeUnit};
use proptest::prelude::*;

use super::super::testing::{columns, json, options, outcome};
use super::super::{DecodeLimits, JsonOptions, OnExtra, TextDecoderOptions, TextFormat, TimestampFormat};

/// What becomes of `text` as the value of one column of `data_type`.
fn check(data_type: &DataType, text: &str, expected: &str) {
    let record = format!("{{\"a\":{text}}}\n");
    let found = outcome(options(json(), columns(std::slice::from_ref(data_type))), record.as_bytes()).unwrap();
    assert_eq!(found, [expected], "{data_type} {text}");
}

/// What becomes of whole lines, in columns `a BIGINT`, `b VARCHAR`.
fn check_lines(text: &str, expected: &[&str]) {
    let fields = columns(&[DataType::Int64, DataType::Utf8]);
    assert_eq!(outcome(options(json(), fields), text.as_bytes()).unwrap(), expected, "{text}");
}

#[test]
fn lax_json_is_no_json() {
    for line in [
        r#"{"a":1,}"#,
        r#"{,"a":1}"#,
        r#"{"a":1,,"b":"x"}"#,
        r#"{"a":1}{"a":2}"#,
        r#"{"a":1} 2"#,
        r#"{"a" 1}"#,
        r#"{"a":01}"#,
        r#"{"a":+1}"#,
        r#"{"a":.5}"#,
        r#"{"a":NaN}"#,
        r#"{"a":nul}"#,
        r#"{"a":'x'}"#,
        "{a:1}",
        r#"{"a":1"#,
        r#"{"a":"#,
        "{",
        "[1]",
        "1",
        "null",
        r#""text""#,
        "x",
        r#"{"a":1}}"#,
        r#"{"a":tru}"#,
        r#"{"a":1 "b":"x"}"#,
        "{\"b\":\"tab\t\"}",
        r#"{"b":"\ud800"}"#,
        r#"{"zz":[1,]}"#,
        r#"{"zz":{"a":}}"#,
        "{\"a\":1}\u{a0}",
        "\0\"a\":1}",
        "{\0\"a\":1}",
        r#"{"zz":1e}"#,
        "/* */{}",
    ] {
        check_lines(line, &["!invalid_json"]);
    }
}

#[test]
fn two_halves_do_not_make_a_record() {
    check_lines("{\"a\":1,\n\"b\":\"x\"}\n", &["!invalid_json", "!invalid_json"]);
}

#[test]
fn blanks_are_allowed_where_json_allows_them() {
    check_lines(" \t{ \"a\" :\t1 , \"b\":\"x\" } \r\n\n   \n{}", &["1|x", "null|null"]);
}

#[test]
fn syntax_is_the_reason_before_values_are() {
    check_lines(r#"{"a":"x","b":}"#, &["!invalid_json"]);
    check_lines(r#"{"a":"x","a":1}"#, &["!duplicate_key"]);
    check_lines(r#"{"a":"x","a":1"#, &["!invalid_json"]);
    check_lines(r#"{"a":1.5,"b":1}"#, &["!not_whole a"]);
    check_lines(r#"{"b":1,"a":1.5}"#, &["!wrong_type b"]);
}

#[test]
fn duplicate_keys_are_found_everywhere() {
    for line in [
        r#"{"a":1,"b":"x","a":1}"#,
        r#"{"a":1,"\u0061":1}"#,
        r#"{"z":1,"z":2}"#,
        r#"{"z":{"y":1,"y":2}}"#,
        r#"{"z":[{"y":1,"x":0,"y":2}]}"#,
    ] {
        check_lines(line, &["!duplicate_key"]);
    }
}

#[test]
fn duplicates_are_found_among_more_keys_than_are_remembered() {
    let members = |last: usize| {
        let all: Vec<_> = (0..3000).chain([last]).map(|at| format!("\"k{at}\":0")).collect();
        format!("{{{}}}\n", all.join(","))
    };
    check_lines(&members(3000), &["null|null"]);
    check_lines(&(members(3000) + &members(3000)), &["null|null", "null|null"]);
    check_lines(&members(2999), &["!duplicate_key"]);
    check_lines(&members(5), &["!duplicate_key"]);
}

#[test]
fn one_bad_record_costs_one_record() {
    let text =
        "{\"a\":1,\"b\":\"x\"}\n{\"b\":\"lost\",\"a\":false}\n{\"a\":3,\"b\":\"y\"}\n{\"a\":4\n{\"b\":\"z\",\"a\":5}";
    check_lines(text, &["1|x", "!wrong_type a", "3|y", "!invalid_json", "5|z"]);
}

#[test]
fn bytes_that_are_not_utf8_are_told_apart() {
    let fields = columns(&[DataType::Int64, DataType::Utf8]);
    let text = b"{\"a\":1}\n{\"b\":\"\xff\"}\n{\"zz\":\"\xed\xa0\x80\"}\n{\"a\":2}\n\xc3";
    let found = outcome(options(json(), fields), text).unwrap();
    assert_eq!(found, ["1|null", "!invalid_utf8", "!invalid_utf8", "2|null", "!invalid_utf8"]);
}

#[test]
fn whole_numbers_keep_their_range() {
    check(&DataType::Int8, "127", "127");
    check(&DataType::Int8, "128", "!out_of_range a");
    check(&DataType::Int8, "-129", "!out_of_range a");
    check(&DataType::UInt8, "-1", "!out_of_range a");
    check(&DataType::UInt16, "65535", "65535");
    check(&DataType::UInt32, "4294967296", "!out_of_range a");
    check(&DataType::Int64, "-9223372036854775808", "-9223372036854775808");
    check(&DataType::Int64, "9223372036854775808", "!out_of_range a");
    check(&DataType::UInt64, "18446744073709551615", "18446744073709551615");
    check(&DataType::UInt64, "18446744073709551616", "!out_of_range a");
    check(&DataType::Int64, "1.7", "!not_whole a");
    check(&DataType::Int64, "1.0", "1");
    check(&DataType::Int32, "1e2", "100");
    for text in ["\"5\"", "true", "[5]", "{}"] {
        check(&DataType::Int64, text, "!wrong_type a");
    }
}

#[test]
fn floats_do_not_become_infinite() {
    check(&DataType::Float64, "5", "5.0");
    check(&DataType::Float64, "0.1", "0.1");
    check(&DataType::Float64, "1e400", "!out_of_range a");
    check(&DataType::Float64, "-1e400", "!out_of_range a");
    check(&DataType::Float64, "1e-400", "0.0");
    check(&DataType::Float32, "1e39", "!out_of_range a");
    check(&DataType::Float32, "16777217", "16777216.0");
    check(&DataType::Float64, "\"1.5\"", "!wrong_type a");
}

#[test]
fn decimals_are_exact() {
    let decimal = DataType::Decimal128(5, 2);
    check(&decimal, "1.10", "1.10");
    check(&decimal, "\"-123.45\"", "-123.45");
    check(&decimal, "999.99", "999.99");
    check(&decimal, "1000", "!out_of_range a");
    check(&decimal, "1.001", "!out_of_range a");
    check(&decimal, "1.0010e1", "10.01");
    check(&decimal, "1.0011e1", "!out_of_range a");
    check(&decimal, "\"abc\"", "!wrong_type a");
    check(&decimal, "true", "!wrong_type a");
    check(&DataType::Decimal128(38, 20), "0.10000000000000000001", "0.10000000000000000001");
}

#[test]
fn texts_are_texts() {
    for text_type in [DataType::Utf8, DataType::LargeUtf8, DataType::Utf8View] {
        check(&text_type, r#""Zür\u0069ch, a long one""#, "Zürich, a long one");
        check(&text_type, "\"\"", "");
        check(&text_type, "null", "null");
        for text in ["1", "true", "{}", "[]"] {
            check(&text_type, text, "!wrong_type a");
        }
    }
}

#[test]
fn a_json_column_takes_any_value() {
    let metadata = [("ARROW:extension:name".to_owned(), "arrow.json".to_owned())].into();
    let field = Field::new("a", DataType::Utf8, true).with_metadata(metadata);
    let text =
        "{\"a\":{\"x\": [1, 2]}}\n{\"a\":\"t\"}\n{\"a\":1.50}\n{\"a\":null}\n{\"a\":{\"x\":1,\"x\":2}}\n{\"a\":[1,]}\n";
    let found = outcome(options(json(), vec![field]), text.as_bytes()).unwrap();
    assert_eq!(found, [r#"{"x": [1, 2]}"#, r#""t""#, "1.50", "null", "!duplicate_key", "!invalid_json"]);
}

#[test]
fn binary_is_base64() {
    for binary in [DataType::Binary, DataType::LargeBinary, DataType::BinaryView] {
        check(&binary, "\"Zm9vYmFy\"", "666f6f626172");
        check(&binary, "\"Zm9vYmF\"", "!wrong_type a");
        check(&binary, "1", "!wrong_type a");
    }
}

#[test]
fn dates_and_times_are_iso() {
    check(&DataType::Date32, "\"2013-01-31\"", "2013-01-31");
    check(&DataType::Date32, "\"2013-02-31\"", "!out_of_range a");
    check(&DataType::Date32, "15000", "!wrong_type a");
    check(&DataType::Time64(TimeUnit::Microsecond), "\"23:59:59.5\"", "23:59:59.500");
    let micros = DataType::Timestamp(TimeUnit::Microsecond, None);
    check(&micros, "\"2013-01-01T12:00:00.25+02:00\"", "2013-01-01T10:00:00.250");
    check(&micros, "\"2013-01-01T00:00:00.1234567\"", "!out_of_range a");
    check(&micros, "1357034400", "!wrong_type a");
    check(&micros, "\"yesterday\"", "!wrong_type a");
    let utc = DataType::Timestamp(TimeUnit::Second, Some("UTC".into()));
    check(&utc, "\"2013-01-01 12:00+02\"", "2013-01-01T10:00:00Z");
    check(&utc, "\"2013-01-01 10:00\"", "2013-01-01T10:00:00Z");
}

#[test]
fn timestamps_may_be_numbers() {
    let check = |unit: TimeUnit, format: TimestampFormat, text: &str, expected: &str| {
        let format = TextFormat::Json(JsonOptions { timestamp_format: format, ..JsonOptions::default() });
        let fields = columns(&[DataType::Timestamp(unit, None)]);
        let found = outcome(options(format, fields), format!("{{\"a\":{text}}}").as_bytes()).unwrap();
        assert_eq!(found, [expected], "{text}");
    };
    let (seconds, millis) = (TimestampFormat::epoch(TimeUnit::Second), TimestampFormat::epoch(TimeUnit::Millisecond));
    check(TimeUnit::Microsecond, seconds.clone(), "1357034400.25", "2013-01-01T10:00:00.250");
    check(TimeUnit::Microsecond, millis.clone(), "-1", "1969-12-31T23:59:59.999");
    check(TimeUnit::Second, millis.clone(), "1000", "1970-01-01T00:00:01");
    check(TimeUnit::Second, millis.clone(), "1001", "!out_of_range a");
    check(TimeUnit::Nanosecond, seconds, "1e12", "!out_of_range a");
    check(TimeUnit::Second, millis, "\"1970-01-01\"", "!wrong_type a");
    let pattern = TimestampFormat::pattern("%d.%m.%Y %H:%M").unwrap();
    check(TimeUnit::Second, pattern, "\"31.01.2013 10:30\"", "2013-01-31T10:30:00");
}

#[test]
fn missing_null_and_default_differ() {
    let fields = vec![
        Field::new("a", DataType::Int64, false),
        Field::new("b", DataType::Int64, false),
        Field::new("c", DataType::Utf8, true),
    ];
    let defaults: Vec<Option<ArrayRef>> =
        vec![None, Some(Arc::new(Int64Array::from(vec![7]))), Some(Arc::new(StringArray::from(vec!["none"])))];
    let made = TextDecoderOptions { defaults, ..options(json(), fields) };
    let text = "{\"a\":1}\n{\"a\":1,\"b\":2,\"c\":\"x\"}\n{\"a\":1,\"c\":null}\n{\"a\":1,\"b\":null}\n{\"b\":1}\n{\"a\":null}\n";
    let found = outcome(made, text.as_bytes()).unwrap();
    let expected =
        ["1|7|none", "1|2|x", "1|7|null", "!null_in_not_null b", "!null_in_not_null a", "!null_in_not_null a"];
    assert_eq!(found, expected);
}

#[test]
fn extra_fields_may_be_refused() {
    let format = TextFormat::Json(JsonOptions { on_extra: OnExtra::Reject, ..JsonOptions::default() });
    let inner = Fields::from(vec![Field::new("x", DataType::Int64, true)]);
    let fields = columns(&[DataType::Int64, DataType::Struct(inner)]);
    let text = "{\"a\":1}\n{\"a\":1,\"z\":2}\n{\"b\":{\"x\":1}}\n{\"b\":{\"y\":1}}\n";
    let found = outcome(options(format, fields), text.as_bytes()).unwrap();
    assert_eq!(found, ["1|null", "!unknown_field", "null|{x: 1}", "!unknown_field"]);
}

#[test]
fn nested_values_are_checked_to_their_leaves() {
    let point =
        Fields::from(vec![Field::new("x", DataType::Int64, false), Field::new("tags", list(DataType::Utf8), true)]);
    let entries = Fields::from(vec![Field::new("k", DataType::Utf8, false), Field::new("v", DataType::Float64, false)]);
    let map = DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries), false)), false);
    let fields = vec![
        Field::new("p", DataType::Struct(point), true),
        Field::new("l", list(DataType::Int8), true),
        Field::new("m", map, true),
    ];
    let check = |record: &str, expected: &str| {
        let before = r#"{"p":{"x":0,"tags":["first"]},"l":[0],"m":{"z":0}}"#;
        let text = format!("{before}\n{record}\n{before}\n");
        let found = outcome(options(json(), fields.clone()), text.as_bytes()).unwrap();
        let shown = "{x: 0, tags: [first]}|[0]|{z: 0.0}";
        assert_eq!(found, [shown, expected, shown], "{record}");
    };
    check(r#"{"p":{"x":1,"tags":["a",null]},"l":[],"m":{"a":1}}"#, "{x: 1, tags: [a, ]}|[]|{a: 1.0}");
    check(r#"{"p":null,"l":[1,null],"m":{}}"#, "null|[1, ]|{}");
    check(r#"{"p":{"tags":[]}}"#, "!null_in_not_null p.x");
    check(r#"{"p":{"x":1,"tags":["a",2]}}"#, "!wrong_type p.tags.item");
    check(r#"{"p":[1]}"#, "!wrong_type p");
    check(r#"{"l":{"x":1}}"#, "!wrong_type l");
    check(r#"{"l":[1,300]}"#, "!out_of_range l.item");
    check(r#"{"m":{"a":1,"a":2}}"#, "!duplicate_key");
    check(r#"{"m":{"a":null}}"#, "!null_in_not_null m.v");
    check(r#"{"p":{"x":1,"x":2}}"#, "!duplicate_key");
}

fn list(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new("item", item, true)))
}

#[test]
fn more_than_64_columns_are_tracked() {
    let fields: Vec<_> = (0..130).map(|at| Field::new(format!("c{at}"), DataType::Int64, at != 100)).collect();
    let members: Vec<_> = (0..130).rev().map(|at| format!("\"c{at}\":{at}")).collect();
    let full = format!("{{{}}}\n", members.join(","));
    let without = |at: usize| full.replace(&format!("\"c{at}\":{at},"), "");
    let made = || options(json(), fields.clone());
    assert!(outcome(made(), full.as_bytes()).unwrap()[0].starts_with("0|1|2|"));
    assert_eq!(outcome(made(), without(100).as_bytes()).unwrap(), ["!null_in_not_null c100"]);
    assert!(outcome(made(), without(129).as_bytes()).unwrap()[0].ends_with("|128|null"));
    let twice = full.replace("\"c0\"", "\"c129\"");
    assert_eq!(outcome(made(), twice.as_bytes()).unwrap(), ["!duplicate_key"]);
}

#[test]
fn columns_that_are_not_read_are_checked_all_the_same() {
    let fields = columns(&[DataType::Int8, DataType::Utf8, list(DataType::Date32)]);
    let text =
        "{\"a\":1,\"b\":\"x\"}\n{\"a\":300,\"b\":\"x\"}\n{\"c\":[\"no date\"],\"b\":\"y\"}\n{\"b\":\"z\",\"c\":[]}\n";
    for projection in [vec![], vec![1], vec![2, 0]] {
        let made = TextDecoderOptions { projection: Some(projection), ..options(json(), fields.clone()) };
        let found = outcome(made, text.as_bytes()).unwrap();
        assert_eq!((found.len(), &*found[1], &*found[2]), (4, "!out_of_range a", "!wrong_type c.item"));
    }
}

#[test]
fn few_bytes_do_not_become_many_values() {
    let wide = |inner: DataType| {
        DataType::Struct((0..500).map(|at| Field::new(format!("f{at}"), inner.clone(), true)).collect::<Fields>())
    };
    let items = |item: &str| format!("{{\"a\":[{}{item}]}}\n", format!("{item},").repeat(40_000));
    // Objects without their fields, nulls of all that is in one, and both of what is in another one.
    let numbers = list(wide(DataType::Int64));
    let nested = list(wide(wide(DataType::Boolean)));
    for (data_type, item) in [(&numbers, "{}"), (&numbers, "null"), (&nested, "{}"), (&nested, "{\"f7\":{}}")] {
        let fields = columns(std::slice::from_ref(data_type));
        // Whether the query reads the column changes nothing.
        for projection in [None, Some(vec![])] {
            let made = TextDecoderOptions { projection, ..options(json(), fields.clone()) };
            let text = format!("{{}}\n{}{{}}\n", items(item));
            let found = outcome(made, text.as_bytes()).unwrap();
            assert!(found[1].starts_with("!decoded_too_large a.item"), "{item}: {}", found[1]);
            assert_eq!((found.len(), &found[0], &found[2]), (3, &found[2], &found[0]));
        }
    }
    // What is written may be as much as it likes.
    let text = items("1");
    let found = outcome(options(json(), columns(&[list(DataType::Decimal128(38, 0))])), text.as_bytes()).unwrap();
    assert_eq!(found[0].matches('1').count(), 40_001);
}

proptest! {
    #[test]
    fn a_long_line_costs_one_record(length in 1..200_usize, max in 1..100_usize) {
        let text = format!("{{}}\n{}\n{{}}\n", "x".repeat(length));
        let limits = DecodeLimits { max_record_bytes: max.max(2), ..DecodeLimits::default() };
        let made = TextDecoderOptions { limits, ..options(json(), columns(&[DataType::Int64])) };
        let expected = if length > max.max(2) { "!record_too_long" } else { "!invalid_json" };
        prop_assert_eq!(outcome(made, text.as_bytes()).unwrap(), ["null", expected, "null"]);
    }
}
