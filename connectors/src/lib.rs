//! Bessemer's sources and sinks: objects in stores, the formats they are in, Parquet and Delta out, and the manifest
//! store that makes an epoch exist.
//!
//! Knows `schemas`; knows neither SQL text nor plans, beyond the scan nodes that it offers to DataFusion.
//!
//! ```text
//! Location ──► object_store (list, slice, scan) ──► formats (frame, decode strictly) ──► batches + rejects
//! batches ──► sink (Parquet, quarantine, Delta) ──► manifest_store (claim, put-if-absent, sweep)
//! ```

mod error;
mod location;

pub mod formats;
pub mod manifest_store;
pub mod object_store;
pub mod sink;

pub use error::{Error, Result};
pub use location::{Location, StoreOptions};
