//! The options of a Kafka source: text to typed options, no network touched.

use std::path::Path;
use std::time::Duration;

use bessemer_schemas::{
    BadRecordLimit, Diagnostic, OptionEntry, OptionMap, OptionValue, Secret, SourceDefinition, SourceKind, Span,
};
use chrono::{DateTime, NaiveDate, NaiveDateTime};
use rdkafka::ClientConfig;
use regex::Regex;

use super::payload::PayloadFormat;
use super::security::{self, revealed};
use super::token::TokenEndpoint;
use crate::formats::text::DecodeLimits;

/// Event times further beyond a record's timestamp are quarantined.
const MAX_AHEAD: Duration = Duration::from_hours(24);

/// How long brokers may take to answer before the epoch is given up and tried again.
const BROKER_TIMEOUT: Duration = Duration::from_secs(30);

/// The longest window of the circuit breaker.
const BAD_RECORDS_WINDOW_MAX: u64 = 1_000_000;

/// Where a source begins that was never read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Startup {
    /// With the oldest record there is (the default).
    Earliest,
    /// With what arrives from now on.
    Latest,
    /// With the first record at or after this time, milliseconds since 1970, UTC.
    Timestamp(i64),
    /// With these offsets, by partition; partitions that are not named begin with the oldest record.
    Offsets(Vec<(i32, i64)>),
    /// With the offsets that this consumer group has committed; where it has none, with the oldest record.
    Group(String),
}

/// Which records of transactions are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// Those of committed ones (the default).
    ReadCommitted,
    /// All.
    ReadUncommitted,
}

/// What it means that records were deleted before they were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDataLoss {
    /// The pipeline stops and names them (the default).
    Fail,
    /// They are counted as lost in the ledger.
    Record,
}

/// Which topics.
#[derive(Debug, Clone)]
pub(super) enum Topics {
    /// These.
    Named(Vec<String>),
    /// Every one whose whole name matches.
    Matching(Regex),
}

/// Options of connector `kafka`.
#[derive(Debug, Clone)]
pub struct KafkaSourceOptions {
    pub(super) bootstrap_servers: String,
    pub(super) topics: Topics,
    pub(super) format: PayloadFormat,
    pub(super) startup: Startup,
    pub(super) isolation: Isolation,
    pub(super) on_data_loss: OnDataLoss,
    pub(super) group_id: Option<String>,
    pub(super) properties: Vec<(String, Secret)>,
    pub(super) tokens: Option<TokenEndpoint>,
    pub(super) limits: DecodeLimits,
    pub(super) max_ahead: Duration,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) max_skew: Option<Duration>,
    pub(super) bad_records: BadRecordLimit,
    pub(super) timeout: Duration,
}

/// Settings of the client that are not for users: they would change what is read, or who decides it.
const DENIED: &[(&str, &str)] = &[
    ("bootstrap.servers", "write option `bootstrap_servers`"),
    ("metadata.broker.list", "write option `bootstrap_servers`"),
    ("group.id", "write option `group_id`"),
    ("isolation.level", "write option `isolation_level`"),
    ("auto.offset.reset", "write option `scan_startup_mode`; a lost offset stops the pipeline (`on_data_loss`)"),
    ("enable.auto.commit", "leave it out: offsets are in the manifest, and published after each commit"),
    ("enable.auto.offset.store", "leave it out: offsets are in the manifest, and published after each commit"),
    ("enable.partition.eof", "leave it out: the end of a partition is how a slice ends"),
    ("group.instance.id", "leave it out: partitions are assigned, not shared in a group"),
    ("partition.assignment.strategy", "leave it out: partitions are assigned, not shared in a group"),
    ("check.crcs", "leave it out: checksums are always checked"),
    ("enable.sasl.oauthbearer.unsecure.jwt", "leave it out: tokens come from `sasl.oauthbearer.token.endpoint.url`"),
];

impl KafkaSourceOptions {
    /// Takes the options out of `source`; the path of a schema file is relative to `base`. Options are there if no
    /// diagnostic is an error.
    pub fn parse(source: &mut SourceDefinition, base: &Path) -> (Option<Self>, Vec<Diagnostic>) {
        let owner = format!("source `{}`", source.name.value);
        let mut options = std::mem::replace(&mut source.options, OptionMap::new(owner, source.name.span, Vec::new()));
        // The caller has looked at it.
        options.take("connector");
        let parsed = Self::take(&mut options, source, base);
        // Where the format is not known, that is the problem.
        let has_changes = parsed.as_ref().is_none_or(|parsed| !parsed.format.change_columns().is_empty());
        check_definition(source, has_changes, &mut options);
        let diagnostics = options.finish("connector `kafka`");
        let is_sound = !diagnostics.iter().any(Diagnostic::is_error);
        (parsed.filter(|_| is_sound), diagnostics)
    }

