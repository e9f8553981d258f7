//! What is broken is left out together with what reads it, and nothing else is.

use bessemer_schemas::{Diagnostic, SourceFile};

fn check(text: &str, expected: Option<&[&str]>) {
    let file = SourceFile { path: "p.sql".to_owned(), text: text.to_owned() };
    let (definition, diagnostics) = bessemer_sql::parse(vec![file], &|_| None);
    assert!(diagnostics.iter().any(Diagnostic::is_error), "no error in {text}");
    let names = definition.map(|definition| {
        let sources = definition.sources.into_iter().map(|source| source.name.value);
        let views = definition.views.into_iter().map(|view| view.name.value);
        let sets = definition.feature_sets.into_iter().map(|set| set.name.value);
        sources.chain(views).chain(sets).collect::<Vec<_>>()
    });
    assert_eq!(
        names.as_deref(),
        expected.map(|names| names.iter().map(ToString::to_string).collect::<Vec<_>>()).as_deref()
    );
}

#[test]
fn what_reads_a_broken_source_is_left_out() {
    let text = "CREATE SOURCE good WITH (path = 'x');
        CREATE SOURCE bad (a BIGNIT) WITH (path = 'x');
        CREATE VIEW through AS SELECT * FROM bad;
        CREATE FEATURE SET f WITH (path = 'f') AS SELECT * FROM good;
        CREATE FEATURE SET g WITH (path = 'g') AS SELECT * FROM good JOIN through USING (a);";
    check(text, Some(&["good", "f"]));
}

#[test]
fn a_broken_set_keeps_its_sources() {
    check("CREATE SOURCE s WITH (path = 'x'); CREATE FEATURE SET f WITH (path = f) AS SELECT * FROM s;", Some(&["s"]));
}

#[test]
fn names_written_twice_are_both_left_out() {
    check(
        "CREATE SOURCE s WITH (path = 'x'); CREATE TABLE s WITH (path = 'y'); CREATE VIEW v AS SELECT 1;",
        Some(&["v"]),
    );
}

#[test]
fn views_in_a_circle_and_their_readers_are_left_out() {
    let text = "CREATE VIEW a AS SELECT * FROM b; CREATE VIEW b AS SELECT * FROM a;
        CREATE VIEW c AS SELECT * FROM a; CREATE VIEW d AS SELECT 1;";
    check(text, Some(&["d"]));
}

#[test]
fn nothing_sound_is_no_definition() {
    check("CREATE SOURCE s (a BIGNIT) WITH (path = 'x');", None);
}
