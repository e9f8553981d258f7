//! The operator: what it asks of its input, and the stream of one partition.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array, new_null_array};
use arrow::compute::{SortOptions, concat, partition, take};
use arrow::datatypes::SchemaRef;
use datafusion::common::internal_err;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::Result;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{
    Distribution, EquivalenceProperties, LexOrdering, OrderingRequirements, PhysicalExpr, PhysicalSortExpr,
};
use datafusion::physical_plan::coop::cooperative;
use datafusion::physical_plan::execution_plan::{
    ChildrenPropertiesMode, EmissionType, PlanProperties, ReplaceChildrenOptions, apply_expression_roots,
};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, InputDistributionRequirements,
};
use futures::{StreamExt, TryStreamExt};

/// Whether a row goes on with the session of the one before.
#[derive(Debug, Clone)]
pub(super) struct Steps {
    /// Of the time before and the time, which are the columns of `schema`.
    pub(super) goes_on: Arc<dyn PhysicalExpr>,
    pub(super) schema: SchemaRef,
}

/// Finds sessions in rows that come sorted by key and time.
#[derive(Debug)]
pub(super) struct SessionExec {
    input: Arc<dyn ExecutionPlan>,
    keys: Vec<Arc<dyn PhysicalExpr>>,
    time: Arc<dyn PhysicalExpr>,
    steps: Steps,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
}

impl SessionExec {
    pub(super) fn new(
        input: Arc<dyn ExecutionPlan>,
        keys: Vec<Arc<dyn PhysicalExpr>>,
        time: Arc<dyn PhysicalExpr>,
        steps: Steps,
        schema: SchemaRef,
    ) -> Self {
        // Rows leave as they come, and their columns are the first ones.
        let orderings = input.output_ordering().cloned();
        let properties = PlanProperties::new(
            EquivalenceProperties::new_with_orderings(Arc::clone(&schema), orderings),
            input.output_partitioning().clone(),
            EmissionType::Incremental,
            input.boundedness(),
        );
        Self { input, keys, time, steps, schema, properties: Arc::new(properties) }
    }
}

impl DisplayAs for SessionExec {
    fn fmt_as(&self, _kind: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionExec: {}", self.time)?;
        let mut keys = self.keys.iter().enumerate();
        keys.try_for_each(|(at, key)| write!(f, "{} {key}", if at == 0 { " BY" } else { "," }))
    }
}

impl ExecutionPlan for SessionExec {
    fn name(&self) -> &'static str {
        "SessionExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn input_distribution_requirements(&self) -> InputDistributionRequirements {
        InputDistributionRequirements::new(vec![if self.keys.is_empty() {
            Distribution::SinglePartition
        } else {
            Distribution::KeyPartitioned(self.keys.clone())
        }])
    }

    fn required_input_distribution(&self) -> Vec<Distribution> {
        self.input_distribution_requirements().into_per_child()
    }

    fn required_input_ordering(&self) -> Vec<Option<OrderingRequirements>> {
        let ascending = SortOptions { descending: false, nulls_first: true };
        let exprs = self.keys.iter().chain([&self.time]);
        let order = exprs.map(|expr| PhysicalSortExpr::new(Arc::clone(expr), ascending));
        vec![LexOrdering::new(order).map(OrderingRequirements::from)]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        apply_expression_roots(self.keys.iter().chain([&self.time]), f)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Ok([input]) = <[_; 1]>::try_from(children) else { return internal_err!("a session has one input") };
        let Self { keys, time, steps, schema, .. } = self.as_ref();
        Ok(Arc::new(Self::new(input, keys.clone(), Arc::clone(time), steps.clone(), Arc::clone(schema))))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, at: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let finder = Finder {
            input: self.input.execute(at, Arc::clone(&context))?,
            keys: self.keys.clone(),
            time: Arc::clone(&self.time),
            steps: self.steps.clone(),
            schema: Arc::clone(&self.schema),
            open: None,
            found: VecDeque::new(),
            memory: MemoryConsumer::new(format!("SESSION[{at}]")).register(context.memory_pool()),
        };
        let batches = futures::stream::try_unfold(finder, async |mut finder| {
            Ok(finder.next().await?.map(|batch| (batch, finder)))
        });
        let stream = RecordBatchStreamAdapter::new(Arc::clone(&self.schema), batches.boxed());
        Ok(Box::pin(cooperative(stream)))
    }
}

/// The rows of a session that has not ended, and what the next row is compared with. Of the arrays each has one value.
struct Open {
    rows: Vec<RecordBatch>,
    keys: Vec<ArrayRef>,
    first: ArrayRef,
    last: ArrayRef,
}

/// The sessions of one partition.
struct Finder {
    input: SendableRecordBatchStream,
    keys: Vec<Arc<dyn PhysicalExpr>>,
    time: Arc<dyn PhysicalExpr>,
    steps: Steps,
    schema: SchemaRef,
    open: Option<Open>,
    found: VecDeque<RecordBatch>,
    memory: MemoryReservation,
}

