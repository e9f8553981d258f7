//! One pipeline of the daemon: the task that owns it. It listens, asks its agenda, and carries out the orders.

use std::time::Duration;

use bessemer_connectors::manifest_store::ManifestStore;
use bessemer_schemas::{Control, DaemonRecord, ErrorKind, RunTrigger, SourceFile};
use bessemer_transforms::ProcessMemory;
use futures::FutureExt;
use futures::future::BoxFuture;
use rand::Rng;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{Instrument, error};

use super::agenda::{Agenda, Ending, Event, Order};
use crate::error::{Error, Result};
use crate::host::{Host, Machine};
use crate::load;
use crate::output::{instant, plural};
use crate::progress::Progress;
use crate::run::{self, RunOptions};
use crate::schedule::Time;
use crate::telemetry::Observer;

/// How often the agenda learns the time.
const TICK: Duration = Duration::from_secs(1);
/// How often it is looked what users ask for: on local disk, and in an object store, where each look is a request.
const LOOK: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));

/// A pipeline to look after.
pub(super) struct Supervised {
    /// Its text, which stays what it is however its files change meanwhile.
    pub(super) files: Vec<SourceFile>,
    pub(super) progress: Progress,
    pub(super) observer: Observer,
    /// What all pipelines share.
    pub(super) memory: ProcessMemory,
    /// Ends it: an epoch in hand is given up or committed.
    pub(super) cancel: CancellationToken,
}

/// A run in its own task, and how to end it.
struct Running {
    task: AbortOnDropHandle<Result<()>>,
    pause: CancellationToken,
    timeout: CancellationToken,
    cancel: CancellationToken,
}

/// What comes in.
enum Input {
    Cancelled,
    Looked(Result<Option<Control>>),
    Ended(Result<()>),
    Tick,
}

/// The one owner of a pipeline.
struct Supervisor {
    pipeline: Supervised,
    store: ManifestStore,
    agenda: Agenda,
    running: Option<Running>,
    /// How the last run ended, if not well.
    last_error: Option<Error>,
    /// What could not be done the last time, so that it is said once.
    trouble: Option<String>,
    is_first_run: bool,
}

/// Looks after a pipeline until it is cancelled, or cannot go on.
pub(super) async fn supervise(pipeline: Supervised) -> Result<()> {
    let mut parsed = load::understand(pipeline.files.clone())?;
    let store = ManifestStore::new(parsed.settings.state.clone(), parsed.name());
    let mut clock = tokio::time::interval(TICK);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let Some((asked, record)) = remembered(&store, &pipeline, &mut clock).await? else { return Ok(()) };

    let jitter = || rand::rng().random_range(0.75..1.25);
    let agenda = Agenda::new(parsed.settings.schedule.take(), record, asked, now(), jitter);
    let (running, last_error, trouble) = (None, None, None);
    let observer = pipeline.observer.clone();
    #[cfg(feature = "kafka")]
    let mut lag = super::lag::follow(&parsed, store.clone(), &observer).boxed();
    #[cfg(not(feature = "kafka"))]
    let mut lag = std::future::pending::<std::convert::Infallible>().boxed();
    let mut supervisor = Supervisor { pipeline, store, agenda, running, last_error, trouble, is_first_run: true };
    supervisor.say_next();
    let mut look = look(supervisor.store.clone());
    loop {
        let input = tokio::select! {
            biased;
            () = supervisor.pipeline.cancel.cancelled() => Input::Cancelled,
            ended = ended(&mut supervisor.running) => Input::Ended(ended),
            looked = &mut look => Input::Looked(looked),
            _ = clock.tick() => Input::Tick,
            never = &mut lag => match never {},
        };
        let event = match input {
            Input::Cancelled => return supervisor.stop().await,
            Input::Looked(looked) => {
                look = self::look(supervisor.store.clone());
                supervisor.looked(looked)
            }
            Input::Ended(ended) => Event::Ended(supervisor.ending(ended)),
            Input::Tick => Event::Tick,
        };
        for order in supervisor.agenda.on(event, now()) {
            if let Order::End = order {
                return supervisor.last_error.map_or(Ok(()), Err);
            }
            supervisor.obey(order).await;
        }
        if let Some(phase) = supervisor.agenda.rest() {
            observer.phase(phase);
        }
    }
}

