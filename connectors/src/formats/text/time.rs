//! Dates and times: ISO 8601 by hand, since it is on the hot path; other patterns by `chrono`.

use std::sync::Arc;

use bessemer_schemas::RejectReason;
use chrono::format::{Item, Parsed, StrftimeItems};
use chrono::{DateTime, NaiveTime};

type Result<T> = std::result::Result<T, RejectReason>;

const SECONDS_PER_DAY: i64 = 86_400;

/// A `strftime` pattern, parsed once.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::formats) struct Pattern(Arc<[Item<'static>]>);

impl Pattern {
    /// Parses a pattern; `None` if it is none.
    pub(super) fn parse(text: &str) -> Option<Self> {
        StrftimeItems::new(text).parse_to_owned().ok().map(|items| Self(items.into()))
    }

    /// Seconds and nanoseconds since 1970, UTC.
    fn read(&self, text: &str) -> Result<(i64, u32)> {
        let mut parsed = Parsed::new();
        chrono::format::parse(&mut parsed, text, self.0.iter()).map_err(|error| reason(error.kind()))?;
        if parsed.offset().is_some() || parsed.timestamp().is_some() {
            let time = match parsed.offset() {
                Some(_) => parsed.to_datetime().map(|time| time.to_utc()),
                None => parsed.to_naive_datetime_with_offset(0).map(|time| time.and_utc()),
            };
            return time.map(split).map_err(|error| reason(error.kind()));
        }
        let date = parsed.to_naive_date().map_err(|error| reason(error.kind()))?;
        let has_time = parsed.hour_div_12().is_some() || parsed.hour_mod_12().is_some();
        let time = if has_time { parsed.to_naive_time() } else { Ok(NaiveTime::MIN) };
        let time = time.map_err(|error| reason(error.kind()))?;
        Ok(split(date.and_time(time).and_utc()))
    }

    /// The time that `text` gives, in units of 10^-`digits` seconds since 1970, UTC.
    pub(super) fn timestamp(&self, text: &[u8], digits: u32) -> Result<i64> {
        let text = std::str::from_utf8(text).map_err(|_| RejectReason::WrongType)?;
        let (seconds, nanos) = self.read(text)?;
        let step = 10_u32.pow(9 - digits);
        if nanos % step != 0 {
            return Err(RejectReason::OutOfRange);
        }
        in_units(seconds, i64::from(nanos / step), digits)
    }
}

fn split(time: DateTime<chrono::Utc>) -> (i64, u32) {
    (time.timestamp(), time.timestamp_subsec_nanos())
}

fn reason(kind: chrono::format::ParseErrorKind) -> RejectReason {
    match kind {
        chrono::format::ParseErrorKind::OutOfRange | chrono::format::ParseErrorKind::Impossible => {
            RejectReason::OutOfRange
        }
        _ => RejectReason::WrongType,
    }
}

/// Days since 1970 of `2013-01-31`.
pub(super) fn date(text: &[u8]) -> Result<i32> {
    let (date, rest) = scan_date(text)?;
    if !rest.is_empty() {
        return Err(RejectReason::WrongType);
    }
    i32::try_from(date.checked()?).map_err(|_| RejectReason::OutOfRange)
}

/// Time of day in units of 10^-`digits` seconds: `23:59`, `23:59:59`, `23:59:59.123`.
pub(super) fn time_of_day(text: &[u8], digits: u32) -> Result<i64> {
    let (clock, rest) = scan_clock(text, digits)?;
    if !rest.is_empty() {
        return Err(RejectReason::WrongType);
    }
    in_units(clock.checked()?, clock.fraction, digits)
}

/// Units of 10^-`digits` seconds since 1970, UTC: `2013-01-31`, `2013-01-31 23:59`, `2013-01-31T23:59:59.5+02:00`.
pub(super) fn timestamp(text: &[u8], digits: u32) -> Result<i64> {
    let (date, rest) = scan_date(text)?;
    let [b'T' | b' ', rest @ ..] = rest else {
        let is_date = rest.is_empty();
        return if is_date {
            in_units(date.checked()? * SECONDS_PER_DAY, 0, digits)
        } else {
            Err(RejectReason::WrongType)
        };
    };
    let (clock, rest) = scan_clock(rest, digits)?;
    let offset = scan_offset(rest)?;
    let seconds = date.checked()? * SECONDS_PER_DAY + clock.checked()? - offset;
    in_units(seconds, clock.fraction, digits)
}

/// Whether the text of a timestamp says where it was: `Z` or an offset; and how many digits its fraction has.
pub(super) fn describe(text: &[u8]) -> Option<(bool, usize)> {
    timestamp(text, 9).or_else(|_| timestamp(text, 0)).ok()?;
    let clock = text.get(11..).unwrap_or_default();
    let has_zone = clock.iter().any(|byte| matches!(byte, b'Z' | b'+' | b'-'));
    let fraction = clock
        .iter()
        .position(|byte| *byte == b'.')
        .map_or(0, |point| clock[point + 1..].iter().take_while(|byte| byte.is_ascii_digit()).count());
    Some((has_zone, fraction))
}

