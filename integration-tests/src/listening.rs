//! Processes that answer over HTTP, and asking them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::wait::signal;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// A process that has said on stderr where it listens. It ends with this value.
#[derive(Debug)]
pub struct Listening {
    child: Child,
    /// Host and port.
    pub address: String,
    /// Reads on, so that the process can go on speaking; returns what it said.
    listener: Option<JoinHandle<String>>,
}

impl Listening {
    /// Waits until `child`, whose stderr is piped, says where it listens: what comes after `words` on their line.
    pub fn wait(mut child: Child, words: &str) -> Result<Self> {
        let stderr = child.stderr.take().context("stderr is not piped")?;
        let mut lines = BufReader::new(stderr).lines();
        let mut said = String::new();
        for line in lines.by_ref() {
            let line = line?;
            said.push_str(&line);
            said.push('\n');
            let Some((_, address)) = line.split_once(words) else { continue };
            let is_of_address = |letter: char| letter.is_ascii_alphanumeric() || ".:-[]".contains(letter);
            let address = address.trim_start_matches('"').split(|letter| !is_of_address(letter)).next();
            let address = address.unwrap_or_default().to_owned();
            let listener =
                std::thread::spawn(move || lines.map_while(Result::ok).fold(said, |said, line| said + &line + "\n"));
            return Ok(Self { child, address, listener: Some(listener) });
        }
        bail!("{} before it listened: {said}", child.wait()?)
    }

    /// Asks for `path`: the status and the body.
    pub fn get(&self, path: &str) -> Result<(u16, String)> {
        let mut stream = TcpStream::connect(&self.address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        // 1.0: the body comes whole, and the connection ends with it.
        write!(stream, "GET {path} HTTP/1.0\r\nHost: {}\r\n\r\n", self.address)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
        let status = head.split(' ').nth(1).context("no status")?.parse()?;
        Ok((status, body.to_owned()))
    }

    /// Asks it to stop and waits until it has: how it ended, and all that it said.
    pub fn stop(mut self) -> Result<(ExitStatus, String)> {
        signal("-TERM", self.child.id())?;
        let status = self.child.wait()?;
        let said = self.listener.take().and_then(|listener| listener.join().ok());
        Ok((status, said.unwrap_or_default()))
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// How a process is started for [`Listening::wait`].
pub fn listened(command: &mut std::process::Command) -> Result<Child> {
    Ok(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?)
}

/// A text as a part of a URL.
pub fn percent_encoded(text: &str) -> String {
    let keep = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
    let encode = |byte| if keep(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(encode).collect()
}
