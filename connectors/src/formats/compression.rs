//! Compression of text formats: gzip, zstd, bzip2 and xz, of any number of members.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_compression::tokio::bufread::{BzDecoder, GzipDecoder, XzDecoder, ZstdDecoder};
use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio_util::io::StreamReader;

use crate::{Error, Result};

/// Decompressed bytes handed on at a time.
const CHUNK: usize = 1 << 20;

/// How the bytes of a text format are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip (RFC 1952).
    Gzip,
    /// Zstandard (RFC 8878).
    Zstd,
    /// bzip2.
    Bzip2,
    /// xz.
    Xz,
}

impl Compression {
    /// All that compress.
    pub const ALL: [Self; 4] = [Self::Gzip, Self::Zstd, Self::Bzip2, Self::Xz];

    /// The name in messages and options.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Bzip2 => "bzip2",
            Self::Xz => "xz",
        }
    }

    /// What the end of a file's name says, and the name without it.
    pub fn of_name(name: &str) -> (Self, &str) {
        let endings = [
            (".gz", Self::Gzip),
            (".gzip", Self::Gzip),
            (".zst", Self::Zstd),
            (".zstd", Self::Zstd),
            (".bz2", Self::Bzip2),
            (".xz", Self::Xz),
        ];
        let lower = name.to_ascii_lowercase();
        let found = endings.iter().find(|(ending, _)| lower.ends_with(ending));
        found.map_or((Self::None, name), |(ending, compression)| (*compression, &name[..name.len() - ending.len()]))
    }

    /// Whether a file that begins with `head` can be compressed so.
    pub fn begins(self, head: &[u8]) -> bool {
        match self {
            Self::None => true,
            Self::Gzip => head.starts_with(&[0x1f, 0x8b]),
            // A skippable frame (RFC 8878, section 3.1.2) may come first.
            Self::Zstd => {
                head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd])
                    || (head.len() >= 4 && head[0] & 0xf0 == 0x50 && head[1..4] == [0x2a, 0x4d, 0x18])
            }
            Self::Bzip2 => head.starts_with(b"BZh"),
            Self::Xz => head.starts_with(&[0xfd, b'7', b'z', b'X', b'Z', 0]),
        }
    }

    /// What the first bytes of a file whose name says nothing say. bzip2's mark is text, so it is not believed.
    pub fn of_head(head: &[u8]) -> Self {
        let found = [Self::Gzip, Self::Zstd, Self::Xz].into_iter().find(|compression| compression.begins(head));
        found.unwrap_or(Self::None)
    }

    /// Decompresses the object `path`, whose stored bytes come in `chunks`. What is truncated or corrupt ends in an
    /// error with the offset in the stored bytes, as near as is known.
    pub fn decompress(
        self,
        path: &str,
        chunks: BoxStream<'static, Result<Bytes>>,
    ) -> BoxStream<'static, Result<Bytes>> {
        if self == Self::None {
            return chunks;
        }
        let consumed = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&consumed);
        let stored = chunks.map(move |chunk| {
            let chunk = chunk.map_err(io::Error::other)?;
            counter.fetch_add(chunk.len() as u64, Ordering::Relaxed);
            Ok(chunk)
        });
        let state = Decompression { compression: self, path: path.to_owned(), decoder: self.decoder(stored), consumed };
        futures::stream::try_unfold(state, Decompression::next).boxed()
    }

    fn decoder(self, stored: impl futures::Stream<Item = io::Result<Bytes>> + Send + 'static) -> Decoder {
        let reader = StreamReader::new(stored.boxed());
        match self {
            Self::None => Box::pin(reader),
            Self::Gzip => {
                let mut decoder = GzipDecoder::new(reader);
                decoder.multiple_members(true);
                Box::pin(decoder)
            }
            Self::Zstd => {
                let mut decoder = ZstdDecoder::new(reader);
                decoder.multiple_members(true);
                Box::pin(decoder)
            }
            Self::Bzip2 => {
                let mut decoder = BzDecoder::new(reader);
                decoder.multiple_members(true);
                Box::pin(decoder)
            }
            Self::Xz => {
                let mut decoder = XzDecoder::new(reader);
                decoder.multiple_members(true);
                Box::pin(decoder)
            }
        }
    }
}

type Decoder = Pin<Box<dyn AsyncRead + Send>>;

struct Decompression {
    compression: Compression,
    path: String,
    decoder: Decoder,
    consumed: Arc<AtomicU64>,
}

impl Decompression {
    async fn next(mut self) -> Result<Option<(Bytes, Self)>> {
        let mut bytes = Vec::with_capacity(CHUNK);
        // `take` bounds what `read_to_end` adds, so a chunk is full or the last one.
        let read = (&mut self.decoder).take(CHUNK as u64).read_to_end(&mut bytes).await;
        match read {
            Ok(0) => Ok(None),
            Ok(_) => Ok(Some((bytes.into(), self))),
            Err(error) => Err(self.failure(error)),
        }
    }

    fn failure(&self, error: io::Error) -> Error {
        let kind = error.kind();
        // An error of the store came through the decoder: it is given back as it was.
        let inner = match error.downcast::<Error>() {
            Ok(error) => return error,
            Err(error) => error,
        };
        let reason = match kind {
            io::ErrorKind::UnexpectedEof => "it ends too early: it is truncated, or still being written".to_owned(),
            _ => format!("its compressed data is corrupt ({inner})"),
        };
        let offset = self.consumed.load(Ordering::Relaxed);
        Error::BadFile { path: self.path.clone(), format: self.compression.name(), offset, reason }
    }
}
