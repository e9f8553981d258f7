//! What is kept of a run, and what users and the daemon tell each other about a pipeline. Their JSON forms lie beside the
//! manifests; `docs/manifest.md` describes them. No row depends on any of it.

use serde::{Deserialize, Serialize};

use crate::Claim;

/// One run: from opening the pipeline to leaving it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRecord {
    /// Version of the format.
    pub format_version: u32,
    /// The pipeline's name.
    pub pipeline: String,
    /// A random mark; with `started_at` it is the record's name.
    pub id: Claim,
    /// What began it.
    pub trigger: RunTrigger,
    /// Which attempt it is where what failed is tried again, from 1.
    pub attempt: u32,
    /// When it began, microseconds since 1970, UTC.
    pub started_at: i64,
    /// When it ended; `None` while it goes on, and for ever where the process was killed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<i64>,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<RunOutcome>,
    /// Epochs committed.
    #[serde(default)]
    pub epochs: u64,
    /// Records read.
    #[serde(default)]
    pub records: u64,
    /// Rows written, over all feature sets.
    #[serde(default)]
    pub rows: u64,
    /// Records and rows that went to quarantine.
    #[serde(default)]
    pub quarantined: u64,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What began a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case", tag = "kind")]
#[non_exhaustive]
pub enum RunTrigger {
    /// A person or another program, by `bessemer run`.
    #[default]
    Manual,
    /// The daemon, for a pipeline without a schedule: it follows its sources.
    Daemon,
    /// The daemon, at a time of the pipeline's schedule.
    Schedule {
        /// The time, microseconds since 1970, UTC.
        time: i64,
    },
    /// The daemon, because it was asked to commit what is there before it pauses.
    Drain,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RunOutcome {
    /// It did all that there was to do, or was asked to end after its epoch.
    Done,
    /// By an error.
    Failed,
    /// A signal stopped it; its epoch was given up.
    Stopped,
    /// It took longer than its `timeout`; its epoch was given up.
    TimedOut,
}

/// What users ask of the daemon for one pipeline. Only commands write it, only the daemon obeys it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Control {
    /// Version of the format.
    pub format_version: u32,
    /// What is asked.
    pub wish: Wish,
    /// When it was asked, microseconds since 1970, UTC; tells two requests apart.
    pub since: i64,
}

/// What may be asked of the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Wish {
    /// Begin no epoch; one that has begun is committed.
    Pause,
    /// Commit what is there now, then pause.
    Drain,
}

/// What the daemon remembers of one pipeline. Only the daemon writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonRecord {
    /// Version of the format.
    pub format_version: u32,
    /// The schedule and its time zone as they were written; another one begins anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<String>,
    /// Times of the schedule up to this one are decided, microseconds since 1970, UTC.
    #[serde(default)]
    pub through: i64,
    /// Times of the schedule that were not run: paused, another run was going, or nobody was there.
    #[serde(default)]
    pub skipped: u64,
    /// Times of the schedule up to `through` that are to be run all the same: of a run that is going, and of those that
    /// wait for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pending: Vec<i64>,
    /// The request to drain (its `since`) that was taken up last, and is not again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drained: Option<i64>,
    /// Whether that drain failed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub drain_failed: bool,
}
