//! Reading Parquet: row groups one after another, those that no row of the query can be in left out.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, UInt64Array};
use arrow::compute::cast;
use arrow::datatypes::{Int64Type, UInt64Type};
use arrow_schema::{DataType, TimeUnit};
use datafusion_common::pruning::PruningStatistics;
use datafusion_common::{Column, ScalarValue};
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, RowSelection};
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use parquet::file::statistics::Statistics;

use super::fit::Fit;
use super::piece::Piece;
use super::pinned::PinnedObject;
use super::read_plan::{Numbers, ReadPlan};
use super::reject_rows::row_json;
use super::scan_piece::{PieceSink, REPORT_ROWS, RefusedRow};
use super::source::ObjectSource;
use crate::formats::parquet::{RowGroupRead, footer, reader_metadata, row_group};
use crate::scan::event_micros;
use crate::{Error, Result};

/// Reads the row groups that begin in `piece` into `sink`.
pub(super) async fn read(object: &PinnedObject, piece: &Piece, sink: &mut PieceSink<'_>) -> Result<()> {
    let metadata = reader_metadata(object, footer(object).await?, Some(sink.source().declared()))?;
    let plan = sink.plan().clone();
    let declared = Fit::new(sink.source(), object.path(), metadata.schema())?;
    if sink.is_check() {
        return check(object, &metadata, &declared, sink).await;
    }
    let fit = declared.project(&plan.columns)?;
    let file = ParquetFile { object, metadata: &metadata, fit: &fit, plan: &plan };
    // The event time, where a watermark follows it.
    let newest_of = plan.admission.event_time.as_ref().map(|(column, _)| *column);
    let newest_of = newest_of.filter(|_| sink.source().lateness().is_some());
    let clean = file.clean_columns(sink);
    let kept = file.kept(sink);

    let mut first_row = 0;
    for (group, row_group) in metadata.metadata().row_groups().iter().enumerate() {
        let rows = row_group.num_rows().unsigned_abs();
        if file.begins_in(group, &piece.bytes) {
            let unproven = |column: usize| !clean.iter().any(|clean| clean.column == column && clean.is_clean(group));
            let is_unproven = |column: usize| is_checked(&plan, column) && unproven(column);
            let has_unproven = (0..plan.columns.len()).any(is_unproven);
            // The newest row of a group is that of its statistics only where all of its rows are admitted.
            let must_check = |column: usize| is_unproven(column) || has_unproven && newest_of == Some(column);
            if !has_unproven && let Some(column) = newest_of {
                sink.note_newest(clean.iter().find(|clean| clean.column == column).and_then(|of| of.newest(group)));
            }
            let is_wanted = kept.as_ref().is_none_or(|kept| kept.get(group).copied().unwrap_or(true));
            if !is_wanted && !has_unproven {
                sink.count_pruned(rows);
            } else {
                file.read_group(group, first_row, must_check, sink).await?;
            }
        }
        first_row += rows;
    }
    Ok(())
}

/// A time that no row of an object is older than, in microseconds since 1970, UTC; `i64::MAX` of one without rows. `None`
/// where its statistics do not say, or it does not fit the source.
pub(super) fn oldest_event(source: &ObjectSource, object: &PinnedObject, footer: Arc<ParquetMetaData>) -> Option<i64> {
    let (column, declared) = (source.event_time()?, source.declared());
    let metadata = reader_metadata(object, footer, Some(declared)).ok()?;
    // A value that stands in for a missing column is in no statistics.
    Fit::new(source, object.path(), metadata.schema()).ok()?.file_column(column)?;
    let statistics = RowGroupStatistics { metadata: &metadata, declared };
    let oldest = times(statistics.min_values(&Column::from_name(declared.field(column).name())));
    let groups = metadata.metadata().row_groups().iter().enumerate();
    let with_rows = groups.filter(|(_, group)| group.num_rows() > 0);
    with_rows
        .map(|(group, _)| oldest.get(group).copied().flatten())
        .try_fold(i64::MAX, |least, of| Some(least.min(of?)))
}

