//! `GROUP BY` of windows that overlap: each row is aggregated once, in the pane that its windows share, and the panes are
//! put together to windows.
//!
//! ```text
//! Aggregate k, window_start, window_end: f        Aggregate k, window_start, window_end: f of panes
//!   Unnest windows of at                     ──►    Unnest windows of pane
//!     rows                                            Aggregate k, pane of at: f
//!                                                       rows
//! ```
//!
//! Windows begin and end on a grid, so that rows between two points of it are in the same ones. A row in fifty windows is
//! no more work then than one in a single window.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Column, DFSchema};
use datafusion::error::Result;
use datafusion::functions::expr_fn::coalesce;
use datafusion::functions_aggregate::min_max::{max_udaf, min_udaf};
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::{
    Aggregate, Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, Projection, ScalarUDF, Unnest, cast,
};
use datafusion::scalar::ScalarValue;

use super::bounds::{WINDOW_BOUNDS, WindowBound, WindowBounds, aligned};
use super::plan::BOUNDS;
use super::{Aligned, END, Length, START, Shape};

/// Column of the pane.
const PANE: &str = "__pane";

/// `plan`, optimised, with its windows aggregated in panes where that gives the same rows.
pub(crate) fn in_panes(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    plan.transform_up(|node| {
        let LogicalPlan::Aggregate(aggregate) = &node else { return Ok(Transformed::no(node)) };
        Ok(match Parts::of(aggregate) {
            Some(parts) => Transformed::yes(parts.plan()?),
            None => Transformed::no(node),
        })
    })
}

/// `plan`, optimised, with windows of one length told apart by where they begin: where they end follows from it, and need
/// not be a key as well.
pub(crate) fn with_one_bound(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    plan.transform_up(|node| {
        let LogicalPlan::Aggregate(aggregate) = &node else { return Ok(Transformed::no(node)) };
        Ok(match bounds_of(aggregate) {
            Some(bounds) => Transformed::yes(bounds.plan(aggregate)?),
            None => Transformed::no(node),
        })
    })
}

/// Where the bounds of windows are among the keys of an aggregate, and how long these are.
struct Bounds {
    start: usize,
    end: usize,
    size: Length,
}

fn bounds_of(aggregate: &Aggregate) -> Option<Bounds> {
    let LogicalPlan::Projection(bounds) = aggregate.input.as_ref() else { return None };
    let place = |name: &str| {
        let mut keys = aggregate.group_expr.iter();
        keys.position(|key| {
            let Expr::Column(column) = key else { return false };
            let found = bounds.schema.maybe_index_of_column(column).and_then(|at| bounds.expr.get(at));
            let Some(Expr::ScalarFunction(call)) = found.map(unaliased) else { return false };
            call.name() == name && matches!(call.args.as_slice(), [Expr::Column(window)] if window.name == BOUNDS)
        })
    };
    let (start, end) = (place(START)?, place(END)?);
    let mut input = bounds.input.as_ref();
    let call = loop {
        match input {
            LogicalPlan::Projection(projection) => {
                let is_windows = |expr: &&Expr| matches!(expr, Expr::Alias(alias) if alias.name == BOUNDS);
                match projection.expr.iter().find(is_windows).map(unaliased)? {
                    Expr::ScalarFunction(call) => break call,
                    _ => return None,
                }
            }
            LogicalPlan::Filter(filter) => input = &filter.input,
            LogicalPlan::Unnest(unnest) => input = &unnest.input,
            _ => return None,
        }
    };
    match aligned(call)?.shape {
        Shape::Tumble { size: size @ Length::Nanos(_) } | Shape::Hop { size: size @ Length::Nanos(_), .. } => {
            Some(Bounds { start, end, size })
        }
        _ => None,
    }
}

