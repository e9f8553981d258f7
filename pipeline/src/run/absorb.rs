//! The state of a set: that from before with what is new, written as files of this epoch.

use std::sync::Arc;

use bessemer_connectors::sink::{StateFiles, state_writer};
use bessemer_schemas::{DataFile, Digest, Segment};
use bessemer_transforms::{Incremental, PlannedSet};
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::streaming::PartitionStream;
use futures::{FutureExt, TryFutureExt, TryStreamExt};

use super::set::Attempt;
use super::unless_cancelled;
use crate::error::{Error, Result};

/// A state that is written; nothing of it counts before the manifest names it.
#[derive(Debug, Clone)]
pub(super) struct WrittenState {
    pub(super) files: Vec<DataFile>,
    /// Digest of their bytes, or of the list of segments.
    pub(super) content: Digest,
    /// Of a set that emits rows once they are final, what of the files belongs together.
    pub(super) segments: Vec<Segment>,
    /// Of such a set, what is emitted.
    pub(super) closed: Option<i64>,
}

/// Absorbs what the scans of an attempt read, and writes what came of it.
pub(super) async fn absorb(
    attempt: &Attempt<'_>,
    planned: &PlannedSet,
    incremental: &dyn Incremental,
) -> Result<(Arc<StateFiles>, WrittenState)> {
    let before = attempt.before.map(|before| Arc::new(before.clone()) as Arc<dyn PartitionStream>);
    let plan = incremental.absorb(attempt.session, before);
    let plan = unless_cancelled(attempt.cancel, plan.map(|plan| Ok(plan?))).await?;
    let schema = incremental.state_schema();
    let (state, content) = write_rows(attempt, planned, schema, plan, 0, |_| Ok(())).await?;
    let files = state.files().to_vec();
    Ok((Arc::new(state), WrittenState { files, content, segments: Vec::new(), closed: None }))
}

/// Writes the rows of `plan`, those of a state, as the files of one stream of this epoch, after a `look` at each batch. Also gives the digest
/// of their bytes.
pub(super) async fn write_rows(
    attempt: &Attempt<'_>,
    planned: &PlannedSet,
    schema: &SchemaRef,
    plan: Arc<dyn ExecutionPlan>,
    stream: usize,
    mut look: impl FnMut(&RecordBatch) -> Result<()> + Send,
) -> Result<(StateFiles, Digest)> {
    let Attempt { loaded, session, naming, cancel, .. } = *attempt;
    let context = session.task_ctx();
    let mut rows = plan.execute(0, Arc::clone(&context)).map_err(Error::engine)?;
    let place = &loaded.parsed.settings.state;
    let (pipeline, memory) = (loaded.parsed.name(), context.memory_pool());
    let mut writer = state_writer(place, pipeline, &planned.name, schema, naming.writer(stream), memory)?;
    let written = async {
        while let Some(batch) = unless_cancelled(cancel, rows.try_next().map_err(Error::engine)).await? {
            look(&batch)?;
            writer.write(&batch).boxed().await?;
        }
        Ok(())
    };
    if let Err(error) = written.boxed().await {
        writer.abort().await;
        return Err(error);
    }
    let files = writer.finish().boxed().await?;
    let files = StateFiles::new(place, &planned.name, files, Arc::clone(schema));
    let content = files.digest().await?;
    Ok((files, content))
}