impl Finder {
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            if let Some(batch) = self.found.pop_front() {
                return Ok(Some(batch));
            }
            match self.input.try_next().await? {
                Some(batch) if batch.num_rows() > 0 => self.add(&batch)?,
                Some(_) => {}
                None => match self.open.take() {
                    Some(open) => self.end(open)?,
                    None => return Ok(None),
                },
            }
        }
    }

    fn add(&mut self, batch: &RecordBatch) -> Result<()> {
        let rows = batch.num_rows();
        let column = |expr: &Arc<dyn PhysicalExpr>| expr.evaluate(batch)?.into_array(rows);
        let keys = self.keys.iter().map(column).collect::<Result<Vec<_>>>()?;
        let times = column(&self.time)?;
        let begins = self.begins(&keys, &times)?;
        let open = self.open.take();
        let (Some(first), Some(last)) = (begins.first().copied(), begins.last().copied()) else {
            let Some(mut open) = open else { return internal_err!("the first row begins a session") };
            self.memory.try_grow(batch.get_array_memory_size())?;
            open.rows.push(batch.clone());
            open.last = times.slice(rows - 1, 1);
            self.open = Some(open);
            return Ok(());
        };
        if let Some(mut open) = open {
            if first > 0 {
                open.rows.push(batch.slice(0, first));
                open.last = times.slice(first - 1, 1);
            }
            self.end(open)?;
        }
        self.end_between(batch, &times, &begins)?;
        self.memory.try_resize(batch.get_array_memory_size())?;
        self.open = Some(Open {
            rows: vec![batch.slice(last, rows - last)],
            keys: keys.iter().map(|key| key.slice(rows - 1, 1)).collect(),
            first: times.slice(last, 1),
            last: times.slice(rows - 1, 1),
        });
        Ok(())
    }

    /// The rows that begin a session.
    fn begins(&self, keys: &[ArrayRef], times: &ArrayRef) -> Result<Vec<usize>> {
        let rows = times.len();
        let before = match &self.open {
            Some(open) => Arc::clone(&open.last),
            None => new_null_array(times.data_type(), 1),
        };
        let previous = concat(&[&before, &times.slice(0, rows - 1)])?;
        let steps = RecordBatch::try_new(Arc::clone(&self.steps.schema), vec![previous, Arc::clone(times)])?;
        let goes_on = self.steps.goes_on.evaluate(&steps)?.into_array(rows)?;
        let goes_on = goes_on.as_boolean();
        let mut is_same = vec![true; rows];
        if !keys.is_empty() {
            for range in partition(keys)?.ranges() {
                is_same[range.start] = false;
            }
            is_same[0] = self.is_of_open(keys)?;
        }
        let begins = |row: &usize| !(is_same[*row] && goes_on.is_valid(*row) && goes_on.value(*row));
        Ok((0..rows).filter(begins).collect())
    }

    /// Whether the first of `keys` is that of the session that has not ended.
    fn is_of_open(&self, keys: &[ArrayRef]) -> Result<bool> {
        let Some(open) = &self.open else { return Ok(false) };
        let both = open.keys.iter().zip(keys).map(|(open, keys)| concat(&[open, &keys.slice(0, 1)]));
        Ok(partition(&both.collect::<Result<Vec<_>, _>>()?)?.len() == 1)
    }

    /// Gives out the rows of a session.
    fn end(&mut self, open: Open) -> Result<()> {
        for rows in open.rows {
            let same = UInt32Array::from(vec![0; rows.num_rows()]);
            let bounds = [take(&open.first, &same, None)?, take(&open.last, &same, None)?];
            self.found.push_back(self.with_bounds(&rows, bounds)?);
        }
        self.memory.free();
        Ok(())
    }

    /// Gives out the rows of `batch` from the first of `begins` to before the last, whose sessions have ended.
    fn end_between(&mut self, batch: &RecordBatch, times: &ArrayRef, begins: &[usize]) -> Result<()> {
        let [first, .., last] = begins else { return Ok(()) };
        let (mut firsts, mut lasts) = (Vec::with_capacity(last - first), Vec::with_capacity(last - first));
        for session in begins.windows(2) {
            let [begin, end] = [session[0], session[1]];
            firsts.extend(std::iter::repeat_n(u32::try_from(begin).unwrap_or(u32::MAX), end - begin));
            lasts.extend(std::iter::repeat_n(u32::try_from(end - 1).unwrap_or(u32::MAX), end - begin));
        }
        let bounds = [firsts, lasts].map(|rows| take(times, &UInt32Array::from(rows), None));
        let [firsts, lasts] = bounds;
        self.found.push_back(self.with_bounds(&batch.slice(*first, last - first), [firsts?, lasts?])?);
        Ok(())
    }

    fn with_bounds(&self, rows: &RecordBatch, bounds: [ArrayRef; 2]) -> Result<RecordBatch> {
        let columns = rows.columns().iter().cloned().chain(bounds).collect();
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }
}
