//! Whether a set's rows are final when they are made, and if not, why not.
//!
//! A plan appends if it is stateless over the logs it reads: it takes their rows one by one, looks them up in tables,
//! and what it made of one row can never change when others come. Everything else is computed anew over all input.

use std::collections::BTreeMap;
use std::fmt;

use bessemer_schemas::SourceKind;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Distinct, Expr, Join, JoinType, LogicalPlan};

use crate::asof::AsofJoin;
use crate::catalog::Catalog;
use crate::window::SessionWindow;

/// What kind of set a query makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SetKind {
    /// Each epoch adds rows; what is written stays.
    Append,
    /// The whole content is computed over everything read so far and replaced in one commit.
    Snapshot,
}

impl fmt::Display for SetKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl SetKind {
    /// `append` or `snapshot`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Append => "append",
            Self::Snapshot => "snapshot",
        }
    }
}

/// The construct of the query that makes it a snapshot: where to look for its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Construct {
    GroupBy,
    Distinct,
    Window,
    Session,
    AsofJoin,
    Other,
}

/// What a plan reads and what it does with it.
#[derive(Debug, Default)]
pub(crate) struct Nature {
    /// Logs scanned, with how often.
    pub(crate) logs: BTreeMap<String, usize>,
    /// Tables scanned, with how often.
    pub(crate) tables: BTreeMap<String, usize>,
    /// Why it is no append set; empty for an append set.
    pub(crate) reasons: Vec<(Construct, String)>,
    /// Whether one row read can become several.
    pub(crate) can_expand: bool,
    /// Whether rows of a log are ordered or limited.
    pub(crate) orders_log: bool,
}

impl Nature {
    pub(crate) fn kind(&self) -> SetKind {
        if self.logs.is_empty() || !self.reasons.is_empty() { SetKind::Snapshot } else { SetKind::Append }
    }

    fn reads_log(&self) -> bool {
        !self.logs.is_empty()
    }

    fn log_names(&self) -> String {
        self.logs.keys().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" and ")
    }

    fn add(&mut self, other: Self) {
        for (name, times) in other.logs {
            *self.logs.entry(name).or_default() += times;
        }
        for (name, times) in other.tables {
            *self.tables.entry(name).or_default() += times;
        }
        self.reasons.extend(other.reasons);
        self.can_expand |= other.can_expand;
        self.orders_log |= other.orders_log;
    }

    fn because(&mut self, construct: Construct, reason: String) {
        if !self.reasons.iter().any(|(_, other)| *other == reason) {
            self.reasons.push((construct, reason));
        }
    }
}

/// Looks at an analysed plan, not yet optimised: its nodes are still the query's clauses.
pub(crate) fn nature(plan: &LogicalPlan, catalog: &Catalog<'_>) -> Nature {
    let mut found = Nature::default();
    let inputs: Vec<Nature> = plan.inputs().into_iter().map(|input| nature(input, catalog)).collect();
    let flags: Vec<(bool, String)> = inputs.iter().map(|input| (input.reads_log(), input.log_names())).collect();
    for input in inputs {
        found.add(input);
    }
    if let LogicalPlan::TableScan(scan) = plan {
        if let Some(scanned) = catalog.scanned(scan) {
            let of_kind = match scanned.kind {
                SourceKind::Log => &mut found.logs,
                SourceKind::Table => &mut found.tables,
            };
            of_kind.insert(scan.table_name.table().to_owned(), 1);
        }
        return found;
    }

    subqueries(plan, catalog, &mut found);
    if !found.reads_log() {
        return found;
    }
    let logs = found.log_names();
    match plan {
        LogicalPlan::Projection(_) | LogicalPlan::Filter(_) | LogicalPlan::SubqueryAlias(_) => {}
        LogicalPlan::Subquery(_) => {
            found.because(Construct::Other, format!("a lateral subquery over source {logs}"));
        }
        LogicalPlan::Unnest(_) => found.can_expand = true,
        LogicalPlan::Sort(_) | LogicalPlan::Limit(_) => found.orders_log = true,
        LogicalPlan::Union(_) => union(&flags, &logs, &mut found),
        LogicalPlan::Join(join) => self::join(join, &flags, &mut found),
        LogicalPlan::Extension(_) if AsofJoin::of(plan).is_some() => asof_join(&flags, &mut found),
        LogicalPlan::Aggregate(_) => {
            found.because(Construct::GroupBy, format!("`GROUP BY` or an aggregate over source {logs}"));
        }
        LogicalPlan::Extension(_) if SessionWindow::of(plan).is_some() => {
            found.because(Construct::Session, format!("`SESSION` over source {logs}, whose next row may join two"));
        }
        LogicalPlan::Window(_) => {
            found.because(Construct::Window, format!("a window function over source {logs}"));
        }
        LogicalPlan::Distinct(Distinct::All(input)) if matches!(input.as_ref(), LogicalPlan::Union(_)) => {
            found.because(Construct::Other, format!("`UNION` without `ALL` over source {logs}"));
        }
        LogicalPlan::Distinct(_) => {
            found.because(Construct::Distinct, format!("`DISTINCT` over source {logs}"));
        }
        LogicalPlan::RecursiveQuery(_) => {
            found.because(Construct::Other, format!("`WITH RECURSIVE` over source {logs}"));
        }
        _ => found.because(Construct::Other, format!("an operator with state over source {logs}")),
    }
    found
}