/// Decodes all that the source declares: whether an object is readable does not depend on what a query reads.
async fn check(
    object: &PinnedObject,
    metadata: &ArrowReaderMetadata,
    declared: &Fit,
    sink: &PieceSink<'_>,
) -> Result<()> {
    let held = declared.file_columns();
    for group in 0..metadata.metadata().num_row_groups() {
        let read = RowGroupRead { metadata, group, columns: &held, batch_rows: sink.batch_rows(), rows: None };
        let batches = row_group(object, read).await?;
        sink.progress(batches.bytes, 0);
        let mut rows = 0;
        for batch in batches {
            rows += declared.apply(&batch?, &held)?.num_rows() as u64;
        }
        verify_rows(object, metadata, group, rows)?;
    }
    Ok(())
}

fn verify_rows(object: &PinnedObject, metadata: &ArrowReaderMetadata, group: usize, rows: u64) -> Result<()> {
    if rows == metadata.metadata().row_group(group).num_rows().unsigned_abs() {
        return Ok(());
    }
    Err(Error::BadFile {
        path: object.path().to_owned(),
        format: "Parquet",
        offset: 0,
        reason: "a row group holds another number of rows than the footer says".to_owned(),
    })
}

fn is_checked(plan: &ReadPlan, column: usize) -> bool {
    let is = |checked: &(usize, String)| checked.0 == column;
    plan.admission.not_null.iter().any(is) || plan.admission.event_time.as_ref().is_some_and(is)
}

struct ParquetFile<'a> {
    object: &'a PinnedObject,
    metadata: &'a ArrowReaderMetadata,
    fit: &'a Fit,
    plan: &'a ReadPlan,
}

/// What the statistics prove of a checked column.
struct CleanColumn {
    column: usize,
    /// By row group; a column that is missing and has a default is clean in all.
    groups: Option<Vec<bool>>,
    /// Of the event time: the newest one by row group, where that is known exactly.
    newest: Vec<Option<i64>>,
}

impl CleanColumn {
    fn is_clean(&self, group: usize) -> bool {
        self.groups.as_ref().is_none_or(|groups| groups.get(group).copied().unwrap_or(false))
    }

    fn newest(&self, group: usize) -> Option<i64> {
        self.newest.get(group).copied().flatten()
    }
}

