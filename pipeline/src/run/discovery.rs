//! What is new in the world, and what an epoch takes of it.

use std::collections::BTreeMap;
#[cfg(feature = "kafka")]
use std::time::Duration;

use bessemer_connectors::Source;
#[cfg(feature = "kafka")]
use bessemer_connectors::kafka::Backlog;
use bessemer_connectors::manifest_store::{History, ManifestStore};
use bessemer_connectors::object_store::Listing;
use bessemer_connectors::scan::{ScanInput, ScanObject, ScanOffsets};
use bessemer_schemas::{Digest, ObjectVersion, OffsetRange, SliceLimits, SourceKind, SourceSlice};
use bessemer_transforms::{PlannedSet, SetKind};

use super::carry::{self, Carried, Found};
use super::epoch::Assignment;
use super::every;
use super::lateness::{Floors, check_goes_on};
use super::reading::{self, Before};
use crate::error::Result;
use crate::load::Loaded;

const UNBOUNDED: SliceLimits = SliceLimits { bytes: u64::MAX, rows: u64::MAX, files: u64::MAX };

/// One look at every log and every table, made once a run: what they found is one arrival.
#[derive(Debug)]
pub(super) struct Discovered {
    logs: Vec<Log>,
    tables: BTreeMap<String, Table>,
    limits: SliceLimits,
    /// Whether all that is new is one epoch.
    is_whole: bool,
    reach: Reach,
}

/// How long a run goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// Until all is read.
    ToItsEnd,
    ForEver,
}

#[derive(Debug)]
struct Log {
    name: String,
    arrival: Arrival,
    /// Whether it is taken in slices: an append set reads it, or one that follows its watermark.
    appended: bool,
    /// Whether a set waits for its watermark.
    is_awaited: bool,
    /// How far its partitions may be apart in event time and still be read.
    #[cfg(feature = "kafka")]
    max_skew: Option<Duration>,
}

/// How much of what arrived an epoch takes.
#[derive(Debug)]
enum Portion<'a> {
    /// As much as a slice may hold.
    Slice(&'a mut SliceLimits),
    /// All that there is.
    Whole,
}

/// What is new in a log.
#[derive(Debug)]
enum Arrival {
    /// Objects that a listing found.
    Objects {
        listing: Box<Listing>,
        /// Number of this listing, from 1.
        number: u64,
    },
    /// Offsets that the brokers have.
    #[cfg(feature = "kafka")]
    Offsets(Backlog),
}

#[derive(Debug)]
struct Table {
    version: String,
    objects: Vec<ObjectVersion>,
    /// Whether this version has not been in any slice yet.
    is_new: bool,
}

impl Discovered {
    /// Lists what the feature sets read; nothing else is touched.
    pub(super) async fn find(loaded: &Loaded, history: &History, reach: Reach) -> Result<Self> {
        Self::find_among(loaded, history, reach, |_| true).await
    }

    /// Lists the tables that the feature sets read, and no log.
    pub(super) async fn find_tables(loaded: &Loaded, history: &History) -> Result<Self> {
        Self::find_among(loaded, history, Reach::ToItsEnd, |kind| kind == SourceKind::Table).await
    }

    async fn find_among(
        loaded: &Loaded,
        history: &History,
        reach: Reach,
        is_listed: fn(SourceKind) -> bool,
    ) -> Result<Self> {
        let (versions, listings) = (history.table_versions(), history.listings());
        let mut logs = Vec::new();
        let mut tables = BTreeMap::new();
        for source in &loaded.sources {
            let name = source.name();
            let readers = || {
                loaded.plan.sets.iter().filter(|set| set.sources.contains_key(name) || set.tables.contains_key(name))
            };
            if readers().next().is_none() || !is_listed(source.kind()) {
                continue;
            }
            let arrival = match source {
                Source::Objects(source) if source.kind() == SourceKind::Table => {
                    let (version, objects) = source.table_version().await?;
                    let is_new = versions.get(name) != Some(&version);
                    tables.insert(name.to_owned(), Table { version, objects, is_new });
                    continue;
                }
                Source::Objects(source) => {
                    let listing = Box::new(source.list(history.objects_known(name)).await?);
                    let number = listings.get(name).copied().unwrap_or(0) + 1;
                    Arrival::Objects { listing, number }
                }
                #[cfg(feature = "kafka")]
                Source::Kafka(source) => Arrival::Offsets(source.backlog(history.offsets_read(name)).await?),
                #[cfg(feature = "kafka")]
                Source::Log(log) => Arrival::Offsets(log.backlog(history.offsets_read(name)).await?),
            };
            // Watermarks move by what is read, and a set that waits for them reads nothing itself.
            let waits = |set: &PlannedSet| reach == Reach::ForEver && set.emit_every.is_some();
            let is_awaited = readers().any(|set| set.emits().is_some() || set.emit_every.is_some());
            let appended = readers().any(|set| set.kind == SetKind::Append || waits(set));
            logs.push(Log {
                name: name.to_owned(),
                arrival,
                appended,
                is_awaited,
                #[cfg(feature = "kafka")]
                max_skew: source.max_skew(),
            });
        }
        // What a run must hold back until its end is one epoch.
        let is_whole =
            loaded.plan.sets.iter().any(|set| set.kind == SetKind::Append && set.expectations.has_aggregates());
        Ok(Self { logs, tables, limits: loaded.parsed.settings.limits, is_whole, reach })
    }

