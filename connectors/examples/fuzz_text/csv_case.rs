//! Seeded CSV, compared with the `csv` crate where the text is well formed, and with a reader of one character at a time
//! where it is not.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::Array;
use arrow::array::cast::AsArray;
use arrow_schema::{DataType, Field, Schema};
use bessemer_connectors::formats::text::{CsvOptions, DecodeLimits, TextFormat};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use crate::harness::{Case, decode, mutate};

const WIDTH: usize = 3;

/// Decodes one random object both ways; the number of records, or what differs.
pub(crate) fn check(rng: &mut StdRng) -> Result<usize, String> {
    let mut object = Vec::new();
    for _ in 0..rng.random_range(0..12) {
        let width = if rng.random_bool(0.9) { WIDTH } else { rng.random_range(1..5) };
        let fields: Vec<String> = (0..width).map(|_| field(rng)).collect();
        let mut line = fields.join(",").into_bytes();
        if rng.random_bool(0.2) {
            mutate(rng, &mut line, b"\",\n a\xc3\xa9\xff#");
        }
        object.extend_from_slice(&line);
        object.extend_from_slice(if rng.random_bool(0.2) { b"\r\n" } else { b"\n" });
    }
    if rng.random_bool(0.3) {
        object.pop();
    }
    let names = (0..WIDTH).map(|at| Field::new(format!("c{at}"), DataType::Utf8, true)).collect::<Vec<_>>();
    let case = Case {
        schema: Arc::new(Schema::new(names)),
        projection: (0..WIDTH).collect(),
        format: TextFormat::Csv(CsvOptions { header: false, ..CsvOptions::default() }),
        defaults: Vec::new(),
        limits: DecodeLimits { batch_rows: rng.random_range(1..8), max_record_bytes: 1 << 20 },
    };

    // Only a byte order mark or UTF-16 makes the object unreadable, and neither is generated at its start.
    if object.first().is_some_and(|byte| *byte == 0xff) {
        return Ok(0);
    }
    let decoded = decode(rng, &case, &object).map_err(|error| format!("{error}\n{}", object.escape_ascii()))?;
    let records = read(&object);
    check_reader(&object, &records)?;
    let mut found = BTreeMap::new();
    for (record, row) in &decoded.rows {
        let cells = row.iter().map(|(array, at)| {
            let array = array.as_string::<i32>();
            array.is_valid(*at).then(|| array.value(*at).to_owned())
        });
        found.insert(*record, Ok(cells.collect::<Vec<_>>()));
    }
    for (record, reject) in &decoded.rejects {
        found.insert(*record, Err((reject.reason.clone(), reject.byte_start, reject.original.clone())));
    }
    let expected: BTreeMap<u64, _> = (0..).zip(records.iter().map(|record| expect(record, &object))).collect();
    if found == expected {
        return Ok(records.len());
    }
    let different = expected.iter().find(|(number, expected)| found.get(number) != Some(expected));
    let actual = different.and_then(|(number, _)| found.get(number));
    Err(format!("is {actual:?}, should be {different:?}\nobject: {}", object.escape_ascii()))
}

type Outcome = Result<Vec<Option<String>>, (String, u64, Vec<u8>)>;

fn expect(record: &Record, object: &[u8]) -> Outcome {
    let original = &object[record.start..record.end];
    // In an open quote a carriage return is text.
    let line_break = original.strip_suffix(b"\r").filter(|_| !record.is_open);
    let original = line_break.unwrap_or(original);
    let reject = |reason: &str| Err((reason.to_owned(), record.start as u64, original.to_vec()));
    // At the end of an object an open quote is found before anything else.
    if record.is_open {
        return reject("invalid_quoting");
    }
    if std::str::from_utf8(original).is_err() {
        return reject("invalid_utf8");
    }
    if record.is_bad {
        return reject("invalid_quoting");
    }
    if record.fields.len() != WIDTH {
        return reject("wrong_field_count");
    }
    let texts = record
        .fields
        .iter()
        .map(|(text, is_quoted)| (!text.is_empty() || *is_quoted).then(|| String::from_utf8_lossy(text).into_owned()));
    Ok(texts.collect())
}

