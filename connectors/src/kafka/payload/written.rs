//! Formats whose values are written with a schema, from `WITH (…)`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bessemer_schemas::{Diagnostic, OptionMap, SourceDefinition};

use super::super::options::Topics;
use crate::formats::text::TimestampFormat;
use crate::schema_registry::{SchemaLanguage, SchemaRegistryOptions};

/// What a schema that contradicts the declared columns means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OnError {
    /// The pipeline stops (the default): nothing is lost, and the definition can be changed.
    Fail,
    /// The records that were written with it go to quarantine.
    Quarantine,
}

/// Where the schemas of records are.
#[derive(Debug, Clone)]
pub(super) enum Origin {
    /// Each record begins with the number of its schema in a registry. Columns may come from a subject of it.
    Registry { registry: SchemaRegistryOptions, subject: Option<String> },
    /// All records are written with the one in a file.
    File(PathBuf),
}

/// A format whose records are written with a schema.
#[derive(Debug, Clone)]
pub(in super::super) struct WrittenFormat {
    pub(super) language: SchemaLanguage,
    pub(super) origin: Origin,
    /// Full name of the message (Protobuf).
    pub(super) message: Option<String>,
    pub(super) timestamp_format: TimestampFormat,
    pub(super) on_error: OnError,
}

impl WrittenFormat {
    /// Takes the options of a schema; `topics` say which subject the columns come from where none are declared.
    pub(super) fn take(
        options: &mut OptionMap,
        source: &SourceDefinition,
        language: SchemaLanguage,
        topics: Option<&Topics>,
        base: &Path,
        timeout: Duration,
    ) -> Option<Self> {
        let timestamp_format = TimestampFormat::take(options).unwrap_or_default();
        let on_error = options
            .take_choice("on_error", &[("fail", OnError::Fail), ("quarantine", OnError::Quarantine)])
            .unwrap_or(OnError::Fail);
        let message = match language {
            SchemaLanguage::Protobuf => options.take_text("message"),
            SchemaLanguage::Avro | SchemaLanguage::Json | SchemaLanguage::Other => None,
        };
        let origin = Origin::take(options, source, topics, base, timeout)?;
        Some(Self { language, origin, message, timestamp_format, on_error })
    }

    /// What the bytes of a record mean, as text. Registries and files may move, and schemas evolve.
    pub(super) fn decoding_text(&self) -> String {
        let framing = if self.has_registry() { "with" } else { "without" };
        let message = self.message.as_deref().unwrap_or("any");
        format!("{:?} {framing} number of schema; message {message}; {:?}", self.language, self.timestamp_format)
    }

    pub(super) fn has_registry(&self) -> bool {
        matches!(self.origin, Origin::Registry { .. })
    }
}

impl Origin {
    fn take(
        options: &mut OptionMap,
        source: &SourceDefinition,
        topics: Option<&Topics>,
        base: &Path,
        timeout: Duration,
    ) -> Option<Self> {
        let is_there = |options: &OptionMap, key: &str| options.entries().iter().any(|entry| entry.key == key);
        let (has_registry, has_file) = (is_there(options, "schema_registry"), is_there(options, "schema_file"));
        let registry = SchemaRegistryOptions::take(options, timeout);
        let file = options.take_text("schema_file").map(|file| base.join(file));
        let subject = options.take_text("subject");

        let (owner, span) = (options.owner().to_owned(), options.owner_span());
        let mut problem = |message: String, help: &str| {
            options.report(Diagnostic::error(message, span).with_help(help));
        };
        match (has_registry, has_file) {
            (true, true) => {
                let help = "keep one of the two: with a registry, each record names its schema";
                problem(format!("{owner} has both `schema_registry` and `schema_file`"), help);
            }
            (false, false) => problem(
                format!("nothing says with which schema the records of {owner} are written"),
                "add `schema_registry = 'http://…'` where records begin with the number of their schema, otherwise \
                 `schema_file = '….avsc'` (or `'….proto'`)",
            ),
            _ => {}
        }
        if subject.is_some() && (!has_registry || source.columns.is_some()) {
            let message = "`subject` says from which schema of the registry undeclared columns are taken".to_owned();
            problem(message, "leave it out: there is no registry, or the columns are declared");
        }
        let subject = match (&source.columns, subject, topics) {
            (Some(_), ..) => None,
            (None, Some(subject), _) => Some(subject),
            (None, None, Some(Topics::Named(names))) if names.len() == 1 => Some(format!("{}-value", names[0])),
            (None, None, _) => {
                if has_registry {
                    let message = format!("{owner} declares no columns, and reads more than one topic");
                    problem(message, "declare the columns, or add `subject = 'orders-value'` to take them from");
                }
                None
            }
        };
        match (registry, file) {
            (Some(registry), None) => Some(Self::Registry { registry, subject }),
            (None, Some(file)) => Some(Self::File(file)),
            _ => None,
        }
    }
}
