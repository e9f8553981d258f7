//! Killed at any moment and started again, a pipeline ends as if nothing had happened.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bessemer_integration_tests::{Bessemer, Flights, Pipeline, parquet_files, pause};
use flate2::read::GzDecoder;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;

const SEED: u64 = 0x00be_55e3;
const KILLS: usize = 100;
/// Files that arrive before each start, and records in each.
const FILES_A_ROUND: usize = 3;
const RECORDS_A_FILE: usize = 20;
/// After this many kills a run is let through to its end, and everything on disk is looked at.
const KILLS_A_LOOK: usize = 10;

const SETS: [&str; 2] = ["departures", "busy_hours"];

/// One file an epoch, so that most moments lie inside an epoch and many between two.
fn pipeline(data: &Path) -> Result<Pipeline> {
    Pipeline::new(&format!(
        "CREATE PIPELINE crash;
         SET epoch_files = 1;
         CREATE SOURCE flights (
             year INT NOT NULL, month INT NOT NULL, day INT NOT NULL, dep_time INT, sched_dep_time INT NOT NULL,
             dep_delay INT, arr_time INT, sched_arr_time INT NOT NULL, arr_delay INT, carrier VARCHAR NOT NULL,
             flight INT NOT NULL, tailnum VARCHAR, origin VARCHAR NOT NULL, dest VARCHAR NOT NULL, air_time INT,
             distance INT NOT NULL, hour INT NOT NULL, minute INT NOT NULL, time_hour TIMESTAMPTZ NOT NULL
         ) WITH (connector = 'object_store', path = '{}/*.csv', format = 'csv', null_values = 'NA');
         CREATE FEATURE SET departures (
             CONSTRAINT known_plane EXPECT (tailnum IS NOT NULL) ON VIOLATION QUARANTINE,
             CONSTRAINT not_early EXPECT (dep_delay >= -10) ON VIOLATION DROP ROW
         )
         ENTITY (tailnum) EVENT TIME (scheduled)
         WITH (path = 'features/departures', partition_by = 'origin')
         AS SELECT time_hour AS scheduled, carrier, flight, origin, tailnum, dep_delay FROM flights;
         CREATE FEATURE SET busy_hours ENTITY (origin) EVENT TIME (scheduled) WITH (path = 'features/busy_hours')
         AS SELECT origin, time_hour AS scheduled, count(*) AS departures, sum(dep_delay) AS delay
            FROM flights GROUP BY origin, time_hour;",
        data.display()
    ))
}

/// Real flights in many small files, one of them damaged.
fn small_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let week = Flights::example()?.data.join("flights-2013-01-01.csv.gz");
    let text = std::io::read_to_string(GzDecoder::new(fs::File::open(week)?))?;
    let mut lines = text.lines();
    let header = lines.next().unwrap_or_default();
    let records: Vec<_> = lines.collect();
    let chunks = records.chunks(RECORDS_A_FILE).take(FILES_A_ROUND * (KILLS + 1));
    chunks
        .enumerate()
        .map(|(number, records)| {
            let path = folder.join(format!("{number:05}.csv"));
            let damage = if number % 50 == 7 { "not,a,flight\n" } else { "" };
            fs::write(&path, format!("{header}\n{}\n{damage}", records.join("\n")))?;
            Ok(path)
        })
        .collect()
}

/// Moves a file in, as a writer that does it well: it appears whole.
fn deliver(file: &Path, data: &Path) -> Result<()> {
    let name = file.file_name().unwrap_or_default();
    let hidden = data.join(".arriving");
    fs::copy(file, &hidden)?;
    fs::rename(hidden, data.join(name))?;
    Ok(())
}

#[test]
fn a_hundred_kills_change_nothing() -> Result<()> {
    let bessemer = Bessemer::find()?;
    let stock = tempfile::tempdir()?;
    let files = small_files(stock.path())?;

    let calm_data = tempfile::tempdir()?;
    files.iter().try_for_each(|file| deliver(file, calm_data.path()))?;
    let calm = pipeline(calm_data.path())?;
    bessemer.json(["run", &calm.path(), "--json"])?;

    let data = tempfile::tempdir()?;
    let killed = pipeline(data.path())?;
    let (first, rest) = files.split_at(FILES_A_ROUND);
    first.iter().try_for_each(|file| deliver(file, data.path()))?;
    let started = Instant::now();
    bessemer.json(["run", &killed.path(), "--json"])?;
    let longest = started.elapsed().mul_f64(1.2);

    println!("seed {SEED:#x}, moments within {longest:?}");
    let mut random = StdRng::seed_from_u64(SEED);
    let mut interrupted = 0;
    for (number, round) in rest.chunks(FILES_A_ROUND).take(KILLS).enumerate() {
        round.iter().try_for_each(|file| deliver(file, data.path()))?;
        interrupted += usize::from(kill_after(&bessemer, &killed, longest.mul_f64(random.random()))?);
        if (number + 1).is_multiple_of(KILLS_A_LOOK) {
            bessemer.json(["run", &killed.path(), "--json"])?;
            check_no_orphan(&bessemer, &killed)?;
        }
    }
    println!("{interrupted} of {KILLS} runs were killed before their end");
    assert!(interrupted > KILLS / 2, "only {interrupted} runs were killed before their end");

    bessemer.json(["run", &killed.path(), "--json"])?;
    check_same(&bessemer, &calm, &killed)
}

