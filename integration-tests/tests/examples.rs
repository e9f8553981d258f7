//! The examples, from their files to committed rows, against what `DuckDB` computed from the same files.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::fs;
use std::path::Path;

use anyhow::Result;
use bessemer_integration_tests::{Bessemer, Flights, Pinned, Pipeline, SETS, parquet_files, repository};

/// Runs the example over `flights` and compares rows, fates and ledger.
fn check_run(bessemer: &Bessemer, pipeline: &Pipeline, flights: &Flights) -> Result<()> {
    let summary = bessemer.json(["run", &pipeline.path(), "--json"])?;
    for set in SETS {
        flights.pinned.compare(set, &pipeline.rows(set)?)?;
        let line = summary["sets"].as_array().unwrap().iter().find(|line| line["name"] == set).unwrap();
        for fate in ["written", "quarantined", "dropped"] {
            assert_eq!(line[fate].as_u64(), Some(flights.pinned.count(set, fate)?), "{set}: {fate}");
        }
        assert_eq!(pipeline.live_files(bessemer, set)?, parquet_files(&pipeline.features.join(set))?, "{set}");
    }
    let flights_line = summary["sources"].as_array().unwrap().iter().find(|line| line["name"] == "flights").unwrap();
    for count in ["records", "undecodable"] {
        assert_eq!(flights_line[count], flights.pinned.counts["sources"]["flights"][count], "flights: {count}");
    }
    assert_eq!(bessemer.json(["ledger", &pipeline.path(), "--json"])?["balanced"], true);
    Ok(())
}

#[test]
fn every_set_of_the_whole_year_equals_what_duckdb_computes() -> Result<()> {
    let flights = Flights::year_or_example()?;
    let bessemer = Bessemer::find()?.env("FLIGHTS_DATA", &flights.data);
    check_run(&bessemer, &Pipeline::flights("${FLIGHTS_DATA}", |text| text)?, &flights)
}

#[test]
fn the_example_equals_what_duckdb_computes_and_a_second_run_reads_nothing() -> Result<()> {
    let flights = Flights::example()?;
    let bessemer = Bessemer::find()?;
    let pipeline = Pipeline::flights(&flights.data.display().to_string(), |text| text)?;
    check_run(&bessemer, &pipeline, &flights)?;

    let before = parquet_files(&pipeline.features)?;
    let again = bessemer.json(["run", &pipeline.path(), "--json"])?;
    assert_eq!(again["objects"], 0, "{again}");
    assert_eq!(parquet_files(&pipeline.features)?, before);
    let said = bessemer.call(["run", &pipeline.path()])?;
    said.expect_code(0)?;
    assert!(said.stdout.contains("nothing"), "{}", said.stdout);
    Ok(())
}

#[test]
fn a_new_file_is_all_that_the_next_run_reads_and_every_set_is_right_afterwards() -> Result<()> {
    let flights = Flights::example()?;
    let bessemer = Bessemer::find()?;
    let data = tempfile::tempdir()?;
    let mut files: Vec<_> =
        fs::read_dir(&flights.data)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    files.sort();
    // A file in the middle of the others arrives last: its name decides nothing.
    let late = files.iter().position(|path| path.ends_with("flights-2013-01-22.csv.gz")).unwrap();
    let late = files.remove(late);
    let copy = |path: &Path| fs::copy(path, data.path().join(path.file_name().unwrap()));
    for file in &files {
        copy(file)?;
    }
    let pipeline = Pipeline::flights(&data.path().display().to_string(), |text| text)?;
    bessemer.json(["run", &pipeline.path(), "--json"])?;
    let old = parquet_files(&pipeline.features.join("plane_history"))?;

    copy(&late)?;
    let summary = bessemer.json(["run", &pipeline.path(), "--json"])?;
    assert_eq!(summary["objects"], 1, "{summary}");
    for set in SETS {
        flights.pinned.compare(set, &pipeline.rows(set)?)?;
    }
    let new = parquet_files(&pipeline.features.join("plane_history"))?;
    assert!(old.iter().all(|file| new.contains(file)), "an append set keeps its files");
    Ok(())
}

/// Sessions, rolling features and interval joins of the examples, whose events come out of order, twice and broken.
#[test]
fn streams_equal_what_duckdb_computes_in_whatever_order_their_files_come() -> Result<()> {
    let bessemer = Bessemer::find()?;
    for (example, sets) in
        [("clickstream", ["sessions", "activity", "attribution"]), ("fraud", ["velocity", "bursts", "guesses"])]
    {
        let pinned = Pinned::open(&repository().join("integration-tests/oracle/expected").join(example))?;
        let is_table = |path: &Path| path.ends_with("cards.csv.gz");
        let mut files: Vec<_> = fs::read_dir(repository().join("examples").join(example).join("data"))?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<_, _>>()?;
        // The last events first; and a table, which is whole from the beginning.
        files.sort_by(|left, right| (is_table(right), right).cmp(&(is_table(left), left)));
        let (first, rest) = files.split_at(files.len() / 2);
        let data = tempfile::tempdir()?;
        let pipeline = Pipeline::example(example, &data.path().display().to_string(), |text| text)?;
        for path in first {
            fs::copy(path, data.path().join(path.file_name().unwrap()))?;
        }
        bessemer.json(["run", &pipeline.path(), "--json"])?;
        let is_right = |set| Ok::<_, anyhow::Error>(pinned.compare(set, &pipeline.rows(set)?).is_ok());
        assert!(!is_right(sets[2])?, "half of the files are enough");

        for path in rest {
            fs::copy(path, data.path().join(path.file_name().unwrap()))?;
        }
        bessemer.json(["run", &pipeline.path(), "--json"])?;
        let ledger = bessemer.json(["ledger", &pipeline.path(), "--json"])?;
        assert_eq!(ledger["balanced"], true);
        for set in sets {
            pinned.compare(set, &pipeline.rows(set)?)?;
        }
        for (source, counts) in pinned.counts["sources"].as_object().unwrap() {
            let said = ledger["sources"].as_array().unwrap().iter().find(|said| said["source"] == source.as_str());
            for count in ["records", "undecodable"] {
                assert_eq!(said.unwrap()[count], counts[count], "{example}: {source}: {count}: {ledger}");
            }
        }
    }
    Ok(())
}

#[test]
fn what_cannot_be_read_is_in_quarantine_with_its_bytes() -> Result<()> {
    let flights = Flights::example()?;
    let bessemer = Bessemer::find()?;
    let pipeline = Pipeline::flights(&flights.data.display().to_string(), |text| text)?;
    bessemer.json(["run", &pipeline.path(), "--json"])?;
    let shown = bessemer.call(["quarantine", &pipeline.path(), "flights"])?;
    shown.expect_code(0)?;
    for part in ["-1O", "2013,3,1,,557", "T25:00:00Z", "flights-2013-03-01-damaged.csv"] {
        assert!(shown.stdout.contains(part), "`{part}` is missing in\n{}", shown.stdout);
    }
    Ok(())
}
