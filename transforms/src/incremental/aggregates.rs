//! A query over groups, from partial aggregates of them.
//!
//! ```text
//! query    above ◄─ aggregate ◄─ below ◄─ logs
//!
//! absorb   state ──────────────────────────────────────────┐
//!          new rows ─► below ─► Partial ─► sorted by keys ─┴─► merged ─► PartialReduce ─► state
//! emit     state ─► Final ─► above ─► rows of the set
//! ```
//!
//! The state has a row for each group: its keys, and what every function has so far, sorted by the keys. So it is merged
//! with what is new in one pass that holds one group, and rows come out in an order that does not depend on how the
//! input was cut. Only functions whose partial states merge to the bits of one pass take part (`exact`).
//!
//! *Below* and *above* are optimised each by itself, and no logical rule sees the aggregate: rules rewrite its functions
//! by what else is in the plan, and a state that an earlier epoch wrote must keep its meaning.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::common::DataFusionError;
use datafusion::error::Result as EngineResult;
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode, PhysicalGroupBy};
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::streaming::PartitionStream;
use datafusion::physical_plan::union::UnionExec;

use super::Incremental;
use super::groups::{Group, with_groups};
use super::sorted::Sorted;
use crate::{Error, Result};

/// A query that is cut at an aggregate.
#[derive(Debug)]
pub(super) struct Aggregates {
    /// Of whom, for errors.
    pub(super) of: String,
    /// What is aggregated, as the optimizer leaves it: keys, arguments and filters as columns.
    pub(super) below: LogicalPlan,
    /// What is made of the groups, as the optimizer leaves it.
    pub(super) above: LogicalPlan,
    /// The keys, as columns of `below`.
    pub(super) keys: PhysicalGroupBy,
    pub(super) functions: Vec<Arc<AggregateFunctionExpr>>,
    pub(super) filters: Vec<Option<Arc<dyn PhysicalExpr>>>,
    /// The columns of `below`.
    pub(super) input: SchemaRef,
    /// A row for each group, sorted by its first columns, the keys.
    pub(super) state: Sorted,
    /// The columns that `above` reads, among those of the groups.
    pub(super) columns: Vec<Group>,
    pub(super) tables: BTreeSet<String>,
}

#[async_trait]
impl Incremental for Aggregates {
    fn keeps(&self) -> &'static str {
        "partial aggregates"
    }

    fn state_schema(&self) -> &SchemaRef {
        self.state.schema()
    }

    fn tables(&self) -> &BTreeSet<String> {
        &self.tables
    }

    fn signature(&self) -> String {
        let functions = self.functions.iter().map(|function| {
            let arguments = function.expressions();
            let types: Vec<_> = arguments
                .iter()
                .map(|argument| {
                    argument.data_type(&self.input).map_or_else(|_| "?".to_owned(), |found| found.to_string())
                })
                .collect();
            let distinct = if function.is_distinct() { "DISTINCT " } else { "" };
            format!("{}({distinct}{})", function.fun().name(), types.join(", "))
        });
        let fields = self.state.schema().fields();
        let columns = fields.iter().map(|field| format!("{} {}", field.name(), field.data_type()));
        functions.chain(columns).collect::<Vec<_>>().join("\n")
    }

    async fn absorb(
        &self,
        session: &SessionState,
        before: Option<Arc<dyn PartitionStream>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let planned = async {
            let below = session.query_planner().create_physical_plan(&self.below, session).await?;
            let new = self.state.sorted(self.aggregate(AggregateMode::Partial, below)?);
            let inputs = match before {
                Some(before) => UnionExec::try_new(vec![self.state.segments(vec![before])?, new])?,
                None => new,
            };
            self.aggregate(AggregateMode::PartialReduce, self.state.merged(inputs))
        };
        planned.await.map_err(|source| self.error(source))
    }

    async fn emit(&self, session: &SessionState, state: Arc<dyn PartitionStream>) -> Result<Arc<dyn ExecutionPlan>> {
        self.emit_where(session, vec![state], None).await
    }
}

impl Aggregates {
    /// The plan of the set's rows of those groups in the `segments` of a state, each sorted by the keys, that are as
    /// `predicate` says.
    pub(super) async fn emit_where(
        &self,
        session: &SessionState,
        segments: Vec<Arc<dyn PartitionStream>>,
        predicate: Option<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let planned = async {
            let states = self.merged(segments, predicate)?;
            let groups = self.aggregate(AggregateMode::Final, states)?;
            let session = with_groups(session, groups, &self.columns)?;
            session.query_planner().create_physical_plan(&self.above, &session).await
        };
        planned.await.map_err(|source| self.error(source))
    }

    /// The plan of one segment with those groups in the `segments` of a state, each sorted by the keys, that are as
    /// `predicate` says.
    pub(super) fn merge(
        &self,
        segments: Vec<Arc<dyn PartitionStream>>,
        predicate: Option<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let merged = self.merged(segments, predicate);
        let reduced = merged.and_then(|states| self.aggregate(AggregateMode::PartialReduce, states));
        reduced.map_err(|source| self.error(source))
    }

    fn merged(
        &self,
        segments: Vec<Arc<dyn PartitionStream>>,
        predicate: Option<Arc<dyn PhysicalExpr>>,
    ) -> EngineResult<Arc<dyn ExecutionPlan>> {
        let read = self.state.segments(segments)?;
        let read = match predicate {
            Some(predicate) => Arc::new(FilterExec::try_new(predicate, read)?),
            None => read,
        };
        Ok(self.state.merged(read))
    }

    fn error(&self, source: DataFusionError) -> Error {
        Error::from_engine(format!("feature set `{}`", self.of), source)
    }

    fn aggregate(&self, mode: AggregateMode, input: Arc<dyn ExecutionPlan>) -> EngineResult<Arc<dyn ExecutionPlan>> {
        // Filters are about rows, and states have seen them.
        let (keys, filters) = match mode {
            AggregateMode::Partial => (self.keys.clone(), self.filters.clone()),
            _ => (self.keys.as_final(), vec![None; self.filters.len()]),
        };
        let (functions, schema) = (self.functions.clone(), Arc::clone(&self.input));
        Ok(Arc::new(AggregateExec::try_new(mode, keys, functions, filters, input, schema)?))
    }
}
