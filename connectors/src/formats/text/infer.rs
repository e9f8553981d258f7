//! Guesses a schema from the first bytes of an object: broad types, everything nullable.

use std::sync::Arc;

use arrow_schema::extension::EXTENSION_TYPE_NAME_KEY;
use arrow_schema::{DataType, Field, Schema, TimeUnit};

use super::csv::header_and_rows;
use super::fault::FileFault;
use super::number::Number;
use super::options::{CsvOptions, TextFormat, TimestampFormat, TimestampText};
use super::scan::{Cursor, DEPTH_MAX};
use super::time;

/// Records looked at, at most.
const RECORDS_MAX: usize = 10_000;

/// What is common to the records in `head`, the first bytes of an object (decompressed); `is_whole` says whether there are
/// no more. In its schema whole numbers are `Int64`, other numbers `Float64`, ISO 8601 texts dates and timestamps, objects structs,
/// arrays lists; everything else is `Utf8`, and a JSON field that mixes kinds is `Utf8` with the extension type
/// `arrow.json`. Records that are none are passed over: the decoder will reject them.
///
/// Codes such as `007` stay text, and `0` and `1` are numbers, not Booleans.
pub fn infer(head: &[u8], is_whole: bool, format: &TextFormat) -> Result<Inferred, FileFault> {
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    let fields = match format {
        TextFormat::Json(options) | TextFormat::Debezium(options) => {
            infer_json(head, is_whole, &options.timestamp_format)
        }
        TextFormat::Csv(options) => infer_csv(head, is_whole, options)?,
    };
    if fields.is_empty() {
        let reason =
            format!("its first {} bytes hold no record to take a schema from; declare the columns", head.len());
        return Err(FileFault::Mismatch { reason });
    }
    Ok(Inferred { fields, has_json: !matches!(format, TextFormat::Csv(_)) })
}

/// What the records of an object, or of several, have in common: less than a schema, which no longer tells a field that
/// was always null from a text.
#[derive(Debug, Clone, PartialEq)]
pub struct Inferred {
    fields: Vec<(String, Kind)>,
    has_json: bool,
}

impl Inferred {
    /// Takes the records of another object of the same format in; its new fields go last.
    pub fn merge(&mut self, other: Self) {
        merge(&mut self.fields, other.fields);
        if !self.has_json {
            self.fields.iter_mut().for_each(|(_, kind)| kind.unmix());
        }
    }

    /// The schema of all of them.
    pub fn into_schema(self) -> Schema {
        Schema::new(self.fields.into_iter().map(|(name, kind)| kind.into_field(&name)).collect::<Vec<_>>())
    }
}

/// What the values of one field have in common.
#[derive(Debug, Clone, PartialEq)]
enum Kind {
    /// Only nulls so far.
    Null,
    Bool,
    Whole,
    Real,
    Date,
    Timestamp {
        has_zone: bool,
        is_nano: bool,
    },
    Text,
    List(Box<Kind>),
    Object(Vec<(String, Kind)>),
    /// Different kinds of JSON values.
    Mixed,
}

impl Kind {
    /// The kind that takes the values of both.
    fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Null, kind) | (kind, Self::Null) => kind,
            (Self::Whole, Self::Real) | (Self::Real, Self::Whole) => Self::Real,
            (Self::Date, timestamp @ Self::Timestamp { .. }) | (timestamp @ Self::Timestamp { .. }, Self::Date) => {
                timestamp
            }
            (Self::Timestamp { has_zone: a, is_nano: b }, Self::Timestamp { has_zone: c, is_nano: d }) => {
                Self::Timestamp { has_zone: a || c, is_nano: b || d }
            }
            (Self::List(a), Self::List(b)) => Self::List(Box::new(a.or(*b))),
            (Self::Object(mut fields), Self::Object(others)) => {
                merge(&mut fields, others);
                Self::Object(fields)
            }
            (a, b) if a == b => a,
            (Self::Date | Self::Timestamp { .. } | Self::Text, Self::Date | Self::Timestamp { .. } | Self::Text) => {
                Self::Text
            }
            _ => Self::Mixed,
        }
    }

    /// In a format where every value is a text, a mixture of kinds is text.
    fn unmix(&mut self) {
        if *self == Self::Mixed {
            *self = Self::Text;
        }
    }

    fn into_field(self, name: &str) -> Field {
        let is_mixed = self == Self::Mixed || self == Self::Object(Vec::new());
        let data_type = match self {
            Self::Bool => DataType::Boolean,
            Self::Whole => DataType::Int64,
            Self::Real => DataType::Float64,
            Self::Date => DataType::Date32,
            Self::Timestamp { has_zone, is_nano } => {
                let unit = if is_nano { TimeUnit::Nanosecond } else { TimeUnit::Microsecond };
                DataType::Timestamp(unit, has_zone.then(|| "UTC".into()))
            }
            Self::List(kind) => DataType::List(Arc::new(kind.into_field(Field::LIST_FIELD_DEFAULT_NAME))),
            Self::Object(fields) if !fields.is_empty() => {
                DataType::Struct(fields.into_iter().map(|(name, kind)| kind.into_field(&name)).collect())
            }
            Self::Null | Self::Text | Self::Object(_) | Self::Mixed => DataType::Utf8,
        };
        let field = Field::new(name, data_type, true);
        if !is_mixed {
            return field;
        }
        field.with_metadata([(EXTENSION_TYPE_NAME_KEY.to_owned(), "arrow.json".to_owned())].into())
    }
}

