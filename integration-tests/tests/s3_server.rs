//! The S3 server is as strict as S3, and misbehaves only as it is told.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::sync::Arc;
use std::time::Duration;

use bessemer_integration_tests::{Answering, Fault, FaultPlan, S3Server};
use futures::TryStreamExt;
use futures::future::join_all;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::{
    BackoffConfig, ClientOptions, Error, GetOptions, ObjectStore, ObjectStoreExt, PutMode, PutOptions, RetryConfig,
};

/// A client that retries at once and gives up after `max_retries`.
fn client(server: &S3Server, max_retries: usize) -> AmazonS3 {
    let backoff =
        BackoffConfig { init_backoff: Duration::from_millis(1), max_backoff: Duration::from_millis(2), base: 2. };
    let retry = RetryConfig { backoff, max_retries, retry_timeout: Duration::from_mins(1) };
    let mut builder = AmazonS3Builder::new().with_bucket_name(S3Server::BUCKET).with_retry(retry);
    for (name, value) in server.environment() {
        builder = builder.with_config(name.to_ascii_lowercase().parse().unwrap(), value);
    }
    let options = ClientOptions::new().with_allow_http(true).with_timeout(Duration::from_secs(5));
    builder.with_client_options(options).build().unwrap()
}

fn create() -> PutOptions {
    PutOptions::from(PutMode::Create)
}

#[tokio::test]
async fn of_a_hundred_puts_if_absent_one_wins() {
    let server = S3Server::start(&FaultPlan::none()).unwrap();
    let client = Arc::new(client(&server, 0));
    for round in 0..5 {
        let path = Path::from(format!("manifests/{round}"));
        let puts = (0..20).map(|writer: u8| {
            let (client, path) = (Arc::clone(&client), path.clone());
            async move { client.put_opts(&path, vec![writer; 1000].into(), create()).await.map(|_| writer) }
        });
        let results = join_all(puts).await;
        let winners: Vec<_> = results.iter().filter_map(|result| result.as_ref().ok()).collect();
        assert_eq!(winners.len(), 1);
        let losers = results.iter().filter(|result| matches!(result, Err(Error::AlreadyExists { .. })));
        assert_eq!(losers.count(), 19);
        let bytes = client.get(&path).await.unwrap().bytes().await.unwrap();
        assert_eq!(bytes, vec![*winners[0]; 1000]);
    }
}

#[tokio::test]
async fn a_read_pinned_to_an_etag_refuses_another_version() {
    let server = S3Server::start(&FaultPlan::none()).unwrap();
    let client = client(&server, 0);
    let path = Path::from("data/a.csv");
    client.put(&path, "one".into()).await.unwrap();
    let listed: Vec<_> = client.list(None).try_collect().await.unwrap();
    assert_eq!(listed.len(), 1);
    let pinned = GetOptions { if_match: listed[0].e_tag.clone(), ..GetOptions::default() };
    assert!(pinned.if_match.is_some(), "a listing carries etags");
    let bytes = client.get_opts(&path, pinned.clone()).await.unwrap().bytes().await.unwrap();
    assert_eq!(bytes, "one");

    client.put(&path, "two".into()).await.unwrap();
    let refused = client.get_opts(&path, pinned).await;
    assert!(matches!(refused, Err(Error::Precondition { .. })), "{refused:?}");
}

#[tokio::test]
async fn listings_are_sorted_paged_and_below_a_prefix() {
    let server = S3Server::start(&FaultPlan::none()).unwrap();
    let client = client(&server, 0);
    let folder = server.bucket_folder().join("many");
    std::fs::create_dir(&folder).unwrap();
    for number in 0..1500 {
        std::fs::write(folder.join(format!("{number:05}")), b"x").unwrap();
    }
    client.put(&Path::from("other"), "x".into()).await.unwrap();
    let listed: Vec<_> =
        client.list(Some(&Path::from("many"))).map_ok(|object| object.location).try_collect().await.unwrap();
    assert_eq!(listed.len(), 1500);
    assert!(listed.is_sorted());
}

