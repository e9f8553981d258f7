//! `ASOF JOIN` gives the rows of a naive loop, however its sides were cut and whatever their order.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use bessemer_schemas::ORIGIN_COLUMN;
use proptest::prelude::*;

use super::{definition, lines, plan_with, planned, run, scan_schema, state_with};
use crate::{LedgerShape, SetKind};

const SOURCES: &str = "
CREATE SOURCE trades (price BIGINT, id BIGINT NOT NULL, k VARCHAR, j BIGINT, at TIMESTAMP,
  WATERMARK FOR at AS at - INTERVAL '5 minutes')
WITH (connector = 'object_store', path = 'x', format = 'json');
CREATE SOURCE quotes (price BIGINT, id BIGINT NOT NULL, k VARCHAR, j BIGINT, at TIMESTAMP)
WITH (connector = 'object_store', path = 'x', format = 'json');
CREATE TABLE rates (price BIGINT, id BIGINT NOT NULL, k VARCHAR, j BIGINT, at TIMESTAMP)
WITH (connector = 'object_store', path = 'x', format = 'json');
";

#[derive(Debug, Clone, Copy)]
struct Row {
    price: Option<i64>,
    id: i64,
    k: Option<u8>,
    j: Option<i64>,
    at: Option<i64>,
}

fn set(query: &str) -> String {
    format!("{SOURCES} CREATE FEATURE SET s WITH (path = 'x') AS {query};")
}

fn batch(rows: &[Row]) -> RecordBatch {
    let definition = definition(&set("SELECT id FROM trades"));
    let keys: StringArray = rows.iter().map(|row| row.k.map(|k| format!("K{k}"))).collect();
    let times: TimestampMicrosecondArray = rows.iter().map(|row| row.at.map(|at| at * 1_000_000)).collect();
    let numbers = |of: fn(&Row) -> Option<i64>| Arc::new(rows.iter().map(of).collect::<Int64Array>());
    let columns: [arrow::array::ArrayRef; 5] =
        [numbers(|row| row.price), numbers(|row| Some(row.id)), Arc::new(keys), numbers(|row| row.j), Arc::new(times)];
    RecordBatch::try_new(scan_schema(&definition.sources[0]), columns.to_vec()).unwrap()
}

/// Sides and how they are cut.
#[derive(Debug, Clone)]
struct Case {
    left: Vec<Row>,
    right: Vec<Row>,
    cut: usize,
    partitions: usize,
    batch_rows: usize,
}

impl Case {
    /// The rows of a query over `trades` and `quotes`, sorted as texts.
    fn rows(&self, query: &str) -> Vec<String> {
        let mut lines = self.lines(&set(query), 256 << 20);
        lines.sort();
        lines
    }

    fn lines(&self, text: &str, memory_bytes: usize) -> Vec<String> {
        let state = state_with(self.partitions, self.batch_rows, memory_bytes);
        let batches = |rows: &[Row]| rows.chunks(self.cut).map(batch).collect::<Vec<_>>();
        let (left, right) = (batches(&self.left), batches(&self.right));
        let data = BTreeMap::from([("trades", left), ("quotes", right.clone()), ("rates", right)]);
        let (plan, found) = plan_with(text, &data, &[], &state);
        let plan = plan.unwrap_or_else(|| panic!("{text}: {found:#?}"));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let batches = runtime.block_on(async {
            let physical = plan.set("s").unwrap().physical(&state).await.unwrap();
            run(physical, &state).await.concat()
        });
        lines(&batches, ORIGIN_COLUMN)
    }

    fn expected(&self, op: &str, is_left: bool, same: fn(&Row, &Row) -> bool) -> Vec<String> {
        let shown = |value: Option<i64>| value.map_or_else(|| "∅".to_owned(), |value| value.to_string());
        let mut lines: Vec<_> = self
            .left
            .iter()
            .filter_map(|left| match nearest(left, &self.right, op, same) {
                Some(right) => Some(format!("{}|{}|{}", left.id, right.id, shown(right.price))),
                None => is_left.then(|| format!("{}|∅|∅", left.id)),
            })
            .collect();
        lines.sort();
        lines
    }
}

