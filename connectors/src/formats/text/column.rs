//! A column while it is being built: typed buffers that can be cut back to the last good row.

use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::types::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    Time64MicrosecondType, Time64NanosecondType, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow::array::{Array, ArrayRef, BooleanBufferBuilder, NullBufferBuilder};
use arrow_schema::{DataType, Field, FieldRef, Fields, TimeUnit};
use bessemer_schemas::RejectReason;

use super::fault::{ColumnNumber, Fault};
use super::json::Names;
use super::number::Number;
use super::options::TimestampText;
use super::{base64, time};
use crate::{Error, Result};

mod finish;
mod make;
#[cfg(feature = "kafka")]
mod push;

pub(in crate::formats) use make::ColumnMaker;

const MICROS_PER_DAY: i64 = 86_400_000_000;

/// One declared column: checks every value, and builds an array of them if it is read.
#[derive(Debug)]
pub(in crate::formats) struct Column {
    pub(in crate::formats) number: ColumnNumber,
    nullable: bool,
    /// Whether the query reads it; otherwise its values are checked and forgotten.
    is_built: bool,
    /// Whether it takes dates and times as numbers beside texts, as Debezium writes them.
    is_change: bool,
    nulls: NullBufferBuilder,
    /// Bytes that a null takes: one of a struct is one of all that is in it.
    null_bytes: usize,
    pub(in crate::formats) values: Values,
    default: Option<ArrayRef>,
}

/// The values of a column, by how they are held.
#[derive(Debug)]
pub(in crate::formats) enum Values {
    Bool(BooleanBufferBuilder),
    Int8(Vec<i8>),
    Int16(Vec<i16>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    UInt8(Vec<u8>),
    UInt16(Vec<u16>),
    UInt32(Vec<u32>),
    UInt64(Vec<u64>),
    Float32(Vec<f32>),
    Float64(Vec<f64>),
    Decimal { values: Vec<i128>, precision: u8, scale: i8 },
    Date(Vec<i32>),
    Time { values: Vec<i64>, unit: TimeUnit },
    Timestamp { values: Vec<i64>, unit: TimeUnit, zone: Option<Arc<str>>, text: TimestampText },
    Bytes { bytes: Vec<u8>, offsets: Vec<i32>, form: BytesForm },
    List { offsets: Vec<i32>, field: FieldRef, child: Box<Column> },
    Struct { fields: Fields, names: Names, children: Vec<Column>, rows: usize },
    Map { offsets: Vec<i32>, entries: FieldRef, is_sorted: bool, key: Box<Column>, value: Box<Column> },
}

impl Values {
    fn width(&self) -> usize {
        if matches!(self, Self::Decimal { .. }) { 16 } else { 8 }
    }

    fn null_bytes(&self) -> usize {
        let inner = match self {
            Self::Struct { children, .. } => children.iter().map(|child| child.null_bytes).sum(),
            _ => 0,
        };
        self.width() + inner
    }
}

/// What the bytes are, and which array they become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::formats) enum BytesForm {
    Utf8,
    LargeUtf8,
    Utf8View,
    /// Any JSON value, as its text.
    Json,
    Binary,
    LargeBinary,
    BinaryView,
}

impl BytesForm {
    fn is_binary(self) -> bool {
        matches!(self, Self::Binary | Self::LargeBinary | Self::BinaryView)
    }
}

impl Column {
    /// The value where the field is missing: an array of one value.
    pub(in crate::formats) fn set_default(&mut self, default: ArrayRef, field: &Field) -> Result<()> {
        let is_null = default.len() == 1 && default.is_null(0);
        let is_plain = default.len() == 1 && !default.data_type().is_nested();
        if !is_null && (!is_plain || default.data_type() != field.data_type()) {
            let message = format!("`DEFAULT` of column `{}` is not one plain value of its type", field.name());
            return Err(Error::Invalid { message });
        }
        self.default = Some(default);
        Ok(())
    }

    /// Whether a missing field has a value.
    pub(in crate::formats) fn may_be_missing(&self) -> bool {
        self.nullable || self.default.is_some()
    }

    pub(in crate::formats) fn is_built(&self) -> bool {
        self.is_built
    }

