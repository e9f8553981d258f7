//! Watermarks over the partitions of a topic: those that nobody writes to, and those that are ahead of others.

use std::fs;

use anyhow::{Context, Result};
use bessemer_integration_tests::{Bessemer, KafkaCluster, Pipeline, signal, wait_until};
use serde_json::Value;

/// A record of a minute after New Year.
fn record(id: i64, minute: i64) -> String {
    format!(
        "{{\"id\": {id}, \"at\": \"2013-01-{:02}T{:02}:{:02}:00\"}}",
        1 + minute / 1_440,
        minute / 60 % 24,
        minute % 60
    )
}

fn over_topic(cluster: &KafkaCluster, settings: &str, options: &str, sets: &str) -> Result<Pipeline> {
    Pipeline::new(&format!(
        "CREATE PIPELINE watermarks; SET partitions = 2; {settings}
         CREATE SOURCE events (id BIGINT NOT NULL, at TIMESTAMP NOT NULL,
             WATERMARK FOR at AS at - INTERVAL '5 minutes' ON LATE QUARANTINE)
         WITH (connector = 'kafka', bootstrap_servers = '{}', topic = 'events', format = 'json'{options});
         {sets}",
        cluster.bootstrap_servers()
    ))
}

const SETS: &str = "
    CREATE FEATURE SET hours EMIT ON WINDOW CLOSE WITH (path = 'features/hours')
    AS SELECT window_start, count(*) AS n, min(id) AS least FROM TUMBLE(events, at, INTERVAL '1 hour') GROUP BY window_start;
    CREATE FEATURE SET totals WITH (path = 'features/totals') AS SELECT id % 2 AS odd, count(*) AS n FROM events GROUP BY 1;
    CREATE FEATURE SET places WITH (path = 'features/places')
    AS SELECT id, row_number() OVER (ORDER BY id) AS place FROM events;
    CREATE FEATURE SET seen WITH (path = 'features/seen') AS SELECT id FROM events;";

fn numbers(pipeline: &Pipeline, set: &str, columns: &[&str]) -> Result<Vec<Vec<i64>>> {
    // A set without a row has no folder yet.
    if !pipeline.folder().join("features").join(set).exists() {
        return Ok(Vec::new());
    }
    let rows = pipeline.rows(set)?;
    let rows = if rows.rows.is_empty() { Vec::new() } else { rows.select(columns)?.sorted().rows };
    let numbers = rows.iter().map(|row| row.iter().map(|value| Ok(value.parse()?)).collect());
    let mut numbers = numbers.collect::<Result<Vec<Vec<i64>>>>()?;
    numbers.sort();
    Ok(numbers)
}

fn status(bessemer: &Bessemer, pipeline: &Pipeline) -> Result<Value> {
    let outcome = bessemer.call(["status", &pipeline.path(), "--json"])?;
    Ok(serde_json::from_str(&outcome.stdout).unwrap_or_default())
}

