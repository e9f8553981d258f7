//! Sources and tables as relations: generated columns, watermarks, and what they may say.

use std::sync::Arc;

use arrow::array::ArrayRef;
use bessemer_schemas::{ColumnDefinition, Definition, Diagnostic, SourceDefinition, SourceKind, nearest};
use datafusion::common::{Column, DFSchema};
use datafusion::error::DataFusionError;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{ColumnarValue, Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, cast};
use datafusion::sql::planner::PlannerContext;
use sqlparser::ast::{self, Spanned};

use crate::catalog::{Catalog, Relation};
use crate::expectation::volatile;
use crate::expression::{Scope, list, plain_words, told};
use crate::syntax::{Mentions, object_value, place};
use crate::type_name::{is_time, sql_type_name};

/// Makes every source of the definition known by its name.
pub(crate) fn add_sources(
    definition: &Definition,
    relations: &[Relation],
    catalog: &mut Catalog<'_>,
    found: &mut Vec<Diagnostic>,
) {
    for source in &definition.sources {
        let name = &source.name.value;
        let Some(relation) = relations.iter().find(|relation| relation.name == *name) else {
            // It could not be opened, which was reported where that was found.
            catalog.add_broken(name);
            continue;
        };
        catalog.add_source(source.kind, relation.clone());
        match generated(source, catalog, found) {
            Ok(None) => {}
            Ok(Some(plan)) => catalog.add_plan(name, plan),
            Err(Broken) => {
                catalog.add_broken(name);
                continue;
            }
        }
        if let Ok(plan) = catalog.read(name) {
            watermark(source, plan.schema(), catalog, found);
            if source.kind == SourceKind::Log {
                let column = source.watermark.as_ref().map(|watermark| watermark.column.value.clone());
                catalog.add_watermark(name, plan, column);
            }
        }
    }
}

/// The values of `DEFAULT` clauses, one for each declared column that is not generated (for a scan: a field that is
/// missing), each an array of length one.
pub fn default_values(source: &SourceDefinition, state: &SessionState) -> (Vec<Option<ArrayRef>>, Vec<Diagnostic>) {
    let catalog = Catalog::new(state);
    let mut found = Vec::new();
    let columns = source.columns.iter().flatten().filter(|column| column.generated.is_none());
    let values = columns
        .map(|column| {
            let default = column.default.as_ref()?;
            default_value(column, default, &catalog, &mut found)
        })
        .collect();
    (values, found)
}

struct Broken;

/// The relation with its generated columns in declared order, or nothing where it has none.
fn generated(
    source: &SourceDefinition,
    catalog: &Catalog<'_>,
    found: &mut Vec<Diagnostic>,
) -> Result<Option<LogicalPlan>, Broken> {
    let columns = source.columns.as_deref().unwrap_or_default();
    if columns.iter().all(|column| column.generated.is_none()) {
        return Ok(None);
    }
    let before = found.len();
    let Ok(scan) = catalog.read(&source.name.value) else { return Err(Broken) };
    let read = |name: &str| Expr::Column(Column::new(Some(source.name.value.as_str()), name));
    let mut exprs = Vec::with_capacity(columns.len() + source.includes.len());
    for column in columns {
        match &column.generated {
            None => exprs.push(read(&column.name.value)),
            Some(expr) => exprs.extend(generated_column(column, expr, scan.schema(), catalog, found)),
        }
    }
    exprs.extend(source.includes.iter().map(|include| read(&include.name.value)));
    if found.len() > before {
        return Err(Broken);
    }
    match LogicalPlanBuilder::from(scan).project(exprs).and_then(LogicalPlanBuilder::build) {
        Ok(plan) => Ok(Some(plan)),
        Err(error) => {
            found.push(told(&error, source.name.span));
            Err(Broken)
        }
    }
}

fn generated_column(
    column: &ColumnDefinition,
    expr: &ast::Expr,
    schema: &DFSchema,
    catalog: &Catalog<'_>,
    found: &mut Vec<Diagnostic>,
) -> Option<Expr> {
    let context = PlannerContext::new();
    let scope = Scope { catalog, schema, context: &context, file: column.name.span.file, fallback: column.name.span };
    let before = found.len();
    refuse_other_rows(expr, "a generated column", &scope, found);
    if found.len() > before {
        return None;
    }
    let (planned, _) = scope.check(expr).map_err(|faults| found.extend(faults)).ok()?;
    match planned.cast_to(&column.data_type, schema) {
        Ok(planned) => Some(planned.alias(&column.name.value)),
        Err(error) => {
            found.push(told(&error, scope.span(expr)));
            None
        }
    }
}

