//! Absorbed slice by slice, a set has the first row of each key that a loop over all rows finds, bit for bit.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use datafusion::common::ScalarValue;
use proptest::prelude::*;
use proptest::sample::{Index, subsequence};

use crate::incremental::tests::{Event, absorbed, events, is_computed_over_everything, planned, slices, spills};
use crate::tests::{lines, run, state, state_with};

/// The columns of `events`.
const COLUMNS: [&str; 8] = ["k", "n", "m", "f", "b", "d", "at", "i"];

/// A column that rows are sorted by, downwards or not, nulls first or not.
type By = (&'static str, bool, bool);

/// How it is written that the first row of each key is taken.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Form {
    DistinctOn,
    RowNumber,
    Qualify,
}

/// A query for the first row of each key, of which another query reads some columns.
#[derive(Debug, Clone)]
struct Query {
    form: Form,
    keys: Vec<By>,
    order: Vec<By>,
    inner: Vec<&'static str>,
    outer: Vec<&'static str>,
    /// Whether rows are kept whose `n` is known, before or after the first ones are taken.
    before: bool,
    after: bool,
}

impl Query {
    fn text(&self) -> String {
        let sorted = |(column, down, first): &By| {
            format!("{column} {} NULLS {}", if *down { "DESC" } else { "ASC" }, if *first { "FIRST" } else { "LAST" })
        };
        let names = |by: &[By]| by.iter().map(|by| by.0).collect::<Vec<_>>().join(", ");
        let order = |by: &[By]| by.iter().map(sorted).collect::<Vec<_>>().join(", ");
        let (keys, inner, outer) = (names(&self.keys), self.inner.join(", "), self.outer.join(", "));
        let from = if self.before { "FROM events WHERE n IS NOT NULL" } else { "FROM events" };
        let rest = if self.order.is_empty() { String::new() } else { format!("ORDER BY {}", order(&self.order)) };
        let number = format!("row_number() OVER (PARTITION BY {keys} {rest})");
        let (within, is_first) = match self.form {
            Form::DistinctOn => {
                let all = order(&[self.keys.clone(), self.order.clone()].concat());
                (format!("SELECT DISTINCT ON ({keys}) {inner} {from} ORDER BY {all}"), "true")
            }
            Form::RowNumber => (format!("SELECT {inner}, {number} AS place {from}"), "place = 1"),
            Form::Qualify => (format!("SELECT {inner} {from} QUALIFY {number} = 1"), "true"),
        };
        let after = if self.after { "n IS NOT NULL" } else { "true" };
        format!("SELECT {outer} FROM ({within}) t WHERE {after} AND {is_first}")
    }

    /// What a loop over all rows finds.
    fn expected(&self, rows: &RecordBatch) -> Vec<String> {
        let read = |column: &&str| self.outer.contains(column) || (self.after && *column == "n");
        let ties: Vec<&str> = match self.form {
            Form::DistinctOn => self.inner.iter().copied().filter(read).collect(),
            Form::RowNumber | Form::Qualify => COLUMNS.into_iter().filter(read).collect(),
        };
        let order: Vec<By> = self.order.iter().copied().chain(ties.into_iter().map(|tie| (tie, false, true))).collect();
        let value = |row: usize, column: &str| value(rows, row, column);
        let known = |row: &usize| !value(*row, "n").is_null();
        let mut firsts: BTreeMap<String, usize> = BTreeMap::new();
        for row in (0..rows.num_rows()).filter(|row| !self.before || known(row)) {
            let key = self.keys.iter().map(|key| format!("{:?}", value(row, key.0))).collect::<Vec<_>>().join("|");
            let first = firsts.entry(key).or_insert(row);
            let is_less = |by: &By| compare(&value(row, by.0), &value(*first, by.0), by);
            if order.iter().map(is_less).find(|by| by.is_ne()) == Some(Ordering::Less) {
                *first = row;
            }
        }
        let mut firsts: Vec<usize> = firsts.into_values().filter(|row| !self.after || known(row)).collect();
        if self.form == Form::DistinctOn {
            firsts.sort_by(|left, right| {
                let by = |by: &By| compare(&value(*left, by.0), &value(*right, by.0), by);
                self.keys.iter().map(by).find(|by| by.is_ne()).unwrap_or(Ordering::Equal)
            });
        }
        let columns: Vec<usize> = self.outer.iter().map(|column| rows.schema().index_of(column).unwrap()).collect();
        let outer = rows.project(&columns).unwrap();
        firsts.into_iter().flat_map(|row| lines(&[outer.slice(row, 1)], "")).collect()
    }
}

fn value(rows: &RecordBatch, row: usize, column: &str) -> ScalarValue {
    ScalarValue::try_from_array(rows.column_by_name(column).unwrap(), row).unwrap()
}

