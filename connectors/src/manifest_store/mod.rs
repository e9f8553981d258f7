//! The manifest store: what makes an epoch exist. Manifests are put where nothing was, one after another; opening a
//! pipeline for writing is itself an epoch, which fences every writer before it.
//!
//! `docs/manifest.md` describes what is on disk; this module is the only one that reads and writes it.
//!
//! ```text
//! open_for_writing ──► Open manifest n (a new claim) ──► EpochWriter ──commit──► n+1, n+2, …
//!                                                              └──sweep──► what no manifest names is deleted
//! history ──► newest manifest ──► base (sorted blocks) + the manifests after it ──► objects read, live files, totals
//! ```

mod archive;
mod block;
mod durable;
mod fold;
mod history;
mod layout;
mod local_sweep;
mod put;
mod runs;
mod sweep;
mod writer;

#[cfg(test)]
mod tests;

use std::ops::RangeInclusive;
use std::sync::Arc;

use bessemer_schemas::{Digest, Epoch, FORMAT_VERSION, Manifest, ObjectVersion, SourceSlice};
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use object_store::ObjectStoreExt;
use serde::Deserialize;

use archive::Span;
pub use durable::sync;
pub use history::{FileOwner, History};
pub use put::PutRetries;
pub use sweep::{SweepPlace, Swept};
pub use writer::{Committed, EpochWriter, ReplacedFiles};

use crate::{Error, Location, Result};

/// Epochs that are tried one by one beyond the hint, before the folder is listed.
const PROBES: usize = 16;
/// Manifests that are read at a time.
const READS: usize = 16;

/// The manifests of one pipeline.
#[derive(Debug, Clone)]
pub struct ManifestStore {
    location: Location,
    pipeline: String,
    limits: ManifestLimits,
}

/// What bounds manifests and their blocks. All builds read what was written under any of them.
#[derive(Debug, Clone, Copy)]
pub struct ManifestLimits {
    /// Manifests after the base, at most: opening a pipeline reads all of them.
    pub epochs_per_base: u64,
    /// Entries of a block of the base, at most; twice as many may wait to be folded in.
    pub entries_per_block: usize,
    /// Manifests of an archive. Who reads must know it: a part of the format, and another number is for tests.
    pub epochs_per_archive: u64,
    /// Objects of a slice that its manifest holds itself.
    pub objects_inline: usize,
    /// How puts are tried.
    pub retries: PutRetries,
}

impl Default for ManifestLimits {
    /// Opening reads at most 257 small objects; a block is one to four megabytes, and so is an archive.
    fn default() -> Self {
        Self {
            epochs_per_base: 256,
            entries_per_block: 32_768,
            epochs_per_archive: 1_024,
            objects_inline: 256,
            retries: PutRetries::default(),
        }
    }
}

/// A manifest with the digest of its bytes, which the next one names.
#[derive(Debug)]
struct ReadManifest {
    manifest: Manifest,
    digest: Digest,
}

impl ManifestStore {
    /// The manifests of `pipeline` in its state folder, which need not exist.
    pub fn new(location: Location, pipeline: impl Into<String>) -> Self {
        Self::with_limits(location, pipeline, ManifestLimits::default())
    }

    /// The same, with other limits.
    pub fn with_limits(location: Location, pipeline: impl Into<String>, limits: ManifestLimits) -> Self {
        Self { location, pipeline: pipeline.into(), limits }
    }

    /// The state folder.
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// The newest manifest, if the pipeline was ever opened for writing.
    pub async fn newest(&self) -> Result<Option<Manifest>> {
        Ok(self.read_newest().await?.map(|read| read.manifest))
    }

    /// The manifest of `epoch`.
    pub async fn read(&self, epoch: Epoch) -> Result<Manifest> {
        match self.find(epoch).await? {
            Some(read) => Ok(read.manifest),
            None => Err(Error::NotFound { location: self.text(&layout::manifest_path(epoch)), source: None }),
        }
    }

