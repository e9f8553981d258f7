//! What is known of one pipeline: what its epochs came to, since the daemon began, and where its sources stand.

use std::collections::BTreeMap;
use std::sync::Arc;

#[cfg(feature = "kafka")]
use bessemer_connectors::kafka::PartitionEnd;
use bessemer_connectors::manifest_store::History;
use bessemer_schemas::{Manifest, ManifestKind, OffsetRange, SetLedger, SourceLedger, SourceSlice};
use datafusion::execution::memory_pool::MemoryPool;

use super::metric::Histogram;
use crate::load::Loaded;

/// What a pipeline is doing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Phase {
    /// It is being opened, or has not looked at its sources yet.
    #[default]
    Starting,
    /// It takes what comes.
    Running,
    /// It waits for a time of its schedule.
    Waiting,
    /// A user asked it to begin no epoch.
    Paused,
    /// A broker or a store did not answer; it is opened again soon.
    BackingOff {
        /// What went wrong.
        reason: String,
    },
    /// It stopped, and starts again when its file changes.
    Failed {
        /// Why.
        reason: String,
    },
}

impl Phase {
    /// Every name.
    pub(super) const NAMES: [&str; 6] = ["starting", "running", "waiting", "paused", "backing_off", "failed"];

    /// Its name as a label.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Paused => "paused",
            Self::BackingOff { .. } => "backing_off",
            Self::Failed { .. } => "failed",
        }
    }

    /// Why the pipeline is not ready; `None` where it is.
    pub(super) fn trouble(&self) -> Option<String> {
        match self {
            Self::Running | Self::Waiting | Self::Paused => None,
            Self::Starting => Some("has not looked at its sources yet".to_owned()),
            Self::BackingOff { reason } => Some(format!("is tried again: {reason}")),
            Self::Failed { reason } => Some(format!("stopped: {reason}")),
        }
    }
}

/// A pipeline.
#[derive(Debug, Default)]
pub(super) struct Pipeline {
    pub(super) path: String,
    pub(super) phase: Phase,
    pub(super) restarts: u64,
    pub(super) failures: u64,
    pub(super) epochs: u64,
    pub(super) retries: u64,
    /// The last epoch, and when it was committed.
    pub(super) newest: Option<(u64, i64)>,
    pub(super) duration: Histogram,
    /// When the sources were looked at, microseconds since 1970, UTC.
    pub(super) discovered_at: Option<i64>,
    pub(super) sources: BTreeMap<String, SourceState>,
    pub(super) sets: BTreeMap<String, SetState>,
    /// What its queries hold.
    pub(super) memory: Option<Arc<dyn MemoryPool>>,
}

/// A source.
#[derive(Debug, Default)]
pub(super) struct SourceState {
    /// Since the daemon began.
    pub(super) ledger: SourceLedger,
    /// What of each partition is not committed.
    pub(super) unread: Vec<OffsetRange>,
    /// When the brokers last said where partitions end, microseconds since 1970, UTC.
    pub(super) asked_at: Option<i64>,
    /// The newest event time ever committed.
    pub(super) event_time: Option<i64>,
}

/// A feature set, since the daemon began.
#[derive(Debug, Default)]
pub(super) struct SetState {
    pub(super) ledger: SetLedger,
    pub(super) files: u64,
    pub(super) bytes: u64,
    /// By expectation and action.
    pub(super) violations: BTreeMap<(String, String), u64>,
}

impl Pipeline {
    /// It was opened: counters are there from now on, at zero.
    pub(super) fn opened(&mut self, loaded: &Loaded, history: &History) {
        let totals = history.source_totals();
        self.sources.retain(|name, _| loaded.sources.iter().any(|source| source.name() == name));
        for source in &loaded.sources {
            let state = self.sources.entry(source.name().to_owned()).or_default();
            state.event_time = totals.get(source.name()).and_then(|ledger| ledger.event_time_max);
        }
        self.sets.retain(|name, _| loaded.plan.sets.iter().any(|set| set.name == *name));
        for set in &loaded.plan.sets {
            self.sets.entry(set.name.clone()).or_default();
        }
        self.newest = history.newest().map(|manifest| (manifest.epoch.0, manifest.committed_at));
        self.memory = Some(Arc::clone(&loaded.session.runtime_env().memory_pool));
    }

