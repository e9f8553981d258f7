//! The epoch loop in a world that is against it, by a seed: a source that grows between any two requests, a store that
//! fails in every way that stores do, processes that die, stop and are overtaken at any request.
//!
//! ```text
//! script ─► source ─┐
//!                   ├─► the loop itself: claim, discover, slice, execute, commit, publish, recover, sweep
//! store ◄── faults ─┘         └─► one thread, a clock that nobody waits for: a seed is one order of events
//! ```
//!
//! After every life of a process: what the manifests say was read is in the files that they name, or in quarantine, once;
//! the ledger says so; no name was used twice; who was fenced committed nothing. At the end, after a run that nothing
//! disturbed: everything was read, and nothing is there that no manifest names.

mod pipeline;
mod process;
mod queries;
mod row;
mod script;
mod timed;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bessemer_schemas::ErrorKind;
use rand::Rng;
use rand::rngs::StdRng;

use self::pipeline::{Mode, Stage};
use self::process::{Event, Fate, Process};
use self::world::World;
use crate::error::Result;

/// How a process ended.
#[derive(Debug)]
enum Ended {
    /// By itself, well or not.
    Alone(Result<()>),
    /// It is dead.
    Dead,
    /// It has stopped, and could go on.
    Stopped,
}

/// Where two processes may run the same pipeline: each has the plans of its own.
struct Theatre {
    stages: [Stage; 2],
}

impl Theatre {
    fn new(partitions: u32) -> Self {
        Self { stages: [Stage::plan(partitions), Stage::plan(partitions)] }
    }

    /// One life after another, then a run that nothing disturbs.
    async fn simulate(&self, world: &Arc<World>) {
        let check = async || {
            world.check().await;
        };
        self.lives(world, check).await;
        self.end(world).await;
    }

    /// One life after another, or two at a time; after each what is asked is true.
    async fn lives(&self, world: &Arc<World>, check: impl AsyncFn()) {
        let lives = world.random.lock().unwrap().random_range(1..4);
        for _ in 0..lives {
            let (plot, fates, modes) = {
                let mut random = world.random.lock().unwrap();
                let modes = [(); 2].map(|()| if random.random_bool(0.3) { Mode::Follow } else { Mode::Drain });
                (random.random_range(0..10), [fate(&mut random), fate(&mut random)], modes)
            };
            match plot {
                0 | 1 => self.overtake(world, fates, modes).await,
                2 | 3 => self.compete(world, fates, modes).await,
                _ => self.live(world, fates[0], modes[0]).await,
            }
            let arrives = world.random.lock().unwrap().random_bool(0.5);
            if arrives {
                world.arrive().await;
            }
            check().await;
        }
    }

    /// A run that nothing disturbs, after everything has arrived; then another, which finds nothing to read and sweeps
    /// what the first one put out of force.
    async fn end(&self, world: &Arc<World>) {
        world.settle().await;
        for name in ['Y', 'Z'] {
            let process = Process::new(world, name, Fate::default());
            self.stages[0].run(&process, Mode::Drain).await.expect("nothing disturbs it");
        }
        world.check_end().await;
    }

    /// One process by itself.
    async fn live(&self, world: &Arc<World>, fate: Fate, mode: Mode) {
        let process = Process::new(world, 'A', fate);
        let ended = act(&process, self.stages[0].run(&process, mode)).await;
        check_ended(&ended);
    }

    /// One process is stopped, another takes over and ends, then the first one goes on.
    async fn overtake(&self, world: &Arc<World>, [mut first, second]: [Fate; 2], modes: [Mode; 2]) {
        first.event = Some((world.random.lock().unwrap().random_range(0..70), Event::Stops));
        let processes = [Process::new(world, 'A', first), Process::new(world, 'B', second)];
        let mut run = self.stages[0].run(&processes[0], modes[0]);
        let ended = act(&processes[0], &mut run).await;
        check_ended(&ended);
        let overtaken = matches!(ended, Ended::Stopped);
        check_ended(&act(&processes[1], self.stages[1].run(&processes[1], modes[1])).await);
        if overtaken {
            let before = world.data_files().await;
            processes[0].go_on.notify_one();
            let ended = act(&processes[0], run).await;
            check_ended(&ended);
            let is_fenced = matches!(&ended, Ended::Alone(Err(error)) if error.kind() == ErrorKind::Conflict);
            if is_fenced && first.chance == 0.0 {
                let after = world.data_files().await;
                assert!(after.is_subset(&before), "a fenced writer left something behind");
            }
        }
    }

