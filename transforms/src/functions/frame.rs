//! Functions over a frame that moves: what leaves it is forgotten, and not subtracted, which would lose digits for good.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::mem::size_of;

use arrow::array::{Array, ArrayRef};
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::logical_expr::Accumulator;

/// A function of the rows of a frame.
pub(super) trait OfFrame: Debug + Send + Sync + 'static {
    /// What it keeps of a row.
    type Row: Debug + Copy + Send + Sync;

    /// The rows of a batch of its arguments; nothing of those that it leaves out.
    fn rows(&self, columns: &[ArrayRef]) -> Vec<Option<Self::Row>>;

    fn value(&self, rows: impl Iterator<Item = Self::Row> + Clone) -> Option<f64>;
}

/// The rows that are in the frame.
#[derive(Debug)]
pub(super) struct Sliding<F: OfFrame> {
    function: F,
    frame: VecDeque<Option<F::Row>>,
}

impl<F: OfFrame> Sliding<F> {
    pub(super) fn new(function: F) -> Self {
        Self { function, frame: VecDeque::new() }
    }
}

impl<F: OfFrame> Accumulator for Sliding<F> {
    fn update_batch(&mut self, columns: &[ArrayRef]) -> Result<()> {
        self.frame.extend(self.function.rows(columns));
        Ok(())
    }

    fn retract_batch(&mut self, columns: &[ArrayRef]) -> Result<()> {
        self.frame.drain(..columns[0].len().min(self.frame.len()));
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn merge_batch(&mut self, _states: &[ArrayRef]) -> Result<()> {
        internal_err!("a frame is not merged")
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        internal_err!("a frame is not merged")
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Float64(self.function.value(self.frame.iter().flatten().copied())))
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.frame.capacity() * size_of::<Option<F::Row>>()
    }
}
