//! What is known of a statement before it is read: its brackets balance and it is not absurdly deep.
//!
//! `sqlparser` recurses on brackets and its trees are dropped by recursion, so both the nesting and the length of a
//! chain such as `a OR b OR …` have a bound here; a text beyond it is an error and never a stack overflow.

use bessemer_schemas::{Diagnostic, FileId, Span};
use sqlparser::tokenizer::{Token, TokenWithSpan};

use crate::lexer::is_unquoted;

/// Deepest nesting of brackets; hand-written queries stay below ten.
const DEPTH_MAX: usize = 48;

/// Longest stretch of tokens without a comma or a clause keyword: about 500 operands of one operator.
const CHAIN_MAX: usize = 2_000;

/// Longest run of prefix operators such as `NOT NOT …`.
const PREFIX_MAX: usize = 32;

/// Most `JOIN`, `UNION`, `EXCEPT` and `INTERSECT` on one level: each makes the plan one node deeper.
const OPERATORS_MAX: usize = 250;

/// What is counted against [`OPERATORS_MAX`].
const OPERATORS: [&str; 4] = ["JOIN", "UNION", "EXCEPT", "INTERSECT"];

/// Words after which a new expression begins.
const CLAUSES: [&str; 11] =
    ["SELECT", "FROM", "WHERE", "GROUP", "HAVING", "ORDER", "WHEN", "THEN", "ELSE", "ON", "QUALIFY"];

/// Checks the brackets of a statement.
pub(crate) fn check(file: FileId, tokens: &[TokenWithSpan]) -> Result<(), Diagnostic> {
    let mut levels = vec![Level::default()];
    for token in tokens {
        let span = Span::from_tokens(file, token.span);
        match &token.token {
            Token::LParen | Token::LBracket | Token::LBrace => {
                count(&mut levels, &token.token, span)?;
                levels.push(Level { open: Some((token.token.clone(), span)), ..Level::default() });
            }
            Token::RParen | Token::RBracket | Token::RBrace => close(&mut levels, &token.token, span)?,
            other => count(&mut levels, other, span)?,
        }
        if levels.len() > DEPTH_MAX {
            let message = format!("brackets are nested more than {DEPTH_MAX} deep");
            return Err(Diagnostic::error(message, span).with_help("move inner queries into views of their own"));
        }
    }
    match levels.pop().and_then(|level| level.open) {
        Some((token, span)) => Err(unclosed(&token, span)),
        None => Ok(()),
    }
}

/// What stands between two brackets.
#[derive(Default)]
struct Level {
    open: Option<(Token, Span)>,
    chain: usize,
    angles: usize,
    prefixes: usize,
    operators: usize,
}

fn count(levels: &mut [Level], token: &Token, span: Span) -> Result<(), Diagnostic> {
    let Some(level) = levels.last_mut() else { return Ok(()) };
    level.chain += 1;
    let is_prefix = is_unquoted(token, &["NOT"]) || matches!(token, Token::Minus | Token::Plus | Token::Tilde);
    level.prefixes = if is_prefix { level.prefixes + 1 } else { 0 };
    match token {
        Token::Comma => level.chain = 0,
        Token::Lt => level.angles += 1,
        Token::Gt => level.angles = level.angles.saturating_sub(1),
        Token::ShiftRight => level.angles = level.angles.saturating_sub(2),
        _ if is_unquoted(token, &OPERATORS) => (level.chain, level.operators) = (0, level.operators + 1),
        _ if is_unquoted(token, &CLAUSES) => (level.chain, level.angles) = (0, 0),
        _ => {}
    }
    if level.chain > CHAIN_MAX || level.prefixes > PREFIX_MAX || level.angles > 4 * DEPTH_MAX {
        return Err(Diagnostic::error("this expression is too long", span)
            .with_help("write `column IN (…)` for a long list of `OR`, or split the expression over several views"));
    }
    if level.operators > OPERATORS_MAX {
        let message = format!("more than {OPERATORS_MAX} joins and set operators on one level");
        return Err(Diagnostic::error(message, span).with_help("split the query over several views"));
    }
    Ok(())
}

fn close(levels: &mut Vec<Level>, token: &Token, span: Span) -> Result<(), Diagnostic> {
    let Some((open, opened)) = levels.last_mut().and_then(|level| level.open.take()) else {
        return Err(Diagnostic::error(format!("`{token}` closes nothing"), span)
            .with_help(format!("remove this `{token}`, or write the `{}` that it should close", partner(token))));
    };
    if partner(token) != open.to_string() {
        let (line, column) = (opened.start.line, opened.start.column);
        return Err(Diagnostic::error(format!("`{token}` cannot close the `{open}` of {line}:{column}"), span)
            .with_help(format!("write `{}` here", partner(&open))));
    }
    levels.pop();
    Ok(())
}

fn unclosed(token: &Token, span: Span) -> Diagnostic {
    Diagnostic::error(format!("this `{token}` is never closed"), span)
        .with_help(format!("write the missing `{}` before the end of the statement", partner(token)))
}

fn partner(token: &Token) -> &'static str {
    match token {
        Token::LParen => ")",
        Token::LBracket => "]",
        Token::LBrace => "}",
        Token::RParen => "(",
        Token::RBracket => "[",
        _ => "{",
    }
}
