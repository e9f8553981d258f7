//! What `EMIT ON WINDOW CLOSE` and `EMIT EVERY` cannot be about.

use bessemer_schemas::{Definition, Diagnostic, Expectation, FeatureSetDefinition};

use crate::SetKind;
use crate::classify::Nature;
use crate::plan::{PlannedSet, Upkeep};

/// What the clauses of `set` cannot be about, whatever its plan.
pub(crate) fn refuse(
    definition: &Definition,
    set: &FeatureSetDefinition,
    nature: &Nature,
    found: &mut Vec<Diagnostic>,
) {
    refuse_on_close(definition, set, nature, found);
    refuse_every(definition, set, nature, found);
}

/// What `EMIT ON WINDOW CLOSE` cannot be about, whatever the plan.
fn refuse_on_close(definition: &Definition, set: &FeatureSetDefinition, nature: &Nature, found: &mut Vec<Diagnostic>) {
    const EMIT: &str = "`EMIT ON WINDOW CLOSE`";
    let Some(span) = set.emit_on_window_close else { return };
    if nature.logs.is_empty() {
        let message = format!("{EMIT} is about rows of a source, but the query reads tables only");
        found
            .push(Diagnostic::error(message, span).with_help("leave it out: the set is replaced when a table changes"));
    } else if nature.kind() == SetKind::Append {
        let message = format!(
            "{EMIT} is about rows that others may still change, but each row of this query is final as soon as it is made"
        );
        found.push(Diagnostic::error(message, span).with_help("leave it out: the set appends without it"));
    }
    for constraint in &set.constraints {
        if matches!(constraint.expectation, Expectation::Aggregate { .. }) {
            let message = format!(
                "`{}` is over all rows of a run, but its rows become final one after another",
                constraint.name.value
            );
            let help = "write `EXPECT (…)` of each row, or expect it of a set without `EMIT ON WINDOW CLOSE`";
            found.push(Diagnostic::error(message, constraint.expr_span).with_help(help));
        }
    }
    for source in definition.sources.iter().filter(|source| nature.logs.contains_key(&source.name.value)) {
        let Some(watermark) = &source.watermark else { continue };
        if watermark.on_late.is_none() {
            let message = format!("{EMIT} needs to know what becomes of rows that come too late");
            let (name, at) = (&source.name.value, watermark.span.start.line);
            let help = format!("add `ON LATE QUARANTINE` or `ON LATE DROP` to the watermark of `{name}` (line {at})");
            found.push(Diagnostic::error(message, span).with_help(help));
        }
    }
}

/// `planned`, unless its windows were to close and do not.
pub(crate) fn refuse_upkeep(
    set: &FeatureSetDefinition,
    planned: PlannedSet,
    found: &mut Vec<Diagnostic>,
) -> Option<PlannedSet> {
    let (Some(span), Upkeep::Everything { reason }) = (set.emit_on_window_close, &planned.upkeep) else {
        return Some(planned);
    };
    let help = "give the event time or the end of a window out, and keep to windows, frames and joins that have bounds in \
                time; or leave `EMIT ON WINDOW CLOSE` out: docs/closing.md says what is possible";
    found.push(Diagnostic::error(format!("no row of this query would ever be final: {reason}"), span).with_help(help));
    None
}

/// What `EMIT EVERY` cannot be about.
fn refuse_every(definition: &Definition, set: &FeatureSetDefinition, nature: &Nature, found: &mut Vec<Diagnostic>) {
    let Some(every) = set.emit_every else { return };
    let mut refuse = |message: String, help: String| found.push(Diagnostic::error(message, every.span).with_help(help));
    if nature.logs.is_empty() {
        let message = "`EMIT EVERY` is about the event time of a source, but the query reads tables only";
        refuse(message.to_owned(), "leave it out: the set is replaced when a table changes".to_owned());
    } else if nature.kind() == SetKind::Append {
        let message = "`EMIT EVERY` is about a set that is replaced, but this one appends: each of its rows is final as soon \
                       as it is made";
        refuse(message.to_owned(), "leave it out: the set shows what is read with each epoch".to_owned());
    }
    for source in definition.sources.iter().filter(|source| nature.logs.contains_key(&source.name.value)) {
        let (name, line) = (&source.name.value, source.name.span.start.line);
        let help = match &source.watermark {
            Some(watermark) if watermark.on_late.is_some() => continue,
            Some(watermark) => {
                let at = watermark.span.start.line;
                format!("add `ON LATE QUARANTINE` or `ON LATE DROP` to the watermark of `{name}` (line {at})")
            }
            None => format!(
                "add `WATERMARK FOR column AS column - INTERVAL '5 minutes' ON LATE QUARANTINE` to `{name}` (line {line})"
            ),
        };
        refuse(
            format!("`EMIT EVERY` follows the watermark of `{name}`, which has none that rows can be late by"),
            help,
        );
    }
}
