//! How the fields of a message become declared columns.

use arrow::array::ArrayRef;
use arrow_schema::{DataType, Field, Fields, TimeUnit};
use prost_reflect::{Cardinality, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};

use super::wire::WireType;
use crate::formats::rows::{Contradiction, contradiction, missing_field};
use crate::formats::widening::is_widening;

/// How messages become columns.
#[derive(Debug)]
pub(super) struct Message {
    /// The fields that are noted, by number.
    pub(super) fields: Vec<Noted>,
    /// What each column is made from.
    pub(super) columns: Vec<ColumnRead>,
    /// Whether some of the fields are members of a `oneof`.
    pub(super) has_oneof: bool,
}

/// A field that is noted where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Noted {
    pub(super) number: u32,
    pub(super) wire_type: WireType,
    /// Whether several of its values may be packed into one.
    pub(super) is_packable: bool,
    /// The `oneof` that it is a member of: of several members, the last one counts.
    pub(super) oneof: Option<usize>,
    /// The column; a member of a `oneof` is noted also without one.
    pub(super) column: Option<usize>,
}

/// What a column is made from.
#[derive(Debug)]
pub(super) enum ColumnRead {
    /// The message has no such field.
    Missing,
    /// A field, by its place among those that are noted.
    Field { noted: usize, read: Read, absent: Absent },
}

/// What it means that a field is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Absent {
    /// The column's default, or null.
    Missing,
    /// The zero of its type.
    Zero,
}

/// How a field becomes a value of a column.
#[derive(Debug)]
pub(super) enum Read {
    Value(Value),
    /// `google.protobuf.Timestamp`.
    Timestamp,
    /// A message around one value, such as `google.protobuf.StringValue`.
    Wrapper(Box<Message>),
    Message(Box<Message>),
    List(Box<Read>),
    /// Entries are messages of a key and a value.
    Map {
        key: Value,
        entry: Box<Message>,
    },
}

/// A value that is not nested.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Int32,
    Int64,
    Uint32,
    Uint64,
    Sint32,
    Sint64,
    Fixed32,
    Fixed64,
    Sfixed32,
    Sfixed64,
    Bool,
    Float,
    Double,
    /// Text into text, or into bytes.
    Text,
    /// Text into what it stands for.
    Parsed,
    Bytes,
    /// By its name; one that the schema does not know, by its number.
    Enum(EnumDescriptor),
}

type Result<T> = std::result::Result<T, Contradiction>;

/// Resolves messages against declared columns; `is_epoch` says whether plain numbers may be timestamps.
pub(super) fn message(
    message: &MessageDescriptor,
    columns: &Fields,
    defaults: &[Option<ArrayRef>],
    parent: &str,
    is_epoch: bool,
) -> Result<Message> {
    let mut fields: Vec<FieldDescriptor> = message.fields().collect();
    fields.sort_by_key(FieldDescriptor::number);
    let oneof_of = |field: &FieldDescriptor| {
        let of = field.containing_oneof().filter(|oneof| !oneof.is_synthetic())?;
        message.oneofs().position(|other| other.full_name() == of.full_name())
    };
    let column_of = |field: &FieldDescriptor| columns.iter().position(|column| column.name() == field.name());
    let read_oneofs: Vec<usize> =
        fields.iter().filter(|field| column_of(field).is_some()).filter_map(oneof_of).collect();
    let mut noted = Vec::new();
    for field in &fields {
        let (column, oneof) = (column_of(field), oneof_of(field));
        if column.is_some() || oneof.is_some_and(|oneof| read_oneofs.contains(&oneof)) {
            let wire_type = wire_type(&field.kind());
            let is_packable = field.is_list() && wire_type != WireType::Bytes;
            noted.push(Noted { number: field.number(), wire_type, is_packable, oneof, column });
        }
    }
    let mut reads = Vec::with_capacity(columns.len());
    for (at, column) in columns.iter().enumerate() {
        let path = if parent.is_empty() { column.name().clone() } else { format!("{parent}.{}", column.name()) };
        let Some(field) = fields.iter().find(|field| field.name() == column.name()) else {
            let has_default = defaults.get(at).is_some_and(Option::is_some);
            missing_field(column, &path, has_default, fields.iter().map(FieldDescriptor::name))?;
            reads.push(ColumnRead::Missing);
            continue;
        };
        let read = read(field, column.data_type(), &path, is_epoch)?;
        let absent = if field.supports_presence() { Absent::Missing } else { Absent::Zero };
        let place = noted.iter().position(|noted| noted.number == field.number()).unwrap_or_default();
        reads.push(ColumnRead::Field { noted: place, read, absent });
    }
    Ok(Message { fields: noted, columns: reads, has_oneof: !read_oneofs.is_empty() })
}

