//! The bare parts that a Kafka pipeline is made of, and what fills its topics: what `benches/kafka.py` measures beside it.
//!
//! ```text
//! kafka_parts produce BROKERS TOPIC PARTITIONS ROWS FILE…   makes a topic of the first lines of files; prints its offsets
//! kafka_parts pace BROKERS TOPIC RATE SECONDS FILE…         sends lines at a steady pace
//! kafka_parts consume BROKERS TOPIC PARTITIONS ROWS         fetches records, counts their bytes
//! kafka_parts decode ROWS FILE…                             decodes lines strictly into Arrow
//! kafka_parts write ROWS FOLDER FILE…                       the same, then filters and writes Parquet, ZSTD 1
//! kafka_parts s3                                            an S3 server until the end of standard input; prints the
//!                                                           environment of its clients
//! ```

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use arrow::array::{AsArray, Float64Array, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::compute::kernels::cmp::lt;
use arrow::datatypes::{DataType, Field, Float64Type, Schema, TimeUnit};
use bessemer_connectors::formats::text::{DecodeLimits, JsonOptions, TextDecoder, TextDecoderOptions, TextFormat};
use bessemer_integration_tests::{FaultPlan, S3Server};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

/// Rows of a batch, as in the program.
const BATCH_ROWS: usize = 8_192;
/// Rows of a Parquet file, as many as a slice of a topic has.
const FILE_ROWS: u64 = 2_000_000;
/// What the pipelines of the benchmark keep.
const VALUE_BELOW: f64 = 900.;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["produce", brokers, topic, partitions, rows, files @ ..] => {
            produce(brokers, topic, partitions.parse()?, rows.parse()?, files)
        }
        ["pace", brokers, topic, rate, seconds, files @ ..] => {
            pace(brokers, topic, rate.parse()?, seconds.parse()?, files)
        }
        ["consume", brokers, topic, partitions, rows] => consume(brokers, topic, partitions.parse()?, rows.parse()?),
        ["decode", rows, files @ ..] => {
            decode(files, rows.parse()?, |batch| {
                std::hint::black_box(batch);
                Ok(())
            })?;
            Ok(())
        }
        ["write", rows, folder, files @ ..] => write(files, rows.parse()?, Path::new(folder)),
        ["s3"] => serve_s3(),
        _ => bail!("kafka_parts produce|pace|consume|decode|write|s3 …: see the head of its source"),
    }
}

/// The first `rows` lines of files, one after another.
fn lines(files: &[&str], rows: u64, mut take: impl FnMut(u64, &[u8]) -> Result<()>) -> Result<()> {
    let (mut row, mut line) = (0, Vec::new());
    for file in files {
        let mut reader = BufReader::with_capacity(1 << 20, File::open(file).context((*file).to_owned())?);
        while row < rows {
            line.clear();
            if reader.read_until(b'\n', &mut line)? == 0 {
                break;
            }
            take(row, line.trim_ascii_end())?;
            row += 1;
        }
    }
    ensure!(row == rows, "the files have {row} lines, not {rows}");
    Ok(())
}

fn producer(brokers: &str) -> Result<BaseProducer> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", brokers)
        .set("linger.ms", "5")
        .set("batch.size", "1000000")
        .set("queue.buffering.max.messages", "1000000");
    Ok(config.create()?)
}

fn send(producer: &BaseProducer, topic: &str, partition: i32, value: &[u8]) -> Result<()> {
    let mut record: BaseRecord<'_, (), [u8]> = BaseRecord::to(topic).partition(partition).payload(value);
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                producer.poll(Duration::from_millis(10));
                record = back;
            }
            Err((error, _)) => return Err(error.into()),
        }
    }
}

fn produce(brokers: &str, topic: &str, partitions: i32, rows: u64, files: &[&str]) -> Result<()> {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", brokers).create().context("no client")?;
    let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
    let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(30)));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for created in runtime.block_on(admin.create_topics([&new], &options))? {
        created.map_err(|(topic, code)| anyhow::anyhow!("topic {topic}: {code}"))?;
    }
    let producer = producer(brokers)?;
    let mut number = 0;
    lines(files, rows, |row, line| {
        if row % 4_096 == 0 {
            producer.poll(Duration::ZERO);
            number = (number + 1) % partitions;
        }
        send(&producer, topic, number, line)
    })?;
    producer.flush(Duration::from_mins(5)).context("not all records were taken")
}

