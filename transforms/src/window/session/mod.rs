//! `SESSION` as an operator: rows of equal keys that follow one another in less than a gap.
//!
//! ```text
//! rows ── by hash of the keys ── sorted by (keys, time) ──► each with the first and the last time of its session
//! ```
//!
//! The engine adds the exchange and the sort, which spills. Rows leave in the order in which they came, as soon as their
//! session has ended: the operator holds those of one session. Rows of one time are in one session, in whatever order they
//! come.

mod exec;
mod node;

pub(crate) use node::SessionWindow;
