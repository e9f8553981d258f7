//! Queries that are put together at random, against one pass; two tests of them, since tests run side by side.

mod queries;

use std::sync::LazyLock;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use tokio::runtime::Builder;

pub(crate) use self::queries::with_views;
use self::queries::{OF_ANY_ORDER, config, queries};
use super::{check, slices};

/// Also those whose result is another for another order of rows: there is one order whatever the cut.
static AGGREGATES: LazyLock<Vec<&str>> = LazyLock::new(|| {
    let in_order = [
        "last_value(n)",
        "array_agg(n)[1] * 3 + coalesce(array_agg(n)[2], 0)",
        "round(coalesce(skewness(n / 7.0), 0) * 1e6)",
    ];
    OF_ANY_ORDER.iter().copied().chain(in_order).collect()
});

/// What queries are made of.
const OPERATORS: &[&str] = &[
    "TUMBLE((",
    "HOP((",
    "CUMULATE((",
    "SESSION((",
    "date_bin(",
    "date_trunc(",
    "(DISTINCT n)",
    "FILTER (",
    "(n ORDER BY",
    "HAVING",
    "QUALIFY",
    "row_number() OVER (PARTITION BY at",
    "RANGE BETWEEN",
    "ROWS BETWEEN",
    "lag(",
    "lead(",
    "LEFT JOIN names",
    "l JOIN (",
    "l LEFT JOIN (",
    "l RIGHT JOIN (",
    "l FULL JOIN (",
    "l LEFT SEMI JOIN (",
    "l LEFT ANTI JOIN (",
    "l.window_end = r.window_end",
    "l ASOF JOIN (",
    "l ASOF LEFT JOIN (",
    "SELECT DISTINCT k",
    "DISTINCT ON (",
    "UNION ALL",
    "unnest([n",
    "unnest(l)",
    "FROM {",
    "TUMBLE((SELECT k, CAST(",
    "HOP((SELECT k, CAST(",
];

/// Whatever the threads: one, or two.
fn is_what_one_pass_gives(query: &str, slices: &[super::Slice], partitions: usize) -> Result<(), TestCaseError> {
    let mut threads = match partitions {
        1 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    let checked = threads.worker_threads(2).build().unwrap().block_on(check(query, slices, partitions));
    prop_assert!(checked.is_ok(), "{query}: {checked:?}");
    Ok(())
}

proptest! {
    #![proptest_config(config("BESSEMER_QUERIES", 128))]

    #[test]
    fn what_is_released_of_one_partition_is_what_one_pass_gives(query in queries(AGGREGATES.as_slice()), slices in slices()) {
        is_what_one_pass_gives(&query, &slices, 1)?;
    }

    #[test]
    fn what_is_released_of_several_is_what_one_pass_gives(query in queries(AGGREGATES.as_slice()), slices in slices(), partitions in 2..4_usize) {
        is_what_one_pass_gives(&query, &slices, partitions)?;
    }
}

#[test]
fn every_operator_has_its_part() {
    let mut runner = TestRunner::new(config("BESSEMER_QUERIES", 0));
    let mut drawn = || queries(OF_ANY_ORDER).new_tree(&mut runner).unwrap().current();
    let drawn: Vec<_> = (0..1_500).map(|_| drawn()).collect();
    for operator in OPERATORS {
        let of_it = drawn.iter().filter(|query| query.contains(operator)).count();
        assert!(of_it >= 5, "{operator}: {of_it}");
    }
}
