//! What a pipeline of the daemon does next: when to run, when to try again, when to stop, and what to say about it.
//!
//! It is told everything that happens, the time included, and gives orders; it does nothing itself. So a year of
//! schedules is tested in a second, and nothing here can hang.

use std::collections::VecDeque;
use std::time::Duration;

use bessemer_schemas::{Control, DaemonRecord, FORMAT_VERSION, RunTrigger, Wish};
use chrono::{DateTime, TimeDelta};

use crate::output::{instant, plural};
use crate::schedule::{CatchUp, Overlap, Schedule, Time};
use crate::telemetry::Phase;

/// The first wait before what failed is tried again, and the longest.
const BACK_OFF: (TimeDelta, TimeDelta) = (TimeDelta::seconds(1), TimeDelta::minutes(1));
/// What ran this long had come back: the next wait is the first again.
const WELL_AFTER: TimeDelta = TimeDelta::minutes(2);
/// A time of the schedule that is noticed within this is on time; later, nobody was there.
const ON_TIME: TimeDelta = TimeDelta::minutes(1);
/// Times that `catch_up = 'all'` makes up for, at most.
const CATCH_UP_MAX: usize = 100;

/// What happens to a pipeline.
#[derive(Debug)]
pub(super) enum Event {
    /// Time goes by.
    Tick,
    /// It was looked what users ask for.
    Asked(Option<Control>),
    /// The run has ended.
    Ended(Ending),
}

/// How a run ended.
#[derive(Debug)]
pub(super) enum Ending {
    /// Well, or it was stopped as ordered.
    Done,
    /// By something that may come back.
    Unavailable(String),
    /// By something that will not.
    Failed,
}

/// What to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Order {
    /// Start a run.
    Start {
        /// What begins it.
        trigger: RunTrigger,
        /// How often it failed before.
        failures: u32,
    },
    /// Let the run commit its epoch and end.
    Pause,
    /// Stop the run now: it has taken too long.
    TimeOut,
    /// Write down what is to be remembered.
    Remember,
    /// Say something.
    Say(String),
    /// Say the error that ended the last run.
    Report,
    /// Give the pipeline up: the error of its last run is its end.
    End,
}

/// A run, from its first attempt to its last.
#[derive(Debug, Clone)]
struct Going {
    trigger: RunTrigger,
    /// The request that a drain carries out.
    drains: Option<i64>,
    failures: u32,
    /// When this attempt began.
    started: Time,
    /// When it has taken too long.
    deadline: Option<Time>,
    /// The wait before the next attempt.
    wait: TimeDelta,
    /// Why it was ordered to stop.
    stopping: Option<Stopping>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stopping {
    Paused,
    TimedOut,
}

#[derive(Debug, Clone)]
enum Work {
    Idle,
    Running(Going),
    /// It failed, and is tried again at a time.
    Waiting(Going, Time),
    /// It was given up.
    Over,
}

/// The plans of one pipeline.
#[derive(Debug)]
pub(super) struct Agenda {
    /// `None`: it follows its sources for ever.
    schedule: Option<Schedule>,
    record: DaemonRecord,
    asked: Option<Control>,
    work: Work,
    /// Times of the schedule up to this one were looked at.
    seen: Time,
    /// Times that the daemon before was to run, and did not; they are decided anew.
    pending: Vec<Time>,
    /// Times to be run, oldest first.
    due: VecDeque<Time>,
    /// By which factor to wait longer or shorter, so that pipelines that lost the same broker do not all come back at once.
    jitter: fn() -> f64,
    /// Whether something is to be remembered that is not yet.
    is_changed: bool,
    orders: Vec<Order>,
}

impl Agenda {
    /// The plans of a pipeline that the daemon has just begun to look after, with what it remembers and what users asked.
    pub(super) fn new(
        schedule: Option<Schedule>,
        record: Option<DaemonRecord>,
        asked: Option<Control>,
        now: Time,
        jitter: fn() -> f64,
    ) -> Self {
        let text = schedule.as_ref().map(|schedule| schedule.cron.to_string());
        let mut record = record.unwrap_or_else(|| DaemonRecord {
            format_version: FORMAT_VERSION,
            schedule: None,
            through: now.timestamp_micros(),
            skipped: 0,
            pending: Vec::new(),
            drained: None,
            drain_failed: false,
        });
        let is_changed = record.schedule != text;
        if is_changed {
            // From here on a time that passes while nobody is there is known to have been missed.
            record.schedule = text;
            record.through = now.timestamp_micros();
            record.pending.clear();
        }
        // A clock that was ahead must not stop the schedule until it is there again.
        let seen = DateTime::from_timestamp_micros(record.through).unwrap_or(now).min(now);
        // A time that is not there yet comes again.
        let pending = record.pending.iter().filter_map(|time| DateTime::from_timestamp_micros(*time));
        let pending = pending.filter(|time| *time <= seen).collect();
        let (work, due, orders) = (Work::Idle, VecDeque::new(), Vec::new());
        let mut agenda = Self { schedule, record, asked: None, work, seen, pending, due, jitter, is_changed, orders };
        agenda.ask(asked);
        agenda
    }

