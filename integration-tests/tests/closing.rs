//! Sets that emit rows once they are final, windows as they close and features as the watermark passes them: every row
//! once, whole, whatever the cut; records that come too late are in quarantine and have no part in any.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::Arc;

use anyhow::{Context, Result};
use arrow::array::{ArrayRef, Int64Builder, RecordBatch, TimestampMicrosecondBuilder};
use bessemer_integration_tests::{
    Bessemer, CLOSING_SETS, Event, FIRST_MOMENT, KafkaCluster, Outcome, Pipeline, Rows, deliver, of_partitions,
    over_topic, parquet_files, record, rounds, signal, wait_until,
};
use parquet::arrow::ArrowWriter;
use serde_json::Value;

/// Seconds.
const WINDOW: i64 = 60;
const DELAY: i64 = 30;
/// As rows are read back.
const NULL: &str = "\\N";

fn sets() -> String {
    format!(
        "{CLOSING_SETS}
     CREATE FEATURE SET totals WITH (path = 'features/totals') AS SELECT k, count(*) AS n FROM events GROUP BY k;"
    )
}

fn over_files(epoch_files: u32) -> Result<Pipeline> {
    let pipeline = Pipeline::new(&format!(
        "CREATE PIPELINE closing; SET epoch_files = {epoch_files}; SET partitions = 2;
         CREATE SOURCE events (k BIGINT NOT NULL, at TIMESTAMP NOT NULL, value BIGINT,
             WATERMARK FOR at AS at - INTERVAL '30 seconds' ON LATE QUARANTINE) WITH (path = 'in/*.json');
         {}",
        sets()
    ))?;
    fs::create_dir(pipeline.folder().join("in"))?;
    Ok(pipeline)
}

/// The events that are not late: what one listing found is one arrival.
fn admitted(rounds: &[Vec<Vec<Event>>]) -> Vec<Event> {
    let (mut watermark, mut admitted) = (i64::MIN, Vec::new());
    for round in rounds {
        let events: Vec<Event> = round.concat().into_iter().filter(|event| event.1 >= watermark).collect();
        watermark = events.iter().map(|event| event.1 - DELAY).max().unwrap_or(watermark).max(watermark);
        admitted.extend(events);
    }
    admitted
}

fn micros(seconds: i64) -> String {
    ((FIRST_MOMENT + seconds) * 1_000_000).to_string()
}

/// Number, sum and different values of each key and window.
fn minutes(events: &[Event]) -> Vec<Vec<String>> {
    let mut windows: BTreeMap<(i64, i64), Vec<i64>> = BTreeMap::new();
    for (k, at, value) in events {
        windows.entry((*k, at / WINDOW * WINDOW)).or_default().push(*value);
    }
    let rows = windows.iter().filter(|(_, values)| values.len() > 1).map(|((k, start), values)| {
        let several: BTreeSet<_> = values.iter().collect();
        let counts = [values.len().to_string(), values.iter().sum::<i64>().to_string(), several.len().to_string()];
        [vec![k.to_string(), micros(*start), micros(start + WINDOW)], counts.to_vec()].concat()
    });
    let mut rows: Vec<_> = rows.collect();
    rows.sort();
    rows
}

/// The key with the most events of each window.
fn most(events: &[Event]) -> Vec<Vec<String>> {
    let mut windows: BTreeMap<i64, BTreeMap<i64, i64>> = BTreeMap::new();
    for (k, at, _) in events {
        for start in [at.div_euclid(30) * 30, at.div_euclid(30) * 30 - 30] {
            *windows.entry(start).or_default().entry(*k).or_default() += 1;
        }
    }
    let best = |keys: &BTreeMap<i64, i64>| keys.iter().map(|(k, n)| (-n, *k)).min().unwrap_or_default();
    let rows = windows.iter().map(|(start, keys)| {
        let (n, k) = best(keys);
        vec![micros(start + WINDOW), k.to_string(), (-n).to_string()]
    });
    let mut rows: Vec<_> = rows.collect();
    rows.sort();
    rows
}

/// The events of a key in their order.
fn of_key(events: &[Event], key: i64) -> Vec<Event> {
    let mut of_key: Vec<Event> = events.iter().filter(|event| event.0 == key).copied().collect();
    of_key.sort_unstable();
    of_key
}

