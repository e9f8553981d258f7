//! Web servers and buckets that answer, refuse, fail, or say nothing: over real connections on loopback.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use bessemer_schemas::ErrorKind;

use super::harness::*;
use crate::object_store::ObjectSource;
use crate::{Error, Location, Result, StoreOptions};

/// A server that gives `answer` to the method and path of each request; it lives as long as the test's process.
fn serve(answer: impl Fn(&str, &str) -> Option<Vec<u8>> + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        // Connections without an answer stay open.
        let mut silent: Vec<TcpStream> = Vec::new();
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let mut lines = BufReader::new(connection.try_clone().unwrap()).lines();
            let Some(Ok(request)) = lines.next() else { continue };
            for line in lines.by_ref() {
                if line.is_ok_and(|line| line.is_empty()) {
                    break;
                }
            }
            let mut words = request.split(' ');
            let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            match answer(method, path) {
                Some(bytes) => drop(connection.write_all(&bytes)),
                None => silent.push(connection),
            }
        }
    });
    address.to_string()
}

fn response(status: &str, head: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let mut bytes =
        format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n{head}\r\n").into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

#[tokio::test]
async fn file_of_a_web_server_is_one_object() {
    let body = csv(&rows(0..1_000));
    let address = serve(move |method, path| {
        let modified = "Last-Modified: Tue, 01 Jan 2013 00:00:00 GMT\r\nETag: \"one\"\r\n";
        Some(match (method, path) {
            ("HEAD", "/in/a.csv") => {
                let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
                format!("{head}{modified}\r\n").into_bytes()
            }
            // A plain server, which knows no ranges.
            ("GET", "/in/a.csv") => response("200 OK", modified, &body),
            _ => response("404 Not Found", "", b""),
        })
    });
    let url = format!("http://{address}/in/a.csv");
    let source = open(Path::new("/"), Some(columns()), &[("path", &url)]).await.unwrap();
    let objects = listed(&source).await.unwrap();
    assert_eq!((objects[0].path.as_str(), objects.len()), ("a.csv", 1));
    let scanned = scan(&source, Ask::default()).await.unwrap();
    assert_eq!(scanned.text(), text(&[rows(0..1_000)]));

    let absent = format!("http://{address}/in/b.csv");
    let source = open(Path::new("/"), Some(columns()), &[("path", &absent)]).await.unwrap();
    let error = scan(&source, Ask::default()).await.unwrap_err();
    assert!(matches!(&error, Error::NotFound { location, .. } if location.ends_with("/in/b.csv")), "{error:?}");
}

async fn list_bucket(address: &str) -> Result<()> {
    let store = StoreOptions::default()
        .with("aws.endpoint", format!("http://{address}"))
        .with("aws.allow_http", "true")
        .with("aws.access_key_id", "a")
        .with("aws.secret_access_key", "b")
        .with("aws.region", "eu-west-1")
        .with_timeout(Duration::from_millis(400));
    let location = Location::parse("s3://lake/in", Path::new("/"), &store)?;
    let mut definition = definition(Some(columns()), &[("path", "in/*.csv")]);
    let options = parse(&mut definition, Path::new("/")).in_location(location);
    let source = ObjectSource::open(&definition, options).await?;
    listed(&source).await.map(drop)
}

#[tokio::test]
async fn bucket_that_refuses_fails_or_says_nothing_ends_in_the_right_error() {
    let answers = [
        (Some("403 Forbidden"), ErrorKind::Invalid, "no permission"),
        (Some("404 Not Found"), ErrorKind::Invalid, "nothing at"),
        (Some("500 Internal Server Error"), ErrorKind::Unavailable, "cannot reach"),
        (None, ErrorKind::Unavailable, "cannot reach"),
    ];
    for (status, kind, said) in answers {
        let address = serve(move |_, _| status.map(|status| response(status, "", b"")));
        let error = list_bucket(&address).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{status:?}: {error:?}");
        assert!(error.to_string().contains(said) && error.to_string().contains("s3://lake/in"), "{error}");
    }
}
