//! The pipeline that is simulated: two logs, two sets that append, two that are snapshots, two that emit rows once they
//! are final, all in one store.

use std::sync::Arc;
use std::time::Duration;

use bessemer_connectors::manifest_store::{ManifestLimits, ManifestStore, PutRetries};
use bessemer_connectors::{Location, Source, SourceOptions};
use futures::FutureExt;
use futures::future::LocalBoxFuture;
use object_store::path::Path;

use super::process::{Connection, Process, Slot};
use super::script::{NUMBERS, ScriptedLog};
use crate::error::Result;
use crate::load::{self, Loaded};
use crate::progress::Progress;
use crate::run::{Run, RunOptions, Surroundings};

pub(super) const PIPELINE: &str = "simulated";
/// The log of objects.
pub(super) const FILES: &str = "files";
pub(super) const NUMBERS_SEEN: &str = "numbers_seen";
pub(super) const FILES_SEEN: &str = "files_seen";
pub(super) const TOTALS: &str = "totals";
pub(super) const GREATEST: &str = "greatest";
pub(super) const WINDOWS: &str = "windows";
pub(super) const RECENT: &str = "recent";
pub(super) const NUMBERS_AGAIN: &str = "numbers_again";

/// The source `numbers` is replaced by the script.
const TEXT: &str = "
CREATE PIPELINE simulated;
SET epoch_rows = 9; SET epoch_files = 2; SET epoch_age_max = '1s';
CREATE SOURCE numbers (number BIGINT NOT NULL, kind VARCHAR NOT NULL, at TIMESTAMP NOT NULL) WITH (path = 'in/', format = 'json');
CREATE SOURCE files (number BIGINT NOT NULL, at TIMESTAMP NOT NULL, WATERMARK FOR at AS at ON LATE QUARANTINE)
WITH (path = 'in/', format = 'json');
CREATE FEATURE SET numbers_seen (CONSTRAINT lucky EXPECT (number % 13 <> 0) ON VIOLATION QUARANTINE)
WITH (path = 'features/numbers_seen') AS SELECT number, kind FROM numbers;
CREATE FEATURE SET files_seen WITH (path = 'features/files_seen') AS SELECT number FROM files;
CREATE FEATURE SET windows EMIT ON WINDOW CLOSE WITH (path = 'features/windows')
AS SELECT CAST(min(number) AS VARCHAR) AS kind, count(*) AS records, sum(number) AS total
FROM TUMBLE(files, at, INTERVAL '10 minutes') GROUP BY window_end;
CREATE FEATURE SET recent EMIT ON WINDOW CLOSE WITH (path = 'features/recent')
AS SELECT at, number, count(*) OVER recently AS records, sum(number) OVER recently AS total FROM files
WINDOW recently AS (ORDER BY at RANGE BETWEEN INTERVAL '15 minutes' PRECEDING AND CURRENT ROW);
CREATE FEATURE SET totals WITH (path = 'features/totals')
AS SELECT kind, count(*) AS records, sum(number) AS total FROM numbers GROUP BY kind;
CREATE FEATURE SET greatest WITH (path = 'features/greatest')
AS SELECT number FROM (SELECT DISTINCT ON (kind) number FROM numbers ORDER BY kind, number DESC) g;";

/// Two sets of the same rows.
const TWICE: &str = "
CREATE PIPELINE simulated;
SET epoch_rows = 9; SET epoch_age_max = '1s';
CREATE SOURCE numbers (number BIGINT NOT NULL, kind VARCHAR NOT NULL, at TIMESTAMP NOT NULL) WITH (path = 'in/', format = 'json');
CREATE FEATURE SET numbers_seen WITH (path = 'features/numbers_seen') AS SELECT number, kind FROM numbers;
CREATE FEATURE SET numbers_again WITH (path = 'features/numbers_again') AS SELECT number, kind FROM numbers;";

/// A log whose rows may be late, and partitions idle: sets that append, emit what is final, are kept up to date, and are
/// computed over everything.
const TIMED: &str = "
CREATE PIPELINE simulated;
SET epoch_rows = 9; SET epoch_age_max = '1s';
CREATE SOURCE numbers (number BIGINT NOT NULL, kind VARCHAR NOT NULL, at TIMESTAMP NOT NULL,
    WATERMARK FOR at AS at - INTERVAL '5 minutes' ON LATE QUARANTINE) WITH (path = 'in/', format = 'json');
