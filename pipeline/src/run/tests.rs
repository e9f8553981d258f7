//! What a run promises where the world interferes at a moment that no process can be made to meet.

use std::fs;
use std::path::{Path, PathBuf};

use bessemer_connectors::manifest_store::{ManifestLimits, PutRetries};
use bessemer_schemas::ManifestKind;
use futures::TryStreamExt;
use tempfile::TempDir;

use super::*;

/// What a person who runs it says.
fn plainly() -> RunOptions {
    RunOptions::default()
}

/// A pipeline in a folder of its own, with what a run of it borrows.
struct World {
    folder: TempDir,
    progress: Progress,
    cancel: CancellationToken,
}

impl World {
    /// Two logs, each with one file, and `sets` over them.
    fn new(sets: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let world = Self { folder, progress: Progress::new(true), cancel: CancellationToken::new() };
        world.define(sets);
        world.deliver("a/1.json");
        world.deliver("b/1.json");
        world
    }

    fn define(&self, sets: &str) {
        let sources = ["a", "b"].map(|name| {
            format!("CREATE SOURCE {name} (id BIGINT NOT NULL, kind VARCHAR) WITH (path = 'in/{name}/*.json');\n")
        });
        let text = format!("CREATE PIPELINE p; SET epoch_files = 2; SET partitions = 2;\n{}{sets}", sources.concat());
        fs::write(self.path("pipeline.sql"), text).unwrap();
    }

    fn path(&self, relative: &str) -> PathBuf {
        self.folder.path().join(relative)
    }

    /// A file of two records.
    fn deliver(&self, name: &str) {
        let path = self.path("in").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "{\"id\":1,\"kind\":\"x\"}\n{\"id\":2,\"kind\":\"y\"}\n").unwrap();
    }

    fn parsed(&self) -> Parsed {
        load::parse(&[self.path("pipeline.sql")]).unwrap()
    }

    async fn loaded(&self) -> (Arc<Loaded>, ManifestStore) {
        let parsed = self.parsed();
        let retries = PutRetries { attempts: 2, first_pause: Duration::ZERO };
        let limits = ManifestLimits { retries, ..ManifestLimits::default() };
        let store = ManifestStore::with_limits(parsed.settings.state.clone(), parsed.name(), limits);
        (Arc::new(load::load(parsed, None).await.unwrap()), store)
    }

    fn surroundings(&self) -> Surroundings<'_> {
        Surroundings { progress: &self.progress, cancel: &self.cancel, host: &Machine }
    }

    async fn open(&self) -> Run<'_> {
        let (loaded, store) = self.loaded().await;
        let mut run = Run::open(loaded, store, &plainly(), self.surroundings()).await.unwrap();
        run.recover().await.unwrap();
        run
    }

    /// A run that nothing interferes with.
    async fn run(&self) -> Result<RunSummary> {
        run(self.parsed(), plainly(), &Progress::new(true), &CancellationToken::new()).await
    }

    /// Every file of the sets, the Delta logs apart.
    fn files(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut folders = vec![self.path("features")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.ends_with("_delta_log") {
                    continue;
                }
                if path.is_dir() { folders.push(path) } else { found.push(self.below(&path)) }
            }
        }
        found.sort();
        found
    }

    fn below(&self, path: &Path) -> String {
        path.strip_prefix(self.path("features")).unwrap().display().to_string()
    }
}

async fn live(run: &Run<'_>) -> Vec<String> {
    let mut live = Vec::new();
    for set in &run.loaded.plan.sets {
        let files: Vec<_> = run.writer.history().live_files(&set.name).try_collect().await.unwrap();
        live.extend(files.iter().map(|file: &bessemer_schemas::DataFile| format!("{}/{}", set.name, file.path)));
    }
    live.sort();
    live
}

async fn next(run: &Run<'_>) -> (Discovered, Assignment) {
    let mut discovered = Discovered::find(&run.loaded, run.writer.history(), Reach::ToItsEnd).await.unwrap();
    let assignment = discovered.next_append(&run.loaded, run.writer.history()).await.unwrap().unwrap();
    (discovered, assignment)
}

const TWO_SETS: &str = "CREATE FEATURE SET first WITH (path = 'features/first') AS SELECT * FROM a;\n\
                        CREATE FEATURE SET second WITH (path = 'features/second') AS SELECT * FROM b;\n";

const GROUPED: &str = "CREATE FEATURE SET totals WITH (path = 'features/totals', format = 'delta')\n\
     AS SELECT kind, count(*) AS rows FROM a GROUP BY kind;\n";

