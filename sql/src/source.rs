//! `CREATE SOURCE` and `CREATE TABLE`.

use bessemer_schemas::{
    Diagnostic, IncludeColumn, IncludeKind, Name, ORIGIN_COLUMN, OptionMap, SourceDefinition, SourceKind, nearest,
};
use sqlparser::tokenizer::Token;

use crate::column::{ColumnList, column_list};
use crate::context::Context;
use crate::cursor::Cursor;
use crate::source_check;
use crate::with_options::option_list;

const FORM: &str = "write `CREATE SOURCE name (columns) INCLUDE … WITH (…)`; columns and INCLUDE may be left out";

/// Reads what follows the name of a source.
pub(crate) fn source(
    ctx: &mut Context<'_>,
    cursor: &mut Cursor<'_>,
    name: Name,
    kind: SourceKind,
) -> Result<SourceDefinition, Diagnostic> {
    let list = if cursor.is_token(&Token::LParen) { column_list(ctx, cursor)? } else { ColumnList::default() };
    let includes = includes(ctx, cursor)?;
    if cursor.is_words(&["AS"]) {
        return Err(cursor.expected("`WITH (…)`", "a source reads files; for a query write `CREATE VIEW name AS …`"));
    }
    cursor.expect_words(&["WITH"], FORM)?;
    let entries = option_list(ctx, cursor)?;
    after_options(cursor)?;

    let owner = match kind {
        SourceKind::Log => format!("source `{}`", name.value),
        SourceKind::Table => format!("table `{}`", name.value),
    };
    let options = OptionMap::new(owner, name.span, entries);
    let columns = Some(list.columns).filter(|columns| !columns.is_empty());
    let source = SourceDefinition { name, kind, columns, watermark: list.watermark, includes, options };
    source_check::check(&source, &mut ctx.diagnostics);
    if !list.is_partial {
        source_check::check_references(&source, &mut ctx.diagnostics);
    }
    Ok(source)
}

fn after_options(cursor: &Cursor<'_>) -> Result<(), Diagnostic> {
    let help = match cursor.word().map(str::to_ascii_uppercase).as_deref() {
        Some("INCLUDE") => "write `INCLUDE …` before `WITH (…)`",
        Some("WITH") => "write all options in one `WITH (…)`",
        Some("AS") => "a source reads files; for a query write `CREATE VIEW name AS …`",
        _ => "end the statement with `;`",
    };
    cursor.finish("the options", help)
}

/// Reads `INCLUDE kind [AS name], …`, any number of times.
fn includes(ctx: &mut Context<'_>, cursor: &mut Cursor<'_>) -> Result<Vec<IncludeColumn>, Diagnostic> {
    let mut includes = Vec::new();
    while cursor.take_words(&["INCLUDE"]) {
        let list = cursor.take_until(|token| crate::lexer::is_unquoted(token, &["INCLUDE", "WITH"]));
        if list.is_at_end() {
            return Err(list.expected("what to include", "write `INCLUDE PATH AS file, ROW AS line`"));
        }
        for mut item in list.items("what to include", &mut ctx.diagnostics) {
            let result = include(&mut item);
            includes.extend(ctx.ok(result));
        }
    }
    Ok(includes)
}

fn include(item: &mut Cursor<'_>) -> Result<IncludeColumn, Diagnostic> {
    let span = item.span();
    let word = item.word().unwrap_or_default();
    let known = IncludeKind::ALL.iter().find(|(name, _)| name.eq_ignore_ascii_case(word));
    let Some((kind_name, kind)) = known else {
        let near = nearest(word, IncludeKind::ALL.iter().map(|(name, _)| *name));
        let help = near.map_or_else(
            || {
                "the choices are `PATH`, `ROW`, `MODIFIED` of files, and `KEY`, `VALUE`, `TIMESTAMP`, `TOPIC`, \
                 `PARTITION`, `OFFSET`, `HEADERS`, `OP`, `SOURCE_TIMESTAMP` of Kafka"
                    .to_owned()
            },
            |near| format!("did you mean `{near}`?"),
        );
        return Err(item.expected("what to include", help));
    };
    item.next();
    let name = if item.take_words(&["AS"]) {
        item.name("the column's name")?
    } else {
        Name { value: kind_name.to_ascii_lowercase(), span }
    };
    item.finish("an included column", "write `INCLUDE PATH AS file, ROW AS line`")?;
    Ok(IncludeColumn { kind: *kind, name })
}

/// Names that the engine keeps for itself.
pub(crate) fn refuse_reserved(name: &Name, diagnostics: &mut Vec<Diagnostic>) {
    if name.value.eq_ignore_ascii_case(ORIGIN_COLUMN) {
        let message = format!("the name `{}` is kept for the engine", name.value);
        diagnostics.push(Diagnostic::error(message, name.span).with_help("choose another name"));
    }
}
