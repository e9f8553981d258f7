//! Planned sets give the rows of plain DataFusion, in the promised order.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::array::{Float64Array, Int64Array, ListBuilder, StringBuilder};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType, UInt64Type};
use bessemer_schemas::ORIGIN_COLUMN;
use datafusion::datasource::MemTable;
use datafusion::execution::SessionState;
use datafusion::prelude::SessionContext;
use proptest::prelude::*;

use super::{FLIGHTS, definition, lines, plan_with, run, scan_schema, state};
use crate::{Plan, SetKind};

/// Id, carrier, delay, scheduled (hours), tags.
type Flight = (i64, u8, Option<i8>, Option<u8>, u8);

fn flights(rows: &[Flight]) -> RecordBatch {
    let definition =
        definition(&format!("{FLIGHTS} CREATE FEATURE SET s WITH (path = 'x') AS SELECT id FROM flights;"));
    let schema = scan_schema(&definition.sources[0]);
    let carriers: StringArray = rows.iter().map(|row| Some(carrier(row.1))).collect();
    let origins: StringArray = rows.iter().map(|row| row.2.map(|_| carrier(row.1 + 1))).collect();
    let delays: Float64Array = rows.iter().map(|row| row.2.map(f64::from)).collect();
    let scheduled: TimestampMicrosecondArray =
        rows.iter().map(|row| row.3.map(|hours| i64::from(hours) * 3_600_000_000)).collect();
    let mut tags = ListBuilder::new(StringBuilder::new());
    for row in rows {
        (0..row.4).for_each(|tag| tags.values().append_value(tag.to_string()));
        tags.append(true);
    }
    let ids: Int64Array = rows.iter().map(|row| row.0).collect();
    let distances = ids.clone();
    let tags = arrow::compute::cast(&tags.finish(), schema.field(6).data_type()).unwrap();
    let columns: Vec<Arc<dyn Array>> = vec![
        Arc::new(ids),
        Arc::new(carriers),
        Arc::new(origins),
        Arc::new(delays),
        Arc::new(distances),
        Arc::new(scheduled),
        tags,
    ];
    RecordBatch::try_new(schema, columns).unwrap()
}

fn carrier(number: u8) -> String {
    format!("C{}", number % 5)
}

fn planes() -> RecordBatch {
    let definition =
        definition(&format!("{FLIGHTS} CREATE FEATURE SET s WITH (path = 'x') AS SELECT seats FROM planes;"));
    let planes = definition.sources.iter().find(|source| source.name.value == "planes").unwrap();
    let carriers = ["C0", "C1", "C1", "C3"];
    RecordBatch::try_new(
        scan_schema(planes),
        vec![
            Arc::new(StringArray::from(vec!["N1", "N2", "N3", "N4"])),
            Arc::new(StringArray::from(carriers.to_vec())),
            Arc::new(Int64Array::from(vec![10, 20, 30, 40])),
        ],
    )
    .unwrap()
}

