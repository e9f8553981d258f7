//! Spellings that users know and `sqlparser` does not: brought into a form that it reads, with every place kept.
//!
//! ```text
//! TABLE(TUMBLE(TABLE t, DESCRIPTOR(at), …))   TUMBLE(t, DESCRIPTOR(at), …)
//! SESSION(t PARTITION BY k, at, …)            SESSION(t, "partition by" => k, at, …)
//! a ASOF LEFT JOIN b MATCH_CONDITION (…)      a GLOBAL ASOF JOIN b MATCH_CONDITION (…)
//! ```
//!
//! That is done to tokens; `GLOBAL`, which means nothing to the engine, remembers the `LEFT`. In the tree, what a
//! window function reads then becomes a query, so that nothing else must know that its first argument is a relation,
//! and what stands up to an `ASOF JOIN` a relation of its own, since the engine asks for plans of relations only.

use std::convert::Infallible;
use std::ops::ControlFlow;

use bessemer_schemas::{PARTITION_BY, WINDOW_FUNCTIONS};
use sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, Ident, JoinOperator, ObjectName, Query, Select, TableFactor, TableWithJoins,
    VisitMut, VisitorMut,
};
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Span, Token, TokenWithSpan};

use crate::dialect::PipelineDialect;
use crate::lexer::is_unquoted;

/// What an open parenthesis belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Open {
    /// The arguments of a window function.
    Window,
    /// `TABLE(…)` around a window function, which is left out.
    Wrapper,
    Other,
}

/// The tokens of a query or expression as `sqlparser` can read them.
pub(crate) fn readable(tokens: &[TokenWithSpan]) -> Vec<TokenWithSpan> {
    let mut readable = Vec::with_capacity(tokens.len());
    let mut open = Vec::new();
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        let in_window = open.last() == Some(&Open::Window);
        let previous = at.checked_sub(1).and_then(|at| tokens.get(at)).map(|token| &token.token);
        let follows_as = previous.is_some_and(|previous| is_unquoted(previous, &["AS"]));
        at += 1;
        match &token.token {
            Token::LParen => {
                open.push(if previous.is_some_and(is_window) { Open::Window } else { Open::Other });
                readable.push(token.clone());
            }
            Token::RParen if open.pop() == Some(Open::Wrapper) => {}
            word if is_unquoted(word, &["TABLE"]) && wraps_window(&tokens[at..]) => {
                open.push(Open::Wrapper);
                at += 1;
            }
            word if in_window
                && is_unquoted(word, &["TABLE"])
                && matches!(previous, Some(Token::LParen | Token::RArrow)) => {}
            word if in_window && is_unquoted(word, &["PARTITION"]) && is_by(tokens.get(at)) => {
                let name = Token::make_word(PARTITION_BY, None);
                readable.extend([Token::Comma, name, Token::RArrow].map(|inserted| placed(inserted, token.span)));
                at += 1;
            }
            // It would be taken for our own below; by itself it says how a cluster joins, and not what.
            word if is_unquoted(word, &["GLOBAL"])
                && !follows_as
                && tokens.get(at).is_some_and(|next| is_unquoted(&next.token, &["ASOF"])) => {}
            word if is_unquoted(word, &["ASOF"]) && !follows_as => {
                let join = AsofJoin::of(&tokens[at..]);
                if join.is_left {
                    readable.push(placed(Token::make_keyword("GLOBAL"), token.span));
                }
                readable.push(token.clone());
                at += join.words;
            }
            _ => readable.push(token.clone()),
        }
    }
    readable
}

/// What stands between `ASOF` and `JOIN`.
#[derive(Default)]
struct AsofJoin {
    is_left: bool,
    words: usize,
}

impl AsofJoin {
    fn of(after: &[TokenWithSpan]) -> Self {
        let is = |at: usize, word: &str| after.get(at).is_some_and(|token| is_unquoted(&token.token, &[word]));
        let is_left = is(0, "LEFT");
        let words = if is_left { 1 + usize::from(is(1, "OUTER")) } else { usize::from(is(0, "INNER")) };
        if is(words, "JOIN") { Self { is_left, words } } else { Self::default() }
    }
}

fn is_window(token: &Token) -> bool {
    matches!(token, Token::Word(word) if word.quote_style.is_none() && is_window_name(&word.value))
}

