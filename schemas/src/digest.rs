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
    /// Sources that were removed, as they last were: what was read of them stays read.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub removed_sources: BTreeMap<String, SourceDigest>,
    /// Feature sets that were removed, as they last were: their files stay in force.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub removed_sets: BTreeMap<String, SetDigest>,
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
    /// whatever changed, so it only must stay where it was; an append set must keep its query and its layout. What comes
    /// back under its old name must be what it was: it inherits what was read and written under that name.
    pub fn changes(&self, new: &Self) -> Vec<DefinitionChange> {
        let mut changes = Vec::new();
        for (name, old) in &self.sources {
            let of = format!("source `{name}`");
            match new.sources.get(name) {
                None => changes.push(change(&of, "it was removed", true)),
                Some(now) => old.changes(now, &of, &mut changes),
            }
        }
        for (name, now) in new.sources.iter().filter(|(name, _)| !self.sources.contains_key(*name)) {
            let of = format!("source `{name}`");
            match self.removed_sources.get(name) {
                None => changes.push(change(&of, "it is new", true)),
                Some(old) => {
                    changes.push(change(&of, "it was removed and is back", true));
                    old.changes(now, &of, &mut changes);
                }
            }
        }
        for (name, old) in &self.sets {
            let of = format!("feature set `{name}`");
            match new.sets.get(name) {
                None => changes.push(change(&of, "it was removed; its files stay", true)),
                Some(now) => old.changes(now, &of, &mut changes),
            }
        }
        for (name, now) in new.sets.iter().filter(|(name, _)| !self.sets.contains_key(*name)) {
            let of = format!("feature set `{name}`");
            match self.removed_sets.get(name) {
                None => changes.push(change(&of, "it is new", true)),
                Some(old) => {
                    changes.push(change(&of, "it was removed and is back", true));
                    old.changes(now, &of, &mut changes);
                }
            }
        }
        changes
    }

    /// The same definition as it is recorded after `before`: with what was removed since, or earlier.
    #[must_use]
    pub fn after(mut self, before: &Self) -> Self {
        self.removed_sources = gone(&self.sources, &before.sources, &before.removed_sources);
        self.removed_sets = gone(&self.sets, &before.sets, &before.removed_sets);
        self
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

/// What was there before, or was gone already, and is not here.
fn gone<D: Clone>(
    here: &BTreeMap<String, D>,
    before: &BTreeMap<String, D>,
    gone: &BTreeMap<String, D>,
) -> BTreeMap<String, D> {
    let all = gone.iter().chain(before).filter(|(name, _)| !here.contains_key(*name));
    all.map(|(name, digest)| (name.clone(), digest.clone())).collect()
}

fn columns_text(columns: &[(String, String)]) -> String {
    columns.iter().map(|(name, data_type)| format!("{name} {data_type}")).collect::<Vec<_>>().join(", ")
}

fn change(of: &str, what: &str, compatible: bool) -> DefinitionChange {
    DefinitionChange { of: of.to_owned(), what: what.to_owned(), compatible }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(plan: &str, layout: &str) -> SetDigest {
        SetDigest {
            kind: "snapshot".to_owned(),
            plan: Digest::of(plan.as_bytes()),
            columns: Vec::new(),
            expectations: Digest::of(b""),
            layout: layout.to_owned(),
        }
    }

    fn with_set(set: Option<SetDigest>) -> DefinitionDigest {
        let sets = set.into_iter().map(|set| ("delays".to_owned(), set)).collect();
        DefinitionDigest { sets, ..DefinitionDigest::default() }
    }

    fn refused(before: &DefinitionDigest, now: &DefinitionDigest) -> bool {
        before.changes(now).iter().any(|change| !change.compatible)
    }

    #[test]
    fn a_set_that_comes_back_must_be_where_it_was() {
        let first = with_set(Some(set("a", "features/delays")));
        let removed = with_set(None).after(&first);
        // However long ago.
        let later = with_set(None).after(&removed);
        for before in [&removed, &later] {
            assert!(refused(before, &with_set(Some(set("a", "features/other")))));
            assert!(!refused(before, &with_set(Some(set("b", "features/delays")))));
        }
        let back = first.clone().after(&later);
        assert_eq!(back, first, "what is back is no longer gone");
    }

    #[test]
    fn a_definition_without_removals_is_written_as_before() {
        let text = serde_json::to_string(&with_set(None)).unwrap();
        assert_eq!(text, r#"{"sources":{},"sets":{}}"#);
        assert_eq!(serde_json::from_str::<DefinitionDigest>(&text).unwrap(), with_set(None));
    }
}
