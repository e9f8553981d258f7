//! Why a record could not become a row.

use serde::{Deserialize, Serialize};

/// The reason codes of undecodable records. Codes are ours and stable: the text of a parser, which quotes values,
/// reaches no sink, log or screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RejectReason {
    /// Not JSON, or not one JSON object on its line.
    InvalidJson,
    /// Not a value of the Avro schema that it was written with.
    InvalidAvro,
    /// Not a Protocol Buffers message.
    InvalidProtobuf,
    /// Not in the wire format of schema registries: a zero byte, then the number of a schema.
    InvalidFraming,
    /// Written with a schema that the registry does not have; `schema_id` in quarantine says which.
    UnknownSchemaId,
    /// Written with a schema that contradicts the declared columns, where `on_error = 'quarantine'`.
    SchemaMismatch,
    /// Not the envelope of a change (`format = 'debezium_json'`).
    InvalidEnvelope,
    /// A change without the row that it is about: a truncation, or a delete that does not say what was there.
    NoRowImage,
    /// One key twice in one object.
    DuplicateKey,
    /// More or fewer fields than the header or the definition has.
    WrongFieldCount,
    /// A quote that is never closed, or text after a closing quote.
    InvalidQuoting,
    /// Bytes that are not UTF-8.
    InvalidUtf8,
    /// A value of another type than the column's.
    WrongType,
    /// A number, date or time beyond what the column's type holds.
    OutOfRange,
    /// A fraction for a whole number.
    NotWhole,
    /// Null or missing in a `NOT NULL` column.
    NullInNotNull,
    /// A record longer than `max_record_bytes`.
    RecordTooLong,
    /// A record of few bytes that stand for more values than one record may become in memory.
    DecodedTooLarge,
    /// A field that the definition does not have, where `on_extra = 'reject'`.
    UnknownField,
    /// A null event time (`WATERMARK FOR` names the column).
    NullEventTime,
    /// An event time further beyond its file's modification time than `max_ahead` allows.
    EventTimeAhead,
    /// An event time that the watermark had passed when the row came (`ON LATE QUARANTINE`).
    Late,
    /// The whole file is not what it claims to be (`on_error = 'quarantine'`).
    UnreadableFile,
}

impl RejectReason {
    /// The code as it stands in quarantine, `snake_case`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidJson => "invalid_json",
            Self::InvalidAvro => "invalid_avro",
            Self::InvalidProtobuf => "invalid_protobuf",
            Self::InvalidFraming => "invalid_framing",
            Self::UnknownSchemaId => "unknown_schema_id",
            Self::SchemaMismatch => "schema_mismatch",
            Self::InvalidEnvelope => "invalid_envelope",
            Self::NoRowImage => "no_row_image",
            Self::DuplicateKey => "duplicate_key",
            Self::WrongFieldCount => "wrong_field_count",
            Self::InvalidQuoting => "invalid_quoting",
            Self::InvalidUtf8 => "invalid_utf8",
            Self::WrongType => "wrong_type",
            Self::OutOfRange => "out_of_range",
            Self::NotWhole => "not_whole",
            Self::NullInNotNull => "null_in_not_null",
            Self::RecordTooLong => "record_too_long",
            Self::DecodedTooLarge => "decoded_too_large",
            Self::UnknownField => "unknown_field",
            Self::NullEventTime => "null_event_time",
            Self::EventTimeAhead => "event_time_ahead",
            Self::Late => "late",
            Self::UnreadableFile => "unreadable_file",
        }
    }
}
