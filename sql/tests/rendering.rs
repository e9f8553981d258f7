//! How a diagnostic is shown.

use bessemer_schemas::{Diagnostic, FileId, Position, SourceFile, SourceFiles, Span};
use bessemer_sql::{Style, render, render_all, render_styled};

fn files(text: &str) -> SourceFiles {
    SourceFiles(vec![SourceFile { path: "pipelines/orders.sql".to_owned(), text: text.to_owned() }])
}

fn span(line: u32, from: u32, to: u32) -> Span {
    Span { file: FileId(0), start: Position { line, column: from }, end: Position { line, column: to } }
}

fn check(text: &str, span: Span, expected: &[&str]) {
    let shown = render(&Diagnostic::error("it is so", span), &files(text));
    let lines: Vec<&str> = shown.lines().skip(3).collect();
    assert_eq!(lines, expected);
}

#[test]
fn a_diagnostic_has_the_form_of_the_house_style() {
    let text = "\n\n\n\n\n\n  bootstrap_server = 'localhost:9092',\n";
    let diagnostic = Diagnostic::error("unknown option `bootstrap_server` for source `orders`", span(7, 3, 19))
        .with_label("connector `kafka` has no such option")
        .with_help("did you mean `bootstrap_servers`?");
    let expected = "\
error: unknown option `bootstrap_server` for source `orders`
  --> pipelines/orders.sql:7:3
   |
 7 |   bootstrap_server = 'localhost:9092',
   |   ^^^^^^^^^^^^^^^^ connector `kafka` has no such option
   = help: did you mean `bootstrap_servers`?
";
    assert_eq!(render(&diagnostic, &files(text)), expected);
}

#[test]
fn the_gutter_is_as_wide_as_the_line_number() {
    let text = "x\n".repeat(1200);
    let expected =
        "error: it is so\n    --> pipelines/orders.sql:1200:1\n     |\n1200 | x\n     | ^\n     = help: do\n";
    let diagnostic = Diagnostic::error("it is so", span(1200, 1, 2)).with_help("do");
    assert_eq!(render(&diagnostic, &files(&text)), expected);
}

#[test]
fn carets_stand_under_tabs_wide_and_combining_characters() {
    check("\ta\tbad", span(1, 4, 7), &[" 1 |     a    bad", "   |          ^^^"]);
    check("航班 bad", span(1, 4, 7), &[" 1 | 航班 bad", "   |      ^^^"]);
    check("航班", span(1, 2, 3), &[" 1 | 航班", "   |   ^^"]);
    check("e\u{301} bad", span(1, 4, 7), &[" 1 | e\u{301} bad", "   |   ^^^"]);
}

#[test]
fn a_place_at_the_end_of_a_line_or_beyond_the_file_has_a_caret() {
    check("abc", span(1, 4, 4), &[" 1 | abc", "   |    ^"]);
    check("", span(1, 1, 1), &[" 1 |", "   | ^"]);
    check("abc", span(9, 1, 1), &[]);
}

#[test]
fn a_span_of_several_lines_is_marked_to_the_end_of_its_first() {
    let long = Span { end: Position { line: 3, column: 2 }, ..span(1, 5, 5) };
    check("SELECT\r\na", Span { start: Position { line: 1, column: 1 }, ..long }, &[" 1 | SELECT", "   | ^^^^^^"]);
}

#[test]
fn a_long_line_is_clipped_around_the_caret() {
    let text = format!("{}bad{}", "a".repeat(500), "z".repeat(500));
    let shown = render(&Diagnostic::error("it is so", span(1, 501, 504)), &files(&text));
    let lines: Vec<&str> = shown.lines().collect();
    assert!(lines.iter().all(|line| line.chars().count() <= 125), "{shown}");
    let caret = lines[4].find('^').map(|at| lines[3].chars().skip(at).take(3).collect::<String>());
    assert_eq!(caret.as_deref(), Some("bad"));
}

#[test]
fn control_characters_do_not_reach_the_terminal() {
    let text = "a\u{1b}[31mb\u{202e}c";
    let shown = render(&Diagnostic::error("bad \u{1b}[0m name", span(1, 1, 2)), &files(text));
    assert!(!shown.contains(['\u{1b}', '\u{202e}']), "{shown:?}");
}

#[test]
fn colour_changes_no_word() {
    let diagnostic = Diagnostic::warning("it is so", span(1, 1, 2)).with_label("here").with_help("do");
    let coloured = render_styled(&diagnostic, &files("abc"), Style::Colour);
    let mut plain = String::new();
    let mut rest = coloured.as_str();
    while let Some((before, after)) = rest.split_once('\u{1b}') {
        plain.push_str(before);
        rest = after.split_once('m').map_or("", |(_, rest)| rest);
    }
    plain.push_str(rest);
    assert_ne!(coloured, plain);
    assert_eq!(plain, render(&diagnostic, &files("abc")));
}

#[test]
fn all_diagnostics_end_in_a_count() {
    let error = Diagnostic::error("e", span(1, 1, 2));
    let warning = Diagnostic::warning("w", span(1, 1, 2));
    let last = |diagnostics: &[Diagnostic]| render_all(diagnostics, &files("a")).lines().last().map(str::to_owned);
    assert_eq!(last(&[error.clone(), error.clone(), warning.clone()]).as_deref(), Some("2 errors, 1 warning"));
    assert_eq!(last(&[warning.clone(), warning]).as_deref(), Some("2 warnings"));
    assert_eq!(last(&[error]).as_deref(), Some("1 error"));
    assert_eq!(render_all(&[], &files("a")), "");
}

#[test]
fn a_diagnostic_without_a_place_is_shown() {
    let diagnostic = Diagnostic::global("the folder is empty").with_help("add a file");
    assert_eq!(render(&diagnostic, &files("")), "error: the folder is empty\n   = help: add a file\n");
}
