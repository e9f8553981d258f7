//! JSON lines: one object per line, straight into columns.
//!
//! The next key is predicted to be the one that followed the last key in earlier records, and compared as text; only a
//! surprise is looked up.

use std::collections::{HashMap, HashSet};

use arrow_schema::Fields;
use bessemer_schemas::RejectReason;

use super::change::Change;
use super::column::{Column, Values, push_offset};
use super::fault::Fault;
use super::options::OnExtra;
use super::scan::{Cursor, DEPTH_MAX, Keys};
use crate::formats::growth::Growth;

/// Reads records into columns.
#[derive(Debug)]
pub(super) struct JsonRecords {
    names: Names,
    scratch: Scratch,
}

/// Buffers that live as long as the decoder.
#[derive(Debug, Default)]
struct Scratch {
    text: Vec<u8>,
    keys: Keys,
    /// What nulls and defaults added to the record.
    growth: Growth,
}

impl JsonRecords {
    pub(super) fn new(fields: &Fields, on_extra: OnExtra) -> Self {
        Self { names: Names::new(fields, on_extra), scratch: Scratch::default() }
    }

    /// Appends one record to `columns`; says how many bytes its nulls and defaults took. After a fault the columns hold a
    /// part of the record: the caller cuts them back.
    pub(super) fn decode(&mut self, record: &[u8], columns: &mut [Column]) -> Result<usize, Fault> {
        self.scratch.growth = Growth::of(record.len());
        let mut cursor = Cursor::new(record);
        let decoded = read_record(&mut cursor, &mut self.names, columns, &mut self.scratch);
        decoded.map_err(|fault| self.better_reason(record).map_or(fault, Fault::from))?;
        Ok(self.scratch.growth.bytes())
    }

    /// Appends the row of a change ([`Change`]); what happened and when are the last two of `columns`.
    pub(super) fn decode_change(&mut self, record: &[u8], columns: &mut [Column]) -> Result<usize, Fault> {
        self.scratch.growth = Growth::of(record.len());
        let decoded = read_change(record, &mut self.names, columns, &mut self.scratch);
        decoded.map_err(|fault| self.better_reason(record).map_or(fault, Fault::from))?;
        Ok(self.scratch.growth.bytes())
    }

    /// Whether a record at fault is no JSON at all, or has a key twice: then that is the reason, wherever it stands.
    fn better_reason(&mut self, record: &[u8]) -> Option<RejectReason> {
        let keys = &mut self.scratch.keys;
        keys.reset();
        let mut cursor = Cursor::new(record);
        cursor.skip_blanks();
        let is_object = cursor.peek() == b'{';
        let is_json = is_object && cursor.skip_value(0, keys).is_some();
        cursor.skip_blanks();
        let has_duplicate = keys.has_duplicate();
        keys.reset();

        if !is_json || !cursor.is_at_end() {
            Some(RejectReason::InvalidJson)
        } else if has_duplicate {
            Some(RejectReason::DuplicateKey)
        } else {
            None
        }
    }
}

fn read_change(record: &[u8], names: &mut Names, columns: &mut [Column], scratch: &mut Scratch) -> Result<(), Fault> {
    let change = Change::read(record, &mut scratch.keys)?;
    let Some((columns, [operation, time])) = columns.split_last_chunk_mut::<2>() else {
        return Err(RejectReason::InvalidEnvelope.into());
    };
    read_record(&mut Cursor::new(change.image), names, columns, scratch)?;
    operation.push_text(change.operation.as_bytes()).map_err(|reason| operation.fault(reason))?;
    match change.source_millis {
        Some(millis) => time.push_number(millis).map_err(|reason| time.fault(reason)),
        None => time.push_null().map(drop),
    }
}

fn read_record(
    cursor: &mut Cursor<'_>,
    names: &mut Names,
    columns: &mut [Column],
    scratch: &mut Scratch,
) -> Result<(), Fault> {
    cursor.skip_blanks();
    read_object(cursor, names, columns, scratch, 0)?;
    cursor.skip_blanks();
    if cursor.is_at_end() { Ok(()) } else { Err(RejectReason::InvalidJson.into()) }
}

fn read_object(
    cursor: &mut Cursor<'_>,
    names: &mut Names,
    columns: &mut [Column],
    scratch: &mut Scratch,
    depth: usize,
) -> Result<(), Fault> {
    if !cursor.eat(b'{') || depth >= DEPTH_MAX {
        return Err(RejectReason::InvalidJson.into());
    }
    names.begin_object();
    cursor.skip_blanks();
    if !cursor.eat(b'}') {
        loop {
            let name = names.next(cursor, &mut scratch.text)?;
            cursor.skip_blanks();
            match name.and_then(|name| columns.get_mut(name)) {
                Some(column) => read_value(cursor, column, scratch, depth + 1)?,
                None => skip_value(cursor, scratch, depth + 1)?,
            }
            cursor.skip_blanks();
            if cursor.eat(b',') {
                cursor.skip_blanks();
            } else if cursor.eat(b'}') {
                break;
            } else {
                return Err(RejectReason::InvalidJson.into());
            }
        }
    }
    names.for_each_missing(|column| {
        if let Some(column) = columns.get_mut(column) {
            let bytes = column.push_missing()?;
            scratch.growth.add(bytes).map_err(|reason| column.fault(reason))?;
        }
        Ok(())
    })
}