/// Whether an unquoted name is that of a window function.
fn is_window_name(name: &str) -> bool {
    WINDOW_FUNCTIONS.iter().any(|function| name.eq_ignore_ascii_case(function))
}

fn wraps_window(after: &[TokenWithSpan]) -> bool {
    matches!(after, [open, name, arguments, ..]
        if open.token == Token::LParen && is_window(&name.token) && arguments.token == Token::LParen)
}

fn is_by(token: Option<&TokenWithSpan>) -> bool {
    token.is_some_and(|token| is_unquoted(&token.token, &["BY"]))
}

fn placed(token: Token, span: Span) -> TokenWithSpan {
    TokenWithSpan { token, span }
}

/// Whether `name` is that of a window function.
pub(crate) fn names_window(name: &ObjectName) -> bool {
    matches!(name.0.as_slice(), [part]
        if part.as_ident().is_some_and(|ident| ident.quote_style.is_none() && is_window_name(&ident.value)))
}

/// Makes a query of what each window function reads, where it is a name, and a relation of what each `ASOF JOIN` joins.
pub(crate) fn make_relations(query: &mut Query) {
    let ControlFlow::Continue(()) = query.visit(&mut Relations);
}

struct Relations;

impl VisitorMut for Relations {
    type Break = Infallible;

    // What is inside has been visited by then, so that a new relation is not visited again.
    fn post_visit_select(&mut self, select: &mut Select) -> ControlFlow<Self::Break> {
        select.from.iter_mut().for_each(nest_asof_joins);
        ControlFlow::Continue(())
    }

    fn post_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Self::Break> {
        if let TableFactor::NestedJoin { table_with_joins, .. } = factor {
            nest_asof_joins(table_with_joins);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Self::Break> {
        if let TableFactor::Table { name, args: Some(args), .. } = factor
            && names_window(name)
            && let Some(data) = data(&mut args.args)
            && let Some(parts) = name_parts(data)
            && let Some(query) = all_of(&parts)
        {
            *data = Expr::Subquery(query);
        }
        ControlFlow::Continue(())
    }
}

/// `a JOIN b ASOF JOIN c JOIN d` becomes `(a JOIN b ASOF JOIN c) JOIN d`.
fn nest_asof_joins(from: &mut TableWithJoins) {
    for join in std::mem::take(&mut from.joins) {
        let is_asof = matches!(join.join_operator, JoinOperator::AsOf { .. });
        from.joins.push(join);
        if is_asof {
            let inner = TableWithJoins { relation: from.relation.clone(), joins: std::mem::take(&mut from.joins) };
            from.relation = TableFactor::NestedJoin { table_with_joins: Box::new(inner), alias: None };
        }
    }
}

/// The argument that says what is read: `DATA => …`, or else the first one.
fn data(args: &mut [FunctionArg]) -> Option<&mut Expr> {
    let is_data =
        |arg: &FunctionArg| matches!(arg, FunctionArg::Named { name, .. } if name.value.eq_ignore_ascii_case("data"));
    let at = args.iter().position(is_data).unwrap_or_default();
    match args.get_mut(at)? {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr))
        | FunctionArg::Named { arg: FunctionArgExpr::Expr(expr), .. } => Some(expr),
        _ => None,
    }
}

fn name_parts(data: &Expr) -> Option<Vec<Ident>> {
    match data {
        Expr::Identifier(ident) => Some(vec![ident.clone()]),
        Expr::CompoundIdentifier(parts) => Some(parts.clone()),
        _ => None,
    }
}

/// `SELECT * FROM name`, all of it at the place of the name.
fn all_of(name: &[Ident]) -> Option<Box<Query>> {
    let span = name.first()?.span;
    let words = [Token::make_keyword("SELECT"), Token::Mul, Token::make_keyword("FROM")];
    let mut tokens: Vec<_> = words.into_iter().map(|token| placed(token, span)).collect();
    for (at, part) in name.iter().enumerate() {
        if at > 0 {
            tokens.push(placed(Token::Period, part.span));
        }
        tokens.push(placed(Token::make_word(&part.value, part.quote_style), part.span));
    }
    Parser::new(&PipelineDialect).with_tokens_with_locations(tokens).parse_query().ok()
}
