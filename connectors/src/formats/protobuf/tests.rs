use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow_schema::{DataType, Field, Fields, Schema, SchemaRef};

use super::*;
use crate::formats::test_records::{self, Outcome, columns, micros, read_records, varint};
use crate::formats::text::TimestampFormat;

/// A field that is a number.
fn number(field: u64, value: u64) -> Vec<u8> {
    [varint(field << 3), varint(value)].concat()
}

/// A field of bytes, text or a message.
fn bytes(field: u64, value: impl AsRef<[u8]>) -> Vec<u8> {
    let value = value.as_ref();
    [varint(field << 3 | 2), varint(value.len() as u64), value.to_vec()].concat()
}

fn fixed64(field: u64, value: [u8; 8]) -> Vec<u8> {
    [varint(field << 3 | 1), value.to_vec()].concat()
}

fn fixed32(field: u64, value: [u8; 4]) -> Vec<u8> {
    [varint(field << 3 | 5), value.to_vec()].concat()
}

/// `message R { … }`, with what it needs.
fn schema(body: &str) -> Result<ProtobufSchema, String> {
    let head = r#"syntax = "proto3"; package p;
        import "google/protobuf/timestamp.proto"; import "google/protobuf/wrappers.proto";
        enum Kind { NONE = 0; NEW = 1; }
        message Place { int32 x = 1; optional string name = 2; }"#;
    ProtobufSchema::parse(&format!("{head} message R {{ {body} }}"), [])
}

fn one(data_type: DataType) -> SchemaRef {
    columns(vec![Field::new("a", data_type, true)])
}

fn list(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(item, true)))
}

fn map(value: DataType) -> DataType {
    let entries = vec![Field::new("key", DataType::Utf8, false), Field::new("value", value, true)];
    DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries.into()), false)), false)
}

fn place() -> DataType {
    let fields = vec![Field::new("name", DataType::Utf8, true), Field::new("x", DataType::Int64, true)];
    DataType::Struct(Fields::from(fields))
}

fn reader(body: &str, columns: &SchemaRef) -> Result<ProtobufReader, String> {
    let message = schema(body)?.message(Some("p.R"))?;
    ProtobufReader::new(&message, columns, &[], &TimestampFormat::iso()).map_err(|found| found.reason)
}

fn read(body: &str, columns: &SchemaRef, records: &[Vec<u8>]) -> (Option<RecordBatch>, Vec<Outcome>) {
    let mut reader = reader(body, columns).unwrap();
    read_records(columns, records, |number, record, rows| reader.read(number, record, rows).unwrap())
}

fn table(body: &str, columns: &SchemaRef, records: &[Vec<u8>]) -> String {
    test_records::table(read(body, columns, records))
}

fn reasons(body: &str, columns: &SchemaRef, records: &[Vec<u8>]) -> Vec<String> {
    test_records::reasons(read(body, columns, records))
}

