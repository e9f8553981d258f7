//! Quarantined records, decoded again.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, StringArray};

use super::*;
use crate::scan::ReplayPart;
use crate::sink::as_quarantined;

/// Rejects of partition 0 as quarantine holds them.
fn quarantined(rejects: &RecordBatch) -> RecordBatch {
    let rows = rejects.num_rows();
    let text = |value: &str| Arc::new(StringArray::from_iter_values(std::iter::repeat_n(value, rows))) as ArrayRef;
    let own: [(&str, ArrayRef); 4] = [
        ("epoch", Arc::new(Int32Array::from_value(1, rows))),
        ("source", text("flights")),
        ("topic", text("flights")),
        ("partition", Arc::new(Int32Array::from_value(0, rows))),
    ];
    let schema = rejects.schema();
    let columns = schema.fields().iter().map(|field| field.name().as_str()).zip(rejects.columns().iter().cloned());
    let batch = RecordBatch::try_from_iter_with_nullable(
        own.into_iter().chain(columns).map(|(name, column)| (name, column, true)),
    );
    as_quarantined(&batch.unwrap(), true).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn records_come_back_with_everything_that_came_with_them_and_without_a_broker() {
    let cluster = Cluster::with_partitions(1);
    let bad = r#"{"id": "x", "at": "2013-01-01T12:00:00"}"#;
    let ahead = r#"{"id": "y", "at": "2013-01-03T00:00:00"}"#;
    cluster.send_values(0, [r#"{"id": 1}"#]);
    cluster.send(0, Sent { key: Some("k"), value: Some(bad), header: Some(("trace", "abc")) });
    cluster.send(0, Sent { key: None, value: Some(ahead), header: None });
    cluster.send_values(0, ["no JSON"]);
    let rejects = read_all(&cluster.source(&[])).await.unwrap().rejects;
    let rejects = concat_batches(&reject_schema(), &rejects).unwrap();
    drop(cluster);

    let kinds =
        [IncludeKind::Key, IncludeKind::Value, IncludeKind::Timestamp, IncludeKind::Offset, IncludeKind::Headers];
    let mut mended = definition(&kinds, &[("bootstrap_servers", "127.0.0.1:1")]);
    mended.columns.as_mut().unwrap()[0].data_type = DataType::Utf8;
    mended.watermark = Some(watermark(0, None));
    let source = open(&mut mended).unwrap();
    let parts = ReplayPart::parts_of(&quarantined(&rejects)).unwrap();
    let scanned = scan_input(&source, ScanInput::Replayed(parts.into()), 2, Vec::new()).await.unwrap();

    let rows = concat_batches(source.schema(), &scanned.batches).unwrap();
    assert_eq!(rows.num_rows(), 1);
    let column = |column: &str| Arc::clone(rows.column_by_name(column).unwrap());
    assert_eq!(column("id").as_string::<i32>().value(0), "x");
    assert_eq!(column("key").as_binary::<i32>().value(0), b"k");
    assert_eq!(column("value").as_binary::<i32>().value(0), bad.as_bytes());
    assert_eq!(column("timestamp").as_primitive::<TimestampMicrosecondType>().value(0), NEW_YEAR * 1_000);
    assert_eq!(column("offset").as_primitive::<Int64Type>().value(0), 1);
    assert_eq!(column("headers").as_list::<i32>().value_length(0), 1);
    // Each has its new reason, and all that it had.
    assert_eq!(scanned.reasons(), ["2 event_time_ahead", "3 invalid_json"]);
    let rejects = concat_batches(&reject_schema(), &scanned.rejects).unwrap();
    assert_eq!(rejects.column_by_name("original").unwrap().as_binary::<i32>().value(0), ahead.as_bytes());
    let ledger = scanned.ledger;
    assert_eq!((ledger.offsets, ledger.records, ledger.replayed), (0, 3, 3));
    assert_eq!((ledger.undecodable, ledger.bad_event_time, ledger.admitted), (1, 1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn late_record_becomes_a_row_unless_its_time_is_closed() {
    let cluster = Cluster::with_partitions(1);
    let late = r#"{"id": 2, "at": "2013-01-01T01:00:00"}"#;
    cluster.send_values(0, [r#"{"id": 1, "at": "2013-01-01T12:00:00"}"#, late]);
    let mut definition = definition(&[], &[]);
    let on_late = Some(OnLate::Quarantine);
    definition.watermark = Some(watermark(0, on_late));
    let mut dropping = definition.clone();
    let source = cluster.open(definition);
    let scanned = read_all(&source).await.unwrap();
    assert_eq!((scanned.ids(), scanned.reasons()), (vec![1], vec!["1 late".to_owned()]));
    let rejects = concat_batches(&reject_schema(), &scanned.rejects).unwrap();
    let replay = async |source, late_before| {
        let parts = ReplayPart::parts_of(&quarantined(&rejects)).unwrap().into_iter();
        let parts: Vec<_> = parts.map(|part| part.with_late_before(late_before)).collect();
        let scanned = scan_input(source, ScanInput::Replayed(parts.into()), 2, Vec::new()).await.unwrap();
        let ledger = scanned.ledger;
        (scanned.ids(), scanned.reasons(), [ledger.late, ledger.late_dropped, ledger.admitted])
    };
    let hour = NEW_YEAR * 1_000 + 3_600_000_000;
    for before in [None, Some(hour)] {
        assert_eq!(replay(&source, before).await, (vec![2], Vec::new(), [0, 0, 1]));
    }
    // Where it was emitted without it, it stays what it was.
    assert_eq!(replay(&source, Some(hour + 1)).await, (Vec::new(), vec!["1 late".to_owned()], [1, 0, 0]));
    dropping.watermark = Some(watermark(0, Some(OnLate::Drop)));
    let source = cluster.open(dropping);
    // Nor is it dropped.
    assert_eq!(replay(&source, Some(hour + 1)).await, (Vec::new(), vec!["1 late".to_owned()], [1, 0, 0]));
}
