//! What can end a command, and with which exit code.

use std::fmt;
use std::path::PathBuf;

use bessemer_schemas::{Diagnostic, Epoch, ErrorKind, Failure, OffsetRange, SourceFiles};

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

    /// The HTTP server cannot listen where it is asked to.
    #[error("cannot listen at `{address}`: {}", listen_help(source))]
    Listen {
        /// The address.
        address: String,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },

    /// A path at which there is no pipeline file.
    #[error("{what}: name a pipeline file, or a folder that has one{hint}")]
    NoPipeline {
        /// What there is not.
        what: String,
        /// Which one may be meant, as the end of a sentence.
        hint: String,
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

    /// The definition changed, and the committed rows stay as the old one made them.
    #[error(
        "the definition changed since epoch {epoch}:\n{changes}\n\
         The committed rows stay as they are: with `--from now` those to come are made under the new definition; \
         or undo the change"
    )]
    Redefined {
        /// The last epoch.
        epoch: u64,
        /// A line for each difference.
        changes: String,
    },

    /// A set over everything of a source of which not everything is there as it was read.
    #[error(
        "feature set `{set}` is computed over everything read so far, and source `{name}` would not be read again as it \
         was: some of its records were replayed, or decoded under another definition; start a new pipeline for the set"
    )]
    NotWhole {
        /// The set.
        set: String,
        /// The source.
        name: String,
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

    /// Something came of a source that was said to be at its end.
    #[error(
        "source `{name}` has more input, but `run --final` has closed its windows for good: what comes now could be in none \
         of them. To start anew, give the pipeline another name or `state`, and its feature sets another `path`"
    )]
    Final {
        /// The source.
        name: String,
    },

    /// What is kept for rows that are not final yet is not what was written.
    #[error(
        "what feature set `{set}` has kept for rows to come is lost: {why}. Its committed rows are not concerned. \
         `bessemer state --rebuild` makes it anew from what its epochs have read"
    )]
    StateLost {
        /// The set.
        set: String,
        /// What is wrong.
        why: String,
    },

    /// Not everything is there any more that a state was made of.
    #[error(
        "what feature set `{set}` has kept for rows to come cannot be made anew: {why}. Bring that back as it was; or give \
         the set another name and `path` and run with `--from now`, which begins it anew"
    )]
    NotRebuilt {
        /// The set.
        set: String,
        /// What is missing.
        why: String,
    },

    /// Quarantined records that no replay can bring back.
    #[error("quarantined records of source `{name}` cannot be replayed: {reason}")]
    ReplayRefused {
        /// The source.
        name: String,
        /// Why not, and what to do.
        reason: String,
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

    /// Committed rows are not those that their slices make.
    #[error("{what} not what the same epoch makes of its slice now: see above")]
    Differs {
        /// How many sets of epochs.
        what: String,
    },

    /// The user stopped it.
    #[error("interrupted: {what}")]
    Interrupted {
        /// What was done with the epoch.
        what: String,
    },

    /// Whether an epoch was committed is not known, so it must not be made again.
    #[error(
        "the store did not say whether epoch {epoch} was committed: run again, which finds out and reads nothing twice"
    )]
    Unresolved {
        /// The epoch.
        epoch: Epoch,
        /// The last answer.
        #[source]
        source: bessemer_connectors::Error,
    },

    /// An object that a snapshot set needs again is no longer what it was when it was read.
    #[error(
        "`{path}` of source `{name}` {what} after an earlier epoch had read it, and feature set `{set}` is computed \
         from everything read so far: put the object back as it was, or declare `{name}` as a TABLE, \
         whose content may change"
    )]
    ReadBefore {
        /// The source.
        name: String,
        /// The object.
        path: String,
        /// `changed` or `disappeared`.
        what: &'static str,
        /// The feature set.
        set: String,
    },

    /// Records went while an epoch read them.
    #[error(transparent)]
    Forgotten(Box<Forgotten>),

    /// A source, sink or the manifest store.
    #[error(transparent)]
    Connector(#[from] bessemer_connectors::Error),

    /// The same, passed on by the engine.
    #[error(transparent)]
    Carried(Carried),

    /// Planning or running a query.
    #[error(transparent)]
    Transform(bessemer_transforms::Error),

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

/// Two scans of one range of offsets found different numbers of records.
#[derive(Debug, thiserror::Error)]
#[error(
    "partition {} of topic `{}` (source `{name}`): of the offsets {} to {} one scan found {} records and another {}, \
     because the topic deleted or compacted some meanwhile; nothing of this epoch was committed. Run again, which takes \
     what is there; if it happens often, let the topic keep its records longer",
    range.partition, range.topic, range.start, range.end - 1, records.0, records.1
)]
pub(crate) struct Forgotten {
    /// The source.
    pub(crate) name: String,
    /// The offsets.
    pub(crate) range: OffsetRange,
    /// What the first scan found, and a later one.
    pub(crate) records: (u64, u64),
}

