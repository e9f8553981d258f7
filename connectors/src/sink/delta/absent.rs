//! A build without the Delta library.

#![expect(clippy::unused_async, reason = "the functions are those of a build that has the log")]

use bessemer_schemas::{DataFile, Epoch};

use super::{DeltaCommit, DeltaTarget, DeltaVersion};
use crate::{Error, Result};

/// The Delta log of a set, which this build cannot open.
#[derive(Debug)]
pub struct DeltaLog(std::convert::Infallible);

impl DeltaLog {
    /// Says that this build has no Delta log.
    pub async fn open(_target: DeltaTarget) -> Result<Self> {
        Err(Error::NotBuilt { what: "Delta log", feature: "delta" })
    }

    /// Never: there is no log.
    pub fn published(&self) -> Option<Epoch> {
        match self.0 {}
    }

    /// Never: there is no log.
    pub fn version(&self) -> Option<DeltaVersion> {
        match self.0 {}
    }

    /// Never: there is no log.
    pub fn check_live<'a>(&self, _live: impl IntoIterator<Item = &'a DataFile>) -> Result<()> {
        match self.0 {}
    }

    /// Never: there is no log.
    pub async fn publish(&mut self, _commits: &[DeltaCommit]) -> Result<()> {
        match self.0 {}
    }
}
