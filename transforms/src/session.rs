//! The engine's settings: bounded in memory and disk, and deterministic.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{FairSpillPool, TrackConsumersPool};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::{FunctionRegistry, SessionState, SessionStateBuilder};
use datafusion::prelude::SessionConfig;

use crate::duration::ExactSeconds;
use crate::exchange::InOrder;
use crate::functions;
use crate::memory::{Both, ProcessMemory};
use crate::operators::QueryPlanner;
use crate::order_once::OrderOnce;
use crate::requirements::physical_rules;
use crate::{Error, Result};

/// How many of the largest consumers an out-of-memory error names.
const CONSUMERS_NAMED: NonZeroUsize = NonZeroUsize::MIN.saturating_add(2);

/// What a session may use.
#[derive(Debug, Clone)]
pub struct SessionOptions {
    /// Partitions of every plan. Part of what makes rows, so it is recorded in the manifest and not taken from the
    /// machine in silence.
    pub partitions: NonZeroUsize,
    /// Bytes of the memory pool.
    pub memory_bytes: usize,
    /// What all sessions of the process may use together; `None` where there is only one.
    pub process_memory: Option<ProcessMemory>,
    /// Where operators spill.
    pub spill_dir: PathBuf,
    /// Bytes that may be spilled at one time.
    pub spill_bytes_max: u64,
    /// Rows of a batch.
    pub batch_rows: NonZeroUsize,
}

/// Makes the session under which definitions are planned and epochs run.
///
/// The memory pool is fair: operators that can spill share it evenly, so that one sort cannot starve an aggregate
/// that would otherwise have had to fail; what cannot spill (a join's build side) takes from the whole.
pub fn session(options: &SessionOptions) -> Result<SessionState> {
    let runtime = runtime(options).map_err(|source| Error::from_engine("the session", source))?;
    let mut state = SessionStateBuilder::new()
        .with_config(config(options))
        .with_runtime_env(Arc::new(runtime))
        .with_default_features()
        .with_query_planner(Arc::new(QueryPlanner))
        .with_optimizer_rule(Arc::new(OrderOnce))
        .with_physical_optimizer_rules(physical_rules())
        .with_physical_optimizer_rule(Arc::new(InOrder))
        .build();
    let added = state.register_function_rewrite(Arc::new(ExactSeconds)).and_then(|()| functions::register(&mut state));
    added.map_err(|source| Error::from_engine("the session", source))?;
    Ok(state)
}

/// The same session with `extension` where scans look for it: one epoch's slice.
#[must_use]
pub fn with_extension<T: Send + Sync + 'static>(base: &SessionState, extension: Arc<T>) -> SessionState {
    let mut state = base.clone();
    state.config_mut().set_extension(extension);
    state
}

fn runtime(options: &SessionOptions) -> datafusion::error::Result<RuntimeEnv> {
    let own = FairSpillPool::new(memory_bytes(options));
    let process = options.process_memory.as_ref().map(|process| Arc::clone(&process.pool));
    let pool = TrackConsumersPool::new(Both { own, process }, CONSUMERS_NAMED);
    let disk = DiskManagerBuilder::default()
        .with_mode(DiskManagerMode::Directories(vec![options.spill_dir.clone()]))
        .with_max_temp_directory_size(options.spill_bytes_max);
    RuntimeEnvBuilder::new().with_memory_pool(Arc::new(pool)).with_disk_manager_builder(disk).build()
}

/// A session never gets more than the process has.
fn memory_bytes(options: &SessionOptions) -> usize {
    options.process_memory.as_ref().map_or(options.memory_bytes, |process| options.memory_bytes.min(process.bytes))
}

fn config(options: &SessionOptions) -> SessionConfig {
    let mut config = SessionConfig::new()
        .with_target_partitions(options.partitions.get())
        .with_batch_size(options.batch_rows.get())
        .with_information_schema(false);
    let settings = config.options_mut();

    settings.sql_parser.collect_spans = true;
    settings.sql_parser.enable_ident_normalization = true;
    // One text type, the one that declared columns have: set schemas stay stable when a cast is added.
    settings.sql_parser.map_string_types_to_utf8view = false;
    settings.execution.time_zone = Some("UTC".to_owned());

    // What makes rows, or their order, depend on timing.
    settings.execution.enable_file_stream_work_stealing = false;
    settings.optimizer.enable_round_robin_repartition = false;
    settings.optimizer.repartition_file_scans = false;
    // The other way to put two plans together takes their rows as they come.
    settings.optimizer.prefer_existing_union = true;
    settings.optimizer.enable_dynamic_filter_pushdown = false;
    settings.optimizer.enable_topk_dynamic_filter_pushdown = false;
    settings.optimizer.enable_join_dynamic_filter_pushdown = false;
    settings.optimizer.enable_aggregate_dynamic_filter_pushdown = false;

    // Every sort keeps back memory for merging its spills; ten megabytes each would use up a small pool.
    let share = memory_bytes(options) / options.partitions.get() / 8;
    settings.execution.sort_spill_reservation_bytes = share.clamp(64 << 10, 10 << 20);
    config
}
