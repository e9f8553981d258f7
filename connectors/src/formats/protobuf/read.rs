//! Reading messages: where their fields are, then values in the order of the columns.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

use arrow::array::ArrayRef;
use arrow_schema::SchemaRef;
use bessemer_schemas::RejectReason;
use prost_reflect::MessageDescriptor;

use super::resolve::{Absent, ColumnRead, Message, Noted, Read, Value, message};
use super::schema::zigzag;
use super::wire::{Raw, Wire, WireType};
use crate::formats::growth::Growth;
use crate::formats::rows::{Contradiction, RowBuilder};
use crate::formats::text::column::{Column, Values, push_offset};
use crate::formats::text::fault::Fault;
use crate::formats::text::{FileFault, RecordFault, TimestampFormat};

/// Messages within one another, at most, as Protobuf's own libraries have it.
const DEPTH_MAX: usize = 100;

const INVALID: RejectReason = RejectReason::InvalidProtobuf;

/// Fields of `google.protobuf.Timestamp`: seconds since 1970, and nanoseconds beyond them.
static TIMESTAMP: [Noted; 2] = [timestamp_field(1), timestamp_field(2)];

const fn timestamp_field(number: u32) -> Noted {
    Noted { number, wire_type: WireType::Varint, is_packable: false, oneof: None, column: None }
}

/// Reads records that are messages of one type.
#[derive(Debug)]
pub struct ProtobufReader {
    message: Message,
    found: Vec<Found>,
}

/// A field that was noted: which, and what is there.
#[derive(Debug, Clone, Copy)]
struct Found {
    noted: usize,
    raw: Raw,
}

impl ProtobufReader {
    /// A reader of messages of `descriptor` into `columns`.
    ///
    /// # Errors
    /// The message contradicts the columns.
    pub fn new(
        descriptor: &MessageDescriptor,
        columns: &SchemaRef,
        defaults: &[Option<ArrayRef>],
        timestamp_format: &TimestampFormat,
    ) -> Result<Self, Contradiction> {
        let message = message(descriptor, columns.fields(), defaults, "", timestamp_format.is_epoch())?;
        Ok(Self { message, found: Vec::new() })
    }

    /// Appends one record to `rows`, or says why it is none.
    pub fn read(
        &mut self,
        number: u64,
        data: &[u8],
        rows: &mut RowBuilder,
    ) -> Result<Result<(), RecordFault>, FileFault> {
        let Self { message, found } = self;
        found.clear();
        rows.append(number, data.len(), |columns| {
            let mut record = Record { bytes: data, found, growth: Growth::of(data.len()) };
            record.message(message, &Parts::Whole, columns, 0)?;
            Ok(record.growth.bytes())
        })
    }
}

/// The bytes of a message.
enum Parts {
    /// All of the record.
    Whole,
    /// Those of fields that were found: a message that is written in parts is all of them.
    Found(Range<usize>),
}

struct Record<'a> {
    bytes: &'a [u8],
    /// What was found of the message at hand, behind what was found of those that it is in.
    found: &'a mut Vec<Found>,
    growth: Growth,
}

