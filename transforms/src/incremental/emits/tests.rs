//! Emitted once they are final, the rows of all slices are those of the query over every row that was not late.

mod generated;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use bessemer_schemas::Diagnostic;
use datafusion::datasource::MemTable;
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::execution::{FunctionRegistry, SessionState};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::streaming::PartitionStream;
use proptest::prelude::*;

use self::generated::with_views;
use crate::incremental::tests::Kept;
use crate::tests::{definition, lines, run, scan_schema, state};
use crate::{Between, Emits, Plan, PlannedSet, Range, Relation, Resident, SegmentRows};

const HOUR: i64 = 3_600_000_000;
const DELAY: i64 = 2 * HOUR;

const SOURCES: &str = "
CREATE SOURCE events (
    k VARCHAR, n BIGINT, at TIMESTAMP, WATERMARK FOR at AS at - INTERVAL '2 hours' ON LATE DROP
) WITH (connector = 'object_store', path = 'x', format = 'json');
CREATE SOURCE more (
    k VARCHAR, n BIGINT, at TIMESTAMP NOT NULL, twice BIGINT GENERATED ALWAYS AS (n * 2) STORED,
    WATERMARK FOR at AS at - INTERVAL '2 hours' ON LATE QUARANTINE
) WITH (connector = 'object_store', path = 'x', format = 'json');
CREATE TABLE names (k VARCHAR, label VARCHAR) WITH (connector = 'object_store', path = 'x', format = 'json');
CREATE TABLE since (k VARCHAR, since TIMESTAMP) WITH (connector = 'object_store', path = 'x', format = 'json');
CREATE VIEW hourly AS SELECT k, n, date_trunc('hour', at) AS hour FROM events WHERE n <> 3;
";