    /// Whether text is a value of its own, so that only an unquoted empty field is null in CSV.
    pub(in crate::formats) fn is_text(&self) -> bool {
        matches!(&self.values, Values::Bytes { form, .. } if !form.is_binary())
    }

    pub(in crate::formats) fn fault(&self, reason: RejectReason) -> Fault {
        Fault::from(reason).at(self.number)
    }

    /// Bytes that a value of it takes beside those of its text or of what it holds, about, where it is built.
    #[cfg(feature = "kafka")]
    #[inline]
    pub(in crate::formats) fn width(&self) -> usize {
        self.values.width()
    }

    /// Appends what a missing field means; also says how many bytes that takes where the column is built.
    pub(in crate::formats) fn push_missing(&mut self) -> Result<usize, Fault> {
        let Some(default) = self.default.clone().filter(|default| default.is_valid(0)) else {
            return self.push_null();
        };
        if self.is_built {
            self.push_default(&default).map_err(|reason| self.fault(reason))?;
        }
        Ok(default.get_buffer_memory_size())
    }

    /// Appends null, if the column may be null; also says how many bytes that takes where the column is built.
    #[inline]
    pub(in crate::formats) fn push_null(&mut self) -> Result<usize, Fault> {
        if !self.nullable {
            return Err(self.fault(RejectReason::NullInNotNull));
        }
        self.push_nothing();
        Ok(self.null_bytes)
    }

    /// Appends null, whether the column may be null or not: its parent is null.
    fn push_nothing(&mut self) {
        if !self.is_built {
            return;
        }
        self.nulls.append_null();
        match &mut self.values {
            Values::Bool(values) => values.append(false),
            Values::Int8(values) => values.push(0),
            Values::Int16(values) => values.push(0),
            Values::Int32(values) | Values::Date(values) => values.push(0),
            Values::Int64(values) | Values::Time { values, .. } | Values::Timestamp { values, .. } => values.push(0),
            Values::UInt8(values) => values.push(0),
            Values::UInt16(values) => values.push(0),
            Values::UInt32(values) => values.push(0),
            Values::UInt64(values) => values.push(0),
            Values::Float32(values) => values.push(0.0),
            Values::Float64(values) => values.push(0.0),
            Values::Decimal { values, .. } => values.push(0),
            Values::Bytes { offsets, .. } | Values::List { offsets, .. } | Values::Map { offsets, .. } => {
                offsets.push(offsets.last().copied().unwrap_or(0));
            }
            Values::Struct { children, rows, .. } => {
                children.iter_mut().for_each(Self::push_nothing);
                *rows += 1;
            }
        }
    }

    /// The time that was appended last, in the column's unit (days for a date); `None` if it is null.
    pub(in crate::formats) fn last_time(&self) -> Option<i64> {
        let (count, last) = match &self.values {
            Values::Timestamp { values, .. } => (values.len(), values.last().copied()),
            Values::Date(values) => (values.len(), values.last().copied().map(i64::from)),
            _ => (0, None),
        };
        last.filter(|_| self.nulls.is_valid(count - 1))
    }

    /// The last time in the column's unit that is not after `micros` (since 1970, UTC); `None` if it holds no times.
    pub(in crate::formats) fn last_time_until(&self, micros: i64) -> Option<i64> {
        match &self.values {
            Values::Timestamp { unit, .. } => {
                let scaled = (i128::from(micros) * 10_i128.pow(digits(*unit))).div_euclid(1_000_000);
                Some(i64::try_from(scaled).unwrap_or(if scaled > 0 { i64::MAX } else { i64::MIN }))
            }
            Values::Date(_) => Some(micros.div_euclid(MICROS_PER_DAY)),
            _ => None,
        }
    }

    /// The first time in the column's unit that is not before `micros` (since 1970, UTC), which the unit may not be able to
    /// hold; `None` if it holds no times.
    pub(in crate::formats) fn first_time_from(&self, micros: i64) -> Option<i128> {
        let micros = i128::from(micros);
        let ceil = |per_time: i128| -(-micros).div_euclid(per_time);
        match &self.values {
            Values::Timestamp { unit: TimeUnit::Nanosecond, .. } => Some(micros * 1_000),
            Values::Timestamp { unit, .. } => Some(ceil(1_000_000 / 10_i128.pow(digits(*unit)))),
            Values::Date(_) => Some(ceil(i128::from(MICROS_PER_DAY))),
            _ => None,
        }
    }