CREATE FEATURE SET numbers_seen WITH (path = 'features/numbers_seen') AS SELECT number, kind FROM numbers;
CREATE FEATURE SET windows EMIT ON WINDOW CLOSE WITH (path = 'features/windows')
AS SELECT CAST(min(number) AS VARCHAR) AS kind, count(*) AS records, sum(number) AS total
FROM TUMBLE(numbers, at, INTERVAL '10 minutes') GROUP BY window_end;
CREATE FEATURE SET totals EMIT EVERY INTERVAL '30 minutes' WITH (path = 'features/totals')
AS SELECT kind, count(*) AS records, sum(number) AS total FROM numbers GROUP BY kind;
CREATE FEATURE SET numbers_again EMIT EVERY INTERVAL '20 minutes' WITH (path = 'features/numbers_again')
AS SELECT number, row_number() OVER (ORDER BY number) AS place FROM numbers;";

/// Limits so small that everything that happens after hundreds of epochs happens after a few.
pub(super) fn small_limits() -> ManifestLimits {
    let retries = PutRetries { attempts: 3, first_pause: Duration::ZERO };
    ManifestLimits { epochs_per_base: 4, entries_per_block: 4, objects_inline: 1, retries, ..ManifestLimits::default() }
}

pub(super) fn set_folder(name: &str) -> String {
    format!("features/{name}")
}

/// The pipeline as one process after another runs it.
#[derive(Debug)]
pub(super) struct Stage {
    loaded: Arc<Loaded>,
    slot: Slot,
    progress: Progress,
}

/// Whether a run drains its sources, follows them until it is told to end, or makes lost states anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Drain,
    Follow,
    /// It drains its sources for good.
    Final,
    Rebuild,
}

impl Stage {
    /// Plans the pipeline for a number of partitions.
    pub(super) fn plan(partitions: u32) -> Self {
        Self::plan_text(TEXT, partitions)
    }

    /// The same for a pipeline whose two sets hold the same rows.
    pub(super) fn plan_twice(partitions: u32) -> Self {
        Self::plan_text(TWICE, partitions)
    }

    /// The same for a log whose rows may be late.
    pub(super) fn plan_timed() -> Self {
        Self::plan_text(TIMED, 1)
    }

    /// The same for the pipeline of a text.
    pub(super) fn plan_text(text: &str, partitions: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipeline.sql");
        std::fs::write(&path, text).unwrap();
        let mut parsed = load::parse(&[path]).unwrap();

        let slot = Slot::default();
        let place = |folder: &str| Location::in_store(Arc::new(Connection(slot.clone())), Path::from(folder));
        parsed.settings.state = place("state");
        for (set, options) in parsed.definition.feature_sets.iter().zip(&mut parsed.sets) {
            options.location = place(&set_folder(&set.name.value));
        }
        let now = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let open = |(definition, options): (_, &mut SourceOptions)| match options {
            SourceOptions::Objects(objects) => {
                **objects = objects.as_ref().clone().in_location(place(""));
                now.block_on(Source::open(definition, options.clone(), None)).unwrap()
            }
            SourceOptions::Kafka(_) => panic!("it is defined as a log of objects"),
        };
        let definitions = parsed.definition.sources.iter().zip(&mut parsed.sources);
        let mut sources: Vec<_> = definitions.map(open).collect();
        if let Some(numbers) = sources.iter_mut().find(|source| source.name() == NUMBERS) {
            *numbers = Source::Log(Arc::new(ScriptedLog::new(slot.clone(), numbers.lateness())));
        }
        let loaded = load::plan_over(parsed, sources, Some(partitions)).unwrap();
        Self { loaded: Arc::new(loaded), slot, progress: Progress::new(true) }
    }

    /// Runs `process` to its end, which may never come.
    pub(super) fn run<'a>(&'a self, process: &'a Arc<Process>, mode: Mode) -> LocalBoxFuture<'a, Result<()>> {
        self.slot.put(process);
        self.run_one(process, mode).boxed_local()
    }

    async fn run_one(&self, process: &Arc<Process>, mode: Mode) -> Result<()> {
        let state = self.loaded.parsed.settings.state.clone();
        let store = ManifestStore::with_limits(state, PIPELINE, small_limits());
        let surroundings = Surroundings { progress: &self.progress, cancel: &process.cancel, host: process.as_ref() };
        let is_final = mode == Mode::Final;
        let options = RunOptions { pause: process.pause.clone(), is_final, ..RunOptions::default() };
        let mut run = Run::open(Arc::clone(&self.loaded), store, &options, surroundings).await?;
        let worked = match mode {
            Mode::Drain | Mode::Final => run.work().await,
            Mode::Follow => run.work_on().await,
            Mode::Rebuild => run.restore().await.map(drop),
        };
        let closed = run.close(worked).await;
        if let Some(newest) = run.writer.history().newest() {
            process.world.believe(newest.epoch, newest.claim);
        }
        closed
    }
}
