//! Column types: PostgreSQL's names to Arrow types.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Fields, TimeUnit};
use bessemer_schemas::{Diagnostic, Span, nearest};
use sqlparser::tokenizer::Token;

use crate::cursor::Cursor;

/// Deepest nesting of arrays, structs and maps.
const DEPTH_MAX: usize = 32;

/// The types by name, for suggestions.
const NAMES: [&str; 41] = [
    "ARRAY",
    "BIGINT",
    "BINARY",
    "BLOB",
    "BOOL",
    "BOOLEAN",
    "BYTEA",
    "CHAR",
    "CHARACTER",
    "DATE",
    "DECIMAL",
    "DOUBLE",
    "FLOAT",
    "FLOAT4",
    "FLOAT8",
    "INT",
    "INT2",
    "INT4",
    "INT8",
    "INTEGER",
    "JSON",
    "MAP",
    "NUMERIC",
    "REAL",
    "SMALLINT",
    "STRING",
    "STRUCT",
    "TEXT",
    "TIME",
    "TIMESTAMP",
    "TIMESTAMPTZ",
    "TINYINT",
    "VARBINARY",
    "VARCHAR",
    "UTINYINT",
    "USMALLINT",
    "UINTEGER",
    "UBIGINT",
    "UNSIGNED",
    "HUGEINT",
    "INTERVAL",
];

/// Types of other systems, and what to write for them.
const FOREIGN: [(&str, &str); 28] = [
    ("BIGSERIAL", "`BIGINT`"),
    ("BYTES", "`BYTEA`"),
    ("DATETIME", "`TIMESTAMP`, or `TIMESTAMPTZ` where the texts carry a zone"),
    ("ENUM", "`VARCHAR`, and an expectation `EXPECT (column IN ('a', 'b'))` in the feature set"),
    ("FLOAT32", "`REAL`"),
    ("FLOAT64", "`DOUBLE`"),
    ("HUGEINT", "`DECIMAL(38, 0)`"),
    ("INT16", "`SMALLINT`"),
    ("INT32", "`INT`"),
    ("INT64", "`BIGINT`"),
    ("INTERVAL", "`BIGINT` with the unit in the column's name, such as `delay_seconds BIGINT`"),
    ("JSONB", "`JSON`"),
    ("LIST", "an array, such as `INT[]`"),
    ("LONG", "`BIGINT`"),
    ("NUMBER", "`DECIMAL(p, s)`, `BIGINT` or `DOUBLE`"),
    ("NVARCHAR", "`VARCHAR`"),
    ("ROW", "`STRUCT<name TYPE, …>`"),
    ("SERIAL", "`BIGINT`"),
    ("SHORT", "`SMALLINT`"),
    ("TIMETZ", "`TIME`"),
    ("UBIGINT", "`BIGINT UNSIGNED`"),
    ("UINT16", "`SMALLINT UNSIGNED`"),
    ("UINT32", "`INT UNSIGNED`"),
    ("UINT64", "`BIGINT UNSIGNED`"),
    ("UINT8", "`TINYINT UNSIGNED`"),
    ("UINTEGER", "`INT UNSIGNED`"),
    ("USMALLINT", "`SMALLINT UNSIGNED`"),
    ("UUID", "`VARCHAR`"),
];

/// Whether `word` names a type, so that a column definition may begin just before it.
pub(crate) fn is_type_name(word: &str) -> bool {
    NAMES.iter().any(|name| name.eq_ignore_ascii_case(word))
}

/// Reads a type. A warning, such as for a length that nobody checks, goes to `warnings`.
pub(crate) fn data_type(cursor: &mut Cursor<'_>, warnings: &mut Vec<Diagnostic>) -> Result<DataType, Diagnostic> {
    Types { warnings, pending: 0 }.nested(cursor, 0)
}

struct Types<'a> {
    warnings: &'a mut Vec<Diagnostic>,
    /// `>` that a `>>` token has closed in advance.
    pending: usize,
}

