//! The gate between a set's query and its files: every expectation, asked once of every batch.
//!
//! Each row meets the fate of the most severe expectation that it breaks (`FAIL`, then `QUARANTINE`, then `DROP ROW`;
//! `WARN` only counts). Where no row of a batch breaks anything the batch goes on as it is, nothing is copied.

mod aggregate;
mod row;
mod text;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, ListBuilder, RecordBatch, StringBuilder};
use arrow::buffer::BooleanBuffer;
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::json::LineDelimitedWriter;
use bessemer_schemas::{Action, ExpectationResult, Failure, ORIGIN_COLUMN};
use datafusion::common::DFSchema;
use datafusion::error::DataFusionError;
use datafusion::execution::SessionState;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use datafusion::logical_expr::{Accumulator, Expr};

use self::aggregate::AggregatePredicates;
pub(crate) use self::aggregate::{AggregateConditions, AggregatePredicate, call_column, check_call};
use self::row::{RowPredicates, Verdict};
use crate::{Error, Result};

/// Name of the column of a quarantined row that lists the expectations it broke.
pub const VIOLATIONS_COLUMN: &str = "_violations";

/// How many offending rows a failure keeps.
const SAMPLE_ROWS: usize = 10;

/// All expectations of one set, compiled once.
#[derive(Debug)]
pub struct Expectations {
    of: String,
    set: String,
    /// Columns of the set itself.
    visible: usize,
    quarantine_schema: SchemaRef,
    constraints: Vec<Constraint>,
    rows: Option<RowPredicates>,
    aggregates: AggregatePredicates,
}

/// An expectation without its predicate.
#[derive(Debug, Clone)]
pub(crate) struct Constraint {
    pub(crate) name: String,
    pub(crate) action: Action,
    pub(crate) is_aggregate: bool,
}

/// Expectations as they were planned, in the order written.
pub(crate) struct LogicalExpectations {
    pub(crate) constraints: Vec<Constraint>,
    /// One predicate for each row expectation.
    pub(crate) rows: Vec<Expr>,
    /// One condition for each aggregate expectation.
    pub(crate) aggregates: AggregateConditions,
}

/// A batch, parted by the fate of its rows.
#[derive(Debug)]
pub struct Judged {
    /// Rows to write: the set's own columns.
    pub passed: RecordBatch,
    /// Rows for quarantine, if any: the set's columns, row identity where the plan carries it, and
    /// [`VIOLATIONS_COLUMN`].
    pub quarantined: Option<RecordBatch>,
}

/// What the expectations found over all batches.
#[derive(Debug, Default)]
pub struct GateReport {
    /// One for each expectation, in the order written.
    pub results: Vec<ExpectationResult>,
    /// The first expectation with `FAIL` that was violated.
    pub failed: Option<Failure>,
    /// Rows judged.
    pub rows: u64,
    /// Rows that pass.
    pub passed: u64,
    /// Rows left out by `DROP ROW`.
    pub dropped: u64,
    /// Rows for quarantine.
    pub quarantined: u64,
}

/// Judges the batches of one stream of one set in one epoch.
pub struct Gate {
    expectations: Arc<Expectations>,
    counts: Counts,
    /// Violations of each expectation.
    violations: Vec<u64>,
    /// Rows that broke an expectation with `FAIL`, a bounded number of each.
    samples: Vec<Vec<String>>,
    accumulators: Vec<Box<dyn Accumulator>>,
    /// What the accumulators hold; a count of distinct values holds them all.
    memory: MemoryReservation,
}

#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    rows: u64,
    passed: u64,
    dropped: u64,
    quarantined: u64,
}

impl Expectations {
    /// Compiles the expectations of `set`, whose query gives `output`: its columns and, maybe, row identity.
    pub(crate) fn compile(
        set: &str,
        logical: LogicalExpectations,
        output: &SchemaRef,
        state: &SessionState,
    ) -> datafusion::error::Result<Self> {
        let carries_origin = output.fields().last().is_some_and(|field| field.name() == ORIGIN_COLUMN);
        let visible = output.fields().len() - usize::from(carries_origin);
        let schema: SchemaRef = Arc::new(output.project(&(0..visible).collect::<Vec<_>>())?);
        let qualified = DFSchema::try_from_qualified_schema(set, &schema)?;

        let rows = if logical.rows.is_empty() {
            None
        } else {
            Some(RowPredicates::compile(logical.rows, set, &schema, state)?)
        };
        let mut fields = output.fields().to_vec();
        fields.push(Arc::new(Field::new(VIOLATIONS_COLUMN, violations_type(), false)));
        Ok(Self {
            of: format!("feature set `{set}`"),
            set: set.to_owned(),
            visible,
            quarantine_schema: Arc::new(Schema::new_with_metadata(fields, output.metadata().clone())),
            constraints: logical.constraints,
            rows,
            aggregates: AggregatePredicates::compile(&logical.aggregates, &qualified, state)?,
        })
    }

