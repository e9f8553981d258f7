//! The command line: what can be asked, with an example for each.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use bessemer_schemas::{ByteSize, RejectReason, parse_duration};
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use serde::Deserialize;
use serde::de::value::StrDeserializer;

use crate::log::Endpoint;

/// Bessemer turns files and streams into training data that can be trusted.
#[derive(Debug, Parser)]
#[command(
    name = "bessemer",
    version,
    propagate_version = true,
    after_help = "Examples:\n  \
        bessemer check   examples/flights              every problem of a pipeline file, with its place\n  \
        bessemer run     examples/flights              read what is new, commit the feature sets\n  \
        bessemer preview examples/flights delays       a look at a view, without writing anything\n  \
        bessemer ledger  examples/flights              what became of every record\n\n\
        A pipeline is a `.sql` file or a folder of them. `bessemer help COMMAND` says more.\n\
        Exit codes: 0 done, 2 wrong definition or flags, 3 the world did not answer, 4 the data broke an expectation,\n\
        5 another writer owns the pipeline, 70 a bug, 130 interrupted."
)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,

    #[command(flatten)]
    pub(crate) log: LoggingArgs,
}

/// What is logged on stderr, and how.
#[derive(Debug, Clone, Args)]
pub(crate) struct LoggingArgs {
    /// Say more on stderr: -v what is done, -vv how.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,

    /// What is logged: `error`, `warn`, `info`, `debug` or `trace`, or as tracing has it (`info,bessemer_connectors=debug`).
    /// The daemon logs `info`, other commands nothing, unless `BESSEMER_LOG` says something else.
    #[arg(long, global = true, value_name = "FILTER")]
    pub(crate) log_level: Option<String>,

    /// How it is written: a line for people, or one JSON object a line.
    #[arg(long, global = true, value_enum, default_value_t)]
    pub(crate) log_format: LogFormat,

    /// Send a trace of each epoch to an OpenTelemetry collector (OTLP over HTTP), for example `http://127.0.0.1:4318`.
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) otlp_endpoint: Option<Endpoint>,
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For machines.
    Json,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Check a pipeline: every problem with file, line, column and what to write instead.
    #[command(
        after_help = "Example:\n  bessemer check examples/flights\n  bessemer check pipeline.sql --json | jq '.diagnostics[].message'"
    )]
    Check(PipelineArgs),
    /// Show how each feature set is computed: its kind and why, and its plan as a tree.
    #[command(
        after_help = "Example:\n  bessemer explain examples/flights\n  bessemer explain examples/flights --set plane_history"
    )]
    Explain(ExplainArgs),
    /// Show the first rows of a source, view or feature set; writes nothing and reads no more than it needs.
    #[command(
        after_help = "Example:\n  bessemer preview examples/flights flights --limit 20\n  bessemer preview examples/flights carrier_punctuality --json"
    )]
    Preview(PreviewArgs),
    /// Read what is new, check it, and commit the feature sets; then exit.
    #[command(
        after_help = "Example:\n  bessemer run examples/flights\n  bessemer run examples/flights        # again: reads only what is new"
    )]
    Run(RunArgs),
    /// Make the small files of append sets fewer and larger; the rows stay what they are.
    #[command(
        after_help = "Example:\n  bessemer compact examples/flights\n  bessemer compact examples/flights plane_history"
    )]
    Compact(CompactArgs),
    /// Run the pipelines of a folder until a signal: each `.sql` file is one, and so is each folder that has some.
    #[command(
        after_help = "Example:\n  bessemer daemon pipelines/\n  bessemer daemon pipelines/ --memory-bytes 4GiB\n  bessemer daemon pipelines/ --listen 127.0.0.1:9464   # then curl 127.0.0.1:9464/metrics, /readyz, /healthz, /"
    )]
    Daemon(DaemonArgs),
    /// Ask the daemon to begin no epoch of a pipeline; one that has begun is committed. It stays so until `resume`.
    #[command(after_help = "Example:\n  bessemer pause pipelines/departures.sql")]
    Pause(PipelineArgs),
    /// Take back a `pause` or a `drain`: the daemon goes on with the pipeline.
    #[command(after_help = "Example:\n  bessemer resume pipelines/departures.sql")]
    Resume(PipelineArgs),
    /// Ask the daemon to commit what is there now, and then to pause the pipeline.
    #[command(after_help = "Example:\n  bessemer drain pipelines/departures.sql")]
    Drain(PipelineArgs),
    /// See it all at once, with nothing to install: a Kafka cluster in this process, real flights with some broken records
    /// replayed onto a topic, a pipeline that follows it, and at the end the tables and the ledger.
    #[cfg(feature = "kafka")]
    #[command(after_help = "Example:\n  bessemer demo\n  bessemer demo --records-per-second 5000")]
    Demo(DemoArgs),
    /// Show where a pipeline stands: last epoch, what each feature set holds, what stopped it, its last and next run.
    Status(PipelineArgs),
    /// List the epochs, or the runs: what each read and wrote, and how long it took.
    #[command(
        after_help = "Example:\n  bessemer log examples/flights --last 20\n  bessemer log examples/flights --runs"
    )]
    Log(LogArgs),
    /// Show what became of every record and row, and whether it balances.
    #[command(after_help = "Example:\n  bessemer ledger examples/flights\n  bessemer ledger examples/flights --epochs")]
    Ledger(LedgerArgs),
    /// List what is in quarantine, show its records with reason and origin, or `replay` them after a fix.
    #[command(
        after_help = "Example:\n  bessemer quarantine examples/flights\n  bessemer quarantine examples/flights flights --limit 5\n  bessemer quarantine examples/flights plane_history --json\n  bessemer quarantine replay examples/flights --source flights"
    )]
    Quarantine(QuarantineArgs),
    /// Run committed epochs once more over what they read, and compare their rows with what is committed, byte for byte.
    /// Changes nothing; a daemon may go on meanwhile.
    #[command(
        after_help = "Example:\n  bessemer replay --verify examples/flights\n  bessemer replay --verify examples/flights --epochs 2..7"
    )]
    Replay(VerifyArgs),
    /// Show the manifest of an epoch (the newest, if none is named) as JSON.
    #[command(after_help = "Example:\n  bessemer inspect examples/flights 3")]
    Inspect(InspectArgs),
    /// List the live files of a feature set: exactly the committed rows, for a reader that wants a snapshot.
    #[command(after_help = "Example:\n  bessemer files examples/flights carrier_punctuality")]
    Files(FilesArgs),
    /// Show what feature sets keep from one epoch to the next: rows, bytes, and how far they are; or make it anew where it
    /// is lost.
    #[command(
        after_help = "Example:\n  bessemer state examples/flights\n  bessemer state examples/flights --rebuild   # what `run` refuses to go on with"
    )]
    State(StateArgs),
    /// Print a completion script for a shell.
    #[command(after_help = "Example:\n  bessemer completions bash > /etc/bash_completion.d/bessemer")]
    Completions {
        /// The shell.
        shell: Shell,
    },
}

