//! Carries row identity through the plan of an append set.
//!
//! Done on the analysed plan, before the optimizer: its nodes are few and known (those that [`crate::classify`] lets
//! pass), and the optimizer then treats the identity as any other column.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use bessemer_schemas::{ORIGIN_COLUMN, SourceKind};
use datafusion::common::tree_node::TreeNode;
use datafusion::common::{Column, DFSchema, internal_err};
use datafusion::datasource::provider_as_source;
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, Projection, TableScan, Union};

use crate::catalog::Catalog;

/// The plan with [`ORIGIN_COLUMN`] as its last column.
pub(crate) fn carry_origin(plan: &LogicalPlan, catalog: &Catalog<'_>) -> Result<LogicalPlan> {
    origin_last(carry(plan, catalog)?)
}

/// The column that carries row identity, where the plan has one.
pub(crate) fn origin_of(plan: &LogicalPlan) -> Option<Column> {
    plan.schema().columns().into_iter().find(|column| column.name == ORIGIN_COLUMN)
}

fn carry(plan: &LogicalPlan, catalog: &Catalog<'_>) -> Result<LogicalPlan> {
    if let LogicalPlan::TableScan(scan) = plan {
        return match catalog.scanned(scan) {
            Some(scanned) if scanned.kind == SourceKind::Log => {
                let source = provider_as_source(Arc::clone(&scanned.relation.with_origin));
                LogicalPlanBuilder::scan(scan.table_name.clone(), source, None)?.build()
            }
            _ => Ok(plan.clone()),
        };
    }
    // What reads only tables carries no identity, and stays as it is: a lateral subquery keeps its outer columns.
    if !reads_log(plan, catalog)? {
        return Ok(plan.clone());
    }

    let inputs = plan.inputs().into_iter().map(|input| carry(input, catalog)).collect::<Result<Vec<_>>>()?;
    let carried = inputs.iter().find_map(origin_of);
    match plan {
        LogicalPlan::Projection(projection) => {
            let mut exprs = projection.expr.clone();
            exprs.extend(carried.map(Expr::Column));
            let Some(input) = inputs.into_iter().next() else { return internal_err!("a projection reads one plan") };
            Ok(LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(input))?))
        }
        LogicalPlan::Union(union) if carried.is_some() => {
            let inputs =
                inputs.into_iter().map(|input| origin_last(input).map(Arc::new)).collect::<Result<Vec<_>>>()?;
            Ok(LogicalPlan::Union(Union { inputs, schema: Arc::new(with_origin(&union.schema)?) }))
        }
        _ => plan.with_new_exprs(plan.expressions(), inputs),
    }
}

fn reads_log(plan: &LogicalPlan, catalog: &Catalog<'_>) -> Result<bool> {
    let is_log = |scan: &TableScan| catalog.scanned(scan).is_some_and(|scanned| scanned.kind == SourceKind::Log);
    plan.exists(|node| Ok(matches!(node, LogicalPlan::TableScan(scan) if is_log(scan))))
}

/// The same rows with the identity after all other columns.
fn origin_last(plan: LogicalPlan) -> Result<LogicalPlan> {
    let Some(origin) = origin_of(&plan) else { return internal_err!("a plan over a log carries row identity") };
    let mut columns = plan.schema().columns();
    if columns.last() == Some(&origin) {
        return Ok(plan);
    }
    columns.retain(|column| *column != origin);
    columns.push(origin);
    let exprs = columns.into_iter().map(Expr::Column).collect();
    Ok(LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(plan))?))
}

fn with_origin(schema: &DFSchema) -> Result<DFSchema> {
    let mut fields: Vec<_> = schema.iter().map(|(qualifier, field)| (qualifier.cloned(), Arc::clone(field))).collect();
    fields.push((None, Arc::new(Field::new(ORIGIN_COLUMN, DataType::UInt64, true))));
    DFSchema::new_with_metadata(fields, HashMap::new())
}
