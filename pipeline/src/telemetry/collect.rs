//! The board as answers: metrics, readiness, a summary.

use std::time::Duration;

use datafusion::execution::memory_pool::MemoryLimit;
use serde::Serialize;

use super::board::State;
use super::metric::{Exposition, Labels, Metric};
use super::pipeline::{Phase, Pipeline, SetState, SourceState};
use super::process;

/// A daemon whose own task has done nothing for so long hangs; it does something every second.
const ALIVE_WITHIN: Duration = Duration::from_secs(30);

impl State {
    /// Why the daemon is not healthy; `None` where it is.
    pub(super) fn sickness(&self) -> Option<String> {
        let silent = self.alive_at?.elapsed();
        (silent > ALIVE_WITHIN).then(|| format!("the daemon's task has done nothing for {} s", silent.as_secs()))
    }

    /// Why the daemon is not ready, a line each; none where every pipeline has looked at its sources and goes on.
    pub(super) fn troubles(&self) -> Vec<String> {
        let mut troubles = Vec::new();
        if self.alive_at.is_none() {
            troubles.push("the daemon is starting".to_owned());
        }
        if self.is_stopping {
            troubles.push("the daemon is stopping".to_owned());
        }
        for (name, pipeline) in &self.pipelines {
            troubles.extend(pipeline.phase.trouble().map(|trouble| format!("{name}: {trouble}")));
        }
        let goes_on = |path: &String| self.pipelines.values().any(|pipeline| pipeline.path == *path);
        let refused = self.refused.iter().filter(|(path, _)| !goes_on(path));
        troubles.extend(refused.map(|(path, reason)| format!("{path}: is not started: {reason}")));
        troubles
    }

    /// Everything as metrics, as it is `now` (microseconds since 1970).
    pub(super) fn metrics(&self, now: i64) -> String {
        let mut text = Exposition::default();
        let versions = [("version", env!("CARGO_PKG_VERSION")), ("datafusion", datafusion::DATAFUSION_VERSION)];
        text.add(Metric::BuildInfo, &versions, 1);
        text.add_known(Metric::ProcessMemory, &[], process::resident_bytes());
        text.add_known(Metric::ProcessCpu, &[], process::cpu_seconds());
        text.add(Metric::ProcessStart, &[], seconds(self.started_at));
        text.add(Metric::FilesRefused, &[], self.refused.len());
        for (name, pipeline) in &self.pipelines {
            pipeline.collect(name, now, &mut text);
        }
        text.into_text()
    }

    /// Where every pipeline stands.
    pub(super) fn summary(&self) -> Summary<'_> {
        let pipelines = self.pipelines.iter().map(|(name, pipeline)| PipelineLine {
            name,
            path: &pipeline.path,
            state: pipeline.phase.name(),
            trouble: pipeline.phase.trouble(),
            epoch: pipeline.newest.map(|(epoch, _)| epoch),
            committed_at: pipeline.newest.map(|(_, at)| crate::output::instant(at)),
            lag_records: pipeline.sources.values().filter_map(SourceState::lag).reduce(|sum, more| sum + more),
        });
        let refused = self.refused.iter().map(|(path, reason)| RefusedLine { path, reason });
        Summary {
            version: env!("CARGO_PKG_VERSION"),
            started_at: crate::output::instant(self.started_at),
            ready: self.troubles().is_empty(),
            pipelines: pipelines.collect(),
            refused: refused.collect(),
            see: ["/metrics", "/readyz", "/healthz"],
        }
    }
}

/// The answer to `GET /`.
#[derive(Debug, Serialize)]
pub(super) struct Summary<'a> {
    version: &'a str,
    started_at: String,
    ready: bool,
    pipelines: Vec<PipelineLine<'a>>,
    refused: Vec<RefusedLine<'a>>,
    see: [&'static str; 3],
}

#[derive(Debug, Serialize)]
struct PipelineLine<'a> {
    name: &'a str,
    path: &'a str,
    state: &'a str,
    trouble: Option<String>,
    epoch: Option<u64>,
    committed_at: Option<String>,
    lag_records: Option<u64>,
}

#[derive(Debug, Serialize)]
struct RefusedLine<'a> {
    path: &'a str,
    reason: &'a str,
}

