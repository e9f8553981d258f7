//! Reads are pinned: what changes or goes away between listing and reading is said, never read half.

use std::fs::OpenOptions;
use std::io::Write;
use std::time::{Duration, SystemTime};

use bessemer_schemas::ErrorKind;
use datafusion_catalog::Session;
use futures::TryStreamExt;
use object_store::ObjectStoreExt;
use tempfile::tempdir;

use super::harness::*;
use super::odd_store::OddStore;
use crate::Error;
use crate::object_store::EpochScans;

fn is_unstable(error: &Error, path: &str, expected: &str) -> bool {
    error.kind() == ErrorKind::Unavailable
        && matches!(error, Error::Unstable { path: found, what, .. } if found == path && *what == expected)
}

#[tokio::test]
async fn file_replaced_after_the_listing_is_said() {
    for ending in ["csv", "parquet", "avro", "arrow"] {
        let bytes = |ids| match ending {
            "csv" => csv(&rows(ids)),
            "parquet" => parquet(&rows(ids), 9),
            "avro" => avro(&rows(ids)),
            _ => ipc_file(&rows(ids)),
        };
        let (folder, name) = (tempdir().unwrap(), format!("a.{ending}"));
        write(folder.path(), &name, &bytes(0..50));
        let source = open(folder.path(), Some(columns()), &[("path", &name)]).await.unwrap();
        let objects = listed(&source).await.unwrap();
        write(folder.path(), &name, &bytes(0..60));
        let error = scan_objects(&source, &objects, Ask::default()).await.unwrap_err();
        assert!(is_unstable(&error, &name, "changed"), "{error:?}");
        std::fs::remove_file(folder.path().join(&name)).unwrap();
        let error = scan_objects(&source, &objects, Ask::default()).await.unwrap_err();
        assert!(is_unstable(&error, &name, "disappeared"), "{error:?}");
    }
}

#[tokio::test]
async fn object_replaced_after_the_listing_is_said() {
    for (name, old, new) in [
        ("a.csv", csv(&rows(0..50)), csv(&rows(50..100))),
        ("a.parquet", parquet(&rows(0..50), 9), parquet(&rows(50..100), 9)),
        ("a.avro", avro(&rows(0..50)), avro(&rows(50..100))),
    ] {
        let (source, location) = open_in_memory(&[(name, old)], Some(columns()), &[("path", name)]).await.unwrap();
        let objects = listed(&source).await.unwrap();
        assert!(objects[0].etag.is_some());
        location.store().put(&location.path(name), new.into()).await.unwrap();
        let error = scan_objects(&source, &objects, Ask::default()).await.unwrap_err();
        assert!(is_unstable(&error, name, "changed"), "{error:?}");
        location.store().delete(&location.path(name)).await.unwrap();
        let error = scan_objects(&source, &objects, Ask::default()).await.unwrap_err();
        assert!(is_unstable(&error, name, "disappeared"), "{error:?}");
    }
}

#[tokio::test]
async fn tag_that_a_listing_spells_without_quotes_is_the_same_tag() {
    for (name, bytes) in [("a.csv", csv(&rows(0..50))), ("a.parquet", parquet(&rows(0..50), 9))] {
        let store = OddStore::default();
        store.put(&format!("in/{name}").as_str().into(), bytes.into()).await.unwrap();
        let source = open_in(store, Some(columns()), &[("path", &format!("*{name}"))]).await.unwrap();
        let objects = listed(&source).await.unwrap();
        assert!(objects[0].etag.as_ref().is_some_and(|tag| !tag.starts_with('"')));
        assert_eq!(scan_objects(&source, &objects, Ask::default()).await.unwrap().text(), text(&[rows(0..50)]));
    }
}

