//! Bad input that must be met.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
    TimestampNanosecondArray,
};
use arrow::compute::concat_batches;
use arrow::datatypes::UInt64Type;
use arrow_schema::DataType;
use bessemer_schemas::{ErrorKind, IncludeColumn, IncludeKind};
use datafusion_expr::{col, lit};
use tempfile::tempdir;

use super::harness::*;
use crate::Error;
use crate::formats::compression::Compression;
use crate::object_store::ObjectSource;

#[tokio::test]
async fn empty_folder_is_no_object_and_absent_folder_is_not_found() {
    let folder = tempdir().unwrap();
    let options = [("path", "in"), ("format", "csv")];
    let source = open(folder.path(), Some(columns()), &options).await.unwrap();
    let error = scan(&source, Ask::default()).await.unwrap_err();
    assert!(matches!(&error, Error::NotFound { location, .. } if location.ends_with("/in")), "{error:?}");
    std::fs::create_dir(folder.path().join("in")).unwrap();
    let scanned = scan(&source, Ask::default()).await.unwrap();
    assert_eq!((scanned.text().len(), scanned.ledger.objects), (0, 0));
    let error = open(folder.path(), None, &options).await.unwrap_err();
    assert!(error.to_string().contains("`in` matches no CSV object"), "{error}");
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn empty_and_header_only_files_have_no_rows() {
    let folder = tempdir().unwrap();
    write(folder.path(), "a.csv", b"");
    write(folder.path(), "b.csv", b"id,name,amount,at\n");
    write(folder.path(), "c.csv", b"\xef\xbb\xbfid,name,amount,at\n1,x,NA,1970-01-01\n");
    let options = [("path", "*.csv"), ("null_values", "NA")];
    let source = open(folder.path(), Some(columns()), &options).await.unwrap();
    let scanned = scan(&source, Ask::default()).await.unwrap();
    assert_eq!(scanned.text(), ["1|x|∅|1970-01-01T00:00:00"]);
    assert_eq!(scanned.ledger.objects, 3);
}

#[tokio::test]
async fn file_in_which_nothing_parses_is_all_rejects() {
    let folder = tempdir().unwrap();
    write(folder.path(), "a.json", b"<html>\n<body>\nno\n");
    let source = open(folder.path(), Some(columns()), &[("path", "a.json")]).await.unwrap();
    let scanned = scan(&source, Ask::default()).await.unwrap();
    assert_eq!((scanned.ledger.records, scanned.ledger.undecodable), (3, 3));
    assert_eq!(scanned.reasons()[0], "0|invalid_json|∅");
}

#[tokio::test]
async fn wrong_format_is_said() {
    let folder = tempdir().unwrap();
    write(folder.path(), "a.parquet", &csv(&rows(0..50)));
    write(folder.path(), "a.avro", &csv(&rows(0..50)));
    write(folder.path(), "a.arrow", &csv(&rows(0..50)));
    write(folder.path(), "a.csv.gz", &csv(&rows(0..50)));
    for (name, format) in [("a.parquet", "Parquet"), ("a.avro", "Avro"), ("a.arrow", "Arrow IPC"), ("a.csv.gz", "gzip")]
    {
        let source = open(folder.path(), Some(columns()), &[("path", name)]).await.unwrap();
        let error = scan(&source, Ask::default()).await.unwrap_err();
        assert!(matches!(&error, Error::BadFile { format: found, .. } if *found == format), "{error:?}");
        assert_eq!(error.kind(), ErrorKind::Data);
    }
}

#[tokio::test]
async fn gzip_without_its_ending_is_seen_by_its_first_bytes() {
    use tokio::io::AsyncReadExt;
    let folder = tempdir().unwrap();
    let (plain, mut bytes) = (csv(&rows(0..9)), Vec::new());
    async_compression::tokio::bufread::GzipEncoder::new(plain.as_slice()).read_to_end(&mut bytes).await.unwrap();
    write(folder.path(), "a.csv", &bytes);
    let source = open(folder.path(), Some(columns()), &[("path", "a.csv")]).await.unwrap();
    assert_eq!(scan(&source, Ask::default()).await.unwrap().text(), text(&[rows(0..9)]));
}

#[tokio::test]
async fn column_that_changes_its_type_between_files_names_file_column_and_types() {
    let folder = tempdir().unwrap();
    let batch = |id: ArrayRef| RecordBatch::try_from_iter([("id", id)]).unwrap();
    write(folder.path(), "a.parquet", &parquet(&batch(Arc::new(Int64Array::from(vec![1]))), 9));
    write(folder.path(), "b.parquet", &parquet(&batch(Arc::new(Int32Array::from(vec![2]))), 9));
    let source = open(folder.path(), None, &[("path", "*.parquet")]).await.unwrap();
    assert_eq!(scan(&source, Ask::default()).await.unwrap().text(), ["1", "2"]);
    write(folder.path(), "c.parquet", &parquet(&batch(Arc::new(StringArray::from(vec!["3"]))), 9));
    let error = scan(&source, Ask::default()).await.unwrap_err().to_string();
    for part in ["`c.parquet`", "column `id`", "Utf8", "Int64"] {
        assert!(error.contains(part), "{error}");
    }
}

#[tokio::test]
async fn file_that_does_not_fit_is_said_whatever_the_query_reads() {
    let batch = rows(0..9);
    let mut declared = columns();
    declared[2] = column("amount", DataType::Int64, true);
    for (name, bytes) in [("a.parquet", parquet(&batch, 9)), ("a.arrow", ipc_file(&batch)), ("a.avro", avro(&batch))] {
        let folder = tempdir().unwrap();
        write(folder.path(), name, &bytes);
        let source = open(folder.path(), Some(declared.clone()), &[("path", name)]).await.unwrap();
        let error = scan(&source, Ask { projection: Some(&[0]), ..Ask::default() }).await.unwrap_err();
        assert!(matches!(&error, Error::SchemaMismatch { reason, .. } if reason.contains("`amount`")), "{error:?}");
    }
}

#[tokio::test]
async fn file_is_quarantined_whatever_the_query_reads() {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..9));
    let nanos: ArrayRef = Arc::new((0..9).map(|at| Some(i64::from(at == 8))).collect::<TimestampNanosecondArray>());
    let batch = RecordBatch::try_from_iter([("id", ids), ("at", nanos)]).unwrap();
    let declared = vec![column("id", DataType::Int64, false), column("at", MICROS, true)];
    for (name, bytes) in [("a.parquet", parquet(&batch, 3)), ("a.arrow", ipc_file(&batch))] {
        let folder = tempdir().unwrap();
        write(folder.path(), name, &bytes);
        let options = [("path", name), ("on_error", "quarantine")];
        let source = open(folder.path(), Some(declared.clone()), &options).await.unwrap();
        let filters = [col("id").lt(lit(2_i64))];
        for projection in [None, Some([0].as_slice())] {
            let scanned = scan(&source, Ask { projection, filters: &filters, ..Ask::default() }).await.unwrap();
            assert_eq!(scanned.reasons(), ["0|unreadable_file|∅"], "{name}");
            assert_eq!((scanned.text().len(), scanned.ledger.records), (0, 1), "{name}");
        }
    }
}