/// A record as the plain reader sees it.
struct Record {
    start: usize,
    end: usize,
    fields: Vec<(Vec<u8>, bool)>,
    is_bad: bool,
    is_open: bool,
}

/// Reads character by character.
fn read(object: &[u8]) -> Vec<Record> {
    let mut records = Vec::new();
    let mut at = 0;
    while at < object.len() {
        let mut record = Record { start: at, end: at, fields: Vec::new(), is_bad: false, is_open: false };
        read_record(object, &mut at, &mut record);
        record.end = at.min(object.len());
        at += 1;
        let is_blank = record.fields.len() == 1 && record.fields[0].0.is_empty() && !record.fields[0].1;
        if !is_blank || record.is_bad || record.is_open {
            records.push(record);
        }
    }
    records
}

fn read_record(object: &[u8], at: &mut usize, record: &mut Record) {
    let byte = |at: usize| object.get(at).copied().unwrap_or(b'\n');
    let ends = |at: usize| byte(at) == b'\n' || (byte(at) == b'\r' && byte(at + 1) == b'\n');
    loop {
        let mut text = Vec::new();
        let is_quoted = byte(*at) == b'"';
        if is_quoted {
            *at += 1;
            loop {
                if *at >= object.len() {
                    record.is_open = true;
                    return;
                }
                if byte(*at) == b'"' && byte(*at + 1) != b'"' {
                    *at += 1;
                    break;
                }
                *at += usize::from(byte(*at) == b'"');
                text.push(byte(*at));
                *at += 1;
            }
            if byte(*at) != b',' && !ends(*at) {
                record.is_bad = true;
                while byte(*at) != b'\n' {
                    *at += 1;
                }
                return;
            }
        } else {
            while byte(*at) != b',' && !ends(*at) {
                text.push(byte(*at));
                *at += 1;
            }
        }
        record.fields.push((text, is_quoted));
        if byte(*at) != b',' {
            *at += usize::from(byte(*at) == b'\r');
            return;
        }
        *at += 1;
    }
}

/// The plain reader agrees with the `csv` crate where every record is well formed.
fn check_reader(object: &[u8], records: &[Record]) -> Result<(), String> {
    let has_lone_return = object.windows(2).any(|pair| pair[0] == b'\r' && pair[1] != b'\n') || object.ends_with(b"\r");
    if has_lone_return || records.iter().any(|record| record.is_bad || record.is_open) {
        return Ok(());
    }
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(object);
    let theirs: Vec<Vec<Vec<u8>>> = reader
        .byte_records()
        .map(|record| record.map(|record| record.iter().map(<[u8]>::to_vec).collect()))
        .collect::<Result<_, _>>()
        .map_err(|error| error.to_string())?;
    let ours: Vec<Vec<Vec<u8>>> =
        records.iter().map(|record| record.fields.iter().map(|(text, _)| text.clone()).collect()).collect();
    if ours == theirs {
        return Ok(());
    }
    Err(format!("the `csv` crate reads {theirs:?}, not {ours:?}\nobject: {}", object.escape_ascii()))
}

fn field(rng: &mut StdRng) -> String {
    let plain = ["", "a", "12", "5\" pipe", "Zürich", " b ", "longer than eight", "#x", "'", "\\"];
    let quoted =
        ["\"\"", "\"a,b\"", "\"two\nlines\"", "\"say \"\"hi\"\"\"", "\"a\r\nb\"", "\"\"\"\"", "\"日本\"", "\",\""];
    let odd = ["\"open", "\"a\"b", "\"a\" ", "a\"\"", "\"x\"\"", "\"\"\""];
    match rng.random_range(0..20) {
        0 if rng.random_bool(0.2) => odd.choose(rng).copied().unwrap_or("").to_owned(),
        0..10 => plain.choose(rng).copied().unwrap_or("").to_owned(),
        _ => quoted.choose(rng).copied().unwrap_or("").to_owned(),
    }
}
