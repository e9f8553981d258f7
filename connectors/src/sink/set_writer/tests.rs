//! What the module `set_writer` promises, tested.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Date32Array, Float64Array, Int64Array, ListArray, StringArray,
    StringDictionaryBuilder, StringViewArray, StructArray, TimestampMicrosecondArray, TimestampNanosecondArray,
    UInt64Array,
};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Int32Type, Int64Type, Schema, SchemaRef, TimeUnit};
use arrow::record_batch::RecordBatch;
use bessemer_schemas::{ByteSize, Claim, Epoch, ErrorKind, ORIGIN_COLUMN, PartitionField};
use bytes::Bytes;
use datafusion_execution::memory_pool::GreedyMemoryPool;
use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::arrow_reader::{ParquetRecordBatchReaderBuilder, statistics::StatisticsConverter};
use parquet::file::metadata::RowGroupMetaData;
use proptest::prelude::*;

use super::super::faulty_store::FaultyStore;
use super::*;
use crate::Location;

const NAMING: WriterNaming = WriterNaming { epoch: Epoch(7), claim: Claim(0xbe55), attempt: 0, stream: 0 };

fn in_memory() -> Location {
    Location::in_store(Arc::new(InMemory::new()), Path::from("sets/delays"))
}

fn options(location: &Location, partition_by: &str) -> FeatureSetOptions {
    let mut options = FeatureSetOptions::with_defaults(location.clone());
    if !partition_by.is_empty() {
        options.partition_by = PartitionField::parse_list(partition_by).unwrap();
    }
    options
}

fn set() -> WrittenSet {
    WrittenSet::new("flights", "delays")
}

async fn write(options: &FeatureSetOptions, set: WrittenSet, batches: &[RecordBatch]) -> Result<Vec<DataFile>> {
    let mut writer = SetWriter::new(options, &batches[0].schema(), NAMING, set)?;
    for batch in batches {
        if let Err(error) = writer.write(batch).await {
            writer.abort().await;
            return Err(error);
        }
    }
    writer.finish().await
}

async fn contents(location: &Location) -> BTreeMap<String, Bytes> {
    let store = location.store();
    let listed: Vec<_> = store.list(None).try_collect().await.unwrap();
    let mut contents = BTreeMap::new();
    for object in listed {
        let bytes = store.get(&object.location).await.unwrap().bytes().await.unwrap();
        contents.insert(object.location.to_string(), bytes);
    }
    contents
}

fn read(bytes: &Bytes) -> RecordBatch {
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes.clone()).unwrap();
    let schema = Arc::clone(builder.schema());
    let batches: Vec<_> = builder.build().unwrap().map(Result::unwrap).collect();
    concat_batches(&schema, &batches).unwrap()
}

fn ints(name: &str, values: impl IntoIterator<Item = i64>) -> RecordBatch {
    batch([(name, Arc::new(Int64Array::from_iter_values(values)) as ArrayRef)])
}

fn batch<const N: usize>(columns: [(&str, ArrayRef); N]) -> RecordBatch {
    RecordBatch::try_from_iter(columns).unwrap()
}

