//! Exactly what an epoch reads.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{BlockRef, Digest};

/// One version of one object: what a read is pinned to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ObjectVersion {
    /// Path within the source's store, as `object_store` spells it.
    pub path: String,
    /// Size in bytes.
    pub size: u64,
    /// Modification time in microseconds since 1970, UTC.
    pub modified: i64,
    /// Entity tag, where the store has one that changes with the content (not on local disk, where size and
    /// modification time stand for it).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// Rows of it with an earlier event time were late when it was read; microseconds since 1970, UTC (sources with
    /// `ON LATE`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late_before: Option<i64>,
}

impl ObjectVersion {
    /// Whether `other` is the same content at the same path, as far as the store can tell.
    pub fn is_same_version(&self, other: &Self) -> bool {
        let same_tag = match (&self.etag, &other.etag) {
            (Some(left), Some(right)) => left == right,
            _ => self.modified == other.modified,
        };
        self.path == other.path && self.size == other.size && same_tag
    }
}

/// Consecutive offsets of one partition of a Kafka topic: what a read is pinned to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct OffsetRange {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The first offset.
    pub start: i64,
    /// The offset after the last one; not all before it need exist (transaction markers, aborted and compacted records).
    pub end: i64,
    /// The topic's id (KIP-516), where the broker tells it: a topic that was deleted and made anew has another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic_id: Option<String>,
    /// Its rows with an earlier event time are late, whatever is in it; microseconds since 1970, UTC (sources with
    /// `ON LATE`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late_before: Option<i64>,
    /// Whether rows of it may be late that nothing before it in its partition makes late: its partition was idle, or was
    /// found later. Whoever reads it together with the offsets before it reads it apart, with its own `late_before`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_apart: bool,
}

impl OffsetRange {
    /// Ranges of any partitions, those of each in their order, put together: one of each partition, and another one from
    /// wherever one must be read apart.
    pub fn joined<'r>(ranges: impl IntoIterator<Item = &'r Self>) -> Vec<Self> {
        let mut joined: BTreeMap<(&str, i32), Vec<Self>> = BTreeMap::new();
        for range in ranges {
            let pieces = joined.entry((range.topic.as_str(), range.partition)).or_default();
            match pieces.last_mut() {
                Some(last) if range.is_apart && last.is_empty() => last.clone_from(range),
                Some(last) if !range.is_apart => {
                    last.end = range.end;
                    last.topic_id.clone_from(&range.topic_id);
                }
                _ => pieces.push(range.clone()),
            }
        }
        joined.into_values().flatten().collect()
    }

    /// How many offsets.
    pub fn offsets(&self) -> u64 {
        u64::try_from(self.end.saturating_sub(self.start)).unwrap_or(0)
    }

    /// Whether it has no offset.
    pub fn is_empty(&self) -> bool {
        self.end <= self.start
    }
}

/// What one epoch reads of every source. Absent means nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Slice {
    /// By source name.
    pub sources: BTreeMap<String, SourceSlice>,
}

/// What one epoch reads of one source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum SourceSlice {
    /// Objects of a log, each read once, whole, in this order.
    Objects {
        /// Number of the listing that found them, from 1: one listing is one arrival.
        listing: u64,
        /// The objects, where they are few.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        objects: Vec<ObjectVersion>,
        /// A block with the objects, where they are many.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        block: Option<BlockRef>,
        /// Objects that changed after they were read, ignored by `on_change = 'ignore'` and counted once.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        ignored: Vec<ObjectVersion>,
    },
    /// Records of a Kafka source.
    Kafka {
        /// By topic and partition. A partition that was found and has nothing new yet has an empty range: it is held
        /// from its discovery.
        ranges: Vec<OffsetRange>,
    },
    /// Records of the source's quarantine, decoded again: a replay.
    Quarantine {
        /// By the file that held them, which the same manifest takes out of force.
        files: Vec<QuarantinedRecords>,
        /// Digest of the file that gave them other bytes, if one did.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        repaired: Option<Digest>,
    },
    /// The whole content of a table.
    Table {
        /// Digest over the objects: it changes when any of them does.
        version: String,
        /// The objects in path order; empty when the version is that of the epoch before.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        objects: Vec<ObjectVersion>,
        /// A block with the objects, where they are many.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        block: Option<BlockRef>,
    },
}

impl SourceSlice {
    /// Number of objects that changed after they were read, and were ignored.
    pub fn ignored(&self) -> u64 {
        match self {
            Self::Objects { ignored, .. } => ignored.len() as u64,
            Self::Kafka { .. } | Self::Quarantine { .. } | Self::Table { .. } => 0,
        }
    }

    /// Number of records that were taken out of quarantine.
    pub fn replayed(&self) -> u64 {
        match self {
            Self::Quarantine { files, .. } => files.iter().map(QuarantinedRecords::records).sum(),
            Self::Objects { .. } | Self::Kafka { .. } | Self::Table { .. } => 0,
        }
    }
}

/// Records of one quarantine file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuarantinedRecords {
    /// Path of the file, relative to the quarantine's own.
    pub path: String,
    /// Runs of its rows, each the first one and the one after the last.
    pub rows: Vec<(u64, u64)>,
}

impl QuarantinedRecords {
    /// How many records.
    pub fn records(&self) -> u64 {
        self.rows.iter().map(|(start, end)| end.saturating_sub(*start)).sum()
    }
}

/// How much one slice may hold; at least one object is always taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SliceLimits {
    /// Bytes as stored (compressed), over all sources.
    pub bytes: u64,
    /// Rows, where the source tells before reading (Parquet after the first object, offsets of Kafka).
    pub rows: u64,
    /// Objects.
    pub files: u64,
}

impl Default for SliceLimits {
    /// Large enough that an epoch's fixed cost (some 20 ms) vanishes, small enough that a crash repeats little.
    fn default() -> Self {
        Self { bytes: 4 << 30, rows: u64::MAX, files: 10_000 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_one_of_each_partition_but_where_one_is_to_be_read_apart() {
        let range = |partition, start, end, late_before, is_apart| OffsetRange {
            topic: "t".to_owned(),
            partition,
            start,
            end,
            topic_id: None,
            late_before,
            is_apart,
        };
        let ranges = [
            range(0, 0, 5, None, false),
            range(1, 0, 0, None, false),
            range(0, 5, 9, Some(7), false),
            // The first that it has: nothing is before it.
            range(1, 0, 4, Some(3), true),
            range(0, 9, 12, Some(20), true),
            range(0, 12, 15, Some(20), false),
        ];
        let joined = [range(0, 0, 9, None, false), range(0, 9, 15, Some(20), true), range(1, 0, 4, Some(3), true)];
        assert_eq!(OffsetRange::joined(&ranges), joined);
        // However they were put together before.
        assert_eq!(OffsetRange::joined(OffsetRange::joined(&ranges[..4]).iter().chain(&ranges[4..])), joined);
    }
}
