//! Which columns hold the values of a schema's fields.

use std::sync::Arc;

use arrow::array::{BooleanBufferBuilder, NullBufferBuilder};
use arrow_schema::extension::EXTENSION_TYPE_NAME_KEY;
use arrow_schema::{DataType, Field};

use super::super::fault::ColumnNumber;
use super::super::json::Names;
use super::super::options::{OnExtra, TimestampFormat};
use super::{BytesForm, Column, Values};
use crate::{Error, Result};

/// What columns need to know beside their fields, and the names that they are given.
#[derive(Debug)]
pub(in crate::formats) struct ColumnMaker {
    pub(in crate::formats) timestamp_format: TimestampFormat,
    pub(in crate::formats) on_extra: OnExtra,
    /// Whether the format has lists, structs and maps.
    pub(in crate::formats) is_nested: bool,
    /// Whether numbers may be dates and times beside texts, as Debezium writes them.
    pub(in crate::formats) is_change: bool,
    /// The format, for messages.
    pub(in crate::formats) format: &'static str,
    /// Full names by [`ColumnNumber`].
    pub(in crate::formats) paths: Vec<String>,
}

impl ColumnMaker {
    /// Makes the column of `field`; its full name begins with `parent`.
    pub(in crate::formats) fn make(&mut self, field: &Field, parent: &str, is_built: bool) -> Result<Column> {
        let path = if parent.is_empty() { field.name().clone() } else { format!("{parent}.{}", field.name()) };
        let number = ColumnNumber(u32::try_from(self.paths.len()).unwrap_or(u32::MAX));
        self.paths.push(path.clone());
        let values = self.values(field, &path, is_built)?;
        let (nulls, null_bytes) = (NullBufferBuilder::new(0), values.null_bytes());
        let (nullable, is_change) = (field.is_nullable(), self.is_change);
        Ok(Column { number, nullable, is_built, is_change, nulls, null_bytes, values, default: None })
    }

    fn values(&mut self, field: &Field, path: &str, is_built: bool) -> Result<Values> {
        let bytes = |form| Values::Bytes { bytes: Vec::new(), offsets: vec![0], form };
        let values = match field.data_type() {
            DataType::Boolean => Values::Bool(BooleanBufferBuilder::new(0)),
            DataType::Int8 => Values::Int8(Vec::new()),
            DataType::Int16 => Values::Int16(Vec::new()),
            DataType::Int32 => Values::Int32(Vec::new()),
            DataType::Int64 => Values::Int64(Vec::new()),
            DataType::UInt8 => Values::UInt8(Vec::new()),
            DataType::UInt16 => Values::UInt16(Vec::new()),
            DataType::UInt32 => Values::UInt32(Vec::new()),
            DataType::UInt64 => Values::UInt64(Vec::new()),
            DataType::Float32 => Values::Float32(Vec::new()),
            DataType::Float64 => Values::Float64(Vec::new()),
            DataType::Decimal128(precision, scale) => {
                Values::Decimal { values: Vec::new(), precision: *precision, scale: *scale }
            }
            DataType::Date32 => Values::Date(Vec::new()),
            DataType::Time64(unit) => Values::Time { values: Vec::new(), unit: *unit },
            DataType::Timestamp(unit, zone) => Values::Timestamp {
                values: Vec::new(),
                unit: *unit,
                zone: zone.clone(),
                text: self.timestamp_format.0.clone(),
            },
            DataType::Utf8 if is_json(field) && self.is_nested => bytes(BytesForm::Json),
            DataType::Utf8 => bytes(BytesForm::Utf8),
            DataType::LargeUtf8 => bytes(BytesForm::LargeUtf8),
            DataType::Utf8View => bytes(BytesForm::Utf8View),
            DataType::Binary => bytes(BytesForm::Binary),
            DataType::LargeBinary => bytes(BytesForm::LargeBinary),
            DataType::BinaryView => bytes(BytesForm::BinaryView),
            nested if self.is_nested => return self.nested(nested, path, is_built),
            other => return Err(self.unsupported(path, other)),
        };
        Ok(values)
    }

    fn nested(&mut self, data_type: &DataType, path: &str, is_built: bool) -> Result<Values> {
        match data_type {
            DataType::List(field) => {
                let child = Box::new(self.make(field, path, is_built)?);
                Ok(Values::List { offsets: vec![0], field: Arc::clone(field), child })
            }
            DataType::Struct(fields) => {
                let children = fields.iter().map(|field| self.make(field, path, is_built)).collect::<Result<_>>()?;
                let names = Names::new(fields, self.on_extra);
                Ok(Values::Struct { fields: fields.clone(), names, children, rows: 0 })
            }
            DataType::Map(entries, is_sorted) => {
                let DataType::Struct(fields) = entries.data_type() else {
                    return Err(self.unsupported(path, data_type));
                };
                let [key, value] = fields.as_ref() else { return Err(self.unsupported(path, data_type)) };
                if key.data_type() != &DataType::Utf8 {
                    return Err(self.unsupported(path, data_type));
                }
                let key = Box::new(self.make(key, path, is_built)?);
                let value = Box::new(self.make(value, path, is_built)?);
                let (entries, is_sorted) = (Arc::clone(entries), *is_sorted);
                Ok(Values::Map { offsets: vec![0], entries, is_sorted, key, value })
            }
            other => Err(self.unsupported(path, other)),
        }
    }

    fn unsupported(&self, path: &str, data_type: &DataType) -> Error {
        let format = self.format;
        Error::Invalid { message: format!("column `{path}` has type `{data_type}`, which {format} cannot be read as") }
    }
}

fn is_json(field: &Field) -> bool {
    field.metadata().get(EXTENSION_TYPE_NAME_KEY).is_some_and(|name| name == "arrow.json")
}
