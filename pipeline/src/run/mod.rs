//! A run: one epoch after another until the sources are drained, or for ever.
//!
//! ```text
//! open      lock, compare the definition, claim an epoch, sweep         (recover.rs)
//! discover  list every log once, take every table's version             (discovery.rs)
//! append    slice ─► epoch ─► commit, until the listings are empty      (epoch.rs, set.rs, intake.rs)
//! snapshot  one more epoch for the sets that are replaced: over everything, or what is new (carry.rs, reading.rs, absorb.rs)
//! compact   merge small files: at the end, or beside the epochs         (compaction.rs)
//! replay    the same for records of the quarantine                    (replay.rs)
//! verify    the same over a committed slice, to compare            (verify/)
//! hold      what sets keep for rows to come, in memory             (emission.rs, resident.rs)
//! restore   a lost state, made anew of the slices that it was made of (restore.rs, rebuild.rs)
//! close     publish what is committed, remove everything else           (recover.rs)
//! ```
//!
//! One task owns all of it; a run that is killed at any point leaves only what the next run's sweep removes, and one that
//! ends by itself, well or not, leaves nothing.

mod absorb;
mod carry;
mod compaction;
mod delta;
mod discovery;
mod emission;
mod epoch;
mod every;
mod fingerprint;
mod idle;
mod intake;
mod kept;
mod lateness;
pub(crate) mod preview;
mod reading;
mod rebuild;
mod record;
mod recover;
mod repaired;
pub(crate) mod replay;
mod resident;
pub(crate) mod restore;
mod set;
#[cfg(test)]
#[cfg(feature = "kafka")]
mod simulation;
mod summary;
#[cfg(test)]
mod tests;
pub(crate) mod verify;

use std::sync::Arc;
use std::time::Duration;

use bessemer_connectors::manifest_store::{EpochWriter, ManifestStore, ReplacedFiles};
use bessemer_schemas::{Epoch, ErrorKind, RunTrigger};
use bessemer_transforms::SetKind;
use futures::FutureExt;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, info_span, warn};

use crate::error::{Error, Result};
use crate::host::{Host, Machine};
use crate::load::{self, Loaded, Parsed};
use crate::output::plural;
use crate::progress::Progress;
use crate::telemetry::Observer;
pub(crate) use compaction::CompactedSet;
use compaction::Compaction;
use discovery::{Discovered, Reach};
use emission::Emission;
use epoch::Assignment;
use idle::Idleness;
use record::Entry;
pub(crate) use repaired::Repaired;
use replay::ReplayRequest;
use resident::Residents;
pub(crate) use summary::RunSummary;
use summary::Tally;

/// Attempts at one epoch where the world does not answer; the clients of the stores have retried before that.
const ATTEMPTS_MAX: u32 = 3;

/// What whoever starts a run says about it.
#[derive(Debug, Clone, Default)]
pub(crate) struct RunOptions {
    /// A new append set leaves out what its source has already given.
    pub(crate) from_now: bool,
    /// It closes all windows once everything is read.
    pub(crate) is_final: bool,
    /// What began it, for its record.
    pub(crate) trigger: RunTrigger,
    /// How often it failed before, for its record.
    pub(crate) failures: u32,
    /// Asks it to end well once the epoch in hand is committed.
    pub(crate) pause: CancellationToken,
    /// Cancelled where it is stopped for having taken too long, for its record.
    pub(crate) timeout: CancellationToken,
}

/// What a run is given by the process that it is in.
#[derive(Debug, Clone, Copy)]
struct Surroundings<'a> {
    progress: &'a Progress,
    cancel: &'a CancellationToken,
    host: &'a dyn Host,
}

/// A run in progress: the one owner of the pipeline.
#[derive(Debug)]
struct Run<'a> {
    loaded: Arc<Loaded>,
    store: ManifestStore,
    writer: EpochWriter,
    progress: &'a Progress,
    cancel: &'a CancellationToken,
    host: &'a dyn Host,
    pause: CancellationToken,
    is_final: bool,
    tally: Tally,
    /// Partitions that have nothing to read, of a run for ever.
    idleness: Idleness,
    /// What of the segments of its sets is in memory.
    residents: Residents,
    /// Files that commits of this run put out of force; they go when the run ends.
    replaced: Vec<ReplacedFiles>,
    /// The epoch whose last attempt did not become one.
    given_up: Option<Epoch>,
    /// Whether something may be on disk that no manifest names.
    is_untidy: bool,
    /// Compaction: in a run for ever, in the background.
    compaction: Option<Compaction>,
    /// Merges so far, in the background or not.
    merges: u32,
}

/// Runs a pipeline until its sources are drained.
pub(crate) async fn run(
    parsed: Parsed,
    options: RunOptions,
    progress: &Progress,
    cancel: &CancellationToken,
) -> Result<RunSummary> {
    run_once(parsed, Work::Drain, options, progress, cancel).await
}

