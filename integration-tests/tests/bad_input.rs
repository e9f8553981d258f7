//! What `docs/bad-input.md` and `docs/feature-sets.md` promise, row by row: the exit code, the words, and that a reader
//! which globs the folder of a set sees exactly what is committed.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Child;

use anyhow::{Context, Result, ensure};
use bessemer_integration_tests::{Bessemer, Outcome, Pipeline, parquet_files, signal, wait_until};
use flate2::write::GzEncoder;
use parquet::file::reader::{FileReader, SerializedFileReader};
use serde_json::Value;

const EVENTS: &str = "CREATE SOURCE events (id BIGINT NOT NULL, kind VARCHAR, value BIGINT, at TIMESTAMP)
    WITH (path = 'in/events-*.json*', format = 'json');\n";

const LINES: &str = "CREATE FEATURE SET lines WITH (path = 'features/lines', partition_by = 'kind')
    AS SELECT id, kind, value FROM events;\n";

const TOTALS: &str = "CREATE FEATURE SET totals WITH (path = 'features/totals')
    AS SELECT kind, count(*) AS events, sum(value) AS total FROM events GROUP BY kind;\n";

/// A pipeline with input of its own.
struct World {
    bessemer: Bessemer,
    pipeline: Pipeline,
}

impl World {
    fn new(statements: &[&str]) -> Result<Self> {
        let (bessemer, pipeline) = (Bessemer::find()?, Pipeline::new("")?);
        fs::create_dir(pipeline.folder().join("in"))?;
        let world = Self { bessemer, pipeline };
        world.define(statements)?;
        Ok(world)
    }

    fn define(&self, statements: &[&str]) -> Result<()> {
        let text = format!("CREATE PIPELINE p; SET partitions = 2;\n{}", statements.concat());
        Ok(fs::write(self.path("pipeline.sql"), text)?)
    }

    fn path(&self, relative: &str) -> PathBuf {
        self.pipeline.folder().join(relative)
    }

    /// Files of 10 records each, with ids of their own.
    fn deliver(&self, numbers: std::ops::Range<u64>) -> Result<()> {
        for number in numbers {
            fs::write(self.path(&format!("in/events-{number:03}.json")), records(number * 10, 10))?;
        }
        Ok(())
    }

    fn run(&self) -> Result<Outcome> {
        self.bessemer.call(["run", &self.pipeline.path()])
    }

    /// Waits for the first rows that a running process commits.
    fn wait_for_first_epoch(&self, child: &mut Child) -> Result<()> {
        let manifest = self.path(".bessemer/p/manifests/00000000000000000002.json");
        wait_until("the first committed epoch", || {
            ensure!(child.try_wait()?.is_none(), "the run has ended");
            Ok(manifest.is_file())
        })
    }

    fn ask(&self, command: &str) -> Result<Value> {
        self.bessemer.json([command, &self.pipeline.path(), "--json"])
    }

    /// The rows that a reader sees who globs the folder of a set; they must be those of its committed files.
    fn rows(&self, set: &str) -> Result<usize> {
        let folder = self.pipeline.features.join(set);
        let seen = if folder.is_dir() { parquet_files(&folder)? } else { Vec::new() };
        assert_eq!(seen, self.pipeline.live_files(&self.bessemer, set)?, "set {set}");
        if seen.is_empty() { Ok(0) } else { Ok(self.pipeline.rows(set)?.rows.len()) }
    }

    /// Files of the quarantines; the manifests must name as many.
    fn quarantined_files(&self) -> Result<usize> {
        let folder = self.path(".bessemer/p/quarantine");
        let seen = if folder.is_dir() { parquet_files(&folder)?.len() } else { 0 };
        let named: u64 =
            self.ask("quarantine")?.as_array().unwrap().iter().map(|of| of["files"].as_u64().unwrap()).sum();
        assert_eq!(seen as u64, named, "quarantine files");
        Ok(seen)
    }
}

