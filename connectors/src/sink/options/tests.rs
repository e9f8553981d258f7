//! What the module `options` promises, tested.

use arrow::datatypes::{DataType, Field, TimeUnit};
use bessemer_schemas::{FileId, OptionEntry, Position, Secret};

use super::*;

fn span(line: u32) -> Span {
    let at = |column| Position { line, column };
    Span { file: FileId(0), start: at(1), end: at(9) }
}

fn options_of(entries: &[(&str, OptionValue)]) -> OptionMap {
    let entry = |(line, (key, value)): (usize, &(&str, OptionValue))| OptionEntry {
        key: (*key).to_owned(),
        key_span: span(100),
        value: value.clone(),
        value_span: span(u32::try_from(line).unwrap() + 1),
    };
    OptionMap::new("feature set `delays`", span(50), entries.iter().enumerate().map(entry).collect())
}

fn text(value: &str) -> OptionValue {
    OptionValue::Text(value.to_owned())
}

fn number(value: &str) -> OptionValue {
    OptionValue::Number(value.to_owned())
}

fn parse(entries: &[(&str, OptionValue)]) -> (Option<FeatureSetOptions>, Vec<Diagnostic>) {
    FeatureSetOptions::parse_options(options_of(entries), Path::new("/data"))
}

fn parsed(entries: &[(&str, OptionValue)]) -> FeatureSetOptions {
    let (options, diagnostics) = parse(entries);
    assert_eq!(diagnostics, []);
    options.unwrap()
}

/// The one problem of `entries`: its message, its line, its help.
fn problem(entries: &[(&str, OptionValue)]) -> (String, u32, String) {
    let (options, mut diagnostics) = parse(entries);
    assert!(options.is_none());
    assert_eq!(diagnostics.len(), 1, "{diagnostics:?}");
    let diagnostic = diagnostics.remove(0);
    (diagnostic.message, diagnostic.span.unwrap().start.line, diagnostic.help.unwrap())
}

#[test]
fn a_path_is_enough() {
    let options = parsed(&[("path", text("./features/delays/"))]);
    assert_eq!(options.location.prefix().as_ref(), "data/features/delays");
    assert_eq!(options.row_group_rows.get(), 262_144);
    assert_eq!(options.compression, Compression::ZSTD(ZstdLevel::try_new(1).unwrap()));
    assert_eq!((options.format, options.bloom_filter), (SetFormat::Parquet, BloomFilter::Entity));
}

#[test]
fn every_option_is_understood() {
    let options = parsed(&[
        ("path", text("/x")),
        ("format", text("delta")),
        ("partition_by", text("carrier, day(at)")),
        ("row_group_rows", number("1000")),
        ("file_bytes", text("64MiB")),
        ("compression_level", number("7")),
        ("bloom_filter", text("tailnum, carrier")),
    ]);
    assert_eq!(options.layout(), "/x partition_by (carrier, day(at)) format delta");
    assert_eq!((options.row_group_rows.get(), options.file_bytes), (1_000, ByteSize(64 << 20)));
    assert_eq!(options.compression, Compression::ZSTD(ZstdLevel::try_new(7).unwrap()));
    assert_eq!(options.bloom_filter, BloomFilter::Columns(vec!["tailnum".to_owned(), "carrier".to_owned()]));
    let plain = parsed(&[("path", text("/x")), ("compression", text("none")), ("bloom_filter", text("false"))]);
    assert_eq!((plain.compression, plain.bloom_filter), (Compression::UNCOMPRESSED, BloomFilter::None));
}

#[test]
fn problems_are_told_at_their_values() {
    let path = || ("path", text("/x"));
    let at_value = |entry: (&str, OptionValue)| problem(&[path(), entry]);
    assert_eq!(at_value(("partition_by", text("week(at)"))).1, 2);
    assert!(at_value(("partition_by", text("week(at)"))).2.contains("write `month`, `day` or `hour`"));
    assert!(at_value(("partition_by", text("a, a"))).0.contains("stands twice"));
    assert_eq!(at_value(("compression_level", number("23"))).2, "ZSTD's levels are 1 to 22");
    assert!(at_value(("format", text("detla"))).2.contains("did you mean `'delta'`?"));
    assert_eq!(at_value(("row_group_rows", number("0"))).1, 2);
    assert_eq!(at_value(("partition", text("a"))).2, "did you mean `partition_by`?");
    assert_eq!(at_value(("path_key", OptionValue::Secret(Secret::new("x")))).1, 100);
    let (_, _, help) = problem(&[path(), ("compression", text("snappy")), ("compression_level", number("2"))]);
    assert_eq!(help, "leave `compression_level` out");
    let (message, line, _) = problem(&[("path", text("https://example.org/x"))]);
    assert!(message.contains("HTTP is for reading"), "{message}");
    assert_eq!(line, 1);
    let (message, line, _) = problem(&[]);
    assert_eq!((message.as_str(), line), ("feature set `delays` has no option `path`", 50));
}

#[test]
fn options_must_fit_the_columns() {
    let schema = Schema::new(vec![
        Field::new("carrier", DataType::Utf8, true),
        Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, None), true),
        Field::new("number", DataType::UInt64, true),
        Field::new("at_day", DataType::Utf8, true),
    ]);
    let problems = |partition_by: &str, format: &str, entity: &str| {
        let options = parsed(&[("path", text("/x")), ("partition_by", text(partition_by)), ("format", text(format))]);
        options.validate(&schema, &[Name { value: entity.to_owned(), span: span(1) }])
    };
    assert_eq!(problems("carrier, hour(at)", "parquet", "carrier"), Vec::<String>::new());
    assert_eq!(
        problems("carrer", "parquet", "carrier"),
        ["partition column `carrer` is not in the set: did you mean `carrier`?"]
    );
    assert!(problems("at", "parquet", "carrier")[0].contains("write `day(…)`"));
    assert!(problems("day(at)", "parquet", "carrier")[0].contains("and the set has a column `at_day`"));
    assert!(problems("carrier", "parquet", "carier")[0].starts_with("entity column `carier` is not in the set"));
    assert_eq!(
        problems("carrier", "delta", "carrier"),
        ["column `number` has the type `UInt64`, which a Delta table has not: write `CAST(number AS BIGINT)`"]
    );
    let reserved = Schema::new(vec![Field::new("_row", DataType::Int64, true)]);
    let options = parsed(&[("path", text("/x"))]);
    assert!(options.validate(&reserved, &[])[0].contains("`_row` has the name of a column of the quarantine"));
    let only = Schema::new(vec![Field::new("carrier", DataType::Utf8, true)]);
    let options = parsed(&[("path", text("/x")), ("partition_by", text("carrier"))]);
    assert!(options.validate(&only, &[])[0].starts_with("every column is a partition column"));
}

#[test]
fn sets_in_one_anothers_folders_are_reported() {
    let names = ["a", "b", "c"].map(|name| Name { value: name.to_owned(), span: span(7) });
    let options = ["/x/a", "/x/a/b", "/x/ab"].map(|path| parsed(&[("path", text(path))]));
    let sets: Vec<_> = names.iter().zip(&options).collect();
    let diagnostics = check_distinct_paths(&sets);
    assert_eq!(diagnostics.len(), 1);
    assert!(diagnostics[0].message.contains("feature set `b`"), "{}", diagnostics[0].message);
    assert_eq!(diagnostics[0].span, Some(span(7)));
}
