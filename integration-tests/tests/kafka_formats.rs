//! Topics of every format through the whole program.

use std::time::{Duration, Instant};

use anyhow::Result;
use bessemer_integration_tests::{
    Bessemer, KafkaCluster, Outcome, Pipeline, RegistryMood, SchemaRegistry, signal, wait_until,
};
use serde_json::Value;

const ORDER_1: &str = r#"{"type": "record", "name": "Order", "fields": [
    {"name": "id", "type": "int"}, {"name": "customer", "type": "string"}]}"#;
const ORDER_2: &str = r#"{"type": "record", "name": "Order", "fields": [
    {"name": "note", "type": ["null", "string"], "default": null}, {"name": "id", "type": "long"},
    {"name": "customer", "type": ["null", "string"]}, {"name": "amount", "type": "float"}]}"#;
const COLUMNS: &str = "(id BIGINT NOT NULL, customer VARCHAR, amount DOUBLE DEFAULT 9.5)";

/// A whole number and a text as Avro writes them; both short.
fn long(value: u8) -> Vec<u8> {
    assert!(value < 64);
    vec![value << 1]
}

fn text(value: &str) -> Vec<u8> {
    [long(u8::try_from(value.len()).unwrap_or(u8::MAX)), value.as_bytes().to_vec()].concat()
}

fn framed(schema: u32, data: &[&[u8]]) -> Vec<u8> {
    [&[0], &schema.to_be_bytes()[..], &data.concat()].concat()
}

/// An order as the first and as the second version of its schema writes it.
fn order_1(id: u8, customer: &str) -> Vec<u8> {
    framed(1, &[&long(id), &text(customer)])
}

fn order_2(id: u8, customer: Option<&str>, amount: f32) -> Vec<u8> {
    let customer = customer.map_or_else(|| long(0), |customer| [long(1), text(customer)].concat());
    framed(2, &[&[long(1), text("n")].concat(), &long(id), &customer, &amount.to_le_bytes()])
}

struct World {
    cluster: KafkaCluster,
    registry: SchemaRegistry,
    bessemer: Bessemer,
}

impl World {
    fn new() -> Result<Self> {
        let (cluster, registry) = (KafkaCluster::start(1)?, SchemaRegistry::start()?);
        cluster.create_topic("orders", 1)?;
        Ok(Self { cluster, registry, bessemer: Bessemer::find()? })
    }

    fn send(&self, values: &[Vec<u8>]) -> Result<()> {
        self.cluster.send("orders", 0, values)
    }

    /// A pipeline that selects `query` from the topic, whose source has `columns` and `options`.
    fn pipeline(&self, columns: &str, options: &str, query: &str) -> Result<Pipeline> {
        Pipeline::new(&format!(
            "CREATE PIPELINE orders;
             CREATE SOURCE orders {columns} INCLUDE OFFSET AS at
             WITH (connector = 'kafka', bootstrap_servers = '{}', topic = 'orders', {options});
             CREATE FEATURE SET seen WITH (path = 'features/seen') AS SELECT {query} FROM orders;",
            self.cluster.bootstrap_servers()
        ))
    }

    fn of_registry(&self, format: &str) -> String {
        format!("format = '{format}', schema_registry = '{}'", self.registry.url())
    }

    fn run(&self, pipeline: &Pipeline) -> Result<Value> {
        self.bessemer.json(["run", &pipeline.path(), "--json"])
    }

    /// What is in quarantine of the source: offset, reason, column and number of schema of each record.
    fn quarantined(&self, pipeline: &Pipeline) -> Result<Vec<String>> {
        let outcome = self.bessemer.call(["quarantine", &pipeline.path(), "orders", "--json"])?;
        outcome.expect_code(0)?;
        let told = |line: &str| -> Result<String> {
            let row: Value = serde_json::from_str(line)?;
            let part = |name: &str| row[name].to_string().replace('"', "");
            Ok(format!("{} {} {} {}", part("offset"), part("reason"), part("column"), part("schema_id")))
        };
        let mut told = outcome.stdout.lines().map(told).collect::<Result<Vec<_>>>()?;
        told.sort();
        Ok(told)
    }

    fn check_balance(&self, pipeline: &Pipeline, records: usize, undecodable: usize) -> Result<()> {
        let ledger = self.bessemer.json(["ledger", &pipeline.path(), "--json"])?;
        assert_eq!(ledger["balanced"], true);
        let source = &ledger["sources"][0];
        assert_eq!((&source["records"], &source["undecodable"]), (&records.into(), &undecodable.into()));
        Ok(())
    }
}

