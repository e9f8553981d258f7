//! Sets whose rows are final when the watermark has passed what they depend on: features over the hours before an event,
//! joins of sources within bounds of time, sessions, whatever is made of them.
//!
//! ```text
//! query   above ◄─┬─ input ◄─ log
//!                 └─ input ◄─ log
//!
//! absorb  new rows ─► input ─► sorted by time ─► a segment
//! emit    segments ─► above ─► rows with a time that the watermark has passed, since those emitted before
//! merge   segments ─► those rows that a later row may depend on
//! ```
//!
//! A row of the set is told by its time *t*, a column of it. What the query does says from how long before *t* to how long
//! after it rows have a part in this one ([`reach`]). So nothing is taken apart: the query itself runs over the rows that
//! are kept, and what it says of other times is left out. What it says of ties does not depend on the cut: rows are kept in
//! a total order, and so are those of one key and time in a window function.

mod frame;
mod kept;
mod keys;
mod narrow;
mod need;
mod reach;
mod ties;
mod together;
mod whole;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Fields, SchemaRef};
use async_trait::async_trait;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DataFusionError};
use datafusion::error::Result as EngineResult;
use datafusion::execution::SessionState;
use datafusion::logical_expr::expr::WindowFunctionDefinition;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::streaming::PartitionStream;

use self::kept::Kept;
use self::need::Need;
use self::reach::{Input, NO_WATERMARK};
pub(in crate::incremental) use self::ties::in_total_order;
use super::closing::scalar;
use super::cut::Everything;
use super::emits::{Between, Emits, Range, range_of};
use super::exact::{function, refusal};
use super::resident::{Lookup, SegmentRows};
use crate::catalog::Catalog;
use crate::classify::nature;
use crate::functions::exact_for;
use crate::given;
use crate::set::{plans_physically, with_ticks};
use crate::window::tick_of;
use crate::{Error, Result};

/// A query whose rows are released by watermarks.
#[derive(Debug)]
pub(crate) struct Released {
    /// Of whom, for errors.
    of: String,
    inputs: Vec<Kept>,
    /// The query over what is kept of the inputs, as the optimizer leaves it.
    above: LogicalPlan,
    /// By what rows of each input are found that have a part in rows of the set; nothing where all may have one.
    lookups: Option<Vec<Lookup>>,
    /// The column of the query that tells the time of its rows.
    time: Column,
    time_type: DataType,
    tables: BTreeSet<String>,
}

/// Plans the analysed query of the set `of`, whose rows have the columns `output`, to be emitted as watermarks pass; of its
/// columns that can tell their time, the one called `event_time` is best.
pub(crate) fn released(
    of: &str,
    plan: &LogicalPlan,
    output: &SchemaRef,
    event_time: Option<&str>,
    catalog: &Catalog<'_>,
) -> Result<Released, Everything> {
    let is_event_time = |at: &usize| event_time == Some(output.field(*at).name().as_str());
    let mut candidates: Vec<usize> = (0..output.fields().len()).collect();
    candidates.retain(|at| scalar(0, output.field(*at).data_type()).is_some());
    candidates.sort_by_key(|at| !is_event_time(at));
    let mut why = None;
    for at in candidates {
        match reach::inputs(plan, at, catalog) {
            Ok(inputs) => return assemble(of, plan, output, at, inputs, catalog),
            Err(Everything(reason)) => {
                // What follows no watermark says less than what would, were it not for something else.
                let says_more = why.as_deref().is_none_or(|why: &str| why.ends_with(NO_WATERMARK));
                if says_more {
                    why = Some(reason);
                }
            }
        }
    }
    Err(Everything(why.unwrap_or_else(|| "none of its columns is a time".to_owned())))
}

fn assemble(
    of: &str,
    plan: &LogicalPlan,
    output: &SchemaRef,
    at: usize,
    inputs: Vec<Input>,
    catalog: &Catalog<'_>,
) -> Result<Released, Everything> {
    let leaves = inputs.iter().enumerate().map(|(number, input)| given::leaf(number, input.plan.schema()));
    let leaves = leaves.collect::<EngineResult<Vec<_>>>()?;
    // From above, all at once: one input may be a part of another.
    let above = plan.clone().transform_down(|node| {
        let found = inputs.iter().zip(&leaves).find(|(input, _)| input.plan == node);
        Ok(match found {
            Some((_, leaf)) => Transformed::new(leaf.clone(), true, TreeNodeRecursion::Jump),
            None => Transformed::no(node),
        })
    });
    let above = above.data()?;
    let above = catalog.state().optimize(&exact(above)?)?;
    if !has_columns(&above, output) {
        return Err(Everything("its query cannot be cut: the columns would be others".to_owned()));
    }
    let time = Column::from(above.schema().qualified_field(at));
    let columns = (0..inputs.len()).map(|input| given::columns_read(&above, input));
    let columns = columns.collect::<EngineResult<Vec<_>>>()?;
    let tables = inputs.iter().flat_map(|input| nature(&input.plan, catalog).tables.into_keys()).collect();
    let is_read = |(input, read): &(&Input, &BTreeSet<usize>)| {
        read.iter().any(|at| matches!(input.plan.schema().field(*at).data_type(), DataType::List(_)))
    };
    if inputs.iter().zip(&columns).any(|pair| is_read(&pair)) && takes_rows_in_order(&above)? {
        return Err(Everything("its rows have lists, by which rows of one time cannot be told apart".to_owned()));
    }
    let kept = inputs.into_iter().enumerate().zip(columns);
    let kept = kept.map(|((number, input), columns)| Kept::new(number, input, columns, catalog));
    let inputs = kept.collect::<Result<Vec<_>, _>>()?;
    let (of, time_type) = (of.to_owned(), output.field(at).data_type().clone());
    let lookups = narrow::lookups(&above, &inputs);
    let released = Released { of, inputs, above, lookups, time, time_type, tables };
    // It is planned anew in each epoch, with what is between then.
    let sample = released.between(Between { from: Some(0), to: Some(1) }, catalog.state())?;
    if !has_columns(&sample, output) {
        return Err(Everything("its query cannot be cut: the columns would be others".to_owned()));
    }
    plans_physically(&sample, catalog)?;
    Ok(released)
}

