//! A pinned object as a blocking reader, for decoders that know no other.

use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tokio::runtime::Handle;

use super::pinned::PinnedObject;

/// Bytes fetched at a time.
const CHUNK: u64 = 1 << 20;

/// Reads a pinned object on a blocking thread, a bounded chunk at a time.
pub(super) struct ObjectReader {
    object: PinnedObject,
    runtime: Handle,
    position: u64,
    /// The chunk at `chunk_start`.
    chunk: Bytes,
    chunk_start: u64,
    fetched: Arc<AtomicU64>,
}

impl ObjectReader {
    /// A reader at the beginning. `fetched` counts the bytes read.
    pub(super) fn new(object: PinnedObject, runtime: Handle, fetched: Arc<AtomicU64>) -> Self {
        Self { object, runtime, position: 0, chunk: Bytes::new(), chunk_start: 0, fetched }
    }

    fn fetch(&mut self) -> io::Result<()> {
        let end = (self.position + CHUNK).min(self.object.version().size);
        // The decoder above runs on a blocking thread, where waiting for the store is allowed.
        let read = self.runtime.block_on(self.object.read(self.position..end));
        self.chunk = read.map_err(io::Error::other)?;
        self.chunk_start = self.position;
        self.fetched.fetch_add(self.chunk.len() as u64, Ordering::Relaxed);
        Ok(())
    }
}

impl Read for ObjectReader {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if self.position >= self.object.version().size || bytes.is_empty() {
            return Ok(0);
        }
        let chunk = self.chunk_start..self.chunk_start + self.chunk.len() as u64;
        if !chunk.contains(&self.position) {
            self.fetch()?;
        }
        let from = usize::try_from(self.position - self.chunk_start).map_err(io::Error::other)?;
        let length = bytes.len().min(self.chunk.len().saturating_sub(from));
        bytes[..length].copy_from_slice(&self.chunk[from..from + length]);
        self.position += length as u64;
        Ok(length)
    }
}

impl Seek for ObjectReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(offset) => self.object.version().size.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        self.position =
            position.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a position before the beginning"))?;
        Ok(self.position)
    }
}
