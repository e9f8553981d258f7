//! `decayed_sum(value, time, half_life)` and `decayed_count(time, half_life)`: what is older counts less, half after each
//! half-life, as of the latest time of the group or frame.

use std::mem::size_of;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{
    DataType, Field, FieldRef, Float64Type, Int64Type, IntervalUnit, TimeUnit, TimestampMicrosecondType,
};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{Accumulator, AggregateUDFImpl, Signature, Volatility};

use super::frame::{OfFrame, Sliding};
use super::{all_rows, constant};

const MICROS_PER_DAY: f64 = 86_400e6;

/// One of the functions.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Decayed {
    /// Whether values are summed; else each row counts as one.
    has_value: bool,
    signature: Signature,
}

impl Decayed {
    pub(super) fn sum() -> Self {
        Self { has_value: true, signature: Signature::user_defined(Volatility::Immutable) }
    }

    pub(super) fn count() -> Self {
        Self { has_value: false, ..Self::sum() }
    }

    fn rows(&self, args: &AccumulatorArgs<'_>) -> Result<Rows> {
        all_rows(args)?;
        let ScalarValue::IntervalMonthDayNano(Some(interval)) = constant(args, "the half-life")? else {
            return plan_err!("the half-life of `{}` is an interval", args.name);
        };
        if interval.months != 0 {
            return plan_err!("a half-life of months has no fixed length: write days");
        }
        let half_life = f64::from(interval.days) * MICROS_PER_DAY + interval.nanoseconds as f64 / 1e3;
        if half_life <= 0. {
            return plan_err!("a half-life must be positive");
        }
        Ok(Rows { has_value: self.has_value, half_life })
    }
}

impl AggregateUDFImpl for Decayed {
    fn name(&self) -> &'static str {
        if self.has_value { "decayed_sum" } else { "decayed_count" }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        let (value, rest) = arguments.split_at(usize::from(self.has_value).min(arguments.len()));
        match rest {
            [DataType::Timestamp(_, zone), DataType::Interval(_)]
                if value.iter().all(|value| value.is_numeric() || value.is_null()) =>
            {
                let time = DataType::Timestamp(TimeUnit::Microsecond, zone.clone());
                let half_life = DataType::Interval(IntervalUnit::MonthDayNano);
                Ok(value.iter().map(|_| DataType::Float64).chain([time, half_life]).collect())
            }
            _ if self.has_value => {
                plan_err!("write `decayed_sum(number, time, half_life)`, where the half-life is an interval")
            }
            _ => plan_err!("write `decayed_count(time, half_life)`, where the half-life is an interval"),
        }
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let field = |part: &str, data_type| Arc::new(Field::new(format_state_name(args.name, part), data_type, true));
        Ok(vec![field("latest", DataType::Int64), field("sum", DataType::Float64)])
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(Whole { rows: self.rows(&args)?, decayed: None }))
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(Sliding::new(self.rows(&args)?)))
    }
}

/// How rows are read.
#[derive(Debug)]
struct Rows {
    has_value: bool,
    /// In microseconds.
    half_life: f64,
}

impl Rows {
    /// Time and value of each row that has a time.
    fn read(&self, columns: &[ArrayRef]) -> Vec<Option<Timed>> {
        let (values, rest) = columns.split_at(usize::from(self.has_value));
        let times = rest[0].as_primitive::<TimestampMicrosecondType>();
        let values = values.first().map(AsArray::as_primitive::<Float64Type>);
        let value = |row: usize| match values {
            None => Some(1.),
            Some(values) => values.is_valid(row).then(|| values.value(row)),
        };
        (0..times.len()).map(|row| times.is_valid(row).then(|| (times.value(row), value(row)))).collect()
    }
}

/// The time of a row, and its value if it has one.
type Timed = (i64, Option<f64>);

/// What is left of values at the latest time.
#[derive(Debug, Clone, Copy)]
struct AsOf {
    latest: i64,
    /// Nothing where no row had a value.
    sum: Option<f64>,
}

impl AsOf {
    /// What is left of the rows; nothing where there is none.
    fn of(rows: impl Iterator<Item = Timed> + Clone, half_life: f64) -> Option<Self> {
        let latest = rows.clone().map(|(time, _)| time).max()?;
        let decayed = rows.filter_map(|(time, value)| Some(value? * left(latest, time, half_life)));
        Some(Self { latest, sum: decayed.fold(None, |sum, value| Some(sum.unwrap_or(0.) + value)) })
    }

    fn merged(self, other: Self, half_life: f64) -> Self {
        let latest = self.latest.max(other.latest);
        let decayed = |of: Self| of.sum.map(|sum| sum * left(latest, of.latest, half_life));
        let sum = match (decayed(self), decayed(other)) {
            (Some(first), Some(second)) => Some(first + second),
            (first, second) => first.or(second),
        };
        Self { latest, sum }
    }
}

