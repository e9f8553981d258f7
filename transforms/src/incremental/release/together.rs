//! How far two times of one row are apart.

use datafusion::common::DFSchema;
use datafusion::logical_expr::{Distinct, Expr, LogicalPlan, Operator};

use super::reach::Place;
use crate::window::{SessionWindow, Spread, trace};

/// From the time at `place` to that of `expr` in one row of `plan`.
pub(super) fn expr_spread(plan: &LogicalPlan, place: Place, expr: &Expr) -> Option<Spread> {
    let found = trace(expr, None, plan.schema())?;
    let at = plan.schema().maybe_index_of_column(found.column)?;
    Some(spread(plan, place, Place { at, bound: found.bound })?.then(found.spread))
}

/// From the time at `a` to that at `b` in one row of `plan`, where both come from one column.
pub(super) fn spread(plan: &LogicalPlan, a: Place, b: Place) -> Option<Spread> {
    let (a, b) = (sources(plan, a), sources(plan, b));
    a.iter().find_map(|(node, at, of_a)| {
        let same = b.iter().find(|(other, other_at, _)| std::ptr::eq(*node, *other) && at == other_at)?;
        Some(of_a.back().then(same.2))
    })
}

/// The columns that the time at `place` is made from, and how far it is from each, down to where it is read.
fn sources(plan: &LogicalPlan, place: Place) -> Vec<(&LogicalPlan, usize, Spread)> {
    let (mut plan, mut place, mut spread) = (plan, place, Spread::default());
    let mut found = Vec::new();
    loop {
        if place.bound.is_none() {
            found.push((plan, place.at, spread));
        }
        let (input, expr) = match plan {
            LogicalPlan::Projection(projection) => (projection.input.as_ref(), projection.expr.get(place.at)),
            LogicalPlan::Aggregate(aggregate) => match aggregate.group_expr.get(place.at) {
                Some(key) => (aggregate.input.as_ref(), Some(key)),
                None => return found,
            },
            LogicalPlan::SubqueryAlias(alias) => (alias.input.as_ref(), None),
            LogicalPlan::Filter(filter) => (filter.input.as_ref(), None),
            LogicalPlan::Sort(sort) => (sort.input.as_ref(), None),
            LogicalPlan::Distinct(Distinct::All(input)) => (input.as_ref(), None),
            LogicalPlan::Window(window) if place.at < window.input.schema().fields().len() => {
                (window.input.as_ref(), None)
            }
            LogicalPlan::Extension(_) => match SessionWindow::of(plan) {
                Some(session) if place.at < session.width() => (session.data(), None),
                _ => return found,
            },
            LogicalPlan::Unnest(unnest) => match unnest.dependency_indices.get(place.at) {
                Some(at) => {
                    place.at = *at;
                    (unnest.input.as_ref(), None)
                }
                None => return found,
            },
            _ => return found,
        };
        if let Some(expr) = expr {
            let Some(traced) = trace(expr, place.bound, input.schema()) else { return found };
            let Some(at) = input.schema().maybe_index_of_column(traced.column) else { return found };
            spread = traced.spread.then(spread);
            place = Place { at, bound: traced.bound };
        }
        plan = input;
    }
}

/// Pairs of a column of one side and one of the other, with how far the second is from the first in rows that meet all
/// `conditions`.
pub(super) fn bounds(conditions: &[Expr], mine: &DFSchema, theirs: &DFSchema) -> Vec<(usize, usize, Spread)> {
    /// The most that the other column is after this one, and that it is before it.
    type Limits = (Option<i128>, Option<i128>);
    let mut found: Vec<((usize, usize), Limits)> = Vec::new();
    let mut limit = |earlier: &Expr, later: &Expr| {
        for (a, b, a_is_mine) in [(earlier, later, true), (later, earlier, false)] {
            let (Some(a), Some(b)) = (trace(a, None, mine), trace(b, None, theirs)) else { continue };
            let at = (mine.maybe_index_of_column(a.column), theirs.maybe_index_of_column(b.column));
            let (Some(at_a), Some(at_b)) = at else { continue };
            let known = found.iter().position(|(pair, _)| *pair == (at_a, at_b)).unwrap_or_else(|| {
                found.push(((at_a, at_b), (None, None)));
                found.len() - 1
            });
            let (after, before) = &mut found[known].1;
            let tighter = |known: Option<i128>, new: i128| Some(known.map_or(new, |known| known.min(new)));
            if a_is_mine {
                // a + x <= b + y: a is after b by y - x at most.
                *before = tighter(*before, b.spread.most - a.spread.least);
            } else {
                *after = tighter(*after, a.spread.most - b.spread.least);
            }
        }
    };
    for condition in conditions {
        match condition {
            Expr::BinaryExpr(binary) => match binary.op {
                Operator::LtEq | Operator::Lt => limit(&binary.left, &binary.right),
                Operator::GtEq | Operator::Gt => limit(&binary.right, &binary.left),
                Operator::Eq => {
                    limit(&binary.left, &binary.right);
                    limit(&binary.right, &binary.left);
                }
                _ => {}
            },
            Expr::Between(between) if !between.negated => {
                limit(&between.low, &between.expr);
                limit(&between.expr, &between.high);
            }
            _ => {}
        }
    }
    let both = |((mine, theirs), (after, before)): ((usize, usize), Limits)| {
        Some((mine, theirs, Spread { least: -before?, most: after? }))
    };
    found.into_iter().filter_map(both).collect()
}