impl Record<'_> {
    fn message(&mut self, message: &Message, parts: &Parts, columns: &mut [Column], depth: usize) -> Result<(), Fault> {
        if depth > DEPTH_MAX {
            return Err(INVALID.into());
        }
        let mark = self.found.len();
        self.note(&message.fields, parts, columns)?;
        if message.has_oneof {
            self.keep_last_members(&message.fields, mark);
        }
        self.sort(mark);
        for (column, read) in columns.iter_mut().zip(&message.columns) {
            self.column(read, mark, column, depth)?;
        }
        self.found.truncate(mark);
        Ok(())
    }

    /// Notes the fields of a message that are known.
    fn note(&mut self, fields: &[Noted], parts: &Parts, columns: &[Column]) -> Result<(), Fault> {
        match parts {
            Parts::Whole => self.note_part(fields, 0, self.bytes.len(), columns),
            Parts::Found(range) => {
                for at in range.clone() {
                    if let Some(Found { raw: Raw::Bytes { start, end }, .. }) = self.found.get(at).copied() {
                        self.note_part(fields, start, end, columns)?;
                    }
                }
                Ok(())
            }
        }
    }

    fn note_part(&mut self, fields: &[Noted], start: usize, end: usize, columns: &[Column]) -> Result<(), Fault> {
        let mut wire = Wire::new(self.bytes, start, end);
        while !wire.is_at_end() {
            let (number, raw) = wire.field()?;
            let Ok(noted) = fields.binary_search_by_key(&number, |field| field.number) else { continue };
            let field = &fields[noted];
            let is_packed = field.is_packable && matches!(raw, Some(Raw::Bytes { .. }));
            match raw.filter(|raw| is_packed || raw.wire_type() == field.wire_type) {
                Some(raw) => self.found.push(Found { noted, raw }),
                None => {
                    let column = field.column.and_then(|column| columns.get(column));
                    let fault = Fault::from(RejectReason::WrongType);
                    return Err(column.map_or(fault, |column| fault.at(column.number)));
                }
            }
        }
        Ok(())
    }

    /// Of the members of a `oneof` forgets all but what is written of the last one, after all others.
    fn keep_last_members(&mut self, fields: &[Noted], mark: usize) {
        // The last member of each, and whether another one is before it.
        let mut last: Vec<(usize, usize, bool)> = Vec::new();
        let mut kept: Vec<Found> = Vec::new();
        for found in self.found.drain(mark..).rev() {
            let Some(oneof) = fields.get(found.noted).and_then(|field| field.oneof) else {
                kept.push(found);
                continue;
            };
            match last.iter_mut().find(|(of, ..)| *of == oneof) {
                None => {
                    last.push((oneof, found.noted, false));
                    kept.push(found);
                }
                Some((_, member, is_closed)) => {
                    *is_closed |= *member != found.noted;
                    if !*is_closed {
                        kept.push(found);
                    }
                }
            }
        }
        self.found.extend(kept.into_iter().rev());
    }

    /// Puts what was found in the order of fields, that of one field as it came.
    fn sort(&mut self, mark: usize) {
        let found = &mut self.found[mark..];
        if !found.is_sorted_by_key(|found| found.noted) {
            found.sort_by_key(|found| found.noted);
        }
    }

    /// Where the values of a field are among what was found from `mark`.
    fn of(&self, noted: usize, mark: usize) -> Range<usize> {
        let found = &self.found[mark..];
        let start = found.partition_point(|found| found.noted < noted);
        let end = found.partition_point(|found| found.noted <= noted);
        mark + start..mark + end
    }

    fn column(&mut self, read: &ColumnRead, mark: usize, column: &mut Column, depth: usize) -> Result<(), Fault> {
        self.growth.add_value()?;
        let ColumnRead::Field { noted, read, absent } = read else {
            return self.missing(column);
        };
        let found = self.of(*noted, mark);
        if !found.is_empty() || matches!(read, Read::List(_) | Read::Map { .. }) {
            self.growth.add(column.width()).map_err(|reason| column.fault(reason))?;
            return self.value(read, found, column, depth);
        }
        // An empty text stands for no date.
        if *absent == Absent::Missing || matches!(read, Read::Value(Value::Parsed)) {
            return self.missing(column);
        }
        self.growth.add(column.width()).map_err(|reason| column.fault(reason))?;
        self.zero(read, column, depth)
    }

    fn missing(&mut self, column: &mut Column) -> Result<(), Fault> {
        let bytes = column.push_missing()?;
        self.growth.add(bytes).map_err(|reason| column.fault(reason))
    }

    fn zero(&mut self, read: &Read, column: &mut Column, depth: usize) -> Result<(), Fault> {
        match read {
            Read::Value(value) => {
                let raw = match value.wire_type() {
                    WireType::Varint => Raw::Varint(0),
                    WireType::Fixed64 => Raw::Fixed64(0),
                    WireType::Fixed32 => Raw::Fixed32(0),
                    WireType::Bytes => Raw::Bytes { start: 0, end: 0 },
                };
                self.plain(value, raw, column)
            }
            // Nothing is in it.
            nested => self.value(nested, 0..0, column, depth),
        }
    }

    /// Appends what was found of a field.
    fn value(&mut self, read: &Read, found: Range<usize>, column: &mut Column, depth: usize) -> Result<(), Fault> {
        match read {
            Read::Value(value) => {
                let (last, replaced) = self.found.get(found).and_then(<[Found]>::split_last).ok_or(INVALID)?;
                if matches!(value, Value::Text | Value::Parsed) {
                    let is_text = |found: &Found| self.is_text(found.raw);
                    if !replaced.iter().all(is_text) {
                        return Err(column.fault(RejectReason::InvalidUtf8));
                    }
                }
                let raw = last.raw;
                self.plain(value, raw, column)
            }
            Read::Timestamp => self.timestamp(found, column),
            Read::Wrapper(inner) => self.message(inner, &Parts::Found(found), std::slice::from_mut(column), depth + 1),
            Read::Message(inner) => {
                let is_built = column.is_built();
                let Values::Struct { children, rows, .. } = &mut column.values else {
                    return Err(column.fault(RejectReason::WrongType));
                };
                self.message(inner, &Parts::Found(found), children, depth + 1)?;
                *rows += usize::from(is_built);
                column.note_value();
                Ok(())
            }
            Read::List(item) => self.list(item, found, column, depth),
            Read::Map { key, entry } => self.map(key, entry, found, column, depth),
        }
    }

    fn plain(&mut self, value: &Value, raw: Raw, column: &mut Column) -> Result<(), Fault> {
        let pushed = match (value, raw) {
            (Value::Bool, Raw::Varint(number)) => column.push_bool(number != 0),
            (Value::Float, Raw::Fixed32(bits)) => column.push_float(f64::from(f32::from_bits(bits))),
            (Value::Double, Raw::Fixed64(bits)) => column.push_float(f64::from_bits(bits)),
            (Value::Bytes, Raw::Bytes { start, end }) => column.push_plain(self.slice(start, end)?),
            (Value::Text | Value::Parsed, Raw::Bytes { start, end }) => {
                let text = self.slice(start, end)?;
                simdutf8::basic::from_utf8(text).map_err(|_| column.fault(RejectReason::InvalidUtf8))?;
                if matches!(value, Value::Parsed) { column.push_text(text) } else { column.push_plain(text) }
            }
            (Value::Enum(names), Raw::Varint(number)) => {
                let number = low_half(number).cast_signed();
                let named = names.get_value(number);
                let text = named.as_ref().map_or_else(|| Cow::from(number.to_string()), |named| named.name().into());
                self.growth.add(text.len()).and_then(|()| column.push_plain(text.as_bytes()))
            }
            (value, raw) => match value.whole(raw) {
                Some(whole) => column.push_integer(whole),
                None => Err(INVALID),
            },
        };
        pushed.map_err(|reason| column.fault(reason))
    }

    fn timestamp(&mut self, found: Range<usize>, column: &mut Column) -> Result<(), Fault> {
        let mark = self.found.len();
        self.note(&TIMESTAMP, &Parts::Found(found), &[]).map_err(|fault| fault.at(column.number))?;
        self.sort(mark);
        let number = |noted: usize| {
            let last = self.of(noted, mark).next_back().and_then(|last| self.found.get(last));
            last.map_or(0, |found| match found.raw {
                Raw::Varint(number) => number.cast_signed(),
                _ => 0,
            })
        };
        let (seconds, nanos) = (number(0), low_half(number(1).cast_unsigned()).cast_signed());
        self.found.truncate(mark);
        let pushed = if (0..1_000_000_000).contains(&nanos) {
            column.push_time(i128::from(seconds) * 1_000_000_000 + i128::from(nanos), 9)
        } else {
            Err(RejectReason::OutOfRange)
        };
        pushed.map_err(|reason| column.fault(reason))
    }

    fn list(&mut self, item: &Read, found: Range<usize>, column: &mut Column, depth: usize) -> Result<(), Fault> {
        let (number, is_built) = (column.number, column.is_built());
        let Values::List { offsets, child, .. } = &mut column.values else {
            return Err(column.fault(RejectReason::WrongType));
        };
        let mut count = 0;
        for at in found {
            let raw = self.found.get(at).ok_or(INVALID)?.raw;
            match (item, raw) {
                (Read::Value(value), Raw::Bytes { start, end }) if value.wire_type() != WireType::Bytes => {
                    let mut packed = Wire::new(self.bytes, start, end);
                    while !packed.is_at_end() {
                        self.growth.add_value()?;
                        self.growth.add(child.width()).map_err(|reason| child.fault(reason))?;
                        let raw = packed.packed(value.wire_type())?;
                        self.plain(value, raw, child)?;
                        count += 1;
                    }
                }
                _ => {
                    self.growth.add_value()?;
                    self.growth.add(child.width()).map_err(|reason| child.fault(reason))?;
                    self.value(item, at..at + 1, child, depth + 1)?;
                    count += 1;
                }
            }
        }
        if is_built {
            push_end(offsets, count).map_err(|reason| Fault::from(reason).at(number))?;
        }
        column.note_value();
        Ok(())
    }

    fn map(
        &mut self,
        key: &Value,
        entry: &Message,
        found: Range<usize>,
        column: &mut Column,
        depth: usize,
    ) -> Result<(), Fault> {
        let (number, is_built) = (column.number, column.is_built());
        let Values::Map { offsets, key: keys, value: values, .. } = &mut column.values else {
            return Err(column.fault(RejectReason::WrongType));
        };
        // Of entries with one key the last counts; what it replaces must be well-formed all the same.
        let start = offsets.last().and_then(|start| usize::try_from(*start).ok()).unwrap_or(0);
        let mut kept = start;
        let mut last: HashMap<Vec<u8>, usize> = HashMap::new();
        for at in found.clone() {
            let mark = self.found.len();
            let text = self.entry_key(key, entry, at, keys).map_err(|fault| fault.at(number))?.into_owned();
            last.insert(text, at);
            self.found.truncate(mark);
        }
        for at in found {
            let mark = self.found.len();
            let text = self.entry_key(key, entry, at, keys).map_err(|fault| fault.at(number))?.into_owned();
            for read in &entry.columns {
                self.column(read, mark, values, depth + 1)?;
            }
            if last.get(&text) == Some(&at) {
                keys.push_plain(&text).map_err(|reason| keys.fault(reason))?;
                self.growth.add(text.len() + keys.width()).map_err(|reason| keys.fault(reason))?;
                kept += 1;
            } else {
                values.truncate(kept);
            }
            self.found.truncate(mark);
        }
        if is_built {
            push_end(offsets, kept - start).map_err(|reason| Fault::from(reason).at(number))?;
        }
        column.note_value();
        Ok(())
    }

    /// Notes the fields of an entry of a map, and says its key as text.
    fn entry_key(&mut self, key: &Value, entry: &Message, at: usize, keys: &Column) -> Result<Cow<'_, [u8]>, Fault> {
        self.growth.add_value()?;
        let mark = self.found.len();
        self.note(&entry.fields, &Parts::Found(at..at + 1), &[])?;
        self.sort(mark);
        let last = self.of(0, mark).next_back().and_then(|last| self.found.get(last));
        let raw = last.map(|found| found.raw);
        Ok(match (key, raw) {
            (Value::Text, None) => Cow::from(&b""[..]),
            (Value::Text, Some(Raw::Bytes { start, end })) => {
                let text = self.slice(start, end)?;
                simdutf8::basic::from_utf8(text).map_err(|_| keys.fault(RejectReason::InvalidUtf8))?;
                Cow::from(text)
            }
            (Value::Bool, raw) => {
                let is_true = matches!(raw, Some(Raw::Varint(number)) if number != 0);
                Cow::from(if is_true { &b"true"[..] } else { b"false" })
            }
            (_, None) => Cow::from(&b"0"[..]),
            (value, Some(raw)) => Cow::from(value.whole(raw).ok_or(INVALID)?.to_string().into_bytes()),
        })
    }

    fn is_text(&self, raw: Raw) -> bool {
        let Raw::Bytes { start, end } = raw else { return false };
        self.slice(start, end).is_ok_and(|text| simdutf8::basic::from_utf8(text).is_ok())
    }

    fn slice(&self, start: usize, end: usize) -> Result<&[u8], RejectReason> {
        self.bytes.get(start..end).ok_or(INVALID)
    }
}