/// What a run does before it ends.
#[derive(Debug, Clone, Copy)]
enum Work<'a> {
    /// Read what is new.
    Drain,
    /// Decode records of the quarantine again.
    Replay(&'a ReplayRequest),
}

async fn run_once(
    parsed: Parsed,
    work: Work<'_>,
    options: RunOptions,
    progress: &Progress,
    cancel: &CancellationToken,
) -> Result<RunSummary> {
    let started_at = Machine.now_micros();
    for warning in &parsed.warnings {
        progress.say(&bessemer_sql::render(warning, &parsed.definition.files));
    }
    let store = ManifestStore::new(parsed.settings.state.clone(), parsed.name());
    let mut entry = Entry::new(&store, parsed.name(), &options, started_at);
    let mut tally = Tally::default();
    let ran = Box::pin(async {
        progress.phase("planning");
        let loaded = Arc::new(unless_cancelled(cancel, plan(parsed, &store)).await?);
        unless_cancelled(cancel, entry.begin()).await?;
        let surroundings = Surroundings { progress, cancel, host: &Machine };
        let mut run = Run::open(loaded, store.clone(), &options, surroundings).await?;
        let worked = match work {
            Work::Drain => run.work().await,
            Work::Replay(request) => run.work_again(request).await,
        };
        let closed = run.close(worked).await;
        tally = std::mem::take(&mut run.tally);
        closed?;
        tally.summary(&run.loaded, run.writer.history(), Machine.now_micros() - started_at).await
    })
    .await;
    entry.end(&tally, &ran).await;
    ran
}

/// Runs a pipeline until the user stops it: what is new, again and again, at the pace of its `epoch_age_max`.
pub(crate) async fn follow(
    parsed: Parsed,
    options: RunOptions,
    progress: &Progress,
    cancel: &CancellationToken,
) -> Result<()> {
    let store = ManifestStore::new(parsed.settings.state.clone(), parsed.name());
    let mut entry = Entry::new(&store, parsed.name(), &options, Machine.now_micros());
    let mut tally = Tally::default();
    let ran = Box::pin(async {
        let loaded = Arc::new(unless_cancelled(cancel, plan(parsed, &store)).await?);
        unless_cancelled(cancel, entry.begin()).await?;
        let surroundings = Surroundings { progress, cancel, host: &Machine };
        let mut run = Run::open(loaded, store.clone(), &options, surroundings).await?;
        let worked = run.work_on().await;
        let closed = run.close(worked).await;
        tally = std::mem::take(&mut run.tally);
        closed
    })
    .await;
    entry.end(&tally, &ran).await;
    ran
}

/// Makes the small files of append sets fewer: of those named, or of all.
pub(crate) async fn compact(
    parsed: Parsed,
    names: &[String],
    progress: &Progress,
    cancel: &CancellationToken,
) -> Result<Vec<CompactedSet>> {
    let store = ManifestStore::new(parsed.settings.state.clone(), parsed.name());
    progress.phase("planning");
    let loaded = Arc::new(unless_cancelled(cancel, plan(parsed, &store)).await?);
    let sets = sets_to_compact(&loaded, names)?;
    let surroundings = Surroundings { progress, cancel, host: &Machine };
    let mut run = Run::open(loaded, store, &RunOptions::default(), surroundings).await?;
    let compacted = async {
        unless_cancelled(cancel, run.recover()).await?;
        run.compact(&sets).await
    };
    match Box::pin(compacted).await {
        Ok(compacted) => run.close(Ok(())).await.map(|()| compacted),
        Err(error) => Err(run.close(Err(error)).await.err().unwrap_or_else(interrupted)),
    }
}

/// The numbers in the plan of the sets called `names`, which append; without names, of all that do.
fn sets_to_compact(loaded: &Loaded, names: &[String]) -> Result<Vec<usize>> {
    let appending: Vec<usize> = compaction::append_sets(loaded).collect();
    for name in names {
        loaded.parsed.set(name)?;
        if !appending.iter().any(|at| loaded.plan.sets[*at].name == *name) {
            let message = format!("`{name}` is a snapshot set: each run that changes it writes all of its files anew");
            return Err(Error::Unknown { message });
        }
    }
    let is_named = |at: &usize| names.is_empty() || names.contains(&loaded.plan.sets[*at].name);
    Ok(appending.into_iter().filter(is_named).collect())
}

/// Plans the pipeline for as many partitions as its last epoch had.
async fn plan(parsed: Parsed, store: &ManifestStore) -> Result<Loaded> {
    let recorded = store.newest().await?;
    load::load(parsed, recorded.map(|manifest| manifest.writer.partitions)).await
}

