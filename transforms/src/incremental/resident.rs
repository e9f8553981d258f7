//! Rows of a segment in memory, which are found by their time and by their keys.
//!
//! ```text
//! hash of the keys ─► bucket ─► entries (rest of the hash, row) ─► rows of the batches
//! ```
//!
//! Rows of other keys may be found, too, where hashes are equal; none is missed.

use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::{BatchCoalescer, cast, interleave_record_batch};
use arrow::datatypes::{DataType, Int64Type, SchemaRef};
use datafusion::common::hash_utils::{RandomState, create_hashes};
use datafusion::error::Result;
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::memory::MemoryStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use futures::{TryStreamExt, stream};

use crate::{Error, Range};

/// Rows of every batch but the last.
const BATCH_ROWS: usize = 8_192;
/// The lower half of a hash, which an entry begins with, and of an entry, which is the row.
const LOWER: u64 = u32::MAX as u64;

/// By which of its columns rows of a segment are found.
#[derive(Debug, Clone)]
pub struct Lookup {
    /// The number of the time that they are sorted by, upwards, nulls first.
    pub time: usize,
    /// The numbers of the keys.
    pub keys: Vec<usize>,
}

/// The rows of a segment, wherever they are.
#[derive(Debug, Clone)]
pub enum SegmentRows {
    /// In files.
    Stored(Arc<dyn PartitionStream>),
    /// In memory.
    Resident(Arc<Resident>),
}

impl SegmentRows {
    /// All of them.
    pub fn all(&self) -> Arc<dyn PartitionStream> {
        match self {
            Self::Stored(rows) => Arc::clone(rows),
            Self::Resident(rows) => Arc::clone(rows) as _,
        }
    }
}

/// Rows of a segment in memory.
#[derive(Debug)]
pub struct Resident {
    rows: Rows,
    time: usize,
    /// Where the entries of each bucket end.
    ends: Vec<u32>,
    /// The lower half of a hash, then the number of the row.
    entries: Vec<u64>,
    memory: MemoryReservation,
}

