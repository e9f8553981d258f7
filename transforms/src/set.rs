//! One feature set: its query, what it publishes, how its rows are ordered and judged.

use std::sync::Arc;

use arrow::datatypes::{DataType, Schema, SchemaRef};
use bessemer_schemas::{
    Definition, Diagnostic, Digest, Expectation, FeatureSetDefinition, Name, ORIGIN_COLUMN, PartitionField,
    PartitionTransform, Span, nearest,
};
use datafusion::common::DFSchema;
use datafusion::common::tree_node::{Transformed, TransformedResult};
use datafusion::datasource::empty::EmptyTable;
use datafusion::datasource::provider_as_source;
use datafusion::error::Result;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use futures::FutureExt;
use sqlparser::ast::{Distinct, Query, Select, Spanned};

use crate::SetKind;
use crate::catalog::{Catalog, reads_itself};
use crate::classify::{Construct, Nature, nature};
use crate::emit;
use crate::expectation::{check_expectations, plan_expectations};
use crate::expression::{list, told};
use crate::gate::{Expectations, LogicalExpectations};
use crate::incremental::{Everything, incremental, released, windows};
use crate::order::Ordering;
use crate::origin::carry_origin;
use crate::plan::{LedgerShape, PlannedSet, Reason, Upkeep};
use crate::plan_text::plan_text;
use crate::shared::Sharing;
use crate::syntax::{Mentions, first_select, group_by_span, item_name, limit_span, object_value, place};
use crate::type_name::{is_time, sql_type_name};
use crate::view::plan_query;
use crate::window::{Call, in_panes, in_ticks, with_one_bound};

/// Plans `set`; its faults go to `found`.
pub(crate) fn plan_set(
    definition: &Definition,
    set: &FeatureSetDefinition,
    partition_by: &[PartitionField],
    catalog: &Catalog<'_>,
    found: &mut Vec<Diagnostic>,
) -> Option<PlannedSet> {
    let before = found.len();
    let Some(query) = plan_query(&set.query, set.query_span, catalog, found) else {
        check_unplanned(set, partition_by, catalog, found);
        return None;
    };
    let nature = nature(&query, catalog);
    let schema = visible_schema(&query);
    let kind = kind(set, &nature);
    if found.len() == before {
        refuse_order(definition, set, kind, &nature, found);
        emit::refuse(definition, set, &nature, found);
    }
    columns_exist(set, partition_by, &schema, found);

    let name = &set.name.value;
    let qualified = DFSchema::try_from_qualified_schema(name.as_str(), &schema).ok()?;
    let expectations = plan_expectations(set, &qualified, Some(kind), catalog, found);
    if found.iter().skip(before).any(Diagnostic::is_error) {
        return None;
    }
    match assemble(definition, set, partition_by, &query, nature, expectations, catalog) {
        Ok(planned) => emit::refuse_upkeep(set, planned, found),
        Err(error) => {
            found.push(told(&error, set.query_span));
            None
        }
    }
}

/// Checks what can be told of a set whose query cannot be planned.
fn check_unplanned(
    set: &FeatureSetDefinition,
    partition_by: &[PartitionField],
    catalog: &Catalog<'_>,
    found: &mut Vec<Diagnostic>,
) {
    check_expectations(set, catalog, found);
    let Some(columns) = column_names(&set.query) else { return };
    let columns: Vec<_> = columns.iter().map(String::as_str).collect();
    let event_time = set.event_time.iter().map(|event_time| ("EVENT TIME", event_time.column.clone()));
    let entity = set.entity.iter().map(|entity| ("ENTITY", entity.clone()));
    let at = set.options.owner_span();
    let partitions = partition_by.iter().map(|field| ("partition_by", Name { value: field.column.clone(), span: at }));
    for (clause, name) in entity.chain(event_time).chain(partitions) {
        if !columns.contains(&name.value.as_str()) {
            found.push(missing_column(&name, clause, &columns));
        }
    }
}

