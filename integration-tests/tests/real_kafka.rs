//! Topics of Apache Kafka through the whole program: transactions, deleted and compacted records, topics that change.

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use bessemer_integration_tests::{Bessemer, Outcome, Pipeline, RealKafka, send, send_keyed, signal, wait_until};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

/// How long an answer of the brokers may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// The brokers of all tests; their topics are their own.
fn kafka() -> Result<Option<&'static RealKafka>> {
    static KAFKA: LazyLock<Result<Option<RealKafka>>> = LazyLock::new(|| RealKafka::start(1));
    match &*KAFKA {
        Ok(kafka) => Ok(kafka.as_ref()),
        Err(error) => bail!("{error:#}"),
    }
}

/// Numbers of a topic into a set that appends.
fn definition(bootstrap_servers: &str, topic: &str, options: &str) -> String {
    format!(
        "CREATE PIPELINE numbers;
         CREATE SOURCE numbers (number BIGINT NOT NULL) INCLUDE PARTITION AS kafka_partition
         WITH (connector = 'kafka', bootstrap_servers = '{bootstrap_servers}', topic = '{topic}', format = 'json'{options});
         CREATE FEATURE SET seen WITH (path = 'features/seen') AS SELECT number, kafka_partition FROM numbers;"
    )
}

/// A pipeline over a topic, and the program to run it.
struct Run {
    kafka: &'static RealKafka,
    topic: &'static str,
    pipeline: Pipeline,
    bessemer: Bessemer,
}

impl Run {
    fn of(kafka: &'static RealKafka, topic: &'static str, options: &str) -> Result<Self> {
        let pipeline = Pipeline::new(&definition(&kafka.bootstrap_servers(), topic, options))?;
        Ok(Self { kafka, topic, pipeline, bessemer: Bessemer::find()? })
    }

    /// Changes the options of the source.
    fn change(&self, options: &str) -> Result<()> {
        let text = definition(&self.kafka.bootstrap_servers(), self.topic, options);
        Ok(fs::write(self.pipeline.folder().join("pipeline.sql"), text)?)
    }

    /// Runs it to its end, and checks the ledger: `offsets`, of them records, gaps and lost.
    fn expect_ledger(&self, [offsets, records, gaps, lost]: [u64; 4]) -> Result<()> {
        let counts = self.ledger()?;
        assert_eq!(counts, [offsets, records, gaps, lost], "offsets, records, gaps, lost");
        Ok(())
    }

    fn ledger(&self) -> Result<[u64; 4]> {
        self.bessemer.json(["run", &self.pipeline.path(), "--json"])?;
        let ledger = self.bessemer.json(["ledger", &self.pipeline.path(), "--json"])?;
        assert_eq!(ledger["balanced"], true);
        let source = &ledger["sources"][0];
        Ok(["offsets", "records", "gaps", "lost"].map(|name| source[name].as_u64().unwrap_or(0)))
    }

    /// Runs it, which must stop with exit code `code` and these words.
    fn expect_stop(&self, code: i32, words: &str) -> Result<()> {
        let outcome = self.bessemer.call(["run", &self.pipeline.path()])?;
        outcome.expect_code(code)?;
        ensure!(outcome.stderr.contains(words), "`{words}` is not in: {}", outcome.stderr);
        Ok(())
    }

    /// The numbers of the set, in order.
    fn numbers(&self) -> Result<Vec<i64>> {
        let rows = self.pipeline.rows("seen")?.select(&["number"])?.rows;
        let mut numbers = rows.iter().map(|row| Ok(row[0].parse()?)).collect::<Result<Vec<i64>>>()?;
        numbers.sort_unstable();
        Ok(numbers)
    }

    fn expect_numbers(&self, expected: impl IntoIterator<Item = i64>) -> Result<()> {
        let (found, expected) = (self.numbers()?, expected.into_iter().collect::<Vec<_>>());
        assert_eq!(found.len(), expected.len(), "how many numbers");
        assert!(found == expected, "which numbers");
        Ok(())
    }
}

