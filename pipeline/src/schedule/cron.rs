//! A cron line in a time zone, and its times.
//!
//! Where clocks are changed: a pattern whose hour is `*` or `*/n` runs whenever the clocks show its hour and minute, so that
//! `0 * * * *` is every real hour. Any other pattern names times of the day: one that is skipped comes at the first moment
//! after the gap, one that is repeated comes the first time only.

use std::fmt;

use bessemer_schemas::nearest;
use chrono::{DateTime, NaiveDateTime, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;
use croner::parser::{CronParser, Seconds, Year};

/// A time, in UTC.
pub(crate) type Time = DateTime<Utc>;

/// The five fields, as people name them, with what they allow.
const FIELDS: [(&str, &str); 5] = [
    ("minute", "0 to 59"),
    ("hour", "0 to 23"),
    ("day of the month", "1 to 31, or `L` for the last"),
    ("month", "1 to 12, or JAN to DEC"),
    ("day of the week", "0 to 7 (0 and 7 are Sunday), or SUN to SAT"),
];
const NICKNAMES: [&str; 6] = ["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@hourly"];
const MONTHS: [&str; 12] = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const DAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

/// More than any gap of the clocks: some islands have skipped a whole day.
const GAP_MAX: TimeDelta = TimeDelta::hours(25);

/// A cron line in a time zone.
#[derive(Debug, Clone)]
pub(crate) struct Cron {
    text: String,
    pattern: croner::Cron,
    zone: Tz,
    /// The hour is `*` or `*/n`.
    is_by_real_hours: bool,
}

/// What is wrong with a cron line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) what: String,
    pub(super) help: String,
}

impl Cron {
    /// Reads a line of five fields, or a nickname such as `@daily`.
    pub(super) fn parse(text: &str, zone: Tz) -> Result<Self, Problem> {
        let text = text.trim();
        let fields: Vec<_> = text.split_whitespace().collect();
        let hour = if text.starts_with('@') {
            if !NICKNAMES.iter().any(|name| name.eq_ignore_ascii_case(text)) {
                return Err(unknown_nickname(text));
            }
            if text.eq_ignore_ascii_case("@hourly") { "*" } else { "0" }
        } else {
            let [_, hour, ..] = fields[..] else { return Err(wrong_count(fields.len())) };
            if fields.len() != FIELDS.len() {
                return Err(wrong_count(fields.len()));
            }
            hour
        };
        let is_by_real_hours = hour.starts_with('*');
        let pattern = parser().parse(text).map_err(|_| wrong_field(&fields))?;
        let cron = Self { text: text.to_owned(), pattern, zone, is_by_real_hours };
        // Any moment will do: what comes at all comes within a leap year or two.
        match cron.next(DateTime::UNIX_EPOCH) {
            Some(_) => Ok(cron),
            None => Err(Problem {
                what: "no day is like that".to_owned(),
                help: "look at the day of the month and the month: February has 29 days at most".to_owned(),
            }),
        }
    }

    /// The first time after `after`.
    pub(crate) fn next(&self, after: Time) -> Option<Time> {
        let local = after.with_timezone(&self.zone);
        if self.is_by_real_hours {
            return self.pattern.find_next_occurrence(&local, false).ok().map(|time| time.to_utc());
        }
        let mut at = local.naive_local();
        loop {
            at = self.pattern.find_next_occurrence(&at, false).ok()?;
            // A time of the day that the clocks show again is behind us already.
            match self.moment(at) {
                Some(time) if time > after => return Some(time),
                _ => {}
            }
        }
    }

    /// The newest times after `after` until `until`, oldest first, at least `max` of them if there are so many; and whether
    /// there may be older ones. What it costs does not depend on how long ago `after` was.
    pub(crate) fn newest(&self, after: Time, until: Time, max: usize) -> (Vec<Time>, bool) {
        let mut reach = TimeDelta::hours(1);
        loop {
            let from = until.checked_sub_signed(reach).map_or(after, |from| from.max(after));
            let times = std::iter::successors(self.next(from), |time| self.next(*time));
            let times: Vec<_> = times.take_while(|time| *time <= until).collect();
            if from == after || times.len() >= max {
                return (times, from > after);
            }
            reach = reach.checked_mul(2).unwrap_or(TimeDelta::MAX);
        }
    }

