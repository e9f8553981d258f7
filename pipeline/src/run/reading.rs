//! Which parts of a log the sets of one epoch read: some all that was ever read of it, others what is new to them.
//!
//! The epoch has one list of parts, by whose numbers it is told what became of their records.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use bessemer_connectors::manifest_store::{History, ManifestStore};
use bessemer_connectors::scan::{ScanInput, ScanObject, ScanOffsets};
use bessemer_schemas::{ObjectVersion, Slice};
use futures::TryStreamExt;

use super::carry;
use crate::error::Result;

/// What one set reads of a log, beside what is new in it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Before<'a> {
    /// All that was read before.
    Everything,
    /// What these slices hold.
    Since(&'a [Slice]),
}

/// Numbers of parts, where these are not all.
pub(super) type Numbers = Option<Arc<[u32]>>;

/// The parts of an epoch's log.
#[derive(Debug)]
pub(super) struct Parts {
    /// All of them.
    pub(super) input: ScanInput,
    /// Those that each reader reads.
    pub(super) of: Vec<Numbers>,
}

/// The parts of the log `name` that its `readers` read; `new` is what is new in it.
pub(super) async fn parts(
    name: &str,
    new: Option<ScanInput>,
    readers: &[Before<'_>],
    history: &History,
    store: &ManifestStore,
) -> Result<Parts> {
    let is_of_topics = !history.offsets_read(name).is_empty();
    match new {
        Some(ScanInput::Offsets(new)) => offsets(name, &new, readers, history),
        None if is_of_topics => offsets(name, &[], readers, history),
        Some(ScanInput::Objects(new)) => objects(name, &new, readers, history, store).await,
        _ => objects(name, &[], readers, history, store).await,
    }
}

async fn objects(
    name: &str,
    new: &[ScanObject],
    readers: &[Before<'_>],
    history: &History,
    store: &ManifestStore,
) -> Result<Parts> {
    let with_new = |mut objects: Vec<ScanObject>| {
        objects.extend(new.iter().cloned());
        objects.sort_by(|left, right| left.version.path.cmp(&right.version.path));
        objects
    };
    let mut everything = None;
    let mut lists = Vec::with_capacity(readers.len());
    for before in readers {
        let list = match before {
            Before::Since(slices) => Some(with_new(carry::objects(slices, name, store).await?)),
            Before::Everything => None,
        };
        if list.is_none() && everything.is_none() {
            let read: Vec<ObjectVersion> = history.objects_read(name).try_collect().await?;
            let read = read.into_iter().map(|version| ScanObject { version, is_new: false });
            everything = Some(with_new(read.collect()));
        }
        lists.push(list);
    }
    let (all, of) = united(everything, lists, |object| (object.version.path.clone(), object.is_new));
    Ok(Parts { input: ScanInput::Objects(all.into()), of })
}

fn offsets(name: &str, new: &[ScanOffsets], readers: &[Before<'_>], history: &History) -> Result<Parts> {
    let with_new = |mut ranges: Vec<ScanOffsets>| {
        ranges.extend(new.iter().cloned());
        ranges.sort_by(|left, right| left.range.cmp(&right.range));
        ranges
    };
    let lists = readers.iter().map(|before| match before {
        Before::Everything => Ok(None),
        Before::Since(slices) => Ok(Some(with_new(carry::offsets(slices, name)?))),
    });
    let lists = lists.collect::<Result<Vec<_>>>()?;
    let everything = lists.iter().any(Option::is_none).then(|| {
        let read = history.ranges_read(name).into_iter().map(|range| ScanOffsets { range, is_new: false });
        with_new(read.collect())
    });
    let (all, of) = united(everything, lists, |offsets| (offsets.range.clone(), offsets.is_new));
    Ok(Parts { input: ScanInput::Offsets(all.into()), of })
}

/// One list with the parts of `everything` and then those of `lists` that it lacks, each once; where in it the parts of
/// each list are. A list that is missing is that of `everything`.
fn united<T: Clone, K: Hash + Eq>(
    everything: Option<Vec<T>>,
    lists: Vec<Option<Vec<T>>>,
    key: impl Fn(&T) -> K,
) -> (Vec<T>, Vec<Numbers>) {
    let mut all = Vec::new();
    let mut known: HashMap<K, u32> = HashMap::new();
    let mut numbers_of = |list: Vec<T>| -> Vec<u32> {
        let number = |part: T| {
            *known.entry(key(&part)).or_insert_with(|| {
                all.push(part);
                u32::try_from(all.len() - 1).unwrap_or(u32::MAX)
            })
        };
        list.into_iter().map(number).collect()
    };
    let everything = numbers_of(everything.unwrap_or_default());
    let numbers: Vec<_> =
        lists.into_iter().map(|list| list.map_or_else(|| everything.clone(), &mut numbers_of)).collect();
    let is_all = |numbers: &[u32]| numbers.iter().copied().eq(0..u32::try_from(all.len()).unwrap_or(u32::MAX));
    let of = numbers.iter().map(|numbers| (!is_all(numbers)).then(|| Arc::from(numbers.as_slice())));
    let of = of.collect();
    (all, of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reader_finds_its_parts_in_its_order_and_each_is_there_once() {
        let numbers = |list: &[u32]| Some(Arc::from(list));
        let (all, of) =
            united(Some(vec!["a", "b", "c"]), vec![None, Some(vec!["c"]), Some(vec!["bc", "c"])], |part| *part);
        assert_eq!(all, ["a", "b", "c", "bc"]);
        assert_eq!(of, [numbers(&[0, 1, 2]), numbers(&[2]), numbers(&[3, 2])]);
        let (all, of) = united(None, vec![Some(vec!["c"]), Some(vec!["c"])], |part| *part);
        assert_eq!((all, of), (vec!["c"], vec![None, None]));
        let (all, of) = united(None, vec![Some(vec!["c"]), Some(vec!["b", "c"])], |part| *part);
        assert_eq!((all, of), (vec!["c", "b"], vec![numbers(&[0]), numbers(&[1, 0])]));
    }
}
