//! The schemas that values are written with: where they are, and what they are.

use std::path::Path;
use std::sync::Mutex;

use arrow::array::ArrayRef;
use arrow_schema::SchemaRef;
use prost_reflect::MessageDescriptor;

use super::written::{Origin, WrittenFormat};
use crate::formats::avro::{self, AvroReader, AvroSchema};
use crate::formats::protobuf::{self, ProtobufReader, ProtobufSchema};
use crate::formats::rows::{Contradiction, InferredColumns};
use crate::schema_registry::{RegisteredSchema, SchemaId, SchemaLanguage, SchemaRegistry};
use crate::{Error, Location, Result};

/// The schemas of a source's records.
#[derive(Debug)]
pub(in super::super) struct WrittenSchemas {
    pub(super) format: WrittenFormat,
    store: Store,
    /// The subject and the schema that the columns were taken from, until they are kept.
    columns_of: Mutex<Option<(String, RegisteredSchema)>>,
}

#[derive(Debug)]
enum Store {
    Registry(Box<SchemaRegistry>),
    File { schema: Schema, path: String },
}

/// A schema, understood.
#[derive(Debug, Clone)]
enum Schema {
    Avro(AvroSchema),
    Protobuf(ProtobufSchema),
}

/// Reads records that were written in one way.
#[derive(Debug)]
pub(super) enum Reader {
    Avro(AvroReader),
    Protobuf(ProtobufReader),
}

/// Why there is no reader of records, which is the fault of all of them.
#[derive(Debug)]
pub(super) enum NoReader {
    /// The registry has no schema of their number.
    UnknownSchema,
    /// They do not say which message of their schema they are.
    UnknownMessage,
    /// Their schema cannot be read, or contradicts the declared columns.
    Mismatch {
        /// The schema.
        schema: String,
        /// What is wrong.
        reason: String,
        /// The column that it contradicts.
        column: Option<String>,
    },
}

impl WrittenSchemas {
    /// Opens what a format says; reads a schema file, asks no registry. What a registry answers is kept below `state`.
    pub(in super::super) fn open(format: &WrittenFormat, state: Option<&Location>) -> Result<Self> {
        let store = match &format.origin {
            Origin::Registry { registry, .. } => Store::Registry(Box::new(SchemaRegistry::new(registry, state)?)),
            Origin::File(path) => {
                let schema = Schema::open(format.language, path);
                let path = path.display().to_string();
                let checked = schema.and_then(|schema| schema.message(format.message.as_deref(), None).map(|_| schema));
                let schema = checked.map_err(|reason| unusable(&path, &reason))?;
                Store::File { schema, path }
            }
        };
        Ok(Self { format: format.clone(), store, columns_of: Mutex::new(None) })
    }

    /// Whether records begin with the number of their schema.
    pub(super) fn are_numbered(&self) -> bool {
        matches!(self.store, Store::Registry(_))
    }

    /// The columns of a source that declares none.
    pub(in super::super) async fn infer(&mut self) -> Result<InferredColumns> {
        let message = self.format.message.as_deref();
        match (&self.store, &self.format.origin) {
            (Store::File { schema, path }, _) => schema.infer(message).map_err(|reason| unusable(path, &reason)),
            (Store::Registry(registry), Origin::Registry { subject: Some(subject), .. }) => {
                let registered = registry.columns_of(subject).await?;
                let inferred = Schema::parse(self.format.language, &registered).and_then(|schema| match message {
                    None => schema.infer_first(),
                    message => schema.infer(message),
                });
                let inferred = inferred.map_err(|reason| unusable(&format!("subject {subject}"), &reason))?;
                self.columns_of = Mutex::new(Some((subject.clone(), registered)));
                Ok(inferred)
            }
            (Store::Registry(_), _) => {
                Err(Error::Internal { message: "nothing says which subject the columns are taken from".to_owned() })
            }
        }
    }

    /// Keeps what the columns were taken from, so that the source stays what it was. Blocks.
    pub(super) fn keep_columns(&self) -> Result<()> {
        let poisoned = |_| Error::Internal { message: "keeping a schema panicked".to_owned() };
        let mut columns_of = self.columns_of.lock().map_err(poisoned)?;
        if let (Store::Registry(registry), Some((subject, schema))) = (&self.store, columns_of.as_ref()) {
            registry.keep_columns(subject, schema)?;
        }
        *columns_of = None;
        Ok(())
    }

