//! Rows of values that were written with schemas.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use arrow::array::ArrayRef;
use bessemer_schemas::RejectReason;
use tokio_util::sync::CancellationToken;

use super::super::source::KafkaSource;
use super::internal;
use super::schemas::{Mismatch, Reader, RecordType, WrittenSchema, WrittenSchemas};
use super::written::OnError;
use crate::formats::protobuf::split_path;
use crate::formats::rows::{RowBuilder, RowBuilderOptions};
use crate::formats::text::{DecodeLimits, RecordFault};
use crate::schema_registry::{SchemaId, SchemaLanguage};
use crate::{Error, Result};

/// Rows of records, each by the schema that it was written with.
#[derive(Debug)]
pub(in super::super) struct WrittenRecords {
    source: Arc<KafkaSource>,
    schemas: Arc<WrittenSchemas>,
    rows: RowBuilder,
    known: HashMap<SchemaId, OfSchema>,
    /// Whoever took the rows.
    gone: CancellationToken,
}

/// How records of one schema are read.
#[derive(Debug)]
struct OfSchema {
    schema: WrittenSchema,
    /// One for each message that records were of: damaged records name no more than there are.
    readers: Vec<OfMessage>,
}

/// How records of one message of a schema are read; where they cannot be, what is wrong with each.
#[derive(Debug)]
struct OfMessage {
    /// How the first record named it, as nearly all do: it can be written in more than one way.
    path: Box<[u8]>,
    record: RecordType,
    reader: Result<Reader, RecordFault>,
}

/// Stands for the schema of a file among numbers of a registry: a source has the one or the other.
const OF_FILE: SchemaId = SchemaId(0);

impl WrittenRecords {
    /// Rows of `columns` of the source's, until whoever takes them is `gone`.
    pub(super) fn new(
        source: &Arc<KafkaSource>,
        columns: &[usize],
        limits: DecodeLimits,
        gone: CancellationToken,
    ) -> Result<Self> {
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
        Ok(Self { source: Arc::clone(source), schemas, rows, known: HashMap::new(), gone })
    }

    /// Takes one value: a row more, or the reason why not. Blocks where its schema is not known yet.
    pub(super) fn push(&mut self, number: u64, value: &[u8]) -> Result<Result<(), RecordFault>> {
        let Some((id, path, data)) = self.split(value) else {
            return Ok(Err(RecordFault { reason: RejectReason::InvalidFraming, column: None }));
        };
        let fault = |reason| Ok(Err(RecordFault { reason, column: None }));
        let Self { source, schemas, rows, known, gone } = self;
        let OfSchema { schema, readers } = match known.entry(id) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => {
                let Some(schema) = schemas.schema(id, gone)? else { return fault(RejectReason::UnknownSchemaId) };
                unknown.insert(OfSchema { schema, readers: Vec::new() })
            }
        };
        let at = match readers.iter().position(|of| *of.path == *path) {
            Some(at) => at,
            None => {
                let Some(record) = schemas.record_type(schema, path) else {
                    return fault(RejectReason::InvalidFraming);
                };
                match readers.iter().position(|of| of.record == record) {
                    Some(at) => at,
                    None => {
                        let reader = schemas.reader(schema, &record, source.declared(), source.defaults());
                        let reader = match reader {
                            Ok(reader) => Ok(reader),
                            Err(mismatch) => Err(refused(source, schemas, mismatch)?),
                        };
                        readers.push(OfMessage { path: path.into(), record, reader });
                        readers.len() - 1
                    }
                }
            }
        };
        match readers.get_mut(at).map(|of| &mut of.reader) {
            Some(Ok(Reader::Avro(reader))) => reader.read(number, data, rows).map_err(internal),
            Some(Ok(Reader::Protobuf(reader))) => reader.read(number, data, rows).map_err(internal),
            Some(Err(fault)) => Ok(Err(fault.clone())),
            None => Err(source.internal("a reader was lost")),
        }
    }

    /// The columns of the rows so far, if there are enough of them for a batch or if they are the last.
    pub(super) fn take(&mut self, is_last: bool) -> Result<Option<Vec<ArrayRef>>> {
        if is_last {
            self.rows.flush().map_err(internal)?;
        }
        Ok(self.rows.next_batch().map(|batch| batch.columns().to_vec()))
    }

    /// The number of a record's schema, which message it is in it, and its data.
    fn split<'a>(&self, value: &'a [u8]) -> Option<(SchemaId, &'a [u8], &'a [u8])> {
        if !self.schemas.are_numbered() {
            return Some((OF_FILE, &[], value));
        }
        let (id, data) = SchemaId::split(value)?;
        let (path, data) = match self.schemas.format.language {
            SchemaLanguage::Protobuf => split_path(data)?,
            SchemaLanguage::Avro | SchemaLanguage::Json | SchemaLanguage::Other => (&data[..0], data),
        };
        Some((id, path, data))
    }
}

/// What a schema that cannot be read means: an error, or a fault of each of its records.
fn refused(source: &KafkaSource, schemas: &WrittenSchemas, mismatch: Mismatch) -> Result<RecordFault> {
    let Mismatch { schema, reason, column } = mismatch;
    match schemas.format.on_error {
        OnError::Quarantine => Ok(RecordFault { reason: RejectReason::SchemaMismatch, column }),
        OnError::Fail => Err(Error::SchemaMismatch { name: source.name().to_owned(), path: schema, reason }),
    }
}
