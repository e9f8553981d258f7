//! What a scan reads of each object and how that becomes the columns of its output.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, StringArray, TimestampMicrosecondArray, UInt64Array,
};
use arrow_schema::{Field, Schema, SchemaRef};
use bessemer_schemas::{IncludeKind, ObjectVersion, pack_origin};

use super::admit::Admission;
use super::fit::repeated;
use super::source::ObjectSource;
use crate::formats::text::RecordNumbers;
use crate::{Error, Result};

/// One column of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OutputColumn {
    /// A column that is read, by its index in [`ReadPlan::columns`].
    Read(usize),
    /// Metadata.
    Include(IncludeKind),
    /// Row identity.
    Origin,
}

/// Columns to read, to check and to give on.
#[derive(Debug, Clone)]
pub(super) struct ReadPlan {
    /// Declared columns that are read, by their index among the declared, ascending.
    pub(super) columns: Vec<usize>,
    /// Their schema.
    pub(super) schema: SchemaRef,
    /// Checks over them.
    pub(super) admission: Admission,
    /// The output.
    pub(super) output: Vec<OutputColumn>,
    /// Its schema.
    pub(super) output_schema: SchemaRef,
}

impl ReadPlan {
    /// The plan for the columns `wanted` of the source's schema. `checks_rows` says whether rows have to be checked for
    /// nulls and for their event time (a text decoder does that itself, but needs the event time to be read).
    pub(super) fn new(
        source: &ObjectSource,
        output_schema: &SchemaRef,
        wanted: &[usize],
        checks_rows: bool,
    ) -> Result<Self> {
        let declared = source.declared();
        let count = declared.fields().len();
        let mut columns: Vec<usize> = wanted.iter().copied().filter(|column| *column < count).collect();
        columns.extend(source.event_time());
        if checks_rows {
            columns.extend((0..count).filter(|column| !declared.field(*column).is_nullable()));
        }
        columns.sort_unstable();
        columns.dedup();

        let at = |column: usize| columns.binary_search(&column).unwrap_or_default();
        let name = |column: usize| declared.field(column).name().clone();
        let not_null = columns.iter().filter(|column| checks_rows && !declared.field(**column).is_nullable());
        let admission = Admission {
            not_null: not_null.map(|column| (at(*column), name(*column))).collect(),
            event_time: source.event_time().filter(|_| checks_rows).map(|column| (at(column), name(column))),
        };
        let output = wanted.iter().map(|column| match column.checked_sub(count) {
            None => OutputColumn::Read(at(*column)),
            Some(include) => {
                source.includes().get(include).map_or(OutputColumn::Origin, |kind| OutputColumn::Include(*kind))
            }
        });
        Ok(Self {
            schema: Arc::new(declared.project(&columns)?),
            admission,
            output: output.collect(),
            output_schema: Arc::clone(output_schema),
            columns,
        })
    }

    /// The same output from fewer columns: those that are given on, and those that `must_check` names. Also the kept
    /// columns, by their index in this plan.
    pub(super) fn without_checks(&self, must_check: impl Fn(usize) -> bool) -> (Self, Vec<usize>) {
        let is_output = |column: usize| self.output.contains(&OutputColumn::Read(column));
        let kept: Vec<usize> =
            (0..self.columns.len()).filter(|column| is_output(*column) || must_check(*column)).collect();
        let at = |column: usize| kept.binary_search(&column).ok();
        let moved = |(column, name): &(usize, String)| Some((at(*column)?, name.clone()));
        let checked = |(column, _): &&(usize, String)| must_check(*column);
        let fields: Vec<Field> = kept.iter().map(|column| self.schema.field(*column).clone()).collect();
        let plan = Self {
            columns: kept.iter().map(|column| self.columns[*column]).collect(),
            schema: Arc::new(Schema::new(fields)),
            admission: Admission {
                not_null: self.admission.not_null.iter().filter(checked).filter_map(moved).collect(),
                event_time: self.admission.event_time.as_ref().filter(checked).and_then(moved),
            },
            output: self
                .output
                .iter()
                .map(|column| match column {
                    OutputColumn::Read(column) => OutputColumn::Read(at(*column).unwrap_or_default()),
                    other => *other,
                })
                .collect(),
            output_schema: Arc::clone(&self.output_schema),
        };
        (plan, kept)
    }

    /// Whether the output needs the numbers of its rows.
    pub(super) fn needs_numbers(&self) -> bool {
        let needs = |column| matches!(column, OutputColumn::Origin | OutputColumn::Include(IncludeKind::Row));
        self.output.iter().copied().any(needs)
    }

    /// The output for `batch`, which holds the columns that are read of rows that passed.
    pub(super) fn output(&self, batch: &RecordBatch, origin: Origin<'_>, numbers: &[u64]) -> Result<RecordBatch> {
        let rows = batch.num_rows();
        let columns = self.output.iter().map(|column| match column {
            OutputColumn::Read(column) => Ok(Arc::clone(batch.column(*column))),
            OutputColumn::Include(kind) => included(*kind, origin.version, numbers, rows),
            OutputColumn::Origin => {
                let pack = |number: &u64| pack_origin(origin.source, origin.object, *number);
                Ok(Arc::new(UInt64Array::from_iter_values(numbers.iter().map(pack))) as ArrayRef)
            }
        });
        let columns = columns.collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.output_schema), columns, &options)?)
    }
}

/// Where rows come from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin<'a> {
    pub(super) source: u64,
    pub(super) object: u64,
    pub(super) version: &'a ObjectVersion,
}

/// The numbers of a batch's rows in their object.
#[derive(Debug, Clone, Copy)]
pub(super) enum Numbers<'a> {
    /// Consecutive, from this one.
    From(u64),
    /// As the decoder has them.
    Records(&'a RecordNumbers),
}

impl Numbers<'_> {
    pub(super) fn to_vec(self, rows: usize) -> Vec<u64> {
        match self {
            Self::From(first) => (first..first + rows as u64).collect(),
            Self::Records(numbers) => numbers.iter().collect(),
        }
    }
}

fn included(kind: IncludeKind, version: &ObjectVersion, numbers: &[u64], rows: usize) -> Result<ArrayRef> {
    match kind {
        IncludeKind::Path => repeated(&(Arc::new(StringArray::from(vec![version.path.as_str()])) as ArrayRef), rows),
        IncludeKind::Modified => {
            Ok(Arc::new(TimestampMicrosecondArray::from_value(version.modified, rows).with_timezone("UTC")))
        }
        IncludeKind::Row => {
            let rows = numbers.iter().map(|number| i64::try_from(*number));
            let rows = rows
                .collect::<Result<Vec<_>, _>>()
                .map_err(|_| Error::Internal { message: "a row's number does not fit BIGINT".to_owned() })?;
            Ok(Arc::new(Int64Array::from(rows)))
        }
    }
}