fn values(numbers: std::ops::Range<i64>) -> impl Iterator<Item = String> {
    numbers.map(|number| format!(r#"{{"number": {number}}}"#))
}

/// A producer whose records are in transactions.
fn transactional(kafka: &RealKafka, id: &str) -> Result<BaseProducer> {
    let producer = kafka.producer(&[("transactional.id", id)])?;
    producer.init_transactions(PATIENCE)?;
    Ok(producer)
}

#[test]
fn records_of_committed_transactions_are_read_and_all_offsets_are_counted() -> Result<()> {
    let Some(kafka) = kafka()? else { return Ok(()) };
    kafka.create_topic("transactions", 1, &[])?;
    let (producer, plain) = (transactional(kafka, "transactions")?, kafka.producer(&[])?);
    let commit = |numbers| -> Result<()> {
        producer.begin_transaction()?;
        send(&producer, "transactions", 0, values(numbers))?;
        Ok(producer.commit_transaction(PATIENCE)?)
    };
    let abort = |numbers| -> Result<()> {
        producer.begin_transaction()?;
        send(&producer, "transactions", 0, values(numbers))?;
        Ok(producer.abort_transaction(PATIENCE)?)
    };
    commit(0..10)?;
    abort(10..20)?;
    send(&plain, "transactions", 0, values(20..25))?;
    commit(25..30)?;
    abort(30..40)?;

    // Four markers, twenty records of aborted transactions, the last of them at the end.
    let run = Run::of(kafka, "transactions", "")?;
    run.expect_ledger([44, 20, 24, 0])?;
    run.expect_numbers((0..10).chain(20..30))?;

    // A committed tail: the marker is the last offset.
    commit(40..45)?;
    run.expect_ledger([50, 25, 25, 0])?;
    run.expect_numbers((0..10).chain(20..30).chain(40..45))?;

    // Offsets without any record to read.
    abort(45..50)?;
    run.expect_ledger([56, 25, 31, 0])?;
    run.expect_numbers((0..10).chain(20..30).chain(40..45))?;

    let all = Run::of(kafka, "transactions", ", isolation_level = 'read_uncommitted'")?;
    all.expect_ledger([56, 50, 6, 0])?;
    all.expect_numbers(0..50)
}

#[test]
fn an_open_transaction_is_waited_for_by_a_later_run() -> Result<()> {
    let Some(kafka) = kafka()? else { return Ok(()) };
    kafka.create_topic("open", 1, &[])?;
    let (producer, plain) = (transactional(kafka, "open")?, kafka.producer(&[])?);
    send(&plain, "open", 0, values(0..5))?;
    producer.begin_transaction()?;
    send(&producer, "open", 0, values(5..10))?;
    send(&plain, "open", 0, values(10..15))?;

    let run = Run::of(kafka, "open", "")?;
    run.expect_ledger([5, 5, 0, 0])?;
    run.expect_numbers(0..5)?;
    // Still.
    run.expect_ledger([5, 5, 0, 0])?;

    producer.commit_transaction(PATIENCE)?;
    run.expect_ledger([16, 15, 1, 0])?;
    run.expect_numbers(0..15)
}

#[test]
fn records_that_were_deleted_before_they_were_read_stop_the_run_or_are_counted() -> Result<()> {
    let Some(kafka) = kafka()? else { return Ok(()) };
    kafka.create_topic("deleted", 1, &[])?;
    let producer = kafka.producer(&[])?;
    send(&producer, "deleted", 0, values(0..10))?;
    let run = Run::of(kafka, "deleted", "")?;
    run.expect_ledger([10, 10, 0, 0])?;

    // What was read may go.
    kafka.delete_records("deleted", 0, 7)?;
    send(&producer, "deleted", 0, values(10..20))?;
    run.expect_ledger([20, 20, 0, 0])?;

    send(&producer, "deleted", 0, values(20..30))?;
    kafka.delete_records("deleted", 0, 25)?;
    run.expect_stop(4, "offsets 20 to 24 were deleted before they were read")?;
    run.expect_numbers(0..20)?;

    run.change(", on_data_loss = 'record'")?;
    run.expect_ledger([30, 25, 0, 5])?;
    run.expect_numbers((0..20).chain(25..30))?;

    // Nothing is left of what is new.
    send(&producer, "deleted", 0, values(30..40))?;
    kafka.delete_records("deleted", 0, 40)?;
    run.expect_ledger([40, 25, 0, 15])?;
    send(&producer, "deleted", 0, values(40..45))?;
    run.expect_ledger([45, 30, 0, 15])?;
    run.expect_numbers((0..20).chain(25..30).chain(40..45))?;

    // A pipeline that begins here has lost nothing.
    let late = Run::of(kafka, "deleted", "")?;
    late.expect_ledger([5, 5, 0, 0])
}

#[test]
fn a_set_over_all_records_stops_where_records_that_were_read_are_gone() -> Result<()> {
    let Some(kafka) = kafka()? else { return Ok(()) };
    kafka.create_topic("forgotten", 1, &[])?;
    let producer = kafka.producer(&[])?;
    send(&producer, "forgotten", 0, values(0..10))?;
    let run = Run::of(kafka, "forgotten", "")?;
    // A sum would be kept up to date without them.
    let total = "CREATE FEATURE SET total WITH (path = 'features/total')
                 AS SELECT cardinality(array_agg(number)) AS total FROM numbers;";
    for options in ["", ", on_data_loss = 'record'"] {
        let text = definition(&kafka.bootstrap_servers(), "forgotten", options) + total;
        fs::write(run.pipeline.folder().join("pipeline.sql"), text)?;
        if options.is_empty() {
            run.expect_ledger([10, 10, 0, 0])?;
            kafka.delete_records("forgotten", 0, 4)?;
            send(&producer, "forgotten", 0, values(10..15))?;
        }
        // Its ledger would say that it is made of rows that nobody can read any more.
        run.expect_stop(4, "offsets 0 to 3 were deleted after they were read, and are needed once more")?;
    }
    assert_eq!(run.pipeline.rows("total")?.rows, [["10"]]);
    Ok(())
}

#[test]
fn partitions_that_are_added_are_read_from_their_beginning() -> Result<()> {
    let Some(kafka) = kafka()? else { return Ok(()) };
    kafka.create_topic("grown", 1, &[])?;
    let producer = kafka.producer(&[])?;
    send(&producer, "grown", 0, values(0..5))?;
    let run = Run::of(kafka, "grown", ", scan_startup_mode = 'latest'")?;
    run.expect_ledger([0, 0, 0, 0])?;

    kafka.add_partitions("grown", 3)?;
    // Clients learn of them by and by; this one has not asked before.
    let producer = kafka.producer(&[])?;
    send(&producer, "grown", 0, values(5..10))?;
    send(&producer, "grown", 2, values(10..20))?;
    run.expect_ledger([15, 15, 0, 0])?;
    run.expect_numbers(5..20)
}

#[test]
fn a_daemon_reads_partitions_that_are_added_and_stops_where_its_topic_is_made_anew() -> Result<()> {
    let Some(kafka) = kafka()? else { return Ok(()) };
    kafka.create_topic("living", 1, &[])?;
    send(&kafka.producer(&[])?, "living", 0, values(0..5))?;
    let run = Run::of(kafka, "living", "")?;
    let path = run.pipeline.path();
    let file = run.pipeline.folder().join("pipeline.sql");
    fs::write(&file, fs::read_to_string(&file)? + "SET epoch_age_max = '50ms';")?;
    let daemon = run.bessemer.start_listening(["daemon", &path])?;
    let has =
        |records| wait_until("numbers are committed", || Ok(run.numbers().is_ok_and(|found| found.len() == records)));
    has(5)?;
    kafka.add_partitions("living", 2)?;
    send(&kafka.producer(&[])?, "living", 1, values(5..20))?;
    has(20)?;

    kafka.delete_topic("living")?;
    kafka.create_topic("living", 2, &[])?;
    send(&kafka.producer(&[])?, "living", 0, values(100..150))?;
    // What it says then is there to read when it has ended.
    wait_until("the pipeline stops", || Ok(run.bessemer.call(["run", &path])?.code == Some(4)))?;
    signal("-TERM", daemon.id())?;
    let outcome = Outcome::of(daemon)?;
    outcome.expect_code(0)?;
    run.expect_numbers(0..20)
}

#[test]
fn a_group_of_other_consumers_with_its_name_neither_disturbs_it_nor_is_disturbed() -> Result<()> {
    const GROUP: &str = "shared";
    let Some(kafka) = kafka()? else { return Ok(()) };
    kafka.create_topic("shared", 4, &[])?;
    let producer = kafka.producer(&[])?;
    let burst = |first: i64| {
        (0..4).try_for_each(|at| {
            send(&producer, "shared", at, values(first + 10 * i64::from(at)..first + 10 * i64::from(at) + 10))
        })
    };
    burst(0)?;
    let run = Run::of(kafka, "shared", ", group_id = 'shared'")?;
    // One consumer has all partitions, and has committed that it has read nothing.
    let first = member(kafka, GROUP, "shared", 4)?;
    let mut nothing = TopicPartitionList::new();
    nothing.add_partition_offset("shared", 0, Offset::Offset(0))?;
    first.consumer.commit(&nothing, CommitMode::Sync)?;
    run.expect_ledger([40, 40, 0, 0])?;
    assert_eq!(first.consumer.assignment()?.count(), 4);

    // Another one comes: the group is rebalanced while a run reads.
    burst(40)?;
    let child = run.bessemer.start_listening(["run", &run.pipeline.path(), "--json"])?;
    let second = member(kafka, GROUP, "shared", 2)?;
    Outcome::of(child)?.expect_code(0)?;
    run.expect_ledger([80, 80, 0, 0])?;
    run.expect_numbers(0..80)?;

    // When they have gone, lag tools see how far it is.
    drop((first, second));
    burst(80)?;
    run.expect_ledger([120, 120, 0, 0])?;
    run.expect_numbers(0..120)?;
    let committed = consumer(kafka, GROUP)?.committed_offsets(whole("shared", 4), PATIENCE)?;
    assert!(committed.elements().iter().all(|partition| partition.offset() == Offset::Offset(30)), "{committed:?}");
    Ok(())
}

/// All partitions of a topic.
fn whole(topic: &str, partitions: i32) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        list.add_partition(topic, partition);
    }
    list
}

