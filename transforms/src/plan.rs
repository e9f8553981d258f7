//! From a definition to plans: every view and feature set planned once, every fault told at its place.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use bessemer_schemas::{Definition, Diagnostic, Digest, PartitionField, Span, nearest};
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::ExecutionPlan;

use crate::catalog::{Catalog, Relation};
use crate::gate::Expectations;
use crate::incremental::{Emits, Incremental};
use crate::set::plan_set;
use crate::shared::Sharing;
use crate::source::add_sources;
use crate::view::add_views;
use crate::{Error, Result, SetKind};

/// A definition, planned.
#[derive(Debug)]
pub struct Plan {
    /// The feature sets that are sound, in the order written.
    pub sets: Vec<PlannedSet>,
    /// Sources and views, for looking at.
    views: BTreeMap<String, LogicalPlan>,
}

/// A feature set, planned once for all epochs.
#[derive(Debug)]
pub struct PlannedSet {
    /// Its name.
    pub name: String,
    /// Whether it appends or is replaced.
    pub kind: SetKind,
    /// Of a snapshot set, after how much event time a daemon replaces it, in microseconds; `None`: whenever something it
    /// reads has changed.
    pub emit_every: Option<i64>,
    /// Why it is a snapshot; empty for an append set.
    pub reasons: Vec<Reason>,
    /// What an epoch computes it from.
    pub upkeep: Upkeep,
    /// The analysed plan: with row identity and order, where the set has them.
    pub logical: LogicalPlan,
    /// Its columns, as they are published.
    pub schema: SchemaRef,
    /// Logs that it reads, with the number of scans of each.
    pub sources: BTreeMap<String, usize>,
    /// Tables that it reads, with the number of scans of each.
    pub tables: BTreeMap<String, usize>,
    /// How its ledger balances.
    pub ledger: LedgerShape,
    /// Whether the plan's last column is `ORIGIN_COLUMN`.
    pub carries_origin: bool,
    /// By what its rows are sorted, as text; empty if they come in the order of the scan.
    pub order: Vec<String>,
    /// Its query as the definition's fingerprint has it.
    pub plan_digest: Digest,
    /// Its expectations as the definition's fingerprint has them.
    pub expectations_digest: Digest,
    /// Its expectations, compiled.
    pub expectations: Arc<Expectations>,
    /// The plan as the optimizer leaves it.
    pub(crate) optimized: LogicalPlan,
    /// What of it is computed once for several readers.
    pub(crate) sharing: Option<Sharing>,
}

/// What an epoch computes a set from.
#[derive(Debug)]
pub enum Upkeep {
    /// An append set: the slice alone.
    Slice,
    /// A snapshot set: what is new, and what is kept of all before.
    Incremental(Box<dyn Incremental>),
    /// An append set: what is kept until watermarks have passed it, which what is new is added to; its rows are those that
    /// became final.
    Emitting(Box<dyn Emits>),
    /// A snapshot set: everything read so far.
    Everything {
        /// Why nothing less will do.
        reason: String,
    },
}

/// Why a set is a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// ``\`GROUP BY\` or an aggregate over source `flights` ``.
    pub text: String,
    /// Where that stands, as near as is known.
    pub span: Span,
}

/// Which of the ledger's balances a set keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LedgerShape {
    /// Every row produced is made from one row read.
    Stateless {
        /// Whether one row read can become several (joins, unnests).
        can_expand: bool,
    },
    /// Rows are taken into groups, joins or windows.
    Stateful,
}

/// Plans `definition` over `relations`, its sources and tables; `partitioning` is by feature set.
///
/// All problems of all statements are reported at once, and the plan holds what is sound, so that the caller can go on
/// checking it. Before anything is *run*, no diagnostic may be an error.
pub fn plan(
    definition: &Definition,
    relations: &[Relation],
    partitioning: &BTreeMap<String, Vec<PartitionField>>,
    state: &SessionState,
) -> (Plan, Vec<Diagnostic>) {
    let mut found = Vec::new();
    let mut catalog = Catalog::new(state);
    add_sources(definition, relations, &mut catalog, &mut found);
    add_views(definition, &mut catalog, &mut found);
    let sets: Vec<_> = definition
        .feature_sets
        .iter()
        .filter_map(|set| {
            let partition_by = partitioning.get(&set.name.value).map_or(&[][..], Vec::as_slice);
            plan_set(definition, set, partition_by, &catalog, &mut found)
        })
        .collect();

    found.sort_by_key(|diagnostic| diagnostic.span);
    found.dedup();
    let names: Vec<_> = catalog.names().map(str::to_owned).collect();
    let views = names.into_iter().filter_map(|name| catalog.read(&name).ok().map(|plan| (name, plan))).collect();
    (Plan { sets, views }, found)
}

impl Plan {
    /// The feature set of this name.
    pub fn set(&self, name: &str) -> Option<&PlannedSet> {
        self.sets.iter().find(|set| set.name == name)
    }

    /// The plan behind a source, a table, a view or a feature set, for a look at its first rows. Row identity and the
    /// order of files are left out.
    pub fn preview(&self, name: &str) -> Result<LogicalPlan> {
        if let Some(set) = self.set(name) {
            return set.visible().map_err(|source| Error::from_engine(format!("feature set `{name}`"), source));
        }
        self.views.get(name).cloned().ok_or_else(|| {
            let names = self.views.keys().map(String::as_str).chain(self.sets.iter().map(|set| set.name.as_str()));
            Error::UnknownName { name: name.to_owned(), hint: nearest(name, names).map(str::to_owned) }
        })
    }
}

impl PlannedSet {
    /// The physical plan for one epoch: `state` holds, as extensions, what its scans read, which is all that the set is
    /// computed from.
    ///
    /// A sorted set has one output partition.
    pub async fn physical(&self, state: &SessionState) -> Result<Arc<dyn ExecutionPlan>> {
        let planned = match &self.sharing {
            Some(sharing) => sharing.physical(state).await,
            None => state.query_planner().create_physical_plan(&self.optimized, state).await,
        };
        planned.map_err(|source| Error::from_engine(format!("feature set `{}`", self.name), source))
    }

    /// How it is kept up to date, where it is a snapshot set and not computed over everything.
    pub fn incremental(&self) -> Option<&dyn Incremental> {
        match &self.upkeep {
            Upkeep::Incremental(incremental) => Some(incremental.as_ref()),
            Upkeep::Slice | Upkeep::Emitting(_) | Upkeep::Everything { .. } => None,
        }
    }

    /// What it keeps, where it appends rows once watermarks have passed them.
    pub fn emits(&self) -> Option<&dyn Emits> {
        match &self.upkeep {
            Upkeep::Emitting(emits) => Some(emits.as_ref()),
            _ => None,
        }
    }

    /// Whether its rows come sorted, in one partition.
    pub fn is_sorted(&self) -> bool {
        !self.order.is_empty()
    }
}
