//! What the scans of every connector share: which part of an epoch they read, how rows are admitted, whom they report to.

mod admit;
mod emit;
mod epoch;
mod replay;

pub(crate) use admit::{Admission, Latest, Refusal};
pub(crate) use emit::{Emitter, stream_of};
pub use epoch::{EpochScans, Reporter, ScanInput, ScanObject, ScanOffsets, ScanReport};
pub(crate) use replay::{Refused, ReplayReader, Replayed, column, record_numbers, replay_plan};
pub use replay::{ReplayOrigin, ReplayPart};
