//! What operators ask of their inputs is met once more where the engine's rules have lost it. Plans are checked in the end,
//! and would be refused in the middle of a run. Two ways to lose it are known:
//!
//! A sort that nothing asks for, such as that of `DISTINCT ON` in a subquery, is taken away, but not the gathering of all
//! partitions below it. Where there are known to be few rows, the operator above takes them from one partition by then, and
//! nothing deals them out by their keys. Below another sort that gathering is taken away, too, so that sorts run side by
//! side, and every partition has some rows of a key.
//!
//! A sort is done without the columns that are constant below it. Where a join stands in between, and a projection becomes
//! a part of the join, that they are constant is forgotten.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::error::Result;
use datafusion::physical_expr::{Distribution, LexOrdering, OrderingRequirements, Partitioning};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::physical_plan::distribution_requirements::ChildSatisfactionOptions;
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};

/// Deals rows out by keys and sorts them where that is asked for and was lost.
#[derive(Debug)]
struct MetAgain;

/// The engine's rules, with ours after the one that meets what is asked for, and before the one that checks it.
pub(crate) fn physical_rules() -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let mut rules: Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> = Vec::new();
    for rule in PhysicalOptimizer::new().rules {
        match rule.name() {
            "EnsureRequirements" => rules.extend([rule, Arc::new(MetAgain)]),
            "SanityCheckPlan" => rules.extend([Arc::new(MetAgain), rule]),
            _ => rules.push(rule),
        }
    }
    rules
}

impl PhysicalOptimizerRule for MetAgain {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let partitions = config.execution.target_partitions;
        plan.transform_up(|plan| Ok(Transformed::yes(sorted(dealt(plan, partitions)?)?))).data()
    }

    fn name(&self) -> &'static str {
        "met_again"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// `plan`, whose rows of one key come from one partition where it counts on that.
fn dealt(plan: Arc<dyn ExecutionPlan>, partitions: usize) -> Result<Arc<dyn ExecutionPlan>> {
    let required = plan.input_distribution_requirements();
    let keys_of = |at| match required.child_distribution(at) {
        Some(Distribution::KeyPartitioned(keys)) => Some(keys),
        _ => None,
    };
    let is_dealt = |at, input: &Arc<dyn ExecutionPlan>| {
        let options = ChildSatisfactionOptions::new().with_allow_subset(true);
        required.child_satisfaction(at, input.as_ref(), options).is_ok_and(|found| found.is_satisfied())
    };
    let is_met = |(at, input)| keys_of(at).is_none() || is_dealt(at, input);
    if plan.children().into_iter().enumerate().all(is_met) {
        return Ok(plan);
    }
    let inputs = plan.children().into_iter().enumerate().map(|(at, input)| match keys_of(at) {
        // The partitions of a join's sides meet one by one: there are as many of one as of the other.
        Some(keys) if !is_dealt(at, input) || input.output_partitioning().partition_count() != partitions => {
            let by_keys = Partitioning::Hash(keys.clone(), partitions);
            Ok(Arc::new(RepartitionExec::try_new(Arc::clone(input), by_keys)?) as _)
        }
        _ => Ok(Arc::clone(input)),
    });
    let inputs = inputs.collect::<Result<_>>()?;
    replace_children_if_necessary(plan, inputs)
}

/// `plan`, whose rows come in the order that it counts on.
fn sorted(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let inputs = plan.children().into_iter().zip(plan.required_input_ordering()).map(|(input, required)| {
        let Some(required) = required.map(OrderingRequirements::into_single) else { return Ok(Arc::clone(input)) };
        if input.equivalence_properties().ordering_satisfy_requirement(required.clone())? {
            return Ok(Arc::clone(input));
        }
        let sort = SortExec::new(LexOrdering::from(required), Arc::clone(input)).with_preserve_partitioning(true);
        Ok(Arc::new(sort) as _)
    });
    let inputs = inputs.collect::<Result<_>>()?;
    replace_children_if_necessary(plan, inputs)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, RecordBatch, StringArray};
    use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
    use datafusion::catalog::streaming::StreamingTable;
    use datafusion::datasource::{MemTable, TableProvider};
    use datafusion::physical_plan::streaming::PartitionStream;
    use datafusion::prelude::SessionContext;

    use crate::incremental::tests::Kept;
    use crate::tests::{lines, state};

    const QUERIES: [&str; 4] = [
        "SELECT k, max(n) AS n FROM (SELECT DISTINCT ON (k, x) k, n FROM t ORDER BY k, x, n) d GROUP BY k ORDER BY k",
        "SELECT k, count(*) AS n FROM (SELECT * FROM t ORDER BY n) d GROUP BY k ORDER BY k",
        "SELECT a.k, a.n, b.n AS m FROM (SELECT DISTINCT ON (k) k, n FROM t ORDER BY k, n) a
         JOIN (SELECT DISTINCT ON (k) k, n FROM t ORDER BY k, n DESC) b ON a.k = b.k ORDER BY a.n, a.k",
        "SELECT g.k, g.n, g.x FROM (SELECT k FROM t WHERE n < 3) t
         JOIN (SELECT 'b' AS k, x, sum(n) AS n FROM t GROUP BY x) g ON g.k = t.k ORDER BY k, n, x",
    ];

    fn schema() -> SchemaRef {
        let number = |name: &str| Field::new(name, DataType::Int64, true);
        Arc::new(Schema::new(vec![Field::new("k", DataType::Utf8, true), number("n"), number("x")]))
    }

    /// Forty rows in so many partitions; as of a source, nothing is known of how many there are.
    fn table(partitions: i64) -> Arc<dyn TableProvider> {
        let partition = |of: i64| {
            let numbers = || (0..40_i64).filter(move |at| at % partitions == of);
            let keys: StringArray = numbers().map(|at| Some(if at % 3 == 0 { "a" } else { "b" })).collect();
            let (n, x): (Int64Array, Int64Array) = (numbers().collect(), numbers().map(|at| at % 4).collect());
            let rows = RecordBatch::try_new(schema(), vec![Arc::new(keys), Arc::new(n), Arc::new(x)]).unwrap();
            Arc::new(Kept(schema(), vec![rows])) as Arc<dyn PartitionStream>
        };
        Arc::new(StreamingTable::try_new(schema(), (0..partitions).map(partition).collect()).unwrap())
    }

    async fn rows(query: &str, table: Arc<dyn TableProvider>, partitions: usize) -> Vec<String> {
        let context = SessionContext::new_with_state(state(partitions));
        context.register_table("t", table).unwrap();
        lines(&context.sql(query).await.unwrap().collect().await.unwrap(), "")
    }

    #[tokio::test]
    async fn what_an_operator_counts_on_is_true_of_several_partitions() {
        for query in QUERIES {
            let expected = rows(query, table(1), 1).await;
            assert!(!expected.is_empty(), "{query}");
            assert_eq!(rows(query, table(3), 3).await, expected, "{query}");
            let empty = MemTable::try_new(schema(), vec![Vec::new(); 3]).unwrap();
            assert!(rows(query, Arc::new(empty), 3).await.is_empty(), "{query}");
        }
    }
}
