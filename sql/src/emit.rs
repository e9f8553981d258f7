//! `EMIT ON WINDOW CLOSE` and `EMIT EVERY INTERVAL '…'`.

use bessemer_schemas::{Diagnostic, EmitEvery, Span};
use sqlparser::ast::{Expr, Interval};

use crate::cursor::Cursor;
use crate::interval;
use crate::lexer::is_unquoted;
use crate::query;

const EVERY_HOUR: &str = "write for example `EMIT EVERY INTERVAL '1 hour'`";

/// What the clause says.
pub(crate) enum Emit {
    /// Its place.
    OnWindowClose(Span),
    Every(EmitEvery),
}

/// Reads the clause, whose first word is there.
pub(crate) fn clause(cursor: &mut Cursor<'_>) -> Result<Emit, Diagnostic> {
    let start = cursor.span();
    if cursor.take_words(&["EMIT", "EVERY"]) {
        let stretch = cursor.take_until(|token| is_unquoted(token, &["ENTITY", "EVENT", "EMIT", "WITH", "AS"]));
        if !stretch.is_words(&["INTERVAL"]) {
            let found = if stretch.is_at_end() { &*cursor } else { &stretch };
            return Err(found.expected("an interval", EVERY_HOUR));
        }
        let Expr::Interval(interval) = query::expr(&stretch, "interval")? else {
            let message = "`EMIT EVERY` is followed by one interval";
            return Err(Diagnostic::error(message, stretch.span()).with_help(EVERY_HOUR));
        };
        let span = start.union(cursor.previous_span());
        return Ok(Emit::Every(EmitEvery { interval: every(&interval, span)?, span }));
    }
    let help = "write `EMIT ON WINDOW CLOSE`, `EMIT EVERY INTERVAL '1 hour'`, or leave it out: a snapshot set is then \
                refreshed by every epoch that brings something new";
    cursor.expect_words(&["EMIT", "ON", "WINDOW", "CLOSE"], help)?;
    Ok(Emit::OnWindowClose(start.union(cursor.previous_span())))
}

/// The interval in microseconds.
fn every(interval: &Interval, span: Span) -> Result<i64, Diagnostic> {
    let fault = |message: String, help: String| Err(Diagnostic::error(message, span).with_help(help));
    let Some(text) = interval::text(interval) else {
        return fault("the interval must be a literal".to_owned(), EVERY_HOUR.to_owned());
    };
    if let Some(help) = interval::what_to_write(interval, text) {
        return fault(format!("`{text}` is no interval"), help);
    }
    let Some(length) = interval::length(interval) else {
        return fault(format!("`{text}` is no interval"), EVERY_HOUR.to_owned());
    };
    match interval::micros(length) {
        Some(micros) if micros > 0 => Ok(micros),
        Some(_) => {
            let help = format!("the set is replaced each time that so much event time has passed: {EVERY_HOUR}");
            fault(format!("a set cannot be emitted every `{text}`"), help)
        }
        None => {
            let help = "write it in days, for example `EMIT EVERY INTERVAL '30 days'`".to_owned();
            fault("a set is not emitted by months, which are not equally long".to_owned(), help)
        }
    }
}
