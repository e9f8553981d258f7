//! Aggregates that features need and the engine lacks. They merge, so that they hold in windows and over partitions.

mod moments;

use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::AggregateUDF;

use moments::{Shape, ShapeOf};

/// Adds the functions to a session.
pub(crate) fn register(session: &mut impl FunctionRegistry) -> datafusion::error::Result<()> {
    for shape in [Shape::Skewness, Shape::Kurtosis, Shape::KurtosisOfPopulation] {
        session.register_udaf(AggregateUDF::new_from_impl(ShapeOf::new(shape)).into())?;
    }
    Ok(())
}
