//! JSON text, byte by byte: what RFC 8259 allows and nothing else.

use super::number::Number;

/// Objects and arrays within one another, at most; as `serde_json` has it.
pub(super) const DEPTH_MAX: usize = 127;

/// A position in the text of one record.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = ONES << 7;

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The next byte; 0 at the end, which is no byte of JSON outside strings.
    #[inline]
    pub(super) fn peek(&self) -> u8 {
        self.bytes.get(self.at).copied().unwrap_or(0)
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.at >= self.bytes.len()
    }

    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// The text from `start` to here.
    pub(super) fn since(&self, start: usize) -> &'a [u8] {
        &self.bytes[start..self.at]
    }

    #[inline]
    pub(super) fn skip_blanks(&mut self) {
        while matches!(self.peek(), b' ' | b'\t' | b'\n' | b'\r') {
            self.at += 1;
        }
    }

    #[inline]
    pub(super) fn eat(&mut self, byte: u8) -> bool {
        let found = self.bytes.get(self.at) == Some(&byte);
        self.at += usize::from(found);
        found
    }

    #[inline]
    pub(super) fn eat_all(&mut self, expected: &[u8]) -> bool {
        let found = self.bytes.get(self.at..).is_some_and(|rest| rest.starts_with(expected));
        self.at += if found { expected.len() } else { 0 };
        found
    }

    #[inline]
    pub(super) fn number(&mut self) -> Option<Number<'a>> {
        let (number, end) = Number::scan_json(self.bytes, self.at)?;
        self.at = end;
        Some(number)
    }

    /// Reads a string, its opening quote included. What it means is either in the text itself or put in `scratch`.
    #[inline]
    pub(super) fn string<'s>(&mut self, scratch: &'s mut Vec<u8>) -> Option<&'s [u8]>
    where
        'a: 's,
    {
        if !self.eat(b'"') {
            return None;
        }
        let start = self.at;
        self.skip_plain();
        if self.eat(b'"') {
            return Some(&self.bytes[start..self.at - 1]);
        }
        scratch.clear();
        scratch.extend_from_slice(self.since(start));
        self.unescape(scratch)?;
        Some(scratch)
    }

    /// Goes to the next quote, backslash or control character, eight bytes at a time.
    #[inline]
    fn skip_plain(&mut self) {
        while let Some(word) = self.bytes.get(self.at..).and_then(<[u8]>::first_chunk::<8>) {
            let special = special_bytes(u64::from_le_bytes(*word));
            if special != 0 {
                self.at += (special.trailing_zeros() / 8) as usize;
                return;
            }
            self.at += 8;
        }
        while self.bytes.get(self.at).is_some_and(|byte| !matches!(byte, b'"' | b'\\' | 0..0x20)) {
            self.at += 1;
        }
    }

    /// Appends the rest of a string, from its first escape to its closing quote.
    fn unescape(&mut self, text: &mut Vec<u8>) -> Option<()> {
        loop {
            if self.eat(b'"') {
                return Some(());
            }
            if !self.eat(b'\\') {
                return None;
            }
            let escape = self.peek();
            self.at += 1;
            let byte = match escape {
                b'"' | b'\\' | b'/' => escape,
                b'b' => 0x08,
                b'f' => 0x0c,
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'u' => {
                    let character = self.unicode_escape()?;
                    text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                    0
                }
                _ => return None,
            };
            if escape != b'u' {
                text.push(byte);
            }
            let start = self.at;
            self.skip_plain();
            text.extend_from_slice(self.since(start));
        }
    }

    /// What comes after `\u`; a surrogate must be the first half of a pair.
    fn unicode_escape(&mut self) -> Option<char> {
        let first = self.hex4()?;
        if !(0xd800..0xdc00).contains(&first) {
            return char::from_u32(first);
        }
        if !self.eat_all(b"\\u") {
            return None;
        }
        let second = self.hex4().filter(|second| (0xdc00..0xe000).contains(second))?;
        char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00))
    }

    fn hex4(&mut self) -> Option<u32> {
        let digits = self.bytes.get(self.at..self.at + 4)?;
        self.at += 4;
        digits.iter().try_fold(0, |value, digit| char::from(*digit).to_digit(16).map(|digit| value << 4 | digit))
    }

    /// Reads a value of any kind and forgets it. A duplicate key is noted in `keys`, since what follows may be no JSON,
    /// which is the better reason.
    pub(super) fn skip_value(&mut self, depth: usize, keys: &mut Keys) -> Option<()> {
        match self.peek() {
            b'"' => self.string(&mut keys.scratch).map(|_| ()),
            b'{' => self.skip_object(depth, keys),
            b'[' => self.skip_array(depth, keys),
            b't' => self.eat_all(b"true").then_some(()),
            b'f' => self.eat_all(b"false").then_some(()),
            b'n' => self.eat_all(b"null").then_some(()),
            _ => self.number().map(|_| ()),
        }
    }

    fn skip_array(&mut self, depth: usize, keys: &mut Keys) -> Option<()> {
        self.at += 1;
        if depth >= DEPTH_MAX {
            return None;
        }
        self.skip_blanks();
        if self.eat(b']') {
            return Some(());
        }
        loop {
            self.skip_blanks();
            self.skip_value(depth + 1, keys)?;
            self.skip_blanks();
            if self.eat(b']') {
                return Some(());
            }
            if !self.eat(b',') {
                return None;
            }
        }
    }

    fn skip_object(&mut self, depth: usize, keys: &mut Keys) -> Option<()> {
        self.at += 1;
        if depth >= DEPTH_MAX {
            return None;
        }
        let mark = keys.open.ends.len();
        self.skip_blanks();
        if self.eat(b'}') {
            return Some(());
        }
        loop {
            self.skip_blanks();
            let key = self.string(&mut keys.scratch)?;
            keys.open.push(key);
            self.skip_blanks();
            if !self.eat(b':') {
                return None;
            }
            self.skip_blanks();
            self.skip_value(depth + 1, keys)?;
            self.skip_blanks();
            if self.eat(b'}') {
                keys.close(mark);
                return Some(());
            }
            if !self.eat(b',') {
                return None;
            }
        }
    }
}

