//! Which objects a path means, on disk and in a store.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use tempfile::tempdir;

use super::harness::*;
use super::odd_store::OddStore;
use crate::object_store::{ObjectSource, OnChange, walk};
use crate::{Error, Location};

async fn check(path: &str, expected: &[&str]) {
    let files = [
        "a.csv",
        "b.CSV",
        "c.csv.gz",
        "d.parquet",
        "sub/e.csv",
        "sub/deep/f.csv",
        "_tmp/g.csv",
        ".h.csv",
        "i.csv#1",
        "sp ace [1].csv",
    ];
    let folder = tempdir().unwrap();
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    for file in files {
        write(folder.path(), &format!("in/{file}"), b"x");
        store.put(&Path::parse(format!("in/{file}")).unwrap(), "x".into()).await.unwrap();
    }
    let mut definition = definition(Some(columns()), &[("path", path), ("format", "csv")]);
    let options = parse(&mut definition, folder.path());
    let below = options.location().local_folder().unwrap().strip_prefix(folder.path()).unwrap().to_str().unwrap();
    let location = Location::in_store(store, Path::parse(below).unwrap());
    for options in [options.clone(), options.in_location(location)] {
        let place = options.location().as_text().to_owned();
        let source = ObjectSource::open(&definition, options).await.unwrap();
        let found = listed(&source).await.unwrap();
        let found: Vec<_> = found.iter().map(|version| version.path.as_str()).collect();
        assert_eq!(found, expected, "{path} at {place}");
    }
}

#[tokio::test]
async fn paths_mean_the_same_on_disk_and_in_a_store() {
    check("in/*.csv", &["a.csv", "sp ace [1].csv"]).await;
    check("in/a*.csv", &["a.csv"]).await;
    check("in/a.csv", &["a.csv"]).await;
    check("in/{a,c}.csv*", &["a.csv", "c.csv.gz"]).await;
    check("in/sub/**/*.csv", &["deep/f.csv", "e.csv"]).await;
    check("in/sub/*", &["e.csv"]).await;
}

#[tokio::test]
async fn folder_means_everything_below_it_of_its_format() {
    let expected = ["in/a.csv", "in/b.CSV", "in/c.csv.gz", "in/sp ace [1].csv", "in/sub/deep/f.csv", "in/sub/e.csv"];
    check("in", &expected).await;
    check("in/", &expected).await;
}

#[tokio::test]
async fn markers_of_folders_are_no_objects() {
    // `in/empty.csv/` is a folder with the name of a file.
    let markers = ["in", "in/sub", "in/sub/e.csv", "in/none"].map(Path::from).to_vec();
    for (path, expected) in [
        (".", vec!["a.csv", "sub-1/d.csv", "sub/b.csv", "sub/e.csv/c.csv"]),
        ("**", vec!["a.csv", "sub-1/d.csv", "sub/b.csv", "sub/e.csv/c.csv"]),
        ("*", vec!["a.csv"]),
        ("sub", vec!["sub/b.csv", "sub/e.csv/c.csv"]),
        ("sub/*", vec!["b.csv"]),
        ("none", vec![]),
    ] {
        let store = OddStore::with_markers(markers.clone());
        for path in ["a.csv", "sub/b.csv", "sub/e.csv/c.csv", "sub-1/d.csv"] {
            store.put(&format!("in/{path}").as_str().into(), "id\n1\n".into()).await.unwrap();
        }
        let options = [("path", path), ("format", "csv")];
        let mut definition = definition(Some(columns()), &options);
        let options = parse(&mut definition, std::path::Path::new("/in"));
        let below = options.location().local_folder().unwrap().strip_prefix("/").unwrap().to_str().unwrap();
        let location = Location::in_store(Arc::new(store), Path::parse(below).unwrap());
        let source = ObjectSource::open(&definition, options.in_location(location)).await.unwrap();
        assert_eq!(listed_paths(&source).await.unwrap(), expected, "{path}");
    }
}

