//! Sets that emit rows once they are final, of queries that are put together at random: rows of two sources in no order,
//! some of them late, cut into epochs at random, by processes that die at random requests. What is committed in the end is
//! what the engine makes of the rows that were not late, all at once.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use bessemer_connectors::manifest_store::FileOwner;
use bessemer_connectors::sink::read_rows;
use bessemer_schemas::{DataFile, Epoch, SourceSlice, Watermark};
use bytes::Bytes;
use datafusion::arrow::array::{ArrayRef, RecordBatch, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use futures::TryStreamExt;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use proptest::prelude::*;

use self::generated::{OF_ANY_ORDER, config, queries, with_views};
use super::pipeline::{Mode, Stage};
use super::process::{Fate, Process};
use super::world::World;
use super::{Theatre, perform_in};

#[path = "../../../../transforms/src/incremental/emits/tests/generated/queries.rs"]
mod generated;

const EVENTS: &str = "events";
const MORE: &str = "more";
const ANSWER: &str = "answer";
/// The sets of the rows that were not late, as they are read.
const SEEN: [&str; 2] = ["events_seen", "more_seen"];

/// A pipeline of one query; `emit` says when its rows are, and `null` what columns may be.
fn text(query: &str, emit: &str, null: &str) -> String {
    let (views, query) = with_views(query);
    format!(
        "CREATE PIPELINE simulated;
         SET epoch_rows = 5; SET epoch_files = 2; SET epoch_age_max = '1s';
         CREATE SOURCE events (
             k VARCHAR {null}, n BIGINT {null}, at TIMESTAMP NOT NULL,
             WATERMARK FOR at AS at - INTERVAL '2 hours' ON LATE DROP
         ) WITH (path = 'events/', format = 'parquet');
         CREATE SOURCE more (
             k VARCHAR {null}, n BIGINT {null}, at TIMESTAMP NOT NULL,
             twice BIGINT GENERATED ALWAYS AS (n * 2) STORED,
             WATERMARK FOR at AS at - INTERVAL '2 hours' ON LATE QUARANTINE
         ) WITH (path = 'more/', format = 'json');
         CREATE TABLE names (k VARCHAR NOT NULL, label VARCHAR) WITH (path = 'names/', format = 'json');
         CREATE FEATURE SET events_seen WITH (path = 'features/events_seen') AS SELECT k, n, at FROM events;
         CREATE FEATURE SET more_seen WITH (path = 'features/more_seen') AS SELECT k, n, at FROM more;
         {views}
         CREATE FEATURE SET answer {emit} WITH (path = 'features/answer') AS {query};"
    )
}

/// Key, number, hour.
type Event = (Option<u8>, Option<i64>, i64);

/// Files of the two sources, one after another.
type Arrivals = Vec<(bool, Vec<Event>)>;

/// What columns may be, and rows of that.
fn arrivals() -> impl Strategy<Value = (&'static str, Arrivals)> {
    prop::sample::select(vec!["NOT NULL", ""]).prop_flat_map(|null| {
        // More than a day after a file's time would be taken for a wrong clock.
        let rows = prop::collection::vec((known(0..4_u8, null), known(0..7_i64, null), 0..24_i64), 1..8);
        let files = prop::collection::vec((prop::bool::ANY, rows), 1..8);
        (Just(null), (files, prop::bool::ANY).prop_map(|(files, is_any)| if is_any { files } else { in_order(files) }))
    })
}

/// The same files with times that go on from one to the next, as they mostly do.
fn in_order(mut files: Arrivals) -> Arrivals {
    for (first, (_, rows)) in (0..).step_by(3).zip(&mut files) {
        for (.., hour) in rows {
            *hour = (first + *hour % 5).min(23);
        }
    }
    files
}

fn known<T: Debug + 'static>(values: impl Strategy<Value = T> + 'static, null: &str) -> BoxedStrategy<Option<T>> {
    if null.is_empty() { prop::option::weighted(0.9, values).boxed() } else { values.prop_map(Some).boxed() }
}