    fn take(options: &mut OptionMap, source: &SourceDefinition, base: &Path) -> Option<Self> {
        let bootstrap_servers = options.require_text("bootstrap_servers", "'localhost:9092'");
        let topics = take_topics(options);
        let timeout = options.take_duration("broker_timeout").unwrap_or(BROKER_TIMEOUT);
        let format = PayloadFormat::take(options, source, topics.as_ref(), base, timeout);
        let startup = take_startup(options);
        let isolation = options.take_choice(
            "isolation_level",
            &[("read_committed", Isolation::ReadCommitted), ("read_uncommitted", Isolation::ReadUncommitted)],
        );
        let on_data_loss =
            options.take_choice("on_data_loss", &[("fail", OnDataLoss::Fail), ("record", OnDataLoss::Record)]);
        let group_id = options.take_text("group_id");
        let limits = DecodeLimits::take(options);
        let max_ahead = options.take_duration("max_ahead").unwrap_or(MAX_AHEAD);
        let idle_timeout = take_of_watermark(options, source, "idle_timeout");
        let max_skew = take_of_watermark(options, source, "max_skew");
        let bad_records = take_bad_records(options);
        let (properties, tokens) = take_properties(options, timeout);
        let mut parsed = Self {
            bootstrap_servers: bootstrap_servers?,
            topics: topics?,
            format: format?,
            startup: Startup::Earliest,
            isolation: isolation.unwrap_or(Isolation::ReadCommitted),
            on_data_loss: on_data_loss.unwrap_or(OnDataLoss::Fail),
            group_id,
            properties,
            tokens,
            limits,
            max_ahead,
            idle_timeout,
            max_skew,
            bad_records,
            timeout,
        };
        parsed.startup = match startup? {
            StartupMode::Known(startup) => startup,
            StartupMode::Group(span) => match parsed.group_id.clone() {
                Some(group) => Startup::Group(group),
                None => {
                    let message = "`scan_startup_mode = 'group'` needs the group";
                    options.report(Diagnostic::error(message, span).with_help("add `group_id = 'name'`"));
                    return None;
                }
            },
        };
        Some(parsed)
    }

    /// Where the brokers are, as written.
    pub fn bootstrap_servers(&self) -> &str {
        &self.bootstrap_servers
    }

    /// Which topics, as written: what a later run compares. Brokers may move.
    pub fn topics_text(&self) -> String {
        match &self.topics {
            Topics::Named(topics) => topics.join(", "),
            Topics::Matching(pattern) => format!("~{pattern}"),
        }
    }

    /// What of them changes what a record means, as text.
    pub(super) fn decoding_text(&self) -> String {
        let limit = self.limits.max_record_bytes;
        let format = self.format.decoding_text();
        format!("{format}; {:?}; max_record_bytes {limit}; max_ahead {:?}", self.isolation, self.max_ahead)
    }
}

/// Takes a time that says something about watermarks of partitions, which there must be.
fn take_of_watermark(options: &mut OptionMap, source: &SourceDefinition, key: &'static str) -> Option<Duration> {
    let span = span_of(options, key);
    let taken = options.take_duration(key)?;
    let watermark = source.watermark.as_ref();
    if watermark.is_none_or(|watermark| watermark.on_late.is_none()) {
        let message =
            format!("`{key}` is about a watermark that decides which rows are late, and {} has none", options.owner());
        let help = match watermark {
            Some(watermark) => {
                format!("add `ON LATE QUARANTINE` to the watermark on line {}", watermark.span.start.line)
            }
            None => "add `WATERMARK FOR column AS column - INTERVAL '5 minutes' ON LATE QUARANTINE`".to_owned(),
        };
        options.report(Diagnostic::error(message, span).with_help(help));
    } else if taken.is_zero() {
        let message = format!("`{key}` cannot be nothing");
        options.report(Diagnostic::error(message, span).with_help(format!("write for example `{key} = '30 seconds'`")));
    }
    Some(taken)
}

fn take_bad_records(options: &mut OptionMap) -> BadRecordLimit {
    let usual = BadRecordLimit::default();
    let span = span_of(options, "bad_records_window");
    let share = options.take_share("bad_records_max").unwrap_or(usual.share);
    let window = options.take_u64("bad_records_window", 1).unwrap_or(usual.window.into());
    if window > BAD_RECORDS_WINDOW_MAX {
        let message = format!("a window of {window} records is too long: each manifest tells which of them were bad");
        let help = format!("write at most {BAD_RECORDS_WINDOW_MAX}");
        options.report(Diagnostic::error(message, span).with_help(help));
    }
    BadRecordLimit { share, window: u32::try_from(window).unwrap_or(usual.window) }
}

