//! Beside the manifests: the records of runs, what users ask of the daemon, what the daemon remembers. All of it is for
//! people and for the daemon's clock; no row depends on it.

use bessemer_schemas::{Control, DaemonRecord, FORMAT_VERSION, RunRecord};
use futures::stream::{self, StreamExt, TryStreamExt};
use object_store::ObjectStoreExt;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::layout::{CONTROL, DAEMON, RUNS, is_run, run_path};
use super::{ManifestStore, READS, durable, put};
use crate::{Error, Result};

/// Records of runs that are kept: a day of a run every six minutes.
const RUNS_MAX: usize = 256;

impl ManifestStore {
    /// Writes the record of a run in the place of an older state of it, and forgets the oldest records.
    pub async fn record_run(&self, record: &RunRecord) -> Result<()> {
        self.write_beside(&run_path(record.started_at, record.id), record).await?;
        let names = self.run_names().await?;
        for name in &names[..names.len().saturating_sub(RUNS_MAX)] {
            let path = format!("{RUNS}/{name}");
            match self.location.store().delete(&self.location.path(&path)).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(Error::store(self.text(&path), error)),
            }
        }
        Ok(())
    }

    /// The records of the newest `last` runs, oldest first, without those that are damaged.
    pub async fn runs(&self, last: usize) -> Result<Vec<RunRecord>> {
        let mut names = self.run_names().await?;
        let names = names.split_off(names.len().saturating_sub(last));
        let read = stream::iter(names).map(|name| self.read_beside(format!("{RUNS}/{name}"))).buffered(READS);
        // One that another process has just forgotten is no longer among the newest.
        read.map(or_none).try_filter_map(|found| async move { Ok(found) }).try_collect().await
    }

    /// What users ask of the daemon, if anything.
    ///
    /// # Errors
    /// Also where it is damaged: a pipeline that is to rest must not run for that.
    pub async fn control(&self) -> Result<Option<Control>> {
        self.read_beside(CONTROL.to_owned()).await.map_err(|error| match error {
            Error::Damaged { path, reason } => {
                let help = "`bessemer resume` removes it, `bessemer pause` and `bessemer drain` write it anew";
                Error::Damaged { path, reason: format!("{reason}; {help}") }
            }
            other => other,
        })
    }

    /// Asks something of the daemon; `None` takes it back.
    pub async fn set_control(&self, control: Option<&Control>) -> Result<()> {
        let Some(control) = control else {
            let path = self.location.path(CONTROL);
            return match self.location.store().delete(&path).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
                Err(error) => Err(Error::store(self.text(CONTROL), error)),
            };
        };
        self.write_beside(CONTROL, control).await
    }

    /// What the daemon remembers, if it ever ran this pipeline and that can be read.
    pub async fn daemon_record(&self) -> Result<Option<DaemonRecord>> {
        or_none(self.read_beside(DAEMON.to_owned()).await)
    }

    /// Writes what the daemon remembers.
    pub async fn set_daemon_record(&self, record: &DaemonRecord) -> Result<()> {
        self.write_beside(DAEMON, record).await
    }

    /// Names of the records of runs, oldest first.
    async fn run_names(&self) -> Result<Vec<String>> {
        let listing = self.location.store().list(Some(&self.location.path(RUNS)));
        let names = listing.try_filter_map(|meta| async move {
            Ok(meta.location.filename().filter(|name| is_run(name)).map(str::to_owned))
        });
        let names: Result<Vec<_>, _> = names.try_collect().await;
        let mut names = names.map_err(|error| Error::store(self.text(RUNS), error))?;
        names.sort_unstable();
        Ok(names)
    }

    /// On local disk it survives a loss of power, like all that is put.
    async fn write_beside(&self, path: &str, value: &impl Serialize) -> Result<()> {
        let internal = |error| Error::Internal { message: format!("cannot write `{path}`: {error}") };
        let mut bytes = serde_json::to_vec(value).map_err(internal)?;
        bytes.push(b'\n');
        if let Some(folder) = self.location.local_folder() {
            return durable::replace(&self.location, folder, path, bytes.into()).await;
        }
        let put = self.location.store().put(&self.location.path(path), bytes.into()).await;
        put.map(drop).map_err(|error| Error::store(self.text(path), error))
    }

    async fn read_beside<T: DeserializeOwned>(&self, path: String) -> Result<Option<T>> {
        let Some(bytes) = put::read(&self.location, &path).await? else { return Ok(None) };
        let damaged = |reason: String| Error::Damaged { path: self.text(&path), reason };
        let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        if value["format_version"].as_u64().is_some_and(|version| version > u64::from(FORMAT_VERSION)) {
            let message = format!("a newer version of Bessemer wrote `{}`: use that", self.text(&path));
            return Err(Error::Invalid { message });
        }
        serde_json::from_value(value).map(Some).map_err(|error| damaged(error.to_string()))
    }
}

/// Nothing in the place of what is damaged: no row depends on it, and nobody is to wait for it.
fn or_none<T>(read: Result<Option<T>>) -> Result<Option<T>> {
    match read {
        Err(error @ Error::Damaged { .. }) => {
            tracing::warn!("{error}; going on without it");
            Ok(None)
        }
        read => read,
    }
}
