//! Whether what sets have kept for rows to come can be gone on with.

use bessemer_connectors::manifest_store::{History, ManifestStore};
use bessemer_connectors::sink::StateFiles;
use bessemer_schemas::{DataFile, DefinitionDigest, Digest, Segment, SetState};
use bessemer_transforms::{Emits, PlannedSet};
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use futures::FutureExt;

use super::{carry, fingerprint};
use crate::error::{Error, Result};
use crate::load::Loaded;

/// What there is to say of a state that is not as it was, or not what it was.
#[derive(Debug)]
pub(super) enum Unfit {
    /// It is of another definition, and given up, as the user said.
    GivenUp,
    /// It cannot be gone on with, and why.
    Lost(&'static str),
}

/// Looks at the states of the sets that emit rows once they are final, and says which of them are of another definition; an
/// error where one is lost.
pub(super) async fn check(loaded: &Loaded, history: &History, store: &ManifestStore) -> Result<Vec<String>> {
    let mut given_up = Vec::new();
    for (at, unfit) in unfit(loaded, history, store).await? {
        let name = &loaded.plan.sets[at].name;
        match unfit {
            Unfit::GivenUp => given_up
                .push(format!("what `{name}` has kept for rows to come is given up: it is of another definition")),
            Unfit::Lost(why) => return Err(Error::StateLost { set: name.clone(), why: why.to_owned() }),
        }
    }
    Ok(given_up)
}

/// The sets, by their numbers in the plan, whose states are not what was written, or do not mean what they meant.
pub(super) async fn unfit(loaded: &Loaded, history: &History, store: &ManifestStore) -> Result<Vec<(usize, Unfit)>> {
    let states = history.states();
    let mut all = Vec::new();
    for (at, set) in loaded.plan.sets.iter().enumerate() {
        let (Some(emits), Some(state)) = (set.emits(), states.get(&set.name)) else { continue };
        if let Some(unfit) = look(loaded, set, emits, state, store).boxed().await? {
            all.push((at, unfit));
        }
    }
    Ok(all)
}

async fn look(
    loaded: &Loaded,
    set: &PlannedSet,
    emits: &dyn Emits,
    state: &SetState,
    store: &ManifestStore,
) -> Result<Option<Unfit>> {
    if state.fingerprint != meaning(loaded, set, emits) {
        // The definition that the state was made under, whatever claimed the pipeline since.
        let then = store.read(state.through).await?.definition;
        let is_redefined = is_redefined(loaded, set, &then);
        let lost = Unfit::Lost("it is of another version of the program or its engine");
        return Ok(Some(if is_redefined { Unfit::GivenUp } else { lost }));
    }
    for (segment, files) in segments(&state.segments, &state.files.added) {
        let schema = SchemaRef::new(Schema::empty());
        let files = StateFiles::new(&loaded.parsed.settings.state, &set.name, files.to_vec(), schema);
        if let Some(why) = carry::damage(&files, &segment.content).await? {
            return Ok(Some(Unfit::Lost(why)));
        }
    }
    Ok(None)
}

/// Whether the set or what it reads is not what it was.
fn is_redefined(loaded: &Loaded, set: &PlannedSet, before: &DefinitionDigest) -> bool {
    let now = fingerprint::definition(loaded);
    let plan = |of: &DefinitionDigest| of.sets.get(&set.name).map(|set| (set.plan.clone(), set.columns.clone()));
    let read = |of: &DefinitionDigest, name: &String| {
        of.sources.get(name).map(|source| (source.columns.clone(), source.decoding.clone()))
    };
    let mut names = set.sources.keys().chain(set.tables.keys());
    plan(before) != plan(&now) || names.any(|name| read(before, name) != read(&now, name))
}

/// The fingerprint of what a set keeps now.
pub(super) fn meaning(loaded: &Loaded, set: &PlannedSet, emits: &dyn Emits) -> Digest {
    carry::fingerprint(loaded, set, emits.tables(), &emits.signature())
}

/// Whether a state means what one means now, but for the version of the `engine` that made it: then times in it are in the
/// same ticks.
pub(super) fn means_the_same(
    loaded: &Loaded,
    set: &PlannedSet,
    emits: &dyn Emits,
    state: &SetState,
    engine: &str,
) -> bool {
    state.fingerprint == carry::fingerprint_of(engine, loaded, set, emits.tables(), &emits.signature())
}

/// Segments, each with its files.
pub(super) fn segments<'a>(
    segments: &'a [Segment],
    mut files: &'a [DataFile],
) -> impl Iterator<Item = (&'a Segment, &'a [DataFile])> {
    segments.iter().map(move |segment| {
        let (own, rest) = files.split_at_checked(segment.files as usize).unwrap_or((files, &[]));
        files = rest;
        (segment, own)
    })
}
