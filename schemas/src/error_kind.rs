//! What an error asks of the caller.

/// The one thing about an error that decides what happens next; nothing else may decide a retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The definition or the flags are wrong: stop and print diagnostics.
    Invalid,
    /// The world may come back: retry with bounded backoff, then stop.
    Unavailable,
    /// An expectation with `FAIL` was violated, or a file is not what it claims: stop before the commit.
    Data,
    /// Another writer owns the pipeline: stop.
    Conflict,
    /// Stopped by the user.
    Interrupted,
    /// A bug of ours: stop and ask for a report.
    Internal,
}

impl ErrorKind {
    /// The exit code of the program.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Invalid => 2,
            Self::Unavailable => 3,
            Self::Data => 4,
            Self::Conflict => 5,
            Self::Internal => 70,
            Self::Interrupted => 130,
        }
    }
}
