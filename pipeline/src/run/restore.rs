//! `state --rebuild`: states that are lost are made anew, and committed in the place of what is left of them.
//!
//! Such a commit is a compaction: it reads nothing that is new, and no row of a set changes.

use std::sync::Arc;

use bessemer_connectors::manifest_store::ManifestStore;
use bessemer_schemas::{FileChanges, Manifest, ManifestKind, SetCommit, SetState};
use futures::FutureExt;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::absorb::WrittenState;
use super::compaction::moves_nothing;
use super::epoch::Naming;
use super::kept::{self, Unfit};
use super::rebuild::{FIRST_ATTEMPT, Rebuild};
use super::{Run, RunOptions, Surroundings, interrupted, plan, unless_cancelled};
use crate::error::Result;
use crate::host::Machine;
use crate::load::{Loaded, Parsed};
use crate::progress::Progress;

/// A state that was made anew.
#[derive(Debug)]
pub(crate) struct RebuiltState {
    pub(crate) set: String,
    /// What was wrong with the one before.
    pub(crate) because: &'static str,
    pub(crate) state: SetState,
}

/// Makes the states anew that a run could not go on with; where there is none, the pipeline is not claimed.
pub(crate) async fn rebuild(
    parsed: Parsed,
    progress: &Progress,
    cancel: &CancellationToken,
) -> Result<Vec<RebuiltState>> {
    let store = ManifestStore::new(parsed.settings.state.clone(), parsed.name());
    progress.phase("planning");
    let loaded = Arc::new(unless_cancelled(cancel, plan(parsed, &store)).await?);
    if unless_cancelled(cancel, are_sound(&loaded, &store)).await? {
        return Ok(Vec::new());
    }
    let surroundings = Surroundings { progress, cancel, host: &Machine };
    let mut run = Run::open(loaded, store, &RunOptions::default(), surroundings).await?;
    match Box::pin(run.restore()).await {
        Ok(rebuilt) => run.close(Ok(())).await.map(|()| rebuilt),
        Err(error) => Err(run.close(Err(error)).await.err().unwrap_or_else(interrupted)),
    }
}

async fn are_sound(loaded: &Loaded, store: &ManifestStore) -> Result<bool> {
    loop {
        let history = store.history().await?;
        let unfit = kept::unfit(loaded, &history, store).await?;
        let is_sound = !unfit.iter().any(|(_, unfit)| matches!(unfit, Unfit::Lost(_)));
        // What a run replaces meanwhile is gone, too.
        if is_sound || store.history().await?.next_epoch() == history.next_epoch() {
            return Ok(is_sound);
        }
    }
}

impl Run<'_> {
    /// Everything between opening and closing.
    pub(super) async fn restore(&mut self) -> Result<Vec<RebuiltState>> {
        let cancel = self.cancel;
        unless_cancelled(cancel, self.recover()).await?;
        let unfit = kept::unfit(&self.loaded, self.writer.history(), &self.store);
        let mut rebuilt = Vec::new();
        for (at, unfit) in unless_cancelled(cancel, unfit).await? {
            if let Unfit::Lost(because) = unfit {
                rebuilt.extend(self.restore_one(at, because).boxed().await?);
            }
        }
        Ok(rebuilt)
    }

    async fn restore_one(&mut self, at: usize, because: &'static str) -> Result<Option<RebuiltState>> {
        let (loaded, started_at) = (Arc::clone(&self.loaded), self.host.now_micros());
        let set = &loaded.plan.sets[at];
        let states = self.writer.history().states();
        let (Some(emits), Some(lost)) = (set.emits(), states.get(&set.name)) else { return Ok(None) };
        self.progress.phase(&format!("rebuilding {}", set.name));
        for source in &loaded.sources {
            source.begin_epoch()?;
        }
        let (epoch, claim) = (self.writer.next_epoch(), self.writer.claim());
        let naming = Naming { epoch, claim, attempt: FIRST_ATTEMPT };
        let rebuild = Rebuild { engine: self.engine(), store: &self.store, at, emits, naming };
        let made = rebuild.run(lost).await;
        if made.is_err()
            && let Err(error) = self.writer.discard_attempts(&self.places(&[])).await
        {
            warn!(%error, "could not remove what was written of a state");
        }
        let WrittenState { files, content, segments, closed } = made?;
        let state = SetState {
            files: FileChanges { added: files, replaces_all: true, ..FileChanges::default() },
            content,
            fingerprint: kept::meaning(&loaded, set, emits),
            segments,
            closed,
            ..lost.clone()
        };
        self.commit_state(&set.name, state.clone(), started_at).await?;
        Ok(Some(RebuiltState { set: set.name.clone(), because, state }))
    }

    async fn commit_state(&mut self, set: &str, state: SetState, started_at: i64) -> Result<()> {
        let commit = SetCommit { state: Some(state), ..moves_nothing() };
        let draft = self.writer.draft(ManifestKind::Compaction, started_at);
        let manifest =
            Manifest { committed_at: self.host.now_micros(), sets: [(set.to_owned(), commit)].into(), ..draft };
        let durable = self.files_of(&manifest)?;
        self.progress.phase("committing");
        match self.writer.commit(manifest, &durable).await {
            Ok(committed) => {
                self.committed(committed);
                Ok(())
            }
            Err(error) => {
                let error = self.commit_error(error);
                if let Err(error) = self.writer.discard_attempts(&self.places(&[])).await {
                    warn!(%error, "could not remove what was written of a state");
                }
                Err(error)
            }
        }
    }
}
