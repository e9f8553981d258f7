//! Reading ranges of offsets: poll them, and give on their rows in the order of the ranges. Runs on a thread that may
//! block.
//!
//! What a client has fetched of a partition is used up faster than more of it comes. Then records of the ranges behind it
//! are taken, which were fetched meanwhile, and their rows are held until it is their turn: as Arrow small ones take an
//! eighth of what they take in the client.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use bessemer_schemas::OffsetRange;
use datafusion_physical_plan::metrics::Count;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tokio_util::sync::CancellationToken;

use super::client::{Consumer, failed, patience};
use super::consumers::{Lane, Taken};
use super::discover::GO_ON;
use super::options::OnDataLoss;
use super::queue::{BATCH, Polled};
use super::scan::ScanContext;
use super::sink::RangeSink;
use crate::{Error, Result};

/// How long one poll waits before it looks whether anybody still wants its rows.
const POLL: Duration = Duration::from_millis(50);
/// Others are read once nothing has come of the range whose turn it is for this long; then it is asked again as often.
const MOMENT: Duration = Duration::from_millis(2);
/// Bytes of what is held of the ranges after it: at most, and times their number.
const HELD_BYTES: usize = 16 << 20;
const HELD_RANGE_BYTES: usize = 2 << 20;
/// How many of them are read at a time: each has a decoder with a batch in it.
const RANGES_AHEAD: usize = 8;
/// Bytes of records that are taken of a range before it is looked whether another one is to be read.
const TURN_BYTES: u64 = 1 << 20;

/// Reads runs of ranges into a channel.
pub(super) struct RangeRead {
    pub(super) context: Arc<ScanContext>,
    pub(super) batch_rows: usize,
    pub(super) batches: tokio::sync::mpsc::Sender<RecordBatch>,
    /// Cancelled when nobody takes batches any more.
    pub(super) gone: CancellationToken,
    pub(super) bytes_scanned: Count,
}