fn sorted(mut rows: Vec<Vec<String>>) -> Vec<Vec<String>> {
    rows.sort();
    rows
}

/// Each event with the sum of the last twenty seconds of its key and the value before.
fn recent(events: &[Event]) -> Vec<Vec<String>> {
    let of = |key: i64| {
        let of_key = of_key(events, key);
        let row = |(number, (_, at, value)): (usize, &Event)| {
            let recently = of_key.iter().filter(|(_, other, _)| (at - 20..=*at).contains(other));
            let total: i64 = recently.map(|(_, _, value)| value).sum();
            let before = number.checked_sub(1).map_or(NULL.to_owned(), |before| of_key[before].2.to_string());
            vec![key.to_string(), micros(*at), value.to_string(), total.to_string(), before]
        };
        of_key.iter().enumerate().map(row).collect::<Vec<_>>()
    };
    sorted((0..4).flat_map(of).collect())
}

/// The sessions of each key.
fn visits(events: &[Event]) -> Vec<Vec<String>> {
    let of = |key: i64| {
        let mut sessions: Vec<(i64, i64, usize)> = Vec::new();
        for (_, at, _) in of_key(events, key) {
            match sessions.last_mut().filter(|(_, last, _)| at < last + 4) {
                Some((_, last, n)) => (*last, *n) = (at, *n + 1),
                None => sessions.push((at, at, 1)),
            }
        }
        let row =
            |(start, last, n): (i64, i64, usize)| vec![key.to_string(), micros(start), micros(last + 4), n.to_string()];
        sessions.into_iter().map(row).collect::<Vec<_>>()
    };
    sorted((0..4).flat_map(of).collect())
}

/// Each event with those of its key shortly before and after that have a greater value.
fn pairs(events: &[Event]) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for (k, at, value) in events {
        let is_near = |other: &&Event| other.0 == *k && *value < other.2 && (at - 3..=at + 2).contains(&other.1);
        let mut near: Vec<_> = events.iter().filter(is_near).map(|other| other.2.to_string()).collect();
        if near.is_empty() {
            near.push(NULL.to_owned());
        }
        rows.extend(near.into_iter().map(|other| vec![k.to_string(), micros(*at), value.to_string(), other]));
    }
    sorted(rows)
}

fn found(pipeline: &Pipeline, set: &str, columns: &[&str]) -> Result<Vec<Vec<String>>> {
    let rows: Rows = pipeline.rows(set)?;
    Ok(if rows.rows.is_empty() { Vec::new() } else { rows.select(columns)?.sorted().rows })
}

fn check(bessemer: &Bessemer, pipeline: &Pipeline, events: &[Event], sent: usize) -> Result<()> {
    let columns = ["k", "window_start", "window_end", "n", "total", "several"];
    assert_eq!(found(pipeline, "minutes", &columns)?, minutes(events), "minutes");
    assert_eq!(found(pipeline, "most", &["window_end", "k", "n"])?, most(events), "most");
    assert_eq!(found(pipeline, "recent", &["k", "at", "value", "total", "before"])?, recent(events), "recent");
    assert_eq!(found(pipeline, "visits", &["k", "window_start", "window_end", "n"])?, visits(events), "visits");
    assert_eq!(found(pipeline, "pairs", &["k", "at", "value", "other"])?, pairs(events), "pairs");
    let ledger = bessemer.json(["ledger", &pipeline.path(), "--json"])?;
    let source = &ledger["sources"][0];
    assert_eq!(ledger["balanced"], true);
    assert_eq!((&source["records"], &source["admitted"]), (&sent.into(), &events.len().into()), "{ledger}");
    assert_eq!((&source["late"], &source["quarantined"]), (&(sent - events.len()).into(), &source["late"]));
    Ok(())
}

/// A run with these options ends with this code and these words.
fn says(bessemer: &Bessemer, pipeline: &Pipeline, options: &[&str], code: i32, words: &str) -> Result<()> {
    let path = pipeline.path();
    let outcome = bessemer.call([&["run", &path], options].concat())?;
    outcome.expect_code(code)?;
    assert!(outcome.stderr.contains(words), "{}", outcome.stderr);
    Ok(())
}