#[tokio::test]
async fn text_file_whose_header_is_wrong_is_quarantined_wherever_the_header_is() {
    // More blank lines than one read brings.
    let late = ["\n".repeat(3 << 20).as_str(), "x,y\n1,2\n"].concat().into_bytes();
    for bytes in [late, b"x,y".to_vec(), b"\xff\xfe".to_vec()] {
        let folder = tempdir().unwrap();
        write(folder.path(), "a.csv", &bytes);
        let options = [("path", "a.csv"), ("on_error", "quarantine")];
        let source = open(folder.path(), Some(columns()), &options).await.unwrap();
        let scanned = scan(&source, Ask::default()).await.unwrap();
        assert_eq!(scanned.reasons(), ["0|unreadable_file|∅"]);
    }
}

#[tokio::test]
async fn columns_added_removed_and_reordered_are_matched_by_name() {
    let folder = tempdir().unwrap();
    let whole = rows(0..4);
    let cases = [
        ("a", whole.project(&[3, 1, 0, 2]).unwrap(), text(std::slice::from_ref(&whole))),
        (
            "b",
            whole.project(&[0, 1]).unwrap(),
            vec!["0|∅|∅|∅".to_owned(), "1|näme \"1\", x|∅|∅".into(), "2|näme \"2\", x|∅|∅".into(), "3|∅|∅|∅".into()],
        ),
    ];
    for (name, batch, expected) in cases {
        for (ending, bytes) in [
            ("parquet", parquet(&batch, 9)),
            ("avro", avro(&batch)),
            ("arrow", ipc_file(&batch)),
            ("csv", csv(&batch)),
            ("json", json(&batch)),
        ] {
            let file = format!("{name}.{ending}");
            write(folder.path(), &file, &bytes);
            let source = open(folder.path(), Some(columns()), &[("path", &file)]).await.unwrap();
            assert_eq!(scan(&source, Ask::default()).await.unwrap().text(), expected, "{file}");
        }
    }
    write(folder.path(), "c.parquet", &parquet(&whole.project(&[1, 2]).unwrap(), 9));
    let source = open(folder.path(), Some(columns()), &[("path", "c.parquet")]).await.unwrap();
    let error = scan(&source, Ask::default()).await.unwrap_err();
    assert!(error.to_string().contains("no column `id`"), "{error}");
}

