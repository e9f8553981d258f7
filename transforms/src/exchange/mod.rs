//! Exchanges between the partitions of a plan, in an order that does not depend on threads.
//!
//! DataFusion's own exchanges pass batches on as they arrive. Sums of floating-point numbers, ties of `row_number` and
//! the order of rows in files would then differ between two runs over the same input. Here each output takes one batch
//! of every input in turn:
//!
//! ```text
//! input 0 ──► lane 0 ─┬─► output 0: lane 0, lane 1, lane 0, lane 1, …
//! input 1 ──► lane 1 ─┴─► output 1: lane 0, lane 1, lane 0, lane 1, …
//! ```
//!
//! Inputs run side by side and are cut into batches of a fixed number of rows, so that what comes out depends on their
//! rows alone.

mod lane;
mod node;

use std::sync::Arc;

use datafusion::common::JoinType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::error::Result;
use datafusion::physical_expr::Partitioning;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;
use datafusion::physical_plan::joins::{HashJoinExec, NestedLoopJoinExec, PartitionMode};
use datafusion::physical_plan::limit::GlobalLimitExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};

use self::node::InOrderExec;

/// Puts exchanges in order into a physical plan; the last rule, since others know the engine's exchanges.
#[derive(Debug)]
pub(crate) struct InOrder;

impl PhysicalOptimizerRule for InOrder {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(in_order).data()
    }

    fn name(&self) -> &'static str {
        "in_order"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

fn in_order(plan: Arc<dyn ExecutionPlan>) -> Result<Transformed<Arc<dyn ExecutionPlan>>> {
    if let Some(repartition) = plan.downcast_ref::<RepartitionExec>() {
        // One that keeps an order merges its inputs, which is as good.
        if is_partitioned(repartition.input()) && !repartition.preserve_order() {
            return Ok(Transformed::yes(Arc::new(InOrderExec::new(plan))));
        }
    } else if let Some(coalesce) = plan.downcast_ref::<CoalescePartitionsExec>() {
        if is_partitioned(coalesce.input()) {
            return Ok(Transformed::yes(gather(Arc::clone(coalesce.input()), coalesce.fetch())));
        }
    } else if ends_in_any_partition(&plan) {
        return ending_in_one(plan).map(Transformed::yes);
    }
    Ok(Transformed::no(plan))
}

fn is_partitioned(plan: &Arc<dyn ExecutionPlan>) -> bool {
    plan.output_partitioning().partition_count() > 1
}

/// All partitions of `plan` as one, no more than `fetch` rows of it.
pub(crate) fn gather(plan: Arc<dyn ExecutionPlan>, fetch: Option<usize>) -> Arc<dyn ExecutionPlan> {
    let gathered = Arc::new(InOrderExec::new(Arc::new(CoalescePartitionsExec::new(plan))));
    match fetch {
        Some(_) => Arc::new(GlobalLimitExec::new(gathered, 0, fetch)),
        None => gathered,
    }
}

/// Whether a join with one build side for all its partitions adds the rows without a match to whichever of them ends
/// last.
fn ends_in_any_partition(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let join_type = if let Some(join) = plan.downcast_ref::<HashJoinExec>() {
        (*join.partition_mode() == PartitionMode::CollectLeft).then_some(*join.join_type())
    } else {
        plan.downcast_ref::<NestedLoopJoinExec>().map(|join| *join.join_type())
    };
    let adds_rows = matches!(
        join_type,
        Some(JoinType::Left | JoinType::LeftAnti | JoinType::LeftSemi | JoinType::LeftMark | JoinType::Full)
    );
    adds_rows && is_partitioned(plan)
}

/// The join over one partition, dealt out again where what reads it counts on that.
fn ending_in_one(join: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let partitioning = join.output_partitioning().clone();
    let mut children: Vec<_> = join.children().into_iter().cloned().collect();
    if let Some(probe) = children.pop() {
        children.push(gather(probe, None));
    }
    let join = replace_children_if_necessary(join, children)?;
    match partitioning {
        Partitioning::UnknownPartitioning(_) => Ok(join),
        partitioning => Ok(Arc::new(RepartitionExec::try_new(join, partitioning)?)),
    }
}

#[cfg(test)]
mod tests;
