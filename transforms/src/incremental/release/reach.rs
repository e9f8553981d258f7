//! Which rows of its logs a row of a query depends on, told by its event time.

use std::collections::HashMap;

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Column, DFSchema};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{
    Aggregate, Distinct, DistinctOn, Expr, Join, JoinType, LogicalPlan, Projection, Window,
};

use super::frame::{is_made, over, window_function};
use super::need::{Last, Need, Sessions};
use super::together::{bounds, expr_spread, spread};
use crate::SetKind;
use crate::asof::AsofJoin;
use crate::catalog::Catalog;
use crate::classify::{nature, subqueries_read_log};
use crate::incremental::cut::Everything;
use crate::window::{END, SessionWindow, Spread, Traced, tick_of, trace};

/// Rows that are read, and of which some are kept.
#[derive(Debug, Clone)]
pub(super) struct Input {
    /// A part of the query that takes rows one by one.
    pub(super) plan: LogicalPlan,
    /// Its column that follows watermarks.
    pub(super) time: usize,
    pub(super) need: Need,
}

/// A column, or one of the bounds that it holds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) at: usize,
    pub(super) bound: Option<&'static str>,
}

/// Why a subquery over a source is refused.
const SUBQUERY: &str = "a subquery in an expression reads a source: write it as a join with bounds in time";

/// How a reason ends that says nothing of what the query does.
pub(super) const NO_WATERMARK: &str = "does not follow a watermark";

pub(super) fn refused<T>(why: impl Into<String>) -> Result<T, Everything> {
    Err(Everything(why.into()))
}

/// The inputs of `plan`, where its rows are told apart by the time in their column `at`.
pub(super) fn inputs(plan: &LogicalPlan, at: usize, catalog: &Catalog<'_>) -> Result<Vec<Input>, Everything> {
    let mut reach = Reach { catalog, inputs: Vec::new() };
    let need = Need { own: Some((0, 0)), ..Need::default() };
    reach.node(plan, Place { at, bound: None }, need, &[])?;
    Ok(reach.inputs)
}

struct Reach<'c, 's> {
    catalog: &'c Catalog<'s>,
    inputs: Vec<Input>,
}

impl Reach<'_, '_> {
    /// Adds the inputs of `plan`, of whose rows those are needed that `need` says of the time at `place`; `filters` are
    /// what its rows are filtered by next.
    fn node(&mut self, plan: &LogicalPlan, place: Place, need: Need, filters: &[Expr]) -> Result<(), Everything> {
        if let LogicalPlan::SubqueryAlias(alias) = plan {
            let need = renamed(need, plan.schema(), alias.input.schema());
            return self.node(&alias.input, place, need, &[]);
        }
        let found = nature(plan, self.catalog);
        if found.logs.is_empty() {
            return refused("a part of it reads tables only, whose rows have no time");
        }
        if found.kind() == SetKind::Append && !found.orders_log {
            return self.input(plan, place, need);
        }
        if subqueries_read_log(plan, self.catalog) {
            return refused(SUBQUERY);
        }
        match plan {
            LogicalPlan::Projection(projection) => self.projection(projection, place, need),
            LogicalPlan::Filter(filter) => {
                let mut need = need;
                let is_plain = || !has_subquery(&filter.predicate) && !is_made(&filter.input, &filter.predicate);
                if !need.last.is_empty() && !is_plain() {
                    return refused(
                        "rows before a row are counted, of which a window function or a subquery filters some out",
                    );
                }
                for last in &mut need.last {
                    last.filters.push(filter.predicate.clone());
                }
                let mut filters: Vec<_> = filters.to_vec();
                filters.extend(split_conjunction(&filter.predicate).into_iter().cloned());
                self.node(&filter.input, place, need, &filters)
            }
            LogicalPlan::Sort(sort) if sort.fetch.is_none() => self.node(&sort.input, place, need, filters),
            LogicalPlan::Unnest(unnest) if need.last.is_empty() => match unnest.dependency_indices.get(place.at) {
                Some(at) => self.node(&unnest.input, Place { at: *at, ..place }, need, &[]),
                None => refused("its time is one of a list"),
            },
            LogicalPlan::Aggregate(aggregate) => self.aggregate(aggregate, place, need),
            LogicalPlan::Distinct(Distinct::All(input)) if need.last.is_empty() => self.node(input, place, need, &[]),
            LogicalPlan::Distinct(Distinct::On(distinct)) if need.last.is_empty() => {
                self.distinct_on(distinct, place, need)
            }
            LogicalPlan::Union(union) if need.last.is_empty() => {
                union.inputs.iter().try_for_each(|input| self.node(input, place, need.clone(), &[]))
            }
            LogicalPlan::Window(window) => self.window(window, place, need),
            LogicalPlan::Join(join) if need.last.is_empty() => self.join(join, place, &need, filters),
            LogicalPlan::Extension(_) if SessionWindow::of(plan).is_some() => self.session(plan, place, need),
            LogicalPlan::Extension(_) if need.last.is_empty() => match AsofJoin::of(plan) {
                Some(join) => self.asof_join(join, place, &need),
                None => refused("its query has an operator that is not known"),
            },
            _ if !need.last.is_empty() => refused("rows before a row are counted that are themselves put together"),
            _ => {
                let reason =
                    found.reasons.into_iter().next().map_or("an order or a limit".to_owned(), |(_, text)| text);
                refused(format!("rows pass through {reason}"))
            }
        }
    }