fn with_nulls() -> RecordBatch {
    let ids: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None, Some(3), None]));
    let names: ArrayRef = Arc::new(StringArray::from(vec!["a", "b", "c", "d"]));
    RecordBatch::try_from_iter_with_nullable([("id", ids, true), ("name", names, true)]).unwrap()
}

#[tokio::test]
async fn null_in_not_null_is_a_reject_even_where_the_column_is_not_read() {
    let declared = vec![column("id", DataType::Int64, false), column("name", DataType::Utf8, true)];
    let batch = with_nulls();
    let files = [
        ("a.parquet", parquet(&batch, 2)),
        ("a.arrow", ipc_file(&batch)),
        ("a.avro", avro(&batch)),
        ("a.json", json(&batch)),
    ];
    for (name, bytes) in files {
        let folder = tempdir().unwrap();
        write(folder.path(), name, &bytes);
        let source = open(folder.path(), Some(declared.clone()), &[("path", name)]).await.unwrap();
        let scanned = scan(&source, Ask { projection: Some(&[1]), ..Ask::default() }).await.unwrap();
        assert_eq!(scanned.text(), ["a", "c"], "{name}");
        assert_eq!(scanned.reasons(), ["1|null_in_not_null|id", "3|null_in_not_null|id"], "{name}");
        assert_eq!((scanned.ledger.undecodable, scanned.ledger.admitted), (2, 2), "{name}");
        let originals: Vec<_> = scanned
            .rejects
            .iter()
            .flat_map(|batch| {
                let column = AsArray::as_binary::<i32>(batch.column(6)).clone();
                column.iter().flatten().map(|bytes| String::from_utf8(bytes.to_vec()).unwrap()).collect::<Vec<_>>()
            })
            .collect();
        assert_eq!(originals, ["{\"id\":null,\"name\":\"b\"}", "{\"id\":null,\"name\":\"d\"}"], "{name}");
    }
}

#[tokio::test]
async fn bad_event_times_are_quarantined_even_where_the_column_is_not_read() {
    let far = 4_000_000_000_000_000;
    let at: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![Some(0), None, Some(far), Some(5)]));
    let ids: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3, 4]));
    let batch = RecordBatch::try_from_iter_with_nullable([("id", ids, false), ("at", at, true)]).unwrap();
    let files = [
        ("a.parquet", parquet(&batch, 2)),
        ("a.arrow", ipc_file(&batch)),
        ("a.avro", avro(&batch)),
        ("a.csv", csv(&batch)),
    ];
    for (name, bytes) in files {
        let folder = tempdir().unwrap();
        write(folder.path(), name, &bytes);
        let declared = vec![column("id", DataType::Int64, false), column("at", MICROS, true)];
        let mut definition = definition(Some(declared), &[("path", name)]);
        definition.watermark = Some(watermark("at", 0, None));
        let options = parse(&mut definition, folder.path());
        let source = ObjectSource::open(&definition, options).await.unwrap();
        let scanned = scan(&source, Ask { projection: Some(&[0]), ..Ask::default() }).await.unwrap();
        assert_eq!(scanned.text(), ["1", "4"], "{name}");
        assert_eq!(scanned.reasons(), ["1|null_event_time|at", "2|event_time_ahead|at"], "{name}");
        assert_eq!((scanned.ledger.decoded, scanned.ledger.bad_event_time), (4, 2), "{name}");
    }
}

