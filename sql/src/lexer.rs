//! Text to statements: a whole file is tokenised at once, so that the span of a token is its place in the file.
//!
//! Statements are cut at `;` tokens, and where a line begins with `CREATE` and a kind of statement, so that one broken
//! statement never hides the next. A text in quotes that swallows such a line has lost its closing quote: it is
//! reported where it begins, and reading resumes on the next line.

use bessemer_schemas::{Diagnostic, FileId, Position, Span};
use sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer, Word};

use crate::dialect::PipelineDialect;

/// The tokens of one statement, without white space, comments and the `;`.
#[derive(Debug, Clone)]
pub(crate) struct StatementTokens {
    pub(crate) tokens: Vec<TokenWithSpan>,
    /// Where it ends: its `;`, or just after its last token.
    pub(crate) end: Span,
    /// The lexer has already reported an error inside it; its tokens stop there.
    pub(crate) is_damaged: bool,
}

/// Words that begin what may follow `CREATE`.
pub(crate) const CREATED: [&str; 6] = ["PIPELINE", "SOURCE", "TABLE", "VIEW", "FEATURE", "TRAINING"];

/// Cuts a file into statements.
pub(crate) fn statements(file: FileId, text: &str, diagnostics: &mut Vec<Diagnostic>) -> Vec<StatementTokens> {
    let mut statements = Vec::new();
    let mut skipped = 0;
    loop {
        let rest = after_lines(text, skipped);
        let (mut tokens, problem) = tokens(file, rest, skipped);
        let Some(problem) = problem else {
            split(file, tokens, false, &mut statements, diagnostics);
            return statements;
        };

        tokens.truncate(problem.token_count);
        split(file, tokens, true, &mut statements, diagnostics);
        let line = problem.resume_after;
        diagnostics.push(problem.diagnostic);

        let next = text.split('\n').enumerate().skip(line).find(|(_, text)| begins_statement(text));
        let Some((line, _)) = next else { return statements };
        skipped = line;
    }
}

/// What stopped the lexer.
struct Problem {
    diagnostic: Diagnostic,
    /// How many tokens before it are good.
    token_count: usize,
    /// The line (from 1) after which a new statement may be looked for.
    resume_after: usize,
}

fn tokens(file: FileId, text: &str, skipped: usize) -> (Vec<TokenWithSpan>, Option<Problem>) {
    let mut tokens = Vec::new();
    let outcome = Tokenizer::new(&PipelineDialect, text).tokenize_with_location_into_buf(&mut tokens);
    for token in &mut tokens {
        token.span.start.line += skipped as u64;
        token.span.end.line += skipped as u64;
    }

    let runaway = tokens.iter().position(|token| is_runaway(token, outcome.is_err()));
    let problem = match (runaway, outcome) {
        (Some(at), _) => Some(runaway_text(file, &tokens[at], at)),
        (None, Err(error)) => {
            // The token that cannot be read begins where the last one ends.
            let first = Location { line: skipped as u64 + 1, column: 1 };
            let start = tokens.last().map_or(first, |token| token.span.end);
            Some(lexer_error(file, &error.message, start, tokens.len()))
        }
        (None, Ok(())) => None,
    };
    (tokens, problem)
}

/// A text in quotes that goes on over the beginning of another statement; where the file ends inside a text, also one
/// that goes on over the next option of a list.
fn is_runaway(token: &TokenWithSpan, is_unterminated: bool) -> bool {
    let text = match &token.token {
        Token::SingleQuotedString(text) => text,
        Token::Word(Word { value, quote_style: Some(_), .. }) => value,
        _ => return false,
    };
    let mut lines = text.split('\n').skip(1);
    lines.any(|line| begins_statement(line) || (is_unterminated && line.trim_end().ends_with('=')))
}

fn runaway_text(file: FileId, token: &TokenWithSpan, at: usize) -> Problem {
    let span = Span::from_tokens(file, token.span);
    let lines = span.end.line - span.start.line + 1;
    let quote = if matches!(token.token, Token::Word(_)) { '"' } else { '\'' };
    let message = format!("the text that begins here runs on over {lines} lines");
    let diagnostic = Diagnostic::error(message, opener(span))
        .with_label(format!("this `{quote}` is never closed"))
        .with_help(format!(
            "write the closing `{quote}` on the same line; inside such a text it is written twice: `{quote}{quote}`"
        ));
    Problem { diagnostic, token_count: at, resume_after: span.start.line as usize }
}