/// The part of a value of `time` that is left at `latest`.
fn left(latest: i64, time: i64, half_life: f64) -> f64 {
    (-(latest.saturating_sub(time) as f64) / half_life).exp2()
}

/// Of all rows of a group.
#[derive(Debug)]
struct Whole {
    rows: Rows,
    decayed: Option<AsOf>,
}

impl Whole {
    fn add(&mut self, more: Option<AsOf>) {
        self.decayed = match (self.decayed, more) {
            (Some(before), Some(more)) => Some(before.merged(more, self.rows.half_life)),
            (before, more) => before.or(more),
        };
    }
}

impl Accumulator for Whole {
    fn update_batch(&mut self, columns: &[ArrayRef]) -> Result<()> {
        let rows = self.rows.read(columns);
        self.add(AsOf::of(rows.iter().flatten().copied(), self.rows.half_life));
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let latest = states[0].as_primitive::<Int64Type>();
        let sums = states[1].as_primitive::<Float64Type>();
        for row in (0..latest.len()).filter(|row| latest.is_valid(*row)) {
            let sum = sums.is_valid(row).then(|| sums.value(row));
            self.add(Some(AsOf { latest: latest.value(row), sum }));
        }
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let (latest, sum) = (self.decayed.map(|decayed| decayed.latest), self.decayed.and_then(|decayed| decayed.sum));
        Ok(vec![ScalarValue::Int64(latest), ScalarValue::Float64(sum)])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Float64(self.decayed.and_then(|decayed| decayed.sum)))
    }

    fn size(&self) -> usize {
        size_of::<Self>()
    }
}

impl OfFrame for Rows {
    type Row = Timed;

    fn rows(&self, columns: &[ArrayRef]) -> Vec<Option<Timed>> {
        self.read(columns)
    }

    fn value(&self, rows: impl Iterator<Item = Timed> + Clone) -> Option<f64> {
        AsOf::of(rows, self.half_life)?.sum
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::functions::tests::{error_of, text_of};

    const ROWS: &str = "(SELECT id, kind, price, CAST('2013-01-01T0' || id || ':00:00' AS TIMESTAMP) AS at FROM
        (VALUES (1, 'a', 8), (2, 'a', 4), (3, 'b', 5), (4, 'a', 1), (5, 'a', NULL)) AS t (id, kind, price)) AS t";

    #[tokio::test]
    async fn what_is_older_counts_less() {
        let grouped = text_of(&format!(
            "SELECT kind, decayed_sum(price, at, INTERVAL '1 hour') AS price, decayed_count(at, INTERVAL '1 hour') AS rows
             FROM {ROWS} GROUP BY kind ORDER BY kind"
        ))
        .await;
        let rolling = text_of(&format!(
            "SELECT id, decayed_sum(price, at, INTERVAL '1 hour')
                 OVER (ORDER BY at RANGE BETWEEN INTERVAL '2 hours' PRECEDING AND CURRENT ROW) AS price
             FROM {ROWS} ORDER BY id"
        ))
        .await;
        insta::assert_snapshot!(format!("{grouped}\n{rolling}"));
    }

    #[tokio::test]
    async fn what_is_no_half_life_is_told() {
        for (call, expected) in [
            ("decayed_count(at, INTERVAL '1 month')", "a half-life of months has no fixed length: write days"),
            ("decayed_count(at, INTERVAL '0 hours')", "a half-life must be positive"),
            ("decayed_sum(kind, at, INTERVAL '1 hour')", "write `decayed_sum(number, time, half_life)`"),
            ("decayed_count(price, INTERVAL '1 hour')", "write `decayed_count(time, half_life)`"),
        ] {
            let error = error_of(&format!("SELECT {call} FROM {ROWS}")).await;
            assert!(error.contains(expected), "{call}: {error}");
        }
    }

    proptest! {
        #[test]
        fn parts_merge_into_the_whole(
            rows in prop::collection::vec((0_i64..10_000_000, prop::option::of(-1e3..1e3)), 1..40),
            cut in 0_usize..40,
        ) {
            let half_life = 1e6;
            let (first, second) = rows.split_at(cut.min(rows.len()));
            let of = |rows: &[Timed]| AsOf::of(rows.iter().copied(), half_life);
            let parts = match (of(first), of(second)) {
                (Some(first), Some(second)) => first.merged(second, half_life),
                (first, second) => first.or(second).unwrap(),
            };
            let whole = of(&rows).unwrap();
            prop_assert_eq!(parts.latest, whole.latest);
            prop_assert_eq!(parts.sum.is_some(), whole.sum.is_some());
            let (parts, whole) = (parts.sum.unwrap_or(0.), whole.sum.unwrap_or(0.));
            prop_assert!((parts - whole).abs() <= 1e-9, "{} and {}", parts, whole);
        }
    }
}
