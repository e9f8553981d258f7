//! `files`: the live files of a feature set.

#[cfg(feature = "kafka")]
use bessemer_connectors::sink::read_rows;
use bessemer_schemas::DataFile;
use futures::TryStreamExt;
use serde::Serialize;

use crate::cli::FilesArgs;
use crate::command::history;
#[cfg(feature = "kafka")]
use crate::command::preview::print_batches;
use crate::error::Result;
use crate::output;

#[derive(Debug, Serialize)]
struct File {
    path: String,
    rows: u64,
    bytes: u64,
}

/// Prints the first rows of what is committed of a feature set.
#[cfg(feature = "kafka")]
pub(crate) async fn print_committed(pipeline: &std::path::Path, set: &str, limit: u64) -> Result<()> {
    let (parsed, _, history) = history(&[pipeline.to_path_buf()]).await?;
    let files: Vec<DataFile> = history.live_files(set).try_collect().await?;
    let batches: Vec<_> = read_rows(&parsed.set(set)?.location, &files, limit).try_collect().await?;
    print_batches(&batches, false)
}

/// Lists exactly the committed files of a feature set, one path a line.
pub(crate) async fn files(args: &FilesArgs) -> Result<()> {
    let (parsed, _, history) = history(std::slice::from_ref(&args.path)).await?;
    let location = &parsed.set(&args.set)?.location;
    let files: Vec<DataFile> = history.live_files(&args.set).try_collect().await?;
    let files = files.into_iter().map(|file| File {
        path: format!("{}/{}", location.as_text().trim_end_matches('/'), file.path),
        rows: file.rows,
        bytes: file.bytes,
    });
    let files: Vec<_> = files.collect();
    if args.json {
        return output::json(&files);
    }
    files.iter().try_for_each(|file| output::line(&file.path))
}