#[tokio::test]
async fn text_record_with_a_bad_event_time_goes_to_quarantine_as_it_is_written() {
    let json = "{ \"id\": 1, \"at\": \"1970-01-01\" }\n\n{\"id\":2,\"more\":[1]}\r\n{\"at\":\"2999-01-01\",\"id\":3}\n";
    let csv = "at,id,more\n1970-01-01,1,\n,2,\"a\nb\"\n2999-01-01,3,x";
    let gzip = super::formats::compressed(Compression::Gzip, csv.as_bytes()).await;
    for (name, bytes, text, expected) in [
        ("a.json", json.as_bytes().to_vec(), json, ["1|3|33|19|null_event_time|at", "2|4|54|26|event_time_ahead|at"]),
        ("a.csv", csv.as_bytes().to_vec(), csv, ["1|3|25|8|null_event_time|at", "2|5|34|14|event_time_ahead|at"]),
        ("a.csv.gz", gzip, csv, ["1|3|25|8|null_event_time|at", "2|5|34|14|event_time_ahead|at"]),
    ] {
        let folder = tempdir().unwrap();
        write(folder.path(), name, &bytes);
        let declared = vec![column("id", DataType::Int64, false), column("at", MICROS, true)];
        let mut definition = definition(Some(declared), &[("path", name)]);
        definition.watermark = Some(watermark("at", 0, None));
        let options = parse(&mut definition, folder.path());
        let source = ObjectSource::open(&definition, options).await.unwrap();
        for projection in [None, Some([0].as_slice()), Some([].as_slice())] {
            let scanned = scan(&source, Ask { projection, ..Ask::default() }).await.unwrap();
            let rejects = concat_batches(scanned.rejects[0].schema_ref(), &scanned.rejects).unwrap();
            assert_eq!(super::harness::text(&[rejects.project(&[0, 1, 2, 3, 4, 5]).unwrap()]), expected, "{name}");
            for row in 0..2 {
                let number = |column: usize| rejects.column(column).as_primitive::<UInt64Type>().value(row);
                let (start, length) = (usize::try_from(number(2)).unwrap(), usize::try_from(number(3)).unwrap());
                let original = rejects.column(6).as_binary::<i32>().value(row);
                assert_eq!(original, &text.as_bytes()[start..start + length], "{name}");
            }
            assert_eq!((scanned.ledger.decoded, scanned.ledger.bad_event_time, scanned.ledger.admitted), (3, 2, 1));
        }
    }
}

#[tokio::test]
async fn metadata_columns_come_after_the_declared() {
    let folder = tempdir().unwrap();
    for (name, bytes) in [("in/a.csv", csv(&rows(0..2))), ("in/b.csv", csv(&rows(2..4)))] {
        write(folder.path(), name, &bytes);
    }
    let mut definition = definition(Some(columns()), &[("path", "in"), ("format", "csv")]);
    let kinds = [(IncludeKind::Row, "row"), (IncludeKind::Path, "path"), (IncludeKind::Modified, "modified")];
    definition.includes = kinds.map(|(kind, column)| IncludeColumn { kind, name: name(column) }).to_vec();
    let options = parse(&mut definition, folder.path());
    let source = ObjectSource::open(&definition, options).await.unwrap();
    assert_eq!(source.schema().fields().len(), 7);
    let scanned = scan(&source, Ask { projection: Some(&[0, 4, 5]), ..Ask::default() }).await.unwrap();
    assert_eq!(scanned.text(), ["0|0|in/a.csv", "1|1|in/a.csv", "2|0|in/b.csv", "3|1|in/b.csv"]);
    let times = scan(&source, Ask { projection: Some(&[6]), ..Ask::default() }).await.unwrap();
    assert!(times.text()[0].ends_with('Z'), "{:?}", times.text());
}

#[test]
fn options_are_checked_in_one_go() {
    let check = |options: &[(&str, &str)], expected: &[&str]| {
        let mut definition = definition(None, options);
        let (parsed, diagnostics) = crate::SourceOptions::parse(&mut definition, std::path::Path::new("/"));
        assert!(parsed.is_none());
        let found: Vec<_> = diagnostics
            .iter()
            .map(|found| format!("{}; {}", found.message, found.help.as_deref().unwrap_or_default()))
            .collect();
        for expected in expected {
            assert!(found.iter().any(|found| found.contains(expected)), "{expected} in {found:?}");
        }
        assert_eq!(found.len(), expected.len(), "{found:?}");
    };
    check(&[("path", "a.csv"), ("delimitr", ";"), ("on_change", "ignor")], &["`delimiter`", "`'ignore'`"]);
    check(&[("format", "csv")], &["no option `path`"]);
    check(&[("path", "in/")], &["does not say its format"]);
    check(&[("path", "in/*.parquet"), ("format", "csv")], &["do not agree"]);
    check(&[("path", "a.parquet"), ("compression", "gzip")], &["compresses its own blocks"]);
    check(&[("path", "a.csv"), ("connector", "s3")], &["`'object_store'`"]);
    check(&[("path", "a.csv"), ("connector", "kafk")], &["`'kafka'`"]);
    check(&[("path", "a/{b.csv")], &["lacks a `}`"]);
    check(&[("path", "ftp://x/a.csv")], &["`ftp://`"]);
    #[cfg(feature = "cloud")]
    check(&[("path", "https://x/*.csv")], &["lists nothing"]);
}
