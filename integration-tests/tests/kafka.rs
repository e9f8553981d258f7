//! Topics through the whole program: every record once, whatever happens to it.

use std::process::{Child, Command};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use bessemer_integration_tests::{
    Bessemer, KafkaCluster, PARTITIONS, Pipeline, check_every_number, numbers_on_disk, pause, send_numbers, wait_until,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

fn pipeline(cluster: &KafkaCluster, settings: &str) -> Result<Pipeline> {
    numbers_on_disk(&cluster.bootstrap_servers(), settings)
}

fn cluster() -> Result<KafkaCluster> {
    let cluster = KafkaCluster::start(3)?;
    cluster.create_topic("numbers", PARTITIONS)?;
    Ok(cluster)
}

#[test]
fn a_run_drains_the_topic_and_the_next_one_goes_on() -> Result<()> {
    let (cluster, bessemer) = (cluster()?, Bessemer::find()?);
    let pipeline = pipeline(&cluster, "SET epoch_rows = 300;")?;
    send_numbers(&cluster, 0..1_000)?;
    let summary = bessemer.json(["run", &pipeline.path(), "--json"])?;
    // Four slices for the set that appends, then the snapshot.
    assert_eq!(summary["epochs"], 5);
    check_every_number(&bessemer, &pipeline, 1_000)?;

    let again = bessemer.call(["run", &pipeline.path()])?;
    again.expect_code(0)?;
    assert!(again.stdout.contains("nothing was read"), "{}", again.stdout);

    send_numbers(&cluster, 1_000..1_100)?;
    bessemer.json(["run", &pipeline.path(), "--json"])?;
    check_every_number(&bessemer, &pipeline, 1_100)
}

#[test]
fn any_number_of_partitions_of_the_plan_gives_the_same_rows() -> Result<()> {
    let (cluster, bessemer) = (cluster()?, Bessemer::find()?);
    send_numbers(&cluster, 0..2_000)?;
    let mut all = Vec::new();
    for settings in ["SET partitions = 1;", "SET partitions = 4; SET epoch_rows = 170;"] {
        let pipeline = pipeline(&cluster, settings)?;
        bessemer.json(["run", &pipeline.path(), "--json"])?;
        check_every_number(&bessemer, &pipeline, 2_000)?;
        all.push((pipeline.rows("seen")?.sorted(), pipeline.rows("totals")?.sorted()));
    }
    assert!(all[0] == all[1]);
    Ok(())
}

#[test]
fn killed_at_any_moment_every_record_is_there_once() -> Result<()> {
    const SEED: u64 = 0xca4e;
    const KILLS: usize = 40;
    const BURST: i64 = 120;
    let (cluster, bessemer) = (cluster()?, Bessemer::find()?);
    let pipeline = pipeline(&cluster, "SET epoch_rows = 40;")?;
    let mut random = StdRng::seed_from_u64(SEED);
    let mut end = BURST;
    send_numbers(&cluster, 0..end)?;
    let started = Instant::now();
    bessemer.json(["run", &pipeline.path(), "--json"])?;
    let longest = started.elapsed().mul_f64(1.2);

    println!("seed {SEED:#x}, moments within {longest:?}");
    let mut interrupted = 0;
    for kill in 0..KILLS {
        send_numbers(&cluster, end..end + BURST)?;
        end += BURST;
        if kill % 10 == 5 {
            // Brokers that cut every second answer for a while.
            let errors = [rdkafka::types::RDKafkaRespErr::RD_KAFKA_RESP_ERR__TRANSPORT; 4];
            cluster.mock.request_errors(rdkafka::types::RDKafkaApiKey::Fetch, &errors);
        }
        let mut child = bessemer.start(["run", &pipeline.path()])?;
        pause(longest.mul_f64(random.random()));
        interrupted += usize::from(child.try_wait()?.is_none());
        child.kill()?;
        child.wait()?;
    }
    println!("{interrupted} of {KILLS} runs were killed before their end");
    assert!(interrupted > KILLS / 2, "only {interrupted} runs were killed before their end");
    bessemer.json(["run", &pipeline.path(), "--json"])?;
    check_every_number(&bessemer, &pipeline, end)
}

/// Whether a pipeline has committed `records` records, and every set has all of their rows.
fn is_settled(bessemer: &Bessemer, path: &str, records: i64) -> Result<bool> {
    let outcome = bessemer.call(["ledger", path, "--json"])?;
    if outcome.code != Some(0) {
        // Before its first epoch.
        return Ok(false);
    }
    let ledger: serde_json::Value = serde_json::from_str(&outcome.stdout)?;
    let source = &ledger["sources"][0];
    let mut sets = ledger["sets"].as_array().into_iter().flatten();
    Ok(source["records"].as_i64() == Some(records) && sets.all(|set| set["admitted"] == source["admitted"]))
}

fn stop(daemon: &mut Child) -> Result<()> {
    let status = Command::new("kill").args(["-TERM", &daemon.id().to_string()]).status()?;
    ensure!(status.success(), "kill: {status}");
    let status = daemon.wait()?;
    ensure!(status.code() == Some(0), "the daemon ended with {status}");
    Ok(())
}

#[test]
fn a_daemon_commits_what_comes_and_stops_cleanly() -> Result<()> {
    let (cluster, bessemer) = (cluster()?, Bessemer::find()?);
    let pipeline = pipeline(&cluster, "SET epoch_age_max = '100ms';")?;
    let mut daemon = bessemer.start(["daemon", &pipeline.path()])?;
    for burst in 0..5 {
        send_numbers(&cluster, burst * 200..(burst + 1) * 200)?;
        wait_until("a burst is committed", || is_settled(&bessemer, &pipeline.path(), (burst + 1) * 200))?;
    }
    stop(&mut daemon)?;
    check_every_number(&bessemer, &pipeline, 1_000)?;
    // The same engine: a run goes on where the daemon stopped.
    send_numbers(&cluster, 1_000..1_050)?;
    bessemer.json(["run", &pipeline.path(), "--json"])?;
    check_every_number(&bessemer, &pipeline, 1_050)
}

#[test]
fn a_daemon_follows_its_folder() -> Result<()> {
    let (cluster, bessemer) = (cluster()?, Bessemer::find()?);
    send_numbers(&cluster, 0..100)?;
    let folder = tempfile::tempdir()?;
    let file = |name: &str| folder.path().join(format!("{name}.sql"));
    let text = |name: &str, rest: &str| {
        format!(
            "CREATE PIPELINE {name}; SET epoch_age_max = '50ms';
             CREATE SOURCE numbers (number BIGINT NOT NULL) WITH (connector = 'kafka', bootstrap_servers = '{}',
                 topic = 'numbers', format = 'json');
             CREATE FEATURE SET seen {rest} WITH (path = 'features/{name}') AS SELECT number FROM numbers;",
            cluster.bootstrap_servers()
        )
    };
    let settled = |name: &str, records| is_settled(&bessemer, &file(name).display().to_string(), records);
    std::fs::write(file("a"), text("a", ""))?;
    let mut daemon = bessemer.start(["daemon", &folder.path().display().to_string()])?;
    wait_until("the first pipeline commits", || settled("a", 100))?;

    // Another pipeline appears, and the first one breaks: its old version goes on.
    std::fs::write(file("b"), text("b", ""))?;
    wait_until("the second pipeline commits", || settled("b", 100))?;
    std::fs::write(file("a"), text("a", "").replace("CREATE FEATURE SET", "CREATE FEATURE SAT"))?;
    send_numbers(&cluster, 100..150)?;
    wait_until("the old version goes on", || settled("b", 150))?;
    std::fs::write(file("a"), text("a", "(CONSTRAINT even EXPECT (number % 2 = 0) ON VIOLATION DROP ROW)"))?;
    wait_until("the mended version has all", || settled("a", 150))?;

    // What is gone stops: its lock is free again.
    let gone = text("b", "");
    std::fs::remove_file(file("b"))?;
    let elsewhere = folder.path().join(".b.sql");
    std::fs::write(&elsewhere, gone)?;
    wait_until("the second pipeline stops", || {
        Ok(bessemer.call(["run", &elsewhere.display().to_string()])?.code == Some(0))
    })?;
    stop(&mut daemon)
}

#[test]
fn too_many_bad_records_stop_the_pipeline_before_they_are_committed() -> Result<()> {
    let (cluster, bessemer) = (KafkaCluster::start(1)?, Bessemer::find()?);
    cluster.create_topic("numbers", 2)?;
    let text = |options: &str| {
        format!(
            "CREATE PIPELINE numbers; SET epoch_age_max = '50ms'; SET epoch_rows = 30;
             CREATE SOURCE numbers (number BIGINT NOT NULL) WITH (connector = 'kafka', bootstrap_servers = '{}',
                 topic = 'numbers', format = 'json', bad_records_window = 100 {options});
             CREATE FEATURE SET seen WITH (path = 'features/seen') AS SELECT number FROM numbers;",
            cluster.bootstrap_servers()
        )
    };
    let pipeline = Pipeline::new(&text(""))?;
    let good = |number: i64| format!(r#"{{"number": {number}}}"#);
    cluster.send("numbers", 0, (0..200).map(good))?;
    cluster.send("numbers", 1, (0..40).map(good))?;
    cluster.send("numbers", 1, (0..60).map(|number| format!(r#"{{"number": "{number}"}}"#)))?;
    let outcome = bessemer.call(["run", &pipeline.path()])?;
    outcome.expect_code(4)?;
    for words in ["partition 1 of topic `numbers`", "51 of the last 100 up to offset 90", "`wrong_type`"] {
        assert!(outcome.stderr.contains(words), "{words}\n{}", outcome.stderr);
    }
    let ledger = bessemer.json(["ledger", &pipeline.path(), "--json"])?;
    let bad = ledger["sources"][0]["undecodable"].as_i64().context("no count")?;
    assert!(ledger["balanced"] == true && (0..=50).contains(&bad), "{ledger}");

    // However often: the same record trips it. The daemon does not try again, and goes on when the file says so.
    let again = bessemer.call(["run", &pipeline.path()])?;
    again.expect_code(4)?;
    assert!(again.stderr.contains("51 of the last 100 up to offset 90"), "{}", again.stderr);
    let mut daemon = bessemer.start(["daemon", &pipeline.path()])?;
    std::fs::write(pipeline.folder().join("pipeline.sql"), text(", bad_records_max = 1"))?;
    wait_until("the rest is committed", || is_settled(&bessemer, &pipeline.path(), 300))?;
    stop(&mut daemon)?;
    let ledger = bessemer.json(["ledger", &pipeline.path(), "--json"])?;
    assert_eq!((&ledger["balanced"], &ledger["sources"][0]["undecodable"]), (&true.into(), &60.into()));
    Ok(())
}

#[test]
fn a_daemon_without_pipelines_or_with_two_of_one_name_says_so() -> Result<()> {
    let bessemer = Bessemer::find()?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().display().to_string();
    let outcome = bessemer.call(["daemon", &path])?;
    outcome.expect_code(2)?;
    assert!(outcome.stderr.contains("there is no `.sql` file"), "{}", outcome.stderr);
    bessemer.call(["daemon", &format!("{path}/missing")])?.expect_code(2)?;

    for name in ["a.sql", "b.sql"] {
        let text = "CREATE PIPELINE same; CREATE SOURCE s (x INT) WITH (path = 'in/*.csv');
                    CREATE FEATURE SET f WITH (path = 'out') AS SELECT x FROM s;";
        std::fs::write(folder.path().join(name), text)?;
    }
    let outcome = bessemer.call(["daemon", &path])?;
    outcome.expect_code(2)?;
    assert!(outcome.stderr.contains("are both pipeline `same`"), "{}", outcome.stderr);
    Ok(())
}

#[test]
fn the_demonstration_ends_with_a_balanced_ledger() -> Result<()> {
    let bessemer = Bessemer::find()?;
    let folder = tempfile::tempdir()?;
    let place = folder.path().join("demo");
    let outcome = bessemer.call(["demo", "--folder", &place.display().to_string(), "--records-per-second", "20000"])?;
    outcome.expect_code(0)?;
    for words in ["balanced: every record and every row is accounted for", "invalid_json", "mean_delay"] {
        assert!(outcome.stdout.contains(words), "{words}\n{}\n{}", outcome.stdout, outcome.stderr);
    }
    let ledger = bessemer.json(["ledger", &place.display().to_string(), "--json"])?;
    assert_eq!(ledger["sources"][0]["records"], 6_099);
    Ok(())
}
