//! `WATERMARK FOR column [AS column - INTERVAL '…'] [ON LATE action]`.

use arrow::compute::kernels::cast_utils::{
    IntervalParseConfig, IntervalUnit, parse_interval_month_day_nano_config as parse_interval,
};
use arrow::datatypes::IntervalMonthDayNano;
use bessemer_schemas::{Diagnostic, OnLate, Span, WatermarkDefinition, nearest};
use sqlparser::ast::{BinaryOperator, Expr, Interval, Value};

use crate::cursor::Cursor;
use crate::ident;
use crate::lexer::is_unquoted;
use crate::query;

const FORM: &str = "write `WATERMARK FOR column AS column - INTERVAL '5 minutes'`";

/// An interval that is none would be refused where it is read.
const EXAMPLE: &str = "write for example `INTERVAL '5 minutes'`";

/// What `ON LATE` may say.
const ACTIONS: [&str; 2] = ["QUARANTINE", "DROP"];

const MICROS_PER_DAY: i64 = 86_400_000_000;

/// Reads the clause, which is all of `item`.
pub(crate) fn watermark(item: &mut Cursor<'_>) -> Result<WatermarkDefinition, Diagnostic> {
    let start = item.span();
    item.take_words(&["WATERMARK", "FOR"]);
    let column = item.name("the event-time column")?;
    let expr = if item.is_at_end() || item.is_words(&["ON"]) {
        None
    } else {
        item.expect_words(&["AS"], FORM)?;
        // An expression of the parser's would go on at `ON`, or stop there with an error of its own.
        Some(query::expr(&item.take_until(|token| is_unquoted(token, &["ON"])), "watermark")?)
    };
    let on_late = on_late(item)?;
    let delay = expr.as_ref().and_then(interval).and_then(length).and_then(micros).unwrap_or(0);
    Ok(WatermarkDefinition { column, expr, delay, on_late, span: start.union(item.previous_span()) })
}

fn on_late(item: &mut Cursor<'_>) -> Result<Option<OnLate>, Diagnostic> {
    if item.is_at_end() {
        return Ok(None);
    }
    item.expect_words(&["ON", "LATE"], "write `ON LATE QUARANTINE` or `ON LATE DROP`")?;
    let action = if item.take_words(&["QUARANTINE"]) {
        OnLate::Quarantine
    } else if item.take_words(&["DROP"]) {
        OnLate::Drop
    } else {
        return Err(item.unknown("what becomes of late rows", &ACTIONS));
    };
    item.finish("the watermark", "write `ON LATE QUARANTINE` or `ON LATE DROP`, and nothing after it")?;
    Ok(Some(action))
}

/// Checks the expression: it is the column, or the column less a delay.
pub(crate) fn check(watermark: &WatermarkDefinition) -> Option<Diagnostic> {
    let expr = watermark.expr.as_ref()?;
    let column = &watermark.column.value;
    let is_column = |expr: &Expr| match expr {
        Expr::Identifier(found) => ident::name(watermark.span.file, found).value == *column,
        _ => false,
    };
    if is_column(expr) {
        return None;
    }
    if let Expr::BinaryOp { left, op: BinaryOperator::Minus, .. } = expr
        && is_column(left)
        && let Some(interval) = interval(expr)
    {
        return check_delay(watermark, interval);
    }
    Some(
        Diagnostic::error("a watermark is its column, or its column less a delay", watermark.span)
            .with_help(format!("write `WATERMARK FOR {column} AS {column} - INTERVAL '5 minutes'`")),
    )
}

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

fn check_delay(watermark: &WatermarkDefinition, interval: &Interval) -> Option<Diagnostic> {
    let Some(text) = text(interval) else {
        return Some(Diagnostic::error("the delay must be a literal", watermark.span).with_help(EXAMPLE));
    };
    if text.contains('-') {
        return Some(
            Diagnostic::error(format!("the delay `{text}` is negative"), watermark.span)
                .with_help("a watermark stays behind the newest event time: write the delay without `-`"),
        );
    }
    let words = text.split(|c: char| !c.is_ascii_alphabetic()).filter(|word| !word.is_empty());
    let unknown = words.map(str::to_ascii_lowercase).find(|word| !UNITS.contains(&word.as_str()));
    let bad = match unknown {
        Some(word) => match nearest(&word, UNITS.into_iter().filter(|unit| unit.len() > 3 && unit.ends_with('s'))) {
            Some(near) => format!("did you mean `{near}`?"),
            None => EXAMPLE.to_owned(),
        },
        None if !text.contains(|c: char| c.is_ascii_digit()) => EXAMPLE.to_owned(),
        None if interval.leading_field.is_none() && text.trim().parse::<f64>().is_ok() => {
            format!("say which unit: `INTERVAL '{} minutes'`", text.trim())
        }
        None => return watermark.on_late.and_then(|_| check_length(interval, text, watermark.span)),
    };
    Some(Diagnostic::error(format!("`{text}` is no interval"), watermark.span).with_help(bad))
}