/// Of windows, which are kept as partial aggregates.
const WINDOWS: [&str; 17] = [
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

/// Of rows, which are kept as they are.
const ROWS: [&str; 45] = [
    "SELECT k, at, sum(n) OVER (PARTITION BY k ORDER BY at RANGE BETWEEN INTERVAL '3 hours' PRECEDING AND CURRENT ROW) AS s
     FROM events",
    "SELECT k, at, count(*) OVER short AS a, avg(n / 3.0) OVER long AS b, max(n * 0.5) OVER long AS c FROM events
     WINDOW short AS (PARTITION BY k ORDER BY at RANGE BETWEEN INTERVAL '1 hour' PRECEDING AND CURRENT ROW),
            long AS (PARTITION BY k ORDER BY at RANGE BETWEEN INTERVAL '1 day' PRECEDING AND INTERVAL '1 hour' PRECEDING)",
    "SELECT k, at, sum(n) OVER (ORDER BY at DESC RANGE BETWEEN INTERVAL '2 hours' PRECEDING AND INTERVAL '1 hour' FOLLOWING)
     AS s FROM events",
    "SELECT k, at, n, lag(n) OVER (PARTITION BY k ORDER BY at, n) AS l FROM events",
    "SELECT k, at, sum(n) OVER (PARTITION BY k ORDER BY at, n ROWS BETWEEN 2 PRECEDING AND CURRENT ROW) AS s FROM events",
    "SELECT k, at, n, lag(n, 2) OVER (PARTITION BY k ORDER BY at) AS l FROM events",
    "SELECT k, at, first_value(n) OVER w AS f, last_value(n) OVER w AS l FROM events
     WINDOW w AS (PARTITION BY k ORDER BY at RANGE BETWEEN INTERVAL '2 hours' PRECEDING AND CURRENT ROW)",
    "SELECT k, n, at FROM (
         SELECT k, n, at, count(*) OVER (PARTITION BY k ORDER BY at RANGE BETWEEN INTERVAL '6 hours' PRECEDING AND
                                         INTERVAL '1 microsecond' PRECEDING) AS before FROM events
     ) t WHERE before = 0",
    "SELECT DISTINCT k, at FROM events",
    "SELECT k, n, window_end FROM (
         SELECT k, n, window_end, row_number() OVER (PARTITION BY k, window_end ORDER BY n DESC, at) AS r
         FROM TUMBLE(events, at, INTERVAL '2 hours')
     ) t WHERE r = 1",
    "SELECT k, window_start, window_end, count(*) AS c, sum(n) AS s
     FROM SESSION(events PARTITION BY k, at, INTERVAL '2 hours') GROUP BY k, window_start, window_end",
    "SELECT k, window_end, count(*) AS c FROM SESSION((
         SELECT coalesce(t.label, 'none') AS k, e.at FROM events e LEFT JOIN names t ON e.k = t.k
     ) PARTITION BY k, at, INTERVAL '1 hour') GROUP BY k, window_end",
    "SELECT window_end, count(*) AS c FROM SESSION(hourly, hour, INTERVAL '3 hours') GROUP BY window_start, window_end",
    "SELECT k, window_end, count(*) AS c FROM SESSION(events PARTITION BY k, at, INTERVAL '1 hour') GROUP BY k, window_end
     UNION ALL
     SELECT k, window_end, sum(n) FROM SESSION(events PARTITION BY k, at, INTERVAL '3 hours') GROUP BY k, window_end
     UNION ALL SELECT DISTINCT k, at, n FROM events",
    "SELECT l.k, l.at, l.n, r.n AS m FROM events l JOIN more r
     ON l.k = r.k AND r.at BETWEEN l.at - INTERVAL '2 hours' AND l.at + INTERVAL '1 hour'",
    "SELECT l.k, l.at, l.n, r.n AS m FROM events l LEFT JOIN more r
     ON l.k = r.k AND r.at >= l.at - INTERVAL '2 hours' AND r.at < l.at",
    "SELECT l.k, r.at, l.n, r.twice FROM events l RIGHT JOIN more r
     ON l.k = r.k AND l.at >= r.at AND l.at - INTERVAL '3 hours' <= r.at AND l.n < r.twice",
    "SELECT l.k, l.at, l.n FROM events l LEFT SEMI JOIN more r ON l.k = r.k AND r.at > l.at AND r.at <= l.at + INTERVAL '4 hours'",
    "SELECT l.k, l.at, l.n FROM events l LEFT ANTI JOIN more r ON l.k = r.k AND r.at = l.at",
    "SELECT l.k, l.at, r.n FROM events l, more r
     WHERE l.k = r.k AND l.n = r.n AND l.at <= r.at AND r.at <= l.at + INTERVAL '90 minutes'",
    "SELECT a.k, a.at, b.n FROM events a JOIN events b ON a.k = b.k AND b.at BETWEEN a.at - INTERVAL '1 hour' AND a.at",
    "SELECT a.k, a.window_end, a.c, b.s FROM (
         SELECT k, window_end, count(*) AS c FROM TUMBLE(events, at, INTERVAL '2 hours') GROUP BY k, window_end
     ) a LEFT JOIN (
         SELECT k, window_end, sum(n) AS s FROM HOP(more, at, INTERVAL '1 hour', INTERVAL '3 hours') GROUP BY k, window_end
     ) b ON a.k = b.k AND a.window_end = b.window_end",
    "SELECT window_end, k, c, avg(c) OVER (PARTITION BY k ORDER BY window_end RANGE BETWEEN INTERVAL '6 hours' PRECEDING AND
                                          CURRENT ROW) AS mean
     FROM (SELECT k, window_end, count(*) AS c FROM TUMBLE(events, at, INTERVAL '2 hours') GROUP BY k, window_end) g",
    "SELECT window_end, sum(c) AS c, max(s) AS s FROM TUMBLE((
         SELECT k, date_trunc('hour', at) AS hour, count(*) AS c, sum(n) AS s FROM events GROUP BY k, date_trunc('hour', at)
     ), hour, INTERVAL '1 day') GROUP BY window_end",
    "SELECT l.k, l.at, l.n, r.n AS m FROM events l ASOF JOIN more r MATCH_CONDITION (l.at >= r.at) ON l.k = r.k",
    "SELECT l.k, l.at, l.n, r.twice FROM events l ASOF LEFT JOIN more r MATCH_CONDITION (l.at > r.at) ON l.k = r.k",
    "SELECT l.k, l.at, l.n, r.s, r.before FROM events l ASOF LEFT JOIN (
         SELECT k, at, sum(n) OVER (PARTITION BY k ORDER BY at RANGE BETWEEN INTERVAL '2 hours' PRECEDING AND CURRENT ROW) AS s,
                lag(n, 2) OVER (PARTITION BY k ORDER BY at, n) AS before FROM more WHERE n <> 2
     ) r MATCH_CONDITION (l.at >= r.at) ON l.k = r.k",
    "SELECT l.k, l.at, l.n, r.before FROM events l ASOF JOIN (
         SELECT k, at, lag(n) OVER (PARTITION BY k ORDER BY at, n) AS before FROM more
     ) r MATCH_CONDITION (l.at >= r.at) ON l.k = r.k",
    "SELECT l.k, l.at, l.n, r.n AS m, r.s FROM events l ASOF JOIN (
         SELECT k, at, n, sum(n) OVER (PARTITION BY k ORDER BY at RANGE BETWEEN INTERVAL '5 hours' PRECEDING AND CURRENT ROW) AS s
         FROM more
     ) r MATCH_CONDITION (l.at > r.at) ON l.k = r.k",
    "SELECT k, at, n FROM events UNION ALL
     SELECT k, at, sum(n) OVER (PARTITION BY k ORDER BY at RANGE BETWEEN INTERVAL '1 hour' PRECEDING AND CURRENT ROW) FROM more",
    "SELECT k, at, twice FROM more UNION ALL
     SELECT l.k, l.at, l.n FROM (SELECT k, at, n FROM events UNION ALL SELECT k, at, twice FROM more) l
     JOIN events r ON l.k = r.k AND r.at = l.at",
    "SELECT j.k, j.at, j.n, l.label FROM (
         SELECT a.k, a.at, b.n FROM events a JOIN more b ON a.k = b.k AND b.at BETWEEN a.at AND a.at + INTERVAL '2 hours'
     ) j LEFT JOIN names l ON j.k = l.k",
    "SELECT k, window_end, array_agg(n) AS a, string_agg(k, ',' ORDER BY n DESC) AS s, median(n) AS m
     FROM TUMBLE(events, at, INTERVAL '2 hours') GROUP BY k, window_end",
    "SELECT date_trunc('hour', at) AS hour, first_value(n ORDER BY n DESC) AS f, last_value(k ORDER BY at) AS l, sum(n) AS s,
            array_agg(DISTINCT n) AS d, array_agg(k ORDER BY n) FILTER (WHERE n > 1) AS o, nth_value(n, 2 ORDER BY k) AS t
     FROM events GROUP BY date_trunc('hour', at)",
    "SELECT k, date_trunc('day', at) AS day, first_value(n ORDER BY at NULLS FIRST) AS f, last_value(n ORDER BY at NULLS FIRST) AS l,
            first_value(n ORDER BY at DESC, n) AS r, array_agg(n ORDER BY at NULLS FIRST) AS a FROM more GROUP BY k, date_trunc('day', at)",
    "SELECT window_end, skewness(n / 7.0) AS a, kurtosis(n / 3.0) AS b, top_k(k, 2) AS t, approx_percentile_cont(0.3)
            WITHIN GROUP (ORDER BY n / 7.0) AS p, decayed_sum(n / 7.0, at, INTERVAL '1 hour') AS d, count(DISTINCT n) AS c,
            sum(DISTINCT n / 7.0) AS s, max(CAST(n AS REAL)) AS m
     FROM HOP(events, at, INTERVAL '2 hours', INTERVAL '6 hours') GROUP BY window_end",
    "SELECT k, window_end, array_agg(n) AS a FROM SESSION(events PARTITION BY k, at, INTERVAL '2 hours') GROUP BY k, window_end",
    "SELECT a.k, a.window_end, a.a, b.s FROM (
         SELECT k, window_end, array_agg(n) AS a FROM TUMBLE(events, at, INTERVAL '2 hours') GROUP BY k, window_end
     ) a JOIN (
         SELECT k, window_end, array_agg(n) AS s FROM TUMBLE(more, at, INTERVAL '2 hours') GROUP BY k, window_end
     ) b ON a.k = b.k AND a.window_end = b.window_end",
    "SELECT DISTINCT ON (k, window_end) k, window_end, n, at FROM TUMBLE(events, at, INTERVAL '3 hours')
     ORDER BY k, window_end, n DESC",
    "SELECT coalesce(l.k, r.k) AS k, coalesce(l.at, r.at) AS at, l.n, r.n AS m FROM events l FULL JOIN more r
     ON l.k = r.k AND r.at BETWEEN l.at - INTERVAL '3 hours' AND l.at + INTERVAL '1 hour'",
    "SELECT coalesce(l.k, r.k) AS k, coalesce(l.at, r.at) AS at, l.n, r.twice FROM events l FULL JOIN more r USING (k, at)",
    "SELECT window_end, count(*) AS c, sum(m) AS s FROM TUMBLE((
         SELECT coalesce(l.at, r.at) AS at, r.n AS m FROM events l FULL JOIN more r ON l.k = r.k AND l.at = r.at
     ), at, INTERVAL '3 hours') GROUP BY window_end",
    "SELECT coalesce(b.hour, a.hour) AS hour, a.c, b.s FROM (
         SELECT hour, count(*) AS c FROM hourly GROUP BY hour
     ) a FULL JOIN (
         SELECT date_trunc('hour', at) AS hour, sum(n) AS s FROM more GROUP BY date_trunc('hour', at)
     ) b ON a.hour = b.hour WHERE a.c IS NULL OR a.c > 1",
    "SELECT coalesce(l.at, r.at) AS at, l.k, r.k AS other FROM (
         SELECT k, at, lag(n) OVER (PARTITION BY k ORDER BY at, n) AS n FROM events
     ) l FULL JOIN more r ON l.n = r.n AND l.at >= r.at AND l.at <= r.at + INTERVAL '2 hours'",
    "SELECT k, n, at FROM more UNION ALL
     (SELECT DISTINCT ON (date_trunc('hour', at)) k, n, at FROM more ORDER BY date_trunc('hour', at), n, k, at)",
];

