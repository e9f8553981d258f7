//! Emitted as they close, the windows of all slices are those of the query over every row that was not late.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use datafusion::execution::SessionState;
use datafusion::physical_plan::streaming::PartitionStream;
use proptest::prelude::*;

use crate::incremental::tests::Kept;
use crate::tests::{definition, lines, plan_with, run, scan_schema, state};
use crate::{Between, Closing, Plan};

const HOUR: i64 = 3_600_000_000;
const DELAY: i64 = 2 * HOUR;

const SOURCES: &str = "
CREATE SOURCE events (
    k VARCHAR, n BIGINT, at TIMESTAMP, WATERMARK FOR at AS at - INTERVAL '2 hours' ON LATE DROP
) WITH (connector = 'object_store', path = 'x', format = 'json');
CREATE SOURCE more (
    k VARCHAR, n BIGINT, at TIMESTAMP, twice BIGINT GENERATED ALWAYS AS (n * 2) STORED,
    WATERMARK FOR at AS at - INTERVAL '2 hours' ON LATE QUARANTINE
) WITH (connector = 'object_store', path = 'x', format = 'json');
CREATE TABLE names (k VARCHAR, label VARCHAR) WITH (connector = 'object_store', path = 'x', format = 'json');
CREATE VIEW hourly AS SELECT k, n, date_trunc('hour', at) AS hour FROM events WHERE n <> 3;
";

/// Key, number, hour.
type Event = (u8, i64, i64);

const QUERIES: [&str; 17] = [
    "SELECT k, window_start, window_end, count(*) AS c, sum(n) AS s FROM TUMBLE(events, at, INTERVAL '3 hours')
     GROUP BY k, window_start, window_end",
    "SELECT window_end, count(DISTINCT k) AS c FROM HOP(events, at, INTERVAL '1 hour', INTERVAL '3 hours')
     GROUP BY window_end",
    "SELECT window_start, k, max(n) AS m FROM HOP(events, at, INTERVAL '2 hours', INTERVAL '5 hours')
     GROUP BY k, window_start",
    "SELECT window_start, window_end, sum(n) AS s FROM CUMULATE(events, at, INTERVAL '2 hours', INTERVAL '6 hours')
     GROUP BY window_start, window_end",
    "SELECT window_end, count(*) AS c FROM TUMBLE(events, at, INTERVAL '1 month') GROUP BY window_end",
    "SELECT window_end, count(*) AS c FROM TUMBLE(events, at, INTERVAL '4 hours', INTERVAL '1 hour')
     GROUP BY window_end",
    "SELECT k, date_trunc('hour', at) AS hour, avg(n) AS a FROM events GROUP BY k, date_trunc('hour', at)",
    "SELECT date_bin(INTERVAL '2 hours', at) AS bin, min(n) AS m FROM events GROUP BY date_bin(INTERVAL '2 hours', at)",
    "SELECT CAST(at AS DATE) AS day, count(*) AS c FROM events GROUP BY CAST(at AS DATE)",
    "SELECT at, count(*) AS c FROM events GROUP BY at",
    "SELECT date_trunc('day', at) AS day, max(n / 3.0 - 1) AS m, min(n * 0.5 - 1) FILTER (WHERE k <> 'K1') AS l
     FROM events GROUP BY date_trunc('day', at)",
    "SELECT hour, k, sum(n) AS s FROM hourly GROUP BY hour, k HAVING count(*) > 1",
    "SELECT k, window_end, c FROM (
         SELECT k, window_end, c, row_number() OVER (PARTITION BY window_end ORDER BY c DESC, k) AS r FROM (
             SELECT k, window_end, count(*) AS c FROM TUMBLE(events, at, INTERVAL '2 hours') GROUP BY k, window_end
         ) g
     ) t WHERE r <= 2",
    "SELECT window_end, max(c) AS most, count(*) AS keys FROM (
         SELECT k, window_end, count(*) AS c FROM TUMBLE(events, at, INTERVAL '2 hours') GROUP BY k, window_end
     ) g GROUP BY window_end",
    "SELECT l.label, e.hour, sum(e.n) AS s FROM hourly e LEFT JOIN names l ON e.k = l.k GROUP BY l.label, e.hour",
    "SELECT g.hour, g.c, l.label FROM (SELECT hour, k, count(*) AS c FROM hourly GROUP BY hour, k) g
     JOIN names l ON g.k = l.k",
    "SELECT window_end, k, count(*) AS c, sum(n) AS s FROM TUMBLE((
         SELECT k, n, at FROM events UNION ALL SELECT k, twice, at + INTERVAL '1 hour' FROM more WHERE n > 1
     ), at, INTERVAL '2 hours') GROUP BY k, window_end",
];