#[test]
fn values_of_every_type_become_those_of_columns() {
    let minus_two = u64::MAX - 1;
    for (written, declared, record, expected) in [
        ("int32 a = 1;", DataType::Int32, number(1, minus_two), "-2"),
        ("int64 a = 1;", DataType::Int64, number(1, minus_two), "-2"),
        ("uint32 a = 1;", DataType::UInt32, number(1, 7), "7"),
        ("uint64 a = 1;", DataType::UInt64, number(1, u64::MAX), "18446744073709551615"),
        ("sint32 a = 1;", DataType::Int32, number(1, 3), "-2"),
        ("sint64 a = 1;", DataType::Int64, number(1, 3), "-2"),
        ("fixed32 a = 1;", DataType::UInt32, fixed32(1, 7_u32.to_le_bytes()), "7"),
        ("fixed64 a = 1;", DataType::UInt64, fixed64(1, 7_u64.to_le_bytes()), "7"),
        ("sfixed32 a = 1;", DataType::Int32, fixed32(1, (-7_i32).to_le_bytes()), "-7"),
        ("sfixed64 a = 1;", DataType::Int64, fixed64(1, (-7_i64).to_le_bytes()), "-7"),
        ("bool a = 1;", DataType::Boolean, number(1, 1), "true"),
        ("float a = 1;", DataType::Float32, fixed32(1, 1.5_f32.to_le_bytes()), "1.5"),
        ("double a = 1;", DataType::Float64, fixed64(1, 1.5_f64.to_le_bytes()), "1.5"),
        ("string a = 1;", DataType::Utf8, bytes(1, "é"), "é"),
        ("bytes a = 1;", DataType::Binary, bytes(1, "az"), "617a"),
        ("Kind a = 1;", DataType::Utf8, number(1, 1), "NEW"),
        ("Kind a = 1;", DataType::Utf8, number(1, 9), "9"),
        ("Kind a = 1;", DataType::Int32, number(1, 1), "1"),
        (
            "google.protobuf.Timestamp a = 1;",
            micros(),
            bytes(1, [number(1, 1), number(2, 2_000)].concat()),
            "1970-01-01T00:00:01.000002Z",
        ),
        ("google.protobuf.StringValue a = 1;", DataType::Utf8, bytes(1, bytes(1, "x")), "x"),
        ("google.protobuf.Int64Value a = 1;", DataType::Int64, bytes(1, ""), "0"),
        ("google.protobuf.Int64Value a = 1;", DataType::Int64, Vec::new(), ""),
        (
            "repeated int32 a = 1;",
            list(DataType::Int32),
            [number(1, 1), bytes(1, [2, 3]), number(1, 4)].concat(),
            "[1, 2, 3, 4]",
        ),
        ("repeated string a = 1;", list(DataType::Utf8), [bytes(1, "x"), bytes(1, "y")].concat(), "[x, y]"),
        (
            "repeated Place a = 1;",
            list(place()),
            [bytes(1, number(1, 1)), bytes(1, bytes(2, "n"))].concat(),
            "[{name: , x: 1}, {name: n, x: 0}]",
        ),
        (
            "map<string, int32> a = 1;",
            map(DataType::Int32),
            [
                bytes(1, [bytes(1, "k"), number(2, 1)].concat()),
                bytes(1, ""),
                bytes(1, [number(2, 3), bytes(1, "k")].concat()),
            ]
            .concat(),
            "{: 0, k: 3}",
        ),
        ("map<int32, Place> a = 1;", map(place()), bytes(1, number(1, 7)), "{7: {name: , x: 0}}"),
        ("map<bool, string> a = 1;", map(DataType::Utf8), bytes(1, number(1, 1)), "{true: }"),
        // Promotions, and text that is declared as what it stands for.
        ("int32 a = 1;", DataType::Float64, number(1, 3), "3.0"),
        ("uint32 a = 1;", DataType::Int64, number(1, 3), "3"),
        ("int64 a = 1;", DataType::Float32, number(1, 3), "3.0"),
        ("string a = 1;", DataType::Date32, bytes(1, "2013-01-31"), "2013-01-31"),
        ("string a = 1;", DataType::Decimal128(9, 2), bytes(1, "1.5"), "1.50"),
    ] {
        assert_eq!(
            table(written, &one(declared), &[record]),
            format!("| {expected} |").replace("|  |", "| |"),
            "{written}"
        );
    }
}

#[test]
fn a_field_that_can_tell_is_null_where_it_is_not_there_and_another_is_zero() {
    let body = "int32 n = 1; optional int32 o = 2; string s = 3; Place m = 4; Kind k = 5; bool b = 6; double d = 7;
        repeated int32 l = 8; map<string, int32> p = 9; string day = 10; int32 later = 11;";
    let columns = columns(vec![
        Field::new("o", DataType::Int32, true),
        Field::new("n", DataType::Int32, false),
        Field::new("m", place(), true),
        Field::new("s", DataType::Utf8, false),
        Field::new("k", DataType::Utf8, false),
        Field::new("b", DataType::Boolean, false),
        Field::new("d", DataType::Float64, false),
        Field::new("l", list(DataType::Int32), false),
        Field::new("p", map(DataType::Int32), false),
        Field::new("day", DataType::Date32, true),
        Field::new("unknown", DataType::Int32, true),
    ]);
    let there = [number(2, 0), bytes(4, "")].concat();
    let expected = "| | 0 | | | NONE | false | 0.0 | [] | {} | | |\n| 0 | 0 | {name: , x: 0} | | NONE | false | 0.0 | [] | {} | | |";
    assert_eq!(table(body, &columns, &[Vec::new(), there]), expected);
}