impl Pipeline {
    fn collect(&self, name: &str, now: i64, text: &mut Exposition) {
        let own: Labels<'_> = &[("pipeline", name)];
        for state in Phase::NAMES {
            let labels = [("pipeline", name), ("state", state)];
            text.add(Metric::PipelineState, &labels, u8::from(state == self.phase.name()));
        }
        text.add(Metric::PipelineRestarts, own, self.restarts);
        text.add(Metric::PipelineFailures, own, self.failures);
        text.add(Metric::Epochs, own, self.epochs);
        text.add(Metric::EpochRetries, own, self.retries);
        text.add_known(Metric::EpochNewest, own, self.newest.map(|(epoch, _)| epoch));
        text.add_known(Metric::EpochCommitted, own, self.newest.map(|(_, at)| seconds(at)));
        text.add_histogram(Metric::EpochDuration, own, &self.duration);
        text.add_known(Metric::Discovered, own, self.discovered_at.map(seconds));
        for (source, state) in &self.sources {
            state.collect(&[("pipeline", name), ("source", source)], now, text);
        }
        for (set, state) in &self.sets {
            state.collect(&[("pipeline", name), ("set", set)], text);
        }
        if let Some(pool) = &self.memory {
            text.add(Metric::MemoryReserved, own, pool.reserved());
            if let MemoryLimit::Finite(bytes) = pool.memory_limit() {
                text.add(Metric::MemoryLimit, own, bytes);
            }
        }
    }
}

impl SourceState {
    fn collect(&self, own: &[(&'static str, &str); 2], now: i64, text: &mut Exposition) {
        let [pipeline, source] = *own;
        for range in &self.unread {
            let partition = range.partition.to_string();
            let labels = [pipeline, source, ("topic", range.topic.as_str()), ("partition", &partition)];
            text.add(Metric::SourceCommitted, &labels, range.start);
            // Before the brokers have said where it ends, a partition is not known to be read.
            if self.asked_at.is_some() {
                text.add(Metric::SourceLag, &labels, range.offsets());
                text.add(Metric::SourceEnd, &labels, range.end);
            }
        }
        text.add_known(Metric::SourceLagAt, own, self.asked_at.map(seconds));
        text.add_known(Metric::SourceEventTime, own, self.event_time.map(seconds));
        text.add_known(Metric::SourceEventTimeLag, own, self.event_time_lag(now));
        let ledger = &self.ledger;
        let fates = [
            ("admitted", ledger.admitted),
            ("late", ledger.late - ledger.late_dropped),
            ("late_dropped", ledger.late_dropped),
            ("bad_event_time", ledger.bad_event_time),
            ("undecodable", ledger.undecodable),
            ("tombstone", ledger.tombstones),
        ];
        for (fate, records) in fates {
            text.add(Metric::SourceRecords, &[pipeline, source, ("fate", fate)], records);
        }
        text.add(Metric::SourceGaps, own, ledger.gaps);
        text.add(Metric::SourceLost, own, ledger.lost);
        text.add(Metric::SourceBytes, own, ledger.bytes);
        text.add(Metric::SourceObjects, own, ledger.objects);
    }
}

impl SetState {
    fn collect(&self, own: &[(&'static str, &str); 2], text: &mut Exposition) {
        let [pipeline, set] = *own;
        let ledger = &self.ledger;
        let fates = [
            ("written", ledger.written),
            ("quarantined", ledger.quarantined),
            ("dropped", ledger.dropped),
            ("dropped_by_query", ledger.dropped_by_query),
        ];
        for (fate, rows) in fates {
            text.add(Metric::SetRows, &[pipeline, set, ("fate", fate)], rows);
        }
        text.add(Metric::SetFiles, own, self.files);
        text.add(Metric::SetBytes, own, self.bytes);
        for ((expectation, action), rows) in &self.violations {
            let labels = [pipeline, set, ("expectation", expectation.as_str()), ("action", action)];
            text.add(Metric::Violations, &labels, rows);
        }
    }
}

/// Microseconds as seconds.
fn seconds(micros: i64) -> f64 {
    micros as f64 / 1e6
}
