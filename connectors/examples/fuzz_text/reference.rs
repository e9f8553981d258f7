//! What a JSON record should become, by way of `serde_json`: slow, plain, and written apart from the decoder.

use std::fmt;

use arrow_schema::{DataType, Field, Fields};
use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// A value of a column.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Cell {
    /// Null.
    Null,
    /// A Boolean.
    Bool(bool),
    /// A whole number, a decimal's digits, a date or time in its unit.
    Whole(i128),
    /// A `DOUBLE`.
    Real(f64),
    /// A `REAL`.
    Single(f32),
    /// Text.
    Text(String),
    /// A list; a struct's fields.
    List(Vec<Cell>),
    /// A map.
    Map(Vec<(String, Cell)>),
}

/// What should happen to a record.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Verdict {
    /// It becomes a row.
    Row(Vec<Cell>),
    /// It is rejected with this code.
    Reject(&'static str),
    /// `serde_json` cannot tell (numbers beyond its types).
    Unknown,
}

/// A column and what a missing field means.
#[derive(Debug, Clone)]
pub(crate) struct Declared {
    /// The column.
    pub(crate) field: Field,
    /// Its default.
    pub(crate) default: Option<Cell>,
}

/// The verdict on one line.
pub(crate) fn judge(line: &[u8], columns: &[Declared], reject_extra: bool) -> Verdict {
    let Ok(text) = std::str::from_utf8(line) else { return Verdict::Reject("invalid_utf8") };
    let node = match serde_json::from_str::<Node>(text) {
        Ok(node) => node,
        Err(error) if error.to_string().starts_with("number out of range") => return Verdict::Unknown,
        Err(_) => return Verdict::Reject("invalid_json"),
    };
    let Node::Object(members) = &node else { return Verdict::Reject("invalid_json") };
    if node.has_duplicate() {
        return Verdict::Reject("duplicate_key");
    }
    let reading = Reading { reject_extra, has_long_number: has_long_number(line) };
    let fields: Fields = columns.iter().map(|column| column.field.clone()).collect();
    let defaults: Vec<_> = columns.iter().map(|column| column.default.clone()).collect();
    match reading.object(members, &fields, &defaults) {
        Ok(cells) => Verdict::Row(cells),
        Err(Some(reason)) => Verdict::Reject(reason),
        Err(None) => Verdict::Unknown,
    }
}

/// Whether a number may have more digits than an `f64` keeps.
fn has_long_number(line: &[u8]) -> bool {
    line.split(|byte| !byte.is_ascii_digit() && *byte != b'.').any(|run| run.len() > 15)
}

/// JSON with the order and the repetitions of keys.
#[derive(Debug)]
enum Node {
    Null,
    Bool(bool),
    Whole(i128),
    Real(f64),
    Text(String),
    List(Vec<Node>),
    Object(Vec<(String, Node)>),
}

