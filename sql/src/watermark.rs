//! `WATERMARK FOR column [AS column - INTERVAL '…'] [ON LATE action]`.

use bessemer_schemas::{Diagnostic, OnLate, Span, WatermarkDefinition};
use sqlparser::ast::{BinaryOperator, Expr, Interval};

use crate::cursor::Cursor;
use crate::ident;
use crate::interval;
use crate::lexer::is_unquoted;
use crate::query;

const FORM: &str = "write `WATERMARK FOR column AS column - INTERVAL '5 minutes'`";

/// What `ON LATE` may say.
const ACTIONS: [&str; 2] = ["QUARANTINE", "DROP"];

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
    let micros = expr.as_ref().and_then(delay).and_then(interval::length).and_then(interval::micros).unwrap_or(0);
    Ok(WatermarkDefinition { column, expr, delay: micros, on_late, span: start.union(item.previous_span()) })
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
        && let Some(interval) = delay(expr)
    {
        return check_delay(watermark, interval);
    }
    Some(
        Diagnostic::error("a watermark is its column, or its column less a delay", watermark.span)
            .with_help(format!("write `WATERMARK FOR {column} AS {column} - INTERVAL '5 minutes'`")),
    )
}

fn check_delay(watermark: &WatermarkDefinition, interval: &Interval) -> Option<Diagnostic> {
    let fault = |message: String, help: String| Some(Diagnostic::error(message, watermark.span).with_help(help));
    let Some(text) = interval::text(interval) else {
        return fault("the delay must be a literal".to_owned(), interval::EXAMPLE.to_owned());
    };
    if text.contains('-') {
        let help = "a watermark stays behind the newest event time: write the delay without `-`";
        return fault(format!("the delay `{text}` is negative"), help.to_owned());
    }
    match interval::what_to_write(interval, text) {
        Some(help) => fault(format!("`{text}` is no interval"), help),
        None => watermark.on_late.and_then(|_| check_length(interval, text, watermark.span)),
    }
}

/// Where rows are late by it, how long the delay is must be known.
fn check_length(interval: &Interval, text: &str, span: Span) -> Option<Diagnostic> {
    match interval::length(interval) {
        None => Some(Diagnostic::error(format!("`{text}` is no interval"), span).with_help(interval::EXAMPLE)),
        Some(length) if interval::micros(length).is_none() => Some(
            Diagnostic::error("a delay of months decides nothing `ON LATE`: months are not equally long", span)
                .with_help("write it in days, for example `INTERVAL '30 days'`"),
        ),
        Some(_) => None,
    }
}

/// What is taken off the column.
fn delay(expr: &Expr) -> Option<&Interval> {
    match expr {
        Expr::BinaryOp { op: BinaryOperator::Minus, right, .. } => match right.as_ref() {
            Expr::Interval(interval) => Some(interval),
            _ => None,
        },
        _ => None,
    }
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