#[tokio::test]
async fn a_failed_attempt_takes_back_its_files_and_the_next_one_commits() {
    let world = World::new(TWO_SETS);
    let mut run = world.open().await;
    let (_, assignment) = next(&run).await;
    fs::rename(world.path("in/b/1.json"), world.path("away")).unwrap();
    let error = run.attempt(&assignment, 0, 1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("disappeared"), "{error}");
    assert_eq!(world.files(), [""; 0], "the first set was complete");

    fs::rename(world.path("away"), world.path("in/b/1.json")).unwrap();
    run.attempt(&assignment, 1, 1).await.unwrap();
    run.close(Ok(())).await.unwrap();
    assert_eq!(world.files(), live(&run).await);
    assert_eq!(world.files().len(), 2);
}

#[tokio::test]
async fn a_commit_without_outcome_is_not_made_again_and_keeps_its_files() {
    let world = World::new(TWO_SETS);
    let mut run = world.open().await;
    let (_, assignment) = next(&run).await;
    // Something has the name of the next manifest and cannot be read: nobody knows what it is.
    let manifest = world.path(".bessemer/p/manifests/00000000000000000002.json");
    fs::create_dir(&manifest).unwrap();
    let error = run.commit_epoch(&assignment).await.unwrap_err();
    assert!(matches!(error, Error::Unresolved { epoch: Epoch(2), .. }), "{error}");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let files = world.files();
    assert!(files.len() == 2 && files.iter().all(|file| file.contains("-0-000-")), "one attempt: {files:?}");
    run.close(Err(error)).await.unwrap_err();
    assert_eq!(world.files(), files, "they may be committed");
    drop(run);

    fs::remove_dir(&manifest).unwrap();
    world.run().await.unwrap();
    assert_eq!(world.files(), live(&world.open().await).await);
}

#[tokio::test]
async fn a_writer_that_was_overtaken_does_not_take_its_successor_for_a_stranger() {
    let world = World::new(GROUPED);
    let mut first = world.open().await;
    let discovered = Discovered::find(&first.loaded, first.writer.history(), Reach::ToItsEnd).await.unwrap();
    first.drain(discovered).await.unwrap();
    // On local disk only the lock keeps a second writer out.
    fs::remove_file(world.path(".bessemer/p/lock")).unwrap();
    world.deliver("a/2.json");
    world.run().await.unwrap();
    let before = world.files();

    let error = first.close(Ok(())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert_eq!(world.files(), before);
}

#[tokio::test]
async fn files_that_a_delta_log_still_names_stay_until_it_has_followed() {
    let world = World::new(GROUPED);
    world.run().await.unwrap();
    let before = world.files();
    world.deliver("a/2.json");
    let mut run = world.open().await;
    let discovered = Discovered::find(&run.loaded, run.writer.history(), Reach::ToItsEnd).await.unwrap();
    run.drain(discovered).await.unwrap();
    let broken = world.path("features/totals/_delta_log/00000000000000000002.json");
    fs::write(&broken, "no action").unwrap();

    let stay = || before.iter().all(|file| world.files().contains(file));
    run.close(Ok(())).await.unwrap_err();
    assert!(stay(), "at the end of the run");
    drop(run);
    world.run().await.unwrap_err();
    assert!(stay(), "at the next recovery");

    fs::remove_file(&broken).unwrap();
    world.run().await.unwrap();
    assert_eq!(world.files(), live(&world.open().await).await);
    assert!(!stay());
}

#[tokio::test]
async fn a_run_that_is_stopped_says_what_became_of_its_epochs() {
    let world = World::new(TWO_SETS);
    world.deliver("a/2.json");
    world.deliver("b/2.json");
    let mut run = world.open().await;
    let (discovered, assignment) = next(&run).await;
    run.commit_epoch(&assignment).await.unwrap();
    world.cancel.cancel();
    let error = run.drain(discovered).await.unwrap_err();
    let told = run.close(Err(error)).await.unwrap_err();
    assert_eq!(told.kind(), ErrorKind::Interrupted);
    assert_eq!(told.to_string(), "interrupted: 1 epoch of this run committed, the last is epoch 2");
    assert_eq!(world.files(), live(&run).await);
}

#[tokio::test]
async fn an_epoch_in_flight_is_given_up_when_the_user_stops_the_run() {
    let world = World::new(TWO_SETS);
    let mut run = world.open().await;
    let (_, assignment) = next(&run).await;
    world.cancel.cancel();
    let error = run.commit_epoch(&assignment).await.unwrap_err();
    let told = run.close(Err(error)).await.unwrap_err();
    assert_eq!(told.to_string(), "interrupted: epoch 2 was given up; this run committed nothing");
    assert_eq!(world.files(), [""; 0]);
}

#[tokio::test]
async fn a_run_that_is_stopped_when_all_is_committed_says_so() {
    let world = World::new(TWO_SETS);
    let mut run = world.open().await;
    let discovered = Discovered::find(&run.loaded, run.writer.history(), Reach::ToItsEnd).await.unwrap();
    run.drain(discovered).await.unwrap();
    world.cancel.cancel();
    let told = run.close(Ok(())).await.unwrap_err();
    assert_eq!(told.to_string(), "interrupted: 1 epoch of this run committed, the last is epoch 2");
}

#[tokio::test]
async fn a_run_that_is_stopped_while_it_plans_touches_nothing() {
    let world = World::new(TWO_SETS);
    world.cancel.cancel();
    let error = run(world.parsed(), plainly(), &world.progress, &world.cancel).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted);
    assert!(!world.path(".bessemer").exists());
}

