//! Numbers, from their text to the exact value that a column holds.
//!
//! The digits are read once into a `u64`, with a decimal exponent; that decides nearly every number. What has more
//! digits is worked out from the text, just as exactly.

use bessemer_schemas::RejectReason;

/// A number as it is written: ±digits × 10^exponent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Number<'a> {
    /// From the sign to the last digit.
    text: &'a [u8],
    negative: bool,
    /// All digits, the point left out; meaningless unless `fits`.
    digits: u64,
    exponent: i64,
    /// Whether all digits fit in `digits`.
    fits: bool,
}

/// Why a number is not a value of a decimal type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unfit {
    /// Digits below the last place.
    TooFine,
    /// Beyond 128 bits.
    TooLarge,
}

/// As many digits as always fit in a `u64`.
const DIGITS_MAX: usize = 19;
/// Beyond any exponent that could matter, whatever the length of the digits.
const EXPONENT_MAX: i64 = 1 << 40;

impl<'a> Number<'a> {
    /// Reads a number by the grammar of RFC 8259 at `start`; also says where it ends.
    #[inline]
    pub(super) fn scan_json(bytes: &'a [u8], start: usize) -> Option<(Self, usize)> {
        let negative = bytes.get(start) == Some(&b'-');
        let whole = start + usize::from(negative);
        let (mut digits, mut at) = scan_digits(bytes, whole, 0);
        let mut count = at - whole;
        if count == 0 || (count > 1 && bytes[whole] == b'0') {
            return None;
        }

        let mut exponent = 0;
        if bytes.get(at) == Some(&b'.') {
            let fraction = at + 1;
            (digits, at) = scan_digits(bytes, fraction, digits);
            if at == fraction {
                return None;
            }
            count += at - fraction;
            exponent = -as_i64(at - fraction);
        }
        if let Some(b'e' | b'E') = bytes.get(at) {
            let (power, end) = scan_exponent(bytes, at + 1)?;
            exponent += power;
            at = end;
        }

        let fits = count <= DIGITS_MAX;
        Some((Self { text: &bytes[start..at], negative, digits, exponent, fits }, at))
    }

    /// Reads a number as CSV files have it: the whole of `text`, also `+5`, `007`, `.5` and `5.`.
    pub(super) fn from_text(text: &'a [u8]) -> Option<Self> {
        let text = match text {
            [b'+', b'-', ..] => return None,
            [b'+', unsigned @ ..] => unsigned,
            _ => text,
        };
        let negative = text.first() == Some(&b'-');
        let whole = usize::from(negative);
        let (mut digits, mut at) = scan_digits(text, whole, 0);
        let mut count = at - whole;
        let mut exponent = 0;
        if text.get(at) == Some(&b'.') {
            let fraction = at + 1;
            (digits, at) = scan_digits(text, fraction, digits);
            count += at - fraction;
            exponent = -as_i64(at - fraction);
        }
        if count == 0 {
            return None;
        }
        if let Some(b'e' | b'E') = text.get(at) {
            let (power, end) = scan_exponent(text, at + 1)?;
            exponent += power;
            at = end;
        }

        let fits = count <= DIGITS_MAX;
        (at == text.len()).then_some(Self { text, negative, digits, exponent, fits })
    }

    /// Whether it is written as a whole number: no point, no exponent.
    pub(super) fn is_plain_integer(&self) -> bool {
        self.text.iter().all(|byte| !matches!(byte, b'.' | b'e' | b'E'))
    }

    /// Its value as a whole number.
    #[inline]
    pub(super) fn whole(&self) -> Result<i128, RejectReason> {
        if self.fits && self.exponent == 0 {
            let value = i128::from(self.digits);
            return Ok(if self.negative { -value } else { value });
        }
        self.scaled(0).map_err(|unfit| match unfit {
            Unfit::TooFine => RejectReason::NotWhole,
            Unfit::TooLarge => RejectReason::OutOfRange,
        })
    }

