//! Reading records: the bytes of a value, straight into columns (Avro specification 1.12, "Binary encoding").

use std::collections::HashSet;

use arrow::array::ArrayRef;
use arrow_schema::SchemaRef;
use bessemer_schemas::RejectReason;

use super::resolve::{Read, Resolver, Step, Steps};
use super::schema::{AvroSchema, AvroType, TypeId};
use crate::formats::growth::Growth;
use crate::formats::rows::{Contradiction, RowBuilder};
use crate::formats::text::column::{Column, Values, push_offset};
use crate::formats::text::fault::Fault;
use crate::formats::text::{FileFault, RecordFault, TimestampFormat};

/// Values within one another, at most; as in JSON.
const DEPTH_MAX: usize = 127;

/// Reads records that were written with one schema.
#[derive(Debug)]
pub struct AvroReader {
    schema: AvroSchema,
    steps: Steps,
}

impl AvroReader {
    /// A reader of records of `schema` into `columns`.
    ///
    /// # Errors
    /// The schema contradicts the columns.
    pub fn new(
        schema: AvroSchema,
        columns: &SchemaRef,
        defaults: &[Option<ArrayRef>],
        timestamp_format: &TimestampFormat,
    ) -> Result<Self, Contradiction> {
        let resolver = Resolver { schema: &schema, is_epoch: timestamp_format.is_epoch() };
        let steps = resolver.root(columns.fields(), defaults)?;
        Ok(Self { schema, steps })
    }

    /// Appends one record to `rows`, or says why it is none.
    pub fn read(&self, number: u64, datum: &[u8], rows: &mut RowBuilder) -> Result<Result<(), RecordFault>, FileFault> {
        rows.append(number, datum.len(), |columns| {
            let mut bytes = Datum { schema: &self.schema, bytes: datum, at: 0, growth: Growth::of(datum.len()) };
            bytes.record(&self.steps, columns, 0)?;
            if bytes.at == datum.len() { Ok(bytes.growth.bytes()) } else { Err(INVALID.into()) }
        })
    }
}

const INVALID: RejectReason = RejectReason::InvalidAvro;

/// The bytes of a record.
struct Datum<'a> {
    schema: &'a AvroSchema,
    bytes: &'a [u8],
    at: usize,
    growth: Growth,
}

impl<'a> Datum<'a> {
    fn record(&mut self, steps: &Steps, columns: &mut [Column], depth: usize) -> Result<(), Fault> {
        for step in &steps.fields {
            match step {
                Step::Skip(id) => self.skip(*id, depth + 1)?,
                Step::Read { column, read } => {
                    let column = columns.get_mut(*column).ok_or(INVALID)?;
                    self.value(read, column, depth + 1)?;
                }
            }
        }
        for column in &steps.missing {
            if let Some(column) = columns.get_mut(*column) {
                let bytes = column.push_missing()?;
                self.growth.add(bytes).map_err(|reason| column.fault(reason))?;
            }
        }
        Ok(())
    }

    fn value(&mut self, read: &Read, column: &mut Column, depth: usize) -> Result<(), Fault> {
        self.enter(depth)?;
        if !matches!(read, Read::Null | Read::Union(_)) {
            self.growth.add(column.width()).map_err(|reason| column.fault(reason))?;
        }
        let pushed = match read {
            Read::Null => {
                let bytes = column.push_null()?;
                self.growth.add(bytes)
            }
            Read::Union(branches) => {
                let branch = branches.get(self.index()?).ok_or(INVALID)?;
                let read = branch.as_ref().ok_or_else(|| column.fault(RejectReason::WrongType))?;
                return self.value(read, column, depth + 1);
            }
            Read::List(item) => return self.list(item, column, depth),
            Read::Map(value) => return self.map(value, column, depth),
            Read::Struct(steps) => return self.nested(steps, column, depth),
            Read::Boolean => column.push_bool(self.boolean()?),
            Read::Int => column.push_integer(i128::from(self.int()?)),
            Read::Long => column.push_integer(i128::from(self.long()?)),
            Read::Float => column.push_float(f64::from(f32::from_le_bytes(self.array()?))),
            Read::Double => column.push_float(f64::from_le_bytes(self.array()?)),
            Read::Bytes => column.push_plain(self.sized()?),
            Read::Text => column.push_plain(utf8(self.sized()?).map_err(|reason| column.fault(reason))?),
            Read::Parsed => column.push_text(utf8(self.sized()?).map_err(|reason| column.fault(reason))?),
            Read::Fixed(size) => column.push_plain(self.take(*size)?),
            Read::Uuid => {
                let text = hyphenated(self.array()?);
                self.growth.add(text.len()).and_then(|()| column.push_plain(text.as_bytes()))
            }
            Read::Decimal { scale, size } => {
                let digits = match size {
                    Some(size) => self.take(*size)?,
                    None => self.sized()?,
                };
                whole(digits).and_then(|value| column.push_unscaled(value, *scale))
            }
            Read::Date => column.push_days(self.int()?),
            Read::Time { digits: 3 } => column.push_time(i128::from(self.int()?), 3),
            Read::Time { digits } | Read::Timestamp { digits } => column.push_time(i128::from(self.long()?), *digits),
            Read::Enum(symbols) => {
                let symbol = symbols.get(self.index()?).ok_or(INVALID)?;
                self.growth.add(symbol.len()).and_then(|()| column.push_plain(symbol.as_bytes()))
            }
        };
        pushed.map_err(|reason| column.fault(reason))
    }

