//! The leaf of a plan that reads one source's offsets of one epoch.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use arrow_schema::{Schema, SchemaRef};
use bessemer_schemas::{BadRecords, IncludeKind};
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
use futures::stream;
use tokio::sync::mpsc;

use super::parts::Wanted;
use super::read::RangeRead;
use super::source::KafkaSource;
use crate::scan::{Admission, Reporter, ScanOffsets};

/// Batches between the thread that reads and the plan.
const BATCHES_AHEAD: usize = 2;

/// One column of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OutputColumn {
    /// A decoded column, by its index among those that are decoded.
    Decoded(usize),
    /// A part of the record.
    Include(IncludeKind),
    /// Row identity.
    Origin,
}

/// What a scan decodes, checks and gives on.
#[derive(Debug, Clone)]
pub(super) struct ReadPlan {
    /// Declared columns that are decoded, ascending.
    pub(super) columns: Vec<usize>,
    /// Parts that are kept of every row.
    pub(super) wanted: Wanted,
    /// The columns that are judged, and where they are.
    pub(super) judged: Vec<OutputColumn>,
    pub(super) judged_schema: SchemaRef,
    /// Checks over them; nulls are the decoder's to refuse.
    pub(super) admission: Admission,
    pub(super) output: Vec<OutputColumn>,
    pub(super) output_schema: SchemaRef,
}

impl ReadPlan {
    /// The plan for the columns `wanted` of the source's schema, with row identity behind them.
    pub(super) fn new(source: &KafkaSource, output_schema: SchemaRef, wanted: &[usize]) -> Self {
        let count = source.declared().fields().len();
        let event_time = source.event_time();
        let changes = source.options().format.change_columns();
        let decoded = |column: usize| match column.checked_sub(count) {
            None => Some(column),
            Some(include) => {
                let kind = source.includes().get(include)?;
                changes.iter().position(|change| change == kind).map(|at| count + at)
            }
        };
        let mut columns: Vec<usize> = wanted.iter().copied().chain(event_time).filter_map(decoded).collect();
        columns.sort_unstable();
        columns.dedup();
        let columns = source.options().format.columns(columns);

        let place = |column: usize| match decoded(column) {
            Some(column) => OutputColumn::Decoded(columns.binary_search(&column).unwrap_or_default()),
            None => {
                let kind = column.checked_sub(count).and_then(|include| source.includes().get(include));
                kind.map_or(OutputColumn::Origin, |kind| OutputColumn::Include(*kind))
            }
        };
        let output: Vec<_> = wanted.iter().map(|column| place(*column)).collect();
        let judged: Vec<_> = event_time.map(place).into_iter().collect();
        let field = event_time.map(|column| source.schema().field(column).clone());
        let admission =
            Admission { not_null: Vec::new(), event_time: field.as_ref().map(|field| (0, field.name().clone())) };
        // A row that is refused for its event time goes to quarantine as it came.
        let kept = if event_time.is_some() {
            Wanted::ALL
        } else {
            Wanted::of(output.iter().filter_map(|column| match column {
                OutputColumn::Include(kind) => Some(*kind),
                _ => None,
            }))
        };
        let judged_schema = Arc::new(Schema::new(field.into_iter().collect::<Vec<_>>()));
        Self { columns, wanted: kept, judged, judged_schema, admission, output, output_schema }
    }
}

/// What the partitions of one scan share.
#[derive(Debug)]
pub(super) struct ScanContext {
    pub(super) source: Arc<KafkaSource>,
    pub(super) plan: ReadPlan,
    pub(super) ranges: Arc<[ScanOffsets]>,
    /// Which of the records before them were bad.
    pub(super) bad_before: Arc<[BadRecords]>,
    /// The source's number in row identity.
    pub(super) number: u64,
    pub(super) reporter: Reporter,
}

/// Reads exactly the offsets of one epoch's slice.
///
/// Partition *n* reads the *n*-th run of ranges, one after another, so the partitions drained in order give the rows in
/// the order of their identity. It holds the source, whose consumers read, and the epoch's ranges.
#[derive(Debug)]
pub struct KafkaScanExec {
    context: Arc<ScanContext>,
    partitions: Arc<[Range<usize>]>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl KafkaScanExec {
    /// A scan of `partitions`, which are runs of the context's ranges.
    pub(super) fn new(context: Arc<ScanContext>, partitions: Vec<Range<usize>>) -> Self {
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
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }

    /// Name of the source.
    pub fn source(&self) -> &str {
        self.context.source.name()
    }
}

impl DisplayAs for KafkaScanExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let offsets: u64 = self.context.ranges.iter().map(|offsets| offsets.range.offsets()).sum();
        let names = self.context.plan.output_schema.fields().iter().map(|field| field.name().as_str());
        write!(
            f,
            "KafkaScanExec: source={}, topics={}, ranges={}, offsets={offsets}, partitions={}, columns=[{}]",
            self.source(),
            self.context.source.options().topics_text(),
            self.context.ranges.len(),
            self.partitions.len(),
            names.collect::<Vec<_>>().join(", ")
        )
    }
}

impl ExecutionPlan for KafkaScanExec {
    fn name(&self) -> &'static str {
        "KafkaScanExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> EngineResult<TreeNodeRecursion>,
    ) -> EngineResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
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
        let ranges = self.partitions.get(partition).cloned().unwrap_or_default();
        let (sender, batches) = mpsc::channel(BATCHES_AHEAD);
        let read = RangeRead {
            context: Arc::clone(&self.context),
            batch_rows: task.session_config().batch_size().max(1),
            batches: sender,
            bytes_scanned: MetricBuilder::new(&self.metrics).counter("bytes_scanned", partition),
        };
        let baseline = BaselineMetrics::new(&self.metrics, partition);
        // The client is asked by polling, which blocks: a thread of its own. It ends when nobody takes its batches.
        let reader = (!ranges.is_empty()).then(|| tokio::task::spawn_blocking(move || read.run(ranges)));
        let rows = stream::unfold((batches, reader), move |(mut batches, reader)| {
            let baseline = baseline.clone();
            async move {
                if let Some(batch) = batches.recv().await {
                    baseline.output_rows().add(batch.num_rows());
                    return Some((Ok(batch), (batches, reader)));
                }
                // Its last word says whether that was all.
                let error = match reader?.await {
                    Ok(Ok(())) => return None,
                    Ok(Err(error)) => error,
                    Err(error) => {
                        crate::Error::Internal { message: format!("the reader of a topic ended early: {error}") }
                    }
                };
                Some((Err(DataFusionError::External(Box::new(error))), (batches, None)))
            }
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}
