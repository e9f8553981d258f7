//! When the groups of a window are final: a watermark has passed it, so that no row comes into it any more.
//!
//! One key of the groups is made from the event time by a function that never decreases. Rows that are not late have no
//! less of it than the watermark itself would have, so that groups with less are closed, whatever the function is: the end
//! of a window, `date_trunc` of the time, either of a view over it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit};
use async_trait::async_trait;
use datafusion::common::{Column, DFSchema, ScalarValue};
use datafusion::error::Result;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Distinct, Expr, Join, JoinType, LogicalPlan, Operator};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{self, binary, is_null, lit};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::streaming::PartitionStream;

use super::Incremental;
use super::aggregates::Aggregates;
use super::cut::Everything;
use super::emits::{Between, Emits, Range, range_of};
use super::groups::is_leaf;
use super::resident::SegmentRows;
use crate::asof::AsofJoin;
use crate::catalog::Catalog;
use crate::window::{END, Follows, NANOS_OF_DAY, nanos_of};

/// The key that says when groups are final.
#[derive(Debug)]
pub(super) struct Closing {
    marks: Vec<Mark>,
    data_type: DataType,
}

/// What a watermark means for the key.
#[derive(Debug)]
struct Mark {
    source: String,
    /// Its event time, alone.
    time: SchemaRef,
    key: Arc<dyn PhysicalExpr>,
}

/// Partial aggregates of windows that are open.
#[derive(Debug)]
pub(crate) struct Windows {
    pub(super) groups: Aggregates,
    pub(super) closing: Closing,
}

impl Closing {
    pub(super) fn new(follows: Vec<Follows>, data_type: &DataType, catalog: &Catalog<'_>) -> Result<Self, Everything> {
        if scalar(0, data_type).is_none() {
            return Err(Everything(format!("its window is told by {data_type}, not by a time")));
        }
        let marks = follows.into_iter().map(|follows| {
            let time = Schema::new(vec![Field::new(&follows.time.name, follows.data_type, true)]);
            let key = catalog.state().create_physical_expr(follows.expr, &DFSchema::try_from(time.clone())?)?;
            Ok(Mark { source: follows.source, time: Arc::new(time), key })
        });
        Ok(Self { marks: marks.collect::<Result<_>>()?, data_type: data_type.clone() })
    }

    /// The sources whose watermarks close windows.
    pub(super) fn sources(&self) -> impl Iterator<Item = &str> {
        self.marks.iter().map(|mark| mark.source.as_str())
    }

    /// The key before which all groups are closed, in ticks of its type, where the watermarks of the sources are at
    /// `watermarks`, microseconds since 1970, UTC: `i64::MAX` once nothing comes any more. `None` as long as one of them is
    /// not known.
    ///
    /// # Errors
    /// The engine's, where it cannot compute the key.
    pub(super) fn limit(&self, watermarks: &BTreeMap<&str, i64>) -> crate::Result<Option<i64>> {
        let mut limit = None;
        for mark in &self.marks {
            let Some(at) = watermarks.get(mark.source.as_str()) else { return Ok(None) };
            let of = mark.limit(*at).map_err(|error| crate::Error::from_engine("a watermark".to_owned(), error))?;
            let Some(of) = of else { return Ok(None) };
            limit = Some(limit.map_or(of, |limit: i64| limit.min(of)));
        }
        Ok(limit)
    }

    /// Whether a group is one of those `between`; nothing where all are.
    fn predicate(&self, between: Between, state: &Schema) -> Result<Option<Arc<dyn PhysicalExpr>>> {
        let key: Arc<dyn PhysicalExpr> = Arc::new(expressions::Column::new(state.field(0).name(), 0));
        let compare = |op, ticks: i64| match scalar(ticks, &self.data_type) {
            Some(value) => binary(Arc::clone(&key), op, lit(value), state).map(Some),
            None => Ok(None),
        };
        let from = between.from.map_or(Ok(None), |from| compare(Operator::GtEq, from))?;
        let to = between.to.map_or(Ok(None), |to| compare(Operator::Lt, to))?;
        Ok(match (from, to) {
            (Some(from), Some(to)) => Some(binary(from, Operator::And, to, state)?),
            // A group without a window closes with the last one.
            (Some(from), None) => Some(binary(from, Operator::Or, is_null(key)?, state)?),
            (None, to) => to,
        })
    }
}

#[async_trait]
impl Emits for Windows {
    fn sources(&self) -> Vec<&str> {
        self.closing.sources().collect()
    }

    fn tables(&self) -> &BTreeSet<String> {
        self.groups.tables()
    }

    fn signature(&self) -> String {
        self.groups.signature()
    }

    fn states(&self) -> Vec<&SchemaRef> {
        vec![self.groups.state_schema()]
    }

    fn limit(&self, watermarks: &BTreeMap<&str, i64>) -> crate::Result<Option<i64>> {
        self.closing.limit(watermarks)
    }

