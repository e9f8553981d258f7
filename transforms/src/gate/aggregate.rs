//! Aggregate expectations: accumulators over the rows that pass, asked once at the end.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use arrow::compute::filter;
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{DFSchema, internal_datafusion_err};
use datafusion::error::Result;
use datafusion::execution::SessionState;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{Accumulator, Expr};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::{AggregateFunctionExpr, LoweredAggregateBuilder};
use datafusion::scalar::ScalarValue;

/// One aggregate call of a set's expectations; calls that are equal are made once.
#[derive(Debug)]
pub(super) struct Call {
    /// As the user wrote it: `count(mean_delay)`.
    text: String,
    function: Arc<AggregateFunctionExpr>,
    args: Vec<Arc<dyn PhysicalExpr>>,
    filter: Option<Arc<dyn PhysicalExpr>>,
}

/// The aggregate expectations of a set.
#[derive(Debug)]
pub(super) struct AggregatePredicates {
    calls: Vec<Call>,
    /// One column for each call.
    measured: SchemaRef,
    /// Predicates over `measured`, and the calls that each one names.
    predicates: Vec<(Arc<dyn PhysicalExpr>, Vec<usize>)>,
}

/// An aggregate expectation over logical expressions.
#[derive(Debug, Clone)]
pub(crate) struct AggregatePredicate {
    /// The condition, with each call replaced by the column of its number.
    pub(crate) condition: Expr,
    /// Numbers of the calls that it names.
    pub(crate) calls: Vec<usize>,
}

/// Logical calls and the conditions over them.
#[derive(Debug, Clone, Default)]
pub(crate) struct AggregateConditions {
    /// Text and expression of each call.
    pub(crate) calls: Vec<(String, Expr)>,
    /// The conditions.
    pub(crate) predicates: Vec<AggregatePredicate>,
}

/// Name of the column that holds the value of call `at`.
pub(crate) fn call_column(at: usize) -> String {
    format!("__aggregate_{at}")
}

