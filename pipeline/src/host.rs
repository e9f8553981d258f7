//! What a run takes from the machine that it is on, and from no store and no source: the time, and chance. Rows depend on
//! neither, so a test may bring its own.

use std::fmt;
use std::time::{Duration, Instant};

use bessemer_schemas::Claim;
use futures::FutureExt;
use futures::future::BoxFuture;

/// The time, and chance.
pub(crate) trait Host: fmt::Debug + Send + Sync {
    /// Microseconds since 1970, UTC: for people who read manifests; nothing depends on it.
    fn now_micros(&self) -> i64;

    /// A moment on a clock that never goes back: what a time-out is measured by.
    fn moment(&self) -> Instant;

    /// Ends when `time` has passed since it was called.
    fn sleep(&self, time: Duration) -> BoxFuture<'static, ()>;

    /// A mark that no other writer has.
    fn claim(&self) -> Claim;
}

/// The machine itself.
#[derive(Debug)]
pub(crate) struct Machine;

impl Host for Machine {
    #[expect(clippy::disallowed_methods, reason = "this is where the time is taken")]
    fn now_micros(&self) -> i64 {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
    }

    fn moment(&self) -> Instant {
        Instant::now()
    }

    #[expect(clippy::disallowed_methods, reason = "the epoch loop backs off, and keeps its pace")]
    fn sleep(&self, time: Duration) -> BoxFuture<'static, ()> {
        tokio::time::sleep(time).boxed()
    }

    fn claim(&self) -> Claim {
        Claim(rand::random())
    }
}
