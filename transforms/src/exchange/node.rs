//! The operator that stands in the place of an engine's exchange.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::RecordBatch;
use arrow::compute::BatchCoalescer;
use datafusion::common::internal_err;
use datafusion::common::runtime::SpawnedTask;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::Result;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{Partitioning, PhysicalExpr};
use datafusion::physical_plan::coop::cooperative;
use datafusion::physical_plan::execution_plan::{
    ChildrenPropertiesMode, ExecutionPlan, PlanProperties, ReplaceChildrenOptions,
};
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricsSet, SpillMetrics, Time};
use datafusion::physical_plan::repartition::BatchPartitioner;
use datafusion::physical_plan::spill::SpillManager;
use datafusion::physical_plan::spill::spill_pool::{SpillPoolSink, spsc_channel};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlanProperties};
use futures::{StreamExt, TryStreamExt};

use super::lane::{Lane, Receiver, Sender};

/// Fewest rows of the batches that are passed on, where there are more.
const BATCH_ROWS_MIN: usize = 1_024;

/// Does what an exchange of the engine does, and takes the batches of its inputs in turn.
#[derive(Debug)]
pub(super) struct InOrderExec {
    /// The engine's exchange: its input and its properties are those of this one.
    exchange: Arc<dyn ExecutionPlan>,
    flow: Arc<Mutex<Flow>>,
    metrics: ExecutionPlanMetricsSet,
}

/// How far the work is.
#[derive(Default)]
enum Flow {
    /// No output was asked for.
    #[default]
    Planned,
    /// Inputs are open but nothing runs: an output is asked for before it is read.
    Open { inputs: Vec<Input>, outputs: Vec<Option<Output>> },
    /// Each input has its task.
    Running { tasks: Arc<Vec<SpawnedTask<()>>>, outputs: Vec<Option<Output>> },
}

/// One input and what it fills.
struct Input {
    stream: SendableRecordBatchStream,
    partitioning: Partitioning,
    batch_rows: usize,
    ways: Ways,
}

/// From one input to all outputs.
struct Ways {
    sender: Sender<Passed>,
    /// For each output.
    to: Vec<Way>,
}

/// From one input to one output.
struct Way {
    memory: Arc<MemoryReservation>,
    spill: SpillPoolSink,
}

/// A batch on its way.
#[derive(Debug)]
enum Passed {
    InMemory {
        batch: RecordBatch,
        bytes: usize,
    },
    /// It is the next one of the spilled ones.
    Spilled,
}

/// What one output reads: the inputs that have not ended, the next one first.
struct Output {
    lanes: VecDeque<(Receiver<Passed>, SendableRecordBatchStream)>,
    memory: Arc<MemoryReservation>,
}

impl InOrderExec {
    /// Takes the place of `exchange`, an operator with one child.
    pub(super) fn new(exchange: Arc<dyn ExecutionPlan>) -> Self {
        Self { exchange, flow: Arc::default(), metrics: ExecutionPlanMetricsSet::new() }
    }

    fn open(&self, context: &Arc<TaskContext>) -> Result<Flow> {
        let Some(input) = self.exchange.children().into_iter().next() else {
            return internal_err!("an exchange has an input");
        };
        let partitioning = self.exchange.output_partitioning();
        let (from, to) = (input.output_partitioning().partition_count(), partitioning.partition_count());
        let mut outputs: Vec<_> = (0..to)
            .map(|to| {
                let consumer = MemoryConsumer::new(format!("exchange[{to}]")).with_can_spill(true);
                let memory = Arc::new(consumer.register(context.memory_pool()));
                Output { lanes: VecDeque::with_capacity(from), memory }
            })
            .collect();
        let spills = Arc::new(SpillManager::new(
            context.runtime_env(),
            SpillMetrics::new(&self.metrics, 0),
            self.exchange.schema(),
        ));
        let spill_bytes = context.session_config().options().execution.max_spill_file_size_bytes.get();

        let mut inputs = Vec::with_capacity(from);
        for at in 0..from {
            let lane = Lane::new(to);
            let mut ways = Vec::with_capacity(to);
            for (number, output) in outputs.iter_mut().enumerate() {
                let (spill, spilled) = spsc_channel(spill_bytes, Arc::clone(&spills));
                ways.push(Way { memory: Arc::clone(&output.memory), spill });
                output.lanes.push_back((lane.receiver(number), spilled));
            }
            inputs.push(Input {
                stream: input.execute(at, Arc::clone(context))?,
                partitioning: partitioning.clone(),
                // Rows wait for a batch to be full once for each pair of input and output.
                batch_rows: (context.session_config().batch_size() / to).max(BATCH_ROWS_MIN),
                ways: Ways { sender: lane.sender(), to: ways },
            });
        }
        Ok(Flow::Open { inputs, outputs: outputs.into_iter().map(Some).collect() })
    }
}