    /// A reader of records of a schema, of the message at `path` in it, into the declared columns. Blocks where a
    /// registry has to be asked.
    pub(super) fn reader(
        &self,
        id: SchemaId,
        path: &[u8],
        columns: &SchemaRef,
        defaults: &[Option<ArrayRef>],
    ) -> Result<Result<Reader, NoReader>> {
        let path = Some(path).filter(|_| self.are_numbered());
        let (schema, name) = match &self.store {
            Store::File { schema, path } => (Ok(schema.clone()), path.clone()),
            Store::Registry(registry) => {
                let Some(registered) = registry.schema(id)? else { return Ok(Err(NoReader::UnknownSchema)) };
                let name = format!("schema {} of {}", id.0, registry.url());
                (Schema::parse(self.format.language, &registered), name)
            }
        };
        let mismatch = |reason, column| Ok(Err(NoReader::Mismatch { schema: name.clone(), reason, column }));
        let timestamp_format = &self.format.timestamp_format;
        let reader = match schema {
            Err(reason) => return mismatch(reason, None),
            Ok(Schema::Avro(schema)) => AvroReader::new(schema, columns, defaults, timestamp_format).map(Reader::Avro),
            Ok(schema) => match schema.message(self.format.message.as_deref(), path) {
                Err(reason) => return mismatch(reason, None),
                Ok(None) => return Ok(Err(NoReader::UnknownMessage)),
                Ok(Some(message)) => {
                    ProtobufReader::new(&message, columns, defaults, timestamp_format).map(Reader::Protobuf)
                }
            },
        };
        match reader {
            Ok(reader) => Ok(Ok(reader)),
            Err(Contradiction { column, reason }) => mismatch(reason, Some(column)),
        }
    }
}

impl Schema {
    fn parse(language: SchemaLanguage, registered: &RegisteredSchema) -> Result<Self, String> {
        if registered.language != language {
            return Err(format!("it is {}, and the source reads {}", registered.language.name(), language.name()));
        }
        let references = registered.references.iter();
        match language {
            SchemaLanguage::Avro => {
                let references = references.map(|reference| reference.schema.as_str());
                AvroSchema::parse(&registered.schema, references).map(Self::Avro)
            }
            SchemaLanguage::Protobuf => {
                let references = references.map(|reference| (reference.name.as_str(), reference.schema.as_str()));
                ProtobufSchema::parse(&registered.schema, references).map(Self::Protobuf)
            }
            SchemaLanguage::Json => Err(format!("{} is not read", language.name())),
        }
    }

    fn open(language: SchemaLanguage, path: &Path) -> Result<Self, String> {
        match language {
            SchemaLanguage::Protobuf => ProtobufSchema::open(path).map(Self::Protobuf),
            language => {
                let schema = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
                Self::parse(language, &RegisteredSchema { language, schema, references: Vec::new() })
            }
        }
    }

    /// The message that is meant (Protobuf): the one at `path`, which must be of a given name; without a path the one of
    /// the name, or the only one.
    fn message(&self, name: Option<&str>, path: Option<&[u8]>) -> Result<Option<MessageDescriptor>, String> {
        let Self::Protobuf(schema) = self else { return Ok(None) };
        let Some(path) = path else { return schema.message(name).map(Some) };
        let found = schema.message_at(path);
        match (&found, name) {
            (Some(found), Some(name)) if found.full_name() != name => {
                Err(format!("its record is message `{}`, and the source reads `{name}`", found.full_name()))
            }
            _ => Ok(found),
        }
    }

    fn infer(&self, message: Option<&str>) -> Result<InferredColumns, String> {
        match self {
            Self::Avro(schema) => avro::infer(schema),
            Self::Protobuf(schema) => schema.message(message).and_then(|message| protobuf::infer(&message)),
        }
    }

    /// The same of the message that is meant where records do not say more.
    fn infer_first(&self) -> Result<InferredColumns, String> {
        match self {
            Self::Avro(schema) => avro::infer(schema),
            Self::Protobuf(schema) => schema.first_message().and_then(|message| protobuf::infer(&message)),
        }
    }
}

fn unusable(what: &str, reason: &str) -> Error {
    Error::Invalid { message: format!("cannot use schema `{what}`: {reason}") }
}