/// A file of a source: of `events` Parquet, whose statistics tell what is still to be read, of `more` JSON. A row is its
/// key, number and time; what is empty is not there.
fn file<'r>(source: &str, name: &str, rows: impl Iterator<Item = [&'r str; 3]>) -> (Path, Bytes) {
    if source == EVENTS {
        return (Path::from(format!("{source}/{name}.parquet")), parquet(&rows.collect::<Vec<_>>()));
    }
    let text: String = rows.map(|[k, n, at]| line(k, n, at)).collect();
    (Path::from(format!("{source}/{name}.json")), text.into())
}

fn parquet(rows: &[[&str; 3]]) -> Bytes {
    let text = |column: usize| rows.iter().map(move |row| Some(row[column]).filter(|text| !text.is_empty()));
    let strings = |column| Arc::new(text(column).collect::<StringArray>()) as ArrayRef;
    let (n, at) = (DataType::Int64, DataType::Timestamp(TimeUnit::Microsecond, None));
    let cast = |column, to| cast(&strings(column), &to).unwrap();
    let batch = RecordBatch::try_from_iter_with_nullable([
        ("k", strings(0), true),
        ("n", cast(1, n), true),
        ("at", cast(2, at), true),
    ])
    .unwrap();
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(3)).build();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap().into()
}

fn line(k: &str, n: &str, at: &str) -> String {
    let k = if k.is_empty() { String::new() } else { format!("\"k\": \"{k}\", ") };
    let n = if n.is_empty() { String::new() } else { format!("\"n\": {n}, ") };
    format!("{{{k}{n}\"at\": \"{at}\"}}\n")
}

fn files(arrivals: &Arrivals) -> Vec<(Path, Bytes)> {
    let of_event = |(k, n, hour): &Event| {
        let (k, n) = (k.map(|k| format!("K{k}")), n.map(|n| n.to_string()));
        [k.unwrap_or_default(), n.unwrap_or_default(), format!("1970-01-01T{hour:02}:00:00")]
    };
    let of_file = |(at, (is_more, rows)): (usize, &(bool, Vec<Event>))| {
        let rows: Vec<_> = rows.iter().map(of_event).collect();
        file(
            if *is_more { MORE } else { EVENTS },
            &at.to_string(),
            rows.iter().map(|row| row.each_ref().map(String::as_str)),
        )
    };
    arrivals.iter().enumerate().map(of_file).collect()
}

async fn name_keys(world: &World) {
    let names = "{\"k\": \"K0\", \"label\": \"zero\"}\n{\"k\": \"K1\", \"label\": \"one\"}\n";
    world.objects.put(&Path::from("names/names.json"), names.into()).await.unwrap();
}

/// The rows of a set, each as the texts of its columns, in order.
async fn rows_of(world: &World, set: &str) -> Vec<Vec<String>> {
    let owner = FileOwner::Set(set.to_owned());
    let history = world.manifests().history().await.unwrap();
    let files: Vec<DataFile> = history.files(&owner).try_collect().await.unwrap();
    let batches: Vec<RecordBatch> =
        read_rows(&world.place(&owner), &files, u64::MAX).try_collect().await.expect("files in force can be read");
    let mut rows: Vec<_> = batches.iter().flat_map(texts).collect();
    rows.sort();
    rows
}

fn texts(batch: &RecordBatch) -> Vec<Vec<String>> {
    let options = FormatOptions::default();
    let columns: Vec<_> =
        batch.columns().iter().map(|column| ArrayFormatter::try_new(column.as_ref(), &options).unwrap()).collect();
    (0..batch.num_rows()).map(|row| columns.iter().map(|column| column.value(row).to_string()).collect()).collect()
}

/// What the engine makes of the rows that `world` has let in, in one pass over them.
fn one_pass(query: &str, null: &str, seen: &[Vec<Vec<String>>; 2]) -> Vec<Vec<String>> {
    let of_source = |(source, rows): (&str, &Vec<Vec<String>>)| {
        file(source, "all", rows.iter().map(|row| [&row[0], &row[1], &row[2]].map(String::as_str)))
    };
    let files = [EVENTS, MORE].into_iter().zip(seen).map(of_source).collect();
    let stage = Stage::plan_text(&text(query, "", null), 1);
    let mut answer = Vec::new();
    let played = perform_in(World::of_files(0, files), async |world| {
        name_keys(world).await;
        world.settle().await;
        let process = Process::new(world, 'O', Fate::default());
        stage.run(&process, Mode::Drain).await.expect("nothing disturbs it");
        answer = rows_of(world, ANSWER).await;
    });
    assert!(played.is_some(), "one pass fails");
    answer
}

