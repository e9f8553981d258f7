//! A source as DataFusion sees it.

use std::ops::Range;
use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use bessemer_schemas::ORIGIN_COLUMN;
use datafusion_catalog::{Session, TableProvider};
use datafusion_common::Result as EngineResult;
use datafusion_expr::{Expr, TableType};
use datafusion_physical_plan::ExecutionPlan;

use super::replay::KafkaReplay;
use super::scan::{KafkaScan, ReadPlan, ScanContext};
use super::source::KafkaSource;
use crate::scan::{ScanExec, ScanOffsets, epoch_scans, replay_plan};

/// A source as a table. What it holds is what the session's [`crate::scan::EpochScans`] say.
#[derive(Debug)]
pub(super) struct KafkaTable {
    source: Arc<KafkaSource>,
    schema: SchemaRef,
}

impl KafkaTable {
    /// The table of a source, with row identity as its last column or without.
    pub(super) fn new(source: Arc<KafkaSource>, with_origin: bool) -> Self {
        let mut fields: Vec<Arc<Field>> = source.schema().fields().iter().cloned().collect();
        if with_origin {
            fields.push(Arc::new(Field::new(ORIGIN_COLUMN, DataType::UInt64, false)));
        }
        Self { source, schema: Arc::new(Schema::new(fields)) }
    }
}

#[async_trait]
impl TableProvider for KafkaTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> EngineResult<Arc<dyn ExecutionPlan>> {
        let scans = epoch_scans(state, self.source.name())?;
        let wanted = projection.cloned().unwrap_or_else(|| (0..self.schema.fields().len()).collect());
        let output_schema = Arc::new(self.schema.project(&wanted)?);
        let plan = ReadPlan::new(&self.source, output_schema, &wanted);
        if let Some((parts, number)) = scans.replayed(self.source.name()) {
            let (name, reporter) = (Arc::clone(self.source.shared_name()), scans.reporter(self.source.name()));
            let schema = Arc::clone(&plan.output_schema);
            let reader = KafkaReplay { source: Arc::clone(&self.source), plan, number };
            return replay_plan(schema, name, parts, reporter, Arc::new(reader));
        }
        let (ranges, number) = scans.offsets(self.source.name());
        let runs = partitioned(&ranges, state.config().target_partitions());
        let context = ScanContext {
            plan,
            source: Arc::clone(&self.source),
            ranges,
            bad_before: scans.bad_records(self.source.name()),
            number,
            reporter: scans.reporter(self.source.name()),
        };
        Ok(Arc::new(ScanExec::new(KafkaScan { context: Arc::new(context), runs })))
    }
}

/// Cuts a slice into at most `partitions` runs of whole ranges, by the number of their offsets alone, so that draining
/// the partitions in order gives the rows in the order of their identity, whatever their number.
fn partitioned(ranges: &[ScanOffsets], partitions: usize) -> Vec<Range<usize>> {
    let weights: Vec<u128> = ranges.iter().map(|offsets| u128::from(offsets.range.offsets().max(1))).collect();
    let total: u128 = weights.iter().sum();
    let partitions = partitions.max(1);
    let mut runs: Vec<Range<usize>> = Vec::new();
    let (mut before, mut last) = (0, None);
    for (at, weight) in weights.iter().enumerate() {
        let middle = (before + weight / 2) * partitions as u128 / total.max(1);
        match runs.last_mut() {
            Some(run) if last == Some(middle) => run.end = at + 1,
            _ => runs.push(at..at + 1),
        }
        last = Some(middle);
        before += weight;
    }
    runs
}

#[cfg(test)]
mod tests {
    use bessemer_schemas::OffsetRange;

    use super::*;

    #[test]
    fn runs_cover_the_ranges_in_order() {
        for (sizes, partitions) in
            [(vec![], 2), (vec![5], 4), (vec![0, 0, 0], 2), (vec![100, 1, 1, 100, 3], 2), (vec![1; 9], 4)]
        {
            let range = |size: &i64| OffsetRange {
                topic: "t".to_owned(),
                partition: 0,
                start: 7,
                end: 7 + size,
                topic_id: None,
                late_before: None,
                is_apart: false,
            };
            let ranges: Vec<_> = sizes.iter().map(|size| ScanOffsets { range: range(size), is_new: true }).collect();
            let runs = partitioned(&ranges, partitions);
            assert!(runs.len() <= partitions);
            assert_eq!(runs.iter().cloned().flatten().collect::<Vec<_>>(), (0..sizes.len()).collect::<Vec<_>>());
        }
    }
}