#[test]
fn fields_come_in_any_order_and_the_last_one_counts() {
    let body = "int32 a = 1; Place b = 2; oneof c { string d = 3; int32 e = 4; Place f = 5; int32 unread = 6; }";
    let columns = columns(vec![
        Field::new("b", place(), true),
        Field::new("a", DataType::Int32, true),
        Field::new("d", DataType::Utf8, true),
        Field::new("e", DataType::Int32, true),
        Field::new("f", place(), true),
    ]);
    let parts = |parts: &[Vec<u8>]| parts.concat();
    let records = [
        // A message in two parts, numbers twice, a field and a group that nobody knows.
        parts(&[bytes(2, number(1, 1)), number(1, 5), bytes(2, bytes(2, "n")), number(1, 6), number(99, 1)]),
        parts(&[vec![0x9b, 6], number(1, 1), vec![0x9c, 6], number(1, 7)]),
        parts(&[number(4, 7), bytes(3, "x")]),
        parts(&[bytes(3, "x"), number(4, 7)]),
        parts(&[bytes(3, "x"), number(6, 7)]),
        parts(&[bytes(5, number(1, 1)), number(4, 1), bytes(5, bytes(2, "n"))]),
    ];
    let expected = "| {name: n, x: 1} | 6 | | | |\n| | 7 | | | |\n| | 0 | x | | |\n| | 0 | | 7 | |\n| | 0 | | | |\n\
        | | 0 | | | {name: n, x: 0} |";
    assert_eq!(table(body, &columns, &records), expected);
}

#[test]
fn what_contradicts_the_columns_names_column_and_types() {
    for (written, columns, words) in [
        ("int64 a = 1;", one(DataType::Int32), "column `a` is Int32 in the definition and int64"),
        ("uint64 a = 1;", one(DataType::Int64), "and uint64 as it is written"),
        ("repeated int32 a = 1;", one(DataType::Int32), "and repeated int32"),
        ("int32 a = 1;", one(list(DataType::Int32)), "and int32 as it is written"),
        ("Place a = 1;", one(DataType::Utf8), "and message `p.Place`"),
        ("Kind a = 1;", one(DataType::Boolean), "and enum `p.Kind`"),
        (
            "map<string, int32> a = 1;",
            one(map(DataType::Boolean)),
            "column `a.value` is Boolean in the definition and int32",
        ),
        ("int32 A = 1;", one(DataType::Int32), "no field `a`, but one named `A`"),
        ("int32 b = 1;", columns(vec![Field::new("a", DataType::Int32, false)]), "no field `a`, which is NOT NULL"),
        ("google.protobuf.Timestamp a = 1;", one(DataType::Date32), "and message `google.protobuf.Timestamp`"),
        ("google.protobuf.Int64Value a = 1;", one(DataType::Int32), "and message `google.protobuf.Int64Value`"),
    ] {
        let told = reader(written, &columns).unwrap_err();
        assert!(told.contains(words), "{written}: {told}");
    }
}

#[test]
fn one_bad_record_costs_one_record() {
    let body =
        "int64 id = 1; string name = 2; google.protobuf.Timestamp at = 3; repeated int32 n = 4; int32 unread = 5;";
    let columns = columns(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("name", DataType::Utf8, true),
        Field::new("at", micros(), true),
        Field::new("n", list(DataType::Int32), true),
    ]);
    let good = [number(1, 1), bytes(2, "abc"), bytes(3, number(1, 1)), bytes(4, [1, 2])].concat();
    let with = |part: Vec<u8>| [good.clone(), part].concat();
    let records = [
        good.clone(),
        with(bytes(1, "x")),
        with(bytes(2, [0xff])),
        with(bytes(3, number(2, 1))),
        with(bytes(3, number(2, 1_000_000_000))),
        with(bytes(3, bytes(1, ""))),
        with(bytes(4, [0x80])),
        with(fixed32(4, [0; 4])),
        with(vec![0]),
        with(vec![0x07]),
        with(vec![0x2c]),
        with(vec![0x2b]),
        with([varint(5 << 3), vec![0xff; 11]].concat()),
        with(bytes(2, [0xff]).into_iter().chain(bytes(2, "b")).collect()),
        with(number(5, 7)),
    ];
    let expected = [
        "row",
        "wrong_type id",
        "invalid_utf8 name",
        "out_of_range at",
        "out_of_range at",
        "wrong_type at",
        "invalid_protobuf",
        "wrong_type n",
        "invalid_protobuf",
        "invalid_protobuf",
        "invalid_protobuf",
        "invalid_protobuf",
        "invalid_protobuf",
        "invalid_utf8 name",
        "row",
    ];
    assert_eq!(reasons(body, &columns, &records), expected);
    let (batch, _) = read(body, &columns, &records);
    assert_eq!(batch.unwrap().num_rows(), 2);
    // What a later entry replaces is looked at too.
    let entry = |value: &[u8]| bytes(1, [bytes(1, "k"), bytes(2, value)].concat());
    let replaced = [[entry(&[0]), entry(b"")].concat(), [entry(b""), entry(&number(1, 2))].concat()];
    assert_eq!(reasons("map<string, Place> a = 1;", &one(map(place())), &replaced), ["invalid_protobuf", "row"]);
    assert_eq!(table("map<string, Place> a = 1;", &one(map(place())), &replaced[1..]), "| {k: {name: , x: 2}} |");
    // Cut anywhere, it is a shorter message or none, and what comes after it is read.
    let cut: Vec<_> = (0..good.len()).flat_map(|length| [good[..length].to_vec(), good.clone()]).collect();
    let told = reasons(body, &columns, &cut);
    assert!(told.iter().all(|told| told == "row" || told == "invalid_protobuf"), "{told:?}");
    assert!(told.iter().skip(1).step_by(2).all(|told| told == "row"));
}