fn records(first: u64, count: u64) -> String {
    (first..first + count).fold(String::new(), |mut text, id| {
        let (kind, minute) = (id % 3, id % 60);
        writeln!(text, "{{\"id\":{id},\"kind\":\"k{kind}\",\"value\":{id},\"at\":\"2013-01-01T00:{minute:02}:00\"}}")
            .unwrap();
        text
    })
}

/// A gzip file whose end is missing.
fn truncated_gzip(path: &Path, text: &str) -> Result<()> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text.as_bytes())?;
    let bytes = encoder.finish()?;
    Ok(fs::write(path, &bytes[..bytes.len() / 2])?)
}

fn says(outcome: &Outcome, code: i32, words: &[&str]) -> Result<()> {
    outcome.expect_code(code)?;
    for word in words {
        assert!(outcome.stderr.contains(word), "`{word}` is missing in\n{}", outcome.stderr);
    }
    assert!(!outcome.stderr.contains("tried again") || code == 3, "retried in vain\n{}", outcome.stderr);
    Ok(())
}

/// A violated `FAIL`, after the set's own file was finished and after another set's was.
#[test]
fn a_violated_fail_leaves_nothing_of_its_epoch() -> Result<()> {
    let failing = "CREATE FEATURE SET judged (
            CONSTRAINT known EXPECT (kind IS NOT NULL) ON VIOLATION QUARANTINE,
            CONSTRAINT small EXPECT (value < 15) ON VIOLATION FAIL
        ) WITH (path = 'features/judged') AS SELECT id, kind, value FROM events;\n";
    let world = World::new(&[EVENTS, LINES, failing])?;
    world.deliver(0..1)?;
    world.run()?.expect_code(0)?;
    fs::write(world.path("in/events-001.json"), "{\"id\":10,\"value\":1}\nno json\n")?;
    world.deliver(2..3)?;

    says(&world.run()?, 4, &["small", "judged"])?;
    assert_eq!((world.rows("lines")?, world.rows("judged")?, world.quarantined_files()?), (10, 10, 0));
    let status = world.ask("status")?;
    assert_eq!((status["state"].as_str(), status["failure"]["expectation"].as_str()), (Some("failed"), Some("small")));

    fs::remove_file(world.path("in/events-002.json"))?;
    world.run()?.expect_code(0)?;
    assert_eq!((world.rows("lines")?, world.rows("judged")?, world.quarantined_files()?), (11, 10, 2));
    assert_eq!(world.ask("status")?["state"], "ok");
    Ok(())
}

#[test]
fn a_violated_fail_of_a_snapshot_set_keeps_its_last_content() -> Result<()> {
    let failing = "CREATE FEATURE SET totals (
            CONSTRAINT few EXPECT AGGREGATE (sum(events) < 15) ON VIOLATION FAIL
        ) WITH (path = 'features/totals', format = 'delta')
        AS SELECT kind, count(*) AS events FROM events GROUP BY kind;\n";
    let world = World::new(&[EVENTS, LINES, failing])?;
    world.deliver(0..1)?;
    world.run()?.expect_code(0)?;
    world.deliver(1..2)?;
    says(&world.run()?, 4, &["few", "totals"])?;
    assert_eq!(world.rows("totals")?, 3);
    assert_eq!(world.rows("lines")?, 20, "what was committed before it stays");
    Ok(())
}

#[test]
fn ctrl_c_gives_the_epoch_up_and_says_what_is_committed() -> Result<()> {
    let world = World::new(&["SET epoch_files = 1;", EVENTS, LINES, TOTALS])?;
    world.deliver(0..200)?;
    let mut child = world.bessemer.start_listening(["run", &world.pipeline.path()])?;
    world.wait_for_first_epoch(&mut child)?;
    signal("-INT", child.id())?;
    let outcome = Outcome::of(child)?;
    says(&outcome, 130, &["interrupted: stopping", "of this run committed, the last is epoch"])?;
    let rows = world.rows("lines")?;
    assert!((10..2000).contains(&rows), "{rows} rows");

    world.run()?.expect_code(0)?;
    assert_eq!((world.rows("lines")?, world.rows("totals")?), (2000, 3));
    Ok(())
}