impl Supervisor {
    async fn obey(&mut self, order: Order) {
        match order {
            Order::Start { trigger, failures } => self.start(trigger, failures),
            Order::Pause => self.running.iter().for_each(|running| running.pause.cancel()),
            Order::TimeOut => self.running.iter().for_each(|running| {
                running.timeout.cancel();
                running.cancel.cancel();
            }),
            Order::Remember => self.remember().await,
            Order::Say(what) => self.pipeline.progress.say(&what),
            Order::Report | Order::End => {
                self.last_error.iter().for_each(|error| error!("{}", crate::described(error)));
            }
        }
    }

    /// Starts a run in a task of its own, so that it works on while this one waits for a store.
    fn start(&mut self, trigger: RunTrigger, failures: u32) {
        let (files, progress, memory) =
            (self.pipeline.files.clone(), self.pipeline.progress.clone(), self.pipeline.memory.clone());
        let (pause, timeout) = (CancellationToken::new(), CancellationToken::new());
        let cancel = self.pipeline.cancel.child_token();
        let options =
            RunOptions { trigger, failures, pause: pause.clone(), timeout: timeout.clone(), ..RunOptions::default() };
        let is_first = std::mem::take(&mut self.is_first_run);
        let task = {
            let cancel = cancel.clone();
            let run = async move {
                let mut parsed = load::understand(files)?;
                parsed.settings.process_memory = Some(memory);
                if !is_first {
                    // They were said before.
                    parsed.warnings.clear();
                }
                if trigger == RunTrigger::Daemon {
                    return run::follow(parsed, options, &progress, &cancel).await;
                }
                let summary = run::run(parsed, options, &progress, &cancel).await?;
                progress.say(&format!("{}: {} committed", name(trigger), plural(summary.epochs, "epoch")));
                Ok(())
            };
            tokio::spawn(run.in_current_span())
        };
        self.running = Some(Running { task: AbortOnDropHandle::new(task), pause, timeout, cancel });
    }

    /// What the end of a run means.
    fn ending(&mut self, ended: Result<()>) -> Ending {
        self.running = None;
        let error = match ended {
            Ok(()) => return Ending::Done,
            Err(Error::Interrupted { what }) => {
                self.pipeline.progress.say(&what);
                return Ending::Done;
            }
            Err(error) => error,
        };
        let ending = if may_come_back(&error) {
            self.pipeline.observer.backs_off(error.brief());
            Ending::Unavailable(load::error_chain(&error))
        } else {
            self.pipeline.observer.fails();
            Ending::Failed
        };
        self.last_error = Some(error);
        ending
    }

    /// What users ask for, where it could be seen; else what was known stays.
    fn looked(&mut self, looked: Result<Option<Control>>) -> Event {
        match looked {
            Ok(asked) => {
                self.trouble = None;
                Event::Asked(asked)
            }
            Err(error) => {
                self.trouble("cannot see whether it is to pause", &error);
                Event::Tick
            }
        }
    }

    async fn remember(&mut self) {
        let cancel = self.pipeline.cancel.clone();
        tokio::select! {
            biased;
            () = cancel.cancelled() => {}
            () = self.write_record() => {}
        }
    }

    async fn write_record(&mut self) {
        if let Err(error) = self.store.set_daemon_record(self.agenda.record()).await {
            self.trouble("cannot write down what was run", &error.into());
        }
    }

    /// Says what goes wrong beside the runs, once.
    fn trouble(&mut self, what: &str, error: &Error) {
        let text = format!("{what}: {}", load::error_chain(error));
        if self.trouble.as_ref() != Some(&text) {
            self.pipeline.progress.say(&text);
            self.trouble = Some(text);
        }
    }

