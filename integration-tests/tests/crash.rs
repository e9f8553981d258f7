//! Killed at any moment and started again, a pipeline ends as if nothing had happened.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;
use bessemer_integration_tests::{Bessemer, Flights, Pipeline, parquet_files, pause};
use flate2::read::GzDecoder;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const SEED: u64 = 0x00be_55e3;
const KILLS: usize = 100;
/// Files that arrive before each start, and records in each.
const FILES_A_ROUND: usize = 3;
const RECORDS_A_FILE: usize = 20;

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
    for round in rest.chunks(FILES_A_ROUND).take(KILLS) {
        round.iter().try_for_each(|file| deliver(file, data.path()))?;
        interrupted += usize::from(kill_after(&bessemer, &killed, longest.mul_f64(random.random()))?);
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
        let on_disk = parquet_files(&killed.features.join(set))?;
        assert_eq!(killed.live_files(bessemer, set)?, on_disk, "an orphan, or a lost file, in {set}");
    }
    assert_eq!(leftovers(&killed.features)?, BTreeSet::new(), "something else was left behind");

    let [expected, found] = [calm, killed].map(|pipeline| bessemer.json(["ledger", &pipeline.path(), "--json"]));
    let (expected, found) = (expected?, found?);
    assert_eq!(found["balanced"], true);
    for source in ["records", "decoded", "undecodable", "admitted", "quarantined"] {
        assert_eq!(found["sources"][0][source], expected["sources"][0][source], "{source}");
    }
    for (set, _) in SETS.iter().enumerate() {
        for count in ["written", "quarantined", "dropped"] {
            assert_eq!(found["sets"][set][count], expected["sets"][set][count], "{count}");
        }
    }
    let [expected, found] =
        [calm, killed].map(|pipeline| bessemer.call(["quarantine", &pipeline.path(), "flights", "--limit", "1000"]));
    assert_eq!(found?.stdout.matches("not,a,flight").count(), expected?.stdout.matches("not,a,flight").count());
    Ok(())
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
