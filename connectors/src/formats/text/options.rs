//! The options of the text formats, from `WITH (…)`.

use std::fmt;

use arrow_schema::TimeUnit;
use bessemer_schemas::{ByteSize, Diagnostic, IncludeKind, OptionMap};

use super::time::Pattern;

/// Which text format, with its options.
#[derive(Debug, Clone, PartialEq)]
pub enum TextFormat {
    /// JSON lines: one JSON object per line.
    Json(JsonOptions),
    /// Changes of rows as Debezium writes them: what happened to the row, and when, are the last two columns
    /// ([`CHANGE_COLUMNS`]).
    Debezium(JsonOptions),
    /// CSV.
    Csv(CsvOptions),
}

/// What a change says beside the row: [`TextFormat::Debezium`] has a column for each behind the row's.
pub const CHANGE_COLUMNS: [IncludeKind; 2] = [IncludeKind::Operation, IncludeKind::SourceTimestamp];

impl TextFormat {
    /// The format's name in messages.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Json(_) => "JSON lines",
            Self::Debezium(_) => "changes of Debezium",
            Self::Csv(_) => "CSV",
        }
    }
}

/// Options of JSON lines.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct JsonOptions {
    /// `on_extra`: what a field that is not declared means.
    pub on_extra: OnExtra,
    /// `timestamp_format`: how timestamps are written.
    pub timestamp_format: TimestampFormat,
}

impl JsonOptions {
    /// Takes its options out of `options`; problems are reported there.
    pub fn take(options: &mut OptionMap) -> Self {
        Self {
            on_extra: OnExtra::take(options).unwrap_or_default(),
            timestamp_format: TimestampFormat::take(options).unwrap_or_default(),
        }
    }
}

/// Options of CSV.
#[derive(Debug, Clone, PartialEq)]
pub struct CsvOptions {
    /// `header`: the first record names the columns (default true); columns are then matched by name.
    pub header: bool,
    /// `delimiter` between fields, one ASCII character, default `,`.
    pub delimiter: u8,
    /// `quote` around fields, default `"`; `''` for none.
    pub quote: Option<u8>,
    /// `escape`: takes away the meaning of the next character inside quotes; by default only a doubled quote does.
    pub escape: Option<u8>,
    /// `comment`: lines that begin with it are skipped; none by default.
    pub comment: Option<u8>,
    /// `null_values`: words that mean null, beside the empty field.
    pub null_values: Vec<String>,
    /// `trim`: leave out blanks around fields (default false).
    pub trim: bool,
    /// `encoding`, default UTF-8.
    pub encoding: Encoding,
    /// `on_extra`: what a column of the header that is not declared means.
    pub on_extra: OnExtra,
    /// `timestamp_format`: how timestamps are written.
    pub timestamp_format: TimestampFormat,
}

impl Default for CsvOptions {
    fn default() -> Self {
        Self {
            header: true,
            delimiter: b',',
            quote: Some(b'"'),
            escape: None,
            comment: None,
            null_values: Vec::new(),
            trim: false,
            encoding: Encoding::default(),
            on_extra: OnExtra::default(),
            timestamp_format: TimestampFormat::default(),
        }
    }
}

impl CsvOptions {
    /// Takes its options out of `options`; problems are reported there.
    pub fn take(options: &mut OptionMap) -> Self {
        let default = Self::default();
        let taken = Self {
            header: options.take_bool("header").unwrap_or(default.header),
            delimiter: take_byte(options, "delimiter").flatten().unwrap_or(default.delimiter),
            quote: take_byte(options, "quote").unwrap_or(default.quote),
            escape: take_byte(options, "escape").flatten(),
            comment: take_byte(options, "comment").flatten(),
            null_values: take_words(options, "null_values"),
            trim: options.take_bool("trim").unwrap_or(default.trim),
            encoding: options.take_choice("encoding", Encoding::CHOICES).unwrap_or_default(),
            on_extra: OnExtra::take(options).unwrap_or_default(),
            timestamp_format: TimestampFormat::take(options).unwrap_or_default(),
        };
        taken.report_clash(options);
        taken
    }

