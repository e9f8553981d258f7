//! Local disk: the lock, what a kill leaves behind, and what a sweep makes of it.

use std::fs;
use std::path::Path as FsPath;

use object_store::ObjectStoreExt;

use super::*;

fn at(folder: &FsPath, limits: ManifestLimits) -> ManifestStore {
    ManifestStore::with_limits(Location::local(&folder.join("state")).unwrap(), "flights", limits)
}

fn place(folder: &FsPath) -> SweepPlace {
    let location = Location::local(&folder.join("out")).unwrap();
    SweepPlace { location, owner: FileOwner::Set("delays".to_owned()) }
}

fn write(folder: &FsPath, relative: &str) -> String {
    let path = folder.join(relative);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, "rows").unwrap();
    relative.to_owned()
}

fn name(writer: &EpochWriter, seq: u32) -> FileName {
    FileName { epoch: writer.next_epoch(), claim: writer.claim(), attempt: 0, stream: 0, seq }
}

#[tokio::test]
async fn the_first_writer_wins_by_its_lock_until_it_ends() {
    let folder = tempfile::tempdir().unwrap();
    let store = at(folder.path(), ManifestLimits::default());
    let writer = open(&store).await.unwrap();
    let error = open(&store).await.unwrap_err();
    assert!(matches!(error, Error::Locked { .. }), "{error}");
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(store.history().await.is_ok(), "reading needs no lock");
    drop(writer);
    assert_eq!(open(&store).await.unwrap().opened(), Epoch(2));
}

#[tokio::test]
async fn a_pipeline_is_remembered_over_folds_and_openings() {
    let folder = tempfile::tempdir().unwrap();
    let store = at(folder.path(), small_limits());
    for run in 0..5_u64 {
        let mut writer = open(&store).await.unwrap();
        for at in 0..4 {
            let objects = (0..=at).map(|n| object(&format!("{:02}/{run}{at}{n}", n * 13 % 7), n)).collect();
            let mut manifest = reading(&writer, run + 1, objects);
            let path = write(&folder.path().join("out"), &format!("day={run}/{}", name(&writer, 1)));
            appending(&mut manifest, vec![file(path.clone(), 1)]);
            replacing(&mut manifest, vec![file("only", at + 1)]);
            writer.commit(manifest, &[(place(folder.path()).location, vec![path])]).await.unwrap();
        }
    }
    let newest = store.newest().await.unwrap().unwrap();
    assert_eq!(newest.epoch, Epoch(25));
    let manifests: Vec<_> = store.manifests(Epoch(1)..=newest.epoch).try_collect().await.unwrap();
    let history = store.history().await.unwrap();
    assert!(history.base().through >= Epoch(20));
    assert_eq!(Memory::of(&history).await, Memory::summed(&store, &manifests).await);

    let writer = open(&store).await.unwrap();
    assert!(writer.sweep(&[place(folder.path())]).await.unwrap().files > 0, "replaced blocks are left to sweep");
    assert_eq!(Memory::of(writer.history()).await, Memory::summed(&store, &manifests).await);
}

#[tokio::test]
async fn a_file_that_is_not_on_disk_is_not_committed() {
    let folder = tempfile::tempdir().unwrap();
    let store = at(folder.path(), ManifestLimits::default());
    let mut writer = open(&store).await.unwrap();
    let path = name(&writer, 1).to_string();
    let mut manifest = reading(&writer, 1, Vec::new());
    appending(&mut manifest, vec![file(path.clone(), 1)]);
    let error = writer.commit(manifest, &[(place(folder.path()).location, vec![path])]).await.unwrap_err();
    assert!(matches!(error, Error::Disk { action: "sync", .. }), "{error}");
    assert_eq!(store.newest().await.unwrap().unwrap().epoch, Epoch(1));
}

