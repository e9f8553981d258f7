//! Whether a column follows a watermark, and how: a window over one that does not would never close.

use std::collections::BTreeMap;

use arrow::datatypes::DataType;
use datafusion::common::Column;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::functions_nested::expr_fn::array_element;
use datafusion::logical_expr::{Distinct, Expr, LogicalPlan, Operator, lit};

use super::SessionWindow;
use super::bounds::WINDOW_BOUNDS;
use super::spread::interval;
use super::{END, START};
use crate::asof::AsofJoin;

/// The sources of a definition and their watermarks.
#[derive(Debug, Clone, Default)]
pub(crate) struct Logs(BTreeMap<String, Log>);

#[derive(Debug, Clone)]
struct Log {
    /// What reading it is planned as.
    plan: LogicalPlan,
    watermark: Option<String>,
}

/// How a column follows the watermark of a log: rows that are not late have no value in it below that of `expr` at the
/// watermark.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Follows {
    /// The log.
    pub(crate) source: String,
    /// Its event time.
    pub(crate) time: Column,
    /// The type of that.
    pub(crate) data_type: DataType,
    /// What the column is of a row, or the least of what it is where one row becomes several.
    pub(crate) expr: Expr,
}

/// Why a column follows no watermark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NoWatermark {
    /// It is a column of a source with another one, or without.
    Source { source: String, watermark: Option<String> },
    /// It is computed from others.
    Computed,
}

/// Functions whose result does not decrease where their one column does not.
const MONOTONE: [&str; 5] = ["date_bin", "date_trunc", WINDOW_BOUNDS, START, END];

impl Logs {
    pub(crate) fn add(&mut self, name: &str, plan: LogicalPlan, watermark: Option<String>) {
        self.0.insert(name.to_owned(), Log { plan, watermark });
    }

    /// How `column` of `plan` follows the watermarks of the logs that it comes from: one of each `UNION ALL`, none of a
    /// table, which needs none.
    pub(crate) fn follows(&self, plan: &LogicalPlan, column: &Column) -> Result<Vec<Follows>, NoWatermark> {
        match plan.schema().maybe_index_of_column(column) {
            Some(at) => self.column(plan, at),
            None => Err(NoWatermark::Computed),
        }
    }

    /// The same of an expression over the columns of `plan`.
    pub(crate) fn expr_follows(&self, plan: &LogicalPlan, expr: &Expr) -> Result<Vec<Follows>, NoWatermark> {
        if let Some(times) = any_of(expr) {
            // Whichever it is, it is no earlier than the earliest of them may be; those of a table may be any.
            let all = times.iter().map(|time| self.expr_follows(plan, time)).collect::<Result<Vec<_>, _>>()?;
            return if all.iter().any(Vec::is_empty) { Err(NoWatermark::Computed) } else { Ok(all.concat()) };
        }
        let column = monotone(expr).ok_or(NoWatermark::Computed)?;
        let mut follows = self.follows(plan, column)?;
        for of in &mut follows {
            of.expr = with(expr, column, &of.expr).ok_or(NoWatermark::Computed)?;
        }
        Ok(follows)
    }

    fn column(&self, plan: &LogicalPlan, at: usize) -> Result<Vec<Follows>, NoWatermark> {
        if let Some((source, log)) = self.log(plan) {
            let field = plan.schema().field(at);
            if log.watermark.as_deref() != Some(field.name().as_str()) {
                let watermark = log.watermark.clone();
                return Err(NoWatermark::Source { source: source.clone(), watermark });
            }
            let time = Column::from_name(field.name());
            let (source, data_type) = (source.clone(), field.data_type().clone());
            return Ok(vec![Follows { source, data_type, expr: Expr::Column(time.clone()), time }]);
        }
        if !self.reads_log(plan) {
            return Ok(Vec::new());
        }
        match plan {
            LogicalPlan::Projection(projection) => self.item(&projection.expr, at, &projection.input),
            LogicalPlan::Aggregate(aggregate) => self.item(&aggregate.group_expr, at, &aggregate.input),
            LogicalPlan::Distinct(Distinct::On(on)) => self.item(&on.select_expr, at, &on.input),
            LogicalPlan::Union(union) => {
                let inputs = union.inputs.iter().map(|input| self.column(input, at));
                Ok(inputs.collect::<Result<Vec<_>, _>>()?.concat())
            }
            LogicalPlan::Unnest(unnest) => match unnest.dependency_indices.get(at) {
                Some(from) => {
                    let mut follows = self.column(&unnest.input, *from)?;
                    if unnest.list_type_columns.iter().any(|(list, _)| list == from) {
                        // Windows of a row come from the first to the last.
                        for of in &mut follows {
                            of.expr = array_element(of.expr.clone(), lit(1_i64));
                        }
                    }
                    Ok(follows)
                }
                None => Err(NoWatermark::Computed),
            },
            LogicalPlan::Window(window) => match at.checked_sub(window.input.schema().fields().len()) {
                Some(at) => self.item(&window.window_expr, at, &window.input),
                None => self.column(&window.input, at),
            },
            LogicalPlan::Join(join) => {
                let left = join.left.schema().fields().len();
                let name = Column::from(plan.schema().qualified_field(at));
                // A semi join gives the columns of one side only.
                match join.left.schema().maybe_index_of_column(&name) {
                    Some(found) if at < left && self.reads_log(&join.left) => self.column(&join.left, found),
                    Some(_) if at < left => Err(NoWatermark::Computed),
                    // The rows of a table are joined with those of a log whenever these come.
                    _ if !self.reads_log(&join.right) => Err(NoWatermark::Computed),
                    _ => self.follows(&join.right, &name),
                }
            }
            LogicalPlan::Extension(_) => match (AsofJoin::of(plan), SessionWindow::of(plan)) {
                (Some(join), _) if at < join.left.schema().fields().len() => self.column(&join.left, at),
                (_, Some(session)) if at < session.width() => self.column(session.data(), at),
                // The bounds of a session are event times of its rows.
                (_, Some(session)) => self.expr_follows(session.data(), &session.time),
                _ => Err(NoWatermark::Computed),
            },
            LogicalPlan::SubqueryAlias(alias) => self.column(&alias.input, at),
            LogicalPlan::Filter(filter) => self.column(&filter.input, at),
            LogicalPlan::Sort(sort) => self.column(&sort.input, at),
            LogicalPlan::Limit(limit) => self.column(&limit.input, at),
            LogicalPlan::Distinct(Distinct::All(input)) => self.column(input, at),
            _ => Err(NoWatermark::Computed),
        }
    }

