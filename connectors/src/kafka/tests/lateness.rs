//! Rows that the watermark has passed, in partitions of a topic.

use bessemer_schemas::OnLate;

use super::*;
use crate::Source;
use crate::scan::Lateness;

const SECOND: i64 = 1_000_000;

fn source(cluster: &Cluster, on_late: Option<OnLate>, options: &[(&str, &str)]) -> Arc<KafkaSource> {
    let mut definition = definition(&[], options);
    definition.watermark = Some(watermark(60 * SECOND, on_late));
    cluster.open(definition)
}

/// A record whose event time is so many seconds after New Year.
fn record(id: usize, seconds: i64) -> String {
    let (minutes, seconds) = (seconds / 60, seconds % 60);
    format!(r#"{{"id": {id}, "at": "2013-01-01T{:02}:{:02}:{seconds:02}"}}"#, minutes / 60, minutes % 60)
}

fn send(cluster: &Cluster, seconds: &[i64]) {
    let records: Vec<_> = seconds.iter().enumerate().map(|(id, at)| record(id, *at)).collect();
    cluster.send_values(0, records.iter().map(String::as_str));
}

/// The whole partition, of which rows before `late_before` seconds after New Year are late.
async fn range(source: &Arc<KafkaSource>, late_before: Option<i64>) -> OffsetRange {
    let mut ranges = backlog(source, Vec::new()).await.unwrap();
    let mut range = ranges.remove(0);
    range.late_before = late_before.map(|at| NEW_YEAR * 1_000 + at * SECOND);
    range
}

#[tokio::test(flavor = "multi_thread")]
async fn late_rows_are_left_out_and_set_aside_with_their_bytes() {
    let cluster = Cluster::with_partitions(1);
    let seconds = [100, 20, 200, 139, 140, 50, 100_000_000, 150];
    let mut records: Vec<_> = seconds.iter().enumerate().map(|(id, at)| record(id, *at)).collect();
    // A time that cannot be moves nothing.
    records[6] = r#"{"id": 6, "at": "2033-01-01T00:00:00"}"#.to_owned();
    cluster.send_values(0, records.iter().map(String::as_str));
    let quarantining = source(&cluster, Some(OnLate::Quarantine), &[]);
    let range = range(&quarantining, Some(30)).await;
    let scanned = scan(&quarantining, std::slice::from_ref(&range), 2).await.unwrap();
    assert_eq!(scanned.ids(), [0, 2, 4, 7]);
    assert_eq!(scanned.reasons(), ["1 late", "3 late", "5 late", "6 event_time_ahead"]);
    let rejects = concat_batches(&reject_schema(), &scanned.rejects).unwrap();
    assert_eq!(rejects.column_by_name("original").unwrap().as_binary::<i32>().value(1), record(3, 139).as_bytes());
    let ledger = scanned.ledger;
    assert_eq!((ledger.late, ledger.late_dropped, ledger.bad_event_time, ledger.admitted), (3, 0, 1, 4));
    assert_eq!(ledger.event_time_max, Some(NEW_YEAR * 1_000 + 200 * SECOND));

    let dropping = source(&cluster, Some(OnLate::Drop), &[]);
    let scanned = scan(&dropping, std::slice::from_ref(&range), 2).await.unwrap();
    assert_eq!((scanned.ids(), scanned.reasons()), (vec![0, 2, 4, 7], vec!["6 event_time_ahead".to_owned()]));
    assert_eq!((scanned.ledger.late, scanned.ledger.late_dropped), (3, 3));

    // Whoever reads the range again leaves out the same rows, and reports none of them.
    let again = ScanInput::Offsets(Arc::new([ScanOffsets { range: range.clone(), is_new: false }]));
    let scanned = scan_input(&quarantining, again, 1, Vec::new()).await.unwrap();
    assert_eq!((scanned.ids(), scanned.reasons()), (vec![0, 2, 4, 7], Vec::new()));

    let scanned = scan(&source(&cluster, None, &[]), &[range], 2).await.unwrap();
    assert_eq!((scanned.ledger.late, scanned.ids().len()), (0, 7));
}

#[tokio::test(flavor = "multi_thread")]
async fn newest_row_is_known_from_batch_to_batch_and_forgotten_with_its_range() {
    let cluster = Cluster::with_partitions(1);
    // Batches are of a hundred rows: the newest of each is in another one than those that it makes late.
    let seconds: Vec<i64> = (0..450).map(|row| if row % 110 == 0 { row * 2 } else { row }).collect();
    send(&cluster, &seconds);
    let source = source(&cluster, Some(OnLate::Drop), &[]);
    let whole = range(&source, None).await;
    let expected = |rows: std::ops::Range<usize>| {
        let mut newest = i64::MIN;
        let mut ids = Vec::new();
        for row in rows {
            if seconds[row] >= newest.saturating_sub(60) {
                newest = newest.max(seconds[row]);
                ids.push(i64::try_from(row).unwrap());
            }
        }
        ids
    };
    let scanned = scan(&source, std::slice::from_ref(&whole), 1).await.unwrap();
    assert_eq!(scanned.ids(), expected(0..450));
    assert!(scanned.ledger.late > 100, "{}", scanned.ledger.late);
    let halves = [OffsetRange { end: 240, ..whole.clone() }, OffsetRange { start: 240, ..whole }];
    let scanned = scan(&source, &halves, 2).await.unwrap();
    assert_eq!(scanned.ids(), [expected(0..240), expected(240..450)].concat());
}

#[tokio::test(flavor = "multi_thread")]
async fn late_records_are_no_bad_ones() {
    let cluster = Cluster::with_partitions(1);
    let seconds: Vec<i64> = (0..100).map(|row| if row == 0 { 1_000 } else { 1 }).collect();
    send(&cluster, &seconds);
    let source = source(&cluster, Some(OnLate::Quarantine), &[("bad_records_window", "8"), ("bad_records_max", "0.5")]);
    let scanned = scan(&source, &[range(&source, None).await], 1).await.unwrap();
    assert_eq!((scanned.ledger.late, scanned.bad_records), (99, Vec::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn decoding_is_another_one_only_where_rows_can_be_late() {
    let cluster = Cluster::with_partitions(1);
    let none = Source::Kafka(source(&cluster, None, &[]));
    let dropping = Source::Kafka(source(&cluster, Some(OnLate::Drop), &[]));
    assert_eq!(none.lateness(), None);
    assert_eq!(dropping.lateness(), Some(Lateness { delay: 60 * SECOND, on_late: OnLate::Drop }));
    let text = none.decoding_text();
    assert!(!text.contains("late"), "{text}");
    assert_eq!(dropping.decoding_text(), format!("{text}; drop where `at` is late by 60000000 us"));
}

#[test]
fn what_is_said_of_partitions_needs_a_watermark_that_decides() {
    let problems = |key, value, on_late| {
        let mut definition = definition(&[], &[("bootstrap_servers", "x:1"), (key, value)]);
        definition.watermark = Some(watermark(60 * SECOND, on_late));
        let problems = open(&mut definition).err().unwrap_or_default();
        problems.into_iter().map(|problem| problem.help.unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(problems("idle_timeout", "30 seconds", Some(OnLate::Drop)), [""; 0]);
    let add = ["add `ON LATE QUARANTINE` to the watermark on line 0"];
    assert_eq!(problems("idle_timeout", "30 seconds", None), add);
    assert_eq!(problems("max_skew", "1 hour", Some(OnLate::Drop)), [""; 0]);
    assert_eq!(problems("max_skew", "1 hour", None), add);
    assert_eq!(problems("idle_timeout", "0s", Some(OnLate::Drop)), ["write for example `idle_timeout = '30 seconds'`"]);
}

/// A partition with as many offsets.
fn unread(partition: i32, offsets: i64) -> OffsetRange {
    super::range(partition, 0, offsets)
}

#[test]
fn partitions_that_wait_leave_the_others_no_more_than_their_share() {
    let found = vec![unread(0, 1_000), unread(1, 1_000), unread(2, 10), unread(3, 0)];
    let mut backlog = Backlog::new(found, &[]);
    let mut taken = |waits: fn(&OffsetRange) -> bool| {
        let slice = backlog.next_slice_without(&mut SliceLimits { rows: 100, ..SliceLimits::default() }, waits);
        slice.iter().map(|range| (range.partition, range.start, range.end)).collect::<Vec<_>>()
    };
    assert_eq!(taken(|range| range.partition == 0), [(1, 0, 45), (2, 0, 10), (3, 0, 0)]);
    assert_eq!(taken(|range| range.partition == 0), [(1, 45, 95)]);
    assert_eq!(taken(|_| false), [(0, 0, 50), (1, 95, 145)]);
    // However little a slice may hold, those that do not wait go on.
    let slice = backlog
        .next_slice_without(&mut SliceLimits { rows: 1, ..SliceLimits::default() }, |range| range.partition == 1);
    assert_eq!(slice, [OffsetRange { start: 50, end: 51, ..unread(0, 0) }]);
    assert_eq!(
        backlog.rest(),
        [OffsetRange { start: 51, ..unread(0, 1_000) }, OffsetRange { start: 145, ..unread(1, 1_000) }]
    );
    assert!(backlog.rest().is_empty());
}

#[test]
fn what_is_taken_at_once_has_no_limit() {
    let mut backlog = Backlog::new(vec![unread(0, 9_000_000_000)], &[]);
    assert_eq!(backlog.rest(), [unread(0, 9_000_000_000)]);
}