fn text(query: &str) -> String {
    let (views, query) = with_views(query);
    format!("{SOURCES} {views} CREATE FEATURE SET s EMIT ON WINDOW CLOSE WITH (path = 'x') AS {query};")
}

/// Key, number, hour.
type Event = (Option<u8>, Option<i64>, i64);

/// Rows of the two sources.
type Slice = (Vec<Event>, Vec<Event>);

fn batch(rows: &[Event]) -> RecordBatch {
    let keys: StringArray = rows.iter().map(|row| row.0.map(|key| format!("K{}", key % 4))).collect();
    let numbers: Int64Array = rows.iter().map(|row| row.1.map(|number| number % 7)).collect();
    let times: TimestampMicrosecondArray = rows.iter().map(|row| Some(row.2 * HOUR)).collect();
    let schema = scan_schema(&definition(&text(WINDOWS[0])).sources[0]);
    RecordBatch::try_new(schema, vec![Arc::new(keys), Arc::new(numbers), Arc::new(times)]).unwrap()
}

/// A query that is planned once, over sources whose rows are put in.
struct Query {
    plan: Plan,
    events: Arc<MemTable>,
    more: Arc<MemTable>,
}

impl Query {
    /// What is told where it is refused.
    fn new(query: &str, state: &SessionState) -> Result<Self, Vec<String>> {
        let definition = definition(&text(query));
        let labels: [arrow::array::ArrayRef; 2] =
            [Arc::new(StringArray::from(vec!["K0", "K1"])), Arc::new(StringArray::from(vec!["zero", "one"]))];
        let tables = definition.sources.iter().map(|source| {
            let schema = scan_schema(source);
            let mut partitions = vec![Vec::new(); 3];
            if source.name.value == "names" {
                partitions[0].push(RecordBatch::try_new(Arc::clone(&schema), labels.to_vec()).unwrap());
            }
            (source.name.value.as_str(), Arc::new(MemTable::try_new(schema, partitions).unwrap()))
        });
        let tables: BTreeMap<_, _> = tables.collect();
        let relations = definition.sources.iter().map(|source| {
            let table = Arc::clone(&tables[source.name.value.as_str()]);
            // No set that keeps rows knows where they come from.
            Relation { name: source.name.value.clone(), plain: Arc::clone(&table) as _, with_origin: table }
        });
        let relations: Vec<_> = relations.collect();
        let (plan, found) = crate::plan(&definition, &relations, &BTreeMap::new(), state);
        let told: Vec<_> = found.into_iter().filter(Diagnostic::is_error).map(|found| found.message).collect();
        let [events, more] = ["events", "more"].map(|name| Arc::clone(&tables[name]));
        if told.is_empty() { Ok(Self { plan, events, more }) } else { Err(told) }
    }

