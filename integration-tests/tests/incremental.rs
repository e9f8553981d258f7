//! Snapshot sets that are kept up to date from partial aggregates, or from the first row of each key: what was read once is
//! not read again, and the rows are those of a computation over everything.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use bessemer_integration_tests::{
    Bessemer, KafkaCluster, PARTITIONS, Pipeline, check_every_number, numbers_on_disk, parquet_files, send_numbers,
    wait_until,
};
use serde_json::Value;

/// Sets that are kept up to date, in the order of their names.
const KEPT: [&str; 5] = ["busiest", "kinds", "named", "newest", "totals"];

/// One that is not.
const COLLECTED: &str = "CREATE FEATURE SET collected WITH (path = 'features/collected')
     AS SELECT kind, array_length(array_agg(id)) AS n FROM events GROUP BY kind;";

const APPENDED: &str = "CREATE FEATURE SET seen WITH (path = 'features/seen') AS SELECT id, kind FROM events;";

fn text(more: &str) -> String {
    format!(
        "CREATE PIPELINE kept; SET epoch_files = 2; SET partitions = 2;
         CREATE SOURCE events (id BIGINT NOT NULL, kind VARCHAR, value BIGINT) WITH (path = 'in/*.json');
         CREATE TABLE kinds_table (kind VARCHAR, name VARCHAR) WITH (path = 'kinds.json');
         CREATE FEATURE SET totals ENTITY (kind) WITH (path = 'features/totals', partition_by = 'kind')
         AS SELECT kind, count(*) AS n, sum(value) AS total, min(value) AS least, count(DISTINCT value) AS several
            FROM events GROUP BY kind;
         CREATE FEATURE SET kinds WITH (path = 'features/kinds') AS SELECT DISTINCT kind FROM events;
         CREATE FEATURE SET named WITH (path = 'features/named')
         AS SELECT k.name, count(*) FILTER (WHERE e.value > 3) AS n FROM events e
            LEFT JOIN kinds_table k ON e.kind = k.kind GROUP BY k.name;
         CREATE FEATURE SET busiest WITH (path = 'features/busiest')
         AS SELECT kind, n FROM (SELECT kind, count(*) AS n FROM events GROUP BY kind) c ORDER BY n DESC, kind LIMIT 2;
         CREATE FEATURE SET newest WITH (path = 'features/newest')
         AS SELECT kind, id FROM (SELECT DISTINCT ON (kind) kind, id, value FROM events ORDER BY kind, value DESC) f
            WHERE value > 5;
         {more}"
    )
}

fn pipeline(more: &str) -> Result<Pipeline> {
    let pipeline = Pipeline::new(&text(more))?;
    fs::create_dir(pipeline.folder().join("in"))?;
    name(&pipeline, "two")?;
    Ok(pipeline)
}

fn name(pipeline: &Pipeline, of_k2: &str) -> Result<()> {
    let table = format!("{{\"kind\": \"k1\", \"name\": \"one\"}}\n{{\"kind\": \"k2\", \"name\": \"{of_k2}\"}}\n");
    Ok(fs::write(pipeline.folder().join("kinds.json"), table)?)
}

fn file(pipeline: &Pipeline, number: i64) -> PathBuf {
    pipeline.folder().join(format!("in/{number:03}.json"))
}

fn deliver(pipeline: &Pipeline, files: std::ops::Range<i64>) -> Result<()> {
    for number in files {
        let record = |id: i64| {
            let kind = if id % 11 == 3 { "null".to_owned() } else { format!("\"k{}\"", id * id % 5) };
            format!("{{\"id\": {id}, \"kind\": {kind}, \"value\": {}}}\n", id % 7)
        };
        let records: String = (number * 20..number * 20 + 20 + number).map(record).collect();
        fs::write(file(pipeline, number), records)?;
    }
    Ok(())
}

fn forget(pipeline: &Pipeline, files: std::ops::Range<i64>) -> Result<()> {
    for number in files {
        fs::remove_file(file(pipeline, number))?;
    }
    Ok(())
}

