//! The Delta log, through the library of its authors.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use bessemer_schemas::{DataFile, Epoch, PartitionField, PartitionTransform};
use deltalake::kernel::engine::arrow_conversion::TryIntoKernel;
use deltalake::kernel::transaction::{CommitBuilder, CommitProperties, TransactionError};
use deltalake::kernel::{Action, Add, MetadataExt, Remove, StructField, StructType, Transaction};
use deltalake::logstore::{LogStoreRef, StorageConfig, default_logstore};
use deltalake::operations::create::CreateBuilder;
use deltalake::protocol::{DeltaOperation, SaveMode};
use deltalake::table::state::DeltaTableState;
use deltalake::{DeltaTable, DeltaTableError};
use futures::{StreamExt, TryStreamExt};
use object_store::prefix::PrefixStore;
use url::Url;

use super::statistics::statistics;
use super::{DeltaCommit, DeltaTarget, DeltaVersion};
use crate::manifest_store::sync;
use crate::sink::partition::column_type;
use crate::sink::reader::FileReader;
use crate::sink::shape::{in_microseconds, visible_fields, without_views};
use crate::{Error, Result};

/// Footers that are read at once.
const FOOTERS_AT_ONCE: usize = 8;

/// The Delta log of a set, opened.
pub struct DeltaLog {
    target: DeltaTarget,
    table: DeltaTable,
    schema: StructType,
    published: Option<Epoch>,
}

/// What is to be done to the table: files by their path.
#[derive(Default)]
struct Changes {
    added: BTreeMap<String, (DataFile, i64)>,
    removed: BTreeMap<String, (DataFile, i64)>,
    epoch: Epoch,
    data_change: bool,
}

impl DeltaLog {
    /// Opens the log of a set; where there is none, the first [`DeltaLog::publish`] makes it.
    pub async fn open(target: DeltaTarget) -> Result<Self> {
        let store = log_store(&target)?;
        let schema = table_schema(&target)?;
        let mut table = DeltaTable::new(store);
        let exists = table.verify_deltatable_existence().await.map_err(|error| failed(&target, &error))?;
        if exists {
            table.load().await.map_err(|error| failed(&target, &error))?;
        }
        let mut log = Self { target, table, schema, published: None };
        log.published = log.read_published().await?;
        Ok(log)
    }

    /// The last epoch that the log covers.
    pub fn published(&self) -> Option<Epoch> {
        self.published
    }

    /// Version of the table, if there is one.
    pub fn version(&self) -> Option<DeltaVersion> {
        self.table.version().map(DeltaVersion)
    }

