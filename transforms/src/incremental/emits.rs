//! What a set that emits rows once they are final keeps from epoch to epoch, and how it makes its rows of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::compute::{cast, max, min};
use arrow::datatypes::{DataType, Int64Type, SchemaRef};
use async_trait::async_trait;
use datafusion::error::Result as EngineResult;
use datafusion::execution::SessionState;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::streaming::PartitionStream;

use super::resident::{Lookup, SegmentRows};
use crate::Result;

/// Rows with a time from one value on to before another, in ticks of its type; without an end all that are left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Between {
    /// Rows with less were emitted before.
    pub from: Option<i64>,
    /// Rows with as much are not final yet.
    pub to: Option<i64>,
}

impl Between {
    /// Rows that are not emitted where those below `closed` are.
    pub fn open(closed: Option<i64>) -> Self {
        Self { from: closed, to: None }
    }
}

/// The least and the greatest time of what is kept together, in ticks of its type.
pub type Range = (i64, i64);

/// That of a column of times.
pub(super) fn range_of(times: &ArrayRef) -> EngineResult<Option<Range>> {
    let ticks = cast(times, &DataType::Int64)?;
    let ticks = ticks.as_primitive::<Int64Type>();
    Ok(min(ticks).zip(max(ticks)))
}

/// A set that emits rows as watermarks pass. It keeps segments of one or several inputs, each in an order of its own; a
/// segment is what one epoch read, or several of them merged.
#[async_trait]
pub trait Emits: Debug + Send + Sync {
    /// The sources whose watermarks count.
    fn sources(&self) -> Vec<&str>;

    /// The tables that rows were looked up in before they were kept.
    fn tables(&self) -> &BTreeSet<String>;

    /// What the columns of segments mean: another text is another state.
    fn signature(&self) -> String;

    /// The columns of the segments of each input.
    fn states(&self) -> Vec<&SchemaRef>;

    /// The time before which all rows of the set are final, where the watermarks of the sources are at `watermarks`,
    /// microseconds since 1970, UTC: `i64::MAX` once nothing comes any more. `None` as long as one of them is not known.
    ///
    /// # Errors
    /// The engine's, where it cannot compute the time.
    fn limit(&self, watermarks: &BTreeMap<&str, i64>) -> Result<Option<i64>>;

    /// The range of `rows` of a segment; nothing where none of them has a time.
    ///
    /// # Errors
    /// Where they are not rows of a segment.
    fn range(&self, input: usize, rows: &RecordBatch) -> Result<Option<Range>>;

    /// Whether rows of such a segment may have a part in rows of the set that are `between`.
    fn concerns(&self, input: usize, range: Range, between: Between) -> bool;

    /// Whether such a segment is of no use once rows before `closed` are emitted.
    fn is_spent(&self, input: usize, range: Range, closed: i64) -> bool;

    /// Whether such a segment, newly read, should have been known when rows before `closed` were emitted.
    fn is_late(&self, input: usize, range: Range, closed: i64) -> bool;

    /// Whether other rows than its own time say how long a row is kept: then any segment may be needed.
    fn depends_on_others(&self, _input: usize) -> bool {
        false
    }

    /// By what rows of an input are looked up, where those that have a part in some rows of the set can be found by that.
    fn lookup(&self, _input: usize) -> Option<&Lookup> {
        None
    }

    /// Whether rows that are `between` have so small a part in `segments`, of which the input, the range and the number of
    /// rows are given, that it is worth to hold these in memory and to look up what is needed.
    fn is_narrow(&self, _segments: &[(usize, Range, u64)], _between: Between) -> bool {
        false
    }

    /// The plan of a segment of what the scans of `session` read now.
    async fn absorb(&self, session: &SessionState, input: usize) -> Result<Arc<dyn ExecutionPlan>>;

    /// The plan of one segment with what is needed of `segments` once rows before `closed` are emitted. Beside them there
    /// are others, whose greatest time is `beside`.
    async fn merge(
        &self,
        session: &SessionState,
        input: usize,
        segments: Vec<Arc<dyn PartitionStream>>,
        closed: Option<i64>,
        beside: Option<i64>,
    ) -> Result<Arc<dyn ExecutionPlan>>;

    /// The plan of the set's rows that are `between`, of the `segments` of each input.
    async fn emit(
        &self,
        session: &SessionState,
        segments: Vec<Vec<SegmentRows>>,
        between: Between,
    ) -> Result<Arc<dyn ExecutionPlan>>;
}

#[cfg(test)]
mod tests;
