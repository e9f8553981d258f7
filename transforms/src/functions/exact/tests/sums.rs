//! Sums and their states against exact ones, of all numbers, in all orders and cuts.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::Accumulator;
use proptest::prelude::*;

use super::oracle::Exact;
use crate::functions::exact::expansion::{Expansion, Factors, canonical};
use crate::functions::exact::moments::{Moments, Wides};
use crate::functions::exact::single::Single;
use crate::functions::exact::statistic::{Line, Of, Statistic};
use crate::functions::exact::wide::Wide;

/// Any bits, but none that are infinite or no number.
fn finite() -> impl Strategy<Value = f64> {
    any::<u64>().prop_map(f64::from_bits).prop_filter("finite", |number| number.is_finite())
}

/// Numbers as people have them: of a few sizes, of both signs.
fn usual() -> impl Strategy<Value = f64> {
    (-1e6..1e6_f64, -12..12_i32).prop_map(|(number, scale)| number * 10_f64.powi(scale))
}

/// Small multiples of powers of two that are one significand apart, which make ties.
fn tied() -> impl Strategy<Value = f64> {
    (-3..4_i32, -4..4_i32, -1..2_i32).prop_map(|(number, scale, off)| f64::from(number) * 2_f64.powi(53 * scale + off))
}

fn number() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => usual(),
        2 => finite(),
        2 => tied(),
        1 => prop_oneof![Just(0.), Just(-0.), Just(f64::MAX), Just(f64::MIN), Just(5e-324), Just(2.3e-308)],
    ]
}

/// Numbers, some of which cancel one another.
fn numbers() -> impl Strategy<Value = Vec<f64>> {
    (prop::collection::vec(number(), 0..60), 0..60_usize).prop_map(|(mut numbers, cancelled)| {
        numbers.extend_from_within(..cancelled.min(numbers.len()));
        let all = numbers.len();
        numbers[all - cancelled.min(all)..].iter_mut().for_each(|number| *number = -*number);
        numbers
    })
}

/// The order of rows, and cuts among them.
fn order() -> impl Strategy<Value = (u64, Vec<usize>)> {
    (any::<u64>(), prop::collection::vec(0..120_usize, 0..6))
}

fn column(numbers: &[f64]) -> ArrayRef {
    Arc::new(Float64Array::from_iter_values(numbers.iter().copied()))
}

fn shuffled<T: Clone>(rows: &[T], seed: u64) -> Vec<T> {
    let mut rows: Vec<(u64, T)> = (rows.iter().enumerate())
        .map(|(row, value)| {
            ((row as u64 + 1).wrapping_mul(seed | 1).rotate_left(29).wrapping_mul(0x9e37_79b9), value.clone())
        })
        .collect();
    rows.sort_by_key(|(place, _)| *place);
    rows.into_iter().map(|(_, value)| value).collect()
}

/// All rows in one accumulator, and in one for each piece, which are merged as a tree.
fn whole_and_merged<const P: usize, const S: usize, const X: usize>(
    statistic: Statistic,
    rows: &[(f64, f64)],
    (seed, cuts): &(u64, Vec<usize>),
) -> [(Option<f64>, Vec<ScalarValue>); 2] {
    let of = |rows: &[(f64, f64)]| {
        let mut single = Single::<P, S, X>::new(statistic);
        let (x, y): (Vec<f64>, Vec<f64>) = rows.iter().copied().unzip();
        single.update_batch(&[column(&x), column(&y)][..P]).unwrap();
        single
    };
    let others = shuffled(rows, *seed);
    let mut ends: Vec<usize> = cuts.iter().map(|cut| *cut.min(&others.len())).collect();
    ends.extend([0, others.len()]);
    ends.sort_unstable();
    let mut pieces: Vec<_> = ends.windows(2).map(|ends| of(&others[ends[0]..ends[1]])).collect();
    while pieces.len() > 1 {
        let mut taken = pieces.swap_remove(usize::try_from(seed % pieces.len() as u64).unwrap());
        let state: Vec<ArrayRef> = taken.state().unwrap().iter().map(|part| part.to_array().unwrap()).collect();
        let to = usize::try_from(seed / 7 % pieces.len() as u64).unwrap();
        pieces[to].merge_batch(&state).unwrap();
    }
    [of(rows), pieces.remove(0)].map(|mut single| (value(&mut single), single.state().unwrap()))
}

fn value(of: &mut impl Accumulator) -> Option<f64> {
    let ScalarValue::Float64(value) = of.evaluate().unwrap() else { panic!("a number") };
    value
}

fn sum(numbers: &[f64]) -> Option<f64> {
    let mut single = Single::<1, 0, 0>::new(Statistic::Sum);
    single.update_batch(&[column(numbers)]).unwrap();
    value(&mut single)
}

fn bits(numbers: &[f64]) -> Vec<u64> {
    numbers.iter().map(|number| number.to_bits()).collect()
}

