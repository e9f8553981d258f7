//! Sets that emit rows once they are final: what they had kept before an epoch. It is made anew for the first epoch that is
//! verified; from there on each one gives what the next needs.

use std::collections::BTreeMap;

use bessemer_connectors::manifest_store::History;
use bessemer_schemas::{Epoch, Manifest, SetCommit, SetState, Watermark};
use bessemer_transforms::Emits;

use super::{Skip, Verifier};
use crate::error::{Error, Result};
use crate::run::absorb::WrittenState;
use crate::run::emission::{Emission, limit};
use crate::run::epoch::Naming;
use crate::run::rebuild::{FIRST_ATTEMPT, Rebuild, delete_replaced, watermarks_of};

/// Where a pipeline was before an epoch.
pub(super) struct Before {
    watermarks: BTreeMap<String, Watermark>,
    states: BTreeMap<String, SetState>,
    /// What was made of them, by the set's number in the plan.
    kept: BTreeMap<usize, Kept>,
    /// Why it cannot be made, of sets that need everything since an epoch: the same is gone for all later epochs.
    gone: BTreeMap<usize, (Epoch, String)>,
}

/// A state in the folder of the verification.
struct Kept {
    /// Of which epochs it is.
    since: Epoch,
    through: Epoch,
    state: WrittenState,
}

impl Before {
    /// Before the epoch that `history` lacks.
    pub(super) fn new(history: &History) -> Self {
        Self {
            watermarks: history.watermarks(),
            states: history.states(),
            kept: BTreeMap::new(),
            gone: BTreeMap::new(),
        }
    }

    /// After that of `manifest`.
    pub(super) fn pass(&mut self, manifest: &Manifest) {
        self.watermarks.extend(manifest.watermarks.clone());
        for (name, commit) in &manifest.sets {
            if let Some(state) = &commit.state {
                self.states.insert(name.clone(), state.clone());
            } else if commit.files.replaces_all {
                self.states.remove(name);
            }
        }
    }
}

impl Verifier<'_> {
    /// What the set at `at` emits in the epoch of `manifest`.
    pub(super) async fn emission(
        &self,
        before: &mut Before,
        manifest: &Manifest,
        at: usize,
        emits: &dyn Emits,
    ) -> Result<Result<Emission, Skip>> {
        let set = &self.loaded.plan.sets[at];
        let limit = limit(emits, &watermarks_of(manifest, &before.watermarks))?;
        let since = manifest.sets.get(&set.name).and_then(|commit| Some(commit.state.as_ref()?.since));
        let state = before.states.get(&set.name).filter(|state| Some(state.since) == since);
        let Some(state) = state.filter(|_| since != Some(manifest.epoch)) else {
            self.drop_kept(before, at).await?;
            return Ok(Ok(Emission::beginning(limit)));
        };
        if let Some((_, why)) = before.gone.get(&at).filter(|(since, _)| *since == state.since) {
            return Ok(Err(Skip(why.clone())));
        }
        let is_it = |kept: &Kept| (kept.since, kept.through) == (state.since, state.through);
        if !before.kept.get(&at).is_some_and(is_it) {
            let naming = Naming { epoch: manifest.epoch, claim: manifest.claim, attempt: FIRST_ATTEMPT };
            let rebuild = Rebuild { engine: self.engine(), store: self.store, at, emits, naming };
            let (since, through) = (state.since, state.through);
            let made = match rebuild.run(state).await {
                Ok(state) => Kept { since, through, state },
                Err(Error::NotRebuilt { why, .. }) => {
                    if (0..emits.states().len()).any(|input| emits.depends_on_others(input)) {
                        before.gone.insert(at, (since, why.clone()));
                    }
                    return Ok(Err(Skip(why)));
                }
                Err(error) => return Err(error),
            };
            self.drop_kept(before, at).await?;
            before.kept.insert(at, made);
        }
        let kept = before.kept.get(&at).map(|kept| Emission::going_on(&self.loaded, set, emits, &kept.state, limit));
        Ok(Ok(kept.unwrap_or_else(|| Emission::beginning(limit))))
    }

    /// Takes the `state` that an epoch has made for the next one.
    pub(super) async fn keep(
        &self,
        before: &mut Before,
        commit: &SetCommit,
        at: usize,
        state: WrittenState,
    ) -> Result<()> {
        let Some(then) = &commit.state else { return Ok(()) };
        if let Some(old) = before.kept.remove(&at) {
            self.delete_state(at, &old.state, &state).await?;
        }
        before.kept.insert(at, Kept { since: then.since, through: then.through, state });
        Ok(())
    }

    async fn drop_kept(&self, before: &mut Before, at: usize) -> Result<()> {
        let Some(old) = before.kept.remove(&at) else { return Ok(()) };
        self.delete_state(at, &old.state, &WrittenState::of_segments(Vec::new(), None)).await
    }

    async fn delete_state(&self, at: usize, old: &WrittenState, new: &WrittenState) -> Result<()> {
        let (state, set) = (&self.loaded.parsed.settings.state, &self.loaded.plan.sets[at].name);
        delete_replaced(state, set, &old.files, &new.files).await
    }
}
