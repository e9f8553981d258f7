//! The circuit breaker over a topic.

use super::*;

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Good,
    Undecodable,
    BadEventTime,
    Tombstone,
}

/// Some good records, then more and more bad ones of both kinds.
fn kinds() -> Vec<Kind> {
    let kind = |number: usize| match number {
        _ if number % 11 == 5 => Kind::Tombstone,
        40.. if number % 7 == 2 => Kind::BadEventTime,
        40..80 if number % 3 == 1 => Kind::Undecodable,
        80.. if !number.is_multiple_of(3) => Kind::Undecodable,
        _ => Kind::Good,
    };
    (0..140).map(kind).collect()
}

/// The offset at which more than `bad_max` of the last `window` records are bad, counted by hand; tombstones are neither.
fn trips_at(kinds: &[Kind], window: usize, bad_max: usize) -> Option<usize> {
    (0..kinds.len()).find(|last| {
        let counted = kinds[..=*last].iter().rev().filter(|kind| **kind != Kind::Tombstone).take(window);
        counted.filter(|kind| **kind != Kind::Good).count() > bad_max
    })
}

fn send_all(cluster: &Cluster, kinds: &[Kind]) {
    for (id, kind) in kinds.iter().enumerate() {
        let value = match kind {
            Kind::Good => Some(format!(r#"{{"id": {id}, "at": "2013-01-01T00:00:00"}}"#)),
            Kind::Undecodable => Some(format!(r#"{{"id": "{id}"}}"#)),
            Kind::BadEventTime => Some(format!(r#"{{"id": {id}, "at": "2033-01-01T00:00:00"}}"#)),
            Kind::Tombstone => None,
        };
        cluster.send(0, Sent { key: Some("k"), value: value.as_deref(), header: None });
    }
    cluster.flush();
}

fn source(cluster: &Cluster, options: &[(&str, &str)]) -> Arc<KafkaSource> {
    let mut definition = definition(&[], options);
    definition.watermark = Some(watermark(0, None));
    cluster.open(definition)
}

/// Reads the partition in slices of `step` offsets, as one epoch after another does.
async fn read_in_steps(source: &Arc<KafkaSource>, end: usize, step: usize) -> Result<()> {
    let mut before = Vec::new();
    for start in (0..end).step_by(step) {
        let offset = |at: usize| i64::try_from(at).unwrap();
        let (start, end) = (offset(start), offset(end.min(start + step)));
        let range = range(0, start, end);
        before = scan_after(source, &[range], 2, before).await?.bad_records;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn it_trips_at_the_same_record_however_the_partition_is_cut_into_epochs() {
    let (cluster, kinds) = (Cluster::with_partitions(1), kinds());
    send_all(&cluster, &kinds);
    let source = source(&cluster, &[("bad_records_window", "30"), ("bad_records_max", "0.6")]);
    let expected = trips_at(&kinds, 30, 18).unwrap();
    assert!((80..130).contains(&expected), "{expected}");
    for step in [1, 7, 40, 100, 140] {
        let error = read_in_steps(&source, kinds.len(), step).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Data);
        let Error::TooManyBad(found) = error else { panic!("{error}") };
        assert_eq!((found.partition, found.bad, found.window), (0, 19, 30));
        assert_eq!(usize::try_from(found.last), Ok(expected), "in steps of {step}");
    }
    // What comes before it is no trouble.
    read_in_steps(&source, expected, 13).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn its_message_says_where_and_why_and_what_to_do() {
    let cluster = Cluster::with_partitions(1);
    send_all(&cluster, &[[Kind::Good; 10], [Kind::Undecodable; 10]].concat());
    let source = source(&cluster, &[("bad_records_window", "8"), ("bad_records_max", "50%")]);
    let text = read_in_steps(&source, 20, 20).await.unwrap_err().to_string();
    let words = "too many bad records in partition 0 of topic `flights` (source `flights`): 5 of the last 8 up to offset \
                 14, more than 50 %; from offset 10 on most are `wrong_type`";
    assert!(text.starts_with(words), "{text}");
    assert!(text.contains("raise `bad_records_max`"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_of_bad_records_alone_is_refused_early_and_can_be_accepted() {
    let cluster = Cluster::with_partitions(1);
    let record = |id: usize| if id == 0 { Kind::Good } else { Kind::Undecodable };
    send_all(&cluster, &(0..6_000).map(record).collect::<Vec<_>>());
    let usual = read_in_steps(&source(&cluster, &[]), 6_000, 6_000).await.unwrap_err();
    let Error::TooManyBad(usual) = usual else { panic!("{usual}") };
    assert_eq!((usual.last, usual.bad, usual.window), (5_001, 5_001, 10_000));
    read_in_steps(&source(&cluster, &[("bad_records_max", "1")]), 6_000, 6_000).await.unwrap();
}

#[test]
fn its_options_are_checked() {
    for (key, value) in [("bad_records_max", "1.5"), ("bad_records_max", "-1"), ("bad_records_window", "0")] {
        let mut definition = definition(&[], &[("bootstrap_servers", "localhost:1"), (key, value)]);
        let diagnostics = open(&mut definition).unwrap_err();
        assert!(diagnostics[0].message.contains(&format!("option `{key}` cannot be `{value}`")), "{diagnostics:?}");
    }
    let mut long = definition(&[], &[("bootstrap_servers", "localhost:1"), ("bad_records_window", "1000001")]);
    assert!(open(&mut long).unwrap_err()[0].message.contains("too long"));
}
