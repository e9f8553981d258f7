//! Types as a person writes them in SQL.

use arrow::datatypes::{DataType, TimeUnit};

/// The SQL name of a type, for messages: `BIGINT`, not `Int64`.
pub fn sql_type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Null => "NULL".to_owned(),
        DataType::Boolean => "BOOLEAN".to_owned(),
        DataType::Int8 => "TINYINT".to_owned(),
        DataType::Int16 => "SMALLINT".to_owned(),
        DataType::Int32 => "INTEGER".to_owned(),
        DataType::Int64 => "BIGINT".to_owned(),
        DataType::UInt8 => "TINYINT UNSIGNED".to_owned(),
        DataType::UInt16 => "SMALLINT UNSIGNED".to_owned(),
        DataType::UInt32 => "INTEGER UNSIGNED".to_owned(),
        DataType::UInt64 => "BIGINT UNSIGNED".to_owned(),
        DataType::Float16 | DataType::Float32 => "REAL".to_owned(),
        DataType::Float64 => "DOUBLE".to_owned(),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "VARCHAR".to_owned(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            "BYTEA".to_owned()
        }
        DataType::Date32 | DataType::Date64 => "DATE".to_owned(),
        DataType::Time32(_) | DataType::Time64(_) => "TIME".to_owned(),
        DataType::Timestamp(unit, zone) => {
            let name = if zone.is_some() { "TIMESTAMPTZ" } else { "TIMESTAMP" };
            match unit {
                TimeUnit::Microsecond => name.to_owned(),
                TimeUnit::Second => format!("{name}(0)"),
                TimeUnit::Millisecond => format!("{name}(3)"),
                TimeUnit::Nanosecond => format!("{name}(9)"),
            }
        }
        DataType::Interval(_) | DataType::Duration(_) => "INTERVAL".to_owned(),
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => format!("DECIMAL({precision}, {scale})"),
        DataType::List(field) | DataType::LargeList(field) | DataType::ListView(field) => {
            format!("{}[]", sql_type_name(field.data_type()))
        }
        DataType::FixedSizeList(field, length) => format!("{}[{length}]", sql_type_name(field.data_type())),
        DataType::Struct(fields) => {
            let fields: Vec<_> =
                fields.iter().map(|field| format!("{} {}", field.name(), sql_type_name(field.data_type()))).collect();
            format!("STRUCT({})", fields.join(", "))
        }
        DataType::Dictionary(_, value) => sql_type_name(value),
        other => other.to_string().to_uppercase(),
    }
}

/// Whether a type is a point in time.
pub(crate) fn is_time(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Timestamp(..) | DataType::Date32 | DataType::Date64)
}

/// Whether a type is text.
pub(crate) fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

/// Whether rows can be ordered by a column of this type by every engine that reads them.
pub(crate) fn is_sortable(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, value) => is_sortable(value),
        DataType::Null | DataType::Interval(_) => false,
        other => !other.is_nested(),
    }
}