impl Resident {
    /// Reads `rows`, those of a segment in its order; nothing where `memory` does not suffice, or once it has grown beyond
    /// `most` bytes.
    ///
    /// # Errors
    /// The engine's, where they cannot be read.
    pub async fn read(
        rows: SendableRecordBatchStream,
        lookup: &Lookup,
        memory: MemoryReservation,
        most: usize,
    ) -> Result<Option<Self>, Error> {
        let read = read(rows, lookup, memory, most).await;
        read.map_err(|error| Error::from_engine("what is kept of a feature set".to_owned(), error))
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> usize {
        self.memory.size()
    }

    /// Adds the hashes of the keys of rows with a time from the first of `range` on to before the second.
    pub(super) fn add_keys(&self, lookup: &Lookup, (from, to): Range, hashes: &mut Vec<u64>) -> Result<()> {
        for batch in &self.rows.batches {
            let times = cast(batch.column(self.time), &DataType::Int64)?;
            let nulls = times.null_count();
            let times = &times.as_primitive::<Int64Type>().values()[nulls..];
            let first = times.partition_point(|time| *time < from);
            let end = times.partition_point(|time| *time < to);
            if first < end {
                hashes.extend(hashes_of(&batch.slice(nulls + first, end - first), &lookup.keys)?);
            }
        }
        Ok(())
    }

    /// Its rows with keys of these `hashes`, in their order.
    pub(super) fn with_keys(&self, hashes: &[u64]) -> Result<Rows> {
        let mut found = Vec::new();
        for hash in hashes {
            let bucket = bucket(*hash, self.ends.len());
            let place = |at: usize| self.ends.get(at).map_or(0, |end| *end as usize);
            let entries = &self.entries[bucket.checked_sub(1).map_or(0, place)..place(bucket)];
            let same = entries.iter().filter(|entry| **entry >> 32 == hash & LOWER);
            found.extend(same.map(|entry| usize::try_from(entry & LOWER).unwrap_or(usize::MAX)));
        }
        found.sort_unstable();
        let batches: Vec<_> = self.rows.batches.iter().collect();
        let chunks = found.chunks(BATCH_ROWS).map(|rows| {
            let first = rows.first().map_or(0, |row| row / BATCH_ROWS);
            let last = rows.last().map_or(0, |row| row / BATCH_ROWS);
            let places: Vec<_> = rows.iter().map(|row| (row / BATCH_ROWS - first, row % BATCH_ROWS)).collect();
            interleave_record_batch(&batches[first..=last], &places)
        });
        let batches = chunks.collect::<Result<_, _>>()?;
        Ok(Rows { schema: Arc::clone(&self.rows.schema), batches })
    }
}

async fn read(
    mut rows: SendableRecordBatchStream,
    lookup: &Lookup,
    memory: MemoryReservation,
    most: usize,
) -> Result<Option<Resident>> {
    let takes = |bytes: usize| memory.size() + bytes <= most && memory.try_grow(bytes).is_ok();
    let schema = rows.schema();
    let mut coalescer = BatchCoalescer::new(Arc::clone(&schema), BATCH_ROWS);
    let mut batches = Vec::new();
    let mut hashes = Vec::new();
    loop {
        let read = rows.try_next().await?;
        let is_last = read.is_none();
        match read {
            Some(batch) => coalescer.push_batch(batch)?,
            None => coalescer.finish_buffered_batch()?,
        }
        while let Some(batch) = coalescer.next_completed_batch() {
            // With a hash, an entry and its share of a bucket for each row.
            if !takes(batch.get_array_memory_size() + batch.num_rows() * 24) {
                return Ok(None);
            }
            hashes.extend(hashes_of(&batch, &lookup.keys)?);
            batches.push(batch);
        }
        if is_last {
            break;
        }
    }
    let Ok(count) = u32::try_from(hashes.len()) else { return Ok(None) };
    let (ends, entries) = index(&hashes, count);
    memory.shrink(hashes.len() * 8);
    Ok(Some(Resident { rows: Rows { schema, batches }, time: lookup.time, ends, entries, memory }))
}

/// Where the buckets of `count` hashes end, and their entries.
fn index(hashes: &[u64], count: u32) -> (Vec<u32>, Vec<u64>) {
    let mut ends = vec![0_u32; hashes.len().next_power_of_two()];
    let buckets = ends.len();
    for hash in hashes {
        ends[bucket(*hash, buckets)] += 1;
    }
    // Where each begins; filling it moves that to where it ends.
    let mut before = 0;
    for end in &mut ends {
        before += std::mem::replace(end, before);
    }
    let mut entries = vec![0; hashes.len()];
    for (hash, row) in hashes.iter().zip(0..count) {
        let end = &mut ends[bucket(*hash, buckets)];
        entries[*end as usize] = (hash << 32) | u64::from(row);
        *end += 1;
    }
    (ends, entries)
}

/// By the upper bits; `buckets` is a power of two.
fn bucket(hash: u64, buckets: usize) -> usize {
    let upper = hash.checked_shr(u64::BITS - buckets.trailing_zeros()).unwrap_or(0);
    usize::try_from(upper).unwrap_or(0)
}

fn hashes_of(batch: &RecordBatch, keys: &[usize]) -> Result<Vec<u64>> {
    let mut hashes = vec![0; batch.num_rows()];
    create_hashes(keys.iter().map(|at| batch.column(*at)), &RandomState::default(), &mut hashes)?;
    Ok(hashes)
}

/// Rows in memory.
#[derive(Debug)]
pub(super) struct Rows {
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
}

impl PartitionStream for Rows {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        match MemoryStream::try_new(self.batches.clone(), Arc::clone(&self.schema), None) {
            Ok(rows) => Box::pin(rows),
            Err(error) => {
                let failed = stream::once(async { Err(error) });
                Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), failed))
            }
        }
    }
}

impl PartitionStream for Resident {
    fn schema(&self) -> &SchemaRef {
        self.rows.schema()
    }

