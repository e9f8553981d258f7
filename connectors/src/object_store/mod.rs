//! Sources over objects: files on disk, in buckets, behind web servers.
//!
//! A source is listed once per run, in bounded memory, and compared with what was read before; what is new is cut into
//! slices. A scan reads exactly its slice: each object pinned to its version, each record accounted for.
//!
//! ```text
//! paths, globs ─► walk ─► sort (spilling) ─► merge with what was read ─► slices
//! slice ─► pieces per partition ─► pinned reads ─► decode ─► admit ─► batches
//!                                                     └─ rejects, ledger ─► ScanReport
//! ```
//!
//! Not read: names that begin with `.` or `_` (as Spark and Hive see it), unless the path names them; what
//! `object_store` leaves of an upload in progress. A folder's objects are those whose names end as the format's do.

mod fit;
mod footers;
mod infer;
mod listing;
mod object_reader;
mod options;
mod parquet_read;
mod pattern;
mod piece;
mod pinned;
mod provider;
mod read_plan;
mod reject_rows;
mod replay;
mod scan;
mod scan_piece;
mod source;
mod spill;
mod text_read;
mod typed_read;
mod walk;

pub use listing::Listing;
pub use options::{FileFormat, ObjectSourceOptions, OnChange, OnError};
pub(crate) use pinned::PinnedObject;
pub use source::ObjectSource;

#[cfg(test)]
mod tests;
