//! Bessemer's sources and sinks: objects in stores, the formats they are in, Parquet and Delta out, and the manifest
//! store that makes an epoch exist.
//!
//! Knows `schemas`; knows neither SQL text nor plans, beyond the scan nodes that it offers to DataFusion.
//!
//! ```text
//! Location ──► object_store (list, slice, scan) ──┬─► formats (frame, decode strictly) ──► batches + rejects
//! brokers ───► kafka (ask, slice, scan) ──────────┤
//! registry ──► schema_registry (ask once, keep) ──┘
//! batches ──► sink (Parquet, quarantine, Delta) ──► manifest_store (claim, put-if-absent, sweep)
//! ```

mod default_value;
mod error;
#[cfg(feature = "kafka")]
mod http;
mod location;
mod source;
#[cfg(test)]
mod test_session;

pub mod formats;
#[cfg(feature = "kafka")]
pub mod kafka;
pub mod manifest_store;
pub mod object_store;
pub mod scan;
#[cfg(feature = "kafka")]
pub mod schema_registry;
pub mod sink;

pub use error::{Error, Result, TooManyBad};
pub use location::{Location, StoreOptions};
#[cfg(feature = "kafka")]
pub use source::OffsetLog;
pub use source::{Source, SourceOptions};
