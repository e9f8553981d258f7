//! Operators of ours for the engine's planner: `ASOF JOIN` and `SESSION`.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::internal_err;
use datafusion::error::Result;
use datafusion::execution::context;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{LogicalPlan, UserDefinedLogicalNode};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{DefaultPhysicalPlanner, ExtensionPlanner, PhysicalPlanner};

use crate::asof::AsofJoin;
use crate::window::SessionWindow;

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
        if let Some(window) = node.as_any().downcast_ref::<SessionWindow>() {
            let [data] = physical_inputs else { return internal_err!("a session has one input") };
            return window.operator(Arc::clone(data), session).map(Some);
        }
        let Some(join) = node.as_any().downcast_ref::<AsofJoin>() else { return Ok(None) };
        let [left, right] = physical_inputs else { return internal_err!("an ASOF JOIN has two sides") };
        join.operator(Arc::clone(left), Arc::clone(right), session).map(Some)
    }
}
