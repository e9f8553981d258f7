//! Windows give the rows of naive loops over the same events, however these were cut and whatever their order.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use bessemer_schemas::ORIGIN_COLUMN;
use proptest::prelude::*;

use super::{definition, lines, plan_with, planned, run, scan_schema, state_with};
use crate::{LedgerShape, SetKind};

const TRIPS: &str = "
CREATE SOURCE trips (id BIGINT NOT NULL, rider VARCHAR, at TIMESTAMP, WATERMARK FOR at AS at - INTERVAL '5 minutes')
WITH (connector = 'object_store', path = 'x', format = 'json');
CREATE TABLE stops (id BIGINT NOT NULL, rider VARCHAR, at TIMESTAMP)
WITH (connector = 'object_store', path = 'x', format = 'json');
";

/// Rider and minute, of which either may be unknown; the id is the row's number.
type Trip = (Option<u8>, Option<i64>);

fn trips(rows: &[(i64, Trip)]) -> RecordBatch {
    let definition = definition(&set("SELECT id FROM trips"));
    let riders: StringArray = rows.iter().map(|(_, (rider, _))| rider.map(|rider| format!("R{rider}"))).collect();
    let times: TimestampMicrosecondArray = rows.iter().map(|(_, (_, at))| at.map(|at| at * 60_000_000)).collect();
    let ids: Int64Array = rows.iter().map(|(id, _)| *id).collect();
    let schema = scan_schema(&definition.sources[0]);
    RecordBatch::try_new(schema, vec![Arc::new(ids), Arc::new(riders), Arc::new(times)]).unwrap()
}

fn set(query: &str) -> String {
    format!("{TRIPS} CREATE FEATURE SET s WITH (path = 'x') AS {query};")
}

/// The rows of a query over `trips`, sorted as texts; operators give batches of the same size.
fn rows(query: &str, trips: &[RecordBatch]) -> Vec<String> {
    let size = trips.iter().map(RecordBatch::num_rows).max().unwrap_or(1);
    let state = state_with(3, size, 256 << 20);
    let data = BTreeMap::from([("trips", trips.to_vec()), ("stops", trips.to_vec())]);
    let (plan, found) = plan_with(&set(query), &data, &[], &state);
    let plan = plan.unwrap_or_else(|| panic!("{query}: {found:#?}"));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let batches = runtime.block_on(async {
        let physical = plan.set("s").unwrap().physical(&state).await.unwrap();
        run(physical, &state).await.concat()
    });
    let mut lines = lines(&batches, ORIGIN_COLUMN);
    lines.sort();
    lines
}

/// The windows of a minute.
type WindowsOf<'a> = &'a dyn Fn(i64) -> Vec<(i64, i64)>;

/// What a query gives of bounds in minutes.
const BOUNDS: &str = "date_part('epoch', window_start)::BIGINT / 60, date_part('epoch', window_end)::BIGINT / 60";

fn expected(windows: impl IntoIterator<Item = (String, i64, i64)>) -> Vec<String> {
    let mut lines: Vec<_> = windows.into_iter().map(|(key, start, end)| format!("{key}|{start}|{end}")).collect();
    lines.sort();
    lines
}

fn known(rows: &[Trip]) -> impl Iterator<Item = (String, i64)> {
    rows.iter().enumerate().filter_map(|(id, (_, at))| at.map(|at| (id.to_string(), at)))
}

fn any_trips() -> impl Strategy<Value = Vec<Trip>> {
    let at = prop_oneof![1 => Just(None), 9 => (-4_000_i64..4_000).prop_map(Some), 9 => (-90_i64..90).prop_map(Some)];
    prop::collection::vec((prop::option::of(0_u8..3), at), 0..60)
}

/// The rows in batches of `size`.
fn cut(rows: &[Trip], size: usize) -> Vec<RecordBatch> {
    let numbered: Vec<_> = (0_i64..).zip(rows.iter().copied()).collect();
    numbered.chunks(size).map(trips).collect()
}

