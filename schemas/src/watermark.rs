//! How far the event time of a source has come.

use serde::{Deserialize, Serialize};

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
    /// Where `at` comes to be once all objects of the listing in hand are read: what one listing found is one arrival,
    /// and none of it is late against the rest.
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
}

impl Watermark {
    /// Where a partition's rows begin to be late.
    pub fn late_before(&self, topic: &str, partition: i32) -> Option<i64> {
        let known = self.partitions.iter().find(|known| known.topic == topic && known.partition == partition);
        known.and_then(|known| known.at).max(self.at)
    }

    /// Takes in the newest event times of what an epoch read of the partitions, less the delay; `None` of one that had no
    /// row.
    pub fn partitions<'t>(&mut self, read: impl IntoIterator<Item = (&'t str, i32, Option<i64>)>) {
        for (topic, partition, at) in read {
            match self.partitions.iter_mut().find(|known| known.topic == topic && known.partition == partition) {
                Some(known) => known.at = known.at.max(at),
                None => self.partitions.push(PartitionWatermark { topic: topic.to_owned(), partition, at }),
            }
        }
        // A partition that is found later does not take it back; it stands still until that has a row.
        let slowest = self.partitions.iter().map(|known| known.at).min().flatten();
        self.at = self.at.max(slowest);
    }

    /// Takes in that the newest event time of what was read of a listing, less the delay, is `at`.
    pub fn arrives(&mut self, at: Option<i64>) {
        self.arriving = self.arriving.max(at);
    }

    /// The same once the listing is read to its end.
    #[must_use]
    pub fn arrived(mut self) -> Self {
        self.at = self.at.max(self.arriving.take());
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
    use super::*;

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
    fn a_listing_moves_it_when_it_is_read() {
        let mut watermark = Watermark::default();
        watermark.arrives(Some(5));
        watermark.arrives(Some(3));
        watermark.arrives(None);
        assert_eq!(watermark.at, None);
        let watermark = watermark.arrived();
        assert_eq!((watermark.at, watermark.arriving), (Some(5), None));
        assert_eq!(watermark.ended().at, Some(i64::MAX));
    }
}