#[test]
fn windows_of_files_are_emitted_once_and_whole_however_the_files_are_cut() -> Result<()> {
    let bessemer = Bessemer::find()?;
    for (seed, epoch_files) in [(1, 1), (1, 2), (2, 1_000)] {
        let rounds = rounds(seed);
        let pipeline = over_files(epoch_files)?;
        let mut emitted = Vec::new();
        for (number, round) in rounds.iter().enumerate() {
            deliver(&pipeline, number, round)?;
            bessemer.json(["run", &pipeline.path(), "--json"])?;
            // What was emitted stays as it was.
            let rows = found(&pipeline, "minutes", &["k", "window_end", "n", "total"])?;
            assert!(emitted.iter().all(|row| rows.contains(row)), "a window was taken back");
            assert!(number == 0 || rows.len() > emitted.len(), "no window was emitted in round {number}");
            emitted = rows;
            // Nothing is new, nothing changes.
            let epochs = bessemer.json(["run", &pipeline.path(), "--json"])?["epochs"].clone();
            assert_eq!(epochs, 0);
        }
        let events = admitted(&rounds);
        let states = bessemer.json(["state", &pipeline.path(), "--json"])?;
        let open = states.as_array().context("no list")?.iter().find(|state| state["set"] == "minutes");
        assert!(open.context("no state")?["rows"].as_u64() > Some(0), "{states}");
        bessemer.json(["run", &pipeline.path(), "--final", "--json"])?;
        let sent = rounds.concat().concat().len();
        assert!(events.len() < sent);
        check(&bessemer, &pipeline, &events, sent)?;
        let totals: i64 = found(&pipeline, "totals", &["n"])?.iter().filter_map(|row| row[0].parse::<i64>().ok()).sum();
        assert_eq!(usize::try_from(totals)?, events.len(), "a late row is in a set that does not close windows");

        // The reason and the bytes.
        let quarantine = bessemer.call(["quarantine", &pipeline.path(), "events", "--json", "--limit", "1000"])?;
        let text = quarantine.stdout;
        assert!(text.contains("\"late\"") && text.contains("2013-01-01T00:"), "{text}");

        // It is for good.
        bessemer.json(["run", &pipeline.path(), "--final", "--json"])?;
        deliver(&pipeline, 9, &[vec![(1, 99_999, 1)]])?;
        for last in [&["--final"][..], &[]] {
            says(&bessemer, &pipeline, last, 2, "`run --final` has closed its windows for good")?;
        }
    }
    Ok(())
}

/// Puts a file of one event a second there, each with the number of its minute.
fn deliver_parquet(pipeline: &Pipeline, name: &str, seconds: impl Iterator<Item = i64>) -> Result<()> {
    let (mut ats, mut values) = (TimestampMicrosecondBuilder::new(), Int64Builder::new());
    for second in seconds {
        ats.append_value((FIRST_MOMENT + second) * 1_000_000);
        values.append_value(second / WINDOW);
    }
    let columns: [(&str, ArrayRef); 2] = [("at", Arc::new(ats.finish())), ("value", Arc::new(values.finish()))];
    let batch = RecordBatch::try_from_iter(columns)?;
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None)?;
    writer.write(&batch)?;
    fs::write(pipeline.folder().join("in").join(name), writer.into_inner()?)?;
    Ok(())
}

