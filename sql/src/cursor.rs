//! Reading the tokens of a statement, a list or one item of a list.
//!
//! A cursor knows where its stretch ends, so that what is missing at the end has a place too. Lists are cut into items
//! before they are read: a broken item costs one item.

use bessemer_schemas::{Diagnostic, FileId, Name, Span, nearest};
use sqlparser::tokenizer::{Token, TokenWithSpan, Word};

use crate::lexer::is_unquoted;

/// A position in a stretch of tokens.
#[derive(Debug, Clone)]
pub(crate) struct Cursor<'t> {
    tokens: &'t [TokenWithSpan],
    at: usize,
    file: FileId,
    end: End,
}

/// Where a stretch ends, and what stands there, for messages.
#[derive(Debug, Clone, Copy)]
pub(crate) struct End {
    pub(crate) span: Span,
    pub(crate) name: &'static str,
}

/// Words that PostgreSQL keeps for itself: as a name they must be quoted, in a query too.
const RESERVED: [&str; 52] = [
    "ALL",
    "AND",
    "ARRAY",
    "AS",
    "ASC",
    "BETWEEN",
    "CASE",
    "CAST",
    "CHECK",
    "CONSTRAINT",
    "CREATE",
    "CROSS",
    "DEFAULT",
    "DESC",
    "DISTINCT",
    "ELSE",
    "END",
    "EXCEPT",
    "EXISTS",
    "FALSE",
    "FROM",
    "FULL",
    "GROUP",
    "HAVING",
    "IN",
    "INNER",
    "INTERSECT",
    "INTO",
    "IS",
    "JOIN",
    "LATERAL",
    "LEFT",
    "LIKE",
    "LIMIT",
    "NOT",
    "NULL",
    "ON",
    "OR",
    "ORDER",
    "PRIMARY",
    "RIGHT",
    "SELECT",
    "TABLE",
    "THEN",
    "TRUE",
    "UNION",
    "UNIQUE",
    "USING",
    "WHEN",
    "WHERE",
    "WINDOW",
    "WITH",
];

impl<'t> Cursor<'t> {
    /// All tokens of a statement, which ends at `end`.
    pub(crate) fn statement(file: FileId, tokens: &'t [TokenWithSpan], end: Span) -> Self {
        Self::new(file, tokens, End { span: end, name: "the end of the statement" })
    }

    fn new(file: FileId, tokens: &'t [TokenWithSpan], end: End) -> Self {
        Self { tokens, at: 0, file, end }
    }

