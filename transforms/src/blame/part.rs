//! Queries made of parts of others, to be planned by themselves.

use sqlparser::ast::{Query, Select, SetExpr, TableFactor, TableWithJoins};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;

/// `SELECT *`, to be given what it reads.
pub(super) fn skeleton() -> Option<Select> {
    let query = Parser::new(&PostgreSqlDialect {}).try_with_sql("SELECT * FROM nothing").ok()?.parse_query().ok()?;
    match *query.body {
        SetExpr::Select(select) => Some(*select),
        _ => None,
    }
}

/// A relation that is joined with nothing.
pub(super) fn alone(relation: TableFactor) -> TableWithJoins {
    TableWithJoins { relation, joins: Vec::new() }
}

/// `select` over `from`.
pub(super) fn reading(mut select: Select, from: Vec<TableWithJoins>) -> Query {
    select.from = from;
    of_select(select)
}

/// A `SELECT` by itself.
pub(super) fn of_select(select: Select) -> Query {
    query_of(SetExpr::Select(Box::new(select)))
}

/// What stands between the clauses of a query.
pub(super) fn of_body(body: &SetExpr) -> Query {
    query_of(body.clone())
}

fn query_of(body: SetExpr) -> Query {
    Query {
        with: None,
        body: Box::new(body),
        order_by: None,
        limit_clause: None,
        fetch: None,
        locks: Vec::new(),
        for_clause: None,
        settings: None,
        format_clause: None,
        pipe_operators: Vec::new(),
    }
}
