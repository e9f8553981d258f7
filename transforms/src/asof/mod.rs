//! `ASOF [LEFT] JOIN … MATCH_CONDITION (…)`: each row of the left side with the nearest one of the right side.
//!
//! ```text
//! l ASOF JOIN r MATCH_CONDITION (l.at >= r.at) ON l.k = r.k
//!
//!   l ── by hash of k ── sorted by (k, at) ───────────────────────┐
//!                                                                 ├── merged: rows of l, each with the last row of r
//!   r ── by hash of k ── sorted by (k, at, all other columns) ────┘   that it reached, if that is of its key
//! ```
//!
//! A join is read into a [`Matching`], and the node of the plan is made from that alone. The engine adds the exchanges
//! and the sorts, which spill; the merge holds a batch of the left and two of the right side. Of rows of the right side
//! with the same key and time the one that sorts last by its columns is taken, so that it does not matter in which order
//! they came.

mod exec;
mod merge;
mod node;
mod planner;
mod read;
mod written;

pub(crate) use node::AsofJoin;
pub(crate) use planner::AsofPlanner;
pub(crate) use written::{Written, as_relation};

use datafusion::common::Column;
use datafusion::logical_expr::{Expr, JoinType};

/// Which rows of the two sides belong together.
#[derive(Debug, Clone)]
pub(crate) struct Matching {
    /// `Inner` drops rows of the left side without a match, `Left` keeps them.
    join_type: JoinType,
    /// Pairs of left and right, equal in what belongs together.
    keys: Vec<(Expr, Expr)>,
    /// Left and right.
    time: (Expr, Expr),
    nearest: Nearest,
    /// Columns of the right side that `USING` leaves out, since the left side has the same.
    left_out: Vec<Column>,
}

/// Which row of the right side is nearest, and whether it may have the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Nearest {
    /// The last one before, or else the first one after.
    is_before: bool,
    or_at: bool,
}
