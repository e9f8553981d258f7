//! An object store that fails as real ones do, by a seed, and counts what it is asked.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;

use async_trait::async_trait;
use futures::stream::{self, BoxStream, StreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// A store in memory behind a bad connection. What is written through one connection is seen through all.
pub(super) struct FaultyStore {
    inner: Arc<InMemory>,
    requests: Arc<AtomicUsize>,
    faults: Option<Arc<Mutex<Faults>>>,
}

/// What goes wrong on one connection.
pub(super) struct Faults {
    /// What goes wrong first, request by request; then chance rules.
    script: VecDeque<Fault>,
    random: StdRng,
    /// Chance that a request has a fault.
    chance: f64,
    /// Chance that a fault is the end of the process.
    crash: f64,
    is_dead: bool,
    /// Requests under way whose answer nobody waits for any more.
    late: Late,
}

/// Puts that will arrive some time.
pub(super) type Late = Arc<Mutex<Vec<(Path, PutPayload, PutOptions)>>>;

/// What goes wrong with one request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Fault {
    /// Nothing.
    None,
    /// The request never arrives.
    Before,
    /// The request is carried out, the answer is an error.
    After,
    /// The client has repeated a request that had been carried out.
    Repeated,
    /// The request arrives after the client has given up.
    Late,
    /// The store refuses.
    Denied,
}

impl FaultyStore {
    /// A store that only counts.
    pub(super) fn counting(inner: Arc<InMemory>, requests: Arc<AtomicUsize>) -> Self {
        Self { inner, requests, faults: None }
    }

    /// A connection of one process, with faults by `seed`.
    pub(super) fn new(inner: Arc<InMemory>, seed: u64, late: Late) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let chance = *[0.0, 0.02, 0.1, 0.3].get(random.random_range(0..4)).unwrap();
        Self::with_faults(inner, Faults { script: VecDeque::new(), random, chance, crash: 0.25, is_dead: false, late })
    }

    /// A connection whose first requests fail as `script` says.
    pub(super) fn scripted(inner: Arc<InMemory>, script: &[Fault], late: Late) -> Self {
        let (script, random) = (script.iter().copied().collect(), StdRng::seed_from_u64(0));
        Self::with_faults(inner, Faults { script, random, chance: 0.0, crash: 0.0, is_dead: false, late })
    }

    fn with_faults(inner: Arc<InMemory>, faults: Faults) -> Self {
        Self { inner, requests: Arc::default(), faults: Some(Arc::new(Mutex::new(faults))) }
    }

    /// Requests so far.
    pub(super) fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }

    /// Lets others go first, then says what goes wrong; a dead process does nothing.
    async fn next_fault(faults: Option<&Mutex<Faults>>) -> Fault {
        let Some(faults) = faults else { return Fault::None };
        let_others_go().await;
        let mut faults = faults.lock().unwrap();
        if faults.is_dead {
            return Fault::Before;
        }
        if let Some(fault) = faults.script.pop_front() {
            return fault;
        }
        let (chance, crash) = (faults.chance, faults.crash);
        if !faults.random.random_bool(chance) {
            return Fault::None;
        }
        faults.is_dead = faults.random.random_bool(crash);
        *[Fault::Before, Fault::After, Fault::Repeated, Fault::Late].get(faults.random.random_range(0..4)).unwrap()
    }

    fn late(&self) -> Late {
        Arc::clone(&self.faults.as_ref().unwrap().lock().unwrap().late)
    }
}

/// Pending once, and woken at once: whoever runs the future may run another before it.
async fn let_others_go() {
    let mut is_second = false;
    std::future::poll_fn(|context| {
        context.waker().wake_by_ref();
        if std::mem::replace(&mut is_second, true) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

fn broken<T>() -> Result<T> {
    Err(Error::Generic { store: "faulty", source: "connection reset".into() })
}

#[async_trait]
impl ObjectStore for FaultyStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let is_create = options.mode == PutMode::Create;
        match Self::next_fault(self.faults.as_deref()).await {
            Fault::None => self.inner.put_opts(location, payload, options).await,
            Fault::Before => broken(),
            Fault::Denied => Err(Error::PermissionDenied { path: location.to_string(), source: "no".into() }),
            Fault::Late => {
                self.late().lock().unwrap().push((location.clone(), payload, options));
                broken()
            }
            Fault::Repeated if is_create => {
                drop(self.inner.put_opts(location, payload.clone(), options.clone()).await);
                self.inner.put_opts(location, payload, options).await
            }
            Fault::After | Fault::Repeated => {
                drop(self.inner.put_opts(location, payload, options).await);
                broken()
            }
        }
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        unreachable!("manifests are put whole")
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        match Self::next_fault(self.faults.as_deref()).await {
            Fault::None => self.inner.get_opts(location, options).await,
            _ => broken(),
        }
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let (inner, faults) = (Arc::clone(&self.inner), self.faults.clone());
        self.requests.fetch_add(1, Ordering::Relaxed);
        let delete = move |location: Result<Path>| {
            let (inner, faults) = (Arc::clone(&inner), faults.clone());
            async move {
                let location = location?;
                let fault = Self::next_fault(faults.as_deref()).await;
                if matches!(fault, Fault::None | Fault::After) {
                    inner.delete(&location).await?;
                }
                if fault == Fault::None { Ok(location) } else { broken() }
            }
        };
        locations.then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let (inner, faults, prefix) = (Arc::clone(&self.inner), self.faults.clone(), prefix.cloned());
        let listing = async move {
            match Self::next_fault(faults.as_deref()).await {
                Fault::None => inner.list(prefix.as_ref()),
                _ => stream::once(async { broken() }).boxed(),
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

impl fmt::Debug for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FaultyStore")
    }
}

impl fmt::Display for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FaultyStore")
    }
}
