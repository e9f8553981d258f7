//! Rows that are late, and partitions that are idle and wake: which rows are in the sets is what the manifests say of the
//! watermarks, whatever happens to the processes.

use std::collections::BTreeMap;
use std::sync::Arc;

use bessemer_connectors::manifest_store::{FileOwner, History};
use bessemer_schemas::{Epoch, SetCommit, SourceSlice, Watermark};
use futures::TryStreamExt;
use rand::Rng;

use super::pipeline::{Mode, NUMBERS_AGAIN, NUMBERS_SEEN, Stage, TOTALS, WINDOWS};
use super::process::Process;
use super::row::Row;
use super::script::{Entry, NUMBERS, kind, late, time};
use super::world::World;
use super::{act, check_ended, fate, perform};

const MINUTE: i64 = 60_000_000;
const DELAY: i64 = 5 * MINUTE;

/// What the manifests say of the rows.
#[derive(Debug, Default)]
struct Said {
    admitted: Vec<i64>,
    refused: Vec<i64>,
    watermark: Watermark,
    /// Epochs that said that a partition was idle.
    idle: usize,
    /// Ranges whose rows were late by the watermark alone.
    apart: usize,
    /// Epochs in which a set took in what was read, and stayed as it was.
    absorbed: usize,
}

/// Goes through all manifests, and judges every row by what they say.
async fn said(world: &World, history: &History) -> Said {
    let mut said = Said::default();
    let newest = history.newest().map_or(Epoch(0), |newest| newest.epoch);
    let all: Vec<_> = world.manifests().manifests(Epoch::FIRST..=newest).try_collect().await.unwrap();
    for manifest in all {
        if let Some(SourceSlice::Kafka { ranges }) = manifest.slice.sources.get(NUMBERS) {
            for range in ranges {
                let expected = said.watermark.late_before(&range.topic, range.partition);
                assert_eq!(range.late_before, expected, "{range:?}");
                let entries = world.entries(std::slice::from_ref(range));
                let (is_late, _) = late(&entries, range.late_before, DELAY);
                for (entry, is_late) in entries.iter().zip(is_late) {
                    match entry {
                        Entry::Row(number) if !is_late => said.admitted.push(*number),
                        Entry::Row(number) | Entry::Damaged(number) => said.refused.push(*number),
                        _ => {}
                    }
                }
                said.apart += usize::from(range.is_apart);
            }
        }
        let is_absorbed = |commit: &&SetCommit| commit.state.is_some() && !commit.files.replaces_all;
        said.absorbed += manifest.sets.get(TOTALS).iter().filter(|commit| is_absorbed(commit)).count();
        if let Some(after) = manifest.watermarks.get(NUMBERS) {
            assert!(after.at >= said.watermark.at, "the watermark went back");
            let idle = |watermark: &Watermark| watermark.partitions.iter().filter(|known| known.is_idle).count();
            said.idle += usize::from(idle(after) > idle(&said.watermark));
            said.watermark = after.clone();
        }
    }
    said
}

/// Checks what must be true whenever no process runs.
async fn check_rows(world: &World) -> (History, Said) {
    let history = world.manifests().history().await.unwrap();
    world.check_chain(&history);
    let said = said(world, &history).await;
    world.check_numbers(&history, &FileOwner::Set(NUMBERS_SEEN.to_owned()), &said.admitted).await;
    world.check_numbers(&history, &FileOwner::SourceQuarantine(NUMBERS.to_owned()), &said.refused).await;
    (history, said)
}

/// Checks what a last run leaves behind: every set is of the same rows.
async fn check_sets(world: &World) -> Said {
    let (history, said) = check_rows(world).await;
    world.check_numbers(&history, &FileOwner::Set(NUMBERS_AGAIN.to_owned()), &said.admitted).await;
    for (set, group) in [(TOTALS, kind as fn(i64) -> String), (WINDOWS, window)] {
        let mut groups: BTreeMap<String, Vec<i64>> = BTreeMap::new();
        for number in &said.admitted {
            groups.entry(group(*number)).or_default().push(*number);
        }
        let rows = groups.into_iter().map(|(key, numbers)| {
            let least = numbers.iter().min().unwrap().to_string();
            let key = if set == WINDOWS { least } else { key };
            Row::Total(key, i64::try_from(numbers.len()).unwrap(), numbers.iter().sum())
        });
        let mut expected: Vec<_> = rows.collect();
        expected.sort();
        let mut found = world.rows_of(&history, &FileOwner::Set(set.to_owned())).await;
        found.sort();
        assert_eq!(found, expected, "rows of {set}");
    }
    said
}

fn window(number: i64) -> String {
    format!("{:09}", time(number) / (10 * MINUTE))
}

async fn play(world: &Arc<World>, stage: &Stage) -> Said {
    let lives = world.random.lock().unwrap().random_range(1..4);
    for _ in 0..lives {
        let fate = {
            let mut random = world.random.lock().unwrap();
            let laps = random.random_range(3..12);
            super::Fate { laps, ..fate(&mut random) }
        };
        let process = Process::new(world, 'A', fate);
        check_ended(&act(&process, stage.run(&process, Mode::Follow)).await);
        world.arrive().await;
        check_rows(world).await;
    }
    world.settle().await;
    for mode in [Mode::Drain, Mode::Final] {
        let process = Process::new(world, 'Z', super::Fate::default());
        stage.run(&process, mode).await.expect("nothing disturbs it");
    }
    check_sets(world).await
}

#[test]
fn rows_are_what_the_recorded_watermarks_say_whichever_partitions_were_idle() {
    let stage = Stage::plan_timed();
    let (mut idle, mut apart, mut absorbed, mut refused) = (0, 0, 0, 0);
    for seed in 0..250 {
        perform(seed, async |world| {
            let said = play(world, &stage).await;
            idle += said.idle;
            apart += said.apart;
            absorbed += said.absorbed;
            refused += said.refused.len();
        });
    }
    println!("{idle} times idle, {apart} ranges apart, {absorbed} times absorbed, {refused} refused");
    assert!(idle > 30 && apart > 10 && absorbed > 30 && refused > 300);
}
