//! Avro object container files. The reader of `arrow-avro` takes the end of the bytes for the end of the file wherever
//! it comes, and looks at no sync marker; a watch over the bytes that it consumes does both.

use std::io::{self, BufRead, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::RecordBatch;
use arrow_avro::reader::{Reader, ReaderBuilder};
use arrow_schema::ArrowError;

use crate::formats::Opened;

/// Opens an object container file.
pub(crate) fn open(reader: impl Read + Send + 'static, batch_rows: usize) -> Result<Opened, ArrowError> {
    let rows = Arc::new(AtomicU64::new(0));
    let watched = Watched { inner: BufReader::with_capacity(64 << 10, reader), frame: Frame::new(Arc::clone(&rows)) };
    let reader = ReaderBuilder::new().with_batch_size(batch_rows).build(watched)?;
    let schema = reader.schema();
    Ok(Opened { schema, batches: Box::new(CountedBatches { reader, promised: rows, read: 0 }) })
}

/// Compares the rows that came with those that the blocks promised.
struct CountedBatches<R: BufRead> {
    reader: Reader<R>,
    promised: Arc<AtomicU64>,
    read: u64,
}

impl<R: BufRead> Iterator for CountedBatches<R> {
    type Item = Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.reader.next() {
            Some(Ok(batch)) => {
                self.read += batch.num_rows() as u64;
                Some(Ok(batch))
            }
            None if self.read != self.promised.load(Ordering::Relaxed) => {
                // Said once.
                self.read = self.promised.load(Ordering::Relaxed);
                Some(Err(ArrowError::AvroError("its blocks hold another number of records than they say".to_owned())))
            }
            other => other,
        }
    }
}

/// Passes bytes on and follows the frames that they make.
struct Watched<R> {
    inner: R,
    frame: Frame,
}

impl<R: BufRead> Read for Watched<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let length = available.len().min(bytes.len());
        bytes[..length].copy_from_slice(&available[..length]);
        self.consume(length);
        Ok(length)
    }
}

impl<R: BufRead> BufRead for Watched<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if let Some(fault) = self.frame.fault {
            return Err(io::Error::new(io::ErrorKind::InvalidData, fault));
        }
        let bytes = self.inner.fill_buf()?;
        if bytes.is_empty() && !self.frame.is_between_blocks() {
            let reason = "it ends in the middle of a block: it is truncated, or still being written";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, reason));
        }
        Ok(bytes)
    }

    fn consume(&mut self, length: usize) {
        if let Ok(bytes) = self.inner.fill_buf() {
            self.frame.follow(&bytes[..length.min(bytes.len())]);
        }
        self.inner.consume(length);
    }
}

/// Where in a file the bytes are (Avro specification, "Object Container Files").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Magic,
    /// Number of entries of a part of the header's map; 0 ends it, a negative one is followed by a size.
    EntryCount,
    EntrySize,
    /// Length of a key or value.
    EntryLength,
    Entry,
    HeaderSync,
    RecordCount,
    BlockSize,
    Block,
    Sync,
}

#[derive(Debug)]
struct Frame {
    at: At,
    /// Bytes left of what is being passed over.
    left: u64,
    /// Keys and values left in this part of the map.
    entries: u64,
    number: u64,
    shift: u32,
    is_at_number: bool,
    mark: Vec<u8>,
    seen: Vec<u8>,
    rows: Arc<AtomicU64>,
    records: u64,
    fault: Option<&'static str>,
}

impl Frame {
    fn new(rows: Arc<AtomicU64>) -> Self {
        Self {
            at: At::Magic,
            left: 4,
            entries: 0,
            number: 0,
            shift: 0,
            is_at_number: false,
            mark: Vec::new(),
            seen: Vec::new(),
            rows,
            records: 0,
            fault: None,
        }
    }

    fn is_between_blocks(&self) -> bool {
        self.at == At::RecordCount && !self.is_at_number
    }

    fn follow(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && self.fault.is_none() {
            let used = match self.at {
                At::Magic | At::Entry | At::Block => self.pass(bytes),
                At::HeaderSync | At::Sync => self.collect(bytes),
                At::EntryCount | At::EntrySize | At::EntryLength | At::RecordCount | At::BlockSize => {
                    self.digit(bytes[0])
                }
            };
            bytes = &bytes[used..];
        }
    }

    fn pass(&mut self, bytes: &[u8]) -> usize {
        let used = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
        self.left -= used as u64;
        if self.left == 0 {
            self.passed();
        }
        used
    }

    fn passed(&mut self) {
        self.at = match self.at {
            At::Entry if self.entries > 0 => At::EntryLength,
            At::Magic | At::Entry => At::EntryCount,
            _ => At::Sync,
        };
    }

    /// Collects the 16 bytes of a sync marker: the header's is the one that all others must be.
    fn collect(&mut self, bytes: &[u8]) -> usize {
        let used = bytes.len().min(16 - self.seen.len());
        self.seen.extend_from_slice(&bytes[..used]);
        if self.seen.len() == 16 {
            let seen = std::mem::take(&mut self.seen);
            if self.at == At::HeaderSync {
                self.mark = seen;
            } else if self.mark == seen {
                self.rows.fetch_add(self.records, Ordering::Relaxed);
            } else {
                self.fault = Some("a block does not end with the file's sync marker");
            }
            self.at = At::RecordCount;
        }
        used
    }

    /// One byte of a zigzag variable-length number.
    fn digit(&mut self, byte: u8) -> usize {
        self.is_at_number = true;
        if self.shift > 63 {
            self.fault = Some("a length in it is longer than 64 bits");
            return 1;
        }
        self.number |= u64::from(byte & 0x7f) << self.shift;
        self.shift += 7;
        if byte & 0x80 == 0 {
            let number = (self.number >> 1).cast_signed() ^ -(self.number & 1).cast_signed();
            (self.number, self.shift, self.is_at_number) = (0, 0, false);
            self.numbered(number);
        }
        1
    }

    fn numbered(&mut self, number: i64) {
        match self.at {
            At::EntryCount if number == 0 => self.at = At::HeaderSync,
            At::EntryCount => {
                self.entries = number.unsigned_abs().saturating_mul(2);
                self.at = if number < 0 { At::EntrySize } else { At::EntryLength };
            }
            At::EntrySize => self.at = At::EntryLength,
            At::EntryLength => {
                self.entries = self.entries.saturating_sub(1);
                self.skip(number, At::Entry);
            }
            At::RecordCount => {
                self.records = self.checked(number);
                self.at = At::BlockSize;
            }
            _ if number > 0 && self.records == 0 => self.fault = Some("a block has bytes but no records"),
            _ => self.skip(number, At::Block),
        }
    }

    fn skip(&mut self, number: i64, at: At) {
        self.left = self.checked(number);
        self.at = at;
        if self.left == 0 {
            self.passed();
        }
    }

    fn checked(&mut self, number: i64) -> u64 {
        if number < 0 {
            self.fault = Some("a length in it is negative");
        }
        number.unsigned_abs()
    }
}