    fn input(&mut self, plan: &LogicalPlan, place: Place, need: Need) -> Result<(), Everything> {
        let name = plan.schema().field(place.at).name();
        let column = Column::from(plan.schema().qualified_field(place.at));
        let follows = self.catalog.logs().follows(plan, &column).unwrap_or_default();
        if place.bound.is_some() || follows.is_empty() {
            return refused(format!("`{name}` {NO_WATERMARK}"));
        }
        match self.inputs.iter_mut().find(|input| input.plan == *plan) {
            Some(input) if input.time != place.at => return refused("a part of it is told by two times"),
            Some(input) => input.need = std::mem::take(&mut input.need).and(need),
            None => self.inputs.push(Input { plan: plan.clone(), time: place.at, need }),
        }
        Ok(())
    }

    fn projection(&mut self, projection: &Projection, place: Place, need: Need) -> Result<(), Everything> {
        let input = projection.input.as_ref();
        if let Some((join, times)) = full_join(&projection.expr[place.at], input).filter(|_| place.bound.is_none()) {
            let mut passed = std::iter::successors(Some(input), |plan| filtered(plan));
            if passed.any(|plan| subqueries_read_log(plan, self.catalog)) {
                return refused(SUBQUERY);
            }
            return self.full_join(join, times, &need);
        }
        let (from, need) = Self::traced(&projection.expr[place.at], place.bound, input.schema(), need)?;
        let below = |expr: &Expr| below(expr, projection);
        let last = need.last.into_iter().map(|last| last.below(below));
        let last =
            last.collect::<Option<_>>().ok_or_else(|| Everything("rows are counted by what is computed".to_owned()))?;
        self.node(input, from, Need { last, ..need }, &[])
    }

    /// Rows of the same keys, one of which tells their time, are final together.
    fn distinct_on(&mut self, distinct: &DistinctOn, place: Place, need: Need) -> Result<(), Everything> {
        let input = distinct.input.as_ref();
        let (from, need) = Self::traced(&distinct.select_expr[place.at], place.bound, input.schema(), need)?;
        let Some(spread) = distinct.on_expr.iter().find_map(|key| expr_spread(input, from, key)) else {
            return refused("`DISTINCT ON` is not on the time of the set, or on its window");
        };
        let around = spread.then(spread.back());
        let need = Need { back: need.back - around.least, ahead: need.ahead + around.most, ..need };
        self.node(input, from, need, &[])
    }