#[tokio::test]
async fn folder_with_the_name_of_a_file_is_a_folder_in_a_store_too() {
    let store = OddStore::default();
    for part in ["part-0.parquet", "part-1.parquet"] {
        store.put(&format!("in/flights.parquet/{part}").as_str().into(), "x".into()).await.unwrap();
    }
    let source = open_in(store, Some(columns()), &[("path", "flights.parquet")]).await.unwrap();
    let found = listed_paths(&source).await.unwrap();
    assert_eq!(found, ["flights.parquet/part-0.parquet", "flights.parquet/part-1.parquet"]);

    let source = open_in(OddStore::default(), Some(columns()), &[("path", "flights.parquet")]).await.unwrap();
    let error = listed(&source).await.unwrap_err();
    assert!(matches!(&error, Error::NotFound { location, .. } if location.ends_with("flights.parquet")), "{error:?}");
}

#[tokio::test]
async fn folders_that_a_glob_cannot_match_are_not_listed_for_long() {
    let store = OddStore::default();
    let taken = Arc::clone(&store.listed);
    for number in 0..30_000 {
        store.put(&format!("in/b/{number:05}/old.csv").as_str().into(), "x".into()).await.unwrap();
    }
    for path in ["a.csv", "b/c.csv", "d/e.csv", "z.csv", "_b/f.csv"] {
        store.put(&format!("in/{path}").as_str().into(), "x".into()).await.unwrap();
    }
    let source = open_in(store, Some(columns()), &[("path", "{*,[b-z]*/*}.csv")]).await.unwrap();
    assert_eq!(listed_paths(&source).await.unwrap(), ["a.csv", "b/c.csv", "d/e.csv", "z.csv"]);
    assert!(taken.load(std::sync::atomic::Ordering::SeqCst) < 11_000);
}

#[tokio::test]
async fn links_to_files_are_followed_and_links_to_folders_are_not() {
    use std::os::unix::fs::symlink;
    let folder = tempdir().unwrap();
    write(folder.path(), "in/a.csv", b"x");
    write(folder.path(), "in/sub/b.csv", b"x");
    write(folder.path(), "elsewhere/c.csv", b"x");
    symlink(folder.path().join("elsewhere/c.csv"), folder.path().join("in/c.csv")).unwrap();
    symlink(folder.path().join("in/sub"), folder.path().join("in/again")).unwrap();
    symlink(folder.path().join("in"), folder.path().join("in/sub/loop")).unwrap();
    symlink(folder.path().join("nowhere"), folder.path().join("in/d.csv")).unwrap();
    symlink(folder.path().join("in"), folder.path().join("start")).unwrap();
    for (path, prefix) in [("in", "in/"), ("in/**/*.csv", ""), ("start", "start/")] {
        let source = open(folder.path(), Some(columns()), &[("path", path), ("format", "csv")]).await.unwrap();
        let expected = ["a.csv", "c.csv", "sub/b.csv"].map(|name| format!("{prefix}{name}"));
        assert_eq!(listed_paths(&source).await.unwrap(), expected, "{path}");
    }
}

#[tokio::test]
async fn folder_that_disappears_during_a_walk_holds_nothing() {
    let folder = tempdir().unwrap();
    // More than the walk can be ahead, so that it is not over when the folders go.
    for number in 0..3_000 {
        write(folder.path(), &format!("in/{number}.csv"), b"x");
    }
    let folders: Vec<_> = (0..200).map(|number| folder.path().join(format!("in/sub-{number}"))).collect();
    for folder in &folders {
        std::fs::create_dir(folder).unwrap();
    }
    let source = open(folder.path(), Some(columns()), &[("path", "in"), ("format", "csv")]).await.unwrap();
    let mut found = walk::objects(source.options());
    found.try_next().await.unwrap().unwrap();
    for folder in &folders {
        std::fs::remove_dir(folder).unwrap();
    }
    assert_eq!(found.try_collect::<Vec<_>>().await.unwrap().len(), 2_999);
}

