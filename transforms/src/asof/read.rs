//! From an `ASOF JOIN` as written to a matching: every condition looked at, every fault told.

use arrow::compute::SortOptions;
use arrow::datatypes::DataType;
use datafusion::common::tree_node::{TransformedResult, TreeNode};
use datafusion::common::{Column, DFSchema};
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, Operator};
use datafusion::optimizer::analyzer::type_coercion::TypeCoercionRewriter;
use sqlparser::ast::{self, BinaryOperator, JoinConstraint, ObjectName, Spanned};
use sqlparser::tokenizer::Span;

use super::{Matching, Nearest, Written};
use crate::comparison::{self, Mixed};
use crate::expression::plain_words;
use crate::reader::{Fault, Reader};
use crate::syntax::ident_value;
use crate::type_name::{is_text, is_time, sql_type_name};

const CONDITION_HELP: &str = "write `MATCH_CONDITION (l.at >= r.at)`, or with `>`, `<=` or `<`";
const KEYS_HELP: &str =
    "write `ON l.key = r.key AND …`; what is asked of one side stands in a query in its place: `(SELECT … WHERE …) r`";

impl Nearest {
    /// Between the time of the left side and that of the right side.
    pub(super) fn operator(self) -> Operator {
        match (self.is_before, self.or_at) {
            (true, true) => Operator::GtEq,
            (true, false) => Operator::Gt,
            (false, true) => Operator::LtEq,
            (false, false) => Operator::Lt,
        }
    }

    fn of(operator: Operator) -> Option<Self> {
        let all = [(true, true), (true, false), (false, true), (false, false)];
        let mut all = all.into_iter().map(|(is_before, or_at)| Self { is_before, or_at });
        all.find(|nearest| nearest.operator() == operator)
    }

    /// In which the nearest row is the last one that was reached.
    pub(super) fn sort_options(self) -> SortOptions {
        SortOptions { descending: !self.is_before, nulls_first: true }
    }
}

impl Written<'_> {
    /// Which rows of `left` and `right` belong together, or nothing where the join is refused.
    pub(crate) fn matching(self, left: &DFSchema, right: &DFSchema, reader: &mut dyn Reader) -> Option<Matching> {
        let Ok(both) = left.join(right) else {
            reader.refuse(Fault {
                span: self.right().span(),
                message: "both sides of the join go by one name".to_owned(),
                help: "give one of them another: `… AS other`".to_owned(),
            });
            return None;
        };
        let mut read = Read { left, right, both: &both, reader };
        let time = read.time(self.condition);
        let (keys, left_out) = match self.constraint {
            JoinConstraint::On(condition) => (read.keys(condition), Vec::new()),
            JoinConstraint::Using(names) => read.using(names).map_or((None, Vec::new()), |keys| {
                let columns = keys.iter().filter_map(|(_, right)| right.try_as_col().cloned()).collect();
                (read.coerced_keys(keys, self.condition.span()), columns)
            }),
            JoinConstraint::Natural | JoinConstraint::None => (Some(Vec::new()), Vec::new()),
        };
        let (nearest, time) = time?;
        Some(Matching { join_type: self.join_type(), keys: keys?, time, nearest, left_out })
    }
}

struct Read<'a> {
    left: &'a DFSchema,
    right: &'a DFSchema,
    both: &'a DFSchema,
    reader: &'a mut dyn Reader,
}

/// A comparison with its operands in the order in which they were written.
struct Compared {
    left: Expr,
    op: Operator,
    right: Expr,
}

