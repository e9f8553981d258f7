//! A source or table over objects: its columns, what is new, what it looks like as a table.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use bessemer_schemas::{IncludeKind, ObjectVersion, SourceDefinition, SourceKind};
use datafusion_catalog::TableProvider;
use futures::stream::BoxStream;

use super::footers::Footers;
use super::listing::{Listing, sorted};
use super::options::{FileFormat, ObjectSourceOptions};
use super::provider::ObjectTable;
use super::{infer, walk};
use crate::Result;
use crate::scan::Lateness;
use crate::source::{declared, lateness, with_lateness};

/// A source of connector `object_store`, with its columns.
#[derive(Debug)]
pub struct ObjectSource {
    name: Arc<str>,
    kind: SourceKind,
    options: ObjectSourceOptions,
    /// The columns that are read from objects.
    declared: SchemaRef,
    /// These and the INCLUDE columns.
    schema: SchemaRef,
    defaults: Vec<Option<ArrayRef>>,
    includes: Vec<IncludeKind>,
    event_time: Option<usize>,
    lateness: Option<Lateness>,
}

impl ObjectSource {
    /// Opens a source. Touches the store only where `definition` has no columns: they are then taken from the first
    /// objects in path order.
    pub async fn open(definition: &SourceDefinition, options: ObjectSourceOptions) -> Result<Arc<Self>> {
        let name: Arc<str> = Arc::from(definition.name.value.as_str());
        let (declared, defaults) = match &definition.columns {
            Some(_) => declared(definition)?,
            None => (Arc::new(infer::schema(&name, &options).await?), Vec::new()),
        };
        let mut fields: Vec<Arc<Field>> = declared.fields().iter().cloned().collect();
        fields.extend(definition.includes.iter().map(|include| Arc::new(include.field())));
        let event_time = match &definition.watermark {
            None => None,
            // A generated column is not read: its event time is not judged here.
            Some(watermark) => declared.index_of(&watermark.column.value).ok().filter(|column| {
                let data_type = declared.field(*column).data_type();
                matches!(data_type, DataType::Timestamp(..) | DataType::Date32 | DataType::Date64)
            }),
        };
        Ok(Arc::new(Self {
            name,
            kind: definition.kind,
            options,
            schema: Arc::new(Schema::new(fields)),
            declared,
            defaults,
            includes: definition.includes.iter().map(|include| include.kind).collect(),
            event_time,
            lateness: lateness(definition, event_time.is_some())?,
        }))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Log or table.
    pub fn kind(&self) -> SourceKind {
        self.kind
    }

    /// Its options.
    pub fn options(&self) -> &ObjectSourceOptions {
        &self.options
    }

    /// When a row is late and what becomes of it then; `None` where none is.
    pub fn lateness(&self) -> Option<Lateness> {
        self.lateness
    }

    /// Everything that changes what a record means, as text: what a later run compares.
    pub fn decoding_text(&self) -> String {
        let event_time = self.event_time.map(|column| self.declared.field(column));
        with_lateness(self.options.decoding_text(), self.lateness, event_time)
    }

    /// The declared columns (without generated ones), then the INCLUDE columns.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The source as a table of DataFusion. What it reads comes from the session's [`crate::scan::EpochScans`].
    /// `with_origin` adds row identity as the last column.
    pub fn table_provider(self: &Arc<Self>, with_origin: bool) -> Arc<dyn TableProvider> {
        Arc::new(ObjectTable::new(Arc::clone(self), with_origin))
    }

    /// Lists the store once and compares with what is `known`: every object that was read (and every one that was
    /// ignored as changed), sorted by path.
    pub async fn list(self: &Arc<Self>, known: BoxStream<'static, Result<ObjectVersion>>) -> Result<Listing> {
        let found = sorted(walk::objects(&self.options)).await?;
        let listing = Listing::merge(&self.name, found, known, self.options.on_change).await?;
        Ok(match self.options.format {
            FileFormat::Parquet => listing.with_footers(Footers::new(self)),
            _ => listing,
        })
    }

    /// The whole content as it stands: a digest that changes when any object does, and the objects in path order.
    pub async fn table_version(&self) -> Result<(String, Vec<ObjectVersion>)> {
        let mut found = sorted(walk::objects(&self.options)).await?;
        let (mut objects, mut digest) = (Vec::new(), blake3::Hasher::new());
        while let Some(version) = found.next()? {
            let stamp = version.etag.clone().unwrap_or_else(|| version.modified.to_string());
            // A line for each: no path has a line break.
            digest.update(format!("{}\t{}\t{stamp}\n", version.path, version.size).as_bytes());
            objects.push(version);
        }
        Ok((digest.finalize().to_hex().to_string(), objects))
    }

    pub(super) fn shared_name(&self) -> &Arc<str> {
        &self.name
    }

    pub(super) fn declared(&self) -> &SchemaRef {
        &self.declared
    }

    pub(super) fn defaults(&self) -> &[Option<ArrayRef>] {
        &self.defaults
    }

    pub(super) fn includes(&self) -> &[IncludeKind] {
        &self.includes
    }

    pub(super) fn event_time(&self) -> Option<usize> {
        self.event_time
    }
}
