//! Finds every fault of a query that DataFusion refuses.
//!
//! The planner stops at the first error. So a refused query is taken apart along its clauses: what it reads, then each
//! item of `SELECT`, `WHERE`, `GROUP BY`, `HAVING` and `ORDER BY` alone, then the items together with the grouping.

mod heard;
mod join;
mod part;
mod window;

use std::collections::HashSet;
use std::sync::Arc;

use arrow::datatypes::Field;
use bessemer_schemas::{Diagnostic, FileId, Span, nearest};
use datafusion::common::{DFSchema, DFSchemaRef, DataFusionError, TableReference};
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::planner::PlannerContext;
use sqlparser::ast::{self, Cte, Query, Select, SelectItem, SetExpr, Spanned, TableFactor, TableWithJoins};

use self::part::{alone, of_body, of_select, reading, skeleton};
use crate::asof::{Written, as_relation};
use crate::catalog::Catalog;
use crate::expression::{Scope, list, plain_words, told};
use crate::syntax::{
    Mentions, factor_name, group_by_exprs, ident_value, item_expr, item_name, object_value, order_by_exprs, place,
};
use crate::window::Call;

/// Adds to `found` what is wrong with `query`; at least one diagnostic, unless the fault lies in something that is
/// known to be broken and was reported where it stands.
pub(crate) fn blame_query(
    catalog: &Catalog<'_>,
    query: &Query,
    context: &PlannerContext,
    file: FileId,
    fallback: Span,
    found: &mut Vec<Diagnostic>,
) {
    Blame { catalog, file, fallback }.query(query, context, found);
}

#[derive(Clone, Copy)]
struct Blame<'a> {
    catalog: &'a Catalog<'a>,
    file: FileId,
    fallback: Span,
}

