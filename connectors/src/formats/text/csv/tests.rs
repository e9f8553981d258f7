//! What the module `csv` promises, tested.

use arrow_schema::{DataType, Field, TimeUnit};
use proptest::prelude::*;

use super::super::testing::{columns, csv, options, outcome};
use super::super::{CsvOptions, DecodeLimits, Encoding, FileFault, OnExtra, TextDecoderOptions, TextFormat};

fn without_header() -> CsvOptions {
    CsvOptions { header: false, ..CsvOptions::default() }
}

/// What becomes of `text` in columns `a VARCHAR`, `b VARCHAR`.
fn check(options_of: CsvOptions, text: &str, expected: &[&str]) {
    let fields = columns(&[DataType::Utf8, DataType::Utf8]);
    assert_eq!(outcome(options(TextFormat::Csv(options_of), fields), text.as_bytes()).unwrap(), expected, "{text:?}");
}

fn check_value(data_type: &DataType, text: &str, expected: &str) {
    let record = format!("{text},x\n");
    let fields = columns(&[data_type.clone(), DataType::Utf8]);
    let found = outcome(options(TextFormat::Csv(without_header()), fields), record.as_bytes()).unwrap();
    let expected = if expected.starts_with('!') { expected.to_owned() } else { format!("{expected}|x") };
    assert_eq!(found, [expected], "{data_type} {text}");
}