impl Node {
    fn has_duplicate(&self) -> bool {
        match self {
            Self::List(items) => items.iter().any(Self::has_duplicate),
            Self::Object(members) => members.iter().enumerate().any(|(at, (key, value))| {
                value.has_duplicate() || members.iter().take(at).any(|(earlier, _)| earlier == key)
            }),
            _ => false,
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Whole(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Whole(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Real(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Node, A::Error> {
        let mut object = Vec::new();
        while let Some(member) = members.next_entry()? {
            object.push(member);
        }
        Ok(Node::Object(object))
    }
}

/// `Err(None)`: cannot tell.
type Read<T> = Result<T, Option<&'static str>>;

struct Reading {
    reject_extra: bool,
    has_long_number: bool,
}

const WRONG_TYPE: Option<&str> = Some("wrong_type");
const OUT_OF_RANGE: Option<&str> = Some("out_of_range");

impl Reading {
    fn object(&self, members: &[(String, Node)], fields: &Fields, defaults: &[Option<Cell>]) -> Read<Vec<Cell>> {
        let mut cells: Vec<Option<Cell>> = vec![None; fields.len()];
        for (key, node) in members {
            let declared = fields.iter().zip(&mut cells).find(|(field, _)| field.name() == key);
            match declared {
                Some((field, cell)) => *cell = Some(self.value(node, field)?),
                None if self.reject_extra => return Err(Some("unknown_field")),
                None => {}
            }
        }
        let filled = cells.into_iter().zip(fields).enumerate().map(|(at, (cell, field))| {
            let missing = || defaults.get(at).cloned().flatten().or(field.is_nullable().then_some(Cell::Null));
            cell.or_else(missing).ok_or(Some("null_in_not_null"))
        });
        filled.collect()
    }

    fn value(&self, node: &Node, field: &Field) -> Read<Cell> {
        let wide = |value: i128, min: i128, max: i128| {
            if (min..=max).contains(&value) { Ok(Cell::Whole(value)) } else { Err(OUT_OF_RANGE) }
        };
        match (node, field.data_type()) {
            (Node::Null, _) if field.is_nullable() => Ok(Cell::Null),
            (Node::Null, _) => Err(Some("null_in_not_null")),
            (Node::Bool(value), DataType::Boolean) => Ok(Cell::Bool(*value)),
            (_, DataType::Int8) => wide(self.whole(node)?, i8::MIN.into(), i8::MAX.into()),
            (_, DataType::UInt16) => wide(self.whole(node)?, 0, u16::MAX.into()),
            (_, DataType::Int64) => wide(self.whole(node)?, i64::MIN.into(), i64::MAX.into()),
            (_, DataType::UInt64) => wide(self.whole(node)?, 0, u64::MAX.into()),
            (Node::Whole(value), DataType::Float64) => Ok(Cell::Real(*value as f64)),
            (Node::Real(value), DataType::Float64) => Ok(Cell::Real(*value)),
            (Node::Whole(value), DataType::Float32) => Ok(Cell::Single(*value as f32)),
            #[expect(clippy::cast_possible_truncation, reason = "rounds, within the range")]
            (Node::Real(value), DataType::Float32) if value.abs() < 3.4e38 => Ok(Cell::Single(*value as f32)),
            (Node::Real(value), DataType::Float32) if value.abs() > 3.5e38 => Err(OUT_OF_RANGE),
            (Node::Real(_), DataType::Float32) => Err(None),
            (Node::Text(text), DataType::Utf8 | DataType::Utf8View) => Ok(Cell::Text(text.clone())),
            (Node::Text(text), DataType::Date32) => date(text).map(Cell::Whole),
            (Node::Text(text), DataType::Timestamp(..)) => timestamp(text).map(Cell::Whole),
            (_, DataType::Decimal128(precision, scale)) => self.decimal(node, *precision, *scale),
            (Node::List(items), DataType::List(field)) => {
                items.iter().map(|item| self.value(item, field)).collect::<Read<_>>().map(Cell::List)
            }
            (Node::Object(members), DataType::Struct(fields)) => self.object(members, fields, &[]).map(Cell::List),
            (Node::Object(members), DataType::Map(entries, _)) => {
                let DataType::Struct(pair) = entries.data_type() else { return Err(None) };
                let cell = |(key, node): &(String, Node)| Ok((key.clone(), self.value(node, &pair[1])?));
                members.iter().map(cell).collect::<Read<_>>().map(Cell::Map)
            }
            _ => Err(WRONG_TYPE),
        }
    }

    fn whole(&self, node: &Node) -> Read<i128> {
        match node {
            Node::Whole(value) => Ok(*value),
            Node::Real(_) if self.has_long_number => Err(None),
            Node::Real(value) if value.fract() != 0.0 => Err(Some("not_whole")),
            // A value that underflows to 0 is not whole; `serde_json` does not say.
            Node::Real(value) if *value == 0.0 => Err(None),
            #[expect(clippy::cast_possible_truncation, reason = "beyond 2^53 it only says: out of range")]
            Node::Real(value) if value.abs() < 9e15 || value.abs() > 2e19 => Ok(*value as i128),
            Node::Real(_) => Err(None),
            _ => Err(WRONG_TYPE),
        }
    }

    fn decimal(&self, node: &Node, precision: u8, scale: i8) -> Read<Cell> {
        let text = match node {
            Node::Whole(value) => value.to_string(),
            Node::Real(_) if self.has_long_number => return Err(None),
            Node::Real(value) if *value == 0.0 => return Err(None),
            Node::Real(value) => value.to_string(),
            Node::Text(text) => text.clone(),
            _ => return Err(WRONG_TYPE),
        };
        let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
        let digits = whole.strip_prefix('-').unwrap_or(whole);
        let is_plain = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
        if !is_plain(digits) || !is_plain(fraction) || digits.is_empty() {
            // The grammar of numbers in text has its own tests.
            return if text.bytes().any(|byte| byte.is_ascii_digit()) { Err(None) } else { Err(WRONG_TYPE) };
        }
        let fraction = fraction.trim_end_matches('0');
        let places = usize::try_from(scale).map_err(|_| None)?;
        if fraction.len() > places || digits.trim_start_matches('0').len() > 30 {
            return Err(OUT_OF_RANGE);
        }
        let value: i128 = format!("{digits}{fraction:0<places$}").parse().map_err(|_| None)?;
        if value >= 10_i128.pow(precision.into()) {
            return Err(OUT_OF_RANGE);
        }
        Ok(Cell::Whole(if whole.starts_with('-') { -value } else { value }))
    }
}

fn numbers(text: &str, shape: &str) -> Read<Vec<u32>> {
    if text.len() != shape.len() {
        return Err(WRONG_TYPE);
    }
    let fits = text.bytes().zip(shape.bytes()).all(|(byte, mark)| match mark {
        b'0' => byte.is_ascii_digit(),
        _ => byte == mark,
    });
    if !fits {
        return Err(WRONG_TYPE);
    }
    text.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().map_err(|_| None)).collect()
}

fn date(text: &str) -> Read<i128> {
    let fields = numbers(text, "0000-00-00")?;
    let date = NaiveDate::from_ymd_opt(i32::try_from(fields[0]).map_err(|_| None)?, fields[1], fields[2]);
    let epoch = DateTime::UNIX_EPOCH.date_naive();
    date.map(|date| i128::from((date - epoch).num_days())).ok_or(OUT_OF_RANGE)
}

/// Microseconds since 1970.
fn timestamp(text: &str) -> Read<i128> {
    let Some(day) = text.get(..10).filter(|day| numbers(day, "0000-00-00").is_ok()) else { return Err(WRONG_TYPE) };
    let rest = &text[10..];
    if rest.is_empty() {
        return date(day).map(|days| days * 86_400_000_000);
    }
    let clock = rest.strip_prefix(['T', ' ']).ok_or(WRONG_TYPE)?;
    let zone_at = clock.find(['Z', '+', '-']).unwrap_or(clock.len());
    let (clock, zone) = clock.split_at(zone_at);
    let (clock, fraction) = match clock.split_once('.') {
        Some((_, "")) => return Err(WRONG_TYPE),
        Some((clock, _)) if clock.len() != 8 => return Err(WRONG_TYPE),
        Some((clock, fraction)) => (clock, fraction),
        None => (clock, ""),
    };
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(WRONG_TYPE);
    }
    let shape = if clock.len() == 5 { "00:00" } else { "00:00:00" };
    let fields = numbers(clock, shape)?;
    let offset = offset(zone)?;
    let time = NaiveTime::from_hms_opt(fields[0], fields[1], fields.get(2).copied().unwrap_or(0));
    let (days, time) = (date(day)?, time.ok_or(OUT_OF_RANGE)?);
    let fraction = fraction.trim_end_matches('0');
    if fraction.len() > 6 {
        return Err(OUT_OF_RANGE);
    }
    let micros: i128 = format!("{fraction:0<6}").parse().map_err(|_| None)?;
    let seconds = i128::from(time.signed_duration_since(NaiveTime::MIN).num_seconds());
    let offset = i128::from(TimeDelta::minutes(offset).num_seconds());
    Ok((days * 86_400 + seconds - offset) * 1_000_000 + micros)
}

fn offset(zone: &str) -> Read<i64> {
    let Some(digits) = zone.strip_prefix(['+', '-']) else {
        return if zone.is_empty() || zone == "Z" { Ok(0) } else { Err(WRONG_TYPE) };
    };
    let fields = match digits.len() {
        2 => numbers(digits, "00")?,
        4 => numbers(digits, "0000").map(|all| vec![all[0] / 100, all[0] % 100])?,
        _ => numbers(digits, "00:00")?,
    };
    let (hours, minutes) = (fields[0], fields.get(1).copied().unwrap_or(0));
    if hours > 23 || minutes > 59 {
        return Err(OUT_OF_RANGE);
    }
    let total = i64::from(hours * 60 + minutes);
    Ok(if zone.starts_with('-') { -total } else { total })
}