#[test]
fn a_topic_that_was_made_anew_is_noticed_however_many_records_it_has() -> Result<()> {
    let Some(kafka) = kafka()? else { return Ok(()) };
    for (topic, records) in [("fewer", 3), ("more", 30)] {
        kafka.create_topic(topic, 1, &[])?;
        send(&kafka.producer(&[])?, topic, 0, values(0..10))?;
        let run = Run::of(kafka, topic, ", on_data_loss = 'record'")?;
        run.expect_ledger([10, 10, 0, 0])?;

        kafka.delete_topic(topic)?;
        run.expect_stop(2, "there is no topic")?;
        kafka.create_topic(topic, 1, &[])?;
        send(&kafka.producer(&[])?, topic, 0, values(100..100 + records))?;
        run.expect_stop(4, "made anew after it was read up to offset 10")?;
        run.expect_numbers(0..10)?;
    }
    Ok(())
}

#[test]
fn a_first_run_begins_at_a_time_or_where_a_group_is() -> Result<()> {
    let Some(kafka) = kafka()? else { return Ok(()) };
    // Records of long ago stay.
    kafka.create_topic("times", 1, &[("retention.ms", "-1")])?;
    let producer = kafka.producer(&[])?;
    for (second, value) in (1..).zip(values(0..10)) {
        let record: BaseRecord<'_, (), str> = BaseRecord::to("times").timestamp(1_000 * second).payload(&value);
        producer.send(record).map_err(|(error, _)| error)?;
    }
    producer.flush(PATIENCE)?;
    let timed = ", scan_startup_mode = 'timestamp', scan_startup_timestamp = '1970-01-01T00:00:07Z'";
    let run = Run::of(kafka, "times", timed)?;
    run.expect_ledger([4, 4, 0, 0])?;
    run.expect_numbers(6..10)?;

    let mut list = TopicPartitionList::new();
    list.add_partition_offset("times", 0, Offset::Offset(3))?;
    consumer(kafka, "ahead")?.commit(&list, CommitMode::Sync)?;
    let heir = Run::of(kafka, "times", ", scan_startup_mode = 'group', group_id = 'ahead'")?;
    heir.expect_ledger([7, 7, 0, 0])?;
    heir.expect_numbers(3..10)?;
    // A group that has committed nothing begins with the oldest record.
    Run::of(kafka, "times", ", scan_startup_mode = 'group', group_id = 'new'")?.expect_ledger([10, 10, 0, 0])
}

