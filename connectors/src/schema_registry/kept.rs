//! Schemas beside a pipeline's state, one object each: what a registry said once.

use bessemer_schemas::Digest;
use object_store::ObjectStoreExt as _;

use super::{RegisteredSchema, SchemaId};
use crate::sink::escape;
use crate::{Error, Location, Result};

/// Folder below the state.
const FOLDER: &str = "schemas";

/// The schemas of one source.
#[derive(Debug)]
pub(super) struct KeptSchemas {
    /// Those of numbers.
    numbered: Location,
    /// Those that undeclared columns were taken from.
    columns: Location,
}

impl KeptSchemas {
    /// Those of `source`, whose registry is at `url`. Numbers are the registry's own; columns stay when it moves.
    pub(super) fn new(state: &Location, url: &str, source: &str) -> Self {
        let digest = Digest::of(url.as_bytes()).to_string();
        let short = digest.get(..16).unwrap_or(&digest);
        let mut folder = format!("{FOLDER}/source-");
        escape(source, &mut folder);
        Self { numbered: state.child(&format!("{FOLDER}/{short}")), columns: state.child(&folder) }
    }

    /// The schema of a number.
    pub(super) async fn schema(&self, id: SchemaId) -> Result<Option<RegisteredSchema>> {
        read(&self.numbered, &id.0.to_string()).await
    }

    /// Keeps the schema of a number.
    pub(super) async fn keep_schema(&self, id: SchemaId, schema: &RegisteredSchema) -> Result<()> {
        write(&self.numbered, &id.0.to_string(), schema).await
    }

    /// The schema of `subject` that the source's columns were taken from.
    pub(super) async fn columns_of(&self, subject: &str) -> Result<Option<RegisteredSchema>> {
        read(&self.columns, &subject_name(subject)).await
    }

    /// Keeps the schema of `subject` that the source's columns were taken from.
    pub(super) async fn keep_columns(&self, subject: &str, schema: &RegisteredSchema) -> Result<()> {
        write(&self.columns, &subject_name(subject), schema).await
    }
}

fn subject_name(subject: &str) -> String {
    format!("subject-{subject}")
}

/// Reads one. One that cannot be understood is as good as none: the registry has it.
async fn read(folder: &Location, name: &str) -> Result<Option<RegisteredSchema>> {
    let failed = |error| Error::store(folder.as_text(), error);
    match folder.store().get(&path(folder, name)).await {
        Ok(found) => {
            let bytes = found.bytes().await.map_err(failed)?;
            Ok(serde_json::from_slice(&bytes).ok())
        }
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

/// Writes one. Two writers write the same.
async fn write(folder: &Location, name: &str, schema: &RegisteredSchema) -> Result<()> {
    let bytes = serde_json::to_vec(schema).map_err(|error| Error::Internal { message: error.to_string() })?;
    let put = folder.store().put(&path(folder, name), bytes.into()).await;
    put.map(|_| ()).map_err(|error| Error::store(folder.as_text(), error))
}

fn path(folder: &Location, name: &str) -> object_store::path::Path {
    let mut file = String::new();
    escape(name, &mut file);
    folder.path(&format!("{file}.json"))
}