/// The columns of a query, where all of them can be seen in its text.
fn column_names(query: &Query) -> Option<Vec<String>> {
    let select = first_select(&query.body).filter(|_| query.pipe_operators.is_empty())?;
    let names: Option<Vec<_>> = select.projection.iter().map(item_name).collect();
    names.filter(|names| !names.is_empty())
}

fn assemble(
    definition: &Definition,
    set: &FeatureSetDefinition,
    partition_by: &[PartitionField],
    query: &LogicalPlan,
    nature: Nature,
    expectations: LogicalExpectations,
    catalog: &Catalog<'_>,
) -> Result<PlannedSet> {
    let state = catalog.state();
    let (kind, closes) = (kind(set, &nature), set.emit_on_window_close.is_some());
    let queries = queries_read(definition, set);
    let plan_text = plan_text(&state.optimize(query)?, queries.iter().map(|(query, _)| *query))?;

    let entity: Vec<_> = set.entity.iter().map(|name| name.value.clone()).collect();
    let scans: usize = nature.logs.values().sum();
    let ordering = Ordering {
        partition_by,
        event_time: set.event_time.as_ref().map(|event_time| event_time.column.value.as_str()),
        entity: &entity,
        can_expand: nature.can_expand || scans > 1,
    };
    let quarantines = set.constraints.iter().any(|c| c.action == bessemer_schemas::Action::Quarantine);
    let carries_origin = nature.kind() == SetKind::Append && (ordering.applies() || quarantines);
    // What is kept has no order that its rows could come in: segments are merged when there are many.
    let is_sorted = ordering.applies() || closes;

    let mut logical = if carries_origin { carry_origin(query, catalog)? } else { query.clone() };
    if is_sorted {
        logical = ordering.sort(logical)?;
    }
    let logical = catalog.analyse(logical)?;
    let mut optimized = state.optimize(&logical)?;
    if kind == SetKind::Snapshot {
        optimized = with_less_work(optimized, state);
    }
    plans_physically(&optimized, catalog)?;
    let output: SchemaRef = Arc::clone(optimized.schema().inner());
    let expectations = Expectations::compile(&set.name.value, expectations, &output, state)?;
    Ok(PlannedSet {
        name: set.name.value.clone(),
        kind,
        emit_every: set.emit_every.map(|every| every.interval),
        reasons: if closes { Vec::new() } else { reasons(definition, set, &nature) },
        upkeep: upkeep(set, &nature, &logical, &output, catalog),
        schema: Arc::new(visible_schema(&optimized)),
        order: if is_sorted { order_text(&logical) } else { Vec::new() },
        ledger: match kind {
            SetKind::Append if !closes => LedgerShape::Stateless { can_expand: nature.can_expand },
            SetKind::Append | SetKind::Snapshot => LedgerShape::Stateful,
        },
        sources: nature.logs,
        tables: nature.tables,
        carries_origin,
        plan_digest: Digest::of(plan_text.as_bytes()),
        expectations_digest: Digest::of(expectations_text(set).as_bytes()),
        expectations: Arc::new(expectations),
        sharing: if kind == SetKind::Snapshot { Sharing::of(&optimized)? } else { None },
        logical,
        optimized,
    })
}

/// `plan`, which the optimizer has left, planned anew where that saves work and changes no row.
pub(crate) fn with_less_work(plan: LogicalPlan, state: &SessionState) -> LogicalPlan {
    rewritten(plan, &[in_panes, with_one_bound, in_ticks], state)
}

/// The same where only frames of time are planned anew, which changes neither the rows that are read nor their order.
pub(crate) fn with_ticks(plan: LogicalPlan, state: &SessionState) -> LogicalPlan {
    rewritten(plan, &[in_ticks], state)
}

type Rewrite = fn(LogicalPlan) -> Result<Transformed<LogicalPlan>>;