/// Queries over `flights` and `planes` with `id` and `scheduled`, and the kind that each is.
const QUERIES: [(&str, SetKind); 21] = [
    ("SELECT * FROM flights", SetKind::Append),
    ("SELECT id, carrier, scheduled, delay * 2 AS d FROM flights WHERE delay > 0", SetKind::Append),
    ("SELECT id, scheduled, carrier, unnest(tags) AS tag FROM flights", SetKind::Append),
    (
        "SELECT f.carrier, p.seats, f.id, f.scheduled FROM flights f JOIN planes p ON f.carrier = p.carrier",
        SetKind::Append,
    ),
    (
        "SELECT p.seats, f.carrier, f.id, f.scheduled FROM planes p RIGHT JOIN flights f ON f.carrier = p.carrier",
        SetKind::Append,
    ),
    (
        "SELECT id, scheduled, carrier FROM flights WHERE delay > 3 UNION ALL
         SELECT f.id + 1, f.scheduled, f.carrier FROM flights f JOIN planes p ON p.carrier = f.carrier",
        SetKind::Append,
    ),
    ("SELECT id, scheduled, carrier FROM flights f WHERE carrier NOT IN (SELECT carrier FROM planes)", SetKind::Append),
    (
        "SELECT id, scheduled, carrier, (SELECT max(seats) FROM planes p WHERE p.carrier = f.carrier) AS most FROM flights f",
        SetKind::Append,
    ),
    (
        "SELECT f.carrier, p.seats, f.id, f.scheduled FROM flights f LEFT JOIN planes p
         ON f.carrier = p.carrier AND p.seats < f.delay * 10",
        SetKind::Append,
    ),
    (
        "SELECT f.carrier, f.id, f.scheduled FROM flights f LEFT SEMI JOIN planes p ON f.carrier = p.carrier",
        SetKind::Append,
    ),
    (
        "SELECT f.carrier, f.id, f.scheduled FROM flights f LEFT ANTI JOIN planes p ON f.carrier = p.carrier",
        SetKind::Append,
    ),
    (
        "SELECT p.carrier, p.id, p.scheduled FROM planes q RIGHT SEMI JOIN flights p ON q.carrier = p.carrier",
        SetKind::Append,
    ),
    (
        "SELECT id, scheduled, carrier FROM flights WHERE carrier IN (SELECT carrier FROM planes) OR id < 9",
        SetKind::Append,
    ),
    (
        "SELECT id, scheduled, carrier FROM flights f
         WHERE NOT EXISTS (SELECT 1 FROM planes p WHERE p.carrier = f.carrier AND p.seats > f.id)",
        SetKind::Append,
    ),
    ("SELECT id, scheduled, carrier, (SELECT max(seats) FROM planes) AS most FROM flights", SetKind::Append),
    ("SELECT f.id, f.scheduled, f.carrier, p.seats FROM flights f CROSS JOIN planes p", SetKind::Append),
    (
        "SELECT f.id, f.scheduled, f.carrier, l.seats FROM flights f
         CROSS JOIN LATERAL (SELECT p.seats FROM planes p WHERE p.carrier = f.carrier) l",
        SetKind::Append,
    ),
    (
        "SELECT id, scheduled, carrier, unnest(tags) AS tag FROM flights UNION ALL
         SELECT f.id, f.scheduled, f.carrier, p.tailnum FROM planes p RIGHT JOIN flights f ON f.carrier = p.carrier",
        SetKind::Append,
    ),
    (
        "WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 4)
         SELECT f.id, f.scheduled, f.carrier, n.i FROM flights f JOIN n ON n.i < f.id",
        SetKind::Append,
    ),
    (
        "SELECT carrier, scheduled, max(id) AS id, count(*) AS n FROM flights GROUP BY carrier, scheduled",
        SetKind::Snapshot,
    ),
    ("SELECT DISTINCT carrier, scheduled, id FROM flights f WHERE id > 0", SetKind::Snapshot),
];

fn text(query: &str, clauses: &str) -> String {
    format!("{FLIGHTS} CREATE FEATURE SET s {clauses} WITH (path = 'x') AS {query};")
}

fn data(batches: &[Vec<Flight>]) -> BTreeMap<&'static str, Vec<RecordBatch>> {
    let flights: Vec<_> = batches.iter().map(|rows| flights(rows)).collect();
    BTreeMap::from([("flights", flights), ("planes", vec![planes()])])
}

fn plan_of(text: &str, batches: &[Vec<Flight>], partition_by: &str, state: &SessionState) -> Plan {
    let partitioning = if partition_by.is_empty() { vec![] } else { vec![("s", partition_by)] };
    let (plan, found) = plan_with(text, &data(batches), &partitioning, state);
    plan.unwrap_or_else(|| panic!("{found:#?}"))
}

/// The rows of the set, without their identity, which numbers the objects of an epoch.
async fn sorted_rows(text: &str, batches: &[Vec<Flight>], state: &SessionState) -> Vec<String> {
    let plan = plan_of(text, batches, "", state);
    let output = run(plan.set("s").unwrap().physical(state).await.unwrap(), state).await;
    let mut rows = lines(&output.concat(), ORIGIN_COLUMN);
    rows.sort();
    rows
}

async fn plain(query: &str, batches: &[Vec<Flight>]) -> Vec<String> {
    let context = SessionContext::new();
    for (name, batches) in data(batches) {
        let schema = batches.first().map_or_else(|| flights(&[]).schema(), RecordBatch::schema);
        let table = MemTable::try_new(schema, vec![batches]).unwrap();
        context.register_table(name, Arc::new(table)).unwrap();
    }
    let mut lines = lines(&context.sql(query).await.unwrap().collect().await.unwrap(), "");
    lines.sort();
    lines
}

