//! Random schemas, records of them, broken or not: what is a row here is the same row for `arrow-avro`.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use arrow_avro::reader::ReaderBuilder;
use arrow_avro::schema::{AvroSchema as TheirSchema, Fingerprint, FingerprintAlgorithm, SchemaStore};
use arrow_schema::Schema;
use bessemer_connectors::formats::avro::{AvroReader, AvroSchema, infer};
use bessemer_connectors::formats::rows::{RowBuilder, RowBuilderOptions};
use bessemer_connectors::formats::text::{DecodeLimits, TimestampFormat};
use rand::Rng;
use rand::rngs::StdRng;

use crate::bytes::{mutate, to_hex};

/// A type, as the case makes it up.
enum Type {
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    Text,
    Date,
    Timestamp,
    Decimal,
    Fixed(usize),
    Enum(usize),
    Nullable(Box<Type>),
    Array(Box<Type>),
    Map(Box<Type>),
    Record(Vec<Type>),
}

/// Decodes random records of a random schema both ways.
pub(crate) fn check(rng: &mut StdRng, corpus: &[Vec<u8>]) -> Result<(u64, u64), String> {
    let fields: Vec<_> = (0..rng.random_range(1..6)).map(|_| random_type(rng, 3)).collect();
    let root = Type::Record(fields);
    let schema = json(&root, &mut 0);
    let parsed = AvroSchema::parse(&schema, []).map_err(|reason| format!("{schema}: {reason}"))?;
    let inferred = infer(&parsed).map_err(|reason| format!("{schema}: {reason}"))?;
    let columns = Arc::new(Schema::new(inferred.fields));
    let timestamp_format = TimestampFormat::iso();
    let reader = AvroReader::new(parsed, &columns, &[], &timestamp_format).map_err(|found| found.reason)?;
    let all: Vec<_> = (0..columns.fields().len()).collect();
    let mut rows = RowBuilder::new(RowBuilderOptions {
        schema: &columns,
        projection: &all,
        defaults: &[],
        timestamp_format: &timestamp_format,
        limits: DecodeLimits { batch_rows: 1, ..DecodeLimits::default() },
        format: "Avro",
    })
    .map_err(|error| error.to_string())?;

    let (mut records, mut rejected) = (0, 0);
    for _ in 0..rng.random_range(1..12) {
        let mut record = Vec::new();
        match corpus.get(rng.random_range(0..corpus.len() * 8 + 8)) {
            Some(known) => record.clone_from(known),
            None => write(rng, &root, &mut record),
        }
        if rng.random_bool(0.6) {
            mutate(rng, &mut record);
        }
        records += 1;
        let told = |what: String| Err(format!("{schema}\n{}: {what}", to_hex(&record)));
        let ours = reader.read(0, &record, &mut rows).map_err(|fault| fault.to_string())?;
        let row = rows.next_batch();
        if ours.is_ok() != row.is_some() {
            return told(format!("{ours:?}, and {} rows", usize::from(row.is_some())));
        }
        let Some(row) = row else {
            rejected += 1;
            continue;
        };
        let theirs = match their_row(&schema, &record) {
            Ok(row) => row,
            Err(reason) => return told(format!("a row here, and there {reason}")),
        };
        let (here, there) = (text(&row)?, text(&theirs)?);
        if here != there {
            return told(format!("{here}\nhere, and there\n{there}"));
        }
    }
    Ok((records, rejected))
}

fn their_row(schema: &str, record: &[u8]) -> Result<RecordBatch, String> {
    let mut store = SchemaStore::new_with_type(FingerprintAlgorithm::Id);
    let id = Fingerprint::Id(7);
    store.set(id, TheirSchema::new(schema.to_owned())).map_err(|error| error.to_string())?;
    let decoder = ReaderBuilder::new().with_writer_schema_store(store).with_active_fingerprint(id);
    let mut decoder = decoder.with_batch_size(2).build_decoder().map_err(|error| error.to_string())?;
    let framed = [&[0, 0, 0, 0, 7], record].concat();
    let read = decoder.decode(&framed).map_err(|error| error.to_string())?;
    if read != framed.len() {
        return Err(format!("only {read} of {} bytes are read", framed.len()));
    }
    decoder.flush().map_err(|error| error.to_string())?.ok_or_else(|| "no row".to_owned())
}

/// A row as text. The other reader has dictionaries and bytes of fixed size; their texts are the same.
fn text(row: &RecordBatch) -> Result<String, String> {
    let options = FormatOptions::new().with_null("null");
    let columns = row.columns().iter().map(|column| {
        let formatter = ArrayFormatter::try_new(column, &options).map_err(|error| error.to_string())?;
        // A date beyond the calendar has no text; so it has none for the other reader.
        Ok(formatter.value(0).try_to_string().unwrap_or_else(|_| "beyond the calendar".to_owned()))
    });
    // What is beyond the calendar is told with the zone, which the other reader spells in another way.
    let text = columns.collect::<Result<Vec<_>, String>>()?.join(" | ");
    Ok(text.replace("\"+00:00\"", "\"UTC\""))
}

fn random_type(rng: &mut StdRng, depth: usize) -> Type {
    match rng.random_range(0..if depth == 0 { 12 } else { 16 }) {
        0 => Type::Boolean,
        1 => Type::Int,
        2 => Type::Long,
        3 => Type::Float,
        4 => Type::Double,
        5 => Type::Bytes,
        6 => Type::Text,
        7 => Type::Date,
        8 => Type::Timestamp,
        9 => Type::Decimal,
        10 => Type::Fixed(rng.random_range(1..5)),
        11 => Type::Enum(rng.random_range(1..4)),
        12 => Type::Nullable(Box::new(plain_type(rng, depth - 1))),
        13 => Type::Array(Box::new(random_type(rng, depth - 1))),
        14 => Type::Map(Box::new(random_type(rng, depth - 1))),
        _ => Type::Record((0..rng.random_range(1..4)).map(|_| random_type(rng, depth - 1)).collect()),
    }
}