    /// The column of `schema` that `expr` is computed from, and what is needed by that.
    fn traced(
        expr: &Expr,
        bound: Option<&'static str>,
        schema: &DFSchema,
        need: Need,
    ) -> Result<(Place, Need), Everything> {
        let found = trace(expr, bound, schema);
        let found = found.and_then(|found| Some((schema.maybe_index_of_column(found.column)?, found)));
        let Some((at, Traced { spread, bound, .. })) = found else {
            return refused(format!("`{}` {NO_WATERMARK}", expr.schema_name()));
        };
        Ok((Place { at, bound }, need.of(spread)))
    }

    fn aggregate(&mut self, aggregate: &Aggregate, place: Place, need: Need) -> Result<(), Everything> {
        let Some(key) = aggregate.group_expr.get(place.at).filter(|key| !matches!(key, Expr::GroupingSet(_))) else {
            return refused("no key of `GROUP BY` follows a watermark, so no group would ever be final");
        };
        if !need.last.is_empty() {
            return refused("rows before a row are counted that are themselves groups");
        }
        let schema = aggregate.input.schema();
        let (from, need) = Self::traced(key, place.bound, schema, need)?;
        self.node(&aggregate.input, from, need, &[])
    }

    fn window(&mut self, window: &Window, place: Place, need: Need) -> Result<(), Everything> {
        let input = window.input.as_ref();
        let width = input.schema().fields().len();
        if place.at >= width {
            return refused("its time is made by a window function");
        }
        let mut own = Need::default();
        for expr in &window.window_expr {
            let Some(call) = window_function(expr) else { return refused("it has no plain window function") };
            let of_call = over(call, input, place)?;
            if !of_call.last.is_empty() && call.params.args.iter().any(|arg| is_made(input, arg)) {
                return refused(format!("`{}` counts rows of what another window function gave", call.fun.name()));
            }
            own = own.and(of_call);
        }
        let last = need.last.into_iter().map(|last| last.over(window, &own));
        let last = last
            .collect::<Result<Vec<_>, _>>()?
            .into_iter()
            .chain(own.last)
            .fold(Need::default(), |all, last| all.and(Need { last: vec![last], ..Need::default() }));
        let need = Need { back: need.back + own.back, ahead: need.ahead + own.ahead, last: last.last, ..need };
        self.node(input, place, need, &[])
    }

    /// A session ends when no row has come for its gap.
    fn session(&mut self, plan: &LogicalPlan, place: Place, need: Need) -> Result<(), Everything> {
        let Some(session) = SessionWindow::of(plan) else { return refused("it has no sessions") };
        let data = session.data();
        let kept = nature(data, self.catalog);
        if kept.kind() != SetKind::Append || kept.orders_log || !need.last.is_empty() {
            return refused(
                "its sessions are of rows that are put together, whose inputs could not be told when they are of no more \
                 use: make sessions of a source, of a view that takes its rows one by one, or of a `UNION ALL` of such",
            );
        }
        if !session.is_last(place.at) {
            return refused(format!("of a session only `{END}` says when it is over: give it out"));
        }
        let at = session.time.try_as_col().and_then(|time| data.schema().maybe_index_of_column(time));
        let Some(at) = at else { return refused("its sessions have no event time") };
        let gap = session.gap.most();
        let ahead = need.ahead + gap - tick_of(data.schema().field(at).data_type());
        let sessions = Sessions { keys: session.keys.clone(), gap: session.gap };
        // Its last row is a gap before its end.
        let own = need.own.map(|(back, ahead)| (back + gap, ahead));
        let need = Need { ahead, sessions: vec![sessions], own, ..need };
        self.input(data, Place { at, bound: None }, need)
    }

