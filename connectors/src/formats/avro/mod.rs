//! Avro: object container files, and records on their own, whose schemas come from elsewhere.
//!
//! A record is read by the schema that it was written with, straight into the declared columns, by Avro's rules of
//! resolution: fields are found by name, one that is missing takes its default or null, one that is not declared is
//! passed over (and must be well-formed), numbers are promoted. What a column is declared as must hold every value that
//! the schema allows; otherwise the schema contradicts the column, before any record is read.

mod container;
#[cfg(feature = "kafka")]
mod infer;
#[cfg(feature = "kafka")]
mod read;
#[cfg(feature = "kafka")]
mod resolve;
#[cfg(feature = "kafka")]
mod schema;

pub(crate) use container::open;
#[cfg(feature = "kafka")]
pub use infer::infer;
#[cfg(feature = "kafka")]
pub use read::AvroReader;
#[cfg(feature = "kafka")]
pub use schema::AvroSchema;

#[cfg(feature = "kafka")]
#[cfg(test)]
mod tests;
