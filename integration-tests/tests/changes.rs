//! A log of changes of a database as the table that it is about: kept up to date from the newest change of each key.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result};
use bessemer_integration_tests::{Bessemer, KafkaCluster, Pipeline, parquet_files};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

const TOPIC: &str = "shop.public.customers";
const PARTITIONS: i32 = 2;

/// When a change was made, where it is in its partition: by these the newest one is told.
type Place = (i64, usize);

/// The newest change of each key: nothing where it is deleted.
#[derive(Debug, Default)]
struct Table {
    newest: BTreeMap<i64, (Place, Option<String>)>,
    ends: BTreeMap<i64, usize>,
}

impl Table {
    /// A change of the customer `id`; its record, as Debezium writes it.
    fn change(&mut self, id: i64, made: i64, email: Option<String>) -> Vec<u8> {
        let row = |email: &Option<String>| json!({"id": id, "email": email});
        let before = self.newest.get(&id).map(|(_, email)| row(email));
        let record = json!({
            "before": if email.is_some() { before } else { Some(json!({"id": id})) },
            "after": email.is_some().then(|| row(&email)),
            "source": {"ts_ms": made},
            "op": if email.is_some() { "u" } else { "d" },
        });
        let end = self.ends.entry(id % i64::from(PARTITIONS)).or_default();
        let place = (made, *end);
        *end += 1;
        if self.newest.get(&id).is_none_or(|(newest, _)| *newest < place) {
            self.newest.insert(id, (place, email));
        }
        record.to_string().into_bytes()
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let rows = self.newest.iter().filter_map(|(id, (_, email))| Some(vec![id.to_string(), email.clone()?]));
        rows.collect()
    }
}

