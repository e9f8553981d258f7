//! From the rows of a set to the columns of its files: what is left out, what is cast, what a footer says.

use std::num::NonZeroUsize;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit};
use arrow::record_batch::RecordBatch;
use bessemer_schemas::{Epoch, ORIGIN_COLUMN, PartitionTransform};
use parquet::arrow::arrow_writer::ArrowRowGroupWriterFactory;
use parquet::arrow::{ARROW_SCHEMA_META_KEY, ArrowSchemaConverter, PARQUET_FIELD_ID_META_KEY, encode_arrow_schema};
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::metadata::{KeyValue, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::ColumnPath;

use super::options::{FeatureSetOptions, SetFormat};
use super::parquet::FileShape;
use crate::Result;

/// Chance that a bloom filter says "maybe" of an absent key: at 1 % it costs ten bits a key.
const BLOOM_FALSE_POSITIVES: f64 = 0.01;

/// A column that rows are sorted by within a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SortedBy {
    /// Its name.
    pub column: String,
    /// Whether nulls come before values.
    pub nulls_first: bool,
}

/// What a file says of itself.
pub(crate) struct Footer<'a> {
    pub(crate) pipeline: &'a str,
    /// `bessemer.set` or `bessemer.source`.
    pub(crate) owner: (&'static str, &'a str),
    pub(crate) epoch: Epoch,
    pub(crate) bloom_columns: &'a [String],
    pub(crate) sorted_by: Option<&'a SortedBy>,
}

/// Takes the columns of a file out of batches.
#[derive(Debug, Clone)]
pub(crate) struct Projection {
    columns: Vec<(usize, Option<DataType>)>,
    schema: SchemaRef,
}

impl Projection {
    /// Leaves out the hidden column and the columns that are in the path; a Delta log has microseconds only.
    pub(crate) fn new(options: &FeatureSetOptions, rows: &Schema) -> Self {
        let is_in_path = |name: &str| {
            let identity = |transform| transform == PartitionTransform::Identity;
            options.partition_by.iter().any(|field| identity(field.transform) && field.column == name)
        };
        let mut columns = Vec::new();
        let mut fields = Vec::new();
        for (idx, field) in rows.fields().iter().enumerate() {
            if field.name() == ORIGIN_COLUMN || is_in_path(field.name()) {
                continue;
            }
            let target = match options.format {
                SetFormat::Parquet => field.data_type().clone(),
                SetFormat::Delta => in_microseconds(field.data_type()),
            };
            columns.push((idx, (target != *field.data_type()).then(|| target.clone())));
            fields.push(without_field_id(field).with_data_type(target));
        }
        Self { columns, schema: Arc::new(Schema::new(fields)) }
    }

    /// The columns of the file, as the arrays have them.
    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The columns of `batch` that go into the file.
    pub(crate) fn apply(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let column = |(idx, target): &(usize, Option<DataType>)| -> Result<ArrayRef> {
            let column = batch.column(*idx);
            Ok(match target {
                Some(target) => cast(column, target)?,
                None => Arc::clone(column),
            })
        };
        let columns = self.columns.iter().map(column).collect::<Result<Vec<_>>>()?;
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }
}

/// Binds the options to the columns of a file.
pub(crate) fn file_shape(
    options: &FeatureSetOptions,
    schema: &SchemaRef,
    footer: &Footer<'_>,
    encoders: NonZeroUsize,
) -> Result<FileShape, ParquetError> {
    let rows = options.row_group_rows.get();
    let mut properties = base_properties(options.compression, schema, footer);
    for column in footer.bloom_columns.iter().filter(|column| has_one_leaf(schema, column)) {
        let path = ColumnPath::from(vec![column.clone()]);
        properties = properties
            .set_column_bloom_filter_enabled(path.clone(), true)
            .set_column_bloom_filter_fpp(path.clone(), BLOOM_FALSE_POSITIVES)
            .set_column_bloom_filter_max_ndv(path, rows as u64);
    }
    FileShape::new(Arc::clone(schema), Arc::new(properties.build()), rows, options.file_bytes.0, encoders)
}

/// What is wrong with the columns of a set for the files that `options` ask for.
pub(crate) fn problems(options: &FeatureSetOptions, rows: &Schema) -> Vec<String> {
    let mut problems = Vec::new();
    for field in Projection::new(options, rows).schema().fields() {
        if !is_writable(field) {
            let (name, data_type) = (field.name(), field.data_type());
            problems.push(format!(
                "column `{name}` has the type `{data_type}`, which Parquet has not: cast it, or leave it out"
            ));
        } else if options.format == SetFormat::Delta
            && let Some(part) = beyond_delta(field.data_type())
        {
            let name = field.name();
            let help = if part.is_unsigned_integer() { "BIGINT" } else { "VARCHAR" };
            problems.push(format!(
                "column `{name}` has the type `{part}`, which a Delta table has not: write `CAST({name} AS {help})`"
            ));
        }
    }
    problems
}

