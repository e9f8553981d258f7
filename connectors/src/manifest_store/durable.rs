//! Local disk: what `object_store` does not do for it. Files and their directories are synced in order, a name is given
//! to a file only when its content is safe, and a lock lets the first writer win.

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use object_store::local::LocalFileSystem;

use super::layout::LOCK;
use crate::{Error, Location, Result};

/// Files synced by one task of the blocking pool: few enough that several run at a time.
const SYNC_CHUNK: usize = 64;
/// Tasks that sync at a time.
const SYNC_TASKS: usize = 8;

/// Makes the files at `relative` under `location`, and the directories that name them, survive a loss of power. Does
/// nothing where the store is no local disk: others answer when the data is safe.
///
/// # Cancel safety
/// Cancelled, some files are synced and some are not.
pub async fn sync(location: &Location, relative: &[String]) -> Result<()> {
    use futures::{StreamExt, TryStreamExt};

    let Some(folder) = location.local_folder() else { return Ok(()) };
    if relative.is_empty() {
        return Ok(());
    }
    let files = relative.iter().map(|path| file_path(location, path)).collect::<Result<Vec<_>>>()?;
    let directories: BTreeSet<PathBuf> = files.iter().flat_map(|file| parents_within(file, folder)).collect();
    let chunks: Vec<Vec<PathBuf>> = files.chunks(SYNC_CHUNK).map(<[PathBuf]>::to_vec).collect();
    futures::stream::iter(chunks)
        .map(|chunk| on_blocking_pool(move || chunk.iter().try_for_each(|file| sync_file(file))))
        .buffer_unordered(SYNC_TASKS)
        .try_collect::<()>()
        .await?;
    on_blocking_pool(move || directories.iter().rev().try_for_each(|directory| sync_directory(directory))).await
}

/// Makes the folders `names` of a local state folder before anything is put into them: when the state folder is synced
/// next, their entries in it are, too.
pub(super) async fn make_folders(location: &Location, names: &'static [&'static str]) -> Result<()> {
    let Some(folder) = location.local_folder().map(Path::to_owned) else { return Ok(()) };
    on_blocking_pool(move || {
        let make = |path: PathBuf| fs::create_dir_all(&path).map_err(|source| Error::disk("create", path, source));
        names.iter().try_for_each(|name| make(folder.join(name)))
    })
    .await
}

/// Makes the folder itself and the directories above it survive a loss of power: they may be new.
pub(super) async fn sync_ancestors(folder: &Path) -> Result<()> {
    let folder = folder.to_owned();
    on_blocking_pool(move || {
        for directory in folder.ancestors() {
            match sync_directory(directory) {
                // A directory above that may not be opened was not made by this process.
                Err(Error::Disk { source, .. }) if source.kind() == io::ErrorKind::PermissionDenied => break,
                other => other?,
            }
        }
        Ok(())
    })
    .await
}

/// What became of a file that was to be new.
#[derive(Debug)]
pub(super) enum Created {
    /// It is there, synced, under its name.
    New,
    /// A file has that name already.
    Exists,
    /// Its content could not be staged: nothing has the name, nor will have it by this call.
    Unstaged(Error),
}

/// Writes a new file: staged under a name that listings hide, synced, then linked to its own name, which fails where
/// that exists; then the directory is synced. At no time is there half a file under the name.
///
/// # Errors
/// The file may have its name, and its name may be lost with the power.
pub(super) async fn create(location: &Location, relative: &str, bytes: Bytes) -> Result<Created> {
    let path = file_path(location, relative)?;
    on_blocking_pool(move || {
        let directory = path.parent().unwrap_or(Path::new("/")).to_owned();
        let staged = PathBuf::from(format!("{}#{}", path.display(), rand::random::<u64>()));
        let created = match stage(&directory, &staged, &bytes) {
            Ok(()) => link(&staged, &path),
            Err(error) => Ok(Created::Unstaged(error)),
        };
        // What stays behind is swept; the outcome is that of the link.
        drop(fs::remove_file(&staged));
        if let Ok(Created::New) = created {
            sync_directory(&directory)?;
        }
        created
    })
    .await
}

/// Writes a file in the place of another: staged as a new one is, then renamed, so that after a loss of power the one or
/// the other is there whole.
pub(super) async fn replace(location: &Location, folder: &Path, relative: &str, bytes: Bytes) -> Result<()> {
    let path = file_path(location, relative)?;
    let directories = parents_within(&path, folder);
    on_blocking_pool(move || {
        let directory = path.parent().unwrap_or(Path::new("/"));
        let staged = PathBuf::from(format!("{}#{}", path.display(), rand::random::<u64>()));
        let replaced = stage(directory, &staged, &bytes)
            .and_then(|()| fs::rename(&staged, &path).map_err(|source| Error::disk("write", &path, source)));
        if replaced.is_err() {
            drop(fs::remove_file(&staged));
        }
        replaced?;
        directories.iter().try_for_each(|directory| sync_directory(directory))
    })
    .await
}

