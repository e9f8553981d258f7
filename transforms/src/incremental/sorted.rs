//! Rows that are kept in an order, and what is merged with them.

use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::SchemaRef;
use datafusion::error::Result;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};

use crate::exchange::gather;

/// How columns are sorted where no query says it.
pub(super) const ASCENDING: SortOptions = SortOptions { descending: false, nulls_first: true };

/// Rows that come sorted by their first columns.
#[derive(Debug)]
pub(super) struct Sorted {
    schema: SchemaRef,
    /// Nothing where there is but one row.
    order: Option<LexOrdering>,
}

impl Sorted {
    /// Rows with the columns of `schema`, sorted by the first of them as the `options` of each say.
    pub(super) fn new(schema: SchemaRef, options: impl IntoIterator<Item = SortOptions>) -> Self {
        let columns = schema.fields().iter().enumerate().zip(options);
        let order = columns
            .map(|((at, field), options)| PhysicalSortExpr::new(Arc::new(Column::new(field.name(), at)), options));
        let order = LexOrdering::new(order);
        Self { schema, order }
    }

    /// Their columns.
    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// A partition for each segment.
    pub(super) fn segments(&self, segments: Vec<Arc<dyn PartitionStream>>) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = Arc::clone(&self.schema);
        if segments.is_empty() {
            return Ok(Arc::new(EmptyExec::new(schema)));
        }
        Ok(Arc::new(StreamingTableExec::try_new(schema, segments, None, self.order.clone(), false, None)?))
    }

    /// `plan`, each partition sorted.
    pub(super) fn sorted(&self, plan: Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
        match self.order.clone() {
            Some(order) => Arc::new(SortExec::new(order, plan).with_preserve_partitioning(true)),
            None => plan,
        }
    }

    /// The partitions of `plan`, each sorted, as one.
    pub(super) fn merged(&self, plan: Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
        if plan.output_partitioning().partition_count() == 1 {
            return plan;
        }
        match self.order.clone() {
            Some(order) => Arc::new(SortPreservingMergeExec::new(order, plan).with_round_robin_repartition(false)),
            None => gather(plan, None),
        }
    }
}