/// Whether `plan` has the columns of `output`. What the engine knows of nulls may be another after other rules: it takes a
/// `UNION ALL` to have none where its first branch has none.
fn has_columns(plan: &LogicalPlan, output: &SchemaRef) -> bool {
    let kinds =
        |fields: &Fields| fields.iter().map(|field| (field.name().clone(), field.data_type().clone())).collect();
    let (found, expected): (Vec<_>, Vec<_>) = (kinds(plan.schema().fields()), kinds(output.fields()));
    found == expected
}

/// `plan` with sums that lose nothing, so that they do not depend on the order of rows.
fn exact(plan: LogicalPlan) -> EngineResult<LogicalPlan> {
    let in_expr = |expr: Expr| {
        Ok(match expr {
            Expr::AggregateFunction(mut call) => {
                call.func = exact_for(&call.func);
                Transformed::yes(Expr::AggregateFunction(call))
            }
            Expr::WindowFunction(mut call) => {
                if let WindowFunctionDefinition::AggregateUDF(function) = &call.fun {
                    call.fun = WindowFunctionDefinition::AggregateUDF(exact_for(function));
                }
                Transformed::yes(Expr::WindowFunction(call))
            }
            expr => Transformed::no(expr),
        })
    };
    let in_node = |node: LogicalPlan| node.map_expressions(|expr| expr.transform_up(in_expr));
    plan.transform_up(in_node).data()
}

/// Whether it matters to `plan` in which order rows of one time come.
fn takes_rows_in_order(plan: &LogicalPlan) -> EngineResult<bool> {
    plan.exists(|node| {
        Ok(match node {
            LogicalPlan::Window(_) => true,
            LogicalPlan::Aggregate(aggregate) => {
                let schema = aggregate.input.schema();
                let depends = |call| refusal(call, schema, false).map_or(true, |why| why.is_some());
                aggregate.aggr_expr.iter().filter_map(function).any(depends)
            }
            _ => false,
        })
    })
}

impl Released {
    fn error(&self, source: DataFusionError) -> Error {
        Error::from_engine(format!("feature set `{}`", self.of), source)
    }

    fn tick(&self) -> i128 {
        tick_of(&self.time_type)
    }

    /// The query, optimised, of whose rows those are left that are `between`.
    fn between(&self, between: Between, session: &SessionState) -> EngineResult<LogicalPlan> {
        let time = || Expr::Column(self.time.clone());
        let at = |ticks: i64| scalar(ticks, &self.time_type).map(|at| Expr::Literal(at, None));
        let from = between.from.and_then(at).map(|from| time().gt_eq(from));
        let to = between.to.and_then(at).map(|to| time().lt(to));
        let is_between = match (from, to) {
            (Some(from), Some(to)) => from.and(to),
            // A row without a time is final with the last one.
            (Some(from), None) => from.or(time().is_null()),
            (None, Some(to)) => to,
            (None, None) => return Ok(with_ticks(self.above.clone(), session)),
        };
        let plan = LogicalPlanBuilder::from(self.above.clone()).filter(is_between)?.build()?;
        Ok(with_ticks(session.optimize(&plan)?, session))
    }

    /// Nanoseconds since 1970 of a time of the set.
    fn nanos(&self, ticks: i64) -> i128 {
        i128::from(ticks) * self.tick()
    }
}

#[async_trait]
impl Emits for Released {
    fn sources(&self) -> Vec<&str> {
        let sources: BTreeSet<_> = self.inputs.iter().flat_map(|input| input.closing.sources()).collect();
        sources.into_iter().collect()
    }

    fn tables(&self) -> &BTreeSet<String> {
        &self.tables
    }

    fn signature(&self) -> String {
        let inputs = self.inputs.iter().map(|input| {
            let columns = input.state.fields().iter().map(|field| format!("{} {}", field.name(), field.data_type()));
            let Need { back, ahead, last, sessions, .. } = &input.need;
            let kept = format!("rows by {} from {back} before to {ahead} after", input.time);
            // As they are written: where they stand in the text is no part of what they mean.
            let more = last.iter().map(ToString::to_string).chain(sessions.iter().map(ToString::to_string));
            std::iter::once(kept).chain(more).chain(columns).collect::<Vec<_>>().join("\n")
        });
        inputs.collect::<Vec<_>>().join("\n")
    }

