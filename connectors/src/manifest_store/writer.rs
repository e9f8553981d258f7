//! The one writer of a pipeline: it opens by an epoch of its own, and ends where another does the same.

use std::collections::BTreeSet;
use std::path::PathBuf;

use bessemer_schemas::{
    Base, Claim, DataFile, DefinitionDigest, Digest, Epoch, FORMAT_VERSION, Manifest, ManifestKind, ObjectVersion,
    Slice, SourceSlice, WriterInfo,
};
use bytes::Bytes;
use futures::TryStreamExt;

use super::block::BlockWriter;
use super::durable::{self, Lock};
use super::history::{FileOwner, History};
use super::layout::{self, ARCHIVE, BLOCKS, MANIFESTS, SLICES};
use super::put::{self, Put};
use super::{ManifestStore, ReadManifest, fold};
use crate::{Error, Location, Result};

/// How often an opening writer goes after one that commits before it.
const OPEN_ATTEMPTS: usize = 16;
/// Every how many epochs the hint is written: few enough that nobody ever lists.
const HINT_EPOCHS: u64 = 8;

/// Commits the epochs of one pipeline, one after another, until another writer opens it.
#[derive(Debug)]
pub struct EpochWriter {
    pub(super) store: ManifestStore,
    pub(super) history: History,
    claim: Claim,
    opened: Epoch,
    opened_on: Option<DefinitionDigest>,
    info: WriterInfo,
    definition: DefinitionDigest,
    standing: Standing,
    /// Blocks that the base no longer names, since the last fold.
    retired: Vec<String>,
    /// Folders whose parents are known to be on disk.
    synced: BTreeSet<PathBuf>,
    _lock: Lock,
}

/// Whether a writer may commit.
#[derive(Debug, Clone, Copy)]
enum Standing {
    /// The newest manifest is ours.
    Owner,
    /// Another writer has this epoch, and the pipeline.
    Fenced(Epoch),
    /// A put of this epoch had no outcome: it may be there, now or later.
    Unresolved(Epoch),
}

/// A committed epoch.
#[derive(Debug)]
pub struct Committed {
    /// Its manifest, without the base; long slices are in blocks.
    pub manifest: Manifest,
    /// Digest of its bytes.
    pub digest: Digest,
    /// Size of its bytes.
    pub bytes: u64,
    /// Files that it put out of force.
    pub replaced: Vec<ReplacedFiles>,
}

/// Files that a commit put out of force: to be deleted, and to be removed from a Delta log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplacedFiles {
    /// Whose.
    pub owner: FileOwner,
    /// Which.
    pub files: Vec<DataFile>,
}

impl ManifestStore {
    /// Takes the pipeline over: takes the lock on local disk, and commits an epoch with an empty slice and `claim`, after
    /// which every older writer's next commit fails. The claim is drawn at random: no other writer has the same.
    ///
    /// `define` says what epochs are made under from here, or refuses, in view of exactly the history that this writer
    /// will follow: it is asked again whenever another writer comes first.
    ///
    /// # Cancel safety
    /// Cancelled, the pipeline may be taken over all the same.
    pub async fn open_for_writing<E: From<Error>>(
        &self,
        claim: Claim,
        info: WriterInfo,
        mut define: impl FnMut(&History) -> Result<DefinitionDigest, E>,
        now_micros: i64,
    ) -> Result<EpochWriter, E> {
        let lock = Lock::take(&self.location).await?;
        let history = self.history().await?;
        let mut writer = EpochWriter {
            store: self.clone(),
            claim,
            opened: history.next_epoch(),
            opened_on: history.definition().cloned(),
            info,
            definition: define(&history)?,
            standing: Standing::Owner,
            retired: Vec::new(),
            synced: BTreeSet::new(),
            history,
            _lock: lock,
        };
        durable::make_folders(&self.location, &[MANIFESTS, ARCHIVE, BLOCKS, SLICES]).await?;
        writer.sync_parents(&self.location).await?;

        for _ in 0..OPEN_ATTEMPTS {
            let open = writer.draft(ManifestKind::Open, now_micros);
            match writer.put(open).await {
                Err(Error::Fenced { .. }) => {
                    writer.history.catch_up(self).await?;
                    writer.opened = writer.next_epoch();
                    writer.opened_on = writer.history.definition().cloned();
                    writer.definition = define(&writer.history)?;
                    writer.standing = Standing::Owner;
                }
                Err(error) => return Err(error.into()),
                Ok(_) => return Ok(writer),
            }
        }
        Err(Error::Fenced { pipeline: self.pipeline.clone(), epoch: writer.next_epoch() }.into())
    }
}

