//! `WITH (key = value, …)`, and the texts in it: `${NAME}` and `secret('NAME')` are resolved from the environment.

use std::collections::BTreeMap;

use bessemer_schemas::{Diagnostic, OptionEntry, OptionValue, Position, Secret, Span, nearest};
use sqlparser::tokenizer::{Token, TokenWithSpan, Word};

use crate::context::Context;
use crate::cursor::Cursor;

/// Reads `( key = value, … )`; each bad entry is reported and left out.
pub(crate) fn option_list(ctx: &mut Context<'_>, cursor: &mut Cursor<'_>) -> Result<Vec<OptionEntry>, Diagnostic> {
    let list = cursor.group("with options", "write `WITH (key = 'value', …)`")?;
    let mut entries: Vec<OptionEntry> = Vec::new();
    let mut places: BTreeMap<String, Span> = BTreeMap::new();
    for mut item in list.items("an option", &mut ctx.diagnostics) {
        let entry = option(ctx, &mut item);
        let Some(entry) = ctx.ok(entry) else { continue };
        if let Some(first) = places.get(&entry.key) {
            ctx.report(repeated(&entry, *first));
        } else {
            places.insert(entry.key.clone(), entry.key_span);
            entries.push(entry);
        }
    }
    Ok(entries)
}

/// The error for an option that was already given at `first`.
pub(crate) fn repeated(entry: &OptionEntry, first: Span) -> Diagnostic {
    Diagnostic::error(format!("option `{}` is written twice", entry.key), entry.key_span)
        .with_help(format!("it is already given on line {}: keep one of the two", first.start.line))
}

/// Reads `key = value`.
pub(crate) fn option(ctx: &Context<'_>, item: &mut Cursor<'_>) -> Result<OptionEntry, Diagnostic> {
    let (key, key_span) = key(item)?;
    equals(item, &key)?;
    let (value, value_span) = value(ctx, item, &key)?;
    finish(ctx, item, &key, value_span)?;
    Ok(OptionEntry { key, key_span, value, value_span })
}

/// A dotted key is one key: `aws.region`, or `'aws.region'`.
fn key(item: &mut Cursor<'_>) -> Result<(String, Span), Diagnostic> {
    let mut span = item.span();
    let mut key = String::new();
    loop {
        match item.peek().map(|token| &token.token) {
            Some(Token::Word(Word { value, .. })) => key.push_str(value),
            Some(Token::SingleQuotedString(text)) if key.is_empty() && !text.is_empty() => key.push_str(text),
            _ => return Err(item.expected("the name of an option", "write `key = 'value'`")),
        }
        item.next();
        span = span.union(item.previous_span());
        if !item.take(&Token::Period) {
            return Ok((key.to_ascii_lowercase(), span));
        }
        key.push('.');
    }
}

fn equals(item: &mut Cursor<'_>, key: &str) -> Result<(), Diagnostic> {
    if item.take(&Token::Eq) {
        return Ok(());
    }
    let help = match item.peek().map(|token| &token.token) {
        Some(Token::DoubleEq | Token::Colon | Token::Assignment | Token::RArrow) => {
            format!("write `{key} = …` with a single `=`")
        }
        Some(Token::Minus) => format!("write `_` instead of `-` in a key: `{key}_…`"),
        _ => format!("write `{key} = 'value'`"),
    };
    Err(item.expected("`=`", help))
}

fn value(ctx: &Context<'_>, item: &mut Cursor<'_>, key: &str) -> Result<(OptionValue, Span), Diagnostic> {
    let span = item.span();
    let value = match item.peek().map(|token| &token.token) {
        Some(Token::SingleQuotedString(text) | Token::EscapedStringLiteral(text)) => {
            OptionValue::Text(substitute(ctx, text, span)?)
        }
        Some(Token::DollarQuotedString(text)) => OptionValue::Text(text.value.clone()),
        Some(Token::Number(number, _)) => OptionValue::Number(number.replace('_', "")),
        Some(sign @ (Token::Minus | Token::Plus)) => match item.peek_nth(1).map(|token| &token.token) {
            Some(Token::Number(number, _)) => {
                item.next();
                let sign = if *sign == Token::Minus { "-" } else { "" };
                OptionValue::Number(format!("{sign}{}", number.replace('_', "")))
            }
            _ => return Err(unquoted(ctx, item, key)),
        },
        Some(Token::Word(word)) if word.quote_style.is_some() => {
            return Err(Diagnostic::error(format!("`{key}` cannot be a name"), span)
                .with_label("double quotes make a name, single quotes a text")
                .with_help(format!("write `{key} = '{}'`", word.value)));
        }
        Some(Token::Word(_)) if item.is_words(&["SECRET"]) => return secret(ctx, item),
        Some(Token::Word(_)) if item.is_words(&["INTERVAL"]) => match (item.peek_nth(1), item.peek_nth(2)) {
            // A duration as SQL writes it.
            (Some(TokenWithSpan { token: Token::SingleQuotedString(text), .. }), None) => {
                item.next();
                OptionValue::Text(text.clone())
            }
            _ => return Err(unquoted(ctx, item, key)),
        },
        Some(Token::Word(word)) if word.value.eq_ignore_ascii_case("true") => OptionValue::Bool(true),
        Some(Token::Word(word)) if word.value.eq_ignore_ascii_case("false") => OptionValue::Bool(false),
        None => return Err(item.expected("a value", format!("write `{key} = 'value'`"))),
        Some(_) => return Err(unquoted(ctx, item, key)),
    };
    item.next();
    Ok((value, span.union(item.previous_span())))
}