#[test]
fn statistics_of_files_that_are_not_read_yet_close_windows_before_the_listing_is_read() -> Result<()> {
    const FILES: i64 = 8;
    const MINUTES: i64 = 10;
    let bessemer = Bessemer::find()?;
    let pipeline = Pipeline::new(
        "CREATE PIPELINE statistics; SET epoch_files = 1;
         CREATE SOURCE events (at TIMESTAMP NOT NULL, value BIGINT NOT NULL,
             WATERMARK FOR at AS at - INTERVAL '30 seconds' ON LATE QUARANTINE) WITH (path = 'in/', format = 'parquet');
         CREATE FEATURE SET minutes EMIT ON WINDOW CLOSE WITH (path = 'features/minutes')
         AS SELECT window_start, count(*) AS n, min(value) AS least, max(value) AS most
            FROM TUMBLE(events, at, INTERVAL '1 minute') GROUP BY window_start, window_end;",
    )?;
    fs::create_dir(pipeline.folder().join("in"))?;
    // Each is of ten minutes; the last but one has one event more, of the fifth, that none of those before it is late for.
    let of_file = |file: i64| file * MINUTES * WINDOW..(file + 1) * MINUTES * WINDOW;
    let old = 4 * MINUTES * WINDOW;
    for file in 0..FILES {
        let more = (file == FILES - 2).then_some(old);
        deliver_parquet(&pipeline, &format!("{file}.parquet"), of_file(file).chain(more))?;
    }
    bessemer.json(["run", &pipeline.path(), "--json"])?;
    let epochs = bessemer.json(["log", &pipeline.path(), "--last", "1000", "--json"])?;
    // Of each epoch: where the watermark is, in seconds, and how many windows were emitted.
    let mut found = Vec::new();
    for epoch in epochs.as_array().context("no list")? {
        let manifest = bessemer.json(["inspect", &pipeline.path(), &epoch["epoch"].to_string()])?;
        let at = manifest["watermarks"]["events"]["at"].as_i64().map(|at| at / 1_000_000 - FIRST_MOMENT);
        let added = manifest["sets"]["minutes"]["files"]["added"].as_array().into_iter().flatten();
        let rows: u64 = added.filter_map(|file| file["rows"].as_u64()).sum();
        if let Some(at) = at {
            found.push((at, rows));
        }
    }
    // The newest event less the delay, but not beyond the old event as long as its file is unread, and all of it in the end.
    let newest = |files: i64| files * MINUTES * WINDOW - 1 - 30;
    let at = |file: i64| if file < FILES - 2 { newest(file + 1).min(old) } else { newest(file + 1) };
    // An epoch emits what was closed before it.
    let closed = |file: i64| if file < 0 { 0 } else { u64::try_from(at(file) / WINDOW).unwrap_or_default() };
    let expected = (0..FILES).map(|file| (at(file), closed(file - 1) - closed(file - 2)));
    let expected: Vec<_> = expected.collect();
    assert!(expected[2].1 > 0 && expected[6].1 == 0, "{expected:?}");
    assert_eq!(found, expected);

    bessemer.json(["run", &pipeline.path(), "--final", "--json"])?;
    let rows = pipeline.rows("minutes")?.select(&["window_start", "n", "least", "most"])?.sorted().rows;
    let whole = (0..FILES * MINUTES).map(|minute| {
        let n = WINDOW + i64::from(minute * WINDOW == old);
        [micros(minute * WINDOW), n.to_string(), minute.to_string(), minute.to_string()].to_vec()
    });
    assert_eq!(rows, sorted(whole.collect()));
    let ledger = bessemer.json(["ledger", &pipeline.path(), "--json"])?;
    let source = &ledger["sources"][0];
    assert_eq!((&ledger["balanced"], &source["records"], &source["late"]), (&true.into(), &4_801.into(), &0.into()));
    bessemer.call(["replay", "--verify", &pipeline.path()])?.expect_code(0)?;
    Ok(())
}

#[test]
fn the_state_holds_open_windows_alone_and_its_files_are_those_that_are_named() -> Result<()> {
    let bessemer = Bessemer::find()?;
    let pipeline = over_files(1)?;
    for (number, hours) in (0..30).enumerate() {
        let events: Vec<Event> = (0..40).map(|at| (at % 4, hours * 3_600 / 6 + at, at)).collect();
        deliver(&pipeline, number + 10, &[events])?;
        bessemer.json(["run", &pipeline.path(), "--json"])?;
    }
    let states = bessemer.json(["state", &pipeline.path(), "--json"])?;
    let states = states.as_array().context("no list")?;
    let most = |state: &Value| match state["set"].as_str() {
        Some("minutes" | "most" | "totals") => 16,
        // Rows of the last round and those from before that count, some of them not yet merged.
        _ => 160,
    };
    assert!(states.iter().all(|state| state["rows"].as_u64() <= Some(most(state))), "{states:?}");
    let named: u64 = states.iter().filter_map(|state| state["files"].as_u64()).sum();
    let on_disk = parquet_files(&pipeline.folder().join(".bessemer/closing/aggregates"))?;
    assert_eq!(on_disk.len() as u64, named, "{on_disk:?}");

    // One byte of it changes.
    let path = on_disk.iter().find(|path| path.to_string_lossy().contains("minutes")).context("no file")?;
    let mut bytes = fs::read(path)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes)?;
    says(&bessemer, &pipeline, &[], 4, "what feature set `minutes` has kept for rows to come is lost")
}

