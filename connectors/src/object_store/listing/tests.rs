//! What the module `listing` promises, tested.

use futures::stream;

use super::*;

fn version(path: &str, size: u64, modified: i64) -> ObjectVersion {
    ObjectVersion { path: path.to_owned(), size, modified, etag: None, late_before: None }
}

async fn listing(found: Vec<ObjectVersion>, known: Vec<ObjectVersion>, on_change: OnChange) -> Result<Listing> {
    let found = sorted(stream::iter(found.into_iter().map(Ok)).boxed()).await?;
    let known = stream::iter(known.into_iter().map(Ok)).boxed();
    Listing::merge(&Arc::from("flights"), found, known, on_change).await
}

fn paths(versions: &[ObjectVersion]) -> Vec<&str> {
    versions.iter().map(|version| version.path.as_str()).collect()
}

#[tokio::test]
async fn only_new_objects_are_taken_in_path_order() {
    let found = vec![version("c", 1, 1), version("a", 1, 1), version("b", 1, 1)];
    let known = vec![version("a", 1, 1), version("aa", 1, 1)];
    let mut listing = listing(found, known, OnChange::Fail).await.unwrap();
    assert_eq!(listing.remaining_objects(), 2);
    let slice = listing.next_slice(&mut SliceLimits::default()).await.unwrap();
    assert_eq!(paths(&slice), ["b", "c"]);
    assert!(listing.next_slice(&mut SliceLimits::default()).await.unwrap().is_empty());
    assert_eq!(listing.remaining_bytes(), 0);
}

#[tokio::test]
async fn changed_object_stops_or_is_counted_once() {
    let (found, known) = (vec![version("a", 2, 2)], vec![version("a", 1, 1)]);
    let error = listing(found.clone(), known.clone(), OnChange::Fail).await.unwrap_err();
    assert!(matches!(error, Error::Changed { path, .. } if path == "a"));
    let mut ignored = listing(found.clone(), known.clone(), OnChange::Ignore).await.unwrap();
    assert_eq!(ignored.next_changed().unwrap(), found);
    let mut again = listing(found.clone(), [known, found].concat(), OnChange::Fail).await.unwrap();
    assert!(again.next_changed().unwrap().is_empty());
    assert_eq!(again.remaining_objects(), 0);
}

#[tokio::test]
async fn changed_objects_are_taken_some_at_a_time() {
    let versions = |size| (0..2_500_u64).map(|at| version(&format!("{at:05}"), size, 1)).collect::<Vec<_>>();
    let mut listing = listing(versions(2), versions(1), OnChange::Ignore).await.unwrap();
    let mut taken = Vec::new();
    for expected in [1_000, 1_000, 500, 0] {
        let next = listing.next_changed().unwrap();
        assert_eq!(next.len(), expected);
        taken.extend(next);
    }
    assert!(taken == versions(2));
}

#[tokio::test]
async fn slice_is_bounded_by_bytes_and_files_but_takes_one() {
    let found: Vec<_> = ["a", "b", "c", "d"].iter().map(|path| version(path, 10, 1)).collect();
    let mut listing = listing(found, vec![], OnChange::Fail).await.unwrap();
    let limits = |bytes, files| SliceLimits { bytes, files, rows: u64::MAX };
    assert_eq!(paths(&listing.next_slice(&mut limits(1, 9)).await.unwrap()), ["a"]);
    assert_eq!(paths(&listing.next_slice(&mut limits(25, 9)).await.unwrap()), ["b", "c"]);
    assert_eq!(paths(&listing.next_slice(&mut limits(99, 0)).await.unwrap()), ["d"]);
}

#[tokio::test]
async fn a_million_keys_are_listed_in_bounded_memory() {
    let count = 1_000_000_u64;
    // 7 is prime to the count, so every key comes once, far from its neighbours.
    let key = |number: u64| format!("day={:03}/{number:07}.parquet", number % 365);
    let mut sorter = Sorter::new(RUN_LENGTH);
    for at in 0..count {
        sorter.push(version(&key(at * 7 % count), 1, 1)).unwrap();
        assert!(sorter.in_memory() < RUN_LENGTH);
    }
    assert_eq!(sorter.spilled_runs() as u64, count / RUN_LENGTH as u64);
    let known = stream::empty().boxed();
    let mut listing = Listing::merge(&Arc::from("s"), sorter.finish().unwrap(), known, OnChange::Fail).await.unwrap();
    assert_eq!(listing.remaining_objects(), count);
    assert_eq!(listing.new.in_memory(), RUN_LENGTH);
    let (mut taken, mut last) = (0, String::new());
    loop {
        let slice = listing.next_slice(&mut SliceLimits::default()).await.unwrap();
        let Some(newest) = slice.last() else { break };
        assert!(slice.is_sorted() && slice[0].path > last);
        last.clone_from(&newest.path);
        assert!(listing.new.in_memory() <= RUN_LENGTH);
        taken += slice.len() as u64;
    }
    assert_eq!(taken, count);
}