/// The sessions of rows of one rider: each of its times with the bounds of its session.
fn sessions(mut times: Vec<(String, i64)>, gap: i64) -> Vec<(String, i64, i64)> {
    times.sort_by_key(|(_, at)| *at);
    let mut sessions: Vec<Vec<(String, i64)>> = Vec::new();
    for row in times {
        match sessions.last_mut() {
            Some(session) if session.last().is_some_and(|(_, last)| row.1 < last + gap) => session.push(row),
            _ => sessions.push(vec![row]),
        }
    }
    let bounded = |session: Vec<(String, i64)>| {
        let (start, end) = (session[0].1, session[session.len() - 1].1 + gap);
        session.into_iter().map(move |(id, _)| (id, start, end))
    };
    sessions.into_iter().flat_map(bounded).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn windows_hold_the_rows_of_naive_loops(trips in any_trips(), size in 1_usize..20) {
        let cut = cut(&trips, size);
        let found = rows(&format!("SELECT id, {BOUNDS} FROM TUMBLE(trips, at, INTERVAL '1 hour')"), &cut);
        let hour = |at: i64| at.div_euclid(60) * 60;
        prop_assert_eq!(found, expected(known(&trips).map(|(id, at)| (id, hour(at), hour(at) + 60))));

        let query = "HOP(trips, at, INTERVAL '7 minutes', INTERVAL '1 hour', INTERVAL '3 minutes')";
        let found = rows(&format!("SELECT id, {BOUNDS} FROM {query}"), &cut);
        let hops = known(&trips).flat_map(|(id, at)| {
            let starts = (at - 60..=at).filter(move |start| (start - 3).rem_euclid(7) == 0 && at < start + 60);
            starts.map(move |start| (id.clone(), start, start + 60))
        });
        prop_assert_eq!(found, expected(hops));

        let query = "CUMULATE(trips, at, INTERVAL '20 minutes', INTERVAL '1 hour')";
        let found = rows(&format!("SELECT id, {BOUNDS} FROM {query}"), &cut);
        let grown = known(&trips).flat_map(|(id, at)| {
            let ends = [20, 40, 60].into_iter().map(move |grown| hour(at) + grown).filter(move |end| at < *end);
            ends.map(move |end| (id.clone(), hour(at), end))
        });
        prop_assert_eq!(found, expected(grown));
    }

    #[test]
    fn sessions_hold_the_rows_of_naive_loops(trips in any_trips(), size in 1_usize..20) {
        let cut = cut(&trips, size);
        let of_rider = |rider: Option<u8>| {
            let rows = (0..).zip(&trips).filter(move |(_, row)| row.0 == rider);
            rows.filter_map(|(id, (_, at))| at.map(|at| (id.to_string(), at))).collect::<Vec<_>>()
        };
        let found =
            rows(&format!("SELECT id, {BOUNDS} FROM SESSION(trips PARTITION BY rider, at, INTERVAL '30 minutes')"), &cut);
        let by_rider = [None, Some(0), Some(1), Some(2)].into_iter().flat_map(|rider| sessions(of_rider(rider), 30));
        prop_assert_eq!(found, expected(by_rider));

        let found = rows(&format!("SELECT id, {BOUNDS} FROM SESSION(trips, at, INTERVAL '5 minutes')"), &cut);
        prop_assert_eq!(found, expected(sessions(known(&trips).collect(), 5)));
    }

    #[test]
    fn aggregates_of_windows_are_those_of_bins(trips in any_trips(), size in 1_usize..20) {
        let cut = cut(&trips, size);
        let items = "rider, count(*), count(DISTINCT id) FILTER (WHERE id > 3), min(id), array_agg(id ORDER BY id)";
        let windows = format!(
            "SELECT window_start, {items} FROM TUMBLE(trips, at, INTERVAL '15 minutes')
             GROUP BY rider, window_start, window_end HAVING count(*) > 1"
        );
        let bins = format!(
            "SELECT date_bin(INTERVAL '15 minutes', at), {items} FROM trips WHERE at IS NOT NULL
             GROUP BY rider, date_bin(INTERVAL '15 minutes', at) HAVING count(*) > 1"
        );
        prop_assert_eq!(rows(&named(&windows), &cut), rows(&named(&bins), &cut));
    }

    #[test]
    fn frames_of_time_hold_the_rows_of_naive_loops(trips in any_trips(), size in 1_usize..20) {
        let cut = cut(&trips, size);
        let query = "SELECT id, at, count(*) OVER hour AS c, sum(id) OVER around AS s,
                            count(*) OVER (PARTITION BY rider ORDER BY at DESC RANGE BETWEEN INTERVAL '7 minutes' PRECEDING AND
                                           CURRENT ROW) AS d
                     FROM trips WHERE at IS NOT NULL
                     WINDOW hour AS (PARTITION BY rider ORDER BY at RANGE BETWEEN INTERVAL '1 hour' PRECEDING AND CURRENT ROW),
                            around AS (PARTITION BY rider ORDER BY at RANGE BETWEEN INTERVAL '10 minutes' PRECEDING AND
                                       INTERVAL '90 seconds' FOLLOWING)";
        let plan = planned(&set(query));
        let shown = plan.set("s").unwrap().optimized.display_indent().to_string();
        prop_assert!(shown.contains("__ticks") && !shown.contains("IntervalMonthDayNano"), "{}", shown);
        let known: Vec<_> = (0_i64..).zip(&trips).filter_map(|(id, (rider, at))| Some((id, *rider, (*at)?))).collect();
        let line = |(id, rider, at): &(i64, Option<u8>, i64)| {
            let of = |from: i64, to: i64| {
                let rows = known.iter().filter(move |row| row.1 == *rider && (at + from..=at + to).contains(&row.2));
                rows.map(|row| row.0).collect::<Vec<_>>()
            };
            format!("{id}|{}|{}|{}", of(-60, 0).len(), of(-10, 1).iter().sum::<i64>(), of(0, 7).len())
        };
        let mut expected: Vec<_> = known.iter().map(line).collect();
        expected.sort();
        let found = rows(&format!("SELECT id, c, s, d FROM ({query}) q"), &cut);
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn windows_that_overlap_are_put_together_of_panes(trips in any_trips(), size in 1_usize..20) {
        let cut = cut(&trips, size);
        // From the grid's first point on, with the pane between two of its points, and the windows of a minute.
        let starts = |at: i64| (at - 60..=at).filter(move |start| (start - 3).rem_euclid(24) == 0 && at < start + 60);
        let grown = |at: i64| {
            let day = at.div_euclid(60) * 60;
            [20, 40, 60].into_iter().filter(move |grown| at < day + grown).map(move |grown| (day, day + grown))
        };
        let hops = |at: i64| starts(at).map(|start| (start, start + 60)).collect::<Vec<_>>();
        let cumulated = |at: i64| grown(at).collect::<Vec<_>>();
        let hop = "HOP(trips, at, INTERVAL '24 minutes', INTERVAL '1 hour', INTERVAL '3 minutes')";
        let cumulate = "CUMULATE(trips, at, INTERVAL '20 minutes', INTERVAL '1 hour')";
        for (window, windows) in [(hop, &hops as WindowsOf<'_>), (cumulate, &cumulated)] {
            let query = format!(
                "SELECT rider, {BOUNDS}, count(*), sum(id * 2) FILTER (WHERE id > 3), min(id), max(id) + 1
                 FROM {window} GROUP BY window_end, rider, window_start"
            );
            let plan = planned(&set(&named(&query)));
            prop_assert!(plan.set("s").unwrap().optimized.display_indent().to_string().contains("__pane"));
            let mut groups: BTreeMap<(Option<u8>, i64, i64), Vec<i64>> = BTreeMap::new();
            for (id, (rider, at)) in (0..).zip(&trips) {
                for (start, end) in at.map(windows).unwrap_or_default() {
                    groups.entry((*rider, start, end)).or_default().push(id);
                }
            }
            let line = |((rider, start, end), ids): (&(Option<u8>, i64, i64), &Vec<i64>)| {
                let rider = rider.map_or("∅".to_owned(), |rider| format!("R{rider}"));
                let some: Vec<i64> = ids.iter().filter(|id| **id > 3).map(|id| id * 2).collect();
                let sum = if some.is_empty() { "∅".to_owned() } else { some.iter().sum::<i64>().to_string() };
                format!("{rider}|{start}|{end}|{}|{sum}|{}|{}", ids.len(), ids[0], ids[ids.len() - 1] + 1)
            };
            let mut expected: Vec<_> = groups.iter().map(line).collect();
            expected.sort();
            prop_assert_eq!(rows(&named(&query), &cut), expected);
        }
    }
}

#[test]
fn the_end_of_a_window_that_follows_from_its_start_is_no_key() {
    let trips = trips(&(0..9).map(|id| (id, (Some(0), Some(id * 7)))).collect::<Vec<_>>());
    let keys = |window: &str| {
        let query = format!(
            "SELECT window_end, avg(id) AS a, window_start FROM {window} GROUP BY window_end, rider, window_start"
        );
        let plan = planned(&set(&query)).set("s").unwrap().optimized.display_indent().to_string();
        let aggregate = plan.lines().find(|line| line.contains("Aggregate")).unwrap().trim().to_owned();
        (aggregate, rows(&query, std::slice::from_ref(&trips)))
    };
    let (aggregate, rows) = keys("TUMBLE(trips, at, INTERVAL '20 minutes')");
    assert_eq!(aggregate, "Aggregate: groupBy=[[trips.rider, window_start]], aggr=[[avg(CAST(trips.id AS Float64))]]");
    assert_eq!(rows[1], "1970-01-01T00:40:00|4.0|1970-01-01T00:20:00");
    let (aggregate, rows) = keys("HOP(trips, at, INTERVAL '20 minutes', INTERVAL '40 minutes')");
    assert_eq!(aggregate, "Aggregate: groupBy=[[trips.rider, window_start]], aggr=[[avg(CAST(trips.id AS Float64))]]");
    assert_eq!(rows[1], "1970-01-01T00:40:00|2.5|1970-01-01T00:00:00");
    let (aggregate, _) = keys("CUMULATE(trips, at, INTERVAL '20 minutes', INTERVAL '40 minutes')");
    assert!(aggregate.contains("window_end"), "{aggregate}");
}

#[test]
fn what_panes_cannot_give_is_asked_of_rows() {
    let hop = "FROM HOP(trips, at, INTERVAL '10 minutes', INTERVAL '1 hour') GROUP BY window_start, rider";
    for query in [
        format!("SELECT window_start, rider, avg(id) AS a {hop}"),
        format!("SELECT window_start, rider, sum(id / 3.0) AS c {hop}"),
        format!("SELECT window_start, rider, max(window_end) AS c {hop}"),
        "SELECT rider, count(*) AS c FROM HOP(trips, at, INTERVAL '10 minutes', INTERVAL '1 hour') GROUP BY ROLLUP(rider)"
            .to_owned(),
        format!("SELECT window_start, rider, count(*) FILTER (WHERE at > window_start) AS c {hop}"),
        "SELECT window_start, count(*) AS c FROM TUMBLE(trips, at, INTERVAL '1 hour') GROUP BY window_start".to_owned(),
    ] {
        let plan = planned(&set(&query));
        assert!(!plan.set("s").unwrap().optimized.display_indent().to_string().contains("__pane"), "{query}");
    }
}

/// Names for items that have none.
fn named(query: &str) -> String {
    query
        .replacen("count(*),", "count(*) AS n,", 1)
        .replacen("(WHERE id > 3)", "(WHERE id > 3) AS d", 1)
        .replacen("min(id)", "min(id) AS m", 1)
        .replacen("array_agg(id ORDER BY id)", "array_agg(id ORDER BY id) AS ids", 1)
        .replacen("SELECT date_bin(INTERVAL '15 minutes', at),", "SELECT date_bin(INTERVAL '15 minutes', at) AS b,", 1)
}

#[test]
fn a_session_ends_where_its_gap_does() {
    let events = [Some(0), Some(-5), Some(4), None].map(|at| (None, at));
    for size in 1..4 {
        let found =
            rows(&format!("SELECT id, {BOUNDS} FROM SESSION(trips, at, INTERVAL '5 minutes')"), &cut(&events, size));
        assert_eq!(found, ["0|0|9", "1|-5|0", "2|0|9"]);
    }
}

#[test]
fn both_spellings_mean_the_same() {
    let events: Vec<Trip> = (0..40_u8).map(|id| (Some(id % 3), Some(i64::from(id) * 37 % 400))).collect();
    let cut = cut(&events, 7);
    for [short, long] in [
        ["TUMBLE(trips, at, INTERVAL '1 minute')", "TABLE(TUMBLE(TABLE trips, DESCRIPTOR(at), INTERVAL '1' MINUTE))"],
        [
            "HOP(trips, at, INTERVAL '1 minute', INTERVAL '5 minutes')",
            "TABLE(HOP(TABLE trips, DESCRIPTOR(at), INTERVAL '1' MINUTE, INTERVAL '5' MINUTE))",
        ],
        [
            "CUMULATE(trips, at, INTERVAL '1 hour', INTERVAL '1 day', INTERVAL '2 hours')",
            "TABLE(CUMULATE(DATA => TABLE trips, TIMECOL => DESCRIPTOR(at), SIZE => INTERVAL '1' DAY, \
             STEP => INTERVAL '1' HOUR, OFFSET => INTERVAL '2' HOUR))",
        ],
        [
            "SESSION(trips PARTITION BY rider, at, INTERVAL '9 minutes')",
            "TABLE(SESSION(TABLE trips PARTITION BY (rider), DESCRIPTOR(at), INTERVAL '9' MINUTE))",
        ],
        [
            "SESSION((SELECT * FROM trips) PARTITION BY rider, id % 2, at, INTERVAL '9 minutes')",
            "TABLE(SESSION(DATA => TABLE trips PARTITION BY (rider, id % 2), TIMECOL => DESCRIPTOR(at), \
             GAP => INTERVAL '9' MINUTE))",
        ],
    ] {
        let [short, long] = [short, long].map(|call| rows(&format!("SELECT * FROM {call}"), &cut));
        assert!(!short.is_empty());
        assert_eq!(short, long);
    }
}

#[test]
fn windows_of_windows_follow_the_watermark() {
    let query = "WITH minutes AS (
            SELECT rider, window_end AS minute, count(*) AS n FROM TUMBLE(trips, at, INTERVAL '1 minute')
            GROUP BY rider, window_start, window_end),
          hops AS (SELECT n, window_start AS hop FROM HOP(minutes, minute, INTERVAL '10 minutes', INTERVAL '1 hour')),
          sessions AS (SELECT n, window_end AS session_end FROM SESSION(hops, hop, INTERVAL '1 day'))
        SELECT window_start, sum(n) AS n FROM TUMBLE(sessions, session_end, INTERVAL '1 year')
        GROUP BY window_start, window_end";
    let events: Vec<Trip> = (0..50).map(|at| (Some(1), Some(at * 7))).collect();
    assert_eq!(rows(query, &cut(&events, 9)), ["1970-01-01T00:00:00|300"]);
}

#[test]
fn months_and_their_offset() {
    let day = 1_440;
    let events = [Some(-1), Some(0), Some(31 * day), Some(365 * day), None].map(|at| (None, at));
    let found = rows("SELECT id, window_start FROM TUMBLE(trips, at, INTERVAL '1 month')", &cut(&events, 2));
    assert_eq!(
        found,
        ["0|1969-12-01T00:00:00", "1|1970-01-01T00:00:00", "2|1970-02-01T00:00:00", "3|1971-01-01T00:00:00"]
    );
    let fiscal = "TUMBLE(trips, at, INTERVAL '1 year', INTERVAL '3 months')";
    let found = rows(&format!("SELECT id, window_start FROM {fiscal}"), &cut(&events, 2));
    assert_eq!(
        found,
        ["0|1969-04-01T00:00:00", "1|1969-04-01T00:00:00", "2|1969-04-01T00:00:00", "3|1970-04-01T00:00:00"]
    );
}

#[test]
fn a_window_without_an_aggregate_appends() {
    let kind = |call: &str, ledger| {
        let plan = planned(&set(&format!("SELECT id, window_start FROM {call} WHERE rider <> 'R1'")));
        let planned = plan.set("s").unwrap();
        assert_eq!((planned.kind, planned.ledger), (SetKind::Append, ledger), "{call}");
    };
    kind("TUMBLE(trips, at, INTERVAL '1 hour')", LedgerShape::Stateless { can_expand: false });
    let expands = LedgerShape::Stateless { can_expand: true };
    kind("HOP(trips, at, INTERVAL '1 minute', INTERVAL '1 hour')", expands);
    kind("CUMULATE(trips, at, INTERVAL '1 minute', INTERVAL '1 hour')", expands);
}

#[test]
fn a_session_is_a_snapshot_and_says_so_at_its_place() {
    let text = set("SELECT id, window_end FROM SESSION(trips PARTITION BY rider, at, INTERVAL '1 hour')");
    let plan = planned(&text);
    let planned = plan.set("s").unwrap();
    assert_eq!(planned.kind, SetKind::Snapshot);
    let [reason] = &planned.reasons[..] else { panic!("{:?}", planned.reasons) };
    assert_eq!(reason.text, "`SESSION` over source `trips`, whose next row may join two");
    let line = text.lines().nth(reason.span.start.line as usize - 1).unwrap();
    assert!(line[reason.span.start.column as usize - 1..].starts_with("SESSION("));
}

#[test]
fn tables_views_and_generated_times_can_be_windowed() {
    planned(&set("SELECT id FROM TUMBLE(stops, at, INTERVAL '1 hour')"));
    planned(&set("SELECT w.id, t.rider FROM TUMBLE(trips, at, INTERVAL '1 hour') w JOIN trips t ON t.id = w.id"));
    planned(&set("SELECT trips.id FROM TUMBLE(trips, trips.at, INTERVAL '1 hour')"));
    planned(&set("SELECT id FROM TUMBLE((SELECT t.id, date_trunc('second', CAST(t.at AS TIMESTAMPTZ)) AS second
         FROM trips t JOIN stops s ON s.id = t.id), second, INTERVAL '1 hour')"));
    planned(
        "CREATE SOURCE raw (id BIGINT NOT NULL, millis BIGINT,
           at TIMESTAMP GENERATED ALWAYS AS (to_timestamp_millis(millis)) STORED,
           WATERMARK FOR at AS at - INTERVAL '1 minute')
         WITH (connector = 'object_store', path = 'x', format = 'json');
         CREATE VIEW late AS SELECT id, at AS seen FROM raw r WHERE id > 3;
         CREATE FEATURE SET s WITH (path = 'x') AS SELECT id FROM HOP(late, seen, INTERVAL '1 hour', INTERVAL '1 day');",
    );
}

#[test]
fn the_digest_changes_with_the_window() {
    let digest = |call: &str| planned(&set(&format!("SELECT id FROM {call}"))).set("s").unwrap().plan_digest.clone();
    let hour = digest("TUMBLE(trips, at, INTERVAL '1 hour')");
    assert_eq!(hour, digest("TUMBLE(trips, at, INTERVAL '1 hour')"));
    assert_ne!(hour, digest("TUMBLE(trips, at, INTERVAL '2 hours')"));
    assert_ne!(hour, digest("TUMBLE(trips, at, INTERVAL '1 hour', INTERVAL '1 minute')"));
}
