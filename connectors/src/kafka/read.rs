//! Reading ranges of offsets: poll, decode in place, judge, count, give on. Runs on a thread that may block.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, RecordBatch};
use bessemer_schemas::{OffsetRange, RejectReason, SourceLedger};
use datafusion_physical_plan::metrics::Count;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tokio_util::sync::CancellationToken;

use super::breaker::Breaker;
use super::client::{Consumer, failed, patience};
use super::consumers::{Lane, Taken};
use super::discover::GO_ON;
use super::options::OnDataLoss;
use super::parts::{Parts, Rejects, TakenParts};
use super::payload::PayloadDecoder;
use super::queue::{Polled, Record};
use super::rows::{Rows, row_number};
use super::scan::ScanContext;
use crate::formats::text::{DecodeLimits, RecordFault};
use crate::scan::{LateFloor, Refusal, ScanReport, is_dropped};
use crate::{Error, Result};

/// How long one poll waits before it looks whether anybody still wants its rows.
const POLL: Duration = Duration::from_millis(50);
/// Rejects that are held before they are reported.
const REJECTS_HELD: usize = 1_024;
/// Bytes of keys and headers that a batch holds, about: the format's limit does not count them.
const PARTS_BYTES: usize = 16 << 20;
/// Records between two tellings of progress.
const PROGRESS_RECORDS: u64 = 8_192;

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
    /// Reads the ranges of one plan partition, in order.
    pub(super) fn run(self, mut ranges: Range<usize>) -> Result<()> {
        let context = &self.context;
        let consumers = context.source.consumers();
        let mut begun = None;
        while ranges.start < ranges.end {
            let next = begun.as_ref().map(RangeSink::next);
            let left = &context.ranges[ranges.clone()];
            let partitions = context.ranges.len().max(context.source.partitions().load(Ordering::Relaxed));
            let taken = consumers.take(context.source.options(), left, ranges.start, next, partitions)?;
            let mut client = Client { context, taken };
            match client.read_ranges(&self, &mut ranges, &mut begun) {
                Ok(Ended::Read) => consumers.give_back(client.taken, &context.ranges),
                ended => {
                    consumers.discard(&client.taken.consumer);
                    match ended? {
                        Ended::Read | Ended::Unwanted => return Ok(()),
                        // A consumer that was refused an offset reads no more of the partition: another one goes on.
                        Ended::Deleted => {
                            let Some(sink) = &mut begun else {
                                return Err(context.source.internal("no range was begun"));
                            };
                            let reading = Reading { context, consumer: &client.taken.consumer };
                            reading.skip_deleted(sink)?;
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

/// How reading a range ended.
enum Ended {
    Read,
    /// Nobody takes the rows any more.
    Unwanted,
    /// Where it should go on, there is no offset any more.
    Deleted,
}

/// A consumer whose lanes lead through the ranges of one plan partition.
struct Client<'a> {
    context: &'a ScanContext,
    taken: Taken,
}

impl Client<'_> {
    /// Reads ranges to their ends and takes them off `ranges`; `begun` is one that was not read to its end.
    fn read_ranges<'r>(
        &mut self,
        read: &'r RangeRead,
        ranges: &mut Range<usize>,
        begun: &mut Option<RangeSink<'r>>,
    ) -> Result<Ended> {
        while ranges.start < ranges.end {
            let sink = match begun {
                Some(sink) => sink,
                None => begun.insert(RangeSink::new(read, ranges.start)?),
            };
            let Some((_, lane)) = self.taken.lanes.range_mut(..=sink.at).next_back() else {
                return Err(self.context.source.internal("a range has no lane"));
            };
            let reading = Reading { context: self.context, consumer: &self.taken.consumer };
            match reading.read(sink, lane)? {
                Ended::Read => lane.next = sink.range.end,
                ended => return Ok(ended),
            }
            begun.take().map_or(Ok(()), RangeSink::done)?;
            ranges.start += 1;
        }
        Ok(Ended::Read)
    }
}

/// A client, where one of its lanes is read.
struct Reading<'a> {
    context: &'a ScanContext,
    consumer: &'a Consumer,
}

impl Reading<'_> {
    /// Reads one range to its end.
    ///
    /// Its end is certain by a record at or beyond it, or by the end of the partition, told by a broker. An end before
    /// that of the range is not the last word: whoever sealed the range was told of more.
    fn read(&self, sink: &mut RangeSink<'_>, lane: &mut Lane) -> Result<Ended> {
        let mut quiet_since = None;
        while sink.next < sink.range.end && lane.end < sink.range.end {
            match lane.queue.peek(POLL) {
                Some(Polled::Record(record)) if record.offset() >= sink.range.end => break,
                Some(Polled::Record(record)) => {
                    sink.take(record)?;
                    quiet_since = None;
                }
                Some(Polled::End(end)) => lane.end = end,
                Some(Polled::Refused(error)) if is_out_of_range(&error) => return Ok(Ended::Deleted),
                Some(Polled::Refused(error)) => return Err(self.refused(&sink.range, sink.next, &error)),
                None => {
                    if quiet_since.is_none() {
                        self.consumer.context().recovered();
                    }
                    self.serve()?;
                    sink.is_unwanted |= sink.read.gone.is_cancelled();
                    let since = quiet_since.get_or_insert_with(Instant::now);
                    if since.elapsed() > patience(self.context.source.options()) {
                        return Err(self.silent(&sink.range, sink.next));
                    }
                    continue;
                }
            }
            if sink.is_unwanted {
                return Ok(Ended::Unwanted);
            }
            lane.queue.advance();
        }
        Ok(Ended::Read)
    }

    /// Counts the offsets that are no longer there as lost; an error where that is not for them to be.
    fn skip_deleted(&self, sink: &mut RangeSink<'_>) -> Result<()> {
        let (range, options) = (&sink.range, self.context.source.options());
        let watermarks = self.consumer.fetch_watermarks(&range.topic, range.partition, patience(options));
        let (low, _) = watermarks.map_err(|error| self.failed("ask for the oldest offset", &error))?;
        let (next, last) = (sink.next, low.min(range.end) - 1);
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

/// Takes the records of one range.
struct RangeSink<'a> {
    read: &'a RangeRead,
    at: usize,
    range: OffsetRange,
    is_new: bool,
    /// The offset after the last one that is accounted for.
    next: i64,
    decoder: PayloadDecoder,
    parts: Parts,
    rejects: Rejects,
    /// Where the range is new: a record trips it once.
    breaker: Option<Breaker>,
    /// Lives as long as the range: where its rows begin to be late.
    floor: LateFloor,
    ledger: SourceLedger,
    is_unwanted: bool,
    told: u64,
}

impl<'a> RangeSink<'a> {
    fn new(read: &'a RangeRead, at: usize) -> Result<Self> {
        let (source, plan) = (&read.context.source, &read.context.plan);
        let Some(offsets) = read.context.ranges.get(at) else {
            return Err(source.internal("a range is not in the slice"));
        };
        let options = source.options();
        let floor = source
            .lateness()
            .map_or(LateFloor::at(None), |lateness| LateFloor::following(offsets.range.late_before, lateness.delay));
        let limits = DecodeLimits { batch_rows: read.batch_rows, ..options.limits };
        Ok(Self {
            read,
            at,
            range: offsets.range.clone(),
            is_new: offsets.is_new,
            next: offsets.range.start,
            decoder: PayloadDecoder::new(source, &plan.columns, limits, &read.gone)?,
            parts: Parts::new(plan.wanted),
            rejects: Rejects::new(),
            breaker: offsets.is_new.then(|| Breaker::new(&read.context, &offsets.range)),
            floor,
            ledger: SourceLedger::default(),
            is_unwanted: false,
            told: 0,
        })
    }

    /// The offset after the last one that is accounted for.
    fn next(&self) -> i64 {
        self.next
    }

    /// Accounts for the offsets before `low`: they are gone.
    fn lose(&mut self, low: i64) {
        let low = low.min(self.range.end);
        self.ledger.lost += u64::try_from(low - self.next).unwrap_or_default();
        self.next = self.next.max(low);
    }

    fn take(&mut self, record: Record<'_>) -> Result<()> {
        let offset = record.offset();
        if offset < self.next {
            return Err(self.read.context.source.internal("a record came twice"));
        }
        self.next = offset + 1;
        self.ledger.records += 1;
        let value = record.value();
        self.ledger.bytes += (record.key().map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len)) as u64;
        match value {
            // A delete, where the topic is a changelog; here it is no row.
            None => self.ledger.tombstones += 1,
            Some(value) => match self.decoder.push(row_number(&self.range, offset), value)? {
                Ok(()) => {
                    self.parts.push(record);
                    if let Some(columns) = self.decoder.take(self.parts.bytes() >= PARTS_BYTES)? {
                        self.emit(&columns)?;
                    }
                }
                Err(fault) => {
                    self.ledger.undecodable += 1;
                    self.reject(record, &fault)?;
                    self.count_undecodable(offset, fault.reason)?;
                }
            },
        }
        if self.ledger.records - self.told >= PROGRESS_RECORDS {
            self.tell();
        }
        Ok(())
    }

    /// Tells the breaker of a bad record, once it knows of the rows before.
    fn count_undecodable(&mut self, offset: i64, reason: RejectReason) -> Result<()> {
        let rows = self.parts.rows();
        let Some(breaker) = &mut self.breaker else { return Ok(()) };
        breaker.undecodable(rows, offset, reason)?;
        if breaker.is_waiting()
            && let Some(columns) = self.decoder.take(true)?
        {
            self.emit(&columns)?;
        }
        Ok(())
    }

    fn reports_rejects(&self) -> bool {
        self.is_new && self.read.context.reporter.reports_objects()
    }

    fn reject(&mut self, record: Record<'_>, fault: &RecordFault) -> Result<()> {
        if !self.reports_rejects() {
            return Ok(());
        }
        let schema_id = self.schema_id(record.value().unwrap_or_default());
        self.rejects.push(record, fault, schema_id);
        if self.rejects.rows() >= REJECTS_HELD || self.rejects.bytes() >= PARTS_BYTES {
            self.report_rejects()
        } else {
            Ok(())
        }
    }

    fn schema_id(&self, value: &[u8]) -> Option<u32> {
        self.read.context.source.options().format.schema_id(value)
    }

    fn report_rejects(&mut self) -> Result<()> {
        if let Some(batch) = self.rejects.take()? {
            self.report(batch);
        }
        Ok(())
    }

    fn report(&self, batch: RecordBatch) {
        let source = Arc::clone(self.read.context.source.shared_name());
        self.read.context.reporter.send_blocking(ScanReport::Rejects { source, object: self.object(), batch });
    }

    fn object(&self) -> u32 {
        u32::try_from(self.at).unwrap_or(u32::MAX)
    }

    /// Judges decoded rows and gives on those that pass.
    fn emit(&mut self, decoded: &[ArrayRef]) -> Result<()> {
        let parts = self.parts.take();
        let context = &self.read.context;
        let number = (context.number, self.at as u64);
        let rows = Rows { source: &context.source, plan: &context.plan, range: &self.range, number };
        let judged = rows.judge(decoded, &parts, &mut self.floor, &mut self.ledger)?;
        if let Some(breaker) = &mut self.breaker {
            breaker.rows(&parts.offsets, &judged.refused)?;
        }
        if self.reports_rejects() {
            self.report_refused(judged.refused, &parts)?;
        }
        if judged.output.num_rows() > 0 {
            self.is_unwanted = self.read.batches.blocking_send(judged.output).is_err();
        }
        Ok(())
    }

    /// Rows whose event time is bad or late, as their records came.
    fn report_refused(&self, mut refused: Vec<Refusal>, parts: &TakenParts) -> Result<()> {
        let lateness = self.read.context.source.lateness();
        refused.retain(|refusal| !is_dropped(lateness, refusal.reason));
        if refused.is_empty() {
            return Ok(());
        }
        let name = self.read.context.plan.admission.event_time.as_ref().map_or("", |(_, name)| name);
        self.report(parts.rejected(&refused, name, |value| self.schema_id(value))?);
        Ok(())
    }

    fn tell(&mut self) {
        let records = self.ledger.records - self.told;
        self.told = self.ledger.records;
        self.read.context.reporter.progress(records, records);
    }

    /// Ends the range: the last rows, what was counted.
    fn done(mut self) -> Result<()> {
        if let Some(columns) = self.decoder.take(true)? {
            self.emit(&columns)?;
        }
        self.report_rejects()?;
        self.tell();
        self.read.bytes_scanned.add(usize::try_from(self.ledger.bytes).unwrap_or(usize::MAX));
        if let Some(records) = self.breaker.take().and_then(|breaker| breaker.into_bad_records(&self.range)) {
            let source = Arc::clone(self.read.context.source.shared_name());
            self.read.context.reporter.send_blocking(ScanReport::BadRecords { source, records });
        }
        self.ledger.offsets = self.range.offsets();
        self.ledger.gaps = self.ledger.offsets - self.ledger.records - self.ledger.lost;
        let (source, reporter) = (&self.read.context.source, &self.read.context.reporter);
        let done = reporter.range_done(Arc::clone(source.shared_name()), self.object(), self.ledger);
        reporter.send_blocking(done);
        Ok(())
    }
}