impl Run<'_> {
    /// Everything between opening and closing.
    async fn work(&mut self) -> Result<()> {
        let cancel = self.cancel;
        self.check_final()?;
        unless_cancelled(cancel, self.recover()).await?;
        self.check_kept().await?;
        self.progress.phase("listing");
        let discovered = self.discover(Reach::ToItsEnd).await?;
        self.drain(discovered).await?;
        self.compact_at_end().await
    }

    /// The same until it is asked to pause; any other end is an error, and being stopped is one.
    async fn work_on(&mut self) -> Result<()> {
        let cancel = self.cancel;
        unless_cancelled(cancel, self.recover()).await?;
        self.check_kept().await?;
        unless_cancelled(cancel, self.begin_compacting()).await?;
        loop {
            // It runs while the epochs do: they begin at an even pace, unless they take longer than that.
            let pace = self.host.sleep(pace(&self.loaded));
            let before = self.tally.epochs();
            let asked = self.host.moment();
            let discovered = self.discover(Reach::ForEver).await?;
            self.look_for_idle(&discovered, asked);
            self.drain(discovered).await?;
            if self.tally.epochs() > before {
                self.publish().await?;
            }
            self.compact_meanwhile().await?;
            let paced = async {
                tokio::select! {
                    biased;
                    () = self.pause.cancelled() => {}
                    () = pace => {}
                }
                Ok(())
            };
            unless_cancelled(cancel, paced).await?;
            if self.pause.is_cancelled() {
                return Ok(());
            }
        }
    }

    /// Looks at every source.
    async fn discover(&self, reach: Reach) -> Result<Discovered> {
        let found = Discovered::find(&self.loaded, self.writer.history(), reach);
        let discovered = unless_cancelled(self.cancel, found).await?;
        self.progress.tell(|observer| observer.discovered(discovered.unread()));
        Ok(discovered)
    }

    /// Takes one epoch after another, then the snapshot sets; asked to pause, it begins no more.
    async fn drain(&mut self, mut discovered: Discovered) -> Result<()> {
        loop {
            if self.pause.is_cancelled() {
                return Ok(());
            }
            let next = discovered.next_append(&self.loaded, self.writer.history());
            let Some(mut assignment) = unless_cancelled(self.cancel, next).await? else { break };
            self.add_emissions(&mut assignment)?;
            self.commit_epoch(&assignment).await?;
            self.compact_meanwhile().await?;
        }
        self.emit_final(&mut discovered).await?;
        let snapshot = discovered.snapshot(&self.loaded, self.writer.history(), &self.store);
        if let Some(assignment) = unless_cancelled(self.cancel, snapshot).await? {
            assignment.notes.iter().for_each(|note| self.progress.say(note));
            self.commit_epoch(&assignment).await?;
        }
        Ok(())
    }

    /// Looks whether what is kept for rows to come can be gone on with, and says what is not.
    pub(super) async fn check_kept(&self) -> Result<()> {
        let checked = kept::check(&self.loaded, self.writer.history(), &self.store);
        let notes = unless_cancelled(self.cancel, checked).await?;
        for note in &notes {
            self.progress.say(note);
        }
        Ok(())
    }

    /// Adds what the sets of an assignment emit that keep rows until they are final.
    pub(super) fn add_emissions(&self, assignment: &mut Assignment) -> Result<()> {
        let history = self.writer.history();
        let mut watermarks = history.watermarks();
        watermarks.extend(assignment.watermarks.clone());
        for at in &assignment.sets {
            let set = &self.loaded.plan.sets[*at];
            if set.emits().is_some() {
                assignment.emissions.insert(*at, Emission::find(&self.loaded, set, history, &watermarks)?);
            }
        }
        Ok(())
    }

    /// Emits what the watermarks have passed now that all is read, and partitions that are idle hold none of them back; in a
    /// last run, all.
    async fn emit_final(&mut self, discovered: &mut Discovered) -> Result<()> {
        let history = self.writer.history();
        let mut watermarks = history.watermarks();
        let mut moved = self.idleness.moved(&watermarks);
        watermarks.extend(moved.clone());
        let sets = self.loaded.plan.sets.iter().enumerate();
        let sets: Vec<_> = sets.filter_map(|(at, set)| Some((at, set, set.emits()?))).collect();
        for name in sets.iter().flat_map(|(_, _, emits)| emits.sources()).filter(|_| self.is_final) {
            let watermark = watermarks.remove(name).unwrap_or_default();
            if !watermark.is_final {
                moved.insert(name.to_owned(), watermark.clone().ended());
            }
            watermarks.insert(name.to_owned(), watermark.ended());
        }
        let mut due = Vec::new();
        for (at, set, _) in sets {
            if Emission::find(&self.loaded, set, history, &watermarks)?.is_due() {
                due.push(at);
            }
        }
        if due.is_empty() && moved.is_empty() {
            return Ok(());
        }
        let mut assignment = discovered.closing(&self.loaded, due);
        assignment.watermarks = moved;
        self.add_emissions(&mut assignment)?;
        self.commit_epoch(&assignment).await
    }

    /// Refuses a last run of a pipeline that has no windows to close.
    fn check_final(&self) -> Result<()> {
        if !self.is_final || self.loaded.plan.sets.iter().any(|set| set.emits().is_some()) {
            return Ok(());
        }
        let name = self.loaded.parsed.name();
        let message = format!(
            "`--final` closes windows, but no feature set of `{name}` says `EMIT ON WINDOW CLOSE`: its sets show all that is \
             read after any run"
        );
        Err(Error::Unknown { message })
    }

    /// Makes one epoch exist, trying again where the world may come back.
    async fn commit_epoch(&mut self, assignment: &Assignment) -> Result<()> {
        let started_at = self.host.now_micros();
        for source in &self.loaded.sources {
            source.begin_epoch()?;
        }
        let mut attempt = 0;
        loop {
            let span = info_span!("epoch", epoch = self.writer.next_epoch().0);
            match self.attempt(assignment, attempt, started_at).instrument(span).await {
                Err(error) if self.is_worth_repeating(&error) && attempt + 1 < ATTEMPTS_MAX => {
                    warn!(attempt, error = load::error_chain(&error), "epoch abandoned, trying again");
                    self.progress.show(&format!("the epoch failed and is tried again: {error}"));
                    self.progress.tell(Observer::retries);
                    attempt += 1;
                    unless_cancelled(self.cancel, self.host.sleep(back_off(attempt)).map(Ok)).await?;
                }
                result => return result,
            }
        }
    }

    /// One attempt at an epoch. One that fails takes back what it wrote: who globs the folder of a set would see it.
    async fn attempt(&mut self, assignment: &Assignment, attempt: u32, started_at: i64) -> Result<()> {
        let epoch = self.writer.next_epoch();
        let tried = Box::pin(self.try_epoch(assignment, attempt, started_at)).await;
        self.given_up = tried.is_err().then_some(epoch);
        if tried.is_err() {
            // What arrives late, or cannot be deleted now, is left to the sweep at the end.
            self.is_untidy = true;
            // Files of a merge that is under way look the same.
            self.abandon_step().await;
            if let Err(error) = self.writer.discard_attempts(&self.places(&[])).await {
                warn!(epoch = epoch.0, %error, "could not remove what an attempt wrote");
            }
        }
        tried
    }

    /// Where the world may come back; but not where an epoch may have been committed, which only opening anew finds out.
    fn is_worth_repeating(&self, error: &Error) -> bool {
        error.kind() == ErrorKind::Unavailable && self.writer.may_commit()
    }

    /// The error of a run that the user stopped, with what became of it; any other error as it is.
    fn told(&self, error: Error) -> Error {
        if !matches!(error, Error::Interrupted { .. }) {
            return error;
        }
        let last = self.writer.next_epoch().0 - 1;
        let committed = match self.tally.epochs() {
            0 => "this run committed nothing".to_owned(),
            epochs => format!("{} of this run committed, the last is epoch {last}", plural(epochs, "epoch")),
        };
        let what = match self.given_up {
            Some(epoch) => format!("epoch {epoch} was given up; {committed}"),
            None => committed,
        };
        Error::Interrupted { what }
    }
}

