//! One pipeline of the daemon: what may come back is tried again, what will not ends it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use bessemer_schemas::ErrorKind;
use rand::Rng;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::error::{Error, Result};
use crate::load;
use crate::progress::Progress;
use crate::run;

/// The first wait before a pipeline is opened again, and the longest.
const BACK_OFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));
/// A pipeline that ran this long had come back: the next wait is the first again.
const WELL_AFTER: Duration = Duration::from_mins(2);

/// Runs a pipeline until `cancel`, opening it again where the world may come back.
pub(super) async fn supervise(paths: Vec<PathBuf>, progress: Progress, cancel: CancellationToken) -> Result<()> {
    let mut wait = BACK_OFF.0;
    loop {
        let started = Instant::now();
        let error = match run::follow(load::parse(&paths)?, &progress, &cancel).await {
            Ok(()) => return Ok(()),
            Err(Error::Interrupted { what }) => {
                progress.say(&what);
                return Ok(());
            }
            Err(error) if error.kind() == ErrorKind::Unavailable => error,
            Err(error) => return Err(error),
        };
        if started.elapsed() > WELL_AFTER {
            wait = BACK_OFF.0;
        }
        warn!(%error, "the pipeline is opened again");
        progress.say(&format!("{}; trying again in {} s", load::error_chain(&error), wait.as_secs()));
        // Pipelines that lost the same broker do not all come back at once.
        let jittered = wait.mul_f64(rand::rng().random_range(0.75..1.25));
        #[expect(clippy::disallowed_methods, reason = "the daemon's one retry loop backs off")]
        let slept = tokio::time::sleep(jittered);
        tokio::select! {
            biased;
            () = cancel.cancelled() => return Ok(()),
            () = slept => wait = (wait * 2).min(BACK_OFF.1),
        }
    }
}
