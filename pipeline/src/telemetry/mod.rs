//! What the daemon knows of its pipelines, and how it is asked: health, readiness, metrics, over HTTP.
//!
//! ```text
//! each pipeline's task ── once an epoch, once a look at its sources ──► Board ◄── GET /metrics, /readyz, …
//!                         (board.rs, pipeline.rs)                             (server.rs, collect.rs, metric.rs)
//! ```
//!
//! Nothing here is asked by the epoch loop, and nothing is counted per record: the counts are those of the manifests.

mod board;
mod collect;
mod metric;
mod pipeline;
mod process;
mod server;
#[cfg(test)]
mod tests;

pub(crate) use board::{Board, Observer};
pub(crate) use pipeline::Phase;
pub(crate) use server::Server;
