//! What outlives every process: the store, the script, the time; and what must be true of them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bessemer_connectors::Location;
use bessemer_connectors::manifest_store::{FileOwner, History, ManifestStore};
use bessemer_connectors::sink::{QuarantineOwner, quarantine_location, read_rows, state_location};
use bessemer_schemas::{Claim, DataFile, Epoch, OffsetRange, SourceLedger, SourceSlice};
use bytes::Bytes;
use chrono::DateTime;
use datafusion::arrow::array::RecordBatch;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    GetOptions, GetResult, ObjectMeta, ObjectStore, ObjectStoreExt, PutOptions, PutPayload, PutResult, Result,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::pipeline::{
    FILES, FILES_SEEN, GREATEST, NUMBERS_AGAIN, NUMBERS_SEEN, PIPELINE, RECENT, TOTALS, WINDOWS, set_folder,
    small_limits,
};
use super::row::{Row, rows_in};
use super::script::{Entry, NUMBERS, Script, kind, ledger_of};

/// Requests of the trace that a failure shows.
const TRACE_SHOWN: usize = 60;

/// The store, the script, the time.
#[derive(Debug)]
pub(super) struct World {
    pub(super) objects: Arc<InMemory>,
    pub(super) script: Mutex<Script>,
    pub(super) random: Mutex<StdRng>,
    /// The files of the log of objects, by path.
    files: BTreeMap<String, Vec<Entry>>,
    /// Files that are still to come, by path.
    to_come: Mutex<Vec<(Path, Bytes)>>,
    now: Mutex<i64>,
    /// When that was nothing.
    began: Instant,
    names: Mutex<BTreeSet<Path>>,
    late: Mutex<Vec<(Path, PutPayload, PutOptions)>>,
    trace: Mutex<Vec<String>>,
    /// Claims of the manifests that were seen, which never change.
    chain: Mutex<BTreeMap<Epoch, Claim>>,
    /// Rows of files that were read, which never change.
    rows: Mutex<HashMap<Path, Vec<Row>>>,
}

impl World {
    pub(super) fn new(seed: u64) -> Arc<Self> {
        let mut random = StdRng::seed_from_u64(seed);
        let files: Vec<_> =
            (0..random.random_range(0..4)).map(|at| numbered_file(1000 + 10 * at, &mut random)).collect();
        let texts =
            files.iter().map(|(path, entries)| (Path::from(format!("in/{path}")), text_of(entries).into())).collect();
        Self::with(random, files.into_iter().collect(), texts)
    }

    /// One in which files come with these contents, in this order.
    pub(super) fn of_files(seed: u64, files: Vec<(Path, Bytes)>) -> Arc<Self> {
        Self::with(StdRng::seed_from_u64(seed), BTreeMap::new(), files)
    }

    fn with(mut random: StdRng, files: BTreeMap<String, Vec<Entry>>, to_come: Vec<(Path, Bytes)>) -> Arc<Self> {
        let script = Script::new(&mut random);
        Arc::new(Self {
            objects: Arc::default(),
            script: Mutex::new(script),
            random: Mutex::new(random),
            files,
            to_come: Mutex::new(to_come),
            now: Mutex::new(0),
            began: Instant::now(),
            names: Mutex::default(),
            late: Mutex::default(),
            trace: Mutex::default(),
            chain: Mutex::default(),
            rows: Mutex::default(),
        })
    }

    pub(super) fn now_micros(&self) -> i64 {
        *self.now.lock().unwrap()
    }

    pub(super) fn moment(&self) -> Instant {
        self.began + Duration::from_micros(u64::try_from(self.now_micros()).unwrap())
    }

    /// Lets time pass; now and then something arrives meanwhile.
    pub(super) fn pass(&self, time: Duration) {
        *self.now.lock().unwrap() += i64::try_from(time.as_micros()).unwrap();
        if self.random.lock().unwrap().random_bool(0.05) {
            self.grow();
        }
    }

    /// Lets a little more be there to read.
    pub(super) fn grow(&self) {
        let mut random = self.random.lock().unwrap();
        self.script.lock().unwrap().grow(&mut random);
        if random.random_bool(0.3) {
            self.deliver_file();
        }
    }