#[test]
fn a_partition_that_nobody_writes_to_holds_nothing_back_and_begins_at_the_watermark() -> Result<()> {
    let bessemer = Bessemer::find()?;
    let cluster = KafkaCluster::start(1)?;
    cluster.create_topic("events", 3)?;
    let pipeline = over_topic(&cluster, "SET epoch_age_max = '50ms';", ", idle_timeout = '300ms'", SETS)?;
    cluster.send("events", 0, (0..180).map(|minute| record(minute, minute)))?;
    cluster.send("events", 1, (0..200).map(|minute| record(1_000 + minute, minute)))?;

    // A run that ends by itself calls no partition idle, and says what it waits for.
    bessemer.json(["run", &pipeline.path(), "--json"])?;
    assert!(numbers(&pipeline, "hours", &["n"])?.is_empty(), "a window was closed");
    let waiting = status(&bessemer, &pipeline)?;
    let watermark = &waiting["watermarks"][0];
    assert_eq!((&watermark["source"], &watermark["at"]), (&"events".into(), &Value::Null), "{waiting}");
    assert_eq!(watermark["held_by"]["partition"], 2, "{waiting}");
    let said = bessemer.call(["status", &pipeline.path()])?.stdout;
    let words = "watermark of `events`: not there yet, held back by partition 2 of `events`, which has had no row yet";
    assert!(said.contains(words), "{said}");

    // Where all are idle none holds it back: it is where the fastest one is, at 03:19 less five minutes.
    let daemon = bessemer.start_listening(["daemon", &pipeline.path()])?;
    wait_until("windows are closed", || Ok(status(&bessemer, &pipeline)?["feature_sets"][0]["rows"] == 3))?;
    signal("-KILL", daemon.id())?;
    drop(daemon.wait_with_output()?);
    assert_eq!(numbers(&pipeline, "hours", &["n"])?, [[120], [120], [120]]);
    let idle = status(&bessemer, &pipeline)?;
    assert_eq!(idle["watermarks"][0]["at"], "2013-01-01 03:14:00Z", "{idle}");
    assert_eq!(idle["watermarks"][0]["idle"].as_array().context("no list")?.len(), 3, "{idle}");

    // It wakes, in a run: what is before the watermark is late, what is after it is not, and it holds the others back.
    cluster.send("events", 2, [record(2_001, 10), record(2_002, 195), record(2_003, 100), record(2_004, 196)])?;
    cluster.send("events", 0, [record(500, 600)])?;
    bessemer.json(["run", &pipeline.path(), "--json"])?;
    let woken = status(&bessemer, &pipeline)?;
    assert_eq!(woken["watermarks"][0]["at"], "2013-01-01 03:14:00Z", "{woken}");
    assert_eq!(woken["watermarks"][0]["held_by"]["partition"], 2, "{woken}");
    let ids = || -> Vec<Vec<i64>> {
        let ids = (0..180).chain([500]).chain(1_000..1_200).chain([2_002, 2_004]);
        ids.map(|id| vec![id]).collect()
    };
    assert_eq!(numbers(&pipeline, "seen", &["id"])?, ids());
    // The sets that are computed over everything, and those that go on from a state, leave out the same rows.
    let check = || -> Result<()> {
        assert_eq!(numbers(&pipeline, "places", &["id"])?, ids());
        let odd = ids().iter().filter(|id| id[0] % 2 == 1).count();
        let expected = [[0, ids().len() - odd], [1, odd]].map(|row| row.map(|n| i64::try_from(n).unwrap_or_default()));
        assert_eq!(numbers(&pipeline, "totals", &["odd", "n"])?, expected);
        let ledger = bessemer.json(["ledger", &pipeline.path(), "--json"])?;
        assert_eq!((&ledger["balanced"], &ledger["sources"][0]["late"]), (&true.into(), &2.into()), "{ledger}");
        Ok(())
    };
    check()?;
    fs::remove_dir_all(pipeline.folder().join(".bessemer/watermarks/aggregates/totals"))?;
    cluster.send("events", 2, [record(2_005, 50)])?;
    let run = bessemer.call(["run", &pipeline.path()])?;
    assert!(run.stderr.contains("the state of `totals` is lost"), "{}", run.stderr);
    let late = bessemer.json(["ledger", &pipeline.path(), "--json"])?["sources"][0]["late"].clone();
    assert_eq!(late, 3);
    assert_eq!(numbers(&pipeline, "places", &["id"])?, ids());
    let totals: i64 = numbers(&pipeline, "totals", &["n"])?.iter().map(|row| row[0]).sum();
    assert_eq!(usize::try_from(totals)?, ids().len());
    let verified = bessemer.call(["replay", "--verify", &pipeline.path()])?;
    verified.expect_code(0)
}