fn span_of(options: &OptionMap, key: &str) -> Span {
    options.entries().iter().find(|entry| entry.key == key).map_or(options.owner_span(), |entry| entry.value_span)
}

fn take_topics(options: &mut OptionMap) -> Option<Topics> {
    let (topic_span, pattern_span) = (span_of(options, "topic"), span_of(options, "topic_pattern"));
    let (topic, pattern) = (options.take_text("topic"), options.take_text("topic_pattern"));
    match (topic, pattern) {
        (Some(_), Some(_)) => {
            let message = format!("{} has both `topic` and `topic_pattern`", options.owner());
            options.report(Diagnostic::error(message, pattern_span).with_help("keep one of the two"));
            None
        }
        (Some(text), None) => {
            let topics: Vec<_> = text.split(',').map(|topic| topic.trim().to_owned()).collect();
            let bad = topics.iter().find(|topic| !is_topic(topic));
            if let Some(bad) = bad {
                let message = format!("`{bad}` is no name of a topic");
                let help = "letters, digits, `.`, `_` and `-`; several topics are separated by commas";
                options.report(Diagnostic::error(message, topic_span).with_help(help));
                return None;
            }
            Some(Topics::Named(topics))
        }
        (None, Some(text)) => match Regex::new(&format!("^(?:{text})$")) {
            Ok(pattern) => Some(Topics::Matching(pattern)),
            Err(_) => {
                let message = format!("`{text}` is no regular expression");
                let help = "write for example `'orders-.*'`; it must match the whole name of a topic";
                options.report(Diagnostic::error(message, pattern_span).with_help(help));
                None
            }
        },
        (None, None) => options.require_text("topic", "'orders'").map(|_| Topics::Named(Vec::new())),
    }
}

/// Kafka's rule: 1 to 249 characters, and neither `.` nor `..`.
fn is_topic(text: &str) -> bool {
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=249).contains(&text.len()) && text.bytes().all(is_legal) && text != "." && text != ".."
}

enum StartupMode {
    Known(Startup),
    Group(Span),
}

fn take_startup(options: &mut OptionMap) -> Option<StartupMode> {
    const MODES: &[(&str, &str)] = &[
        ("earliest", "earliest"),
        ("latest", "latest"),
        ("timestamp", "timestamp"),
        ("offsets", "offsets"),
        ("group", "group"),
    ];
    let is_written = options.entries().iter().any(|entry| entry.key == "scan_startup_mode");
    let span = span_of(options, "scan_startup_mode");
    let mode = options.take_choice("scan_startup_mode", MODES);
    let timestamp = take_parsed(options, "scan_startup_timestamp", timestamp, "'2026-01-31T00:00:00Z'");
    let offsets = take_parsed(options, "scan_startup_offsets", offsets, "'0:42, 1:17' (partition:offset)");
    let missing = |options: &mut OptionMap, key: &str, example: &str| {
        let message = format!("`scan_startup_mode = '{}'` needs `{key}`", key.trim_start_matches("scan_startup_"));
        options.report(Diagnostic::error(message, span).with_help(format!("add `{key} = {example}`")));
        None
    };
    let given = [
        ("scan_startup_timestamp", "timestamp", timestamp.is_some()),
        ("scan_startup_offsets", "offsets", offsets.is_some()),
    ];
    for (key, needed, _) in given.into_iter().filter(|(_, needed, is_given)| *is_given && mode != Some(*needed)) {
        let message = format!("`{key}` says nothing without `scan_startup_mode = '{needed}'`");
        let help = format!("add `scan_startup_mode = '{needed}'`, or leave `{key}` out");
        options.report(Diagnostic::error(message, options.owner_span()).with_help(help));
    }
    match mode {
        None if is_written => None,
        None | Some("earliest") => Some(StartupMode::Known(Startup::Earliest)),
        Some("latest") => Some(StartupMode::Known(Startup::Latest)),
        Some("timestamp") => match timestamp {
            Some(Ok(millis)) => Some(StartupMode::Known(Startup::Timestamp(millis))),
            Some(Err(())) => None,
            None => missing(options, "scan_startup_timestamp", "'2026-01-31T00:00:00Z'"),
        },
        Some("offsets") => match offsets {
            Some(Ok(offsets)) => Some(StartupMode::Known(Startup::Offsets(offsets))),
            Some(Err(())) => None,
            None => missing(options, "scan_startup_offsets", "'0:42, 1:17'"),
        },
        Some(_) => Some(StartupMode::Group(span)),
    }
}