    fn execute(&self, context: Arc<TaskContext>) -> SendableRecordBatchStream {
        self.rows.execute(context)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use arrow::array::{ArrayRef, Int64Array, StringArray, TimestampMicrosecondArray};
    use arrow::compute::concat_batches;
    use datafusion::execution::memory_pool::{GreedyMemoryPool, MemoryConsumer, MemoryPool, UnboundedMemoryPool};
    use proptest::prelude::*;

    use super::*;

    /// A key, another, and a time.
    type Row = (Option<u8>, i64, Option<i64>);

    const LOOKUP: fn() -> Lookup = || Lookup { time: 2, keys: vec![0, 1] };

    fn batch(rows: &[Row]) -> RecordBatch {
        let texts: StringArray = rows.iter().map(|row| row.0.map(|key| format!("key {key}"))).collect();
        let numbers = Int64Array::from_iter_values(rows.iter().map(|row| row.1));
        let times: TimestampMicrosecondArray = rows.iter().map(|row| row.2).collect();
        let columns: [(&str, ArrayRef); 3] =
            [("k", Arc::new(texts)), ("n", Arc::new(numbers)), ("at", Arc::new(times))];
        RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).unwrap()
    }

    async fn resident(rows: &[Row], pool: Arc<dyn MemoryPool>, most: usize) -> Option<Resident> {
        let schema = batch(rows).schema();
        let batches: Vec<_> = rows.chunks(5).map(batch).collect();
        let rows = Rows { schema, batches }.execute(Arc::new(TaskContext::default()));
        Resident::read(rows, &LOOKUP(), MemoryConsumer::new("kept").register(&pool), most).await.unwrap()
    }

    /// In the order of a segment.
    fn rows() -> impl Strategy<Value = Vec<Row>> {
        let row = (prop::option::weighted(0.9, 0..4_u8), 0..3_i64, prop::option::weighted(0.9, -5..20_i64));
        prop::collection::vec(row, 0..40).prop_map(|mut rows| {
            rows.sort_by_key(|row| row.2);
            rows
        })
    }

    proptest! {
        #[test]
        fn rows_are_found_by_the_keys_of_those_of_a_time(rows in rows(), from in -6..20_i64, length in 0..8_i64) {
            let block_on = |future| tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future);
            let resident = block_on(resident(&rows, Arc::new(UnboundedMemoryPool::default()), usize::MAX)).unwrap();
            let mut hashes = Vec::new();
            resident.add_keys(&LOOKUP(), (from, from + length), &mut hashes).unwrap();
            let found = resident.with_keys(&{
                hashes.sort_unstable();
                hashes.dedup();
                hashes
            });
            let of_time = |row: &&Row| row.2.is_some_and(|at| from <= at && at < from + length);
            let keys: BTreeSet<_> = rows.iter().filter(of_time).map(|row| (row.0, row.1)).collect();
            let expected: Vec<_> = rows.iter().filter(|row| keys.contains(&(row.0, row.1))).copied().collect();
            let found = found.unwrap();
            prop_assert_eq!(concat_batches(&found.schema, &found.batches).unwrap(), batch(&expected));
        }
    }

    #[tokio::test]
    async fn many_rows_are_found_one_by_one() {
        let rows: Vec<Row> = (0..30_000).map(|row| (Some(u8::from(row % 7 < 3)), row % 10_000, Some(row))).collect();
        let resident = resident(&rows, Arc::new(UnboundedMemoryPool::default()), usize::MAX).await.unwrap();
        let mut hashes = Vec::new();
        resident.add_keys(&LOOKUP(), (29_999, 30_000), &mut hashes).unwrap();
        let found = resident.with_keys(&hashes).unwrap();
        // 9,999 is there three times, modulo 7 as 3, 0 and 4.
        let expected = [rows[9_999], rows[29_999]];
        assert_eq!(concat_batches(&found.schema, &found.batches).unwrap(), batch(&expected));
    }

    #[tokio::test]
    async fn what_has_no_room_is_left_where_it_is_and_gives_its_memory_back() {
        let rows: Vec<Row> = (0..10_000).map(|row| (None, row, Some(row))).collect();
        let pool: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(800_000));
        assert!(resident(&rows, Arc::clone(&pool), 1 << 16).await.is_none());
        assert_eq!(pool.reserved(), 0);
        let held = resident(&rows, Arc::clone(&pool), usize::MAX).await.unwrap();
        assert_eq!(pool.reserved(), held.bytes());
        assert!(resident(&rows, Arc::clone(&pool), usize::MAX).await.is_none());
        assert_eq!(pool.reserved(), held.bytes());
        drop(held);
        assert_eq!(pool.reserved(), 0);
    }
}
