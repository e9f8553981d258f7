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

/// Scans `ranges` in one partition of the plan. Broker 1 is away until all of the second range was read.
async fn scan_without_the_first(cluster: &Cluster, source: &Arc<KafkaSource>, ranges: &[OffsetRange]) -> Scanned {
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
                    if object == 1 {
                        cluster.mock.broker_up(1).unwrap();
                    }
                }
                _ => {}
            }
        }
        scanned
    };
    let (batches, mut scanned) = tokio::join!(rows.try_collect::<Vec<_>>(), reading);
    scanned.batches = batches.map_err(ours).unwrap();
    scanned
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_are_read_while_the_one_before_them_does_not_come_and_keep_their_order() {
    let cluster = two_brokers();
    for (partition, ids) in [(0, 0..300), (1, 300..2_000), (2, 2_000..2_001)] {
        cluster.send_values(partition, values(ids).iter().map(String::as_str));
    }
    let ranges = [range(0, 0, 300), range(1, 0, 500), range(1, 500, 1_700), range(2, 0, 1)];
    let source = cluster.source(&[]);
    let scanned = scan_without_the_first(&cluster, &source, &ranges).await;
    assert!(scanned.ids().into_iter().eq(0..2_001), "{} rows", scanned.ids().len());
    assert_eq!((scanned.ledger.offsets, scanned.ledger.records, scanned.ledger.gaps), (2_001, 2_001, 0));
    assert_eq!(source.consumers().kept(), 1);
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
    let scanned = scan_without_the_first(&cluster, &source, &ranges).await;
    let ledger = scanned.ledger;
    assert!((1..8).contains(&ledger.lost), "{ledger:?}");
    let first = i64::try_from(ledger.lost).unwrap();
    assert_eq!(scanned.ids(), (first..500).collect::<Vec<_>>());
    assert_eq!(scanned.reasons(), ["0 invalid_json"]);
    assert_eq!((ledger.offsets, ledger.records + ledger.lost, ledger.gaps), (501, 501, 0));
}