#[test]
fn a_bad_file_under_a_grouping_is_named() -> Result<()> {
    let world = World::new(&[EVENTS, TOTALS])?;
    world.deliver(0..2)?;
    world.run()?.expect_code(0)?;
    truncated_gzip(&world.path("in/events-005.json.gz"), &records(50, 5000))?;
    says(&world.run()?, 4, &["events-005.json.gz", "gzip"])?;
    assert_eq!(world.rows("totals")?, 3);
    Ok(())
}

#[test]
fn a_bad_file_under_a_lookup_is_named() -> Result<()> {
    let world = World::new(&[
        EVENTS,
        "CREATE TABLE kinds (kind VARCHAR, name VARCHAR) WITH (path = 'in/kinds.json.gz');",
        "CREATE FEATURE SET named WITH (path = 'features/named', partition_by = 'kind')
         AS SELECT e.id, e.kind, k.name FROM events e LEFT JOIN kinds k ON e.kind = k.kind;",
    ])?;
    world.deliver(0..4)?;
    let kinds = (0..5000).fold(String::new(), |text, at| format!("{text}{{\"kind\":\"k{at}\",\"name\":\"n{at}\"}}\n"));
    truncated_gzip(&world.path("in/kinds.json.gz"), &kinds)?;
    says(&world.run()?, 4, &["kinds.json.gz", "gzip"])?;
    assert_eq!(world.rows("named")?, 0);
    Ok(())
}

#[test]
fn a_change_that_committed_rows_can_follow_is_told_and_another_is_refused() -> Result<()> {
    let world = World::new(&[EVENTS, LINES, TOTALS])?;
    world.deliver(0..1)?;
    world.run()?.expect_code(0)?;
    world.deliver(1..2)?;
    let changed = TOTALS.replace("sum(value)", "max(value)");
    world.define(&[EVENTS, LINES, &changed])?;
    says(&world.run()?, 0, &["changed since epoch", "totals"])?;
    let epoch = world.ask("status")?["epoch"].clone();

    world.deliver(2..3)?;
    world.define(&[EVENTS, &LINES.replace("value FROM", "value + 1 AS value FROM"), &changed])?;
    says(&world.run()?, 2, &["lines", "its query is different"])?;
    world.define(&[EVENTS, LINES, &changed])?;
    assert_eq!(world.ask("status")?["epoch"], epoch, "what is refused is not recorded");
    assert_eq!(world.rows("lines")?, 20);
    Ok(())
}

#[test]
fn a_set_that_comes_back_elsewhere_is_refused() -> Result<()> {
    let world = World::new(&[EVENTS, LINES, TOTALS])?;
    world.deliver(0..1)?;
    world.run()?.expect_code(0)?;
    world.define(&[EVENTS, LINES])?;
    for number in 1..3 {
        world.deliver(number..number + 1)?;
        world.run()?.expect_code(0)?;
    }
    world.define(&[EVENTS, LINES, &TOTALS.replace("features/totals", "features/other")])?;
    says(&world.run()?, 2, &["totals", "its layout was"])?;
    world.define(&[EVENTS, LINES, TOTALS])?;
    says(&world.run()?, 0, &["it was removed and is back"])?;
    assert_eq!(world.rows("totals")?, 3);
    let total: u64 = world.pipeline.rows("totals")?.rows.iter().map(|row| row[1].parse::<u64>().unwrap()).sum();
    assert_eq!(total, 30);
    Ok(())
}

#[test]
fn a_file_that_changed_after_it_was_read_stops_the_run() -> Result<()> {
    let world = World::new(&[EVENTS, LINES])?;
    world.deliver(0..2)?;
    world.run()?.expect_code(0)?;
    fs::write(world.path("in/events-000.json"), records(0, 11))?;
    says(&world.run()?, 4, &["events-000.json", "on_change"])?;
    assert_eq!(world.rows("lines")?, 20);
    Ok(())
}

