//! From a window to a plan of the engine's own operators.

use datafusion::common::{Column, UnnestOptions};
use datafusion::error::Result;
use datafusion::functions_aggregate::min_max::{max_udaf, min_udaf};
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::functions_window::lead_lag::lag;
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::{
    Expr, ExprFunctionExt, LogicalPlan, LogicalPlanBuilder, ScalarUDF, WindowFrame, WindowFrameBound, WindowFrameUnits,
    WindowFunctionDefinition, lit, when,
};
use datafusion::scalar::ScalarValue;

use super::bounds::{WindowBound, WindowBounds};
use super::{Aligned, END, Kind, Length, START, Window};

/// The bounds of a row's window, before they become columns.
pub(super) const BOUNDS: &str = "__window";
/// The event time of the row before, in the same keys.
const PREVIOUS: &str = "__session_previous";
/// 1 where a session begins, otherwise 0.
const BEGINS: &str = "__session_begins";
/// The number of the session among those of its keys.
const SESSION: &str = "__session";
/// The last event time of a session.
const LAST: &str = "__session_last";

impl Window {
    /// All columns of `data` and the bounds of the window, once for each window that a row is in.
    pub(crate) fn plan(self, data: LogicalPlan) -> Result<LogicalPlan> {
        let columns: Vec<_> = data.schema().columns().into_iter().map(Expr::Column).collect();
        let time = Expr::Column(self.time);
        let data = LogicalPlanBuilder::from(data);
        match self.kind {
            Kind::Aligned(aligned) => plan_aligned(aligned, time, data, columns),
            Kind::Session { keys, gap } => plan_session(&keys, gap, &time, data, columns),
        }
    }
}

fn plan_aligned(aligned: Aligned, time: Expr, data: LogicalPlanBuilder, mut columns: Vec<Expr>) -> Result<LogicalPlan> {
    let bounds = ScalarUDF::from(WindowBounds::new(aligned)).call(vec![time]).alias(BOUNDS);
    let with_bounds = data.project(columns.iter().cloned().chain([bounds]))?;
    let each = if aligned.is_many() {
        let options = UnnestOptions::new().with_preserve_nulls(false);
        with_bounds.unnest_column_with_options(Column::from_name(BOUNDS), options)?
    } else {
        with_bounds.filter(hidden(BOUNDS).is_not_null())?
    };
    let bound = |name| ScalarUDF::from(WindowBound::new(name)).call(vec![hidden(BOUNDS)]).alias(name);
    columns.extend([START, END].map(bound));
    each.project(columns)?.build()
}

/// A row begins a session unless one of its keys came before it, less than `gap` ago. It has no part in whether rows of
/// one time are in one order or another: the first of them begins the session, and all are in it.
fn plan_session(
    keys: &[Expr],
    gap: Length,
    time: &Expr,
    data: LogicalPlanBuilder,
    mut columns: Vec<Expr>,
) -> Result<LogicalPlan> {
    let gap = Expr::Literal(gap.to_interval(), None);
    let in_time_order = |window: Expr| window.partition_by(keys.to_vec()).order_by(vec![time.clone().sort(true, true)]);

    let previous = in_time_order(lag(time.clone(), Some(1), None)).build()?.alias(PREVIOUS);
    let continues = time.clone().lt(hidden(PREVIOUS) + gap.clone());
    let begins = when(continues, lit(0_i64)).otherwise(lit(1_i64))?.alias(BEGINS);
    let before = WindowFrame::new_bounds(
        WindowFrameUnits::Rows,
        WindowFrameBound::Preceding(ScalarValue::UInt64(None)),
        WindowFrameBound::CurrentRow,
    );
    let count = over(WindowFunctionDefinition::AggregateUDF(sum_udaf()), hidden(BEGINS));
    let session = in_time_order(count).window_frame(before).build()?.alias(SESSION);

    let with_session: Vec<_> = keys.iter().cloned().chain([hidden(SESSION)]).collect();
    let of_session = |function, name: &str| -> Result<Expr> {
        let window = over(WindowFunctionDefinition::AggregateUDF(function), time.clone());
        Ok(window.partition_by(with_session.clone()).build()?.alias(name))
    };
    let numbered = data
        .filter(time.clone().is_not_null())?
        .window([previous])?
        .project(columns.iter().cloned().chain([begins]))?
        .window([session])?
        .window([of_session(min_udaf(), START)?, of_session(max_udaf(), LAST)?])?;
    columns.extend([hidden(START), (hidden(LAST) + gap).alias(END)]);
    numbered.project(columns)?.build()
}

fn over(function: WindowFunctionDefinition, argument: Expr) -> Expr {
    Expr::from(WindowFunction::new(function, vec![argument]))
}

fn hidden(name: &str) -> Expr {
    Expr::Column(Column::from_name(name))
}

/// Whether a node is one that a session was planned as: the names of its columns cannot be written without quotes.
pub(crate) fn is_session(window: &datafusion::logical_expr::Window) -> bool {
    window.window_expr.iter().any(|expr| matches!(expr, Expr::Alias(alias) if is_of_session(&alias.name)))
}

/// Whether a column of this name is made by a window function of a session.
pub(crate) fn is_of_session(name: &str) -> bool {
    [PREVIOUS, SESSION, LAST].contains(&name)
}

/// What a session was planned from.
#[derive(Debug)]
pub(crate) struct SessionOf<'p> {
    pub(crate) data: &'p LogicalPlan,
    pub(crate) keys: &'p [Expr],
    pub(crate) time: &'p Expr,
    pub(crate) gap: &'p ScalarValue,
}

impl<'p> SessionOf<'p> {
    /// Of the node that gives the bounds of sessions, where `at` is the column of their last event time.
    pub(crate) fn of(bounds: &'p datafusion::logical_expr::Window, at: usize) -> Option<Self> {
        if bounds.input.schema().fields().len() + 1 != at {
            return None;
        }
        let LogicalPlan::Window(numbers) = bounds.input.as_ref() else { return None };
        let LogicalPlan::Projection(begins) = numbers.input.as_ref() else { return None };
        let LogicalPlan::Window(previous) = begins.input.as_ref() else { return None };
        let LogicalPlan::Filter(known) = previous.input.as_ref() else { return None };
        let Expr::WindowFunction(lag) = previous.window_expr.first().map(unaliased)? else { return None };
        let Expr::Case(case) = begins.expr.last().map(unaliased)? else { return None };
        let Expr::BinaryExpr(continues) = case.when_then_expr.first()?.0.as_ref() else { return None };
        let Expr::BinaryExpr(until) = continues.right.as_ref() else { return None };
        let Expr::Literal(gap, _) = until.right.as_ref() else { return None };
        let Expr::Alias(last) = bounds.window_expr.get(1)? else { return None };
        let params = &lag.params;
        (last.name == LAST)
            .then(|| Some(Self { data: &known.input, keys: &params.partition_by, time: params.args.first()?, gap }))?
    }
}

fn unaliased(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => unaliased(&alias.expr),
        expr => expr,
    }
}
