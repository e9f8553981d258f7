//! The functions in queries: against the engine's, in all partitions, and where they spill.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, BooleanArray, Decimal128Array, Float32Array, Float64Array, Int64Array, RecordBatch,
};
use arrow::datatypes::Float64Type;
use arrow::util::pretty::pretty_format_batches;
use datafusion::datasource::MemTable;
use datafusion::execution::{FunctionRegistry, SessionState};
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use datafusion::physical_plan::{ExecutionPlan, collect};
use datafusion::prelude::SessionContext;

use crate::exact_aggregates;
use crate::functions::exact::groups::Groups;
use crate::functions::exact::statistic::Statistic;
use crate::tests::state_with;

/// Group, and two numbers.
type Row = (i64, Option<f64>, Option<f64>);

/// A session with the exact functions.
fn state(partitions: usize, memory_bytes: usize) -> SessionState {
    let mut state = engines(partitions, memory_bytes);
    for function in exact_aggregates() {
        state.register_udaf(function).unwrap();
    }
    state
}

/// A session with the engine's own functions.
fn engines(partitions: usize, memory_bytes: usize) -> SessionState {
    state_with(partitions, 512, memory_bytes)
}

const MEMORY: usize = 256 << 20;

fn batch(rows: &[Row]) -> RecordBatch {
    let column = |of: fn(&Row) -> Option<f64>| rows.iter().map(of).collect::<Float64Array>();
    let numbers = column(|row| row.1);
    #[expect(clippy::cast_possible_truncation, reason = "any number will do")]
    let single: Float32Array = rows.iter().map(|row| row.1.map(|number| number as f32)).collect();
    let decimal: Decimal128Array = rows.iter().map(|row| Some(i128::from(row.0) * 100 + 7)).collect();
    RecordBatch::try_from_iter_with_nullable([
        ("g", Arc::new(rows.iter().map(|row| row.0).collect::<Int64Array>()) as ArrayRef, false),
        ("x", Arc::new(numbers), true),
        ("y", Arc::new(column(|row| row.2)), true),
        ("single", Arc::new(single), true),
        ("decimal", Arc::new(decimal.with_precision_and_scale(12, 2).unwrap()), true),
    ])
    .unwrap()
}

/// `query` over `rows`, a part of which are in each partition.
async fn plan(state: SessionState, rows: &[Row], query: &str) -> (Arc<dyn ExecutionPlan>, SessionContext) {
    let partitions = state.config().target_partitions();
    let parts: Vec<Vec<RecordBatch>> =
        rows.chunks(rows.len().div_ceil(partitions).max(1)).map(|rows| rows.chunks(512).map(batch).collect()).collect();
    let context = SessionContext::new_with_state(state);
    context.register_table("t", Arc::new(MemTable::try_new(batch(&[]).schema(), parts).unwrap())).unwrap();
    (context.sql(query).await.unwrap().create_physical_plan().await.unwrap(), context)
}

async fn ask(state: SessionState, rows: &[Row], query: &str) -> Vec<RecordBatch> {
    let (plan, context) = plan(state, rows, query).await;
    collect(plan, context.task_ctx()).await.unwrap()
}

fn text(batches: &[RecordBatch]) -> String {
    pretty_format_batches(batches).unwrap().to_string()
}

/// Rows of `groups` groups, in numbers of nine sizes.
fn rows(count: usize, groups: i64) -> Vec<Row> {
    let mut seed = 88_172_645_463_325_252_u64;
    let mut next = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed >> 11) as f64 / 2_f64.powi(53) - 0.5
    };
    let row = |row: usize| {
        let (x, y) = (next() * 10_f64.powi(i32::try_from(row % 9).unwrap()), next() * 1e3);
        let x = if row % 1_000 == 17 { x * 1e60 } else { x };
        let group = i64::try_from(row).unwrap() % groups;
        (group, (!row.is_multiple_of(11)).then_some(x), (!row.is_multiple_of(13)).then_some(y + x * 0.5))
    };
    (0..count).map(row).collect()
}

const ALL: &str = "sum(x) AS sum, avg(x) AS avg, var(x) AS var, var_pop(x) AS var_pop, stddev(x) AS stddev,
    stddev_pop(x) AS stddev_pop, covar_samp(x, y) AS covar, covar_pop(x, y) AS covar_pop, corr(x, y) AS corr,
    regr_slope(y, x) AS slope, regr_intercept(y, x) AS intercept, regr_r2(y, x) AS r2, regr_avgx(y, x) AS ax,
    regr_avgy(y, x) AS ay, regr_sxx(y, x) AS sxx, regr_syy(y, x) AS syy, regr_sxy(y, x) AS sxy,
    sum(DISTINCT x) AS dsum, avg(DISTINCT y) AS davg, var(DISTINCT x) AS dvar, var_pop(DISTINCT x) AS dvar_pop,
    sum(x) FILTER (WHERE y > 0) AS fsum, corr(x, y) FILTER (WHERE y > 0) AS fcorr, mean(x + 1.5) AS mean,
    sum(single) AS single, avg(g) AS integers, stddev(single) AS single_stddev";

