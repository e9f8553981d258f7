//! Decoding quarantined records of text files again.

use std::sync::Arc;

use arrow::array::RecordBatch;
use bessemer_schemas::{RejectReason, SourceLedger};

use super::options::{FileFormat, OnError};
use super::read_plan::{Origin, ReadPlan};
use super::source::ObjectSource;
use crate::formats::text::{
    CsvOptions, DecodeLimits, Decoded, EventTimeBounds, FileFault, TextDecoder, TextDecoderOptions, TextFormat,
    reject_schema,
};
use crate::scan::{Refused, ReplayOrigin, ReplayPart, ReplayReader, Replayed, record_numbers};
use crate::{Error, Result};

/// Reads records of one source, each by itself.
#[derive(Debug)]
pub(super) struct ObjectReplay {
    pub(super) source: Arc<ObjectSource>,
    pub(super) plan: ReadPlan,
    /// The source's number in row identity.
    pub(super) number: u64,
}

impl ObjectSource {
    /// Why its quarantined records cannot be decoded again; nothing where they can.
    pub fn replay_refusal(&self) -> Option<&'static str> {
        match (&self.options().format, self.options().on_error) {
            (FileFormat::Text(TextFormat::Csv(CsvOptions { header: true, .. })), _) => Some(
                "which column a field belongs to is in the header of its file, which quarantine does not hold: \
                 put a mended file beside it",
            ),
            (FileFormat::Text(_), OnError::Quarantine | OnError::Fail) => None,
            _ => Some(
                "quarantine holds a picture of their rows, not their bytes: write a mended file and put it beside \
                 the others",
            ),
        }
    }
}

impl ReplayReader for ObjectReplay {
    fn read(&self, at: usize, part: &ReplayPart, batch_rows: usize) -> Result<Replayed> {
        let (FileFormat::Text(format), ReplayOrigin::Object(version)) = (&self.source.options().format, &part.origin)
        else {
            let message = format!("quarantined records of source `{}` have no text", self.source.name());
            return Err(Error::Internal { message });
        };
        let failed = |fault: FileFault| fault.into_error(self.source.name(), &version.path, format.name());
        let limits = DecodeLimits { batch_rows, ..self.source.options().limits };
        let mut decoder = TextDecoder::new(TextDecoderOptions {
            schema: Arc::clone(self.source.declared()),
            projection: Some(self.plan.columns.clone()),
            format: format.clone(),
            defaults: self.source.defaults().to_vec(),
            limits,
        })?;
        if let Some(column) = self.source.event_time() {
            let ahead = i64::try_from(self.source.options().max_ahead.as_micros()).unwrap_or(i64::MAX);
            let latest = version.modified.saturating_add(ahead);
            let bounds = EventTimeBounds { late_before: version.late_before, ..EventTimeBounds::until(latest) };
            decoder.judge_event_times(column, bounds)?;
        }

        let origin = Origin { source: self.number, object: at as u64, version };
        let records = part.records.num_rows() as u64;
        let ledger = SourceLedger { records, replayed: records, ..SourceLedger::default() };
        let mut replayed = Replayed { ledger, ..Replayed::default() };
        let mut refused = Vec::new();
        for ((row, record), number) in part.each_value()?.enumerate().zip(record_numbers(&part.records)?.values()) {
            replayed.ledger.bytes += record.len() as u64;
            if record.len() > limits.max_record_bytes {
                refused.push(Refused { row, reason: RejectReason::RecordTooLong, column: None });
                continue;
            }
            if let Err(fault) = decoder.decode_record(*number, record).map_err(failed)? {
                refused.push(Refused { row, reason: fault.reason, column: fault.column });
            }
            while let Some(decoded) = decoder.next_batch() {
                replayed.output.push(self.output(&decoded, origin)?);
            }
        }
        decoder.flush().map_err(failed)?;
        while let Some(decoded) = decoder.next_batch() {
            replayed.output.push(self.output(&decoded, origin)?);
        }

        let is_bad_time =
            |reason: RejectReason| matches!(reason, RejectReason::NullEventTime | RejectReason::EventTimeAhead);
        let count = |is_it: &dyn Fn(RejectReason) -> bool| {
            refused.iter().filter(|refused| is_it(refused.reason)).count() as u64
        };
        let ledger = &mut replayed.ledger;
        ledger.bad_event_time = count(&is_bad_time);
        // What is late once more stays where it is: nobody drops what was kept.
        ledger.late = count(&|reason| reason == RejectReason::Late);
        ledger.undecodable = refused.len() as u64 - ledger.bad_event_time - ledger.late;
        ledger.decoded = records - ledger.undecodable;
        ledger.admitted = ledger.decoded - ledger.bad_event_time - ledger.late;
        ledger.event_time_max = self.source.lateness().and(decoder.event_time_max());
        if !refused.is_empty() {
            replayed.rejects.push(part.refused(&reject_schema(), &refused)?);
        }
        Ok(replayed)
    }
}

impl ObjectReplay {
    fn output(&self, decoded: &Decoded, origin: Origin<'_>) -> Result<RecordBatch> {
        let numbers: Vec<u64> = decoded.numbers.iter().collect();
        self.plan.output(&decoded.batch, origin, &numbers)
    }
}