/// What is committed is what a pipeline that reads everything at once has, and nothing else is there.
fn check(bessemer: &Bessemer, kept: &Pipeline, more: &str, files: i64) -> Result<()> {
    let whole = pipeline(more)?;
    fs::copy(kept.folder().join("kinds.json"), whole.folder().join("kinds.json"))?;
    fs::copy(kept.folder().join("pipeline.sql"), whole.folder().join("pipeline.sql"))?;
    deliver(&whole, 0..files)?;
    bessemer.json(["run", &whole.path(), "--json"])?;
    let sets = bessemer.json(["check", &kept.path(), "--json"])?;
    for set in sets["feature_sets"].as_array().context("no list")? {
        let set = set["name"].as_str().context("no name")?;
        assert_eq!(kept.rows(set)?.sorted(), whole.rows(set)?.sorted(), "rows of {set}");
    }
    let ledgers = [kept, &whole].map(|pipeline| bessemer.json(["ledger", &pipeline.path(), "--json"]));
    let [kept_ledger, whole_ledger] = ledgers;
    let (kept_ledger, whole_ledger) = (kept_ledger?, whole_ledger?);
    assert_eq!(kept_ledger["balanced"], true);
    assert_eq!(kept_ledger["sets"], whole_ledger["sets"], "ledgers of the sets");

    let on_disk = parquet_files(&aggregates(kept))?.len() as u64;
    let named: u64 = states(bessemer, kept)?.iter().filter_map(|state| state["files"].as_u64()).sum();
    assert_eq!(on_disk, named, "files of states that nothing names, or that are gone");
    Ok(())
}

fn aggregates(pipeline: &Pipeline) -> PathBuf {
    pipeline.folder().join(".bessemer/kept/aggregates")
}

fn states(bessemer: &Bessemer, pipeline: &Pipeline) -> Result<Vec<Value>> {
    let states = bessemer.json(["state", &pipeline.path(), "--json"])?;
    Ok(states.as_array().context("no list")?.clone())
}

/// The epochs from which on, and up to which, the states of sets are.
fn epochs(bessemer: &Bessemer, pipeline: &Pipeline, set: &str) -> Result<(u64, u64)> {
    let states = states(bessemer, pipeline)?;
    let state = states.iter().find(|state| state["set"] == set).with_context(|| format!("no state of {set}"))?;
    Ok((state["since"].as_u64().context("no epoch")?, state["through"].as_u64().context("no epoch")?))
}

#[test]
fn what_was_read_is_not_read_again() -> Result<()> {
    let bessemer = Bessemer::find()?;
    // Read by snapshot sets alone, and also in slices by one that appends.
    for more in ["", APPENDED] {
        let pipeline = pipeline(more)?;
        for round in 0..4 {
            deliver(&pipeline, round * 3..round * 3 + 3)?;
            let summary = bessemer.json(["run", &pipeline.path(), "--json"])?;
            assert_eq!(summary["pipeline"], "kept", "{summary}");
            forget(&pipeline, round * 3..round * 3 + 3)?;
        }
        check(&bessemer, &pipeline, more, 12)?;
        for set in KEPT {
            let (since, through) = epochs(&bessemer, &pipeline, set)?;
            assert!(since < through, "{set} was computed over everything again");
        }
        // Nothing is new, nothing is written.
        let before = states(&bessemer, &pipeline)?;
        bessemer.json(["run", &pipeline.path(), "--json"])?;
        assert_eq!(states(&bessemer, &pipeline)?, before);
    }
    Ok(())
}

#[test]
fn a_set_that_needs_all_rows_reads_them_beside_those_that_do_not() -> Result<()> {
    let (bessemer, more) = (Bessemer::find()?, format!("{COLLECTED} {APPENDED}"));
    let pipeline = pipeline(&more)?;
    for round in 0..3 {
        deliver(&pipeline, round * 2..round * 2 + 2)?;
        bessemer.json(["run", &pipeline.path(), "--json"])?;
    }
    check(&bessemer, &pipeline, &more, 6)?;
    let (since, through) = epochs(&bessemer, &pipeline, "totals")?;
    assert!(since < through);
    assert_eq!(states(&bessemer, &pipeline)?.len(), KEPT.len(), "a set that needs all rows keeps nothing");
    let upkeep = bessemer.json(["explain", &pipeline.path(), "--set", "collected", "--json"])?;
    assert_eq!(upkeep[0]["upkeep"], "computed over everything: `array_agg` needs all rows");
    let upkeep = bessemer.json(["explain", &pipeline.path(), "--set", "totals", "--json"])?;
    assert_eq!(upkeep[0]["upkeep"], "kept up to date from partial aggregates");
    Ok(())
}

