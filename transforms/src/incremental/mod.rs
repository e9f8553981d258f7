//! Sets that are not computed over everything: snapshot sets that are kept up to date from partial aggregates, windows that
//! are emitted as they close ([`closing`]), and whatever else is final once a watermark has passed it ([`release`]).
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
//! input was cut. Only functions whose partial states merge to the bits of one pass take part ([`exact`]).
//!
//! *Below* and *above* are optimised each by itself, and no logical rule sees the aggregate: rules rewrite its functions
//! by what else is in the plan, and a state that an earlier epoch wrote must keep its meaning.

mod closing;
mod cut;
mod emits;
mod exact;
mod groups;
mod release;

#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::SchemaRef;
use datafusion::common::DataFusionError;
use datafusion::error::Result as EngineResult;
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{LexOrdering, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode, PhysicalGroupBy};
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::physical_plan::union::UnionExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};

pub(crate) use self::cut::{Everything, incremental, windows};
pub use self::emits::{Between, Emits, Range};
use self::groups::Group;
pub(crate) use self::release::released;
use crate::exchange::gather;
use crate::{Error, Result};

/// A query that is cut at an aggregate.
#[derive(Debug)]
pub struct Incremental {
    /// Of whom, for errors.
    of: String,
    /// What is aggregated, as the optimizer leaves it: keys, arguments and filters as columns.
    below: LogicalPlan,
    /// What is made of the groups, as the optimizer leaves it.
    above: LogicalPlan,
    /// The keys, as columns of `below`.
    keys: PhysicalGroupBy,
    functions: Vec<Arc<AggregateFunctionExpr>>,
    filters: Vec<Option<Arc<dyn PhysicalExpr>>>,
    /// The columns of `below`.
    input: SchemaRef,
    state: SchemaRef,
    /// The columns that `above` reads, among those of the groups.
    columns: Vec<Group>,
    tables: BTreeSet<String>,
}

impl Incremental {
    /// The columns of the state: a row for each group, sorted by its first columns, the keys.
    pub fn state_schema(&self) -> &SchemaRef {
        &self.state
    }

    /// The tables that rows were looked up in before they came into the state.
    pub fn tables(&self) -> &BTreeSet<String> {
        &self.tables
    }

    /// What the columns of the state mean: another text is another state.
    pub fn signature(&self) -> String {
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
        let columns = self.state.fields().iter().map(|field| format!("{} {}", field.name(), field.data_type()));
        functions.chain(columns).collect::<Vec<_>>().join("\n")
    }

    /// The plan of the state after the rows that the scans of `session` read now: those of `before` with what is new in
    /// them. It has one partition, sorted by the keys.
    pub async fn absorb(
        &self,
        session: &SessionState,
        before: Option<Arc<dyn PartitionStream>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let planned = async {
            let below = session.query_planner().create_physical_plan(&self.below, session).await?;
            let new = self.sorted(self.aggregate(AggregateMode::Partial, below)?);
            let inputs = match before {
                Some(before) => UnionExec::try_new(vec![self.segments(vec![before], None)?, new])?,
                None => new,
            };
            self.aggregate(AggregateMode::PartialReduce, self.merged(inputs))
        };
        planned.await.map_err(|source| self.error(source))
    }

    /// The plan of the set's rows.
    pub async fn emit(
        &self,
        session: &SessionState,
        state: Arc<dyn PartitionStream>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.emit_where(session, vec![state], None).await
    }

    /// The plan of the set's rows of those groups in the `segments` of a state, each sorted by the keys, that are as
    /// `predicate` says.
    async fn emit_where(
        &self,
        session: &SessionState,
        segments: Vec<Arc<dyn PartitionStream>>,
        predicate: Option<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let planned = async {
            let states = self.merged(self.segments(segments, predicate)?);
            let groups = self.aggregate(AggregateMode::Final, states)?;
            let session = groups::with_groups(session, groups, &self.columns)?;
            session.query_planner().create_physical_plan(&self.above, &session).await
        };
        planned.await.map_err(|source| self.error(source))
    }

    /// The plan of one segment with those groups in the `segments` of a state, each sorted by the keys, that are as
    /// `predicate` says.
    fn merge(
        &self,
        segments: Vec<Arc<dyn PartitionStream>>,
        predicate: Option<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let states = self.segments(segments, predicate).map(|states| self.merged(states));
        let merged = states.and_then(|states| self.aggregate(AggregateMode::PartialReduce, states));
        merged.map_err(|source| self.error(source))
    }

    /// A partition for each segment.
    fn segments(
        &self,
        segments: Vec<Arc<dyn PartitionStream>>,
        predicate: Option<Arc<dyn PhysicalExpr>>,
    ) -> EngineResult<Arc<dyn ExecutionPlan>> {
        let schema = Arc::clone(&self.state);
        if segments.is_empty() {
            return Ok(Arc::new(EmptyExec::new(schema)));
        }
        let read = StreamingTableExec::try_new(schema, segments, None, self.order(), false, None)?;
        Ok(match predicate {
            Some(predicate) => Arc::new(FilterExec::try_new(predicate, Arc::new(read))?),
            None => Arc::new(read),
        })
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

    /// By the keys of a state; nothing where all rows are one group.
    fn order(&self) -> Option<LexOrdering> {
        let options = SortOptions { descending: false, nulls_first: true };
        let keys = self.keys.expr().iter().enumerate();
        let keys = keys.map(|(at, (_, name))| PhysicalSortExpr::new(Arc::new(Column::new(name, at)), options));
        LexOrdering::new(keys)
    }

    fn sorted(&self, plan: Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
        match self.order() {
            Some(order) => Arc::new(SortExec::new(order, plan).with_preserve_partitioning(true)),
            None => plan,
        }
    }

    fn merged(&self, plan: Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
        if plan.output_partitioning().partition_count() == 1 {
            return plan;
        }
        match self.order() {
            Some(order) => Arc::new(SortPreservingMergeExec::new(order, plan).with_round_robin_repartition(false)),
            None => gather(plan, None),
        }
    }
}