    /// What is to be remembered.
    pub(super) fn record(&self) -> &DaemonRecord {
        &self.record
    }

    /// The schedule, and its next time.
    pub(super) fn next_time(&self) -> Option<(String, Time)> {
        let cron = &self.schedule.as_ref()?.cron;
        Some((cron.to_string(), cron.next(self.seen)?))
    }

    /// What it does while it runs nothing; `None` while something runs, or is tried again.
    pub(super) fn rest(&self) -> Option<Phase> {
        match (&self.work, self.asked, &self.schedule) {
            (Work::Idle, Some(_), _) => Some(Phase::Paused),
            (Work::Idle, None, Some(_)) => Some(Phase::Waiting),
            _ => None,
        }
    }

    /// Takes an event, and says what to do.
    pub(super) fn on(&mut self, event: Event, now: Time) -> Vec<Order> {
        match event {
            Event::Tick => {}
            Event::Asked(asked) => self.ask(asked),
            Event::Ended(ending) => self.ended(ending, now),
        }
        self.take_times(now);
        self.stop_late(now);
        self.obey();
        self.start(now);
        self.remember();
        std::mem::take(&mut self.orders)
    }

    fn ask(&mut self, asked: Option<Control>) {
        if self.asked == asked {
            return;
        }
        self.asked = asked;
        match asked.map(|control| (control.wish, instant(control.since))) {
            None => self.say("resumed"),
            Some((Wish::Drain, since)) if self.drains().is_some() => {
                self.say(format!("asked to drain at {since}: committing what is there now"));
            }
            Some((_, since)) => self.say(format!("paused since {since}; `bessemer resume` lets it go on")),
        }
    }

    /// The request to drain that is still to be carried out.
    fn drains(&self) -> Option<i64> {
        let control = self.asked.filter(|control| control.wish == Wish::Drain)?;
        (self.record.drained != Some(control.since)).then_some(control.since)
    }

    /// Looks which times of the schedule have passed, and decides about each: to be run, or skipped.
    fn take_times(&mut self, now: Time) {
        let Some(schedule) = &self.schedule else { return };
        let mut passed = std::mem::take(&mut self.pending);
        passed.extend(schedule.cron.newest(self.seen, now, CATCH_UP_MAX).0);
        let (catch_up, overlap) = (schedule.catch_up, schedule.overlap);
        self.seen = self.seen.max(now);
        let Some(last) = passed.last().copied() else { return };
        if self.asked.is_some() {
            return self.skip(passed.len(), &format!("paused: skipped {}", times(&passed)));
        }
        let first_wanted = match catch_up {
            CatchUp::None if now - last > ON_TIME => passed.len(),
            CatchUp::None | CatchUp::Last => passed.len() - 1,
            CatchUp::All => passed.len().saturating_sub(CATCH_UP_MAX),
        };
        let (missed, wanted) = passed.split_at(first_wanted);
        if !missed.is_empty() {
            self.skip(missed.len(), &format!("nobody was there: skipped {}", times(missed)));
        }
        let mut late = Vec::new();
        for time in wanted {
            match (&self.work, overlap) {
                (Work::Idle, _) => self.due.push_back(*time),
                (_, Overlap::Queue) if self.due.is_empty() => self.due.push_back(*time),
                _ => late.push(*time),
            }
        }
        if !late.is_empty() {
            self.skip(late.len(), &format!("the run before is still going: skipped {}", times(&late)));
        }
    }

