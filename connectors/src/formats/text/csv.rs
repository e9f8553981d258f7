//! CSV by RFC 4180: fields are found in one pass that can stop and go on at any byte, and read in a second.
//!
//! A quote inside an unquoted field is text. A line without any character is no record.

use std::sync::Arc;

use arrow_schema::{Schema, SchemaRef};
use bessemer_schemas::RejectReason;

use super::column::{Column, Values};
use super::fault::{Fault, FileFault};
use super::number::Number;
use super::options::{CsvOptions, Encoding, OnExtra, TimestampText};

mod fields;

use fields::{FieldSpan, Scan};

/// Reads records into columns.
#[derive(Debug)]
pub(super) struct CsvRecords {
    schema: SchemaRef,
    options: CsvOptions,
    scan: Scan,
    /// Which field is which column's; none until the header was read.
    layout: Option<Layout>,
    scratch: Scratch,
}

#[derive(Debug, Default)]
struct Scratch {
    unescaped: Vec<u8>,
    transcoded: String,
    /// A record that came without its line break.
    line: Vec<u8>,
}

/// What the header, or its absence, says.
#[derive(Debug)]
struct Layout {
    /// Fields in a record.
    width: usize,
    /// The field of each declared column.
    fields: Vec<Option<usize>>,
}

impl CsvRecords {
    pub(super) fn new(schema: SchemaRef, options: CsvOptions) -> Self {
        let scan = Scan::new(&options);
        let mut records = Self { schema, options, scan, layout: None, scratch: Scratch::default() };
        records.begin_object();
        records
    }

    /// Forgets the header.
    pub(super) fn begin_object(&mut self) {
        self.scan.restart();
        let width = self.schema.fields().len();
        self.layout = (!self.options.header).then(|| Layout { width, fields: (0..width).map(Some).collect() });
    }

    /// Whether text is checked to be UTF-8.
    pub(super) fn is_utf8(&self) -> bool {
        self.options.encoding == Encoding::Utf8
    }

    /// Where the record that begins `bytes` ends: the index of its newline, if it is there.
    #[inline]
    pub(super) fn record_end(&mut self, bytes: &[u8]) -> Option<usize> {
        self.scan.record_end(bytes)
    }

    /// Finds the fields of `record`; whether it is one record, with or without a line break at its end.
    pub(super) fn is_one_record(&mut self, record: &[u8]) -> bool {
        let record = record.strip_suffix(b"\n").unwrap_or(record);
        let record = record.strip_suffix(b"\r").unwrap_or(record);
        let mut line = std::mem::take(&mut self.scratch.line);
        line.clear();
        line.extend_from_slice(record);
        line.push(b'\n');
        let end = self.scan.record_end(&line);
        self.scratch.line = line;
        end == Some(record.len())
    }

    /// Forgets the record in hand, to begin with another one.
    #[inline]
    pub(super) fn restart(&mut self) {
        self.scan.restart();
    }

    /// Whether the record in hand may have line breaks inside.
    pub(super) fn has_quotes(&self) -> bool {
        self.scan.has_quotes
    }

    /// Whether the record in hand is none: an empty line or a comment.
    #[inline]
    pub(super) fn is_blank(&self) -> bool {
        match self.scan.fields.as_slice() {
            [] => !self.scan.is_bad,
            [field] => field.start == field.end && !field.is_quoted && !self.scan.is_bad,
            _ => false,
        }
    }

    /// Whether the record in hand is the header.
    #[inline]
    pub(super) fn awaits_header(&self) -> bool {
        self.layout.is_none()
    }

    /// The fields of the record in hand as text; `None` for null.
    fn texts(&mut self, record: &[u8]) -> Vec<Option<String>> {
        let (options, scratch) = (&self.options, &mut self.scratch);
        let text = |field: &FieldSpan| {
            let text = field.text(record, options, scratch);
            let text = (!is_null(text, options)).then_some(text);
            text.map(|text| String::from_utf8_lossy(text).into_owned())
        };
        self.scan.fields.iter().map(text).collect()
    }

    /// Reads the record in hand as the header. It begins at `offset`.
    pub(super) fn read_header(&mut self, text: &[u8], is_utf8: bool, offset: u64) -> Result<(), FileFault> {
        let unreadable = |reason: &str| FileFault::Unreadable { offset, reason: reason.to_owned() };
        if self.scan.is_bad {
            return Err(unreadable("the quotes of the header are not closed, or followed by text"));
        }
        if !is_utf8 {
            return Err(unreadable("the header is not UTF-8; say so with `encoding = 'latin-1'` or `'windows-1252'`"));
        }
        let names: Vec<String> = (0..self.scan.fields.len())
            .map(|field| {
                let name = self.scan.fields[field].text(text, &self.options, &mut self.scratch);
                String::from_utf8_lossy(name).into_owned()
            })
            .collect();
        self.layout = Some(self.lay_out(&names).map_err(|reason| FileFault::Mismatch { reason })?);
        Ok(())
    }

    fn lay_out(&self, names: &[String]) -> Result<Layout, String> {
        let header = shown(names);
        if let Some((_, name)) = names.iter().enumerate().find(|(at, name)| names[..*at].contains(name)) {
            return Err(format!("its header names `{name}` twice: {header}"));
        }
        let columns = self.schema.fields();
        let fields: Vec<Option<usize>> =
            columns.iter().map(|column| names.iter().position(|name| name == column.name())).collect();

        if fields.iter().all(Option::is_none) && !columns.is_empty() {
            return Err(format!(
                "its header names none of the declared columns: {header}; a file without header needs `header = false`"
            ));
        }
        let extra = names.iter().find(|name| columns.iter().all(|column| column.name() != *name));
        if let (OnExtra::Reject, Some(name)) = (self.options.on_extra, extra) {
            return Err(format!("its header has `{name}`, which is not declared (`on_extra = 'reject'`): {header}"));
        }
        Ok(Layout { width: names.len(), fields })
    }

