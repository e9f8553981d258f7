//! One version of one object, opened for reading: every read returns bytes of exactly that version, or an error that
//! names the object.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::sync::Arc;

use bessemer_schemas::ObjectVersion;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{GetOptions, GetRange, GetResult, GetResultPayload, ObjectMeta, ObjectStore};

use crate::{Error, Location, Result};

/// Bytes of one sequential read on local disk: large enough that its fixed cost vanishes, small enough to stay in cache.
const LOCAL_CHUNK: u64 = 1 << 20;

/// Bytes of one request to a store: bounded, so that a request's time-out is one for a bounded amount of data.
const REMOTE_CHUNK: u64 = 8 << 20;

/// Requests of one read that are under way at once.
const REMOTE_REQUESTS: usize = 4;

/// Gap between two ranges up to which one request for both is cheaper.
const COALESCED_GAP: u64 = 512 << 10;

/// An object opened for reading, pinned to its version.
#[derive(Debug, Clone)]
pub(crate) struct PinnedObject {
    source: Arc<str>,
    version: ObjectVersion,
    content: Content,
}

#[derive(Debug, Clone)]
enum Content {
    /// A handle keeps its file, whatever happens to the name; size and time are compared before and after.
    Local { file: Arc<File>, path: PathBuf },
    /// Each answer has the entity tag, or the time, of the version.
    Remote { store: Arc<dyn ObjectStore>, path: Path, is_web: bool },
}

impl PinnedObject {
    /// Opens `version` of an object of `source`.
    pub(crate) async fn open(source: &Arc<str>, location: &Location, version: &ObjectVersion) -> Result<Self> {
        let content = match location.local_folder() {
            Some(folder) => Self::open_local(folder.join(&version.path)).await,
            None => Ok(Content::Remote {
                store: Arc::clone(location.store()),
                path: location.path(&version.path),
                is_web: location.is_http(),
            }),
        };
        let content = content.map_err(|error| match error {
            Error::Disk { source: cause, .. } if cause.kind() == io::ErrorKind::NotFound => {
                Error::Unstable { name: source.to_string(), path: version.path.clone(), what: "disappeared" }
            }
            error => error,
        })?;
        let object = Self { source: Arc::clone(source), version: version.clone(), content };
        object.verify()?;
        Ok(object)
    }

    async fn open_local(path: PathBuf) -> Result<Content> {
        let opened = path.clone();
        let file = blocking(move || File::open(opened)).await.map_err(|error| Error::disk("read", &path, error))?;
        Ok(Content::Local { file: Arc::new(file), path })
    }

    /// The version that it is pinned to.
    pub(crate) fn version(&self) -> &ObjectVersion {
        &self.version
    }

    /// Its path, for messages.
    pub(crate) fn path(&self) -> &str {
        &self.version.path
    }

    /// Checks that the object is still what the listing found. On local disk this must follow the last read, since
    /// nothing else notices a file that is written in place; a store checks the entity tag at every read.
    pub(crate) fn verify(&self) -> Result<()> {
        let Content::Local { file, path } = &self.content else { return Ok(()) };
        // A look at an open handle never waits for a disk.
        let metadata = file.metadata().map_err(|error| Error::disk("read", path, error))?;
        let is_same = metadata.len() == self.version.size && modified_micros(&metadata) == self.version.modified;
        if is_same { Ok(()) } else { Err(self.unstable("changed")) }
    }

    /// Reads ranges, in the order asked for.
    pub(crate) async fn read_ranges(&self, ranges: Vec<Range<u64>>) -> Result<Vec<Bytes>> {
        match &self.content {
            Content::Local { file, path } => {
                let (file, size) = (Arc::clone(file), self.version.size);
                let bytes = blocking(move || ranges.iter().map(|range| read_at(&file, range, size)).collect()).await;
                bytes.map_err(|error| self.local_error(path, error))
            }
            Content::Remote { .. } => {
                object_store::coalesce_ranges(&ranges, |range| self.read_remote(range), COALESCED_GAP).await
            }
        }
    }

