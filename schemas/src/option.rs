//! `WITH (key = value, …)` before it has become typed options.
//!
//! A connector *takes* each key it knows out of the map; [`OptionMap::finish`] reports what is left as unknown, with
//! the nearest known key. So an option cannot be ignored in silence.

use std::fmt;
use std::time::Duration;

use crate::{ByteSize, Diagnostic, Secret, Span, nearest, parse_duration};

/// The value of an option as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OptionValue {
    /// `'text'`, after `${VARIABLE}` substitution.
    Text(String),
    /// `42` or `0.5`, as written.
    Number(String),
    /// `true` or `false`.
    Bool(bool),
    /// `secret('NAME')`, resolved from the environment.
    Secret(Secret),
}

impl fmt::Display for OptionValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) | Self::Number(text) => f.write_str(text),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Secret(secret) => write!(f, "{secret}"),
        }
    }
}

/// One `key = value`, with its places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OptionEntry {
    /// Key in lower case; a dotted key (`aws.region`) is one key.
    pub key: String,
    /// Place of the key.
    pub key_span: Span,
    /// The value.
    pub value: OptionValue,
    /// Place of the value.
    pub value_span: Span,
}

/// The options of one statement, in the order in which they were written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OptionMap {
    /// What the options belong to, for messages: ``source `flights` ``.
    owner: String,
    /// Place of the owner's name: where a missing option is reported.
    owner_span: Span,
    entries: Vec<OptionEntry>,
    known: Vec<&'static str>,
    diagnostics: Vec<Diagnostic>,
}

impl OptionMap {
    /// The options of `owner` (``source `flights` ``), whose name stands at `owner_span`.
    /// The parser has already refused a key that is written twice.
    pub fn new(owner: impl Into<String>, owner_span: Span, entries: Vec<OptionEntry>) -> Self {
        Self { owner: owner.into(), owner_span, entries, known: Vec::new(), diagnostics: Vec::new() }
    }

    /// What the options belong to, for messages.
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// Place of the owner's name.
    pub fn owner_span(&self) -> Span {
        self.owner_span
    }

    /// The entries that nobody has taken yet.
    pub fn entries(&self) -> &[OptionEntry] {
        &self.entries
    }

    /// Takes `key` as it was written.
    pub fn take(&mut self, key: &'static str) -> Option<OptionEntry> {
        self.known.push(key);
        let at = self.entries.iter().position(|entry| entry.key == key)?;
        Some(self.entries.remove(at))
    }

    /// Takes every key that begins with `prefix`, such as `aws.`.
    pub fn take_prefix(&mut self, prefix: &'static str) -> Vec<OptionEntry> {
        let (taken, left) = self.entries.drain(..).partition(|entry| entry.key.starts_with(prefix));
        self.entries = left;
        taken
    }

    /// Takes a text.
    pub fn take_text(&mut self, key: &'static str) -> Option<String> {
        self.take_with(key, "a text in single quotes", |value| match value {
            OptionValue::Text(text) => Ok(text.clone()),
            _ => Err(None),
        })
    }

    /// Takes a text that must be there.
    pub fn require_text(&mut self, key: &'static str, example: &str) -> Option<String> {
        if !self.entries.iter().any(|entry| entry.key == key) {
            self.known.push(key);
            let message = format!("{} has no option `{key}`", self.owner);
            let help = format!("add `{key} = {example}` to its `WITH (…)`");
            self.diagnostics.push(Diagnostic::error(message, self.owner_span).with_help(help));
            return None;
        }
        self.take_text(key)
    }

    /// Takes a secret, or a text where the user wrote it in the open.
    pub fn take_secret(&mut self, key: &'static str) -> Option<Secret> {
        self.take_with(key, "`secret('NAME')` or a text in single quotes", |value| match value {
            OptionValue::Secret(secret) => Ok(secret.clone()),
            OptionValue::Text(text) => Ok(Secret::new(text.clone())),
            _ => Err(None),
        })
    }

    /// Takes `true` or `false`, quoted or not.
    pub fn take_bool(&mut self, key: &'static str) -> Option<bool> {
        self.take_with(key, "`true` or `false`", |value| match value {
            OptionValue::Bool(value) => Ok(*value),
            OptionValue::Text(text) if text.eq_ignore_ascii_case("true") => Ok(true),
            OptionValue::Text(text) if text.eq_ignore_ascii_case("false") => Ok(false),
            _ => Err(None),
        })
    }

