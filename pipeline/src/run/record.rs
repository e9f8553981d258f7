//! The record of a run beside the manifests, for `log` and `status`. A run does not fail for want of it.

use std::time::Duration;

use bessemer_connectors::manifest_store::ManifestStore;
use bessemer_schemas::{Claim, ErrorKind, FORMAT_VERSION, RunOutcome, RunRecord};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::RunOptions;
use super::summary::Tally;
use crate::error::Result;
use crate::host::{Host, Machine};
use crate::load;

/// How long a store may take to accept a record: a run that is over must not hang on it.
const PATIENCE: Duration = Duration::from_secs(5);

/// A run's entry in the log of runs.
pub(super) struct Entry<'a> {
    store: &'a ManifestStore,
    record: RunRecord,
    timeout: CancellationToken,
    is_begun: bool,
}

impl<'a> Entry<'a> {
    /// Nothing is written yet.
    pub(super) fn new(store: &'a ManifestStore, pipeline: &str, options: &RunOptions, started_at: i64) -> Self {
        let record = RunRecord {
            format_version: FORMAT_VERSION,
            pipeline: pipeline.to_owned(),
            id: Claim(rand::random()),
            trigger: options.trigger,
            attempt: options.failures.saturating_add(1),
            started_at,
            ended_at: None,
            outcome: None,
            epochs: 0,
            records: 0,
            rows: 0,
            quarantined: 0,
            error: None,
        };
        Self { store, record, timeout: options.timeout.clone(), is_begun: false }
    }

    /// Writes that the run has begun: one that is killed leaves this.
    pub(super) async fn begin(&mut self) -> Result<()> {
        self.is_begun = true;
        self.write().await;
        Ok(())
    }

    /// Writes how the run ended. One that never began for a mistake in its definition, or because it was stopped, was none.
    pub(super) async fn end<T>(mut self, tally: &Tally, ran: &Result<T>) {
        let kind = ran.as_ref().err().map(crate::error::Error::kind);
        if !self.is_begun && matches!(kind, Some(ErrorKind::Invalid | ErrorKind::Interrupted)) {
            return;
        }
        tally.fill(&mut self.record);
        self.record.ended_at = Some(Machine.now_micros());
        self.record.outcome = Some(match kind {
            None => RunOutcome::Done,
            Some(ErrorKind::Interrupted) if self.timeout.is_cancelled() => RunOutcome::TimedOut,
            Some(ErrorKind::Interrupted) => RunOutcome::Stopped,
            Some(_) => RunOutcome::Failed,
        });
        self.record.error = ran.as_ref().err().map(|error| load::error_chain(error));
        self.write().await;
    }

    async fn write(&self) {
        match tokio::time::timeout(PATIENCE, self.store.record_run(&self.record)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(%error, "could not write the record of the run"),
            Err(_) => warn!("the store did not take the record of the run in time"),
        }
    }
}
