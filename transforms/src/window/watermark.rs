//! Whether a column follows a watermark: a window over one that does not would never close.

use std::collections::BTreeMap;

use datafusion::common::Column;
use datafusion::common::tree_node::TreeNode;
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::{Distinct, Expr, LogicalPlan, Operator};

use super::bounds::WINDOW_BOUNDS;
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

/// Why a column follows no watermark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NoWatermark {
    /// It is a column of a source with another one, or without.
    Source { source: String, watermark: Option<String> },
    /// It is computed from others.
    Computed,
}

/// Functions whose result does not decrease where their one column does not.
const MONOTONE: [&str; 4] = ["date_bin", "date_trunc", "get_field", WINDOW_BOUNDS];

impl Logs {
    pub(crate) fn add(&mut self, name: &str, plan: LogicalPlan, watermark: Option<String>) {
        self.0.insert(name.to_owned(), Log { plan, watermark });
    }

    /// Whether `column` of `plan` follows a watermark, or comes from a table, which needs none.
    pub(super) fn follows(&self, plan: &LogicalPlan, column: &Column) -> Result<(), NoWatermark> {
        match plan.schema().maybe_index_of_column(column) {
            Some(at) => self.column(plan, at),
            None => Err(NoWatermark::Computed),
        }
    }

    fn column(&self, plan: &LogicalPlan, at: usize) -> Result<(), NoWatermark> {
        if let Some((source, log)) = self.0.iter().find(|(_, log)| log.plan == *plan) {
            let watermark = log.watermark.clone();
            let is_watermark = watermark.as_deref() == Some(plan.schema().field(at).name().as_str());
            return if is_watermark { Ok(()) } else { Err(NoWatermark::Source { source: source.clone(), watermark }) };
        }
        if !self.reads_log(plan) {
            return Ok(());
        }
        match plan {
            LogicalPlan::Projection(projection) => self.expr(&projection.expr, at, &projection.input),
            LogicalPlan::Aggregate(aggregate) => self.expr(&aggregate.group_expr, at, &aggregate.input),
            LogicalPlan::Distinct(Distinct::On(on)) => self.expr(&on.select_expr, at, &on.input),
            LogicalPlan::Union(union) => union.inputs.iter().try_for_each(|input| self.column(input, at)),
            LogicalPlan::Unnest(unnest) => match unnest.dependency_indices.get(at) {
                Some(at) => self.column(&unnest.input, *at),
                None => Err(NoWatermark::Computed),
            },
            LogicalPlan::Window(window) => match at.checked_sub(window.input.schema().fields().len()) {
                Some(at) => self.expr(&window.window_expr, at, &window.input),
                None => self.column(&window.input, at),
            },
            LogicalPlan::Join(join) => {
                let left = join.left.schema().fields().len();
                let name = Column::from(plan.schema().qualified_field(at));
                // A semi join gives the columns of one side only.
                match join.left.schema().maybe_index_of_column(&name) {
                    Some(found) if at < left => self.column(&join.left, found),
                    _ => self.follows(&join.right, &name),
                }
            }
            LogicalPlan::Extension(_) => match AsofJoin::of(plan) {
                Some(join) if at < join.left.schema().fields().len() => self.column(&join.left, at),
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

    fn expr(&self, exprs: &[Expr], at: usize, input: &LogicalPlan) -> Result<(), NoWatermark> {
        match exprs.get(at).and_then(monotone) {
            Some(column) => self.follows(input, column),
            None => Err(NoWatermark::Computed),
        }
    }

    fn reads_log(&self, plan: &LogicalPlan) -> bool {
        let is_log = |node: &LogicalPlan| matches!(node, LogicalPlan::TableScan(scan) if self.0.contains_key(scan.table_name.table()));
        // The walk cannot fail: it only looks.
        plan.exists(|node| Ok(is_log(node))).unwrap_or(true)
    }
}

/// The one column that `expr` is made from, if it never decreases where that does not.
fn monotone(expr: &Expr) -> Option<&Column> {
    match expr {
        Expr::Column(column) => Some(column),
        Expr::Alias(alias) => monotone(&alias.expr),
        Expr::Cast(cast) if cast.field.data_type().is_temporal() => monotone(&cast.expr),
        Expr::BinaryExpr(binary) if matches!(binary.op, Operator::Plus | Operator::Minus) => {
            matches!(*binary.right, Expr::Literal(..)).then(|| monotone(&binary.left))?
        }
        Expr::ScalarFunction(call) if MONOTONE.contains(&call.name()) => {
            let mut columns = call.args.iter().filter(|arg| !matches!(arg, Expr::Literal(..)));
            let column = columns.next()?;
            columns.next().is_none().then(|| monotone(column))?
        }
        Expr::WindowFunction(window) => bound(window),
        _ => None,
    }
}

/// The first or last event time of a session.
fn bound(window: &WindowFunction) -> Option<&Column> {
    let [time] = window.params.args.as_slice() else { return None };
    matches!(window.fun.name(), "min" | "max").then(|| monotone(time))?
}
