//! What the module `log` promises, tested.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray, UInt64Array};
use arrow::datatypes::SchemaRef;
use bessemer_schemas::{Claim, ErrorKind, ORIGIN_COLUMN};
use deltalake::TableProperty;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use super::super::publish;
use super::*;
use crate::Location;
use crate::sink::faulty_store::FaultyStore;
use crate::sink::{FeatureSetOptions, SetFormat, SetWriter, WriterNaming, WrittenSet};

const DAY: i64 = 86_400_000_000;

fn rows(carriers: &[&str]) -> RecordBatch {
    let count = i64::try_from(carriers.len()).unwrap();
    RecordBatch::try_from_iter([
        ("carrier", Arc::new(StringArray::from(carriers.to_vec())) as ArrayRef),
        ("at", Arc::new(TimestampMicrosecondArray::from_iter_values((0..count).map(|_| 15_000 * DAY + 1)))),
        ("delay", Arc::new(Int64Array::from_iter_values(0..count))),
        (ORIGIN_COLUMN, Arc::new(UInt64Array::from_iter_values(0..carriers.len() as u64))),
    ])
    .unwrap()
}

fn target(location: &Location, schema: SchemaRef) -> DeltaTarget {
    DeltaTarget {
        location: location.clone(),
        pipeline: "flights".to_owned(),
        set: "delays".to_owned(),
        schema,
        partition_by: PartitionField::parse_list("carrier, day(at)").unwrap(),
    }
}

async fn write(location: &Location, epoch: u64, rows: &RecordBatch) -> Vec<DataFile> {
    let mut options = FeatureSetOptions::with_defaults(location.clone());
    options.format = SetFormat::Delta;
    options.partition_by = PartitionField::parse_list("carrier, day(at)").unwrap();
    let naming = WriterNaming { epoch: Epoch(epoch), claim: Claim(1), attempt: 0, stream: 0 };
    let mut writer = SetWriter::new(&options, &rows.schema(), naming, WrittenSet::new("flights", "delays")).unwrap();
    writer.write(rows).await.unwrap();
    writer.finish().await.unwrap()
}

fn commit(epoch: u64, added: &[DataFile], removed: &[DataFile]) -> DeltaCommit {
    let committed_at = i64::try_from(epoch).unwrap() * 1_000_000;
    DeltaCommit {
        epoch: Epoch(epoch),
        committed_at,
        added: added.to_vec(),
        removed: removed.to_vec(),
        data_change: true,
    }
}

fn in_memory() -> Location {
    Location::in_store(Arc::new(InMemory::new()), Path::from("sets/delays of 2013"))
}

async fn live(location: &Location, schema: SchemaRef) -> Vec<String> {
    let log = DeltaLog::open(target(location, schema)).await.unwrap();
    let mut paths: Vec<_> = log.live_paths().into_iter().collect();
    paths.sort_unstable();
    paths
}

fn paths(files: &[DataFile]) -> Vec<String> {
    files.iter().map(|file| file.path.clone()).collect()
}

#[tokio::test]
async fn publishing_twice_is_publishing_once() {
    let folder = tempfile::tempdir().unwrap();
    for location in [in_memory(), Location::local(&folder.path().join("delays of 2013")).unwrap()] {
        let rows = rows(&["A/A", "UA"]);
        let files = write(&location, 2, &rows).await;
        let commits = [commit(2, &files, &[])];

        let first = publish(target(&location, rows.schema()), &commits).await.unwrap();
        let second = publish(target(&location, rows.schema()), &commits).await.unwrap();

        assert_eq!((first, second), (Some(DeltaVersion(1)), Some(DeltaVersion(1))));
        assert_eq!(live(&location, rows.schema()).await, paths(&files));
        let log = DeltaLog::open(target(&location, rows.schema())).await.unwrap();
        assert_eq!(log.published(), Some(Epoch(2)));
        let view = log.table.snapshot().unwrap().snapshot().log_data().iter().next().unwrap();
        assert_eq!((view.size(), view.num_records()), (i64::try_from(files[0].bytes).unwrap(), Some(1)));
        assert_eq!(view.modification_time(), 2_000);
        let values = view.partition_values_map();
        assert_eq!(values["carrier"].as_deref(), Some("A/A"));
        assert_eq!(values["at_day"].as_deref(), Some("2011-01-26"));
    }
}