    /// The sources were looked at; of those that are topics, what is not committed.
    pub(super) fn discovered<'a>(&mut self, unread: impl Iterator<Item = (&'a str, &'a [OffsetRange])>, at: i64) {
        for (source, ranges) in unread {
            let state = self.sources.entry(source.to_owned()).or_default();
            (state.unread, state.asked_at) = (ranges.to_vec(), Some(at));
        }
        self.discovered_at = Some(at);
        self.phase = Phase::Running;
    }

    /// An epoch was committed, `now`.
    pub(super) fn committed(&mut self, manifest: &Manifest, now: i64) {
        self.newest = Some((manifest.epoch.0, manifest.committed_at));
        // A compaction is made beside the others, and takes as long as it likes.
        if manifest.kind != ManifestKind::Compaction {
            self.epochs += 1;
            self.duration.observe((now - manifest.started_at).max(0) as f64 / 1e6);
        }
        for (name, ledger) in &manifest.sources {
            let state = self.sources.entry(name.clone()).or_default();
            state.ledger.add(ledger);
            state.event_time = state.event_time.max(ledger.event_time_max);
        }
        for (name, slice) in &manifest.slice.sources {
            let SourceSlice::Kafka { ranges } = slice else { continue };
            self.sources.entry(name.clone()).or_default().read(ranges);
        }
        for (name, commit) in &manifest.sets {
            let state = self.sets.entry(name.clone()).or_default();
            state.ledger.add(&commit.ledger);
            state.files += commit.files.added.len() as u64;
            state.bytes += commit.files.added.iter().map(|file| file.bytes).sum::<u64>();
            for result in &commit.expectations {
                let key = (result.name.clone(), result.action.clone());
                *state.violations.entry(key).or_default() += result.violations;
            }
        }
    }
}

#[cfg(feature = "kafka")]
impl Pipeline {
    /// Whether no run of the daemon is there that would tell what it commits.
    pub(super) fn is_at_rest(&self) -> bool {
        self.phase != Phase::Running
    }

    /// What is committed of `sources` by now, whoever did it. A run of the daemon knows better.
    pub(super) fn committed_so_far<'a>(&mut self, sources: impl Iterator<Item = &'a str>, history: &History) {
        if !self.is_at_rest() {
            return;
        }
        let totals = history.source_totals();
        for name in sources {
            let state = self.sources.entry(name.to_owned()).or_default();
            state.read(&history.offsets_read(name));
            state.event_time = totals.get(name).and_then(|ledger| ledger.event_time_max);
        }
        self.newest = history.newest().map(|manifest| (manifest.epoch.0, manifest.committed_at));
    }
}

impl SourceState {
    /// The brokers said where partitions end: what is known is of this moment only if they said it of every one. One that was not discovered yet has no beginning to measure from.
    #[cfg(feature = "kafka")]
    pub(super) fn ended(&mut self, ends: &[PartitionEnd], at: i64) {
        let mut all_answered = true;
        for unread in &mut self.unread {
            let is_same = |end: &&PartitionEnd| (&end.topic, end.partition) == (&unread.topic, unread.partition);
            match ends.iter().find(is_same) {
                Some(found) => unread.end = found.end.max(unread.start),
                None => all_answered = false,
            }
        }
        if all_answered {
            self.asked_at = Some(at);
        }
    }

    /// It was read up to the ends of `ranges`.
    pub(super) fn read(&mut self, ranges: &[OffsetRange]) {
        for range in ranges {
            let is_same =
                |unread: &&mut OffsetRange| (&unread.topic, unread.partition) == (&range.topic, range.partition);
            match self.unread.iter_mut().find(is_same) {
                Some(unread) => {
                    unread.start = range.end;
                    unread.end = unread.end.max(range.end);
                }
                None => self.unread.push(OffsetRange { start: range.end, ..range.clone() }),
            }
        }
    }

    /// Offsets of all partitions that are not committed; `None` where nothing is known of any, or the brokers have not said
    /// yet where they end.
    pub(super) fn lag(&self) -> Option<u64> {
        self.asked_at?;
        (!self.unread.is_empty()).then(|| self.unread.iter().map(OffsetRange::offsets).sum())
    }

    /// Seconds that the newest committed event time is behind `now`; 0 where everything is committed.
    pub(super) fn event_time_lag(&self, now: i64) -> Option<f64> {
        match (self.lag()?, self.event_time) {
            (0, _) => Some(0.0),
            (_, Some(newest)) => Some((now.saturating_sub(newest)).max(0) as f64 / 1e6),
            (_, None) => None,
        }
    }
}
