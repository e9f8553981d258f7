//! Cuts an object into records, whatever the chunks: a record inside a chunk is not copied.

use memchr::{memchr, memchr_iter, memrchr};

use super::fault::FileFault;
use super::reject::ORIGINAL_BYTES_MAX;

/// What records are cut for.
pub(super) trait RecordReader {
    /// Index of the newline that ends the record that begins `bytes`; `None` if it is not there yet. The same record is
    /// asked for again with more bytes, until [`RecordReader::restart`].
    fn record_end(&mut self, bytes: &[u8]) -> Option<usize>;
    /// Another record begins.
    fn restart(&mut self);
    /// Whether records must be UTF-8.
    fn wants_utf8(&self) -> bool;
    /// Whether the record in hand may have newlines inside.
    fn may_span_lines(&self) -> bool;
    /// A whole record.
    fn read(&mut self, frame: Frame<'_>) -> Result<(), FileFault>;
    /// A record that is no record.
    fn refuse(&mut self, frame: Frame<'_>, length: u64, why: Unframed) -> Result<(), FileFault>;
}

/// One record's bytes and place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame<'a> {
    /// Without the newline; the carriage return before it is still there.
    pub(super) text: &'a [u8],
    /// Offset in the object.
    pub(super) start: u64,
    /// Line on which it begins, from 1.
    pub(super) line: u64,
    /// Whether it was found to be UTF-8; if not it may be all the same.
    pub(super) is_utf8: bool,
}

/// Why no record could be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unframed {
    /// It is longer than a record may be.
    TooLong,
    /// A quote is open at the end of the object.
    UnclosedQuote,
}

/// The state between two chunks.
#[derive(Debug)]
pub(super) struct Framer {
    length_max: usize,
    /// The beginning of a record whose end has not come.
    pending: Vec<u8>,
    skipped: Option<Skipped>,
    /// Where the record in hand begins.
    start: u64,
    line: u64,
}

/// A record too long to keep, while its end is looked for.
#[derive(Debug)]
struct Skipped {
    prefix: Vec<u8>,
    length: u64,
    lines: u64,
}

impl Framer {
    pub(super) fn new(length_max: usize) -> Self {
        Self { length_max, pending: Vec::new(), skipped: None, start: 0, line: 1 }
    }

    /// Begins an object, `offset` bytes of which are no record (a byte order mark).
    pub(super) fn begin_object(&mut self, offset: u64) {
        self.pending.clear();
        self.skipped = None;
        self.start = offset;
        self.line = 1;
    }

    /// Takes the next bytes of the object.
    pub(super) fn feed<R: RecordReader>(&mut self, bytes: &[u8], reader: &mut R) -> Result<(), FileFault> {
        let is_utf8 = !reader.wants_utf8() || self.whole_lines(bytes).is_some_and(is_utf8);
        let mut rest = bytes;
        while !rest.is_empty() {
            rest = if self.skipped.is_some() {
                self.skip(rest, reader)?
            } else if self.pending.is_empty() {
                self.cut(rest, is_utf8, reader)?
            } else {
                self.extend(rest, reader)?
            };
        }
        Ok(())
    }

    /// Ends the object: what is pending is its last record, without a newline.
    pub(super) fn finish<R: RecordReader>(&mut self, reader: &mut R) -> Result<(), FileFault> {
        if self.skipped.is_some() {
            self.skip(b"\n", reader)?;
        }
        if self.pending.is_empty() {
            return Ok(());
        }
        self.pending.push(b'\n');
        let text = std::mem::take(&mut self.pending);
        let end = text.len() - 1;
        let frame = Frame { text: &text[..end], start: self.start, line: self.line, is_utf8: false };
        match reader.record_end(&text) {
            Some(_) => reader.read(frame),
            None => reader.refuse(frame, as_u64(end), Unframed::UnclosedQuote),
        }
    }

