//! Rows of values that were written with schemas.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::ArrayRef;
use bessemer_schemas::RejectReason;

use super::super::source::KafkaSource;
use super::internal;
use super::schemas::{NoReader, Reader, WrittenSchemas};
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
    /// Readers by schema and message in it, few of each.
    readers: HashMap<SchemaId, Vec<OfMessage>>,
}

/// How records of one message of a schema are read; where they cannot be, what is wrong with each.
#[derive(Debug)]
struct OfMessage {
    path: Box<[u8]>,
    reader: Result<Reader, RecordFault>,
}

/// Messages of one schema that records may be, at most: damaged ones can name any.
const MESSAGES_MAX: usize = 1_024;

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
        let Some((id, path, data)) = self.split(value) else {
            return Ok(Err(RecordFault { reason: RejectReason::InvalidFraming, column: None }));
        };
        let known = |readers: &Vec<OfMessage>| readers.iter().position(|of| *of.path == *path);
        let at = match self.readers.get(&id).and_then(known) {
            Some(at) => at,
            None => {
                if self.readers.get(&id).is_some_and(|readers| readers.len() >= MESSAGES_MAX) {
                    return Ok(Err(RecordFault { reason: RejectReason::InvalidFraming, column: None }));
                }
                let reader = self.reader(id, path)?;
                let readers = self.readers.entry(id).or_default();
                readers.push(OfMessage { path: path.into(), reader });
                readers.len() - 1
            }
        };
        let reader = self.readers.get_mut(&id).and_then(|readers| readers.get_mut(at)).map(|of| &mut of.reader);
        match reader {
            Some(Ok(Reader::Avro(reader))) => reader.read(number, data, &mut self.rows).map_err(internal),
            Some(Ok(Reader::Protobuf(reader))) => reader.read(number, data, &mut self.rows).map_err(internal),
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

    /// The number of a record's schema, which message it is in it, and its data.
    fn split<'a>(&self, value: &'a [u8]) -> Option<(SchemaId, &'a [u8], &'a [u8])> {
        if !self.schemas.are_numbered() {
            return Some((OF_FILE, &[], value));
        }
        let (id, data) = SchemaId::split(value)?;
        let (path, data) = match self.schemas.format.language {
            SchemaLanguage::Protobuf => split_path(data)?,
            SchemaLanguage::Avro | SchemaLanguage::Json => (&data[..0], data),
        };
        Some((id, path, data))
    }

    fn reader(&self, id: SchemaId, path: &[u8]) -> Result<Result<Reader, RecordFault>> {
        let fault = |reason| Ok(Err(RecordFault { reason, column: None }));
        match self.schemas.reader(id, path, self.source.declared(), self.source.defaults())? {
            Ok(reader) => Ok(Ok(reader)),
            Err(NoReader::UnknownSchema) => fault(RejectReason::UnknownSchemaId),
            Err(NoReader::UnknownMessage) => fault(RejectReason::InvalidFraming),
            Err(NoReader::Mismatch { column, .. }) if self.schemas.format.on_error == OnError::Quarantine => {
                Ok(Err(RecordFault { reason: RejectReason::SchemaMismatch, column }))
            }
            Err(NoReader::Mismatch { schema, reason, .. }) => {
                Err(Error::SchemaMismatch { name: self.source.name().to_owned(), path: schema, reason })
            }
        }
    }
}
