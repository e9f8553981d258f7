//! The decoder of one source's objects: frames, reads, collects rows into batches and rejects into a table.

use arrow::array::{ArrayRef, RecordBatch};
use arrow_schema::SchemaRef;
use bessemer_schemas::RejectReason;
use memchr::memchr;

use super::column::ColumnMaker;
use super::csv::CsvRecords;
use super::event_time::{EventTime, EventTimeBounds};
use super::fault::{Fault, FileFault};
use super::frame::{Frame, Framer, RecordReader, Unframed};
use super::json::JsonRecords;
use super::options::{CHANGE_COLUMNS, DecodeLimits, TextFormat};
use super::record_numbers::RecordNumbers;
use super::reject::{Place, Rejects};
use super::rows::{Rows, RowsOptions};
use crate::Result;

/// What a decoder is made from.
#[derive(Debug, Clone)]
pub struct TextDecoderOptions {
    /// The declared columns that are read (generated ones are not), with their nullability.
    pub schema: SchemaRef,
    /// Indices of the columns to build, in the order of the batches; all of them if `None`.
    pub projection: Option<Vec<usize>>,
    /// The format.
    pub format: TextFormat,
    /// For each column what a missing field means, as an array of one value of the column's type; may be empty.
    pub defaults: Vec<Option<ArrayRef>>,
    /// Bounds.
    pub limits: DecodeLimits,
}

/// Decodes objects one after another. Feed an object in chunks (a MiB or so each: what a chunk holds is decoded at
/// once), take the batches after each, end with [`TextDecoder::finish_object`] and take the last ones.
///
/// ```
/// use std::sync::Arc;
/// use arrow_schema::{DataType, Field, Schema};
/// use bessemer_connectors::formats::text::{JsonOptions, TextDecoder, TextDecoderOptions, TextFormat};
///
/// let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false)]));
/// let mut decoder = TextDecoder::new(TextDecoderOptions {
///     schema,
///     projection: None,
///     format: TextFormat::Json(JsonOptions::default()),
///     defaults: Vec::new(),
///     limits: Default::default(),
/// })?;
/// decoder.feed(b"{\"id\": 1}\n{\"id\": 1.5}\n{\"i")?;
/// decoder.feed(b"d\": 3}")?;
/// let counts = decoder.finish_object()?;
/// assert_eq!((counts.records, counts.rejected), (3, 1));
///
/// let decoded = decoder.next_batch().ok_or("a batch")?;
/// assert_eq!(decoded.numbers.iter().collect::<Vec<_>>(), [0, 2]);
/// let rejects = decoder.take_rejects()?.ok_or("a reject")?;
/// assert_eq!(rejects.num_rows(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct TextDecoder {
    framer: Framer,
    reader: Reader,
    head: Head,
    bytes: u64,
}

/// Rows of one object.
#[derive(Debug, Clone)]
pub struct Decoded {
    /// The projected columns; at most `batch_rows` rows, of some 16 MiB of text.
    pub batch: RecordBatch,
    /// Which records they were.
    pub numbers: RecordNumbers,
}

/// Why a record is no row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordFault {
    /// The reason.
    pub reason: RejectReason,
    /// The column at fault, `outer.inner` for nested ones.
    pub column: Option<String>,
}

/// What one object held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ObjectCounts {
    /// Records: rows and rejects. Blank lines, comments and the header are none.
    pub records: u64,
    /// Of these, rejected.
    pub rejected: u64,
    /// Of these, rejected for their event time alone ([`TextDecoder::judge_event_times`]).
    pub bad_event_times: u64,
    /// Of these, rejected as late.
    pub late: u64,
    /// The newest event time of the others, where event times are judged; microseconds since 1970, UTC.
    pub event_time_max: Option<i64>,
    /// Decompressed bytes.
    pub bytes: u64,
}

/// The first bytes of an object, kept back until it is clear whether they are a byte order mark.
#[derive(Debug)]
enum Head {
    Undecided(Vec<u8>),
    Past,
}

const UTF8_MARK: &[u8] = b"\xef\xbb\xbf";

impl TextDecoder {
    /// Makes a decoder; fails where a column's type cannot be read from the format, or an index is out of range.
    pub fn new(options: TextDecoderOptions) -> Result<Self> {
        let framer = Framer::new(options.limits.max_record_bytes);
        let reader = Reader::new(options)?;
        Ok(Self { framer, reader, head: Head::Undecided(Vec::new()), bytes: 0 })
    }