#[tokio::test]
async fn partitions_and_order_change_no_bit_of_any_statistic() {
    let mut some = rows(6_000, 5);
    for query in [format!("SELECT g, {ALL} FROM t GROUP BY g ORDER BY g"), format!("SELECT {ALL} FROM t")] {
        let whole = text(&ask(state(1, MEMORY), &some, &query).await);
        for partitions in [2, 3, 8] {
            some.reverse();
            some.rotate_left(partitions * 100);
            assert_eq!(text(&ask(state(partitions, MEMORY), &some, &query).await), whole, "{partitions} partitions");
        }
        let theirs = text(&ask(engines(8, MEMORY), &some, &query).await);
        assert_ne!(theirs, whole, "these rows show no difference");
    }
}

#[tokio::test]
async fn spilling_changes_no_bit() {
    let some = rows(60_000, 9_000);
    let query =
        "SELECT g, sum(x) AS sum, avg(y) AS avg, var(x) AS var, corr(x, y) AS corr FROM t GROUP BY g ORDER BY g";
    let whole = text(&ask(state(1, MEMORY), &some, query).await);
    let (plan, context) = plan(state(2, 3 << 20), &some, query).await;
    let spilled = collect(Arc::clone(&plan), context.task_ctx()).await.unwrap();
    assert!(spills(&*plan) > 0, "it did not spill");
    assert_eq!(text(&spilled), whole);
}

/// Spills of the aggregates in `plan`.
fn spills(plan: &dyn ExecutionPlan) -> usize {
    let own = plan.metrics().and_then(|metrics| metrics.spill_count()).unwrap_or(0);
    let own = if plan.name() == "AggregateExec" { own } else { 0 };
    own + plan.children().into_iter().map(|child| spills(&**child)).sum::<usize>()
}

#[tokio::test]
async fn they_agree_with_the_engine_to_its_own_error_and_in_their_types() {
    let few = [(1, Some(2.5), Some(1.)), (2, None, Some(1.)), (3, Some(1.), Some(2.)), (3, Some(1.), Some(3.))];
    let usual: Vec<Row> = rows(4_000, 5).into_iter().map(|(g, x, y)| (g, x.filter(|x| x.abs() < 1e9), y)).collect();
    let query = format!("SELECT g, {ALL} FROM t GROUP BY g ORDER BY g");
    for rows in [usual, few.to_vec()] {
        let [ours, theirs] = [ask(state(3, MEMORY), &rows, &query).await, ask(engines(3, MEMORY), &rows, &query).await];
        assert_eq!(ours[0].schema(), theirs[0].schema());
        let numbers = |batches: &[RecordBatch]| -> Vec<Option<f64>> {
            let columns = batches.iter().flat_map(|batch| batch.columns()[1..].to_vec());
            columns.flat_map(|column| column.as_primitive::<Float64Type>().iter().collect::<Vec<_>>()).collect()
        };
        let (ours, theirs) = (numbers(&ours), numbers(&theirs));
        assert_eq!(ours.len(), theirs.len());
        for (at, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
            let is_near = match (ours, theirs) {
                (Some(ours), Some(theirs)) => (ours - theirs).abs() <= 1e-9 * theirs.abs().max(1e-9),
                (None, None) => true,
                _ => false,
            };
            assert!(is_near, "{at}: {ours:?} {theirs:?}");
        }
    }
}

#[tokio::test]
async fn what_is_exact_already_is_left_to_the_engine() {
    let query = "SELECT sum(g) AS a, sum(decimal) AS b, avg(decimal) AS c, sum(arrow_cast(g, 'Duration(Second)')) AS d,
        avg(arrow_cast(g, 'Duration(Second)')) AS e, sum(DISTINCT g) AS f,
        sum(arrow_cast(g, 'UInt8')) AS j FROM t";
    let some = rows(3_000, 200);
    let [ours, theirs] = [ask(state(3, MEMORY), &some, query).await, ask(engines(3, MEMORY), &some, query).await];
    assert_eq!(ours, theirs);
}

