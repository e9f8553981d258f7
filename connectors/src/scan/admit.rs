//! Which decoded rows the queries see: NOT NULL holds, and the event time is there, not impossible and not late. Decided
//! on every row, whatever the query reads.

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch};
use arrow::compute::{cast, max, min};
use arrow::datatypes::{
    Int64Type, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
};
use arrow_schema::{DataType, TimeUnit};
use bessemer_schemas::{RejectReason, SourceLedger};

use super::lateness::{LateFloor, Lateness, is_dropped};
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
    pub(crate) newest: Option<i64>,
}

impl Verdict {
    /// Counts the rows of a batch of a source, but for its records, into `ledger`.
    pub(crate) fn count(&self, rows: usize, lateness: Option<Lateness>, ledger: &mut SourceLedger) {
        let (mut bad_times, mut late, mut dropped) = (0, 0, 0);
        for refusal in &self.refused {
            bad_times += u64::from(refusal.is_bad_event_time());
            late += u64::from(refusal.is_late());
            dropped += u64::from(is_dropped(lateness, refusal.reason));
        }
        let (rows, refused) = (rows as u64, self.refused.len() as u64);
        let undecodable = refused - bad_times - late;
        ledger.undecodable += undecodable;
        ledger.decoded += rows - undecodable;
        ledger.bad_event_time += bad_times;
        ledger.late += late;
        ledger.late_dropped += dropped;
        ledger.admitted += rows - refused;
    }
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