    pub(crate) fn peek(&self) -> Option<&'t TokenWithSpan> {
        self.peek_nth(0)
    }

    pub(crate) fn peek_nth(&self, n: usize) -> Option<&'t TokenWithSpan> {
        self.tokens.get(self.at + n)
    }

    pub(crate) fn next(&mut self) -> Option<&'t TokenWithSpan> {
        let token = self.tokens.get(self.at)?;
        self.at += 1;
        Some(token)
    }

    pub(crate) fn is_at_end(&self) -> bool {
        self.at >= self.tokens.len()
    }

    pub(crate) fn file(&self) -> FileId {
        self.file
    }

    /// Where this stretch ends.
    pub(crate) fn end(&self) -> Span {
        self.end.span
    }

    /// The end of a stretch that stops before the token at `at`.
    fn end_at(&self, at: usize) -> End {
        match self.tokens.get(at) {
            Some(token) => End {
                span: Span::from_tokens(self.file, token.span),
                name: if token.token == Token::Comma { "`,`" } else { "the end" },
            },
            None => self.end,
        }
    }

    /// The tokens that are left.
    pub(crate) fn rest(&self) -> &'t [TokenWithSpan] {
        &self.tokens[self.at.min(self.tokens.len())..]
    }

    /// Place of the next token, or of the end.
    pub(crate) fn span(&self) -> Span {
        self.peek().map_or(self.end.span, |token| Span::from_tokens(self.file, token.span))
    }

    /// Place of everything that is left, or of the end.
    pub(crate) fn rest_span(&self) -> Span {
        match self.rest() {
            [] => self.end.span,
            [.., last] => self.span().union(Span::from_tokens(self.file, last.span)),
        }
    }

    /// Place of the token just read.
    pub(crate) fn previous_span(&self) -> Span {
        let previous = self.at.checked_sub(1).and_then(|at| self.tokens.get(at));
        previous.map_or(self.end.span, |token| Span::from_tokens(self.file, token.span))
    }

    /// The next token if it is an unquoted word.
    pub(crate) fn word(&self) -> Option<&'t str> {
        match self.peek().map(|token| &token.token) {
            Some(Token::Word(Word { value, quote_style: None, .. })) => Some(value),
            _ => None,
        }
    }

    pub(crate) fn is_words(&self, words: &[&str]) -> bool {
        words
            .iter()
            .enumerate()
            .all(|(n, word)| self.peek_nth(n).is_some_and(|token| is_unquoted(&token.token, &[word])))
    }

    /// Takes these unquoted words, or nothing.
    pub(crate) fn take_words(&mut self, words: &[&str]) -> bool {
        let found = self.is_words(words);
        if found {
            self.at += words.len();
        }
        found
    }

    pub(crate) fn is_token(&self, token: &Token) -> bool {
        self.peek().is_some_and(|next| next.token == *token)
    }

    pub(crate) fn take(&mut self, token: &Token) -> bool {
        let found = self.is_token(token);
        if found {
            self.at += 1;
        }
        found
    }

    /// An error at the next token: `expected {what}, found …`.
    pub(crate) fn expected(&self, what: &str, help: impl Into<String>) -> Diagnostic {
        Diagnostic::error(format!("expected {what}, found {}", self.found()), self.span()).with_help(help)
    }

    /// The next token, for messages.
    pub(crate) fn found(&self) -> String {
        self.peek().map_or_else(|| self.end.name.to_owned(), |token| format!("`{}`", token.token))
    }

    /// An error at the next token, which is none of `words`: names the nearest one.
    pub(crate) fn unknown(&self, what: &str, words: &[&str]) -> Diagnostic {
        let near = self.word().and_then(|word| nearest(word, words.iter().copied()));
        let list = words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
        match near {
            Some(word) => self.expected(what, format!("did you mean `{word}`?")),
            None => self.expected(what, format!("write one of {list}")),
        }
    }

    pub(crate) fn expect_words(&mut self, words: &[&str], help: &str) -> Result<(), Diagnostic> {
        if self.take_words(words) {
            return Ok(());
        }
        // The words that are there are skipped, so that the caret stands where the sentence breaks.
        let mut at = self.clone();
        let mut missing = words;
        while let [first, rest @ ..] = missing {
            if !at.take_words(&[first]) {
                break;
            }
            missing = rest;
        }
        let first = missing.first().copied().unwrap_or_default();
        let near = at.word().and_then(|word| nearest(word, [first]));
        let help = near.map_or_else(|| help.to_owned(), |near| format!("did you mean `{near}`?"));
        Err(at.expected(&format!("`{}`", missing.join(" ")), help))
    }

    /// An identifier, as PostgreSQL reads it.
    pub(crate) fn name(&mut self, what: &str) -> Result<Name, Diagnostic> {
        let span = self.span();
        let Some(token) = self.peek() else {
            return Err(self.expected(what, "write a name"));
        };
        let Token::Word(word) = &token.token else {
            return Err(self.name_error(what, &token.token));
        };
        if self.is_words(&["WITH"]) || self.is_words(&["AS"]) || self.is_words(&["SELECT"]) {
            return Err(self.expected(what, format!("write a name before `{}`", word.value)));
        }
        if word.quote_style.is_none() && RESERVED.iter().any(|reserved| reserved.eq_ignore_ascii_case(&word.value)) {
            let help = format!("write `\"{}\"` in double quotes, here and in queries", word.value.to_ascii_lowercase());
            let message = format!("expected {what}, found the reserved word `{}`", word.value);
            return Err(Diagnostic::error(message, span).with_help(help));
        }
        self.at += 1;
        let value = match word.quote_style {
            Some(_) => word.value.clone(),
            None => word.value.to_ascii_lowercase(),
        };
        if value.is_empty() {
            return Err(Diagnostic::error("a name cannot be empty", span).with_help("write a name"));
        }
        Ok(Name { value, span })
    }

    fn name_error(&self, what: &str, token: &Token) -> Diagnostic {
        match token {
            Token::SingleQuotedString(text) => self.expected(
                what,
                format!(
                    "names are written without quotes, or in double quotes: `\"{text}\"`; single quotes make a text"
                ),
            ),
            Token::Number(..) => {
                let help = "a name begins with a letter or `_`; put it in double quotes if it must begin with a digit";
                self.expected(what, help)
            }
            Token::Char('`') => self.expected(what, "names with special characters stand in double quotes: `\"name\"`"),
            _ => self.expected(what, "write a name"),
        }
    }

    /// Reads `( … )`; the statement's parentheses are already known to balance.
    pub(crate) fn group(&mut self, what: &str, help: &str) -> Result<Cursor<'t>, Diagnostic> {
        if !self.is_token(&Token::LParen) {
            return Err(self.expected(&format!("`(` {what}"), help));
        }
        let open = self.at;
        let length = group_length(&self.tokens[open..]);
        self.at = open + length;
        let close = End { span: self.previous_span(), name: "`)`" };
        Ok(Cursor::new(self.file, &self.tokens[open + 1..(open + length).saturating_sub(1).max(open + 1)], close))
    }

    /// Cuts what is left at its commas; commas inside brackets do not count, inside the `<…>` of types neither.
    /// An empty item is reported, the trailing comma as what it is.
    pub(crate) fn items(&self, what: &str, diagnostics: &mut Vec<Diagnostic>) -> Vec<Cursor<'t>> {
        let mut items = Vec::new();
        let mut depth = Depth::default();
        self.rest().iter().enumerate().for_each(|(at, token)| depth.pass(at, &token.token));
        let unclosed = depth.angles;

        let mut from = self.at;
        let mut depth = Depth { ignored: unclosed, ..Depth::default() };
        for at in self.at..=self.tokens.len() {
            let token = self.tokens.get(at).map(|token| &token.token);
            if let Some(token) = token {
                depth.pass(at - self.at, token);
                if *token != Token::Comma || !depth.is_top() {
                    continue;
                }
            }
            let end = self.end_at(at);
            if from < at {
                items.push(Cursor::new(self.file, &self.tokens[from..at], end));
            } else if token.is_some() || from > self.at {
                diagnostics.push(self.empty_item(what, from, token.is_none()));
            }
            from = at + 1;
        }
        items
    }

    fn empty_item(&self, what: &str, at: usize, is_last: bool) -> Diagnostic {
        let comma = if is_last { at.saturating_sub(1) } else { at };
        let span = self.tokens.get(comma).map_or(self.end.span, |token| Span::from_tokens(self.file, token.span));
        let message =
            if is_last { "a comma with nothing after it".to_owned() } else { format!("expected {what}, found `,`") };
        Diagnostic::error(message, span).with_help("remove this comma")
    }

    /// Fails if something is left.
    pub(crate) fn finish(&self, after: &str, help: &str) -> Result<(), Diagnostic> {
        if self.is_at_end() {
            return Ok(());
        }
        Err(Diagnostic::error(format!("unexpected {} after {after}", self.found()), self.span()).with_help(help))
    }

    /// A cursor over what is left up to the first token that `stop` names, outside of brackets.
    pub(crate) fn take_until(&mut self, mut stop: impl FnMut(&Token) -> bool) -> Cursor<'t> {
        let (from, mut depth) = (self.at, Depth::default());
        while let Some(token) = self.peek() {
            if depth.is_top() && stop(&token.token) {
                break;
            }
            depth.pass(self.at - from, &token.token);
            self.at += 1;
        }
        Cursor::new(self.file, &self.tokens[from..self.at], self.end_at(self.at))
    }
}

