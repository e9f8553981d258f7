//! Frames over a stretch of time, counted in ticks.
//!
//! The engine looks for the first row of a frame by taking an interval from a timestamp, row by row, which goes through
//! the calendar. An interval without months is a number of ticks, and so are timestamps.

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::Column;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::{
    Expr, LogicalPlan, LogicalPlanBuilder, Window, WindowFrame, WindowFrameBound, WindowFrameUnits, cast,
};
use datafusion::scalar::ScalarValue;

use super::interval::nanos_of;
use super::spread::interval;

/// Column of the ticks.
const TICKS: &str = "__ticks";

/// `plan`, optimised, whose frames of time are frames of whole numbers.
pub(crate) fn in_ticks(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    plan.transform_up(|node| {
        let LogicalPlan::Window(window) = &node else { return Ok(Transformed::no(node)) };
        Ok(match rewritten(window) {
            Some(rewritten) => Transformed::yes(rewritten?),
            None => Transformed::no(node),
        })
    })
}

fn rewritten(window: &Window) -> Option<Result<LogicalPlan>> {
    let calls = window.window_expr.iter().map(call).collect::<Option<Vec<_>>>()?;
    let time = calls.iter().find(|call| is_of_time(&call.params.window_frame)).and_then(|call| ordered_by(call))?;
    let schema = window.input.schema();
    let unit = match schema.field(schema.maybe_index_of_column(time)?).data_type() {
        DataType::Timestamp(unit, None) => *unit,
        // By a clock on a wall a day may have another length.
        DataType::Timestamp(unit, Some(zone)) if matches!(zone.as_ref(), "UTC" | "+00:00") => *unit,
        _ => return None,
    };
    let calls = calls.into_iter().map(|call| {
        let mut call = call.clone();
        // All of them are computed in one order, so that rows are sorted once.
        if ordered_by(&call) != Some(time) {
            return None;
        }
        call.params.order_by.first_mut()?.expr = Expr::Column(Column::from_name(TICKS));
        if is_of_time(&call.params.window_frame) {
            let frame = &call.params.window_frame;
            let (start, end) = (ticks(&frame.start_bound, unit)?, ticks(&frame.end_bound, unit)?);
            call.params.window_frame = WindowFrame::new_bounds(WindowFrameUnits::Range, start, end);
        }
        Some(call)
    });
    let calls = calls.collect::<Option<Vec<_>>>()?;
    Some(plan(window, time, calls))
}

fn plan(window: &Window, time: &Column, calls: Vec<WindowFunction>) -> Result<LogicalPlan> {
    let width = window.input.schema().fields().len();
    let columns = window.input.schema().columns().into_iter().map(Expr::Column);
    let ticks = cast(Expr::Column(time.clone()), DataType::Int64).alias(TICKS);
    let named = calls.into_iter().enumerate().map(|(at, call)| {
        let name = window.schema.field(width + at).name();
        Expr::from(call).alias(name)
    });
    let columns: Vec<_> = columns.chain([ticks]).collect();
    let made =
        LogicalPlanBuilder::from(window.input.as_ref().clone()).project(columns)?.window(named.collect::<Vec<_>>())?;
    let given = |at: usize| Expr::Column(Column::from(made.schema().qualified_field(at + usize::from(at >= width))));
    let columns: Vec<_> = (0..window.schema.fields().len()).map(given).collect();
    made.project(columns)?.build()
}

fn call(expr: &Expr) -> Option<&WindowFunction> {
    match expr {
        Expr::Alias(alias) => call(&alias.expr),
        Expr::WindowFunction(call) => Some(call),
        _ => None,
    }
}

/// The one column that the rows of a frame are ordered by.
fn ordered_by(call: &WindowFunction) -> Option<&Column> {
    match call.params.order_by.as_slice() {
        [order] => order.expr.try_as_col(),
        _ => None,
    }
}

fn is_of_time(frame: &WindowFrame) -> bool {
    let is_interval = |bound: &WindowFrameBound| match bound {
        WindowFrameBound::Preceding(by) | WindowFrameBound::Following(by) => {
            matches!(by, ScalarValue::IntervalMonthDayNano(Some(_)))
        }
        WindowFrameBound::CurrentRow => false,
    };
    frame.units == WindowFrameUnits::Range && (is_interval(&frame.start_bound) || is_interval(&frame.end_bound))
}

/// A bound in ticks; nothing where it is no whole number of them.
fn ticks(bound: &WindowFrameBound, unit: TimeUnit) -> Option<WindowFrameBound> {
    let of = |by: &ScalarValue| {
        if by.is_null() {
            return Some(ScalarValue::Int64(None));
        }
        let length = interval(by).filter(|length| length.is_exact())?.least;
        let tick = i128::from(nanos_of(unit));
        (length % tick == 0).then(|| Some(ScalarValue::Int64(Some(i64::try_from(length / tick).ok()?))))?
    };
    Some(match bound {
        WindowFrameBound::Preceding(by) => WindowFrameBound::Preceding(of(by)?),
        WindowFrameBound::Following(by) => WindowFrameBound::Following(of(by)?),
        WindowFrameBound::CurrentRow => WindowFrameBound::CurrentRow,
    })
}
