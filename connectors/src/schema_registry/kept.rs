//! Schemas beside a pipeline's state, one object each: what a registry said once.

use bessemer_schemas::Digest;
use object_store::ObjectStoreExt as _;

use super::RegisteredSchema;
use crate::sink::escape;
use crate::{Error, Location, Result};

/// Folder below the state.
const FOLDER: &str = "schemas";

/// The schemas of one registry.
#[derive(Debug)]
pub(super) struct KeptSchemas {
    location: Location,
}

impl KeptSchemas {
    /// Those of the registry at `url`: numbers are its own.
    pub(super) fn new(state: &Location, url: &str) -> Self {
        let digest = Digest::of(url.as_bytes()).to_string();
        let short = digest.get(..16).unwrap_or(&digest);
        Self { location: state.child(&format!("{FOLDER}/{short}")) }
    }

    /// Reads one. One that cannot be understood is as good as none: the registry has it.
    pub(super) async fn read(&self, name: &str) -> Result<Option<RegisteredSchema>> {
        let path = self.path(name);
        let failed = |error| Error::store(self.location.as_text(), error);
        match self.location.store().get(&path).await {
            Ok(found) => {
                let bytes = found.bytes().await.map_err(failed)?;
                Ok(serde_json::from_slice(&bytes).ok())
            }
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    /// Writes one. Two writers write the same.
    pub(super) async fn write(&self, name: &str, schema: &RegisteredSchema) -> Result<()> {
        let bytes = serde_json::to_vec(schema).map_err(|error| Error::Internal { message: error.to_string() })?;
        let put = self.location.store().put(&self.path(name), bytes.into()).await;
        put.map(|_| ()).map_err(|error| Error::store(self.location.as_text(), error))
    }

    fn path(&self, name: &str) -> object_store::path::Path {
        let mut file = String::new();
        escape(name, &mut file);
        self.location.path(&format!("{file}.json"))
    }
}