/// Runs over three files, lets `happen`, and runs over two more: the set `totals` must have been computed over everything.
fn computed_again(happen: impl FnOnce(&Pipeline) -> Result<()>, says: Option<&str>) -> Result<()> {
    let bessemer = Bessemer::find()?;
    let pipeline = pipeline("")?;
    deliver(&pipeline, 0..3)?;
    bessemer.json(["run", &pipeline.path(), "--json"])?;
    happen(&pipeline)?;
    deliver(&pipeline, 3..5)?;
    let outcome = bessemer.call(["run", &pipeline.path()])?;
    outcome.expect_code(0)?;
    let (since, through) = epochs(&bessemer, &pipeline, "totals")?;
    assert_eq!(since, through, "{}", outcome.stderr);
    if let Some(says) = says {
        assert!(outcome.stderr.contains(says), "{says}\n{}", outcome.stderr);
    }
    check(&bessemer, &pipeline, "", 5)
}

fn state_file(pipeline: &Pipeline) -> Result<PathBuf> {
    let files = parquet_files(&aggregates(pipeline).join("totals"))?;
    files.into_iter().next().context("no state")
}

#[test]
fn a_state_that_is_gone_is_made_anew() -> Result<()> {
    let says = "the state of `totals` is lost: a file of it is gone";
    computed_again(|pipeline| Ok(fs::remove_file(state_file(pipeline)?)?), Some(says))
}

#[test]
fn a_state_with_another_byte_is_made_anew() -> Result<()> {
    let says = "the state of `totals` is lost: a file of it is not what was written";
    let happen = |pipeline: &Pipeline| {
        let path = state_file(pipeline)?;
        let mut bytes = fs::read(&path)?;
        let middle = bytes.len() / 3;
        bytes[middle] ^= 1;
        Ok(fs::write(path, bytes)?)
    };
    computed_again(happen, Some(says))
}

#[test]
fn a_state_of_another_engine_is_made_anew() -> Result<()> {
    let happen = |pipeline: &Pipeline| {
        let mut manifests: Vec<_> = fs::read_dir(pipeline.folder().join(".bessemer/kept/manifests"))?
            .map(|entry| Ok(entry?.path()))
            .collect::<Result<_>>()?;
        manifests.sort();
        let newest = manifests.last().context("no manifest")?;
        let mut manifest: Value = serde_json::from_slice(&fs::read(newest)?)?;
        let fingerprint = &mut manifest["sets"]["totals"]["state"]["fingerprint"];
        ensure!(fingerprint.is_string(), "no state: {manifest}");
        *fingerprint = "another".into();
        Ok(fs::write(newest, serde_json::to_vec(&manifest)?)?)
    };
    computed_again(happen, None)
}

#[test]
fn another_query_begins_anew() -> Result<()> {
    let happen = |pipeline: &Pipeline| {
        let path = pipeline.folder().join("pipeline.sql");
        let text = fs::read_to_string(&path)?;
        ensure!(text.contains("min(value) AS least"));
        Ok(fs::write(path, text.replace("min(value) AS least", "max(value) AS least"))?)
    };
    computed_again(happen, None)
}

