//! The statistics of one group: of all its rows, of those of a window that slides, of the numbers that are distinct.

use std::collections::HashSet;
use std::mem::size_of_val;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array};
use datafusion::common::utils::SingleRowListArrayBuilder;
use datafusion::common::{Result, ScalarValue, internal_datafusion_err, internal_err};
use datafusion::logical_expr::Accumulator;

use super::binned::{Binned, Revocable};
use super::groups::{Rows, decoded};
use super::moments::{First, Moments, Second, Statistic};

/// A statistic of all rows.
#[derive(Debug)]
pub(super) struct Whole<const K: usize, const N: usize> {
    statistic: Statistic,
    moments: Moments<Binned<K>, N>,
}

impl<const K: usize, const N: usize> Whole<K, N> {
    pub(super) fn new(statistic: Statistic) -> Self {
        Self { statistic, moments: Moments::default() }
    }
}

impl<const K: usize, const N: usize> Accumulator for Whole<K, N> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        Rows::new(values, None)?.each(|_, x, y| self.moments.add(x, y));
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Float64(self.moments.value(self.statistic)))
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let mut bytes = Vec::with_capacity(Moments::<Binned<K>, N>::BYTES);
        self.moments.encode(&mut bytes);
        let size = i32::try_from(bytes.len()).map_err(|error| internal_datafusion_err!("{error}"))?;
        Ok(vec![ScalarValue::FixedSizeBinary(size, Some(bytes))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        decoded(states)?.try_for_each(|state| {
            self.moments.merge(&state?);
            Ok(())
        })
    }
}

/// A statistic of the rows of a window that slides. It has no state: windows are not cut in two.
#[derive(Debug)]
pub(super) struct Sliding<const K: usize, const N: usize> {
    statistic: Statistic,
    moments: Moments<Revocable<K>, N>,
}

impl<const K: usize, const N: usize> Sliding<K, N> {
    pub(super) fn new(statistic: Statistic) -> Self {
        Self { statistic, moments: Moments::default() }
    }
}

impl<const K: usize, const N: usize> Accumulator for Sliding<K, N> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        Rows::new(values, None)?.each(|_, x, y| self.moments.add(x, y));
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        Rows::new(values, None)?.each(|_, x, y| self.moments.remove(x, y));
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Float64(self.moments.value(self.statistic)))
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        internal_err!("a window that slides has no state")
    }

    fn merge_batch(&mut self, _: &[ArrayRef]) -> Result<()> {
        internal_err!("windows that slide are not merged")
    }
}

/// A statistic of the numbers of one column that are distinct, by their bits.
#[derive(Debug)]
pub(super) struct Distinct {
    statistic: Statistic,
    seen: HashSet<u64>,
}

impl Distinct {
    pub(super) fn new(statistic: Statistic) -> Self {
        Self { statistic, seen: HashSet::new() }
    }

    fn add(&mut self, values: &ArrayRef) -> Result<()> {
        Rows::new(std::slice::from_ref(values), None)?.each(|_, x, _| {
            self.seen.insert(x.to_bits());
        });
        Ok(())
    }

    fn values(&self) -> impl Iterator<Item = f64> {
        self.seen.iter().map(|bits| f64::from_bits(*bits))
    }
}

impl Accumulator for Distinct {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        values.first().map_or(Ok(()), |values| self.add(values))
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let value = match self.statistic {
            Statistic::Sum | Statistic::Average => {
                let mut moments = First::default();
                self.values().for_each(|value| moments.add(value, value));
                moments.value(self.statistic)
            }
            _ => {
                let mut moments = Second::default();
                self.values().for_each(|value| moments.add(value, value));
                moments.value(self.statistic)
            }
        };
        Ok(ScalarValue::Float64(value))
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.seen.capacity() * size_of::<u64>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let mut bits: Vec<u64> = self.seen.iter().copied().collect();
        bits.sort_unstable();
        let values = Float64Array::from_iter_values(bits.into_iter().map(f64::from_bits));
        Ok(vec![SingleRowListArrayBuilder::new(Arc::new(values)).build_list_scalar()])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let lists = states.first().and_then(|states| states.as_list_opt::<i32>());
        let lists = lists.ok_or_else(|| internal_datafusion_err!("the state of a statistic is missing"))?;
        lists.iter().flatten().try_for_each(|values| self.add(&values))
    }
}
