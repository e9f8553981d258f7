//! A day of one-second epochs: the real choice of what is merged, and for some hours of it real manifests, over files
//! that are only names.

use std::sync::atomic::{AtomicUsize, Ordering};

use object_store::ObjectStoreExt;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::faulty::FaultyStore;
use super::*;

const DAY: u64 = 86_400;
/// As long as manifests are put, too: past many bases and archives.
const HOURS: u64 = 2 * 3_600;
const SECOND: i64 = 1_000_000;
/// Files of a partition that are still to be merged, and those that came while others were.
const FILES_MAX: usize = 3 * 60 + 15;

/// A set in partitions by hour, where some rows are late, and one without, of which there is much more.
const SETS: [(&str, u64); 2] = [("hourly", 4_000), ("all", 200_000)];

/// What a file holds: ranges of numbered rows, each with how often it was written.
type Content = Vec<(std::ops::Range<u64>, u32)>;

/// What is in force, by our own book-keeping.
#[derive(Default)]
struct Book {
    files: BTreeMap<String, (DataFile, Content)>,
    /// Files of each partition that are smaller than files should be.
    small: BTreeMap<String, usize>,
    most_small: usize,
    rows: u64,
}

impl Book {
    fn add(&mut self, file: &DataFile, content: Content, limits: MergeLimits) {
        assert_eq!(content.iter().map(|(rows, _)| rows.end - rows.start).sum::<u64>(), file.rows);
        let before = self.files.insert(file.path.clone(), (file.clone(), content));
        assert!(before.is_none(), "a name was used twice");
        if is_small(file, limits) {
            let small = self.small.entry(directory(file)).or_default();
            *small += 1;
            self.most_small = self.most_small.max(*small);
        }
    }

    fn remove(&mut self, file: &DataFile, limits: MergeLimits) -> Content {
        if is_small(file, limits) {
            *self.small.get_mut(&directory(file)).unwrap() -= 1;
        }
        self.files.remove(&file.path).unwrap().1
    }

    fn in_force(&self) -> Vec<DataFile> {
        self.files.values().map(|(file, _)| file.clone()).collect()
    }

    /// Every row is there once, and was not written too often.
    fn check(&self) {
        let mut all: Vec<_> = self.files.values().flat_map(|(_, content)| content).collect();
        all.sort_by_key(|(rows, _)| rows.start);
        let mut next = 0;
        for (rows, written) in all {
            assert_eq!(rows.start, next, "a row is missing or there twice");
            next = rows.end;
            assert!(*written <= 1 + 3, "a row was rewritten {} times", written - 1);
        }
        assert_eq!(next, self.rows);
    }
}

fn is_small(file: &DataFile, limits: MergeLimits) -> bool {
    file.bytes < limits.file_bytes.0 && file.rewrites < 3
}

fn directory(file: &DataFile) -> String {
    file.path.rsplit_once('/').map_or(String::new(), |(directory, _)| directory.to_owned())
}

/// A merge of one set that will be written at a certain time.
struct UnderWay {
    set: usize,
    merges: Vec<Merge>,
    epoch: u64,
    done_at: u64,
}

struct Day {
    /// Where manifests are put, if they are.
    manifests: Option<(ManifestStore, EpochWriter)>,
    epochs: u64,
    limits: MergeLimits,
    books: [Book; 2],
    tiers: Vec<Tiers>,
    under_way: Option<UnderWay>,
    merges: u32,
    crashes: u32,
    largest_manifest: u64,
}

impl Day {
    async fn open(store: Option<&ManifestStore>) -> Self {
        let limits =
            MergeLimits { file_bytes: ByteSize(512 << 20), row_group_rows: 262_144, open_bytes: ByteSize(512 << 20) };
        let (books, tiers, under_way, manifests) = Default::default();
        let (epochs, merges, crashes, largest_manifest) = Default::default();
        let mut day = Self { manifests, epochs, limits, books, tiers, under_way, merges, crashes, largest_manifest };
        if let Some(store) = store {
            day.manifests = Some((store.clone(), open(store).await.unwrap()));
        }
        day.look(0).await;
        day
    }

    /// The files in force of a set: what the manifests say, which is what our books say.
    async fn in_force(&self, set: usize) -> Vec<DataFile> {
        let files = self.books[set].in_force();
        if let Some((_, writer)) = &self.manifests {
            let live: Vec<_> = writer.history().live_files(SETS[set].0).try_collect().await.unwrap();
            assert!(live == files, "files in force of {}", SETS[set].0);
        }
        files
    }

    /// What a run does that begins: it looks at all files in force.
    async fn look(&mut self, now: i64) {
        self.tiers.clear();
        for set in 0..SETS.len() {
            let mut tiers = Tiers::new(self.limits);
            self.in_force(set).await.iter().for_each(|file| tiers.add(file, now));
            self.tiers.push(tiers);
        }
    }

    /// The process dies, and another one goes on.
    async fn crash(&mut self, now: i64) {
        self.crashes += u32::from(self.under_way.take().is_some());
        if let Some((store, writer)) = &mut self.manifests {
            *writer = open(store).await.unwrap();
        }
        self.epochs += 1;
        self.look(now).await;
    }