/// Takes an option that `parse` understands; `Err` where it was there and is reported.
fn take_parsed<T>(
    options: &mut OptionMap,
    key: &'static str,
    parse: impl Fn(&str) -> Option<T>,
    example: &str,
) -> Option<Result<T, ()>> {
    let entry = options.take(key)?;
    let text = entry.value.to_string();
    let parsed = parse(&text);
    if parsed.is_none() {
        let message = format!("option `{key}` cannot be `{text}`");
        options.report(Diagnostic::error(message, entry.value_span).with_help(format!("write for example {example}")));
    }
    Some(parsed.ok_or(()))
}

/// Milliseconds since 1970, UTC, as a number or as ISO 8601 (UTC, if it has no zone).
fn timestamp(text: &str) -> Option<i64> {
    let naive = || {
        let at = NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f");
        let at = at.or_else(|_| NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f")).ok();
        at.or_else(|| NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0))
    };
    let zoned = || DateTime::parse_from_rfc3339(text).ok().map(|at| at.timestamp_millis());
    text.parse()
        .ok()
        .filter(|millis| *millis >= 0)
        .or_else(zoned)
        .or_else(|| Some(naive()?.and_utc().timestamp_millis()))
}

fn offsets(text: &str) -> Option<Vec<(i32, i64)>> {
    let pair = |pair: &str| {
        let (partition, offset) = pair.split_once(':')?;
        let (partition, offset) = (partition.trim().parse::<i32>().ok()?, offset.trim().parse::<i64>().ok()?);
        (partition >= 0 && offset >= 0).then_some((partition, offset))
    };
    text.split(',').map(pair).collect()
}

/// `properties.*`: settings of the client by its own names, and where its tokens come from.
fn take_properties(options: &mut OptionMap, timeout: Duration) -> (Vec<(String, Secret)>, Option<TokenEndpoint>) {
    let entries = options.take_prefix("properties.");
    let mut properties = Vec::new();
    let mut is_sound = true;
    for entry in &entries {
        let key = entry.key.trim_start_matches("properties.");
        let value = revealed(entry);
        match property_problem(key, &value, entry) {
            Some(problem) => {
                is_sound = false;
                options.report(problem);
            }
            None if TokenEndpoint::has_option(&entry.key) => {}
            None => properties.push((key.to_owned(), value)),
        }
    }
    let needs_tokens = is_sound && security::check_connection(options, &entries);
    let tokens = if needs_tokens { TokenEndpoint::take(options, &entries, timeout) } else { None };
    (properties, tokens)
}

fn property_problem(key: &str, value: &Secret, entry: &OptionEntry) -> Option<Diagnostic> {
    if let Some((_, help)) = DENIED.iter().find(|(denied, _)| *denied == key) {
        let message = format!("`{}` is not for a pipeline to set", entry.key);
        return Some(Diagnostic::error(message, entry.key_span).with_help(*help));
    }
    let problem = security::problem(key, value, entry);
    if problem.is_some() || TokenEndpoint::has_option(&entry.key) {
        return problem;
    }
    // The client itself knows its settings, and what their values can be; no connection is made.
    let checked = ClientConfig::new().set(key, value.reveal()).create_native_config();
    let rdkafka::error::KafkaError::ClientConfig(_, reason, ..) = checked.err()? else { return None };
    let is_secret = matches!(entry.value, OptionValue::Secret(_));
    let said = if is_secret { "the client does not accept it".to_owned() } else { reason };
    let help = "librdkafka's CONFIGURATION.md lists the settings and their values";
    Some(Diagnostic::error(format!("option `{}` is refused: {said}", entry.key), entry.key_span).with_help(help))
}

/// What of a definition a Kafka source cannot be.
fn check_definition(source: &SourceDefinition, has_changes: bool, options: &mut OptionMap) {
    if source.kind == SourceKind::Table {
        let message = format!("`{}` is a table, and a topic is a log", source.name.value);
        let help = format!("write `CREATE SOURCE {} …`", source.name.value);
        options.report(Diagnostic::error(message, source.name.span).with_help(help));
    }
    for include in source.includes.iter().filter(|include| include.kind.is_of_files()) {
        let message = format!("`INCLUDE {}` is not available for Kafka", include.kind.as_sql());
        let help = "the choices are `KEY`, `VALUE`, `TIMESTAMP`, `TOPIC`, `PARTITION`, `OFFSET`, `HEADERS`, `OP` and \
                    `SOURCE_TIMESTAMP`";
        options.report(Diagnostic::error(message, include.name.span).with_help(help));
    }
    for include in source.includes.iter().filter(|include| include.kind.is_of_changes() && !has_changes) {
        let message = format!("`INCLUDE {}` is of changes, and the format has none", include.kind.as_sql());
        let help = "it needs `format = 'debezium_json'`";
        options.report(Diagnostic::error(message, include.name.span).with_help(help));
    }
    crate::source::check_defaults(source, options);
}
