//! The function that gives an event time the bounds of its windows.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, ListArray, StructArray, make_array, new_null_array};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, TimeUnit};
use datafusion::common::{exec_err, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

use super::interval::{NANOS_OF_DAY, nanos_of};
use super::{Aligned, END, Length, START, Shape};

/// `window_bounds(at)`: the bounds of the window of `at`, or a list of them where a row is in several.
///
/// Counted in whole ticks of the column, so that no time is too far away or before 1970. NULL where `at` is, and where
/// a bound could not be written in the column's type.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct WindowBounds {
    aligned: Aligned,
    signature: Signature,
}

/// Name of the function.
pub(super) const WINDOW_BOUNDS: &str = "window_bounds";

/// The windows of a call of the function.
pub(super) fn aligned(call: &ScalarFunction) -> Option<Aligned> {
    call.func.inner().downcast_ref::<WindowBounds>().map(|bounds| bounds.aligned)
}

impl WindowBounds {
    pub(super) fn new(aligned: Aligned) -> Self {
        Self { aligned, signature: Signature::any(1, Volatility::Immutable) }
    }
}

impl Aligned {
    /// Whether a row is in several windows.
    pub(super) fn is_many(self) -> bool {
        !matches!(self.shape, Shape::Tumble { .. })
    }
}

fn bound_fields(time: &DataType) -> Fields {
    [START, END].map(|name| Field::new(name, time.clone(), false)).into_iter().collect()
}

fn item_field(time: &DataType) -> FieldRef {
    Arc::new(Field::new("item", DataType::Struct(bound_fields(time)), true))
}

impl ScalarUDFImpl for WindowBounds {
    fn name(&self) -> &str {
        WINDOW_BOUNDS
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        match arg_types {
            [time] if self.aligned.is_many() => Ok(DataType::List(item_field(time))),
            [time] => Ok(DataType::Struct(bound_fields(time))),
            _ => plan_err!("a window has one event time"),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [time] = args.args.as_slice() else { return exec_err!("a window has one event time") };
        let time = time.to_array(args.number_rows)?;
        let DataType::Timestamp(unit, _) = time.data_type() else {
            return exec_err!("an event time is a timestamp, not {}", time.data_type());
        };
        let Some(grid) = Grid::new(self.aligned, *unit) else {
            return Ok(ColumnarValue::Array(new_null_array(args.return_type(), time.len())));
        };
        let ticks = cast(&time, &DataType::Int64)?;
        let Some(ticks) = ticks.as_any().downcast_ref::<Int64Array>() else {
            return exec_err!("an event time is a whole number of ticks");
        };
        let bounds = if self.aligned.is_many() {
            many(grid, ticks, time.data_type())?
        } else {
            one(grid, ticks, time.data_type())?
        };
        Ok(ColumnarValue::Array(bounds))
    }
}

/// `window_start(bounds)` and `window_end(bounds)`: one of the two bounds of a window.
///
/// The engine moves `get_field` down towards the scan together with what it is asked of: the bounds would be computed once
/// for each of the two, and the branches of a `UNION ALL` would no longer have their columns in one order.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct WindowBound {
    /// [`START`] or [`END`].
    name: &'static str,
    signature: Signature,
}