fn rewritten(mut plan: LogicalPlan, rewrites: &[Rewrite], state: &SessionState) -> LogicalPlan {
    for rewrite in rewrites {
        // What it cannot do leaves the plan as it is.
        let Ok(Transformed { data: rewritten, transformed: true, .. }) = rewrite(plan.clone()) else { continue };
        if let Ok(rewritten) = state.optimize(&rewritten)
            && rewritten.schema() == plan.schema()
        {
            plan = rewritten;
        }
    }
    plan
}

/// Windows that are closed do not change any more.
fn kind(set: &FeatureSetDefinition, nature: &Nature) -> SetKind {
    if set.emit_on_window_close.is_some() { SetKind::Append } else { nature.kind() }
}

fn upkeep(
    set: &FeatureSetDefinition,
    nature: &Nature,
    plan: &LogicalPlan,
    output: &SchemaRef,
    catalog: &Catalog<'_>,
) -> Upkeep {
    let name = set.name.value.as_str();
    if set.emit_on_window_close.is_none() {
        if nature.kind() == SetKind::Append {
            return Upkeep::Slice;
        }
        return match incremental(name, plan, output, catalog) {
            Ok(incremental) => Upkeep::Incremental(incremental),
            Err(Everything(reason)) => Upkeep::Everything { reason },
        };
    }
    // Partial aggregates take less room than rows.
    let of_groups = match windows(name, plan, output, catalog) {
        Ok(windows) => return Upkeep::Emitting(Box::new(windows)),
        Err(Everything(reason)) => reason,
    };
    let event_time = set.event_time.as_ref().map(|event_time| event_time.column.value.as_str());
    match released(name, plan, output, event_time, catalog) {
        Ok(released) => Upkeep::Emitting(Box::new(released)),
        Err(Everything(of_rows)) => {
            let is_group =
                |(construct, _): &(Construct, String)| matches!(construct, Construct::GroupBy | Construct::Distinct);
            let reason = if nature.reasons.iter().all(is_group) { of_groups } else { of_rows };
            Upkeep::Everything { reason }
        }
    }
}

/// Some faults show only in the physical plan. It is tried over empty tables: a scan of ours needs an epoch.
pub(crate) fn plans_physically(plan: &LogicalPlan, catalog: &Catalog<'_>) -> Result<()> {
    let empty = plan.clone().transform_down_with_subqueries(|node| {
        Ok(match node {
            LogicalPlan::TableScan(mut scan) if !reads_itself(&scan) => {
                scan.source = provider_as_source(Arc::new(EmptyTable::new(scan.source.schema())));
                Transformed::yes(LogicalPlan::TableScan(scan))
            }
            node => Transformed::no(node),
        })
    });
    let (state, empty) = (catalog.state(), empty.data()?);
    // An empty table is scanned without waiting; were it not, the plan is made when the epoch needs it.
    match state.query_planner().create_physical_plan(&empty, state).now_or_never() {
        Some(planned) => planned.map(drop),
        None => Ok(()),
    }
}

impl PlannedSet {
    /// The set's own columns in the order of its scan.
    pub(crate) fn visible(&self) -> Result<LogicalPlan> {
        let unsorted = match &self.logical {
            LogicalPlan::Sort(sort) if self.is_sorted() => sort.input.as_ref(),
            plan => plan,
        };
        if !self.carries_origin {
            return Ok(unsorted.clone());
        }
        let columns = unsorted.schema().columns().into_iter().filter(|column| column.name != ORIGIN_COLUMN);
        LogicalPlanBuilder::from(unsorted.clone()).project(columns.map(Expr::Column))?.build()
    }
}

fn visible_schema(plan: &LogicalPlan) -> Schema {
    let schema = plan.schema();
    let fields: Vec<_> = schema.fields().iter().filter(|field| field.name() != ORIGIN_COLUMN).cloned().collect();
    Schema::new_with_metadata(fields, schema.metadata().clone())
}

fn order_text(plan: &LogicalPlan) -> Vec<String> {
    match plan {
        LogicalPlan::Sort(sort) => sort.expr.iter().map(|sort| key_text(&sort.expr)).collect(),
        _ => Vec::new(),
    }
}