/// Rows with nulls in stretches, nested values, text in three layouts, long enough for several chunks and pages.
fn varied(rows: usize) -> RecordBatch {
    let some = |row: usize| (row / 700) % 3 != 1;
    let n = |row: usize| i64::try_from(row).unwrap();
    let text = |row: usize| some(row).then(|| format!("text {}", row % 5_000));
    let mut dictionary = StringDictionaryBuilder::<Int32Type>::new();
    (0..rows).for_each(|row| dictionary.append_option(some(row).then(|| format!("d{}", row % 7))));
    let lists =
        ListArray::from_iter_primitive::<Int64Type, _, _>((0..rows).map(|row| {
            (row % 11 != 3).then(|| (0..row % 4).map(|i| (i != 2).then(|| n(row + i))).collect::<Vec<_>>())
        }));
    let inner: ArrayRef = Arc::new((0..rows).map(|row| some(row).then_some(row % 2 == 0)).collect::<BooleanArray>());
    let nested = StructArray::from(vec![(Arc::new(Field::new("flag", DataType::Boolean, true)), inner)]);
    batch([
        ("id", Arc::new(Int64Array::from_iter_values((0..rows).map(n)))),
        ("delay", Arc::new((0..rows).map(|row| some(row).then_some(row as f64 / 3.0)).collect::<Float64Array>())),
        ("word", Arc::new((0..rows).map(text).collect::<StringArray>())),
        ("view", Arc::new((0..rows).map(text).collect::<StringViewArray>())),
        ("code", Arc::new(dictionary.finish())),
        ("list", Arc::new(lists)),
        ("nested", Arc::new(nested)),
        (
            "at",
            Arc::new((0..rows).map(|row| some(row).then_some(n(row) * 1_000)).collect::<TimestampMicrosecondArray>()),
        ),
    ])
}

fn cut(batch: &RecordBatch, cuts: &[usize]) -> Vec<RecordBatch> {
    let mut start = 0;
    let mut pieces = Vec::new();
    for cut in cuts.iter().copied().chain([batch.num_rows()]) {
        let end = cut.clamp(start, batch.num_rows());
        pieces.push(batch.slice(start, end - start));
        start = end;
    }
    pieces
}

#[tokio::test]
async fn rows_come_back_with_their_types() {
    let location = in_memory();
    let rows = varied(20_000);

    let files = write(&options(&location, ""), set(), &cut(&rows, &[3, 9_000])).await.unwrap();

    let contents = contents(&location).await;
    let back = read(&contents["sets/delays/0000000007-000000000000be55-0-000-00000.parquet"]);
    assert_eq!(files.len(), 1);
    assert_eq!((files[0].rows, files[0].bytes), (20_000, contents.values().next().unwrap().len() as u64));
    for (idx, field) in rows.schema().fields().iter().enumerate() {
        let expected = if field.name() == "view" { rows.column(2) } else { rows.column(idx) };
        assert_eq!(back.column(idx), expected, "{}", field.name());
    }
}

#[tokio::test]
async fn hidden_column_and_identity_partitions_are_not_in_the_file() {
    let location = in_memory();
    let rows = batch([
        ("carrier", Arc::new(StringArray::from(vec!["AA", "AA", "UA"])) as ArrayRef),
        ("delay", Arc::new(Int64Array::from(vec![1, 2, 3]))),
        (ORIGIN_COLUMN, Arc::new(UInt64Array::from(vec![7, 8, 9]))),
    ]);

    let files = write(&options(&location, "carrier"), set(), &[rows]).await.unwrap();

    let paths: Vec<_> = files.iter().map(|file| (file.path.as_str(), file.rows)).collect();
    let name = |seq| format!("0000000007-000000000000be55-0-000-0000{seq}.parquet");
    assert_eq!(
        paths,
        [(format!("carrier=AA/{}", name(0)).as_str(), 2), (format!("carrier=UA/{}", name(1)).as_str(), 1)]
    );
    assert_eq!(files[1].partition, [("carrier".to_owned(), Some("UA".to_owned()))]);
    let contents = contents(&location).await;
    let back = read(&contents[&format!("sets/delays/{}", paths[0].0)]);
    assert_eq!(back.schema().fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>(), ["delay"]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]

    #[test]
    fn bytes_do_not_depend_on_cuts_or_encoders(mut cuts in prop::collection::vec(0_usize..25_000, 0..6), encoders in 1_usize..4) {
        let rows = varied(25_000);
        cuts.sort_unstable();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
        runtime.block_on(async {
            let write_with = async |encoders: usize, batches: &[RecordBatch]| {
                let location = in_memory();
                let mut options = options(&location, "");
                options.row_group_rows = NonZeroUsize::new(10_000).unwrap();
                let mut set = set();
                set.entity = vec!["id".to_owned(), "word".to_owned()];
                set.encoders = NonZeroUsize::new(encoders).unwrap();
                write(&options, set, batches).await.unwrap();
                contents(&location).await
            };
            let whole = write_with(1, std::slice::from_ref(&rows)).await;
            let pieces = write_with(encoders, &cut(&rows, &cuts)).await;
            assert!(whole == pieces, "cuts {cuts:?}, {encoders} encoders");
        });
    }
}

