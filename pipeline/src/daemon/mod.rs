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
mod supervise;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bessemer_transforms::ProcessMemory;
use tokio::task::{Id, JoinSet};
use tokio_util::sync::CancellationToken;

use self::folder::{Fingerprint, Found};
use self::supervise::Supervised;
use crate::error::{Error, Result};
use crate::load::{self, Parsed};
use crate::output;
use crate::progress::Progress;

/// How often the folder is looked at.
const FOLDER_PERIOD: Duration = Duration::from_secs(1);

/// A pipeline that runs.
struct Running {
    name: String,
    /// The text that it was started from.
    started_from: Fingerprint,
    /// The text that was looked at last, good or not.
    seen: Fingerprint,
    task: Id,
    cancel: CancellationToken,
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
}

/// The daemon's one owner.
struct Daemon<'a> {
    options: &'a DaemonOptions,
    cancel: CancellationToken,
    running: BTreeMap<PathBuf, Running>,
    /// Files that cannot be run as they are, so that each is told once.
    refused: BTreeMap<PathBuf, Fingerprint>,
    tasks: JoinSet<Result<()>>,
}

/// Runs the pipelines of a folder until `cancel`. Fails at once if there is none that can run; later faults stop the
/// pipeline that has them, and are said.
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
            return Err(Error::NoPipeline { path: self.options.folder.clone() });
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
        // A folder that cannot be read for a moment is no reason to stop what runs.
        let Ok(found) = folder::find(&self.options.folder) else { return };
        for (path, running) in &self.running {
            if !found.iter().any(|found| found.path == *path) && !running.cancel.is_cancelled() {
                output::note(format!("{}: `{}` is gone, stopping", running.name, path.display()));
                running.cancel.cancel();
            }
        }
        self.refused.retain(|path, _| found.iter().any(|found| found.path == *path));
        for found in found {
            match self.running.get_mut(&found.path) {
                Some(running) if running.seen == found.fingerprint => {}
                Some(running) => {
                    running.seen = found.fingerprint.clone();
                    match load::parse(&found.paths) {
                        Ok(_) if running.started_from == found.fingerprint => {}
                        Ok(_) => {
                            output::note(format!("{}: `{}` changed, restarting", running.name, found.path.display()));
                            // It is started anew by the next look, once it has ended.
                            running.cancel.cancel();
                        }
                        Err(error) => {
                            say(&found.path, &error);
                            output::note(format!("{}: the version from before goes on", running.name));
                        }
                    }
                }
                None if self.refused.get(&found.path) == Some(&found.fingerprint) => {}
                None => self.try_start(found),
            }
        }
    }

    fn try_start(&mut self, found: Found) {
        let refused = match load::parse(&found.paths) {
            Ok(pipeline) => match self.owner_of(pipeline.name()) {
                Some(other) => {
                    let (other, name) = (other.display().to_string(), pipeline.name());
                    output::note(format!(
                        "`{}` is not started: `{other}` is pipeline `{name}` already",
                        found.path.display()
                    ));
                    true
                }
                None => {
                    self.start(found.clone(), &pipeline);
                    false
                }
            },
            Err(error) => {
                say(&found.path, &error);
                true
            }
        };
        if refused {
            self.refused.insert(found.path, found.fingerprint);
        }
    }

    fn owner_of(&self, name: &str) -> Option<&Path> {
        self.running.iter().find(|(_, running)| running.name == name).map(|(path, _)| path.as_path())
    }

    fn start(&mut self, found: Found, pipeline: &Parsed) {
        let name = pipeline.name().to_owned();
        let cancel = self.cancel.child_token();
        let progress = Progress::lines(&name);
        progress.say(&format!("started from `{}`", found.path.display()));
        let files = pipeline.definition.files.0.clone();
        let supervised = Supervised { files, progress, memory: self.options.memory.clone(), cancel: cancel.clone() };
        let task = self.tasks.spawn(supervise::supervise(supervised)).id();
        let (started_from, seen) = (found.fingerprint.clone(), found.fingerprint);
        self.running.insert(found.path, Running { name, started_from, seen, task, cancel });
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
            Ok(()) => output::note(format!("{}: stopped", running.name)),
            Err(error) => {
                say(&path, &error);
                if !running.cancel.is_cancelled() {
                    let path = path.display();
                    output::note(format!("{}: stopped; it starts again when `{path}` changes", running.name));
                }
                self.refused.insert(path, running.seen);
            }
        }
    }

    /// Waits until every pipeline has given up or committed its epoch, but no longer than it was told. One that is left
    /// behind is left as by a crash: what it has not committed is swept and read again by the next run.
    async fn stop(mut self) {
        let ended = tokio::time::timeout(self.options.shutdown_timeout, async {
            while let Some(ended) = self.tasks.join_next_with_id().await {
                self.ended(ended);
            }
        })
        .await;
        if ended.is_err() {
            for running in self.running.values() {
                output::note(format!(
                    "{}: did not end within {:?}, and is left as it is: nothing is lost, the next run goes on from its \
                     last epoch",
                    running.name, self.options.shutdown_timeout
                ));
            }
        }
    }
}

/// Says an error of the pipeline at `path`.
fn say(path: &Path, error: &Error) {
    output::note(format!("`{}`:", path.display()));
    crate::report(error);
}
