//! Sets that emit rows once they are final: what they have emitted is verified, and what they keep comes back where it was
//! lost, so that they go on as if nothing had been.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use bessemer_integration_tests::{
    Bessemer, CLOSING_SETS, KafkaCluster, Pipeline, deliver, of_partitions, over_topic, parquet_files, record, rounds,
    says,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;

const SETS: [&str; 5] = ["minutes", "most", "pairs", "recent", "visits"];

const MINUTES: &str = "CREATE FEATURE SET minutes ENTITY (k) EVENT TIME (window_end) EMIT ON WINDOW CLOSE
     WITH (path = 'features/minutes') AS SELECT k, window_end, count(*) AS n, sum(value) AS total
     FROM TUMBLE(events, at, INTERVAL '1 minute') GROUP BY k, window_end;";

/// How a state is lost.
#[derive(Debug, Clone, Copy)]
enum Damage {
    /// A byte of each file of a set has changed.
    Byte(&'static str),
    /// The files of a set are gone.
    Gone(&'static str),
    /// All sets of the last epoch have the state of another program.
    Fingerprint,
}

fn over_files(settings: &str, sets: &str) -> Result<Pipeline> {
    let pipeline = Pipeline::new(&format!(
        "CREATE PIPELINE closing; {settings} SET partitions = 2;
         CREATE SOURCE events (k BIGINT NOT NULL, at TIMESTAMP NOT NULL, value BIGINT,
             WATERMARK FOR at AS at - INTERVAL '30 seconds' ON LATE QUARANTINE) WITH (path = 'in/*.json');
         {sets}"
    ))?;
    fs::create_dir(pipeline.folder().join("in"))?;
    Ok(pipeline)
}

fn state_files(pipeline: &Pipeline, set: &str) -> Result<Vec<PathBuf>> {
    let mut folders = fs::read_dir(pipeline.folder().join(".bessemer"))?;
    let folder = folders.next().context("no state")??.path();
    parquet_files(&folder.join("aggregates").join(set))
}

fn manifests(pipeline: &Pipeline) -> Result<Vec<PathBuf>> {
    let mut folders = fs::read_dir(pipeline.folder().join(".bessemer"))?;
    let folder = folders.next().context("no state")??.path().join("manifests");
    let mut found = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    found.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    found.sort();
    Ok(found)
}

impl Damage {
    fn inflict(self, pipeline: &Pipeline) -> Result<()> {
        match self {
            Self::Byte(set) => {
                for path in state_files(pipeline, set)? {
                    let mut bytes = fs::read(&path)?;
                    let middle = bytes.len() / 2;
                    bytes[middle] ^= 1;
                    fs::write(path, bytes)?;
                }
            }
            Self::Gone(set) => {
                for path in state_files(pipeline, set)? {
                    fs::remove_file(path)?;
                }
            }
            Self::Fingerprint => {
                let path = manifests(pipeline)?.pop().context("no manifest")?;
                let mut manifest: Value = serde_json::from_slice(&fs::read(&path)?)?;
                for (_, set) in manifest["sets"].as_object_mut().context("no sets")? {
                    set["state"]["fingerprint"] = "0".repeat(64).into();
                }
                fs::write(path, serde_json::to_vec(&manifest)?)?;
            }
        }
        Ok(())
    }
}

/// Makes lost states anew; which.
fn rebuild(bessemer: &Bessemer, pipeline: &Pipeline) -> Result<Vec<String>> {
    let rebuilt = bessemer.json(["state", &pipeline.path(), "--rebuild", "--json"])?;
    let names = rebuilt.as_array().context("no list")?.iter();
    names.map(|state| Ok(state["set"].as_str().context("no name")?.to_owned())).collect()
}

/// Both hold the same rows.
fn check_equal(left: &Pipeline, right: &Pipeline, sets: &[&str]) -> Result<()> {
    for set in sets {
        let [left, right] = [left, right].map(|pipeline| pipeline.rows(set).map(|rows| rows.sorted().rows));
        assert_eq!(left?, right?, "{set}");
    }
    Ok(())
}

/// Every epoch of every set is what it was, byte for byte; how many there are that wrote a row.
fn check_verified(bessemer: &Bessemer, pipeline: &Pipeline, options: &[&str]) -> Result<usize> {
    let path = pipeline.path();
    let verified = bessemer.json([&["replay", "--verify", &path, "--json"], options].concat())?;
    let verified = verified.as_array().context("no list")?;
    assert!(verified.iter().all(|set| set["verdict"] == "same"), "{verified:#?}");
    assert!(verified.iter().all(|set| set["files"] == set["files_compared"]), "{verified:#?}");
    Ok(verified.iter().filter(|set| set["rows"].as_u64() > Some(0)).count())
}

/// The number of its newest epoch.
fn newest(bessemer: &Bessemer, pipeline: &Pipeline) -> Result<u64> {
    bessemer.json(["inspect", &pipeline.path()])?["epoch"].as_u64().context("no epoch")
}

#[test]
fn a_state_that_was_lost_at_any_time_comes_back_and_every_row_is_what_it_would_have_been() -> Result<()> {
    let bessemer = Bessemer::find()?;
    for (seed, epoch_files) in [(11, 2), (13, 1_000)] {
        let settings = format!("SET epoch_files = {epoch_files};");
        let (whole, lossy) = (over_files(&settings, CLOSING_SETS)?, over_files(&settings, CLOSING_SETS)?);
        let mut random = StdRng::seed_from_u64(seed);
        for (number, round) in rounds(seed).iter().enumerate() {
            for pipeline in [&whole, &lossy] {
                deliver(pipeline, number, round)?;
                bessemer.json(["run", &pipeline.path(), "--json"])?;
            }
            let set = SETS[random.random_range(0..SETS.len())];
            let damage = [Damage::Byte(set), Damage::Gone(set), Damage::Fingerprint][random.random_range(0..3)];
            damage.inflict(&lossy)?;
            let refused = bessemer.call(["run", &lossy.path()])?;
            let words = ["has kept for rows to come is lost", "`bessemer state --rebuild` makes it anew"];
            says(&refused, 4, &words).with_context(|| format!("{damage:?}"))?;
            let rebuilt = rebuild(&bessemer, &lossy)?;
            match damage {
                Damage::Byte(set) | Damage::Gone(set) => assert_eq!(rebuilt, [set], "{damage:?}"),
                Damage::Fingerprint => assert!(!rebuilt.is_empty()),
            }
            assert_eq!(rebuild(&bessemer, &lossy)?, [""; 0], "it was made anew already");
        }
        for pipeline in [&whole, &lossy] {
            bessemer.json(["run", &pipeline.path(), "--final", "--json"])?;
        }
        check_equal(&whole, &lossy, &SETS)?;
        let epochs = check_verified(&bessemer, &lossy, &[])?;
        assert!(epochs > 20, "{epochs} epochs of sets");
        // From the middle on, what came before is made anew.
        let middle = newest(&bessemer, &lossy)? / 2;
        assert!(check_verified(&bessemer, &lossy, &["--epochs", &format!("{middle}..")])? < epochs);
        let named: u64 = bessemer
            .json(["state", &lossy.path(), "--json"])?
            .as_array()
            .context("no list")?
            .iter()
            .filter_map(|state| state["files"].as_u64())
            .sum();
        let on_disk = SETS.iter().map(|set| Ok(state_files(&lossy, set)?.len() as u64)).sum::<Result<u64>>()?;
        assert_eq!(on_disk, named, "files that no manifest names");
    }
    Ok(())
}

#[test]
fn a_topic_is_read_again_where_a_state_is_lost() -> Result<()> {
    let bessemer = Bessemer::find()?;
    let cluster = KafkaCluster::start(1)?;
    cluster.create_topic("events", 3)?;
    let events = of_partitions(5, 3, 300);
    let source = over_topic(&cluster);
    let text = format!("CREATE PIPELINE closing; SET epoch_rows = 100; SET partitions = 2; {source} {CLOSING_SETS}");
    let (whole, lossy) = (Pipeline::new(&text)?, Pipeline::new(&text)?);
    let damages = [Damage::Gone("recent"), Damage::Fingerprint, Damage::Byte("minutes")];
    for (part, damage) in damages.into_iter().enumerate() {
        for (partition, events) in (0..).zip(&events) {
            cluster.send("events", partition, events[part * 100..part * 100 + 100].iter().copied().map(record))?;
        }
        for pipeline in [&whole, &lossy] {
            bessemer.json(["run", &pipeline.path(), "--json"])?;
        }
        damage.inflict(&lossy)?;
        says(&bessemer.call(["run", &lossy.path()])?, 4, &["`bessemer state --rebuild`"])?;
        assert!(!rebuild(&bessemer, &lossy)?.is_empty());
    }
    for pipeline in [&whole, &lossy] {
        bessemer.json(["run", &pipeline.path(), "--final", "--json"])?;
        assert!(check_verified(&bessemer, pipeline, &[])? > 20);
    }
    check_equal(&whole, &lossy, &SETS)
}

#[test]
fn what_a_topic_has_forgotten_is_missed_only_by_sets_that_need_it() -> Result<()> {
    /// The brokers keep five megabytes of a partition.
    const FORGOTTEN: i64 = 9_000;
    let bessemer = Bessemer::find()?;
    let cluster = KafkaCluster::start(1)?;
    cluster.create_topic("events", 1)?;
    let pipeline = Pipeline::new(&format!(
        "CREATE PIPELINE closing; SET epoch_rows = 1000;
         {}
         {MINUTES}
         CREATE FEATURE SET steps EMIT ON WINDOW CLOSE WITH (path = 'features/steps')
         AS SELECT k, at, lag(value) OVER (PARTITION BY k ORDER BY at) AS before FROM events;",
        over_topic(&cluster)
    ))?;
    let path = pipeline.path();
    let long = |at: i64| record((1, at / 10, at)).replacen('{', &format!("{{\"note\": \"{}\", ", "x".repeat(1_000)), 1);
    for events in [0..3_000, 3_000..6_000, 6_000..FORGOTTEN, FORGOTTEN..FORGOTTEN + 400] {
        cluster.send("events", 0, events.map(long))?;
        bessemer.json(["run", &path, "--json"])?;
    }
    let rows = pipeline.rows("minutes")?.rows.len();
    Damage::Gone("minutes").inflict(&pipeline)?;
    assert_eq!(rebuild(&bessemer, &pipeline)?, ["minutes"]);
    cluster.send("events", 0, [record((1, FORGOTTEN, 0))])?;
    bessemer.json(["run", &path, "--json"])?;
    let emitted = pipeline.rows("minutes")?.select(&["n"])?.rows;
    assert!(emitted.len() > rows && emitted.iter().filter(|n| **n != ["600"]).count() == 1, "{emitted:?}");

    Damage::Gone("steps").inflict(&pipeline)?;
    let words = ["`steps` has kept for rows to come cannot be made anew", "topic `events` has no longer the offsets"];
    says(&bessemer.call(["state", &path, "--rebuild"])?, 4, &words)?;
    says(&bessemer.call(["replay", "--verify", &path, "--epochs", "5.."])?, 0, &["skipped", words[1], "same"])
}

#[test]
fn nothing_is_committed_where_nothing_is_lost() -> Result<()> {
    let bessemer = Bessemer::find()?;
    let pipeline = over_files("", MINUTES)?;
    deliver(&pipeline, 0, &[vec![(1, 10, 1), (1, 70, 2), (1, 300, 3)]])?;
    says(&bessemer.call(["state", &pipeline.path(), "--rebuild"])?, 2, &["has no epoch yet"])?;
    bessemer.json(["run", &pipeline.path(), "--json"])?;
    let before = newest(&bessemer, &pipeline)?;
    says(&bessemer.call(["state", &pipeline.path(), "--rebuild"])?, 0, &["nothing was made anew"])?;
    assert_eq!(newest(&bessemer, &pipeline)?, before);

    Damage::Gone("minutes").inflict(&pipeline)?;
    says(&bessemer.call(["state", &pipeline.path(), "--rebuild"])?, 0, &["minutes", "a file of it is gone"])?;
    let log = bessemer.call(["log", &pipeline.path()])?.stdout;
    assert!(log.contains("compaction"), "{log}");
    Ok(())
}

#[test]
fn what_rows_to_come_need_must_be_there_and_nothing_else() -> Result<()> {
    let bessemer = Bessemer::find()?;
    let pipeline = over_files("", MINUTES)?;
    let path = pipeline.path();
    for (number, at) in [0, 600, 1_200].into_iter().enumerate() {
        deliver(&pipeline, number, &[vec![(1, at, 1), (2, at + 5, 2)]])?;
        bessemer.json(["run", &path, "--json"])?;
    }
    let files: Vec<_> = ["in/0-0.json", "in/3-1.json", "in/6-2.json"].map(|name| pipeline.folder().join(name)).into();
    // No window of the first files is open.
    fs::remove_file(&files[0])?;
    fs::remove_file(&files[1])?;
    Damage::Gone("minutes").inflict(&pipeline)?;
    assert_eq!(rebuild(&bessemer, &pipeline)?, ["minutes"]);
    Damage::Gone("minutes").inflict(&pipeline)?;
    let (kept, away) = (&files[2], pipeline.folder().join("away"));
    fs::rename(kept, &away)?;
    let words =
        ["`minutes` has kept for rows to come cannot be made anew", "`6-2.json` of source `events` disappeared since"];
    says(&bessemer.call(["state", &path, "--rebuild"])?, 4, &words)?;
    // Nor can be verified what depends on it.
    let verified = bessemer.call(["replay", "--verify", &path])?;
    says(&verified, 0, &["skipped", "`0-0.json` of source `events` disappeared since"])?;

    // The ways out: it is back, or the set begins anew.
    fs::rename(&away, kept)?;
    assert_eq!(rebuild(&bessemer, &pipeline)?, ["minutes"]);
    Damage::Byte("minutes").inflict(&pipeline)?;
    fs::remove_file(kept)?;
    let file = pipeline.folder().join("pipeline.sql");
    fs::write(&file, fs::read_to_string(&file)?.replace("minutes", "minutes_anew"))?;
    deliver(&pipeline, 3, &[vec![(1, 1_230, 1), (1, 9_000, 2)]])?;
    bessemer.call(["run", &path, "--from", "now"])?.expect_code(0)?;
    assert_eq!(pipeline.rows("minutes_anew")?.select(&["n"])?.rows, [["1"]]);
    Ok(())
}

#[test]
fn a_table_that_rows_were_looked_up_in_must_be_what_it_was() -> Result<()> {
    let bessemer = Bessemer::find()?;
    let sets = "CREATE TABLE names (k BIGINT, name VARCHAR) WITH (path = 'names.json');
         CREATE FEATURE SET named EMIT ON WINDOW CLOSE WITH (path = 'features/named', format = 'delta')
         AS SELECT name, window_end, count(*) AS n
            FROM TUMBLE(events, at, INTERVAL '1 minute') e JOIN names ON e.k = names.k GROUP BY name, window_end;";
    let pipeline = over_files("", sets)?;
    let path = pipeline.path();
    let names = pipeline.folder().join("names.json");
    fs::write(&names, "{\"k\": 1, \"name\": \"one\"}\n")?;
    deliver(&pipeline, 0, &[vec![(1, 0, 1), (1, 45, 1)]])?;
    bessemer.json(["run", &path, "--json"])?;
    Damage::Gone("named").inflict(&pipeline)?;
    assert_eq!(rebuild(&bessemer, &pipeline)?, ["named"]);
    deliver(&pipeline, 1, &[vec![(1, 59, 1), (1, 200, 1)]])?;
    bessemer.json(["run", &path, "--json"])?;
    assert_eq!(pipeline.rows("named")?.select(&["name", "n"])?.rows, [["one", "3"]]);
    check_verified(&bessemer, &pipeline, &[])?;

    Damage::Gone("named").inflict(&pipeline)?;
    fs::write(&names, "{\"k\": 1, \"name\": \"another\"}\n")?;
    let words = ["cannot be made anew", "table `names` has changed since epoch"];
    says(&bessemer.call(["state", &path, "--rebuild"])?, 4, &words)?;
    says(&bessemer.call(["replay", "--verify", &path])?, 0, &["skipped", "table `names` has changed since"])
}

#[test]
fn what_a_set_emitted_otherwise_is_told_and_epochs_of_another_definition_are_passed_over() -> Result<()> {
    let bessemer = Bessemer::find()?;
    let pipeline = over_files("", MINUTES)?;
    let path = pipeline.path();
    for number in 0..3 {
        let at = 600 * i64::try_from(number)?;
        deliver(&pipeline, number, &[vec![(1, at, 1), (2, at + 5, 2), (2, at + 90, 2)]])?;
        bessemer.json(["run", &path, "--json"])?;
    }
    let verified = check_verified(&bessemer, &pipeline, &[])?;
    assert!(verified >= 2, "{verified}");
    let last = newest(&bessemer, &pipeline)?;

    // The query changes, and windows begin anew.
    let file = pipeline.folder().join("pipeline.sql");
    fs::write(&file, fs::read_to_string(&file)?.replace("sum(value)", "sum(value + 1)"))?;
    bessemer.call(["run", &path, "--from", "now"])?.expect_code(0)?;
    deliver(&pipeline, 3, &[vec![(1, 1_700, 1), (1, 2_000, 1)]])?;
    bessemer.json(["run", &path, "--json"])?;
    assert_eq!(check_verified(&bessemer, &pipeline, &["--epochs", &format!("{}..", last + 1)])?, 1);
    says(&bessemer.call(["replay", "--verify", &path])?, 0, &["skipped", "it was made under another definition"])?;
    // So what is lost begins there, too.
    Damage::Gone("minutes").inflict(&pipeline)?;
    assert_eq!(rebuild(&bessemer, &pipeline)?, ["minutes"]);
    bessemer.json(["run", &path, "--final", "--json"])?;
    let rows = pipeline.rows("minutes")?.select(&["k", "n", "total"])?.rows;
    assert!(rows.ends_with(&[["1", "1", "2"], ["1", "1", "2"]].map(|row| row.map(str::to_owned).to_vec())), "{rows:?}");

    // One byte of a row that was emitted under the definition of today.
    let newest = pipeline.live_files(&bessemer, "minutes")?.pop().context("no file")?;
    let mut bytes = fs::read(&newest)?;
    let at = bytes.len() / 3;
    bytes[at] ^= 1;
    fs::write(&newest, bytes)?;
    let verified = bessemer.call(["replay", "--verify", &path])?;
    says(&verified, 4, &["differs", "has other bytes", "1 feature set of an epoch is not what"])
}