/// Of each partition, in the order of its offsets: those that are not late against the rows before them.
fn admitted_of_partition(events: &[Event]) -> Vec<Event> {
    let mut newest = i64::MIN;
    let mut admitted = Vec::new();
    for event in events {
        if event.1 >= newest.saturating_sub(DELAY) {
            newest = newest.max(event.1);
            admitted.push(*event);
        }
    }
    admitted
}

#[test]
fn windows_of_a_topic_are_emitted_once_and_whole_however_it_is_cut_and_read() -> Result<()> {
    let bessemer = Bessemer::find()?;
    let cluster = KafkaCluster::start(1)?;
    cluster.create_topic("events", 3)?;
    let events = of_partitions(3, 3, 400);
    let pipeline = |name: &str, settings: &str| {
        let (source, sets) = (over_topic(&cluster), sets());
        Pipeline::new(&format!("CREATE PIPELINE {name}; {settings} SET partitions = 2; {source} {sets}"))
    };
    let pipelines = [
        pipeline("whole", "")?,
        pipeline("few", "SET epoch_rows = 70;")?,
        pipeline("often", "")?,
        pipeline("served", "SET epoch_age_max = '50ms'; SET epoch_rows = 100;")?,
    ];
    let daemon = bessemer.start_listening(["daemon", &pipelines[3].path()])?;
    for part in 0..4 {
        for (partition, events) in (0..).zip(&events) {
            cluster.send("events", partition, events[part * 100..part * 100 + 100].iter().copied().map(record))?;
        }
        bessemer.json(["run", &pipelines[2].path(), "--json"])?;
    }
    let sent = events.concat().len();
    wait_until("all is read", || {
        let outcome = bessemer.call(["ledger", &pipelines[3].path(), "--json"])?;
        let ledger: Value = serde_json::from_str(&outcome.stdout).unwrap_or_default();
        Ok(ledger["sources"][0]["records"] == sent)
    })?;
    signal("-TERM", daemon.id())?;
    Outcome::of(daemon)?.expect_code(0)?;
    let in_time: Vec<Event> = events.iter().flat_map(|events| admitted_of_partition(events)).collect();
    assert!(in_time.len() < sent);
    for pipeline in &pipelines {
        bessemer.json(["run", &pipeline.path(), "--json"])?;
        let before = found(pipeline, "minutes", &["k", "window_end"])?.len();
        assert!(before > 0, "no window was emitted before the end");
        bessemer.json(["run", &pipeline.path(), "--final", "--json"])?;
        check(&bessemer, pipeline, &in_time, sent)?;
    }
    Ok(())
}

#[test]
fn of_many_keys_those_are_looked_up_that_have_something_to_emit() -> Result<()> {
    let bessemer = Bessemer::find()?;
    let pipeline = over_files(1)?;
    let path = pipeline.path();
    let round = |number: i64, keys: i64| -> Vec<Event> { (0..keys).map(|k| (k, number * 7, number)).collect() };
    let mut events = Vec::new();
    let mut looked_up = Vec::new();
    for (number, keys) in (0..).zip([400, 3, 2, 400, 5, 1, 4, 2, 3, 1, 2, 3]) {
        let round = round(number, keys);
        deliver(&pipeline, usize::try_from(number)?, std::slice::from_ref(&round))?;
        events.extend(round);
        let told = bessemer.call(["run", &path, "--log-level", "bessemer=debug", "--log-format", "json"])?;
        told.expect_code(0)?;
        let lines = told.stderr.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let lines = lines.filter(|line| line.to_string().contains("rows that become final are looked for"));
        let of_set = |line: &Value| line.to_string().contains("\"recent\"");
        let in_memory = |line: &Value| line["fields"]["in_memory"].as_u64().or(line["in_memory"].as_u64());
        looked_up.extend(lines.filter(of_set).filter_map(|line| in_memory(&line)));
    }
    assert!(looked_up.contains(&0), "many of the keys have something to emit, {looked_up:?}");
    assert!(looked_up.iter().any(|segments| *segments > 2), "few of them have, {looked_up:?}");
    bessemer.json(["run", &path, "--final", "--json"])?;
    // The naive loops know the first four keys.
    let of_loops = |set: &str, columns: &[&str]| -> Result<Vec<Vec<String>>> {
        let is_known = |row: &Vec<String>| ["0", "1", "2", "3"].contains(&row[0].as_str());
        Ok(found(&pipeline, set, columns)?.into_iter().filter(is_known).collect())
    };
    assert_eq!(found(&pipeline, "recent", &["k"])?.len(), events.len());
    assert_eq!(of_loops("recent", &["k", "at", "value", "total", "before"])?, recent(&events));
    assert_eq!(of_loops("visits", &["k", "window_start", "window_end", "n"])?, visits(&events));
    assert_eq!(found(&pipeline, "pairs", &["k", "at", "value", "other"])?, pairs(&events));
    Ok(())
}

