//! Sums against exact ones, statistics against those of the textbook, and all of them in every order.

#![expect(clippy::float_cmp, clippy::cast_precision_loss, reason = "to the last bit is what is claimed")]

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch};
use arrow::datatypes::Float64Type;
use arrow::util::pretty::pretty_format_batches;
use datafusion::datasource::MemTable;
use datafusion::execution::SessionStateBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};
use proptest::prelude::*;

use super::binned::{Binned, Bins, Revocable};
use super::moments::{Moments, Of, Second, Statistic};
use super::order_free;

fn sum<const K: usize>(numbers: &[f64]) -> f64 {
    let mut sum = Binned::<K>::default();
    for number in numbers {
        sum.add(*number);
    }
    sum.total().rounded()
}

/// Any bits, but none that are infinite or no number.
fn finite() -> impl Strategy<Value = f64> {
    any::<u64>().prop_map(f64::from_bits).prop_filter("finite", |number| number.is_finite())
}

/// Numbers as people have them: of a few sizes, of both signs.
fn usual() -> impl Strategy<Value = f64> {
    (-1e6..1e6_f64, -12..12_i32).prop_map(|(number, scale)| number * 10_f64.powi(scale))
}

proptest! {
    #[test]
    fn a_number_alone_is_its_own_sum(number in finite()) {
        prop_assert_eq!(sum::<2>(&[number]), number);
        prop_assert_eq!(sum::<2>(&[number, -number]), 0.);
        prop_assert_eq!(sum::<2>(&[number, number]), number * 2.);
    }

    #[test]
    fn two_numbers_add_up_as_the_processor_adds_them(left in usual(), right in usual()) {
        prop_assert_eq!(sum::<2>(&[left, right]), left + right);
    }

    #[test]
    fn integers_add_up_exactly(
        numbers in prop::collection::vec(-(1_i64 << 53)..(1_i64 << 53), 0..200), scale in -900..800_i32,
    ) {
        let exact: i128 = numbers.iter().copied().map(i128::from).sum();
        let scale = 2_f64.powi(scale);
        let scaled: Vec<f64> = numbers.iter().map(|number| *number as f64 * scale).collect();
        prop_assert_eq!(sum::<3>(&scaled), exact as f64 * scale);
    }

    #[test]
    fn order_cuts_and_bytes_change_no_bit(
        numbers in prop::collection::vec(prop_oneof![4 => usual(), 1 => finite()], 1..60),
        shuffled in Just(()).prop_perturb(|(), mut rng| rng.random::<u64>()),
        cuts in prop::collection::vec(0..60_usize, 0..5),
    ) {
        let whole = sum::<2>(&numbers);
        let mut others = numbers.clone();
        others.sort_by_key(|number| number.to_bits().wrapping_mul(shuffled | 1).rotate_left(17));
        let mut merged = Binned::<2>::default();
        let mut ends: Vec<usize> = cuts.into_iter().map(|cut| cut.min(others.len())).collect();
        ends.sort_unstable();
        ends.push(others.len());
        let mut start = 0;
        for end in ends {
            let mut part = Binned::<2>::default();
            for number in &others[start..end] {
                part.add(*number);
            }
            let mut bytes = Vec::new();
            part.encode(&mut bytes);
            prop_assert_eq!(bytes.len(), Binned::<2>::BYTES);
            merged.merge(&Binned::decode(&mut bytes.as_slice()).unwrap());
            start = end;
        }
        prop_assert_eq!(merged.total().rounded().to_bits(), whole.to_bits());
    }

    #[test]
    fn what_is_taken_out_was_never_there(
        kept in prop::collection::vec(prop_oneof![4 => usual(), 1 => finite()], 0..30),
        gone in prop::collection::vec(prop_oneof![4 => usual(), 1 => finite(), 1 => Just(f64::NAN)], 0..30),
    ) {
        let mut sliding = Revocable::<2>::default();
        for number in gone.iter().chain(&kept) {
            sliding.add(*number);
        }
        for number in &gone {
            sliding.remove(*number);
        }
        prop_assert_eq!(sliding.total().rounded().to_bits(), sum::<2>(&kept).to_bits());
    }

    #[test]
    fn variance_is_that_of_the_textbook(
        numbers in prop::collection::vec(-1e3..1e3_f64, 2..100), shift in prop_oneof![Just(0.), Just(1e9), Just(1.7e15)],
    ) {
        // So that the numbers are what they are after the shift, too.
        let numbers: Vec<f64> = numbers.iter().map(|number| number.round() + shift).collect();
        let mut moments = Second::default();
        for number in &numbers {
            moments.add(*number, *number);
        }
        let count = numbers.len() as f64;
        let mean = numbers.iter().map(|number| number - shift).sum::<f64>() / count;
        let spread: f64 = numbers.iter().map(|number| (number - shift - mean).powi(2)).sum();
        let found = moments.value(Statistic::Variance(Of::Sample)).unwrap();
        let expected = spread / (count - 1.);
        prop_assert!((found - expected).abs() <= 1e-9 * expected, "{found} {expected}");
    }
}

