//! Which decoded rows the queries see: NOT NULL holds, and the event time is there and not impossible. Decided on every
//! row, whatever the query reads.

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch};
use arrow::compute::{cast, max};
use arrow::datatypes::{
    Int64Type, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
};
use arrow_schema::{DataType, TimeUnit};
use bessemer_schemas::RejectReason;

use crate::Result;

/// The checks of a source, over the columns that a scan reads.
#[derive(Debug, Clone, Default)]
pub(crate) struct Admission {
    /// Index and name of columns that may not be null; empty where the decoder checks that.
    pub(crate) not_null: Vec<(usize, String)>,
    /// Index and name of the event-time column.
    pub(crate) event_time: Option<(usize, String)>,
}

/// What was found of a batch.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    /// Which rows pass; `None` if all do.
    pub(crate) keep: Option<BooleanArray>,
    /// The others, ascending.
    pub(crate) refused: Vec<Refusal>,
    /// The newest event time of those that pass, microseconds since 1970, UTC.
    #[cfg_attr(
        not(any(feature = "kafka", test)),
        expect(dead_code, reason = "only of partitions of topics it is told how new they are")
    )]
    pub(crate) newest: Option<i64>,
}

/// A row that does not pass, for the first of its reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// Index in the batch.
    pub(crate) row: usize,
    /// Why.
    pub(crate) reason: RejectReason,
    /// Which column is at fault, in [`Admission`]'s numbering.
    pub(crate) column: usize,
}

impl Refusal {
    /// Whether the row was decoded, and only its event time is bad.
    pub(crate) fn is_bad_event_time(&self) -> bool {
        matches!(self.reason, RejectReason::NullEventTime | RejectReason::EventTimeAhead)
    }
}

/// The last event time that is possible, microseconds since 1970, UTC.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Latest<'a> {
    /// For all rows of a batch: they are of one file.
    Of(i64),
    /// For each row: each record has a timestamp of its own.
    #[cfg_attr(not(feature = "kafka"), expect(dead_code, reason = "only records of a stream have times of their own"))]
    OfEach(&'a [i64]),
}

impl Latest<'_> {
    fn of(self, row: usize) -> i64 {
        match self {
            Self::Of(latest) => latest,
            Self::OfEach(rows) => rows.get(row).copied().unwrap_or(i64::MAX),
        }
    }

    /// The one before which every row's event time is possible.
    fn earliest(self) -> i64 {
        match self {
            Self::Of(latest) => latest,
            Self::OfEach(rows) => rows.iter().copied().min().unwrap_or(i64::MAX),
        }
    }
}

impl Admission {
    /// Judges a batch. An event time beyond `latest` is impossible.
    pub(crate) fn judge(&self, batch: &RecordBatch, latest: Latest<'_>) -> Result<Verdict> {
        let times = match &self.event_time {
            Some((column, _)) => Some((*column, event_times(batch.column(*column))?)),
            None => None,
        };
        // The common case, by kernels alone.
        let has_null = |column: &usize| batch.column(*column).logical_null_count() > 0;
        if !self.not_null.iter().map(|(column, _)| column).chain(times.iter().map(|(column, _)| column)).any(has_null) {
            let newest = times.as_ref().and_then(|(_, times)| Some((times, max(times.values())?)));
            if newest.is_none_or(|(times, newest)| newest <= times.limit(latest.earliest())) {
                let newest = newest.map(|(times, newest)| times.micros(newest));
                return Ok(Verdict { newest, ..Verdict::default() });
            }
        }
        let mut refused = Vec::new();
        let mut newest = None;
        for row in 0..batch.num_rows() {
            let null = self.not_null.iter().find(|(column, _)| batch.column(*column).is_null(row));
            let fault = match (null, &times) {
                (Some((column, _)), _) => Some((RejectReason::NullInNotNull, *column)),
                (None, Some((column, times))) if times.array.is_null(row) => {
                    Some((RejectReason::NullEventTime, *column))
                }
                (None, Some((column, times))) if times.value(row) > times.limit(latest.of(row)) => {
                    Some((RejectReason::EventTimeAhead, *column))
                }
                (None, Some((_, times))) => {
                    newest = newest.max(Some(times.micros(times.value(row))));
                    None
                }
                (None, None) => None,
            };
            refused.extend(fault.map(|(reason, column)| Refusal { row, reason, column }));
        }
        let mut keep = vec![true; batch.num_rows()];
        for refusal in &refused {
            keep[refusal.row] = false;
        }
        Ok(Verdict { keep: (!refused.is_empty()).then(|| BooleanArray::from(keep)), refused, newest })
    }
}

