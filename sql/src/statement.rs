//! One statement: what it is, and the short ones.

use bessemer_schemas::{
    Diagnostic, FeatureSetDefinition, Name, OptionEntry, OptionMap, PipelineDefinition, SourceDefinition, SourceKind,
    ViewDefinition,
};
use sqlparser::tokenizer::Token;

use crate::balance;
use crate::context::Context;
use crate::cursor::Cursor;
use crate::feature_set::feature_set;
use crate::lexer::StatementTokens;
use crate::query;
use crate::source::source;
use crate::with_options::{option, option_list};

/// What a statement defines.
#[derive(Debug, Clone)]
pub(crate) enum Statement {
    Pipeline(PipelineDefinition),
    Setting(OptionEntry),
    Source(Box<SourceDefinition>),
    View(ViewDefinition),
    FeatureSet(FeatureSetDefinition),
}

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Pipeline,
    Source,
    Table,
    View,
    FeatureSet,
}

impl Kind {
    /// Whether it shares the namespace of what queries read.
    pub(crate) fn is_relation(self) -> bool {
        self != Self::Pipeline
    }

    /// For messages.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Pipeline => "pipeline",
            Self::Source => "source",
            Self::Table => "table",
            Self::View => "view",
            Self::FeatureSet => "feature set",
        }
    }
}

/// One statement as far as it could be read.
#[derive(Debug)]
pub(crate) struct Parsed {
    /// What it creates, also where the rest is broken: others may still refer to it.
    pub(crate) name: Option<(Kind, Name)>,
    /// `None` where it could not be read to its end.
    pub(crate) statement: Option<Statement>,
    /// It has no error of its own.
    pub(crate) is_sound: bool,
}

impl Parsed {
    /// Whether it reads no other statement, however broken it is.
    pub(crate) fn is_without_query(&self) -> bool {
        matches!(self.name, Some((Kind::Pipeline | Kind::Source | Kind::Table, _)))
            || matches!(self.statement, Some(Statement::Setting(_)))
    }
}

/// Reads one statement; its problems are reported to `ctx`.
pub(crate) fn parse(ctx: &mut Context<'_>, tokens: &StatementTokens) -> Parsed {
    let errors = ctx.error_count();
    let mut cursor = Cursor::statement(ctx.file, &tokens.tokens, tokens.end);
    let mut name = None;
    let statement = if tokens.is_damaged {
        name = peek_name(&mut cursor);
        None
    } else {
        let result = balance::check(ctx.file, &tokens.tokens).and_then(|()| {
            let statement = statement(ctx, &mut cursor, &mut name)?;
            let after = "the statement";
            let is_open = !matches!(statement, Statement::View(_) | Statement::FeatureSet(_));
            if is_open { cursor.finish(after, "end the statement with `;`").map(|()| statement) } else { Ok(statement) }
        });
        ctx.ok(result)
    };
    if name.is_none() {
        name = peek_name(&mut Cursor::statement(ctx.file, &tokens.tokens, tokens.end));
    }

    let is_sound = !tokens.is_damaged && ctx.error_count() == errors;
    Parsed { name, statement, is_sound }
}

/// The name that a broken statement creates, as far as it can be seen.
fn peek_name(cursor: &mut Cursor<'_>) -> Option<(Kind, Name)> {
    let kind = cursor.take_words(&["CREATE"]).then(|| created(cursor))?.ok()?;
    Some((kind, cursor.name("a name").ok()?))
}

const STATEMENTS: [&str; 2] = ["CREATE", "SET"];

fn statement(
    ctx: &mut Context<'_>,
    cursor: &mut Cursor<'_>,
    created_name: &mut Option<(Kind, Name)>,
) -> Result<Statement, Diagnostic> {
    if cursor.take_words(&["SET"]) {
        return setting(ctx, cursor);
    }
    if !cursor.is_words(&["CREATE"]) {
        return Err(not_a_statement(cursor));
    }
    cursor.next();
    let kind = created(cursor)?;
    let name = name_of(cursor, kind)?;
    *created_name = Some((kind, name.clone()));
    match kind {
        Kind::Pipeline => pipeline(ctx, cursor, name).map(Statement::Pipeline),
        Kind::Source => source(ctx, cursor, name, SourceKind::Log).map(|source| Statement::Source(Box::new(source))),
        Kind::Table => source(ctx, cursor, name, SourceKind::Table).map(|source| Statement::Source(Box::new(source))),
        Kind::View => view(cursor, name).map(Statement::View),
        Kind::FeatureSet => feature_set(ctx, cursor, name).map(Statement::FeatureSet),
    }
}

fn not_a_statement(cursor: &Cursor<'_>) -> Diagnostic {
    let what = "a statement";
    match cursor.word().map(str::to_ascii_uppercase).as_deref() {
        Some("SELECT" | "WITH" | "VALUES" | "FROM") => cursor.expected(
            what,
            "give the query a name: `CREATE VIEW name AS SELECT …`, or `CREATE FEATURE SET name WITH (path = '…') AS SELECT …`",
        ),
        Some("INSERT" | "UPDATE" | "DELETE" | "MERGE" | "COPY") => {
            cursor.expected(what, "a pipeline only defines; rows are written by `CREATE FEATURE SET name … AS SELECT …`")
        }
        Some("DROP" | "ALTER" | "TRUNCATE") => {
            cursor.expected(what, "the files are the whole definition: edit or remove the `CREATE` statement itself")
        }
        Some("PIPELINE" | "SOURCE" | "TABLE" | "VIEW" | "FEATURE") => {
            cursor.expected(what, format!("write `CREATE` before {}", cursor.found()))
        }
        _ => cursor.unknown(what, &STATEMENTS),
    }
}

