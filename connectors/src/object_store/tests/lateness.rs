//! Rows that the watermark has passed, in files of every format.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, BinaryArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray, UInt64Array,
};
use arrow_schema::DataType;
use bessemer_schemas::{OnLate, SliceLimits};
use datafusion_expr::{col, lit};
use futures::stream::{self, StreamExt};
use parquet::file::properties::{EnabledStatistics, WriterPropertiesBuilder};
use tempfile::tempdir;

use super::harness::*;
use crate::object_store::ObjectSource;
use crate::scan::{ReplayPart, ScanInput};
use crate::{Error, Source};

async fn open(folder: &Path, path: &str, on_late: Option<OnLate>) -> Arc<ObjectSource> {
    let declared = vec![column("id", DataType::Int64, false), column("at", MICROS, true)];
    let mut definition = definition(Some(declared), &[("path", path)]);
    definition.watermark = Some(watermark("at", 5, on_late));
    let options = parse(&mut definition, folder);
    ObjectSource::open(&definition, options).await.unwrap()
}

fn batch(times: Vec<Option<i64>>) -> RecordBatch {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values((0_i64..).take(times.len())));
    let at: ArrayRef = Arc::new(TimestampMicrosecondArray::from(times));
    RecordBatch::try_from_iter_with_nullable([("id", ids, false), ("at", at, true)]).unwrap()
}

/// Scans the files of which rows before `late_before` are late.
async fn scan_late(source: &Arc<ObjectSource>, late_before: Option<i64>, ask: Ask<'_>) -> Scanned {
    let mut objects = listed(source).await.unwrap();
    for object in &mut objects {
        object.late_before = late_before;
    }
    scan_objects(source, &objects, ask).await.unwrap()
}

#[tokio::test]
async fn late_rows_are_set_aside_in_every_format_whatever_is_read() {
    let rows = batch(vec![Some(30), Some(9), None, Some(10), Some(-1), Some(20)]);
    let files = [
        ("a.parquet", parquet(&rows, 2)),
        ("a.arrow", ipc_file(&rows)),
        ("a.avro", avro(&rows)),
        ("a.csv", csv(&rows)),
        ("a.json", json(&rows)),
    ];
    for (path, bytes) in files {
        let folder = tempdir().unwrap();
        write(folder.path(), path, &bytes);
        for projection in [[0].as_slice(), &[]] {
            let ask = || Ask { projection: Some(projection), ..Ask::default() };
            let source = open(folder.path(), path, Some(OnLate::Quarantine)).await;
            let scanned = scan_late(&source, Some(10), ask()).await;
            if !projection.is_empty() {
                assert_eq!(scanned.text(), ["0", "3", "5"], "{path}");
            }
            assert_eq!(scanned.reasons(), ["1|late|at", "2|null_event_time|at", "4|late|at"], "{path}");
            let original =
                String::from_utf8_lossy(scanned.rejects[0].column(6).as_binary::<i32>().value(0)).into_owned();
            assert!(original.contains("1970-01-01T00:00:00.000009"), "{path}: {original}");
            let ledger = scanned.ledger;
            assert_eq!((ledger.decoded, ledger.late, ledger.late_dropped, ledger.admitted), (6, 2, 0, 3), "{path}");
            assert_eq!((ledger.bad_event_time, ledger.event_time_max), (1, Some(30)), "{path}");

            let source = open(folder.path(), path, Some(OnLate::Drop)).await;
            let scanned = scan_late(&source, Some(10), ask()).await;
            assert_eq!(scanned.reasons(), ["2|null_event_time|at"], "{path}");
            let ledger = scanned.ledger;
            assert_eq!((ledger.decoded, ledger.late, ledger.late_dropped, ledger.admitted), (6, 2, 2, 3), "{path}");

            // Nothing is late before the first watermark, and nothing without the clause.
            let scanned = scan_late(&source, None, ask()).await;
            assert_eq!((scanned.ledger.late, scanned.ledger.event_time_max), (0, Some(30)), "{path}");
            let source = open(folder.path(), path, None).await;
            let scanned = scan_late(&source, Some(10), ask()).await;
            assert_eq!((scanned.ledger.late, scanned.ledger.event_time_max), (0, None), "{path}");
        }
    }
}

