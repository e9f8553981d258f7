//! In what order a set's rows are written.

use bessemer_schemas::{PartitionField, PartitionTransform};
use datafusion::common::{Column, Dependency};
use datafusion::error::Result;
use datafusion::logical_expr::expr::Sort;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};

use crate::origin::origin_of;
use crate::partition_value::partition_value;
use crate::type_name::is_sortable;

/// What the order of a set is made from.
#[derive(Debug)]
pub(crate) struct Ordering<'a> {
    pub(crate) partition_by: &'a [PartitionField],
    pub(crate) event_time: Option<&'a str>,
    pub(crate) entity: &'a [String],
    /// Whether several rows of the set may share an identity.
    pub(crate) can_expand: bool,
}

impl Ordering<'_> {
    /// Whether the set is sorted at all: only where files or readers profit from it.
    pub(crate) fn applies(&self) -> bool {
        !self.partition_by.is_empty() || self.event_time.is_some()
    }

    /// Sorts `plan` by (partition values, event time, identity); where the rows carry no identity, by (partition
    /// values, event time, entity, all other columns), so that equal input always gives equal files.
    pub(crate) fn sort(&self, plan: LogicalPlan) -> Result<LogicalPlan> {
        let keys = self.keys(&plan);
        let sorts: Vec<Sort> = keys.into_iter().map(|key| key.sort(true, true)).collect();
        LogicalPlanBuilder::from(plan).sort(sorts)?.build()
    }

    fn keys(&self, plan: &LogicalPlan) -> Vec<Expr> {
        let mut keys = Keys { plan, exprs: Vec::new(), columns: Vec::new() };
        for (at, field) in self.partition_by.iter().enumerate() {
            // Event time itself orders by its day too, when nothing comes between the two.
            let is_last = at + 1 == self.partition_by.len();
            if is_last && self.event_time == Some(field.column.as_str()) {
                continue;
            }
            keys.partition(field);
        }
        if let Some(event_time) = self.event_time {
            keys.named(event_time);
        }

        if let Some(origin) = origin_of(plan) {
            keys.column(origin);
            if self.can_expand {
                keys.rest();
            }
            return keys.exprs;
        }
        self.entity.iter().for_each(|entity| keys.named(entity));
        if !keys.are_unique() {
            keys.rest();
        }
        keys.exprs
    }
}

struct Keys<'a> {
    plan: &'a LogicalPlan,
    exprs: Vec<Expr>,
    columns: Vec<Column>,
}

impl Keys<'_> {
    fn partition(&mut self, field: &PartitionField) {
        if field.transform == PartitionTransform::Identity {
            return self.named(&field.column);
        }
        if let Some(column) = self.find(&field.column) {
            self.exprs.push(partition_value(field.transform, Expr::Column(column)));
        }
    }

    fn find(&self, name: &str) -> Option<Column> {
        self.plan.schema().columns().into_iter().find(|column| column.name == name)
    }

    fn named(&mut self, name: &str) {
        if let Some(column) = self.find(name) {
            self.column(column);
        }
    }

    fn column(&mut self, column: Column) {
        if !self.columns.contains(&column) {
            self.exprs.push(Expr::Column(column.clone()));
            self.columns.push(column);
        }
    }

    fn rest(&mut self) {
        let columns = self.plan.schema().columns();
        let sortable = |at: usize| is_sortable(self.plan.schema().field(at).data_type());
        let rest: Vec<_> = columns.into_iter().enumerate().filter(|(at, _)| sortable(*at)).collect();
        for (_, column) in rest {
            self.column(column);
        }
    }

    /// Whether the keys so far hold all columns of a grouping, of which there is one row each.
    fn are_unique(&self) -> bool {
        let schema = self.plan.schema();
        let held = |at: &usize| schema.columns().get(*at).is_some_and(|column| self.columns.contains(column));
        schema.functional_dependencies().iter().any(|dependence| {
            let covers_all = dependence.target_indices.len() == schema.fields().len();
            let is_key = dependence.mode == Dependency::Single && (!dependence.nullable || is_grouping(self.plan));
            covers_all && is_key && dependence.source_indices.iter().all(held)
        })
    }
}

/// Whether the rows are those of a grouping, in which null is one group: no key then comes twice.
fn is_grouping(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Aggregate(_) => true,
        LogicalPlan::Projection(projection) => is_grouping(&projection.input),
        LogicalPlan::Filter(filter) => is_grouping(&filter.input),
        LogicalPlan::SubqueryAlias(alias) => is_grouping(&alias.input),
        _ => false,
    }
}