    /// Reads one range.
    pub(crate) async fn read(&self, range: Range<u64>) -> Result<Bytes> {
        let bytes = self.read_ranges(vec![range]).await?;
        Ok(bytes.into_iter().next().unwrap_or_default())
    }

    /// Reads the whole object, a bounded piece at a time.
    pub(crate) fn chunks(&self) -> BoxStream<'static, Result<Bytes>> {
        let (size, object) = (self.version.size, self.clone());
        match &self.content {
            Content::Local { .. } => pieces_of(0..size, LOCAL_CHUNK)
                .then(move |range| {
                    let object = object.clone();
                    async move { object.read(range).await }
                })
                .boxed(),
            Content::Remote { is_web: false, .. } => self.remote_pieces(0..size),
            // A web server need not know ranges, so a small file is asked for as it is.
            Content::Remote { is_web: true, .. } if size <= REMOTE_CHUNK => {
                stream::once(object.body()).try_flatten().boxed()
            }
            Content::Remote { is_web: true, .. } => stream::once(object.web_chunks()).try_flatten().boxed(),
        }
    }

    fn remote_pieces(&self, range: Range<u64>) -> BoxStream<'static, Result<Bytes>> {
        let object = self.clone();
        pieces_of(range, REMOTE_CHUNK)
            .map(move |range| {
                let object = object.clone();
                async move { object.get(Some(range)).await }
            })
            .buffered(2)
            .boxed()
    }

    /// A large file of a web server: in pieces, since a request has to end within its time-out, or at once from a server
    /// that knows no ranges.
    async fn web_chunks(self) -> Result<BoxStream<'static, Result<Bytes>>> {
        match self.get(Some(0..REMOTE_CHUNK)).await {
            Ok(first) => {
                let rest = self.remote_pieces(REMOTE_CHUNK..self.version.size);
                Ok(stream::iter([Ok(first)]).chain(rest).boxed())
            }
            Err(Error::Store { source: object_store::Error::NotSupported { .. }, .. }) => self.body().await,
            Err(error) => Err(error),
        }
    }

    async fn read_remote(&self, range: Range<u64>) -> Result<Bytes> {
        if range.end - range.start <= REMOTE_CHUNK {
            return self.get(Some(range)).await;
        }
        let length = usize::try_from(range.end - range.start).unwrap_or(0);
        let mut requests = pieces_of(range, REMOTE_CHUNK).map(|piece| self.get(Some(piece))).buffered(REMOTE_REQUESTS);
        let mut whole = Vec::with_capacity(length);
        while let Some(bytes) = requests.try_next().await? {
            whole.extend_from_slice(&bytes);
        }
        Ok(whole.into())
    }

    async fn get(&self, range: Option<Range<u64>>) -> Result<Bytes> {
        let expected = range.as_ref().map(|range| range.end - range.start);
        let result = self.request(range).await?;
        let bytes = result.bytes().await.map_err(|error| self.remote_error(error))?;
        match expected {
            Some(length) if bytes.len() as u64 != length => Err(self.unstable("changed")),
            _ => Ok(bytes),
        }
    }

    async fn body(self) -> Result<BoxStream<'static, Result<Bytes>>> {
        let result = self.request(None).await?;
        match result.payload {
            GetResultPayload::Stream(stream) => Ok(stream.map_err(move |error| self.remote_error(error)).boxed()),
            GetResultPayload::File(..) => {
                Err(Error::Internal { message: "a remote store answered with a file".into() })
            }
        }
    }

    async fn request(&self, range: Option<Range<u64>>) -> Result<GetResult> {
        let Content::Remote { store, path, .. } = &self.content else {
            return Err(Error::Internal { message: "a local file was asked for as a remote object".into() });
        };
        let options = GetOptions {
            if_match: self.version.etag.clone().filter(|tag| is_strong(tag)),
            range: range.filter(|range| range.end > range.start).map(GetRange::Bounded),
            ..GetOptions::default()
        };
        let result = store.get_opts(path, options).await.map_err(|error| self.remote_error(error))?;
        if is_same_version(&self.version, &result.meta) { Ok(result) } else { Err(self.unstable("changed")) }
    }

    fn local_error(&self, path: &std::path::Path, error: io::Error) -> Error {
        match error.kind() {
            // The file is shorter than its own size said: somebody cut it while it was being read.
            io::ErrorKind::UnexpectedEof => self.unstable("changed"),
            _ => Error::disk("read", path, error),
        }
    }

    fn remote_error(&self, error: object_store::Error) -> Error {
        match error {
            object_store::Error::Precondition { .. } | object_store::Error::NotModified { .. } => {
                self.unstable("changed")
            }
            object_store::Error::NotFound { .. } => self.unstable("disappeared"),
            error => Error::store(self.path(), error),
        }
    }

    fn unstable(&self, what: &'static str) -> Error {
        Error::Unstable { name: self.source.to_string(), path: self.version.path.clone(), what }
    }
}

