//! Where rows leave a pipeline: Parquet files of feature sets, quarantine files, and the Delta log over them.
//!
//! A writer makes files that nobody can see as committed: only a manifest that names them does that. Bytes are a
//! function of the rows, their order and the options; never of how the rows were cut into batches, of memory, of time
//! or of the number of encoders.
//!
//! ```text
//! sorted batches ─► runs of one partition ─► chunks of fixed size ─► row groups (encoders) ─► upload in parts
//! ```

pub mod delta;
#[cfg(test)]
mod faulty_store;
mod file_sequence;
mod merge;
mod options;
mod parquet;
mod partition;
mod quarantine;
mod reader;
mod row_group;
mod set_writer;
mod shape;
mod state;
mod upload;

pub use file_sequence::WriterNaming;
pub use options::{BloomFilter, FeatureSetOptions, SetFormat, check_distinct_paths};
#[cfg(feature = "kafka")]
pub(crate) use partition::escape;
pub use quarantine::{
    Origins, PartOrigin, QuarantineOwner, QuarantineWriter, as_quarantined, message_schema, quarantine_location,
    read_rows, record_schema, reject_schema, violation_schema,
};
pub use set_writer::{MergeEnd, SetWriter, WrittenSet};
pub use shape::SortedBy;
pub use state::{StateFiles, state_location, state_writer};
