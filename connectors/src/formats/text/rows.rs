//! Rows on their way into batches.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_schema::SchemaRef;

use super::column::{Column, ColumnMaker};
use super::decoder::Decoded;
use super::fault::FileFault;
use super::options::DecodeLimits;
use super::record_numbers::RecordNumbers;
use crate::{Error, Result};

/// What rows are made of.
#[derive(Debug, Clone, Copy)]
pub(in crate::formats) struct RowsOptions<'a> {
    /// The declared columns that are read, with their nullability.
    pub(in crate::formats) schema: &'a SchemaRef,
    /// Indices of the columns to build, in the order of the batches; all of them if `None`.
    pub(in crate::formats) projection: Option<&'a [usize]>,
    /// For each column what a missing field means; may be empty.
    pub(in crate::formats) defaults: &'a [Option<ArrayRef>],
    /// Bounds.
    pub(in crate::formats) limits: DecodeLimits,
}

/// Columns that grow by a row at a time, and the batches that were cut off them.
#[derive(Debug)]
pub(in crate::formats) struct Rows {
    /// All declared columns; those that are not read only check.
    pub(in crate::formats) columns: Vec<Column>,
    projection: Vec<usize>,
    pub(in crate::formats) schema: SchemaRef,
    count_max: usize,
    /// Rows in the columns.
    count: usize,
    bytes: usize,
    numbers: RecordNumbers,
    pub(in crate::formats) ready: VecDeque<Decoded>,
}

impl Rows {
    /// Text of the records of one batch, about: keeps the offsets of texts within 31 bits, and batches within memory.
    const BATCH_BYTES: usize = 16 << 20;

    pub(in crate::formats) fn new(options: RowsOptions<'_>, maker: &mut ColumnMaker) -> Result<Self> {
        let fields = options.schema.fields();
        let projection: Vec<usize> = options.projection.map_or_else(|| (0..fields.len()).collect(), <[usize]>::to_vec);
        let mut columns = Vec::with_capacity(fields.len());
        for (at, field) in fields.iter().enumerate() {
            let mut column = maker.make(field, "", projection.contains(&at))?;
            if let Some(default) = options.defaults.get(at).cloned().flatten() {
                column.set_default(default, field)?;
            }
            columns.push(column);
        }
        Ok(Self {
            columns,
            schema: Arc::new(options.schema.project(&projection).map_err(Error::from)?),
            projection,
            count_max: options.limits.batch_rows.max(1),
            count: 0,
            bytes: 0,
            numbers: RecordNumbers::default(),
            ready: VecDeque::new(),
        })
    }

    #[inline]
    pub(in crate::formats) fn note(&mut self, number: u64, bytes: usize) -> Result<(), FileFault> {
        self.count += 1;
        self.bytes += bytes;
        self.numbers.push(number);
        if self.count >= self.count_max || self.bytes >= Self::BATCH_BYTES { self.flush() } else { Ok(()) }
    }

    /// Forgets what was appended of a record that is no row.
    #[cold]
    pub(in crate::formats) fn cut_back(&mut self) {
        for column in &mut self.columns {
            column.truncate(self.count);
        }
    }

    pub(in crate::formats) fn flush(&mut self) -> Result<(), FileFault> {
        if self.count == 0 {
            return Ok(());
        }
        let mut arrays = Vec::with_capacity(self.columns.len());
        for column in &mut self.columns {
            arrays.push(if column.is_built() { Some(column.finish()?) } else { None });
        }
        let arrays = self.projection.iter().filter_map(|at| arrays.get(*at).cloned().flatten()).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(self.count));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options)?;
        self.count = 0;
        self.bytes = 0;
        self.ready.push_back(Decoded { batch, numbers: std::mem::take(&mut self.numbers) });
        Ok(())
    }

    pub(in crate::formats) fn forget(&mut self) {
        self.count = 0;
        self.bytes = 0;
        self.cut_back();
        self.numbers = RecordNumbers::default();
        self.ready.clear();
    }
}
