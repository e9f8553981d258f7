//! The queries of Nexmark: over files, over topics and in `DuckDB` they give the same rows.

use std::collections::HashSet;
use std::fs;
use std::ops::Range;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use bessemer_integration_tests::{
    Bessemer, KafkaCluster, NEXMARK_STREAMS, Pipeline, nexmark_events, repository, write_nexmark, write_side_input,
};

const EVENTS: u64 = 20_000;
/// What is no query: the sources, over files and over topics.
const SOURCES: [&str; 2] = ["files", "kafka"];
/// Partitions of each topic.
const PARTITIONS: i32 = 4;

/// All queries over the sources in one of the files `files.sql` and `kafka.sql`.
fn pipeline(sources: &str) -> Result<Pipeline> {
    let pipeline = Pipeline::new(&fs::read_to_string(folder().join(sources))?)?;
    for query in queries()? {
        fs::copy(folder().join(format!("{query}.sql")), pipeline.folder().join(format!("{query}.sql")))?;
    }
    Ok(pipeline)
}

fn folder() -> PathBuf {
    repository().join("integration-tests/nexmark")
}

/// The names of the queries, each a file and a feature set.
fn queries() -> Result<Vec<String>> {
    let mut queries = Vec::new();
    for entry in fs::read_dir(folder())? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        queries.extend(name.strip_suffix(".sql").filter(|name| !SOURCES.contains(name)).map(str::to_owned));
    }
    Ok(queries)
}

/// Sends events to the topics, dealt to their partitions.
fn send(cluster: &KafkaCluster, numbers: Range<u64>) -> Result<()> {
    let mut records = vec![vec![Vec::new(); PARTITIONS.try_into()?]; NEXMARK_STREAMS.len()];
    for (at, event) in nexmark_events(numbers).enumerate() {
        let (stream, record) = event?;
        let partitions = &mut records[stream];
        let partition = at % partitions.len();
        partitions[partition].push(record);
    }
    for (topic, partitions) in NEXMARK_STREAMS.iter().zip(records) {
        for (partition, records) in (0..).zip(partitions) {
            cluster.send(topic, partition, records)?;
        }
    }
    Ok(())
}

#[test]
fn every_query_gives_the_same_rows_over_files_over_topics_and_in_duckdb() -> Result<()> {
    let files = pipeline("files.sql")?;
    let events = files.folder().join("events");
    write_nexmark(&events, EVENTS, 4)?;
    Bessemer::find()?.json(["run", &files.path(), "--json"])?;
    check_ledger(&files)?;

    let cluster = KafkaCluster::start(1)?;
    NEXMARK_STREAMS.iter().try_for_each(|topic| cluster.create_topic(topic, PARTITIONS))?;
    let topics = pipeline("kafka.sql")?;
    write_side_input(&topics.folder().join("events"))?;
    // Many epochs in two runs, the second of which replaces what the first one made.
    fs::write(topics.folder().join("settings.sql"), "SET epoch_rows = 3000;")?;
    let bessemer = Bessemer::find()?.env("KAFKA_BROKERS", cluster.bootstrap_servers());
    for delivery in [0..EVENTS / 2, EVENTS / 2..EVENTS] {
        send(&cluster, delivery)?;
        let ran = bessemer.json(["run", &topics.path(), "--json"])?;
        assert!(ran["epochs"].as_u64() > Some(3), "{ran}");
    }
    check_ledger(&topics)?;
    check_again(&bessemer, &topics)?;

    let queries = queries()?;
    assert_eq!(queries.len(), 23);
    for query in queries {
        let (found, expected) = (topics.rows(&query)?.sorted(), files.rows(&query)?.sorted());
        assert!(!expected.rows.is_empty(), "{query} has no row");
        let differing = found.rows.iter().zip(&expected.rows).find(|(found, expected)| found != expected);
        assert!(differing.is_none(), "{query} over topics and over files: {differing:?}");
        assert!(found == expected, "{query}: {} and {} rows", found.rows.len(), expected.rows.len());
    }

    let Some(python) = std::env::var_os("BESSEMER_TEST_PYTHON") else {
        eprintln!("skipped: Nexmark in DuckDB (BESSEMER_TEST_PYTHON is not set; `.ci/run` sets it)");
        return Ok(());
    };
    let output = Command::new(python).arg(folder().join("compare.py")).args([&events, &files.features]).output()?;
    println!("{}", String::from_utf8_lossy(&output.stdout));
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Every epoch is what it was, but those of sets that were replaced.
fn check_again(bessemer: &Bessemer, pipeline: &Pipeline) -> Result<()> {
    let verified = bessemer.json(["replay", "--verify", &pipeline.path(), "--json"])?;
    let mut same = HashSet::new();
    for set in verified.as_array().context("no list")? {
        let (name, verdict) = (set["set"].as_str().unwrap_or_default(), &set["verdict"]);
        let is_replaced = set["what"] == "a later epoch has replaced it";
        ensure!(verdict == "same" || (verdict == "skipped" && is_replaced), "{set}");
        if verdict == "same" {
            same.insert(name.to_owned());
        }
    }
    ensure!(same.len() == queries()?.len(), "only {same:?}");
    Ok(())
}

/// Every event was read, and is in the balance.
fn check_ledger(pipeline: &Pipeline) -> Result<()> {
    let ledger = Bessemer::find()?.json(["ledger", &pipeline.path(), "--json"])?;
    let streams = ledger["sources"].as_array().context("no sources")?.iter();
    let streams = streams.filter(|source| NEXMARK_STREAMS.iter().any(|stream| source["source"] == *stream));
    let admitted: u64 = streams.filter_map(|source| source["admitted"].as_u64()).sum();
    assert_eq!((&ledger["balanced"], admitted), (&true.into(), EVENTS), "{ledger}");
    Ok(())
}
