//! Records of a quarantine that a person or a script has mended: JSON lines as `bessemer quarantine --json` prints them,
//! with other text in `original`.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use bessemer_connectors::scan::MENDED_COLUMN;
use bessemer_schemas::Digest;
use datafusion::arrow::array::{ArrayRef, AsArray, BinaryBuilder, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Field, Int32Type, Int64Type, Schema, UInt64Type};
use serde::Deserialize;

use crate::error::{Error, Result};
use crate::output::readable_bytes;

/// What mended records are to be, by where they came from.
#[derive(Debug)]
pub(crate) struct Repaired {
    texts: HashMap<Place, String>,
    digest: Digest,
}

/// Where a record came from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Place {
    Offset { topic: String, partition: i32, offset: i64 },
    Record { path: String, record: u64 },
}

#[derive(Debug, Deserialize)]
struct Line {
    topic: Option<String>,
    partition: Option<i32>,
    offset: Option<i64>,
    path: Option<String>,
    record: Option<u64>,
    original: String,
}

impl Line {
    fn place(&self) -> Option<Place> {
        match (&self.topic, self.partition, self.offset, &self.path, self.record) {
            (Some(topic), Some(partition), Some(offset), ..) => {
                Some(Place::Offset { topic: topic.clone(), partition, offset })
            }
            (.., Some(path), Some(record)) => Some(Place::Record { path: path.clone(), record }),
            _ => None,
        }
    }
}

impl Repaired {
    /// Reads the records of a file.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text =
            std::fs::read_to_string(path).map_err(|source| Error::Unreadable { path: path.to_owned(), source })?;
        Self::parse(&text).map_err(|(line, reason)| Error::Unknown {
            message: format!(
                "line {line} of `{}` is no repaired record: {reason}; write lines as `bessemer quarantine … --json` \
                 prints them, with the mended record in `original`",
                path.display()
            ),
        })
    }

    fn parse(text: &str) -> Result<Self, (usize, String)> {
        let mut texts = HashMap::new();
        for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let record: Line = serde_json::from_str(line).map_err(|error| (at + 1, error.to_string()))?;
            let missing = || (at + 1, "it has neither topic, partition and offset nor path and record".to_owned());
            let place = record.place().ok_or_else(missing)?;
            if texts.insert(place, record.original).is_some() {
                return Err((at + 1, "the same record comes twice".to_owned()));
            }
        }
        Ok(Self { texts, digest: Digest::of(text.as_bytes()) })
    }

    /// How many records.
    pub(crate) fn records(&self) -> u64 {
        self.texts.len() as u64
    }

    /// Digest of the file.
    pub(crate) fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Which of `records` were mended, and all of them, with their bytes in [`MENDED_COLUMN`]: what they were mended to, or
    /// what arrived.
    pub(crate) fn mend(&self, records: &RecordBatch) -> Result<(Vec<bool>, RecordBatch)> {
        let unfit = || Error::Internal { message: "quarantined records have no bytes".to_owned() };
        let originals = records.column_by_name("original").and_then(|column| column.as_binary_opt::<i32>());
        let originals = originals.ok_or_else(unfit)?;
        let mut mended = BinaryBuilder::new();
        let texts = places(records)?.into_iter().map(|place| self.texts.get(&place));
        let texts: Vec<_> = texts.collect();
        for (text, original) in texts.iter().zip(originals.iter().map(Option::unwrap_or_default)) {
            match text {
                // What a person could not read was printed in another way: the bytes are as they were.
                Some(text) if **text != readable_bytes(original) => mended.append_value(text),
                _ => mended.append_value(original),
            }
        }
        let mut fields: Vec<_> = records.schema().fields().iter().cloned().collect();
        fields.push(Arc::new(Field::new(MENDED_COLUMN, DataType::Binary, false)));
        let columns = records.columns().iter().cloned().chain([Arc::new(mended.finish()) as ArrayRef]);
        let mended = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns.collect());
        let is_mended = texts.iter().map(Option::is_some).collect();
        Ok((is_mended, mended.map_err(bessemer_connectors::Error::from)?))
    }
}

fn places(records: &RecordBatch) -> Result<Vec<Place>> {
    let unfit = || Error::Internal { message: "quarantined records do not say where they came from".to_owned() };
    let column = |name: &str| records.column_by_name(name).ok_or_else(unfit);
    let rows = 0..records.num_rows();
    if records.column_by_name("topic").is_some() {
        let topics = column("topic")?.as_string_opt::<i32>().ok_or_else(unfit)?;
        let partitions = column("partition")?.as_primitive_opt::<Int32Type>().ok_or_else(unfit)?;
        let offsets = column("offset")?.as_primitive_opt::<Int64Type>().ok_or_else(unfit)?;
        let place = |row| Place::Offset {
            topic: topics.value(row).to_owned(),
            partition: partitions.value(row),
            offset: offsets.value(row),
        };
        return Ok(rows.map(place).collect());
    }
    let paths = column("path")?.as_string_opt::<i32>().ok_or_else(unfit)?;
    let numbers = column("record")?.as_primitive_opt::<UInt64Type>().ok_or_else(unfit)?;
    let place = |row| Place::Record { path: paths.value(row).to_owned(), record: numbers.value(row) };
    Ok(rows.map(place).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> (usize, String) {
        Repaired::parse(text).unwrap_err()
    }

    #[test]
    fn lines_that_are_no_repaired_records_are_told_by_their_number() {
        let good = r#"{"topic": "t", "partition": 0, "offset": 7, "original": "x", "reason": "invalid_json"}"#;
        assert_eq!(Repaired::parse(good).unwrap().records(), 1);
        assert_eq!(problem(&format!("{good}\n\n{good}")), (3, "the same record comes twice".to_owned()));
        assert_eq!(problem(&format!("{good}\n{{\"original\": \"x\"}}")).0, 2);
        assert_eq!(problem(r#"{"path": "a.json", "record": 3}"#).0, 1);
        assert_eq!(problem("no JSON").0, 1);
    }
}
