//! Where a query is cut, and what its parts are.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, DataFusionError};
use datafusion::error::Result;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Distinct, Expr, LogicalPlan, LogicalPlanBuilder, lit};
use datafusion::optimizer::OptimizerRule;
use datafusion::optimizer::single_distinct_to_groupby::SingleDistinctToGroupBy;
use datafusion::physical_expr::aggregate::{LoweredAggregate, LoweredAggregateBuilder};
use datafusion::physical_expr::expressions;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode, PhysicalGroupBy};
use datafusion::physical_plan::empty::EmptyExec;

use super::Incremental;
use super::aggregates::Aggregates;
use super::closing::{Closing, Windows, check_per_window, window_key};
use super::exact::{function, is_of_places, is_storable, refusal};
use super::first::{FirstRows, Firsts, numbered};
use super::groups::Group;
use super::sorted::{ASCENDING, Sorted};
use crate::SetKind;
use crate::catalog::Catalog;
use crate::classify::nature;
use crate::functions::{exact_for, to_ordered};
use crate::given;
use crate::set::plans_physically;
use crate::type_name::{is_sortable, sql_type_name};

/// What is made of rows that come into groups.
const AGGREGATED: &str = "they are aggregated";

/// Why a query is not cut: a snapshot set is computed over everything then.
#[derive(Debug)]
pub(crate) struct Everything(pub(crate) String);

impl From<DataFusionError> for Everything {
    /// What the engine cannot do with a part of a query it may well do with the whole.
    fn from(error: DataFusionError) -> Self {
        Self(format!("its query cannot be cut: {}", error.strip_backtrace()))
    }
}

/// Cuts the analysed plan of the set `of`, whose rows have the columns `output`, so that it is kept up to date.
pub(crate) fn incremental(
    of: &str,
    plan: &LogicalPlan,
    output: &SchemaRef,
    catalog: &Catalog<'_>,
) -> Result<Box<dyn Incremental>, Everything> {
    let node = lowest(plan, catalog)?;
    if let Some(firsts) = Firsts::of(node) {
        return Ok(Box::new(FirstRows::cut(of, plan, &firsts, output, catalog)?));
    }
    let (plan, cut) = Cut::at(node, plan, catalog)?;
    cut.check_functions(false)?;
    let above = cut.above(&plan, output, None, catalog)?;
    Ok(Box::new(cut.plan(of, above, None, catalog)?))
}

/// The same, where its rows are those of the groups of a window at a time, once no more come into it.
pub(crate) fn windows(
    of: &str,
    plan: &LogicalPlan,
    output: &SchemaRef,
    catalog: &Catalog<'_>,
) -> Result<Windows, Everything> {
    let (plan, cut) = Cut::at(lowest(plan, catalog)?, plan, catalog)?;
    let (key, follows) = window_key(&cut.keys, &cut.input, catalog)?;
    cut.check_functions(true)?;
    let above = cut.above(&plan, output, Some(key), catalog)?;
    let groups = cut.plan(of, above, Some(key), catalog)?;
    let closing = Closing::new(follows, groups.state_schema().field(0).data_type(), catalog)?;
    Ok(Windows { groups, closing })
}

/// The lowest node that takes in all that `plan` reads of its logs, and gives groups or one row of each key.
fn lowest<'p>(plan: &'p LogicalPlan, catalog: &Catalog<'_>) -> Result<&'p LogicalPlan, Everything> {
    let logs = nature(plan, catalog).logs;
    if logs.is_empty() {
        return Err(Everything("it reads no source".to_owned()));
    }
    let takes_all = |node: &&LogicalPlan| nature(node, catalog).logs == logs;
    let (mut found, mut next) = (None, Some(plan));
    while let Some(node) = next {
        found = match node {
            LogicalPlan::Aggregate(_) | LogicalPlan::Distinct(_) => Some(node),
            LogicalPlan::Filter(filter) => numbered(filter).filter(takes_all).or(found),
            _ => found,
        };
        next = node.inputs().into_iter().find(takes_all);
    }
    found.ok_or_else(|| Everything("no aggregate takes in all that it reads".to_owned()))
}

/// What is made of what `node` gives, as the optimizer leaves it: `plan` with `other` in its place, whose rows must have the
/// columns `output`.
pub(super) fn above(
    plan: &LogicalPlan,
    node: &LogicalPlan,
    other: &LogicalPlan,
    output: &SchemaRef,
    catalog: &Catalog<'_>,
) -> Result<LogicalPlan, Everything> {
    let above = catalog.state().optimize(&replace(plan, node, other)?)?;
    if above.schema().inner() != output {
        return Err(Everything("its query cannot be cut: the columns would be others".to_owned()));
    }
    plans_physically(&above, catalog)?;
    Ok(above)
}

