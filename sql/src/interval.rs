//! Intervals that are literals: how long they are, and what is wrong with one.

use arrow::compute::kernels::cast_utils::{
    IntervalParseConfig, IntervalUnit, parse_interval_month_day_nano_config as parse_interval,
};
use arrow::datatypes::IntervalMonthDayNano;
use bessemer_schemas::nearest;
use sqlparser::ast::{Expr, Interval, Value};

/// An interval that is none would be refused where it is read.
pub(crate) const EXAMPLE: &str = "write for example `INTERVAL '5 minutes'`";

const MICROS_PER_DAY: i64 = 86_400_000_000;

/// Units of an interval, in full and as PostgreSQL abbreviates them.
const UNITS: [&str; 28] = [
    "microsecond",
    "microseconds",
    "us",
    "millisecond",
    "milliseconds",
    "ms",
    "second",
    "seconds",
    "sec",
    "secs",
    "s",
    "minute",
    "minutes",
    "min",
    "mins",
    "m",
    "hour",
    "hours",
    "h",
    "day",
    "days",
    "d",
    "week",
    "weeks",
    "month",
    "months",
    "year",
    "years",
];

/// What it says, where that is a literal.
pub(crate) fn text(interval: &Interval) -> Option<&str> {
    match interval.value.as_ref() {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) | Value::Number(text, _) => Some(text),
            _ => None,
        },
        _ => None,
    }
}

/// What to write instead of `text`, where that is no interval that an engine would read.
pub(crate) fn what_to_write(interval: &Interval, text: &str) -> Option<String> {
    let words = text.split(|c: char| !c.is_ascii_alphabetic()).filter(|word| !word.is_empty());
    let unknown = words.map(str::to_ascii_lowercase).find(|word| !UNITS.contains(&word.as_str()));
    match unknown {
        Some(word) => match nearest(&word, UNITS.into_iter().filter(|unit| unit.len() > 3 && unit.ends_with('s'))) {
            Some(near) => Some(format!("did you mean `{near}`?")),
            None => Some(EXAMPLE.to_owned()),
        },
        None if !text.contains(|c: char| c.is_ascii_digit()) => Some(EXAMPLE.to_owned()),
        None if interval.leading_field.is_none() && text.trim().parse::<f64>().is_ok() => {
            Some(format!("say which unit: `INTERVAL '{} minutes'`", text.trim()))
        }
        None => None,
    }
}

/// The interval as the engine reads it.
pub(crate) fn length(interval: &Interval) -> Option<IntervalMonthDayNano> {
    let text = text(interval)?;
    let whole = interval.leading_field.as_ref().map_or_else(|| text.to_owned(), |unit| format!("{text} {unit}"));
    parse_interval(&whole, IntervalParseConfig::new(IntervalUnit::Second)).ok()
}

/// Microseconds, rounded up: a watermark stays at least so far behind. `None` where months are in it.
pub(crate) fn micros(length: IntervalMonthDayNano) -> Option<i64> {
    let rest = -length.nanoseconds.saturating_neg().div_euclid(1_000);
    (length.months == 0).then(|| i64::from(length.days).saturating_mul(MICROS_PER_DAY).saturating_add(rest))
}
