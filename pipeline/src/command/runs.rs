//! `log --runs`, and what `status` says of runs: what began each, and how it ended.

use bessemer_connectors::manifest_store::ManifestStore;
use bessemer_schemas::{Control, DaemonRecord, RunOutcome, RunRecord, RunTrigger, Wish};
use serde::Serialize;

use crate::cli::LogArgs;
use crate::error::Result;
use crate::host::{Host, Machine};
use crate::load::{self, Parsed};
use crate::output::{self, count, instant, plural};
use crate::schedule::Time;

/// Lists the runs, oldest first.
pub(crate) async fn log(args: &LogArgs) -> Result<()> {
    let parsed = load::parse(&args.pipeline.paths)?;
    let store = ManifestStore::new(parsed.settings.state.clone(), parsed.name());
    let runs = store.runs(usize::try_from(args.last).unwrap_or(usize::MAX)).await?;
    if args.pipeline.json {
        return output::json(&runs);
    }
    if runs.is_empty() {
        return output::line(format!("{}: no run yet", parsed.name()));
    }
    let header =
        ["started", "trigger", "outcome", "#duration", "#epochs", "#records", "#rows", "#quarantined", "error"];
    let newest = runs.len() - 1;
    let rows = runs.iter().enumerate().map(|(at, run)| {
        vec![
            instant(run.started_at),
            trigger(run),
            outcome(run, at == newest).to_owned(),
            run.ended_at.map(|ended| output::seconds(ended - run.started_at)).unwrap_or_default(),
            count(run.epochs),
            count(run.records),
            count(run.rows),
            count(run.quarantined),
            headline(run).unwrap_or_default().to_owned(),
        ]
    });
    output::table(&header, rows.collect())
}

/// What `status` says of the runs of a pipeline and of the daemon's plans for it.
#[derive(Debug, Serialize)]
pub(super) struct Runs {
    /// What users ask of the daemon.
    control: Option<Control>,
    /// Whether the request to drain was carried out.
    is_drained: bool,
    /// Whether it was tried, and failed for good.
    drain_failed: bool,
    schedule: Option<String>,
    /// The next time of the schedule, UTC.
    next_run: Option<String>,
    /// Times of the schedule that were not run.
    skipped: u64,
    last_run: Option<RunRecord>,
}

impl Runs {
    /// Asks the store and the clock.
    pub(super) async fn of(parsed: &Parsed, store: &ManifestStore) -> Result<Self> {
        let (control, daemon) = (store.control().await?, store.daemon_record().await?);
        let cron = parsed.settings.schedule.as_ref().map(|schedule| &schedule.cron);
        let now = Time::from_timestamp_micros(Machine.now_micros()).unwrap_or_default();
        let taken_up = daemon.as_ref().filter(|it| control.is_some_and(|control| it.drained == Some(control.since)));
        Ok(Self {
            is_drained: taken_up.is_some_and(|it| !it.drain_failed),
            drain_failed: taken_up.is_some_and(|it| it.drain_failed),
            control,
            schedule: cron.map(ToString::to_string),
            next_run: cron.and_then(|cron| cron.next(now)).map(|next| instant(next.timestamp_micros())),
            skipped: daemon.as_ref().map_or(0, |daemon: &DaemonRecord| daemon.skipped),
            last_run: store.runs(1).await?.pop(),
        })
    }

    /// Whether there is nothing to say that a pipeline without an epoch has, too.
    pub(super) fn is_nothing(&self) -> bool {
        self.control.is_none() && self.schedule.is_none()
    }

    pub(super) fn print(&self) -> Result<()> {
        if let Some(run) = &self.last_run {
            let took = run.ended_at.map(|ended| format!(" after {}", output::seconds(ended - run.started_at)));
            let error = headline(run).map(|error| format!(": {error}"));
            output::line(format!(
                "last run: {} at {}, {}{}, {}, {}{}",
                trigger(run),
                instant(run.started_at),
                outcome(run, true),
                took.unwrap_or_default(),
                plural(run.epochs, "epoch"),
                plural(run.rows, "row"),
                error.unwrap_or_default()
            ))?;
        }
        if let (Some(schedule), Some(next)) = (&self.schedule, &self.next_run) {
            let skipped = if self.skipped > 0 { format!(", {} skipped", count(self.skipped)) } else { String::new() };
            output::line(format!("next run: {next} ({schedule}){skipped}"))?;
        }
        match self.control {
            Some(control) if self.drain_failed => output::line(format!(
                "paused since {}: it could not be drained, `bessemer log --runs` says why",
                instant(control.since)
            )),
            Some(control) if control.wish == Wish::Drain && !self.is_drained => output::line(format!(
                "draining since {}: the daemon commits what is there, then pauses",
                instant(control.since)
            )),
            Some(control) => {
                output::line(format!("paused since {}: `bessemer resume` lets it go on", instant(control.since)))
            }
            None => Ok(()),
        }
    }
}

fn trigger(run: &RunRecord) -> String {
    let trigger = match run.trigger {
        RunTrigger::Manual => "manual".to_owned(),
        RunTrigger::Daemon => "daemon".to_owned(),
        RunTrigger::Schedule { time } => format!("schedule {}", instant(time)),
        RunTrigger::Drain => "drain".to_owned(),
        _ => "other".to_owned(),
    };
    if run.attempt > 1 { format!("{trigger}, attempt {}", run.attempt) } else { trigger }
}

/// A run that never said how it ended was killed, unless it is the newest, which may be going on.
fn outcome(run: &RunRecord, is_newest: bool) -> &'static str {
    match run.outcome {
        Some(RunOutcome::Done) => "done",
        Some(RunOutcome::Failed) => "failed",
        Some(RunOutcome::Stopped) => "stopped",
        Some(RunOutcome::TimedOut) => "timed out",
        Some(_) => "other",
        None if is_newest => "going on, or killed",
        None => "killed",
    }
}

/// What an error says first: the rest of it, a line for each thing that changed, is for `--json`.
fn headline(run: &RunRecord) -> Option<&str> {
    run.error.as_deref()?.lines().next().map(|line| line.trim_end_matches(':'))
}
