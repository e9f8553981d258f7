//! What the store does when nothing fails, and what it says of damage.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures::FutureExt;
use object_store::ObjectStoreExt;

use super::faulty::FaultyStore;
use super::*;

#[tokio::test]
async fn a_new_pipeline_has_no_history_and_opening_it_is_its_first_epoch() {
    let store = ManifestStore::new(memory(), "flights");
    assert!(store.newest().await.unwrap().is_none());
    assert!(store.history().await.unwrap().newest().is_none());

    let writer = open(&store).await.unwrap();
    let newest = store.newest().await.unwrap().unwrap();
    assert_eq!((newest.epoch, newest.kind, newest.claim), (Epoch::FIRST, ManifestKind::Open, writer.claim()));
    assert_eq!(newest.previous, None);
    assert_eq!(writer.next_epoch(), Epoch(2));
    assert!(newest.slice.sources.is_empty());
}

#[tokio::test]
async fn a_commit_is_one_line_of_json_that_names_its_forerunner() {
    let location = memory();
    let store = ManifestStore::new(location.clone(), "flights");
    let mut writer = open(&store).await.unwrap();
    let manifest = reading(&writer, 1, vec![object("a", 1)]);
    let committed = writer.commit(manifest, &[]).await.unwrap();

    let path = location.path("manifests/00000000000000000002.json");
    let bytes = location.store().get(&path).await.unwrap().bytes().await.unwrap();
    assert!(bytes.starts_with(br#"{"format_version":3,"pipeline":"flights","epoch":2,"#), "{bytes:?}");
    assert!(bytes.ends_with(b"}\n"));
    assert_eq!((committed.digest, committed.bytes), (Digest::of(&bytes), bytes.len() as u64));
    let first = location.store().get(&location.path("manifests/00000000000000000001.json")).await.unwrap();
    assert_eq!(committed.manifest.previous, Some(Digest::of(&first.bytes().await.unwrap())));
    assert_eq!(store.read(Epoch(2)).await.unwrap(), committed.manifest);
}

#[tokio::test]
async fn an_unbalanced_manifest_is_not_put() {
    let store = ManifestStore::new(memory(), "flights");
    let mut writer = open(&store).await.unwrap();
    let mut manifest = reading(&writer, 1, vec![object("a", 1)]);
    manifest.sources.get_mut("flights").unwrap().records += 1;
    assert!(matches!(writer.commit(manifest, &[]).await, Err(Error::Unbalanced(_))));
    assert_eq!(store.newest().await.unwrap().unwrap().epoch, Epoch(1));

    let manifest = reading(&writer, 1, vec![object("a", 1)]);
    writer.commit(manifest, &[]).await.unwrap();
}

#[tokio::test]
async fn the_later_of_two_writers_fences_the_earlier() {
    let store = ManifestStore::new(memory(), "flights");
    let mut first = open(&store).await.unwrap();
    let mut second = open(&store).await.unwrap();
    for _ in 0..2 {
        let manifest = reading(&first, 1, vec![object("a", 1)]);
        let error = first.commit(manifest, &[]).await.unwrap_err();
        assert!(matches!(error, Error::Fenced { epoch: Epoch(2), .. }), "{error}");
        assert_eq!(error.kind(), ErrorKind::Conflict);
    }
    let manifest = reading(&second, 1, vec![object("a", 1)]);
    second.commit(manifest, &[]).await.unwrap();
    assert_eq!(store.newest().await.unwrap().unwrap().epoch, Epoch(3));
}

#[tokio::test]
async fn a_writer_whose_blocks_its_successor_has_swept_is_fenced_and_finds_no_damage() {
    let store = ManifestStore::with_limits(memory(), "flights", small_limits());
    let mut number = 0;
    let mut commit = async |writer: &mut EpochWriter| {
        number += 1;
        let objects = (0..4_u64).map(|at| object(&format!("{at}-{number}"), 1)).collect();
        let manifest = reading(writer, number, objects);
        writer.commit(manifest, &[]).await
    };
    let mut first = open(&store).await.unwrap();
    let epochs = small_limits().epochs_per_base;
    // The next one would fold what is in blocks already.
    while first.history().base().through.0 + epochs + 1 > first.next_epoch().0 || first.next_epoch().0 < 3 * epochs {
        commit(&mut first).await.unwrap();
    }
    let mut second = open(&store).await.unwrap();
    for _ in 0..=epochs {
        commit(&mut second).await.unwrap();
    }
    second.sweep(&[]).await.unwrap();
    let error = commit(&mut first).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
}

#[tokio::test]
async fn long_slices_and_tables_go_to_blocks_and_keep_their_order() {
    let location = memory();
    let store = ManifestStore::with_limits(location.clone(), "flights", small_limits());
    let mut writer = open(&store).await.unwrap();
    let objects: Vec<_> = (0..2000_u64).map(|at| object(&format!("{:04}", at * 7 % 2000), at)).collect();
    let mut manifest = reading(&writer, 1, objects.clone());
    let table = SourceSlice::Table { version: "v1".to_owned(), objects: objects.clone(), block: None };
    manifest.slice.sources.insert("planes".to_owned(), table);
    let committed = writer.commit(manifest, &[]).await.unwrap();

    assert!(committed.bytes < 2000);
    for slice in committed.manifest.slice.sources.values() {
        assert_eq!(store.slice_objects(slice).await.unwrap(), objects);
    }
    let history = store.history().await.unwrap();
    let read: Vec<_> = history.objects_read("flights").try_collect().await.unwrap();
    assert!(read.is_sorted_by_key(|object| object.path.clone()));
    assert_eq!(read.len(), 2000);
    assert_eq!(history.table_versions()["planes"], "v1");
}

#[tokio::test]
async fn a_failure_is_told_until_rows_are_committed_again() {
    let store = ManifestStore::with_limits(memory(), "flights", small_limits());
    let mut writer = open(&store).await.unwrap();
    let failure =
        Failure { set: "delays".to_owned(), expectation: "sane".to_owned(), violations: 1, sample: Vec::new() };
    let mut manifest = writer.draft(ManifestKind::Failed, 3);
    manifest.failure = Some(failure.clone());
    writer.commit(manifest, &[]).await.unwrap();
    for _ in 0..10 {
        writer = open(&store).await.unwrap();
        assert_eq!(store.history().await.unwrap().last_failure(), Some(&failure));
    }
    let manifest = reading(&writer, 1, vec![object("a", 1)]);
    writer.commit(manifest, &[]).await.unwrap();
    assert_eq!(store.history().await.unwrap().last_failure(), None);
}

#[tokio::test]
async fn the_definition_before_opening_is_known_to_the_writer() {
    let store = ManifestStore::new(memory(), "flights");
    let mut old = DefinitionDigest::default();
    let digest = SourceDigest {
        kind: "log".to_owned(),
        location: "data".to_owned(),
        columns: Vec::new(),
        decoding: Digest::of(b""),
        since: None,
    };
    old.sources.insert("flights".to_owned(), digest);
    let writer =
        store.open_for_writing(Claim(rand::random()), info(), |_| Ok::<_, Error>(old.clone()), 1).await.unwrap();
    assert_eq!(writer.opened_on(), None);
    let writer = open(&store).await.unwrap();
    assert_eq!(writer.opened_on(), Some(&old));
    assert_eq!(writer.history().definition(), Some(&DefinitionDigest::default()));
}

#[tokio::test]
async fn a_definition_is_judged_by_the_history_that_it_will_follow() {
    let store = ManifestStore::new(memory(), "flights");
    let mut asked = Vec::new();
    let define = |history: &History| {
        asked.push(history.next_epoch());
        if history.newest().is_some() {
            return Err(Error::Invalid { message: "it does not follow".to_owned() });
        }
        // Another writer comes first. Nothing waits for a store in memory.
        open(&store).now_or_never().unwrap().map(|_| DefinitionDigest::default())
    };
    let refused = store.open_for_writing(Claim(rand::random()), info(), define, 1).await.unwrap_err();
    assert!(matches!(refused, Error::Invalid { .. }), "{refused}");
    assert_eq!(asked, [Epoch(1), Epoch(2)]);
    assert_eq!(store.newest().await.unwrap().unwrap().epoch, Epoch(1), "nothing was recorded of what was refused");
}

#[tokio::test]
async fn a_writer_that_looks_learns_that_another_has_the_pipeline() {
    let store = ManifestStore::new(memory(), "flights");
    let mut first = open(&store).await.unwrap();
    let manifest = reading(&first, 1, vec![object("a", 1)]);
    first.commit(manifest, &[]).await.unwrap();
    first.check_not_fenced().await.unwrap();
    let second = open(&store).await.unwrap();
    second.check_not_fenced().await.unwrap();
    let error = first.check_not_fenced().await.unwrap_err();
    assert!(matches!(error, Error::Fenced { epoch: Epoch(3), .. }), "{error}");
}

#[tokio::test]
async fn an_ignored_version_does_not_take_the_place_of_the_one_that_was_read() {
    let store = ManifestStore::with_limits(memory(), "flights", small_limits());
    let mut writer = open(&store).await.unwrap();
    let objects = ["a", "b", "c"].map(|path| object(path, 1)).to_vec();
    let mut manifest = reading(&writer, 1, objects.clone());
    writer.commit(manifest, &[]).await.unwrap();
    for size in 2..20 {
        manifest = reading(&writer, size, Vec::new());
        let seen =
            SourceSlice::Objects { listing: size, objects: vec![], block: None, ignored: vec![object("b", size)] };
        manifest.slice.sources.insert("flights".to_owned(), seen);
        writer.commit(manifest, &[]).await.unwrap();

        for history in [writer.history(), &store.history().await.unwrap()] {
            let read: Vec<_> = history.objects_read("flights").try_collect().await.unwrap();
            assert_eq!(read, objects, "at {size}");
            let known: Vec<_> = history.objects_known("flights").try_collect().await.unwrap();
            assert_eq!(known.len(), 4);
            assert!(known.contains(&object("b", size)), "at {size}: {known:?}");
        }
    }
    assert!(writer.history().base().through > Epoch(10), "it was folded");
}

#[tokio::test]
async fn opening_and_manifests_stay_small_whatever_the_history() {
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = Arc::new(FaultyStore::counting(Arc::new(InMemory::new()), Arc::clone(&requests)));
    let location = Location::in_store(counted, Path::from("state"));
    let limits = ManifestLimits { epochs_per_base: 64, entries_per_block: 1024, ..ManifestLimits::default() };
    let store = ManifestStore::with_limits(location.clone(), "flights", limits);

    let mut writer = open(&store).await.unwrap();
    let (mut largest_early, mut largest_late, mut most_requests) = (0, 0, 0);
    for at in 0..2000_u64 {
        let mut manifest = reading(&writer, at, vec![object(&format!("day={at:05}"), at)]);
        appending(&mut manifest, vec![file(format!("{at:05}.parquet"), 1)]);
        let before = requests.load(Ordering::Relaxed);
        let committed = writer.commit(manifest, &[]).await.unwrap();
        most_requests = most_requests.max(requests.load(Ordering::Relaxed) - before);
        let largest = if at < 100 { &mut largest_early } else { &mut largest_late };
        *largest = committed.bytes.max(*largest);
    }
    assert!(largest_early < 2_500, "{largest_early}");
    assert!(largest_late < 3_500, "{largest_late}");
    assert!(most_requests <= 10, "{most_requests}");

    let before = requests.load(Ordering::Relaxed);
    let history = store.history().await.unwrap();
    let to_open = requests.load(Ordering::Relaxed) - before;
    assert!(to_open <= 64 + 16, "{to_open}");
    let objects: Vec<_> = history.objects_read("flights").try_collect().await.unwrap();
    assert_eq!(objects, (0..2000_u64).map(|at| object(&format!("day={at:05}"), at)).collect::<Vec<_>>());
    assert_eq!(history.live_files("delays").try_collect::<Vec<_>>().await.unwrap().len(), 2000);
    assert_eq!(history.source_totals()["flights"].admitted, 2000);
    println!(
        "manifest {largest_early} then {largest_late} bytes, {to_open} requests to open, {most_requests} to commit"
    );
}

#[tokio::test]
async fn the_hint_is_not_trusted() {
    let location = memory();
    let store = ManifestStore::new(location.clone(), "flights");
    let mut writer = open(&store).await.unwrap();
    for at in 0..40 {
        let manifest = reading(&writer, at, vec![object("a", at)]);
        writer.commit(manifest, &[]).await.unwrap();
    }
    for hint in ["1", "40", "41", "900", "", "-1", "what"] {
        location.store().put(&location.path("latest"), hint.into()).await.unwrap();
        assert_eq!(store.newest().await.unwrap().unwrap().epoch, Epoch(41), "hint `{hint}`");
    }
    location.store().delete(&location.path("latest")).await.unwrap();
    assert_eq!(store.newest().await.unwrap().unwrap().epoch, Epoch(41));
}

/// Changes manifest 3 of 4 as `change` says, and gives the error of reading the history.
async fn error_after(change: impl FnOnce(String) -> Option<String>) -> Error {
    let location = memory();
    let store = ManifestStore::new(location.clone(), "flights");
    let mut writer = open(&store).await.unwrap();
    for at in 0..3 {
        let manifest = reading(&writer, at, vec![object("a", at)]);
        writer.commit(manifest, &[]).await.unwrap();
    }
    location.store().put(&location.path("latest"), "4".into()).await.unwrap();
    let path = location.path("manifests/00000000000000000003.json");
    let bytes = location.store().get(&path).await.unwrap().bytes().await.unwrap();
    match change(String::from_utf8(bytes.to_vec()).unwrap()) {
        Some(text) => location.store().put(&path, text.into()).await.map(|_| ()).unwrap(),
        None => location.store().delete(&path).await.unwrap(),
    }
    store.history().await.unwrap_err()
}

#[tokio::test]
async fn damage_is_named_by_its_path() {
    let newer = error_after(|_| Some(r#"{"format_version":99,"shape":"unknown"}"#.to_owned())).await;
    assert!(matches!(newer, Error::NewerManifest { epoch: Epoch(3), found: 99, .. }), "{newer}");

    let cases: [(&str, Error); 6] = [
        ("half", error_after(|text| Some(text[..text.len() / 2].to_owned())).await),
        ("empty", error_after(|_| Some(String::new())).await),
        ("gap", error_after(|_| None).await),
        ("renumbered", error_after(|text| Some(text.replace(r#""epoch":3"#, r#""epoch":5"#))).await),
        ("edited", error_after(|text| Some(text.replace(r#""started_at":2"#, r#""started_at":3"#))).await),
        ("unbalanced", error_after(|text| Some(text.replace(r#""records":1"#, r#""records":2"#))).await),
    ];
    for (case, error) in cases {
        let Error::Damaged { path, reason } = &error else { panic!("{case}: {error}") };
        let expected = if case == "edited" { "4.json" } else { "3.json" };
        assert!(path.ends_with(expected), "{case}: {path}: {reason}");
    }
}

#[tokio::test]
async fn a_damaged_or_missing_block_is_named() {
    let location = memory();
    let store = ManifestStore::with_limits(location.clone(), "flights", small_limits());
    let mut writer = open(&store).await.unwrap();
    let manifest = reading(&writer, 1, (0..9_u64).map(|at| object(&at.to_string(), at)).collect());
    writer.commit(manifest, &[]).await.unwrap();
    let block = paths(&location, "slices").await.pop_first().unwrap();
    let read = || async {
        let read: Result<Vec<_>> = store.history().await.unwrap().objects_read("flights").try_collect().await;
        read.unwrap_err().to_string()
    };

    location.store().put(&location.path(&block), "junk".into()).await.unwrap();
    assert!(read().await.contains("digest"));
    location.store().delete(&location.path(&block)).await.unwrap();
    assert!(read().await.contains("missing"));
}

#[tokio::test]
async fn a_manifest_of_another_pipeline_is_refused() {
    let location = memory();
    open(&ManifestStore::new(location.clone(), "flights")).await.unwrap();
    let error = ManifestStore::new(location, "orders").newest().await.unwrap_err();
    assert!(error.to_string().contains("`flights`"), "{error}");
}

#[tokio::test]
async fn a_range_of_manifests_is_streamed_in_order() {
    let store = ManifestStore::with_limits(memory(), "flights", small_limits());
    let mut writer = open(&store).await.unwrap();
    for at in 0..50 {
        let manifest = reading(&writer, at, vec![object("a", at)]);
        writer.commit(manifest, &[]).await.unwrap();
    }
    let read: Vec<_> = store.manifests(Epoch(7)..=Epoch(51)).try_collect().await.unwrap();
    assert_eq!(read.iter().map(|manifest| manifest.epoch.0).collect::<Vec<_>>(), (7..=51).collect::<Vec<_>>());
    let beyond: Result<Vec<_>> = store.manifests(Epoch(50)..=Epoch(60)).try_collect().await;
    assert!(matches!(beyond, Err(Error::Damaged { .. })));
    assert!(matches!(store.read(Epoch(52)).await, Err(Error::NotFound { .. })));
}

#[tokio::test]
async fn removed_files_are_gone_from_manifests_and_blocks_and_may_not_be_removed_twice() {
    let store = ManifestStore::with_limits(memory(), "flights", small_limits());
    let mut writer = open(&store).await.unwrap();
    let commit = |writer: &EpochWriter, added: Vec<DataFile>, removed: Vec<DataFile>| {
        let mut manifest = writer.draft(ManifestKind::Compaction, 2);
        let files = FileChanges { added, removed, replaces_all: false };
        let (quarantine, ledger) = (FileChanges::default(), SetLedger::default());
        let commit = SetCommit {
            files,
            quarantine,
            ledger,
            expectations: Vec::new(),
            inputs: None,
            state: None,
            emitted_at: None,
        };
        manifest.sets.insert("delays".to_owned(), commit);
        manifest
    };
    let mut old = Vec::new();
    for at in 0..40 {
        let mut manifest = reading(&writer, at, Vec::new());
        let added = vec![file(format!("day=1/{at:03}"), 2)];
        old.extend(added.clone());
        appending(&mut manifest, added);
        writer.commit(manifest, &[]).await.unwrap();
    }
    let totals = writer.history().set_totals();
    // Some of them are in blocks, some in manifests.
    let merged = file("day=1/100", 80);
    let manifest = commit(&writer, vec![merged.clone()], old.clone());
    let committed = writer.commit(manifest, &[]).await.unwrap();
    assert_eq!(committed.replaced, [ReplacedFiles { owner: FileOwner::Set("delays".to_owned()), files: old.clone() }]);

    let manifest = commit(&writer, vec![file("day=1/101", 2)], vec![old[3].clone()]);
    let twice = writer.commit(manifest, &[]).await.unwrap_err();
    assert!(twice.to_string().contains("`day=1/003` of set `delays` is not in force"), "{twice}");
    let manifest = commit(&writer, vec![file("day=1/101", 79)], vec![merged.clone()]);
    assert!(matches!(writer.commit(manifest, &[]).await, Err(Error::Unbalanced(_))), "a row is missing");

    for at in 40..50 {
        for history in [writer.history(), &store.history().await.unwrap()] {
            let files: Vec<_> = history.live_files("delays").try_collect().await.unwrap();
            assert_eq!(files, std::slice::from_ref(&merged), "at {at}");
            assert_eq!(history.set_totals(), totals);
        }
        let manifest = reading(&writer, at, Vec::new());
        writer.commit(manifest, &[]).await.unwrap();
    }
    let blocks = &writer.history().base().files["delays"];
    assert_eq!(blocks.iter().map(|block| block.entries).sum::<u64>(), 1, "{blocks:?}");
}

#[tokio::test]
async fn old_manifests_are_archived_and_read_as_before() {
    let location = memory();
    let store = ManifestStore::with_limits(location.clone(), "flights", small_limits());
    let mut writer = open(&store).await.unwrap();
    let mut all = vec![store.newest().await.unwrap().unwrap()];
    for at in 0..60 {
        let manifest = reading(&writer, at, vec![object(&format!("{at:03}"), at)]);
        writer.commit(manifest, &[]).await.unwrap();
        all.push(store.newest().await.unwrap().unwrap());
        assert!(paths(&location, "manifests").await.len() <= 8 + 8 + 4 + 1, "at {at}");
    }
    let floor = writer.history().base().floor;
    assert!(floor.0 >= 32 && floor.0.is_multiple_of(8), "{floor}");
    let archives: Vec<_> = (1..=floor.0 / 8).map(|at| format!("archive/{:020}.jsonl.zst", 8 * at)).collect();
    assert_eq!(paths(&location, "archive").await.into_iter().collect::<Vec<_>>(), archives);

    let read: Vec<_> = store.manifests(Epoch(1)..=Epoch(61)).try_collect().await.unwrap();
    assert!(read == all, "manifests have changed");
    assert_eq!(store.read(Epoch(3)).await.unwrap(), all[2]);
    for hint in ["1", "3", "40", "61"] {
        location.store().put(&location.path("latest"), hint.into()).await.unwrap();
        assert_eq!(store.newest().await.unwrap().unwrap().epoch, Epoch(61), "hint `{hint}`");
    }
    writer.sweep(&[]).await.unwrap();
    // A manifest that was put late, or not deleted, is swept; until then a hint at it misleads nobody.
    location.store().put(&location.path("manifests/00000000000000000005.json"), encoded(&all[4])).await.unwrap();
    location.store().put(&location.path("latest"), "5".into()).await.unwrap();
    assert_eq!(store.newest().await.unwrap().unwrap().epoch, Epoch(61));
    assert_eq!(writer.sweep(&[]).await.unwrap().files, 1);
    assert_eq!(paths(&location, "manifests").await.len() as u64, 61 - floor.0);

    // Files of archived epochs are told from those of strangers.
    let orphan = FileName { epoch: Epoch(4), claim: writer.claim(), attempt: 0, stream: 0, seq: 0 };
    let foreign = FileName { claim: Claim(7), ..orphan };
    let out = Location::in_store(Arc::clone(location.store()), Path::from("out"));
    for name in [orphan, foreign] {
        out.store().put(&out.path(&name.to_string()), "rows".into()).await.unwrap();
    }
    let place = SweepPlace { location: out.clone(), owner: FileOwner::Set("delays".to_owned()) };
    // Nor does a manifest of a writer that came late tell anything of its epoch.
    let late = Manifest { claim: Claim(7), ..all[2].clone() };
    location.store().put(&location.path("manifests/00000000000000000003.json"), encoded(&late)).await.unwrap();
    assert_eq!(store.read(Epoch(3)).await.unwrap(), all[2]);
    assert!(store.manifests(Epoch(1)..=Epoch(61)).try_collect::<Vec<_>>().await.unwrap() == all);
    let mut writer = open(&store).await.unwrap();
    assert_eq!(writer.sweep(&[place]).await.unwrap().files, 2);
    assert_eq!(paths(&out, "").await.len(), 1);
    writer.commit(reading(&writer, 61, Vec::new()), &[]).await.unwrap();
}

#[tokio::test]
async fn what_a_history_held_at_an_earlier_epoch_is_known_archived_or_not() {
    let store = ManifestStore::with_limits(memory(), "flights", small_limits());
    let mut writer = open(&store).await.unwrap();
    for at in 0..40_i64 {
        let mut manifest = reading(&writer, 1, vec![object(&format!("{at:03}"), 1)]);
        manifest.watermarks.insert("flights".to_owned(), Watermark { at: Some(at), ..Watermark::default() });
        writer.commit(manifest, &[]).await.unwrap();
    }
    for epoch in 0..=41 {
        let history = store.history_through(Epoch(epoch)).await.unwrap();
        assert_eq!(history.next_epoch(), Epoch(epoch + 1));
        let totals = history.source_totals().get("flights").copied().unwrap_or_default();
        let watermark = history.watermarks().get("flights").and_then(|watermark| watermark.at);
        let read = epoch.saturating_sub(1);
        assert_eq!(
            (totals.objects, watermark),
            (read, i64::try_from(read).unwrap().checked_sub(1).filter(|at| *at >= 0))
        );
    }
    assert!(matches!(store.history_through(Epoch(42)).await, Err(Error::Damaged { .. })));
}

fn encoded(manifest: &Manifest) -> object_store::PutPayload {
    serde_json::to_vec(manifest).unwrap().into()
}

#[tokio::test]
async fn a_writer_that_slept_while_its_epoch_was_archived_is_fenced() {
    let location = memory();
    let store = ManifestStore::with_limits(location.clone(), "flights", small_limits());
    let mut sleeper = open(&store).await.unwrap();
    let mut writer = open(&store).await.unwrap();
    for at in 0..40 {
        let manifest = reading(&writer, at, Vec::new());
        writer.commit(manifest, &[]).await.unwrap();
    }
    assert!(writer.history().base().floor > Epoch(8));
    let before = paths(&location, "").await;
    assert!(matches!(sleeper.check_not_fenced().await, Err(Error::Fenced { epoch: Epoch(2), .. })));
    for _ in 0..2 {
        let manifest = reading(&sleeper, 1, vec![object("a", 1)]);
        let error = sleeper.commit(manifest, &[]).await.unwrap_err();
        assert!(matches!(error, Error::Fenced { epoch: Epoch(2), .. }), "{error}");
    }
    assert_eq!(paths(&location, "").await, before, "it left something behind");
    let manifest = reading(&writer, 41, Vec::new());
    writer.commit(manifest, &[]).await.unwrap();
}

#[tokio::test]
async fn futures_of_the_writer_may_move_between_threads() {
    let store = ManifestStore::new(memory(), "flights");
    let task = tokio::spawn(async move {
        let mut writer = open(&store).await?;
        let manifest = reading(&writer, 1, vec![object("a", 1)]);
        let committed = writer.commit(manifest, &[]).await?;
        writer.remove_replaced(&[], &committed.replaced).await?;
        writer.sweep(&[]).await
    });
    assert_eq!(task.await.unwrap().unwrap(), Swept::default());
}