    fn set(&self) -> &PlannedSet {
        self.plan.set("s").unwrap()
    }

    fn emits(&self) -> &dyn Emits {
        self.set().emits().unwrap()
    }

    /// Lets the sources have the rows of `slice`, and no others.
    async fn put(&self, (events, more): &Slice) {
        for (table, rows) in [(&self.events, events), (&self.more, more)] {
            for partition in &table.batches {
                partition.write().await.clear();
            }
            for (at, rows) in rows.chunks(3.max(rows.len() / 4)).enumerate() {
                table.batches[at % 3].write().await.push(batch(rows));
            }
        }
    }
}

/// What is kept, as an epoch keeps it.
struct Segments<'a> {
    state: &'a SessionState,
    kept: Vec<(usize, Range, Arc<dyn PartitionStream>)>,
}

impl Segments<'_> {
    fn of(&self, input: usize) -> Vec<Arc<dyn PartitionStream>> {
        let of_input = self.kept.iter().filter(|(of, ..)| *of == input);
        of_input.map(|(.., rows)| Arc::clone(rows)).collect()
    }

    /// Those that have a part in rows that are `between`, by input: in memory where rows can be looked up in them, but for
    /// some.
    async fn concerned(&self, emits: &dyn Emits, between: Between) -> Vec<Vec<SegmentRows>> {
        let mut concerned = vec![Vec::new(); emits.states().len()];
        for (at, (input, range, rows)) in self.kept.iter().enumerate() {
            if !emits.concerns(*input, *range, between) {
                continue;
            }
            let rows = match emits.lookup(*input).filter(|_| at % 5 != 4) {
                Some(lookup) => {
                    let context = self.state.task_ctx();
                    let memory = MemoryConsumer::new("kept").register(context.memory_pool());
                    let read = Resident::read(rows.execute(context), lookup, memory, usize::MAX).await;
                    SegmentRows::Resident(Arc::new(read.unwrap().unwrap()))
                }
                None => SegmentRows::Stored(Arc::clone(rows)),
            };
            concerned[*input].push(rows);
        }
        concerned
    }

    /// Makes one of those of an input, but for the first of them.
    async fn merge(&mut self, emits: &dyn Emits, input: usize, closed: Option<i64>, but: usize) {
        let many = self.of(input).split_off(but);
        let ranges = self.kept.iter().filter(|(of, ..)| *of == input).take(but).map(|(_, range, _)| range.1);
        let beside = ranges.max();
        let mut passed = 0;
        self.kept.retain(|(of, ..)| {
            passed += usize::from(*of == input);
            *of != input || passed <= but
        });
        let merged = emits.merge(self.state, input, many, closed, beside).await.unwrap();
        self.add(emits, input, merged).await;
    }

    /// Adds a segment with the rows of a plan.
    async fn add(&mut self, emits: &dyn Emits, input: usize, plan: Arc<dyn ExecutionPlan>) -> Option<Range> {
        let schema = Arc::clone(emits.states()[input]);
        let rows = run(plan, self.state).await.concat();
        let rows = rows.iter().filter(|rows| rows.num_rows() > 0);
        let rows: Vec<_> =
            rows.map(|rows| RecordBatch::try_new(Arc::clone(&schema), rows.columns().to_vec()).unwrap()).collect();
        let ranges = rows.iter().filter_map(|rows| emits.range(input, rows).unwrap());
        let range = ranges.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))?;
        self.kept.push((input, range, Arc::new(Kept(schema, rows))));
        Some(range)
    }
}

/// What an epoch has absorbed.
struct Absorbed {
    slice: Slice,
    /// The range of each input.
    ranges: Vec<Option<Range>>,
    /// The time before which rows were emitted.
    closed: Option<i64>,
}

