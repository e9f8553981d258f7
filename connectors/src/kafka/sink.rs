//! The records of one range of offsets: decode in place, judge, count, hold the rows.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use bessemer_schemas::{OffsetRange, RejectReason, SourceLedger};

use super::breaker::Breaker;
use super::parts::{Parts, Rejects, TakenParts};
use super::payload::PayloadDecoder;
use super::queue::Record;
use super::read::RangeRead;
use super::rows::{Rows, row_number};
use crate::Result;
use crate::formats::text::{DecodeLimits, RecordFault};
use crate::scan::{LateFloor, Refusal, ScanReport, is_dropped};

/// Rejects that are held before they are reported.
const REJECTS_HELD: usize = 1_024;
/// Bytes of keys and headers that a batch holds, about: the format's limit does not count them.
const PARTS_BYTES: usize = 16 << 20;
/// Records between two tellings of progress.
const PROGRESS_RECORDS: u64 = 8_192;

/// Takes the records of one range, and holds its rows until they are taken off.
pub(super) struct RangeSink<'a> {
    read: &'a RangeRead,
    at: usize,
    pub(super) range: OffsetRange,
    pub(super) is_new: bool,
    /// The offset after the last one that is accounted for.
    next: i64,
    decoder: PayloadDecoder,
    parts: Parts,
    rejects: Rejects,
    /// Where the range is new: a record trips it once.
    breaker: Option<Breaker>,
    /// Lives as long as the range: where its rows begin to be late.
    floor: LateFloor,
    ledger: SourceLedger,
    told: u64,
    /// Rows that passed, and the bytes of memory that they take.
    rows: Vec<RecordBatch>,
    rows_bytes: usize,
    /// Bytes of the values whose rows are not among them yet.
    pending_bytes: usize,
}

impl<'a> RangeSink<'a> {
    pub(super) fn new(read: &'a RangeRead, at: usize) -> Result<Self> {
        let (source, plan) = (&read.context.source, &read.context.plan);
        let Some(offsets) = read.context.ranges.get(at) else {
            return Err(source.internal("a range is not in the slice"));
        };
        let options = source.options();
        let floor = source
            .lateness()
            .map_or(LateFloor::at(None), |lateness| LateFloor::following(offsets.range.late_before, lateness.delay));
        let limits = DecodeLimits { batch_rows: read.batch_rows, ..options.limits };
        Ok(Self {
            read,
            at,
            range: offsets.range.clone(),
            is_new: offsets.is_new,
            next: offsets.range.start,
            decoder: PayloadDecoder::new(source, &plan.columns, limits, &read.gone)?,
            parts: Parts::new(plan.wanted),
            rejects: Rejects::new(),
            breaker: offsets.is_new.then(|| Breaker::new(&read.context, &offsets.range)),
            floor,
            ledger: SourceLedger::default(),
            told: 0,
            rows: Vec::new(),
            rows_bytes: 0,
            pending_bytes: 0,
        })
    }

    /// The offset after the last one that is accounted for.
    pub(super) fn next(&self) -> i64 {
        self.next
    }

    /// Bytes of what is held, about.
    pub(super) fn held_bytes(&self) -> usize {
        self.rows_bytes + self.pending_bytes + self.parts.bytes() + self.rejects.bytes()
    }

    /// Batches that are held, and bytes of all records that were taken.
    pub(super) fn progress(&self) -> (usize, u64) {
        (self.rows.len(), self.ledger.bytes)
    }

    /// Takes off the rows that are held.
    pub(super) fn take_rows(&mut self) -> Vec<RecordBatch> {
        self.rows_bytes = 0;
        std::mem::take(&mut self.rows)
    }

    /// Accounts for the offsets before `low`: they are gone.
    pub(super) fn lose(&mut self, low: i64) {
        let low = low.min(self.range.end);
        self.ledger.lost += u64::try_from(low - self.next).unwrap_or_default();
        self.next = self.next.max(low);
    }

