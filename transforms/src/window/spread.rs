//! By how much a time is before or after the one that it is computed from.

use arrow::datatypes::{DataType, IntervalDayTimeType, IntervalMonthDayNanoType, TimeUnit};
use datafusion::common::{Column, DFSchema};
use datafusion::logical_expr::{Expr, ExprSchemable, Operator};
use datafusion::scalar::ScalarValue;

use super::bounds::{WINDOW_BOUNDS, aligned};
use super::interval::{NANOS_OF_DAY, nanos_of};
use super::{END, START, Shape};

/// Nanoseconds from one time to another, the least and the most of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Spread {
    pub(crate) least: i128,
    pub(crate) most: i128,
}

/// Where a time comes from.
#[derive(Debug)]
pub(crate) struct Traced<'e> {
    pub(crate) column: &'e Column,
    /// From the column to the time.
    pub(crate) spread: Spread,
    /// The bound that is meant, where the column holds both bounds of a window.
    pub(crate) bound: Option<&'static str>,
}

impl Spread {
    pub(crate) fn exactly(nanos: i128) -> Self {
        Self { least: nanos, most: nanos }
    }

    pub(crate) fn is_exact(self) -> bool {
        self.least == self.most
    }

    /// From a first time to a third, where `self` is from the first to the second.
    pub(crate) fn then(self, next: Self) -> Self {
        Self { least: self.least + next.least, most: self.most + next.most }
    }

    /// From the second time to the first.
    pub(crate) fn back(self) -> Self {
        Self { least: -self.most, most: -self.least }
    }
}

/// Traces `expr` over columns of `schema` to the one column that it is computed from; `bound` is what is meant of it where
/// it holds both bounds of a window. Nothing where it is not so computed that the two are never further apart than is
/// known.
pub(crate) fn trace<'e>(expr: &'e Expr, bound: Option<&'static str>, schema: &DFSchema) -> Option<Traced<'e>> {
    let further = |inner: &'e Expr, spread: Spread| {
        let traced = trace(inner, bound, schema)?;
        Some(Traced { spread: traced.spread.then(spread), ..traced })
    };
    match expr {
        Expr::Column(column) => Some(Traced { column, spread: Spread::default(), bound }),
        Expr::Alias(alias) => trace(&alias.expr, bound, schema),
        Expr::Cast(cast) => {
            let (from, to) = (cast.expr.get_type(schema).ok()?, cast.field.data_type());
            further(&cast.expr, cast_spread(&from, to)?)
        }
        Expr::BinaryExpr(binary) => {
            let Expr::Literal(value, _) = binary.right.as_ref() else { return None };
            let by = interval(value)?;
            match binary.op {
                Operator::Plus => further(&binary.left, by),
                Operator::Minus => further(&binary.left, by.back()),
                _ => None,
            }
        }
        Expr::ScalarFunction(call) => match (call.name(), call.args.as_slice()) {
            (START, [bounds]) => trace(bounds, Some(START), schema),
            (END, [bounds]) => trace(bounds, Some(END), schema),
            (WINDOW_BOUNDS, [time]) => {
                let size = size_of(aligned(call)?.shape);
                let spread = match bound? {
                    START => Spread { least: rounded_down(size, time, schema), most: 0 },
                    _ => Spread { least: tick(time, schema), most: size },
                };
                let traced = trace(time, None, schema)?;
                Some(Traced { spread: traced.spread.then(spread), ..traced })
            }
            ("date_trunc", [Expr::Literal(unit, _), time]) => {
                let length = truncated(unit.try_as_str()??)?;
                further(time, Spread { least: rounded_down(length, time, schema), most: 0 })
            }
            ("date_bin", [Expr::Literal(every, _), time, rest @ ..])
                if rest.iter().all(|origin| matches!(origin, Expr::Literal(..))) =>
            {
                further(time, Spread { least: rounded_down(interval(every)?.most, time, schema), most: 0 })
            }
            _ => None,
        },
        _ => None,
    }
}

