//! One epoch: run what is assigned, put its manifest.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bessemer_connectors::Location;
use bessemer_connectors::manifest_store::{Committed, History};
use bessemer_connectors::scan::{EpochScans, ScanInput, ScanReport};
use bessemer_connectors::sink::{
    Origins, PartOrigin, QuarantineOwner, StateFiles, WriterNaming, quarantine_location, state_location,
};
use bessemer_schemas::{
    Digest, Epoch, Failure, FileChanges, Manifest, ManifestKind, SetCommit, SetLedger, SetState, Slice, SourceLedger,
    SourceSlice, Watermark,
};
use bessemer_transforms::{LedgerShape, PlannedSet, SetKind};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, info, info_span};

use super::Run;
use super::absorb::WrittenState;
use super::carry;
use super::compaction::moves_nothing;
use super::emission::Emission;
use super::every;
use super::intake::{Intake, Taken};
use super::lateness::{set_apart, watermarks_after};
use super::replay::TakenRecords;
use super::resident::Residents;
use super::set::{self, Attempt, SetOutcome};
use crate::error::{Error, Result};
use crate::load::Loaded;
use crate::progress::Progress;

/// What one epoch is to do.
#[derive(Debug, Default)]
pub(super) struct Assignment {
    /// What the manifest will say was read.
    pub(super) slice: Slice,
    /// What the scans read: more than the slice where a snapshot set is computed anew.
    pub(super) scans: BTreeMap<String, ScanInput>,
    /// Of sets that do not read all parts of a log, the numbers of those that they do.
    pub(super) parts: BTreeMap<usize, BTreeMap<String, Arc<[u32]>>>,
    /// The states that sets go on from.
    pub(super) before: BTreeMap<usize, StateFiles>,
    /// What the sets emit that keep rows until they are final.
    pub(super) emissions: BTreeMap<usize, Emission>,
    /// Where watermarks are before it, where it is not the sources that say so.
    pub(super) watermarks: BTreeMap<String, Watermark>,
    /// Of sources of objects, where that is known: a time that nothing is older than of what is left to read, in
    /// microseconds since 1970; `i64::MAX` where nothing is.
    pub(super) oldest_unread: BTreeMap<String, i64>,
    /// What the user is told before it is run.
    pub(super) notes: Vec<String>,
    /// The feature sets, as indexes into the plan.
    pub(super) sets: Vec<usize>,
    /// Whether the sets' files are replaced.
    pub(super) replaces: bool,
    /// Those of the sets that stay as they are, and only take in what was read.
    pub(super) absorbing: BTreeSet<usize>,
    /// What the snapshot sets are computed from.
    pub(super) inputs: BTreeMap<String, Digest>,
    /// Records of a quarantine, where these are what is read.
    pub(super) replayed: Option<TakenRecords>,
    /// Bytes that the scans will read, for the progress bar.
    pub(super) bytes: u64,
}

/// Reports in flight between the scans and the intake.
const REPORTS_MAX: usize = 64;

/// What the scans of an epoch read; a source's number is its place.
#[derive(Debug, Clone)]
pub(super) struct Scanned(pub(super) Arc<Vec<(String, ScanInput)>>);

impl Scanned {
    pub(super) fn new(scans: &BTreeMap<String, ScanInput>) -> Self {
        Self(Arc::new(scans.iter().map(|(name, input)| (name.clone(), input.clone())).collect()))
    }

    /// What is read of a source.
    pub(super) fn of(&self, source: &str) -> Option<&ScanInput> {
        self.0.iter().find(|(name, _)| name == source).map(|(_, input)| input)
    }

    /// The same, as the scans look it up, and where they report.
    pub(super) fn epoch_scans(&self, history: &History) -> (Arc<EpochScans>, mpsc::Receiver<ScanReport>) {
        let (sender, reports) = mpsc::channel(REPORTS_MAX);
        let with_source = |scans: EpochScans, (number, (name, input)): (usize, &(String, ScanInput))| {
            scans.with_source(name, number as u64, input.clone()).with_bad_records(name, history.bad_records(name))
        };
        (Arc::new(self.0.iter().enumerate().fold(EpochScans::new(sender), with_source)), reports)
    }
}