/// Which pipeline, and how to print.
#[derive(Debug, Clone, Args)]
pub(crate) struct PipelineArgs {
    /// A `.sql` file, several of them, or a folder: together one pipeline.
    #[arg(default_value = ".")]
    pub(crate) paths: Vec<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `explain`.
#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    #[command(flatten)]
    pub(crate) pipeline: PipelineArgs,
    /// Only this feature set.
    #[arg(long)]
    pub(crate) set: Option<String>,
}

/// `preview`.
#[derive(Debug, Args)]
pub(crate) struct PreviewArgs {
    /// A `.sql` file or a folder of them.
    pub(crate) path: PathBuf,
    /// A source, table, view or feature set; the last feature set, if none is named.
    pub(crate) name: Option<String>,
    /// Rows to show.
    #[arg(long, default_value_t = 10)]
    pub(crate) limit: usize,
    /// Print one JSON object a row.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `run`.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) pipeline: PipelineArgs,
    /// Where a feature set that was added to an existing pipeline starts, and a definition that changed holds: `now` leaves
    /// out what was read before, and leaves committed rows as they are.
    #[arg(long, value_name = "now", value_parser = ["now"])]
    pub(crate) from: Option<String>,
    /// Close all windows once everything is read, those that may still get rows, too. It is for good: later input of their
    /// sources is refused.
    #[arg(long = "final")]
    pub(crate) is_final: bool,
}

/// `compact`.
#[derive(Debug, Args)]
pub(crate) struct CompactArgs {
    /// A `.sql` file or a folder of them.
    pub(crate) path: PathBuf,
    /// The feature sets; all that append, if none is named.
    pub(crate) sets: Vec<String>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `daemon`.
#[derive(Debug, Args)]
pub(crate) struct DaemonArgs {
    /// A folder of pipelines; it is watched.
    #[arg(default_value = ".")]
    pub(crate) folder: PathBuf,
    /// Memory for the operators of all pipelines together; beyond it they spill to disk.
    #[arg(long, value_name = "SIZE", default_value = "2GiB", value_parser = str::parse::<ByteSize>)]
    pub(crate) memory_bytes: ByteSize,
    /// How long pipelines may take after a signal to commit or give up their epochs; then the daemon ends without them.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_duration)]
    pub(crate) shutdown_timeout: Duration,
    /// Answer over HTTP at this host and port: /metrics for Prometheus, /readyz, /healthz, and / for people. Whoever
    /// reaches it may read it.
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) listen: Option<String>,
}

/// `demo`.
#[cfg(feature = "kafka")]
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Where to put the pipeline and what it makes; where that exists already, beside it.
    #[arg(long, default_value = "bessemer-demo")]
    pub(crate) folder: PathBuf,
    /// How fast the flights arrive.
    #[arg(long, default_value_t = std::num::NonZeroUsize::MIN.saturating_add(999))]
    pub(crate) records_per_second: std::num::NonZeroUsize,
}

/// `log`.
#[derive(Debug, Args)]
pub(crate) struct LogArgs {
    #[command(flatten)]
    pub(crate) pipeline: PipelineArgs,
    /// Only the last N.
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub(crate) last: u64,
    /// The runs instead: what began each, how it ended, and why it failed.
    #[arg(long)]
    pub(crate) runs: bool,
}