    /// Bytes held between chunks.
    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        self.pending.capacity() + self.skipped.as_ref().map_or(0, |skipped| skipped.prefix.capacity())
    }

    /// The bytes from the first record that begins in `bytes` to the last newline: no character is cut at their ends.
    fn whole_lines<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let end = memrchr(b'\n', bytes)?;
        let is_start = self.pending.is_empty() && self.skipped.is_none();
        let start = if is_start { 0 } else { memchr(b'\n', bytes)? };
        bytes.get(start..end)
    }

    /// Cuts one record off `bytes`, which begin with it.
    #[inline]
    fn cut<'a, R: RecordReader>(
        &mut self,
        bytes: &'a [u8],
        is_utf8: bool,
        reader: &mut R,
    ) -> Result<&'a [u8], FileFault> {
        match reader.record_end(bytes) {
            Some(end) if end <= self.length_max => {
                self.hand_over(&bytes[..end], is_utf8, reader)?;
                Ok(&bytes[end + 1..])
            }
            None if bytes.len() <= self.length_max => {
                self.pending.extend_from_slice(bytes);
                Ok(&[])
            }
            _ => self.cut_too_long(bytes, reader),
        }
    }

    /// Adds one line to the pending record.
    fn extend<'a, R: RecordReader>(&mut self, bytes: &'a [u8], reader: &mut R) -> Result<&'a [u8], FileFault> {
        let line = memchr(b'\n', bytes).map_or(bytes.len(), |newline| newline + 1);
        self.pending.extend_from_slice(&bytes[..line]);
        let mut text = std::mem::take(&mut self.pending);
        match reader.record_end(&text) {
            Some(end) if end <= self.length_max => {
                self.hand_over(&text[..end], false, reader)?;
                text.clear();
                self.pending = text;
            }
            None if text.len() <= self.length_max => self.pending = text,
            _ => {
                self.cut_too_long(&text, reader)?;
            }
        }
        Ok(&bytes[line..])
    }

    fn hand_over<R: RecordReader>(&mut self, text: &[u8], is_utf8: bool, reader: &mut R) -> Result<(), FileFault> {
        let frame = Frame { text, start: self.start, line: self.line, is_utf8 };
        self.start += as_u64(text.len()) + 1;
        self.line += 1 + if reader.may_span_lines() { count_lines(text) } else { 0 };
        reader.read(frame)?;
        reader.restart();
        Ok(())
    }

    /// The record that begins `bytes` is too long: it ends at the first newline beyond the bound, quoted or not, so that
    /// one open quote does not cost the whole object.
    fn cut_too_long<'a, R: RecordReader>(&mut self, bytes: &'a [u8], reader: &mut R) -> Result<&'a [u8], FileFault> {
        let (within, beyond) = bytes.split_at(self.length_max);
        let prefix = within[..within.len().min(ORIGINAL_BYTES_MAX)].to_vec();
        self.skipped = Some(Skipped { prefix, length: as_u64(within.len()), lines: count_lines(within) });
        self.skip(beyond, reader)
    }

    /// Goes to the end of the record that is too long.
    fn skip<'a, R: RecordReader>(&mut self, bytes: &'a [u8], reader: &mut R) -> Result<&'a [u8], FileFault> {
        let newline = memchr(b'\n', bytes);
        let Some(mut skipped) = self.skipped.take() else { return Ok(bytes) };
        let more = &bytes[..newline.unwrap_or(bytes.len())];
        let room = ORIGINAL_BYTES_MAX.saturating_sub(skipped.prefix.len());
        skipped.prefix.extend_from_slice(&more[..more.len().min(room)]);
        skipped.length += as_u64(more.len());

        let Some(newline) = newline else {
            self.skipped = Some(skipped);
            return Ok(&[]);
        };
        let frame = Frame { text: &skipped.prefix, start: self.start, line: self.line, is_utf8: false };
        self.start += skipped.length + 1;
        self.line += skipped.lines + 1;
        reader.refuse(frame, skipped.length, Unframed::TooLong)?;
        reader.restart();
        Ok(&bytes[newline + 1..])
    }
}

fn is_utf8(bytes: &[u8]) -> bool {
    simdutf8::basic::from_utf8(bytes).is_ok()
}

fn count_lines(text: &[u8]) -> u64 {
    as_u64(memchr_iter(b'\n', text).count())
}

fn as_u64(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
