//! Schemas by their numbers, from a registry that speaks the protocol of Confluent's.
//!
//! A schema never changes under its number. So each is asked for once, kept in memory and beside the pipeline's state, and
//! not asked for again, by this process or by later ones: what was read once can be read while the registry is away. That
//! there is none is the answer for one epoch.
//!
//! ```text
//! record: 0, number (4 bytes), data ─► number ─► memory ─► state/schemas/… ─► GET /schemas/ids/{number}
//! ```

mod client;
mod kept;
mod options;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};

use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use self::client::RegistryClient;
use self::kept::KeptSchemas;
pub(crate) use self::options::SchemaRegistryOptions;
use crate::{Error, Location, Result};

/// Number of a schema in its registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SchemaId(pub u32);

impl SchemaId {
    /// The number before a record's data, and the data; `None` where a record has none.
    pub fn split(value: &[u8]) -> Option<(Self, &[u8])> {
        let (head, data) = value.split_first_chunk::<5>()?;
        let [0, number @ ..] = *head else { return None };
        Some((Self(u32::from_be_bytes(number)), data))
    }
}

/// A schema as the registry has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RegisteredSchema {
    /// Its language.
    #[serde(rename = "schemaType", default)]
    pub(crate) language: SchemaLanguage,
    /// Its text.
    pub(crate) schema: String,
    /// The schemas that it refers to, each before those that refer to it.
    #[serde(default)]
    pub(crate) references: Vec<ReferredSchema>,
}

/// A schema that another one refers to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReferredSchema {
    /// What it is called there: the full name of a type (Avro), the path of an import (Protobuf).
    pub(crate) name: String,
    /// Its text.
    pub(crate) schema: String,
}

/// What a schema is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum SchemaLanguage {
    /// Registries leave it out.
    #[default]
    Avro,
    Protobuf,
    Json,
    /// One that is not known here.
    #[serde(other)]
    Other,
}

impl SchemaLanguage {
    /// For messages.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Avro => "Avro",
            Self::Protobuf => "Protobuf",
            Self::Json => "JSON Schema",
            Self::Other => "another language",
        }
    }
}

/// A registry, with what is known of it.
#[derive(Debug)]
pub(crate) struct SchemaRegistry {
    client: RegistryClient,
    kept: Option<KeptSchemas>,
    runtime: Handle,
    known: Mutex<Known>,
}

/// What was asked for.
#[derive(Debug, Default)]
struct Known {
    schemas: HashMap<SchemaId, Arc<RegisteredSchema>>,
    /// Numbers without a schema, as far as this epoch is concerned: a record is what it was also when the epoch is tried
    /// again. A later one asks again, as a registry may have been behind.
    missing: HashSet<SchemaId>,
}

/// Numbers without a schema in an epoch, at most: records that are something else can have any, and each is asked for.
const MISSING_MAX: usize = 1_024;

impl SchemaRegistry {
    /// The registry of a source; asks nothing. What it answers is kept below `state`. Must be called within a runtime.
    pub(crate) fn new(options: &SchemaRegistryOptions, source: &str, state: Option<&Location>) -> Result<Self> {
        let runtime = Handle::try_current().map_err(|error| Error::Internal {
            message: format!("a registry is opened outside of a runtime: {error}"),
        })?;
        let kept = state.map(|state| KeptSchemas::new(state, options.url(), source));
        Ok(Self { client: RegistryClient::new(options)?, kept, runtime, known: Mutex::default() })
    }

    /// Where it is, for messages.
    pub(crate) fn url(&self) -> &str {
        self.client.url()
    }

    /// The schema of a number; `None` where the registry says that there is none. Blocks, until whoever wants
    /// to know is `gone`: not for tasks of the runtime.
    pub(crate) fn schema(&self, id: SchemaId, gone: &CancellationToken) -> Result<Option<Arc<RegisteredSchema>>> {
        // Held while asking, so that scans side by side ask once.
        let mut known = self.known()?;
        if let Some(found) = known.schemas.get(&id) {
            return Ok(Some(Arc::clone(found)));
        }
        if known.missing.contains(&id) {
            return Ok(None);
        }
        let found = self.runtime.block_on(gone.run_until_cancelled(self.find(id)));
        let found =
            found.unwrap_or_else(|| Err(self.unanswered(id, "nobody waits for the answer any more".to_owned())))?;
        let Some(found) = found.map(Arc::new) else {
            if known.missing.len() >= MISSING_MAX {
                let reason = format!(
                    "it has no schema for it, nor for {MISSING_MAX} numbers of records before it; check \
                     `schema_registry`, and whether the records begin with such a number"
                );
                return Err(self.unanswered(id, reason));
            }
            known.missing.insert(id);
            return Ok(None);
        };
        known.schemas.insert(id, Arc::clone(&found));
        Ok(Some(found))
    }

    fn unanswered(&self, id: SchemaId, reason: String) -> Error {
        Error::Registry { url: self.url().to_owned(), action: format!("ask for schema {}", id.0), reason }
    }

    /// An epoch begins: what was not there may be now.
    pub(crate) fn begin_epoch(&self) -> Result<()> {
        self.known()?.missing.clear();
        Ok(())
    }

    fn known(&self) -> Result<MutexGuard<'_, Known>> {
        let poisoned = |_| Error::Internal { message: "a question to the schema registry panicked".to_owned() };
        self.known.lock().map_err(poisoned)
    }

    async fn find(&self, id: SchemaId) -> Result<Option<RegisteredSchema>> {
        if let Some(kept) = &self.kept
            && let Some(schema) = kept.schema(id).await?
        {
            return Ok(Some(schema));
        }
        let found = self.client.schema(id).await?;
        if let (Some(kept), Some(schema)) = (&self.kept, &found) {
            kept.keep_schema(id, schema).await?;
        }
        Ok(found)
    }

    /// The schema that the columns of a source are taken from: the newest of `subject`, or the one that was kept as
    /// such, so that a source stays what it was.
    pub(crate) async fn columns_of(&self, subject: &str) -> Result<RegisteredSchema> {
        if let Some(kept) = &self.kept
            && let Some(schema) = kept.columns_of(subject).await?
        {
            return Ok(schema);
        }
        self.client.newest(subject).await?.ok_or_else(|| Error::Invalid {
            message: format!(
                "schema registry `{}` has no subject `{subject}` to take the columns from; declare the columns, or name \
                 the subject with `subject`",
                self.url()
            ),
        })
    }

    /// Keeps the schema that the columns were taken from. Blocks: not for tasks of the runtime.
    pub(crate) fn keep_columns(&self, subject: &str, schema: &RegisteredSchema) -> Result<()> {
        let Some(kept) = &self.kept else { return Ok(()) };
        self.runtime.block_on(kept.keep_columns(subject, schema))
    }
}

#[cfg(test)]
mod tests;
