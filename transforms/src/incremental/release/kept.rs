//! What is kept of an input, and how long.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::Column;
use datafusion::error::Result;
use datafusion::execution::SessionState;
use datafusion::functions::expr_fn::coalesce;
use datafusion::functions_aggregate::min_max::max_udaf;
use datafusion::functions_window::expr_fn::rank;
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::{
    Expr, ExprFunctionExt, LogicalPlan, LogicalPlanBuilder, WindowFunctionDefinition, lit, when,
};
use datafusion::physical_expr::expressions;
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};

use super::need::{Need, Sessions};
use super::reach::{Input, NO_WATERMARK};
use crate::catalog::Catalog;
use crate::given;
use crate::incremental::closing::{Closing, scalar};
use crate::incremental::cut::Everything;
use crate::incremental::exact::is_storable;
use crate::set::plans_physically;
use crate::type_name::{is_sortable, sql_type_name};
use crate::window::{END, Kind, Length, Window, tick_of};

/// What is kept of an input.
#[derive(Debug)]
pub(super) struct Kept {
    /// Its rows, as the optimizer leaves it: those columns that are needed.
    pub(super) rows: LogicalPlan,
    pub(super) state: SchemaRef,
    /// Its event time among the columns of the state.
    pub(super) time: usize,
    /// How that follows watermarks.
    pub(super) closing: Closing,
    pub(super) need: Need,
    /// The state as a plan with the names of the query.
    pub(super) leaf: LogicalPlan,
    /// The event time in it.
    pub(super) time_column: Column,
}

impl Kept {
    pub(super) fn new(
        number: usize,
        input: Input,
        mut columns: BTreeSet<usize>,
        catalog: &Catalog<'_>,
    ) -> Result<Self, Everything> {
        let Input { plan, time, need } = input;
        let schema = Arc::clone(plan.schema());
        let keys = need.last.iter().flat_map(|last| last.keys.iter().chain(&last.filters));
        let keys = keys.chain(need.sessions.iter().flat_map(|sessions| &sessions.keys));
        for column in keys.flat_map(Expr::column_refs) {
            let Some(at) = schema.maybe_index_of_column(column) else {
                return Err(Everything("rows are counted by keys that are put together".to_owned()));
            };
            columns.insert(at);
        }
        columns.insert(time);
        let follows = catalog.logs().follows(&plan, &Column::from(schema.qualified_field(time)));
        let follows = follows.map_err(|_| Everything(format!("`{}` {NO_WATERMARK}", schema.field(time).name())))?;
        let closing = Closing::new(follows, schema.field(time).data_type(), catalog)?;

        for at in &columns {
            let field = schema.field(*at);
            if !is_storable(field.data_type()) {
                let type_name = sql_type_name(field.data_type());
                return Err(Everything(format!("`{}` is {type_name}, which cannot be kept", field.name())));
            }
        }
        let named =
            columns.iter().map(|at| Expr::Column(Column::from(schema.qualified_field(*at))).alias(given::name(*at)));
        let rows = LogicalPlanBuilder::from(plan).project(named.collect::<Vec<_>>())?.build()?;
        let rows = catalog.state().optimize(&rows)?;
        plans_physically(&rows, catalog)?;
        let state = Arc::new(Schema::new(rows.schema().fields().clone()));
        let leaf = given::leaf(number, &schema)?;
        let named = columns.iter().map(|at| Expr::Column(Column::from(schema.qualified_field(*at))));
        let leaf = LogicalPlanBuilder::from(leaf).project(named.collect::<Vec<_>>())?.build()?;
        let time_column = Column::from(schema.qualified_field(time));
        let time = columns.iter().position(|at| *at == time).unwrap_or_default();
        let kept = Self { rows, state, time, closing, need, leaf, time_column };
        // That it can be planned shows now.
        kept.needed(0, Some(0), catalog.state())?;
        Ok(kept)
    }

    /// Whether more than their time says which rows are needed.
    pub(super) fn depends_on_others(&self) -> bool {
        !self.need.last.is_empty() || !self.need.sessions.is_empty()
    }

    /// Nanoseconds of a tick of the event time.
    pub(super) fn tick(&self) -> i128 {
        tick_of(self.state.field(self.time).data_type())
    }

    /// Its event time, then all columns that have an order: equal input always comes in one order.
    pub(super) fn order(&self) -> Option<LexOrdering> {
        let options = SortOptions { descending: false, nulls_first: true };
        let fields = self.state.fields();
        let rest = (0..fields.len()).filter(|at| *at != self.time && is_sortable(fields[*at].data_type()));
        let columns = std::iter::once(self.time).chain(rest);
        LexOrdering::new(
            columns.map(|at| PhysicalSortExpr::new(Arc::new(expressions::Column::new(fields[at].name(), at)), options)),
        )
    }

