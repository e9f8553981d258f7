//! The groups of a cut aggregate, as a table that *above* reads.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Column, DFSchema, internal_err};
use datafusion::datasource::{provider_as_source, source_as_provider};
use datafusion::error::Result;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, TableType};
use datafusion::physical_expr::expressions;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};

use crate::functions::from_ordered;
use crate::session::with_extension;

/// Its name in a plan.
const GROUPS: &str = "groups";

/// The groups of an epoch are in its session.
#[derive(Debug)]
struct GroupsTable {
    schema: SchemaRef,
}

/// The plan that makes them.
struct Groups(Arc<dyn ExecutionPlan>);

/// A plan with the columns of `aggregate`, an aggregate's schema, that reads the groups.
pub(super) fn leaf(aggregate: &DFSchema) -> Result<LogicalPlan> {
    let fields = aggregate.fields().iter().enumerate();
    let fields: Vec<Field> = fields.map(|(at, field)| field.as_ref().clone().with_name(name(at))).collect();
    let table = GroupsTable { schema: Arc::new(Schema::new(fields)) };
    // In an aggregate's schema names are qualified as in its query; a table has but one name.
    let named = aggregate.iter().enumerate().map(|(at, (qualifier, field))| {
        Expr::Column(Column::new(Some(GROUPS), name(at))).alias_qualified(qualifier.cloned(), field.name())
    });
    LogicalPlanBuilder::scan(GROUPS, provider_as_source(Arc::new(table)), None)?.project(named)?.build()
}

/// Whether `plan` is the scan of the groups.
pub(super) fn is_leaf(plan: &LogicalPlan) -> bool {
    let LogicalPlan::TableScan(scan) = plan else { return false };
    source_as_provider(&scan.source).is_ok_and(|provider| provider.downcast_ref::<GroupsTable>().is_some())
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
    Ok(with_extension(session, Arc::new(Groups(Arc::new(named)))))
}

fn name(at: usize) -> String {
    format!("g{at}")
}

#[async_trait]
impl TableProvider for GroupsTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Temporary
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(groups) = state.config().get_extension::<Groups>() else {
            return internal_err!("groups are read outside an epoch");
        };
        let Some(projection) = projection else { return Ok(Arc::clone(&groups.0)) };
        let columns = projection
            .iter()
            .map(|at| ProjectionExpr { expr: Arc::new(expressions::Column::new(&name(*at), *at)), alias: name(*at) });
        Ok(Arc::new(ProjectionExec::try_new(columns.collect::<Vec<_>>(), Arc::clone(&groups.0))?))
    }
}