fn key_text(key: &Expr) -> String {
    match key {
        Expr::Column(column) if column.name == ORIGIN_COLUMN => "row identity".to_owned(),
        Expr::Column(column) => column.name.clone(),
        Expr::ScalarFunction(call) => {
            let args: Vec<_> = call.args.iter().map(key_text).collect();
            format!("{}({})", call.name(), args.join(", "))
        }
        Expr::Cast(cast) => key_text(&cast.expr),
        _ => key.to_string(),
    }
}

/// A set's expectations as a text that changes when one of them does.
fn expectations_text(set: &FeatureSetDefinition) -> String {
    let lines = set.constraints.iter().map(|constraint| {
        let (name, action) = (&constraint.name.value, constraint.action);
        match &constraint.expectation {
            Expectation::Row(expr) => format!("{name} row ({expr}) {action:?}"),
            Expectation::Aggregate { expr, scope } => format!("{name} aggregate {scope:?} ({expr}) {action:?}"),
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn columns_exist(
    set: &FeatureSetDefinition,
    partition_by: &[PartitionField],
    schema: &Schema,
    found: &mut Vec<Diagnostic>,
) {
    for entity in &set.entity {
        let _field = column(entity, "ENTITY", schema, found);
    }
    if let Some(event_time) = &set.event_time
        && let Some(data_type) = column(&event_time.column, "EVENT TIME", schema, found)
        && !is_time(data_type)
    {
        let name = &event_time.column.value;
        let message = format!("EVENT TIME must be a time, but `{name}` is {}", sql_type_name(data_type));
        found.push(
            Diagnostic::error(message, event_time.column.span).with_help(format!(
                "name a TIMESTAMP or DATE column, or write `CAST({name} AS TIMESTAMP)` in the query"
            )),
        );
    }
    let at = set.options.owner_span();
    for field in partition_by {
        let name = Name { value: field.column.clone(), span: at };
        if let Some(data_type) = column(&name, "partition_by", schema, found) {
            partition_type(field, data_type, at, found);
        }
    }
    if !partition_by.is_empty() && partition_by.len() == schema.fields().len() {
        let is_identity = |field: &PartitionField| field.transform == PartitionTransform::Identity;
        if partition_by.iter().all(is_identity) {
            found.push(
                Diagnostic::error("every column is a partition: the files would be empty", at)
                    .with_help("leave at least one column out of `partition_by`"),
            );
        }
    }
}

fn column<'s>(name: &Name, clause: &str, schema: &'s Schema, found: &mut Vec<Diagnostic>) -> Option<&'s DataType> {
    let field = schema.fields().iter().find(|field| *field.name() == name.value);
    if field.is_none() {
        let names: Vec<_> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        found.push(missing_column(name, clause, &names));
    }
    field.map(|field| field.data_type())
}

fn missing_column(name: &Name, clause: &str, columns: &[&str]) -> Diagnostic {
    let help = match nearest(&name.value, columns.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("the columns of the set are {}", list(columns)),
    };
    Diagnostic::error(format!("{clause}: the set has no column `{}`", name.value), name.span).with_help(help)
}

fn partition_type(field: &PartitionField, data_type: &DataType, at: Span, found: &mut Vec<Diagnostic>) {
    let (usable, help) = match field.transform {
        PartitionTransform::Identity => {
            let usable = matches!(
                data_type,
                DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Boolean | DataType::Date32
            ) || data_type.is_integer();
            let help = if is_time(data_type) {
                format!("write `day({})` or `month({})`", field.column, field.column)
            } else {
                "partition by text, whole numbers, BOOLEAN or DATE".to_owned()
            };
            (usable, help)
        }
        PartitionTransform::Hour => {
            (matches!(data_type, DataType::Timestamp(..)), "`hour` needs a TIMESTAMP".to_owned())
        }
        PartitionTransform::Month | PartitionTransform::Day => {
            (is_time(data_type), format!("`{field}` needs a TIMESTAMP or DATE"))
        }
    };
    if !usable {
        let message = format!("the set cannot be partitioned by `{field}`: it is {}", sql_type_name(data_type));
        found.push(Diagnostic::error(message, at).with_help(help));
    }
}

/// An append set has no order of its own: its rows come with the epochs.
fn refuse_order(
    definition: &Definition,
    set: &FeatureSetDefinition,
    kind: SetKind,
    nature: &Nature,
    found: &mut Vec<Diagnostic>,
) {
    if kind != SetKind::Append || !nature.orders_log {
        return;
    }
    let span = find(definition, set, &|query| {
        let order = query.order_by.as_ref().map(Spanned::span);
        order.into_iter().chain(limit_span(query)).reduce(|left, right| left.union(&right))
    });
    found.push(
        Diagnostic::error("a set that appends has no ORDER BY or LIMIT: its rows come epoch by epoch", span)
            .with_help("leave it out; files are sorted by partition, event time and row identity"),
    );
}

fn reasons(definition: &Definition, set: &FeatureSetDefinition, nature: &Nature) -> Vec<Reason> {
    if nature.logs.is_empty() {
        let text = "it reads no source, only tables".to_owned();
        return vec![Reason { text, span: set.query_span }];
    }
    let reasons = nature.reasons.iter().map(|(construct, text)| {
        let of_select = |select: &Select| match construct {
            Construct::GroupBy => group_by_span(select).or_else(|| {
                let calls = Mentions::of(select).calls;
                calls.into_iter().find(|call| AGGREGATES.contains(&object_value(&call.name).as_str())).map(|c| c.span())
            }),
            Construct::Distinct => match &select.distinct {
                Some(Distinct::Distinct | Distinct::On(_)) => Some(select.select_token.0.span),
                _ => None,
            },
            Construct::Window => {
                Mentions::of(select).calls.into_iter().find(|call| call.over.is_some()).map(|call| call.span())
            }
            Construct::Session => {
                let calls = Mentions::of(select).table_calls;
                calls.iter().filter_map(Call::of).find_map(|call| call.is_session().then(|| call.name.span()))
            }
            Construct::AsofJoin => Mentions::of(select).asof_conditions.first().map(Spanned::span),
            Construct::Other => None,
        };
        let span = find(definition, set, &|query| Mentions::of(query).selects.iter().find_map(of_select));
        Reason { text: text.clone(), span }
    });
    reasons.collect()
}

/// Aggregates that people write without `GROUP BY`.
const AGGREGATES: [&str; 8] = ["count", "sum", "avg", "min", "max", "median", "stddev", "array_agg"];

/// The first place that `look` finds in the set's query, or else in the views that it reads.
fn find(
    definition: &Definition,
    set: &FeatureSetDefinition,
    look: &dyn Fn(&Query) -> Option<sqlparser::tokenizer::Span>,
) -> Span {
    let queries = queries_read(definition, set).into_iter();
    let mut found = queries.filter_map(|(query, span)| {
        let token = Mentions::of(query).queries.iter().find_map(look)?;
        Some(place(span.file, token, span))
    });
    found.next().unwrap_or(set.query_span)
}

/// The set's query and those of the views that it reads, each once, with their places.
fn queries_read<'d>(definition: &'d Definition, set: &'d FeatureSetDefinition) -> Vec<(&'d Query, Span)> {
    let mut queries = Vec::new();
    let mut todo = vec![(set.query.as_ref(), set.query_span)];
    let mut seen = Vec::new();
    while let Some((query, span)) = todo.pop() {
        queries.push((query, span));
        for relation in Mentions::of(query).relations {
            let name = object_value(&relation);
            if let Some(view) = definition.views.iter().find(|view| view.name.value == name && !seen.contains(&name)) {
                seen.push(name);
                todo.push((&view.query, view.query_span));
            }
        }
    }
    queries
}