    async fn commit(&mut self, kind: ManifestKind, slice: Slice, sets: Vec<(usize, SetCommit)>, now: i64) {
        for (set, commit) in &sets {
            self.tiers[*set].apply(&commit.files, now);
        }
        self.epochs += 1;
        let Some((_, writer)) = &mut self.manifests else { return };
        let sets = sets.into_iter().map(|(set, commit)| (SETS[set].0.to_owned(), commit)).collect();
        let manifest = Manifest { slice, sets, ..writer.draft(kind, 2) };
        let committed = writer.commit(manifest, &[]).await.unwrap();
        self.largest_manifest = self.largest_manifest.max(committed.bytes);
    }

    fn name(&self, epoch: u64, attempt: u32, seq: u32) -> FileName {
        let claim = self.manifests.as_ref().map_or(Claim(1), |(_, writer)| writer.claim());
        FileName { epoch: Epoch(epoch), claim, attempt, stream: 0, seq }
    }

    /// An epoch: a file of each set, and sometimes one of late rows.
    async fn epoch(&mut self, second: u64, random: &mut StdRng) {
        let start = i64::try_from(second * 1_000).unwrap();
        let range = OffsetRange {
            topic: "t".to_owned(),
            partition: 0,
            start,
            end: start + 1_000,
            topic_id: None,
            late_before: None,
            is_apart: false,
        };
        let slice = Slice { sources: [("t".to_owned(), SourceSlice::Kafka { ranges: vec![range] })].into() };
        let mut sets = Vec::new();
        for (at, (_, bytes)) in SETS.iter().enumerate() {
            let hour = second / 3_600;
            let is_late = at == 0 && hour > 0 && random.random_bool(0.03);
            let late = is_late.then(|| hour - 1 - random.random_range(0..hour.min(3)));
            let mut added = Vec::new();
            for (seq, hour) in (0..).zip([Some(hour), late].into_iter().flatten()) {
                let rows = random.random_range(50..150);
                let folder = if at == 0 { format!("hour={hour:02}/") } else { String::new() };
                let path = format!("{folder}{}", self.name(self.epochs + 1, 0, seq));
                let file = DataFile { path, rows, bytes: bytes * rows / 100, partition: Vec::new(), rewrites: 0 };
                let book = &mut self.books[at];
                book.add(&file, vec![(book.rows..book.rows + rows, 1)], self.limits);
                book.rows += rows;
                added.push(file);
            }
            sets.push((at, set_commit(added, Vec::new())));
        }
        self.commit(ManifestKind::Data, slice, sets, i64::try_from(second).unwrap() * SECOND).await;
    }

    /// Begins what is due: it takes its time, while epochs go on.
    fn begin(&mut self, second: u64) {
        let now = i64::try_from(second).unwrap() * SECOND;
        let next = Epoch(self.epochs + 1);
        let due =
            |(set, tiers): (usize, &Tiers)| Some((set, tiers.due(now, next))).filter(|(_, merges)| !merges.is_empty());
        if self.under_way.is_none()
            && let Some((set, merges)) = self.tiers.iter().enumerate().find_map(due)
        {
            let work: u64 =
                merges.iter().map(|merge| merge.files.len() as u64 / 100 + merge.bytes() / (50 << 20)).sum();
            let epoch = self.epochs + 1;
            self.under_way = Some(UnderWay { set, merges, epoch, done_at: second + 1 + work });
        }
    }

    /// Commits it when its time has come.
    async fn end(&mut self, second: u64) {
        let Some(UnderWay { set, merges, epoch, .. }) = self.under_way.take_if(|step| step.done_at <= second) else {
            return;
        };
        self.merges += 1;
        let (mut added, mut removed) = (Vec::new(), Vec::new());
        for merge in merges {
            let mut content = Content::new();
            for file in &merge.files {
                let rows = self.books[set].remove(file, self.limits);
                content.extend(rows.into_iter().map(|(rows, written)| (rows, written + 1)));
            }
            let mut coalesced = Content::new();
            for (rows, written) in content {
                match coalesced.last_mut() {
                    Some((last, often)) if last.end == rows.start && *often == written => last.end = rows.end,
                    _ => coalesced.push((rows, written)),
                }
            }
            let path = format!(
                "{}{}",
                prefix(&merge.files[0]),
                self.name(epoch, 1_000 + self.merges, u32::try_from(added.len()).unwrap())
            );
            let (rows, bytes) = (merge.files.iter().map(|file| file.rows).sum(), merge.bytes() * 9 / 10);
            let file = DataFile { path, rows, bytes, partition: Vec::new(), rewrites: merge.rewrites };
            self.books[set].add(&file, coalesced, self.limits);
            added.push(file);
            removed.extend(merge.files);
        }
        let sets = vec![(set, set_commit(added, removed))];
        self.commit(ManifestKind::Compaction, Slice::default(), sets, i64::try_from(second).unwrap() * SECOND).await;
    }
}

