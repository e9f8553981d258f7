//! The program under test, as a process.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// The program, and the environment it is started in.
#[derive(Debug, Clone)]
pub struct Bessemer {
    program: PathBuf,
    environment: Vec<(OsString, OsString)>,
}

/// How a process ended.
#[derive(Debug)]
pub struct Outcome {
    /// Exit code; `None` where a signal ended it.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it said beside.
    pub stderr: String,
}

impl Bessemer {
    /// The program of this build: it lies beside the folder of the test's own executable. `cargo test --workspace`
    /// builds it, because the package `bessemer` has integration tests; `BESSEMER_BIN` names another one.
    pub fn find() -> Result<Self> {
        let program = if let Some(path) = std::env::var_os("BESSEMER_BIN") {
            PathBuf::from(path)
        } else {
            let test = std::env::current_exe()?;
            let profile = test.ancestors().find(|path| path.join("deps").is_dir());
            profile.context("the test lies in no target folder")?.join("bessemer")
        };
        ensure!(program.is_file(), "`{}` is missing: run `cargo build -p bessemer` first", program.display());
        Ok(Self { program, environment: Vec::new() })
    }

    /// Sets an environment variable for the processes to come.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Runs it to its end, whatever that is.
    pub fn call(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<Outcome> {
        Outcome::of(self.start_listening(arguments)?)
    }

    /// Runs it, which must end well, and parses what it printed as JSON.
    pub fn json(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<Value> {
        let outcome = self.call(arguments)?;
        outcome.expect_code(0)?;
        serde_json::from_str(&outcome.stdout).with_context(|| format!("no JSON:\n{}", outcome.stdout))
    }

    /// Starts it and leaves it running; its output goes nowhere.
    pub fn start(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<Child> {
        let child = self.command(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        child.with_context(|| format!("cannot start {}", self.program.display()))
    }

    /// Starts it and keeps what it says, for [`Outcome::of`].
    pub fn start_listening(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<Child> {
        let child = self.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        child.with_context(|| format!("cannot start {}", self.program.display()))
    }

    /// Runs it to its end as a shell does after `preparation`, for example `ulimit -f 64`.
    pub fn call_in_shell(
        &self,
        preparation: &str,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> Result<Outcome> {
        Outcome::of(self.start_in_shell(preparation, arguments)?)
    }

    /// Starts it as a shell does after `preparation`, and keeps what it says, for [`Outcome::of`].
    pub fn start_in_shell(
        &self,
        preparation: &str,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> Result<Child> {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("{preparation}; exec \"$0\" \"$@\"")]).arg(&self.program).args(arguments);
        let child = shell.envs(self.environment.iter().cloned()).stdin(Stdio::null());
        Ok(child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?)
    }

    fn command(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).stdin(Stdio::null()).envs(self.environment.iter().cloned());
        command
    }
}

impl Outcome {
    /// Waits for a process whose output is kept.
    pub fn of(child: Child) -> Result<Self> {
        let output = child.wait_with_output()?;
        Ok(Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Fails with all that was said, unless the exit code is `code`.
    pub fn expect_code(&self, code: i32) -> Result<()> {
        if self.code == Some(code) {
            return Ok(());
        }
        bail!("exit code {:?} instead of {code}\n--- stdout\n{}\n--- stderr\n{}", self.code, self.stdout, self.stderr)
    }
}

/// Fails unless the exit code is `code` and all `words` were said.
pub fn says(outcome: &Outcome, code: i32, words: &[&str]) -> Result<()> {
    outcome.expect_code(code)?;
    let said = format!("{}{}", outcome.stdout, outcome.stderr);
    for words in words {
        ensure!(said.contains(words), "`{words}` is missing:\n{said}");
    }
    Ok(())
}