    fn nested(&mut self, steps: &Steps, column: &mut Column, depth: usize) -> Result<(), Fault> {
        let is_built = column.is_built();
        let Values::Struct { children, rows, .. } = &mut column.values else {
            return Err(column.fault(RejectReason::WrongType));
        };
        self.record(steps, children, depth)?;
        *rows += usize::from(is_built);
        column.note_value();
        Ok(())
    }

    fn list(&mut self, item: &Read, column: &mut Column, depth: usize) -> Result<(), Fault> {
        let (number, is_built) = (column.number, column.is_built());
        let Values::List { offsets, child, .. } = &mut column.values else {
            return Err(column.fault(RejectReason::WrongType));
        };
        let mut count = 0;
        self.blocks(|datum| {
            count += 1;
            datum.value(item, child, depth + 1)
        })?;
        if is_built {
            push_end(offsets, count).map_err(|reason| Fault::from(reason).at(number))?;
        }
        column.note_value();
        Ok(())
    }

    fn map(&mut self, read: &Read, column: &mut Column, depth: usize) -> Result<(), Fault> {
        let (number, is_built) = (column.number, column.is_built());
        let Values::Map { offsets, key, value, .. } = &mut column.values else {
            return Err(column.fault(RejectReason::WrongType));
        };
        let mut names = HashSet::new();
        self.blocks(|datum| {
            let name = utf8(datum.sized()?).map_err(|reason| key.fault(reason))?;
            if !names.insert(name) {
                return Err(RejectReason::DuplicateKey.into());
            }
            key.push_plain(name).map_err(|reason| key.fault(reason))?;
            datum.value(read, value, depth + 1)
        })?;
        if is_built {
            push_end(offsets, names.len()).map_err(|reason| Fault::from(reason).at(number))?;
        }
        column.note_value();
        Ok(())
    }

    /// Reads the items of an array or a map.
    fn blocks(&mut self, mut item: impl FnMut(&mut Self) -> Result<(), Fault>) -> Result<(), Fault> {
        loop {
            let count = self.long()?;
            if count < 0 {
                // The size of the block follows, for those who pass over it.
                usize::try_from(self.long()?).map_err(|_| INVALID)?;
            }
            if count == 0 {
                return Ok(());
            }
            for _ in 0..count.unsigned_abs() {
                item(self)?;
            }
        }
    }

