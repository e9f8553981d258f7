//! `run`: read what is new, commit, exit.

use tokio_util::sync::CancellationToken;

use crate::cli::RunArgs;
use crate::error::Result;
use crate::load;
use crate::output::{self, count};
use crate::progress::Progress;
use crate::run::{self, RunOptions, RunSummary};

/// Runs a pipeline once.
pub(crate) async fn run(args: &RunArgs) -> Result<()> {
    let parsed = load::parse(&args.pipeline.paths)?;
    let progress = Progress::new(args.pipeline.json);
    let cancel = cancel_on_interrupt(progress.clone());
    let options = RunOptions { from_now: args.from.is_some(), is_final: args.is_final, ..RunOptions::default() };
    let summary = run::run(parsed, options, &progress, &cancel).await;
    progress.finish();
    let summary = summary?;
    if args.pipeline.json { output::json(&summary) } else { print_summary(&summary) }
}

/// The first Ctrl-C asks the run to stop, which then says what became of its epoch; the second ends the process at once,
/// which is safe, too.
pub(super) fn cancel_on_interrupt(progress: Progress) -> CancellationToken {
    let cancel = CancellationToken::new();
    let token = cancel.clone();
    drop(tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            progress.say("interrupted: stopping; Ctrl-C again to end at once");
            token.cancel();
        }
        if tokio::signal::ctrl_c().await.is_ok() {
            #[expect(clippy::exit, reason = "the user insists; a crash at any point is recovered from")]
            std::process::exit(130);
        }
    }));
    cancel
}

/// Prints what was read and written.
pub(super) fn print_summary(summary: &RunSummary) -> Result<()> {
    if summary.objects == 0 && summary.epochs == 0 {
        return output::line(format!(
            "{}: nothing new since epoch {}; nothing was read",
            summary.pipeline, summary.last_epoch
        ));
    }
    output::line(format!(
        "{}: {} committed in {}",
        summary.pipeline,
        output::plural(summary.epochs, "epoch"),
        output::seconds(summary.duration_micros)
    ))?;
    output::line("")?;
    let rows = summary.sources.iter().map(|source| {
        let ledger = &source.ledger;
        vec![
            source.name.clone(),
            // A topic has none.
            if ledger.offsets > 0 { String::new() } else { count(ledger.objects) },
            bessemer_schemas::ByteSize(ledger.bytes).to_string(),
            count(ledger.records),
            count(ledger.quarantined),
        ]
    });
    output::table(&["read from", "#files", "#size", "#records", "#quarantined"], rows.collect())?;
    output::line("")?;
    let rows = summary.sets.iter().map(|set| {
        vec![
            set.name.clone(),
            set.kind.clone(),
            count(set.ledger.written),
            count(set.ledger.quarantined),
            count(set.ledger.dropped),
            count(set.files),
            set.path.clone(),
        ]
    });
    output::table(&["feature set", "kind", "#rows", "#quarantined", "#dropped", "#files", "path"], rows.collect())?;
    for warning in &summary.expectations {
        output::line(warning)?;
    }
    for source in summary.sources.iter().filter(|source| source.ignored > 0) {
        let files = output::plural(source.ignored, "file");
        output::line(format!("{}: ignored changes to {files} read before", source.name))?;
    }
    output::line("")?;
    output::line("The ledger balances: every record and row is accounted for (`bessemer ledger`).")
}