proptest! {
    #[test]
    fn a_sum_is_the_exact_one_rounded_once(numbers in numbers()) {
        let expected = (!numbers.is_empty()).then(|| Exact::of(&numbers).rounded());
        prop_assert_eq!(sum(&numbers).map(f64::to_bits), expected.map(f64::to_bits));
    }

    #[test]
    fn many_numbers_at_a_time_are_no_other_sum(
        numbers in prop::collection::vec(prop_oneof![20 => usual(), 1 => finite()], 900..2_200),
    ) {
        prop_assert_eq!(sum(&numbers).map(f64::to_bits), Some(Exact::of(&numbers).rounded().to_bits()));
    }

    #[test]
    fn parts_are_the_same_from_either_side(numbers in numbers()) {
        let (mut expansion, mut rest, mut wide) = (Expansion::<3, 1>::default(), Wide::default(), Wide::default());
        for number in &numbers {
            expansion.add(0, [*number], |_, left| rest.add(left));
            wide.add(*number);
        }
        let exact = Exact::of(&numbers);
        prop_assume!(exact.rounded().is_finite());
        let expected = bits(&exact.parts::<3>());
        prop_assert_eq!(bits(&wide.sum(&[]).parts::<3>().0), expected.clone());
        prop_assert_eq!(bits(&rest.sum(expansion.0.as_flattened()).parts::<3>().0), expected.clone());
        if rest.sum(&[]).parts::<1>() == ([0.], true) {
            prop_assert_eq!(canonical(expansion.0.map(|part| part[0])).map(|parts| bits(&parts)), Some(expected));
        }
    }

    #[test]
    fn a_product_and_its_error_are_exact(left in number(), right in number()) {
        let ([product], [error]) = Factors::new([left]).times(&Factors::new([right]));
        prop_assert_eq!(product, left * right);
        prop_assume!(product.is_finite() && error.is_finite() && product.abs() > 1e-260);
        let mut difference = Exact::default();
        difference.add_product(left, right);
        difference.add(-product);
        difference.add(-error);
        prop_assert_eq!(difference.rounded(), 0.);
    }

    #[test]
    fn order_and_cuts_change_no_bit_of_a_sum(numbers in numbers(), order in order()) {
        let rows: Vec<_> = numbers.iter().map(|number| (*number, 0.)).collect();
        for statistic in [Statistic::Sum, Statistic::Average] {
            let [whole, merged] = whole_and_merged::<1, 0, 0>(statistic, &rows, &order);
            prop_assert_eq!(whole.0.map(f64::to_bits), merged.0.map(f64::to_bits));
            prop_assert_eq!(whole.1, merged.1);
        }
    }

    #[test]
    fn order_and_cuts_change_no_bit_of_what_takes_products(x in numbers(), order in order()) {
        let rows: Vec<_> = x.iter().copied().zip(shuffled(&x, order.0 ^ 0x55)).collect();
        let [whole, merged] = whole_and_merged::<1, 1, 0>(Statistic::Variance(Of::Sample), &rows, &order);
        prop_assert_eq!(whole.0.map(f64::to_bits), merged.0.map(f64::to_bits));
        prop_assert_eq!(format!("{:?}", whole.1), format!("{:?}", merged.1));
        for statistic in [Statistic::Correlation, Statistic::Regression(Line::Intercept)] {
            let [whole, merged] = whole_and_merged::<2, 2, 1>(statistic, &rows, &order);
            prop_assert_eq!(whole.0.map(f64::to_bits), merged.0.map(f64::to_bits));
            prop_assert_eq!(format!("{:?}", whole.1), format!("{:?}", merged.1));
        }
    }

    #[test]
    fn sums_of_products_are_exact(rows in prop::collection::vec((usual(), usual()), 1..40)) {
        let mut exact = Exact::default();
        let mut moments = Moments::<2, 2, 1>::default();
        let mut wides = Wides::default();
        for (x, y) in &rows {
            exact.add_product(*x, *y);
            moments.add(*x, *y, |at, left| wides.add(0, at, left));
        }
        let totals = moments.totals(0, &wides);
        prop_assert_eq!(bits(&totals.sums[4]), bits(&exact.parts::<3>()));
    }

    #[test]
    fn what_is_taken_out_was_never_there(
        kept in prop::collection::vec(number(), 0..30),
        gone in prop::collection::vec(prop_oneof![9 => number(), 1 => Just(f64::NAN), 1 => Just(f64::INFINITY)], 0..30),
    ) {
        let mut sliding = Single::<1, 0, 0>::new(Statistic::Sum);
        sliding.update_batch(&[column(&gone)]).unwrap();
        sliding.update_batch(&[column(&kept)]).unwrap();
        sliding.retract_batch(&[column(&gone)]).unwrap();
        prop_assert_eq!(value(&mut sliding).map(f64::to_bits), sum(&kept).map(f64::to_bits));
        let mut sliding = Single::<1, 1, 0>::new(Statistic::Variance(Of::Population));
        let mut fresh = Single::<1, 1, 0>::new(Statistic::Variance(Of::Population));
        for numbers in [&gone, &kept] {
            sliding.update_batch(&[column(numbers)]).unwrap();
        }
        sliding.retract_batch(&[column(&gone)]).unwrap();
        fresh.update_batch(&[column(&kept)]).unwrap();
        prop_assert_eq!(value(&mut sliding).map(f64::to_bits), value(&mut fresh).map(f64::to_bits));
    }

    #[test]
    fn variance_is_that_of_the_textbook(
        numbers in prop::collection::vec(-1000..1000_i32, 2..100),
        shift in prop_oneof![Just(0.), Just(1e9), Just(1.7e15)],
        scale in prop_oneof![Just(1.), Just(2_f64.powi(450)), Just(2_f64.powi(-400))],
    ) {
        let mut variance = Single::<1, 1, 0>::new(Statistic::Variance(Of::Sample));
        let shifted: Vec<f64> = numbers.iter().map(|number| (f64::from(*number) + shift) * scale).collect();
        variance.update_batch(&[column(&shifted)]).unwrap();
        // In integers, which are exact.
        let count = i64::try_from(numbers.len()).unwrap();
        let sum: i64 = numbers.iter().copied().map(i64::from).sum();
        let squares: i64 = numbers.iter().map(|number| i64::from(*number).pow(2)).sum();
        let expected = (count * squares - sum * sum) as f64 / count as f64 / (count - 1) as f64;
        let found = value(&mut variance).unwrap() / scale / scale;
        prop_assert!((found - expected).abs() <= 1e-15 * expected, "{} {}", found, expected);
    }
}

