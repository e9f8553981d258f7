use std::path::Path;
use std::sync::Arc;

use bessemer_connectors::Location;
#[cfg(feature = "kafka")]
use bessemer_connectors::kafka::PartitionEnd;
use bessemer_connectors::manifest_store::{History, ManifestStore};
use bessemer_schemas::{
    Claim, DataFile, DefinitionDigest, Epoch, FileChanges, Manifest, ManifestKind, OffsetRange, SetCommit, SetLedger,
    Slice, SourceLedger, SourceSlice, WriterInfo,
};
use http_body_util::BodyExt;
use hyper::{Method, StatusCode};
use object_store::memory::InMemory;

use super::metric::{Exposition, Histogram, Metric};
use super::pipeline::Pipeline;
use super::server::answer;
use super::{Board, Phase};

const DOCS: &str = include_str!("../../../docs/monitoring.md");
const DASHBOARD: &str = include_str!("../../../docs/grafana-dashboard.json");

async fn get(board: &Board, path: &str) -> (StatusCode, String) {
    let response = answer(board, &Method::GET, path);
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

fn range(partition: i32, start: i64, end: i64) -> OffsetRange {
    OffsetRange { topic: "t".to_owned(), partition, start, end, topic_id: None, late_before: None, is_apart: false }
}

/// An epoch that read `ranges`, whose newest event time is `newest`.
async fn manifest(ranges: Vec<OffsetRange>, newest: i64) -> Manifest {
    let location = Location::in_store(Arc::new(InMemory::new()), "state".into());
    let store = ManifestStore::new(location, "p");
    let info = WriterInfo { bessemer: String::new(), datafusion: String::new(), partitions: 1 };
    let define = |_: &History| Ok::<_, crate::error::Error>(DefinitionDigest::default());
    let writer = store.open_for_writing(Claim(1), info, define, 0).await.unwrap();
    let read = ranges.iter().map(OffsetRange::offsets).sum();
    let ledger = SourceLedger {
        offsets: read,
        records: read,
        decoded: read,
        admitted: read,
        event_time_max: Some(newest),
        ..SourceLedger::default()
    };
    let set = SetLedger { admitted: read, produced: read, written: read, ..SetLedger::default() };
    let commit = SetCommit {
        files: FileChanges::default(),
        quarantine: FileChanges::default(),
        ledger: set,
        expectations: Vec::new(),
        inputs: None,
        state: None,
        emitted_at: None,
    };
    Manifest {
        epoch: Epoch(7),
        slice: Slice { sources: [("s".to_owned(), SourceSlice::Kafka { ranges })].into() },
        sources: [("s".to_owned(), ledger)].into(),
        sets: [("f".to_owned(), commit)].into(),
        ..writer.draft(ManifestKind::Data, 1_000_000)
    }
}

#[tokio::test]
async fn lag_is_what_the_brokers_have_beyond_what_is_committed() {
    let mut pipeline = Pipeline::default();
    let found = [range(0, 10, 30), range(1, 5, 5)];
    pipeline.discovered([("s", found.as_slice())].into_iter(), 0);
    let lags =
        |pipeline: &Pipeline| -> Vec<u64> { pipeline.sources["s"].unread.iter().map(OffsetRange::offsets).collect() };
    assert_eq!(lags(&pipeline), [20, 0]);

    // Half of it is committed; a partition that came meanwhile is known by its commit.
    pipeline.committed(&manifest(vec![range(0, 10, 20), range(2, 0, 4)], 5_000_000).await, 3_500_000);
    assert_eq!(lags(&pipeline), [10, 0, 0]);
    let source = &pipeline.sources["s"];
    assert_eq!((source.lag(), source.event_time_lag(6_000_000)), (Some(10), Some(1.0)));

    // Everything is: then nothing is behind, however long nothing comes.
    pipeline.committed(&manifest(vec![range(0, 20, 30)], 4_000_000).await, 3_500_000);
    let source = &pipeline.sources["s"];
    assert_eq!((source.lag(), source.event_time_lag(i64::MAX)), (Some(0), Some(0.0)));
    assert_eq!(source.event_time, Some(5_000_000));
    assert_eq!(pipeline.sets["f"].ledger.written, 24);
}

#[tokio::test]
async fn a_compaction_is_the_newest_epoch_and_no_measure_of_how_long_epochs_take() {
    let mut pipeline = Pipeline::default();
    let mut compaction = Manifest { kind: ManifestKind::Compaction, ..manifest(Vec::new(), 0).await };
    let file = DataFile { path: "new".to_owned(), rows: 0, bytes: 9, partition: Vec::new(), rewrites: 1 };
    compaction.sets.get_mut("f").unwrap().files.added.push(file);
    pipeline.committed(&compaction, 3_500_000);
    assert_eq!((pipeline.newest, pipeline.epochs), (Some((7, 1_000_000)), 0));
    assert_eq!((pipeline.sets["f"].files, pipeline.sets["f"].bytes), (1, 9));
}

#[cfg(feature = "kafka")]
#[tokio::test]
async fn what_others_commit_while_a_pipeline_rests_is_no_lag() {
    let location = Location::in_store(Arc::new(InMemory::new()), "state".into());
    let store = ManifestStore::new(location, "p");
    let info = WriterInfo { bessemer: String::new(), datafusion: String::new(), partitions: 1 };
    let define = |_: &History| Ok::<_, crate::error::Error>(DefinitionDigest::default());
    let mut writer = store.open_for_writing(Claim(1), info, define, 0).await.unwrap();
    let read = manifest(vec![range(0, 10, 25)], 5_000_000).await;
    let read = Manifest { epoch: Epoch(2), sets: std::collections::BTreeMap::new(), ..read };
    writer.commit(read, &[]).await.unwrap();
    let history = store.history().await.unwrap();

    let mut pipeline = Pipeline::default();
    let found = [range(0, 10, 30)];
    pipeline.discovered([("s", found.as_slice())].into_iter(), 0);
    pipeline.committed_so_far(["s"].into_iter(), &history);
    assert_eq!(pipeline.sources["s"].lag(), Some(20), "a run knows better");
    pipeline.phase = Phase::Paused;
    pipeline.committed_so_far(["s"].into_iter(), &history);
    let source = &pipeline.sources["s"];
    assert_eq!((source.lag(), source.event_time), (Some(5), Some(5_000_000)));
    assert_eq!(pipeline.newest.map(|(epoch, _)| epoch), Some(2));

    // Who has just begun knows what is committed before it knows of what.
    let mut begun = Pipeline::default();
    begun.committed_so_far(["s"].into_iter(), &history);
    assert_eq!(begun.sources["s"].lag(), None);

    // What some partitions did not answer is not of now.
    let end = |partition, end| PartitionEnd { topic: "t".to_owned(), partition, end };
    let source = pipeline.sources.get_mut("s").unwrap();
    source.ended(&[end(1, 9)], 70);
    assert_eq!((source.lag(), source.asked_at), (Some(5), Some(0)));
    source.ended(&[end(0, 40)], 80);
    assert_eq!((source.lag(), source.asked_at), (Some(15), Some(80)));
}

#[tokio::test]
async fn ready_is_when_every_pipeline_has_looked_at_its_sources() {
    let board = Board::new();
    let (one, two) = (board.start("one", Path::new("one.sql")), board.start("two", Path::new("two.sql")));
    assert_eq!(get(&board, "/healthz").await, (StatusCode::OK, "ok\n".to_owned()));
    assert!(get(&board, "/readyz").await.1.starts_with("the daemon is starting\n"));
    board.beat();
    let (status, reasons) = get(&board, "/readyz").await;
    assert_eq!((status, reasons.lines().count()), (StatusCode::SERVICE_UNAVAILABLE, 2));

    one.discovered(std::iter::empty());
    two.discovered(std::iter::empty());
    assert_eq!(get(&board, "/readyz").await, (StatusCode::OK, "ok\n".to_owned()));

    two.backs_off("no broker answers".to_owned());
    board.refuse(Path::new("three.sql"), "its text is wrong".to_owned());
    // The version from before goes on.
    board.refuse(Path::new("one.sql"), "its text is wrong".to_owned());
    let (status, reasons) = get(&board, "/readyz").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(reasons, "two: is tried again: no broker answers\nthree.sql: is not started: its text is wrong\n");

    // What is gone is forgotten, and what it says after that too.
    board.saw(&[Path::new("one.sql")]);
    two.phase(Phase::Failed { reason: "late words".to_owned() });
    assert_eq!(get(&board, "/readyz").await.0, StatusCode::OK);
    board.stop();
    assert_eq!(get(&board, "/readyz").await.1, "the daemon is stopping\n");
}

#[tokio::test]
async fn only_what_is_there_is_answered() {
    let board = Board::new();
    board.start("p", Path::new("p.sql"));
    let (status, text) = get(&board, "/").await;
    let summary: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((status, &summary["pipelines"][0]["state"]), (StatusCode::OK, &serde_json::json!("starting")));
    assert_eq!(get(&board, "/nothing").await.0, StatusCode::NOT_FOUND);
    assert_eq!(answer(&board, &Method::POST, "/metrics").status(), StatusCode::METHOD_NOT_ALLOWED);
}

#[test]
fn samples_stand_together_and_labels_are_escaped() {
    let mut text = Exposition::default();
    text.add(Metric::Epochs, &[("pipeline", "a")], 1);
    text.add(Metric::EpochRetries, &[("pipeline", "a")], 2);
    text.add(Metric::Epochs, &[("pipeline", "b\"\\\n")], 3);
    let mut histogram = Histogram::default();
    for seconds in [0.01, 0.02, 2_000.0] {
        histogram.observe(seconds);
    }
    text.add_histogram(Metric::EpochDuration, &[("pipeline", "a")], &histogram);
    let text = text.into_text();
    let epochs = "# TYPE bessemer_epochs_total counter\nbessemer_epochs_total{pipeline=\"a\"} 1\n\
                  bessemer_epochs_total{pipeline=\"b\\\"\\\\\\n\"} 3\n# HELP bessemer_epoch_retries_total";
    assert!(text.contains(epochs), "{text}");
    for line in [
        "_bucket{pipeline=\"a\",le=\"0.01\"} 1",
        "_bucket{pipeline=\"a\",le=\"0.025\"} 2",
        "_bucket{pipeline=\"a\",le=\"900\"} 2",
        "_bucket{pipeline=\"a\",le=\"+Inf\"} 3",
        "_count{pipeline=\"a\"} 3",
        "_sum{pipeline=\"a\"} 2000.03",
    ] {
        assert!(text.contains(&format!("bessemer_epoch_duration_seconds{line}\n")), "{line} in {text}");
    }
}

#[test]
fn every_metric_is_documented_and_the_dashboard_asks_for_no_other() {
    let names: Vec<_> = Metric::ALL.iter().map(|metric| metric.described().0).collect();
    for name in &names {
        assert!(DOCS.contains(&format!("`{name}")), "docs/monitoring.md says nothing of `{name}`");
    }
    for asked in DASHBOARD.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_')) {
        let name = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| asked.strip_suffix(suffix)).unwrap_or(asked);
        let is_ours = asked.starts_with("bessemer_") || asked.starts_with("process_");
        assert!(!is_ours || names.contains(&name), "the dashboard asks for `{asked}`, which is not there");
    }
}
