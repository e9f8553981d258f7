//! Bessemer on DataFusion: definitions become plans, plans become rows, expectations judge them.
//!
//! ```text
//! Definition + relations ──plan()──► Plan ──► PlannedSet ──physical()──► batches ──► Gate ──► passed
//!        │                                      append | snapshot                     │  └──► quarantined
//!        └──► Diagnostics (every fault, at its place)                                 └─────► GateReport
//! ```
//!
//! This crate plans and computes. It reads no file, knows no connector, writes nothing: sources come as
//! `TableProvider`s, and what a scan reads in an epoch comes to it as an extension of the session.

mod duration;
mod emit;
mod error;
mod exchange;
mod functions;
mod given;
mod memory;
mod requirements;
mod session;
mod type_name;

mod catalog;
mod comparison;
mod syntax;

mod blame;
mod expression;

mod asof;
mod reader;
mod window;

mod expectation;
mod short_text;
mod source;
mod using;
mod view;

mod classify;
mod operators;
mod order;
mod order_once;
mod origin;
mod partition_value;

mod explain;
mod gate;
mod incremental;
mod plan;
mod plan_text;
mod set;
mod shared;

#[cfg(test)]
mod tests;

pub use catalog::Relation;
pub use classify::SetKind;
pub use error::{Error, Result};
pub use functions::exact_aggregates;
pub use gate::{Expectations, Gate, GateReport, Judged, VIOLATIONS_COLUMN};
pub use incremental::{Between, Emits, Incremental, Lookup, Range, Resident, SegmentRows};
pub use memory::{ProcessMemory, memory_within_reach};
pub use plan::{LedgerShape, Plan, PlannedSet, Reason, Upkeep, plan};
pub use session::{SessionOptions, session, with_extension};
pub use source::default_values;
pub use type_name::sql_type_name;
