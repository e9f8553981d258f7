//! What the tests share: files of every format with the same rows, and one way to scan them.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::compute::concat_batches;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use arrow_schema::{DataType, Schema, TimeUnit};
use bessemer_schemas::{
    ColumnDefinition, Name, ObjectVersion, OnLate, OptionEntry, OptionMap, OptionValue, SliceLimits, SourceDefinition,
    SourceKind, SourceLedger, Span, WatermarkDefinition,
};
use datafusion_catalog::Session;
use datafusion_common::DataFusionError;
use datafusion_execution::config::SessionConfig;
use datafusion_expr::Expr;
use datafusion_physical_plan::ExecutionPlan;
use futures::stream::{self, StreamExt, TryStreamExt};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder};
use tokio::sync::mpsc;

use crate::object_store::{ObjectSource, ObjectSourceOptions};
use crate::scan::{EpochScans, ScanInput, ScanObject, ScanReport};
use crate::test_session::TestSession;
use crate::{Error, Location, Result};

pub(super) const MICROS: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);

pub(super) fn name(value: &str) -> Name {
    Name { value: value.to_owned(), span: Span::default() }
}

pub(super) fn watermark(column: &str, delay: i64, on_late: Option<OnLate>) -> WatermarkDefinition {
    WatermarkDefinition { column: name(column), expr: None, delay, on_late, span: Span::default() }
}

pub(super) fn column(column: &str, data_type: DataType, nullable: bool) -> ColumnDefinition {
    ColumnDefinition {
        name: name(column),
        data_type,
        type_span: Span::default(),
        nullable,
        default: None,
        generated: None,
    }
}

/// The columns of [`rows`].
pub(super) fn columns() -> Vec<ColumnDefinition> {
    vec![
        column("id", DataType::Int64, false),
        column("name", DataType::Utf8, true),
        column("amount", DataType::Float64, true),
        column("at", MICROS, true),
    ]
}

/// Rows `ids`, some with nulls.
pub(super) fn rows(ids: std::ops::Range<i64>) -> RecordBatch {
    let list: Vec<i64> = ids.collect();
    let name = |id: &i64| (id % 3 != 0).then(|| format!("näme \"{id}\", x"));
    let columns: Vec<(&str, ArrayRef, bool)> = vec![
        ("id", Arc::new(Int64Array::from(list.clone())), false),
        ("name", Arc::new(list.iter().map(name).collect::<StringArray>()), true),
        (
            "amount",
            Arc::new(list.iter().map(|id| (id % 5 != 0).then_some(*id as f64 / 4.0)).collect::<Float64Array>()),
            true,
        ),
        (
            "at",
            Arc::new(TimestampMicrosecondArray::from(list.iter().map(|id| id * 1_000_000).collect::<Vec<_>>())),
            true,
        ),
    ];
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

/// The rows as text, to compare whatever their types' spelling.
pub(super) fn text(batches: &[RecordBatch]) -> Vec<String> {
    let options = FormatOptions::default().with_null("∅");
    let mut lines = Vec::new();
    for batch in batches {
        let columns: Vec<_> =
            batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).unwrap()).collect();
        for row in 0..batch.num_rows() {
            lines.push(columns.iter().map(|column| column.value(row).to_string()).collect::<Vec<_>>().join("|"));
        }
    }
    lines
}

