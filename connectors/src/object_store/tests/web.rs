//! Web servers and buckets that answer, refuse, fail, or say nothing: over real connections on loopback.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use arrow_schema::DataType;
use bessemer_schemas::ErrorKind;

use super::harness::*;
use crate::object_store::ObjectSource;
use crate::{Error, Location, Result, StoreOptions};

/// A request without a body.
struct Request {
    method: String,
    path: String,
    head: Vec<String>,
}

impl Request {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.iter().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// The bytes that it asks for.
    fn range(&self) -> Option<std::ops::Range<usize>> {
        let (start, last) = self.header("range")?.strip_prefix("bytes=")?.split_once('-')?;
        Some(start.parse().unwrap()..last.parse::<usize>().unwrap() + 1)
    }
}

/// A server that gives `answer` to each request; it lives as long as the test's process.
fn serve(answer: impl Fn(&Request) -> Option<Vec<u8>> + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        // Connections without an answer stay open.
        let mut silent: Vec<TcpStream> = Vec::new();
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let mut lines = BufReader::new(connection.try_clone().unwrap()).lines();
            let Some(Ok(request)) = lines.next() else { continue };
            let head = lines.by_ref().map_while(|line| line.ok().filter(|line| !line.is_empty())).collect();
            let mut words = request.split(' ').map(str::to_owned);
            let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            match answer(&Request { method, path, head }) {
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
    let address = serve(move |request| {
        let modified = "Last-Modified: Tue, 01 Jan 2013 00:00:00 GMT\r\nETag: \"one\"\r\n";
        Some(match (request.method.as_str(), request.path.as_str()) {
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

/// A CSV file of more than one request.
fn large_csv() -> Vec<u8> {
    let mut bytes = b"id,name\n".to_vec();
    for id in 0..9_000 {
        writeln!(bytes, "{id},{}", "x".repeat(1_000)).unwrap();
    }
    bytes
}

/// Serves `body` under a weak tag. A server with `ranges` refuses to send it at once.
fn serve_large(body: Vec<u8>, ranges: bool) -> String {
    serve(move |request| {
        let head = "ETag: W/\"one\"\r\nLast-Modified: Tue, 01 Jan 2013 00:00:00 GMT\r\n";
        let size = body.len();
        if request.method == "HEAD" {
            let status = "HTTP/1.1 200 OK\r\nConnection: close";
            return Some(format!("{status}\r\nContent-Length: {size}\r\n{head}\r\n").into_bytes());
        }
        if request.path != "/in%20a/b%20%23.csv" {
            return Some(response("404 Not Found", "", b""));
        }
        // No weak tag is ever the same as another, by the strong comparison of `If-Match`.
        if request.header("if-match").is_some() {
            return Some(response("412 Precondition Failed", "", b""));
        }
        Some(match (ranges, request.range()) {
            (false, _) => response("200 OK", head, &body),
            (true, None) => response("400 Bad Request", "", b""),
            (true, Some(range)) => {
                let of = format!("{head}Content-Range: bytes {}-{}/{size}\r\n", range.start, range.end - 1);
                response("206 Partial Content", &of, &body[range])
            }
        })
    })
}

#[tokio::test]
async fn large_file_of_a_web_server_is_read_in_pieces_where_it_can_be() {
    let declared = vec![column("id", DataType::Int64, false), column("name", DataType::Utf8, true)];
    for ranges in [true, false] {
        let address = serve_large(large_csv(), ranges);
        let url = format!("http://{address}/in%20a/b%20%23.csv");
        let source = open(Path::new("/"), Some(declared.clone()), &[("path", &url)]).await.unwrap();
        assert_eq!(listed_paths(&source).await.unwrap(), ["b #.csv"]);
        let scanned = scan(&source, Ask { projection: Some(&[0]), ..Ask::default() }).await.unwrap();
        let expected: Vec<_> = (0..9_000).map(|id| id.to_string()).collect();
        assert_eq!(scanned.text(), expected, "{ranges}");
    }
}

async fn list_bucket(address: &str, timeout: Duration) -> Result<()> {
    let store = StoreOptions::default()
        .with("aws.endpoint", format!("http://{address}"))
        .with("aws.allow_http", "true")
        .with("aws.access_key_id", "a")
        .with("aws.secret_access_key", "b")
        .with("aws.region", "eu-west-1")
        .with_timeout(timeout);
    let location = Location::parse("s3://lake/in", Path::new("/"), &store)?;
    let mut definition = definition(Some(columns()), &[("path", "in/*.csv")]);
    let options = parse(&mut definition, Path::new("/")).in_location(location);
    let source = ObjectSource::open(&definition, options).await?;
    listed(&source).await.map(drop)
}

#[tokio::test]
async fn bucket_that_refuses_fails_or_says_nothing_ends_in_the_right_error() {
    // A refusal is not asked for again, so it may take as long as it takes. A silence, or a failure that stays, is the same
    // outage whenever the waiting ends.
    let (patient, impatient) = (Duration::from_mins(5), Duration::from_millis(400));
    let answers = [
        (Some("403 Forbidden"), patient, ErrorKind::Invalid, "no permission"),
        (Some("404 Not Found"), patient, ErrorKind::Invalid, "nothing at"),
        (Some("500 Internal Server Error"), impatient, ErrorKind::Unavailable, "cannot reach"),
        (None, impatient, ErrorKind::Unavailable, "cannot reach"),
    ];
    for (status, timeout, kind, said) in answers {
        let address = serve(move |_| status.map(|status| response(status, "", b"")));
        let error = list_bucket(&address, timeout).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{status:?}: {error:?}");
        assert!(error.to_string().contains(said) && error.to_string().contains("s3://lake/in"), "{error}");
    }
}
