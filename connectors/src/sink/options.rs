//! `WITH (…)` of a feature set as typed options.

use std::num::NonZeroUsize;
use std::path::Path;

use arrow::datatypes::Schema;
use bessemer_schemas::{
    ByteSize, Diagnostic, FeatureSetDefinition, Name, OptionMap, OptionValue, PartitionField, PartitionTransform, Span,
    nearest,
};
use parquet::basic::{Compression, ZstdLevel};

use super::quarantine::VIOLATION_COLUMNS;
use super::{partition, shape};
use crate::{Location, StoreOptions};

/// Rows of a row group where nothing is said: what readers work on in parallel, and what is held encoded in memory, at
/// most some 50 MB for twenty columns of numbers.
const ROW_GROUP_ROWS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(262_143);

/// Size of a file where nothing is said: few enough files for a listing, small enough to be replaced or fetched alone.
const FILE_BYTES: ByteSize = ByteSize(512 << 20);

/// ZSTD's level where nothing is said: about half the CPU of its own default of 3 for some 3 % larger files.
const ZSTD_LEVEL: u64 = 1;

/// Where and how a feature set is written.
#[derive(Debug, Clone)]
pub struct FeatureSetOptions {
    /// `path`: the set's folder.
    pub location: Location,
    /// `format`: plain files, or a Delta log over them as well.
    pub format: SetFormat,
    /// `partition_by`: Hive partitions; none by default.
    pub partition_by: Vec<PartitionField>,
    /// `row_group_rows`: rows of a row group; 262,144 by default.
    pub row_group_rows: NonZeroUsize,
    /// `file_bytes`: a file that has reached it ends with its row group; 512 MiB by default.
    pub file_bytes: ByteSize,
    /// `compression` and `compression_level`: ZSTD at level 1 by default.
    pub compression: Compression,
    /// `bloom_filter`: the columns of `ENTITY (…)` by default.
    pub bloom_filter: BloomFilter,
}

/// What readers of a set find.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SetFormat {
    /// Parquet files.
    Parquet,
    /// The same Parquet files and a Delta log that names the committed ones.
    Delta,
}

/// Which columns have bloom filters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BloomFilter {
    /// The columns of `ENTITY (…)`.
    Entity,
    /// No column.
    None,
    /// These.
    Columns(Vec<String>),
}

impl FeatureSetOptions {
    /// Takes the options of `set`, all of them: what is left is reported as unknown. Relative paths are relative to
    /// `base_dir`. Touches neither network nor disk.
    pub fn parse(set: &mut FeatureSetDefinition, base_dir: &Path) -> (Option<Self>, Vec<Diagnostic>) {
        Self::parse_options(std::mem::take(&mut set.options), base_dir)
    }

    /// The same for options that have left their set.
    pub fn parse_options(mut options: OptionMap, base_dir: &Path) -> (Option<Self>, Vec<Diagnostic>) {
        let location = take_location(&mut options, base_dir);
        let choices = [("parquet", SetFormat::Parquet), ("delta", SetFormat::Delta)];
        let format = options.take_choice("format", &choices).unwrap_or(SetFormat::Parquet);
        let partition_by = take_partitions(&mut options);
        let row_group_rows = options
            .take_u64("row_group_rows", 1)
            .and_then(|rows| NonZeroUsize::new(usize::try_from(rows).ok()?))
            .unwrap_or(ROW_GROUP_ROWS);
        let file_bytes = options.take_bytes("file_bytes").unwrap_or(FILE_BYTES);
        let compression = take_compression(&mut options);
        let bloom_filter = take_bloom_filter(&mut options);
        let diagnostics = options.finish("a feature set");

        let is_wrong = diagnostics.iter().any(Diagnostic::is_error);
        let parsed = location.filter(|_| !is_wrong).map(|location| Self {
            location,
            format,
            partition_by,
            row_group_rows,
            file_bytes,
            compression,
            bloom_filter,
        });
        (parsed, diagnostics)
    }

