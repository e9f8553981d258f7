//! Decoding in random pieces, and breaking text at random.

use std::collections::BTreeMap;

use arrow::array::cast::AsArray;
use arrow::array::types::UInt64Type;
use arrow::array::{ArrayRef, RecordBatch};
use arrow_schema::SchemaRef;
use bessemer_connectors::formats::text::{DecodeLimits, TextDecoder, TextDecoderOptions, TextFormat};
use rand::Rng;
use rand::rngs::StdRng;

/// How to decode.
pub(crate) struct Case {
    /// Declared columns.
    pub(crate) schema: SchemaRef,
    /// Columns read.
    pub(crate) projection: Vec<usize>,
    /// Format.
    pub(crate) format: TextFormat,
    /// Defaults.
    pub(crate) defaults: Vec<Option<ArrayRef>>,
    /// Bounds.
    pub(crate) limits: DecodeLimits,
}

/// What came out, by record number.
#[derive(Debug)]
pub(crate) struct Decoded {
    /// For each row its columns, and where it is in them.
    pub(crate) rows: BTreeMap<u64, Vec<(ArrayRef, usize)>>,
    /// Rejects.
    pub(crate) rejects: BTreeMap<u64, Reject>,
}

/// A rejected record.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Reject {
    /// Line from 1.
    pub(crate) line: u64,
    /// Offset.
    pub(crate) byte_start: u64,
    /// Code.
    pub(crate) reason: String,
    /// Bytes.
    pub(crate) original: Vec<u8>,
}

/// Decodes `object` in random pieces.
pub(crate) fn decode(rng: &mut StdRng, case: &Case, object: &[u8]) -> Result<Decoded, String> {
    let mut decoder = TextDecoder::new(TextDecoderOptions {
        schema: SchemaRef::clone(&case.schema),
        projection: Some(case.projection.clone()),
        format: case.format.clone(),
        defaults: case.defaults.clone(),
        limits: case.limits,
    })
    .map_err(|error| error.to_string())?;
    let mut found = Decoded { rows: BTreeMap::new(), rejects: BTreeMap::new() };
    let piece_max = [1, 7, 100, 10_000][rng.random_range(0..4)];
    let mut rest = object;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(rng.random_range(1..=piece_max).min(rest.len()));
        decoder.feed(piece).map_err(|fault| format!("{fault:?}"))?;
        rest = after;
    }
    let counts = decoder.finish_object().map_err(|fault| format!("{fault:?}"))?;
    while let Some(batch) = decoder.next_batch() {
        if batch.batch.num_rows() > case.limits.batch_rows {
            return Err(format!("a batch of {} rows", batch.batch.num_rows()));
        }
        for (at, record) in batch.numbers.iter().enumerate() {
            let row = batch.batch.columns().iter().map(|column| (ArrayRef::clone(column), at)).collect();
            found.rows.insert(record, row);
        }
    }
    if let Some(batch) = decoder.take_rejects().map_err(|fault| format!("{fault:?}"))? {
        note_rejects(&batch, &mut found);
    }
    if counts.records != (found.rows.len() + found.rejects.len()) as u64 || counts.bytes != object.len() as u64 {
        return Err(format!("{counts:?} for {} rows, {} rejects", found.rows.len(), found.rejects.len()));
    }
    Ok(found)
}

fn note_rejects(batch: &RecordBatch, decoded: &mut Decoded) {
    let numbers = |at: usize| batch.column(at).as_primitive::<UInt64Type>();
    for row in 0..batch.num_rows() {
        let reject = Reject {
            line: numbers(1).value(row),
            byte_start: numbers(2).value(row),
            reason: batch.column(4).as_string::<i32>().value(row).to_owned(),
            original: batch.column(6).as_binary::<i32>().value(row).to_vec(),
        };
        decoded.rejects.insert(numbers(0).value(row), reject);
    }
}

/// Changes a few bytes of `text`.
pub(crate) fn mutate(rng: &mut StdRng, text: &mut Vec<u8>, alphabet: &[u8]) {
    for _ in 0..rng.random_range(1..4) {
        let at = rng.random_range(0..=text.len());
        let byte = alphabet[rng.random_range(0..alphabet.len())];
        match rng.random_range(0..6) {
            0 => text.insert(at, byte),
            1 if at < text.len() => text[at] = byte,
            2 if at < text.len() => _ = text.remove(at),
            3 => text.truncate(at),
            4 => {
                let end = rng.random_range(at..=text.len());
                let copy = text[at..end].to_vec();
                text.splice(at..at, copy);
            }
            _ => {
                let end = rng.random_range(at..=text.len()).min(at + 5);
                text.drain(at..end);
            }
        }
    }
}