/// Sends `rate` records a second, spread over the partitions, a millisecond's worth at a time.
fn pace(brokers: &str, topic: &str, rate: u64, seconds: u64, files: &[&str]) -> Result<()> {
    let producer = producer(brokers)?;
    let metadata = producer.client().fetch_metadata(Some(topic), Duration::from_secs(10))?;
    let partitions = i32::try_from(metadata.topics()[0].partitions().len())?;
    let (started, mut number) = (Instant::now(), 0);
    lines(files, rate * seconds, |row, line| {
        let due = Duration::from_micros(row * 1_000_000 / rate);
        while let Some(early) = due.checked_sub(started.elapsed()).filter(|early| *early > Duration::from_millis(1)) {
            producer.poll(early);
        }
        number = (number + 1) % partitions;
        send(&producer, topic, number, line)
    })?;
    producer.flush(Duration::from_mins(1)).context("not all records were taken")
}

fn consume(brokers: &str, topic: &str, partitions: i32, rows: u64) -> Result<()> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", brokers)
        .set("group.id", "bare")
        .set("enable.auto.commit", "false")
        .set("queued.min.messages", "1000000")
        .set("queued.max.messages.kbytes", "16384")
        // As the program's consumers: with the client's own second most of the time goes by in waiting.
        .set("fetch.queue.backoff.ms", "5");
    let consumer: BaseConsumer = config.create()?;
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        list.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&list)?;
    let (mut seen, mut bytes) = (0, 0);
    while seen < rows {
        if let Some(record) = consumer.poll(Duration::from_secs(1)) {
            bytes += record?.payload().map_or(0, <[u8]>::len);
            seen += 1;
        }
    }
    std::hint::black_box(bytes);
    Ok(())
}

/// Decodes lines into batches of the benchmark's columns.
fn decode(files: &[&str], rows: u64, mut take: impl FnMut(RecordBatch) -> Result<()>) -> Result<()> {
    let field = |name: &str, data_type| Field::new(name, data_type, true);
    let schema = Schema::new(vec![
        field("id", DataType::Int64),
        field("user", DataType::Utf8),
        field("kind", DataType::Utf8),
        field("value", DataType::Float64),
        field("is_new", DataType::Boolean),
        field("visit", DataType::Int32),
        field("at", DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into()))),
    ]);
    let columns = schema.fields().len();
    let mut decoder = TextDecoder::new(TextDecoderOptions {
        schema: Arc::new(schema),
        projection: None,
        format: TextFormat::Json(JsonOptions::default()),
        defaults: vec![None; columns],
        limits: DecodeLimits { batch_rows: BATCH_ROWS, ..DecodeLimits::default() },
    })?;
    lines(files, rows, |row, line| {
        if let Err(fault) = decoder.decode_record(row, line)? {
            bail!("line {row}: {fault:?}");
        }
        while let Some(decoded) = decoder.next_batch() {
            take(decoded.batch)?;
        }
        Ok(())
    })?;
    decoder.flush()?;
    while let Some(decoded) = decoder.next_batch() {
        take(decoded.batch)?;
    }
    Ok(())
}

fn serve_s3() -> Result<()> {
    let server = S3Server::start(&FaultPlan::none())?;
    let environment: serde_json::Map<_, _> =
        server.environment().into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
    writeln!(std::io::stdout(), "{}", serde_json::Value::Object(environment))?;
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    Ok(())
}

fn write(files: &[&str], rows: u64, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    let mut writer: Option<ArrowWriter<File>> = None;
    let (mut number, mut in_file) = (0, 0);
    decode(files, rows, |batch| {
        let values: &Float64Array = batch.column(3).as_primitive::<Float64Type>();
        let kept = filter_record_batch(&batch, &lt(values, &Float64Array::new_scalar(VALUE_BELOW))?)?;
        let kept = kept.project(&[0, 1, 2, 3, 5, 6])?;
        if writer.is_none() {
            let properties =
                WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?)).build();
            let path: PathBuf = folder.join(format!("{number}.parquet"));
            writer = Some(ArrowWriter::try_new(File::create(path)?, kept.schema(), Some(properties))?);
            number += 1;
        }
        if let Some(open) = &mut writer {
            open.write(&kept)?;
        }
        in_file += kept.num_rows() as u64;
        if in_file >= FILE_ROWS
            && let Some(full) = writer.take()
        {
            full.close()?;
            in_file = 0;
        }
        Ok(())
    })?;
    writer.map_or(Ok(()), |open| open.close().map(drop).map_err(Into::into))
}