    fn asof_join(&mut self, join: &AsofJoin, place: Place, need: &Need) -> Result<(), Everything> {
        if place.at >= join.left.schema().fields().len() {
            return refused("of an `ASOF JOIN` the time of the left side says when a row is final: give it out");
        }
        self.node(&join.left, place, need.clone(), &[])?;
        let right = nature(&join.right, self.catalog);
        if right.logs.is_empty() {
            return Ok(());
        }
        let parts = join.parts();
        if !parts.is_before {
            return refused("an `ASOF JOIN` looks for the first row after, for which there is no time to wait");
        }
        let spread = expr_spread(&join.left, place, parts.left_time)
            .ok_or_else(|| Everything("an `ASOF JOIN` compares another time than the set's".to_owned()))?;
        let found = trace(parts.right_time, None, join.right.schema());
        let found = found.filter(|found| found.spread == Spread::default());
        let at = found.and_then(|found| join.right.schema().maybe_index_of_column(found.column));
        let Some(at) = at else { return refused("an `ASOF JOIN` computes the time of its right side") };
        let last = vec![Last::new(parts.right_keys, 1)];
        let (back, ahead) = (need.back - spread.least, need.ahead + spread.most);
        let need = Need { back, ahead, last, ..Need::default() };
        self.node(&join.right, Place { at, bound: None }, need, &[])
    }

    fn join(&mut self, join: &Join, place: Place, need: &Need, filters: &[Expr]) -> Result<(), Everything> {
        let (left, right) = (join.left.as_ref(), join.right.as_ref());
        let (left_log, right_log) = (self.reads_log(left), self.reads_log(right));
        let time = Column::from(join.schema.qualified_field(place.at));
        let in_left = left.schema().maybe_index_of_column(&time);
        let (own, at, other) = match (in_left, right.schema().maybe_index_of_column(&time)) {
            (Some(at), _) if place.at < left.schema().fields().len() => (left, at, right),
            (_, Some(at)) => (right, at, left),
            _ => return refused("its time is none of the columns that are joined"),
        };
        let is_left = std::ptr::eq(own, left);
        let keeps_own = match join.join_type {
            JoinType::Inner => true,
            JoinType::Left | JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark => is_left,
            JoinType::Right | JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark => !is_left,
            JoinType::Full => {
                return refused("a row of a `FULL JOIN` has the time of either side: give out `coalesce(l.at, r.at)`");
            }
        };
        if !keeps_own {
            return refused("a join keeps rows of the other side than the one whose time the set has");
        }
        let own_place = Place { at, ..place };
        if !(if is_left { left_log } else { right_log }) {
            return refused("its time is that of a table");
        }
        self.node(own, own_place, need.clone(), &[])?;
        if !(if is_left { right_log } else { left_log }) {
            return Ok(());
        }
        // What rows are filtered by afterwards bounds an inner join as its own conditions do.
        let after = if join.join_type == JoinType::Inner { filters } else { &[] };
        self.joined((own, own_place), other, &conditions(join, after), need)
    }

    /// All rows of both sides, each told by its own time.
    fn full_join(&mut self, join: &Join, [left_at, right_at]: [usize; 2], need: &Need) -> Result<(), Everything> {
        let (left, right) = (join.left.as_ref(), join.right.as_ref());
        if !need.last.is_empty() {
            return refused("rows before a row are counted that are themselves put together");
        }
        if !self.reads_log(left) || !self.reads_log(right) {
            return refused("a `FULL JOIN` keeps rows of a table, whose rows have no time");
        }
        let conditions = conditions(join, &[]);
        for (own, at, other) in [(left, left_at, right), (right, right_at, left)] {
            let place = Place { at, bound: None };
            self.node(own, place, need.clone(), &[])?;
            self.joined((own, place), other, &conditions, need)?;
        }
        Ok(())
    }

    /// The rows of `other` that meet `conditions` with rows of `own`, which are told by their time.
    fn joined(
        &mut self,
        (own, own_place): (&LogicalPlan, Place),
        other: &LogicalPlan,
        conditions: &[Expr],
        need: &Need,
    ) -> Result<(), Everything> {
        let mut why = Everything(
            "a join of two sources has no bounds in time on both sides: write `ON … AND r.at BETWEEN l.at - INTERVAL '…' \
             AND l.at + INTERVAL '…'`"
                .to_owned(),
        );
        for (mine, theirs, from_mine) in bounds(conditions, own.schema(), other.schema()) {
            let Some(to_mine) = spread(own, own_place, Place { at: mine, bound: None }) else { continue };
            let to_theirs = to_mine.then(from_mine);
            let need =
                Need { back: need.back - to_theirs.least, ahead: need.ahead + to_theirs.most, ..Need::default() };
            let before = self.inputs.clone();
            match self.node(other, Place { at: theirs, bound: None }, need, &[]) {
                Ok(()) => return Ok(()),
                Err(error) => {
                    self.inputs = before;
                    why = error;
                }
            }
        }
        Err(why)
    }

