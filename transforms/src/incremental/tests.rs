//! Absorbed slice by slice, a set has the rows that its query has over everything, bit for bit.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::SchemaRef;
use datafusion::execution::FunctionRegistry;
use datafusion::execution::{SendableRecordBatchStream, SessionState, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use futures::stream;
use proptest::prelude::*;

use crate::tests::{definition, lines, plan_with, run, scan_schema, state, state_with};
use crate::{Plan, Upkeep, exact_aggregates};

const EVENTS: &str = "
CREATE SOURCE events (
    k VARCHAR, n BIGINT, m DECIMAL(20, 4), f DOUBLE, b BOOLEAN, d DATE, at TIMESTAMP, i INTEGER, WATERMARK FOR at AS at
) WITH (connector = 'object_store', path = 'x', format = 'json');
CREATE TABLE names (k VARCHAR, label VARCHAR) WITH (connector = 'object_store', path = 'x', format = 'json');
";

/// Key, number, decimal, float, Boolean, day.
pub(super) type Event = (Option<u8>, Option<i64>, Option<i32>, Option<i8>, Option<bool>, Option<u8>);

/// Queries that are kept up to date, some without an order of their rows.
const QUERIES: [&str; 29] = [
    "SELECT k, count(*) AS c, count(n) AS cn, sum(n) AS s, min(n) AS least, max(n) AS most FROM events GROUP BY k",
    "SELECT k, date_trunc('day', at) AS day, sum(m) AS s, avg(m) AS a FROM events GROUP BY k, date_trunc('day', at)",
    "SELECT count(*) AS c FROM events",
    "SELECT count(*) AS c, sum(n) AS s, min(k) AS k, max(at) AS at FROM events WHERE n > 0",
    "SELECT DISTINCT k, b FROM events",
    "SELECT k, count(DISTINCT n) AS c FROM events GROUP BY k",
    "SELECT count(DISTINCT k) AS c FROM events",
    "SELECT k, count(DISTINCT n) AS c, count(*) AS rows FROM events GROUP BY k",
    "SELECT k, count(DISTINCT n) AS c, sum(n) AS s, max(m) AS m FROM events GROUP BY k",
    "SELECT sum(DISTINCT n) AS s, count(DISTINCT k) AS c FROM events",
    "SELECT k, count(*) FILTER (WHERE b) AS t, sum(n) FILTER (WHERE n > 3) AS s FROM events GROUP BY k",
    "SELECT k, sum(n) AS s FROM events GROUP BY k HAVING count(*) > 1",
    "SELECT l.label, sum(e.n) AS s FROM events e LEFT JOIN names l ON e.k = l.k GROUP BY l.label",
    "SELECT e.k, sum(e.n) AS s FROM events e WHERE e.k IN (SELECT k FROM names) GROUP BY e.k",
    "SELECT g.k, g.s, l.label FROM (SELECT k, sum(n) AS s FROM events GROUP BY k) g JOIN names l ON g.k = l.k",
    "SELECT k, s, rank() OVER (ORDER BY s, k) AS r FROM (SELECT k, sum(n) AS s FROM events GROUP BY k) g",
    "SELECT f, count(*) AS c FROM events GROUP BY f",
    "SELECT f, d, b, count(*) AS c FROM events GROUP BY f, d, b",
    "SELECT k, sum(n) AS s FROM events GROUP BY k ORDER BY s DESC, k LIMIT 2",
    "SELECT k, approx_distinct(n) AS a, bool_and(b) AS every, bool_or(b) AS some, bit_xor(n) AS x FROM events GROUP BY k",
    "SELECT k, count(*) AS c FROM (SELECT k FROM events WHERE n > 1 UNION ALL SELECT k FROM events) u GROUP BY k",
    "SELECT s, count(*) AS c FROM (SELECT k, sum(n) AS s FROM events GROUP BY k) g GROUP BY s",
    "SELECT n + 1 AS n, min(d) AS d, max(at) AS at, min(m) AS m FROM events GROUP BY n + 1",
    "SELECT k, k || '!' AS loud, count(*) AS c FROM events GROUP BY k, k || '!'",
    "SELECT sum(i) AS s, k, count(b, n) AS both FROM events GROUP BY k",
    "SELECT k, sum(f / 3) AS s, avg(f / 7) AS a, avg(n) AS mean, count(f) AS c FROM events GROUP BY k",
    "SELECT k, stddev(f / 3) AS s, var_pop(n) AS v, corr(f, n) AS c, regr_slope(f / 7, n) AS r FROM events GROUP BY k",
    "SELECT sum(f * 1e300) AS s, avg(f) FILTER (WHERE b) AS a, covar_samp(f, m) AS c FROM events",
    "SELECT upper(g.k) AS k FROM (SELECT DISTINCT k FROM events) g WHERE g.k IS NOT NULL",
];

pub(super) fn text(query: &str) -> String {
    format!("{EVENTS} CREATE FEATURE SET s WITH (path = 'x') AS {query};")
}

pub(super) fn events(rows: &[Event]) -> RecordBatch {
    let definition = definition(&text("SELECT n FROM events"));
    let keys: StringArray = rows.iter().map(|row| row.0.map(|key| format!("K{}", key % 4))).collect();
    let decimals: Decimal128Array = rows.iter().map(|row| row.2.map(i128::from)).collect();
    // Both zeros are one key.
    let floats: Float64Array =
        rows.iter().map(|row| row.3.map(|of| f64::from(of % 3) * if of < 0 { -0.5 } else { 0.5 })).collect();
    let days: Date32Array = rows.iter().map(|row| row.5.map(|day| i32::from(day % 3))).collect();
    let times: TimestampMicrosecondArray =
        rows.iter().map(|row| row.5.map(|hours| i64::from(hours) * 3_600_000_000)).collect();
    let small: arrow::array::Int32Array = rows.iter().map(|row| row.2).collect();
    RecordBatch::try_new(
        scan_schema(&definition.sources[0]),
        vec![
            Arc::new(keys),
            Arc::new(rows.iter().map(|row| row.1.map(|n| n % 7)).collect::<Int64Array>()),
            Arc::new(decimals.with_precision_and_scale(20, 4).unwrap()),
            Arc::new(floats),
            Arc::new(rows.iter().map(|row| row.4).collect::<BooleanArray>()),
            Arc::new(days),
            Arc::new(times),
            Arc::new(small),
        ],
    )
    .unwrap()
}

fn names() -> RecordBatch {
    let definition = definition(&text("SELECT n FROM events"));
    let names = definition.sources.iter().find(|source| source.name.value == "names").unwrap();
    let (keys, labels) = (vec!["K0", "K1", "K1"], vec!["zero", "one", "uno"]);
    let columns: Vec<arrow::array::ArrayRef> =
        vec![Arc::new(StringArray::from(keys)), Arc::new(StringArray::from(labels))];
    RecordBatch::try_new(scan_schema(names), columns).unwrap()
}

pub(super) fn planned(query: &str, rows: &[Event], state: &SessionState) -> Plan {
    // Several batches are several partitions of the scan.
    let batches = rows.chunks(3.max(rows.len() / 4)).map(events).collect();
    let data = BTreeMap::from([("events", batches), ("names", vec![names()])]);
    let (plan, found) = plan_with(&text(query), &data, &[], state);
    plan.unwrap_or_else(|| panic!("{query}: {found:#?}"))
}

/// A state in memory.
#[derive(Debug)]
pub(crate) struct Kept(pub(crate) SchemaRef, pub(crate) Vec<RecordBatch>);

impl PartitionStream for Kept {
    fn schema(&self) -> &SchemaRef {
        &self.0
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let batches = self.1.clone().into_iter().map(Ok);
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.0), stream::iter(batches)))
    }
}

