//! Values that were written with a schema: where it is, and rows by it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::ArrayRef;
use bessemer_schemas::{Diagnostic, OptionMap, RejectReason, SourceDefinition};

use super::super::options::Topics;
use super::super::source::KafkaSource;
use super::internal;
use crate::formats::avro::{self, AvroReader, AvroSchema, InferredColumns};
use crate::formats::rows::{Contradiction, RowBuilder, RowBuilderOptions};
use crate::formats::text::{DecodeLimits, RecordFault, TimestampFormat};
use crate::schema_registry::{RegisteredSchema, SchemaId, SchemaLanguage, SchemaRegistry, SchemaRegistryOptions};
use crate::{Error, Location, Result};

/// What a schema that contradicts the declared columns means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OnError {
    /// The pipeline stops (the default): nothing is lost, and the definition can be changed.
    Fail,
    /// The records that were written with it go to quarantine.
    Quarantine,
}

/// Where the schemas of records are.
#[derive(Debug, Clone)]
enum Origin {
    /// Each record begins with the number of its schema in a registry. Columns may come from a subject of it.
    Registry { registry: SchemaRegistryOptions, subject: Option<String> },
    /// All records are written with the one in a file.
    File(PathBuf),
}

/// A format whose records are written with a schema.
#[derive(Debug, Clone)]
pub(in super::super) struct WrittenFormat {
    language: SchemaLanguage,
    origin: Origin,
    timestamp_format: TimestampFormat,
    on_error: OnError,
}

impl WrittenFormat {
    /// Takes the options of a schema; `topics` say which subject the columns come from where none are declared.
    pub(super) fn take(
        options: &mut OptionMap,
        source: &SourceDefinition,
        language: SchemaLanguage,
        topics: Option<&Topics>,
        base: &Path,
        timeout: Duration,
    ) -> Option<Self> {
        let has_option = |options: &OptionMap, key: &str| options.entries().iter().any(|entry| entry.key == key);
        let (has_registry, has_file) = (has_option(options, "schema_registry"), has_option(options, "schema_file"));
        let registry = SchemaRegistryOptions::take(options, timeout);
        let file = options.take_text("schema_file").map(|file| base.join(file));
        let subject = options.take_text("subject");
        let timestamp_format = TimestampFormat::take(options).unwrap_or_default();
        let on_error = options
            .take_choice("on_error", &[("fail", OnError::Fail), ("quarantine", OnError::Quarantine)])
            .unwrap_or(OnError::Fail);

        let (owner, span) = (options.owner().to_owned(), options.owner_span());
        let mut problem = |message: String, help: &str| {
            options.report(Diagnostic::error(message, span).with_help(help));
        };
        match (has_registry, has_file) {
            (true, true) => {
                let help = "keep one of the two: with a registry, each record names its schema";
                problem(format!("{owner} has both `schema_registry` and `schema_file`"), help);
            }
            (false, false) => problem(
                format!("nothing says with which schema the records of {owner} are written"),
                "add `schema_registry = 'http://…'` where records begin with the number of their schema, otherwise \
                 `schema_file = '….avsc'`",
            ),
            _ => {}
        }
        if subject.is_some() && (!has_registry || source.columns.is_some()) {
            let message = "`subject` says from which schema of the registry undeclared columns are taken".to_owned();
            problem(message, "leave it out: there is no registry, or the columns are declared");
        }
        let subject = match (&source.columns, subject, topics) {
            (Some(_), ..) => None,
            (None, Some(subject), _) => Some(subject),
            (None, None, Some(Topics::Named(names))) if names.len() == 1 => Some(format!("{}-value", names[0])),
            (None, None, _) => {
                if has_registry {
                    let message = format!("{owner} declares no columns, and reads more than one topic");
                    problem(message, "declare the columns, or add `subject = 'orders-value'` to take them from");
                }
                None
            }
        };
        let origin = match (registry, file) {
            (Some(registry), None) => Origin::Registry { registry, subject },
            (None, Some(file)) => Origin::File(file),
            _ => return None,
        };
        Some(Self { language, origin, timestamp_format, on_error })
    }