    fn report_clash(&self, options: &mut OptionMap) {
        let marks = [("delimiter", Some(self.delimiter)), ("quote", self.quote), ("comment", self.comment)];
        for (at, (name, mark)) in marks.iter().enumerate() {
            let clash = marks[..at].iter().find(|(_, other)| mark.is_some() && other == mark);
            if let Some((other, _)) = clash {
                let message = format!("options `{other}` and `{name}` of {} are the same character", options.owner());
                let span = options.owner_span();
                options.report(Diagnostic::error(message, span).with_help("choose different characters"));
            }
        }
    }
}

/// What to do with a field or column that is not declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnExtra {
    /// It must be well-formed; its value is not read.
    #[default]
    Ignore,
    /// The record (JSON) or the object (a CSV header) is refused.
    Reject,
}

impl OnExtra {
    fn take(options: &mut OptionMap) -> Option<Self> {
        options.take_choice("on_extra", &[("ignore", Self::Ignore), ("reject", Self::Reject)])
    }
}

/// Which characters the bytes stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Encoding {
    /// UTF-8; anything else is `invalid_utf8`.
    #[default]
    Utf8,
    /// ISO 8859-1: each byte is the character of that number.
    Latin1,
    /// Windows code page 1252, with its five undefined bytes as the WHATWG Encoding Standard maps them.
    Windows1252,
}

impl Encoding {
    const CHOICES: &[(&str, Self)] = &[
        ("utf-8", Self::Utf8),
        ("utf8", Self::Utf8),
        ("latin-1", Self::Latin1),
        ("latin1", Self::Latin1),
        ("iso-8859-1", Self::Latin1),
        ("windows-1252", Self::Windows1252),
        ("cp1252", Self::Windows1252),
    ];

    /// The character of `byte` in an encoding of one byte per character.
    pub(super) fn character(self, byte: u8) -> char {
        match (self, byte) {
            (Self::Windows1252, 0x80..=0x9f) => WINDOWS_1252[usize::from(byte - 0x80)],
            _ => char::from(byte),
        }
    }
}

/// The characters 0x80 to 0x9f of Windows code page 1252.
const WINDOWS_1252: [char; 32] = [
    '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}', '\u{90}', '‘', '’',
    '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
];

/// How timestamps are written.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TimestampFormat(pub(in crate::formats) TimestampText);

#[derive(Debug, Clone, PartialEq, Default)]
pub(in crate::formats) enum TimestampText {
    #[default]
    Iso,
    /// A number since 1970, UTC, in this unit.
    Epoch(TimeUnit),
    Pattern(Pattern),
}

impl TimestampFormat {
    /// ISO 8601, the default.
    pub fn iso() -> Self {
        Self(TimestampText::Iso)
    }

    /// A number of `unit`s since 1970, UTC; a fraction is allowed as far as the column holds it.
    pub fn epoch(unit: TimeUnit) -> Self {
        Self(TimestampText::Epoch(unit))
    }

    /// A `strftime` pattern as `chrono` has it, such as `%d/%m/%Y %H:%M`; `None` if it is none.
    pub fn pattern(pattern: &str) -> Option<Self> {
        Pattern::parse(pattern).map(|pattern| Self(TimestampText::Pattern(pattern)))
    }

    /// Whether timestamps are numbers.
    #[cfg(feature = "kafka")]
    pub(crate) fn is_epoch(&self) -> bool {
        matches!(self.0, TimestampText::Epoch(_))
    }

