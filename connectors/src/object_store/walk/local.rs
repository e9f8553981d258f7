//! Walking a folder on local disk.

use std::fs::{DirEntry, Metadata};
use std::io;
use std::path::{Path, PathBuf};

use bessemer_schemas::ObjectVersion;
use futures::stream::{self, StreamExt};
use tokio::sync::mpsc;

use super::super::pattern::{PathPattern, is_hidden};
use super::super::pinned::{blocking, modified_micros};
use super::Found;
use crate::{Error, Result};

/// Objects between the thread that walks a folder and the listing.
const QUEUE: usize = 1_024;

type Sender = mpsc::Sender<Result<ObjectVersion>>;

/// Walks what `pattern` means below `root` on a thread of its own.
pub(super) fn objects(root: PathBuf, pattern: PathPattern) -> Found {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let walk = async move {
        let failure = sender.clone();
        let done = blocking(move || {
            if let Err(error) = walk(&root, &pattern, &sender) {
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

fn walk(root: &Path, pattern: &PathPattern, found: &Sender) -> Result<()> {
    let prefix = pattern.list_prefix();
    let start = if prefix.is_empty() { root.to_owned() } else { root.join(prefix) };
    let metadata = std::fs::metadata(&start).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            Error::NotFound { location: start.display().to_string(), source: None }
        }
        _ => Error::disk("read", &start, error),
    })?;
    if !metadata.is_dir() {
        send(found, version(prefix.to_owned(), &metadata));
        return Ok(());
    }
    let mut folders = vec![(start, prefix.to_owned())];
    while let Some((folder, relative)) = folders.pop() {
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            // A folder that is gone already, or is a file by now, holds nothing.
            Err(error) if is_gone(&error) && relative != prefix => continue,
            Err(error) => return Err(Error::disk("list", &folder, error)),
        };
        for entry in entries {
            let entry = entry.map_err(|error| Error::disk("list", &folder, error))?;
            match look(&entry, &relative)? {
                Some(Entry::Folder(relative)) if pattern.may_hold(&relative) => folders.push((entry.path(), relative)),
                Some(Entry::File(version)) => {
                    if !send(found, version) {
                        return Ok(());
                    }
                }
                Some(Entry::Folder(_)) | None => {}
            }
        }
    }
    Ok(())
}

enum Entry {
    Folder(String),
    File(ObjectVersion),
}

/// What an entry of the folder `parent` is; `None` if it is nothing that is read.
fn look(entry: &DirEntry, parent: &str) -> Result<Option<Entry>> {
    let name = entry.file_name();
    let Some(name) = name.to_str().filter(|name| !is_skipped(name)) else { return Ok(None) };
    let relative = if parent.is_empty() { name.to_owned() } else { format!("{parent}/{name}") };
    if entry.file_type().is_ok_and(|file_type| file_type.is_dir()) {
        return Ok(Some(Entry::Folder(relative)));
    }
    let path = entry.path();
    match std::fs::metadata(&path) {
        // A link to a file is that file. A link to a folder is left: what it leads to would be read twice, or, where it
        // leads to a folder above it, without end.
        Ok(metadata) if metadata.is_file() => Ok(Some(Entry::File(version(relative, &metadata)))),
        Ok(_) => Ok(None),
        // A file that is gone already is none that was found.
        Err(error) if is_gone(&error) => Ok(None),
        Err(error) => Err(Error::disk("read", &path, error)),
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Hidden names, and what `object_store` leaves of an upload in progress: `name#1`.
fn is_skipped(name: &str) -> bool {
    let is_upload = name
        .rsplit_once('#')
        .is_some_and(|(_, number)| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()));
    is_upload || is_hidden(name)
}

fn version(path: String, metadata: &Metadata) -> ObjectVersion {
    ObjectVersion { path, size: metadata.len(), modified: modified_micros(metadata), etag: None, late_before: None }
}

/// Whether anybody still asks.
fn send(found: &Sender, version: ObjectVersion) -> bool {
    found.blocking_send(Ok(version)).is_ok()
}
