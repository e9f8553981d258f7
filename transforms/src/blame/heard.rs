//! Hears what is wrong with a relation of ours while it is read.

use bessemer_schemas::Diagnostic;
use datafusion::common::DFSchema;
use datafusion::logical_expr::Expr;
use datafusion::sql::planner::PlannerContext;
use sqlparser::ast;

use super::Blame;
use crate::reader::{Fault, Reader};
use crate::syntax::place;

/// Keeps every fault.
pub(super) struct Heard<'a, 'f> {
    pub(super) blame: Blame<'a>,
    pub(super) context: &'f PlannerContext,
    pub(super) found: &'f mut Vec<Diagnostic>,
}

impl Reader for Heard<'_, '_> {
    fn plan(&mut self, expr: &ast::Expr, schema: &DFSchema) -> Option<Expr> {
        let planned = self.blame.scope(schema, self.context).check(expr);
        planned.map(|(expr, _)| expr).map_err(|faults| self.found.extend(faults)).ok()
    }

    fn refuse(&mut self, Fault { span, message, help }: Fault) {
        let span = place(self.blame.file, span, self.blame.fallback);
        self.found.push(Diagnostic::error(message, span).with_help(help));
    }
}