fn compare(left: &ScalarValue, right: &ScalarValue, (_, down, first): &By) -> Ordering {
    let nulls = if *first { Ordering::Less } else { Ordering::Greater };
    match (left.is_null(), right.is_null()) {
        (true, true) => Ordering::Equal,
        (true, false) => nulls,
        (false, true) => nulls.reverse(),
        (false, false) => {
            let compared = match (left, right) {
                (ScalarValue::Float64(Some(left)), ScalarValue::Float64(Some(right))) => left.total_cmp(right),
                _ => left.partial_cmp(right).unwrap(),
            };
            if *down { compared.reverse() } else { compared }
        }
    }
}

fn by(columns: Vec<&'static str>) -> impl Strategy<Value = Vec<By>> {
    let count = columns.len();
    prop::collection::vec(any::<(bool, bool)>(), count).prop_map(move |options| {
        columns.iter().zip(options).map(|(column, (down, first))| (*column, down, first)).collect()
    })
}

fn queries() -> impl Strategy<Value = Query> {
    let keys = subsequence(vec!["k", "n", "m", "b", "d"], 1..3).prop_shuffle().prop_flat_map(by);
    let order = subsequence(COLUMNS.to_vec(), 0..3).prop_shuffle().prop_flat_map(by);
    let inner = subsequence(COLUMNS.to_vec(), 2..7).prop_shuffle();
    let form = prop::sample::select(vec![Form::DistinctOn, Form::RowNumber, Form::Qualify]);
    let made = (form, keys, order, inner, any::<Index>(), any::<(bool, bool)>());
    made.prop_map(|(form, keys, order, mut inner, outer, (before, after))| {
        if !inner.contains(&"n") {
            inner.push("n");
        }
        let outer = inner[..=outer.index(inner.len())].to_vec();
        Query { form, keys, order, inner, outer, before, after }
    })
}