#[test]
fn every_codec_of_producers_is_read() -> Result<()> {
    let Some(kafka) = kafka()? else { return Ok(()) };
    kafka.create_topic("codecs", 5, &[])?;
    for (partition, codec) in (0..).zip(["none", "gzip", "snappy", "lz4", "zstd"]) {
        let producer = kafka.producer(&[("compression.codec", codec)])?;
        let first = 1_000 * i64::from(partition);
        send(&producer, "codecs", partition, values(first..first + 1_000))?;
    }
    let run = Run::of(kafka, "codecs", "")?;
    run.expect_ledger([5_000, 5_000, 0, 0])?;
    run.expect_numbers(0..5_000)
}

#[test]
fn what_is_not_there_is_told_by_the_exit_code_and_soon() -> Result<()> {
    let Some(kafka) = kafka()? else { return Ok(()) };
    Run::of(kafka, "nowhere", "")?.expect_stop(2, "there is no topic `nowhere`")?;

    let (bessemer, absent) = (Bessemer::find()?, definition("127.0.0.1:1", "numbers", ", broker_timeout = '2s'"));
    let started = Instant::now();
    let outcome = bessemer.call(["run", &Pipeline::new(&absent)?.path()])?;
    outcome.expect_code(3)?;
    assert!(outcome.stderr.contains("127.0.0.1:1"), "{}", outcome.stderr);
    assert!(started.elapsed() < PATIENCE, "it took {:?}", started.elapsed());
    Ok(())
}

