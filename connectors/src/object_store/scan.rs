//! The leaf of a plan that reads one source's objects of one epoch.

use std::fmt;
use std::sync::Arc;

use datafusion_common::tree_node::TreeNodeRecursion;
use datafusion_common::{DataFusionError, Result as EngineResult};
use datafusion_execution::{SendableRecordBatchStream, TaskContext};
use datafusion_physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion_physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion_physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet};
use datafusion_physical_plan::stream::RecordBatchStreamAdapter;
use datafusion_physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties, ReplaceChildrenOptions,
};
use futures::StreamExt;

use super::piece::Piece;
use super::scan_piece::{PartitionScan, ScanContext};
use crate::Error;
use crate::scan::stream_of;

/// Reads exactly the objects of one epoch's slice, each pinned to its version.
///
/// Partition *n* reads the *n*-th of contiguous pieces of the slice, so the partitions drained in order give the rows in
/// the order of their identity. It holds the source and the epoch's objects, and no other handle.
#[derive(Debug)]
pub struct ObjectScanExec {
    context: Arc<ScanContext>,
    partitions: Arc<[Vec<Piece>]>,
    predicate: Option<Arc<dyn PhysicalExpr>>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl ObjectScanExec {
    /// A scan of `partitions`, which are pieces of the context's objects.
    pub(super) fn new(
        context: Arc<ScanContext>,
        partitions: Vec<Vec<Piece>>,
        predicate: Option<Arc<dyn PhysicalExpr>>,
    ) -> Self {
        let schema = Arc::clone(&context.plan.output_schema);
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(partitions.len().max(1)),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Self {
            context,
            partitions: partitions.into(),
            predicate,
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }

    /// Name of the source.
    pub fn source(&self) -> &str {
        self.context.source.name()
    }

    /// Whether this scan is the one that reports rejects and ledgers.
    pub fn reports_objects(&self) -> bool {
        self.context.reporter.reports_objects()
    }
}

impl DisplayAs for ObjectScanExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes: u64 = self.context.objects.iter().map(|object| object.version.size).sum();
        let names = self.context.plan.output_schema.fields().iter().map(|field| field.name().as_str());
        write!(
            f,
            "ObjectScanExec: source={}, objects={}, bytes={bytes}, partitions={}, columns=[{}]",
            self.source(),
            self.context.objects.len(),
            self.partitions.len(),
            names.collect::<Vec<_>>().join(", ")
        )?;
        match &self.predicate {
            Some(predicate) => write!(f, ", prunes by {predicate}"),
            None => Ok(()),
        }
    }
}

impl ExecutionPlan for ObjectScanExec {
    fn name(&self) -> &'static str {
        "ObjectScanExec"
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
        self.predicate.as_ref().map_or(Ok(TreeNodeRecursion::Continue), f)
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

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> EngineResult<SendableRecordBatchStream> {
        let pieces = self.partitions.get(partition).cloned().unwrap_or_default();
        let scan = PartitionScan {
            context: Arc::clone(&self.context),
            batch_rows: context.session_config().batch_size().max(1),
            bytes_scanned: MetricBuilder::new(&self.metrics).counter("bytes_scanned", partition),
            rows_pruned: MetricBuilder::new(&self.metrics).counter("rows_pruned", partition),
        };
        let baseline = BaselineMetrics::new(&self.metrics, partition);
        let rows = stream_of(|emitter| scan.run(pieces, emitter)).map(move |batch| {
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

/// An error of ours on its way through the engine; the caller takes it out again by downcasting.
fn engine_error(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}
