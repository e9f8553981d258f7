//! Put-if-absent whose answer is wrong or missing.

use std::sync::Mutex;

use bytes::Bytes;
use object_store::ObjectStoreExt;

use super::faulty::{Fault, FaultyStore, Late};
use super::*;

/// Puts `ours` over a connection that fails by `script`, where `there` may be already. Gives the outcome (`None` for an
/// error), what is there afterwards, and the number of requests.
async fn check(script: &[Fault], there: Option<&'static str>) -> (Option<bool>, Option<String>, usize) {
    let inner = Arc::new(InMemory::new());
    let path = Path::from("state/x");
    if let Some(there) = there {
        inner.put(&path, there.into()).await.unwrap();
    }
    let late: Late = Arc::new(Mutex::new(Vec::new()));
    let store = Arc::new(FaultyStore::scripted(Arc::clone(&inner), script, late));
    let location = Location::in_store(Arc::clone(&store) as Arc<dyn object_store::ObjectStore>, Path::from("state"));
    let put = put::put_new(&location, "x", &Bytes::from_static(b"ours"), small_limits().retries).await;
    let requests = store.requests();
    let quiet = Location::in_store(inner, Path::from("state"));
    let found = put::read(&quiet, "x").await.unwrap().map(|bytes| String::from_utf8(bytes.to_vec()).unwrap());
    (put.ok().map(|put| matches!(put, put::Put::Ours)), found, requests)
}

#[tokio::test]
async fn own_success_is_known_whatever_the_answer_was() {
    for (fault, requests) in [(Fault::None, 1), (Fault::Repeated, 2), (Fault::After, 2), (Fault::Before, 3)] {
        assert_eq!(check(&[fault], None).await, (Some(true), Some("ours".to_owned()), requests), "{fault:?}");
    }
    let script = [Fault::After, Fault::Before, Fault::Repeated];
    assert_eq!(
        check(&script, None).await,
        (Some(true), Some("ours".to_owned()), 4),
        "the object could not be read at first"
    );
}

#[tokio::test]
async fn what_another_has_put_is_never_overwritten() {
    for fault in [Fault::None, Fault::Repeated, Fault::After, Fault::Before, Fault::Late] {
        assert_eq!(check(&[fault], Some("theirs")).await, (Some(false), Some("theirs".to_owned()), 2), "{fault:?}");
    }
}

#[tokio::test]
async fn attempts_are_bounded_and_a_refusal_is_not_repeated() {
    let script = [Fault::Before, Fault::None].repeat(9);
    assert_eq!(check(&script, None).await, (None, None, 6));
    assert_eq!(check(&[Fault::Denied], None).await, (None, None, 2));
}

#[tokio::test]
async fn an_epoch_without_outcome_is_found_out_by_the_next_opening() {
    let inner = Arc::new(InMemory::new());
    let quiet = Location::in_store(Arc::clone(&inner) as Arc<dyn object_store::ObjectStore>, Path::from("state"));
    let late: Late = Arc::new(Mutex::new(Vec::new()));
    let mut writer = open(&ManifestStore::with_limits(quiet.clone(), "flights", small_limits())).await.unwrap();

    let script = [Fault::Late, Fault::None, Fault::Before, Fault::None, Fault::Before, Fault::None];
    let faulty = FaultyStore::scripted(Arc::clone(&inner), &script, Arc::clone(&late));
    writer.store.location = Location::in_store(Arc::new(faulty), Path::from("state"));
    let manifest = reading(&writer, 1, vec![object("a", 1)]);
    let error = writer.commit(manifest, &[]).await.unwrap_err();
    assert!(matches!(error, Error::Store { .. }), "{error}");
    assert_eq!((writer.unresolved(), writer.may_commit()), (Some(Epoch(2)), false));
    let place = SweepPlace { location: quiet.clone(), owner: FileOwner::Set("delays".to_owned()) };
    let name = FileName { epoch: Epoch(2), claim: writer.claim(), attempt: 0, stream: 0, seq: 0 };
    quiet.store().put(&quiet.path(&name.to_string()), "rows".into()).await.unwrap();
    assert_eq!(writer.discard_attempts(&[place]).await.unwrap(), Swept::default(), "its files may be committed");

    let (path, payload, options) = late.lock().unwrap().pop().unwrap();
    object_store::ObjectStore::put_opts(&*inner, &path, payload, options).await.unwrap();
    let again = reading(&writer, 1, vec![object("a", 1)]);
    let error = writer.commit(again, &[]).await.unwrap_err();
    assert!(error.to_string().contains("opened anew"), "{error}");

    let store = ManifestStore::with_limits(quiet, "flights", small_limits());
    let writer = open(&store).await.unwrap();
    assert_eq!(writer.opened(), Epoch(3));
    assert_eq!(writer.history().source_totals()["flights"].records, 1);
}
