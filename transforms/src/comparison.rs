//! Refuses to compare text with numbers.
//!
//! The engine would cast the text while it runs, and fail at the first one that is no number. Plans are looked at as
//! they were written, before their types are coerced: afterwards both sides are numbers. A text literal is let pass if
//! it is a number: `'5'`.

use std::fmt;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, DataFusionError};
use datafusion::error::Result;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, Operator, Subquery};
use datafusion::scalar::ScalarValue;

use crate::type_name::{is_text, sql_type_name};

/// Text on one side of a comparison, a number on the other.
#[derive(Debug)]
pub(crate) enum Mixed {
    /// Values of which some may be no number.
    Values { left: DataType, right: DataType },
    /// A literal that is none.
    Literal { text: String, number: DataType },
}

impl fmt::Display for Mixed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Values { left, right } => {
                write!(f, "{} is compared with {}", sql_type_name(left), sql_type_name(right))
            }
            Self::Literal { text, number } => write!(f, "`'{text}'` is no {}", sql_type_name(number)),
        }
    }
}

impl std::error::Error for Mixed {}

impl Mixed {
    /// What `error` says, if it is of this kind.
    pub(crate) fn of(error: &DataFusionError) -> Option<&Self> {
        match error.find_root() {
            DataFusionError::External(error) => error.downcast_ref(),
            _ => None,
        }
    }

    pub(crate) fn is_literal(&self) -> bool {
        matches!(self, Self::Literal { .. })
    }

    /// What to write instead.
    pub(crate) fn help(&self) -> String {
        match self {
            Self::Values { left, right } => {
                let number = if is_text(left) { right } else { left };
                format!("write `CAST(… AS {})` around the text", sql_type_name(number))
            }
            Self::Literal { number, .. } => format!("it is compared with {}: write a number", sql_type_name(number)),
        }
    }
}

/// Whether one type is text and the other a number.
pub(crate) fn is_mixed(left: &DataType, right: &DataType) -> bool {
    let (left, right) = (value_type(left), value_type(right));
    is_text(left) && right.is_numeric() || left.is_numeric() && is_text(right)
}

/// Looks at every comparison of a plan, also in its subqueries.
pub(crate) fn check_plan(plan: &LogicalPlan) -> Result<()> {
    plan.apply_with_subqueries(|node| {
        let schema = merge_schema(&node.inputs());
        if let LogicalPlan::Join(join) = node {
            join.on.iter().try_for_each(|(left, right)| compared(left, right, &schema))?;
        }
        node.apply_expressions(|expr| check_own(expr, &schema).map(|()| TreeNodeRecursion::Continue))
    })?;
    Ok(())
}

/// Looks at every comparison of an expression over `schema`, also in its subqueries.
pub(crate) fn check(expr: &Expr, schema: &DFSchema) -> Result<()> {
    check_own(expr, schema)?;
    expr.apply(|expr| {
        let subquery = match expr {
            Expr::ScalarSubquery(subquery) => subquery,
            Expr::Exists(exists) => &exists.subquery,
            Expr::InSubquery(within) => &within.subquery,
            Expr::SetComparison(comparison) => &comparison.subquery,
            _ => return Ok(TreeNodeRecursion::Continue),
        };
        check_plan(&subquery.subquery).map(|()| TreeNodeRecursion::Continue)
    })?;
    Ok(())
}

fn check_own(expr: &Expr, schema: &DFSchema) -> Result<()> {
    expr.apply(|expr| {
        match expr {
            Expr::BinaryExpr(binary) if compares(binary.op) => compared(&binary.left, &binary.right, schema)?,
            Expr::Between(between) => {
                compared(&between.expr, &between.low, schema)?;
                compared(&between.expr, &between.high, schema)?;
            }
            Expr::InList(within) => {
                within.list.iter().try_for_each(|value| compared(&within.expr, value, schema))?;
            }
            Expr::Case(case) => {
                let operand = case.expr.iter();
                let pairs = operand.flat_map(|of| case.when_then_expr.iter().map(move |(when, _)| (of, when)));
                pairs.into_iter().try_for_each(|(of, when)| compared(of, when, schema))?;
            }
            Expr::InSubquery(within) => compared_with_rows(&within.expr, &within.subquery, schema)?,
            Expr::SetComparison(comparison) => compared_with_rows(&comparison.expr, &comparison.subquery, schema)?,
            _ => {}
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(())
}

fn compares(op: Operator) -> bool {
    matches!(
        op,
        Operator::Eq
            | Operator::NotEq
            | Operator::Lt
            | Operator::LtEq
            | Operator::Gt
            | Operator::GtEq
            | Operator::IsDistinctFrom
            | Operator::IsNotDistinctFrom
    )
}

fn compared(left: &Expr, right: &Expr, schema: &DFSchema) -> Result<()> {
    // What has no type is refused elsewhere, in words of its own.
    let (Ok(left_type), Ok(right_type)) = (left.get_type(schema), right.get_type(schema)) else { return Ok(()) };
    match (text_literal(left), text_literal(right)) {
        (Some(_), Some(_)) => Ok(()),
        (Some(text), None) => refuse_no_number(text, right_type),
        (None, Some(text)) => refuse_no_number(text, left_type),
        (None, None) => refuse_mixed(left_type, right_type),
    }
}

fn text_literal(expr: &Expr) -> Option<&ScalarValue> {
    match expr {
        Expr::Literal(value, _) if is_text(&value.data_type()) => Some(value),
        _ => None,
    }
}

fn refuse_no_number(text: &ScalarValue, number: DataType) -> Result<()> {
    if !value_type(&number).is_numeric() || text.cast_to(&number).is_ok() {
        return Ok(());
    }
    let text = text.try_as_str().flatten().unwrap_or_default().to_owned();
    Err(DataFusionError::External(Box::new(Mixed::Literal { text, number })))
}

fn compared_with_rows(expr: &Expr, subquery: &Subquery, schema: &DFSchema) -> Result<()> {
    let rows = subquery.subquery.schema();
    match (expr.get_type(schema), rows.fields().first()) {
        (Ok(left), Some(right)) => refuse_mixed(left, right.data_type().clone()),
        _ => Ok(()),
    }
}

fn refuse_mixed(left: DataType, right: DataType) -> Result<()> {
    if is_mixed(&left, &right) {
        Err(DataFusionError::External(Box::new(Mixed::Values { left, right })))
    } else {
        Ok(())
    }
}

fn value_type(data_type: &DataType) -> &DataType {
    match data_type {
        DataType::Dictionary(_, values) => values,
        other => other,
    }
}
