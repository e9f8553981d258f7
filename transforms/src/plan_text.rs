//! A query as a text that changes when the query does, and not when only its writing does: for its digest.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use datafusion::common::NullEquality;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, LogicalPlan};
use sqlparser::ast::Query;

use crate::syntax::Mentions;

/// The text of an optimised plan that was made from `queries`.
///
/// The engine's own text leaves some things out, which are added: all but the first rows of `VALUES`, whether a join
/// takes two nulls for equal (`INTERSECT` and `EXCEPT` do), what table functions are called with. Names that it makes up are
/// numbered by what was planned before, and are numbered anew.
pub(crate) fn plan_text<'q>(plan: &LogicalPlan, queries: impl Iterator<Item = &'q Query>) -> Result<String> {
    let mut text = numbered_anew(&plan.display_indent_schema().to_string());
    let mut joins = 0;
    plan.apply_with_subqueries(|node| {
        match node {
            LogicalPlan::Values(values) => {
                for row in &values.values {
                    line(&mut text, "values", &row_text(row));
                }
            }
            LogicalPlan::Join(join) => {
                joins += 1;
                if join.null_equality == NullEquality::NullEqualsNull {
                    line(&mut text, "nulls are equal in join", &joins.to_string());
                }
            }
            _ => {}
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    for call in queries.flat_map(|query| Mentions::of(query).table_calls) {
        line(&mut text, "call", &call.to_string());
    }
    Ok(text)
}

/// What names that the engine makes up begin with, before their numbers.
const MADE_UP: [&str; 4] = ["__datafusion_extracted_", "__common_expr_", "__scalar_sq_", "__correlated_sq_"];

/// `text` in which the names that the engine made up are numbered as they come.
fn numbered_anew(text: &str) -> String {
    let (mut anew, mut rest) = (String::with_capacity(text.len()), text);
    let mut numbers: BTreeMap<&str, usize> = BTreeMap::new();
    while let Some(at) = MADE_UP.iter().filter_map(|name| Some(rest.find(name)? + name.len())).min() {
        let (before, after) = rest.split_at(at);
        let digits = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
        let (number, after) = after.split_at(digits);
        let next = numbers.len() + 1;
        anew.push_str(before);
        // Writing to a string cannot fail.
        let _written = write!(anew, "{}", numbers.entry(number).or_insert(next));
        rest = after;
    }
    anew + rest
}

fn row_text(row: &[Expr]) -> String {
    row.iter().map(Expr::to_string).collect::<Vec<_>>().join(", ")
}

fn line(text: &mut String, what: &str, value: &str) {
    // Writing to a string cannot fail.
    let _written = write!(text, "\n{what} {value}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{FLIGHTS, planned};

    #[test]
    fn made_up_names_are_numbered_as_they_come() {
        let text = "a __common_expr_7, __datafusion_extracted_12 AS b, __common_expr_7 x __scalar_sq_";
        let expected = "a __common_expr_1, __datafusion_extracted_2 AS b, __common_expr_1 x __scalar_sq_3";
        assert_eq!(numbered_anew(text), expected);
        assert_eq!(numbered_anew("nothing"), "nothing");
    }

    #[test]
    fn a_set_is_the_same_whatever_is_planned_before_it() {
        const SOURCE: &str = "CREATE SOURCE trips (k VARCHAR, at TIMESTAMP, WATERMARK FOR at AS at)
            WITH (connector = 'object_store', path = 'x', format = 'json');";
        let window = |name: &str, hours: u8| {
            format!(
                "CREATE FEATURE SET {name} WITH (path = '{name}') AS SELECT k, window_end, upper(k) AS a, upper(k) || k AS b
                 FROM TUMBLE(trips, at, INTERVAL '{hours} hours') WHERE k > (SELECT min(carrier) FROM planes);"
            )
        };
        let digest = |before: &str| {
            let plan = planned(&format!("{FLIGHTS} {SOURCE} {before} {}", window("s", 2)));
            plan.set("s").unwrap().plan_digest.clone()
        };
        assert_eq!(digest(""), digest(&(window("other", 3) + &window("third", 5))));
    }
}
