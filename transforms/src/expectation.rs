//! Plans the expectations of a feature set over the columns of its query.

use bessemer_schemas::{Action, AggregateScope, Constraint, Diagnostic, Expectation, FeatureSetDefinition, Span};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Column, DFSchema};
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::utils::find_aggregate_exprs;
use datafusion::sql::planner::PlannerContext;
use sqlparser::ast::{self, Spanned};

use crate::catalog::Catalog;
use crate::classify::SetKind;
use crate::expression::{Scope, told};
use crate::gate::{self, AggregateConditions, AggregatePredicate, LogicalExpectations, call_column};
use crate::syntax::{Mentions, object_value, own_columns, place};
use crate::type_name::sql_type_name;

/// Plans all expectations of `set`, whose query has the columns `schema` and is of `kind` (`None` where that could not
/// be told); faults go to `found`.
pub(crate) fn plan_expectations(
    set: &FeatureSetDefinition,
    schema: &DFSchema,
    kind: Option<SetKind>,
    catalog: &Catalog<'_>,
    found: &mut Vec<Diagnostic>,
) -> LogicalExpectations {
    let mut planned =
        LogicalExpectations { constraints: Vec::new(), rows: Vec::new(), aggregates: AggregateConditions::default() };
    for constraint in &set.constraints {
        let checks = Checks { catalog, schema, constraint };
        let is_aggregate = match &constraint.expectation {
            Expectation::Row(expr) => {
                planned.rows.extend(checks.row(expr, found));
                false
            }
            Expectation::Aggregate { expr, scope } => {
                checks.scope(*scope, kind, found);
                checks.aggregate(expr, &mut planned.aggregates, found);
                true
            }
        };
        planned.constraints.push(gate::Constraint {
            name: constraint.name.value.clone(),
            action: constraint.action,
            is_aggregate,
        });
    }
    planned
}

/// Checks what can be told of the expectations of `set` without the columns of its query.
pub(crate) fn check_expectations(set: &FeatureSetDefinition, catalog: &Catalog<'_>, found: &mut Vec<Diagnostic>) {
    for constraint in &set.constraints {
        let checks = Checks { catalog, schema: &DFSchema::empty(), constraint };
        match &constraint.expectation {
            Expectation::Row(expr) => checks.row_form(expr, found),
            Expectation::Aggregate { expr, .. } => {
                checks.aggregate_form(expr, found);
                checks.bare_columns(expr, false, found);
            }
        }
    }
}

/// A call of an aggregate as it is written.
struct WrittenCall {
    text: String,
    span: Span,
    planned: Expr,
}

struct Checks<'a> {
    catalog: &'a Catalog<'a>,
    schema: &'a DFSchema,
    constraint: &'a Constraint,
}

