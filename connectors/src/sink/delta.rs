//! The Delta log over the files of a set: it follows the manifests, and is repaired from them.
//!
//! The manifest is what commits an epoch; the log is published afterwards. Each of its versions carries the application
//! transaction `bessemer/{pipeline}/{set}` with the last epoch that it covers, so that publishing again does nothing,
//! and publishing what a crash left out is the repair.

#[cfg(not(feature = "delta"))]
mod absent;
#[cfg(feature = "delta")]
mod log;
#[cfg(feature = "delta")]
mod statistics;

use arrow::datatypes::SchemaRef;
use bessemer_schemas::{DataFile, Epoch, PartitionField};

#[cfg(not(feature = "delta"))]
pub use absent::DeltaLog;
#[cfg(feature = "delta")]
pub use log::DeltaLog;

use crate::{Location, Result};

/// Version of a Delta table, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeltaVersion(pub u64);

/// The table that a set is.
#[derive(Debug, Clone)]
pub struct DeltaTarget {
    /// The set's folder.
    pub location: Location,
    /// The pipeline's name.
    pub pipeline: String,
    /// The set's name.
    pub set: String,
    /// The set's rows.
    pub schema: SchemaRef,
    /// Its partitions.
    pub partition_by: Vec<PartitionField>,
}

/// What an epoch did to the files of a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeltaCommit {
    /// The epoch.
    pub epoch: Epoch,
    /// When it was committed, microseconds since 1970.
    pub committed_at: i64,
    /// Files that came.
    pub added: Vec<DataFile>,
    /// Files that went.
    pub removed: Vec<DataFile>,
    /// Whether rows came or went: not where compaction put the same rows into other files.
    pub data_change: bool,
}

/// Publishes what the log lacks of `commits`, which are in the order of their epochs. Returns the version of the table,
/// or `None` where there is no table and nothing to publish.
pub async fn publish(target: DeltaTarget, commits: &[DeltaCommit]) -> Result<Option<DeltaVersion>> {
    let mut log = DeltaLog::open(target).await?;
    log.publish(commits).await?;
    Ok(log.version())
}
