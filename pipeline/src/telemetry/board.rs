//! Where the tasks of a daemon tell what they do.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

#[cfg(feature = "kafka")]
use bessemer_connectors::kafka::PartitionEnd;
use bessemer_connectors::manifest_store::History;
use bessemer_schemas::{Manifest, OffsetRange};
use tokio::sync::watch;

use super::pipeline::{Phase, Pipeline};
use crate::host::{Host, Machine};
use crate::load::Loaded;

/// What is known of a daemon, for whoever asks. Cloning shares it.
#[derive(Debug, Clone)]
pub(crate) struct Board(watch::Sender<State>);

/// What is on the board.
#[derive(Debug)]
pub(super) struct State {
    /// When the daemon began, microseconds since 1970, UTC.
    pub(super) started_at: i64,
    /// When the daemon's own task last did something; at first it has not.
    pub(super) alive_at: Option<Instant>,
    /// Whether a server answers from it.
    pub(super) is_served: bool,
    pub(super) is_stopping: bool,
    /// By name.
    pub(super) pipelines: BTreeMap<String, Pipeline>,
    /// Files that cannot be run as they are, with the reason; the version from before may run.
    pub(super) refused: BTreeMap<String, String>,
}

impl Board {
    /// An empty one.
    pub(crate) fn new() -> Self {
        let (pipelines, refused) = Default::default();
        let started_at = Machine.now_micros();
        let state = State { started_at, alive_at: None, is_served: false, is_stopping: false, pipelines, refused };
        Self(watch::Sender::new(state))
    }

    /// A server answers from it from now on.
    pub(super) fn serve(&self) {
        self.0.send_modify(|state| state.is_served = true);
    }

    /// A pipeline starts, perhaps again: its counters go on.
    pub(crate) fn start(&self, name: &str, path: &Path) -> Observer {
        self.0.send_modify(|state| {
            let path = path.display().to_string();
            state.refused.remove(&path);
            state.pipelines.retain(|other, pipeline| other == name || pipeline.path != path);
            let pipeline = state.pipelines.entry(name.to_owned()).or_default();
            (pipeline.path, pipeline.phase) = (path, Phase::Starting);
        });
        Observer { name: Arc::from(name), board: self.clone() }
    }

    /// A file is no pipeline as it is.
    pub(crate) fn refuse(&self, path: &Path, reason: String) {
        self.0.send_modify(|state| drop(state.refused.insert(path.display().to_string(), reason)));
    }

    /// A file is what it was when its pipeline was started.
    pub(crate) fn accept(&self, path: &Path) {
        self.0.send_modify(|state| drop(state.refused.remove(&path.display().to_string())));
    }

    /// The daemon's own task goes on, whatever it finds.
    pub(crate) fn beat(&self) {
        self.0.send_modify(|state| state.alive_at = Some(Instant::now()));
    }

    /// The daemon saw `paths` in its folder: what is gone is forgotten.
    pub(crate) fn saw(&self, paths: &[&Path]) {
        self.0.send_modify(|state| {
            let is_there = |path: &str| paths.contains(&Path::new(path));
            state.refused.retain(|path, _| is_there(path));
            state.pipelines.retain(|_, pipeline| is_there(&pipeline.path));
        });
    }

    /// The daemon is asked to stop.
    pub(crate) fn stop(&self) {
        self.0.send_modify(|state| state.is_stopping = true);
    }

    pub(super) fn state(&self) -> watch::Ref<'_, State> {
        self.0.borrow()
    }
}

/// Whom the task of one pipeline tells what it does. Cloning shares it.
#[derive(Debug, Clone)]
pub(crate) struct Observer {
    name: Arc<str>,
    board: Board,
}

impl Observer {
    /// The pipeline's phase changed.
    pub(crate) fn phase(&self, phase: Phase) {
        self.update(|pipeline| pipeline.phase = phase);
    }

    /// A broker or a store did not answer: the pipeline is opened again.
    pub(crate) fn backs_off(&self, reason: String) {
        self.update(|pipeline| {
            pipeline.restarts += 1;
            pipeline.phase = Phase::BackingOff { reason };
        });
    }

    /// A run of the pipeline ended by a fault that trying again does not mend.
    pub(crate) fn fails(&self) {
        self.update(|pipeline| pipeline.failures += 1);
    }

    /// The pipeline was opened, on what was committed before.
    pub(crate) fn opened(&self, loaded: &Loaded, history: &History) {
        self.update(|pipeline| pipeline.opened(loaded, history));
    }

    /// The sources were looked at; of those that are topics, what is not committed.
    pub(crate) fn discovered<'a>(&self, unread: impl Iterator<Item = (&'a str, &'a [OffsetRange])>) {
        self.update(|pipeline| pipeline.discovered(unread, Machine.now_micros()));
    }

    /// An epoch was committed.
    pub(crate) fn committed(&self, manifest: &Manifest) {
        self.update(|pipeline| pipeline.committed(manifest, Machine.now_micros()));
    }

    /// Whether no run of the daemon is there that would tell what it commits.
    #[cfg(feature = "kafka")]
    pub(crate) fn is_at_rest(&self) -> bool {
        self.board.0.borrow().pipelines.get(&*self.name).is_some_and(Pipeline::is_at_rest)
    }

    /// What is committed of `sources` by now, before the daemon began or beside it, while it is at rest.
    #[cfg(feature = "kafka")]
    pub(crate) fn committed_so_far<'a>(&self, sources: impl Iterator<Item = &'a str>, history: &History) {
        self.update(|pipeline| pipeline.committed_so_far(sources, history));
    }

    /// The brokers said where the partitions of a source end.
    #[cfg(feature = "kafka")]
    pub(crate) fn ended(&self, source: &str, ends: &[PartitionEnd]) {
        self.update(|pipeline| {
            if let Some(source) = pipeline.sources.get_mut(source) {
                source.ended(ends, Machine.now_micros());
            }
        });
    }

    /// Whether somebody may ask what it is told.
    #[cfg(feature = "kafka")]
    pub(crate) fn is_asked(&self) -> bool {
        self.board.0.borrow().is_served
    }

    /// An attempt at an epoch failed and is made again.
    pub(crate) fn retries(&self) {
        self.update(|pipeline| pipeline.retries += 1);
    }

    fn update(&self, change: impl FnOnce(&mut Pipeline)) {
        // One that was taken away meanwhile is not put back.
        self.board.0.send_if_modified(|state| state.pipelines.get_mut(&*self.name).map(change).is_some());
    }
}
