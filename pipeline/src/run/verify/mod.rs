//! Whether what is committed is what its epochs make of their slices.
//!
//! Each set of an epoch is run once more over the slice of its manifest, into a folder that is gone afterwards, and its
//! files, which have the same names, are compared with those that are committed: byte for byte as long as they are there,
//! by rows and size where they were merged into others. What became of the rows is compared, too; the quarantine of sources
//! is not. What a set had kept from before an epoch is made anew, too (`before.rs`). The pipeline is not claimed: a daemon
//! may go on meanwhile.

mod before;
mod files;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::Arc;

use bessemer_connectors::Location;
use bessemer_connectors::manifest_store::{History, ManifestStore};
use bessemer_connectors::scan::{ScanInput, ScanObject, ScanOffsets};
use bessemer_schemas::{
    DataFile, DefinitionDigest, Epoch, FileName, Manifest, ManifestKind, OffsetRange, SetCommit, SourceSlice,
};
use bessemer_transforms::{PlannedSet, SetKind};
use futures::{FutureExt, TryStreamExt};
use object_store::ObjectStoreExt;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use self::before::Before;
use self::files::{FilesOf, store_error};
use super::epoch::{Assignment, Engine, Naming, Ran};
use super::rebuild::{as_read, delete_replaced, forgotten, gone, table_now, version_of};
use super::resident::Residents;
use super::{fingerprint, interrupted, plan, unless_cancelled};
use crate::error::{Error, Result};
use crate::load::{Loaded, Parsed};
use crate::output::{count, plural};
use crate::progress::Progress;

/// What became of one set of one epoch.
#[derive(Debug, Serialize)]
pub(crate) struct VerifiedSet {
    pub(crate) epoch: u64,
    pub(crate) set: String,
    /// Rows that the epoch committed.
    pub(crate) rows: u64,
    /// Files that it committed, quarantine included.
    pub(crate) files: u64,
    /// Those of them that are still there, and were compared byte for byte.
    pub(crate) files_compared: u64,
    #[serde(flatten)]
    pub(crate) verdict: Verdict,
}

/// Whether it is the same again.
#[derive(Debug, Serialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// Every byte of what is still there, and the rows that the set's ledger counts.
    Same,
    /// It is not.
    Differs { what: String },
    /// It cannot be run again.
    Skipped { what: String },
}

/// What cannot be verified, and why.
struct Skip(String);

/// A pipeline whose epochs are run for comparison.
struct Verifier<'a> {
    /// Its sets and its state are in a folder of their own.
    loaded: Arc<Loaded>,
    definition: DefinitionDigest,
    /// Where the sets are that are committed, by their number in the plan, and the state.
    committed: Vec<Location>,
    state: Location,
    store: &'a ManifestStore,
    history: &'a History,
    progress: &'a Progress,
    cancel: &'a CancellationToken,
    residents: Residents,
}

/// Runs the `epochs` of a pipeline once more, and compares what they make with what they committed.
pub(crate) async fn verify(
    parsed: Parsed,
    store: &ManifestStore,
    history: &History,
    epochs: RangeInclusive<Epoch>,
    progress: &Progress,
    cancel: &CancellationToken,
) -> Result<Vec<VerifiedSet>> {
    progress.phase("planning");
    let mut loaded = unless_cancelled(cancel, plan(parsed, store)).await?;
    let definition = fingerprint::definition(&loaded);
    let committed = loaded.parsed.sets.iter().map(|set| set.location.clone()).collect();
    let state = loaded.parsed.settings.state.clone();
    let scratch = tempfile::tempdir()?;
    for (at, options) in loaded.parsed.sets.iter_mut().enumerate() {
        options.location = Location::local(&scratch.path().join(at.to_string()))?;
    }
    loaded.parsed.settings.state = Location::local(&scratch.path().join("state"))?;
    let (loaded, residents) = (Arc::new(loaded), Residents::default());
    let verifier = Verifier { loaded, definition, committed, state, store, history, progress, cancel, residents };
    let mut verified = Vec::new();
    let mut before = Before::new(&store.history_through(Epoch(epochs.start().0.saturating_sub(1))).await?);
    let mut manifests = store.manifests(epochs);
    while let Some(manifest) = manifests.try_next().await? {
        if manifest.kind == ManifestKind::Data {
            verifier.verify_epoch(&manifest, &mut before, &mut verified).await?;
        }
        before.pass(&manifest);
    }
    Ok(verified)
}

