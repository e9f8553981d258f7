//! Queries that are read by others: views, each planned once, and what every query must keep to.

use std::collections::BTreeMap;

use bessemer_schemas::{Definition, Diagnostic, Span};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::planner::PlannerContext;
use sqlparser::ast::{Distinct, PipeOperator, Query, SetExpr, Spanned};
use sqlparser::tokenizer::Span as TokenSpan;

use crate::blame::{blame_query, two_columns};
use crate::catalog::Catalog;
use crate::expectation::volatile;
use crate::expression::told;
use crate::syntax::{Mentions, first_select, item_name, limit_span, object_value, place};
use crate::using::refuse_half_keys;

/// Plans the views in their order: each comes after those it reads.
pub(crate) fn add_views(definition: &Definition, catalog: &mut Catalog<'_>, found: &mut Vec<Diagnostic>) {
    for view in &definition.views {
        let name = &view.name.value;
        match plan_query(&view.query, view.query_span, catalog, found) {
            Some(plan) => catalog.add_plan(name, plan),
            None => catalog.add_broken(name),
        }
    }
}

/// The analysed plan of a query; its faults go to `found`, unless they are those of a view that it reads. A query that
/// can be planned but is refused has a plan too: what else is wrong with its set can then be told.
pub(crate) fn plan_query(
    query: &Query,
    query_span: Span,
    catalog: &Catalog<'_>,
    found: &mut Vec<Diagnostic>,
) -> Option<LogicalPlan> {
    let mentions = Mentions::of(query);
    if mentions.relations.iter().any(|relation| catalog.is_broken(&object_value(relation))) {
        return None;
    }
    refuse(query, &mentions, query_span, catalog, found);
    let context = PlannerContext::new();
    let planned = catalog.plan_query(query, &context).and_then(|plan| catalog.analyse(plan));
    match planned.and_then(|plan| optimize_once(plan, catalog)) {
        Ok(plan) => {
            let before = found.len();
            duplicate_columns(query, query_span, &plan, found);
            (found.len() == before).then_some(plan)
        }
        Err(error) => {
            let at = found.len();
            blame_query(catalog, query, &context, query_span.file, query_span, found);
            if found.len() == at {
                found.push(told(&error, query_span));
            }
            None
        }
    }
}

/// Some faults show only when the optimizer rewrites the plan (a correlated subquery that cannot be joined).
fn optimize_once(plan: LogicalPlan, catalog: &Catalog<'_>) -> Result<LogicalPlan, DataFusionError> {
    catalog.state().optimize(&plan)?;
    Ok(plan)
}

fn refuse(query: &Query, mentions: &Mentions, query_span: Span, catalog: &Catalog<'_>, found: &mut Vec<Diagnostic>) {
    let file = query_span.file;
    if !is_select(&query.body) {
        found.push(
            Diagnostic::error("only a SELECT can be planned here", place(file, query.body.span(), query_span))
                .with_help("write `SELECT … FROM …`"),
        );
    }
    for call in &mentions.calls {
        volatile(catalog, &object_value(&call.name), place(file, call.name.span(), query_span), found);
    }
    for select in &mentions.selects {
        refuse_half_keys(select, query_span, found);
    }
    for inner in &mentions.queries {
        if let Some(span) = unordered_limit(inner) {
            found.push(
                Diagnostic::error("LIMIT without ORDER BY takes any rows", place(file, span, query_span))
                    .with_help("write `ORDER BY … LIMIT …`, with enough columns that no two rows are equal in them"),
            );
        }
        if let Some(span) = unordered_distinct_on(&inner.body, inner.order_by.is_some()) {
            found.push(
                Diagnostic::error(
                    "DISTINCT ON without ORDER BY keeps any of the equal rows",
                    place(file, span, query_span),
                )
                .with_help("write `ORDER BY` with the same columns first, then those that say which row is kept"),
            );
        }
    }
}

/// The place of a `LIMIT` or `OFFSET` that no `ORDER BY` stands directly before, as a clause or as a pipe operator.
fn unordered_limit(query: &Query) -> Option<TokenSpan> {
    let mut is_ordered = query.order_by.is_some();
    let limit = limit_span(query).filter(|_| !is_ordered);
    let mut limits = query.pipe_operators.iter().filter_map(|operator| match operator {
        PipeOperator::Limit { expr, .. } => (!is_ordered).then(|| expr.span()),
        operator => {
            is_ordered = matches!(operator, PipeOperator::OrderBy { .. });
            None
        }
    });
    limit.or_else(|| limits.next())
}

/// The place of a `SELECT DISTINCT ON` whose rows come in no order.
fn unordered_distinct_on(body: &SetExpr, is_ordered: bool) -> Option<TokenSpan> {
    match body {
        SetExpr::Select(select) => {
            let is_any = matches!(select.distinct, Some(Distinct::On(_))) && !is_ordered;
            is_any.then_some(select.select_token.0.span)
        }
        // The `ORDER BY` after a set operation is that of its result.
        SetExpr::SetOperation { left, right, .. } => {
            unordered_distinct_on(left, false).or_else(|| unordered_distinct_on(right, false))
        }
        _ => None,
    }
}

fn is_select(body: &SetExpr) -> bool {
    match body {
        SetExpr::Select(_) | SetExpr::Values(_) => true,
        SetExpr::Query(query) => is_select(&query.body),
        SetExpr::SetOperation { left, right, .. } => is_select(left) && is_select(right),
        _ => false,
    }
}

fn duplicate_columns(query: &Query, query_span: Span, plan: &LogicalPlan, found: &mut Vec<Diagnostic>) {
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    for field in plan.schema().fields() {
        *times.entry(field.name().as_str()).or_default() += 1;
    }
    for (name, _) in times.into_iter().filter(|(_, times)| *times > 1) {
        let items = first_select(&query.body).map_or(&[][..], |select| select.projection.as_slice());
        let mut named = items.iter().filter(|item| item_name(item).as_deref() == Some(name));
        let at = named.next_back().or(items.last()).map(Spanned::span);
        let span = at.map_or(query_span, |span| place(query_span.file, span, query_span));
        found.push(two_columns(name, span));
    }
}
