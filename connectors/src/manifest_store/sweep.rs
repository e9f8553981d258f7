//! Deleting what no manifest names.
//!
//! What belongs to an epoch before the writer's next one is decided for ever: its manifest is there and does not change,
//! and files only ever go out of force. So a sweep is safe at any time, also by a writer that was stopped in the middle
//! and goes on after others have taken over: nothing that it deletes can be named again.

use std::collections::{BTreeMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::ops::RangeInclusive;

use bessemer_schemas::{Claim, Epoch, FileName};
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use object_store::ObjectMeta;
use object_store::path::Path;

use super::history::FileOwner;
use super::layout::{self, ARCHIVE, BLOCKS, BlockName, CONTROL, DAEMON, LATEST, MANIFESTS, RUNS, SLICES};
use super::local_sweep::{self, Staged};
use super::writer::base_blocks;
use super::{EpochWriter, ManifestStore, ReplacedFiles, put};
use crate::{Error, Location, Result};

/// Files deleted with one call.
const DELETE_CHUNK: usize = 1000;

/// A folder with committed files.
#[derive(Debug, Clone)]
pub struct SweepPlace {
    /// The folder, to which the paths in manifests are relative.
    pub location: Location,
    /// Whose files are in it.
    pub owner: FileOwner,
}

/// What a sweep deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Swept {
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Swept {
    fn add(&mut self, other: Self) {
        self.files += other.files;
        self.bytes += other.bytes;
    }
}

impl ManifestStore {
    /// Deletes manifests that are archived.
    pub(super) async fn delete_manifests(&self, epochs: RangeInclusive<Epoch>) {
        let paths: Vec<_> = (epochs.start().0..=epochs.end().0).map(|at| layout::manifest_path(Epoch(at))).collect();
        self.delete(&paths).await;
    }

    /// Deletes what is superfluous in the state folder. What stays behind is harmless, and left to a sweep.
    pub(super) async fn delete(&self, paths: &[String]) {
        let doomed: Vec<_> = paths.iter().map(|path| (self.location.path(path), 0)).collect();
        for chunk in doomed.chunks(DELETE_CHUNK) {
            if let Err(error) = delete(&self.location, chunk).await {
                tracing::warn!(%error, "could not delete what is superfluous");
                return;
            }
        }
    }
}

impl EpochWriter {
    /// Deletes what no manifest names: data and quarantine files of epochs that are decided, written by writers of this
    /// pipeline; blocks that the base no longer names; what was left half-written on local disk. A file whose name is
    /// not of our making is never touched, nor is one of an epoch that is still open.
    ///
    /// `places` are all folders with files of the pipeline.
    ///
    /// # Cancel safety
    /// Cancelled, a part is deleted; the next sweep deletes the rest.
    pub async fn sweep(&self, places: &[SweepPlace]) -> Result<Swept> {
        let mut judge = Judge::new(self, places).await?;
        // First, so that what came late is gone whatever happens to the rest.
        let mut swept = judge.sweep_manifests().await?;
        for place in places {
            swept.add(judge.sweep_place(&place.location).await?);
        }
        swept.add(judge.sweep_blocks().await?);
        swept.add(judge.sweep_slices().await?);
        swept.add(judge.sweep_staged_state().await?);
        Ok(swept)
    }

    /// Deletes what this writer has written for the epoch that it has not committed: the files of an attempt that was
    /// given up. All tasks that write for it must have ended. Deletes nothing while the epoch's commit is without outcome.
    ///
    /// # Cancel safety
    /// Cancelled, a part is deleted; the sweep of whoever opens the pipeline next deletes the rest.
    pub async fn discard_attempts(&self, places: &[SweepPlace]) -> Result<Swept> {
        let mut swept = Swept::default();
        if self.unresolved().is_some() {
            return Ok(swept);
        }
        let (epoch, claim) = (self.next_epoch(), self.claim());
        let is_given_up = |name: FileName| name.claim == claim && name.epoch >= epoch;
        for SweepPlace { location, .. } in places {
            let mut doomed = Vec::new();
            let mut listing = list(location, "");
            while let Some(meta) = listing.try_next().await? {
                if meta.location.filename().and_then(file_name).is_some_and(is_given_up) {
                    doomed.push((meta.location, meta.size));
                }
            }
            for chunk in doomed.chunks(DELETE_CHUNK) {
                swept.add(delete(location, chunk).await?);
            }
            if let Some(folder) = location.local_folder() {
                let mut staged = local_sweep::staged_files(folder.to_owned(), true).await?;
                staged.retain(|staged| file_name(&staged.name).is_some_and(is_given_up));
                swept.add(local_sweep::remove(staged).await?);
                local_sweep::remove_empty_partitions(folder.to_owned()).await?;
            }
        }
        Ok(swept)
    }

    /// Deletes the files that a commit put out of force. What cannot be deleted now is left to a sweep.
    pub async fn remove_replaced(&self, places: &[SweepPlace], replaced: &[ReplacedFiles]) -> Result<Swept> {
        let mut swept = Swept::default();
        for ReplacedFiles { owner, files } in replaced {
            let Some(place) = places.iter().find(|place| place.owner == *owner) else { continue };
            let doomed: Vec<_> = files.iter().map(|file| (place.location.path(&file.path), file.bytes)).collect();
            for chunk in doomed.chunks(DELETE_CHUNK) {
                swept.add(delete(&place.location, chunk).await?);
            }
            if let Some(folder) = place.location.local_folder() {
                local_sweep::remove_empty_partitions(folder.to_owned()).await?;
            }
        }
        Ok(swept)
    }
}

/// Knows what may go.
struct Judge<'a> {
    writer: &'a EpochWriter,
    next: Epoch,
    /// Hashes of the paths of all live files, which may be millions. Two paths with one hash would keep garbage; they
    /// would never delete a file in force.
    live: HashSet<u64>,
    hasher: RandomState,
    /// Names of live files of owners without a place: sets that were removed, whose files stay.
    kept: HashSet<FileName>,
    /// Claims of the manifests that were read to decide.
    claims: BTreeMap<Epoch, Option<Claim>>,
}

