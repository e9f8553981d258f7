//! What takes the first row of each key, and the parts of a query that is cut there.

use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::{Column, DFSchema, ScalarValue};
use datafusion::error::Result;
use datafusion::logical_expr::expr::{Sort, WindowFunction};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{
    BinaryExpr, Cast, Distinct, DistinctOn, Expr, Filter, LogicalPlan, LogicalPlanBuilder, Operator, Window, lit,
};

use super::FirstRows;
use crate::catalog::Catalog;
use crate::classify::nature;
use crate::given;
use crate::incremental::cut::{Everything, above, check_rows, name};
use crate::incremental::exact::is_storable;
use crate::incremental::sorted::{ASCENDING, Sorted};
use crate::set::{plans_physically, with_less_work};
use crate::type_name::{is_sortable, sql_type_name};

/// A node that gives the first row of each key.
pub(in crate::incremental) struct Firsts<'p> {
    node: &'p LogicalPlan,
    input: &'p LogicalPlan,
    /// The keys, then what says which row of a key is first; each once.
    order: Vec<Sort>,
    keys: usize,
    /// Its columns, of those of the input, but for the number.
    columns: Vec<Expr>,
    /// Otherwise it numbers rows. `DISTINCT ON` gives them in the order of their keys, and any column may be null.
    is_distinct_on: bool,
}

impl<'p> Firsts<'p> {
    /// What `node` takes, where it takes the first row of each key: `DISTINCT ON`, or a window with nothing but
    /// `row_number`, of whose rows only those with the number 1 count.
    pub(in crate::incremental) fn of(node: &'p LogicalPlan) -> Option<Self> {
        match node {
            LogicalPlan::Distinct(Distinct::On(on)) => Self::of_distinct(node, on),
            LogicalPlan::Window(window) => Self::of_window(node, window),
            _ => None,
        }
    }

    fn of_distinct(node: &'p LogicalPlan, on: &'p DistinctOn) -> Option<Self> {
        let (keys, rest) = on.sort_expr.as_ref()?.split_at_checked(on.on_expr.len())?;
        let columns = on.select_expr.iter().map(|column| column.clone().unalias()).collect();
        Some(Self::new(node, &on.input, keys.to_vec(), rest, columns, true))
    }

    fn of_window(node: &'p LogicalPlan, window: &'p Window) -> Option<Self> {
        let [expr] = window.window_expr.as_slice() else { return None };
        let Expr::WindowFunction(function) = unaliased(expr) else { return None };
        let WindowFunction { fun, params } = function.as_ref();
        if fun.name() != "row_number" || params.partition_by.is_empty() {
            return None;
        }
        let keys = params.partition_by.iter().map(|key| key.clone().sort(true, true)).collect();
        let columns = window.input.schema().columns().into_iter().map(Expr::Column).collect();
        Some(Self::new(node, &window.input, keys, &params.order_by, columns, false))
    }

    fn new(
        node: &'p LogicalPlan,
        input: &'p LogicalPlan,
        keys: Vec<Sort>,
        rest: &[Sort],
        columns: Vec<Expr>,
        is_distinct_on: bool,
    ) -> Self {
        let mut order: Vec<Sort> = Vec::new();
        let mut add = |sort: Sort| {
            let expr = sort.expr.unalias();
            if !order.iter().any(|known| known.expr == expr) {
                order.push(Sort { expr, ..sort });
            }
            order.len()
        };
        let keys = keys.into_iter().map(&mut add).last().unwrap_or(0);
        rest.iter().cloned().for_each(|sort| {
            add(sort);
        });
        Self { node, input, order, keys, columns, is_distinct_on }
    }

    /// All that a row could be kept with: what orders it, and the columns of the node.
    fn exprs(&self) -> Vec<Expr> {
        let mut exprs: Vec<Expr> = self.order.iter().map(|sort| sort.expr.clone()).collect();
        for column in &self.columns {
            if !exprs.contains(column) {
                exprs.push(column.clone());
            }
        }
        exprs
    }

    fn rows(&self, exprs: impl IntoIterator<Item = Expr>) -> Result<LogicalPlan> {
        let named = exprs.into_iter().enumerate().map(|(at, expr)| expr.alias(name(at)));
        LogicalPlanBuilder::from(self.input.clone()).project(named)?.build()
    }

    /// `columns` as the node would give them.
    fn kept(&self, columns: &Schema) -> Schema {
        let may_be_null = |field: &Field| self.is_distinct_on || field.is_nullable();
        let fields = columns.fields().iter().map(|field| field.as_ref().clone().with_nullable(may_be_null(field)));
        Schema::new_with_metadata(fields.collect::<Vec<_>>(), columns.metadata().clone())
    }

    /// What the node gives, of first rows that are kept with these `exprs`, whose columns are those of `schema`.
    fn given(&self, exprs: &[Expr], schema: &Schema) -> Result<LogicalPlan> {
        let column = |expr: &Expr| match exprs.iter().position(|known| known == expr) {
            Some(at) => Expr::Column(Column::from_name(name(at))),
            None => expr.clone(),
        };
        let mut rows = LogicalPlanBuilder::from(given::leaf(0, &DFSchema::try_from(self.kept(schema))?)?);
        if self.is_distinct_on {
            let keys = self.order.iter().take(self.keys);
            rows = rows.sort(keys.map(|sort| Sort { expr: column(&sort.expr), ..*sort }))?;
        }
        let number = (!self.is_distinct_on).then(|| lit(1_u64));
        let columns = self.columns.iter().map(column).chain(number).zip(self.node.schema().iter());
        let columns = columns.map(|(expr, (of, field))| expr.alias_qualified(of.cloned(), field.name().as_str()));
        rows.project(columns.collect::<Vec<_>>())?.build()
    }
}