#[test]
fn a_change_that_is_ignored_is_counted_once_whoever_reads_the_log() -> Result<()> {
    let ignoring = EVENTS.replace("WITH (", "WITH (on_change = 'ignore', ");
    for (set, text) in [("lines", LINES), ("totals", TOTALS)] {
        let world = World::new(&[&ignoring, text])?;
        world.deliver(0..2)?;
        world.run()?.expect_code(0)?;
        let rows = world.rows(set)?;
        fs::write(world.path("in/events-000.json"), records(0, 11))?;
        let summary = world.ask("run")?;
        assert_eq!(summary["sources"][0]["ignored"], 1, "{set}: {summary}");
        let log = world.ask("log")?;
        let ignored: u64 = log.as_array().unwrap().iter().map(|epoch| epoch["ignored"].as_u64().unwrap()).sum();
        assert_eq!(ignored, 1, "{set}: {log}");
        let again = world.ask("run")?;
        assert_eq!((again["epochs"].as_u64(), world.rows(set)?), (Some(0), rows), "{set}: {again}");
    }
    Ok(())
}

#[test]
fn a_snapshot_that_needs_an_object_which_is_no_longer_there_stops_with_its_name() -> Result<()> {
    let ignoring = EVENTS.replace("WITH (", "WITH (on_change = 'ignore', ");
    // It needs every row once more.
    let collected = TOTALS.replace("count(*) AS events", "array_length(array_agg(id)) AS events");
    let world = World::new(&[&ignoring, &collected])?;
    world.deliver(0..2)?;
    world.run()?.expect_code(0)?;
    let (first, away) = (world.path("in/events-000.json"), world.path("away"));
    fs::rename(&first, &away)?;
    world.deliver(2..3)?;
    says(&world.run()?, 4, &["events-000.json", "disappeared", "totals", "TABLE"])?;

    fs::write(&first, records(0, 11))?;
    says(&world.run()?, 4, &["events-000.json", "changed", "totals", "TABLE"])?;
    assert_eq!(world.rows("totals")?, 3);

    fs::rename(&away, &first)?;
    world.run()?.expect_code(0)?;
    let total: u64 = world.pipeline.rows("totals")?.rows.iter().map(|row| row[1].parse::<u64>().unwrap()).sum();
    assert_eq!(total, 30);
    Ok(())
}

#[test]
fn a_full_disk_stops_the_run_and_leaves_nothing() -> Result<()> {
    let small = "CREATE FEATURE SET small WITH (path = 'features/small')
        AS SELECT id, kind FROM events WHERE kind <> 'big';\n";
    let world = World::new(&[EVENTS, small, LINES, TOTALS])?;
    world.deliver(0..1)?;
    world.run()?.expect_code(0)?;
    // No file may grow beyond 64 KiB. Most of the rows are of one kind, so the files of the others fit.
    let mut text = records(10_000, 20);
    for id in 0..40_000_u64 {
        writeln!(text, "{{\"id\":{id},\"kind\":\"big\",\"value\":{}}}", id.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 1)?;
    }
    fs::write(world.path("in/events-900.json"), text)?;
    let full = world.bessemer.call_in_shell("trap '' XFSZ; ulimit -f 128", ["run", &world.pipeline.path()])?;
    says(&full, 3, &["cannot write", "features/lines"])?;
    assert_eq!((world.rows("small")?, world.rows("lines")?, world.rows("totals")?), (10, 10, 3));

    world.run()?.expect_code(0)?;
    assert_eq!((world.rows("small")?, world.rows("lines")?, world.rows("totals")?), (30, 40_030, 4));
    Ok(())
}

