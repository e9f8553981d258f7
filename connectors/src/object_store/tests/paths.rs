//! Which objects a path means, on disk and in a store.

use std::sync::Arc;

use futures::StreamExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use tempfile::tempdir;

use super::harness::*;
use crate::Location;
use crate::object_store::{ObjectSource, OnChange};

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
    assert_eq!(listing.changed().len(), 1);
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

#[tokio::test]
async fn unreadable_file_and_folder_are_named() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempdir().unwrap();
    write(folder.path(), "in/a.csv", b"id\n1\n");
    let forbid = |path: &str, mode| {
        std::fs::set_permissions(folder.path().join(path), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let source = open(folder.path(), Some(columns()), &[("path", "in"), ("format", "csv")]).await.unwrap();
    forbid("in/a.csv", 0);
    // The superuser may read everything.
    if std::fs::read(folder.path().join("in/a.csv")).is_err() {
        let error = scan(&source, Ask::default()).await.unwrap_err();
        assert!(error.to_string().contains("in/a.csv"), "{error}");
        forbid("in", 0);
        let error = scan(&source, Ask::default()).await.unwrap_err();
        assert!(error.to_string().contains("/in"), "{error}");
        forbid("in", 0o700);
    }
}
