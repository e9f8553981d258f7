//! Which rows a window function depends on.

use datafusion::common::Column;
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::{Expr, LogicalPlan, WindowFrameBound, WindowFrameUnits};
use datafusion::scalar::ScalarValue;

use super::need::{Last, Need};
use super::reach::{Place, refused};
use super::together::expr_spread;
use crate::incremental::cut::Everything;
use crate::window::{SessionWindow, Spread, interval};

/// What a window function needs beside the row itself, whose time is at `place` of `input`.
pub(super) fn over(call: &WindowFunction, input: &LogicalPlan, place: Place) -> Result<Need, Everything> {
    let (name, params) = (call.fun.name(), &call.params);
    let mut spreads = params.partition_by.iter().filter_map(|key| expr_spread(input, place, key));
    if let Some(spread) = spreads.next() {
        // Rows with the same key, each as far from it.
        let around = spread.then(spread.back());
        return Ok(Need { back: -around.least, ahead: around.most, ..Need::default() });
    }
    let in_order = params.order_by.first();
    let spread = in_order.and_then(|order| Some((order.asc, expr_spread(input, place, &order.expr)?)));
    let Some((is_ascending, spread)) = spread else {
        return refused(format!(
            "`{name}` is neither over `PARTITION BY` the time of the set or its window, nor in the order of that time"
        ));
    };
    let last = |rows: usize| {
        if !is_ascending || !spread.is_exact() {
            return refused(format!("`{name}` counts rows in another order than that of their time"));
        }
        let leaf = |key: &Expr| matches!(key, Expr::Column(_));
        if !params.partition_by.iter().all(leaf) {
            return refused(format!("`{name}` is over keys that are computed: compute them in a query below"));
        }
        Ok(Need { last: vec![Last::new(params.partition_by.clone(), rows)], ..Need::default() })
    };
    match name {
        "lag" if params.null_treatment.is_none() => match params.args.get(1) {
            None => last(1),
            Some(Expr::Literal(ScalarValue::Int64(Some(rows)), _)) if *rows >= 0 => {
                last(usize::try_from(*rows).unwrap_or(usize::MAX))
            }
            Some(_) => refused("`lag` looks at a row that may still come"),
        },
        "lag" => refused("`lag` looks for a value that may be any time back"),
        "lead" => refused("`lead` looks at the next row, which may still come: take `lag` of the other row"),
        "row_number" | "rank" | "dense_rank" | "percent_rank" | "cume_dist" | "ntile" => {
            refused(format!("`{name}` counts all rows ever: let it be over `PARTITION BY` a window of the time, too"))
        }
        _ => {
            let frame = &params.window_frame;
            let (mut start, mut end) = (&frame.start_bound, &frame.end_bound);
            match frame.units {
                WindowFrameUnits::Rows => match (start, end) {
                    (
                        WindowFrameBound::Preceding(ScalarValue::UInt64(Some(rows))),
                        WindowFrameBound::CurrentRow | WindowFrameBound::Preceding(_),
                    ) => last(usize::try_from(*rows).unwrap_or(usize::MAX)),
                    _ => refused(format!(
                        "`{name}` is over a frame without a beginning, or with rows that may still come: write `ROWS \
                         BETWEEN 10 PRECEDING AND CURRENT ROW`"
                    )),
                },
                WindowFrameUnits::Range => {
                    if !is_ascending {
                        std::mem::swap(&mut start, &mut end);
                    }
                    let back = length(start, is_ascending);
                    let ahead = length(end, !is_ascending);
                    let (Some(back), Some(ahead)) = (back, ahead) else {
                        return refused(format!(
                            "`{name}` is over a frame that has no bounds in time: write `RANGE BETWEEN INTERVAL '1 hour' \
                             PRECEDING AND CURRENT ROW`"
                        ));
                    };
                    let around = spread.then(spread.back());
                    let (back, ahead) = (back.max(0) - around.least, ahead.max(0) + around.most);
                    Ok(Need { back, ahead, ..Need::default() })
                }
                WindowFrameUnits::Groups => refused(format!("`{name}` is over a frame of groups")),
            }
        }
    }
}

/// By how much a bound of a frame is before the row, or `after` it where that is meant; nothing where it is unbounded.
fn length(bound: &WindowFrameBound, before: bool) -> Option<i128> {
    match bound {
        WindowFrameBound::CurrentRow => Some(0),
        WindowFrameBound::Preceding(by) => local(by).map(|by| if before { by.most } else { -by.least }),
        WindowFrameBound::Following(by) => local(by).map(|by| if before { -by.least } else { by.most }),
    }
}

/// How long an interval is by any clock on a wall: a day may have an hour more, or less.
fn local(by: &ScalarValue) -> Option<Spread> {
    const HOUR: i128 = 3_600_000_000_000;
    let by = interval(by)?;
    let is_of_days = by.most.abs() >= 23 * HOUR;
    let off = if is_of_days { HOUR } else { 0 };
    Some(Spread { least: by.least - off, most: by.most + off })
}

/// Whether a window function has a part in `expr` over `plan`.
pub(super) fn is_made(plan: &LogicalPlan, expr: &Expr) -> bool {
    let is_made_at = |column: &&Column| match plan.schema().maybe_index_of_column(column) {
        Some(at) => column_is_made(plan, at),
        None => true,
    };
    expr.column_refs().iter().any(is_made_at)
}

fn column_is_made(plan: &LogicalPlan, at: usize) -> bool {
    match plan {
        LogicalPlan::Projection(projection) => is_made(&projection.input, &projection.expr[at]),
        LogicalPlan::SubqueryAlias(alias) => column_is_made(&alias.input, at),
        LogicalPlan::Filter(filter) => column_is_made(&filter.input, at),
        LogicalPlan::Extension(_) => {
            SessionWindow::of(plan).is_some_and(|session| at >= session.width() || column_is_made(session.data(), at))
        }
        LogicalPlan::Window(window) => at >= window.input.schema().fields().len() || column_is_made(&window.input, at),
        _ => false,
    }
}

pub(super) fn window_function(expr: &Expr) -> Option<&WindowFunction> {
    match expr {
        Expr::Alias(alias) => window_function(&alias.expr),
        Expr::WindowFunction(function) => Some(function),
        _ => None,
    }
}
