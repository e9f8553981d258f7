//! The column list of a source: columns, and the watermark among them.

use arrow_schema::DataType;
use bessemer_schemas::{ColumnDefinition, Diagnostic, Name, WatermarkDefinition, nearest};
use sqlparser::tokenizer::{Token, TokenWithSpan};

use crate::context::Context;
use crate::cursor::Cursor;
use crate::data_type::{data_type, is_type_name};
use crate::lexer::is_unquoted;
use crate::literal::default_value;
use crate::query;
use crate::watermark::watermark;

/// What stands in the parentheses after a source's name.
#[derive(Default)]
pub(crate) struct ColumnList {
    pub(crate) columns: Vec<ColumnDefinition>,
    pub(crate) watermark: Option<WatermarkDefinition>,
    /// Some column could not be read, so a name that is not here may be its.
    pub(crate) is_partial: bool,
}

/// Reads `( column, …, WATERMARK FOR … )`; each bad item is reported and left out.
pub(crate) fn column_list(ctx: &mut Context<'_>, cursor: &mut Cursor<'_>) -> Result<ColumnList, Diagnostic> {
    let start = cursor.span();
    let list = cursor.group("with columns", "write `(name TYPE, …)`")?;
    if list.is_at_end() {
        return Err(Diagnostic::error("the column list is empty", start.union(list.end()))
            .with_help("leave the parentheses out: the columns are then taken from the files"));
    }
    let mut columns = ColumnList::default();
    for mut item in list.items("a column", &mut ctx.diagnostics) {
        let result = if item.is_words(&["WATERMARK", "FOR"]) {
            watermark(&mut item).and_then(|watermark| columns.set_watermark(watermark))
        } else {
            column(ctx, &mut item).and_then(|column| columns.push(column))
        };
        columns.is_partial |= ctx.ok(result).is_none();
    }
    Ok(columns)
}

impl ColumnList {
    fn push(&mut self, column: ColumnDefinition) -> Result<(), Diagnostic> {
        if let Some(first) = self.columns.iter().find(|other| other.name.value == column.name.value) {
            let message = format!("column `{}` is declared twice", column.name.value);
            return Err(Diagnostic::error(message, column.name.span).with_help(format!(
                "it is already declared on line {}: remove one of the two",
                first.name.span.start.line
            )));
        }
        self.columns.push(column);
        Ok(())
    }

    fn set_watermark(&mut self, watermark: WatermarkDefinition) -> Result<(), Diagnostic> {
        if let Some(first) = &self.watermark {
            return Err(Diagnostic::error("a source has one watermark", watermark.span)
                .with_help(format!("the first is on line {}: keep one of the two", first.span.start.line)));
        }
        self.watermark = Some(watermark);
        Ok(())
    }
}

/// What may follow the type of a column.
const COLUMN_CLAUSES: [&str; 5] = ["NOT NULL", "NULL", "DEFAULT", "GENERATED ALWAYS AS", "TAG"];

fn column(ctx: &mut Context<'_>, item: &mut Cursor<'_>) -> Result<ColumnDefinition, Diagnostic> {
    refuse_table_constraint(item)?;
    let name = item.name("a column's name")?;
    let type_start = item.span();
    let data_type = column_type(ctx, item, &name)?;
    let mut column = ColumnDefinition {
        name,
        data_type,
        type_span: type_start.union(item.previous_span()),
        nullable: true,
        default: None,
        generated: None,
    };

    let mut nullability = None;
    while !item.is_at_end() {
        column_clause(item, &mut column, &mut nullability)?;
    }
    column.nullable = nullability.unwrap_or(true);
    if column.default.is_some() && column.generated.is_some() {
        let message = format!("column `{}` has both a default and an expression", column.name.value);
        return Err(Diagnostic::error(message, column.name.span)
            .with_help("a generated column is never read from the files: remove its `DEFAULT`"));
    }
    if column.generated.is_some() && !column.nullable {
        let name = &column.name.value;
        let message = format!("generated column `{name}` cannot be `NOT NULL`: that is asked of what is read");
        return Err(Diagnostic::error(message, column.name.span).with_help(format!(
            "remove `NOT NULL`; in the feature set write `CONSTRAINT name EXPECT ({name} IS NOT NULL)`"
        )));
    }
    Ok(column)
}

fn column_type(ctx: &mut Context<'_>, item: &mut Cursor<'_>, name: &Name) -> Result<DataType, Diagnostic> {
    if item.is_at_end() || item.is_words(&["NOT"]) || item.is_words(&["DEFAULT"]) || item.is_words(&["GENERATED"]) {
        return Err(Diagnostic::error(format!("column `{}` has no type", name.value), name.span)
            .with_help(format!("write `{} VARCHAR` or another type", name.value)));
    }
    data_type(item, &mut ctx.diagnostics)
}