impl Types<'_> {
    fn nested(&mut self, cursor: &mut Cursor<'_>, depth: usize) -> Result<DataType, Diagnostic> {
        if depth > DEPTH_MAX {
            return Err(Diagnostic::error(format!("types are nested more than {DEPTH_MAX} deep"), cursor.span())
                .with_help("declare the column as `JSON` and take it apart in a view"));
        }
        let mut data_type = self.named(cursor, depth)?;
        let mut dimensions = 0;
        while self.pending == 0 && cursor.take(&Token::LBracket) {
            dimensions += 1;
            if !cursor.take(&Token::RBracket) {
                return Err(cursor.expected("`]`", "an array has no length: write `INT[]`"));
            }
            if depth + dimensions > DEPTH_MAX {
                return Err(Diagnostic::error("this array has too many dimensions", cursor.previous_span())
                    .with_help("declare the column as `JSON`"));
            }
            data_type = DataType::List(Arc::new(Field::new_list_field(data_type, true)));
        }
        Ok(data_type)
    }

    fn named(&mut self, cursor: &mut Cursor<'_>, depth: usize) -> Result<DataType, Diagnostic> {
        let span = cursor.span();
        let Some(word) = cursor.word() else {
            return Err(cursor.expected("a type", "write a type such as `BIGINT`, `DOUBLE`, `VARCHAR` or `TIMESTAMP`"));
        };
        cursor.next();
        let upper = word.to_ascii_uppercase();
        let data_type = match upper.as_str() {
            "BOOLEAN" | "BOOL" => DataType::Boolean,
            "TINYINT" => integer(cursor, DataType::Int8, DataType::UInt8)?,
            "SMALLINT" | "INT2" => integer(cursor, DataType::Int16, DataType::UInt16)?,
            "INT" | "INTEGER" | "INT4" => integer(cursor, DataType::Int32, DataType::UInt32)?,
            "BIGINT" | "INT8" => integer(cursor, DataType::Int64, DataType::UInt64)?,
            "REAL" | "FLOAT4" => DataType::Float32,
            "DOUBLE" => {
                cursor.take_words(&["PRECISION"]);
                DataType::Float64
            }
            "FLOAT" => float(cursor)?,
            "FLOAT8" => DataType::Float64,
            "DECIMAL" | "NUMERIC" => decimal(cursor, &upper)?,
            "VARCHAR" | "TEXT" | "CHAR" | "STRING" => self.text(cursor, word)?,
            "CHARACTER" => {
                cursor.take_words(&["VARYING"]);
                self.text(cursor, "VARCHAR")?
            }
            "JSON" => DataType::Utf8,
            "BYTEA" | "BLOB" | "BINARY" | "VARBINARY" => DataType::Binary,
            "DATE" => DataType::Date32,
            "TIME" => time(cursor)?,
            "TIMESTAMP" => timestamp(cursor)?,
            "TIMESTAMPTZ" => DataType::Timestamp(unit(cursor)?, Some("UTC".into())),
            "ARRAY" => self.array(cursor, depth)?,
            "STRUCT" => self.structure(cursor, depth)?,
            "MAP" => self.map(cursor, depth)?,
            _ => return Err(unknown(word, span)),
        };
        Ok(data_type)
    }

    fn text(&mut self, cursor: &mut Cursor<'_>, word: &str) -> Result<DataType, Diagnostic> {
        let span = cursor.span();
        if let Some((length, _)) = numbers(cursor, word)? {
            let span = span.union(cursor.previous_span());
            let help = format!(
                "write `{}`, and `EXPECT (char_length(column) <= {length})` in the feature set if it matters",
                word.to_ascii_uppercase()
            );
            self.warnings.push(Diagnostic::warning("the length of a text is not checked", span).with_help(help));
        }
        Ok(DataType::Utf8)
    }

    fn array(&mut self, cursor: &mut Cursor<'_>, depth: usize) -> Result<DataType, Diagnostic> {
        Self::open(cursor, "ARRAY<INT>")?;
        let item = self.nested(cursor, depth + 1)?;
        self.close(cursor, "ARRAY<INT>")?;
        Ok(DataType::List(Arc::new(Field::new_list_field(item, true))))
    }

    fn structure(&mut self, cursor: &mut Cursor<'_>, depth: usize) -> Result<DataType, Diagnostic> {
        let example = "STRUCT<city VARCHAR, zip INT>";
        Self::open(cursor, example)?;
        let mut fields: Vec<Field> = Vec::new();
        loop {
            let name = cursor.name("a field's name")?;
            if cursor.is_token(&Token::Colon) {
                return Err(cursor.expected("a type", format!("write no `:` between name and type: `{example}`")));
            }
            if fields.iter().any(|field| *field.name() == name.value) {
                let message = format!("the struct has two fields `{}`", name.value);
                return Err(Diagnostic::error(message, name.span).with_help("give one of them another name"));
            }
            let data_type = self.nested(cursor, depth + 1)?;
            let is_required = self.pending == 0 && cursor.take_words(&["NOT", "NULL"]);
            fields.push(Field::new(name.value, data_type, !is_required));
            if self.pending > 0 || !cursor.take(&Token::Comma) {
                break;
            }
        }
        self.close(cursor, example)?;
        Ok(DataType::Struct(Fields::from(fields)))
    }

    fn map(&mut self, cursor: &mut Cursor<'_>, depth: usize) -> Result<DataType, Diagnostic> {
        let example = "MAP<VARCHAR, INT>";
        Self::open(cursor, example)?;
        let key_span = cursor.span();
        let key = self.nested(cursor, depth + 1)?;
        if key.is_nested() {
            return Err(Diagnostic::error("the key of a map must be a plain type", key_span)
                .with_help(format!("write `{example}`")));
        }
        if self.pending > 0 || !cursor.take(&Token::Comma) {
            return Err(cursor.expected("`,`", format!("a map has a key and a value: `{example}`")));
        }
        let value = self.nested(cursor, depth + 1)?;
        self.close(cursor, example)?;
        let entries = Fields::from(vec![Field::new("key", key, false), Field::new("value", value, true)]);
        Ok(DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries), false)), false))
    }

    fn open(cursor: &mut Cursor<'_>, example: &str) -> Result<(), Diagnostic> {
        if cursor.take(&Token::Lt) { Ok(()) } else { Err(cursor.expected("`<`", format!("write `{example}`"))) }
    }

    fn close(&mut self, cursor: &mut Cursor<'_>, example: &str) -> Result<(), Diagnostic> {
        if self.pending > 0 {
            self.pending -= 1;
        } else if cursor.take(&Token::ShiftRight) {
            self.pending = 1;
        } else if !cursor.take(&Token::Gt) {
            return Err(cursor.expected("`>`", format!("write `{example}`")));
        }
        Ok(())
    }
}