fn read(field: &FieldDescriptor, to: &DataType, path: &str, is_epoch: bool) -> Result<Read> {
    let refused = || contradiction(path, to, &describe(field));
    if field.is_map() {
        let (Kind::Message(entry), DataType::Map(entries, _)) = (field.kind(), to) else { return Err(refused()) };
        let DataType::Struct(columns) = entries.data_type() else { return Err(refused()) };
        let key = plain(&entry.map_entry_key_field().kind(), &DataType::Utf8, is_epoch);
        let key = key.or_else(|| as_written(&entry.map_entry_key_field().kind())).ok_or_else(refused)?;
        let [_, value] = columns.as_ref() else { return Err(refused()) };
        let value_field = entry.map_entry_value_field();
        let read = one(&value_field, value.data_type(), &format!("{path}.{}", value.name()), is_epoch)?;
        let noted = |field: &FieldDescriptor, column| Noted {
            number: field.number(),
            wire_type: wire_type(&field.kind()),
            is_packable: false,
            oneof: None,
            column: Some(column),
        };
        // A value that is not there is the zero of its type, a message without fields too.
        let value = ColumnRead::Field { noted: 1, read, absent: Absent::Zero };
        let fields = vec![noted(&entry.map_entry_key_field(), 0), noted(&value_field, 1)];
        let entry = Box::new(Message { fields, columns: vec![value], has_oneof: false });
        return Ok(Read::Map { key, entry });
    }
    if field.cardinality() == Cardinality::Repeated {
        let DataType::List(item) = to else { return Err(refused()) };
        let path = format!("{path}.{}", item.name());
        return Ok(Read::List(Box::new(one(field, item.data_type(), &path, is_epoch)?)));
    }
    one(field, to, path, is_epoch)
}

/// One value of a field, repeated or not.
fn one(field: &FieldDescriptor, to: &DataType, path: &str, is_epoch: bool) -> Result<Read> {
    let refused = || contradiction(path, to, &describe(field));
    let Kind::Message(inner) = field.kind() else {
        return plain(&field.kind(), to, is_epoch).map(Read::Value).ok_or_else(refused);
    };
    if field.is_group() {
        return Err(refused());
    }
    match (inner.full_name(), to) {
        ("google.protobuf.Timestamp", DataType::Timestamp(TimeUnit::Microsecond | TimeUnit::Nanosecond, _)) => {
            Ok(Read::Timestamp)
        }
        (_, DataType::Struct(columns)) => Ok(Read::Message(Box::new(message(&inner, columns, &[], path, is_epoch)?))),
        (name, _) if is_wrapper(name) => {
            let value = inner.get_field(1).ok_or_else(refused)?;
            let column = Fields::from(vec![Field::new(value.name(), to.clone(), true)]);
            let inner = message(&inner, &column, &[], "", is_epoch).map_err(|_| refused())?;
            Ok(Read::Wrapper(Box::new(inner)))
        }
        _ => Err(refused()),
    }
}

/// Messages around one value, which is null where they are not there (`google/protobuf/wrappers.proto`).
pub(super) fn is_wrapper(name: &str) -> bool {
    let kind = name.strip_prefix("google.protobuf.").and_then(|name| name.strip_suffix("Value"));
    kind.is_some_and(|kind| {
        ["Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes"].contains(&kind)
    })
}

