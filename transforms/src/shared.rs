//! Aggregates that a query has several times, such as those of a view that it reads twice: each is computed once.
//!
//! What such an aggregate gives goes to a file of the session's, which every reader reads. So it takes no memory while they
//! wait for one another, and comes in one order for all of them.

use std::fmt;
use std::sync::{Arc, OnceLock};

use datafusion::common::exec_datafusion_err;
use datafusion::common::runtime::SpawnedTask;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, SessionState, SpillFile, TaskContext};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, ReplaceChildrenOptions};
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricsSet, SpillMetrics};
use datafusion::physical_plan::spill::SpillManager;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, EmptyRecordBatchStream, ExecutionPlan, ExecutionPlanProperties, PlanProperties,
};
use futures::future::{BoxFuture, Shared};
use futures::{FutureExt, TryFutureExt, TryStreamExt};

use crate::given::{leaf, name, renamed, with_given};

/// A query of which some parts are computed once.
#[derive(Debug)]
pub(crate) struct Sharing {
    plan: LogicalPlan,
    parts: Vec<LogicalPlan>,
}

impl Sharing {
    /// Of an optimised plan; nothing where it has no aggregate twice.
    pub(crate) fn of(plan: &LogicalPlan) -> Result<Option<Self>> {
        // What is read in turns is not the same each time.
        if plan.exists(|node| Ok(matches!(node, LogicalPlan::RecursiveQuery(_))))? {
            return Ok(None);
        }
        let mut seen: Vec<&LogicalPlan> = Vec::new();
        let mut parts: Vec<LogicalPlan> = Vec::new();
        plan.apply(|node| {
            if !matches!(node, LogicalPlan::Aggregate(_)) {
                return Ok(TreeNodeRecursion::Continue);
            }
            if seen.contains(&node) {
                if !parts.contains(node) {
                    parts.push(node.clone());
                }
                // What it is made of is computed once with it.
                return Ok(TreeNodeRecursion::Jump);
            }
            seen.push(node);
            Ok(TreeNodeRecursion::Continue)
        })?;
        if parts.is_empty() {
            return Ok(None);
        }
        let leaves = parts.iter().enumerate().map(|(number, part)| leaf(number, part.schema()));
        let leaves = leaves.collect::<Result<Vec<_>>>()?;
        let replaced = plan.clone().transform_down(|node| {
            let found = parts.iter().zip(&leaves).find(|(part, _)| **part == node);
            Ok(match found {
                Some((_, leaf)) => Transformed::new(leaf.clone(), true, TreeNodeRecursion::Jump),
                None => Transformed::no(node),
            })
        });
        Ok(Some(Self { plan: replaced.data()?, parts }))
    }

    /// The physical plan.
    pub(crate) async fn physical(&self, session: &SessionState) -> Result<Arc<dyn ExecutionPlan>> {
        let mut parts: Vec<Arc<dyn ExecutionPlan>> = Vec::new();
        for part in &self.parts {
            let plan = session.query_planner().create_physical_plan(part, session).await?;
            parts.push(renamed(Arc::new(SharedExec::new(plan)), name)?);
        }
        let session = with_given(session, parts);
        session.query_planner().create_physical_plan(&self.plan, &session).await
    }
}

/// A file for each partition that gave rows.
type Written = Shared<BoxFuture<'static, std::result::Result<Arc<[Option<Arc<dyn SpillFile>>]>, Arc<DataFusionError>>>>;

/// Computes a plan when its first output is read, all of it, and gives it to any number of readers.
///
/// It is a leaf: what was optimised is not to be changed for one of its readers.
struct SharedExec {
    plan: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
    written: OnceLock<Written>,
    metrics: ExecutionPlanMetricsSet,
}

impl SharedExec {
    fn new(plan: Arc<dyn ExecutionPlan>) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(plan.schema()),
            plan.output_partitioning().clone(),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        let metrics = ExecutionPlanMetricsSet::new();
        Self { plan, properties: Arc::new(properties), written: OnceLock::new(), metrics }
    }

    fn spills(&self, context: &TaskContext, partition: usize) -> SpillManager {
        SpillManager::new(context.runtime_env(), SpillMetrics::new(&self.metrics, partition), self.plan.schema())
    }

    /// Computes all partitions side by side, since they may wait for one another.
    fn write(&self, context: &Arc<TaskContext>) -> Written {
        let partitions = 0..self.plan.output_partitioning().partition_count();
        let parts = partitions.map(|partition| {
            let (plan, context) = (Arc::clone(&self.plan), Arc::clone(context));
            let spills = self.spills(&context, partition);
            async move {
                let mut rows = plan.execute(partition, context)?;
                let mut file = spills.create_in_progress_file("a part of a query that is read several times")?;
                while let Some(batch) = rows.try_next().await? {
                    file.append_batch(&batch)?;
                }
                file.finish()
            }
        });
        let parts: Vec<_> = parts.collect();
        let all = async move {
            let tasks = parts.into_iter().map(|part| SpawnedTask::spawn(part).join_unwind());
            let files = futures::future::try_join_all(tasks).await.map_err(|error| exec_datafusion_err!("{error}"))?;
            files.into_iter().collect::<Result<Arc<[_]>>>()
        };
        all.map_err(Arc::new).boxed().shared()
    }
}

