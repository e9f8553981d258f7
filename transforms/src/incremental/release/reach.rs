//! Which rows of its logs a row of a query depends on, told by its event time.

use datafusion::common::{Column, DFSchema};
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{
    Aggregate, Distinct, Expr, Join, JoinType, LogicalPlan, Operator, Projection, Window, WindowFrameBound,
    WindowFrameUnits,
};
use datafusion::scalar::ScalarValue;

use super::super::cut::Everything;
use super::super::exact::{function, refusal};
use crate::SetKind;
use crate::asof::AsofJoin;
use crate::catalog::Catalog;
use crate::classify::nature;
use crate::window::{END, Length, SessionOf, Spread, Traced, interval, is_session, tick_of, trace};

/// Rows that are read, and of which some are kept.
#[derive(Debug, Clone)]
pub(super) struct Input {
    /// A part of the query that takes rows one by one.
    pub(super) plan: LogicalPlan,
    /// Its column that follows watermarks.
    pub(super) time: usize,
    pub(super) need: Need,
}

/// What a row with the event time *t* depends on: rows from `back` before *t* to `ahead` after it, in nanoseconds, and more.
#[derive(Debug, Clone, Default)]
pub(super) struct Need {
    pub(super) back: i128,
    pub(super) ahead: i128,
    /// The last rows of their keys before all these.
    pub(super) last: Vec<Last>,
    /// The sessions that do not end before all these.
    pub(super) sessions: Vec<Sessions>,
}

/// So many rows of each key, and those of the same time as the earliest of them.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Last {
    pub(super) keys: Vec<Expr>,
    pub(super) rows: usize,
}

/// Rows of equal keys that follow one another in less than `gap`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sessions {
    pub(super) keys: Vec<Expr>,
    pub(super) gap: Length,
}

/// A column, or one of the bounds that it holds.
#[derive(Debug, Clone, Copy)]
struct Place {
    at: usize,
    bound: Option<&'static str>,
}

impl Need {
    /// That of times that are before or after these by `spread`: a row with such a time needs what `self` says of this one.
    fn of(self, spread: Spread) -> Self {
        Self { back: self.back + spread.most, ahead: self.ahead - spread.least, ..self }
    }

    /// What both need.
    pub(super) fn and(mut self, other: Self) -> Self {
        self.back = self.back.max(other.back);
        self.ahead = self.ahead.max(other.ahead);
        for last in other.last {
            match self.last.iter_mut().find(|known| known.keys == last.keys) {
                Some(known) => known.rows = known.rows.max(last.rows),
                None => self.last.push(last),
            }
        }
        self.sessions.extend(other.sessions);
        self
    }
}

fn refused<T>(why: impl Into<String>) -> Result<T, Everything> {
    Err(Everything(why.into()))
}

