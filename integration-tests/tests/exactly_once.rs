//! Every number once, with everything going wrong at a time: the daemon is killed at random moments, brokers are killed,
//! restarted and cut off, and the store that holds state and sets answers errors.
//!
//! Everyday runs are short. `BESSEMER_KILLS=200` makes the long one (`docs/testing.md`).

#![allow(clippy::print_stdout, reason = "whoever looks into a failure needs its seed, and what was met")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bessemer_integration_tests::{
    Bessemer, Fault, FaultPlan, KafkaCluster, NodeCommand, PARTITIONS, Pipeline, RealKafka, S3Server,
    check_every_number, number_partition, number_record, numbers_on_s3, pause, send_numbers,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

/// Epochs close quickly, so that many of them are met by what happens.
const SETTINGS: &str = "SET epoch_age_max = '20ms'; SET epoch_rows = 400;";

/// The longest life of a daemon, in milliseconds: a debug build needs one second to commit for the first time.
const LIFE_MAX: u64 = 3_000;

/// Of a thousand requests to the store these many go wrong.
const FAULTS_PER_MILLE: u32 = 50;

fn faulty_store(seed: u64) -> Result<S3Server> {
    let faults = [
        Fault::InternalError,
        Fault::InternalErrorAfter,
        Fault::SlowDown,
        Fault::Conflict,
        Fault::DropBefore,
        Fault::DropAfter,
        Fault::CutBody,
        Fault::Slow(Duration::from_millis(50)),
    ];
    S3Server::start(&FaultPlan::seeded(seed, FAULTS_PER_MILLE, &faults))
}

/// Starts a daemon and kills it at a random moment. It ends by itself for no fault. Something happens half-way.
fn live(
    bessemer: &Bessemer,
    pipeline: &Pipeline,
    random: &mut StdRng,
    half_way: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let half = Duration::from_millis(random.random_range(0..LIFE_MAX)) / 2;
    let mut daemon = bessemer.start(["daemon", &pipeline.path()])?;
    pause(half);
    half_way()?;
    pause(half);
    let ended = daemon.try_wait()?;
    daemon.kill()?;
    daemon.wait()?;
    ensure!(ended.is_none(), "a daemon ended by itself: {ended:?}");
    Ok(())
}

/// A last run without faults, and the account.
fn settle(server: &S3Server, bessemer: &Bessemer, pipeline: &Pipeline, end: i64) -> Result<()> {
    println!("{} requests to the store, {} of them faulty", server.requests(), server.faults());
    ensure!(server.faults() > 0, "no request to the store went wrong");
    server.set_faults(&FaultPlan::none());
    bessemer.call(["run", &pipeline.path()])?.expect_code(0)?;
    check_every_number(bessemer, pipeline, end)
}

#[test]
fn with_mock_brokers_every_number_is_there_once() -> Result<()> {
    const SEED: u64 = 0xdae;
    const KILLS: u16 = 12;
    const BURST: i64 = 150;
    println!("seed {SEED:#x}");
    let mut random = StdRng::seed_from_u64(SEED);
    let (cluster, server) = (KafkaCluster::start(3)?, faulty_store(SEED)?);
    cluster.create_topic("numbers", PARTITIONS)?;
    let (pipeline, bessemer) = numbers_on_s3(&server, &cluster.bootstrap_servers(), SETTINGS)?;
    let mut end = 0;
    for kill in 0..KILLS {
        send_numbers(&cluster, end..end + BURST)?;
        end += BURST;
        let broker = i32::from(kill % 3) + 1;
        match kill % 4 {
            0 => {}
            1 => {
                // Connections that break off.
                let errors = [rdkafka::types::RDKafkaRespErr::RD_KAFKA_RESP_ERR__TRANSPORT; 4];
                cluster.mock.request_errors(rdkafka::types::RDKafkaApiKey::Fetch, &errors);
            }
            // A broker that is gone for the daemon's life, or for the first part of it.
            _ => cluster.mock.broker_down(broker)?,
        }
        live(&bessemer, &pipeline, &mut random, || {
            if kill % 4 == 2 {
                cluster.mock.broker_up(broker)?;
            }
            Ok(())
        })?;
        cluster.mock.broker_up(broker)?;
    }
    settle(&server, &bessemer, &pipeline, end)
}

