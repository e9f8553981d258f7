//! Columns by which a query falls apart: its rows depend on rows with equal values in them, and on no others.

use std::collections::{BTreeMap, BTreeSet};

use arrow::datatypes::FieldRef;
use datafusion::common::{Column, DFSchema};
use datafusion::logical_expr::{Distinct, Expr, Join, JoinType, LogicalPlan, Unnest};

use super::frame::window_function;
use crate::asof::AsofJoin;
use crate::given;
use crate::window::SessionWindow;

/// A column of each input; rows of these that differ in it never meet.
#[derive(Debug, Clone, Default)]
struct Key {
    /// The column of what is given, by the number of the input.
    of: BTreeMap<usize, usize>,
    /// Where a row shows it.
    shown: BTreeSet<usize>,
}

/// What a part of a query reads.
#[derive(Debug, Default)]
struct Part {
    inputs: BTreeSet<usize>,
    keys: Vec<Key>,
}

/// For each of so many `inputs` of `plan` the numbers of its columns: rows of `plan` depend on rows of the inputs that have
/// equal values in them, one by one. Nothing where there are none.
pub(super) fn keys(plan: &LogicalPlan, inputs: usize) -> Option<Vec<Vec<usize>>> {
    let mut keys = part(plan)?.keys;
    keys.retain(|key| key.of.len() == inputs);
    let of = |input| keys.iter().filter_map(|key| key.of.get(&input).copied()).collect();
    (!keys.is_empty()).then(|| (0..inputs).map(of).collect())
}

/// Nothing where it is not known how rows depend on one another.
fn part(plan: &LogicalPlan) -> Option<Part> {
    let part_of = |input: &LogicalPlan| part(input);
    Some(match plan {
        LogicalPlan::TableScan(scan) => {
            let Some(input) = given::number_of(scan) else { return Some(Part::default()) };
            let columns = scan.projected_schema.fields().iter().enumerate();
            let key = |(at, field): (usize, &FieldRef)| {
                let given = given::number_of_column(field)?;
                Some(Key { of: BTreeMap::from([(input, given)]), shown: BTreeSet::from([at]) })
            };
            Part { inputs: BTreeSet::from([input]), keys: columns.filter_map(key).collect() }
        }
        LogicalPlan::EmptyRelation(_) | LogicalPlan::Values(_) => Part::default(),
        LogicalPlan::Filter(filter) => part_of(&filter.input)?,
        LogicalPlan::SubqueryAlias(alias) => part_of(&alias.input)?,
        LogicalPlan::Sort(sort) if sort.fetch.is_none() => part_of(&sort.input)?,
        LogicalPlan::Repartition(repartition) => part_of(&repartition.input)?,
        LogicalPlan::Projection(projection) => {
            part_of(&projection.input)?.shown_by(&projection.expr, &projection.input)
        }
        LogicalPlan::Unnest(unnest) => unnested(part_of(&unnest.input)?, unnest),
        LogicalPlan::Window(window) => {
            let mut found = part_of(&window.input)?;
            for expr in &window.window_expr {
                let columns = columns_of(&window_function(expr)?.params.partition_by, window.input.schema());
                found.keys.retain(|key| columns.iter().any(|(_, column)| key.shown.contains(column)));
            }
            found
        }
        LogicalPlan::Aggregate(aggregate) => {
            part_of(&aggregate.input)?.shown_by(&aggregate.group_expr, &aggregate.input).all_shown()
        }
        LogicalPlan::Distinct(Distinct::All(input)) => part_of(input)?.all_shown(),
        LogicalPlan::Distinct(Distinct::On(distinct)) => {
            let mut found = part_of(&distinct.input)?;
            let columns = columns_of(&distinct.on_expr, distinct.input.schema());
            found.keys.retain(|key| columns.iter().any(|(_, column)| key.shown.contains(column)));
            found.shown_by(&distinct.select_expr, &distinct.input)
        }
        LogicalPlan::Union(union) => {
            let parts = union.inputs.iter().map(|input| part_of(input)).collect::<Option<Vec<_>>>()?;
            parts.into_iter().reduce(Part::beside)?
        }
        LogicalPlan::Join(join) => joined(part_of(&join.left)?, part_of(&join.right)?, join),
        LogicalPlan::Extension(_) => {
            if let Some(session) = SessionWindow::of(plan) {
                let mut found = part_of(plan.inputs().first()?)?;
                let columns = columns_of(&session.keys, plan.schema());
                found.keys.retain(|key| columns.iter().any(|(_, column)| key.shown.contains(column)));
                return Some(found);
            }
            let join = AsofJoin::of(plan)?;
            let (left, right) = (part_of(&join.left)?, part_of(&join.right)?);
            match (left.inputs.is_empty(), right.inputs.is_empty()) {
                (_, true) => left,
                (true, false) => return None,
                (false, false) => left.with(&right, join.equal(), &join.left, &join.right, |left, _| left),
            }
        }
        _ => return None,
    })
}

impl Part {
    /// Where the columns `exprs` of `input` show its keys.
    fn shown_by(mut self, exprs: &[Expr], input: &LogicalPlan) -> Self {
        let columns = columns_of(exprs, input.schema());
        for key in &mut self.keys {
            let shown = columns.iter().filter(|(_, column)| key.shown.contains(column));
            key.shown = shown.map(|(at, _)| *at).collect();
        }
        self
    }

