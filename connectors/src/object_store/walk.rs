//! Finding the objects that a source's paths mean.

use std::fs::Metadata;
use std::io;
use std::path::{Path, PathBuf};

use bessemer_schemas::ObjectVersion;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use object_store::path::Path as StorePath;
use object_store::{ObjectMeta, ObjectStoreExt};
use tokio::sync::mpsc;

use super::options::ObjectSourceOptions;
use super::pattern::{PathPattern, is_hidden};
use super::pinned::{blocking, modified_micros};
use crate::{Error, Location, Result};

/// Objects between the thread that walks a folder and the listing.
const QUEUE: usize = 1_024;

/// Every object that the source's paths mean, in any order; one that two paths mean comes twice.
pub(super) fn objects(options: &ObjectSourceOptions) -> BoxStream<'static, Result<ObjectVersion>> {
    let found = options.patterns.patterns.iter().map(|pattern| pattern_objects(options, pattern)).collect::<Vec<_>>();
    let (patterns, format) = (options.patterns.clone(), options.format.clone());
    stream::iter(found)
        .flatten()
        .try_filter(move |version| {
            std::future::ready(patterns.matches(&version.path, |path| format.has_extension(path)))
        })
        .boxed()
}

fn pattern_objects(options: &ObjectSourceOptions, pattern: &PathPattern) -> BoxStream<'static, Result<ObjectVersion>> {
    let location = options.location.clone();
    if let Some(folder) = location.local_folder() {
        return walk(folder.to_owned(), pattern.list_prefix().to_owned());
    }
    let pattern = pattern.clone();
    let extension_says_file = options.format.has_extension(pattern.list_prefix());
    stream::once(async move { remote_objects(location, &pattern, extension_says_file).await }).try_flatten().boxed()
}

/// Objects in a store: the one that the path names, or all below it.
async fn remote_objects(
    location: Location,
    pattern: &PathPattern,
    extension_says_file: bool,
) -> Result<BoxStream<'static, Result<ObjectVersion>>> {
    let prefix = pattern.list_prefix();
    let path = location.path(prefix);
    if pattern.is_object() && !prefix.is_empty() {
        match location.store().head(&path).await {
            Ok(meta) => return Ok(stream::iter([Ok(version(&location, meta)?)]).boxed()),
            Err(object_store::Error::NotFound { .. }) if !extension_says_file && !location.is_http() => {}
            Err(error) => return Err(Error::store(location.child(prefix).as_text(), error)),
        }
    }
    let text = location.child(prefix).as_text().to_owned();
    let prefix = (!path.as_ref().is_empty()).then_some(&path);
    let listed = location.store().list(prefix);
    Ok(listed
        .map_err(move |error| Error::store(text.as_str(), error))
        // A folder's marker is an object of size 0 whose name ends in `/`; `object_store` drops the slash.
        .try_filter_map(move |meta| std::future::ready(version(&location, meta).map(Some)))
        .boxed())
}

fn version(location: &Location, meta: ObjectMeta) -> Result<ObjectVersion> {
    let relative = relative_path(location, &meta.location)?;
    Ok(ObjectVersion {
        path: relative,
        size: meta.size,
        modified: meta.last_modified.timestamp_micros(),
        etag: meta.e_tag,
    })
}

fn relative_path(location: &Location, path: &StorePath) -> Result<String> {
    let prefix = location.prefix().as_ref();
    let below = if prefix.is_empty() {
        Some(path.as_ref())
    } else {
        path.as_ref().strip_prefix(prefix).and_then(|rest| rest.strip_prefix('/'))
    };
    below
        .map(str::to_owned)
        .ok_or_else(|| Error::Internal { message: format!("`{path}` was listed outside `{prefix}`") })
}

/// Walks a local folder on a thread of its own.
fn walk(root: PathBuf, prefix: String) -> BoxStream<'static, Result<ObjectVersion>> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let walk = async move {
        let failure = sender.clone();
        let done = blocking(move || {
            if let Err(error) = walk_into(&root, &prefix, &sender) {
                // The listing was dropped: nobody asks any more.
                drop(sender.blocking_send(Err(error)));
            }
            Ok(())
        });
        if let Err(error) = done.await {
            let error = Error::Internal { message: format!("the walk through a folder broke off: {error}") };
            // The listing was dropped: nobody asks any more.
            drop(failure.send(Err(error)).await);
        }
        None
    };
    let found = stream::unfold(receiver, |mut receiver| async move { Some((receiver.recv().await?, receiver)) });
    // The walk runs while its objects are taken; it ends the stream with nothing of its own.
    let nothing = stream::once(walk).filter_map(std::future::ready);
    stream::select(found, nothing).boxed()
}

type Found = mpsc::Sender<Result<ObjectVersion>>;

fn walk_into(root: &Path, prefix: &str, found: &Found) -> Result<()> {
    let start = if prefix.is_empty() { root.to_owned() } else { root.join(prefix) };
    let metadata = std::fs::metadata(&start).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            Error::NotFound { location: start.display().to_string(), source: None }
        }
        _ => Error::disk("read", &start, error),
    })?;
    if !metadata.is_dir() {
        send(found, local_version(prefix.to_owned(), &metadata));
        return Ok(());
    }
    let mut folders = vec![(start, prefix.to_owned())];
    while let Some((folder, relative)) = folders.pop() {
        let entries = std::fs::read_dir(&folder).map_err(|error| Error::disk("list", &folder, error))?;
        for entry in entries {
            let path = entry.map_err(|error| Error::disk("list", &folder, error))?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()).filter(|name| !is_skipped(name)) else {
                continue;
            };
            let relative = if relative.is_empty() { name.to_owned() } else { format!("{relative}/{name}") };
            // Follows links. A file that is gone already is none that was found.
            let metadata = match std::fs::metadata(&path) {
                Ok(metadata) => metadata,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(Error::disk("read", &path, error)),
            };
            if metadata.is_dir() {
                folders.push((path, relative));
            } else if metadata.is_file() && !send(found, local_version(relative, &metadata)) {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Hidden names, and what `object_store` leaves of an upload in progress: `name#1`.
fn is_skipped(name: &str) -> bool {
    let is_upload = name
        .rsplit_once('#')
        .is_some_and(|(_, number)| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()));
    is_upload || is_hidden(name)
}

fn local_version(path: String, metadata: &Metadata) -> ObjectVersion {
    ObjectVersion { path, size: metadata.len(), modified: modified_micros(metadata), etag: None }
}

/// Whether anybody still asks.
fn send(found: &Found, version: ObjectVersion) -> bool {
    found.blocking_send(Ok(version)).is_ok()
}
