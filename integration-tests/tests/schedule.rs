//! Pipelines on a schedule, and a daemon that is told what to do: missed times, pauses, drains, signals, the log of runs.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bessemer_integration_tests::{
    Answering, Bessemer, FaultPlan, KafkaCluster, Listening, Outcome, Pipeline, Rows, S3Server, pause, signal,
    wait_until,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;

/// A schedule that comes once a year, so that a test decides when it has passed.
const YEARLY: &str = "schedule = '0 0 1 1 *', time_zone = 'Europe/Berlin'";
/// What a process may take to end; far from the five minutes after which a test gives up waiting.
const PROMPTLY: Duration = Duration::from_mins(1);

/// A pipeline over files, with what is asked of it.
struct World {
    bessemer: Bessemer,
    pipeline: Pipeline,
}

impl World {
    /// `options` are those of `CREATE PIPELINE`.
    fn new(options: &str) -> Result<Self> {
        let options = if options.is_empty() { String::new() } else { format!("WITH ({options})") };
        let pipeline = Pipeline::new(&format!(
            "CREATE PIPELINE p {options};
             SET epoch_age_max = '50ms';
             CREATE SOURCE numbers (number BIGINT NOT NULL) WITH (path = 'in/*.json', format = 'json');
             CREATE FEATURE SET seen WITH (path = 'features/seen') AS SELECT number FROM numbers;"
        ))?;
        fs::create_dir(pipeline.folder().join("in"))?;
        Ok(Self { bessemer: Bessemer::find()?, pipeline })
    }

    fn path(&self, relative: &str) -> PathBuf {
        self.pipeline.folder().join(relative)
    }

    /// A file of ten numbers.
    fn deliver(&self, file: i64) -> Result<()> {
        let lines: Vec<_> = (file * 10..(file + 1) * 10).map(|number| format!("{{\"number\":{number}}}")).collect();
        // It is there at once or not at all.
        fs::write(self.path(&format!("in/.{file}")), lines.join("\n"))?;
        Ok(fs::rename(self.path(&format!("in/.{file}")), self.path(&format!("in/{file}.json")))?)
    }