    pub(super) fn take(&mut self, record: Record<'_>) -> Result<()> {
        let offset = record.offset();
        if offset < self.next {
            return Err(self.read.context.source.internal("a record came twice"));
        }
        self.next = offset + 1;
        self.ledger.records += 1;
        let value = record.value();
        self.ledger.bytes += (record.key().map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len)) as u64;
        match value {
            // A delete, where the topic is a changelog; here it is no row.
            None => self.ledger.tombstones += 1,
            Some(value) => match self.decoder.push(row_number(&self.range, offset), value)? {
                Ok(()) => {
                    self.pending_bytes += value.len();
                    self.parts.push(record);
                    if let Some(columns) = self.decoder.take(self.parts.bytes() >= PARTS_BYTES)? {
                        self.emit(&columns)?;
                    }
                }
                Err(fault) => {
                    self.ledger.undecodable += 1;
                    self.reject(record, &fault)?;
                    self.count_undecodable(offset, fault.reason)?;
                }
            },
        }
        if self.ledger.records - self.told >= PROGRESS_RECORDS {
            self.tell();
        }
        Ok(())
    }

    /// Tells the breaker of a bad record, once it knows of the rows before.
    fn count_undecodable(&mut self, offset: i64, reason: RejectReason) -> Result<()> {
        let rows = self.parts.rows();
        let Some(breaker) = &mut self.breaker else { return Ok(()) };
        breaker.undecodable(rows, offset, reason)?;
        if breaker.is_waiting()
            && let Some(columns) = self.decoder.take(true)?
        {
            self.emit(&columns)?;
        }
        Ok(())
    }

    fn reports_rejects(&self) -> bool {
        self.is_new && self.read.context.reporter.reports_objects()
    }

    fn reject(&mut self, record: Record<'_>, fault: &RecordFault) -> Result<()> {
        if !self.reports_rejects() {
            return Ok(());
        }
        let schema_id = self.schema_id(record.value().unwrap_or_default());
        self.rejects.push(record, fault, schema_id);
        if self.rejects.rows() >= REJECTS_HELD || self.rejects.bytes() >= PARTS_BYTES {
            self.report_rejects()
        } else {
            Ok(())
        }
    }

    fn schema_id(&self, value: &[u8]) -> Option<u32> {
        self.read.context.source.options().format.schema_id(value)
    }

    fn report_rejects(&mut self) -> Result<()> {
        if let Some(batch) = self.rejects.take()? {
            self.report(batch);
        }
        Ok(())
    }

    fn report(&self, batch: RecordBatch) {
        let source = Arc::clone(self.read.context.source.shared_name());
        self.read.context.reporter.send_blocking(ScanReport::Rejects { source, object: self.object(), batch });
    }

    fn object(&self) -> u32 {
        u32::try_from(self.at).unwrap_or(u32::MAX)
    }

    /// Judges decoded rows and holds those that pass.
    fn emit(&mut self, decoded: &[ArrayRef]) -> Result<()> {
        let parts = self.parts.take();
        let context = &self.read.context;
        let number = (context.number, self.at as u64);
        let rows = Rows { source: &context.source, plan: &context.plan, range: &self.range, number };
        let judged = rows.judge(decoded, &parts, &mut self.floor, &mut self.ledger)?;
        if let Some(breaker) = &mut self.breaker {
            breaker.rows(&parts.offsets, &judged.refused)?;
        }
        if self.reports_rejects() {
            self.report_refused(judged.refused, &parts)?;
        }
        self.pending_bytes = 0;
        if judged.output.num_rows() > 0 {
            self.rows_bytes += judged.output.get_array_memory_size();
            self.rows.push(judged.output);
        }
        Ok(())
    }

    /// Rows whose event time is bad or late, as their records came.
    fn report_refused(&self, mut refused: Vec<Refusal>, parts: &TakenParts) -> Result<()> {
        let lateness = self.read.context.source.lateness();
        refused.retain(|refusal| !is_dropped(lateness, refusal.reason));
        if refused.is_empty() {
            return Ok(());
        }
        let name = self.read.context.plan.admission.event_time.as_ref().map_or("", |(_, name)| name);
        self.report(parts.rejected(&refused, name, |value| self.schema_id(value))?);
        Ok(())
    }

    fn tell(&mut self) {
        let records = self.ledger.records - self.told;
        self.told = self.ledger.records;
        self.read.context.reporter.progress(records, records);
    }

    /// Ends the range: its last rows and what was counted.
    pub(super) fn finish(&mut self) -> Result<()> {
        if let Some(columns) = self.decoder.take(true)? {
            self.emit(&columns)?;
        }
        self.report_rejects()?;
        self.tell();
        self.read.bytes_scanned.add(usize::try_from(self.ledger.bytes).unwrap_or(usize::MAX));
        if let Some(records) = self.breaker.take().and_then(|breaker| breaker.into_bad_records(&self.range)) {
            let source = Arc::clone(self.read.context.source.shared_name());
            self.read.context.reporter.send_blocking(ScanReport::BadRecords { source, records });
        }
        self.ledger.offsets = self.range.offsets();
        self.ledger.gaps = self.ledger.offsets - self.ledger.records - self.ledger.lost;
        let (source, reporter) = (&self.read.context.source, &self.read.context.reporter);
        let done = reporter.range_done(Arc::clone(source.shared_name()), self.object(), self.ledger);
        reporter.send_blocking(done);
        Ok(())
    }
}
