//! How far the event time of a source has come.

use serde::{Deserialize, Serialize};

use crate::OffsetRange;

/// The watermark of a source with `ON LATE`, after an epoch. Times are microseconds since 1970, UTC.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Watermark {
    /// Rows before it are late from now on, in whatever partition; it never goes back. `None` where a partition that was
    /// found has told of no time yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<i64>,
    /// Where each partition of a Kafka source is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub partitions: Vec<PartitionWatermark>,
    /// Where `at` comes to be once no object of the listing in hand is unread that may be older: what one listing found is
    /// one arrival, and none of it is late against the rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arriving: Option<i64>,
    /// Whether `run --final` said that nothing comes any more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_final: bool,
}

/// Where a partition of a Kafka source is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionWatermark {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// Its rows before it are late from now on; `None` where it had no row yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<i64>,
    /// Whether it does not hold the watermark back until rows come to it again: it was read to its end, and nothing came
    /// for the source's `idle_timeout`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_idle: bool,
}

impl Watermark {
    /// Where a partition is by itself; `None` where it had no row yet.
    pub fn of_partition(&self, topic: &str, partition: i32) -> Option<i64> {
        let known = self.partitions.iter().find(|known| known.topic == topic && known.partition == partition);
        known.and_then(|known| known.at)
    }

    /// Where a partition's rows begin to be late.
    pub fn late_before(&self, topic: &str, partition: i32) -> Option<i64> {
        self.of_partition(topic, partition).max(self.at)
    }

