//! An S3 server on loopback, in this process: `s3s` and `s3s-fs` over a temporary folder, made strict, behind a layer
//! that misbehaves on purpose.
//!
//! ```text
//! client ──HTTP──► faults (drawn from a seed) ──► s3s (signatures, XML) ──► strict store ──► s3s-fs (a folder)
//! ```
//!
//! The server has a thread and a runtime of its own, so that a test can wait for a child process without starving it.

mod fault;
mod strict;

use std::fmt;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use bytes::Bytes;
use futures::stream;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use s3s::Body;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s_fs::FileSystem;
use tokio::sync::oneshot;

pub use fault::{Fault, FaultPlan};
use strict::StrictStore;

const ACCESS_KEY: &str = "bessemer";
const SECRET_KEY: &str = "bessemer-secret";

/// How the server answers, faults apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answering {
    /// As S3 does.
    Normally,
    /// 403 to everything.
    Forbidden,
    /// 404 `NoSuchBucket` to everything.
    NoSuchBucket,
    /// 500 to everything.
    Broken,
    /// Never.
    Never,
}

/// A running server; it stops when it is dropped.
#[derive(Debug)]
pub struct S3Server {
    address: SocketAddr,
    root: tempfile::TempDir,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What the connections share with the server's owner.
struct Shared {
    service: S3Service,
    answering: Mutex<Answering>,
    dice: Mutex<fault::Dice>,
    requests: AtomicU64,
    faults: AtomicU64,
}

/// The connection is to be dropped.
#[derive(Debug)]
struct Dropped;

impl S3Server {
    /// Name of the one bucket.
    pub const BUCKET: &'static str = "lake";

    /// Starts a server with an empty bucket.
    pub fn start(plan: &FaultPlan) -> Result<Self> {
        let root = tempfile::tempdir()?;
        fs::create_dir(root.path().join(Self::BUCKET))?;
        let files = FileSystem::new(root.path()).map_err(|error| anyhow::anyhow!("s3s-fs: {error:?}"))?;
        let mut builder = S3ServiceBuilder::new(StrictStore::new(files));
        builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let shared = Arc::new(Shared {
            service: builder.build(),
            answering: Mutex::new(Answering::Normally),
            dice: Mutex::new(plan.dice()),
            requests: AtomicU64::new(0),
            faults: AtomicU64::new(0),
        });

        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port on loopback")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let for_thread = Arc::clone(&shared);
        let thread = std::thread::spawn(move || runtime.block_on(serve(listener, for_thread, stopped)));
        Ok(Self { address, root, shared, stop: Some(stop), thread: Some(thread) })
    }

    /// Its endpoint, `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The folder whose files are the bucket's objects.
    pub fn bucket_folder(&self) -> PathBuf {
        self.root.path().join(Self::BUCKET)
    }

    /// The environment under which a client finds the server and may use it.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ENDPOINT", self.endpoint()),
            ("AWS_ALLOW_HTTP", "true".to_owned()),
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY.to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
        ]
    }

    /// Changes how it answers from now on.
    pub fn answer(&self, answering: Answering) {
        *self.shared.answering.lock().unwrap_or_else(PoisonError::into_inner) = answering;
    }

    /// Changes which faults are met from now on.
    pub fn set_faults(&self, plan: &FaultPlan) {
        *self.shared.dice.lock().unwrap_or_else(PoisonError::into_inner) = plan.dice();
    }

    /// Requests so far, faulty ones included.
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::Relaxed)
    }

    /// Faults so far.
    pub fn faults(&self) -> u64 {
        self.shared.faults.load(Ordering::Relaxed)
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // It fails where the thread has ended already; then there is nothing to stop.
            stop.send(()).ok();
        }
        if let Some(thread) = self.thread.take() {
            // A panic of the server has been printed by its thread; a second one while dropping would abort the test.
            drop(thread.join());
        }
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>, mut stopped: oneshot::Receiver<()>) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let stream = tokio::select! {
            _ = &mut stopped => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(_) => continue,
            },
            Some(_) = connections.join_next() => continue,
        };
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            let service = service_fn(|request| respond(Arc::clone(&shared), request));
            // A client that goes away, or one that we drop, ends the connection: that is what is wanted.
            drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
        });
    }
}

