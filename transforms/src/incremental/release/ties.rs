//! Rows of one key and time, in an order that does not depend on what else was read with them.

use std::sync::Arc;

use arrow::compute::SortOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::error::Result;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec};
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};

use super::whole::aggregated;
use crate::exchange::gather;
use crate::type_name::is_sortable;

/// `plan`, in which the rows that window functions take in order are sorted by all other columns, too, after those that
/// they ask for; and so are those of aggregates that are not the same for any order.
pub(in crate::incremental) fn in_total_order(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    plan.transform_up(|node| {
        if let Some(whole) = aggregated(&node)? {
            return Ok(Transformed::yes(whole));
        }
        if !node.is::<WindowAggExec>() && !node.is::<BoundedWindowAggExec>() {
            return Ok(Transformed::no(node));
        }
        let required = node.required_input_ordering().into_iter().next().flatten();
        let input = node.children().first().map(|input| Arc::clone(input));
        let (Some(required), Some(input)) = (required, input) else { return Ok(Transformed::no(node)) };
        let required = LexOrdering::from(required.into_single());
        let sorted = sorted(required, unsorted(input)?);
        Ok(Transformed::yes(replace_children_if_necessary(node, vec![sorted])?))
    })
    .data()
}

/// What is sorted in `plan`, where it is a sort.
pub(super) fn unsorted(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    if let Some(sort) = plan.downcast_ref::<SortExec>().filter(|sort| sort.fetch().is_none()) {
        return unsorted(Arc::clone(sort.input()));
    }
    if let Some(merge) = plan.downcast_ref::<SortPreservingMergeExec>().filter(|merge| merge.fetch().is_none()) {
        let input = unsorted(Arc::clone(merge.input()))?;
        return Ok(if input.output_partitioning().partition_count() > 1 { gather(input, None) } else { input });
    }
    if let Some(projection) = plan.downcast_ref::<ProjectionExec>() {
        let input = unsorted(Arc::clone(projection.input()))?;
        return replace_children_if_necessary(plan, vec![input]);
    }
    Ok(plan)
}

/// `plan`, each partition sorted by `order`, then by all other columns.
pub(super) fn sorted(
    order: impl IntoIterator<Item = PhysicalSortExpr>,
    plan: Arc<dyn ExecutionPlan>,
) -> Arc<dyn ExecutionPlan> {
    let (schema, options) = (plan.schema(), SortOptions { descending: false, nulls_first: true });
    let columns = schema.fields().iter().enumerate().filter(|(_, field)| is_sortable(field.data_type()));
    let rest = columns.map(|(at, field)| PhysicalSortExpr::new(Arc::new(Column::new(field.name(), at)), options));
    match LexOrdering::new(order.into_iter().chain(rest)) {
        Some(total) => Arc::new(SortExec::new(total, plan).with_preserve_partitioning(true)),
        None => plan,
    }
}