    fn reads_log(&self, plan: &LogicalPlan) -> bool {
        !nature(plan, self.catalog).logs.is_empty()
    }
}

/// What rows of a join meet, and what they are filtered by `after`.
fn conditions(join: &Join, after: &[Expr]) -> Vec<Expr> {
    let equal = join.on.iter().map(|(a, b)| a.clone().eq(b.clone()));
    let within = join.filter.iter().flat_map(|filter| split_conjunction(filter));
    equal.chain(within.chain(after).cloned()).collect()
}

fn filtered(plan: &LogicalPlan) -> Option<&LogicalPlan> {
    match plan {
        LogicalPlan::Filter(filter) => Some(&filter.input),
        _ => None,
    }
}

/// The `FULL JOIN` below filters whose times of both sides, whichever there is, `expr` gives, and which columns of the sides
/// these are.
fn full_join<'p>(expr: &Expr, plan: &'p LogicalPlan) -> Option<(&'p Join, [usize; 2])> {
    let join = match plan {
        LogicalPlan::Filter(filter) => return full_join(expr, &filter.input),
        LogicalPlan::Join(join) if join.join_type == JoinType::Full => join,
        _ => return None,
    };
    let Expr::ScalarFunction(call) = expr.clone().unalias() else { return None };
    let [Expr::Column(a), Expr::Column(b)] = call.args.as_slice() else { return None };
    let in_left = |column: &Column| join.left.schema().maybe_index_of_column(column);
    let in_right = |column: &Column| join.right.schema().maybe_index_of_column(column);
    let times = match (in_left(a), in_right(b)) {
        (Some(left), Some(right)) => [left, right],
        _ => [in_left(b)?, in_right(a)?],
    };
    (call.name() == "coalesce").then_some((join, times))
}

fn has_subquery(expr: &Expr) -> bool {
    let is_one = |expr: &Expr| {
        matches!(expr, Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_) | Expr::SetComparison(_))
    };
    // The walk cannot fail: it only looks.
    expr.exists(|expr| Ok(is_one(expr))).unwrap_or(true)
}

/// `expr` over the input of `projection`, where that only names its columns.
fn below(expr: &Expr, projection: &Projection) -> Option<Expr> {
    let columns = expr.column_refs().into_iter().map(|column| {
        let at = projection.schema.maybe_index_of_column(column)?;
        match projection.expr.get(at)?.clone().unalias() {
            Expr::Column(below) => Some((column.clone(), below)),
            _ => None,
        }
    });
    let columns: HashMap<_, _> = columns.collect::<Option<_>>()?;
    Some(with_columns(expr, &columns))
}

fn with_columns(expr: &Expr, columns: &HashMap<Column, Column>) -> Expr {
    let replaced = expr.clone().transform(|expr| {
        let found = expr.try_as_col().and_then(|column| columns.get(column));
        Ok(match found {
            Some(column) => Transformed::yes(Expr::Column(column.clone())),
            None => Transformed::no(expr),
        })
    });
    // The walk cannot fail: it only replaces.
    replaced.data().unwrap_or_else(|_| expr.clone())
}

/// What is needed, by the names below an alias.
fn renamed(need: Need, outer: &DFSchema, inner: &DFSchema) -> Need {
    let columns = outer.columns().into_iter().zip(inner.columns()).collect();
    let last = need.last.into_iter().filter_map(|last| last.below(|expr| Some(with_columns(expr, &columns))));
    Need { last: last.collect(), ..need }
}
