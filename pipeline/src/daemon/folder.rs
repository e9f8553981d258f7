//! What is in the folder: each `.sql` file is a pipeline, and each folder in it that has some is one, too.

use std::io;
use std::path::{Path, PathBuf};

use bessemer_schemas::Digest;

use crate::error::{Error, Result};
use crate::sql_files::{self, is_hidden, is_sql};

/// Digest over the texts of a pipeline; another one is another version.
pub(super) type Fingerprint = Digest;

/// A pipeline that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// Its file or folder.
    pub(super) path: PathBuf,
    /// What to read it from.
    pub(super) paths: Vec<PathBuf>,
    /// Its version.
    pub(super) fingerprint: Fingerprint,
}

/// The pipelines of `folder`, by path. A file by itself is a folder of one.
pub(super) fn find(folder: &Path) -> Result<Vec<Found>> {
    let unreadable = |source| Error::Unreadable { path: folder.to_owned(), source };
    match std::fs::metadata(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(sql_files::none_at(folder)),
        Ok(metadata) if metadata.is_file() => {
            return Ok(found(folder.to_owned(), vec![folder.to_owned()]).into_iter().collect());
        }
        _ => {}
    }
    let mut pipelines = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if is_hidden(&path) {
            continue;
        }
        if path.is_dir() {
            let files = sql_files::in_folder(&path);
            if !files.is_empty() {
                pipelines.extend(found(path, files));
            }
        } else if is_sql(&path) {
            pipelines.extend(found(path.clone(), vec![path]));
        }
    }
    pipelines.sort_by(|left, right| left.path.cmp(&right.path));
    Ok(pipelines)
}

/// `None` where a file went away between two looks. One that cannot be read is found, so that whoever loads it says why.
fn found(path: PathBuf, paths: Vec<PathBuf>) -> Option<Found> {
    let mut text = Vec::new();
    for file in &paths {
        text.extend_from_slice(file.as_os_str().as_encoded_bytes());
        text.push(0);
        match std::fs::read(file) {
            Ok(read) => text.extend(read),
            Err(_) if file.symlink_metadata().is_err() => return None,
            Err(error) => text.extend(error.to_string().into_bytes()),
        }
        text.push(0);
    }
    Some(Found { path, paths, fingerprint: Digest::of(&text) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_folders_of_files_are_pipelines() {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        for path in ["a.sql", "notes.txt", ".hidden.sql", "two/x.sql", "two/y.sql", "data/file.csv"] {
            write(path, "SELECT");
        }
        let names = |found: &[Found]| -> Vec<_> {
            found
                .iter()
                .map(|found| (found.path.file_name().unwrap().to_str().unwrap().to_owned(), found.paths.len()))
                .collect()
        };
        let first = find(folder.path()).unwrap();
        assert_eq!(names(&first), [("a.sql".to_owned(), 1), ("two".to_owned(), 2)]);

        write("two/y.sql", "SELECT 1");
        let second = find(folder.path()).unwrap();
        assert_eq!(second[0].fingerprint, first[0].fingerprint);
        assert_ne!(second[1].fingerprint, first[1].fingerprint);
        assert_eq!(find(&folder.path().join("a.sql")).unwrap().len(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn files_that_cannot_be_read_are_pipelines_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for (name, to) in [("loop.sql", "loop.sql"), ("nowhere.sql", "gone")] {
            std::os::unix::fs::symlink(path(to), path(name)).unwrap();
        }
        let found = find(folder.path()).unwrap();
        assert_eq!(
            found.iter().map(|found| &found.path).collect::<Vec<_>>(),
            [&path("loop.sql"), &path("nowhere.sql")]
        );
        assert!(matches!(find(&path("loop.sql")), Err(Error::Unreadable { .. })));
        assert!(matches!(find(&path("gone")), Err(Error::NoPipeline { .. })));
        let told = sql_files::none_at(&path("nowhere.sql")).to_string();
        assert!(told.contains("is a link to what is not there") && !told.contains("did you mean"), "{told}");
    }
}