#[test]
fn what_a_plain_sum_loses_is_there() {
    assert_eq!(sum::<2>(&[1e17, 1., -1e17]), 1.);
    assert_eq!(sum::<3>(&[1e17, 1.5, 1e-3, -1e17]), 1.501);
    assert_eq!(sum::<2>(&[0.1; 10]), 1.);
    assert_eq!(sum::<2>(&[f64::MAX, f64::MAX, -f64::MAX, -f64::MAX]), 0.);
    assert_eq!(sum::<2>(&[f64::MAX, f64::MAX]), f64::INFINITY);
    assert_eq!(sum::<2>(&[f64::MIN_POSITIVE / 4., f64::MIN_POSITIVE / 4.]), f64::MIN_POSITIVE / 2.);
    // Half of the last bit: to the even neighbour, unless there is more.
    assert_eq!(sum::<2>(&[2_f64.powi(53), 1.]), 2_f64.powi(53));
    assert_eq!(sum::<2>(&[2_f64.powi(53), 1., 1e-9]), 2_f64.powi(53) + 2.);
    assert_eq!(sum::<2>(&[2_f64.powi(53) + 2., 1.]), 2_f64.powi(53) + 4.);
}

#[test]
fn what_is_no_finite_number_stays_so() {
    assert!(sum::<2>(&[1., f64::NAN, 2.]).is_nan());
    assert!(sum::<2>(&[f64::INFINITY, f64::NEG_INFINITY]).is_nan());
    assert_eq!(sum::<2>(&[f64::INFINITY, -1e300]), f64::INFINITY);
    assert_eq!(sum::<2>(&[f64::NEG_INFINITY, 1e300]), f64::NEG_INFINITY);
    assert_eq!(sum::<2>(&[-0., -0.]).to_bits(), 0);
}

#[test]
fn other_bytes_are_no_state() {
    let mut bytes = Vec::new();
    Second::default().encode(&mut bytes);
    assert_eq!(bytes.len(), Second::BYTES);
    assert!(Second::decode(&bytes).is_some());
    assert!(Second::decode(&bytes[1..]).is_none());
    bytes[8] = 40;
    assert!(Second::decode(&bytes).is_none(), "a bin beyond the grid");
}

const QUERY: &str = "SELECT g, sum(x) AS sum, avg(x) AS avg, var(x) AS var, var_pop(x) AS var_pop, stddev(x) AS stddev, \
     stddev_pop(x) AS stddev_pop, covar_samp(x, y) AS covar, covar_pop(x, y) AS covar_pop, corr(x, y) AS corr, \
     regr_slope(y, x) AS slope, regr_intercept(y, x) AS intercept, regr_r2(y, x) AS r2, regr_avgx(y, x) AS ax, \
     regr_avgy(y, x) AS ay, regr_sxx(y, x) AS sxx, regr_syy(y, x) AS syy, regr_sxy(y, x) AS sxy, \
     sum(DISTINCT x) AS dsum, sum(x) FILTER (WHERE y > 0) AS fsum, mean(x + 1.5) AS mean FROM t GROUP BY g ORDER BY g";

/// `rows` in partitions of their own, and `query` over them.
async fn ask(
    rows: &[(i64, Option<f64>, Option<f64>)],
    partitions: usize,
    is_ours: bool,
    query: &str,
) -> Vec<RecordBatch> {
    let size = rows.len().div_ceil(partitions).max(1);
    let batch = |rows: &[(i64, Option<f64>, Option<f64>)]| {
        RecordBatch::try_from_iter_with_nullable([
            ("g", Arc::new(rows.iter().map(|row| row.0).collect::<Int64Array>()) as ArrayRef, false),
            ("x", Arc::new(rows.iter().map(|row| row.1).collect::<Float64Array>()) as ArrayRef, true),
            ("y", Arc::new(rows.iter().map(|row| row.2).collect::<Float64Array>()) as ArrayRef, true),
        ])
        .unwrap()
    };
    let parts: Vec<Vec<RecordBatch>> = rows.chunks(size).map(|rows| vec![batch(rows)]).collect();
    let config = SessionConfig::new().with_target_partitions(partitions).with_batch_size(7);
    let state = SessionStateBuilder::new().with_config(config).with_default_features().build();
    let context = SessionContext::new_with_state(state);
    if is_ours {
        for function in order_free() {
            context.register_udaf(function.as_ref().clone());
        }
    }
    let schema = batch(&[]).schema();
    context.register_table("t", Arc::new(MemTable::try_new(schema, parts).unwrap())).unwrap();
    context.sql(query).await.unwrap().collect().await.unwrap()
}

