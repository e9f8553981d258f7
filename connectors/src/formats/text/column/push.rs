//! Appending values that are no text: what binary formats hold.

use bessemer_schemas::RejectReason;

use super::super::options::TimestampText;
use super::{Column, Values, digits, push_if, push_offset};

type Result<T> = std::result::Result<T, RejectReason>;

impl Column {
    /// Appends a whole number, where the column takes numbers: exactly, or, in a `REAL` or `DOUBLE`, correctly rounded.
    pub(in crate::formats) fn push_integer(&mut self, value: i128) -> Result<()> {
        let is_built = self.is_built;
        match &mut self.values {
            Values::Int8(values) => push_fitting(values, value, is_built)?,
            Values::Int16(values) => push_fitting(values, value, is_built)?,
            Values::Int32(values) => push_fitting(values, value, is_built)?,
            Values::Int64(values) => push_fitting(values, value, is_built)?,
            Values::UInt8(values) => push_fitting(values, value, is_built)?,
            Values::UInt16(values) => push_fitting(values, value, is_built)?,
            Values::UInt32(values) => push_fitting(values, value, is_built)?,
            Values::UInt64(values) => push_fitting(values, value, is_built)?,
            Values::Float32(values) => push_if(values, value as f32, is_built),
            Values::Float64(values) => push_if(values, value as f64, is_built),
            Values::Decimal { values, precision, scale } => {
                let value = unscaled(value, 0, *precision, *scale)?;
                push_if(values, value, is_built);
            }
            Values::Timestamp { values, unit, text: TimestampText::Epoch(epoch), .. } => {
                push_fitting(values, rescaled(value, digits(*epoch), digits(*unit))?, is_built)?;
            }
            _ => return Err(RejectReason::WrongType),
        }
        self.note_value();
        Ok(())
    }

    /// Appends a float, whatever it is: infinities and NaN are values of a binary format.
    pub(in crate::formats) fn push_float(&mut self, value: f64) -> Result<()> {
        let is_built = self.is_built;
        match &mut self.values {
            Values::Float64(values) => push_if(values, value, is_built),
            #[expect(clippy::cast_possible_truncation, reason = "only what was a 32-bit float comes here")]
            Values::Float32(values) => push_if(values, value as f32, is_built),
            _ => return Err(RejectReason::WrongType),
        }
        self.note_value();
        Ok(())
    }

    /// Appends bytes as they are, to text or bytes; for text the caller has looked whether they are UTF-8.
    pub(in crate::formats) fn push_plain(&mut self, value: &[u8]) -> Result<()> {
        let is_built = self.is_built;
        let Values::Bytes { bytes, offsets, .. } = &mut self.values else { return Err(RejectReason::WrongType) };
        if is_built {
            bytes.extend_from_slice(value);
            push_offset(offsets, bytes.len())?;
        }
        self.note_value();
        Ok(())
    }

    /// Appends a number of 10^-`from` seconds since 1970, UTC, or since midnight; finer digits than the column's must be
    /// 0.
    pub(in crate::formats) fn push_time(&mut self, value: i128, from: u32) -> Result<()> {
        let is_built = self.is_built;
        match &mut self.values {
            Values::Timestamp { values, unit, .. } => {
                push_fitting(values, rescaled(value, from, digits(*unit))?, is_built)?;
            }
            Values::Time { values, unit } => {
                let value = rescaled(value, from, digits(*unit))?;
                let day = 86_400 * 10_i128.pow(digits(*unit));
                if !(0..day).contains(&value) {
                    return Err(RejectReason::OutOfRange);
                }
                push_fitting(values, value, is_built)?;
            }
            _ => return Err(RejectReason::WrongType),
        }
        self.note_value();
        Ok(())
    }

    /// Appends days since 1970.
    pub(in crate::formats) fn push_days(&mut self, days: i32) -> Result<()> {
        let Values::Date(values) = &mut self.values else { return Err(RejectReason::WrongType) };
        push_if(values, days, self.is_built);
        self.note_value();
        Ok(())
    }

    /// Appends `value` × 10^-`from`.
    pub(in crate::formats) fn push_unscaled(&mut self, value: i128, from: i8) -> Result<()> {
        let Values::Decimal { values, precision, scale } = &mut self.values else {
            return Err(RejectReason::WrongType);
        };
        let value = unscaled(value, from, *precision, *scale)?;
        push_if(values, value, self.is_built);
        self.note_value();
        Ok(())
    }
}

fn push_fitting<T: TryFrom<i128>>(values: &mut Vec<T>, value: i128, is_built: bool) -> Result<()> {
    let value = T::try_from(value).map_err(|_| RejectReason::OutOfRange)?;
    push_if(values, value, is_built);
    Ok(())
}

/// `value` × 10^-`from` in units of 10^-`to`, exactly.
fn rescaled(value: i128, from: u32, to: u32) -> Result<i128> {
    let power = |digits| 10_i128.checked_pow(digits).ok_or(RejectReason::OutOfRange);
    if to >= from {
        return value.checked_mul(power(to - from)?).ok_or(RejectReason::OutOfRange);
    }
    let step = power(from - to)?;
    if value % step == 0 { Ok(value / step) } else { Err(RejectReason::OutOfRange) }
}

fn unscaled(value: i128, from: i8, precision: u8, scale: i8) -> Result<i128> {
    // Only the distance counts: both are moved up until neither is negative.
    let lowest = i16::from(from).min(i16::from(scale)).min(0);
    let raised = |digits: i8| (i16::from(digits) - lowest).unsigned_abs().into();
    let value = rescaled(value, raised(from), raised(scale))?;
    let limit = 10_i128.checked_pow(u32::from(precision)).unwrap_or(i128::MAX);
    if value.unsigned_abs() < limit.unsigned_abs() { Ok(value) } else { Err(RejectReason::OutOfRange) }
}