    /// Counts times that are not run, and remembers it, so that nobody makes up for them later.
    fn skip(&mut self, count: usize, what: &str) {
        self.record.skipped += count as u64;
        self.say(what);
        self.is_changed = true;
    }

    /// Stops a run that has taken too long; one that waits to be tried again is not.
    fn stop_late(&mut self, now: Time) {
        match &mut self.work {
            Work::Running(going) if going.stopping.is_none() && going.deadline.is_some_and(|at| at <= now) => {
                going.stopping = Some(Stopping::TimedOut);
                self.orders.push(Order::TimeOut);
            }
            Work::Waiting(going, _) if going.deadline.is_some_and(|at| at <= now) => {
                let going = going.clone();
                self.say("the run has taken longer than its `timeout`: not tried again");
                self.decided(&going, false);
            }
            _ => {}
        }
    }

    /// Holds what is going against what users ask.
    fn obey(&mut self) {
        let drains = self.drains();
        let must_end = |going: &Going| match (self.asked, going.trigger) {
            (None, trigger) => trigger == RunTrigger::Drain,
            // What a scheduled run reads is part of what is there now.
            (Some(_), RunTrigger::Schedule { .. }) => drains.is_none(),
            (Some(_), RunTrigger::Drain) => drains != going.drains,
            (Some(_), _) => true,
        };
        match &mut self.work {
            Work::Running(going) if going.stopping.is_none() && self.asked.is_some() && must_end(going) => {
                going.stopping = Some(Stopping::Paused);
                self.orders.push(Order::Pause);
            }
            Work::Waiting(going, _) if must_end(going) => {
                let going = Going { stopping: Some(Stopping::Paused), ..going.clone() };
                self.decided(&going, false);
            }
            _ => {}
        }
        if self.asked.is_some() && !self.due.is_empty() {
            let due: Vec<_> = self.due.drain(..).collect();
            self.skip(due.len(), &format!("paused: skipped {}", times(&due)));
        }
    }

    /// Starts what is to be started.
    fn start(&mut self, now: Time) {
        let going = match &self.work {
            Work::Running(_) | Work::Over => return,
            Work::Waiting(_, until) if *until > now => return,
            Work::Waiting(going, _) => Going { started: now, ..going.clone() },
            Work::Idle => {
                let trigger = match (self.asked, &self.schedule) {
                    (Some(_), _) if self.drains().is_some() => RunTrigger::Drain,
                    (Some(_), _) => return,
                    (None, None) => RunTrigger::Daemon,
                    (None, Some(_)) => match self.due.pop_front() {
                        Some(time) => RunTrigger::Schedule { time: time.timestamp_micros() },
                        None => return,
                    },
                };
                let timeout = self.schedule.as_ref().and_then(|schedule| schedule.timeout);
                let deadline =
                    timeout.filter(|_| trigger != RunTrigger::Daemon).and_then(|timeout| later(now, timeout));
                let drains = self.drains().filter(|_| trigger == RunTrigger::Drain);
                Going { trigger, drains, failures: 0, started: now, deadline, wait: BACK_OFF.0, stopping: None }
            }
        };
        self.orders.push(Order::Start { trigger: going.trigger, failures: going.failures });
        self.work = Work::Running(going);
    }