fn unknown(word: &str, span: Span) -> Diagnostic {
    let foreign = FOREIGN.iter().find(|(name, _)| name.eq_ignore_ascii_case(word));
    let help = match (foreign, nearest(word, NAMES)) {
        (Some((_, instead)), _) => format!("write {instead}"),
        (None, Some(name)) => format!("did you mean `{name}`?"),
        (None, None) => "the types are BOOLEAN, TINYINT, SMALLINT, INT, BIGINT (also UNSIGNED), REAL, DOUBLE, \
             DECIMAL(p, s), VARCHAR, BYTEA, DATE, TIME, TIMESTAMP, TIMESTAMPTZ, JSON, INT[], STRUCT<…>, MAP<…>"
            .to_owned(),
    };
    Diagnostic::error(format!("unknown type `{word}`"), span).with_help(help)
}

fn integer(cursor: &mut Cursor<'_>, signed: DataType, unsigned: DataType) -> Result<DataType, Diagnostic> {
    if cursor.is_token(&Token::LParen) {
        let help = "whole numbers have no width: choose TINYINT, SMALLINT, INT or BIGINT";
        return Err(cursor.expected("the end of the type", help));
    }
    Ok(if cursor.take_words(&["UNSIGNED"]) { unsigned } else { signed })
}

/// `FLOAT` is double precision, as in PostgreSQL; `FLOAT(24)` and less is single.
fn float(cursor: &mut Cursor<'_>) -> Result<DataType, Diagnostic> {
    match numbers(cursor, "FLOAT")? {
        Some((..=24, _)) => Ok(DataType::Float32),
        _ => Ok(DataType::Float64),
    }
}