fn batches() -> impl Strategy<Value = Vec<Vec<Flight>>> {
    let row = (0_i64..50, 0_u8..6, proptest::option::of(-5_i8..20), proptest::option::of(0_u8..60), 0_u8..4);
    proptest::collection::vec(proptest::collection::vec(row, 0..12), 0..5)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4))]

    #[test]
    fn rows_are_those_of_plain_datafusion(batches in batches(), partitions in 1_usize..4) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let state = state(partitions);
            for (query, kind) in QUERIES {
                let expected = plain(query, &batches).await;
                for (clauses, partition_by) in [("", ""), ("EVENT TIME (scheduled)", "carrier, day(scheduled)")] {
                    let plan = plan_of(&text(query, clauses), &batches, partition_by, &state);
                    let set = plan.set("s").unwrap();
                    assert_eq!(set.kind, kind);
                    let output = run(set.physical(&state).await.unwrap(), &state).await;
                    if set.is_sorted() {
                        assert_eq!(output.len(), 1);
                        assert_eq!(set.carries_origin, kind == SetKind::Append);
                        assert_sorted(&output.concat());
                    }
                    let mut found = lines(&output.concat(), ORIGIN_COLUMN);
                    found.sort();
                    assert_eq!(found, expected, "{query}");
                }
            }
        });
    }

    #[test]
    fn rows_of_append_sets_are_final_however_the_input_is_cut_into_epochs(
        batches in batches(), epochs in proptest::collection::vec(0_usize..3, 5), partitions in 1_usize..4,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let state = state(partitions);
            for (query, _) in QUERIES.iter().filter(|(_, kind)| *kind == SetKind::Append) {
                for clauses in ["", "EVENT TIME (scheduled)"] {
                    let text = text(query, clauses);
                    let whole = sorted_rows(&text, &batches, &state).await;
                    let mut parts = Vec::new();
                    for epoch in 0..3 {
                        let of_epoch = batches.iter().zip(&epochs).filter(|(_, of)| **of == epoch);
                        let of_epoch: Vec<_> = of_epoch.map(|(rows, _)| rows.clone()).collect();
                        parts.extend(sorted_rows(&text, &of_epoch, &state).await);
                    }
                    parts.sort();
                    assert_eq!(parts, whole, "{query}");
                }
            }
        });
    }

    #[test]
    fn equal_input_gives_equal_output_in_any_number_of_partitions(batches in batches()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            for (query, _) in QUERIES {
                let mut outputs = Vec::new();
                for partitions in [1, 3] {
                    let state = state(partitions);
                    let plan = plan_of(&text(query, "EVENT TIME (scheduled)"), &batches, "", &state);
                    let physical = plan.set("s").unwrap().physical(&state).await.unwrap();
                    outputs.push(lines(&run(physical, &state).await.concat(), ""));
                }
                assert_eq!(outputs[0], outputs[1], "{query}");
            }
        });
    }
}

/// Carrier, day, scheduled, and row identity where there is one, do not fall; nulls come first.
fn assert_sorted(batches: &[RecordBatch]) {
    let mut keys = Vec::new();
    for batch in batches {
        let carriers = batch.column_by_name("carrier").unwrap().as_string::<i32>();
        let scheduled = batch.column_by_name("scheduled").unwrap().as_primitive::<TimestampMicrosecondType>();
        let origins = batch.column_by_name(ORIGIN_COLUMN).map(AsArray::as_primitive::<UInt64Type>);
        for row in 0..batch.num_rows() {
            let time = scheduled.is_valid(row).then(|| scheduled.value(row));
            let day = time.map(|time| time / 86_400_000_000);
            keys.push((carriers.value(row).to_owned(), day, time, origins.map(|origins| origins.value(row))));
        }
    }
    assert!(keys.is_sorted(), "{keys:?}");
}

#[tokio::test]
async fn times_of_every_year_are_partitioned_and_sorted() {
    let text = "
CREATE SOURCE s (id BIGINT, at TIMESTAMP) WITH (connector = 'object_store', path = 'x', format = 'json');
CREATE FEATURE SET f WITH (path = 'x') AS SELECT * FROM s;";
    let schema = scan_schema(&definition(text).sources[0]);
    let times = [4_000_000_000_000_000_000, 0, -4_000_000_000_000_000_000, 86_400_000_000, i64::MAX, i64::MIN];
    let batch = RecordBatch::try_new(
        schema,
        vec![
            Arc::new(Int64Array::from_iter_values(0..6)),
            Arc::new(TimestampMicrosecondArray::from_iter_values(times)),
        ],
    )
    .unwrap();
    let state = state(2);
    for partition_by in ["day(at), id", "month(at), id", "hour(at), id"] {
        let data = BTreeMap::from([("s", vec![batch.clone()])]);
        let (plan, found) = plan_with(text, &data, &[("f", partition_by)], &state);
        let plan = plan.unwrap_or_else(|| panic!("{found:#?}"));
        let output = run(plan.set("f").unwrap().physical(&state).await.unwrap(), &state).await.concat();
        let ids: Vec<_> =
            output.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec()).collect();
        assert_eq!(ids, [5, 2, 1, 3, 0, 4], "{partition_by}");
    }
}

