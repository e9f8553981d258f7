//! Fitting a file's columns to those that the source declares: by name, widened where nothing is lost.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, UInt64Array, new_null_array};
use arrow::compute::{CastOptions, cast_with_options, take};
use arrow::datatypes::TimestampNanosecondType;
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};

use super::source::ObjectSource;
use crate::formats::widening::is_widening;
use crate::{Error, Result};

/// How the columns that a scan reads come out of one file.
#[derive(Debug, Clone)]
pub(super) struct Fit {
    source: Arc<str>,
    path: String,
    schema: SchemaRef,
    columns: Vec<FittedColumn>,
}

#[derive(Debug, Clone)]
enum FittedColumn {
    /// A column of the file, cast to the declared type.
    File { index: usize, is_same: bool },
    /// The column is missing: one value for all rows.
    Constant(ArrayRef),
}

impl Fit {
    /// Fits the file `path`, whose columns are `file`, to all columns that `source` declares: what a query reads does
    /// not decide whether a file fits. [`Fit::project`] leaves those that are read.
    pub(super) fn new(source: &ObjectSource, path: &str, file: &Schema) -> Result<Self> {
        Self::to_columns(source.shared_name(), path, source.declared(), source.defaults(), file)
    }

    fn to_columns(
        source: &Arc<str>,
        path: &str,
        schema: &SchemaRef,
        defaults: &[Option<ArrayRef>],
        file: &Schema,
    ) -> Result<Self> {
        let mismatch = |reason| Error::SchemaMismatch { name: source.to_string(), path: path.to_owned(), reason };
        let mut columns = Vec::with_capacity(schema.fields().len());
        for (at, field) in schema.fields().iter().enumerate() {
            let default = defaults.get(at).and_then(Option::as_ref);
            columns.push(fit_column(field, default, file).map_err(mismatch)?);
        }
        Ok(Self { source: Arc::clone(source), path: path.to_owned(), schema: Arc::clone(schema), columns })
    }

    /// Indices of the file's columns that are needed, ascending.
    pub(super) fn file_columns(&self) -> Vec<usize> {
        let mut indices: Vec<_> = self.columns.iter().filter_map(FittedColumn::index).collect();
        indices.sort_unstable();
        indices.dedup();
        indices
    }

    /// The file's column behind a column that is read.
    pub(super) fn file_column(&self, column: usize) -> Option<usize> {
        self.columns.get(column).and_then(FittedColumn::index)
    }

    /// Whether a missing column has a value in every row.
    pub(super) fn is_constant_value(&self, column: usize) -> bool {
        matches!(self.columns.get(column), Some(FittedColumn::Constant(value)) if value.null_count() == 0)
    }

    /// The columns of a fit for a subset of the columns that are read.
    pub(super) fn project(&self, columns: &[usize]) -> Result<Self> {
        let schema = Arc::new(self.schema.project(columns)?);
        let columns = columns.iter().filter_map(|column| self.columns.get(*column).cloned()).collect();
        Ok(Self { source: Arc::clone(&self.source), path: self.path.clone(), schema, columns })
    }

