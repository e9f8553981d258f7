//! What the scans of every connector share: which part of an epoch they read, how rows are admitted, whom they report to.

mod admit;
mod emit;
mod epoch;
mod lateness;
mod leaf;
mod replay;

pub(crate) use admit::{Admission, Latest, Refusal, Verdict, event_micros};
pub(crate) use emit::{Emitter, stream_of};
pub use epoch::{EpochScans, Reporter, ScanInput, ScanObject, ScanOffsets, ScanReport};
pub use lateness::Lateness;
pub(crate) use lateness::{LateFloor, is_dropped};
pub(crate) use leaf::{PartRead, ScanExec, ScanLeaf, engine_error, epoch_scans};
#[cfg(feature = "kafka")]
pub(crate) use replay::column;
pub use replay::{MENDED_COLUMN, ReplayOrigin, ReplayPart};
pub(crate) use replay::{Refused, ReplayReader, Replayed, record_numbers, replay_plan};