/// Result of this crate.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// What the caller must do.
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::Definition { .. }
            | Self::Unreadable { .. }
            | Self::Listen { .. }
            | Self::NoPipeline { .. }
            | Self::Incompatible { .. }
            | Self::Redefined { .. }
            | Self::NotWhole { .. }
            | Self::NeedsStart { .. }
            | Self::Final { .. }
            | Self::ReplayRefused { .. }
            | Self::Unknown { .. }
            | Self::NoEpoch { .. } => ErrorKind::Invalid,
            Self::Failed { .. }
            | Self::StateLost { .. }
            | Self::NotRebuilt { .. }
            | Self::ReadBefore { .. }
            | Self::Differs { .. } => ErrorKind::Data,
            Self::Unresolved { .. } | Self::Forgotten(_) => ErrorKind::Unavailable,
            Self::Interrupted { .. } => ErrorKind::Interrupted,
            Self::Connector(error) => error.kind(),
            Self::Carried(carried) => carried.kind(),
            Self::Transform(error) => error.kind(),
            Self::Output(_) => ErrorKind::Unavailable,
            Self::Internal { .. } => ErrorKind::Internal,
        }
    }

    /// What it is, with its causes, on one line.
    pub(crate) fn brief(&self) -> String {
        let text = match self {
            Self::Definition { files, diagnostics } => {
                let mut wrong = diagnostics.iter().filter(|diagnostic| diagnostic.is_error());
                let first = wrong.next().map_or_else(String::new, |first| match first.span {
                    Some(span) => {
                        let path = files.file(span.file).map_or("", |file| &file.path);
                        format!("{path}:{}: {}", span.start.line, first.message)
                    }
                    None => first.message.clone(),
                });
                match wrong.count() {
                    0 => first,
                    more => format!("{first} (and {more} more)"),
                }
            }
            other => crate::load::error_chain(other),
        };
        text.replace('\n', " ")
    }

    /// An error of the engine while a plan runs: our own errors travel inside DataFusion's and are found there.
    pub(crate) fn engine(error: datafusion::error::DataFusionError) -> Self {
        match Carried::new(error) {
            Ok(carried) => Self::Carried(carried),
            Err(error) => Self::Transform(bessemer_transforms::Error::from_engine("the query", error)),
        }
    }

    /// What a source, sink or the manifest store said, whoever passed it on.
    pub(crate) fn connector(&self) -> Option<&bessemer_connectors::Error> {
        match self {
            Self::Connector(error) | Self::Unresolved { source: error, .. } => Some(error),
            Self::Carried(carried) => carried.connector(),
            _ => None,
        }
    }
}

impl From<bessemer_transforms::Error> for Error {
    fn from(error: bessemer_transforms::Error) -> Self {
        match Carried::new(error) {
            Ok(carried) => Self::Carried(carried),
            Err(error) => Self::Transform(error),
        }
    }
}

/// A connector's error inside those of the engine, which may be shared by several partitions of a plan, so that it cannot
/// be taken out.
#[derive(Debug)]
pub(crate) struct Carried(Box<dyn std::error::Error + Send + Sync>);

impl Carried {
    fn new<E: std::error::Error + Send + Sync + 'static>(carrier: E) -> Result<Self, E> {
        if connector_in(&carrier).is_some() { Ok(Self(Box::new(carrier))) } else { Err(carrier) }
    }

    fn connector(&self) -> Option<&bessemer_connectors::Error> {
        connector_in(&*self.0)
    }

    fn kind(&self) -> ErrorKind {
        self.connector().map_or(ErrorKind::Internal, bessemer_connectors::Error::kind)
    }
}

/// Says what the connector said, and nothing of the way that it came.
impl fmt::Display for Carried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.connector() {
            Some(error) => error.fmt(f),
            None => self.0.fmt(f),
        }
    }
}

impl std::error::Error for Carried {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.connector().and_then(std::error::Error::source)
    }
}

/// The first error of a connector in a chain of causes.
fn connector_in<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a bessemer_connectors::Error> {
    std::iter::successors(Some(error), |error| error.source()).find_map(|error| error.downcast_ref())
}

fn listen_help(source: &std::io::Error) -> &'static str {
    match source.kind() {
        std::io::ErrorKind::AddrInUse => "the port is in use: stop what has it, or name another one with `--listen`",
        std::io::ErrorKind::PermissionDenied => "ports below 1024 need permission: name a higher one",
        std::io::ErrorKind::AddrNotAvailable => "that is no address of this machine",
        _ => "say a host and a port, as in `--listen 127.0.0.1:9464`",
    }
}

fn violations_text(failure: &Failure) -> String {
    match failure.violations {
        0 => "its aggregate does not hold".to_owned(),
        1 => "1 row breaks it".to_owned(),
        rows => format!("{rows} rows break it"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::error::ArrowError;
    use datafusion::error::DataFusionError;

    use super::*;

    fn unstable() -> DataFusionError {
        let (name, path) = ("flights".to_owned(), "a.csv".to_owned());
        DataFusionError::External(Box::new(bessemer_connectors::Error::Unstable { name, path, what: "changed" }))
    }

    #[test]
    fn a_connectors_error_is_found_in_whatever_the_engine_wrapped_around_it() {
        let shared = || DataFusionError::Shared(Arc::new(unstable()));
        let kept = Arc::new(unstable());
        let arrow = ArrowError::ExternalError(Box::new(shared()));
        let wrapped = [
            unstable(),
            shared(),
            DataFusionError::Shared(Arc::clone(&kept)),
            shared().context("joining"),
            DataFusionError::ArrowError(Box::new(arrow), None),
            DataFusionError::External(Box::new(shared())),
        ];
        for error in wrapped {
            let text = error.to_string();
            let error = Error::engine(error);
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{text}");
            assert!(error.to_string().starts_with("`a.csv` of source `flights` changed"), "{error}");
            assert!(matches!(error.connector(), Some(bessemer_connectors::Error::Unstable { .. })));
        }
        drop(kept);
    }

    #[test]
    fn what_the_engine_says_itself_is_not_taken_for_a_connectors() {
        let error = Error::engine(DataFusionError::Internal("no".to_owned()));
        assert!(matches!(error, Error::Transform(_)) && error.connector().is_none());
    }
}