    fn range(&self, _input: usize, groups: &RecordBatch) -> crate::Result<Option<Range>> {
        range_of(groups.column(0)).map_err(|error| crate::Error::from_engine("a state".to_owned(), error))
    }

    fn concerns(&self, _input: usize, (oldest, newest): Range, between: Between) -> bool {
        let from = between.from.map_or(oldest, |from| from.max(oldest));
        from <= newest && between.to.is_none_or(|to| from < to)
    }

    fn is_spent(&self, _input: usize, (_, newest): Range, closed: i64) -> bool {
        newest < closed
    }

    fn is_late(&self, _input: usize, (oldest, _): Range, closed: i64) -> bool {
        oldest < closed
    }

    async fn absorb(&self, session: &SessionState, _input: usize) -> crate::Result<Arc<dyn ExecutionPlan>> {
        self.groups.absorb(session, None).await
    }

    async fn merge(
        &self,
        _session: &SessionState,
        _input: usize,
        segments: Vec<Arc<dyn PartitionStream>>,
        closed: Option<i64>,
        _beside: Option<i64>,
    ) -> crate::Result<Arc<dyn ExecutionPlan>> {
        self.groups.merge(segments, self.predicate(Between::open(closed))?)
    }

    async fn emit(
        &self,
        session: &SessionState,
        segments: Vec<Vec<SegmentRows>>,
        between: Between,
    ) -> crate::Result<Arc<dyn ExecutionPlan>> {
        let segments = segments.iter().flatten().map(SegmentRows::all).collect();
        self.groups.emit_where(session, segments, self.predicate(between)?).await
    }
}

impl Windows {
    fn predicate(&self, between: Between) -> crate::Result<Option<Arc<dyn PhysicalExpr>>> {
        let predicate = self.closing.predicate(between, self.groups.state_schema());
        predicate.map_err(|error| crate::Error::from_engine("a state".to_owned(), error))
    }
}

impl Mark {
    fn limit(&self, at: i64) -> Result<Option<i64>> {
        if at == i64::MAX {
            return Ok(Some(at));
        }
        let data_type = self.time.field(0).data_type();
        let nanos = match data_type {
            DataType::Timestamp(unit, _) => nanos_of(*unit),
            DataType::Date32 => NANOS_OF_DAY,
            _ => nanos_of(TimeUnit::Millisecond),
        };
        // Rounded down: rows that are not late are no earlier.
        let ticks = (i128::from(at) * 1_000).div_euclid(i128::from(nanos));
        let Some(at) = i64::try_from(ticks).ok().and_then(|ticks| scalar(ticks, data_type)) else { return Ok(None) };
        let row = RecordBatch::try_new(Arc::clone(&self.time), vec![at.to_array()?])?;
        let key = self.key.evaluate(&row)?.into_array(1)?;
        let ticks = cast(&key, &DataType::Int64)?;
        Ok(ticks.as_primitive::<Int64Type>().iter().next().flatten())
    }
}

/// A time by its ticks.
pub(super) fn scalar(ticks: i64, data_type: &DataType) -> Option<ScalarValue> {
    Some(match data_type {
        DataType::Timestamp(TimeUnit::Second, zone) => ScalarValue::TimestampSecond(Some(ticks), zone.clone()),
        DataType::Timestamp(TimeUnit::Millisecond, zone) => {
            ScalarValue::TimestampMillisecond(Some(ticks), zone.clone())
        }
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            ScalarValue::TimestampMicrosecond(Some(ticks), zone.clone())
        }
        DataType::Timestamp(TimeUnit::Nanosecond, zone) => ScalarValue::TimestampNanosecond(Some(ticks), zone.clone()),
        DataType::Date32 => ScalarValue::Date32(Some(i32::try_from(ticks).ok()?)),
        DataType::Date64 => ScalarValue::Date64(Some(ticks)),
        _ => return None,
    })
}

/// Which of the `keys` over `input` says when groups are final, and how it follows watermarks.
pub(super) fn window_key(
    keys: &[Expr],
    input: &LogicalPlan,
    catalog: &Catalog<'_>,
) -> Result<(usize, Vec<Follows>), Everything> {
    let following = keys.iter().enumerate().filter_map(|(at, key)| {
        let follows = catalog.logs().expr_follows(input, &key.clone().unalias()).ok()?;
        (!follows.is_empty()).then_some((at, follows))
    });
    let mut following: Vec<_> = following.collect();
    if following.is_empty() {
        let what = "no key of `GROUP BY` follows a watermark, so no group would ever be final";
        return Err(Everything(what.to_owned()));
    }
    // The windows of one `CUMULATE` begin together and end one after another.
    let is_end = |at: usize| matches!(keys.get(at), Some(Expr::Column(column)) if column.name == END);
    let chosen = following.iter().position(|(at, _)| is_end(*at)).unwrap_or(0);
    Ok(following.swap_remove(chosen))
}