fn mismatch(options_of: CsvOptions, text: &str) -> String {
    let fields = vec![Field::new("a", DataType::Utf8, false), Field::new("b", DataType::Utf8, true)];
    match outcome(options(TextFormat::Csv(options_of), fields), text.as_bytes()) {
        Err(FileFault::Mismatch { reason } | FileFault::Unreadable { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn quotes_are_those_of_the_rfc() {
    let check = |text: &str, expected: &[&str]| check(without_header(), text, expected);
    check("1,2\r\n3,4", &["1|2", "3|4"]);
    check("\"a,b\",\"say \"\"hi\"\"\"\n", &["a,b|say \"hi\""]);
    check("\"two\r\nlines\",x\ny,z\n", &["two\r\nlines|x", "y|z"]);
    check("5\" pipe,a\"b\"\n", &["5\" pipe|a\"b\""]);
    check("\"a\"b,c\nd,e\n", &["!invalid_quoting", "d|e"]);
    check("\"a\" ,c\nd,e\n", &["!invalid_quoting", "d|e"]);
    check("\"a\",\"b\"\r\n", &["a|b"]);
    check("\"a\",\"b\"\rc\nd,e", &["!invalid_quoting", "d|e"]);
    check("a,b\n\"open,c\nd,e\n", &["a|b", "!invalid_quoting"]);
    check("\"\"\"\",\"\"\n", &["\"|"]);
}

#[test]
fn fields_are_counted() {
    check(without_header(), "1\n1,2\n1,2,3\n,\n", &["!wrong_field_count", "1|2", "!wrong_field_count", "null|null"]);
    check(CsvOptions::default(), "b,z,a\n1,2,3\n1,2\n", &["3|1", "!wrong_field_count"]);
}

#[test]
fn empty_is_null_and_quoted_empty_is_text() {
    check(without_header(), ",\"\"\n\"\",\n", &["null|", "|null"]);
    check_value(&DataType::Int64, "", "null");
    check_value(&DataType::Int64, "\"\"", "null");
    let words = CsvOptions { null_values: vec!["NA".to_owned(), "NULL".to_owned()], ..without_header() };
    check(words, "NA,\"NA\"\nNULL,\nna,NAN\n", &["null|NA", "null|null", "na|NAN"]);
}

#[test]
fn blank_lines_and_comments_are_no_records() {
    let comments = CsvOptions { comment: Some(b'#'), ..without_header() };
    check(comments, "\n#x,y\n1,2\n\r\n# \"open\n3,#4\n#end", &["1|2", "3|#4"]);
    check(without_header(), "#,2\n \n", &["#|2", "!wrong_field_count"]);
}

#[test]
fn marks_can_be_chosen() {
    let odd = CsvOptions { delimiter: b';', quote: Some(b'\''), escape: Some(b'\\'), ..without_header() };
    check(odd, "'a;\\'b';'c''d'\n'\\\\';x\\y\n", &["a;'b|c'd", "\\|x\\y"]);
    let tabs = CsvOptions { delimiter: b'\t', quote: None, ..without_header() };
    check(tabs, "\"a\t\"b\"\n", &["\"a|\"b\""]);
}

#[test]
fn blanks_are_kept_unless_trimmed() {
    check(without_header(), " a , b\n", &[" a | b"]);
    let trim = || CsvOptions { trim: true, ..without_header() };
    check(trim(), " a ,\tb \r\n \" c \" , \n", &["a|b", " c |null"]);
}

#[test]
fn columns_are_matched_by_name() {
    check(CsvOptions::default(), "b,a\n1,2\n", &["2|1"]);
    check(CsvOptions::default(), "extra,b,\"a\"\nx,1,2\n", &["2|1"]);
    check(CsvOptions::default(), "a\n1\n", &["1|null"]);
    check(CsvOptions::default(), "a,b\n", &[]);
    check(CsvOptions::default(), "", &[]);
    check(CsvOptions::default(), "\u{feff}a,b\n1,2", &["1|2"]);
}

#[test]
fn a_header_that_does_not_fit_is_refused_with_its_names() {
    assert!(mismatch(CsvOptions::default(), "b,c\n1,2\n").contains("lacks column `a`"));
    assert!(mismatch(CsvOptions::default(), "1,2\n3,4\n").contains("`header = false`"));
    assert!(mismatch(CsvOptions::default(), "a,b,a\n").contains("names `a` twice: `a`, `b`, `a`"));
    let strict = CsvOptions { on_extra: OnExtra::Reject, ..CsvOptions::default() };
    assert!(mismatch(strict, "a,b,c\n").contains("`c`, which is not declared"));
    assert!(mismatch(CsvOptions::default(), "\"a\"x,b\n").contains("quotes"));
    assert!(mismatch(CsvOptions::default(), "\"a,b\n").contains("invalid_quoting"));
}

#[test]
fn values_are_those_of_their_type() {
    check_value(&DataType::Int64, "007", "7");
    check_value(&DataType::Int64, "+5", "5");
    check_value(&DataType::Int64, "\"5\"", "5");
    check_value(&DataType::Int64, "5.0", "5");
    check_value(&DataType::Int64, "5.5", "!not_whole a");
    check_value(&DataType::Int64, " 5", "!wrong_type a");
    check_value(&DataType::Int8, "128", "!out_of_range a");
    check_value(&DataType::Float64, ".5", "0.5");
    check_value(&DataType::Float64, "NaN", "!wrong_type a");
    check_value(&DataType::Float64, "inf", "!wrong_type a");
    check_value(&DataType::Boolean, "TRUE", "true");
    check_value(&DataType::Boolean, "f", "false");
    check_value(&DataType::Boolean, "1", "true");
    check_value(&DataType::Boolean, "yes", "!wrong_type a");
    check_value(&DataType::Date32, "2013-01-31", "2013-01-31");
    check_value(&DataType::Decimal128(5, 2), "-1.5", "-1.50");
    check_value(&DataType::Decimal128(5, 2), "1.555", "!out_of_range a");
    check_value(&DataType::Binary, "Zm8=", "666f");
    check_value(&DataType::Timestamp(TimeUnit::Microsecond, None), "2013-01-01 10:00:00", "2013-01-01T10:00:00");
}

#[test]
fn null_is_refused_where_it_may_not_be() {
    let fields = vec![Field::new("a", DataType::Int64, false), Field::new("b", DataType::Utf8, false)];
    let found = outcome(options(csv(), fields), b"a,b\n,x\n1,\n1,\"\"\n").unwrap();
    assert_eq!(found, ["!null_in_not_null a", "!null_in_not_null b", "1|"]);
}

#[test]
fn nested_columns_are_refused_at_once() {
    let list = DataType::List(std::sync::Arc::new(Field::new("item", DataType::Int64, true)));
    let error = super::super::TextDecoder::new(options(csv(), columns(&[list]))).unwrap_err();
    assert!(error.to_string().contains("column `a`"), "{error}");
}

#[test]
fn encodings() {
    let check = |encoding: Encoding, text: &[u8], expected: &[&str]| {
        let format = TextFormat::Csv(CsvOptions { encoding, ..CsvOptions::default() });
        let fields = vec![Field::new("ä", DataType::Utf8, true)];
        assert_eq!(outcome(options(format, fields), text).unwrap(), expected);
    };
    check(Encoding::Latin1, b"\xe4\nZ\xfcrich\n\"\x80\xff\"\n", &["Zürich", "\u{80}ÿ"]);
    check(Encoding::Windows1252, b"\xe4\n\x80 5\n\x81\n", &["€ 5", "\u{81}"]);
    check(Encoding::Utf8, b"\xc3\xa4\nZ\xfcrich\nok\n", &["!invalid_utf8", "ok"]);
}

#[test]
fn an_open_quote_does_not_swallow_the_object() {
    let limits = DecodeLimits { max_record_bytes: 20, ..DecodeLimits::default() };
    let made = TextDecoderOptions {
        limits,
        ..options(TextFormat::Csv(without_header()), columns(&[DataType::Utf8, DataType::Utf8]))
    };
    let text = b"a,b\n\"open,1\nc,d\ne,f\ng,hhhh\ni,j\nk,l\n";
    assert_eq!(outcome(made, text).unwrap(), ["a|b", "!record_too_long", "i|j", "k|l"]);
}

proptest! {
    #[test]
    fn what_the_csv_crate_writes_comes_back(rows in prop::collection::vec((".*", "[ -~\n\"]{0,30}"), 1..10)) {
        let mut writer = csv::WriterBuilder::new().quote_style(csv::QuoteStyle::Always).from_writer(Vec::new());
        for (a, b) in &rows {
            writer.write_record([a, b]).unwrap();
        }
        let text = writer.into_inner().unwrap();
        let fields = columns(&[DataType::Utf8, DataType::Utf8]);
        let found = outcome(options(TextFormat::Csv(without_header()), fields), &text).unwrap();
        let expected: Vec<_> = rows.iter().map(|(a, b)| format!("{a}|{b}")).collect();
        prop_assert_eq!(found, expected);
    }
}
