//! The columns of a source that declares none: from the footer or header of its first object, or from the first bytes of
//! its first objects where the format carries no schema.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use arrow_schema::{Field, Schema};
use bessemer_schemas::ObjectVersion;
use futures::TryStreamExt;

use super::listing::sorted;
use super::object_reader::ObjectReader;
use super::options::{FileFormat, ObjectSourceOptions};
use super::pinned::PinnedObject;
use super::text_read::text_chunks;
use super::walk;
use crate::formats::text::{FileFault, Inferred, TextFormat, infer};
use crate::formats::{avro, ipc, parquet};
use crate::{Error, Result};

/// Decompressed bytes of text that are looked at, in all.
const HEAD_BYTES: usize = 1 << 20;

/// Objects that are looked at where the first are small.
const OBJECTS_MAX: usize = 16;

/// The columns, all nullable: one file's guarantee is none for the next.
pub(super) async fn schema(name: &Arc<str>, options: &ObjectSourceOptions) -> Result<Schema> {
    let objects = first_objects(options).await?;
    if objects.is_empty() {
        return Err(Error::Invalid {
            message: format!(
                "source `{name}` has no columns and `{}` matches no {} object to take them from; declare the columns, \
                 or add a file",
                options.path(),
                options.format.name()
            ),
        });
    }
    let found = match &options.format {
        FileFormat::Text(text) => text_schema(name, options, text, objects).await?,
        _ => typed_schema(name, options, objects).await?,
    };
    let fields: Vec<Field> = found.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
    Ok(Schema::new(fields))
}

async fn first_objects(options: &ObjectSourceOptions) -> Result<Vec<ObjectVersion>> {
    let mut found = sorted(walk::objects(options)).await?;
    let mut objects = Vec::new();
    while let Some(version) = found.next()? {
        if version.size > 0 {
            objects.push(version);
        }
        if objects.len() == OBJECTS_MAX {
            break;
        }
    }
    Ok(objects)
}

async fn typed_schema(name: &Arc<str>, options: &ObjectSourceOptions, objects: Vec<ObjectVersion>) -> Result<Schema> {
    let Some(first) = objects.first() else { return Ok(Schema::empty()) };
    let object = PinnedObject::open(name, &options.location, first).await?;
    if options.format == FileFormat::Parquet {
        let footer = parquet::footer(&object).await?;
        return Ok(parquet::reader_metadata(&object, footer, None)?.schema().as_ref().clone());
    }
    let runtime = tokio::runtime::Handle::current();
    let reader = ObjectReader::new(object.clone(), runtime, Arc::new(AtomicU64::new(0)));
    let is_avro = options.format == FileFormat::Avro;
    let opened = tokio::task::spawn_blocking(move || {
        let opened = if is_avro { avro::open(reader, 1) } else { ipc::open(reader) };
        opened.map(|opened| opened.schema)
    });
    match opened.await {
        Ok(Ok(schema)) => Ok(schema.as_ref().clone()),
        Ok(Err(error)) => Err(unreadable(&object, options.format.name(), error.to_string())),
        Err(error) => Err(unreadable(&object, options.format.name(), error.to_string())),
    }
}

fn unreadable(object: &PinnedObject, format: &'static str, reason: String) -> Error {
    Error::BadFile { path: object.path().to_owned(), format, offset: 0, reason }
}

async fn text_schema(
    name: &Arc<str>,
    options: &ObjectSourceOptions,
    format: &TextFormat,
    objects: Vec<ObjectVersion>,
) -> Result<Schema> {
    let (mut merged, mut looked_at, mut failure) = (None::<Inferred>, 0, None);
    for version in objects {
        let object = PinnedObject::open(name, &options.location, &version).await?;
        let (head, is_whole) = head(&object, options).await?;
        looked_at += head.len();
        match infer(&head, is_whole, format) {
            Ok(found) => match &mut merged {
                None => merged = Some(found),
                Some(merged) => merged.merge(found),
            },
            // An object without a record says nothing; the next may.
            Err(fault @ FileFault::Mismatch { .. }) => {
                failure.get_or_insert(fault.into_error(name, object.path(), format.name()));
            }
            Err(fault) => return Err(fault.into_error(name, object.path(), format.name())),
        }
        if looked_at >= HEAD_BYTES {
            break;
        }
    }
    let none = || Error::Internal { message: "no object was looked at for a schema".to_owned() };
    merged.map(Inferred::into_schema).ok_or_else(|| failure.unwrap_or_else(none))
}

async fn head(object: &PinnedObject, options: &ObjectSourceOptions) -> Result<(Vec<u8>, bool)> {
    let mut chunks = text_chunks(object, options, Arc::new(AtomicU64::new(0))).await?;
    let mut head = Vec::new();
    while let Some(chunk) = chunks.try_next().await? {
        head.extend_from_slice(&chunk);
        if head.len() >= HEAD_BYTES {
            head.truncate(HEAD_BYTES);
            return Ok((head, false));
        }
    }
    Ok((head, true))
}