    fn item(&self, exprs: &[Expr], at: usize, input: &LogicalPlan) -> Result<Vec<Follows>, NoWatermark> {
        exprs.get(at).map_or(Err(NoWatermark::Computed), |expr| self.expr_follows(input, expr))
    }

    /// The log that `plan` reads, be it the source as it is or with its generated columns.
    fn log(&self, plan: &LogicalPlan) -> Option<(&String, &Log)> {
        self.0.iter().find(|(name, log)| match plan {
            // An analysed plan is not that of the source to the letter.
            LogicalPlan::TableScan(scan) => {
                let is_read = |watermark: &String| scan.source.schema().index_of(watermark).is_ok();
                scan.table_name.table() == name.as_str() && log.watermark.iter().all(is_read)
            }
            _ => unaliased(&log.plan) == plan,
        })
    }

    fn reads_log(&self, plan: &LogicalPlan) -> bool {
        let is_log = |node: &LogicalPlan| matches!(node, LogicalPlan::TableScan(scan) if self.0.contains_key(scan.table_name.table()));
        // The walk cannot fail: it only looks.
        plan.exists(|node| Ok(is_log(node))).unwrap_or(true)
    }
}

fn unaliased(plan: &LogicalPlan) -> &LogicalPlan {
    match plan {
        LogicalPlan::SubqueryAlias(alias) => unaliased(&alias.input),
        plan => plan,
    }
}

/// The one column that `expr` is made from, if it never decreases where that does not.
fn monotone(expr: &Expr) -> Option<&Column> {
    match expr {
        Expr::Column(column) => Some(column),
        Expr::Alias(alias) => monotone(&alias.expr),
        Expr::Cast(cast) if cast.field.data_type().is_temporal() => monotone(&cast.expr),
        Expr::BinaryExpr(binary) if matches!(binary.op, Operator::Plus | Operator::Minus) => {
            let Expr::Literal(by, _) = binary.right.as_ref() else { return None };
            // A month later may be the same day for several days: an hour of the first is then after one of the next.
            let has_months = interval(by).is_some_and(|by| !by.is_exact());
            (!has_months).then(|| monotone(&binary.left))?
        }
        Expr::ScalarFunction(call) if MONOTONE.contains(&call.name()) => {
            let mut columns = call.args.iter().filter(|arg| !matches!(arg, Expr::Literal(..)));
            let column = columns.next()?;
            columns.next().is_none().then(|| monotone(column))?
        }
        _ => None,
    }
}

/// The times of which `expr` is the first that is there.
fn any_of(expr: &Expr) -> Option<&[Expr]> {
    match expr {
        Expr::Alias(alias) => any_of(&alias.expr),
        Expr::ScalarFunction(call) if call.name() == "coalesce" => Some(&call.args),
        _ => None,
    }
}

/// `expr` with `inner` in the place of the `column` that it is made from.
fn with(expr: &Expr, column: &Column, inner: &Expr) -> Option<Expr> {
    let replaced = expr.clone().unalias().transform(|found| {
        Ok(if matches!(&found, Expr::Column(name) if name == column) {
            Transformed::yes(inner.clone())
        } else {
            Transformed::no(found)
        })
    });
    // The walk cannot fail: it only replaces.
    replaced.data().ok()
}
