//! Whatever the text, an answer: never a panic, never a stack overflow, and every error has a place inside its file.

#![expect(clippy::unwrap_used, reason = "a test")]

use bessemer_schemas::{Diagnostic, SourceFile, SourceFiles};
use proptest::prelude::*;

const DEPARTURES: &str = include_str!("ok/departures.sql");
const QUERIES: &str = include_str!("ok/queries.sql");
const TYPES: &str = include_str!("ok/types.sql");
const DEFAULTS: &str = include_str!("ok/defaults.sql");
const OPTIONS: &str = include_str!("ok/options.sql");

/// Parses and renders; checks what must hold for every text.
fn check(text: &str) -> Vec<Diagnostic> {
    let file = SourceFile { path: "p.sql".to_owned(), text: text.to_owned() };
    let (definition, diagnostics) = bessemer_sql::parse(vec![file.clone()], &|_| Some("value".to_owned()));
    let files = SourceFiles(vec![file]);
    let _shown = bessemer_sql::render_all(&diagnostics, &files);

    let lines = text.split('\n').count();
    for diagnostic in &diagnostics {
        let span = diagnostic.span.unwrap();
        assert!((1..=lines).contains(&(span.start.line as usize)), "{diagnostic:?}");
        assert!(span.start <= span.end, "{diagnostic:?}");
        assert!(diagnostic.help.as_ref().is_some_and(|help| !help.trim().is_empty()), "{diagnostic:?}");
    }
    assert!(definition.is_some() || diagnostics.iter().any(Diagnostic::is_error), "neither definition nor error");
    diagnostics
}

/// Cuts a text into words, signs and white space, roughly as a tokeniser does.
fn pieces(text: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let length = if is_word(first) { rest.find(|c| !is_word(c)).unwrap_or(rest.len()) } else { first.len_utf8() };
        let (piece, after) = rest.split_at(length);
        pieces.push(piece);
        rest = after;
    }
    pieces
}

