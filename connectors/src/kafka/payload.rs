//! From the value of a record to a row: which format, and its decoder.

mod records;
mod schemas;
mod written;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, BinaryBuilder, StringBuilder};
use arrow_schema::DataType;
use bessemer_schemas::{Diagnostic, IncludeKind, OptionMap, RejectReason, SourceDefinition};
use tokio_util::sync::CancellationToken;

use self::records::WrittenRecords;
pub(super) use self::schemas::WrittenSchemas;
use self::written::WrittenFormat;
use super::options::Topics;
use super::source::KafkaSource;
use crate::formats::text::{
    CHANGE_COLUMNS, CsvOptions, DecodeLimits, FileFault, JsonOptions, RecordFault, TextDecoder, TextDecoderOptions,
    TextFormat,
};
use crate::schema_registry::{SchemaId, SchemaLanguage};
use crate::{Error, Result};

/// Bytes of a batch of raw values: keeps their offsets within 31 bits, and batches within memory.
const RAW_BATCH_BYTES: usize = 16 << 20;

/// How the value of a record is a row.
#[derive(Debug, Clone)]
pub(super) enum PayloadFormat {
    /// One JSON object, or one record of CSV.
    Text(TextFormat),
    /// Data that was written with a schema, which says what it is.
    Written(Box<WrittenFormat>),
    /// The bytes as they are, in the one column there is.
    Raw,
}

impl PayloadFormat {
    /// Takes `format` and its options. A schema file is relative to `base`; a registry answers within `timeout`.
    pub(super) fn take(
        options: &mut OptionMap,
        source: &SourceDefinition,
        topics: Option<&Topics>,
        base: &Path,
        timeout: Duration,
    ) -> Option<Self> {
        #[derive(Clone, Copy)]
        enum FormatName {
            Json,
            Debezium,
            Csv,
            Avro,
            Protobuf,
            Raw,
        }
        const FORMATS: &[(&str, FormatName)] = &[
            ("json", FormatName::Json),
            ("debezium_json", FormatName::Debezium),
            ("csv", FormatName::Csv),
            ("avro", FormatName::Avro),
            ("protobuf", FormatName::Protobuf),
            ("raw", FormatName::Raw),
        ];
        let is_written = options.entries().iter().any(|entry| entry.key == "format");
        let Some(name) = options.take_choice("format", FORMATS) else {
            if !is_written {
                let message = format!("{} does not say its format", options.owner());
                let help = "add `format = 'json'` (or `'debezium_json'`, `'csv'`, `'avro'`, `'protobuf'`, `'raw'`) to its `WITH (…)`";
                options.report(Diagnostic::error(message, options.owner_span()).with_help(help));
            }
            return None;
        };
        let language = match name {
            FormatName::Avro => Some(SchemaLanguage::Avro),
            FormatName::Protobuf => Some(SchemaLanguage::Protobuf),
            FormatName::Json | FormatName::Debezium | FormatName::Csv | FormatName::Raw => None,
        };
        if let Some(language) = language {
            let format = WrittenFormat::take(options, source, language, topics, base, timeout)?;
            return Some(Self::Written(Box::new(format)));
        }
        if source.columns.is_none() {
            let message = format!("`{}` declares no columns", source.name.value);
            let help = "a topic carries no schema: write `CREATE SOURCE name (column TYPE, …) WITH (…)`";
            options.report(Diagnostic::error(message, source.name.span).with_help(help));
        }
        Some(match name {
            // A record of a topic has no header before it.
            FormatName::Csv => Self::Text(TextFormat::Csv(CsvOptions { header: false, ..CsvOptions::take(options) })),
            FormatName::Debezium => Self::Text(TextFormat::Debezium(JsonOptions::take(options))),
            FormatName::Raw => {
                check_raw(options, source);
                Self::Raw
            }
            _ => Self::Text(TextFormat::Json(JsonOptions::take(options))),
        })
    }

    /// What the bytes of a record mean, as text: what a later run compares.
    pub(super) fn decoding_text(&self) -> String {
        match self {
            Self::Written(format) => format.decoding_text(),
            Self::Text(_) | Self::Raw => format!("{self:?}"),
        }
    }

    /// The number of the schema that a record was written with, where its format has one.
    pub(super) fn schema_id(&self, value: &[u8]) -> Option<u32> {
        match self {
            Self::Written(format) if format.has_registry() => SchemaId::split(value).map(|(id, _)| id.0),
            _ => None,
        }
    }

    /// What is decoded beside the declared columns.
    pub(super) fn change_columns(&self) -> &'static [IncludeKind] {
        match self {
            Self::Text(TextFormat::Debezium(_)) => &CHANGE_COLUMNS,
            _ => &[],
        }
    }

    /// The columns that are decoded for a query that reads `wanted`.
    pub(super) fn columns(&self, wanted: Vec<usize>) -> Vec<usize> {
        match self {
            Self::Text(_) | Self::Written(_) => wanted,
            // The one there is: its decoder leaves nothing out.
            Self::Raw => vec![0],
        }
    }
}

