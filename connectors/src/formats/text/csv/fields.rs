//! Where the fields of a record are, found byte by byte across chunks, and what they mean.

use memchr::{memchr, memchr2};

use super::super::options::{CsvOptions, Encoding};
use super::Scratch;

/// Where a field is in its record, without its quotes.
#[derive(Debug, Clone, Copy)]
pub(super) struct FieldSpan {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) is_quoted: bool,
    has_escapes: bool,
}

impl FieldSpan {
    /// What it means, in UTF-8.
    #[inline]
    pub(super) fn text<'a>(self, record: &'a [u8], options: &CsvOptions, scratch: &'a mut Scratch) -> &'a [u8] {
        let mut text = record.get(self.start..self.end).unwrap_or_default();
        if self.has_escapes {
            unescape(text, options, &mut scratch.unescaped);
            text = &scratch.unescaped;
        }
        if options.encoding != Encoding::Utf8 && !text.is_ascii() {
            scratch.transcoded.clear();
            scratch.transcoded.extend(text.iter().map(|byte| options.encoding.character(*byte)));
            text = scratch.transcoded.as_bytes();
        }
        text
    }
}

/// Takes out the first of each doubled quote, and the escape before each escaped character.
fn unescape(text: &[u8], options: &CsvOptions, unescaped: &mut Vec<u8>) {
    unescaped.clear();
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        let is_mark = Some(*byte) == options.quote || Some(*byte) == options.escape;
        let meant = if is_mark { bytes.next().unwrap_or(byte) } else { byte };
        unescaped.push(*meant);
    }
}

/// Finds the fields of a record, in as many steps as there are chunks.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "one option and three facts about the record, each on its own")]
pub(super) struct Scan {
    delimiter: u8,
    quote: Option<u8>,
    escape: Option<u8>,
    comment: Option<u8>,
    trim: bool,

    state: State,
    /// Where to go on, from the record's start.
    at: usize,
    /// Where the current field starts.
    start: usize,
    has_escapes: bool,
    /// Whether a field is quoted, and so may have line breaks.
    pub(super) has_quotes: bool,
    /// Text after a closing quote.
    pub(super) is_bad: bool,
    pub(super) fields: Vec<FieldSpan>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    RecordStart,
    FieldStart,
    Unquoted,
    Quoted,
    Escaped,
    /// After a quote in a quoted field: it closes the field or is the first of two.
    Quote,
    /// After the field that ended at this position: only blanks and a line break may come.
    Closed(usize),
    /// In a comment, or after an error: the rest of the line is nothing.
    Rest,
}

impl Scan {
    pub(super) fn new(options: &CsvOptions) -> Self {
        Self {
            delimiter: options.delimiter,
            quote: options.quote,
            escape: options.escape.filter(|escape| Some(*escape) != options.quote),
            comment: options.comment,
            trim: options.trim,
            state: State::RecordStart,
            at: 0,
            start: 0,
            has_escapes: false,
            has_quotes: false,
            is_bad: false,
            fields: Vec::new(),
        }
    }

    #[inline]
    pub(super) fn restart(&mut self) {
        self.state = State::RecordStart;
        self.at = 0;
        self.has_quotes = false;
        self.is_bad = false;
        self.fields.clear();
    }

    /// Goes on in the record that begins `bytes`, to its newline; `None` if it is not there yet.
    #[inline]
    pub(super) fn record_end(&mut self, bytes: &[u8]) -> Option<usize> {
        loop {
            match self.state {
                State::RecordStart => {
                    let is_comment = self.comment.is_some() && bytes.first() == self.comment.as_ref();
                    self.state = if is_comment { State::Rest } else { State::FieldStart };
                    bytes.first()?;
                }
                State::FieldStart => {
                    self.skip_blanks(bytes);
                    let first = *bytes.get(self.at)?;
                    self.has_escapes = false;
                    if Some(first) == self.quote {
                        self.has_quotes = true;
                        self.at += 1;
                        self.state = State::Quoted;
                    } else {
                        self.state = State::Unquoted;
                    }
                    self.start = self.at;
                }
                State::Unquoted => {
                    let Some(end) = find_either(bytes, self.at, self.delimiter, b'\n') else {
                        self.at = bytes.len();
                        return None;
                    };
                    let is_last = bytes[end] == b'\n';
                    self.push_unquoted(bytes, end, is_last);
                    if is_last {
                        return Some(end);
                    }
                }
                State::Rest => {
                    let found = memchr(b'\n', &bytes[self.at..]).map(|end| self.at + end);
                    self.at = found.unwrap_or(bytes.len());
                    return found;
                }
                _ => {
                    if let Some(end) = self.quoted_step(bytes)? {
                        return Some(end);
                    }
                }
            }
        }
    }