impl fmt::Debug for SharedExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedExec").field("plan", &self.plan).finish_non_exhaustive()
    }
}

impl DisplayAs for SharedExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedExec")
    }
}

impl ExecutionPlan for SharedExec {
    fn name(&self) -> &'static str {
        "SharedExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn with_new_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let written = self.written.get_or_init(|| self.write(&context)).clone();
        let (spills, schema) = (self.spills(&context, partition), self.schema());
        let read = async move {
            let files = written.await.map_err(DataFusionError::Shared)?;
            match files.get(partition).cloned().flatten() {
                Some(file) => spills.read_spill_as_stream(file, None),
                None => Ok(Box::pin(EmptyRecordBatchStream::new(Arc::clone(spills.schema()))) as _),
            }
        };
        let rows = futures::stream::once(read).try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use arrow::array::{Int64Array, RecordBatch, StringArray};

    use crate::tests::{definition, lines, plan_with, run, scan_schema, state_with};

    const EVENTS: &str = "
    CREATE SOURCE events (k VARCHAR, n BIGINT) WITH (connector = 'object_store', path = 'x', format = 'json');
    CREATE VIEW totals AS SELECT k, n % 10 AS digit, count(*) AS c, sum(n) AS s FROM events GROUP BY k, n % 10;";

    fn rows_of(query: &str, partitions: usize) -> (bool, Vec<String>) {
        let text = format!("{EVENTS} CREATE FEATURE SET s WITH (path = 'x') AS {query};");
        let state = state_with(partitions, 16, 64 << 20);
        let schema = scan_schema(&definition(&text).sources[0]);
        let batches = (0..30_i64).map(|batch| {
            let keys: StringArray = (0..20).map(|row| Some(format!("K{}", (batch + row) % 7))).collect();
            let numbers: Int64Array = (0..20).map(|row| Some(batch * 20 + row)).collect();
            RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(keys), Arc::new(numbers)]).unwrap()
        });
        let (plan, found) = plan_with(&text, &BTreeMap::from([("events", batches.collect())]), &[], &state);
        let plan = plan.unwrap_or_else(|| panic!("{found:#?}"));
        let set = plan.set("s").unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
        let rows = runtime.block_on(async {
            let shared = run(set.physical(&state).await.unwrap(), &state).await.concat();
            let again = state.query_planner().create_physical_plan(&set.optimized, &state).await.unwrap();
            let mut rows = [shared, run(again, &state).await.concat()].map(|rows| lines(&rows, ""));
            for rows in &mut rows {
                rows.sort();
            }
            assert_eq!(rows[0], rows[1], "{query}");
            rows[0].clone()
        });
        (set.sharing.is_some(), rows)
    }

    #[test]
    fn a_view_that_is_read_twice_is_computed_once() {
        for partitions in 1..4 {
            let (is_shared, rows) = rows_of(
                "SELECT t.k, t.digit, t.c, most.c AS most FROM totals t
                 JOIN (SELECT k, max(c) AS c FROM totals GROUP BY k) most ON t.k = most.k AND t.c >= most.c",
                partitions,
            );
            assert!(is_shared && !rows.is_empty());
            let (is_shared, rows) =
                rows_of("SELECT k, s FROM totals UNION ALL SELECT k, s + 1 FROM totals", partitions);
            assert!(is_shared && rows.len() == 140);
            let (is_shared, _) = rows_of(
                "SELECT a.k, b.s FROM totals a, totals b, totals c
                 WHERE a.k = b.k AND b.digit = c.digit AND a.digit = c.digit AND c.k = a.k",
                partitions,
            );
            assert!(is_shared);
        }
    }

    #[test]
    fn what_is_read_once_is_not_kept() {
        let other = "(SELECT k, count(*) AS c, 1 AS one FROM events GROUP BY k)";
        let (is_shared, _) = rows_of(&format!("SELECT t.k, o.c FROM totals t JOIN {other} o ON t.k = o.k"), 2);
        assert!(!is_shared);
    }
}
