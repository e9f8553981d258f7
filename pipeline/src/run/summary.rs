//! What a run did, for the person who started it.

use std::collections::BTreeMap;

use bessemer_connectors::manifest_store::History;
use bessemer_schemas::{Manifest, ManifestKind, RunRecord, SetLedger, SourceLedger};
use futures::TryStreamExt;
use serde::Serialize;

use crate::error::Result;
use crate::load::Loaded;
use crate::output::count;

/// What a run did.
#[derive(Debug, Serialize)]
pub(crate) struct RunSummary {
    pub(crate) pipeline: String,
    pub(crate) epochs: u64,
    pub(crate) last_epoch: u64,
    /// Objects read for the first time.
    pub(crate) objects: u64,
    pub(crate) duration_micros: i64,
    pub(crate) sources: Vec<SourceLine>,
    pub(crate) sets: Vec<SetLine>,
    /// A line for each expectation that found something.
    pub(crate) expectations: Vec<String>,
}

/// What a run read of a source.
#[derive(Debug, Serialize)]
pub(crate) struct SourceLine {
    pub(crate) name: String,
    #[serde(flatten)]
    pub(crate) ledger: SourceLedger,
    /// Objects that changed after they were read, and were ignored.
    pub(crate) ignored: u64,
}

/// What a run did to a feature set.
#[derive(Debug, Serialize)]
pub(crate) struct SetLine {
    pub(crate) name: String,
    pub(crate) kind: String,
    #[serde(flatten)]
    pub(crate) ledger: SetLedger,
    /// Live files after the run.
    pub(crate) files: u64,
    pub(crate) path: String,
}

/// Sums over the epochs of a run.
#[derive(Debug, Default)]
pub(super) struct Tally {
    epochs: u64,
    sources: BTreeMap<String, SourceLedger>,
    ignored: BTreeMap<String, u64>,
    sets: BTreeMap<String, SetLedger>,
    violations: BTreeMap<(String, String, String), (u64, u64)>,
}

impl Tally {
    /// Epochs so far.
    pub(super) fn epochs(&self) -> u64 {
        self.epochs
    }

    /// Puts the sums into the record of a run.
    pub(super) fn fill(&self, record: &mut RunRecord) {
        let of_sources = |of: fn(&SourceLedger) -> u64| self.sources.values().map(of).sum::<u64>();
        let of_sets = |of: fn(&SetLedger) -> u64| self.sets.values().map(of).sum::<u64>();
        record.epochs = self.epochs;
        record.records = of_sources(|ledger| ledger.records);
        record.rows = of_sets(|ledger| ledger.written);
        record.quarantined = of_sources(|ledger| ledger.quarantined) + of_sets(|ledger| ledger.quarantined);
    }

    /// Adds a committed epoch; a compaction reads nothing and makes no row.
    pub(super) fn add(&mut self, manifest: &Manifest) {
        if manifest.kind == ManifestKind::Compaction {
            return;
        }
        self.epochs += 1;
        for (name, ledger) in &manifest.sources {
            self.sources.entry(name.clone()).or_default().add(ledger);
        }
        for (name, slice) in &manifest.slice.sources {
            *self.ignored.entry(name.clone()).or_default() += slice.ignored();
        }
        for (name, set) in &manifest.sets {
            self.sets.entry(name.clone()).or_default().add(&set.ledger);
            for result in set.expectations.iter().filter(|result| result.violations > 0) {
                let key = (name.clone(), result.name.clone(), result.action.clone());
                let (violations, checked) = self.violations.entry(key).or_default();
                *violations += result.violations;
                *checked += result.checked;
            }
        }
    }

    /// The summary, in the order of the definition.
    pub(super) async fn summary(&self, loaded: &Loaded, history: &History, duration_micros: i64) -> Result<RunSummary> {
        let sources = loaded.sources.iter().filter_map(|source| {
            let ignored = self.ignored.get(source.name()).copied().unwrap_or(0);
            let ledger = self.sources.get(source.name()).copied();
            let ledger = ledger.or_else(|| (ignored > 0).then(SourceLedger::default))?;
            Some(SourceLine { name: source.name().to_owned(), ledger, ignored })
        });
        let sources: Vec<_> = sources.collect();
        let mut sets = Vec::new();
        for (set, options) in loaded.plan.sets.iter().zip(&loaded.parsed.sets) {
            let Some(ledger) = self.sets.get(&set.name) else { continue };
            sets.push(SetLine {
                name: set.name.clone(),
                kind: set.kind.to_string(),
                ledger: *ledger,
                files: history.live_files(&set.name).try_fold(0, |count, _| async move { Ok(count + 1) }).await?,
                path: options.location.as_text().to_owned(),
            });
        }
        let expectations = self.violations.iter().map(|((set, name, action), (violations, checked))| {
            format!("{set}: {name} ({action}): {} of {} rows", count(*violations), count(*checked))
        });
        Ok(RunSummary {
            pipeline: loaded.parsed.name().to_owned(),
            epochs: self.epochs,
            last_epoch: history.newest().map_or(0, |manifest| manifest.epoch.0),
            objects: sources.iter().map(|source| source.ledger.objects).sum(),
            duration_micros,
            sources,
            sets,
            expectations: expectations.collect(),
        })
    }
}