    /// One step in a quoted field; `None` when more bytes are needed, `Some(Some(_))` at the record's newline.
    #[expect(clippy::option_option, reason = "needs more, goes on, is done")]
    fn quoted_step(&mut self, bytes: &[u8]) -> Option<Option<usize>> {
        let quote = self.quote.unwrap_or(b'"');
        match self.state {
            State::Quoted => {
                let rest = bytes.get(self.at..)?;
                let escape = self.escape.unwrap_or(quote);
                let Some(found) = memchr2(quote, escape, rest).map(|found| self.at + found) else {
                    self.at = bytes.len();
                    return None;
                };
                self.state = if bytes[found] == quote { State::Quote } else { State::Escaped };
                self.has_escapes |= bytes[found] != quote;
                self.at = found + 1;
            }
            State::Escaped => {
                bytes.get(self.at)?;
                self.at += 1;
                self.state = State::Quoted;
            }
            State::Quote if *bytes.get(self.at)? == quote => {
                self.has_escapes = true;
                self.at += 1;
                self.state = State::Quoted;
            }
            State::Quote => self.state = State::Closed(self.at - 1),
            State::Closed(end) => return self.closed_step(bytes, end),
            State::RecordStart | State::FieldStart | State::Unquoted | State::Rest => {}
        }
        Some(None)
    }

    #[expect(clippy::option_option, reason = "needs more, goes on, is done")]
    fn closed_step(&mut self, bytes: &[u8], end: usize) -> Option<Option<usize>> {
        self.skip_blanks(bytes);
        let field = FieldSpan { start: self.start, end, is_quoted: true, has_escapes: self.has_escapes };
        let next = *bytes.get(self.at)?;
        let newline = if next == b'\r' { self.at + 1 } else { self.at };
        if next == self.delimiter {
            self.fields.push(field);
            self.at += 1;
            self.state = State::FieldStart;
        } else if *bytes.get(newline)? == b'\n' {
            self.fields.push(field);
            self.at = newline;
            return Some(Some(newline));
        } else {
            self.is_bad = true;
            self.state = State::Rest;
        }
        Some(None)
    }

    #[inline]
    fn push_unquoted(&mut self, bytes: &[u8], delimiter: usize, is_last: bool) {
        let mut end = delimiter;
        if is_last && end > self.start && bytes[end - 1] == b'\r' {
            end -= 1;
        }
        while self.trim && end > self.start && self.is_blank(bytes[end - 1]) {
            end -= 1;
        }
        self.fields.push(FieldSpan { start: self.start, end, is_quoted: false, has_escapes: false });
        self.at = delimiter + usize::from(!is_last);
        self.state = State::FieldStart;
    }

    #[inline]
    fn skip_blanks(&mut self, bytes: &[u8]) {
        while self.trim && bytes.get(self.at).is_some_and(|byte| self.is_blank(*byte)) {
            self.at += 1;
        }
    }

    fn is_blank(&self, byte: u8) -> bool {
        matches!(byte, b' ' | b'\t') && byte != self.delimiter
    }
}

/// The first of two bytes from `at` on, eight bytes at a time: fields are short.
#[inline]
fn find_either(bytes: &[u8], mut at: usize, one: u8, other: u8) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let (ones, others) = (ONES * u64::from(one), ONES * u64::from(other));
    while let Some(word) = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let word = u64::from_le_bytes(*word);
        let (a, b) = (word ^ ones, word ^ others);
        // The lowest of these bits is right; there may be false ones above it.
        let found = ((a.wrapping_sub(ONES) & !a) | (b.wrapping_sub(ONES) & !b)) & (ONES << 7);
        if found != 0 {
            return Some(at + (found.trailing_zeros() / 8) as usize);
        }
        at += 8;
    }
    bytes.get(at..)?.iter().position(|byte| *byte == one || *byte == other).map(|found| at + found)
}
