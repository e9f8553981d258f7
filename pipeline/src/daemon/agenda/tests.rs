//! Schedules, overlaps, retries, timeouts and pauses, by a clock that only the test moves.

use bessemer_schemas::{FileId, OptionEntry, OptionMap, OptionValue, Position, Span};

use super::*;

/// A pipeline, its clock, and everything that was ordered.
struct World {
    agenda: Agenda,
    now: Time,
    /// When, after the start of the test, what was ordered.
    log: Vec<String>,
    start: Time,
    asked: Option<Control>,
}

fn time(text: &str) -> Time {
    text.parse().unwrap()
}

/// Options of `CREATE PIPELINE`, as `key = value` with commas.
fn schedule(options: &str) -> Schedule {
    let span = Span { file: FileId(0), start: Position { line: 1, column: 1 }, end: Position { line: 1, column: 2 } };
    let entry = |option: &str| {
        let (key, value) = option.split_once('=').unwrap();
        let value = OptionValue::Text(value.trim().to_owned());
        OptionEntry { key: key.trim().to_owned(), key_span: span, value, value_span: span }
    };
    let mut map = OptionMap::new("pipeline `p`", span, options.split(';').map(entry).collect());
    let schedule = Schedule::take(&mut map).unwrap();
    assert_eq!(map.finish("a pipeline"), []);
    schedule
}

impl World {
    /// A daemon begins at `now`, remembering `record`.
    fn begin(options: Option<&str>, record: Option<DaemonRecord>, now: &str) -> Self {
        let now = time(now);
        let agenda = Agenda::new(options.map(schedule), record, None, now, || 1.0);
        let mut world = Self { agenda, now, log: Vec::new(), start: now, asked: None };
        world.tell(Event::Tick);
        world
    }

    /// The same daemon dies, and another one begins at `now`.
    fn reborn(&self, now: &str) -> Self {
        let record = self.agenda.record().clone();
        let agenda = Agenda::new(self.agenda.schedule.clone(), Some(record), self.asked, time(now), || 1.0);
        let mut world = Self { agenda, now: time(now), log: Vec::new(), start: time(now), asked: self.asked };
        world.tell(Event::Tick);
        world
    }

    fn tell(&mut self, event: Event) {
        for order in self.agenda.on(event, self.now) {
            let minutes = (self.now - self.start).num_seconds();
            let what = match order {
                Order::Start { trigger, failures } => {
                    let again = if failures > 0 { format!(", failed {failures} times") } else { String::new() };
                    match trigger {
                        RunTrigger::Schedule { time } => format!("run {}{again}", instant(time)),
                        other => format!("{other:?}{again}"),
                    }
                }
                Order::Remember => continue,
                other => format!("{other:?}"),
            };
            self.log.push(format!("{minutes:>5} {what}"));
        }
    }

    /// Lets the clock go on, second by second.
    fn wait(&mut self, seconds: i64) {
        for _ in 0..seconds {
            self.now += TimeDelta::seconds(1);
            self.tell(Event::Tick);
        }
    }

    fn ask(&mut self, wish: Option<Wish>) {
        let since = self.now.timestamp_micros();
        self.asked = wish.map(|wish| Control { format_version: FORMAT_VERSION, wish, since });
        self.tell(Event::Asked(self.asked));
    }

    fn done(&mut self) {
        self.tell(Event::Ended(Ending::Done));
    }

    fn unavailable(&mut self) {
        self.tell(Event::Ended(Ending::Unavailable("no broker".to_owned())));
    }

    /// What was ordered since the last look.
    fn log(&mut self) -> Vec<String> {
        std::mem::take(&mut self.log)
    }

    fn check(&mut self, expected: &[&str]) {
        assert_eq!(self.log().iter().map(|line| line.trim_start()).collect::<Vec<_>>(), expected);
    }
}

const QUARTERS: Option<&str> = Some("schedule = */15 * * * *");