#[tokio::test]
async fn row_groups_that_no_query_needs_are_left_unread_only_where_nothing_in_them_is_late() {
    let folder = tempdir().unwrap();
    let times = (0..10_000).map(|at| Some(if at == 4_321 { 7 } else { 1_000 + at })).collect();
    write(folder.path(), "a.parquet", &parquet(&batch(times), 100));
    let source = open(folder.path(), "a.parquet", Some(OnLate::Quarantine)).await;
    let filters = [col("id").lt(lit(50_i64))];
    let ask = |filters| Ask { projection: Some(&[0]), filters, ..Ask::default() };
    let all = scan_late(&source, Some(1_000), ask(&[])).await;
    let some = scan_late(&source, Some(1_000), ask(&filters)).await;
    // One group with rows of the query, one with a late row.
    assert_eq!(some.text().len(), 199);
    assert_eq!(some.reasons(), ["4321|late|at"]);
    assert_eq!(some.ledger, all.ledger);
    assert_eq!((some.ledger.late, some.ledger.admitted, some.ledger.event_time_max), (1, 9_999, Some(10_999)));
    assert!(some.bytes * 5 < all.bytes, "{} of {}", some.bytes, all.bytes);
}

fn without_statistics(properties: WriterPropertiesBuilder) -> WriterPropertiesBuilder {
    properties.set_statistics_enabled(EnabledStatistics::None)
}

/// What is left of a source's objects is no older than this, as one after another is taken.
async fn oldest_unread(folder: &Path, path: &str, on_late: Option<OnLate>) -> Vec<Option<i64>> {
    let mut listing = open(folder, path, on_late).await.list(stream::empty().boxed()).await.unwrap();
    let mut oldest = Vec::new();
    loop {
        let one = &mut SliceLimits { files: 1, ..SliceLimits::default() };
        let is_empty = listing.next_slice(one).await.unwrap().is_empty();
        if is_empty {
            return oldest;
        }
        oldest.push(listing.oldest_unread().await.unwrap());
    }
}

#[tokio::test]
async fn statistics_of_what_is_not_read_yet_say_how_old_its_rows_may_be() {
    let folder = tempdir().unwrap();
    let times = |times: &[i64]| batch(times.iter().copied().map(Some).collect());
    let files = [("a", [5, 1, 2].as_slice()), ("b", &[40, 20, 30]), ("c", &[]), ("d", &[35, 25, 60]), ("e", &[90, 70])];
    for (name, of_file) in files {
        write(folder.path(), &format!("{name}.parquet"), &parquet(&times(of_file), 2));
        write(folder.path(), &format!("{name}.json"), &json(&times(of_file)));
    }
    let late = Some(OnLate::Drop);
    // The least of all that follow, not of the next one; what is taken first is not looked at.
    let known = [Some(20), Some(25), Some(25), Some(70), Some(i64::MAX)];
    assert_eq!(oldest_unread(folder.path(), "*.parquet", late).await, known);
    // Nobody asks where no row can be late, and texts do not tell.
    let unknown = [None, None, None, None, Some(i64::MAX)];
    assert_eq!(oldest_unread(folder.path(), "*.parquet", None).await, unknown);
    assert_eq!(oldest_unread(folder.path(), "*.json", late).await, unknown);

    // A file without statistics, one that is damaged, one in which the time is missing, one with a time that is null.
    write(
        folder.path(),
        "d.parquet",
        &parquet_with(&times(&[35, 25]), |properties| properties.set_statistics_enabled(EnabledStatistics::None)),
    );
    assert_eq!(oldest_unread(folder.path(), "*.parquet", late).await, [None, None, None, Some(70), Some(i64::MAX)]);
    write(folder.path(), "d.parquet", b"PAR1 and so on");
    assert_eq!(oldest_unread(folder.path(), "*.parquet", late).await, [None, None, None, Some(70), Some(i64::MAX)]);
    write(folder.path(), "d.parquet", &parquet(&times(&[1]).project(&[0]).unwrap(), 2));
    assert_eq!(oldest_unread(folder.path(), "*.parquet", late).await, [None, None, None, Some(70), Some(i64::MAX)]);
    // One that is gone once it is its turn, whatever that means then.
    let source = open(folder.path(), "*.parquet", late).await;
    let mut listing = source.list(stream::empty().boxed()).await.unwrap();
    let one = || SliceLimits { files: 1, ..SliceLimits::default() };
    assert_eq!(listing.next_slice(&mut one()).await.unwrap().len(), 1);
    std::fs::remove_file(folder.path().join("d.parquet")).unwrap();
    assert_eq!(listing.oldest_unread().await.unwrap(), None);
    assert_eq!(listing.next_slice(&mut one()).await.unwrap().len(), 1);
    write(folder.path(), "d.parquet", &parquet(&batch(vec![None, Some(50), None]), 4));
    assert_eq!(
        oldest_unread(folder.path(), "*.parquet", late).await,
        [Some(20), Some(50), Some(50), Some(70), Some(i64::MAX)]
    );
}