#[tokio::test]
async fn a_kill_while_a_manifest_is_put_leaves_none_or_a_whole_one() {
    let folder = tempfile::tempdir().unwrap();
    let store = at(folder.path(), ManifestLimits::default());
    let mut writer = open(&store).await.unwrap();
    let manifest = reading(&writer, 1, vec![object("a", 1)]);
    writer.commit(manifest, &[]).await.unwrap();
    drop(writer);

    // Killed before the link: only a half file under its staged name. Killed after: a second name of a whole one.
    let manifests = folder.path().join("state/manifests");
    fs::write(manifests.join("00000000000000000003.json#7"), "{\"format_ver").unwrap();
    let second = manifests.join("00000000000000000002.json");
    fs::hard_link(&second, manifests.join("00000000000000000002.json#81")).unwrap();
    fs::write(folder.path().join("state/latest#1"), "").unwrap();
    fs::remove_file(folder.path().join("state/latest")).unwrap();
    assert_eq!(store.newest().await.unwrap().unwrap().epoch, Epoch(2));

    let writer = open(&store).await.unwrap();
    assert_eq!(writer.opened(), Epoch(3));
    assert_eq!(writer.sweep(&[]).await.unwrap().files, 3);
    let left: BTreeSet<_> = fs::read_dir(&manifests).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 3);
    assert!(second.exists());
}

#[tokio::test]
async fn a_sweep_deletes_what_a_killed_writer_left_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let store = at(folder.path(), ManifestLimits::default());
    let mut writer = open(&store).await.unwrap();
    let live = format!("tail=N1%2F é #/{}", name(&writer, 1));
    let location = place(folder.path()).location;
    location.store().put(&location.path(&live), "rows".into()).await.unwrap();
    let mut manifest = reading(&writer, 1, vec![object("a", 1)]);
    appending(&mut manifest, vec![file(live.clone(), 1)]);
    writer.commit(manifest, &[]).await.unwrap();

    let orphans = [
        write(&out, &format!("day=1/{}", name(&writer, 1))),
        write(&out, &format!("day=1/{}", name(&writer, 2))),
        write(&out, &format!("day=2/hour=3/{}#1", name(&writer, 3))),
    ];
    let stranger = FileName { claim: Claim(7), ..name(&writer, 1) };
    drop(writer);
    let writer = open(&store).await.unwrap();
    let strangers = [
        write(&out, "day=4/part-0001.parquet"),
        write(&out, "day=4/notes.txt#1"),
        write(&out, &format!("day=4/{stranger}")),
        write(&out, &format!("day=4/{}", name(&writer, 1))),
        write(&out, &format!("day=4/{}#3", name(&writer, 2))),
    ];

    let swept = writer.sweep(&[place(folder.path())]).await.unwrap();
    assert_eq!(swept, Swept { files: 3, bytes: 12 });
    for orphan in orphans {
        assert!(!out.join(&orphan).exists(), "{orphan}");
    }
    location.store().head(&location.path(&live)).await.expect("a live file");
    for kept in &strangers {
        assert!(out.join(kept).exists(), "{kept}");
    }
    assert!(!out.join("day=1").exists() && !out.join("day=2").exists(), "empty partitions go");
    assert_eq!(writer.sweep(&[place(folder.path())]).await.unwrap(), Swept::default());
}

#[tokio::test]
async fn what_an_attempt_left_can_be_deleted_before_its_epoch_is_decided() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let store = at(folder.path(), ManifestLimits::default());
    let mut writer = open(&store).await.unwrap();
    let live = write(&out, &name(&writer, 1).to_string());
    let mut manifest = reading(&writer, 1, vec![object("a", 1)]);
    appending(&mut manifest, vec![file(live.clone(), 1)]);
    writer.commit(manifest, &[]).await.unwrap();

    let given_up = [
        write(&out, &format!("day=1/{}", name(&writer, 1))),
        write(&out, &format!("day=2/{}#7", FileName { attempt: 1, ..name(&writer, 1) })),
    ];
    let of_others = write(&out, &format!("day=3/{}", FileName { claim: Claim(7), ..name(&writer, 1) }));
    let swept = writer.discard_attempts(&[place(folder.path())]).await.unwrap();

    assert_eq!(swept, Swept { files: 2, bytes: 8 });
    assert!(given_up.iter().all(|path| !out.join(path).exists()));
    assert!(out.join(live).exists() && out.join(of_others).exists());
    assert!(!out.join("day=1").exists() && !out.join("day=2").exists(), "empty partitions go");
}