fn text(query: &str) -> String {
    format!("{SOURCES} CREATE FEATURE SET s EMIT ON WINDOW CLOSE WITH (path = 'x') AS {query};")
}

fn batch(rows: &[Event]) -> RecordBatch {
    let keys: StringArray = rows.iter().map(|row| Some(format!("K{}", row.0 % 4))).collect();
    let numbers: Int64Array = rows.iter().map(|row| Some(row.1 % 7)).collect();
    let times: TimestampMicrosecondArray = rows.iter().map(|row| Some(row.2 * HOUR)).collect();
    let schema = scan_schema(&definition(&text(QUERIES[0])).sources[0]);
    RecordBatch::try_new(schema, vec![Arc::new(keys), Arc::new(numbers), Arc::new(times)]).unwrap()
}

/// Rows of both sources; they are the same in both.
fn planned(query: &str, rows: &[Event], state: &SessionState) -> Plan {
    let batches: Vec<_> = rows.chunks(3.max(rows.len() / 4)).map(batch).collect();
    let found = definition(&text(query));
    let names = found.sources.iter().find(|source| source.name.value == "names").unwrap();
    let labels: [arrow::array::ArrayRef; 2] =
        [Arc::new(StringArray::from(vec!["K0", "K1"])), Arc::new(StringArray::from(vec!["zero", "one"]))];
    let names = RecordBatch::try_new(scan_schema(names), labels.to_vec()).unwrap();
    let data = BTreeMap::from([("events", batches.clone()), ("more", batches), ("names", vec![names])]);
    let (plan, found) = plan_with(&text(query), &data, &[], state);
    plan.unwrap_or_else(|| panic!("{query}: {found:#?}"))
}

/// What is emitted slice by slice, and at the end; and the rows that were not late.
async fn emitted(query: &str, slices: &[Vec<Event>], state: &SessionState) -> (Vec<Vec<String>>, Vec<Event>) {
    let (mut segments, mut closed, mut watermark): (Vec<Arc<dyn PartitionStream>>, Option<i64>, Option<i64>) =
        Default::default();
    let (mut emitted, mut admitted) = (Vec::new(), Vec::new());
    for slice in slices {
        let is_in_time = |row: &&Event| watermark.is_none_or(|watermark| row.2 * HOUR >= watermark);
        let rows: Vec<Event> = slice.iter().filter(is_in_time).copied().collect();
        let plan = planned(query, &rows, state);
        let (incremental, closing) = plan.set("s").unwrap().closing().unwrap_or_else(|| panic!("{query}"));
        let known = watermark.map(|at| BTreeMap::from([("events", at), ("more", at)])).unwrap_or_default();
        let limit = closing.limit(&known).unwrap();
        if let Some(to) = limit.filter(|to| closed.is_none_or(|closed| closed < *to)) {
            let between = Between { from: closed, to: Some(to) };
            let emit = incremental.emit_between(state, segments.clone(), between).await.unwrap();
            assert_eq!(emit.schema(), plan.set("s").unwrap().physical(state).await.unwrap().schema(), "{query}");
            emitted.push(lines(&run(emit, state).await.concat(), ""));
            closed = Some(to);
        }
        let schema = Arc::clone(incremental.state_schema());
        let keep = |rows: Vec<RecordBatch>| -> Arc<dyn PartitionStream> {
            let rows = rows.iter().map(|rows| RecordBatch::try_new(Arc::clone(&schema), rows.columns().to_vec()));
            Arc::new(Kept(Arc::clone(&schema), rows.collect::<Result<_, _>>().unwrap()))
        };
        let new = run(incremental.absorb(state, None).await.unwrap(), state).await.concat();
        for groups in new.iter().filter(|groups| groups.num_rows() > 0) {
            let (oldest, _) = Closing::range(groups).unwrap().unwrap();
            assert!(closed.is_none_or(|closed| closed <= oldest), "{query}: a row came into a window that is closed");
        }
        segments.push(keep(new));
        if segments.len() == 3 {
            let merged = incremental.merge(std::mem::take(&mut segments), Between::open(closed)).unwrap();
            segments.push(keep(run(merged, state).await.concat()));
        }
        watermark = watermark.max(rows.iter().map(|row| row.2 * HOUR - DELAY).max());
        admitted.extend(rows);
    }
    let plan = planned(query, &[], state);
    let (incremental, closing) = plan.set("s").unwrap().closing().unwrap();
    assert_eq!(closing.limit(&BTreeMap::from([("events", i64::MAX), ("more", i64::MAX)])).unwrap(), Some(i64::MAX));
    if !segments.is_empty() {
        let emit = incremental.emit_between(state, segments, Between::open(closed)).await.unwrap();
        emitted.push(lines(&run(emit, state).await.concat(), ""));
    }
    (emitted, admitted)
}