impl EpochWriter {
    /// The claim: part of the name of every file of this writer.
    pub fn claim(&self) -> Claim {
        self.claim
    }

    /// The epoch that opened the pipeline for this writer.
    pub fn opened(&self) -> Epoch {
        self.opened
    }

    /// The definition of the epoch before that one; `None` for a new pipeline.
    pub fn opened_on(&self) -> Option<&DefinitionDigest> {
        self.opened_on.as_ref()
    }

    /// The epoch that the next commit makes.
    pub fn next_epoch(&self) -> Epoch {
        self.history.next_epoch()
    }

    /// Whether this writer may still commit: no other was seen to have the pipeline, and no commit is without outcome.
    pub fn may_commit(&self) -> bool {
        matches!(self.standing, Standing::Owner)
    }

    /// The epoch whose commit had no outcome: it may be there, now or later. Its files must stay.
    pub fn unresolved(&self) -> Option<Epoch> {
        match self.standing {
            Standing::Unresolved(epoch) => Some(epoch),
            Standing::Owner | Standing::Fenced(_) => None,
        }
    }

    /// Fails where another writer has committed after this one, which that learns only when it looks.
    ///
    /// # Errors
    /// [`Error::Fenced`] then; the store's trouble if it cannot be asked.
    pub async fn check_not_fenced(&self) -> Result<()> {
        let epoch = self.next_epoch();
        match self.store.find(epoch).await? {
            Some(read) if read.manifest.claim != self.claim => {
                Err(Error::Fenced { pipeline: self.store.pipeline.clone(), epoch })
            }
            _ => Ok(()),
        }
    }

    /// An error as what it is: to a writer that was overtaken, the blocks that its successor has swept are missing. Where
    /// the store does not say whether it was, that is the error: what is missing may be nothing that should be there.
    async fn explain(&self, error: Error) -> Error {
        match error {
            Error::Damaged { .. } => self.check_not_fenced().await.err().unwrap_or(error),
            error => error,
        }
    }

    /// What the pipeline has read and written, with all that this writer committed.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// A manifest for the next epoch that says who writes it and nothing else yet.
    pub fn draft(&self, kind: ManifestKind, started_at: i64) -> Manifest {
        Manifest {
            format_version: FORMAT_VERSION,
            pipeline: self.store.pipeline.clone(),
            epoch: self.next_epoch(),
            claim: self.claim,
            previous: self.history.digest().cloned(),
            kind,
            writer: self.info.clone(),
            started_at,
            committed_at: started_at,
            definition: self.definition.clone(),
            slice: Slice::default(),
            sources: std::collections::BTreeMap::new(),
            sets: std::collections::BTreeMap::new(),
            quarantine: std::collections::BTreeMap::new(),
            bad_records: std::collections::BTreeMap::new(),
            watermarks: std::collections::BTreeMap::new(),
            base: None,
            failure: None,
        }
    }

    /// Commits the next epoch: its number, claim, forerunner and base are filled in, long slices go to blocks. `written`
    /// are the files that it names, which are synced first where they are on local disk. When this returns, the epoch
    /// exists and survives a loss of power.
    ///
    /// # Errors
    /// [`Error::Fenced`] if another writer has the pipeline. After an error of the store while the manifest was put the
    /// epoch may exist or not ([`EpochWriter::unresolved`]); this writer commits nothing more, and whoever opens the
    /// pipeline next finds out. Where the manifest surely never left this process, the writer goes on.
    ///
    /// # Cancel safety
    /// Cancelled, the epoch may exist, and this writer must not be used any more.
    pub async fn commit(&mut self, manifest: Manifest, written: &[(Location, Vec<String>)]) -> Result<Committed> {
        self.check_standing()?;
        manifest.balance()?;
        for (location, files) in written {
            self.sync_parents(location).await?;
            durable::sync(location, files).await?;
        }
        let replaced = match Box::pin(self.replaced_by(&manifest)).await {
            Ok(replaced) => replaced,
            Err(error) => return Err(self.explain(error).await),
        };

        let (manifest, digest, bytes) = self.put(manifest).await?;
        Ok(Committed { manifest, digest, bytes, replaced })
    }

