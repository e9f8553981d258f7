//! What one record may become: a few bytes can stand for any number of values, and each of those for many bytes, as a
//! null of a struct is one of all that is in it.

use bessemer_schemas::RejectReason;

/// Bytes that any record may become in memory: a row of sparse items is far larger than its text.
const BYTES: usize = 64 << 20;
/// Bytes that a record may become for each of its own, where that is more: what is written at all takes as few as two
/// bytes, and sixteen in memory.
const BYTES_PER_BYTE: usize = 16;
/// Values of a record for each of its bytes, and beyond them: items may take no byte at all, and a schema can double
/// itself with each of its types.
#[cfg(feature = "kafka")]
const VALUES_PER_BYTE: usize = 16;
#[cfg(feature = "kafka")]
const VALUES_MORE: usize = 1 << 16;

/// How far a record has grown beyond its bytes while it is decoded. It depends on the record and the definition alone,
/// not on the columns that are built.
#[derive(Debug, Default)]
pub(super) struct Growth {
    bytes: usize,
    bytes_max: usize,
    #[cfg(feature = "kafka")]
    values_left: usize,
}

impl Growth {
    /// Of a record of `length` bytes, of which nothing is decoded yet.
    pub(super) fn of(length: usize) -> Self {
        Self {
            bytes: 0,
            bytes_max: length.saturating_mul(BYTES_PER_BYTE).max(BYTES),
            #[cfg(feature = "kafka")]
            values_left: length.saturating_mul(VALUES_PER_BYTE).saturating_add(VALUES_MORE),
        }
    }

    /// Bytes that were appended beyond those of the record.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Counts bytes that the record itself does not have.
    #[inline]
    pub(super) fn add(&mut self, bytes: usize) -> Result<(), RejectReason> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > self.bytes_max { Err(RejectReason::DecodedTooLarge) } else { Ok(()) }
    }

    /// Counts a value, whatever it takes.
    #[cfg(feature = "kafka")]
    #[inline]
    pub(super) fn add_value(&mut self) -> Result<(), RejectReason> {
        self.values_left = self.values_left.checked_sub(1).ok_or(RejectReason::DecodedTooLarge)?;
        Ok(())
    }
}
