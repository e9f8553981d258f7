//! Blocks: sorted entries in an immutable object, one JSON value a line, compressed with Zstandard.

use std::collections::BTreeMap;

use async_compression::tokio::{bufread::ZstdDecoder, write::ZstdEncoder};
use bessemer_schemas::{BlockRef, Claim, DataFile, Digest, Epoch, ObjectVersion};
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::durable::on_blocking_pool;
use super::layout::BlockName;
use super::put::{self, Put, PutRetries};
use crate::{Error, Location, Result};

/// Blocks above this many bytes or entries are coded on the blocking pool.
const INLINE_BYTES: usize = 64 << 10;
const INLINE_ENTRIES: usize = 1024;

/// What blocks hold: a value with a key.
pub(super) trait Entry: Serialize + DeserializeOwned + Clone + Send + Sync + 'static {
    /// The key; unique within a list of blocks.
    fn key(&self) -> &str;
}

impl Entry for ObjectVersion {
    fn key(&self) -> &str {
        &self.path
    }
}

impl Entry for DataFile {
    fn key(&self) -> &str {
        &self.path
    }
}

/// Path of a block of a slice: a block lists those, too.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct SliceBlock(pub(super) String);

impl Entry for SliceBlock {
    fn key(&self) -> &str {
        &self.0
    }
}

/// What is different from blocks, by key: the entry that is there now, or `None` where it is gone.
pub(super) type Changes<T> = BTreeMap<String, Option<T>>;

/// Writes the blocks of one epoch of one writer.
#[derive(Debug, Clone)]
pub(super) struct BlockWriter {
    /// The pipeline's state folder.
    pub(super) location: Location,
    /// The epoch that will name the blocks.
    pub(super) epoch: Epoch,
    /// The writer's claim.
    pub(super) claim: Claim,
    /// Entries of a block at most.
    pub(super) entries: usize,
    /// How puts are tried.
    pub(super) retries: PutRetries,
}

impl BlockWriter {
    /// Writes `entries` as one block in `folder`, in their order.
    pub(super) async fn write<T: Entry>(&self, folder: &str, entries: Vec<T>) -> Result<BlockRef> {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
            return Err(Error::Internal { message: "a block without entries".to_owned() });
        };
        let (first, last, count) = (first.key().to_owned(), last.key().to_owned(), entries.len() as u64);
        let bytes = encode(entries).await?;

        let name = BlockName { epoch: self.epoch, claim: self.claim, digest: Digest::of(&bytes) };
        let path = format!("{folder}/{name}");
        match put::put_new(&self.location, &path, &bytes, self.retries).await? {
            Put::Ours => {}
            Put::Theirs => return Err(damaged(&self.location, &path, "it does not have the digest of its name")),
            Put::Unsent(error) => return Err(error),
        }
        Ok(BlockRef { path, first, last, entries: count, bytes: bytes.len() as u64 })
    }

    /// Merges `new` into the sorted blocks `old`; what has the same key goes, and a block with nothing left does, too.
    /// Blocks that get nothing stay as they are, so that the cost follows what is new.
    pub(super) async fn merge<T: Entry>(
        &self,
        folder: &str,
        old: &[BlockRef],
        mut new: Changes<T>,
    ) -> Result<Vec<BlockRef>> {
        let mut blocks = Vec::new();
        for (at, block) in old.iter().enumerate() {
            let rest = old.get(at + 1).map(|next| new.split_off(&next.first)).unwrap_or_default();
            let mine = std::mem::replace(&mut new, rest);
            if mine.is_empty() {
                blocks.push(block.clone());
                continue;
            }
            let mut mine = mine;
            let merged = merge_up_to(read(&self.location, block).await?, &mut mine, None);
            let is_last = at + 1 == old.len();
            self.write_cut(folder, merged, is_last, &mut blocks).await?;
        }
        if !new.is_empty() {
            self.write_cut(folder, new.into_values().flatten().collect(), true, &mut blocks).await?;
        }
        Ok(blocks)
    }

    /// Cuts `entries` into blocks. At the end of the list they are filled, because names mostly grow and the next
    /// entries come after them; elsewhere they are cut evenly, so that each has room.
    async fn write_cut<T: Entry>(
        &self,
        folder: &str,
        mut entries: Vec<T>,
        is_last: bool,
        blocks: &mut Vec<BlockRef>,
    ) -> Result<()> {
        if entries.is_empty() {
            return Ok(());
        }
        let limit = self.entries.max(1);
        let size = if is_last { limit } else { entries.len().div_ceil(entries.len().div_ceil(limit)) };
        while !entries.is_empty() {
            let rest = entries.split_off(size.min(entries.len()));
            blocks.push(self.write(folder, std::mem::replace(&mut entries, rest)).await?);
        }
        Ok(())
    }
}