    /// Of each log that is made of topics: what of every partition is not committed.
    pub(super) fn unread(&self) -> impl Iterator<Item = (&str, &[OffsetRange])> {
        self.logs.iter().filter_map(|log| match &log.arrival {
            Arrival::Objects { .. } => None,
            #[cfg(feature = "kafka")]
            Arrival::Offsets(backlog) => Some((log.name.as_str(), backlog.found())),
        })
    }

    /// The next epoch of the append sets; `None` when every listing is drained.
    pub(super) async fn next_append(&mut self, loaded: &Loaded, history: &History) -> Result<Option<Assignment>> {
        let mut assignment = Assignment::default();
        let mut limits = self.limits;
        for log in self.logs.iter_mut().filter(|log| log.appended) {
            let portion = if self.is_whole { Portion::Whole } else { Portion::Slice(&mut limits) };
            log.take(portion, &Floors::of(&log.name, loaded, history), &mut assignment).await?;
        }
        if assignment.slice.sources.is_empty() {
            return Ok(None);
        }
        self.complete_append(loaded, &mut assignment);
        Ok(Some(assignment))
    }

    /// What one slice may hold.
    pub(super) fn limits(&self) -> SliceLimits {
        if self.is_whole { UNBOUNDED } else { self.limits }
    }

    /// An epoch that reads nothing, and looks at the windows of the sets `at`.
    pub(super) fn closing(&mut self, loaded: &Loaded, at: Vec<usize>) -> Assignment {
        let mut assignment = Assignment::default();
        for at in &at {
            self.add_tables(&loaded.plan.sets[*at], &mut assignment);
        }
        Assignment { sets: at, bytes: bytes_read(loaded, &assignment), ..assignment }
    }

    /// Adds the append sets that read something of the assignment, and their tables.
    pub(super) fn complete_append(&mut self, loaded: &Loaded, assignment: &mut Assignment) {
        let reads = |set: &PlannedSet| set.sources.keys().any(|name| assignment.scans.contains_key(name));
        let sets = loaded.plan.sets.iter().enumerate();
        let sets: Vec<_> =
            sets.filter(|(_, set)| set.kind == SetKind::Append && reads(set)).map(|(at, _)| at).collect();
        for at in &sets {
            self.add_tables(&loaded.plan.sets[*at], assignment);
        }
        assignment.sets = sets;
        assignment.bytes = bytes_read(loaded, assignment);
    }

