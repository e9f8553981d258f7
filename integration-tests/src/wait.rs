//! Waiting for what another process does, and telling it what to do.

use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail, ensure};

const STEP: Duration = Duration::from_millis(5);

/// How long anything may take; a debug build on two busy cores needs patience.
const STEPS_MAX: u32 = 60_000;

/// Waits until `condition` holds; fails after five minutes, naming `what`.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> Result<bool>) -> Result<()> {
    for _ in 0..STEPS_MAX {
        if condition()? {
            return Ok(());
        }
        pause(STEP);
    }
    bail!("{what} did not happen within five minutes")
}

/// Lets another process run for a while, to interrupt it at a moment that it did not choose.
#[expect(clippy::disallowed_methods, reason = "another process gives no event for a moment between its events")]
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// Sends a signal (`-STOP`, `-INT`) to a process.
pub fn signal(name: &str, process: u32) -> Result<()> {
    let status = Command::new("kill").args([name, &process.to_string()]).status()?;
    ensure!(status.success(), "kill {name}: {status}");
    Ok(())
}
