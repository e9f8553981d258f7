//! Queries and expressions: stretches of tokens for `sqlparser`, whose errors get a place and a help.

use bessemer_schemas::{Diagnostic, FileId, Span, nearest};
use sqlparser::ast::{Expr, Query};
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Token, TokenWithSpan};

use crate::cursor::Cursor;
use crate::dialect::PipelineDialect;
use crate::lexer::is_unquoted;
use crate::spelling;

/// How deep the parser may recurse; brackets are bounded before, this is for `NOT NOT …` and `CASE` in `CASE`.
const RECURSION_MAX: usize = 200;

/// Stack for the parser. It protects most of its recursion but not all (`FROM ((((t`), and then only down to a red
/// zone that its frames in a debug build exceed. The deepest nesting allowed needs a fifth of this; pages that are not
/// touched cost nothing.
const STACK_BYTES: usize = 16 << 20;

/// Reads the rest of the statement as a query.
pub(crate) fn query(cursor: &Cursor<'_>) -> Result<Box<Query>, Diagnostic> {
    if cursor.is_at_end() {
        return Err(cursor.expected("a query", "write `SELECT … FROM …`"));
    }
    refuse_emit(cursor)?;
    let mut query = parse(cursor, "query", Parser::parse_query)?;
    spelling::make_relations(&mut query);
    Ok(query)
}

/// Other dialects have the clause in the query; the parser would take its first word for an alias.
fn refuse_emit(cursor: &Cursor<'_>) -> Result<(), Diagnostic> {
    for (words, clause) in [
        (&["EMIT", "ON", "WINDOW", "CLOSE"][..], "EMIT ON WINDOW CLOSE"),
        (&["EMIT", "EVERY", "INTERVAL"], "EMIT EVERY INTERVAL '1 hour'"),
    ] {
        let is_clause = |tokens: &&[TokenWithSpan]| {
            tokens.iter().zip(words).all(|(token, word)| is_unquoted(&token.token, &[word]))
        };
        let Some(found) = cursor.rest().windows(words.len()).find(is_clause) else { continue };
        let place = |token: &TokenWithSpan| Span::from_tokens(cursor.file(), token.span);
        let span = found.iter().map(place).reduce(Span::union).unwrap_or(cursor.end());
        let help = format!("write it before `AS`: `CREATE FEATURE SET name {clause} WITH (…) AS SELECT …`");
        return Err(Diagnostic::error(format!("`{}` stands in the query", words.join(" ")), span).with_help(help));
    }
    Ok(())
}

/// Reads the rest of a stretch as an expression; `what` names it in messages.
pub(crate) fn expr(cursor: &Cursor<'_>, what: &str) -> Result<Expr, Diagnostic> {
    if cursor.is_at_end() {
        return Err(cursor.expected(&format!("the {what}"), "write an expression, such as `a > 0`"));
    }
    parse(cursor, what, Parser::parse_expr)
}

fn parse<T>(
    cursor: &Cursor<'_>,
    what: &str,
    read: impl FnOnce(&mut Parser<'static>) -> Result<T, ParserError>,
) -> Result<T, Diagnostic> {
    let tokens = spelling::readable(cursor.rest());
    let mut parser =
        Parser::new(&PipelineDialect).with_recursion_limit(RECURSION_MAX).with_tokens_with_locations(tokens.clone());
    let outcome = stacker::grow(STACK_BYTES, || read(&mut parser));

    let failure = Failure { tokens: &tokens, file: cursor.file(), end: cursor.end(), what };
    match outcome {
        Err(error) => Err(failure.diagnostic(&error)),
        Ok(_) if parser.index() < tokens.len() => Err(failure.left_over(parser.index())),
        Ok(tree) => Ok(tree),
    }
}

/// What could not be read.
struct Failure<'t> {
    tokens: &'t [TokenWithSpan],
    file: FileId,
    end: Span,
    what: &'t str,
}

/// Words that begin a clause, in which a typing error is likely.
const CLAUSES: [&str; 20] = [
    "SELECT",
    "FROM",
    "WHERE",
    "GROUP",
    "HAVING",
    "ORDER",
    "LIMIT",
    "UNION",
    "JOIN",
    "LEFT",
    "INNER",
    "DISTINCT",
    "BETWEEN",
    "QUALIFY",
    "EXCEPT",
    "INTERSECT",
    "WINDOW",
    "PARTITION",
    "USING",
    "VALUES",
];