fn rows(pipeline: &Pipeline) -> Result<Vec<String>> {
    Ok(pipeline.rows("seen")?.sorted().rows.into_iter().map(|row| row.join(" ")).collect())
}

#[test]
fn avro_of_several_versions_is_read_and_what_cannot_be_is_in_quarantine() -> Result<()> {
    let world = World::new()?;
    world.registry.register(1, "orders-value", "AVRO", ORDER_1);
    world.registry.register(2, "orders-value", "AVRO", ORDER_2);
    let pipeline = world.pipeline(COLUMNS, &world.of_registry("avro"), "at, id, customer, amount")?;
    world.send(&[
        order_1(1, "ann"),
        order_2(2, None, 1.5),
        framed(99, &[&long(3)]),
        b"{\"id\": 4}".to_vec(),
        order_1(5, "bob")[..8].to_vec(),
        order_1(6, "eve"),
    ])?;
    world.run(&pipeline)?;
    assert_eq!(rows(&pipeline)?, ["0 1 ann 9.5", "1 2 \\N 1.5", "5 6 eve 9.5"]);
    let expected = ["2 unknown_schema_id null 99", "3 invalid_framing null null", "4 invalid_avro null 1"];
    assert_eq!(world.quarantined(&pipeline)?, expected);
    world.check_balance(&pipeline, 6, 3)?;
    assert_eq!(world.registry.asked(), 3, "each schema is asked for once");
    Ok(())
}

#[test]
fn what_was_asked_once_is_read_while_the_registry_is_away() -> Result<()> {
    let world = World::new()?;
    world.registry.register(1, "orders-value", "AVRO", ORDER_1);
    let pipeline = world.pipeline(COLUMNS, &world.of_registry("avro"), "at, id, customer")?;
    world.send(&[order_1(1, "ann")])?;
    world.run(&pipeline)?;

    world.registry.set_mood(RegistryMood::Away);
    world.send(&[order_1(2, "bob")])?;
    world.run(&pipeline)?;
    assert_eq!(rows(&pipeline)?, ["0 1 ann", "1 2 bob"]);

    // A new schema needs the registry: nothing is committed, and nothing is lost.
    world.registry.register(2, "orders-value", "AVRO", ORDER_2);
    world.send(&[order_1(3, "eve"), order_2(4, Some("dan"), 0.5)])?;
    let outcome = world.bessemer.call(["run", &pipeline.path()])?;
    outcome.expect_code(3)?;
    assert!(outcome.stderr.contains("cannot ask for schema 2 at schema registry"), "{}", outcome.stderr);
    assert_eq!(rows(&pipeline)?.len(), 2);

    world.registry.set_mood(RegistryMood::Well);
    world.run(&pipeline)?;
    assert_eq!(rows(&pipeline)?, ["0 1 ann", "1 2 bob", "2 3 eve", "3 4 dan"]);
    world.check_balance(&pipeline, 4, 0)
}

#[test]
fn a_run_that_is_stopped_waits_for_no_registry() -> Result<()> {
    let world = World::new()?;
    world.cluster.create_topic("more", 4)?;
    (0..4).try_for_each(|partition| world.cluster.send("more", partition, [order_1(1, "ann")]))?;
    let options = world.of_registry("avro") + ", broker_timeout = '5min'";
    let pipeline = world.pipeline(COLUMNS, &options, "at, id, customer")?;
    let file = pipeline.folder().join("pipeline.sql");
    let text = std::fs::read_to_string(&file)?.replace("topic = 'orders'", "topic = 'more'");
    std::fs::write(file, text.replace("CREATE SOURCE", "SET partitions = 4; CREATE SOURCE"))?;
    world.registry.set_mood(RegistryMood::Silent);

    let run = world.bessemer.start_listening(["run", &pipeline.path()])?;
    wait_until("the registry is asked", || Ok(world.registry.asked() > 0))?;
    let stopped = Instant::now();
    signal("-INT", run.id())?;
    let outcome = Outcome::of(run)?;
    assert!(stopped.elapsed() < Duration::from_mins(1), "it took {:?}", stopped.elapsed());
    outcome.expect_code(130)?;
    assert!(outcome.stderr.contains("epoch 2 was given up; this run committed nothing"), "{}", outcome.stderr);

    world.registry.set_mood(RegistryMood::Well);
    world.registry.register(1, "more-value", "AVRO", ORDER_1);
    world.run(&pipeline)?;
    assert_eq!(rows(&pipeline)?, ["0 1 ann"; 4]);
    Ok(())
}

