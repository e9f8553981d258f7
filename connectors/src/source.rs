//! A source of any connector: the one list of them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::ArrayRef;
use arrow_schema::{Field, Schema, SchemaRef};
#[cfg(feature = "kafka")]
use bessemer_schemas::OffsetRange;
use bessemer_schemas::{Diagnostic, OptionMap, SourceDefinition, SourceKind, Span, nearest};
use datafusion_catalog::TableProvider;

use crate::default_value::default_value;
#[cfg(feature = "kafka")]
use crate::kafka::{Backlog, KafkaSource, KafkaSourceOptions};
use crate::object_store::{ObjectSource, ObjectSourceOptions};
use crate::scan::Lateness;
use crate::{Error, Location, Result};

/// Options of a source, by its connector.
#[derive(Debug, Clone)]
pub enum SourceOptions {
    /// Connector `object_store`.
    Objects(Box<ObjectSourceOptions>),
    /// Connector `kafka`.
    #[cfg(feature = "kafka")]
    Kafka(Box<KafkaSourceOptions>),
}

/// A source that is open.
#[derive(Debug, Clone)]
pub enum Source {
    /// Objects of a store.
    Objects(Arc<ObjectSource>),
    /// Topics of Kafka.
    #[cfg(feature = "kafka")]
    Kafka(Arc<KafkaSource>),
    /// A log of offsets that was made elsewhere.
    #[cfg(feature = "kafka")]
    Log(Arc<dyn OffsetLog>),
}

/// A log of offsets that is made elsewhere, as the store of [`crate::Location::in_store`] is: in memory, by a script.
#[cfg(feature = "kafka")]
#[async_trait::async_trait]
pub trait OffsetLog: std::fmt::Debug + Send + Sync {
    /// Its name.
    fn name(&self) -> &str;
    /// Its columns.
    fn schema(&self) -> &SchemaRef;
    /// The log as a table of DataFusion, with row identity as its last column or without. What it reads comes from the
    /// session's [`crate::scan::EpochScans`], which it reports to.
    fn table_provider(&self, with_origin: bool) -> Arc<dyn TableProvider>;
    /// What is there beyond `read`: the offsets that were read so far.
    async fn backlog(&self, read: Vec<OffsetRange>) -> Result<Backlog>;
    /// When a row is late and what becomes of it then; `None` where none is.
    fn lateness(&self) -> Option<Lateness> {
        None
    }
    /// How long a partition has nothing to read before it is idle; `None` where it never is.
    fn idle_timeout(&self) -> Option<Duration> {
        None
    }
    /// How far a partition may be ahead of others in event time and still be read; `None`: however far.
    fn max_skew(&self) -> Option<Duration> {
        None
    }
    /// Learns what was committed. Nothing depends on it.
    async fn acknowledge(&self, read: Vec<OffsetRange>) -> Result<()>;
}

/// Names of connectors that people try, with what to write instead.
const ALIASES: &[(&[&str], &str)] = &[
    (
        &["filesystem", "file", "files", "local", "s3", "gcs", "azure", "http", "bucket"],
        "write `'object_store'`: it reads local paths, `s3://`, `gs://`, `az://` and `https://`",
    ),
    (&["upsert-kafka", "kafka_source", "redpanda", "confluent"], "write `'kafka'`"),
];

impl SourceOptions {
    /// Takes the options out of `source`, as its `connector` (by default `object_store`) understands them. Relative paths
    /// are relative to `base`. Options are there if no diagnostic is an error.
    pub fn parse(source: &mut SourceDefinition, base: &Path) -> (Option<Self>, Vec<Diagnostic>) {
        let connector = source.options.entries().iter().find(|entry| entry.key == "connector");
        let name = connector.map_or_else(|| "object_store".to_owned(), |entry| entry.value.to_string().to_lowercase());
        match name.as_str() {
            "object_store" => {
                let (options, diagnostics) = ObjectSourceOptions::parse(source, base);
                (options.map(|options| Self::Objects(Box::new(options))), diagnostics)
            }
            #[cfg(feature = "kafka")]
            "kafka" => {
                let (options, diagnostics) = KafkaSourceOptions::parse(source, base);
                (options.map(|options| Self::Kafka(Box::new(options))), diagnostics)
            }
            _ => {
                let span = connector.map_or(source.name.span, |entry| entry.value_span);
                (None, vec![unknown_connector(&name, source.options.owner(), span)])
            }
        }
    }
}

