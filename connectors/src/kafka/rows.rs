//! Decoded records and their parts as rows: judged, and in the columns that a scan gives on.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt64Array};
use arrow::compute::filter_record_batch;
use arrow_schema::SchemaRef;
use bessemer_schemas::{OffsetRange, SourceLedger, pack_origin};

use super::parts::TakenParts;
use super::scan::{OutputColumn, ReadPlan};
use super::source::KafkaSource;
use crate::Result;
use crate::scan::{LateFloor, Latest, Refusal};

/// Makes rows of the records of one range of offsets.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rows<'a> {
    pub(super) source: &'a KafkaSource,
    pub(super) plan: &'a ReadPlan,
    pub(super) range: &'a OffsetRange,
    /// The source's number in row identity, and the range's.
    pub(super) number: (u64, u64),
}

/// A row's number in its range.
pub(super) fn row_number(range: &OffsetRange, offset: i64) -> u64 {
    u64::try_from(offset - range.start).unwrap_or_default()
}

/// Rows that were judged.
#[derive(Debug)]
pub(super) struct Judged {
    /// Those that the query sees.
    pub(super) output: RecordBatch,
    /// The others: their event time is bad or late.
    pub(super) refused: Vec<Refusal>,
}

impl Rows<'_> {
    /// Judges rows and counts them into `ledger`; those below `floor` are late, and the others raise it.
    pub(super) fn judge(
        &self,
        decoded: &[ArrayRef],
        parts: &TakenParts,
        floor: &mut LateFloor,
        ledger: &mut SourceLedger,
    ) -> Result<Judged> {
        let (plan, rows) = (self.plan, parts.offsets.len());
        let judged = self.batch(&plan.judged, &plan.judged_schema, decoded, parts)?;
        let ahead = i64::try_from(self.source.options().max_ahead.as_micros()).unwrap_or(i64::MAX);
        let latest: Vec<i64> = match &plan.admission.event_time {
            None => Vec::new(),
            // A record without a timestamp says nothing about what is ahead of it.
            Some(_) => parts.timestamps.iter().map(|at| at.map_or(i64::MAX, |at| at.saturating_add(ahead))).collect(),
        };
        let verdict = plan.admission.judge(&judged, Latest::OfEach(&latest), floor)?;
        verdict.count(rows, self.source.lateness(), ledger);
        ledger.event_time_max = ledger.event_time_max.max(verdict.newest);
        let output = self.batch(&plan.output, &plan.output_schema, decoded, parts)?;
        let output = match &verdict.keep {
            None => output,
            Some(keep) => filter_record_batch(&output, keep)?,
        };
        Ok(Judged { output, refused: verdict.refused })
    }

    /// Columns of decoded rows.
    fn batch(
        &self,
        columns: &[OutputColumn],
        schema: &SchemaRef,
        decoded: &[ArrayRef],
        parts: &TakenParts,
    ) -> Result<RecordBatch> {
        let rows = parts.offsets.len();
        let missing = || self.source.internal("a column was not collected");
        let columns = columns.iter().map(|column| match column {
            OutputColumn::Decoded(column) => decoded.get(*column).cloned().ok_or_else(missing),
            OutputColumn::Include(kind) => parts.column(*kind, self.range).ok_or_else(missing),
            OutputColumn::Origin => {
                let pack = |offset: &i64| pack_origin(self.number.0, self.number.1, row_number(self.range, *offset));
                Ok(Arc::new(UInt64Array::from_iter_values(parts.offsets.iter().map(pack))) as ArrayRef)
            }
        });
        let columns = columns.collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
    }
}