#[tokio::test]
async fn rules_that_know_functions_by_their_names_still_do() {
    let some = rows(2_000, 7);
    for (query, expected) in [
        // One aggregate for distinct values, another one over them.
        ("SELECT g, sum(DISTINCT x) FROM t GROUP BY g", "gby=[g@0 as g], aggr=[sum(alias1)]"),
        // Integers are added up once, whatever is added to each.
        ("SELECT sum(g + 1), sum(g + 2) FROM t", "aggr=[sum(t.g), count(t.g)]"),
        ("SELECT sum(x + 1.5), sum(x + 2.5) FROM t", "aggr=[sum(t.x + Float64(1.5)), sum(t.x + Float64(2.5))]"),
    ] {
        let (plan, _) = plan(state(2, MEMORY), &some, query).await;
        let shown = datafusion::physical_plan::displayable(&*plan).indent(false).to_string();
        assert!(shown.contains(expected), "{shown}");
    }
}

#[tokio::test]
async fn frames_that_move_have_the_statistics_of_their_rows_alone() {
    let numbers = |row: i64| if row == 5 { 1e300 } else { 0.1 * (row % 4) as f64 };
    let some: Vec<Row> = (0..60).map(|row| (row, (row % 7 != 3).then(|| numbers(row)), Some(row as f64))).collect();
    let functions = ["sum(x)", "avg(x)", "var(x)", "stddev_pop(x)", "corr(x, y)", "regr_slope(y, x)"];
    let calls = |frame: &str| functions.map(|call| format!("{call} OVER ({frame})")).join(", ");
    let moving = calls("ORDER BY g ROWS BETWEEN 2 PRECEDING AND 1 FOLLOWING");
    let found = ask(state(2, MEMORY), &some, &format!("SELECT g, {moving} FROM t ORDER BY g")).await;
    let found = text(&found);
    // Each frame by itself.
    let calls = functions.join(", ");
    let alone = format!(
        "SELECT a.g, {calls} FROM (SELECT g FROM t) AS a JOIN (SELECT g AS at, x, y FROM t) AS b
         ON b.at BETWEEN a.g - 2 AND a.g + 1 GROUP BY a.g ORDER BY a.g"
    );
    let alone = text(&ask(state(2, MEMORY), &some, &alone).await);
    let rows = |table: &str| -> Vec<String> {
        table.lines().filter(|line| line.starts_with('|')).skip(1).map(|line| line.replace(' ', "")).collect()
    };
    assert_eq!(rows(&found), rows(&alone));
    assert!(found.contains("1e300"), "{found}");
}

#[tokio::test]
async fn distinct_pairs_are_refused() {
    let context = SessionContext::new_with_state(state(2, MEMORY));
    let query = "SELECT corr(DISTINCT x, y) FROM (VALUES (1.5, 2.5), (2.5, 1.5)) AS t (x, y)";
    let error = context.sql(query).await.unwrap().collect().await.unwrap_err().to_string();
    assert!(error.contains("`corr(DISTINCT t.x,t.y)` takes all rows"), "{error}");
}

/// Some groups after others, of which a filter leaves nothing.
#[test]
fn groups_are_given_away_from_the_front() {
    let numbers: ArrayRef =
        Arc::new(Float64Array::from(vec![Some(1e300), Some(1.), None, Some(1e-300), Some(2.), Some(5.), Some(0.5)]));
    let indices = [0, 1, 1, 0, 2, 3, 0];
    let filter =
        BooleanArray::from(vec![Some(true), Some(true), Some(true), Some(true), Some(false), None, Some(true)]);
    let mut groups = Groups::<1, 0, 0>::new(Statistic::Sum);
    let others = groups.convert_to_state(&[Arc::clone(&numbers)], Some(&filter)).unwrap();
    let empty = groups.size();
    groups.update_batch(&[numbers], &indices, Some(&filter), 4).unwrap();
    assert!(groups.size() > empty + 4 * size_of::<[f64; 3]>());
    groups.merge_batch(&others, &indices.map(|group| group + 2), 6).unwrap();
    let sums = |array: ArrayRef| array.as_primitive::<Float64Type>().iter().collect::<Vec<_>>();
    assert_eq!(sums(groups.evaluate(EmitTo::First(1)).unwrap()), [Some(1e300)]);
    let state = groups.state(EmitTo::First(2)).unwrap();
    assert_eq!(state[0].as_primitive::<arrow::datatypes::UInt64Type>().values(), &[1, 3]);
    assert_eq!(sums(groups.evaluate(EmitTo::All).unwrap()), [Some(1.), None, None]);
    let mut again = Groups::<1, 0, 0>::new(Statistic::Sum);
    again.merge_batch(&state, &[0, 0], 1).unwrap();
    again.merge_batch(&state, &[0, 0], 1).unwrap();
    assert_eq!(sums(again.evaluate(EmitTo::All).unwrap()), [Some(2e300)]);
    assert_eq!(again.size(), 0);
}
