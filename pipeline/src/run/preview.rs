//! A look at the first rows of something, without an epoch.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bessemer_connectors::Source;
#[cfg(feature = "kafka")]
use bessemer_connectors::scan::ScanOffsets;
use bessemer_connectors::scan::{EpochScans, ScanInput, ScanObject};
use bessemer_schemas::{ObjectVersion, SliceLimits, SourceKind};
use datafusion::arrow::array::RecordBatch;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use datafusion::physical_plan::collect;
use futures::StreamExt;

use crate::error::{Error, Result};
use crate::load::Loaded;

/// The first `limit` rows of a source, view or feature set, of everything that is there now.
///
/// A limit ends the scans early, so of a source or a filter only the first file is read.
pub(crate) async fn rows(loaded: &Loaded, name: Option<&str>, limit: usize) -> Result<Vec<RecordBatch>> {
    let last = loaded.plan.sets.last().map(|set| set.name.as_str());
    let name = name.or(last).ok_or_else(|| Error::Unknown { message: "the pipeline has no feature set".to_owned() })?;
    let logical = LogicalPlanBuilder::from(loaded.plan.preview(name)?).limit(0, Some(limit)).map_err(Error::engine)?;
    let logical = logical.build().map_err(Error::engine)?;
    let scans = everything(loaded, &names_read(&logical)?).await?.into_iter().enumerate();
    let silent = EpochScans::silent().for_preview();
    let scans = scans.fold(silent, |scans, (number, (name, input))| scans.with_source(name, number as u64, input));
    let session = bessemer_transforms::with_extension(&loaded.session, Arc::new(scans));
    let plan = session.create_physical_plan(&logical).await.map_err(Error::engine)?;
    collect(plan, session.task_ctx()).await.map_err(Error::engine)
}

/// The sources and tables that a query reads.
fn names_read(query: &LogicalPlan) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    let walked = query.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            names.insert(scan.table_name.table().to_owned());
        }
        Ok(TreeNodeRecursion::Continue)
    });
    walked.map_err(Error::engine)?;
    Ok(names)
}

#[cfg(feature = "kafka")]
fn all_offsets(mut backlog: bessemer_connectors::kafka::Backlog) -> ScanInput {
    let ranges = backlog.rest();
    ScanInput::Offsets(ranges.into_iter().map(|range| ScanOffsets { range, is_new: true }).collect())
}

async fn everything(loaded: &Loaded, names: &BTreeSet<String>) -> Result<BTreeMap<String, ScanInput>> {
    let mut scans = BTreeMap::new();
    for source in loaded.sources.iter().filter(|source| names.contains(source.name())) {
        let mut unbounded = SliceLimits { bytes: u64::MAX, rows: u64::MAX, files: u64::MAX };
        let input = match source {
            Source::Objects(source) => {
                let objects: Vec<ObjectVersion> = match source.kind() {
                    SourceKind::Table => source.table_version().await?.1,
                    SourceKind::Log => {
                        source.list(futures::stream::empty().boxed()).await?.next_slice(&mut unbounded).await?
                    }
                };
                ScanInput::Objects(objects.into_iter().map(|version| ScanObject { version, is_new: true }).collect())
            }
            #[cfg(feature = "kafka")]
            Source::Kafka(source) => all_offsets(source.backlog(Vec::new()).await?),
            #[cfg(feature = "kafka")]
            Source::Log(log) => all_offsets(log.backlog(Vec::new()).await?),
        };
        scans.insert(source.name().to_owned(), input);
    }
    Ok(scans)
}
