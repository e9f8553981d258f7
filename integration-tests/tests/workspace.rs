//! The rules that keep the workspace one idea: arrows one way, one copy of each shared dependency, files of one screen
//! or two, each with its idea said first.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use bessemer_integration_tests::repository;
use serde_json::Value;

/// Who may know whom.
const ARROWS: [(&str, &[&str]); 6] = [
    ("bessemer-schemas", &[]),
    ("bessemer-sql", &["bessemer-schemas"]),
    ("bessemer-connectors", &["bessemer-schemas"]),
    ("bessemer-transforms", &["bessemer-schemas"]),
    ("bessemer", &["bessemer-schemas", "bessemer-sql", "bessemer-connectors", "bessemer-transforms"]),
    (
        "bessemer-integration-tests",
        &["bessemer-schemas", "bessemer-sql", "bessemer-connectors", "bessemer-transforms", "bessemer"],
    ),
];

/// Who may know whom in tests only: plans are tested on definitions as people write them.
const TEST_ARROWS: [(&str, &str); 1] = [("bessemer-transforms", "bessemer-sql")];

/// What `DataFusion` decides the version of: a second copy would not fit the first.
const ONE_COPY: [&str; 6] = ["arrow", "arrow-schema", "parquet", "object_store", "sqlparser", "datafusion"];

/// Lines of a file, its tests apart.
const LINES_MAX: usize = 500;

/// Files that may be longer, each with the reason.
const LONG_FILES: [(&str, &str); 0] = [];

#[test]
fn crates_know_only_what_the_arrows_allow() {
    let metadata = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(repository())
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&metadata.stdout).unwrap();
    let allowed = BTreeMap::from(ARROWS);
    let packages = metadata["packages"].as_array().unwrap();
    assert_eq!(packages.len(), ARROWS.len(), "a crate has come or gone: say in ARROWS whom it may know");
    for package in packages {
        let name = package["name"].as_str().unwrap();
        for dependency in package["dependencies"].as_array().unwrap() {
            let known = dependency["name"].as_str().unwrap();
            if known.starts_with("bessemer") && known != name {
                let in_tests = dependency["kind"] == "dev" && TEST_ARROWS.contains(&(name, known));
                assert!(in_tests || allowed[name].contains(&known), "`{name}` must not know `{known}`");
            }
        }
    }
}

#[test]
fn the_lock_file_has_one_copy_of_what_datafusion_shares() {
    let lock = fs::read_to_string(repository().join("Cargo.lock")).unwrap();
    for name in ONE_COPY {
        let copies = lock.lines().filter(|line| *line == format!("name = \"{name}\"")).count();
        assert_eq!(copies, 1, "`{name}` is in Cargo.lock {copies} times: use DataFusion's version of it");
    }
}

#[test]
fn every_file_says_its_idea_first_and_stays_short() {
    for path in rust_files() {
        let text = fs::read_to_string(&path).unwrap();
        let name = path.strip_prefix(repository()).unwrap().display().to_string();
        // `foo/tests.rs` is about `foo`; that needs no words.
        let is_beside = path.ends_with("tests.rs");
        assert!(is_beside || text.starts_with("//!"), "{name} does not begin with `//!` and its idea");
        if is_test(&path) || LONG_FILES.iter().any(|(long, _)| *long == name) {
            continue;
        }
        let own = text.find("\n#[cfg(test)]\n").map_or(text.as_str(), |tests| &text[..tests]);
        let lines = own.lines().count();
        assert!(lines <= LINES_MAX, "{name} has {lines} lines: is it one idea or two?");
    }
}

#[test]
fn an_exception_that_is_no_longer_needed_is_removed() {
    for (name, reason) in LONG_FILES {
        let lines = fs::read_to_string(repository().join(name)).unwrap().lines().count();
        assert!(lines > LINES_MAX, "{name} ({reason}) has {lines} lines now");
    }
}

fn is_test(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == "tests.rs") || path.components().any(|part| part.as_os_str() == "tests")
}

/// All sources of the workspace's crates.
fn rust_files() -> Vec<PathBuf> {
    let mut files = Vec::new();
    let crates = ["schemas", "sql", "connectors", "transforms", "pipeline", "integration-tests"];
    let mut folders: Vec<_> = crates.iter().map(|folder| repository().join(folder)).collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    assert!(files.len() > 10);
    files
}