impl Read<'_> {
    fn refuse<T>(&mut self, span: Span, message: impl Into<String>, help: impl Into<String>) -> Option<T> {
        self.reader.refuse(Fault { span, message: message.into(), help: help.into() });
        None
    }

    fn time(&mut self, condition: &ast::Expr) -> Option<(Nearest, (Expr, Expr))> {
        let span = condition.span();
        let ast::Expr::BinaryOp { left, op, right } = without_parentheses(condition) else {
            return self.refuse(span, "`MATCH_CONDITION` is one comparison of two times", CONDITION_HELP);
        };
        let operator = match op {
            BinaryOperator::GtEq => Operator::GtEq,
            BinaryOperator::Gt => Operator::Gt,
            BinaryOperator::LtEq => Operator::LtEq,
            BinaryOperator::Lt => Operator::Lt,
            BinaryOperator::And | BinaryOperator::Or => {
                let message = "`MATCH_CONDITION` is one comparison of two times";
                return self.refuse(span, message, format!("{CONDITION_HELP}; equalities of keys stand in ON"));
            }
            op => {
                let message = format!("`MATCH_CONDITION` says which row is nearest, which `{op}` does not");
                return self.refuse(span, message, format!("{CONDITION_HELP}; equalities of keys stand in ON"));
            }
        };
        let (left, right) = (self.operand(left), self.operand(right));
        let ((left, left_type), (right, right_type)) = (left?, right?);
        if !are_comparable(&left_type, &right_type) {
            let (left, right) = (sql_type_name(&left_type), sql_type_name(&right_type));
            let message = format!("`MATCH_CONDITION` compares two times or two numbers, not {left} with {right}");
            return self.refuse(span, message, type_help(&left_type, &right_type));
        }
        let compared = self.coerced(Compared { left, op: operator, right }, span)?;
        let (time, is_swapped) = self.by_side(compared.left, compared.right, span, CONDITION_HELP)?;
        let operator = if is_swapped { compared.op.swap()? } else { compared.op };
        Some((Nearest::of(operator)?, time))
    }

    fn keys(&mut self, condition: &ast::Expr) -> Option<Vec<(Expr, Expr)>> {
        let mut conjuncts = Vec::new();
        split(condition, &mut conjuncts);
        let keys: Vec<_> = conjuncts.into_iter().map(|conjunct| self.key(conjunct)).collect();
        keys.into_iter().collect()
    }

    fn key(&mut self, equality: &ast::Expr) -> Option<(Expr, Expr)> {
        let span = equality.span();
        let ast::Expr::BinaryOp { left, op: BinaryOperator::Eq, right } = equality else {
            return self.refuse(span, "`ON` of an `ASOF JOIN` holds equalities only", KEYS_HELP);
        };
        let (left, right) = (self.operand(left), self.operand(right));
        let ((left, _), (right, _)) = (left?, right?);
        let compared = self.coerced(Compared { left, op: Operator::Eq, right }, span)?;
        self.by_side(compared.left, compared.right, span, KEYS_HELP).map(|(key, _)| key)
    }

    /// The columns of these names, in both sides.
    fn using(&mut self, names: &[ObjectName]) -> Option<Vec<(Expr, Expr)>> {
        let keys = names.iter().map(|name| {
            let ident = name.0.last().and_then(|part| part.as_ident())?;
            let column = |side: &DFSchema| {
                let found = side.qualified_field_with_unqualified_name(&ident_value(ident)).ok()?;
                Some(Expr::Column(Column::from(found)))
            };
            match (column(self.left), column(self.right)) {
                (Some(left), Some(right)) => Some((left, right)),
                _ => {
                    let message = format!("`{ident}` is no column of both sides, or of one side more than once");
                    self.refuse(ident.span, message, "where the names differ, write `ON l.key = r.other`")
                }
            }
        });
        keys.collect::<Vec<_>>().into_iter().collect()
    }

    fn coerced_keys(&mut self, keys: Vec<(Expr, Expr)>, span: Span) -> Option<Vec<(Expr, Expr)>> {
        let coerced = keys.into_iter().map(|(left, right)| {
            let compared = self.coerced(Compared { left, op: Operator::Eq, right }, span)?;
            Some((compared.left, compared.right))
        });
        coerced.collect()
    }

    fn operand(&mut self, expr: &ast::Expr) -> Option<(Expr, DataType)> {
        let planned = self.reader.plan(expr, self.both)?;
        if !is_of_one_row(&planned) {
            let help = "compute it as a column of one side, in a query in its place: `(SELECT … FROM …) r`";
            return self.refuse(expr.span(), "rows are not joined by aggregates, window functions or subqueries", help);
        }
        match planned.get_type(self.both) {
            Ok(data_type) => Some((planned, data_type)),
            Err(error) => self.refuse(expr.span(), plain_words(&error), "write it in another way"),
        }
    }

    /// Both operands brought to one type.
    fn coerced(&mut self, compared: Compared, span: Span) -> Option<Compared> {
        let Compared { left, op, right } = compared;
        let comparison = Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right)));
        if let Err(error) = comparison::check(&comparison, self.both) {
            let help = Mixed::of(&error).map_or_else(String::new, Mixed::help);
            return self.refuse(span, plain_words(&error), help);
        }
        match comparison.rewrite(&mut TypeCoercionRewriter::new(self.both)).data() {
            Ok(Expr::BinaryExpr(BinaryExpr { left, op, right })) => Some(Compared { left: *left, op, right: *right }),
            Ok(_) => self.refuse(span, "this comparison is none of two columns", KEYS_HELP),
            Err(error) => self.refuse(span, plain_words(&error), "write `CAST(… AS …)` around one side"),
        }
    }

    /// The operands as left and right side of the join, and whether they were written the other way round.
    fn by_side(&mut self, first: Expr, second: Expr, span: Span, help: &str) -> Option<((Expr, Expr), bool)> {
        if is_of(&first, self.left) && is_of(&second, self.right) {
            Some(((first, second), false))
        } else if is_of(&first, self.right) && is_of(&second, self.left) {
            Some(((second, first), true))
        } else {
            self.refuse(span, "this compares no row of the left side with one of the right side", help)
        }
    }
}