    /// Rejects records whose event time is null or out of `bounds`. `column` is the declared column that holds it, which
    /// must be built.
    pub fn judge_event_times(&mut self, column: usize, bounds: EventTimeBounds) -> Result<()> {
        self.reader.event_time = Some(EventTime::of(column, &self.reader.rows.columns, bounds)?);
        Ok(())
    }

    /// The newest event time of the rows of the object in hand, where event times are judged; microseconds since 1970,
    /// UTC.
    pub fn event_time_max(&self) -> Option<i64> {
        self.reader.event_time?.newest_micros(&self.reader.rows.columns)
    }

    /// Schema of the batches.
    pub fn schema(&self) -> &SchemaRef {
        &self.reader.rows.schema
    }

    /// Takes the next bytes of the object, decompressed.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), FileFault> {
        self.bytes += bytes.len() as u64;
        let Head::Undecided(head) = &mut self.head else {
            return self.framer.feed(bytes, &mut self.reader);
        };
        head.extend_from_slice(bytes);
        if head.len() >= UTF8_MARK.len() {
            self.leave_head()?;
        }
        Ok(())
    }

    /// Takes one whole record that is no part of an object, such as the value of a message: it has no header before it,
    /// and line breaks in it are its own. A record that is no row is the caller's to report. `number` is what the row is
    /// known by; they must ascend.
    pub fn decode_record(&mut self, number: u64, record: &[u8]) -> Result<Result<(), RecordFault>, FileFault> {
        self.bytes += record.len() as u64;
        self.reader.read_whole(number, record)
    }

    /// Makes a batch of the rows that are not in one yet.
    pub fn flush(&mut self) -> Result<(), FileFault> {
        self.reader.rows.flush()
    }

    /// Ends the object; the next bytes are those of another one. After a fault, use [`TextDecoder::abandon_object`].
    pub fn finish_object(&mut self) -> Result<ObjectCounts, FileFault> {
        self.leave_head()?;
        self.framer.finish(&mut self.reader)?;
        self.reader.rows.flush()?;
        let event_time_max = self.event_time_max();
        let counts = ObjectCounts { bytes: self.bytes, event_time_max, ..self.reader.counts };
        self.begin_object();
        Ok(counts)
    }

    /// Forgets the object: its rows and rejects that were not taken, and the rest of it.
    pub fn abandon_object(&mut self) -> Result<(), FileFault> {
        self.reader.rows.forget();
        self.reader.rejects.take()?;
        self.begin_object();
        Ok(())
    }

    /// The next batch of rows. A batch holds rows of one object.
    pub fn next_batch(&mut self) -> Option<Decoded> {
        self.reader.rows.ready.pop_front()
    }

    /// The records that were rejected since the last call, by [`super::reject_schema`].
    pub fn take_rejects(&mut self) -> Result<Option<RecordBatch>, FileFault> {
        Ok(self.reader.rejects.take()?)
    }

    /// How many rejects are waiting.
    pub fn rejects_waiting(&self) -> usize {
        self.reader.rejects.len()
    }

    /// Whether nothing that comes can make the object unreadable: its first bytes, and its header if it has one, were
    /// read.
    pub fn is_past_header(&self) -> bool {
        matches!(self.head, Head::Past) && !self.reader.awaits_header()
    }

    fn begin_object(&mut self) {
        self.reader.begin_object();
        self.framer.begin_object(0);
        self.head = Head::Undecided(Vec::new());
        self.bytes = 0;
    }

    fn leave_head(&mut self) -> Result<(), FileFault> {
        let Head::Undecided(head) = std::mem::replace(&mut self.head, Head::Past) else { return Ok(()) };
        if head.starts_with(b"\xff\xfe") || head.starts_with(b"\xfe\xff") {
            let reason = "it is UTF-16; convert it to UTF-8".to_owned();
            return Err(FileFault::Unreadable { offset: 0, reason });
        }
        match head.strip_prefix(UTF8_MARK) {
            None => self.framer.feed(&head, &mut self.reader),
            Some(rest) => {
                self.framer.begin_object(UTF8_MARK.len() as u64);
                self.framer.feed(rest, &mut self.reader)
            }
        }
    }
}

