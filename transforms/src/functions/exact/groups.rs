//! The statistics of many groups at once.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, BinaryBuilder, BooleanArray, Float64Array, UInt64Array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{Float64Type, UInt64Type};
use datafusion::common::{DataFusionError, Result, internal_datafusion_err};
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};

use super::moments::{Moments, PRODUCT_PARTS, SUM_PARTS, Wides};
use super::statistic::Statistic;

/// Rows that are counted before anything else is done with them: a processor that waits for memory finds the groups of
/// many such rows at a time, and then has them all, while what products take is so long that it sees one row only.
const ROWS_AT_ONCE: usize = 128;

/// One statistic of every group.
#[derive(Debug)]
pub(super) struct Groups<const P: usize, const S: usize, const X: usize> {
    statistic: Statistic,
    moments: Vec<Moments<P, S, X>>,
    wides: Wides,
}

impl<const P: usize, const S: usize, const X: usize> Groups<P, S, X> {
    pub(super) fn new(statistic: Statistic) -> Self {
        Self { statistic, moments: Vec::new(), wides: Wides::default() }
    }
}

/// The columns of a batch, and which of its rows count: those that have a value in each, and that the filter lets pass.
pub(super) struct Rows<'a> {
    pub(super) x: &'a [f64],
    /// The first once more, where there is no other.
    y: &'a [f64],
    pub(super) valid: Option<NullBuffer>,
}

impl<'a> Rows<'a> {
    pub(super) fn new(values: &'a [ArrayRef], filter: Option<&BooleanArray>) -> Result<Self> {
        let column = |at: usize| values.get(at).and_then(|column| column.as_primitive_opt::<Float64Type>());
        let x = column(0).ok_or_else(|| internal_datafusion_err!("a statistic of no column of DOUBLE"))?;
        let y = column(1).unwrap_or(x);
        let filter = filter.map(|filter| {
            let passed = filter.values();
            NullBuffer::new(filter.nulls().map_or_else(|| passed.clone(), |nulls| passed & nulls.inner()))
        });
        let valid = NullBuffer::union_many([x.nulls(), y.nulls(), filter.as_ref()]);
        Ok(Self { x: x.values(), y: y.values(), valid: valid.filter(|valid| valid.null_count() > 0) })
    }

    fn slice(&self, start: usize, len: usize) -> Self {
        let valid = self.valid.as_ref().map(|valid| valid.slice(start, len));
        Self { x: &self.x[start..start + len], y: &self.y[start..start + len], valid }
    }

    /// Calls `take` with each row that counts: what `others` has for it, and its values.
    #[inline]
    pub(super) fn each<T: Copy>(&self, others: &[T], mut take: impl FnMut(T, f64, f64)) {
        match &self.valid {
            None => {
                for ((other, x), y) in others.iter().zip(self.x).zip(self.y) {
                    take(*other, *x, *y);
                }
            }
            Some(valid) => {
                for row in valid.valid_indices() {
                    take(others[row], self.x[row], self.y[row]);
                }
            }
        }
    }
}

impl<const P: usize, const S: usize, const X: usize> GroupsAccumulator for Groups<P, S, X> {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        let Self { moments, wides, .. } = self;
        moments.resize(total_num_groups, Moments::default());
        let rows = Rows::new(values, opt_filter)?;
        if S == 0 {
            rows.each(group_indices, |group, x, y| {
                moments[group].add(x, y, |at, number| wides.add(group, at, number));
            });
            return Ok(());
        }
        for (at, group_indices) in group_indices.chunks(ROWS_AT_ONCE).enumerate() {
            let rows = rows.slice(at * ROWS_AT_ONCE, group_indices.len());
            rows.each(group_indices, |group, _, _| moments[group].count += 1);
            rows.each(group_indices, |group, x, y| {
                moments[group].add_counted(x, y, |at, number| wides.add(group, at, number));
            });
        }
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let groups = emit_to.take_needed(&mut self.moments);
        let wides = self.wides.take_needed(emit_to);
        let values =
            groups.iter().enumerate().map(|(group, moments)| moments.totals(group, &wides).value(self.statistic));
        Ok(Arc::new(values.collect::<Float64Array>()))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let mut groups = emit_to.take_needed(&mut self.moments);
        let wides = self.wides.take_needed(emit_to);
        Ok(states(&mut groups, &wides))
    }

    fn merge_batch(&mut self, values: &[ArrayRef], group_indices: &[usize], total_num_groups: usize) -> Result<()> {
        let Self { moments, wides, .. } = self;
        moments.resize(total_num_groups, Moments::default());
        let states = States::<P, S, X>::new(values)?;
        let mut rows = group_indices.iter().enumerate();
        rows.try_for_each(|(row, group)| states.merge(row, *group, &mut moments[*group], wides))
    }

    fn convert_to_state(&self, values: &[ArrayRef], opt_filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let rows = values.first().map_or(0, Array::len);
        let mut each = Self::new(self.statistic);
        let indices: Vec<usize> = (0..rows).collect();
        each.update_batch(values, &indices, opt_filter, rows)?;
        each.state(EmitTo::All)
    }

    fn size(&self) -> usize {
        self.moments.capacity() * size_of::<Moments<P, S, X>>() + self.wides.size()
    }
}

