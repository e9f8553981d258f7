//! Fingerprints: what a definition was when an epoch was made under it, and what changed since.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// A BLAKE3 digest, 64 hexadecimal digits in text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Digest(pub String);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(blake3::hash(bytes).to_hex().to_string())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The definition under which an epoch was made, as far as a later run must compare it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DefinitionDigest {
    /// By source name.
    pub sources: BTreeMap<String, SourceDigest>,
    /// By feature-set name.
    pub sets: BTreeMap<String, SetDigest>,
}

/// A source as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceDigest {
    /// `log` or `table`.
    pub kind: String,
    /// Where its objects are.
    pub location: String,
    /// Its columns: name to type with nullability, in order.
    pub columns: Vec<(String, String)>,
    /// Options that change what a record means (format, delimiter, null words, …), as text.
    pub decoding: Digest,
}

/// A feature set as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetDigest {
    /// `append` or `snapshot`.
    pub kind: String,
    /// Its query with all views inlined, as DataFusion's optimised plan prints it.
    pub plan: Digest,
    /// Its columns: name to type with nullability, in order.
    pub columns: Vec<(String, String)>,
    /// Its expectations as text: a change is always compatible and is reported.
    pub expectations: Digest,
    /// Path, partitioning and format.
    pub layout: String,
}

/// A difference between the definition of the last epoch and today's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefinitionChange {
    /// ``source `flights` `` or ``feature set `delays` ``.
    pub of: String,
    /// What changed, from what to what.
    pub what: String,
    /// Whether the pipeline may simply go on.
    pub compatible: bool,
}

impl DefinitionDigest {
    /// What changed from `self` (the last epoch) to `new` (today), compatible or not.
    ///
    /// A table may change in any way: it is a snapshot. A log must stay what it was; a snapshot set is computed anew
    /// whatever changed, so it only must stay where it was; an append set must keep its query and its layout.
    pub fn changes(&self, new: &Self) -> Vec<DefinitionChange> {
        let mut changes = Vec::new();
        for (name, old) in &self.sources {
            let of = format!("source `{name}`");
            match new.sources.get(name) {
                None => changes.push(change(&of, "it was removed", true)),
                Some(now) => old.changes(now, &of, &mut changes),
            }
        }
        for name in new.sources.keys().filter(|name| !self.sources.contains_key(*name)) {
            changes.push(change(&format!("source `{name}`"), "it is new", true));
        }
        for (name, old) in &self.sets {
            let of = format!("feature set `{name}`");
            match new.sets.get(name) {
                None => changes.push(change(&of, "it was removed; its files stay", true)),
                Some(now) => old.changes(now, &of, &mut changes),
            }
        }
        for name in new.sets.keys().filter(|name| !self.sets.contains_key(*name)) {
            changes.push(change(&format!("feature set `{name}`"), "it is new", true));
        }
        changes
    }
}

impl SourceDigest {
    fn changes(&self, new: &Self, of: &str, changes: &mut Vec<DefinitionChange>) {
        let is_table = self.kind == "table" && new.kind == "table";
        let mut differ = |what: &str, old: &str, now: &str| {
            if old != now {
                changes.push(change(of, &format!("{what} was `{old}` and is `{now}`"), is_table));
            }
        };
        differ("its kind", &self.kind, &new.kind);
        differ("its location", &self.location, &new.location);
        differ("its columns", &columns_text(&self.columns), &columns_text(&new.columns));
        if self.decoding != new.decoding {
            changes.push(change(of, "an option that changes how records are decoded is different", is_table));
        }
    }
}

impl SetDigest {
    fn changes(&self, new: &Self, of: &str, changes: &mut Vec<DefinitionChange>) {
        let recomputed = self.kind == "snapshot" && new.kind == "snapshot";
        if self.kind != new.kind {
            changes.push(change(of, &format!("it was of kind `{}` and is `{}`", self.kind, new.kind), false));
        }
        if self.layout != new.layout {
            let what = format!("its layout was `{}` and is `{}`", self.layout, new.layout);
            changes.push(change(of, &what, false));
        }
        if self.columns != new.columns {
            let (old, now) = (columns_text(&self.columns), columns_text(&new.columns));
            changes.push(change(of, &format!("its columns were `{old}` and are `{now}`"), recomputed));
        } else if self.plan != new.plan {
            changes.push(change(of, "its query is different", recomputed));
        }
        if self.expectations != new.expectations {
            changes.push(change(of, "its expectations are different; they hold from now on", true));
        }
    }
}

fn columns_text(columns: &[(String, String)]) -> String {
    columns.iter().map(|(name, data_type)| format!("{name} {data_type}")).collect::<Vec<_>>().join(", ")
}

fn change(of: &str, what: &str, compatible: bool) -> DefinitionChange {
    DefinitionChange { of: of.to_owned(), what: what.to_owned(), compatible }
}
