//! The `bessemer` program: wires the crates together, runs a pipeline, answers questions about it.
//!
//! ```text
//! load     files → Definition → sources, sets, plan            (load.rs, settings.rs)
//! run      discover → slice → epoch → commit, until drained    (run/)
//! daemon   the same for ever, and what is known of it by HTTP  (daemon/, telemetry/)
//! log      what it does, for people, machines and OpenTelemetry (log.rs, log/)
//! ask      check, explain, preview, status, log, ledger, …     (command/)
//! ```
//!
//! This is the only crate that prints, reads the environment, or asks for the time.

mod allocator;
mod cli;
mod command;
mod daemon;
#[cfg(feature = "kafka")]
mod demo;
mod error;
mod host;
mod load;
mod log;
mod output;
mod progress;
mod run;
mod schedule;
mod settings;
mod sql_files;
mod telemetry;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use clap::error::ErrorKind as ClapErrorKind;
use tokio_util::sync::CancellationToken;

use crate::cli::{Cli, Command, LogFormat};
use crate::error::Error;
use crate::log::Exporter;

/// How long threads may take to end that have nothing to do.
const THREADS_END: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    allocator::use_small_pages();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let is_answer = matches!(error.kind(), ClapErrorKind::DisplayHelp | ClapErrorKind::DisplayVersion);
            // A closed pipe leaves nobody to tell.
            drop(error.print());
            return if is_answer { ExitCode::SUCCESS } else { ExitCode::from(2) };
        }
    };
    let is_json = cli.log.log_format == LogFormat::Json;
    let done = log::begin(&cli).and_then(|exporter| {
        let runtime = runtime()?;
        let done = runtime.block_on(Box::pin(execute(cli.command, exporter)));
        // What a daemon was told not to wait for any longer must not be waited for here: it is as safe as a crash. Threads
        // that have nothing to do end at once, and are joined: one that is let go of while it ends can bring down the
        // process (glibc bug 19951).
        runtime.shutdown_timeout(THREADS_END);
        done
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Whoever reads the log as JSON reads this, too; without a log there is none to break.
            if is_json && tracing::enabled!(tracing::Level::ERROR) {
                tracing::error!("{}", described(&error));
            } else {
                report(&error);
            }
            ExitCode::from(error.kind().exit_code())
        }
    }
}

/// Does what was asked; traces of it are sent on meanwhile, and to the last one.
async fn execute(command: Command, exporter: Option<Exporter>) -> Result<(), Error> {
    let stop = CancellationToken::new();
    let exporting = exporter.map(|exporter| tokio::spawn(exporter.run(stop.clone())));
    let done = command::execute(command).await;
    stop.cancel();
    if let Some(exporting) = exporting {
        // Its panic would lose traces, and nothing else.
        drop(exporting.await);
    }
    done
}

fn runtime() -> Result<tokio::runtime::Runtime, Error> {
    // Planning and evaluating deeply nested expressions recurse; the default stack of 2 MiB is short for it.
    tokio::runtime::Builder::new_multi_thread().enable_all().thread_stack_size(8 << 20).build().map_err(Error::Output)
}

/// Prints an error and its causes, once.
pub(crate) fn report(error: &Error) {
    output::note(described(error));
}

/// An error and its causes, as people read them: of a definition, every problem with its place.
pub(crate) fn described(error: &Error) -> String {
    if let Error::Definition { files, diagnostics } = error {
        return bessemer_sql::render_all(diagnostics, files);
    }
    let mut said = error.to_string();
    let mut text = format!("error: {said}");
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let own = error.to_string();
        // Some libraries repeat their causes in their own text: once is enough.
        if !said.contains(&own) {
            text.push_str("\n  caused by: ");
            text.push_str(&own);
        }
        said = own;
        cause = error.source();
    }
    text
}
