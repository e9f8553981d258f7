//! Decoding quarantined records of topics again. No broker is asked: quarantine holds all of a record.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, UInt64Array};
use arrow::compute::take;
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use bessemer_schemas::{OffsetRange, SourceLedger};
use tokio_util::sync::CancellationToken;

use super::parts::TakenParts;
use super::payload::PayloadDecoder;
use super::reject::reject_schema;
use super::rows::Rows;
use super::scan::ReadPlan;
use super::source::KafkaSource;
use crate::Result;
use crate::formats::text::DecodeLimits;
use crate::scan::{LateFloor, Refused, ReplayOrigin, ReplayPart, ReplayReader, Replayed, column};

/// Reads records of one source, each by itself.
#[derive(Debug)]
pub(super) struct KafkaReplay {
    pub(super) source: Arc<KafkaSource>,
    pub(super) plan: ReadPlan,
    /// The source's number in row identity.
    pub(super) number: u64,
}

impl ReplayReader for KafkaReplay {
    fn read(&self, at: usize, part: &ReplayPart, batch_rows: usize) -> Result<Replayed> {
        let ReplayOrigin::Topic(range) = &part.origin else {
            return Err(self.source.internal("a quarantined record is of no topic"));
        };
        let limits = DecodeLimits { batch_rows, ..self.source.options().limits };
        // Nobody waits for its thread, whatever that waits for.
        let gone = CancellationToken::new();
        let mut decoder = PayloadDecoder::new(&self.source, &self.plan.columns, limits, &gone)?;
        let records = part.records.num_rows() as u64;
        let ledger = SourceLedger { records, replayed: records, ..SourceLedger::default() };
        let mut replaying = Replaying { reader: self, at, range, part, rows: Vec::new(), refused: Vec::new() };
        let mut replayed = Replayed { ledger, ..Replayed::default() };
        for (row, value) in part.each_value()?.enumerate() {
            replayed.ledger.bytes += value.len() as u64;
            match decoder.push(row as u64, value)? {
                Ok(()) => {
                    replaying.rows.push(row as u64);
                    if let Some(columns) = decoder.take(false)? {
                        replaying.emit(&columns, &mut replayed)?;
                    }
                }
                Err(fault) => {
                    replayed.ledger.undecodable += 1;
                    replaying.refused.push(Refused { row, reason: fault.reason, column: fault.column });
                }
            }
        }
        if let Some(columns) = decoder.take(true)? {
            replaying.emit(&columns, &mut replayed)?;
        }
        replaying.refused.sort_unstable_by_key(|refused| refused.row);
        if !replaying.refused.is_empty() {
            replayed.rejects.push(part.refused(&reject_schema(), &replaying.refused)?);
        }
        Ok(replayed)
    }
}

/// Records of one part on their way.
struct Replaying<'a> {
    reader: &'a KafkaReplay,
    at: usize,
    range: &'a OffsetRange,
    part: &'a ReplayPart,
    /// Those that are decoded and not given on yet.
    rows: Vec<u64>,
    refused: Vec<Refused>,
}

impl Replaying<'_> {
    /// Judges decoded rows and gives on those that pass.
    fn emit(&mut self, decoded: &[ArrayRef], replayed: &mut Replayed) -> Result<()> {
        let taken = std::mem::take(&mut self.rows);
        let parts = self.parts(&UInt64Array::from_iter_values(taken.iter().copied()))?;
        let KafkaReplay { source, plan, number } = self.reader;
        let rows = Rows { source, plan, range: self.range, number: (*number, self.at as u64) };
        // What came before a row is not at hand.
        let mut floor = LateFloor::at(self.range.late_before);
        let judged = rows.judge(decoded, &parts, &mut floor, &mut replayed.ledger)?;
        // What is late once more stays where it is: nobody drops what was kept.
        replayed.ledger.late_dropped = 0;
        let column = plan.admission.event_time.as_ref().map(|(_, name)| name.clone());
        self.refused.extend(judged.refused.iter().map(|refusal| Refused {
            row: taken.get(refusal.row).and_then(|row| usize::try_from(*row).ok()).unwrap_or_default(),
            reason: refusal.reason,
            column: column.clone(),
        }));
        if judged.output.num_rows() > 0 {
            replayed.output.push(judged.output);
        }
        Ok(())
    }

    /// What `rows` have beside their decoded columns.
    fn parts(&self, rows: &UInt64Array) -> Result<TakenParts> {
        let taken = |name: &str| -> Result<ArrayRef> { Ok(take(column(&self.part.records, name)?, rows, None)?) };
        let (offsets, timestamps) = (taken("offset")?, taken("timestamp")?);
        let unfit = || self.reader.source.internal("a quarantined record has no offset or timestamp");
        let offsets = offsets.as_primitive_opt::<Int64Type>().ok_or_else(unfit)?;
        let timestamps = timestamps.as_primitive_opt::<TimestampMicrosecondType>().ok_or_else(unfit)?;
        debug_assert!(offsets.null_count() == 0, "an offset is never null");
        Ok(TakenParts {
            offsets: offsets.values().to_vec(),
            timestamps: timestamps.iter().collect(),
            keys: Some(taken("key")?),
            values: Some(take(self.part.values()?, rows, None)?),
            headers: Some(taken("headers")?),
        })
    }
}