impl<'a> Judge<'a> {
    async fn new(writer: &'a EpochWriter, places: &[SweepPlace]) -> Result<Self> {
        let mut judge = Self {
            writer,
            next: writer.next_epoch(),
            live: HashSet::new(),
            hasher: RandomState::new(),
            kept: HashSet::new(),
            claims: BTreeMap::new(),
        };
        for place in places {
            let mut files = writer.history.files(&place.owner);
            while let Some(file) = files.try_next().await? {
                judge.live.insert(judge.hasher.hash_one(place.location.path(&file.path).as_ref()));
            }
        }
        for owner in writer.history.owners() {
            if !places.iter().any(|place| place.owner == owner) {
                let mut files = writer.history.files(&owner);
                while let Some(file) = files.try_next().await? {
                    judge.kept.extend(file_name(&file.path));
                }
            }
        }
        Ok(judge)
    }

    async fn sweep_place(&mut self, location: &Location) -> Result<Swept> {
        let mut swept = Swept::default();
        let mut doomed = Vec::new();
        let mut listing = list(location, "");
        while let Some(meta) = listing.try_next().await? {
            if self.is_dead(&meta).await? {
                doomed.push((meta.location, meta.size));
            }
            if doomed.len() >= DELETE_CHUNK {
                swept.add(delete(location, &std::mem::take(&mut doomed)).await?);
            }
        }
        swept.add(delete(location, &doomed).await?);

        if let Some(folder) = location.local_folder() {
            let mut dead = Vec::new();
            for staged in local_sweep::staged_files(folder.to_owned(), true).await? {
                let Some(name) = file_name(&staged.name) else { continue };
                if self.is_decided(name.epoch, name.claim).await? {
                    dead.push(staged);
                }
            }
            swept.add(local_sweep::remove(dead).await?);
            local_sweep::remove_empty_partitions(folder.to_owned()).await?;
        }
        Ok(swept)
    }

    /// Whether a listed file is ours, of a decided epoch, and named by no manifest.
    async fn is_dead(&mut self, meta: &ObjectMeta) -> Result<bool> {
        let Some(name) = meta.location.filename().and_then(file_name) else { return Ok(false) };
        let is_live = self.live.contains(&self.hasher.hash_one(meta.location.as_ref())) || self.kept.contains(&name);
        Ok(!is_live && self.is_decided(name.epoch, name.claim).await?)
    }

    /// Whether a writer of this pipeline with `claim` was at work on `epoch`, and the epoch is decided. A writer is at
    /// work on an epoch while the manifest before it is its own; another pipeline's writers never had one of ours.
    async fn is_decided(&mut self, epoch: Epoch, claim: Claim) -> Result<bool> {
        if epoch >= self.next || epoch <= Epoch::FIRST {
            return Ok(false);
        }
        Ok(self.claim_of(Epoch(epoch.0 - 1)).await? == Some(claim))
    }

    /// Who put the manifest of `epoch`, which is decided.
    async fn claim_of(&mut self, epoch: Epoch) -> Result<Option<Claim>> {
        let recent = self.writer.history.recent();
        if let Ok(at) = recent.binary_search_by_key(&epoch, |manifest| manifest.epoch) {
            return Ok(recent.get(at).map(|manifest| manifest.claim));
        }
        if let Some(claim) = self.claims.get(&epoch) {
            return Ok(*claim);
        }
        let store = &self.writer.store;
        if epoch > self.writer.history.base().floor {
            let claim = store.find(epoch).await?.map(|read| read.manifest.claim);
            self.claims.insert(epoch, claim);
            return Ok(claim);
        }
        // An archive is read once: where there is one file of its epochs, there are others.
        let epochs = store.span(epoch).epochs();
        let mut manifests = store.read_range(epochs);
        while let Some(read) = manifests.try_next().await? {
            self.claims.insert(read.manifest.epoch, Some(read.manifest.claim));
        }
        Ok(self.claims.get(&epoch).copied().flatten())
    }

