//! What the module `quarantine` promises, tested.

use arrow::array::{Array, BinaryArray, ListArray, ListBuilder, StringBuilder};
use bessemer_schemas::{Claim, pack_origin};
use object_store::memory::InMemory;
use object_store::path::Path;

use super::*;

const NAMING: WriterNaming = WriterNaming { epoch: Epoch(3), claim: Claim(1), attempt: 0, stream: 0 };

struct OneSource;

impl Origins for OneSource {
    fn origin(&self, source: u64, object: u64) -> Option<PartOrigin<'_>> {
        let part = || PartOrigin { source: "flights", path: "in/5.json".to_owned(), first_row: 0 };
        (source == 2 && object == 5).then(part)
    }
}

fn state() -> Location {
    Location::in_store(Arc::new(InMemory::new()), Path::from("state"))
}

async fn read(location: &Location, files: &[DataFile], limit: u64) -> Vec<RecordBatch> {
    read_rows(location, files, limit).try_collect().await.unwrap()
}

fn rejects(rows: u64) -> RecordBatch {
    let numbers = || Arc::new((0..rows).map(Some).collect::<UInt64Array>()) as ArrayRef;
    let reasons = StringArray::from_iter_values((0..rows).map(|_| "invalid_json"));
    let columns = (0..rows).map(|row| (row % 2 == 0).then_some("dep_delay")).collect::<StringArray>();
    let original = (0..rows).map(|row| Some(format!("{{\"a\": {row}"))).collect::<Vec<_>>();
    let original: BinaryArray = original.iter().map(|text| text.as_ref().map(String::as_bytes)).collect();
    let arrays: Vec<ArrayRef> =
        vec![numbers(), numbers(), numbers(), numbers(), Arc::new(reasons), Arc::new(columns), Arc::new(original)];
    RecordBatch::try_new(reject_schema(), arrays).unwrap()
}

#[tokio::test]
async fn records_come_back_with_their_bytes_and_place() {
    let state = state();
    let object =
        ObjectVersion { path: "in/1.json".to_owned(), size: 9, modified: 1_000_000, etag: None, late_before: None };
    let mut writer = QuarantineWriter::of_source(&state, "p", "flights", NAMING, None).unwrap();
    writer.write_records("flights", &object, &rejects(5_000)).await.unwrap();
    assert_eq!(writer.rows(), 5_000);
    let files = writer.finish().await.unwrap();

    assert_eq!(files.iter().map(|file| file.rows).sum::<u64>(), 5_000);
    let location = quarantine_location(&state, QuarantineOwner::Source("flights"));
    assert_eq!(location.prefix().as_ref(), "state/quarantine/source/flights");
    let batches = read(&location, &files, 3).await;
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 3);
    let first = &batches[0];
    let names: Vec<_> = first.schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(
        names,
        [
            "epoch",
            "source",
            "path",
            "modified",
            "record",
            "line",
            "byte_start",
            "byte_len",
            "reason",
            "column",
            "original"
        ]
    );
    assert_eq!(first.column(2).as_string::<i32>().value(2), "in/1.json");
    assert_eq!(first.column(10).as_binary::<i32>().value(2), b"{\"a\": 2");
    assert_eq!(read(&location, &files, u64::MAX).await.iter().map(RecordBatch::num_rows).sum::<usize>(), 5_000);
    assert!(read(&location, &files, 0).await.is_empty());
}

#[tokio::test]
async fn rows_come_back_with_what_they_broke_and_where_they_came_from() {
    let state = state();
    let origins = UInt64Array::from(vec![Some(pack_origin(2, 5, 41)), None, Some(pack_origin(0, 0, 1))]);
    let rows = RecordBatch::try_from_iter([
        ("delay", Arc::new(Int64Array::from(vec![1, 2, 3])) as ArrayRef),
        (ORIGIN_COLUMN, Arc::new(origins)),
    ])
    .unwrap();
    let mut broken = ListBuilder::new(StringBuilder::new());
    for names in [vec!["sane", "known"], vec!["sane"], vec!["known"]] {
        broken.append_value(names.into_iter().map(Some));
    }
    let broken: ListArray = broken.finish();
    let mut writer = QuarantineWriter::of_set(&state, "p", "a/b", &rows.schema(), NAMING, None).unwrap();
    writer.write_rows(&rows, &(Arc::new(broken.clone()) as ArrayRef), &OneSource).await.unwrap();
    let files = writer.finish().await.unwrap();

    let location = quarantine_location(&state, QuarantineOwner::Set("a/b"));
    assert_eq!(location.prefix().as_ref(), "state/quarantine/set/a%2Fb");
    let batch = read(&location, &files, 10).await.remove(0);
    let names: Vec<_> = batch.schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names, ["delay", "_violations", "_epoch", "_source", "_path", "_row"]);
    assert_eq!(batch.column(1).as_list::<i32>(), &broken);
    let text = |column: usize| {
        batch.column(column).as_string::<i32>().iter().map(|v| v.map(str::to_owned)).collect::<Vec<_>>()
    };
    assert_eq!(text(3), [Some("flights".to_owned()), None, None]);
    assert_eq!(text(4), [Some("in/5.json".to_owned()), None, None]);
    let row = batch.column(5).as_primitive::<UInt64Type>();
    assert_eq!((row.value(0), row.is_null(1), row.value(2)), (41, true, 1));
}

#[tokio::test]
async fn nothing_quarantined_makes_no_file() {
    let writer = QuarantineWriter::of_source(&state(), "p", "flights", NAMING, None).unwrap();
    assert!(writer.finish().await.unwrap().is_empty());
}