    /// What the bytes of a record mean, as text. Registries and files may move, and schemas evolve.
    pub(super) fn decoding_text(&self) -> String {
        let framing = if self.has_registry() { "with" } else { "without" };
        format!("{:?} {framing} number of schema; {:?}", self.language, self.timestamp_format)
    }

    pub(super) fn has_registry(&self) -> bool {
        matches!(self.origin, Origin::Registry { .. })
    }
}

/// The schemas of a source's records.
#[derive(Debug)]
pub(in super::super) struct WrittenSchemas {
    format: WrittenFormat,
    store: Store,
    /// The subject and the schema that the columns were taken from, where they were.
    columns_of: Option<(String, RegisteredSchema)>,
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
}

impl Schema {
    fn parse(language: SchemaLanguage, registered: &RegisteredSchema) -> Result<Self, String> {
        if registered.language != language {
            return Err(format!("it is {}, and the source reads {}", registered.language.name(), language.name()));
        }
        let references = registered.references.iter().map(|reference| reference.schema.as_str());
        match language {
            SchemaLanguage::Avro => AvroSchema::parse(&registered.schema, references).map(Self::Avro),
            SchemaLanguage::Protobuf | SchemaLanguage::Json => Err(format!("{} is not read", language.name())),
        }
    }

    fn infer(&self) -> Result<InferredColumns, String> {
        match self {
            Self::Avro(schema) => avro::infer(schema),
        }
    }
}

impl WrittenSchemas {
    /// Opens what a format says; reads a schema file, asks no registry. What a registry answers is kept below `state`.
    pub(in super::super) fn open(format: &WrittenFormat, state: Option<&Location>) -> Result<Self> {
        let store = match &format.origin {
            Origin::Registry { registry, .. } => Store::Registry(Box::new(SchemaRegistry::new(registry, state)?)),
            Origin::File(path) => {
                let text = std::fs::read_to_string(path).map_err(|source| Error::Invalid {
                    message: format!("cannot read schema file `{}`: {source}", path.display()),
                })?;
                let alone = RegisteredSchema { language: format.language, schema: text, references: Vec::new() };
                let path = path.display().to_string();
                let schema = Schema::parse(format.language, &alone).map_err(|reason| unusable(&path, &reason))?;
                Store::File { schema, path }
            }
        };
        Ok(Self { format: format.clone(), store, columns_of: None })
    }

    /// The columns of a source that declares none.
    pub(in super::super) async fn infer(&mut self) -> Result<InferredColumns> {
        match (&self.store, &self.format.origin) {
            (Store::File { schema, path }, _) => schema.infer().map_err(|reason| unusable(path, &reason)),
            (Store::Registry(registry), Origin::Registry { subject: Some(subject), .. }) => {
                let registered = registry.columns_of(subject).await?;
                let schema = Schema::parse(self.format.language, &registered);
                let inferred = schema.and_then(|schema| schema.infer());
                let inferred = inferred.map_err(|reason| unusable(&format!("subject {subject}"), &reason))?;
                self.columns_of = Some((subject.clone(), registered));
                Ok(inferred)
            }
            (Store::Registry(_), _) => {
                Err(Error::Internal { message: "nothing says which subject the columns are taken from".to_owned() })
            }
        }
    }

    /// Keeps what the columns were taken from, so that the source stays what it was. Blocks.
    fn keep_columns(&self) -> Result<()> {
        match (&self.store, &self.columns_of) {
            (Store::Registry(registry), Some((subject, schema))) => registry.keep_columns(subject, schema),
            _ => Ok(()),
        }
    }
}

fn unusable(what: &str, reason: &str) -> Error {
    Error::Invalid { message: format!("cannot use the schema `{what}`: {reason}") }
}