#[tokio::test]
async fn of_two_first_runs_with_different_definitions_one_is_refused() {
    let world = World::new("CREATE FEATURE SET s WITH (path = 'features/s') AS SELECT id FROM a;");
    let (late, store) = world.loaded().await;
    world.define("CREATE FEATURE SET s WITH (path = 'features/s') AS SELECT id + 1 AS id FROM a;");
    world.run().await.unwrap();
    let error = Run::open(late, store.clone(), &plainly(), world.surroundings()).await.unwrap_err();
    assert!(matches!(error, Error::Redefined { .. }), "{error}");
    assert_eq!(store.newest().await.unwrap().unwrap().epoch, Epoch(2), "what was refused is not recorded");
    world.run().await.unwrap();
}

#[tokio::test]
async fn progress_counts_every_scan_of_a_source() {
    let world = World::new(
        "CREATE FEATURE SET twice WITH (path = 'features/twice') AS SELECT id FROM a UNION ALL SELECT id FROM a;\n\
         CREATE FEATURE SET once WITH (path = 'features/once') AS SELECT id FROM a;\n",
    );
    let run = world.open().await;
    let (_, assignment) = next(&run).await;
    let size = fs::metadata(world.path("in/a/1.json")).unwrap().len();
    assert_eq!(assignment.bytes, 3 * size);
}

#[tokio::test]
async fn a_commit_is_made_every_second_where_it_is_cheap() {
    let pace_of = async |sets: &str| pace(&World::new(sets).loaded().await.0);
    assert_eq!(pace_of(TWO_SETS).await, Duration::from_secs(1));
    assert_eq!(pace_of(GROUPED).await, Duration::from_secs(10), "a snapshot is computed anew");
    let in_bucket = "CREATE FEATURE SET s WITH (path = 's3://bucket/s') AS SELECT id FROM a;";
    assert_eq!(pace_of(in_bucket).await, Duration::from_secs(10), "a bucket");
    assert_eq!(pace_of(&format!("SET epoch_age_max = '3s'; {GROUPED}")).await, Duration::from_secs(3));
}

/// A run in which the set `first` has many small files, of `files` objects, and compaction looks at them.
async fn compacting(world: &World, files: usize) -> Run<'_> {
    (2..=files).for_each(|file| world.deliver(&format!("a/{file:03}.json")));
    let mut run = world.open().await;
    run.begin_compacting().await.unwrap();
    let mut discovered = Discovered::find(&run.loaded, run.writer.history(), Reach::ToItsEnd).await.unwrap();
    while let Some(assignment) = discovered.next_append(&run.loaded, run.writer.history()).await.unwrap() {
        run.commit_epoch(&assignment).await.unwrap();
    }
    run
}

const FIRST: &str = "CREATE FEATURE SET first WITH (path = 'features/first', format = 'delta') \
                     AS SELECT * FROM a;\n";