/// The entries of a block, in their order.
pub(super) async fn read<T: Entry>(location: &Location, block: &BlockRef) -> Result<Vec<T>> {
    let damaged = |reason: &str| damaged(location, &block.path, reason);
    let Some(bytes) = put::read(location, &block.path).await? else {
        return Err(damaged("it is missing; if another run has just started, try again"));
    };
    let name = block.path.rsplit('/').next().unwrap_or_default();
    let name: BlockName = name.parse().map_err(|reason: String| damaged(&reason))?;
    if Digest::of(&bytes) != name.digest {
        return Err(damaged("its content does not have the digest of its name"));
    }
    let entries = decode(bytes).await.map_err(|reason| damaged(&reason))?;
    if entries.len() as u64 != block.entries {
        return Err(damaged("it does not hold as many entries as its manifest says"));
    }
    Ok(entries)
}

/// Blocks and recent entries that are still to be merged.
type Unread<T> = (std::vec::IntoIter<BlockRef>, Changes<T>);

/// The entries of sorted blocks as `recent` has changed them, sorted. One block at a time is in memory.
pub(super) fn read_merged<T: Entry>(
    location: Location,
    blocks: Vec<BlockRef>,
    recent: Changes<T>,
) -> BoxStream<'static, Result<T>> {
    let chunks = stream::try_unfold((blocks.into_iter(), recent), move |unread| next_chunk(location.clone(), unread));
    chunks.map_ok(|chunk| stream::iter(chunk.into_iter().map(Ok))).try_flatten().boxed()
}

/// The entries of the next block with the recent ones among them; after the last block, the rest.
async fn next_chunk<T: Entry>(location: Location, unread: Unread<T>) -> Result<Option<(Vec<T>, Unread<T>)>> {
    let (mut blocks, mut recent) = unread;
    let chunk = match blocks.next() {
        Some(block) => merge_up_to(read(&location, &block).await?, &mut recent, Some(&block.last)),
        None if recent.is_empty() => return Ok(None),
        None => std::mem::take(&mut recent).into_values().flatten().collect(),
    };
    Ok(Some((chunk, (blocks, recent))))
}

/// Merges sorted `old` with those of `recent` up to the key `last` (or all).
fn merge_up_to<T: Entry>(old: Vec<T>, recent: &mut Changes<T>, last: Option<&str>) -> Vec<T> {
    let mut merged = Vec::with_capacity(old.len() + recent.len());
    for entry in old {
        while let Some(first) = recent.first_entry()
            && first.key().as_str() < entry.key()
        {
            merged.extend(first.remove());
        }
        merged.extend(recent.remove(entry.key()).unwrap_or(Some(entry)));
    }
    while let Some(first) = recent.first_entry()
        && last.is_none_or(|last| first.key().as_str() <= last)
    {
        merged.extend(first.remove());
    }
    merged
}

async fn encode<T: Entry>(entries: Vec<T>) -> Result<Bytes> {
    let internal = |error: String| Error::Internal { message: format!("cannot encode a block: {error}") };
    let count = entries.len();
    let work = async move {
        let mut lines = Vec::new();
        for entry in &entries {
            serde_json::to_writer(&mut lines, entry).map_err(|error| internal(error.to_string()))?;
            lines.push(b'\n');
        }
        compressed(&lines).await
    };
    if count <= INLINE_ENTRIES {
        return work.await;
    }
    let runtime = tokio::runtime::Handle::current();
    on_blocking_pool(move || runtime.block_on(work)).await
}

async fn decode<T: Entry>(bytes: Bytes) -> Result<Vec<T>, String> {
    let size = bytes.len();
    let work = async move {
        let lines = decompressed(&bytes).await?;
        let lines = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_slice(line).map_err(|error| error.to_string())).collect()
    };
    if size <= INLINE_BYTES {
        return work.await;
    }
    let runtime = tokio::runtime::Handle::current();
    let decoded = on_blocking_pool(move || Ok(runtime.block_on(work))).await;
    decoded.map_err(|error| error.to_string())?
}

/// Compresses bytes that may be many.
pub(super) async fn compress(bytes: Vec<u8>) -> Result<Bytes> {
    if bytes.len() <= INLINE_BYTES {
        return compressed(&bytes).await;
    }
    let runtime = tokio::runtime::Handle::current();
    on_blocking_pool(move || runtime.block_on(compressed(&bytes))).await
}

/// Decompresses bytes that may be many.
pub(super) async fn decompress(bytes: Bytes) -> Result<Vec<u8>, String> {
    if bytes.len() <= INLINE_BYTES {
        return decompressed(&bytes).await;
    }
    let runtime = tokio::runtime::Handle::current();
    let decompressed = on_blocking_pool(move || Ok(runtime.block_on(decompressed(&bytes)))).await;
    decompressed.map_err(|error| error.to_string())?
}

async fn compressed(bytes: &[u8]) -> Result<Bytes> {
    let internal = |error: std::io::Error| Error::Internal { message: format!("cannot compress a block: {error}") };
    let mut encoder = ZstdEncoder::new(Vec::new());
    encoder.write_all(bytes).await.map_err(internal)?;
    encoder.shutdown().await.map_err(internal)?;
    Ok(Bytes::from(encoder.into_inner()))
}

async fn decompressed(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let mut decompressed = Vec::new();
    ZstdDecoder::new(bytes).read_to_end(&mut decompressed).await.map_err(|error| error.to_string())?;
    Ok(decompressed)
}

fn damaged(location: &Location, path: &str, reason: &str) -> Error {
    Error::Damaged { path: put::text(location, path), reason: reason.to_owned() }
}
