//! Aggregates that features need and the engine lacks: they merge, so that they hold in windows and over partitions. Those
//! that it has, without its rounding (`exact`). And what expectations ask often, faster.

mod decay;
mod exact;
mod frame;
mod length;
mod moments;
mod ordered;
mod top_k;

use std::sync::Arc;

use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::{AggregateUDF, ScalarUDF};
use datafusion::physical_expr::expressions::Literal;

use decay::Decayed;
use length::CharacterLength;
use moments::{Shape, ShapeOf};
use top_k::TopK;

pub(crate) use ordered::{from_ordered, to_ordered};

/// Adds the functions to a session.
pub(crate) fn register(session: &mut impl FunctionRegistry) -> Result<()> {
    for shape in [Shape::Skewness, Shape::Kurtosis, Shape::KurtosisOfPopulation] {
        session.register_udaf(AggregateUDF::new_from_impl(ShapeOf::new(shape)).into())?;
    }
    for decayed in [Decayed::sum(), Decayed::count()] {
        session.register_udaf(AggregateUDF::new_from_impl(decayed).into())?;
    }
    session.register_udaf(AggregateUDF::new_from_impl(TopK::default()).into())?;
    let engines = session.udf("character_length")?;
    session.register_udf(ScalarUDF::new_from_impl(CharacterLength(engines)).into())?;
    Ok(())
}

/// `sum`, `avg`, variance, covariance, correlation and regression of `DOUBLE` that lose nothing before they are rounded, so
/// that the order of rows, and how they were cut, changes no bit. A query of sums in many groups takes a fifth
/// more than with the engine's, so they stand in only where sets are kept up to date.
pub fn exact_aggregates() -> impl Iterator<Item = Arc<AggregateUDF>> {
    exact::functions()
}

/// The exact function for an engine's, if there is one.
pub(crate) fn exact_for(engines: &Arc<AggregateUDF>) -> Arc<AggregateUDF> {
    exact_aggregates().find(|exact| exact.name() == engines.name()).unwrap_or_else(|| Arc::clone(engines))
}

/// Refuses `DISTINCT`, of which these functions know nothing.
fn all_rows(args: &AccumulatorArgs<'_>) -> Result<()> {
    if args.is_distinct {
        return plan_err!("`{}` takes all rows: take distinct ones in a query below it", args.name);
    }
    Ok(())
}

/// The last argument, which is the same for all rows.
fn constant(args: &AccumulatorArgs<'_>, what: &str) -> Result<ScalarValue> {
    match args.exprs.last().and_then(|expr| expr.downcast_ref::<Literal>()) {
        Some(literal) if !literal.value().is_null() => Ok(literal.value().clone()),
        _ => plan_err!("{what} of `{}` is the same for all rows: write a constant", args.name),
    }
}

#[cfg(test)]
mod tests {
    use datafusion::prelude::SessionContext;

    use crate::tests::state;

    async fn rows_of(query: &str) -> datafusion::error::Result<String> {
        let rows = SessionContext::new_with_state(state(3)).sql(query).await?.collect().await?;
        Ok(arrow::util::pretty::pretty_format_batches(&rows)?.to_string())
    }

    /// What a query gives, as a table.
    pub(super) async fn text_of(query: &str) -> String {
        rows_of(query).await.unwrap()
    }

    #[tokio::test]
    async fn what_would_be_another_number_is_refused() {
        let rows = "(VALUES (1.5, 2, 'a'), (2.5, 3, 'b')) AS t (x, k, kind)";
        for (call, expected) in [
            ("skewness(DISTINCT x) FILTER (WHERE k > 2)", "takes all rows"),
            ("top_k(DISTINCT x, 2), avg(k)", "takes all rows"),
            ("top_k(x, k)", "write a constant"),
            ("top_k(x, 0)", "ask for one at least"),
        ] {
            let error = error_of(&format!("SELECT {call} FROM {rows}")).await;
            assert!(error.contains(expected), "{call}: {error}");
        }
    }

    #[tokio::test]
    async fn partitions_merge_into_the_whole_with_empty_groups_and_filters() {
        let query = "SELECT kind, round(skewness(x), 9) AS a, round(kurtosis(x), 9) AS b, top_k(x, 2) AS c,
                            top_k(x, 1) FILTER (WHERE x > 1e9) AS d,
                            round(decayed_sum(x, at, INTERVAL '1 hour'), 9) AS e,
                            decayed_count(at, INTERVAL '1 hour') FILTER (WHERE x < 0) AS f
                     FROM (SELECT CAST(value % 7 AS DOUBLE) AS x, value % 3 AS kind,
                                  arrow_cast(value * 60000000, 'Timestamp(Microsecond, None)') AS at
                           FROM generate_series(0, 20000)
                           UNION ALL SELECT NULL, 3, NULL) AS t
                     GROUP BY kind ORDER BY kind";
        let of = async |partitions| {
            let rows = SessionContext::new_with_state(state(partitions)).sql(query).await.unwrap().collect().await;
            arrow::util::pretty::pretty_format_batches(&rows.unwrap()).unwrap().to_string()
        };
        let (one, many) = (of(1).await, of(4).await);
        assert_eq!(one, many);
        assert!(one.lines().filter(|line| line.starts_with("| 3 ")).all(|line| line.contains("[]")), "{one}");
    }

    /// Why it gives nothing.
    pub(super) async fn error_of(query: &str) -> String {
        rows_of(query).await.unwrap_err().to_string()
    }
}