#[tokio::test]
async fn what_a_crash_left_out_is_published_as_one_version() {
    let location = in_memory();
    let rows = rows(&["AA"]);
    let mut commits = Vec::new();
    for epoch in 2..=4 {
        commits.push(commit(epoch, &write(&location, epoch, &rows).await, &[]));
    }
    publish(target(&location, rows.schema()), &commits[..1]).await.unwrap();

    let version = publish(target(&location, rows.schema()), &commits).await.unwrap();

    assert_eq!(version, Some(DeltaVersion(2)));
    let all: Vec<_> = commits.iter().flat_map(|commit| paths(&commit.added)).collect();
    assert_eq!(live(&location, rows.schema()).await, all);
}

#[tokio::test]
async fn replaced_files_are_removed_and_files_between_leave_no_trace() {
    let location = in_memory();
    let rows = rows(&["AA", "UA"]);
    let (first, second, third) =
        (write(&location, 2, &rows).await, write(&location, 3, &rows).await, write(&location, 4, &rows).await);
    let mut log = DeltaLog::open(target(&location, rows.schema())).await.unwrap();
    log.publish(&[commit(2, &first, &[])]).await.unwrap();

    log.publish(&[commit(3, &second, &first), commit(4, &third, &second)]).await.unwrap();

    assert_eq!(log.version(), Some(DeltaVersion(2)));
    assert_eq!(live(&location, rows.schema()).await, paths(&third));
    log.check_live(&third).unwrap();
}

#[tokio::test]
async fn compaction_is_a_version_of_its_own_that_changes_no_data() {
    let location = in_memory();
    let rows = rows(&["AA"]);
    let mut commits = Vec::new();
    for epoch in 2..5 {
        commits.push(commit(epoch, &write(&location, epoch, &rows).await, &[]));
    }
    // The first file is published, the others came since, and so did the one that took the place of all three.
    publish(target(&location, rows.schema()), &commits[..1]).await.unwrap();
    let merged = write(&location, 5, &rows).await;
    let removed: Vec<_> = commits.iter().flat_map(|commit| commit.added.clone()).collect();
    commits.push(DeltaCommit { data_change: false, ..commit(5, &merged, &removed) });
    commits.push(commit(6, &write(&location, 6, &rows).await, &[]));

    let version = publish(target(&location, rows.schema()), &commits).await.unwrap();
    assert_eq!(version, Some(DeltaVersion(4)));
    let expected = paths(&[merged, commits[4].added.clone()].concat());
    assert_eq!(live(&location, rows.schema()).await, expected);
    for (version, changes_data) in [(2, true), (3, false), (4, true)] {
        let path = location.path(&format!("_delta_log/{version:020}.json"));
        let text = location.store().get(&path).await.unwrap().bytes().await.unwrap();
        let text = String::from_utf8(text.to_vec()).unwrap();
        let says = |value: bool| text.contains(&format!("\"dataChange\":{value}"));
        assert_eq!((says(true), says(false)), (changes_data, !changes_data), "version {version}: {text}");
        assert_eq!(text.contains("OPTIMIZE"), !changes_data);
    }
}

#[tokio::test]
async fn a_set_that_is_replaced_may_have_new_columns_and_no_other_may() {
    let location = in_memory();
    let before = rows(&["AA"]);
    let after =
        RecordBatch::try_from_iter(before.schema().fields().iter().zip(before.columns()).map(|(field, column)| {
            (if field.name() == "delay" { "minutes" } else { field.name() }, Arc::clone(column))
        }))
        .unwrap();
    let (first, second) = (write(&location, 2, &before).await, write(&location, 3, &after).await);
    publish(target(&location, before.schema()), &[commit(2, &first, &[])]).await.unwrap();

    let appended = publish(target(&location, after.schema()), &[commit(3, &second, &[])]).await.unwrap_err();
    assert_eq!(appended.kind(), ErrorKind::Data, "{appended}");
    publish(target(&location, after.schema()), &[commit(3, &second, &first)]).await.unwrap();

    let log = DeltaLog::open(target(&location, after.schema())).await.unwrap();
    let names: Vec<_> = log.table.snapshot().unwrap().schema().fields().map(|field| field.name().clone()).collect();
    assert_eq!(names, ["carrier", "at", "minutes", "at_day"]);
}