    /// Refuses to go on where a file that is live by the manifests is not live in the log: somebody else removed it.
    pub fn check_live<'a>(&self, live: impl IntoIterator<Item = &'a DataFile>) -> Result<()> {
        let files = self.live_paths();
        match live.into_iter().find(|file| !files.contains(&file.path)) {
            None => Ok(()),
            Some(file) => Err(self.foreign(&format!("`{}` was removed by another writer", file.path))),
        }
    }

    /// Publishes what the log lacks of `commits`, which are in the order of their epochs: as one version, or as several
    /// where compaction comes in between. A reader that follows the table passes over the versions that only move rows.
    pub async fn publish(&mut self, commits: &[DeltaCommit]) -> Result<()> {
        self.refresh().await?;
        let published = self.published;
        let is_missing = |commit: &&DeltaCommit| published.is_none_or(|epoch| commit.epoch > epoch);
        let missing: Vec<_> = commits.iter().filter(is_missing).collect();
        for commits in missing.chunk_by(|left, right| left.data_change == right.data_change) {
            self.publish_version(&Changes::fold(commits)).await?;
        }
        Ok(())
    }

    async fn publish_version(&mut self, changes: &Changes) -> Result<()> {
        if self.table.version().is_none() {
            self.create().await?;
        }
        let live = self.live_paths();
        if let Some(path) = changes.removed.keys().find(|path| !live.contains(*path)) {
            return Err(self.foreign(&format!("`{path}` was removed by another writer")));
        }
        let replaces_all = changes.data_change && live.iter().all(|path| changes.removed.contains_key(path));
        let mut actions = self.schema_change(replaces_all)?;
        let data_change = changes.data_change;
        actions.extend(changes.removed.values().map(|(file, at)| Action::Remove(remove(file, *at, data_change))));
        actions.extend(self.adds(changes).await?);
        let operation = if data_change { self.write(replaces_all && !live.is_empty()) } else { optimize(changes) };
        self.commit(actions, changes.epoch, operation).await?;
        self.published = Some(changes.epoch);
        Ok(())
    }

    /// Takes in what others committed since; what was live for us and is no more, somebody removed.
    async fn refresh(&mut self) -> Result<()> {
        if self.table.version().is_none() {
            return Ok(());
        }
        let before = (self.table.version(), self.live_paths());
        self.table.update_state().await.map_err(|error| failed(&self.target, &error))?;
        if self.table.version() != before.0 {
            let now = self.live_paths();
            if let Some(path) = before.1.difference(&now).next() {
                return Err(self.foreign(&format!("`{path}` was removed by another writer")));
            }
            self.published = self.read_published().await?;
        }
        Ok(())
    }

    async fn create(&mut self) -> Result<()> {
        let create = CreateBuilder::new()
            .with_log_store(self.table.log_store())
            .with_table_name(self.target.set.clone())
            .with_columns(self.schema.fields().cloned())
            .with_partition_columns(self.target.partition_by.iter().map(PartitionField::name))
            .with_save_mode(SaveMode::Ignore);
        self.table = Box::pin(async { create.await }).await.map_err(|error| failed(&self.target, &error))?;
        self.sync_log().await
    }

    fn write(&self, replaces: bool) -> DeltaOperation {
        DeltaOperation::Write {
            mode: if replaces { SaveMode::Overwrite } else { SaveMode::Append },
            partition_by: (!self.target.partition_by.is_empty())
                .then(|| self.target.partition_by.iter().map(PartitionField::name).collect()),
            predicate: None,
        }
    }

    async fn commit(&mut self, actions: Vec<Action>, epoch: Epoch, operation: DeltaOperation) -> Result<()> {
        let version = i64::try_from(epoch.0)
            .map_err(|_| Error::Internal { message: format!("epoch {epoch} is beyond 63 bits") })?;
        // No second try over a version that we have not seen: it is looked at first, by the next `refresh`.
        let properties = CommitProperties::default()
            .with_max_retries(0)
            .with_application_transaction(Transaction::new(self.application(), version));
        let state: &DeltaTableState = self.table.snapshot().map_err(|error| failed(&self.target, &error))?;
        let builder = CommitBuilder::from(properties).with_actions(actions);
        let commit = builder.build(Some(state), self.table.log_store(), operation);
        let committed = Box::pin(async { commit.await }).await;
        let taken = committed.err();
        if let Some(error) = &taken
            && !is_taken(error)
        {
            return Err(failed(&self.target, error));
        }
        self.table.update_state().await.map_err(|error| failed(&self.target, &error))?;
        // A store that repeats a put may find its own success in the way: then the version that is there is ours.
        if let Some(error) = taken
            && self.read_published().await? != Some(epoch)
        {
            let (location, reason) = (self.target.location.as_text().to_owned(), error.to_string());
            return Err(Error::Delta { location, reason, transient: true });
        }
        self.sync_log().await
    }

    /// The files of the log are only a copy of what manifests say, but a torn one would have to be removed by hand.
    async fn sync_log(&self) -> Result<()> {
        let Some(DeltaVersion(version)) = self.version() else { return Ok(()) };
        sync(&self.target.location, &[format!("_delta_log/{version:020}.json")]).await
    }

    async fn adds(&self, changes: &Changes) -> Result<Vec<Action>> {
        let add = |(file, at): &(DataFile, i64)| {
            let (file, at) = (file.clone(), *at);
            let mut reader = FileReader::new(&self.target.location, &file);
            async move {
                let footer =
                    reader.footer().await.map_err(|source| Error::Parquet { path: file.path.clone(), source })?;
                let size = i64::try_from(file.bytes).unwrap_or(i64::MAX);
                Ok::<_, Error>(Action::Add(Add {
                    path: file.path.clone(),
                    partition_values: file.partition.iter().cloned().collect(),
                    size,
                    modification_time: at / 1_000,
                    data_change: changes.data_change,
                    stats: Some(statistics(&footer)),
                    tags: None,
                    deletion_vector: None,
                    base_row_id: None,
                    default_row_commit_version: None,
                    clustering_provider: None,
                }))
            }
        };
        let reads: Vec<_> = changes.added.values().map(add).collect();
        futures::stream::iter(reads).buffered(FOOTERS_AT_ONCE).try_collect().await
    }

    /// A set that is replaced as a whole may have other columns than before; any other difference is not ours.
    fn schema_change(&self, replaces_all: bool) -> Result<Vec<Action>> {
        let state = self.table.snapshot().map_err(|error| failed(&self.target, &error))?;
        let (there, here) = (state.schema(), &self.schema);
        let columns = |schema: &StructType| {
            let column = |field: &StructField| (field.name().clone(), field.data_type().clone(), field.is_nullable());
            schema.fields().map(column).collect::<Vec<_>>()
        };
        let partitions: Vec<String> = self.target.partition_by.iter().map(PartitionField::name).collect();
        if state.metadata().partition_columns() != partitions.as_slice() {
            return Err(self.foreign("the table's partition columns are not the set's"));
        }
        if columns(&there) == columns(here) {
            return Ok(Vec::new());
        }
        if !replaces_all {
            return Err(self.foreign("the table's schema is not the set's: another writer changed it"));
        }
        let metadata = state.metadata().clone().with_schema(here);
        let metadata = metadata.map_err(|error| failed(&self.target, &error.into()))?;
        Ok(vec![Action::Metadata(metadata)])
    }

    fn live_paths(&self) -> HashSet<String> {
        match self.table.snapshot() {
            Ok(state) => state.snapshot().log_data().iter().map(|file| file.path().into_owned()).collect(),
            Err(_) => HashSet::new(),
        }
    }

    async fn read_published(&self) -> Result<Option<Epoch>> {
        let Ok(state) = self.table.snapshot() else { return Ok(None) };
        let store = self.table.log_store();
        let version = state.transaction_version(store.as_ref(), self.application()).await;
        let version = version.map_err(|error| failed(&self.target, &error))?;
        Ok(version.and_then(|version| u64::try_from(version).ok()).map(Epoch))
    }

    fn application(&self) -> String {
        format!("bessemer/{}/{}", self.target.pipeline, self.target.set)
    }

    fn foreign(&self, reason: &str) -> Error {
        let location = self.target.location.as_text().to_owned();
        Error::Delta { location, reason: reason.to_owned(), transient: false }
    }
}

