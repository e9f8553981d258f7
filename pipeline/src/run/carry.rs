//! What a snapshot set goes on from: the state that an earlier epoch left, and what was read since.
//!
//! Everything else is always right, only dearer: where the state is another program's or another definition's, where a
//! table that rows were looked up in has changed, where it is not there as it was written, or where what came after it is
//! too far back, the set is computed over everything, and its state begins anew.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bessemer_connectors::manifest_store::{History, ManifestStore};
use bessemer_connectors::scan::{ScanObject, ScanOffsets};
use bessemer_connectors::sink::StateFiles;
use bessemer_schemas::{Digest, Epoch, OffsetRange, SetState, Slice, SourceSlice};
use bessemer_transforms::{Incremental, PlannedSet};
use futures::TryStreamExt;
use tracing::{info, warn};

use super::fingerprint::source_digest;
use crate::error::{Error, Result};
use crate::load::Loaded;

/// Version of what the files of a state hold beyond what the engine says of them.
const VERSION: u32 = 1;
/// Epochs after that of a state that are looked through, at most: beyond the newest few hundred their manifests are read.
const EPOCHS_MAX: u64 = 4_096;

/// What a set goes on from.
#[derive(Debug)]
pub(super) struct Carried {
    pub(super) state: StateFiles,
    /// What the epochs since have read.
    pub(super) since: Vec<Slice>,
}

/// What a set could go on from.
#[derive(Debug)]
pub(super) enum Found {
    Carried(Carried),
    /// It is computed over everything.
    Nothing,
    /// So it is, and the user is told why.
    Lost(String),
}

/// Looks for what `set` goes on from; `versions` are those of the tables now.
pub(super) async fn find(
    loaded: &Loaded,
    set: &PlannedSet,
    versions: &BTreeMap<String, String>,
    history: &History,
    store: &ManifestStore,
) -> Result<Found> {
    let states = history.states();
    let (Some(incremental), Some(state)) = (set.incremental(), states.get(&set.name)) else {
        return Ok(Found::Nothing);
    };
    if let Some(why) = unfit(loaded, set, incremental, state, versions) {
        info!(set = set.name, why, "computed over everything");
        return Ok(Found::Nothing);
    }
    let Some(since) = slices_after(state.through, history, store).await? else { return Ok(Found::Nothing) };
    let (files, schema) = (state.files.added.clone(), Arc::clone(incremental.state_schema()));
    let files = StateFiles::new(&loaded.parsed.settings.state, &set.name, files, schema);
    match damage(&files, &state.content).await? {
        None => Ok(Found::Carried(Carried { state: files, since })),
        Some(why) => Ok(lost(set, why)),
    }
}

/// Why the files of a state are not those that were written with the digest `content`; nothing where they are.
pub(super) async fn damage(files: &StateFiles, content: &Digest) -> Result<Option<&'static str>> {
    match files.digest().await {
        Ok(found) => Ok((found != *content).then_some("a file of it is not what was written")),
        Err(bessemer_connectors::Error::Damaged { .. }) => Ok(Some("a file of it is gone")),
        Err(error) => Err(error.into()),
    }
}

fn lost(set: &PlannedSet, why: &str) -> Found {
    warn!(set = set.name, why, "the state is lost");
    let name = &set.name;
    Found::Lost(format!("the state of `{name}` is lost: {why}; the set is computed over everything"))
}

/// Why a state is of no use now, if it is not.
fn unfit(
    loaded: &Loaded,
    set: &PlannedSet,
    incremental: &dyn Incremental,
    state: &SetState,
    versions: &BTreeMap<String, String>,
) -> Option<&'static str> {
    if fingerprint(loaded, set, incremental.tables(), &incremental.signature()) != state.fingerprint {
        return Some("the state is of another definition or another version of the engine");
    }
    let is_same = |table: &String| versions.get(table) == state.tables.get(table);
    (!incremental.tables().iter().all(is_same)).then_some("a table has changed")
}

/// What the state of a set means: where any of this is another, so are its columns or the rows in it.
pub(super) fn fingerprint(loaded: &Loaded, set: &PlannedSet, tables: &BTreeSet<String>, signature: &str) -> Digest {
    fingerprint_of(datafusion::DATAFUSION_VERSION, loaded, set, tables, signature)
}

/// The same, had another version of the engine written it, and meant the same by it.
pub(super) fn fingerprint_of(
    engine: &str,
    loaded: &Loaded,
    set: &PlannedSet,
    tables: &BTreeSet<String>,
    signature: &str,
) -> Digest {
    let read = |name: &str| set.sources.contains_key(name) || tables.contains(name);
    let sources = loaded.sources.iter().filter(|source| read(source.name())).map(|source| {
        let digest = source_digest(source);
        format!("{} {} {:?} {}", source.name(), digest.kind, digest.columns, digest.decoding)
    });
    let head =
        [format!("state {VERSION}"), format!("datafusion {engine}"), set.plan_digest.to_string(), signature.to_owned()];
    let lines: Vec<String> = head.into_iter().chain(sources).collect();
    Digest::of(lines.join("\n").as_bytes())
}

/// What the epochs after `epoch` have read, oldest first; nothing where they are too many.
async fn slices_after(epoch: Epoch, history: &History, store: &ManifestStore) -> Result<Option<Vec<Slice>>> {
    let next = history.next_epoch();
    if next.0.saturating_sub(epoch.0) > EPOCHS_MAX {
        return Ok(None);
    }
    let recent = history.recent().iter().filter(|manifest| manifest.epoch > epoch);
    let first = history.recent().first().map_or(next, |manifest| manifest.epoch);
    let mut slices = Vec::new();
    if epoch.next() < first {
        let mut older = store.manifests(epoch.next()..=Epoch(first.0 - 1));
        while let Some(manifest) = older.try_next().await? {
            slices.push(manifest.slice);
        }
    }
    slices.extend(recent.map(|manifest| manifest.slice.clone()));
    Ok(Some(slices))
}

/// What `slices` hold of the log `name`, as objects.
pub(super) async fn objects(slices: &[Slice], name: &str, store: &ManifestStore) -> Result<Vec<ScanObject>> {
    let mut objects = Vec::new();
    for slice in slices.iter().filter_map(|slice| slice.sources.get(name)) {
        let read = store.slice_objects(slice).await?.into_iter();
        objects.extend(read.map(|version| ScanObject { version, is_new: false }));
    }
    Ok(objects)
}

/// What `slices` hold of the log `name`, as ranges of offsets that are as long as they can be.
pub(super) fn offsets(slices: &[Slice], name: &str) -> Result<Vec<ScanOffsets>> {
    let mut all = Vec::new();
    for slice in slices.iter().filter_map(|slice| slice.sources.get(name)) {
        let SourceSlice::Kafka { ranges } = slice else {
            let message = format!("a snapshot set cannot read what was replayed of `{name}`");
            return Err(Error::Internal { message });
        };
        all.extend(ranges.iter().filter(|range| !range.is_empty()));
    }
    Ok(OffsetRange::joined(all).into_iter().map(|range| ScanOffsets { range, is_new: false }).collect())
}
