//! `daemon`: run the pipelines of a folder until a signal.

use bessemer_transforms::ProcessMemory;
use tokio_util::sync::CancellationToken;

use crate::cli::DaemonArgs;
use crate::daemon::{self, DaemonOptions};
use crate::error::Result;
use crate::output;

/// Runs the pipelines of a folder.
pub(crate) async fn daemon(args: &DaemonArgs) -> Result<()> {
    let memory = ProcessMemory::new(usize::try_from(args.memory_bytes.0).unwrap_or(usize::MAX));
    let options = DaemonOptions { folder: args.folder.clone(), memory, shutdown_timeout: args.shutdown_timeout };
    daemon::serve(&options, cancel_on_signals()?).await
}

/// The first SIGTERM or Ctrl-C asks the pipelines to stop, the second ends the process at once, which is safe, too.
pub(crate) fn cancel_on_signals() -> Result<CancellationToken> {
    let cancel = CancellationToken::new();
    let token = cancel.clone();
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    drop(tokio::spawn(async move {
        for attempt in 0..2 {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
            if attempt == 0 {
                output::note("stopping: each pipeline commits its epoch or gives it up; once more to end at once");
                token.cancel();
            }
        }
        #[expect(clippy::exit, reason = "the user insists; a crash at any point is recovered from")]
        std::process::exit(130);
    }));
    Ok(cancel)
}
