//! Plain data and pure rules of Bessemer: what a pipeline file means, what an epoch read, what it wrote.
//!
//! No I/O, no async, no clock: every type here is a value, every function a rule over values.
//! `sql` makes a [`Definition`] from text, `connectors` and `transforms` carry it out, `pipeline` commits the
//! result as a [`Manifest`].
//!
//! ```text
//! text ──► Definition ──► Slice ──► rows, rejects, counts ──► Manifest
//!             │                                                  ▲
//!             └── Diagnostic (file, line, column, help)          └── Ledger balances
//! ```

mod diagnostic;
mod error_kind;
mod option;
mod quantity;
mod span;

mod bad_records;
mod definition;
mod reject;

mod compaction;
mod digest;
mod epoch;
mod file_name;
mod layout;
mod ledger;
mod manifest;
mod run_record;
mod slice;
mod watermark;
mod window_call;

pub use bad_records::{BadRecordLimit, BadRecordWindow, BadRecords};
pub use compaction::{Merge, MergeLimits, Tiers};
pub use definition::{
    Action, AggregateScope, ColumnDefinition, Constraint, Definition, EmitEvery, EventTime, Expectation,
    FeatureSetDefinition, IncludeColumn, IncludeKind, Name, OnLate, PipelineDefinition, SourceDefinition, SourceKind,
    ViewDefinition, WatermarkDefinition,
};
pub use diagnostic::{Diagnostic, Severity, nearest};
pub use digest::{Consequence, DefinitionChange, DefinitionDigest, Digest, SetDigest, SourceDigest};
pub use epoch::{Claim, Epoch};
pub use error_kind::ErrorKind;
pub use file_name::FileName;
pub use layout::{ORIGIN_COLUMN, PartitionField, PartitionTransform, pack_origin, unpack_origin};
pub use ledger::{Imbalance, SetLedger, SourceLedger};
pub use manifest::{
    Base, BlockRef, DataFile, ExpectationResult, FORMAT_VERSION, Failure, FileChanges, Manifest, ManifestKind, Segment,
    SetCommit, SetState, WriterInfo,
};
pub use option::{OptionEntry, OptionMap, OptionValue};
pub use quantity::{ByteSize, Secret, parse_duration};
pub use reject::RejectReason;
pub use run_record::{Control, DaemonRecord, RunOutcome, RunRecord, RunTrigger, Wish};
pub use slice::{ObjectVersion, OffsetRange, QuarantinedRecords, Slice, SliceLimits, SourceSlice};
pub use span::{FileId, Position, SourceFile, SourceFiles, Span};
pub use watermark::{PartitionWatermark, Watermark};
pub use window_call::{PARTITION_BY, WINDOW_FUNCTIONS};
