//! Reading topics of an in-process cluster: every record once, nothing unaccounted for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_schema::{DataType, TimeUnit};
use bessemer_schemas::{
    BadRecords, ColumnDefinition, Diagnostic, ErrorKind, IncludeColumn, IncludeKind, Name, OffsetRange, OnLate,
    OptionEntry, OptionMap, OptionValue, SliceLimits, SourceDefinition, SourceKind, SourceLedger, Span,
    WatermarkDefinition,
};
use datafusion_catalog::Session;
use datafusion_common::DataFusionError;
use datafusion_execution::config::SessionConfig;
use futures::{FutureExt, TryStreamExt};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};
use tokio::sync::mpsc;

mod ahead;
mod breaker;
mod lateness;
mod replay;
mod written;

use super::*;
use crate::scan::{EpochScans, ScanInput, ScanOffsets, ScanReport};
use crate::test_session::TestSession;
use crate::{Error, Result};

const MICROS: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);
/// 2013-01-01, milliseconds since 1970.
const NEW_YEAR: i64 = 1_356_998_400_000;

/// A cluster with a topic `flights`.
struct Cluster {
    mock: MockCluster<'static, DefaultProducerContext>,
    producer: BaseProducer,
}

/// A record to produce.
#[derive(Default, Clone, Copy)]
struct Sent<'a> {
    key: Option<&'a str>,
    value: Option<&'a str>,
    header: Option<(&'a str, &'a str)>,
}

impl Cluster {
    fn with_partitions(partitions: i32) -> Self {
        let mock = MockCluster::new(1).unwrap();
        mock.create_topic("flights", partitions, 1).unwrap();
        let producer = ClientConfig::new()
            .set("bootstrap.servers", mock.bootstrap_servers())
            .set("linger.ms", "1")
            .create()
            .unwrap();
        Self { mock, producer }
    }

    fn send(&self, partition: i32, sent: Sent<'_>) {
        let mut record: BaseRecord<'_, str, str> = BaseRecord::to("flights").partition(partition).timestamp(NEW_YEAR);
        record.key = sent.key;
        record.payload = sent.value;
        if let Some((key, value)) = sent.header {
            record = record.headers(OwnedHeaders::new().insert(Header { key, value: Some(value) }));
        }
        self.producer.send(record).map_err(|(error, _)| error).unwrap();
    }

    fn send_values<'a>(&self, partition: i32, values: impl IntoIterator<Item = &'a str>) {
        values.into_iter().for_each(|value| self.send(partition, Sent { value: Some(value), ..Sent::default() }));
        self.flush();
    }

    fn flush(&self) {
        self.producer.flush(Duration::from_secs(30)).unwrap();
    }

    fn source(&self, options: &[(&str, &str)]) -> Arc<KafkaSource> {
        self.open(definition(&[], options))
    }

    fn open(&self, mut definition: SourceDefinition) -> Arc<KafkaSource> {
        let servers = self.mock.bootstrap_servers();
        let mut entries = definition.options.entries().to_vec();
        entries.push(entry("bootstrap_servers", &servers));
        definition.options = OptionMap::new("source `flights`", Span::default(), entries);
        open(&mut definition).unwrap()
    }
}

fn open(definition: &mut SourceDefinition) -> Result<Arc<KafkaSource>, Vec<Diagnostic>> {
    let (options, diagnostics) = KafkaSourceOptions::parse(definition, std::path::Path::new("."));
    match options {
        // With declared columns nothing is waited for.
        Some(options) => Ok(KafkaSource::open(definition, options, None).now_or_never().unwrap().unwrap()),
        None => Err(diagnostics),
    }
}

fn name(value: &str) -> Name {
    Name { value: value.to_owned(), span: Span::default() }
}

fn entry(key: &str, value: &str) -> OptionEntry {
    let (key_span, value_span) = (Span::default(), Span::default());
    OptionEntry { key: key.to_owned(), key_span, value: OptionValue::Text(value.to_owned()), value_span }
}

