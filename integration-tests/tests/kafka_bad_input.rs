//! What brokers and topics can do wrong: each is told by an exit code and a text that names it, and soon.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bessemer_integration_tests::{Bessemer, KafkaCluster, Outcome, Pipeline, parquet_files, says, signal, wait_until};
use serde_json::Value;

/// A run that waits for brokers waits this long, and for each of them once or twice.
const PATIENCE: &str = "broker_timeout = '1s'";
/// No such run may take longer, on a busy machine.
const SOON: Duration = Duration::from_secs(30);

fn pipeline(servers: &str, options: &str) -> Result<Pipeline> {
    Pipeline::new(&format!(
        "CREATE PIPELINE numbers; SET epoch_age_max = '50ms';
         CREATE SOURCE numbers (number BIGINT NOT NULL, note VARCHAR, at TIMESTAMPTZ, WATERMARK FOR at AS at)
         INCLUDE KEY AS kafka_key
         WITH (connector = 'kafka', bootstrap_servers = '{servers}', topic = 'numbers', format = 'json' {options});
         CREATE FEATURE SET seen WITH (path = 'features/seen')
         AS SELECT number, kafka_key IS NULL AS has_no_key FROM numbers;",
    ))
}

/// A server that takes every connection and does `serve` with it.
fn server(serve: impl Fn(TcpStream) + Send + 'static) -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?.to_string();
    std::thread::spawn(move || listener.incoming().flatten().for_each(serve));
    Ok(address)
}

/// A run against something that is no broker ends with 3, names the address, and leaves nothing but the claim.
fn check_no_broker(address: &str) -> Result<()> {
    let (bessemer, pipeline) = (Bessemer::find()?, pipeline(address, &format!(", {PATIENCE}"))?);
    let started = Instant::now();
    let outcome = bessemer.call(["run", &pipeline.path()])?;
    says(&outcome, 3, &["cannot ask for topics at Kafka brokers", address])?;
    ensure!(started.elapsed() < SOON, "it took {:?}", started.elapsed());
    Ok(())
}

#[test]
fn no_broker_at_the_address_is_told_soon() -> Result<()> {
    // Bound and dropped: nobody listens there now.
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    check_no_broker(&address)
}

#[test]
fn a_broker_that_takes_connections_and_never_answers_is_told_soon() -> Result<()> {
    let held = Arc::new(Mutex::new(Vec::new()));
    check_no_broker(&server(move |stream| held.lock().map_or((), |mut held| held.push(stream)))?)
}

#[test]
fn somebody_elses_port_is_told_soon() -> Result<()> {
    check_no_broker(&server(|mut stream| {
        // Whoever hangs up here has had his answer.
        let mut asked = [0; 64];
        let _read = stream.read(&mut asked);
        let _written = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
    })?)
}

#[test]
fn a_daemon_outlives_brokers_that_are_not_there_yet() -> Result<()> {
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    let (bessemer, pipeline) = (Bessemer::find()?, pipeline(&address, &format!(", {PATIENCE}"))?);
    let said = pipeline.folder().join("said");
    let to_file = format!("exec 2>'{}'", said.display());
    let daemon = bessemer.start_in_shell(&to_file, ["daemon", &pipeline.path()])?;
    wait_until("it tries again", || Ok(std::fs::read_to_string(&said).unwrap_or_default().contains("trying again")))?;
    signal("-TERM", daemon.id())?;
    Outcome::of(daemon)?.expect_code(0)
}

#[test]
fn a_topic_that_is_not_there_is_told_by_its_name() -> Result<()> {
    let (cluster, bessemer) = (KafkaCluster::start(1)?, Bessemer::find()?);
    let missing = rdkafka::types::RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
    cluster.mock.topic_error("numbers", missing)?;
    let pipeline = pipeline(&cluster.bootstrap_servers(), "")?;
    let outcome = bessemer.call(["run", &pipeline.path()])?;
    says(&outcome, 2, &["there is no topic `numbers` at Kafka brokers", &cluster.bootstrap_servers()])
}