/// How many rows were late by what the watermark passed while their own listing was being read: none may be.
async fn late_in_their_listing(world: &World, arrivals: &Arrivals) -> usize {
    let store = world.manifests();
    let newest = store.newest().await.unwrap().expect("there is an epoch");
    let manifests: Vec<_> = store.manifests(Epoch::FIRST..=newest.epoch).try_collect().await.unwrap();
    let mut watermarks: BTreeMap<String, Watermark> = BTreeMap::new();
    // Of each source, the listing in hand, and where the watermark was before it.
    let mut listings: BTreeMap<String, (u64, Option<i64>)> = BTreeMap::new();
    let mut late = 0;
    for manifest in &manifests {
        for (source, slice) in &manifest.slice.sources {
            let SourceSlice::Objects { listing, .. } = slice else { continue };
            let before = watermarks.get(source).and_then(|watermark| watermark.at);
            let known = listings.entry(source.clone()).or_insert((*listing, before));
            if known.0 != *listing {
                *known = (*listing, before);
            }
            for object in store.slice_objects(slice).await.unwrap() {
                let name =
                    object.path.rsplit('/').next().and_then(|name| name.split('.').next()?.parse::<usize>().ok());
                let rows = &arrivals[name.expect("files are numbered")].1;
                let times = rows.iter().map(|(.., hour)| Some(hour * 3_600_000_000));
                late += times.filter(|at| *at < object.late_before && *at >= known.1).count();
            }
        }
        watermarks.extend(manifest.watermarks.clone());
    }
    late
}

/// Runs the query through lives that end in every way, then to its end.
fn check(query: &str, (null, arrivals): &(&str, Arrivals), seed: u64, partitions: u32) -> Result<(), TestCaseError> {
    let text = text(query, "EMIT ON WINDOW CLOSE", null);
    let theatre = Theatre { stages: [(); 2].map(|()| Stage::plan_text(&text, partitions)) };
    let (mut answer, mut seen, mut late) = (Vec::new(), [(); 2].map(|()| Vec::new()), 0);
    let mut late_in_their_listing = 0;
    let played = perform_in(World::of_files(seed, files(arrivals)), async |world| {
        name_keys(world).await;
        theatre.lives(world, async || {}).await;
        world.settle().await;
        for (name, mode) in [('Y', Mode::Drain), ('Z', Mode::Final)] {
            let process = Process::new(world, name, Fate::default());
            theatre.stages[0].run(&process, mode).await.expect("nothing disturbs it");
        }
        answer = rows_of(world, ANSWER).await;
        seen = [rows_of(world, SEEN[0]).await, rows_of(world, SEEN[1]).await];
        let history = world.manifests().history().await.unwrap();
        late = history.source_totals().values().map(|ledger| ledger.late).sum();
        late_in_their_listing = self::late_in_their_listing(world, arrivals).await;
    });
    prop_assert!(played.is_some(), "{query}");
    prop_assert_eq!(late_in_their_listing, 0, "{}", query);
    let read: usize = arrivals.iter().map(|(_, rows)| rows.len()).sum();
    prop_assert_eq!(seen.iter().map(Vec::len).sum::<usize>() as u64 + late, read as u64, "rows are lost");
    prop_assert_eq!(answer, one_pass(query, null, &seen), "{}", query);
    Ok(())
}

proptest! {
    #![proptest_config(config("BESSEMER_CRASHES", 32))]

    #[test]
    fn what_is_emitted_by_processes_that_die_is_what_one_pass_gives(
        query in queries(OF_ANY_ORDER),
        arrivals in arrivals(),
        seed in any::<u64>(),
        partitions in 1..4_u32,
    ) {
        check(&query, &arrivals, seed, partitions)?;
    }
}
