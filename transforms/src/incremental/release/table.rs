//! The rows that are kept of an input, as a table that the query reads.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Column, DFSchema, internal_err};
use datafusion::datasource::{provider_as_source, source_as_provider};
use datafusion::error::Result;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, TableScan, TableType};
use datafusion::physical_expr::expressions;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};

use crate::session::with_extension;

/// Its name in a plan.
const ROWS: &str = "rows";

/// The rows of an epoch are in its session.
#[derive(Debug)]
struct KeptTable {
    input: usize,
    schema: SchemaRef,
}

/// The plans that read them, by input.
struct KeptRows(Vec<Arc<dyn ExecutionPlan>>);

/// Name of a column of an input.
pub(super) fn name(at: usize) -> String {
    format!("c{at}")
}

/// A plan with the columns of `rows` that reads what is kept of the `input`.
pub(super) fn leaf(input: usize, rows: &DFSchema) -> Result<LogicalPlan> {
    let fields = rows.fields().iter().enumerate();
    let fields: Vec<Field> = fields.map(|(at, field)| field.as_ref().clone().with_name(name(at))).collect();
    let table = KeptTable { input, schema: Arc::new(Schema::new(fields)) };
    // Names are qualified as in the query; a table has but one name.
    let named = rows.iter().enumerate().map(|(at, (qualifier, field))| {
        Expr::Column(Column::new(Some(ROWS), name(at))).alias_qualified(qualifier.cloned(), field.name())
    });
    LogicalPlanBuilder::scan(ROWS, provider_as_source(Arc::new(table)), None)?.project(named)?.build()
}

/// The input that `scan` reads, if it is one.
pub(super) fn input_of(scan: &TableScan) -> Option<usize> {
    let provider = source_as_provider(&scan.source).ok()?;
    provider.downcast_ref::<KeptTable>().map(|table| table.input)
}

/// `session` in which `rows` are what is kept of each input: columns called as [`name`] has them.
pub(super) fn with_rows(session: &SessionState, rows: Vec<Arc<dyn ExecutionPlan>>) -> SessionState {
    with_extension(session, Arc::new(KeptRows(rows)))
}

#[async_trait]
impl TableProvider for KeptTable {
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
        let kept = state.config().get_extension::<KeptRows>();
        let Some(rows) = kept.as_ref().and_then(|kept| kept.0.get(self.input)) else {
            return internal_err!("kept rows are read outside an epoch");
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