impl FirstRows {
    /// Cuts the analysed plan of the set `of`, whose rows have the columns `output`, at `firsts`.
    pub(in crate::incremental) fn cut(
        of: &str,
        plan: &LogicalPlan,
        firsts: &Firsts<'_>,
        output: &SchemaRef,
        catalog: &Catalog<'_>,
    ) -> Result<Self, Everything> {
        let exprs = firsts.exprs();
        let rows = firsts.rows(exprs.clone())?;
        check_rows(&rows, "the first of each key is taken", catalog)?;
        let given = firsts.given(&exprs, rows.schema().as_arrow())?;
        // The rows may be many, unlike groups.
        let above = with_less_work(above(plan, firsts.node, &given, output, catalog)?, catalog.state());
        plans_physically(&above, catalog)?;

        // A column that is not read tells no two rows of the set apart.
        let (ordered, read) = (firsts.order.len(), given::columns_read(&above, 0)?);
        let kept = exprs.into_iter().enumerate().filter(|(at, _)| *at < ordered || read.contains(at));
        let (given, kept): (Vec<String>, Vec<Expr>) = kept.map(|(at, expr)| (given::name(at), expr)).unzip();
        let below = firsts.rows(kept)?;
        let tables = nature(&below, catalog).tables.into_keys().collect();
        let below = catalog.state().optimize(&below)?;
        plans_physically(&below, catalog)?;
        let schema = Arc::new(firsts.kept(below.schema().as_arrow()));
        check_types(&schema, firsts.keys)?;
        let options = firsts.order.iter().map(|sort| SortOptions::new(!sort.asc, sort.nulls_first));
        let rest = given.iter().skip(ordered).map(|_| ASCENDING);
        let order: Vec<_> = options.chain(rest).collect();
        let state = Sorted::new(schema, order.iter().copied());
        Ok(Self { of: of.to_owned(), below, above, keys: firsts.keys, order, state, given, tables })
    }
}

/// Whether rows with these columns can be kept in files, in one order. Of two zeros, which are one key, one is before the
/// other.
fn check_types(state: &Schema, keys: usize) -> Result<(), Everything> {
    for (at, field) in state.fields().iter().enumerate() {
        let data_type = field.data_type();
        let is_key = at < keys;
        if !is_storable(data_type) || !is_sortable(data_type) || (is_key && data_type.is_floating()) {
            let what = if is_key { "a key" } else { "a column of the first row of each key" };
            return Err(Everything(format!("{what} has the type {}", sql_type_name(data_type))));
        }
    }
    Ok(())
}

/// The window that numbers rows of which `filter` leaves those with the number 1, where it does.
pub(in crate::incremental) fn numbered(filter: &Filter) -> Option<&LogicalPlan> {
    split_conjunction(&filter.predicate).into_iter().find_map(|conjunct| {
        let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = conjunct else { return None };
        let column = match (uncast(left), uncast(right)) {
            (Expr::Column(column), one) | (one, Expr::Column(column)) if is_one(one) => column,
            _ => return None,
        };
        numbering(&filter.input, filter.input.schema().maybe_index_of_column(column)?)
    })
}

/// The window that a column of `plan` is the number of.
fn numbering(plan: &LogicalPlan, at: usize) -> Option<&LogicalPlan> {
    match plan {
        LogicalPlan::Filter(filter) => numbering(&filter.input, at),
        LogicalPlan::SubqueryAlias(alias) => numbering(&alias.input, at),
        LogicalPlan::Projection(projection) => {
            let Expr::Column(column) = unaliased(projection.expr.get(at)?) else { return None };
            numbering(&projection.input, projection.input.schema().maybe_index_of_column(column)?)
        }
        LogicalPlan::Window(window) if at == window.input.schema().fields().len() => Firsts::of(plan).map(|_| plan),
        _ => None,
    }
}

fn unaliased(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => unaliased(&alias.expr),
        expr => expr,
    }
}

/// A number, whatever kind of number it is compared as.
fn uncast(expr: &Expr) -> &Expr {
    match expr {
        Expr::Cast(Cast { expr, field }) if field.data_type().is_numeric() => uncast(expr),
        expr => expr,
    }
}

fn is_one(expr: &Expr) -> bool {
    let Expr::Literal(number, _) = expr else { return false };
    let is_number = number.data_type().is_integer() || number.data_type().is_decimal();
    // As another kind of number 1 is 1, and so may be what is not 1: hence there and back.
    let one = number.cast_to(&DataType::UInt64).ok();
    let back = one.as_ref().and_then(|one| one.cast_to(&number.data_type()).ok());
    is_number && one == Some(ScalarValue::UInt64(Some(1))) && back.as_ref() == Some(number)
}