    /// The one epoch of the snapshot sets; `None` where nothing they read has changed. Objects that are ignored are
    /// recorded even if no set is computed: they are counted once.
    pub(super) async fn snapshot(
        &mut self,
        loaded: &Loaded,
        history: &History,
        store: &ManifestStore,
    ) -> Result<Option<Assignment>> {
        let mut assignment = Assignment { replaces: true, ..Assignment::default() };
        for log in self.logs.iter_mut().filter(|log| !log.appended) {
            log.take(Portion::Whole, &Floors::of(&log.name, loaded, history), &mut assignment).await?;
        }
        let known = history.inputs();
        let is_live = self.reach == Reach::ForEver;
        for (at, set) in loaded.plan.sets.iter().enumerate().filter(|(_, set)| set.kind == SetKind::Snapshot) {
            let is_due = !is_live || every::is_due(set, history);
            if !is_due && !every::is_behind(set, history) {
                continue;
            }
            let inputs = self.inputs(set, &assignment, history);
            if known.get(&set.name) == Some(&inputs) {
                continue;
            }
            assignment.sets.push(at);
            if is_due {
                assignment.inputs.insert(set.name.clone(), inputs);
            } else {
                assignment.absorbing.insert(at);
            }
        }
        let carried = self.carry(loaded, &mut assignment, history, store).await?;
        for name in self.logs.iter().map(|log| &log.name) {
            add_parts(name, loaded, &carried, &mut assignment, history, store).await?;
        }
        for (at, carried) in carried {
            assignment.before.insert(at, carried.state);
        }
        assignment.bytes = bytes_read(loaded, &assignment);
        Ok((!assignment.slice.sources.is_empty() || !assignment.sets.is_empty()).then_some(assignment))
    }

    /// Adds the tables of the sets of an assignment, and says what those go on from that are not computed over everything.
    async fn carry(
        &mut self,
        loaded: &Loaded,
        assignment: &mut Assignment,
        history: &History,
        store: &ManifestStore,
    ) -> Result<BTreeMap<usize, Carried>> {
        let versions = self.tables.iter().map(|(name, table)| (name.clone(), table.version.clone())).collect();
        let mut carried = BTreeMap::new();
        for at in assignment.sets.clone() {
            let set = &loaded.plan.sets[at];
            self.add_tables(set, assignment);
            match carry::find(loaded, set, &versions, history, store).await? {
                Found::Carried(found) => drop(carried.insert(at, found)),
                Found::Lost(note) => assignment.notes.push(note),
                Found::Nothing => {}
            }
        }
        Ok(carried)
    }

    /// A digest of everything that a snapshot set is computed from. Logs only grow, so their number of objects, or the
    /// offsets up to which they were read, say what they are.
    fn inputs(&self, set: &PlannedSet, assignment: &Assignment, history: &History) -> Digest {
        let mut lines = vec![set.plan_digest.to_string(), set.expectations_digest.to_string()];
        let tables = self.tables.iter().filter(|(name, _)| set.tables.contains_key(*name));
        lines.extend(tables.map(|(name, table)| format!("{name} {}", table.version)));
        let totals = history.source_totals();
        for name in set.sources.keys() {
            let before = totals.get(name).map_or(0, |ledger| ledger.objects);
            let new = assignment.scans.get(name).map_or(0, ScanInput::len) as u64;
            lines.push(format!("{name} {}", before + new));
            // Of a topic: how far it was read, and is now.
            let read = history.offsets_read(name).into_iter();
            lines.extend(read.map(|range| format!("{name} {}/{} {}", range.topic, range.partition, range.end)));
            if let Some(ScanInput::Offsets(ranges)) = assignment.scans.get(name) {
                let ends = ranges.iter().map(|offsets| &offsets.range).filter(|range| !range.is_empty());
                lines.extend(ends.map(|range| format!("{name} {}/{} {}", range.topic, range.partition, range.end)));
            }
        }
        Digest::of(lines.join("\n").as_bytes())
    }

    /// Adds the tables that `set` reads. Their objects are in the slice only while their version is new.
    fn add_tables(&mut self, set: &PlannedSet, assignment: &mut Assignment) {
        for name in set.tables.keys() {
            let Some(table) = self.tables.get_mut(name) else { continue };
            if assignment.scans.contains_key(name) {
                continue;
            }
            let scanned =
                table.objects.iter().map(|version| ScanObject { version: version.clone(), is_new: table.is_new });
            assignment.scans.insert(name.clone(), ScanInput::Objects(scanned.collect()));
            let objects = if table.is_new { table.objects.clone() } else { Vec::new() };
            let slice = SourceSlice::Table { version: table.version.clone(), objects, block: None };
            assignment.slice.sources.insert(name.clone(), slice);
            table.is_new = false;
        }
    }
}

