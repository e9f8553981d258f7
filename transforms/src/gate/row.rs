//! Row expectations: all predicates of a set over one batch, sharing what they have in common.

use std::sync::Arc;

use arrow::array::{Array, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::SchemaRef;
use datafusion::common::{DFSchema, TableReference, internal_err};
use datafusion::error::Result;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{ColumnarValue, Expr, LogicalPlan, LogicalPlanBuilder, LogicalTableSource};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::scalar::ScalarValue;

use super::text::by_views;

/// The predicates of a set, as layers of projections: what several of them compute is computed once, in a layer below.
#[derive(Debug)]
pub(super) struct RowPredicates {
    /// Columns of the set that the lowest layer reads.
    columns: Vec<usize>,
    shared: Vec<Layer>,
    predicates: Vec<Arc<dyn PhysicalExpr>>,
}

#[derive(Debug)]
struct Layer {
    schema: SchemaRef,
    exprs: Vec<Arc<dyn PhysicalExpr>>,
}

/// What one predicate says of a batch.
pub(super) enum Verdict {
    /// No row breaks it.
    AllPass,
    /// The rows whose bit is set break it.
    Broken(BooleanBuffer),
}

impl RowPredicates {
    /// Compiles predicates over rows of `schema`: simplified, and with common subexpressions taken out, by the
    /// engine's own optimizer.
    pub(super) fn compile(exprs: Vec<Expr>, name: &str, schema: &SchemaRef, state: &SessionState) -> Result<Self> {
        let table = TableReference::bare(name);
        let source = Arc::new(LogicalTableSource::new(Arc::clone(schema)));
        let named = exprs.into_iter().enumerate().map(|(at, expr)| expr.alias(format!("__predicate_{at}")));
        let plan = LogicalPlanBuilder::scan(table, source, None)?.project(named)?.build()?;
        Self::of_plan(&state.optimize(&plan)?, state)
    }

    fn of_plan(plan: &LogicalPlan, state: &SessionState) -> Result<Self> {
        let mut projections = Vec::new();
        let mut plan = plan;
        let columns = loop {
            match plan {
                LogicalPlan::Projection(projection) => {
                    projections.push(projection);
                    plan = &projection.input;
                }
                LogicalPlan::SubqueryAlias(alias) => plan = &alias.input,
                LogicalPlan::TableScan(scan) => {
                    break match &scan.projection {
                        Some(columns) => columns.clone(),
                        None => (0..scan.source.schema().fields().len()).collect(),
                    };
                }
                _ => return internal_err!("a projection of predicates was optimised into another plan"),
            }
        };

        let compile = |exprs: &[Expr], input: &DFSchema| {
            let compile = |expr: &Expr| state.create_physical_expr(by_views(expr.clone(), input)?, input);
            exprs.iter().map(compile).collect::<Result<Vec<_>>>()
        };
        let Some((top, below)) = projections.split_first() else {
            return internal_err!("a projection of predicates was optimised away");
        };
        let shared = below
            .iter()
            .rev()
            .map(|layer| {
                let schema = Arc::clone(layer.schema.inner());
                Ok(Layer { schema, exprs: compile(&layer.expr, layer.input.schema())? })
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Self { columns, shared, predicates: compile(&top.expr, top.input.schema())? })
    }

    /// Layers below the predicates themselves.
    #[cfg(test)]
    pub(super) fn layers(&self) -> usize {
        self.shared.len()
    }

    /// What each predicate says of `batch`, in their order.
    pub(super) fn verdicts(&self, batch: &RecordBatch) -> Result<Vec<Verdict>> {
        let mut input = batch.project(&self.columns)?;
        for layer in &self.shared {
            let rows = input.num_rows();
            let columns =
                layer.exprs.iter().map(|expr| expr.evaluate(&input)?.into_array(rows)).collect::<Result<Vec<_>>>()?;
            let options = RecordBatchOptions::new().with_row_count(Some(rows));
            input = RecordBatch::try_new_with_options(Arc::clone(&layer.schema), columns, &options)?;
        }
        self.predicates.iter().map(|predicate| verdict(predicate.evaluate(&input)?, input.num_rows())).collect()
    }
}

fn verdict(value: ColumnarValue, rows: usize) -> Result<Verdict> {
    match value {
        ColumnarValue::Array(array) => match array.as_any().downcast_ref::<BooleanArray>() {
            Some(array) => Ok(of_array(array)),
            // An array of type Null has no null buffer to count.
            None if array.logical_null_count() == array.len() => Ok(Verdict::AllPass),
            None => internal_err!("a predicate is Boolean"),
        },
        ColumnarValue::Scalar(ScalarValue::Boolean(Some(false))) => Ok(Verdict::Broken(BooleanBuffer::new_set(rows))),
        ColumnarValue::Scalar(_) => Ok(Verdict::AllPass),
    }
}

/// A null passes, as in SQL's CHECK.
fn of_array(array: &BooleanArray) -> Verdict {
    if array.null_count() == 0 {
        return if array.has_false() { Verdict::Broken(!array.values()) } else { Verdict::AllPass };
    }
    let broken = match array.nulls() {
        Some(nulls) => nulls.inner() & &!array.values(),
        None => !array.values(),
    };
    if broken.has_true() { Verdict::Broken(broken) } else { Verdict::AllPass }
}
