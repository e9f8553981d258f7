//! Folding the manifests after the base into a new base.

use std::collections::BTreeSet;

use bessemer_schemas::Base;

use super::block::BlockWriter;
use super::history::{self, FileOwner, History};
use super::layout::BLOCKS;
use crate::Result;

/// Everything that `history` knows, as one base. Writes only the blocks that something is new in.
pub(super) async fn fold(history: &History, blocks: &BlockWriter) -> Result<Base> {
    let old = history.base();
    let mut base = Base {
        through: history.newest().map_or(old.through, |newest| newest.epoch),
        floor: old.floor,
        slices: blocks.merge(BLOCKS, &old.slices, history.recent_slice_blocks()).await?,
        objects: old.objects.clone(),
        offsets: old.offsets.clone(),
        ignored: old.ignored.clone(),
        bad_records: old.bad_records.clone(),
        tables: history.table_versions(),
        listings: history.listings(),
        sources: history.source_totals(),
        sets: history.set_totals(),
        inputs: history.inputs(),
        states: history.states(),
        emitted_at: history.emitted_at(),
        watermarks: history.watermarks(),
        failure: history.last_failure().cloned(),
        ..Base::default()
    };

    let sources: BTreeSet<&String> =
        history.recent().iter().flat_map(|manifest| manifest.slice.sources.keys()).collect();
    for source in sources {
        let offsets = history.ranges_read(source);
        if !offsets.is_empty() {
            base.offsets.insert(source.clone(), offsets);
        }
        let bad_records = history.bad_records(source);
        if bad_records.is_empty() {
            base.bad_records.remove(source);
        } else {
            base.bad_records.insert(source.clone(), bad_records);
        }
        let read = history::objects_of(history.location(), history.slices(source)).await?;
        let ignored = history::ignored_of(history.slices(source));
        for (new, old, base) in [(read, &old.objects, &mut base.objects), (ignored, &old.ignored, &mut base.ignored)] {
            let old = old.get(source).map_or(&[][..], Vec::as_slice);
            let merged = blocks.merge(BLOCKS, old, new).await?;
            if !merged.is_empty() {
                base.insert(source.clone(), merged);
            }
        }
    }

    for owner in history.owners() {
        let (files, name) = match &owner {
            FileOwner::Set(name) => (&mut base.files, name.clone()),
            FileOwner::SetQuarantine(name) => (&mut base.quarantine, format!("set:{name}")),
            FileOwner::SourceQuarantine(name) => (&mut base.quarantine, format!("source:{name}")),
            // The base names its files itself.
            FileOwner::SetState(_) => continue,
        };
        let live = history.live(&owner);
        let merged = blocks.merge(BLOCKS, live.blocks, live.recent).await?;
        if !merged.is_empty() {
            files.insert(name, merged);
        }
    }
    Ok(base)
}
