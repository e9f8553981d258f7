//! The immutable object that commits an epoch. Its JSON form is a promise: `docs/manifest.md` describes it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    BadRecords, Claim, DefinitionDigest, Digest, Epoch, Imbalance, OffsetRange, SetLedger, Slice, SourceLedger,
    SourceSlice, Watermark,
};

/// Version of the wire format that this build writes; it reads this one and all before it.
pub const FORMAT_VERSION: u32 = 3;

/// One epoch: what it read, what it wrote, what became of every row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT_VERSION`] of the writer. Read first, alone: a newer one is refused by name.
    pub format_version: u32,
    /// The pipeline's name.
    pub pipeline: String,
    /// The epoch.
    pub epoch: Epoch,
    /// The writer's claim.
    pub claim: Claim,
    /// Digest of the bytes of the manifest before; `None` in the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Digest>,
    /// What this epoch is for.
    pub kind: ManifestKind,
    /// What wrote it.
    pub writer: WriterInfo,
    /// When work on the epoch began and when the manifest was made, microseconds since 1970, UTC. For people only.
    pub started_at: i64,
    /// See `started_at`.
    pub committed_at: i64,
    /// The definition it was made under.
    pub definition: DefinitionDigest,
    /// What it read.
    #[serde(default)]
    pub slice: Slice,
    /// What became of the records of each source.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sources: BTreeMap<String, SourceLedger>,
    /// What it did to each feature set.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sets: BTreeMap<String, SetCommit>,
    /// Quarantine files of each source (undecodable records).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub quarantine: BTreeMap<String, FileChanges>,
    /// Of each Kafka source, which of the last records of the partitions that it read were bad: what the circuit breaker
    /// goes on from. A partition that was read and is not here has none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub bad_records: BTreeMap<String, Vec<BadRecords>>,
    /// Where the watermarks are after it, of the sources with `ON LATE` whose watermarks it looked at.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub watermarks: BTreeMap<String, Watermark>,
    /// Everything before this epoch's own changes, folded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Base>,
    /// Why the pipeline stopped, where it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

/// What an epoch is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ManifestKind {
    /// A writer opened the pipeline: an empty slice and a new claim, which fences every older writer.
    Open,
    /// Rows were read and committed.
    Data,
    /// An expectation with `FAIL` was violated; nothing was committed.
    Failed,
    /// An empty slice: the same rows are in fewer files.
    Compaction,
}

/// What wrote a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriterInfo {
    /// Version of Bessemer.
    pub bessemer: String,
    /// Version of DataFusion.
    pub datafusion: String,
    /// Partitions of the plans: part of what makes rows, so it is kept, not taken from the machine.
    pub partitions: u32,
}

/// One committed file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DataFile {
    /// Path relative to the set's (or the quarantine's) own path, Hive partitions included.
    pub path: String,
    /// Rows.
    pub rows: u64,
    /// Bytes.
    pub bytes: u64,
    /// Values of the Hive partition columns, in their order; `None` is SQL's NULL.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub partition: Vec<(String, Option<String>)>,
    /// How often a row of it was rewritten, at most: 0 where the epoch wrote it that made its rows.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rewrites: u8,
}

/// Files that an epoch adds and takes away.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FileChanges {
    /// New files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub added: Vec<DataFile>,
    /// Files whose rows are among those of the new ones, but for records that were replayed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removed: Vec<DataFile>,
    /// Whether every file from before goes: a snapshot set is replaced in one commit.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub replaces_all: bool,
}

/// What an epoch did to one feature set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SetCommit {
    /// Data files.
    pub files: FileChanges,
    /// Quarantine files (rows that broke an expectation).
    #[serde(default)]
    pub quarantine: FileChanges,
    /// What became of its rows.
    pub ledger: SetLedger,
    /// Its expectations, in the order written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expectations: Vec<ExpectationResult>,
    /// Digest of everything that a snapshot set was computed from: while it stays, so does the set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inputs: Option<Digest>,
    /// Partial aggregates of a snapshot set that is kept up to date from them. A commit that replaces the set's files and
    /// has none puts those from before out of force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<SetState>,
    /// Of a snapshot set with `EMIT EVERY`: where the watermark of what it reads was, microseconds since 1970, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub emitted_at: Option<i64>,
}

