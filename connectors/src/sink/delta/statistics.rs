//! Statistics of a file as the Delta log has them, from the file's footer (protocol, "Per-file Statistics").

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, TimeUnit};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion_common::ScalarValue;
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::arrow::parquet_to_arrow_schema;
use parquet::file::metadata::ParquetMetaData;
use serde_json::{Map, Value, json};

/// Columns with statistics, counted from the first: as many as Spark has by default.
const COLUMNS_MAX: usize = 32;

/// `{"numRecords": …, "minValues": …, "maxValues": …, "nullCount": …}`.
pub(super) fn statistics(footer: &ParquetMetaData) -> String {
    let rows: i64 = footer.row_groups().iter().map(parquet::file::metadata::RowGroupMetaData::num_rows).sum();
    let (mut mins, mut maxes, mut nulls) = (Map::new(), Map::new(), Map::new());
    let file = footer.file_metadata();
    if let Ok(schema) = parquet_to_arrow_schema(file.schema_descr(), file.key_value_metadata()) {
        for field in schema.fields().iter().take(COLUMNS_MAX).filter(|field| !field.data_type().is_nested()) {
            let Some(column) = column(footer, &schema, field) else { continue };
            nulls.insert(field.name().clone(), json!(column.nulls));
            if let (Some(min), Some(max)) = (column.min, column.max) {
                mins.insert(field.name().clone(), min);
                maxes.insert(field.name().clone(), max);
            }
        }
    }
    json!({ "numRecords": rows, "minValues": mins, "maxValues": maxes, "nullCount": nulls }).to_string()
}

struct ColumnStatistics {
    nulls: u64,
    min: Option<Value>,
    max: Option<Value>,
}

fn column(footer: &ParquetMetaData, schema: &Schema, field: &Field) -> Option<ColumnStatistics> {
    let groups = footer.row_groups();
    let converter = StatisticsConverter::try_new(field.name(), schema, footer.file_metadata().schema_descr()).ok()?;
    let nulls = converter.row_group_null_counts(groups).ok()?;
    if nulls.null_count() > 0 {
        return None;
    }
    let mins = extreme(&converter.row_group_mins(groups).ok()?, std::cmp::Ordering::Less);
    let maxes = extreme(&converter.row_group_maxes(groups).ok()?, std::cmp::Ordering::Greater);
    Some(ColumnStatistics { nulls: nulls.values().iter().sum(), min: mins, max: maxes })
}

/// The smallest or largest of the values of the row groups, as the log spells it; `None` where the type has no order
/// there, or where a row group does not say.
fn extreme(values: &ArrayRef, wanted: std::cmp::Ordering) -> Option<Value> {
    if !is_ordered(values.data_type()) {
        return None;
    }
    let mut best: Option<(ScalarValue, usize)> = None;
    for idx in (0..values.len()).filter(|idx| values.is_valid(*idx)) {
        let value = ScalarValue::try_from_array(values, idx).ok()?;
        if best.as_ref().is_none_or(|(best, _)| value.partial_cmp(best) == Some(wanted)) {
            best = Some((value, idx));
        }
    }
    best.and_then(|(_, idx)| spelled(&values.slice(idx, 1)))
}

/// Not floating point: Parquet's statistics leave NaN out, and readers of Delta hold it for the largest value.
fn is_ordered(data_type: &DataType) -> bool {
    data_type.is_signed_integer()
        || matches!(
            data_type,
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Date32 | DataType::Timestamp(TimeUnit::Microsecond, _)
        )
}

fn spelled(value: &ArrayRef) -> Option<Value> {
    match value.data_type() {
        whole if whole.is_signed_integer() => {
            Some(json!(cast(value, &DataType::Int64).ok()?.as_primitive::<Int64Type>().value(0)))
        }
        DataType::Timestamp(_, zone) => {
            // The log spells UTC as `Z`, and no zone as none.
            let plain = cast(value, &DataType::Timestamp(TimeUnit::Microsecond, zone.as_ref().map(|_| "UTC".into())));
            let naive = cast(&plain.ok()?, &DataType::Timestamp(TimeUnit::Microsecond, None)).ok()?;
            let format = FormatOptions::default().with_timestamp_format(Some("%Y-%m-%dT%H:%M:%S%.6f"));
            let text = ArrayFormatter::try_new(&naive, &format).ok()?.value(0).try_to_string().ok()?;
            Some(Value::String(if zone.is_some() { format!("{text}Z") } else { text }))
        }
        _ => {
            let text = ArrayFormatter::try_new(value, &FormatOptions::default()).ok()?.value(0).try_to_string().ok()?;
            Some(Value::String(text))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
    use bytes::Bytes;
    use parquet::arrow::ArrowWriter;
    use parquet::file::metadata::ParquetMetaDataReader;

    use super::*;

    #[test]
    fn statistics_are_spelled_as_the_protocol_says() {
        let at = TimestampMicrosecondArray::from(vec![Some(1_500_000), None, Some(0)]);
        let columns: [(&str, ArrayRef); 4] = [
            ("n", Arc::new(Int64Array::from(vec![3, 1, 2]))),
            ("text", Arc::new(StringArray::from(vec![Some("b"), Some("a"), None]))),
            ("ratio", Arc::new(Float64Array::from(vec![1.0, f64::NAN, 2.0]))),
            ("at", Arc::new(at.with_timezone("UTC"))),
        ];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let mut bytes = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        let footer = ParquetMetaDataReader::new().parse_and_finish(&Bytes::from(bytes)).unwrap();

        let found: Value = serde_json::from_str(&statistics(&footer)).unwrap();

        assert_eq!(
            found,
            json!({
                "numRecords": 3,
                "minValues": { "n": 1, "text": "a", "at": "1970-01-01T00:00:00.000000Z" },
                "maxValues": { "n": 3, "text": "b", "at": "1970-01-01T00:00:01.500000Z" },
                "nullCount": { "n": 0, "text": 1, "ratio": 0, "at": 1 },
            })
        );
    }
}