#[tokio::test]
async fn row_that_is_refused_is_not_the_newest_of_its_row_group() {
    let folder = tempdir().unwrap();
    let ids: ArrayRef = Arc::new(Int64Array::from(vec![Some(0), None]));
    let at: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![10, 90]));
    let rows = RecordBatch::try_from_iter_with_nullable([("id", ids, true), ("at", at, true)]).unwrap();
    write(folder.path(), "a.parquet", &parquet(&rows, 2));
    let source = open(folder.path(), "a.parquet", Some(OnLate::Drop)).await;
    let scanned = scan_late(&source, Some(8), Ask { projection: Some(&[0]), ..Ask::default() }).await;
    assert_eq!((scanned.ledger.undecodable, scanned.ledger.event_time_max), (1, Some(10)));
}

#[tokio::test]
async fn row_groups_without_statistics_are_judged_row_by_row() {
    let folder = tempdir().unwrap();
    let rows = batch(vec![Some(5), Some(40), Some(30), Some(8)]);
    write(folder.path(), "a.parquet", &parquet_with(&rows, without_statistics));
    let source = open(folder.path(), "a.parquet", Some(OnLate::Drop)).await;
    let scanned = scan_late(&source, Some(8), Ask { projection: Some(&[0]), ..Ask::default() }).await;
    assert_eq!(scanned.text(), ["1", "2", "3"]);
    assert_eq!((scanned.ledger.late_dropped, scanned.ledger.event_time_max), (1, Some(40)));
}

#[tokio::test]
async fn file_that_several_partitions_read_counts_each_late_row_once() {
    let folder = tempdir().unwrap();
    let mix = |row: i64| row.wrapping_mul(0x9e37_79b9_7f4a_7c15_u64.cast_signed()) >> 20;
    let times: Vec<Option<i64>> = (0..800_000).map(|row| Some(mix(row) % 1_000_000)).collect();
    let late = times.iter().flatten().filter(|at| **at < -995_000).count() as u64;
    let newest = times.iter().flatten().copied().max();
    let bytes = parquet(&batch(times), 50_000);
    assert!(bytes.len() > 4 << 20 && late > 1_000, "{} bytes, {late} rows", bytes.len());
    write(folder.path(), "a.parquet", &bytes);
    let source = open(folder.path(), "a.parquet", Some(OnLate::Quarantine)).await;
    let scanned =
        scan_late(&source, Some(-995_000), Ask { projection: Some(&[]), partitions: 4, ..Ask::default() }).await;
    let ledger = scanned.ledger;
    assert_eq!((ledger.objects, ledger.late, ledger.admitted), (1, late, 800_000 - late));
    assert_eq!((ledger.quarantined, ledger.event_time_max), (late, newest));
}

