//! A definition in a few lines, for snapshots.

use std::fmt::Write as _;

use bessemer_schemas::{
    ColumnDefinition, Constraint, Definition, Expectation, FeatureSetDefinition, OptionMap, SourceDefinition,
};

/// Everything of a definition that is not a place.
pub(crate) fn summary(definition: &Definition) -> String {
    let mut text = String::new();
    writeln!(text, "pipeline {}{}", definition.pipeline.name.value, options(&definition.pipeline.options)).unwrap();
    if !definition.settings.entries().is_empty() {
        writeln!(text, "settings{}", options(&definition.settings)).unwrap();
    }
    definition.sources.iter().for_each(|source| push_source(&mut text, source));
    for view in &definition.views {
        writeln!(text, "view {}\n  {}", view.name.value, view.query).unwrap();
    }
    definition.feature_sets.iter().for_each(|set| push_set(&mut text, set));
    text
}

fn push_source(text: &mut String, source: &SourceDefinition) {
    writeln!(text, "{:?} {}{}", source.kind, source.name.value, options(&source.options)).unwrap();
    source.columns.iter().flatten().for_each(|column| push_column(text, column));
    if let Some(watermark) = &source.watermark {
        let expr = watermark.expr.as_ref().map_or_else(|| "no delay".to_owned(), ToString::to_string);
        let late =
            watermark.on_late.map_or_else(String::new, |action| format!(", late {action:?} by {} us", watermark.delay));
        writeln!(text, "  watermark {}: {expr}{late}", watermark.column.value).unwrap();
    }
    for include in &source.includes {
        writeln!(text, "  include {:?} as {}", include.kind, include.name.value).unwrap();
    }
}

fn push_column(text: &mut String, column: &ColumnDefinition) {
    write!(text, "  {} {}", column.name.value, column.data_type).unwrap();
    text.push_str(if column.nullable { "" } else { " not null" });
    column.default.iter().for_each(|default| write!(text, " default {default}").unwrap());
    column.generated.iter().for_each(|expr| write!(text, " = {expr}").unwrap());
    text.push('\n');
}

fn push_set(text: &mut String, set: &FeatureSetDefinition) {
    let names: Vec<&str> = set.entity.iter().map(|name| name.value.as_str()).collect();
    let time = set.event_time.as_ref().map_or("-", |time| time.column.value.as_str());
    writeln!(text, "set {}{}\n  entity {names:?}, event time {time}", set.name.value, options(&set.options)).unwrap();
    set.emit_on_window_close.iter().for_each(|_| writeln!(text, "  emitted on window close").unwrap());
    set.emit_every.iter().for_each(|every| writeln!(text, "  emitted every {} us", every.interval).unwrap());
    set.constraints.iter().for_each(|constraint| push_constraint(text, constraint));
    writeln!(text, "  {}", set.query).unwrap();
}

fn push_constraint(text: &mut String, constraint: &Constraint) {
    let expr = match &constraint.expectation {
        Expectation::Row(expr) => expr.to_string(),
        Expectation::Aggregate { expr, scope } => format!("{scope:?} {expr}"),
    };
    writeln!(text, "  {} {:?}: {expr}", constraint.name.value, constraint.action).unwrap();
}

fn options(options: &OptionMap) -> String {
    let entries = options.entries().iter().map(|entry| format!(" {}={:?}", entry.key, entry.value));
    entries.collect::<Vec<_>>().concat()
}