#[tokio::test]
async fn file_that_grows_while_it_is_read_is_said_and_not_done() {
    let folder = tempdir().unwrap();
    // More than one chunk, so that the scan is in the middle when the file grows.
    write(folder.path(), "a.csv", &csv(&rows(0..100_000)));
    let source = open(folder.path(), Some(columns()), &[("path", "a.csv")]).await.unwrap();
    let objects = listed(&source).await.unwrap();
    let (sender, mut reports) = tokio::sync::mpsc::channel(1_000);
    let (plan, context) = plan(&source, &objects, &Ask::default(), EpochScans::new(sender)).await;
    let mut stream = plan.execute(0, context.task_ctx()).unwrap();
    stream.try_next().await.unwrap().unwrap();
    OpenOptions::new().append(true).open(folder.path().join("a.csv")).unwrap().write_all(b"7,,,\n").unwrap();
    let error = ours(stream.try_collect::<Vec<_>>().await.unwrap_err());
    assert!(is_unstable(&error, "a.csv", "changed"), "{error:?}");
    drop((plan, context));
    while let Some(report) = reports.recv().await {
        assert!(matches!(report, crate::object_store::ScanReport::Progress { .. }), "{report:?}");
    }
}

#[tokio::test]
async fn rewritten_in_place_with_the_same_size_is_seen_by_its_time() {
    let folder = tempdir().unwrap();
    write(folder.path(), "a.csv", &csv(&rows(0..5)));
    let source = open(folder.path(), Some(columns()), &[("path", "a.csv")]).await.unwrap();
    let objects = listed(&source).await.unwrap();
    let file = OpenOptions::new().write(true).open(folder.path().join("a.csv")).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1)).unwrap();
    let error = scan_objects(&source, &objects, Ask::default()).await.unwrap_err();
    assert!(is_unstable(&error, "a.csv", "changed"), "{error:?}");
}

#[tokio::test]
async fn file_renamed_over_is_still_read_as_it_was_opened() {
    let folder = tempdir().unwrap();
    write(folder.path(), "a.csv", &csv(&rows(0..100_000)));
    write(folder.path(), "new", b"id\n1\n");
    let source = open(folder.path(), Some(columns()), &[("path", "a.csv")]).await.unwrap();
    let objects = listed(&source).await.unwrap();
    let (plan, context) = plan(&source, &objects, &Ask::default(), EpochScans::silent()).await;
    let mut stream = plan.execute(0, context.task_ctx()).unwrap();
    let mut count = stream.try_next().await.unwrap().unwrap().num_rows();
    std::fs::rename(folder.path().join("new"), folder.path().join("a.csv")).unwrap();
    count +=
        stream.try_collect::<Vec<_>>().await.unwrap().iter().map(arrow::array::RecordBatch::num_rows).sum::<usize>();
    assert_eq!(count, 100_000);
}

#[tokio::test]
async fn only_the_first_scan_of_an_epoch_reports() {
    let folder = tempdir().unwrap();
    write(folder.path(), "a.csv", &csv(&rows(0..5)));
    let source = open(folder.path(), Some(columns()), &[("path", "a.csv")]).await.unwrap();
    let objects = listed(&source).await.unwrap();
    let (sender, mut reports) = tokio::sync::mpsc::channel(1_000);
    let (first, context) = plan(&source, &objects, &Ask::default(), EpochScans::new(sender)).await;
    let second = source.table_provider(false).scan(&context, None, &[], None).await.unwrap();
    for plan in [&first, &second] {
        let stream = plan.execute(0, context.task_ctx()).unwrap();
        stream.try_collect::<Vec<_>>().await.unwrap();
    }
    context.config().get_extension::<EpochScans>().unwrap().reset_reporter("flights");
    let third = source.table_provider(false).scan(&context, None, &[], None).await.unwrap();
    third.execute(0, context.task_ctx()).unwrap().try_collect::<Vec<_>>().await.unwrap();
    drop((first, second, third, context));
    let mut done = 0;
    while let Some(report) = reports.recv().await {
        done += usize::from(matches!(report, crate::object_store::ScanReport::ObjectDone { .. }));
    }
    assert_eq!(done, 2);
}
