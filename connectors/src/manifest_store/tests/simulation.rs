//! Two processes at a time, one request at a time, in any order, with faults and crashes at any request.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::world::{Session, World, owners, place_of};
use super::*;

type Running = Pin<Box<dyn Future<Output = ()>>>;

/// Runs the processes of one seed to their ends, and checks what is left after a clean opening and a sweep.
fn simulate(seed: u64) -> BTreeMap<&'static str, usize> {
    let world = Rc::new(World::default());
    let mut random = StdRng::seed_from_u64(seed);
    let mut unstarted = random.random_range(2..8);
    let mut running: Vec<Running> = Vec::new();
    let mut context = Context::from_waker(Waker::noop());
    loop {
        while running.len() < 2 && unstarted > 0 {
            unstarted -= 1;
            running.push(Box::pin(Session::new(Rc::clone(&world), random.random()).run()));
        }
        if running.is_empty() {
            break;
        }
        let at = random.random_range(0..running.len());
        // Now and then one process gets far ahead of the other, as if that were stopped.
        for _ in 0..random.random_range(1..30) {
            if running[at].as_mut().poll(&mut context).is_ready() {
                drop(running.swap_remove(at));
                break;
            }
        }
        if random.random_bool(0.05) {
            block_on(world.deliver(random.random_range(0..1000)));
        }
    }
    block_on(finish(&world));
    world.reached.take()
}

async fn finish(world: &World) {
    while !world.late.lock().unwrap().is_empty() {
        world.deliver(0).await;
    }
    let location = world.quiet("state");
    let store = ManifestStore::with_limits(location.clone(), "flights", small_limits());
    let writer = open(&store).await.unwrap();
    let place = |owner: FileOwner| SweepPlace { location: world.quiet(place_of(&owner)), owner };
    writer.sweep(&owners().into_iter().map(place).collect::<Vec<_>>()).await.unwrap();

    let manifests = world.all_manifests().await;
    world.check().await;
    let memory = Memory::summed(&store, &manifests).await;
    assert_eq!(Memory::of(writer.history()).await, memory, "the writer remembers something else");
    assert_eq!(Memory::of(&store.history().await.unwrap()).await, memory, "a reader sees something else");

    for owner in owners().into_iter().filter(|owner| place_of(owner) != "out/carriers") {
        let mut named = named_in(&memory, &owner, "");
        if place_of(&owner) == "out" {
            named.extend(named_in(&memory, &FileOwner::Set("carriers".to_owned()), "carriers/"));
        }
        assert_eq!(paths(&world.quiet(place_of(&owner)), "").await, named, "files of {owner}");
    }
    let base = manifests.last().unwrap().base.clone().unwrap_or_default();
    let objects = base.objects.values().chain(base.ignored.values());
    let lists = objects.chain(base.files.values()).chain(base.quarantine.values());
    let named: BTreeSet<String> = lists.flatten().chain(&base.slices).map(|block| block.path.clone()).collect();
    assert_eq!(paths(&location, "blocks").await, named, "blocks of the base");
    let slices = manifests.iter().flat_map(|manifest| manifest.slice.sources.values());
    let named = slices.filter_map(|slice| match slice {
        SourceSlice::Objects { block, .. } | SourceSlice::Table { block, .. } => block.as_ref(),
        _ => None,
    });
    assert_eq!(paths(&location, "slices").await, named.map(|block| block.path.clone()).collect(), "blocks of slices");
}

fn named_in(memory: &Memory, owner: &FileOwner, prefix: &str) -> BTreeSet<String> {
    let files = memory.files.get(owner).map_or(&[][..], Vec::as_slice);
    files.iter().map(|file| format!("{prefix}{}", file.path)).collect()
}

/// Nothing here waits for anything outside.
fn block_on(future: impl Future<Output = ()>) {
    let mut future = std::pin::pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    while future.as_mut().poll(&mut context) == Poll::Pending {}
}

/// Simulates the seeds from `from` on; a failure prints its own.
fn check(from: u64, count: u64) {
    let mut reached: BTreeMap<&str, usize> = BTreeMap::new();
    for seed in from..from + count {
        let outcome = std::panic::catch_unwind(|| simulate(seed));
        let Ok(counts) = outcome else { panic!("seed {seed} fails: call `check({seed}, 1)`") };
        for (what, times) in counts {
            *reached.entry(what).or_default() += times;
        }
    }
    if count > 100 {
        assert_eq!(reached.len(), 11, "not everything was reached: {reached:?}");
    }
}

#[test]
fn no_fault_and_no_order_of_requests_breaks_the_chain() {
    check(0, 500);
}

#[test]
fn nor_do_others() {
    check(1_000_000, 500);
}