#[tokio::test]
async fn history_is_respected_on_disk() {
    let folder = tempdir().unwrap();
    write(folder.path(), "in/a.csv", b"id\n1\n");
    let options = [("path", "in"), ("format", "csv"), ("on_change", "ignore")];
    let source = open(folder.path(), Some(columns()), &options).await.unwrap();
    assert_eq!(source.options().on_change, OnChange::Ignore);
    let known = listed(&source).await.unwrap();
    write(folder.path(), "in/a.csv", b"id\n1\n2\n");
    write(folder.path(), "in/b.csv", b"id\n3\n");
    let history = futures::stream::iter(known.into_iter().map(Ok)).boxed();
    let mut listing = source.list(history).await.unwrap();
    assert_eq!(listing.next_changed().unwrap().len(), 1);
    let slice = listing.next_slice(&mut bessemer_schemas::SliceLimits::default()).await.unwrap();
    assert_eq!(slice.iter().map(|version| version.path.as_str()).collect::<Vec<_>>(), ["in/b.csv"]);
}

#[tokio::test]
async fn version_of_a_table_changes_with_its_objects() {
    let (source, location) =
        open_in_memory(&[("a.csv", b"id\n1\n".to_vec())], Some(columns()), &[("path", "*.csv")]).await.unwrap();
    let (first, objects) = source.table_version().await.unwrap();
    assert_eq!(objects.len(), 1);
    assert_eq!(source.table_version().await.unwrap().0, first);
    location.store().put(&location.path("a.csv"), "id\n1\n".into()).await.unwrap();
    assert_ne!(source.table_version().await.unwrap().0, first);
}

/// Makes `path` what not even the superuser can open: a link to itself.
fn make_unreadable(path: &std::path::Path) {
    if path.exists() {
        std::fs::rename(path, path.with_extension("away")).unwrap();
    }
    std::os::unix::fs::symlink(path, path).unwrap();
}

#[tokio::test]
async fn unreadable_file_and_folder_are_named() {
    let folder = tempdir().unwrap();
    write(folder.path(), "in/a.csv", b"id\n1\n");
    let source = open(folder.path(), Some(columns()), &[("path", "in"), ("format", "csv")]).await.unwrap();
    let objects = listed(&source).await.unwrap();
    make_unreadable(&folder.path().join("in/a.csv"));
    let error = scan_objects(&source, &objects, Ask::default()).await.unwrap_err();
    assert!(matches!(&error, Error::Disk { path, .. } if path.ends_with("in/a.csv")), "{error:?}");
    make_unreadable(&folder.path().join("in"));
    let error = scan(&source, Ask::default()).await.unwrap_err();
    assert!(matches!(&error, Error::Disk { path, .. } if path.ends_with("in")), "{error:?}");
}

/// Whether this process is held to the permissions of files: the superuser is not.
fn is_held_to_permissions(folder: &std::path::Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    let probe = folder.join("probe");
    std::fs::create_dir(&probe).unwrap();
    std::fs::set_permissions(&probe, std::fs::Permissions::from_mode(0o000)).unwrap();
    std::fs::read_dir(&probe).is_err()
}

#[tokio::test]
async fn unreadable_folder_that_a_glob_cannot_match_is_not_looked_into() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempdir().unwrap();
    write(folder.path(), "in/2024/a.csv", b"x");
    write(folder.path(), "in/private/deep/b.csv", b"x");
    write(folder.path(), "in/2024/deep/c.csv", b"x");
    let is_held = is_held_to_permissions(folder.path());
    for private in ["in/private", "in/2024/deep"] {
        std::fs::set_permissions(folder.path().join(private), std::fs::Permissions::from_mode(0o000)).unwrap();
    }
    let source = open(folder.path(), Some(columns()), &[("path", "in/2*/*.csv")]).await.unwrap();
    assert_eq!(listed_paths(&source).await.unwrap(), ["2024/a.csv"]);
    let source = open(folder.path(), Some(columns()), &[("path", "in/*/*/*.csv")]).await.unwrap();
    let looked = listed_paths(&source).await;
    for private in ["in/private", "in/2024/deep"] {
        std::fs::set_permissions(folder.path().join(private), std::fs::Permissions::from_mode(0o700)).unwrap();
    }
    if is_held {
        assert!(matches!(looked, Err(Error::Disk { action: "list", .. })), "{looked:?}");
    } else {
        eprintln!("SKIPPED: the superuser may list every folder, so no listing fails by its permissions");
    }
}