#[test]
fn a_manifest_of_a_newer_version_is_refused_with_both_versions() -> Result<()> {
    let world = World::new(&[EVENTS, LINES])?;
    world.deliver(0..1)?;
    world.run()?.expect_code(0)?;
    let newer = world.path(".bessemer/p/manifests/00000000000000000003.json");
    fs::write(newer, "{\"format_version\":99,\"shape\":\"unknown\"}\n")?;
    says(&world.run()?, 2, &["version 99", &format!("up to {}", bessemer_schemas::FORMAT_VERSION)])
}

#[test]
fn a_second_process_finds_the_pipeline_locked() -> Result<()> {
    let world = World::new(&["SET epoch_files = 1;", EVENTS, LINES])?;
    world.deliver(0..50)?;
    let mut first = world.bessemer.start_listening(["run", &world.pipeline.path()])?;
    world.wait_for_first_epoch(&mut first)?;
    signal("-STOP", first.id())?;
    says(&world.run()?, 5, &["locked"])?;
    signal("-CONT", first.id())?;
    Outcome::of(first)?.expect_code(0)?;
    assert_eq!(world.rows("lines")?, 500);
    Ok(())
}

/// A kill between a commit and its publication leaves the log one version behind.
#[test]
fn a_delta_log_that_a_kill_left_behind_follows_at_the_next_run() -> Result<()> {
    let world = World::new(&[EVENTS, &LINES.replace("WITH (", "WITH (format = 'delta', ")])?;
    for number in 0..3 {
        world.deliver(number..number + 1)?;
        world.run()?.expect_code(0)?;
    }
    let log = world.path("features/lines/_delta_log");
    let newest = fs::read_dir(&log)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    let newest = newest.into_iter().filter(|path| path.extension().is_some_and(|json| json == "json")).max().unwrap();
    let published = fs::read_to_string(&newest)?;
    fs::remove_file(&newest)?;
    world.run()?.expect_code(0)?;

    let added = |text: &str| {
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter_map(|action| Some(action["add"]["path"].as_str()?.to_owned())).collect::<Vec<_>>()
    };
    assert_eq!(added(&fs::read_to_string(&newest)?), added(&published));
    assert_eq!((added(&published).len(), world.rows("lines")?), (3, 30));
    Ok(())
}

#[test]
fn every_question_has_an_answer_in_json() -> Result<()> {
    let world = World::new(&[EVENTS, LINES, TOTALS])?;
    says(&world.bessemer.call(["status", &world.pipeline.path()])?, 2, &["no epoch yet"])?;
    world.deliver(0..2)?;
    fs::write(world.path("in/events-002.json"), "no json\n")?;
    world.run()?.expect_code(0)?;

    assert_eq!(world.ask("check")?["ok"], true);
    assert_eq!(world.ask("status")?["feature_sets"][0]["rows"], 20);
    let explained = world.ask("explain")?;
    assert!(explained[1]["plan"].as_str().unwrap().contains("Aggregate"), "{explained}");
    let log = world.ask("log")?;
    assert_eq!(log.as_array().unwrap().iter().map(|epoch| epoch["objects"].as_u64().unwrap()).sum::<u64>(), 3, "{log}");
    let ledger = world.ask("ledger")?;
    let source = &ledger["sources"][0];
    assert_eq!((ledger["balanced"].as_bool(), source["records"].as_u64()), (Some(true), Some(21)));
    assert_eq!((world.quarantined_files()?, source["undecodable"].as_u64()), (1, Some(1)));
    let inspected = world.ask("inspect")?;
    assert_eq!(inspected["epoch"], world.ask("status")?["epoch"]);
    for (name, rows) in [("events", 10), ("lines", 10), ("totals", 3)] {
        let preview = world.bessemer.call(["preview", &world.pipeline.path(), name, "--json"])?;
        preview.expect_code(0)?;
        assert_eq!(preview.stdout.lines().count(), rows, "{name}: {}", preview.stdout);
    }
    Ok(())
}

