//! Which partition reads what: contiguous pieces of the slice, assigned by size alone, so that draining the partitions in
//! order gives the rows in order of their identity, whatever their number.

use std::ops::Range;

use crate::scan::ScanObject;

/// Smaller Parquet files are not read in pieces: each piece reads the footer again.
const SPLIT_SIZE: u64 = 4 << 20;

/// A part of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    /// Index of the object in the slice.
    pub(super) object: usize,
    /// Bytes: the row groups that begin here belong to the piece. The whole object, if it is not split.
    pub(super) bytes: Range<u64>,
}

impl Piece {
    /// Whether it is the one that counts its object.
    pub(super) fn is_first(&self) -> bool {
        self.bytes.start == 0
    }
}

/// Cuts a slice into at most `partitions` lists of pieces; none of them is empty, unless there is no object at all.
pub(super) fn partitioned(objects: &[ScanObject], partitions: usize, can_split: bool) -> Vec<Vec<Piece>> {
    // An empty object still costs an opening.
    let weights: Vec<u64> = objects.iter().map(|object| object.version.size.max(1)).collect();
    let total: u128 = weights.iter().map(|weight| u128::from(*weight)).sum();
    let partitions = partitions.max(1);
    let mut assigned = vec![Vec::new(); partitions];
    let partition_of = |byte: u128| -> usize {
        let partition = byte * partitions as u128 / total.max(1);
        usize::try_from(partition).unwrap_or(0).min(partitions - 1)
    };

    let mut before: u128 = 0;
    for (object, weight) in weights.iter().enumerate() {
        let size = objects[object].version.size;
        if can_split && size >= SPLIT_SIZE {
            let (first, last) = (partition_of(before), partition_of(before + u128::from(size) - 1));
            let mut start = 0;
            for (partition, pieces) in assigned.iter_mut().enumerate().take(last + 1).skip(first) {
                let end = cut(partition, partitions, total, before, size);
                if end > start {
                    pieces.push(Piece { object, bytes: start..end });
                    start = end;
                }
            }
        } else {
            let middle = before + u128::from(weight / 2);
            assigned[partition_of(middle)].push(Piece { object, bytes: 0..size.max(1) });
        }
        before += u128::from(*weight);
    }
    assigned.retain(|pieces| !pieces.is_empty());
    assigned
}

/// The end of a partition's piece of an object that begins at `before` and has `size` bytes.
fn cut(partition: usize, partitions: usize, total: u128, before: u128, size: u64) -> u64 {
    if partition + 1 == partitions {
        return size;
    }
    let end = ((partition as u128 + 1) * total).div_ceil(partitions as u128);
    u64::try_from(end.saturating_sub(before)).unwrap_or(size).min(size)
}

#[cfg(test)]
mod tests {
    use bessemer_schemas::ObjectVersion;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pieces_cover_the_slice_in_order(
            sizes in prop::collection::vec(prop_oneof![Just(0), 0..100_u64, 1_000_000..50_000_000_u64], 0..20),
            partitions in 1..9_usize,
            can_split in any::<bool>(),
        ) {
            let objects: Vec<_> = sizes
                .iter()
                .map(|size| {
                    let version = ObjectVersion { path: String::new(), size: *size, modified: 0, etag: None, late_before: None };
                    ScanObject { version, is_new: true }
                })
                .collect();
            let assigned = partitioned(&objects, partitions, can_split);
            prop_assert!(assigned.len() <= partitions);
            let pieces: Vec<_> = assigned.concat();
            let (mut object, mut byte) = (0, 0);
            for piece in &pieces {
                prop_assert_eq!((piece.object, piece.bytes.start), (object, byte));
                prop_assert!(piece.bytes.end > piece.bytes.start);
                byte = piece.bytes.end;
                if byte >= sizes[object] {
                    (object, byte) = (object + 1, 0);
                }
            }
            prop_assert_eq!(object, sizes.len());
        }
    }
}