async fn check(query: &Query, slices: &[Vec<Event>], partitions: usize) {
    let text = query.text();
    let all = slices.concat();
    let mut expected = query.expected(&events(&all));
    let (rows, kept) = absorbed(&text, slices, &state_with(partitions, 5, 64 << 20)).await;
    let mut found = lines(&rows, "");
    if query.form != Form::DistinctOn {
        expected.sort();
        found.sort();
    }
    assert_eq!(found, expected, "{text} over {slices:?}");

    // At once, the other way round, and over other partitions it is the same, and so is what is kept.
    let reversed: Vec<Event> = all.into_iter().rev().collect();
    let (rows_at_once, kept_at_once) = absorbed(&text, &[reversed], &state(4 - partitions)).await;
    for (left, right) in [(rows, rows_at_once), (kept, kept_at_once)] {
        let whole = |batches: &[RecordBatch]| {
            batches
                .first()
                .map(|first| concat_batches(&first.schema(), batches).unwrap())
                .filter(|all| all.num_rows() > 0)
        };
        assert_eq!(whole(&left), whole(&right), "{text} over {slices:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn however_the_input_is_cut_the_first_rows_are_those_of_a_loop(
        query in queries(),
        slices in slices(),
        partitions in 1..4_usize,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(check(&query, &slices, partitions));
    }
}

/// Queries whose order leaves nothing open.
const QUERIES: [&str; 15] = [
    "SELECT DISTINCT ON (k) k, n FROM events ORDER BY k, n DESC",
    "SELECT DISTINCT ON (k, b) n + 1 AS next, upper(k) || '!' AS loud, 7 AS seven FROM events ORDER BY k DESC, b, n",
    "SELECT DISTINCT ON (n % 3) n, at FROM events ORDER BY n % 3, abs(n) DESC NULLS LAST, n, at",
    "SELECT DISTINCT ON (k) k, i, n FROM events WHERE n > 1 ORDER BY k, n, i, n DESC",
    "SELECT e.k, l.label FROM (SELECT DISTINCT ON (k) k, n FROM events ORDER BY k, n) e JOIN names l ON e.k = l.k",
    "SELECT n, count(*) AS keys FROM (SELECT DISTINCT ON (k) k, n FROM events ORDER BY k, n) e GROUP BY n",
    "SELECT DISTINCT ON (label) label, n, i FROM events e LEFT JOIN names l ON e.k = l.k ORDER BY label, n, i",
    "SELECT count(*) AS keys FROM (SELECT DISTINCT ON (k) k, n FROM events ORDER BY k, n) e",
    "SELECT k, m FROM (SELECT DISTINCT ON (d) k, m FROM events ORDER BY d, m DESC, k) e WHERE k <> 'K1' ORDER BY m, k LIMIT 2",
    "SELECT DISTINCT ON (k) k, n FROM (SELECT k, n FROM events UNION ALL SELECT k, n + 1 FROM events) u ORDER BY k, n",
    "SELECT k, window_end, count(*) AS c, sum(n) AS s
     FROM HOP((SELECT DISTINCT ON (k, i) k, i, n, at FROM events ORDER BY k, i, n, at), at, INTERVAL '1 hour', INTERVAL '3 hours')
     GROUP BY k, window_end",
    "SELECT b, sum(n) OVER (PARTITION BY b ORDER BY at RANGE BETWEEN INTERVAL '2 hours' PRECEDING AND CURRENT ROW) AS s
     FROM (SELECT DISTINCT ON (i) i, b, n, at FROM events ORDER BY i, n, at, b) e",
    "SELECT window_start, window_end, count(*) AS c
     FROM SESSION((SELECT DISTINCT ON (i) i, at FROM events ORDER BY i, at), at, INTERVAL '2 hours') GROUP BY window_start, window_end",
    "SELECT k, n, place FROM (SELECT *, row_number() OVER (PARTITION BY k ORDER BY n, i) AS place FROM events) e
     WHERE place = 1",
    "SELECT k, max(n) AS n FROM (SELECT k, n, b FROM events QUALIFY 1 = row_number() OVER (PARTITION BY k, b ORDER BY n)) e
     GROUP BY k",
];

#[tokio::test]
async fn every_query_is_right_over_nothing_and_over_what_comes_after_it() {
    let rows: Vec<Event> = (0..40_u8)
        .map(|at| (Some(at), Some(i64::from(at) - 9), Some(i32::from(at) * 100), None, Some(at % 3 == 0), Some(at)))
        .chain([(None, None, None, None, None, None), (Some(1), Some(-3), Some(-7), Some(-3), None, Some(2))])
        .collect();
    let state = state(2);
    for query in QUERIES {
        for slices in [vec![vec![]], vec![vec![], rows.clone(), vec![], rows[..5].to_vec()]] {
            let one_pass = planned(query, &slices.concat(), &state).set("s").unwrap().physical(&state).await.unwrap();
            let mut expected = lines(&run(one_pass, &state).await.concat(), "");
            let mut found = lines(&absorbed(query, &slices, &state).await.0, "");
            expected.sort();
            found.sort();
            assert_eq!(found, expected, "{query}");
        }
    }
}

#[tokio::test]
async fn a_state_has_one_row_for_each_key_also_where_the_set_has_none() {
    // `b` says that the row is gone.
    const NOW: &str = "SELECT k, i FROM (SELECT DISTINCT ON (k) k, i, b FROM events ORDER BY k, n DESC) c WHERE NOT b";
    let change = |key, at, value, gone| -> Event { (Some(key), Some(at), Some(value), None, Some(gone), None) };
    let slices = [
        vec![change(0, 0, 10, false), change(0, 3, 0, true), change(1, 1, 20, false)],
        // What comes late is older than what is kept, and is not the newest, not even of what was deleted.
        vec![change(0, 2, 11, false), change(1, 0, 21, false), change(2, 4, 30, false)],
        vec![change(2, 5, 31, false), change(1, 6, 20, true)],
    ];
    for (seen, expected, keys) in [(1, vec!["K1|20"], 2), (2, vec!["K1|20", "K2|30"], 3), (3, vec!["K2|31"], 3)] {
        let (rows, kept) = absorbed(NOW, &slices[..seen], &state(2)).await;
        assert_eq!(lines(&rows, ""), expected);
        assert_eq!(lines(&kept, "").len(), keys);
    }
    let (_, kept) = absorbed(NOW, &slices, &state(3)).await;
    assert_eq!(lines(&kept, ""), ["K0|3|0|true", "K1|6|20|true", "K2|5|31|false"]);
}

#[tokio::test]
async fn first_rows_that_memory_cannot_hold_are_spilled_and_are_the_same() {
    const QUERY: &str = "SELECT DISTINCT ON (i) i, n, k FROM events ORDER BY i, n DESC";
    let event = |at: i32| -> Event { (Some(0), Some(i64::from(at)), Some(at % 40_000), None, None, None) };
    let slices: Vec<Vec<Event>> =
        (0..3).map(|slice| (slice * 25_000..(slice + 1) * 25_000).map(event).collect()).collect();
    let small = state_with(2, 1_024, 8 << 20);
    let (rows, kept) = absorbed(QUERY, &slices, &small).await;
    let (expected, in_memory) = absorbed(QUERY, &[slices.concat()], &state(2)).await;
    assert_eq!(lines(&kept, "").len(), 40_000);
    assert!(lines(&rows, "") == lines(&expected, "") && lines(&kept, "") == lines(&in_memory, ""));

    let plan = planned(QUERY, &slices.concat(), &small);
    let absorb = plan.set("s").unwrap().incremental().unwrap().absorb(&small, None).await.unwrap();
    run(Arc::clone(&absorb), &small).await;
    assert!(spills(&absorb) > 0, "memory held everything");
}

#[test]
fn what_cannot_be_kept_is_computed_over_everything_and_it_is_said_why() {
    let check = is_computed_over_everything;
    check("SELECT DISTINCT ON (f) f, n FROM events ORDER BY f, n", "a key has the type DOUBLE");
    check(
        "SELECT DISTINCT ON (a) k FROM (SELECT k, [n] AS a FROM events) e ORDER BY a, k",
        "a key has the type BIGINT[]",
    );
    check(
        "SELECT DISTINCT ON (k) k, [n, n] AS a FROM events ORDER BY k, n",
        "a column of the first row of each key has the type BIGINT[]",
    );
    check(
        "SELECT DISTINCT ON (k) k, r FROM (SELECT k, rank() OVER (ORDER BY n) AS r FROM events) w ORDER BY k, r",
        "a window function over source `events` before the first of each key is taken",
    );
    check(
        "SELECT DISTINCT ON (k) k FROM (SELECT k FROM events ORDER BY n LIMIT 3) l ORDER BY k",
        "an order or a limit",
    );
    check(
        "SELECT DISTINCT ON (k) k, (SELECT max(n) FROM events) AS most FROM events ORDER BY k",
        "a subquery in an expression",
    );
    for place in
        ["place = 2", "place <= 1", "place = 1.5", "CAST(place AS BOOLEAN) = true", "n = 1", "place = 1 OR n = 1"]
    {
        let query =
            "SELECT k, n, place FROM (SELECT *, row_number() OVER (PARTITION BY k ORDER BY n) AS place FROM events)";
        check(&format!("{query} WHERE {place}"), "no aggregate takes in all that it reads");
    }
    for window in ["row_number() OVER (ORDER BY n)", "rank() OVER (PARTITION BY k ORDER BY n)"] {
        check(&format!("SELECT k FROM events QUALIFY {window} = 1"), "no aggregate takes in all that it reads");
    }
    let number = "row_number() OVER (PARTITION BY k ORDER BY n)";
    check(
        &format!("SELECT k, sum(n) OVER (PARTITION BY k) AS s FROM events QUALIFY {number} = 1"),
        "no aggregate takes in",
    );
    check(
        &format!("SELECT k FROM events QUALIFY {number} = 1 AND n > (SELECT min(n) FROM events)"),
        "no aggregate takes in",
    );
}

#[test]
fn a_column_that_is_not_read_is_not_kept() {
    let kept = |query: &str| {
        let plan = planned(query, &[], &state(2));
        let types = plan.set("s").unwrap().incremental().unwrap().state_schema().fields().clone();
        types.iter().map(|field| field.data_type().to_string()).collect::<Vec<_>>().join(" ")
    };
    let of = "(SELECT *, row_number() OVER (PARTITION BY k ORDER BY n DESC) AS place, 'x' AS x FROM events) e WHERE place = 1";
    assert_eq!(kept(&format!("SELECT k, d FROM {of}")), "Utf8 Int64 Date32");
    assert_eq!(kept(&format!("SELECT count(*) AS keys FROM {of}")), "Utf8 Int64");
    assert_eq!(
        kept("SELECT m FROM (SELECT DISTINCT ON (k) m, b, i, 1 AS one FROM events ORDER BY k, k DESC, n) e WHERE b"),
        "Utf8 Int64 Decimal128(20, 4) Boolean"
    );
}

#[test]
fn a_signature_tells_keys_order_and_columns() {
    let signature = |query: &str| planned(query, &[], &state(2)).set("s").unwrap().incremental().unwrap().signature();
    let newest = signature("SELECT DISTINCT ON (k) k, i FROM events ORDER BY k, n DESC");
    assert_eq!(newest, signature("SELECT DISTINCT ON (k) k AS other, i FROM events WHERE b ORDER BY k, n DESC"));
    for other in [
        "SELECT DISTINCT ON (k) k, i FROM events ORDER BY k, n",
        "SELECT DISTINCT ON (k) k, i FROM events ORDER BY k, n DESC NULLS LAST",
        "SELECT DISTINCT ON (k) k, i FROM events ORDER BY k DESC, n DESC",
        "SELECT DISTINCT ON (k, n) k, i FROM events ORDER BY k, n DESC",
        "SELECT DISTINCT ON (k) k, m FROM events ORDER BY k, n DESC",
        "SELECT k, n, max(i) AS i FROM events GROUP BY k, n",
    ] {
        assert_ne!(newest, signature(other), "{other}");
    }
}