    /// How far partitions may be and still be read, where one may be ahead of the slowest of those that have something
    /// `unread` by `skew` microseconds. `None` where one of these has had no row yet, and nor has the source a watermark:
    /// it is then read by itself, until it has one.
    pub fn in_step<'r>(&self, unread: impl Iterator<Item = &'r OffsetRange>, skew: i64) -> Option<i64> {
        let waiting = unread.filter(|range| !range.is_empty());
        let slowest = waiting.map(|range| self.late_before(&range.topic, range.partition)).min().flatten();
        slowest.map(|slowest| slowest.saturating_add(skew))
    }

    /// The partition that holds it back: the slowest one that is not idle. `None` of a source without partitions, and
    /// where all are idle.
    pub fn held_by(&self) -> Option<&PartitionWatermark> {
        self.partitions.iter().filter(|known| !known.is_idle).min_by_key(|known| known.at)
    }

    /// The same where those partitions that are `quiet` are idle, too; `None` where that does not move it.
    #[must_use]
    pub fn idle(&self, is_quiet: impl Fn(&PartitionWatermark) -> bool) -> Option<Self> {
        let mut idle = self.clone();
        for known in &mut idle.partitions {
            known.is_idle |= is_quiet(known);
        }
        idle.advance();
        (idle.at > self.at).then_some(idle)
    }

    /// The same once rows have come to some of its idle partitions; `None` where they have come to none.
    #[must_use]
    pub fn woken(&self, is_unread: impl Fn(&PartitionWatermark) -> bool) -> Option<Self> {
        let mut woken = self.clone();
        let idle = woken.partitions.iter_mut().filter(|known| known.is_idle && is_unread(known));
        let count = idle.map(|known| known.is_idle = false).count();
        (count > 0).then_some(woken)
    }

    /// Moves it to the slowest partition that is not idle; where all are, to the fastest: none holds it back.
    fn advance(&mut self) {
        let slowest = match self.held_by() {
            Some(held) => held.at,
            None => self.partitions.iter().filter_map(|known| known.at).max(),
        };
        // A partition that is found later does not take it back; it stands still until that has a row.
        self.at = self.at.max(slowest);
    }

    /// Takes in the newest event times of what an epoch read of the partitions, less the delay; `None` of one that had no
    /// row.
    pub fn partitions<'t>(&mut self, read: impl IntoIterator<Item = (&'t str, i32, Option<i64>)>) {
        for (topic, partition, at) in read {
            match self.partitions.iter_mut().find(|known| known.topic == topic && known.partition == partition) {
                Some(known) => known.at = known.at.max(at),
                None => {
                    let topic = topic.to_owned();
                    self.partitions.push(PartitionWatermark { topic, partition, at, is_idle: false });
                }
            }
        }
        self.advance();
    }

    /// Takes in that the newest event time of what was read of a listing, less the delay, is `at`.
    pub fn arrives(&mut self, at: Option<i64>) {
        self.arriving = self.arriving.max(at);
    }

    /// The same once what is unread of the listing is no older than `unread`; `i64::MAX` where that is nothing.
    #[must_use]
    pub fn arrived(mut self, unread: i64) -> Self {
        self.at = self.at.max(self.arriving.map(|arriving| arriving.min(unread)));
        self.arriving = self.arriving.filter(|_| unread < i64::MAX);
        self
    }

    /// The same once nothing comes any more.
    #[must_use]
    pub fn ended(mut self) -> Self {
        self.arriving = None;
        self.at = Some(i64::MAX);
        self.is_final = true;
        self
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What may happen to a watermark.
    #[derive(Debug, Clone)]
    enum Step {
        Read(i32, Option<i64>),
        Idle(Vec<bool>),
        Wake(i32),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..4, proptest::option::weighted(0.8, 0..100_i64)).prop_map(|(partition, at)| Step::Read(partition, at)),
            2 => proptest::collection::vec(any::<bool>(), 4).prop_map(Step::Idle),
            1 => (0..4).prop_map(Step::Wake),
        ]
    }

    proptest! {
        #[test]
        fn no_row_of_a_partition_that_was_never_idle_is_late_by_the_others(steps in proptest::collection::vec(step(), 0..40)) {
            let mut watermark = Watermark::default();
            watermark.partitions((0..4).map(|partition| ("t", partition, None)));
            let mut was_idle = [false; 4];
            for step in steps {
                let before = watermark.clone();
                match step {
                    Step::Read(partition, at) => {
                        watermark = watermark.woken(|known| known.partition == partition).unwrap_or(watermark);
                        watermark.partitions([("t", partition, at)]);
                    }
                    Step::Idle(quiet) => {
                        let is_quiet = |known: &PartitionWatermark| quiet[usize::try_from(known.partition).unwrap()];
                        watermark = watermark.idle(is_quiet).unwrap_or(watermark);
                    }
                    Step::Wake(partition) => {
                        watermark = watermark.woken(|known| known.partition == partition).unwrap_or(watermark);
                    }
                }
                prop_assert!(watermark.at >= before.at, "it went back");
                for (known, was_idle) in watermark.partitions.iter().zip(&mut was_idle) {
                    *was_idle |= known.is_idle;
                    prop_assert!(*was_idle || known.at >= watermark.at, "{known:?} against {:?}", watermark.at);
                    prop_assert_eq!(watermark.late_before("t", known.partition), known.at.max(watermark.at));
                }
                // It is no further back than what holds it.
                prop_assert!(watermark.held_by().is_none_or(|held| watermark.at >= held.at));
            }
        }
    }

    #[test]
    fn the_slowest_partition_holds_it_back_and_it_never_goes_back() {
        let mut watermark = Watermark::default();
        watermark.partitions([("t", 0, Some(70)), ("t", 1, None)]);
        assert_eq!((watermark.at, watermark.late_before("t", 0)), (None, Some(70)));
        watermark.partitions([("t", 1, Some(50))]);
        assert_eq!((watermark.at, watermark.late_before("t", 1)), (Some(50), Some(50)));
        // One that is found later.
        watermark.partitions([("t", 2, None), ("t", 1, Some(60))]);
        assert_eq!((watermark.at, watermark.late_before("t", 2)), (Some(50), Some(50)));
        watermark.partitions([("t", 0, Some(90)), ("t", 1, Some(80)), ("t", 2, Some(95))]);
        assert_eq!((watermark.at, watermark.late_before("t", 0)), (Some(80), Some(90)));
        watermark.partitions([("t", 0, Some(60))]);
        assert_eq!((watermark.late_before("t", 0), watermark.late_before("u", 0)), (Some(90), Some(80)));
    }

    #[test]
    fn idle_partitions_do_not_hold_it_back_until_rows_come_to_them() {
        let mut watermark = Watermark::default();
        watermark.partitions([("t", 0, Some(70)), ("t", 1, Some(50)), ("t", 2, None)]);
        assert_eq!((watermark.at, watermark.held_by().map(|held| held.partition)), (None, Some(2)));
        // One that is not the slowest changes nothing: there is nothing to say.
        assert_eq!(watermark.idle(|known| known.partition == 1), None);
        let mut idle = watermark.idle(|known| known.partition == 2).unwrap();
        assert_eq!((idle.at, idle.held_by().map(|held| held.partition)), (Some(50), Some(1)));
        idle.partitions([("t", 1, Some(60))]);
        assert_eq!(idle.at, Some(60));

        // Its rows begin where the watermark is, and it holds that back where it is.
        assert_eq!(idle.woken(|known| known.partition == 1), None);
        let mut woken = idle.woken(|_| true).unwrap();
        assert_eq!((woken.at, woken.late_before("t", 2)), (Some(60), Some(60)));
        woken.partitions([("t", 0, Some(90)), ("t", 1, Some(80))]);
        assert_eq!(woken.at, Some(60));
        woken.partitions([("t", 2, Some(75))]);
        assert_eq!(woken.at, Some(75));

        // None holds it back where all are idle.
        let all = woken.idle(|_| true).unwrap();
        assert_eq!((all.at, all.held_by()), (Some(90), None));
        let back: Watermark = serde_json::from_str(&serde_json::to_string(&all).unwrap()).unwrap();
        assert_eq!(back, all);
    }

    #[test]
    fn partitions_are_read_in_step_with_the_slowest_that_has_something_to_read() {
        let mut watermark = Watermark::default();
        watermark.partitions([("t", 0, Some(70)), ("t", 1, Some(50)), ("t", 2, Some(10))]);
        let range = |partition, end| OffsetRange {
            topic: "t".to_owned(),
            partition,
            start: 5,
            end,
            topic_id: None,
            late_before: None,
            is_apart: false,
        };
        // One that is read to its end holds nobody up.
        for (unread, expected) in [
            (vec![range(0, 9), range(1, 9), range(2, 9)], Some(30)),
            (vec![range(0, 9), range(1, 9), range(2, 5)], Some(70)),
            (vec![range(0, 9)], Some(90)),
            // What of one is before the watermark is late, wherever the partition is.
            (vec![range(0, 9), range(3, 9)], Some(30)),
            (vec![], None),
        ] {
            assert_eq!(watermark.in_step(unread.iter(), 20), expected, "{unread:?}");
        }
        watermark.at = None;
        assert_eq!(watermark.in_step([range(0, 9), range(3, 9)].iter(), 20), None);
    }

    #[test]
    fn a_listing_moves_it_when_it_is_read() {
        let mut watermark = Watermark::default();
        watermark.arrives(Some(5));
        watermark.arrives(Some(3));
        watermark.arrives(None);
        assert_eq!(watermark.at, None);
        // As far as what is unread lets it, and never back.
        let watermark = watermark.arrived(4);
        assert_eq!((watermark.at, watermark.arriving), (Some(4), Some(5)));
        let watermark = watermark.arrived(2);
        assert_eq!((watermark.at, watermark.arriving), (Some(4), Some(5)));
        let watermark = watermark.arrived(i64::MAX);
        assert_eq!((watermark.at, watermark.arriving), (Some(5), None));
        assert_eq!(watermark.ended().at, Some(i64::MAX));
    }
}