    /// The times of the schedule up to `through` are behind the daemon.
    fn remember(&self, schedule: &str, through: &str) -> Result<()> {
        fs::create_dir_all(self.path(".bessemer/p"))?;
        let text = format!(r#"{{"format_version":1,"schedule":"{schedule}","through":{through}}}"#);
        Ok(fs::write(self.path(".bessemer/p/daemon.json"), text)?)
    }

    fn daemon(&self) -> Result<Child> {
        self.bessemer.start_listening(["daemon", &self.pipeline.path()])
    }

    fn ask(&self, command: &str) -> Result<Value> {
        self.bessemer.json([command, &self.pipeline.path(), "--json"])
    }

    fn runs(&self) -> Result<Vec<Value>> {
        let runs = self.bessemer.json(["log", &self.pipeline.path(), "--runs", "--json"])?;
        runs.as_array().cloned().context("no list of runs")
    }

    /// Waits until the newest run is of this kind and has this outcome.
    fn wait_for_run(&self, kind: &str, outcome: &str) -> Result<Value> {
        let mut found = Value::Null;
        wait_until(&format!("a run: {kind}, {outcome}"), || {
            found = self.runs()?.pop().unwrap_or_default();
            Ok(found["trigger"]["kind"] == kind && found["outcome"] == outcome)
        })?;
        Ok(found)
    }

    fn rows(&self) -> Result<usize> {
        // The set's folder comes with its first file.
        if self.pipeline.features.join("seen").exists() { Ok(self.pipeline.rows("seen")?.rows.len()) } else { Ok(0) }
    }
}

/// Ends a daemon, which must not take long, and returns what it said.
fn stop(daemon: Child) -> Result<String> {
    let asked = Instant::now();
    signal("-TERM", daemon.id())?;
    let outcome = Outcome::of(daemon)?;
    outcome.expect_code(0)?;
    ensure!(asked.elapsed() < PROMPTLY, "the daemon took {:?} to end", asked.elapsed());
    Ok(outcome.stderr)
}

#[test]
fn a_time_that_passed_while_no_daemon_was_there_is_made_up_for_once() -> Result<()> {
    let world = World::new(YEARLY)?;
    world.deliver(0)?;
    // The first daemon has nothing to make up for.
    let daemon = world.daemon()?;
    wait_until("the daemon remembers", || Ok(world.path(".bessemer/p/daemon.json").exists()))?;
    let status = world.ask("status")?;
    assert_eq!((&status["state"], &status["schedule"]), (&"new".into(), &"0 0 1 1 * Europe/Berlin".into()));
    assert!(status["next_run"].as_str().unwrap().ends_with("-12-31 23:00:00Z"), "{status}");
    stop(daemon)?;
    assert_eq!(world.runs()?.len(), 0);

    world.remember("0 0 1 1 * Europe/Berlin", "1700000000000000")?;
    let daemon = world.daemon()?;
    let run = world.wait_for_run("schedule", "done")?;
    assert_eq!((&run["epochs"], &run["rows"], &run["attempt"]), (&1.into(), &10.into(), &1.into()), "{run}");
    assert!(run["trigger"]["time"].as_i64() > Some(1_760_000_000_000_000), "the last of them: {run}");
    let said = stop(daemon)?;
    assert!(said.contains("nobody was there: skipped"), "{said}");

    // It is made up for once, and what came since waits for its time.
    world.deliver(1)?;
    let daemon = world.daemon()?;
    world.bessemer.call(["drain", &world.pipeline.path()])?.expect_code(0)?;
    world.wait_for_run("drain", "done")?;
    stop(daemon)?;
    let kinds: Vec<_> = world.runs()?.iter().map(|run| run["trigger"]["kind"].as_str().unwrap().to_owned()).collect();
    assert_eq!(kinds, ["schedule", "drain"]);
    assert_eq!(world.rows()?, 20);
    Ok(())
}

#[test]
fn a_daemon_pauses_resumes_and_drains_and_remembers_it() -> Result<()> {
    let world = World::new("")?;
    let path = world.pipeline.path();
    world.deliver(0)?;
    let daemon = world.daemon()?;
    wait_until("the first rows", || Ok(world.rows()? == 10))?;

    world.bessemer.call(["pause", &path])?.expect_code(0)?;
    let run = world.wait_for_run("daemon", "done")?;
    assert_eq!((&run["epochs"], &run["rows"]), (&1.into(), &10.into()), "{run}");
    // No run goes on, so nobody commits this; by hand it could be.
    world.deliver(1)?;
    assert_eq!(world.ask("status")?["control"]["wish"], "pause");
    let said = stop(daemon)?;
    assert!(said.contains("paused since"), "{said}");

    let daemon = world.daemon()?;
    world.bessemer.call(["drain", &path])?.expect_code(0)?;
    wait_until("the drain", || Ok(world.ask("status")?["is_drained"] == true))?;
    assert_eq!(world.rows()?, 20);
    world.deliver(2)?;
    let text = world.bessemer.call(["status", &path])?;
    assert!(text.stdout.contains("paused since") && text.stdout.contains("last run: drain"), "{}", text.stdout);

    world.bessemer.call(["resume", &path])?.expect_code(0)?;
    wait_until("the rows that waited", || Ok(world.rows()? == 30))?;
    let said = stop(daemon)?;
    assert!(said.contains("drained, and paused") && said.contains("resumed"), "{said}");
    assert_eq!(world.runs()?.len(), 3);
    Ok(())
}

#[test]
fn a_request_that_cannot_be_read_holds_the_pipeline_until_it_is_made_again() -> Result<()> {
    let world = World::new("")?;
    world.deliver(0)?;
    fs::create_dir_all(world.path(".bessemer/p"))?;
    fs::write(world.path(".bessemer/p/control.json"), "{\"wish\":")?;
    let outcome = world.bessemer.call(["status", &world.pipeline.path()])?;
    outcome.expect_code(4)?;
    let words = "control.json` is damaged: EOF while parsing a value at line 1 column 8; `bessemer resume` removes it";
    assert!(outcome.stderr.contains(words), "{}", outcome.stderr);

    let daemon = Listening::wait(world.daemon()?, "`bessemer resume` removes it")?;
    assert_eq!(world.rows()?, 0, "it may have been to rest");
    world.bessemer.call(["resume", &world.pipeline.path()])?.expect_code(0)?;
    wait_until("the rows that waited", || Ok(world.rows()? == 10))?;
    assert!(daemon.stop()?.0.success());
    Ok(())
}

#[test]
fn every_run_leaves_a_record_with_how_it_ended() -> Result<()> {
    let world = World::new("")?;
    let path = world.pipeline.path();
    let text = world.bessemer.call(["log", &path, "--runs"])?;
    assert!(text.stdout.contains("no run yet"), "{}", text.stdout);
    world.deliver(0)?;
    world.bessemer.call(["run", &path])?.expect_code(0)?;
    fs::write(world.path("in/1.json"), "{\"number\":1}\n")?;
    // Something has the name of the next manifest and is none: the run cannot know what it is.
    fs::create_dir(world.path(".bessemer/p/manifests/00000000000000000003.json"))?;
    world.bessemer.call(["run", &path])?.expect_code(3)?;
    fs::remove_dir(world.path(".bessemer/p/manifests/00000000000000000003.json"))?;

    let runs = world.runs()?;
    assert_eq!(runs.len(), 2);
    assert_eq!((&runs[0]["outcome"], &runs[0]["rows"], &runs[0]["records"]), (&"done".into(), &10.into(), &10.into()));
    assert_eq!(runs[1]["outcome"], "failed");
    assert!(runs[1]["error"].as_str().unwrap().contains("00003.json"), "{}", runs[1]);
    let text = world.bessemer.call(["log", &path, "--runs"])?;
    assert!(text.stdout.contains("manual") && text.stdout.contains("failed"), "{}", text.stdout);
    let status = world.bessemer.call(["status", &path])?;
    assert!(status.stdout.contains("last run: manual at"), "{}", status.stdout);
    Ok(())
}

#[test]
fn ctrl_c_interrupts_the_claim_of_a_pipeline() -> Result<()> {
    let world = World::new("")?;
    world.deliver(0)?;
    // Whoever opens this for writing waits for a reader that never comes.
    fs::create_dir_all(world.path(".bessemer/p"))?;
    ensure!(Command::new("mkfifo").arg(world.path(".bessemer/p/lock")).status()?.success(), "mkfifo");
    let child = world.bessemer.start_listening(["run", &world.pipeline.path()])?;
    wait_until("the run begins", || Ok(world.runs()?.len() == 1))?;
    signal("-INT", child.id())?;
    let outcome = Outcome::of(child)?;
    outcome.expect_code(130)?;
    assert_eq!(world.runs()?[0]["outcome"], "stopped");
    Ok(())
}

#[test]
fn a_daemon_whose_store_does_not_answer_ends_in_the_time_it_was_given() -> Result<()> {
    let server = S3Server::start(&FaultPlan::none())?;
    let bessemer = server.environment().into_iter().fold(Bessemer::find()?, |it, (name, value)| it.env(name, value));
    let pipeline = Pipeline::new(
        "CREATE PIPELINE p WITH (state = 's3://lake/state');
         SET epoch_age_max = '50ms';
         CREATE SOURCE numbers (number BIGINT NOT NULL) WITH (path = 'in/*.json', format = 'json');
         CREATE FEATURE SET seen WITH (path = 's3://lake/features/seen') AS SELECT number FROM numbers;",
    )?;
    let deliver = |file: i64| {
        let text = format!("{{\"number\":{file}}}\n");
        fs::create_dir_all(pipeline.folder().join("in"))
            .and_then(|()| fs::write(pipeline.folder().join(format!("in/{file}.json")), text))
    };
    deliver(0)?;
    let arguments = ["daemon", &pipeline.path(), "--shutdown-timeout", "2s", "--memory-bytes", "256MiB"];
    let daemon = bessemer.start_listening(arguments)?;
    let manifest = |epoch: u64| server.bucket_folder().join(format!("state/manifests/{epoch:020}.json"));
    wait_until("the first epoch", || Ok(manifest(2).exists()))?;

    server.answer(Answering::Never);
    let requests = server.requests();
    deliver(1)?;
    wait_until("the second epoch is on its way", || Ok(server.requests() > requests))?;
    let asked = Instant::now();
    signal("-TERM", daemon.id())?;
    let outcome = Outcome::of(daemon)?;
    outcome.expect_code(0)?;
    assert!(outcome.stderr.contains("did not end within 2s"), "{}", outcome.stderr);
    assert!(asked.elapsed() < PROMPTLY, "{:?}", asked.elapsed());

    server.answer(Answering::Normally);
    bessemer.call(["run", &pipeline.path()])?.expect_code(0)?;
    let mut rows = bessemer_integration_tests::read_set(&server.bucket_folder().join("features/seen"))?.sorted().rows;
    rows.dedup();
    assert_eq!(rows, [["0"], ["1"]]);
    // The records of runs are in the bucket, too, and no sweep takes them.
    let runs = bessemer.json(["log", &pipeline.path(), "--runs", "--json"])?;
    let kinds: Vec<_> = runs.as_array().unwrap().iter().map(|run| run["trigger"]["kind"].clone()).collect();
    assert_eq!(kinds, ["daemon", "manual"]);
    Ok(())
}

const PARTITIONS: i32 = 6;

/// Numbered records, some of which cannot be decoded.
fn send(cluster: &KafkaCluster, numbers: std::ops::Range<i64>) -> Result<()> {
    for partition in 0..PARTITIONS {
        let mine = numbers.clone().filter(|number| number % i64::from(PARTITIONS) == i64::from(partition));
        cluster.send(
            "numbers",
            partition,
            mine.map(|number| match number % 40 {
                7 => format!("{{\"number\": {number}"),
                _ => format!(r#"{{"number": {number}, "part": {}, "kind": "k{}"}}"#, number as f64 / 7.0, number % 3),
            }),
        )?;
    }
    Ok(())
}

fn cluster() -> Result<KafkaCluster> {
    let cluster = KafkaCluster::start(1)?;
    cluster.create_topic("numbers", PARTITIONS)?;
    Ok(cluster)
}

/// A set that appends and one that is a snapshot over a topic.
fn topic_pipeline(cluster: &KafkaCluster, options: &str, settings: &str) -> Result<Pipeline> {
    Pipeline::new(&format!(
        "CREATE PIPELINE p {options}; {settings}
         CREATE SOURCE numbers (number BIGINT NOT NULL, part DOUBLE, kind VARCHAR NOT NULL)
         INCLUDE PARTITION AS kafka_partition, OFFSET AS kafka_offset
         WITH (connector = 'kafka', bootstrap_servers = '{}', topic = 'numbers', format = 'json');
         CREATE FEATURE SET seen (CONSTRAINT lucky EXPECT (number % 13 <> 0) ON VIOLATION QUARANTINE)
         WITH (path = 'features/seen')
         AS SELECT number, part * 3.0 AS thrice, kind, kafka_partition, kafka_offset FROM numbers;
         CREATE FEATURE SET totals WITH (path = 'features/totals')
         AS SELECT kind, count(*) AS records, sum(number) AS total, sum(part) AS parts, avg(part) AS mean
            FROM numbers GROUP BY kind;",
        cluster.bootstrap_servers()
    ))
}

/// Records of the topic that are committed, if every set has them.
fn committed(bessemer: &Bessemer, path: &str) -> Result<Option<i64>> {
    let outcome = bessemer.call(["ledger", path, "--json"])?;
    if outcome.code != Some(0) {
        // Before its first epoch.
        return Ok(None);
    }
    let ledger: Value = serde_json::from_str(&outcome.stdout)?;
    let source = &ledger["sources"][0];
    let sets = ledger["sets"].as_array().context("no sets")?;
    let are_all_there = sets.len() == 2 && sets.iter().all(|set| set["admitted"] == source["admitted"]);
    Ok(source["records"].as_i64().filter(|_| are_all_there))
}

/// The committed rows of both sets. The text of a `DOUBLE` is another where its last bit is.
fn rows(pipeline: &Pipeline) -> Result<[Rows; 2]> {
    Ok([pipeline.rows("seen")?.sorted(), pipeline.rows("totals")?.sorted()])
}

/// The one engine: however a topic is read, and with however many threads, it becomes the same rows.
#[test]
fn a_run_a_daemon_and_a_schedule_give_the_same_rows_with_any_number_of_threads() -> Result<()> {
    const END: i64 = 3_000;
    const BURSTS: i64 = 3;
    let cluster = cluster()?;
    let settings = "SET partitions = 3; SET epoch_age_max = '50ms'; SET epoch_rows = 700;";
    let mut all = Vec::new();

    // The daemon reads while the records come, in epochs of its own making.
    let following = topic_pipeline(&cluster, "", settings)?;
    let bessemer = Bessemer::find()?.env("TOKIO_WORKER_THREADS", "2");
    let daemon = bessemer.start_listening(["daemon", &following.path()])?;
    for burst in 0..BURSTS {
        let (from, to) = (burst * END / BURSTS, (burst + 1) * END / BURSTS);
        send(&cluster, from..to)?;
        wait_until("a burst is committed", || Ok(committed(&bessemer, &following.path())? == Some(to)))?;
    }
    stop(daemon)?;
    all.push(("the daemon".to_owned(), rows(&following)?));

    for threads in ["1", "2", "7"] {
        let bessemer = Bessemer::find()?.env("TOKIO_WORKER_THREADS", threads);
        let once = topic_pipeline(&cluster, "", settings)?;
        bessemer.call(["run", &once.path()])?.expect_code(0)?;
        all.push((format!("a run with {threads} threads"), rows(&once)?));

        let scheduled = topic_pipeline(&cluster, "WITH (schedule = '@yearly')", settings)?;
        fs::create_dir_all(scheduled.folder().join(".bessemer/p"))?;
        let remembered = r#"{"format_version":1,"schedule":"@yearly UTC","through":1700000000000000}"#;
        fs::write(scheduled.folder().join(".bessemer/p/daemon.json"), remembered)?;
        let daemon = bessemer.start_listening(["daemon", &scheduled.path()])?;
        wait_until("the scheduled run", || Ok(committed(&bessemer, &scheduled.path())? == Some(END)))?;
        stop(daemon)?;
        all.push((format!("a schedule with {threads} threads"), rows(&scheduled)?));
    }
    let (_, expected) = &all[0];
    assert!(expected[0].rows.len() > 2_000 && expected[1].rows.len() == 3);
    for (name, found) in &all[1..] {
        for (set, (found, expected)) in ["seen", "totals"].iter().zip(found.iter().zip(expected)) {
            let differing = found.rows.iter().zip(&expected.rows).find(|(found, expected)| found != expected);
            assert_eq!(found.rows.len(), expected.rows.len(), "{name}, `{set}`");
            assert!(differing.is_none(), "{name}, `{set}`: {differing:?}");
        }
    }
    Ok(())
}

#[test]
fn a_daemon_that_is_stopped_at_any_moment_ends_in_time_and_loses_nothing() -> Result<()> {
    const SEED: u64 = 0x57a7;
    const BURST: i64 = 400;
    let (cluster, bessemer) = (cluster()?, Bessemer::find()?);
    // Slow brokers, so that most moments are in the middle of an epoch.
    cluster.mock.broker_round_trip_time(1, Duration::from_millis(60))?;
    let pipeline = topic_pipeline(&cluster, "", "SET epoch_age_max = '10ms'; SET epoch_rows = 100;")?;
    let mut random = StdRng::seed_from_u64(SEED);
    println!("seed {SEED:#x}");
    let (mut end, mut given_up) = (0, 0);
    for _ in 0..8 {
        let daemon = bessemer.start_listening(["daemon", &pipeline.path()])?;
        send(&cluster, end..end + BURST)?;
        end += BURST;
        pause(Duration::from_millis(random.random_range(0..2_000)));
        given_up += usize::from(stop(daemon)?.contains("was given up"));
    }
    println!("{given_up} epochs were given up");
    bessemer.call(["run", &pipeline.path()])?.expect_code(0)?;
    assert_eq!(committed(&bessemer, &pipeline.path())?, Some(end));
    let is_whole = |number: &i64| number % 40 != 7 && number % 13 != 0;
    let mut numbers = Vec::new();
    for row in pipeline.rows("seen")?.select(&["number"])?.rows {
        numbers.push(row[0].parse::<i64>()?);
    }
    numbers.sort_unstable();
    assert!(numbers == (0..end).filter(is_whole).collect::<Vec<_>>(), "{} rows", numbers.len());
    Ok(())
}

#[test]
fn a_scheduled_run_that_takes_too_long_is_stopped_and_loses_nothing() -> Result<()> {
    let (cluster, bessemer) = (cluster()?, Bessemer::find()?);
    send(&cluster, 0..600)?;
    // Longer than any time-out of the pipeline, so that the run is surely stopped.
    cluster.mock.broker_round_trip_time(1, Duration::from_secs(20))?;
    let pipeline = topic_pipeline(&cluster, "WITH (schedule = '@yearly', timeout = INTERVAL '1 second')", "")?;
    let path = pipeline.path();
    fs::create_dir_all(pipeline.folder().join(".bessemer/p"))?;
    let remembered = r#"{"format_version":1,"schedule":"@yearly UTC","through":1700000000000000}"#;
    fs::write(pipeline.folder().join(".bessemer/p/daemon.json"), remembered)?;
    let daemon = bessemer.start_listening(["daemon", &path])?;
    wait_until("the run is stopped", || {
        let runs = bessemer.json(["log", &path, "--runs", "--json"])?;
        Ok(runs[0]["outcome"] == "timed_out")
    })?;
    stop(daemon)?;

    cluster.mock.broker_round_trip_time(1, Duration::ZERO)?;
    bessemer.call(["run", &path])?.expect_code(0)?;
    assert_eq!(committed(&bessemer, &path)?, Some(600));
    Ok(())
}

#[test]
fn a_second_pipeline_of_one_name_waits_until_the_first_is_gone() -> Result<()> {
    let bessemer = Bessemer::find()?;
    let folder = tempfile::tempdir()?;
    let write = |file: &str, name: &str| -> Result<()> {
        let text = format!(
            "CREATE PIPELINE {name} WITH (state = 'state/{file}'); SET epoch_age_max = '50ms';
             CREATE SOURCE numbers (number BIGINT NOT NULL) WITH (path = 'in/*.json', format = 'json');
             CREATE FEATURE SET seen WITH (path = 'features/{file}') AS SELECT number FROM numbers;"
        );
        Ok(fs::write(folder.path().join(format!("{file}.sql")), text)?)
    };
    fs::create_dir(folder.path().join("in"))?;
    fs::write(folder.path().join("in/1.json"), "{\"number\":1}\n")?;
    write("a", "same")?;
    let daemon = bessemer.start_listening(["daemon", &folder.path().display().to_string()])?;
    let commits = |file: &str| Ok(folder.path().join(format!("state/{file}/manifests/{:020}.json", 2)).exists());
    wait_until("the first commits", || commits("a"))?;
    write("b", "same")?;
    write("c", "other")?;
    // `b` was written first, and is looked at first.
    wait_until("the third commits", || commits("c"))?;
    fs::write(folder.path().join("in/2.json"), "{\"number\":2}\n")?;
    wait_until("the first goes on", || {
        Ok(bessemer_integration_tests::read_set(&folder.path().join("features/a"))?.rows.len() == 2)
    })?;
    assert!(!commits("b")?);
    let remove = |file: &str| fs::remove_file(folder.path().join(format!("{file}.sql")));
    remove("a")?;
    wait_until("the second commits, once its name is free", || commits("b"))?;
    // The name moves to another file between two looks.
    write("d", "same")?;
    remove("b")?;
    wait_until("the file that has the name now commits", || commits("d"))?;
    let said = stop(daemon)?;
    assert!(
        said.contains("not started: ") && said.contains("b.sql") && said.contains("is pipeline `same` already"),
        "{said}"
    );
    Ok(())
}

#[test]
fn a_wrong_schedule_is_told_with_its_place_and_help() -> Result<()> {
    let world = World::new("schedule = '0 25 * * *', time_zone = 'Europe/Berln'")?;
    let outcome = world.bessemer.call(["check", &world.pipeline.path()])?;
    outcome.expect_code(2)?;
    for words in [
        "pipeline.sql:1:36",
        "`0 25 * * *` is no schedule: the hour cannot be `25`",
        "help: it takes 0 to 23",
        "there is no time zone `Europe/Berln`",
        "help: did you mean `'Europe/Berlin'`?",
    ] {
        assert!(outcome.stderr.contains(words), "`{words}` is missing in\n{}", outcome.stderr);
    }
    let json = world.bessemer.call(["check", &world.pipeline.path(), "--json"])?;
    let answer: Value = serde_json::from_str(&json.stdout)?;
    let places: Vec<_> =
        answer["diagnostics"].as_array().unwrap().iter().map(|it| (it["line"].clone(), it["column"].clone())).collect();
    assert_eq!(places.len(), 2, "{answer}");
    Ok(())
}
