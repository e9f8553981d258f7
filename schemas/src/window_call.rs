//! How calls of window functions stand in the tree of a query, whichever way they were written.
//!
//! The data is always a query (`t` has become `(SELECT * FROM t)`), `DESCRIPTOR(column)` stays as it was written, and
//! `PARTITION BY` is a named argument.

/// The table functions that put rows into windows of time.
pub const WINDOW_FUNCTIONS: [&str; 4] = ["tumble", "hop", "cumulate", "session"];

/// Name of the argument with the keys of a session; nobody can write it, for it has a space.
pub const PARTITION_BY: &str = "partition by";