#[tokio::test]
async fn late_record_that_is_replayed_becomes_a_row_unless_its_time_is_closed() {
    let folder = tempdir().unwrap();
    let number = |number: u64| Arc::new(UInt64Array::from(vec![number]));
    let records = RecordBatch::try_from_iter([
        ("path", Arc::new(StringArray::from(vec!["a.json"])) as ArrayRef),
        ("modified", Arc::new(TimestampMicrosecondArray::from(vec![50]))),
        ("record", number(3)),
        ("line", number(4)),
        ("byte_start", number(90)),
        ("byte_len", number(30)),
        ("original", Arc::new(BinaryArray::from_vec(vec![br#"{"id": 7, "at": "1970-01-01"}"#]))),
    ]);
    let parts = ReplayPart::parts_of(&records.unwrap()).unwrap();
    let row = || vec!["7|1970-01-01T00:00:00".to_owned()];
    let late = || vec!["3|late|at".to_owned()];
    for (late_before, on_late, expected) in [
        (None, OnLate::Quarantine, (row(), vec![], [0, 0, 1])),
        (Some(0), OnLate::Quarantine, (row(), vec![], [0, 0, 1])),
        (Some(1), OnLate::Quarantine, (vec![], late(), [1, 0, 0])),
        (Some(1), OnLate::Drop, (vec![], late(), [1, 0, 0])),
    ] {
        let source = open(folder.path(), "a.json", Some(on_late)).await;
        let parts: Vec<_> = parts.iter().map(|part| part.clone().with_late_before(late_before)).collect();
        let scanned = scan_input(&source, ScanInput::Replayed(parts.into()), Ask::default()).await.unwrap();
        let ledger = scanned.ledger;
        let counts = [ledger.late, ledger.late_dropped, ledger.admitted];
        assert_eq!((scanned.text(), scanned.reasons(), counts), expected, "{late_before:?}");
    }
}

#[tokio::test]
async fn decoding_is_another_one_only_where_rows_can_be_late() {
    let folder = tempdir().unwrap();
    let text = async |on_late| Source::Objects(open(folder.path(), "a.csv", on_late).await).decoding_text();
    let (none, quarantined, dropped) =
        (text(None).await, text(Some(OnLate::Quarantine)).await, text(Some(OnLate::Drop)).await);
    assert!(!none.contains("late"), "{none}");
    assert_eq!(quarantined, format!("{none}; quarantine where `at` is late by 5 us"));
    assert_eq!(dropped, format!("{none}; drop where `at` is late by 5 us"));
}

#[tokio::test]
async fn event_time_must_be_one_that_is_in_the_files() {
    let folder = tempdir().unwrap();
    write(folder.path(), "a.parquet", &parquet(&batch(vec![Some(1)]), 1));
    for other in ["id", "nothing"] {
        let mut definition = definition(None, &[("path", "a.parquet")]);
        definition.watermark = Some(watermark(other, 0, Some(OnLate::Drop)));
        let options = parse(&mut definition, folder.path());
        let error = ObjectSource::open(&definition, options).await.unwrap_err();
        assert!(matches!(&error, Error::Invalid { message } if message.contains(other)), "{error}");
    }
    let mut definition = definition(None, &[("path", "a.parquet")]);
    let kind = bessemer_schemas::IncludeKind::Modified;
    definition.includes = vec![bessemer_schemas::IncludeColumn { kind, name: name("modified") }];
    definition.watermark = Some(watermark("modified", 0, Some(OnLate::Drop)));
    let (options, diagnostics) = crate::SourceOptions::parse(&mut definition, folder.path());
    assert!(options.is_none() && diagnostics[0].message.contains("`modified` is not"), "{diagnostics:?}");
}
