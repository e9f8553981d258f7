//! Reading one piece of one object: rows judged, counted and given on, rejects and the ledger reported.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::filter_record_batch;
use bessemer_schemas::{RejectReason, SourceLedger};
use datafusion_physical_plan::metrics::Count;
use datafusion_pruning::PruningPredicate;

use super::options::{FileFormat, OnError};
use super::piece::Piece;
use super::pinned::PinnedObject;
use super::read_plan::{Numbers, Origin, ReadPlan};
use super::reject_rows::{RowReject, reject_batch, row_json};
use super::source::ObjectSource;
use super::typed_read::TypedFormat;
use super::{parquet_read, text_read, typed_read};
use crate::formats::text::ORIGINAL_BYTES_MAX;
use crate::scan::{Emitter, LateFloor, Latest, Refusal, Reporter, ScanObject, ScanReport, Verdict, is_dropped};
use crate::{Error, Result};

/// Refused rows that are reported at a time: bounds how many of their originals wait.
pub(super) const REPORT_ROWS: usize = 256;

/// What the partitions of one scan share.
#[derive(Debug)]
pub(super) struct ScanContext {
    pub(super) source: Arc<ObjectSource>,
    pub(super) plan: ReadPlan,
    pub(super) objects: Arc<[ScanObject]>,
    /// The source's number in row identity.
    pub(super) number: u64,
    pub(super) predicate: Option<Arc<PruningPredicate>>,
    pub(super) reporter: Reporter,
}

/// One partition at work.
#[derive(Debug, Clone)]
pub(super) struct PartitionScan {
    pub(super) context: Arc<ScanContext>,
    pub(super) batch_rows: usize,
    pub(super) bytes_scanned: Count,
    pub(super) rows_pruned: Count,
}

impl PartitionScan {
    /// Reads the pieces in order.
    pub(super) async fn run(self, pieces: Vec<Piece>, emitter: Emitter) -> Result<()> {
        for piece in &pieces {
            self.read_piece(piece, &emitter).await?;
        }
        Ok(())
    }

    async fn read_piece(&self, piece: &Piece, emitter: &Emitter) -> Result<()> {
        let source = &self.context.source;
        let Some(scanned) = self.context.objects.get(piece.object) else {
            return Err(Error::Internal { message: "a piece of an object that is not in the slice".to_owned() });
        };
        let object = PinnedObject::open(source.shared_name(), &source.options().location, &scanned.version).await?;
        if source.options().on_error == OnError::Quarantine {
            let mut check = PieceSink::new(self, piece, scanned, None);
            match self.read(&object, piece, &mut check).await {
                Err(error @ (Error::BadFile { .. } | Error::SchemaMismatch { .. })) => {
                    let mut sink = PieceSink::new(self, piece, scanned, Some(emitter));
                    return sink.quarantine(&object, &error).await;
                }
                checked => checked?,
            }
        }
        let mut sink = PieceSink::new(self, piece, scanned, Some(emitter));
        self.read(&object, piece, &mut sink).await?;
        sink.done().await;
        Ok(())
    }

    async fn read(&self, object: &PinnedObject, piece: &Piece, sink: &mut PieceSink<'_>) -> Result<()> {
        let read = match &self.context.source.options().format {
            FileFormat::Text(format) => text_read::read(object, format, sink).await,
            FileFormat::Parquet => parquet_read::read(object, piece, sink).await,
            FileFormat::Arrow => typed_read::read(object, TypedFormat::Arrow, sink).await,
            FileFormat::Avro => typed_read::read(object, TypedFormat::Avro, sink).await,
        };
        // A file that changed under the decoder looks damaged: the change is the cause, and comes first.
        object.verify()?;
        read
    }
}

/// Takes the rows of one piece.
pub(super) struct PieceSink<'a> {
    scan: &'a PartitionScan,
    piece: &'a Piece,
    object: &'a ScanObject,
    /// `None` while the object is only checked for being readable.
    emitter: Option<&'a Emitter>,
    ledger: SourceLedger,
}

