//! The options of an object-store source: text to typed options, no network touched.

use std::path::Path;
use std::time::Duration;

use bessemer_schemas::{Diagnostic, OptionMap, SourceDefinition};

use super::pattern::PathPatterns;
use crate::formats::compression::Compression;
use crate::formats::text::{CsvOptions, DecodeLimits, JsonOptions, TextFormat};
use crate::source::check_defaults;
use crate::{Error, Location, StoreOptions};

/// Event times further beyond a file's modification time are quarantined.
const MAX_AHEAD: Duration = Duration::from_hours(24);

/// The format of a source's objects.
#[derive(Debug, Clone, PartialEq)]
pub enum FileFormat {
    /// CSV or JSON lines.
    Text(TextFormat),
    /// Apache Parquet.
    Parquet,
    /// Arrow IPC, file or stream.
    Arrow,
    /// Avro object container files.
    Avro,
}

/// What an object that changed after it was read means to a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OnChange {
    /// The run stops with its name (the default).
    Fail,
    /// It is counted and not read again.
    Ignore,
}

/// What an unreadable object means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OnError {
    /// The run stops with its name (the default).
    Fail,
    /// It goes to quarantine whole. Each object is then read twice: rows that have left a scan cannot be taken back, so
    /// the object is read to its end before its first row is given on.
    Quarantine,
}

/// How objects are compressed, as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum CompressionChoice {
    /// By the ending of the name, checked against the first bytes; by the first bytes where the name says nothing.
    Auto,
    /// Always so.
    Always(Compression),
}

/// Options of connector `object_store`.
#[derive(Debug, Clone)]
pub struct ObjectSourceOptions {
    pub(super) location: Location,
    pub(super) patterns: PathPatterns,
    pub(super) format: FileFormat,
    pub(super) compression: CompressionChoice,
    pub(super) limits: DecodeLimits,
    pub(super) on_change: OnChange,
    pub(super) on_error: OnError,
    pub(super) max_ahead: Duration,
    path: String,
}

const FORMATS: &[(&str, FormatName)] = &[
    ("csv", FormatName::Csv),
    ("json", FormatName::Json),
    ("parquet", FormatName::Parquet),
    ("arrow", FormatName::Arrow),
    ("avro", FormatName::Avro),
];

const COMPRESSIONS: &[(&str, CompressionChoice)] = &[
    ("auto", CompressionChoice::Auto),
    ("none", CompressionChoice::Always(Compression::None)),
    ("gzip", CompressionChoice::Always(Compression::Gzip)),
    ("zstd", CompressionChoice::Always(Compression::Zstd)),
    ("bzip2", CompressionChoice::Always(Compression::Bzip2)),
    ("xz", CompressionChoice::Always(Compression::Xz)),
];

/// A format before its options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FormatName {
    Csv,
    Json,
    Parquet,
    Arrow,
    Avro,
}

impl ObjectSourceOptions {
    /// Takes the options out of `source`. Relative paths are relative to `base`. Options are there if no diagnostic is
    /// an error.
    pub fn parse(source: &mut SourceDefinition, base: &Path) -> (Option<Self>, Vec<Diagnostic>) {
        let owner = format!("source `{}`", source.name.value);
        let taken = std::mem::replace(&mut source.options, OptionMap::new(owner, source.name.span, Vec::new()));
        let mut options = taken;
        // The caller has looked at it.
        options.take("connector");
        let parsed = Self::take(&mut options, base);
        check_defaults(source, &mut options);
        check_includes(source, &mut options);
        check_event_time(source, &mut options);
        let diagnostics = options.finish("connector `object_store`");
        let is_sound = !diagnostics.iter().any(Diagnostic::is_error);
        (parsed.filter(|_| is_sound), diagnostics)
    }

