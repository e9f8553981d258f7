//! `demo`: everything at once with nothing to install. A Kafka cluster in this process, real flights replayed onto a
//! topic with some broken records among them, the pipeline following it, and at the end what became of it all.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bessemer_connectors::formats::compression::Compression;
use bessemer_connectors::kafka::{DemoCluster, DemoProducer};
use bessemer_connectors::manifest_store::ManifestStore;
use bessemer_schemas::{OffsetRange, RunTrigger};
use futures::{StreamExt, TryStreamExt};
use tokio_util::sync::CancellationToken;

use crate::cli::{DemoArgs, LedgerArgs, PipelineArgs, QuarantineArgs};
use crate::command;
use crate::error::{Error, Result};
use crate::load;
use crate::output::{self, count, plural};
use crate::progress::Progress;
use crate::run::{self, RunOptions};

const PIPELINE: &str = include_str!("pipeline.sql");
/// The first week of 2013: 6,099 flights out of New York (`examples/flights/README.md` has source and licence).
const FLIGHTS: &[u8] = include_bytes!("../../../examples/flights/data/flights-2013-01-01.csv.gz");
const PARTITIONS: i32 = 4;
/// One record in so many arrives broken, as some do.
const BROKEN_EVERY: usize = 97;
/// Records are sent in bursts, this many a second.
const BURSTS_A_SECOND: usize = 20;
/// How often it is looked whether everything has been committed.
const LOOK: Duration = Duration::from_millis(100);

/// Runs the demonstration.
pub(crate) async fn demo(args: &DemoArgs, cancel: &CancellationToken) -> Result<()> {
    let folder = fresh_folder(&args.folder)?;
    let cluster = DemoCluster::start("flights", PARTITIONS)?;
    let file = folder.join("pipeline.sql");
    fs::write(&file, PIPELINE.replace("${BOOTSTRAP_SERVERS}", &cluster.bootstrap_servers()))?;
    let records = records().await?;
    output::note(format!(
        "A Kafka cluster runs in this process ({}). {} flights of January 2013 arrive at {} a second, one in {} of them \
         broken; the pipeline `{}` follows.\n",
        cluster.bootstrap_servers(),
        count(records.len() as u64),
        count(args.records_per_second.get() as u64),
        BROKEN_EVERY,
        file.display()
    ));

    let stop = cancel.child_token();
    let parsed = load::parse(std::slice::from_ref(&file))?;
    let store = ManifestStore::new(parsed.settings.state.clone(), parsed.name());
    let follower = {
        let stop = stop.clone();
        let options = RunOptions { trigger: RunTrigger::Daemon, ..RunOptions::default() };
        tokio::spawn(async move { run::follow(parsed, options, &Progress::lines("demo"), &stop).await })
    };
    let total = records.len() as u64;
    let sent = send(cluster.producer()?, records, args.records_per_second.get(), stop.clone());
    let watched = async {
        sent.await?;
        until_committed(&store, total, &stop).await
    };
    // Whatever ends first: everything is committed, or the pipeline stopped by itself.
    let mut follower = follower;
    let ended = tokio::select! {
        watched = watched => watched.map(|()| None),
        ended = &mut follower => Ok(Some(ended)),
    };
    stop.cancel();
    let ended = match ended? {
        Some(ended) => ended,
        None => follower.await,
    };
    match ended.map_err(|error| Error::Internal { message: format!("the pipeline's task ended early: {error}") })? {
        Ok(()) | Err(Error::Interrupted { .. }) => {}
        Err(error) => return Err(error),
    }
    tell(&folder, &file).await
}

/// A folder that is not there yet: the cluster forgets its records, so what was read of an earlier one cannot go on.
fn fresh_folder(wanted: &Path) -> Result<PathBuf> {
    let mut folder = wanted.to_path_buf();
    for number in 2.. {
        if !folder.exists() {
            break;
        }
        folder = PathBuf::from(format!("{}-{number}", wanted.display()));
    }
    fs::create_dir_all(&folder).map_err(|source| Error::Unreadable { path: folder.clone(), source })?;
    Ok(folder)
}

