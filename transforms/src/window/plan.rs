//! From a window to a plan of the engine's own operators.

use datafusion::common::{Column, UnnestOptions};
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, ScalarUDF};

use super::bounds::{WindowBound, WindowBounds};
use super::session::SessionWindow;
use super::{Aligned, END, Kind, START, Window};

/// The bounds of a row's window, before they become columns.
pub(super) const BOUNDS: &str = "__window";
impl Window {
    /// All columns of `data` and the bounds of the window, once for each window that a row is in.
    pub(crate) fn plan(self, data: LogicalPlan) -> Result<LogicalPlan> {
        let time = Expr::Column(self.time);
        match self.kind {
            Kind::Aligned(aligned) => plan_aligned(aligned, time, data),
            Kind::Session { keys, gap } => SessionWindow::plan(keys, time, gap, data),
        }
    }
}

fn plan_aligned(aligned: Aligned, time: Expr, data: LogicalPlan) -> Result<LogicalPlan> {
    let mut columns: Vec<_> = data.schema().columns().into_iter().map(Expr::Column).collect();
    let data = LogicalPlanBuilder::from(data);
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

fn hidden(name: &str) -> Expr {
    Expr::Column(Column::from_name(name))
}