fn some_rows(count: usize) -> Vec<(i64, Option<f64>, Option<f64>)> {
    let mut seed = 88_172_645_463_325_252_u64;
    let mut next = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed >> 11) as f64 / 2_f64.powi(53) - 0.5
    };
    let rows = (0..count).map(|row| {
        let (x, y) = (next() * 10_f64.powi(i32::try_from(row % 9).unwrap()), next() * 1e3);
        let is_null = row % 11 == 0;
        (i64::try_from(row % 5).unwrap(), (!is_null).then_some(x), (row % 13 != 0).then_some(y + x * 0.5))
    });
    rows.collect()
}

#[tokio::test]
async fn partitions_and_order_change_no_bit_of_any_statistic() {
    let mut rows = some_rows(3_000);
    let whole = pretty_format_batches(&ask(&rows, 1, true, QUERY).await).unwrap().to_string();
    for partitions in [2, 3, 8] {
        rows.reverse();
        rows.rotate_left(partitions * 100);
        let found = pretty_format_batches(&ask(&rows, partitions, true, QUERY).await).unwrap().to_string();
        assert_eq!(found, whole, "{partitions} partitions");
    }
    let theirs = pretty_format_batches(&ask(&rows, 8, false, QUERY).await).unwrap().to_string();
    assert_ne!(theirs, whole, "these rows show no difference");
}

#[tokio::test]
async fn they_agree_with_datafusion_to_its_own_error() {
    let few = [(1, Some(2.5), Some(1.)), (2, None, Some(1.)), (3, Some(1.), Some(2.)), (3, Some(1.), Some(3.))];
    for rows in [some_rows(2_000), few.to_vec()] {
        let [ours, theirs] = [ask(&rows, 3, true, QUERY).await, ask(&rows, 3, false, QUERY).await];
        let columns = |batches: &[RecordBatch]| -> Vec<Option<f64>> {
            let columns = batches.iter().flat_map(|batch| batch.columns()[1..].to_vec());
            columns.flat_map(|column| column.as_primitive::<Float64Type>().iter().collect::<Vec<_>>()).collect()
        };
        let (ours, theirs) = (columns(&ours), columns(&theirs));
        assert_eq!(ours.len(), theirs.len());
        for (ours, theirs) in ours.iter().zip(&theirs) {
            let is_near = match (ours, theirs) {
                (Some(ours), Some(theirs)) => (ours - theirs).abs() <= 1e-9 * theirs.abs(),
                (None, None) => true,
                _ => false,
            };
            assert!(is_near, "{ours:?} {theirs:?}");
        }
    }
}

#[tokio::test]
async fn a_sliding_window_has_the_sum_of_its_rows_alone() {
    let rows: Vec<_> = (0..40).map(|row| (row, Some(if row == 5 { 1e300 } else { 0.1 }), None)).collect();
    let query = "SELECT g, sum(x) OVER (ORDER BY g ROWS BETWEEN 2 PRECEDING AND CURRENT ROW) AS s FROM t ORDER BY g";
    let batches = ask(&rows, 1, true, query).await;
    let sums: Vec<f64> =
        batches.iter().flat_map(|batch| batch.column(1).as_primitive::<Float64Type>().values().to_vec()).collect();
    assert_eq!(sums[5], 1e300);
    // The processor's 0.1 + 0.1 + 0.1 has been rounded twice.
    assert_eq!(sums[9], sum::<2>(&[0.1, 0.1, 0.1]));
}

#[test]
fn moments_of_windows_that_slide_are_those_of_their_rows() {
    let numbers = [3., 1e12, -7.25, 0.1, 1e-9];
    let mut sliding = Moments::<Revocable<3>, 2>::default();
    for number in &numbers {
        sliding.add(*number, *number);
    }
    sliding.remove(1e12, 1e12);
    let mut whole = Second::default();
    for number in [3., -7.25, 0.1, 1e-9] {
        whole.add(number, number);
    }
    let variance = Statistic::Variance(Of::Population);
    assert_eq!(sliding.value(variance).map(f64::to_bits), whole.value(variance).map(f64::to_bits));
}
