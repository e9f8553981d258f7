//! The ends of a run: open (take the lock, compare the definition, claim an epoch, sweep), and leave nothing behind.

use std::sync::Arc;

use bessemer_connectors::manifest_store::{EpochWriter, FileOwner, History, ManifestStore, SweepPlace};
use bessemer_connectors::sink::{QuarantineOwner, quarantine_location, state_location};
use bessemer_schemas::{Consequence, DefinitionDigest, Epoch, WriterInfo};
use bessemer_transforms::SetKind;
use tracing::warn;

use super::{Run, RunOptions, Surroundings, fingerprint, interrupted, unless_cancelled};
use crate::error::{Error, Result};
use crate::load::Loaded;
use crate::progress::Progress;

impl<'a> Run<'a> {
    /// Claims the pipeline, unless its committed rows cannot follow the definition. Every older writer stops at its next
    /// commit.
    pub(super) async fn open(
        loaded: Arc<Loaded>,
        store: ManifestStore,
        options: &RunOptions,
        surroundings: Surroundings<'a>,
    ) -> Result<Self> {
        let Surroundings { progress, cancel, host } = surroundings;
        let definition = fingerprint::definition(&loaded);
        let define = |history: &History| {
            check_follows(history, &definition, &loaded, options)?;
            let before = history.definition().cloned().unwrap_or_default();
            Ok::<_, Error>(definition.clone().after(&before, history.next_epoch()))
        };
        let info = WriterInfo {
            bessemer: env!("CARGO_PKG_VERSION").to_owned(),
            datafusion: datafusion::DATAFUSION_VERSION.to_owned(),
            partitions: u32::try_from(loaded.session.config().target_partitions()).unwrap_or(u32::MAX),
        };
        let opened = Box::pin(store.open_for_writing(host.claim(), info, define, host.now_micros()));
        let claim = async { Ok(opened.await) };
        // Stopped in the middle, the claim may have been made: that is an empty epoch, and nothing else.
        let writer = unless_cancelled(cancel, claim).await??;
        say_changes(&writer, &definition, progress);
        let (tally, idleness, residents, replaced, given_up, is_untidy) = Default::default();
        let (compaction, merges) = (None, 0);
        Ok(Self {
            loaded,
            store,
            writer,
            progress,
            cancel,
            host,
            pause: options.pause.clone(),
            is_final: options.is_final,
            tally,
            idleness,
            residents,
            replaced,
            given_up,
            is_untidy,
            compaction,
            merges,
        })
    }

    /// Brings the Delta logs up to the manifests, and removes what no manifest names: in this order, because readers of
    /// a log need the replaced files until it has followed.
    pub(super) async fn recover(&mut self) -> Result<()> {
        self.progress.phase("recovering");
        self.progress.tell(|observer| observer.opened(&self.loaded, self.writer.history()));
        let behind = self.publish_delta().await;
        let swept = self.writer.sweep(&self.places(&behind.sets)).await?;
        if swept.files > 0 {
            let files = crate::output::plural(swept.files, "file");
            self.progress.say(&format!("recovered: removed {files} that no manifest names"));
        }
        behind.into_result()
    }

    /// Ends the run: whatever ended its work, what it committed is published, and nothing else stays visible.
    pub(super) async fn close(&mut self, worked: Result<()>) -> Result<()> {
        self.abandon_step().await;
        let Err(error) = worked else {
            self.publish().await?;
            // Too late to give anything up, but the user is told that the wish was heard.
            return if self.cancel.is_cancelled() { Err(self.told(interrupted())) } else { Ok(()) };
        };
        let error = self.explained(error).await;
        // One that may commit no more knows too little of what is committed.
        if self.writer.may_commit()
            && let Err(error) = self.publish().await
        {
            // The first error is the one to tell; the next run publishes and removes what this one could not.
            warn!(%error, "could not publish what was committed");
        }
        Err(self.told(error))
    }

    /// An error as what it is: to a run that was overtaken, what its successor has swept is missing. Where the store does not
    /// say whether it was, that is the error: what is missing may be nothing that should be there.
    async fn explained(&self, error: Error) -> Error {
        let is_missing = matches!(error.connector(), Some(bessemer_connectors::Error::Damaged { .. }))
            || matches!(error, Error::StateLost { .. });
        if is_missing && let Err(other) = self.writer.check_not_fenced().await {
            return other.into();
        }
        error
    }

    /// What a clean stop leaves behind it: Delta logs that follow, and no file that is out of force.
    pub(super) async fn publish(&mut self) -> Result<()> {
        let behind = self.publish_delta().await;
        let places = self.places(&behind.sets);
        self.writer.remove_replaced(&places, &std::mem::take(&mut self.replaced)).await?;
        if std::mem::take(&mut self.is_untidy) {
            // What is being merged is named by no manifest yet.
            self.abandon_step().await;
            self.writer.sweep(&places).await?;
        }
        #[cfg(feature = "kafka")]
        self.acknowledge().await;
        behind.into_result()
    }