fn nearest<'r>(left: &Row, right: &'r [Row], op: &str, same: fn(&Row, &Row) -> bool) -> Option<&'r Row> {
    let at = left.at?;
    let fits = |other: i64| match op {
        ">=" => at >= other,
        ">" => at > other,
        "<=" => at <= other,
        _ => at < other,
    };
    let near = right.iter().filter(|row| same(left, row) && row.at.is_some_and(fits));
    let distance = |row: &Row| row.at.map_or(0, |other| (at - other).abs());
    near.min_by_key(|row| (distance(row), std::cmp::Reverse((row.price, row.id))))
}

fn any_rows() -> impl Strategy<Value = Vec<Row>> {
    let row = (
        prop::option::of(0_i64..3),
        prop::option::weighted(0.9, 0_u8..3),
        prop::option::weighted(0.9, 0_i64..2),
        prop::option::weighted(0.9, -20_i64..20),
    );
    prop::collection::vec(row, 0..40)
        .prop_map(|rows| (0..).zip(rows).map(|(id, (price, k, j, at))| Row { price, id, k, j, at }).collect::<Vec<_>>())
}

fn any_case() -> impl Strategy<Value = Case> {
    (any_rows(), any_rows(), 1_usize..20, 1_usize..5, 1_usize..9)
        .prop_map(|(left, right, cut, partitions, batch_rows)| Case { left, right, cut, partitions, batch_rows })
}