impl AggregatePredicates {
    pub(super) fn compile(conditions: &AggregateConditions, schema: &DFSchema, state: &SessionState) -> Result<Self> {
        let calls = conditions
            .calls
            .iter()
            .map(|(text, expr)| Call::compile(text, expr, schema, state))
            .collect::<Result<Vec<_>>>()?;
        let fields: Vec<_> = calls
            .iter()
            .enumerate()
            .map(|(at, call)| call.function.field().as_ref().clone().with_name(call_column(at)).with_nullable(true))
            .collect();
        let measured = Arc::new(Schema::new(fields));
        let over = DFSchema::try_from(Arc::clone(&measured))?;
        let simplifier = simplifier(&over, state);
        let predicates = conditions
            .predicates
            .iter()
            .map(|predicate| {
                let condition = simplifier.simplify(predicate.condition.clone())?;
                let condition = state.create_physical_expr(condition, &over)?;
                Ok((condition, predicate.calls.clone()))
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Self { calls, measured, predicates })
    }

    pub(super) fn accumulators(&self) -> Result<Vec<Box<dyn Accumulator>>> {
        self.calls.iter().map(|call| call.function.create_accumulator()).collect()
    }

    /// Feeds the rows of `batch` to all calls.
    pub(super) fn update(&self, accumulators: &mut [Box<dyn Accumulator>], batch: &RecordBatch) -> Result<()> {
        self.calls.iter().zip(accumulators).try_for_each(|(call, accumulator)| call.update(accumulator, batch))
    }

    /// Whether each condition holds, in their order, with the values of its calls. A null holds.
    pub(super) fn finish(
        &self,
        accumulators: &mut [Box<dyn Accumulator>],
    ) -> Result<Vec<(bool, BTreeMap<String, String>)>> {
        let values = accumulators.iter_mut().map(|accumulator| accumulator.evaluate()).collect::<Result<Vec<_>>>()?;
        let columns = values
            .iter()
            .zip(self.measured.fields())
            .map(|(value, field)| value.cast_to(field.data_type())?.to_array())
            .collect::<Result<Vec<ArrayRef>>>()?;
        let batch = RecordBatch::try_new_with_options(
            Arc::clone(&self.measured),
            columns,
            &arrow::array::RecordBatchOptions::new().with_row_count(Some(1)),
        )?;
        self.predicates
            .iter()
            .map(|(predicate, calls)| {
                let answer = predicate.evaluate(&batch)?.into_array(1)?;
                let holds = ScalarValue::try_from_array(&answer, 0)? != ScalarValue::Boolean(Some(false));
                let measured = calls.iter().filter_map(|at| Some((self.calls.get(*at)?, values.get(*at)?)));
                Ok((holds, measured.map(|(call, value)| (call.text.clone(), value.to_string())).collect()))
            })
            .collect()
    }
}

/// Whether one call of an aggregate can be made over rows of `schema`.
pub(crate) fn check_call(expr: &Expr, schema: &DFSchema, state: &SessionState) -> Result<()> {
    // Some functions look at their arguments only when they begin to count.
    Call::compile("", expr, schema, state)?.function.create_accumulator().map(drop)
}

/// Bytes that accumulators hold.
pub(super) fn size(accumulators: &[Box<dyn Accumulator>]) -> usize {
    accumulators.iter().map(|accumulator| accumulator.size()).sum()
}

/// Adds what other accumulators of the same calls have seen.
pub(super) fn merge(into: &mut [Box<dyn Accumulator>], from: &mut [Box<dyn Accumulator>]) -> Result<()> {
    for (into, from) in into.iter_mut().zip(from) {
        let states = from.state()?.iter().map(ScalarValue::to_array).collect::<Result<Vec<_>>>()?;
        into.merge_batch(&states)?;
    }
    Ok(())
}

/// Some functions (`coalesce`, `arrow_cast`) exist only until expressions are simplified.
fn simplifier(schema: &DFSchema, state: &SessionState) -> ExprSimplifier {
    let context = SimplifyContext::builder()
        .with_schema(Arc::new(schema.clone()))
        .with_config_options(Arc::clone(state.config_options()));
    ExprSimplifier::new(context.build())
}

impl Call {
    fn compile(text: &str, expr: &Expr, schema: &DFSchema, state: &SessionState) -> Result<Self> {
        // The call itself stays: simplified, it may be a sum of others, `sum(x + 1)` for one.
        let simplifier = simplifier(schema, state);
        let expr = expr.clone().map_children(|part| simplifier.simplify(part).map(Transformed::yes)).data()?;
        let context = datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext::default();
        let props = state.execution_props();
        let lowered = LoweredAggregateBuilder::new(&expr, schema, schema.as_arrow(), props, &context)
            .with_name(text.to_owned())
            .build()?;
        let mut args = lowered.aggregate.expressions();
        // Functions with an ORDER BY of their own order what they see, also when they are merged.
        args.extend(lowered.aggregate.order_bys().iter().map(|key| Arc::clone(&key.expr)));
        Ok(Self { text: text.to_owned(), function: lowered.aggregate, args, filter: lowered.filter })
    }

    fn update(&self, accumulator: &mut Box<dyn Accumulator>, batch: &RecordBatch) -> Result<()> {
        let rows = batch.num_rows();
        let mut args =
            self.args.iter().map(|arg| arg.evaluate(batch)?.into_array(rows)).collect::<Result<Vec<ArrayRef>>>()?;
        if let Some(predicate) = &self.filter {
            let chosen = predicate.evaluate(batch)?.into_array(rows)?;
            let chosen = chosen
                .as_any()
                .downcast_ref::<BooleanArray>()
                .ok_or_else(|| internal_datafusion_err!("the filter of an aggregate is Boolean"))?;
            for arg in &mut args {
                *arg = filter(arg, chosen)?;
            }
        }
        accumulator.update_batch(&args)
    }
}
