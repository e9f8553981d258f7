//! Windows of time: `TUMBLE`, `HOP`, `CUMULATE` and `SESSION` in `FROM`.
//!
//! ```text
//! TUMBLE(t, at, size)          each row once       at: date_bin(size)
//! HOP(t, at, slide, size)      once in each window that slides over it
//! CUMULATE(t, at, step, size)  once in each window that grows until it is full
//! SESSION(t PARTITION BY k, at, gap)
//! ```
//!
//! A call is read into a [`Window`], and the plan is made from that alone: projections, an unnest and, for sessions,
//! an operator of ours ([`session`]). A row without an event time is in no window.

mod bounds;
mod call;
mod interval;
mod panes;
mod plan;
mod planner;
mod read;
mod session;
mod spread;
mod ticks;
mod watermark;

pub(crate) use call::Call;
pub(crate) use interval::{NANOS_OF_DAY, nanos_of};
pub(crate) use panes::{in_panes, with_one_bound};
pub(crate) use planner::WindowPlanner;
pub(crate) use session::SessionWindow;
pub(crate) use spread::{Spread, Traced, interval, tick_of, trace};
pub(crate) use ticks::in_ticks;
pub(crate) use watermark::{Follows, Logs};

use datafusion::common::Column;
use datafusion::logical_expr::Expr;

/// The columns that a window adds to those of its data.
pub(crate) const START: &str = "window_start";
pub(crate) const END: &str = "window_end";

/// A window function with its arguments.
#[derive(Debug, Clone)]
pub(crate) struct Window {
    /// The event time.
    pub(crate) time: Column,
    pub(crate) kind: Kind,
}

#[derive(Debug, Clone)]
pub(crate) enum Kind {
    Aligned(Aligned),
    /// Rows of equal keys that follow one another in less than `gap`, in ticks of the column.
    Session {
        keys: Vec<Expr>,
        gap: Length,
    },
}

/// Windows whose bounds are the same for all rows: they lie on a grid through 1970-01-01 00:00:00 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Aligned {
    pub(crate) shape: Shape,
    /// By how much the grid is moved.
    pub(crate) offset: Length,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Shape {
    Tumble { size: Length },
    Hop { slide: Length, size: Length },
    Cumulate { step: Length, size: Length },
}

/// A length of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Length {
    /// Months of the calendar, in UTC.
    Months(i64),
    /// Days are 24 hours.
    Nanos(i64),
}