/// `CREATE SOURCE flights (id BIGINT NOT NULL, delay DOUBLE, at TIMESTAMP) INCLUDE … WITH (topic = 'flights', …)`.
fn definition(includes: &[IncludeKind], options: &[(&str, &str)]) -> SourceDefinition {
    let column = |column: &str, data_type, nullable| ColumnDefinition {
        name: name(column),
        data_type,
        type_span: Span::default(),
        nullable,
        default: None,
        generated: None,
    };
    let mut entries: Vec<_> = options.iter().map(|(key, value)| entry(key, value)).collect();
    for (key, value) in [("topic", "flights"), ("format", "json")] {
        if !options.iter().any(|(given, _)| *given == key || (key == "topic" && *given == "topic_pattern")) {
            entries.push(entry(key, value));
        }
    }
    let include = |kind: &IncludeKind| IncludeColumn { kind: *kind, name: name(&kind.as_sql().to_lowercase()) };
    SourceDefinition {
        name: name("flights"),
        kind: SourceKind::Log,
        columns: Some(vec![
            column("id", DataType::Int64, false),
            column("delay", DataType::Float64, true),
            column("at", MICROS, true),
        ]),
        watermark: None,
        includes: includes.iter().map(include).collect(),
        options: OptionMap::new("source `flights`", Span::default(), entries),
    }
}

/// What a scan gave.
#[derive(Debug, Default)]
struct Scanned {
    batches: Vec<RecordBatch>,
    ledger: SourceLedger,
    rejects: Vec<RecordBatch>,
    bad_records: Vec<BadRecords>,
}

impl Scanned {
    fn ids(&self) -> Vec<i64> {
        self.batches.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec()).collect()
    }

    /// Reason and column of each reject, with its offset.
    fn reasons(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for batch in &self.rejects {
            let offsets = batch.column_by_name("offset").unwrap().as_primitive::<Int64Type>();
            let reasons = batch.column_by_name("reason").unwrap().as_string::<i32>();
            lines.extend((0..batch.num_rows()).map(|row| format!("{} {}", offsets.value(row), reasons.value(row))));
        }
        lines
    }
}

async fn backlog(source: &Arc<KafkaSource>, read: Vec<OffsetRange>) -> Result<Vec<OffsetRange>> {
    let mut backlog = source.backlog(read).await?;
    let ranges = backlog.next_slice(&mut SliceLimits::default());
    assert_eq!(backlog.offsets(), 0);
    Ok(ranges)
}

async fn scan(source: &Arc<KafkaSource>, ranges: &[OffsetRange], partitions: usize) -> Result<Scanned> {
    scan_after(source, ranges, partitions, Vec::new()).await
}

/// Scans `ranges`; `before` tells of the records before them.
async fn scan_after(
    source: &Arc<KafkaSource>,
    ranges: &[OffsetRange],
    partitions: usize,
    before: Vec<BadRecords>,
) -> Result<Scanned> {
    let input = ranges.iter().map(|range| ScanOffsets { range: range.clone(), is_new: true }).collect();
    scan_input(source, ScanInput::Offsets(input), partitions, before).await
}

async fn scan_input(
    source: &Arc<KafkaSource>,
    input: ScanInput,
    partitions: usize,
    before: Vec<BadRecords>,
) -> Result<Scanned> {
    let (sender, mut reports) = mpsc::channel(4);
    let is_new = (0..input.len()).all(|part| input.is_new(part));
    let scans = EpochScans::new(sender).with_source("flights", 3, input);
    let scans = scans.with_bad_records("flights", before);
    let config =
        SessionConfig::new().with_target_partitions(partitions).with_batch_size(100).with_extension(Arc::new(scans));
    let session = TestSession::new(config);
    let plan = source.table_provider(false).scan(&session, None, &[], None).await.unwrap();
    let collecting = tokio::spawn(async move {
        let mut scanned = Scanned::default();
        while let Some(report) = reports.recv().await {
            match report {
                ScanReport::Rejects { batch, .. } => scanned.rejects.push(batch),
                ScanReport::ObjectDone { ledger, .. } => scanned.ledger.add(&ledger),
                ScanReport::BadRecords { records, .. } => scanned.bad_records.push(records),
                ScanReport::ReadAgain { .. } | ScanReport::Progress { .. } => {}
            }
        }
        scanned
    });
    let mut batches = Vec::new();
    for partition in 0..plan.properties().partitioning.partition_count() {
        let stream = plan.execute(partition, session.task_ctx()).unwrap();
        batches.extend(stream.try_collect::<Vec<_>>().await.map_err(ours)?);
    }
    drop((plan, session));
    let mut scanned = collecting.await.unwrap();
    scanned.batches = batches;
    scanned.ledger.quarantined = scanned.rejects.iter().map(|batch| batch.num_rows() as u64).sum();
    if is_new {
        scanned.ledger.balance("flights").unwrap();
    }
    Ok(scanned)
}

