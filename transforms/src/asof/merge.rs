//! The merge of two sorted sides, batch by batch.

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt64Array, new_null_array};
use arrow::compute::{BatchCoalescer, SortOptions, filter_record_batch, is_not_null, take_arrays};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::row::{Row, RowConverter, Rows, SortField};
use datafusion::error::Result;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::logical_expr::JoinType;
use datafusion::physical_expr::PhysicalExpr;
use futures::stream::Fuse;
use futures::{StreamExt, TryStreamExt};

/// How keys and times become bytes that compare as the rows are sorted.
#[derive(Debug)]
pub(super) struct Encoding {
    /// Nothing where all rows are of one key.
    keys: Option<RowConverter>,
    times: RowConverter,
}

impl Encoding {
    pub(super) fn try_new(keys: Vec<DataType>, time: DataType, time_order: SortOptions) -> Result<Self> {
        let keys: Vec<_> = keys.into_iter().map(SortField::new).collect();
        let keys = if keys.is_empty() { None } else { Some(RowConverter::new(keys)?) };
        Ok(Self { keys, times: RowConverter::new(vec![SortField::new_with_options(time, time_order)])? })
    }
}

/// The batches of one side.
pub(super) struct SortedRows {
    batches: Fuse<SendableRecordBatchStream>,
    keys: Vec<Arc<dyn PhysicalExpr>>,
    time: Arc<dyn PhysicalExpr>,
    encoding: Arc<Encoding>,
}

/// A batch that has rows, with their keys and times.
struct Sorted {
    batch: RecordBatch,
    keys: Option<Rows>,
    times: Rows,
}

impl SortedRows {
    pub(super) fn new(
        batches: SendableRecordBatchStream,
        keys: Vec<Arc<dyn PhysicalExpr>>,
        time: Arc<dyn PhysicalExpr>,
        encoding: Arc<Encoding>,
    ) -> Self {
        Self { batches: batches.fuse(), keys, time, encoding }
    }

    async fn next(&mut self) -> Result<Option<Sorted>> {
        while let Some(batch) = self.batches.try_next().await? {
            if batch.num_rows() > 0 {
                return self.encoded(batch).map(Some);
            }
        }
        Ok(None)
    }

    fn encoded(&self, batch: RecordBatch) -> Result<Sorted> {
        let column = |expr: &Arc<dyn PhysicalExpr>| expr.evaluate(&batch)?.into_array(batch.num_rows());
        let keys = match &self.encoding.keys {
            Some(converter) => {
                let columns = self.keys.iter().map(column).collect::<Result<Vec<_>>>()?;
                Some(converter.convert_columns(&columns)?)
            }
            None => None,
        };
        let times = self.encoding.times.convert_columns(&[column(&self.time)?])?;
        Ok(Sorted { batch, keys, times })
    }
}

impl Sorted {
    fn rows(&self) -> usize {
        self.batch.num_rows()
    }

    fn key(&self, row: usize) -> Option<Row<'_>> {
        self.keys.as_ref().map(|keys| keys.row(row))
    }

    /// Of a batch that is part of a larger one, that part counts.
    fn bytes(&self) -> usize {
        let columns = self.batch.columns().iter();
        let batch: usize = columns.map(|column| column.to_data().get_slice_memory_size().unwrap_or_default()).sum();
        batch + self.keys.as_ref().map_or(0, Rows::size) + self.times.size()
    }
}

/// Which rows of the right side a row of the left side has reached.
#[derive(Clone, Copy)]
struct Reach {
    or_at: bool,
}

impl Reach {
    /// Whether `row` of `left` is after the one of `right`, in the order of the join.
    fn reaches(self, left: &Sorted, row: usize, right: &Sorted, right_row: usize) -> bool {
        let by_key = right.key(right_row).cmp(&left.key(row));
        match by_key.then_with(|| right.times.row(right_row).cmp(&left.times.row(row))) {
            Ordering::Less => true,
            Ordering::Equal => self.or_at,
            Ordering::Greater => false,
        }
    }
}