/// Whether the rows of `plan` would append by themselves, `before` something is made of them.
pub(super) fn check_rows(plan: &LogicalPlan, before: &str, catalog: &Catalog<'_>) -> Result<(), Everything> {
    let rows = nature(plan, catalog);
    if rows.kind() == SetKind::Append && !rows.orders_log {
        return Ok(());
    }
    let reason = rows.reasons.first().map_or("an order or a limit", |(_, reason)| reason.as_str());
    Err(Everything(format!("rows pass through {reason} before {before}")))
}

/// `plan` with another node in the place of `node`.
fn replace(plan: &LogicalPlan, node: &LogicalPlan, other: &LogicalPlan) -> Result<LogicalPlan> {
    let replaced = plan.clone().transform_down(|found| {
        Ok(if found == *node {
            Transformed::new(other.clone(), true, TreeNodeRecursion::Stop)
        } else {
            Transformed::no(found)
        })
    });
    replaced.data()
}

/// An aggregate, or a `DISTINCT` as one.
struct Cut {
    /// The node of the plan.
    node: LogicalPlan,
    input: LogicalPlan,
    keys: Vec<Expr>,
    functions: Vec<AggregateFunction>,
}

impl Cut {
    /// The cut at `node`, and `plan` with it. Where it has `DISTINCT` values of one column, that column is one of its keys,
    /// and another aggregate is above it: keys are sorted and spilled, a set of values is held in memory.
    fn at(node: &LogicalPlan, plan: &LogicalPlan, catalog: &Catalog<'_>) -> Result<(LogicalPlan, Self), Everything> {
        let rewritten = SingleDistinctToGroupBy::new().rewrite(node.clone(), catalog.state())?;
        if rewritten.transformed {
            let plan = replace(plan, node, &rewritten.data)?;
            let cut = Self::of(lowest(&plan, catalog)?, catalog)?;
            return Ok((plan, cut));
        }
        Ok((plan.clone(), Self::of(node, catalog)?))
    }

    fn of(node: &LogicalPlan, catalog: &Catalog<'_>) -> Result<Self, Everything> {
        let (input, keys, functions) = match node {
            LogicalPlan::Aggregate(aggregate) => {
                if aggregate.group_expr.iter().any(|key| matches!(key, Expr::GroupingSet(_))) {
                    return Err(Everything("it has grouping sets".to_owned()));
                }
                let functions: Option<Vec<_>> =
                    aggregate.aggr_expr.iter().map(|expr| function(expr).cloned()).collect();
                let functions = functions.ok_or_else(|| Everything("it has no plain aggregates".to_owned()))?;
                (&aggregate.input, aggregate.group_expr.clone(), functions)
            }
            LogicalPlan::Distinct(Distinct::All(input)) => {
                (input, input.schema().columns().into_iter().map(Expr::Column).collect(), Vec::new())
            }
            LogicalPlan::Distinct(Distinct::On(_)) => {
                return Err(Everything("`DISTINCT ON` needs all rows".to_owned()));
            }
            _ => return Err(Everything("`row_number` needs all rows".to_owned())),
        };
        check_rows(input, AGGREGATED, catalog)?;
        Ok(Self { node: node.clone(), input: input.as_ref().clone(), keys, functions })
    }

    fn check_functions(&self, closes: bool) -> Result<(), Everything> {
        for function in &self.functions {
            if let Some(why) = refusal(function, self.input.schema(), closes)? {
                return Err(Everything(why));
            }
        }
        Ok(())
    }

    /// What is made of the groups, window by window where one of the keys tells windows apart.
    fn above(
        &self,
        plan: &LogicalPlan,
        output: &SchemaRef,
        window: Option<usize>,
        catalog: &Catalog<'_>,
    ) -> Result<LogicalPlan, Everything> {
        let leaf = given::leaf(0, self.node.schema())?;
        if let Some(key) = window {
            check_per_window(&replace(plan, &self.node, &leaf)?, key)?;
        }
        above(plan, &self.node, &leaf, output, catalog)
    }

