//! One limit for a whole process: what sessions side by side may use together.

use std::fmt;
use std::sync::Arc;

use datafusion::error::Result;
use datafusion::execution::memory_pool::{
    FairSpillPool, MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation, TrackConsumersPool,
};

/// The memory that all sessions of a process share. Clones are the same memory.
#[derive(Debug, Clone)]
pub struct ProcessMemory {
    pub(crate) pool: Arc<FairSpillPool>,
    pub(crate) bytes: usize,
}

impl ProcessMemory {
    /// Memory of `bytes` in all.
    pub fn new(bytes: usize) -> Self {
        Self { pool: Arc::new(FairSpillPool::new(bytes)), bytes }
    }

    /// Its limit, in bytes.
    pub fn limit(&self) -> usize {
        self.bytes
    }

    /// Bytes that are taken now, by all sessions.
    pub fn reserved(&self) -> usize {
        self.pool.reserved()
    }
}

/// A session's own pool, and within it that of the process: what is taken is taken from both, or from neither.
#[derive(Debug)]
pub(crate) struct Both {
    pub(crate) own: FairSpillPool,
    pub(crate) process: Option<Arc<FairSpillPool>>,
}

impl MemoryPool for Both {
    fn name(&self) -> &'static str {
        "session"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.own.register(consumer);
        self.process.iter().for_each(|process| process.register(consumer));
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.own.unregister(consumer);
        self.process.iter().for_each(|process| process.unregister(consumer));
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.own.grow(reservation, additional);
        self.process.iter().for_each(|process| process.grow(reservation, additional));
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.own.shrink(reservation, shrink);
        self.process.iter().for_each(|process| process.shrink(reservation, shrink));
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        self.own.try_grow(reservation, additional)?;
        let Some(process) = &self.process else { return Ok(()) };
        process.try_grow(reservation, additional).inspect_err(|_| self.own.shrink(reservation, additional))
    }

    fn reserved(&self) -> usize {
        self.own.reserved()
    }

    fn memory_limit(&self) -> MemoryLimit {
        self.own.memory_limit()
    }
}

/// Bytes that a [`session`](crate::session()) with this pool could have now: its limit, and that of the process less what others have of it.
pub fn memory_within_reach(pool: &dyn MemoryPool) -> usize {
    let limit = |pool: &dyn MemoryPool| match pool.memory_limit() {
        MemoryLimit::Finite(bytes) => bytes,
        _ => usize::MAX,
    };
    let session = pool.downcast_ref::<TrackConsumersPool<Both>>();
    let process = session.and_then(|session| session.inner().process.as_ref());
    let of_process = process.map_or(usize::MAX, |process| {
        let others = process.reserved().saturating_sub(pool.reserved());
        limit(process.as_ref()).saturating_sub(others)
    });
    limit(pool).min(of_process)
}

impl fmt::Display for Both {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.process {
            Some(process) => write!(f, "{} within {process}", self.own),
            None => self.own.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use datafusion::arrow::array::{AsArray, Int64Array, RecordBatch};
    use datafusion::arrow::datatypes::{DataType, Field, Int64Type, Schema};
    use datafusion::datasource::MemTable;
    use datafusion::execution::SessionState;
    use datafusion::physical_plan::{ExecutionPlan, collect};
    use datafusion::prelude::SessionContext;

    use super::*;
    use crate::{SessionOptions, session};

    const MIB: usize = 1 << 20;

    fn session_of(own: usize, process: &ProcessMemory) -> SessionState {
        session(&SessionOptions {
            partitions: NonZeroUsize::MIN,
            memory_bytes: own,
            process_memory: Some(process.clone()),
            spill_dir: std::env::temp_dir(),
            spill_bytes_max: 1 << 30,
            batch_rows: NonZeroUsize::MIN.saturating_add(1_023),
        })
        .unwrap()
    }

    fn taken(session: &SessionState, bytes: usize) -> Result<MemoryReservation> {
        let reservation = MemoryConsumer::new("test").register(&session.runtime_env().memory_pool);
        reservation.try_grow(bytes)?;
        Ok(reservation)
    }

    #[test]
    fn sessions_share_the_limit_of_the_process_and_keep_their_own() {
        let process = ProcessMemory::new(10 * MIB);
        let (first, second) = (session_of(8 * MIB, &process), session_of(64 * MIB, &process));
        let held = taken(&first, 6 * MIB).unwrap();
        assert_eq!(process.reserved(), 6 * MIB);
        assert!(taken(&first, 3 * MIB).is_err(), "beyond its own limit");
        assert!(taken(&second, 5 * MIB).is_err(), "beyond that of the process");
        assert_eq!(
            (process.reserved(), second.runtime_env().memory_pool.reserved()),
            (6 * MIB, 0),
            "nothing is left taken"
        );
        let within_reach = |session: &SessionState| memory_within_reach(session.runtime_env().memory_pool.as_ref());
        assert_eq!((within_reach(&first), within_reach(&second)), (8 * MIB, 4 * MIB));
        drop(taken(&second, 4 * MIB).unwrap());
        drop(held);
        drop(taken(&second, 9 * MIB).unwrap());
        assert_eq!(process.reserved(), 0);
    }

    #[tokio::test]
    async fn a_sort_spills_where_the_rest_of_the_process_leaves_it_little() {
        const ROWS: i64 = 400_000;
        let process = ProcessMemory::new(24 * MIB);
        let (first, second) = (session_of(64 * MIB, &process), session_of(64 * MIB, &process));
        let held = taken(&first, 14 * MIB).unwrap();
        let schema = Arc::new(Schema::new(vec![Field::new("number", DataType::Int64, false)]));
        let numbers: Vec<_> = (0..ROWS).map(|number| number * 7_919 % ROWS).collect();
        let batches = numbers.chunks(1_000).map(|chunk| {
            RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(Int64Array::from(chunk.to_vec()))]).unwrap()
        });
        let table = MemTable::try_new(Arc::clone(&schema), vec![batches.collect()]).unwrap();
        let ctx = SessionContext::new_with_state(second.clone());
        ctx.register_table("numbers", Arc::new(table)).unwrap();
        let query = ctx.sql("SELECT number, number % 10 AS digit, -number AS negative FROM numbers ORDER BY number");
        let plan = query.await.unwrap().create_physical_plan().await.unwrap();
        let sorted = collect(Arc::clone(&plan), second.task_ctx()).await.unwrap();

        let sorted = sorted.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec());
        assert!(sorted.eq(0..ROWS));
        assert!(spills(&plan) > 0, "it had all the memory it wanted");
        assert_eq!(process.reserved(), 14 * MIB);
        drop(held);
    }

    fn spills(plan: &Arc<dyn ExecutionPlan>) -> usize {
        let own = plan.metrics().and_then(|metrics| metrics.spill_count()).unwrap_or(0);
        own + plan.children().into_iter().map(spills).sum::<usize>()
    }
}
