//! What names mean to DataFusion's planner: relations, views as inlined plans, functions.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::compute::can_cast_types;
use arrow::datatypes::{DataType, SchemaRef};
use bessemer_schemas::SourceKind;
use datafusion::catalog::{TableFunctionArgs, TableProvider};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, TableReference, plan_datafusion_err, plan_err};
use datafusion::datasource::cte_worktable::CteWorkTable;
use datafusion::datasource::{provider_as_source, source_as_provider};
use datafusion::error::Result;
use datafusion::execution::SessionState;
use datafusion::logical_expr::planner::{ContextProvider, ExprPlanner, RelationPlanner};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    AggregateUDF, Expr, ExprSchemable, HigherOrderUDF, LogicalPlan, LogicalPlanBuilder, ScalarUDF, TableScan,
    TableSource, TypeSignature, Volatility, WindowUDF,
};
use datafusion::optimizer::analyzer::type_coercion::TypeCoercionRewriter;
use datafusion::sql::planner::{ParserOptions, PlannerContext, SqlToRel};

use sqlparser::ast::{self, Query, Statement};

use crate::asof::AsofPlanner;
use crate::comparison;
use crate::window::{Logs, WindowPlanner};

/// A source or table as the planner sees it.
#[derive(Debug, Clone)]
pub struct Relation {
    /// Its name.
    pub name: String,
    /// Its declared columns and `INCLUDE` columns, without the generated ones.
    pub plain: Arc<dyn TableProvider>,
    /// The same and, last, `ORIGIN_COLUMN`.
    pub with_origin: Arc<dyn TableProvider>,
}

/// A provider and what kind of source it stands for.
#[derive(Debug, Clone)]
pub(crate) struct Scanned {
    pub(crate) kind: SourceKind,
    pub(crate) relation: Relation,
}

/// All names of a definition, as far as they have been planned.
pub(crate) struct Catalog<'s> {
    state: &'s SessionState,
    sources: BTreeMap<String, Arc<dyn TableSource>>,
    scanned: BTreeMap<String, Scanned>,
    /// Names that exist but could not be planned: what depends on them is not reported again.
    broken: BTreeSet<String>,
    /// Watermarks of the sources, for windows over them.
    logs: Logs,
    planners: [Arc<dyn RelationPlanner>; 2],
}

/// A plan under a name, inlined wherever the name is read.
struct InlinedPlan {
    plan: LogicalPlan,
    schema: SchemaRef,
}

impl<'s> Catalog<'s> {
    pub(crate) fn new(state: &'s SessionState) -> Self {
        let logs = Logs::default();
        let planners = planners(&logs);
        Self { state, sources: BTreeMap::new(), scanned: BTreeMap::new(), broken: BTreeSet::new(), logs, planners }
    }