#[test]
fn a_pipeline_without_a_schedule_follows_for_ever() {
    let mut world = World::begin(None, None, "2026-01-01T00:00:00Z");
    world.check(&["0 Daemon"]);
    world.wait(3_600);
    world.check(&[]);
    world.unavailable();
    world.wait(10);
    world.check(&["3600 Say(\"no broker; trying again in 1 s\")", "3601 Daemon, failed 1 times"]);
    // Waits grow, up to a minute, and begin anew where it went well for a while.
    for _ in 0..10 {
        world.unavailable();
        world.wait(60);
    }
    assert!(world.log().join("\n").contains("trying again in 60 s"));
    world.wait(600);
    world.unavailable();
    assert!(world.log().join("\n").contains("trying again in 1 s"));
    world.wait(1);
    world.log();
    world.tell(Event::Ended(Ending::Failed));
    assert_eq!(world.log.len(), 1);
    assert!(world.log[0].ends_with("End"));
}

#[test]
fn a_run_begins_at_each_time_and_none_before_the_first() {
    let mut world = World::begin(QUARTERS, None, "2026-01-01T00:07:00Z");
    world.check(&[]);
    world.wait(8 * 60);
    world.check(&["480 run 2026-01-01 00:15:00Z"]);
    world.done();
    world.wait(30 * 60);
    world.check(&[
        "1380 run 2026-01-01 00:30:00Z",
        "2280 Say(\"the run before is still going: skipped the run of 2026-01-01 00:45:00Z\")",
    ]);
    assert_eq!(world.agenda.record().skipped, 1);
    world.done();
    world.wait(15 * 60);
    world.check(&["3180 run 2026-01-01 01:00:00Z"]);
}

#[test]
fn with_overlap_queue_one_run_waits_for_the_one_that_is_going() {
    let mut world = World::begin(Some("schedule = */15 * * * *; overlap = queue"), None, "2026-01-01T00:14:00Z");
    world.wait(60 + 30 * 60);
    world.check(&[
        "60 run 2026-01-01 00:15:00Z",
        "1860 Say(\"the run before is still going: skipped the run of 2026-01-01 00:45:00Z\")",
    ]);
    world.done();
    world.check(&["1860 run 2026-01-01 00:30:00Z"]);
    world.done();
    world.wait(10);
    world.check(&[]);
}

#[test]
fn times_that_passed_while_nobody_was_there_are_made_up_for_as_catch_up_says() {
    let cases: [(&str, &[&str]); 3] = [
        ("none", &["0 Say(\"nobody was there: skipped 3 runs from 2026-01-01 01:00:00Z to 2026-01-01 03:00:00Z\")"]),
        (
            "last",
            &[
                "0 Say(\"nobody was there: skipped 2 runs from 2026-01-01 01:00:00Z to 2026-01-01 02:00:00Z\")",
                "0 run 2026-01-01 03:00:00Z",
            ],
        ),
        ("all", &["0 run 2026-01-01 01:00:00Z", "0 run 2026-01-01 02:00:00Z", "0 run 2026-01-01 03:00:00Z"]),
    ];
    for (catch_up, expected) in cases {
        let options = format!("schedule = 0 * * * *; catch_up = {catch_up}");
        let mut first = World::begin(Some(&options), None, "2025-12-31T23:59:00Z");
        first.wait(60);
        first.done();
        first.check(&["60 run 2026-01-01 00:00:00Z"]);

        let mut second = first.reborn("2026-01-01T03:30:00Z");
        for _ in 0..5 {
            second.done();
        }
        second.check(expected);
        assert_eq!(
            second.agenda.record().skipped,
            3 - (expected.iter().filter(|line| line.contains("run 2026")).count() as u64),
            "{catch_up}"
        );
        // Decided is decided, whether it was run or not.
        let mut third = second.reborn("2026-01-01T03:31:00Z");
        third.check(&[]);
        third.wait(29 * 60);
        third.check(&["1740 run 2026-01-01 04:00:00Z"]);
    }
}

#[test]
fn a_time_that_passed_during_a_short_restart_is_on_time() {
    let first = World::begin(Some("schedule = 0 * * * *; catch_up = none"), None, "2026-01-01T00:59:50Z");
    first.reborn("2026-01-01T01:00:20Z").check(&["0 run 2026-01-01 01:00:00Z"]);
}

#[test]
fn a_time_whose_run_was_killed_is_run_again() {
    let mut first = World::begin(QUARTERS, None, "2026-01-01T00:14:00Z");
    first.wait(70);
    first.check(&["60 run 2026-01-01 00:15:00Z"]);
    let mut second = first.reborn("2026-01-01T00:20:00Z");
    second.check(&["0 run 2026-01-01 00:15:00Z"]);
    second.done();
    second.reborn("2026-01-01T00:21:00Z").check(&[]);
}