    /// The rows of `segments` in order, in one partition.
    pub(super) fn read(&self, segments: Vec<Arc<dyn PartitionStream>>) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = Arc::clone(&self.state);
        if segments.is_empty() {
            return Ok(Arc::new(EmptyExec::new(schema)));
        }
        let read = StreamingTableExec::try_new(schema, segments, None, self.order(), false, None)?;
        Ok(self.merged(Arc::new(read)))
    }

    pub(super) fn sorted(&self, plan: Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
        match self.order() {
            Some(order) => self.merged(Arc::new(SortExec::new(order, plan).with_preserve_partitioning(true))),
            None => plan,
        }
    }

    fn merged(&self, plan: Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
        match self.order() {
            Some(order) if plan.output_partitioning().partition_count() != 1 => {
                Arc::new(SortPreservingMergeExec::new(order, plan).with_round_robin_repartition(false))
            }
            _ => plan,
        }
    }

    /// The plan, over the leaf, of the rows that rows of the set with a time from `from` nanoseconds since 1970 on may
    /// depend on, where others are kept beside these whose greatest time, in ticks, is `beside`.
    pub(super) fn needed(&self, from: i128, beside: Option<i64>, session: &SessionState) -> Result<LogicalPlan> {
        let data_type = self.state.field(self.time).data_type();
        let bound = from - self.need.back;
        let since = |nanos: i128| {
            let ticks = i64::try_from(nanos.div_euclid(self.tick())).ok().and_then(|ticks| scalar(ticks, data_type));
            ticks.map(|ticks| Expr::Literal(ticks, None))
        };
        // A bound that cannot be written is before everything.
        let Some(bound) = since(bound) else { return Ok(self.leaf.clone()) };
        let time = || Expr::Column(self.time_column.clone());
        let columns: Vec<_> = self.leaf.schema().columns().into_iter().map(Expr::Column).collect();
        let mut plan = LogicalPlanBuilder::from(self.leaf.clone());
        let mut is_needed = time().is_null();
        // A session ends after each of its rows. One without a time is in none, and the scan lets none of them in.
        if self.need.sessions.is_empty() {
            is_needed = is_needed.or(time().gt_eq(bound.clone()));
        }
        for (number, Sessions { keys, gap }) in self.need.sessions.iter().enumerate() {
            let before: Vec<_> = plan.schema().columns().into_iter().map(Expr::Column).collect();
            let window =
                Window { time: self.time_column.clone(), kind: Kind::Session { keys: keys.clone(), gap: *gap } };
            let end = format!("__end_{number}");
            let named = before.into_iter().chain([Expr::Column(Column::from_name(END)).alias(&end)]);
            plan = LogicalPlanBuilder::from(window.plan(plan.build()?)?).project(named)?;
            let end = || Expr::Column(Column::from_name(&end));
            is_needed = is_needed.or(end().gt_eq(bound.clone()));
            // One that seems to end may go on in those beside it. The last rows of others are found among any.
            if let Some(beside) = beside {
                let goes_on = since(i128::from(beside) * self.tick() + self.tick() + gap.most());
                is_needed = goes_on.map_or(lit(true), |goes_on| is_needed.or(end().lt(goes_on)));
            }
        }
        for (number, last) in self.need.last.iter().enumerate() {
            let counts = last.filters.iter().cloned().fold(time().lt(bound.clone()), Expr::and);
            let counts = coalesce(vec![counts, lit(false)]);
            let [rank_name, newest_name] = ["rank", "newest"].map(|what| format!("__{what}_{number}"));
            let keys = last.keys.iter().cloned().chain([counts.clone()]).collect();
            let newest_first = time().sort(false, false);
            let rank = rank().partition_by(keys).order_by(vec![newest_first]).build()?;
            plan = with_window(plan, rank, &rank_name)?;
            let rows = u64::try_from(last.rows).unwrap_or(u64::MAX);
            is_needed = is_needed.or(counts.clone().and(Expr::Column(Column::from_name(rank_name)).lt_eq(lit(rows))));
            if last.back > 0 {
                let newest = Expr::from(WindowFunction::new(
                    WindowFunctionDefinition::AggregateUDF(max_udaf()),
                    vec![when(counts, time()).end()?],
                ));
                let newest = newest.partition_by(last.keys.clone()).build()?;
                plan = with_window(plan, newest, &newest_name)?;
                let back = Length::Nanos(i64::try_from(last.back).unwrap_or(i64::MAX)).to_interval();
                let until = time() + Expr::Literal(back, None);
                is_needed = is_needed.or(until.gt_eq(Expr::Column(Column::from_name(newest_name))));
            }
        }
        let plan = plan.filter(is_needed)?.project(columns)?.build()?;
        let config = session.config_options();
        session.optimize(&session.analyzer().execute_and_check(plan, config, |_, _| {})?)
    }
}

/// `plan` with what `function` gives as the column `name`. The optimizer takes window functions by no other name than
/// their own.
fn with_window(plan: LogicalPlanBuilder, function: Expr, name: &str) -> Result<LogicalPlanBuilder> {
    let before = plan.schema().columns().into_iter().map(Expr::Column);
    let made = Expr::Column(Column::from_name(function.schema_name().to_string())).alias(name);
    let all: Vec<_> = before.chain([made]).collect();
    plan.window([function])?.project(all)
}