/// How deep in brackets a token stands.
#[derive(Default)]
struct Depth {
    brackets: usize,
    /// Where each open `<` stands.
    angles: Vec<usize>,
    /// Each `<` that is never closed: it must not swallow the rest of a list.
    ignored: Vec<usize>,
    is_type: bool,
}

impl Depth {
    fn is_top(&self) -> bool {
        self.brackets == 0 && self.angles.is_empty()
    }

    /// `<` is a bracket only after the name of a nested type, and outside of other brackets.
    fn pass(&mut self, at: usize, token: &Token) {
        let is_outside = self.brackets == 0;
        match token {
            Token::LParen | Token::LBracket | Token::LBrace => self.brackets += 1,
            Token::RParen | Token::RBracket | Token::RBrace => self.brackets = self.brackets.saturating_sub(1),
            Token::Lt if is_outside && self.is_type && !self.ignored.contains(&at) => self.angles.push(at),
            Token::Gt if is_outside => self.angles.truncate(self.angles.len().saturating_sub(1)),
            Token::ShiftRight if is_outside => self.angles.truncate(self.angles.len().saturating_sub(2)),
            _ => {}
        }
        self.is_type = is_unquoted(token, &["ARRAY", "STRUCT", "MAP"]);
    }
}

/// How many tokens the group at the beginning has, its brackets included.
fn group_length(tokens: &[TokenWithSpan]) -> usize {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate() {
        match token.token {
            Token::LParen => depth += 1,
            Token::RParen => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    tokens.len()
}
