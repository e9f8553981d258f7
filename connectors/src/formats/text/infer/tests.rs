//! What the module `infer` promises, tested.

use super::super::testing::{csv, json, options, outcome};
use super::super::{CsvOptions, TextFormat};
use super::infer;

fn check(format: &TextFormat, head: &str, is_whole: bool, expected: &[&str]) {
    check_all(format, &[head], is_whole, expected);
}

/// The same over several objects.
fn check_all(format: &TextFormat, heads: &[&str], is_whole: bool, expected: &[&str]) {
    let mut objects = heads.iter().map(|head| infer(head.as_bytes(), is_whole, format).unwrap());
    let mut inferred = objects.next().unwrap();
    objects.for_each(|object| inferred.merge(object));
    let schema = inferred.into_schema();
    let shown: Vec<_> = schema.fields().iter().map(|field| format!("{} {}", field.name(), field.data_type())).collect();
    assert_eq!(shown, expected, "{heads:?}");
    assert!(schema.fields().iter().all(|field| field.is_nullable()));
}

#[test]
fn json_fields_get_the_type_of_all_their_values() {
    let text = r#"{"z":1,"a":"x","f":1,"t":"2013-01-01T10:00:00Z","d":"2013-01-01","n":null,"b":true}
no record
{"z":2,"f":1.5,"t":"2013-01-01","e":"2013-01-01 10:00","l":[1,2.5],"a":"2013-01-01","g":99999999999999999999}
"#;
    let expected = [
        "z Int64",
        "a Utf8",
        "f Float64",
        "t Timestamp(µs, \"UTC\")",
        "d Date32",
        "n Utf8",
        "b Boolean",
        "e Timestamp(µs)",
        "l List(Float64)",
        "g Float64",
    ];
    check(&json(), text, true, &expected);
}

#[test]
fn json_objects_become_structs_and_mixtures_json() {
    let schema = infer(
        br#"{"o":{"x":1},"m":1}
{"o":{"y":"t"},"m":"one"}"#,
        true,
        &json(),
    )
    .unwrap()
    .into_schema();
    assert_eq!(schema.field(0).data_type().to_string(), "Struct(\"x\": Int64, \"y\": Utf8)");
    assert_eq!(schema.field(1).metadata()["ARROW:extension:name"], "arrow.json");
}

#[test]
fn a_record_that_is_cut_off_is_not_looked_at() {
    check(&json(), "{\"a\":1}\n{\"a\":1.", false, &["a Int64"]);
    check(&json(), "{\"a\":1}\n{\"a\":1.5}", true, &["a Float64"]);
    check(&csv(), "a,b\n1,2\n3,tex", false, &["a Int64", "b Int64"]);
    check(&csv(), "a,b\n1,2\n3,tex", true, &["a Int64", "b Utf8"]);
}

#[test]
fn csv_columns_get_the_type_of_all_their_fields() {
    let text = "id,zip,x,ok,day,at,none,fine\n1,01234,1,true,2013-01-01,2013-01-01T10:00,,2013-01-01 10:00:00.1234567\n\
                2,99999,.5,FALSE,,2013-01-02,,2013-01-01 10:00:00\nbad\n";
    let expected = [
        "id Int64",
        "zip Utf8",
        "x Float64",
        "ok Boolean",
        "day Date32",
        "at Timestamp(µs)",
        "none Utf8",
        "fine Timestamp(ns)",
    ];
    check(&csv(), text, true, &expected);
    let na = TextFormat::Csv(CsvOptions { null_values: vec!["NA".to_owned()], ..CsvOptions::default() });
    check(&na, "a\nNA\n1\n", true, &["a Int64"]);
    let bare = TextFormat::Csv(CsvOptions { header: false, ..CsvOptions::default() });
    check(&bare, "1,x\n", true, &["column_1 Int64", "column_2 Utf8"]);
}

#[test]
fn fields_get_the_type_of_their_values_in_all_objects() {
    let heads =
        [r#"{"a":null,"o":{"x":1},"l":[],"t":"2013-01-01","m":1}"#, r#"{"o":{"y":null,"x":1.5},"a":1,"l":[2]}"#];
    let last = r#"{"t":"2013-01-01T10:00Z","o":{"y":"t"},"m":"one"}"#;
    let expected =
        ["a Int64", "o Struct(\"x\": Float64, \"y\": Utf8)", "l List(Int64)", "t Timestamp(µs, \"UTC\")", "m Utf8"];
    check_all(&json(), &[heads[0], heads[1], last], true, &expected);
    check_all(&csv(), &["a,b,c\n,1,1\n", "b,a,c\n1.5,2013-01-01,true\n"], true, &["a Date32", "b Float64", "c Utf8"]);
    let mut mixed = infer(br#"{"m":1}"#, true, &json()).unwrap();
    mixed.merge(infer(br#"{"m":"one"}"#, true, &json()).unwrap());
    assert_eq!(mixed.into_schema().field(0).metadata()["ARROW:extension:name"], "arrow.json");
}

#[test]
fn nothing_to_infer_from_is_said() {
    for (format, text) in [(json(), ""), (json(), "no json\n"), (csv(), "\n")] {
        assert!(infer(text.as_bytes(), true, &format).is_err());
    }
}

#[test]
fn what_was_inferred_decodes_what_it_was_inferred_from() {
    let text = "{\"a\":[{\"x\":1},{\"y\":[true]}],\"m\":1}\n{\"m\":{\"k\":[]},\"b\":\"2013-01-01T10:00:00+02:00\"}\n";
    let schema = infer(text.as_bytes(), true, &json()).unwrap().into_schema();
    let fields = schema.fields().iter().map(|field| field.as_ref().clone()).collect();
    let found = outcome(options(json(), fields), text.as_bytes()).unwrap();
    assert_eq!(found, ["[{x: 1, y: }, {x: , y: [true]}]|1|null", "null|{\"k\":[]}|2013-01-01T08:00:00Z"]);
}