#[derive(Debug, Clone)]
enum Change {
    Remove(prop::sample::Index),
    Repeat(prop::sample::Index),
    Swap(prop::sample::Index, prop::sample::Index),
    Insert(prop::sample::Index, &'static str),
}

fn change() -> impl Strategy<Value = Change> {
    let index = any::<prop::sample::Index>;
    let signs = prop::sample::select(vec![
        "(",
        ")",
        "[",
        "]",
        "'",
        "\"",
        ",",
        ";",
        "<",
        ">",
        ">>",
        "`",
        "$",
        "${",
        "}",
        "/*",
        "--",
        "\\",
        "\t",
        "é",
        "\u{202e}",
        "CREATE",
        "\nCREATE VIEW ",
        "AS",
        "WITH",
        "NOT",
        "CASE",
        "-",
        ".",
        "=",
        "0x",
        "1e",
        "$$",
        "E'",
    ]);
    prop_oneof![
        4 => index().prop_map(Change::Remove),
        2 => index().prop_map(Change::Repeat),
        1 => (index(), index()).prop_map(|(left, right)| Change::Swap(left, right)),
        3 => (index(), signs).prop_map(|(at, sign)| Change::Insert(at, sign)),
    ]
}

fn mutated(text: &'static str, changes: &[Change]) -> String {
    let mut pieces = pieces(text);
    for change in changes {
        match change {
            Change::Remove(at) if pieces.len() > 1 => drop(pieces.remove(at.index(pieces.len()))),
            Change::Remove(_) => {}
            Change::Repeat(at) => {
                let at = at.index(pieces.len());
                pieces.insert(at, pieces[at]);
            }
            Change::Swap(left, right) => {
                let (left, right) = (left.index(pieces.len()), right.index(pieces.len()));
                pieces.swap(left, right);
            }
            Change::Insert(at, sign) => pieces.insert(at.index(pieces.len()), sign),
        }
    }
    pieces.concat()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_files_never_panic(
        text in prop::sample::select(vec![DEPARTURES, QUERIES, TYPES, DEFAULTS, OPTIONS]),
        changes in prop::collection::vec(change(), 1..12),
    ) {
        check(&mutated(text, &changes));
    }

    #[test]
    fn any_text_gives_an_answer(text in "\\PC{0,200}") {
        check(&text);
        check(&format!("CREATE FEATURE SET f WITH (a = {text}) AS SELECT {text} FROM {text};"));
    }
}

/// A prefix of a file is what an editor sees while someone writes it.
#[test]
fn every_prefix_of_a_file_gives_an_answer() {
    for (at, _) in DEPARTURES.char_indices().step_by(7) {
        check(&DEPARTURES[..at]);
    }
}

#[test]
fn one_error_does_not_hide_another_statement() {
    let statements: Vec<&str> = DEPARTURES.split_inclusive(";\n").collect();
    for broken in 0..statements.len() - 1 {
        let text: String = statements
            .iter()
            .enumerate()
            .map(|(at, text)| if at == broken { "CREATE VIEW broken AS SELECT FROM;\n" } else { text })
            .chain(["CREATE SOURCE last (a BIGNIT) WITH (path = 'x');"])
            .collect();
        let messages: Vec<String> = check(&text).into_iter().map(|diagnostic| diagnostic.message).collect();
        assert!(messages.iter().any(|message| message.contains("BIGNIT")), "{messages:?}");
    }
}

fn only_errors(query: &str) {
    let text = format!("CREATE SOURCE t WITH (path = 'x');\nCREATE FEATURE SET f WITH (path = 'y') AS {query};");
    assert!(check(&text).iter().any(Diagnostic::is_error), "{}", &query[..60]);
}

#[test]
fn deep_nesting_is_an_error_and_no_stack_overflow() {
    let repeat = |text: &str| text.repeat(20_000);
    only_errors(&format!("SELECT {}1{} FROM t", repeat("("), repeat(")")));
    only_errors(&format!("SELECT * FROM {}t{}", repeat("("), repeat(")")));
    only_errors(&format!("SELECT {}1{} FROM t", repeat("["), repeat("]")));
    only_errors(&format!("SELECT {}1 FROM t", repeat("f(")));
    only_errors(&format!("SELECT {} true FROM t", repeat("NOT ")));
    only_errors(&format!("SELECT {}1 FROM t", repeat("- ")));
    only_errors(&format!("SELECT 1 {} FROM t", repeat("+ 1 ")));
    only_errors(&format!("SELECT 1 {} FROM t", repeat("IS NULL ")));
    only_errors(&format!("SELECT 1{} FROM t", repeat("::INT")));
    only_errors(&format!("SELECT a{} FROM t", repeat("[1]")));
    only_errors(&format!("SELECT {} 1 {} FROM t", repeat("CASE WHEN "), repeat("THEN 1 END ")));
    only_errors(&format!("SELECT CAST(1 AS {}INT{}) FROM t", repeat("ARRAY<"), repeat(">")));
    only_errors(&format!("SELECT CAST(1 AS {}INT{}) FROM t", repeat("STRUCT<a "), repeat(">")));
    only_errors(&format!("SELECT CAST(1 AS INT{}) FROM t", repeat("[]")));
    only_errors(&format!("SELECT 1 {}", repeat("UNION SELECT 1 ")));
    only_errors(&format!("{} SELECT 1", repeat("WITH a AS (SELECT 1) ")));
    only_errors(&format!("SELECT {} 1 FROM t", repeat("INTERVAL ")));
    only_errors(&format!("SELECT {} 1 FROM t", repeat("DATE ")));
    only_errors(&format!("SELECT {} 1 FROM t", repeat("1 = ANY ")));
    only_errors(&format!("SELECT {} 1 FROM t", repeat("CASE ")));
    only_errors(&format!("SELECT * FROM {} t", repeat("t JOIN ")));
    only_errors(&format!("FROM {} t", repeat("FROM ")));
    let types = format!("CREATE SOURCE t (a {}INT{}) WITH (path = 'x');", repeat("ARRAY<"), repeat(">"));
    assert!(check(&types).iter().any(Diagnostic::is_error));
}

/// What stays just below the bounds must not overflow either, nor take exponential time in the parser.
#[test]
fn nesting_within_the_bounds_is_read() {
    let cases = [
        format!("SELECT {}1{} FROM t", "(".repeat(40), ")".repeat(40)),
        format!("SELECT * FROM {}t{}", "(".repeat(44), ")".repeat(44)),
        format!("SELECT * FROM {}t{}", "(SELECT * FROM ".repeat(44), ")".repeat(44)),
        format!("SELECT 1 {} FROM t", "+ 1 ".repeat(900)),
        format!("SELECT 1 {}", "UNION ALL SELECT 1 ".repeat(240)),
        format!("SELECT {} FROM t", vec!["a"; 20_000].join(", ")),
        format!("SELECT * FROM t WHERE a IN ({})", vec!["1"; 20_000].join(", ")),
        format!("SELECT {} 1 {} FROM t", "CASE WHEN a THEN ".repeat(44), "END ".repeat(44)),
    ];
    for query in cases {
        let text = format!("CREATE SOURCE t WITH (path = 'x');\nCREATE FEATURE SET f WITH (path = 'y') AS {query};");
        let diagnostics = check(&text);
        assert!(!diagnostics.iter().any(Diagnostic::is_error), "{} {diagnostics:?}", &query[..60.min(query.len())]);
    }
}
