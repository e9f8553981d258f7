//! What can go wrong between Bessemer and the world.

use std::path::PathBuf;

use bessemer_schemas::{Epoch, ErrorKind, Imbalance};

/// A situation, with what a message needs to say about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An option makes no sense together with others, or with the world.
    #[error("{message}")]
    Invalid {
        /// What, on which value, and what to do.
        message: String,
    },

    /// A location cannot be read as a URL or path.
    #[error("`{location}` is no usable location: {reason}")]
    BadLocation {
        /// As written.
        location: String,
        /// Why not.
        reason: String,
    },

    /// There is nothing at a location.
    #[error("there is nothing at `{location}`")]
    NotFound {
        /// The location.
        location: String,
        /// The store's answer, if it gave one.
        #[source]
        source: Option<object_store::Error>,
    },

    /// The store refuses the credentials, or there are none.
    #[error("no permission for `{location}`: check the credentials (environment or options) and the store's policy")]
    Denied {
        /// The location.
        location: String,
        /// The store's answer.
        #[source]
        source: object_store::Error,
    },

    /// The store does not answer, or answers that it cannot.
    #[error("cannot reach `{location}`")]
    Store {
        /// The location.
        location: String,
        /// The store's answer.
        #[source]
        source: object_store::Error,
    },

    /// Local disk.
    #[error("cannot {action} `{}`", path.display())]
    Disk {
        /// `read`, `write`, `sync`, `list`.
        action: &'static str,
        /// The path.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },

    /// An object of a log changed after it was read.
    #[error(
        "`{path}` of source `{name}` changed after it was read: a log's objects are read once; \
         declare it as a TABLE, or say `on_change = 'ignore'`"
    )]
    Changed {
        /// The source.
        name: String,
        /// The object.
        path: String,
    },

    /// An object changed or went away between listing and reading.
    #[error("`{path}` of source `{name}` {what} while it was being read; run again when it is complete")]
    Unstable {
        /// The source.
        name: String,
        /// The object.
        path: String,
        /// `changed` or `disappeared`.
        what: &'static str,
    },

    /// A file is not what it claims to be.
    #[error("`{path}` is not readable as {format}, at byte {offset}: {reason}")]
    BadFile {
        /// The object.
        path: String,
        /// `Parquet`, `gzip`, …
        format: &'static str,
        /// Byte offset in the object (as stored), as near as is known.
        offset: u64,
        /// What is wrong; no value of the data.
        reason: String,
    },

    /// A file's schema does not fit the source's.
    #[error("`{path}` does not fit source `{name}`: {reason}")]
    SchemaMismatch {
        /// The source.
        name: String,
        /// The object.
        path: String,
        /// Which column, what is expected, what is there, what to do.
        reason: String,
    },

    /// Brokers do not answer, or answer that they cannot.
    #[error("cannot {action} at Kafka brokers `{brokers}`: {reason}")]
    Broker {
        /// Where they are, as written.
        brokers: String,
        /// What was asked.
        action: String,
        /// The client's words.
        reason: String,
    },

    /// Brokers refuse the credentials, or what is asked with them.
    #[error(
        "no permission to {action} at Kafka brokers `{brokers}`: {reason}; check `properties.security.protocol`, \
         `properties.sasl.*`, `properties.ssl.*` and the brokers' access lists"
    )]
    BrokerDenied {
        /// Where they are, as written.
        brokers: String,
        /// What was asked.
        action: String,
        /// The client's words.
        reason: String,
    },

    /// A topic is not there, or has no partition.
    #[error("there is no topic `{topic}` at Kafka brokers `{brokers}`")]
    TopicMissing {
        /// The topic.
        topic: String,
        /// Where the brokers are, as written.
        brokers: String,
    },

    /// A schema registry does not answer, or answers that it cannot.
    #[error("cannot {action} at schema registry `{url}`: {reason}")]
    Registry {
        /// Where it is.
        url: String,
        /// What was asked.
        action: String,
        /// What came instead of an answer.
        reason: String,
    },

    /// A schema registry refuses the credentials, or there are none.
    #[error(
        "schema registry `{url}` answers {status}: check `schema_registry_username` and `schema_registry_password`, or \
         `schema_registry_token`"
    )]
    RegistryDenied {
        /// Where it is.
        url: String,
        /// The status of HTTP.
        status: u16,
    },

    /// Records that should have been read are gone.
    #[error("partition {partition} of topic `{topic}` (source `{name}`): {reason}; {help}")]
    OffsetsLost {
        /// The source.
        name: String,
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// Which offsets, and why.
        reason: String,
        /// What to do.
        help: &'static str,
    },

    /// The circuit breaker of a source.
    #[error(transparent)]
    TooManyBad(Box<TooManyBad>),

    /// Another writer has taken the pipeline over.
    #[error(
        "another writer has taken over `{pipeline}` at epoch {epoch}; nothing of this run was committed after that"
    )]
    Fenced {
        /// The pipeline.
        pipeline: String,
        /// The epoch that is not ours.
        epoch: Epoch,
    },

    /// Another process on this machine holds the pipeline.
    #[error("`{}` is locked: another process is running this pipeline", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },

    /// A manifest from the future.
    #[error("manifest {epoch} has format version {found}, this build reads up to {supported}: use a newer Bessemer")]
    NewerManifest {
        /// The epoch.
        epoch: Epoch,
        /// Its version.
        found: u32,
        /// Ours.
        supported: u32,
    },

    /// A manifest or block that cannot be read.
    #[error("`{path}` is damaged: {reason}")]
    Damaged {
        /// The object.
        path: String,
        /// What is wrong.
        reason: String,
    },

    /// The ledger does not balance: our bug, found before the commit.
    #[error(transparent)]
    Unbalanced(#[from] Imbalance),

    /// This build lacks a feature.
    #[error("this build has no {what}: build with `--features {feature}`")]
    NotBuilt {
        /// What is missing.
        what: &'static str,
        /// The cargo feature.
        feature: &'static str,
    },

    /// Parquet writing.
    #[error("cannot write `{path}`")]
    Parquet {
        /// The file.
        path: String,
        /// The writer's answer.
        #[source]
        source: parquet::errors::ParquetError,
    },

    /// Arrow.
    #[error("unexpected failure in Arrow")]
    Arrow(#[from] arrow::error::ArrowError),

    /// Writing needs more memory than its budget.
    #[error(
        "{of} needs more memory than there is to write its open row group: lower `row_group_rows`, or allow more memory"
    )]
    MemoryExhausted {
        /// What was written.
        of: String,
        /// The pool's answer.
        #[source]
        source: Box<datafusion_common::DataFusionError>,
    },

    /// The Delta log.
    #[error("cannot publish the Delta log of `{location}`: {reason}")]
    Delta {
        /// The table.
        location: String,
        /// What is wrong.
        reason: String,
        /// Whether trying again may help.
        transient: bool,
    },

    /// DataFusion.
    #[error("unexpected failure in the engine")]
    Engine(#[from] Box<datafusion_common::DataFusionError>),

    /// Our bug.
    #[error("{message} (this is a bug of Bessemer: please report it)")]
    Internal {
        /// What should have held.
        message: String,
    },
}

