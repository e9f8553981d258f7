//! Rows out of records of binary formats: columns that grow by a record at a time, and are cut back where it is at fault.

use arrow::array::{ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field, Fields, SchemaRef};

use super::text::column::{Column, ColumnMaker};
use super::text::fault::Fault;
use super::text::rows::{Rows, RowsOptions};
use super::text::{DecodeLimits, FileFault, OnExtra, RecordFault, TimestampFormat};
use crate::Result;

/// What a builder is made from.
#[derive(Debug, Clone, Copy)]
pub struct RowBuilderOptions<'a> {
    /// The declared columns that are read, with their nullability.
    pub schema: &'a SchemaRef,
    /// Indices of the columns to build.
    pub projection: &'a [usize],
    /// For each column what a missing field means; may be empty.
    pub defaults: &'a [Option<ArrayRef>],
    /// How numbers and texts that are declared as timestamps are written.
    pub timestamp_format: &'a TimestampFormat,
    /// Bounds.
    pub limits: DecodeLimits,
    /// The format, for messages.
    pub format: &'static str,
}

/// Collects records as rows.
#[derive(Debug)]
pub struct RowBuilder {
    rows: Rows,
    /// Names of the columns, for rejects.
    paths: Vec<String>,
}

impl RowBuilder {
    /// Makes a builder; fails where a column's type cannot be read from the format.
    pub fn new(options: RowBuilderOptions<'_>) -> Result<Self> {
        let RowBuilderOptions { schema, projection, defaults, limits, format, .. } = options;
        let timestamp_format = options.timestamp_format.clone();
        let mut maker = ColumnMaker {
            timestamp_format,
            on_extra: OnExtra::Ignore,
            is_nested: true,
            is_change: false,
            format,
            paths: Vec::new(),
        };
        let rows = Rows::new(RowsOptions { schema, projection: Some(projection), defaults, limits }, &mut maker)?;
        Ok(Self { rows, paths: maker.paths })
    }

    /// Takes one record: `decode` appends a value to every column, and says how many bytes it appended beyond those of
    /// the record. `length` is the record's.
    pub(super) fn append(
        &mut self,
        number: u64,
        length: usize,
        decode: impl FnOnce(&mut [Column]) -> Result<usize, Fault>,
    ) -> Result<Result<(), RecordFault>, FileFault> {
        match decode(&mut self.rows.columns) {
            Ok(grown) => {
                self.rows.note(number, length + grown)?;
                Ok(Ok(()))
            }
            Err(Fault { reason, column }) => {
                self.rows.cut_back();
                let column = column.and_then(|number| self.paths.get(number.0 as usize)).cloned();
                Ok(Err(RecordFault { reason, column }))
            }
        }
    }

    /// Makes a batch of the rows that are not in one yet.
    pub fn flush(&mut self) -> Result<(), FileFault> {
        self.rows.flush()
    }

    /// The next batch of rows.
    pub fn next_batch(&mut self) -> Option<RecordBatch> {
        self.rows.ready.pop_front().map(|decoded| decoded.batch)
    }
}

/// Columns, and for each what a missing field means.
#[derive(Debug, Clone, PartialEq)]
pub struct InferredColumns {
    /// The columns.
    pub fields: Fields,
    /// What a missing field means, for each column; may be empty.
    pub defaults: Vec<Option<ArrayRef>>,
}

/// Fields that are inferred, at most: a schema can double itself with each of its types.
pub(super) const INFERRED_FIELDS_MAX: usize = 10_000;

/// Why no columns are inferred of a schema with more.
pub(super) fn too_many_fields() -> String {
    format!("it has more than {INFERRED_FIELDS_MAX} fields: declare the columns of the source that are needed")
}

/// A written schema that does not fit the declared columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contradiction {
    /// The column.
    pub column: String,
    /// Column, declared and written type, and what to do.
    pub reason: String,
}

/// A column that cannot hold what is written.
pub(super) fn contradiction(path: &str, declared: &DataType, written: &str) -> Contradiction {
    let reason = format!(
        "column `{path}` is {declared} in the definition and {written} as it is written, which could lose values; \
         declare it as it is written and use CAST in a query"
    );
    Contradiction { column: path.to_owned(), reason }
}

/// Whether a declared column may be missing from what is written.
pub(super) fn missing_field<'a>(
    column: &Field,
    path: &str,
    has_default: bool,
    mut written: impl Iterator<Item = &'a str>,
) -> Result<(), Contradiction> {
    let told = |reason| Err(Contradiction { column: path.to_owned(), reason });
    if let Some(other) = written.find(|other| other.eq_ignore_ascii_case(column.name())) {
        return told(format!("it has no field `{path}`, but one named `{other}`; write the name in double quotes"));
    }
    if column.is_nullable() || has_default {
        return Ok(());
    }
    told(format!("it has no field `{path}`, which is NOT NULL; give the column a DEFAULT"))
}
