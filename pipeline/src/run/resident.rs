//! Segments that are held in memory from epoch to epoch, so that an epoch looks up what it needs of them.
//!
//! Segments never change, so what is in memory is what is in their files. They are read when rows are looked up in them for
//! the first time, and go when no set keeps them any more.

use std::collections::HashMap;
use std::sync::Arc;

use bessemer_connectors::sink::StateFiles;
use bessemer_schemas::Digest;
use bessemer_transforms::{Lookup, Resident, memory_within_reach};
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::physical_plan::streaming::PartitionStream;
use futures::FutureExt;
use tokio::sync::Mutex;

use crate::error::Result;

/// The part of the memory within reach that they may take is one in so many.
const SHARE: usize = 2;

/// Segments of all sets of a run.
#[derive(Debug, Default)]
pub(super) struct Residents(Mutex<HashMap<String, Segments>>);

/// Those of one set, by input and content; nothing where there is no room for one.
type Segments = HashMap<(u32, Digest), Option<Arc<Resident>>>;

impl Residents {
    /// Those of `set` that are `kept` by `lookup`, each told by its input and content: from memory, or else read into it.
    /// Others of the set go.
    pub(super) async fn of(
        &self,
        set: &str,
        kept: Vec<(u32, Digest, &StateFiles, &Lookup)>,
        context: &Arc<TaskContext>,
    ) -> Result<Vec<Option<Arc<Resident>>>> {
        let mut all = self.0.lock().await;
        let mut before = all.remove(set).unwrap_or_default();
        let (mut held, mut found) = (Segments::new(), Vec::new());
        for key in kept.iter().map(|(input, content, ..)| (*input, content.clone())) {
            if let Some(rows) = before.remove(&key) {
                held.insert(key, rows);
            }
        }
        drop(before);
        let others = all.values().map(bytes).sum::<usize>();
        for (input, content, files, lookup) in kept {
            let key = (input, content);
            if !held.contains_key(&key) {
                let taken = others + bytes(&held);
                held.insert(key.clone(), read(set, files, lookup, taken, context).boxed().await?);
            }
            found.push(held.get(&key).cloned().flatten());
        }
        all.insert(set.to_owned(), held);
        Ok(found)
    }
}

/// Bytes of the segments of a set.
fn bytes(segments: &Segments) -> usize {
    segments.values().flatten().map(|rows| rows.bytes()).sum()
}

/// Reads a segment, where others have `taken` so many bytes.
async fn read(
    set: &str,
    files: &StateFiles,
    lookup: &Lookup,
    taken: usize,
    context: &Arc<TaskContext>,
) -> Result<Option<Arc<Resident>>> {
    let pool = context.memory_pool();
    let most = (memory_within_reach(pool.as_ref()) / SHARE).saturating_sub(taken);
    let memory = MemoryConsumer::new(format!("what `{set}` keeps")).register(pool);
    let read = Resident::read(files.execute(Arc::clone(context)), lookup, memory, most);
    Ok(read.boxed().await?.map(Arc::new))
}

#[cfg(test)]
mod tests {
    use bessemer_connectors::Location;
    use bessemer_connectors::sink::{WriterNaming, state_writer};
    use bessemer_schemas::{Claim, Epoch};
    use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch, TimestampMicrosecondArray};
    use datafusion::execution::memory_pool::{GreedyMemoryPool, MemoryPool};
    use datafusion::execution::runtime_env::RuntimeEnvBuilder;

    use super::*;

    const ROWS: i64 = 1_000;

    /// A segment of the set `s`.
    async fn segment(state: &Location, number: u64, pool: &Arc<dyn MemoryPool>) -> StateFiles {
        let keys: ArrayRef = Arc::new((0..ROWS).map(Some).collect::<Int64Array>());
        let times: ArrayRef = Arc::new((0..ROWS).map(Some).collect::<TimestampMicrosecondArray>());
        let rows = RecordBatch::try_from_iter([("k", keys), ("at", times)]).unwrap();
        let naming = WriterNaming { epoch: Epoch(number), claim: Claim(1), attempt: 0, stream: 0 };
        let mut writer = state_writer(state, "p", "s", &rows.schema(), naming, pool).unwrap();
        writer.write(&rows).await.unwrap();
        StateFiles::new(state, "s", writer.finish().await.unwrap(), rows.schema())
    }

    #[tokio::test]
    async fn a_segment_is_read_once_while_it_is_kept_and_there_is_room_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let state = Location::local(folder.path()).unwrap();
        // Room for three of them, of which they may take half.
        let pool: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(3 * 160_000));
        let runtime = RuntimeEnvBuilder::new().with_memory_pool(Arc::clone(&pool)).build_arc().unwrap();
        let context = Arc::new(TaskContext::default().with_runtime(runtime));
        let [a, b] = [segment(&state, 1, &pool).await, segment(&state, 2, &pool).await];
        let lookup = Lookup { time: 1, keys: vec![0] };
        let (of_a, of_b) = (Digest::of(b"a"), Digest::of(b"b"));
        let residents = Residents::default();

        let first = residents.of("s", vec![(0, of_a.clone(), &a, &lookup)], &context).await.unwrap().remove(0).unwrap();
        assert_eq!(pool.reserved(), first.bytes());
        let both = vec![(0, of_a.clone(), &a, &lookup), (0, of_b.clone(), &b, &lookup)];
        let again = residents.of("s", both.clone(), &context).await.unwrap();
        assert!(Arc::ptr_eq(&first, again[0].as_ref().unwrap()));
        assert!(again[1].is_none(), "there is no room for a second one");
        // Another set takes what is left, and no more.
        assert!(residents.of("t", vec![(0, of_b.clone(), &b, &lookup)], &context).await.unwrap()[0].is_none());
        drop((first, again));

        // What is not kept any more makes room; what had none is not tried again.
        assert!(residents.of("s", vec![(0, of_b.clone(), &b, &lookup)], &context).await.unwrap()[0].is_none());
        assert_eq!(pool.reserved(), 0);
        assert!(residents.of("s", vec![(1, of_b, &b, &lookup)], &context).await.unwrap()[0].is_some());
    }
}
