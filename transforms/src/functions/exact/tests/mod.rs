//! Sums against exact ones, and the functions in queries.

#![expect(clippy::float_cmp, reason = "to the last bit is what is claimed")]

mod oracle;
mod queries;
mod sums;