    /// Manifests that are archived, and were not deleted then, or came late.
    async fn sweep_manifests(&self) -> Result<Swept> {
        let location = &self.writer.store.location;
        let floor = self.writer.history.base().floor;
        let mut swept = Swept::default();
        if floor == Epoch::default() {
            return Ok(swept);
        }
        let is_archived = |meta: &ObjectMeta| {
            let epoch = meta.location.filename().and_then(layout::manifest_epoch);
            epoch.is_some_and(|epoch| epoch <= floor)
        };
        let listed: Vec<ObjectMeta> = list(location, MANIFESTS).try_collect().await?;
        let doomed: Vec<_> = listed.into_iter().filter(is_archived).map(|meta| (meta.location, meta.size)).collect();
        for chunk in doomed.chunks(DELETE_CHUNK) {
            swept.add(delete(location, chunk).await?);
        }
        Ok(swept)
    }

    /// Blocks of the base that the newest base does not name; a later one can name only these and new ones.
    async fn sweep_blocks(&self) -> Result<Swept> {
        let named = base_blocks(self.writer.history.base()).map(|path| self.hasher.hash_one(path)).collect();
        self.sweep_unnamed(BLOCKS, &named).await
    }

    /// Blocks of slices that the manifest of their epoch does not name.
    async fn sweep_slices(&self) -> Result<Swept> {
        let mut named = HashSet::new();
        let mut blocks = self.writer.history.slice_blocks();
        while let Some(block) = blocks.try_next().await? {
            named.insert(self.hasher.hash_one(&block.0));
        }
        self.sweep_unnamed(SLICES, &named).await
    }

    /// Deletes the blocks in `folder` of decided epochs whose paths' hashes are not `named`.
    async fn sweep_unnamed(&self, folder: &str, named: &HashSet<u64>) -> Result<Swept> {
        let location = &self.writer.store.location;
        let mut swept = Swept::default();
        let mut doomed = Vec::new();
        let mut listing = list(location, folder);
        while let Some(meta) = listing.try_next().await? {
            let Some(name) = meta.location.filename().and_then(|name| name.parse::<BlockName>().ok()) else { continue };
            if name.epoch < self.next && !named.contains(&self.hasher.hash_one(format!("{folder}/{name}"))) {
                doomed.push((meta.location, meta.size));
            }
            if doomed.len() >= DELETE_CHUNK {
                swept.add(delete(location, &std::mem::take(&mut doomed)).await?);
            }
        }
        swept.add(delete(location, &doomed).await?);
        Ok(swept)
    }

    /// What writers of decided epochs left half-written in the state folder; a hint and what lies beside the manifests may
    /// always go: whoever loses it writes it again, or does without.
    async fn sweep_staged_state(&self) -> Result<Swept> {
        let Some(folder) = self.writer.store.location.local_folder() else { return Ok(Swept::default()) };
        let is_decided = |name: &str| {
            let block = || name.parse::<BlockName>().ok().map(|name| name.epoch);
            let of_archive = || layout::archive_epoch(name);
            layout::manifest_epoch(name).or_else(of_archive).or_else(block).is_some_and(|epoch| epoch < self.next)
        };
        let mut dead: Vec<Staged> = Vec::new();
        for part in [MANIFESTS, ARCHIVE, BLOCKS, SLICES] {
            let staged = local_sweep::staged_files(folder.join(part), false).await?;
            dead.extend(staged.into_iter().filter(|staged| is_decided(&staged.name)));
        }
        let hints = local_sweep::staged_files(folder.to_owned(), false).await?;
        dead.extend(hints.into_iter().filter(|staged| [LATEST, CONTROL, DAEMON].contains(&staged.name.as_str())));
        dead.extend(local_sweep::staged_files(folder.join(RUNS), false).await?);
        local_sweep::remove(dead).await
    }
}

/// The name of one of our files, from its path.
fn file_name(path: &str) -> Option<FileName> {
    path.rsplit('/').next()?.parse().ok()
}

fn list(location: &Location, folder: &str) -> BoxStream<'static, Result<ObjectMeta>> {
    let text = put::text(location, folder);
    let listing = location.store().list(Some(&location.path(folder)));
    listing.map_err(move |error| Error::store(text.clone(), error)).boxed()
}

async fn delete(location: &Location, doomed: &[(Path, u64)]) -> Result<Swept> {
    let paths: Vec<_> = doomed.iter().map(|(path, _)| Ok(path.clone())).collect();
    let mut results = location.store().delete_stream(stream::iter(paths).boxed());
    while let Some(result) = results.next().await {
        match result {
            Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => return Err(Error::store(location.as_text(), error)),
        }
    }
    Ok(Swept { files: doomed.len() as u64, bytes: doomed.iter().map(|(_, bytes)| bytes).sum() })
}