#[test]
fn an_inspected_manifest_is_whole() -> Result<()> {
    let world = World::new(&["SET epoch_files = 1;", EVENTS, LINES])?;
    world.deliver(0..270)?;
    world.run()?.expect_code(0)?;
    let newest = world.ask("inspect")?;
    assert!(newest["base"]["through"].as_u64().context("no base")? > 200);
    let epoch = newest["epoch"].to_string();
    let named = world.bessemer.json(["inspect", &world.pipeline.path(), &epoch])?;
    assert_eq!(named, newest);
    Ok(())
}

#[test]
fn a_preview_asks_only_for_what_it_reads() -> Result<()> {
    let world = World::new(&[
        EVENTS,
        "CREATE SOURCE closed (id BIGINT NOT NULL) WITH (path = 'http://127.0.0.1:1/x.json', format = 'json',
            store_retry_max = 0);",
        "CREATE FEATURE SET all_closed WITH (path = 'features/closed') AS SELECT id FROM closed;",
        LINES,
    ])?;
    world.deliver(0..1)?;
    let preview = world.bessemer.call(["preview", &world.pipeline.path(), "lines", "--json"])?;
    preview.expect_code(0)?;
    assert_eq!(preview.stdout.lines().count(), 10, "{}", preview.stdout);
    Ok(())
}

#[test]
fn a_file_says_by_what_its_rows_are_sorted() -> Result<()> {
    let sorted = "CREATE FEATURE SET sorted EVENT TIME (at) WITH (path = 'features/sorted', partition_by = 'kind')
        AS SELECT id, kind, at FROM events;\n";
    let grouped =
        "CREATE FEATURE SET grouped ENTITY (kind, value) WITH (path = 'features/grouped', partition_by = 'kind')
        AS SELECT kind, value, count(*) AS events FROM events GROUP BY kind, value;\n";
    let world = World::new(&[EVENTS, sorted, grouped, LINES])?;
    world.deliver(0..2)?;
    world.run()?.expect_code(0)?;
    for (set, column) in [("sorted", Some("at")), ("grouped", Some("value")), ("lines", None)] {
        for path in parquet_files(&world.pipeline.features.join(set))? {
            let reader = SerializedFileReader::new(File::open(path)?)?;
            let group = reader.metadata().row_group(0);
            let sorting = group.sorting_columns().and_then(|columns| columns.first());
            let leaf = sorting.map(|sorting| usize::try_from(sorting.column_idx).unwrap());
            let name = leaf.map(|leaf| group.column(leaf).column_descr().name());
            assert_eq!(name, column, "{set}");
        }
    }
    Ok(())
}

/// A loss of power cannot be made here, but the order of the system's calls can be seen.
#[test]
fn the_folder_of_the_manifests_is_on_disk_before_the_first_manifest_is() -> Result<()> {
    let world = World::new(&[EVENTS, LINES])?;
    world.deliver(0..1)?;
    let trace = world.path("trace");
    let strace = format!(
        "command -v strace >&2 && exec strace -f -y -o '{}' -e trace=?mkdir,?mkdirat,fsync,?link,linkat \"$0\" \"$@\"",
        trace.display()
    );
    let traced = world.bessemer.call_in_shell(&strace, ["run", &world.pipeline.path()])?;
    let calls = fs::read_to_string(&trace).unwrap_or_default();
    if traced.code != Some(0) || !calls.contains("mkdir") {
        println!("skipped: no strace, or it may not trace");
        return Ok(());
    }
    let first = |what: &str, of: &str, after: usize| {
        let mut calls = calls.lines().enumerate().skip(after);
        let found = calls.find(|(_, call)| call.contains(what) && call.contains(of));
        found.map(|(at, _)| at).with_context(|| format!("no {what} of {of} after line {after} of\n{}", trace.display()))
    };
    let made = first("mkdir", ".bessemer/p/manifests\"", 0)?;
    let synced = first("fsync", ".bessemer/p>", made)?;
    let named = first("link", "manifests/00000000000000000001.json\"", 0)?;
    assert!(made < synced && synced < named, "{made} {synced} {named}");
    Ok(())
}
