//! Tests of reading, over all formats.

mod bad_input;
mod formats;
mod harness;
mod odd_store;
mod parquet;
mod paths;
mod pinned;
mod session;
#[cfg(feature = "cloud")]
mod web;