    /// `window` is the key that tells when groups are final, where they are to be.
    fn plan(
        mut self,
        of: &str,
        above: LogicalPlan,
        window: Option<usize>,
        catalog: &Catalog<'_>,
    ) -> Result<Aggregates, Everything> {
        let is_place = |function| is_of_places(function, self.input.schema());
        let of_places = self.functions.iter().map(is_place).collect::<Result<Vec<_>>>()?;
        let places = self.sort_keys(window);
        let (below, keys, functions) = self.columns(&of_places)?;
        check_rows(&below, AGGREGATED, catalog)?;
        let tables = nature(&below, catalog).tables.into_keys().collect();
        let below = catalog.state().optimize(&below)?;
        plans_physically(&below, catalog)?;
        let schema = below.schema();
        let input = Arc::clone(schema.inner());
        let lowered = functions.into_iter().enumerate().map(|(at, function)| lower(at, function, schema, catalog));
        let lowered = lowered.collect::<Result<Vec<_>>>()?;
        let (functions, filters): (Vec<_>, Vec<_>) =
            lowered.into_iter().map(|lowered| (lowered.aggregate, lowered.filter)).unzip();
        let keys = (0..keys).map(|at| (Arc::new(expressions::Column::new(&name(at), at)) as _, name(at)));
        let keys = PhysicalGroupBy::new_single(keys.collect());
        let empty = Arc::new(EmptyExec::new(Arc::clone(&input)));
        let partial = AggregateExec::try_new(
            AggregateMode::Partial,
            keys.clone(),
            functions.clone(),
            filters.clone(),
            empty,
            Arc::clone(&input),
        )?;
        let state = partial.schema();
        check_state(&state, keys.expr().len())?;
        let is_place = std::iter::repeat_n(false, keys.expr().len()).chain(of_places);
        let columns = is_place.enumerate().map(|(at, is_place)| Group { at, is_place });
        let columns: Vec<_> = columns.collect();
        let columns = places.into_iter().filter_map(|place| columns.get(place).copied()).collect();
        let state = Sorted::new(state, keys.expr().iter().map(|_| ASCENDING));
        let of = of.to_owned();
        Ok(Aggregates { of, below, above, keys, functions, filters, input, state, columns, tables })
    }

    /// Puts the key that tells windows apart before the others, so that a state is sorted by it. Says where the columns
    /// of the node are then.
    fn sort_keys(&mut self, window: Option<usize>) -> Vec<usize> {
        let mut places: Vec<usize> = (0..self.keys.len() + self.functions.len()).collect();
        if let Some(window) = window {
            self.keys[..=window].rotate_right(1);
            places[..=window].rotate_left(1);
        }
        places
    }

    /// What is aggregated as a plan with a column for each key, argument and filter; the number of keys, which come first;
    /// the functions of these columns.
    ///
    /// The functions `of_places` are asked of the places of their arguments.
    fn columns(self, of_places: &[bool]) -> Result<(LogicalPlan, usize, Vec<AggregateFunction>)> {
        let keys = self.keys.len();
        let mut columns: Vec<Expr> = self.keys.into_iter().map(Expr::unalias).collect();
        let mut column = |expr: Expr| {
            if matches!(expr, Expr::Literal(..)) {
                return expr;
            }
            let known = columns.iter().position(|known| *known == expr);
            let at = known.unwrap_or_else(|| {
                columns.push(expr);
                columns.len() - 1
            });
            Expr::Column(Column::from_name(name(at)))
        };
        let mut functions = self.functions;
        for (AggregateFunction { func, params }, of_places) in functions.iter_mut().zip(of_places) {
            *func = exact_for(func);
            let arguments = std::mem::take(&mut params.args).into_iter();
            let placed = arguments.map(|arg| if *of_places { to_ordered().call(vec![arg]) } else { arg });
            params.args = placed.map(&mut column).collect();
            params.filter = params.filter.take().map(|filter| Box::new(column(*filter)));
        }
        if columns.is_empty() {
            // Rows without columns cannot be counted everywhere.
            columns.push(lit(true));
        }
        let named = columns.into_iter().enumerate().map(|(at, expr)| expr.alias(name(at)));
        let below = LogicalPlanBuilder::from(self.input).project(named.collect::<Vec<_>>())?.build()?;
        Ok((below, keys, functions))
    }
}

fn lower(at: usize, function: AggregateFunction, schema: &DFSchema, catalog: &Catalog<'_>) -> Result<LoweredAggregate> {
    let (expr, context) = (Expr::AggregateFunction(function), PhysicalPlanningContext::default());
    let props = catalog.state().execution_props();
    let lowered = LoweredAggregateBuilder::new(&expr, schema, schema.inner(), props, &context);
    lowered.with_name(format!("f{at}")).build()
}

/// Name of a column of what is kept.
pub(super) fn name(at: usize) -> String {
    format!("c{at}")
}

/// Whether a state can be kept in files that are sorted by its keys.
fn check_state(state: &SchemaRef, keys: usize) -> Result<(), Everything> {
    for (at, field) in state.fields().iter().enumerate() {
        let data_type = field.data_type();
        if !is_storable(data_type) || (at < keys && !is_sortable(data_type)) {
            let what = if at < keys { "a key" } else { "the state of an aggregate" };
            return Err(Everything(format!("{what} has the type {}", sql_type_name(data_type))));
        }
    }
    Ok(())
}