/// Partial aggregates of everything that a snapshot set has read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetState {
    /// Its files, in the place of all from before; a row for each group.
    pub files: FileChanges,
    /// Digest of the bytes of the files, one after another.
    pub content: Digest,
    /// Digest of what its columns mean. A program that would give them another meaning makes a new state.
    pub fingerprint: Digest,
    /// The epoch that computed it over everything.
    pub since: Epoch,
    /// The last epoch whose slice is in it.
    pub through: Epoch,
    /// Versions of the tables that rows were looked up in.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tables: BTreeMap<String, String>,
    /// Of a set that emits windows as they close: what of its files belongs together. They are merged when they are read,
    /// and `content` is that of this list.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub segments: Vec<Segment>,
    /// Of such a set: windows before it are closed, and their groups in the files have no meaning any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed: Option<i64>,
}

/// Partial aggregates or rows that some epochs gave, sorted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// Which of the set's inputs it is of, where it keeps rows of several.
    #[serde(default, skip_serializing_if = "is_first")]
    pub input: u32,
    /// How many of the state's files, after those of the segments before.
    pub files: u32,
    /// Digest of the bytes of the files, one after another.
    pub content: Digest,
    /// The least key by which its groups or rows are told to be final, in ticks of its type.
    pub oldest: i64,
    /// The greatest.
    pub newest: i64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde asks for")]
fn is_first(input: &u32) -> bool {
    *input == 0
}

impl SetState {
    /// Its rows: groups, or rows that others may depend on.
    pub fn rows(&self) -> u64 {
        self.files.added_rows()
    }
}

/// What an expectation found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExpectationResult {
    /// Its name.
    pub name: String,
    /// `warn`, `drop_row`, `quarantine` or `fail`.
    pub action: String,
    /// Rows that it was asked about.
    pub checked: u64,
    /// Rows that broke it; for an aggregate 0 or 1.
    pub violations: u64,
    /// For an aggregate: the values of its aggregates, by their text.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub measured: BTreeMap<String, String>,
}

/// Why a pipeline stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The feature set.
    pub set: String,
    /// The expectation.
    pub expectation: String,
    /// Rows that broke it.
    pub violations: u64,
    /// A bounded sample of the offending rows, each a JSON object.
    pub sample: Vec<String>,
}

/// A content-addressed, immutable block of sorted entries.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BlockRef {
    /// Path within the pipeline's state folder; the name holds the epoch and claim that wrote it and the digest of its
    /// bytes.
    pub path: String,
    /// Key of the first entry.
    pub first: String,
    /// Key of the last entry.
    pub last: String,
    /// Number of entries.
    pub entries: u64,
    /// Bytes.
    pub bytes: u64,
}