#[test]
fn rows_are_looked_up_again_in_a_table_that_changed() -> Result<()> {
    let bessemer = Bessemer::find()?;
    let pipeline = pipeline("")?;
    deliver(&pipeline, 0..3)?;
    bessemer.json(["run", &pipeline.path(), "--json"])?;
    name(&pipeline, "a couple")?;
    bessemer.json(["run", &pipeline.path(), "--json"])?;
    let (since, through) = epochs(&bessemer, &pipeline, "named")?;
    assert_eq!(since, through);
    deliver(&pipeline, 3..5)?;
    bessemer.json(["run", &pipeline.path(), "--json"])?;
    let (later, through) = epochs(&bessemer, &pipeline, "named")?;
    assert!(later == since && through > since);
    check(&bessemer, &pipeline, "", 5)
}

#[test]
fn a_state_older_than_the_base_is_still_gone_on_from() -> Result<()> {
    let bessemer = Bessemer::find()?;
    // Another source has hundreds of epochs in which the sets have nothing to do.
    let more = "CREATE SOURCE busy (id BIGINT NOT NULL) WITH (path = 'busy/*.json');
         CREATE FEATURE SET busy_seen WITH (path = 'features/busy_seen') AS SELECT id FROM busy;";
    let pipeline = Pipeline::new(&text(more).replace("epoch_files = 2", "epoch_files = 1"))?;
    fs::create_dir(pipeline.folder().join("in"))?;
    fs::create_dir(pipeline.folder().join("busy"))?;
    name(&pipeline, "two")?;
    deliver(&pipeline, 0..2)?;
    bessemer.json(["run", &pipeline.path(), "--json"])?;
    forget(&pipeline, 0..2)?;
    for number in 0..300 {
        fs::write(pipeline.folder().join(format!("busy/{number}.json")), format!("{{\"id\": {number}}}\n"))?;
    }
    bessemer.json(["run", &pipeline.path(), "--json"])?;
    deliver(&pipeline, 2..4)?;
    bessemer.json(["run", &pipeline.path(), "--json"])?;
    let (since, through) = epochs(&bessemer, &pipeline, "totals")?;
    assert!(through > since + 300, "{since} {through}");
    Ok(())
}

#[test]
fn verifying_finds_the_same_bytes_whichever_way_they_were_made() -> Result<()> {
    let (bessemer, pipeline) = (Bessemer::find()?, pipeline("")?);
    for round in 0..3 {
        deliver(&pipeline, round..round + 1)?;
        bessemer.json(["run", &pipeline.path(), "--json"])?;
    }
    let verified = bessemer.json(["replay", "--verify", &pipeline.path(), "--json"])?;
    let newest = verified.to_string();
    assert_eq!(newest.matches("\"same\"").count(), KEPT.len(), "{verified}");
    assert!(!newest.contains("\"differs\""), "{verified}");
    Ok(())
}

#[test]
fn a_daemon_absorbs_what_comes() -> Result<()> {
    let (cluster, bessemer) = (KafkaCluster::start(1)?, Bessemer::find()?);
    cluster.create_topic("numbers", PARTITIONS)?;
    let pipeline = numbers_on_disk(&cluster.bootstrap_servers(), "SET epoch_age_max = '100ms';")?;
    let mut daemon = bessemer.start(["daemon", &pipeline.path()])?;
    for burst in 0..3_i64 {
        send_numbers(&cluster, burst * 200..(burst + 1) * 200)?;
        wait_until("a burst is in both sets", || {
            let outcome = bessemer.call(["ledger", &pipeline.path(), "--json"])?;
            let Ok(ledger) = serde_json::from_str::<Value>(&outcome.stdout) else { return Ok(false) };
            let source = &ledger["sources"][0];
            let mut sets = ledger["sets"].as_array().into_iter().flatten();
            Ok(source["records"] == (burst + 1) * 200 && sets.all(|set| set["admitted"] == source["admitted"]))
        })?;
    }
    let stopped = Command::new("kill").args(["-TERM", &daemon.id().to_string()]).status()?;
    ensure!(stopped.success() && daemon.wait()?.code() == Some(0), "the daemon did not end well");
    check_every_number(&bessemer, &pipeline, 600)?;
    let (since, through) = epochs(&bessemer, &pipeline, "totals")?;
    assert!(since < through, "the topic was read again");
    Ok(())
}

