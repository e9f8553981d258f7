//! The same rows through every format and compression.

use async_compression::tokio::bufread as encoders;
use proptest::prelude::*;
use tempfile::tempdir;
use tokio::io::AsyncReadExt;

use super::harness::*;
use crate::formats::compression::Compression;

pub(super) async fn compressed(compression: Compression, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match compression {
        Compression::None => out.extend_from_slice(bytes),
        Compression::Gzip => drop(encoders::GzipEncoder::new(bytes).read_to_end(&mut out).await.unwrap()),
        Compression::Zstd => drop(encoders::ZstdEncoder::new(bytes).read_to_end(&mut out).await.unwrap()),
        Compression::Bzip2 => drop(encoders::BzEncoder::new(bytes).read_to_end(&mut out).await.unwrap()),
        Compression::Xz => drop(encoders::XzEncoder::new(bytes).read_to_end(&mut out).await.unwrap()),
    }
    out
}

/// Name, content and options of a file with `rows(0..50)` in every format.
async fn files() -> Vec<(String, Vec<u8>)> {
    let batch = rows(0..50);
    let mut files = vec![
        ("a.parquet".to_owned(), parquet(&batch, 7)),
        ("a.arrow".to_owned(), ipc_file(&batch)),
        ("a.arrows".to_owned(), ipc_stream(&batch)),
        ("a.avro".to_owned(), avro(&batch)),
        ("a.csv".to_owned(), csv(&batch)),
        ("a.json".to_owned(), json(&batch)),
    ];
    let endings =
        [("gz", Compression::Gzip), ("zst", Compression::Zstd), ("bz2", Compression::Bzip2), ("xz", Compression::Xz)];
    for (ending, compression) in endings {
        files.push((format!("a.csv.{ending}"), compressed(compression, &csv(&batch)).await));
        files.push((format!("a.jsonl.{ending}"), compressed(compression, &json(&batch)).await));
    }
    files
}

#[tokio::test]
async fn every_format_gives_the_same_rows() {
    for (name, bytes) in files().await {
        let folder = tempdir().unwrap();
        write(folder.path(), &name, &bytes);
        let local = open(folder.path(), Some(columns()), &[("path", &name)]).await.unwrap();
        let (remote, _) = open_in_memory(&[(&name, bytes.clone())], Some(columns()), &[("path", &name)]).await.unwrap();
        for source in [local, remote] {
            let scanned = scan(&source, Ask::default()).await.unwrap();
            assert_eq!(scanned.text(), text(&[rows(0..50)]), "{name}");
            assert_eq!((scanned.ledger.objects, scanned.ledger.admitted), (1, 50), "{name}");
            assert_eq!(scanned.ledger.bytes, bytes.len() as u64, "{name}");
            assert!(scanned.bytes > 0, "{name}");
            for batch in &scanned.batches {
                assert_eq!(batch.schema_ref(), source.schema(), "{name}");
            }
        }
    }
}

#[tokio::test]
async fn columns_left_out_are_inferred() {
    for (name, bytes) in files().await {
        let folder = tempdir().unwrap();
        write(folder.path(), &name, &bytes);
        let source = open(folder.path(), None, &[("path", &name)]).await.unwrap();
        let names: Vec<_> = source.schema().fields().iter().map(|field| field.name().as_str()).collect();
        assert_eq!(names, ["id", "name", "amount", "at"], "{name}");
        let scanned = scan(&source, Ask::default()).await.unwrap();
        assert_eq!(scanned.text(), text(&[rows(0..50)]), "{name}");
    }
}

#[tokio::test]
async fn columns_are_inferred_from_the_values_of_several_files() {
    let folder = tempdir().unwrap();
    write(folder.path(), "a.json", b"{\"id\":null,\"o\":{\"x\":1}}\n");
    write(folder.path(), "b.json", b"{\"o\":{\"y\":2.5,\"x\":null},\"id\":1}\n");
    let source = open(folder.path(), None, &[("path", "*.json")]).await.unwrap();
    let scanned = scan(&source, Ask::default()).await.unwrap();
    assert_eq!(scanned.text(), ["∅|{x: 1, y: ∅}", "1|{x: ∅, y: 2.5}"]);
}