    /// Takes a whole number of at least `min`.
    pub fn take_u64(&mut self, key: &'static str, min: u64) -> Option<u64> {
        let expected = format!("a whole number of at least {min}");
        self.take_with(key, &expected, |value| match value {
            OptionValue::Text(text) | OptionValue::Number(text) => {
                text.parse().ok().filter(|number| *number >= min).ok_or(None)
            }
            _ => Err(None),
        })
    }

    /// Takes a share, from 0 to 1: `0.5`, or `'50%'`.
    pub fn take_share(&mut self, key: &'static str) -> Option<f64> {
        self.take_with(key, "a number from 0 to 1, or `'50%'`", |value| {
            let (OptionValue::Text(text) | OptionValue::Number(text)) = value else { return Err(None) };
            let share = match text.strip_suffix('%') {
                Some(percent) => percent.trim_end().parse().map(|percent: f64| percent / 100.0),
                None => text.parse(),
            };
            share.ok().filter(|share| (0.0..=1.0).contains(share)).ok_or(None)
        })
    }

    /// Takes a size in bytes, such as `64MiB`.
    pub fn take_bytes(&mut self, key: &'static str) -> Option<ByteSize> {
        self.take_with(key, "a size such as `'64MiB'`", |value| match value {
            OptionValue::Text(text) | OptionValue::Number(text) => text.parse().map_err(Some),
            _ => Err(None),
        })
    }

    /// Takes a duration, such as `30s`.
    pub fn take_duration(&mut self, key: &'static str) -> Option<Duration> {
        self.take_with(key, "a duration such as `'30s'`", |value| match value {
            OptionValue::Text(text) => parse_duration(text).map_err(Some),
            _ => Err(None),
        })
    }

    /// Takes one of the named choices; another name is reported with the nearest one.
    pub fn take_choice<T: Clone>(&mut self, key: &'static str, choices: &[(&str, T)]) -> Option<T> {
        let names = || choices.iter().map(|(name, _)| format!("`'{name}'`")).collect::<Vec<_>>().join(", ");
        let expected = format!("one of {}", names());
        self.take_with(key, &expected, |value| {
            let text = match value {
                OptionValue::Text(text) => text.clone(),
                OptionValue::Bool(value) => value.to_string(),
                OptionValue::Number(_) | OptionValue::Secret(_) => return Err(None),
            };
            let found = choices.iter().find(|(name, _)| name.eq_ignore_ascii_case(&text));
            found.map(|(_, choice)| choice.clone()).ok_or_else(|| {
                nearest(&text, choices.iter().map(|(name, _)| *name))
                    .map(|name| format!("did you mean `'{name}'`? the choices are {}", names()))
            })
        })
    }

    /// Reports a problem of the option `entry`, at its value.
    pub fn report(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }

    /// Ends the parsing of options: what nobody took is unknown. `also_known` are keys that other choices would allow.
    pub fn finish(mut self, what: &str) -> Vec<Diagnostic> {
        for entry in std::mem::take(&mut self.entries) {
            let message = format!("unknown option `{}` for {}", entry.key, self.owner);
            let mut diagnostic =
                Diagnostic::error(message, entry.key_span).with_label(format!("{what} has no such option"));
            diagnostic.help = Some(match nearest(&entry.key, self.known.iter().copied()) {
                Some(name) => format!("did you mean `{name}`?"),
                None => format!("the options are {}", list(&self.known)),
            });
            self.diagnostics.push(diagnostic);
        }
        self.diagnostics
    }

    fn take_with<T>(
        &mut self,
        key: &'static str,
        expected: &str,
        convert: impl FnOnce(&OptionValue) -> Result<T, Option<String>>,
    ) -> Option<T> {
        let entry = self.take(key)?;
        match convert(&entry.value) {
            Ok(value) => Some(value),
            Err(help) => {
                let message = format!("option `{key}` cannot be `{}`", entry.value);
                let help = help.unwrap_or_else(|| format!("write {expected}"));
                self.diagnostics.push(Diagnostic::error(message, entry.value_span).with_help(help));
                None
            }
        }
    }
}

fn list(names: &[&str]) -> String {
    let mut names = names.to_vec();
    names.sort_unstable();
    names.dedup();
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
