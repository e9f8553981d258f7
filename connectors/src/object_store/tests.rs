//! Tests of reading, over all formats.

mod bad_input;
mod formats;
mod harness;
mod lateness;
mod odd_store;
mod parquet;
mod paths;
mod pinned;
#[cfg(feature = "cloud")]
mod web;