/// How much less than `time` it may be where it is rounded down to a multiple of `length`.
fn rounded_down(length: i128, time: &Expr, schema: &DFSchema) -> i128 {
    (tick(time, schema) - length).min(0)
}

/// The least that two values of a time are apart, in nanoseconds.
fn tick(time: &Expr, schema: &DFSchema) -> i128 {
    time.get_type(schema).map_or(1, |data_type| tick_of(&data_type))
}

/// Nanoseconds of a tick of a type of times.
pub(crate) fn tick_of(data_type: &DataType) -> i128 {
    i128::from(match data_type {
        DataType::Timestamp(unit, _) => nanos_of(*unit),
        DataType::Date32 => NANOS_OF_DAY,
        _ => nanos_of(TimeUnit::Millisecond),
    })
}

/// What a cast rounds, and where it takes a wall clock for UTC or the other way round, by how much that may be off.
fn cast_spread(from: &DataType, to: &DataType) -> Option<Spread> {
    let is_time = |data_type: &DataType| matches!(data_type, DataType::Timestamp(..) | DataType::Date32);
    if !is_time(from) || !is_time(to) {
        return None;
    }
    let zone = |data_type: &DataType| match data_type {
        DataType::Timestamp(_, zone) => zone.is_some(),
        _ => false,
    };
    let day = i128::from(NANOS_OF_DAY);
    let rounded = if tick_of(from) < tick_of(to) { tick_of(to) } else { 0 };
    let moved = if zone(from) == zone(to) { 0 } else { day };
    // Towards 1970.
    Some(Spread { least: -rounded - moved, most: rounded + moved })
}

/// How long an interval is; months have from 28 to 31 days.
pub(crate) fn interval(value: &ScalarValue) -> Option<Spread> {
    let day = i128::from(NANOS_OF_DAY);
    let (months, days, nanos) = match value {
        ScalarValue::IntervalMonthDayNano(Some(value)) => IntervalMonthDayNanoType::to_parts(*value),
        ScalarValue::IntervalDayTime(Some(value)) => {
            let (days, millis) = IntervalDayTimeType::to_parts(*value);
            (0, days, i64::from(millis) * nanos_of(TimeUnit::Millisecond))
        }
        ScalarValue::IntervalYearMonth(Some(months)) => (*months, 0, 0),
        ScalarValue::DurationSecond(Some(count)) => return Some(of_ticks(*count, TimeUnit::Second)),
        ScalarValue::DurationMillisecond(Some(count)) => return Some(of_ticks(*count, TimeUnit::Millisecond)),
        ScalarValue::DurationMicrosecond(Some(count)) => return Some(of_ticks(*count, TimeUnit::Microsecond)),
        ScalarValue::DurationNanosecond(Some(count)) => return Some(of_ticks(*count, TimeUnit::Nanosecond)),
        _ => return None,
    };
    let fixed = i128::from(days) * day + i128::from(nanos);
    let [a, b] = [28, 31].map(|days| i128::from(months) * days * day + fixed);
    Some(Spread { least: a.min(b), most: a.max(b) })
}

fn of_ticks(count: i64, unit: TimeUnit) -> Spread {
    Spread::exactly(i128::from(count) * i128::from(nanos_of(unit)))
}

fn size_of(shape: Shape) -> i128 {
    let (Shape::Tumble { size } | Shape::Hop { size, .. } | Shape::Cumulate { size, .. }) = shape;
    size.most()
}

/// The longest that a unit of `date_trunc` is. A day of a time zone may have an hour more.
fn truncated(unit: &str) -> Option<i128> {
    let hour = 3_600_000_000_000;
    Some(match unit.to_ascii_lowercase().as_str() {
        "microsecond" => 1_000,
        "millisecond" => 1_000_000,
        "second" => 1_000_000_000,
        "minute" => hour / 60,
        "hour" => hour,
        "day" => 25 * hour,
        "week" => (7 * 24 + 1) * hour,
        "month" => (31 * 24 + 1) * hour,
        "quarter" => (92 * 24 + 1) * hour,
        "year" => (366 * 24 + 1) * hour,
        _ => return None,
    })
}