impl ParquetFile<'_> {
    /// A row group belongs to the piece in which its first column begins: each to one piece, without any piece knowing
    /// of the others.
    fn begins_in(&self, group: usize, bytes: &Range<u64>) -> bool {
        let start = self.metadata.metadata().row_group(group).columns().first().map_or(0, |column| {
            column.dictionary_page_offset().unwrap_or_else(|| column.data_page_offset()).unsigned_abs()
        });
        let last = self.object.version().size.saturating_sub(1);
        bytes.contains(&start.min(last))
    }

    async fn read_group(
        &self,
        group: usize,
        first_row: u64,
        must_check: impl Fn(usize) -> bool,
        sink: &mut PieceSink<'_>,
    ) -> Result<()> {
        let (plan, columns) = self.plan.without_checks(must_check);
        let fit = self.fit.project(&columns)?;
        let held = fit.file_columns();
        let batches = row_group(
            self.object,
            RowGroupRead { metadata: self.metadata, group, columns: &held, batch_rows: sink.batch_rows(), rows: None },
        )
        .await?;
        sink.progress(batches.bytes, 0);
        let (mut row, mut refused) = (0, Vec::new());
        for batch in batches {
            let batch = batch?;
            let rows = batch.num_rows() as u64;
            let fitted = fit.apply(&batch, &held)?;
            let refusals = sink.rows_of(&plan, &fitted, Numbers::From(first_row + row)).await?;
            refused.extend(refusals);
            row += rows;
        }
        verify_rows(self.object, self.metadata, group, row)?;
        if refused.is_empty() { Ok(()) } else { self.report(group, first_row, &plan, &refused, sink).await }
    }

    /// Reports refused rows of a row group, whole as JSON with all columns of the file: read again, since a query reads
    /// only some, but fetched once.
    async fn report(
        &self,
        group: usize,
        first_row: u64,
        plan: &ReadPlan,
        refused: &[RefusedRow],
        sink: &PieceSink<'_>,
    ) -> Result<()> {
        let to_usize = |row: u64| usize::try_from(row).unwrap_or(usize::MAX);
        let total = to_usize(self.metadata.metadata().row_group(group).num_rows().unsigned_abs());
        let ranges = refused.iter().map(|refused| to_usize(refused.record - first_row)).map(|row| row..row + 1);
        let columns: Vec<usize> = (0..self.metadata.schema().fields().len()).collect();
        let read = RowGroupRead {
            metadata: self.metadata,
            group,
            columns: &columns,
            batch_rows: REPORT_ROWS,
            rows: Some(RowSelection::from_consecutive_ranges(ranges, total)),
        };
        let mut waiting = refused.iter();
        for batch in row_group(self.object, read).await? {
            let batch = batch?;
            let rows = (0..batch.num_rows()).zip(waiting.by_ref());
            let rejects = rows.map(|(row, refused)| Ok(refused.reject(plan, row_json(&batch, row)?)));
            sink.report_rows(&rejects.collect::<Result<Vec<_>>>()?).await?;
        }
        Ok(())
    }

    /// Which row groups a row of the query can be in; `None` if no filter says anything.
    fn kept(&self, sink: &PieceSink<'_>) -> Option<Vec<bool>> {
        let predicate = sink.predicate()?;
        let statistics = RowGroupStatistics { metadata: self.metadata, declared: sink.source().declared() };
        // Statistics that make no sense prune nothing.
        predicate.prune(&statistics).ok()
    }

    /// Row groups in which the statistics prove that the checks find nothing.
    fn clean_columns(&self, sink: &PieceSink<'_>) -> Vec<CleanColumn> {
        let mut clean = Vec::new();
        let event_time = self.plan.admission.event_time.as_ref().map(|(column, _)| *column);
        let checked = self.plan.admission.not_null.iter().map(|(column, _)| *column).chain(event_time);
        for column in checked {
            let is_event_time = event_time == Some(column);
            let newest = if is_event_time && sink.source().lateness().is_some() {
                self.newest_times(column)
            } else {
                Vec::new()
            };
            let groups = match self.fit.file_column(column) {
                Some(file_column) => {
                    let no_nulls = self.without_nulls(file_column);
                    let in_time = is_event_time.then(|| self.in_time(column, sink, &newest));
                    let both = |(no_nulls, in_time): (bool, bool)| no_nulls && in_time;
                    Some(match in_time {
                        Some(in_time) => no_nulls.into_iter().zip(in_time).map(both).collect(),
                        None => no_nulls,
                    })
                }
                // A default that is checked once is checked for all, but an event time is compared with each file's.
                None if self.fit.is_constant_value(column) && !is_event_time => None,
                None => Some(Vec::new()),
            };
            clean.push(CleanColumn { column, groups, newest });
        }
        // The event time may be NOT NULL too: it is clean if both say so.
        let is_clean_twice = |column: usize, group: usize, all: &[CleanColumn]| {
            all.iter().filter(|clean| clean.column == column).all(|clean| clean.is_clean(group))
        };
        let groups = self.metadata.metadata().num_row_groups();
        let merged = clean.iter().map(|of| CleanColumn {
            column: of.column,
            groups: Some((0..groups).map(|group| is_clean_twice(of.column, group, &clean)).collect()),
            newest: of.newest.clone(),
        });
        merged.collect()
    }

    fn without_nulls(&self, file_column: usize) -> Vec<bool> {
        let schema = self.metadata.parquet_schema();
        let leaves: Vec<usize> =
            (0..schema.num_columns()).filter(|leaf| schema.get_column_root_idx(*leaf) == file_column).collect();
        let &[leaf] = leaves.as_slice() else { return Vec::new() };
        let descriptor = schema.column(leaf);
        let is_required = descriptor.max_def_level() == 0;
        let is_flat = descriptor.max_rep_level() == 0 && descriptor.path().parts().len() == 1;
        let has_none = |group: &RowGroupMetaData| {
            is_required || (is_flat && group.column(leaf).statistics().and_then(Statistics::null_count_opt) == Some(0))
        };
        self.metadata.metadata().row_groups().iter().map(has_none).collect()
    }

    /// Row groups whose event times are neither impossible nor late. Where rows may be late, `newest` has to be known too:
    /// the watermark follows it.
    fn in_time(&self, column: usize, sink: &PieceSink<'_>, newest: &[Option<i64>]) -> Vec<bool> {
        let (statistics, name) = self.statistics_of(column);
        let is_possible = is_before(statistics.max_values(&name), sink.latest());
        if sink.source().lateness().is_none() {
            return is_possible;
        }
        let oldest = times(statistics.min_values(&name));
        let late_before = sink.late_before();
        let is_on_time = |oldest: &Option<i64>| oldest.is_some() && *oldest >= late_before;
        let groups = is_possible.iter().zip(&oldest).zip(newest);
        groups.map(|((is_possible, oldest), newest)| *is_possible && newest.is_some() && is_on_time(oldest)).collect()
    }

    /// The newest event time of each row group, where its statistics say that it is in it.
    fn newest_times(&self, column: usize) -> Vec<Option<i64>> {
        let (statistics, name) = self.statistics_of(column);
        let is_exact = statistics.values(&name, |converter, groups| {
            Some(Arc::new(converter.row_group_is_max_value_exact(groups).ok()?) as ArrayRef)
        });
        let Some(is_exact) = is_exact else { return Vec::new() };
        let newest = times(statistics.max_values(&name));
        let exact = newest.into_iter().zip(is_exact.as_boolean().iter());
        exact.map(|(newest, is_exact)| newest.filter(|_| is_exact == Some(true))).collect()
    }

    fn statistics_of(&self, column: usize) -> (RowGroupStatistics<'_>, Column) {
        let statistics = RowGroupStatistics { metadata: self.metadata, declared: &self.plan.schema };
        (statistics, Column::from_name(self.plan.schema.field(column).name()))
    }
}