    /// Lets everything be there, and every request arrive.
    pub(super) async fn settle(&self) {
        self.script.lock().unwrap().grow_up();
        while self.deliver_file() {}
        while self.arrive().await {}
    }

    /// Lets some files be there.
    pub(super) fn deliver_files(&self, mut count: usize) {
        while count > 0 && self.deliver_file() {
            count -= 1;
        }
    }

    /// Deletes what the sets that emit rows once they are final have kept; whether there was something.
    pub(super) async fn lose_states(&self) -> bool {
        let folders = [WINDOWS, RECENT].map(|set| Path::from(format!("state/aggregates/{set}")));
        let mut lost = false;
        for folder in folders {
            let files: Vec<_> = self.objects.list(Some(&folder)).try_collect().await.unwrap();
            for file in files {
                self.objects.delete(&file.location).await.unwrap();
                lost = true;
            }
        }
        lost
    }

    /// Lets the next file be there; whether there was one to come.
    fn deliver_file(&self) -> bool {
        let mut to_come = self.to_come.lock().unwrap();
        if to_come.is_empty() {
            return false;
        }
        let (path, content) = to_come.remove(0);
        let put = futures::FutureExt::now_or_never(self.objects.put(&path, content.into()));
        put.expect("memory does not wait").unwrap();
        true
    }

    /// A put that had its effect. No name is used twice, but for those that are digests of what they name.
    pub(super) async fn put(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let put = self.objects.put_opts(location, payload, options).await;
        let is_free =
            ["state/latest", "state/blocks/", "state/slices/"].iter().any(|free| location.as_ref().starts_with(free));
        if put.is_ok() && !is_free {
            let is_new = self.names.lock().unwrap().insert(location.clone());
            assert!(is_new, "{location} was written twice");
        }
        put
    }

    /// An object, as it is. Everything has one age: names of blocks are digests, and no seed knows today's date.
    pub(super) async fn get(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let mut found = self.objects.get_opts(location, options).await?;
        found.meta.last_modified = DateTime::UNIX_EPOCH;
        Ok(found)
    }

