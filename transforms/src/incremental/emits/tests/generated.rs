//! Queries that are put together at random, against one pass; two tests of them, since tests run side by side.

mod queries;

use std::sync::LazyLock;

use proptest::prelude::*;

use self::queries::{OF_ANY_ORDER, config, queries};
use super::{block_on, check, slices};

/// Also those whose result is another for another order of rows: there is one order whatever the cut.
static AGGREGATES: LazyLock<Vec<&str>> = LazyLock::new(|| {
    let in_order = [
        "last_value(n)",
        "array_agg(n)[1] * 3 + coalesce(array_agg(n)[2], 0)",
        "CAST(round(coalesce(skewness(n / 7.0), 0) * 1e6) AS BIGINT)",
    ];
    OF_ANY_ORDER.iter().copied().chain(in_order).collect()
});

fn is_what_one_pass_gives(query: &str, slices: &[super::Slice], partitions: usize) -> Result<(), TestCaseError> {
    let checked = block_on(check(query, slices, partitions));
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