/// An expression over one row: no subquery, aggregate, window function, or anything that changes with time.
fn refuse_other_rows(expr: &ast::Expr, what: &str, scope: &Scope<'_>, found: &mut Vec<Diagnostic>) {
    let mentions = Mentions::of(expr);
    if let Some(query) = mentions.queries.first() {
        let span = place(scope.file, query.span(), scope.fallback);
        found.push(Diagnostic::error(format!("{what} cannot read other rows by a subquery"), span));
    }
    for call in mentions.calls {
        let name = object_value(&call.name);
        let span = place(scope.file, call.name.span(), scope.fallback);
        if call.over.is_some() || scope.catalog.is_aggregate(&name) {
            found.push(Diagnostic::error(format!("{what} is made from one row, `{name}` from many"), span));
        }
        volatile(scope.catalog, &name, span, found);
    }
}

fn watermark(source: &SourceDefinition, schema: &DFSchema, catalog: &Catalog<'_>, found: &mut Vec<Diagnostic>) {
    let Some(watermark) = &source.watermark else { return };
    let column = &watermark.column;
    let names: Vec<_> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    let Some(field) = schema.fields().iter().find(|field| *field.name() == column.value) else {
        let help = match nearest(&column.value, names.iter().copied()) {
            Some(name) => format!("did you mean `{name}`?"),
            None => format!("the columns are {}", list(&names)),
        };
        let message = format!("`{}` has no column `{}`", source.name.value, column.value);
        found.push(Diagnostic::error(message, column.span).with_help(help));
        return;
    };
    if !is_time(field.data_type()) {
        let message =
            format!("a watermark follows a time, but `{}` is {}", column.value, sql_type_name(field.data_type()));
        found.push(Diagnostic::error(message, column.span).with_help("declare the column as TIMESTAMP"));
        return;
    }

    let Some(expr) = &watermark.expr else { return };
    let context = PlannerContext::new();
    let scope = Scope { catalog, schema, context: &context, file: watermark.span.file, fallback: watermark.span };
    let before = found.len();
    refuse_other_rows(expr, "a watermark", &scope, found);
    if found.len() > before {
        return;
    }
    match scope.check(expr) {
        Ok((_, data_type)) if is_time(&data_type) => {}
        Ok((_, data_type)) => found.push(
            Diagnostic::error(format!("a watermark is a time, not {}", sql_type_name(&data_type)), scope.span(expr))
                .with_help(format!("write `{} - INTERVAL '5 minutes'`", column.value)),
        ),
        Err(faults) => found.extend(faults),
    }
}

fn default_value(
    column: &ColumnDefinition,
    expr: &ast::Expr,
    catalog: &Catalog<'_>,
    found: &mut Vec<Diagnostic>,
) -> Option<ArrayRef> {
    let (schema, context) = (DFSchema::empty(), PlannerContext::new());
    let scope =
        Scope { catalog, schema: &schema, context: &context, file: column.name.span.file, fallback: column.name.span };
    let before = found.len();
    refuse_other_rows(expr, "a default", &scope, found);
    if found.len() > before {
        return None;
    }
    let (planned, _) = scope.check(expr).map_err(|faults| found.extend(faults)).ok()?;
    match evaluate(cast(planned, column.data_type.clone()), &schema, catalog.state()) {
        Ok(value) => Some(value),
        Err(error) => {
            let message = format!("the default of `{}` is no {}", column.name.value, sql_type_name(&column.data_type));
            found.push(Diagnostic::error(message, scope.span(expr)).with_help(plain_words(&error)));
            None
        }
    }
}

fn evaluate(expr: Expr, schema: &DFSchema, state: &SessionState) -> Result<ArrayRef, DataFusionError> {
    let physical = state.create_physical_expr(expr, schema)?;
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(1));
    let row = arrow::array::RecordBatch::try_new_with_options(Arc::clone(schema.inner()), Vec::new(), &options)?;
    match physical.evaluate(&row)? {
        ColumnarValue::Array(array) => Ok(array),
        ColumnarValue::Scalar(value) => value.to_array(),
    }
}
