//! The operator: what it asks of its sides, and the stream of one partition.

use std::fmt;
use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::SchemaRef;
use datafusion::common::internal_err;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::Result;
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::JoinType;
use datafusion::physical_expr::{
    Distribution, EquivalenceProperties, LexOrdering, OrderingRequirements, PhysicalExpr, PhysicalSortExpr,
};
use datafusion::physical_plan::coop::cooperative;
use datafusion::physical_plan::execution_plan::{
    ChildrenPropertiesMode, EmissionType, PlanProperties, ReplaceChildrenOptions, apply_expression_roots,
};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, InputDistributionRequirements,
};
use futures::StreamExt;

use super::Nearest;
use super::merge::{Encoding, Merge, SortedRows};

/// One side of the join.
#[derive(Debug, Clone)]
pub(super) struct Side {
    pub(super) plan: Arc<dyn ExecutionPlan>,
    pub(super) keys: Vec<Arc<dyn PhysicalExpr>>,
    pub(super) time: Arc<dyn PhysicalExpr>,
    pub(super) ties: Vec<Arc<dyn PhysicalExpr>>,
}

/// Merges two sides that come sorted by key and time.
#[derive(Debug)]
pub(super) struct AsofJoinExec {
    left: Side,
    right: Side,
    join_type: JoinType,
    nearest: Nearest,
    schema: SchemaRef,
    encoding: Arc<Encoding>,
    properties: Arc<PlanProperties>,
}

impl Side {
    /// Nulls come first, where they match nothing.
    fn order(&self, nearest: Nearest) -> Option<OrderingRequirements> {
        let ascending = SortOptions { descending: false, nulls_first: true };
        let keys = self.keys.iter().map(|key| (key, ascending));
        let ties = self.ties.iter().map(|tie| (tie, ascending));
        let exprs = keys.chain([(&self.time, nearest.sort_options())]).chain(ties);
        let order = exprs.map(|(expr, options)| PhysicalSortExpr::new(Arc::clone(expr), options));
        LexOrdering::new(order).map(OrderingRequirements::from)
    }

    fn rows(&self, partition: usize, encoding: &Arc<Encoding>, context: &Arc<TaskContext>) -> Result<SortedRows> {
        let stream = self.plan.execute(partition, Arc::clone(context))?;
        Ok(SortedRows::new(stream, self.keys.clone(), Arc::clone(&self.time), Arc::clone(encoding)))
    }
}

impl AsofJoinExec {
    pub(super) fn try_new(
        left: Side,
        right: Side,
        join_type: JoinType,
        nearest: Nearest,
        schema: SchemaRef,
    ) -> Result<Self> {
        let input = left.plan.schema();
        let types = left.keys.iter().map(|key| key.data_type(&input)).collect::<Result<Vec<_>>>()?;
        let encoding = Encoding::try_new(types, left.time.data_type(&input)?, nearest.sort_options())?;
        // Rows leave as they come from the left side, whose columns are the first ones.
        let orderings = left.plan.output_ordering().cloned();
        let properties = PlanProperties::new(
            EquivalenceProperties::new_with_orderings(Arc::clone(&schema), orderings),
            left.plan.output_partitioning().clone(),
            EmissionType::Incremental,
            left.plan.boundedness(),
        );
        let (encoding, properties) = (Arc::new(encoding), Arc::new(properties));
        Ok(Self { left, right, join_type, nearest, schema, encoding, properties })
    }
}

impl DisplayAs for AsofJoinExec {
    fn fmt_as(&self, _kind: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (left, right) = (&self.left, &self.right);
        write!(f, "AsofJoinExec: {} {} {} {}", self.join_type, left.time, self.nearest.operator(), right.time)?;
        let keys = left.keys.iter().zip(&right.keys).enumerate();
        keys.into_iter()
            .try_for_each(|(at, (left, right))| write!(f, "{} {left} = {right}", if at == 0 { " ON" } else { " AND" }))
    }
}

impl ExecutionPlan for AsofJoinExec {
    fn name(&self) -> &'static str {
        "AsofJoinExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn input_distribution_requirements(&self) -> InputDistributionRequirements {
        if self.left.keys.is_empty() {
            return InputDistributionRequirements::new(vec![Distribution::SinglePartition; 2]);
        }
        let by_key = |side: &Side| Distribution::KeyPartitioned(side.keys.clone());
        InputDistributionRequirements::co_partitioned(vec![by_key(&self.left), by_key(&self.right)])
    }

    fn required_input_distribution(&self) -> Vec<Distribution> {
        self.input_distribution_requirements().into_per_child()
    }

    fn required_input_ordering(&self) -> Vec<Option<OrderingRequirements>> {
        vec![self.left.order(self.nearest), self.right.order(self.nearest)]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true, false]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.left.plan, &self.right.plan]
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        let sides = [&self.left, &self.right];
        apply_expression_roots(
            sides.into_iter().flat_map(|side| side.keys.iter().chain([&side.time]).chain(&side.ties)),
            f,
        )
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Ok([left, right]) = <[_; 2]>::try_from(children) else {
            return internal_err!("an ASOF JOIN has two sides");
        };
        let left = Side { plan: left, ..self.left.clone() };
        let right = Side { plan: right, ..self.right.clone() };
        Ok(Arc::new(Self::try_new(left, right, self.join_type, self.nearest, Arc::clone(&self.schema))?))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let merge = Merge::new(
            [
                self.left.rows(partition, &self.encoding, &context)?,
                self.right.rows(partition, &self.encoding, &context)?,
            ],
            self.join_type,
            self.nearest.or_at,
            Arc::clone(&self.schema),
            context.session_config().batch_size(),
            MemoryConsumer::new(format!("ASOF JOIN[{partition}]")).register(context.memory_pool()),
        );
        let batches =
            futures::stream::try_unfold(merge, async |mut merge| Ok(merge.next().await?.map(|batch| (batch, merge))));
        let stream = RecordBatchStreamAdapter::new(Arc::clone(&self.schema), batches.boxed());
        Ok(Box::pin(cooperative(stream)))
    }
}