fn lexer_error(file: FileId, message: &str, start: Location, token_count: usize) -> Problem {
    let span = opener(Span::from_tokens(file, start.span_to(start)));
    let (message, help) = if message.starts_with("Unterminated dollar-quoted") {
        ("this text is never closed".to_owned(), "close it with the same `$…$` that opened it".to_owned())
    } else if message.starts_with("Unterminated") {
        let help = "write the closing `'` on the same line; a quote inside a text is written twice: `'it''s'`";
        ("this text is never closed".to_owned(), help.to_owned())
    } else if message.starts_with("Expected close delimiter") {
        ("this quoted name is never closed".to_owned(), "write the closing `\"` after the name".to_owned())
    } else if message.contains("comment") {
        ("this comment is never closed".to_owned(), "close it with `*/`, once for each `/*` inside it".to_owned())
    } else {
        let help = "a text stands in single quotes, a name with special characters in double quotes".to_owned();
        (lower_first(message), help)
    };
    let diagnostic = Diagnostic::error(message, span).with_help(help);
    Problem { diagnostic, token_count, resume_after: span.start.line as usize }
}

/// Cuts tokens into statements; `is_damaged` is about the last one, in which the lexer stopped.
fn split(
    file: FileId,
    tokens: Vec<TokenWithSpan>,
    is_damaged: bool,
    statements: &mut Vec<StatementTokens>,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let mut current: Vec<TokenWithSpan> = Vec::new();
    let mut tokens =
        tokens.into_iter().filter(|token| !matches!(token.token, Token::Whitespace(_) | Token::EOF)).peekable();
    while let Some(token) = tokens.next() {
        if token.token == Token::SemiColon {
            let end = Span::from_tokens(file, token.span);
            close(std::mem::take(&mut current), end, false, statements);
            continue;
        }
        let previous = current.last().map(|token| Span::from_tokens(file, token.span));
        let is_line_start = previous.is_none_or(|span| u64::from(span.end.line) < token.span.start.line);
        if let Some(previous) = previous
            && is_line_start
            && is_unquoted(&token.token, &["CREATE"])
            && tokens.peek().is_some_and(|next| is_unquoted(&next.token, &CREATED))
        {
            let end = after(previous);
            diagnostics.push(
                Diagnostic::error("expected `;` before the next statement", end)
                    .with_label("this statement has no end")
                    .with_help("end every statement with `;`"),
            );
            close(std::mem::take(&mut current), end, false, statements);
        }
        current.push(token);
    }
    let end = current.last().map(|token| after(Span::from_tokens(file, token.span)));
    if let Some(end) = end {
        close(current, end, is_damaged, statements);
    }
}

fn close(tokens: Vec<TokenWithSpan>, end: Span, is_damaged: bool, statements: &mut Vec<StatementTokens>) {
    if !tokens.is_empty() {
        statements.push(StatementTokens { tokens, end, is_damaged });
    }
}

/// The place just after `span`.
pub(crate) fn after(span: Span) -> Span {
    Span { start: span.end, ..span }
}

/// The first character of `span`.
pub(crate) fn opener(span: Span) -> Span {
    Span { end: Position { line: span.start.line, column: span.start.column + 1 }, ..span }
}

/// Whether `token` is one of the unquoted words, which are in upper case.
pub(crate) fn is_unquoted(token: &Token, words: &[&str]) -> bool {
    match token {
        Token::Word(Word { value, quote_style: None, .. }) => words.iter().any(|word| value.eq_ignore_ascii_case(word)),
        _ => false,
    }
}

fn begins_statement(line: &str) -> bool {
    let mut words = line.split_ascii_whitespace();
    words.next().is_some_and(|word| word.eq_ignore_ascii_case("CREATE"))
        && words.next().is_some_and(|word| CREATED.iter().any(|created| created.eq_ignore_ascii_case(word)))
}

fn after_lines(text: &str, lines: usize) -> &str {
    let mut rest = text;
    for _ in 0..lines {
        rest = rest.split_once('\n').map_or("", |(_, rest)| rest);
    }
    rest
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}
