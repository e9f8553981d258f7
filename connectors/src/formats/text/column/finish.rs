//! From a column's buffers to an array, without copying them.

use std::mem::take;
use std::sync::Arc;

use arrow::array::builder::make_view;
use arrow::array::types::{
    ArrowPrimitiveType, Date32Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    Time64MicrosecondType, Time64NanosecondType, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow::array::{
    ArrayRef, BinaryArray, BinaryViewArray, BooleanArray, Decimal128Array, LargeBinaryArray, LargeStringArray,
    ListArray, MapArray, PrimitiveArray, StringArray, StringViewArray, StructArray,
};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::{ArrowError, DataType, TimeUnit};

use super::{BytesForm, Column, Values};

type Result<T> = std::result::Result<T, ArrowError>;

impl Column {
    /// The values so far as an array; the column is empty afterwards.
    pub(in crate::formats) fn finish(&mut self) -> Result<ArrayRef> {
        let nulls = self.nulls.finish();
        match &mut self.values {
            Values::Bool(values) => Ok(Arc::new(BooleanArray::new(values.finish(), nulls))),
            Values::Int8(values) => primitive::<Int8Type>(values, nulls),
            Values::Int16(values) => primitive::<Int16Type>(values, nulls),
            Values::Int32(values) => primitive::<Int32Type>(values, nulls),
            Values::Int64(values) => primitive::<Int64Type>(values, nulls),
            Values::UInt8(values) => primitive::<UInt8Type>(values, nulls),
            Values::UInt16(values) => primitive::<UInt16Type>(values, nulls),
            Values::UInt32(values) => primitive::<UInt32Type>(values, nulls),
            Values::UInt64(values) => primitive::<UInt64Type>(values, nulls),
            Values::Float32(values) => primitive::<Float32Type>(values, nulls),
            Values::Float64(values) => primitive::<Float64Type>(values, nulls),
            Values::Decimal { values, precision, scale } => {
                let array = Decimal128Array::try_new(ScalarBuffer::from(renew(values)), nulls)?;
                Ok(Arc::new(array.with_precision_and_scale(*precision, *scale)?))
            }
            Values::Date(values) => primitive::<Date32Type>(values, nulls),
            Values::Time { values, unit: TimeUnit::Nanosecond } => primitive::<Time64NanosecondType>(values, nulls),
            Values::Time { values, .. } => primitive::<Time64MicrosecondType>(values, nulls),
            Values::Timestamp { values, unit, zone, .. } => timestamps(values, *unit, zone.clone(), nulls),
            Values::Bytes { bytes, offsets, form } => bytes_array(*form, renew(bytes), renew_offsets(offsets), nulls),
            Values::List { offsets, field, child } => {
                let offsets = OffsetBuffer::new(renew_offsets(offsets).into());
                Ok(Arc::new(ListArray::try_new(Arc::clone(field), offsets, child.finish()?, nulls)?))
            }
            Values::Struct { fields, children, rows, .. } => {
                let arrays = children.iter_mut().map(Self::finish).collect::<Result<Vec<_>>>()?;
                let rows = take(rows);
                Ok(Arc::new(StructArray::try_new_with_length(fields.clone(), arrays, nulls, rows)?))
            }
            Values::Map { offsets, entries, is_sorted, key, value } => {
                let offsets = OffsetBuffer::new(renew_offsets(offsets).into());
                let DataType::Struct(fields) = entries.data_type() else {
                    return Err(ArrowError::InvalidArgumentError("a map without entries".to_owned()));
                };
                let pairs = StructArray::try_new(fields.clone(), vec![key.finish()?, value.finish()?], None)?;
                Ok(Arc::new(MapArray::try_new(Arc::clone(entries), offsets, pairs, nulls, *is_sorted)?))
            }
        }
    }
}

/// Takes the values, and makes room for as many again.
fn renew<T>(values: &mut Vec<T>) -> Vec<T> {
    let room = Vec::with_capacity(values.len());
    std::mem::replace(values, room)
}

fn renew_offsets(offsets: &mut Vec<i32>) -> Vec<i32> {
    let taken = renew(offsets);
    offsets.push(0);
    taken
}

fn primitive<T: ArrowPrimitiveType>(values: &mut Vec<T::Native>, nulls: Option<NullBuffer>) -> Result<ArrayRef> {
    Ok(Arc::new(PrimitiveArray::<T>::try_new(ScalarBuffer::from(renew(values)), nulls)?))
}

fn timestamps(
    values: &mut Vec<i64>,
    unit: TimeUnit,
    zone: Option<Arc<str>>,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef> {
    let values = ScalarBuffer::from(renew(values));
    Ok(match unit {
        TimeUnit::Second => {
            Arc::new(PrimitiveArray::<TimestampSecondType>::try_new(values, nulls)?.with_timezone_opt(zone))
        }
        TimeUnit::Millisecond => {
            Arc::new(PrimitiveArray::<TimestampMillisecondType>::try_new(values, nulls)?.with_timezone_opt(zone))
        }
        TimeUnit::Microsecond => {
            Arc::new(PrimitiveArray::<TimestampMicrosecondType>::try_new(values, nulls)?.with_timezone_opt(zone))
        }
        TimeUnit::Nanosecond => {
            Arc::new(PrimitiveArray::<TimestampNanosecondType>::try_new(values, nulls)?.with_timezone_opt(zone))
        }
    })
}

fn bytes_array(form: BytesForm, bytes: Vec<u8>, offsets: Vec<i32>, nulls: Option<NullBuffer>) -> Result<ArrayRef> {
    let long = |offsets: Vec<i32>| OffsetBuffer::new(offsets.into_iter().map(i64::from).collect());
    Ok(match form {
        BytesForm::Utf8 | BytesForm::Json => {
            Arc::new(StringArray::try_new(OffsetBuffer::new(offsets.into()), Buffer::from_vec(bytes), nulls)?)
        }
        BytesForm::LargeUtf8 => Arc::new(LargeStringArray::try_new(long(offsets), Buffer::from_vec(bytes), nulls)?),
        BytesForm::Utf8View => {
            Arc::new(StringViewArray::try_new(views(&bytes, &offsets), vec![Buffer::from_vec(bytes)], nulls)?)
        }
        BytesForm::Binary => {
            Arc::new(BinaryArray::try_new(OffsetBuffer::new(offsets.into()), Buffer::from_vec(bytes), nulls)?)
        }
        BytesForm::LargeBinary => Arc::new(LargeBinaryArray::try_new(long(offsets), Buffer::from_vec(bytes), nulls)?),
        BytesForm::BinaryView => {
            Arc::new(BinaryViewArray::try_new(views(&bytes, &offsets), vec![Buffer::from_vec(bytes)], nulls)?)
        }
    })
}

fn views(bytes: &[u8], offsets: &[i32]) -> ScalarBuffer<u128> {
    let ends = offsets.windows(2).map(|pair| (pair[0].unsigned_abs(), pair[1].unsigned_abs()));
    ends.map(|(start, end)| make_view(&bytes[start as usize..end as usize], 0, start)).collect()
}
