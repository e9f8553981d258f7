//! Rows of one key and time, in an order that does not depend on what else was read with them.

use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::Schema;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::error::Result;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec};

use crate::type_name::is_sortable;

/// `plan`, in which the rows that window functions take in order are sorted by all other columns, too, after those that
/// they ask for.
pub(in crate::incremental) fn in_total_order(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    plan.transform_up(|node| {
        let is_window =
            node.downcast_ref::<WindowAggExec>().is_some() || node.downcast_ref::<BoundedWindowAggExec>().is_some();
        let child = node.children().first().map(|child| Arc::clone(child));
        match child.as_ref().filter(|_| is_window).and_then(sorted) {
            Some(sorted) => Ok(Transformed::yes(replace_children_if_necessary(node, vec![sorted])?)),
            None => Ok(Transformed::no(node)),
        }
    })
    .data()
}

/// The same sort, by all columns; nothing of a plan that is none.
fn sorted(plan: &Arc<dyn ExecutionPlan>) -> Option<Arc<dyn ExecutionPlan>> {
    if let Some(merge) = plan.downcast_ref::<SortPreservingMergeExec>() {
        let sorted = sorted(merge.input())?;
        let merged = SortPreservingMergeExec::new(total(merge.expr(), &sorted.schema()), sorted);
        return Some(Arc::new(merged.with_round_robin_repartition(false)));
    }
    let sort = plan.downcast_ref::<SortExec>()?;
    let sorted = SortExec::new(total(sort.expr(), &sort.schema()), Arc::clone(sort.input()));
    Some(Arc::new(sorted.with_preserve_partitioning(sort.preserve_partitioning())))
}

fn total(order: &LexOrdering, schema: &Schema) -> LexOrdering {
    let options = SortOptions { descending: false, nulls_first: true };
    let columns = schema.fields().iter().enumerate().filter(|(_, field)| is_sortable(field.data_type()));
    let rest = columns.map(|(at, field)| PhysicalSortExpr::new(Arc::new(Column::new(field.name(), at)), options));
    LexOrdering::new(order.iter().cloned().chain(rest)).unwrap_or_else(|| order.clone())
}
