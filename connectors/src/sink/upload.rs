//! One object on its way into a store: small ones in one put, larger ones in parts; visible only when complete.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt, PutPayload, path::Path};
use tokio::task::JoinSet;

use crate::{Error, Location, Result};

/// Bytes of a part. At least 5 MiB for S3, which also wants all parts but the last of one size; its 10,000 parts then
/// allow files of 78 GiB.
const PART_BYTES: usize = 8 << 20;

/// Parts on their way at once: enough to hide the latency of a store, 32 MiB of memory at most.
const PARTS_IN_FLIGHT: usize = 4;

/// An object being written.
pub(crate) struct Upload {
    store: Arc<dyn ObjectStore>,
    path: Path,
    target: Target,
    waiting: Vec<Bytes>,
    waiting_bytes: usize,
    parts: Option<Box<dyn MultipartUpload>>,
    in_flight: JoinSet<object_store::Result<()>>,
}

/// What an error of an upload names.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    text: String,
    local: Option<PathBuf>,
}

impl Target {
    /// The object at `relative` in `location`.
    pub(crate) fn new(location: &Location, relative: &str) -> Self {
        let local = location.local_folder().map(|folder| folder.join(relative));
        Self { text: format!("{}/{relative}", location.as_text()), local }
    }

    /// A store's answer as the situation that it is; on local disk a full or failing disk is told as such.
    pub(crate) fn error(&self, error: object_store::Error) -> Error {
        match (&self.local, disk_error(&error)) {
            (Some(path), Some(source)) => Error::disk("write", path, source),
            _ => Error::store(&self.text, error),
        }
    }
}

impl Upload {
    /// Begins; nothing reaches the store yet.
    pub(crate) fn new(location: &Location, relative: &str) -> Self {
        Self {
            store: Arc::clone(location.store()),
            path: location.path(relative),
            target: Target::new(location, relative),
            waiting: Vec::new(),
            waiting_bytes: 0,
            parts: None,
            in_flight: JoinSet::new(),
        }
    }

    /// Bytes held in memory.
    pub(crate) fn buffered_bytes(&self) -> usize {
        self.waiting_bytes + self.in_flight.len() * PART_BYTES
    }

    /// Takes the next bytes; waits while too many parts are on their way.
    pub(crate) async fn put(&mut self, bytes: Bytes) -> Result<()> {
        self.waiting_bytes += bytes.len();
        self.waiting.push(bytes);
        // More than a part, not just one: a file of exactly one part still goes in one put.
        while self.waiting_bytes > PART_BYTES {
            let part = self.take_waiting(PART_BYTES);
            self.send_part(part).await?;
        }
        Ok(())
    }

    /// Sends what is left and makes the object visible; on failure nothing is.
    pub(crate) async fn finish(mut self) -> Result<()> {
        let rest = self.take_waiting(self.waiting_bytes);
        if self.parts.is_none() {
            // The name is this writer's own, so a put that is sent again overwrites only itself.
            return self.store.put(&self.path, rest).await.map(drop).map_err(|error| self.target.error(error));
        }
        let done = self.complete(rest).await;
        if done.is_err() {
            self.abort().await;
        }
        done
    }

    /// Gives up: what was sent is removed where the store lets us.
    pub(crate) async fn abort(mut self) {
        // A part that arrives after the abort would stay, so the ones on their way end first.
        while self.in_flight.join_next().await.is_some() {}
        if let Some(mut parts) = self.parts.take() {
            // Parts of an upload that was never completed are visible to nobody; the error that led here is told.
            parts.abort().await.ok();
        }
    }

    async fn complete(&mut self, rest: PutPayload) -> Result<()> {
        self.send_part(rest).await?;
        while let Some(part) = self.in_flight.join_next().await {
            self.part_done(part)?;
        }
        match &mut self.parts {
            Some(parts) => parts.complete().await.map(drop).map_err(|error| self.target.error(error)),
            None => Ok(()),
        }
    }

    async fn send_part(&mut self, part: PutPayload) -> Result<()> {
        while self.in_flight.len() >= PARTS_IN_FLIGHT {
            if let Some(done) = self.in_flight.join_next().await {
                self.part_done(done)?;
            }
        }
        if self.parts.is_none() {
            let begun = self.store.put_multipart(&self.path).await.map_err(|error| self.target.error(error))?;
            self.parts = Some(begun);
        }
        if let Some(parts) = &mut self.parts {
            self.in_flight.spawn(parts.put_part(part));
        }
        Ok(())
    }

    fn part_done(&self, part: Result<object_store::Result<()>, tokio::task::JoinError>) -> Result<()> {
        let part = part.map_err(|error| Error::Internal { message: format!("an upload task ended: {error}") })?;
        part.map_err(|error| self.target.error(error))
    }

    fn take_waiting(&mut self, bytes: usize) -> PutPayload {
        let mut taken = Vec::new();
        let mut missing = bytes;
        let mut left = std::mem::take(&mut self.waiting).into_iter();
        while missing > 0
            && let Some(mut next) = left.next()
        {
            let part = next.split_to(missing.min(next.len()));
            missing -= part.len();
            taken.push(part);
            if !next.is_empty() {
                self.waiting.push(next);
            }
        }
        self.waiting.extend(left);
        self.waiting_bytes -= bytes;
        taken.into_iter().collect()
    }
}

/// The operating system's error at the bottom of a store's answer.
fn disk_error(error: &object_store::Error) -> Option<std::io::Error> {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(cause) = next {
        if let Some(code) = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error) {
            return Some(std::io::Error::from_raw_os_error(code));
        }
        next = cause.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use bessemer_schemas::ErrorKind;

    use super::*;

    #[test]
    fn a_full_disk_is_told_as_such_with_the_file() {
        const NO_SPACE: i32 = 28;
        let location = Location::local(std::path::Path::new("/sets/delays")).unwrap();
        let full = std::io::Error::from_raw_os_error(NO_SPACE);
        let answer = object_store::Error::Generic { store: "LocalFileSystem", source: Box::new(full) };
        let error = Target::new(&location, "carrier=AA/1.parquet").error(answer);
        assert_eq!(error.to_string(), "cannot write `/sets/delays/carrier=AA/1.parquet`");
        assert_eq!(error.kind(), ErrorKind::Unavailable);
    }
}