    /// Rows that are put together have one value each of keys that are shown.
    fn all_shown(mut self) -> Self {
        self.keys.retain(|key| !key.shown.is_empty());
        self
    }

    /// With `other`, whose rows come one by one, too.
    fn beside(self, other: Self) -> Self {
        if self.inputs.is_empty() || other.inputs.is_empty() {
            return Self { inputs: self.inputs.into_iter().chain(other.inputs).collect(), keys: Vec::new() };
        }
        let pairs = self.keys.iter().flat_map(|key| other.keys.iter().map(move |same| (key, same)));
        let keys = pairs.filter_map(|(key, same)| {
            let shown: BTreeSet<_> = key.shown.intersection(&same.shown).copied().collect();
            key.and(same, shown).filter(|key| !key.shown.is_empty())
        });
        Self { keys: keys.collect(), inputs: self.inputs.union(&other.inputs).copied().collect() }
    }

    /// With `right`, whose rows meet those with `equal` values; `shown` says where a row shows them, of where the rows of
    /// either side do.
    fn with<'e>(
        &self,
        right: &Self,
        equal: impl Iterator<Item = (&'e Expr, &'e Expr)>,
        left_plan: &LogicalPlan,
        right_plan: &LogicalPlan,
        shown: impl Fn(BTreeSet<usize>, BTreeSet<usize>) -> BTreeSet<usize>,
    ) -> Self {
        let mut keys = Vec::new();
        for (of_left, of_right) in equal {
            let of_left = column_of(of_left, left_plan.schema());
            let of_right = column_of(of_right, right_plan.schema());
            let (Some(of_left), Some(of_right)) = (of_left, of_right) else { continue };
            for left in self.keys.iter().filter(|key| key.shown.contains(&of_left)) {
                for right in right.keys.iter().filter(|key| key.shown.contains(&of_right)) {
                    keys.extend(left.and(right, shown(left.shown.clone(), right.shown.clone())));
                }
            }
        }
        Self { inputs: self.inputs.union(&right.inputs).copied().collect(), keys }
    }
}

impl Key {
    /// Both, where no input has another column in the other one.
    fn and(&self, other: &Self, shown: BTreeSet<usize>) -> Option<Self> {
        let agrees = |(input, column): (&usize, &usize)| self.of.get(input).is_none_or(|known| known == column);
        let of = || self.of.iter().chain(&other.of).map(|(input, column)| (*input, *column)).collect();
        other.of.iter().all(agrees).then(|| Self { of: of(), shown })
    }
}

fn joined(left: Part, right: Part, join: &Join) -> Part {
    let width = join.left.schema().fields().len();
    let moved = |shown: BTreeSet<usize>| shown.into_iter().map(|at| at + width).collect::<BTreeSet<_>>();
    let shown = |left: BTreeSet<usize>, right: BTreeSet<usize>| match join.join_type {
        JoinType::Inner => left.into_iter().chain(moved(right)).collect(),
        JoinType::Left | JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark => left,
        JoinType::Right => moved(right),
        JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark => right,
        // Either side may be missing.
        JoinType::Full => BTreeSet::new(),
    };
    // A table is the same beside any row, unless it is the table whose rows are kept.
    let keeps_left = !matches!(
        join.join_type,
        JoinType::Right | JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark | JoinType::Full
    );
    let keeps_right = !matches!(
        join.join_type,
        JoinType::Left | JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark | JoinType::Full
    );
    let beside_table = |part: Part, keeps: bool, place: &dyn Fn(BTreeSet<usize>) -> BTreeSet<usize>| {
        let keys = part.keys.into_iter().filter(|_| keeps);
        Part { keys: keys.map(|key| Key { shown: place(key.shown), ..key }).collect(), inputs: part.inputs }
    };
    match (left.inputs.is_empty(), right.inputs.is_empty()) {
        (true, true) => Part::default(),
        (false, true) => beside_table(left, keeps_left, &|left| shown(left, BTreeSet::new())),
        (true, false) => beside_table(right, keeps_right, &|right| shown(BTreeSet::new(), right)),
        (false, false) => {
            left.with(&right, join.on.iter().map(|(left, right)| (left, right)), &join.left, &join.right, shown)
        }
    }
}

/// Values of a list are not the list.
fn unnested(mut part: Part, unnest: &Unnest) -> Part {
    let is_list = |at: &usize| unnest.list_type_columns.iter().any(|(list, _)| list == at);
    let is_same = |at: &usize| !is_list(at) && !unnest.struct_type_columns.contains(at);
    for key in &mut part.keys {
        let places = unnest.dependency_indices.iter().enumerate();
        let shown = places.filter(|(_, from)| is_same(from) && key.shown.contains(from));
        key.shown = shown.map(|(at, _)| at).collect();
    }
    part
}

/// Those of `exprs` that are columns of `schema`, each with its place among them.
fn columns_of(exprs: &[Expr], schema: &DFSchema) -> Vec<(usize, usize)> {
    exprs.iter().enumerate().filter_map(|(at, expr)| Some((at, column_of(expr, schema)?))).collect()
}

fn column_of(expr: &Expr, schema: &DFSchema) -> Option<usize> {
    fn column(expr: &Expr) -> Option<&Column> {
        match expr {
            Expr::Column(column) => Some(column),
            Expr::Alias(alias) => column(&alias.expr),
            _ => None,
        }
    }
    schema.maybe_index_of_column(column(expr)?)
}