#[test]
fn few_bytes_do_not_become_many_values() {
    let names: Vec<_> = (0..300).map(|at| format!("f{at}")).collect();
    let fields: Vec<_> = names.iter().zip(1..).map(|(name, at)| format!("int32 {name} = {at};")).collect();
    let body = format!("message Wide {{ {} }} repeated Wide a = 1;", fields.concat());
    let inner: Vec<_> = names.iter().map(|name| Field::new(name, DataType::Int32, true)).collect();
    let columns = one(list(DataType::Struct(inner.into())));
    let many = bytes(1, "").repeat(10_000);
    assert_eq!(reasons(&body, &columns, &[many, bytes(1, "")]), ["decoded_too_large", "row"]);
}

#[test]
fn batches_are_bounded_where_records_say_much_in_few_bytes() {
    let names: Vec<_> = (0..90).map(|at| format!("f{at}")).collect();
    let fields: Vec<_> = names.iter().zip(1..).map(|(name, number)| format!("int64 {name} = {number};")).collect();
    let body = format!("message Wide {{ {} }} repeated Wide a = 1;", fields.concat());
    let inner: Vec<_> = names.iter().map(|name| Field::new(name, DataType::Int64, true)).collect();
    let columns = one(list(DataType::Struct(inner.into())));
    let records = vec![bytes(1, "").repeat(500); 100];
    let (first, outcomes) = read(&body, &columns, &records);
    assert!(outcomes.iter().all(Result::is_ok));
    let first = first.unwrap();
    assert!(first.num_rows() < 100 && first.get_array_memory_size() < 48 << 20, "{} rows", first.num_rows());
}

#[test]
fn a_schema_that_doubles_itself_is_not_inferred() {
    let types = (0..40).map(|at| {
        let inner = if at == 39 { "int32".to_owned() } else { format!("T{}", at + 1) };
        format!("message T{at} {{ {inner} x = 1; {inner} y = 2; }}")
    });
    let body = format!("{} T0 a = 1;", types.collect::<Vec<_>>().concat());
    let told = infer(&schema(&body).unwrap().message(Some("p.R")).unwrap()).unwrap_err();
    assert!(told.contains("more than 10000 fields: declare the columns"), "{told}");
}

#[test]
fn columns_are_inferred() {
    let body = "int64 userId = 1; repeated Place places = 2; map<int32, Kind> kinds = 3;
        google.protobuf.Timestamp at = 4; google.protobuf.DoubleValue price = 5; bytes raw = 6; fixed32 f = 7;";
    let message = schema(body).unwrap().message(Some("p.R")).unwrap();
    let inferred = infer(&message).unwrap();
    let told: Vec<_> = inferred.fields.iter().map(|field| format!("{} {}", field.name(), field.data_type())).collect();
    let expected = [
        "userId Int64",
        "places List(Struct(\"x\": Int32, \"name\": Utf8))",
        "kinds Map(\"entries\": non-null Struct(\"key\": non-null Utf8, \"value\": Utf8), unsorted)",
        "at Timestamp(ns, \"UTC\")",
        "price Float64",
        "raw Binary",
        "f UInt32",
    ];
    assert_eq!(told, expected);
    // What was inferred is read.
    reader(body, &Arc::new(Schema::new(inferred.fields))).unwrap();
    for (body, words) in [
        ("R a = 1;", "field `a` is message `p.R`, which is within itself"),
        ("message Nothing {} Nothing a = 1;", "which has no fields"),
    ] {
        let told = infer(&schema(body).unwrap().message(Some("p.R")).unwrap()).unwrap_err();
        assert!(told.contains(words) && told.contains("declare the columns"), "{told}");
    }
}