/// Whether `plan` makes of the groups of one window what it would make of them were there no others; `key` is the column
/// of the groups that tells windows apart.
pub(super) fn check_per_window(plan: &LogicalPlan, key: usize) -> Result<(), Everything> {
    if !reads_groups(plan) {
        return Ok(());
    }
    plan.inputs().into_iter().try_for_each(|input| check_per_window(input, key))?;
    let any_window = |exprs: &[Expr], input: &LogicalPlan| {
        exprs.iter().any(|expr| column_of(expr).is_some_and(|column| is_window(input, column, key)))
    };
    let refused = match plan {
        LogicalPlan::TableScan(_)
        | LogicalPlan::Projection(_)
        | LogicalPlan::Filter(_)
        | LogicalPlan::SubqueryAlias(_)
        | LogicalPlan::Unnest(_)
        | LogicalPlan::Sort(_) => None,
        LogicalPlan::Window(window) => {
            let is_within = |expr: &Expr| match expr.clone().unalias() {
                Expr::WindowFunction(function) => any_window(&function.params.partition_by, &window.input),
                _ => false,
            };
            let across = !window.window_expr.iter().all(is_within);
            across.then_some("a window function is not over `PARTITION BY` the window")
        }
        LogicalPlan::Aggregate(aggregate) => {
            let across = !any_window(&aggregate.group_expr, &aggregate.input);
            across.then_some("groups of several windows are aggregated once more")
        }
        LogicalPlan::Distinct(Distinct::All(input)) => {
            let columns: Vec<_> = input.schema().columns().into_iter().map(Expr::Column).collect();
            (!any_window(&columns, input)).then_some("`DISTINCT` is over groups of several windows")
        }
        LogicalPlan::Join(join) => check_join(join, key),
        LogicalPlan::Extension(_) => match AsofJoin::of(plan) {
            Some(join) if !reads_groups(&join.right) => None,
            _ => Some("an `ASOF JOIN` looks at groups of several windows"),
        },
        _ => Some("its query compares groups of several windows"),
    };
    refused.map_or(Ok(()), |what| Err(Everything(what.to_owned())))
}

fn check_join(join: &Join, key: usize) -> Option<&'static str> {
    let sides = (reads_groups(&join.left), reads_groups(&join.right));
    let preserves = match join.join_type {
        JoinType::Inner => true,
        JoinType::Left | JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark => sides.0,
        JoinType::Right | JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark => sides.1,
        JoinType::Full => sides == (true, true),
    };
    if !preserves {
        return Some("a join keeps rows of a table for which no window has closed");
    }
    let of_window = |expr: &Expr, input: &LogicalPlan| column_of(expr).is_some_and(|it| is_window(input, it, key));
    let same = |(left, right): &(Expr, Expr)| of_window(left, &join.left) && of_window(right, &join.right);
    let across = sides == (true, true) && !join.on.iter().any(same);
    across.then_some("groups of several windows are joined: join them on their window, too")
}

fn column_of(expr: &Expr) -> Option<&Column> {
    match expr {
        Expr::Column(column) => Some(column),
        Expr::Alias(alias) => column_of(&alias.expr),
        _ => None,
    }
}

/// Whether `column` of `plan` is the column `key` of the groups.
fn is_window(plan: &LogicalPlan, column: &Column, key: usize) -> bool {
    plan.schema().maybe_index_of_column(column).is_some_and(|at| is_window_at(plan, at, key))
}

fn is_window_at(plan: &LogicalPlan, at: usize, key: usize) -> bool {
    let item = |exprs: &[Expr], input: &LogicalPlan| {
        exprs.get(at).and_then(column_of).is_some_and(|column| is_window(input, column, key))
    };
    match plan {
        LogicalPlan::TableScan(_) => is_leaf(plan) && at == key,
        LogicalPlan::Projection(projection) => item(&projection.expr, &projection.input),
        LogicalPlan::Aggregate(aggregate) => item(&aggregate.group_expr, &aggregate.input),
        LogicalPlan::SubqueryAlias(alias) => is_window_at(&alias.input, at, key),
        LogicalPlan::Filter(filter) => is_window_at(&filter.input, at, key),
        LogicalPlan::Distinct(Distinct::All(input)) => is_window_at(input, at, key),
        LogicalPlan::Window(window) => {
            at < window.input.schema().fields().len() && is_window_at(&window.input, at, key)
        }
        LogicalPlan::Unnest(unnest) => {
            unnest.dependency_indices.get(at).is_some_and(|at| is_window_at(&unnest.input, *at, key))
        }
        LogicalPlan::Join(join) => {
            let name = Column::from(plan.schema().qualified_field(at));
            [&join.left, &join.right].into_iter().any(|side| is_window(side, &name, key))
        }
        _ => false,
    }
}

fn reads_groups(plan: &LogicalPlan) -> bool {
    is_leaf(plan) || plan.inputs().into_iter().any(reads_groups)
}
