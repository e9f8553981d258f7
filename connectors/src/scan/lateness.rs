//! Which rows the watermark has passed when they come. Decided where they are read, so that every query of an epoch, and
//! every later epoch that reads them again, leaves out the same ones.

use bessemer_schemas::{OnLate, RejectReason, SourceDefinition};

/// `ON LATE` of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lateness {
    /// How far the watermark stays behind the newest event time, in microseconds.
    pub delay: i64,
    /// What becomes of late rows.
    pub on_late: OnLate,
}

impl Lateness {
    /// What a definition says; `None` where no row of the source is late.
    pub(crate) fn of(definition: &SourceDefinition) -> Option<Self> {
        let watermark = definition.watermark.as_ref()?;
        watermark.on_late.map(|on_late| Self { delay: watermark.delay, on_late })
    }

    /// Everything of it that changes which rows there are, as text: what a later run compares.
    pub(crate) fn as_text(self, event_time: &str) -> String {
        let action = match self.on_late {
            OnLate::Quarantine => "quarantine",
            OnLate::Drop => "drop",
        };
        format!("{action} where `{event_time}` is late by {} us", self.delay)
    }
}

/// Whether a row that was refused for `reason` is only counted.
pub(crate) fn is_dropped(lateness: Option<Lateness>, reason: RejectReason) -> bool {
    reason == RejectReason::Late && lateness.is_some_and(|lateness| lateness.on_late == OnLate::Drop)
}

/// Before which event time rows are late. Times are microseconds since 1970, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LateFloor {
    at: i64,
    /// How far behind the newest row so far it follows; `None` where it stays.
    delay: Option<i64>,
}

impl LateFloor {
    /// The same for all rows: they are of one file. With `None` no row is late.
    pub(crate) fn at(before: Option<i64>) -> Self {
        Self { at: before.unwrap_or(i64::MIN), delay: None }
    }

    /// Follows the rows, which come in the order of a partition.
    #[cfg(any(feature = "kafka", test))]
    pub(crate) fn following(before: Option<i64>, delay: i64) -> Self {
        Self { at: before.unwrap_or(i64::MIN), delay: Some(delay) }
    }

    /// Whether a row that comes now is late.
    pub(crate) fn is_late(self, time: i64) -> bool {
        time < self.at
    }

    /// The one that holds once a row of this time was admitted.
    pub(crate) fn after(self, time: i64) -> Self {
        let at = self.delay.map_or(self.at, |delay| self.at.max(time.saturating_sub(delay)));
        Self { at, ..self }
    }
}