impl Bounds {
    fn plan(self, aggregate: &Aggregate) -> Result<LogicalPlan> {
        let (mut keys, functions) = (aggregate.group_expr.clone(), aggregate.aggr_expr.clone());
        keys.remove(self.end);
        let fewer = LogicalPlanBuilder::from(aggregate.input.as_ref().clone()).aggregate(keys, functions)?;
        let given =
            |at: usize| Expr::Column(Column::from(fewer.schema().qualified_field(at - usize::from(at > self.end))));
        let columns = (0..aggregate.schema.fields().len()).map(|at| {
            let (qualifier, field) = aggregate.schema.qualified_field(at);
            let found = if at == self.end {
                given(self.start) + Expr::Literal(self.size.to_interval(), None)
            } else {
                given(at)
            };
            found.alias_qualified(qualifier.cloned(), field.name())
        });
        let columns: Vec<_> = columns.collect();
        fewer.project(columns)?.build()
    }
}

fn unaliased(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => unaliased(&alias.expr),
        expr => expr,
    }
}

/// An aggregate over windows that overlap.
struct Parts<'p> {
    aggregate: &'p Aggregate,
    /// Makes the bounds columns.
    bounds: &'p Projection,
    unnest: &'p Unnest,
    /// Makes the windows.
    windows: &'p Projection,
    /// The event time, over what is read.
    time: &'p Expr,
    /// Gives the windows of a time.
    windows_of: Arc<ScalarUDF>,
    grid: Aligned,
    /// The keys that say nothing of windows, over what is read, and where they are among the keys.
    keys: Vec<(usize, Expr)>,
    functions: Vec<Function>,
}

/// An aggregate function, taken apart.
struct Function {
    /// Over what is read.
    pane: AggregateFunction,
    of_panes: fn(Expr) -> Expr,
}

impl<'p> Parts<'p> {
    fn of(aggregate: &'p Aggregate) -> Option<Self> {
        let has_sets = aggregate.group_expr.iter().any(|key| matches!(key, Expr::GroupingSet(_)));
        if has_sets {
            return None;
        }
        let LogicalPlan::Projection(bounds) = aggregate.input.as_ref() else { return None };
        let LogicalPlan::Unnest(unnest) = bounds.input.as_ref() else { return None };
        let LogicalPlan::Projection(windows) = unnest.input.as_ref() else { return None };
        let [(list, _)] = unnest.list_type_columns.as_slice() else { return None };
        let Expr::Alias(alias) = windows.expr.get(*list)? else { return None };
        let Expr::ScalarFunction(call) = alias.expr.as_ref() else { return None };
        let is_windows = alias.name == BOUNDS && call.name() == WINDOW_BOUNDS && unnest.struct_type_columns.is_empty();
        let [time] = call.args.as_slice() else { return None };
        let parts = Self {
            aggregate,
            bounds,
            unnest,
            windows,
            time,
            windows_of: Arc::clone(&call.func),
            grid: grid(aligned(call).filter(|_| is_windows)?)?,
            keys: Vec::new(),
            functions: Vec::new(),
        };
        let keys = aggregate.group_expr.iter().enumerate().filter(|(_, key)| !parts.is_bound(key));
        let keys = keys.map(|(at, key)| Some((at, parts.of_rows(key)?))).collect::<Option<Vec<_>>>()?;
        let functions = aggregate.aggr_expr.iter().map(|function| parts.function(function)).collect::<Option<_>>()?;
        Some(Self { keys, functions, ..parts })
    }

    /// Whether `key` is a bound of the window.
    fn is_bound(&self, key: &Expr) -> bool {
        let Expr::Column(column) = key else { return false };
        let at = self.bounds.schema.maybe_index_of_column(column);
        at.and_then(|at| self.bounds.expr.get(at)).is_some_and(reads_window)
    }