    /// A time in the column's unit, in microseconds since 1970, UTC, rounded down.
    pub(in crate::formats) fn time_micros(&self, time: i64) -> i64 {
        match &self.values {
            Values::Timestamp { unit: TimeUnit::Nanosecond, .. } => time.div_euclid(1_000),
            Values::Timestamp { unit, .. } => time.saturating_mul(1_000_000 / 10_i64.pow(digits(*unit))),
            _ => time.saturating_mul(MICROS_PER_DAY),
        }
    }

    /// Marks the value that was just appended as there.
    #[inline]
    pub(in crate::formats) fn note_value(&mut self) {
        if self.is_built {
            self.nulls.append_non_null();
        }
    }

    pub(in crate::formats) fn push_bool(&mut self, value: bool) -> Result<(), RejectReason> {
        let Values::Bool(values) = &mut self.values else { return Err(RejectReason::WrongType) };
        if self.is_built {
            values.append(value);
            self.nulls.append_non_null();
        }
        Ok(())
    }

    /// Appends a number, where the column takes numbers.
    #[inline]
    pub(super) fn push_number(&mut self, number: Number<'_>) -> Result<(), RejectReason> {
        let (is_built, is_change) = (self.is_built, self.is_change);
        match &mut self.values {
            Values::Date(values) if is_change => push_whole(values, number, is_built),
            Values::Int64(values) => push_whole(values, number, is_built),
            Values::Float64(values) => push_finite(values, number.to_f64(), f64::is_finite, is_built),
            Values::Int32(values) => push_whole(values, number, is_built),
            Values::Int8(values) => push_whole(values, number, is_built),
            Values::Int16(values) => push_whole(values, number, is_built),
            Values::UInt8(values) => push_whole(values, number, is_built),
            Values::UInt16(values) => push_whole(values, number, is_built),
            Values::UInt32(values) => push_whole(values, number, is_built),
            Values::UInt64(values) => push_whole(values, number, is_built),
            Values::Float32(values) => push_finite(values, number.to_f32(), f32::is_finite, is_built),
            Values::Decimal { values, precision, scale } => {
                let value = decimal(number, *precision, *scale)?;
                push_if(values, value, is_built);
                Ok(())
            }
            Values::Timestamp { values, unit, text: TimestampText::Epoch(epoch), .. } => {
                let scale = i64::from(digits(*unit)) - i64::from(digits(*epoch));
                let value = number.scaled(scale).map_err(|_| RejectReason::OutOfRange)?;
                push_if(values, i64::try_from(value).map_err(|_| RejectReason::OutOfRange)?, is_built);
                Ok(())
            }
            _ => Err(RejectReason::WrongType),
        }?;
        self.note_value();
        Ok(())
    }

    /// Appends what UTF-8 text stands for, where the column takes text.
    #[inline]
    pub(in crate::formats) fn push_text(&mut self, text: &[u8]) -> Result<(), RejectReason> {
        let (is_built, is_change) = (self.is_built, self.is_change);
        match &mut self.values {
            Values::Bytes { bytes, offsets, form } => push_bytes(bytes, offsets, *form, text, is_built)?,
            Values::Timestamp { values, unit, text: format, .. } => {
                let value = match format {
                    TimestampText::Iso => time::timestamp(text, digits(*unit)),
                    TimestampText::Pattern(pattern) => pattern.timestamp(text, digits(*unit)),
                    TimestampText::Epoch(_) if is_change => time::timestamp(text, digits(*unit)),
                    TimestampText::Epoch(_) => Err(RejectReason::WrongType),
                }?;
                push_if(values, value, is_built);
            }
            Values::Date(values) => push_if(values, time::date(text)?, is_built),
            Values::Time { values, unit } => push_if(values, time::time_of_day(text, digits(*unit))?, is_built),
            Values::Decimal { values, precision, scale } => {
                let number = Number::from_text(text).ok_or(RejectReason::WrongType)?;
                push_if(values, decimal(number, *precision, *scale)?, is_built);
            }
            _ => return Err(RejectReason::WrongType),
        }
        self.note_value();
        Ok(())
    }

