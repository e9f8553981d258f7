//! The circuit breaker: stops the reading where too many of the last records of a partition are bad.
//!
//! A definition that does not fit its topic makes every record a bad one. They would all go to quarantine, and nobody
//! would look before the topic's retention is over. So an epoch that reads too many of them is withheld: it commits
//! nothing, its records stay in the topic, and the pipeline says what is wrong.

use std::collections::BTreeMap;

use bessemer_schemas::{BadRecordLimit, BadRecordWindow, BadRecords, OffsetRange, RejectReason};

use super::scan::ScanContext;
use crate::scan::Refusal;
use crate::{Error, Result, TooManyBad};

/// Looks at the records of one range in the order of their offsets.
#[derive(Debug)]
pub(super) struct Breaker {
    limit: BadRecordLimit,
    window: BadRecordWindow,
    /// Undecodable records among rows that are not judged yet.
    waiting: Vec<Undecodable>,
    reasons: BTreeMap<RejectReason, u64>,
    /// Offset of the first bad record.
    first: Option<i64>,
    source: String,
    topic: String,
    partition: i32,
}

#[derive(Debug, Clone, Copy)]
struct Undecodable {
    /// Rows that were decoded before it, of those that are not judged yet.
    rows_before: usize,
    offset: i64,
    reason: RejectReason,
}

impl Breaker {
    /// The breaker of `range`, which goes on from what the manifests say of the records before it.
    pub(super) fn new(context: &ScanContext, range: &OffsetRange) -> Self {
        let limit = context.source.options().bad_records;
        let mut before = context.bad_before.iter();
        let before = before.find(|of| of.topic == range.topic && of.partition == range.partition);
        Self {
            limit,
            window: BadRecordWindow::after(&limit, before.map_or(&[], |before| &before.runs)),
            waiting: Vec::new(),
            reasons: BTreeMap::new(),
            first: None,
            source: context.source.name().to_owned(),
            topic: range.topic.clone(),
            partition: range.partition,
        }
    }

    /// Takes a record that is no row, after `rows_before` rows that are not judged yet.
    ///
    /// # Errors
    /// [`Error::TooManyBad`], as that of the other methods.
    pub(super) fn undecodable(&mut self, rows_before: usize, offset: i64, reason: RejectReason) -> Result<()> {
        if rows_before == 0 {
            return self.bad(offset, reason);
        }
        self.waiting.push(Undecodable { rows_before, offset, reason });
        Ok(())
    }

    /// Whether so many bad records wait for the rows before them that these should be judged.
    pub(super) fn is_waiting(&self) -> bool {
        self.waiting.len() > self.limit.bad_max() as usize
    }

    /// Takes the rows so far, of which `refused` (ascending) have a bad event time; a late one is as good as others.
    pub(super) fn rows(&mut self, offsets: &[i64], refused: &[Refusal]) -> Result<()> {
        let mut refused = refused.iter().filter(|refusal| !refusal.is_late()).peekable();
        let mut next = 0;
        for undecodable in std::mem::take(&mut self.waiting) {
            while let Some(refusal) = refused.next_if(|refusal| refusal.row < undecodable.rows_before) {
                next = self.refused(next, refusal, offsets)?;
            }
            self.window.good(undecodable.rows_before - next);
            next = undecodable.rows_before;
            self.bad(undecodable.offset, undecodable.reason)?;
        }
        for refusal in refused {
            next = self.refused(next, refusal, offsets)?;
        }
        self.window.good(offsets.len().saturating_sub(next));
        Ok(())
    }

    /// What the next epoch goes on from; nothing where no record is bad.
    pub(super) fn into_bad_records(self, range: &OffsetRange) -> Option<BadRecords> {
        let runs = self.window.to_runs();
        (!runs.is_empty()).then(|| BadRecords { topic: range.topic.clone(), partition: range.partition, runs })
    }

    /// Takes the good rows from `next` on and the refused one after them; the row after that.
    fn refused(&mut self, next: usize, refusal: &Refusal, offsets: &[i64]) -> Result<usize> {
        self.window.good(refusal.row - next);
        self.bad(offsets.get(refusal.row).copied().unwrap_or_default(), refusal.reason)?;
        Ok(refusal.row + 1)
    }

    fn bad(&mut self, offset: i64, reason: RejectReason) -> Result<()> {
        let first = *self.first.get_or_insert(offset);
        *self.reasons.entry(reason).or_default() += 1;
        if !self.window.bad() {
            return Ok(());
        }
        let most = self.reasons.iter().max_by_key(|(_, records)| **records).map_or(reason, |(reason, _)| *reason);
        Err(Error::TooManyBad(Box::new(TooManyBad {
            name: self.source.clone(),
            topic: self.topic.clone(),
            partition: self.partition,
            first,
            last: offset,
            bad: self.window.bad_records(),
            window: self.limit.window,
            share: format!("{} %", self.limit.share * 100.0),
            reason: most.as_str(),
        })))
    }
}
