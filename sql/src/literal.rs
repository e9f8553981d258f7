//! `DEFAULT` values: literals, so that a row's value never depends on when or where it is read.

use arrow_schema::DataType;
use bessemer_schemas::{ColumnDefinition, Diagnostic};
use sqlparser::ast::{DataType as SqlType, Expr, TimezoneInfo, UnaryOperator, Value};
use sqlparser::tokenizer::Token;

use crate::cursor::Cursor;
use crate::query;

/// Reads the value after `DEFAULT` and checks that it suits the column.
pub(crate) fn default_value(value: &mut Cursor<'_>, column: &ColumnDefinition) -> Result<Expr, Diagnostic> {
    let example = example(&column.data_type);
    if value.is_at_end() {
        return Err(value.expected("a value after `DEFAULT`", format!("write a literal such as `{example}`")));
    }
    let span = value.rest_span();
    let is_name = matches!(value.peek().map(|token| &token.token),
        Some(Token::Word(word)) if word.quote_style.is_some());
    let expr = query::expr(value, "default")?;
    let Some(kind) = kind(&expr) else {
        let help = if is_name {
            format!("double quotes make a name: write a literal such as `{example}`")
        } else {
            format!("write a literal such as `{example}`, or compute the column: `GENERATED ALWAYS AS (expression)`")
        };
        return Err(Diagnostic::error("a default must be a literal", span).with_help(help));
    };
    if kind == Kind::Null || suits(&kind, &column.data_type) {
        return Ok(expr);
    }
    let message = format!("this default does not suit column `{}`", column.name.value);
    Err(Diagnostic::error(message, span)
        .with_label(format!("the column is {}", sql_name(&column.data_type)))
        .with_help(format!("write a literal such as `{example}`")))
}

#[derive(Debug, PartialEq)]
enum Kind {
    Null,
    Boolean,
    Number(String),
    Text,
    Date,
    Time,
    Timestamp,
}

fn kind(expr: &Expr) -> Option<Kind> {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::Null => Some(Kind::Null),
            Value::Boolean(_) => Some(Kind::Boolean),
            Value::Number(number, _) => Some(Kind::Number(number.clone())),
            Value::SingleQuotedString(_) | Value::EscapedStringLiteral(_) | Value::DollarQuotedString(_) => {
                Some(Kind::Text)
            }
            _ => None,
        },
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => match kind(expr)? {
            Kind::Number(number) if !number.starts_with('-') => Some(Kind::Number(format!("-{number}"))),
            _ => None,
        },
        Expr::UnaryOp { op: UnaryOperator::Plus, expr } => kind(expr).filter(|kind| matches!(kind, Kind::Number(_))),
        Expr::TypedString(typed) => match &typed.data_type {
            SqlType::Date => Some(Kind::Date),
            SqlType::Time(_, TimezoneInfo::None) => Some(Kind::Time),
            SqlType::Timestamp(..) => Some(Kind::Timestamp),
            _ => None,
        },
        _ => None,
    }
}

fn suits(kind: &Kind, data_type: &DataType) -> bool {
    match kind {
        Kind::Null => true,
        Kind::Boolean => *data_type == DataType::Boolean,
        Kind::Number(number) => match integer_range(data_type) {
            Some((min, max)) => number.parse::<i128>().is_ok_and(|number| (min..=max).contains(&number)),
            None => data_type.is_numeric(),
        },
        Kind::Text => data_type.is_temporal() || matches!(data_type, DataType::Utf8 | DataType::Binary),
        Kind::Date => matches!(data_type, DataType::Date32 | DataType::Timestamp(..)),
        Kind::Time => matches!(data_type, DataType::Time32(_) | DataType::Time64(_)),
        Kind::Timestamp => matches!(data_type, DataType::Timestamp(..)),
    }
}

fn integer_range(data_type: &DataType) -> Option<(i128, i128)> {
    Some(match data_type {
        DataType::Int8 => (i8::MIN.into(), i8::MAX.into()),
        DataType::Int16 => (i16::MIN.into(), i16::MAX.into()),
        DataType::Int32 => (i32::MIN.into(), i32::MAX.into()),
        DataType::Int64 => (i64::MIN.into(), i64::MAX.into()),
        DataType::UInt8 => (0, u8::MAX.into()),
        DataType::UInt16 => (0, u16::MAX.into()),
        DataType::UInt32 => (0, u32::MAX.into()),
        DataType::UInt64 => (0, u64::MAX.into()),
        _ => return None,
    })
}

fn example(data_type: &DataType) -> &'static str {
    match data_type {
        DataType::Boolean => "false",
        DataType::Utf8 | DataType::Binary => "'unknown'",
        DataType::Date32 => "DATE '2013-01-01'",
        DataType::Time32(_) | DataType::Time64(_) => "TIME '12:00:00'",
        DataType::Timestamp(..) => "TIMESTAMP '2013-01-01 12:00:00'",
        other if other.is_nested() => "NULL",
        _ => "0",
    }
}

/// An Arrow type in the words of a pipeline file.
pub(crate) fn sql_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Boolean => "BOOLEAN".to_owned(),
        DataType::Int8 => "TINYINT".to_owned(),
        DataType::Int16 => "SMALLINT".to_owned(),
        DataType::Int32 => "INT".to_owned(),
        DataType::Int64 => "BIGINT".to_owned(),
        DataType::UInt8 => "TINYINT UNSIGNED".to_owned(),
        DataType::UInt16 => "SMALLINT UNSIGNED".to_owned(),
        DataType::UInt32 => "INT UNSIGNED".to_owned(),
        DataType::UInt64 => "BIGINT UNSIGNED".to_owned(),
        DataType::Float32 => "REAL".to_owned(),
        DataType::Float64 => "DOUBLE".to_owned(),
        DataType::Utf8 => "VARCHAR".to_owned(),
        DataType::Binary => "BYTEA".to_owned(),
        DataType::Date32 => "DATE".to_owned(),
        DataType::Time32(_) | DataType::Time64(_) => "TIME".to_owned(),
        DataType::Timestamp(_, None) => "TIMESTAMP".to_owned(),
        DataType::Timestamp(_, Some(_)) => "TIMESTAMPTZ".to_owned(),
        DataType::Decimal128(precision, scale) | DataType::Decimal256(precision, scale) => {
            format!("DECIMAL({precision}, {scale})")
        }
        DataType::List(field) => format!("{}[]", sql_name(field.data_type())),
        DataType::Struct(_) => "a STRUCT".to_owned(),
        DataType::Map(..) => "a MAP".to_owned(),
        other => other.to_string(),
    }
}