    /// Two processes at a time.
    async fn compete(&self, world: &Arc<World>, fates: [Fate; 2], modes: [Mode; 2]) {
        let first = Process::new(world, 'A', fates[0]);
        let second = Process::new(world, 'B', fates[1]);
        let (one, other) = futures::join!(
            act(&first, self.stages[0].run(&first, modes[0])),
            act(&second, self.stages[1].run(&second, modes[1]))
        );
        check_ended(&one);
        check_ended(&other);
    }
}

/// Runs a process until it ends, dies or stops.
async fn act(process: &Process, run: impl Future<Output = Result<()>>) -> Ended {
    tokio::select! {
        biased;
        () = process.happened.notified() => if process.is_dead() { Ended::Dead } else { Ended::Stopped },
        ended = run => Ended::Alone(ended),
    }
}

/// A process that the world disturbs may end with an error of the world, never with one of ours.
fn check_ended(ended: &Ended) {
    let Ended::Alone(Err(error)) = ended else { return };
    let is_of_the_world = matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Conflict | ErrorKind::Interrupted);
    assert!(is_of_the_world, "a process ended with {:?}: {}", error.kind(), crate::load::error_chain(error));
}

fn fate(random: &mut StdRng) -> Fate {
    let chance = [0.0, 0.0, 0.02, 0.1][random.random_range(0..4)];
    let events = [Event::DiesBefore, Event::DiesAfter, Event::DiesAfter, Event::IsInterrupted, Event::IsPaused];
    let event = random.random_bool(0.7).then(|| (random.random_range(0..100), events[random.random_range(0..5)]));
    Fate { chance, event, laps: random.random_range(0..4) }
}

/// Lets `play` happen in a world of `seed`, on one thread; a failure tells the seed and what was asked of the store.
/// Whatever a process began ends with it.
fn perform(seed: u64, play: impl AsyncFnOnce(&Arc<World>)) -> Arc<World> {
    perform_in(World::new(seed), play).unwrap_or_else(|| panic!("seed {seed} fails"))
}

/// The same in a world that is made already; nothing where it fails.
fn perform_in(world: Arc<World>, play: impl AsyncFnOnce(&Arc<World>)) -> Option<Arc<World>> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let played = catch_unwind(AssertUnwindSafe(|| runtime.block_on(play(&world))));
    drop(runtime);
    if played.is_err() {
        println!("the last requests:\n{}", world.last_requests());
        return None;
    }
    Some(world)
}

/// Simulates the seeds `from..from + count` on all cores; prints what it did.
fn check(from: u64, count: u64) {
    let (next, requests) = (AtomicU64::new(from), AtomicU64::new(0));
    let started = std::time::Instant::now();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let theatres = [Theatre::new(1), Theatre::new(2)];
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= from + count {
                        break;
                    }
                    let theatre = &theatres[usize::from(seed % 4 == 3)];
                    let world = perform(seed, async |world| theatre.simulate(world).await);
                    requests.fetch_add(world.whole_trace().len() as u64, Ordering::Relaxed);
                }
            });
        }
    });
    let (requests, took) = (requests.into_inner(), started.elapsed());
    println!("seeds {from} to {}: {requests} requests in {took:.1?}", from + count - 1);
}