async fn respond(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Body>, Dropped> {
    shared.requests.fetch_add(1, Ordering::Relaxed);
    let answering = *shared.answering.lock().unwrap_or_else(PoisonError::into_inner);
    match answering {
        Answering::Normally => {}
        Answering::Forbidden => return Ok(refusal(StatusCode::FORBIDDEN, "AccessDenied")),
        Answering::NoSuchBucket => return Ok(refusal(StatusCode::NOT_FOUND, "NoSuchBucket")),
        Answering::Broken => return Ok(refusal(StatusCode::INTERNAL_SERVER_ERROR, "InternalError")),
        Answering::Never => return Ok(never().await),
    }

    let Some(fault) = shared.dice.lock().unwrap_or_else(PoisonError::into_inner).roll() else {
        return shared.perform(request).await;
    };
    if fault == Fault::Conflict && !request.headers().contains_key(http::header::IF_NONE_MATCH) {
        return shared.perform(request).await;
    }
    shared.faults.fetch_add(1, Ordering::Relaxed);
    misbehave(&shared, fault, request).await
}

async fn misbehave(shared: &Shared, fault: Fault, request: Request<Incoming>) -> Result<Response<Body>, Dropped> {
    match fault {
        Fault::InternalError => Ok(refusal(StatusCode::INTERNAL_SERVER_ERROR, "InternalError")),
        Fault::SlowDown => Ok(refusal(StatusCode::SERVICE_UNAVAILABLE, "SlowDown")),
        Fault::Conflict => Ok(refusal(StatusCode::CONFLICT, "ConditionalRequestConflict")),
        Fault::InternalErrorAfter => {
            shared.perform_whole(request).await?;
            Ok(refusal(StatusCode::INTERNAL_SERVER_ERROR, "InternalError"))
        }
        Fault::DropBefore => Err(Dropped),
        Fault::DropAfter => {
            shared.perform_whole(request).await?;
            Err(Dropped)
        }
        Fault::CutBody => Ok(cut(shared.perform(request).await?).await),
        Fault::Hang => Ok(never().await),
        Fault::Slow(delay) => {
            #[expect(clippy::disallowed_methods, reason = "being slow is what this fault is")]
            tokio::time::sleep(delay).await;
            shared.perform(request).await
        }
    }
}

impl Shared {
    /// Does what the request asks.
    async fn perform(&self, request: Request<Incoming>) -> Result<Response<Body>, Dropped> {
        self.service.call(request.map(Body::from)).await.map_err(|_| Dropped)
    }

    /// Does what the request asks to the end: some operations of S3 do their work while the answer is read.
    async fn perform_whole(&self, request: Request<Incoming>) -> Result<(), Dropped> {
        let response = self.perform(request).await?;
        response.into_body().collect().await.map(drop).map_err(|_| Dropped)
    }
}

/// Waits until the client has gone; then hyper drops this future.
async fn never<T>() -> T {
    std::future::pending().await
}

fn refusal(status: StatusCode, code: &str) -> Response<Body> {
    let text = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>injected</Message></Error>");
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response
}

/// The same answer, whose body breaks off half-way.
async fn cut(response: Response<Body>) -> Response<Body> {
    let (head, body) = response.into_parts();
    let whole = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    if whole.is_empty() {
        return Response::from_parts(head, Body::from(whole));
    }
    let half = Frame::data(whole.slice(..whole.len() / 2));
    let frames: [Result<Frame<Bytes>, Dropped>; 2] = [Ok(half), Err(Dropped)];
    Response::from_parts(head, Body::http_body(StreamBody::new(stream::iter(frames))))
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("requests", &self.requests).finish_non_exhaustive()
    }
}

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection is dropped on purpose")
    }
}

impl std::error::Error for Dropped {}