async fn check(query: &str, slices: &[Vec<Event>], partitions: usize) {
    let state = state(partitions);
    let (emitted, admitted) = emitted(query, slices, &state).await;
    let mut exact = state.clone();
    for function in crate::exact_aggregates() {
        datafusion::execution::FunctionRegistry::register_udaf(&mut exact, function).unwrap();
    }
    let one_pass = planned(query, &admitted, &exact).set("s").unwrap().physical(&exact).await.unwrap();
    let mut expected = lines(&run(one_pass, &exact).await.concat(), "");
    let mut found = emitted.concat();
    expected.sort();
    found.sort();
    assert_eq!(found, expected, "{query} over {slices:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn every_window_is_emitted_once_and_whole(
        slices in prop::collection::vec(prop::collection::vec((0..4_u8, 0..7_i64, -20..60_i64), 0..12), 1..6),
        query in prop::sample::select(QUERIES.to_vec()),
        partitions in 1..4_usize,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(check(query, &slices, partitions));
    }
}

/// A day of events in order, in slices of an hour.
fn day() -> Vec<Vec<Event>> {
    (0..24).map(|hour| (0..8).map(|at| (at, i64::from(at) + hour, hour)).collect()).collect()
}

#[tokio::test]
async fn every_query_emits_a_day_hour_by_hour() {
    for query in QUERIES {
        check(query, &day(), 2).await;
    }
}

#[tokio::test]
async fn a_window_is_emitted_when_the_watermark_reaches_its_end_and_not_before() {
    let (emitted, _) = emitted(
        "SELECT window_start, window_end, count(*) AS c FROM TUMBLE(events, at, INTERVAL '3 hours')
         GROUP BY window_start, window_end",
        &day(),
        &state(2),
    )
    .await;
    // The first slice whose watermark before it is beyond 03:00 is that of 06:00, since 05:00 less two hours is 03:00.
    let emitted: Vec<_> = emitted.into_iter().filter(|rows| !rows.is_empty()).collect();
    assert_eq!(emitted[0], ["1970-01-01T00:00:00|1970-01-01T03:00:00|24"]);
    let windows: Vec<_> = emitted.iter().map(Vec::len).collect();
    assert_eq!(windows, [1, 1, 1, 1, 1, 1, 2], "{emitted:?}");
}

#[track_caller]
fn is_refused(query: &str, why: &str) {
    let (plan, found) = plan_with(&text(query), &BTreeMap::new(), &[], &state(2));
    assert!(plan.is_none(), "{query}");
    let told: Vec<_> = found.iter().map(|found| found.message.as_str()).collect();
    assert!(told.iter().any(|told| told.contains(why)), "{query}: {told:#?}");
}

#[test]
fn what_never_closes_is_refused() {
    let check = is_refused;
    check("SELECT k, count(*) AS c FROM events GROUP BY k", "no key of `GROUP BY` follows a watermark");
    check("SELECT k, n FROM events", "each row of this query is final");
    check("SELECT label, count(*) AS c FROM names GROUP BY label", "reads tables only");
    check(
        "SELECT k, window_end, count(*) AS c FROM SESSION(events PARTITION BY k, at, INTERVAL '1 hour')
         GROUP BY k, window_end",
        "does not close sessions",
    );
    check(
        "SELECT date_trunc('hour', at) AS h, array_agg(n) AS a FROM events GROUP BY date_trunc('hour', at)",
        "`array_agg` needs all rows",
    );
    check("SELECT n, at, count(*) AS c FROM events GROUP BY n, at ORDER BY at", "no ORDER BY or LIMIT");
    let hourly = "(SELECT hour, k, count(*) AS c FROM hourly GROUP BY hour, k) g";
    check(&format!("SELECT max(c) AS m FROM {hourly}"), "groups of several windows are aggregated");
    check(&format!("SELECT k, sum(c) AS m FROM {hourly} GROUP BY k"), "groups of several windows are aggregated");
    check(&format!("SELECT DISTINCT c FROM {hourly}"), "`DISTINCT` is over groups of several windows");
    check(&format!("SELECT hour, rank() OVER (ORDER BY c) AS r FROM {hourly}"), "is not over `PARTITION BY`");
    check(&format!("SELECT g.c, l.label FROM names l LEFT JOIN {hourly} ON g.k = l.k"), "keeps rows of a table");
}
