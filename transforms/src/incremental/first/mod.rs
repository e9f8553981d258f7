//! Sets of the first row of each key in some order: a log of changes as the table that it is about.
//!
//! ```text
//! query    above ◄─ DISTINCT ON ◄─ below ◄─ logs
//!
//! absorb   state ────────────────────────────────────────────────────┐
//!          new rows ─► below ─► sorted by all columns ─► first rows ─┴─► merged ─► first rows ─► state
//! emit     state ─► above ─► rows of the set
//! ```
//!
//! The state has one row for each key: the key, what says which row is first, and those columns that *above* reads. Rows
//! are sorted by the keys, by what the query says, and then by all other columns that are kept, so that two rows which the
//! query does not tell apart are told apart, or are the same. So the first one of some rows is the first one of the first
//! ones of any parts of them.

mod cut;
mod exec;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::common::DataFusionError;
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::streaming::PartitionStream;
use datafusion::physical_plan::union::UnionExec;

pub(super) use self::cut::{Firsts, numbered};
use self::exec::FirstOfKeyExec;
use super::Incremental;
use super::sorted::Sorted;
use crate::given::{renamed, with_given};
use crate::{Error, Result};

/// A query that is cut where it takes the first row of each key.
#[derive(Debug)]
pub(super) struct FirstRows {
    /// Of whom, for errors.
    of: String,
    /// What rows are taken of, as the optimizer leaves it: keys, what else orders them, what else is kept.
    below: LogicalPlan,
    /// What is made of them, as the optimizer leaves it.
    above: LogicalPlan,
    /// How many columns are keys.
    keys: usize,
    /// How each column is sorted.
    order: Vec<SortOptions>,
    state: Sorted,
    /// What `above` calls the columns of the state.
    given: Vec<String>,
    tables: BTreeSet<String>,
}

#[async_trait]
impl Incremental for FirstRows {
    fn keeps(&self) -> &'static str {
        "the first row of each key"
    }

    fn state_schema(&self) -> &SchemaRef {
        self.state.schema()
    }

    fn tables(&self) -> &BTreeSet<String> {
        &self.tables
    }

    fn signature(&self) -> String {
        let columns = self.state.schema().fields().iter().zip(&self.order);
        let columns = columns.map(|(field, order)| format!("{} {} {order}", field.name(), field.data_type()));
        let head = format!("first rows of {} keys", self.keys);
        [head].into_iter().chain(columns).collect::<Vec<_>>().join("\n")
    }

    async fn absorb(
        &self,
        session: &SessionState,
        before: Option<Arc<dyn PartitionStream>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let planned = async {
            let below = session.query_planner().create_physical_plan(&self.below, session).await?;
            let new = self.firsts(self.state.sorted(below));
            let inputs = match before {
                Some(before) => UnionExec::try_new(vec![self.state.segments(vec![before])?, new])?,
                None => new,
            };
            Ok(self.firsts(self.state.merged(inputs)))
        };
        planned.await.map_err(|source| self.error(source))
    }

    async fn emit(&self, session: &SessionState, state: Arc<dyn PartitionStream>) -> Result<Arc<dyn ExecutionPlan>> {
        let planned = async {
            let rows = self.state.segments(vec![state])?;
            // Each column has a name.
            let rows = renamed(rows, |at| self.given.get(at).cloned().unwrap_or_default())?;
            let session = with_given(session, vec![rows]);
            session.query_planner().create_physical_plan(&self.above, &session).await
        };
        planned.await.map_err(|source| self.error(source))
    }
}

impl FirstRows {
    fn firsts(&self, sorted: Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
        Arc::new(FirstOfKeyExec::new(sorted, self.keys, Arc::clone(self.state.schema())))
    }

    fn error(&self, source: DataFusionError) -> Error {
        Error::from_engine(format!("feature set `{}`", self.of), source)
    }
}
