//! `ASOF JOIN` for the engine's planners: of relations in a FROM clause, and of operators.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::internal_err;
use datafusion::error::Result;
use datafusion::execution::context;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::logical_expr::{LogicalPlan, UserDefinedLogicalNode};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{DefaultPhysicalPlanner, ExtensionPlanner, PhysicalPlanner};
use sqlparser::ast::TableFactor;

use super::{AsofJoin, Written};
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

/// The engine's planner of operators, which also knows those of ours.
#[derive(Debug)]
pub(crate) struct QueryPlanner;

#[async_trait]
impl context::QueryPlanner for QueryPlanner {
    async fn create_physical_plan(&self, plan: &LogicalPlan, session: &dyn Session) -> Result<Arc<dyn ExecutionPlan>> {
        let planner = DefaultPhysicalPlanner::with_extension_planners(vec![Arc::new(OperatorPlanner)]);
        planner.create_physical_plan(plan, session).await
    }
}

struct OperatorPlanner;

#[async_trait]
impl ExtensionPlanner for OperatorPlanner {
    async fn plan_extension(
        &self,
        _planner: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _logical_inputs: &[&LogicalPlan],
        physical_inputs: &[Arc<dyn ExecutionPlan>],
        session: &dyn Session,
        _context: &PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let Some(join) = node.as_any().downcast_ref::<AsofJoin>() else { return Ok(None) };
        let [left, right] = physical_inputs else { return internal_err!("an ASOF JOIN has two sides") };
        join.operator(Arc::clone(left), Arc::clone(right), session).map(Some)
    }
}
