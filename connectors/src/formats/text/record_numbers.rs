//! The numbers of a batch's records, as runs: one run, mostly.

use std::ops::Range;

use arrow::array::UInt64Array;

/// For each row of a batch the number of its record in the object, from 0. Rejected records have a number, blank
/// lines, comments and headers have none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecordNumbers {
    runs: Vec<Range<u64>>,
}

impl RecordNumbers {
    /// The runs of consecutive numbers, ascending.
    pub fn runs(&self) -> &[Range<u64>] {
        &self.runs
    }

    /// The number of each row.
    pub fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        self.runs.iter().cloned().flatten()
    }

    /// How many rows.
    pub fn len(&self) -> u64 {
        self.runs.iter().map(|run| run.end - run.start).sum()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// The number of each row, as a column.
    pub fn to_array(&self) -> UInt64Array {
        UInt64Array::from_iter_values(self.iter())
    }

    pub(super) fn push(&mut self, number: u64) {
        match self.runs.last_mut() {
            Some(run) if run.end == number => run.end += 1,
            _ => self.runs.push(number..number + 1),
        }
    }
}
