//! What the module `number` promises, tested.

use bessemer_schemas::RejectReason;
use proptest::prelude::*;

use super::{Number, Unfit};

fn number(text: &str) -> Number<'_> {
    Number::scan_json(text.as_bytes(), 0).filter(|(_, end)| *end == text.len()).unwrap().0
}

#[test]
fn grammar_is_that_of_json() {
    for text in ["0", "-0", "10", "1.5", "0.5", "1e5", "1E+5", "1.25e-5", "123456789012345678901234567890"] {
        let (_, end) = Number::scan_json(text.as_bytes(), 0).unwrap();
        assert_eq!(end, text.len(), "{text}");
    }
    for text in ["", "-", "01", "-01", "+1", ".5", "1.", "1.e5", "1e", "1e+", "NaN", "inf", "00"] {
        let whole = Number::scan_json(text.as_bytes(), 0).filter(|(_, end)| *end == text.len());
        assert!(whole.is_none(), "{text}");
    }
}

#[test]
fn text_takes_what_csv_writers_write() {
    for (text, value) in [("+5", 5.0), ("007", 7.0), (".5", 0.5), ("5.", 5.0), ("-.5e1", -5.0), ("1e2", 100.0)] {
        let number = Number::from_text(text.as_bytes()).unwrap();
        assert_eq!(number.to_f64().to_bits(), f64::to_bits(value), "{text}");
        assert_eq!(f64::from(number.to_f32()).to_bits(), f64::to_bits(value), "{text}");
    }
    for text in ["", "+", "-", ".", "+-5", "-+5", "++5", "5 ", " 5", "1e", "0x10", "NaN", "1_000", "e5"] {
        assert!(Number::from_text(text.as_bytes()).is_none(), "{text}");
    }
}

#[test]
fn whole_numbers_are_exact_whatever_their_form() {
    let check = |text: &str, expected: Result<i128, RejectReason>| assert_eq!(number(text).whole(), expected, "{text}");
    check("1.0", Ok(1));
    check("1e2", Ok(100));
    check("15e-1", Err(RejectReason::NotWhole));
    check("150e-1", Ok(15));
    check("-0.0", Ok(0));
    check("0e999999999999999999999", Ok(0));
    check("1e999999999999999999999", Err(RejectReason::OutOfRange));
    check("1e-999999999999999999999", Err(RejectReason::NotWhole));
    check("9007199254740993.0", Ok(9_007_199_254_740_993));
    check("9223372036854775807", Ok(i64::MAX.into()));
    check("18446744073709551615.000000000000000000000", Ok(u64::MAX.into()));
    check("1.00000000000000000000000000000000000000000000000001", Err(RejectReason::NotWhole));
    check("100000000000000000000000000000000000000000000000000", Err(RejectReason::OutOfRange));
    check("123456789012345678901234567890123456789012345.5", Err(RejectReason::NotWhole));
}

#[test]
fn decimals_take_no_detour() {
    assert_eq!(number("0.1").scaled(1), Ok(1));
    assert_eq!(number("-12.340").scaled(2), Ok(-1234));
    assert_eq!(number("12.345").scaled(2), Err(Unfit::TooFine));
    assert_eq!(number("1e38").scaled(0), Ok(10_i128.pow(38)));
    assert_eq!(number("1e39").scaled(0), Err(Unfit::TooLarge));
    assert_eq!(number("1234").scaled(-2), Err(Unfit::TooFine));
    assert_eq!(number("1200").scaled(-2), Ok(12));
    assert_eq!(number("0.12345678901234567890123456789").scaled(29), Ok(12_345_678_901_234_567_890_123_456_789));
}

proptest! {
    #[test]
    fn floats_are_those_of_the_standard_library(bits: u64, half: u32, digits in "-?(0|[1-9][0-9]{0,25})(\\.[0-9]{1,25})?([eE][-+]?[0-9]{1,3})?") {
        let value = f64::from_bits(bits);
        let texts = [digits, format!("{value}"), format!("{value:e}"), format!("{:?}", f32::from_bits(half))];
        for text in texts.iter().filter(|text| !text.contains(['N', 'i'])) {
            prop_assert_eq!(number(text).to_f64().to_bits(), text.parse::<f64>().unwrap().to_bits(), "{}", text);
            prop_assert_eq!(number(text).to_f32().to_bits(), text.parse::<f32>().unwrap().to_bits(), "{}", text);
        }
    }

    #[test]
    fn integers_are_those_of_the_standard_library(value: i128) {
        for value in [value, value >> 64, value >> 100] {
            let text = value.to_string();
            prop_assert_eq!(number(&text).whole().ok(), Some(value));
            prop_assert_eq!(number(&format!("{text}.00")).whole().ok(), Some(value));
            prop_assert_eq!(number(&format!("{text}00e-2")).whole().ok(), Some(value));
        }
    }
}