/// The join of one partition.
pub(super) struct Merge {
    left: SortedRows,
    right: SortedRows,
    join_type: JoinType,
    reach: Reach,
    /// The batch of the right side that the left side has come to.
    current: Option<Sorted>,
    /// How many of its rows were reached.
    reached: usize,
    /// The next one: where it begins decides which rows of the left side end in `current`.
    ahead: Option<Sorted>,
    schema: SchemaRef,
    coalescer: BatchCoalescer,
    memory: MemoryReservation,
}

impl Merge {
    pub(super) fn new(
        [left, right]: [SortedRows; 2],
        join_type: JoinType,
        or_at: bool,
        schema: SchemaRef,
        batch_rows: usize,
        memory: MemoryReservation,
    ) -> Self {
        let coalescer = BatchCoalescer::new(Arc::clone(&schema), batch_rows);
        let reach = Reach { or_at };
        Self { left, right, join_type, reach, current: None, reached: 0, ahead: None, schema, coalescer, memory }
    }

    pub(super) async fn next(&mut self) -> Result<Option<RecordBatch>> {
        while !self.coalescer.has_completed_batch() {
            match self.left.next().await? {
                Some(left) => self.join(&left).await?,
                None => {
                    self.coalescer.finish_buffered_batch()?;
                    break;
                }
            }
        }
        Ok(self.coalescer.next_completed_batch())
    }

    async fn join(&mut self, left: &Sorted) -> Result<()> {
        let mut from = 0;
        while from < left.rows() {
            if self.ahead.is_none() {
                self.ahead = self.right.next().await?;
            }
            let held = [Some(left), self.current.as_ref(), self.ahead.as_ref()];
            self.memory.try_resize(held.into_iter().flatten().map(Sorted::bytes).sum())?;
            let to = self.end_of_current(left, from);
            if from < to {
                let joined = self.joined(left, from..to)?;
                self.coalescer.push_batch(joined)?;
            }
            if to < left.rows() {
                (self.current, self.reached) = (self.ahead.take(), 0);
            }
            from = to;
        }
        Ok(())
    }

    /// The first row of `left`, not before `from`, that reaches the next batch of the right side.
    fn end_of_current(&self, left: &Sorted, from: usize) -> usize {
        let Some(ahead) = &self.ahead else { return left.rows() };
        let (mut low, mut high) = (from, left.rows());
        while low < high {
            let middle = low.midpoint(high);
            if self.reach.reaches(left, middle, ahead, 0) {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        low
    }

    /// Some rows of `left`, whose match is in the current batch if anywhere.
    fn joined(&mut self, left: &Sorted, rows: Range<usize>) -> Result<RecordBatch> {
        let mut matches: UInt64Array = rows.clone().map(|row| self.find(left, row)).collect();
        let mut left = left.batch.slice(rows.start, rows.len());
        if self.join_type == JoinType::Inner {
            let has_match = is_not_null(&matches)?;
            left = filter_record_batch(&left, &has_match)?;
            matches = matches.iter().flatten().collect();
        }
        let mut columns = left.columns().to_vec();
        columns.extend(self.taken(&matches)?);
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }

    fn find(&mut self, left: &Sorted, row: usize) -> Option<u64> {
        let right = self.current.as_ref()?;
        while self.reached < right.rows() && self.reach.reaches(left, row, right, self.reached) {
            self.reached += 1;
        }
        let last = self.reached.checked_sub(1)?;
        (right.key(last) == left.key(row)).then_some(last as u64)
    }

    /// The columns of the right side at `matches`.
    fn taken(&self, matches: &UInt64Array) -> Result<Vec<ArrayRef>> {
        match &self.current {
            Some(right) => Ok(take_arrays(right.batch.columns(), matches, None)?),
            None => {
                let schema = self.right.batches.get_ref().schema();
                let columns = schema.fields().iter().map(|field| new_null_array(field.data_type(), matches.len()));
                Ok(columns.collect())
            }
        }
    }
}
