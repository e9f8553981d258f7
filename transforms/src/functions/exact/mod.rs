//! Statistics of floating-point numbers that are bit for bit the same in whatever order the numbers come: `sum`, `avg`,
//! variance, covariance, correlation and regression, under their usual names.
//!
//! The engine's own add as rows come, so that their last digits depend on how many partitions there are, on what spills and
//! on how rows were cut. Here sums lose nothing, so that order does not matter; what is computed from them is rounded at
//! the end.

mod expansion;
mod groups;
mod moments;
mod single;
mod statistic;
#[cfg(test)]
mod tests;
mod wide;

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue};
use datafusion::functions_aggregate::average::avg_udaf;
use datafusion::functions_aggregate::correlation::corr_udaf;
use datafusion::functions_aggregate::covariance::{covar_pop_udaf, covar_samp_udaf};
use datafusion::functions_aggregate::regr::{
    regr_avgx_udaf, regr_avgy_udaf, regr_intercept_udaf, regr_r2_udaf, regr_slope_udaf, regr_sxx_udaf, regr_sxy_udaf,
    regr_syy_udaf,
};
use datafusion::functions_aggregate::stddev::{stddev_pop_udaf, stddev_udaf};
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::functions_aggregate::variance::{var_pop_udaf, var_samp_udaf};
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::function::{AccumulatorArgs, AggregateFunctionSimplification, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Documentation, Expr, GroupsAccumulator, Operator, ReversedUDAF,
    SetMonotonicity, Signature, StatisticsArgs,
};

use super::all_rows;
use groups::Groups;
use moments::{PRODUCT_PARTS, SUM_PARTS};
use single::{Distinct, Single};
use statistic::{Line, Of, Statistic};

/// The functions, each under the name of the engine's.
pub(super) fn functions() -> impl Iterator<Item = Arc<AggregateUDF>> {
    [
        (sum_udaf(), Statistic::Sum),
        (avg_udaf(), Statistic::Average),
        (var_samp_udaf(), Statistic::Variance(Of::Sample)),
        (var_pop_udaf(), Statistic::Variance(Of::Population)),
        (stddev_udaf(), Statistic::StandardDeviation(Of::Sample)),
        (stddev_pop_udaf(), Statistic::StandardDeviation(Of::Population)),
        (covar_samp_udaf(), Statistic::Covariance(Of::Sample)),
        (covar_pop_udaf(), Statistic::Covariance(Of::Population)),
        (corr_udaf(), Statistic::Correlation),
        (regr_slope_udaf(), Statistic::Regression(Line::Slope)),
        (regr_intercept_udaf(), Statistic::Regression(Line::Intercept)),
        (regr_r2_udaf(), Statistic::Regression(Line::Fit)),
        (regr_avgx_udaf(), Statistic::Regression(Line::AverageX)),
        (regr_avgy_udaf(), Statistic::Regression(Line::AverageY)),
        (regr_sxx_udaf(), Statistic::Regression(Line::SquaresX)),
        (regr_syy_udaf(), Statistic::Regression(Line::SquaresY)),
        (regr_sxy_udaf(), Statistic::Regression(Line::Products)),
    ]
    .into_iter()
    .map(|(engines, statistic)| Arc::new(AggregateUDF::from(Exact { engines, statistic })))
}

/// The engine's function, which computes `statistic`, but that of `DOUBLE` it is computed here.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Exact {
    engines: Arc<AggregateUDF>,
    statistic: Statistic,
}

impl Exact {
    /// Whether it is computed here: integers, decimals and durations add up exactly as they are.
    fn is_here(fields: &[FieldRef]) -> bool {
        fields.iter().all(|field| *field.data_type() == DataType::Float64)
    }

    /// How many columns there are, and of how many of their products sums are kept.
    fn shape(&self) -> (usize, usize) {
        match self.statistic {
            Statistic::Sum | Statistic::Average => (1, 0),
            Statistic::Variance(_) | Statistic::StandardDeviation(_) => (1, 1),
            Statistic::Covariance(_) | Statistic::Correlation | Statistic::Regression(_) => (2, 3),
        }
    }
}

impl AggregateUDFImpl for Exact {
    fn name(&self) -> &str {
        self.engines.name()
    }

