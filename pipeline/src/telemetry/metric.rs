//! The metrics by name, and their text: Prometheus' exposition format, version 0.0.4.

use std::collections::BTreeMap;
use std::fmt::Display;

/// What kind of number a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It only grows, until the process ends.
    Counter,
    /// It is what it is now.
    Gauge,
    /// Counts by upper bound.
    Histogram,
}

macro_rules! metrics {
    ($($metric:ident, $kind:ident, $name:literal, $help:literal;)*) => {
        /// Every metric that there is.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub(super) enum Metric {
            $(#[doc = $help] $metric,)*
        }

        impl Metric {
            /// All of them.
            #[cfg(test)]
            pub(super) const ALL: &[Self] = &[$(Self::$metric),*];

            /// Name, kind and help.
            pub(super) const fn described(self) -> (&'static str, Kind, &'static str) {
                match self {
                    $(Self::$metric => ($name, Kind::$kind, $help),)*
                }
            }
        }
    };
}

metrics! {
    BuildInfo, Gauge, "bessemer_build_info", "1, with the versions as labels.";
    FilesRefused, Gauge, "bessemer_files_refused",
        "Pipeline files that cannot be run as they are; the version from before may go on.";
    PipelineState, Gauge, "bessemer_pipeline_state", "1 for the state that the pipeline is in, 0 for the others.";
    PipelineRestarts, Counter, "bessemer_pipeline_restarts_total",
        "Times that the pipeline was opened again because a broker or a store had not answered.";
    PipelineFailures, Counter, "bessemer_pipeline_failures_total",
        "Runs that ended by a fault that trying again does not mend.";
    Epochs, Counter, "bessemer_epochs_total", "Epochs that were committed.";
    EpochRetries, Counter, "bessemer_epoch_retries_total", "Attempts at an epoch that failed and were made again.";
    EpochNewest, Gauge, "bessemer_epoch_newest", "Number of the last epoch that was committed.";
    EpochCommitted, Gauge, "bessemer_epoch_committed_timestamp_seconds",
        "When the last epoch was committed, seconds since 1970.";
    EpochDuration, Histogram, "bessemer_epoch_duration_seconds",
        "How long epochs took, from their beginning to their commit, with attempts that failed.";
    Discovered, Gauge, "bessemer_discovery_timestamp_seconds",
        "When the pipeline last looked for what is new, seconds since 1970.";
    SourceLagAt, Gauge, "bessemer_source_lag_timestamp_seconds",
        "When the brokers were last asked for their ends, seconds since 1970: how old the lag is.";
    SourceLag, Gauge, "bessemer_source_lag_records",
        "Offsets of the partition that the brokers have and that are not committed.";
    SourceCommitted, Gauge, "bessemer_source_offset_committed", "The first offset of the partition that is not committed.";
    SourceEnd, Gauge, "bessemer_source_offset_end", "The offset after the last one that the brokers have.";
    SourceEventTime, Gauge, "bessemer_source_event_time_seconds",
        "The newest event time that is committed, seconds since 1970.";
    SourceEventTimeLag, Gauge, "bessemer_source_event_time_lag_seconds",
        "How far the newest committed event time is behind the clock; 0 where everything is committed.";
    SourceRecords, Counter, "bessemer_source_records_total", "Records that were committed, by what became of them.";
    SourceGaps, Counter, "bessemer_source_gaps_total",
        "Offsets without a record: transaction markers, aborted and compacted records.";
    SourceLost, Counter, "bessemer_source_lost_total", "Offsets that were deleted before they were read.";
    SourceBytes, Counter, "bessemer_source_bytes_total", "Bytes that were read, as stored.";
    SourceObjects, Counter, "bessemer_source_objects_total", "Objects that were read for the first time.";
    SetRows, Counter, "bessemer_set_rows_total", "Rows that the set's query read or made, by what became of them.";
    SetFiles, Counter, "bessemer_set_files_total", "Data files that were committed.";
    SetBytes, Counter, "bessemer_set_bytes_total", "Bytes of the data files that were committed.";
    Violations, Counter, "bessemer_expectation_violations_total", "Rows that broke an expectation.";
    MemoryReserved, Gauge, "bessemer_memory_reserved_bytes", "Memory that the pipeline's queries hold now.";
    MemoryLimit, Gauge, "bessemer_memory_limit_bytes", "Memory that the pipeline's queries may hold before they spill.";
    ProcessMemory, Gauge, "process_resident_memory_bytes", "Memory of the process.";
    ProcessCpu, Counter, "process_cpu_seconds_total", "CPU time of the process.";
    ProcessStart, Gauge, "process_start_time_seconds", "When the process began, seconds since 1970.";
}

