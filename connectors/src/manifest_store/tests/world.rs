//! A pipeline that runs again and again on a store with faults, and what must be true of the store at any time.

use std::cell::RefCell;
use std::rc::Rc;

use object_store::ObjectStoreExt;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::faulty::{FaultyStore, Late};
use super::*;

/// The store, and what writers believe about it.
#[derive(Default)]
pub(super) struct World {
    pub(super) inner: Arc<InMemory>,
    pub(super) late: Late,
    /// Epochs that a writer was told it had committed.
    pub(super) believed: RefCell<BTreeMap<Epoch, (Claim, Digest)>>,
    /// The manifests that are there, with their digests.
    chain: RefCell<BTreeMap<Epoch, (Manifest, Digest)>>,
    /// What was reached: a simulation that reaches nothing proves nothing.
    pub(super) reached: RefCell<BTreeMap<&'static str, usize>>,
}

impl World {
    /// The location `folder` on a connection of one process.
    fn location(connection: &Arc<FaultyStore>, folder: &str) -> Location {
        Location::in_store(Arc::clone(connection) as Arc<dyn object_store::ObjectStore>, Path::from(folder))
    }

    /// The folder without faults.
    pub(super) fn quiet(&self, folder: &str) -> Location {
        Location::in_store(Arc::clone(&self.inner) as Arc<dyn object_store::ObjectStore>, Path::from(folder))
    }

    pub(super) fn count(&self, what: &'static str) {
        *self.reached.borrow_mut().entry(what).or_default() += 1;
    }

    /// Lets a put arrive that was on its way.
    pub(super) async fn deliver(&self, at: usize) {
        let put = {
            let mut late = self.late.lock().unwrap();
            if late.is_empty() {
                return;
            }
            let at = at % late.len();
            late.swap_remove(at)
        };
        self.count("late put");
        // One that finds its place taken has no effect.
        drop(object_store::ObjectStore::put_opts(&*self.inner, &put.0, put.1, put.2).await);
    }

    /// Checks what must be true at any time: one chain, in which is what writers believe, and every live file is there.
    pub(super) async fn check(&self) {
        self.read_chain().await;
        let live = self.check_beliefs();
        for (place, files) in live.files.iter().map(|(owner, files)| (place_of(owner), files)) {
            let there = paths(&self.quiet(place), "").await;
            assert!(files.iter().all(|file| there.contains(&file.path)), "a live file is gone from {place}");
        }
    }

    /// Checks that what writers believe is in the chain, and gives the live files.
    fn check_beliefs(&self) -> Memory {
        let chain = self.chain.borrow();
        for (epoch, (claim, digest)) in self.believed.borrow().iter() {
            let (manifest, found) = chain.get(epoch).expect("a commit was lost");
            assert_eq!((claim, digest), (&manifest.claim, found), "epoch {epoch} is another's");
        }
        let mut live = Memory::default();
        chain.values().for_each(|(manifest, _)| live.apply_all(manifest));
        live
    }

    /// All manifests, read once more.
    pub(super) async fn all_manifests(&self) -> Vec<Manifest> {
        let before = self.chain.take();
        self.read_chain().await;
        let names = paths(&self.quiet("state"), "manifests").await;
        let chain = self.chain.borrow();
        assert!(before.iter().all(|(epoch, manifest)| chain.get(epoch) == Some(manifest)), "a manifest has changed");
        let newest = chain.values().next_back().and_then(|(manifest, _)| manifest.base.as_ref());
        let floor = newest.map_or(0, |base| base.floor.0);
        if floor > 0 {
            self.count("archived");
        }
        assert_eq!(
            names.len() as u64 + floor,
            chain.len() as u64,
            "a gap in the chain, or one that should be archived"
        );
        chain.values().map(|(manifest, _)| manifest.clone()).collect()
    }

    /// Reads the manifests that are new.
    async fn read_chain(&self) {
        let location = self.quiet("state");
        let store = ManifestStore::with_limits(location.clone(), "flights", small_limits());
        loop {
            let last = self.chain.borrow().last_key_value().map(|(epoch, (_, digest))| (*epoch, digest.clone()));
            let (next, previous) = last.map_or((Epoch::FIRST, None), |(epoch, digest)| (epoch.next(), Some(digest)));
            let Some(ReadManifest { manifest, digest }) = store.find(next).await.unwrap() else { return };
            assert_eq!(manifest.previous, previous, "epoch {next} follows another manifest");
            self.chain.borrow_mut().insert(next, (manifest, digest));
        }
    }
}