impl Origins for Scanned {
    fn origin(&self, source: u64, object: u64) -> Option<PartOrigin<'_>> {
        let (name, input) = self.0.get(usize::try_from(source).ok()?)?;
        let part = usize::try_from(object).ok()?;
        Some(PartOrigin { source: name, path: input.path(part)?, first_row: input.first_row(part) })
    }
}

/// The name of every file that an attempt at an epoch writes begins with this.
#[derive(Debug, Clone, Copy)]
pub(super) struct Naming {
    pub(super) epoch: Epoch,
    pub(super) claim: bessemer_schemas::Claim,
    pub(super) attempt: u32,
}

impl Naming {
    /// The names of the files of one stream.
    pub(super) fn writer(self, stream: usize) -> WriterNaming {
        let Self { epoch, claim, attempt } = self;
        WriterNaming { epoch, claim, attempt, stream: u32::try_from(stream).unwrap_or(u32::MAX) }
    }
}

/// What an attempt at an epoch is run with, whether it will be committed or not.
#[derive(Debug, Clone, Copy)]
pub(super) struct Engine<'a> {
    pub(super) loaded: &'a Arc<Loaded>,
    pub(super) history: &'a History,
    pub(super) progress: &'a Progress,
    pub(super) cancel: &'a CancellationToken,
    pub(super) residents: &'a Residents,
}

/// What running the sets of an epoch came to.
pub(super) enum Ran<T> {
    /// All of it is written.
    Whole(T),
    /// An expectation with `FAIL` does not hold.
    Violated(Failure),
}