    /// The moment at which the clocks show `local` for the first time, or would have.
    fn moment(&self, local: NaiveDateTime) -> Option<Time> {
        if let Some(time) = self.zone.from_local_datetime(&local).earliest() {
            return Some(time.to_utc());
        }
        // In a gap, around which the clocks otherwise only go on: the first moment at which they show something later.
        let before = self.zone.from_local_datetime(&(local - GAP_MAX)).earliest()?.to_utc();
        let after = self.zone.from_local_datetime(&(local + GAP_MAX)).earliest()?.to_utc();
        let is_over = |time: Time| time.with_timezone(&self.zone).naive_local() > local;
        let (mut low, mut high) = (before.timestamp(), after.timestamp());
        while high - low > 1 {
            let middle = low.midpoint(high);
            let time = DateTime::from_timestamp(middle, 0)?;
            if is_over(time) { high = middle } else { low = middle }
        }
        DateTime::from_timestamp(high, 0)
    }
}

/// As the user wrote it, with its zone.
impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.text, self.zone.name())
    }
}

fn parser() -> CronParser {
    CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build()
}

fn unknown_nickname(text: &str) -> Problem {
    let what = format!("there is no `{text}`");
    let help = match nearest(&text.to_ascii_lowercase(), NICKNAMES) {
        Some(near) => format!("did you mean `{near}`?"),
        None if text.to_ascii_lowercase().starts_with("@every") => {
            "write five fields: `'*/15 * * * *'` is every 15 minutes".to_owned()
        }
        None => "there are `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`, or five fields".to_owned(),
    };
    Problem { what, help }
}

fn wrong_count(count: usize) -> Problem {
    let what = match count {
        0 => "it is empty".to_owned(),
        1 => "it has 1 field".to_owned(),
        count => format!("it has {count} fields"),
    };
    let help = match count {
        6 | 7 => "write five, without seconds and years: minute, hour, day of the month, month, day of the week",
        _ => "write five: minute, hour, day of the month, month, day of the week; `'*/15 * * * *'` is every 15 minutes",
    };
    Problem { what, help: help.to_owned() }
}

/// Which of the fields is wrong: the first that is refused when it stands alone.
fn wrong_field(fields: &[&str]) -> Problem {
    let is_wrong = |at: usize| {
        let alone: Vec<_> = (0..FIELDS.len()).map(|other| if other == at { fields[at] } else { "*" }).collect();
        parser().parse(&alone.join(" ")).is_err()
    };
    let Some(at) = (0..fields.len().min(FIELDS.len())).find(|at| is_wrong(*at)) else {
        return wrong_count(fields.len());
    };
    let (name, allowed) = FIELDS[at];
    let names: &[&str] = match at {
        3 => &MONTHS,
        4 => &DAYS,
        _ => &[],
    };
    let word: String = fields[at].chars().skip_while(|c| !c.is_ascii_alphabetic()).collect();
    let word: String = word.chars().take_while(char::is_ascii_alphabetic).collect::<String>().to_ascii_uppercase();
    let by_name = names.iter().find(|name| word.starts_with(*name)).copied();
    let near =
        by_name.or_else(|| nearest(&word, names.iter().copied())).filter(|near| !word.is_empty() && *near != word);
    let help = match near {
        Some(near) => format!("did you mean `{near}`?"),
        None => {
            format!("it takes {allowed}; `*` for every, `*/n` for every n-th, `a-b` for a range, `a,b` for several")
        }
    };
    Problem { what: format!("the {name} cannot be `{}`", fields[at]), help }
}
