//! Times of cron lines over a year of Berlin's clocks, and the words for mistakes.

use bessemer_schemas::{FileId, OptionEntry, Position, Span};
use chrono_tz::Tz;

use super::cron::{Problem, Time};
use super::*;

fn cron(text: &str, zone: &str) -> Cron {
    Cron::parse(text, time_zone(zone).unwrap()).unwrap()
}

fn time(text: &str) -> Time {
    text.parse().unwrap()
}

/// The times of `text` after `after`, as Berlin's clocks show them, with their offset.
fn in_berlin(text: &str, after: &str, count: usize) -> Vec<String> {
    let cron = cron(text, "Europe/Berlin");
    let times = std::iter::successors(cron.next(time(after)), |at| cron.next(*at)).take(count);
    times.map(|at| at.with_timezone(&Tz::Europe__Berlin).format("%d %H:%M %z").to_string()).collect()
}

#[test]
fn five_fields_mean_what_cron_means() {
    let next = |text: &str, after: &str| cron(text, "UTC").next(time(after)).unwrap().to_rfc3339();
    // 1 July 2026 is a Wednesday.
    let after = "2026-07-01T10:07:30Z";
    let cases = [
        ("*/15 * * * *", "2026-07-01T10:15:00+00:00"),
        ("7 * * * *", "2026-07-01T11:07:00+00:00"),
        ("0 9-17/4 * * MON-FRI", "2026-07-01T13:00:00+00:00"),
        ("30 6 * * sun", "2026-07-05T06:30:00+00:00"),
        ("30 6 * * 7", "2026-07-05T06:30:00+00:00"),
        // Day of the month or day of the week, as in every cron.
        ("0 0 15 * FRI", "2026-07-03T00:00:00+00:00"),
        ("0 0 L * *", "2026-07-31T00:00:00+00:00"),
        ("0 0 29 2 *", "2028-02-29T00:00:00+00:00"),
        ("@daily", "2026-07-02T00:00:00+00:00"),
        ("@hourly", "2026-07-01T11:00:00+00:00"),
    ];
    for (text, expected) in cases {
        assert_eq!(next(text, after), expected, "{text}");
    }
    assert_eq!(next("7 10 * * *", "2026-07-01T10:07:00Z"), "2026-07-02T10:07:00+00:00", "a time is not its own next");
}

#[test]
fn a_time_that_is_skipped_comes_at_the_first_moment_after_the_gap() {
    // On 29 March 2026 Berlin's clocks go from 02:00 to 03:00.
    let eve = "2026-03-28T20:00:00Z";
    assert_eq!(in_berlin("30 2 * * *", eve, 2), ["29 03:00 +0200", "30 02:30 +0200"]);
    // Several that are skipped are one moment, and with one that is there anyway still one.
    assert_eq!(
        in_berlin("*/20 2,3 * * *", eve, 4),
        ["29 03:00 +0200", "29 03:20 +0200", "29 03:40 +0200", "30 02:00 +0200"]
    );
    assert_eq!(in_berlin("0 3 * * *", eve, 2), ["29 03:00 +0200", "30 03:00 +0200"]);
    assert_eq!(in_berlin("30 2,14 * * *", eve, 2), ["29 03:00 +0200", "29 14:30 +0200"]);
}

#[test]
fn a_time_that_is_repeated_comes_once() {
    // On 25 October 2026 Berlin's clocks go from 03:00 back to 02:00.
    let eve = "2026-10-24T20:00:00Z";
    assert_eq!(in_berlin("30 2 * * *", eve, 2), ["25 02:30 +0200", "26 02:30 +0100"]);
    assert_eq!(in_berlin("30 2,14 * * *", eve, 3), ["25 02:30 +0200", "25 14:30 +0100", "26 02:30 +0100"]);
    assert_eq!(in_berlin("*/30 2 * * *", eve, 3), ["25 02:00 +0200", "25 02:30 +0200", "26 02:00 +0100"]);
    // Asked in the middle of the hour that comes again.
    assert_eq!(in_berlin("30 2 * * *", "2026-10-25T01:10:00Z", 1), ["26 02:30 +0100"]);
}

#[test]
fn hourly_patterns_follow_the_real_hours() {
    let hours = |text: &str, after: &str, count: usize| {
        let cron = cron(text, "Europe/Berlin");
        let times: Vec<_> = std::iter::successors(cron.next(time(after)), |at| cron.next(*at)).take(count).collect();
        times.windows(2).map(|pair| (pair[1] - pair[0]).num_minutes()).collect::<Vec<_>>()
    };
    for eve in ["2026-03-28T20:00:00Z", "2026-10-24T20:00:00Z"] {
        assert_eq!(hours("30 * * * *", eve, 24), [60; 23], "{eve}");
        assert_eq!(hours("*/20 * * * *", eve, 40), [20; 39], "{eve}");
    }
    // In half-hour steps, too: Lord Howe Island moves its clocks by 30 minutes.
    let lord_howe = cron("*/10 * * * *", "Australia/Lord_Howe");
    let (mut at, mut count) = (time("2026-04-04T00:00:00Z"), 0);
    while at < time("2026-04-05T00:00:00Z") {
        at = lord_howe.next(at).unwrap();
        count += 1;
    }
    assert_eq!(count, 24 * 6);
}

