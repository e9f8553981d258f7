//! Places in the text of a pipeline.

use sqlparser::tokenizer::Span as TokenSpan;

/// Which file of a pipeline; an index into [`SourceFiles`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct FileId(pub u32);

/// A line and a column, both from 1; the column counts characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position {
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

/// A stretch of text in one file; `end` is the position after the last character.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span {
    /// The file.
    pub file: FileId,
    /// First character.
    pub start: Position,
    /// One past the last character.
    pub end: Position,
}

impl Span {
    /// A span of `sqlparser` in `file`. Its columns are already from 1; an empty span (line 0) becomes line 1.
    pub fn from_tokens(file: FileId, span: TokenSpan) -> Self {
        let position = |location: sqlparser::tokenizer::Location| Position {
            line: u32::try_from(location.line).unwrap_or(u32::MAX).max(1),
            column: u32::try_from(location.column).unwrap_or(u32::MAX).max(1),
        };
        Self { file, start: position(span.start), end: position(span.end) }
    }

    /// The smallest span that covers both; both are in one file.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self { file: self.file, start: self.start.min(other.start), end: self.end.max(other.end) }
    }
}

/// One file of a pipeline: its path as the user gave it and its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// Path as given on the command line, for messages.
    pub path: String,
    /// The whole text, after `${VARIABLE}` substitution has been resolved token by token (the text is unchanged).
    pub text: String,
}

/// The files of a pipeline, in the order in which they were given.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SourceFiles(pub Vec<SourceFile>);

impl SourceFiles {
    /// The file of `id`, if there is one.
    pub fn file(&self, id: FileId) -> Option<&SourceFile> {
        self.0.get(id.0 as usize)
    }
}