fn unknown_connector(name: &str, owner: &str, span: Span) -> Diagnostic {
    if cfg!(not(feature = "kafka")) && name == "kafka" {
        let error = Error::NotBuilt { what: "Kafka", feature: "kafka" };
        return Diagnostic::error(error.to_string(), span).with_help("read files, or use a build with Kafka");
    }
    let alias = ALIASES.iter().find(|(aliases, _)| aliases.contains(&name)).map(|(_, help)| (*help).to_owned());
    let near = || nearest(name, ["object_store", "kafka"]).map(|near| format!("did you mean `'{near}'`?"));
    let help = alias.or_else(near).unwrap_or_else(|| "the connectors are `'object_store'` and `'kafka'`".to_owned());
    Diagnostic::error(format!("unknown connector `{name}` for {owner}"), span).with_help(help)
}

impl Source {
    /// Opens a source. Touches the world only where columns have to be inferred. What a schema registry says is kept below
    /// `state`, the pipeline's.
    #[cfg_attr(not(feature = "kafka"), expect(unused_variables, reason = "only topics have schemas to keep"))]
    pub async fn open(definition: &SourceDefinition, options: SourceOptions, state: Option<&Location>) -> Result<Self> {
        Ok(match options {
            SourceOptions::Objects(options) => Self::Objects(ObjectSource::open(definition, *options).await?),
            #[cfg(feature = "kafka")]
            SourceOptions::Kafka(options) => Self::Kafka(KafkaSource::open(definition, *options, state).await?),
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            Self::Objects(source) => source.name(),
            #[cfg(feature = "kafka")]
            Self::Kafka(source) => source.name(),
            #[cfg(feature = "kafka")]
            Self::Log(log) => log.name(),
        }
    }

    /// Log or table.
    pub fn kind(&self) -> SourceKind {
        match self {
            Self::Objects(source) => source.kind(),
            #[cfg(feature = "kafka")]
            Self::Kafka(_) | Self::Log(_) => SourceKind::Log,
        }
    }

    /// The declared columns (without generated ones), then the INCLUDE columns.
    pub fn schema(&self) -> &SchemaRef {
        match self {
            Self::Objects(source) => source.schema(),
            #[cfg(feature = "kafka")]
            Self::Kafka(source) => source.schema(),
            #[cfg(feature = "kafka")]
            Self::Log(log) => log.schema(),
        }
    }

    /// The source as a table of DataFusion. What it reads comes from the session's [`crate::scan::EpochScans`].
    pub fn table_provider(&self, with_origin: bool) -> Arc<dyn TableProvider> {
        match self {
            Self::Objects(source) => source.table_provider(with_origin),
            #[cfg(feature = "kafka")]
            Self::Kafka(source) => source.table_provider(with_origin),
            #[cfg(feature = "kafka")]
            Self::Log(log) => log.table_provider(with_origin),
        }
    }

    /// Why its quarantined records cannot be decoded again; nothing where they can.
    pub fn replay_refusal(&self) -> Option<&'static str> {
        match self {
            Self::Objects(source) => source.replay_refusal(),
            #[cfg(feature = "kafka")]
            Self::Kafka(_) => None,
            #[cfg(feature = "kafka")]
            Self::Log(_) => Some("it is made elsewhere, and so are its records"),
        }
    }

    /// An epoch begins, which may be tried several times.
    pub fn begin_epoch(&self) -> Result<()> {
        match self {
            Self::Objects(_) => Ok(()),
            #[cfg(feature = "kafka")]
            Self::Kafka(source) => source.begin_epoch(),
            #[cfg(feature = "kafka")]
            Self::Log(_) => Ok(()),
        }
    }

    /// What it reads, as text: what a later run compares.
    pub fn location_text(&self) -> String {
        match self {
            Self::Objects(source) => {
                format!("{} {}", source.options().location().as_text(), source.options().path())
            }
            #[cfg(feature = "kafka")]
            Self::Kafka(source) => format!("kafka {}", source.options().topics_text()),
            #[cfg(feature = "kafka")]
            Self::Log(log) => format!("log {}", log.name()),
        }
    }