/// Which times are before `latest`, in microseconds since 1970.
fn is_before(newest: Option<ArrayRef>, latest: i64) -> Vec<bool> {
    // Seconds, rounded down: one more second is asked for than needed.
    let zone = |newest: &ArrayRef| match newest.data_type() {
        DataType::Timestamp(_, zone) => zone.clone(),
        _ => None,
    };
    let seconds = newest.and_then(|newest| cast(&newest, &DataType::Timestamp(TimeUnit::Second, zone(&newest))).ok());
    let seconds = seconds.and_then(|seconds| cast(&seconds, &DataType::Int64).ok());
    let Some(seconds) = seconds else { return Vec::new() };
    let latest = latest.div_euclid(1_000_000);
    seconds.as_primitive::<Int64Type>().iter().map(|newest| newest.is_some_and(|newest| newest < latest)).collect()
}

/// Event times in microseconds since 1970; none where statistics are of no use.
fn times(statistics: Option<ArrayRef>) -> Vec<Option<i64>> {
    statistics.and_then(|times| event_micros(&times).ok()).unwrap_or_default()
}

/// The statistics of a file's row groups, in the declared types.
struct RowGroupStatistics<'a> {
    metadata: &'a ArrowReaderMetadata,
    declared: &'a arrow_schema::SchemaRef,
}

impl RowGroupStatistics<'_> {
    fn values(
        &self,
        column: &Column,
        of: impl Fn(&StatisticsConverter<'_>, &[RowGroupMetaData]) -> Option<ArrayRef>,
    ) -> Option<ArrayRef> {
        let converter =
            StatisticsConverter::try_new(&column.name, self.metadata.schema(), self.metadata.parquet_schema()).ok()?;
        of(&converter.with_missing_null_counts_as_zero(false), self.metadata.metadata().row_groups())
    }

    fn bounds(
        &self,
        column: &Column,
        of: impl Fn(&StatisticsConverter<'_>, &[RowGroupMetaData]) -> Option<ArrayRef>,
    ) -> Option<ArrayRef> {
        let declared = self.declared.field_with_name(&column.name).ok()?;
        // Statistics leave NaN out (Parquet format, `ColumnOrder`). The engine orders it beyond all other numbers, on the
        // side of its sign, so that they bound nothing.
        let values = self.values(column, of).filter(|values| !values.data_type().is_floating())?;
        if values.data_type() == declared.data_type() { Some(values) } else { cast(&values, declared.data_type()).ok() }
    }
}

impl PruningStatistics for RowGroupStatistics<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bounds(column, |converter, groups| converter.row_group_mins(groups).ok())
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bounds(column, |converter, groups| converter.row_group_maxes(groups).ok())
    }

    fn num_containers(&self) -> usize {
        self.metadata.metadata().num_row_groups()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        let counts = |converter: &StatisticsConverter<'_>, groups: &[RowGroupMetaData]| -> Option<ArrayRef> {
            Some(Arc::new(converter.row_group_null_counts(groups).ok()?))
        };
        self.values(column, counts).filter(|counts| counts.as_primitive_opt::<UInt64Type>().is_some())
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        let rows = self.metadata.metadata().row_groups().iter().map(|group| group.num_rows().unsigned_abs());
        Some(Arc::new(UInt64Array::from_iter_values(rows)))
    }

    fn contained(&self, _: &Column, _: &std::collections::HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}