/// The places of the pipeline; one lies within another.
pub(super) fn place_of(owner: &FileOwner) -> &'static str {
    match owner {
        FileOwner::Set(name) if name == "delays" => "out",
        FileOwner::Set(_) => "out/carriers",
        FileOwner::SetQuarantine(name) if name == "delays" => "quarantine/set/delays",
        FileOwner::SetQuarantine(_) => "quarantine/set/carriers",
        FileOwner::SourceQuarantine(_) => "quarantine/source",
        FileOwner::SetState(name) if name == "delays" => "aggregates/delays",
        FileOwner::SetState(_) => "aggregates/carriers",
    }
}

pub(super) fn owners() -> Vec<FileOwner> {
    let mut owners = [FileOwner::of_set("delays"), FileOwner::of_set("carriers")].concat();
    owners.push(FileOwner::SourceQuarantine("flights".to_owned()));
    owners
}

/// One process: opens the pipeline, sweeps, commits, until it has done enough or fails.
pub(super) struct Session {
    pub(super) world: Rc<World>,
    pub(super) random: StdRng,
    connection: Arc<FaultyStore>,
}

impl Session {
    pub(super) fn new(world: Rc<World>, seed: u64) -> Self {
        let connection = FaultyStore::new(Arc::clone(&world.inner), seed, Arc::clone(&world.late));
        Self { world, random: StdRng::seed_from_u64(seed ^ 0xbe55), connection: Arc::new(connection) }
    }

    fn places(&self) -> Vec<SweepPlace> {
        let place =
            |owner: FileOwner| SweepPlace { location: World::location(&self.connection, place_of(&owner)), owner };
        owners().into_iter().map(place).collect()
    }

    pub(super) async fn run(mut self) {
        let location = World::location(&self.connection, "state");
        let store = ManifestStore::with_limits(location, "flights", small_limits());
        let claim = Claim(self.random.random());
        let Ok(mut writer) = store.open_for_writing(claim, info(), any_definition, 1).await else {
            return self.world.count("open failed");
        };
        let opened = store_digest(&self.world, writer.opened()).await;
        self.believe(writer.opened(), claim, opened);

        for _ in 0..self.random.random_range(0..8) {
            if self.random.random_bool(0.3) && writer.sweep(&self.places()).await.is_ok() {
                self.world.count("swept");
                self.world.check().await;
            }
            if !self.commit(&mut writer).await {
                // A loop that does not know when to stop gets nothing more committed.
                let manifest = reading(&writer, 99, vec![object("never", 1)]);
                assert!(writer.commit(manifest, &[]).await.is_err(), "a writer that failed has committed");
                return;
            }
        }
    }

    /// Whether the epoch was committed.
    async fn commit(&mut self, writer: &mut EpochWriter) -> bool {
        let Some(manifest) = self.work(writer).await else {
            // A file could not be written: the attempt is given up, the writer goes on.
            self.world.count("attempt given up");
            return true;
        };
        let epoch = writer.next_epoch();
        match writer.commit(manifest, &[]).await {
            Ok(committed) => {
                self.believe(epoch, writer.claim(), committed.digest);
                self.world.check().await;
                if !committed.replaced.is_empty() && self.random.random_bool(0.7) {
                    self.world.count("replaced");
                    drop(writer.remove_replaced(&self.places(), &committed.replaced).await);
                }
                true
            }
            Err(Error::Fenced { .. }) => {
                self.world.count("fenced");
                false
            }
            Err(error) => {
                self.world.count("commit failed");
                // Only a failure before the manifest was put may be followed by another attempt.
                matches!(error, Error::Store { location, .. } if !location.contains("manifests/"))
            }
        }
    }

    fn believe(&self, epoch: Epoch, claim: Claim, digest: Digest) {
        self.world.count("committed");
        let before = self.world.believed.borrow_mut().insert(epoch, (claim, digest));
        assert!(before.is_none(), "two writers believe that they have committed epoch {epoch}");
    }