#[test]
fn what_a_plain_sum_loses_is_there() {
    for (numbers, expected) in [
        (&[1e17, 1., -1e17][..], 1.),
        (&[1e17, 1.5, 1e-3, -1e17], 1.501),
        (&[0.1; 10], 1.),
        (&[f64::MAX, f64::MAX, -f64::MAX, -f64::MAX], 0.),
        (&[f64::MAX, f64::MAX], f64::INFINITY),
        (&[5e-324, 5e-324], 1e-323),
        // Half of the last bit: to the even neighbour, unless there is more.
        (&[9_007_199_254_740_992., 1.], 9_007_199_254_740_992.),
        (&[9_007_199_254_740_992., 1., 1e-300], 9_007_199_254_740_994.),
        (&[9_007_199_254_740_994., 1., -1e-300], 9_007_199_254_740_994.),
        // Nothing is left of it, and it has no sign.
        (&[-0., -0.], 0.),
        (&[1., -1.], 0.),
    ] {
        assert_eq!(sum(numbers).map(f64::to_bits), Some(f64::to_bits(expected)), "{numbers:?}");
    }
    assert_eq!(sum(&[]), None);
}

#[test]
fn what_is_not_finite_stays_so_in_every_order_and_cut() {
    let (nan, inf) = (f64::NAN, f64::INFINITY);
    for (numbers, expected) in [
        (vec![1., nan, 2.], nan),
        (vec![inf, -inf], nan),
        (vec![inf, -1e300, inf], inf),
        (vec![-inf, f64::MAX, f64::MAX], -inf),
        (vec![f64::MAX, f64::MAX, nan, -f64::MAX], nan),
    ] {
        let rows: Vec<_> = numbers.iter().map(|number| (*number, 0.)).collect();
        for seed in 0..20 {
            for (found, state) in whole_and_merged::<1, 0, 0>(Statistic::Sum, &rows, &(seed, vec![1, 2])) {
                assert_eq!(found.map(f64::to_bits), Some(expected.to_bits()), "{numbers:?}");
                assert!(state[3].is_null(), "{numbers:?}: {state:?}");
            }
        }
    }
}

#[test]
fn a_sum_that_fits_is_kept_as_two_numbers() {
    let rows: Vec<_> = [1e300, 1., 1e-300, -1e300, -1e-300].map(|number| (number, 0.)).into();
    let [(_, state), _] = whole_and_merged::<1, 0, 0>(Statistic::Sum, &rows, &(1, vec![]));
    let expected = [5_u64.into(), 1_f64.into(), 0_f64.into(), ScalarValue::Binary(None)];
    assert_eq!(state, expected);
    let [(sum, state), _] = whole_and_merged::<1, 0, 0>(Statistic::Sum, &rows[..3], &(1, vec![]));
    assert_eq!(sum, Some(1e300));
    assert!(matches!(&state[3], ScalarValue::Binary(Some(_))), "{state:?}");
}

#[test]
fn other_bytes_are_no_state() {
    let mut single = Single::<1, 0, 0>::new(Statistic::Sum);
    let state = |bytes: &[u8]| {
        [1_u64.into(), 0_f64.into(), 0_f64.into(), ScalarValue::Binary(Some(bytes.to_vec()))]
            .map(|part: ScalarValue| part.to_array().unwrap())
    };
    for bytes in [&[0][..], &[0, 0, 0], &[0, 35, 1, 0, 0, 0, 0, 0, 0, 0, 0], &[0, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0]] {
        let error = single.merge_batch(&state(bytes)).unwrap_err().to_string();
        assert!(error.contains("state of a statistic is damaged"), "{bytes:?}: {error}");
    }
    assert!(single.merge_batch(&state(&[0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0])).is_ok());
    assert!(single.merge_batch(&state(&[])[..2]).is_err());
}
