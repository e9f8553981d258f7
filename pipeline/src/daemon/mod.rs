//! `daemon`: the pipelines of a folder, for ever.
//!
//! ```text
//! folder ──► what there is now: one pipeline a file ──► start, restart, stop      (folder.rs, here)
//! each pipeline ──► a task that owns it: it listens, and carries out              (supervise.rs)
//!                   what its agenda orders: times, attempts, pauses               (agenda.rs)
//! ```
//!
//! A pipeline that stops for a reason that will not go away leaves the others running. One task owns the list; it is
//! told what happens by the folder's clock and by the tasks that end.

mod agenda;
mod folder;
#[cfg(feature = "kafka")]
mod lag;
mod supervise;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bessemer_transforms::ProcessMemory;
use tokio::task::{Id, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, error, info, info_span, warn};

use self::folder::{Fingerprint, Found};
use self::supervise::Supervised;
use crate::error::{Error, Result};
use crate::load::{self, Parsed};
use crate::progress::Progress;
use crate::sql_files;
use crate::telemetry::{Board, Observer, Phase};

/// How often the folder is looked at.
const FOLDER_PERIOD: Duration = Duration::from_secs(1);

/// A pipeline that runs.
struct Running {
    name: String,
    observer: Observer,
    /// The text that it was started from.
    started_from: Fingerprint,
    /// The text that was looked at last, good or not.
    seen: Fingerprint,
    task: Id,
    cancel: CancellationToken,
}

/// A file that is not run.
struct Refused {
    text: Fingerprint,
    /// The name that it asks for, and the file that has it.
    taken: Option<(String, PathBuf)>,
}

/// How the daemon is run.
#[derive(Debug, Clone)]
pub(crate) struct DaemonOptions {
    /// A folder of pipelines, or one of them.
    pub(crate) folder: PathBuf,
    /// Memory for the operators of all pipelines together.
    pub(crate) memory: ProcessMemory,
    /// How long pipelines may take to end after a signal.
    pub(crate) shutdown_timeout: Duration,
    /// Where pipelines tell what they do.
    pub(crate) board: Board,
}

/// The daemon's one owner.
struct Daemon<'a> {
    options: &'a DaemonOptions,
    cancel: CancellationToken,
    running: BTreeMap<PathBuf, Running>,
    /// Files that cannot be run as they are, so that each is told once.
    refused: BTreeMap<PathBuf, Refused>,
    tasks: JoinSet<Result<()>>,
}

/// Runs the pipelines of a folder until `cancel`. Fails at once if there is none that can run; later faults stop the
/// pipeline that has them, and are said.
/// What there is to know of them is on the board.
pub(crate) async fn serve(options: &DaemonOptions, cancel: CancellationToken) -> Result<()> {
    let (running, refused) = Default::default();
    let mut daemon = Daemon { options, cancel, running, refused, tasks: JoinSet::new() };
    daemon.begin()?;
    let mut clock = tokio::time::interval(FOLDER_PERIOD);
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = daemon.cancel.cancelled() => break,
            Some(ended) = daemon.tasks.join_next_with_id() => daemon.ended(ended),
            _ = clock.tick() => daemon.look(),
        }
    }
    daemon.stop().await;
    Ok(())
}