#[test]
fn times_that_were_skipped_while_a_run_was_going_are_counted_once() {
    let mut first = World::begin(QUARTERS, None, "2026-01-01T00:14:00Z");
    // 00:30 and 00:45 pass while the run of 00:15 is going.
    first.wait(32 * 60);
    assert_eq!(first.agenda.record().skipped, 2);
    let mut second = first.reborn("2026-01-01T00:50:00Z");
    second.check(&["0 run 2026-01-01 00:15:00Z"]);
    second.done();
    assert_eq!(second.agenda.record().skipped, 2);
    second.reborn("2026-01-01T00:51:00Z").check(&[]);
}

#[test]
fn another_schedule_makes_up_for_nothing() {
    let mut first = World::begin(Some("schedule = @weekly"), None, "2026-01-01T00:00:00Z");
    first.agenda.schedule = Some(schedule("schedule = * * * * *"));
    let mut second = first.reborn("2026-01-05T00:00:30Z");
    second.check(&[]);
    second.wait(30);
    second.check(&["30 run 2026-01-05 00:01:00Z"]);
}

#[test]
fn years_of_absence_cost_no_more_than_a_bounded_number_of_runs() {
    let options = Some("schedule = * * * * *; catch_up = all");
    let mut world = World::begin(options, None, "2016-01-01T00:00:00Z").reborn("2026-01-01T00:00:00Z");
    for _ in 0..200 {
        world.done();
    }
    let runs = world.log().iter().filter(|line| line.contains("run 20")).count();
    assert_eq!(runs, 100);
}

#[test]
fn what_may_come_back_is_tried_again_as_often_as_it_says() {
    let mut world = World::begin(Some("schedule = 0 * * * *; retries = 2"), None, "2026-01-01T00:59:59Z");
    world.wait(1);
    for _ in 0..3 {
        world.unavailable();
        world.wait(5);
    }
    world.check(&[
        "1 run 2026-01-01 01:00:00Z",
        "1 Say(\"no broker; trying again in 1 s\")",
        "2 run 2026-01-01 01:00:00Z, failed 1 times",
        "6 Say(\"no broker; trying again in 2 s\")",
        "8 run 2026-01-01 01:00:00Z, failed 2 times",
        "11 Say(\"no broker; the next run is at 2026-01-01 02:00:00Z\")",
    ]);
    world.wait(3_600);
    world.check(&["3601 run 2026-01-01 02:00:00Z"]);
    // What will not come back is not tried again, and the schedule goes on.
    world.tell(Event::Ended(Ending::Failed));
    world.check(&["3616 Report", "3616 Say(\"the next run is at 2026-01-01 03:00:00Z\")"]);
}

#[test]
fn a_run_that_takes_too_long_is_stopped_and_the_next_time_comes() {
    let mut world = World::begin(Some("schedule = 0 * * * *; timeout = 10 m"), None, "2026-01-01T00:59:59Z");
    world.wait(1 + 600);
    world.check(&["1 run 2026-01-01 01:00:00Z", "601 TimeOut"]);
    world.wait(5);
    world.done();
    world.check(&[
        "606 Say(\"the run took longer than its `timeout` and was stopped; the next run is at 2026-01-01 02:00:00Z\")",
    ]);
    world.wait(3_000);
    world.check(&["3601 run 2026-01-01 02:00:00Z"]);
    // The timeout covers the attempts of a run together.
    for _ in 0..3 {
        world.wait(250);
        world.unavailable();
    }
    let log = world.log().join("\n");
    assert!(log.contains("TimeOut") && log.contains("failed 2 times") && !log.contains("failed 3 times"), "{log}");
}

#[test]
fn a_pause_lets_the_epoch_end_and_survives_a_restart() {
    let mut world = World::begin(None, None, "2026-01-01T00:00:00Z");
    world.ask(Some(Wish::Pause));
    world.check(&[
        "0 Daemon",
        "0 Say(\"paused since 2026-01-01 00:00:00Z; `bessemer resume` lets it go on\")",
        "0 Pause",
    ]);
    world.wait(3);
    world.done();
    world.wait(100);
    world.check(&[]);
    let mut second = world.reborn("2026-01-01T00:10:00Z");
    second.wait(100);
    second.check(&["0 Say(\"paused since 2026-01-01 00:00:00Z; `bessemer resume` lets it go on\")"]);
    second.ask(None);
    second.check(&["100 Say(\"resumed\")", "100 Daemon"]);
}

