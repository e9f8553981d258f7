//! Compaction through the whole program: fewer files, the same rows, whatever interrupts it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bessemer_integration_tests::{Bessemer, Pipeline, parquet_files, pause, signal, wait_until};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;

const SEED: u64 = 0x00c0_4bac;
const RECORDS_A_FILE: i64 = 6;
const SETS: [&str; 2] = ["seen", "by_kind"];

/// One file an epoch; one set as it comes, with a Delta log, and one in partitions, by time.
fn pipeline(settings: &str) -> Result<Pipeline> {
    let pipeline = Pipeline::new(&format!(
        "CREATE PIPELINE compact;
         {settings}
         CREATE SOURCE numbers (number BIGINT NOT NULL, kind VARCHAR NOT NULL, at TIMESTAMP NOT NULL)
         WITH (path = 'in/*.json', timestamp_format = 'epoch_seconds');
         CREATE FEATURE SET seen WITH (path = 'features/seen', format = 'delta') AS SELECT number, kind FROM numbers;
         CREATE FEATURE SET by_kind ENTITY (number) EVENT TIME (at)
         WITH (path = 'features/by_kind', partition_by = 'kind') AS SELECT number, kind, at FROM numbers;"
    ))?;
    fs::create_dir(pipeline.folder().join("in"))?;
    Ok(pipeline)
}

/// Delivers the file with this number: its records are numbered on, and their times go up and down.
fn deliver(pipeline: &Pipeline, file: i64) -> Result<()> {
    let record = |number: i64| {
        let (kind, at) = (number % 2, 1_000 + number - number % 7 * 3);
        format!("{{\"number\": {number}, \"kind\": \"k{kind}\", \"at\": {at}}}\n")
    };
    let text: String = (file * RECORDS_A_FILE..(file + 1) * RECORDS_A_FILE).map(record).collect();
    let folder = pipeline.folder().join("in");
    fs::write(folder.join(".arriving"), text)?;
    fs::rename(folder.join(".arriving"), folder.join(format!("{file:06}.json")))?;
    Ok(())
}

/// After a clean end: every number once, by glob, by manifest and by Delta log, and the ledger balances.
fn check(bessemer: &Bessemer, pipeline: &Pipeline, files: i64) -> Result<()> {
    for set in SETS {
        let on_disk = parquet_files(&pipeline.features.join(set))?;
        assert_eq!(pipeline.live_files(bessemer, set)?, on_disk, "an orphan, or a lost file, in {set}");
        let rows = pipeline.rows(set)?.select(&["number"])?.rows;
        let mut numbers = rows.iter().map(|row| Ok(row[0].parse()?)).collect::<Result<Vec<i64>>>()?;
        numbers.sort_unstable();
        assert_eq!(numbers.len(), usize::try_from(files * RECORDS_A_FILE)?, "rows of {set}");
        assert!(numbers.into_iter().eq(0..files * RECORDS_A_FILE), "numbers of {set}");
    }
    let seen = pipeline.features.join("seen");
    let on_disk = parquet_files(&seen)?.into_iter().map(|path| Ok(path.strip_prefix(&seen)?.display().to_string()));
    assert_eq!(live_in_delta(&seen)?, on_disk.collect::<Result<Vec<_>>>()?, "files of the Delta log");
    assert_eq!(bessemer.json(["ledger", &pipeline.path(), "--json"])?["balanced"], true);
    Ok(())
}

/// Paths that the JSON files of a Delta log leave live, sorted.
fn live_in_delta(table: &Path) -> Result<Vec<String>> {
    let mut versions =
        fs::read_dir(table.join("_delta_log"))?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    versions.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    versions.sort();
    let mut live = BTreeSet::new();
    for version in versions {
        for line in fs::read_to_string(version)?.lines() {
            let action: Value = serde_json::from_str(line)?;
            if let Some(path) = action["add"]["path"].as_str() {
                live.insert(path.to_owned());
            }
            if let Some(path) = action["remove"]["path"].as_str() {
                ensure!(live.remove(path), "`{path}` is removed and was not there");
            }
        }
    }
    Ok(live.into_iter().collect())
}