fn ours(error: DataFusionError) -> Error {
    match error {
        DataFusionError::External(error) => *error.downcast::<Error>().unwrap(),
        other => panic!("{other}"),
    }
}

async fn read_all(source: &Arc<KafkaSource>) -> Result<Scanned> {
    scan(source, &backlog(source, Vec::new()).await?, 2).await
}

fn values(ids: std::ops::Range<i64>) -> Vec<String> {
    ids.map(|id| format!(r#"{{"id": {id}, "delay": {}, "at": "2013-01-01T00:00:00"}}"#, id as f64 / 4.0)).collect()
}

/// Offsets of a partition of the topic that most tests read.
fn range(partition: i32, start: i64, end: i64) -> OffsetRange {
    OffsetRange {
        topic: "flights".to_owned(),
        partition,
        start,
        end,
        topic_id: None,
        late_before: None,
        is_apart: false,
    }
}

fn watermark(delay: i64, on_late: Option<OnLate>) -> WatermarkDefinition {
    WatermarkDefinition { column: name("at"), expr: None, delay, on_late, span: Span::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn records_become_rows_with_what_came_with_them() {
    let cluster = Cluster::with_partitions(2);
    cluster
        .send(1, Sent { key: Some("k"), value: Some(r#"{"id": 7, "delay": null}"#), header: Some(("trace", "abc")) });
    cluster.send(1, Sent { key: None, value: Some("{\n  \"id\": 8\n}\n"), header: None });
    cluster.flush();
    let kinds = [
        IncludeKind::Key,
        IncludeKind::Value,
        IncludeKind::Timestamp,
        IncludeKind::Topic,
        IncludeKind::Partition,
        IncludeKind::Offset,
        IncludeKind::Headers,
    ];
    let source = cluster.open(definition(&kinds, &[]));
    let scanned = read_all(&source).await.unwrap();
    let rows = concat_batches(source.schema(), &scanned.batches).unwrap();
    assert_eq!(rows.num_rows(), 2);
    let bytes = |column: &str, row| rows.column_by_name(column).unwrap().as_binary::<i32>().value(row).to_vec();
    assert_eq!(scanned.ids(), [7, 8]);
    assert_eq!(bytes("key", 0), b"k");
    assert!(rows.column_by_name("key").unwrap().is_null(1));
    assert_eq!(bytes("value", 1), b"{\n  \"id\": 8\n}\n");
    let at = rows.column_by_name("timestamp").unwrap().as_primitive::<TimestampMicrosecondType>();
    assert_eq!(at.value(0), NEW_YEAR * 1_000);
    assert_eq!(rows.column_by_name("topic").unwrap().as_string::<i32>().value(0), "flights");
    assert_eq!(rows.column_by_name("partition").unwrap().as_primitive::<Int32Type>().values(), &[1, 1]);
    assert_eq!(rows.column_by_name("offset").unwrap().as_primitive::<Int64Type>().values(), &[0, 1]);
    let headers = rows.column_by_name("headers").unwrap().as_list::<i32>().value(0);
    let headers = headers.as_struct();
    assert_eq!(headers.column(0).as_string::<i32>().value(0), "trace");
    assert_eq!(headers.column(1).as_binary::<i32>().value(0), b"abc");
    assert_eq!((scanned.ledger.offsets, scanned.ledger.records, scanned.ledger.gaps), (2, 2, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_records_are_rejected_with_their_key_headers_and_offset() {
    let cluster = Cluster::with_partitions(1);
    let bad = r#"{"id": "x"}"#;
    cluster.send_values(0, [r#"{"id": 1}"#, "not json", ""]);
    cluster.send(0, Sent { key: Some("k9"), value: Some(bad), header: Some(("h", "v")) });
    cluster.send(0, Sent { key: Some("gone"), value: None, header: None });
    cluster.send_values(0, [r#"{"id": 2}"#]);
    let scanned = read_all(&cluster.source(&[])).await.unwrap();
    assert_eq!(scanned.ids(), [1, 2]);
    assert_eq!(scanned.reasons(), ["1 invalid_json", "2 invalid_json", "3 wrong_type"]);
    let rejects = concat_batches(&reject_schema(), &scanned.rejects).unwrap();
    assert_eq!(rejects.column_by_name("key").unwrap().as_binary::<i32>().value(2), b"k9");
    assert_eq!(rejects.column_by_name("original").unwrap().as_binary::<i32>().value(2), bad.as_bytes());
    assert_eq!(rejects.column_by_name("column").unwrap().as_string::<i32>().value(2), "id");
    assert_eq!(rejects.column_by_name("headers").unwrap().as_list::<i32>().value_length(2), 1);
    let ledger = scanned.ledger;
    assert_eq!((ledger.records, ledger.undecodable, ledger.tombstones, ledger.admitted), (6, 3, 1, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn event_times_are_judged_by_the_records_own_timestamp() {
    let cluster = Cluster::with_partitions(1);
    let ahead = r#"{"id": 2, "at": "2013-01-03T00:00:00"}"#;
    cluster.send_values(0, [r#"{"id": 1, "at": "2013-01-01T12:00:00"}"#, ahead, r#"{"id": 3}"#]);
    let mut definition = definition(&[], &[]);
    definition.watermark = Some(watermark(0, None));
    let scanned = read_all(&cluster.open(definition)).await.unwrap();
    assert_eq!(scanned.ids(), [1]);
    assert_eq!(scanned.reasons(), ["1 event_time_ahead", "2 null_event_time"]);
    let rejects = concat_batches(&reject_schema(), &scanned.rejects).unwrap();
    assert_eq!(rejects.column_by_name("original").unwrap().as_binary::<i32>().value(0), ahead.as_bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn any_cut_into_slices_reads_every_record_once() {
    let cluster = Cluster::with_partitions(3);
    for (partition, ids) in [(0, 0..500), (1, 500..520), (2, 520..2_000)] {
        cluster.send_values(partition, values(ids).iter().map(String::as_str));
    }
    let source = cluster.source(&[]);
    let whole = read_all(&source).await.unwrap();
    assert!(whole.ids().into_iter().eq(0..2_000), "{} rows", whole.ids().len());

    let mut random = StdRng::seed_from_u64(42);
    let mut read: BTreeMap<(String, i32), OffsetRange> = BTreeMap::new();
    let mut ids = Vec::new();
    loop {
        let mut backlog = source.backlog(read.values().cloned().collect()).await.unwrap();
        let mut limits = SliceLimits { rows: random.random_range(1..700), ..SliceLimits::default() };
        let ranges = backlog.next_slice(&mut limits);
        if ranges.is_empty() {
            break;
        }
        let scanned = scan(&source, &ranges, random.random_range(1..5)).await.unwrap();
        assert_eq!(scanned.ledger.offsets, ranges.iter().map(OffsetRange::offsets).sum::<u64>());
        ids.extend(scanned.ids());
        for range in ranges {
            let so_far = read.entry((range.topic.clone(), range.partition)).or_insert_with(|| range.clone());
            assert!(so_far.end == range.start || so_far == &range, "{so_far:?} then {range:?}");
            so_far.end = range.end;
        }
    }
    ids.sort_unstable();
    assert!(ids.iter().copied().eq(0..2_000), "{} rows", ids.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_stays_where_its_last_scan_ended() {
    let cluster = Cluster::with_partitions(2);
    for (partition, ids) in [(0, 0..300), (1, 300..600)] {
        cluster.send_values(partition, values(ids).iter().map(String::as_str));
    }
    let source = cluster.source(&[]);
    let mut ids = Vec::new();
    let slices = [vec![range(0, 0, 10)], vec![range(0, 10, 20), range(1, 0, 200)], vec![range(0, 20, 300)]];
    for (partitions, ranges) in (1..).zip(&slices) {
        ids.extend(scan(&source, ranges, partitions).await.unwrap().ids());
        // The second one has taken up another partition, too.
        assert_eq!(source.consumers().kept(), 1);
    }
    ids.extend(scan(&source, &[range(1, 200, 300)], 1).await.unwrap().ids());
    ids.sort_unstable();
    assert!(ids.into_iter().eq(0..600));
    assert_eq!(source.consumers().kept(), 1);

    // An epoch that did not become one is taken again, from its beginning.
    let again = scan(&source, &[range(1, 200, 300)], 1).await.unwrap();
    assert!(again.ids().into_iter().eq(500..600), "{} rows", again.ids().len());
    // Another set may have read the same: the one at the end of it waits for what comes next.
    assert_eq!(source.consumers().kept(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_that_follow_one_another_are_read_in_one_scan() {
    let cluster = Cluster::with_partitions(2);
    for (partition, ids) in [(0, 0..300), (1, 300..600)] {
        cluster.send_values(partition, values(ids).iter().map(String::as_str));
    }
    let ranges = [range(0, 0, 120), range(0, 120, 300), range(1, 0, 0), range(1, 0, 299), range(1, 299, 300)];
    for partitions in 1..4 {
        let scanned = scan(&cluster.source(&[]), &ranges, partitions).await.unwrap();
        assert!(scanned.ids().into_iter().eq(0..600), "{partitions} partitions: {} rows", scanned.ids().len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_goes_on_where_it_stopped_and_new_partitions_begin_at_their_beginning() {
    let cluster = Cluster::with_partitions(1);
    cluster.send_values(0, values(0..10).iter().map(String::as_str));
    let source = cluster.source(&[("scan_startup_mode", "latest")]);
    let first = backlog(&source, Vec::new()).await.unwrap();
    assert_eq!((first.len(), first[0].start, first[0].end), (1, 10, 10));
    assert_eq!(scan(&source, &first, 2).await.unwrap().ids(), [0_i64; 0]);

    cluster.send_values(0, values(10..15).iter().map(String::as_str));
    let next = backlog(&source, first.clone()).await.unwrap();
    assert_eq!(scan(&source, &next, 2).await.unwrap().ids(), [10, 11, 12, 13, 14]);
    assert_eq!(backlog(&source, next).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_partition_is_found_and_ends_where_the_brokers_say() {
    let cluster = Cluster::with_partitions(3);
    cluster.send_values(1, values(0..7).iter().map(String::as_str));
    let source = cluster.source(&[]);
    let ends = || async { source.ends().await.unwrap().into_iter().map(|end| (end.partition, end.end)).collect() };
    let first: Vec<_> = ends().await;
    assert_eq!(first, [(0, 0), (1, 7), (2, 0)]);
    let read = source.backlog(Vec::new()).await.unwrap().found().to_vec();
    cluster.send_values(0, values(7..9).iter().map(String::as_str));
    let second: Vec<_> = ends().await;
    assert_eq!(second, [(0, 2), (1, 7), (2, 0)]);
    // Those without anything new are found, too.
    let found = source.backlog(read).await.unwrap();
    let found: Vec<_> = found.found().iter().map(|range| (range.partition, range.offsets())).collect();
    assert_eq!(found, [(0, 2), (1, 0), (2, 0)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn startup_modes_choose_the_first_offset() {
    let cluster = Cluster::with_partitions(2);
    cluster.send_values(0, values(0..10).iter().map(String::as_str));
    for (options, start) in [
        (vec![], 0),
        (vec![("scan_startup_mode", "earliest")], 0),
        (vec![("scan_startup_mode", "latest")], 10),
        (vec![("scan_startup_mode", "offsets"), ("scan_startup_offsets", "0:4, 1:0")], 4),
        // Beyond the end: the end.
        (vec![("scan_startup_mode", "offsets"), ("scan_startup_offsets", "0:99")], 10),
    ] {
        let ranges = backlog(&cluster.source(&options), Vec::new()).await.unwrap();
        assert_eq!((ranges[0].partition, ranges[0].start, ranges[0].end), (0, start, 10), "{options:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_was_cut_off_or_is_gone_is_an_error_that_names_the_offsets() {
    let cluster = Cluster::with_partitions(1);
    cluster.send_values(0, values(0..3).iter().map(String::as_str));
    let source = cluster.source(&[]);
    let range = |partition, end| range(partition, 0, end);
    for (read, words) in [(range(0, 5), "read up to offset 5 and now ends at 3"), (range(4, 1), "is no longer there")] {
        let error = source.backlog(vec![read]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Data);
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_were_deleted_before_they_were_read_are_an_error_or_are_counted() {
    const SENT: u64 = 8;
    let cluster = Cluster::with_partitions(1);
    // The mock keeps 5 MiB of a partition.
    let filling = "x".repeat(900_000);
    for id in 0..SENT {
        cluster.send_values(0, [format!(r#"{{"id": {id}, "filling": "{filling}"}}"#).as_str()]);
    }
    let read = vec![range(0, 0, 1)];
    let error = cluster.source(&[]).backlog(read.clone()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Data);
    assert!(error.to_string().contains("offsets 1 to "), "{error}");
    assert!(error.to_string().contains("say `on_data_loss = 'record'`"), "{error}");

    let source = cluster.source(&[("on_data_loss", "record")]);
    let range = |start, end| OffsetRange { start, end, ..read[0].clone() };
    let ranges = backlog(&source, read.clone()).await.unwrap();
    assert_eq!((ranges[0].start, ranges[0].end), (1, 8));
    // Cut anywhere, also where nothing or everything is lost.
    for ranges in [vec![range(1, 8)], vec![range(1, 2), range(2, 8)], vec![range(1, 7), range(7, 8), range(8, 8)]] {
        let scanned = scan(&source, &ranges, 1).await.unwrap();
        let ledger = scanned.ledger;
        let first = 1 + i64::try_from(ledger.lost).unwrap();
        assert!((2..8).contains(&first), "{ledger:?}");
        assert_eq!(scanned.ids(), (first..8).collect::<Vec<_>>());
        assert_eq!((ledger.offsets, ledger.records, ledger.gaps), (7, 7 - ledger.lost, 0));
        let error = scan(&cluster.source(&[]), &ranges, 1).await.unwrap_err();
        assert!(error.to_string().contains("were deleted before they were read"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_scan_of_an_epoch_says_what_it_found() {
    let cluster = Cluster::with_partitions(1);
    let filling = "x".repeat(900_000);
    let send = |count| {
        (0..count).for_each(|id| cluster.send_values(0, [format!(r#"{{"id": {id}, "f": "{filling}"}}"#).as_str()]));
    };
    send(3);
    let source = cluster.source(&[("on_data_loss", "record")]);
    let ranges = backlog(&source, Vec::new()).await.unwrap();
    let input = ranges.iter().map(|range| ScanOffsets { range: range.clone(), is_new: true }).collect();
    let (sender, mut reports) = mpsc::channel(64);
    let scans = Arc::new(EpochScans::new(sender).with_source("flights", 0, ScanInput::Offsets(input)));
    let session = TestSession::new(SessionConfig::new().with_extension(scans));
    for _ in 0..2 {
        let plan = source.table_provider(false).scan(&session, None, &[], None).await.unwrap();
        plan.execute(0, session.task_ctx()).unwrap().try_collect::<Vec<_>>().await.unwrap();
        // The mock keeps 5 MiB of a partition: what was read is gone now.
        send(6);
    }
    drop(session);
    let mut found = Vec::new();
    while let Some(report) = reports.recv().await {
        match report {
            ScanReport::ObjectDone { ledger, .. } => found.push(("first", ledger.records, ledger.lost)),
            ScanReport::ReadAgain { ledger, .. } => found.push(("again", ledger.records, ledger.lost)),
            _ => {}
        }
    }
    assert_eq!(found, [("first", 3, 0), ("again", 0, 3)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_of_another_id_is_an_error() {
    let cluster = Cluster::with_partitions(1);
    cluster.send_values(0, values(0..3).iter().map(String::as_str));
    let source = cluster.source(&[("on_data_loss", "record")]);
    let first = backlog(&source, Vec::new()).await.unwrap();
    assert!(first[0].topic_id.is_some(), "{first:?}");
    assert_eq!(backlog(&source, first.clone()).await.unwrap(), []);
    // What was read before ids were known is compared by offsets alone.
    let unknown = OffsetRange { topic_id: None, ..first[0].clone() };
    assert_eq!(backlog(&source, vec![unknown]).await.unwrap(), []);

    let other = OffsetRange { topic_id: Some("R5NHR7wOSdyyJlBJrNDBKg".to_owned()), ..first[0].clone() };
    let error = source.backlog(vec![other]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Data);
    assert!(error.to_string().contains("made anew after it was read up to offset 3"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_behind_does_not_make_gaps_of_records() {
    let mock = MockCluster::new(2).unwrap();
    mock.create_topic("flights", 1, 1).unwrap();
    let producer = ClientConfig::new().set("bootstrap.servers", mock.bootstrap_servers()).create().unwrap();
    let cluster = Cluster { mock, producer };
    cluster.mock.partition_leader("flights", 0, Some(1)).unwrap();
    for value in values(0..10) {
        // Each in a batch of its own, so that a replica can have some of them.
        cluster.send_values(0, [value.as_str()]);
    }
    let source = cluster.source(&[("isolation_level", "read_uncommitted"), ("broker_timeout", "1s")]);
    let ranges = backlog(&source, Vec::new()).await.unwrap();
    assert_eq!(ranges[0].end, 10);

    // It says that the partition ends at 5.
    cluster.mock.partition_follower("flights", 0, 2).unwrap();
    cluster.mock.follower_watermarks("flights", 0, Some(0), Some(5)).unwrap();
    let error = scan(&source, &ranges, 1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");

    // It has caught up.
    cluster.mock.follower_watermarks("flights", 0, None, None).unwrap();
    let scanned = scan(&source, &ranges, 1).await.unwrap();
    assert!(scanned.ids().into_iter().eq(0..10), "{:?}", scanned.ledger);
    assert_eq!((scanned.ledger.records, scanned.ledger.gaps), (10, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_that_are_not_there_and_topics_that_are_not_there_are_told_apart() {
    let cluster = Cluster::with_partitions(1);
    // The mock makes every topic that is asked for; only its error tells.
    cluster
        .mock
        .topic_error("nothing", rdkafka::types::RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART)
        .unwrap();
    let error = cluster.source(&[("topic", "nothing")]).backlog(Vec::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("there is no topic `nothing`"), "{error}");

    let options = [("bootstrap_servers", "127.0.0.1:1"), ("broker_timeout", "1s")];
    let source = open(&mut definition(&[], &options)).unwrap();
    let error = source.backlog(Vec::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("127.0.0.1:1"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_comes_back_costs_nothing_and_one_that_stays_away_ends_in_an_error() {
    let cluster = Cluster::with_partitions(1);
    cluster.send_values(0, values(0..200).iter().map(String::as_str));
    let patient = cluster.source(&[("broker_timeout", "20s")]);
    let ranges = backlog(&patient, Vec::new()).await.unwrap();
    let errors = [rdkafka::types::RDKafkaRespErr::RD_KAFKA_RESP_ERR__TRANSPORT; 3];
    cluster.mock.request_errors(rdkafka::types::RDKafkaApiKey::Fetch, &errors);
    assert_eq!(scan(&patient, &ranges, 2).await.unwrap().ids().len(), 200);

    let hasty = cluster.source(&[("broker_timeout", "1s")]);
    cluster.mock.broker_down(-1).unwrap();
    let error = scan(&hasty, &ranges, 2).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("nothing came for 1 s"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn csv_and_raw_values_are_records_too() {
    let cluster = Cluster::with_partitions(1);
    cluster.send_values(0, ["1,0.5,2013-01-01", "2,\"1.5\",2013-01-01\n", "3,1.5", "4,1,2013-01-01\n5,1,2013-01-01"]);
    let scanned = read_all(&cluster.source(&[("format", "csv")])).await.unwrap();
    assert_eq!(scanned.ids(), [1, 2]);
    assert_eq!(scanned.reasons(), ["2 wrong_field_count", "3 invalid_quoting"]);

    let mut raw = definition(&[IncludeKind::Offset], &[("format", "raw")]);
    raw.columns.as_mut().unwrap().truncate(1);
    raw.columns.as_mut().unwrap()[0].data_type = DataType::Binary;
    let scanned = read_all(&cluster.open(raw)).await.unwrap();
    assert_eq!(scanned.batches[0].column(0).as_binary::<i32>().value(2), b"3,1.5");
    assert_eq!(scanned.ledger.admitted, 4);
}

#[test]
fn problems_are_told_at_their_options() {
    for (options, message) in [
        (vec![("topic", "a b")], "`a b` is no name of a topic"),
        (vec![("topic", "a"), ("topic_pattern", "b")], "has both `topic` and `topic_pattern`"),
        (vec![("topic_pattern", "(")], "`(` is no regular expression"),
        (vec![("format", "jsn")], "option `format` cannot be `jsn`"),
        (vec![("scan_startup_mode", "timestamp")], "needs `scan_startup_timestamp`"),
        (vec![("scan_startup_offsets", "0:1")], "says nothing without `scan_startup_mode = 'offsets'`"),
        (vec![("scan_startup_mode", "group")], "needs the group"),
        (vec![("properties.enable.auto.commit", "true")], "is not for a pipeline to set"),
        (vec![("properties.no.such.setting", "1")], "No such configuration property"),
        (vec![("properties.sasl.mechanism", "GSSAPI")], "option `properties.sasl.mechanism` cannot be `GSSAPI`"),
        (
            vec![("properties.sasl.mechanism", "PLAIN")],
            "`properties.sasl.mechanism` says nothing without a protocol that has SASL",
        ),
        (
            vec![("properties.security.protocol", "SASL_PLAINTEXT")],
            "`properties.security.protocol = 'SASL_PLAINTEXT'` needs a mechanism",
        ),
        (
            vec![("properties.security.protocol", "sasl_plaintext"), ("properties.sasl.mechanism", "PLAIN")],
            "mechanism `PLAIN` needs a name and a password",
        ),
        (vec![("idle_timeout", "30s")], "`idle_timeout` is about a watermark that decides which rows are late"),
        (vec![("bootstrap_server", "x")], "unknown option `bootstrap_server`"),
        (vec![("format", "avro")], "nothing says with which schema the records of source `flights` are written"),
        (
            vec![("format", "avro"), ("schema_registry", "http://x"), ("schema_file", "x.avsc")],
            "has both `schema_registry` and `schema_file`",
        ),
        (
            vec![("format", "avro"), ("schema_registry", "http://x"), ("subject", "x")],
            "`subject` says from which schema of the registry undeclared columns are taken",
        ),
        (vec![("format", "avro"), ("schema_file", "x"), ("on_error", "drop")], "option `on_error` cannot be `drop`"),
        (vec![("schema_registry", "http://x")], "unknown option `schema_registry`"),
        (vec![("format", "avro"), ("schema_file", "x"), ("message", "m")], "unknown option `message`"),
        (vec![("format", "protobuf")], "nothing says with which schema the records of source `flights` are written"),
    ] {
        let mut entries = options.clone();
        entries.push(("bootstrap_servers", "localhost:9092"));
        let diagnostics = open(&mut definition(&[], &entries)).unwrap_err();
        let found = diagnostics.iter().any(|diagnostic| diagnostic.message.contains(message));
        assert!(
            found,
            "{options:?}: {:?}",
            diagnostics.iter().map(|diagnostic| &diagnostic.message).collect::<Vec<_>>()
        );
        assert!(diagnostics.iter().all(|diagnostic| diagnostic.help.is_some()), "{options:?}");
    }
    // Columns of one subject, for the records of many topics.
    let options =
        [("bootstrap_servers", "x:1"), ("format", "avro"), ("schema_registry", "http://x"), ("topic", "a, b")];
    let mut undeclared = definition(&[], &options);
    undeclared.columns = None;
    let messages: Vec<_> = open(&mut undeclared).unwrap_err().into_iter().map(|problem| problem.message).collect();
    assert_eq!(messages, ["source `flights` declares no columns, and reads more than one topic"]);

    let mut changes = definition(&[IncludeKind::Operation], &[("bootstrap_servers", "x:1")]);
    let messages: Vec<_> = open(&mut changes).unwrap_err().into_iter().map(|problem| problem.message).collect();
    assert_eq!(messages, ["`INCLUDE OP` is of changes, and the format has none"]);

    let mut table = definition(&[IncludeKind::Path], &[("bootstrap_servers", "x:1")]);
    table.kind = SourceKind::Table;
    let messages: Vec<_> = open(&mut table).unwrap_err().into_iter().map(|problem| problem.message).collect();
    assert_eq!(messages, ["`flights` is a table, and a topic is a log", "`INCLUDE PATH` is not available for Kafka"]);
}