/// Whether the value of `expr` is known for each row by itself.
fn is_of_one_row(expr: &Expr) -> bool {
    let is_of_many = |part: &Expr| {
        matches!(
            part,
            Expr::AggregateFunction(_)
                | Expr::WindowFunction(_)
                | Expr::ScalarSubquery(_)
                | Expr::InSubquery(_)
                | Expr::Exists(_)
                | Expr::SetComparison(_)
        )
    };
    // The walk cannot fail: it only looks.
    !expr.exists(|part| Ok(is_of_many(part))).unwrap_or(true)
}

/// Whether `expr` reads columns of `side`, and no others.
fn is_of(expr: &Expr, side: &DFSchema) -> bool {
    let columns = expr.column_refs();
    !columns.is_empty() && columns.into_iter().all(|column| side.is_column_from_schema(column))
}

fn are_comparable(left: &DataType, right: &DataType) -> bool {
    is_time(left) && is_time(right) || left.is_numeric() && right.is_numeric()
}

fn type_help(left: &DataType, right: &DataType) -> String {
    match (is_text(left), is_text(right)) {
        (true, false) => format!("write `CAST(… AS {})` around the left side", sql_type_name(right)),
        (false, true) => format!("write `CAST(… AS {})` around the right side", sql_type_name(left)),
        _ => "write `CAST(… AS TIMESTAMP)`, or another expression of that type".to_owned(),
    }
}

fn without_parentheses(expr: &ast::Expr) -> &ast::Expr {
    match expr {
        ast::Expr::Nested(inner) => without_parentheses(inner),
        expr => expr,
    }
}

/// What stands between the `AND`s.
fn split<'e>(condition: &'e ast::Expr, conjuncts: &mut Vec<&'e ast::Expr>) {
    match without_parentheses(condition) {
        ast::Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
            split(left, conjuncts);
            split(right, conjuncts);
        }
        other => conjuncts.push(other),
    }
}