/// The inputs of `plan`, where its rows are told apart by the time in their column `at`.
pub(super) fn inputs(plan: &LogicalPlan, at: usize, catalog: &Catalog<'_>) -> Result<Vec<Input>, Everything> {
    let mut reach = Reach { catalog, inputs: Vec::new() };
    reach.node(plan, Place { at, bound: None }, Need::default(), &[])?;
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
        match plan {
            LogicalPlan::Projection(projection) => self.projection(projection, place, need),
            LogicalPlan::Filter(filter) => {
                if !need.last.is_empty() {
                    return refused("rows before a row are counted, but some of them are filtered out first");
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
            LogicalPlan::Distinct(Distinct::All(input)) => {
                self.node(input, place, Need { last: Vec::new(), ..need }, &[])
            }
            LogicalPlan::Union(union) if need.last.is_empty() => {
                union.inputs.iter().try_for_each(|input| self.node(input, place, need.clone(), &[]))
            }
            LogicalPlan::Window(window) => self.window(window, place, need),
            LogicalPlan::Join(join) if need.last.is_empty() => self.join(join, place, &need, filters),
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
        if place.bound.is_some() || self.catalog.logs().follows(plan, &column).is_err() {
            return refused(format!("`{name}` does not follow a watermark"));
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
        let (from, need) = Self::traced(&projection.expr[place.at], place.bound, input.schema(), need)?;
        let last = need.last.into_iter().map(|last| {
            let keys = last.keys.iter().map(|key| below(key, projection));
            let keys: Option<Vec<_>> = keys.collect();
            keys.map(|keys| Last { keys, ..last }).ok_or_else(|| Everything("a key is computed".to_owned()))
        });
        let last = last.collect::<Result<_, _>>()?;
        self.node(input, from, Need { last, ..need }, &[])
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
            return refused(format!("`{}` does not follow a watermark", expr.schema_name()));
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
        for expr in &aggregate.aggr_expr {
            let Some(function) = function(expr) else { return refused("it has no plain aggregates") };
            if let Some(why) = refusal(function, schema, true)? {
                return refused(why);
            }
        }
        let (from, need) = Self::traced(key, place.bound, schema, need)?;
        self.node(&aggregate.input, from, need, &[])
    }

    fn window(&mut self, window: &Window, place: Place, mut need: Need) -> Result<(), Everything> {
        let input = window.input.as_ref();
        let width = input.schema().fields().len();
        if is_session(window) {
            return self.session(window, place, need);
        }
        if place.at >= width {
            return refused("its time is made by a window function");
        }
        let of_row = need.clone();
        for expr in &window.window_expr {
            let Some(call) = window_function(expr) else { return refused("it has no plain window function") };
            let of_call = over(call, input, place, of_row.clone())?;
            if of_call.last != of_row.last && call.params.args.iter().any(|arg| is_made(input, arg)) {
                return refused(format!("`{}` counts rows of what another window function gave", call.fun.name()));
            }
            need = need.and(of_call);
        }
        self.node(input, place, need, &[])
    }

    /// A session ends when no row has come for its gap.
    fn session(&mut self, window: &Window, place: Place, need: Need) -> Result<(), Everything> {
        let Some(session) = SessionOf::of(window, place.at) else {
            return refused(format!("of a session only `{END}` says when it is over: give it out"));
        };
        let kept = nature(session.data, self.catalog);
        if kept.kind() != SetKind::Append || kept.orders_log || !need.last.is_empty() {
            return refused("the rows of its sessions are themselves put together");
        }
        let length = Length::of(&Expr::Literal(session.gap.clone(), None));
        let (Expr::Column(time), Some(gap), Ok(length)) = (session.time, interval(session.gap), length) else {
            return refused("its sessions have no plain gap");
        };
        let Some(at) = session.data.schema().maybe_index_of_column(time) else {
            return refused("its sessions have no event time");
        };
        let ahead = need.ahead + gap.most - tick_of(session.data.schema().field(at).data_type());
        let sessions = Sessions { keys: session.keys.to_vec(), gap: length };
        let need = Need { ahead, sessions: vec![sessions], ..need };
        self.input(session.data, Place { at, bound: None }, need)
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
        let last = vec![Last { keys: parts.right_keys, rows: 1 }];
        let need = Need { back: need.back - spread.least, ahead: need.ahead + spread.most, last, sessions: Vec::new() };
        self.node(&join.right, Place { at, bound: None }, need, &[])
    }

    fn join(&mut self, join: &Join, place: Place, need: &Need, filters: &[Expr]) -> Result<(), Everything> {
        let (left, right) = (join.left.as_ref(), join.right.as_ref());
        let (left_log, right_log) = (self.reads_log(left), self.reads_log(right));
        let schema = Column::from(join.schema.qualified_field(place.at));
        let in_left = left.schema().maybe_index_of_column(&schema);
        let (own, at, other) = match (in_left, right.schema().maybe_index_of_column(&schema)) {
            (Some(at), _) if place.at < left.schema().fields().len() => (left, at, right),
            (_, Some(at)) => (right, at, left),
            _ => return refused("its time is none of the columns that are joined"),
        };
        let is_left = std::ptr::eq(own, left);
        let keeps_own = match join.join_type {
            JoinType::Inner => true,
            JoinType::Left | JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark => is_left,
            JoinType::Right | JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark => !is_left,
            JoinType::Full => false,
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
        let conditions = join.on.iter().map(|(a, b)| a.clone().eq(b.clone()));
        let within = join.filter.iter().flat_map(|filter| split_conjunction(filter)).cloned();
        // What rows are filtered by afterwards bounds an inner join as its own conditions do.
        let after = if join.join_type == JoinType::Inner { filters } else { &[] };
        let conditions: Vec<_> = conditions.chain(within).chain(after.iter().cloned()).collect();
        let mut why = Everything(
            "a join of two sources has no bounds in time on both sides: write `ON … AND r.at BETWEEN l.at - INTERVAL '…' \
             AND l.at + INTERVAL '…'`"
                .to_owned(),
        );
        for (mine, theirs, from_mine) in bounds(&conditions, own.schema(), other.schema()) {
            let Some(to_mine) = spread(own, own_place, Place { at: mine, bound: None }) else { continue };
            let to_theirs = to_mine.then(from_mine);
            let need = Need {
                back: need.back - to_theirs.least,
                ahead: need.ahead + to_theirs.most,
                last: Vec::new(),
                sessions: Vec::new(),
            };
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

/// What rows a window function needs beside the row itself, whose time is at `place` of `input`.
fn over(call: &WindowFunction, input: &LogicalPlan, place: Place, need: Need) -> Result<Need, Everything> {
    let (name, params) = (call.fun.name(), &call.params);
    let mut spreads = params.partition_by.iter().filter_map(|key| expr_spread(input, place, key));
    if let Some(spread) = spreads.next() {
        // Rows with the same key, each as far from it.
        let around = spread.then(spread.back());
        return Ok(Need { back: need.back - around.least, ahead: need.ahead + around.most, ..need });
    }
    let in_order = params.order_by.first();
    let spread = in_order.and_then(|order| Some((order.asc, expr_spread(input, place, &order.expr)?)));
    let Some((is_ascending, spread)) = spread else {
        return refused(format!(
            "`{name}` is neither over `PARTITION BY` the time of the set or its window, nor in the order of that time"
        ));
    };
    let last = |rows: usize| {
        if !is_ascending || !spread.is_exact() {
            return refused(format!("`{name}` counts rows in another order than that of their time"));
        }
        let leaf = |key: &Expr| matches!(key, Expr::Column(_));
        if !params.partition_by.iter().all(leaf) {
            return refused(format!("`{name}` is over keys that are computed: compute them in a query below"));
        }
        Ok(need.clone().and(Need { last: vec![Last { keys: params.partition_by.clone(), rows }], ..Need::default() }))
    };
    match name {
        "lag" if params.null_treatment.is_none() => match params.args.get(1) {
            None => last(1),
            Some(Expr::Literal(ScalarValue::Int64(Some(rows)), _)) if *rows >= 0 => {
                last(usize::try_from(*rows).unwrap_or(usize::MAX))
            }
            Some(_) => refused("`lag` looks at a row that may still come"),
        },
        "lag" => refused("`lag` looks for a value that may be any time back"),
        "lead" => refused("`lead` looks at the next row, which may still come: take `lag` of the other row"),
        "row_number" | "rank" | "dense_rank" | "percent_rank" | "cume_dist" | "ntile" => {
            refused(format!("`{name}` counts all rows ever: let it be over `PARTITION BY` a window of the time, too"))
        }
        _ => {
            let frame = &params.window_frame;
            let (mut start, mut end) = (&frame.start_bound, &frame.end_bound);
            match frame.units {
                WindowFrameUnits::Rows => match (start, end) {
                    (
                        WindowFrameBound::Preceding(ScalarValue::UInt64(Some(rows))),
                        WindowFrameBound::CurrentRow | WindowFrameBound::Preceding(_),
                    ) => last(usize::try_from(*rows).unwrap_or(usize::MAX)),
                    _ => refused(format!(
                        "`{name}` is over a frame without a beginning, or with rows that may still come: write `ROWS \
                         BETWEEN 10 PRECEDING AND CURRENT ROW`"
                    )),
                },
                WindowFrameUnits::Range => {
                    if !is_ascending {
                        std::mem::swap(&mut start, &mut end);
                    }
                    let back = length(start, is_ascending);
                    let ahead = length(end, !is_ascending);
                    let (Some(back), Some(ahead)) = (back, ahead) else {
                        return refused(format!(
                            "`{name}` is over a frame that has no bounds in time: write `RANGE BETWEEN INTERVAL '1 hour' \
                             PRECEDING AND CURRENT ROW`"
                        ));
                    };
                    let around = spread.then(spread.back());
                    let (back, ahead) = (back.max(0) - around.least, ahead.max(0) + around.most);
                    Ok(Need { back: need.back + back, ahead: need.ahead + ahead, ..need })
                }
                WindowFrameUnits::Groups => refused(format!("`{name}` is over a frame of groups")),
            }
        }
    }
}

/// By how much a bound of a frame is before the row, or `after` it where that is meant; nothing where it is unbounded.
fn length(bound: &WindowFrameBound, before: bool) -> Option<i128> {
    match bound {
        WindowFrameBound::CurrentRow => Some(0),
        WindowFrameBound::Preceding(by) => interval(by).map(|by| if before { by.most } else { -by.least }),
        WindowFrameBound::Following(by) => interval(by).map(|by| if before { -by.least } else { by.most }),
    }
}

/// Whether a window function has a part in `expr` over `plan`.
fn is_made(plan: &LogicalPlan, expr: &Expr) -> bool {
    let is_made_at = |column: &&Column| match plan.schema().maybe_index_of_column(column) {
        Some(at) => column_is_made(plan, at),
        None => true,
    };
    expr.column_refs().iter().any(is_made_at)
}

fn column_is_made(plan: &LogicalPlan, at: usize) -> bool {
    match plan {
        LogicalPlan::Projection(projection) => is_made(&projection.input, &projection.expr[at]),
        LogicalPlan::SubqueryAlias(alias) => column_is_made(&alias.input, at),
        LogicalPlan::Filter(filter) => column_is_made(&filter.input, at),
        LogicalPlan::Window(window) => at >= window.input.schema().fields().len() || column_is_made(&window.input, at),
        _ => false,
    }
}

fn window_function(expr: &Expr) -> Option<&WindowFunction> {
    match expr {
        Expr::Alias(alias) => window_function(&alias.expr),
        Expr::WindowFunction(function) => Some(function),
        _ => None,
    }
}

/// From the time at `place` to that of `expr` in one row of `plan`.
fn expr_spread(plan: &LogicalPlan, place: Place, expr: &Expr) -> Option<Spread> {
    let found = trace(expr, None, plan.schema())?;
    let at = plan.schema().maybe_index_of_column(found.column)?;
    Some(spread(plan, place, Place { at, bound: found.bound })?.then(found.spread))
}

/// From the time at `a` to that at `b` in one row of `plan`, where both come from one column.
fn spread(plan: &LogicalPlan, a: Place, b: Place) -> Option<Spread> {
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
            LogicalPlan::Projection(projection) => (&projection.input, projection.expr.get(place.at)),
            LogicalPlan::Aggregate(aggregate) => match aggregate.group_expr.get(place.at) {
                Some(key) => (&aggregate.input, Some(key)),
                None => return found,
            },
            LogicalPlan::SubqueryAlias(alias) => (&alias.input, None),
            LogicalPlan::Filter(filter) => (&filter.input, None),
            LogicalPlan::Sort(sort) => (&sort.input, None),
            LogicalPlan::Distinct(Distinct::All(input)) => (input, None),
            LogicalPlan::Window(window) if place.at < window.input.schema().fields().len() => (&window.input, None),
            LogicalPlan::Unnest(unnest) => match unnest.dependency_indices.get(place.at) {
                Some(at) => {
                    place.at = *at;
                    (&unnest.input, None)
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
fn bounds(conditions: &[Expr], mine: &DFSchema, theirs: &DFSchema) -> Vec<(usize, usize, Spread)> {
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

/// `key` over the input of `projection`, where it is a column of it.
fn below(key: &Expr, projection: &Projection) -> Option<Expr> {
    let Expr::Column(column) = key else { return None };
    let at = projection.schema.maybe_index_of_column(column)?;
    match projection.expr.get(at)?.clone().unalias() {
        column @ Expr::Column(_) => Some(column),
        _ => None,
    }
}

/// What is needed, by the names below an alias.
fn renamed(mut need: Need, outer: &DFSchema, inner: &DFSchema) -> Need {
    for key in need.last.iter_mut().flat_map(|last| &mut last.keys) {
        if let Expr::Column(column) = key
            && let Some(at) = outer.maybe_index_of_column(column)
        {
            *column = Column::from(inner.qualified_field(at));
        }
    }
    need
}
