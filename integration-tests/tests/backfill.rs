//! A backfill in windows: files come in any order of their events' times, and each event is in its window once.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::ops::Range;
use std::sync::Arc;

use anyhow::Result;
use arrow::array::{ArrayRef, Int64Array, RecordBatch, TimestampMicrosecondArray};
use bessemer_integration_tests::{Bessemer, Outcome, Pipeline, signal, wait_until};
use parquet::arrow::ArrowWriter;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

const EVENTS: i64 = 2_000_000;
const FILES: i64 = 8;
/// 2013-01-01, in microseconds since 1970.
const FIRST_MOMENT: i64 = 1_356_998_400_000_000;
/// Events come every five milliseconds, and up to ten seconds late.
const MICROS_PER_EVENT: i64 = 5_000;
const MICROS_LATE_MAX: i64 = 10_000_000;
const MICROS_PER_WINDOW: i64 = 60_000_000;

/// Eight files of events, each of another stretch of time, and what is in them.
struct Backfill {
    pipeline: Pipeline,
    bessemer: Bessemer,
    /// Names by the order of time; the order of names is another.
    names: Vec<String>,
    /// Number and sum of the events of each window, by its beginning.
    windows: BTreeMap<i64, (i64, i64)>,
}

impl Backfill {
    /// All files, none of them delivered.
    fn new(seed: u64) -> Result<Self> {
        let pipeline = Pipeline::new(
            "CREATE PIPELINE backfill;
             SET epoch_age_max = '50ms'; SET epoch_files = 3;
             CREATE SOURCE events (at TIMESTAMP NOT NULL, value BIGINT NOT NULL,
                 WATERMARK FOR at AS at - INTERVAL '10 seconds') WITH (path = 'in/*.parquet', format = 'parquet');
             CREATE FEATURE SET minutes WITH (path = 'features/minutes')
             AS SELECT window_start, count(*) AS events, sum(value) AS total
                FROM TUMBLE(events, at, INTERVAL '1 minute') GROUP BY window_start, window_end;",
        )?;
        let mut random = StdRng::seed_from_u64(seed);
        let mut names: Vec<_> = (0..FILES).map(|file| format!("{file}.parquet")).collect();
        names.shuffle(&mut random);
        let mut backfill = Self { pipeline, bessemer: Bessemer::find()?, names, windows: BTreeMap::new() };
        for folder in ["in", "made"] {
            fs::create_dir(backfill.pipeline.folder().join(folder))?;
        }
        for file in 0..FILES {
            backfill.make(file, &mut random)?;
        }
        Ok(backfill)
    }

    /// Makes the file of a stretch of time.
    fn make(&mut self, file: i64, random: &mut StdRng) -> Result<()> {
        let numbers = EVENTS * file / FILES..EVENTS * (file + 1) / FILES;
        let mut late = || random.random_range(0..=MICROS_LATE_MAX);
        let times: Vec<i64> = numbers.clone().map(|number| FIRST_MOMENT + number * MICROS_PER_EVENT - late()).collect();
        for (time, value) in times.iter().zip(numbers.clone()) {
            let (events, total) = self.windows.entry(time.div_euclid(MICROS_PER_WINDOW)).or_default();
            (*events, *total) = (*events + 1, *total + value);
        }
        let columns: [(&str, ArrayRef); 2] = [
            ("at", Arc::new(TimestampMicrosecondArray::from(times))),
            ("value", Arc::new(Int64Array::from_iter_values(numbers))),
        ];
        let batch = RecordBatch::try_from_iter(columns)?;
        let path = self.pipeline.folder().join("made").join(&self.names[usize::try_from(file)?]);
        let mut writer = ArrowWriter::try_new(File::create(path)?, batch.schema(), None)?;
        writer.write(&batch)?;
        writer.close()?;
        Ok(())
    }

    /// Delivers files by the order of time.
    fn deliver(&self, files: Range<usize>) -> Result<()> {
        for name in &self.names[files] {
            fs::rename(self.pipeline.folder().join("made").join(name), self.pipeline.folder().join("in").join(name))?;
        }
        Ok(())
    }

    /// Whether the set has all events of this many files.
    fn has(&self, files: i64) -> Result<bool> {
        let outcome = self.bessemer.call(["ledger", &self.pipeline.path(), "--json"])?;
        let ledger: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap_or_default();
        Ok(ledger["sets"][0]["admitted"] == EVENTS * files / FILES)
    }

    fn check(&self) -> Result<()> {
        let rows = self.pipeline.rows("minutes")?.select(&["window_start", "events", "total"])?.sorted().rows;
        let expected = self.windows.iter().map(|(window, (events, total))| {
            [window * MICROS_PER_WINDOW, *events, *total].map(|number| number.to_string()).to_vec()
        });
        assert!(rows == expected.collect::<Vec<_>>(), "{} windows instead of {}", rows.len(), self.windows.len());
        let ledger = self.bessemer.json(["ledger", &self.pipeline.path(), "--json"])?;
        let source = &ledger["sources"][0];
        assert_eq!(
            (&ledger["balanced"], &source["records"], &source["admitted"]),
            (&true.into(), &EVENTS.into(), &EVENTS.into())
        );
        Ok(())
    }
}

#[test]
fn a_run_over_files_in_any_order_loses_no_event() -> Result<()> {
    let backfill = Backfill::new(0xbac1)?;
    backfill.deliver(0..8)?;
    backfill.bessemer.call(["run", &backfill.pipeline.path()])?.expect_code(0)?;
    backfill.check()
}

#[test]
fn a_daemon_that_files_are_delivered_to_loses_no_event() -> Result<()> {
    let backfill = Backfill::new(0xbac2)?;
    let daemon = backfill.bessemer.start_listening(["daemon", &backfill.pipeline.path()])?;
    // The last stretch of time comes first.
    for (files, delivered) in [(5..8, 3), (0..3, 6), (3..5, 8)] {
        backfill.deliver(files)?;
        wait_until("a delivery is committed", || backfill.has(delivered))?;
    }
    signal("-TERM", daemon.id())?;
    Outcome::of(daemon)?.expect_code(0)?;
    backfill.check()
}
