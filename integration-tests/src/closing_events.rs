//! Events that come in no order, some of them late, and feature sets that emit rows of them once they are final.

use std::fs;

use anyhow::Result;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use crate::{KafkaCluster, Pipeline};

/// 2013-01-01, in seconds since 1970.
pub const FIRST_MOMENT: i64 = 1_356_998_400;

/// Key, time in seconds after the first moment, value.
pub type Event = (i64, i64, i64);

/// Sets of all kinds over a source `events` of the columns `k`, `at` and `value`: windows, and what keeps rows.
pub const CLOSING_SETS: &str = "
     CREATE FEATURE SET minutes
     (CONSTRAINT busy EXPECT (n > 1) ON VIOLATION QUARANTINE)
     ENTITY (k) EVENT TIME (window_end) EMIT ON WINDOW CLOSE
     WITH (path = 'features/minutes', partition_by = 'hour(window_start)')
     AS SELECT k, window_start, window_end, count(*) AS n, sum(value) AS total, count(DISTINCT value) AS several
        FROM TUMBLE(events, at, INTERVAL '1 minute') GROUP BY k, window_start, window_end;
     CREATE FEATURE SET most EMIT ON WINDOW CLOSE WITH (path = 'features/most')
     AS SELECT window_end, k, n FROM (
            SELECT window_end, k, n, row_number() OVER (PARTITION BY window_end ORDER BY n DESC, k) AS place FROM (
                SELECT k, window_end, count(*) AS n FROM HOP(events, at, INTERVAL '30 seconds', INTERVAL '1 minute')
                GROUP BY k, window_end
            ) counts
        ) places WHERE place = 1;
     CREATE FEATURE SET recent ENTITY (k) EVENT TIME (at) EMIT ON WINDOW CLOSE
     WITH (path = 'features/recent', partition_by = 'hour(at)')
     AS SELECT k, at, value, sum(value) OVER recently AS total, lag(value) OVER (PARTITION BY k ORDER BY at, value) AS before
        FROM events
        WINDOW recently AS (PARTITION BY k ORDER BY at RANGE BETWEEN INTERVAL '20 seconds' PRECEDING AND CURRENT ROW);
     CREATE FEATURE SET visits EMIT ON WINDOW CLOSE WITH (path = 'features/visits')
     AS SELECT k, window_start, window_end, count(*) AS n FROM SESSION(events PARTITION BY k, at, INTERVAL '4 seconds')
        GROUP BY k, window_start, window_end;
     CREATE FEATURE SET pairs EMIT ON WINDOW CLOSE WITH (path = 'features/pairs')
     AS SELECT a.k, a.at, a.value, b.value AS other FROM events a LEFT JOIN events b
        ON a.k = b.k AND a.value < b.value AND b.at BETWEEN a.at - INTERVAL '3 seconds' AND a.at + INTERVAL '2 seconds';";

/// An event as a record of JSON.
pub fn record((k, at, value): Event) -> String {
    let moment = FIRST_MOMENT + at;
    let (hour, minute, second) = (moment / 3_600 % 24, moment / 60 % 60, moment % 60);
    format!("{{\"k\": {k}, \"at\": \"2013-01-01T{hour:02}:{minute:02}:{second:02}\", \"value\": {value}}}\n")
}

/// Rounds of files: each is of a stretch of time, in no order, and holds some events of long ago.
pub fn rounds(seed: u64) -> Vec<Vec<Vec<Event>>> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut round = |at: i64| -> Vec<Vec<Event>> {
        let mut events: Vec<Event> = (0..300)
            .map(|_| {
                let late = if random.random_bool(0.05) { random.random_range(0..500) } else { 0 };
                let at = (at * 200 + random.random_range(0..240) - late).max(0);
                (random.random_range(0..4), at, random.random_range(0..9))
            })
            .collect();
        events.shuffle(&mut random);
        events.chunks(60).map(<[Event]>::to_vec).collect()
    };
    (0..5).map(&mut round).collect()
}

/// Writes the files of a round into the folder `in` of a pipeline.
pub fn deliver(pipeline: &Pipeline, round: usize, files: &[Vec<Event>]) -> Result<()> {
    for (number, file) in files.iter().enumerate() {
        let records: String = file.iter().copied().map(record).collect();
        fs::write(pipeline.folder().join(format!("in/{}-{round}.json", (number * 7 + round * 3) % 10)), records)?;
    }
    Ok(())
}

/// So many events of each partition of a topic, in the order of their times but for those that come late.
pub fn of_partitions(seed: u64, partitions: usize, events: usize) -> Vec<Vec<Event>> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut partition = |_| -> Vec<Event> {
        let mut at = 0;
        let mut event = |_| {
            at += random.random_range(0..3);
            let late = if random.random_bool(0.2) { random.random_range(0..80) } else { 0 };
            (random.random_range(0..4), (at - late).max(0), random.random_range(0..9))
        };
        (0..events).map(&mut event).collect()
    };
    (0..partitions).map(&mut partition).collect()
}

/// The source of the topic `events` of a cluster.
pub fn over_topic(cluster: &KafkaCluster) -> String {
    format!(
        "CREATE SOURCE events (k BIGINT NOT NULL, at TIMESTAMP NOT NULL, value BIGINT,
             WATERMARK FOR at AS at - INTERVAL '30 seconds' ON LATE QUARANTINE)
         WITH (connector = 'kafka', bootstrap_servers = '{}', topic = 'events', format = 'json');",
        cluster.bootstrap_servers()
    )
}