/// How many seeds to simulate, and from which on.
#[expect(clippy::disallowed_methods, reason = "whoever looks for a rare failure says how long to look")]
fn wanted(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

#[test]
fn no_fault_and_no_crash_loses_or_repeats_a_record() {
    check(wanted("BESSEMER_SIMULATION_FROM", 0), wanted("BESSEMER_SIMULATION_SEEDS", 300));
}

#[test]
fn a_crash_at_every_request_in_turn_changes_nothing() {
    const SEED: u64 = 1;
    let theatre = Theatre::new(1);
    for mode in [Mode::Drain, Mode::Follow] {
        let laps = Fate { laps: 2, ..Fate::default() };
        let mut requests = 0;
        perform(SEED, async |world| {
            world.settle().await;
            let process = Process::new(world, 'A', laps);
            drop(theatre.stages[0].run(&process, mode).await);
            requests = process.requests();
            theatre.end(world).await;
        });
        println!("{mode:?}: {requests} requests");
        assert!(requests > 30);
        for (request, event) in (0..requests).flat_map(|at| [(at, Event::DiesBefore), (at, Event::DiesAfter)]) {
            perform(SEED, async |world| {
                world.settle().await;
                theatre.live(world, Fate { event: Some((request, event)), ..laps }, mode).await;
                world.check().await;
                theatre.end(world).await;
            });
        }
    }
}

#[test]
fn a_crash_at_every_request_of_a_rebuild_leaves_what_the_next_one_makes_good() {
    let theatre = Theatre::new(2);
    let lose = async |world: &Arc<World>| {
        world.deliver_files(2);
        let process = Process::new(world, 'A', Fate::default());
        theatre.stages[0].run(&process, Mode::Drain).await.expect("nothing disturbs it");
        world.lose_states().await
    };
    let rebuild = async |world: &Arc<World>, fate| {
        let process = Process::new(world, 'B', fate);
        check_ended(&act(&process, theatre.stages[0].run(&process, Mode::Rebuild)).await);
        process.requests()
    };
    let mut crashes = 0;
    for seed in 0..6 {
        let is_enough = crashes > 100;
        let (mut requests, mut lost) = (0, false);
        perform(seed, async |world| {
            lost = lose(world).await;
            requests = rebuild(world, Fate::default()).await;
            theatre.end(world).await;
        });
        let at_each = |at| {
            let interrupted = (at % 4 == 0).then_some((at, Event::IsInterrupted));
            [(at, Event::DiesBefore), (at, Event::DiesAfter)].into_iter().chain(interrupted)
        };
        let events = (0..requests).flat_map(at_each).map(|event| Fate { event: Some(event), ..Fate::default() });
        let faulty = (0..20).map(|_| Fate { chance: 0.05, ..Fate::default() });
        for fate in events.filter(|_| lost && !is_enough).chain(faulty.filter(|_| lost)) {
            crashes += 1;
            perform(seed, async |world| {
                lose(world).await;
                // What goes wrong by chance is another thing each time.
                (0..crashes).for_each(|_| world.random.lock().unwrap().fill(&mut [0_u8; 8]));
                rebuild(world, fate).await;
                rebuild(world, Fate::default()).await;
                theatre.end(world).await;
            });
        }
    }
    println!("{crashes} crashes");
    assert!(crashes > 100);
}

#[test]
fn records_that_vanish_at_any_request_are_lost_to_every_set_or_to_none() {
    let stages = [1, 2].map(Stage::plan_twice);
    let play = async |world: &Arc<World>, stage: &Stage, event| {
        world.settle().await;
        let process = Process::new(world, 'A', Fate { event, laps: u64::MAX, ..Fate::default() });
        stage.run(&process, Mode::Drain).await.expect("what is left can be read");
        (process.requests(), world.check_twice().await)
    };
    let (mut lives, mut retries, mut losses) = (0, 0, 0);
    for (seed, stage) in (0..6).flat_map(|seed| stages.iter().map(move |stage| (seed, stage))) {
        let mut undisturbed = 0;
        perform(seed, async |world| undisturbed = play(world, stage, None).await.0);
        for request in 0..undisturbed {
            perform(seed, async |world| {
                let (requests, lost) = play(world, stage, Some((request, Event::RecordsVanish))).await;
                lives += 1;
                retries += u64::from(requests > undisturbed);
                losses += u64::from(lost > 0);
            });
        }
    }
    println!("{lives} lives: {losses} with losses, {retries} with an epoch that was tried again");
    assert!(retries > 10 && losses > retries && losses < lives);
}

#[test]
fn a_seed_is_one_order_of_events() {
    let theatre = Theatre::new(2);
    for seed in 0..10 {
        let [one, other] = [(); 2].map(|()| perform(seed, async |world| theatre.simulate(world).await).whole_trace());
        let differing = one.iter().zip(&other).find(|(one, other)| one != other);
        assert_eq!(differing, None, "seed {seed}");
        assert_eq!(one.len(), other.len(), "seed {seed}");
    }
}