fn pipeline(cluster: &KafkaCluster) -> Result<Pipeline> {
    Pipeline::new(&format!(
        "CREATE PIPELINE customers; SET partitions = 2; SET epoch_rows = 40;
         CREATE SOURCE changes (id BIGINT NOT NULL, email VARCHAR)
         INCLUDE OP, SOURCE_TIMESTAMP AS made, OFFSET
         WITH (connector = 'kafka', bootstrap_servers = '{}', topic = '{TOPIC}', format = 'debezium_json');
         CREATE VIEW newest AS
         SELECT DISTINCT ON (id) id, email, op FROM changes ORDER BY id, made DESC, \"offset\" DESC;
         CREATE FEATURE SET now ENTITY (id) WITH (path = 'features/now')
         AS SELECT id, email FROM newest WHERE op <> 'd';
         CREATE FEATURE SET numbered ENTITY (id) WITH (path = 'features/numbered')
         AS SELECT id, email FROM (SELECT *, row_number() OVER (PARTITION BY id ORDER BY made DESC, \"offset\" DESC) AS place
                                   FROM changes) c WHERE place = 1 AND op <> 'd';
         CREATE FEATURE SET hosts WITH (path = 'features/hosts')
         AS SELECT split_part(email, '@', 2) AS host, count(*) AS customers FROM newest WHERE op <> 'd' GROUP BY host;
         CREATE FEATURE SET seen WITH (path = 'features/seen') AS SELECT id, op FROM changes;",
        cluster.bootstrap_servers()
    ))
}

/// Sends `count` changes, some of which were made before others that were sent before.
fn send(cluster: &KafkaCluster, table: &mut Table, random: &mut StdRng, count: i64) -> Result<()> {
    let mut sent = [Vec::new(), Vec::new()];
    for _ in 0..count {
        let (id, made) = (random.random_range(0..30), 1_000 * random.random_range(0..50));
        let email = random.random_bool(0.8).then(|| format!("{}@host{}", random.random_range(0..9), id % 3));
        sent[usize::try_from(id)? % 2].push(table.change(id, made, email));
    }
    (0..PARTITIONS).zip(sent).try_for_each(|(partition, records)| cluster.send(TOPIC, partition, records))
}

fn check(bessemer: &Bessemer, pipeline: &Pipeline, table: &Table) -> Result<()> {
    let expected = table.rows();
    // In the order of the query.
    assert_eq!(pipeline.rows("now")?.select(&["id", "email"])?.rows, expected);
    assert_eq!(pipeline.rows("numbered")?.select(&["id", "email"])?.sorted().rows, {
        let mut sorted = expected.clone();
        sorted.sort();
        sorted
    });
    let mut hosts: BTreeMap<String, u64> = BTreeMap::new();
    for row in &expected {
        *hosts.entry(row[1].split('@').nth(1).context("no host")?.to_owned()).or_default() += 1;
    }
    let hosts: Vec<_> = hosts.into_iter().map(|(host, customers)| vec![host, customers.to_string()]).collect();
    assert_eq!(pipeline.rows("hosts")?.sorted().rows, hosts);

    let ledger = bessemer.json(["ledger", &pipeline.path(), "--json"])?;
    assert_eq!(ledger["balanced"], true, "{ledger}");
    // What is deleted is kept, too: an older change of it may still come.
    for state in states(bessemer, pipeline)? {
        assert_eq!(state["rows"], table.newest.len(), "{state}");
    }
    Ok(())
}

fn states(bessemer: &Bessemer, pipeline: &Pipeline) -> Result<Vec<Value>> {
    let states = bessemer.json(["state", &pipeline.path(), "--json"])?;
    let states = states.as_array().context("no list")?.clone();
    let sets: Vec<_> = states.iter().map(|state| state["set"].as_str().unwrap_or_default()).collect();
    assert_eq!(sets, ["hosts", "now", "numbered"]);
    Ok(states)
}

#[test]
fn a_table_is_kept_up_to_date_from_the_changes_that_are_new() -> Result<()> {
    let (cluster, bessemer, mut random) = (KafkaCluster::start(1)?, Bessemer::find()?, StdRng::seed_from_u64(7));
    cluster.create_topic(TOPIC, PARTITIONS)?;
    let (pipeline, mut table) = (pipeline(&cluster)?, Table::default());
    for round in 0..5 {
        send(&cluster, &mut table, &mut random, 120 - 20 * round)?;
        bessemer.json(["run", &pipeline.path(), "--json"])?;
        check(&bessemer, &pipeline, &table)?;
        for state in states(&bessemer, &pipeline)? {
            assert_eq!(state["since"] == state["through"], round == 0, "what was read was read again: {state}");
        }
    }
    let explained = bessemer.json(["explain", &pipeline.path(), "--set", "now", "--json"])?;
    assert_eq!(explained[0]["upkeep"], "kept up to date from the first row of each key");

    // Over everything it is the same, byte for byte.
    let verified = bessemer.json(["replay", "--verify", &pipeline.path(), "--json"])?.to_string();
    assert!(!verified.contains("\"differs\""), "{verified}");
    assert!(verified.matches("\"same\"").count() > 3, "{verified}");
    Ok(())
}

#[test]
fn a_state_that_is_gone_is_made_anew_from_all_changes() -> Result<()> {
    let (cluster, bessemer, mut random) = (KafkaCluster::start(1)?, Bessemer::find()?, StdRng::seed_from_u64(8));
    cluster.create_topic(TOPIC, PARTITIONS)?;
    let (pipeline, mut table) = (pipeline(&cluster)?, Table::default());
    send(&cluster, &mut table, &mut random, 60)?;
    bessemer.json(["run", &pipeline.path(), "--json"])?;
    for file in parquet_files(&pipeline.folder().join(".bessemer/customers/aggregates/now"))? {
        fs::remove_file(file)?;
    }
    send(&cluster, &mut table, &mut random, 60)?;
    let outcome = bessemer.call(["run", &pipeline.path()])?;
    outcome.expect_code(0)?;
    let says = "the state of `now` is lost: a file of it is gone; the set is computed over everything";
    assert!(outcome.stderr.contains(says), "{}", outcome.stderr);
    check(&bessemer, &pipeline, &table)?;
    for state in states(&bessemer, &pipeline)? {
        assert_eq!(state["since"] == state["through"], state["set"] == "now", "{state}");
    }
    Ok(())
}
