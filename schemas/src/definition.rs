//! What the user wrote, resolved: names, options, columns, queries, expectations.
//!
//! Queries and expressions stay `sqlparser` trees, whose spans are places in the pipeline's own files; nothing here
//! knows how they will be run.

use arrow_schema::{DataType, Field, TimeUnit};
use sqlparser::ast::{Expr, Query};

use crate::{OptionMap, SourceFiles, Span};

/// An identifier as PostgreSQL reads it (unquoted: lower case), with its place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// The identifier's value.
    pub value: String,
    /// Its place.
    pub span: Span,
}

/// A resolved pipeline: all statements of all its files.
#[derive(Debug, Clone)]
pub struct Definition {
    /// The text, for rendering diagnostics.
    pub files: SourceFiles,
    /// `CREATE PIPELINE`, or a name made from the first file where there is none.
    pub pipeline: PipelineDefinition,
    /// `SET key = value`: engine options.
    pub settings: OptionMap,
    /// `CREATE SOURCE` and `CREATE TABLE`, in the order written.
    pub sources: Vec<SourceDefinition>,
    /// `CREATE VIEW`, ordered so that a view comes after the views it reads.
    pub views: Vec<ViewDefinition>,
    /// `CREATE FEATURE SET`, in the order written.
    pub feature_sets: Vec<FeatureSetDefinition>,
}

/// `CREATE PIPELINE name WITH (…)`.
#[derive(Debug, Clone)]
pub struct PipelineDefinition {
    /// Its name.
    pub name: Name,
    /// Its options.
    pub options: OptionMap,
}

/// What `CREATE SOURCE` and `CREATE TABLE` mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SourceKind {
    /// `CREATE SOURCE`: a log; every row is read once.
    Log,
    /// `CREATE TABLE`: a snapshot; its whole content as it stands when an epoch begins.
    Table,
}

/// A source or a table.
#[derive(Debug, Clone)]
pub struct SourceDefinition {
    /// Its name.
    pub name: Name,
    /// Log or snapshot.
    pub kind: SourceKind,
    /// Declared columns; `None` where the format carries a schema or it is inferred.
    pub columns: Option<Vec<ColumnDefinition>>,
    /// `WATERMARK FOR column AS expression`.
    pub watermark: Option<WatermarkDefinition>,
    /// `INCLUDE …`: metadata as columns, after the declared ones.
    pub includes: Vec<IncludeColumn>,
    /// `WITH (…)`.
    pub options: OptionMap,
}

/// One column of a source.
#[derive(Debug, Clone)]
pub struct ColumnDefinition {
    /// Its name.
    pub name: Name,
    /// Its Arrow type. `TIMESTAMP` is microseconds without a zone, `TIMESTAMPTZ` microseconds in UTC.
    pub data_type: DataType,
    /// Place of the type.
    pub type_span: Span,
    /// Whether it may be null.
    pub nullable: bool,
    /// `DEFAULT expression`: the value where the field is missing (not where it is null).
    pub default: Option<Expr>,
    /// `GENERATED ALWAYS AS (expression) STORED`: computed from the other columns, never read.
    pub generated: Option<Expr>,
}

/// `ON LATE QUARANTINE` or `ON LATE DROP`: what becomes of a row whose event time the watermark has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OnLate {
    /// It is in the source's quarantine, and counted.
    Quarantine,
    /// It is counted.
    Drop,
}

/// `WATERMARK FOR column [AS expression] [ON LATE action]`.
#[derive(Debug, Clone)]
pub struct WatermarkDefinition {
    /// The event-time column.
    pub column: Name,
    /// The expression, `column - INTERVAL '…'`; `None` means no delay.
    pub expr: Option<Expr>,
    /// How far the watermark stays behind the newest event time, in microseconds.
    pub delay: i64,
    /// `ON LATE …`: what becomes of rows that it has passed; `None` where they are as good as others.
    pub on_late: Option<OnLate>,
    /// Place of the clause.
    pub span: Span,
}

/// What `INCLUDE` can add to a row: of a file its place, of a Kafka record what came with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IncludeKind {
    /// Path of the object, `VARCHAR`.
    Path,
    /// Number of the row in its object, from 0, `BIGINT`.
    Row,
    /// Modification time of the object, `TIMESTAMPTZ`.
    Modified,
    /// Key of the record, `BINARY`.
    Key,
    /// Value of the record as it came, `BINARY`.
    Value,
    /// Timestamp of the record, `TIMESTAMPTZ`.
    Timestamp,
    /// Topic of the record, `VARCHAR`.
    Topic,
    /// Partition of the record, `INT`.
    Partition,
    /// Offset of the record, `BIGINT`.
    Offset,
    /// Headers of the record, `ARRAY<STRUCT<key VARCHAR, value BINARY>>`.
    Headers,
    /// What happened to the row of a change: `c`, `r`, `u` or `d`, `VARCHAR`.
    Operation,
    /// When the database made a change, `TIMESTAMPTZ`.
    SourceTimestamp,
}