fn lock(flow: &Mutex<Flow>) -> MutexGuard<'_, Flow> {
    // The flow is replaced as a whole, never left half changed.
    flow.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Flow {
    /// Starts the inputs, if no other output has.
    fn start(&mut self) -> Arc<Vec<SpawnedTask<()>>> {
        match std::mem::take(self) {
            Self::Running { tasks, outputs } => {
                *self = Self::Running { tasks: Arc::clone(&tasks), outputs };
                tasks
            }
            Self::Open { inputs, outputs } => {
                let tasks = inputs.into_iter().map(|input| SpawnedTask::spawn(input.run())).collect();
                let tasks = Arc::new(tasks);
                *self = Self::Running { tasks: Arc::clone(&tasks), outputs };
                tasks
            }
            Self::Planned => Arc::default(),
        }
    }

    fn output(&mut self, number: usize) -> Option<Output> {
        match self {
            Self::Planned => None,
            Self::Open { outputs, .. } | Self::Running { outputs, .. } => outputs.get_mut(number)?.take(),
        }
    }
}

impl Input {
    async fn run(self) {
        let Self { mut stream, partitioning, batch_rows, ways } = self;
        let result = match ways.to.len() {
            1 => ways.pass_all(&mut stream).await,
            _ => ways.pass_parts(&mut stream, partitioning, batch_rows).await,
        };
        ways.sender.end(result);
    }
}

impl Ways {
    async fn pass_all(&self, stream: &mut SendableRecordBatchStream) -> Result<()> {
        while let Some(batch) = stream.try_next().await? {
            // One batch waits, no more: nothing to account for.
            if !self.sender.send(0, Passed::InMemory { batch, bytes: 0 }).await {
                break;
            }
        }
        Ok(())
    }

    async fn pass_parts(
        &self,
        stream: &mut SendableRecordBatchStream,
        partitioning: Partitioning,
        batch_rows: usize,
    ) -> Result<()> {
        let (input, inputs) = (0, 1);
        let mut partitioner = BatchPartitioner::try_new(partitioning, Time::new(), input, inputs)?;
        let schema = stream.schema();
        let mut coalescers: Vec<_> =
            self.to.iter().map(|_| BatchCoalescer::new(Arc::clone(&schema), batch_rows)).collect();
        while let Some(batch) = stream.try_next().await? {
            let parts = partitioner.partition_iter(batch)?.collect::<Result<Vec<_>>>()?;
            for (output, part) in parts {
                let Some(coalescer) = coalescers.get_mut(output) else { continue };
                coalescer.push_batch(part)?;
                if !self.pass_completed(output, coalescer).await? {
                    return Ok(());
                }
            }
        }
        for (output, coalescer) in coalescers.iter_mut().enumerate() {
            coalescer.finish_buffered_batch()?;
            self.pass_completed(output, coalescer).await?;
        }
        Ok(())
    }

    /// False if nobody is left to take anything.
    async fn pass_completed(&self, output: usize, coalescer: &mut BatchCoalescer) -> Result<bool> {
        let Some(way) = self.to.get(output) else { return Ok(true) };
        while let Some(batch) = coalescer.next_completed_batch() {
            if !self.sender.send(output, way.passed(batch)?).await {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Way {
    fn passed(&self, batch: RecordBatch) -> Result<Passed> {
        let bytes = batch.get_array_memory_size();
        if self.memory.try_grow(bytes).is_ok() {
            return Ok(Passed::InMemory { batch, bytes });
        }
        self.spill.push_batch(&batch)?;
        Ok(Passed::Spilled)
    }
}

impl Output {
    /// One batch of the next input that has not ended.
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        while let Some((receiver, mut spilled)) = self.lanes.pop_front() {
            let batch = match receiver.receive().await? {
                None => continue,
                Some(Passed::InMemory { batch, bytes }) => {
                    self.memory.shrink(bytes);
                    Some(batch)
                }
                Some(Passed::Spilled) => spilled.next().await.transpose()?,
            };
            let Some(batch) = batch else { return internal_err!("a spilled batch is gone") };
            self.lanes.push_back((receiver, spilled));
            return Ok(Some(batch));
        }
        Ok(None)
    }
}

impl fmt::Debug for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Planned => "Planned",
            Self::Open { .. } => "Open",
            Self::Running { .. } => "Running",
        })
    }
}

impl DisplayAs for InOrderExec {
    fn fmt_as(&self, kind: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InOrderExec: ")?;
        self.exchange.fmt_as(kind, f)
    }
}

impl ExecutionPlan for InOrderExec {
    fn name(&self) -> &'static str {
        "InOrderExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.exchange.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        self.exchange.children()
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        self.exchange.apply_expressions(f)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Self::new(Arc::clone(&self.exchange).replace_children(children, options)?)))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let mut flow = lock(&self.flow);
        if matches!(*flow, Flow::Planned) {
            *flow = self.open(&context)?;
        }
        let Some(output) = flow.output(partition) else {
            return internal_err!("an exchange has no output {partition}, or it is read already");
        };
        drop(flow);

        let flow = Arc::clone(&self.flow);
        // Inputs begin to run when the first output is read.
        let batches = futures::stream::once(async move {
            let tasks = lock(&flow).start();
            futures::stream::try_unfold((output, tasks), async |(mut output, tasks)| {
                let batch = output.next().await?;
                Ok(batch.map(|batch| (batch, (output, tasks))))
            })
        })
        .flatten();
        let stream = RecordBatchStreamAdapter::new(self.schema(), batches.boxed());
        Ok(Box::pin(cooperative(stream)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}
