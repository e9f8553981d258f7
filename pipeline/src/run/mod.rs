//! A bounded run: one epoch after another until the sources are drained.
//!
//! ```text
//! open      lock, claim an epoch, sweep what no manifest names          (recover.rs)
//! discover  list every log once, take every table's version             (discovery.rs)
//! append    slice ─► epoch ─► commit, until the listings are empty      (epoch.rs, set.rs, intake.rs)
//! snapshot  one more epoch for the sets that are computed over everything
//! ```
//!
//! One task owns all of it; a run that is killed at any point leaves only what the next run's sweep removes.

mod delta;
mod discovery;
mod epoch;
mod fingerprint;
mod intake;
pub(crate) mod preview;
mod recover;
mod set;
mod summary;

use std::sync::Arc;

use bessemer_connectors::manifest_store::{EpochWriter, ManifestStore, ReplacedFiles};
use bessemer_schemas::ErrorKind;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::error::{Error, Result};
use crate::load::{self, Loaded, Parsed};
use crate::progress::Progress;
use discovery::Discovered;
use epoch::Assignment;
pub(crate) use summary::RunSummary;
use summary::Tally;

/// Attempts at one epoch where the world does not answer; the clients of the stores have retried before that.
const ATTEMPTS_MAX: u32 = 3;

/// What the command line says about a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RunOptions {
    /// A new append set leaves out what its source has already given.
    pub(crate) from_now: bool,
}

/// A run in progress: the one owner of the pipeline.
#[derive(Debug)]
struct Run<'a> {
    loaded: Arc<Loaded>,
    store: ManifestStore,
    writer: EpochWriter,
    progress: &'a Progress,
    cancel: &'a CancellationToken,
    tally: Tally,
    /// Files that commits of this run put out of force; they go when the run ends.
    replaced: Vec<ReplacedFiles>,
}

/// Runs a pipeline until its sources are drained.
pub(crate) async fn run(
    parsed: Parsed,
    options: RunOptions,
    progress: &Progress,
    cancel: &CancellationToken,
) -> Result<RunSummary> {
    let started_at = now_micros();
    for warning in &parsed.warnings {
        progress.say(&bessemer_sql::render(warning, &parsed.definition.files));
    }
    let store = ManifestStore::new(parsed.settings.state.clone(), parsed.name());
    progress.phase("planning");
    let recorded = store.newest().await?;
    let loaded = Arc::new(load::load(parsed, recorded.as_ref().map(|manifest| manifest.writer.partitions)).await?);
    let mut run = Run::open(loaded, store, options, progress, cancel).await?;
    run.recover().await?;
    progress.phase("listing");
    let discovered = Discovered::find(&run.loaded, run.writer.history()).await?;
    run.drain(discovered).await?;
    run.publish().await?;
    run.tally.into_summary(&run.loaded, run.writer.history(), started_at).await
}

impl Run<'_> {
    /// Takes one epoch after another, then the snapshot sets.
    async fn drain(&mut self, mut discovered: Discovered) -> Result<()> {
        while let Some(assignment) = discovered.next_append(&self.loaded).await? {
            self.commit_epoch(&assignment).await?;
        }
        if let Some(assignment) = discovered.snapshot(&self.loaded, self.writer.history()).await? {
            self.commit_epoch(&assignment).await?;
        }
        Ok(())
    }

    /// Makes one epoch exist, trying again where the world may come back.
    async fn commit_epoch(&mut self, assignment: &Assignment) -> Result<()> {
        let started_at = now_micros();
        let mut attempt = 0;
        loop {
            match self.try_epoch(assignment, attempt, started_at).await {
                Err(error) if error.kind() == ErrorKind::Unavailable && attempt + 1 < ATTEMPTS_MAX => {
                    warn!(attempt, %error, "epoch abandoned, trying again");
                    self.progress.say(&format!("the epoch failed and is tried again: {error}"));
                    attempt += 1;
                    back_off(attempt).await;
                }
                result => return result,
            }
        }
    }
}

/// Waits a little longer before each attempt.
async fn back_off(attempt: u32) {
    #[expect(clippy::disallowed_methods, reason = "the one retry loop of a run")]
    tokio::time::sleep(std::time::Duration::from_millis(500) * 2_u32.pow(attempt)).await;
}

/// Microseconds since 1970, UTC: for people who read manifests; nothing depends on it.
#[expect(clippy::disallowed_methods, reason = "the epoch loop is where the time is taken")]
pub(crate) fn now_micros() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// The error of a run that the user stopped.
fn interrupted() -> Error {
    Error::Interrupted { what: "the epoch in flight was given up; what was committed before stays".to_owned() }
}
