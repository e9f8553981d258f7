//! Delta logs follow the manifests: whatever a log lacks is published, at the end of a run and on recovery alike.

use std::collections::HashSet;
use std::sync::Arc;

use bessemer_connectors::Error as ConnectorError;
use bessemer_connectors::sink::SetFormat;
use bessemer_connectors::sink::delta::{DeltaCommit, DeltaLog, DeltaTarget};
use bessemer_schemas::{DataFile, Epoch, Manifest, ManifestKind};
use futures::{StreamExt, TryStreamExt};

use super::Run;
use crate::error::{Error, Result};

/// The sets whose Delta logs could not follow, and why the first one could not.
#[derive(Debug, Default)]
pub(super) struct Behind {
    /// Their names; a reader of their logs still needs files that manifests have put out of force.
    pub(super) sets: Vec<String>,
    error: Option<Error>,
}

impl Behind {
    /// The first error.
    pub(super) fn into_result(self) -> Result<()> {
        self.error.map_or(Ok(()), Err)
    }
}

impl Run<'_> {
    /// Publishes what the Delta logs of the sets lack; one that cannot follow does not hold up the others.
    pub(super) async fn publish_delta(&self) -> Behind {
        let mut behind = Behind::default();
        for (at, options) in self.loaded.parsed.sets.iter().enumerate() {
            if options.format == SetFormat::Delta
                && let Err(error) = self.publish_set(at).await
            {
                behind.sets.push(self.loaded.plan.sets[at].name.clone());
                behind.error.get_or_insert(error);
            }
        }
        behind
    }

    /// To a writer that was stopped while another took over, what that has published looks like a stranger's commit:
    /// only the manifests tell whose it is.
    async fn publish_set(&self, at: usize) -> Result<()> {
        let published = self.try_publish_set(at).await;
        if published.is_err() {
            self.writer.check_not_fenced().await?;
        }
        published
    }

    async fn try_publish_set(&self, at: usize) -> Result<()> {
        let (set, options) = (&self.loaded.plan.sets[at], &self.loaded.parsed.sets[at]);
        let history = self.writer.history();
        let Some(newest) = history.newest().map(|manifest| manifest.epoch) else { return Ok(()) };
        if !history.set_totals().contains_key(&set.name) {
            return Ok(());
        }
        let target = DeltaTarget {
            location: options.location.clone(),
            pipeline: self.loaded.parsed.name().to_owned(),
            set: set.name.clone(),
            schema: Arc::clone(&set.schema),
            partition_by: options.partition_by.clone(),
        };
        let mut log = DeltaLog::open(target).await?;
        if let Some(epoch) = log.published().filter(|epoch| *epoch > newest) {
            let location = options.location.as_text().to_owned();
            let reason = format!("it covers epoch {epoch}, but the newest manifest is that of epoch {newest}");
            return Err(ConnectorError::Delta { location, reason, transient: false }.into());
        }
        let from = log.published().map_or(Epoch::FIRST, Epoch::next);
        let manifests = self.store.manifests(from..=newest);
        let name = set.name.clone();
        let commits: Vec<_> = manifests
            .try_filter_map(|manifest| {
                let manifest = manifest.sets.contains_key(&name).then_some(manifest);
                async move { Ok(manifest) }
            })
            .boxed()
            .try_collect::<Vec<Manifest>>()
            .await?;
        let mut replaced = Vec::new();
        if let Some(epoch) = log.published() {
            // What was added since, the log cannot have yet.
            let new: HashSet<String> =
                commits.iter().flat_map(|manifest| files_of(manifest, &set.name)).map(|file| file.path).collect();
            let live: Vec<DataFile> = history.live_files(&set.name).try_collect().await?;
            log.check_live(live.iter().filter(|file| !new.contains(&file.path)))?;
            replaced = files_of(&self.store.read(epoch).await?, &set.name);
        }
        let commits = with_removals(&commits, &set.name, replaced);
        log.publish(&commits).await?;
        Ok(())
    }
}

fn files_of(manifest: &Manifest, set: &str) -> Vec<DataFile> {
    manifest.sets.get(set).map(|set| set.files.added.clone()).unwrap_or_default()
}

/// The commits as Delta wants them: a replacement names what it replaces. `live` is what the last published commit added,
/// which for a set that is always replaced is all that was live.
fn with_removals(manifests: &[Manifest], set: &str, mut live: Vec<DataFile>) -> Vec<DeltaCommit> {
    let mut commits = Vec::with_capacity(manifests.len());
    for manifest in manifests {
        let added = files_of(manifest, set);
        let removed = match manifest.sets.get(set).map(|set| &set.files) {
            Some(files) if files.replaces_all => std::mem::replace(&mut live, added.clone()),
            Some(files) => files.removed.clone(),
            None => Vec::new(),
        };
        let data_change = manifest.kind != ManifestKind::Compaction;
        let (epoch, committed_at) = (manifest.epoch, manifest.committed_at);
        commits.push(DeltaCommit { epoch, committed_at, added, removed, data_change });
    }
    commits
}
