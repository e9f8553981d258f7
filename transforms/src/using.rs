//! Keys of `RIGHT JOIN … USING` and `FULL JOIN … USING` that are named without a side.
//!
//! In PostgreSQL such a name is the key of whichever side has the row. The engine takes that of the left side, which is NULL
//! where only the right side has a row.

use std::collections::BTreeSet;

use bessemer_schemas::{Diagnostic, Span};
use sqlparser::ast::{Ident, JoinConstraint, JoinOperator, Select, SelectItem, Spanned, TableFactor, TableWithJoins};
use sqlparser::tokenizer::Span as TokenSpan;

use crate::syntax::{group_by_exprs, ident_value, item_expr, object_value, own_columns, place};

/// Refuses keys of which `select` does not say the side.
pub(crate) fn refuse_half_keys(select: &Select, query_span: Span, found: &mut Vec<Diagnostic>) {
    let keys: BTreeSet<_> = select.from.iter().flat_map(outer_keys).collect();
    let Some(first) = keys.first() else { return };
    let named = named_alone(select).into_iter().find(|ident| keys.contains(&ident_value(ident)));
    let (name, span) = match (named, all_columns(select)) {
        (Some(ident), _) => (ident_value(&ident), ident.span),
        (None, Some(span)) => (first.clone(), span),
        (None, None) => return,
    };
    found.push(
        Diagnostic::error(
            format!("`{name}` would be the key of the join's left side, and NULL where only the right side has a row"),
            place(query_span.file, span, query_span),
        )
        .with_help(format!(
            "name the sides: `coalesce(l.{name}, r.{name})` of a FULL JOIN, `r.{name}` of a RIGHT JOIN"
        )),
    );
}

/// Keys of joins that keep rows of the right side.
fn outer_keys(from: &TableWithJoins) -> Vec<String> {
    let own = from.joins.iter().flat_map(|join| match &join.join_operator {
        JoinOperator::Right(JoinConstraint::Using(keys))
        | JoinOperator::RightOuter(JoinConstraint::Using(keys))
        | JoinOperator::FullOuter(JoinConstraint::Using(keys)) => keys.iter().map(object_value).collect(),
        _ => Vec::new(),
    });
    let factors = std::iter::once(&from.relation).chain(from.joins.iter().map(|join| &join.relation));
    let nested = factors.flat_map(|factor| match factor {
        TableFactor::NestedJoin { table_with_joins, alias: None, .. } => outer_keys(table_with_joins),
        _ => Vec::new(),
    });
    own.chain(nested).collect()
}

/// Columns that are named without the relation that they are of.
fn named_alone(select: &Select) -> Vec<Ident> {
    let mut columns = Vec::new();
    // In conditions the engine tells that they are of both sides.
    let exprs = select.projection.iter().filter_map(item_expr).chain(group_by_exprs(select));
    exprs.for_each(|expr| own_columns(expr, &mut columns));
    columns.retain(|parts| parts.len() == 1);
    columns.into_iter().flatten().collect()
}

fn all_columns(select: &Select) -> Option<TokenSpan> {
    let all = select.projection.iter().find(|item| matches!(item, SelectItem::Wildcard(_)));
    all.map(Spanned::span)
}