    /// Takes numbers as milliseconds since 1970, UTC.
    pub(super) fn take_millis(&mut self) {
        if let Values::Timestamp { text, .. } = &mut self.values {
            *text = TimestampText::Epoch(TimeUnit::Millisecond);
        }
    }

    /// Appends a JSON value as its text, where the column takes any.
    pub(in crate::formats) fn push_raw(&mut self, text: &[u8]) -> Result<(), RejectReason> {
        let Values::Bytes { bytes, offsets, form: BytesForm::Json } = &mut self.values else {
            return Err(RejectReason::WrongType);
        };
        push_bytes(bytes, offsets, BytesForm::Json, text, self.is_built)?;
        self.note_value();
        Ok(())
    }

    /// Whether it takes any JSON value.
    #[inline]
    pub(in crate::formats) fn is_raw(&self) -> bool {
        matches!(self.values, Values::Bytes { form: BytesForm::Json, .. })
    }

    fn push_default(&mut self, default: &ArrayRef) -> Result<(), RejectReason> {
        macro_rules! value {
            ($type:ty) => {
                default.as_primitive_opt::<$type>().ok_or(RejectReason::WrongType)?.value(0)
            };
        }
        match &mut self.values {
            Values::Bool(values) => values.append(default.as_boolean_opt().ok_or(RejectReason::WrongType)?.value(0)),
            Values::Int8(values) => values.push(value!(Int8Type)),
            Values::Int16(values) => values.push(value!(Int16Type)),
            Values::Int32(values) => values.push(value!(Int32Type)),
            Values::Int64(values) => values.push(value!(Int64Type)),
            Values::UInt8(values) => values.push(value!(UInt8Type)),
            Values::UInt16(values) => values.push(value!(UInt16Type)),
            Values::UInt32(values) => values.push(value!(UInt32Type)),
            Values::UInt64(values) => values.push(value!(UInt64Type)),
            Values::Float32(values) => values.push(value!(Float32Type)),
            Values::Float64(values) => values.push(value!(Float64Type)),
            Values::Decimal { values, .. } => values.push(value!(Decimal128Type)),
            Values::Date(values) => values.push(value!(Date32Type)),
            Values::Time { values, unit: TimeUnit::Nanosecond } => values.push(value!(Time64NanosecondType)),
            Values::Time { values, .. } => values.push(value!(Time64MicrosecondType)),
            Values::Timestamp { values, unit, .. } => values.push(match unit {
                TimeUnit::Second => value!(TimestampSecondType),
                TimeUnit::Millisecond => value!(TimestampMillisecondType),
                TimeUnit::Microsecond => value!(TimestampMicrosecondType),
                TimeUnit::Nanosecond => value!(TimestampNanosecondType),
            }),
            Values::Bytes { bytes, offsets, .. } => {
                bytes.extend_from_slice(bytes_of(default).ok_or(RejectReason::WrongType)?);
                push_offset(offsets, bytes.len())?;
            }
            Values::List { .. } | Values::Struct { .. } | Values::Map { .. } => return Err(RejectReason::WrongType),
        }
        self.note_value();
        Ok(())
    }

    /// Forgets everything after the first `rows` values.
    pub(in crate::formats) fn truncate(&mut self, rows: usize) {
        if !self.is_built {
            return;
        }
        self.nulls.truncate(rows);
        match &mut self.values {
            Values::Bool(values) => values.truncate(rows),
            Values::Int8(values) => values.truncate(rows),
            Values::Int16(values) => values.truncate(rows),
            Values::Int32(values) | Values::Date(values) => values.truncate(rows),
            Values::Int64(values) | Values::Time { values, .. } | Values::Timestamp { values, .. } => {
                values.truncate(rows);
            }
            Values::UInt8(values) => values.truncate(rows),
            Values::UInt16(values) => values.truncate(rows),
            Values::UInt32(values) => values.truncate(rows),
            Values::UInt64(values) => values.truncate(rows),
            Values::Float32(values) => values.truncate(rows),
            Values::Float64(values) => values.truncate(rows),
            Values::Decimal { values, .. } => values.truncate(rows),
            Values::Bytes { bytes, offsets, .. } => bytes.truncate(cut(offsets, rows)),
            Values::List { offsets, child, .. } => child.truncate(cut(offsets, rows)),
            Values::Struct { children, rows: count, .. } => {
                for child in children {
                    child.truncate(rows);
                }
                *count = rows.min(*count);
            }
            Values::Map { offsets, key, value, .. } => {
                let entries = cut(offsets, rows);
                key.truncate(entries);
                value.truncate(entries);
            }
        }
    }
}