/// Of each epoch of a pipeline, how many minutes its fastest partition is ahead of the slowest that has more to read.
fn spreads(bessemer: &Bessemer, pipeline: &Pipeline, ends: &[i64]) -> Result<Vec<i64>> {
    let epochs = bessemer.json(["log", &pipeline.path(), "--last", "10000", "--json"])?;
    let mut read = vec![0; ends.len()];
    let mut spreads = Vec::new();
    for epoch in epochs.as_array().context("no list")? {
        let manifest = bessemer.json(["inspect", &pipeline.path(), &epoch["epoch"].to_string()])?;
        for range in manifest["slice"]["events"]["ranges"].as_array().into_iter().flatten() {
            let partition = usize::try_from(range["partition"].as_u64().context("no partition")?)?;
            read[partition] = range["end"].as_i64().context("no end")?;
        }
        let partitions = manifest["watermarks"]["events"]["partitions"].as_array();
        let at = partitions.into_iter().flatten().map(|known| known["at"].as_i64().unwrap_or(i64::MIN));
        let at: Vec<_> = at.collect();
        let slowest =
            at.iter().zip(&read).zip(ends).filter(|((_, read), end)| read < end).map(|((at, _), _)| *at).min();
        if let (Some(slowest), Some(fastest)) = (slowest, at.iter().max()) {
            spreads.push((fastest - slowest) / 60_000_000);
        }
    }
    Ok(spreads)
}

#[test]
fn partitions_are_read_in_step_of_event_time_and_no_row_is_another() -> Result<()> {
    const SETS: &str = "
        CREATE FEATURE SET hours EMIT ON WINDOW CLOSE WITH (path = 'features/hours')
        AS SELECT window_start, count(*) AS n, min(id) AS least, max(id) AS most
           FROM TUMBLE(events, at, INTERVAL '1 hour') GROUP BY window_start;
        CREATE FEATURE SET seen WITH (path = 'features/seen') AS SELECT id FROM events;";
    let bessemer = Bessemer::find()?;
    let cluster = KafkaCluster::start(1)?;
    cluster.create_topic("events", 4)?;
    // As many records of four days, of two days, of some hours, and none. Every so often one is late.
    for (partition, pace) in [(0, 6), (1, 3), (2, 1)] {
        let minute = |id: i64| if id % 50 == 49 { id * pace - 20 } else { id * pace };
        cluster.send("events", partition, (0..900).map(|id| record(i64::from(partition) * 1_000 + id, minute(id))))?;
    }
    let settings = "SET epoch_rows = 120;";
    let in_step = over_topic(&cluster, settings, ", max_skew = '1 hour'", SETS)?;
    let at_will = over_topic(&cluster, settings, "", SETS)?;
    for pipeline in [&in_step, &at_will] {
        bessemer.json(["run", &pipeline.path(), "--json"])?;
        bessemer.json(["run", &pipeline.path(), "--final", "--json"])?;
    }
    for (set, columns) in [("seen", &["id"][..]), ("hours", &["window_start", "n", "least", "most"])] {
        let rows = numbers(&in_step, set, columns)?;
        assert!(rows.len() > 80);
        assert_eq!(rows, numbers(&at_will, set, columns)?, "rows of {set}");
    }
    let late = |pipeline: &Pipeline| -> Result<Value> {
        Ok(bessemer.json(["ledger", &pipeline.path(), "--json"])?["sources"][0]["late"].clone())
    };
    assert_eq!((late(&in_step)?, late(&at_will)?), (54.into(), 54.into()));

    // An hour, and what one slice holds of a partition: at most forty records, six minutes apart.
    let ends = cluster.ends("events", 4)?;
    let most = |pipeline| Ok::<_, anyhow::Error>(spreads(&bessemer, pipeline, &ends)?.into_iter().max());
    let (bound, unbounded) = (most(&in_step)?, most(&at_will)?);
    assert!(bound.is_some_and(|minutes| (1..=60 + 40 * 6).contains(&minutes)), "{bound:?}");
    assert!(unbounded.is_some_and(|minutes| minutes > 3_000), "{unbounded:?}");
    Ok(())
}

/// Of each epoch that replaced `set`: where the watermark was, in minutes after New Year.
fn emissions(bessemer: &Bessemer, pipeline: &Pipeline, set: &str) -> Result<Vec<i64>> {
    const NEW_YEAR: i64 = 1_356_998_400_000_000;
    let epochs = bessemer.json(["log", &pipeline.path(), "--last", "10000", "--json"])?;
    let mut emissions = Vec::new();
    for epoch in epochs.as_array().context("no list")? {
        let manifest = bessemer.json(["inspect", &pipeline.path(), &epoch["epoch"].to_string()])?;
        let commit = &manifest["sets"][set];
        if commit["files"]["replaces_all"] == true {
            emissions.push((commit["emitted_at"].as_i64().context("no watermark")? - NEW_YEAR) / 60_000_000);
        }
    }
    Ok(emissions)
}