    /// `expr` over what is read; nothing where it asks for the window.
    fn of_rows(&self, expr: &Expr) -> Option<Expr> {
        let after_unnest = replaced(expr, &self.bounds.schema, &self.bounds.expr)?;
        if reads_window(&after_unnest) {
            return None;
        }
        let before_unnest: Vec<_> =
            self.unnest.dependency_indices.iter().map(|at| self.windows.expr[*at].clone()).collect();
        replaced(&after_unnest, &self.unnest.schema, &before_unnest)
    }

    fn function(&self, expr: &Expr) -> Option<Function> {
        let inner = match expr {
            Expr::Alias(alias) => alias.expr.as_ref(),
            expr => expr,
        };
        let Expr::AggregateFunction(call) = inner else { return None };
        let params = &call.params;
        if params.distinct || !params.order_by.is_empty() || params.null_treatment.is_some() {
            return None;
        }
        let of_panes: fn(Expr) -> Expr = match call.func.name() {
            "count" => |panes| sum_udaf().call(vec![panes]),
            "sum" => |panes| sum_udaf().call(vec![panes]),
            "min" => |panes| min_udaf().call(vec![panes]),
            "max" => |panes| max_udaf().call(vec![panes]),
            _ => return None,
        };
        // Of floating-point numbers the order of additions shows, and which of two zeros came first.
        let is_exact = |arg: &Expr| arg.get_type(self.aggregate.input.schema()).is_ok_and(|found| !found.is_floating());
        if call.func.name() != "count" && !params.args.iter().all(is_exact) {
            return None;
        }
        let mut pane = call.clone();
        pane.params.args = params.args.iter().map(|arg| self.of_rows(arg)).collect::<Option<_>>()?;
        if let Some(filter) = &params.filter {
            pane.params.filter = Some(Box::new(self.of_rows(filter)?));
        }
        Some(Function { pane, of_panes })
    }

    fn plan(self) -> Result<LogicalPlan> {
        let key = |at: usize| format!("__key_{at}");
        let value = |at: usize| format!("__value_{at}");
        let column = |name: String| Expr::Column(Column::from_name(name));
        let pane = ScalarUDF::from(WindowBounds::new(self.grid)).call(vec![self.time.clone()]);
        let pane = ScalarUDF::from(WindowBound::new(START)).call(vec![pane]);

        // Keys and panes as columns, so that what is aggregated is told by its name.
        let named = self.keys.iter().map(|(at, expr)| expr.clone().alias(key(*at)));
        let mut columns: Vec<Expr> = named.chain([pane.alias(PANE)]).collect();
        let mut arguments = 0;
        let functions = self.functions.iter().enumerate().map(|(at, function)| {
            let mut call = function.pane.clone();
            let filter = call.params.filter.iter_mut().map(Box::as_mut);
            for argument in call.params.args.iter_mut().chain(filter) {
                if !matches!(argument, Expr::Literal(..)) {
                    let name = format!("__argument_{arguments}");
                    arguments += 1;
                    columns.push(std::mem::replace(argument, column(name.clone())).alias(name));
                }
            }
            Expr::AggregateFunction(call).alias(value(at))
        });
        let functions: Vec<_> = functions.collect();
        let keys: Vec<_> = self.keys.iter().map(|(at, _)| column(key(*at))).chain([column(PANE.to_owned())]).collect();
        let panes = LogicalPlanBuilder::from(self.windows.input.as_ref().clone())
            .project(columns)?
            .aggregate(keys.clone(), functions)?;

        let windows = self.windows_of.call(vec![column(PANE.to_owned())]).alias(BOUNDS);
        let values: Vec<_> = (0..self.functions.len()).map(|at| column(value(at))).collect();
        let kept: Vec<_> = keys.iter().take(self.keys.len()).cloned().chain(values.iter().cloned()).collect();
        let each = panes
            .project(kept.iter().cloned().chain([windows]))?
            .unnest_column_with_options(Column::from_name(BOUNDS), self.unnest.options.clone())?;

        let schema = &self.aggregate.schema;
        let group_of = |at: usize, found: &Expr| match self.keys.iter().find(|(of, _)| *of == at) {
            Some(_) => column(key(at)),
            None => self.bound_over(found),
        };
        let named = self.aggregate.group_expr.iter().enumerate().map(|(at, found)| group_of(at, found).alias(key(at)));
        let each = each.project(named.chain(values.iter().cloned()).collect::<Vec<_>>())?;
        let groups: Vec<_> = (0..self.aggregate.group_expr.len()).map(|at| column(key(at))).collect();
        let merged = self.functions.iter().zip(values).map(|(function, values)| (function.of_panes)(values));
        let merged: Vec<_> = merged.enumerate().map(|(at, merged)| merged.alias(value(at))).collect();
        let windows = each.aggregate(groups, merged)?;
        // The types and names that the aggregate has: a sum of counts is one, too.
        let columns = (0..schema.fields().len()).map(|at| {
            let (qualifier, field) = schema.qualified_field(at);
            let found = match at.checked_sub(self.aggregate.group_expr.len()) {
                Some(at) => column(value(at)),
                None => column(key(at)),
            };
            let given = windows.schema().field(at);
            let of_type = given.data_type() == field.data_type();
            let found = if of_type { found } else { cast(found, field.data_type().clone()) };
            // There is no window without a pane, so that a sum of counts is never null.
            let found = if given.is_nullable() && !field.is_nullable() {
                coalesce(vec![found, Expr::Literal(ScalarValue::new_zero(field.data_type())?, None)])
            } else {
                found
            };
            Ok(found.alias_qualified(qualifier.cloned(), field.name()))
        });
        let columns = columns.collect::<Result<Vec<_>>>()?;
        windows.project(columns)?.build()
    }