    fn ended(&mut self, ending: Ending, now: Time) {
        let Work::Running(mut going) = std::mem::replace(&mut self.work, Work::Idle) else { return };
        match (ending, going.stopping) {
            (Ending::Failed, _) if going.trigger == RunTrigger::Daemon => {
                self.work = Work::Over;
                self.orders.push(Order::End);
            }
            (Ending::Failed, _) => {
                self.orders.push(Order::Report);
                self.say(self.outlook(&going));
                self.decided(&going, false);
            }
            (_, Some(Stopping::TimedOut)) => {
                self.say(format!("the run took longer than its `timeout` and was stopped; {}", self.outlook(&going)));
                self.decided(&going, false);
            }
            (Ending::Unavailable(error), None) => {
                let retries = self.schedule.as_ref().map_or(u64::MAX, |schedule| schedule.retries);
                let is_last = u64::from(going.failures) >= retries;
                if is_last && matches!(going.trigger, RunTrigger::Schedule { .. }) {
                    self.say(format!("{error}; {}", self.outlook(&going)));
                    return self.decided(&going, false);
                }
                if now - going.started > WELL_AFTER {
                    going.wait = BACK_OFF.0;
                }
                self.say(format!("{error}; trying again in {} s", going.wait.num_seconds()));
                let until = now + stretched(going.wait, (self.jitter)());
                going.wait = (going.wait * 2).min(BACK_OFF.1);
                going.failures = going.failures.saturating_add(1);
                self.work = Work::Waiting(going, until);
            }
            (Ending::Done | Ending::Unavailable(_), _) => self.decided(&going, true),
        }
    }

    /// What comes after a run that did not end well.
    fn outlook(&self, going: &Going) -> String {
        match (going.trigger, self.next_time()) {
            (RunTrigger::Drain, _) => "it could not be drained, and is paused".to_owned(),
            (_, Some((_, next))) => format!("the next run is at {}", instant(next.timestamp_micros())),
            (_, None) => "there is no next run".to_owned(),
        }
    }

    /// A run is over for good, whether it `is_done` or not.
    fn decided(&mut self, going: &Going, is_done: bool) {
        self.work = Work::Idle;
        self.is_changed |= matches!(going.trigger, RunTrigger::Schedule { .. });
        if going.trigger == RunTrigger::Drain && going.stopping != Some(Stopping::Paused) {
            (self.record.drained, self.record.drain_failed) = (going.drains, !is_done);
            self.is_changed = true;
            if is_done {
                self.say("drained, and paused; `bessemer resume` lets it go on");
            }
        }
    }

    /// Notes up to which time of the schedule everything is decided, if that changed, and which of them are still to be run:
    /// were the daemon killed, they would be made up for.
    fn remember(&mut self) {
        if !std::mem::take(&mut self.is_changed) {
            return;
        }
        let going = match &self.work {
            Work::Running(Going { trigger: RunTrigger::Schedule { time }, .. })
            | Work::Waiting(Going { trigger: RunTrigger::Schedule { time }, .. }, _) => Some(*time),
            _ => None,
        };
        self.record.pending = going.into_iter().chain(self.due.iter().map(Time::timestamp_micros)).collect();
        self.record.through = self.seen.timestamp_micros();
        self.orders.push(Order::Remember);
    }

    fn say(&mut self, what: impl Into<String>) {
        self.orders.push(Order::Say(what.into()));
    }
}

/// Times for people: the one, or the first and the last of several.
fn times(times: &[Time]) -> String {
    let text = |time: &Time| instant(time.timestamp_micros());
    match times {
        [] => "nothing".to_owned(),
        [one] => format!("the run of {}", text(one)),
        [first, .., last] => format!("{} from {} to {}", plural(times.len() as u64, "run"), text(first), text(last)),
    }
}

fn later(now: Time, by: Duration) -> Option<Time> {
    now.checked_add_signed(TimeDelta::from_std(by).ok()?)
}

fn stretched(wait: TimeDelta, factor: f64) -> TimeDelta {
    let wait = wait.to_std().unwrap_or_default();
    TimeDelta::from_std(wait.mul_f64(factor.max(0.0))).unwrap_or(BACK_OFF.1)
}

#[cfg(test)]
mod tests;