#[test]
fn a_compacted_topic_gives_the_last_value_of_every_key() -> Result<()> {
    const KEYS: i64 = 5;
    const TOPIC: &str = "compacted";
    let Some(kafka) = kafka()? else { return Ok(()) };
    let settings = [
        ("cleanup.policy", "compact"),
        ("segment.ms", "50"),
        ("min.cleanable.dirty.ratio", "0.001"),
        ("max.compaction.lag.ms", "1"),
    ];
    kafka.create_topic(TOPIC, 1, &settings)?;
    let producer = kafka.producer(&[])?;
    let mut end = 0;
    let started = Instant::now();
    while end == 0 || (started.elapsed() < PATIENCE && first_offset(kafka, TOPIC)? == Some(0)) {
        // A record in a segment of its own now and then: the last one is never compacted.
        let keys = (end..end + 2 * KEYS).map(|number| format!("k{}", number % KEYS));
        send_keyed(&producer, TOPIC, 0, keys.zip(values(end..end + 2 * KEYS)))?;
        end += 2 * KEYS;
    }
    let run = Run::of(kafka, TOPIC, "")?;
    let [offsets, records, gaps, lost] = run.ledger()?;
    println!("{offsets} offsets, {gaps} of them compacted away");
    assert_eq!((offsets, records + gaps, lost), (u64::try_from(end)?, offsets, 0));
    assert!(gaps > 0, "nothing was compacted within {PATIENCE:?}");
    let last: BTreeMap<i64, i64> = run.numbers()?.into_iter().map(|number| (number % KEYS, number)).collect();
    assert!(last.into_values().eq(end - KEYS..end));
    Ok(())
}

fn consumer(kafka: &RealKafka, group: &str) -> Result<BaseConsumer> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", kafka.bootstrap_servers()).set("group.id", group);
    Ok(config.set("enable.partition.eof", "true").create()?)
}

/// A consumer that has joined `group` and was given `partitions` partitions of `topic`; it lives on a thread of its own.
fn member(kafka: &RealKafka, group: &str, topic: &str, partitions: usize) -> Result<Member> {
    let consumer = Arc::new(consumer(kafka, group)?);
    consumer.subscribe(&[topic])?;
    let (stop, polled) = (Arc::new(AtomicBool::new(false)), Arc::clone(&consumer));
    let stopped = Arc::clone(&stop);
    let thread = std::thread::spawn(move || {
        while !stopped.load(Ordering::Relaxed) {
            // Records and errors alike: it only has to take part.
            drop(polled.poll(Duration::from_millis(50)));
        }
    });
    let member = Member { consumer, stop, thread: Some(thread) };
    wait_until("a consumer has its partitions", || Ok(member.consumer.assignment()?.count() == partitions))?;
    Ok(member)
}

struct Member {
    consumer: Arc<BaseConsumer>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Member {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Its panic was printed by itself.
        drop(self.thread.take().map(JoinHandle::join));
    }
}

/// Where the first record of a topic is that is left.
fn first_offset(kafka: &RealKafka, topic: &str) -> Result<Option<i64>> {
    let consumer = consumer(kafka, "look")?;
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::Offset(0))?;
    consumer.assign(&list)?;
    match consumer.poll(PATIENCE) {
        Some(Ok(message)) => Ok(Some(message.offset())),
        _ => Ok(None),
    }
}
