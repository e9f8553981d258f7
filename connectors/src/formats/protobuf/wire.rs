//! The wire format: tags and values (Protocol Buffers documentation, "Encoding").

use bessemer_schemas::RejectReason;

const INVALID: RejectReason = RejectReason::InvalidProtobuf;

/// Groups within one another, at most.
const GROUPS_MAX: usize = 100;

/// A value as it is written. What has a length is where it is in the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Raw {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Bytes { start: usize, end: usize },
}

/// How a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WireType {
    Varint,
    Fixed64,
    Bytes,
    Fixed32,
}

impl Raw {
    pub(super) fn wire_type(self) -> WireType {
        match self {
            Self::Varint(_) => WireType::Varint,
            Self::Fixed64(_) => WireType::Fixed64,
            Self::Fixed32(_) => WireType::Fixed32,
            Self::Bytes { .. } => WireType::Bytes,
        }
    }
}

/// A part of a record that is read front to back.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wire<'a> {
    bytes: &'a [u8],
    at: usize,
    end: usize,
}

impl<'a> Wire<'a> {
    /// `bytes[at..end]`.
    pub(super) fn new(bytes: &'a [u8], at: usize, end: usize) -> Self {
        Self { bytes, at, end: end.min(bytes.len()) }
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.at >= self.end
    }

    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// The next field: its number and value; without one where it was a group, which is passed over.
    #[inline]
    pub(super) fn field(&mut self) -> Result<(u32, Option<Raw>), RejectReason> {
        let (number, kind) = self.tag()?;
        match kind {
            3 => self.skip_group(number).map(|()| (number, None)),
            kind => Ok((number, Some(self.value(kind)?))),
        }
    }

    /// A value of a repeated field that is packed.
    pub(super) fn packed(&mut self, wire_type: WireType) -> Result<Raw, RejectReason> {
        match wire_type {
            WireType::Varint => self.value(0),
            WireType::Fixed64 => self.value(1),
            WireType::Fixed32 => self.value(5),
            WireType::Bytes => Err(INVALID),
        }
    }

    /// A number of variable length: at most ten bytes, of the last of which one bit counts.
    #[inline]
    pub(super) fn varint(&mut self) -> Result<u64, RejectReason> {
        let mut number = 0_u64;
        for (at, byte) in self.bytes.get(self.at..self.end).unwrap_or_default().iter().enumerate().take(10) {
            if at == 9 && *byte > 1 {
                break;
            }
            number |= u64::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                self.at += at + 1;
                return Ok(number);
            }
        }
        Err(INVALID)
    }

    fn tag(&mut self) -> Result<(u32, u64), RejectReason> {
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).ok().filter(|number| (1..1 << 29).contains(number));
        Ok((number.ok_or(INVALID)?, tag & 7))
    }

    fn value(&mut self, kind: u64) -> Result<Raw, RejectReason> {
        Ok(match kind {
            0 => Raw::Varint(self.varint()?),
            1 => Raw::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| INVALID)?;
                let start = self.at;
                let end = start.checked_add(length).filter(|end| *end <= self.end).ok_or(INVALID)?;
                self.at = end;
                Raw::Bytes { start, end }
            }
            5 => Raw::Fixed32(u32::from_le_bytes(self.array()?)),
            _ => return Err(INVALID),
        })
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], RejectReason> {
        let rest = self.bytes.get(self.at..self.end).unwrap_or_default();
        let found = rest.first_chunk::<N>().ok_or(INVALID)?;
        self.at += N;
        Ok(*found)
    }

    fn skip_group(&mut self, number: u32) -> Result<(), RejectReason> {
        let mut open = vec![number];
        while let Some(inner) = open.last().copied() {
            match self.tag()? {
                (number, 3) if open.len() < GROUPS_MAX => open.push(number),
                (number, 4) if number == inner => drop(open.pop()),
                (_, kind) => drop(self.value(kind)?),
            }
        }
        Ok(())
    }
}