#[tokio::test]
async fn a_foreign_commit_that_removed_our_files_is_an_error() {
    let location = in_memory();
    let rows = rows(&["AA", "UA"]);
    let first = write(&location, 2, &rows).await;
    let mut ours = DeltaLog::open(target(&location, rows.schema())).await.unwrap();
    ours.publish(&[commit(2, &first, &[])]).await.unwrap();
    let mut foreign = DeltaLog::open(target(&location, rows.schema())).await.unwrap();
    foreign.target.pipeline = "other".to_owned();
    foreign.published = None;
    foreign.publish(&[commit(9, &[], &first[..1])]).await.unwrap();

    let next = write(&location, 3, &rows).await;
    let during = ours.publish(&[commit(3, &next, &[])]).await.unwrap_err();
    let reopened = DeltaLog::open(target(&location, rows.schema())).await.unwrap();
    let later = reopened.check_live(&first).unwrap_err();

    for error in [during, later] {
        assert!(error.to_string().contains("was removed by another writer"), "{error}");
        assert_eq!(error.kind(), ErrorKind::Data);
    }
}

#[tokio::test]
async fn an_empty_text_is_no_partition_of_a_delta_table() {
    let location = in_memory();
    let rows = rows(&[""]);
    let mut options = FeatureSetOptions::with_defaults(location.clone());
    options.format = SetFormat::Delta;
    options.partition_by = PartitionField::parse_list("carrier").unwrap();
    let naming = WriterNaming { epoch: Epoch(1), claim: Claim(1), attempt: 0, stream: 0 };
    let mut writer = SetWriter::new(&options, &rows.schema(), naming, WrittenSet::new("flights", "delays")).unwrap();
    let error = writer.write(&rows).await.unwrap_err();
    assert!(error.to_string().contains("nullif(carrier, '')"), "{error}");
}

#[tokio::test]
async fn no_commit_makes_no_table() {
    let location = in_memory();
    assert_eq!(publish(target(&location, rows(&["AA"]).schema()), &[]).await.unwrap(), None);
    let listed: Vec<_> = location.store().list(None).try_collect().await.unwrap();
    assert!(listed.is_empty());
    assert!(location.store().head(&location.path("_delta_log")).await.is_err());
}

#[tokio::test]
async fn a_store_that_fails_at_any_call_is_worth_another_try() {
    let rows = rows(&["A/A %", "UA"]);
    for failing in 0.. {
        let store = Arc::new(FaultyStore::failing_at(failing));
        let location = Location::in_store(Arc::clone(&store) as Arc<dyn ObjectStore>, Path::from("set"));
        let healthy = in_memory();
        let files = write(&healthy, 2, &rows).await;
        for file in &files {
            let bytes = healthy.store().get(&healthy.path(&file.path)).await.unwrap().bytes().await.unwrap();
            store.put_untouched(&location.path(&file.path), bytes).await;
        }
        let commits = [commit(2, &files, &[])];

        let first = publish(target(&location, rows.schema()), &commits).await;
        let is_done = store.calls() <= failing;
        assert_eq!(first.is_ok(), is_done, "call {failing}: {first:?}");
        if let Err(error) = first {
            assert_eq!(error.kind(), ErrorKind::Unavailable, "call {failing}: {error}");
            publish(target(&location, rows.schema()), &commits).await.unwrap();
        }

        assert_eq!(live(&location, rows.schema()).await, paths(&files));
        if is_done {
            assert_eq!(failing, 2, "creating the table and one version");
            break;
        }
    }
}

#[tokio::test]
async fn a_log_with_a_checkpoint_has_the_same_files() {
    let location = in_memory();
    let rows = rows(&["A/A %"]);
    let empty = DeltaLog::open(target(&location, rows.schema())).await.unwrap();
    CreateBuilder::new()
        .with_log_store(empty.table.log_store())
        .with_columns(empty.schema.fields().cloned())
        .with_partition_columns(["carrier", "at_day"])
        .with_configuration_property(TableProperty::CheckpointInterval, Some("3"))
        .await
        .unwrap();
    let mut log = DeltaLog::open(target(&location, rows.schema())).await.unwrap();
    let mut all = Vec::new();
    for epoch in 2..=5 {
        let files = write(&location, epoch, &rows).await;
        log.publish(&[commit(epoch, &files, &[])]).await.unwrap();
        all.extend(files);
    }

    let checkpoint = location.path("_delta_log/00000000000000000002.checkpoint.parquet");
    location.store().head(&checkpoint).await.unwrap();
    let reopened = DeltaLog::open(target(&location, rows.schema())).await.unwrap();
    assert_eq!(reopened.published(), Some(Epoch(5)));
    reopened.check_live(&all).unwrap();
    assert_eq!(reopened.live_paths().len(), all.len());
}
