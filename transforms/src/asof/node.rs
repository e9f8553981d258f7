//! The node of a logical plan, and the operator that it becomes.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use datafusion::catalog::Session;
use datafusion::common::{Column, DFSchema, DFSchemaRef, internal_err};
use datafusion::error::Result;
use datafusion::logical_expr::builder::build_join_schema;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{
    Expr, Extension, JoinType, LogicalPlan, LogicalPlanBuilder, UserDefinedLogicalNodeCore,
};
use datafusion::physical_plan::ExecutionPlan;

use super::exec::{AsofJoinExec, Side};
use super::{Matching, Nearest};
use crate::type_name::is_sortable;

/// Rows of `left`, each with the nearest one of `right`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct AsofJoin {
    pub(crate) left: Arc<LogicalPlan>,
    pub(crate) right: Arc<LogicalPlan>,
    join_type: JoinType,
    keys: Vec<(Expr, Expr)>,
    time: (Expr, Expr),
    nearest: Nearest,
    /// What decides between rows of the right side with the same key and time.
    ties: Vec<Expr>,
    schema: DFSchemaRef,
}

/// What an [`AsofJoin`] compares.
#[derive(Debug)]
pub(crate) struct Parts<'j> {
    pub(crate) right_keys: Vec<Expr>,
    pub(crate) left_time: &'j Expr,
    pub(crate) right_time: &'j Expr,
    /// Whether the last row before is looked for, not the first one after.
    pub(crate) is_before: bool,
}

impl Matching {
    /// All columns of `left`, then those of `right`.
    pub(super) fn plan(self, left: LogicalPlan, right: LogicalPlan) -> Result<LogicalPlan> {
        let (left_keys, right_keys): (Vec<_>, Vec<_>) = self.keys.iter().cloned().unzip();
        // A null is near to nothing. Where they are kept, nulls of the left side sort first, before all of the right.
        let right = known(right, right_keys.iter().chain([&self.time.1]))?;
        let left = match self.join_type {
            JoinType::Inner => known(left, left_keys.iter().chain([&self.time.0]))?,
            _ => left,
        };
        let schema = build_join_schema(left.schema(), right.schema(), &self.join_type)?;
        let join = AsofJoin {
            ties: sortable_columns(right.schema()),
            left: Arc::new(left),
            right: Arc::new(right),
            join_type: self.join_type,
            keys: self.keys,
            time: self.time,
            nearest: self.nearest,
            schema: Arc::new(schema),
        };
        let plan = LogicalPlan::Extension(Extension { node: Arc::new(join) });
        if self.left_out.is_empty() {
            return Ok(plan);
        }
        let mut columns = plan.schema().columns();
        columns.retain(|column| !self.left_out.contains(column));
        LogicalPlanBuilder::from(plan).project(columns.into_iter().map(Expr::Column))?.build()
    }
}

/// The rows in which none of `exprs` is null.
fn known<'e>(plan: LogicalPlan, exprs: impl Iterator<Item = &'e Expr>) -> Result<LogicalPlan> {
    match conjunction(exprs.map(|expr| expr.clone().is_not_null())) {
        Some(predicate) => LogicalPlanBuilder::from(plan).filter(predicate)?.build(),
        None => Ok(plan),
    }
}

fn sortable_columns(schema: &DFSchema) -> Vec<Expr> {
    let columns = schema.iter().filter(|(_, field)| is_sortable(field.data_type()));
    columns.map(|column| Expr::Column(Column::from(column))).collect()
}

impl AsofJoin {
    /// The join that a node of a plan is.
    pub(crate) fn of(plan: &LogicalPlan) -> Option<&Self> {
        match plan {
            LogicalPlan::Extension(extension) => extension.node.as_any().downcast_ref(),
            _ => None,
        }
    }

    /// What says which row of the right side belongs to one of the left.
    pub(crate) fn parts(&self) -> Parts<'_> {
        let right_keys = self.keys.iter().map(|(_, key)| key.clone()).collect();
        let (left_time, right_time) = &self.time;
        Parts { right_keys, left_time, right_time, is_before: self.nearest.is_before }
    }

    /// What is equal in rows that belong together, of the left side and of the right.
    pub(crate) fn equal(&self) -> impl Iterator<Item = (&Expr, &Expr)> {
        self.keys.iter().map(|(left, right)| (left, right))
    }

    pub(crate) fn operator(
        &self,
        left: Arc<dyn ExecutionPlan>,
        right: Arc<dyn ExecutionPlan>,
        session: &dyn Session,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let physical = |expr: &Expr, plan: &LogicalPlan| session.create_physical_expr(expr.clone(), plan.schema());
        let left = Side {
            plan: left,
            keys: self.keys.iter().map(|(key, _)| physical(key, &self.left)).collect::<Result<_>>()?,
            time: physical(&self.time.0, &self.left)?,
            ties: Vec::new(),
        };
        let right = Side {
            plan: right,
            keys: self.keys.iter().map(|(_, key)| physical(key, &self.right)).collect::<Result<_>>()?,
            time: physical(&self.time.1, &self.right)?,
            ties: self.ties.iter().map(|tie| physical(tie, &self.right)).collect::<Result<_>>()?,
        };
        let schema = Arc::clone(self.schema.inner());
        Ok(Arc::new(AsofJoinExec::try_new(left, right, self.join_type, self.nearest, schema)?))
    }
}

impl UserDefinedLogicalNodeCore for AsofJoin {
    fn name(&self) -> &'static str {
        "AsofJoin"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.left, &self.right]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        let pairs = std::iter::once(&self.time).chain(&self.keys);
        let pairs = pairs.flat_map(|(left, right)| [left, right]);
        pairs.chain(&self.ties).cloned().collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let operator = self.nearest.operator();
        write!(f, "AsofJoin: {} {} {operator} {}", self.join_type, self.time.0, self.time.1)?;
        for (at, (left, right)) in self.keys.iter().enumerate() {
            write!(f, "{} {left} = {right}", if at == 0 { " ON" } else { " AND" })?;
        }
        Ok(())
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        let mut exprs = exprs.into_iter();
        let mut pair = || exprs.next().zip(exprs.next());
        let time = pair();
        let keys: Option<Vec<_>> = self.keys.iter().map(|_| pair()).collect();
        let (Some(time), Some(keys), Ok([left, right])) = (time, keys, <[_; 2]>::try_from(inputs)) else {
            return internal_err!("an ASOF JOIN keeps its expressions and sides");
        };
        let schema = Arc::new(build_join_schema(left.schema(), right.schema(), &self.join_type)?);
        let ties = exprs.collect();
        Ok(Self { left: Arc::new(left), right: Arc::new(right), keys, time, ties, schema, ..self.clone() })
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let left_columns = self.left.schema().fields().len();
        let (left, right): (Vec<_>, Vec<_>) = output_columns.iter().partition(|at| **at < left_columns);
        Some(vec![left, right.into_iter().map(|at| at - left_columns).collect()])
    }
}

impl PartialOrd for AsofJoin {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}
