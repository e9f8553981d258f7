//! A replay: quarantined records of a source, decoded again as its definition is now.
//!
//! ```text
//! quarantine files ─┬─ records that are asked for ─► decode, query, expectations ─► files of the sets, and quarantine
//!                   └─ the others ────────────────► quarantine files in the place of the old ones
//! ```
//!
//! It is an epoch like any other: its slice names the records, and the manifest that adds their rows takes the files that
//! held them out of force. So a second replay finds nothing, and a crash at any point replays once or not at all.

use std::collections::VecDeque;

use bessemer_connectors::manifest_store::History;
use bessemer_connectors::scan::{MENDED_COLUMN, ReplayPart, ScanInput};
use bessemer_connectors::sink::{QuarantineOwner, QuarantineWriter, as_quarantined, quarantine_location, read_rows};
use bessemer_connectors::{Location, Source};
use bessemer_schemas::{
    DataFile, FileName, Manifest, QuarantinedRecords, RejectReason, SliceLimits, SourceKind, SourceSlice,
};
use bessemer_transforms::{PlannedSet, SetKind};
use datafusion::arrow::array::{AsArray, BinaryArray, BooleanArray, RecordBatch};
use datafusion::arrow::compute::{concat_batches, filter_record_batch};
use datafusion::arrow::datatypes::UInt64Type;
use futures::TryStreamExt;
use tokio_util::sync::CancellationToken;

use super::discovery::Discovered;
use super::epoch::{Assignment, Naming};
use super::lateness::{Floors, check_goes_on};
use super::repaired::Repaired;
use super::{Run, RunOptions, RunSummary, Work, run_once, unless_cancelled};
use crate::error::{Error, Result};
use crate::load::{self, Loaded, Parsed};
use crate::progress::Progress;

/// What one epoch decodes again: the records are in memory, and its manifest names them.
const EPOCH: SliceLimits = SliceLimits { bytes: 64 << 20, rows: 50_000, files: 1_000 };
/// The stream of an epoch's quarantine files that holds what stays there; the others are what comes there.
const KEPT_STREAM: usize = 1;

/// Which records are to be replayed.
#[derive(Debug)]
pub(crate) struct ReplayRequest {
    /// Those of this source; of every one that has some, if none is named.
    pub(crate) source: Option<String>,
    /// Those that are there for one of these reasons; for any, if there are none.
    pub(crate) reasons: Vec<RejectReason>,
    /// These alone, with other bytes.
    pub(crate) repaired: Option<Repaired>,
}

/// Replays records of the quarantine of a pipeline.
pub(crate) async fn replay(
    parsed: Parsed,
    request: &ReplayRequest,
    options: RunOptions,
    progress: &Progress,
    cancel: &CancellationToken,
) -> Result<RunSummary> {
    run_once(parsed, Work::Replay(request), options, progress, cancel).await
}

impl Run<'_> {
    /// Everything between opening and closing.
    pub(super) async fn work_again(&mut self, request: &ReplayRequest) -> Result<()> {
        let cancel = self.cancel;
        unless_cancelled(cancel, self.recover()).await?;
        self.check_kept().await?;
        let sources = unless_cancelled(cancel, request.sources(&self.loaded, self.writer.history())).await?;
        let tables = Discovered::find_tables(&self.loaded, self.writer.history());
        let mut tables = unless_cancelled(cancel, tables).await?;
        for source in &sources {
            let mut replay = Replay::begin(source, request, &self.loaded, self.writer.history()).await?;
            while let Some(mut assignment) = unless_cancelled(cancel, replay.next(&self.loaded, &mut tables)).await? {
                self.add_emissions(&mut assignment)?;
                self.commit_epoch(&assignment).await?;
                replay.go_on(self.writer.history());
            }
            for note in replay.notes() {
                self.progress.say(&note);
            }
        }
        Ok(())
    }
}

impl ReplayRequest {
    /// The sources whose records are replayed; an error where one of them cannot be.
    async fn sources(&self, loaded: &Loaded, history: &History) -> Result<Vec<String>> {
        let names: Vec<&str> = loaded.sources.iter().map(Source::name).collect();
        if let Some(name) = &self.source
            && !names.contains(&name.as_str())
        {
            return Err(load::unknown("source", name, &names));
        }
        let mut sources = Vec::new();
        for source in &loaded.sources {
            let name = source.name();
            let is_asked = self.source.as_ref().is_none_or(|asked| asked == name);
            if !is_asked || history.quarantine_files(&format!("source:{name}")).try_next().await?.is_none() {
                continue;
            }
            if let Some(reason) = refusal(source, loaded) {
                return Err(Error::ReplayRefused { name: name.to_owned(), reason });
            }
            if readers(name, loaded).any(|set| set.emits().is_some()) {
                check_goes_on(name, &Floors::of(name, loaded, history))?;
            }
            sources.push(name.to_owned());
        }
        match (&self.repaired, sources.as_slice()) {
            (Some(_), [_, _, ..]) => {
                let message = "which source are the repaired records of? Say so with `--source`".to_owned();
                Err(Error::Unknown { message })
            }
            _ => Ok(sources),
        }
    }