async fn until_merged(run: &mut Run<'_>) {
    while run.compaction.as_ref().is_some_and(|compaction| !compaction.has_merged()) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn sixty_small_files_become_one_between_two_epochs() {
    let world = World::new(FIRST);
    let mut run = compacting(&world, 130).await;
    let before = live(&run).await;
    assert!(before.len() >= 60, "{} files", before.len());
    run.compact_meanwhile().await.unwrap();
    until_merged(&mut run).await;
    // An epoch comes in between: it is not held up, and the merge is committed after it.
    world.deliver("a/999.json");
    let (_, assignment) = next(&run).await;
    run.commit_epoch(&assignment).await.unwrap();
    run.compact_meanwhile().await.unwrap();
    let after = live(&run).await;
    assert!(after.len() < before.len() - 50, "{} files, then {}", before.len(), after.len());
    assert_eq!(run.writer.history().newest().map(|manifest| manifest.kind), Some(ManifestKind::Compaction));
    run.close(Ok(())).await.unwrap();
    assert_eq!(world.files(), live(&run).await);
    assert_eq!(run.writer.history().set_totals()["first"].written, 2 * 131);
    drop(run);
    // The log has the rows of the epoch in between, and the files that are in force.
    world.run().await.unwrap();
}

#[tokio::test]
async fn a_run_that_ends_merges_what_is_due_unless_it_was_stopped() {
    for is_stopped in [true, false] {
        let world = World::new(FIRST);
        let mut run = compacting(&world, 130).await;
        let before = live(&run).await;
        assert!(before.len() > 60, "{} files", before.len());
        if is_stopped {
            world.cancel.cancel();
        }
        run.compact_at_end().await.unwrap();
        let after = live(&run).await;
        if is_stopped {
            assert_eq!(after, before);
        } else {
            assert!(after.len() < before.len() - 50, "{} files, then {}", before.len(), after.len());
        }
        assert_eq!(world.files(), after, "what was replaced is gone");
    }
}

#[tokio::test]
async fn a_merge_under_way_is_given_up_where_an_attempt_fails_and_where_the_run_ends() {
    let world = World::new(FIRST);
    let mut run = compacting(&world, 130).await;
    let before = world.files();
    for case in ["an attempt fails", "a sweep", "the end"] {
        run.compact_meanwhile().await.unwrap();
        until_merged(&mut run).await;
        assert!(world.files().len() > before.len(), "{case}: it wrote nothing");
        match case {
            "an attempt fails" => {
                world.deliver("a/999.json");
                let (_, assignment) = next(&run).await;
                fs::remove_file(world.path("in/a/999.json")).unwrap();
                run.attempt(&assignment, 0, 1).await.unwrap_err();
            }
            "a sweep" => {
                run.is_untidy = true;
                run.publish().await.unwrap();
            }
            _ => drop(run.close(Err(interrupted())).await.unwrap_err()),
        }
        assert_eq!(world.files(), before, "{case}");
        assert!(run.compaction.as_ref().unwrap().has_merged(), "{case}");
    }
    assert_eq!(world.files(), live(&run).await);
}

#[tokio::test]
async fn a_file_that_cannot_be_merged_stops_no_epoch() {
    let world = World::new(FIRST);
    let mut run = compacting(&world, 130).await;
    let before = world.files();
    fs::write(world.path("features").join(&before[7]), "no Parquet").unwrap();
    run.compact_meanwhile().await.unwrap();
    until_merged(&mut run).await;
    world.deliver("a/999.json");
    let (_, assignment) = next(&run).await;
    run.commit_epoch(&assignment).await.unwrap();
    run.compact_meanwhile().await.unwrap();
    assert_eq!(run.writer.history().newest().map(|manifest| manifest.kind), Some(ManifestKind::Data));
    assert!(before.iter().all(|file| world.files().contains(file)));
    assert_eq!(world.files(), live(&run).await);
}

#[tokio::test]
async fn a_run_that_was_to_begin_a_set_anew_and_died_is_gone_on_with() {
    let world = World::new("");
    let define = |value: &str| {
        let text = format!(
            "CREATE PIPELINE p;
             CREATE SOURCE events (id BIGINT, at TIMESTAMP, WATERMARK FOR at AS at ON LATE DROP) WITH (path = 'in/*.json');
             CREATE FEATURE SET minutes EMIT ON WINDOW CLOSE WITH (path = 'features/minutes')
             AS SELECT window_end, sum({value}) AS total FROM TUMBLE(events, at, INTERVAL '1 minute') GROUP BY window_end;"
        );
        fs::write(world.path("pipeline.sql"), text).unwrap();
    };
    define("id");
    fs::write(world.path("in/1.json"), "{\"id\":1,\"at\":\"2013-01-01T00:00:10\"}\n").unwrap();
    world.run().await.unwrap();
    define("2 * id");
    let (loaded, store) = world.loaded().await;
    let options = RunOptions { from_now: true, ..plainly() };
    drop(Run::open(Arc::clone(&loaded), store.clone(), &options, world.surroundings()).await.unwrap());

    // What is kept is of the definition before, whatever that claim says: given up, not lost.
    let unfit = kept::unfit(&loaded, &store.history().await.unwrap(), &store).await.unwrap();
    assert!(matches!(unfit[..], [(0, kept::Unfit::GivenUp)]), "{unfit:?}");
    world.run().await.unwrap();
    let history = store.history().await.unwrap();
    assert!(kept::unfit(&loaded, &history, &store).await.unwrap().is_empty());
    assert_eq!(history.states()["minutes"].since, history.newest().unwrap().epoch);
}
