//! Window functions for the engine's planner, which asks here for every relation of a FROM clause.

use datafusion::common::plan_err;
use datafusion::error::Result;
use datafusion::logical_expr::LogicalPlan;
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use sqlparser::ast::{Query, TableFactor};

use super::{Call, Logs};
use crate::reader::First;

/// Plans calls of window functions; stops at the first fault, as the engine does.
#[derive(Debug)]
pub(crate) struct WindowPlanner {
    pub(crate) logs: Logs,
}

impl RelationPlanner for WindowPlanner {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning> {
        let Some(call) = Call::of(&relation) else { return Ok(RelationPlanning::Original(Box::new(relation))) };
        let plan = self.plan(call, context)?;
        let TableFactor::Table { alias, .. } = relation else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias))))
    }
}

impl WindowPlanner {
    fn plan(&self, call: Call<'_>, context: &mut dyn RelationPlannerContext) -> Result<LogicalPlan> {
        let Some(query) = call.data() else { return plan_err!("a window function needs data to read") };
        let data = context.plan(derived(query))?;
        let mut first = First::new(context);
        match call.window(&data, &self.logs, &mut first) {
            Some(window) => window.plan(data),
            None => Err(first.into_error()),
        }
    }
}

fn derived(query: &Query) -> TableFactor {
    TableFactor::Derived { lateral: false, subquery: Box::new(query.clone()), alias: None, sample: None }
}