    /// Which of `records` are asked for, and the same records with what they were repaired to. Also how many are asked for
    /// of which quarantine holds only the beginning.
    fn select(&self, records: &RecordBatch) -> Result<(Vec<bool>, RecordBatch, u64)> {
        let (is_repaired, records) = match &self.repaired {
            None => (vec![true; records.num_rows()], records.clone()),
            Some(repaired) => repaired.mend(records)?,
        };
        let unfit = || Error::Internal { message: "quarantined records do not say why they are there".to_owned() };
        let column = |name: &str| records.column_by_name(name).ok_or_else(unfit);
        let reasons = column("reason")?.as_string_opt::<i32>().ok_or_else(unfit)?;
        let originals = column("original")?.as_binary_opt::<i32>().ok_or_else(unfit)?;
        let values = values(&records).ok_or_else(unfit)?;
        let lengths = column("byte_len")?.as_primitive_opt::<UInt64Type>().ok_or_else(unfit)?;
        let mut cut_off = 0;
        let mut asked = is_repaired;
        for (row, asked) in asked.iter_mut().enumerate() {
            let reason = reasons.value(row);
            *asked &= reason != RejectReason::UnreadableFile.as_str()
                && (self.reasons.is_empty() || self.reasons.iter().any(|asked| asked.as_str() == reason));
            let (original, value) = (originals.value(row), values.value(row));
            if *asked && original.len() as u64 != lengths.value(row) && value == original {
                (*asked, cut_off) = (false, cut_off + 1);
            }
        }
        Ok((asked, records, cut_off))
    }
}

/// The bytes of records: those that they were mended to, where they were.
fn values(records: &RecordBatch) -> Option<&BinaryArray> {
    let column = records.column_by_name(MENDED_COLUMN).or_else(|| records.column_by_name("original"));
    column?.as_binary_opt::<i32>()
}

/// The sets that read a source.
fn readers<'l>(source: &'l str, loaded: &'l Loaded) -> impl Iterator<Item = &'l PlannedSet> + Clone {
    loaded.plan.sets.iter().filter(move |set| set.sources.contains_key(source))
}

/// Why records of a source cannot be replayed; nothing where they can.
fn refusal(source: &Source, loaded: &Loaded) -> Option<String> {
    if source.kind() == SourceKind::Table {
        return Some("a table is read anew whenever it changes: mend its file".to_owned());
    }
    let mut readers = readers(source.name(), loaded);
    if readers.clone().next().is_none() {
        return Some("no feature set reads it".to_owned());
    }
    match readers.find(|set| set.kind == SetKind::Snapshot) {
        Some(set) => Some(format!(
            "feature set `{}` is computed over everything read so far, from the source itself, where the records are \
             as bad as before",
            set.name
        )),
        None => source.replay_refusal().map(str::to_owned),
    }
}

/// What was found of what was asked for.
#[derive(Debug, Default)]
struct Found {
    records: u64,
    /// Records of which quarantine holds only the beginning.
    cut_off: u64,
    /// Rows that the watermark had passed.
    late: u64,
    /// Rows that came of it.
    admitted: u64,
}

/// The quarantine of one source on its way through epochs.
struct Replay<'a> {
    request: &'a ReplayRequest,
    source: &'a str,
    location: Location,
    is_of_topics: bool,
    /// Files that are still to be looked at, and whether it is for the first time.
    left: VecDeque<(DataFile, bool)>,
    /// Whether the last epoch left out records that are asked for.
    is_cut: bool,
    /// A set that keeps rows until they are final.
    closing: Option<String>,
    /// Where there is one, rows before it are late, in microseconds since 1970.
    late_before: Option<i64>,
    found: Found,
}

/// Records that one epoch takes out of quarantine files.
#[derive(Debug)]
pub(super) struct TakenRecords {
    pub(super) source: String,
    pub(super) files: Vec<TakenFile>,
    is_of_topics: bool,
}

#[derive(Debug)]
pub(super) struct TakenFile {
    pub(super) file: DataFile,
    /// Which of its rows are taken; the others go into another file.
    taken: Vec<bool>,
}

