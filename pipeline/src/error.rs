//! What can end a command, and with which exit code.

use std::path::PathBuf;

use bessemer_schemas::{Diagnostic, ErrorKind, Failure, SourceFiles};
use datafusion::arrow::error::ArrowError;

/// A situation that ends a command.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum Error {
    /// The pipeline's text is wrong.
    #[error("the pipeline has errors")]
    Definition {
        /// The text.
        files: SourceFiles,
        /// What is wrong with it.
        diagnostics: Vec<Diagnostic>,
    },

    /// A pipeline file cannot be read.
    #[error("cannot read `{}`", path.display())]
    Unreadable {
        /// The path.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },

    /// A folder without pipeline files.
    #[error("there is no `.sql` file in `{}`: name a pipeline file, or a folder that has one", path.display())]
    NoPipeline {
        /// The folder.
        path: PathBuf,
    },

    /// The definition changed in a way that the committed rows cannot follow.
    #[error(
        "the definition changed since epoch {epoch} in a way that its committed rows cannot follow:\n{changes}\n\
         To start anew, give the pipeline another name or `state`, and its feature sets another `path`; \
         or undo the change"
    )]
    Incompatible {
        /// The last epoch.
        epoch: u64,
        /// A line for each difference.
        changes: String,
    },

    /// A set that was added to a pipeline that has already read rows.
    #[error(
        "feature set `{set}` is new, but epochs up to {epoch} have already read its source; \
         run with `--from now` to leave those rows out, or start anew with another pipeline name"
    )]
    NeedsStart {
        /// The set.
        set: String,
        /// The last epoch.
        epoch: u64,
    },

    /// An expectation with `FAIL` was violated; the epoch was not committed.
    #[error(
        "expectation `{}` of feature set `{}` failed: {}; nothing of this epoch was committed",
        failure.expectation, failure.set, violations_text(failure)
    )]
    Failed {
        /// What failed.
        failure: Box<Failure>,
    },

    /// A name that the pipeline does not have.
    #[error("{message}")]
    Unknown {
        /// What, and what there is.
        message: String,
    },

    /// Nothing was ever committed.
    #[error("pipeline `{pipeline}` has no epoch yet: `bessemer run` makes the first")]
    NoEpoch {
        /// The pipeline.
        pipeline: String,
    },

    /// The user stopped it.
    #[error("interrupted: {what}")]
    Interrupted {
        /// What was done with the epoch.
        what: String,
    },

    /// A source, sink or the manifest store.
    #[error(transparent)]
    Connector(#[from] bessemer_connectors::Error),

    /// Planning or running a query.
    #[error(transparent)]
    Transform(#[from] bessemer_transforms::Error),

    /// Writing to the terminal.
    #[error("cannot write the answer")]
    Output(#[from] std::io::Error),

    /// Our bug.
    #[error("{message} (this is a bug of Bessemer: please report it)")]
    Internal {
        /// What should have held.
        message: String,
    },
}

/// Result of this crate.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// What the caller must do.
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::Definition { .. }
            | Self::Unreadable { .. }
            | Self::NoPipeline { .. }
            | Self::Incompatible { .. }
            | Self::NeedsStart { .. }
            | Self::Unknown { .. }
            | Self::NoEpoch { .. } => ErrorKind::Invalid,
            Self::Failed { .. } => ErrorKind::Data,
            Self::Interrupted { .. } => ErrorKind::Interrupted,
            Self::Connector(error) => error.kind(),
            Self::Transform(error) => error.kind(),
            Self::Output(_) => ErrorKind::Unavailable,
            Self::Internal { .. } => ErrorKind::Internal,
        }
    }

    /// An error of the engine while a plan runs: our own errors travel inside DataFusion's and are taken out again.
    pub(crate) fn engine(error: datafusion::error::DataFusionError) -> Self {
        match error.find_root_owned() {
            Ok(connector) => Self::Connector(connector),
            Err(error) => Self::Transform(bessemer_transforms::Error::from_engine("the query", error)),
        }
    }
}

/// Takes a connector's error out of the layers that DataFusion wrapped around it.
trait FindRoot {
    fn find_root_owned(self) -> Result<bessemer_connectors::Error, datafusion::error::DataFusionError>;
}

impl FindRoot for datafusion::error::DataFusionError {
    fn find_root_owned(self) -> Result<bessemer_connectors::Error, Self> {
        match self {
            Self::External(inner) => match inner.downcast::<bessemer_connectors::Error>() {
                Ok(error) => Ok(*error),
                Err(inner) => match inner.downcast::<Self>() {
                    Ok(error) => error.find_root_owned(),
                    Err(inner) => Err(Self::External(inner)),
                },
            },
            Self::Context(context, inner) => {
                inner.find_root_owned().map_err(|inner| Self::Context(context, Box::new(inner)))
            }
            Self::ArrowError(error, backtrace) => match *error {
                ArrowError::ExternalError(inner) => Self::External(inner).find_root_owned(),
                error => Err(Self::ArrowError(Box::new(error), backtrace)),
            },
            other => Err(other),
        }
    }
}

fn violations_text(failure: &Failure) -> String {
    match failure.violations {
        0 => "its aggregate does not hold".to_owned(),
        1 => "1 row breaks it".to_owned(),
        rows => format!("{rows} rows break it"),
    }
}
