//! The example's pipeline and data, moved to where a test can do with them what it wants.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::{Bessemer, Pinned, Rows, read_set};

/// The feature sets of the example.
pub const SETS: [&str; 3] = ["carrier_punctuality", "airport_congestion", "plane_history"];

/// Root of the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).unwrap_or_default()
}

/// Flights, weather, planes, airports and airlines, and what the feature sets over them must hold.
#[derive(Debug)]
pub struct Flights {
    /// The folder with the files.
    pub data: PathBuf,
    /// What `integration-tests/oracle/flights.py` computed from them.
    pub pinned: Pinned,
}

impl Flights {
    /// The two months that are committed with the example.
    pub fn example() -> Result<Self> {
        let pinned = Pinned::open(&repository().join("integration-tests/oracle/expected/example"))?;
        Ok(Self { data: repository().join("examples/flights/data"), pinned })
    }

    /// The whole year where it lies beside the repository, else the example's two months, which is said.
    pub fn year_or_example() -> Result<Self> {
        let data = repository().join("../shared/data/nycflights13");
        if !data.is_dir() {
            #[expect(clippy::print_stderr, reason = "whoever reads the test's output must know what it did not test")]
            {
                eprintln!("skipped the whole year: no `{}`; testing the example's two months instead", data.display());
            }
            return Self::example();
        }
        let pinned = Pinned::open(&repository().join("integration-tests/oracle/expected/year"))?;
        Ok(Self { data, pinned })
    }
}

/// The example's pipeline in a folder of its own.
#[derive(Debug)]
pub struct Pipeline {
    folder: tempfile::TempDir,
    /// Where its feature sets are, where they are on disk.
    pub features: PathBuf,
}

impl Pipeline {
    /// The example of flights over `data`, which may also be a URL; `edit` may change its text.
    pub fn flights(data: &str, edit: impl FnOnce(String) -> String) -> Result<Self> {
        Self::example("flights", data, edit)
    }

    /// An example over `data`, which may also be a URL; `edit` may change its text.
    pub fn example(name: &str, data: &str, edit: impl FnOnce(String) -> String) -> Result<Self> {
        let text = fs::read_to_string(repository().join("examples").join(name).join("pipeline.sql"))?;
        ensure!(text.contains("'data/"), "the example reads no file below `data/`");
        Self::new(&edit(text.replace("'data/", &format!("'{data}/"))))
    }

    /// A pipeline of this text.
    pub fn new(text: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        fs::write(folder.path().join("pipeline.sql"), text)?;
        let features = folder.path().join("features");
        Ok(Self { folder, features })
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The path to give to `bessemer`.
    pub fn path(&self) -> String {
        self.folder.path().display().to_string()
    }

    /// All rows that a reader which globs `*.parquet` sees.
    pub fn rows(&self, set: &str) -> Result<Rows> {
        read_set(&self.features.join(set))
    }

    /// The live files of a set, as `bessemer files` lists them.
    pub fn live_files(&self, bessemer: &Bessemer, set: &str) -> Result<Vec<PathBuf>> {
        let files = bessemer.json(["files", &self.path(), set, "--json"])?;
        let files = files.as_array().context("`files --json` prints no list")?;
        let paths = files.iter().map(|file| file["path"].as_str().map(PathBuf::from).context("a file without a path"));
        let mut paths = paths.collect::<Result<Vec<_>>>()?;
        paths.sort();
        Ok(paths)
    }
}
