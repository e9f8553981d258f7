//! Quarantined records, replayed after a fix: each becomes a row once, or is in quarantine once. And epochs, run once more
//! to compare.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use bessemer_integration_tests::{
    Bessemer, Flights, KafkaCluster, Outcome, Pipeline, SETS, parquet_files, pause, says,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;

/// A topic of numbers, some of them beyond INT, some no number at all.
struct World {
    cluster: KafkaCluster,
    bessemer: Bessemer,
    pipeline: Pipeline,
}

/// What is in the files and in quarantine: numbers and originals, sorted.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    rows: Vec<i64>,
    quarantined: Vec<String>,
}

impl World {
    fn new(settings: &str) -> Result<Self> {
        let (cluster, bessemer) = (KafkaCluster::start(1)?, Bessemer::find()?);
        cluster.create_topic("numbers", 2)?;
        let pipeline = Pipeline::new(&text(&cluster, "INT", settings))?;
        Ok(Self { cluster, bessemer, pipeline })
    }

    /// Gives the numbers another type.
    fn redefine(&self, data_type: &str, settings: &str) -> Result<()> {
        Ok(std::fs::write(self.pipeline.folder().join("pipeline.sql"), text(&self.cluster, data_type, settings))?)
    }

    /// Sends numbers, dealt to the partitions, as they are written.
    fn send(&self, numbers: impl IntoIterator<Item = String>) -> Result<()> {
        let numbers: Vec<_> = numbers.into_iter().map(|number| format!(r#"{{"number": {number}}}"#)).collect();
        for partition in 0..2 {
            let mine = numbers.iter().skip(usize::try_from(partition)?).step_by(2).cloned();
            self.cluster.send("numbers", partition, mine)?;
        }
        Ok(())
    }

    fn run(&self) -> Result<Outcome> {
        self.bessemer.call(["run", &self.pipeline.path()])
    }

    fn replay(&self, arguments: &[&str]) -> Result<Outcome> {
        let path = self.pipeline.path();
        self.bessemer.call(["quarantine", "replay", &path].into_iter().chain(arguments.iter().copied()))
    }

    fn found(&self) -> Result<Found> {
        let mut rows = Vec::new();
        for row in self.pipeline.rows("seen")?.select(&["number"])?.rows {
            rows.push(row[0].parse()?);
        }
        rows.sort_unstable();
        let mut quarantined = quarantine(&self.bessemer, &self.pipeline, "numbers")?
            .iter()
            .map(|row| Ok(row["original"].as_str().context("no bytes")?.to_owned()))
            .collect::<Result<Vec<_>>>()?;
        quarantined.sort_unstable();
        Ok(Found { rows, quarantined })
    }

    /// The ledger of the source; it must balance, and hold what quarantine does.
    fn ledger(&self) -> Result<Value> {
        let ledger = self.bessemer.json(["ledger", &self.pipeline.path(), "--json"])?;
        assert_eq!(ledger["balanced"], true, "{ledger}");
        let source = ledger["sources"][0].clone();
        let count = |name: &str| source[name].as_u64().unwrap_or(0);
        let there = quarantine(&self.bessemer, &self.pipeline, "numbers")?.len() as u64;
        assert_eq!(there, count("quarantined") - count("replayed"), "{source}");
        Ok(source)
    }
}

fn text(cluster: &KafkaCluster, data_type: &str, settings: &str) -> String {
    format!(
        "CREATE PIPELINE numbers; {settings}
         CREATE SOURCE numbers (number {data_type} NOT NULL)
         INCLUDE PARTITION AS kafka_partition, OFFSET AS kafka_offset
         WITH (connector = 'kafka', bootstrap_servers = '{}', topic = 'numbers', format = 'json');
         CREATE FEATURE SET seen (CONSTRAINT not_negative EXPECT (number >= 0) ON VIOLATION QUARANTINE)
         WITH (path = 'features/seen')
         AS SELECT CAST(number AS BIGINT) AS number, kafka_partition, kafka_offset FROM numbers;",
        cluster.bootstrap_servers()
    )
}

fn quarantine(bessemer: &Bessemer, pipeline: &Pipeline, name: &str) -> Result<Vec<Value>> {
    let outcome = bessemer.call(["quarantine", &pipeline.path(), name, "--limit", "100000", "--json"])?;
    outcome.expect_code(0)?;
    outcome.stdout.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

/// A number beyond INT.
fn large(number: i64) -> i64 {
    5_000_000_000 + number
}

#[test]
fn records_become_rows_once_after_their_definition_was_mended() -> Result<()> {
    let world = World::new("")?;
    world.send((0..40).map(|number| number.to_string()))?;
    world.send((0..10).map(|number| large(number).to_string()).chain(["true".to_owned(), (-large(0)).to_string()]))?;
    world.run()?.expect_code(0)?;
    assert_eq!(world.found()?.quarantined.len(), 12);

    // Before the fix they fail again, and are there once.
    world.replay(&[])?.expect_code(0)?;
    assert_eq!(world.found()?.quarantined.len(), 12);
    assert_eq!(world.ledger()?["replayed"], 12);

    world.redefine("BIGINT", "")?;
    let words = ["the definition changed since epoch", "its columns", "`--from now`"];
    says(&world.replay(&[])?, 2, &words)?;
    says(&world.run()?, 2, &words)?;
    says(&world.replay(&["--from", "now"])?, 0, &["numbers", "The ledger balances"])?;
    let expected = Found {
        rows: (0..40).chain((0..10).map(large)).collect(),
        quarantined: vec![r#"{"number": true}"#.to_owned()],
    };
    assert_eq!(world.found()?, expected);
    let ledger = world.ledger()?;
    assert_eq!((&ledger["offsets"], &ledger["records"], &ledger["replayed"]), (&52.into(), &76.into(), &24.into()));

    // What breaks an expectation now is in the quarantine of the set, with its own offset.
    let broken = quarantine(&world.bessemer, &world.pipeline, "seen")?;
    assert_eq!(broken.len(), 1);
    assert_eq!((&broken[0]["number"], &broken[0]["_row"]), (&(-large(0)).into(), &broken[0]["kafka_offset"]));
    assert_eq!(broken[0]["_path"], format!("numbers/{}", broken[0]["kafka_partition"]));

    // Again: there is nothing left of that kind, and reading goes on without a word.
    says(&world.replay(&["--reason", "out_of_range"])?, 0, &["nothing in quarantine is to be replayed"])?;
    world.send([large(99).to_string()])?;
    world.run()?.expect_code(0)?;
    assert_eq!(world.found()?.rows.len(), 51);
    world.ledger()?;
    Ok(())
}

#[test]
fn what_is_not_asked_for_stays_and_epochs_are_bounded() -> Result<()> {
    const CUT: &str = "SET epoch_rows = 4;";
    let world = World::new(CUT)?;
    let odd = |number: i64| if number % 2 == 0 { large(number).to_string() } else { format!("\"{number}\"") };
    world.send((0..40).map(odd).chain(["7".to_owned()]))?;
    world.run()?.expect_code(0)?;
    world.redefine("BIGINT", CUT)?;
    let path = world.pipeline.path();
    let arguments = ["quarantine", "replay", &path, "--reason", "out_of_range", "--from", "now", "--json"];
    let summary = world.bessemer.json(arguments)?;
    assert_eq!(summary["epochs"], 5, "{summary}");
    let found = world.found()?;
    assert_eq!(found.rows, std::iter::once(7).chain((0..40).step_by(2).map(large)).collect::<Vec<_>>());
    assert_eq!(found.quarantined.len(), 20);
    assert_eq!(world.ledger()?["replayed"], 20);
    says(&world.replay(&["--reason", "no_such_reason"])?, 2, &["unknown variant `no_such_reason`"])
}

#[test]
fn records_are_replayed_with_the_bytes_that_they_were_mended_to() -> Result<()> {
    let world = World::new("")?;
    world.send(["1", "\"two\"", "\"three\"", "4"].map(str::to_owned))?;
    world.cluster.send("numbers", 1, ["\u{1}\u{2}".to_owned()])?;
    world.run()?.expect_code(0)?;
    let lines = quarantine(&world.bessemer, &world.pipeline, "numbers")?;
    assert_eq!(lines.len(), 3);
    let mended: Vec<_> = lines
        .iter()
        .map(|line| line.to_string().replace(r#"\"two\""#, "2").replace(r#"\"three\""#, r#"\"drei\""#))
        .filter(|line| line.contains(r#"\"number\""#))
        .collect();
    let file = world.pipeline.folder().join("mended.jsonl");
    std::fs::write(&file, mended.join("\n"))?;
    let arguments = ["--source", "numbers", "--repaired", &file.display().to_string()];
    world.replay(&arguments)?.expect_code(0)?;
    let found = world.found()?;
    assert_eq!(found.rows, [1, 2, 4]);
    // One was not mended well: what arrived stays. One was not to be replayed.
    assert_eq!(found.quarantined, ["\u{1}\u{2}".to_owned(), r#"{"number": "three"}"#.to_owned()]);
    world.ledger()?;
    // It has its old place, so that it can be mended once more; what became a row is not there any more.
    let again = quarantine(&world.bessemer, &world.pipeline, "numbers")?;
    let three = again.iter().find(|line| line["original"] == r#"{"number": "three"}"#).context("not there")?;
    let before = lines.iter().find(|line| line["original"] == r#"{"number": "three"}"#).context("not there")?;
    assert_eq!((&three["partition"], &three["offset"]), (&before["partition"], &before["offset"]));
    says(&world.replay(&arguments)?, 0, &["1 of the repaired records are not in quarantine"])?;
    assert_eq!(world.found()?.rows, [1, 2, 4]);

    std::fs::write(&file, "{}")?;
    says(&world.replay(&arguments)?, 2, &["line 1 of", "is no repaired record"])
}

#[test]
fn killed_at_any_moment_every_record_is_replayed_once() -> Result<()> {
    const SEED: u64 = 0x5e91a;
    const KILLS: usize = 25;
    const CUT: &str = "SET epoch_rows = 5;";
    let (world, mut random) = (World::new("")?, StdRng::seed_from_u64(SEED));
    world.send((0..20).map(|number| number.to_string()))?;
    world.send((0..400).map(|number| large(number).to_string()).chain(["null".to_owned()]))?;
    world.run()?.expect_code(0)?;
    world.redefine("BIGINT", CUT)?;
    let path = world.pipeline.path();
    let arguments = ["quarantine", "replay", &path, "--from", "now", "--reason", "out_of_range"];
    println!("seed {SEED:#x}");
    let started = Instant::now();
    let mut child = world.bessemer.start(arguments)?;
    // Long enough for its first epochs.
    while world.found()?.rows.len() <= 20 && child.try_wait()?.is_none() {}
    child.kill()?;
    child.wait()?;
    let longest = started.elapsed().mul_f64(1.5);
    let mut interrupted = 0;
    for _ in 0..KILLS {
        let mut child = world.bessemer.start(arguments)?;
        pause(longest.mul_f64(random.random()));
        interrupted += usize::from(child.try_wait()?.is_none());
        child.kill()?;
        child.wait()?;
    }
    println!("{interrupted} of {KILLS} replays were killed before their end");
    world.replay(&["--from", "now", "--reason", "out_of_range"])?.expect_code(0)?;
    // A crash leaves files that no manifest names; the next run has removed them.
    let expected = Found {
        rows: (0..20).chain((0..400).map(large)).collect(),
        quarantined: vec![r#"{"number": null}"#.to_owned()],
    };
    assert_eq!(world.found()?, expected);
    assert_eq!(world.ledger()?["replayed"], 400);
    Ok(())
}

/// A pipeline over JSON lines in a folder.
fn files(options: &str, rest: &str) -> Result<Pipeline> {
    let pipeline = Pipeline::new(&file_text("INT", options, rest))?;
    std::fs::create_dir(pipeline.folder().join("in"))?;
    Ok(pipeline)
}

fn file_text(data_type: &str, options: &str, rest: &str) -> String {
    format!(
        "CREATE PIPELINE files;
         CREATE SOURCE numbers (number {data_type} NOT NULL, at TIMESTAMP) INCLUDE PATH, ROW WITH (path = 'in/' {options});
         CREATE FEATURE SET seen WITH (path = 'features/seen')
         AS SELECT CAST(number AS BIGINT) AS number, path, \"row\" FROM numbers; {rest}"
    )
}

fn write(pipeline: &Pipeline, name: &str, lines: &[&str]) -> Result<()> {
    Ok(std::fs::write(pipeline.folder().join("in").join(name), lines.join("\n"))?)
}

fn rewrite(pipeline: &Pipeline, text: &str) -> Result<()> {
    Ok(std::fs::write(pipeline.folder().join("pipeline.sql"), text)?)
}

#[test]
fn records_of_files_keep_their_place() -> Result<()> {
    let bessemer = Bessemer::find()?;
    let pipeline = files(", format = 'json'", "")?;
    write(&pipeline, "a.json", &[r#"{"number": 1}"#, r#"{"number": 3000000000}"#, "none", r#"{"number": 2}"#])?;
    write(&pipeline, "b.json", &[r#"{"number": 3000000001}"#])?;
    bessemer.call(["run", &pipeline.path()])?.expect_code(0)?;
    // The files are no longer needed.
    std::fs::remove_dir_all(pipeline.folder().join("in"))?;
    rewrite(&pipeline, &file_text("BIGINT", ", format = 'json'", ""))?;
    bessemer.call(["quarantine", "replay", &pipeline.path(), "--from", "now"])?.expect_code(0)?;
    let rows = pipeline.rows("seen")?.select(&["number", "path", "row"])?.sorted().rows;
    let place = |path: &str| Path::new(path).file_name().map(|name| name.to_string_lossy().into_owned());
    let rows: Vec<_> = rows.iter().map(|row| (row[0].as_str(), place(&row[1]), row[2].as_str())).collect();
    let name = |name: &str| Some(name.to_owned());
    let expected = [
        ("1", name("a.json"), "0"),
        ("2", name("a.json"), "3"),
        ("3000000000", name("a.json"), "1"),
        ("3000000001", name("b.json"), "0"),
    ];
    assert_eq!(rows, expected);
    let left = quarantine(&bessemer, &pipeline, "numbers")?;
    assert_eq!((left.len(), &left[0]["record"], &left[0]["line"]), (1, &2.into(), &3.into()));
    let ledger = bessemer.json(["ledger", &pipeline.path(), "--json"])?;
    let source = &ledger["sources"][0];
    assert_eq!((&ledger["balanced"], &source["records"], &source["replayed"]), (&true.into(), &8.into(), &3.into()));
    Ok(())
}

#[test]
fn records_are_replayed_into_windows_that_are_open_and_are_late_for_those_that_are_closed() -> Result<()> {
    let bessemer = Bessemer::find()?;
    let pipeline = Pipeline::new(
        "CREATE PIPELINE windows;
         CREATE SOURCE events (id BIGINT NOT NULL, at TIMESTAMP NOT NULL,
             WATERMARK FOR at AS at - INTERVAL '5 minutes' ON LATE QUARANTINE) WITH (path = 'in/', format = 'json');
         CREATE FEATURE SET seen WITH (path = 'features/seen') AS SELECT id FROM events;
         CREATE FEATURE SET minutes EMIT ON WINDOW CLOSE WITH (path = 'features/minutes')
         AS SELECT extract(minute FROM window_start) AS minute, count(*) AS n, min(id) AS least, max(id) AS most
            FROM TUMBLE(events, at, INTERVAL '1 minute') GROUP BY window_start, window_end;
         CREATE FEATURE SET steps EMIT ON WINDOW CLOSE WITH (path = 'features/steps')
         AS SELECT id, at, lag(id) OVER (ORDER BY at, id) AS id_before FROM events;",
    )?;
    std::fs::create_dir(pipeline.folder().join("in"))?;
    let event = |id: &str, minute: i64| format!(r#"{{"id": {id}, "at": "2013-01-01T00:{minute:02}:30"}}"#);
    let good: Vec<_> = (0..30).map(|minute| event(&minute.to_string(), minute)).collect();
    let bad = [event("\"1001\"x", 3), event("[]", 26), event("{}", 26)];
    let lines: Vec<&str> = good.iter().chain(&bad).map(String::as_str).collect();
    write(&pipeline, "a.json", &lines)?;
    bessemer.call(["run", &pipeline.path()])?.expect_code(0)?;
    // What is final is emitted with the next look; the watermark is at 00:24:30.
    let minutes = || -> Result<Vec<Vec<String>>> {
        Ok(pipeline.rows("minutes")?.select(&["minute", "n", "least", "most"])?.sorted().rows)
    };
    assert_eq!(minutes()?.len(), 24, "{:?}", minutes()?);

    let left = quarantine(&bessemer, &pipeline, "events")?;
    assert_eq!(left.len(), 3);
    let mended = left.iter().enumerate().map(|(at, record)| {
        let mut record = record.clone();
        record["original"] = event(&(1_001 + at).to_string(), if at == 0 { 3 } else { 26 }).into();
        record.to_string()
    });
    let path = pipeline.folder().join("mended.jsonl");
    std::fs::write(&path, mended.collect::<Vec<_>>().join("\n"))?;
    let path = path.to_string_lossy();
    let replay =
        || bessemer.call(["quarantine", "replay", &pipeline.path(), "--source", "events", "--repaired", &path]);
    let words = ["1 row before the watermark", "what it keeps for rows to come has rows now", "The ledger balances"];
    says(&replay()?, 0, &words)?;
    let left = quarantine(&bessemer, &pipeline, "events")?;
    assert_eq!((left.len(), &left[0]["reason"]), (1, &"late".into()));
    // It is asked for once more, and late once more.
    says(&replay()?, 0, &["1 row before the watermark", "2 of the repaired records are not in quarantine"])?;
    assert_eq!(minutes()?.len(), 24, "{:?}", minutes()?);

    bessemer.call(["run", &pipeline.path(), "--final"])?.expect_code(0)?;
    let expected = (0..30_i64).map(|minute| {
        let numbers = if minute == 26 { [minute, 3, 26, 1_003] } else { [minute, 1, minute, minute] };
        numbers.map(|number| number.to_string()).to_vec()
    });
    let mut expected: Vec<_> = expected.collect();
    expected.sort();
    assert_eq!(minutes()?, expected);
    let steps = pipeline.rows("steps")?.select(&["id", "id_before"])?.rows;
    let ids = (0..=26).chain([1_002, 1_003]).chain(27..30).map(|id: i64| id.to_string());
    let mut steps: Vec<_> = steps.into_iter().filter(|row| row[0] != "0").collect();
    steps.sort();
    let ids: Vec<_> = ids.collect();
    let mut pairs: Vec<_> = ids.windows(2).map(|pair| [pair[1].clone(), pair[0].clone()].to_vec()).collect();
    pairs.sort();
    assert_eq!(steps, pairs);
    assert_eq!(pipeline.rows("seen")?.rows.len(), 32);
    let ledger = bessemer.json(["ledger", &pipeline.path(), "--json"])?;
    let source = &ledger["sources"][0];
    assert_eq!((&ledger["balanced"], &source["replayed"], &source["late"]), (&true.into(), &4.into(), &2.into()));
    // What was kept cannot be made anew, so that nothing is verified that needs it; what does not, is.
    let found = bessemer.json(["replay", "--verify", &pipeline.path(), "--json"])?;
    let verdicts = found.as_array().context("no list")?.iter().map(|of| (of["epoch"].as_u64(), of["verdict"].as_str()));
    let (mut same, mut skipped): (Vec<_>, Vec<_>) = verdicts.partition(|(_, verdict)| *verdict == Some("same"));
    assert!(skipped.iter().all(|(_, verdict)| *verdict == Some("skipped")), "{found}");
    for epochs in [&mut same, &mut skipped] {
        epochs.dedup();
    }
    let epochs = |of: Vec<(Option<u64>, _)>| of.into_iter().filter_map(|(epoch, _)| epoch).collect::<Vec<_>>();
    assert_eq!((epochs(same), epochs(skipped)), (vec![2, 3], vec![5, 7, 9]), "{found}");
    // Nothing comes into what was closed for good.
    says(&replay()?, 2, &["`run --final` has closed its windows for good"])
}

#[test]
fn what_is_late_once_more_is_so_by_the_slowest_partition_and_is_never_dropped() -> Result<()> {
    let (cluster, bessemer) = (KafkaCluster::start(1)?, Bessemer::find()?);
    cluster.create_topic("events", 2)?;
    let pipeline = Pipeline::new(&format!(
        "CREATE PIPELINE partitions; SET epoch_rows = 2;
         CREATE SOURCE events (id BIGINT NOT NULL, at TIMESTAMP NOT NULL,
             WATERMARK FOR at AS at - INTERVAL '0 seconds' ON LATE DROP)
         WITH (connector = 'kafka', bootstrap_servers = '{}', topic = 'events', format = 'json');
         CREATE FEATURE SET minutes EMIT ON WINDOW CLOSE WITH (path = 'features/minutes')
         AS SELECT extract(minute FROM window_start) AS minute, count(*) AS n
            FROM TUMBLE(events, at, INTERVAL '1 minute') GROUP BY window_start, window_end;",
        cluster.bootstrap_servers()
    ))?;
    let event = |id: &str, minute: i64| format!(r#"{{"id": {id}, "at": "2013-01-01T00:{minute:02}:30"}}"#);
    // One partition is at 00:20:30, the other, and so the topic, at 00:10:30.
    let bad = || (0..20).map(|minute| event("[]", minute));
    cluster.send("events", 0, bad().chain([event("1", 20)]))?;
    cluster.send("events", 1, [event("2", 10)])?;
    bessemer.call(["run", &pipeline.path()])?.expect_code(0)?;
    let left = quarantine(&bessemer, &pipeline, "events")?;
    assert_eq!(left.len(), 20);
    let mended = left.iter().map(|record| {
        let mut record = record.clone();
        record["original"] = record["original"].as_str().unwrap_or_default().replace("[]", "3").into();
        record.to_string()
    });
    let path = pipeline.folder().join("mended.jsonl");
    std::fs::write(&path, mended.collect::<Vec<_>>().join("\n"))?;
    let path = path.to_string_lossy();
    let arguments = ["quarantine", "replay", &pipeline.path(), "--source", "events", "--repaired", &path];
    says(&bessemer.call(arguments)?, 0, &["10 rows before the watermark", "The ledger balances"])?;
    let late = quarantine(&bessemer, &pipeline, "events")?;
    let minutes = late.iter().filter(|record| record["reason"] == "late").map(|record| record["offset"].as_i64());
    let mut minutes: Vec<_> = minutes.collect();
    minutes.sort();
    assert_eq!(minutes, (0..10).map(Some).collect::<Vec<_>>());
    bessemer.call(["run", &pipeline.path(), "--final"])?.expect_code(0)?;
    let rows = pipeline.rows("minutes")?.select(&["minute", "n"])?.sorted().rows;
    let mut expected: Vec<_> = (10..=20)
        .map(|minute| [minute.to_string(), if minute == 10 { "2" } else { "1" }.to_owned()].to_vec())
        .collect();
    expected.sort();
    assert_eq!(rows, expected);
    Ok(())
}

#[test]
fn what_cannot_be_replayed_is_refused_with_the_reason() -> Result<()> {
    let bessemer = Bessemer::find()?;
    let replay = |pipeline: &Pipeline, arguments: &[&str]| {
        let path = pipeline.path();
        bessemer.call(["quarantine", "replay", &path].into_iter().chain(arguments.iter().copied()))
    };
    let csv = files(", format = 'csv'", "")?;
    says(&replay(&csv, &[])?, 2, &["has no epoch yet"])?;
    write(&csv, "a.csv", &["number,at", "x,"])?;
    bessemer.call(["run", &csv.path()])?.expect_code(0)?;
    says(&replay(&csv, &[])?, 2, &["source `numbers` cannot be replayed", "the header of its file"])?;
    says(&replay(&csv, &["--source", "number"])?, 2, &["did you mean `numbers`?"])?;
    says(&replay(&csv, &["--set", "seen"])?, 2, &["rows in the quarantine of feature set `seen` cannot be replayed"])?;

    let totals = "CREATE FEATURE SET totals WITH (path = 'features/totals') AS SELECT count(*) AS n FROM numbers;";
    let counted = files(", format = 'json'", totals)?;
    write(&counted, "a.json", &[r#"{"number": "x"}"#])?;
    bessemer.call(["run", &counted.path()])?.expect_code(0)?;
    says(&replay(&counted, &[])?, 2, &["feature set `totals` is computed over everything read so far"])?;

    // Nor can such a set come later, when records are rows that their source does not give.
    let plain = files(", format = 'json'", "")?;
    write(&plain, "a.json", &[r#"{"number": "x"}"#])?;
    bessemer.call(["run", &plain.path()])?.expect_code(0)?;
    replay(&plain, &[])?.expect_code(0)?;
    rewrite(&plain, &file_text("INT", ", format = 'json'", totals))?;
    let outcome = bessemer.call(["run", &plain.path()])?;
    says(&outcome, 2, &["feature set `totals` is computed over everything", "some of its records were replayed"])
}

/// What `replay --verify` says: exit code, and what of each set of an epoch.
fn verify(bessemer: &Bessemer, pipeline: &Pipeline, more: &[&str]) -> Result<(i32, Vec<Value>)> {
    let path = pipeline.path();
    let arguments = ["replay", "--verify", &path, "--json"];
    let outcome = bessemer.call(arguments.into_iter().chain(more.iter().copied()))?;
    let verified = serde_json::from_str(&outcome.stdout).context(outcome.stderr.clone())?;
    Ok((outcome.code.context("no exit code")?, verified))
}

#[test]
fn epochs_of_files_are_what_they_were_until_a_byte_is_changed() -> Result<()> {
    let (flights, bessemer) = (Flights::example()?, Bessemer::find()?);
    let pipeline =
        Pipeline::flights(&flights.data.display().to_string(), |text| format!("SET partitions = 3;\n{text}"))?;
    bessemer.json(["run", &pipeline.path(), "--json"])?;
    let before = parquet_files(&pipeline.features)?;
    let (code, verified) = verify(&bessemer, &pipeline, &[])?;
    assert_eq!(code, 0, "{verified:#?}");
    assert!(verified.iter().all(|set| set["verdict"] == "same"), "{verified:#?}");
    assert_eq!(verified.len(), SETS.len(), "{verified:#?}");
    assert!(verified.iter().all(|set| set["files"] == set["files_compared"]), "{verified:#?}");
    assert_eq!(parquet_files(&pipeline.features)?, before, "it wrote something");

    let file = parquet_files(&pipeline.features.join("carrier_punctuality"))?.remove(1);
    let file = pipeline.features.join("carrier_punctuality").join(file);
    let mut bytes = std::fs::read(&file)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes)?;
    let (code, verified) = verify(&bessemer, &pipeline, &[])?;
    let differing: Vec<_> = verified.iter().filter(|set| set["verdict"] == "differs").collect();
    assert_eq!((code, differing.len()), (4, 1), "{verified:#?}");
    assert!(differing[0]["what"].as_str().is_some_and(|what| what.contains("has other bytes")), "{verified:#?}");
    let epoch = differing[0]["epoch"].as_u64().context("no epoch")?;
    assert_eq!(verify(&bessemer, &pipeline, &["--epochs", &format!("..{}", epoch - 1)])?.0, 0);
    assert_eq!(verify(&bessemer, &pipeline, &["--epochs", &epoch.to_string()])?.0, 4);
    Ok(())
}

#[test]
fn what_cannot_be_run_again_is_told() -> Result<()> {
    let (folder, bessemer) = (tempfile::tempdir()?, Bessemer::find()?);
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text);
    let data = folder.path().display();
    let definition = |rule: &str| {
        format!(
            "CREATE SOURCE trips (id BIGINT, rider VARCHAR) WITH (path = '{data}/trips*.csv', format = 'csv');
             CREATE TABLE riders (rider VARCHAR, town VARCHAR) WITH (path = '{data}/riders.csv', format = 'csv');
             CREATE FEATURE SET towns WITH (path = 'features/towns')
             AS SELECT id, town FROM trips JOIN riders USING (rider) WHERE {rule};
             CREATE FEATURE SET counts WITH (path = 'features/counts')
             AS SELECT rider, count(*) AS trips FROM trips GROUP BY rider;"
        )
    };
    write("riders.csv", "rider,town\nada,Graz\nbob,Linz\n")?;
    write("trips1.csv", "id,rider\n1,ada\n2,bob\n")?;
    let pipeline = Pipeline::new(&definition("id > 0"))?;
    bessemer.json(["run", &pipeline.path(), "--json"])?;
    write("trips2.csv", "id,rider\n3,ada\n")?;
    bessemer.json(["run", &pipeline.path(), "--json"])?;
    let what = |verified: &[Value]| -> Vec<String> {
        verified.iter().map(|set| set["what"].as_str().unwrap_or("").to_owned()).collect()
    };
    let (code, verified) = verify(&bessemer, &pipeline, &[])?;
    assert_eq!(code, 0, "{verified:#?}");
    // The first counts are out of force.
    assert_eq!(what(&verified), ["", "a later epoch has replaced it", "", ""]);

    write("riders.csv", "rider,town\nada,Wien\nbob,Linz\n")?;
    let (code, verified) = verify(&bessemer, &pipeline, &[])?;
    assert_eq!(code, 0, "{verified:#?}");
    let changed = "table `riders` has changed since";
    assert_eq!(what(&verified), [changed, "a later epoch has replaced it", changed, ""]);

    std::fs::remove_file(folder.path().join("trips1.csv"))?;
    let (_, verified) = verify(&bessemer, &pipeline, &[])?;
    let gone = what(&verified).pop().unwrap_or_default();
    assert!(gone.contains("trips1.csv") && gone.ends_with("disappeared since"), "{gone}");

    std::fs::write(pipeline.folder().join("pipeline.sql"), definition("id > 1"))?;
    let (_, verified) = verify(&bessemer, &pipeline, &["--epochs", "2..3"])?;
    assert!(what(&verified).contains(&"it was made under another definition".to_owned()), "{verified:#?}");
    let refused = bessemer.call(["replay", "--verify", &pipeline.path(), "--epochs", "90.."])?;
    refused.expect_code(2)?;
    assert!(refused.stderr.contains("there is no epoch 90"), "{}", refused.stderr);
    Ok(())
}

#[test]
fn a_set_over_all_of_a_topic_is_what_it_was_in_whatever_pieces_it_was_read() -> Result<()> {
    let (cluster, bessemer) = (KafkaCluster::start(1)?, Bessemer::find()?);
    cluster.create_topic("numbers", 1)?;
    let definition = |compression: &str| {
        format!(
            "SET partitions = 3;
             CREATE SOURCE numbers (number DOUBLE)
             WITH (connector = 'kafka', bootstrap_servers = '{}', topic = 'numbers', format = 'json');
             CREATE FEATURE SET sums WITH (path = 'features/sums'{compression})
             AS SELECT CAST(number AS BIGINT) % 3 AS kind, sum(number) AS total, avg(number) AS mean
                FROM numbers GROUP BY 1;",
            cluster.bootstrap_servers()
        )
    };
    let pipeline = Pipeline::new(&definition(""))?;
    for numbers in [0..1_000, 1_000..1_500] {
        let records = numbers.map(|number: i32| format!(r#"{{"number": {number}.1}}"#));
        cluster.send("numbers", 0, records.collect::<Vec<_>>())?;
        bessemer.call(["run", &pipeline.path()])?.expect_code(0)?;
    }
    // What it writes beside goes with it.
    let scratch = tempfile::tempdir()?;
    let bessemer = bessemer.env("TMPDIR", scratch.path());
    let (code, verified) = verify(&bessemer, &pipeline, &[])?;
    let verdicts: Vec<_> = verified.iter().map(|set| set["verdict"].as_str()).collect();
    assert_eq!((code, verdicts), (0, vec![Some("skipped"), Some("same")]), "{verified:#?}");
    assert_eq!(std::fs::read_dir(scratch.path())?.count(), 0, "something is left");

    std::fs::write(pipeline.folder().join("pipeline.sql"), definition(", compression = 'snappy'"))?;
    let (code, verified) = verify(&bessemer, &pipeline, &[])?;
    let what = verified.last().and_then(|set| set["what"].as_str()).unwrap_or_default();
    assert!(code == 4 && what.ends_with("unless options of its files were changed since"), "{verified:#?}");
    Ok(())
}

#[test]
fn epochs_of_topics_are_what_they_were() -> Result<()> {
    let world = World::new("SET epoch_rows = 20;")?;
    world.send((0..100).map(|number| number.to_string()).chain(["3000000000".to_owned()]))?;
    world.run()?.expect_code(0)?;
    let (code, verified) = verify(&world.bessemer, &world.pipeline, &[])?;
    assert_eq!(code, 0, "{verified:#?}");
    assert!(verified.len() > 3 && verified.iter().all(|set| set["verdict"] == "same"), "{verified:#?}");

    // Merged files cannot be compared byte for byte, their rows and sizes can.
    world.bessemer.json(["compact", &world.pipeline.path(), "--json"])?;
    let (code, verified) = verify(&world.bessemer, &world.pipeline, &[])?;
    assert_eq!(code, 0, "{verified:#?}");
    assert!(verified.iter().all(|set| set["verdict"] == "same"), "{verified:#?}");
    assert!(verified.iter().any(|set| set["files"] != set["files_compared"]), "{verified:#?}");

    // What was in quarantine cannot be made again of the topic.
    world.redefine("BIGINT", "SET epoch_rows = 20;")?;
    world.replay(&["--from", "now"])?.expect_code(0)?;
    let (code, verified) = verify(&world.bessemer, &world.pipeline, &[])?;
    assert_eq!(code, 0, "{verified:#?}");
    let replayed = verified.last().context("no epoch")?;
    assert_eq!(replayed["what"], "it is made of records that were in quarantine", "{verified:#?}");
    Ok(())
}
