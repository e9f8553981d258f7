//! Strict decoding of JSON lines and CSV, straight into Arrow.
//!
//! Bytes of one object at a time go in, in chunks of any size; batches of rows and a table of rejected records come
//! out. One bad record costs exactly one record. No I/O, no threads, bounded memory.
//!
//! ```text
//! bytes ─► frame (newline, quotes, length) ─► parse and check every declared column ─┬─► batch (projected columns)
//!                                                                                     └─► reject (code, bytes)
//! ```
//!
//! **The same records are rejected whatever the query reads**: columns outside the projection are checked, not built.
//! A record with several faults has one reason, the first of: too long, not UTF-8, bad quoting or not JSON, duplicate
//! key, wrong number of fields, then the first column at fault as the record is written; a missing `NOT NULL` field
//! comes last.
//!
//! Values, where the standards leave a choice:
//!
//! | type | JSON | CSV |
//! | --- | --- | --- |
//! | whole numbers | a number that is exactly integral: `1`, `1.0`, `1e2`; `1.5` is `not_whole`; a string is `wrong_type` | the same, and `+5`, `007`, `5.` |
//! | `REAL`, `DOUBLE` | any number, correctly rounded; beyond the type is `out_of_range` | the same, and `+5`, `.5`; `NaN` and `inf` are `wrong_type` |
//! | `DECIMAL` | a number or a string, exactly; digits beyond the scale that are not 0, or beyond the precision, are `out_of_range` | the same |
//! | `BOOLEAN` | `true`, `false` | `true`, `false`, `t`, `f` in any case, `1`, `0` |
//! | `DATE` | `2013-01-31`; a day that does not exist is `out_of_range` | the same |
//! | `TIME` | `23:59`, `23:59:59`, `23:59:59.5` | the same |
//! | `TIMESTAMP` | ISO 8601, with `T` or a blank; a date alone is midnight; no zone means UTC, an offset (`Z`, `+02`, `+02:00`, `+0200`) is converted to UTC, whether the column has a zone or not; digits finer than the column's unit must be 0, otherwise `out_of_range` | the same |
//! | `VARCHAR` | a string; numbers, objects and arrays are `wrong_type`, unless the field has the extension type `arrow.json`, which takes any value as its text | any text |
//! | `BINARY` | base64 with padding | the same |
//! | lists, structs, maps | arrays, objects; an undeclared key of a struct is treated as one of the record | not possible |
//!
//! `DEFAULT` is for a field that is missing; a field that is null is null.

mod base64;
mod change;
pub(super) mod column;
mod csv;
mod decoder;
mod event_time;
pub(super) mod fault;
mod frame;
mod infer;
pub(super) mod json;
mod number;
pub(super) mod options;
mod record_numbers;
mod reject;
pub(super) mod rows;
mod scan;
pub(super) mod time;

#[cfg(test)]
mod testing;

pub use decoder::{Decoded, ObjectCounts, RecordFault, TextDecoder, TextDecoderOptions};
pub use event_time::EventTimeBounds;
pub use fault::FileFault;
pub use infer::{Inferred, infer};
pub use options::{
    CHANGE_COLUMNS, CsvOptions, DecodeLimits, Encoding, JsonOptions, OnExtra, TextFormat, TimestampFormat,
};
pub use record_numbers::RecordNumbers;
pub use reject::{ORIGINAL_BYTES_MAX, reject_schema};
