//! Numbered records through a pipeline, and the check that each of them is there once, whatever happened meanwhile.

use std::ops::Range;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::{Bessemer, KafkaCluster, Pipeline, S3Server};

/// Partitions of the topic `numbers`.
pub const PARTITIONS: i32 = 8;

/// A pipeline of numbered records into a set that appends and one that is a snapshot; some cannot be decoded, some break a
/// rule. Its state and sets are on disk.
pub fn numbers_on_disk(bootstrap_servers: &str, settings: &str) -> Result<Pipeline> {
    Pipeline::new(&definition(bootstrap_servers, settings))
}

/// The same with state and sets in the server's bucket, and the program that finds the server.
pub fn numbers_on_s3(server: &S3Server, bootstrap_servers: &str, settings: &str) -> Result<(Pipeline, Bessemer)> {
    let text = definition(bootstrap_servers, settings)
        .replace(
            "CREATE PIPELINE numbers;",
            "CREATE PIPELINE numbers WITH (state = 's3://lake/state', aws.timeout = '2s');",
        )
        .replace("path = 'features/", "aws.timeout = '2s', path = 's3://lake/features/");
    let mut pipeline = Pipeline::new(&text)?;
    pipeline.features = server.bucket_folder().join("features");
    let found = Bessemer::find()?;
    let bessemer = server.environment().into_iter().fold(found, |bessemer, (name, value)| bessemer.env(name, value));
    Ok((pipeline, bessemer))
}

fn definition(bootstrap_servers: &str, settings: &str) -> String {
    format!(
        "CREATE PIPELINE numbers;
         {settings}
         CREATE SOURCE numbers (number BIGINT NOT NULL, kind VARCHAR NOT NULL)
         INCLUDE PARTITION AS kafka_partition, OFFSET AS kafka_offset
         WITH (connector = 'kafka', bootstrap_servers = '{bootstrap_servers}', topic = 'numbers', format = 'json',
               group_id = 'lag', broker_timeout = '10s');
         CREATE FEATURE SET seen (CONSTRAINT not_unlucky EXPECT (number % 13 <> 0) ON VIOLATION QUARANTINE)
         WITH (path = 'features/seen')
         AS SELECT number, kind, kafka_partition, kafka_offset FROM numbers;
         CREATE FEATURE SET totals WITH (path = 'features/totals')
         AS SELECT kind, count(*) AS records, sum(number) AS total FROM numbers GROUP BY kind;"
    )
}

/// The partition that a number is sent to.
pub fn number_partition(number: i64) -> i32 {
    i32::try_from(number % i64::from(PARTITIONS)).unwrap_or(0)
}

/// The record of a number; one in 50 is no JSON.
pub fn number_record(number: i64) -> String {
    if is_damaged(number) {
        format!("{{\"number\": {number}, \"kind\"")
    } else {
        format!(r#"{{"number": {number}, "kind": "k{}"}}"#, number % 3)
    }
}

fn is_damaged(number: i64) -> bool {
    number % 50 == 7
}

/// Sends numbers to the mock brokers, dealt to the partitions.
pub fn send_numbers(cluster: &KafkaCluster, numbers: Range<i64>) -> Result<()> {
    for partition in 0..PARTITIONS {
        let mine = numbers.clone().filter(|number| number_partition(*number) == partition);
        cluster.send("numbers", partition, mine.map(number_record))?;
    }
    Ok(())
}

/// Every number below `end` is in the files of the append set once, or in quarantine once, and all agree about it.
///
/// # Panics
/// Where that is not so.
pub fn check_every_number(bessemer: &Bessemer, pipeline: &Pipeline, end: i64) -> Result<()> {
    let column = |set: &str, column: &str| -> Result<Vec<i64>> {
        let rows = pipeline.rows(set)?.select(&[column])?.rows;
        let mut numbers = rows.iter().map(|row| Ok(row[0].parse()?)).collect::<Result<Vec<i64>>>()?;
        numbers.sort_unstable();
        Ok(numbers)
    };
    let decodable = || (0..end).filter(|number| !is_damaged(*number));
    let expected: Vec<i64> = decodable().filter(|number| number % 13 != 0).collect();
    let found = column("seen", "number")?;
    assert_eq!(found.len(), expected.len(), "rows of `seen`");
    assert!(found == expected, "numbers of `seen`");
    let counted: i64 = column("totals", "records")?.iter().sum();
    assert_eq!(counted, i64::try_from(decodable().count())?, "records of `totals`");
    assert_eq!(column("totals", "total")?.iter().sum::<i64>(), decodable().sum::<i64>());

    let ledger = bessemer.json(["ledger", &pipeline.path(), "--json"])?;
    assert_eq!(ledger["balanced"], true);
    let source = &ledger["sources"][0];
    let count = |name: &str| source[name].as_i64().with_context(|| format!("`{name}` in {source}"));
    let damaged = end - i64::try_from(decodable().count())?;
    assert_eq!((count("offsets")?, count("records")?, count("undecodable")?), (end, end, damaged));

    let quarantined = |name: &str| -> Result<Vec<i64>> {
        let outcome = bessemer.call(["quarantine", &pipeline.path(), name, "--limit", "100000", "--json"])?;
        outcome.expect_code(0)?;
        let of_line = |line: &str| -> Result<i64> {
            let row: Value = serde_json::from_str(line)?;
            let text = row["original"].as_str().map(str::to_owned);
            let digits = text.map(|text| text.chars().filter(char::is_ascii_digit).collect::<String>());
            digits.map_or_else(|| row["number"].as_i64().context("no number"), |digits| Ok(digits.parse()?))
        };
        let mut numbers = outcome.stdout.lines().map(of_line).collect::<Result<Vec<_>>>()?;
        numbers.sort_unstable();
        Ok(numbers)
    };
    assert_eq!(quarantined("numbers")?, (0..end).filter(|number| is_damaged(*number)).collect::<Vec<_>>());
    assert_eq!(quarantined("seen")?, decodable().filter(|number| number % 13 == 0).collect::<Vec<_>>());
    Ok(())
}