impl<'a> Replay<'a> {
    async fn begin(source: &'a str, request: &'a ReplayRequest, loaded: &Loaded, history: &History) -> Result<Self> {
        let files: Vec<DataFile> = history.quarantine_files(&format!("source:{source}")).try_collect().await?;
        let is_objects = |found: &&Source| found.name() == source && matches!(found, Source::Objects(_));
        let floors = Floors::of(source, loaded, history);
        let closing = readers(source, loaded).find(|set| set.emits().is_some()).map(|set| set.name.clone());
        Ok(Self {
            request,
            source,
            location: quarantine_location(&loaded.parsed.settings.state, QuarantineOwner::Source(source)),
            is_of_topics: !loaded.sources.iter().any(|found| is_objects(&found)),
            left: files.into_iter().map(|file| (file, true)).collect(),
            is_cut: false,
            late_before: floors.of_source().filter(|_| closing.is_some()),
            closing,
            found: Found::default(),
        })
    }

    /// The next epoch; `None` where nothing is left that is asked for.
    async fn next(&mut self, loaded: &Loaded, tables: &mut Discovered) -> Result<Option<Assignment>> {
        let mut budget = tables.limits();
        // What a run must hold back until its end is one epoch, whatever it needs.
        if budget.bytes < u64::MAX {
            let SliceLimits { bytes, rows, files } = EPOCH;
            budget = SliceLimits {
                bytes: budget.bytes.min(bytes),
                rows: budget.rows.min(rows),
                files: budget.files.min(files),
            };
        }
        let (mut files, mut records) = (Vec::new(), Vec::new());
        while budget.rows > 0
            && budget.bytes > 0
            && budget.files > 0
            && let Some((file, is_first)) = self.left.pop_front()
        {
            let taken = self.take(&file, is_first, &mut budget, &mut records).await?;
            if taken.contains(&true) {
                budget.files -= 1;
                files.push(TakenFile { file, taken });
            }
        }
        if files.is_empty() {
            return Ok(None);
        }
        let Some(first) = records.first().map(RecordBatch::schema) else { return Ok(None) };
        let records = concat_batches(&first, &records).map_err(bessemer_connectors::Error::from)?;
        self.found.records += records.num_rows() as u64;
        let parts = ReplayPart::parts_of(&records)?.into_iter();
        let parts: Vec<_> = parts.map(|part| part.with_late_before(self.late_before)).collect();
        let slice = SourceSlice::Quarantine {
            files: files.iter().map(TakenFile::named).collect(),
            repaired: self.request.repaired.as_ref().map(|repaired| repaired.digest().clone()),
        };
        let taken = TakenRecords { source: self.source.to_owned(), files, is_of_topics: self.is_of_topics };
        let mut assignment = Assignment { replayed: Some(taken), ..Assignment::default() };
        assignment.slice.sources.insert(self.source.to_owned(), slice);
        assignment.scans.insert(self.source.to_owned(), ScanInput::Replayed(parts.into()));
        tables.complete_append(loaded, &mut assignment);
        Ok(Some(assignment))
    }

    /// Moves records of a file into `records`; which of them.
    async fn take(
        &mut self,
        file: &DataFile,
        is_first: bool,
        budget: &mut SliceLimits,
        records: &mut Vec<RecordBatch>,
    ) -> Result<Vec<bool>> {
        let mut taken = Vec::new();
        let mut rows = read_rows(&self.location, std::slice::from_ref(file), u64::MAX);
        while let Some(batch) = rows.try_next().await? {
            let batch = as_quarantined(&batch, self.is_of_topics)?;
            let (mut asked, batch, cut_off) = self.request.select(&batch)?;
            self.found.cut_off += if is_first { cut_off } else { 0 };
            let values = values(&batch);
            for (row, asked) in asked.iter_mut().enumerate() {
                // What is beyond the budget is for the next epoch.
                self.is_cut |= *asked && (budget.rows == 0 || budget.bytes == 0);
                *asked &= budget.rows > 0 && budget.bytes > 0;
                if *asked {
                    let bytes = values.map_or(0, |values| values.value(row).len()) as u64;
                    budget.rows -= 1;
                    budget.bytes = budget.bytes.saturating_sub(bytes.max(1));
                }
            }
            let chosen = filter_record_batch(&batch, &BooleanArray::from(asked.clone()));
            records.push(chosen.map_err(bessemer_connectors::Error::from)?);
            taken.append(&mut asked);
        }
        Ok(taken)
    }

