//! One feature set in one epoch: its plan's streams through the gate into files.

use std::num::NonZeroUsize;
use std::sync::Arc;

use bessemer_connectors::sink::{QuarantineWriter, SetWriter, WrittenSet};
use bessemer_schemas::DataFile;
use bessemer_transforms::{Gate, GateReport, PlannedSet, VIOLATIONS_COLUMN};
use datafusion::arrow::array::RecordBatch;
use datafusion::execution::SessionState;
use datafusion::execution::memory_pool::MemoryPool;
use datafusion::physical_plan::{ExecutionPlanProperties, SendableRecordBatchStream};
use futures::future::BoxFuture;
use futures::{FutureExt, TryStreamExt};
use tokio::task::JoinSet;

use super::epoch::{Naming, Scanned};
use crate::error::{Error, Result};
use crate::load::Loaded;

/// What a feature set made of an epoch; nothing of it counts before the manifest names it.
#[derive(Debug)]
pub(super) struct SetOutcome {
    pub(super) files: Vec<DataFile>,
    pub(super) quarantine: Vec<DataFile>,
    pub(super) report: GateReport,
}

/// What one partition of the plan is run with.
struct Work {
    loaded: Arc<Loaded>,
    /// Number of the set in the plan.
    at: usize,
    partition: usize,
    naming: Naming,
    scanned: Scanned,
    memory: Arc<dyn MemoryPool>,
    encoders: NonZeroUsize,
}

/// What one partition of the plan made.
struct Part {
    files: Vec<DataFile>,
    quarantine: Vec<DataFile>,
    gate: Gate,
}

/// Runs the set's plan; each output partition has its own gate and writers.
pub(super) async fn run(
    loaded: Arc<Loaded>,
    at: usize,
    session: &SessionState,
    naming: Naming,
    scanned: &Scanned,
) -> Result<SetOutcome> {
    let planned = &loaded.plan.sets[at];
    let plan = planned.physical(session).await?;
    let context = session.task_ctx();
    let mut tasks = JoinSet::new();
    let partitions = plan.output_partitioning().partition_count();
    // Where rows come in one stream, as sorted ones do, the columns are encoded side by side instead.
    let encoders = NonZeroUsize::new(session.config().target_partitions() / partitions).unwrap_or(NonZeroUsize::MIN);
    for partition in 0..partitions {
        let stream = plan.execute(partition, Arc::clone(&context)).map_err(Error::engine)?;
        let memory = Arc::clone(context.memory_pool());
        let work = Arc::new(Work {
            loaded: Arc::clone(&loaded),
            at,
            partition,
            naming,
            scanned: scanned.clone(),
            memory,
            encoders,
        });
        let part = work.run(stream);
        tasks.spawn(async move { (partition, part.await) });
    }
    let mut parts = Vec::new();
    while let Some(ended) = tasks.join_next().await {
        let (partition, part) =
            ended.map_err(|error| Error::Internal { message: format!("a partition ended early: {error}") })?;
        // The first error ends the others: dropping the set of tasks aborts them.
        parts.push((partition, part?));
    }
    parts.sort_by_key(|(partition, _)| *partition);
    merge(planned, parts, context.memory_pool())
}

impl Work {
    /// Boxed, since the compiler cannot see by itself that futures over writers of any lifetime may move to another thread.
    fn run(self: Arc<Self>, stream: SendableRecordBatchStream) -> BoxFuture<'static, Result<Part>> {
        async move { self.run_stream(stream).await }.boxed()
    }

    async fn run_stream(self: Arc<Self>, stream: SendableRecordBatchStream) -> Result<Part> {
        let Self { loaded, at, partition, naming, memory, .. } = &*self;
        let (planned, options) = (&loaded.plan.sets[*at], &loaded.parsed.sets[*at]);
        let set = WrittenSet {
            entity: loaded.parsed.definition.feature_sets[*at].entity.iter().map(|name| name.value.clone()).collect(),
            memory: Some(Arc::clone(memory)),
            encoders: self.encoders,
            ..WrittenSet::new(loaded.parsed.name(), planned.name.as_str())
        };
        let gate = planned.expectations.gate(memory)?;
        let writer = SetWriter::new(options, &stream.schema(), naming.writer(*partition), set)?;
        let mut pump = Pump { work: Arc::clone(&self), gate, writer, quarantine: None };
        match pump.pump(stream).await {
            Ok(()) => pump.finish().await,
            Err(error) => {
                pump.abort().await;
                Err(error)
            }
        }
    }
}

/// A stream on its way into files.
struct Pump {
    work: Arc<Work>,
    gate: Gate,
    writer: SetWriter,
    quarantine: Option<QuarantineWriter>,
}

impl Pump {
    async fn pump(&mut self, mut stream: SendableRecordBatchStream) -> Result<()> {
        while let Some(batch) = stream.try_next().await.map_err(Error::engine)? {
            let judged = self.gate.judge(&batch)?;
            if judged.passed.num_rows() > 0 {
                self.writer.write(&judged.passed).boxed().await?;
            }
            if let Some(rows) = judged.quarantined {
                self.quarantine(&rows).await?;
            }
        }
        Ok(())
    }

    async fn quarantine(&mut self, rows: &RecordBatch) -> Result<()> {
        let Some((violations, columns)) = rows
            .columns()
            .split_last()
            .filter(|_| rows.schema_ref().fields().last().is_some_and(|field| field.name() == VIOLATIONS_COLUMN))
        else {
            return Err(Error::Internal { message: "quarantined rows do not say what they broke".to_owned() });
        };
        let violations = Arc::clone(violations);
        let visible =
            rows.project(&(0..columns.len()).collect::<Vec<_>>()).map_err(bessemer_connectors::Error::from)?;
        if self.quarantine.is_none() {
            let Work { loaded, at, partition, naming, memory, .. } = &*self.work;
            let (state, pipeline) = (&loaded.parsed.settings.state, loaded.parsed.name());
            let (set, schema) = (&loaded.plan.sets[*at].name, visible.schema());
            let naming = naming.writer(*partition);
            self.quarantine = Some(QuarantineWriter::of_set(state, pipeline, set, &schema, naming, Some(memory))?);
        }
        if let Some(writer) = &mut self.quarantine {
            writer.write_rows(&visible, &violations, &self.work.scanned).boxed().await?;
        }
        Ok(())
    }

    async fn finish(self) -> Result<Part> {
        let quarantine = match self.quarantine {
            Some(writer) => writer.finish().boxed().await?,
            None => Vec::new(),
        };
        Ok(Part { files: self.writer.finish().boxed().await?, quarantine, gate: self.gate })
    }

    async fn abort(self) {
        self.writer.abort().await;
        if let Some(writer) = self.quarantine {
            writer.abort().await;
        }
    }
}

fn merge(planned: &PlannedSet, parts: Vec<(usize, Part)>, memory: &Arc<dyn MemoryPool>) -> Result<SetOutcome> {
    let mut files = Vec::new();
    let mut quarantine = Vec::new();
    let mut gate = planned.expectations.gate(memory)?;
    for (_, part) in parts {
        files.extend(part.files);
        quarantine.extend(part.quarantine);
        gate.merge(part.gate)?;
    }
    Ok(SetOutcome { files, quarantine, report: gate.finish()? })
}
