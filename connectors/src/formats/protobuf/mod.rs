//! Protocol Buffers: messages by their descriptors, straight into the declared columns.
//!
//! A field of a message may come in any order, more than once and in parts, and the last one counts (what other members of
//! a `oneof` held before it is not looked into); a column grows by one value a row. So a message is passed over twice: its fields are noted where they are, then taken in the order of the
//! columns.
//!
//! A field that can tell whether it is there is NULL where it is not (`optional`, messages, members of a `oneof`); another
//! has its zero, as its writer meant. Lists and maps are empty.

mod infer;
mod read;
mod resolve;
mod schema;
mod wire;

pub use infer::infer;
pub use read::ProtobufReader;
pub use schema::{ProtobufSchema, split_path};

#[cfg(test)]
mod tests;