#[tokio::test]
async fn row_groups_are_cut_by_rows_and_files_by_bytes_at_their_ends() {
    let location = in_memory();
    let mut options = options(&location, "");
    options.row_group_rows = NonZeroUsize::new(1_000).unwrap();
    options.file_bytes = ByteSize(10_000);

    let files = write(&options, set(), &[ints("n", (0..5_500).map(|n| n * 7_919 % 104_729))]).await.unwrap();

    let contents = contents(&location).await;
    let groups = |file: &DataFile| {
        let bytes = contents[location.path(&file.path).as_ref()].clone();
        let builder = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap();
        builder.metadata().row_groups().iter().map(RowGroupMetaData::num_rows).collect::<Vec<_>>()
    };
    let cuts: Vec<_> = files.iter().map(groups).collect();
    assert_eq!(cuts.concat(), [1_000, 1_000, 1_000, 1_000, 1_000, 500]);
    assert!(files.len() > 1, "{cuts:?}");
    assert!(files[..files.len() - 1].iter().all(|file| file.bytes >= 10_000), "{files:?}");
}

#[tokio::test]
async fn a_dictionary_that_was_too_small_is_not_tried_again_in_the_file() {
    let location = in_memory();
    let mut options = options(&location, "");
    options.row_group_rows = NonZeroUsize::new(200_000).unwrap();
    let few = Int64Array::from_iter_values((0..500_000).map(|row| row % 7));
    let rows = batch([("id", Arc::new(Int64Array::from_iter_values(0..500_000)) as ArrayRef), ("few", Arc::new(few))]);
    write(&options, set(), std::slice::from_ref(&rows)).await.unwrap();
    let contents = contents(&location).await;
    let file = contents.values().next().unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(file.clone()).unwrap();
    let groups = reader.metadata().row_groups();
    let has_dictionary: Vec<Vec<bool>> = groups
        .iter()
        .map(|group| group.columns().iter().map(|column| column.dictionary_page_offset().is_some()).collect())
        .collect();
    assert_eq!(has_dictionary, [[true, true], [false, true], [false, true]]);
    assert!(read(file).columns() == rows.columns());
}

#[tokio::test]
async fn no_rows_make_no_file() {
    let location = in_memory();
    let files = write(&options(&location, ""), set(), &[ints("n", [])]).await.unwrap();
    assert_eq!((files.len(), contents(&location).await.len()), (0, 0));
}

#[tokio::test]
async fn a_thousand_partitions_have_one_open_file_and_bounded_memory() {
    let location = in_memory();
    let mut set = set();
    // Far less than a thousand open files would hold, more than one does.
    let pool: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(4 << 20));
    set.memory = Some(Arc::clone(&pool));
    let day = |n: i64| TimestampMicrosecondArray::from_iter_values((0..20).map(|row| (n * 86_400 + row) * 1_000_000));
    let batches: Vec<_> = (0..1_000).map(|n| batch([("at", Arc::new(day(n)) as ArrayRef)])).collect();

    let files = write(&options(&location, "day(at)"), set, &batches).await.unwrap();

    assert_eq!(files.len(), 1_000);
    assert_eq!(files[31].partition, [("at_day".to_owned(), Some("1970-02-01".to_owned()))]);
    assert_eq!(files.iter().map(|file| file.rows).sum::<u64>(), 20_000);
    assert_eq!(pool.reserved(), 0);
}