#[test]
fn a_snapshot_set_is_replaced_once_so_much_event_time_has_passed() -> Result<()> {
    const SETS: &str = "
        CREATE FEATURE SET totals EMIT EVERY INTERVAL '1 hour' WITH (path = 'features/totals')
        AS SELECT id % 2 AS odd, count(*) AS n FROM events GROUP BY 1;
        CREATE FEATURE SET places EMIT EVERY INTERVAL '3 hours' WITH (path = 'features/places')
        AS SELECT id, row_number() OVER (ORDER BY id) AS place FROM events;";
    let bessemer = Bessemer::find()?;
    let cluster = KafkaCluster::start(1)?;
    cluster.create_topic("events", 1)?;
    let pipeline = over_topic(&cluster, "SET epoch_age_max = '50ms';", "", SETS)?;
    let read = || -> Result<Value> {
        let outcome = bessemer.call(["ledger", &pipeline.path(), "--json"])?;
        let ledger: Value = serde_json::from_str(&outcome.stdout).unwrap_or_default();
        Ok(ledger["sources"][0]["records"].clone())
    };
    let mut daemon = bessemer.start_listening(["daemon", &pipeline.path()])?;
    // The watermark is five minutes behind, and no batch takes it over more than one full hour.
    let mut sent = 10;
    for next in [30, 50, 70, 71, 124, 126, 190, 250, 300] {
        cluster.send("events", 0, (sent..next).map(|minute| record(minute, minute)))?;
        sent = next;
        wait_until("all is read", || Ok(read()? == sent - 10))?;
        if next == 71 {
            // One that is started anew goes on where it was.
            signal("-KILL", daemon.id())?;
            drop(daemon.wait_with_output()?);
            daemon = bessemer.start_listening(["daemon", &pipeline.path()])?;
        }
    }
    let hours = |set: &str, of: i64| -> Result<Vec<i64>> {
        Ok(emissions(&bessemer, &pipeline, set)?.into_iter().map(|at| at / 60 / of).collect())
    };
    wait_until("the last full hour is passed", || Ok(hours("totals", 1)?.len() == 5))?;
    assert_eq!((hours("totals", 1)?, hours("places", 3)?), (vec![0, 1, 2, 3, 4], vec![0, 1]));
    // They have all that was read when they were replaced, and no more.
    let held = |emissions: Vec<i64>| emissions.last().map_or(0, |at| at + 5 + 1 - 10);
    let totals: i64 = numbers(&pipeline, "totals", &["n"])?.iter().map(|row| row[0]).sum();
    assert_eq!(totals, held(emissions(&bessemer, &pipeline, "totals")?));
    let places = numbers(&pipeline, "places", &["id"])?.len();
    assert_eq!(i64::try_from(places)?, held(emissions(&bessemer, &pipeline, "places")?));
    signal("-TERM", daemon.id())?;
    drop(daemon.wait_with_output()?);

    // A run that ends by itself shows all, whatever the watermark is.
    bessemer.json(["run", &pipeline.path(), "--json"])?;
    assert_eq!(numbers(&pipeline, "totals", &["odd", "n"])?, [[0, 145], [1, 145]]);
    assert_eq!(numbers(&pipeline, "places", &["id"])?.len(), 290);
    assert_eq!(emissions(&bessemer, &pipeline, "totals")?.last(), Some(&294));
    let verified = bessemer.call(["replay", "--verify", &pipeline.path()])?;
    verified.expect_code(0)?;
    // Nothing is new, nothing changes.
    assert_eq!(bessemer.json(["run", &pipeline.path(), "--json"])?["epochs"], 0);
    let ledger = bessemer.json(["ledger", &pipeline.path(), "--json"])?;
    assert_eq!((&ledger["balanced"], &ledger["sources"][0]["admitted"]), (&true.into(), &290.into()), "{ledger}");
    Ok(())
}
