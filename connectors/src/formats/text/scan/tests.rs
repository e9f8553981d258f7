//! What the module `scan` promises, tested.

use proptest::prelude::*;

use super::{Cursor, Keys};

fn unescaped(text: &str) -> Option<String> {
    let mut scratch = Vec::new();
    let mut cursor = Cursor::new(text.as_bytes());
    let found = cursor.string(&mut scratch)?.to_vec();
    cursor.is_at_end().then(|| String::from_utf8(found).unwrap())
}

fn skips(text: &str) -> bool {
    let mut cursor = Cursor::new(text.as_bytes());
    let mut keys = Keys::default();
    cursor.skip_value(0, &mut keys).is_some() && cursor.is_at_end() && !keys.has_duplicate()
}

#[test]
fn strings_mean_what_they_say() {
    let check = |text: &str, expected: Option<&str>| assert_eq!(unescaped(text).as_deref(), expected, "{text}");
    check(r#""""#, Some(""));
    check(r#""a long text without anything special""#, Some("a long text without anything special"));
    check(r#""\"\\\/\b\f\n\r\t""#, Some("\"\\/\u{8}\u{c}\n\r\t"));
    check(r#""eight by\n\u00e9 Zürich""#, Some("eight by\né Zürich"));
    check(r#""\ud83d\ude00""#, Some("😀"));
    check(r#""\u0000""#, Some("\0"));
    check("\"\u{7f}\"", Some("\u{7f}"));
}

#[test]
fn half_a_character_is_no_string() {
    for text in [
        r#""\ud83d""#,
        r#""\ude00""#,
        r#""\ud83dx""#,
        r#""\ud83d\n""#,
        r#""\ud83d\u0041""#,
        r#""\u12""#,
        r#""\u12g4""#,
        r#""\u+123""#,
        r#""\x""#,
        r#""\""#,
        r#""open"#,
        "\"tab\t\"",
        "\"eight chars\u{1f}\"",
        "\"nul\0\"",
        "plain",
    ] {
        assert_eq!(unescaped(text), None, "{text}");
    }
}

#[test]
fn keys_are_compared_by_what_they_mean() {
    assert!(skips(r#"{"a":1,"b":{"a":2},"c":[{"a":1},{"a":1}]}"#));
    assert!(!skips(r#"{"a":1,"a":2}"#));
    assert!(!skips(r#"{"a":1,"\u0061":2}"#));
    assert!(!skips(r#"[[{"x":{"a":1,"b":2,"a":2}}]]"#));
    let many = |last: usize| {
        let members: Vec<_> = (0..40).chain([last]).map(|at| format!("\"k{at}\":0")).collect();
        format!("{{{}}}", members.join(","))
    };
    assert!(skips(&many(40)));
    assert!(!skips(&many(17)));
}

#[test]
fn nesting_has_a_bound() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(skips(&nested(127)));
    assert!(!skips(&nested(128)));
    assert!(!skips(&"[".repeat(1_000_000)));
}

proptest! {
    #[test]
    fn every_string_comes_back(text: String) {
        prop_assert_eq!(unescaped(&serde_json::to_string(&text).unwrap()), Some(text));
    }
}