impl Changes {
    /// What a file that came and went in between leaves is nothing.
    fn fold(commits: &[&DeltaCommit]) -> Self {
        let mut changes = Self::default();
        for commit in commits {
            for file in &commit.removed {
                if changes.added.remove(&file.path).is_none() {
                    changes.removed.insert(file.path.clone(), (file.clone(), commit.committed_at));
                }
            }
            let added = commit.added.iter().map(|file| (file.path.clone(), (file.clone(), commit.committed_at)));
            changes.added.extend(added);
            changes.epoch = commit.epoch;
            changes.data_change = commit.data_change;
        }
        changes
    }
}

/// Whether a commit found its version taken.
fn is_taken(error: &DeltaTableError) -> bool {
    let attempts = |source: &TransactionError| {
        matches!(source, TransactionError::MaxCommitAttempts(_) | TransactionError::VersionAlreadyExists(_))
    };
    match error {
        DeltaTableError::VersionAlreadyExists(_) => true,
        DeltaTableError::Transaction { source } => attempts(source),
        _ => false,
    }
}

/// What the log calls the work of compaction.
fn optimize(changes: &Changes) -> DeltaOperation {
    let largest = changes.added.values().map(|(file, _)| file.bytes).max().unwrap_or(0);
    DeltaOperation::Optimize { predicate: None, target_size: i64::try_from(largest).unwrap_or(i64::MAX) }
}

fn remove(file: &DataFile, at: i64, data_change: bool) -> Remove {
    let partition_values: HashMap<_, _> = file.partition.iter().cloned().collect();
    Remove {
        path: file.path.clone(),
        data_change,
        deletion_timestamp: Some(at / 1_000),
        extended_file_metadata: Some(true),
        partition_values: Some(partition_values),
        size: i64::try_from(file.bytes).ok(),
        ..Remove::default()
    }
}

/// The store is ours, credentials and faults included; the library only needs a URL to make paths from.
fn log_store(target: &DeltaTarget) -> Result<LogStoreRef> {
    let location = &target.location;
    let bad = |reason: String| Error::BadLocation { location: location.as_text().to_owned(), reason };
    let url = if let Some(folder) = location.local_folder() {
        Url::from_directory_path(folder).map_err(|()| bad("not an absolute path".to_owned()))?
    } else {
        let mut url = Url::parse("memory:///").map_err(|error| bad(error.to_string()))?;
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.clear().extend(location.prefix().parts().map(|part| part.as_ref().to_owned())).push("");
        }
        url
    };
    let prefixed = Arc::new(PrefixStore::new(Arc::clone(location.store()), location.prefix().clone()));
    Ok(default_logstore(prefixed, Arc::clone(location.store()), &url, &StorageConfig::default()))
}

/// The set's columns, then those that are only in the path.
fn table_schema(target: &DeltaTarget) -> Result<StructType> {
    let mut fields: Vec<Field> = visible_fields(&target.schema)
        .map(|field| {
            let data_type = plain(&in_microseconds(&without_views(field.data_type())));
            field.with_data_type(data_type)
        })
        .collect();
    for partition in target.partition_by.iter().filter(|field| field.transform != PartitionTransform::Identity) {
        let is_nullable = target.schema.field_with_name(&partition.column).map_or(true, Field::is_nullable);
        fields.push(Field::new(partition.name(), column_type(partition, &target.schema), is_nullable));
    }
    let schema = Schema::new(fields);
    let converted: Result<StructType, arrow::error::ArrowError> = (&schema).try_into_kernel();
    converted.map_err(|error| Error::Delta {
        location: target.location.as_text().to_owned(),
        reason: error.to_string(),
        transient: false,
    })
}

fn plain(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Dictionary(_, values) => values.as_ref().clone(),
        other => other.clone(),
    }
}

fn failed(target: &DeltaTarget, error: &DeltaTableError) -> Error {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    let mut transient = false;
    while let Some(error) = cause {
        transient |= error.downcast_ref::<object_store::Error>().is_some();
        cause = error.source();
    }
    Error::Delta { location: target.location.as_text().to_owned(), reason: error.to_string(), transient }
}

#[cfg(test)]
mod tests;
