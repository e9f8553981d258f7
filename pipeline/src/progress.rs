//! Progress of a run: a bar on a terminal, a plain line per epoch in a pipe, nothing with `--json`; in a daemon, its log.

use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tracing::info;

use crate::output;
use crate::telemetry::Observer;

/// What a run shows while it works. Cloning shares the bar.
#[derive(Debug, Clone)]
pub(crate) struct Progress {
    bar: ProgressBar,
    plain: bool,
    /// What lines begin with.
    name: Option<Arc<str>>,
    /// Who else is told, in a daemon.
    observer: Option<Observer>,
}

impl Progress {
    /// A bar if stderr is a terminal; `quiet` shows nothing at all.
    pub(crate) fn new(quiet: bool) -> Self {
        let is_terminal = output::is_terminal();
        let bar = ProgressBar::no_length();
        bar.set_draw_target(if is_terminal && !quiet {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        });
        let style = "{spinner} {prefix} {wide_bar:.cyan} {bytes}/{total_bytes} {bytes_per_sec} {msg} {eta}";
        // The template is a constant; a wrong one would leave the default bar.
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(120));
        Self { bar, plain: !is_terminal && !quiet, name: None, observer: None }
    }

    /// Plain lines on stderr, each beginning with `name`: what a demonstration says of its pipeline.
    #[cfg(feature = "kafka")]
    pub(crate) fn lines(name: &str) -> Self {
        Self { bar: ProgressBar::hidden(), plain: true, name: Some(Arc::from(name)), observer: None }
    }

    /// No line of its own: what a daemon says of a pipeline is in the log, and what there is to count goes to `observer`.
    pub(crate) fn observed(observer: &Observer) -> Self {
        Self { bar: ProgressBar::hidden(), plain: false, name: None, observer: Some(observer.clone()) }
    }

    /// Tells the observer, if there is one.
    pub(crate) fn tell(&self, what: impl FnOnce(&Observer)) {
        if let Some(observer) = &self.observer {
            what(observer);
        }
    }

    /// An epoch begins that will read `bytes`.
    pub(crate) fn begin(&self, epoch: u64, bytes: u64) {
        self.bar.reset();
        self.bar.set_length(bytes);
        self.bar.set_prefix(format!("epoch {epoch}"));
    }

    /// Bytes were read, `rows` so far in this epoch, `files` left.
    pub(crate) fn advance(&self, bytes: u64, rows: u64, files_left: u64) {
        self.bar.inc(bytes);
        let elapsed = self.bar.elapsed().as_secs_f64().max(0.001);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rate for people, never negative"
        )]
        let rate = (rows as f64 / elapsed) as u64;
        let files = output::plural(files_left, "file");
        self.bar.set_message(format!("{} rows {}/s {files} left", output::count(rows), output::count(rate)));
    }

    /// A phase without a length.
    pub(crate) fn phase(&self, what: &str) {
        self.bar.set_prefix(what.to_owned());
    }

    /// Says a line; in a daemon, in its log.
    pub(crate) fn say(&self, text: &str) {
        if self.observer.is_some() {
            info!("{text}");
        } else {
            self.show(text);
        }
    }

    /// Says what the log has in its own words: without breaking the bar; in a pipe, a plain line on stderr.
    pub(crate) fn show(&self, text: &str) {
        if let Some(name) = &self.name {
            output::note(format!("{name}: {text}"));
        } else if self.plain {
            output::note(text);
        } else {
            // Nothing where there is no bar.
            self.bar.println(text);
        }
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
