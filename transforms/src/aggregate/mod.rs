//! Statistics of floating-point numbers that are bit for bit the same in whatever order the numbers come: `sum`, `avg`,
//! variance, covariance, correlation and regression, under their usual names.
//!
//! DataFusion's own add as rows come, so their last digits depend on how many partitions there are, on what spills, and
//! on how the input was cut.

mod binned;
mod groups;
mod moments;
mod single;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue, not_impl_err};
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
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Documentation, Expr, GroupsAccumulator, Operator, ReversedUDAF,
    SetMonotonicity, Signature,
};

use groups::Groups;
use moments::{First, Joint, Line, Of, PRODUCT_BINS, SUM_BINS, Second, Statistic};
use single::{Distinct, Sliding, Whole};

/// The functions, to be registered over DataFusion's.
pub(crate) fn order_free() -> impl Iterator<Item = Arc<AggregateUDF>> {
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
    .map(|(inner, statistic)| Arc::new(AggregateUDF::from(OrderFree { inner, statistic })))
}

/// DataFusion's function, but that of `DOUBLE` it is computed free of order.
#[derive(Debug, PartialEq, Eq, Hash)]
struct OrderFree {
    inner: Arc<AggregateUDF>,
    statistic: Statistic,
}

impl OrderFree {
    /// Whether it is ours to compute: integers and decimals add up exactly as they are.
    fn is_ours(fields: &[FieldRef]) -> bool {
        fields.iter().all(|field| *field.data_type() == DataType::Float64)
    }

    /// Bytes of a state.
    fn state_bytes(&self) -> usize {
        match self.statistic {
            Statistic::Sum | Statistic::Average => First::BYTES,
            Statistic::Variance(_) | Statistic::StandardDeviation(_) => Second::BYTES,
            Statistic::Covariance(_) | Statistic::Correlation | Statistic::Regression(_) => Joint::BYTES,
        }
    }
}

/// `$kind` of the moments that `$statistic` needs.
macro_rules! boxed {
    ($kind:ident, $statistic:expr) => {
        match $statistic {
            Statistic::Sum | Statistic::Average => Box::new($kind::<SUM_BINS, 1>::new($statistic)) as _,
            Statistic::Variance(_) | Statistic::StandardDeviation(_) => {
                Box::new($kind::<PRODUCT_BINS, 2>::new($statistic)) as _
            }
            Statistic::Covariance(_) | Statistic::Correlation | Statistic::Regression(_) => {
                Box::new($kind::<PRODUCT_BINS, 5>::new($statistic)) as _
            }
        }
    };
}

impl AggregateUDFImpl for OrderFree {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(arg_types)
    }

    fn return_field(&self, arg_fields: &[FieldRef]) -> Result<FieldRef> {
        self.inner.return_field(arg_fields)
    }

    fn is_nullable(&self) -> bool {
        self.inner.is_nullable()
    }

    fn default_value(&self, data_type: &DataType) -> Result<ScalarValue> {
        self.inner.default_value(data_type)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        if !Self::is_ours(args.expr_fields) {
            return self.inner.accumulator(args);
        }
        if !args.is_distinct {
            return Ok(boxed!(Whole, self.statistic));
        }
        match self.statistic {
            Statistic::Covariance(_) | Statistic::Correlation | Statistic::Regression(_) => {
                not_impl_err!("{}(DISTINCT …)", self.name())
            }
            statistic => Ok(Box::new(Distinct::new(statistic))),
        }
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        if !Self::is_ours(args.input_fields) {
            return self.inner.state_fields(args);
        }
        let field = if args.is_distinct {
            let item = Field::new_list_field(DataType::Float64, true);
            Field::new_list(format_state_name(args.name, "distinct"), item, true)
        } else {
            let size = i32::try_from(self.state_bytes()).unwrap_or(i32::MAX);
            Field::new(format_state_name(args.name, "moments"), DataType::FixedSizeBinary(size), true)
        };
        Ok(vec![Arc::new(field)])
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs<'_>) -> bool {
        if Self::is_ours(args.expr_fields) { !args.is_distinct } else { self.inner.groups_accumulator_supported(args) }
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        if !Self::is_ours(args.expr_fields) {
            return self.inner.create_groups_accumulator(args);
        }
        Ok(boxed!(Groups, self.statistic))
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        if !Self::is_ours(args.expr_fields) || args.is_distinct {
            return self.inner.create_sliding_accumulator(args);
        }
        Ok(boxed!(Sliding, self.statistic))
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn set_monotonicity(&self, data_type: &DataType) -> SetMonotonicity {
        self.inner.inner().set_monotonicity(data_type)
    }

    /// DataFusion makes `sum(x) + c * count(x)` of `sum(x + c)`, which are two numbers where these are floating-point.
    fn simplify_expr_op_literal(
        &self,
        function: &AggregateFunction,
        arg: &Expr,
        op: Operator,
        literal: &Expr,
        arg_is_left: bool,
    ) -> Result<Option<Expr>> {
        let is_float = matches!(literal, Expr::Literal(value, _) if value.data_type().is_floating());
        if is_float {
            return Ok(None);
        }
        self.inner.inner().simplify_expr_op_literal(function, arg, op, literal, arg_is_left)
    }
}
