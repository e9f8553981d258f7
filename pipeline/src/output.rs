//! Answers on stdout: tables for people, JSON for scripts. A closed pipe is success: the reader had enough.

use std::io::{self, IsTerminal, Write};

use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;

use crate::error::Result;

/// Prints a line.
pub(crate) fn line(text: impl AsRef<str>) -> Result<()> {
    finish(writeln!(io::stdout().lock(), "{}", text.as_ref()))
}

/// Prints a value as JSON: indented on a terminal, on one line in a pipe.
pub(crate) fn json(value: &impl Serialize) -> Result<()> {
    let text =
        if io::stdout().is_terminal() { serde_json::to_string_pretty(value) } else { serde_json::to_string(value) };
    line(text.map_err(io::Error::from)?)
}

/// Prints bytes as they are.
pub(crate) fn raw(bytes: &[u8]) -> Result<()> {
    finish(io::stdout().lock().write_all(bytes))
}

/// Original bytes as text, so that a person can read and a script can mend them. What is not UTF-8 shows its bytes, in
/// hexadecimal digits.
pub(crate) fn readable_bytes(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => format!("{bytes:02x?}"),
    }
}

/// Says something on stderr.
pub(crate) fn note(text: impl AsRef<str>) {
    // A closed stderr leaves nobody to tell.
    drop(writeln!(io::stderr().lock(), "{}", text.as_ref()));
}

/// Whether to use colour on stderr.
pub(crate) fn is_terminal() -> bool {
    io::stderr().is_terminal()
}

/// A table with a header; columns whose name begins with `#` hold numbers and are aligned right (the mark is not shown).
pub(crate) fn table(header: &[&str], rows: Vec<Vec<String>>) -> Result<()> {
    let mut table = Table::new();
    if io::stdout().is_terminal() {
        table.load_preset(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
    } else {
        table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    }
    table.set_header(header.iter().map(|name| name.trim_start_matches('#')));
    for row in rows {
        table.add_row(row.into_iter().zip(header).map(|(text, name)| {
            let alignment = if name.starts_with('#') { CellAlignment::Right } else { CellAlignment::Left };
            Cell::new(text).set_alignment(alignment)
        }));
    }
    for text in table.lines() {
        line(text.strip_prefix(' ').unwrap_or(&text).trim_end())?;
    }
    Ok(())
}

/// A count with thousands separators.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 file`, `2 files`.
pub(crate) fn plural(number: u64, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{} {noun}s", count(number)) }
}

/// Microseconds as seconds for people.
pub(crate) fn seconds(micros: i64) -> String {
    match micros {
        ..1_000_000 => format!("{} ms", micros / 1_000),
        1_000_000..60_000_000 => format!("{:.1} s", micros as f64 / 1e6),
        _ => format!("{} min {} s", micros / 60_000_000, micros / 1_000_000 % 60),
    }
}

/// Microseconds since 1970 as UTC, to the second.
pub(crate) fn instant(micros: i64) -> String {
    use datafusion::arrow::temporal_conversions::timestamp_us_to_datetime;
    timestamp_us_to_datetime(micros)
        .map_or_else(|| micros.to_string(), |time| time.format("%Y-%m-%d %H:%M:%SZ").to_string())
}

fn finish(result: io::Result<()>) -> Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}