/// Cuts `offsets` to `rows` values and says where the last one ends.
fn cut(offsets: &mut Vec<i32>, rows: usize) -> usize {
    offsets.truncate(rows + 1);
    offsets.last().and_then(|end| usize::try_from(*end).ok()).unwrap_or(0)
}

/// Appends the end of a value. Batches are cut long before 31 bits are full, save by a record that alone fills them.
#[inline]
pub(in crate::formats) fn push_offset(offsets: &mut Vec<i32>, end: usize) -> Result<(), RejectReason> {
    offsets.push(i32::try_from(end).map_err(|_| RejectReason::RecordTooLong)?);
    Ok(())
}

#[inline]
fn push_if<T>(values: &mut Vec<T>, value: T, is_built: bool) {
    if is_built {
        values.push(value);
    }
}

#[inline]
fn push_whole<T: TryFrom<i128>>(values: &mut Vec<T>, number: Number<'_>, is_built: bool) -> Result<(), RejectReason> {
    let value = T::try_from(number.whole()?).map_err(|_| RejectReason::OutOfRange)?;
    push_if(values, value, is_built);
    Ok(())
}

#[inline]
fn push_finite<T: Copy>(
    values: &mut Vec<T>,
    value: T,
    is_finite: impl Fn(T) -> bool,
    is_built: bool,
) -> Result<(), RejectReason> {
    if !is_finite(value) {
        return Err(RejectReason::OutOfRange);
    }
    push_if(values, value, is_built);
    Ok(())
}

#[inline]
fn push_bytes(
    bytes: &mut Vec<u8>,
    offsets: &mut Vec<i32>,
    form: BytesForm,
    text: &[u8],
    is_built: bool,
) -> Result<(), RejectReason> {
    if form.is_binary() {
        let start = bytes.len();
        base64::decode(text, bytes).ok_or(RejectReason::WrongType)?;
        if !is_built {
            bytes.truncate(start);
        }
    } else if is_built {
        bytes.extend_from_slice(text);
    }
    if is_built { push_offset(offsets, bytes.len()) } else { Ok(()) }
}

fn decimal(number: Number<'_>, precision: u8, scale: i8) -> Result<i128, RejectReason> {
    let value = number.scaled(i64::from(scale)).map_err(|_| RejectReason::OutOfRange)?;
    // A precision of 38 digits or fewer: its power of ten fits.
    let limit = 10_i128.checked_pow(u32::from(precision)).unwrap_or(i128::MAX);
    if value.abs() < limit { Ok(value) } else { Err(RejectReason::OutOfRange) }
}

fn bytes_of(array: &ArrayRef) -> Option<&[u8]> {
    match array.data_type() {
        DataType::Utf8 => array.as_string_opt::<i32>().map(|array| array.value(0).as_bytes()),
        DataType::LargeUtf8 => array.as_string_opt::<i64>().map(|array| array.value(0).as_bytes()),
        DataType::Utf8View => array.as_string_view_opt().map(|array| array.value(0).as_bytes()),
        DataType::Binary => array.as_binary_opt::<i32>().map(|array| array.value(0)),
        DataType::LargeBinary => array.as_binary_opt::<i64>().map(|array| array.value(0)),
        DataType::BinaryView => array.as_binary_view_opt().map(|array| array.value(0)),
        _ => None,
    }
}

/// Digits after the point of a number of seconds in `unit`s.
fn digits(unit: TimeUnit) -> u32 {
    match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 3,
        TimeUnit::Microsecond => 6,
        TimeUnit::Nanosecond => 9,
    }
}
