//! An OAuth 2.0 token endpoint inside the test's own process, on loopback.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;

/// A token of `reader` that ends in 2100, unsigned, as a broker without keys takes it.
const TOKEN: &str = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJyZWFkZXIiLCJleHAiOjQxMDI0NDQ4MDB9.";
/// `reader-id:reader-secret`, as HTTP writes it.
const CLIENT: &str = "Basic cmVhZGVyLWlkOnJlYWRlci1zZWNyZXQ=";
/// What is asked for.
const GRANT: &[u8] = b"grant_type=client_credentials&scope=kafka";

/// An endpoint that gives client `reader-id` with secret `reader-secret` tokens of `reader`, for scope `kafka`.
#[derive(Debug)]
pub struct TokenEndpoint {
    url: String,
    given: Arc<AtomicUsize>,
}

impl TokenEndpoint {
    /// Starts one whose tokens live for some seconds.
    pub fn start(life_seconds: u32) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let url = format!("http://{}/token", listener.local_addr()?);
        let given = Arc::<AtomicUsize>::default();
        let counted = Arc::clone(&given);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if matches!(serve(stream, life_seconds), Ok(true)) {
                    counted.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Ok(Self { url, given })
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// How many tokens it gave.
    pub fn given(&self) -> usize {
        self.given.load(Ordering::Relaxed)
    }
}

/// Answers one request; whether with a token.
fn serve(mut stream: TcpStream, life_seconds: u32) -> Result<bool> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let (mut is_known, mut length) = (false, 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        match line.trim().split_once(": ") {
            None if line.trim().is_empty() => break,
            Some((name, value)) if name.eq_ignore_ascii_case("authorization") => is_known = value == CLIENT,
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => length = value.parse()?,
            _ => {}
        }
    }
    let mut form = vec![0; length];
    reader.read_exact(&mut form)?;
    let is_given = is_known && form == GRANT;
    let (status, body) = if is_given {
        let token = format!(r#"{{"access_token": "{TOKEN}", "token_type": "Bearer", "expires_in": {life_seconds}}}"#);
        ("200 OK", token)
    } else {
        ("401 Unauthorized", r#"{"error": "invalid_client"}"#.to_owned())
    };
    let length = body.len();
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")?;
    Ok(is_given)
}