#[test]
fn records_say_which_message_of_their_schema_they_are() {
    let schema = schema("message Inner { message Deep {} } message Other {}").unwrap();
    let named = |path: &[u8]| schema.message_at(path).map(|message| message.full_name().to_owned());
    for (path, expected) in [
        (&[0][..], Some("p.Place")),
        (&[2, 2], Some("p.R")),
        (&[4, 2, 2], Some("p.R.Other")),
        (&[6, 2, 0, 0], Some("p.R.Inner.Deep")),
        (&[2, 6], None),
        (&[4, 2, 6], None),
        (&[], None),
    ] {
        assert_eq!(named(path).as_deref(), expected, "{path:?}");
    }
    assert_eq!(split_path(&[0, 9]), Some((&[0][..], &[9][..])));
    assert_eq!(split_path(&[4, 2, 2, 9]), Some((&[4, 2, 2][..], &[9][..])));
    for damaged in [&[][..], &[1], &[4, 2], &[0x80], &[200, 1, 0]] {
        assert_eq!(split_path(damaged), None, "{damaged:?}");
    }
}

#[test]
fn schemas_come_from_text_with_imports_and_from_descriptors() {
    let other = r#"syntax = "proto3"; package other; message Thing { int32 x = 1; }"#;
    let main = r#"syntax = "proto3"; import "shared/other.proto"; import "confluent/meta.proto";
        import "confluent/type/decimal.proto";
        message Main { other.Thing a = 1 [(confluent.field_meta).doc = "said"]; confluent.type.Decimal d = 2; }"#;
    let parsed = ProtobufSchema::parse(main, [("shared/other.proto", other)]).unwrap();
    assert_eq!(parsed.message(None).unwrap().full_name(), "Main");
    let told = ProtobufSchema::parse(main, []).unwrap_err();
    assert!(told.contains("shared/other.proto"), "{told}");
    assert!(ProtobufSchema::parse("message {", []).is_err());

    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("shared")).unwrap();
    std::fs::create_dir_all(folder.path().join("app")).unwrap();
    std::fs::write(folder.path().join("shared/other.proto"), other).unwrap();
    std::fs::write(folder.path().join("app/main.proto"), main).unwrap();
    let opened = ProtobufSchema::open(&folder.path().join("app/main.proto")).unwrap();
    assert_eq!(opened.message(Some("other.Thing")).unwrap().fields().len(), 1);

    let set = opened.message(None).unwrap().parent_pool().encode_to_vec();
    std::fs::write(folder.path().join("main.desc"), set).unwrap();
    let compiled = ProtobufSchema::open(&folder.path().join("main.desc")).unwrap();
    assert_eq!(compiled.message(None).unwrap().full_name(), "Main");
    std::fs::write(folder.path().join("bad.desc"), "nonsense").unwrap();
    assert!(ProtobufSchema::open(&folder.path().join("bad.desc")).unwrap_err().contains("neither"));

    let several = schema("").unwrap();
    let told = several.message(None).unwrap_err();
    assert!(told.contains("`p.Place`, `p.R`") && told.contains("message = "), "{told}");
    assert!(several.message(Some("p.Q")).unwrap_err().contains("no message `p.Q`"));
}

#[test]
fn what_broke_decoders_once_is_a_row_or_a_reject() {
    let corpus = include_str!("../../../examples/fuzz_records/corpus/protobuf.hex");
    let columns = columns(vec![
        Field::new("a", list(place()), true),
        Field::new("b", map(DataType::Int32), true),
        Field::new("d", DataType::Utf8, true),
    ]);
    let body = "repeated Place a = 17; map<string, int32> b = 24; oneof c { string d = 27; Place e = 28; }
        repeated int32 f = 20;";
    let digit = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    let lines = corpus.lines().filter(|line| !line.starts_with('#'));
    let mut records: Vec<Vec<u8>> = lines.map(|line| line.as_bytes().chunks(2).map(digit).collect()).collect();
    assert!(records.len() > 5);
    records.push(bytes(27, "x"));
    assert_eq!(reasons(body, &columns, &records).last().unwrap(), "row");
}
