//! The schemas that values are written with: where they are, and what they are.

use std::path::Path;
use std::sync::Mutex;

use arrow::array::ArrayRef;
use arrow_schema::SchemaRef;
use prost_reflect::MessageDescriptor;
use tokio_util::sync::CancellationToken;

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

/// A schema of records, understood or not, and what it is called.
#[derive(Debug)]
pub(super) struct WrittenSchema {
    schema: Result<Schema, String>,
    name: String,
}

/// What records of a schema are.
#[derive(Debug, PartialEq)]
pub(super) enum RecordType {
    /// What there is one of in a schema.
    Whole,
    /// A message.
    Message(MessageDescriptor),
}

/// A schema that cannot be read, or contradicts the declared columns: the fault of all its records.
#[derive(Debug)]
pub(super) struct Mismatch {
    /// The schema.
    pub(super) schema: String,
    /// What is wrong.
    pub(super) reason: String,
    /// The column that it contradicts.
    pub(super) column: Option<String>,
}

impl WrittenSchemas {
    /// Opens what the format of `source` says; reads a schema file, asks no registry. What a registry answers is kept below `state`.
    pub(in super::super) fn open(format: &WrittenFormat, source: &str, state: Option<&Location>) -> Result<Self> {
        let store = match &format.origin {
            Origin::Registry { registry, .. } => {
                Store::Registry(Box::new(SchemaRegistry::new(registry, source, state)?))
            }
            Origin::File(path) => {
                let schema = Schema::open(format.language, path);
                let path = path.display().to_string();
                let checked =
                    schema.and_then(|schema| schema.check_message(format.message.as_deref()).map(|()| schema));
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

    /// An epoch begins: schemas that the registry did not have may be there now.
    pub(in super::super) fn begin_epoch(&self) -> Result<()> {
        match &self.store {
            Store::Registry(registry) => registry.begin_epoch(),
            Store::File { .. } => Ok(()),
        }
    }

    /// The schema of a number; `None` where the registry has none. Blocks where the registry has to be asked, until
    /// whoever wants to know is `gone`.
    pub(super) fn schema(&self, id: SchemaId, gone: &CancellationToken) -> Result<Option<WrittenSchema>> {
        Ok(match &self.store {
            Store::File { schema, path } => Some(WrittenSchema { schema: Ok(schema.clone()), name: path.clone() }),
            Store::Registry(registry) => registry.schema(id, gone)?.map(|registered| WrittenSchema {
                schema: Schema::parse(self.format.language, &registered),
                name: format!("schema {} of {}", id.0, registry.url()),
            }),
        })
    }

    /// What the records of a schema are that name the message at `path` in it; `None` where there is none.
    pub(super) fn record_type(&self, written: &WrittenSchema, path: &[u8]) -> Option<RecordType> {
        let Ok(Schema::Protobuf(schema)) = &written.schema else { return Some(RecordType::Whole) };
        let message = match self.store {
            Store::Registry(_) => schema.message_at(path),
            Store::File { .. } => schema.message(self.format.message.as_deref()).ok(),
        };
        message.map(RecordType::Message)
    }

    /// A reader of records of a schema into the declared columns.
    pub(super) fn reader(
        &self,
        written: &WrittenSchema,
        record: &RecordType,
        columns: &SchemaRef,
        defaults: &[Option<ArrayRef>],
    ) -> Result<Reader, Mismatch> {
        let mismatch = |reason, column| Mismatch { schema: written.name.clone(), reason, column };
        let timestamp_format = &self.format.timestamp_format;
        let schema = written.schema.as_ref().map_err(|reason| mismatch(reason.clone(), None))?;
        let reader = match (schema, record) {
            (_, RecordType::Message(found)) => {
                if let Some(name) = self.format.message.as_deref().filter(|name| *name != found.full_name()) {
                    let reason =
                        format!("its record is message `{}`, and the source reads `{name}`", found.full_name());
                    return Err(mismatch(reason, None));
                }
                ProtobufReader::new(found, columns, defaults, timestamp_format).map(Reader::Protobuf)
            }
            (Schema::Avro(schema), RecordType::Whole) => {
                AvroReader::new(schema.clone(), columns, defaults, timestamp_format).map(Reader::Avro)
            }
            (Schema::Protobuf(_), RecordType::Whole) => {
                return Err(mismatch("no message of it is meant".to_owned(), None));
            }
        };
        reader.map_err(|Contradiction { column, reason }| mismatch(reason, Some(column)))
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
            SchemaLanguage::Json | SchemaLanguage::Other => Err(format!("{} is not read", language.name())),
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

    /// Whether it is clear which message is meant (Protobuf): the one of a name, or the only one.
    fn check_message(&self, name: Option<&str>) -> Result<(), String> {
        match self {
            Self::Avro(_) => Ok(()),
            Self::Protobuf(schema) => schema.message(name).map(drop),
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