/// The states of groups, as columns: counts, the parts of canonical sums, and sums that have none.
pub(super) fn states<const P: usize, const S: usize, const X: usize>(
    groups: &mut [Moments<P, S, X>],
    wides: &Wides,
) -> Vec<ArrayRef> {
    let mut wide = BinaryBuilder::with_capacity(groups.len(), 0);
    let mut bytes = Vec::new();
    for (group, moments) in groups.iter_mut().enumerate() {
        *moments = moments.canonical(group, wides, &mut bytes);
        wide.append_option((!bytes.is_empty()).then_some(&bytes));
        bytes.clear();
    }
    let mut columns = columns(groups);
    columns.push(Arc::new(wide.finish()));
    columns
}

/// Their counts and parts.
fn columns<const P: usize, const S: usize, const X: usize>(groups: &[Moments<P, S, X>]) -> Vec<ArrayRef> {
    let mut columns: Vec<ArrayRef> =
        vec![Arc::new(UInt64Array::from_iter_values(groups.iter().map(|moments| moments.count)))];
    let mut add = |part: &dyn Fn(&Moments<P, S, X>) -> f64| {
        columns.push(Arc::new(Float64Array::from_iter_values(groups.iter().map(part))));
    };
    for part in 0..SUM_PARTS {
        (0..P).for_each(|lane| add(&|moments| moments.sums.0[part][lane]));
    }
    for part in 0..PRODUCT_PARTS {
        (0..S).for_each(|lane| add(&|moments| moments.squares.0[part][lane]));
    }
    for part in 0..PRODUCT_PARTS {
        (0..X).for_each(|lane| add(&|moments| moments.products.0[part][lane]));
    }
    columns
}

/// States, as [`GroupsAccumulator::state`] wrote them.
pub(super) struct States<'a, const P: usize, const S: usize, const X: usize> {
    counts: &'a [u64],
    sums: [[&'a [f64]; P]; SUM_PARTS],
    squares: [[&'a [f64]; S]; PRODUCT_PARTS],
    products: [[&'a [f64]; X]; PRODUCT_PARTS],
    wide: &'a BinaryArray,
}

impl<'a, const P: usize, const S: usize, const X: usize> States<'a, P, S, X> {
    pub(super) fn new(columns: &'a [ArrayRef]) -> Result<Self> {
        let counts = columns.first().and_then(|column| column.as_primitive_opt::<UInt64Type>()).ok_or_else(damaged)?;
        let wide = columns.last().and_then(|column| column.as_binary_opt::<i32>()).ok_or_else(damaged)?;
        let numbers = columns.iter().filter_map(|column| column.as_primitive_opt::<Float64Type>());
        let mut numbers = numbers.map(|column| column.values().as_ref());
        let (mut sums, mut squares, mut products) = ([[&[][..]; P]; _], [[&[][..]; S]; _], [[&[][..]; X]; _]);
        let places =
            sums.as_flattened_mut().iter_mut().chain(squares.as_flattened_mut()).chain(products.as_flattened_mut());
        for place in places {
            *place = numbers.next().ok_or_else(damaged)?;
        }
        Ok(Self { counts: counts.values(), sums, squares, products, wide })
    }

    pub(super) fn len(&self) -> usize {
        self.counts.len()
    }

    /// Adds the state of `row` to the moments of `group`.
    #[inline]
    pub(super) fn merge(
        &self,
        row: usize,
        group: usize,
        moments: &mut Moments<P, S, X>,
        wides: &mut Wides,
    ) -> Result<()> {
        moments.count += self.counts[row];
        for (part, sums) in self.sums.iter().enumerate() {
            moments.sums.add(part, sums.map(|sum| sum[row]), |lane, left| wides.add(group, lane, left));
        }
        for (part, (squares, products)) in self.squares.iter().zip(&self.products).enumerate() {
            moments.squares.add(part, squares.map(|sum| sum[row]), |lane, left| wides.add(group, P + lane, left));
            moments.products.add(part, products.map(|sum| sum[row]), |_, left| wides.add(group, P + S, left));
        }
        if self.wide.is_valid(row) {
            wides.add_encoded(group, self.wide.value(row)).ok_or_else(damaged)?;
        }
        Ok(())
    }
}

pub(super) fn damaged() -> DataFusionError {
    internal_datafusion_err!("the state of a statistic is damaged")
}