impl Verifier<'_> {
    async fn verify_epoch(
        &self,
        manifest: &Manifest,
        before: &mut Before,
        verified: &mut Vec<VerifiedSet>,
    ) -> Result<()> {
        for source in &self.loaded.sources {
            source.begin_epoch()?;
        }
        for (name, commit) in &manifest.sets {
            if self.cancel.is_cancelled() {
                return Err(interrupted());
            }
            let mut files_compared = 0;
            let verdict = match self.assign(manifest, before, name, commit).boxed().await? {
                Err(Skip(what)) => Verdict::Skipped { what },
                Ok((at, assignment)) => {
                    let compared = self.compare(manifest, before, at, &assignment, &mut files_compared);
                    match compared.boxed().await {
                        Ok(Ok(None)) => Verdict::Same,
                        Ok(Ok(Some(what))) => Verdict::Differs { what },
                        Ok(Err(Skip(what))) => Verdict::Skipped { what },
                        Err(error) => match gone(&error) {
                            Some(what) => Verdict::Skipped { what },
                            None => return Err(error),
                        },
                    }
                }
            };
            let files = (commit.files.added.len() + commit.quarantine.added.len()) as u64;
            let (epoch, set, rows) = (manifest.epoch.0, name.clone(), commit.ledger.written);
            verified.push(VerifiedSet { epoch, set, rows, files, files_compared, verdict });
        }
        Ok(())
    }

    /// The set's number in the plan, and what it is to read once more, unless that is not possible.
    async fn assign(
        &self,
        manifest: &Manifest,
        before: &mut Before,
        name: &str,
        commit: &SetCommit,
    ) -> Result<Result<(usize, Assignment), Skip>> {
        let Some(at) = self.loaded.plan.sets.iter().position(|set| set.name == *name) else {
            return Ok(Err(Skip("the definition has it no more".to_owned())));
        };
        let set = &self.loaded.plan.sets[at];
        if !self.is_defined_as(manifest, set) {
            return Ok(Err(Skip("it was made under another definition".to_owned())));
        }
        let writer = (manifest.writer.bessemer.as_str(), manifest.writer.datafusion.as_str());
        if writer != (env!("CARGO_PKG_VERSION"), datafusion::DATAFUSION_VERSION) {
            return Ok(Err(Skip(format!("it was made by Bessemer {} on DataFusion {}", writer.0, writer.1))));
        }
        let partitions = self.loaded.session.config().target_partitions();
        if manifest.writer.partitions as usize != partitions {
            let what = format!("it was made with {}", plural(manifest.writer.partitions.into(), "partition"));
            return Ok(Err(Skip(what)));
        }
        if set.kind == SetKind::Snapshot && !commit.files.replaces_all {
            return Ok(Err(Skip("it stayed as it was, and only took in what was read".to_owned())));
        }
        if set.kind == SetKind::Snapshot && !self.is_in_force(name, commit).await? {
            return Ok(Err(Skip("a later epoch has replaced it".to_owned())));
        }
        let mut assignment = Assignment { sets: vec![at], ..Assignment::default() };
        // All sources of the slice, read by this set or not: a source's number is part of the identity of rows.
        for (source, slice) in &manifest.slice.sources {
            if let Some(input) = self.slice_input(slice).await? {
                assignment.scans.insert(source.clone(), input);
            }
        }
        for source in set.tables.keys() {
            match self.table(manifest, source).await? {
                Ok(input) => drop(assignment.scans.insert(source.clone(), input)),
                Err(skip) => return Ok(Err(skip)),
            }
        }
        for source in set.sources.keys() {
            if let Some(SourceSlice::Quarantine { .. }) = manifest.slice.sources.get(source) {
                return Ok(Err(Skip("it is made of records that were in quarantine".to_owned())));
            }
            if set.kind == SetKind::Snapshot {
                match self.everything(manifest, source).await? {
                    Ok(input) => drop(assignment.scans.insert(source.clone(), input)),
                    Err(skip) => return Ok(Err(skip)),
                }
            }
        }
        if let Some(emits) = set.emits() {
            match self.emission(before, manifest, at, emits).await? {
                Ok(emission) => drop(assignment.emissions.insert(at, emission)),
                Err(skip) => return Ok(Err(skip)),
            }
        }
        assignment.bytes =
            assignment.scans.values().map(|input| (0..input.len()).map(|part| input.extent(part)).sum::<u64>()).sum();
        Ok(Ok((at, assignment)))
    }

    /// Whether the epoch was made under the set's definition of today, and that of all that it reads.
    fn is_defined_as(&self, manifest: &Manifest, set: &PlannedSet) -> bool {
        let (then, now) = (&manifest.definition, &self.definition);
        let mut read = set.sources.keys().chain(set.tables.keys());
        let is_same_source = |name: &String| match (then.sources.get(name), now.sources.get(name)) {
            (Some(then), Some(now)) => {
                (&then.kind, &then.location, &then.columns, &then.decoding)
                    == (&now.kind, &now.location, &now.columns, &now.decoding)
            }
            _ => false,
        };
        then.sets.get(&set.name) == now.sets.get(&set.name) && read.all(is_same_source)
    }

    /// Whether the files of a commit are those of the set.
    async fn is_in_force(&self, set: &str, commit: &SetCommit) -> Result<bool> {
        let live: BTreeSet<DataFile> = self.history.live_files(set).try_collect().await?;
        Ok(live == commit.files.added.iter().cloned().collect())
    }

    /// What a part of a slice was, to be read once more; of a table only while it was new.
    async fn slice_input(&self, slice: &SourceSlice) -> Result<Option<ScanInput>> {
        Ok(match slice {
            SourceSlice::Kafka { ranges } => {
                let ranges = ranges.iter().map(|range| ScanOffsets { range: range.clone(), is_new: false });
                Some(ScanInput::Offsets(ranges.collect()))
            }
            SourceSlice::Objects { .. } => {
                let objects = self.store.slice_objects(slice).await?.into_iter();
                Some(ScanInput::Objects(objects.map(|version| ScanObject { version, is_new: false }).collect()))
            }
            _ => None,
        })
    }

    /// The objects of a table, if it is what it was.
    async fn table(&self, manifest: &Manifest, name: &str) -> Result<Result<ScanInput, Skip>> {
        let (version, objects) = match table_now(&self.loaded, name).await? {
            Ok(table) => table,
            Err(why) => return Ok(Err(Skip(why))),
        };
        if version_of(manifest, name) != Some(&version) {
            return Ok(Err(Skip(format!("table `{name}` has changed since"))));
        }
        Ok(Ok(as_read(&objects)))
    }

    /// Everything that had been read of a log when the epoch was committed.
    async fn everything(&self, manifest: &Manifest, name: &str) -> Result<Result<ScanInput, Skip>> {
        let (next, newest) = (Epoch(manifest.epoch.0 + 1), self.history.next_epoch());
        let mut later = self.store.manifests(next..=Epoch(newest.0 - 1));
        while let Some(later) = later.try_next().await? {
            if later.slice.sources.contains_key(name) {
                return Ok(Err(Skip(format!("epoch {} has read more of `{name}`", later.epoch))));
            }
        }
        let offsets = self.history.ranges_read(name);
        Ok(Ok(if offsets.is_empty() {
            let mut objects: Vec<_> = self
                .history
                .objects_read(name)
                .map_ok(|version| ScanObject { version, is_new: false })
                .try_collect()
                .await?;
            objects.sort_by(|left, right| left.version.path.cmp(&right.version.path));
            ScanInput::Objects(objects.into())
        } else {
            let ranges = as_they_were(offsets, manifest.slice.sources.get(name));
            let mut ranges: Vec<_> = ranges.map(|range| ScanOffsets { range, is_new: false }).collect();
            ranges.sort_by(|left, right| left.range.cmp(&right.range));
            ScanInput::Offsets(ranges.into())
        }))
    }

    /// What it is run with.
    fn engine(&self) -> Engine<'_> {
        let Self { loaded, history, progress, cancel, residents, .. } = self;
        Engine { loaded, history, progress, cancel, residents }
    }

    /// Runs the set once more; what is other than it was, if anything is.
    async fn compare(
        &self,
        manifest: &Manifest,
        before: &mut Before,
        at: usize,
        assignment: &Assignment,
        files_compared: &mut u64,
    ) -> Result<Result<Option<String>, Skip>> {
        let name = &self.loaded.plan.sets[at].name;
        let Some(commit) = manifest.sets.get(name) else { return Ok(Ok(None)) };
        let attempt = attempt_of(commit).unwrap_or(0);
        let naming = Naming { epoch: manifest.epoch, claim: manifest.claim, attempt };
        self.progress.begin(manifest.epoch.0, assignment.bytes);
        let (taken, outcomes) = match self.engine().execute(assignment, naming).await? {
            Ran::Whole(whole) => whole,
            Ran::Violated(failure) => return Ok(Ok(Some(format!("expectation `{}` fails now", failure.expectation)))),
        };
        let made = outcomes.into_iter().map(|(_, outcome)| outcome).next();
        let Some(made) = made else { return Err(Error::Internal { message: format!("`{name}` was not run") }) };
        let (set, quarantine) = (FilesOf::Set(at), FilesOf::Quarantine(at));
        let pairs = [(set, &commit.files.added, &made.files), (quarantine, &commit.quarantine.added, &made.quarantine)];
        let mut difference = Ok(None);
        let (then, now) = ((commit.ledger.produced, commit.ledger.dropped), (made.report.rows, made.report.dropped));
        if then != now {
            let rows = |(produced, dropped)| format!("{} and {} dropped", plural(produced, "row"), count(dropped));
            difference = Ok(Some(format!("the query gives {} now, {} then", rows(now), rows(then))));
        }
        for (of, committed, made) in pairs {
            if let Ok(None) = difference {
                difference = self.compare_files(of, committed, made, files_compared).await;
            }
            let scratch = self.place(of, &self.loaded.parsed.settings.state, &self.loaded.parsed.sets[at].location);
            for file in made {
                let deleted = scratch.store().delete(&scratch.path(&file.path)).await;
                deleted.map_err(|error| store_error(&scratch, error))?;
            }
        }
        let is_emitted = assignment.emissions.contains_key(&at);
        let lost = if is_emitted { forgotten(&admitted(manifest, assignment), &taken) } else { None };
        match made.state {
            Some(state) if is_emitted && lost.is_none() => self.keep(before, commit, at, state).await?,
            Some(state) => delete_replaced(&self.loaded.parsed.settings.state, name, &state.files, &[]).await?,
            None => {}
        }
        let difference = difference?;
        Ok(lost.map_or(Ok(difference), |why| Err(Skip(why))))
    }
}

