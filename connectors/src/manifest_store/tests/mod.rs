//! Tests of the manifest store: what a pipeline remembers, on disk and in memory, and a simulation with faults.

mod ambiguous_put;
mod day;
mod disk;
mod faulty;
mod runs;
mod simulation;
mod store;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bessemer_schemas::*;
use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::path::Path;

use super::*;

/// Limits so small that everything that happens after hundreds of epochs happens after a few.
pub(super) fn small_limits() -> ManifestLimits {
    ManifestLimits {
        epochs_per_base: 4,
        entries_per_block: 8,
        epochs_per_archive: 8,
        objects_inline: 3,
        retries: PutRetries { attempts: 3, first_pause: Duration::ZERO },
    }
}

pub(super) fn memory() -> Location {
    Location::in_store(Arc::new(InMemory::new()), Path::from("state"))
}

pub(super) fn info() -> WriterInfo {
    WriterInfo { bessemer: "0.1.0".to_owned(), datafusion: "55.2.0".to_owned(), partitions: 2 }
}

pub(super) async fn open(store: &ManifestStore) -> Result<EpochWriter> {
    store.open_for_writing(Claim(rand::random()), info(), any_definition, 1).await
}

/// The answer of a writer to which every history is right.
#[expect(clippy::unnecessary_wraps, reason = "others refuse")]
pub(super) fn any_definition(_: &History) -> Result<DefinitionDigest> {
    Ok(DefinitionDigest::default())
}

pub(super) fn object(path: &str, size: u64) -> ObjectVersion {
    ObjectVersion { path: path.to_owned(), size, modified: 7, etag: None, late_before: None }
}

pub(super) fn file(path: impl Into<String>, rows: u64) -> DataFile {
    DataFile { path: path.into(), rows, bytes: 10 * rows, partition: Vec::new(), rewrites: 0 }
}

/// A manifest of a run that read `objects` of the log `flights`, a row each.
pub(super) fn reading(writer: &EpochWriter, listing: u64, objects: Vec<ObjectVersion>) -> Manifest {
    let mut manifest = writer.draft(ManifestKind::Data, 2);
    let rows = objects.len() as u64;
    let ledger = SourceLedger { objects: rows, records: rows, decoded: rows, admitted: rows, ..Default::default() };
    manifest.sources.insert("flights".to_owned(), ledger);
    let slice = SourceSlice::Objects { listing, objects, block: None, ignored: Vec::new() };
    manifest.slice.sources.insert("flights".to_owned(), slice);
    manifest
}

/// Adds `files` to the append set `delays`.
pub(super) fn appending(manifest: &mut Manifest, files: Vec<DataFile>) {
    let rows = files.iter().map(|file| file.rows).sum();
    let ledger = SetLedger { admitted: rows, produced: rows, written: rows, ..Default::default() };
    let files = FileChanges::adding(files);
    let commit = SetCommit {
        files,
        quarantine: FileChanges::default(),
        ledger,
        expectations: Vec::new(),
        inputs: None,
        state: None,
        emitted_at: None,
    };
    manifest.sets.insert("delays".to_owned(), commit);
}

/// Replaces the snapshot set `carriers` by `files`.
pub(super) fn replacing(manifest: &mut Manifest, files: Vec<DataFile>) {
    let rows = files.iter().map(|file| file.rows).sum();
    let ledger = SetLedger { admitted: 100, absorbed: 100, produced: rows, written: rows, ..Default::default() };
    let files = FileChanges { added: files, replaces_all: true, ..FileChanges::default() };
    let quarantine = FileChanges { replaces_all: true, ..FileChanges::default() };
    let commit =
        SetCommit { files, quarantine, ledger, expectations: Vec::new(), inputs: None, state: None, emitted_at: None };
    manifest.sets.insert("carriers".to_owned(), commit);
}

/// Gives the snapshot set `carriers` a state.
pub(super) fn keeping(manifest: &mut Manifest, files: Vec<DataFile>) {
    let (through, fingerprint) = (manifest.epoch, Digest::of(b"columns"));
    let files = FileChanges { added: files, replaces_all: true, ..FileChanges::default() };
    let content = Digest::of(manifest.epoch.to_string().as_bytes());
    let state = SetState {
        files,
        content,
        fingerprint,
        since: through,
        through,
        tables: BTreeMap::new(),
        segments: Vec::new(),
        closed: None,
    };
    manifest.sets.get_mut("carriers").unwrap().state = Some(state);
}

/// What a pipeline remembers, all of it.
#[derive(Debug, PartialEq, Default)]
pub(super) struct Memory {
    pub(super) objects: BTreeMap<String, Vec<ObjectVersion>>,
    /// Objects read and objects ignored, by path.
    pub(super) known: BTreeMap<String, Vec<ObjectVersion>>,
    pub(super) files: BTreeMap<FileOwner, Vec<DataFile>>,
    pub(super) tables: BTreeMap<String, String>,
    pub(super) listings: BTreeMap<String, u64>,
    pub(super) sources: BTreeMap<String, SourceLedger>,
    pub(super) sets: BTreeMap<String, SetLedger>,
    pub(super) states: BTreeMap<String, SetState>,
    pub(super) failure: Option<Failure>,
}

