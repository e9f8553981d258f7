//! The statistics of many groups at once.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, FixedSizeBinaryArray, Float64Array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::Float64Type;
use datafusion::common::{Result, internal_datafusion_err};
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};

use super::binned::Binned;
use super::moments::{Moments, Statistic};

/// One statistic of every group.
#[derive(Debug)]
pub(super) struct Groups<const K: usize, const N: usize> {
    statistic: Statistic,
    groups: Vec<Moments<Binned<K>, N>>,
}

impl<const K: usize, const N: usize> Groups<K, N> {
    pub(super) fn new(statistic: Statistic) -> Self {
        Self { statistic, groups: Vec::new() }
    }
}

/// The columns of a batch, and which of its rows count: those that have a value in each, and that the filter lets pass.
pub(super) struct Rows<'a> {
    x: &'a Float64Array,
    /// The first once more, where there is no other.
    y: &'a Float64Array,
    valid: Option<NullBuffer>,
}

impl<'a> Rows<'a> {
    pub(super) fn new(values: &'a [ArrayRef], filter: Option<&BooleanArray>) -> Result<Self> {
        let column = |at: usize| values.get(at).and_then(|column| column.as_primitive_opt::<Float64Type>());
        let x = column(0).ok_or_else(|| internal_datafusion_err!("a statistic of no column of DOUBLE"))?;
        let y = column(1).unwrap_or(x);
        let filter = filter.map(|filter| {
            let passed = filter.values().clone();
            NullBuffer::new(filter.nulls().map_or(passed.clone(), |nulls| &passed & nulls.inner()))
        });
        let valid = NullBuffer::union_many([x.nulls(), y.nulls(), filter.as_ref()]);
        Ok(Self { x, y, valid: valid.filter(|valid| valid.null_count() > 0) })
    }

    /// Calls `take` with the number of each row that counts, and its values.
    #[inline]
    pub(super) fn each(&self, mut take: impl FnMut(usize, f64, f64)) {
        let (x, y) = (self.x.values(), self.y.values());
        match &self.valid {
            None => (0..x.len()).for_each(|row| take(row, x[row], y[row])),
            Some(valid) => valid.valid_indices().for_each(|row| take(row, x[row], y[row])),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.x.len()
    }
}

/// States, as a column.
fn encoded<const K: usize, const N: usize>(states: &[Moments<Binned<K>, N>]) -> Result<ArrayRef> {
    let bytes_each = Moments::<Binned<K>, N>::BYTES;
    let mut bytes = Vec::with_capacity(states.len() * bytes_each);
    for state in states {
        state.encode(&mut bytes);
    }
    let size = i32::try_from(bytes_each).map_err(|error| internal_datafusion_err!("{error}"))?;
    Ok(Arc::new(FixedSizeBinaryArray::try_new(size, bytes.into(), None)?))
}

/// The states of a column, row by row.
pub(super) fn decoded<const K: usize, const N: usize>(
    states: &[ArrayRef],
) -> Result<impl Iterator<Item = Result<Moments<Binned<K>, N>>>> {
    let states = states.first().and_then(|states| states.as_fixed_size_binary_opt());
    let states = states.ok_or_else(|| internal_datafusion_err!("the state of a statistic is missing"))?;
    let damaged = || internal_datafusion_err!("the state of a statistic is damaged");
    Ok((0..states.len()).map(move |row| Moments::decode(states.value(row)).ok_or_else(damaged)))
}

impl<const K: usize, const N: usize> GroupsAccumulator for Groups<K, N> {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.groups.resize_with(total_num_groups, Moments::default);
        let rows = Rows::new(values, opt_filter)?;
        let groups = &mut self.groups;
        rows.each(|row, x, y| groups[group_indices[row]].add(x, y));
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let groups = emit_to.take_needed(&mut self.groups);
        let values = groups.iter().map(|group| group.value(self.statistic));
        Ok(Arc::new(values.collect::<Float64Array>()))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![encoded(&emit_to.take_needed(&mut self.groups))?])
    }

    fn merge_batch(&mut self, values: &[ArrayRef], group_indices: &[usize], total_num_groups: usize) -> Result<()> {
        self.groups.resize_with(total_num_groups, Moments::default);
        for (group, state) in group_indices.iter().zip(decoded(values)?) {
            self.groups[*group].merge(&state?);
        }
        Ok(())
    }

    fn convert_to_state(&self, values: &[ArrayRef], opt_filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let rows = Rows::new(values, opt_filter)?;
        let mut states = vec![Moments::<Binned<K>, N>::default(); rows.len()];
        rows.each(|row, x, y| states[row].add(x, y));
        Ok(vec![encoded(&states)?])
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.groups.capacity() * size_of::<Moments<Binned<K>, N>>()
    }
}
