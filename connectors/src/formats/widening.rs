//! Which types hold every value of another.

use arrow_schema::{DataType, TimeUnit};

/// Whether every value of `from` is one of `to`. Nanoseconds become microseconds where each value has whole ones, which whoever
/// converts them checks: half of the world's Parquet files are in nanoseconds for no reason but a default.
pub(crate) fn is_widening(from: &DataType, to: &DataType) -> bool {
    use DataType::{
        Binary, BinaryView, Date32, Date64, Decimal128, Decimal256, Dictionary, FixedSizeBinary, Float16, Float32,
        Float64, LargeBinary, LargeList, LargeUtf8, List, Null, Timestamp, Utf8, Utf8View,
    };
    if from == to {
        return true;
    }
    match (from, to) {
        (Null, _)
        | (Float16, Float32 | Float64)
        | (Float32, Float64)
        | (Date32, Date64)
        | (Utf8 | LargeUtf8 | Utf8View, Utf8 | LargeUtf8 | Utf8View)
        | (Binary | LargeBinary | BinaryView | FixedSizeBinary(_), Binary | LargeBinary | BinaryView) => true,
        (Dictionary(_, values), to) => is_widening(values, to),
        (Timestamp(from, from_zone), Timestamp(to, to_zone)) => {
            from_zone.is_some() == to_zone.is_some()
                && (from <= to || (*from == TimeUnit::Nanosecond && *to == TimeUnit::Microsecond))
        }
        (Decimal128(precision, scale), Decimal128(wide, to_scale) | Decimal256(wide, to_scale)) => {
            scale <= to_scale && i16::from(*wide) - i16::from(*to_scale) >= i16::from(*precision) - i16::from(*scale)
        }
        (from, Decimal128(precision, scale)) => {
            digits(from).is_some_and(|digits| i16::from(*precision) - i16::from(*scale) >= digits && *scale >= 0)
        }
        (from, Float64) => whole_bits(from).is_some_and(|(bits, _)| bits <= 32),
        (from, Float32) => whole_bits(from).is_some_and(|(bits, _)| bits <= 16),
        (List(from) | LargeList(from), List(to) | LargeList(to)) => is_widening(from.data_type(), to.data_type()),
        (DataType::Struct(from), DataType::Struct(to)) => {
            from.len() == to.len()
                && from.iter().zip(to).all(|(from, to)| {
                    from.name() == to.name()
                        && (to.is_nullable() || !from.is_nullable())
                        && is_widening(from.data_type(), to.data_type())
                })
        }
        (from, to) => match (whole_bits(from), whole_bits(to)) {
            (Some((from_bits, from_signed)), Some((to_bits, to_signed))) => match (from_signed, to_signed) {
                (false, true) => from_bits < to_bits,
                (true, false) => false,
                _ => from_bits <= to_bits,
            },
            _ => false,
        },
    }
}

/// Width and sign of a whole-number type.
fn whole_bits(data_type: &DataType) -> Option<(u32, bool)> {
    Some(match data_type {
        DataType::Int8 => (8, true),
        DataType::Int16 => (16, true),
        DataType::Int32 => (32, true),
        DataType::Int64 => (64, true),
        DataType::UInt8 => (8, false),
        DataType::UInt16 => (16, false),
        DataType::UInt32 => (32, false),
        DataType::UInt64 => (64, false),
        _ => return None,
    })
}

/// Decimal digits that the largest value of a whole-number type has.
fn digits(data_type: &DataType) -> Option<i16> {
    Some(match whole_bits(data_type)? {
        (8, _) => 3,
        (16, _) => 5,
        (32, _) => 10,
        (64, true) => 19,
        _ => 20,
    })
}