fn union(flags: &[(bool, String)], logs: &str, found: &mut Nature) {
    if flags.iter().any(|(reads_log, _)| !reads_log) {
        // The rows of the table's branch would come again with every epoch.
        found.because(Construct::Other, format!("`UNION ALL` of source {logs} with rows of a table"));
    }
}

fn join(join: &Join, flags: &[(bool, String)], found: &mut Nature) {
    let [(left_log, left), (right_log, right)] = flags else { return };
    if *left_log && *right_log {
        found.because(Construct::Other, format!("a join of source {left} with source {right}"));
        return;
    }
    let preserves = match join.join_type {
        JoinType::Inner => true,
        JoinType::Left | JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark => *left_log,
        JoinType::Right | JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark => *right_log,
        JoinType::Full => false,
    };
    if !preserves {
        let log = if *left_log { left } else { right };
        let reason = format!(
            "a `{}` join keeps or drops rows of a table depending on rows of source {log} that are still to come",
            join.join_type.to_string().to_uppercase()
        );
        found.because(Construct::Other, reason);
    }
    found.can_expand |= matches!(join.join_type, JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full);
}

/// A row of the left side gives one row or none, so that a log on the left is looked up like a log in a join.
fn asof_join(flags: &[(bool, String)], found: &mut Nature) {
    let [_, (right_log, right)] = flags else { return };
    if *right_log {
        let reason = format!("an `ASOF JOIN` with source {right}, of which a nearer row may still come");
        found.because(Construct::AsofJoin, reason);
    }
}

/// Whether subqueries in the expressions of a node read a log.
pub(crate) fn subqueries_read_log(plan: &LogicalPlan, catalog: &Catalog<'_>) -> bool {
    let mut found = Nature::default();
    subqueries(plan, catalog, &mut found);
    found.reads_log()
}

/// Adds what the subqueries in a node's expressions read.
fn subqueries(plan: &LogicalPlan, catalog: &Catalog<'_>, found: &mut Nature) {
    for expr in plan.expressions() {
        // The walk cannot fail: it only looks.
        let _walked = expr.apply(|expr| {
            let subquery = match expr {
                Expr::ScalarSubquery(subquery) => Some(subquery),
                Expr::Exists(exists) => Some(&exists.subquery),
                Expr::InSubquery(within) => Some(&within.subquery),
                Expr::SetComparison(comparison) => Some(&comparison.subquery),
                _ => None,
            };
            if let Some(subquery) = subquery {
                let inner = nature(&subquery.subquery, catalog);
                if inner.reads_log() {
                    let reason = format!("a subquery in an expression over source {}", inner.log_names());
                    found.because(Construct::Other, reason);
                }
                found.add(Nature { reasons: Vec::new(), can_expand: false, ..inner });
            }
            Ok(TreeNodeRecursion::Continue)
        });
    }
}
