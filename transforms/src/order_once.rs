//! `ORDER BY` in aggregates names each expression once. The engine counts those that are named twice once in some places and
//! twice in others, and `first_value(a ORDER BY b, c, b)` ends in a panic; so does `DISTINCT ON`, which is made of such.

use std::collections::HashSet;

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::expr::Sort;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::optimizer::optimizer::ApplyOrder;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

/// Leaves out of an order what it has already.
#[derive(Debug)]
pub(crate) struct OrderOnce;

impl OptimizerRule for OrderOnce {
    fn name(&self) -> &'static str {
        "order_once"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn rewrite(&self, plan: LogicalPlan, _config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        if !matches!(plan, LogicalPlan::Aggregate(_)) {
            return Ok(Transformed::no(plan));
        }
        let names = NamePreserver::new(&plan);
        plan.map_expressions(|expr| {
            let name = names.save(&expr);
            Ok(expr.transform_up(|expr| Ok(once(expr)))?.update_data(|expr| name.restore(expr)))
        })
    }
}

fn once(expr: Expr) -> Transformed<Expr> {
    let Expr::AggregateFunction(mut call) = expr else { return Transformed::no(expr) };
    let before = call.params.order_by.len();
    let mut known = HashSet::new();
    call.params.order_by.retain(|Sort { expr, .. }| known.insert(expr.clone()));
    let is_shorter = call.params.order_by.len() < before;
    Transformed::new_transformed(Expr::AggregateFunction(call), is_shorter)
}

#[cfg(test)]
mod tests {
    use datafusion::prelude::SessionContext;

    use crate::tests::{lines, state};

    #[tokio::test]
    async fn what_is_named_twice_orders_once() {
        let context = SessionContext::new_with_state(state(2));
        let of = "(VALUES (1, 5, 'a'), (1, 6, 'b'), (2, 5, 'c'), (2, 5, 'd')) AS t (k, n, x)";
        for (query, expected) in [
            (
                "SELECT k, first_value(x ORDER BY n DESC, x, n) AS f, last_value(x ORDER BY n, n DESC, x) AS l
                 FROM $ GROUP BY k ORDER BY k",
                ["1|b|b", "2|c|d"],
            ),
            (
                "SELECT k, x FROM (SELECT DISTINCT ON (k) k, x, n FROM $ ORDER BY k, n, x DESC, n) t ORDER BY k",
                ["1|a", "2|d"],
            ),
        ] {
            let rows = context.sql(&query.replace('$', of)).await.unwrap().collect().await.unwrap();
            assert_eq!(lines(&rows, ""), expected, "{query}");
        }
    }
}