    /// The manifests of `epochs`, in order; one that is missing is an error.
    pub fn manifests(&self, epochs: RangeInclusive<Epoch>) -> BoxStream<'static, Result<Manifest>> {
        self.read_range(epochs).map_ok(|read| read.manifest).boxed()
    }

    /// What the pipeline has read and written so far.
    pub async fn history(&self) -> Result<History> {
        History::read(self, self.read_newest().await?).await
    }

    /// What the pipeline had read and written when `epoch` was its last one; nothing before the first. Files and objects
    /// that were folded into the base of that time may be gone: watermarks, states and totals are whole.
    pub async fn history_through(&self, epoch: Epoch) -> Result<History> {
        let newest = match self.find(epoch.max(Epoch::FIRST)).await? {
            None => return Err(self.damaged(epoch, "it is missing")),
            Some(newest) => (newest.manifest.epoch == epoch).then_some(newest),
        };
        History::read(self, newest).await
    }

    /// The objects of one source's slice, in the order in which they were read, also where a block holds them.
    pub async fn slice_objects(&self, slice: &SourceSlice) -> Result<Vec<ObjectVersion>> {
        history::slice_objects(&self.location, slice).await
    }

    /// The manifests of `epochs`, read several at a time; a gap is damage, as is one that does not follow its forerunner.
    fn read_range(&self, epochs: RangeInclusive<Epoch>) -> BoxStream<'static, Result<ReadManifest>> {
        let (first, last) = (epochs.start().0, epochs.end().0);
        let store = self.clone();
        let mut before: Option<Digest> = None;
        let mut span = Arc::new(self.span(*epochs.start()));
        stream::iter((first..=last).map(Epoch))
            .map(move |epoch| {
                if !span.contains(epoch) {
                    span = Arc::new(store.span(epoch));
                }
                let (store, span) = (store.clone(), Arc::clone(&span));
                async move {
                    let missing = || store.damaged(epoch, "it is missing, but a later manifest is there");
                    span.find(&store, epoch).await?.ok_or_else(missing).map(|read| (read, store))
                }
            })
            .buffered(READS)
            .map(move |read| {
                let (read, store) = read?;
                if before.is_some() && before != read.manifest.previous {
                    let reason = "it does not name the digest of the manifest before it";
                    return Err(store.damaged(read.manifest.epoch, reason));
                }
                before = Some(read.digest.clone());
                Ok(read)
            })
            .boxed()
    }

    /// The newest manifest. The hint says where to begin, and is believed only as far as there is a manifest.
    async fn read_newest(&self) -> Result<Option<ReadManifest>> {
        let Some(hint) = self.read_hint().await? else { return self.list_newest(Epoch(0)).await };
        let Some(mut newest) = self.try_read(hint).await? else { return self.list_newest(Epoch(0)).await };
        for _ in 0..PROBES {
            match self.try_read(newest.manifest.epoch.next()).await? {
                Some(next) => newest = next,
                // Where manifests were cleared away, one that was put late may stand alone.
                None if self.span(newest.manifest.epoch).exists(self).await? => {
                    return self.list_newest(Epoch(0)).await;
                }
                None => return Ok(Some(newest)),
            }
        }
        let listed = self.list_newest(newest.manifest.epoch).await?;
        Ok(Some(listed.unwrap_or(newest)))
    }

    /// The newest manifest after `after`, by listing; what appears meanwhile is seen by whoever puts.
    async fn list_newest(&self, after: Epoch) -> Result<Option<ReadManifest>> {
        let folder = self.location.path(layout::MANIFESTS);
        let offset = self.location.path(&layout::manifest_path(after));
        let names = self.location.store().list_with_offset(Some(&folder), &offset);
        let epochs = names.map_ok(|meta| meta.location.filename().and_then(layout::manifest_epoch));
        let newest = epochs.try_fold(None, |newest, epoch| async move { Ok(epoch.max(newest)) }).await;
        match newest.map_err(|error| Error::store(self.text(layout::MANIFESTS), error))? {
            Some(epoch) => self.try_read(epoch).await,
            None => Ok(None),
        }
    }

    /// The span of epochs that `epoch` is archived with.
    fn span(&self, epoch: Epoch) -> Span {
        Span::of(epoch, self.limits.epochs_per_archive.max(1))
    }

    /// The manifest of `epoch`, wherever it is.
    async fn find(&self, epoch: Epoch) -> Result<Option<ReadManifest>> {
        self.span(epoch).find(self, epoch).await
    }

    /// The manifest of `epoch`, where it is not archived.
    async fn try_read(&self, epoch: Epoch) -> Result<Option<ReadManifest>> {
        match put::read(&self.location, &layout::manifest_path(epoch)).await? {
            Some(bytes) => Ok(Some(ReadManifest { manifest: self.decode(epoch, &bytes)?, digest: Digest::of(&bytes) })),
            None => Ok(None),
        }
    }

    /// Reads the version first and alone: of a newer format nothing else can be relied on.
    fn decode(&self, epoch: Epoch, bytes: &[u8]) -> Result<Manifest> {
        #[derive(Deserialize)]
        struct Version {
            format_version: u32,
        }

        let damaged = |reason: &str| self.damaged(epoch, reason);
        let version: Version = serde_json::from_slice(bytes).map_err(|error| damaged(&error.to_string()))?;
        if version.format_version > FORMAT_VERSION {
            let found = version.format_version;
            return Err(Error::NewerManifest { epoch, found, supported: FORMAT_VERSION });
        }
        let manifest: Manifest = serde_json::from_slice(bytes).map_err(|error| damaged(&error.to_string()))?;
        if manifest.epoch != epoch {
            return Err(damaged(&format!("it says that it is of epoch {}", manifest.epoch)));
        }
        if manifest.pipeline != self.pipeline {
            let reason = format!("it is of pipeline `{}`, not `{}`", manifest.pipeline, self.pipeline);
            return Err(damaged(&reason));
        }
        manifest.balance().map_err(|imbalance| damaged(&imbalance.to_string()))?;
        Ok(manifest)
    }

    async fn read_hint(&self) -> Result<Option<Epoch>> {
        let hint = put::read(&self.location, layout::LATEST).await?;
        Ok(hint.and_then(|bytes| std::str::from_utf8(&bytes).ok()?.trim().parse().ok().map(Epoch)))
    }

    /// Leaves the hint behind. A failure is harmless: without it the folder is listed.
    async fn write_hint(&self, epoch: Epoch) {
        let path = self.location.path(layout::LATEST);
        if let Err(error) = self.location.store().put(&path, epoch.to_string().into()).await {
            tracing::debug!(%error, "could not write the hint");
        }
    }

    fn text(&self, relative: &str) -> String {
        put::text(&self.location, relative)
    }

    fn damaged(&self, epoch: Epoch, reason: &str) -> Error {
        Error::Damaged { path: self.text(&layout::manifest_path(epoch)), reason: reason.to_owned() }
    }
}
