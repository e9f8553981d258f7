//! The commands: one module each, or one for a family that answers from manifests alone.

mod check;
mod compact;
mod control;
mod daemon;
mod epochs;
mod explain;
mod files;
mod ledger;
mod preview;
mod quarantine;
mod replay;
mod run;
mod runs;
mod state;
mod watermarks;

use std::path::PathBuf;

use bessemer_connectors::manifest_store::{History, ManifestStore};
use bessemer_schemas::Wish;
use clap::CommandFactory;

use crate::cli::{Cli, Command};
use crate::error::{Error, Result};
use crate::load::{self, Parsed};
use crate::output;

/// Does what was asked.
pub(crate) async fn execute(command: Command) -> Result<()> {
    match command {
        Command::Check(args) => check::check(&args).await,
        Command::Explain(args) => explain::explain(&args).await,
        Command::Preview(args) => preview::preview(&args).await,
        Command::Run(args) => run::run(&args).await,
        Command::Compact(args) => compact::compact(&args).await,
        Command::Daemon(args) => daemon::daemon(&args).await,
        #[cfg(feature = "kafka")]
        Command::Demo(args) => crate::demo::demo(&args, &daemon::cancel_on_signals(|text| output::note(text))?).await,
        Command::Pause(args) => control::ask(&args, Some(Wish::Pause)).await,
        Command::Resume(args) => control::ask(&args, None).await,
        Command::Drain(args) => control::ask(&args, Some(Wish::Drain)).await,
        Command::Status(args) => epochs::status(&args).await,
        Command::Log(args) if args.runs => runs::log(&args).await,
        Command::Log(args) => epochs::log(&args).await,
        Command::Inspect(args) => epochs::inspect(&args).await,
        Command::Ledger(args) => ledger(&args).await,
        Command::Quarantine(args) => quarantine(&args).await,
        Command::Replay(args) => replay::replay(&args).await,
        Command::Files(args) => files::files(&args).await,
        Command::State(args) => state::state(&args).await,
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "bessemer", &mut script);
            output::raw(&script)
        }
    }
}

#[cfg(feature = "kafka")]
pub(crate) use files::print_committed;
pub(crate) use ledger::ledger;
pub(crate) use quarantine::quarantine;

/// A pipeline and what it has committed; an error where it has committed nothing.
async fn history(paths: &[PathBuf]) -> Result<(Parsed, ManifestStore, History)> {
    let parsed = load::parse(paths)?;
    let store = ManifestStore::new(parsed.settings.state.clone(), parsed.name());
    let history = store.history().await?;
    if history.newest().is_none() {
        return Err(Error::NoEpoch { pipeline: parsed.name().to_owned() });
    }
    Ok((parsed, store, history))
}