    fn states(&self) -> Vec<&SchemaRef> {
        self.inputs.iter().map(|input| &input.state).collect()
    }

    fn limit(&self, watermarks: &BTreeMap<&str, i64>) -> Result<Option<i64>> {
        let mut limit = None;
        for input in &self.inputs {
            let Some(at) = input.closing.limit(watermarks)? else { return Ok(None) };
            if at == i64::MAX {
                continue;
            }
            let of = i128::from(at) * input.tick() - input.need.ahead;
            limit = Some(limit.map_or(of, |limit: i128| limit.min(of)));
        }
        let Some(limit) = limit else { return Ok(Some(i64::MAX)) };
        // Rounded up: what is before a part of a tick is before the next one.
        let ticks = -(-limit).div_euclid(self.tick());
        Ok(Some(i64::try_from(ticks).unwrap_or(if ticks < 0 { i64::MIN } else { i64::MAX - 1 })))
    }

    fn range(&self, input: usize, rows: &RecordBatch) -> Result<Option<Range>> {
        let time = self.inputs.get(input).and_then(|input| rows.columns().get(input.time));
        time.map_or(Ok(None), |time| range_of(time).map_err(|error| self.error(error)))
    }

    fn concerns(&self, input: usize, (oldest, newest): Range, between: Between) -> bool {
        let Some(input) = self.inputs.get(input) else { return false };
        let (oldest, newest) = (i128::from(oldest) * input.tick(), i128::from(newest) * input.tick());
        let reaches = |from: i64| input.depends_on_others() || newest + input.need.back >= self.nanos(from);
        between.from.is_none_or(reaches) && between.to.is_none_or(|to| oldest - input.need.ahead < self.nanos(to))
    }

    fn is_spent(&self, input: usize, (_, newest): Range, closed: i64) -> bool {
        if closed == i64::MAX {
            return true;
        }
        let Some(input) = self.inputs.get(input) else { return true };
        !input.depends_on_others() && i128::from(newest) * input.tick() + input.need.back < self.nanos(closed)
    }

    fn is_late(&self, input: usize, (oldest, _): Range, closed: i64) -> bool {
        let Some(input) = self.inputs.get(input) else { return true };
        // A tick of the set's time may be longer.
        i128::from(oldest) * input.tick() < self.nanos(closed) - self.tick() + input.need.ahead
    }

    fn depends_on_others(&self, input: usize) -> bool {
        self.inputs.get(input).is_some_and(Kept::depends_on_others)
    }

    fn lookup(&self, input: usize) -> Option<&Lookup> {
        self.lookups.as_ref()?.get(input)
    }

    fn is_narrow(&self, segments: &[(usize, Range, u64)], between: Between) -> bool {
        self.lookups.is_some() && self.has_small_part(segments, between)
    }

    async fn absorb(&self, session: &SessionState, input: usize) -> Result<Arc<dyn ExecutionPlan>> {
        let input = self.input(input)?;
        let planned = async {
            let rows = session.query_planner().create_physical_plan(&input.rows, session).await?;
            Ok(input.sorted(rows))
        };
        planned.await.map_err(|source| self.error(source))
    }

    async fn merge(
        &self,
        session: &SessionState,
        input: usize,
        segments: Vec<Arc<dyn PartitionStream>>,
        closed: Option<i64>,
        beside: Option<i64>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let number = input;
        let input = self.input(input)?;
        let planned = async {
            let rows = input.read(segments)?;
            let Some(closed) = closed else { return Ok(rows) };
            let needed = input.needed(self.nanos(closed), beside, session)?;
            let mut all: Vec<Arc<dyn ExecutionPlan>> = vec![Arc::clone(&rows); number];
            all.push(rows);
            let session = given::with_given(session, all);
            let needed = session.query_planner().create_physical_plan(&needed, &session).await?;
            let named = given::renamed(needed, |at| input.state.field(at).name().clone())?;
            Ok(input.sorted(named))
        };
        planned.await.map_err(|source| self.error(source))
    }

    async fn emit(
        &self,
        session: &SessionState,
        segments: Vec<Vec<SegmentRows>>,
        between: Between,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let planned = async {
            let segments = self.narrowed(&segments, between)?;
            let rows = self.inputs.iter().zip(segments).map(|(input, segments)| input.read(segments));
            let session = given::with_given(session, rows.collect::<EngineResult<_>>()?);
            let plan = self.between(between, &session)?;
            in_total_order(session.query_planner().create_physical_plan(&plan, &session).await?)
        };
        planned.await.map_err(|source| self.error(source))
    }
}

impl Released {
    fn input(&self, input: usize) -> Result<&Kept> {
        let found = self.inputs.get(input);
        found.ok_or_else(|| self.error(DataFusionError::Internal(format!("there is no input {input}"))))
    }
}
