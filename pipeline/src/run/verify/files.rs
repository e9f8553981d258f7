//! Whether files are the same in two places.

use std::collections::BTreeSet;

use bessemer_connectors::Location;
use bessemer_connectors::manifest_store::History;
use bessemer_connectors::sink::{QuarantineOwner, quarantine_location};
use bessemer_schemas::DataFile;
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStoreExt;

use super::Verifier;
use crate::error::{Error, Result};
use crate::output::{count, plural};

/// Which files, by the set's number in the plan.
#[derive(Clone, Copy)]
pub(super) enum FilesOf {
    Set(usize),
    Quarantine(usize),
}

impl FilesOf {
    fn at(self) -> usize {
        let (Self::Set(at) | Self::Quarantine(at)) = self;
        at
    }

    fn what(self) -> &'static str {
        match self {
            Self::Set(_) => "rows",
            Self::Quarantine(_) => "quarantine",
        }
    }
}

impl Verifier<'_> {
    /// What is other in files than it was, if anything is.
    pub(super) async fn compare_files(
        &self,
        of: FilesOf,
        committed: &[DataFile],
        made: &[DataFile],
        files_compared: &mut u64,
    ) -> Result<Option<String>> {
        let what = of.what();
        let rows = |files: &[DataFile]| files.iter().map(|file| file.rows).sum::<u64>();
        if rows(committed) != rows(made) || committed.len() != made.len() {
            return Ok(Some(format!(
                "{what}: {} of {} now, {} of {} then",
                plural(made.len() as u64, "file"),
                plural(rows(made), "row"),
                plural(committed.len() as u64, "file"),
                plural(rows(committed), "row")
            )));
        }
        let live = self.live(of, self.history).await?;
        let original = self.place(of, &self.state, &self.committed[of.at()]);
        let (parsed, at) = (&self.loaded.parsed, of.at());
        let again = self.place(of, &parsed.settings.state, &parsed.sets[at].location);
        for (committed, made) in committed.iter().zip(made) {
            let path = &committed.path;
            if (&made.path, made.rows, made.bytes) != (path, committed.rows, committed.bytes) {
                return Ok(Some(format!(
                    "{what}: `{}` has {} in {} bytes now, `{path}` had {} in {}, unless options of its files were changed since",
                    made.path,
                    plural(made.rows, "row"),
                    count(made.bytes),
                    count(committed.rows),
                    count(committed.bytes)
                )));
            }
            match same_bytes(&original, &again, path).await? {
                Some(true) => *files_compared += 1,
                Some(false) => {
                    return Ok(Some(format!(
                        "{what}: `{path}` has other bytes, unless options of its files were changed since"
                    )));
                }
                None if live.contains(path) && self.is_still_live(of, path).await? => {
                    return Ok(Some(format!("{what}: `{path}` is gone")));
                }
                // It was merged with others.
                None => {}
            }
        }
        Ok(None)
    }

    /// The files that are in force, as a history has it.
    async fn live(&self, of: FilesOf, history: &History) -> Result<BTreeSet<String>> {
        let name = &self.loaded.plan.sets[of.at()].name;
        let live = match of {
            FilesOf::Set(_) => history.live_files(name),
            FilesOf::Quarantine(_) => history.quarantine_files(&format!("set:{name}")),
        };
        Ok(live.map_ok(|file| file.path).try_collect().await?)
    }

    /// Whether a file that was in force still is: a daemon that goes on meanwhile merges files, and deletes what it has
    /// merged.
    async fn is_still_live(&self, of: FilesOf, path: &str) -> Result<bool> {
        Ok(self.live(of, &self.store.history().await?).await?.contains(path))
    }

    /// Where files are, of two places for the state and for a set.
    pub(super) fn place(&self, of: FilesOf, state: &Location, set: &Location) -> Location {
        match of {
            FilesOf::Set(_) => set.clone(),
            FilesOf::Quarantine(at) => {
                quarantine_location(state, QuarantineOwner::Set(&self.loaded.plan.sets[at].name))
            }
        }
    }
}

/// Whether a file is the same in two places; nothing if the first has it no more.
async fn same_bytes(first: &Location, second: &Location, path: &str) -> Result<Option<bool>> {
    let open = async |at: &Location| -> Result<_, object_store::Error> { at.store().get(&at.path(path)).await };
    let opened = match open(first).await {
        Err(object_store::Error::NotFound { .. }) => return Ok(None),
        opened => opened.map_err(|error| store_error(first, error))?,
    };
    let again = open(second).await.map_err(|error| store_error(second, error))?;
    let (mut left, mut right) = (opened.into_stream(), again.into_stream());
    let (mut ahead, mut behind) = (bytes::Bytes::new(), bytes::Bytes::new());
    loop {
        for (have, from, at) in [(&mut ahead, &mut left, first), (&mut behind, &mut right, second)] {
            while have.is_empty()
                && let Some(more) = from.next().await
            {
                *have = more.map_err(|error| store_error(at, error))?;
            }
        }
        let length = ahead.len().min(behind.len());
        if length == 0 {
            return Ok(Some(ahead.len() == behind.len()));
        }
        if ahead.split_to(length) != behind.split_to(length) {
            return Ok(Some(false));
        }
    }
}

pub(super) fn store_error(at: &Location, error: object_store::Error) -> Error {
    bessemer_connectors::Error::store(at.as_text(), error).into()
}