fn skip_value(cursor: &mut Cursor<'_>, scratch: &mut Scratch, depth: usize) -> Result<(), Fault> {
    cursor.skip_value(depth, &mut scratch.keys).ok_or(RejectReason::InvalidJson)?;
    if scratch.keys.has_duplicate() { Err(RejectReason::DuplicateKey.into()) } else { Ok(()) }
}

#[inline]
fn read_value(cursor: &mut Cursor<'_>, column: &mut Column, scratch: &mut Scratch, depth: usize) -> Result<(), Fault> {
    if column.is_raw() && cursor.peek() != b'n' {
        let start = cursor.position();
        skip_value(cursor, scratch, depth)?;
        return column.push_raw(cursor.since(start)).map_err(|reason| column.fault(reason));
    }
    let pushed = match cursor.peek() {
        b'"' => {
            let text = cursor.string(&mut scratch.text).ok_or(RejectReason::InvalidJson)?;
            column.push_text(text)
        }
        b'-' | b'0'..=b'9' => {
            let number = cursor.number().ok_or(RejectReason::InvalidJson)?;
            column.push_number(number)
        }
        b'n' if cursor.eat_all(b"null") => {
            let bytes = column.push_null()?;
            scratch.growth.add(bytes)
        }
        b't' if cursor.eat_all(b"true") => column.push_bool(true),
        b'f' if cursor.eat_all(b"false") => column.push_bool(false),
        b'[' => return read_array(cursor, column, scratch, depth),
        b'{' => return read_nested(cursor, column, scratch, depth),
        _ => Err(RejectReason::InvalidJson),
    };
    pushed.map_err(|reason| column.fault(reason))
}

fn read_array(cursor: &mut Cursor<'_>, column: &mut Column, scratch: &mut Scratch, depth: usize) -> Result<(), Fault> {
    let (number, is_built) = (column.number, column.is_built());
    let Values::List { offsets, child, .. } = &mut column.values else {
        return Err(column.fault(RejectReason::WrongType));
    };
    if depth >= DEPTH_MAX {
        return Err(RejectReason::InvalidJson.into());
    }

    let mut end = offsets.last().copied().unwrap_or(0);
    cursor.eat(b'[');
    cursor.skip_blanks();
    if !cursor.eat(b']') {
        loop {
            cursor.skip_blanks();
            read_value(cursor, child, scratch, depth + 1)?;
            end = end.checked_add(1).ok_or_else(|| Fault::from(RejectReason::RecordTooLong).at(number))?;
            cursor.skip_blanks();
            if cursor.eat(b']') {
                break;
            }
            if !cursor.eat(b',') {
                return Err(RejectReason::InvalidJson.into());
            }
        }
    }
    if is_built {
        offsets.push(end);
    }
    column.note_value();
    Ok(())
}

fn read_nested(cursor: &mut Cursor<'_>, column: &mut Column, scratch: &mut Scratch, depth: usize) -> Result<(), Fault> {
    let is_built = column.is_built();
    match &mut column.values {
        Values::Struct { names, children, rows, .. } => {
            read_object(cursor, names, children, scratch, depth)?;
            *rows += usize::from(is_built);
        }
        Values::Map { .. } => read_map(cursor, column, scratch, depth)?,
        _ => return Err(column.fault(RejectReason::WrongType)),
    }
    column.note_value();
    Ok(())
}

fn read_map(cursor: &mut Cursor<'_>, column: &mut Column, scratch: &mut Scratch, depth: usize) -> Result<(), Fault> {
    let (number, is_built) = (column.number, column.is_built());
    let Values::Map { offsets, key, value, .. } = &mut column.values else {
        return Err(column.fault(RejectReason::WrongType));
    };
    if depth >= DEPTH_MAX {
        return Err(RejectReason::InvalidJson.into());
    }

    let mut seen = HashSet::new();
    cursor.eat(b'{');
    cursor.skip_blanks();
    if !cursor.eat(b'}') {
        loop {
            cursor.skip_blanks();
            let name = cursor.string(&mut scratch.text).ok_or(RejectReason::InvalidJson)?;
            if !seen.insert(name.to_vec()) {
                return Err(RejectReason::DuplicateKey.into());
            }
            key.push_text(name).map_err(|reason| key.fault(reason))?;
            read_colon(cursor)?;
            read_value(cursor, value, scratch, depth + 1)?;
            cursor.skip_blanks();
            if cursor.eat(b'}') {
                break;
            }
            if !cursor.eat(b',') {
                return Err(RejectReason::InvalidJson.into());
            }
        }
    }
    if is_built {
        let start = offsets.last().and_then(|start| usize::try_from(*start).ok()).unwrap_or(0);
        push_offset(offsets, start + seen.len()).map_err(|reason| Fault::from(reason).at(number))?;
    }
    Ok(())
}

