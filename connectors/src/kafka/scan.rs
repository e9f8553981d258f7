//! What a scan reads of a source's offsets in one epoch.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow_schema::{Schema, SchemaRef};
use bessemer_schemas::{BadRecords, IncludeKind};
use futures::stream::BoxStream;
use futures::{StreamExt, stream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::parts::Wanted;
use super::read::RangeRead;
use super::source::KafkaSource;
use crate::scan::{Admission, PartRead, Reporter, ScanLeaf, ScanOffsets};
use crate::{Error, Result};

/// Batches between the thread that reads and the plan.
const BATCHES_AHEAD: usize = 2;

/// One column of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OutputColumn {
    /// A decoded column, by its index among those that are decoded.
    Decoded(usize),
    /// A part of the record.
    Include(IncludeKind),
    /// Row identity.
    Origin,
}

/// What a scan decodes, checks and gives on.
#[derive(Debug, Clone)]
pub(super) struct ReadPlan {
    /// Declared columns that are decoded, ascending.
    pub(super) columns: Vec<usize>,
    /// Parts that are kept of every row.
    pub(super) wanted: Wanted,
    /// The columns that are judged, and where they are.
    pub(super) judged: Vec<OutputColumn>,
    pub(super) judged_schema: SchemaRef,
    /// Checks over them; nulls are the decoder's to refuse.
    pub(super) admission: Admission,
    pub(super) output: Vec<OutputColumn>,
    pub(super) output_schema: SchemaRef,
}

impl ReadPlan {
    /// The plan for the columns `wanted` of the source's schema, with row identity behind them.
    pub(super) fn new(source: &KafkaSource, output_schema: SchemaRef, wanted: &[usize]) -> Self {
        let count = source.declared().fields().len();
        let event_time = source.event_time();
        let changes = source.options().format.change_columns();
        let decoded = |column: usize| match column.checked_sub(count) {
            None => Some(column),
            Some(include) => {
                let kind = source.includes().get(include)?;
                changes.iter().position(|change| change == kind).map(|at| count + at)
            }
        };
        let mut columns: Vec<usize> = wanted.iter().copied().chain(event_time).filter_map(decoded).collect();
        columns.sort_unstable();
        columns.dedup();
        let columns = source.options().format.columns(columns);

        let place = |column: usize| match decoded(column) {
            Some(column) => OutputColumn::Decoded(columns.binary_search(&column).unwrap_or_default()),
            None => {
                let kind = column.checked_sub(count).and_then(|include| source.includes().get(include));
                kind.map_or(OutputColumn::Origin, |kind| OutputColumn::Include(*kind))
            }
        };
        let output: Vec<_> = wanted.iter().map(|column| place(*column)).collect();
        let judged: Vec<_> = event_time.map(place).into_iter().collect();
        let field = event_time.map(|column| source.schema().field(column).clone());
        let admission =
            Admission { not_null: Vec::new(), event_time: field.as_ref().map(|field| (0, field.name().clone())) };
        // A row that is refused for its event time goes to quarantine as it came.
        let kept = if event_time.is_some() {
            Wanted::ALL
        } else {
            Wanted::of(output.iter().filter_map(|column| match column {
                OutputColumn::Include(kind) => Some(*kind),
                _ => None,
            }))
        };
        let judged_schema = Arc::new(Schema::new(field.into_iter().collect::<Vec<_>>()));
        Self { columns, wanted: kept, judged, judged_schema, admission, output, output_schema }
    }
}

/// What the partitions of one scan share.
#[derive(Debug)]
pub(super) struct ScanContext {
    pub(super) source: Arc<KafkaSource>,
    pub(super) plan: ReadPlan,
    pub(super) ranges: Arc<[ScanOffsets]>,
    /// Which of the records before them were bad.
    pub(super) bad_before: Arc<[BadRecords]>,
    /// The source's number in row identity.
    pub(super) number: u64,
    pub(super) reporter: Reporter,
}

/// Exactly the offsets of one epoch's slice, read by the source's consumers.
#[derive(Debug)]
pub(super) struct KafkaScan {
    pub(super) context: Arc<ScanContext>,
    /// By partition of the plan: runs of the context's ranges, one after another.
    pub(super) runs: Vec<Range<usize>>,
}

impl ScanLeaf for KafkaScan {
    fn name(&self) -> &'static str {
        "KafkaScanExec"
    }

    fn source(&self) -> &str {
        self.context.source.name()
    }

    fn output_schema(&self) -> &SchemaRef {
        &self.context.plan.output_schema
    }

    fn partitions(&self) -> usize {
        self.runs.len()
    }

    fn extent(&self) -> String {
        let ScanContext { source, ranges, .. } = &*self.context;
        let offsets: u64 = ranges.iter().map(|offsets| offsets.range.offsets()).sum();
        format!("topics={}, ranges={}, offsets={offsets}", source.options().topics_text(), ranges.len())
    }

    fn read(&self, part: &PartRead<'_>) -> BoxStream<'static, Result<RecordBatch>> {
        let ranges = self.runs.get(part.partition).cloned().unwrap_or_default();
        let (sender, batches) = mpsc::channel(BATCHES_AHEAD);
        let gone = CancellationToken::new();
        let read = RangeRead {
            context: Arc::clone(&self.context),
            batch_rows: part.batch_rows,
            batches: sender,
            gone: gone.clone(),
            bytes_scanned: part.counter("bytes_scanned"),
        };
        // The client is asked by polling, which blocks: a thread of its own. It ends when nobody takes its batches.
        let reader = (!ranges.is_empty()).then(|| tokio::task::spawn_blocking(move || read.run(ranges)));
        let rows = stream::unfold((batches, reader, gone.drop_guard()), |(mut batches, reader, guard)| async move {
            if let Some(batch) = batches.recv().await {
                return Some((Ok(batch), (batches, reader, guard)));
            }
            // Its last word says whether that was all.
            let error = match reader?.await {
                Ok(Ok(())) => return None,
                Ok(Err(error)) => error,
                Err(error) => Error::Internal { message: format!("the reader of a topic ended early: {error}") },
            };
            Some((Err(error), (batches, None, guard)))
        });
        rows.boxed()
    }
}
