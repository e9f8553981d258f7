//! Rows of one key and time, in an order that does not depend on what else was read with them.

use std::sync::Arc;

use arrow::compute::SortOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::error::Result;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec};

use crate::type_name::is_sortable;

/// `plan`, in which the rows that window functions take in order are sorted by all other columns, too, after those that
/// they ask for.
pub(in crate::incremental) fn in_total_order(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    plan.transform_up(|node| {
        let is_window =
            node.downcast_ref::<WindowAggExec>().is_some() || node.downcast_ref::<BoundedWindowAggExec>().is_some();
        let child = node.children().first().map(|child| Arc::clone(child));
        let sorted = child.as_ref().and_then(|child| child.downcast_ref::<SortExec>());
        match sorted.filter(|sort| is_window && sort.fetch().is_none()) {
            Some(sort) => Ok(Transformed::yes(replace_children_if_necessary(node, vec![total(sort)])?)),
            None => Ok(Transformed::no(node)),
        }
    })
    .data()
}

fn total(sort: &SortExec) -> Arc<dyn ExecutionPlan> {
    let schema = sort.input().schema();
    let options = SortOptions { descending: false, nulls_first: true };
    let columns = schema.fields().iter().enumerate().filter(|(_, field)| is_sortable(field.data_type()));
    let rest = columns.map(|(at, field)| PhysicalSortExpr::new(Arc::new(Column::new(field.name(), at)), options));
    let keys = sort.expr().iter().cloned().chain(rest);
    let order = LexOrdering::new(keys).unwrap_or_else(|| sort.expr().clone());
    let sorted = SortExec::new(order, Arc::clone(sort.input()));
    Arc::new(sorted.with_preserve_partitioning(sort.preserve_partitioning()))
}