/// A type that is no union: a union holds none.
fn plain_type(rng: &mut StdRng, depth: usize) -> Type {
    match random_type(rng, depth) {
        Type::Nullable(inner) => *inner,
        other => other,
    }
}

fn json(of: &Type, named: &mut usize) -> String {
    let mut name = || {
        *named += 1;
        format!("n{named}")
    };
    match of {
        Type::Boolean => r#""boolean""#.to_owned(),
        Type::Int => r#""int""#.to_owned(),
        Type::Long => r#""long""#.to_owned(),
        Type::Float => r#""float""#.to_owned(),
        Type::Double => r#""double""#.to_owned(),
        Type::Bytes => r#""bytes""#.to_owned(),
        Type::Text => r#""string""#.to_owned(),
        Type::Date => r#"{"type": "int", "logicalType": "date"}"#.to_owned(),
        Type::Timestamp => r#"{"type": "long", "logicalType": "timestamp-micros"}"#.to_owned(),
        Type::Decimal => r#"{"type": "bytes", "logicalType": "decimal", "precision": 20, "scale": 3}"#.to_owned(),
        Type::Fixed(size) => format!(r#"{{"type": "fixed", "name": "{}", "size": {size}}}"#, name()),
        Type::Enum(symbols) => {
            let symbols: Vec<_> = (0..*symbols).map(|at| format!(r#""S{at}""#)).collect();
            format!(r#"{{"type": "enum", "name": "{}", "symbols": [{}]}}"#, name(), symbols.join(", "))
        }
        Type::Nullable(inner) => format!(r#"["null", {}]"#, json(inner, named)),
        Type::Array(items) => format!(r#"{{"type": "array", "items": {}}}"#, json(items, named)),
        Type::Map(values) => format!(r#"{{"type": "map", "values": {}}}"#, json(values, named)),
        Type::Record(fields) => {
            let name = name();
            let fields: Vec<_> = fields
                .iter()
                .enumerate()
                .map(|(at, field)| format!(r#"{{"name": "f{at}", "type": {}}}"#, json(field, named)))
                .collect();
            format!(r#"{{"type": "record", "name": "{name}", "fields": [{}]}}"#, fields.join(", "))
        }
    }
}

fn write(rng: &mut StdRng, of: &Type, bytes: &mut Vec<u8>) {
    match of {
        Type::Boolean => bytes.push(u8::from(rng.random_bool(0.5))),
        Type::Int => long(i64::from(rng.random::<i32>() >> rng.random_range(0..32)), bytes),
        Type::Long => long(rng.random::<i64>() >> rng.random_range(0..64), bytes),
        Type::Float => bytes.extend(rng.random::<f32>().to_le_bytes()),
        Type::Double => bytes.extend(rng.random::<f64>().to_le_bytes()),
        Type::Bytes | Type::Text => {
            let text = ["", "a", "é", "0123456789"][rng.random_range(0..4)];
            long(text.len().try_into().unwrap_or(0), bytes);
            bytes.extend(text.as_bytes());
        }
        Type::Date => long(rng.random_range(-1_000..50_000), bytes),
        Type::Timestamp => long(rng.random_range(-1_000_000_000_000..4_000_000_000_000_000), bytes),
        Type::Decimal => {
            let digits = rng.random::<i64>().to_be_bytes();
            let used = &digits[..rng.random_range(1..=8)];
            long(used.len().try_into().unwrap_or(0), bytes);
            bytes.extend(used);
        }
        Type::Fixed(size) => bytes.extend((0..*size).map(|_| rng.random::<u8>())),
        Type::Enum(symbols) => long(rng.random_range(0..*symbols).try_into().unwrap_or(0), bytes),
        Type::Nullable(inner) => {
            let is_there = rng.random_bool(0.7);
            long(i64::from(is_there), bytes);
            if is_there {
                write(rng, inner, bytes);
            }
        }
        Type::Array(items) => blocks(rng, bytes, |rng, bytes, _| write(rng, items, bytes)),
        Type::Map(values) => blocks(rng, bytes, |rng, bytes, at| {
            bytes.extend([2, b'a' + at]);
            write(rng, values, bytes);
        }),
        Type::Record(fields) => fields.iter().for_each(|field| write(rng, field, bytes)),
    }
}

/// Items in blocks, some with their size.
fn blocks(rng: &mut StdRng, bytes: &mut Vec<u8>, mut item: impl FnMut(&mut StdRng, &mut Vec<u8>, u8)) {
    let mut at = 0;
    for _ in 0..rng.random_range(0..3) {
        let (count, mut block) = (rng.random_range(1..4), Vec::new());
        for _ in 0..count {
            item(rng, &mut block, at);
            at += 1;
        }
        if rng.random_bool(0.5) {
            long(-count, bytes);
            long(block.len().try_into().unwrap_or(0), bytes);
        } else {
            long(count, bytes);
        }
        bytes.append(&mut block);
    }
    long(0, bytes);
}

fn long(value: i64, bytes: &mut Vec<u8>) {
    let mut rest = (value << 1).cast_unsigned() ^ (value >> 63).cast_unsigned();
    while rest > 0x7f {
        bytes.push(u8::try_from(rest & 0x7f).unwrap_or(0) | 0x80);
        rest >>= 7;
    }
    bytes.push(u8::try_from(rest).unwrap_or(0));
}
