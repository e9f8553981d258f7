//! Partitions that are idle: read to their ends, at which they have stayed for the `idle_timeout` of their source. They do
//! not hold its watermark back until rows come to them again.
//!
//! Whether a partition is idle is observed, not computed: so the manifest says it, and only a run for ever looks long
//! enough. A run that begins knows nothing of the time before it, and waits the whole time once more.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bessemer_connectors::Source;
use bessemer_schemas::{OffsetRange, Watermark};

use super::Run;
use super::discovery::Discovered;

/// The partitions that had nothing to read when they were looked at last, by source.
#[derive(Debug, Default)]
pub(super) struct Idleness {
    quiet: BTreeMap<String, BTreeMap<(String, i32), Quiet>>,
}

/// A partition that has nothing to read.
#[derive(Debug, Clone, Copy)]
struct Quiet {
    end: i64,
    since: Instant,
    is_idle: bool,
}

impl Idleness {
    /// Takes in what of each partition of the source `name` is `unread`, as brokers answered who were asked between two
    /// moments.
    pub(super) fn look(
        &mut self,
        name: &str,
        timeout: Duration,
        unread: &[OffsetRange],
        asked: Instant,
        answered: Instant,
    ) {
        let before = self.quiet.remove(name).unwrap_or_default();
        let quiet = unread.iter().filter(|range| range.is_empty()).map(|range| {
            let key = (range.topic.clone(), range.partition);
            let since = before.get(&key).filter(|quiet| quiet.end == range.end).map_or(answered, |quiet| quiet.since);
            let is_idle = asked.saturating_duration_since(since) >= timeout;
            (key, Quiet { end: range.end, since, is_idle })
        });
        self.quiet.insert(name.to_owned(), quiet.collect());
    }

    /// The `watermarks` that idle partitions let go on, where they come to be.
    pub(super) fn moved(&self, watermarks: &BTreeMap<String, Watermark>) -> BTreeMap<String, Watermark> {
        let moved = watermarks.iter().filter_map(|(name, watermark)| {
            let quiet = self.quiet.get(name)?;
            let idle = watermark
                .idle(|known| quiet.get(&(known.topic.clone(), known.partition)).is_some_and(|quiet| quiet.is_idle));
            Some((name.clone(), idle?))
        });
        moved.collect()
    }
}

impl Run<'_> {
    /// Notes which partitions have nothing to read, by a look that began at the moment `asked`.
    pub(super) fn look_for_idle(&mut self, discovered: &Discovered, asked: Instant) {
        let answered = self.host.moment();
        for (name, unread) in discovered.unread() {
            let source = self.loaded.sources.iter().find(|source| source.name() == name);
            if let Some(timeout) = source.and_then(Source::idle_timeout) {
                self.idleness.look(name, timeout, unread, asked, answered);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(30);

    /// Looks at one partition, which was read up to an offset and ends at another, so many seconds after the first look; each
    /// look takes a second. Whether it is idle then.
    fn check(looks: &[(u64, i64, i64, bool)]) {
        let began = Instant::now();
        let mut idleness = Idleness::default();
        for (seconds, start, end, expected) in looks.iter().copied() {
            let topic = "t".to_owned();
            let range =
                OffsetRange { topic, partition: 0, start, end, topic_id: None, late_before: None, is_apart: false };
            let asked = began + Duration::from_secs(seconds);
            idleness.look("s", TIMEOUT, &[range], asked, asked + Duration::from_secs(1));
            let mut watermark = Watermark::default();
            watermark.partitions([("t", 0, Some(5)), ("t", 1, Some(9))]);
            let watermarks = BTreeMap::from([("s".to_owned(), watermark)]);
            let moved = idleness.moved(&watermarks).get("s").and_then(|moved| moved.at);
            assert_eq!(moved, expected.then_some(9), "after {seconds} s of {looks:?}");
        }
    }

    #[test]
    fn a_partition_is_idle_once_it_has_been_at_the_same_end_for_the_whole_time() {
        check(&[(0, 7, 7, false), (30, 7, 7, false), (31, 7, 7, true), (32, 7, 7, true)]);
        // What came was read between two looks.
        check(&[(0, 7, 7, false), (20, 9, 9, false), (31, 9, 9, false), (51, 9, 9, true)]);
        // It is idle no more when something comes.
        check(&[(0, 7, 7, false), (31, 7, 7, true), (32, 7, 8, false), (33, 8, 8, false), (64, 8, 8, true)]);
    }

    #[test]
    fn what_is_not_read_yet_is_never_idle() {
        check(&[(0, 3, 7, false), (60, 3, 7, false), (120, 4, 7, false), (121, 7, 7, false), (151, 7, 7, false)]);
    }
}