impl<'a> PieceSink<'a> {
    fn new(scan: &'a PartitionScan, piece: &'a Piece, object: &'a ScanObject, emitter: Option<&'a Emitter>) -> Self {
        let mut ledger = SourceLedger::default();
        if piece.is_first() {
            ledger.objects = 1;
            ledger.bytes = object.version.size;
        }
        Self { scan, piece, object, emitter, ledger }
    }

    pub(super) fn source(&self) -> &'a ObjectSource {
        &self.scan.context.source
    }

    pub(super) fn plan(&self) -> &'a ReadPlan {
        &self.scan.context.plan
    }

    pub(super) fn predicate(&self) -> Option<&'a PruningPredicate> {
        self.scan.context.predicate.as_deref()
    }

    pub(super) fn batch_rows(&self) -> usize {
        self.scan.batch_rows
    }

    /// Whether the object is only checked for being readable.
    pub(super) fn is_check(&self) -> bool {
        self.emitter.is_none()
    }

    /// The last event time that is possible, microseconds since 1970.
    pub(super) fn latest(&self) -> i64 {
        let ahead = i64::try_from(self.source().options().max_ahead.as_micros()).unwrap_or(i64::MAX);
        self.object.version.modified.saturating_add(ahead)
    }

    /// Before which event time rows are late.
    pub(super) fn late_before(&self) -> Option<i64> {
        self.source().lateness().and(self.object.version.late_before)
    }

    /// Whether rejects of this object go to quarantine.
    pub(super) fn reports_rejects(&self) -> bool {
        self.object.is_new && !self.is_check() && self.scan.context.reporter.reports_objects()
    }

    /// Bytes were read.
    pub(super) fn progress(&self, bytes: u64, rows: u64) {
        self.scan.bytes_scanned.add(usize::try_from(bytes).unwrap_or(usize::MAX));
        self.scan.context.reporter.progress(bytes, rows);
    }

    /// Rows that no query needs were left unread: they count as read.
    pub(super) fn count_pruned(&mut self, rows: u64) {
        self.scan.rows_pruned.add(usize::try_from(rows).unwrap_or(usize::MAX));
        self.ledger.records += rows;
        self.ledger.decoded += rows;
        self.ledger.admitted += rows;
    }

    /// Records that the decoder rejected and reported itself.
    pub(super) fn count_undecodable(&mut self, records: u64) {
        self.ledger.records += records;
        self.ledger.undecodable += records;
    }

    /// Records that the decoder rejected and reported itself, for their event time alone.
    pub(super) fn count_bad_event_times(&mut self, records: u64) {
        self.ledger.records += records;
        self.ledger.decoded += records;
        self.ledger.bad_event_time += records;
    }

    /// Records that were late, and that the decoder reported itself where they are not dropped.
    pub(super) fn count_late(&mut self, records: u64) {
        self.ledger.records += records;
        self.ledger.decoded += records;
        self.ledger.late += records;
        if is_dropped(self.source().lateness(), RejectReason::Late) {
            self.ledger.late_dropped += records;
        }
    }

    /// Rows of this event time were counted as admitted. Only a watermark needs to know.
    pub(super) fn note_newest(&mut self, newest: Option<i64>) {
        if self.source().lateness().is_some() {
            self.ledger.event_time_max = self.ledger.event_time_max.max(newest);
        }
    }

    /// Takes rows with the columns of the plan. `whole` holds the same rows with all that is known of them.
    pub(super) async fn rows(&mut self, batch: &RecordBatch, numbers: Numbers<'_>, whole: &RecordBatch) -> Result<()> {
        let plan = self.plan();
        let refused = self.rows_of(plan, batch, numbers).await?;
        for group in refused.chunks(REPORT_ROWS) {
            let rejects = group.iter().map(|refused| Ok(refused.reject(plan, row_json(whole, refused.refusal.row)?)));
            self.report_rows(&rejects.collect::<Result<Vec<_>>>()?).await?;
        }
        Ok(())
    }

    /// Takes rows with the columns of `plan`. The refused ones come back where they are for this scan to report, by
    /// [`PieceSink::report_rows`].
    pub(super) async fn rows_of(
        &mut self,
        plan: &ReadPlan,
        batch: &RecordBatch,
        numbers: Numbers<'_>,
    ) -> Result<Vec<RefusedRow>> {
        let Some(emitter) = self.emitter else { return Ok(Vec::new()) };
        let rows = batch.num_rows();
        let mut floor = LateFloor::at(self.late_before());
        let verdict = plan.admission.judge(batch, Latest::Of(self.latest()), &mut floor)?;
        self.count(rows, &verdict);
        let has_refused = !verdict.refused.is_empty();
        let mut numbers = if has_refused || plan.needs_numbers() { numbers.to_vec(rows) } else { Vec::new() };

        let mut refused = Vec::new();
        if has_refused && self.reports_rejects() {
            let record = |refusal: &Refusal| numbers.get(refusal.row).copied().unwrap_or_default();
            let lateness = self.source().lateness();
            let reported = verdict.refused.iter().filter(|refusal| !is_dropped(lateness, refusal.reason));
            refused.extend(reported.map(|refusal| RefusedRow { record: record(refusal), refusal: *refusal }));
        }
        let kept = match &verdict.keep {
            None => batch.clone(),
            Some(keep) => {
                let mut passes = keep.values().iter();
                numbers.retain(|_| passes.next().unwrap_or(false));
                filter_record_batch(batch, keep)?
            }
        };
        if kept.num_rows() > 0 {
            self.progress(0, kept.num_rows() as u64);
            emitter.emit(plan.output(&kept, self.origin(), &numbers)?).await?;
        }
        Ok(refused)
    }

    /// Reports rejects of rows.
    pub(super) async fn report_rows(&self, rejects: &[RowReject]) -> Result<()> {
        self.report_rejects(reject_batch(rejects)?).await;
        Ok(())
    }

    /// Reports rejects, if they are for this scan to report.
    pub(super) async fn report_rejects(&self, batch: RecordBatch) {
        if self.reports_rejects() {
            let report = ScanReport::Rejects {
                source: Arc::clone(self.source().shared_name()),
                object: self.object_number(),
                batch,
            };
            self.scan.context.reporter.send(report).await;
        }
    }

    /// Makes the whole object one reject.
    async fn quarantine(&mut self, object: &PinnedObject, error: &Error) -> Result<()> {
        let head = object.read(0..object.version().size.min(ORIGINAL_BYTES_MAX as u64)).await?;
        let reject = RowReject {
            record: 0,
            reason: RejectReason::UnreadableFile,
            column: None,
            original: head.to_vec(),
            length: object.version().size,
        };
        object.verify()?;
        tracing::warn!(source = self.source().name(), object = object.path(), %error, "quarantined an unreadable object");
        self.report_rows(&[reject]).await?;
        self.count_undecodable(1);
        self.done().await;
        Ok(())
    }

    async fn done(&self) {
        let report = ScanReport::ObjectDone {
            source: Arc::clone(self.source().shared_name()),
            object: self.object_number(),
            covered: self.piece.bytes.end - self.piece.bytes.start,
            ledger: self.ledger,
        };
        self.scan.context.reporter.send(report).await;
    }

    fn count(&mut self, rows: usize, verdict: &Verdict) {
        self.ledger.records += rows as u64;
        verdict.count(rows, self.source().lateness(), &mut self.ledger);
        self.note_newest(verdict.newest);
    }

    fn origin(&self) -> Origin<'a> {
        let object = self.piece.object as u64;
        Origin { source: self.scan.context.number, object, version: &self.object.version }
    }

    fn object_number(&self) -> u32 {
        u32::try_from(self.piece.object).unwrap_or(u32::MAX)
    }
}

/// A row that did not pass, before its original is looked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct RefusedRow {
    /// Number of the record in its object.
    pub(super) record: u64,
    refusal: Refusal,
}

impl RefusedRow {
    /// The reject of the row, which is `json`. `plan` is the one that it was read by.
    pub(super) fn reject(&self, plan: &ReadPlan, json: Vec<u8>) -> RowReject {
        RowReject::new(self.record, self.refusal.reason, plan.schema.field(self.refusal.column).name(), json)
    }
}
