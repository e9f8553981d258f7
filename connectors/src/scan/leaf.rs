//! The leaf of a plan that reads one source's part of one epoch: what its nodes have in common, whatever they read.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow_schema::SchemaRef;
use datafusion_catalog::Session;
use datafusion_common::tree_node::TreeNodeRecursion;
use datafusion_common::{DataFusionError, Result as EngineResult};
use datafusion_execution::{SendableRecordBatchStream, TaskContext};
use datafusion_physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion_physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion_physical_plan::metrics::{BaselineMetrics, Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet};
use datafusion_physical_plan::stream::RecordBatchStreamAdapter;
use datafusion_physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties, ReplaceChildrenOptions,
};
use futures::StreamExt;
use futures::stream::BoxStream;

use super::epoch::EpochScans;
use crate::{Error, Result};

/// What a scan reads: contiguous parts of the slice, one for each partition of the plan, so that the partitions drained in
/// order give the rows in the order of their identity.
pub(crate) trait ScanLeaf: fmt::Debug + Send + Sync {
    /// The node's name in a plan.
    fn name(&self) -> &'static str;
    /// Name of the source.
    fn source(&self) -> &str;
    /// The columns that it gives.
    fn output_schema(&self) -> &SchemaRef;
    /// Into how many parts the slice is cut.
    fn partitions(&self) -> usize;
    /// What of the source it reads, for people: `objects=2, bytes=17`.
    fn extent(&self) -> String;
    /// What it prunes by.
    fn predicate(&self) -> Option<&Arc<dyn PhysicalExpr>> {
        None
    }
    /// Reads one part.
    fn read(&self, part: &PartRead<'_>) -> BoxStream<'static, Result<RecordBatch>>;
}

/// How a part is read.
pub(crate) struct PartRead<'a> {
    pub(crate) partition: usize,
    /// Rows of a batch.
    pub(crate) batch_rows: usize,
    metrics: &'a ExecutionPlanMetricsSet,
}

impl PartRead<'_> {
    /// A count of the node, by its name.
    pub(crate) fn counter(&self, name: &'static str) -> Count {
        MetricBuilder::new(self.metrics).counter(name, self.partition)
    }
}

/// The scans of the session's epoch.
pub(crate) fn epoch_scans(state: &dyn Session, source: &str) -> EngineResult<Arc<EpochScans>> {
    let outside =
        || engine_error(Error::Internal { message: format!("source `{source}` is scanned outside an epoch") });
    state.config().get_extension::<EpochScans>().ok_or_else(outside)
}

/// An error of ours on its way through the engine; the caller takes it out again by downcasting.
pub(crate) fn engine_error(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// Reads exactly one source's part of an epoch. It holds what the leaf holds, and no other handle.
#[derive(Debug)]
pub(crate) struct ScanExec {
    leaf: Arc<dyn ScanLeaf>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl ScanExec {
    pub(crate) fn new(leaf: impl ScanLeaf + 'static) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(leaf.output_schema())),
            Partitioning::UnknownPartitioning(leaf.partitions().max(1)),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Self { leaf: Arc::new(leaf), properties: Arc::new(properties), metrics: ExecutionPlanMetricsSet::new() }
    }
}

impl DisplayAs for ScanExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let leaf = &self.leaf;
        let names: Vec<_> = leaf.output_schema().fields().iter().map(|field| field.name().as_str()).collect();
        let (name, source, extent, partitions) = (leaf.name(), leaf.source(), leaf.extent(), leaf.partitions());
        write!(f, "{name}: source={source}, {extent}, partitions={partitions}, columns=[{}]", names.join(", "))?;
        match leaf.predicate() {
            Some(predicate) => write!(f, ", prunes by {predicate}"),
            None => Ok(()),
        }
    }
}

impl ExecutionPlan for ScanExec {
    fn name(&self) -> &'static str {
        self.leaf.name()
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> EngineResult<TreeNodeRecursion>,
    ) -> EngineResult<TreeNodeRecursion> {
        self.leaf.predicate().map_or(Ok(TreeNodeRecursion::Continue), f)
    }

    fn replace_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> EngineResult<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn with_new_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>) -> EngineResult<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(&self, partition: usize, task: Arc<TaskContext>) -> EngineResult<SendableRecordBatchStream> {
        let batch_rows = task.session_config().batch_size().max(1);
        let baseline = BaselineMetrics::new(&self.metrics, partition);
        let rows = self.leaf.read(&PartRead { partition, batch_rows, metrics: &self.metrics }).map(move |batch| {
            if let Ok(batch) = &batch {
                baseline.output_rows().add(batch.num_rows());
            }
            batch.map_err(engine_error)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}