impl Run<'_> {
    /// Runs the assignment and commits it. On any error no task writes any more, but files may be there.
    pub(super) async fn try_epoch(&mut self, assignment: &Assignment, attempt: u32, started_at: i64) -> Result<()> {
        let naming = Naming { epoch: self.writer.next_epoch(), claim: self.writer.claim(), attempt };
        self.progress.begin(naming.epoch.0, assignment.bytes);
        let (taken, outcomes) = match self.engine().execute(assignment, naming).await? {
            Ran::Whole(whole) => whole,
            Ran::Violated(failure) => return self.fail(failure, started_at).await,
        };
        let mut manifest = self.manifest(assignment, taken, outcomes, started_at)?;
        if let Some(replayed) = &assignment.replayed {
            replayed.leave(&self.loaded.parsed, naming, &mut manifest).await?;
        }
        let durable = self.files_of(&manifest)?;
        self.progress.phase("committing");
        let committed = self.writer.commit(manifest, &durable).instrument(info_span!("commit")).await;
        let committed = committed.map_err(|error| self.commit_error(error))?;
        self.progress.show(&summary_line(&committed.manifest));
        self.committed(committed);
        Ok(())
    }

    /// Takes in what is now in force and what is not.
    pub(super) fn committed(&mut self, committed: Committed) {
        let Committed { manifest, replaced, .. } = committed;
        log_committed(&manifest);
        self.progress.tell(|observer| observer.committed(&manifest));
        self.replaced.extend(replaced);
        self.note_files(&manifest);
        self.tally.add(&manifest);
    }

    /// An error of a commit, which may have left it open whether the epoch exists.
    pub(super) fn commit_error(&self, error: bessemer_connectors::Error) -> Error {
        match self.writer.unresolved() {
            Some(epoch) => Error::Unresolved { epoch, source: error },
            None => error.into(),
        }
    }

    /// What its epochs are run with.
    pub(super) fn engine(&self) -> Engine<'_> {
        let history = self.writer.history();
        let residents = &self.residents;
        Engine { loaded: &self.loaded, history, progress: self.progress, cancel: self.cancel, residents }
    }

    /// Everything that the epoch did, in one object.
    fn manifest(
        &self,
        assignment: &Assignment,
        taken: Taken,
        outcomes: Vec<(usize, SetOutcome)>,
        started_at: i64,
    ) -> Result<Manifest> {
        let mut sets = BTreeMap::new();
        let watermarks = watermarks_after(assignment, &taken, &self.loaded, self.writer.history());
        let mut now = self.writer.history().watermarks();
        now.extend(watermarks.clone());
        for (at, outcome) in outcomes {
            let planned = &self.loaded.plan.sets[at];
            if assignment.absorbing.contains(&at) {
                let state = outcome.state.map(|written| self.set_state(planned, assignment, written));
                sets.insert(planned.name.clone(), SetCommit { state, ..moves_nothing() });
                continue;
            }
            let admitted = self.admitted(planned, assignment, &taken);
            let state = outcome.state.clone().map(|written| self.set_state(planned, assignment, written));
            let is_paced = assignment.replaces && planned.emit_every.is_some();
            let emitted_at = if is_paced { every::watermark(planned, &now) } else { None };
            let commit = SetCommit { state, emitted_at, ..set_commit(planned, assignment, outcome, admitted)? };
            sets.insert(planned.name.clone(), commit);
        }
        Ok(Manifest {
            slice: set_apart(assignment, &taken, self.writer.history()),
            sources: taken.ledgers,
            sets,
            quarantine: taken.quarantine,
            bad_records: taken.bad_records,
            watermarks,
            committed_at: self.host.now_micros(),
            ..self.writer.draft(ManifestKind::Data, started_at)
        })
    }

    /// The state of a set as the manifest has it.
    fn set_state(&self, planned: &PlannedSet, assignment: &Assignment, written: WrittenState) -> SetState {
        let of_snapshot = planned.incremental().map(|of| (of.tables(), of.signature()));
        let kept = of_snapshot.or_else(|| planned.emits().map(|of| (of.tables(), of.signature())));
        let tables = kept.iter().flat_map(|(tables, _)| *tables);
        let version = |table: &String| match assignment.slice.sources.get(table) {
            Some(SourceSlice::Table { version, .. }) => Some((table.clone(), version.clone())),
            _ => None,
        };
        let WrittenState { files: added, content, segments, closed } = written;
        SetState {
            files: FileChanges { added, replaces_all: true, ..FileChanges::default() },
            content,
            fingerprint: kept.as_ref().map_or_else(
                || Digest::of(&[]),
                |(tables, signature)| carry::fingerprint(&self.loaded, planned, tables, signature),
            ),
            since: self.state_since(planned, assignment),
            through: self.writer.next_epoch(),
            tables: tables.filter_map(version).collect(),
            segments,
            closed,
        }
    }

    /// The epoch that computed the set's state over everything: this one, unless it went on from another.
    fn state_since(&self, planned: &PlannedSet, assignment: &Assignment) -> Epoch {
        let kept = assignment.emissions.iter().filter(|(_, emission)| emission.goes_on()).map(|(at, _)| at);
        let mut carried = assignment.before.keys().chain(kept).map(|at| &self.loaded.plan.sets[*at]);
        let before = carried.find(|set| set.name == planned.name);
        let before = before.and_then(|_| self.writer.history().states().remove(&planned.name));
        before.map_or_else(|| self.writer.next_epoch(), |state| state.since)
    }

    /// Rows that the set's query read of its logs; of its tables, where it reads no log.
    fn admitted(&self, planned: &PlannedSet, assignment: &Assignment, taken: &Taken) -> u64 {
        let totals = self.writer.history().source_totals();
        let of = |name: &str| {
            let now = taken.ledgers.get(name).map_or(0, |ledger| ledger.admitted);
            // What is replaced is made of all rows ever, however many of them had to be read again.
            let before = totals.get(name).filter(|_| assignment.replaces).map_or(0, |ledger| ledger.admitted);
            now + before
        };
        if planned.sources.is_empty() {
            planned.tables.iter().map(|(name, scans)| *scans as u64 * taken.rows_of(name)).sum()
        } else {
            planned.sources.iter().map(|(name, scans)| *scans as u64 * of(name)).sum()
        }
    }

    /// Records that an expectation with `FAIL` stopped the pipeline, and says so.
    async fn fail(&mut self, failure: Failure, started_at: i64) -> Result<()> {
        let manifest = Manifest {
            failure: Some(failure.clone()),
            committed_at: self.host.now_micros(),
            ..self.writer.draft(ManifestKind::Failed, started_at)
        };
        self.writer.commit(manifest, &[]).await.map_err(|error| self.commit_error(error))?;
        Err(Error::Failed { failure: Box::new(failure) })
    }

    /// The files that the manifest names, to be on disk before it is.
    pub(super) fn files_of(&self, manifest: &Manifest) -> Result<Vec<(Location, Vec<String>)>> {
        let state = &self.loaded.parsed.settings.state;
        let paths = |changes: &FileChanges| changes.added.iter().map(|file| file.path.clone()).collect::<Vec<_>>();
        let mut files = Vec::new();
        for (name, set) in &manifest.sets {
            files.push((self.loaded.parsed.set(name)?.location.clone(), paths(&set.files)));
            files.push((quarantine_location(state, QuarantineOwner::Set(name)), paths(&set.quarantine)));
            files.extend(set.state.iter().map(|kept| (state_location(state, name), paths(&kept.files))));
        }
        for (name, changes) in &manifest.quarantine {
            files.push((quarantine_location(state, QuarantineOwner::Source(name)), paths(changes)));
        }
        Ok(files)
    }
}