/// Reads framed records.
#[derive(Debug)]
struct Reader {
    records: Records,
    rows: Rows,
    rejects: Rejects,
    /// Names of the columns, for rejects.
    paths: Vec<String>,
    event_time: Option<EventTime>,
    counts: ObjectCounts,
}

#[derive(Debug)]
enum Records {
    Json {
        records: Box<JsonRecords>,
        /// How much of the record in hand has no newline.
        looked: usize,
    },
    Changes(Box<JsonRecords>),
    Csv(Box<CsvRecords>),
}

impl Reader {
    fn new(options: TextDecoderOptions) -> Result<Self> {
        let (timestamp_format, on_extra, is_nested) = match &options.format {
            TextFormat::Json(json) | TextFormat::Debezium(json) => (json.timestamp_format.clone(), json.on_extra, true),
            TextFormat::Csv(csv) => (csv.timestamp_format.clone(), csv.on_extra, false),
        };
        let format = options.format.name();
        let is_change = matches!(options.format, TextFormat::Debezium(_));
        let paths = Vec::new();
        let mut maker = ColumnMaker { timestamp_format, on_extra, is_nested, is_change, format, paths };
        let rows = RowsOptions {
            schema: &options.schema,
            projection: options.projection.as_deref(),
            defaults: &options.defaults,
            limits: options.limits,
        };
        let mut rows = Rows::new(rows, &mut maker)?;

        let records = match options.format {
            TextFormat::Json(json) => {
                Records::Json { records: Box::new(JsonRecords::new(options.schema.fields(), json.on_extra)), looked: 0 }
            }
            TextFormat::Debezium(json) => {
                let fields = options.schema.fields();
                let (declared, _) = fields.split_at(fields.len().saturating_sub(CHANGE_COLUMNS.len()));
                if let Some(time) = rows.columns.last_mut() {
                    time.take_millis();
                }
                Records::Changes(Box::new(JsonRecords::new(&declared.into(), json.on_extra)))
            }
            TextFormat::Csv(csv) => Records::Csv(Box::new(CsvRecords::new(options.schema, csv))),
        };
        let (rejects, counts) = (Rejects::default(), ObjectCounts::default());
        Ok(Self { records, rows, rejects, paths: maker.paths, event_time: None, counts })
    }

    fn begin_object(&mut self) {
        self.restart();
        self.counts = ObjectCounts::default();
        if let Some(event_time) = &mut self.event_time {
            event_time.newest = None;
        }
        if let Records::Csv(records) = &mut self.records {
            records.begin_object();
        }
    }

    fn awaits_header(&self) -> bool {
        matches!(&self.records, Records::Csv(records) if records.awaits_header())
    }

    fn is_blank(&self, text: &[u8]) -> bool {
        match &self.records {
            Records::Json { .. } | Records::Changes(_) => {
                text.first() != Some(&b'{') && text.iter().all(|byte| matches!(byte, b' ' | b'\t'))
            }
            Records::Csv(records) => records.is_blank(),
        }
    }