/// A store that ignores the condition, or has no entity tags, is checked by what it says with the bytes.
fn is_same_version(pinned: &ObjectVersion, found: &ObjectMeta) -> bool {
    let is_same_time = pinned.modified == found.last_modified.timestamp_micros();
    let is_same_tag = match (&pinned.etag, &found.e_tag) {
        // What a weak tag means is the same, not each byte of it.
        (Some(pinned), Some(found)) if is_weak(pinned) || is_weak(found) => {
            is_same_time && opaque(pinned) == opaque(found)
        }
        (Some(pinned), Some(found)) => opaque(pinned) == opaque(found),
        _ => is_same_time,
    };
    is_same_tag && found.size == pinned.size
}

fn is_weak(tag: &str) -> bool {
    tag.starts_with("W/")
}

/// Whether a tag can be a condition: `If-Match` never holds for a weak one (RFC 9110, section 13.1.1), and Azure lists
/// tags without their quotes, which no condition may lack.
fn is_strong(tag: &str) -> bool {
    tag.len() >= 2 && tag.starts_with('"') && tag.ends_with('"')
}

/// What two spellings of one tag share: `W/"a"`, `"a"` and `a`.
fn opaque(tag: &str) -> &str {
    tag.strip_prefix("W/").unwrap_or(tag).trim_matches('"')
}

/// Modification time of a local file as an [`ObjectVersion`] has it.
pub(super) fn modified_micros(metadata: &std::fs::Metadata) -> i64 {
    metadata.mtime().saturating_mul(1_000_000).saturating_add(metadata.mtime_nsec() / 1_000)
}

/// Runs `work` where it may wait for a disk.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

fn read_at(file: &File, range: &Range<u64>, size: u64) -> io::Result<Bytes> {
    if range.start > range.end || range.end > size {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a range beyond the end of the file"));
    }
    let length = usize::try_from(range.end - range.start).map_err(io::Error::other)?;
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, range.start)?;
    Ok(bytes.into())
}

fn pieces_of(range: Range<u64>, size: u64) -> stream::Iter<impl Iterator<Item = Range<u64>>> {
    let end = range.end;
    let starts = (range.start..end).step_by(usize::try_from(size).unwrap_or(usize::MAX));
    stream::iter(starts.map(move |start| start..(start + size).min(end)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tag_is_the_same_however_it_is_spelled_and_a_weak_one_needs_the_time_too() {
        for (pinned, found, seconds, expected) in [
            (Some("a"), Some("\"a\""), 9, true),
            (Some("\"a\""), Some("\"a\""), 9, true),
            (Some("\"a\""), Some("\"b\""), 1, false),
            (Some("W/\"a\""), Some("W/\"a\""), 1, true),
            (Some("W/\"a\""), Some("W/\"a\""), 9, false),
            (Some("\"a\""), Some("W/\"a\""), 9, false),
            (None, Some("\"a\""), 1, true),
            (None, None, 9, false),
        ] {
            let version = ObjectVersion {
                path: "a".into(),
                size: 1,
                modified: 1_000_000,
                etag: pinned.map(str::to_owned),
                late_before: None,
            };
            let last_modified = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
            let meta = ObjectMeta {
                location: "a".into(),
                last_modified: last_modified.into(),
                size: 1,
                e_tag: found.map(str::to_owned),
                version: None,
            };
            assert_eq!(is_same_version(&version, &meta), expected, "{pinned:?} {found:?} {seconds}");
        }
    }
}
