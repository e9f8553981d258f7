//! The month, day or hour of a time as a whole number: what partitioned files are sorted by.
//!
//! The engine's `date_trunc` and casts to `DATE` go through nanoseconds or `chrono`, which hold fewer years than a
//! timestamp in microseconds does: the one overflows in 1677 and 2262. This is exact for every value, as is the
//! writer that cuts the files, and so they agree on where a partition ends.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, TimeUnit};
use bessemer_schemas::PartitionTransform;
use datafusion::common::{internal_err, utils::take_function_args};
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

/// The value of `transform` for a time: whole months, days or hours since 1970.
pub(crate) fn partition_value(transform: PartitionTransform, time: Expr) -> Expr {
    ScalarUDF::from(PartitionValue { transform, signature: Signature::any(1, Volatility::Immutable) }).call(vec![time])
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct PartitionValue {
    transform: PartitionTransform,
    signature: Signature,
}

impl ScalarUDFImpl for PartitionValue {
    fn name(&self) -> &str {
        match self.transform {
            PartitionTransform::Identity => "identity",
            PartitionTransform::Month => "month",
            PartitionTransform::Day => "day",
            PartitionTransform::Hour => "hour",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [time] = take_function_args(self.name(), ColumnarValue::values_to_arrays(&args.args)?)?;
        Ok(ColumnarValue::Array(values(self.transform, &time)?))
    }
}

fn values(transform: PartitionTransform, time: &ArrayRef) -> Result<ArrayRef> {
    let Some(per_day) = units_per_day(time.data_type()) else {
        return internal_err!("`{}` has no day to partition by", time.data_type());
    };
    let counts = cast(time, &DataType::Int64)?;
    let counts = counts.as_primitive::<Int64Type>();
    let values = match transform {
        PartitionTransform::Identity => counts.clone(),
        PartitionTransform::Month => counts.unary::<_, Int64Type>(|count| month(count.div_euclid(per_day))),
        PartitionTransform::Day => counts.unary(|count| count.div_euclid(per_day)),
        // Days have no hours; a set that asks for them is refused.
        PartitionTransform::Hour => counts.unary(|count| count.div_euclid((per_day / 24).max(1))),
    };
    Ok(Arc::new(values))
}

fn units_per_day(data_type: &DataType) -> Option<i64> {
    let seconds = 86_400;
    Some(match data_type {
        DataType::Date32 => 1,
        DataType::Date64 | DataType::Timestamp(TimeUnit::Millisecond, _) => seconds * 1_000,
        DataType::Timestamp(TimeUnit::Second, _) => seconds,
        DataType::Timestamp(TimeUnit::Microsecond, _) => seconds * 1_000_000,
        DataType::Timestamp(TimeUnit::Nanosecond, _) => seconds * 1_000_000_000,
        _ => return None,
    })
}

/// Months since 1970 of a number of days since then, by Howard Hinnant's `civil_from_days`.
fn month(day: i64) -> i64 {
    let day = day + 719_468;
    let era = day.div_euclid(146_097);
    let day_of_era = day.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let since_march = (5 * day_of_year + 2) / 153;
    (year_of_era + era * 400 - 1_970) * 12 + since_march + 2
}

#[cfg(test)]
mod tests {
    use arrow::array::{Date32Array, Int64Array, TimestampMicrosecondArray};

    use super::*;

    #[track_caller]
    fn check(transform: PartitionTransform, time: &ArrayRef, expected: &[Option<i64>]) {
        let found = values(transform, time).unwrap();
        assert_eq!(found.as_primitive::<Int64Type>(), &Int64Array::from(expected.to_vec()));
    }

    #[test]
    fn values_are_whole_units_since_1970_rounded_down() {
        let day = 86_400_000_000;
        let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![
            Some(0),
            Some(-1),
            Some(59 * day),
            Some(365 * day - 1),
            None,
        ]));
        check(PartitionTransform::Day, &times, &[Some(0), Some(-1), Some(59), Some(364), None]);
        check(PartitionTransform::Hour, &times, &[Some(0), Some(-1), Some(59 * 24), Some(365 * 24 - 1), None]);
        check(PartitionTransform::Month, &times, &[Some(0), Some(-1), Some(2), Some(11), None]);
        let days: ArrayRef = Arc::new(Date32Array::from(vec![30, 31, -31, -32]));
        check(PartitionTransform::Month, &days, &[Some(0), Some(1), Some(-1), Some(-2)]);
    }

    #[test]
    fn every_timestamp_has_a_value() {
        let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![i64::MIN, i64::MAX]));
        check(PartitionTransform::Day, &times, &[Some(-106_751_992), Some(106_751_991)]);
        check(PartitionTransform::Hour, &times, &[Some(-2_562_047_789), Some(2_562_047_788)]);
        // The years -290,308 and 294,247.
        check(PartitionTransform::Month, &times, &[Some(-292_278 * 12 + 11), Some(292_277 * 12)]);
    }
}
