//! What a row of a set depends on, told by its event time.

use std::fmt;

use datafusion::logical_expr::{Expr, Window};

use super::frame::{is_made, window_function};
use super::reach::refused;
use crate::incremental::cut::Everything;
use crate::window::{Length, Spread};

/// What a row with the event time *t* depends on: rows from `back` before *t* to `ahead` after it, in nanoseconds, and more.
#[derive(Debug, Clone, Default)]
pub(super) struct Need {
    pub(super) back: i128,
    pub(super) ahead: i128,
    /// The last rows of their keys before all these.
    pub(super) last: Vec<Last>,
    /// The sessions that do not end before all these.
    pub(super) sessions: Vec<Sessions>,
    /// How long before *t* and after it the rows are that make the row be there, where some of these do: without one of
    /// them there is no row with this time.
    pub(super) own: Option<(i128, i128)>,
}

/// So many rows of each key, and those of the same time as the earliest of them; and what these depend on themselves.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Last {
    pub(super) keys: Vec<Expr>,
    pub(super) rows: usize,
    /// Conditions on the rows that count.
    pub(super) filters: Vec<Expr>,
    /// Rows of the key so much before the last one, in nanoseconds.
    pub(super) back: i128,
    /// Whether these are asked for what window functions gave, too.
    of_made: bool,
}

impl fmt::Display for Last {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { keys, rows, filters, back, .. } = self;
        write!(f, "the last {rows} of {} where {} and {back} before", written(keys), written(filters))
    }
}

impl Last {
    pub(super) fn new(keys: Vec<Expr>, rows: usize) -> Self {
        Self { keys, rows, filters: Vec::new(), back: 0, of_made: false }
    }

    /// The same below a node, where `below` says what an expression is there.
    pub(super) fn below(self, below: impl Fn(&Expr) -> Option<Expr>) -> Option<Self> {
        let all = |exprs: &[Expr]| exprs.iter().map(&below).collect::<Option<Vec<_>>>();
        Some(Self { keys: all(&self.keys)?, filters: all(&self.filters)?, ..self })
    }

    /// What it needs of the rows that the functions of `window` are over, which need `own` of the rows of a key.
    pub(super) fn over(self, window: &Window, own: &Need) -> Result<Self, Everything> {
        let calls = || window.window_expr.iter().filter_map(window_function);
        let is_same = |keys: &[Expr]| keys.len() == self.keys.len() && keys.iter().all(|key| self.keys.contains(key));
        let rows = own.last.iter().map(|last| last.rows).max().unwrap_or(0);
        // Rows before the last one count whatever they hold: all that is asked of it must be true of them, too.
        let in_order = calls().filter_map(|call| call.params.order_by.first()).map(|order| &order.expr);
        let of_all: Vec<_> = self.keys.iter().chain(in_order).filter_map(Expr::try_as_col).collect();
        let is_of_some = !self.filters.iter().flat_map(Expr::column_refs).all(|column| of_all.contains(&column));
        let is_nested = self.of_made && (rows > 0 || own.back > 0);
        if is_nested || (rows > 0 && is_of_some) || !calls().all(|call| is_same(&call.params.partition_by)) {
            return refused("the last row of a key is looked for, whose window functions are over other rows");
        }
        let of_made = calls().flat_map(|call| &call.params.args).any(|arg| is_made(&window.input, arg));
        Ok(Self { rows: self.rows.saturating_add(rows), back: self.back + own.back, of_made, ..self })
    }
}

/// Rows of equal keys that follow one another in less than `gap`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sessions {
    pub(super) keys: Vec<Expr>,
    pub(super) gap: Length,
}

impl fmt::Display for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sessions of {} with {:?}", written(&self.keys), self.gap)
    }
}

impl Need {
    /// That of times that are before or after these by `spread`: a row with such a time needs what `self` says of this one.
    pub(super) fn of(self, spread: Spread) -> Self {
        let own = self.own.map(|(back, ahead)| (back + spread.most, ahead - spread.least));
        Self { back: self.back + spread.most, ahead: self.ahead - spread.least, own, ..self }
    }

    /// What both need.
    pub(super) fn and(mut self, other: Self) -> Self {
        self.back = self.back.max(other.back);
        self.ahead = self.ahead.max(other.ahead);
        self.own = match (self.own, other.own) {
            (Some(own), Some(other)) => Some((own.0.max(other.0), own.1.max(other.1))),
            (own, other) => own.or(other),
        };
        for last in other.last {
            match self.last.iter_mut().find(|known| known.keys == last.keys && known.filters == last.filters) {
                Some(known) => {
                    (known.rows, known.back) = (known.rows.max(last.rows), known.back.max(last.back));
                    known.of_made |= last.of_made;
                }
                None => self.last.push(last),
            }
        }
        self.sessions.extend(other.sessions);
        self
    }
}

fn written(exprs: &[Expr]) -> String {
    exprs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
