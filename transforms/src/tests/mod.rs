//! Tests over whole definitions, from text to rows.

mod asof_join;
mod classification;
mod errors;
mod page;
mod rows;
mod windows;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use bessemer_schemas::{
    Definition, Diagnostic, IncludeKind, ORIGIN_COLUMN, PartitionField, SourceDefinition, SourceFile, pack_origin,
};
use datafusion::datasource::MemTable;
use datafusion::execution::SessionState;
use datafusion::physical_plan::{ExecutionPlan, execute_stream_partitioned};
use futures::TryStreamExt;

use crate::{Plan, Relation, SessionOptions, session};

/// What most tests read.
pub(crate) const FLIGHTS: &str = "
CREATE SOURCE flights (
    id BIGINT NOT NULL, carrier VARCHAR NOT NULL, origin VARCHAR, delay DOUBLE, distance BIGINT, scheduled TIMESTAMP,
    tags VARCHAR[]
) WITH (connector = 'object_store', path = 'x', format = 'json');
CREATE SOURCE weather (origin VARCHAR, at TIMESTAMP, wind DOUBLE)
WITH (connector = 'object_store', path = 'x', format = 'json');
CREATE TABLE planes (tailnum VARCHAR, carrier VARCHAR, seats BIGINT)
WITH (connector = 'object_store', path = 'x', format = 'json');
";

pub(crate) fn state(partitions: usize) -> SessionState {
    state_with(partitions, 8192, 256 << 20)
}

pub(crate) fn state_with(partitions: usize, batch_rows: usize, memory_bytes: usize) -> SessionState {
    session(&SessionOptions {
        partitions: NonZeroUsize::new(partitions).unwrap(),
        memory_bytes,
        process_memory: None,
        spill_dir: std::env::temp_dir(),
        spill_bytes_max: 1 << 30,
        batch_rows: NonZeroUsize::new(batch_rows).unwrap(),
    })
    .unwrap()
}

pub(crate) fn parse(text: &str) -> (Option<Definition>, Vec<Diagnostic>) {
    bessemer_sql::parse(vec![SourceFile { path: "test.sql".to_owned(), text: text.to_owned() }], &|_| None)
}

pub(crate) fn definition(text: &str) -> Definition {
    let (definition, diagnostics) = parse(text);
    let errors: Vec<_> = diagnostics.iter().filter(|diagnostic| diagnostic.is_error()).collect();
    assert!(errors.is_empty(), "{errors:#?}");
    definition.unwrap()
}

/// Columns that a scan of `source` gives.
pub(crate) fn scan_schema(source: &SourceDefinition) -> SchemaRef {
    let columns = source.columns.iter().flatten().filter(|column| column.generated.is_none());
    let mut fields: Vec<_> =
        columns.map(|column| Field::new(&column.name.value, column.data_type.clone(), column.nullable)).collect();
    fields.extend(source.includes.iter().map(|include| {
        let data_type = match include.kind {
            IncludeKind::Path => DataType::Utf8,
            _ => DataType::Int64,
        };
        Field::new(&include.name.value, data_type, false)
    }));
    Arc::new(Schema::new(fields))
}

/// Relations over batches in memory; one batch is one object, and batches are dealt to three partitions.
pub(crate) fn relations(definition: &Definition, data: &BTreeMap<&str, Vec<RecordBatch>>) -> Vec<Relation> {
    let sources = definition.sources.iter().enumerate();
    sources
        .map(|(number, source)| {
            let schema = scan_schema(source);
            let batches = data.get(source.name.value.as_str()).cloned().unwrap_or_default();
            let plain = deal(batches.clone());
            let with_origin = batches.iter().enumerate().map(|(object, batch)| origin(batch, number, object)).collect();
            let mut fields = schema.fields().to_vec();
            fields.push(Arc::new(Field::new(ORIGIN_COLUMN, DataType::UInt64, false)));
            Relation {
                name: source.name.value.clone(),
                plain: Arc::new(MemTable::try_new(schema, plain).unwrap()),
                with_origin: Arc::new(MemTable::try_new(Arc::new(Schema::new(fields)), deal(with_origin)).unwrap()),
            }
        })
        .collect()
}

fn deal(batches: Vec<RecordBatch>) -> Vec<Vec<RecordBatch>> {
    let mut partitions = vec![Vec::new(); 3];
    for (at, batch) in batches.into_iter().enumerate() {
        partitions[at % 3].push(batch);
    }
    partitions
}

fn origin(batch: &RecordBatch, source: usize, object: usize) -> RecordBatch {
    let rows = 0..batch.num_rows() as u64;
    let origin: UInt64Array = rows.map(|row| pack_origin(source as u64, object as u64, row)).collect();
    let mut fields = batch.schema().fields().to_vec();
    fields.push(Arc::new(Field::new(ORIGIN_COLUMN, DataType::UInt64, false)));
    let mut columns: Vec<ArrayRef> = batch.columns().to_vec();
    columns.push(Arc::new(origin));
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

pub(crate) fn plan_with(
    text: &str,
    data: &BTreeMap<&str, Vec<RecordBatch>>,
    partitioning: &[(&str, &str)],
    state: &SessionState,
) -> (Option<Plan>, Vec<Diagnostic>) {
    let definition = definition(text);
    let relations = relations(&definition, data);
    let partitioning =
        partitioning.iter().map(|(set, list)| ((*set).to_owned(), PartitionField::parse_list(list).unwrap())).collect();
    let (plan, found) = crate::plan(&definition, &relations, &partitioning, state);
    let is_sound = !found.iter().any(Diagnostic::is_error);
    (is_sound.then_some(plan), found)
}

/// The plan of a definition over no rows.
pub(crate) fn planned(text: &str) -> Plan {
    let (plan, found) = plan_with(text, &BTreeMap::new(), &[], &state(2));
    plan.unwrap_or_else(|| panic!("{found:#?}"))
}

/// Rows as texts, without the column `but`.
pub(crate) fn lines(batches: &[RecordBatch], but: &str) -> Vec<String> {
    let options = FormatOptions::default().with_null("∅");
    let mut lines = Vec::new();
    for batch in batches {
        let schema = batch.schema();
        let columns = batch.columns().iter().zip(schema.fields()).filter(|(_, field)| field.name() != but);
        let columns: Vec<_> = columns.map(|(column, _)| ArrayFormatter::try_new(column, &options).unwrap()).collect();
        for row in 0..batch.num_rows() {
            lines.push(columns.iter().map(|column| column.value(row).to_string()).collect::<Vec<_>>().join("|"));
        }
    }
    lines
}

pub(crate) async fn run(plan: Arc<dyn ExecutionPlan>, state: &SessionState) -> Vec<Vec<RecordBatch>> {
    let mut partitions = Vec::new();
    for stream in execute_stream_partitioned(plan, state.task_ctx()).unwrap() {
        partitions.push(stream.try_collect::<Vec<_>>().await.unwrap());
    }
    partitions
}