fn prefix(file: &DataFile) -> String {
    file.path.rsplit_once('/').map_or(String::new(), |(directory, _)| format!("{directory}/"))
}

fn set_commit(added: Vec<DataFile>, removed: Vec<DataFile>) -> SetCommit {
    let rows = |files: &[DataFile]| files.iter().map(|file| file.rows).sum::<u64>();
    let rows = rows(&added) - rows(&removed);
    let ledger = SetLedger { admitted: rows, produced: rows, written: rows, ..Default::default() };
    let files = FileChanges { added, removed, replaces_all: false };
    SetCommit {
        files,
        quarantine: FileChanges::default(),
        ledger,
        expectations: Vec::new(),
        inputs: None,
        state: None,
        emitted_at: None,
    }
}

/// Runs for `seconds`, with a crash now and then; `look` sees it after each epoch.
async fn run(seconds: u64, store: Option<&ManifestStore>, mut look: impl AsyncFnMut(u64, &Day)) -> Day {
    const SEED: u64 = 0xda7;
    println!("seed {SEED:#x}");
    let mut random = StdRng::seed_from_u64(SEED);
    let mut day = Day::open(store).await;
    for second in 0..seconds {
        day.end(second).await;
        day.epoch(second, &mut random).await;
        day.begin(second);
        if random.random_bool(1.0 / 900.0) || day.under_way.is_some() && random.random_bool(0.01) {
            day.crash(i64::try_from(second).unwrap() * SECOND).await;
        }
        look(second, &day).await;
    }
    for (set, book) in day.books.iter().enumerate() {
        book.check();
        let files = day.in_force(set).await;
        let partitions = files.iter().map(directory).collect::<BTreeSet<_>>().len();
        let most = book.most_small;
        println!("{}: {} files in {partitions} partitions, {most} small ones in one at most", SETS[set].0, files.len());
        assert!(most <= FILES_MAX, "{}: {most} small files in a partition", SETS[set].0);
        assert!(files.len() <= 30 * partitions + 150, "{}: {} files", SETS[set].0, files.len());
    }
    println!("{} merges, {} of them lost in a crash", day.merges, day.crashes);
    day
}

#[tokio::test]
async fn a_day_of_one_second_epochs_leaves_few_files_and_rewrites_no_row_often() {
    let day = run(DAY, None, async |_, _| {}).await;
    assert!(day.merges > 1_000 && day.crashes > 20);
}

#[tokio::test]
async fn after_hours_of_one_second_epochs_manifests_and_opening_are_as_small_as_at_first() {
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = Arc::new(FaultyStore::counting(Arc::new(InMemory::new()), Arc::clone(&requests)));
    let location = Location::in_store(counted, Path::from("state"));
    let store = ManifestStore::new(location.clone(), "flights");
    let (mut early, mut late, mut most_manifests) = ((0, 0), (0, 0), 0);
    let day = run(HOURS, Some(&store), async |second, day| {
        let (store, writer) = day.manifests.as_ref().unwrap();
        // Just before a new base is made there is most to read.
        if writer.history().recent().len() == 256 {
            let cost = cost_of_opening(store, &requests).await;
            let most = if second < HOURS / 4 { &mut early } else { &mut late };
            *most = (most.0.max(cost.0), most.1.max(cost.1));
            most_manifests = most_manifests.max(paths(&location, "manifests").await.len());
        }
    });
    let day = day.await;

    let [manifests, blocks, archives] = ["manifests", "blocks", "archive"].map(|folder| paths(&location, folder));
    let (manifests, blocks, archives) = (manifests.await.len(), blocks.await.len(), archives.await.len());
    println!("requests and bytes to open: {early:?}, then {late:?}; {manifests} manifests, {most_manifests} at most");
    println!("the largest of {} bytes; {blocks} blocks, {archives} archives", day.largest_manifest);
    assert!(early.0 <= 300 && late.0 <= early.0 + 8, "requests to open: {early:?}, then {late:?}");
    assert!(late.1 <= early.1 * 5 / 4, "bytes to open: {early:?}, then {late:?}");
    assert!(most_manifests <= 2 * 1_024 + 257, "{most_manifests} manifests");
    assert!(day.largest_manifest < 60_000, "{} bytes", day.largest_manifest);
    // A crash forgets the blocks that were to go: a sweep takes them.
    assert!(blocks < 20 + 8 * day.crashes as usize && archives >= 5, "{blocks} blocks, {archives} archives");
}

/// Requests and bytes that opening costs a reader.
async fn cost_of_opening(store: &ManifestStore, requests: &AtomicUsize) -> (usize, u64) {
    let before = requests.load(Ordering::Relaxed);
    let history = store.history().await.unwrap();
    let asked = requests.load(Ordering::Relaxed) - before;
    let mut bytes = 0;
    for manifest in history.recent() {
        let path = store.location.path(&layout::manifest_path(manifest.epoch));
        bytes += store.location.store().head(&path).await.unwrap().size;
    }
    (asked, bytes)
}
