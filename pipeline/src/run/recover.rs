//! The ends of a run: open (compare the definition, take the lock, claim an epoch, sweep), and leave nothing behind.

use std::sync::Arc;

use bessemer_connectors::manifest_store::{FileOwner, History, ManifestStore, SweepPlace};
use bessemer_connectors::sink::{QuarantineOwner, quarantine_location};
use bessemer_schemas::{DefinitionDigest, WriterInfo};
use bessemer_transforms::SetKind;
use tokio_util::sync::CancellationToken;

use super::summary::Tally;
use super::{Run, RunOptions, fingerprint, now_micros};
use crate::error::{Error, Result};
use crate::load::Loaded;
use crate::progress::Progress;

impl<'a> Run<'a> {
    /// Claims the pipeline. Every older writer stops at its next commit.
    pub(super) async fn open(
        loaded: Arc<Loaded>,
        store: ManifestStore,
        options: RunOptions,
        progress: &'a Progress,
        cancel: &'a CancellationToken,
    ) -> Result<Self> {
        let definition = fingerprint::definition(&loaded);
        compare(&store.history().await?, &definition, &loaded, options, progress)?;
        let info = WriterInfo {
            bessemer: env!("CARGO_PKG_VERSION").to_owned(),
            datafusion: datafusion::DATAFUSION_VERSION.to_owned(),
            partitions: u32::try_from(loaded.session.config().target_partitions()).unwrap_or(u32::MAX),
        };
        let writer = store.open_for_writing(info, definition, now_micros()).await?;
        Ok(Self { loaded, store, writer, progress, cancel, tally: Tally::default(), replaced: Vec::new() })
    }

    /// Removes what no manifest names, and brings the Delta logs up to the manifests.
    pub(super) async fn recover(&mut self) -> Result<()> {
        self.progress.phase("recovering");
        let swept = self.writer.sweep(&self.places()).await?;
        if swept.files > 0 {
            let files = crate::output::plural(swept.files, "file");
            self.progress.say(&format!("recovered: removed {files} that no manifest names"));
        }
        self.publish_delta().await
    }

    /// What a clean stop leaves behind it: Delta logs that follow, and no replaced file.
    pub(super) async fn publish(&mut self) -> Result<()> {
        self.publish_delta().await?;
        self.writer.remove_replaced(&self.places(), &std::mem::take(&mut self.replaced)).await?;
        Ok(())
    }

    /// Every place that this pipeline writes to.
    fn places(&self) -> Vec<SweepPlace> {
        let state = &self.loaded.parsed.settings.state;
        let mut places = Vec::new();
        for (set, options) in self.loaded.plan.sets.iter().zip(&self.loaded.parsed.sets) {
            let (name, location) = (set.name.clone(), options.location.clone());
            places.push(SweepPlace { location, owner: FileOwner::Set(name.clone()) });
            let location = quarantine_location(state, QuarantineOwner::Set(&name));
            places.push(SweepPlace { location, owner: FileOwner::SetQuarantine(name) });
        }
        for source in &self.loaded.sources {
            let location = quarantine_location(state, QuarantineOwner::Source(source.name()));
            places.push(SweepPlace { location, owner: FileOwner::SourceQuarantine(source.name().to_owned()) });
        }
        places
    }
}

/// Refuses a definition that the committed rows cannot follow; says what else changed.
fn compare(
    history: &History,
    definition: &DefinitionDigest,
    loaded: &Loaded,
    options: RunOptions,
    progress: &Progress,
) -> Result<()> {
    let Some(newest) = history.newest() else { return Ok(()) };
    let changes = newest.definition.changes(definition);
    let (compatible, broken): (Vec<_>, Vec<_>) = changes.into_iter().partition(|change| change.compatible);
    if !broken.is_empty() {
        let lines: Vec<_> = broken.iter().map(|change| format!("  {}: {}", change.of, change.what)).collect();
        return Err(Error::Incompatible { epoch: newest.epoch.0, changes: lines.join("\n") });
    }
    for change in compatible {
        progress.say(&format!("changed since epoch {}: {}: {}", newest.epoch, change.of, change.what));
    }
    let totals = history.source_totals();
    let is_read = |name: &str| totals.get(name).is_some_and(|ledger| ledger.objects > 0);
    let late = loaded.plan.sets.iter().find(|set| {
        set.kind == SetKind::Append
            && !newest.definition.sets.contains_key(&set.name)
            && set.sources.keys().any(|name| is_read(name))
    });
    match late {
        Some(set) if !options.from_now => Err(Error::NeedsStart { set: set.name.clone(), epoch: newest.epoch.0 }),
        _ => Ok(()),
    }
}
