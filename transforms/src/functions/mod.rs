//! Aggregates that features need and the engine lacks. They merge, so that they hold in windows and over partitions.

mod decay;
mod moments;
mod top_k;

use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::AggregateUDF;

use decay::Decayed;
use moments::{Shape, ShapeOf};
use top_k::TopK;

/// Adds the functions to a session.
pub(crate) fn register(session: &mut impl FunctionRegistry) -> datafusion::error::Result<()> {
    for shape in [Shape::Skewness, Shape::Kurtosis, Shape::KurtosisOfPopulation] {
        session.register_udaf(AggregateUDF::new_from_impl(ShapeOf::new(shape)).into())?;
    }
    for decayed in [Decayed::sum(), Decayed::count()] {
        session.register_udaf(AggregateUDF::new_from_impl(decayed).into())?;
    }
    session.register_udaf(AggregateUDF::new_from_impl(TopK::default()).into())?;
    Ok(())
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

    /// Why it gives nothing.
    pub(super) async fn error_of(query: &str) -> String {
        rows_of(query).await.unwrap_err().to_string()
    }
}