    /// Says when the first run will be.
    fn say_next(&self) {
        if let Some((text, next)) = self.agenda.next_time() {
            self.pipeline
                .progress
                .say(&format!("schedule `{text}`: the next time is {}", instant(next.timestamp_micros())));
        }
    }

    /// Waits for the run, which was cancelled with the pipeline. One that had come to its end all the same is remembered.
    async fn stop(mut self) -> Result<()> {
        if self.running.is_none() {
            return Ok(());
        }
        let ended = ended(&mut self.running).await;
        let is_done = ended.is_ok();
        match self.ending(ended) {
            Ending::Unavailable(_) | Ending::Failed => self.last_error.map_or(Ok(()), Err),
            Ending::Done => {
                if is_done && self.agenda.on(Event::Ended(Ending::Done), now()).contains(&Order::Remember) {
                    self.write_record().await;
                }
                Ok(())
            }
        }
    }
}

/// What users ask for and what the daemon remembers, as soon as the store tells; `None` if the pipeline is cancelled first.
async fn remembered(
    store: &ManifestStore,
    pipeline: &Supervised,
    clock: &mut tokio::time::Interval,
) -> Result<Option<(Option<Control>, Option<DaemonRecord>)>> {
    let mut said = None;
    loop {
        let read = async { Ok::<_, Error>((store.control().await?, store.daemon_record().await?)) };
        let read = tokio::select! {
            biased;
            () = pipeline.cancel.cancelled() => return Ok(None),
            read = read => read,
        };
        match read {
            Ok(read) => return Ok(Some(read)),
            // What users asked for and cannot be read, they can ask for again.
            Err(error) if error.kind() == ErrorKind::Unavailable || is_damaged(&error) => {
                let text = format!("{}; trying again", load::error_chain(&error));
                if said.as_ref() != Some(&text) {
                    pipeline.progress.say(&text);
                    said = Some(text);
                }
            }
            Err(error) => return Err(error),
        }
        tokio::select! {
            biased;
            () = pipeline.cancel.cancelled() => return Ok(None),
            _ = clock.tick() => {}
        }
    }
}

/// Looks, after a while, what users ask for.
fn look(store: ManifestStore) -> BoxFuture<'static, Result<Option<Control>>> {
    let period = if store.location().local_folder().is_some() { LOOK.0 } else { LOOK.1 };
    async move {
        let mut clock = tokio::time::interval_at(tokio::time::Instant::now() + period, period);
        clock.tick().await;
        Ok(store.control().await?)
    }
    .boxed()
}

/// The end of the run, if there is one; else it never comes.
async fn ended(running: &mut Option<Running>) -> Result<()> {
    match running {
        Some(running) => (&mut running.task)
            .await
            .unwrap_or_else(|error| Err(Error::Internal { message: format!("a run's task ended early: {error}") })),
        None => std::future::pending().await,
    }
}

/// Whether trying again may help: also where another process holds the pipeline, since it lets go of it at its end.
fn may_come_back(error: &Error) -> bool {
    let is_locked = matches!(error.connector(), Some(bessemer_connectors::Error::Locked { .. }));
    is_locked || error.kind() == ErrorKind::Unavailable
}

fn is_damaged(error: &Error) -> bool {
    matches!(error.connector(), Some(bessemer_connectors::Error::Damaged { .. }))
}

/// A run, for people.
fn name(trigger: RunTrigger) -> String {
    match trigger {
        RunTrigger::Schedule { time } => format!("the run of {}", instant(time)),
        RunTrigger::Drain => "drain".to_owned(),
        _ => "run".to_owned(),
    }
}

fn now() -> Time {
    Time::from_timestamp_micros(Machine.now_micros()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use bessemer_connectors::Error as Connector;
    use bessemer_schemas::Epoch;

    use super::*;

    #[test]
    fn a_lock_goes_away_and_a_writer_that_took_over_does_not() {
        assert!(may_come_back(&Connector::Locked { path: "lock".into() }.into()));
        assert!(!may_come_back(&Connector::Fenced { pipeline: "p".to_owned(), epoch: Epoch::FIRST }.into()));
    }
}
