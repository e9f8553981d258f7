//! What must hold between the parts of one source: its watermark, its generated columns, its names.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ops::ControlFlow;

use arrow_schema::DataType;
use bessemer_schemas::{
    ColumnDefinition, Diagnostic, Name, SourceDefinition, SourceKind, Span, WatermarkDefinition, nearest,
};
use sqlparser::ast::{Expr, Ident, Value, visit_expressions};

use crate::expr_check;
use crate::ident;
use crate::literal::sql_name;
use crate::source::refuse_reserved;
use crate::watermark;

/// Checks what each part of a source says by itself.
pub(crate) fn check(source: &SourceDefinition, diagnostics: &mut Vec<Diagnostic>) {
    for column in source.columns.iter().flatten() {
        refuse_reserved(&column.name, diagnostics);
        refuse_null_default(column, diagnostics);
    }
    let Some(watermark) = &source.watermark else { return };
    if source.kind == SourceKind::Table {
        diagnostics.push(
            Diagnostic::error("a table has no watermark", watermark.span)
                .with_help("remove it, or write `CREATE SOURCE`: a table is read whole, whatever its times"),
        );
    }
    diagnostics.extend(watermark::check(watermark));
}

/// Checks what refers to the columns; all of them must have been read.
pub(crate) fn check_references(source: &SourceDefinition, diagnostics: &mut Vec<Diagnostic>) {
    let columns = source.columns.as_deref().unwrap_or_default();
    includes(source, columns, diagnostics);
    for column in columns {
        if let Some(expr) = &column.generated {
            generated(source, column, expr, diagnostics);
        }
    }
    if columns.iter().all(|column| column.generated.is_some()) && !columns.is_empty() {
        let message = format!("every column of `{}` is generated", source.name.value);
        diagnostics.push(
            Diagnostic::error(message, source.name.span)
                .with_help("declare the columns that are read from the files too, with their types"),
        );
    }
    if let Some(watermark) = &source.watermark {
        watermark_column(source, columns, watermark, diagnostics);
    }
}

fn refuse_null_default(column: &ColumnDefinition, diagnostics: &mut Vec<Diagnostic>) {
    let is_null = matches!(&column.default, Some(Expr::Value(value)) if value.value == Value::Null);
    if is_null && !column.nullable {
        let message = format!("column `{}` is `NOT NULL` and has `DEFAULT NULL`", column.name.value);
        diagnostics.push(Diagnostic::error(message, column.name.span).with_help("remove one of the two"));
    }
}

fn includes(source: &SourceDefinition, columns: &[ColumnDefinition], diagnostics: &mut Vec<Diagnostic>) {
    let mut places: BTreeMap<&str, Span> =
        columns.iter().map(|column| (column.name.value.as_str(), column.name.span)).collect();
    for include in &source.includes {
        refuse_reserved(&include.name, diagnostics);
        let name = include.name.value.as_str();
        if let Some(first) = places.insert(name, include.name.span) {
            let message = format!("`{}` has two columns `{name}`", source.name.value);
            diagnostics.push(
                Diagnostic::error(message, include.name.span)
                    .with_help(format!("the other is on line {}: write `AS another_name`", first.start.line)),
            );
        }
    }
}

/// A generated column is computed from what was read: not from another generated one, not from a query.
fn generated(source: &SourceDefinition, column: &ColumnDefinition, expr: &Expr, diagnostics: &mut Vec<Diagnostic>) {
    let mut problems = expr_check::problems(source.name.span.file, expr, "a generated column");
    let ControlFlow::Continue(()) = visit_expressions::<_, Infallible, _>(expr, |expr| {
        if let Expr::Identifier(ident) = expr {
            problems.extend(generated_reference(source, column, ident));
        }
        ControlFlow::Continue(())
    });
    diagnostics.append(&mut problems);
}

fn generated_reference(source: &SourceDefinition, column: &ColumnDefinition, reference: &Ident) -> Option<Diagnostic> {
    let columns = source.columns.as_deref().unwrap_or_default();
    let name = ident::name(source.name.span.file, reference);
    if let Some(found) = columns.iter().find(|other| other.name.value == name.value) {
        found.generated.as_ref()?;
        let message = format!("generated column `{}` reads generated column `{}`", column.name.value, name.value);
        return Some(Diagnostic::error(message, name.span).with_help(format!(
            "write the expression of `{}` again in its place, or compute the column in a view",
            name.value
        )));
    }
    let others = columns.iter().filter(|other| other.generated.is_none()).map(|other| &other.name);
    let names = others.chain(source.includes.iter().map(|include| &include.name));
    if names.clone().any(|other| other.value == name.value) {
        return None;
    }
    Some(unknown_column(source, &name, names))
}

fn unknown_column<'a>(source: &SourceDefinition, name: &Name, names: impl Iterator<Item = &'a Name>) -> Diagnostic {
    let names: Vec<&str> = names.map(|name| name.value.as_str()).collect();
    let help = match nearest(&name.value, names.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("its columns are {}", list(&names)),
    };
    let message = format!("`{}` has no column `{}`", source.name.value, name.value);
    Diagnostic::error(message, name.span).with_help(help)
}

fn list(names: &[&str]) -> String {
    const SHOWN: usize = 12;
    let mut shown: Vec<String> = names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect();
    if names.len() > SHOWN {
        shown.push(format!("and {} more", names.len() - SHOWN));
    }
    shown.join(", ")
}

fn watermark_column(
    source: &SourceDefinition,
    columns: &[ColumnDefinition],
    watermark: &WatermarkDefinition,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let name = &watermark.column;
    let declared = columns.iter().find(|column| column.name.value == name.value);
    if watermark.on_late.is_some() && declared.is_some_and(|column| column.generated.is_some()) {
        let message = format!("`ON LATE` needs an event time that is read, and `{}` is generated", name.value);
        diagnostics.push(
            Diagnostic::error(message, name.span)
                .with_help("name a column that is read from the records, or remove `ON LATE`"),
        );
    }
    let declared = declared.map(|column| column.data_type.clone());
    let included = source.includes.iter().find(|include| include.name.value == name.value).map(|include| include.kind);
    let wrong = match (declared, included) {
        (Some(DataType::Timestamp(..)), _) => return,
        (_, Some(kind)) if matches!(kind.data_type(), DataType::Timestamp(..)) => return,
        (Some(other), _) => sql_name(&other),
        (None, Some(kind)) => sql_name(&kind.data_type()),
        (None, None) if columns.is_empty() => return,
        (None, None) => {
            let names = columns.iter().map(|column| &column.name);
            diagnostics.push(unknown_column(source, name, names));
            return;
        }
    };
    let message = format!("watermark column `{}` is no timestamp", name.value);
    diagnostics.push(
        Diagnostic::error(message, name.span)
            .with_label(format!("it is {wrong}"))
            .with_help(format!("declare it as `{} TIMESTAMP` or `{} TIMESTAMPTZ`", name.value, name.value)),
    );
}