    /// Writes the files of an epoch, and a manifest that names them.
    async fn work(&mut self, writer: &EpochWriter) -> Option<Manifest> {
        let listing = writer.history().listings().get("flights").map_or(1, |listing| listing + 1);
        let count = self.random.random_range(0..7_u64);
        let objects = (0..count).map(|at| object(&self.path(), 100 * listing + at)).collect();
        let mut manifest = reading(writer, listing, objects);
        self.change_slice(&mut manifest);

        let attempt = self.random.random();
        let mut seq = 0;
        if self.random.random_bool(0.8) {
            let files = self.files(writer, "out", attempt, &mut seq).await?;
            appending(&mut manifest, files);
            if self.random.random_bool(0.5) {
                let added = self.files(writer, "quarantine/set/delays", attempt, &mut seq).await?;
                let set = manifest.sets.get_mut("delays").unwrap();
                set.ledger.quarantined = added.iter().map(|file| file.rows).sum();
                set.ledger.produced += set.ledger.quarantined;
                set.ledger.admitted += set.ledger.quarantined;
                set.quarantine.added = added;
            }
        }
        if self.random.random_bool(0.4) {
            let files = self.files(writer, "out/carriers", attempt, &mut seq).await?;
            replacing(&mut manifest, files);
            if self.random.random_bool(0.7) {
                let files = self.files(writer, "aggregates/carriers", attempt, &mut seq).await?;
                keeping(&mut manifest, files);
                self.world.count("kept a state");
            }
        }
        if self.random.random_bool(0.2) {
            self.compact(writer, &mut manifest, attempt).await?;
        }
        if self.random.random_bool(0.3) {
            let added = self.files(writer, "quarantine/source", attempt, &mut seq).await?;
            let ledger = manifest.sources.get_mut("flights").unwrap();
            ledger.undecodable = added.iter().map(|file| file.rows).sum();
            (ledger.quarantined, ledger.records) = (ledger.undecodable, ledger.records + ledger.undecodable);
            manifest.quarantine.insert("flights".to_owned(), FileChanges::adding(added));
        }
        Some(manifest)
    }

    fn path(&mut self) -> String {
        format!("day={:03}", self.random.random_range(0..200))
    }

    fn change_slice(&mut self, manifest: &mut Manifest) {
        let path = self.path();
        if let Some(SourceSlice::Objects { ignored, .. }) = manifest.slice.sources.get_mut("flights") {
            ignored.extend(self.random.random_bool(0.2).then(|| object(&path, 1)));
        }
        if self.random.random_bool(0.3) {
            let version = self.random.random::<u32>().to_string();
            let objects = (0..self.random.random_range(0..5_u64)).map(|at| object(&at.to_string(), at)).collect();
            let table = SourceSlice::Table { version, objects, block: None };
            manifest.slice.sources.insert("planes".to_owned(), table);
        }
    }

    /// Puts one file in the place of some of the append set, in the same epoch as all the rest.
    async fn compact(&mut self, writer: &EpochWriter, manifest: &mut Manifest, attempt: u32) -> Option<()> {
        let live: Vec<DataFile> = writer.history().live_files("delays").try_collect().await.ok()?;
        let removed: Vec<_> = live.into_iter().filter(|_| self.random.random_bool(0.5)).collect();
        if removed.is_empty() || !manifest.sets.contains_key("delays") {
            return Some(());
        }
        let name = FileName { epoch: writer.next_epoch(), claim: writer.claim(), attempt, stream: 1, seq: 0 };
        let path = format!("day=9/{name}");
        let location = World::location(&self.connection, "out");
        location.store().put(&location.path(&path), "rows".into()).await.ok()?;
        let set = manifest.sets.get_mut("delays")?;
        set.files.added.push(file(path, removed.iter().map(|file| file.rows).sum()));
        set.files.removed = removed;
        self.world.count("compacted");
        Some(())
    }

    /// Writes a few files; `None` if the store fails.
    async fn files(&mut self, writer: &EpochWriter, place: &str, attempt: u32, seq: &mut u32) -> Option<Vec<DataFile>> {
        let location = World::location(&self.connection, place);
        let mut files = Vec::new();
        for _ in 0..self.random.random_range(0..4) {
            *seq += 1;
            let (epoch, claim) = (writer.next_epoch(), writer.claim());
            let name = FileName { epoch, claim, attempt, stream: 0, seq: *seq };
            let path = format!("day={}/{name}", self.random.random_range(0..3));
            location.store().put(&location.path(&path), "rows".into()).await.ok()?;
            files.push(file(path, self.random.random_range(1..4)));
        }
        files.sort();
        Some(files)
    }
}

async fn store_digest(world: &World, epoch: Epoch) -> Digest {
    let location = world.quiet("state");
    let path = location.path(&layout::manifest_path(epoch));
    Digest::of(&location.store().get(&path).await.unwrap().bytes().await.unwrap())
}