impl Daemon<'_> {
    /// The first look: everything that is wrong is told together, and nothing starts unless all is well.
    fn begin(&mut self) -> Result<()> {
        let found = folder::find(&self.options.folder)?;
        if found.is_empty() {
            return Err(sql_files::none_at(&self.options.folder));
        }
        let mut parsed = Vec::new();
        let mut first_error = None;
        for found in found {
            match load::parse(&found.paths) {
                Ok(pipeline) => parsed.push((found, pipeline)),
                Err(error) if first_error.is_none() => first_error = Some(error),
                Err(error) => say(&found.path, &error),
            }
        }
        if let Some(error) = first_error {
            return Err(error);
        }
        for (found, pipeline) in parsed {
            if let Some(other) = self.owner_of(pipeline.name()) {
                let message = format!(
                    "`{}` and `{}` are both pipeline `{}`: give one of them another name with `CREATE PIPELINE`",
                    other.display(),
                    found.path.display(),
                    pipeline.name()
                );
                return Err(Error::Unknown { message });
            }
            self.start(found, &pipeline);
        }
        Ok(())
    }

    /// Looks at the folder again: what is new starts, what is gone stops, what changed is checked and then restarted.
    fn look(&mut self) {
        self.options.board.beat();
        // A folder that cannot be read for a moment is no reason to stop what runs.
        let Ok(mut found) = folder::find(&self.options.folder) else { return };
        self.options.board.saw(&found.iter().map(|found| found.path.as_path()).collect::<Vec<_>>());
        for (path, running) in &self.running {
            if !found.iter().any(|found| found.path == *path) && !running.cancel.is_cancelled() {
                info!(pipeline = running.name, path = %path.display(), "the file is gone, stopping");
                running.cancel.cancel();
            }
        }
        self.refused.retain(|path, _| found.iter().any(|found| found.path == *path));
        // One that restarts keeps its name: those that wait for a name come last.
        found.sort_by_key(|found| self.refused.contains_key(&found.path));
        for found in found {
            let is_refused = self.is_refused(&found);
            match self.running.get_mut(&found.path) {
                Some(running) if running.seen == found.fingerprint => {}
                Some(running) => {
                    running.seen = found.fingerprint.clone();
                    match load::parse(&found.paths) {
                        Ok(_) if running.started_from == found.fingerprint => self.options.board.accept(&found.path),
                        Ok(_) => {
                            running.observer.phase(Phase::Starting);
                            info!(pipeline = running.name, path = %found.path.display(), "the file changed, restarting");
                            // It is started anew by the next look, once it has ended.
                            running.cancel.cancel();
                        }
                        Err(error) => {
                            say(&found.path, &error);
                            self.options.board.refuse(&found.path, error.brief());
                            warn!(pipeline = running.name, "the version from before goes on");
                        }
                    }
                }
                None if is_refused => {}
                None => self.try_start(found),
            }
        }
    }

    /// Whether nothing has changed since the file was refused; a name that was taken may be free again.
    fn is_refused(&self, found: &Found) -> bool {
        self.refused.get(&found.path).is_some_and(|refused| {
            let is_taken = |(name, path): &(String, PathBuf)| {
                self.refused.contains_key(path) || self.running.get(path).is_some_and(|other| other.name == *name)
            };
            refused.text == found.fingerprint && refused.taken.as_ref().is_none_or(is_taken)
        })
    }

    fn try_start(&mut self, found: Found) {
        let mut taken = None;
        let reason = match load::parse(&found.paths) {
            Ok(pipeline) => match self.owner_of(pipeline.name()).map(Path::to_owned) {
                // A file that was renamed, most likely: the next look starts it.
                Some(other) if self.running[&other].cancel.is_cancelled() => return,
                Some(other) => {
                    let reason = format!("`{}` is pipeline `{}` already", other.display(), pipeline.name());
                    error!(path = %found.path.display(), "not started: {reason}");
                    taken = Some((pipeline.name().to_owned(), other));
                    reason
                }
                None => return self.start(found, &pipeline),
            },
            Err(error) => {
                say(&found.path, &error);
                error.brief()
            }
        };
        self.options.board.refuse(&found.path, reason);
        self.refused.insert(found.path, Refused { text: found.fingerprint, taken });
    }

    fn owner_of(&self, name: &str) -> Option<&Path> {
        self.running.iter().find(|(_, running)| running.name == name).map(|(path, _)| path.as_path())
    }

    fn start(&mut self, found: Found, pipeline: &Parsed) {
        let name = pipeline.name().to_owned();
        let cancel = self.cancel.child_token();
        let observer = self.options.board.start(&name, &found.path);
        let progress = Progress::observed(&observer);
        let span = info_span!("pipeline", pipeline = name);
        info!(parent: &span, path = %found.path.display(), "started");
        let files = pipeline.definition.files.0.clone();
        let (memory, cancelled) = (self.options.memory.clone(), cancel.clone());
        let supervised = Supervised { files, progress, observer: observer.clone(), memory, cancel: cancelled };
        let task = self.tasks.spawn(supervise::supervise(supervised).instrument(span)).id();
        self.refused.remove(&found.path);
        let (started_from, seen) = (found.fingerprint.clone(), found.fingerprint);
        self.running.insert(found.path, Running { name, observer, started_from, seen, task, cancel });
    }

    /// A pipeline has ended: asked to, or by a fault that trying again does not mend.
    fn ended(&mut self, ended: std::result::Result<(Id, Result<()>), tokio::task::JoinError>) {
        let (task, result) = match ended {
            Ok((task, result)) => (task, result),
            Err(error) => {
                let message = format!("a pipeline's task ended early: {error}");
                (error.id(), Err(Error::Internal { message }))
            }
        };
        let Some(path) = self.running.iter().find(|(_, running)| running.task == task).map(|(path, _)| path.clone())
        else {
            return;
        };
        let Some(running) = self.running.remove(&path) else { return };
        match result {
            Ok(()) => info!(pipeline = running.name, "stopped"),
            Err(error) => {
                say(&path, &error);
                running.observer.phase(Phase::Failed { reason: error.brief() });
                // One that was cancelled is to start anew, or is gone.
                if !running.cancel.is_cancelled() {
                    error!(pipeline = running.name, "stopped; it starts again when its file changes");
                    self.refused.insert(path, Refused { text: running.started_from, taken: None });
                }
            }
        }
    }

    /// Waits until every pipeline has given up or committed its epoch, but no longer than it was told. One that is left
    /// behind is left as by a crash: what it has not committed is swept and read again by the next run.
    async fn stop(mut self) {
        self.options.board.stop();
        let ended = tokio::time::timeout(self.options.shutdown_timeout, async {
            while let Some(ended) = self.tasks.join_next_with_id().await {
                self.ended(ended);
            }
        })
        .await;
        if ended.is_err() {
            for running in self.running.values() {
                warn!(
                    pipeline = running.name,
                    "did not end within {:?}, and is left as it is: nothing is lost, the next run goes on from its last \
                     epoch",
                    self.options.shutdown_timeout
                );
            }
        }
    }
}

/// Says an error of the pipeline at `path`.
fn say(path: &Path, error: &Error) {
    error!("`{}` cannot be run as it is\n{}", path.display(), crate::described(error));
}