/// Makes segments anew of what epochs have `absorbed`, two at a time, and only those on which rows to come may depend, where
/// rows before `closed` were emitted.
async fn made_anew<'a>(
    query: &Query,
    absorbed: &[Absorbed],
    closed: Option<i64>,
    state: &'a SessionState,
) -> Segments<'a> {
    let emits = query.emits();
    let is_needed = |(input, range): (usize, &Option<Range>)| {
        range.is_some_and(|range| closed.is_none_or(|closed| !emits.is_spent(input, range, closed)))
    };
    let needed = absorbed.iter().filter(|epoch| epoch.ranges.iter().enumerate().any(is_needed));
    let mut segments = Segments { state, kept: Vec::new() };
    for batch in needed.collect::<Vec<_>>().chunks(2) {
        let rows = |of: fn(&Slice) -> &Vec<Event>| batch.iter().flat_map(|epoch| of(&epoch.slice).clone()).collect();
        query.put(&(rows(|slice| &slice.0), rows(|slice| &slice.1))).await;
        // All rows before it are there already.
        let closed = batch[0].closed;
        for input in 0..emits.states().len() {
            if !segments.of(input).is_empty() {
                segments.merge(emits, input, closed, 0).await;
            }
            let new = emits.absorb(state, input).await.unwrap();
            segments.add(emits, input, new).await;
        }
    }
    segments
}

/// What is emitted slice by slice, and at the end; and the rows that were not late. Now and then what is kept is lost, and
/// made anew. Nothing where the query is refused.
async fn emitted(
    query: &str,
    slices: &[Slice],
    state: &SessionState,
) -> Result<(Vec<Vec<String>>, Slice), Vec<String>> {
    let query = Query::new(query, state)?;
    let (set, emits) = (query.set(), query.emits());
    let mut segments = Segments { state, kept: Vec::new() };
    let (mut closed, mut watermarks): (Option<i64>, [Option<i64>; 2]) = Default::default();
    let (mut emitted, mut admitted, mut absorbed) = (Vec::new(), Slice::default(), Vec::new());
    for slice in slices {
        let in_time = |rows: &[Event], watermark: Option<i64>| -> Vec<Event> {
            let is_in_time = |row: &&Event| watermark.is_none_or(|watermark| row.2 * HOUR >= watermark);
            rows.iter().filter(is_in_time).copied().collect()
        };
        let slice = (in_time(&slice.0, watermarks[0]), in_time(&slice.1, watermarks[1]));
        query.put(&slice).await;
        let known = ["events", "more"].into_iter().zip(watermarks);
        let limit = emits.limit(&known.filter_map(|(name, at)| Some((name, at?))).collect()).unwrap();
        if let Some(to) = limit.filter(|to| closed.is_none_or(|closed| closed < *to)) {
            let between = Between { from: closed, to: Some(to) };
            let emit = emits.emit(state, segments.concerned(emits, between).await, between).await.unwrap();
            assert_eq!(emit.schema(), set.physical(state).await.unwrap().schema());
            emitted.push(lines(&run(emit, state).await.concat(), ""));
            closed = Some(to);
            segments.kept.retain(|(input, range, _)| !emits.is_spent(*input, *range, to));
        }
        let mut ranges = Vec::new();
        for input in 0..emits.states().len() {
            if segments.of(input).len() == 3 {
                segments.merge(emits, input, closed, absorbed.len() % 3).await;
            }
            let new = emits.absorb(state, input).await.unwrap();
            let range = segments.add(emits, input, new).await;
            if let (Some(range), Some(closed)) = (range, closed) {
                assert!(!emits.is_late(input, range, closed), "a row came late");
            }
            ranges.push(range);
        }
        absorbed.push(Absorbed { slice: slice.clone(), ranges, closed });
        if slice.0.len() % 4 == 0 {
            segments = made_anew(&query, &absorbed, closed, state).await;
        }
        let newest = |rows: &[Event]| rows.iter().map(|row| row.2 * HOUR - DELAY).max();
        watermarks = [watermarks[0].max(newest(&slice.0)), watermarks[1].max(newest(&slice.1))];
        admitted.0.extend(slice.0);
        admitted.1.extend(slice.1);
    }
    query.put(&Slice::default()).await;
    assert_eq!(emits.limit(&BTreeMap::from([("events", i64::MAX), ("more", i64::MAX)])).unwrap(), Some(i64::MAX));
    let between = Between::open(closed);
    let emit = emits.emit(state, segments.concerned(emits, between).await, between).await.unwrap();
    emitted.push(lines(&run(emit, state).await.concat(), ""));
    Ok((emitted, admitted))
}

/// Checks what is emitted against the query over all rows at once; says whether the query is not refused.
async fn check(query: &str, slices: &[Slice], partitions: usize) -> Result<(), Vec<String>> {
    let state = state(partitions);
    let (emitted, admitted) = emitted(query, slices, &state).await?;
    let mut exact = state.clone();
    for function in crate::exact_aggregates() {
        exact.register_udaf(function).unwrap();
    }
    let whole = Query::new(query, &exact)?;
    whole.put(&admitted).await;
    let one_pass = whole.set().physical(&exact).await.unwrap();
    let one_pass = crate::incremental::release::in_total_order(one_pass).unwrap();
    let mut expected = lines(&run(one_pass, &exact).await.concat(), "");
    let mut found = emitted.concat();
    expected.sort();
    found.sort();
    assert_eq!(found, expected, "{query} over {slices:?}");
    Ok(())
}