/// Labels of a sample: names and values.
pub(super) type Labels<'a> = &'a [(&'static str, &'a str)];

/// Samples on their way into text; those of one metric stand together.
#[derive(Debug, Default)]
pub(super) struct Exposition {
    families: BTreeMap<Metric, String>,
}

impl Exposition {
    /// Adds a sample.
    pub(super) fn add(&mut self, metric: Metric, labels: Labels<'_>, value: impl Display) {
        self.line(metric, "", labels, None, &value);
    }

    /// Adds a sample, where there is one.
    pub(super) fn add_known(&mut self, metric: Metric, labels: Labels<'_>, value: Option<impl Display>) {
        if let Some(value) = value {
            self.add(metric, labels, value);
        }
    }

    /// Adds a histogram.
    pub(super) fn add_histogram(&mut self, metric: Metric, labels: Labels<'_>, histogram: &Histogram) {
        let mut count = 0;
        for (at, more) in histogram.counts.iter().enumerate() {
            count += more;
            let bound = Histogram::BOUNDS.get(at).map_or_else(|| "+Inf".to_owned(), ToString::to_string);
            self.line(metric, "_bucket", labels, Some(("le", &bound)), &count);
        }
        self.line(metric, "_sum", labels, None, &histogram.sum);
        self.line(metric, "_count", labels, None, &count);
    }

    fn line(
        &mut self,
        metric: Metric,
        suffix: &str,
        labels: Labels<'_>,
        last: Option<(&'static str, &str)>,
        value: &dyn Display,
    ) {
        let text = self.families.entry(metric).or_default();
        text.push_str(metric.described().0);
        text.push_str(suffix);
        for (at, (name, value)) in labels.iter().copied().chain(last).enumerate() {
            text.push(if at == 0 { '{' } else { ',' });
            text.push_str(name);
            text.push_str("=\"");
            push_escaped(text, value);
            text.push('"');
        }
        if !labels.is_empty() || last.is_some() {
            text.push('}');
        }
        text.push(' ');
        text.push_str(&value.to_string());
        text.push('\n');
    }

    /// The text.
    pub(super) fn into_text(self) -> String {
        let mut text = String::new();
        for (metric, samples) in self.families {
            let (name, kind, help) = metric.described();
            let kind = match kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Histogram => "histogram",
            };
            for part in ["# HELP ", name, " ", help, "\n# TYPE ", name, " ", kind, "\n", &samples] {
                text.push_str(part);
            }
        }
        text
    }
}

fn push_escaped(text: &mut String, value: &str) {
    for letter in value.chars() {
        match letter {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            _ => text.push(letter),
        }
    }
}

/// Durations, counted by upper bound.
#[derive(Debug, Clone, Default)]
pub(super) struct Histogram {
    counts: [u64; Self::BOUNDS.len() + 1],
    sum: f64,
}

impl Histogram {
    /// Seconds: from an epoch of a few records on local disk to one of some minutes.
    pub(super) const BOUNDS: [f64; 14] =
        [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0];

    /// Counts one.
    pub(super) fn observe(&mut self, seconds: f64) {
        let at = Self::BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(Self::BOUNDS.len());
        self.counts[at] += 1;
        self.sum += seconds;
    }
}
