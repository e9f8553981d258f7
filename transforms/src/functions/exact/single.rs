//! The statistics of one group: of all its rows, of those of a frame that moves, of the numbers that are distinct.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array};
use arrow::datatypes::Float64Type;
use datafusion::common::utils::SingleRowListArrayBuilder;
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::Accumulator;

use super::groups::{Rows, States, damaged, states};
use super::moments::{Moments, Wides};
use super::statistic::Statistic;

/// A statistic of all rows, or of those of a frame.
#[derive(Debug)]
pub(super) struct Single<const P: usize, const S: usize, const X: usize> {
    statistic: Statistic,
    moments: Moments<P, S, X>,
    wides: Wides,
}

impl<const P: usize, const S: usize, const X: usize> Single<P, S, X> {
    pub(super) fn new(statistic: Statistic) -> Self {
        Self { statistic, moments: Moments::default(), wides: Wides::default() }
    }

    /// Adds the numbers of one column of which sums are kept, and of nothing else.
    fn add_all(&mut self, numbers: &[f64]) {
        self.moments.add_all(numbers, |at, left| self.wides.add(0, at, left));
    }
}

impl<const P: usize, const S: usize, const X: usize> Accumulator for Single<P, S, X> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let rows = Rows::new(values, None)?;
        if P == 1 && S == 0 {
            match &rows.valid {
                None => self.add_all(rows.x),
                Some(valid) => valid.valid_slices().for_each(|(start, end)| self.add_all(&rows.x[start..end])),
            }
            return Ok(());
        }
        rows.each(rows.x, |_, x, y| self.moments.add(x, y, |at, left| self.wides.add(0, at, left)));
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let rows = Rows::new(values, None)?;
        rows.each(rows.x, |_, x, y| self.moments.remove(x, y, |at, left| self.wides.remove(0, at, left)));
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Float64(self.moments.totals(0, &self.wides).value(self.statistic)))
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.wides.size()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let columns = states(&mut [self.moments], &self.wides);
        columns.iter().map(|column| ScalarValue::try_from_array(column, 0)).collect()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let states = States::new(states)?;
        (0..states.len()).try_for_each(|row| states.merge(row, 0, &mut self.moments, &mut self.wides))
    }
}

/// A statistic of the numbers of one column that are distinct: the engine knows which, and this is computed from them.
#[derive(Debug)]
pub(super) struct Distinct<const S: usize> {
    pub(super) engines: Box<dyn Accumulator>,
    pub(super) statistic: Statistic,
}

impl<const S: usize> Distinct<S> {
    /// The numbers, in the order of their bits.
    fn numbers(&mut self) -> Result<ArrayRef> {
        let state = self.engines.state()?;
        let [ScalarValue::List(list)] = state.as_slice() else { return Err(damaged()) };
        let list = list.values().as_primitive_opt::<Float64Type>().ok_or_else(damaged)?;
        let mut bits: Vec<u64> = list.values().iter().map(|number| number.to_bits()).collect();
        bits.sort_unstable();
        Ok(Arc::new(Float64Array::from_iter_values(bits.into_iter().map(f64::from_bits))))
    }
}

impl<const S: usize> Accumulator for Distinct<S> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.engines.update_batch(values)
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.engines.merge_batch(states)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![SingleRowListArrayBuilder::new(self.numbers()?).build_list_scalar()])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let mut whole = Single::<1, S, 0>::new(self.statistic);
        whole.update_batch(&[self.numbers()?])?;
        whole.evaluate()
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.engines.size()
    }
}
