//! Faults of calls of window functions: first those of their data, then those of their arguments.

use bessemer_schemas::Diagnostic;
use datafusion::logical_expr::LogicalPlanBuilder;
use datafusion::sql::planner::PlannerContext;

use super::Blame;
use super::heard::Heard;
use crate::window::Call;

impl Blame<'_> {
    pub(super) fn window(&self, call: Call<'_>, context: &PlannerContext, found: &mut Vec<Diagnostic>) {
        let before = found.len();
        let data = call.data();
        if let Some(data) = data {
            self.query(data, context, found);
        }
        if found.len() > before {
            return;
        }
        let data = data.map_or_else(|| LogicalPlanBuilder::empty(false).build(), |data| self.plan(data, context));
        if let Ok(data) = data {
            call.window(&data, self.catalog.logs(), &mut Heard { blame: *self, context, found });
        }
    }
}
