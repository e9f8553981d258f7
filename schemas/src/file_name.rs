//! Names of the files an epoch writes.

use std::fmt;
use std::str::FromStr;

use crate::{Claim, Epoch};

/// `{epoch}-{claim}-{attempt}-{stream}-{seq}.parquet`: no two writers and no two attempts share a name, so nothing is
/// ever overwritten, and a sweep can tell whose a file is.
///
/// ```
/// use bessemer_schemas::{Claim, Epoch, FileName};
/// let name = FileName { epoch: Epoch(42), claim: Claim(0xbe55), attempt: 0, stream: 1, seq: 7 };
/// assert_eq!(name.to_string(), "0000000042-000000000000be55-0-001-00007.parquet");
/// assert_eq!("0000000042-000000000000be55-0-001-00007.parquet".parse(), Ok(name));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileName {
    /// The epoch that wrote it.
    pub epoch: Epoch,
    /// The writer's claim.
    pub claim: Claim,
    /// The attempt at this epoch, from 0.
    pub attempt: u32,
    /// The stream of rows within the epoch (a partition of the plan), from 0.
    pub stream: u32,
    /// The file within the stream, from 0.
    pub seq: u32,
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { epoch, claim, attempt, stream, seq } = self;
        write!(f, "{:010}-{claim}-{attempt}-{stream:03}-{seq:05}.parquet", epoch.0)
    }
}

impl FromStr for FileName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let mut parts = text.strip_suffix(".parquet")?.split('-');
            let name = Self {
                epoch: Epoch(parts.next()?.parse().ok()?),
                claim: parts.next()?.parse().ok()?,
                attempt: parts.next()?.parse().ok()?,
                stream: parts.next()?.parse().ok()?,
                seq: parts.next()?.parse().ok()?,
            };
            parts.next().is_none().then_some(name)
        };
        parse().ok_or_else(|| format!("`{text}` is no file name of an epoch"))
    }
}