impl Engine<'_> {
    /// Runs every set of the assignment, then reads what no set has read to its end. Whatever it returns, the tasks that
    /// it began have ended.
    pub(super) async fn execute(
        &self,
        assignment: &Assignment,
        naming: Naming,
    ) -> Result<Ran<(Taken, Vec<(usize, SetOutcome)>)>> {
        let scanned = Scanned::new(&assignment.scans);
        let (scans, reports) = scanned.epoch_scans(self.history);
        let intake = Intake::new(Arc::clone(self.loaded), naming, self.progress.clone(), scanned.clone());
        let intake = tokio::spawn(intake.collect(reports).in_current_span());

        let ran = self.run_sets(assignment, naming, &scanned, &scans).await;
        // The reports end when the last sender is gone.
        drop(scans);
        let intake = join(intake).await?;
        match ran {
            Ok(Ran::Whole(outcomes)) => {
                let drained = intake?.drain_rest(self.history, self.cancel).await;
                let intake = drained.map_err(|error| self.read_before(error, assignment, &assignment.sets))?;
                Ok(Ran::Whole((intake.finish().await?, outcomes)))
            }
            Ok(Ran::Violated(failure)) => {
                abandon(intake).await;
                Ok(Ran::Violated(failure))
            }
            Err(error) => {
                abandon(intake).await;
                Err(error)
            }
        }
    }

    /// Runs one set after another; a violated `FAIL` ends it.
    async fn run_sets(
        &self,
        assignment: &Assignment,
        naming: Naming,
        scanned: &Scanned,
        scans: &Arc<EpochScans>,
    ) -> Result<Ran<Vec<(usize, SetOutcome)>>> {
        let (loaded, cancel) = (self.loaded, self.cancel);
        let mut outcomes = Vec::with_capacity(assignment.sets.len());
        for at in &assignment.sets {
            let span = info_span!("set", set = %loaded.plan.sets[*at].name);
            let scans = match assignment.parts.get(at) {
                Some(parts) => Arc::new(scans.restricted(parts)),
                None => Arc::clone(scans),
            };
            let session = bessemer_transforms::with_extension(&loaded.session, scans);
            let (before, emission) = (assignment.before.get(at), assignment.emissions.get(at));
            let absorbs_only = assignment.absorbing.contains(at);
            let residents = self.residents;
            let attempt = Attempt {
                loaded,
                session: &session,
                naming,
                scanned,
                cancel,
                before,
                absorbs_only,
                emission,
                residents,
            };
            let ran = set::run(&attempt, *at).instrument(span).await;
            let mut outcome = ran.map_err(|error| self.read_before(error, assignment, &[*at]))?;
            if let Some(failure) = outcome.report.failed.take() {
                return Ok(Ran::Violated(failure));
            }
            outcomes.push((*at, outcome));
        }
        Ok(Ran::Whole(outcomes))
    }

    /// An object that has just been listed may come back by waiting; one that an earlier epoch has read does not, and
    /// every later run would need it, too.
    fn read_before(&self, error: Error, assignment: &Assignment, sets: &[usize]) -> Error {
        let Some(bessemer_connectors::Error::Unstable { name, path, what }) = error.connector() else { return error };
        let scanned = match assignment.scans.get(name) {
            Some(ScanInput::Objects(objects)) => objects.iter().find(|object| object.version.path == *path),
            _ => None,
        };
        let mut planned = sets.iter().map(|at| &self.loaded.plan.sets[*at]);
        match (scanned, planned.find(|set| set.sources.contains_key(name))) {
            (Some(object), Some(set)) if !object.is_new => {
                let (name, path, what, set) = (name.clone(), path.clone(), *what, set.name.clone());
                Error::ReadBefore { name, path, what, set }
            }
            _ => error,
        }
    }
}