fn base_properties(compression: Compression, schema: &Schema, footer: &Footer<'_>) -> WriterPropertiesBuilder {
    let entry = |key: &str, value: String| KeyValue { key: key.to_owned(), value: Some(value) };
    // No claim and no time: two runs over the same rows write the same bytes.
    let metadata = vec![
        entry(ARROW_SCHEMA_META_KEY, encode_arrow_schema(&announced(schema))),
        entry("bessemer.epoch", footer.epoch.to_string()),
        entry("bessemer.pipeline", footer.pipeline.to_owned()),
        entry(footer.owner.0, footer.owner.1.to_owned()),
    ];
    WriterProperties::builder()
        .set_created_by(concat!("bessemer version ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(compression)
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_key_value_metadata(Some(metadata))
        .set_sorting_columns(footer.sorted_by.and_then(|sorted| sorting(schema, sorted)))
}

/// The footer's sorting columns count leaves, so the leaves before the column count.
pub(super) fn sorting(schema: &Schema, sorted: &SortedBy) -> Option<Vec<SortingColumn>> {
    let leaves = ArrowSchemaConverter::new().convert(schema).ok()?;
    let leaf =
        (0..leaves.num_columns()).find(|leaf| leaves.column(*leaf).path().parts() == [sorted.column.as_str()])?;
    let column_idx = i32::try_from(leaf).ok()?;
    Some(vec![SortingColumn { column_idx, descending: false, nulls_first: sorted.nulls_first }])
}

fn has_one_leaf(schema: &Schema, column: &str) -> bool {
    schema.field_with_name(column).is_ok_and(|field| !field.data_type().is_nested())
}

/// The schema that readers are told: views are a layout in memory, and older readers do not know them.
fn announced(schema: &Schema) -> Schema {
    Schema::new(schema.fields().iter().map(announced_field).collect::<Vec<_>>())
}

fn announced_field(field: &FieldRef) -> FieldRef {
    Arc::new(without_field_id(field).with_data_type(without_views(field.data_type())))
}

/// The type with plain text and bytes for views of them.
pub(crate) fn without_views(data_type: &DataType) -> DataType {
    map_nested(data_type, &announced_field, &|leaf| match leaf {
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        other => other.clone(),
    })
}

/// The columns that the user wrote: all but the hidden one.
#[cfg(feature = "delta")]
pub(crate) fn visible_fields(rows: &Schema) -> impl Iterator<Item = Field> {
    rows.fields().iter().filter(|field| field.name() != ORIGIN_COLUMN).map(without_field_id)
}

/// Numbers of columns in files that rows came from mean nothing here, and could name two columns at once.
fn without_field_id(field: &FieldRef) -> Field {
    let mut metadata = field.metadata().clone();
    metadata.remove(PARQUET_FIELD_ID_META_KEY);
    field.as_ref().clone().with_metadata(metadata)
}

/// The type with microseconds for every time, which is all that a Delta table has.
pub(crate) fn in_microseconds(data_type: &DataType) -> DataType {
    let field = |field: &FieldRef| Arc::new(field.as_ref().clone().with_data_type(in_microseconds(field.data_type())));
    map_nested(data_type, &field, &|leaf| match leaf {
        DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Microsecond, zone.clone()),
        DataType::Date64 => DataType::Date32,
        other => other.clone(),
    })
}

fn map_nested(
    data_type: &DataType,
    field: &dyn Fn(&FieldRef) -> FieldRef,
    leaf: &dyn Fn(&DataType) -> DataType,
) -> DataType {
    match data_type {
        DataType::List(item) => DataType::List(field(item)),
        DataType::LargeList(item) => DataType::LargeList(field(item)),
        DataType::FixedSizeList(item, size) => DataType::FixedSizeList(field(item), *size),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(field).collect()),
        DataType::Map(entries, sorted) => DataType::Map(field(entries), *sorted),
        DataType::Dictionary(key, value) => DataType::Dictionary(key.clone(), Box::new(map_nested(value, field, leaf))),
        other => leaf(other),
    }
}

fn is_writable(field: &FieldRef) -> bool {
    let one = Arc::new(Schema::new(vec![Arc::clone(field)]));
    let attempt = || {
        let root = ArrowSchemaConverter::new().convert(&one)?.root_schema_ptr();
        let file = SerializedFileWriter::new(Vec::new(), root, Arc::new(WriterProperties::default()))?;
        ArrowRowGroupWriterFactory::new(&file, Arc::clone(&one)).create_column_writers(0)
    };
    attempt().is_ok()
}

/// The first part of a type that the Delta protocol has no name for ("Schema Serialization Format").
fn beyond_delta(data_type: &DataType) -> Option<DataType> {
    match data_type {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            beyond_delta(item.data_type())
        }
        DataType::Map(entries, _) => beyond_delta(entries.data_type()),
        DataType::Struct(fields) => fields.iter().find_map(|field| beyond_delta(field.data_type())),
        DataType::Dictionary(_, value) => beyond_delta(value),
        DataType::Boolean
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::Float32
        | DataType::Float64
        | DataType::Utf8
        | DataType::LargeUtf8
        | DataType::Utf8View
        | DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView
        | DataType::Date32
        | DataType::Date64
        | DataType::Decimal128(..)
        | DataType::Timestamp(..) => None,
        other => Some(other.clone()),
    }
}
