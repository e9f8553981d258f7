//! The HTTP server: it answers from the board, to GET alone, and holds nothing open for long.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::board::Board;
use crate::error::{Error, Result};
use crate::host::{Host, Machine};

/// Connections at one time; more wait until one of these ends.
const CONNECTIONS_MAX: usize = 64;
/// The wait after a connection that could not be accepted.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
/// How long a client may take to say what it wants; also, how long an idle connection is kept.
const REQUEST_WITHIN: Duration = Duration::from_secs(30);

/// A server that listens already.
#[derive(Debug)]
pub(crate) struct Server {
    listener: TcpListener,
    address: SocketAddr,
}

impl Server {
    /// Listens at `address`: a host (or address) and port; 0 is any free port.
    pub(crate) async fn listen(address: &str) -> Result<Self> {
        let refused = |source| Error::Listen { address: address.to_owned(), source };
        let listener = TcpListener::bind(address).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        Ok(Self { listener, address })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers from `board` until `stop`.
    pub(crate) fn serve(self, board: Board, stop: CancellationToken) -> impl Future<Output = ()> {
        // Before any pipeline starts, so that each knows that it is worth asking the brokers for their ends.
        board.serve();
        self.answer(board, stop)
    }

    async fn answer(self, board: Board, stop: CancellationToken) {
        let mut connections = JoinSet::new();
        loop {
            let has_room = connections.len() < CONNECTIONS_MAX;
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                Some(_) = connections.join_next() => {}
                accepted = self.listener.accept(), if has_room => match accepted {
                    Ok((stream, _)) => drop(connections.spawn(converse(stream, board.clone()))),
                    // Out of file descriptors, or a client that has left: others are still to be answered.
                    Err(error) => {
                        debug!(%error, "a connection was not accepted");
                        #[expect(clippy::disallowed_methods, reason = "nothing tells when there are descriptors again")]
                        tokio::time::sleep(ACCEPT_AGAIN).await;
                    }
                },
            }
        }
    }
}

/// One connection.
async fn converse(stream: TcpStream, board: Board) {
    let answer = service_fn(|request: Request<_>| {
        let response = answer(&board, request.method(), request.uri().path());
        async move { Ok::<_, Infallible>(response) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(REQUEST_WITHIN);
    if let Err(error) = http.serve_connection(TokioIo::new(stream), answer).await {
        debug!(%error, "a client went away");
    }
}

/// The answer to a request.
pub(super) fn answer(board: &Board, method: &Method, path: &str) -> Response<Full<Bytes>> {
    const TEXT: &str = "text/plain; charset=utf-8";
    const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
    const JSON: &str = "application/json";
    if method != Method::GET && method != Method::HEAD {
        return response(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET is answered\n".to_owned());
    }
    let state = board.state();
    let verdict = |troubles: &[String]| match troubles {
        [] => response(StatusCode::OK, TEXT, "ok\n".to_owned()),
        troubles => response(StatusCode::SERVICE_UNAVAILABLE, TEXT, troubles.join("\n") + "\n"),
    };
    match path {
        "/healthz" => verdict(state.sickness().as_slice()),
        "/readyz" => verdict(&state.troubles()),
        "/metrics" => response(StatusCode::OK, METRICS, state.metrics(Machine.now_micros())),
        "/" => match serde_json::to_string_pretty(&state.summary()) {
            Ok(text) => response(StatusCode::OK, JSON, text + "\n"),
            Err(error) => response(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("{error}\n")),
        },
        _ => response(StatusCode::NOT_FOUND, TEXT, "there are /, /metrics, /readyz and /healthz\n".to_owned()),
    }
}

fn response(status: StatusCode, kind: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