impl Checks<'_> {
    fn row(&self, expr: &ast::Expr, found: &mut Vec<Diagnostic>) -> Option<Expr> {
        let before = found.len();
        self.row_form(expr, found);
        if found.len() > before { None } else { self.condition(expr, found) }
    }

    fn row_form(&self, expr: &ast::Expr, found: &mut Vec<Diagnostic>) {
        self.unusable(expr, found);
        for call in Mentions::of(expr).calls {
            let name = object_value(&call.name);
            if self.catalog.is_aggregate(&name) && call.over.is_none() {
                let message = format!("`{name}` is over many rows, but EXPECT is asked of one");
                found.push(Diagnostic::error(message, self.span_of(&call)).with_help("write `EXPECT AGGREGATE (…)`"));
            }
        }
    }

    fn aggregate(&self, expr: &ast::Expr, conditions: &mut AggregateConditions, found: &mut Vec<Diagnostic>) {
        let before = found.len();
        self.aggregate_form(expr, found);
        let Some(planned) = Some(()).filter(|()| found.len() == before).and_then(|()| self.condition(expr, found))
        else {
            return;
        };

        self.bare_columns(expr, false, found);
        let written = self.written_calls(expr);
        for call in &written {
            self.uncallable(call, found);
        }
        if found.len() > before {
            return;
        }
        let calls = find_aggregate_exprs(std::iter::once(&planned));
        let numbers: Vec<usize> = calls.iter().map(|call| number(call, &written, conditions)).collect();
        let replaced = planned.transform_down(|expr| {
            Ok(match calls.iter().position(|call| *call == expr).and_then(|at| numbers.get(at)) {
                Some(at) => Transformed::yes(Expr::Column(Column::new_unqualified(call_column(*at)))),
                None => Transformed::no(expr),
            })
        });
        match replaced.data() {
            Ok(condition) => conditions.predicates.push(AggregatePredicate { condition, calls: numbers }),
            Err(error) => {
                let message = crate::expression::plain_words(&error);
                found.push(Diagnostic::error(message, self.constraint.expr_span));
            }
        }
    }

    fn aggregate_form(&self, expr: &ast::Expr, found: &mut Vec<Diagnostic>) {
        self.unusable(expr, found);
        if matches!(self.constraint.action, Action::DropRow | Action::Quarantine) {
            let message = format!("an aggregate is of no single row: `{}` has nothing to take out", self.name());
            found.push(
                Diagnostic::error(message, self.constraint.name.span)
                    .with_help("write `ON VIOLATION WARN` or `ON VIOLATION FAIL`"),
            );
        }
        if self.aggregate_calls(expr).next().is_none() {
            found.push(
                Diagnostic::error("EXPECT AGGREGATE names no aggregate", self.constraint.expr_span)
                    .with_help("write an aggregate such as `count(*) > 0`, or `EXPECT (…)` for a row"),
            );
        }
    }

    fn aggregate_calls(&self, expr: &ast::Expr) -> impl Iterator<Item = ast::Function> {
        let calls = Mentions::of(expr).calls.into_iter();
        calls.filter(|call| self.catalog.is_aggregate(&object_value(&call.name)))
    }

    /// The calls of aggregates in `expr` as they are written, each with its plan.
    fn written_calls(&self, expr: &ast::Expr) -> Vec<WrittenCall> {
        self.aggregate_calls(expr)
            .filter_map(|call| {
                let (text, span) = (call.to_string(), self.span_of(&call));
                let (planned, _) = self.expressions().check(&ast::Expr::Function(call)).ok()?;
                let planned = find_aggregate_exprs(std::iter::once(&planned)).into_iter().next()?;
                Some(WrittenCall { text, span, planned })
            })
            .collect()
    }

    /// What the gate cannot compute, though a query could.
    fn uncallable(&self, call: &WrittenCall, found: &mut Vec<Diagnostic>) {
        let Expr::AggregateFunction(function) = &call.planned else { return };
        let (name, order_by) = (function.func.name(), &function.params.order_by);
        let needs_order = function.func.order_sensitivity().hard_requires();
        if !order_by.is_empty() && needs_order && !function.func.supports_within_group_clause() {
            found.push(
                Diagnostic::error(format!("`{name}` takes no ORDER BY here: the rows are judged as they come"), call.span)
                    .with_help("remove it, or compute the aggregate in the set's query; `first_value`, `last_value` and `array_agg` can order what they see"),
            );
        } else if let Err(error) = gate::check_call(&call.planned, self.schema, self.catalog.state()) {
            found.push(told(&error, call.span));
        }
    }

    fn span_of(&self, call: &ast::Function) -> Span {
        place(self.constraint.expr_span.file, call.name.span(), self.constraint.expr_span)
    }

    fn scope(&self, scope: AggregateScope, kind: Option<SetKind>, found: &mut Vec<Diagnostic>) {
        let span = self.constraint.expr_span;
        match (scope, kind) {
            (AggregateScope::Whole, Some(SetKind::Append)) => {
                let message = format!("`{}` would see only what one epoch adds: this set appends", self.name());
                found.push(
                    Diagnostic::error(message, span)
                        .with_help("add PER RUN after the condition: it is then asked of what each run adds"),
                );
            }
            (AggregateScope::Run, Some(SetKind::Snapshot)) => {
                let message = format!("`{}` is asked of the whole set: this set is a snapshot", self.name());
                found.push(Diagnostic::warning(message, span).with_help("leave PER RUN out"));
            }
            _ => {}
        }
    }

    /// What no expectation may use.
    fn unusable(&self, expr: &ast::Expr, found: &mut Vec<Diagnostic>) {
        let mentions = Mentions::of(expr);
        let file = self.constraint.expr_span.file;
        if let Some(query) = mentions.queries.first() {
            let span = place(file, query.span(), self.constraint.expr_span);
            found.push(
                Diagnostic::error("an expectation cannot read other rows by a subquery", span)
                    .with_help("join what it needs in the set's query, and compare columns here"),
            );
        }
        for call in mentions.calls {
            let span = self.span_of(&call);
            if call.over.is_some() {
                found.push(
                    Diagnostic::error("an expectation cannot use a window function", span)
                        .with_help("compute it as a column of the set's query, and compare that column here"),
                );
            }
            volatile(self.catalog, &object_value(&call.name), span, found);
        }
    }

    fn bare_columns(&self, expr: &ast::Expr, within: bool, found: &mut Vec<Diagnostic>) {
        let is_call = |call: &ast::Function| self.catalog.is_aggregate(&object_value(&call.name));
        let within = within || matches!(expr, ast::Expr::Function(call) if is_call(call));
        if within {
            return;
        }
        let mut columns = Vec::new();
        if matches!(expr, ast::Expr::Identifier(_) | ast::Expr::CompoundIdentifier(_)) {
            own_columns(expr, &mut columns);
        }
        if let Some(column) = columns.first().and_then(|parts| parts.last()) {
            let message = format!("column `{}` stands outside of an aggregate", column.value);
            let help = format!("aggregate it: `max({})`, `avg({})`", column.value, column.value);
            found.push(Diagnostic::error(message, self.expressions().span(expr)).with_help(help));
            return;
        }
        for child in crate::syntax::Children::of(expr).exprs {
            self.bare_columns(&child, within, found);
        }
    }

    /// The expression with its types checked; it must be a condition.
    fn condition(&self, expr: &ast::Expr, found: &mut Vec<Diagnostic>) -> Option<Expr> {
        match self.expressions().check(expr) {
            Ok((planned, DataType::Boolean | DataType::Null)) => Some(planned),
            Ok((_, data_type)) => {
                let message = format!("`{}` must be true or false, not {}", self.name(), sql_type_name(&data_type));
                found.push(
                    Diagnostic::error(message, self.constraint.expr_span)
                        .with_help("write a condition, such as `x IS NOT NULL` or `x > 0`"),
                );
                None
            }
            Err(faults) => {
                found.extend(faults);
                None
            }
        }
    }

    fn expressions(&self) -> Scope<'_> {
        Scope {
            catalog: self.catalog,
            schema: self.schema,
            context: EMPTY_CONTEXT.get_or_init(PlannerContext::new),
            file: self.constraint.expr_span.file,
            fallback: self.constraint.expr_span,
        }
    }

    fn name(&self) -> &str {
        &self.constraint.name.value
    }
}

/// Expectations stand outside of every query: no common table expressions, no outer columns.
static EMPTY_CONTEXT: std::sync::OnceLock<PlannerContext> = std::sync::OnceLock::new();

/// The number of a call among the set's calls; equal calls share one.
fn number(call: &Expr, written: &[WrittenCall], conditions: &mut AggregateConditions) -> usize {
    if let Some(at) = conditions.calls.iter().position(|(_, known)| known == call) {
        return at;
    }
    let text = written.iter().find(|written| written.planned == *call);
    let text = text.map_or_else(|| call.to_string(), |written| written.text.clone());
    conditions.calls.push((text, call.clone()));
    conditions.calls.len() - 1
}

/// Refuses a function that would give other rows when the same slice is read again.
pub(crate) fn volatile(catalog: &Catalog<'_>, name: &str, span: Span, found: &mut Vec<Diagnostic>) {
    if catalog.is_volatile(name) {
        found.push(
            Diagnostic::error(format!("`{name}` gives another answer each time it is asked"), span).with_help(
                "the same input must give the same rows: use a column of the source, such as its event time",
            ),
        );
    }
}