    fn take(options: &mut OptionMap, base: &Path) -> Option<Self> {
        let span = options.entries().iter().find(|entry| entry.key == "path").map(|entry| entry.value_span);
        let path = options.require_text("path", "'data/flights/*.csv'");
        let store = StoreOptions::take(options);
        let on_change = options.take_choice("on_change", &[("fail", OnChange::Fail), ("ignore", OnChange::Ignore)]);
        let on_error = options.take_choice("on_error", &[("fail", OnError::Fail), ("quarantine", OnError::Quarantine)]);
        let max_ahead = options.take_duration("max_ahead");
        let format = take_format(options, path.as_deref());
        let (path, format) = (path?, format?);

        let compression = take_compression(options, &format);
        let limits = match &format {
            FileFormat::Text(_) => DecodeLimits::take(options),
            _ => DecodeLimits::default(),
        };
        let resolved = PathPatterns::parse(&path)
            .map_err(|reason| (format!("option `path` cannot be `{path}`"), reason))
            .and_then(|patterns| {
                let location = Location::parse(&patterns.folder, base, &store);
                location
                    .map(|location| (location, patterns))
                    .map_err(|error| (error.to_string(), location_help(&error)))
            });
        let (location, patterns) = match resolved {
            Ok(resolved) => resolved,
            Err((message, help)) => {
                options.report(Diagnostic::error(message, span.unwrap_or_default()).with_help(help));
                return None;
            }
        };
        if location.is_http() && patterns.patterns.iter().any(|pattern| !pattern.is_object()) {
            let message = format!("option `path` cannot be `{path}`");
            let help = "a web server lists nothing: write the URL of each file, separated by commas";
            options.report(Diagnostic::error(message, span.unwrap_or_default()).with_help(help));
            return None;
        }
        Some(Self {
            location,
            patterns,
            format,
            compression,
            limits,
            on_change: on_change.unwrap_or(OnChange::Fail),
            on_error: on_error.unwrap_or(OnError::Fail),
            max_ahead: max_ahead.unwrap_or(MAX_AHEAD),
            path,
        })
    }

    /// The folder that object paths are relative to.
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// The path as written: what a later run compares.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The format.
    pub fn format(&self) -> &FileFormat {
        &self.format
    }

    /// Replaces the store, so that a test or an embedding program can read from memory. The path stays as it is.
    #[must_use]
    pub fn in_location(mut self, location: Location) -> Self {
        self.location = location;
        self
    }

    /// What of them changes what a record means, as text.
    pub(super) fn decoding_text(&self) -> String {
        let limit = self.limits.max_record_bytes;
        format!("{:?}; {:?}; max_record_bytes {limit}; max_ahead {:?}", self.format, self.compression, self.max_ahead)
    }
}

impl FileFormat {
    /// The format's name in messages.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Text(text) => text.name(),
            Self::Parquet => "Parquet",
            Self::Arrow => "Arrow IPC",
            Self::Avro => "Avro",
        }
    }

    /// Whether a file of this name is of this format, as far as its ending says.
    pub(super) fn has_extension(&self, path: &str) -> bool {
        let is_text = matches!(self, Self::Text(_));
        let name = if is_text { Compression::of_name(path).1 } else { path };
        FormatName::of_path(name) == Some(self.as_name())
    }

    fn as_name(&self) -> FormatName {
        match self {
            Self::Text(TextFormat::Csv(_)) => FormatName::Csv,
            Self::Text(TextFormat::Json(_) | TextFormat::Debezium(_)) => FormatName::Json,
            Self::Parquet => FormatName::Parquet,
            Self::Arrow => FormatName::Arrow,
            Self::Avro => FormatName::Avro,
        }
    }
}

impl FormatName {
    fn of_path(path: &str) -> Option<Self> {
        let (_, extension) = path.rsplit('/').next()?.rsplit_once('.')?;
        Some(match extension.to_ascii_lowercase().trim_end_matches('}') {
            "csv" | "tsv" | "psv" | "txt" => Self::Csv,
            "json" | "jsonl" | "ndjson" => Self::Json,
            "parquet" | "pq" | "parq" => Self::Parquet,
            "arrow" | "arrows" | "ipc" | "feather" => Self::Arrow,
            "avro" => Self::Avro,
            _ => return None,
        })
    }
}

