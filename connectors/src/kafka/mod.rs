//! Sources over Kafka topics: offsets in, batches out, every offset accounted for.
//!
//! What is new is what the brokers say beyond the offsets of the last manifest. It is cut into slices of offsets; a scan
//! reads exactly its slice, from consumers of its own that are assigned (never subscribed) to it, so that no group, no
//! rebalance and no stored offset has any say in what is read.
//!
//! ```text
//! topics, watermarks ─► start..end of each partition ─► slices
//! slice ─► ranges per plan partition ─► consumer ─► decode in place ─► admit ─► batches
//!                                                        └─ rejects, gaps, ledger ─► ScanReport
//! ```
//!
//! An offset is a record, or a gap that the broker keeps to itself (transaction markers, aborted and compacted records).
//! While nothing comes of a range, the next ones are read, and their rows are held until it is their turn.
//! A range is read when a record at or beyond its last offset was seen, or an end of the partition beyond it was.

mod breaker;
mod client;
mod consumers;
mod demo;
mod discover;
mod native;
mod options;
mod parts;
mod payload;
mod provider;
mod queue;
mod read;
mod reject;
mod replay;
mod rows;
mod scan;
mod security;
mod sink;
mod source;
mod token;
mod topic_id;

pub use demo::{DemoCluster, DemoProducer};
pub use discover::{Backlog, PartitionEnd};
pub use options::{Isolation, KafkaSourceOptions, OnDataLoss, Startup};
pub use reject::reject_schema;
pub use source::KafkaSource;

#[cfg(test)]
mod tests;
