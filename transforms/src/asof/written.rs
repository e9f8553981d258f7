//! An `ASOF JOIN` as written.

use datafusion::logical_expr::JoinType;
use sqlparser::ast::{Expr, Join, JoinConstraint, JoinOperator, TableFactor, TableWithJoins};

/// The last join of a `FROM`, an `ASOF JOIN`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Written<'a> {
    from: &'a TableWithJoins,
    join: &'a Join,
    /// What stands in `MATCH_CONDITION (…)`.
    pub(crate) condition: &'a Expr,
    pub(crate) constraint: &'a JoinConstraint,
}

impl<'a> Written<'a> {
    /// The join, if the last one of `from` is of this kind.
    pub(crate) fn of(from: &'a TableWithJoins) -> Option<Self> {
        let join = from.joins.last()?;
        match &join.join_operator {
            JoinOperator::AsOf { match_condition, constraint } => {
                Some(Self { from, join, condition: match_condition, constraint })
            }
            _ => None,
        }
    }

    /// The parser of pipelines notes `LEFT` there.
    pub(super) fn join_type(self) -> JoinType {
        if self.join.global { JoinType::Left } else { JoinType::Inner }
    }

    /// What stands before the join, as one relation.
    pub(crate) fn left(self) -> TableFactor {
        let mut from = self.from.clone();
        from.joins.pop();
        if from.joins.is_empty() { from.relation } else { as_relation(from) }
    }

    pub(crate) fn right(self) -> &'a TableFactor {
        &self.join.relation
    }
}

/// `from` as one relation, which is how the engine's planner comes to ask for it.
pub(crate) fn as_relation(from: TableWithJoins) -> TableFactor {
    TableFactor::NestedJoin { table_with_joins: Box::new(from), alias: None }
}