#[test]
fn columns_may_come_from_the_registry_and_stay_what_they_were() -> Result<()> {
    let world = World::new()?;
    world.registry.register(1, "orders-value", "AVRO", ORDER_1);
    let pipeline = world.pipeline("", &world.of_registry("avro"), "*")?;
    world.send(&[order_1(1, "ann")])?;
    world.run(&pipeline)?;
    world.registry.set_mood(RegistryMood::Away);
    world.send(&[order_1(2, "bob")])?;
    world.run(&pipeline)?;
    assert_eq!(rows(&pipeline)?, ["1 ann 0", "2 bob 1"]);

    // A new version that the columns still hold.
    world.registry.set_mood(RegistryMood::Well);
    let evolved = ORDER_1.replace(r#""string"}"#, r#""string"}, {"name": "more", "type": "int"}"#);
    world.registry.register(3, "orders-value", "AVRO", &evolved);
    world.send(&[framed(3, &[&long(3), &text("eve"), &long(7)])])?;
    world.run(&pipeline)?;
    assert_eq!(rows(&pipeline)?, ["1 ann 0", "2 bob 1", "3 eve 2"]);
    Ok(())
}

#[test]
fn a_schema_that_contradicts_the_columns_stops_the_run_or_costs_its_records() -> Result<()> {
    let world = World::new()?;
    world.registry.register(1, "orders-value", "AVRO", ORDER_1);
    world.registry.register(2, "orders-value", "AVRO", ORDER_2);
    world.registry.register(7, "orders-value", "JSON", "{}");
    world.send(&[order_1(1, "ann"), order_2(2, None, 0.5), framed(7, &[])])?;
    let columns = "(id INT NOT NULL, customer VARCHAR)";
    let stops = world.pipeline(columns, &world.of_registry("avro"), "id, customer")?;
    let outcome = world.bessemer.call(["run", &stops.path()])?;
    outcome.expect_code(4)?;
    let words = "does not fit source `orders`: column `id` is Int32 in the definition and long as it is written";
    assert!(outcome.stderr.contains("schema 2 of") && outcome.stderr.contains(words), "{}", outcome.stderr);

    let options = format!("{}, on_error = 'quarantine'", world.of_registry("avro"));
    let goes_on = world.pipeline(columns, &options, "id, customer")?;
    world.run(&goes_on)?;
    assert_eq!(rows(&goes_on)?, ["1 ann"]);
    assert_eq!(world.quarantined(&goes_on)?, ["1 schema_mismatch id 2", "2 schema_mismatch null 7"]);
    Ok(())
}

#[test]
fn avro_without_a_registry_is_read_by_the_schema_of_a_file() -> Result<()> {
    let world = World::new()?;
    let pipeline = world.pipeline("", "format = 'avro', schema_file = 'schemas/order.avsc'", "at, id, customer")?;
    world.send(&[order_1(1, "ann")[5..].to_vec(), order_1(2, "bob"), Vec::new()])?;
    let outcome = world.bessemer.call(["run", &pipeline.path()])?;
    outcome.expect_code(2)?;
    assert!(
        outcome.stderr.contains("cannot use schema") && outcome.stderr.contains("order.avsc"),
        "{}",
        outcome.stderr
    );

    std::fs::create_dir(pipeline.folder().join("schemas"))?;
    std::fs::write(pipeline.folder().join("schemas/order.avsc"), ORDER_1)?;
    world.run(&pipeline)?;
    assert_eq!(rows(&pipeline)?, ["0 1 ann"]);
    assert_eq!(world.quarantined(&pipeline)?, ["1 invalid_avro null null", "2 invalid_avro null null"]);
    Ok(())
}

const SALE_1: &str = r#"syntax = "proto3"; package shop;
message Refund { int64 id = 1; }
message Sale { int64 id = 1; string customer = 2; }"#;
const SALE_2: &str = r#"syntax = "proto3"; package shop; import "money.proto";
message Refund { int64 id = 1; }
message Sale { int64 id = 1; optional string customer = 2; Money amount = 3; repeated string tags = 4; }"#;
const MONEY: &str = r#"syntax = "proto3"; package shop; message Money { sint32 cents = 1; }"#;

/// A field that is a number or a text as Protobuf writes it; both short.
fn field(number: u8, value: u8) -> Vec<u8> {
    vec![number << 3, value]
}

fn field_text(number: u8, value: &[u8]) -> Vec<u8> {
    [vec![number << 3 | 2, u8::try_from(value.len()).unwrap_or(u8::MAX)], value.to_vec()].concat()
}

/// `Sale` is the second message of its schema.
const SALE: [u8; 2] = [2, 2];

#[test]
fn protobuf_of_several_versions_is_read_and_what_cannot_be_is_in_quarantine() -> Result<()> {
    let world = World::new()?;
    let references = serde_json::json!([{ "name": "money.proto", "subject": "money", "version": 1 }]);
    world.registry.register(10, "money", "PROTOBUF", MONEY);
    world.registry.register(1, "orders-value", "PROTOBUF", SALE_1);
    world.registry.register_with(2, "orders-value", "PROTOBUF", SALE_2, &references);
    let columns = "(id BIGINT NOT NULL, customer VARCHAR, amount STRUCT<cents INT>, tags VARCHAR[])";
    let options = format!("{}, message = 'shop.Sale', on_error = 'quarantine'", world.of_registry("protobuf"));
    let query = "at, id, customer, amount['cents'] AS cents, array_length(tags) AS tags";
    let pipeline = world.pipeline(columns, &options, query)?;
    let amount = field_text(3, &field(1, 3));
    world.send(&[
        framed(1, &[&SALE, &field(1, 1), &field_text(2, b"ann")]),
        framed(2, &[&SALE, &field_text(4, b"new"), &amount, &field(1, 2)]),
        framed(2, &[&[0], &field(1, 3)]),
        framed(2, &[&[2, 8], &field(1, 4)]),
        framed(2, &[&SALE, &field_text(1, b"5")]),
        framed(2, &[&SALE, &[0xff]]),
        framed(99, &[&SALE]),
        framed(1, &[&SALE, &field(1, 8)]),
    ])?;
    world.run(&pipeline)?;
    assert_eq!(rows(&pipeline)?, ["0 1 ann \\N \\N", "1 2 \\N -2 1", "7 8  \\N \\N"]);
    let expected = [
        "2 schema_mismatch null 2",
        "3 invalid_framing null 2",
        "4 wrong_type id 2",
        "5 invalid_protobuf null 2",
        "6 unknown_schema_id null 99",
    ];
    assert_eq!(world.quarantined(&pipeline)?, expected);
    world.check_balance(&pipeline, 8, 5)?;

    // After a restart, with the registry away.
    world.registry.set_mood(RegistryMood::Failing);
    world.send(&[framed(2, &[&SALE, &field(1, 9)])])?;
    world.run(&pipeline)?;
    assert_eq!(rows(&pipeline)?.len(), 4);
    Ok(())
}

#[test]
fn columns_of_protobuf_may_come_from_the_registry_or_from_a_file() -> Result<()> {
    let world = World::new()?;
    world.registry.register(1, "sales", "PROTOBUF", SALE_1);
    world.send(&[framed(1, &[&SALE, &field(1, 1), &field_text(2, b"ann")])])?;
    let options = format!("{}, message = 'shop.Sale', subject = 'sales'", world.of_registry("protobuf"));
    let pipeline = world.pipeline("", &options, "*")?;
    world.run(&pipeline)?;
    assert_eq!(rows(&pipeline)?, ["1 ann 0"]);

    let options = "format = 'protobuf', schema_file = 'sale.proto', scan_startup_mode = 'offsets', \
        scan_startup_offsets = '0:1'";
    let several = world.pipeline("", options, "*")?;
    std::fs::write(several.folder().join("sale.proto"), SALE_1)?;
    let outcome = world.bessemer.call(["check", &several.path()])?;
    outcome.expect_code(2)?;
    assert!(outcome.stderr.contains("several messages: say `message = '…'`"), "{}", outcome.stderr);

    world.send(&[[field(1, 2), field_text(2, b"bob")].concat()])?;
    let pipeline = world.pipeline("", &format!("{options}, message = 'shop.Sale'"), "*")?;
    std::fs::write(pipeline.folder().join("sale.proto"), SALE_1)?;
    world.run(&pipeline)?;
    assert_eq!(rows(&pipeline)?, ["2 bob 1"]);
    Ok(())
}

#[test]
fn changes_of_debezium_are_rows_with_what_happened_to_them() -> Result<()> {
    let world = World::new()?;
    let pipeline = Pipeline::new(&format!(
        "CREATE PIPELINE orders;
         CREATE SOURCE orders (id BIGINT NOT NULL, customer VARCHAR, WATERMARK FOR changed AS changed)
         INCLUDE OP, SOURCE_TIMESTAMP AS changed, OFFSET AS at
         WITH (connector = 'kafka', bootstrap_servers = '{}', topic = 'orders', format = 'debezium_json');
         CREATE FEATURE SET seen WITH (path = 'features/seen') AS SELECT at, op, id, customer, changed FROM orders;
         CREATE FEATURE SET kinds WITH (path = 'features/kinds') AS SELECT op, count(*) AS n FROM orders GROUP BY op;
         CREATE VIEW newest AS SELECT DISTINCT ON (id) id, customer, op FROM orders ORDER BY id, at DESC;
         CREATE FEATURE SET now WITH (path = 'features/now') AS SELECT id, customer FROM newest WHERE op <> 'd';",
        world.cluster.bootstrap_servers()
    ))?;
    let change = |before: &str, after: &str, op: &str| {
        format!(r#"{{"before": {before}, "after": {after}, "source": {{"ts_ms": 1000}}, "op": "{op}"}}"#)
    };
    let (ann, bob) = (r#"{"id": 1, "customer": "ann"}"#, r#"{"id": 1, "customer": "bob"}"#);
    let wrapped = format!(r#"{{"schema": {{}}, "payload": {}}}"#, change(bob, "null", "d"));
    let changes = [
        change("null", ann, "r"),
        change(ann, bob, "u"),
        wrapped,
        change("null", "null", "t"),
        ann.to_owned(),
        r#"{"after": {"id": 1}, "op": "c"}"#.to_owned(),
        change("null", r#"{"id": 2, "customer": "eve"}"#, "c"),
    ];
    world.send(&changes.map(String::into_bytes))?;
    world.run(&pipeline)?;
    assert_eq!(rows(&pipeline)?, ["0 r 1 ann 1000000", "1 u 1 bob 1000000", "2 d 1 bob 1000000", "6 c 2 eve 1000000"]);
    assert_eq!(pipeline.rows("kinds")?.rows.len(), 4);
    assert_eq!(pipeline.rows("now")?.rows, [["2", "eve"]]);
    let expected = ["3 no_row_image null null", "4 invalid_envelope null null", "5 null_event_time changed null"];
    assert_eq!(world.quarantined(&pipeline)?, expected);
    Ok(())
}

#[test]
fn json_is_read_with_what_is_nested_in_it_and_missing_is_told_from_null() -> Result<()> {
    let world = World::new()?;
    let columns = "(id BIGINT NOT NULL, place STRUCT<x INT, names VARCHAR[]>, counts MAP<VARCHAR, INT>,
        kind VARCHAR DEFAULT 'none', seen TIMESTAMPTZ, points STRUCT<x INT>[])";
    let query = "at, id, place['x'] AS x, array_to_string(place['names'], '+') AS names, counts['a'] AS a, kind, seen,
        points[2]['x'] AS second";
    let pipeline = world.pipeline(columns, "format = 'json', timestamp_format = 'epoch_millis'", query)?;
    let records = [
        r#"{"id": 1, "place": {"x": 2, "names": ["p", "q"]}, "counts": {"a": 3}, "kind": "k", "seen": 1000,
            "points": [{"x": 1}, {"x": 2}]}"#,
        r#"{"id": 2}"#,
        r#"{"id": 3, "place": null, "counts": null, "kind": null, "seen": null, "points": null}"#,
        r#"{"id": 4, "place": {"names": []}, "counts": {}, "points": []}"#,
        r#"{"id": 5, "place": {"x": "2"}}"#,
        r#"{"id": 6, "counts": {"a": 1, "a": 2}}"#,
        r#"{"id": 7, "points": [{"x": 1.5}]}"#,
        r#"{"id": 8, "seen": "2013-01-01"}"#,
        r#"{"id": null}"#,
    ];
    world.send(&records.map(|record| record.as_bytes().to_vec()))?;
    world.run(&pipeline)?;
    let expected = [
        "0 1 2 p+q 3 k 1000000 2",
        "1 2 \\N \\N \\N none \\N \\N",
        "2 3 \\N \\N \\N \\N \\N \\N",
        "3 4 \\N  \\N none \\N \\N",
    ];
    assert_eq!(rows(&pipeline)?, expected);
    let expected = [
        "4 wrong_type place.x null",
        "5 duplicate_key null null",
        "6 not_whole points.item.x null",
        "7 wrong_type seen null",
        "8 null_in_not_null id null",
    ];
    assert_eq!(world.quarantined(&pipeline)?, expected);

    // Times as texts too.
    let iso = world.pipeline("(id BIGINT NOT NULL, seen TIMESTAMPTZ)", "format = 'json'", "id, seen")?;
    world.send(&[br#"{"id": 9, "seen": "1970-01-01T01:00:01+01:00"}"#.to_vec()])?;
    world.run(&iso)?;
    assert!(rows(&iso)?.contains(&"9 1000000".to_owned()));
    Ok(())
}
