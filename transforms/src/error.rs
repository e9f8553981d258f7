//! What can go wrong while a query runs. What is wrong with a query as written is a `Diagnostic`, not an error.

use bessemer_schemas::ErrorKind;
use datafusion::error::DataFusionError;

/// A situation, with what a message needs to say about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A query needs more memory, or more disk for spilling, than it may use.
    #[error("{of} needs more memory than it may use; raise `memory` or `spill_bytes_max`, or read less in one epoch")]
    OutOfMemory {
        /// ``feature set `delays` ``, or what else ran.
        of: String,
        /// The engine's account of who holds what.
        #[source]
        source: DataFusionError,
    },

    /// A value that the query cannot work with: a division by zero, a text that is no number.
    #[error("{of} met a value that its query cannot compute with")]
    Compute {
        /// What ran.
        of: String,
        /// The engine's words.
        #[source]
        source: DataFusionError,
    },

    /// The engine failed where the definition was found to be right, or passed on what a scan said.
    #[error("{of} could not be computed")]
    Engine {
        /// What ran.
        of: String,
        /// The engine's words; the connector's own error is found in its chain.
        #[source]
        source: DataFusionError,
    },

    /// There is nothing of this name to show.
    #[error("there is no source, view or feature set `{name}`{}", hint.as_ref().map_or_else(String::new, |hint| format!("; did you mean `{hint}`?")))]
    UnknownName {
        /// As given.
        name: String,
        /// The nearest name.
        hint: Option<String>,
    },
}

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// The situation behind an error of the engine, met while computing `of`.
    pub fn from_engine(of: impl Into<String>, source: DataFusionError) -> Self {
        let of = of.into();
        match source.find_root() {
            DataFusionError::ResourcesExhausted(_) => Self::OutOfMemory { of, source },
            DataFusionError::ArrowError(..) | DataFusionError::Execution(_) => Self::Compute { of, source },
            _ => Self::Engine { of, source },
        }
    }

    /// What the caller must do. An error of a connector that came through the engine has its own kind: look for it
    /// in the chain of sources first.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::OutOfMemory { .. } => ErrorKind::Unavailable,
            Self::Compute { .. } => ErrorKind::Data,
            Self::Engine { .. } => ErrorKind::Internal,
            Self::UnknownName { .. } => ErrorKind::Invalid,
        }
    }
}