impl Log {
    /// Moves the next part of what arrived into `assignment`.
    async fn take(&mut self, portion: Portion<'_>, floors: &Floors, assignment: &mut Assignment) -> Result<()> {
        let (slice, input) = match &mut self.arrival {
            Arrival::Objects { listing, number } => {
                let mut unbounded = UNBOUNDED;
                let limits = match portion {
                    Portion::Slice(limits) => limits,
                    Portion::Whole => &mut unbounded,
                };
                let objects = listing.next_slice(limits).await?.into_iter();
                let objects: Vec<_> = objects.map(|version| floors.object(version)).collect();
                // Those that changed and are ignored are recorded with a slice, or alone.
                let ignored = listing.next_changed()?;
                if objects.is_empty() && ignored.is_empty() {
                    return Ok(());
                }
                let is_told = self.is_awaited || listing.remaining_objects() == 0;
                if let Some(oldest) = if is_told { listing.oldest_unread().await? } else { None } {
                    assignment.oldest_unread.insert(self.name.clone(), oldest);
                }
                let scanned = objects.iter().map(|version| ScanObject { version: version.clone(), is_new: true });
                let input = ScanInput::Objects(scanned.collect());
                (SourceSlice::Objects { listing: *number, objects, block: None, ignored }, input)
            }
            #[cfg(feature = "kafka")]
            Arrival::Offsets(backlog) => {
                // What waits for a later slice holds the watermark, too.
                if let Some(woken) = floors.woken(backlog.left()) {
                    assignment.watermarks.insert(self.name.clone(), woken);
                }
                let ranges = match portion {
                    Portion::Slice(limits) => {
                        let step = floors.step(backlog.left(), self.max_skew);
                        backlog.next_slice_without(limits, |range| !range.is_empty() && step.waits(range))
                    }
                    Portion::Whole => backlog.rest(),
                };
                let ranges = ranges.into_iter();
                let ranges: Vec<_> = ranges.map(|range| floors.offsets(range)).collect();
                if ranges.is_empty() {
                    return Ok(());
                }
                let scanned = ranges.iter().map(|range| ScanOffsets { range: range.clone(), is_new: true });
                let input = ScanInput::Offsets(scanned.collect());
                (SourceSlice::Kafka { ranges }, input)
            }
        };
        check_goes_on(&self.name, floors)?;
        // Where changes are all there is, no set has anything to read.
        if !input.is_empty() {
            assignment.scans.insert(self.name.clone(), input);
        }
        assignment.slice.sources.insert(self.name.clone(), slice);
        Ok(())
    }
}

/// What the scans of an assignment will tell as progress, in bytes (of topics, in offsets): every scan tells its own, and
/// several may read one source.
fn bytes_read(loaded: &Loaded, assignment: &Assignment) -> u64 {
    let size = |at: &usize, name: &String| {
        let Some(input) = assignment.scans.get(name) else { return 0 };
        let extent = |part: usize| input.extent(part);
        match assignment.parts.get(at).and_then(|parts| parts.get(name)) {
            Some(numbers) => numbers.iter().filter_map(|number| usize::try_from(*number).ok()).map(extent).sum::<u64>(),
            None => (0..input.len()).map(extent).sum(),
        }
    };
    let of_set = |at: &usize| {
        let set = &loaded.plan.sets[*at];
        let scanned = set.sources.iter().chain(&set.tables);
        scanned.map(|(name, scans)| *scans as u64 * size(at, name)).sum::<u64>()
    };
    assignment.sets.iter().map(of_set).sum()
}

/// Adds what the sets of an assignment read of the log `name`, beside what is new in it.
async fn add_parts(
    name: &str,
    loaded: &Loaded,
    carried: &BTreeMap<usize, Carried>,
    assignment: &mut Assignment,
    history: &History,
    store: &ManifestStore,
) -> Result<()> {
    let readers = assignment.sets.iter().copied();
    let readers: Vec<_> = readers.filter(|at| loaded.plan.sets[*at].sources.contains_key(name)).collect();
    if readers.is_empty() {
        return Ok(());
    }
    let before = |at| carried.get(at).map_or(Before::Everything, |carried: &Carried| Before::Since(&carried.since));
    let wanted: Vec<_> = readers.iter().map(before).collect();
    let parts = reading::parts(name, assignment.scans.remove(name), &wanted, history, store).await?;
    assignment.scans.insert(name.to_owned(), parts.input);
    for (at, numbers) in readers.into_iter().zip(parts.of) {
        if let Some(numbers) = numbers {
            assignment.parts.entry(at).or_default().insert(name.to_owned(), numbers);
        }
    }
    Ok(())
}
