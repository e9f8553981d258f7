//! What compaction chooses, tested.

use super::*;
use crate::Claim;

const MINUTE: i64 = 60_000_000;
/// So early that no file has waited for many epochs.
const NEXT: Epoch = Epoch(1);

fn limits() -> MergeLimits {
    MergeLimits { file_bytes: ByteSize(10_000), row_group_rows: 1_000, open_bytes: ByteSize(1 << 20) }
}

fn file(directory: &str, epoch: u64, bytes: u64, rewrites: u8) -> DataFile {
    let name = FileName { epoch: Epoch(epoch), claim: Claim(1), attempt: 0, stream: 0, seq: 0 };
    DataFile { path: format!("{directory}{name}"), rows: bytes, bytes, partition: Vec::new(), rewrites }
}

fn epochs(merge: &Merge) -> Vec<u64> {
    merge.files.iter().filter_map(|file| name(file).map(|name| name.epoch.0)).collect()
}

fn tiers(files: impl IntoIterator<Item = DataFile>) -> Tiers {
    let mut tiers = Tiers::new(limits());
    files.into_iter().for_each(|file| tiers.add(&file, 0));
    tiers
}

#[test]
fn sixty_files_are_merged_at_once_and_fewer_after_a_minute() {
    let mut tiers = tiers((1..60).map(|epoch| file("", epoch, 10, 0)));
    assert_eq!(tiers.due(MINUTE - 1, NEXT), []);
    let [merge] = &tiers.due(MINUTE, NEXT)[..] else { panic!("no merge") };
    assert_eq!((epochs(merge), merge.rewrites), ((1..60).collect(), 1));

    tiers.add(&file("", 60, 10, 0), 1);
    let [merge] = &tiers.due(1, NEXT)[..] else { panic!("no merge") };
    assert_eq!(merge.files.len(), 60);
    // What is merged is gone, and what it became waits for others of its tier.
    let added = vec![file("", 61, 600, 1)];
    tiers.apply(&FileChanges { added, removed: merge.files.clone(), replaces_all: false }, 1);
    assert_eq!(tiers.due(i64::MAX, NEXT), []);
}

#[test]
fn as_many_epochs_are_as_good_as_the_time() {
    let tiers = tiers((10..13).map(|epoch| file("", epoch, 10, 1)));
    assert_eq!(tiers.due(0, Epoch(10 + 3_599)), []);
    assert_eq!(tiers.due(0, Epoch(10 + 3_600)).len(), 1);
    assert_eq!(tiers.due(60 * MINUTE - 1, NEXT), []);
    assert_eq!(tiers.due(60 * MINUTE, NEXT).len(), 1);
}

#[test]
fn what_is_large_or_was_rewritten_often_stays_as_it_is() {
    let large = (1..100).map(|epoch| file("", epoch, 2_500, 0));
    let old = (1..100).map(|epoch| file("", epoch, 10, TIERS));
    let foreign = (1..100).map(|epoch| DataFile { path: format!("{epoch}.parquet"), ..file("", epoch, 10, 0) });
    let mut all = tiers(large.chain(old).chain(foreign));
    all.add(&file("", 100, 10, 0), 0);
    assert_eq!(all.due(i64::MAX, NEXT), []);
}

#[test]
fn enough_bytes_for_a_file_are_merged_and_no_more_than_that() {
    let tiers = tiers((1..20).map(|epoch| file("", epoch, 1_500, 1)));
    let [merge] = &tiers.due(1, NEXT)[..] else { panic!("no merge") };
    assert_eq!((epochs(merge), merge.rewrites), ((1..=7).collect(), 2));
}

#[test]
fn each_partition_is_merged_by_itself_and_a_step_has_an_end() {
    let partition = |at: u64| (1..=60).map(move |epoch| file(&format!("day={at:03}/"), epoch, 10, 0));
    let tiers = tiers((0..100).flat_map(partition));
    let step = tiers.due(0, NEXT);
    assert_eq!(step.len(), STEP.0 / 60);
    for merge in step {
        let directories: std::collections::BTreeSet<_> = merge.files.iter().map(|file| directory(&file.path)).collect();
        assert_eq!((directories.len(), merge.files.len()), (1, 60));
    }
}

#[test]
fn no_more_is_open_than_fits_into_memory() {
    let limits = MergeLimits { open_bytes: ByteSize(5_000), ..limits() };
    let small: Vec<_> = (1..9).map(|epoch| file("", epoch, 1_000, 0)).collect();
    assert_eq!(limits.on_demand(&small)[0].files.len(), 5);
    // Of a file with many row groups one is open at a time.
    let row_groups: Vec<_> = (1..9).map(|epoch| file("", epoch, 4_000, 0)).collect();
    assert_eq!(limits.on_demand(&row_groups)[0].files.len(), 5);
    let wide = MergeLimits { open_bytes: ByteSize(1), ..limits };
    assert_eq!(wide.on_demand(&small)[0].files.len(), 2);
}

#[test]
fn on_demand_all_small_files_are_merged_older_rows_first_until_one_is_left() {
    let files =
        [file("", 3, 10, 0), file("", 9, 10, 1), file("", 4, 9_999, 0), file("", 8, 10, 2), file("", 1, 10_000, 0)];
    let merges = limits().on_demand(&files);
    assert_eq!(epochs(&merges[0]), [8, 9, 3, 4]);
    assert_eq!((merges.len(), merges[0].rewrites), (1, 3));
    assert_eq!(limits().on_demand(&files[3..]), []);
}
