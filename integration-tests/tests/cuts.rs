//! Whatever way the input is cut into files, runs, epochs and partitions, the committed rows are those of plain
//! DataFusion over all of it at once.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Result;
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use bessemer_integration_tests::{Bessemer, Pipeline, Rows, read_set};
use datafusion::prelude::{JsonReadOptions, SessionContext};
use parquet::arrow::ArrowWriter;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const SEEDS: u64 = 8;

/// A stateless set with a lookup, a grouped one, one with a window function, windows of time and a join in time; for the
/// last two, what plain DataFusion is asked instead.
const SETS: [(&str, &str, Option<&str>); 7] = [
    (
        "lines",
        "SELECT e.id, e.kind, e.value * 2 AS twice, k.name FROM events e LEFT JOIN kinds k ON e.kind = k.kind \
         WHERE e.value IS NULL OR e.value > 10",
        None,
    ),
    ("totals", "SELECT kind, count(*) AS events, sum(value) AS total FROM events GROUP BY kind", None),
    ("ranks", "SELECT id, kind, row_number() OVER (PARTITION BY kind ORDER BY id) AS nth FROM events", None),
    (
        "minutes",
        "SELECT kind, window_start AS minute, count(*) AS n, sum(value) AS total \
         FROM TUMBLE(events, at, INTERVAL '1 minute') GROUP BY kind, window_start, window_end",
        Some(
            "SELECT kind, date_bin(INTERVAL '1 minute', at) AS minute, count(*) AS n, sum(value) AS total \
             FROM events GROUP BY kind, date_bin(INTERVAL '1 minute', at)",
        ),
    ),
    (
        "hops",
        "SELECT id, kind, window_start AS hop FROM TABLE(HOP(TABLE events, DESCRIPTOR(at), \
         INTERVAL '30' SECOND, INTERVAL '1' MINUTE))",
        Some(
            "SELECT id, kind, date_bin(INTERVAL '30 seconds', at) AS hop FROM events UNION ALL \
             SELECT id, kind, date_bin(INTERVAL '30 seconds', at) - INTERVAL '30 seconds' FROM events",
        ),
    ),
    (
        "sessions",
        "SELECT id, kind, window_end AS until FROM SESSION(events PARTITION BY kind, at, INTERVAL '20 seconds')",
        Some(
            "SELECT e.id, e.kind, min(l.at) + INTERVAL '20 seconds' AS until FROM events e \
             JOIN (SELECT a.kind, a.at FROM events a WHERE NOT EXISTS (SELECT 1 FROM events b \
               WHERE b.kind = a.kind AND b.at > a.at AND b.at < a.at + INTERVAL '20 seconds')) l \
             ON l.kind = e.kind AND l.at >= e.at GROUP BY e.id, e.kind",
        ),
    ),
    (
        "previous",
        "SELECT e.id, e.kind, p.id AS previous, p.value FROM events e \
         ASOF LEFT JOIN events p MATCH_CONDITION (e.at > p.at) ON e.kind = p.kind",
        Some(
            "SELECT id, kind, previous, value FROM (SELECT e.id, e.kind, p.id AS previous, p.value, \
               row_number() OVER (PARTITION BY e.id ORDER BY p.at DESC, p.id DESC) AS nth \
             FROM events e LEFT JOIN events p ON e.kind = p.kind AND e.at > p.at) WHERE nth = 1",
        ),
    ),
];

fn records(random: &mut StdRng) -> Vec<String> {
    let count = random.random_range(50..400);
    let record = |id| {
        let kind = random.random_range(0..6);
        let at = format!("1969-12-31T23:{:02}:{:02}", random.random_range(40..60), random.random_range(0..60));
        match random.random_range(0..5) {
            0 => format!("{{\"id\":{id},\"kind\":\"k{kind}\",\"at\":\"{at}\"}}"),
            _ => {
                let value = random.random_range(-50..100);
                format!("{{\"id\":{id},\"kind\":\"k{kind}\",\"at\":\"{at}\",\"value\":{value}}}")
            }
        }
    };
    (0..count).map(record).collect()
}

