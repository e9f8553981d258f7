//! Which aggregates may be taken apart: those whose partial states merge to the bits that one pass over all rows gives,
//! however the rows were cut and in whatever order they came.

use arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use datafusion::error::Result;
use datafusion::logical_expr::expr::{AggregateFunction, AggregateFunctionParams};
use datafusion::logical_expr::{Expr, ExprSchemable};

use crate::functions::exact_aggregates;
use crate::type_name::sql_type_name;

/// Types of an argument with which a function is exact.
#[derive(Debug, Clone, Copy)]
enum Exact {
    /// Any: values are counted, or compared for being equal.
    Any,
    /// Numbers. Sums of whole numbers and decimals wrap, those of `DOUBLE` lose nothing: none depends on its order.
    Numbers,
    /// All that has one order. Of floating-point numbers the engine compares NaN and -0 by what came first; `DOUBLE` is
    /// given an order where nothing but partial aggregates will do.
    Ordered,
}

/// Functions of the engine's, beside those that have a stand-in of ours.
const FUNCTIONS: [(&str, Exact); 9] = [
    ("count", Exact::Any),
    ("approx_distinct", Exact::Any),
    ("min", Exact::Ordered),
    ("max", Exact::Ordered),
    ("bool_and", Exact::Any),
    ("bool_or", Exact::Any),
    ("bit_and", Exact::Any),
    ("bit_or", Exact::Any),
    ("bit_xor", Exact::Any),
];

/// Those whose state may be that of distinct values: the others ask nothing of it, or are rare.
const DISTINCT: [&str; 4] = ["count", "sum", "min", "max"];

impl Exact {
    /// What the function called `name` is exact with, if it is.
    fn of(name: &str) -> Option<Self> {
        let engines = FUNCTIONS.iter().find(|(known, _)| *known == name).map(|(_, exact)| *exact);
        engines.or_else(|| exact_aggregates().any(|ours| ours.name() == name).then_some(Self::Numbers))
    }

    fn takes(self, data_type: &DataType, closes: bool) -> bool {
        match self {
            Self::Any => true,
            Self::Numbers => data_type.is_integer() || data_type.is_decimal() || *data_type == DataType::Float64,
            Self::Ordered if data_type.is_floating() => closes && *data_type == DataType::Float64,
            Self::Ordered => !data_type.is_nested() && !is_interval(data_type),
        }
    }
}

/// Why `function` over `input` cannot be taken apart; nothing if it can. Where windows close there is no other way.
pub(super) fn refusal(function: &AggregateFunction, input: &DFSchema, closes: bool) -> Result<Option<String>> {
    let name = function.func.name();
    let AggregateFunctionParams { args, distinct, order_by, .. } = &function.params;
    let types = args.iter().map(|argument| argument.get_type(input)).collect::<Result<Vec<_>>>()?;
    Ok(dependence(name, &types, *distinct, !order_by.is_empty(), closes))
}

/// Whether a function called `name` gives the same bits in whatever order rows come, and however they are cut.
pub(super) fn is_exact(name: &str, types: &[DataType], is_distinct: bool, is_ordered: bool) -> bool {
    dependence(name, types, is_distinct, is_ordered, false).is_none()
}

/// What a function depends on beside the rows themselves.
fn dependence(name: &str, types: &[DataType], is_distinct: bool, is_ordered: bool, closes: bool) -> Option<String> {
    let needs_all = || Some(format!("`{name}` needs all rows"));
    let Some(exact) = Exact::of(name) else { return needs_all() };
    if is_ordered || (is_distinct && !(DISTINCT.contains(&name) && types.len() == 1)) {
        return needs_all();
    }
    // Which of two zeros stays of a set of values depends on which came first.
    let is_sum_of_set = |data_type: &DataType| is_distinct && name == "sum" && data_type.is_floating();
    let depends = types.iter().find(|data_type| !exact.takes(data_type, closes) || is_sum_of_set(data_type))?;
    Some(format!("`{name}` of {} depends on the order of its rows", sql_type_name(depends)))
}

/// Whether `function` over `input` is asked of numbers of which the engine's answer depends on which came first, so that it
/// is asked of their places in their order instead.
pub(super) fn is_of_places(function: &AggregateFunction, input: &DFSchema) -> Result<bool> {
    let is_extreme = matches!(Exact::of(function.func.name()), Some(Exact::Ordered));
    Ok(match function.params.args.as_slice() {
        [argument] if is_extreme => argument.get_type(input)? == DataType::Float64,
        _ => false,
    })
}

/// The aggregate in an output of a plan's node, which may have a name.
pub(super) fn function(expr: &Expr) -> Option<&AggregateFunction> {
    match expr {
        Expr::Alias(alias) => function(&alias.expr),
        Expr::AggregateFunction(function) => Some(function),
        _ => None,
    }
}

/// Whether values of this type are the same again when they were in a file.
pub(super) fn is_storable(data_type: &DataType) -> bool {
    match data_type {
        DataType::List(item) => is_storable(item.data_type()),
        DataType::Null | DataType::Dictionary(..) | DataType::Duration(_) => false,
        other => !other.is_nested() && !is_interval(other),
    }
}

fn is_interval(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Interval(_))
}