    /// Whether the row is as good as others, and only came too late.
    pub(crate) fn is_late(&self) -> bool {
        self.reason == RejectReason::Late
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
    /// Judges a batch. An event time beyond `latest` is impossible, one below `floor` late; the rows raise that as they
    /// pass.
    pub(crate) fn judge(&self, batch: &RecordBatch, latest: Latest<'_>, floor: &mut LateFloor) -> Result<Verdict> {
        let times = match &self.event_time {
            Some((column, _)) => Some((*column, event_times(batch.column(*column))?)),
            None => None,
        };
        let faults = self.faults(batch, times.as_ref(), latest);
        let (refused, newest) = match &times {
            None => (faults, None),
            Some((column, times)) => times.pass(faults, *column, floor),
        };
        let keep = (!refused.is_empty()).then(|| {
            let mut keep = vec![true; batch.num_rows()];
            for refusal in &refused {
                keep[refusal.row] = false;
            }
            BooleanArray::from(keep)
        });
        Ok(Verdict { keep, refused, newest })
    }

    /// The rows that are wrong, whichever came before them.
    fn faults(&self, batch: &RecordBatch, times: Option<&(usize, EventTimes)>, latest: Latest<'_>) -> Vec<Refusal> {
        // The common case, by kernels alone.
        let has_null = |column: &usize| batch.column(*column).logical_null_count() > 0;
        let checked = self.not_null.iter().map(|(column, _)| column);
        if !checked.chain(times.map(|(column, _)| column)).any(has_null) {
            let newest = times.and_then(|(_, times)| Some((times, max(times.values())?)));
            if newest.is_none_or(|(times, newest)| newest <= times.limit(latest.earliest())) {
                return Vec::new();
            }
        }
        let mut faults = Vec::new();
        for row in 0..batch.num_rows() {
            let null = self.not_null.iter().find(|(column, _)| batch.column(*column).is_null(row));
            let fault = match (null, times) {
                (Some((column, _)), _) => Some((RejectReason::NullInNotNull, *column)),
                (None, Some((column, times))) if times.array.is_null(row) => {
                    Some((RejectReason::NullEventTime, *column))
                }
                (None, Some((column, times))) if times.value(row) > times.limit(latest.of(row)) => {
                    Some((RejectReason::EventTimeAhead, *column))
                }
                (None, _) => None,
            };
            faults.extend(fault.map(|(reason, column)| Refusal { row, reason, column }));
        }
        faults
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
        const MICROS_PER_SECOND: i64 = 1_000_000;
        match self.per_second {
            ..=MICROS_PER_SECOND => value.saturating_mul(MICROS_PER_SECOND / self.per_second),
            _ => value.div_euclid(self.per_second / MICROS_PER_SECOND),
        }
    }

    /// Lets the rows without `faults` pass one after another: all that are refused, and the newest of the others. The
    /// times stand in `column`.
    fn pass(&self, faults: Vec<Refusal>, column: usize, floor: &mut LateFloor) -> (Vec<Refusal>, Option<i64>) {
        let times = self.values();
        // The common case: not even the oldest row is late against the newest, wherever they stand.
        if faults.is_empty()
            && let (Some(oldest), Some(newest)) = (min(times), max(times))
        {
            let newest = self.micros(newest);
            let after = floor.after(newest);
            if !after.is_late(self.micros(oldest)) {
                *floor = after;
                return (faults, Some(newest));
            }
        }
        let (mut refused, mut newest) = (Vec::new(), None);
        let mut faults = faults.into_iter().peekable();
        for (row, value) in times.values().iter().enumerate() {
            if let Some(fault) = faults.next_if(|fault| fault.row == row) {
                refused.push(fault);
                continue;
            }
            let time = self.micros(*value);
            if floor.is_late(time) {
                refused.push(Refusal { row, reason: RejectReason::Late, column });
            } else {
                *floor = floor.after(time);
                newest = newest.max(Some(time));
            }
        }
        (refused, newest)
    }

    /// `micros` in the unit of the event times: rounded up, and never beyond what the unit can hold.
    fn limit(&self, micros: i64) -> i64 {
        let scaled = (i128::from(micros) * i128::from(self.per_second)).div_euclid(1_000_000);
        i64::try_from(scaled).unwrap_or(if scaled > 0 { i64::MAX } else { i64::MIN })
    }
}

/// Event times in microseconds since 1970, UTC, rounded down.
pub(crate) fn event_micros(array: &ArrayRef) -> Result<Vec<Option<i64>>> {
    let times = event_times(array)?;
    Ok(times.values().iter().map(|value| value.map(|value| times.micros(value))).collect())
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

    use arrow::array::{Date32Array, TimestampMicrosecondArray, TimestampMillisecondArray, TimestampNanosecondArray};
    use bessemer_schemas::OnLate;
    use proptest::prelude::*;

    use super::*;

    fn check(times: ArrayRef, ids: Vec<Option<i64>>, expected: &[(usize, RejectReason)], newest: Option<i64>) {
        let ids: ArrayRef = Arc::new(Int64Array::from(ids));
        let batch = RecordBatch::try_from_iter_with_nullable([("t", times, true), ("id", ids, true)]).unwrap();
        let admission = Admission { not_null: vec![(1, "id".to_owned())], event_time: Some((0, "t".to_owned())) };
        let verdict = admission.judge(&batch, Latest::Of(2_000_000), &mut LateFloor::at(None)).unwrap();
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

    fn times_alone() -> Admission {
        Admission { not_null: Vec::new(), event_time: Some((0, "t".to_owned())) }
    }

    #[test]
    fn row_before_the_floor_is_late_after_its_other_faults() {
        let times: ArrayRef = Arc::new(TimestampNanosecondArray::from(vec![Some(999), Some(1_000), None, Some(-1)]));
        let ids: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), Some(1), Some(1), None]));
        let batch = RecordBatch::try_from_iter_with_nullable([("t", times, true), ("id", ids, true)]).unwrap();
        let admission = Admission { not_null: vec![(1, "id".to_owned())], ..times_alone() };
        let verdict = admission.judge(&batch, Latest::Of(9), &mut LateFloor::at(Some(1))).unwrap();
        let found: Vec<_> = verdict.refused.iter().map(|refusal| (refusal.row, refusal.reason)).collect();
        let (late, null) = (RejectReason::Late, RejectReason::NullEventTime);
        assert_eq!(found, [(0, late), (2, null), (3, RejectReason::NullInNotNull)]);
        assert_eq!(verdict.newest, Some(1));
        for (on_late, dropped) in [(OnLate::Quarantine, 0), (OnLate::Drop, 1)] {
            let mut ledger = SourceLedger::default();
            verdict.count(4, Some(Lateness { delay: 0, on_late }), &mut ledger);
            let counts = (ledger.decoded, ledger.undecodable, ledger.bad_event_time, ledger.late, ledger.admitted);
            assert_eq!((counts, ledger.late_dropped), ((3, 1, 1, 1, 1), dropped));
        }
    }

    /// Which rows are refused, one after another, and the newest of the others.
    fn naive(times: &[Option<i64>], latest: i64, before: Option<i64>, delay: i64) -> (Vec<Refusal>, Option<i64>) {
        let (mut refused, mut newest) = (Vec::new(), None::<i64>);
        for (row, time) in times.iter().enumerate() {
            let reason = match *time {
                None => RejectReason::NullEventTime,
                Some(time) if time > latest => RejectReason::EventTimeAhead,
                Some(time) if newest.is_some_and(|newest| time < newest - delay) => RejectReason::Late,
                Some(time) if before.is_some_and(|before| time < before) => RejectReason::Late,
                Some(time) => {
                    newest = newest.max(Some(time));
                    continue;
                }
            };
            refused.push(Refusal { row, reason, column: 0 });
        }
        (refused, newest)
    }

    proptest! {
        #[test]
        fn rows_of_a_partition_are_late_as_one_after_another_says_however_they_are_cut_into_batches(
            steps in prop::collection::vec((-30..40_i64, 0..100_u32), 0..200),
            before in prop::option::of(-50..100_i64),
            delay in prop_oneof![Just(0), 0..60_i64, Just(10_000)],
            batch_rows in 1..70_usize,
            in_millis in any::<bool>(),
        ) {
            let scale = if in_millis { 1_000 } else { 1 };
            let (latest, before, delay) = (700 * scale, before.map(|at| at * scale), delay * scale);
            let mut now = 0;
            let times: Vec<Option<i64>> = steps
                .iter()
                .map(|(step, kind)| {
                    now += step;
                    match kind {
                        0 => None,
                        1 => Some(latest + 1_000),
                        2..10 => Some((now - 100) * scale),
                        _ => Some(now * scale),
                    }
                })
                .collect();
            let mut floor = LateFloor::following(before, delay);
            let (mut refused, mut newest, mut row) = (Vec::new(), None, 0);
            for batch in times.chunks(batch_rows) {
                let array: ArrayRef = if in_millis {
                    Arc::new(batch.iter().map(|at| at.map(|at| at / 1_000)).collect::<TimestampMillisecondArray>())
                } else {
                    Arc::new(batch.iter().copied().collect::<TimestampMicrosecondArray>())
                };
                let batch = RecordBatch::try_from_iter_with_nullable([("t", array, true)]).unwrap();
                let verdict = times_alone().judge(&batch, Latest::Of(latest), &mut floor).unwrap();
                let keep = verdict.keep.map_or(batch.num_rows(), |keep| keep.true_count());
                prop_assert_eq!(keep, batch.num_rows() - verdict.refused.len());
                refused.extend(verdict.refused.iter().map(|refusal| Refusal { row: row + refusal.row, ..*refusal }));
                newest = newest.max(verdict.newest);
                row += batch.num_rows();
            }
            prop_assert_eq!((refused, newest), naive(&times, latest, before, delay));
        }
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