#[test]
fn a_pipeline_without_such_a_set_has_nothing_to_close() -> Result<()> {
    let bessemer = Bessemer::find()?;
    let pipeline = Pipeline::new(
        "CREATE PIPELINE plain; CREATE SOURCE events (k BIGINT) WITH (path = 'in/*.json');
         CREATE FEATURE SET seen WITH (path = 'features/seen') AS SELECT k FROM events;",
    )?;
    fs::create_dir(pipeline.folder().join("in"))?;
    fs::write(pipeline.folder().join("in/1.json"), "{\"k\": 1}\n")?;
    says(&bessemer, &pipeline, &["--final"], 2, "says `EMIT ON WINDOW CLOSE`")
}

#[test]
fn a_query_that_only_stands_elsewhere_in_its_file_goes_on() -> Result<()> {
    let bessemer = Bessemer::find()?;
    let pipeline = over_files(10)?;
    let events = [(1, 10, 1), (1, 20, 2), (2, 130, 1), (2, 135, 1)];
    deliver(&pipeline, 0, &[events.to_vec()])?;
    bessemer.json(["run", &pipeline.path(), "--json"])?;
    let path = pipeline.folder().join("pipeline.sql");
    fs::write(
        &path,
        format!("-- A remark.\n\n{}", fs::read_to_string(&path)?.replace("AS SELECT", "AS\n\n   SELECT")),
    )?;
    bessemer.json(["run", &pipeline.path(), "--final", "--json"])?;
    check(&bessemer, &pipeline, &events, events.len())
}

#[test]
fn a_changed_query_begins_anew_once_the_user_says_so() -> Result<()> {
    let bessemer = Bessemer::find()?;
    let pipeline = over_files(10)?;
    deliver(&pipeline, 0, &[vec![(1, 10, 1), (1, 20, 2), (2, 130, 1), (2, 135, 1)]])?;
    bessemer.json(["run", &pipeline.path(), "--json"])?;
    let path = pipeline.folder().join("pipeline.sql");
    let text = fs::read_to_string(&path)?.replace("sum(value) AS total", "sum(value + 1) AS total");
    fs::write(&path, text)?;
    says(&bessemer, &pipeline, &[], 2, "`--from now`")?;
    says(&bessemer, &pipeline, &["--from", "now"], 0, "what `minutes` has kept for rows to come is given up")?;
    // What was given up is gone for good; the next run has nothing to say.
    let next = bessemer.call(["run", &pipeline.path()])?;
    next.expect_code(0)?;
    assert!(!next.stderr.contains("given up"), "{}", next.stderr);
    deliver(&pipeline, 1, &[vec![(2, 140, 5), (2, 145, 5), (3, 400, 1)]])?;
    bessemer.json(["run", &pipeline.path(), "--json"])?;
    let rows = found(&pipeline, "minutes", &["k", "window_start", "n", "total"])?;
    assert_eq!(rows, [["1", &micros(0), "2", "3"], ["2", &micros(120), "2", "12"]].map(|row| row.map(str::to_owned)));
    Ok(())
}