/// A condition of `ON`, and what it says.
type Keys = (&'static str, fn(&Row, &Row) -> bool);

fn any_keys() -> impl Strategy<Value = Keys> {
    let of_k: fn(&Row, &Row) -> bool = |left, right| left.k.is_some() && left.k == right.k;
    let of_both: fn(&Row, &Row) -> bool =
        |left, right| left.k.is_some() && left.k == right.k && left.j.is_some() && left.j == right.j;
    let all: fn(&Row, &Row) -> bool = |_, _| true;
    let keys =
        [("", all), ("ON upper(l.k) = r.k", of_k), ("USING (k)", of_k), ("ON (r.j = l.j) AND l.k = r.k", of_both)];
    prop::sample::select(keys.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn each_row_goes_with_the_nearest_one(
        case in any_case(),
        op in prop::sample::select(vec![">=", ">", "<=", "<"]),
        is_left in any::<bool>(),
        (on, same) in any_keys(),
    ) {
        let word = if is_left { "LEFT" } else { "" };
        let query = format!(
            "SELECT l.id, r.id AS other, r.price FROM trades l ASOF {word} JOIN quotes r
             MATCH_CONDITION (l.at {op} r.at) {on}"
        );
        prop_assert_eq!(case.rows(&query), case.expected(op, is_left, same), "{}", query);
    }
}

#[test]
fn the_comparison_may_begin_with_the_right_side() {
    let row = |id, at| Row { price: None, id, k: None, j: None, at: Some(at) };
    let case = Case {
        left: vec![row(1, 10)],
        right: vec![row(1, 5), row(2, 10), row(3, 15)],
        cut: 1,
        partitions: 2,
        batch_rows: 2,
    };
    for (condition, expected) in [("r.at <= l.at", 2), ("r.at < l.at", 1), ("r.at >= l.at", 2), ("r.at > l.at", 3)] {
        let query = format!("SELECT r.id FROM trades l ASOF JOIN quotes r MATCH_CONDITION ({condition})");
        assert_eq!(case.rows(&query), [expected.to_string()], "{condition}");
    }
}

#[test]
fn a_join_with_a_table_appends() {
    let text = set("SELECT t.id, r.price FROM trades t ASOF LEFT JOIN rates r MATCH_CONDITION (t.at >= r.at) USING (k)
         WHERE t.price > 1");
    let plan = planned(&text);
    let planned = plan.set("s").unwrap();
    assert_eq!((planned.kind, planned.ledger), (SetKind::Append, LedgerShape::Stateless { can_expand: false }));
}

#[test]
fn a_set_that_appends_is_sorted_by_event_time_and_row_identity() {
    let row = |id, at| Row { price: Some(id * 10), id, k: Some(1), j: None, at: Some(at) };
    let case = Case {
        left: vec![row(1, 10), row(2, 9), row(3, 10), row(4, 1)],
        right: vec![row(1, 5), row(2, 10), row(3, 10)],
        cut: 1,
        partitions: 3,
        batch_rows: 2,
    };
    let text = format!(
        "{SOURCES} CREATE FEATURE SET s EVENT TIME (at) WITH (path = 'x') AS
         SELECT t.at, t.id, r.price FROM trades t ASOF LEFT JOIN rates r MATCH_CONDITION (t.at >= r.at) USING (k);"
    );
    let time = |second: i64| format!("1970-01-01T00:00:{second:02}");
    let expected = [(1, 4, "∅"), (9, 2, "10"), (10, 1, "30"), (10, 3, "30")];
    assert_eq!(case.lines(&text, 256 << 20), expected.map(|(at, id, price)| format!("{}|{id}|{price}", time(at))));
}

#[test]
fn sides_beyond_the_memory_are_spilled() {
    let rows = |step: i64| -> Vec<Row> {
        let row =
            |id: i64, at: i64| Row { price: None, id, k: u8::try_from(at % 9).ok(), j: None, at: Some(at * step) };
        (0..60_000).map(|id| row(id, id * 7_919 % 100_003)).collect()
    };
    let case = Case { left: rows(2), right: rows(1), cut: 4_000, partitions: 3, batch_rows: 1_024 };
    let query = "SELECT count(*) = count(*) FILTER (WHERE r.at <= l.at AND l.k = r.k)
                 FROM trades l ASOF JOIN quotes r MATCH_CONDITION (l.at >= r.at) ON l.k = r.k";
    assert_eq!(case.lines(&set(query), 4 << 20), ["true"]);
}

#[test]
fn times_of_the_left_side_keep_their_watermark() {
    planned(&set("SELECT id FROM TUMBLE((
         SELECT t.id, t.at AS seen FROM trades t ASOF JOIN rates r MATCH_CONDITION (t.at >= r.at) USING (k)
       ), seen, INTERVAL '1 hour')"));
}

#[test]
fn a_join_with_a_source_is_a_snapshot_and_says_so_at_its_place() {
    for left in ["trades", "rates"] {
        let text = set(&format!("SELECT t.id FROM {left} t ASOF JOIN quotes q MATCH_CONDITION (t.at >= q.at)"));
        let plan = planned(&text);
        let planned = plan.set("s").unwrap();
        assert_eq!(planned.kind, SetKind::Snapshot);
        let [reason] = &planned.reasons[..] else { panic!("{:?}", planned.reasons) };
        assert_eq!(reason.text, "an `ASOF JOIN` with source `quotes`, of which a nearer row may still come");
        let line = text.lines().nth(reason.span.start.line as usize - 1).unwrap();
        assert!(line[reason.span.start.column as usize - 1..].starts_with("t.at >= q.at"));
    }
}

#[test]
fn the_digest_changes_with_the_join() {
    let digest =
        |join: &str| planned(&set(&format!("SELECT t.id FROM trades t {join}"))).set("s").unwrap().plan_digest.clone();
    let join = digest("ASOF JOIN rates r MATCH_CONDITION (t.at >= r.at) ON t.k = r.k");
    assert_eq!(join, digest("ASOF INNER JOIN rates r MATCH_CONDITION (r.at <= t.at) ON r.k = t.k"));
    // A word of clusters, and not the one that `LEFT` becomes on its way.
    assert_eq!(join, digest("GLOBAL ASOF JOIN rates r MATCH_CONDITION (t.at >= r.at) ON t.k = r.k"));
    assert_ne!(join, digest("ASOF LEFT JOIN rates r MATCH_CONDITION (t.at >= r.at) ON t.k = r.k"));
    assert_ne!(join, digest("ASOF JOIN rates r MATCH_CONDITION (t.at > r.at) ON t.k = r.k"));
    assert_ne!(join, digest("ASOF JOIN rates r MATCH_CONDITION (t.at >= r.at) ON t.j = r.j"));
}

#[test]
fn asof_is_a_name_like_others() {
    planned(&set("SELECT asof.id FROM trades AS asof LEFT JOIN rates AS r ON asof.k = r.k"));
    planned(&set("SELECT t.id AS asof FROM trades t LEFT JOIN rates r ON t.k = r.k"));
}

#[test]
fn only_the_columns_that_are_needed_are_read_from_the_left_side() {
    let plan = planned(&set("SELECT t.id FROM trades t ASOF JOIN rates r MATCH_CONDITION (t.at >= r.at)"));
    let text = plan.explain("s").unwrap();
    assert!(text.contains("AsofJoin: Inner t.at >= r.at"), "{text}");
    assert!(text.contains("TableScan: trades projection=[id, at]"), "{text}");
}