fn decimal(cursor: &mut Cursor<'_>, word: &str) -> Result<DataType, Diagnostic> {
    let span = cursor.span();
    let Some((precision, scale)) = numbers(cursor, word)? else {
        return Err(Diagnostic::error(format!("`{word}` needs its precision and scale"), span)
            .with_help(format!("write for example `{word}(18, 2)`: 18 digits, 2 of them after the point")));
    };
    let span = span.union(cursor.previous_span());
    let scale = scale.unwrap_or(0);
    let (Ok(precision @ 1..=76), Ok(scale)) = (u8::try_from(precision), i8::try_from(scale)) else {
        return Err(Diagnostic::error(format!("a decimal cannot have {precision} digits"), span)
            .with_help("the precision is between 1 and 76"));
    };
    if i32::from(scale) > i32::from(precision) {
        return Err(Diagnostic::error(format!("scale {scale} is larger than precision {precision}"), span)
            .with_help(format!("write the number of all digits first: `{word}({scale}, {precision})`")));
    }
    Ok(if precision <= 38 { DataType::Decimal128(precision, scale) } else { DataType::Decimal256(precision, scale) })
}

fn time(cursor: &mut Cursor<'_>) -> Result<DataType, Diagnostic> {
    let unit = unit(cursor)?;
    if cursor.take_words(&["WITH"]) {
        return Err(Diagnostic::error("a time of day has no time zone", cursor.previous_span())
            .with_help("write `TIME`, or `TIMESTAMPTZ` for a moment"));
    }
    cursor.take_words(&["WITHOUT", "TIME", "ZONE"]);
    Ok(match unit {
        TimeUnit::Second | TimeUnit::Millisecond => DataType::Time32(unit),
        TimeUnit::Microsecond | TimeUnit::Nanosecond => DataType::Time64(unit),
    })
}

fn timestamp(cursor: &mut Cursor<'_>) -> Result<DataType, Diagnostic> {
    let unit = unit(cursor)?;
    if cursor.is_words(&["WITH"]) {
        cursor.expect_words(&["WITH", "TIME", "ZONE"], "write `TIMESTAMP WITH TIME ZONE` or `TIMESTAMPTZ`")?;
        return Ok(DataType::Timestamp(unit, Some("UTC".into())));
    }
    if cursor.is_words(&["WITHOUT"]) {
        cursor.expect_words(&["WITHOUT", "TIME", "ZONE"], "write `TIMESTAMP`")?;
    }
    Ok(DataType::Timestamp(unit, None))
}

/// `(0)`, `(3)`, `(6)` or `(9)`; microseconds where nothing is written, as in PostgreSQL.
fn unit(cursor: &mut Cursor<'_>) -> Result<TimeUnit, Diagnostic> {
    let span = cursor.span();
    match numbers(cursor, "TIMESTAMP")? {
        None | Some((6, None)) => Ok(TimeUnit::Microsecond),
        Some((0, None)) => Ok(TimeUnit::Second),
        Some((3, None)) => Ok(TimeUnit::Millisecond),
        Some((9, None)) => Ok(TimeUnit::Nanosecond),
        Some((digits, _)) => {
            let span = span.union(cursor.previous_span());
            Err(Diagnostic::error(format!("a time cannot have {digits} digits of a second"), span)
                .with_help("write `(0)`, `(3)`, `(6)` or `(9)`: seconds, milli-, micro- or nanoseconds"))
        }
    }
}

/// `(n)` or `(n, m)`.
fn numbers(cursor: &mut Cursor<'_>, word: &str) -> Result<Option<(u32, Option<u32>)>, Diagnostic> {
    if !cursor.is_token(&Token::LParen) {
        return Ok(None);
    }
    let help = format!("write whole numbers in the parentheses of `{}`", word.to_ascii_uppercase());
    let start = cursor.span();
    let mut inner = cursor.group("with a number", &help)?;
    let span = start.union(cursor.previous_span());
    let first = number(&mut inner);
    let second = inner.take(&Token::Comma).then(|| number(&mut inner));
    match (first, second, inner.is_at_end()) {
        (Some(first), None, true) => Ok(Some((first, None))),
        (Some(first), Some(Some(second)), true) => Ok(Some((first, Some(second)))),
        _ => Err(Diagnostic::error(format!("`{word}` takes whole numbers"), span).with_help(help)),
    }
}

fn number(cursor: &mut Cursor<'_>) -> Option<u32> {
    match cursor.next().map(|token| &token.token) {
        Some(Token::Number(text, _)) => text.parse().ok(),
        _ => None,
    }
}