impl RangeRead {
    /// Reads the ranges of one plan partition, and gives their rows on in order.
    pub(super) fn run(self, mut ranges: Range<usize>) -> Result<()> {
        let context = &self.context;
        let consumers = context.source.consumers();
        let mut begun: BTreeMap<usize, Begun<'_>> = BTreeMap::new();
        while ranges.start < ranges.end {
            let left = &context.ranges[ranges.clone()];
            let next = |(at, begun): (&usize, &Begun<'_>)| (*at, begun.next().unwrap_or(context.ranges[*at].range.end));
            let next = begun.iter().map(next).collect();
            let partitions = context.ranges.len().max(context.source.partitions().load(Ordering::Relaxed));
            let taken = consumers.take(context.source.options(), left, ranges.start, &next, partitions)?;
            let mut client = Client { read: &self, taken };
            match client.read_ranges(&mut ranges, &mut begun) {
                Ok(Ended::Read) => consumers.give_back(client.taken, &context.ranges),
                ended => {
                    consumers.discard(&client.taken.consumer);
                    match ended? {
                        Ended::Read | Ended::Unwanted => return Ok(()),
                        // A consumer that was refused an offset reads no more of the partition: another one goes on.
                        Ended::Deleted => {
                            let Some(sink) = begun.get_mut(&ranges.start).and_then(|begun| begun.sink.as_mut()) else {
                                return Err(context.source.internal("no range was begun"));
                            };
                            let reader = LaneReader { context, consumer: &client.taken.consumer };
                            reader.skip_deleted(sink)?;
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

/// How reading ranges ended.
enum Ended {
    Read,
    /// Nobody takes the rows any more.
    Unwanted,
    /// Where the first of them should go on, there is no offset any more.
    Deleted,
}

/// What came of a range.
enum Came {
    /// The last of it.
    End,
    Some,
    /// There may be more later.
    Nothing,
    /// There is no offset any more where it should go on.
    Deleted,
}

/// A consumer whose lanes lead through the ranges of one plan partition.
struct Client<'a> {
    read: &'a RangeRead,
    taken: Taken,
}

/// A range that was begun.
struct Begun<'a> {
    /// `None` where it was read to its end.
    sink: Option<Box<RangeSink<'a>>>,
    /// Its rows then, and the bytes that they take.
    rows: Vec<RecordBatch>,
    bytes: usize,
    /// Why it cannot be read on: told when it is its turn, so that what is told does not depend on what comes first.
    error: Option<Error>,
}

impl<'a> Begun<'a> {
    fn new(read: &'a RangeRead, at: usize) -> Result<Self> {
        let sink = Some(Box::new(RangeSink::new(read, at)?));
        Ok(Self { sink, rows: Vec::new(), bytes: 0, error: None })
    }

    /// Ends the range, of which all was read.
    fn finish(&mut self) -> Result<()> {
        if let Some(sink) = &mut self.sink {
            sink.finish()?;
            (self.bytes, self.rows) = (sink.held_bytes(), sink.take_rows());
            self.sink = None;
        }
        Ok(())
    }

    /// Takes off the rows that are held.
    fn take_rows(&mut self) -> Vec<RecordBatch> {
        self.sink.as_mut().map_or_else(|| std::mem::take(&mut self.rows), |sink| sink.take_rows())
    }

    /// The offset at which it goes on; `None` where it was read to its end.
    fn next(&self) -> Option<i64> {
        self.sink.as_ref().map(|sink| sink.next())
    }

    /// Bytes of what is held, about.
    fn held_bytes(&self) -> usize {
        self.sink.as_ref().map_or(self.bytes, |sink| sink.held_bytes())
    }

    /// Whether there is no more of it to read, or it cannot be read.
    fn is_over(&self) -> bool {
        self.sink.is_none() || self.error.is_some()
    }
}

impl<'a> Client<'a> {
    /// Reads ranges to their ends and takes them off `ranges`.
    fn read_ranges(&mut self, ranges: &mut Range<usize>, begun: &mut BTreeMap<usize, Begun<'a>>) -> Result<Ended> {
        while ranges.start < ranges.end {
            match self.read_first(ranges.clone(), begun)? {
                Ended::Read => {}
                ended => return Ok(ended),
            }
            begun.remove(&ranges.start);
            ranges.start += 1;
        }
        Ok(Ended::Read)
    }

    /// Reads the first of the ranges to its end.
    fn read_first(&mut self, ranges: Range<usize>, begun: &mut BTreeMap<usize, Begun<'a>>) -> Result<Ended> {
        let (mut wait, mut quiet_since) = (Duration::ZERO, None);
        loop {
            let came = self.take(ranges.start, begun, wait);
            let rows = begun.get_mut(&ranges.start).map(Begun::take_rows);
            for batch in rows.into_iter().flatten() {
                if self.read.batches.blocking_send(batch).is_err() {
                    return Ok(Ended::Unwanted);
                }
            }
            match came? {
                Came::End => return Ok(Ended::Read),
                Came::Some => (wait, quiet_since) = (Duration::ZERO, None),
                Came::Deleted => return Ok(Ended::Deleted),
                Came::Nothing => {
                    if self.read.gone.is_cancelled() {
                        return Ok(Ended::Unwanted);
                    }
                    let is_starved = quiet_since.is_some();
                    let next = begun.get(&ranges.start).and_then(Begun::next).unwrap_or_default();
                    self.stay_quiet(&mut quiet_since, ranges.start, next)?;
                    wait = if is_starved { self.read_ahead(ranges.start + 1..ranges.end, begun)? } else { MOMENT };
                }
            }
        }
    }

    /// Takes some of what has come of one of the ranges after the first. Gives how long to wait for the first now.
    fn read_ahead(&mut self, ranges: Range<usize>, begun: &mut BTreeMap<usize, Begun<'a>>) -> Result<Duration> {
        let held: usize = begun.range(ranges.clone()).map(|(_, begun)| begun.held_bytes()).sum();
        if held >= HELD_BYTES.min(HELD_RANGE_BYTES * ranges.len()) {
            return Ok(POLL);
        }
        let mut open = 0;
        for at in ranges {
            // A lane that leads through several ranges is not in a later one before it was through the others.
            let range = &self.read.context.ranges[at].range;
            let lane = self.taken.lanes.range(..=at).next_back();
            if begun.get(&at).is_some_and(Begun::is_over) || !lane.is_some_and(|(_, lane)| lane.is_in(range)) {
                continue;
            }
            match self.take(at, begun, Duration::ZERO) {
                Ok(Came::Some | Came::End) => return Ok(Duration::ZERO),
                // When it is its turn, it is found out again.
                Ok(Came::Nothing | Came::Deleted) => open += 1,
                Err(error) => match begun.get_mut(&at) {
                    Some(begun) => begun.error = Some(error),
                    None => return Err(error),
                },
            }
            if open == RANGES_AHEAD {
                break;
            }
        }
        Ok(if open == 0 { POLL } else { MOMENT })
    }

    /// Takes some of what has come of a range; waits for the first of it.
    fn take(&mut self, at: usize, begun: &mut BTreeMap<usize, Begun<'a>>, wait: Duration) -> Result<Came> {
        let begun = match begun.entry(at) {
            Entry::Occupied(begun) => begun.into_mut(),
            Entry::Vacant(place) => place.insert(Begun::new(self.read, at)?),
        };
        if let Some(error) = begun.error.take() {
            return Err(error);
        }
        let Some(sink) = &mut begun.sink else { return Ok(Came::End) };
        let Taken { consumer, lanes } = &mut self.taken;
        let reader = LaneReader { context: &self.read.context, consumer };
        let came = match lanes.range_mut(..=at).next_back() {
            // Such a range needs no lane, and has none where what was left of it is lost.
            _ if sink.next() == sink.range.end => Came::End,
            // A run of ranges has its lane at the first of them.
            Some((_, lane)) => {
                let came = reader.read(sink, lane, wait)?;
                if matches!(came, Came::End) {
                    lane.next = sink.range.end;
                }
                came
            }
            None => return Err(self.read.context.source.internal("a range has no lane")),
        };
        if matches!(came, Came::End) {
            begun.finish()?;
        }
        Ok(came)
    }

    /// Nothing came of the range `at`, whose turn it is. An error where that has been so for too long.
    fn stay_quiet(&self, since: &mut Option<Instant>, at: usize, next: i64) -> Result<()> {
        let reader = LaneReader { context: &self.read.context, consumer: &self.taken.consumer };
        if since.is_none() {
            reader.consumer.context().recovered();
        }
        reader.serve()?;
        if since.get_or_insert_with(Instant::now).elapsed() > patience(self.read.context.source.options()) {
            return Err(reader.silent(&self.read.context.ranges[at].range, next));
        }
        Ok(())
    }
}

/// A client, where one of its lanes is read.
struct LaneReader<'a> {
    context: &'a ScanContext,
    consumer: &'a Consumer,
}

impl LaneReader<'_> {
    /// Takes some of what has come of a range, no more than about a batch; waits for the first of it.
    ///
    /// Its end is certain by a record at or beyond it, or by the end of the partition, told by a broker. An end before
    /// that of the range is not the last word: whoever sealed the range was told of more.
    fn read(&self, sink: &mut RangeSink<'_>, lane: &mut Lane, mut wait: Duration) -> Result<Came> {
        let (mut records, before) = (0, sink.progress());
        while sink.next() < sink.range.end && lane.end < sink.range.end {
            let (batches, bytes) = sink.progress();
            if records == BATCH || batches > before.0 || bytes >= before.1 + TURN_BYTES {
                return Ok(Came::Some);
            }
            match lane.queue.peek(wait) {
                Some(Polled::Record(record)) if record.offset() >= sink.range.end => break,
                Some(Polled::Record(record)) => {
                    sink.take(record)?;
                    records += 1;
                }
                Some(Polled::End(end)) => lane.end = end,
                Some(Polled::Refused(error)) if is_out_of_range(&error) => return Ok(Came::Deleted),
                Some(Polled::Refused(error)) => return Err(self.refused(&sink.range, sink.next(), &error)),
                None => return Ok(if records > 0 { Came::Some } else { Came::Nothing }),
            }
            lane.queue.advance();
            wait = Duration::ZERO;
        }
        Ok(Came::End)
    }

    /// Counts the offsets that are no longer there as lost; an error where that is not for them to be.
    fn skip_deleted(&self, sink: &mut RangeSink<'_>) -> Result<()> {
        let (range, options) = (&sink.range, self.context.source.options());
        let watermarks = self.consumer.fetch_watermarks(&range.topic, range.partition, patience(options));
        let (low, _) = watermarks.map_err(|error| self.failed("ask for the oldest offset", &error))?;
        let (next, last) = (sink.next(), low.min(range.end) - 1);
        let (reason, help) = if low <= next {
            (format!("offset {next} is not there"), "the log was cut off: start a new pipeline")
        } else if !sink.is_new {
            let reason =
                format!("offsets {next} to {last} were deleted after they were read, and are needed once more");
            (reason, "a feature set over all records needs a topic that keeps them: start a new pipeline")
        } else if options.on_data_loss == OnDataLoss::Fail {
            (format!("offsets {next} to {last} were deleted before they were read"), GO_ON)
        } else {
            tracing::warn!(
                topic = range.topic,
                partition = range.partition,
                from = next,
                to = last,
                "records were lost"
            );
            sink.lose(low);
            return Ok(());
        };
        let (topic, partition) = (range.topic.clone(), range.partition);
        Err(Error::OffsetsLost { name: self.context.source.name().to_owned(), topic, partition, reason, help })
    }

    /// Takes what the client says outside of partitions.
    fn serve(&self) -> Result<()> {
        match self.consumer.poll(Duration::ZERO) {
            None => Ok(()),
            // It goes on by itself; what stays wrong is told when nothing comes.
            Some(Err(error)) => {
                tracing::debug!(%error, "kafka client");
                Ok(())
            }
            Some(Ok(_)) => Err(self.context.source.internal("a record came outside of its partition's queue")),
        }
    }

    fn failed(&self, action: &str, error: &KafkaError) -> Error {
        failed(self.context.source.options(), action, Some(self.consumer.context()), error)
    }

    fn refused(&self, range: &OffsetRange, next: i64, error: &KafkaError) -> Error {
        let place = format!("read partition {} of `{}` at offset {next}", range.partition, range.topic);
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => Error::TopicMissing {
                topic: range.topic.clone(),
                brokers: self.context.source.options().bootstrap_servers().to_owned(),
            },
            _ => self.failed(&place, error),
        }
    }

    fn silent(&self, range: &OffsetRange, next: i64) -> Error {
        let seconds = patience(self.context.source.options()).as_secs();
        let action = format!("read partition {} of `{}` at offset {next}", range.partition, range.topic);
        match self.failed(&action, &KafkaError::MessageConsumption(RDKafkaErrorCode::OperationTimedOut)) {
            Error::Broker { brokers, action, reason } => {
                Error::Broker { brokers, action, reason: format!("nothing came for {seconds} s: {reason}") }
            }
            error => error,
        }
    }
}

/// Whether the brokers have no such offset.
fn is_out_of_range(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{AutoOffsetReset, OffsetOutOfRange};
    matches!(error.rdkafka_error_code(), Some(OffsetOutOfRange | AutoOffsetReset))
}
