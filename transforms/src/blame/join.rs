//! Faults of joins: of their conditions, over the columns of both sides.

use bessemer_schemas::{Diagnostic, nearest};
use datafusion::common::{DFSchemaRef, DataFusionError};
use datafusion::sql::planner::PlannerContext;
use sqlparser::ast::{Ident, JoinConstraint, JoinOperator, ObjectName, Spanned, TableFactor, TableWithJoins};

use super::heard::Heard;
use super::part::alone;
use super::{Blame, check_all};
use crate::asof::Written;
use crate::comparison::is_mixed;
use crate::expression::list;
use crate::syntax::{ident_value, place};
use crate::type_name::sql_type_name;

impl Blame<'_> {
    /// The last join of `from` fails: its condition is looked at over the columns of both sides.
    pub(super) fn join(
        &self,
        mut from: TableWithJoins,
        error: &DataFusionError,
        context: &PlannerContext,
        found: &mut Vec<Diagnostic>,
    ) {
        let before = found.len();
        if let Some(written) = Written::of(&from) {
            self.asof_join(written, context, found);
        }
        let Some(join) = from.joins.pop() else { return };
        let left = self.columns_of(std::slice::from_ref(&from), context);
        let right = self.columns_of(&[alone(join.relation.clone())], context);
        if let (Some(left), Some(right), Some(constraint)) = (left, right, constraint(&join.join_operator)) {
            match constraint {
                JoinConstraint::On(expr) => {
                    if let Ok(schema) = left.join(&right) {
                        check_all(std::iter::once(expr), self.scope(&schema, context), found);
                    }
                }
                JoinConstraint::Using(names) => self.all_using(names, [&left, &right], found),
                JoinConstraint::Natural | JoinConstraint::None => {}
            }
        }
        if found.len() == before {
            found.push(self.told_by_engine(error, place(self.file, join.relation.span(), self.fallback)));
        }
    }

    fn asof_join(&self, written: Written<'_>, context: &PlannerContext, found: &mut Vec<Diagnostic>) {
        if let TableFactor::Derived { lateral: true, .. } | TableFactor::Function { lateral: true, .. } =
            written.right()
        {
            let span = place(self.file, written.right().span(), self.fallback);
            found.push(
                Diagnostic::error("the right side of an `ASOF JOIN` does not depend on rows of the left one", span)
                    .with_help("leave out `LATERAL`, and write equalities of keys in `ON`"),
            );
            return;
        }
        let left = self.columns_of(&[alone(written.left())], context);
        let right = self.columns_of(&[alone(written.right().clone())], context);
        let (Some(left), Some(right)) = (left, right) else { return };
        let before = found.len();
        if let JoinConstraint::Using(names) = written.constraint {
            self.all_using(names, [&left, &right], found);
        }
        if found.len() == before {
            written.matching(&left, &right, &mut Heard { blame: *self, context, found });
        }
    }

    fn all_using(&self, names: &[ObjectName], sides: [&DFSchemaRef; 2], found: &mut Vec<Diagnostic>) {
        for ident in names.iter().filter_map(|name| name.0.last().and_then(|part| part.as_ident())) {
            self.using(ident, sides, found);
        }
    }

    fn using(&self, ident: &Ident, sides: [&DFSchemaRef; 2], found: &mut Vec<Diagnostic>) {
        let name = ident_value(ident);
        for (side, which) in sides.into_iter().zip(["left", "right"]) {
            if side.fields_with_unqualified_name(&name).is_empty() {
                let span = place(self.file, ident.span, self.fallback);
                let columns: Vec<_> = side.fields().iter().map(|field| field.name().as_str()).collect();
                let help = match nearest(&name, columns.iter().copied()) {
                    Some(near) => format!("it has `{near}`; where the names differ, write `ON … = …`"),
                    None => format!("its columns are {}", list(&columns)),
                };
                let message = format!("the {which} side of the join has no column `{name}`");
                found.push(Diagnostic::error(message, span).with_help(help));
            }
        }
        let type_in = |side: &DFSchemaRef| {
            side.fields_with_unqualified_name(&name).first().map(|field| field.data_type().clone())
        };
        if let (Some(left), Some(right)) = (type_in(sides[0]), type_in(sides[1]))
            && is_mixed(&left, &right)
        {
            let message =
                format!("`{name}` is {} on the left, {} on the right", sql_type_name(&left), sql_type_name(&right));
            found.push(
                Diagnostic::error(message, place(self.file, ident.span, self.fallback))
                    .with_help("join with `ON`, and write `CAST(… AS …)` around the text"),
            );
        }
    }
}

fn constraint(operator: &JoinOperator) -> Option<&JoinConstraint> {
    match operator {
        JoinOperator::Join(constraint)
        | JoinOperator::Inner(constraint)
        | JoinOperator::Left(constraint)
        | JoinOperator::LeftOuter(constraint)
        | JoinOperator::Right(constraint)
        | JoinOperator::RightOuter(constraint)
        | JoinOperator::FullOuter(constraint)
        | JoinOperator::Semi(constraint)
        | JoinOperator::LeftSemi(constraint)
        | JoinOperator::RightSemi(constraint)
        | JoinOperator::Anti(constraint)
        | JoinOperator::LeftAnti(constraint)
        | JoinOperator::RightAnti(constraint) => Some(constraint),
        _ => None,
    }
}