/// The numbers of the files of each partition, in the order of the files and of the rows in them.
fn order_of_rows(pipeline: &Pipeline) -> Result<BTreeMap<String, Vec<(i64, i64)>>> {
    let mut rows: BTreeMap<String, Vec<(i64, i64)>> = BTreeMap::new();
    for row in pipeline.rows("by_kind")?.select(&["kind", "at", "number"])?.rows {
        rows.entry(row[0].clone()).or_default().push((row[1].parse()?, row[2].parse()?));
    }
    Ok(rows)
}

fn kinds(bessemer: &Bessemer, pipeline: &Pipeline) -> Result<Vec<String>> {
    let log = bessemer.json(["log", &pipeline.path(), "--last", "100000", "--json"])?;
    let lines = log.as_array().context("no list")?;
    Ok(lines.iter().filter_map(|line| line["kind"].as_str().map(str::to_owned)).collect())
}

#[test]
fn small_files_become_one_on_demand_and_every_row_stays() -> Result<()> {
    let (bessemer, pipeline) = (Bessemer::find()?, pipeline("SET epoch_files = 1;")?);
    (0..300).try_for_each(|file| deliver(&pipeline, file))?;
    bessemer.json(["run", &pipeline.path(), "--json"])?;
    check(&bessemer, &pipeline, 300)?;
    let before = parquet_files(&pipeline.features.join("by_kind"))?.len();
    assert!((100..400).contains(&before), "of 600 files the run left {before}: it does four steps");

    let answer = bessemer.json(["compact", &pipeline.path(), "by_kind", "--json"])?;
    assert_eq!((&answer[0]["files_before"], &answer[0]["files_after"]), (&Value::from(before), &Value::from(2)));
    assert_eq!(answer.as_array().map(Vec::len), Some(1), "the other set was not named");
    check(&bessemer, &pipeline, 300)?;
    // Rows are in the order of event time; rows of one time in that in which they came.
    for (kind, rows) in order_of_rows(&pipeline)? {
        assert!(rows.is_sorted() && rows.len() == 900, "{kind}: {} rows", rows.len());
    }

    bessemer.json(["compact", &pipeline.path(), "--json"])?;
    check(&bessemer, &pipeline, 300)?;
    assert_eq!(parquet_files(&pipeline.features)?.len(), 3);
    let epochs = kinds(&bessemer, &pipeline)?.len();
    let again = bessemer.json(["compact", &pipeline.path(), "--json"])?;
    assert_eq!(again[0]["files_after"], 1);
    assert_eq!(kinds(&bessemer, &pipeline)?.len(), epochs + 1, "where nothing is to do, only the opening is recorded");

    // Later epochs add to what was compacted.
    deliver(&pipeline, 300)?;
    bessemer.json(["run", &pipeline.path(), "--json"])?;
    check(&bessemer, &pipeline, 301)
}

#[test]
fn many_runs_leave_few_files_and_every_row() -> Result<()> {
    const RUNS: i64 = 80;
    let (bessemer, pipeline) = (Bessemer::find()?, pipeline("")?);
    for run in 0..RUNS {
        deliver(&pipeline, run)?;
        bessemer.json(["run", &pipeline.path(), "--json"])?;
    }
    check(&bessemer, &pipeline, RUNS)?;
    let files = parquet_files(&pipeline.features.join("by_kind"))?.len();
    let compactions = kinds(&bessemer, &pipeline)?.iter().filter(|kind| *kind == "compaction").count();
    println!("{files} files in two partitions after {RUNS} runs, {compactions} compactions");
    // A run is two epochs; files of a minute of epochs become one.
    assert!(files <= 2 * (60 / 2 + 1 + compactions), "{files} files");
    assert!((2..=3).contains(&compactions), "{compactions} compactions");
    for (kind, rows) in order_of_rows(&pipeline)? {
        assert_eq!(rows.len(), usize::try_from(RUNS * RECORDS_A_FILE / 2)?, "{kind}");
    }
    Ok(())
}

