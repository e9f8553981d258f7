//! The envelope in which Debezium writes a change of a row: what happened, the row before and after it, and where.
//!
//! With or without the schema that Kafka Connect puts around it (`{"schema": …, "payload": {…}}`).

use bessemer_schemas::RejectReason;

use super::number::Number;
use super::scan::{Cursor, Keys};

/// What happened to a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    Create,
    /// It was there when the connector began.
    Read,
    Update,
    Delete,
    /// Of the whole table, or a message that is about no table.
    OfNoRow,
}

/// A change of one row.
#[derive(Debug)]
pub(super) struct Change<'a> {
    /// `c`, `r`, `u` or `d`.
    pub(super) operation: &'static str,
    /// The row as it was written; of a delete, as it was before.
    pub(super) image: &'a [u8],
    /// When the database made the change, in milliseconds since 1970.
    pub(super) source_millis: Option<Number<'a>>,
}

/// What the members of an envelope hold.
#[derive(Debug, Default)]
struct Envelope<'a> {
    operation: Option<Operation>,
    before: Option<&'a [u8]>,
    after: Option<&'a [u8]>,
    source_millis: Option<Number<'a>>,
}

/// A member that means something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Member {
    Operation,
    Before,
    After,
    Source,
    Payload,
    Millis,
}

type Result<T> = std::result::Result<T, RejectReason>;

const INVALID: RejectReason = RejectReason::InvalidJson;

impl<'a> Change<'a> {
    /// Reads a record.
    pub(super) fn read(record: &'a [u8], keys: &mut Keys) -> Result<Self> {
        let mut cursor = Cursor::new(record);
        let mut envelope = Envelope::default();
        cursor.skip_blanks();
        members(&mut cursor, keys, |member, cursor, keys| match member {
            Member::Payload if cursor.peek() == b'{' => {
                members(cursor, keys, |member, cursor, keys| envelope.take(member, cursor, keys))
            }
            member => envelope.take(member, cursor, keys),
        })?;
        cursor.skip_blanks();
        if !cursor.is_at_end() {
            return Err(INVALID);
        }
        envelope.into_change()
    }
}

impl<'a> Envelope<'a> {
    fn take(&mut self, member: Member, cursor: &mut Cursor<'a>, keys: &mut Keys) -> Result<()> {
        match member {
            Member::Operation => {
                self.operation = Some(match cursor.string(&mut Vec::new()).ok_or(RejectReason::InvalidEnvelope)? {
                    b"c" => Operation::Create,
                    b"r" => Operation::Read,
                    b"u" => Operation::Update,
                    b"d" => Operation::Delete,
                    b"t" | b"m" => Operation::OfNoRow,
                    _ => return Err(RejectReason::InvalidEnvelope),
                });
            }
            Member::Before => self.before = image(cursor, keys)?,
            Member::After => self.after = image(cursor, keys)?,
            Member::Source if cursor.peek() == b'{' => {
                members(cursor, keys, |member, cursor, keys| match member {
                    Member::Millis if matches!(cursor.peek(), b'-' | b'0'..=b'9') => {
                        self.source_millis = Some(cursor.number().ok_or(INVALID)?);
                        Ok(())
                    }
                    _ => skip(cursor, keys),
                })?;
            }
            Member::Source | Member::Payload | Member::Millis => skip(cursor, keys)?,
        }
        Ok(())
    }

    fn into_change(self) -> Result<Change<'a>> {
        let (operation, image) = match self.operation.ok_or(RejectReason::InvalidEnvelope)? {
            Operation::Create => ("c", self.after),
            Operation::Read => ("r", self.after),
            Operation::Update => ("u", self.after),
            Operation::Delete => ("d", self.before),
            Operation::OfNoRow => ("", None),
        };
        let image = image.ok_or(RejectReason::NoRowImage)?;
        Ok(Change { operation, image, source_millis: self.source_millis })
    }
}

/// Gives each member of the object at the cursor that means something to `take`, with the cursor at its value.
fn members<'a>(
    cursor: &mut Cursor<'a>,
    keys: &mut Keys,
    mut take: impl FnMut(Member, &mut Cursor<'a>, &mut Keys) -> Result<()>,
) -> Result<()> {
    if !cursor.eat(b'{') {
        return Err(INVALID);
    }
    let (mut scratch, mut seen) = (Vec::new(), Vec::new());
    cursor.skip_blanks();
    if cursor.eat(b'}') {
        return Ok(());
    }
    loop {
        cursor.skip_blanks();
        let member = match cursor.string(&mut scratch).ok_or(INVALID)? {
            b"op" => Some(Member::Operation),
            b"before" => Some(Member::Before),
            b"after" => Some(Member::After),
            b"source" => Some(Member::Source),
            b"payload" => Some(Member::Payload),
            b"ts_ms" => Some(Member::Millis),
            _ => None,
        };
        cursor.skip_blanks();
        if !cursor.eat(b':') {
            return Err(INVALID);
        }
        cursor.skip_blanks();
        match member {
            Some(member) if seen.contains(&member) => return Err(RejectReason::DuplicateKey),
            Some(member) => {
                seen.push(member);
                take(member, cursor, keys)?;
            }
            None => skip(cursor, keys)?,
        }
        cursor.skip_blanks();
        if cursor.eat(b'}') {
            return Ok(());
        }
        if !cursor.eat(b',') {
            return Err(INVALID);
        }
    }
}

fn skip(cursor: &mut Cursor<'_>, keys: &mut Keys) -> Result<()> {
    // An envelope is three objects deep at most.
    cursor.skip_value(3, keys).ok_or(INVALID)?;
    if keys.has_duplicate() { Err(RejectReason::DuplicateKey) } else { Ok(()) }
}

/// The text of a row; none if it is null.
fn image<'a>(cursor: &mut Cursor<'a>, keys: &mut Keys) -> Result<Option<&'a [u8]>> {
    let start = cursor.position();
    let is_null = cursor.peek() == b'n';
    skip(cursor, keys)?;
    Ok((!is_null).then(|| cursor.since(start)))
}

#[cfg(test)]
mod tests;