    /// Its value times 10^`scale`, if that is a whole number of at most 128 bits.
    pub(super) fn scaled(&self, scale: i64) -> Result<i128, Unfit> {
        let (mantissa, exponent) =
            if self.fits { (Some(i128::from(self.digits)), self.exponent) } else { self.mantissa() };
        let shift = exponent + scale;
        let value = match mantissa {
            Some(mantissa) => shifted(mantissa, shift)?,
            None if shift < 0 => return Err(Unfit::TooFine),
            None => return Err(Unfit::TooLarge),
        };
        Ok(if self.negative { -value } else { value })
    }

    /// The nearest `f64`; infinite where it is beyond all of them.
    #[inline]
    pub(super) fn to_f64(self) -> f64 {
        // Both operands are exact then, so that the one division or multiplication rounds correctly (Clinger).
        if self.fits && self.digits <= 1 << 53 && self.exponent.unsigned_abs() < 23 {
            let power = POWERS_OF_TEN[usize::try_from(self.exponent.unsigned_abs()).unwrap_or(0)];
            let value = self.digits as f64;
            let value = if self.exponent < 0 { value / power } else { value * power };
            return if self.negative { -value } else { value };
        }
        fast_float2::parse(self.text).unwrap_or(f64::INFINITY)
    }

    /// The nearest `f32`; infinite where it is beyond all of them.
    pub(super) fn to_f32(self) -> f32 {
        fast_float2::parse(self.text).unwrap_or(f32::INFINITY)
    }

    /// All digits but trailing zeros, and the exponent that belongs to them; no digits if they exceed 128 bits.
    fn mantissa(&self) -> (Option<i128>, i64) {
        let mut mantissa = Some(0_i128);
        let mut zeros = 0_i64;
        let digits = self.text.iter().take_while(|byte| !matches!(byte, b'e' | b'E'));
        for digit in digits.filter(|byte| byte.is_ascii_digit()).map(|byte| byte - b'0') {
            if digit == 0 {
                zeros += 1;
                continue;
            }
            mantissa = mantissa
                .and_then(|mantissa| shifted(mantissa, zeros + 1).ok())
                .and_then(|mantissa| mantissa.checked_add(i128::from(digit)));
            zeros = 0;
        }
        (mantissa, self.exponent + zeros)
    }
}

/// `value` × 10^`shift`, exactly.
fn shifted(value: i128, shift: i64) -> Result<i128, Unfit> {
    if value == 0 {
        return Ok(0);
    }
    let power = u32::try_from(shift.unsigned_abs()).ok().and_then(|shift| 10_i128.checked_pow(shift));
    if shift >= 0 {
        power.and_then(|power| value.checked_mul(power)).ok_or(Unfit::TooLarge)
    } else {
        power.filter(|power| value % power == 0).map(|power| value / power).ok_or(Unfit::TooFine)
    }
}

#[inline]
fn scan_digits(bytes: &[u8], mut at: usize, mut value: u64) -> (u64, usize) {
    while let Some(digit) = bytes.get(at).map(|byte| byte.wrapping_sub(b'0')).filter(|digit| *digit < 10) {
        // Wraps only where there are too many digits to fit, which is counted.
        value = value.wrapping_mul(10).wrapping_add(u64::from(digit));
        at += 1;
    }
    (value, at)
}

fn scan_exponent(bytes: &[u8], start: usize) -> Option<(i64, usize)> {
    let negative = bytes.get(start) == Some(&b'-');
    let first = start + usize::from(matches!(bytes.get(start), Some(b'-' | b'+')));
    let mut at = first;
    let mut value = 0_i64;
    while let Some(digit) = bytes.get(at).filter(|byte| byte.is_ascii_digit()) {
        value = (value * 10 + i64::from(digit - b'0')).min(EXPONENT_MAX);
        at += 1;
    }
    (at > first).then_some((if negative { -value } else { value }, at))
}

fn as_i64(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

const POWERS_OF_TEN: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
];

#[cfg(test)]
mod tests;
