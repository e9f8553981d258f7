//! What comes first is read first, and given on in order.

use super::*;

/// Three partitions, of which the first and the last are led by broker 1, and broker 2 leads the other.
fn two_brokers() -> Cluster {
    let mock = MockCluster::new(2).unwrap();
    mock.create_topic("flights", 3, 1).unwrap();
    for (partition, broker) in [(0, 1), (1, 2), (2, 1)] {
        mock.partition_leader("flights", partition, Some(broker)).unwrap();
    }
    let producer = ClientConfig::new().set("bootstrap.servers", mock.bootstrap_servers()).create().unwrap();
    Cluster { mock, producer }
}

/// Scans `ranges` in one partition of the plan. Broker 1 is away until the range `until` was read to its end.
async fn scan_without_the_first(
    cluster: &Cluster,
    source: &Arc<KafkaSource>,
    ranges: &[OffsetRange],
    until: u32,
) -> Result<Scanned> {
    let input = ranges.iter().map(|range| ScanOffsets { range: range.clone(), is_new: true }).collect();
    let (sender, mut reports) = mpsc::channel(4);
    let scans = EpochScans::new(sender).with_source("flights", 3, ScanInput::Offsets(input));
    let config = SessionConfig::new().with_target_partitions(1).with_batch_size(100).with_extension(Arc::new(scans));
    let session = TestSession::new(config);
    let plan = source.table_provider(false).scan(&session, None, &[], None).await.unwrap();
    cluster.mock.broker_down(1).unwrap();
    let rows = plan.execute(0, session.task_ctx()).unwrap();
    drop((plan, session));
    let reading = async {
        let mut scanned = Scanned::default();
        while let Some(report) = reports.recv().await {
            match report {
                ScanReport::Rejects { batch, .. } => scanned.rejects.push(batch),
                ScanReport::ObjectDone { object, ledger, .. } => {
                    scanned.ledger.add(&ledger);
                    if object == until {
                        cluster.mock.broker_up(1).unwrap();
                    }
                }
                _ => {}
            }
        }
        scanned
    };
    let (batches, mut scanned) = tokio::join!(rows.try_collect::<Vec<_>>(), reading);
    scanned.batches = batches.map_err(ours)?;
    Ok(scanned)
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_are_read_while_the_one_before_them_does_not_come_and_keep_their_order() {
    let cluster = two_brokers();
    for (partition, ids) in [(0, 0..300), (1, 300..2_000), (2, 2_000..2_001)] {
        cluster.send_values(partition, values(ids).iter().map(String::as_str));
    }
    let ranges = [range(0, 0, 300), range(1, 0, 500), range(1, 500, 1_700), range(2, 0, 1)];
    let source = cluster.source(&[]);
    let scanned = scan_without_the_first(&cluster, &source, &ranges, 2).await.unwrap();
    assert!(scanned.ids().into_iter().eq(0..2_001), "{} rows", scanned.ids().len());
    assert_eq!((scanned.ledger.offsets, scanned.ledger.records, scanned.ledger.gaps), (2_001, 2_001, 0));

    // The same consumer reads on behind all of them.
    for (partition, ids) in [(0, 0..200), (1, 200..400), (2, 400..600)] {
        cluster.send_values(partition, values(ids).iter().map(String::as_str));
    }
    let ranges = [range(0, 300, 500), range(1, 1_700, 1_900), range(2, 1, 201)];
    let scanned = scan_without_the_first(&cluster, &source, &ranges, 1).await.unwrap();
    assert!(scanned.ids().into_iter().eq(0..600), "{} rows", scanned.ids().len());
    assert_eq!(source.consumers().kept(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_range_is_told_when_it_is_its_turn() {
    let cluster = two_brokers();
    cluster.send_values(0, values(0..300).iter().map(String::as_str));
    cluster.send_values(1, ["nonsense"; 20]);
    cluster.send_values(2, values(300..400).iter().map(String::as_str));
    let source = cluster.source(&[("bad_records_max", "0.1"), ("bad_records_window", "10"), ("broker_timeout", "2s")]);
    let ranges = [range(0, 0, 300), range(1, 0, 20), range(2, 0, 100)];
    // Nobody brings the first broker back.
    let error = scan_without_the_first(&cluster, &source, &ranges, 2).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    cluster.mock.broker_up(1).unwrap();
    let error = scan(&source, &ranges, 1).await.unwrap_err();
    assert!(matches!(error, Error::TooManyBad(_)), "{error}");
}

#[test]
fn fetch_sizes_are_shares_and_a_user_may_set_them_by_either_name() {
    let fetched = |options: &[(&str, &str)], partitions| {
        let options = [options, &[("bootstrap_servers", "127.0.0.1:1")]].concat();
        let source = open(&mut definition(&[], &options)).unwrap();
        let settings = client::settings(source.options(), partitions);
        assert_eq!(settings.get("max.partition.fetch.bytes"), None);
        let number = |key| settings.get(key).unwrap().parse::<u64>().unwrap();
        (number("fetch.message.max.bytes"), number("queued.min.messages"), number("queued.max.messages.kbytes"))
    };
    let shares = [
        (1, (1 << 20, 65_536, 65_536)),
        (4, (512 << 10, 16_384, 16_384)),
        (16, (512 << 10, 8_192, 4_096)),
        (128, (256 << 10, 1_024, 1_024)),
        (4_096, (64 << 10, 512, 1_024)),
    ];
    for (partitions, share) in shares {
        assert_eq!(fetched(&[], partitions), share, "{partitions} partitions");
    }
    for name in ["properties.max.partition.fetch.bytes", "properties.fetch.message.max.bytes"] {
        assert_eq!(fetched(&[(name, "70000")], 4).0, 70_000, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_ahead_is_not_read_again_where_the_range_before_it_has_lost_records() {
    let cluster = two_brokers();
    // The mock keeps 5 MiB of a partition.
    let filling = "x".repeat(900_000);
    for id in 0..8 {
        cluster.send_values(0, [format!(r#"{{"id": {id}, "filling": "{filling}"}}"#).as_str()]);
    }
    cluster.send_values(1, ["nonsense"].into_iter().chain(values(8..400).iter().map(String::as_str)));
    cluster.send_values(2, values(400..500).iter().map(String::as_str));
    let source = cluster.source(&[("on_data_loss", "record")]);
    let ranges = [range(0, 0, 8), range(1, 0, 393), range(2, 0, 100)];
    let scanned = scan_without_the_first(&cluster, &source, &ranges, 1).await.unwrap();
    let ledger = scanned.ledger;
    assert!((1..8).contains(&ledger.lost), "{ledger:?}");
    let first = i64::try_from(ledger.lost).unwrap();
    assert_eq!(scanned.ids(), (first..500).collect::<Vec<_>>());
    assert_eq!(scanned.reasons(), ["0 invalid_json"]);
    assert_eq!((ledger.offsets, ledger.records + ledger.lost, ledger.gaps), (501, 501, 0));
}