/// A broker of one topic without partitions: it answers what a client asks first, and nothing else.
fn broker_of_nothing(mut stream: TcpStream, address: &str) -> std::io::Result<()> {
    let port = address.rsplit(':').next().and_then(|port| port.parse::<i32>().ok()).unwrap_or_default();
    let text =
        |text: &str| [&u16::try_from(text.len()).unwrap_or_default().to_be_bytes()[..], text.as_bytes()].concat();
    loop {
        let mut length = [0; 4];
        stream.read_exact(&mut length)?;
        let mut request = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap_or_default()];
        stream.read_exact(&mut request)?;
        let body = match request.as_slice() {
            // ApiVersions (KIP-511): in version 0 only, and then that there are this and Metadata, up to version 1.
            [0, 18, 0, 0, ..] => [&[0, 0, 0, 0, 0, 2][..], &[0, 18, 0, 0, 0, 0], &[0, 3, 0, 0, 0, 1]].concat(),
            [0, 18, ..] => vec![0, 35, 0, 0, 0, 1, 0, 18, 0, 0, 0, 0],
            // Metadata, version 1: this broker, which is the controller, and a topic that is no internal one.
            _ => {
                let broker =
                    [&[0, 0, 0, 1, 0, 0, 0, 1][..], &text("127.0.0.1"), &port.to_be_bytes(), &[0xff, 0xff]].concat();
                let topic = [&[0, 0, 0, 1, 0, 0][..], &text("numbers"), &[0, 0, 0, 0, 0]].concat();
                [broker, vec![0, 0, 0, 1], topic].concat()
            }
        };
        let answer = [request.get(4..8).unwrap_or_default(), &body].concat();
        stream.write_all(&u32::try_from(answer.len()).unwrap_or_default().to_be_bytes())?;
        stream.write_all(&answer)?;
    }
}

#[test]
fn a_topic_without_partitions_is_told_by_its_name() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?.to_string();
    let (bessemer, pipeline) = (Bessemer::find()?, pipeline(&address, &format!(", {PATIENCE}"))?);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let address = address.clone();
            std::thread::spawn(move || broker_of_nothing(stream, &address));
        }
    });
    let outcome = bessemer.call(["run", &pipeline.path()])?;
    says(&outcome, 2, &["there is no topic `numbers` at Kafka brokers"])
}

fn source_ledger(bessemer: &Bessemer, pipeline: &Pipeline) -> Result<Value> {
    let ledger = bessemer.json(["ledger", &pipeline.path(), "--json"])?;
    assert_eq!(ledger["balanced"], true, "{ledger}");
    Ok(ledger["sources"][0].clone())
}

const SOUND: &str = r#""at": "2020-01-01T00:00:00Z""#;

