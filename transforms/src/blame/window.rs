//! Faults of calls of window functions: first those of their data, then those of their arguments.

use bessemer_schemas::Diagnostic;
use datafusion::common::DFSchema;
use datafusion::logical_expr::{Expr, LogicalPlanBuilder};
use datafusion::sql::planner::PlannerContext;
use sqlparser::ast;

use super::Blame;
use crate::reader::{Fault, Reader};
use crate::syntax::place;
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
            call.window(&data, self.catalog.logs(), &mut Windows { blame: *self, context, found });
        }
    }
}

/// Hears what is wrong with the call of a window function.
struct Windows<'a, 'f> {
    blame: Blame<'a>,
    context: &'f PlannerContext,
    found: &'f mut Vec<Diagnostic>,
}

impl Reader for Windows<'_, '_> {
    fn plan(&mut self, expr: &ast::Expr, schema: &DFSchema) -> Option<Expr> {
        let planned = self.blame.scope(schema, self.context).check(expr);
        planned.map(|(expr, _)| expr).map_err(|faults| self.found.extend(faults)).ok()
    }

    fn refuse(&mut self, Fault { span, message, help }: Fault) {
        let span = place(self.blame.file, span, self.blame.fallback);
        self.found.push(Diagnostic::error(message, span).with_help(help));
    }
}