    fn read_header(&mut self, text: &[u8], is_utf8: bool, start: u64) -> Result<bool, FileFault> {
        match &mut self.records {
            Records::Csv(records) if records.awaits_header() => {
                records.read_header(text, is_utf8, start)?;
                records.check_missing(&self.rows.columns)?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Appends a record, or cuts back what was appended of it.
    #[inline]
    fn append(&mut self, text: &[u8]) -> Result<usize, Fault> {
        let columns = &mut self.rows.columns;
        let decoded = match &mut self.records {
            Records::Json { records, .. } => records.decode(text, columns),
            Records::Changes(records) => records.decode_change(text, columns),
            Records::Csv(records) => records.decode(text, columns),
        };
        let decoded = match &mut self.event_time {
            None => decoded,
            Some(event_time) => decoded.and_then(|bytes| event_time.judge(columns).map(|()| bytes)),
        };
        if decoded.is_err() {
            self.rows.cut_back();
        }
        decoded
    }

    /// Reads a record that is all of `record`.
    fn read_whole(&mut self, number: u64, record: &[u8]) -> Result<Result<(), RecordFault>, FileFault> {
        let is_utf8 = !self.wants_utf8() || simdutf8::basic::from_utf8(record).is_ok();
        let appended = match &mut self.records {
            _ if !is_utf8 => Err(RejectReason::InvalidUtf8.into()),
            Records::Json { .. } | Records::Changes(_) => self.append(record),
            Records::Csv(records) => {
                records.restart();
                let is_one = records.is_one_record(record);
                if is_one { self.append(record) } else { Err(RejectReason::InvalidQuoting.into()) }
            }
        };
        match appended {
            Ok(default_bytes) => {
                self.rows.note(number, record.len() + default_bytes)?;
                Ok(Ok(()))
            }
            Err(Fault { reason, column }) => {
                let column = column.and_then(|number| self.paths.get(number.0 as usize)).cloned();
                Ok(Err(RecordFault { reason, column }))
            }
        }
    }

    fn reject(&mut self, fault: Fault, text: &[u8], place: Place) {
        let is_late = fault.reason == RejectReason::Late;
        if !(is_late && self.event_time.is_some_and(|event_time| event_time.drops_late)) {
            let column = fault.column.and_then(|number| self.paths.get(number.0 as usize));
            self.rejects.push(place, fault.reason, column.map(String::as_str), text);
        }
        self.counts.late += u64::from(is_late);
        self.counts.records += 1;
        self.counts.rejected += 1;
        let is_bad_event_time = matches!(fault.reason, RejectReason::NullEventTime | RejectReason::EventTimeAhead);
        self.counts.bad_event_times += u64::from(is_bad_event_time);
    }

    fn place(&self, frame: Frame<'_>, byte_len: u64) -> Place {
        Place { record: self.counts.records, line: frame.line, byte_start: frame.start, byte_len }
    }
}

impl RecordReader for Reader {
    #[inline]
    fn record_end(&mut self, bytes: &[u8]) -> Option<usize> {
        match &mut self.records {
            Records::Json { looked, .. } => {
                let found = memchr(b'\n', &bytes[*looked..]).map(|found| *looked + found);
                *looked = found.unwrap_or(bytes.len());
                found
            }
            Records::Changes(_) => memchr(b'\n', bytes),
            Records::Csv(records) => records.record_end(bytes),
        }
    }

    #[inline]
    fn restart(&mut self) {
        match &mut self.records {
            Records::Json { looked, .. } => *looked = 0,
            Records::Changes(_) => {}
            Records::Csv(records) => records.restart(),
        }
    }

    fn wants_utf8(&self) -> bool {
        match &self.records {
            Records::Json { .. } | Records::Changes(_) => true,
            Records::Csv(records) => records.is_utf8(),
        }
    }

    #[inline]
    fn may_span_lines(&self) -> bool {
        match &self.records {
            Records::Json { .. } | Records::Changes(_) => false,
            Records::Csv(records) => records.has_quotes(),
        }
    }

    fn read(&mut self, frame: Frame<'_>) -> Result<(), FileFault> {
        let text = frame.text.strip_suffix(b"\r").unwrap_or(frame.text);
        if self.is_blank(text) {
            return Ok(());
        }
        let is_utf8 = frame.is_utf8 || !self.wants_utf8() || simdutf8::basic::from_utf8(text).is_ok();
        if self.read_header(text, is_utf8, frame.start)? {
            return Ok(());
        }

        let appended = if is_utf8 { self.append(text) } else { Err(RejectReason::InvalidUtf8.into()) };
        match appended {
            Ok(default_bytes) => {
                self.rows.note(self.counts.records, text.len() + default_bytes)?;
                self.counts.records += 1;
            }
            Err(fault) => self.reject(fault, text, self.place(frame, text.len() as u64)),
        }
        Ok(())
    }

    fn refuse(&mut self, frame: Frame<'_>, length: u64, why: Unframed) -> Result<(), FileFault> {
        let reason = match why {
            Unframed::TooLong => RejectReason::RecordTooLong,
            Unframed::UnclosedQuote => RejectReason::InvalidQuoting,
        };
        if self.awaits_header() {
            let reason = format!("its header is no record of CSV ({})", reason.as_str());
            return Err(FileFault::Unreadable { offset: frame.start, reason });
        }
        self.reject(reason.into(), frame.text, self.place(frame, length));
        Ok(())
    }
}

#[cfg(test)]
mod tests;
