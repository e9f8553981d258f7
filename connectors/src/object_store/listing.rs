//! What is new since the objects that were read: one listing, sorted, merged with the sorted history.

use std::collections::VecDeque;
use std::sync::Arc;

use bessemer_schemas::{ObjectVersion, SliceLimits};
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};

use super::footers::Footers;
use super::options::OnChange;
use super::spill::{RUN_LENGTH, Sorted, Sorter, SpillQueue};
use crate::{Error, Result};

/// Changed objects that are taken at once.
const CHANGED_AT_ONCE: usize = 1_000;

/// Footers are read ahead once no more objects than these are left: a first slice does not wait for those of a million.
const LOOKED_AHEAD: u64 = 10_000;

/// Footers that are read at once.
const FOOTERS_AT_ONCE: usize = 16;

/// The objects of a source that were not read yet, in path order, and those that changed after they were.
#[derive(Debug)]
pub struct Listing {
    new: SpillQueue,
    changed: SpillQueue,
    remaining_objects: u64,
    remaining_bytes: u64,
    /// Of Parquet.
    footers: Option<Footers>,
    /// For each new object, once that was asked for: a time that no row of it and of those after it is older than, where
    /// that is known.
    oldest_from: Option<VecDeque<Option<i64>>>,
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
            footers: None,
            oldest_from: None,
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

    /// Lets slices be bounded by rows too, and tell how old the rows of the rest are.
    pub(super) fn with_footers(mut self, footers: Footers) -> Self {
        self.footers = Some(footers);
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
                && let Some(footers) = &self.footers
            {
                let rows = footers.rows(&version).await?;
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
            self.oldest_from.as_mut().and_then(VecDeque::pop_front);
        }
        Ok(taken)
    }

    /// A time that no row is older than of the objects that no slice has taken, in microseconds since 1970, UTC: as their
    /// statistics have it, `i64::MAX` where there are none left. `None` where that is not known: the format has no
    /// statistics, an object lacks them or cannot be read, or there are too many objects to look.
    pub async fn oldest_unread(&mut self) -> Result<Option<i64>> {
        if self.remaining_objects == 0 {
            return Ok(Some(i64::MAX));
        }
        let Some(footers) = self.footers.as_ref().filter(|footers| footers.tell_event_time()) else { return Ok(None) };
        if self.oldest_from.is_none() && self.remaining_objects <= LOOKED_AHEAD {
            let reads: Vec<_> = self.new.load()?.iter().map(|version| footers.oldest(version)).collect();
            let mut oldest: VecDeque<_> = stream::iter(reads).buffered(FOOTERS_AT_ONCE).collect().await;
            let mut of_rest = Some(i64::MAX);
            for oldest in oldest.iter_mut().rev() {
                of_rest = oldest.zip(of_rest).map(|(own, rest)| own.min(rest));
                *oldest = of_rest;
            }
            self.oldest_from = Some(oldest);
        }
        Ok(self.oldest_from.as_ref().and_then(|oldest| *oldest.front()?))
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

type Known = stream::Peekable<BoxStream<'static, Result<ObjectVersion>>>;

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