#[test]
fn of_a_topic_each_set_reads_its_own_offsets() -> Result<()> {
    let (cluster, bessemer) = (KafkaCluster::start(1)?, Bessemer::find()?);
    cluster.create_topic("events", 2)?;
    let pipeline = Pipeline::new(&format!(
        "CREATE PIPELINE kept; SET epoch_rows = 30;
         CREATE SOURCE events (id BIGINT NOT NULL, kind VARCHAR, value BIGINT)
         WITH (connector = 'kafka', bootstrap_servers = '{}', topic = 'events', format = 'json');
         CREATE FEATURE SET totals WITH (path = 'features/totals')
         AS SELECT kind, count(*) AS n, sum(value) AS total FROM events GROUP BY kind;
         {COLLECTED} {APPENDED}",
        cluster.bootstrap_servers()
    ))?;
    let record = |id: i64| format!("{{\"id\": {id}, \"kind\": \"k{}\", \"value\": {}}}", id % 3, id % 7);
    let mut sent = 0;
    for round in [50, 70, 90, 20] {
        // The second partition comes late, and gets more.
        for id in sent..sent + round {
            cluster.send("events", i32::from(id > 40 && id % 4 > 0), [record(id)])?;
        }
        sent += round;
        bessemer.json(["run", &pipeline.path(), "--json"])?;
        let total = |of: i64| (0..sent).filter(move |id| id % 3 == of);
        let expected = |of: i64| {
            let sum = total(of).map(|id| id % 7).sum::<i64>();
            vec![format!("k{of}"), total(of).count().to_string(), sum.to_string()]
        };
        let rows = pipeline.rows("totals")?.select(&["kind", "n", "total"])?.sorted().rows;
        assert_eq!(rows, [0, 1, 2].map(expected));
        let collected = pipeline.rows("collected")?.select(&["kind", "n"])?.sorted().rows;
        assert_eq!(collected, [0, 1, 2].map(|of| expected(of)[..2].to_vec()));
        let ledger = bessemer.json(["ledger", &pipeline.path(), "--json"])?;
        let mut sets = ledger["sets"].as_array().into_iter().flatten();
        assert!(ledger["balanced"] == true && sets.all(|set| set["admitted"] == sent), "{ledger}");
    }
    let (since, through) = epochs(&bessemer, &pipeline, "totals")?;
    assert!(since < through);
    Ok(())
}

#[test]
fn texts_of_parquet_files_whose_columns_are_not_declared_are_kept_as_they_are() -> Result<()> {
    let bessemer = Bessemer::find()?;
    let made = pipeline(APPENDED)?;
    let reading = Pipeline::new(&format!(
        "CREATE PIPELINE reading; CREATE SOURCE seen WITH (path = '{}', format = 'parquet');
         CREATE FEATURE SET kinds WITH (path = 'features/kinds')
         AS SELECT kind, count(*) AS n, max(kind || ' and a tail that is long') AS tail, max(id) AS most
            FROM seen GROUP BY kind;
         CREATE FEATURE SET newest WITH (path = 'features/newest')
         AS SELECT DISTINCT ON (kind) kind, id, kind || ' and a tail that is long' AS tail FROM seen ORDER BY kind, id DESC;",
        made.folder().join("features/seen/*.parquet").display()
    ))?;
    for round in 0..2 {
        deliver(&made, round * 2..round * 2 + 2)?;
        bessemer.json(["run", &made.path(), "--json"])?;
        bessemer.json(["run", &reading.path(), "--json"])?;
    }
    for set in ["kinds", "newest"] {
        let (since, through) = epochs(&bessemer, &reading, set)?;
        assert!(since < through, "{set} was computed over everything again");
    }
    let rows = reading.rows("kinds")?;
    assert_eq!(
        rows.select(&["kind", "most", "tail"])?.sorted().rows,
        reading.rows("newest")?.select(&["kind", "id", "tail"])?.sorted().rows
    );
    let counted: u64 = rows.select(&["n"])?.rows.iter().filter_map(|row| row[0].parse::<u64>().ok()).sum();
    assert_eq!((rows.rows.len(), counted), (4, 86));
    Ok(())
}
