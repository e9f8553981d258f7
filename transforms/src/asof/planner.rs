//! `ASOF JOIN` for the engine's planner of relations in a FROM clause.

use datafusion::error::Result;
use datafusion::logical_expr::LogicalPlan;
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use sqlparser::ast::TableFactor;

use super::Written;
use crate::reader::First;

/// Plans `ASOF JOIN`s; stops at the first fault, as the engine does.
#[derive(Debug)]
pub(crate) struct AsofPlanner;

impl RelationPlanner for AsofPlanner {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning> {
        let TableFactor::NestedJoin { table_with_joins, alias } = &relation else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let Some(written) = Written::of(table_with_joins) else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let plan = planned(written, context)?;
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias.clone()))))
    }
}

fn planned(written: Written<'_>, context: &mut dyn RelationPlannerContext) -> Result<LogicalPlan> {
    let left = context.plan(written.left())?;
    let right = context.plan(written.right().clone())?;
    let mut first = First::new(context);
    match written.matching(left.schema(), right.schema(), &mut first) {
        Some(matching) => matching.plan(left, right),
        None => Err(first.into_error()),
    }
}
