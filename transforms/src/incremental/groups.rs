//! The groups of a cut aggregate, as *above* reads them.

use std::sync::Arc;

use datafusion::common::{Column, DFSchema};
use datafusion::error::Result;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::physical_expr::expressions;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};

use crate::functions::from_ordered;
use crate::given::{name, number_of, with_given};

/// Whether `plan` is the scan of the groups.
pub(super) fn is_leaf(plan: &LogicalPlan) -> bool {
    matches!(plan, LogicalPlan::TableScan(scan) if number_of(scan).is_some())
}

/// A column that *above* reads.
#[derive(Debug, Clone, Copy)]
pub(super) struct Group {
    /// Where it is among those that the aggregate gives.
    pub(super) at: usize,
    /// Whether it is the place of a number in their order.
    pub(super) is_place: bool,
}

/// `session` in which the `columns` of `groups` are read.
pub(super) fn with_groups(
    session: &SessionState,
    groups: Arc<dyn ExecutionPlan>,
    columns: &[Group],
) -> Result<SessionState> {
    let schema = groups.schema();
    let known = DFSchema::try_from(schema.as_ref().clone())?;
    let columns = columns.iter().enumerate().map(|(at, column)| {
        let found = schema.field(column.at).name();
        let expr = if column.is_place {
            session.create_physical_expr(from_ordered().call(vec![Expr::Column(Column::from_name(found))]), &known)?
        } else {
            Arc::new(expressions::Column::new(found, column.at))
        };
        Ok(ProjectionExpr { expr, alias: name(at) })
    });
    let named = ProjectionExec::try_new(columns.collect::<Result<Vec<_>>>()?, groups)?;
    Ok(with_given(session, vec![Arc::new(named)]))
}
