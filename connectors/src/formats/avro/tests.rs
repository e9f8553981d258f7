use std::sync::Arc;

use arrow::array::{Array, RecordBatch};
use arrow::util::pretty::pretty_format_batches;
use arrow_schema::{DataType, Field, Fields, SchemaRef, TimeUnit};
use bessemer_schemas::RejectReason;

use super::*;
use crate::formats::rows::{RowBuilder, RowBuilderOptions};
use crate::formats::test_records::{self, Outcome, columns, micros, read_records, rows_of, varint};
use crate::formats::text::{DecodeLimits, RecordFault, TimestampFormat};

/// Bytes of a record, by its parts.
fn record(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

fn long(value: i64) -> Vec<u8> {
    varint((value << 1).cast_unsigned() ^ (value >> 63).cast_unsigned())
}

fn text(value: &str) -> Vec<u8> {
    [long(i64::try_from(value.len()).unwrap()), value.as_bytes().to_vec()].concat()
}

fn of(fields: &str) -> String {
    format!(r#"{{"type": "record", "name": "r", "fields": [{fields}]}}"#)
}

fn reader(schema: &str, columns: &SchemaRef) -> Result<AvroReader, String> {
    let schema = AvroSchema::parse(schema, [])?;
    AvroReader::new(schema, columns, &[], &TimestampFormat::iso()).map_err(|found| found.reason)
}

fn read(schema: &str, columns: &SchemaRef, records: &[Vec<u8>]) -> (Option<RecordBatch>, Vec<Outcome>) {
    let reader = reader(schema, columns).unwrap();
    read_records(columns, records, |number, record, rows| reader.read(number, record, rows).unwrap())
}

fn table(schema: &str, columns: &SchemaRef, records: &[Vec<u8>]) -> String {
    test_records::table(read(schema, columns, records))
}

fn reasons(schema: &str, columns: &SchemaRef, records: &[Vec<u8>]) -> Vec<String> {
    test_records::reasons(read(schema, columns, records))
}

#[test]
fn values_of_every_type_become_those_of_columns() {
    let cases: Vec<(&str, DataType, Vec<u8>, &str)> = vec![
        (r#""boolean""#, DataType::Boolean, vec![1], "true"),
        (r#""int""#, DataType::Int32, long(-7), "-7"),
        (r#""long""#, DataType::Int64, long(i64::MIN), "-9223372036854775808"),
        (r#""float""#, DataType::Float32, 1.5_f32.to_le_bytes().to_vec(), "1.5"),
        (r#""double""#, DataType::Float64, (-0.1_f64).to_le_bytes().to_vec(), "-0.1"),
        (r#""string""#, DataType::Utf8, text("é"), "é"),
        (r#""bytes""#, DataType::Binary, text("az"), "617a"),
        (r#"{"type": "fixed", "name": "f", "size": 2}"#, DataType::Binary, b"az".to_vec(), "617a"),
        (r#"{"type": "enum", "name": "e", "symbols": ["A", "B"]}"#, DataType::Utf8, long(1), "B"),
        (r#"{"type": "int", "logicalType": "date"}"#, DataType::Date32, long(15_706), "2013-01-01"),
        (
            r#"{"type": "int", "logicalType": "time-millis"}"#,
            DataType::Time64(TimeUnit::Microsecond),
            long(1_500),
            "00:00:01.500",
        ),
        (r#"{"type": "long", "logicalType": "timestamp-millis"}"#, micros(), long(1_500), "1970-01-01T00:00:01.500Z"),
        (r#"{"type": "long", "logicalType": "timestamp-nanos"}"#, micros(), long(2_000), "1970-01-01T00:00:00.000002Z"),
        (
            r#"{"type": "long", "logicalType": "local-timestamp-micros"}"#,
            DataType::Timestamp(TimeUnit::Microsecond, None),
            long(1),
            "1970-01-01T00:00:00.000001",
        ),
        (
            r#"{"type": "bytes", "logicalType": "decimal", "precision": 5, "scale": 2}"#,
            DataType::Decimal128(10, 3),
            [long(2), vec![0xff, 0x85]].concat(),
            "-1.230",
        ),
        (
            r#"{"type": "fixed", "name": "u", "size": 16, "logicalType": "uuid"}"#,
            DataType::Utf8,
            (0..16).collect(),
            "00010203-0405-0607-0809-0a0b0c0d0e0f",
        ),
        // Promotions.
        (r#""int""#, DataType::Int64, long(3), "3"),
        (r#""int""#, DataType::Float32, long(3), "3.0"),
        (r#""long""#, DataType::Float64, long(3), "3.0"),
        (r#""float""#, DataType::Float64, 1.5_f32.to_le_bytes().to_vec(), "1.5"),
        (r#""string""#, DataType::Binary, text("az"), "617a"),
        (r#""bytes""#, DataType::Utf8, text("az"), "az"),
        // A text that is declared as what it stands for.
        (r#""string""#, DataType::Date32, text("2013-01-31"), "2013-01-31"),
        (r#""string""#, micros(), text("2013-01-31T00:00:00+01:00"), "2013-01-30T23:00:00Z"),
        // What a logical type does not know means nothing.
        (r#"{"type": "int", "logicalType": "colour"}"#, DataType::Int32, long(3), "3"),
        (r#"{"type": {"type": "string", "avro.java.string": "String"}}"#, DataType::Utf8, text("a"), "a"),
    ];
    for (written, declared, bytes, expected) in cases {
        let columns = columns(vec![Field::new("a", declared, false)]);
        let schema = of(&format!(r#"{{"name": "a", "type": {written}}}"#));
        assert_eq!(table(&schema, &columns, &[bytes]), format!("| {expected} |"), "{written}");
    }
}

#[test]
fn nested_values_are_read() {
    let schema = of(r#"
        {"name": "tags", "type": {"type": "array", "items": ["null", "string"]}},
        {"name": "counts", "type": {"type": "map", "values": "long"}},
        {"name": "place", "type": ["null", {"type": "record", "name": "p", "fields": [
            {"name": "x", "type": "int"}, {"name": "unread", "type": "string"}, {"name": "y", "type": "int"}]}]}"#);
    let entries = vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Int64, true)];
    let entries = Field::new("entries", DataType::Struct(entries.into()), false);
    let place = vec![
        Field::new("y", DataType::Int64, true),
        Field::new("z", DataType::Int32, true),
        Field::new("x", DataType::Int32, false),
    ];
    let columns = columns(vec![
        Field::new("place", DataType::Struct(place.into()), true),
        Field::new("tags", DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true))), true),
        Field::new("counts", DataType::Map(Arc::new(entries), false), true),
    ]);
    let full = record(&[
        // A block of two with its size, a block of one, the end.
        &[long(-2), long(5), long(1), text("a"), long(0), long(1), long(1), text("b"), long(0)].concat(),
        &[long(1), text("k"), long(7), long(0)].concat(),
        &[long(1), long(1), text("no"), long(2)].concat(),
    ]);
    let empty = record(&[&long(0), &long(0), &long(0)]);
    let expected = "| {y: 2, z: , x: 1} | [a, , b] | {k: 7} |\n| | [] | {} |";
    assert_eq!(table(&schema, &columns, &[full, empty]), expected);
}

#[test]
fn fields_are_found_by_name_and_missing_ones_have_their_default() {
    let schema = of(r#"{"name": "extra", "type": "string"}, {"name": "b", "type": "int"}"#);
    let columns = columns(vec![
        Field::new("a", DataType::Int32, true),
        Field::new("b", DataType::Int64, false),
        Field::new("c", DataType::Utf8, false),
    ]);
    let defaults = [None, None, Some(Arc::new(arrow::array::StringArray::from(vec!["none"])) as _)];
    let schema = AvroSchema::parse(&schema, []).unwrap();
    let reader = AvroReader::new(schema, &columns, &defaults, &TimestampFormat::iso()).unwrap();
    let mut rows = RowBuilder::new(RowBuilderOptions {
        schema: &columns,
        projection: &[0, 1, 2],
        defaults: &defaults,
        timestamp_format: &TimestampFormat::iso(),
        limits: DecodeLimits::default(),
        format: "Avro",
    })
    .unwrap();
    reader.read(0, &record(&[&text("x"), &long(5)]), &mut rows).unwrap().unwrap();
    rows.flush().unwrap();
    let batch = rows.next_batch().unwrap();
    let text = pretty_format_batches(&[batch]).unwrap().to_string();
    assert!(text.contains("|   | 5 | none |"), "{text}");
}

#[test]
fn what_contradicts_the_columns_names_column_and_types() {
    let one = |name: &str, data_type| columns(vec![Field::new(name, data_type, false)]);
    let place = DataType::Struct(Fields::from(vec![Field::new("x", DataType::Int32, true)]));
    for (written, columns, words) in [
        (r#""long""#, one("a", DataType::Int32), "column `a` is Int32 in the definition and long"),
        (r#"["null", "double"]"#, one("a", DataType::Int64), "column `a` is Int64 in the definition and double"),
        (r#"["null", "int", "string"]"#, one("a", DataType::Boolean), "union of null, int, string"),
        (r#""int""#, one("A", DataType::Int32), "it has no field `A`, but one named `a`"),
        (r#""int""#, one("b", DataType::Int32), "it has no field `b`, which is NOT NULL"),
        (r#""long""#, one("a", micros()), "Timestamp(µs, \"UTC\") in the definition and long"),
        (
            r#"{"type": "bytes", "logicalType": "decimal", "precision": 5, "scale": 2}"#,
            one("a", DataType::Decimal128(4, 2)),
            "decimal of 5 digits, 2 of them after the point",
        ),
        (
            r#"["null", {"type": "record", "name": "p", "fields": [{"name": "x", "type": "string"}]}]"#,
            one("a", place.clone()),
            "column `a.x` is Int32 in the definition and string",
        ),
        (r#""string""#, one("a", place), "and string as it is written"),
    ] {
        let schema = of(&format!(r#"{{"name": "a", "type": {written}}}"#));
        let told = reader(&schema, &columns).unwrap_err();
        assert!(told.contains(words), "{written}: {told}");
    }
    assert!(reader(r#""string""#, &one("a", DataType::Utf8)).unwrap_err().contains("schema of string"));
}

#[test]
fn one_bad_record_costs_one_record() {
    let schema = of(r#"
        {"name": "id", "type": ["null", "long"]},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-nanos"}},
        {"name": "kind", "type": ["string", "int"]},
        {"name": "unread", "type": ["null", "string"]}"#);
    let columns = columns(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("at", micros(), true),
        Field::new("kind", DataType::Utf8, true),
    ]);
    let record = |id: Option<i64>, at: i64, kind: &[u8], unread: &[u8]| {
        let id = id.map_or_else(|| long(0), |id| [long(1), long(id)].concat());
        record(&[&id, &long(at), kind, unread])
    };
    let (kind, unread) = ([long(0), text("k")].concat(), long(0));
    let good = record(Some(1), 1_000, &kind, &unread);
    let mut records = vec![
        good.clone(),
        record(None, 1_000, &kind, &unread),
        record(Some(2), 1_001, &kind, &unread),
        record(Some(2), 1_000, &[long(1), long(3)].concat(), &unread),
        record(Some(2), 1_000, &[long(2), long(3)].concat(), &unread),
        record(Some(2), 1_000, &[long(0), long(1), vec![0xff]].concat(), &unread),
        record(Some(2), 1_000, &kind, &[long(1), long(1), vec![0xff]].concat()),
        [good.clone(), vec![0]].concat(),
        vec![0xff; 12],
        Vec::new(),
    ];
    records.extend((0..good.len()).map(|length| good[..length].to_vec()));
    records.push(good);
    let told = reasons(&schema, &columns, &records);
    let expected = [
        "row",
        "null_in_not_null id",
        "out_of_range at",
        "wrong_type kind",
        "invalid_avro",
        "invalid_utf8 kind",
        "invalid_utf8",
        "invalid_avro",
        "invalid_avro",
        "invalid_avro",
    ];
    assert_eq!(told[..expected.len()], expected);
    assert!(told[expected.len()..told.len() - 1].iter().all(|reason| reason == "invalid_avro"), "{told:?}");
    assert_eq!(told.last().unwrap(), "row");
    let (batch, _) = read(&schema, &columns, &records);
    assert_eq!(batch.unwrap().num_rows(), 2);
}

#[test]
fn which_records_are_rejected_does_not_depend_on_what_is_read() {
    let schema = of(r#"{"name": "a", "type": "int"}, {"name": "b", "type": ["null", "string"]}"#);
    let columns = columns(vec![Field::new("a", DataType::Int32, false), Field::new("b", DataType::Utf8, false)]);
    let records = [record(&[&long(1), &long(0)]), record(&[&long(1), &long(1), &text("x")])];
    let reader = reader(&schema, &columns).unwrap();
    for projection in [vec![], vec![0], vec![1], vec![0, 1]] {
        let mut rows = rows_of(&columns, &projection);
        let outcomes: Vec<_> = records.iter().map(|record| reader.read(0, record, &mut rows).unwrap()).collect();
        let fault = RecordFault { reason: RejectReason::NullInNotNull, column: Some("b".to_owned()) };
        assert_eq!(outcomes, [Err(fault), Ok(())], "{projection:?}");
        rows.flush().unwrap();
        let batch = rows.next_batch().unwrap();
        assert_eq!((batch.num_rows(), batch.num_columns()), (1, projection.len()));
    }
}

#[test]
fn few_bytes_do_not_become_many_values() {
    let one = |data_type| columns(vec![Field::new("a", data_type, true)]);
    let list = DataType::List(Arc::new(Field::new_list_field(DataType::Int32, true)));
    let nulls = of(r#"{"name": "a", "type": {"type": "array", "items": "null"}}"#);
    let promise = record(&[&long(1 << 40), &long(0)]);
    for columns in [one(list), columns(vec![Field::new("b", DataType::Int32, true)])] {
        assert_eq!(reasons(&nulls, &columns, std::slice::from_ref(&promise)), ["decoded_too_large"]);
    }
    // Each type has two of the next.
    let types: Vec<_> = (0..40)
        .map(|at| {
            let field = |name| match at {
                39 => format!(r#"{{"name": "{name}", "type": "null"}}"#),
                _ => format!(r#"{{"name": "{name}", "type": "t{}"}}"#, at + 1),
            };
            format!(r#"{{"type": "record", "name": "t{at}", "fields": [{}, {}]}}"#, field("x"), field("y"))
        })
        .collect();
    let references: Vec<_> = types[1..].iter().rev().map(String::as_str).collect();
    let schema = AvroSchema::parse(&types[0], references).unwrap();
    let columns = one(DataType::Int32);
    let reader = AvroReader::new(schema, &columns, &[], &TimestampFormat::iso()).unwrap();
    let outcome = reader.read(0, &[], &mut rows_of(&columns, &[0])).unwrap();
    assert_eq!(outcome.unwrap_err().reason, RejectReason::DecodedTooLarge);
    // A type that is in itself without end.
    let endless = of(r#"{"name": "x", "type": "r"}"#);
    assert_eq!(reasons(&endless, &columns, &[Vec::new()]), ["invalid_avro"]);
}

/// Items of 90 fields that may be null, and the columns that hold them.
fn wide_items() -> (String, SchemaRef) {
    let names: Vec<_> = (0..90).map(|at| format!("f{at}")).collect();
    let fields: Vec<_> = names.iter().map(|name| format!(r#"{{"name": "{name}", "type": "long"}}"#)).collect();
    let item = format!(r#"{{"type": "record", "name": "i", "fields": [{}]}}"#, fields.join(", "));
    let schema = of(&format!(r#"{{"name": "a", "type": {{"type": "array", "items": ["null", {item}]}}}}"#));
    let inner: Fields = names.iter().map(|name| Field::new(name, DataType::Int64, true)).collect();
    let list = DataType::List(Arc::new(Field::new_list_field(DataType::Struct(inner), true)));
    (schema, columns(vec![Field::new("a", list, true)]))
}

#[test]
fn batches_are_bounded_where_records_say_much_in_few_bytes() {
    const BYTES: usize = 16 << 20;
    let nulls = |count: i64| [long(count), vec![0; usize::try_from(count).unwrap()], long(0)].concat();
    let (schema, columns) = wide_items();
    let (reader, mut rows) = (reader(&schema, &columns).unwrap(), rows_of(&columns, &[0]));
    for number in 0..100 {
        reader.read(number, &nulls(500), &mut rows).unwrap().unwrap();
    }
    let mut batches = 0;
    while let Some(batch) = rows.next_batch() {
        batches += 1;
        assert!(batch.get_array_memory_size() < 3 * BYTES);
    }
    assert_eq!(batches, 2);
    let outcome = reader.read(0, &nulls(100_000), &mut rows).unwrap();
    assert_eq!(outcome.unwrap_err().reason, RejectReason::DecodedTooLarge);
}

#[test]
fn a_schema_that_doubles_itself_is_not_inferred() {
    let types: Vec<_> = (0..40)
        .map(|at| {
            let inner = if at == 39 { r#""int""#.to_owned() } else { format!(r#""t{}""#, at + 1) };
            let fields = format!(r#"{{"name": "x", "type": {inner}}}, {{"name": "y", "type": {inner}}}"#);
            format!(r#"{{"type": "record", "name": "t{at}", "fields": [{fields}]}}"#)
        })
        .collect();
    let references: Vec<_> = types[1..].iter().rev().map(String::as_str).collect();
    let told = infer(&AvroSchema::parse(&types[0], references).unwrap()).unwrap_err();
    assert!(told.contains("more than 10000 fields: declare the columns"), "{told}");
}

#[test]
fn columns_are_inferred() {
    let schema = of(r#"
        {"name": "userId", "type": "long"},
        {"name": "n", "type": ["null", "int"], "default": null},
        {"name": "state", "type": {"type": "enum", "name": "s", "symbols": ["A"]}, "default": "A"},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "items", "type": {"type": "array", "items": {"type": "record", "name": "i", "fields": [
            {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}}]}}},
        {"name": "more", "type": {"type": "map", "values": "boolean"}}"#);
    let inferred = infer(&AvroSchema::parse(&schema, []).unwrap()).unwrap();
    let told: Vec<_> = inferred.fields.iter().map(|field| format!("{} {}", field.name(), field.data_type())).collect();
    let expected = [
        "userId Int64",
        "n Int32",
        "state Utf8",
        "at Timestamp(µs, \"UTC\")",
        "items List(Struct(\"price\": Decimal128(9, 2)))",
        "more Map(\"entries\": non-null Struct(\"key\": non-null Utf8, \"value\": Boolean), unsorted)",
    ];
    assert_eq!(told, expected);
    assert!(inferred.fields.iter().all(|field| field.is_nullable()));
    let has_value = |at: usize| inferred.defaults[at].as_ref().map(|value| value.is_valid(0));
    assert_eq!((has_value(0), has_value(1), has_value(2)), (None, Some(false), Some(true)));
    // What was inferred is read.
    reader(&schema, &columns(inferred.fields.iter().map(|field| field.as_ref().clone()).collect())).unwrap();

    for (field, words) in [
        (r#"{"name": "a", "type": ["int", "string"]}"#, "field `a` is a union of int, string"),
        (r#"{"name": "a", "type": ["null", "r"]}"#, "field `a` is within itself"),
        (r#"{"name": "a", "type": "null"}"#, "field `a` is always null"),
    ] {
        let told = infer(&AvroSchema::parse(&of(field), []).unwrap()).unwrap_err();
        assert!(told.contains(words) && told.contains("declare the columns"), "{told}");
    }
}

#[test]
fn schemas_use_names_of_their_namespace_and_of_others() {
    let place = r#"{"type": "record", "name": "Place", "namespace": "geo", "fields": [{"name": "x", "type": "int"}]}"#;
    let schema = r#"{"type": "record", "name": "Visit", "namespace": "app", "fields": [
        {"name": "from", "type": "geo.Place"},
        {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["A", "B"]}},
        {"name": "before", "type": ["null", "Kind", "app.Visit"]}]}"#;
    assert!(AvroSchema::parse(schema, [place]).is_ok());
    for (schema, words) in [
        (schema, "it has no type `geo.Place`"),
        ("{", "it is not JSON"),
        ("7", "no text, array or object"),
        (r#"{"type": "record", "name": "r"}"#, "no `fields`"),
        (r#"{"type": "record", "fields": []}"#, "no `name`"),
        (r#"[["null"]]"#, "a branch of a union"),
        (r#"{"type": "enum", "name": "e", "symbols": ["A", "A"]}"#, "a symbol twice"),
        (r#"{"type": "fixed", "name": "e", "size": -1}"#, "no `size`"),
    ] {
        let told = AvroSchema::parse(schema, []).unwrap_err();
        assert!(told.contains(words), "{schema}: {told}");
    }
    let deep = format!("{}\"int\"{}", r#"{"type": "array", "items": "#.repeat(100), "}".repeat(100));
    assert!(AvroSchema::parse(&deep, []).unwrap_err().contains("deep"));
}

#[test]
fn what_broke_decoders_once_is_a_row_or_a_reject() {
    let corpus = include_str!("../../../examples/fuzz_records/corpus/avro.hex");
    let schema = of(r#"
        {"name": "a", "type": ["null", "string"]},
        {"name": "b", "type": {"type": "array", "items": {"type": "map", "values": ["null", "long"]}}}"#);
    let columns = columns(vec![Field::new("a", DataType::Utf8, true)]);
    let digit = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    let lines = corpus.lines().filter(|line| !line.starts_with('#'));
    let mut records: Vec<Vec<u8>> = lines.map(|line| line.as_bytes().chunks(2).map(digit).collect()).collect();
    assert!(records.len() > 5);
    records.push(record(&[&long(0), &long(0)]));
    assert_eq!(reasons(&schema, &columns, &records).last().unwrap(), "row");
}