fn read_colon(cursor: &mut Cursor<'_>) -> Result<(), Fault> {
    cursor.skip_blanks();
    if !cursor.eat(b':') {
        return Err(RejectReason::InvalidJson.into());
    }
    cursor.skip_blanks();
    Ok(())
}

/// The keys of one kind of object: the declared ones, and undeclared ones once they were seen.
#[derive(Debug)]
pub(in crate::formats) struct Names {
    all: Vec<Name>,
    numbers: HashMap<Box<[u8]>, u32>,
    declared: u32,
    on_extra: OnExtra,
    /// The key that followed the opening brace, the last time.
    first: u32,
    previous: u32,
    /// One bit for each name that the current object has.
    seen: Vec<u64>,
    /// Undeclared keys of the current object beyond those that are remembered.
    unremembered: HashSet<Box<[u8]>>,
}

#[derive(Debug)]
struct Name {
    /// `"name":`, as most writers write it.
    text: Box<[u8]>,
    /// The name that followed it, the last time.
    next: u32,
}

const NO_NAME: u32 = u32::MAX;

impl Names {
    /// Undeclared keys that are remembered, at most: keys that are data, not names, must not fill the memory.
    const REMEMBERED_MAX: usize = 1024;

    pub(super) fn new(fields: &Fields, on_extra: OnExtra) -> Self {
        let mut names = Self {
            all: Vec::new(),
            numbers: HashMap::new(),
            declared: 0,
            on_extra,
            first: NO_NAME,
            previous: NO_NAME,
            seen: Vec::new(),
            unremembered: HashSet::new(),
        };
        for field in fields {
            names.declared = names.remember(field.name().as_bytes()) + 1;
        }
        names
    }

    fn remember(&mut self, key: &[u8]) -> u32 {
        let number = u32::try_from(self.all.len()).unwrap_or(NO_NAME);
        let is_plain = key.iter().all(|byte| !matches!(byte, b'"' | b'\\' | 0..0x20));
        // A key that needs escapes is never predicted: this byte is in no UTF-8.
        let text = if is_plain { [b"\"", key, b"\":"].concat() } else { vec![0xff] };
        self.all.push(Name { text: text.into(), next: NO_NAME });
        self.numbers.insert(key.into(), number);
        self.seen.resize(self.all.len().div_ceil(64), 0);
        number
    }

    fn begin_object(&mut self) {
        self.seen.fill(0);
        self.previous = NO_NAME;
        self.unremembered.clear();
    }

    /// Reads a key and its colon: the number of the column, if the key is declared.
    #[inline]
    fn next(&mut self, cursor: &mut Cursor<'_>, scratch: &mut Vec<u8>) -> Result<Option<usize>, Fault> {
        let predicted = match self.all.get(self.previous as usize) {
            Some(previous) => previous.next,
            None => self.first,
        };
        let number = match self.all.get(predicted as usize) {
            Some(name) if cursor.eat_all(&name.text) => predicted,
            _ => match self.look_up(cursor, scratch)? {
                Some(number) => number,
                None => return Ok(None),
            },
        };
        self.previous = number;

        let (word, bit) = (number as usize / 64, 1 << (number % 64));
        if self.seen[word] & bit != 0 {
            return Err(RejectReason::DuplicateKey.into());
        }
        self.seen[word] |= bit;
        if number < self.declared {
            return Ok(Some(number as usize));
        }
        self.undeclared()
    }

    fn undeclared(&self) -> Result<Option<usize>, Fault> {
        match self.on_extra {
            OnExtra::Ignore => Ok(None),
            OnExtra::Reject => Err(RejectReason::UnknownField.into()),
        }
    }

    /// The number of a key that was not predicted; none if it is not remembered.
    #[cold]
    fn look_up(&mut self, cursor: &mut Cursor<'_>, scratch: &mut Vec<u8>) -> Result<Option<u32>, Fault> {
        let key = cursor.string(scratch).ok_or(RejectReason::InvalidJson)?;
        let number = match self.numbers.get(key) {
            Some(number) => *number,
            None if self.all.len() < Self::REMEMBERED_MAX + self.declared as usize => self.remember(key),
            None => {
                let is_new = self.unremembered.insert(key.into());
                read_colon(cursor)?;
                return if is_new { self.undeclared().map(|_| None) } else { Err(RejectReason::DuplicateKey.into()) };
            }
        };
        read_colon(cursor)?;

        match self.all.get_mut(self.previous as usize) {
            Some(previous) => previous.next = number,
            None => self.first = number,
        }
        Ok(Some(number))
    }

    /// Calls `missing` with each declared column that the object does not have.
    #[inline]
    fn for_each_missing(&self, mut missing: impl FnMut(usize) -> Result<(), Fault>) -> Result<(), Fault> {
        let declared = self.declared as usize;
        for (at, word) in self.seen.iter().enumerate().take(declared.div_ceil(64)) {
            let width = (declared - at * 64).min(64);
            let mut absent = !word & (u64::MAX >> (64 - width));
            while absent != 0 {
                missing(at * 64 + absent.trailing_zeros() as usize)?;
                absent &= absent - 1;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