    /// What is there, by name, likewise.
    pub(super) fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.objects.list(prefix).map_ok(|found| ObjectMeta { last_modified: DateTime::UNIX_EPOCH, ..found }).boxed()
    }

    /// A put that will arrive some time.
    pub(super) fn put_late(&self, location: &Path, payload: PutPayload, options: PutOptions) {
        self.late.lock().unwrap().push((location.clone(), payload, options));
    }

    /// Lets one of the late puts arrive; whether there was one.
    pub(super) async fn arrive(&self) -> bool {
        let late = {
            let mut late = self.late.lock().unwrap();
            if late.is_empty() {
                return false;
            }
            let at = self.random.lock().unwrap().random_range(0..late.len());
            late.swap_remove(at)
        };
        self.trace(format!("- put {} arrives", late.0));
        // One that finds its place taken has no effect.
        drop(self.put(&late.0, late.1, late.2).await);
        true
    }

    pub(super) fn trace(&self, line: String) {
        self.trace.lock().unwrap().push(line);
    }

    /// All requests so far, in order.
    pub(super) fn whole_trace(&self) -> Vec<String> {
        self.trace.lock().unwrap().clone()
    }

    /// The last requests, for whoever looks into a failure.
    pub(super) fn last_requests(&self) -> String {
        let Ok(trace) = self.trace.lock() else { return "the trace is lost".to_owned() };
        trace[trace.len().saturating_sub(TRACE_SHOWN)..].join("\n")
    }

    /// A folder of the store, without faults.
    fn quiet(&self, folder: &str) -> Location {
        Location::in_store(Arc::clone(&self.objects) as Arc<dyn ObjectStore>, Path::from(folder))
    }

    pub(super) fn manifests(&self) -> ManifestStore {
        ManifestStore::with_limits(self.quiet("state"), PIPELINE, small_limits())
    }

    /// What a process was told that it had committed is committed.
    pub(super) fn believe(&self, epoch: Epoch, claim: Claim) {
        let mut chain = self.chain.lock().unwrap();
        assert_eq!(*chain.entry(epoch).or_insert(claim), claim, "epoch {epoch} is another's");
    }

    /// Checks what must be true whenever no process runs.
    pub(super) async fn check(&self) -> History {
        let history = self.manifests().history().await.unwrap();
        self.check_chain(&history);
        let read = history.offsets_read(NUMBERS);
        assert!(read.iter().all(|range| range.start == 0), "offsets were left out: {read:?}");

        let rows = |entries: &[Entry]| {
            entries
                .iter()
                .filter_map(|entry| if let Entry::Row(number) = entry { Some(*number) } else { None })
                .collect::<Vec<_>>()
        };
        let damaged = |entries: &[Entry]| {
            entries
                .iter()
                .filter_map(|entry| if let Entry::Damaged(number) = entry { Some(*number) } else { None })
                .collect::<Vec<_>>()
        };
        let (unlucky, lucky): (Vec<_>, Vec<_>) =
            rows(&self.entries(&read)).into_iter().partition(|number| number % 13 == 0);
        self.check_numbers(&history, &FileOwner::Set(NUMBERS_SEEN.to_owned()), &lucky).await;
        self.check_numbers(&history, &FileOwner::SetQuarantine(NUMBERS_SEEN.to_owned()), &unlucky).await;
        self.check_numbers(&history, &FileOwner::SourceQuarantine(NUMBERS.to_owned()), &damaged(&self.entries(&read)))
            .await;
        let ledger = history.source_totals().get(NUMBERS).copied().unwrap_or_default();
        let expected = ledger_of(&self.entries(&read));
        assert_eq!(ledger, SourceLedger { quarantined: expected.undecodable, ..expected }, "ledger of the numbers");
        let set = history.set_totals().get(NUMBERS_SEEN).copied().unwrap_or_default();
        assert_eq!((set.written, set.quarantined), (lucky.len() as u64, unlucky.len() as u64), "ledger of the set");

        let objects: Vec<_> = history.objects_read(FILES).try_collect().await.unwrap();
        let entries: Vec<_> =
            objects.iter().flat_map(|object| self.files[object.path.trim_start_matches("in/")].clone()).collect();
        self.check_numbers(&history, &FileOwner::Set(FILES_SEEN.to_owned()), &rows(&entries)).await;
        self.check_numbers(&history, &FileOwner::SourceQuarantine(FILES.to_owned()), &damaged(&entries)).await;
        history
    }

    /// Checks that two sets of the same rows hold what the ledger says was read of them, though records were deleted;
    /// how many were.
    pub(super) async fn check_twice(&self) -> u64 {
        let history = self.manifests().history().await.unwrap();
        let ledger = history.source_totals().get(NUMBERS).copied().unwrap_or_default();
        let mut found = [NUMBERS_SEEN, NUMBERS_AGAIN].map(|set| (set, Vec::new()));
        for (set, rows) in &mut found {
            *rows = self.rows_of(&history, &FileOwner::Set((*set).to_owned())).await;
            rows.sort();
            assert_eq!(rows.len() as u64, ledger.admitted, "rows of {set}: {rows:?}");
        }
        assert_eq!(found[0].1, found[1].1, "rows of the two sets");
        ledger.lost
    }

    /// Checks the windows, once all is read: each file is one of ten minutes, and all but the last with a row are closed.
    async fn check_windows(&self, history: &History) {
        let rows = self.files.values().map(|entries| {
            let numbers =
                entries.iter().filter_map(|entry| if let Entry::Row(number) = entry { Some(number) } else { None });
            numbers.copied().collect::<Vec<i64>>()
        });
        let mut windows: Vec<_> = rows.filter(|numbers| !numbers.is_empty()).collect();
        windows.sort();
        windows.pop();
        let total = |numbers: &Vec<i64>| {
            Row::Total(numbers[0].to_string(), i64::try_from(numbers.len()).unwrap(), numbers.iter().sum())
        };
        let expected: Vec<_> = windows.iter().map(total).collect();
        let mut found = self.rows_of(history, &FileOwner::Set(WINDOWS.to_owned())).await;
        found.sort();
        assert_eq!(found, expected, "windows");
    }

    /// Checks the features of each row over the quarter of an hour before, once all is read: those of the last row are not
    /// final. A row's number is its minute.
    async fn check_recent(&self, history: &History) {
        let entries = self.files.values().flatten();
        let mut numbers: Vec<i64> =
            entries.filter_map(|entry| if let Entry::Row(number) = entry { Some(*number) } else { None }).collect();
        numbers.sort_unstable();
        let of = |at: &i64| {
            let recent: Vec<i64> = numbers.iter().copied().filter(|number| (at - 15..=*at).contains(number)).collect();
            Row::Features(*at, i64::try_from(recent.len()).unwrap(), recent.iter().sum())
        };
        let mut expected: Vec<_> = numbers.iter().map(of).collect();
        expected.pop();
        let mut found = self.rows_of(history, &FileOwner::Set(RECENT.to_owned())).await;
        found.sort();
        assert_eq!(found, expected, "features");
    }

    /// Claims follow one another: who was fenced commits nothing any more.
    pub(super) fn check_chain(&self, history: &History) {
        for manifest in history.recent() {
            self.believe(manifest.epoch, manifest.claim);
        }
        let chain = self.chain.lock().unwrap();
        let newest = history.newest().map_or(Epoch(0), |manifest| manifest.epoch);
        assert!(chain.keys().all(|epoch| *epoch <= newest), "a commit was lost");
        let mut claims: Vec<_> = chain.values().map(|claim| claim.0).collect();
        claims.dedup();
        let writers = claims.len();
        claims.sort_unstable();
        claims.dedup();
        assert_eq!(claims.len(), writers, "a writer committed after it was fenced");
    }

    pub(super) fn entries(&self, ranges: &[OffsetRange]) -> Vec<Entry> {
        let script = self.script.lock().unwrap();
        ranges.iter().flat_map(|range| script.entries(range).to_vec()).collect()
    }

    /// The files in force of `owner` hold exactly these numbers.
    pub(super) async fn check_numbers(&self, history: &History, owner: &FileOwner, expected: &[i64]) {
        let mut expected: Vec<_> = expected.iter().copied().map(Row::Number).collect();
        expected.sort();
        let mut found = self.rows_of(history, owner).await;
        found.sort();
        assert_eq!(found, expected, "rows of {owner}");
    }

    pub(super) async fn rows_of(&self, history: &History, owner: &FileOwner) -> Vec<Row> {
        let location = self.place(owner);
        let files: Vec<DataFile> = history.files(owner).try_collect().await.unwrap();
        let mut rows = Vec::new();
        for file in files {
            let path = location.path(&file.path);
            let known = self.rows.lock().unwrap().get(&path).cloned();
            let read = match known {
                Some(read) => {
                    self.objects.head(&path).await.expect("a file in force is there");
                    read
                }
                None => {
                    let batches = read_rows(&location, std::slice::from_ref(&file), u64::MAX);
                    let batches: Vec<RecordBatch> = batches.try_collect().await.expect("a file in force can be read");
                    batches.iter().flat_map(rows_in).collect()
                }
            };
            assert_eq!(read.len() as u64, file.rows, "rows of {path}");
            rows.extend(read.iter().cloned());
            self.rows.lock().unwrap().insert(path, read);
        }
        rows
    }

    pub(super) fn place(&self, owner: &FileOwner) -> Location {
        let state = self.quiet("state");
        match owner {
            FileOwner::Set(name) => self.quiet(&set_folder(name)),
            FileOwner::SetQuarantine(name) => quarantine_location(&state, QuarantineOwner::Set(name)),
            FileOwner::SourceQuarantine(name) => quarantine_location(&state, QuarantineOwner::Source(name)),
            FileOwner::SetState(name) => state_location(&state, name),
        }
    }

    /// What is there in the folders of sets and quarantines.
    pub(super) async fn data_files(&self) -> BTreeSet<Path> {
        let found: Vec<_> = self.objects.list(None).map_ok(|found| found.location).try_collect().await.unwrap();
        let is_data = |path: &Path| {
            ["features/", "state/quarantine/", "state/aggregates/"]
                .iter()
                .any(|folder| path.as_ref().starts_with(folder))
        };
        found.into_iter().filter(is_data).collect()
    }

    /// Checks what a run that nothing disturbed leaves behind, after everything had arrived: all was read, and nothing is
    /// there that no manifest names.
    pub(super) async fn check_end(&self) {
        let history = self.check().await;
        let whole = self.script.lock().unwrap().whole();
        assert_eq!(history.offsets_read(NUMBERS), whole, "offsets read");
        let mut totals: BTreeMap<String, (i64, i64)> = BTreeMap::new();
        let mut greatest: BTreeMap<String, i64> = BTreeMap::new();
        for entry in self.entries(&whole) {
            let Entry::Row(number) = entry else { continue };
            let (records, total) = totals.entry(kind(number)).or_default();
            (*records, *total) = (*records + 1, *total + number);
            greatest.entry(kind(number)).and_modify(|most| *most = number.max(*most)).or_insert(number);
        }
        let expected: Vec<_> =
            totals.into_iter().map(|(kind, (records, total))| Row::Total(kind, records, total)).collect();
        let mut found = self.rows_of(&history, &FileOwner::Set(TOTALS.to_owned())).await;
        found.sort();
        assert_eq!(found, expected, "rows of the totals");
        let greatest: Vec<_> = greatest.into_values().collect();
        self.check_numbers(&history, &FileOwner::Set(GREATEST.to_owned()), &greatest).await;
        self.check_windows(&history).await;
        self.check_recent(&history).await;

        let mut named = BTreeSet::new();
        for owner in history.owners() {
            let files: Vec<DataFile> = history.files(&owner).try_collect().await.unwrap();
            named.extend(files.iter().map(|file| self.place(&owner).path(&file.path)));
        }
        let manifests = self.manifests();
        let newest = manifests.newest().await.unwrap().unwrap();
        let base = newest.base.unwrap_or_default();
        let objects = base.objects.values().chain(base.ignored.values());
        let lists = objects.chain(base.files.values()).chain(base.quarantine.values());
        let mut blocks: Vec<_> = lists.flatten().chain(&base.slices).map(|block| block.path.clone()).collect();
        let all: Vec<_> = manifests.manifests(Epoch::FIRST..=newest.epoch).try_collect().await.unwrap();
        for slice in all.iter().flat_map(|manifest| manifest.slice.sources.values()) {
            let SourceSlice::Objects { block: Some(block), .. } = slice else { continue };
            blocks.push(block.path.clone());
        }
        named.extend(blocks.iter().map(|block| self.quiet("state").path(block)));
        let is_kept = |path: &Path| {
            ["in/", "state/manifests/", "state/latest"].iter().any(|kept| path.as_ref().starts_with(kept))
        };
        let found: Vec<_> = self.objects.list(None).map_ok(|meta| meta.location).try_collect().await.unwrap();
        let found: BTreeSet<_> = found.into_iter().filter(|path| !is_kept(path)).collect();
        let differing: Vec<_> = found.symmetric_difference(&named).map(ToString::to_string).collect();
        assert_eq!(differing, [""; 0], "only these are there, or only these are named");
    }
}

/// A file of at most three numbers from `first` on, some of them damaged.
fn numbered_file(first: i64, random: &mut StdRng) -> (String, Vec<Entry>) {
    let count = random.random_range(0..4);
    let entries = (first..first + count)
        .map(|number| if random.random_bool(0.2) { Entry::Damaged(number) } else { Entry::Row(number) });
    let entries = entries.collect();
    (format!("{}-{first}.json", random.random_range(0..1_000_000)), entries)
}

/// The file of these entries: the number of a row is its minute, too.
fn text_of(entries: &[Entry]) -> String {
    let line = |entry: &Entry| match entry {
        Entry::Row(number) => {
            let (hour, minute) = (number / 60, number % 60);
            format!("{{\"number\": {number}, \"at\": \"1970-01-01T{hour:02}:{minute:02}:00\"}}\n")
        }
        entry => format!("{entry:?}\n"),
    };
    entries.iter().map(line).collect()
}