fn secret(ctx: &Context<'_>, item: &mut Cursor<'_>) -> Result<(OptionValue, Span), Diagnostic> {
    let help = "write `secret('NAME')`, where `NAME` is an environment variable";
    let span = item.span();
    item.next();
    let mut inner = item.group("after `secret`", help)?;
    let span = span.union(item.previous_span());
    let name_span = inner.span();
    let Some(Token::SingleQuotedString(name)) = inner.next().map(|token| &token.token) else {
        return Err(Diagnostic::error("the name of a secret is a text in single quotes", span).with_help(help));
    };
    inner.finish("the name of the secret", help)?;
    match (ctx.environment)(name) {
        Some(secret) => Ok((OptionValue::Secret(Secret::new(secret)), span)),
        None => Err(Diagnostic::error(format!("secret `{name}` is not set"), name_span)
            .with_help(format!("set the environment variable `{name}` before you start the program"))),
    }
}

/// What is left after a value: a missing comma, or a value without quotes.
fn finish(ctx: &Context<'_>, item: &Cursor<'_>, key: &str, value_span: Span) -> Result<(), Diagnostic> {
    if item.is_at_end() {
        return Ok(());
    }
    if is_next_option(item) {
        let next = item.found();
        return Err(Diagnostic::error(format!("expected `,` before the next option, found {next}"), item.span())
            .with_help(format!("write a comma before {next}")));
    }
    let span = value_span.union(item.rest_span());
    let text = ctx.text_of(span);
    if text.starts_with('\'') {
        let help = "a value is one text; a quote inside a text is written twice: `'it''s'`";
        return item.finish(&format!("the value of `{key}`"), help);
    }
    Err(Diagnostic::error(format!("`{key}` cannot be `{text}`"), span)
        .with_help(format!("put it in single quotes: `{key} = '{text}'`")))
}

fn is_next_option(item: &Cursor<'_>) -> bool {
    let mut at = item.clone();
    key(&mut at).is_ok() && at.is_token(&Token::Eq)
}

/// A value that should have been quoted.
fn unquoted(ctx: &Context<'_>, item: &Cursor<'_>, key: &str) -> Diagnostic {
    let span = item.rest_span();
    let text = ctx.text_of(span);
    let near = item.word().filter(|_| item.rest().len() == 1).and_then(|word| nearest(word, ["true", "false"]));
    let help = match near {
        _ if item.is_words(&["NULL"]) => format!("leave `{key}` out, or write a text in single quotes"),
        _ if item.is_words(&["INTERVAL"]) => format!("write `{key} = '1 hour'`, or `{key} = INTERVAL '1 hour'`"),
        Some(near) => format!("did you mean `{near}`? a text stands in single quotes: `{key} = '{text}'`"),
        None => format!("put it in single quotes: `{key} = '{text}'`"),
    };
    Diagnostic::error(format!("`{key}` cannot be `{text}`"), span).with_help(help)
}

/// Replaces `${NAME}` and `${NAME:-default}`.
fn substitute(ctx: &Context<'_>, text: &str, span: Span) -> Result<String, Diagnostic> {
    let mut resolved = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        resolved.push_str(before);
        let Some((inner, after)) = after.split_once('}') else {
            let place = place_of(ctx, span, "${");
            return Err(
                Diagnostic::error("`${` is never closed", place).with_help("write `${NAME}` or `${NAME:-default}`")
            );
        };
        resolved.push_str(&variable(ctx, inner, span)?);
        rest = after;
    }
    resolved.push_str(rest);
    Ok(resolved)
}

fn variable(ctx: &Context<'_>, inner: &str, span: Span) -> Result<String, Diagnostic> {
    let (name, default) = match inner.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inner, None),
    };
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let place = place_of(ctx, span, &format!("${{{inner}}}"));
    if name.is_empty() || !name.chars().all(is_name) {
        return Err(Diagnostic::error(format!("`{name}` is no name of an environment variable"), place)
            .with_help("write `${NAME}` or `${NAME:-default}`; a name has letters, digits and `_`"));
    }
    // As in a shell, `:-` also stands in for a variable that is set to nothing.
    let value = (ctx.environment)(name).filter(|value| default.is_none() || !value.is_empty());
    value.or_else(|| default.map(str::to_owned)).ok_or_else(|| {
        Diagnostic::error(format!("environment variable `{name}` is not set"), place)
            .with_help(format!("set it before you start the program, or give a default: `${{{name}:-default}}`"))
    })
}

/// The place of `part` inside the text at `span`; the whole text where it is not on the first line.
fn place_of(ctx: &Context<'_>, span: Span, part: &str) -> Span {
    let text = ctx.text_of(span);
    let Some(at) = text.find(part) else { return span };
    let count = |text: &str| u32::try_from(text.chars().count()).unwrap_or(u32::MAX);
    let column = span.start.column.saturating_add(count(&text[..at]));
    let start = Position { column, ..span.start };
    Span { start, end: Position { column: column.saturating_add(count(part)), ..start }, ..span }
}