/// Numbers a second that the producer sends while everything goes wrong.
const RATE: u32 = 200;

/// Sends one number after another until it is told to stop; how many there are. Each is there once: the brokers drop what
/// the client repeats.
fn produce(producer: &BaseProducer, stop: &AtomicBool) -> Result<i64> {
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        let value = number_record(number);
        let record: BaseRecord<'_, (), str> =
            BaseRecord::to("numbers").partition(number_partition(number)).payload(&value);
        match producer.send(record) {
            Ok(()) => number += 1,
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {}
            Err((error, _)) => return Err(error.into()),
        }
        producer.poll(Duration::ZERO);
        pause(Duration::from_secs(1) / RATE);
    }
    producer.flush(Duration::from_mins(5))?;
    Ok(number)
}

/// Kills a node and starts it again, or freezes it for a while, one after another, until it is told to stop.
fn disturb(kafka: &RealKafka, mut random: StdRng, stop: &AtomicBool) -> Result<[u32; 2]> {
    let mut counts = [0; 2];
    while !stop.load(Ordering::Relaxed) {
        let node = random.random_range(1..=3);
        let (down, up) = [(NodeCommand::Kill, NodeCommand::Start), (NodeCommand::Freeze, NodeCommand::Thaw)]
            [usize::from(random.random_bool(0.5))];
        counts[usize::from(down == NodeCommand::Freeze)] += 1;
        kafka.command(down, node)?;
        pause(Duration::from_millis(random.random_range(500..5_000)));
        kafka.command(up, node)?;
        kafka.wait_for_nodes()?;
        pause(Duration::from_millis(random.random_range(0..3_000)));
    }
    Ok(counts)
}

/// How many daemons are killed in an everyday run.
const KILLS: u32 = 6;

fn kills() -> Result<u32> {
    #[expect(clippy::disallowed_methods, reason = "whoever has the time says how long to look")]
    let wanted = std::env::var("BESSEMER_KILLS").ok();
    wanted.map_or(Ok(KILLS), |text| Ok(text.parse()?))
}

#[test]
fn with_three_real_brokers_every_number_is_there_once() -> Result<()> {
    const SEED: u64 = 0x3b0;
    let Some(kafka) = RealKafka::start(3)? else { return Ok(()) };
    let (kills, server, mut random) = (kills()?, faulty_store(SEED)?, StdRng::seed_from_u64(SEED));
    println!("seed {SEED:#x}, {kills} kills");
    kafka.create_topic("numbers", PARTITIONS, &[("min.insync.replicas", "2")])?;
    let (pipeline, bessemer) = numbers_on_s3(&server, &kafka.bootstrap_servers(), SETTINGS)?;
    // It repeats for ever what no broker has taken.
    let producer = kafka.producer(&[("acks", "all"), ("message.timeout.ms", "0"), ("socket.timeout.ms", "5000")])?;

    let (stop, started) = (AtomicBool::new(false), Instant::now());
    let end = std::thread::scope(|scope| {
        let producing = scope.spawn(|| produce(&producer, &stop));
        let disturbance = StdRng::seed_from_u64(SEED + 1);
        let disturbing = scope.spawn(|| disturb(&kafka, disturbance, &stop));
        let killed = (0..kills).try_for_each(|_| live(&bessemer, &pipeline, &mut random, || Ok(())));
        stop.store(true, Ordering::Relaxed);
        let join = |what: &str| anyhow::anyhow!("the thread that {what} has panicked");
        let [node_kills, freezes] = disturbing.join().map_err(|_| join("disturbs"))??;
        let end = producing.join().map_err(|_| join("produces"))??;
        println!("{end} numbers, {node_kills} brokers killed, {freezes} frozen, in {:?}", started.elapsed());
        killed.map(|()| end)
    })?;
    settle(&server, &bessemer, &pipeline, end)
}