fn check_raw(options: &mut OptionMap, source: &SourceDefinition) {
    let read = source.columns.iter().flatten().filter(|column| column.generated.is_none());
    let types: Vec<_> = read.map(|column| &column.data_type).collect();
    if !types.is_empty() && !matches!(types.as_slice(), [DataType::Binary | DataType::Utf8]) {
        let message = format!("`{}` is raw, and its columns are not one BINARY or VARCHAR", source.name.value);
        let help = "write `CREATE SOURCE name (payload BINARY) …`; `INCLUDE KEY`, `OFFSET` and others add columns";
        options.report(Diagnostic::error(message, source.name.span).with_help(help));
    }
}

/// Decodes values into columns.
#[derive(Debug)]
pub(super) enum PayloadDecoder {
    Text { decoder: Box<TextDecoder>, length_max: usize },
    Written { records: Box<WrittenRecords>, length_max: usize },
    Raw { values: RawValues, bytes: usize, rows: usize, rows_max: usize, length_max: usize },
}

#[derive(Debug)]
pub(super) enum RawValues {
    Bytes(BinaryBuilder),
    Text(StringBuilder),
}

impl PayloadDecoder {
    /// A decoder for `columns` of the source's; it waits for no schema when whoever took its rows is `gone`.
    pub(super) fn new(
        source: &Arc<KafkaSource>,
        columns: &[usize],
        limits: DecodeLimits,
        gone: &CancellationToken,
    ) -> Result<Self> {
        let (declared, defaults) = (source.decoded(), source.defaults());
        let length_max = limits.max_record_bytes;
        Ok(match &source.options().format {
            PayloadFormat::Text(format) => Self::Text {
                decoder: Box::new(TextDecoder::new(TextDecoderOptions {
                    schema: Arc::clone(declared),
                    projection: Some(columns.to_vec()),
                    format: format.clone(),
                    defaults: defaults.to_vec(),
                    limits,
                })?),
                length_max,
            },
            PayloadFormat::Written(_) => {
                let records = Box::new(WrittenRecords::new(source, columns, limits, gone.clone())?);
                Self::Written { records, length_max }
            }
            PayloadFormat::Raw => {
                let values = match declared.fields().first().map(|field| field.data_type()) {
                    Some(DataType::Utf8) => RawValues::Text(StringBuilder::new()),
                    _ => RawValues::Bytes(BinaryBuilder::new()),
                };
                Self::Raw { values, bytes: 0, rows: 0, rows_max: limits.batch_rows, length_max }
            }
        })
    }

    /// Takes one value: a row more, or the reason why not.
    pub(super) fn push(&mut self, number: u64, value: &[u8]) -> Result<Result<(), RecordFault>> {
        let fault = |reason| Ok(Err(RecordFault { reason, column: None }));
        match self {
            Self::Text { length_max, .. } | Self::Written { length_max, .. } | Self::Raw { length_max, .. }
                if value.len() > *length_max =>
            {
                fault(RejectReason::RecordTooLong)
            }
            Self::Text { decoder, .. } => decoder.decode_record(number, value).map_err(internal),
            Self::Written { records, .. } => records.push(number, value),
            Self::Raw { values, rows, bytes, .. } => {
                match values {
                    RawValues::Bytes(builder) => builder.append_value(value),
                    RawValues::Text(builder) => match simdutf8::basic::from_utf8(value) {
                        Ok(text) => builder.append_value(text),
                        Err(_) => return fault(RejectReason::InvalidUtf8),
                    },
                }
                *rows += 1;
                *bytes += value.len();
                Ok(Ok(()))
            }
        }
    }

    /// The columns of the rows so far, if there are enough of them for a batch or if they are the last.
    pub(super) fn take(&mut self, is_last: bool) -> Result<Option<Vec<ArrayRef>>> {
        match self {
            Self::Text { decoder, .. } => {
                if is_last {
                    decoder.flush().map_err(internal)?;
                }
                Ok(decoder.next_batch().map(|decoded| decoded.batch.columns().to_vec()))
            }
            Self::Written { records, .. } => records.take(is_last),
            Self::Raw { values, rows, bytes, rows_max, .. } => {
                if *rows == 0 || !(is_last || *rows >= *rows_max || *bytes >= RAW_BATCH_BYTES) {
                    return Ok(None);
                }
                (*rows, *bytes) = (0, 0);
                Ok(Some(vec![match values {
                    RawValues::Bytes(builder) => Arc::new(builder.finish()),
                    RawValues::Text(builder) => Arc::new(builder.finish()),
                }]))
            }
        }
    }
}

/// A record has no file around it that could be at fault.
#[expect(clippy::needless_pass_by_value, reason = "`map_err` gives it away")]
fn internal(fault: FileFault) -> Error {
    Error::Internal { message: fault.to_string() }
}