#[tokio::test]
async fn generated_columns_stand_where_they_are_declared() {
    let text = "
CREATE SOURCE s (
    id BIGINT, twice INTEGER GENERATED ALWAYS AS (id * 2) STORED, name VARCHAR
) INCLUDE ROW AS row WITH (connector = 'object_store', path = 'x', format = 'json');
CREATE FEATURE SET f EVENT TIME (at) WITH (path = 'x') AS
SELECT *, TIMESTAMP '2013-01-01' AS at FROM s WHERE twice > 2;";
    let definition = definition(text);
    let schema = scan_schema(&definition.sources[0]);
    let batch = RecordBatch::try_new(
        schema,
        vec![
            Arc::new(Int64Array::from(vec![1, 2, 3])),
            Arc::new(StringArray::from(vec!["a", "b", "c"])),
            Arc::new(Int64Array::from(vec![0, 1, 2])),
        ],
    )
    .unwrap();
    let state = state(2);
    let (plan, found) = plan_with(text, &BTreeMap::from([("s", vec![batch])]), &[], &state);
    let plan = plan.unwrap_or_else(|| panic!("{found:#?}"));
    let set = plan.set("f").unwrap();
    assert_eq!(set.kind, SetKind::Append);
    let names: Vec<_> = set.schema.fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(names, ["id", "twice", "name", "row", "at"]);
    let output = run(set.physical(&state).await.unwrap(), &state).await;
    assert_eq!(lines(&output.concat(), ORIGIN_COLUMN), ["2|4|b|1|2013-01-01T00:00:00", "3|6|c|2|2013-01-01T00:00:00"]);
    assert_eq!(set.order, ["at", "row identity"]);
}

#[tokio::test]
async fn preview_shows_sources_views_and_sets_without_identity() {
    let text = format!(
        "{FLIGHTS} CREATE VIEW late AS SELECT id FROM flights WHERE delay > 3;
         CREATE FEATURE SET s EVENT TIME (scheduled) WITH (path = 'x') AS
         SELECT f.id, f.scheduled FROM flights f JOIN late l ON l.id = f.id;
         CREATE FEATURE SET t EVENT TIME (scheduled) WITH (path = 'x2') AS SELECT scheduled, id FROM flights;"
    );
    let state = state(1);
    let plan = plan_of(&text, &[vec![(1, 1, Some(9), Some(2), 0)]], "", &state);
    for (name, columns) in [("flights", 7), ("planes", 3), ("late", 1), ("s", 2), ("t", 2)] {
        let preview = plan.preview(name).unwrap();
        assert_eq!(preview.schema().fields().len(), columns, "{name}");
        state.create_physical_plan(&preview).await.unwrap();
    }
    let error = plan.preview("lat").unwrap_err().to_string();
    assert_eq!(error, "there is no source, view or feature set `lat`; did you mean `late`?");
}

#[test]
fn explain_tells_kind_reason_scans_and_order() {
    let text = format!(
        "{FLIGHTS} CREATE FEATURE SET s ENTITY (carrier) EVENT TIME (scheduled) WITH (path = 'x') AS
         SELECT carrier, scheduled, count(*) AS n FROM flights GROUP BY carrier, scheduled;
         CREATE FEATURE SET t WITH (path = 'x2') AS SELECT id, scheduled FROM flights WHERE delay > 3;"
    );
    let (plan, _) =
        plan_with(&text, &BTreeMap::new(), &[("s", "carrier, month(scheduled)"), ("t", "day(scheduled)")], &state(2));
    let plan = plan.unwrap();
    insta::assert_snapshot!(format!("{}\n{}", plan.explain("s").unwrap(), plan.explain("t").unwrap()));
}

#[tokio::test]
async fn a_plan_is_made_in_little_time_and_serves_every_epoch() {
    let state = state(4);
    let plan = plan_of(&text(QUERIES[3].0, "EVENT TIME (scheduled)"), &[vec![(1, 1, Some(9), Some(2), 0)]], "", &state);
    let set = plan.set("s").unwrap();
    for _ in 0..3 {
        let epoch = crate::with_extension(&state, Arc::new(7_u64));
        assert_eq!(*epoch.config().get_extension::<u64>().unwrap(), 7);
        let output = run(set.physical(&epoch).await.unwrap(), &epoch).await.concat();
        assert_eq!(output.iter().map(RecordBatch::num_rows).sum::<usize>(), 2);
        assert_eq!(output[0].column_by_name("id").unwrap().as_primitive::<Int64Type>().value(0), 1);
    }
}
