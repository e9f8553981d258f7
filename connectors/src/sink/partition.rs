//! Hive partitions: the value of each row, runs of rows with one value, and the directories that carry them.

use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use arrow::compute::{cast, partition};
use arrow::datatypes::{
    DataType, Date32Type, Date64Type, Schema, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType,
};
use arrow::record_batch::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use bessemer_schemas::{PartitionField, PartitionTransform};

use crate::{Error, Result};

/// What Hive writes for NULL.
const NULL_DIRECTORY: &str = "__HIVE_DEFAULT_PARTITION__";

const SECONDS_PER_DAY: i64 = 86_400;

/// The values of one partition, in the order of the partition columns.
pub(crate) type PartitionValues = Vec<(String, Option<String>)>;

/// Rows that follow one another in a batch and belong to one partition.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) rows: Range<usize>,
    pub(crate) values: PartitionValues,
}

/// Cuts batches into runs.
#[derive(Debug, Clone)]
pub(crate) struct Partitioner {
    fields: Vec<(PartitionField, usize)>,
}

impl Partitioner {
    /// For rows of `schema`.
    pub(crate) fn new(fields: &[PartitionField], schema: &Schema) -> Result<Self> {
        let bind = |field: &PartitionField| match schema.index_of(&field.column) {
            Ok(idx) => Ok((field.clone(), idx)),
            Err(_) => {
                Err(Error::Internal { message: format!("partition column `{}` is not among the rows'", field.column) })
            }
        };
        Ok(Self { fields: fields.iter().map(bind).collect::<Result<_>>()? })
    }

    /// The runs of `batch`, in its order, without gaps.
    pub(crate) fn runs(&self, batch: &RecordBatch) -> Result<Vec<Run>> {
        if batch.num_rows() == 0 {
            return Ok(Vec::new());
        }
        if self.fields.is_empty() {
            return Ok(vec![Run { rows: 0..batch.num_rows(), values: Vec::new() }]);
        }
        let keys: Vec<ArrayRef> =
            self.fields.iter().map(|(field, idx)| key(batch.column(*idx), field.transform)).collect::<Result<_>>()?;
        let ranges = partition(&keys)?.ranges();
        let run = |rows: Range<usize>| {
            let value = |((field, _), key): (&(PartitionField, usize), &ArrayRef)| {
                Ok((field.name(), value_text(key, rows.start, field.transform)?))
            };
            let values = self.fields.iter().zip(&keys).map(value).collect::<Result<_>>()?;
            Ok(Run { rows, values })
        };
        ranges.into_iter().map(run).collect()
    }
}

/// `carrier=AA/scheduled_day=2013-01-31/`; empty where there are no partitions.
pub(crate) fn directory(values: &[(String, Option<String>)]) -> String {
    let mut path = String::new();
    for (name, value) in values {
        escape(name, &mut path);
        path.push('=');
        match value {
            Some(value) => escape(value, &mut path),
            None => path.push_str(NULL_DIRECTORY),
        }
        path.push('/');
    }
    path
}

/// Why a column of this type cannot be partitioned by, if it cannot.
pub(crate) fn refusal(transform: PartitionTransform, data_type: &DataType) -> Option<String> {
    let is_time = match data_type {
        DataType::Date32 | DataType::Date64 => true,
        DataType::Timestamp(_, zone) => {
            if let Some(zone) = zone.as_deref().filter(|zone| !is_utc(zone)) {
                return Some(format!("is in the time zone `{zone}`; days begin in UTC, so cast it to `TIMESTAMPTZ`"));
            }
            true
        }
        _ => false,
    };
    match transform {
        PartitionTransform::Identity => match data_type {
            DataType::Dictionary(_, values) => refusal(transform, values),
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Boolean | DataType::Date32 => None,
            whole if whole.is_integer() => None,
            DataType::Timestamp(..) => Some("is a timestamp; write `day(…)`, `hour(…)` or `month(…)` of it".to_owned()),
            other => Some(format!("has the type `{other}`; text, whole numbers, Booleans and dates can be partitions")),
        },
        _ if is_time => None,
        _ => Some(format!("has the type `{data_type}`; `day`, `hour` and `month` need a timestamp or a date")),
    }
}

fn is_utc(zone: &str) -> bool {
    matches!(zone, "UTC" | "utc" | "Z" | "Etc/UTC" | "+00:00" | "+0000" | "+00")
}

