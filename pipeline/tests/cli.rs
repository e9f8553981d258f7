//! The command line by itself. That this file exists makes `cargo test --workspace` build the program, which the tests of
//! the whole system start.

use std::process::{Command, Output};

#[expect(clippy::expect_used, reason = "a test fails by panicking, its helpers too")]
fn bessemer(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bessemer")).args(arguments).output().expect("the program starts")
}

#[test]
fn help_teaches_by_example() {
    let help = bessemer(&["--help"]);
    assert!(help.status.success());
    let text = String::from_utf8_lossy(&help.stdout);
    assert!(text.contains("bessemer run"), "{text}");
    assert!(text.contains("Exit codes"), "{text}");
}

#[test]
fn a_wrong_flag_ends_with_2() {
    assert_eq!(bessemer(&["run", "--no-such-flag"]).status.code(), Some(2));
}

#[test]
fn a_path_without_a_pipeline_ends_with_2_and_is_named() {
    let answer = bessemer(&["check", "no/such/pipeline.sql"]);
    assert_eq!(answer.status.code(), Some(2));
    let text = String::from_utf8_lossy(&answer.stderr);
    assert!(text.contains("no/such/pipeline.sql"), "{text}");
}

#[test]
fn completions_are_printed_for_a_shell() {
    let script = bessemer(&["completions", "bash"]);
    assert!(script.status.success());
    assert!(String::from_utf8_lossy(&script.stdout).contains("quarantine"));
}