#[tokio::test]
async fn memory_beyond_the_budget_is_an_error_that_names_the_set() {
    let location = in_memory();
    let mut set = set();
    set.memory = Some(Arc::new(GreedyMemoryPool::new(1_000)));

    let error = write(&options(&location, ""), set, &[varied(20_000)]).await.unwrap_err();

    assert!(error.to_string().contains("feature set `delays`"), "{error}");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(contents(&location).await.is_empty());
}

#[tokio::test]
async fn a_partition_that_comes_back_is_refused() {
    let location = in_memory();
    let rows = batch([
        ("carrier", Arc::new(StringArray::from(vec!["AA", "UA", "AA"])) as ArrayRef),
        ("n", Arc::new(Int64Array::from(vec![1, 2, 3]))),
    ]);
    let error = write(&options(&location, "carrier"), set(), &[rows]).await.unwrap_err();
    assert!(error.to_string().contains("`carrier=AA/` came back"), "{error}");
    assert!(contents(&location).await.is_empty());
}

#[tokio::test]
async fn odd_partition_values_are_directories_on_local_disk() {
    let folder = tempfile::tempdir().unwrap();
    let location = Location::local(folder.path()).unwrap();
    let values = vec![Some(""), Some(" a b "), Some("a/b"), Some("ä=%"), Some("x\u{1}:y?"), Some(".."), None];
    let n = Int64Array::from_iter_values(0..7);
    let rows = batch([("k", Arc::new(StringArray::from(values)) as ArrayRef), ("n", Arc::new(n))]);

    let files = write(&options(&location, "k"), set(), &[rows]).await.unwrap();

    let directories: Vec<_> = files.iter().map(|file| file.path.rsplit_once('/').unwrap().0).collect();
    assert_eq!(
        directories,
        ["k=", "k= a b ", "k=a%2Fb", "k=ä%3D%25", "k=x%01%3Ay%3F", "k=..", "k=__HIVE_DEFAULT_PARTITION__"]
    );
    for (n, file) in files.iter().enumerate() {
        let bytes = Bytes::from(std::fs::read(folder.path().join(&file.path)).unwrap());
        assert_eq!(read(&bytes).columns(), ints("n", [i64::try_from(n).unwrap()]).columns(), "{}", file.path);
        let stored = location.store().get(&location.path(&file.path)).await.unwrap();
        assert_eq!(stored.meta.size, file.bytes);
    }
    assert_eq!(files[6].partition, [("k".to_owned(), None)]);
    assert_eq!(files[2].partition, [("k".to_owned(), Some("a/b".to_owned()))]);
}

#[tokio::test]
async fn abort_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let location = Location::local(folder.path()).unwrap();
    let mut options = options(&location, "");
    options.row_group_rows = NonZeroUsize::new(10_000).unwrap();
    options.file_bytes = ByteSize(1);
    let rows = varied(25_000);
    let mut writer = SetWriter::new(&options, &rows.schema(), NAMING, set()).unwrap();
    writer.write(&rows).await.unwrap();
    writer.abort().await;
    assert_eq!(std::fs::read_dir(folder.path()).map_or(0, Iterator::count), 0);
}

#[tokio::test]
async fn a_store_that_fails_at_any_call_leaves_nothing_visible() {
    // Incompressible, so that a file needs several parts.
    let bytes = |row: u64| blake3::hash(&row.to_le_bytes()).as_bytes().repeat(64);
    let mut noise = vec![];
    for row in 0..12_000_u64 {
        let mut reader = blake3::Hasher::new().update(&bytes(row)[..32]).finalize_xof();
        let mut value = vec![0; 2_048];
        reader.fill(&mut value);
        noise.push(value);
    }
    let rows = batch([("noise", Arc::new(BinaryArray::from_iter_values(noise)) as ArrayRef)]);
    for failing in 0.. {
        let store = Arc::new(FaultyStore::failing_at(failing));
        let location = Location::in_store(Arc::clone(&store) as Arc<dyn ObjectStore>, Path::from("set"));
        let mut options = options(&location, "");
        options.row_group_rows = NonZeroUsize::new(4_000).unwrap();
        options.file_bytes = ByteSize(16 << 20);
        let written = write(&options, set(), std::slice::from_ref(&rows)).await;
        if store.calls() <= failing {
            assert!(written.is_ok(), "{written:?}");
            assert!(failing >= 4, "only {failing} calls reached the store");
            break;
        }
        let error = written.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(contents(&location).await.is_empty(), "call {failing}");
    }
}