#[tokio::test]
async fn a_manifest_that_never_left_the_process_may_be_followed_by_another() {
    let folder = tempfile::tempdir().unwrap();
    let store = at(folder.path(), ManifestLimits::default());
    let mut writer = open(&store).await.unwrap();
    let manifests = folder.path().join("state/manifests");
    fs::rename(&manifests, folder.path().join("away")).unwrap();
    fs::write(&manifests, "no folder").unwrap();
    let manifest = reading(&writer, 1, vec![object("a", 1)]);
    let error = writer.commit(manifest.clone(), &[]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(writer.may_commit() && writer.unresolved().is_none());

    fs::remove_file(&manifests).unwrap();
    fs::rename(folder.path().join("away"), &manifests).unwrap();
    assert_eq!(writer.commit(manifest, &[]).await.unwrap().manifest.epoch, Epoch(2));
}

#[tokio::test]
async fn a_name_that_may_be_lost_with_the_power_is_no_success() {
    use std::os::unix::fs::PermissionsExt;

    let folder = tempfile::tempdir().unwrap();
    let location = Location::local(folder.path()).unwrap();
    let directory = folder.path().join("manifests");
    fs::create_dir(&directory).unwrap();
    // Names can be made in it, but it cannot be opened, so it cannot be synced.
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o300)).unwrap();
    if fs::File::open(&directory).is_ok() {
        println!("skipped: this user may open everything");
        return;
    }
    let bytes = bytes::Bytes::from_static(b"manifest");
    let put = || put::put_new(&location, "manifests/1.json", &bytes, small_limits().retries);
    assert!(put().await.is_err());
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)).unwrap();
    assert!(matches!(put().await.unwrap(), put::Put::Ours));
}

#[tokio::test]
async fn files_of_a_set_without_a_place_stay() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let store = at(folder.path(), ManifestLimits::default());
    let mut writer = open(&store).await.unwrap();
    let inner = name(&writer, 1).to_string();
    let kept = write(&out, &format!("removed/{inner}"));
    let mut manifest = reading(&writer, 1, Vec::new());
    replacing(&mut manifest, vec![file(inner, 1)]);
    writer.commit(manifest, &[]).await.unwrap();
    assert_eq!(writer.sweep(&[place(folder.path())]).await.unwrap(), Swept::default());
    assert!(out.join(kept).exists());
}

#[tokio::test]
async fn replaced_files_are_told_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let owner = FileOwner::Set("carriers".to_owned());
    let place = SweepPlace { location: Location::local(&out).unwrap(), owner: owner.clone() };
    let store = at(folder.path(), ManifestLimits::default());
    let mut writer = open(&store).await.unwrap();
    let mut before: Option<DataFile> = None;
    for epoch in 2..5 {
        let new = file(write(&out, &format!("day={epoch}/{}", name(&writer, 1))), 1);
        let mut manifest = reading(&writer, 1, Vec::new());
        replacing(&mut manifest, vec![new.clone()]);
        let committed = writer.commit(manifest, &[]).await.unwrap();

        let files: Vec<_> = committed.replaced.iter().flat_map(|replaced| replaced.files.clone()).collect();
        assert_eq!(files, before.iter().cloned().collect::<Vec<_>>());
        assert!(committed.replaced.iter().all(|replaced| replaced.owner == owner));
        writer.remove_replaced(std::slice::from_ref(&place), &committed.replaced).await.unwrap();
        assert_eq!(fs::read_dir(&out).unwrap().count(), 1);
        assert!(out.join(&new.path).exists());
        before = Some(new);
    }
}
