//! Put-if-absent that can be believed. A store may answer "already exists" to a put of its own that it repeated, or
//! fail after the object is there: the object itself is the only witness, so it is read back.

use std::time::Duration;

use bytes::Bytes;
use object_store::{ObjectStoreExt, PutMode, PutPayload};

use super::durable::{self, Created};
use crate::{Error, Location, Result};

/// How often, and how patiently, a put is tried.
#[derive(Debug, Clone, Copy)]
pub struct PutRetries {
    /// Puts in all; the client of the store repeats requests by itself beneath each.
    pub attempts: u32,
    /// Pause after the first failure; it doubles each time.
    pub first_pause: Duration,
}

impl Default for PutRetries {
    /// Some three seconds in all, on top of the minutes for which the client of a store repeats by itself.
    fn default() -> Self {
        Self { attempts: 5, first_pause: Duration::from_millis(200) }
    }
}

/// What is at a path after a put.
#[derive(Debug)]
pub(super) enum Put {
    /// These bytes.
    Ours,
    /// Others.
    Theirs,
    /// Surely nothing of ours, now or later: the bytes never left this process.
    Unsent(Error),
}

/// Puts `bytes` at `relative` unless something is there.
///
/// # Errors
/// The bytes may be there, or arrive later: whoever gets an error does not know.
pub(super) async fn put_new(location: &Location, relative: &str, bytes: &Bytes, retries: PutRetries) -> Result<Put> {
    for attempt in 0..retries.attempts.max(1) {
        let error = match try_put(location, relative, bytes).await {
            Ok(Sent::Done) => return Ok(Put::Ours),
            // An earlier attempt may have arrived; the first one did not, so nothing has.
            Ok(Sent::Not(error)) if attempt == 0 => return Ok(Put::Unsent(error)),
            Ok(Sent::Not(error)) | Err(error) => error,
        };
        let is_last = attempt + 1 >= retries.attempts || !is_worth_repeating(&error);
        match read(location, relative).await {
            // On local disk they were seen, but their name is safe only once it is synced.
            Ok(Some(found)) if found == *bytes => {
                return durable::sync(location, &[relative.to_owned()]).await.map(|()| Put::Ours);
            }
            Ok(Some(_)) => return Ok(Put::Theirs),
            // Not there, or not to be seen: only another put can tell.
            Ok(None) | Err(_) if is_last => return Err(error),
            Ok(None) | Err(_) => pause(retries.first_pause * 2_u32.saturating_pow(attempt)).await,
        }
    }
    Err(Error::Internal { message: format!("no attempt at a put of `{relative}` was the last") })
}

/// What is known of one request that was not refused.
enum Sent {
    /// It had its effect.
    Done,
    /// It was never made.
    Not(Error),
}

async fn try_put(location: &Location, relative: &str, bytes: &Bytes) -> Result<Sent> {
    let failed = |error| Error::store(text(location, relative), error);
    if location.local_folder().is_some() {
        return match durable::create(location, relative, bytes.clone()).await? {
            Created::New => Ok(Sent::Done),
            Created::Unstaged(error) => Ok(Sent::Not(error)),
            Created::Exists => {
                let source = "the file exists".into();
                Err(failed(object_store::Error::AlreadyExists { path: relative.to_owned(), source }))
            }
        };
    }
    let payload = PutPayload::from_bytes(bytes.clone());
    let put = location.store().put_opts(&location.path(relative), payload, PutMode::Create.into()).await;
    put.map(|_| Sent::Done).map_err(failed)
}

/// The bytes at `relative`, if anything is there.
pub(super) async fn read(location: &Location, relative: &str) -> Result<Option<Bytes>> {
    let failed = |error| Error::store(text(location, relative), error);
    match location.store().get(&location.path(relative)).await {
        Ok(found) => found.bytes().await.map(Some).map_err(failed),
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

/// Whether something is at `relative`; asked again where the store does not answer.
pub(super) async fn exists(location: &Location, relative: &str, retries: PutRetries) -> Result<bool> {
    let mut attempt = 0;
    loop {
        match location.store().head(&location.path(relative)).await {
            Ok(_) => return Ok(true),
            Err(object_store::Error::NotFound { .. }) => return Ok(false),
            Err(error) if attempt + 1 >= retries.attempts => {
                return Err(Error::store(text(location, relative), error));
            }
            Err(_) => pause(retries.first_pause * 2_u32.saturating_pow(attempt)).await,
        }
        attempt += 1;
    }
}

/// A path in a message.
pub(super) fn text(location: &Location, relative: &str) -> String {
    format!("{}/{relative}", location.as_text())
}

/// A full disk, a refused credential or a missing bucket does not heal while we wait.
fn is_worth_repeating(error: &Error) -> bool {
    match error {
        Error::Store { source, .. } => !matches!(
            source,
            object_store::Error::NotImplemented { .. }
                | object_store::Error::NotSupported { .. }
                | object_store::Error::InvalidPath { .. }
        ),
        _ => false,
    }
}

async fn pause(time: Duration) {
    if !time.is_zero() {
        #[expect(clippy::disallowed_methods, reason = "the one loop that backs off: a store has no event to wait for")]
        tokio::time::sleep(time).await;
    }
}