/// The set's part of the manifest.
fn set_commit(planned: &PlannedSet, assignment: &Assignment, outcome: SetOutcome, admitted: u64) -> Result<SetCommit> {
    let produced = outcome.report.rows;
    let written = outcome.files.iter().map(|file| file.rows).sum();
    let quarantined = outcome.quarantine.iter().map(|file| file.rows).sum();
    let mut ledger =
        SetLedger { admitted, produced, dropped: outcome.report.dropped, quarantined, written, ..SetLedger::default() };
    match planned.kind {
        // What its operators took in became groups, windows and matches: rows in and rows out are not one to one.
        _ if planned.ledger == LedgerShape::Stateful && admitted > 0 => ledger.absorbed = admitted,
        _ if planned.ledger == LedgerShape::Stateful => ledger.expanded = produced,
        SetKind::Append if planned.ledger == (LedgerShape::Stateless { can_expand: true }) => {
            ledger.expanded = produced.saturating_sub(admitted);
            ledger.dropped_by_query = admitted.saturating_sub(produced);
        }
        SetKind::Append => {
            ledger.dropped_by_query = admitted.checked_sub(produced).ok_or_else(|| Error::Internal {
                message: format!("feature set `{}` produced {produced} rows from {admitted}", planned.name),
            })?;
        }
        SetKind::Snapshot => {}
    }
    let changes = |added| FileChanges { added, replaces_all: assignment.replaces, ..FileChanges::default() };
    Ok(SetCommit {
        files: changes(outcome.files),
        quarantine: changes(outcome.quarantine),
        ledger,
        expectations: outcome.report.results,
        inputs: assignment.inputs.get(&planned.name).cloned(),
        emitted_at: None,
        state: None,
    })
}

/// Takes back the quarantine files of an epoch that will not be one; an intake that failed has done so itself.
pub(super) async fn abandon(intake: Result<Intake>) {
    if let Ok(intake) = intake {
        intake.abort().await;
    }
}

/// What a finished task returned; its panic is ours.
pub(super) async fn join<T>(task: tokio::task::JoinHandle<T>) -> Result<T> {
    task.await.map_err(|error| Error::Internal { message: format!("a task of the epoch ended early: {error}") })
}

fn log_committed(manifest: &Manifest) {
    let read = |of: fn(&SourceLedger) -> u64| manifest.sources.values().map(of).sum::<u64>();
    let made = |of: fn(&SetLedger) -> u64| manifest.sets.values().map(|set| of(&set.ledger)).sum::<u64>();
    info!(
        epoch = manifest.epoch.0,
        records = read(|ledger| ledger.records),
        rows = made(|ledger| ledger.written),
        quarantined = read(|ledger| ledger.quarantined) + made(|ledger| ledger.quarantined),
        milliseconds = (manifest.committed_at - manifest.started_at) / 1_000,
        "committed"
    );
}

fn summary_line(manifest: &Manifest) -> String {
    use crate::output::{plural, seconds};
    let sum = |of: fn(&SourceLedger) -> u64| manifest.sources.values().map(of).sum::<u64>();
    let written: u64 = manifest.sets.values().map(|set| set.ledger.written).sum();
    let quarantined: u64 = manifest.sets.values().map(|set| set.ledger.quarantined).sum();
    let parts = [(sum(|ledger| ledger.objects), "file"), (sum(|ledger| ledger.records), "record")];
    let read: Vec<_> =
        parts.iter().filter(|(number, _)| *number > 0).map(|(number, what)| plural(*number, what)).collect();
    let read = if read.is_empty() { "nothing new".to_owned() } else { read.join(", ") };
    let quarantined = match sum(|ledger| ledger.quarantined) + quarantined {
        0 => String::new(),
        number => format!(", {} quarantined", crate::output::count(number)),
    };
    format!(
        "epoch {}: {read} -> {} in {} ({}){quarantined}",
        manifest.epoch,
        plural(written, "row"),
        plural(manifest.sets.len() as u64, "feature set"),
        seconds(manifest.committed_at - manifest.started_at),
    )
}
