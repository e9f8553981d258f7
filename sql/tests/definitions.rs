//! Every file of `ok/` gives a definition, every file of `err/` a diagnostic; a snapshot says which.
//!
//! `INSTA_UPDATE=always cargo test -p bessemer-sql` writes the snapshots anew; read them before you commit them.

#![expect(clippy::unwrap_used, reason = "a test")]

mod summary;

use std::path::{Path, PathBuf};

use bessemer_schemas::{Definition, Diagnostic, SourceFile, SourceFiles};

/// The environment of all cases.
fn environment(name: &str) -> Option<String> {
    match name {
        "LAKE" => Some("s3://lake".to_owned()),
        "EMPTY" => Some(String::new()),
        "AWS_SECRET" => Some("open sesame".to_owned()),
        _ => None,
    }
}

/// The cases of a folder: a file, or a folder whose files are one pipeline.
fn cases(folder: &str) -> Vec<(String, Vec<SourceFile>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(folder);
    let mut cases: Vec<_> = paths(&root).into_iter().map(|path| case(folder, &path)).collect();
    cases.sort_by(|left, right| left.0.cmp(&right.0));
    cases
}

fn case(folder: &str, path: &Path) -> (String, Vec<SourceFile>) {
    let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
    let files = if path.is_dir() { paths(path) } else { vec![path.to_owned()] };
    let read = |path: &PathBuf| SourceFile {
        path: format!("{folder}/{}", path.file_name().unwrap().to_str().unwrap()),
        text: std::fs::read_to_string(path).unwrap(),
    };
    (name, files.iter().map(read).collect())
}

fn paths(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn check(files: &[SourceFile]) -> (Option<Definition>, Vec<Diagnostic>, String) {
    let (definition, diagnostics) = bessemer_sql::parse(files.to_vec(), &environment);
    let shown = bessemer_sql::render_all(&diagnostics, &SourceFiles(files.to_vec()));
    (definition, diagnostics, shown)
}

fn snapshot(folder: &str, name: &str, content: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(format!("snapshots/{folder}"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name.to_owned(), content));
}

#[test]
fn ok_files_give_definitions() {
    for (name, files) in cases("ok") {
        let (definition, diagnostics, shown) = check(&files);
        assert!(!diagnostics.iter().any(Diagnostic::is_error), "{name}:\n{shown}");
        snapshot("ok", &name, &format!("{}{shown}", summary::summary(&definition.unwrap())));
    }
}

#[test]
fn err_files_give_diagnostics_with_a_place_and_a_help() {
    let cases = cases("err");
    let silent: Vec<_> = cases.iter().filter(|(_, files)| !check(files).1.iter().any(Diagnostic::is_error)).collect();
    assert!(silent.is_empty(), "no error in {silent:#?}");
    assert!(cases.len() >= 45, "{} cases", cases.len());
    for (name, files) in cases {
        let (_, diagnostics, shown) = check(&files);
        for diagnostic in &diagnostics {
            assert!(diagnostic.span.is_some(), "{name} has no place: {diagnostic:?}");
            assert!(diagnostic.help.is_some(), "{name} has no help: {diagnostic:?}");
        }
        let blocks: Vec<&str> = shown.split("\n\n").filter(|block| block.contains("-->")).collect();
        assert_eq!(blocks.len(), diagnostics.len(), "{name}:\n{shown}");
        assert!(blocks.iter().all(|block| block.contains("   = help: ") || block.contains(" = help: ")), "{name}");
        assert!(blocks.iter().all(|block| block.contains('^')), "{name}:\n{shown}");
        snapshot("err", &name, &shown);
    }
}

/// A snapshot without a case is a claim that nobody checks.
#[test]
fn every_snapshot_belongs_to_a_case() {
    for folder in ["ok", "err"] {
        let names: Vec<String> = cases(folder).into_iter().map(|(name, _)| format!("{name}.snap")).collect();
        let snapshots = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots").join(folder);
        for path in paths(&snapshots) {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            assert!(names.contains(&name), "{folder}/{name}");
        }
    }
}
