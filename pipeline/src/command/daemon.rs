//! `daemon`: run the pipelines of a folder until a signal.

use bessemer_transforms::ProcessMemory;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::cli::DaemonArgs;
use crate::daemon::{self, DaemonOptions};
use crate::error::{Error, Result};
use crate::telemetry::{Board, Server};

/// Runs the pipelines of a folder.
pub(crate) async fn daemon(args: &DaemonArgs) -> Result<()> {
    // Before anything is started: a port that is in use is told at once.
    let server = match &args.listen {
        Some(address) => Some(Server::listen(address).await?),
        None => None,
    };
    let memory = ProcessMemory::new(usize::try_from(args.memory_bytes.0).unwrap_or(usize::MAX));
    let board = Board::new();
    let options = DaemonOptions {
        folder: args.folder.clone(),
        memory,
        shutdown_timeout: args.shutdown_timeout,
        board: board.clone(),
    };
    let cancel = cancel_on_signals(|text| info!("{text}"))?;
    let Some(server) = server else { return daemon::serve(&options, cancel).await };
    info!(url = %format_args!("http://{}", server.address()), "listening");
    // It answers until the last pipeline has stopped.
    let stop = CancellationToken::new();
    let answering = tokio::spawn(server.serve(board, stop.clone()));
    let served = daemon::serve(&options, cancel).await;
    stop.cancel();
    answering.await.map_err(|error| Error::Internal { message: format!("the HTTP server ended early: {error}") })?;
    served
}

/// The first SIGTERM or Ctrl-C asks the pipelines to stop, the second ends the process at once, which is safe, too.
/// `say` tells the user that the first was heard.
pub(crate) fn cancel_on_signals(say: impl Fn(&str) + Send + 'static) -> Result<CancellationToken> {
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
                say("stopping: each pipeline commits its epoch or gives it up; once more to end at once");
                token.cancel();
            }
        }
        #[expect(clippy::exit, reason = "the user insists; a crash at any point is recovered from")]
        std::process::exit(130);
    }));
    Ok(cancel)
}