/// Adds what another record has; a new field goes last.
fn merge(fields: &mut Vec<(String, Kind)>, others: Vec<(String, Kind)>) {
    for (position, (name, kind)) in others.into_iter().enumerate() {
        // Records mostly have their fields in one order.
        let at = match fields.get(position) {
            Some((known, _)) if *known == name => Some(position),
            _ => fields.iter().position(|(known, _)| *known == name),
        };
        match at.and_then(|at| fields.get_mut(at)) {
            Some((_, known)) => *known = std::mem::replace(known, Kind::Null).or(kind),
            None => fields.push((name, kind)),
        }
    }
}

fn infer_json(head: &[u8], is_whole: bool, timestamps: &TimestampFormat) -> Vec<(String, Kind)> {
    let mut fields = Vec::new();
    let mut lines: Vec<&[u8]> = head.split(|byte| *byte == b'\n').take(RECORDS_MAX + 1).collect();
    if !is_whole && lines.len() > 1 && lines.len() <= RECORDS_MAX {
        lines.pop();
    }
    for line in lines {
        if std::str::from_utf8(line).is_err() {
            continue;
        }
        let mut cursor = Cursor::new(line);
        cursor.skip_blanks();
        if let Some(Kind::Object(found)) = observe(&mut cursor, 0, timestamps) {
            merge(&mut fields, found);
        }
    }
    fields
}

fn observe(cursor: &mut Cursor<'_>, depth: usize, timestamps: &TimestampFormat) -> Option<Kind> {
    match cursor.peek() {
        b'"' => {
            let mut scratch = Vec::new();
            cursor.string(&mut scratch).map(|text| text_kind(text, timestamps))
        }
        b't' => cursor.eat_all(b"true").then_some(Kind::Bool),
        b'f' => cursor.eat_all(b"false").then_some(Kind::Bool),
        b'n' => cursor.eat_all(b"null").then_some(Kind::Null),
        b'[' => observe_array(cursor, depth, timestamps),
        b'{' => observe_object(cursor, depth, timestamps),
        _ => cursor.number().map(number_kind),
    }
}

fn observe_array(cursor: &mut Cursor<'_>, depth: usize, timestamps: &TimestampFormat) -> Option<Kind> {
    let mut kind = Kind::Null;
    if depth >= DEPTH_MAX || !cursor.eat(b'[') {
        return None;
    }
    cursor.skip_blanks();
    if cursor.eat(b']') {
        return Some(Kind::List(Box::new(kind)));
    }
    loop {
        cursor.skip_blanks();
        kind = kind.or(observe(cursor, depth + 1, timestamps)?);
        cursor.skip_blanks();
        if cursor.eat(b']') {
            return Some(Kind::List(Box::new(kind)));
        }
        if !cursor.eat(b',') {
            return None;
        }
    }
}

fn observe_object(cursor: &mut Cursor<'_>, depth: usize, timestamps: &TimestampFormat) -> Option<Kind> {
    let mut fields: Vec<(String, Kind)> = Vec::new();
    if depth >= DEPTH_MAX || !cursor.eat(b'{') {
        return None;
    }
    cursor.skip_blanks();
    if cursor.eat(b'}') {
        return Some(Kind::Object(fields));
    }
    loop {
        cursor.skip_blanks();
        let mut scratch = Vec::new();
        let name = String::from_utf8(cursor.string(&mut scratch)?.to_vec()).ok()?;
        cursor.skip_blanks();
        if !cursor.eat(b':') {
            return None;
        }
        cursor.skip_blanks();
        fields.push((name, observe(cursor, depth + 1, timestamps)?));
        cursor.skip_blanks();
        if cursor.eat(b'}') {
            return Some(Kind::Object(fields));
        }
        if !cursor.eat(b',') {
            return None;
        }
    }
}

fn number_kind(number: Number<'_>) -> Kind {
    let is_whole = number.is_plain_integer() && number.whole().is_ok_and(|value| i64::try_from(value).is_ok());
    if is_whole { Kind::Whole } else { Kind::Real }
}

fn text_kind(text: &[u8], timestamps: &TimestampFormat) -> Kind {
    if time::date(text).is_ok() {
        return Kind::Date;
    }
    match &timestamps.0 {
        TimestampText::Iso => match time::describe(text) {
            Some((has_zone, fraction)) => Kind::Timestamp { has_zone, is_nano: fraction > 6 },
            None => Kind::Text,
        },
        TimestampText::Pattern(pattern) if pattern.timestamp(text, 9).is_ok() => {
            Kind::Timestamp { has_zone: false, is_nano: false }
        }
        TimestampText::Pattern(_) | TimestampText::Epoch(_) => Kind::Text,
    }
}

fn infer_csv(head: &[u8], is_whole: bool, options: &CsvOptions) -> Result<Vec<(String, Kind)>, FileFault> {
    let (names, rows) = header_and_rows(head, is_whole, options, RECORDS_MAX)?;
    let mut kinds = vec![Kind::Null; names.len()];
    for row in rows.iter().filter(|row| row.len() == names.len()) {
        for (kind, field) in kinds.iter_mut().zip(row) {
            let Some(text) = field else { continue };
            *kind = std::mem::replace(kind, Kind::Null).or(csv_kind(text.as_bytes(), options));
            kind.unmix();
        }
    }
    Ok(names.into_iter().zip(kinds).collect())
}

fn csv_kind(text: &[u8], options: &CsvOptions) -> Kind {
    if text.eq_ignore_ascii_case(b"true") || text.eq_ignore_ascii_case(b"false") {
        return Kind::Bool;
    }
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let is_code = digits.first() == Some(&b'+') || matches!(digits, [b'0', next, ..] if next.is_ascii_digit());
    match Number::from_text(text) {
        Some(_) if is_code => Kind::Text,
        Some(number) => number_kind(number),
        None => text_kind(text, &options.timestamp_format),
    }
}

#[cfg(test)]
mod tests;
