//! The expectations of a feature set: `CONSTRAINT name EXPECT (…) ON VIOLATION …`.

use bessemer_schemas::{Action, AggregateScope, Constraint, Diagnostic, Expectation, Name};

use crate::context::Context;
use crate::cursor::Cursor;
use crate::expr_check;
use crate::query;

const FORM: &str = "write `CONSTRAINT name EXPECT (condition) ON VIOLATION QUARANTINE`";

/// Reads the constraints; each bad one is reported and left out.
pub(crate) fn constraint_list(ctx: &mut Context<'_>, list: &Cursor<'_>) -> Vec<Constraint> {
    if list.is_at_end() {
        ctx.report(
            Diagnostic::error("the list of constraints is empty", list.end())
                .with_help("leave the parentheses out, or write `CONSTRAINT name EXPECT (condition)`"),
        );
    }
    let mut constraints: Vec<Constraint> = Vec::new();
    for mut item in list.items("a constraint", &mut ctx.diagnostics) {
        let result = constraint(ctx, &mut item);
        let Some(constraint) = ctx.ok(result) else { continue };
        match constraints.iter().find(|other| other.name.value == constraint.name.value) {
            Some(first) => ctx.report(twice(&constraint.name, &first.name)),
            None => constraints.push(constraint),
        }
    }
    constraints
}

fn twice(name: &Name, first: &Name) -> Diagnostic {
    Diagnostic::error(format!("two constraints are named `{}`", name.value), name.span)
        .with_help(format!("the other is on line {}: rename one of the two", first.span.start.line))
}

fn constraint(ctx: &mut Context<'_>, item: &mut Cursor<'_>) -> Result<Constraint, Diagnostic> {
    if item.is_words(&["EXPECT"]) {
        return Err(item.expected("`CONSTRAINT name`", "give the expectation a name: `CONSTRAINT name EXPECT (…)`"));
    }
    item.expect_words(&["CONSTRAINT"], FORM)?;
    if item.is_words(&["EXPECT"]) {
        return Err(item.expected("the constraint's name", "give the expectation a name: `CONSTRAINT name EXPECT (…)`"));
    }
    let name = item.name("the constraint's name")?;
    if item.is_words(&["CHECK"]) {
        return Err(item.expected("`EXPECT`", "write `EXPECT` instead of `CHECK`, and what happens `ON VIOLATION`"));
    }
    item.expect_words(&["EXPECT"], FORM)?;
    if item.is_words(&["FRESH"]) {
        return Err(Diagnostic::error("`EXPECT FRESH` is not available in this version", item.span())
            .with_help("remove it, or write `EXPECT AGGREGATE (max(time) > TIMESTAMP '…')`"));
    }
    if item.take_words(&["AGGREGATE"]) { aggregate(ctx, item, name) } else { row(ctx, item, name) }
}

fn row(ctx: &mut Context<'_>, item: &mut Cursor<'_>, name: Name) -> Result<Constraint, Diagnostic> {
    let inner = item.group("before the condition", "put the condition in parentheses: `EXPECT (a > 0)`")?;
    let expr_span = inner.rest_span();
    let expr = query::expr(&inner, "condition")?;
    if item.is_words(&["PER"]) {
        return Err(
            item.expected("`ON VIOLATION`", "`PER RUN` belongs to `EXPECT AGGREGATE (…)`; a row is judged alone")
        );
    }
    let action = action(item)?;
    ctx.diagnostics.append(&mut expr_check::problems(item.file(), &expr, "an expectation"));
    Ok(Constraint { name, expectation: Expectation::Row(Box::new(expr)), action, expr_span })
}

fn aggregate(ctx: &mut Context<'_>, item: &mut Cursor<'_>, name: Name) -> Result<Constraint, Diagnostic> {
    let inner =
        item.group("before the condition", "put the condition in parentheses: `EXPECT AGGREGATE (count(*) > 0)`")?;
    let expr_span = inner.rest_span();
    let expr = query::expr(&inner, "condition")?;
    let scope = scope(item)?;
    let span = item.rest_span();
    let action = action(item)?;
    if matches!(action, Action::DropRow | Action::Quarantine) {
        let message = "an aggregate expectation speaks of all rows, so it cannot set single ones aside";
        return Err(Diagnostic::error(message, span).with_help("write `ON VIOLATION FAIL` or `ON VIOLATION WARN`"));
    }
    ctx.diagnostics.append(&mut expr_check::aggregate_problems(item.file(), &expr, "an expectation"));
    Ok(Constraint { name, expectation: Expectation::Aggregate { expr: Box::new(expr), scope }, action, expr_span })
}

fn scope(item: &mut Cursor<'_>) -> Result<AggregateScope, Diagnostic> {
    if !item.is_words(&["PER"]) {
        return Ok(AggregateScope::Whole);
    }
    if item.is_words(&["PER", "INTERVAL"]) {
        return Err(Diagnostic::error("`PER INTERVAL` is not available in this version", item.span())
            .with_help("write `PER RUN`, or leave it out for a set that is replaced as a whole"));
    }
    item.expect_words(&["PER", "RUN"], "write `PER RUN`")?;
    Ok(AggregateScope::Run)
}

const ACTIONS: [&str; 4] = ["WARN", "DROP ROW", "QUARANTINE", "FAIL"];

/// Reads `[ON VIOLATION action]`; without it violations are counted.
fn action(item: &mut Cursor<'_>) -> Result<Action, Diagnostic> {
    if item.is_at_end() {
        return Ok(Action::Warn);
    }
    if item.is_words(&["CONSTRAINT"]) {
        return Err(item.expected("`,`", "write a comma before the next `CONSTRAINT`"));
    }
    item.expect_words(&["ON", "VIOLATION"], "write `ON VIOLATION` and one of WARN, DROP ROW, QUARANTINE, FAIL")?;
    let action = if item.take_words(&["WARN"]) {
        Action::Warn
    } else if item.is_words(&["DROP"]) {
        item.expect_words(&["DROP", "ROW"], "write `ON VIOLATION DROP ROW`")?;
        Action::DropRow
    } else if item.take_words(&["QUARANTINE"]) {
        Action::Quarantine
    } else if item.take_words(&["FAIL"]) {
        Action::Fail
    } else {
        return Err(item.unknown("what to do with a violation", &ACTIONS));
    };
    if item.is_words(&["CONSTRAINT"]) {
        return Err(item.expected("`,`", "write a comma before the next `CONSTRAINT`"));
    }
    if item.is_words(&["PER"]) {
        return Err(item.expected("the end of the constraint", "write `PER RUN` before `ON VIOLATION`"));
    }
    item.finish("the action", "write one action: WARN, DROP ROW, QUARANTINE or FAIL")?;
    Ok(action)
}