    /// Passes over a value that no column takes; it must be well-formed all the same.
    fn skip(&mut self, id: TypeId, depth: usize) -> Result<(), Fault> {
        self.enter(depth)?;
        let schema = self.schema;
        match schema.get(id) {
            AvroType::Null => {}
            AvroType::Boolean => drop(self.boolean()?),
            AvroType::Int | AvroType::Date | AvroType::Time { digits: 3 } => drop(self.int()?),
            AvroType::Long | AvroType::Time { .. } | AvroType::Timestamp { .. } => drop(self.long()?),
            AvroType::Float => drop(self.take(4)?),
            AvroType::Double => drop(self.take(8)?),
            AvroType::Bytes | AvroType::Decimal { size: None, .. } => drop(self.sized()?),
            AvroType::String | AvroType::Uuid { is_text: true } => drop(utf8(self.sized()?)?),
            AvroType::Uuid { is_text: false } => drop(self.take(16)?),
            AvroType::Fixed { size } | AvroType::Decimal { size: Some(size), .. } => drop(self.take(*size)?),
            AvroType::Enum { symbols } => drop(symbols.get(self.index()?).ok_or(INVALID)?),
            AvroType::Array { items } => self.blocks(|datum| datum.skip(*items, depth + 1))?,
            AvroType::Map { values } => self.blocks(|datum| {
                utf8(datum.sized()?)?;
                datum.skip(*values, depth + 1)
            })?,
            AvroType::Union { branches } => {
                let branch = *branches.get(self.index()?).ok_or(INVALID)?;
                self.skip(branch, depth + 1)?;
            }
            AvroType::Record { fields, .. } => {
                for field in fields {
                    self.skip(field.type_id, depth + 1)?;
                }
            }
        }
        Ok(())
    }

    fn enter(&mut self, depth: usize) -> Result<(), RejectReason> {
        self.growth.add_value()?;
        if depth > DEPTH_MAX { Err(INVALID) } else { Ok(()) }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], RejectReason> {
        let end = self.at.checked_add(length).ok_or(INVALID)?;
        let taken = self.bytes.get(self.at..end).ok_or(INVALID)?;
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], RejectReason> {
        self.take(N)?.try_into().map_err(|_| INVALID)
    }

    fn boolean(&mut self) -> Result<bool, RejectReason> {
        match self.take(1)? {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(INVALID),
        }
    }

    fn int(&mut self) -> Result<i32, RejectReason> {
        i32::try_from(self.long()?).map_err(|_| INVALID)
    }

    /// A zigzag number of variable length: at most ten bytes, of the last of which one bit counts.
    #[inline]
    fn long(&mut self) -> Result<i64, RejectReason> {
        let mut number = 0_u64;
        for (at, byte) in self.bytes.get(self.at..).unwrap_or_default().iter().enumerate().take(10) {
            if at == 9 && *byte > 1 {
                break;
            }
            number |= u64::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                self.at += at + 1;
                return Ok((number >> 1).cast_signed() ^ -(number & 1).cast_signed());
            }
        }
        Err(INVALID)
    }

    fn index(&mut self) -> Result<usize, RejectReason> {
        usize::try_from(self.long()?).map_err(|_| INVALID)
    }

    fn sized(&mut self) -> Result<&'a [u8], RejectReason> {
        let length = self.index()?;
        self.take(length)
    }
}

fn utf8(bytes: &[u8]) -> Result<&[u8], RejectReason> {
    match simdutf8::basic::from_utf8(bytes) {
        Ok(_) => Ok(bytes),
        Err(_) => Err(RejectReason::InvalidUtf8),
    }
}

/// A two's complement number, its highest byte first; beyond 128 bits only the sign may follow.
fn whole(bytes: &[u8]) -> Result<i128, RejectReason> {
    let fill = match bytes.first() {
        None => return Err(INVALID),
        Some(first) if first & 0x80 != 0 => 0xff,
        Some(_) => 0,
    };
    let (sign, low) = bytes.split_at(bytes.len().saturating_sub(16));
    let mut number = [fill; 16];
    number[16 - low.len()..].copy_from_slice(low);
    let number = i128::from_be_bytes(number);
    if sign.iter().all(|byte| *byte == fill) && (number < 0) == (fill == 0xff) {
        Ok(number)
    } else {
        Err(RejectReason::OutOfRange)
    }
}

fn push_end(offsets: &mut Vec<i32>, count: usize) -> Result<(), RejectReason> {
    let start = offsets.last().and_then(|start| usize::try_from(*start).ok()).unwrap_or(0);
    push_offset(offsets, start.saturating_add(count))
}

/// As RFC 9562 writes it.
fn hyphenated(bytes: [u8; 16]) -> String {
    let mut text = String::with_capacity(36);
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        for digit in [byte >> 4, byte & 0xf] {
            text.push(char::from_digit(u32::from(digit), 16).unwrap_or('0'));
        }
    }
    text
}
