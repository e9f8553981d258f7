//! What a scan reads of a source's objects in one epoch.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow_schema::SchemaRef;
use datafusion_physical_expr::PhysicalExpr;
use futures::StreamExt;
use futures::stream::BoxStream;

use super::piece::Piece;
use super::scan_piece::{PartitionScan, ScanContext};
use crate::Result;
use crate::scan::{PartRead, ScanLeaf, stream_of};

/// Exactly the objects of one epoch's slice, each pinned to its version, cut into pieces.
#[derive(Debug)]
pub(super) struct ObjectScan {
    pub(super) context: Arc<ScanContext>,
    /// By partition of the plan.
    pub(super) pieces: Vec<Vec<Piece>>,
    pub(super) predicate: Option<Arc<dyn PhysicalExpr>>,
}

impl ScanLeaf for ObjectScan {
    fn name(&self) -> &'static str {
        "ObjectScanExec"
    }

    fn source(&self) -> &str {
        self.context.source.name()
    }

    fn output_schema(&self) -> &SchemaRef {
        &self.context.plan.output_schema
    }

    fn partitions(&self) -> usize {
        self.pieces.len()
    }

    fn extent(&self) -> String {
        let bytes: u64 = self.context.objects.iter().map(|object| object.version.size).sum();
        format!("objects={}, bytes={bytes}", self.context.objects.len())
    }

    fn predicate(&self) -> Option<&Arc<dyn PhysicalExpr>> {
        self.predicate.as_ref()
    }

    fn read(&self, part: &PartRead<'_>) -> BoxStream<'static, Result<RecordBatch>> {
        let pieces = self.pieces.get(part.partition).cloned().unwrap_or_default();
        let scan = PartitionScan {
            context: Arc::clone(&self.context),
            batch_rows: part.batch_rows,
            bytes_scanned: part.counter("bytes_scanned"),
            rows_pruned: part.counter("rows_pruned"),
        };
        stream_of(|emitter| scan.run(pieces, emitter)).boxed()
    }
}