impl Blame<'_> {
    fn plan(&self, query: &Query, context: &PlannerContext) -> Result<LogicalPlan, DataFusionError> {
        let plan = self.catalog.plan_query(query, context)?;
        // A query inside another one is coerced together with it: its outer columns mean nothing alone.
        if context.outer_queries_schemas().is_empty() { self.catalog.analyse(plan) } else { Ok(plan) }
    }

    fn query(&self, query: &Query, context: &PlannerContext, found: &mut Vec<Diagnostic>) {
        let Err(error) = self.plan(query, context) else { return };
        let before = found.len();
        let mut context = context.clone();
        let mut broken: Vec<String> = Vec::new();
        let is_recursive = query.with.as_ref().is_some_and(|with| with.recursive);
        for cte in query.with.iter().flat_map(|with| &with.cte_tables) {
            let reads = Mentions::of(cte.query.as_ref()).relations;
            let (at, name) = (found.len(), ident_value(&cte.alias.name));
            if reads.iter().any(|relation| broken.contains(&object_value(relation))) {
                broken.push(name);
                continue;
            }
            match cte.query.body.as_ref() {
                SetExpr::SetOperation { left, right, .. } if is_recursive => {
                    self.recursive_cte(cte, [left, right], &mut context, found);
                }
                _ => self.cte(cte, &cte.query, &mut context, found),
            }
            if found.len() > at {
                broken.push(name);
            }
        }
        if found.len() > before {
            return;
        }

        self.body(&query.body, query, &context, found);
        if found.len() == before {
            found.push(self.told_by_engine(&error, place(self.file, query.span(), self.fallback)));
        }
    }

    /// The first term gives the columns that the other one reads under the name of the whole.
    fn recursive_cte(
        &self,
        cte: &Cte,
        [first, next]: [&SetExpr; 2],
        context: &mut PlannerContext,
        found: &mut Vec<Diagnostic>,
    ) {
        let before = found.len();
        self.cte(cte, &of_body(first), context, found);
        if found.len() == before {
            self.query(&of_body(next), context, found);
        }
    }

    /// Makes what `query` gives known by the name and columns of `cte`.
    fn cte(&self, cte: &Cte, query: &Query, context: &mut PlannerContext, found: &mut Vec<Diagnostic>) {
        let before = found.len();
        self.query(query, context, found);
        let Some(select) = skeleton().filter(|_| found.len() == before) else { return };
        let derived = TableFactor::Derived {
            lateral: false,
            subquery: Box::new(query.clone()),
            alias: Some(cte.alias.clone()),
            sample: None,
        };
        match self.plan(&reading(select, vec![alone(derived)]), context) {
            Ok(plan) => context.insert_cte(ident_value(&cte.alias.name), plan),
            Err(error) => {
                found.push(self.told_by_engine(&error, place(self.file, cte.alias.name.span, self.fallback)));
            }
        }
    }

    fn body(&self, body: &SetExpr, query: &Query, context: &PlannerContext, found: &mut Vec<Diagnostic>) {
        match body {
            SetExpr::Select(select) => self.select(select, query, context, found),
            SetExpr::Query(query) => self.query(query, context, found),
            SetExpr::SetOperation { left, right, op, .. } => {
                let before = found.len();
                for side in [left, right] {
                    self.query(&of_body(side), context, found);
                }
                if found.len() == before {
                    self.set_operation(*op, left, right, context, found);
                }
            }
            _ => {}
        }
    }

    fn set_operation(
        &self,
        op: ast::SetOperator,
        left: &SetExpr,
        right: &SetExpr,
        context: &PlannerContext,
        found: &mut Vec<Diagnostic>,
    ) {
        let width = |side: &SetExpr| self.plan(&of_body(side), context).map(|plan| plan.schema().fields().len());
        if let (Ok(left_width), Ok(right_width)) = (width(left), width(right))
            && left_width != right_width
        {
            let span = place(self.file, right.span(), self.fallback);
            let message = format!("{op} of {left_width} columns with {right_width}");
            found.push(
                Diagnostic::error(message, span).with_help("let both sides give the same columns in the same order"),
            );
        }
    }

    fn select(&self, select: &Select, query: &Query, context: &PlannerContext, found: &mut Vec<Diagnostic>) {
        let before = found.len();
        for from in &select.from {
            self.from(from, context, found);
        }
        if found.len() > before {
            return;
        }
        let Some(schema) = self.columns_of(&select.from, context) else { return };

        let aliases = self.items(select, &schema, context, found);
        let scope = self.scope(&schema, context);
        check_all(select.selection.iter(), scope, found);
        self.aggregate_in_where(select, found);

        // `GROUP BY`, `HAVING` and `ORDER BY` see the items' names too; a name of an item that is wrong itself is not
        // reported again.
        let known: HashSet<String> = select.projection.iter().filter_map(item_name).collect();
        let mut both = schema.as_ref().clone();
        both.merge(&aliases);
        let scope = self.scope(&both, context);
        let later = group_by_exprs(select).iter().chain(&select.having).chain(&select.qualify);
        let later = later.chain(order_by_exprs(query)).filter(|expr| match expr {
            ast::Expr::Identifier(ident) => !known.contains(&ident_value(ident)),
            _ => true,
        });
        check_all(later, scope, found);
        if found.len() == before {
            self.equal_names(select, found);
        }
        if found.len() == before {
            self.grouping(select, query, context, found);
        }
    }

    fn aggregate_in_where(&self, select: &Select, found: &mut Vec<Diagnostic>) {
        let calls = select.selection.iter().flat_map(Mentions::own_calls);
        for call in calls.filter(|call| call.over.is_none() && self.catalog.is_aggregate(&object_value(&call.name))) {
            let span = place(self.file, call.name.span(), self.fallback);
            found.push(
                Diagnostic::error("an aggregate cannot stand in WHERE, which is asked of single rows", span)
                    .with_help("write it in HAVING, after GROUP BY"),
            );
        }
    }

    fn equal_names(&self, select: &Select, found: &mut Vec<Diagnostic>) {
        let mut seen = HashSet::new();
        for item in &select.projection {
            if let Some(name) = item_name(item).filter(|name| !seen.insert(name.clone())) {
                let span = place(self.file, item.span(), self.fallback);
                found.push(two_columns(&name, span));
            }
        }
    }

    fn scope<'b>(&'b self, schema: &'b DFSchema, context: &'b PlannerContext) -> Scope<'b> {
        Scope { catalog: self.catalog, schema, context, file: self.file, fallback: self.fallback }
    }

    /// Checks each item of `SELECT`; the result has the names and types of those that are right.
    fn items(
        &self,
        select: &Select,
        schema: &DFSchema,
        context: &PlannerContext,
        found: &mut Vec<Diagnostic>,
    ) -> DFSchema {
        let scope = self.scope(schema, context);
        let mut fields = Vec::new();
        for item in &select.projection {
            if let SelectItem::QualifiedWildcard(..) = item {
                self.wildcard(item, schema, found);
            }
            let Some(expr) = item_expr(item) else { continue };
            match scope.check(expr) {
                Ok((_, data_type)) => fields.extend(item_name(item).map(|name| Field::new(name, data_type, true))),
                Err(faults) => found.extend(faults),
            }
        }
        fields.sort_by(|left, right| left.name().cmp(right.name()));
        fields.dedup_by(|left, right| left.name() == right.name());
        DFSchema::from_unqualified_fields(fields.into(), std::collections::HashMap::new())
            .unwrap_or_else(|_| DFSchema::empty())
    }

    fn wildcard(&self, item: &SelectItem, schema: &DFSchema, found: &mut Vec<Diagnostic>) {
        let SelectItem::QualifiedWildcard(ast::SelectItemQualifiedWildcardKind::ObjectName(name), _) = item else {
            return;
        };
        let written = object_value(name);
        let mut relations: Vec<_> = schema.iter().filter_map(|(q, _)| q.map(TableReference::table)).collect();
        relations.dedup();
        if !relations.contains(&written.as_str()) {
            let span = place(self.file, item.span(), self.fallback);
            let diagnostic = Diagnostic::error(format!("`{written}` is no table of this query"), span);
            found.push(match nearest(&written, relations.iter().copied()) {
                Some(name) => diagnostic.with_help(format!("did you mean `{name}.*`?")),
                None => diagnostic.with_help(format!("what can be named here: {}", list(&relations))),
            });
        }
    }

    /// All parts are right alone: the fault is how they go together, nearly always with `GROUP BY`.
    fn grouping(&self, select: &Select, query: &Query, context: &PlannerContext, found: &mut Vec<Diagnostic>) {
        let before = found.len();
        let with = |change: &dyn Fn(&mut Select)| {
            let mut part = select.clone();
            part.having = None;
            part.qualify = None;
            change(&mut part);
            self.plan(&of_select(part), context)
        };
        for item in &select.projection {
            if let Err(error) = with(&|part| part.projection = vec![item.clone()]) {
                let span = place(self.file, item.span(), self.fallback);
                found.push(self.told_by_engine(&error, span));
            }
        }
        if let Some(having) = select.having.as_ref().filter(|_| found.len() == before)
            && let Err(error) = with(&|part| part.having = Some(having.clone()))
        {
            found.push(self.told_by_engine(&error, place(self.file, having.span(), self.fallback)));
        }
        if found.len() == before {
            for order in order_by_exprs(query) {
                let mut part = query.clone();
                part.order_by = None;
                part.with = None;
                if let Ok(()) = self.plan(&part, context).map(drop)
                    && let Err(error) = self.plan(query, context)
                {
                    found.push(self.told_by_engine(&error, place(self.file, order.span(), self.fallback)));
                    return;
                }
            }
        }
    }

    fn from(&self, from: &TableWithJoins, context: &PlannerContext, found: &mut Vec<Diagnostic>) {
        let before = found.len();
        for factor in std::iter::once(&from.relation).chain(from.joins.iter().map(|join| &join.relation)) {
            self.factor(factor, context, found);
        }
        if found.len() > before {
            return;
        }
        for last in 0..from.joins.len() {
            let mut part = from.clone();
            part.joins.truncate(last + 1);
            let Some(select) = skeleton() else { return };
            let planned = if Written::of(&part).is_some() { alone(as_relation(part.clone())) } else { part.clone() };
            if let Err(error) = self.plan(&reading(select, vec![planned]), context) {
                self.join(part, &error, context, found);
                return;
            }
        }
    }

    fn factor(&self, factor: &TableFactor, context: &PlannerContext, found: &mut Vec<Diagnostic>) {
        if let Some(name) = factor_name(factor) {
            let written = name.0.iter().map(|part| part.as_ident().map_or_else(|| part.to_string(), ident_value));
            let written = written.collect::<Vec<_>>().join(".");
            if !context.contains_cte(&written) && !self.catalog.contains(&written) && !self.catalog.is_broken(&written)
            {
                let span = place(self.file, name.span(), self.fallback);
                let diagnostic = Diagnostic::error(format!("there is no source, table or view `{written}`"), span);
                found.push(match nearest(&written, self.catalog.names()) {
                    Some(near) => diagnostic.with_help(format!("did you mean `{near}`?")),
                    None => diagnostic
                        .with_help(format!("what can be read: {}", list(&self.catalog.names().collect::<Vec<_>>()))),
                });
            }
            return;
        }
        let before = found.len();
        if let Some(call) = Call::of(factor) {
            self.window(call, context, found);
        }
        match factor {
            TableFactor::Derived { subquery, lateral: false, .. } => self.query(subquery, context, found),
            TableFactor::NestedJoin { table_with_joins, .. } => self.from(table_with_joins, context, found),
            _ => {}
        }
        let Some(select) = skeleton() else { return };
        let is_lateral =
            matches!(factor, TableFactor::Derived { lateral: true, .. } | TableFactor::Function { lateral: true, .. });
        if found.len() == before
            && !is_lateral
            && let Err(error) = self.plan(&reading(select, vec![alone(factor.clone())]), context)
        {
            found.push(self.told_by_engine(&error, place(self.file, factor.span(), self.fallback)));
        }
    }

    /// The columns that a `FROM` clause offers, with their qualifiers.
    fn columns_of(&self, from: &[TableWithJoins], context: &PlannerContext) -> Option<DFSchemaRef> {
        if from.is_empty() {
            return Some(Arc::new(DFSchema::empty()));
        }
        match self.catalog.plan_query(&reading(skeleton()?, from.to_vec()), context).ok()? {
            LogicalPlan::Projection(projection) => Some(Arc::clone(projection.input.schema())),
            plan => Some(Arc::clone(plan.schema())),
        }
    }

    /// The engine's own finding, at its place if it gives one.
    fn told_by_engine(&self, error: &DataFusionError, fallback: Span) -> Diagnostic {
        let diagnostic = error.iter().find_map(DataFusionError::diagnostic);
        let span = diagnostic.and_then(|diagnostic| diagnostic.span).map_or(fallback, |span| {
            let location = |location: datafusion::common::Location| sqlparser::tokenizer::Location {
                line: location.line,
                column: location.column,
            };
            Span::from_tokens(self.file, sqlparser::tokenizer::Span::new(location(span.start), location(span.end)))
        });
        let text = plain_words(error);
        if text.contains("GROUP BY") || text.contains("group by") {
            return Diagnostic::error("this is neither grouped by nor aggregated", span)
                .with_help("add it to GROUP BY, or aggregate it: `max(…)`, `count(…)`");
        }
        told(error, span)
    }
}

fn check_all<'e>(exprs: impl Iterator<Item = &'e ast::Expr>, scope: Scope<'_>, found: &mut Vec<Diagnostic>) {
    for expr in exprs {
        if let Err(faults) = scope.check(expr) {
            found.extend(faults);
        }
    }
}

/// Two columns of one query have one name.
pub(crate) fn two_columns(name: &str, span: Span) -> Diagnostic {
    Diagnostic::error(format!("two columns are named `{name}`"), span)
        .with_help(format!("give one another name: `… AS other_{name}`"))
}
