//! Event times of records: which make no row, and the newest of the others.

use bessemer_schemas::RejectReason;

use super::column::Column;
use super::fault::Fault;
use crate::{Error, Result};

/// What event times must be to make a row. Times are microseconds since 1970, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventTimeBounds {
    /// A later one is impossible.
    pub latest: i64,
    /// A record with an earlier one is late.
    pub late_before: Option<i64>,
    /// Whether late records are counted, but not among the rejects that are taken.
    pub drops_late: bool,
}

impl EventTimeBounds {
    /// Every time that is possible.
    pub fn until(latest: i64) -> Self {
        Self { latest, late_before: None, drops_late: false }
    }
}

/// What the event time of a record must be.
#[derive(Debug, Clone, Copy)]
pub(super) struct EventTime {
    column: usize,
    /// The first one that is not late, in the column's unit.
    first: i128,
    /// The last possible one, in the column's unit.
    latest: i64,
    pub(super) drops_late: bool,
    /// The newest one of the object's rows so far.
    pub(super) newest: Option<i64>,
}

impl EventTime {
    /// What `bounds` mean for the values of a column, which must be built.
    pub(super) fn of(column: usize, columns: &[Column], bounds: EventTimeBounds) -> Result<Self> {
        let built = columns.get(column).filter(|column| column.is_built());
        let limits = built.and_then(|column| {
            let first = bounds.late_before.map_or(Some(i128::MIN), |before| column.first_time_from(before))?;
            Some((first, column.last_time_until(bounds.latest)?))
        });
        let Some((first, latest)) = limits else {
            return Err(Error::Internal { message: format!("column {column} has no event times to judge") });
        };
        Ok(Self { column, first, latest, drops_late: bounds.drops_late, newest: None })
    }

    /// The newest one so far, microseconds since 1970, UTC.
    pub(super) fn newest_micros(&self, columns: &[Column]) -> Option<i64> {
        let column = columns.get(self.column)?;
        self.newest.map(|newest| column.time_micros(newest))
    }

    /// Judges the row that was appended last.
    pub(super) fn judge(&mut self, columns: &[Column]) -> Result<(), Fault> {
        let Some(column) = columns.get(self.column) else { return Ok(()) };
        match column.last_time() {
            None => Err(column.fault(RejectReason::NullEventTime)),
            Some(time) if time > self.latest => Err(column.fault(RejectReason::EventTimeAhead)),
            Some(time) if i128::from(time) < self.first => Err(column.fault(RejectReason::Late)),
            Some(time) => {
                self.newest = self.newest.max(Some(time));
                Ok(())
            }
        }
    }
}
