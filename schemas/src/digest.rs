//! Fingerprints: what a definition was when an epoch was made under it, and what changed since.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Epoch;

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
    /// The first epoch under these columns and this decoding, where earlier ones read records under others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Epoch>,
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
    /// What that means for the rows that are committed.
    pub consequence: Consequence,
}

/// What a change of the definition means for committed rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Consequence {
    /// They follow it, or are not concerned: the pipeline simply goes on.
    GoesOn,
    /// They stay as they are, and those to come are different: the user must say so.
    FromNow,
    /// They cannot be in one place with those to come.
    StartsAnew,
}

impl DefinitionDigest {
    /// What changed from `self` (the last epoch) to `new` (today), compatible or not.
    ///
    /// A table may change in any way: it is a snapshot. A log must stay where it was; other columns or another decoding
    /// hold for the records to come. A snapshot set is computed anew whatever changed, so it only must stay where it was;
    /// an append set must keep its columns and its layout, and another query holds for the rows to come. What comes back
    /// under its old name is treated as if it had been there: it inherits what was read and written under that name.
    pub fn changes(&self, new: &Self) -> Vec<DefinitionChange> {
        let mut changes = Vec::new();
        for (name, old) in &self.sources {
            let of = format!("source `{name}`");
            match new.sources.get(name) {
                None => changes.push(change(&of, "it was removed", Consequence::GoesOn)),
                Some(now) => old.changes(now, &of, &mut changes),
            }
        }
        for (name, now) in new.sources.iter().filter(|(name, _)| !self.sources.contains_key(*name)) {
            let of = format!("source `{name}`");
            match self.removed_sources.get(name) {
                None => changes.push(change(&of, "it is new", Consequence::GoesOn)),
                Some(old) => {
                    changes.push(change(&of, "it was removed and is back", Consequence::GoesOn));
                    old.changes(now, &of, &mut changes);
                }
            }
        }
        for (name, old) in &self.sets {
            let of = format!("feature set `{name}`");
            match new.sets.get(name) {
                None => changes.push(change(&of, "it was removed; its files stay", Consequence::GoesOn)),
                Some(now) => old.changes(now, &of, &mut changes),
            }
        }
        for (name, now) in new.sets.iter().filter(|(name, _)| !self.sets.contains_key(*name)) {
            let of = format!("feature set `{name}`");
            match self.removed_sets.get(name) {
                None => changes.push(change(&of, "it is new", Consequence::GoesOn)),
                Some(old) => {
                    changes.push(change(&of, "it was removed and is back", Consequence::GoesOn));
                    old.changes(now, &of, &mut changes);
                }
            }
        }
        changes
    }

    /// The same definition as it is recorded by `epoch` after `before`: with what was removed since, or earlier, and
    /// since when each log is decoded in this way.
    #[must_use]
    pub fn after(mut self, before: &Self, epoch: Epoch) -> Self {
        for (name, source) in &mut self.sources {
            if let Some(old) = before.sources.get(name).or_else(|| before.removed_sources.get(name)) {
                source.since = if source.decodes_as(old) { old.since } else { Some(epoch) };
            }
        }
        self.removed_sources = gone(&self.sources, &before.sources, &before.removed_sources);
        self.removed_sets = gone(&self.sets, &before.sets, &before.removed_sets);
        self
    }
}

impl SourceDigest {
    /// Whether a record means the same by both.
    fn decodes_as(&self, other: &Self) -> bool {
        self.columns == other.columns && self.decoding == other.decoding
    }

    fn changes(&self, new: &Self, of: &str, changes: &mut Vec<DefinitionChange>) {
        let is_table = self.kind == "table" && new.kind == "table";
        let unless_table = |consequence| if is_table { Consequence::GoesOn } else { consequence };
        let mut differ = |what: &str, old: &str, now: &str, consequence| {
            if old != now {
                changes.push(change(of, &format!("{what} was `{old}` and is `{now}`"), unless_table(consequence)));
            }
        };
        differ("its kind", &self.kind, &new.kind, Consequence::StartsAnew);
        differ("its location", &self.location, &new.location, Consequence::StartsAnew);
        differ("its columns", &columns_text(&self.columns), &columns_text(&new.columns), Consequence::FromNow);
        if self.decoding != new.decoding {
            let what = "an option that changes how records are decoded is different";
            changes.push(change(of, what, unless_table(Consequence::FromNow)));
        }
    }
}

