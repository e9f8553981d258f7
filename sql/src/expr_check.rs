//! What no expression of a pipeline may contain: functions whose value depends on when or how often they are called,
//! and, in rules about a single row, anything that looks beyond the row.

use std::convert::Infallible;
use std::ops::ControlFlow;

use bessemer_schemas::{Diagnostic, FileId, Span};
use sqlparser::ast::{Expr, Function, Query, Spanned, Value, ValueWithSpan, Visit, Visitor};

use crate::ident;

/// Functions that would make rows depend on the clock or on chance.
const VOLATILE: [(&str, &str); 15] = [
    ("now", CLOCK),
    ("current_timestamp", CLOCK),
    ("current_date", CLOCK),
    ("current_time", CLOCK),
    ("localtime", CLOCK),
    ("localtimestamp", CLOCK),
    ("today", CLOCK),
    ("transaction_timestamp", CLOCK),
    ("statement_timestamp", CLOCK),
    ("clock_timestamp", CLOCK),
    ("random", CHANCE),
    ("rand", CHANCE),
    ("uuid", CHANCE),
    ("gen_random_uuid", CHANCE),
    ("uuidv4", CHANCE),
];

const CLOCK: &str = "use the event time of the rows, `INCLUDE MODIFIED` for the time of their file, or a literal such \
     as `TIMESTAMP '2013-01-01 00:00:00'`";
const CHANCE: &str = "derive the value from the row, for example from `sha256(key)`: the same row then always gets \
     the same value";

/// Aggregates that have no twin for a single row.
const AGGREGATES: [&str; 14] = [
    "count",
    "sum",
    "avg",
    "mean",
    "min",
    "max",
    "stddev",
    "var",
    "median",
    "array_agg",
    "string_agg",
    "bool_and",
    "bool_or",
    "approx_distinct",
];

/// The error for a call of a volatile function.
pub(crate) fn volatile(file: FileId, function: &Function) -> Option<Diagnostic> {
    let [name] = ident::parts(file, &function.name)?.try_into().ok()?;
    let (_, help) = VOLATILE.iter().find(|(volatile, _)| *volatile == name.value)?;
    let message = format!("`{}` gives another value on every run", name.value);
    Some(Diagnostic::error(message, name.span).with_help(*help))
}

/// The warning for a text that looks as if a variable should be put in.
pub(crate) fn variable(file: FileId, value: &ValueWithSpan) -> Option<Diagnostic> {
    let (Value::SingleQuotedString(text) | Value::EscapedStringLiteral(text)) = &value.value else { return None };
    let (_, rest) = text.split_once("${")?;
    rest.contains('}').then(|| {
        Diagnostic::warning("`${…}` is not replaced here", Span::from_tokens(file, value.span))
            .with_help("variables are replaced in `WITH (…)` and `SET`; a query says the same whoever runs it")
    })
}

/// The problems of a row expression; `what` owns it: `an expectation`.
pub(crate) fn problems(file: FileId, expr: &Expr, what: &str) -> Vec<Diagnostic> {
    let mut walk = RowWalk { file, what, allows_aggregates: false, depth: 0, problems: Vec::new() };
    let ControlFlow::Continue(()) = expr.visit(&mut walk);
    walk.problems
}

/// The problems of an aggregate expectation.
pub(crate) fn aggregate_problems(file: FileId, expr: &Expr, what: &str) -> Vec<Diagnostic> {
    let mut walk = RowWalk { file, what, allows_aggregates: true, depth: 0, problems: Vec::new() };
    let ControlFlow::Continue(()) = expr.visit(&mut walk);
    walk.problems
}

struct RowWalk<'a> {
    file: FileId,
    what: &'a str,
    allows_aggregates: bool,
    /// How many queries deep; what is inside one has been reported with it.
    depth: usize,
    problems: Vec<Diagnostic>,
}

impl RowWalk<'_> {
    fn function(&mut self, function: &Function) {
        let span = Span::from_tokens(self.file, function.name.span());
        if let Some(problem) = volatile(self.file, function) {
            self.problems.push(problem);
        } else if function.over.is_some() {
            let message = format!("{} cannot contain a window function", self.what);
            self.problems.push(
                Diagnostic::error(message, span)
                    .with_help("compute it as a column in a view or in the query of the set"),
            );
        } else if !self.allows_aggregates && self.is_aggregate(function) {
            let message = format!("{} sees one row at a time, not an aggregate", self.what);
            let help = match self.what {
                "an expectation" => "write `EXPECT AGGREGATE (…)`",
                _ => "compute it in a view, with `GROUP BY`",
            };
            self.problems.push(Diagnostic::error(message, span).with_help(help));
        }
    }

    fn is_aggregate(&self, function: &Function) -> bool {
        let parts = ident::parts(self.file, &function.name).unwrap_or_default();
        matches!(parts.as_slice(), [name] if AGGREGATES.contains(&name.value.as_str()))
    }
}

impl Visitor for RowWalk<'_> {
    type Break = Infallible;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Infallible> {
        if self.depth == 0 {
            let message = format!("{} cannot contain a query", self.what);
            let span = Span::from_tokens(self.file, query.span());
            self.problems.push(
                Diagnostic::error(message, span)
                    .with_help("join what it looks up in a view or in the query of the set, as a column"),
            );
        }
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &Query) -> ControlFlow<Infallible> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Infallible> {
        if let (Expr::Function(function), 0) = (expr, self.depth) {
            self.function(function);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_value(&mut self, value: &ValueWithSpan) -> ControlFlow<Infallible> {
        self.problems.extend(variable(self.file, value));
        ControlFlow::Continue(())
    }
}