impl WindowBound {
    pub(super) fn new(name: &'static str) -> Self {
        Self { name, signature: Signature::any(1, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for WindowBound {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        match arg_types {
            [DataType::Struct(bounds)] => match bounds.find(self.name) {
                Some((_, bound)) => Ok(bound.data_type().clone()),
                None => plan_err!("a window has no `{}`", self.name),
            },
            _ => plan_err!("bounds are those of a window"),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [bounds] = args.args.as_slice() else { return exec_err!("bounds are those of a window") };
        let bounds = bounds.to_array(args.number_rows)?;
        let Some(bound) = bounds.as_struct().column_by_name(self.name) else {
            return exec_err!("a window has no `{}`", self.name);
        };
        let nulls = NullBuffer::union(bounds.nulls(), bound.nulls());
        Ok(ColumnarValue::Array(make_array(bound.to_data().into_builder().nulls(nulls).build()?)))
    }
}

fn one(grid: Grid, ticks: &Int64Array, time: &DataType) -> Result<ArrayRef> {
    let [mut starts, mut ends] = [Vec::with_capacity(ticks.len()), Vec::with_capacity(ticks.len())];
    let mut is_known = Vec::with_capacity(ticks.len());
    for tick in ticks {
        let window = tick.and_then(|tick| grid.window(tick));
        let (start, end) = window.unwrap_or_default();
        starts.push(start);
        ends.push(end);
        is_known.push(window.is_some());
    }
    Ok(Arc::new(structs(starts, ends, time, Some(NullBuffer::from(is_known)))?))
}

fn many(grid: Grid, ticks: &Int64Array, time: &DataType) -> Result<ArrayRef> {
    let [mut starts, mut ends] = [Vec::with_capacity(ticks.len()), Vec::with_capacity(ticks.len())];
    let mut lengths = Vec::with_capacity(ticks.len());
    for tick in ticks {
        let before = starts.len();
        if let Some(tick) = tick {
            grid.windows(tick, |start, end| {
                starts.push(start);
                ends.push(end);
            });
        }
        lengths.push(starts.len() - before);
    }
    let values = structs(starts, ends, time, None)?;
    Ok(Arc::new(ListArray::try_new(item_field(time), OffsetBuffer::from_lengths(lengths), Arc::new(values), None)?))
}

fn structs(starts: Vec<i64>, ends: Vec<i64>, time: &DataType, nulls: Option<NullBuffer>) -> Result<StructArray> {
    let columns = [starts, ends].map(|ticks| {
        let ticks = Int64Array::from(ticks).into_data().into_builder();
        ticks.data_type(time.clone()).build().map(make_array)
    });
    let columns = columns.into_iter().collect::<Result<_, _>>()?;
    Ok(StructArray::try_new(bound_fields(time), columns, nulls)?)
}

/// The windows in ticks of a column.
#[derive(Debug, Clone, Copy)]
enum Grid {
    Tumble { size: i64, offset: i64 },
    Months { size: i64, offset: i64, day: i64 },
    Hop { slide: i64, size: i64, offset: i64 },
    Cumulate { step: i64, size: i64, offset: i64 },
}

impl Grid {
    /// Nothing where a length is no whole number of ticks; that was refused when the call was read.
    fn new(aligned: Aligned, unit: TimeUnit) -> Option<Self> {
        let ticks = |length: Length| match length {
            Length::Nanos(nanos) if nanos % nanos_of(unit) == 0 => Some(nanos / nanos_of(unit)),
            _ => None,
        };
        if let (Shape::Tumble { size: Length::Months(size) }, Length::Months(offset)) = (aligned.shape, aligned.offset)
        {
            return Some(Self::Months { size, offset, day: NANOS_OF_DAY / nanos_of(unit) });
        }
        let offset = ticks(aligned.offset)?;
        Some(match aligned.shape {
            Shape::Tumble { size } => Self::Tumble { size: ticks(size)?, offset },
            Shape::Hop { slide, size } => Self::Hop { slide: ticks(slide)?, size: ticks(size)?, offset },
            Shape::Cumulate { step, size } => Self::Cumulate { step: ticks(step)?, size: ticks(size)?, offset },
        })
    }

    /// The window of a row that is in one.
    fn window(self, tick: i64) -> Option<(i64, i64)> {
        match self {
            Self::Tumble { size, offset } => {
                let start = floor(tick, size, offset)?;
                Some((start, start.checked_add(size)?))
            }
            Self::Months { size, offset, day } => {
                let first = floor(month_of(tick.div_euclid(day)), size, offset)?;
                let midnight = |month: i64| first_day_of(month).checked_mul(day);
                Some((midnight(first)?, midnight(first.checked_add(size)?)?))
            }
            Self::Hop { .. } | Self::Cumulate { .. } => None,
        }
    }

    /// Gives `window` each window of a row, from the first to the last.
    fn windows(self, tick: i64, mut window: impl FnMut(i64, i64)) {
        match self {
            Self::Hop { slide, size, offset } => {
                let before = tick.checked_sub(size).and_then(|before| floor(before, slide, offset));
                let mut start = before.and_then(|before| before.checked_add(slide));
                while let Some(from) = start.filter(|from| *from <= tick) {
                    if let Some(end) = from.checked_add(size) {
                        window(from, end);
                    }
                    start = from.checked_add(slide);
                }
            }
            Self::Cumulate { step, size, offset } => {
                let Some(start) = floor(tick, size, offset) else { return };
                let Some(last) = start.checked_add(size) else { return };
                let mut end = floor(tick, step, offset).and_then(|from| from.checked_add(step));
                while let Some(to) = end.filter(|to| *to <= last) {
                    window(start, to);
                    end = to.checked_add(step);
                }
            }
            Self::Tumble { .. } | Self::Months { .. } => {
                if let Some((start, end)) = self.window(tick) {
                    window(start, end);
                }
            }
        }
    }
}

/// The largest point of the grid that is not after `tick`.
fn floor(tick: i64, every: i64, offset: i64) -> Option<i64> {
    tick.checked_sub(tick.checked_sub(offset)?.checked_rem_euclid(every)?)
}

/// The month, counted from January 1970, in which a day lies, counted from 1970-01-01, in the Gregorian calendar.
///
/// Years begin in March here, so that the leap day is the last one: then the months' lengths repeat, 153 days in five.
fn month_of(day: i64) -> i64 {
    let from_march = day + DAYS_TO_1970;
    let era = from_march.div_euclid(DAYS_OF_ERA);
    let day = from_march.rem_euclid(DAYS_OF_ERA);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    (era * 400 + year - 1970) * 12 + month + 2
}

/// The first day of a month, counted as in [`month_of`].
fn first_day_of(month: i64) -> i64 {
    let from_march = month - 2;
    let (year, month) = (1970 + from_march.div_euclid(12), from_march.rem_euclid(12));
    let (era, year) = (year.div_euclid(400), year.rem_euclid(400));
    era * DAYS_OF_ERA + 365 * year + year / 4 - year / 100 + (153 * month + 2) / 5 - DAYS_TO_1970
}

/// Days of 400 years.
const DAYS_OF_ERA: i64 = 146_097;

/// Days from March 1st of year 0 to 1970-01-01.
const DAYS_TO_1970: i64 = 719_468;

#[cfg(test)]
mod tests;
