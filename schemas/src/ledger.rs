//! The two balances that are asserted before every commit: no row is ever unaccounted for.

use serde::{Deserialize, Serialize};

/// What became of the records of one source in one epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SourceLedger {
    /// Objects in the slice.
    pub objects: u64,
    /// Bytes as stored; of Kafka records the bytes of keys and values.
    pub bytes: u64,
    /// Offsets in the slice (Kafka).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub offsets: u64,
    /// Offsets without a record: transaction markers, aborted and compacted records.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub gaps: u64,
    /// Offsets that were gone from the log before they were read (`on_data_loss = 'record'`).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lost: u64,
    /// Records that were taken out of quarantine, to be decoded again; they are among `records`, as they were before.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub replayed: u64,
    /// Records framed in the slice (rows, where the format has no undecodable records).
    pub records: u64,
    /// Records that became rows.
    pub decoded: u64,
    /// Records that are in quarantine as undecodable.
    pub undecodable: u64,
    /// Records without a value (Kafka), which are no rows.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub tombstones: u64,
    /// Rows in quarantine because their event time is null or impossible.
    pub bad_event_time: u64,
    /// Rows that the watermark had passed when they came.
    pub late: u64,
    /// Those of them that are not in quarantine: `ON LATE DROP`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub late_dropped: u64,
    /// Rows that the queries see.
    pub admitted: u64,
    /// Rows in the source's quarantine files of this epoch, counted by their writer.
    pub quarantined: u64,
    /// The newest event time of the admitted rows, microseconds since 1970, UTC (Kafka sources with a watermark).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_time_max: Option<i64>,
}

/// What became of the rows of one feature set in one epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SetLedger {
    /// Rows that the query read, over all its scans of sources. For a snapshot set: of all epochs so far.
    pub admitted: u64,
    /// Rows that the query's stateful operators took into groups, joins or windows (snapshot sets).
    pub absorbed: u64,
    /// Rows that joins and unnests made beyond those they read, net.
    pub expanded: u64,
    /// Rows that the query left out: filters, joins without a match, pruned row groups; net.
    pub dropped_by_query: u64,
    /// Rows that came out of the query.
    pub produced: u64,
    /// Rows left out by an expectation with `DROP ROW`.
    pub dropped: u64,
    /// Rows in the set's quarantine files, counted by their writer.
    pub quarantined: u64,
    /// Rows in the set's data files, counted by their writer.
    pub written: u64,
}

/// A balance that does not hold: a bug of ours, found before the commit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the ledger of {of} does not balance: {equation} ({left} against {right})")]
pub struct Imbalance {
    /// Which source or set.
    pub of: String,
    /// The balance that does not hold.
    pub equation: &'static str,
    /// Its left side.
    pub left: u64,
    /// Its right side.
    pub right: u64,
}

impl SourceLedger {
    /// Checks offsets + replayed = records + gaps + lost (Kafka), records = decoded + undecodable + tombstones, decoded = late + bad
    /// event time + admitted, and that quarantine holds what it should.
    pub fn balance(&self, source: &str) -> Result<(), Imbalance> {
        let of = || format!("source `{source}`");
        if self.offsets > 0 || self.gaps > 0 || self.lost > 0 {
            let found = self.records + self.gaps + self.lost;
            equal(&of, "offsets + replayed = records + gaps + lost", self.offsets + self.replayed, found)?;
        }
        let fates = self.decoded + self.undecodable + self.tombstones;
        equal(&of, "records = decoded + undecodable + tombstones", self.records, fates)?;
        let fates = self.late + self.bad_event_time + self.admitted;
        equal(&of, "decoded = late + bad event time + admitted", self.decoded, fates)?;
        let rejected = self.undecodable + self.bad_event_time + self.late;
        let equation = "quarantined + late and dropped = undecodable + bad event time + late";
        equal(&of, equation, self.quarantined + self.late_dropped, rejected)
    }

    /// Adds the counts of another epoch or object.
    pub fn add(&mut self, other: &Self) {
        self.objects += other.objects;
        self.bytes += other.bytes;
        self.offsets += other.offsets;
        self.gaps += other.gaps;
        self.lost += other.lost;
        self.replayed += other.replayed;
        self.tombstones += other.tombstones;
        self.records += other.records;
        self.decoded += other.decoded;
        self.undecodable += other.undecodable;
        self.bad_event_time += other.bad_event_time;
        self.late += other.late;
        self.late_dropped += other.late_dropped;
        self.admitted += other.admitted;
        self.quarantined += other.quarantined;
        self.event_time_max = self.event_time_max.max(other.event_time_max);
    }
}

impl SetLedger {
    /// Checks admitted + expanded = absorbed + dropped by the query + produced (what a stateful query produced counts
    /// as made from what it absorbed), and produced = written + quarantined + dropped.
    pub fn balance(&self, set: &str) -> Result<(), Imbalance> {
        let of = || format!("feature set `{set}`");
        let fates = self.written + self.quarantined + self.dropped;
        equal(&of, "produced = written + quarantined + dropped", self.produced, fates)?;
        if self.absorbed > 0 {
            return equal(
                &of,
                "admitted = absorbed + dropped by query",
                self.admitted,
                self.absorbed + self.dropped_by_query,
            );
        }
        let out = self.dropped_by_query + self.produced;
        equal(&of, "admitted + expanded = dropped by query + produced", self.admitted + self.expanded, out)
    }

    /// Adds the counts of another epoch of an append set.
    pub fn add(&mut self, other: &Self) {
        self.admitted += other.admitted;
        self.absorbed += other.absorbed;
        self.expanded += other.expanded;
        self.dropped_by_query += other.dropped_by_query;
        self.produced += other.produced;
        self.dropped += other.dropped;
        self.quarantined += other.quarantined;
        self.written += other.written;
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks by reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

fn equal(of: &dyn Fn() -> String, equation: &'static str, left: u64, right: u64) -> Result<(), Imbalance> {
    if left == right { Ok(()) } else { Err(Imbalance { of: of(), equation, left, right }) }
}
