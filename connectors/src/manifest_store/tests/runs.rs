//! What lies beside the manifests is kept, bounded, and left alone by sweeps.

use super::*;

fn record(started_at: i64, outcome: Option<RunOutcome>) -> RunRecord {
    RunRecord {
        format_version: FORMAT_VERSION,
        pipeline: "flights".to_owned(),
        id: Claim(0xbe),
        trigger: RunTrigger::Schedule { time: started_at - 1 },
        attempt: 1,
        started_at,
        ended_at: outcome.map(|_| started_at + 5),
        outcome,
        epochs: 2,
        records: 10,
        rows: 9,
        quarantined: 1,
        error: None,
    }
}

async fn check_records(store: &ManifestStore) {
    assert_eq!(store.runs(10).await.unwrap(), []);
    for time in 1..=300 {
        store.record_run(&record(time, None)).await.unwrap();
    }
    // The same run, ended.
    store.record_run(&record(300, Some(RunOutcome::Done))).await.unwrap();
    let all = store.runs(1_000).await.unwrap();
    assert_eq!(all.len(), 256, "the oldest are forgotten");
    assert_eq!(all[0].started_at, 45);
    let newest = store.runs(2).await.unwrap();
    assert_eq!(newest, [record(299, None), record(300, Some(RunOutcome::Done))]);
}

async fn check_control(store: &ManifestStore) {
    assert_eq!(store.control().await.unwrap(), None);
    store.set_control(None).await.unwrap();
    for wish in [Wish::Pause, Wish::Drain] {
        let control = Control { format_version: FORMAT_VERSION, wish, since: 7 };
        store.set_control(Some(&control)).await.unwrap();
        assert_eq!(store.control().await.unwrap(), Some(control));
    }
    store.set_control(None).await.unwrap();
    assert_eq!(store.control().await.unwrap(), None);
}

#[tokio::test]
async fn records_of_runs_are_kept_within_their_bound() {
    let folder = tempfile::tempdir().unwrap();
    let on_disk = Location::local(&folder.path().join("state")).unwrap();
    for location in [memory(), on_disk] {
        let store = ManifestStore::new(location, "flights");
        check_records(&store).await;
        check_control(&store).await;
        let daemon = DaemonRecord {
            format_version: FORMAT_VERSION,
            schedule: Some("@daily".to_owned()),
            through: 9,
            skipped: 1,
            pending: vec![8],
            drained: None,
            drain_failed: false,
        };
        store.set_daemon_record(&daemon).await.unwrap();
        assert_eq!(store.daemon_record().await.unwrap(), Some(daemon));
    }
}

#[tokio::test]
async fn a_sweep_leaves_what_is_beside_the_manifests_but_for_what_was_left_half_written() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let store = ManifestStore::new(Location::local(&state).unwrap(), "flights");
    let control = Control { format_version: FORMAT_VERSION, wish: Wish::Pause, since: 7 };
    store.set_control(Some(&control)).await.unwrap();
    store.record_run(&record(3, None)).await.unwrap();
    let staged = [state.join("control.json#1"), state.join("runs/00000000000000000003-00000000000000be.json#2")];
    for path in &staged {
        std::fs::write(path, "{").unwrap();
    }

    open(&store).await.unwrap().sweep(&[]).await.unwrap();
    assert!(staged.iter().all(|path| !path.exists()));
    assert_eq!(store.control().await.unwrap(), Some(control));
    assert_eq!(store.runs(9).await.unwrap(), [record(3, None)]);
}

#[tokio::test]
async fn what_a_newer_version_wrote_is_refused_and_not_guessed_at() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let store = ManifestStore::new(Location::local(&state).unwrap(), "flights");
    std::fs::create_dir_all(&state).unwrap();
    let newer = r#"{"format_version":99,"wish":"dance"}"#;
    for (text, word) in [(newer, "newer version"), ("{", "EOF"), ("", "`bessemer resume` removes it")] {
        std::fs::write(state.join("control.json"), text).unwrap();
        let error = store.control().await.unwrap_err();
        assert!(error.to_string().contains(word), "{error}");
    }
    std::fs::write(state.join("daemon.json"), newer).unwrap();
    assert!(store.daemon_record().await.is_err());
}

#[tokio::test]
async fn what_was_torn_is_not_there_and_stops_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let store = ManifestStore::new(Location::local(&state).unwrap(), "flights");
    for time in 1..=2 {
        store.record_run(&record(time, None)).await.unwrap();
    }
    let torn = state.join("runs/00000000000000000001-00000000000000be.json");
    assert!(torn.exists());
    for path in [torn, state.join("daemon.json")] {
        std::fs::write(path, "").unwrap();
    }
    assert_eq!(store.runs(9).await.unwrap(), [record(2, None)]);
    assert_eq!(store.daemon_record().await.unwrap(), None);
}