fn link(staged: &Path, path: &Path) -> Result<Created> {
    match fs::hard_link(staged, path) {
        Ok(()) => Ok(Created::New),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Created::Exists),
        Err(source) => Err(Error::disk("create", path, source)),
    }
}

/// Writes and syncs the content under a name that nobody looks for.
fn stage(directory: &Path, staged: &Path, bytes: &[u8]) -> Result<()> {
    fs::create_dir_all(directory).map_err(|source| Error::disk("create", directory, source))?;
    let write = || {
        let mut file = File::create_new(staged)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|source| Error::disk("write", staged, source))
}

/// Holds a pipeline for this process, until it is dropped or the process ends, however it ends.
#[derive(Debug)]
pub(super) struct Lock {
    _file: Option<File>,
}

impl Lock {
    /// Takes the lock of the pipeline at `location`; elsewhere than on local disk, and on file systems that have no
    /// locks, there is none, and claims alone decide. The file is never deleted: a second one would be a second lock.
    pub(super) async fn take(location: &Location) -> Result<Self> {
        let Some(folder) = location.local_folder().map(Path::to_owned) else { return Ok(Self { _file: None }) };
        on_blocking_pool(move || {
            fs::create_dir_all(&folder).map_err(|source| Error::disk("create", &folder, source))?;
            let path = folder.join(LOCK);
            let file = File::options().create(true).append(true).open(&path);
            let file = file.map_err(|source| Error::disk("open", &path, source))?;
            match file.try_lock() {
                Ok(()) => Ok(Self { _file: Some(file) }),
                Err(TryLockError::WouldBlock) => Err(Error::Locked { path }),
                Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {
                    Ok(Self { _file: None })
                }
                Err(TryLockError::Error(source)) => Err(Error::disk("lock", path, source)),
            }
        })
        .await
    }
}

/// Path on disk of an object of a local location, as `object_store` finds it.
pub(super) fn file_path(location: &Location, relative: &str) -> Result<PathBuf> {
    LocalFileSystem::new()
        .path_to_filesystem(&location.path(relative))
        .map_err(|source| Error::store(format!("{}/{relative}", location.as_text()), source))
}

/// The directories from that of `file` up to `folder`.
pub(super) fn parents_within(file: &Path, folder: &Path) -> Vec<PathBuf> {
    file.ancestors().skip(1).take_while(|parent| parent.starts_with(folder)).map(Path::to_owned).collect()
}

/// Runs blocking work where it holds up no other task.
pub(super) async fn on_blocking_pool<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let joined = tokio::task::spawn_blocking(work).await;
    joined.map_err(|error| Error::Internal { message: format!("a blocking task ended early: {error}") })?
}

fn sync_file(path: &Path) -> Result<()> {
    File::open(path).and_then(|file| file.sync_all()).map_err(|source| Error::disk("sync", path, source))
}

#[cfg(unix)]
fn sync_directory(path: &Path) -> Result<()> {
    match File::open(path).and_then(|directory| directory.sync_all()) {
        // Some network file systems cannot sync a directory; there is nothing more to do on them.
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => Ok(()),
        other => other.map_err(|source| Error::disk("sync", path, source)),
    }
}

#[cfg(not(unix))]
fn sync_directory(_path: &Path) -> Result<()> {
    // Elsewhere a directory cannot be opened as a file, and the file system keeps its own order.
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_is_given_once_and_nothing_staged_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let location = Location::local(folder.path()).unwrap();
        let create = |bytes: &'static [u8]| create(&location, "a/b.json", Bytes::from_static(bytes));
        assert!(matches!(create(b"1").await.unwrap(), Created::New));
        assert!(matches!(create(b"2").await.unwrap(), Created::Exists));
        assert_eq!(fs::read(folder.path().join("a/b.json")).unwrap(), b"1");
        assert_eq!(fs::read_dir(folder.path().join("a")).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn the_lock_is_held_once_until_it_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let location = Location::local(&folder.path().join("state")).unwrap();
        let first = Lock::take(&location).await.unwrap();
        assert!(matches!(Lock::take(&location).await, Err(Error::Locked { .. })));
        drop(first);
        Lock::take(&location).await.unwrap();
        assert!(folder.path().join("state/lock").exists());
    }

    #[tokio::test]
    async fn sync_finds_files_whose_names_the_store_escapes() {
        use object_store::ObjectStoreExt;

        let folder = tempfile::tempdir().unwrap();
        let location = Location::local(folder.path()).unwrap();
        let odd = "carrier=50% #ü ?/x.parquet";
        location.store().put(&location.path(odd), "x".into()).await.unwrap();
        sync(&location, &[odd.to_owned()]).await.unwrap();
        assert!(sync(&location, &["absent.parquet".to_owned()]).await.is_err());
        sync_ancestors(folder.path()).await.unwrap();
    }
}