/// Too many of the last records of a partition are bad.
#[derive(Debug, thiserror::Error)]
#[error(
    "too many bad records in partition {partition} of topic `{topic}` (source `{name}`): {bad} of the last {window} \
     up to offset {last}, more than {share}; from offset {first} on most are `{reason}`. Nothing of this epoch was \
     committed. If the records are right, mend the definition; else raise `bad_records_max` (1 sends them all to \
     quarantine) and run again"
)]
pub struct TooManyBad {
    /// The source.
    pub name: String,
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// Offset of the first bad record that this epoch read.
    pub first: i64,
    /// Offset of the one that is too many.
    pub last: i64,
    /// Bad records in the window.
    pub bad: u32,
    /// Records in the window.
    pub window: u32,
    /// What `bad_records_max` allows.
    pub share: String,
    /// The most frequent reason.
    pub reason: &'static str,
}

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// What the caller must do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Invalid { .. }
            | Self::BadLocation { .. }
            | Self::NotFound { .. }
            | Self::NewerManifest { .. }
            | Self::NotBuilt { .. }
            | Self::TopicMissing { .. }
            | Self::BrokerDenied { .. }
            | Self::RegistryDenied { .. }
            | Self::Denied { .. } => ErrorKind::Invalid,
            Self::Broker { .. }
            | Self::Registry { .. }
            | Self::Store { .. }
            | Self::Disk { .. }
            // Others share the memory, and give it back.
            | Self::MemoryExhausted { .. }
            | Self::Unstable { .. } => ErrorKind::Unavailable,
            Self::Delta { transient, .. } => {
                if *transient {
                    ErrorKind::Unavailable
                } else {
                    ErrorKind::Data
                }
            }
            Self::Changed { .. }
            | Self::OffsetsLost { .. }
            | Self::TooManyBad(_)
            | Self::BadFile { .. }
            | Self::SchemaMismatch { .. }
            | Self::Damaged { .. } => ErrorKind::Data,
            Self::Fenced { .. } | Self::Locked { .. } => ErrorKind::Conflict,
            Self::Unbalanced(_) | Self::Parquet { .. } | Self::Arrow(_) | Self::Engine(_) | Self::Internal { .. } => {
                ErrorKind::Internal
            }
        }
    }

    /// An answer of a store about `location`, as the situation that it is.
    pub fn store(location: impl Into<String>, source: object_store::Error) -> Self {
        let location = location.into();
        match source {
            object_store::Error::NotFound { .. } => Self::NotFound { location, source: Some(source) },
            object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
                Self::Denied { location, source }
            }
            source => match http_status(&source) {
                Some(401 | 403) => Self::Denied { location, source },
                Some(404) => Self::NotFound { location, source: Some(source) },
                _ => Self::Store { location, source },
            },
        }
    }

    /// An answer of the local file system.
    pub fn disk(action: &'static str, path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::Disk { action, path: path.into(), source }
    }
}

/// The status that a server answered with, where `object_store` wraps it in a type that cannot be named: it does so for
/// listings (`ListRequest`), so that a refused listing looks like an outage. Its text is all there is to tell; a test over
/// a real connection watches it.
fn http_status(error: &object_store::Error) -> Option<u16> {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        let text = error.to_string();
        let status = text.strip_prefix("Server returned non-2xx status code: ").and_then(|text| text.get(..3));
        if let Some(status) = status.and_then(|status| status.parse().ok()) {
            return Some(status);
        }
        cause = error.source();
    }
    None
}