/// The rows of the set after `slices` were absorbed one after another, in their order; its state.
pub(super) async fn absorbed(
    query: &str,
    slices: &[Vec<Event>],
    state: &SessionState,
) -> (Vec<RecordBatch>, Vec<RecordBatch>) {
    let mut kept: Option<Arc<Kept>> = None;
    let mut rows = Vec::new();
    for slice in slices {
        let plan = planned(query, slice, state);
        let set = plan.set("s").unwrap();
        let incremental = set.incremental().unwrap_or_else(|| panic!("{query}: {:?}", set.upkeep_text()));
        let before = kept.take().map(|kept| kept as Arc<dyn PartitionStream>);
        let absorb = incremental.absorb(state, before).await.unwrap();
        assert_eq!(absorb.output_partitioning().partition_count(), 1);
        let schema = incremental.state_schema();
        let groups = run(absorb, state).await.concat();
        let groups = groups.iter().map(|batch| RecordBatch::try_new(Arc::clone(schema), batch.columns().to_vec()));
        let next = Arc::new(Kept(Arc::clone(schema), groups.collect::<Result<_, _>>().unwrap()));
        let emit = incremental.emit(state, Arc::clone(&next) as Arc<dyn PartitionStream>).await.unwrap();
        assert_eq!(emit.schema(), set.physical(state).await.unwrap().schema(), "{query}");
        rows = run(emit, state).await.concat();
        kept = Some(next);
    }
    let groups = kept.map(|kept| kept.1.clone()).unwrap_or_default();
    (rows, groups)
}