#[tokio::test]
async fn footer_has_statistics_bloom_filters_order_and_metadata() {
    let location = in_memory();
    let fields = vec![
        Field::new("carrier", DataType::Utf8View, false)
            .with_metadata([("tag.pii".to_owned(), "none".to_owned())].into()),
        Field::new("day", DataType::Date32, true),
    ];
    let schema: SchemaRef = Arc::new(Schema::new(fields));
    let columns: Vec<ArrayRef> =
        vec![Arc::new(StringViewArray::from(vec!["AA", "UA"])), Arc::new(Date32Array::from(vec![Some(3), None]))];
    let rows = RecordBatch::try_new(schema, columns).unwrap();
    let mut set = set();
    set.entity = vec!["carrier".to_owned()];
    set.sorted_by = Some(SortedBy { column: "day".to_owned(), nulls_first: false });

    write(&options(&location, ""), set, &[rows]).await.unwrap();

    let bytes = contents(&location).await.into_values().next().unwrap();
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap();
    let metadata = Arc::clone(builder.metadata());
    let file = metadata.file_metadata();
    assert_eq!(file.created_by(), Some(concat!("bessemer version ", env!("CARGO_PKG_VERSION"))));
    let value = |key: &str| {
        let entries = file.key_value_metadata().unwrap();
        entries.iter().find(|entry| entry.key == key).and_then(|entry| entry.value.clone())
    };
    assert_eq!(value("bessemer.set").as_deref(), Some("delays"));
    assert_eq!(value("bessemer.pipeline").as_deref(), Some("flights"));
    assert_eq!(value("bessemer.epoch").as_deref(), Some("7"));
    let carrier = builder.schema().field(0);
    assert_eq!((carrier.data_type(), carrier.is_nullable()), (&DataType::Utf8, false));
    assert_eq!(carrier.metadata()["tag.pii"], "none");
    let group = metadata.row_group(0);
    assert_eq!(group.sorting_columns().unwrap()[0].column_idx, 1);
    assert!(group.column(0).bloom_filter_offset().is_some() && group.column(1).bloom_filter_offset().is_none());
    assert!(group.column(0).column_index_offset().is_some() && group.column(0).offset_index_offset().is_some());
    let converter = StatisticsConverter::try_new("day", builder.schema(), builder.parquet_schema()).unwrap();
    let nulls = converter.row_group_null_counts([group]).unwrap();
    assert_eq!(nulls.value(0), 1);
    assert!(builder.get_row_group_column_bloom_filter(0, 0).unwrap().unwrap().check(&"AA"));
}

#[tokio::test]
async fn delta_files_have_microseconds() {
    let location = in_memory();
    let mut options = options(&location, "");
    options.format = SetFormat::Delta;
    let at = TimestampNanosecondArray::from(vec![1_000_000_001, 2_000]).with_timezone("UTC");
    write(&options, set(), &[batch([("at", Arc::new(at) as ArrayRef)])]).await.unwrap();
    let back = read(contents(&location).await.values().next().unwrap());
    assert_eq!(back.schema().field(0).data_type(), &DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())));
    assert_eq!(
        back.column(0).as_any().downcast_ref::<TimestampMicrosecondArray>().unwrap().values().as_ref(),
        [1_000_000, 2]
    );
}

fn naming(epoch: u64) -> WriterNaming {
    WriterNaming { epoch: Epoch(epoch), ..NAMING }
}

async fn write_epoch(options: &FeatureSetOptions, set: &WrittenSet, epoch: u64, rows: &RecordBatch) -> Vec<DataFile> {
    let mut writer = SetWriter::new(options, &rows.schema(), naming(epoch), set.clone()).unwrap();
    writer.write(rows).await.unwrap();
    writer.finish().await.unwrap()
}