/// The flights as JSON, in the order of their departure, with their key.
async fn records() -> Result<Vec<(String, Vec<u8>)>> {
    let chunks = futures::stream::iter([Ok(bytes::Bytes::from_static(FLIGHTS))]).boxed();
    let text: Vec<bytes::Bytes> = Compression::Gzip.decompress("flights.csv.gz", chunks).try_collect().await?;
    let text = text.concat();
    let text = String::from_utf8_lossy(&text);
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next().unwrap_or_default().split(',').collect();
    Ok(lines.enumerate().map(|(at, line)| record(&names, line, at % BROKEN_EVERY == BROKEN_EVERY - 1)).collect())
}

/// A line of the flights, which have no quotes, as a record.
fn record(names: &[&str], line: &str, is_broken: bool) -> (String, Vec<u8>) {
    let fields: Vec<&str> = line.split(',').collect();
    let field = |name: &str| names.iter().position(|other| *other == name).and_then(|at| fields.get(at)).copied();
    let number = |name| field(name).and_then(|text| text.parse::<i64>().ok());
    let text = |name| field(name).filter(|text| *text != "NA");
    let value = serde_json::json!({
        "carrier": text("carrier"), "flight": number("flight"), "tailnum": text("tailnum"), "origin": text("origin"),
        "dest": text("dest"), "dep_delay": number("dep_delay"), "arr_delay": number("arr_delay"),
        "distance": number("distance"), "scheduled": text("time_hour"),
    });
    let mut value = value.to_string().into_bytes();
    if is_broken {
        value.truncate(value.len() / 2);
    }
    (text("tailnum").unwrap_or("unknown").to_owned(), value)
}

/// Sends the records at a speed, until all are sent or the demonstration is stopped.
async fn send(
    producer: DemoProducer,
    records: Vec<(String, Vec<u8>)>,
    a_second: usize,
    stop: CancellationToken,
) -> Result<()> {
    let mut clock = tokio::time::interval(Duration::from_secs(1) / u32::try_from(BURSTS_A_SECOND).unwrap_or(1));
    for burst in records.chunks(a_second.div_ceil(BURSTS_A_SECOND).max(1)) {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            _ = clock.tick() => {}
        }
        for (key, value) in burst {
            producer.send(key, value)?;
        }
    }
    let flushed = tokio::task::spawn_blocking(move || producer.flush()).await;
    Ok(flushed.map_err(|error| Error::Internal { message: format!("the producer ended early: {error}") })??)
}

/// Waits until every record is in a manifest, and in every set.
async fn until_committed(store: &ManifestStore, total: u64, stop: &CancellationToken) -> Result<()> {
    let mut clock = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            _ = clock.tick() => {}
        }
        let history = store.history().await?;
        let read: u64 = history.offsets_read("flights").iter().map(OffsetRange::offsets).sum();
        // The set that is replaced comes after the one that appends.
        let rows = history.source_totals().get("flights").map(|ledger| ledger.admitted);
        let counted = history.set_totals().get("carriers").map(|ledger| ledger.admitted);
        if read >= total && rows == counted {
            return Ok(());
        }
    }
}

/// What became of it, and where to look.
async fn tell(folder: &Path, file: &Path) -> Result<()> {
    let paths = vec![file.to_path_buf()];
    output::line("")?;
    output::line("What is in the files of `carriers`:")?;
    output::line("")?;
    command::print_committed(file, "carriers", 20).await?;
    output::line("")?;
    let pipeline = PipelineArgs { paths, json: false };
    command::ledger(&LedgerArgs { pipeline, epochs: false }).await?;
    output::line("")?;
    output::line("Some of the quarantine, with what is wrong and where it came from:")?;
    output::line("")?;
    let name = Some("flights".to_owned());
    command::quarantine(&QuarantineArgs { action: None, path: file.to_path_buf(), name, limit: 3, json: false })
        .await?;
    output::line("")?;
    output::line(format!("{} to look at:", plural(2, "folder")))?;
    for set in ["departures", "carriers"] {
        output::line(format!("  {}", folder.join("features").join(set).display()))?;
    }
    output::line(format!("and how it was done: {}", file.display()))
}
