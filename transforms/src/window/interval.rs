//! Lengths of windows: literal intervals.

use arrow::datatypes::{IntervalMonthDayNanoType, TimeUnit};
use datafusion::logical_expr::Expr;
use datafusion::scalar::ScalarValue;

use super::Length;

/// A day has 24 hours, as in UTC.
pub(crate) const NANOS_OF_DAY: i64 = 86_400_000_000_000;

/// Why an expression is no length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoLength {
    NotLiteral,
    /// Months have no fixed number of days.
    Mixed,
    TooLong,
}

impl Length {
    /// The value of an interval literal.
    pub(crate) fn of(expr: &Expr) -> Result<Self, NoLength> {
        let Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(value)), _) = expr else {
            return Err(NoLength::NotLiteral);
        };
        let (months, days, nanos) = IntervalMonthDayNanoType::to_parts(*value);
        match (months, days, nanos) {
            (0, days, nanos) => {
                let nanos = i64::from(days).checked_mul(NANOS_OF_DAY).and_then(|days| days.checked_add(nanos));
                nanos.map(Self::Nanos).ok_or(NoLength::TooLong)
            }
            (months, 0, 0) => Ok(Self::Months(i64::from(months))),
            _ => Err(NoLength::Mixed),
        }
    }

    /// Nanoseconds that it has at most.
    pub(crate) fn most(self) -> i128 {
        match self {
            Self::Months(months) => i128::from(months) * 31 * i128::from(NANOS_OF_DAY),
            Self::Nanos(nanos) => i128::from(nanos),
        }
    }

    pub(super) fn is_positive(self) -> bool {
        let (Self::Months(count) | Self::Nanos(count)) = self;
        count > 0
    }

    pub(super) fn is_zero(self) -> bool {
        let (Self::Months(count) | Self::Nanos(count)) = self;
        count == 0
    }

    /// As an interval of the engine.
    pub(crate) fn to_interval(self) -> ScalarValue {
        let (months, nanos) = match self {
            // Read from an interval, which holds no more.
            Self::Months(months) => (i32::try_from(months).unwrap_or(i32::MAX), 0),
            Self::Nanos(nanos) => (0, nanos),
        };
        ScalarValue::IntervalMonthDayNano(Some(IntervalMonthDayNanoType::make_value(months, 0, nanos)))
    }
}

/// How many nanoseconds a unit has.
pub(crate) fn nanos_of(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1_000_000_000,
        TimeUnit::Millisecond => 1_000_000,
        TimeUnit::Microsecond => 1_000,
        TimeUnit::Nanosecond => 1,
    }
}
