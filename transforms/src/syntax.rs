//! Walks over the trees of a query as written: places, calls, names.

use std::ops::ControlFlow;

use bessemer_schemas::{FileId, Span};
use sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, GroupByExpr, Ident, LimitClause, ObjectName,
    OrderByKind, Query, Select, SelectItem, SetExpr, Spanned, TableFactor, Visit, Visitor,
};
use sqlparser::tokenizer::Span as TokenSpan;

use crate::asof::Written;

/// The place of a node in `file`, or `fallback` where the parser kept none.
pub(crate) fn place(file: FileId, span: TokenSpan, fallback: Span) -> Span {
    if span == TokenSpan::empty() { fallback } else { Span::from_tokens(file, span) }
}

/// An identifier's value: lower case unless it was quoted.
pub(crate) fn ident_value(ident: &Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_ascii_lowercase() }
}

/// The last part of a name.
pub(crate) fn object_value(name: &ObjectName) -> String {
    name.0.last().and_then(|part| part.as_ident()).map_or_else(|| name.to_string(), ident_value)
}

/// What stands directly below an expression.
#[derive(Default)]
pub(crate) struct Children {
    pub(crate) exprs: Vec<Expr>,
    pub(crate) queries: Vec<Query>,
    depth: usize,
}

impl Children {
    pub(crate) fn of(expr: &Expr) -> Self {
        let mut children = Self::default();
        // A lambda's parameters are no columns; its body cannot be looked at alone.
        if !matches!(expr, Expr::Lambda(_)) {
            let _walked: ControlFlow<()> = expr.visit(&mut children);
        }
        children
    }
}

impl Visitor for Children {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        self.depth += 1;
        if self.depth == 2 {
            self.queries.push(query.clone());
        }
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &Query) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        self.depth += 1;
        if self.depth == 2 {
            self.exprs.push(expr.clone());
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, _expr: &Expr) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }
}

/// Every function call, query, relation name, call of a table function and condition of an `ASOF JOIN` anywhere below a
/// node.
#[derive(Default)]
pub(crate) struct Mentions {
    pub(crate) calls: Vec<Function>,
    pub(crate) queries: Vec<Query>,
    pub(crate) selects: Vec<Select>,
    pub(crate) relations: Vec<ObjectName>,
    pub(crate) table_calls: Vec<TableFactor>,
    pub(crate) asof_conditions: Vec<Expr>,
}

impl Mentions {
    pub(crate) fn of(node: &impl Visit) -> Self {
        let mut mentions = Self::default();
        let _walked: ControlFlow<()> = node.visit(&mut mentions);
        mentions
    }

    /// Every function call in an expression itself, not in the subqueries below it.
    pub(crate) fn own_calls(expr: &Expr) -> Vec<Function> {
        let mut calls = Vec::new();
        if let Expr::Function(function) = expr {
            calls.push(function.clone());
        }
        calls.extend(Children::of(expr).exprs.iter().flat_map(Self::own_calls));
        calls
    }
}

impl Visitor for Mentions {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        self.queries.push(query.clone());
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        self.selects.push(select.clone());
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<()> {
        self.relations.push(relation.clone());
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        if let TableFactor::Table { args: Some(_), .. } | TableFactor::Function { .. } = factor {
            self.table_calls.push(factor.clone());
        }
        if let TableFactor::NestedJoin { table_with_joins, .. } = factor
            && let Some(written) = Written::of(table_with_joins)
        {
            self.asof_conditions.push(written.condition.clone());
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if let Expr::Function(function) = expr {
            self.calls.push(function.clone());
        }
        ControlFlow::Continue(())
    }
}

/// The expressions among a function's arguments.
pub(crate) fn argument_exprs(function: &Function) -> Vec<&Expr> {
    let FunctionArguments::List(list) = &function.args else { return Vec::new() };
    list.args
        .iter()
        .filter_map(|arg| match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr))
            | FunctionArg::Named { arg: FunctionArgExpr::Expr(expr), .. } => Some(expr),
            _ => None,
        })
        .collect()
}

/// The first `SELECT` of a query, through parentheses and set operations.
pub(crate) fn first_select(body: &SetExpr) -> Option<&Select> {
    match body {
        SetExpr::Select(select) => Some(select),
        SetExpr::Query(query) => first_select(&query.body),
        SetExpr::SetOperation { left, .. } => first_select(left),
        _ => None,
    }
}

/// The name that a select item gives its column, where that can be seen.
pub(crate) fn item_name(item: &SelectItem) -> Option<String> {
    match item {
        SelectItem::ExprWithAlias { alias, .. } => Some(ident_value(alias)),
        SelectItem::UnnamedExpr(Expr::Identifier(ident)) => Some(ident_value(ident)),
        SelectItem::UnnamedExpr(Expr::CompoundIdentifier(parts)) => parts.last().map(ident_value),
        _ => None,
    }
}

/// The expression of a select item, unless it is a wildcard.
pub(crate) fn item_expr(item: &SelectItem) -> Option<&Expr> {
    match item {
        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => Some(expr),
        _ => None,
    }
}

/// The place of `GROUP BY`, where there is one.
pub(crate) fn group_by_span(select: &Select) -> Option<TokenSpan> {
    match &select.group_by {
        GroupByExpr::Expressions(exprs, _) if exprs.is_empty() => None,
        group_by => Some(group_by.span()),
    }
}

/// The expressions of `GROUP BY`.
pub(crate) fn group_by_exprs(select: &Select) -> &[Expr] {
    match &select.group_by {
        GroupByExpr::Expressions(exprs, _) => exprs,
        GroupByExpr::All(_) => &[],
    }
}

/// The expressions of `ORDER BY`.
pub(crate) fn order_by_exprs(query: &Query) -> Vec<&Expr> {
    match query.order_by.as_ref().map(|order_by| &order_by.kind) {
        Some(OrderByKind::Expressions(exprs)) => exprs.iter().map(|order| &order.expr).collect(),
        _ => Vec::new(),
    }
}

/// The place of `LIMIT` or `OFFSET`, where there is one.
pub(crate) fn limit_span(query: &Query) -> Option<TokenSpan> {
    let exprs: Vec<&Expr> = match query.limit_clause.as_ref()? {
        LimitClause::LimitOffset { limit, offset, .. } => {
            limit.iter().chain(offset.iter().map(|offset| &offset.value)).collect()
        }
        LimitClause::OffsetCommaLimit { offset, limit } => vec![offset, limit],
    };
    Some(exprs.iter().fold(TokenSpan::empty(), |span, expr| span.union(&expr.span())))
}

/// The name by which a table factor is known in its query, and whether it was given by `AS`.
pub(crate) fn factor_name(factor: &TableFactor) -> Option<&ObjectName> {
    match factor {
        TableFactor::Table { name, args: None, .. } => Some(name),
        _ => None,
    }
}

/// The columns written in an expression itself, not in subqueries below it, with their places.
pub(crate) fn own_columns(expr: &Expr, columns: &mut Vec<Vec<Ident>>) {
    match expr {
        Expr::Identifier(ident) => columns.push(vec![ident.clone()]),
        Expr::CompoundIdentifier(parts) => columns.push(parts.clone()),
        _ => Children::of(expr).exprs.iter().for_each(|child| own_columns(child, columns)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_folded_as_the_engine_folds_them() {
        assert_eq!(ident_value(&Ident::new("Öre_A")), "Öre_a");
        assert_eq!(ident_value(&Ident::with_quote('"', "Öre_A")), "Öre_A");
    }
}