    pub(crate) fn state(&self) -> &'s SessionState {
        self.state
    }

    /// Adds a source: scans of it are recognised by its name.
    pub(crate) fn add_source(&mut self, kind: SourceKind, relation: Relation) {
        self.sources.insert(relation.name.clone(), provider_as_source(Arc::clone(&relation.plain)));
        self.scanned.insert(relation.name.clone(), Scanned { kind, relation });
    }

    /// Lets `name` stand for `plan` from now on: a view, or a source with its generated columns.
    pub(crate) fn add_plan(&mut self, name: &str, plan: LogicalPlan) {
        let schema = Arc::clone(plan.schema().inner());
        self.sources.insert(name.to_owned(), Arc::new(InlinedPlan { plan, schema }));
    }

    /// Tells the watermark of a log, as far as it has one; `name` can be read already.
    pub(crate) fn add_watermark(&mut self, name: &str, plan: LogicalPlan, watermark: Option<String>) {
        self.logs.add(name, plan, watermark);
        self.planners = planners(&self.logs);
    }

    pub(crate) fn logs(&self) -> &Logs {
        &self.logs
    }

    /// Marks `name` as known but unusable.
    pub(crate) fn add_broken(&mut self, name: &str) {
        self.broken.insert(name.to_owned());
    }

    pub(crate) fn is_broken(&self, name: &str) -> bool {
        self.broken.contains(name)
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.sources.contains_key(name)
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.sources.keys().map(String::as_str)
    }

    /// The source or table that `scan` reads.
    pub(crate) fn scanned(&self, scan: &TableScan) -> Option<&Scanned> {
        // A step of `WITH RECURSIVE` may bear the name of a source.
        self.scanned.get(scan.table_name.table()).filter(|_| !reads_itself(scan))
    }

    /// A plan that reads all of `name`.
    pub(crate) fn read(&self, name: &str) -> Result<LogicalPlan> {
        let source = self.get_table_source(TableReference::bare(name))?;
        LogicalPlanBuilder::scan(TableReference::bare(name), source, None)?.build()
    }

    fn planner(&self) -> SqlToRel<'_, Self> {
        SqlToRel::new_with_options(self, ParserOptions::from(&self.options().sql_parser))
    }

    /// Plans a query, with the common table expressions and outer columns of `context`.
    pub(crate) fn plan_query(&self, query: &Query, context: &PlannerContext) -> Result<LogicalPlan> {
        let statement = Statement::Query(Box::new(query.clone()));
        let plan = self.planner().sql_statement_to_plan_with_context(statement, &mut context.clone())?;
        comparison::check_plan(&plan)?;
        Ok(plan)
    }

    /// Resolves names of functions and coerces types: what the analyzer does.
    pub(crate) fn analyse(&self, plan: LogicalPlan) -> Result<LogicalPlan> {
        let plan = self.state.analyzer().execute_and_check(plan, self.options(), |_, _| {})?;
        plan.apply_with_subqueries(|node| {
            let inputs = node.inputs();
            let schema = merge_schema(&inputs);
            node.apply_expressions(|expr| casts_exist(expr, &schema).map(|()| TreeNodeRecursion::Continue))
        })?;
        Ok(plan)
    }

    /// Plans one expression over `schema` with its types coerced, so that it is known to have a type.
    pub(crate) fn plan_expr(&self, expr: &ast::Expr, schema: &DFSchema, context: &PlannerContext) -> Result<Expr> {
        let expr = self.planner().sql_to_expr(expr.clone(), schema, &mut context.clone())?;
        comparison::check(&expr, schema)?;
        let expr = expr.rewrite(&mut TypeCoercionRewriter::new(schema)).data()?;
        casts_exist(&expr, schema)?;
        Ok(expr)
    }

    /// Whether `name` is an aggregate function, called without `OVER`.
    pub(crate) fn is_aggregate(&self, name: &str) -> bool {
        self.state.aggregate_functions().contains_key(name)
    }

    /// Whether any function has this name.
    pub(crate) fn is_function(&self, name: &str) -> bool {
        self.state.scalar_functions().contains_key(name)
            || self.is_aggregate(name)
            || self.state.window_functions().contains_key(name)
            || self.state.higher_order_functions().contains_key(name)
            || SYNTAX_FUNCTIONS.contains(&name)
    }

    /// Whether a function gives another answer each time it is asked, or each time the program runs.
    pub(crate) fn is_volatile(&self, name: &str) -> bool {
        let function = self.state.scalar_functions().get(name);
        function.is_some_and(|function| function.signature().volatility != Volatility::Immutable)
    }

    /// The argument lists that a function takes, in the engine's notation; empty where it does not say.
    pub(crate) fn signatures(&self, name: &str) -> Vec<String> {
        let scalar = self.state.scalar_functions().get(name).map(|function| function.signature());
        let aggregate = || self.state.aggregate_functions().get(name).map(|function| function.signature());
        let window = || self.state.window_functions().get(name).map(|function| function.signature());
        let Some(signature) = scalar.or_else(aggregate).or_else(window) else { return Vec::new() };
        match signature.type_signature {
            TypeSignature::UserDefined | TypeSignature::VariadicAny => Vec::new(),
            _ => {
                let mut forms = signature.type_signature.to_string_repr();
                forms.truncate(SIGNATURES_LISTED);
                forms
            }
        }
    }

    pub(crate) fn function_names(&self) -> Vec<&str> {
        let names = self.state.scalar_functions().keys().chain(self.state.aggregate_functions().keys());
        let names = names.chain(self.state.window_functions().keys());
        let mut names: Vec<_> = names.map(String::as_str).filter(|name| !self.is_volatile(name)).collect();
        names.sort_unstable();
        names
    }
}

