//! The operator that leaves the first of rows with equal keys.

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt64Array};
use arrow::compute::{BatchCoalescer, concat, partition, take_arrays};
use arrow::datatypes::SchemaRef;
use datafusion::common::internal_err;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::coop::cooperative;
use datafusion::physical_plan::execution_plan::{
    ChildrenPropertiesMode, EmissionType, PlanProperties, ReplaceChildrenOptions,
};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties};
use futures::stream::Fuse;
use futures::{StreamExt, TryStreamExt};

/// Of each partition, which comes sorted by the keys, the first row of each key.
#[derive(Debug)]
pub(super) struct FirstOfKeyExec {
    input: Arc<dyn ExecutionPlan>,
    /// How many of its columns, the first ones, are keys.
    keys: usize,
    /// Its columns, as they are kept.
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
}

impl FirstOfKeyExec {
    /// Over rows with the columns of `schema`, whatever their plan says of nulls.
    pub(super) fn new(input: Arc<dyn ExecutionPlan>, keys: usize, schema: SchemaRef) -> Self {
        let orderings = input.output_ordering().cloned();
        let properties = PlanProperties::new(
            EquivalenceProperties::new_with_orderings(Arc::clone(&schema), orderings),
            input.output_partitioning().clone(),
            EmissionType::Incremental,
            input.boundedness(),
        );
        Self { input, keys, schema, properties: Arc::new(properties) }
    }
}

impl DisplayAs for FirstOfKeyExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FirstOfKeyExec: {} keys", self.keys)
    }
}

impl ExecutionPlan for FirstOfKeyExec {
    fn name(&self) -> &'static str {
        "FirstOfKeyExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Ok([input]) = <[_; 1]>::try_from(children) else {
            return internal_err!("first rows are taken of one input");
        };
        Ok(Arc::new(Self::new(input, self.keys, Arc::clone(&self.schema))))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let batch_rows = context.session_config().batch_size();
        let firsts = FirstOfKey {
            sorted: self.input.execute(partition, context)?.fuse(),
            keys: self.keys,
            last: None,
            schema: Arc::clone(&self.schema),
            coalescer: BatchCoalescer::new(Arc::clone(&self.schema), batch_rows),
        };
        let batches = futures::stream::try_unfold(firsts, async |mut firsts| {
            Ok(firsts.next().await?.map(|batch| (batch, firsts)))
        });
        let stream = RecordBatchStreamAdapter::new(Arc::clone(&self.schema), batches.boxed());
        Ok(Box::pin(cooperative(stream)))
    }
}

/// One partition on its way.
struct FirstOfKey {
    sorted: Fuse<SendableRecordBatchStream>,
    keys: usize,
    /// The key that the rows before ended with, a column for each part.
    last: Option<Vec<ArrayRef>>,
    schema: SchemaRef,
    coalescer: BatchCoalescer,
}

impl FirstOfKey {
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        while !self.coalescer.has_completed_batch() {
            match self.sorted.try_next().await? {
                Some(batch) if batch.num_rows() > 0 => {
                    let firsts = self.firsts(&batch)?;
                    self.coalescer.push_batch(firsts)?;
                }
                Some(_) => {}
                None => {
                    self.coalescer.finish_buffered_batch()?;
                    break;
                }
            }
        }
        Ok(self.coalescer.next_completed_batch())
    }

    /// The rows of `batch` whose key is another one than that of the row before.
    fn firsts(&mut self, batch: &RecordBatch) -> Result<RecordBatch> {
        let Some(keys) = batch.columns().get(..self.keys) else { return internal_err!("rows have no keys") };
        let runs = partition(keys)?.ranges().into_iter().skip(usize::from(self.goes_on(keys)?));
        let firsts: UInt64Array = runs.map(|run| run.start as u64).collect();
        // Of its own, so that it does not hold the batch.
        let end = UInt64Array::from(vec![batch.num_rows() as u64 - 1]);
        self.last = Some(take_arrays(keys, &end, None)?);
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), take_arrays(batch.columns(), &firsts, None)?)?)
    }

    /// Whether rows with these `keys` begin with the last key.
    fn goes_on(&self, keys: &[ArrayRef]) -> Result<bool> {
        let Some(last) = &self.last else { return Ok(false) };
        let pairs = last.iter().zip(keys).map(|(last, key)| concat(&[last, &key.slice(0, 1)]));
        Ok(partition(&pairs.collect::<Result<Vec<_>, _>>()?)?.len() == 1)
    }
}