    /// Tells brokers how far their topics were read, for tools that show lag. Nothing depends on it.
    #[cfg(feature = "kafka")]
    async fn acknowledge(&self) {
        use bessemer_connectors::Source;

        for source in &self.loaded.sources {
            let read = self.writer.history().offsets_read(source.name());
            let acknowledged = match source {
                Source::Kafka(source) => source.acknowledge(read).await,
                Source::Log(log) => log.acknowledge(read).await,
                Source::Objects(_) => Ok(()),
            };
            if let Err(error) = acknowledged {
                warn!(source = source.name(), %error, "could not publish offsets");
            }
        }
    }

    /// Every place that this pipeline writes to, but for the sets `without`, whose files all stay.
    pub(super) fn places(&self, without: &[String]) -> Vec<SweepPlace> {
        let state = &self.loaded.parsed.settings.state;
        let mut places = Vec::new();
        for (set, options) in self.loaded.plan.sets.iter().zip(&self.loaded.parsed.sets) {
            let (name, location) = (set.name.clone(), options.location.clone());
            if !without.contains(&name) {
                places.push(SweepPlace { location, owner: FileOwner::Set(name.clone()) });
            }
            let location = quarantine_location(state, QuarantineOwner::Set(&name));
            places.push(SweepPlace { location, owner: FileOwner::SetQuarantine(name.clone()) });
            places.push(SweepPlace { location: state_location(state, &name), owner: FileOwner::SetState(name) });
        }
        for source in &self.loaded.sources {
            let location = quarantine_location(state, QuarantineOwner::Source(source.name()));
            places.push(SweepPlace { location, owner: FileOwner::SourceQuarantine(source.name().to_owned()) });
        }
        places
    }
}

/// Says what changed, where the committed rows can follow.
fn say_changes(writer: &EpochWriter, definition: &DefinitionDigest, progress: &Progress) {
    let changes = writer.opened_on().map(|before| before.changes(definition)).unwrap_or_default();
    for change in changes {
        let epoch = writer.opened().0 - 1;
        progress.say(&format!("changed since epoch {epoch}: {}: {}", change.of, change.what));
    }
}

/// Refuses a definition that the committed rows cannot follow, or only if the user says so.
fn check_follows(
    history: &History,
    definition: &DefinitionDigest,
    loaded: &Loaded,
    options: &RunOptions,
) -> Result<()> {
    let Some(newest) = history.newest() else { return Ok(()) };
    let epoch = newest.epoch.0;
    let mut changes = newest.definition.changes(definition);
    changes.retain(|change| change.consequence != Consequence::GoesOn);
    let lines: Vec<_> = changes.iter().map(|change| format!("  {}: {}", change.of, change.what)).collect();
    let next = history.next_epoch();
    let part = part_of_a_source(history, &definition.clone().after(&newest.definition, next), loaded);
    let is_redefined_for_all = part.is_some_and(|(_, _, since)| since == Some(next));
    match changes.iter().map(|change| change.consequence).max() {
        Some(Consequence::FromNow) if !is_redefined_for_all && !options.from_now => {
            return Err(Error::Redefined { epoch, changes: lines.join("\n") });
        }
        Some(Consequence::FromNow) if !is_redefined_for_all => {}
        Some(_) => return Err(Error::Incompatible { epoch, changes: lines.join("\n") }),
        None => {}
    }
    if let Some((set, name, _)) = part {
        return Err(Error::NotWhole { set: set.to_owned(), name: name.to_owned() });
    }
    let totals = history.source_totals();
    let is_read = |name: &str| totals.get(name).is_some_and(|ledger| ledger.objects > 0 || ledger.offsets > 0);
    let late = loaded.plan.sets.iter().find(|set| {
        set.kind == SetKind::Append
            && !newest.definition.sets.contains_key(&set.name)
            && set.sources.keys().any(|name| is_read(name))
    });
    match late {
        Some(set) if !options.from_now => Err(Error::NeedsStart { set: set.name.clone(), epoch }),
        _ => Ok(()),
    }
}

/// A snapshot set that would not find again all that was read of a source as it was read, and since when it would not.
fn part_of_a_source<'a>(
    history: &History,
    definition: &DefinitionDigest,
    loaded: &'a Loaded,
) -> Option<(&'a str, &'a str, Option<Epoch>)> {
    let totals = history.source_totals();
    let snapshots = loaded.plan.sets.iter().filter(|set| set.kind == SetKind::Snapshot);
    let mut read = snapshots.flat_map(|set| set.sources.keys().map(|name| (set.name.as_str(), name.as_str())));
    read.find_map(|(set, name)| {
        let since = definition.sources.get(name).and_then(|source| source.since);
        let is_replayed = totals.get(name).is_some_and(|ledger| ledger.replayed > 0);
        (since.is_some() || is_replayed).then_some((set, name, since))
    })
}