/// What `CREATE` may create.
const KINDS: [&str; 5] = ["PIPELINE", "SOURCE", "TABLE", "VIEW", "FEATURE SET"];

fn created(cursor: &mut Cursor<'_>) -> Result<Kind, Diagnostic> {
    if cursor.is_words(&["OR"]) {
        return Err(
            cursor.expected("what to create", "remove `OR REPLACE`: a definition takes effect when the file is edited")
        );
    }
    if cursor.is_words(&["TEMPORARY"]) || cursor.is_words(&["TEMP"]) || cursor.is_words(&["MATERIALIZED"]) {
        let word = cursor.found();
        return Err(
            cursor.expected("what to create", format!("remove {word}: write `CREATE VIEW` or `CREATE FEATURE SET`"))
        );
    }
    if cursor.is_words(&["EXTERNAL"]) {
        return Err(
            cursor.expected("what to create", "write `CREATE SOURCE` or `CREATE TABLE`, with the path in `WITH (…)`")
        );
    }
    if cursor.is_words(&["SINK"]) {
        return Err(cursor.expected("what to create", "write `CREATE FEATURE SET`, with the path in `WITH (…)`"));
    }
    if cursor.is_words(&["TRAINING"]) {
        return Err(Diagnostic::error("`CREATE TRAINING SET` is not available in this version", cursor.span())
            .with_help(
                "write a feature set with the query of the training set: `CREATE FEATURE SET name … AS SELECT …`",
            ));
    }
    if cursor.is_words(&["FEATURE"]) {
        if cursor.peek_nth(1).is_some_and(|token| crate::lexer::is_unquoted(&token.token, &["VIEW"])) {
            cursor.next();
            return Err(
                cursor.expected("`SET`", "write `CREATE VIEW` for a query, `CREATE FEATURE SET` for what is written")
            );
        }
        cursor.expect_words(&["FEATURE", "SET"], "write `CREATE FEATURE SET name`")?;
        return Ok(Kind::FeatureSet);
    }
    let kinds = [("PIPELINE", Kind::Pipeline), ("SOURCE", Kind::Source), ("TABLE", Kind::Table), ("VIEW", Kind::View)];
    match kinds.iter().find(|(word, _)| cursor.take_words(&[word])) {
        Some((_, kind)) => Ok(*kind),
        None => Err(cursor.unknown("what to create", &KINDS)),
    }
}

fn name_of(cursor: &mut Cursor<'_>, kind: Kind) -> Result<Name, Diagnostic> {
    if cursor.is_words(&["IF"]) {
        let help = "remove `IF NOT EXISTS`: the files are the whole definition, nothing exists beside them";
        return Err(cursor.expected(&format!("the name of the {}", kind.word()), help));
    }
    let name = cursor.name(&format!("the name of the {}", kind.word()))?;
    if cursor.is_token(&Token::Period) {
        let help = "names have no schema: write one name, such as `airport_flights`";
        return Err(Diagnostic::error("a name has no `.`", cursor.span()).with_help(help));
    }
    Ok(name)
}

fn pipeline(ctx: &mut Context<'_>, cursor: &mut Cursor<'_>, name: Name) -> Result<PipelineDefinition, Diagnostic> {
    let entries = if cursor.is_at_end() {
        Vec::new()
    } else {
        cursor.expect_words(&["WITH"], "write `CREATE PIPELINE name WITH (key = 'value')`")?;
        option_list(ctx, cursor)?
    };
    let options = OptionMap::new(format!("pipeline `{}`", name.value), name.span, entries);
    Ok(PipelineDefinition { name, options })
}

fn view(cursor: &mut Cursor<'_>, name: Name) -> Result<ViewDefinition, Diagnostic> {
    if cursor.is_token(&Token::LParen) {
        let help = "a view takes its columns from its query: write `AS SELECT a AS name, …`";
        return Err(cursor.expected("`AS`", help));
    }
    if cursor.is_words(&["WITH"]) {
        return Err(cursor.expected("`AS`", "a view has no options; write `AS` before a query that begins with `WITH`"));
    }
    cursor.expect_words(&["AS"], "write `CREATE VIEW name AS SELECT …`")?;
    let query_span = cursor.rest_span();
    Ok(ViewDefinition { name, query: query::query(cursor)?, query_span })
}

fn setting(ctx: &Context<'_>, cursor: &mut Cursor<'_>) -> Result<Statement, Diagnostic> {
    if cursor.is_at_end() {
        return Err(cursor.expected("the name of an option", "write `SET key = 'value';`"));
    }
    option(ctx, &mut cursor.take_until(|_| false)).map(Statement::Setting)
}
