//! What the footers of Parquet objects say before the objects are read.

use std::sync::Arc;

use bessemer_schemas::ObjectVersion;
use futures::FutureExt;
use futures::future::BoxFuture;
use parquet::file::metadata::ParquetMetaData;

use super::parquet_read::oldest_event;
use super::pinned::PinnedObject;
use super::source::ObjectSource;
use crate::formats::parquet::footer;
use crate::{Error, Result};

/// The footers of a source's objects.
#[derive(Debug, Clone)]
pub(super) struct Footers {
    source: Arc<ObjectSource>,
}

impl Footers {
    /// Of the objects of `source`, which are Parquet.
    pub(super) fn new(source: &Arc<ObjectSource>) -> Self {
        Self { source: Arc::clone(source) }
    }

    /// Rows of one object. An object that cannot be read counts none: reading it will say why.
    pub(super) async fn rows(&self, version: &ObjectVersion) -> Result<u64> {
        let found = self.read(version).await?;
        Ok(found.map_or(0, |(_, footer)| footer.file_metadata().num_rows().unsigned_abs()))
    }

    /// Whether rows of the source can be late, and tell how old they are before they are read.
    pub(super) fn tell_event_time(&self) -> bool {
        self.source.lateness().is_some() && self.source.event_time().is_some()
    }

    /// A time that no row of an object is older than, in microseconds since 1970, UTC: `i64::MAX` of one without rows.
    /// `None` where its statistics do not say, or it cannot be read: what is wrong with it is told when it is its turn.
    pub(super) fn oldest(&self, version: &ObjectVersion) -> BoxFuture<'static, Option<i64>> {
        let (footers, version) = (self.clone(), version.clone());
        async move {
            let (object, footer) = footers.read(&version).await.ok().flatten()?;
            oldest_event(&footers.source, &object, footer)
        }
        .boxed()
    }

    /// `None` where the object is no Parquet file, or damaged.
    async fn read(&self, version: &ObjectVersion) -> Result<Option<(PinnedObject, Arc<ParquetMetaData>)>> {
        let location = &self.source.options().location;
        let object = PinnedObject::open(self.source.shared_name(), location, version).await?;
        match footer(&object).await {
            Ok(footer) => Ok(Some((object, footer))),
            Err(Error::BadFile { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