/// Event times as numbers in their own unit.
struct EventTimes {
    array: ArrayRef,
    per_second: i64,
}

impl EventTimes {
    fn values(&self) -> &Int64Array {
        self.array.as_primitive::<Int64Type>()
    }

    fn value(&self, row: usize) -> i64 {
        self.values().value(row)
    }

    /// A value in microseconds, rounded down.
    fn micros(&self, value: i64) -> i64 {
        let scaled = (i128::from(value) * 1_000_000).div_euclid(i128::from(self.per_second));
        i64::try_from(scaled).unwrap_or(if scaled > 0 { i64::MAX } else { i64::MIN })
    }

    /// `micros` in the unit of the event times: rounded up, and never beyond what the unit can hold.
    fn limit(&self, micros: i64) -> i64 {
        let scaled = (i128::from(micros) * i128::from(self.per_second)).div_euclid(1_000_000);
        i64::try_from(scaled).unwrap_or(if scaled > 0 { i64::MAX } else { i64::MIN })
    }
}

fn event_times(array: &ArrayRef) -> Result<EventTimes> {
    let (array, per_second): (ArrayRef, i64) = match array.data_type() {
        DataType::Timestamp(TimeUnit::Second, _) => {
            (std::sync::Arc::new(array.as_primitive::<TimestampSecondType>().reinterpret_cast::<Int64Type>()), 1)
        }
        DataType::Timestamp(TimeUnit::Millisecond, _) => (
            std::sync::Arc::new(array.as_primitive::<TimestampMillisecondType>().reinterpret_cast::<Int64Type>()),
            1_000,
        ),
        DataType::Timestamp(TimeUnit::Microsecond, _) => (
            std::sync::Arc::new(array.as_primitive::<TimestampMicrosecondType>().reinterpret_cast::<Int64Type>()),
            1_000_000,
        ),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => (
            std::sync::Arc::new(array.as_primitive::<TimestampNanosecondType>().reinterpret_cast::<Int64Type>()),
            1_000_000_000,
        ),
        // Dates.
        _ => {
            let seconds = cast(array, &DataType::Timestamp(TimeUnit::Second, None))?;
            return event_times(&seconds);
        }
    };
    Ok(EventTimes { array, per_second })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Date32Array, TimestampMillisecondArray};

    use super::*;

    fn check(times: ArrayRef, ids: Vec<Option<i64>>, expected: &[(usize, RejectReason)], newest: Option<i64>) {
        let ids: ArrayRef = Arc::new(Int64Array::from(ids));
        let batch = RecordBatch::try_from_iter_with_nullable([("t", times, true), ("id", ids, true)]).unwrap();
        let admission = Admission { not_null: vec![(1, "id".to_owned())], event_time: Some((0, "t".to_owned())) };
        let verdict = admission.judge(&batch, Latest::Of(2_000_000)).unwrap();
        let found: Vec<_> = verdict.refused.iter().map(|refusal| (refusal.row, refusal.reason)).collect();
        assert_eq!(found, expected);
        assert_eq!(verdict.newest, newest);
        assert_eq!(verdict.keep.map_or(batch.num_rows(), |keep| keep.true_count()), batch.num_rows() - expected.len());
    }

    #[test]
    fn null_and_impossible_event_times_are_refused() {
        let times = Arc::new(TimestampMillisecondArray::from(vec![Some(2_000), Some(2_001), None, Some(-5)]));
        let expected = [(1, RejectReason::EventTimeAhead), (2, RejectReason::NullEventTime)];
        check(times, vec![Some(1); 4], &expected, Some(2_000_000));
        check(Arc::new(TimestampMillisecondArray::from(vec![-7, 1_500])), vec![Some(1); 2], &[], Some(1_500_000));
    }

    #[test]
    fn null_in_not_null_comes_first() {
        let times = Arc::new(TimestampMillisecondArray::from(vec![None, Some(0)]));
        check(times, vec![None, Some(1)], &[(0, RejectReason::NullInNotNull)], Some(0));
    }

    #[test]
    fn date_is_its_midnight() {
        check(Arc::new(Date32Array::from(vec![0, 1])), vec![Some(1); 2], &[(1, RejectReason::EventTimeAhead)], Some(0));
    }
}