#[test]
fn every_time_of_every_zone_is_after_the_one_before() {
    for zone in chrono_tz::TZ_VARIANTS.iter().step_by(7) {
        for text in ["*/30 * * * *", "0 0,2,3 * * *", "30 1 * * SUN"] {
            let cron = Cron::parse(text, *zone).unwrap();
            // The week in which Samoa lost a day, and the hours around a change in Europe.
            for start in ["2011-12-27T00:00:00Z", "2026-10-24T23:00:00Z"] {
                let mut at = time(start);
                for _ in 0..20 {
                    let next = cron.next(at).unwrap();
                    assert!(next > at, "{zone} {text} {at}");
                    at = next;
                }
            }
        }
    }
    assert_eq!(
        cron("30 2 * * *", "Pacific/Apia").next(time("2011-12-29T20:00:00Z")).unwrap(),
        time("2011-12-30T10:00:00Z")
    );
}

#[test]
fn the_newest_times_are_found_however_long_ago_the_first_was() {
    let (start, now) = (time("1990-01-01T00:00:00Z"), time("2026-07-01T10:00:00Z"));
    let (times, is_cut) = cron("* * * * *", "UTC").newest(start, now, 100);
    assert!(times.len() >= 100 && times.len() < 400 && is_cut, "{} {is_cut}", times.len());
    assert_eq!(times.last(), Some(&now));
    let (times, is_cut) = cron("@yearly", "UTC").newest(start, now, 100);
    assert_eq!((times.len(), is_cut), (36, false));
    assert!(cron("@daily", "UTC").newest(now, now, 100).0.is_empty());
}

#[test]
fn a_wrong_line_is_told_with_its_field_and_what_to_write() {
    let cases = [
        ("", "it is empty"),
        ("* * * *", "it has 4 fields"),
        ("0 */5 * * * *", "it has 6 fields"),
        ("60 * * * *", "the minute cannot be `60`"),
        ("0 24 * * *", "the hour cannot be `24`"),
        ("0 0 0 * *", "the day of the month cannot be `0`"),
        ("0 0 * 13 *", "the month cannot be `13`"),
        ("0 0 * * MONN", "the day of the week cannot be `MONN`"),
        ("0 0 * januar *", "the month cannot be `januar`"),
        ("*/0 * * * *", "the minute cannot be `*/0`"),
        ("0 x * * *", "the hour cannot be `x`"),
        ("0 0 30 2 *", "no day is like that"),
        ("@dayly", "there is no `@dayly`"),
        ("@every 5m", "there is no `@every 5m`"),
    ];
    let told: Vec<_> = cases
        .iter()
        .map(|(text, expected)| {
            let Problem { what, help } = Cron::parse(text, Tz::UTC).expect_err(text);
            assert_eq!(what, *expected, "{text}");
            format!("{text:<15} {what}; {help}")
        })
        .collect();
    insta::assert_snapshot!(told.join("\n"));
}

/// Diagnostics of a pipeline's options.
fn problems(options: &[(&str, OptionValue)]) -> (Option<Schedule>, Vec<String>) {
    let span = Span { file: FileId(0), start: Position { line: 1, column: 1 }, end: Position { line: 1, column: 2 } };
    let entry = |(key, value): &(&str, OptionValue)| OptionEntry {
        key: (*key).to_owned(),
        key_span: span,
        value: value.clone(),
        value_span: span,
    };
    let mut map = OptionMap::new("pipeline `p`", span, options.iter().map(entry).collect());
    let schedule = Schedule::take(&mut map);
    let said = map.finish("a pipeline").into_iter();
    (schedule, said.map(|problem| format!("{}; {}", problem.message, problem.help.unwrap_or_default())).collect())
}

fn text(text: &str) -> OptionValue {
    OptionValue::Text(text.to_owned())
}

#[test]
fn options_have_defaults_and_choices() {
    let (schedule, said) = problems(&[("schedule", text("@daily"))]);
    assert_eq!(said, [""; 0]);
    let schedule = schedule.unwrap();
    assert_eq!((schedule.catch_up, schedule.overlap, schedule.timeout), (CatchUp::Last, Overlap::Skip, None));
    assert_eq!((schedule.retries, schedule.cron.to_string().as_str()), (3, "@daily UTC"));

    let (schedule, said) = problems(&[
        ("schedule", text("0 6 * * *")),
        ("time_zone", text("europe/berlin")),
        ("catch_up", text("all")),
        ("overlap", text("queue")),
        ("timeout", text("30 minutes")),
        ("retries", OptionValue::Number("0".to_owned())),
    ]);
    assert_eq!(said, [""; 0]);
    let schedule = schedule.unwrap();
    assert_eq!((schedule.catch_up, schedule.overlap, schedule.retries), (CatchUp::All, Overlap::Queue, 0));
    assert_eq!(schedule.timeout, Some(Duration::from_mins(30)));
    assert_eq!(schedule.cron.to_string(), "0 6 * * * Europe/Berlin");
}

#[test]
fn mistakes_in_options_are_told_with_the_nearest_help() {
    let (_, said) = problems(&[("schedule", text("@daily")), ("time_zone", text("Berlin"))]);
    assert_eq!(said, ["there is no time zone `Berlin`; did you mean `'Europe/Berlin'`?"]);
    let (_, said) = problems(&[("schedule", text("@daily")), ("time_zone", text("Europe/Berln"))]);
    assert_eq!(said, ["there is no time zone `Europe/Berln`; did you mean `'Europe/Berlin'`?"]);
    let (_, said) = problems(&[("schedule", OptionValue::Number("5".to_owned())), ("overlap", text("skipp"))]);
    assert!(said.iter().any(|said| said.contains("did you mean `'skip'`")), "{said:?}");
    assert!(said.iter().any(|said| said.contains("write a cron line in single quotes")), "{said:?}");
    let (schedule, said) = problems(&[("retries", OptionValue::Number("3".to_owned()))]);
    assert!(schedule.is_none());
    assert_eq!(
        said,
        [
            "option `retries` means something only beside `schedule`; add `schedule = '0 * * * *'` (every hour), or remove `retries`"
        ]
    );
}