/// What compaction makes of `files`, in epoch 99.
async fn merge(
    options: &FeatureSetOptions,
    set: &WrittenSet,
    schema: &Schema,
    files: Vec<DataFile>,
) -> Result<Vec<DataFile>> {
    let mut writer = SetWriter::new(options, schema, naming(99), set.clone())?;
    match writer.merge(&Merge { files, rewrites: 1 }, &CancellationToken::new()).await {
        Ok(end) => {
            assert_eq!(end, MergeEnd::Written);
            writer.finish().await
        }
        Err(error) => {
            writer.abort().await;
            Err(error)
        }
    }
}

#[tokio::test]
async fn merged_files_are_those_that_one_epoch_would_have_written() {
    let rows = varied(30_000);
    let set = WrittenSet { entity: vec!["id".to_owned(), "word".to_owned()], ..set() };
    for format in [SetFormat::Parquet, SetFormat::Delta] {
        let (location, whole) = (in_memory(), in_memory());
        let mut options = FeatureSetOptions { format, ..options(&location, "") };
        options.row_group_rows = NonZeroUsize::new(9_000).unwrap();
        let mut files = Vec::new();
        for (epoch, rows) in (1..).zip(cut(&rows, &[1, 700, 9_000, 20_000])) {
            files.extend(write_epoch(&options, &set, epoch, &rows).await);
        }
        let merged = merge(&options, &set, &rows.schema(), files).await.unwrap();
        let expected = write_epoch(&FeatureSetOptions { location: whole.clone(), ..options }, &set, 99, &rows).await;
        assert_eq!(merged, [DataFile { rewrites: 1, ..expected[0].clone() }]);
        let path = location.path(&merged[0].path).to_string();
        assert!(contents(&location).await[&path] == contents(&whole).await[&path], "{format:?}");
    }
}

#[tokio::test]
async fn merged_rows_are_in_the_order_of_event_time_and_then_of_their_epochs() {
    let location = in_memory();
    let options = options(&location, "carrier");
    let sorted_by = Some(SortedBy { column: "at".to_owned(), nulls_first: true });
    let memory: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(64 << 20));
    let set = WrittenSet { sorted_by, memory: Some(Arc::clone(&memory)), ..set() };
    // Times come again within a file and in other files, and some are missing.
    let time = |file: i64, row: i64| (row >= 5).then_some(row / 10 * 1_000 + file % 3 * 500);
    let rows = |file: i64| {
        batch([
            ("id", Arc::new(Int64Array::from_iter_values((0..50).map(|row| file * 100 + row))) as ArrayRef),
            ("carrier", Arc::new(StringArray::from_iter_values((0..50).map(|_| "A/A")))),
            ("at", Arc::new((0..50).map(|row| time(file, row)).collect::<TimestampMicrosecondArray>())),
        ])
    };
    let mut files = Vec::new();
    for file in 0..7 {
        files.extend(write_epoch(&options, &set, 1 + u64::try_from(file).unwrap(), &rows(file)).await);
    }
    let merged = merge(&options, &set, &rows(0).schema(), files.clone()).await.unwrap();
    assert_eq!((merged.len(), &merged[0].partition), (1, &files[0].partition));
    assert!(merged[0].path.starts_with("carrier=A%2FA/0000000099-"), "{}", merged[0].path);

    let found = read(&contents(&location).await[&location.path(&merged[0].path).to_string()]);
    let ids = found.column(0).as_primitive::<Int64Type>().values().to_vec();
    let mut expected: Vec<_> =
        (0..7).flat_map(|file| (0..50).map(move |row| (time(file, row), file * 100 + row))).collect();
    expected.sort_by_key(|(at, _)| *at);
    assert_eq!(ids, expected.into_iter().map(|(_, id)| id).collect::<Vec<_>>());
    assert_eq!(memory.reserved(), 0);
}

