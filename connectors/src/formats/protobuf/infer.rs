//! The columns of a message, where a source declares none.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Fields, TimeUnit};
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};

use super::resolve::{arrow_type, describe, is_wrapper};
use crate::formats::rows::{INFERRED_FIELDS_MAX, InferredColumns, too_many_fields};

/// The columns of a message's fields, all nullable: one version's guarantee is none for the next.
///
/// # Errors
/// Says which field no column holds, and what to do.
pub fn infer(message: &MessageDescriptor) -> Result<InferredColumns, String> {
    let mut above = Above { names: vec![message.full_name().to_owned()], fields: 0 };
    let fields = fields_of(message, &mut above)?;
    Ok(InferredColumns { fields, defaults: Vec::new() })
}

/// How far inference is.
struct Above {
    /// The messages that the one at hand is in, and itself.
    names: Vec<String>,
    /// Fields so far, those of a message as often as it is used.
    fields: usize,
}

fn fields_of(message: &MessageDescriptor, above: &mut Above) -> Result<Fields, String> {
    let columns = message.fields().map(|field| {
        above.fields += 1;
        if above.fields > INFERRED_FIELDS_MAX {
            return Err(too_many_fields());
        }
        let data_type = data_type(&field, above)?;
        Ok(Field::new(field.name(), data_type, true))
    });
    columns.collect::<Result<Vec<_>, String>>().map(Fields::from)
}

fn data_type(field: &FieldDescriptor, above: &mut Above) -> Result<DataType, String> {
    if let Kind::Message(entry) = field.kind()
        && field.is_map()
    {
        let value = one(&entry.map_entry_value_field(), above)?;
        let entries = vec![Field::new("key", DataType::Utf8, false), Field::new("value", value, true)];
        let entries = Field::new("entries", DataType::Struct(entries.into()), false);
        return Ok(DataType::Map(Arc::new(entries), false));
    }
    let plain = one(field, above)?;
    Ok(if field.is_list() { DataType::List(Arc::new(Field::new_list_field(plain, true))) } else { plain })
}

fn one(field: &FieldDescriptor, above: &mut Above) -> Result<DataType, String> {
    let refused = |why: &str| {
        let (name, kind) = (field.name(), describe(field));
        Err(format!("field `{name}` is {kind}, {why}: declare the columns of the source, without it"))
    };
    let Kind::Message(inner) = field.kind() else {
        return arrow_type(&field.kind()).map_or_else(|| refused("which is no column"), Ok);
    };
    let name = inner.full_name().to_owned();
    if name == "google.protobuf.Timestamp" {
        return Ok(DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())));
    }
    if is_wrapper(&name) {
        let value = inner.get_field(1).and_then(|value| arrow_type(&value.kind()));
        return value.map_or_else(|| refused("which is no column"), Ok);
    }
    if field.is_group() {
        return refused("which is no column");
    }
    if above.names.contains(&name) {
        return refused("which is within itself");
    }
    if inner.fields().len() == 0 {
        return refused("which has no fields");
    }
    above.names.push(name);
    let columns = fields_of(&inner, above);
    above.names.pop();
    Ok(DataType::Struct(columns?))
}
