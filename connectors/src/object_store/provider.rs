//! A source as DataFusion sees it.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use bessemer_schemas::ORIGIN_COLUMN;
use datafusion_catalog::{Session, TableProvider};
use datafusion_common::{DFSchema, Result as EngineResult};
use datafusion_expr::utils::conjunction;
use datafusion_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_plan::ExecutionPlan;
use datafusion_pruning::PruningPredicateBuilder;

use super::options::{FileFormat, OnError};
use super::piece::partitioned;
use super::read_plan::ReadPlan;
use super::replay::ObjectReplay;
use super::scan::ObjectScan;
use super::scan_piece::ScanContext;
use super::source::ObjectSource;
use crate::scan::{ScanExec, engine_error, epoch_scans, replay_plan};

/// A source as a table. What it holds is what the session's [`crate::scan::EpochScans`] say.
#[derive(Debug)]
pub(super) struct ObjectTable {
    source: Arc<ObjectSource>,
    schema: SchemaRef,
}

impl ObjectTable {
    /// The table of a source, with row identity as its last column or without.
    pub(super) fn new(source: Arc<ObjectSource>, with_origin: bool) -> Self {
        let schema = if with_origin {
            let mut fields: Vec<Arc<Field>> = source.schema().fields().iter().cloned().collect();
            fields.push(Arc::new(Field::new(ORIGIN_COLUMN, DataType::UInt64, false)));
            Arc::new(Schema::new(fields))
        } else {
            Arc::clone(source.schema())
        };
        Self { source, schema }
    }

    fn predicate(&self, state: &dyn Session, filters: &[Expr]) -> EngineResult<Option<Arc<dyn PhysicalExpr>>> {
        let Some(filter) = conjunction(filters.iter().cloned()) else { return Ok(None) };
        let schema = DFSchema::try_from(Arc::clone(&self.schema))?;
        state.create_physical_expr(filter, &schema).map(Some)
    }
}

#[async_trait]
impl TableProvider for ObjectTable {
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
        filters: &[Expr],
        limit: Option<usize>,
    ) -> EngineResult<Arc<dyn ExecutionPlan>> {
        let scans = epoch_scans(state, self.source.name())?;
        let wanted = projection.cloned().unwrap_or_else(|| (0..self.schema.fields().len()).collect());
        let output_schema = Arc::new(self.schema.project(&wanted)?);
        let options = self.source.options();
        let checks_rows = !matches!(options.format, FileFormat::Text(_));
        let plan = ReadPlan::new(&self.source, &output_schema, &wanted, checks_rows).map_err(engine_error)?;

        if let Some((parts, number)) = scans.replayed(self.source.name()) {
            let (name, reporter) = (Arc::clone(self.source.shared_name()), scans.reporter(self.source.name()));
            let reader = ObjectReplay { source: Arc::clone(&self.source), plan, number };
            return replay_plan(output_schema, name, parts, reporter, Arc::new(reader));
        }

        let predicate = self.predicate(state, filters)?;
        // A filter that says nothing about single columns prunes nothing.
        let pruning = predicate.as_ref().and_then(|predicate| {
            PruningPredicateBuilder::new().with_file_schema(Arc::clone(&self.schema)).build(Arc::clone(predicate))
        });
        let predicate = predicate.filter(|_| pruning.is_some());

        let (objects, number) = scans.objects(self.source.name());
        // A quarantined object is one reject, so one partition must see all of it.
        let can_split = options.format == FileFormat::Parquet && options.on_error == OnError::Fail;
        let is_first_rows = scans.is_preview() && limit.is_some();
        let partitions = if is_first_rows { 1 } else { state.config().target_partitions() };
        let pieces = partitioned(&objects, partitions, can_split);
        let context = ScanContext {
            source: Arc::clone(&self.source),
            plan,
            objects,
            number,
            predicate: pruning,
            reporter: scans.reporter(self.source.name()),
        };
        Ok(Arc::new(ScanExec::new(ObjectScan { context: Arc::new(context), pieces, predicate })))
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> EngineResult<Vec<TableProviderFilterPushDown>> {
        // Only Parquet has statistics to prune by; what is pushed down is evaluated again above the scan.
        let answer = |filter: &&Expr| match self.source.options().format {
            FileFormat::Parquet if !filter.is_volatile() => TableProviderFilterPushDown::Inexact,
            _ => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(answer).collect())
    }
}
