//! A Kafka source: its columns, and what it looks like as a table.

use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::ArrayRef;
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use bessemer_schemas::{IncludeKind, OffsetRange, SourceDefinition};
use datafusion_catalog::TableProvider;
use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::client::{Consumer, blocking, consumer, failed};
use super::consumers::Consumers;
use super::options::KafkaSourceOptions;
use super::payload::{PayloadFormat, WrittenSchemas};
use super::provider::KafkaTable;
use crate::scan::Lateness;
use crate::source::{declared, lateness, with_lateness};
use crate::{Error, Location, Result};

/// A source of connector `kafka`, with its columns.
pub struct KafkaSource {
    name: Arc<str>,
    options: KafkaSourceOptions,
    /// The columns that are read from values.
    declared: SchemaRef,
    /// These, and what else is decoded from values.
    decoded: SchemaRef,
    /// These and the INCLUDE columns.
    schema: SchemaRef,
    defaults: Vec<Option<ArrayRef>>,
    includes: Vec<IncludeKind>,
    /// The event time's index in `schema`.
    event_time: Option<usize>,
    lateness: Option<Lateness>,
    /// The client that asks for what is new and publishes offsets; made when it is first needed, thrown away when it
    /// fails. It reads no record.
    asker: Mutex<Option<Arc<Consumer>>>,
    /// Whether brokers were asked if the group may be used.
    pub(super) asked_for_group: AtomicBool,
    /// The schemas of its records, where they are written with one.
    written: Option<Arc<WrittenSchemas>>,
    /// The clients that read.
    consumers: Consumers,
    /// How many partitions there were when that was asked last.
    partitions: AtomicUsize,
}

