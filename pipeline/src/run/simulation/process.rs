//! One process: its connection to the store, and the moments at which something happens to it.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bessemer_schemas::Claim;
use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, StreamExt};
use object_store::path::Path;
use object_store::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::world::World;
use crate::host::Host;

/// What goes wrong with one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Nothing.
    None,
    /// It never arrives.
    Before,
    /// It is carried out, and the answer is an error.
    After,
    /// The client repeats what had been carried out: a put that lies.
    Repeated,
    /// It arrives after the client has given up.
    Late,
    /// It is carried out, and the process is dead before the answer.
    Fatal,
}

/// What happens to a process at one of its requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// It dies before the request is sent.
    DiesBefore,
    /// It dies when the request was carried out.
    DiesAfter,
    /// It is stopped, until it is told to go on.
    Stops,
    /// The user asks it to end.
    IsInterrupted,
    /// The user asks it to begin no more epochs.
    IsPaused,
    /// The log deletes records.
    RecordsVanish,
}

/// What is to happen to a process.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Fate {
    /// Chance that a request has a fault.
    pub(super) chance: f64,
    /// At which request what happens.
    pub(super) event: Option<(u64, Event)>,
    /// Pauses of the daemon's pace after which the user ends it.
    pub(super) laps: u64,
}

/// A process.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) world: Arc<World>,
    pub(super) cancel: CancellationToken,
    pub(super) pause: CancellationToken,
    fate: Fate,
    random: Mutex<StdRng>,
    name: char,
    requests: AtomicU64,
    laps: AtomicU64,
    is_dead: AtomicBool,
    /// Told when it dies or stops.
    pub(super) happened: Notify,
    /// Tells it to go on.
    pub(super) go_on: Notify,
}

impl Process {
    pub(super) fn new(world: &Arc<World>, name: char, fate: Fate) -> Arc<Self> {
        let seed = world.random.lock().unwrap().random();
        Arc::new(Self {
            world: Arc::clone(world),
            cancel: CancellationToken::new(),
            pause: CancellationToken::new(),
            fate,
            random: Mutex::new(StdRng::seed_from_u64(seed)),
            name,
            requests: AtomicU64::new(0),
            laps: AtomicU64::new(0),
            is_dead: AtomicBool::new(false),
            happened: Notify::new(),
            go_on: Notify::new(),
        })
    }

    /// Requests so far.
    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    pub(super) fn is_dead(&self) -> bool {
        self.is_dead.load(Ordering::Relaxed)
    }

    /// A request is on its way: lets others go first, lets time pass, and says what goes wrong.
    pub(super) async fn meet(&self, what: &str, path: &str) -> Fault {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        let event = self.fate.event.filter(|(at, _)| *at == number).map(|(_, event)| event);
        if event == Some(Event::Stops) {
            self.happened.notify_one();
            self.go_on.notified().await;
        }
        let waits = self.random.lock().unwrap().random_range(0..3);
        for _ in 0..waits {
            tokio::task::yield_now().await;
        }
        if event == Some(Event::DiesBefore) || self.is_dead() {
            return self.die().await;
        }
        match event {
            Some(Event::IsInterrupted) => self.cancel.cancel(),
            Some(Event::IsPaused) => self.pause.cancel(),
            Some(Event::RecordsVanish) => self.world.script.lock().unwrap().forget(),
            _ => {}
        }
        self.world.pass(Duration::from_millis(1));
        let fault = if event == Some(Event::DiesAfter) { Fault::Fatal } else { self.draw() };
        self.world.trace(format!("{} {what} {path} {fault:?}", self.name));
        fault
    }

    fn draw(&self) -> Fault {
        let mut random = self.random.lock().unwrap();
        if !random.random_bool(self.fate.chance) {
            return Fault::None;
        }
        // A request that is given up has taken its time.
        self.world.pass(Duration::from_secs(random.random_range(0..60)));
        [Fault::Before, Fault::After, Fault::Repeated, Fault::Late][random.random_range(0..4)]
    }