impl Failure<'_> {
    fn diagnostic(&self, error: &ParserError) -> Diagnostic {
        let text = match error {
            ParserError::RecursionLimitExceeded => {
                let span = self.span(0);
                return Diagnostic::error(format!("this {} is nested too deeply", self.what), span)
                    .with_help("move inner parts into views of their own");
            }
            ParserError::ParserError(text) | ParserError::TokenizerError(text) => text,
        };
        let (text, at) = self.place(text);
        let expected = text.strip_prefix("Expected: ").or_else(|| text.strip_prefix("Expected "));
        if let Some((expected, found)) = expected.and_then(|expected| expected.split_once(", found: ")) {
            return self.expected(expected, self.found_at(found, at));
        }
        if let Some(diagnostic) = self.asof_after_left() {
            return diagnostic;
        }
        let message = format!("this {} cannot be read: {}", self.what, lower_first(text));
        Diagnostic::error(message, self.span(at)).with_help(self.help("", at))
    }

    /// Something stands after a complete query or expression.
    fn left_over(&self, at: usize) -> Diagnostic {
        if let Some(diagnostic) = self.case_without_end().or_else(|| self.join_without_table()) {
            return diagnostic;
        }
        let message = format!("unexpected {} after the {}", self.found(at), self.what);
        Diagnostic::error(message, self.span(at)).with_help(self.help("end of statement", at))
    }

    /// Where `CASE` cannot be read, the parser takes it for a name and fails far from it.
    fn case_without_end(&self) -> Option<Diagnostic> {
        let mut open = Vec::new();
        for (at, token) in self.tokens.iter().enumerate() {
            if is_unquoted(&token.token, &["CASE"]) {
                open.push(at);
            } else if is_unquoted(&token.token, &["END"]) {
                open.pop();
            }
        }
        let at = open.pop()?;
        let has_when = self.tokens[at..].iter().any(|token| is_unquoted(&token.token, &["WHEN"]));
        has_when.then(|| {
            Diagnostic::error("this `CASE` has no `END`", self.span(at))
                .with_help("write `CASE WHEN condition THEN value ELSE value END`")
        })
    }

    /// `LEFT ASOF JOIN`, as some dialects have it.
    fn asof_after_left(&self) -> Option<Diagnostic> {
        let at = self
            .tokens
            .windows(2)
            .position(|pair| is_unquoted(&pair[0].token, &["LEFT"]) && is_unquoted(&pair[1].token, &["ASOF"]))?;
        let diagnostic = Diagnostic::error("`LEFT` stands before `ASOF`", self.span(at));
        Some(diagnostic.with_help("write `ASOF LEFT JOIN`"))
    }

    fn join_without_table(&self) -> Option<Diagnostic> {
        let at = self
            .tokens
            .windows(2)
            .position(|pair| is_unquoted(&pair[0].token, &["JOIN"]) && is_unquoted(&pair[1].token, &["ON", "USING"]))?;
        let message = format!("expected a table after `JOIN`, found {}", self.found(at + 1));
        Some(Diagnostic::error(message, self.span(at + 1)).with_help("write `JOIN table ON condition`"))
    }

    fn expected(&self, expected: &str, at: usize) -> Diagnostic {
        if self.is_after_comma(at) {
            return Diagnostic::error(
                format!("a comma with nothing after it, before {}", self.found(at)),
                self.span(at - 1),
            )
            .with_help("remove this comma");
        }
        if expected == "JOIN" && self.token(at.checked_sub(1)).is_some_and(|token| is_unquoted(token, &["ASOF"])) {
            return Diagnostic::error("an `ASOF JOIN` keeps rows of its left side only", self.span(at))
                .with_help("write `ASOF JOIN`, or `ASOF LEFT JOIN` for rows without a match too");
        }
        let wanted = quoted(expected);
        let message = match (at < self.tokens.len(), expected) {
            (false, _) => format!("the {} ends too early: expected {wanted}", self.what),
            (true, "end of statement") => format!("unexpected {} after the {}", self.found(at), self.what),
            (true, _) => format!("expected {wanted}, found {}", self.found(at)),
        };
        Diagnostic::error(message, self.span(at)).with_help(self.help(expected, at))
    }

    /// Splits the place from an error text: ` at Line: 3, Column: 7`; no place means the end.
    fn place<'e>(&self, text: &'e str) -> (&'e str, usize) {
        let at_end = self.tokens.len();
        let Some((message, place)) = text.rsplit_once(" at Line: ") else { return (text, at_end) };
        let mut numbers = place.split(", Column: ").map(|number| number.trim().parse::<u64>().ok());
        let (Some(Some(line)), Some(Some(column))) = (numbers.next(), numbers.next()) else { return (text, at_end) };
        let found = self.tokens.iter().position(|token| {
            let start = token.span.start;
            (start.line, start.column) >= (line, column)
        });
        (message, found.unwrap_or(at_end))
    }

    /// Some errors of the parser give the place of the token after the one that was found.
    fn found_at(&self, found: &str, at: usize) -> usize {
        let is_found = |at: usize| self.tokens.get(at).is_some_and(|token| token.token.to_string() == found);
        if !is_found(at) && at.checked_sub(1).is_some_and(is_found) { at - 1 } else { at }
    }

    fn span(&self, at: usize) -> Span {
        self.tokens.get(at).map_or(self.end, |token| Span::from_tokens(self.file, token.span))
    }

    fn found(&self, at: usize) -> String {
        self.tokens.get(at).map_or_else(|| "the end".to_owned(), |token| format!("`{}`", token.token))
    }

    fn token(&self, at: Option<usize>) -> Option<&Token> {
        at.and_then(|at| self.tokens.get(at)).map(|token| &token.token)
    }

    fn is_after_comma(&self, at: usize) -> bool {
        let closes = match self.token(Some(at)) {
            None => true,
            Some(token) => {
                matches!(token, Token::RParen | Token::RBracket | Token::Comma) || is_unquoted(token, &CLAUSES)
            }
        };
        closes && self.token(at.checked_sub(1)) == Some(&Token::Comma)
    }

    /// What to write instead, from the tokens around the place.
    fn help(&self, expected: &str, at: usize) -> String {
        if let Some(near) = self.misspelt_clause(at) {
            return near;
        }
        let before = self.token(at.checked_sub(1));
        match (self.token(Some(at)), before) {
            (Some(Token::Char('`')), _) | (_, Some(Token::Char('`'))) => {
                "names with special characters stand in double quotes: `\"name\"`".to_owned()
            }
            (Some(Token::SingleQuotedString(text)), Some(before)) if is_unquoted(before, &["AS"]) => {
                format!("a name is written without quotes, or in double quotes: `AS \"{text}\"`")
            }
            (Some(Token::Word(word)), _) if expected.contains("identifier") && word.quote_style.is_none() => {
                let name = word.value.to_ascii_lowercase();
                format!("`{}` is a reserved word: as a name it stands in double quotes, `\"{name}\"`", word.value)
            }
            (Some(Token::Word(word)), Some(Token::Comma))
                if expected == "an expression" && word.quote_style.is_none() =>
            {
                let name = word.value.to_ascii_lowercase();
                format!("`{}` is a reserved word: as a name it stands in double quotes, `\"{name}\"`", word.value)
            }
            (Some(Token::Placeholder(_) | Token::Char('$')), _)
            | (Some(Token::LBrace), Some(Token::Placeholder(_))) => {
                "`${NAME}` is replaced only inside a text in single quotes, in `WITH (…)` and `SET`".to_owned()
            }
            (Some(Token::AtSign | Token::Char(_)), _) => {
                "remove this character, or put the name in double quotes".to_owned()
            }
            _ => self.help_for(expected, at),
        }
    }

    fn help_for(&self, expected: &str, at: usize) -> String {
        let found = self.found(at);
        match expected {
            "end of statement" => {
                format!("a comma, an operator or a keyword is missing before {found}, or it is one word too many")
            }
            "an expression" if at >= self.tokens.len() => {
                "write the value, column or expression that is missing".to_owned()
            }
            "an expression" => format!("write a value, a column or an expression before {found}"),
            ")" => format!("a comma or an operator is missing before {found}, or a `)` stands in the wrong place"),
            "(" if self.token(at.checked_sub(1)).is_some_and(|token| is_unquoted(token, &["IN"])) => {
                "write the list in parentheses: `IN ('a', 'b')`".to_owned()
            }
            "" => format!("a comma, an operator or a keyword is missing before {found}"),
            "MATCH_CONDITION" => "write `ASOF JOIN r MATCH_CONDITION (l.at >= r.at) ON l.key = r.key`".to_owned(),
            "joined table" | "ON, or USING after JOIN" => "write `JOIN table ON condition`".to_owned(),
            _ if expected.starts_with("SELECT") => "write a query: `SELECT … FROM …`".to_owned(),
            _ => format!("write {} {}", quoted(expected), if at < self.tokens.len() { "here" } else { "at the end" }),
        }
    }

    /// A word at or just before the place that is nearly the keyword of a clause: `FORM flights`.
    fn misspelt_clause(&self, at: usize) -> Option<String> {
        let around = at.saturating_sub(2)..(at + 2).min(self.tokens.len());
        around.rev().find_map(|near| {
            let Some(Token::Word(word)) = self.token(Some(near)) else { return None };
            let is_candidate = word.quote_style.is_none()
                && word.value.len() > 2
                && !CLAUSES.iter().any(|clause| clause.eq_ignore_ascii_case(&word.value));
            let clause = nearest(&word.value, CLAUSES).filter(|_| is_candidate)?;
            let line = self.tokens[near].span.start;
            let place = if near == at {
                String::new()
            } else {
                format!(" instead of `{}` at {}:{}", word.value, line.line, line.column)
            };
            Some(format!("did you mean `{clause}`{place}?"))
        })
    }
}

/// Keywords and signs in backticks, words of explanation as they are.
fn quoted(expected: &str) -> String {
    let is_code = |c: char| c.is_ascii_uppercase() || c.is_ascii_punctuation() && c != ',';
    if !expected.is_empty() && expected.chars().all(is_code) { format!("`{expected}`") } else { expected.to_owned() }
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}