    /// Completes and puts a manifest, and takes it into the history.
    async fn put(&mut self, mut manifest: Manifest) -> Result<(Manifest, Digest, u64)> {
        let epoch = self.next_epoch();
        manifest.format_version = FORMAT_VERSION;
        manifest.pipeline.clone_from(&self.store.pipeline);
        (manifest.epoch, manifest.claim) = (epoch, self.claim);
        manifest.previous = self.history.digest().cloned();
        let blocks = self.blocks(epoch);
        move_long_slices(&mut manifest.slice, self.store.limits.objects_inline, &blocks).await?;
        // Rarely more than a look at a number; when it is, there is much to it.
        manifest.base = match Box::pin(self.next_base(epoch, &blocks)).await {
            Ok(base) => base,
            Err(error) => return Err(self.explain(error).await),
        };

        let bytes = encode(&manifest)?;
        // Until the outcome is known, and for good if it never is: the put may arrive late.
        self.standing = Standing::Unresolved(epoch);
        let path = layout::manifest_path(epoch);
        match put::put_new(&self.store.location, &path, &bytes, self.store.limits.retries).await? {
            Put::Ours if self.store.span(epoch).exists(&self.store).await? => {
                // The place was empty because others are far beyond it: this manifest is in nobody's way, and no epoch.
                self.store.delete_manifests(epoch..=epoch).await;
                self.standing = Standing::Fenced(epoch);
                self.check_standing()?;
            }
            Put::Ours => self.standing = Standing::Owner,
            Put::Unsent(error) => {
                self.standing = Standing::Owner;
                return Err(error);
            }
            Put::Theirs => {
                self.standing = Standing::Fenced(epoch);
                self.check_standing()?;
            }
        }

        let read = ReadManifest { manifest: self.store.decode(epoch, &bytes)?, digest: Digest::of(&bytes) };
        let (committed, digest) = (Manifest { base: None, ..read.manifest.clone() }, read.digest.clone());
        let folds = read.manifest.base.as_ref().is_some_and(|base| base.through > self.history.base().through);
        let old = folds.then(|| self.history.base().clone());
        self.history.push(read);
        if let Some(old) = old {
            Box::pin(self.clear_away(&old)).await;
        }
        if epoch.0.is_multiple_of(HINT_EPOCHS) || epoch == self.opened {
            self.store.write_hint(epoch).await;
        }
        Ok((committed, digest, bytes.len() as u64))
    }

    /// Deletes what the new base has made superfluous, as far as the store lets it: manifests that are archived, and blocks
    /// that the base before the `old` one named last, so that whoever reads the old one now is not disturbed.
    async fn clear_away(&mut self, old: &Base) {
        let base = self.history.base();
        if base.floor > old.floor {
            self.store.delete_manifests(old.floor.next()..=base.floor).await;
        }
        let named: BTreeSet<&String> = base_blocks(base).collect();
        let retired = base_blocks(old).filter(|path| !named.contains(path)).cloned().collect();
        let retired = std::mem::replace(&mut self.retired, retired);
        self.store.delete(&retired).await;
    }

    fn check_standing(&self) -> Result<()> {
        match self.standing {
            Standing::Owner => Ok(()),
            Standing::Fenced(epoch) => Err(Error::Fenced { pipeline: self.store.pipeline.clone(), epoch }),
            Standing::Unresolved(epoch) => {
                let message = format!("epoch {epoch} may be committed or not: the pipeline must be opened anew");
                Err(Error::Internal { message })
            }
        }
    }