#[test]
fn records_without_value_or_key_and_very_long_ones_are_accounted_for() -> Result<()> {
    let (cluster, bessemer) = (KafkaCluster::start(1)?, Bessemer::find()?);
    cluster.create_topic("numbers", 1)?;
    let record =
        |number: u64, length: usize| format!(r#"{{"number": {number}, {SOUND}, "note": "{}"}}"#, "x".repeat(length));
    cluster.send_one("numbers", 0, Some("k"), Some(&record(1, 0)))?;
    cluster.send_one("numbers", 0, None, Some(&record(2, 0)))?;
    cluster.send_one("numbers", 0, Some("k"), None)?;
    cluster.send_one("numbers", 0, None, None)?;
    cluster.send_one("numbers", 0, None, Some(""))?;
    // Beyond what one fetch asks for, and beyond what a record may have.
    cluster.send_one("numbers", 0, None, Some(&record(3, 60_000)))?;
    cluster.send_one("numbers", 0, None, Some(&record(4, 150_000)))?;
    cluster.send_one("numbers", 0, Some("k"), Some(&record(5, 0)))?;
    let options = ", max_record_bytes = '100KiB', properties.fetch.message.max.bytes = '20000'";
    let pipeline = pipeline(&cluster.bootstrap_servers(), options)?;
    bessemer.call(["run", &pipeline.path()])?.expect_code(0)?;

    let rows = pipeline.rows("seen")?.select(&["number", "has_no_key"])?.sorted().rows;
    assert_eq!(rows, [["1", "false"], ["2", "true"], ["3", "true"], ["5", "false"]]);
    let ledger = source_ledger(&bessemer, &pipeline)?;
    let counts = ["offsets", "records", "tombstones", "undecodable"].map(|name| ledger[name].as_u64().unwrap_or(0));
    assert_eq!(counts, [8, 8, 2, 2]);
    let outcome = bessemer.call(["quarantine", &pipeline.path(), "numbers", "--json"])?;
    let rejects = outcome.stdout.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
    assert_eq!((&rejects[0]["reason"], &rejects[0]["byte_len"]), (&"invalid_json".into(), &0.into()));
    assert_eq!(rejects[1]["reason"], "record_too_long");
    assert!(rejects[1]["byte_len"].as_u64() > Some(150_000), "{}", rejects[1]["byte_len"]);
    assert_eq!(rejects[1]["original"].as_str().map(str::len), Some(64 << 10));
    Ok(())
}

#[test]
fn event_times_years_ahead_of_their_records_are_kept_out() -> Result<()> {
    let (cluster, bessemer) = (KafkaCluster::start(1)?, Bessemer::find()?);
    cluster.create_topic("numbers", 1)?;
    let ahead = r#""at": "2999-01-01T00:00:00Z""#;
    let times = [SOUND, ahead, SOUND, r#""at": null"#];
    let records = times.iter().zip(1..).map(|(at, number)| format!(r#"{{"number": {number}, {at}}}"#));
    cluster.send("numbers", 0, records)?;
    let pipeline = pipeline(&cluster.bootstrap_servers(), "")?;
    bessemer.call(["run", &pipeline.path()])?.expect_code(0)?;
    assert_eq!(pipeline.rows("seen")?.select(&["number"])?.sorted().rows, [["1"], ["3"]]);
    let ledger = source_ledger(&bessemer, &pipeline)?;
    assert_eq!((&ledger["decoded"], &ledger["bad_event_time"]), (&4.into(), &2.into()));
    let outcome = bessemer.call(["quarantine", &pipeline.path(), "numbers", "--json"])?;
    for reason in ["event_time_ahead", "null_event_time"] {
        assert!(outcome.stdout.contains(reason), "{}", outcome.stdout);
    }
    Ok(())
}

#[test]
fn a_full_disk_in_the_middle_of_an_epoch_loses_and_repeats_nothing() -> Result<()> {
    const RECORDS: u64 = 40_000;
    let (cluster, bessemer) = (KafkaCluster::start(1)?, Bessemer::find()?);
    cluster.create_topic("numbers", 1)?;
    let record = |number: u64| format!(r#"{{"number": {}, {SOUND}}}"#, number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 1);
    cluster.send("numbers", 0, (0..RECORDS).map(record))?;
    let pipeline = pipeline(&cluster.bootstrap_servers(), "")?;
    // No file may grow beyond 64 KiB.
    let full = bessemer.call_in_shell("trap '' XFSZ; ulimit -f 128", ["run", &pipeline.path()])?;
    says(&full, 3, &["cannot write", "features/seen"])?;
    let said = pipeline.folder().join("said");
    let limited = format!("exec 2>'{}'; trap '' XFSZ; ulimit -f 128", said.display());
    let daemon = bessemer.start_in_shell(&limited, ["daemon", &pipeline.path()])?;
    wait_until("it finds the disk full", || {
        Ok(std::fs::read_to_string(&said).unwrap_or_default().contains("cannot write"))
    })?;
    signal("-TERM", daemon.id())?;
    Outcome::of(daemon)?.expect_code(0)?;
    assert_eq!(parquet_files(&pipeline.features).unwrap_or_default().len(), 0);

    bessemer.call(["run", &pipeline.path()])?.expect_code(0)?;
    let rows = pipeline.rows("seen")?.select(&["number"])?.rows;
    let mut numbers = rows.iter().map(|row| row[0].parse().context("a number")).collect::<Result<Vec<u64>>>()?;
    numbers.sort_unstable();
    let mut expected: Vec<_> = (0..RECORDS).map(|number| number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 1).collect();
    expected.sort_unstable();
    assert!(numbers == expected, "{} rows", numbers.len());
    assert_eq!(source_ledger(&bessemer, &pipeline)?["records"], RECORDS);
    Ok(())
}
