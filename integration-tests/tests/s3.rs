//! The example on S3: faults change no row, and a writer that was fenced changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use bessemer_integration_tests::{
    Answering, Bessemer, Fault, FaultPlan, Flights, Pipeline, S3Server, SETS, read_set, signal, wait_until,
};
use bessemer_schemas::Digest;

/// The example with data, state and feature sets in the bucket.
fn example_on_s3(files_per_epoch: u32) -> Result<Pipeline> {
    Pipeline::flights("s3://lake/data", |text| {
        text.replace("'features/", "'s3://lake/features/")
            .replace(
                "CREATE PIPELINE flights;",
                "CREATE PIPELINE flights WITH (state = 's3://lake/state', aws.timeout = '2s');",
            )
            .replace(" PER RUN ON VIOLATION FAIL", " PER RUN ON VIOLATION WARN")
            // A request that is never answered must not cost half a minute.
            .replace("WITH (connector = 'object_store',", "WITH (connector = 'object_store', aws.timeout = '2s',")
            .replace("WITH (path = 's3:", "WITH (aws.timeout = '2s', path = 's3:")
            + &format!("\nSET epoch_files = {files_per_epoch};\n")
    })
}

fn bessemer(server: &S3Server) -> Result<Bessemer> {
    let found = Bessemer::find()?;
    Ok(server.environment().into_iter().fold(found, |bessemer, (name, value)| bessemer.env(name, value)))
}

/// Puts the example's files into the bucket.
fn fill(server: &S3Server, data: &Path) -> Result<()> {
    let folder = server.bucket_folder().join("data");
    fs::create_dir(&folder)?;
    for entry in fs::read_dir(data)? {
        let entry = entry?;
        fs::copy(entry.path(), folder.join(entry.file_name()))?;
    }
    Ok(())
}

fn check_sets(server: &S3Server, flights: &Flights) -> Result<()> {
    SETS.iter()
        .try_for_each(|set| flights.pinned.compare(set, &read_set(&server.bucket_folder().join("features").join(set))?))
}

#[test]
fn faults_of_the_store_change_no_row() -> Result<()> {
    const SEED: u64 = 20_130_208;
    let faults = [
        Fault::InternalError,
        Fault::InternalErrorAfter,
        Fault::SlowDown,
        Fault::Conflict,
        Fault::DropBefore,
        Fault::DropAfter,
        Fault::CutBody,
        Fault::Hang,
        Fault::Slow(Duration::from_millis(20)),
    ];
    println!("seed {SEED}");
    let flights = Flights::example()?;
    let server = S3Server::start(&FaultPlan::seeded(SEED, 50, &faults))?;
    fill(&server, &flights.data)?;
    let pipeline = example_on_s3(10_000)?;
    let bessemer = bessemer(&server)?;
    // Where the store is down for longer than the client's patience the run says so (3) and the next one goes on.
    wait_until("a run that ends well", || {
        let outcome = bessemer.call(["run", &pipeline.path()])?;
        if outcome.code != Some(3) {
            outcome.expect_code(0)?;
        }
        Ok(outcome.code == Some(0))
    })?;
    println!("{} requests, {} of them faulty", server.requests(), server.faults());
    assert!(server.faults() > 5);
    check_sets(&server, &flights)
}

#[test]
fn a_store_that_refuses_is_told_by_its_situation() -> Result<()> {
    let server = S3Server::start(&FaultPlan::none())?;
    let (pipeline, bessemer) = (example_on_s3(10_000)?, bessemer(&server)?);
    let situations = [(Answering::Forbidden, 2, "credentials"), (Answering::NoSuchBucket, 2, "s3://lake")];
    for (answering, code, word) in situations {
        server.answer(answering);
        let outcome = bessemer.call(["run", &pipeline.path()])?;
        outcome.expect_code(code)?;
        assert!(outcome.stderr.contains(word), "{answering:?}\n{}", outcome.stderr);
        assert!(!outcome.stderr.contains("bessemer-secret"));
    }
    Ok(())
}

#[test]
fn a_writer_that_was_stopped_while_another_took_over_changes_nothing() -> Result<()> {
    let flights = Flights::example()?;
    let server = S3Server::start(&FaultPlan::none())?;
    fill(&server, &flights.data)?;
    let (pipeline, bessemer) = (example_on_s3(1)?, bessemer(&server)?);
    let features = server.bucket_folder().join("features");

    let mut first = bessemer.start(["run", &pipeline.path()])?;
    wait_until("the first writer's first file", || Ok(!files_below(&features)?.is_empty()))?;
    signal("-STOP", first.id())?;
    bessemer.call(["run", &pipeline.path()])?.expect_code(0)?;
    check_sets(&server, &flights)?;
    let before = objects(&server)?;

    signal("-CONT", first.id())?;
    let status = first.wait()?;
    assert_eq!(status.code(), Some(5), "the first writer ended with {status}");
    assert_eq!(differences(&before, &objects(&server)?), [""; 0], "the fenced writer changed the store");
    check_sets(&server, &flights)
}

/// Every object of the bucket, as a digest of its content; but for the records of runs, where a writer that was fenced says
/// so.
fn objects(server: &S3Server) -> Result<BTreeMap<PathBuf, Digest>> {
    let folder = server.bucket_folder();
    let runs = folder.join("state/runs");
    let files = files_below(&folder)?.into_iter().filter(|path| !path.starts_with(&runs));
    files.map(|path| Ok((path.strip_prefix(&folder)?.to_path_buf(), Digest::of(&fs::read(&path)?)))).collect()
}

/// What is in one and not, or otherwise, in the other.
fn differences(before: &BTreeMap<PathBuf, Digest>, after: &BTreeMap<PathBuf, Digest>) -> Vec<String> {
    let paths: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let differing = paths.into_iter().filter(|path| before.get(*path) != after.get(*path));
    let say = |path: &PathBuf| match (before.contains_key(path), after.contains_key(path)) {
        (false, _) => format!("new: {}", path.display()),
        (_, false) => format!("gone: {}", path.display()),
        _ => format!("changed: {}", path.display()),
    };
    differing.map(say).collect()
}

fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        // A folder may not exist yet.
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry?.path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    Ok(found)
}