    /// Schema of quarantined rows.
    pub fn quarantine_schema(&self) -> &SchemaRef {
        &self.quarantine_schema
    }

    /// Whether any expectation puts rows in quarantine.
    pub fn quarantines(&self) -> bool {
        self.constraints.iter().any(|constraint| constraint.action == Action::Quarantine)
    }

    /// Whether any expectation is of all rows together.
    pub fn has_aggregates(&self) -> bool {
        self.constraints.iter().any(|constraint| constraint.is_aggregate)
    }

    /// A gate for one stream of batches, which takes its memory from `pool`.
    pub fn gate(self: &Arc<Self>, pool: &Arc<dyn MemoryPool>) -> Result<Gate> {
        let accumulators = self.aggregates.accumulators().map_err(|source| Error::from_engine(&self.of, source))?;
        Ok(Gate {
            counts: Counts::default(),
            violations: vec![0; self.constraints.len()],
            samples: vec![Vec::new(); self.constraints.len()],
            accumulators,
            memory: MemoryConsumer::new(format!("expectations of {}", self.of)).register(pool),
            expectations: Arc::clone(self),
        })
    }
}

impl Gate {
    /// Parts `batch`, which the set's plan gave, by the fate of its rows.
    pub fn judge(&mut self, batch: &RecordBatch) -> Result<Judged> {
        let of = self.expectations.of.clone();
        self.part(batch).map_err(|source| Error::from_engine(of, source))
    }

    /// Takes over what another gate of the same set has seen.
    pub fn merge(&mut self, mut other: Self) -> Result<()> {
        self.counts.rows += other.counts.rows;
        self.counts.passed += other.counts.passed;
        self.counts.dropped += other.counts.dropped;
        self.counts.quarantined += other.counts.quarantined;
        for (mine, theirs) in self.violations.iter_mut().zip(&other.violations) {
            *mine += theirs;
        }
        for (mine, theirs) in self.samples.iter_mut().zip(other.samples) {
            mine.extend(theirs);
            mine.truncate(SAMPLE_ROWS);
        }
        aggregate::merge(&mut self.accumulators, &mut other.accumulators)
            .and_then(|()| self.reserve())
            .map_err(|source| Error::from_engine(&self.expectations.of, source))
    }

    /// Asks the aggregate expectations and reports. Over no row at all they are not asked.
    pub fn finish(mut self) -> Result<GateReport> {
        let expectations = Arc::clone(&self.expectations);
        let mut aggregates = match self.counts.passed {
            0 => Vec::new(),
            _ => expectations
                .aggregates
                .finish(&mut self.accumulators)
                .map_err(|source| Error::from_engine(&expectations.of, source))?,
        }
        .into_iter();

        let mut results = Vec::with_capacity(expectations.constraints.len());
        for (constraint, violations) in expectations.constraints.iter().zip(&self.violations) {
            let mut result = ExpectationResult {
                name: constraint.name.clone(),
                action: action_name(constraint.action).to_owned(),
                checked: self.counts.rows,
                violations: *violations,
                measured: std::collections::BTreeMap::new(),
            };
            if constraint.is_aggregate {
                result.checked = self.counts.passed;
                if let Some((holds, measured)) = aggregates.next() {
                    result.violations = u64::from(!holds);
                    result.measured = measured;
                }
            }
            results.push(result);
        }
        let failed = self.failure(&results);
        let Counts { rows, passed, dropped, quarantined } = self.counts;
        Ok(GateReport { results, failed, rows, passed, dropped, quarantined })
    }

    fn failure(&mut self, results: &[ExpectationResult]) -> Option<Failure> {
        let constraints = &self.expectations.constraints;
        let at = constraints.iter().zip(results).position(|(c, r)| c.action == Action::Fail && r.violations > 0)?;
        let result = results.get(at)?;
        Some(Failure {
            set: self.expectations.set.clone(),
            expectation: result.name.clone(),
            violations: result.violations,
            sample: self.samples.get_mut(at).map(std::mem::take).unwrap_or_default(),
        })
    }

    fn part(&mut self, batch: &RecordBatch) -> Result<Judged, DataFusionError> {
        let expectations = Arc::clone(&self.expectations);
        let visible = if batch.num_columns() == expectations.visible {
            batch.clone()
        } else {
            batch.project(&(0..expectations.visible).collect::<Vec<_>>())?
        };
        self.counts.rows += batch.num_rows() as u64;

        let verdicts = match &expectations.rows {
            Some(rows) => rows.verdicts(&visible)?,
            None => Vec::new(),
        };
        let judged = if verdicts.iter().all(|verdict| matches!(verdict, Verdict::AllPass)) {
            Judged { passed: visible, quarantined: None }
        } else {
            self.sort_out(batch, visible, verdicts)?
        };
        self.counts.passed += judged.passed.num_rows() as u64;
        expectations.aggregates.update(&mut self.accumulators, &judged.passed)?;
        self.reserve()?;
        Ok(judged)
    }