    /// After an epoch was committed: what it kept back is looked at again, where that was for want of room.
    fn go_on(&mut self, history: &History) {
        let newest = history.newest();
        let ledger = newest.and_then(|manifest| manifest.sources.get(self.source)).copied().unwrap_or_default();
        self.found.late += ledger.late;
        self.found.admitted += ledger.admitted;
        let added = newest.and_then(|manifest| manifest.quarantine.get(self.source));
        let is_kept = |file: &&DataFile| {
            let name = file.path.rsplit('/').next().and_then(|name| name.parse::<FileName>().ok());
            name.is_some_and(|name| name.stream as usize == KEPT_STREAM)
        };
        let kept = added.iter().flat_map(|changes| &changes.added).filter(is_kept).filter(|_| self.is_cut);
        self.left.extend(kept.map(|file| (file.clone(), false)));
        self.is_cut = false;
    }

    fn notes(&self) -> Vec<String> {
        use crate::output::plural;
        let mut notes = Vec::new();
        if self.found.cut_off > 0 {
            notes.push(format!(
                "source `{}`: quarantine holds only the beginning of {}; give their bytes with `--repaired`",
                self.source,
                plural(self.found.cut_off, "long record")
            ));
        }
        if self.found.late > 0 {
            notes.push(format!(
                "source `{}`: {} before the watermark, which what was emitted has gone without: they stay in quarantine as \
                 `late`",
                self.source,
                plural(self.found.late, "row")
            ));
        }
        if let Some(set) = &self.closing
            && self.found.admitted > 0
        {
            notes.push(format!(
                "feature set `{set}`: what it keeps for rows to come has rows now that only quarantine had; were it lost, it \
                 could not be made anew"
            ));
        }
        if let Some(repaired) = &self.request.repaired
            && let missing = repaired.records().saturating_sub(self.found.records)
            && missing > 0
        {
            notes.push(format!(
                "source `{}`: {} of the repaired records are not in quarantine (any more)",
                self.source,
                crate::output::count(missing)
            ));
        }
        notes
    }
}

impl TakenFile {
    /// As the slice names it.
    fn named(&self) -> QuarantinedRecords {
        let mut rows: Vec<(u64, u64)> = Vec::new();
        for row in (0_u64..).zip(&self.taken).filter(|(_, taken)| **taken).map(|(row, _)| row) {
            match rows.last_mut() {
                Some((_, end)) if *end == row => *end += 1,
                _ => rows.push((row, row + 1)),
            }
        }
        QuarantinedRecords { path: self.file.path.clone(), rows }
    }
}

impl TakenRecords {
    /// Lets `manifest` take the files out of force, and add others with what stays in quarantine.
    pub(super) async fn leave(&self, parsed: &Parsed, naming: Naming, manifest: &mut Manifest) -> Result<()> {
        let kept = self.write_kept(parsed, naming).await?;
        let changes = manifest.quarantine.entry(self.source.clone()).or_default();
        changes.added.extend(kept);
        changes.removed.extend(self.files.iter().map(|taken| taken.file.clone()));
        Ok(())
    }

    /// Writes what stays in quarantine into files of this epoch.
    async fn write_kept(&self, parsed: &Parsed, naming: Naming) -> Result<Vec<DataFile>> {
        if self.files.iter().all(|file| !file.taken.contains(&false)) {
            return Ok(Vec::new());
        }
        let (state, source, naming) = (&parsed.settings.state, self.source.as_str(), naming.writer(KEPT_STREAM));
        let mut writer = if self.is_of_topics {
            QuarantineWriter::of_topics(state, parsed.name(), source, naming, None)?
        } else {
            QuarantineWriter::of_source(state, parsed.name(), source, naming, None)?
        };
        match self.copy_kept(&quarantine_location(state, QuarantineOwner::Source(source)), &mut writer).await {
            Ok(()) => Ok(writer.finish().await?),
            Err(error) => {
                writer.abort().await;
                Err(error)
            }
        }
    }

    async fn copy_kept(&self, location: &Location, writer: &mut QuarantineWriter) -> Result<()> {
        for TakenFile { file, taken } in &self.files {
            let mut rows = read_rows(location, std::slice::from_ref(file), u64::MAX);
            let mut next = 0;
            while let Some(batch) = rows.try_next().await? {
                let kept = taken.get(next..next + batch.num_rows()).ok_or_else(|| Error::Internal {
                    message: format!("`{}` has more rows than when it was read before", file.path),
                })?;
                next += batch.num_rows();
                let kept: BooleanArray = kept.iter().map(|taken| Some(!taken)).collect();
                let kept = filter_record_batch(&batch, &kept).map_err(bessemer_connectors::Error::from)?;
                writer.write_again(&as_quarantined(&kept, self.is_of_topics)?).await?;
            }
        }
        Ok(())
    }
}
