//! Old manifests, many in one object, so that their number stays small whatever the history.
//!
//! An archive holds the bytes of the manifests of a span of epochs, one line each, as they were put. It is there before
//! the first of them is deleted, so that a manifest is always in one place or the other, and this one counts. And because
//! it never goes away, it also tells a writer that was stopped for a long time that the place of its manifest was not free
//! but had been cleared.

use std::ops::RangeInclusive;

use bessemer_schemas::{Digest, Epoch};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::sync::OnceCell;

use super::put::{self, Put};
use super::{ManifestStore, READS, ReadManifest, block, layout};
use crate::{Error, Result};

/// The epochs of one archive, whether it is there yet or not. Its object is read once, if at all.
pub(super) struct Span {
    first: Epoch,
    last: Epoch,
    lines: OnceCell<Option<Vec<Bytes>>>,
}

impl Span {
    /// The span of `epoch`, where each has `epochs`.
    pub(super) fn of(epoch: Epoch, epochs: u64) -> Self {
        let before = (epoch.0.max(1) - 1) / epochs * epochs;
        Self { first: Epoch(before + 1), last: Epoch(before + epochs), lines: OnceCell::new() }
    }

    pub(super) fn contains(&self, epoch: Epoch) -> bool {
        (self.first..=self.last).contains(&epoch)
    }

    pub(super) fn epochs(&self) -> RangeInclusive<Epoch> {
        self.first..=self.last
    }

    pub(super) fn path(&self) -> String {
        layout::archive_path(self.last)
    }

    /// The manifest of `epoch`, in the archive or by itself. Where there is an archive, nothing else is looked at: the
    /// place of a manifest that was cleared away may hold one that a writer put late.
    pub(super) async fn find(&self, store: &ManifestStore, epoch: Epoch) -> Result<Option<ReadManifest>> {
        if let Some(lines) = self.lines.get_or_try_init(|| self.read(store)).await? {
            return self.line(store, epoch, lines).map(Some);
        }
        if let Some(read) = store.try_read(epoch).await? {
            return Ok(Some(read));
        }
        // It may have been archived since.
        let lines = self.read(store).await?;
        lines.map(|lines| self.line(store, epoch, &lines)).transpose()
    }

    fn line(&self, store: &ManifestStore, epoch: Epoch, lines: &[Bytes]) -> Result<ReadManifest> {
        let at = usize::try_from(epoch.0 - self.first.0).ok();
        let Some(bytes) = at.and_then(|at| lines.get(at)) else {
            return Err(self.damaged(store, "it lacks manifests"));
        };
        Ok(ReadManifest { manifest: store.decode(epoch, bytes)?, digest: Digest::of(bytes) })
    }

    /// Whether the archive is there.
    pub(super) async fn exists(&self, store: &ManifestStore) -> Result<bool> {
        put::exists(&store.location, &self.path(), store.limits.retries).await
    }

    /// Puts the archive; all manifests of the span must be there.
    pub(super) async fn write(&self, store: &ManifestStore) -> Result<()> {
        let manifests = (self.first.0..=self.last.0).map(|epoch| async move {
            let bytes = put::read(&store.location, &layout::manifest_path(Epoch(epoch))).await?;
            bytes.ok_or_else(|| store.damaged(Epoch(epoch), "it is missing, but a later manifest is there"))
        });
        let lines: Vec<Bytes> = stream::iter(manifests.collect::<Vec<_>>()).buffered(READS).try_collect().await?;
        let lines = lines.concat();
        let bytes = block::compress(lines.clone()).await?;
        match put::put_new(&store.location, &self.path(), &bytes, store.limits.retries).await? {
            Put::Ours => Ok(()),
            Put::Unsent(error) => Err(error),
            // A writer before this one got as far; manifests do not change.
            Put::Theirs => match self.read(store).await? {
                Some(there) if there.concat() == lines => Ok(()),
                _ => Err(self.damaged(store, "it does not hold the manifests that are there")),
            },
        }
    }

    async fn read(&self, store: &ManifestStore) -> Result<Option<Vec<Bytes>>> {
        let Some(bytes) = put::read(&store.location, &self.path()).await? else { return Ok(None) };
        let bytes = block::decompress(bytes).await.map_err(|reason| self.damaged(store, &reason))?;
        let bytes = Bytes::from(bytes);
        let lines = bytes.split_inclusive(|byte| *byte == b'\n').map(|line| bytes.slice_ref(line));
        Ok(Some(lines.collect()))
    }

    fn damaged(&self, store: &ManifestStore, reason: &str) -> Error {
        Error::Damaged { path: store.text(&self.path()), reason: reason.to_owned() }
    }
}