/// `ledger`.
#[derive(Debug, Args)]
pub(crate) struct LedgerArgs {
    #[command(flatten)]
    pub(crate) pipeline: PipelineArgs,
    /// Epoch by epoch, not only the totals.
    #[arg(long)]
    pub(crate) epochs: bool,
}

/// `quarantine`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct QuarantineArgs {
    /// What to do beside showing it.
    #[command(subcommand)]
    pub(crate) action: Option<QuarantineAction>,
    /// A `.sql` file or a folder of them.
    #[arg(default_value = ".")]
    pub(crate) path: PathBuf,
    /// The source or feature set whose records to show; a summary of all, if none is named.
    pub(crate) name: Option<String>,
    /// Records to show.
    #[arg(long, default_value_t = 20)]
    pub(crate) limit: u64,
    /// Print one JSON object a record.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What is done with a quarantine.
#[derive(Debug, Subcommand)]
pub(crate) enum QuarantineAction {
    /// Decode quarantined records of sources again, after their definition was mended, or with bytes that were: each once.
    #[command(
        after_help = "Example:\n  bessemer quarantine replay examples/flights --source flights --reason wrong_type\n  bessemer quarantine examples/flights flights --json --limit 1000 > bad.jsonl   # mend `original` in it, then\n  bessemer quarantine replay examples/flights --source flights --repaired bad.jsonl"
    )]
    Replay(ReplayArgs),
}

/// `quarantine replay`.
#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// A `.sql` file or a folder of them.
    #[arg(default_value = ".")]
    pub(crate) path: PathBuf,
    /// Only records of this source; of every one that has some, if none is named.
    #[arg(long)]
    pub(crate) source: Option<String>,
    /// Rows of this feature set: refused, with what to do instead.
    #[arg(long, conflicts_with = "source")]
    pub(crate) set: Option<String>,
    /// Only records that are there for this reason, for example `wrong_type`; may be given several times.
    #[arg(long = "reason", value_name = "REASON", value_parser = reason)]
    pub(crate) reasons: Vec<RejectReason>,
    /// Only the records of this file, with the bytes that they have there: JSON lines as `bessemer quarantine … --json`
    /// prints them, with `original` mended.
    #[arg(long, value_name = "FILE")]
    pub(crate) repaired: Option<PathBuf>,
    /// Where the definition changed since the last epoch: `now` leaves committed rows as they are.
    #[arg(long, value_name = "now", value_parser = ["now"])]
    pub(crate) from: Option<String>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `state`.
#[derive(Debug, Args)]
pub(crate) struct StateArgs {
    #[command(flatten)]
    pub(crate) pipeline: PipelineArgs,
    /// Make anew what sets with `EMIT ON WINDOW CLOSE` have kept for rows to come, where it is gone, was changed, or is of
    /// another version of the engine: from what their epochs have read, which must still be there.
    #[arg(long)]
    pub(crate) rebuild: bool,
}

/// The reason of that code.
fn reason(text: &str) -> Result<RejectReason, String> {
    let code = StrDeserializer::<serde::de::value::Error>::new(text);
    RejectReason::deserialize(code).map_err(|error| error.to_string())
}

/// `replay --verify`.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// A `.sql` file or a folder of them.
    #[arg(default_value = ".")]
    pub(crate) path: PathBuf,
    /// Compare with what is committed, and commit nothing.
    #[arg(long, required = true)]
    pub(crate) verify: bool,
    /// The epochs, both ends among them: `2..7`, `2..`, `..7` or `5`; all, if none are named.
    #[arg(long, value_name = "A..B", value_parser = epochs)]
    pub(crate) epochs: Option<RangeInclusive<u64>>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// The epochs that `A..B` means, both ends among them.
fn epochs(text: &str) -> Result<RangeInclusive<u64>, String> {
    let number = |text: &str, without: u64| {
        if text.is_empty() { Ok(without) } else { text.parse::<u64>().map_err(|_| format!("`{text}` is no epoch")) }
    };
    let (first, last) = match text.split_once("..") {
        Some((first, last)) => (number(first, 1)?, number(last, u64::MAX)?),
        None => text.parse().map(|epoch| (epoch, epoch)).map_err(|_| "write `2..7`, `2..`, `..7` or `5`".to_owned())?,
    };
    if first.min(last) == 0 {
        return Err("the first epoch is 1".to_owned());
    }
    if first > last { Err(format!("{first} comes after {last}: write `{last}..{first}`")) } else { Ok(first..=last) }
}

/// `inspect`.
#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// A `.sql` file or a folder of them.
    pub(crate) path: PathBuf,
    /// The epoch.
    pub(crate) epoch: Option<u64>,
    /// Print JSON, which it does without being told.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `files`.
#[derive(Debug, Args)]
pub(crate) struct FilesArgs {
    /// A `.sql` file or a folder of them.
    pub(crate) path: PathBuf,
    /// The feature set.
    pub(crate) set: String,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}