/// How often a run for ever looks for what is new, where its definition does not say: every second where a commit is cheap,
/// which it is on local disk, unless a snapshot set is then written anew each time.
fn pace(loaded: &Loaded) -> Duration {
    let settings = &loaded.parsed.settings;
    let mut places = loaded.parsed.sets.iter().map(|set| &set.location).chain([&settings.state]);
    let is_local = places.all(|location| location.local_folder().is_some());
    let is_cheap =
        is_local && loaded.plan.sets.iter().all(|set| set.kind == SetKind::Append || set.emit_every.is_some());
    settings.epoch_age.unwrap_or(Duration::from_secs(if is_cheap { 1 } else { 10 }))
}

/// Does `work`, unless the user stops the run before it is done.
async fn unless_cancelled<T>(cancel: &CancellationToken, work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::select! {
        biased;
        () = cancel.cancelled() => Err(interrupted()),
        done = work => done,
    }
}

/// How long to wait before an attempt: a little longer each time.
fn back_off(attempt: u32) -> Duration {
    Duration::from_millis(500) * 2_u32.pow(attempt)
}

/// The error of a run that the user stopped before it had opened the pipeline; [`Run::told`] says more of a later one.
fn interrupted() -> Error {
    Error::Interrupted { what: "nothing was read and no row was written".to_owned() }
}