    /// Options for `location` with every default.
    pub fn with_defaults(location: Location) -> Self {
        Self {
            location,
            format: SetFormat::Parquet,
            partition_by: Vec::new(),
            row_group_rows: ROW_GROUP_ROWS,
            file_bytes: FILE_BYTES,
            compression: default_compression(),
            bloom_filter: BloomFilter::Entity,
        }
    }

    /// What is wrong with these options for rows of `schema` (without hidden columns), each with the column's name.
    pub fn validate(&self, schema: &Schema, entity: &[Name]) -> Vec<String> {
        let mut problems = self.partition_problems(schema);
        let bloom_columns = match &self.bloom_filter {
            BloomFilter::Columns(columns) => columns.as_slice(),
            BloomFilter::Entity | BloomFilter::None => &[],
        };
        let named = entity.iter().map(|name| ("entity", name.value.as_str()));
        let named = named.chain(bloom_columns.iter().map(|name| ("bloom filter", name.as_str())));
        for (role, column) in named {
            if schema.index_of(column).is_err() {
                problems.push(missing(role, column, schema));
            }
        }
        for name in VIOLATION_COLUMNS.iter().filter(|name| schema.index_of(name).is_ok()) {
            problems.push(format!("column `{name}` has the name of a column of the quarantine: give it another name"));
        }
        problems.extend(shape::problems(self, schema));
        problems
    }

    /// Path, partitioning and format as one text, for the comparison with an earlier definition.
    pub fn layout(&self) -> String {
        let format = match self.format {
            SetFormat::Parquet => "parquet",
            SetFormat::Delta => "delta",
        };
        let partitions = self.partition_by.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        format!("{} partition_by ({partitions}) format {format}", self.location.as_text())
    }

    fn partition_problems(&self, schema: &Schema) -> Vec<String> {
        let mut problems = Vec::new();
        for field in &self.partition_by {
            match schema.field_with_name(&field.column) {
                Err(_) => problems.push(missing("partition", &field.column, schema)),
                Ok(column) => {
                    if let Some(why) = partition::refusal(field.transform, column.data_type()) {
                        problems.push(format!("partition column `{}` {why}", field.column));
                    }
                }
            }
            if field.transform != PartitionTransform::Identity && schema.index_of(&field.name()).is_ok() {
                let name = field.name();
                problems
                    .push(format!("`{field}` makes a partition column `{name}`, and the set has a column `{name}`"));
            }
        }
        let is_only_path = |name: &str| {
            self.partition_by
                .iter()
                .any(|field| field.transform == PartitionTransform::Identity && field.column == name)
        };
        if schema.fields().iter().all(|field| is_only_path(field.name())) {
            problems.push("every column is a partition column, so that the files would have none".to_owned());
        }
        problems
    }
}

/// Reports sets that would write into one another's folders. Each set comes with its name and its options.
pub fn check_distinct_paths(sets: &[(&Name, &FeatureSetOptions)]) -> Vec<Diagnostic> {
    let mut diagnostics = Vec::new();
    for (idx, (name, options)) in sets.iter().enumerate() {
        for (other, earlier) in sets.iter().take(idx) {
            let (here, there) = (&options.location, &earlier.location);
            let is_one_store = here.store().to_string() == there.store().to_string();
            let is_nested =
                here.prefix().prefix_matches(there.prefix()) || there.prefix().prefix_matches(here.prefix());
            if is_one_store && is_nested {
                let message = format!(
                    "feature set `{}` is written into `{}`, which overlaps with the folder of `{}`",
                    name.value,
                    here.as_text(),
                    other.value
                );
                let diagnostic = Diagnostic::error(message, name.span);
                diagnostics.push(diagnostic.with_help("give each feature set a folder of its own"));
            }
        }
    }
    diagnostics
}

pub(crate) fn default_compression() -> Compression {
    Compression::ZSTD(ZstdLevel::try_new(1).unwrap_or_default())
}

