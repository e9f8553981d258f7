//! Rows of plans with exchanges do not depend on threads, memory or which output is read first.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Float64Array, Int64Array, ListBuilder, RecordBatch, StringArray, StringBuilder, new_null_array};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::error::DataFusionError;
use datafusion::execution::{SessionState, TaskContext};
use datafusion::physical_expr::Partitioning;
use datafusion::physical_expr::expressions::col;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, displayable};
use futures::{FutureExt, TryStreamExt};

use super::lane::Lane;
use super::node::InOrderExec;
use crate::Error;
use crate::tests::{FLIGHTS, definition, lines, plan_with, run, scan_schema, state, state_with};

/// Flights whose delays sum up differently in every order.
fn flights(batches: i64, rows: i64) -> Vec<RecordBatch> {
    let text = format!("{FLIGHTS} CREATE FEATURE SET s WITH (path = 'x') AS SELECT id FROM flights;");
    let schema = scan_schema(&definition(&text).sources[0]);
    let batch = |at: i64| {
        let ids = at * rows..(at + 1) * rows;
        let carriers: StringArray = ids.clone().map(|id| Some(format!("C{}", id % 7))).collect();
        let delays: Float64Array =
            ids.clone().map(|id| Some(((id * 7_919) % 10_007) as f64 * 1.1_f64.powi((id % 60) as i32))).collect();
        let mut tags = ListBuilder::new(StringBuilder::new());
        ids.clone().for_each(|_| tags.append(true));
        let tags = arrow::compute::cast(&tags.finish(), schema.field(6).data_type()).unwrap();
        let length = usize::try_from(rows).unwrap();
        RecordBatch::try_new(
            Arc::clone(&schema),
            vec![
                Arc::new(ids.clone().collect::<Int64Array>()),
                Arc::new(carriers),
                new_null_array(schema.field(2).data_type(), length),
                Arc::new(delays),
                Arc::new(ids.map(|id| id % 3).collect::<Int64Array>()),
                new_null_array(schema.field(5).data_type(), length),
                tags,
            ],
        )
        .unwrap()
    };
    (0..batches).map(batch).collect()
}

/// Snapshots whose rows, or their order, would follow the order in which batches arrive.
const QUERIES: [&str; 10] = [
    "SELECT carrier, sum(delay) AS total, avg(delay) AS mean, stddev(delay) AS spread FROM flights GROUP BY carrier",
    "SELECT sum(delay) AS total, avg(delay) AS mean FROM flights",
    "SELECT id, row_number() OVER (PARTITION BY carrier ORDER BY distance) AS n FROM flights",
    "SELECT id, sum(delay) OVER (ORDER BY distance) AS total FROM flights WHERE id % 5 = 0",
    "SELECT f.carrier, sum(f.delay * g.delay) AS total FROM flights f JOIN flights g ON f.id = g.id + 1 GROUP BY f.carrier",
    "SELECT f.carrier, first_value(f.id) AS any FROM flights f
     LEFT JOIN (SELECT DISTINCT carrier, distance FROM flights) g ON f.carrier = g.carrier AND f.distance < g.distance
     GROUP BY f.carrier",
    "SELECT carrier, id FROM flights WHERE id < 50 UNION SELECT carrier, distance FROM flights",
    ENDS_LATE[0],
    ENDS_LATE[1],
    ENDS_LATE[2],
];

/// Joins with one build side for all partitions, whose rows without a match come last.
const ENDS_LATE: [&str; 3] = [
    "SELECT v.c, f.id FROM (VALUES ('C1'), ('C9'), ('C8')) AS v (c) LEFT JOIN flights f ON f.carrier = v.c",
    "SELECT v.n, f.id FROM (VALUES (11990), (11995), (20000)) AS v (n) LEFT JOIN flights f ON f.id > v.n",
    "SELECT v.c, count(f.id) AS n FROM (VALUES ('C1'), ('C9'), ('C8')) AS v (c)
     LEFT JOIN (SELECT carrier, id FROM flights UNION SELECT carrier, distance FROM flights) f ON f.carrier = v.c
     GROUP BY v.c",
];

async fn physical(query: &str, state: &SessionState) -> Arc<dyn ExecutionPlan> {
    let text = format!("{FLIGHTS} CREATE FEATURE SET s WITH (path = 'x') AS {query};");
    let (plan, found) = plan_with(&text, &BTreeMap::from([("flights", flights(24, 500))]), &[], state);
    let plan = plan.unwrap_or_else(|| panic!("{found:#?}"));
    plan.set("s").unwrap().physical(state).await.unwrap()
}