fn in_units(seconds: i64, fraction: i64, digits: u32) -> Result<i64> {
    // Before 1970 the product alone may be out of range where the sum is not.
    let value = i128::from(seconds) * i128::from(10_u32.pow(digits)) + i128::from(fraction);
    i64::try_from(value).map_err(|_| RejectReason::OutOfRange)
}

struct Date {
    year: i64,
    month: i64,
    day: i64,
}

impl Date {
    /// Days since 1970, if there is such a day.
    fn checked(&self) -> Result<i64> {
        let is_leap = self.year % 4 == 0 && (self.year % 100 != 0 || self.year % 400 == 0);
        let days = match self.month {
            2 => 28 + i64::from(is_leap),
            4 | 6 | 9 | 11 => 30,
            1..=12 => 31,
            _ => return Err(RejectReason::OutOfRange),
        };
        if !(1..=days).contains(&self.day) {
            return Err(RejectReason::OutOfRange);
        }
        Ok(self.days())
    }

    /// Days since 1970 in the Gregorian calendar, years beginning in March (Hinnant, `days_from_civil`).
    fn days(&self) -> i64 {
        let year = if self.month <= 2 { self.year - 1 } else { self.year };
        let era = year.div_euclid(400);
        let year_of_era = year - era * 400;
        let month = (self.month + 9) % 12;
        let day_of_year = (153 * month + 2) / 5 + self.day - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        era * 146_097 + day_of_era - 719_468
    }
}

fn scan_date(text: &[u8]) -> Result<(Date, &[u8])> {
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2, rest @ ..] = text else { return Err(RejectReason::WrongType) };
    let year = pair(*y1, *y2)? * 100 + pair(*y3, *y4)?;
    Ok((Date { year, month: pair(*m1, *m2)?, day: pair(*d1, *d2)? }, rest))
}

struct Clock {
    hour: i64,
    minute: i64,
    second: i64,
    fraction: i64,
    is_too_fine: bool,
}

impl Clock {
    /// Seconds since midnight, if there is such a time and the fraction is not finer than the unit.
    fn checked(&self) -> Result<i64> {
        if self.hour > 23 || self.minute > 59 || self.second > 59 || self.is_too_fine {
            return Err(RejectReason::OutOfRange);
        }
        Ok(self.hour * 3600 + self.minute * 60 + self.second)
    }
}

fn scan_clock(text: &[u8], digits: u32) -> Result<(Clock, &[u8])> {
    let [h1, h2, b':', m1, m2, rest @ ..] = text else { return Err(RejectReason::WrongType) };
    let mut clock =
        Clock { hour: pair(*h1, *h2)?, minute: pair(*m1, *m2)?, second: 0, fraction: 0, is_too_fine: false };
    let [b':', s1, s2, rest @ ..] = rest else { return Ok((clock, rest)) };
    clock.second = pair(*s1, *s2)?;
    let [b'.', rest @ ..] = rest else { return Ok((clock, rest)) };

    let mut wanted = digits;
    let mut count = 0;
    for digit in rest.iter().take_while(|byte| byte.is_ascii_digit()).map(|byte| byte - b'0') {
        count += 1;
        if wanted > 0 {
            clock.fraction = clock.fraction * 10 + i64::from(digit);
            wanted -= 1;
        } else {
            clock.is_too_fine |= digit != 0;
        }
    }
    clock.fraction *= i64::from(10_u32.pow(wanted));
    if count == 0 { Err(RejectReason::WrongType) } else { Ok((clock, &rest[count..])) }
}

/// Seconds east of Greenwich: nothing, `Z`, `+02`, `+0200`, `+02:00`.
fn scan_offset(text: &[u8]) -> Result<i64> {
    let (sign, hours, minutes) = match text {
        [] | [b'Z'] => return Ok(0),
        [sign, h1, h2] => (*sign, pair(*h1, *h2)?, 0),
        [sign, h1, h2, b':', m1, m2] | [sign, h1, h2, m1, m2] => (*sign, pair(*h1, *h2)?, pair(*m1, *m2)?),
        _ => return Err(RejectReason::WrongType),
    };
    let seconds = match sign {
        b'+' => hours * 3600 + minutes * 60,
        b'-' => -(hours * 3600 + minutes * 60),
        _ => return Err(RejectReason::WrongType),
    };
    if hours > 23 || minutes > 59 { Err(RejectReason::OutOfRange) } else { Ok(seconds) }
}

#[inline]
fn pair(tens: u8, ones: u8) -> Result<i64> {
    let (tens, ones) = (tens.wrapping_sub(b'0'), ones.wrapping_sub(b'0'));
    if tens > 9 || ones > 9 {
        return Err(RejectReason::WrongType);
    }
    Ok(i64::from(tens * 10 + ones))
}

#[cfg(test)]
mod tests;
