//! The part of a sweep that only local disk needs: files that were left half-written under their staged names, which
//! listings hide, and partition folders that became empty.

use std::fs::{self, DirEntry};
use std::io;
use std::path::{Path, PathBuf};

use super::durable::on_blocking_pool;
use super::layout::staged_for;
use super::sweep::Swept;
use crate::{Error, Result};

/// A staged file.
#[derive(Debug)]
pub(super) struct Staged {
    /// The name that it was meant to get.
    pub(super) name: String,
    path: PathBuf,
    bytes: u64,
}

/// The staged files in `folder`, and in those below it if it `is_deep`; none if it does not exist.
pub(super) async fn staged_files(folder: PathBuf, is_deep: bool) -> Result<Vec<Staged>> {
    on_blocking_pool(move || {
        let mut staged = Vec::new();
        let mut folders = vec![folder];
        while let Some(folder) = folders.pop() {
            for entry in entries(&folder)? {
                if is_folder(&entry) {
                    folders.extend(is_deep.then(|| entry.path()));
                } else if let Some(name) = entry.file_name().to_str().and_then(staged_for) {
                    let bytes = entry.metadata().map_or(0, |metadata| metadata.len());
                    staged.push(Staged { name: name.to_owned(), path: entry.path(), bytes });
                }
            }
        }
        Ok(staged)
    })
    .await
}

/// Deletes staged files.
pub(super) async fn remove(staged: Vec<Staged>) -> Result<Swept> {
    on_blocking_pool(move || {
        let mut swept = Swept::default();
        for Staged { path, bytes, .. } in staged {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::disk("delete", path, error));
                }
                _ => swept.files += 1,
            }
            swept.bytes += bytes;
        }
        Ok(swept)
    })
    .await
}

/// Deletes the empty Hive partition folders (`column=value`) below `folder`.
pub(super) async fn remove_empty_partitions(folder: PathBuf) -> Result<()> {
    on_blocking_pool(move || remove_empty_below(&folder)).await
}

fn remove_empty_below(folder: &Path) -> Result<()> {
    for entry in entries(folder)? {
        if is_folder(&entry) && entry.file_name().to_string_lossy().contains('=') {
            remove_empty_below(&entry.path())?;
            // Fails for a folder that is not empty, which is how one finds out without a race.
            drop(fs::remove_dir(entry.path()));
        }
    }
    Ok(())
}

fn is_folder(entry: &DirEntry) -> bool {
    // A link to a folder is not one: what it leads to is not ours.
    entry.file_type().is_ok_and(|kind| kind.is_dir())
}

fn entries(folder: &Path) -> Result<Vec<DirEntry>> {
    let listed = fs::read_dir(folder).and_then(Iterator::collect);
    match listed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        other => other.map_err(|source| Error::disk("list", folder, source)),
    }
}