    /// The base of the manifest of `epoch`: the old one, until enough has come after it.
    async fn next_base(&self, epoch: Epoch, blocks: &BlockWriter) -> Result<Option<Base>> {
        let limits = &self.store.limits;
        let old = self.history.base();
        let is_due = epoch.0 - old.through.0 > limits.epochs_per_base.max(1)
            || self.history.pending_entries() > 2 * limits.entries_per_block as u64;
        if is_due {
            let mut base = fold::fold(&self.history, blocks).await?;
            base.floor = self.next_floor(base.through).await;
            return Ok(Some(base));
        }
        Ok((old.through > Epoch(0)).then(|| old.clone()))
    }

    /// Archives manifests where there are enough before `through`, and says up to which they are archived. What fails is
    /// tried again with the next base.
    async fn next_floor(&self, through: Epoch) -> Epoch {
        let floor = self.history.base().floor;
        let span = self.store.span(floor.next());
        // As many stay as are archived: who reads the last few epochs finds them.
        if through.0 < floor.0 + 2 * self.store.limits.epochs_per_archive {
            return floor;
        }
        match span.write(&self.store).await {
            Ok(()) => *span.epochs().end(),
            Err(error) => {
                tracing::warn!(%error, "could not archive manifests");
                floor
            }
        }
    }

    fn blocks(&self, epoch: Epoch) -> BlockWriter {
        BlockWriter {
            location: self.store.location.clone(),
            epoch,
            claim: self.claim,
            entries: self.store.limits.entries_per_block,
            retries: self.store.limits.retries,
        }
    }

    /// The files that `manifest` puts out of force.
    async fn replaced_by(&self, manifest: &Manifest) -> Result<Vec<ReplacedFiles>> {
        let owners = manifest.sets.keys().flat_map(|set| FileOwner::of_set(set));
        let owners = owners.chain(manifest.quarantine.keys().cloned().map(FileOwner::SourceQuarantine));
        let mut replaced = Vec::new();
        for owner in owners {
            let Some(changes) = owner.changes(manifest) else { continue };
            if let Some(file) = self.history.not_live(&owner, &changes.removed).await? {
                // Its rows are in other files already, and would be there twice.
                return Err(Error::Internal { message: format!("`{}` of {owner} is not in force", file.path) });
            }
            let files: Vec<DataFile> = if changes.replaces_all {
                let kept: BTreeSet<&str> = changes.added.iter().map(|file| file.path.as_str()).collect();
                let live = self.history.files(&owner);
                live.try_filter(|file| std::future::ready(!kept.contains(file.path.as_str()))).try_collect().await?
            } else {
                changes.removed.clone()
            };
            if !files.is_empty() {
                replaced.push(ReplacedFiles { owner, files });
            }
        }
        Ok(replaced)
    }

    /// Syncs the directories above a local folder, once.
    async fn sync_parents(&mut self, location: &Location) -> Result<()> {
        let Some(folder) = location.local_folder() else { return Ok(()) };
        if self.synced.contains(folder) || !folder.exists() {
            return Ok(());
        }
        durable::sync_ancestors(folder).await?;
        self.synced.insert(folder.to_owned());
        Ok(())
    }
}

/// Paths of all blocks that `base` names.
pub(super) fn base_blocks(base: &Base) -> impl Iterator<Item = &String> {
    let objects = base.objects.values().chain(base.ignored.values());
    let lists = objects.chain(base.files.values()).chain(base.quarantine.values());
    lists.flatten().chain(&base.slices).map(|block| &block.path)
}

/// One line of JSON. `format_version` comes first because it is the first field.
fn encode(manifest: &Manifest) -> Result<Bytes> {
    let internal = |error| Error::Internal { message: format!("cannot write a manifest: {error}") };
    let mut bytes = serde_json::to_vec(manifest).map_err(internal)?;
    bytes.push(b'\n');
    Ok(bytes.into())
}

/// Moves the objects of slices with more than `limit` of them into blocks.
async fn move_long_slices(slice: &mut Slice, limit: usize, blocks: &BlockWriter) -> Result<()> {
    for source in slice.sources.values_mut() {
        let (objects, block): (&mut Vec<ObjectVersion>, _) = match source {
            SourceSlice::Objects { objects, block, .. } | SourceSlice::Table { objects, block, .. } => (objects, block),
            _ => continue,
        };
        if objects.len() > limit {
            *block = Some(blocks.write(SLICES, std::mem::take(objects)).await?);
        }
    }
    Ok(())
}
