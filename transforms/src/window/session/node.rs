//! The node of a logical plan, and the operator that it becomes.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{Field, Schema};
use datafusion::catalog::Session;
use datafusion::common::{Column, DFSchema, DFSchemaRef, internal_err};
use datafusion::error::Result;
use datafusion::logical_expr::{
    Expr, ExprSchemable, Extension, LogicalPlan, LogicalPlanBuilder, UserDefinedLogicalNodeCore,
};
use datafusion::physical_plan::ExecutionPlan;

use super::exec::{SessionExec, Steps};
use crate::window::{END, Length, START};

/// The last event time of a session.
const LAST: &str = "__session_last";
/// The event time of the row before, in the same keys.
const PREVIOUS: &str = "__session_previous";

/// The rows of `data`, each with the first and the last event time of its session.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct SessionWindow {
    /// Those that have an event time.
    data: Arc<LogicalPlan>,
    pub(crate) keys: Vec<Expr>,
    pub(crate) time: Expr,
    pub(crate) gap: Length,
    schema: DFSchemaRef,
}

impl SessionWindow {
    /// All columns of `data`, whose event time is `time`, and the bounds of the session.
    pub(crate) fn plan(keys: Vec<Expr>, time: Expr, gap: Length, data: LogicalPlan) -> Result<LogicalPlan> {
        let mut columns: Vec<_> = data.schema().columns().into_iter().map(Expr::Column).collect();
        let data = LogicalPlanBuilder::from(data).filter(time.clone().is_not_null())?.build()?;
        let schema = schema(&data, &time)?;
        let window = Self { data: Arc::new(data), keys, time, gap, schema };
        let plan = LogicalPlan::Extension(Extension { node: Arc::new(window) });
        let bound = |name: &str| Expr::Column(Column::from_name(name));
        columns.extend([bound(START), (bound(LAST) + Expr::Literal(gap.to_interval(), None)).alias(END)]);
        LogicalPlanBuilder::from(plan).project(columns)?.build()
    }

    /// The sessions that a node of a plan gives.
    pub(crate) fn of(plan: &LogicalPlan) -> Option<&Self> {
        match plan {
            LogicalPlan::Extension(extension) => extension.node.as_any().downcast_ref(),
            _ => None,
        }
    }

    /// The rows that are put into sessions.
    pub(crate) fn data(&self) -> &LogicalPlan {
        match self.data.as_ref() {
            LogicalPlan::Filter(known) => &known.input,
            data => data,
        }
    }

    /// How many of its columns are those of the data, which come first.
    pub(crate) fn width(&self) -> usize {
        self.data.schema().fields().len()
    }

    /// Whether a column is the last event time.
    pub(crate) fn is_last(&self, at: usize) -> bool {
        at == self.width() + 1
    }

    pub(crate) fn operator(
        &self,
        data: Arc<dyn ExecutionPlan>,
        session: &dyn Session,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let physical = |expr: &Expr| session.create_physical_expr(expr.clone(), self.data.schema());
        let data_type = self.schema.field(self.width()).data_type();
        let step =
            [(PREVIOUS, true), (START, false)].map(|(name, is_null)| Field::new(name, data_type.clone(), is_null));
        let step = Schema::new(step.to_vec());
        let [previous, time] = [PREVIOUS, START].map(|name| Expr::Column(Column::from_name(name)));
        let goes_on = time.lt(previous + Expr::Literal(self.gap.to_interval(), None));
        let steps = Steps {
            goes_on: session.create_physical_expr(goes_on, &DFSchema::try_from(step.clone())?)?,
            schema: Arc::new(step),
        };
        let keys = self.keys.iter().map(physical).collect::<Result<_>>()?;
        Ok(Arc::new(SessionExec::new(data, keys, physical(&self.time)?, steps, Arc::clone(self.schema.inner()))))
    }
}

fn schema(data: &LogicalPlan, time: &Expr) -> Result<DFSchemaRef> {
    let data_type = time.get_type(data.schema())?;
    let bounds = [START, LAST].map(|name| Field::new(name, data_type.clone(), false));
    let bounds = DFSchema::from_unqualified_fields(bounds.into_iter().collect(), HashMap::new())?;
    Ok(Arc::new(data.schema().join(&bounds)?))
}

impl UserDefinedLogicalNodeCore for SessionWindow {
    fn name(&self) -> &'static str {
        "SessionWindow"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.data]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        std::iter::once(&self.time).chain(&self.keys).cloned().collect()
    }

    /// What says something of the keys alone keeps or drops whole sessions.
    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        let is_key = |name: &str| self.keys.iter().filter_map(Expr::try_as_col).any(|key| key.name == name);
        let names = self.schema.fields().iter().map(|field| field.name().clone());
        let is_one = |name: &String| self.schema.fields().iter().filter(|field| field.name() == name).count() == 1;
        names.filter(|name| !(is_key(name) && is_one(name))).collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionWindow: {} with {:?}", self.time, self.gap)?;
        for (at, key) in self.keys.iter().enumerate() {
            write!(f, "{} {key}", if at == 0 { " BY" } else { "," })?;
        }
        Ok(())
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        let mut exprs = exprs.into_iter();
        let (Some(time), Ok([data])) = (exprs.next(), <[_; 1]>::try_from(inputs)) else {
            return internal_err!("a session keeps its expressions and its data");
        };
        let schema = schema(&data, &time)?;
        Ok(Self { data: Arc::new(data), keys: exprs.collect(), time, gap: self.gap, schema })
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        // The engine adds those of the expressions.
        Some(vec![output_columns.iter().copied().filter(|at| *at < self.width()).collect()])
    }
}

impl PartialOrd for SessionWindow {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}