impl Memory {
    /// As [`History`] tells it.
    pub(super) async fn of(history: &History) -> Self {
        let mut memory = Self {
            tables: history.table_versions(),
            listings: history.listings(),
            sources: history.source_totals(),
            sets: history.set_totals(),
            states: history.states(),
            failure: history.last_failure().cloned(),
            ..Self::default()
        };
        for source in memory.listings.keys() {
            memory.objects.insert(source.clone(), history.objects_read(source).try_collect().await.unwrap());
            let mut known: Vec<_> = history.objects_known(source).try_collect().await.unwrap();
            assert!(known.is_sorted_by_key(|object: &ObjectVersion| object.path.clone()), "{known:?}");
            known.sort();
            memory.known.insert(source.clone(), known);
        }
        for owner in history.owners() {
            let files: Vec<_> = history.files(&owner).try_collect().await.unwrap();
            if !files.is_empty() {
                memory.files.insert(owner, files);
            }
        }
        memory
    }

    /// As the sum of all manifests says, one after another.
    pub(super) async fn summed(store: &ManifestStore, manifests: &[Manifest]) -> Self {
        let mut memory = Self::default();
        let mut objects: BTreeMap<String, BTreeMap<String, ObjectVersion>> = BTreeMap::new();
        let mut seen = objects.clone();
        for manifest in manifests {
            for (name, slice) in &manifest.slice.sources {
                let read = store.slice_objects(slice).await.unwrap();
                match slice {
                    SourceSlice::Objects { listing, ignored, .. } => {
                        memory.listings.insert(name.clone(), *listing);
                        let by_path = |object: &ObjectVersion| (object.path.clone(), object.clone());
                        objects.entry(name.clone()).or_default().extend(read.iter().map(by_path));
                        seen.entry(name.clone()).or_default().extend(ignored.iter().map(by_path));
                    }
                    SourceSlice::Table { version, .. } => {
                        memory.tables.insert(name.clone(), version.clone());
                    }
                    _ => unreachable!(),
                }
            }
            for (name, ledger) in &manifest.sources {
                memory.sources.entry(name.clone()).or_default().add(ledger);
            }
            memory.apply_all(manifest);
            for (name, set) in &manifest.sets {
                let total = memory.sets.entry(name.clone()).or_default();
                if set.files.replaces_all {
                    *total = SetLedger::default();
                    memory.states.remove(name);
                }
                memory.states.extend(set.state.clone().map(|state| (name.clone(), state)));
                total.add(&set.ledger);
            }
            if manifest.kind != ManifestKind::Open {
                memory.failure.clone_from(&manifest.failure);
            }
        }
        for (name, read) in &objects {
            let ignored = seen.get(name).into_iter().flat_map(BTreeMap::values);
            let mut known: Vec<_> = read.values().chain(ignored).cloned().collect();
            known.sort();
            memory.known.insert(name.clone(), known);
        }
        memory.objects = objects.into_iter().map(|(name, all)| (name, all.into_values().collect())).collect();
        memory.files.retain(|_, files| !files.is_empty());
        memory
    }

    /// Applies what `manifest` does to files.
    pub(super) fn apply_all(&mut self, manifest: &Manifest) {
        for (name, changes) in &manifest.quarantine {
            self.apply(FileOwner::SourceQuarantine(name.clone()), changes);
        }
        for (name, set) in &manifest.sets {
            self.apply(FileOwner::Set(name.clone()), &set.files);
            self.apply(FileOwner::SetQuarantine(name.clone()), &set.quarantine);
            let dropped = FileChanges { replaces_all: set.files.replaces_all, ..FileChanges::default() };
            self.apply(FileOwner::SetState(name.clone()), set.state.as_ref().map_or(&dropped, |state| &state.files));
        }
    }

    fn apply(&mut self, owner: FileOwner, changes: &FileChanges) {
        let files = self.files.entry(owner).or_default();
        if changes.replaces_all {
            files.clear();
        }
        let before = files.len();
        files.retain(|file| !changes.removed.contains(file));
        assert_eq!(files.len() + changes.removed.len(), before, "a file was removed that was not there");
        files.extend(changes.added.iter().cloned());
        files.sort();
    }
}

/// Paths of all objects below `folder`, relative to the location.
pub(super) async fn paths(location: &Location, folder: &str) -> BTreeSet<String> {
    let listing = location.store().list(Some(&location.path(folder)));
    let prefix = format!("{}/", location.prefix());
    listing.map_ok(|meta| meta.location.as_ref().replacen(&prefix, "", 1)).try_collect().await.unwrap()
}
