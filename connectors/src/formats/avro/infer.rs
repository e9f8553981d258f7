//! The columns of a schema, where a source declares none.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Float32Array, Float64Array, Int32Array, Int64Array, StringArray, new_null_array,
};
use arrow_schema::{DataType, Field, Fields};

use super::resolve::arrow_type;
use super::schema::{AvroField, AvroSchema, AvroType, TypeId};
use crate::formats::rows::{INFERRED_FIELDS_MAX, InferredColumns, too_many_fields};

/// The columns of a record's fields, all nullable: one version's guarantee is none for the next.
///
/// # Errors
/// Says which field no column holds, and what to do.
pub fn infer(schema: &AvroSchema) -> Result<InferredColumns, String> {
    let AvroType::Record { fields, .. } = schema.get(schema.root) else {
        return Err(format!("it is the schema of {}, not of a record", schema.describe(schema.root)));
    };
    let mut inference = Inference { schema, above: vec![schema.root], fields: 0 };
    let columns = inference.fields_of(fields)?;
    let defaults = fields.iter().zip(&columns).map(|(field, column)| default(field, column.data_type())).collect();
    Ok(InferredColumns { fields: columns, defaults })
}

const DECLARE: &str = "declare the columns of the source, without it or with a type that you choose";

struct Inference<'a> {
    schema: &'a AvroSchema,
    /// The records that the one at hand is in, and itself.
    above: Vec<TypeId>,
    /// Fields so far, those of a record as often as it is used.
    fields: usize,
}

impl Inference<'_> {
    fn fields_of(&mut self, fields: &[AvroField]) -> Result<Fields, String> {
        let columns = fields.iter().map(|field| {
            self.fields += 1;
            if self.fields > INFERRED_FIELDS_MAX {
                return Err(too_many_fields());
            }
            let data_type = self.data_type(field.type_id, &field.name)?;
            Ok(Field::new(&field.name, data_type, true))
        });
        columns.collect::<Result<Vec<_>, String>>().map(Fields::from)
    }

    fn data_type(&mut self, id: TypeId, name: &str) -> Result<DataType, String> {
        let schema = self.schema;
        match schema.get(id) {
            AvroType::Null => Err(format!("field `{name}` is always null: {DECLARE}")),
            AvroType::Union { branches } => {
                let mut others = branches.iter().filter(|branch| *schema.get(**branch) != AvroType::Null);
                match (others.next(), others.next()) {
                    (Some(only), None) => self.data_type(*only, name),
                    _ => Err(format!("field `{name}` is a {}, which no column holds: {DECLARE}", schema.describe(id))),
                }
            }
            AvroType::Array { items } => {
                let item = self.data_type(*items, name)?;
                Ok(DataType::List(Arc::new(Field::new_list_field(item, true))))
            }
            AvroType::Map { values } => {
                let value = Field::new("value", self.data_type(*values, name)?, true);
                let entries = vec![Field::new("key", DataType::Utf8, false), value];
                Ok(DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries.into()), false)), false))
            }
            AvroType::Record { name: record, fields } => {
                if self.above.contains(&id) {
                    return Err(format!("field `{name}` is within itself (record `{record}`): {DECLARE}"));
                }
                self.above.push(id);
                let columns = self.fields_of(fields);
                self.above.pop();
                Ok(DataType::Struct(columns?))
            }
            plain => arrow_type(plain).ok_or_else(|| format!("field `{name}` is no column: {DECLARE}")),
        }
    }
}

/// The reader's default of a field, where it is a plain value.
fn default(field: &AvroField, data_type: &DataType) -> Option<ArrayRef> {
    let value = field.default.as_ref()?;
    Some(match data_type {
        _ if value.is_null() => new_null_array(data_type, 1),
        DataType::Boolean => Arc::new(BooleanArray::from(vec![value.as_bool()?])),
        DataType::Int32 => Arc::new(Int32Array::from(vec![i32::try_from(value.as_i64()?).ok()?])),
        DataType::Int64 => Arc::new(Int64Array::from(vec![value.as_i64()?])),
        #[expect(clippy::cast_possible_truncation, reason = "the nearest value of a 32-bit float is meant")]
        DataType::Float32 => Arc::new(Float32Array::from(vec![value.as_f64()? as f32])),
        DataType::Float64 => Arc::new(Float64Array::from(vec![value.as_f64()?])),
        DataType::Utf8 => Arc::new(StringArray::from(vec![value.as_str()?])),
        _ => return None,
    })
}