#[tokio::test]
async fn projection_and_identity_agree_with_the_whole() {
    for (name, bytes) in files().await {
        let folder = tempdir().unwrap();
        write(folder.path(), &name, &bytes);
        write(folder.path(), &format!("b/{name}"), &bytes);
        let source = open(folder.path(), Some(columns()), &[("path", &format!("**/{name}"))]).await.unwrap();
        let whole = scan(&source, Ask { with_origin: true, ..Ask::default() }).await.unwrap();
        let whole = whole.whole(source.table_provider(true).schema().as_ref());
        let projection = [4, 2, 0];
        let ask = Ask { with_origin: true, projection: Some(&projection), batch_rows: Some(3), ..Ask::default() };
        let projected = scan(&source, ask).await.unwrap();
        assert_eq!(projected.text(), text(&[whole.project(&projection).unwrap()]), "{name}");
        assert_eq!(projected.ledger.admitted, 100, "{name}");
        let none = scan(&source, Ask { projection: Some(&[]), ..Ask::default() }).await.unwrap();
        assert_eq!(none.batches.iter().map(arrow::array::RecordBatch::num_rows).sum::<usize>(), 100, "{name}");
        let origins = text(&[whole.project(&[4]).unwrap()]);
        let expected = (0..2).flat_map(|object| (0..50).map(move |row| bessemer_schemas::pack_origin(5, object, row)));
        assert_eq!(origins, expected.map(|origin| origin.to_string()).collect::<Vec<_>>(), "{name}");
    }
}

#[tokio::test]
async fn members_of_a_compressed_file_are_all_read() {
    for (ending, compression) in
        [("gz", Compression::Gzip), ("zst", Compression::Zstd), ("bz2", Compression::Bzip2), ("xz", Compression::Xz)]
    {
        let folder = tempdir().unwrap();
        let mut bytes = compressed(compression, &json(&rows(0..20))).await;
        bytes.extend(compressed(compression, &json(&rows(20..50))).await);
        write(folder.path(), &format!("a.json.{ending}"), &bytes);
        let source = open(folder.path(), Some(columns()), &[("path", "."), ("format", "json")]).await.unwrap();
        assert_eq!(scan(&source, Ask::default()).await.unwrap().text(), text(&[rows(0..50)]), "{ending}");
    }
}

#[tokio::test]
async fn truncated_file_is_named_with_format_and_offset() {
    for (name, bytes) in files().await {
        if name == "a.csv" || name == "a.json" {
            continue;
        }
        for length in [0, 3, bytes.len() / 2, bytes.len() - 1] {
            let folder = tempdir().unwrap();
            write(folder.path(), &name, &bytes[..length]);
            let source = open(folder.path(), Some(columns()), &[("path", &name)]).await.unwrap();
            let error = scan(&source, Ask::default()).await.unwrap_err();
            let crate::Error::BadFile { path, offset, .. } = &error else { panic!("{name} {length}: {error:?}") };
            assert_eq!(path, &name);
            assert!(*offset <= length as u64, "{name} {length}: {error}");
        }
    }
}

#[tokio::test]
async fn truncated_file_is_quarantined_whole_where_the_source_says_so() {
    for (name, bytes) in files().await {
        if name == "a.csv" || name == "a.json" {
            continue;
        }
        let folder = tempdir().unwrap();
        write(folder.path(), &name, &bytes);
        write(folder.path(), &format!("b/{name}"), &bytes[..bytes.len() - 5]);
        let path = format!("**/{name}");
        let source =
            open(folder.path(), Some(columns()), &[("path", &path), ("on_error", "quarantine")]).await.unwrap();
        let scanned = scan(&source, Ask { partitions: 3, ..Ask::default() }).await.unwrap();
        assert_eq!(scanned.text(), text(&[rows(0..50)]), "{name}");
        assert_eq!(scanned.reasons(), ["0|unreadable_file|∅"], "{name}");
        assert_eq!((scanned.ledger.records, scanned.ledger.objects), (51, 2), "{name}");
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_number_of_partitions_gives_the_same_rows_in_order(
        cuts in prop::collection::vec(0..40_i64, 1..6),
        partitions in 1..7_usize,
        batch_rows in 1..50_usize,
        format in 0..3_usize,
    ) {
        let folder = tempdir().unwrap();
        let mut first = 0;
        for (at, length) in cuts.iter().enumerate() {
            let batch = rows(first..first + length);
            first += length;
            match format {
                0 => write(folder.path(), &format!("{at:02}.parquet"), &parquet(&batch, 5)),
                1 => write(folder.path(), &format!("{at:02}.csv"), &csv(&batch)),
                _ => write(folder.path(), &format!("{at:02}.avro"), &avro(&batch)),
            }
        }
        runtime().block_on(async {
            let name = ["parquet", "csv", "avro"][format];
            let source = open(folder.path(), Some(columns()), &[("path", "*"), ("format", name)]).await.unwrap();
            let ask = Ask { partitions, batch_rows: Some(batch_rows), ..Ask::default() };
            let scanned = scan(&source, ask).await.unwrap();
            assert_eq!(scanned.text(), text(&[rows(0..first)]));
            assert_eq!(scanned.ledger.objects, cuts.len() as u64);
            assert_eq!(scanned.ledger.records, first.unsigned_abs());
        });
    }
}