fn take_format(options: &mut OptionMap, path: Option<&str>) -> Option<FileFormat> {
    let is_written = options.entries().iter().find(|entry| entry.key == "format").map(|entry| entry.value_span);
    let written = options.take_choice("format", FORMATS);
    let last = path.and_then(|path| path.rsplit(',').next()).map(|path| Compression::of_name(path.trim()).1);
    let name = match (written, is_written) {
        (Some(name), _) => {
            warn_of_other_extension(options, name, last, is_written);
            name
        }
        // It was reported.
        (None, Some(_)) => return None,
        (None, None) => {
            let found = last.and_then(FormatName::of_path);
            if found.is_none() && path.is_some() {
                let message = format!("{} does not say its format, and neither does its path", options.owner());
                let help = "add `format = 'csv'` (or `'json'`, `'parquet'`, `'arrow'`, `'avro'`) to its `WITH (…)`";
                options.report(Diagnostic::error(message, options.owner_span()).with_help(help));
            }
            found?
        }
    };
    Some(match name {
        FormatName::Csv => FileFormat::Text(TextFormat::Csv(CsvOptions::take(options))),
        FormatName::Json => FileFormat::Text(TextFormat::Json(JsonOptions::take(options))),
        FormatName::Parquet => FileFormat::Parquet,
        FormatName::Arrow => FileFormat::Arrow,
        FormatName::Avro => FileFormat::Avro,
    })
}

fn warn_of_other_extension(
    options: &mut OptionMap,
    written: FormatName,
    path: Option<&str>,
    span: Option<bessemer_schemas::Span>,
) {
    let found = path.and_then(FormatName::of_path).filter(|found| *found != written);
    // `.txt` and `.json` hold many things; Parquet, Arrow and Avro are what they say.
    let is_conflict = |found| matches!(found, FormatName::Parquet | FormatName::Arrow | FormatName::Avro);
    if let (Some(found), Some(span)) = (found, span)
        && is_conflict(found)
    {
        let name = FORMATS.iter().find(|(_, format)| *format == found).map_or("", |(name, _)| name);
        let message = format!("the format of {} and the ending of its path do not agree", options.owner());
        let help = format!("write `format = '{name}'`, or leave the option out");
        options.report(Diagnostic::error(message, span).with_help(help));
    }
}

fn take_compression(options: &mut OptionMap, format: &FileFormat) -> CompressionChoice {
    let span = options.entries().iter().find(|entry| entry.key == "compression").map(|entry| entry.value_span);
    let choice = options.take_choice("compression", COMPRESSIONS).unwrap_or(CompressionChoice::Auto);
    let compresses_itself = !matches!(format, FileFormat::Text(_));
    if let (true, CompressionChoice::Always(compression), Some(span)) = (compresses_itself, choice, span)
        && compression != Compression::None
    {
        let message = format!("{} files are not read through {}", format.name(), compression.name());
        let help = "leave `compression` out: the format compresses its own blocks";
        options.report(Diagnostic::error(message, span).with_help(help));
    }
    choice
}

fn check_includes(source: &SourceDefinition, options: &mut OptionMap) {
    for include in source.includes.iter().filter(|include| !include.kind.is_of_files()) {
        let message = format!("`INCLUDE {}` is not available for files", include.kind.as_sql());
        let help = "the choices are `PATH`, `ROW` and `MODIFIED`";
        options.report(Diagnostic::error(message, include.name.span).with_help(help));
    }
}

/// Lateness is decided by what is in the records.
fn check_event_time(source: &SourceDefinition, options: &mut OptionMap) {
    let Some(watermark) = source.watermark.as_ref().filter(|watermark| watermark.on_late.is_some()) else { return };
    if source.includes.iter().any(|include| include.name.value == watermark.column.value) {
        let message =
            format!("`ON LATE` needs an event time that is in the files, and `{}` is not", watermark.column.value);
        let help = "name a column that is read from the files, or remove `ON LATE`";
        options.report(Diagnostic::error(message, watermark.column.span).with_help(help));
    }
}

fn location_help(error: &Error) -> String {
    match error {
        Error::NotBuilt { feature, .. } => format!("build with `--features {feature}`, or use a local path"),
        _ => "write a path, or a URL such as `'s3://bucket/folder/*.parquet'`".to_owned(),
    }
}
