//! The `bessemer` program: wires the crates together, runs a pipeline, answers questions about it.
//!
//! ```text
//! load     files → Definition → sources, sets, plan            (load.rs, settings.rs)
//! run      discover → slice → epoch → commit, until drained    (run/)
//! ask      check, explain, preview, status, log, ledger, …     (command/)
//! ```
//!
//! This is the only crate that prints, reads the environment, or asks for the time.

mod cli;
mod command;
mod daemon;
#[cfg(feature = "kafka")]
mod demo;
mod error;
mod host;
mod load;
mod output;
mod progress;
mod run;
mod schedule;
mod settings;

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind as ClapErrorKind;

use crate::cli::Cli;
use crate::error::Error;

/// It gives freed memory back: what a run holds then does not grow with what it has read. The C library keeps the pages
/// of large blocks for itself, the more the longer it runs.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let is_answer = matches!(error.kind(), ClapErrorKind::DisplayHelp | ClapErrorKind::DisplayVersion);
            // A closed pipe leaves nobody to tell.
            drop(error.print());
            return if is_answer { ExitCode::SUCCESS } else { ExitCode::from(2) };
        }
    };
    trace(cli.verbose);
    let done = runtime().and_then(|runtime| {
        let done = runtime.block_on(Box::pin(command::execute(cli.command)));
        // What a daemon was told not to wait for any longer must not be waited for here: it is as safe as a crash.
        runtime.shutdown_background();
        done
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&error);
            ExitCode::from(error.kind().exit_code())
        }
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, Error> {
    // Planning and evaluating deeply nested expressions recurse; the default stack of 2 MiB is short for it.
    tokio::runtime::Builder::new_multi_thread().enable_all().thread_stack_size(8 << 20).build().map_err(Error::Output)
}

/// Logs go to stderr, and only when asked for: a run's own words are its progress and summary.
fn trace(verbose: u8) {
    let level = match verbose {
        0 => return,
        1 => "bessemer=info,bessemer_connectors=info,bessemer_transforms=info",
        _ => "bessemer=debug,bessemer_connectors=debug,bessemer_transforms=debug,datafusion=info",
    };
    tracing_subscriber::fmt().with_env_filter(level).with_writer(std::io::stderr).init();
}

/// Prints an error and its causes, once.
pub(crate) fn report(error: &Error) {
    if let Error::Definition { files, diagnostics } = error {
        output::note(bessemer_sql::render_all(diagnostics, files));
        return;
    }
    let mut said = error.to_string();
    output::note(format!("error: {said}"));
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let text = error.to_string();
        // Some libraries repeat their causes in their own text: once is enough.
        if !said.contains(&text) {
            output::note(format!("  caused by: {text}"));
        }
        said = text;
        cause = error.source();
    }
}
