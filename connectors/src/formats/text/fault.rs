//! What can be wrong with a record, and with a whole object.

use bessemer_schemas::RejectReason;

use crate::Error;

/// Number of a declared column, nested ones included, for naming it in a reject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::formats) struct ColumnNumber(pub(in crate::formats) u32);

/// Why a record is rejected, and for which column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::formats) struct Fault {
    pub(in crate::formats) reason: RejectReason,
    pub(in crate::formats) column: Option<ColumnNumber>,
}

impl From<RejectReason> for Fault {
    fn from(reason: RejectReason) -> Self {
        Self { reason, column: None }
    }
}

impl Fault {
    /// Names the column, unless a nested one is named already or the record as a whole is at fault.
    pub(in crate::formats) fn at(self, column: ColumnNumber) -> Self {
        match self.reason {
            RejectReason::InvalidJson
            | RejectReason::InvalidAvro
            | RejectReason::InvalidProtobuf
            | RejectReason::DuplicateKey
            | RejectReason::UnknownField => self,
            _ => Self { reason: self.reason, column: self.column.or(Some(column)) },
        }
    }
}

/// Why a whole object cannot be decoded. The decoder does not know the object's name: [`FileFault::into_error`] adds it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FileFault {
    /// It is not what it claims to be.
    #[error("the object is not readable at byte {offset}: {reason}")]
    Unreadable {
        /// Offset in the decompressed object.
        offset: u64,
        /// What is wrong; no value of the data.
        reason: String,
    },
    /// Its header does not fit the declared columns.
    #[error("the object does not fit: {reason}")]
    Mismatch {
        /// Which column, what is there, what to do.
        reason: String,
    },
    /// Our bug.
    #[error("{message} (this is a bug of Bessemer: please report it)")]
    Internal {
        /// What should have held.
        message: String,
    },
}

impl FileFault {
    /// The error about object `path` of `source`, whose format has the name `format` (`CSV`).
    pub fn into_error(self, source: &str, path: &str, format: &'static str) -> Error {
        match self {
            Self::Unreadable { offset, reason } => Error::BadFile { path: path.to_owned(), format, offset, reason },
            Self::Mismatch { reason } => {
                Error::SchemaMismatch { name: source.to_owned(), path: path.to_owned(), reason }
            }
            Self::Internal { message } => Error::Internal { message },
        }
    }
}

impl From<arrow::error::ArrowError> for FileFault {
    fn from(error: arrow::error::ArrowError) -> Self {
        // Arrow refuses arrays that do not fit together: we built them, so it is ours to explain.
        Self::Internal { message: format!("a decoded batch is not well formed: {error}") }
    }
}