async fn check(query: &str, slices: &[Vec<Event>], partitions: usize) {
    let state = state(partitions);
    let all = slices.concat();
    let mut exact = state.clone();
    for function in exact_aggregates() {
        exact.register_udaf(function).unwrap();
    }
    let one_pass = planned(query, &all, &exact).set("s").unwrap().physical(&exact).await.unwrap();
    let mut expected = lines(&run(one_pass, &exact).await.concat(), "");
    let (rows, _) = absorbed(query, slices, &state).await;
    let mut found = lines(&rows, "");
    if query.contains("ORDER BY s DESC") {
        assert_eq!(found, expected, "{query}");
    }
    // Absorbed at once, the rows are the same in the same order.
    let (at_once, _) = absorbed(query, &[all], &state).await;
    assert_eq!(found, lines(&at_once, ""), "{query}");
    expected.sort();
    found.sort();
    assert_eq!(found, expected, "{query} over {slices:?}");
}

pub(super) fn slices() -> impl Strategy<Value = Vec<Vec<Event>>> {
    let event = (
        any::<Option<u8>>(),
        any::<Option<i64>>(),
        any::<Option<i32>>(),
        any::<Option<i8>>(),
        any::<Option<bool>>(),
        any::<Option<u8>>(),
    );
    prop::collection::vec(prop::collection::vec(event, 0..12), 1..4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn however_the_input_is_cut_the_rows_are_those_of_one_pass(
        slices in slices(),
        query in prop::sample::select(QUERIES.to_vec()),
        partitions in 1..4_usize,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(check(query, &slices, partitions));
    }
}

#[tokio::test]
async fn every_query_is_right_over_nothing_and_over_what_comes_after_it() {
    let rows: Vec<Event> = (0..40_u8)
        .map(|at| {
            let n = i64::from(at) - 9;
            (Some(at), Some(n), Some(i32::from(at) * 100), Some(at.cast_signed() - 20), Some(at % 3 == 0), Some(at))
        })
        .chain([(None, None, None, None, None, None), (Some(1), Some(-3), Some(-7), Some(-3), None, Some(2))])
        .collect();
    for query in QUERIES {
        check(query, &[vec![]], 2).await;
        check(query, &[vec![], rows.clone(), vec![], rows[..5].to_vec()], 2).await;
    }
}

#[tokio::test]
async fn a_state_has_one_row_for_each_group_sorted_by_its_keys() {
    let event = |key: u8| -> Event { (Some(key), Some(1), None, None, None, None) };
    let slices = [vec![event(2), event(0), event(2)], vec![event(1), event(0)]];
    let (_, groups) = absorbed("SELECT k, sum(n) AS s FROM events GROUP BY k", &slices, &state(3)).await;
    assert_eq!(lines(&groups, ""), ["K0|2", "K1|1", "K2|2"]);
}

#[tokio::test]
async fn groups_that_memory_cannot_hold_are_spilled_and_are_the_same() {
    const QUERY: &str = "SELECT i, count(*) AS c, sum(n) AS s, max(k) AS k FROM events GROUP BY i";
    let event =
        |at: i32| -> Event { (u8::try_from(at % 200).ok(), Some(i64::from(at)), Some(at % 40_000), None, None, None) };
    let slices: Vec<Vec<Event>> =
        (0..3).map(|slice| (slice * 25_000..(slice + 1) * 25_000).map(event).collect()).collect();
    let small = state_with(2, 1_024, 8 << 20);
    let (rows, groups) = absorbed(QUERY, &slices, &small).await;
    let (expected, in_memory) = absorbed(QUERY, &[slices.concat()], &state(2)).await;
    assert_eq!(lines(&groups, "").len(), 40_000);
    assert!(lines(&rows, "") == lines(&expected, "") && lines(&groups, "") == lines(&in_memory, ""));

    let plan = planned(QUERY, &slices.concat(), &small);
    let absorb = plan.set("s").unwrap().incremental().unwrap().absorb(&small, None).await.unwrap();
    run(Arc::clone(&absorb), &small).await;
    assert!(spills(&absorb) > 0, "memory held everything");
}

/// How often a plan has spilled.
pub(super) fn spills(plan: &Arc<dyn ExecutionPlan>) -> usize {
    let own = plan.metrics().and_then(|metrics| metrics.spill_count()).unwrap_or(0);
    own + plan.children().into_iter().map(spills).sum::<usize>()
}

#[track_caller]
pub(super) fn is_computed_over_everything(query: &str, why: &str) {
    let plan = planned(query, &[], &state(2));
    let upkeep = &plan.set("s").unwrap().upkeep;
    let Upkeep::Everything { reason } = upkeep else { panic!("{query}: {upkeep:?}") };
    assert!(reason.contains(why), "{query}: {reason}");
}

#[test]
fn what_cannot_be_taken_apart_is_computed_over_everything_and_it_is_said_why() {
    let check = is_computed_over_everything;
    check("SELECT k, array_agg(n) AS a FROM events GROUP BY k", "`array_agg` needs all rows");
    check("SELECT k, median(n) AS a FROM events GROUP BY k", "`median` needs all rows");
    check("SELECT k, first_value(n ORDER BY at) AS a FROM events GROUP BY k", "`first_value` needs all rows");
    check("SELECT k, max(f) AS a FROM events GROUP BY k", "`max` of DOUBLE depends on the order");
    check("SELECT k, count(*) AS c FROM events GROUP BY ROLLUP (k)", "grouping sets");
    check("SELECT k, row_number() OVER (ORDER BY n) AS r FROM events", "no aggregate takes in all");
    check("SELECT k, sum(r) AS s FROM (SELECT k, rank() OVER (ORDER BY n) AS r FROM events) w GROUP BY k", "a window");
    check("SELECT k, count(*) AS c FROM (SELECT k FROM events ORDER BY n LIMIT 3) l GROUP BY k", "an order or a limit");
    check("SELECT n FROM events WHERE n > (SELECT max(i) FROM events)", "no aggregate takes in all");
    check("SELECT label, count(*) AS c FROM names GROUP BY label", "it reads no source");
    check("SELECT a.k, count(*) AS c FROM events a JOIN events b ON a.k = b.k GROUP BY a.k", "a join of source");
    check("SELECT k, sum(n - (SELECT min(n) FROM events)) AS s FROM events GROUP BY k", "a subquery in an expression");
}

#[test]
fn a_table_that_an_expression_reads_is_one_of_the_tables() {
    for query in [
        "SELECT k, count(*) FILTER (WHERE k > (SELECT min(k) FROM names)) AS c FROM events GROUP BY k",
        "SELECT DISTINCT ON (k) k, (SELECT max(label) FROM names) AS label FROM events ORDER BY k",
    ] {
        let plan = planned(query, &[], &state(2));
        let set = plan.set("s").unwrap();
        let incremental = set.incremental().unwrap_or_else(|| panic!("{query}: {:?}", set.upkeep_text()));
        assert!(incremental.tables().iter().eq(["names"]), "{query}: {:?}", incremental.tables());
    }
}

#[test]
fn a_signature_tells_functions_types_and_columns() {
    let signature = |query: &str| planned(query, &[], &state(2)).set("s").unwrap().incremental().unwrap().signature();
    let sums = signature("SELECT k, sum(n) AS s FROM events GROUP BY k");
    assert_eq!(sums, signature("SELECT k AS other, sum(n) * 2 AS s FROM events GROUP BY k"));
    for other in ["min(n)", "sum(m)", "sum(n), count(*)", "count(DISTINCT n), count(*)"] {
        assert_ne!(sums, signature(&format!("SELECT k, {other} FROM events GROUP BY k")), "{other}");
    }
}