#[tokio::test]
async fn a_multipart_upload_appears_when_it_is_complete() {
    let server = S3Server::start(&FaultPlan::none()).unwrap();
    let client = client(&server, 0);
    let path = Path::from("features/big.parquet");
    let mut upload = client.put_multipart(&path).await.unwrap();
    upload.put_part(vec![1; 5 << 20].into()).await.unwrap();
    upload.put_part(vec![2; 100].into()).await.unwrap();
    assert!(matches!(client.head(&path).await, Err(Error::NotFound { .. })));
    upload.complete().await.unwrap();
    assert_eq!(client.head(&path).await.unwrap().size, (5 << 20) + 100);
}

#[tokio::test]
async fn refusals_reach_the_client_as_what_they_are() {
    let server = S3Server::start(&FaultPlan::none()).unwrap();
    let client = client(&server, 1);
    let path = Path::from("x");
    server.answer(Answering::Forbidden);
    assert!(matches!(client.get(&path).await, Err(Error::PermissionDenied { .. })));
    server.answer(Answering::NoSuchBucket);
    assert!(matches!(client.get(&path).await, Err(Error::NotFound { .. })));
    server.answer(Answering::Broken);
    assert!(matches!(client.get(&path).await, Err(Error::Generic { .. })));
    server.answer(Answering::Never);
    let late = client.get(&path).await.unwrap_err();
    assert!(format!("{late:?}").to_lowercase().contains("time"), "{late:?}");
    server.answer(Answering::Normally);
    assert!(matches!(client.get(&path).await, Err(Error::NotFound { .. })));
}

#[tokio::test]
async fn a_wrong_secret_is_refused() {
    let server = S3Server::start(&FaultPlan::none()).unwrap();
    let mut builder = AmazonS3Builder::new().with_bucket_name(S3Server::BUCKET).with_allow_http(true);
    for (name, value) in server.environment() {
        builder = builder.with_config(name.to_ascii_lowercase().parse().unwrap(), value);
    }
    let client = builder.with_secret_access_key("wrong").build().unwrap();
    let refused = client.get(&Path::from("x")).await;
    assert!(matches!(refused, Err(Error::PermissionDenied { .. })), "{refused:?}");
}

/// What a put-if-absent, without a retry, leaves behind under one fault: whether it reported success, and whether the
/// object is there.
async fn put_under(fault: Fault) -> (bool, bool) {
    let server = S3Server::start(&FaultPlan::seeded(1, 1000, &[fault])).unwrap();
    let put = client(&server, 0).put_opts(&Path::from("x"), "x".into(), create()).await;
    assert_eq!((server.requests(), server.faults()), (1, 1));
    (put.is_ok(), server.bucket_folder().join("x").is_file())
}

#[tokio::test]
async fn a_fault_before_the_effect_leaves_nothing_and_one_after_it_lies() {
    for fault in [Fault::InternalError, Fault::SlowDown, Fault::DropBefore, Fault::Hang, Fault::Conflict] {
        assert_eq!(put_under(fault).await, (false, false), "{fault:?}");
    }
    for fault in [Fault::InternalErrorAfter, Fault::DropAfter] {
        assert_eq!(put_under(fault).await, (false, true), "{fault:?}");
    }
    assert_eq!(put_under(Fault::Slow(Duration::from_millis(1))).await, (true, true));
}

#[tokio::test]
async fn a_client_that_retries_gets_through_every_fault() {
    let faults = [
        Fault::InternalError,
        Fault::SlowDown,
        Fault::DropBefore,
        Fault::DropAfter,
        Fault::CutBody,
        Fault::Slow(Duration::from_millis(2)),
    ];
    let server = S3Server::start(&FaultPlan::seeded(7, 300, &faults)).unwrap();
    let client = client(&server, 20);
    for number in 0..100u8 {
        let path = Path::from(format!("{number}"));
        let content = vec![number; 10_000];
        client.put(&path, content.clone().into()).await.unwrap();
        let bytes = client.get(&path).await.unwrap().bytes().await.unwrap();
        assert_eq!(bytes, content);
    }
    assert!(server.faults() > 50, "{} faults", server.faults());
}
