//! The partial aggregates of a set: those from before with what is new, written as files of this epoch.

use std::sync::Arc;

use bessemer_connectors::sink::{SetWriter, StateFiles, state_writer};
use bessemer_schemas::{DataFile, Digest, Segment};
use bessemer_transforms::{Incremental, PlannedSet};
use datafusion::physical_plan::SendableRecordBatchStream;
use datafusion::physical_plan::streaming::PartitionStream;
use futures::{FutureExt, TryFutureExt, TryStreamExt};
use tokio_util::sync::CancellationToken;

use super::set::Attempt;
use super::unless_cancelled;
use crate::error::{Error, Result};

/// Partial aggregates that are written; nothing of them counts before the manifest names them.
#[derive(Debug, Clone)]
pub(super) struct WrittenState {
    pub(super) files: Vec<DataFile>,
    /// Digest of their bytes, or of the list of segments.
    pub(super) content: Digest,
    /// Of a set that closes windows, what of the files belongs together.
    pub(super) segments: Vec<Segment>,
    /// Of such a set, the windows that are closed.
    pub(super) closed: Option<i64>,
}

/// Absorbs what the scans of an attempt read, and writes what came of it.
pub(super) async fn absorb(
    attempt: &Attempt<'_>,
    planned: &PlannedSet,
    incremental: &Incremental,
) -> Result<(Arc<StateFiles>, WrittenState)> {
    let Attempt { loaded, session, naming, cancel, before, .. } = *attempt;
    let before = before.map(|before| Arc::new(before.clone()) as Arc<dyn PartitionStream>);
    let plan = unless_cancelled(cancel, async { Ok(incremental.absorb(session, before).await?) }).await?;
    let context = session.task_ctx();
    let stream = plan.execute(0, Arc::clone(&context)).map_err(Error::engine)?;

    let (place, schema) = (&loaded.parsed.settings.state, incremental.state_schema());
    let (pipeline, memory) = (loaded.parsed.name(), context.memory_pool());
    let mut writer = state_writer(place, pipeline, &planned.name, schema, naming.writer(0), memory)?;
    if let Err(error) = write(&mut writer, stream, cancel).boxed().await {
        writer.abort().await;
        return Err(error);
    }
    let files = writer.finish().boxed().await?;
    let written = StateFiles::new(place, &planned.name, files.clone(), Arc::clone(schema));
    let content = written.digest().await?;
    Ok((Arc::new(written), WrittenState { files, content, segments: Vec::new(), closed: None }))
}

async fn write(
    writer: &mut SetWriter,
    mut groups: SendableRecordBatchStream,
    cancel: &CancellationToken,
) -> Result<()> {
    while let Some(batch) = unless_cancelled(cancel, groups.try_next().map_err(Error::engine)).await? {
        writer.write(&batch).boxed().await?;
    }
    Ok(())
}