#[test]
fn a_pause_ends_the_waiting_for_another_attempt() {
    let mut world = World::begin(None, None, "2026-01-01T00:00:00Z");
    world.unavailable();
    world.ask(Some(Wish::Pause));
    world.wait(100);
    world.ask(None);
    assert_eq!(world.log().last().unwrap().trim(), "100 Daemon");
}

#[test]
fn a_schedule_that_is_paused_skips_its_times_for_good() {
    let mut world = World::begin(QUARTERS, None, "2026-01-01T00:14:00Z");
    world.ask(Some(Wish::Pause));
    world.wait(60);
    world.check(&[
        "0 Say(\"paused since 2026-01-01 00:14:00Z; `bessemer resume` lets it go on\")",
        "60 Say(\"paused: skipped the run of 2026-01-01 00:15:00Z\")",
    ]);
    assert_eq!(world.agenda.record().skipped, 1);
    world.ask(None);
    world.check(&["60 Say(\"resumed\")"]);
    let mut second = world.reborn("2026-01-01T00:16:00Z");
    second.wait(14 * 60);
    second.check(&["840 run 2026-01-01 00:30:00Z"]);
}

#[test]
fn a_drain_commits_what_is_there_once_and_then_pauses() {
    let mut world = World::begin(None, None, "2026-01-01T00:00:00Z");
    world.ask(Some(Wish::Drain));
    world.wait(2);
    world.done();
    world.check(&[
        "0 Daemon",
        "0 Say(\"asked to drain at 2026-01-01 00:00:00Z: committing what is there now\")",
        "0 Pause",
        "2 Drain",
    ]);
    world.unavailable();
    world.wait(2);
    world.check(&["2 Say(\"no broker; trying again in 1 s\")", "3 Drain, failed 1 times"]);
    world.done();
    world.wait(1_000);
    world.check(&["4 Say(\"drained, and paused; `bessemer resume` lets it go on\")"]);
    // Once, also after a restart; a new request is a new one.
    let mut second = world.reborn("2026-01-01T01:00:00Z");
    second.wait(10);
    second.check(&["0 Say(\"paused since 2026-01-01 00:00:00Z; `bessemer resume` lets it go on\")"]);
    second.ask(Some(Wish::Drain));
    assert_eq!(second.log().last().unwrap().trim(), "10 Drain");
    // Taken back in the middle, it is not taken for done.
    second.ask(Some(Wish::Pause));
    second.done();
    assert_eq!(second.agenda.record().drained, world.agenda.record().drained);
}

#[test]
fn a_scheduled_run_that_is_going_ends_before_the_drain_begins() {
    let mut world = World::begin(QUARTERS, None, "2026-01-01T00:14:59Z");
    world.wait(1);
    world.ask(Some(Wish::Drain));
    world.done();
    world.done();
    world.check(&[
        "1 run 2026-01-01 00:15:00Z",
        "1 Say(\"asked to drain at 2026-01-01 00:15:00Z: committing what is there now\")",
        "1 Drain",
        "1 Say(\"drained, and paused; `bessemer resume` lets it go on\")",
    ]);
}

#[test]
fn a_drain_that_fails_for_good_says_so_and_pauses() {
    let mut world = World::begin(None, None, "2026-01-01T00:00:00Z");
    world.ask(Some(Wish::Drain));
    world.done();
    world.log();
    world.tell(Event::Ended(Ending::Failed));
    world.wait(100);
    world.check(&["0 Report", "0 Say(\"it could not be drained, and is paused\")"]);
    assert!(world.agenda.record().drain_failed);
    // Another request is another drain.
    world.ask(Some(Wish::Drain));
    world.done();
    assert!(!world.agenda.record().drain_failed);
}

#[test]
fn a_clock_that_goes_back_repeats_nothing() {
    let mut world = World::begin(QUARTERS, None, "2026-01-01T00:14:59Z");
    world.wait(1);
    world.done();
    world.log();
    world.now -= TimeDelta::minutes(10);
    world.wait(14 * 60);
    world.check(&[]);
    world.wait(11 * 60);
    assert_eq!(world.log().len(), 1);
}
