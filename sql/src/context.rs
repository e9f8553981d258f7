//! What the parsing of one file carries along: its text, the environment, and the problems found so far.

use bessemer_schemas::{Diagnostic, FileId, Span};

/// The environment of `${NAME}` and `secret('NAME')`, as the caller gives it.
pub(crate) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// One file being parsed.
pub(crate) struct Context<'a> {
    pub(crate) file: FileId,
    pub(crate) environment: Environment<'a>,
    pub(crate) diagnostics: Vec<Diagnostic>,
    lines: Vec<&'a str>,
}

impl<'a> Context<'a> {
    pub(crate) fn new(file: FileId, text: &'a str, environment: Environment<'a>) -> Self {
        Self { file, environment, diagnostics: Vec::new(), lines: text.split('\n').collect() }
    }

    pub(crate) fn report(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }

    /// Reports an error and goes on without the value.
    pub(crate) fn ok<T>(&mut self, result: Result<T, Diagnostic>) -> Option<T> {
        result.map_err(|diagnostic| self.report(diagnostic)).ok()
    }

    pub(crate) fn error_count(&self) -> usize {
        self.diagnostics.iter().filter(|diagnostic| diagnostic.is_error()).count()
    }

    /// The text of `span` as it stands in the file, up to the end of its first line.
    pub(crate) fn text_of(&self, span: Span) -> String {
        let Some(line) = self.lines.get(span.start.line.saturating_sub(1) as usize) else {
            return String::new();
        };
        let skip = span.start.column.saturating_sub(1) as usize;
        let wanted = if span.end.line == span.start.line {
            span.end.column.saturating_sub(span.start.column) as usize
        } else {
            usize::MAX
        };
        line.trim_end_matches('\r').chars().skip(skip).take(wanted).collect()
    }
}
