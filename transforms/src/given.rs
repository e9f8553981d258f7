//! Rows that a plan reads although no source has them: groups that were aggregated before, rows that were kept, a part of a
//! query that is computed once. What gives them is in the session under which the plan is made.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Column, DFSchema, internal_err};
use datafusion::datasource::{provider_as_source, source_as_provider};
use datafusion::error::Result;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, TableScan, TableType};
use datafusion::physical_expr::expressions;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};

use crate::session::with_extension;

/// Their name in a plan.
const GIVEN: &str = "given";

/// Rows that are given, as a table.
#[derive(Debug)]
struct GivenTable {
    number: usize,
    schema: SchemaRef,
}

/// The plans that give them, by number.
struct Given(Vec<Arc<dyn ExecutionPlan>>);

/// Name of one of the columns that are given.
pub(crate) fn name(at: usize) -> String {
    format!("g{at}")
}

/// The number of a column that is called as [`name`] has it.
pub(crate) fn number_of_column(field: &Field) -> Option<usize> {
    field.name().strip_prefix('g')?.parse().ok()
}

/// A plan with `columns` that reads what is given under a `number`.
pub(crate) fn leaf(number: usize, columns: &DFSchema) -> Result<LogicalPlan> {
    let fields = columns.fields().iter().enumerate();
    let fields: Vec<Field> = fields.map(|(at, field)| field.as_ref().clone().with_name(name(at))).collect();
    let table = GivenTable { number, schema: Arc::new(Schema::new(fields)) };
    // Names are qualified as in the query; a table has but one name.
    let named = columns.iter().enumerate().map(|(at, (qualifier, field))| {
        Expr::Column(Column::new(Some(GIVEN), name(at))).alias_qualified(qualifier.cloned(), field.name())
    });
    LogicalPlanBuilder::scan(GIVEN, provider_as_source(Arc::new(table)), None)?.project(named)?.build()
}

/// The number under which what `scan` reads is given, if it is.
pub(crate) fn number_of(scan: &TableScan) -> Option<usize> {
    let provider = source_as_provider(&scan.source).ok()?;
    provider.downcast_ref::<GivenTable>().map(|table| table.number)
}

/// The columns that `plan` reads of what is given under a `number`.
pub(crate) fn columns_read(plan: &LogicalPlan, number: usize) -> Result<BTreeSet<usize>> {
    let mut read = BTreeSet::new();
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && number_of(scan) == Some(number)
        {
            match &scan.projection {
                Some(projection) => read.extend(projection),
                None => read.extend(0..scan.source.schema().fields().len()),
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(read)
}

/// `session` in which `plans` give rows, each under its number: columns called as [`name`] has them, those at least that are
/// read.
pub(crate) fn with_given(session: &SessionState, plans: Vec<Arc<dyn ExecutionPlan>>) -> SessionState {
    with_extension(session, Arc::new(Given(plans)))
}

/// `plan` with other names for its columns.
pub(crate) fn renamed(plan: Arc<dyn ExecutionPlan>, name: impl Fn(usize) -> String) -> Result<Arc<dyn ExecutionPlan>> {
    let schema = plan.schema();
    let columns = schema.fields().iter().enumerate().map(|(at, field)| {
        let expr = Arc::new(expressions::Column::new(field.name(), at)) as _;
        ProjectionExpr { expr, alias: name(at) }
    });
    Ok(Arc::new(ProjectionExec::try_new(columns.collect::<Vec<_>>(), plan)?))
}

#[async_trait]
impl TableProvider for GivenTable {
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
        let given = state.config().get_extension::<Given>();
        let Some(rows) = given.as_ref().and_then(|given| given.0.get(self.number)) else {
            return internal_err!("rows are read outside the session that gives them");
        };
        let all: Vec<usize> = (0..self.schema.fields().len()).collect();
        let columns = projection.unwrap_or(&all).iter().map(|at| {
            let found = rows.schema().index_of(&name(*at))?;
            let expr = Arc::new(expressions::Column::new(&name(*at), found));
            Ok(ProjectionExpr { expr, alias: name(*at) })
        });
        let columns = columns.collect::<Result<Vec<_>>>()?;
        Ok(Arc::new(ProjectionExec::try_new(columns, Arc::clone(rows))?))
    }
}