/// Rows of records, each by the schema that it was written with.
#[derive(Debug)]
pub(in super::super) struct WrittenRecords {
    source: Arc<KafkaSource>,
    schemas: Arc<WrittenSchemas>,
    rows: RowBuilder,
    /// Readers by schema; where there can be none, what is wrong with every record of it.
    readers: HashMap<SchemaId, Result<Reader, RecordFault>>,
}

#[derive(Debug)]
enum Reader {
    Avro(AvroReader),
}

/// Stands for the schema of a file among numbers of a registry: a source has the one or the other.
const OF_FILE: SchemaId = SchemaId(0);

impl WrittenRecords {
    /// Rows of `columns` of the source's.
    pub(super) fn new(source: &Arc<KafkaSource>, columns: &[usize], limits: DecodeLimits) -> Result<Self> {
        let missing = || source.internal("the schemas of its records were not opened");
        let schemas = Arc::clone(source.written().ok_or_else(missing)?);
        schemas.keep_columns()?;
        let rows = RowBuilder::new(RowBuilderOptions {
            schema: source.declared(),
            projection: columns,
            defaults: source.defaults(),
            timestamp_format: &schemas.format.timestamp_format,
            limits,
            format: schemas.format.language.name(),
        })?;
        Ok(Self { source: Arc::clone(source), schemas, rows, readers: HashMap::new() })
    }

    /// Takes one value: a row more, or the reason why not. Blocks where its schema is not known yet.
    pub(super) fn push(&mut self, number: u64, value: &[u8]) -> Result<Result<(), RecordFault>> {
        let (id, data) = match &self.schemas.store {
            Store::File { .. } => (OF_FILE, value),
            Store::Registry(_) => match SchemaId::split(value) {
                Some(framed) => framed,
                None => return Ok(Err(RecordFault { reason: RejectReason::InvalidFraming, column: None })),
            },
        };
        if !self.readers.contains_key(&id) {
            let reader = self.reader(id)?;
            self.readers.insert(id, reader);
        }
        match self.readers.get(&id) {
            Some(Ok(Reader::Avro(reader))) => reader.read(number, data, &mut self.rows).map_err(internal),
            Some(Err(fault)) => Ok(Err(fault.clone())),
            None => Err(self.source.internal("a reader was lost")),
        }
    }

    /// The columns of the rows so far, if there are enough of them for a batch or if they are the last.
    pub(super) fn take(&mut self, is_last: bool) -> Result<Option<Vec<ArrayRef>>> {
        if is_last {
            self.rows.flush().map_err(internal)?;
        }
        Ok(self.rows.next_batch().map(|batch| batch.columns().to_vec()))
    }

    fn reader(&self, id: SchemaId) -> Result<Result<Reader, RecordFault>> {
        let (schema, place) = match &self.schemas.store {
            Store::File { schema, path } => (Ok(schema.clone()), path.clone()),
            Store::Registry(registry) => {
                let Some(registered) = registry.schema(id)? else {
                    return Ok(Err(RecordFault { reason: RejectReason::UnknownSchemaId, column: None }));
                };
                let place = format!("schema {} of {}", id.0, registry.url());
                (Schema::parse(self.schemas.format.language, &registered), place)
            }
        };
        let (declared, defaults) = (self.source.declared(), self.source.defaults());
        let resolved = match schema {
            Err(reason) => Err((reason, RecordFault { reason: RejectReason::SchemaMismatch, column: None })),
            Ok(Schema::Avro(schema)) => {
                AvroReader::new(schema, declared, defaults, &self.schemas.format.timestamp_format)
                    .map(Reader::Avro)
                    .map_err(|found: Contradiction| (found.reason.clone(), found.as_fault()))
            }
        };
        match resolved {
            Ok(reader) => Ok(Ok(reader)),
            Err((_, fault)) if self.schemas.format.on_error == OnError::Quarantine => Ok(Err(fault)),
            Err((reason, _)) => Err(Error::SchemaMismatch { name: self.source.name().to_owned(), path: place, reason }),
        }
    }
}