#[test]
fn what_cannot_be_compacted_is_said() -> Result<()> {
    let bessemer = Bessemer::find()?;
    let pipeline = Pipeline::new(
        "CREATE PIPELINE p; CREATE SOURCE s (x INT) WITH (path = 'in/*.csv');
         CREATE FEATURE SET rows WITH (path = 'features/rows') AS SELECT x FROM s;
         CREATE FEATURE SET totals WITH (path = 'features/totals') AS SELECT x, count(*) AS n FROM s GROUP BY x;",
    )?;
    for (set, words) in [("totals", "`totals` is a snapshot set"), ("row", "did you mean `rows`?")] {
        let outcome = bessemer.call(["compact", &pipeline.path(), set])?;
        outcome.expect_code(2)?;
        assert!(outcome.stderr.contains(words), "{}", outcome.stderr);
    }
    Ok(())
}

#[test]
fn compaction_killed_at_any_moment_loses_and_repeats_nothing() -> Result<()> {
    const KILLS: usize = 15;
    let (bessemer, pipeline) = (Bessemer::find()?, pipeline("SET epoch_files = 1;")?);
    let mut files = 150;
    (0..files).try_for_each(|file| deliver(&pipeline, file))?;
    bessemer.json(["run", &pipeline.path(), "--json"])?;

    println!("seed {SEED:#x}");
    let mut random = StdRng::seed_from_u64(SEED);
    let mut longest = Duration::from_millis(500);
    let mut interrupted = 0;
    for kill in 0..KILLS {
        let mut child = bessemer.start(["compact", &pipeline.path()])?;
        pause(longest.mul_f64(random.random()));
        interrupted += usize::from(child.try_wait()?.is_none());
        child.kill()?;
        child.wait()?;
        (files..files + 4).try_for_each(|file| deliver(&pipeline, file))?;
        files += 4;
        bessemer.json(["run", &pipeline.path(), "--json"])?;
        if kill % 5 == 4 {
            check(&bessemer, &pipeline, files)?;
            let started = Instant::now();
            bessemer.json(["compact", &pipeline.path(), "--json"])?;
            longest = started.elapsed();
            check(&bessemer, &pipeline, files)?;
        }
    }
    println!("{interrupted} of {KILLS} were killed before their end");
    assert!(interrupted > KILLS / 3, "only {interrupted} were killed before their end");
    Ok(())
}

/// Starts the daemon, hands it files one by one, and ends it: by force, or as it should.
fn follow(bessemer: &Bessemer, pipeline: &Pipeline, files: std::ops::Range<i64>, by_force: bool) -> Result<()> {
    let end = files.end;
    let mut daemon = bessemer.start(["daemon", &pipeline.path()])?;
    for file in files {
        deliver(pipeline, file)?;
        pause(Duration::from_millis(20));
    }
    if by_force {
        daemon.kill()?;
        daemon.wait()?;
        return Ok(());
    }
    wait_until("all is committed, and the last small files are merged", || {
        let kinds = kinds(bessemer, pipeline)?;
        let is_whole = kinds.iter().filter(|kind| *kind == "data").count() == usize::try_from(end)?;
        Ok(is_whole && kinds.iter().rev().take(60).any(|kind| kind == "compaction"))
    })?;
    signal("-TERM", daemon.id())?;
    let status = daemon.wait()?;
    ensure!(status.success(), "the daemon ended with {status}");
    Ok(())
}

#[test]
fn a_daemon_keeps_its_files_few_and_its_rows_whole() -> Result<()> {
    let (bessemer, pipeline) = (Bessemer::find()?, pipeline("SET epoch_age_max = '5ms'; SET epoch_files = 1;")?);
    let mut delivered = 0;
    // Killed in the middle of things, and started again.
    for round in 0..6 {
        let files = if round == 5 { 200 } else { 40 };
        follow(&bessemer, &pipeline, delivered..delivered + files, round < 5)?;
        delivered += files;
    }
    bessemer.json(["run", &pipeline.path(), "--json"])?;
    check(&bessemer, &pipeline, delivered)?;
    let epochs = kinds(&bessemer, &pipeline)?;
    let count = |kind: &str| epochs.iter().filter(|found| *found == kind).count();
    let (data, compactions) = (count("data"), count("compaction"));
    let files = parquet_files(&pipeline.features.join("by_kind"))?.len();
    println!("{data} epochs, {compactions} compactions, {files} files in two partitions");
    assert_eq!(data, usize::try_from(delivered)?, "an epoch a file");
    assert!(compactions >= 4, "only {compactions} compactions");
    assert!(files < 2 * (60 + data / 60 + 30), "{files} files after {data} epochs");
    Ok(())
}
