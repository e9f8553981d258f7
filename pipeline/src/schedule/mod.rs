//! When a pipeline of the daemon runs: a cron line in a time zone, and what to do about times that could not be kept.
//!
//! Everything here is a function of its arguments; the time is one of them.

mod cron;

use std::time::Duration;

use bessemer_schemas::{Diagnostic, OptionMap, OptionValue, nearest};

pub(crate) use cron::{Cron, Time};

/// Retries of a scheduled run where the definition says nothing.
const RETRIES: u64 = 3;

/// The options that mean something only beside `schedule`.
const WITH_SCHEDULE: [&str; 5] = ["time_zone", "catch_up", "timeout", "retries", "overlap"];

/// A pipeline's schedule, with its options.
#[derive(Debug, Clone)]
pub(crate) struct Schedule {
    /// The times.
    pub(crate) cron: Cron,
    /// What to do about times that passed while no daemon was there.
    pub(crate) catch_up: CatchUp,
    /// What to do about a time that comes while a run is going.
    pub(crate) overlap: Overlap,
    /// How long a run may take, its retries included; `None`: as long as it takes.
    pub(crate) timeout: Option<Duration>,
    /// How often a run that failed for what may come back is tried again.
    pub(crate) retries: u64,
}

/// What to do about times that passed while no daemon was there. A run takes all that is new, so the last one makes up
/// for those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum CatchUp {
    /// Nothing: the next time takes what is new.
    None,
    /// One run, for the last of them.
    #[default]
    Last,
    /// A run for each.
    All,
}

/// What to do about a time that comes while a run is going.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Overlap {
    /// Nothing.
    #[default]
    Skip,
    /// One more run, once the run that is going has ended.
    Queue,
}

impl Schedule {
    /// Takes the schedule out of a pipeline's options; `None` where it has none, or a wrong one, which is reported.
    pub(crate) fn take(map: &mut OptionMap) -> Option<Self> {
        let Some(entry) = map.take("schedule") else {
            for key in WITH_SCHEDULE {
                if let Some(entry) = map.take(key) {
                    let message = format!("option `{key}` means something only beside `schedule`");
                    let help = format!("add `schedule = '0 * * * *'` (every hour), or remove `{key}`");
                    map.report(Diagnostic::error(message, entry.key_span).with_help(help));
                }
            }
            return None;
        };
        let zone_entry = map.entries().iter().find(|entry| entry.key == "time_zone").cloned();
        let zone_text = map.take_text("time_zone");
        let zone = zone_text.as_deref().map_or(Ok(chrono_tz::Tz::UTC), time_zone);
        let zone = zone.map_err(|help| {
            let span = zone_entry.as_ref().map_or(entry.key_span, |entry| entry.value_span);
            let text = zone_text.as_deref().unwrap_or_default();
            map.report(Diagnostic::error(format!("there is no time zone `{text}`"), span).with_help(help));
        });
        let choices = [("none", CatchUp::None), ("last", CatchUp::Last), ("all", CatchUp::All)];
        let catch_up = map.take_choice("catch_up", &choices).unwrap_or_default();
        let overlap = map.take_choice("overlap", &[("skip", Overlap::Skip), ("queue", Overlap::Queue)]);
        let timeout = map.take_duration("timeout");
        let retries = map.take_u64("retries", 0).unwrap_or(RETRIES);

        let text = match &entry.value {
            OptionValue::Text(text) => text.clone(),
            other => {
                let message = format!("option `schedule` cannot be `{other}`");
                let help = "write a cron line in single quotes, such as `schedule = '*/15 * * * *'`";
                map.report(Diagnostic::error(message, entry.value_span).with_help(help));
                return None;
            }
        };
        let cron = Cron::parse(&text, zone.unwrap_or(chrono_tz::Tz::UTC)).map_err(|problem| {
            let diagnostic = Diagnostic::error(format!("`{text}` is no schedule: {}", problem.what), entry.value_span);
            map.report(diagnostic.with_help(problem.help));
        });
        Some(Self { cron: cron.ok()?, catch_up, overlap: overlap.unwrap_or_default(), timeout, retries })
    }
}

/// A time zone of the IANA database by its name, whatever the case of its letters.
fn time_zone(text: &str) -> Result<chrono_tz::Tz, String> {
    let names = chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name());
    if let Some(zone) = chrono_tz::TZ_VARIANTS.iter().find(|zone| zone.name().eq_ignore_ascii_case(text)) {
        return Ok(*zone);
    }
    // People write the city alone, or an offset, which knows no daylight saving.
    let city = names.clone().find(|name| name.rsplit('/').next().is_some_and(|city| city.eq_ignore_ascii_case(text)));
    Err(match city.or_else(|| nearest(text, names)) {
        Some(name) => format!("did you mean `'{name}'`?"),
        None => "write a name of the IANA database, such as `'Europe/Berlin'` or `'UTC'`".to_owned(),
    })
}

#[cfg(test)]
mod tests;