fn missing(role: &str, column: &str, schema: &Schema) -> String {
    let names = || schema.fields().iter().map(|field| field.name().as_str());
    let help = match nearest(column, names()) {
        Some(name) => format!("did you mean `{name}`?"),
        None => format!("the columns are {}", names().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")),
    };
    format!("{role} column `{column}` is not in the set: {help}")
}

/// Place of the value of `key`, while it is not taken.
fn value_span(options: &OptionMap, key: &str) -> Option<Span> {
    options.entries().iter().find(|entry| entry.key == key).map(|entry| entry.value_span)
}

fn take_location(options: &mut OptionMap, base_dir: &Path) -> Option<Location> {
    let store_options = StoreOptions::take(options);
    let span = value_span(options, "path").unwrap_or_else(|| options.owner_span());
    let path = options.require_text("path", "'./features/name/'")?;
    if path.starts_with("http://") || path.starts_with("https://") {
        let message = format!("{} cannot be written to `{path}`: HTTP is for reading", options.owner());
        let help = "write to a folder, or to `s3://`, `gs://` or `az://`";
        options.report(Diagnostic::error(message, span).with_help(help));
        return None;
    }
    match Location::parse(&path, base_dir, &store_options) {
        Ok(location) => Some(location),
        Err(error) => {
            let help = "write a folder such as `'./features/name/'` or a URL such as `'s3://bucket/features/name/'`";
            options.report(Diagnostic::error(error.to_string(), span).with_help(help));
            None
        }
    }
}

fn take_partitions(options: &mut OptionMap) -> Vec<PartitionField> {
    let span = value_span(options, "partition_by").unwrap_or_else(|| options.owner_span());
    let Some(text) = options.take_text("partition_by") else { return Vec::new() };
    let fields = match PartitionField::parse_list(&text) {
        Ok(fields) => fields,
        Err(help) => {
            let message = format!("option `partition_by` cannot be `{text}`");
            options.report(Diagnostic::error(message, span).with_help(help));
            return Vec::new();
        }
    };
    let twice = fields.iter().enumerate().find(|(idx, field)| fields[..*idx].iter().any(|f| f.name() == field.name()));
    if let Some((_, field)) = twice {
        let message = format!("`{field}` stands twice in `partition_by`");
        options.report(Diagnostic::error(message, span).with_help("leave one of them out"));
    }
    fields
}

fn take_compression(options: &mut OptionMap) -> Compression {
    let choices = [
        ("zstd", default_compression()),
        ("snappy", Compression::SNAPPY),
        ("lz4", Compression::LZ4_RAW),
        ("none", Compression::UNCOMPRESSED),
    ];
    let codec = options.take_choice("compression", &choices);
    let span = value_span(options, "compression_level").unwrap_or_else(|| options.owner_span());
    let level = options.take_u64("compression_level", 1);
    match codec {
        None | Some(Compression::ZSTD(_)) => {
            let level = level.unwrap_or(ZSTD_LEVEL);
            let zstd = i32::try_from(level).ok().and_then(|level| ZstdLevel::try_new(level).ok());
            if zstd.is_none() {
                let message = format!("option `compression_level` cannot be `{level}`");
                options.report(Diagnostic::error(message, span).with_help("ZSTD's levels are 1 to 22"));
            }
            zstd.map_or_else(default_compression, Compression::ZSTD)
        }
        Some(other) => {
            if level.is_some() {
                let message = "option `compression_level` is for `compression = 'zstd'`";
                options.report(Diagnostic::error(message, span).with_help("leave `compression_level` out"));
            }
            other
        }
    }
}

fn take_bloom_filter(options: &mut OptionMap) -> BloomFilter {
    let is_choice = |text: &str| text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("false");
    let entry = options.entries().iter().find(|entry| entry.key == "bloom_filter");
    if let Some(OptionValue::Text(text)) = entry.map(|entry| &entry.value)
        && !is_choice(text)
    {
        let columns = text.split(',').map(|column| column.trim().to_owned()).collect();
        options.take("bloom_filter");
        return BloomFilter::Columns(columns);
    }
    match options.take_bool("bloom_filter") {
        Some(false) => BloomFilter::None,
        Some(true) | None => BloomFilter::Entity,
    }
}

#[cfg(test)]
mod tests;