/// Bytes of `word` that end a run of plain characters, as high bits. Above the lowest there may be false ones.
#[inline]
fn special_bytes(word: u64) -> u64 {
    let quotes = word ^ (ONES * 0x22);
    let escapes = word ^ (ONES * 0x5c);
    let quotes = quotes.wrapping_sub(ONES) & !quotes;
    let escapes = escapes.wrapping_sub(ONES) & !escapes;
    let controls = word.wrapping_sub(ONES * 0x20) & !word;
    (quotes | escapes | controls) & HIGHS
}

/// The keys of the objects that a skipped value is in, to find one that is there twice.
#[derive(Debug, Default)]
pub(super) struct Keys {
    scratch: Vec<u8>,
    open: OpenKeys,
    has_duplicate: bool,
}

impl Keys {
    /// Forgets what an abandoned record left.
    pub(super) fn reset(&mut self) {
        self.has_duplicate = false;
        self.open.truncate(0);
    }

    /// Whether an object had a key twice since the last [`Keys::reset`].
    pub(super) fn has_duplicate(&self) -> bool {
        self.has_duplicate
    }

    /// Ends an object whose keys begin at `mark`.
    fn close(&mut self, mark: usize) {
        self.has_duplicate |= self.open.has_duplicate(mark);
        self.open.truncate(mark);
    }
}

#[derive(Debug, Default)]
struct OpenKeys {
    text: Vec<u8>,
    ends: Vec<usize>,
}

impl OpenKeys {
    /// Below this, comparing all pairs is faster than sorting.
    const PAIRWISE_MAX: usize = 12;

    fn push(&mut self, key: &[u8]) {
        self.text.extend_from_slice(key);
        self.ends.push(self.text.len());
    }

    fn truncate(&mut self, count: usize) {
        self.text.truncate(self.start(count));
        self.ends.truncate(count);
    }

    fn start(&self, key: usize) -> usize {
        key.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0)
    }

    fn key(&self, key: usize) -> &[u8] {
        &self.text[self.start(key)..self.ends[key]]
    }

    fn has_duplicate(&self, mark: usize) -> bool {
        let count = self.ends.len() - mark;
        if count <= Self::PAIRWISE_MAX {
            return (mark + 1..self.ends.len()).any(|at| (mark..at).any(|other| self.key(at) == self.key(other)));
        }
        let mut sorted: Vec<&[u8]> = (mark..self.ends.len()).map(|at| self.key(at)).collect();
        sorted.sort_unstable();
        sorted.windows(2).any(|pair| pair[0] == pair[1])
    }
}

#[cfg(test)]
mod tests;