    /// The first declared column that no field is for and that cannot do without; for a message about the object.
    pub(super) fn check_missing(&self, columns: &[Column]) -> Result<(), FileFault> {
        let fields = self.layout.iter().flat_map(|layout| &layout.fields);
        let missing = fields.zip(columns).position(|(field, column)| field.is_none() && !column.may_be_missing());
        match missing.map(|at| self.schema.field(at).name()) {
            None => Ok(()),
            Some(name) => Err(FileFault::Mismatch {
                reason: format!("its header lacks column `{name}`, which is NOT NULL and has no DEFAULT"),
            }),
        }
    }

    /// Appends the record in hand to `columns`; says how many bytes its defaults took. After a fault the columns hold a
    /// part of it: the caller cuts them back.
    pub(super) fn decode(&mut self, text: &[u8], columns: &mut [Column]) -> Result<usize, Fault> {
        if self.scan.is_bad {
            return Err(RejectReason::InvalidQuoting.into());
        }
        let Some(layout) = self.layout.as_ref().filter(|layout| layout.width == self.scan.fields.len()) else {
            return Err(RejectReason::WrongFieldCount.into());
        };
        let mut default_bytes = 0;
        for (column, field) in columns.iter_mut().zip(&layout.fields) {
            match field.and_then(|field| self.scan.fields.get(field)) {
                Some(field) => push_field(column, *field, text, &self.options, &mut self.scratch)?,
                None => default_bytes += column.push_missing()?,
            }
        }
        Ok(default_bytes)
    }
}

/// Fields of a record as text, `None` for null.
pub(super) type Texts = Vec<Option<String>>;

/// The names of the columns and the first records of `head`, for guessing types. Without a header the names are
/// `column_1` and so on.
pub(super) fn header_and_rows(
    head: &[u8],
    is_whole: bool,
    options: &CsvOptions,
    rows_max: usize,
) -> Result<(Vec<String>, Vec<Texts>), FileFault> {
    let mut records = CsvRecords::new(Arc::new(Schema::empty()), options.clone());
    let with_newline = [head, b"\n"].concat();
    let mut rest = if is_whole { with_newline.as_slice() } else { head };
    let mut names: Option<Vec<String>> = None;
    let mut rows = Vec::new();
    while rows.len() < rows_max && !rest.is_empty() {
        let Some(end) = records.record_end(rest) else { break };
        let texts = records.texts(rest);
        let is_record = !records.is_blank() && !records.scan.is_bad;
        if !is_record {
            // The decoder skips or rejects it.
        } else if names.is_none() && options.header {
            let header: Vec<String> = texts.into_iter().map(Option::unwrap_or_default).collect();
            records.lay_out(&header).map_err(|reason| FileFault::Mismatch { reason })?;
            names = Some(header);
        } else {
            names.get_or_insert_with(|| (1..=texts.len()).map(|at| format!("column_{at}")).collect());
            rows.push(texts);
        }
        records.restart();
        rest = &rest[end + 1..];
    }
    Ok((names.unwrap_or_default(), rows))
}

/// The names of a header for a message: the first few.
fn shown(names: &[String]) -> String {
    const SHOWN_MAX: usize = 20;
    let short = |name: &String| format!("`{}`", name.chars().take(40).collect::<String>());
    let list = names.iter().take(SHOWN_MAX).map(short).collect::<Vec<_>>().join(", ");
    let more = names.len().saturating_sub(SHOWN_MAX);
    if more > 0 { format!("{list} and {more} more") } else { list }
}

#[inline]
fn push_field(
    column: &mut Column,
    field: FieldSpan,
    record: &[u8],
    options: &CsvOptions,
    scratch: &mut Scratch,
) -> Result<(), Fault> {
    let text = field.text(record, options, scratch);
    if is_null(text, options) && !(field.is_quoted && column.is_text()) {
        return column.push_null().map(drop);
    }
    let pushed = match &column.values {
        Values::Bool(_) => truth(text).ok_or(RejectReason::WrongType).and_then(|value| column.push_bool(value)),
        Values::Bytes { .. }
        | Values::Date(_)
        | Values::Time { .. }
        | Values::Decimal { .. }
        | Values::Timestamp { text: TimestampText::Iso | TimestampText::Pattern(_), .. } => column.push_text(text),
        _ => Number::from_text(text).ok_or(RejectReason::WrongType).and_then(|number| column.push_number(number)),
    };
    pushed.map_err(|reason| column.fault(reason))
}

#[inline]
fn is_null(text: &[u8], options: &CsvOptions) -> bool {
    text.is_empty() || options.null_values.iter().any(|word| word.as_bytes() == text)
}

fn truth(text: &[u8]) -> Option<bool> {
    match text {
        b"1" => Some(true),
        b"0" => Some(false),
        _ if text.eq_ignore_ascii_case(b"true") || text.eq_ignore_ascii_case(b"t") => Some(true),
        _ if text.eq_ignore_ascii_case(b"false") || text.eq_ignore_ascii_case(b"f") => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