    /// Accounts for what the accumulators hold by now.
    fn reserve(&self) -> Result<(), DataFusionError> {
        self.memory.try_resize(aggregate::size(&self.accumulators))
    }

    /// Some row breaks something.
    fn sort_out(
        &mut self,
        batch: &RecordBatch,
        visible: RecordBatch,
        verdicts: Vec<Verdict>,
    ) -> Result<Judged, DataFusionError> {
        let expectations = Arc::clone(&self.expectations);
        let row_constraints = expectations.constraints.iter().enumerate().filter(|(_, c)| !c.is_aggregate);
        let mut broken: Vec<(usize, BooleanBuffer)> = Vec::new();
        for ((at, _), verdict) in row_constraints.zip(verdicts) {
            if let Verdict::Broken(rows) = verdict {
                broken.push((at, rows));
            }
        }
        for (at, rows) in &broken {
            if let Some(count) = self.violations.get_mut(*at) {
                *count += rows.count_set_bits() as u64;
            }
        }

        let of_action = |action: Action| {
            let chosen = broken.iter().filter(|(at, _)| {
                expectations.constraints.get(*at).is_some_and(|constraint| constraint.action == action)
            });
            chosen.map(|(_, rows)| rows.clone()).reduce(|left, right| &left | &right)
        };
        let (failed, quarantined, dropped) =
            (of_action(Action::Fail), of_action(Action::Quarantine), of_action(Action::DropRow));
        if failed.is_some() {
            self.sample(&visible, &broken)?;
        }

        let quarantined = without(quarantined, failed.as_ref());
        let dropped = without(without(dropped, failed.as_ref()), quarantined.as_ref());
        self.counts.dropped += dropped.as_ref().map_or(0, BooleanBuffer::count_set_bits) as u64;
        self.counts.quarantined += quarantined.as_ref().map_or(0, BooleanBuffer::count_set_bits) as u64;

        let out = [failed, quarantined.clone(), dropped].into_iter().flatten().reduce(|left, right| &left | &right);
        let passed = match out {
            Some(out) if out.has_true() => filter_record_batch(&visible, &BooleanArray::from(!&out))?,
            _ => visible,
        };
        let quarantined = quarantined
            .filter(BooleanBuffer::has_true)
            .map(|rows| quarantine(&expectations, batch, &rows, &broken))
            .transpose()?;
        Ok(Judged { passed, quarantined })
    }

    /// Keeps the first rows that break an expectation with `FAIL`, as JSON objects.
    fn sample(&mut self, batch: &RecordBatch, broken: &[(usize, BooleanBuffer)]) -> Result<(), DataFusionError> {
        for (at, rows) in broken {
            let is_fail = self.expectations.constraints.get(*at).is_some_and(|c| c.action == Action::Fail);
            let Some(sample) = self.samples.get_mut(*at).filter(|sample| is_fail && sample.len() < SAMPLE_ROWS) else {
                continue;
            };
            for row in rows.set_indices().take(SAMPLE_ROWS - sample.len()) {
                sample.push(json(&batch.slice(row, 1))?);
            }
        }
        Ok(())
    }
}

/// The rows of `rows` that are not in `others`.
fn without(rows: Option<BooleanBuffer>, others: Option<&BooleanBuffer>) -> Option<BooleanBuffer> {
    match (rows, others) {
        (Some(rows), Some(others)) => Some(&rows & &!others),
        (rows, _) => rows,
    }
}

fn quarantine(
    expectations: &Expectations,
    batch: &RecordBatch,
    rows: &BooleanBuffer,
    broken: &[(usize, BooleanBuffer)],
) -> Result<RecordBatch, DataFusionError> {
    let mut names = ListBuilder::new(StringBuilder::new()).with_field(violation_field());
    for row in rows.set_indices() {
        for (at, rows) in broken {
            if let Some(constraint) = expectations.constraints.get(*at).filter(|_| rows.value(row)) {
                names.values().append_value(&constraint.name);
            }
        }
        names.append(true);
    }
    let kept = filter_record_batch(batch, &BooleanArray::from(rows.clone()))?;
    let mut columns: Vec<ArrayRef> = kept.columns().to_vec();
    columns.push(Arc::new(names.finish()));
    Ok(RecordBatch::try_new(Arc::clone(&expectations.quarantine_schema), columns)?)
}

fn json(row: &RecordBatch) -> Result<String, DataFusionError> {
    let mut bytes = Vec::new();
    let mut writer = LineDelimitedWriter::new(&mut bytes);
    writer.write(row)?;
    writer.finish()?;
    Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned())
}

fn violations_type() -> DataType {
    DataType::List(violation_field())
}

fn violation_field() -> Arc<Field> {
    Arc::new(Field::new("item", DataType::Utf8, false))
}

fn action_name(action: Action) -> &'static str {
    match action {
        Action::Warn => "warn",
        Action::DropRow => "drop_row",
        Action::Quarantine => "quarantine",
        Action::Fail => "fail",
    }
}
