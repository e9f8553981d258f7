//! Committed rows as text that can be compared: what a reader that globs `*.parquet` sees.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimeUnit};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

/// What a column holds, as far as a comparison must know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Text.
    String,
    /// `true` or `false`.
    Bool,
    /// Any integer.
    Int,
    /// Any floating-point number.
    Float,
    /// A date, `2013-01-31`.
    Date,
    /// Microseconds since 1970.
    Timestamp,
}

/// Rows of text; `\N` is null.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rows {
    /// Name and kind of each column.
    pub columns: Vec<(String, Kind)>,
    /// The rows, a text for each column.
    pub rows: Vec<Vec<String>>,
}

/// What null is written as.
const NULL: &str = "\\N";

impl Rows {
    /// The same rows with these columns, in this order; fails if one is missing.
    pub fn select(&self, names: &[&str]) -> Result<Self> {
        let indices = names.iter().map(|name| {
            let index = self.columns.iter().position(|(column, _)| column == name);
            index.with_context(|| format!("column `{name}` is missing among {:?}", self.columns))
        });
        let indices = indices.collect::<Result<Vec<_>>>()?;
        let rows = self.rows.iter().map(|row| indices.iter().map(|&index| row[index].clone()).collect());
        Ok(Self { columns: indices.iter().map(|&index| self.columns[index].clone()).collect(), rows: rows.collect() })
    }

    /// The same rows, ordered by their text.
    #[must_use]
    pub fn sorted(mut self) -> Self {
        self.rows.sort();
        self
    }
}

impl Kind {
    /// The kind by its word in the pinned files.
    pub fn parse(word: &str) -> Result<Self> {
        Ok(match word {
            "string" => Self::String,
            "bool" => Self::Bool,
            "int" => Self::Int,
            "float" => Self::Float,
            "date" => Self::Date,
            "timestamp" => Self::Timestamp,
            other => bail!("`{other}` is no kind of column"),
        })
    }

    fn of(data_type: &DataType) -> Result<Self> {
        Ok(match data_type {
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Self::String,
            DataType::Dictionary(_, values) => Self::of(values)?,
            DataType::Boolean => Self::Bool,
            data_type if data_type.is_integer() => Self::Int,
            data_type if data_type.is_floating() => Self::Float,
            DataType::Date32 | DataType::Date64 => Self::Date,
            DataType::Timestamp(..) => Self::Timestamp,
            other => bail!("no text is agreed for a column of type {other}"),
        })
    }
}

/// All `*.parquet` files below a folder, sorted; hidden files and folders (the Delta log) are left out, as readers do.
pub fn parquet_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with(['.', '_']) {
                continue;
            }
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else if entry.path().extension().is_some_and(|extension| extension == "parquet") {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Reads all rows below a folder, Hive partition columns included where the files do not hold them.
pub fn read_set(folder: &Path) -> Result<Rows> {
    let mut all = Rows::default();
    for path in parquet_files(folder)? {
        let rows = read_file(folder, &path).with_context(|| format!("in {}", path.display()))?;
        if all.columns.is_empty() {
            all.columns = rows.columns;
        } else {
            ensure!(all.columns == rows.columns, "{} has other columns than the files before it", path.display());
        }
        all.rows.extend(rows.rows);
    }
    Ok(all)
}

fn read_file(folder: &Path, path: &Path) -> Result<Rows> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(path)?)?;
    let mut rows = Rows::default();
    for field in builder.schema().fields() {
        rows.columns.push((field.name().clone(), Kind::of(field.data_type())?));
    }
    for batch in builder.build()? {
        append(&batch?, &mut rows.rows)?;
    }
    for (name, value) in partitions(folder, path)? {
        add_partition(&mut rows, name, &value)?;
    }
    Ok(rows)
}

fn append(batch: &RecordBatch, rows: &mut Vec<Vec<String>>) -> Result<()> {
    let columns = batch.columns().iter().map(texts).collect::<Result<Vec<_>>>()?;
    let mut columns: Vec<_> = columns.into_iter().map(Vec::into_iter).collect();
    rows.extend((0..batch.num_rows()).map(|_| columns.iter_mut().filter_map(Iterator::next).collect()));
    Ok(())
}

/// The canonical text of each value; `integration-tests/oracle/flights.py` writes the same.
fn texts(column: &ArrayRef) -> Result<Vec<String>> {
    let null_or =
        |index: usize, text: &dyn Fn() -> String| if column.is_null(index) { NULL.to_owned() } else { text() };
    let rows = 0..column.len();
    Ok(match Kind::of(column.data_type())? {
        Kind::Float => {
            let values = cast(column, &DataType::Float64)?;
            let values = values.as_primitive::<Float64Type>();
            rows.map(|index| null_or(index, &|| format!("{:?}", values.value(index)))).collect()
        }
        Kind::Timestamp => {
            let zone = match column.data_type() {
                DataType::Timestamp(_, zone) => zone.clone(),
                _ => None,
            };
            let micros = cast(column, &DataType::Timestamp(TimeUnit::Microsecond, zone))?;
            let values = cast(&micros, &DataType::Int64)?;
            let values = values.as_primitive::<Int64Type>();
            rows.map(|index| null_or(index, &|| values.value(index).to_string())).collect()
        }
        Kind::Bool => {
            let values = column.as_boolean();
            rows.map(|index| null_or(index, &|| values.value(index).to_string())).collect()
        }
        Kind::String | Kind::Int | Kind::Date => {
            let values = cast(column, &DataType::Utf8)?;
            let values = values.as_string::<i32>();
            rows.map(|index| null_or(index, &|| values.value(index).to_owned())).collect()
        }
    })
}

/// `name=value` of each folder between the set's and the file.
fn partitions(folder: &Path, path: &Path) -> Result<Vec<(String, String)>> {
    let relative = path.strip_prefix(folder)?;
    let folders = relative.parent().into_iter().flat_map(Path::components);
    folders
        .map(|part| {
            let part = part.as_os_str().to_string_lossy();
            let (name, value) = part.split_once('=').with_context(|| format!("`{part}` is no Hive partition"))?;
            Ok((name.to_owned(), value.to_owned()))
        })
        .collect()
}

/// Adds a partition column, or checks it against the timestamp or date that it was made from.
fn add_partition(rows: &mut Rows, name: String, value: &str) -> Result<()> {
    let value = if value == "__HIVE_DEFAULT_PARTITION__" { NULL } else { value };
    let made_from = ["_month", "_day", "_hour"].iter().find_map(|suffix| name.strip_suffix(suffix));
    let origin = made_from.and_then(|column| rows.columns.iter().position(|(name, _)| name == column));
    let Some(index) = origin else {
        rows.columns.push((name, Kind::String));
        rows.rows.iter_mut().for_each(|row| row.push(value.to_owned()));
        return Ok(());
    };
    let is_date = rows.columns[index].1 == Kind::Date;
    for row in rows.rows.iter().filter(|_| is_date) {
        ensure!(row[index].starts_with(value), "a row of {} lies in partition {name}={value}", row[index]);
    }
    Ok(())
}
