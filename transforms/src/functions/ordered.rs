//! `DOUBLE` as whole numbers in the same order, and back: of these the least and the greatest depend on no order of rows.
//!
//! The engine's `min` and `max` compare numbers in turn, so that what they make of NaN and of the two zeros depends on
//! which came first. Here NaN is above all numbers, as in PostgreSQL, and -0 is below 0.

use std::sync::Arc;

use arrow::array::{AsArray, Float64Array, Int64Array};
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

/// One direction.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Ordered {
    is_back: bool,
    signature: Signature,
}

/// The number of a `DOUBLE` in their order.
pub(crate) fn to_ordered() -> ScalarUDF {
    udf(false, DataType::Float64)
}

/// The `DOUBLE` of such a number.
pub(crate) fn from_ordered() -> ScalarUDF {
    udf(true, DataType::Int64)
}

fn udf(is_back: bool, of: DataType) -> ScalarUDF {
    ScalarUDF::new_from_impl(Ordered { is_back, signature: Signature::exact(vec![of], Volatility::Immutable) })
}

impl ScalarUDFImpl for Ordered {
    fn name(&self) -> &str {
        if self.is_back { "from_ordered" } else { "to_ordered" }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(if self.is_back { DataType::Float64 } else { DataType::Int64 })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [values] = args.args.as_slice() else { return exec_err!("one number has one place in their order") };
        let values = values.to_array(args.number_rows)?;
        Ok(ColumnarValue::Array(if self.is_back {
            let back: Float64Array = values.as_primitive::<Int64Type>().unary(number);
            Arc::new(back)
        } else {
            let ordered: Int64Array = values.as_primitive::<Float64Type>().unary(place);
            Arc::new(ordered)
        }))
    }
}

/// Bits of negative numbers are turned over, so that the larger ones come first.
fn place(number: f64) -> i64 {
    let canonical = if number.is_nan() { f64::NAN } else { number };
    turned(canonical.to_bits().cast_signed())
}

fn number(place: i64) -> f64 {
    f64::from_bits(turned(place).cast_unsigned())
}

fn turned(bits: i64) -> i64 {
    bits ^ ((bits >> 63).cast_unsigned() >> 1).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_in_the_order_of_the_numbers_and_lead_back() {
        let tiny = f64::from_bits(1);
        let numbers =
            [f64::NEG_INFINITY, f64::MIN, -1.5, -1., -tiny, -0., 0., tiny, 1., f64::MAX, f64::INFINITY, f64::NAN];
        let places = numbers.map(place);
        assert!(places.is_sorted_by(|left, right| left < right), "{places:?}");
        for (given, place) in numbers.into_iter().zip(places) {
            assert_eq!(number(place).to_bits(), given.to_bits());
        }
        assert_eq!(place(-f64::NAN), place(f64::NAN));
    }
}