pub(super) fn csv(batch: &RecordBatch) -> Vec<u8> {
    let mut bytes = Vec::new();
    let names: Vec<_> = batch.schema_ref().fields().iter().map(|field| field.name().clone()).collect();
    writeln!(bytes, "{}", names.join(",")).unwrap();
    let options = FormatOptions::default();
    for row in 0..batch.num_rows() {
        let fields = batch.columns().iter().map(|column| {
            let text = ArrayFormatter::try_new(column, &options).unwrap().value(row).to_string();
            if text.contains(['"', ',']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
        });
        writeln!(bytes, "{}", fields.collect::<Vec<_>>().join(",")).unwrap();
    }
    bytes
}

pub(super) fn json(batch: &RecordBatch) -> Vec<u8> {
    let mut bytes = Vec::new();
    for row in 0..batch.num_rows() {
        bytes.extend(super::super::reject_rows::row_json(batch, row).unwrap());
        bytes.push(b'\n');
    }
    bytes
}

/// A Parquet file with row groups of `group_rows`.
pub(super) fn parquet(batch: &RecordBatch, group_rows: usize) -> Vec<u8> {
    parquet_with(batch, |properties| properties.set_max_row_group_row_count(Some(group_rows)))
}

pub(super) fn parquet_with(
    batch: &RecordBatch,
    set: impl FnOnce(WriterPropertiesBuilder) -> WriterPropertiesBuilder,
) -> Vec<u8> {
    let mut writer =
        ArrowWriter::try_new(Vec::new(), batch.schema(), Some(set(WriterProperties::builder()).build())).unwrap();
    writer.write(batch).unwrap();
    writer.into_inner().unwrap()
}

pub(super) fn ipc_file(batch: &RecordBatch) -> Vec<u8> {
    let mut writer = arrow_ipc::writer::FileWriter::try_new(Vec::new(), batch.schema_ref()).unwrap();
    writer.write(batch).unwrap();
    writer.into_inner().unwrap()
}

pub(super) fn ipc_stream(batch: &RecordBatch) -> Vec<u8> {
    let mut writer = arrow_ipc::writer::StreamWriter::try_new(Vec::new(), batch.schema_ref()).unwrap();
    writer.write(batch).unwrap();
    writer.into_inner().unwrap()
}

pub(super) fn avro(batch: &RecordBatch) -> Vec<u8> {
    let mut writer = arrow_avro::writer::AvroWriter::new(Vec::new(), batch.schema().as_ref().clone()).unwrap();
    writer.write(batch).unwrap();
    writer.finish().unwrap();
    writer.into_inner()
}

pub(super) fn write(folder: &Path, path: &str, bytes: &[u8]) {
    let path = folder.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

pub(super) fn definition(columns: Option<Vec<ColumnDefinition>>, options: &[(&str, &str)]) -> SourceDefinition {
    let entry = |(key, value): &(&str, &str)| OptionEntry {
        key: (*key).to_owned(),
        key_span: Span::default(),
        value: OptionValue::Text((*value).to_owned()),
        value_span: Span::default(),
    };
    SourceDefinition {
        name: name("flights"),
        kind: SourceKind::Log,
        columns,
        watermark: None,
        includes: Vec::new(),
        options: OptionMap::new("source `flights`", Span::default(), options.iter().map(entry).collect()),
    }
}

pub(super) fn parse(definition: &mut SourceDefinition, folder: &Path) -> ObjectSourceOptions {
    let (options, diagnostics) = ObjectSourceOptions::parse(definition, folder);
    options.unwrap_or_else(|| panic!("{diagnostics:?}"))
}

pub(super) async fn open(
    folder: &Path,
    columns: Option<Vec<ColumnDefinition>>,
    options: &[(&str, &str)],
) -> Result<Arc<ObjectSource>> {
    let mut definition = definition(columns, options);
    let options = parse(&mut definition, folder);
    ObjectSource::open(&definition, options).await
}

/// The same in memory: `objects` under `in/`.
pub(super) async fn open_in_memory(
    objects: &[(&str, Vec<u8>)],
    columns: Option<Vec<ColumnDefinition>>,
    options: &[(&str, &str)],
) -> Result<(Arc<ObjectSource>, Location)> {
    use object_store::ObjectStoreExt;
    let store: Arc<dyn object_store::ObjectStore> = Arc::new(object_store::memory::InMemory::new());
    for (path, bytes) in objects {
        store.put(&format!("in/{path}").as_str().into(), bytes.clone().into()).await.unwrap();
    }
    let mut definition = definition(columns, options);
    let location = Location::in_store(store, "in".into());
    let options = parse(&mut definition, Path::new("/")).in_location(location.clone());
    Ok((ObjectSource::open(&definition, options).await?, location))
}

/// The same out of `store`, below `in/`.
pub(super) async fn open_in(
    store: impl object_store::ObjectStore,
    columns: Option<Vec<ColumnDefinition>>,
    options: &[(&str, &str)],
) -> Result<Arc<ObjectSource>> {
    let mut definition = definition(columns, options);
    let location = Location::in_store(Arc::new(store), "in".into());
    let options = parse(&mut definition, Path::new("/")).in_location(location);
    ObjectSource::open(&definition, options).await
}

/// The paths of what a source finds.
pub(super) async fn listed_paths(source: &Arc<ObjectSource>) -> Result<Vec<String>> {
    Ok(listed(source).await?.into_iter().map(|version| version.path).collect())
}

pub(super) async fn listed(source: &Arc<ObjectSource>) -> Result<Vec<ObjectVersion>> {
    let mut listing = source.list(stream::empty().boxed()).await?;
    listing.next_slice(&mut SliceLimits { files: u64::MAX, ..SliceLimits::default() }).await
}

/// What a scan is asked for.
#[derive(Default)]
pub(super) struct Ask<'a> {
    pub(super) projection: Option<&'a [usize]>,
    pub(super) filters: &'a [Expr],
    pub(super) partitions: usize,
    pub(super) with_origin: bool,
    pub(super) batch_rows: Option<usize>,
}

/// What it gave.
#[derive(Debug, Default)]
pub(super) struct Scanned {
    pub(super) batches: Vec<RecordBatch>,
    pub(super) ledger: SourceLedger,
    pub(super) rejects: Vec<RecordBatch>,
    pub(super) bytes: u64,
}

impl Scanned {
    pub(super) fn text(&self) -> Vec<String> {
        text(&self.batches)
    }

    /// Reason and record of each reject.
    pub(super) fn reasons(&self) -> Vec<String> {
        self.rejects.iter().flat_map(|batch| text(&[batch.project(&[0, 4, 5]).unwrap()])).collect()
    }

    pub(super) fn whole(&self, schema: &Schema) -> RecordBatch {
        concat_batches(&Arc::new(schema.clone()), &self.batches).unwrap()
    }
}

pub(super) async fn plan(
    source: &Arc<ObjectSource>,
    objects: &[ObjectVersion],
    ask: &Ask<'_>,
    scans: EpochScans,
) -> (Arc<dyn ExecutionPlan>, TestSession) {
    plan_of(source, new_objects(objects), ask, scans).await
}

fn new_objects(objects: &[ObjectVersion]) -> ScanInput {
    let objects = objects.iter().map(|version| ScanObject { version: version.clone(), is_new: true });
    ScanInput::Objects(objects.collect())
}

async fn plan_of(
    source: &Arc<ObjectSource>,
    input: ScanInput,
    ask: &Ask<'_>,
    scans: EpochScans,
) -> (Arc<dyn ExecutionPlan>, TestSession) {
    let scans = scans.with_source("flights", 5, input);
    let config = SessionConfig::new()
        .with_target_partitions(ask.partitions.max(1))
        .with_batch_size(ask.batch_rows.unwrap_or(8_192))
        .with_extension(Arc::new(scans));
    let context = TestSession::new(config);
    let provider = source.table_provider(ask.with_origin);
    let projection = ask.projection.map(<[usize]>::to_vec);
    let plan = provider.scan(&context, projection.as_ref(), ask.filters, None).await.unwrap();
    (plan, context)
}

/// Scans `objects` to the end, partition after partition, and takes the reports along.
pub(super) async fn scan_objects(
    source: &Arc<ObjectSource>,
    objects: &[ObjectVersion],
    ask: Ask<'_>,
) -> Result<Scanned> {
    scan_input(source, new_objects(objects), ask).await
}

/// The same of any input.
pub(super) async fn scan_input(source: &Arc<ObjectSource>, input: ScanInput, ask: Ask<'_>) -> Result<Scanned> {
    let (sender, mut reports) = mpsc::channel(4);
    let (plan, context) = plan_of(source, input, &ask, EpochScans::new(sender)).await;
    let collecting = tokio::spawn(async move {
        let mut scanned = Scanned::default();
        while let Some(report) = reports.recv().await {
            match report {
                ScanReport::Rejects { batch, .. } => scanned.rejects.push(batch),
                ScanReport::ObjectDone { ledger, .. } => scanned.ledger.add(&ledger),
                // Dropped where the queue is full; the plan's own metric says what was read.
                ScanReport::ReadAgain { .. } | ScanReport::BadRecords { .. } | ScanReport::Progress { .. } => {}
            }
        }
        scanned
    });
    let mut batches = Vec::new();
    let mut failure = None;
    for partition in 0..plan.properties().partitioning.partition_count() {
        let mut stream = plan.execute(partition, context.task_ctx()).unwrap();
        loop {
            match stream.try_next().await {
                Ok(Some(batch)) => batches.push(batch),
                Ok(None) => break,
                Err(error) => {
                    failure.get_or_insert(ours(error));
                    break;
                }
            }
        }
    }
    let bytes = plan.metrics().and_then(|metrics| metrics.sum_by_name("bytes_scanned"));
    drop((plan, context));
    let mut scanned = collecting.await.unwrap();
    scanned.bytes = bytes.map_or(0, |bytes| bytes.as_usize() as u64);
    scanned.batches = batches;
    scanned.ledger.quarantined = scanned.rejects.iter().map(|batch| batch.num_rows() as u64).sum();
    if let Some(error) = failure {
        return Err(error);
    }
    scanned.ledger.balance("flights").unwrap();
    Ok(scanned)
}

pub(super) async fn scan(source: &Arc<ObjectSource>, ask: Ask<'_>) -> Result<Scanned> {
    scan_objects(source, &listed(source).await?, ask).await
}

/// Our error out of the engine's, as the epoch loop takes it.
pub(super) fn ours(error: DataFusionError) -> Error {
    match error {
        DataFusionError::External(error) => *error.downcast::<Error>().unwrap(),
        other => panic!("{other}"),
    }
}