fn pipeline(random: &mut StdRng) -> Result<Pipeline> {
    let mut text = format!(
        "CREATE PIPELINE cuts; SET epoch_files = {}; SET partitions = {};
         CREATE SOURCE events (id BIGINT NOT NULL, kind VARCHAR, value BIGINT, at TIMESTAMP, WATERMARK FOR at)
         WITH (path = 'in/events-*.json');
         CREATE TABLE kinds (kind VARCHAR, name VARCHAR) WITH (path = 'in/kinds.json');",
        random.random_range(1..5),
        random.random_range(1..5),
    );
    for (name, query, _) in SETS {
        // Half of the pipelines sort and partition, so that both ways through the writer are taken.
        let partition = if random.random() { ", partition_by = 'kind'" } else { "" };
        write!(text, "CREATE FEATURE SET {name} WITH (path = 'features/{name}'{partition}) AS {query};")?;
    }
    let pipeline = Pipeline::new(&text)?;
    fs::create_dir_all(pipeline.folder().join("in"))?;
    fs::write(pipeline.folder().join("in/kinds.json"), KINDS)?;
    Ok(pipeline)
}

const KINDS: &str =
    "{\"kind\":\"k0\",\"name\":\"zero\"}\n{\"kind\":\"k1\",\"name\":\"one\"}\n{\"kind\":\"k4\",\"name\":\"four\"}\n";

/// What plain DataFusion makes of the whole input, read back as the sets are.
async fn expected(records: &[String], query: &str, folder: &Path) -> Result<Rows> {
    let events = Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("kind", DataType::Utf8, true),
        Field::new("value", DataType::Int64, true),
        Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, None), true),
    ]);
    let kinds = Schema::new(vec![Field::new("kind", DataType::Utf8, true), Field::new("name", DataType::Utf8, true)]);
    let context = SessionContext::new();
    for (name, text, schema) in [("events", records.join("\n"), events), ("kinds", KINDS.to_owned(), kinds)] {
        let path = folder.join(format!("{name}.json"));
        fs::write(&path, text)?;
        let options = JsonReadOptions::default().schema(&schema);
        context.register_json(name, path.display().to_string(), options).await?;
    }
    let answer = context.sql(query).await?;
    let schema = std::sync::Arc::new(answer.schema().as_arrow().clone());
    let batches = answer.collect().await?;
    let out = tempfile::tempdir()?;
    let mut writer = ArrowWriter::try_new(fs::File::create(out.path().join("answer.parquet"))?, schema, None)?;
    batches.iter().try_for_each(|batch| writer.write(batch))?;
    writer.close()?;
    read_set(out.path())
}

#[tokio::test]
async fn any_cut_of_the_input_gives_the_rows_of_plain_datafusion() -> Result<()> {
    let bessemer = Bessemer::find()?;
    for seed in 0..SEEDS {
        println!("seed {seed}");
        let mut random = StdRng::seed_from_u64(seed);
        let (records, pipeline) = (records(&mut random), pipeline(&mut random)?);
        let (mut rest, mut number) = (records.as_slice(), 0);
        while !rest.is_empty() {
            let (file, after) = rest.split_at(random.random_range(1..=rest.len().min(120)));
            rest = after;
            fs::write(pipeline.folder().join(format!("in/events-{number:04}.json")), file.join("\n"))?;
            number += 1;
            if random.random_bool(0.4) {
                bessemer.json(["run", &pipeline.path(), "--json"])?;
            }
        }
        bessemer.json(["run", &pipeline.path(), "--json"])?;

        for (set, query, plain) in SETS {
            let scratch = tempfile::tempdir()?;
            let expected = expected(&records, plain.unwrap_or(query), scratch.path()).await?;
            let names: Vec<_> = expected.columns.iter().map(|(name, _)| name.as_str()).collect();
            let found = pipeline.rows(set)?.select(&names)?;
            assert_eq!(found.rows.len(), expected.rows.len(), "seed {seed}: {set}");
            assert_eq!(found.sorted().rows, expected.sorted().rows, "seed {seed}: {set}");
        }
        assert_eq!(bessemer.json(["ledger", &pipeline.path(), "--json"])?["balanced"], true, "seed {seed}");
    }
    Ok(())
}
