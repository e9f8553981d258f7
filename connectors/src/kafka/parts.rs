//! What a record has beside its value, collected in step with the rows.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BinaryBuilder, Int32Array, Int64Array, ListBuilder, RecordBatch,
    StringArray, StringBuilder, StructBuilder, TimestampMicrosecondArray, UInt64Array, UInt64Builder,
};
use arrow::compute::take;
use arrow_schema::{DataType, Field, Fields};
use bessemer_schemas::{IncludeKind, OffsetRange};

use super::queue::Record;
use super::reject::reject_schema;
use crate::formats::text::{ORIGINAL_BYTES_MAX, RecordFault};
use crate::scan::Refusal;
use crate::{Error, Result};

/// Which parts are kept of each row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Wanted {
    pub(super) key: bool,
    pub(super) value: bool,
    pub(super) headers: bool,
}

impl Wanted {
    /// Everything: what quarantine needs.
    pub(super) const ALL: Self = Self { key: true, value: true, headers: true };

    /// Those that the columns of a query are made from.
    pub(super) fn of(includes: impl IntoIterator<Item = IncludeKind>) -> Self {
        let mut wanted = Self::default();
        for kind in includes {
            match kind {
                IncludeKind::Key => wanted.key = true,
                IncludeKind::Value => wanted.value = true,
                IncludeKind::Headers => wanted.headers = true,
                _ => {}
            }
        }
        wanted
    }
}

/// Parts of consecutive rows of one range.
#[derive(Debug)]
pub(super) struct Parts {
    wanted: Wanted,
    offsets: Vec<i64>,
    /// Microseconds since 1970, UTC.
    timestamps: Vec<Option<i64>>,
    keys: BinaryBuilder,
    values: BinaryBuilder,
    headers: ListBuilder<StructBuilder>,
    bytes: usize,
}

impl Parts {
    pub(super) fn new(wanted: Wanted) -> Self {
        Self {
            wanted,
            offsets: Vec::new(),
            timestamps: Vec::new(),
            keys: BinaryBuilder::new(),
            values: BinaryBuilder::new(),
            headers: headers_builder(),
            bytes: 0,
        }
    }

    pub(super) fn rows(&self) -> usize {
        self.offsets.len()
    }

    pub(super) fn push(&mut self, record: Record<'_>) {
        self.offsets.push(record.offset());
        self.timestamps.push(record.timestamp().map(|millis| millis.saturating_mul(1_000)));
        if self.wanted.key {
            self.keys.append_option(record.key());
            self.bytes += record.key().map_or(0, <[u8]>::len);
        }
        if self.wanted.value {
            self.values.append_value(record.value().unwrap_or_default());
            self.bytes += record.value().map_or(0, <[u8]>::len);
        }
        if self.wanted.headers {
            self.bytes += append_headers(&mut self.headers, record);
        }
    }

    /// Bytes of what varies in length.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What was collected, as columns.
    pub(super) fn take(&mut self) -> TakenParts {
        self.bytes = 0;
        let columns =
            |builder: &mut BinaryBuilder, is_wanted: bool| is_wanted.then(|| Arc::new(builder.finish()) as ArrayRef);
        TakenParts {
            offsets: std::mem::take(&mut self.offsets),
            timestamps: std::mem::take(&mut self.timestamps),
            keys: columns(&mut self.keys, self.wanted.key),
            values: columns(&mut self.values, self.wanted.value),
            headers: self.wanted.headers.then(|| Arc::new(self.headers.finish()) as ArrayRef),
        }
    }
}

/// Parts of the rows of one batch.
#[derive(Debug)]
pub(super) struct TakenParts {
    pub(super) offsets: Vec<i64>,
    pub(super) timestamps: Vec<Option<i64>>,
    pub(super) keys: Option<ArrayRef>,
    pub(super) values: Option<ArrayRef>,
    pub(super) headers: Option<ArrayRef>,
}

impl TakenParts {
    /// The column that `INCLUDE` asks for; all rows are of `range`.
    pub(super) fn column(&self, kind: IncludeKind, range: &OffsetRange) -> Option<ArrayRef> {
        let rows = self.offsets.len();
        Some(match kind {
            IncludeKind::Key => Arc::clone(self.keys.as_ref()?),
            IncludeKind::Value => Arc::clone(self.values.as_ref()?),
            IncludeKind::Headers => Arc::clone(self.headers.as_ref()?),
            IncludeKind::Timestamp => Arc::new(self.timestamps()),
            IncludeKind::Topic => Arc::new(StringArray::from_iter_values(std::iter::repeat_n(&range.topic, rows))),
            IncludeKind::Partition => Arc::new(Int32Array::from_value(range.partition, rows)),
            IncludeKind::Offset => Arc::new(Int64Array::from(self.offsets.clone())),
            IncludeKind::Path | IncludeKind::Row | IncludeKind::Modified => return None,
            // These are decoded.
            IncludeKind::Operation | IncludeKind::SourceTimestamp => return None,
        })
    }