/// Everything up to an epoch, folded into sorted blocks, so that opening a pipeline costs the same whatever its history.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Base {
    /// The last epoch that is folded in.
    pub through: Epoch,
    /// The manifests up to this epoch are in archives, and nowhere else.
    #[serde(default, skip_serializing_if = "Epoch::is_none")]
    pub floor: Epoch,
    /// Objects already read, by source, in the version that was read.
    pub objects: BTreeMap<String, Vec<BlockRef>>,
    /// Objects that changed after they were read and were ignored, by source, in the version that was last seen.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ignored: BTreeMap<String, Vec<BlockRef>>,
    /// Live data files, by feature set.
    pub files: BTreeMap<String, Vec<BlockRef>>,
    /// Live quarantine files, by ``source:NAME`` or ``set:NAME``.
    pub quarantine: BTreeMap<String, Vec<BlockRef>>,
    /// Blocks of slices, by path: what may not be swept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slices: Vec<BlockRef>,
    /// Offsets read so far of each Kafka source, by topic and partition: from the first one to the last, in
    /// pieces where ranges are to be read apart.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub offsets: BTreeMap<String, Vec<OffsetRange>>,
    /// Bad ones among the last records of each Kafka source's partitions.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub bad_records: BTreeMap<String, Vec<BadRecords>>,
    /// Versions of tables.
    pub tables: BTreeMap<String, String>,
    /// Number of the last listing, by source.
    pub listings: BTreeMap<String, u64>,
    /// Ledger totals, by source.
    pub sources: BTreeMap<String, SourceLedger>,
    /// Ledger totals, by feature set.
    pub sets: BTreeMap<String, SetLedger>,
    /// What each snapshot set was last computed from.
    #[serde(default)]
    pub inputs: BTreeMap<String, Digest>,
    /// Partial aggregates of the snapshot sets that are kept up to date from them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub states: BTreeMap<String, SetState>,
    /// Where the watermarks were when snapshot sets with `EMIT EVERY` were last replaced.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub emitted_at: BTreeMap<String, i64>,
    /// The watermarks of the sources with `ON LATE`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub watermarks: BTreeMap<String, Watermark>,
    /// Why the pipeline stopped, where no rows were committed since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

impl Default for Epoch {
    /// Before the first epoch.
    fn default() -> Self {
        Self(0)
    }
}

impl Epoch {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks by reference")]
    fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

impl Manifest {
    /// Checks both balances of the ledger, and that what the files gain is what was written and quarantined: where files
    /// take the place of others, all rows are there again.
    pub fn balance(&self) -> Result<(), Imbalance> {
        const QUARANTINED: &str = "quarantined + rows of removed files = rows of added quarantine files + replayed";
        let nothing = (SourceLedger::default(), FileChanges::default());
        for name in self.sources.keys().chain(self.quarantine.keys()) {
            let ledger = self.sources.get(name).unwrap_or(&nothing.0);
            let files = self.quarantine.get(name).unwrap_or(&nothing.1);
            ledger.balance(name)?;
            let of = format!("source `{name}`");
            files.balance(&of, QUARANTINED, ledger.quarantined, ledger.replayed)?;
            let taken = self.slice.sources.get(name).map_or(0, SourceSlice::replayed);
            equal(&of, "records taken out of quarantine = replayed", taken, ledger.replayed)?;
        }
        for (name, set) in &self.sets {
            set.ledger.balance(name)?;
            let of = format!("feature set `{name}`");
            let written = "written + rows of removed files = rows of added files";
            set.files.balance(&of, written, set.ledger.written, 0)?;
            set.quarantine.balance(&of, QUARANTINED, set.ledger.quarantined, 0)?;
        }
        Ok(())
    }
}

impl FileChanges {
    /// New files, beside those that are there.
    pub fn adding(added: Vec<DataFile>) -> Self {
        Self { added, ..Self::default() }
    }

    /// Rows of the added files.
    pub fn added_rows(&self) -> u64 {
        self.added.iter().map(|file| file.rows).sum()
    }

    /// Rows of the removed files.
    pub fn removed_rows(&self) -> u64 {
        self.removed.iter().map(|file| file.rows).sum()
    }

    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && !self.replaces_all
    }

    fn balance(&self, of: &str, equation: &'static str, gained: u64, replayed: u64) -> Result<(), Imbalance> {
        equal(of, equation, gained + self.removed_rows(), self.added_rows() + replayed)
    }
}

fn equal(of: &str, equation: &'static str, left: u64, right: u64) -> Result<(), Imbalance> {
    if left == right { Ok(()) } else { Err(Imbalance { of: of.to_owned(), equation, left, right }) }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks by reference")]
fn is_zero(count: &u8) -> bool {
    *count == 0
}
