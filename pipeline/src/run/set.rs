//! One feature set in one epoch: its plan's streams through the gate into files.

use std::num::NonZeroUsize;
use std::sync::Arc;

use bessemer_connectors::sink::{
    FeatureSetOptions, QuarantineWriter, SetWriter, SortedBy, StateFiles, WriterNaming, WrittenSet,
};
use bessemer_schemas::{DataFile, FeatureSetDefinition, PartitionTransform};
use bessemer_transforms::{Gate, GateReport, PlannedSet, VIOLATIONS_COLUMN};
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::Schema;
use datafusion::execution::SessionState;
use datafusion::execution::memory_pool::MemoryPool;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, SendableRecordBatchStream};
use futures::future::BoxFuture;
use futures::{FutureExt, TryFutureExt, TryStreamExt};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::absorb::{WrittenState, absorb};
use super::emission::Emission;
use super::epoch::{Naming, Scanned};
use super::resident::Residents;
use super::unless_cancelled;
use crate::error::{Error, Result};
use crate::load::Loaded;

/// What a feature set made of an epoch; nothing of it counts before the manifest names it.
#[derive(Debug)]
pub(super) struct SetOutcome {
    pub(super) files: Vec<DataFile>,
    pub(super) quarantine: Vec<DataFile>,
    /// The state that it was made from, where it was.
    pub(super) state: Option<WrittenState>,
    pub(super) report: GateReport,
}

/// What the sets of one attempt at an epoch are run with.
#[derive(Debug)]
pub(super) struct Attempt<'a> {
    pub(super) loaded: &'a Arc<Loaded>,
    pub(super) session: &'a SessionState,
    pub(super) naming: Naming,
    pub(super) scanned: &'a Scanned,
    pub(super) cancel: &'a CancellationToken,
    /// The state that the set goes on from.
    pub(super) before: Option<&'a StateFiles>,
    /// Whether it stays as it is, and what is read is added to its state alone.
    pub(super) absorbs_only: bool,
    /// What it emits, where it keeps rows until they are final.
    pub(super) emission: Option<&'a Emission>,
    /// Segments that are in memory.
    pub(super) residents: &'a Residents,
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
    /// Asks it to give up and to take back what it wrote.
    stop: CancellationToken,
}

/// What one partition of the plan made.
struct Part {
    files: Vec<DataFile>,
    quarantine: Vec<DataFile>,
    gate: Gate,
}

/// Runs the plan of the set `at`; each output partition has its own gate and writers.
pub(super) async fn run(attempt: &Attempt<'_>, at: usize) -> Result<SetOutcome> {
    let Attempt { loaded, session, naming, scanned, cancel, .. } = *attempt;
    let planned = &loaded.plan.sets[at];
    if let Some(incremental) = planned.incremental().filter(|_| attempt.absorbs_only) {
        let (_, written) = absorb(attempt, planned, incremental).await?;
        let (files, quarantine, report) = Default::default();
        return Ok(SetOutcome { files, quarantine, state: Some(written), report });
    }
    let (plan, state) = plan(attempt, at).await?;
    let context = session.task_ctx();
    let Some(plan) = plan else {
        return Ok(SetOutcome { state, ..merge(planned, Vec::new(), context.memory_pool())? });
    };
    let partitions = plan.output_partitioning().partition_count();
    // Where rows come in one stream, as sorted ones do, the columns are encoded side by side instead.
    let encoders = NonZeroUsize::new(session.config().target_partitions() / partitions).unwrap_or(NonZeroUsize::MIN);
    let streams = (0..partitions).map(|partition| plan.execute(partition, Arc::clone(&context)).map_err(Error::engine));
    let streams = streams.collect::<Result<Vec<_>>>()?;
    let stop = cancel.child_token();
    let mut tasks = JoinSet::new();
    for (partition, stream) in streams.into_iter().enumerate() {
        let work = Arc::new(Work {
            loaded: Arc::clone(loaded),
            at,
            partition,
            naming,
            scanned: scanned.clone(),
            memory: Arc::clone(context.memory_pool()),
            encoders,
            stop: stop.clone(),
        });
        let part = work.run(stream);
        tasks.spawn(async move { part.await.map(|part| (partition, part)) }.in_current_span());
    }
    let mut parts = join_all(tasks, &stop).await?;
    parts.sort_by_key(|(partition, _)| *partition);
    let outcome = merge(planned, parts, context.memory_pool())?;
    Ok(SetOutcome { state, ..outcome })
}

