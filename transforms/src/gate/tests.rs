//! The gate against a loop over rows, and against hand-written cases.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{Int64Type, Schema};
use proptest::prelude::*;

use super::{Expectations, Gate, Judged, VIOLATIONS_COLUMN};
use crate::tests::{plan_with, state};

const SOURCE: &str = "CREATE SOURCE s (id BIGINT, x DOUBLE, name VARCHAR) WITH (connector = 'object_store', path = 'x', format = 'json');";

fn expectations(constraints: &str) -> Arc<Expectations> {
    let text = format!("{SOURCE} CREATE FEATURE SET f ({constraints}) WITH (path = 'y') AS SELECT * FROM s;");
    let (plan, found) = plan_with(&text, &BTreeMap::new(), &[], &state(1));
    let plan = plan.unwrap_or_else(|| panic!("{found:#?}"));
    Arc::clone(&plan.set("f").unwrap().expectations)
}

fn gate(expectations: &Arc<Expectations>) -> Gate {
    expectations.gate(state(1).task_ctx().memory_pool()).unwrap()
}

type Row = (Option<i64>, Option<i8>, Option<u8>);

fn batch(schema: &Schema, rows: &[Row]) -> RecordBatch {
    let ids: Int64Array = rows.iter().map(|row| row.0).collect();
    let xs: Float64Array = rows.iter().map(|row| row.1.map(f64::from)).collect();
    let names: StringArray = rows.iter().map(|row| row.2.map(|name| "n".repeat(usize::from(name)))).collect();
    let mut columns: Vec<Arc<dyn Array>> = vec![Arc::new(ids), Arc::new(xs), Arc::new(names)];
    let mut fields = schema.fields().to_vec();
    fields.pop();
    if fields.len() > 3 {
        columns.push(Arc::new((0..rows.len() as u64).collect::<arrow::array::UInt64Array>()));
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

fn judge(gate: &mut Gate, expectations: &Expectations, rows: &[Row]) -> Judged {
    gate.judge(&batch(expectations.quarantine_schema(), rows)).unwrap()
}

fn ids(batch: &RecordBatch) -> Vec<Option<i64>> {
    batch.column(0).as_primitive::<Int64Type>().iter().collect()
}

const ALL: &str = "
    CONSTRAINT warned EXPECT (x > 0) ON VIOLATION WARN,
    CONSTRAINT dropped EXPECT (x BETWEEN -3 AND 3 OR name IS NULL) ON VIOLATION DROP ROW,
    CONSTRAINT held EXPECT (length(name) < 3 AND id % 7 <> 0) ON VIOLATION QUARANTINE,
    CONSTRAINT also_held EXPECT (id % 7 <> 1) ON VIOLATION QUARANTINE,
    CONSTRAINT failed EXPECT (id <> 13) ON VIOLATION FAIL,
    CONSTRAINT counted EXPECT AGGREGATE (count(x) >= 0.5 * count(*) AND sum(id) FILTER (WHERE x > 0) > 20) PER RUN
      ON VIOLATION WARN,
    CONSTRAINT different EXPECT AGGREGATE (count(DISTINCT name) < 3 AND count(*) > 0) PER RUN ON VIOLATION FAIL";

/// What a person would write: SQL's three-valued logic, row by row.
fn broken(row: &Row) -> Vec<&'static str> {
    let (id, x, name) = *row;
    let and = |left: Option<bool>, right: Option<bool>| match (left, right) {
        (Some(false), _) | (_, Some(false)) => Some(false),
        (Some(true), Some(true)) => Some(true),
        _ => None,
    };
    let within = x.map(|x| (-3..=3).contains(&x));
    let verdicts = [
        ("warned", x.map(|x| x > 0)),
        ("dropped", if name.is_none() || within == Some(true) { Some(true) } else { within }),
        ("held", and(name.map(|name| name < 3), id.map(|id| id % 7 != 0))),
        ("also_held", id.map(|id| id % 7 != 1)),
        ("failed", id.map(|id| id != 13)),
    ];
    verdicts.into_iter().filter(|(_, holds)| *holds == Some(false)).map(|(name, _)| name).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_gate_is_a_loop_over_rows(
        batches in proptest::collection::vec(
            proptest::collection::vec(
                (proptest::option::of(0_i64..16), proptest::option::of(-6_i8..6), proptest::option::of(0_u8..5)), 0..20),
            0..5,
        ),
        cut in 0_usize..5,
    ) {
        thread_local! {
            static COMPILED: Arc<Expectations> = expectations(ALL);
        }
        let compiled = COMPILED.with(Arc::clone);
        let mut gates = [gate(&compiled), gate(&compiled)];
        let (mut passed, mut dropped, mut total) = (Vec::new(), 0, 0);
        for (at, rows) in batches.iter().enumerate() {
            let judged = judge(&mut gates[usize::from(at >= cut)], &compiled, rows);
            let (mut pass, mut hold, mut names) = (Vec::new(), Vec::new(), Vec::new());
            for row in rows {
                let broken = broken(row);
                if broken.contains(&"failed") {
                } else if broken.iter().any(|name| name.ends_with("held")) {
                    hold.push(row.0);
                    names.push(broken);
                } else if broken.contains(&"dropped") {
                    dropped += 1;
                } else {
                    pass.push(row.0);
                    passed.push(*row);
                }
            }
            total += rows.len() as u64;
            prop_assert_eq!(ids(&judged.passed), pass);
            prop_assert_eq!(judged.passed.num_columns(), 3);
            match judged.quarantined {
                None => prop_assert!(hold.is_empty()),
                Some(held) => {
                    prop_assert_eq!(ids(&held), hold);
                    prop_assert_eq!(held.num_columns(), 5);
                    let found = held.column_by_name(VIOLATIONS_COLUMN).unwrap().as_list::<i32>().clone();
                    for (at, names) in names.iter().enumerate() {
                        let list = found.value(at);
                        let list: Vec<_> = list.as_string::<i32>().iter().flatten().collect();
                        prop_assert_eq!(&list, names);
                    }
                }
            }
        }

        let [mut gate, other] = gates;
        gate.merge(other).unwrap();
        let report = gate.finish().unwrap();
        prop_assert_eq!(report.rows, total);
        prop_assert_eq!(report.dropped, dropped);
        prop_assert_eq!(report.passed, passed.len() as u64);
        for result in report.results.iter().take(5) {
            let expected = batches.iter().flatten().filter(|row| broken(row).contains(&result.name.as_str())).count();
            prop_assert_eq!(result.violations, expected as u64);
            prop_assert_eq!(result.checked, total);
        }

        let known = passed.iter().filter(|row| row.1.is_some()).count();
        let positive: Vec<i64> = passed.iter().filter(|row| row.1 > Some(0)).filter_map(|row| row.0).collect();
        let sum_holds = (!positive.is_empty()).then(|| positive.iter().sum::<i64>() > 20);
        let counted = if 2 * known < passed.len() { Some(false) } else { sum_holds };
        let mut names: Vec<_> = passed.iter().filter_map(|row| row.2).collect();
        names.sort_unstable();
        names.dedup();
        let asked = !passed.is_empty();
        prop_assert_eq!(report.results[5].violations, u64::from(asked && counted == Some(false)));
        prop_assert_eq!(report.results[6].violations, u64::from(asked && names.len() >= 3));
        if asked {
            prop_assert_eq!(&report.results[5].measured["count(*)"], &passed.len().to_string());
            prop_assert_eq!(&report.results[6].measured["count(DISTINCT name)"], &names.len().to_string());
        }
        let rows_failed = report.results[4].violations > 0;
        let failed = report.failed.map(|failure| failure.expectation);
        let expected = if rows_failed { Some("failed") } else if report.results[6].violations > 0 { Some("different") } else { None };
        prop_assert_eq!(failed.as_deref(), expected);
    }
}

#[test]
fn a_failure_keeps_a_bounded_sample_of_rows() {
    let compiled = expectations("CONSTRAINT small EXPECT (id < 3) ON VIOLATION FAIL");
    let mut gate = gate(&compiled);
    let rows: Vec<Row> = (0..30).map(|id| (Some(id), Some(1), None)).collect();
    judge(&mut gate, &compiled, &rows);
    let report = gate.finish().unwrap();
    let failure = report.failed.unwrap();
    assert_eq!((failure.set.as_str(), failure.expectation.as_str(), failure.violations), ("f", "small", 27));
    assert_eq!(failure.sample.len(), 10);
    assert_eq!(failure.sample[0], r#"{"id":3,"x":1.0}"#);
}

#[test]
fn a_batch_that_passes_is_not_copied() {
    let compiled = expectations(ALL);
    let mut gate = gate(&compiled);
    let input = batch(compiled.quarantine_schema(), &[(Some(2), Some(1), Some(1)), (None, None, None)]);
    let judged = gate.judge(&input).unwrap();
    assert!(judged.quarantined.is_none());
    for (column, original) in judged.passed.columns().iter().zip(input.columns()) {
        assert!(Arc::ptr_eq(column, original));
    }
}

#[test]
fn equal_parts_of_predicates_are_computed_once() {
    let compiled = expectations(
        "CONSTRAINT a EXPECT (sqrt(x * x + 1) > 1), CONSTRAINT b EXPECT (sqrt(x * x + 1) < 9),
         CONSTRAINT c EXPECT (true)",
    );
    assert_eq!(compiled.rows.as_ref().unwrap().layers(), 1);
    let mut gate = gate(&compiled);
    judge(&mut gate, &compiled, &[(Some(1), Some(0), None), (Some(1), Some(100), None), (Some(1), Some(3), None)]);
    let report = gate.finish().unwrap();
    assert_eq!(report.results.iter().map(|result| result.violations).collect::<Vec<_>>(), [1, 1, 0]);
}

#[test]
fn a_set_without_expectations_passes_everything() {
    let text = format!("{SOURCE} CREATE FEATURE SET f WITH (path = 'y') AS SELECT * FROM s;");
    let (plan, _) = plan_with(&text, &BTreeMap::new(), &[], &state(1));
    let compiled = Arc::clone(&plan.unwrap().set("f").unwrap().expectations);
    let mut gate = gate(&compiled);
    assert_eq!(judge(&mut gate, &compiled, &[(Some(1), None, None)]).passed.num_rows(), 1);
    let report = gate.finish().unwrap();
    assert!(report.results.is_empty() && report.failed.is_none());
    assert_eq!((report.rows, report.passed), (1, 1));
}

#[test]
fn nothing_is_asked_of_no_rows() {
    let compiled = expectations("CONSTRAINT any EXPECT AGGREGATE (count(*) > 0) PER RUN ON VIOLATION FAIL");
    let report = gate(&compiled).finish().unwrap();
    assert!(report.failed.is_none());
    assert_eq!((report.results[0].checked, report.results[0].violations), (0, 0));
}

/// Whether each of `conditions` holds over `rows`, judged by two gates of which one takes over what the other has seen.
fn holds<const N: usize>(conditions: [&str; N], rows: &[Row]) -> [bool; N] {
    let text = conditions.iter().enumerate();
    let text: Vec<_> = text.map(|(at, of)| format!("CONSTRAINT c{at} EXPECT AGGREGATE ({of}) PER RUN")).collect();
    let compiled = expectations(&text.join(", "));
    let mut gates = [gate(&compiled), gate(&compiled)];
    for (at, row) in rows.iter().enumerate() {
        judge(&mut gates[at % 2], &compiled, &[*row]);
    }
    let [mut first, other] = gates;
    first.merge(other).unwrap();
    let results = first.finish().unwrap().results;
    std::array::from_fn(|at| results[at].violations == 0)
}

#[test]
fn aggregates_may_call_functions_that_exist_only_until_they_are_simplified() {
    let rows = [(Some(1), None, None), (Some(2), Some(3), Some(1))];
    let conditions = [
        "sum(coalesce(x, 10)) = 13",
        "sum(nvl(x, 10)) = 14",
        "max(ifnull(x, 10)) = 10",
        "sum(nvl2(x, 1, 2)) = 3",
        "sum(arrow_cast(id, 'Int32')) = 3",
        "coalesce(max(id) FILTER (WHERE coalesce(x, 0) > 100), 7) = 7",
        "nvl(sum(x + 1), 0) = 4",
        "percentile_cont(1.0) WITHIN GROUP (ORDER BY id) = 2",
    ];
    assert_eq!(holds(conditions, &rows), [true, false, true, true, true, true, true, true]);
}

#[test]
fn aggregates_order_what_they_see_over_all_gates() {
    let rows = [(5, 5), (3, 7), (9, 1), (1, 9), (7, 3)].map(|(id, x)| (Some(id), Some(x), None));
    let conditions = [
        "first_value(id ORDER BY id) = 1",
        "last_value(id ORDER BY id) = 9",
        "first_value(id ORDER BY x) = 9",
        "first_value(id ORDER BY x) FILTER (WHERE id < 9) = 7",
        "array_agg(id ORDER BY id DESC) = [9, 7, 5, 3, 1]",
        "array_agg(x ORDER BY id) = [9.0, 7.0, 5.0, 3.0, 1.0]",
    ];
    assert_eq!(holds(conditions, &rows), [true; 6]);
}

#[test]
fn what_accumulators_hold_is_taken_from_the_pool() {
    let compiled = expectations("CONSTRAINT many EXPECT AGGREGATE (count(DISTINCT id) > 1) PER RUN");
    let state = crate::session(&crate::SessionOptions {
        partitions: std::num::NonZeroUsize::MIN,
        memory_bytes: 100 << 10,
        process_memory: None,
        spill_dir: std::env::temp_dir(),
        spill_bytes_max: 0,
        batch_rows: std::num::NonZeroUsize::MIN,
    });
    let context = state.unwrap().task_ctx();
    let pool = context.memory_pool();
    let rows = |from: i64| (from..from + 1_000).map(|id| (Some(id), None, None)).collect::<Vec<Row>>();
    let mut first = compiled.gate(pool).unwrap();
    judge(&mut first, &compiled, &rows(0));
    assert!(pool.reserved() > 8_000, "{}", pool.reserved());

    let mut other = compiled.gate(pool).unwrap();
    judge(&mut other, &compiled, &rows(1_000));
    first.merge(other).unwrap();
    let ended = (2..100).try_for_each(|at| {
        let rows = batch(compiled.quarantine_schema(), &rows(at * 1_000));
        first.judge(&rows).map(drop)
    });
    let error = ended.unwrap_err();
    assert!(matches!(error, crate::Error::OutOfMemory { .. }), "{error:?}");
    assert!(error.to_string().starts_with("feature set `f` needs more memory"), "{error}");
    drop(first);
    assert_eq!(pool.reserved(), 0);
}

#[test]
fn a_predicate_that_is_null_for_every_row_passes() {
    let text = format!(
        "{SOURCE} CREATE FEATURE SET f (CONSTRAINT literal EXPECT (NULL), CONSTRAINT nothing EXPECT (z)) WITH (path = 'y') AS
         SELECT id, NULL AS z FROM s;"
    );
    let (plan, found) = plan_with(&text, &BTreeMap::new(), &[], &state(1));
    let plan = plan.unwrap_or_else(|| panic!("{found:#?}"));
    let set = plan.set("f").unwrap();
    let columns: Vec<Arc<dyn Array>> =
        vec![Arc::new(Int64Array::from(vec![1, 2])), Arc::new(arrow::array::NullArray::new(2))];
    let mut gate = gate(&set.expectations);
    let judged = gate.judge(&RecordBatch::try_new(Arc::clone(&set.schema), columns).unwrap()).unwrap();
    assert_eq!(judged.passed.num_rows(), 2);
    let report = gate.finish().unwrap();
    assert_eq!(report.results.iter().map(|result| result.violations).collect::<Vec<_>>(), [0, 0]);
}
