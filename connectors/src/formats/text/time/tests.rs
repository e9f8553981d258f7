//! What the module `time` promises, tested.

use bessemer_schemas::RejectReason::{OutOfRange, WrongType};
use chrono::{DateTime, NaiveDate, SecondsFormat};
use proptest::prelude::*;

use super::{Pattern, date, time_of_day, timestamp};

#[test]
fn dates_exist() {
    assert_eq!(date(b"1970-01-01"), Ok(0));
    assert_eq!(date(b"1969-12-31"), Ok(-1));
    assert_eq!(date(b"2024-02-29"), Ok(19_782));
    for text in ["2023-02-29", "1900-02-29", "2013-13-01", "2013-00-10", "2013-04-31", "2013-01-00"] {
        assert_eq!(date(text.as_bytes()), Err(OutOfRange), "{text}");
    }
    for text in
        ["", "2013", "2013-1-1", "13-01-01", "2013/01/01", "2013-01-01 ", "2013-01-0a", "2013-01-004", "+2013-01-01"]
    {
        assert_eq!(date(text.as_bytes()), Err(WrongType), "{text}");
    }
}

#[test]
fn timestamps_are_utc() {
    let second = 1_357_034_400;
    for text in [
        "2013-01-01T10:00:00",
        "2013-01-01 10:00:00",
        "2013-01-01 10:00",
        "2013-01-01T10:00:00Z",
        "2013-01-01T12:00:00+02:00",
        "2013-01-01T12:00:00+02",
        "2013-01-01T06:30:00-0330",
        "2013-01-01T10:00:00.000000000000",
    ] {
        assert_eq!(timestamp(text.as_bytes(), 0), Ok(second), "{text}");
    }
    assert_eq!(timestamp(b"2013-01-01", 0), Ok(1_356_998_400));
}

#[test]
fn fractions_finer_than_the_unit_are_refused() {
    assert_eq!(timestamp(b"1970-01-01T00:00:01.5", 3), Ok(1500));
    assert_eq!(timestamp(b"1969-12-31T23:59:59.5", 3), Ok(-500));
    assert_eq!(timestamp(b"1970-01-01T00:00:00.123456789", 9), Ok(123_456_789));
    assert_eq!(timestamp(b"1970-01-01T00:00:00.123456789", 6), Err(OutOfRange));
    assert_eq!(timestamp(b"1970-01-01T00:00:00.123456000", 6), Ok(123_456));
    assert_eq!(timestamp(b"1677-09-21T00:12:43", 9), Err(OutOfRange));
    assert_eq!(timestamp(b"1677-09-21T00:12:43.145224192", 9), Ok(i64::MIN));
    assert_eq!(timestamp(b"9999-12-31T23:59:59", 9), Err(OutOfRange));
}

#[test]
fn malformed_timestamps_are_of_the_wrong_type() {
    for text in [
        "",
        "now",
        "2013-01-01T",
        "2013-01-01T10",
        "2013-01-01t10:00",
        "2013-01-01T10:00:00.",
        "2013-01-01T10:00:00z",
        "2013-01-01T10:00:00 Z",
        "2013-01-01T10:00:00+2",
        "2013-01-01T10:00:00.5x",
        "2013-01-01T10:00.5",
        "2013-01-01T10:00:00UTC",
        "2013-02-300",
        "2013-02-30x",
        "2013-02-30T25:00x",
        "2013-01-01  10:00",
    ] {
        assert_eq!(timestamp(text.as_bytes(), 6), Err(WrongType), "{text}");
    }
    for text in ["2013-01-01T24:00", "2013-01-01T10:60", "2013-01-01T10:00:60", "2013-01-01T10:00+24:00"] {
        assert_eq!(timestamp(text.as_bytes(), 6), Err(OutOfRange), "{text}");
    }
}

#[test]
fn times_of_day() {
    assert_eq!(time_of_day(b"23:59:59.999999", 6), Ok(86_399_999_999));
    assert_eq!(time_of_day(b"00:00", 6), Ok(0));
    assert_eq!(time_of_day(b"00:00:00.0000001", 6), Err(OutOfRange));
    assert_eq!(time_of_day(b"24:00", 6), Err(OutOfRange));
    assert_eq!(time_of_day(b"10:00Z", 6), Err(WrongType));
}

#[test]
fn patterns_are_those_of_strftime() {
    let check = |pattern: &str, text: &str, expected| {
        assert_eq!(Pattern::parse(pattern).unwrap().timestamp(text.as_bytes(), 0), expected, "{pattern} {text}");
    };
    check("%d/%m/%Y %H:%M:%S", "01/01/2013 10:00:00", Ok(1_357_034_400));
    check("%d/%m/%Y", "01/01/2013", Ok(1_356_998_400));
    check("%Y-%m-%dT%H:%M:%S%z", "2013-01-01T12:00:00+0200", Ok(1_357_034_400));
    check("%s", "1357034400", Ok(1_357_034_400));
    check("%d/%m/%Y", "32/01/2013", Err(OutOfRange));
    check("%d/%m/%Y", "31/02/2013", Err(OutOfRange));
    check("%d/%m/%Y", "x", Err(WrongType));
    check("%Y-%m-%d %H:%M:%S%.f", "2013-01-01 10:00:00.5", Err(OutOfRange));
    assert!(Pattern::parse("%Q").is_none());
}

proptest! {
    #[test]
    fn dates_are_those_of_the_calendar(year in 0..10_000_i32, day in 1..366_u32) {
        let expected = NaiveDate::from_yo_opt(year, day).unwrap();
        let text = expected.format("%Y-%m-%d").to_string();
        let epoch = NaiveDate::from_ymd_opt(1970, 1, 1).unwrap();
        prop_assert_eq!(date(text.as_bytes()).map(i64::from), Ok((expected - epoch).num_days()));
    }

    #[test]
    fn timestamps_come_back(nanos: i64) {
        let text = DateTime::from_timestamp_nanos(nanos).to_rfc3339_opts(SecondsFormat::Nanos, true);
        prop_assert_eq!(timestamp(text.as_bytes(), 9), Ok(nanos));
    }
}
