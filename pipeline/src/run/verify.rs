//! Whether what is committed is what its epochs make of their slices.
//!
//! Each set of an epoch is run once more over the slice of its manifest, into a folder that is gone afterwards, and its
//! files, which have the same names, are compared with those that are committed: byte for byte as long as they are there,
//! by rows and size where they were merged into others. What became of the rows is compared, too; the quarantine of sources
//! is not. The pipeline is not claimed: a daemon may go on meanwhile.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::Arc;

use bessemer_connectors::manifest_store::{History, ManifestStore};
use bessemer_connectors::scan::{ScanInput, ScanObject, ScanOffsets};
use bessemer_connectors::sink::{QuarantineOwner, quarantine_location, state_location};
use bessemer_connectors::{Location, Source};
use bessemer_schemas::{
    DataFile, DefinitionDigest, Epoch, FileName, Manifest, ManifestKind, OffsetRange, SetCommit, SourceKind,
    SourceSlice,
};
use bessemer_transforms::{PlannedSet, SetKind};
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStoreExt;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::epoch::{Assignment, Engine, Naming, Ran};
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
    let verifier =
        Verifier { loaded: Arc::new(loaded), definition, committed, state, store, history, progress, cancel };
    let mut verified = Vec::new();
    let mut manifests = store.manifests(epochs);
    while let Some(manifest) = manifests.try_next().await? {
        if manifest.kind == ManifestKind::Data {
            verifier.verify_epoch(&manifest, &mut verified).await?;
        }
    }
    Ok(verified)
}