/// What plans relations that the engine does not know.
fn planners(logs: &Logs) -> [Arc<dyn RelationPlanner>; 2] {
    [Arc::new(WindowPlanner { logs: logs.clone() }), Arc::new(AsofPlanner)]
}

/// How many argument lists a help shows.
const SIGNATURES_LISTED: usize = 3;

/// Functions that the planner knows by syntax, not by registration.
const SYNTAX_FUNCTIONS: [&str; 3] = ["unnest", "struct", "grouping"];

/// Whether a scan reads what the step before gave, in `WITH RECURSIVE`.
pub(crate) fn reads_itself(scan: &TableScan) -> bool {
    source_as_provider(&scan.source).is_ok_and(|provider| provider.downcast_ref::<CteWorkTable>().is_some())
}

/// Whether every cast in `expr` is possible at all: the engine would find out only when it runs.
fn casts_exist(expr: &Expr, schema: &DFSchema) -> Result<()> {
    expr.apply(|expr| {
        let (operand, field) = match expr {
            Expr::Cast(cast) => (&cast.expr, &cast.field),
            Expr::TryCast(cast) => (&cast.expr, &cast.field),
            _ => return Ok(TreeNodeRecursion::Continue),
        };
        // A column of an outer query is not in this schema; its casts are checked where the engine plans the join.
        match operand.get_type(schema) {
            Ok(from) if !can_cast_types(&from, field.data_type()) => {
                plan_err!("{from} cannot be cast to {}", field.data_type())
            }
            _ => Ok(TreeNodeRecursion::Continue),
        }
    })?;
    Ok(())
}

impl TableSource for InlinedPlan {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn get_logical_plan(&self) -> Option<Cow<'_, LogicalPlan>> {
        Some(Cow::Borrowed(&self.plan))
    }
}

impl ContextProvider for Catalog<'_> {
    fn get_table_source(&self, name: TableReference) -> Result<Arc<dyn TableSource>> {
        let source = match &name {
            TableReference::Bare { table } => self.sources.get(table.as_ref()),
            TableReference::Partial { .. } | TableReference::Full { .. } => None,
        };
        source.cloned().ok_or_else(|| plan_datafusion_err!("table '{name}' not found"))
    }

    fn get_table_function_source(&self, name: &str, args: Vec<Expr>) -> Result<Arc<dyn TableSource>> {
        let function = self.state.table_functions().get(name);
        let function = function.ok_or_else(|| plan_datafusion_err!("table function '{name}' not found"))?;
        let provider = function.create_table_provider_with_args(TableFunctionArgs::new(&args, self.state))?;
        Ok(provider_as_source(provider))
    }

    fn create_cte_work_table(&self, name: &str, schema: SchemaRef) -> Result<Arc<dyn TableSource>> {
        Ok(provider_as_source(Arc::new(CteWorkTable::new(name, schema))))
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        self.state.expr_planners()
    }

    fn get_relation_planners(&self) -> &[Arc<dyn RelationPlanner>] {
        &self.planners
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        self.state.scalar_functions().get(name).cloned()
    }

    fn get_higher_order_meta(&self, name: &str) -> Option<Arc<HigherOrderUDF>> {
        self.state.higher_order_functions().get(name).cloned()
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.state.aggregate_functions().get(name).cloned()
    }

    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        self.state.window_functions().get(name).cloned()
    }

    fn get_variable_type(&self, _variable_names: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        self.state.config_options()
    }

    fn udf_names(&self) -> Vec<String> {
        self.state.scalar_functions().keys().cloned().collect()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        self.state.higher_order_functions().keys().cloned().collect()
    }

    fn udaf_names(&self) -> Vec<String> {
        self.state.aggregate_functions().keys().cloned().collect()
    }

    fn udwf_names(&self) -> Vec<String> {
        self.state.window_functions().keys().cloned().collect()
    }
}
