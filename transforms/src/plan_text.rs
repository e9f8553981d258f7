//! A query as a text that changes when the query does, and not when only its writing does: for its digest.

use std::fmt::Write as _;

use datafusion::common::NullEquality;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, LogicalPlan};
use sqlparser::ast::Query;

use crate::syntax::Mentions;

/// The text of an optimised plan that was made from `queries`.
///
/// The engine's own text leaves some things out, which are added: all but the first rows of `VALUES`, whether a join
/// takes two nulls for equal (`INTERSECT` and `EXCEPT` do), what table functions are called with.
pub(crate) fn plan_text<'q>(plan: &LogicalPlan, queries: impl Iterator<Item = &'q Query>) -> Result<String> {
    let mut text = plan.display_indent_schema().to_string();
    let mut joins = 0;
    plan.apply_with_subqueries(|node| {
        match node {
            LogicalPlan::Values(values) => {
                for row in &values.values {
                    line(&mut text, "values", &row_text(row));
                }
            }
            LogicalPlan::Join(join) => {
                joins += 1;
                if join.null_equality == NullEquality::NullEqualsNull {
                    line(&mut text, "nulls are equal in join", &joins.to_string());
                }
            }
            _ => {}
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    for call in queries.flat_map(|query| Mentions::of(query).table_calls) {
        line(&mut text, "call", &call.to_string());
    }
    Ok(text)
}

fn row_text(row: &[Expr]) -> String {
    row.iter().map(Expr::to_string).collect::<Vec<_>>().join(", ")
}

fn line(text: &mut String, what: &str, value: &str) {
    // Writing to a string cannot fail.
    let _written = write!(text, "\n{what} {value}");
}