    /// Rows that were refused for their event time `column`, by [`reject_schema`]; everything was kept of them.
    pub(super) fn rejected(
        &self,
        refused: &[Refusal],
        column: &str,
        schema_id: impl Fn(&[u8]) -> Option<u32>,
    ) -> Result<RecordBatch> {
        let rows = UInt64Array::from_iter_values(refused.iter().map(|refusal| refusal.row as u64));
        let taken = |array: &dyn Array| take(array, &rows, None);
        let missing = || Error::Internal { message: "a refused record was not kept".to_owned() };
        let values = taken(self.values.as_ref().ok_or_else(missing)?)?;
        let lengths: UInt64Array =
            values.as_binary::<i32>().iter().map(|value| value.map(|value| value.len() as u64)).collect();
        let schema_id = |value: Option<&[u8]>| value.and_then(&schema_id).map(i64::from);
        let schema_ids: Int64Array = values.as_binary::<i32>().iter().map(schema_id).collect();
        let cut = |value: &[u8]| value[..value.len().min(ORIGINAL_BYTES_MAX)].to_vec();
        let originals: BinaryArray = values.as_binary::<i32>().iter().map(|value| value.map(cut)).collect();
        let reasons = StringArray::from_iter_values(refused.iter().map(|refusal| refusal.reason.as_str()));
        let columns: Vec<ArrayRef> = vec![
            taken(&Int64Array::from(self.offsets.clone()))?,
            taken(&self.timestamps())?,
            taken(self.keys.as_ref().ok_or_else(missing)?)?,
            taken(self.headers.as_ref().ok_or_else(missing)?)?,
            Arc::new(lengths),
            Arc::new(reasons),
            Arc::new(StringArray::from_iter_values(std::iter::repeat_n(column, refused.len()))),
            Arc::new(schema_ids),
            Arc::new(originals),
        ];
        Ok(RecordBatch::try_new(reject_schema(), columns)?)
    }

    fn timestamps(&self) -> TimestampMicrosecondArray {
        TimestampMicrosecondArray::from(self.timestamps.clone()).with_timezone("UTC")
    }
}

/// Rejected records on their way to quarantine.
#[derive(Debug)]
pub(super) struct Rejects {
    parts: Parts,
    byte_lens: UInt64Builder,
    reasons: StringBuilder,
    columns: StringBuilder,
    schema_ids: Vec<Option<i64>>,
    originals: BinaryBuilder,
}

impl Rejects {
    pub(super) fn new() -> Self {
        Self {
            // The value is cut to what quarantine holds.
            parts: Parts::new(Wanted { value: false, ..Wanted::ALL }),
            byte_lens: UInt64Builder::new(),
            reasons: StringBuilder::new(),
            columns: StringBuilder::new(),
            schema_ids: Vec::new(),
            originals: BinaryBuilder::new(),
        }
    }

    pub(super) fn rows(&self) -> usize {
        self.parts.rows()
    }

    /// Bytes of what varies in length.
    pub(super) fn bytes(&self) -> usize {
        self.parts.bytes() + self.originals.values_slice().len()
    }

    pub(super) fn push(&mut self, record: Record<'_>, fault: &RecordFault, schema_id: Option<u32>) {
        self.parts.push(record);
        let value = record.value().unwrap_or_default();
        self.byte_lens.append_value(value.len() as u64);
        self.reasons.append_value(fault.reason.as_str());
        self.columns.append_option(fault.column.as_deref());
        self.schema_ids.push(schema_id.map(i64::from));
        self.originals.append_value(&value[..value.len().min(ORIGINAL_BYTES_MAX)]);
    }

    /// What was collected, by [`reject_schema`]; nothing if there is nothing.
    pub(super) fn take(&mut self) -> Result<Option<RecordBatch>> {
        if self.rows() == 0 {
            return Ok(None);
        }
        let parts = self.parts.take();
        let timestamps = Arc::new(parts.timestamps());
        let columns: Vec<Option<ArrayRef>> = vec![
            Some(Arc::new(Int64Array::from(parts.offsets))),
            Some(timestamps),
            parts.keys,
            parts.headers,
            Some(Arc::new(self.byte_lens.finish())),
            Some(Arc::new(self.reasons.finish())),
            Some(Arc::new(self.columns.finish())),
            Some(Arc::new(Int64Array::from(std::mem::take(&mut self.schema_ids)))),
            Some(Arc::new(self.originals.finish())),
        ];
        Ok(Some(RecordBatch::try_new(reject_schema(), columns.into_iter().flatten().collect())?))
    }
}

fn headers_builder() -> ListBuilder<StructBuilder> {
    let item = match IncludeKind::Headers.data_type() {
        DataType::List(item) => item,
        other => Arc::new(Field::new_list_field(other, false)),
    };
    let fields = match item.data_type() {
        DataType::Struct(fields) => fields.clone(),
        _ => Fields::empty(),
    };
    ListBuilder::new(StructBuilder::from_fields(fields, 0)).with_field(item)
}

/// Appends the headers of a record; their bytes.
fn append_headers(builder: &mut ListBuilder<StructBuilder>, record: Record<'_>) -> usize {
    let mut bytes = 0;
    for (name, value) in record.headers() {
        bytes += name.len() + value.map_or(0, <[u8]>::len);
        let values = builder.values();
        if let Some(keys) = values.field_builder::<StringBuilder>(0) {
            keys.append_value(name);
        }
        if let Some(contents) = values.field_builder::<BinaryBuilder>(1) {
            contents.append_option(value);
        }
        values.append(true);
    }
    builder.append(true);
    bytes
}