/// Starts a run and kills it after `time`; whether it was still running.
fn kill_after(bessemer: &Bessemer, pipeline: &Pipeline, time: Duration) -> Result<bool> {
    let mut child = bessemer.start(["run", &pipeline.path()])?;
    pause(time);
    let running = child.try_wait()?.is_none();
    child.kill()?;
    let status = child.wait()?;
    assert!(running || status.success(), "a run ended with {status} by itself");
    Ok(running)
}

fn check_same(bessemer: &Bessemer, calm: &Pipeline, killed: &Pipeline) -> Result<()> {
    for set in SETS {
        let columns = calm.rows(set)?.columns;
        let names: Vec<_> = columns.iter().map(|(name, _)| name.as_str()).collect();
        let expected = calm.rows(set)?.sorted();
        let found = killed.rows(set)?.select(&names)?.sorted();
        assert!(expected.rows.len() > 300, "{set} has only {} rows", expected.rows.len());
        assert_eq!(found.rows.len(), expected.rows.len(), "{set}");
        assert!(found == expected, "rows of {set} differ");
    }
    check_no_orphan(bessemer, killed)?;

    let [expected, found] = [calm, killed].map(|pipeline| bessemer.json(["ledger", &pipeline.path(), "--json"]));
    let (expected, found) = (expected?, found?);
    assert_eq!(found["balanced"], true);
    for count in ["records", "decoded", "undecodable", "admitted", "quarantined"] {
        let [expected, found] = [&expected, &found].map(|ledger| count_of(ledger, "source", "flights", count));
        assert_eq!(found?, expected?, "{count}");
    }
    for set in SETS {
        for count in ["written", "quarantined", "dropped"] {
            let [expected, found] = [&expected, &found].map(|ledger| count_of(ledger, "set", set, count));
            assert_eq!(found?, expected?, "{set}: {count}");
        }
    }
    assert!(count_of(&expected, "source", "flights", "undecodable")? > 3, "no file was damaged");
    assert!(count_of(&expected, "set", "departures", "quarantined")? > 3, "no row was quarantined");
    let [expected, found] = [calm, killed].map(|pipeline| damaged_lines(bessemer, pipeline));
    assert_eq!(found?, expected?);
    Ok(())
}

/// A count of the ledger, which must have it.
fn count_of(ledger: &Value, of: &str, name: &str, count: &str) -> Result<u64> {
    let lines = ledger[format!("{of}s")].as_array().context("the ledger has no lines")?;
    let line = lines.iter().find(|line| line[of] == name).with_context(|| format!("no {of} `{name}`"))?;
    line[count].as_u64().with_context(|| format!("{of} `{name}` has no `{count}`"))
}

fn damaged_lines(bessemer: &Bessemer, pipeline: &Pipeline) -> Result<usize> {
    let shown = bessemer.call(["quarantine", &pipeline.path(), "flights", "--limit", "1000"])?;
    shown.expect_code(0)?;
    let lines = shown.stdout.matches("not,a,flight").count();
    assert!(lines > 0, "{}", shown.stdout);
    Ok(lines)
}

/// After a run that came to its end: what is on disk is what the manifests name, in the sets, the quarantines and the
/// state.
fn check_no_orphan(bessemer: &Bessemer, pipeline: &Pipeline) -> Result<()> {
    for set in SETS {
        let on_disk = parquet_files(&pipeline.features.join(set))?;
        assert_eq!(pipeline.live_files(bessemer, set)?, on_disk, "an orphan, or a lost file, in {set}");
    }
    assert_eq!(leftovers(&pipeline.features)?, BTreeSet::new(), "something else was left behind");

    let state = pipeline.folder().join(".bessemer/crash");
    let quarantine = bessemer.json(["quarantine", &pipeline.path(), "--json"])?;
    for line in quarantine.as_array().context("no list")? {
        let (of, name) = (line["of"].as_str().context("of")?, line["name"].as_str().context("name")?);
        let folder = state.join("quarantine").join(of).join(name);
        let on_disk = if folder.is_dir() { parquet_files(&folder)?.len() } else { 0 };
        assert_eq!(line["files"].as_u64(), Some(on_disk as u64), "an orphan in the quarantine of {of} {name}");
    }
    assert_eq!(leftovers(&state.join("quarantine"))?, BTreeSet::new(), "something else was left in quarantine");
    check_no_orphan_in_state(&state)
}

/// Blocks are named by the newest manifest, blocks of slices by any, and manifests by their numbers.
fn check_no_orphan_in_state(state: &Path) -> Result<()> {
    let manifests = names_in(&state.join("manifests"))?;
    let mut texts = Vec::new();
    for (number, name) in manifests.iter().enumerate() {
        assert_eq!(*name, format!("{:020}.json", number + 1));
        texts.push(fs::read_to_string(state.join("manifests").join(name))?);
    }
    let newest: Value = serde_json::from_str(texts.last().context("no manifest")?)?;
    let named_by = |text: &str, folder: &str| {
        let before = format!("\"{folder}/");
        let names = text.split(&before).skip(1).filter_map(|rest| rest.split('"').next());
        names.map(str::to_owned).collect::<BTreeSet<_>>()
    };
    assert_eq!(names_in(&state.join("blocks"))?, named_by(&newest["base"].to_string(), "blocks"), "blocks");
    assert_eq!(names_in(&state.join("slices"))?, named_by(&texts.concat(), "slices"), "blocks of slices");
    Ok(())
}

fn names_in(folder: &Path) -> Result<BTreeSet<String>> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

/// Files below the sets' folders that are no committed Parquet: temporary ones of a writer that died.
fn leftovers(folder: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_none_or(|extension| extension != "parquet") {
                found.insert(path);
            }
        }
    }
    Ok(found)
}
