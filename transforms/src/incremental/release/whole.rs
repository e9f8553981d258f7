//! Aggregates whose partial results do not merge: each group is put together at once, of rows in a total order.

use std::hash::Hash;
use std::mem::{size_of, take};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::compute::{SortOptions, concat};
use arrow::datatypes::{DataType, FieldRef, SchemaRef};
use datafusion::error::Result;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Signature};
use datafusion::physical_expr::aggregate::{AggregateExprBuilder, AggregateFunctionExpr};
use datafusion::physical_expr::{LexOrdering, Partitioning, PhysicalSortExpr};
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use datafusion::scalar::ScalarValue;

use super::ties::{sorted, unsorted};
use crate::exchange::gather;
use crate::given;
use crate::incremental::exact::is_exact;
use crate::type_name::is_sortable;

/// The aggregate in the place of `node`, where it is one whose result depends on the order of rows, or on how they are cut
/// into batches and partitions.
pub(super) fn aggregated(node: &Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let Some(last) = node.downcast_ref::<AggregateExec>() else { return Ok(None) };
    let first = match last.mode() {
        AggregateMode::Single | AggregateMode::SinglePartitioned => Some(last),
        AggregateMode::Final | AggregateMode::FinalPartitioned => partial(last.input()),
        AggregateMode::Partial | AggregateMode::PartialReduce => None,
    };
    let Some(first) = first else { return Ok(None) };
    let input = first.input_schema();
    if first.aggr_expr().iter().all(|function| is_exact_over(function, &input)) {
        return Ok(None);
    }
    let keys = first.group_expr().input_exprs();
    let rows = unsorted(Arc::clone(first.input()))?;
    let partitions = node.output_partitioning().partition_count();
    let (mode, rows) = if partitions > 1 {
        let by_keys = Partitioning::Hash(keys.clone(), partitions);
        (AggregateMode::SinglePartitioned, Arc::new(RepartitionExec::try_new(rows, by_keys)?) as _)
    } else if rows.output_partitioning().partition_count() > 1 {
        (AggregateMode::Single, gather(rows, None))
    } else {
        (AggregateMode::Single, rows)
    };
    let functions = first.aggr_expr().iter().map(|function| at_once(function, &input)).collect::<Result<_>>()?;
    let (groups, filters) = (first.group_expr().clone(), first.filter_expr().to_vec());
    let rows = sorted(order(first, &rows), rows);
    let whole = AggregateExec::try_new(mode, groups, functions, filters, rows, input)?;
    let whole = Arc::new(whole.with_limit_options(last.limit_options()));
    // Where the engine has turned a function round, it has another name.
    let names = node.schema();
    given::renamed(whole, |at| names.field(at).name().clone()).map(Some)
}

/// The aggregate of parts whose results come into `plan`.
fn partial(plan: &Arc<dyn ExecutionPlan>) -> Option<&AggregateExec> {
    let mut plan = plan;
    loop {
        if let Some(aggregate) = plan.downcast_ref::<AggregateExec>() {
            return (*aggregate.mode() == AggregateMode::Partial).then_some(aggregate);
        }
        match plan.children().as_slice() {
            [input] => plan = input,
            _ => return None,
        }
    }
}

/// By the keys, then as the functions ask for: what they know of their input stays true within a group.
fn order(aggregate: &AggregateExec, rows: &Arc<dyn ExecutionPlan>) -> Vec<PhysicalSortExpr> {
    let options = SortOptions { descending: false, nulls_first: true };
    let schema = rows.schema();
    let keys = aggregate.group_expr().input_exprs().into_iter();
    let keys = keys.filter(|key| key.data_type(&schema).is_ok_and(|data_type| is_sortable(&data_type)));
    let keys = keys.map(|key| PhysicalSortExpr::new(key, options));
    let required = aggregate.required_input_ordering().into_iter().next().flatten();
    let required = required.map(|required| LexOrdering::from(required.into_single()));
    keys.chain(required.into_iter().flatten()).collect()
}

/// Whether the order and the cut of its rows is nothing to it.
fn is_exact_over(function: &AggregateFunctionExpr, input: &SchemaRef) -> bool {
    let types = function.expressions();
    let types = types.iter().map(|argument| argument.data_type(input));
    let Ok(types) = types.collect::<Result<Vec<_>>>() else { return false };
    is_exact(function.fun().name(), &types, function.is_distinct(), !function.order_bys().is_empty())
}

fn at_once(function: &Arc<AggregateFunctionExpr>, input: &SchemaRef) -> Result<Arc<AggregateFunctionExpr>> {
    if is_exact_over(function, input) {
        return Ok(Arc::clone(function));
    }
    // The order that the engine found its input in is given up.
    let unordered = Arc::clone(function).with_beneficial_ordering(false)?.map(Arc::new);
    let function = unordered.as_ref().unwrap_or(function);
    let whole = AggregateUDF::from(AtOnce { function: function.fun().clone() });
    let built = AggregateExprBuilder::new(Arc::new(whole), function.expressions())
        .schema(Arc::clone(input))
        .alias(function.name())
        .order_by(function.order_bys().to_vec())
        .with_ignore_nulls(function.ignore_nulls())
        .with_distinct(function.is_distinct())
        .with_reversed(function.is_reversed())
        .build()?;
    Ok(Arc::new(built))
}

/// A function that is given all rows of a group at once.
#[derive(Debug, PartialEq, Eq, Hash)]
struct AtOnce {
    function: AggregateUDF,
}

impl AggregateUDFImpl for AtOnce {
    fn name(&self) -> &str {
        self.function.name()
    }

    fn signature(&self) -> &Signature {
        self.function.signature()
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.function.return_type(arg_types)
    }

    fn return_field(&self, arg_fields: &[FieldRef]) -> Result<FieldRef> {
        self.function.return_field(arg_fields)
    }

    fn is_nullable(&self) -> bool {
        self.function.is_nullable()
    }

    fn default_value(&self, data_type: &DataType) -> Result<ScalarValue> {
        self.function.default_value(data_type)
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        self.function.order_sensitivity()
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        self.function.state_fields(args)
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(Gathered { of: self.function.accumulator(args)?, batches: Vec::new() }))
    }
}

/// Rows that are added once no more come.
#[derive(Debug)]
struct Gathered {
    of: Box<dyn Accumulator>,
    batches: Vec<Vec<ArrayRef>>,
}

impl Gathered {
    fn add(&mut self) -> Result<()> {
        let batches = take(&mut self.batches);
        let Some(first) = batches.first() else { return Ok(()) };
        let column = |at: usize| {
            let parts: Vec<&dyn Array> = batches.iter().filter_map(|batch| batch.get(at)).map(AsRef::as_ref).collect();
            concat(&parts)
        };
        let columns = (0..first.len()).map(column).collect::<Result<Vec<_>, _>>()?;
        self.of.update_batch(&columns)
    }
}

impl Accumulator for Gathered {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.batches.push(values.to_vec());
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.add()?;
        self.of.merge_batch(states)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.add()?;
        self.of.state()
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.add()?;
        self.of.evaluate()
    }

    fn size(&self) -> usize {
        let arrays = self.batches.iter().flatten().map(Array::get_array_memory_size);
        size_of::<Self>() + self.of.size() + arrays.sum::<usize>()
    }
}
