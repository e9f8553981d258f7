//! Seconds of a difference of times. The engine's `date_part('epoch', …)` of one drops what is below a second as soon as it
//! is longer than two: the nanoseconds no longer fit into their type.

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::{Expr, ExprSchemable, cast, lit};

/// Counts the units of a difference where its seconds are asked for.
#[derive(Debug)]
pub(crate) struct ExactSeconds;

impl FunctionRewrite for ExactSeconds {
    fn name(&self) -> &'static str {
        "exact_seconds"
    }

    fn rewrite(&self, expr: Expr, schema: &DFSchema, _config: &ConfigOptions) -> Result<Transformed<Expr>> {
        let Expr::ScalarFunction(ScalarFunction { func, args }) = &expr else { return Ok(Transformed::no(expr)) };
        let [part, of] = args.as_slice() else { return Ok(Transformed::no(expr)) };
        match of.get_type(schema) {
            Ok(DataType::Duration(unit)) if func.name() == "date_part" && is_epoch(part) => {
                let units = cast(cast(of.clone(), DataType::Int64), DataType::Float64);
                Ok(Transformed::yes(units / lit(units_per_second(unit))))
            }
            _ => Ok(Transformed::no(expr)),
        }
    }
}

fn units_per_second(unit: TimeUnit) -> f64 {
    match unit {
        TimeUnit::Second => 1.,
        TimeUnit::Millisecond => 1e3,
        TimeUnit::Microsecond => 1e6,
        TimeUnit::Nanosecond => 1e9,
    }
}

fn is_epoch(part: &Expr) -> bool {
    let Expr::Literal(ScalarValue::Utf8(Some(part)) | ScalarValue::Utf8View(Some(part)), _) = part else {
        return false;
    };
    part.eq_ignore_ascii_case("epoch")
}

#[cfg(test)]
mod tests {
    use datafusion::prelude::SessionContext;

    use crate::tests::state;

    #[tokio::test]
    async fn seconds_of_a_difference_have_all_their_digits() {
        let context = SessionContext::new_with_state(state(2));
        for (later, expected) in [
            ("2013-01-01T00:00:04.992", "4.992"),
            ("2013-01-01T00:00:00.883", "0.883"),
            ("2013-02-01T00:00:52.575001", "2678452.575001"),
            ("2012-12-31T23:59:57.5", "-2.5"),
            ("9999-12-31T00:00:00", "252045216000.0"),
        ] {
            for seconds in ["date_part('epoch', at - began)", "extract(EPOCH FROM at - began)"] {
                let time = |text: &str| format!("arrow_cast('{text}', 'Timestamp(Microsecond, None)')");
                let of = format!("SELECT {} AS at, {} AS began", time(later), time("2013-01-01T00:00:00"));
                let query = format!("SELECT CAST({seconds} AS VARCHAR) AS seconds FROM ({of}) AS spans");
                let rows = context.sql(&query).await.unwrap().collect().await.unwrap();
                let found = arrow::util::display::array_value_to_string(rows[0].column(0), 0).unwrap();
                assert_eq!(found, expected, "{query}");
            }
        }
    }
}