    /// The declared columns out of `batch`, which holds the file's columns `held`.
    pub(super) fn apply(&self, batch: &RecordBatch, held: &[usize]) -> Result<RecordBatch> {
        let rows = batch.num_rows();
        let mut columns = Vec::with_capacity(self.columns.len());
        for (column, field) in self.columns.iter().zip(self.schema.fields()) {
            columns.push(match column {
                FittedColumn::Constant(value) => repeated(value, rows)?,
                FittedColumn::File { index, is_same } => {
                    let at = held.iter().position(|held| held == index);
                    let array = at.map(|at| batch.column(at)).ok_or_else(|| Error::Internal {
                        message: format!("column `{}` was not read from the file", field.name()),
                    })?;
                    if *is_same { Arc::clone(array) } else { self.cast(array, field)? }
                }
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(nullable(&self.schema), columns, &options)?)
    }

    fn cast(&self, array: &ArrayRef, field: &Field) -> Result<ArrayRef> {
        let beyond = || Error::SchemaMismatch {
            name: self.source.to_string(),
            path: self.path.clone(),
            reason: format!(
                "column `{}` has a value of type {} that {} cannot hold exactly; declare it as {}",
                field.name(),
                array.data_type(),
                field.data_type(),
                array.data_type()
            ),
        };
        // The text of Arrow's error quotes the value.
        let fitted = exact_cast(array, field.data_type()).map_err(|_| beyond())?;
        if keeps_nanoseconds(array, &fitted) { Ok(fitted) } else { Err(beyond()) }
    }
}

impl FittedColumn {
    fn index(&self) -> Option<usize> {
        match self {
            Self::File { index, .. } => Some(*index),
            Self::Constant(_) => None,
        }
    }
}

/// A column that breaks NOT NULL must pass as far as the check that rejects its rows.
fn nullable(schema: &Schema) -> SchemaRef {
    let fields: Vec<_> = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
    Arc::new(Schema::new(fields))
}

fn fit_column(field: &Field, default: Option<&ArrayRef>, file: &Schema) -> Result<FittedColumn, String> {
    let name = field.name();
    let Ok(index) = file.index_of(name) else {
        if let Some(other) = file.fields().iter().find(|other| other.name().eq_ignore_ascii_case(name)) {
            return Err(format!(
                "it has no column `{name}`, but one named `{}`; write the name in double quotes",
                other.name()
            ));
        }
        return match default {
            Some(value) => Ok(FittedColumn::Constant(Arc::clone(value))),
            None if field.is_nullable() => Ok(FittedColumn::Constant(new_null_array(field.data_type(), 1))),
            None => Err(format!("it has no column `{name}`, which is NOT NULL; give the column a DEFAULT")),
        };
    };
    let found = file.field(index).data_type();
    if !is_widening(found, field.data_type()) {
        return Err(format!(
            "column `{name}` is {found} in the file and {} in the definition, which could lose values; \
             declare it as the file has it and use CAST in a query",
            field.data_type()
        ));
    }
    Ok(FittedColumn::File { index, is_same: found == field.data_type() })
}

fn exact_cast(array: &ArrayRef, to: &DataType) -> Result<ArrayRef, ArrowError> {
    cast_with_options(array, to, &CastOptions { safe: false, ..CastOptions::default() })
}

/// Whether `fitted`, cast from `array`, still has all of its nanoseconds.
fn keeps_nanoseconds(array: &ArrayRef, fitted: &ArrayRef) -> bool {
    if let Some(values) = array.as_primitive_opt::<TimestampNanosecondType>() {
        let is_kept = |value: i64| value % 1_000 == 0;
        return !drops_nanoseconds(array.data_type(), fitted.data_type()) || values.iter().flatten().all(is_kept);
    }
    if !drops_nanoseconds(array.data_type(), fitted.data_type()) {
        return true;
    }
    // Inside of lists and structs only what is not masked by a null counts, as it does for equality.
    let plain = plain_type(array.data_type());
    let (before, after) = (exact_cast(array, &plain), exact_cast(fitted, &plain));
    matches!((before, after), (Ok(before), Ok(after)) if *before == *after)
}

/// Whether a cast makes microseconds of nanoseconds, at any depth.
fn drops_nanoseconds(from: &DataType, to: &DataType) -> bool {
    use DataType::{Dictionary, LargeList, List, Struct, Timestamp};
    match (from, to) {
        (Timestamp(from, _), Timestamp(to, _)) => to < from,
        (Dictionary(_, values), to) if !matches!(to, Dictionary(..)) => drops_nanoseconds(values, to),
        (List(from) | LargeList(from), List(to) | LargeList(to)) => drops_nanoseconds(from.data_type(), to.data_type()),
        (Struct(from), Struct(to)) => {
            from.iter().zip(to).any(|(from, to)| drops_nanoseconds(from.data_type(), to.data_type()))
        }
        _ => false,
    }
}

/// The type without dictionaries at its top.
fn plain_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Dictionary(_, values) => plain_type(values),
        other => other.clone(),
    }
}

/// `value` (an array of one) `rows` times.
pub(super) fn repeated(value: &ArrayRef, rows: usize) -> Result<ArrayRef> {
    if value.null_count() > 0 {
        return Ok(new_null_array(value.data_type(), rows));
    }
    Ok(take(value.as_ref(), &UInt64Array::from(vec![0; rows]), None)?)
}

#[cfg(test)]
mod tests {
    use arrow::array::{DictionaryArray, Int32Array, ListArray, StringArray, StructArray, TimestampNanosecondArray};
    use arrow::buffer::{NullBuffer, OffsetBuffer};
    use arrow_schema::{Fields, TimeUnit};

    use super::*;

    fn fit(declared: Vec<Field>, file: Vec<Field>) -> Result<Fit> {
        let schema = Arc::new(Schema::new(declared));
        Fit::to_columns(&Arc::from("s"), "f", &schema, &[], &Schema::new(file))
    }