    /// The bound that the key `found` is, over the windows of panes.
    fn bound_over(&self, found: &Expr) -> Expr {
        let at = match found {
            Expr::Column(column) => self.bounds.schema.maybe_index_of_column(column),
            _ => None,
        };
        let expr = at.and_then(|at| self.bounds.expr.get(at)).cloned().unwrap_or_else(|| found.clone());
        let renamed = expr.unalias().transform(|expr| {
            Ok(match expr {
                Expr::Column(column) if column.name == BOUNDS => {
                    Transformed::yes(Expr::Column(Column::from_name(BOUNDS)))
                }
                expr => Transformed::no(expr),
            })
        });
        // The walk cannot fail: it only renames.
        renamed.data().unwrap_or_else(|_| found.clone())
    }
}

/// Whether `expr` asks for the window of a row.
fn reads_window(expr: &Expr) -> bool {
    expr.column_refs().iter().any(|column| column.name == BOUNDS)
}

/// `expr` over `schema` with what its columns are.
fn replaced(expr: &Expr, schema: &DFSchema, columns: &[Expr]) -> Option<Expr> {
    let replaced = expr.clone().transform(|found| {
        let at = match &found {
            Expr::Column(column) => schema.maybe_index_of_column(column),
            _ => None,
        };
        Ok(match at.and_then(|at| columns.get(at)) {
            Some(column) => Transformed::yes(column.clone().unalias()),
            None => Transformed::no(found),
        })
    });
    // The walk cannot fail: it only replaces.
    replaced.data().ok()
}

/// The grid between whose points all rows are in the same windows.
fn grid(aligned: Aligned) -> Option<Aligned> {
    let (step, size) = match aligned.shape {
        Shape::Hop { slide: Length::Nanos(slide), size: Length::Nanos(size) } => (slide, size),
        Shape::Cumulate { step: Length::Nanos(step), size: Length::Nanos(size) } => (step, size),
        _ => return None,
    };
    // Where no two windows share a row there is nothing to be won.
    let pane = greatest_common_divisor(step, size);
    (step < size).then_some(Aligned { shape: Shape::Tumble { size: Length::Nanos(pane) }, ..aligned })
}

fn greatest_common_divisor(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}