impl Verifier<'_> {
    async fn verify_epoch(&self, manifest: &Manifest, verified: &mut Vec<VerifiedSet>) -> Result<()> {
        for source in &self.loaded.sources {
            source.begin_epoch()?;
        }
        for (name, commit) in &manifest.sets {
            if self.cancel.is_cancelled() {
                return Err(interrupted());
            }
            let mut files_compared = 0;
            let verdict = match self.assign(manifest, name, commit).await? {
                Err(Skip(what)) => Verdict::Skipped { what },
                Ok((at, assignment)) => match self.compare(manifest, at, &assignment, &mut files_compared).await {
                    Ok(None) => Verdict::Same,
                    Ok(Some(what)) => Verdict::Differs { what },
                    Err(error) => match gone(&error) {
                        Some(what) => Verdict::Skipped { what },
                        None => return Err(error),
                    },
                },
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
        if set.emits().is_some() {
            return Ok(Err(Skip("it is made of rows and windows from before, which are not kept".to_owned())));
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
        let then = match manifest.slice.sources.get(name) {
            Some(SourceSlice::Table { version, .. }) => Some(version),
            _ => None,
        };
        let source = self.loaded.sources.iter().find_map(|source| match source {
            Source::Objects(source) if source.name() == name && source.kind() == SourceKind::Table => Some(source),
            _ => None,
        });
        let Some(source) = source else { return Ok(Err(Skip(format!("table `{name}` is no table of files")))) };
        let (version, objects) = source.table_version().await?;
        if then != Some(&version) {
            return Ok(Err(Skip(format!("table `{name}` has changed since"))));
        }
        let objects = objects.into_iter().map(|version| ScanObject { version, is_new: false });
        Ok(Ok(ScanInput::Objects(objects.collect())))
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

    /// Runs the set once more; what is other than it was, if anything is.
    async fn compare(
        &self,
        manifest: &Manifest,
        at: usize,
        assignment: &Assignment,
        files_compared: &mut u64,
    ) -> Result<Option<String>> {
        let name = &self.loaded.plan.sets[at].name;
        let Some(commit) = manifest.sets.get(name) else { return Ok(None) };
        let attempt = attempt_of(commit).unwrap_or(0);
        let naming = Naming { epoch: manifest.epoch, claim: manifest.claim, attempt };
        self.progress.begin(manifest.epoch.0, assignment.bytes);
        let engine =
            Engine { loaded: &self.loaded, history: self.history, progress: self.progress, cancel: self.cancel };
        let made = match engine.execute(assignment, naming).await? {
            Ran::Whole((_, outcomes)) => outcomes.into_iter().map(|(_, outcome)| outcome).next(),
            Ran::Violated(failure) => return Ok(Some(format!("expectation `{}` fails now", failure.expectation))),
        };
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
        let scratch = state_location(&self.loaded.parsed.settings.state, name);
        for file in made.state.iter().flat_map(|state| &state.files) {
            let deleted = scratch.store().delete(&scratch.path(&file.path)).await;
            deleted.map_err(|error| store_error(&scratch, error))?;
        }
        difference
    }

    async fn compare_files(
        &self,
        of: FilesOf,
        committed: &[DataFile],
        made: &[DataFile],
        files_compared: &mut u64,
    ) -> Result<Option<String>> {
        let what = of.what();
        let rows = |files: &[DataFile]| files.iter().map(|file| file.rows).sum::<u64>();
        if rows(committed) != rows(made) || committed.len() != made.len() {
            return Ok(Some(format!(
                "{what}: {} of {} now, {} of {} then",
                plural(made.len() as u64, "file"),
                plural(rows(made), "row"),
                plural(committed.len() as u64, "file"),
                plural(rows(committed), "row")
            )));
        }
        let live = self.live(of, self.history).await?;
        let original = self.place(of, &self.state, &self.committed[of.at()]);
        let (parsed, at) = (&self.loaded.parsed, of.at());
        let again = self.place(of, &parsed.settings.state, &parsed.sets[at].location);
        for (committed, made) in committed.iter().zip(made) {
            let path = &committed.path;
            if (&made.path, made.rows, made.bytes) != (path, committed.rows, committed.bytes) {
                return Ok(Some(format!(
                    "{what}: `{}` has {} in {} bytes now, `{path}` had {} in {}, unless options of its files were changed since",
                    made.path,
                    plural(made.rows, "row"),
                    count(made.bytes),
                    count(committed.rows),
                    count(committed.bytes)
                )));
            }
            match same_bytes(&original, &again, path).await? {
                Some(true) => *files_compared += 1,
                Some(false) => {
                    return Ok(Some(format!(
                        "{what}: `{path}` has other bytes, unless options of its files were changed since"
                    )));
                }
                None if live.contains(path) && self.is_still_live(of, path).await? => {
                    return Ok(Some(format!("{what}: `{path}` is gone")));
                }
                // It was merged with others.
                None => {}
            }
        }
        Ok(None)
    }

    /// The files that are in force, as a history has it.
    async fn live(&self, of: FilesOf, history: &History) -> Result<BTreeSet<String>> {
        let name = &self.loaded.plan.sets[of.at()].name;
        let live = match of {
            FilesOf::Set(_) => history.live_files(name),
            FilesOf::Quarantine(_) => history.quarantine_files(&format!("set:{name}")),
        };
        Ok(live.map_ok(|file| file.path).try_collect().await?)
    }

    /// Whether a file that was in force still is: a daemon that goes on meanwhile merges files, and deletes what it has
    /// merged.
    async fn is_still_live(&self, of: FilesOf, path: &str) -> Result<bool> {
        Ok(self.live(of, &self.store.history().await?).await?.contains(path))
    }

    /// Where files are, of two places for the state and for a set.
    fn place(&self, of: FilesOf, state: &Location, set: &Location) -> Location {
        match of {
            FilesOf::Set(_) => set.clone(),
            FilesOf::Quarantine(at) => {
                quarantine_location(state, QuarantineOwner::Set(&self.loaded.plan.sets[at].name))
            }
        }
    }
}

/// Which files, by the set's number in the plan.
#[derive(Clone, Copy)]
enum FilesOf {
    Set(usize),
    Quarantine(usize),
}

impl FilesOf {
    fn at(self) -> usize {
        let (Self::Set(at) | Self::Quarantine(at)) = self;
        at
    }

    fn what(self) -> &'static str {
        match self {
            Self::Set(_) => "rows",
            Self::Quarantine(_) => "quarantine",
        }
    }
}

/// Why an epoch cannot be read again, if that is what an error says: what it read is gone.
fn gone(error: &Error) -> Option<String> {
    use bessemer_connectors::Error as Connector;

    match (error, error.connector()) {
        (Error::ReadBefore { name, path, what, .. }, _) => Some(format!("`{path}` of source `{name}` {what} since")),
        (_, Some(Connector::Unstable { name, path, what })) => {
            Some(format!("`{path}` of source `{name}` {what} since"))
        }
        (_, Some(Connector::OffsetsLost { topic, partition, .. })) => {
            Some(format!("topic `{topic}` has no longer the offsets of partition {partition}"))
        }
        (Error::Forgotten(_), _) => Some("its topic has deleted or compacted records meanwhile".to_owned()),
        (_, Some(Connector::TopicMissing { topic, .. })) => Some(format!("topic `{topic}` is gone")),
        _ => None,
    }
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

/// Whether a file is the same in two places; nothing if the first has it no more.
async fn same_bytes(first: &Location, second: &Location, path: &str) -> Result<Option<bool>> {
    let open = async |at: &Location| -> Result<_, object_store::Error> { at.store().get(&at.path(path)).await };
    let opened = match open(first).await {
        Err(object_store::Error::NotFound { .. }) => return Ok(None),
        opened => opened.map_err(|error| store_error(first, error))?,
    };
    let again = open(second).await.map_err(|error| store_error(second, error))?;
    let (mut left, mut right) = (opened.into_stream(), again.into_stream());
    let (mut ahead, mut behind) = (bytes::Bytes::new(), bytes::Bytes::new());
    loop {
        for (have, from, at) in [(&mut ahead, &mut left, first), (&mut behind, &mut right, second)] {
            while have.is_empty()
                && let Some(more) = from.next().await
            {
                *have = more.map_err(|error| store_error(at, error))?;
            }
        }
        let length = ahead.len().min(behind.len());
        if length == 0 {
            return Ok(Some(ahead.len() == behind.len()));
        }
        if ahead.split_to(length) != behind.split_to(length) {
            return Ok(Some(false));
        }
    }
}

fn store_error(at: &Location, error: object_store::Error) -> Error {
    bessemer_connectors::Error::store(at.as_text(), error).into()
}