    #[test]
    fn columns_are_found_by_name_and_widened() {
        let declared = vec![
            Field::new("b", DataType::Utf8, true),
            Field::new("a", DataType::Int64, false),
            Field::new("c", DataType::Date32, true),
        ];
        let file = vec![
            Field::new("x", DataType::Int8, true),
            Field::new("a", DataType::Int32, true),
            Field::new("b", DataType::Utf8, true),
        ];
        let fit = fit(declared, file).unwrap();
        assert_eq!(fit.file_columns(), [1, 2]);
        let columns: Vec<ArrayRef> =
            vec![Arc::new(Int32Array::from(vec![1, 2])), Arc::new(StringArray::from(vec!["p", "q"]))];
        let batch = RecordBatch::try_from_iter(["a", "b"].into_iter().zip(columns)).unwrap();
        let fitted = fit.apply(&batch, &[1, 2]).unwrap();
        assert_eq!(fitted.schema().field(0).name(), "b");
        assert_eq!(fitted.column(1).data_type(), &DataType::Int64);
        assert_eq!(fitted.column(2).null_count(), 2);
    }

    #[test]
    fn what_could_lose_values_names_column_and_types() {
        let one = |data_type| vec![Field::new("a", data_type, true)];
        let micros = DataType::Timestamp(TimeUnit::Microsecond, None);
        for (declared, file) in [
            (DataType::Int32, DataType::Int64),
            (DataType::Int64, DataType::UInt64),
            (DataType::Int64, DataType::Float64),
            (DataType::Float64, DataType::Int64),
            (DataType::Int64, DataType::Utf8),
            (micros, DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))),
            (DataType::Decimal128(10, 2), DataType::Decimal128(10, 3)),
        ] {
            let error = fit(one(declared.clone()), one(file.clone())).unwrap_err().to_string();
            assert!(error.contains("column `a`") && error.contains(&declared.to_string()), "{error}");
            assert!(error.contains(&file.to_string()), "{error}");
        }
    }

    #[test]
    fn other_case_of_a_name_is_not_taken_for_missing() {
        let error = fit(vec![Field::new("id", DataType::Int64, true)], vec![Field::new("Id", DataType::Int64, true)]);
        assert!(error.unwrap_err().to_string().contains("`Id`"));
    }

    #[test]
    fn nanoseconds_become_microseconds_where_nothing_is_lost() {
        let field = |unit| vec![Field::new("t", DataType::Timestamp(unit, None), true)];
        let fit = fit(field(TimeUnit::Microsecond), field(TimeUnit::Nanosecond)).unwrap();
        let batch = |nanos: i64| {
            let column: ArrayRef = Arc::new(TimestampNanosecondArray::from(vec![nanos]));
            RecordBatch::try_from_iter([("t", column)]).unwrap()
        };
        assert!(fit.apply(&batch(5_000), &[0]).is_ok());
        assert!(matches!(fit.apply(&batch(5_001), &[0]), Err(Error::SchemaMismatch { .. })));
    }

    /// A null, hiding `hidden`, and `nanos`, in a list, a struct and a dictionary.
    fn nested(hidden: i64, nanos: i64) -> Vec<ArrayRef> {
        let times: ArrayRef = Arc::new(TimestampNanosecondArray::from(vec![hidden, nanos]));
        let item = Arc::new(Field::new("item", times.data_type().clone(), true));
        let nulls = || Some(NullBuffer::from(vec![false, true]));
        let offsets = OffsetBuffer::new(vec![0, 1, 2].into());
        let keys = Int32Array::from(vec![None, Some(1)]);
        vec![
            Arc::new(ListArray::new(Arc::clone(&item), offsets, Arc::clone(&times), nulls())),
            Arc::new(StructArray::new(Fields::from(vec![item]), vec![Arc::clone(&times)], nulls())),
            Arc::new(DictionaryArray::new(keys, times)),
        ]
    }

    #[test]
    fn nanoseconds_inside_of_other_types_are_not_cut_off_either() {
        let micros = Arc::new(Field::new("item", DataType::Timestamp(TimeUnit::Microsecond, None), true));
        let declared = [
            DataType::List(Arc::clone(&micros)),
            DataType::Struct(vec![Arc::clone(&micros)].into()),
            micros.data_type().clone(),
        ];
        for (at, declared) in declared.into_iter().enumerate() {
            let column = |hidden, nanos| nested(hidden, nanos).swap_remove(at);
            let file = vec![Field::new("t", column(0, 0).data_type().clone(), true)];
            let fit = fit(vec![Field::new("t", declared.clone(), true)], file).unwrap();
            let apply = |column| fit.apply(&RecordBatch::try_from_iter([("t", column)]).unwrap(), &[0]);
            let whole = apply(column(7, 5_000)).unwrap();
            assert_eq!(whole.column(0).data_type(), &declared);
            assert_eq!(whole.column(0).logical_null_count(), 1);
            assert!(matches!(apply(column(0, 5_001)), Err(Error::SchemaMismatch { .. })), "{declared}");
        }
    }
}