/// What is compared from row to row: the value itself, or a number of days, hours or months since 1970.
fn key(column: &ArrayRef, transform: PartitionTransform) -> Result<ArrayRef> {
    let key: ArrayRef = match transform {
        PartitionTransform::Identity => match column.data_type() {
            DataType::Dictionary(_, values) => cast(column, values)?,
            _ => Arc::clone(column),
        },
        PartitionTransform::Day => Arc::new(since_1970(column, SECONDS_PER_DAY)?),
        PartitionTransform::Hour => Arc::new(since_1970(column, 3_600)?),
        PartitionTransform::Month => {
            let days = since_1970(column, SECONDS_PER_DAY)?;
            Arc::new(days.unary::<_, arrow::datatypes::Int64Type>(|day| {
                let (year, month, _) = civil(day);
                (year - 1970) * 12 + month - 1
            }))
        }
    };
    Ok(key)
}

/// Whole units of `seconds` since 1970, rounded down.
fn since_1970(column: &ArrayRef, seconds: i64) -> Result<Int64Array> {
    let units = match column.data_type() {
        DataType::Date32 => {
            let per_day = SECONDS_PER_DAY / seconds;
            column.as_primitive::<Date32Type>().unary(|day| i64::from(day) * per_day)
        }
        DataType::Date64 => column.as_primitive::<Date64Type>().unary(|at| at.div_euclid(seconds * 1_000)),
        DataType::Timestamp(TimeUnit::Second, _) => {
            column.as_primitive::<TimestampSecondType>().unary(|at| at.div_euclid(seconds))
        }
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            column.as_primitive::<TimestampMillisecondType>().unary(|at| at.div_euclid(seconds * 1_000))
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            column.as_primitive::<TimestampMicrosecondType>().unary(|at| at.div_euclid(seconds * 1_000_000))
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            column.as_primitive::<TimestampNanosecondType>().unary(|at| at.div_euclid(seconds * 1_000_000_000))
        }
        other => return Err(Error::Internal { message: format!("`{other}` has no day to partition by") }),
    };
    Ok(units)
}

fn value_text(key: &ArrayRef, row: usize, transform: PartitionTransform) -> Result<Option<String>> {
    if key.is_null(row) {
        return Ok(None);
    }
    if transform == PartitionTransform::Identity {
        let text = match key.data_type() {
            DataType::Date32 => day_text(i64::from(key.as_primitive::<Date32Type>().value(row))),
            _ => ArrayFormatter::try_new(key, &FormatOptions::default())?.value(row).try_to_string()?,
        };
        return Ok(Some(text));
    }
    let number = key.as_primitive::<arrow::datatypes::Int64Type>().value(row);
    Ok(Some(match transform {
        PartitionTransform::Month => format!("{:04}-{:02}", 1970 + number.div_euclid(12), number.rem_euclid(12) + 1),
        PartitionTransform::Hour => format!("{}-{:02}", day_text(number.div_euclid(24)), number.rem_euclid(24)),
        PartitionTransform::Day | PartitionTransform::Identity => day_text(number),
    }))
}

fn day_text(day: i64) -> String {
    let (year, month, day) = civil(day);
    format!("{year:04}-{month:02}-{day:02}")
}

/// Year, month and day of a number of days since 1970 in the proleptic Gregorian calendar, by Howard Hinnant's
/// `civil_from_days`: exact for every day that a timestamp can hold, where `chrono` ends at the year 262,143.
fn civil(day: i64) -> (i64, i64, i64) {
    let day = day + 719_468;
    let era = day.div_euclid(146_097);
    let day_of_era = day.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day_of_year - (153 * shifted + 2) / 5 + 1)
}

/// Percent-encodes what Hive and Spark do (`FileUtils.escapePathName`), and nothing else: readers undo just that.
pub(crate) fn escape(text: &str, path: &mut String) {
    for c in text.chars() {
        let is_escaped = c.is_ascii_control()
            || matches!(c, '"' | '#' | '%' | '\'' | '*' | '/' | ':' | '=' | '?' | '\\' | '{' | '[' | ']' | '^');
        if is_escaped {
            // Writing to a string cannot fail.
            write!(path, "%{:02X}", u32::from(c)).ok();
        } else {
            path.push(c);
        }
    }
}

/// Dates as a partition column of a reader has them: kept for the Delta log, whose partition columns are typed.
#[cfg(feature = "delta")]
pub(crate) fn column_type(field: &PartitionField, schema: &Schema) -> DataType {
    match field.transform {
        PartitionTransform::Day => DataType::Date32,
        PartitionTransform::Month | PartitionTransform::Hour => DataType::Utf8,
        PartitionTransform::Identity => {
            let data_type = schema.field_with_name(&field.column).map(|column| column.data_type().clone());
            match data_type {
                Ok(DataType::Dictionary(_, values)) => *values,
                Ok(other) => other,
                Err(_) => DataType::Utf8,
            }
        }
    }
}

#[cfg(test)]
mod tests;