    fn aliases(&self) -> &[String] {
        self.engines.aliases()
    }

    fn signature(&self) -> &Signature {
        self.engines.signature()
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        self.engines.coerce_types(arg_types)
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.engines.return_type(arg_types)
    }

    fn return_field(&self, arg_fields: &[FieldRef]) -> Result<FieldRef> {
        self.engines.return_field(arg_fields)
    }

    fn is_nullable(&self) -> bool {
        self.engines.is_nullable()
    }

    fn default_value(&self, data_type: &DataType) -> Result<ScalarValue> {
        self.engines.default_value(data_type)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.engines.documentation()
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        if !Self::is_here(args.expr_fields) {
            return self.engines.accumulator(args);
        }
        let statistic = self.statistic;
        Ok(match (self.shape(), args.is_distinct) {
            ((1, 0), false) => Box::new(Single::<1, 0, 0>::new(statistic)),
            ((1, 0), true) => Box::new(Distinct::<0> { engines: self.engines.accumulator(args)?, statistic }),
            ((1, _), false) => Box::new(Single::<1, 1, 0>::new(statistic)),
            ((1, _), true) => Box::new(Distinct::<1> { engines: self.engines.accumulator(args)?, statistic }),
            _ => {
                all_rows(&args)?;
                Box::new(Single::<2, 2, 1>::new(statistic))
            }
        })
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        if args.is_distinct || !Self::is_here(args.input_fields) {
            return self.engines.state_fields(args);
        }
        let field =
            |part: String, data_type| Arc::new(Field::new(format_state_name(args.name, &part), data_type, true));
        let (sums, products) = self.shape();
        let sums = (0..sums * SUM_PARTS).map(|part| format!("sum_{part}"));
        let products = (0..products * PRODUCT_PARTS).map(|part| format!("product_{part}"));
        let numbers = sums.chain(products).map(|part| field(part, DataType::Float64));
        let count = field("count".to_owned(), DataType::UInt64);
        Ok([count].into_iter().chain(numbers).chain([field("wide".to_owned(), DataType::Binary)]).collect())
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs<'_>) -> bool {
        if Self::is_here(args.expr_fields) {
            !args.is_distinct
        } else {
            self.engines.groups_accumulator_supported(args)
        }
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        if !Self::is_here(args.expr_fields) {
            return self.engines.create_groups_accumulator(args);
        }
        Ok(match self.shape() {
            (1, 0) => Box::new(Groups::<1, 0, 0>::new(self.statistic)),
            (1, _) => Box::new(Groups::<1, 1, 0>::new(self.statistic)),
            _ => Box::new(Groups::<2, 2, 1>::new(self.statistic)),
        })
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        if args.is_distinct || !Self::is_here(args.expr_fields) {
            self.engines.create_sliding_accumulator(args)
        } else {
            self.accumulator(args)
        }
    }

    fn simplify(&self) -> Option<AggregateFunctionSimplification> {
        self.engines.simplify()
    }

    /// The engine makes `sum(x) + c * count(x)` of `sum(x + c)`, which are two numbers where these are floating-point.
    fn simplify_expr_op_literal(
        &self,
        function: &AggregateFunction,
        arg: &Expr,
        op: Operator,
        literal: &Expr,
        arg_is_left: bool,
    ) -> Result<Option<Expr>> {
        if matches!(literal, Expr::Literal(value, _) if value.data_type().is_floating()) {
            return Ok(None);
        }
        self.engines.simplify_expr_op_literal(function, arg, op, literal, arg_is_left)
    }

    /// What a statistic of a file says is the sum of `DOUBLE` was added up in some order.
    fn value_from_stats(&self, args: &StatisticsArgs<'_>) -> Option<ScalarValue> {
        if args.return_type.is_floating() { None } else { self.engines.value_from_stats(args) }
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        self.engines.reverse_udf()
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        self.engines.order_sensitivity()
    }

    fn set_monotonicity(&self, data_type: &DataType) -> SetMonotonicity {
        self.engines.inner().set_monotonicity(data_type)
    }

    fn supports_null_handling_clause(&self) -> bool {
        self.engines.supports_null_handling_clause()
    }
}