/// The queries that are written out.
fn queries() -> Vec<&'static str> {
    WINDOWS.into_iter().chain(ROWS).collect()
}

fn slices() -> impl Strategy<Value = Vec<Slice>> {
    let rows = || {
        prop::collection::vec(
            (prop::option::weighted(0.9, 0..4_u8), prop::option::weighted(0.9, 0..7_i64), -20..60_i64),
            0..12,
        )
    };
    prop::collection::vec((rows(), rows()), 1..6)
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn every_row_is_emitted_once_and_whole(
        slices in slices(),
        query in prop::sample::select(queries()),
        partitions in 1..4_usize,
    ) {
        block_on(check(query, &slices, partitions)).map_err(|told| format!("{query}: {told:?}")).unwrap();
    }
}

/// A day of events in order, in slices of an hour.
fn day() -> Vec<Slice> {
    let events = |hour: i64| (0..8).map(|at| (Some(at), Some(i64::from(at) + hour), hour)).collect();
    let more = |hour: i64| (0..5).map(|at| (Some(at), Some(i64::from(at) * hour), hour - 1)).collect();
    (0..24).map(|hour| (events(hour), more(hour))).collect()
}

#[tokio::test]
async fn every_query_emits_a_day_bit_by_bit() {
    let concat = |hours: &[Slice]| -> Slice {
        let (events, more): (Vec<_>, Vec<_>) = hours.iter().cloned().unzip();
        (events.concat(), more.concat())
    };
    let slices: Vec<_> = day().chunks(4).map(concat).collect();
    for query in queries() {
        check(query, &slices, 2).await.unwrap();
    }
}

/// What of a day is emitted hour by hour, where that is something.
async fn of_a_day(query: &str) -> Vec<Vec<String>> {
    let (emitted, _) = emitted(query, &day(), &state(2)).await.unwrap();
    emitted.into_iter().filter(|rows| !rows.is_empty()).collect()
}

#[tokio::test]
async fn a_window_is_emitted_when_the_watermark_reaches_its_end_and_not_before() {
    let emitted = of_a_day(
        "SELECT window_start, window_end, count(*) AS c FROM TUMBLE(events, at, INTERVAL '3 hours')
         GROUP BY window_start, window_end",
    )
    .await;
    // The first slice whose watermark before it is beyond 03:00 is that of 06:00, since 05:00 less two hours is 03:00.
    assert_eq!(emitted[0], ["1970-01-01T00:00:00|1970-01-01T03:00:00|24"]);
    let windows: Vec<_> = emitted.iter().map(Vec::len).collect();
    assert_eq!(windows, [1, 1, 1, 1, 1, 1, 2], "{emitted:?}");
}

#[tokio::test]
async fn a_row_is_emitted_as_soon_as_nothing_before_it_is_to_come() {
    let emitted = of_a_day(
        "SELECT at, k, count(*) OVER (ORDER BY at RANGE BETWEEN INTERVAL '1 hour' PRECEDING AND CURRENT ROW) AS c FROM events",
    )
    .await;
    // Before the slice of 04:00 the watermark is at 01:00, so that it emits midnight's rows; the end emits four hours.
    let rows: Vec<_> = emitted.iter().map(Vec::len).collect();
    assert_eq!(rows, [[8; 20].as_slice(), &[32]].concat());
}

#[tokio::test]
async fn rows_that_nothing_depends_on_any_more_are_not_kept() {
    let kept = async |query: &str| {
        let state = state(2);
        let (events, more): (Vec<_>, Vec<_>) = day().into_iter().unzip();
        let all = (events.concat(), more.concat());
        let query = Query::new(query, &state).unwrap();
        query.put(&all).await;
        let emits = query.emits();
        let mut segments = Segments { state: &state, kept: Vec::new() };
        let mut rows = Vec::new();
        for input in 0..emits.states().len() {
            let absorbed = emits.absorb(&state, input).await.unwrap();
            segments.add(emits, input, absorbed).await;
            let merged = emits.merge(&state, input, segments.of(input), Some(20 * HOUR), None).await.unwrap();
            rows.push(run(merged, &state).await.concat().iter().map(RecordBatch::num_rows).sum::<usize>());
        }
        rows
    };
    // Of 24 hours with eight rows: from 17:00 on, the three hours before 20:00 and what is not emitted.
    assert_eq!(kept(ROWS[0]).await, [7 * 8]);
    // From 20:00 on, and of each of the four keys the last before, which are two rows of one time.
    assert_eq!(kept(ROWS[3]).await, [4 * 8 + 8]);
    // Sessions go on for the whole day.
    assert_eq!(kept(ROWS[10]).await, [24 * 8]);
    // Of the right side, the last of each key is needed, too: five rows of four keys.
    assert_eq!(kept(ROWS[24]).await, [4 * 8, 3 * 5 + 5]);
}

