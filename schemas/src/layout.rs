//! How the rows of a feature set are laid out in files.

use std::fmt;

/// Name of the hidden column that carries row identity through a plan: `UInt64`, [`pack_origin`].
pub const ORIGIN_COLUMN: &str = "__bessemer_origin";

/// Packs row identity: number of the source among those of the plan (6 bits), number of the object in the epoch's slice
/// of that source (22 bits), number of the row in the object from 0 (36 bits). Ordered as the rows are read.
pub fn pack_origin(source: u64, object: u64, row: u64) -> u64 {
    debug_assert!(source < 1 << 6 && object < 1 << 22 && row < 1 << 36);
    source << 58 | object << 36 | row
}

/// Source, object and row of a packed identity.
pub fn unpack_origin(origin: u64) -> (u64, u64, u64) {
    (origin >> 58, origin >> 36 & ((1 << 22) - 1), origin & ((1 << 36) - 1))
}

/// One Hive partition column.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PartitionField {
    /// Column of the set that it is made from.
    pub column: String,
    /// How.
    pub transform: PartitionTransform,
}

/// How a partition value is made from a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PartitionTransform {
    /// The value itself; the column is then in the path and not in the file.
    Identity,
    /// The month of a timestamp or date, `2013-01`.
    Month,
    /// The day, `2013-01-31`.
    Day,
    /// The hour, `2013-01-31-23`.
    Hour,
}

impl PartitionField {
    /// Parses `carrier, day(window_end)`.
    ///
    /// # Errors
    /// Says what is wrong and what to write instead.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, String> {
        text.split(',').map(|part| Self::parse(part.trim())).collect()
    }

    fn parse(text: &str) -> Result<Self, String> {
        let is_name = |name: &str| {
            !name.is_empty()
                && !name.starts_with(|c: char| c.is_ascii_digit())
                && name.chars().all(|c| c == '_' || c.is_alphanumeric())
        };
        let (transform, column) = match text.split_once('(') {
            None => (PartitionTransform::Identity, text),
            Some((function, rest)) => {
                let column = rest.strip_suffix(')').ok_or_else(|| format!("`{text}` lacks its `)`"))?;
                let transform = match function.trim().to_ascii_lowercase().as_str() {
                    "month" => PartitionTransform::Month,
                    "day" => PartitionTransform::Day,
                    "hour" => PartitionTransform::Hour,
                    other => return Err(format!("`{other}` is no partition function; write `month`, `day` or `hour`")),
                };
                (transform, column.trim())
            }
        };
        if !is_name(column) {
            return Err(format!("`{text}` is no partition; write columns such as `carrier, day(event_time)`"));
        }
        Ok(Self { column: column.to_owned(), transform })
    }

    /// Name of the Hive partition column: `carrier`, or `window_end_day`.
    pub fn name(&self) -> String {
        match self.transform {
            PartitionTransform::Identity => self.column.clone(),
            PartitionTransform::Month => format!("{}_month", self.column),
            PartitionTransform::Day => format!("{}_day", self.column),
            PartitionTransform::Hour => format!("{}_hour", self.column),
        }
    }
}

impl fmt::Display for PartitionField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.transform {
            PartitionTransform::Identity => f.write_str(&self.column),
            PartitionTransform::Month => write!(f, "month({})", self.column),
            PartitionTransform::Day => write!(f, "day({})", self.column),
            PartitionTransform::Hour => write!(f, "hour({})", self.column),
        }
    }
}
