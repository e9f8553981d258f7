//! Listing a store.

use std::future::ready;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bessemer_schemas::ObjectVersion;
use futures::stream::{self, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStoreExt};

use super::super::options::FileFormat;
use super::super::pattern::{PathPattern, is_hidden};
use super::Found;
use crate::{Error, Location, Result};

/// Keys in folders that a glob cannot match, after which a listing goes on folder by folder. Listing all keys takes one
/// request for each thousand and holds none of them; going by folders takes one for each folder and holds its keys.
const PASSED_OVER_MAX: usize = 10_000;

/// Objects in a store: the one that the path names, or all below it.
pub(super) async fn objects(location: Location, pattern: PathPattern, format: FileFormat) -> Result<Found> {
    let prefix = pattern.list_prefix();
    let mut absent = None;
    if pattern.is_object() && !prefix.is_empty() {
        match location.store().head(&location.path(prefix)).await {
            Ok(meta) => return Ok(stream::iter([Ok(version(&location, meta)?)]).boxed()),
            // A folder may be named as a file, as Spark's output is.
            Err(error @ object_store::Error::NotFound { .. }) if !location.is_http() => absent = Some(error),
            Err(error) => return Err(Error::store(location.child(prefix).as_text(), error)),
        }
    }
    let (folder, is_file_name) = (location.child(prefix), format.has_extension(prefix));
    let keys = without_markers(keys(&location, &folder), format);
    let mut found = match pattern {
        PathPattern::Glob { .. } if !pattern.crosses_folders() => sparing(location, folder.clone(), pattern, keys),
        _ => keys,
    }
    .peekable();
    match absent.filter(|_| is_file_name) {
        Some(error) if Pin::new(&mut found).peek().await.is_none() => Err(Error::store(folder.as_text(), error)),
        _ => Ok(found.boxed()),
    }
}

/// All keys below `folder`, in the store's order.
fn keys(location: &Location, folder: &Location) -> Found {
    let (location, text, own) = (location.clone(), folder.as_text().to_owned(), folder.prefix().clone());
    let listed = location.store().list(list_prefix(&own));
    listed
        .map_err(move |error| Error::store(text.as_str(), error))
        // The marker of the folder itself: `object_store` drops the `/` at its end.
        .try_filter(move |meta| ready(meta.location != own))
        .and_then(move |meta| ready(version(&location, meta)))
        .boxed()
}

fn list_prefix(folder: &Path) -> Option<&Path> {
    (!folder.as_ref().is_empty()).then_some(folder)
}

/// Leaves out the markers of folders, which consoles and Hadoop make: objects of size 0 whose key ends in `/`.
/// `object_store` drops that slash, so they are known by what they hold, or by a name that no object of `format` has.
fn without_markers(found: Found, format: FileFormat) -> Found {
    stream::try_unfold((found.peekable(), format), |(mut found, format)| async move {
        while let Some(version) = found.try_next().await? {
            let is_marker = version.size == 0
                && (!format.has_extension(&version.path)
                    || matches!(Pin::new(&mut found).peek().await, Some(Ok(next)) if holds(&version, next)));
            if !is_marker {
                return Ok(Some((version, (found, format))));
            }
        }
        Ok::<_, Error>(None)
    })
    .boxed()
}

fn holds(folder: &ObjectVersion, next: &ObjectVersion) -> bool {
    next.path.strip_prefix(folder.path.as_str()).is_some_and(|rest| rest.starts_with('/'))
}

/// The objects out of `keys`; where most of the keys are in folders that `pattern` cannot match, the rest folder by
/// folder. What was listed before comes again then.
fn sparing(location: Location, folder: Location, pattern: PathPattern, keys: Found) -> Found {
    let passed_over = Arc::new(AtomicUsize::new(0));
    let (counter, glob) = (Arc::clone(&passed_over), pattern.clone());
    let first = keys.try_take_while(move |version| {
        let parent = version.path.rsplit_once('/').map_or("", |(parent, _)| parent);
        let missed = usize::from(!glob.may_hold(parent));
        ready(Ok(counter.fetch_add(missed, Ordering::Relaxed) + missed < PASSED_OVER_MAX))
    });
    let rest = stream::once(async move {
        match passed_over.load(Ordering::Relaxed) {
            0..PASSED_OVER_MAX => stream::empty().boxed(),
            _ => by_folder(location, &folder, pattern),
        }
    });
    first.chain(rest.flatten()).boxed()
}

/// The objects of `folder` and of those below it that `pattern` can match.
fn by_folder(location: Location, folder: &Location, pattern: PathPattern) -> Found {
    let text = folder.as_text().to_owned();
    stream::try_unfold(vec![folder.prefix().clone()], move |mut folders| {
        let (location, pattern, text) = (location.clone(), pattern.clone(), text.clone());
        async move {
            let Some(folder) = folders.pop() else { return Ok(None) };
            let (objects, below) = one_folder(&location, &folder, &pattern, &text).await?;
            folders.extend(below);
            Ok::<_, Error>(Some((stream::iter(objects), folders)))
        }
    })
    .try_flatten()
    .boxed()
}

/// The objects in one folder, and the folders in it to look into.
async fn one_folder(
    location: &Location,
    folder: &Path,
    pattern: &PathPattern,
    text: &str,
) -> Result<(Vec<Result<ObjectVersion>>, Vec<Path>)> {
    let listed = location.store().list_with_delimiter(list_prefix(folder)).await;
    let listed = listed.map_err(|error| Error::store(text, error))?;
    let mut below = Vec::new();
    for folder in listed.common_prefixes {
        let relative = relative_path(location, &folder)?;
        let name = relative.rsplit('/').next().unwrap_or_default();
        if !is_hidden(name) && pattern.may_hold(&relative) {
            below.push(folder);
        }
    }
    let objects = listed.objects.into_iter().filter(|meta| meta.location != *folder);
    Ok((objects.map(|meta| version(location, meta)).collect(), below))
}

fn version(location: &Location, meta: ObjectMeta) -> Result<ObjectVersion> {
    let relative = relative_path(location, &meta.location)?;
    Ok(ObjectVersion {
        path: relative,
        size: meta.size,
        modified: meta.last_modified.timestamp_micros(),
        etag: meta.e_tag,
        late_before: None,
    })
}

fn relative_path(location: &Location, path: &Path) -> Result<String> {
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
