//! `CREATE FEATURE SET`.

use std::collections::BTreeMap;

use bessemer_schemas::{Diagnostic, EmitEvery, EventTime, FeatureSetDefinition, Name, OptionEntry, OptionMap, Span};
use sqlparser::tokenizer::Token;

use crate::constraint::constraint_list;
use crate::context::Context;
use crate::cursor::Cursor;
use crate::emit::{self, Emit};
use crate::query;
use crate::with_options::option_list;

/// The clauses before `AS`, for suggestions.
const CLAUSES: [&str; 6] = ["ENTITY", "EVENT TIME", "EMIT ON WINDOW CLOSE", "EMIT EVERY", "WITH", "AS"];

/// Reads what follows the name of a feature set.
pub(crate) fn feature_set(
    ctx: &mut Context<'_>,
    cursor: &mut Cursor<'_>,
    name: Name,
) -> Result<FeatureSetDefinition, Diagnostic> {
    let mut clauses = Clauses::default();
    if cursor.is_token(&Token::LParen) {
        let list = cursor.group("with constraints", "write `(CONSTRAINT name EXPECT (…))`")?;
        clauses.constraints = constraint_list(ctx, &list);
    }
    while !cursor.take_words(&["AS"]) {
        clauses.read(ctx, cursor)?;
    }
    let query_span = cursor.rest_span();
    let query = query::query(cursor)?;
    Ok(FeatureSetDefinition {
        options: OptionMap::new(format!("feature set `{}`", name.value), name.span, clauses.options),
        name,
        constraints: clauses.constraints,
        entity: clauses.entity,
        event_time: clauses.event_time,
        emit_on_window_close: clauses.emit_on_window_close,
        emit_every: clauses.emit_every,
        query,
        query_span,
    })
}

#[derive(Default)]
struct Clauses {
    constraints: Vec<bessemer_schemas::Constraint>,
    entity: Vec<Name>,
    event_time: Option<EventTime>,
    emit_on_window_close: Option<Span>,
    emit_every: Option<EmitEvery>,
    options: Vec<OptionEntry>,
    places: BTreeMap<&'static str, Span>,
}

impl Clauses {
    fn read(&mut self, ctx: &mut Context<'_>, cursor: &mut Cursor<'_>) -> Result<(), Diagnostic> {
        let span = cursor.span();
        if cursor.take_words(&["ENTITY"]) {
            self.once("ENTITY", span, ctx);
            self.entity = entity(ctx, cursor)?;
        } else if cursor.is_words(&["EVENT"]) {
            cursor.expect_words(&["EVENT", "TIME"], "write `EVENT TIME (column)`")?;
            self.once("EVENT TIME", span, ctx);
            self.event_time = Some(event_time(cursor)?);
        } else if cursor.is_words(&["EMIT"]) {
            self.emit(ctx, cursor)?;
        } else if cursor.take_words(&["WITH"]) {
            self.once("WITH", span, ctx);
            self.options = option_list(ctx, cursor)?;
        } else {
            return Err(unknown_clause(cursor));
        }
        Ok(())
    }

    fn emit(&mut self, ctx: &mut Context<'_>, cursor: &mut Cursor<'_>) -> Result<(), Diagnostic> {
        match emit::clause(cursor)? {
            Emit::OnWindowClose(span) => {
                self.once("EMIT ON WINDOW CLOSE", span, ctx);
                self.emit_on_window_close = Some(span);
            }
            Emit::Every(every) => {
                self.once("EMIT EVERY", every.span, ctx);
                self.emit_every = Some(every);
            }
        }
        if let (Some(_), Some(every)) = (self.emit_on_window_close, self.emit_every) {
            let message = "a set cannot be emitted on window close and every so often";
            let help = "keep `EMIT ON WINDOW CLOSE` for a set that appends each row once, `EMIT EVERY` for one that is replaced";
            ctx.report(Diagnostic::error(message, every.span).with_help(help));
        }
        Ok(())
    }

    fn once(&mut self, clause: &'static str, span: Span, ctx: &mut Context<'_>) {
        if let Some(first) = self.places.insert(clause, span) {
            let message = format!("`{clause}` is written twice");
            let help = format!("the first is on line {}: keep one of the two", first.start.line);
            ctx.report(Diagnostic::error(message, span).with_help(help));
        }
    }
}

fn unknown_clause(cursor: &Cursor<'_>) -> Diagnostic {
    let what = "`ENTITY`, `EVENT TIME`, `EMIT ON WINDOW CLOSE`, `EMIT EVERY`, `WITH` or `AS`";
    match cursor.word().map(str::to_ascii_uppercase).as_deref() {
        Some("SELECT" | "FROM" | "VALUES") => cursor.expected("`AS` before the query", "write `AS SELECT …`"),
        Some("PARTITION" | "PARTITIONED") => {
            cursor.expected(what, "write it as an option: `WITH (partition_by = 'origin, day(scheduled)')`")
        }
        Some("PRIMARY" | "KEY" | "KEYS") => cursor.expected(what, "the keys of a feature set are its `ENTITY (a, b)`"),
        Some("CONSTRAINT" | "EXPECT") => cursor.expected(
            what,
            "write all constraints in parentheses after the set's name: `(CONSTRAINT name EXPECT (…))`",
        ),
        Some("ON") => {
            cursor.expected(what, "this clause belongs to the daemon, which is not available in this version")
        }
        Some("TIME" | "TIMESTAMP") => cursor.expected(what, "write `EVENT TIME (column)`"),
        None if cursor.is_at_end() => cursor.expected("`AS` and a query", "write `AS SELECT …` at the end"),
        _ => cursor.unknown(what, &CLAUSES),
    }
}

fn entity(ctx: &mut Context<'_>, cursor: &mut Cursor<'_>) -> Result<Vec<Name>, Diagnostic> {
    let list = cursor.group("with the key columns", "write `ENTITY (a, b)`")?;
    if list.is_at_end() {
        return Err(Diagnostic::error("the entity has no columns", list.end())
            .with_help("write its key columns, `ENTITY (a, b)`, or leave the clause out"));
    }
    let mut names: Vec<Name> = Vec::new();
    for mut item in list.items("a column", &mut ctx.diagnostics) {
        let name = item.name("a column of the query").and_then(|name| {
            item.finish("the column", "an entity names columns of the query: compute the key there, with `AS key`")?;
            Ok(name)
        });
        let Some(name) = ctx.ok(name) else { continue };
        if names.iter().any(|other| other.value == name.value) {
            let message = format!("`{}` is twice in the entity", name.value);
            ctx.report(Diagnostic::error(message, name.span).with_help("name each key column once"));
        } else {
            names.push(name);
        }
    }
    Ok(names)
}

fn event_time(cursor: &mut Cursor<'_>) -> Result<EventTime, Diagnostic> {
    let help = "write `EVENT TIME (column)` with one column of the query";
    let mut list = cursor.group("with the event-time column", help)?;
    let column = list.name("the event-time column")?;
    list.finish("the event-time column", "a set has one event time, a column of its query: compute it there")?;
    Ok(EventTime { column })
}