/// The plan of the set's rows, if there can be some: over what its scans read, or over the state that this was absorbed
/// into.
async fn plan(attempt: &Attempt<'_>, at: usize) -> Result<(Option<Arc<dyn ExecutionPlan>>, Option<WrittenState>)> {
    let Attempt { loaded, session, cancel, emission, .. } = *attempt;
    let planned = &loaded.plan.sets[at];
    if let Some(emits) = planned.emits() {
        // Emitted as they are read, rows would be there once more with what depends on them.
        let missing = || Error::Internal { message: format!("nobody said what of `{}` is final", planned.name) };
        let emission = emission.ok_or_else(missing)?;
        let written = emission.absorb(attempt, planned, emits).await?;
        return Ok((emission.emit(attempt, &planned.name, emits).await?, Some(written)));
    }
    let Some(incremental) = planned.incremental() else {
        let plan = unless_cancelled(cancel, async { Ok(planned.physical(session).await?) }).await?;
        return Ok((Some(plan), None));
    };
    let (state, written) = absorb(attempt, planned, incremental).await?;
    let plan = unless_cancelled(cancel, async { Ok(incremental.emit(session, state).await?) }).await?;
    Ok((Some(plan), Some(written)))
}

/// Waits for every partition. The first error stops the others, which then take back what they wrote: were they aborted,
/// an upload on its way could still become visible.
async fn join_all(mut tasks: JoinSet<Result<(usize, Part)>>, stop: &CancellationToken) -> Result<Vec<(usize, Part)>> {
    let mut parts = Vec::new();
    let mut first_error = None;
    while let Some(ended) = tasks.join_next().await {
        let ended_early = |error| Error::Internal { message: format!("a partition ended early: {error}") };
        match ended.map_err(ended_early).flatten() {
            Ok(part) => parts.push(part),
            Err(error) => {
                stop.cancel();
                first_error.get_or_insert(error);
            }
        }
    }
    first_error.map_or(Ok(parts), Err)
}

impl Work {
    /// Boxed, since the compiler cannot see by itself that futures over writers of any lifetime may move to another thread.
    fn run(self: Arc<Self>, stream: SendableRecordBatchStream) -> BoxFuture<'static, Result<Part>> {
        async move { self.run_stream(stream).await }.boxed()
    }

    async fn run_stream(self: Arc<Self>, stream: SendableRecordBatchStream) -> Result<Part> {
        let Self { loaded, at, partition, naming, memory, .. } = &*self;
        let gate = loaded.plan.sets[*at].expectations.gate(memory)?;
        let naming = naming.writer(*partition);
        let writer = writer(loaded, *at, &stream.schema(), naming, memory, self.encoders)?;
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

/// A writer of the set `at`, for rows of `schema`.
pub(super) fn writer(
    loaded: &Loaded,
    at: usize,
    schema: &Schema,
    naming: WriterNaming,
    memory: &Arc<dyn MemoryPool>,
    encoders: NonZeroUsize,
) -> Result<SetWriter> {
    let (planned, options) = (&loaded.plan.sets[at], &loaded.parsed.sets[at]);
    let definition = &loaded.parsed.definition.feature_sets[at];
    let set = WrittenSet {
        entity: definition.entity.iter().map(|name| name.value.clone()).collect(),
        sorted_by: sorted_by(planned, definition, options),
        memory: Some(Arc::clone(memory)),
        encoders,
        ..WrittenSet::new(loaded.parsed.name(), planned.name.as_str())
    };
    Ok(SetWriter::new(options, schema, naming, set)?)
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
        let stop = self.work.stop.clone();
        while let Some(batch) = unless_cancelled(&stop, stream.try_next().map_err(Error::engine)).await? {
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
        let quarantined = match self.quarantine {
            Some(writer) => writer.finish().boxed().await,
            None => Ok(Vec::new()),
        };
        match quarantined {
            Ok(quarantine) => Ok(Part { files: self.writer.finish().boxed().await?, quarantine, gate: self.gate }),
            Err(error) => {
                self.writer.abort().await;
                Err(error.into())
            }
        }
    }

    async fn abort(self) {
        self.writer.abort().await;
        if let Some(writer) = self.quarantine {
            writer.abort().await;
        }
    }
}

/// The column that the rows of one file are sorted by first: event time; without one the first column of the entity,
/// where no row identity comes before it. What is the same in all rows of a partition sorts nothing.
fn sorted_by(planned: &PlannedSet, definition: &FeatureSetDefinition, options: &FeatureSetOptions) -> Option<SortedBy> {
    if !planned.is_sorted() {
        return None;
    }
    let is_partition = |column: &&str| {
        let is_identity = |transform| transform == PartitionTransform::Identity;
        options.partition_by.iter().any(|field| field.column == *column && is_identity(field.transform))
    };
    let event_time = definition.event_time.iter().map(|event_time| event_time.column.value.as_str());
    let mut keys: Vec<_> = event_time.filter(|column| !is_partition(column)).collect();
    if !planned.carries_origin {
        keys.extend(definition.entity.iter().map(|name| name.value.as_str()).filter(|column| !is_partition(column)));
    }
    let column = (*keys.first()?).to_owned();
    // The planner sorts upwards, nulls first.
    Some(SortedBy { column, nulls_first: true })
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
    Ok(SetOutcome { files, quarantine, state: None, report: gate.finish()? })
}
