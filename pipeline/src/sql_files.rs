//! Pipeline files on disk: which there are in a folder, and which one is meant where there is none.

use std::path::{Path, PathBuf};

use bessemer_schemas::nearest;

use crate::error::Error;

/// Pipelines that are named where there is none at a path.
const NAMED: usize = 3;

/// The `.sql` files of a folder, by name; none where it cannot be read.
pub(crate) fn in_folder(folder: &Path) -> Vec<PathBuf> {
    let mut files = entries(folder);
    files.retain(|path| is_sql(path) && path.is_file());
    files
}

/// Whether a path is one of a pipeline file that is not hidden.
pub(crate) fn is_sql(path: &Path) -> bool {
    !is_hidden(path) && path.extension().is_some_and(|extension| extension == "sql")
}

/// Whether its name begins with a dot.
pub(crate) fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// There is no pipeline file at `path`; those below it, or beside it, may be meant.
pub(crate) fn none_at(path: &Path) -> Error {
    let is_folder = path.is_dir();
    let what = if is_folder { "`.sql` file in " } else { "" };
    let what = if path.is_symlink() && !is_folder {
        format!("`{}` is a link to what is not there", path.display())
    } else {
        format!("there is no {what}`{}`", path.display())
    };
    let around = if is_folder { path } else { path.parent().unwrap_or(path) };
    let listed = if around.as_os_str().is_empty() { Path::new(".") } else { around };
    let mut near = entries(listed);
    near.retain(|path| !is_hidden(path) && (is_sql(path) && path.is_file() || !in_folder(path).is_empty()));
    let name_of = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let names: Vec<_> = near.iter().map(|path| name_of(path)).collect();
    let meant = nearest(&name_of(path), names.iter().map(String::as_str)).filter(|_| !is_folder);
    let written = |name: &str| format!("`{}`", around.join(name).display());
    let hint = match meant {
        Some(meant) => format!("; did you mean {}?", written(meant)),
        None if names.is_empty() => String::new(),
        None => {
            let some: Vec<_> = names.iter().take(NAMED).map(|name| written(name)).collect();
            format!(", such as {}", some.join(", "))
        }
    };
    Error::NoPipeline { what, hint }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_there_is_no_pipeline_those_around_it_are_named() {
        const NAME: &str = "name a pipeline file, or a folder that has one";
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["flights", "fraud", "empty", ".hidden"] {
            std::fs::create_dir(path(name)).unwrap();
        }
        let told = |name: &str| {
            let told = none_at(&path(name)).to_string();
            told.replace(&format!("{}/", folder.path().display()), "")
        };
        assert_eq!(told("empty"), format!("there is no `.sql` file in `empty`: {NAME}"));
        assert_eq!(told("flights"), format!("there is no `.sql` file in `flights`: {NAME}"));
        for name in ["flights/a.sql", "fraud/a.sql", ".hidden/a.sql"] {
            std::fs::write(path(name), "").unwrap();
        }
        assert_eq!(told(""), format!("there is no `.sql` file in ``: {NAME}, such as `flights`, `fraud`"));
        assert_eq!(told("flihgts"), format!("there is no `flihgts`: {NAME}; did you mean `flights`?"));
        assert_eq!(told("nothing"), format!("there is no `nothing`: {NAME}, such as `flights`, `fraud`"));
        assert_eq!(
            told("flights/b.sql"),
            format!("there is no `flights/b.sql`: {NAME}; did you mean `flights/a.sql`?")
        );
        assert_eq!(told("none/nothing"), format!("there is no `none/nothing`: {NAME}"));
    }
}