impl Value {
    fn wire_type(&self) -> WireType {
        match self {
            Self::Double | Self::Sfixed64 | Self::Fixed64 => WireType::Fixed64,
            Self::Float | Self::Sfixed32 | Self::Fixed32 => WireType::Fixed32,
            Self::Text | Self::Parsed | Self::Bytes => WireType::Bytes,
            Self::Int32
            | Self::Int64
            | Self::Uint32
            | Self::Uint64
            | Self::Sint32
            | Self::Sint64
            | Self::Bool
            | Self::Enum(_) => WireType::Varint,
        }
    }

    /// A whole number; those of 32 bits may be written with more, of which the low ones count.
    fn whole(&self, raw: Raw) -> Option<i128> {
        Some(match (self, raw) {
            (Self::Int32, Raw::Varint(number)) => low_half(number).cast_signed().into(),
            (Self::Uint32, Raw::Varint(number)) => low_half(number).into(),
            (Self::Sint32, Raw::Varint(number)) => {
                let low = low_half(zigzag(u64::from(low_half(number))).cast_unsigned());
                low.cast_signed().into()
            }
            (Self::Int64, Raw::Varint(number)) => number.cast_signed().into(),
            (Self::Uint64, Raw::Varint(number)) => number.into(),
            (Self::Sint64, Raw::Varint(number)) => zigzag(number).into(),
            (Self::Sfixed32, Raw::Fixed32(number)) => number.cast_signed().into(),
            (Self::Fixed32, Raw::Fixed32(number)) => number.into(),
            (Self::Sfixed64, Raw::Fixed64(number)) => number.cast_signed().into(),
            (Self::Fixed64, Raw::Fixed64(number)) => number.into(),
            _ => return None,
        })
    }
}

fn low_half(number: u64) -> u32 {
    u32::try_from(number & u64::from(u32::MAX)).unwrap_or(u32::MAX)
}

fn push_end(offsets: &mut Vec<i32>, count: usize) -> Result<(), RejectReason> {
    let start = offsets.last().and_then(|start| usize::try_from(*start).ok()).unwrap_or(0);
    push_offset(offsets, start.saturating_add(count))
}