impl IncludeKind {
    /// All of them, as SQL spells them.
    pub const ALL: [(&'static str, Self); 12] = [
        ("PATH", Self::Path),
        ("ROW", Self::Row),
        ("MODIFIED", Self::Modified),
        ("KEY", Self::Key),
        ("VALUE", Self::Value),
        ("TIMESTAMP", Self::Timestamp),
        ("TOPIC", Self::Topic),
        ("PARTITION", Self::Partition),
        ("OFFSET", Self::Offset),
        ("HEADERS", Self::Headers),
        ("OP", Self::Operation),
        ("SOURCE_TIMESTAMP", Self::SourceTimestamp),
    ];

    /// As SQL spells it.
    pub fn as_sql(self) -> &'static str {
        Self::ALL.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }

    /// Type of the column.
    pub fn data_type(self) -> DataType {
        match self {
            Self::Path | Self::Topic | Self::Operation => DataType::Utf8,
            Self::Row | Self::Offset => DataType::Int64,
            Self::Partition => DataType::Int32,
            Self::Modified | Self::Timestamp | Self::SourceTimestamp => {
                DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
            }
            Self::Key | Self::Value => DataType::Binary,
            Self::Headers => {
                let key = Field::new("key", DataType::Utf8, false);
                let value = Field::new("value", DataType::Binary, true);
                DataType::new_list(DataType::Struct(vec![key, value].into()), false)
            }
        }
    }

    /// Whether the column may be null: a record need not have a key or a timestamp.
    pub fn is_nullable(self) -> bool {
        matches!(self, Self::Key | Self::Timestamp | Self::SourceTimestamp)
    }

    /// Whether it is about changes of rows.
    pub fn is_of_changes(self) -> bool {
        matches!(self, Self::Operation | Self::SourceTimestamp)
    }

    /// Whether it is about files.
    pub fn is_of_files(self) -> bool {
        matches!(self, Self::Path | Self::Row | Self::Modified)
    }
}

/// `INCLUDE PATH AS name`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IncludeColumn {
    /// What.
    pub kind: IncludeKind,
    /// The column's name.
    pub name: Name,
}

impl IncludeColumn {
    /// The column.
    pub fn field(&self) -> Field {
        Field::new(&self.name.value, self.kind.data_type(), self.kind.is_nullable())
    }
}

/// `CREATE VIEW name AS query`.
#[derive(Debug, Clone)]
pub struct ViewDefinition {
    /// Its name.
    pub name: Name,
    /// Its query.
    pub query: Box<Query>,
    /// Place of the query.
    pub query_span: Span,
}

/// `CREATE FEATURE SET name (constraints) ENTITY (…) EVENT TIME (…) WITH (…) AS query`.
#[derive(Debug, Clone)]
pub struct FeatureSetDefinition {
    /// Its name.
    pub name: Name,
    /// Its expectations, in the order written; names are unique.
    pub constraints: Vec<Constraint>,
    /// Entity key columns; may be empty.
    pub entity: Vec<Name>,
    /// Event-time column.
    pub event_time: Option<EventTime>,
    /// Place of `EMIT ON WINDOW CLOSE`: each window's rows appear once, when the watermark has passed its end.
    pub emit_on_window_close: Option<Span>,
    /// `EMIT EVERY INTERVAL '…'`: how often a daemon replaces the set.
    pub emit_every: Option<EmitEvery>,
    /// `WITH (…)`.
    pub options: OptionMap,
    /// The query.
    pub query: Box<Query>,
    /// Place of the query.
    pub query_span: Span,
}

/// `EMIT EVERY INTERVAL '…'`, of event time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EmitEvery {
    /// Microseconds, at least one.
    pub interval: i64,
    /// Place of the clause.
    pub span: Span,
}

/// `EVENT TIME (column)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventTime {
    /// The column of the set's query.
    pub column: Name,
}

/// `CONSTRAINT name EXPECT … ON VIOLATION action`.
#[derive(Debug, Clone)]
pub struct Constraint {
    /// Its name.
    pub name: Name,
    /// What must hold.
    pub expectation: Expectation,
    /// What happens where it does not.
    pub action: Action,
    /// Place of the expression.
    pub expr_span: Span,
}

/// What must hold.
#[derive(Debug, Clone)]
pub enum Expectation {
    /// `EXPECT (predicate)`, of each row; a predicate that is NULL passes, as in SQL's CHECK.
    Row(Box<Expr>),
    /// `EXPECT AGGREGATE (predicate) [PER RUN]`, of all rows that would be published.
    Aggregate {
        /// A Boolean expression over aggregates.
        expr: Box<Expr>,
        /// Over which rows.
        scope: AggregateScope,
    },
}

/// Which rows an aggregate expectation sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AggregateScope {
    /// The whole content of a snapshot set (no clause written).
    Whole,
    /// `PER RUN`: what one run adds to an append set; the run is then one epoch.
    Run,
}

/// `ON VIOLATION …`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Keep the row and count it (the default).
    Warn,
    /// Leave the row out and count it.
    DropRow,
    /// Put the row in quarantine with what it broke.
    Quarantine,
    /// Commit nothing and stop.
    Fail,
}