#[tokio::test]
async fn a_file_with_other_rows_than_its_manifest_says_is_not_merged() {
    let location = in_memory();
    let options = options(&location, "");
    let mut files = Vec::new();
    for epoch in 1..4 {
        files.extend(write_epoch(&options, &set(), epoch, &ints("id", 0..10)).await);
    }
    let before = contents(&location).await;
    let schema = ints("id", []).schema();
    let changed = |change: fn(&mut DataFile)| {
        let mut files = files.clone();
        change(&mut files[1]);
        files
    };
    let other_rows = merge(&options, &set(), &schema, changed(|file| file.rows = 9)).await.unwrap_err();
    assert!(matches!(&other_rows, Error::Damaged { path, .. } if *path == files[1].path), "{other_rows}");
    let gone = merge(&options, &set(), &schema, changed(|file| file.path.push('x'))).await.unwrap_err();
    assert!(matches!(gone, Error::NotFound { .. }), "{gone}");
    assert!(contents(&location).await == before, "something was left behind");

    let mut writer = SetWriter::new(&options, &schema, naming(99), set()).unwrap();
    let stopped = CancellationToken::new();
    stopped.cancel();
    assert_eq!(writer.merge(&Merge { files, rewrites: 1 }, &stopped).await.unwrap(), MergeEnd::Stopped);
    writer.abort().await;
    assert!(contents(&location).await == before, "something was left behind");
}

#[tokio::test]
async fn files_of_an_earlier_definition_are_not_merged() {
    let location = in_memory();
    let options = options(&location, "");
    let by = |column: &str| {
        let sorted_by = Some(SortedBy { column: column.to_owned(), nulls_first: true });
        WrittenSet { sorted_by, ..set() }
    };
    let numbers = |values: [Option<i64>; 2]| Arc::new(Int64Array::from_iter(values)) as ArrayRef;
    let rows = |a, b| batch([("a", numbers(a)), ("b", numbers(b))]);
    // By one column, then by another, which has no nulls since.
    let old = write_epoch(&options, &by("a"), 1, &rows([Some(1), Some(2)], [Some(9), Some(3)])).await;
    let nulls = write_epoch(&options, &by("b"), 2, &rows([Some(1), Some(2)], [None, Some(3)])).await;
    let new = write_epoch(&options, &by("b"), 3, &rows([Some(4), Some(3)], [Some(5), Some(6)])).await;
    let newest = write_epoch(&options, &by("b"), 4, &rows([Some(4), Some(3)], [Some(4), Some(7)])).await;
    let other = write_epoch(&options, &set(), 5, &batch([("a", numbers([None, None]))])).await;
    let before = contents(&location).await;

    let is_nullable =
        |b| Schema::new(vec![Field::new("a", DataType::Int64, true), Field::new("b", DataType::Int64, b)]);
    let all = [&old, &nulls, &new, &newest, &other].map(|files| files[0].clone()).to_vec();
    for (set, schema, unlike) in [
        (by("b"), is_nullable(false), vec![&old, &nulls, &other]),
        (by("b"), is_nullable(true), vec![&old, &other]),
        (set(), is_nullable(false), vec![&nulls, &other]),
    ] {
        let mut writer = SetWriter::new(&options, &schema, naming(99), set).unwrap();
        let end = writer.merge(&Merge { files: all.clone(), rewrites: 1 }, &CancellationToken::new()).await.unwrap();
        assert_eq!(end, MergeEnd::Unlike(unlike.into_iter().map(|files| files[0].clone()).collect()));
        writer.abort().await;
        assert!(contents(&location).await == before, "something was written");
    }
    let merged = merge(&options, &by("b"), &is_nullable(false), [new, newest].concat()).await.unwrap();
    let found = read(&contents(&location).await[&location.path(&merged[0].path).to_string()]);
    assert_eq!(found.column(1).as_primitive::<Int64Type>().values().to_vec(), [4, 5, 6, 7]);
}