/// Where rows are late by it, how long the delay is must be known.
fn check_length(interval: &Interval, text: &str, span: Span) -> Option<Diagnostic> {
    match length(interval) {
        None => Some(Diagnostic::error(format!("`{text}` is no interval"), span).with_help(EXAMPLE)),
        Some(length) if micros(length).is_none() => Some(
            Diagnostic::error("a delay of months decides nothing `ON LATE`: months are not equally long", span)
                .with_help("write it in days, for example `INTERVAL '30 days'`"),
        ),
        Some(_) => None,
    }
}

/// What is taken off the column.
fn interval(expr: &Expr) -> Option<&Interval> {
    match expr {
        Expr::BinaryOp { op: BinaryOperator::Minus, right, .. } => match right.as_ref() {
            Expr::Interval(interval) => Some(interval),
            _ => None,
        },
        _ => None,
    }
}

fn text(interval: &Interval) -> Option<&str> {
    match interval.value.as_ref() {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) | Value::Number(text, _) => Some(text),
            _ => None,
        },
        _ => None,
    }
}

/// The interval as the engine reads it.
fn length(interval: &Interval) -> Option<IntervalMonthDayNano> {
    let text = text(interval)?;
    let whole = interval.leading_field.as_ref().map_or_else(|| text.to_owned(), |unit| format!("{text} {unit}"));
    parse_interval(&whole, IntervalParseConfig::new(IntervalUnit::Second)).ok()
}

/// Rounded up: a watermark stays at least so far behind. `None` where months are in it.
fn micros(length: IntervalMonthDayNano) -> Option<i64> {
    let rest = -length.nanoseconds.saturating_neg().div_euclid(1_000);
    (length.months == 0).then(|| i64::from(length.days).saturating_mul(MICROS_PER_DAY).saturating_add(rest))
}

#[cfg(test)]
mod tests {
    use bessemer_schemas::{SourceFile, SourceFiles};

    const SECOND: i64 = 1_000_000;

    /// The delay that a source with this watermark has, or what is wrong with it.
    fn delay(delay: &str) -> Result<i64, String> {
        let text = format!(
            "CREATE SOURCE s (at TIMESTAMP, WATERMARK FOR at AS at - {delay} ON LATE DROP) WITH (path = 's/');
             CREATE FEATURE SET f WITH (path = 'out') AS SELECT * FROM s;"
        );
        let files = vec![SourceFile { path: "p.sql".to_owned(), text }];
        let (definition, diagnostics) = crate::parse(files.clone(), &|_| None);
        match definition {
            Some(definition) => Ok(definition.sources[0].watermark.as_ref().unwrap().delay),
            None => Err(crate::render_all(&diagnostics, &SourceFiles(files))),
        }
    }

    #[test]
    fn delay_is_what_its_interval_says_in_whatever_spelling() {
        for (text, expected) in [
            ("INTERVAL '5 minutes'", 300 * SECOND),
            ("INTERVAL '5' MINUTE", 300 * SECOND),
            ("INTERVAL 5 MINUTE", 300 * SECOND),
            ("INTERVAL '1 hour 30 minutes'", 5_400 * SECOND),
            ("INTERVAL '1.5 seconds'", 1_500_000),
            ("INTERVAL '0.5' HOUR", 1_800 * SECOND),
            ("INTERVAL '2 weeks 1 day'", 15 * 86_400 * SECOND),
            ("INTERVAL '250 ms'", 250_000),
            ("INTERVAL '3 us'", 3),
            ("INTERVAL '90 m'", 5_400 * SECOND),
            ("INTERVAL '0 seconds'", 0),
        ] {
            assert_eq!(delay(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn delay_without_a_fixed_length_decides_nothing() {
        for text in ["INTERVAL '1 month'", "INTERVAL '1' YEAR", "INTERVAL '1 day 2 months'"] {
            assert!(delay(text).unwrap_err().contains("months are not equally long"), "{text}");
        }
        assert!(delay("INTERVAL '1:2:3:4'").unwrap_err().contains("is no interval"));
    }
}