fn column_clause(
    item: &mut Cursor<'_>,
    column: &mut ColumnDefinition,
    nullability: &mut Option<bool>,
) -> Result<(), Diagnostic> {
    let span = item.span();
    let twice = |what: &str| {
        let message = format!("{what} is written twice for column `{}`", column.name.value);
        Err(Diagnostic::error(message, span).with_help("write it once"))
    };
    if item.is_words(&["NOT"]) {
        item.expect_words(&["NOT", "NULL"], "write `NOT NULL`")?;
        return if nullability.replace(false).is_some() { twice("`NULL` or `NOT NULL`") } else { Ok(()) };
    }
    if item.take_words(&["NULL"]) {
        return if nullability.replace(true).is_some() { twice("`NULL` or `NOT NULL`") } else { Ok(()) };
    }
    if item.take_words(&["DEFAULT"]) {
        if column.default.is_some() {
            return twice("`DEFAULT`");
        }
        let mut is_first = true;
        let mut value = item.take_until(|token| ends_default(token, std::mem::replace(&mut is_first, false)));
        column.default = Some(default_value(&mut value, column)?);
        return Ok(());
    }
    if item.is_words(&["GENERATED"]) || item.is_words(&["AS"]) {
        if column.generated.is_some() {
            return twice("`GENERATED`");
        }
        column.generated = Some(generated(item)?);
        return Ok(());
    }
    Err(unknown_clause(item, column))
}

/// `NULL` is a value where it stands first, and the next clause where it follows one.
fn ends_default(token: &Token, is_first: bool) -> bool {
    is_unquoted(token, &["NOT", "GENERATED", "TAG", "PRIMARY", "UNIQUE", "CHECK", "REFERENCES"])
        || !is_first && is_unquoted(token, &["NULL"])
}

fn generated(item: &mut Cursor<'_>) -> Result<sqlparser::ast::Expr, Diagnostic> {
    let help = "write `GENERATED ALWAYS AS (expression)`";
    item.expect_words(&["GENERATED", "ALWAYS", "AS"], help)?;
    if item.is_words(&["IDENTITY"]) {
        return Err(item.expected(
            "`(`",
            "numbers that count up would depend on the order of reading; INCLUDE ROW numbers the rows of a file",
        ));
    }
    let inner = item.group("before the expression", help)?;
    if item.is_words(&["VIRTUAL"]) {
        return Err(item
            .expected("`STORED` or nothing", "remove `VIRTUAL`: a generated column is computed when its row is read"));
    }
    item.take_words(&["STORED"]);
    query::expr(&inner, "expression")
}

fn unknown_clause(item: &Cursor<'_>, column: &ColumnDefinition) -> Diagnostic {
    let name = &column.name.value;
    let word = item.word().unwrap_or_default().to_ascii_uppercase();
    let help = match word.as_str() {
        "TAG" => {
            let message = "tags on columns are not available in this version";
            return Diagnostic::error(message, item.span())
                .with_help("remove `TAG (…)`: masking of tagged columns comes with the governance statements");
        }
        "PRIMARY" | "UNIQUE" | "REFERENCES" | "KEY" => {
            "a source has no keys: the keys of a feature set are its `ENTITY (…)`".to_owned()
        }
        "CHECK" | "CONSTRAINT" | "EXPECT" => {
            "what must be true of rows is written in the feature set: `CONSTRAINT name EXPECT (…)`".to_owned()
        }
        "COLLATE" => "texts are compared by their bytes: remove `COLLATE`".to_owned(),
        "COMMENT" => "write a comment with `--`".to_owned(),
        "WITH" | "WITHOUT" => "only `TIMESTAMP` has a time zone".to_owned(),
        "UNSIGNED" => "only whole numbers can be `UNSIGNED`".to_owned(),
        _ if item.peek_nth(1).is_some_and(names_type) => {
            format!("write a comma before `{}`", word.to_ascii_lowercase())
        }
        _ => match nearest(&word, COLUMN_CLAUSES.iter().flat_map(|clause| clause.split(' ').take(1))) {
            Some(near) => format!("did you mean `{near}`?"),
            None => {
                format!("after the type may stand {}", COLUMN_CLAUSES.map(|clause| format!("`{clause}`")).join(", "))
            }
        },
    };
    let message = format!("unexpected {} in the definition of column `{name}`", item.found());
    Diagnostic::error(message, item.span()).with_help(help)
}

fn names_type(token: &TokenWithSpan) -> bool {
    matches!(&token.token, Token::Word(word) if word.quote_style.is_none() && is_type_name(&word.value))
}

/// Table constraints of other databases, which have another place here.
fn refuse_table_constraint(item: &Cursor<'_>) -> Result<(), Diagnostic> {
    let keys = "a source has no keys: the keys of a feature set are its `ENTITY (…)`";
    let rules = "what must be true of rows is written in the feature set: `CONSTRAINT name EXPECT (…)`";
    let refused: [(&[&str], &str); 7] = [
        (&["PRIMARY", "KEY"], keys),
        (&["FOREIGN", "KEY"], keys),
        (&["UNIQUE"], keys),
        (&["CONSTRAINT"], rules),
        (&["CHECK"], rules),
        (&["EXPECT"], rules),
        (&["LIKE"], "write the columns, or leave the list out to take them from the files"),
    ];
    let is_type_next = item.peek_nth(1).is_some_and(names_type);
    match refused.iter().find(|(words, _)| item.is_words(words)).filter(|_| !is_type_next) {
        Some((words, help)) => {
            let message = format!("`{}` has no place in the column list of a source", words.join(" "));
            Err(Diagnostic::error(message, item.span()).with_help(*help))
        }
        None => Ok(()),
    }
}