async fn rows(query: &str, state: &SessionState) -> Vec<String> {
    let physical = physical(query, state).await;
    let shown = displayable(physical.as_ref()).indent(false).to_string();
    let arrives = |line: &str| {
        line.starts_with("CoalescePartitionsExec")
            || line.starts_with("RepartitionExec") && !line.contains("input_partitions=1")
    };
    assert!(!shown.lines().any(|line| arrives(line.trim_start())), "{shown}");
    lines(&run(physical, state).await.concat(), "")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn rows_and_their_order_are_bit_equal_in_every_run() {
    let state = state(4);
    for query in QUERIES {
        let first = rows(query, &state).await;
        for _ in 0..20 {
            assert_eq!(rows(query, &state).await, first, "{query}");
        }
    }
}

#[tokio::test]
async fn a_join_adds_the_rows_without_a_match_in_one_place() {
    for query in ENDS_LATE {
        let plan = physical(query, &state(4)).await;
        let mut joins = Vec::new();
        plan.apply(|node| {
            if node.name().ends_with("JoinExec") {
                joins.push(node.children()[1].output_partitioning().partition_count());
            }
            Ok(TreeNodeRecursion::Continue)
        })
        .unwrap();
        assert_eq!(joins, [1], "{}", displayable(plan.as_ref()).indent(false));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_of_one_input_reaches_the_reader_as_it_is() {
    let state = state(4);
    let physical =
        physical("SELECT carrier, sum(1 / (id - 1234)) AS broken FROM flights GROUP BY carrier", &state).await;
    let ended = datafusion::physical_plan::collect(physical, state.task_ctx()).await;
    let error = Error::from_engine("feature set `s`", ended.unwrap_err());
    assert!(matches!(error, Error::Compute { .. }), "{error:?}");
}

fn exchange(batches: &[RecordBatch]) -> InOrderExec {
    let schema = batches[0].schema();
    let inputs: Vec<_> = batches.chunks(8).map(<[_]>::to_vec).collect();
    let source = MemorySourceConfig::try_new_exec(&inputs, Arc::clone(&schema), None).unwrap();
    let partitioning = Partitioning::Hash(vec![col("id", &schema).unwrap()], 2);
    InOrderExec::new(Arc::new(RepartitionExec::try_new(source, partitioning).unwrap()))
}

async fn read(exchange: &InOrderExec, outputs: [usize; 2], context: &Arc<TaskContext>) -> [Vec<String>; 2] {
    let streams = [0, 1].map(|output| exchange.execute(output, Arc::clone(context)).unwrap());
    let mut streams = streams.map(Some);
    let mut read = [Vec::new(), Vec::new()];
    for output in outputs {
        let batches: Vec<_> = streams[output].take().unwrap().try_collect().await.unwrap();
        read[output] = lines(&batches, "");
    }
    read
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_output_that_is_read_late_spills_and_has_the_same_rows() {
    let batches = flights(24, 4_000);
    let expected = read(&exchange(&batches), [0, 1], &state(2).task_ctx()).await;
    assert_eq!(expected[0].len() + expected[1].len(), 96_000);

    let context = state_with(2, 8192, 400 << 10).task_ctx();
    for outputs in [[0, 1], [1, 0]] {
        let exchange = exchange(&batches);
        assert_eq!(read(&exchange, outputs, &context).await, expected);
        assert!(exchange.metrics().unwrap().spill_count().unwrap() > 0);
    }
    assert_eq!(context.memory_pool().reserved(), 0);
}

#[test]
fn an_input_waits_only_while_every_output_has_something() {
    let lane = Lane::new(2);
    let (sender, receivers) = (lane.sender(), [lane.receiver(0), lane.receiver(1)]);
    let receive = |output: usize| receivers[output].receive().now_or_never().transpose().unwrap().flatten();
    assert_eq!(sender.send(0, "a").now_or_never(), Some(true));
    assert_eq!(sender.send(0, "b").now_or_never(), Some(true));
    assert_eq!(sender.send(1, "c").now_or_never(), Some(true));
    assert_eq!(sender.send(0, "d").now_or_never(), None);
    assert_eq!(receive(1), Some("c"));
    assert_eq!(sender.send(1, "e").now_or_never(), Some(true));
    sender.end(Ok(()));
    assert_eq!([receive(0), receive(0), receive(0)], [Some("a"), Some("b"), None]);
    assert_eq!([receive(1), receive(1)], [Some("e"), None]);
}

#[test]
fn an_input_that_ends_without_a_word_is_an_error() {
    let lane = Lane::<()>::new(1);
    let receiver = lane.receiver(0);
    drop(lane.sender());
    let ended = receiver.receive().now_or_never().unwrap();
    assert!(matches!(ended, Err(DataFusionError::Shared(_))), "{ended:?}");
}

#[test]
fn an_input_stops_when_no_output_is_left() {
    let lane = Lane::new(2);
    let (sender, left, right) = (lane.sender(), lane.receiver(0), lane.receiver(1));
    drop(left);
    assert_eq!(sender.send(0, 1).now_or_never(), Some(true));
    assert_eq!(sender.send(1, 2).now_or_never(), Some(true));
    drop(right);
    assert_eq!(sender.send(1, 3).now_or_never(), Some(false));
    sender.end(Ok(()));
}