fn plain(kind: &Kind, to: &DataType, is_epoch: bool) -> Option<Value> {
    let is_text = matches!(to, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    let is_whole =
        !matches!(kind, Kind::Bool | Kind::String | Kind::Bytes | Kind::Float | Kind::Double | Kind::Enum(_));
    match (kind, to) {
        (Kind::String, DataType::Timestamp(..) | DataType::Date32 | DataType::Time64(_) | DataType::Decimal128(..)) => {
            return Some(Value::Parsed);
        }
        (Kind::String, DataType::Binary | DataType::LargeBinary | DataType::BinaryView) => return Some(Value::Text),
        (Kind::Enum(_), to) if is_widening(&DataType::Int32, to) => return Some(Value::Int32),
        (Kind::Enum(names), _) if is_text => return Some(Value::Enum(names.clone())),
        (kind, DataType::Float32 | DataType::Float64) if is_whole => return as_written(kind),
        (kind, DataType::Timestamp(..)) if is_whole && is_epoch => return as_written(kind),
        _ => {}
    }
    arrow_type(kind).filter(|written| is_widening(written, to)).and_then(|_| as_written(kind))
}

fn as_written(kind: &Kind) -> Option<Value> {
    Some(match kind {
        Kind::Double => Value::Double,
        Kind::Float => Value::Float,
        Kind::Int32 => Value::Int32,
        Kind::Int64 => Value::Int64,
        Kind::Uint32 => Value::Uint32,
        Kind::Uint64 => Value::Uint64,
        Kind::Fixed32 => Value::Fixed32,
        Kind::Fixed64 => Value::Fixed64,
        Kind::Sint32 => Value::Sint32,
        Kind::Sint64 => Value::Sint64,
        Kind::Sfixed32 => Value::Sfixed32,
        Kind::Sfixed64 => Value::Sfixed64,
        Kind::Bool => Value::Bool,
        Kind::String => Value::Text,
        Kind::Bytes => Value::Bytes,
        Kind::Enum(names) => Value::Enum(names.clone()),
        Kind::Message(_) => return None,
    })
}

/// The Arrow type of values that are no messages.
pub(super) fn arrow_type(kind: &Kind) -> Option<DataType> {
    Some(match kind {
        Kind::Double => DataType::Float64,
        Kind::Float => DataType::Float32,
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => DataType::Int32,
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => DataType::Int64,
        Kind::Uint32 | Kind::Fixed32 => DataType::UInt32,
        Kind::Uint64 | Kind::Fixed64 => DataType::UInt64,
        Kind::Bool => DataType::Boolean,
        Kind::String | Kind::Enum(_) => DataType::Utf8,
        Kind::Bytes => DataType::Binary,
        Kind::Message(_) => return None,
    })
}

fn wire_type(kind: &Kind) -> WireType {
    match kind {
        Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => WireType::Fixed64,
        Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => WireType::Fixed32,
        Kind::String | Kind::Bytes | Kind::Message(_) => WireType::Bytes,
        Kind::Int32
        | Kind::Int64
        | Kind::Uint32
        | Kind::Uint64
        | Kind::Sint32
        | Kind::Sint64
        | Kind::Bool
        | Kind::Enum(_) => WireType::Varint,
    }
}

/// The type of a field for messages, as a schema writes it.
pub(super) fn describe(field: &FieldDescriptor) -> String {
    let kind = |kind: &Kind| match kind {
        Kind::Message(message) => format!("message `{}`", message.full_name()),
        Kind::Enum(names) => format!("enum `{}`", names.full_name()),
        other => format!("{other:?}").to_lowercase(),
    };
    match field.kind() {
        Kind::Message(entry) if field.is_map() => {
            let (key, value) = (entry.map_entry_key_field().kind(), entry.map_entry_value_field().kind());
            format!("map of {} to {}", kind(&key), kind(&value))
        }
        found if field.is_list() => format!("repeated {}", kind(&found)),
        found if field.is_group() => format!("group {}", kind(&found)),
        found => kind(&found),
    }
}