    /// When a row is late and what becomes of it then: `ON LATE`. `None` where none is.
    pub fn lateness(&self) -> Option<Lateness> {
        match self {
            Self::Objects(source) => source.lateness(),
            #[cfg(feature = "kafka")]
            Self::Kafka(source) => source.lateness(),
            #[cfg(feature = "kafka")]
            Self::Log(log) => log.lateness(),
        }
    }

    /// How long one of its partitions has nothing to read before it is idle, and does not hold its watermark back;
    /// `None` where none ever is.
    pub fn idle_timeout(&self) -> Option<Duration> {
        match self {
            Self::Objects(_) => None,
            #[cfg(feature = "kafka")]
            Self::Kafka(source) => source.idle_timeout(),
            #[cfg(feature = "kafka")]
            Self::Log(log) => log.idle_timeout(),
        }
    }

    /// How far one of its partitions may be ahead in event time of the slowest one that has something to read, and still be
    /// read; `None`: however far.
    pub fn max_skew(&self) -> Option<Duration> {
        match self {
            Self::Objects(_) => None,
            #[cfg(feature = "kafka")]
            Self::Kafka(source) => source.max_skew(),
            #[cfg(feature = "kafka")]
            Self::Log(log) => log.max_skew(),
        }
    }

    /// Everything that changes what a record means, as text: what a later run compares.
    pub fn decoding_text(&self) -> String {
        match self {
            Self::Objects(source) => source.decoding_text(),
            #[cfg(feature = "kafka")]
            Self::Kafka(source) => source.decoding_text(),
            #[cfg(feature = "kafka")]
            Self::Log(_) => String::new(),
        }
    }
}

/// The columns that are read (without generated ones), and for each what a missing field means.
pub(crate) fn declared(definition: &SourceDefinition) -> Result<(SchemaRef, Vec<Option<ArrayRef>>)> {
    let columns = definition.columns.iter().flatten().filter(|column| column.generated.is_none());
    let (mut fields, mut defaults) = (Vec::new(), Vec::new());
    for column in columns {
        let name = &column.name.value;
        fields.push(Field::new(name, column.data_type.clone(), column.nullable));
        let default = column.default.as_ref().map(|expr| default_value(expr, &column.data_type)).transpose();
        defaults.push(default.map_err(|reason| Error::Invalid {
            message: format!("the default of column `{name}` is no value of its type: {reason}"),
        })?);
    }
    Ok((Arc::new(Schema::new(fields)), defaults))
}

/// `decoding`, and when a row is late where one can be.
pub(crate) fn with_lateness(decoding: String, lateness: Option<Lateness>, event_time: Option<&Field>) -> String {
    match (lateness, event_time) {
        (Some(lateness), Some(column)) => format!("{decoding}; {}", lateness.as_text(column.name())),
        _ => decoding,
    }
}

/// When a row of a source is late, which needs an event time that is read.
pub(crate) fn lateness(definition: &SourceDefinition, has_event_time: bool) -> Result<Option<Lateness>> {
    let lateness = Lateness::of(definition);
    match (&definition.watermark, lateness) {
        (Some(watermark), Some(_)) if !has_event_time => Err(Error::Invalid {
            message: format!(
                "`ON LATE` of source `{}` needs an event time that is read from its records, and `{}` is none",
                definition.name.value, watermark.column.value
            ),
        }),
        _ => Ok(lateness),
    }
}

/// Reports defaults that are no values of their columns' types.
pub(crate) fn check_defaults(source: &SourceDefinition, options: &mut OptionMap) {
    for column in source.columns.iter().flatten() {
        let Some(expr) = &column.default else { continue };
        if let Err(reason) = default_value(expr, &column.data_type) {
            let message = format!("the default of column `{}` is no value of its type: {reason}", column.name.value);
            let help = "write a literal, such as `DEFAULT 0`, `DEFAULT 'none'` or `DEFAULT DATE '2013-01-31'`";
            options.report(Diagnostic::error(message, column.name.span).with_help(help));
        }
    }
}
