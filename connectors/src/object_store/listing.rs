//! What is new since the objects that were read: one listing, sorted, merged with the sorted history.

use std::sync::Arc;

use bessemer_schemas::{ObjectVersion, SliceLimits};
use futures::stream::{BoxStream, StreamExt, TryStreamExt};

use super::options::OnChange;
use super::pinned::PinnedObject;
use super::spill::{RUN_LENGTH, Sorted, Sorter, SpillQueue};
use crate::formats::parquet;
use crate::{Error, Location, Result};

/// Changed objects that are taken at once.
const CHANGED_AT_ONCE: usize = 1_000;

/// The objects of a source that were not read yet, in path order, and those that changed after they were.
#[derive(Debug)]
pub struct Listing {
    new: SpillQueue,
    changed: SpillQueue,
    remaining_objects: u64,
    remaining_bytes: u64,
    rows: Option<RowCounts>,
}

/// Where the number of rows of an object is found before it is read.
#[derive(Debug)]
struct RowCounts {
    source: Arc<str>,
    location: Location,
}

impl Listing {
    /// Merges what was `found` with what is `known`, both in path order.
    pub(super) async fn merge(
        source: &Arc<str>,
        mut found: Sorted,
        known: BoxStream<'static, Result<ObjectVersion>>,
        on_change: OnChange,
    ) -> Result<Self> {
        let mut known = known.peekable();
        let mut listing = Self {
            new: SpillQueue::new(RUN_LENGTH),
            changed: SpillQueue::new(RUN_LENGTH),
            remaining_objects: 0,
            remaining_bytes: 0,
            rows: None,
        };
        while let Some(version) = found.next()? {
            match standing(&version, &mut known).await? {
                Standing::New => {
                    listing.remaining_objects += 1;
                    listing.remaining_bytes += version.size;
                    listing.new.push(version)?;
                }
                Standing::Read => {}
                Standing::Changed if on_change == OnChange::Fail => {
                    return Err(Error::Changed { name: source.to_string(), path: version.path });
                }
                Standing::Changed => listing.changed.push(version)?,
            }
        }
        Ok(listing)
    }

    /// Lets slices be bounded by rows too: the number of rows is in the footer of each object.
    pub(super) fn count_rows(mut self, source: &Arc<str>, location: &Location) -> Self {
        self.rows = Some(RowCounts { source: Arc::clone(source), location: location.clone() });
        self
    }

    /// Takes the next objects within `limits`, which are lowered by what was taken; at least one, if there is one.
    pub async fn next_slice(&mut self, limits: &mut SliceLimits) -> Result<Vec<ObjectVersion>> {
        let mut taken = Vec::new();
        while let Some(version) = self.new.front()? {
            let fits = limits.files > 0 && limits.bytes >= version.size && limits.rows > 0;
            if !taken.is_empty() && !fits {
                break;
            }
            let (size, version) = (version.size, version.clone());
            if limits.rows != u64::MAX
                && let Some(counts) = &self.rows
            {
                let rows = counts.of(&version).await?;
                if !taken.is_empty() && rows > limits.rows {
                    break;
                }
                limits.rows = limits.rows.saturating_sub(rows);
            }
            limits.files = limits.files.saturating_sub(1);
            limits.bytes = limits.bytes.saturating_sub(size);
            self.remaining_objects -= 1;
            self.remaining_bytes -= size;
            taken.extend(self.new.pop_front());
        }
        Ok(taken)
    }

    /// Takes the next objects that changed after they were read and are ignored (`on_change = 'ignore'`), in path order: as
    /// many as one manifest should name.
    pub fn next_changed(&mut self) -> Result<Vec<ObjectVersion>> {
        let mut taken = Vec::new();
        while taken.len() < CHANGED_AT_ONCE && self.changed.front()?.is_some() {
            taken.extend(self.changed.pop_front());
        }
        Ok(taken)
    }

    /// Objects that no slice has taken yet.
    pub fn remaining_objects(&self) -> u64 {
        self.remaining_objects
    }

    /// Their bytes as stored.
    pub fn remaining_bytes(&self) -> u64 {
        self.remaining_bytes
    }
}

impl RowCounts {
    /// Rows of one object. An object that cannot be read counts none: reading it will say why.
    async fn of(&self, version: &ObjectVersion) -> Result<u64> {
        let object = PinnedObject::open(&self.source, &self.location, version).await?;
        match parquet::footer(&object).await {
            Ok(footer) => Ok(footer.file_metadata().num_rows().unsigned_abs()),
            Err(Error::BadFile { .. }) => Ok(0),
            Err(error) => Err(error),
        }
    }
}

/// Sorts a listing.
pub(super) async fn sorted(found: BoxStream<'static, Result<ObjectVersion>>) -> Result<Sorted> {
    sorted_in_runs(found, RUN_LENGTH).await
}

async fn sorted_in_runs(mut found: BoxStream<'static, Result<ObjectVersion>>, run_length: usize) -> Result<Sorted> {
    let mut sorter = Sorter::new(run_length);
    while let Some(version) = found.try_next().await? {
        sorter.push(version)?;
    }
    sorter.finish()
}

enum Standing {
    New,
    Read,
    Changed,
}

type Known = futures::stream::Peekable<BoxStream<'static, Result<ObjectVersion>>>;

/// What `version` is to the history. The history may hold a path twice: as it was read, and as it was ignored later.
async fn standing(version: &ObjectVersion, known: &mut Known) -> Result<Standing> {
    let mut standing = Standing::New;
    let mut known = std::pin::Pin::new(known);
    loop {
        match known.as_mut().peek().await {
            Some(Ok(read)) if read.path > version.path => return Ok(standing),
            None => return Ok(standing),
            Some(_) => {}
        }
        let Some(read) = known.as_mut().next().await.transpose()? else { return Ok(standing) };
        if read.path == version.path {
            let is_read = read.is_same_version(version) || matches!(standing, Standing::Read);
            standing = if is_read { Standing::Read } else { Standing::Changed };
        }
    }
}

#[cfg(test)]
mod tests;