impl SetDigest {
    fn changes(&self, new: &Self, of: &str, changes: &mut Vec<DefinitionChange>) {
        let is_recomputed = self.kind == "snapshot" && new.kind == "snapshot";
        let unless_recomputed = |consequence| if is_recomputed { Consequence::GoesOn } else { consequence };
        if self.kind != new.kind {
            let what = format!("it was of kind `{}` and is `{}`", self.kind, new.kind);
            changes.push(change(of, &what, Consequence::StartsAnew));
        }
        if self.layout != new.layout {
            let what = format!("its layout was `{}` and is `{}`", self.layout, new.layout);
            changes.push(change(of, &what, Consequence::StartsAnew));
        }
        if self.columns != new.columns {
            let (old, now) = (columns_text(&self.columns), columns_text(&new.columns));
            let what = format!("its columns were `{old}` and are `{now}`");
            changes.push(change(of, &what, unless_recomputed(self.columns_change(new))));
        } else if self.plan != new.plan {
            changes.push(change(of, "its query is different", unless_recomputed(Consequence::FromNow)));
        }
        if self.expectations != new.expectations {
            let what = "its expectations are different; they hold from now on";
            changes.push(change(of, what, Consequence::GoesOn));
        }
    }

    /// Files with and without nulls in a column are one set to everybody, but not to a Delta table, which has one schema.
    fn columns_change(&self, new: &Self) -> Consequence {
        let types = |set: &Self| -> Vec<(String, String)> {
            let bare = |text: &String| text.trim_end_matches(" NOT NULL").to_owned();
            set.columns.iter().map(|(name, text)| (name.clone(), bare(text))).collect()
        };
        let is_delta = new.layout.ends_with("format delta");
        if types(self) == types(new) && !is_delta { Consequence::FromNow } else { Consequence::StartsAnew }
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

fn change(of: &str, what: &str, consequence: Consequence) -> DefinitionChange {
    DefinitionChange { of: of.to_owned(), what: what.to_owned(), consequence }
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
        before.changes(now).iter().any(|change| change.consequence == Consequence::StartsAnew)
    }

    #[test]
    fn a_set_that_comes_back_must_be_where_it_was() {
        let first = with_set(Some(set("a", "features/delays")));
        let removed = with_set(None).after(&first, Epoch(2));
        // However long ago.
        let later = with_set(None).after(&removed, Epoch(3));
        for before in [&removed, &later] {
            assert!(refused(before, &with_set(Some(set("a", "features/other")))));
            assert!(!refused(before, &with_set(Some(set("b", "features/delays")))));
        }
        let back = first.clone().after(&later, Epoch(4));
        assert_eq!(back, first, "what is back is no longer gone");
    }

    fn with_source(columns: &str, decoding: &str) -> DefinitionDigest {
        let source = SourceDigest {
            kind: "log".to_owned(),
            location: "kafka flights".to_owned(),
            columns: vec![("delay".to_owned(), columns.to_owned())],
            decoding: Digest::of(decoding.as_bytes()),
            since: None,
        };
        DefinitionDigest { sources: [("flights".to_owned(), source)].into(), ..DefinitionDigest::default() }
    }

    #[test]
    fn a_log_that_is_decoded_in_another_way_is_so_from_now_and_for_ever() {
        let first = with_source("Int32", "a");
        for now in [with_source("Int64", "a"), with_source("Int32", "b")] {
            let changes = first.changes(&now);
            assert!(changes.iter().all(|change| change.consequence == Consequence::FromNow) && changes.len() == 1);
            let redefined = now.clone().after(&first, Epoch(7));
            assert_eq!(redefined.sources["flights"].since, Some(Epoch(7)));
            assert!(redefined.changes(&now).is_empty());
            // Also when it was gone meanwhile.
            let gone = DefinitionDigest::default().after(&redefined, Epoch(8));
            assert_eq!(now.after(&gone, Epoch(9)).sources["flights"].since, Some(Epoch(7)));
        }
        assert_eq!(first.clone().after(&first, Epoch(7)), first);
    }

    #[test]
    fn rows_to_come_may_have_nulls_where_those_that_are_there_have_none() {
        let with = |columns: &str, plan: &str, format: &str| SetDigest {
            kind: "append".to_owned(),
            columns: vec![("delay".to_owned(), columns.to_owned())],
            ..set(plan, &format!("features/delays partition_by () format {format}"))
        };
        let check = |before: SetDigest, now: SetDigest, expected| {
            let changes = with_set(Some(before)).changes(&with_set(Some(now)));
            assert_eq!(changes.iter().map(|change| change.consequence).max(), expected, "{changes:?}");
        };
        let usual = || with("Int64 NOT NULL", "a", "parquet");
        check(usual(), usual(), None);
        check(usual(), with("Int64", "a", "parquet"), Some(Consequence::FromNow));
        check(usual(), with("Int64 NOT NULL", "b", "parquet"), Some(Consequence::FromNow));
        check(usual(), with("Float64 NOT NULL", "a", "parquet"), Some(Consequence::StartsAnew));
        let delta = || with("Int64 NOT NULL", "a", "delta");
        check(delta(), with("Int64", "a", "delta"), Some(Consequence::StartsAnew));
    }

    #[test]
    fn a_definition_without_removals_is_written_as_before() {
        let text = serde_json::to_string(&with_set(None)).unwrap();
        assert_eq!(text, r#"{"sources":{},"sets":{}}"#);
        assert_eq!(serde_json::from_str::<DefinitionDigest>(&text).unwrap(), with_set(None));
    }
}