    /// Takes `timestamp_format` out of `options`; problems are reported there.
    pub(crate) fn take(options: &mut OptionMap) -> Option<Self> {
        let entry = options.take("timestamp_format")?;
        let text = entry.value.to_string();
        let format = match text.as_str() {
            "iso" => Some(Self::iso()),
            "epoch_seconds" => Some(Self::epoch(TimeUnit::Second)),
            "epoch_millis" => Some(Self::epoch(TimeUnit::Millisecond)),
            "epoch_micros" => Some(Self::epoch(TimeUnit::Microsecond)),
            "epoch_nanos" => Some(Self::epoch(TimeUnit::Nanosecond)),
            pattern if pattern.contains('%') => Self::pattern(pattern),
            _ => None,
        };
        if format.is_none() {
            let message = format!("option `timestamp_format` cannot be `{text}`");
            let help = "write `'iso'`, `'epoch_seconds'`, `'epoch_millis'`, `'epoch_micros'`, `'epoch_nanos'`, or a \
                        pattern such as `'%d/%m/%Y %H:%M:%S'`";
            options.report(Diagnostic::error(message, entry.value_span).with_help(help));
        }
        format
    }
}

/// Bounds of decoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeLimits {
    /// Rows in a batch, at most.
    pub batch_rows: usize,
    /// A longer record is rejected as `record_too_long`: option `max_record_bytes`, default 16 MiB.
    ///
    /// An unclosed quote in CSV costs as much: the record is then cut at the first newline beyond this bound, and
    /// decoding resumes on the next line.
    pub max_record_bytes: usize,
}

impl Default for DecodeLimits {
    fn default() -> Self {
        Self { batch_rows: 8192, max_record_bytes: 16 << 20 }
    }
}

impl DecodeLimits {
    /// The largest `max_record_bytes`: texts of a batch have 31-bit offsets, and a record may grow threefold.
    pub const MAX_RECORD_BYTES: ByteSize = ByteSize(256 << 20);

    /// Takes `max_record_bytes` out of `options`; problems are reported there.
    pub fn take(options: &mut OptionMap) -> Self {
        let mut limits = Self::default();
        let span = options.entries().iter().find(|entry| entry.key == "max_record_bytes").map(|entry| entry.value_span);
        let Some(size) = options.take_bytes("max_record_bytes") else { return limits };
        if size.0 == 0 || size > Self::MAX_RECORD_BYTES {
            let message = format!("option `max_record_bytes` cannot be {size}");
            let help = format!("write a size of up to {}", Self::MAX_RECORD_BYTES);
            options.report(Diagnostic::error(message, span.unwrap_or_default()).with_help(help));
        } else {
            limits.max_record_bytes = usize::try_from(size.0).unwrap_or(limits.max_record_bytes);
        }
        limits
    }
}

impl fmt::Display for OnExtra {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ignore => "ignore",
            Self::Reject => "reject",
        })
    }
}

/// Takes one ASCII character; `Some(None)` for `''`.
#[expect(clippy::option_option, reason = "not given, given as none, given")]
fn take_byte(options: &mut OptionMap, key: &'static str) -> Option<Option<u8>> {
    let entry = options.take(key)?;
    let text = entry.value.to_string();
    let byte = match text.as_bytes() {
        [] if key != "delimiter" => return Some(None),
        b"\\t" => Some(b'\t'),
        [byte] if byte.is_ascii() && !matches!(byte, b'\n' | b'\r') => Some(*byte),
        _ => None,
    };
    if byte.is_none() {
        let message = format!("option `{key}` cannot be `{text}`");
        let help = "write one ASCII character that is no line break, such as `';'` or `'\\t'`";
        options.report(Diagnostic::error(message, entry.value_span).with_help(help));
    }
    byte.map(Some)
}

fn take_words(options: &mut OptionMap, key: &'static str) -> Vec<String> {
    let text = options.take_text(key).unwrap_or_default();
    text.split(',').map(|word| word.trim().to_owned()).filter(|word| !word.is_empty()).collect()
}

#[cfg(test)]
mod tests;