    /// Nothing of a dead process goes on.
    pub(super) async fn die<T>(&self) -> T {
        self.is_dead.store(true, Ordering::Relaxed);
        self.happened.notify_one();
        std::future::pending().await
    }
}

impl Host for Process {
    fn now_micros(&self) -> i64 {
        self.world.now_micros()
    }

    fn moment(&self) -> Instant {
        self.world.moment()
    }

    fn sleep(&self, time: Duration) -> BoxFuture<'static, ()> {
        let (world, cancel) = (Arc::clone(&self.world), self.cancel.clone());
        let is_last = self.laps.fetch_add(1, Ordering::Relaxed) >= self.fate.laps;
        async move {
            tokio::task::yield_now().await;
            world.pass(time);
            world.grow();
            // Whoever waits for ever is asked to end.
            if is_last {
                cancel.cancel();
            }
        }
        .boxed()
    }

    fn claim(&self) -> Claim {
        Claim(self.world.random.lock().unwrap().random())
    }
}

/// The process that a definition's stores and sources are asked by at present: planning costs more than running, so
/// plans outlive worlds.
#[derive(Debug, Clone, Default)]
pub(super) struct Slot(Arc<Mutex<Option<Arc<Process>>>>);

impl Slot {
    pub(super) fn put(&self, process: &Arc<Process>) {
        *self.0.lock().unwrap() = Some(Arc::clone(process));
    }

    pub(super) fn process(&self) -> Arc<Process> {
        Arc::clone(self.0.lock().unwrap().as_ref().expect("a process runs"))
    }
}

/// The store as the process in a slot sees it.
#[derive(Debug)]
pub(super) struct Connection(pub(super) Slot);

impl fmt::Display for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("simulated")
    }
}

fn broken<T>() -> Result<T> {
    Err(Error::Generic { store: "simulated", source: "connection reset".into() })
}

#[async_trait]
impl ObjectStore for Connection {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let process = self.0.process();
        let world = &process.world;
        match process.meet("put", location.as_ref()).await {
            Fault::None => world.put(location, payload, options).await,
            Fault::Before => broken(),
            Fault::Late => {
                world.put_late(location, payload, options);
                broken()
            }
            Fault::Repeated if options.mode == PutMode::Create => {
                drop(world.put(location, payload.clone(), options.clone()).await);
                world.put(location, payload, options).await
            }
            Fault::After | Fault::Repeated => {
                drop(world.put(location, payload, options).await);
                broken()
            }
            Fault::Fatal => {
                drop(world.put(location, payload, options).await);
                process.die().await
            }
        }
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        unreachable!("all files are small")
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let process = self.0.process();
        match process.meet("get", location.as_ref()).await {
            Fault::None => process.world.get(location, options).await,
            Fault::Fatal => process.die().await,
            _ => broken(),
        }
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let process = self.0.process();
        let delete = move |location: Result<Path>| {
            let process = Arc::clone(&process);
            async move {
                let location = location?;
                let fault = process.meet("delete", location.as_ref()).await;
                if matches!(fault, Fault::None | Fault::After | Fault::Fatal) {
                    process.world.objects.delete(&location).await?;
                }
                match fault {
                    Fault::None => Ok(location),
                    Fault::Fatal => process.die().await,
                    _ => broken(),
                }
            }
        };
        locations.then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (process, prefix) = (self.0.process(), prefix.cloned());
        let listing = async move {
            let text = prefix.as_ref().map(ToString::to_string).unwrap_or_default();
            match process.meet("list", &text).await {
                Fault::None => process.world.list(prefix.as_ref()),
                // It breaks off.
                Fault::After => process.world.list(prefix.as_ref()).take(1).chain(failure()).boxed(),
                Fault::Fatal => process.die().await,
                _ => failure(),
            }
        };
        stream::once(listing).flatten().boxed()
    }

    async fn list_with_delimiter(&self, _: Option<&Path>) -> Result<ListResult> {
        unreachable!("nothing lists folders")
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        unreachable!("nothing copies")
    }
}

fn failure() -> BoxStream<'static, Result<ObjectMeta>> {
    stream::once(async { broken() }).boxed()
}
