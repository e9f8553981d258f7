//! What reads a relation of ours needs: expressions planned, faults told, whether it is planned or looked into.

use datafusion::common::{DFSchema, DataFusionError, plan_datafusion_err};
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::planner::RelationPlannerContext;
use sqlparser::ast;
use sqlparser::tokenizer::Span;

/// What is wrong, where, and what to write instead.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) span: Span,
    pub(crate) message: String,
    pub(crate) help: String,
}

/// What plans the expressions of a relation, and hears what is wrong with them.
pub(crate) trait Reader {
    /// Nothing where it was found to be wrong, and said.
    fn plan(&mut self, expr: &ast::Expr, schema: &DFSchema) -> Option<Expr>;
    fn refuse(&mut self, fault: Fault);
}

/// Keeps the first fault, for the engine's planner, which stops there.
pub(crate) struct First<'a> {
    context: &'a mut dyn RelationPlannerContext,
    error: Option<DataFusionError>,
}

impl<'a> First<'a> {
    pub(crate) fn new(context: &'a mut dyn RelationPlannerContext) -> Self {
        Self { context, error: None }
    }

    pub(crate) fn into_error(self) -> DataFusionError {
        self.error.unwrap_or_else(|| plan_datafusion_err!("this relation is refused"))
    }
}

impl Reader for First<'_> {
    fn plan(&mut self, expr: &ast::Expr, schema: &DFSchema) -> Option<Expr> {
        match self.context.sql_to_expr(expr.clone(), schema) {
            Ok(expr) => Some(expr),
            Err(error) => {
                self.error.get_or_insert(error);
                None
            }
        }
    }

    fn refuse(&mut self, fault: Fault) {
        self.error.get_or_insert_with(|| plan_datafusion_err!("{}", fault.message));
    }
}
