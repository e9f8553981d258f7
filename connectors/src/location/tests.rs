//! What the module `location` promises, tested.

#[cfg(feature = "cloud")]
use std::time::Duration;

use bessemer_schemas::ErrorKind;
#[cfg(feature = "cloud")]
use bessemer_schemas::{OptionEntry, OptionMap, OptionValue, Span};

use super::*;

fn parse(text: &str) -> Result<Location> {
    Location::parse(text, FsPath::new("/base"), &StoreOptions::default().with("aws.region", "eu-west-1"))
}

#[test]
fn relative_path_is_below_the_base() {
    let location = parse("data/../in").unwrap();
    assert_eq!(location.local_folder(), Some(FsPath::new("/base/in")));
    assert_eq!(location.path("a/b[1] ~x.csv").as_ref(), "base/in/a/b[1] ~x.csv");
}

#[test]
fn file_url_is_a_local_folder() {
    assert_eq!(parse("file:///in").unwrap().local_folder(), Some(FsPath::new("/in")));
    assert!(matches!(parse("file://in"), Err(Error::BadLocation { .. })));
}

#[test]
fn dots_cannot_leave_a_prefix() {
    assert_eq!(parse("in").unwrap().path("../x").as_ref(), "base/in/%2E%2E/x");
}

#[test]
fn unknown_scheme_is_named() {
    let error = parse("ftp://host/x").unwrap_err();
    assert!(error.to_string().contains("`ftp://`"), "{error}");
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

#[cfg(feature = "cloud")]
#[test]
fn bucket_urls_have_store_and_prefix() {
    for text in ["s3://lake/in/flights/", "s3a://lake/in/flights", "gs://lake/in/flights"] {
        let location = parse(text).unwrap();
        assert_eq!(location.prefix().as_ref(), "in/flights", "{text}");
        assert!(location.local_folder().is_none());
        assert!(!location.as_text().ends_with('/'));
    }
    let options = StoreOptions::default().with("azure.account_name", "acme").with("azure.access_key", "c2VjcmV0");
    let location = Location::parse("az://lake/in", FsPath::new("/"), &options).unwrap();
    assert_eq!(location.prefix().as_ref(), "in");
}

#[cfg(feature = "cloud")]
#[test]
fn key_in_a_bucket_is_literal_and_a_web_path_is_decoded_once() {
    let location = parse("s3://lake/t/hour=10%3A00/").unwrap();
    assert_eq!(location.prefix().as_ref(), "t/hour=10%3A00");
    assert_eq!(location.path("a b%20c.csv").as_ref(), "t/hour=10%3A00/a b%20c.csv");
    assert_eq!(parse("s3://lake/sp ace").unwrap().prefix().as_ref(), "sp ace");
    assert_eq!(parse("s3://lake").unwrap().prefix().as_ref(), "");
    assert_eq!(parse("https://example.com/a%20b/c%2520d").unwrap().prefix().as_ref(), "a b/c%20d");
}

#[cfg(feature = "cloud")]
#[test]
fn web_server_is_marked() {
    let location = parse("https://example.com/a/b.csv").unwrap();
    assert!(location.is_http());
    assert_eq!(location.prefix().as_ref(), "a/b.csv");
}

#[cfg(feature = "cloud")]
#[test]
fn credentials_in_a_url_are_refused_and_not_shown() {
    let error = parse("https://me:hunter2@example.com/a.csv").unwrap_err();
    assert!(!error.to_string().contains("hunter2"), "{error}");
}

#[cfg(feature = "cloud")]
#[test]
fn misspelt_store_option_names_the_nearest() {
    let entry = |key: &str| OptionEntry {
        key: key.to_owned(),
        key_span: Span::default(),
        value: OptionValue::Text("x".to_owned()),
        value_span: Span::default(),
    };
    let mut map = OptionMap::new("source `s`", Span::default(), vec![entry("aws.acces_key_id"), entry("s3.region")]);
    let options = StoreOptions::take(&mut map);
    assert_eq!(options.aws.len(), 1);
    let diagnostics = map.finish("connector `object_store`");
    assert_eq!(diagnostics.len(), 1);
    assert_eq!(diagnostics[0].help.as_deref(), Some("did you mean `aws.access_key_id`?"));
}

#[cfg(feature = "cloud")]
#[tokio::test]
async fn store_that_refuses_connections_ends_in_an_error() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let options = StoreOptions::default()
        .with("aws.endpoint", format!("http://{address}"))
        .with("aws.allow_http", "true")
        .with("aws.access_key_id", "a")
        .with("aws.secret_access_key", "b")
        .with("aws.region", "eu-west-1")
        .with_timeout(Duration::from_millis(500));
    let location = Location::parse("s3://lake/in", FsPath::new("/"), &options).unwrap();
    let error = location.store().list_with_delimiter(None).await.unwrap_err();
    assert_eq!(Error::store(location.as_text(), error).kind(), ErrorKind::Unavailable);
}
