//! Sets that are not computed over everything: snapshot sets that are kept up to date from partial aggregates
//! ([`aggregates`]) or from the first row of each key ([`first`]), windows that are emitted as they close ([`closing`]), and
//! whatever else is final once a watermark has passed it ([`release`]).

mod aggregates;
mod closing;
mod cut;
mod emits;
mod exact;
mod first;
mod groups;
mod release;
mod resident;
mod sorted;

#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::execution::SessionState;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::streaming::PartitionStream;

pub(crate) use self::cut::{Everything, incremental, windows};
pub use self::emits::{Between, Emits, Range};
pub(crate) use self::release::released;
pub use self::resident::{Lookup, Resident, SegmentRows};
use crate::Result;

/// A snapshot set that is kept up to date: what it keeps from one epoch to the next, and how its rows are made of that. They
/// do not depend on how the input was cut, so that a set that is computed over everything goes the same way.
#[async_trait]
pub trait Incremental: Debug + Send + Sync {
    /// What is kept, in words.
    fn keeps(&self) -> &'static str;

    /// The columns of the state.
    fn state_schema(&self) -> &SchemaRef;

    /// The tables that rows were looked up in before they came into the state.
    fn tables(&self) -> &BTreeSet<String>;

    /// What the columns of the state mean: another text is another state.
    fn signature(&self) -> String;

    /// The plan of the state after the rows that the scans of `session` read now: what was kept `before` with what is new.
    /// It has one partition, in the order of the state.
    async fn absorb(
        &self,
        session: &SessionState,
        before: Option<Arc<dyn PartitionStream>>,
    ) -> Result<Arc<dyn ExecutionPlan>>;

    /// The plan of the set's rows.
    async fn emit(&self, session: &SessionState, state: Arc<dyn PartitionStream>) -> Result<Arc<dyn ExecutionPlan>>;
}