impl KafkaSource {
    /// Opens a source; asks no broker, and a schema registry only where `definition` has no columns. What it answers is
    /// kept below `state`.
    pub async fn open(
        definition: &SourceDefinition,
        options: KafkaSourceOptions,
        state: Option<&Location>,
    ) -> Result<Arc<Self>> {
        let mut written = match &options.format {
            PayloadFormat::Written(format) => Some(WrittenSchemas::open(format, &definition.name.value, state)?),
            PayloadFormat::Text(_) | PayloadFormat::Raw => None,
        };
        let (declared, defaults) = match (&definition.columns, &mut written) {
            (None, Some(written)) => {
                let inferred = written.infer().await?;
                (Arc::new(Schema::new(inferred.fields)), inferred.defaults)
            }
            _ => declared(definition)?,
        };
        let changes = options.format.change_columns().iter();
        let changes = changes
            .map(|kind| Arc::new(Field::new(kind.as_sql().to_lowercase(), kind.data_type(), kind.is_nullable())));
        let decoded: Vec<Arc<Field>> = declared.fields().iter().cloned().chain(changes).collect();
        let mut fields: Vec<Arc<Field>> = declared.fields().iter().cloned().collect();
        fields.extend(definition.includes.iter().map(|include| Arc::new(include.field())));
        let schema = Arc::new(Schema::new(fields));
        let is_time = |column: &usize| {
            matches!(schema.field(*column).data_type(), DataType::Timestamp(..) | DataType::Date32 | DataType::Date64)
        };
        // A generated column is not decoded: its event time is not judged here.
        let event_time = definition
            .watermark
            .as_ref()
            .and_then(|watermark| schema.index_of(&watermark.column.value).ok().filter(is_time));
        Ok(Arc::new(Self {
            name: Arc::from(definition.name.value.as_str()),
            options,
            decoded: Arc::new(Schema::new(decoded)),
            declared,
            schema,
            defaults,
            includes: definition.includes.iter().map(|include| include.kind).collect(),
            event_time,
            lateness: lateness(definition, event_time.is_some())?,
            asker: Mutex::new(None),
            asked_for_group: AtomicBool::new(false),
            written: written.map(Arc::new),
            consumers: Consumers::default(),
            partitions: AtomicUsize::new(0),
        }))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its options.
    pub fn options(&self) -> &KafkaSourceOptions {
        &self.options
    }

    /// When a row is late and what becomes of it then; `None` where none is.
    pub fn lateness(&self) -> Option<Lateness> {
        self.lateness
    }

    /// How long a partition has nothing to read before it is idle; `None` where it never is.
    pub fn idle_timeout(&self) -> Option<Duration> {
        self.options.idle_timeout
    }

    /// How far a partition may be ahead of others in event time and still be read; `None`: however far.
    pub fn max_skew(&self) -> Option<Duration> {
        self.options.max_skew
    }

    /// Everything that changes what a record means, as text: what a later run compares.
    pub fn decoding_text(&self) -> String {
        let event_time = self.event_time.map(|column| self.schema.field(column));
        with_lateness(self.options.decoding_text(), self.lateness, event_time)
    }

    /// The declared columns (without generated ones), then the INCLUDE columns.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The source as a table of DataFusion. What it reads comes from the session's [`crate::scan::EpochScans`].
    /// `with_origin` adds row identity as the last column.
    pub fn table_provider(self: &Arc<Self>, with_origin: bool) -> Arc<dyn TableProvider> {
        Arc::new(KafkaTable::new(Arc::clone(self), with_origin))
    }

    /// Publishes what was committed as the offsets of `group_id`, for lag tools; does nothing without that option.
    /// Nothing here ever reads them.
    pub async fn acknowledge(self: &Arc<Self>, read: Vec<OffsetRange>) -> Result<()> {
        if self.options.group_id.is_none() || read.is_empty() {
            return Ok(());
        }
        let this = Arc::clone(self);
        blocking(move || {
            this.asking(|client| {
                let failed =
                    |error| failed(&this.options, "publish offsets for lag tools", Some(client.context()), &error);
                let mut list = TopicPartitionList::with_capacity(read.len());
                for range in &read {
                    list.add_partition_offset(&range.topic, range.partition, Offset::Offset(range.end))
                        .map_err(failed)?;
                }
                client.commit(&list, CommitMode::Sync).map_err(failed)
            })
        })
        .await
    }

    /// An epoch begins, which may be tried several times: what a schema registry did not have is asked for again.
    pub fn begin_epoch(&self) -> Result<()> {
        self.written.as_ref().map_or(Ok(()), |written| written.begin_epoch())
    }

    /// Asks the brokers something, through the one client for that.
    pub(super) fn asking<T>(&self, ask: impl FnOnce(&Consumer) -> Result<T>) -> Result<T> {
        let poisoned = |_| self.internal("a question to the brokers panicked");
        let held = self.asker.lock().map_err(poisoned)?.take();
        let client = match held {
            Some(client) if !client.context().is_outlived() => client,
            _ => consumer(&self.options, 1)?,
        };
        let answer = ask(&client)?;
        *self.asker.lock().map_err(poisoned)? = Some(client);
        Ok(answer)
    }

    /// How many partitions there were when that was asked last.
    pub(super) fn partitions(&self) -> &AtomicUsize {
        &self.partitions
    }

    pub(super) fn consumers(&self) -> &Consumers {
        &self.consumers
    }

    pub(super) fn shared_name(&self) -> &Arc<str> {
        &self.name
    }

    pub(super) fn declared(&self) -> &SchemaRef {
        &self.declared
    }

    pub(super) fn decoded(&self) -> &SchemaRef {
        &self.decoded
    }

    pub(super) fn defaults(&self) -> &[Option<ArrayRef>] {
        &self.defaults
    }

    pub(super) fn written(&self) -> Option<&Arc<WrittenSchemas>> {
        self.written.as_ref()
    }

    pub(super) fn includes(&self) -> &[IncludeKind] {
        &self.includes
    }

    pub(super) fn event_time(&self) -> Option<usize> {
        self.event_time
    }

    /// An error about what cannot be.
    pub(super) fn internal(&self, what: &str) -> Error {
        Error::Internal { message: format!("source `{}`: {what}", self.name) }
    }
}

impl fmt::Debug for KafkaSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaSource").field("name", &self.name).field("schema", &self.schema).finish_non_exhaustive()
    }
}