#[test]
fn rows_are_looked_up_by_what_all_that_meet_have_in_common() {
    let looked_up = |query: &str| {
        let state = state(2);
        let query = Query::new(query, &state).unwrap();
        let emits = query.emits();
        let keys = (0..emits.states().len()).map(|input| {
            let lookup = emits.lookup(input)?;
            let names = lookup.keys.iter().map(|key| emits.states()[input].field(*key).name().clone());
            Some(names.collect::<Vec<_>>())
        });
        keys.collect::<Option<Vec<_>>>()
    };
    // Columns are called by their places in the sources: `k` is the first, `n` the second, `at` the third.
    let by = |keys: &[&[&str]]| Some(keys.iter().map(|keys| keys.iter().map(ToString::to_string).collect()).collect());
    let recent = "ORDER BY at RANGE BETWEEN INTERVAL '1 hour' PRECEDING AND CURRENT ROW";
    for (query, expected) in [
        (format!("SELECT k, at, sum(n) OVER (PARTITION BY k {recent}) AS s FROM events"), by(&[&["g0"]])),
        (format!("SELECT k, at, sum(n) OVER (PARTITION BY n, k {recent}) AS s FROM events"), by(&[&["g0", "g1"]])),
        (
            format!("SELECT k, at, sum(n) OVER (PARTITION BY n, k {recent}) AS s, max(n) OVER (PARTITION BY n {recent}) AS m
                     FROM events"),
            by(&[&["g1"]]),
        ),
        (format!("SELECT k, at, sum(n) OVER ({recent}) AS s FROM events"), None),
        (format!("SELECT k, at, sum(n) OVER (PARTITION BY n + 1 {recent}) AS s FROM events"), None),
        (ROWS[3].to_owned(), by(&[&["g0"]])),
        // Sessions by key, of a view with a table looked up, and of all rows.
        (ROWS[10].to_owned(), by(&[&["g0"]])),
        (ROWS[12].to_owned(), None),
        // Interval joins, `ASOF`, a self-join.
        (ROWS[14].to_owned(), by(&[&["g0"], &["g0"]])),
        (ROWS[16].to_owned(), by(&[&["g0"], &["g0"]])),
        (ROWS[20].to_owned(), by(&[&["g0"]])),
        (ROWS[24].to_owned(), by(&[&["g0"], &["g0"]])),
        (
            "SELECT l.k, l.at, r.n FROM events l JOIN more r ON l.n < r.n AND r.at BETWEEN l.at - INTERVAL '1 hour' AND l.at"
                .to_owned(),
            None,
        ),
        // A self-join by other columns: rows of one key meet rows of any.
        (
            "SELECT l.k, l.at, r.n FROM events l JOIN events r ON l.n = r.n AND l.k < r.k AND r.at = l.at".to_owned(),
            by(&[&["g1", "g2"]]),
        ),
        // What is one row for keys of the left side is not one for those of the right, which may be missing.
        (
            format!("SELECT k, at, count(*) OVER (PARTITION BY k {recent}) AS c FROM (
                         SELECT r.k, l.at FROM events l LEFT JOIN more r
                         ON l.k = r.k AND r.at BETWEEN l.at - INTERVAL '1 hour' AND l.at
                     ) j"),
            None,
        ),
        (
            format!("SELECT k, at, count(*) OVER (PARTITION BY k {recent}) AS c FROM (
                         SELECT l.k, l.at FROM events l LEFT JOIN more r
                         ON l.k = r.k AND r.at BETWEEN l.at - INTERVAL '1 hour' AND l.at
                     ) j"),
            by(&[&["g0"], &["g0"]]),
        ),
        // A window that closes is a key itself.
        (
            "SELECT window_end, median(n) AS m FROM TUMBLE(events, at, INTERVAL '1 hour') GROUP BY window_end".to_owned(),
            by(&[&["g4"]]),
        ),
        (
            "SELECT k, window_end, median(n) AS m FROM TUMBLE(events, at, INTERVAL '1 hour') GROUP BY k, window_end"
                .to_owned(),
            by(&[&["g0", "g4"]]),
        ),
        (
            format!("SELECT k, at, sum(n) OVER (PARTITION BY k {recent}) AS s FROM (
                         SELECT k, n, at FROM events UNION ALL SELECT k, n, at FROM (SELECT DISTINCT k, n, at FROM more) m
                     ) u"),
            by(&[&["g0"], &["g0"]]),
        ),
    ] {
        assert_eq!(looked_up(&query), expected, "{query}");
    }
}

#[tokio::test]
async fn frames_of_time_are_counted_in_ticks() {
    let state = state(2);
    let query = Query::new(
        "SELECT k, at, sum(n) OVER (PARTITION BY k ORDER BY at RANGE BETWEEN INTERVAL '1 hour' PRECEDING AND CURRENT ROW) AS s
         FROM events",
        &state,
    );
    let query = query.unwrap();
    for between in [Between { from: None, to: None }, Between { from: Some(1), to: Some(2) }] {
        let plan = query.emits().emit(&state, vec![Vec::new()], between).await.unwrap();
        let shown = datafusion::physical_plan::displayable(plan.as_ref()).indent(true).to_string();
        assert!(shown.contains("RANGE BETWEEN 3600000000 PRECEDING"), "{shown}");
    }
}

#[track_caller]
fn is_refused(query: &str, why: &str) {
    let Err(told) = Query::new(query, &state(2)) else { panic!("{query}") };
    assert!(told.iter().any(|told| told.contains(why)), "{query}: {told:#?}");
}

#[test]
fn what_never_closes_is_refused() {
    let check = is_refused;
    check("SELECT k, count(*) AS c FROM events GROUP BY k", "no key of `GROUP BY` follows a watermark");
    check("SELECT k, n FROM events", "each row of this query is final");
    check("SELECT label, count(*) AS c FROM names GROUP BY label", "reads tables only");
    check(
        "SELECT k, window_start, count(*) AS c FROM SESSION(events PARTITION BY k, at, INTERVAL '1 hour')
         GROUP BY k, window_start",
        "of a session only `window_end` says when it is over",
    );
    check(
        "SELECT k, window_start, window_end, count(*) AS c FROM SESSION(
             (SELECT k, window_end AS at FROM TUMBLE(events, at, INTERVAL '1 hour') GROUP BY k, window_end)
             PARTITION BY k, at, INTERVAL '2 hours'
         ) GROUP BY k, window_start, window_end",
        "its sessions are of rows that are put together",
    );
    check("SELECT k, at, sum(n) OVER (PARTITION BY k ORDER BY at) AS s FROM events", "has no bounds in time");
    check("SELECT k, at, lead(n) OVER (PARTITION BY k ORDER BY at) AS s FROM events", "`lead` looks at the next row");
    check("SELECT k, at, row_number() OVER (PARTITION BY k ORDER BY at) AS s FROM events", "counts all rows ever");
    check("SELECT k, at, lag(n) OVER (PARTITION BY k ORDER BY n) AS s FROM events", "nor in the order of that time");
    check("SELECT e.k, e.at, m.n FROM events e JOIN more m ON e.k = m.k", "has no bounds in time on both sides");
    check("SELECT e.k, e.at, m.n FROM events e JOIN more m ON e.k = m.k AND m.at <= e.at", "has no bounds in time");
    check(
        "SELECT e.k, e.at, m.n FROM events e FULL JOIN more m ON e.k = m.k AND m.at = e.at",
        "give out `coalesce(l.at, r.at)`",
    );
    check(
        "SELECT e.k, coalesce(e.at, m.at) AS at FROM events e FULL JOIN more m ON e.k = m.k AND m.at <= e.at",
        "has no bounds in time",
    );
    check(
        "SELECT e.k, coalesce(e.at, m.at) AS at FROM events e FULL JOIN more m ON e.k = m.k AND m.at = e.at
         WHERE e.k IN (SELECT k FROM more)",
        "a subquery in an expression",
    );
    check(
        "SELECT e.k, coalesce(e.at, s.since) AS at FROM events e FULL JOIN since s ON e.k = s.k AND e.at = s.since",
        "keeps rows of a table",
    );
    check("SELECT DISTINCT ON (k) k, at, n FROM events ORDER BY k, at, n", "`DISTINCT ON` needs all rows");
    check(
        "SELECT e.k, e.at, m.n FROM events e ASOF JOIN more m MATCH_CONDITION (e.at <= m.at) ON e.k = m.k",
        "the first row after",
    );
    check(
        "SELECT k, sum(n) OVER (ORDER BY at RANGE BETWEEN INTERVAL '1 hour' PRECEDING AND CURRENT ROW) AS s FROM events",
        "none of its columns is a time",
    );
    let recent =
        "sum(n) OVER (PARTITION BY k ORDER BY at RANGE BETWEEN INTERVAL '1 hour' PRECEDING AND CURRENT ROW) AS s";
    check(
        &format!("SELECT k, at, {recent} FROM events WHERE k IN (SELECT k FROM more)"),
        "a subquery in an expression",
    );
    let distinct = "(SELECT DISTINCT k, at, n FROM events) d";
    check(&format!("SELECT k, at, lag(n) OVER (PARTITION BY k ORDER BY at) AS l FROM {distinct}"), "put together");
    let nested = "(SELECT k, at, lag(n, 2) OVER (PARTITION BY k ORDER BY at) AS n FROM more) m";
    check(
        &format!(
            "SELECT e.k, e.at, r.s FROM events e ASOF JOIN (SELECT k, at, {recent} FROM {nested}) r
             MATCH_CONDITION (e.at >= r.at) ON e.k = r.k"
        ),
        "whose window functions are over other rows",
    );
    check("SELECT DISTINCT s.since, e.k FROM events e JOIN since s ON e.k = s.k", "follows a watermark");
    let later = "(SELECT k, n, at + INTERVAL '1 month' AS at FROM events) l";
    check(&format!("SELECT k, at, {recent} FROM {later}"), "does not follow a watermark");
    check("SELECT n, at, count(*) AS c FROM events GROUP BY n, at ORDER BY at", "no ORDER BY or LIMIT");
    let hourly = "(SELECT hour, k, count(*) AS c FROM hourly GROUP BY hour, k) g";
    check(&format!("SELECT max(c) AS m FROM {hourly}"), "groups of several windows are aggregated");
    check(&format!("SELECT k, sum(c) AS m FROM {hourly} GROUP BY k"), "groups of several windows are aggregated");
    check(&format!("SELECT DISTINCT c FROM {hourly}"), "`DISTINCT` is over groups of several windows");
    check(&format!("SELECT hour, rank() OVER (ORDER BY c) AS r FROM {hourly}"), "is neither over `PARTITION BY`");
    check(
        &format!("SELECT g.hour, l.label FROM names l LEFT JOIN {hourly} ON g.k = l.k"),
        "keeps rows of the other side",
    );
}
