//! `DEFAULT` values: literals, as one value of the column's type.

use arrow::array::{Array, ArrayRef, BooleanArray, StringArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow_schema::DataType;
use sqlparser::ast::{Expr, UnaryOperator, Value};
use std::sync::Arc;

/// The value of `expr` as an array of one value of type `data_type`.
///
/// # Errors
/// Says why there is none.
pub(super) fn default_value(expr: &Expr, data_type: &DataType) -> Result<ArrayRef, String> {
    if let Expr::Nested(inner) = expr {
        return default_value(inner, data_type);
    }
    let literal = literal(expr).ok_or_else(|| format!("`{expr}` is no literal"))?;
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let value = cast_with_options(&literal, data_type, &options)
        .map_err(|_| format!("`{expr}` cannot be read as {data_type}"))?;
    if value.null_count() != literal.null_count() {
        return Err(format!("`{expr}` cannot be read as {data_type}"));
    }
    Ok(value)
}

/// A literal as text or truth value; null as a null text, which every type can be cast from.
fn literal(expr: &Expr) -> Option<ArrayRef> {
    let text = |text: &str| -> ArrayRef { Arc::new(StringArray::from(vec![text])) };
    match expr {
        Expr::Value(value) => match &value.value {
            Value::Number(number, _) => Some(text(number)),
            Value::Boolean(value) => Some(Arc::new(BooleanArray::from(vec![*value]))),
            Value::Null => Some(Arc::new(StringArray::from(vec![None::<&str>]))),
            other => other.clone().into_string().map(|value| text(&value)),
        },
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => match expr.as_ref() {
            Expr::Value(value) => match &value.value {
                Value::Number(number, _) => Some(text(&format!("-{number}"))),
                _ => None,
            },
            _ => None,
        },
        Expr::TypedString(typed) => typed.value.value.clone().into_string().map(|value| text(&value)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, types::Int64Type};
    use sqlparser::dialect::PostgreSqlDialect;
    use sqlparser::parser::Parser;

    use super::*;

    fn check(sql: &str, data_type: &DataType) -> Result<ArrayRef, String> {
        let expr = Parser::new(&PostgreSqlDialect {}).try_with_sql(sql).unwrap().parse_expr().unwrap();
        default_value(&expr, data_type)
    }

    #[test]
    fn literal_becomes_a_value_of_the_type() {
        assert_eq!(check("-5", &DataType::Int64).unwrap().as_primitive::<Int64Type>().value(0), -5);
        assert_eq!(check("'x'", &DataType::Utf8).unwrap().as_string::<i32>().value(0), "x");
        assert!(check("DATE '2013-01-31'", &DataType::Date32).unwrap().is_valid(0));
        assert!(check("TRUE", &DataType::Boolean).unwrap().as_boolean().value(0));
        assert!(check("NULL", &DataType::Float64).unwrap().is_null(0));
    }

    #[test]
    fn what_is_no_value_is_refused() {
        assert!(check("'x'", &DataType::Int64).is_err());
        assert!(check("now()", &DataType::Date32).is_err());
        assert!(check("1.5", &DataType::Int32).is_err());
    }
}