/// The rows that an epoch admitted of topics.
fn admitted(manifest: &Manifest, assignment: &Assignment) -> BTreeMap<String, u64> {
    let of_topics = |(name, input): (&String, &ScanInput)| {
        let ledger = manifest.sources.get(name).filter(|_| matches!(input, ScanInput::Offsets(_)))?;
        Some((name.clone(), ledger.admitted))
    };
    assignment.scans.iter().filter_map(of_topics).collect()
}

/// Offsets that were read, cut where the epoch's own begin: ranges are dealt to the partitions of a plan as they are.
fn as_they_were(read: Vec<OffsetRange>, slice: Option<&SourceSlice>) -> impl Iterator<Item = OffsetRange> {
    let own = match slice {
        Some(SourceSlice::Kafka { ranges }) => ranges.clone(),
        _ => Vec::new(),
    };
    let cut = |mut range: OffsetRange| {
        let is_there = |own: &&OffsetRange| (&own.topic, own.partition) == (&range.topic, range.partition);
        if let Some(own) = own.iter().find(is_there) {
            range.end = range.end.min(own.start);
            return (range.start < range.end).then_some(range);
        }
        Some(range)
    };
    let before: Vec<_> = read.into_iter().filter_map(cut).collect();
    before.into_iter().chain(own)
}

/// The attempt that was committed: it is in the names of its files.
fn attempt_of(commit: &SetCommit) -> Option<u32> {
    let file = commit.files.added.iter().chain(&commit.quarantine.added).next()?;
    let name: FileName = file.path.rsplit('/').next()?.parse().ok()?;
    Some(name.attempt)
}
