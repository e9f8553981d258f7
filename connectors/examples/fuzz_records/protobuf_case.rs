//! Random messages, broken or not: what `prost-reflect` reads is read here too, and what it writes again is the same row.

use std::sync::{Arc, OnceLock};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use arrow_schema::{DataType, Schema, SchemaRef};
use bessemer_connectors::formats::protobuf::{ProtobufReader, ProtobufSchema, infer};
use bessemer_connectors::formats::rows::{RowBuilder, RowBuilderOptions};
use bessemer_connectors::formats::text::{DecodeLimits, RecordFault, TimestampFormat};
use bessemer_schemas::RejectReason;
use prost_reflect::prost::Message as _;
use prost_reflect::{DynamicMessage, MessageDescriptor};
use rand::Rng;
use rand::rngs::StdRng;

use crate::bytes::{mutate, to_hex};

const SCHEMA: &str = r#"syntax = "proto3"; package fuzz;
    import "google/protobuf/timestamp.proto"; import "google/protobuf/wrappers.proto";
    enum Kind { NONE = 0; NEW = 1; OLD = 7; }
    message Place { int32 x = 1; optional string name = 2; repeated sint64 way = 3; }
    message R {
        double a = 1; float b = 2; int32 c = 3; int64 d = 4; uint32 e = 5; uint64 f = 6; sint32 g = 7; sint64 h = 8;
        fixed32 i = 9; fixed64 j = 10; sfixed32 k = 11; sfixed64 l = 12; bool m = 13; string n = 14; bytes o = 15;
        Kind p = 16; Place q = 17; optional int32 r = 18; optional string s = 19; repeated int32 t = 20;
        repeated string u = 21; repeated Place v = 22; repeated double w = 23; map<string, int32> x = 24;
        map<int32, Place> y = 25; oneof z { int32 za = 26; string zb = 27; Place zc = 28; }
        google.protobuf.Timestamp at = 29; google.protobuf.StringValue wrapped = 30; repeated Kind kinds = 31;
        google.protobuf.Int64Value number = 32;
    }"#;

/// The message, and its columns.
fn message() -> Result<&'static (MessageDescriptor, SchemaRef), String> {
    static MESSAGE: OnceLock<Result<(MessageDescriptor, SchemaRef), String>> = OnceLock::new();
    let made = MESSAGE.get_or_init(|| {
        let message = ProtobufSchema::parse(SCHEMA, [])?.message(Some("fuzz.R"))?;
        let columns = Arc::new(Schema::new(infer(&message)?.fields));
        Ok((message, columns))
    });
    made.as_ref().map_err(Clone::clone)
}

/// Decodes random records both ways.
pub(crate) fn check(rng: &mut StdRng, corpus: &[Vec<u8>]) -> Result<(u64, u64), String> {
    let (message, columns) = message()?;
    let timestamp_format = TimestampFormat::iso();
    let mut reader = ProtobufReader::new(message, columns, &[], &timestamp_format).map_err(|found| found.reason)?;
    let all: Vec<_> = (0..columns.fields().len()).collect();
    let mut rows = RowBuilder::new(RowBuilderOptions {
        schema: columns,
        projection: &all,
        defaults: &[],
        timestamp_format: &timestamp_format,
        limits: DecodeLimits { batch_rows: 1, ..DecodeLimits::default() },
        format: "Protobuf",
    })
    .map_err(|error| error.to_string())?;
    let mut read = |record: &[u8]| -> Result<Result<String, RecordFault>, String> {
        let outcome = reader.read(0, record, &mut rows).map_err(|fault| fault.to_string())?;
        let row = rows.next_batch();
        match (outcome, row) {
            (Ok(()), Some(row)) => Ok(Ok(text(&row)?)),
            (Err(fault), None) => Ok(Err(fault)),
            (outcome, row) => Err(format!("{outcome:?}, and {} rows", usize::from(row.is_some()))),
        }
    };

    let (mut records, mut rejected) = (0, 0);
    for _ in 0..16 {
        let mut record = match corpus.get(rng.random_range(0..corpus.len() * 8 + 8)) {
            Some(record) => record.clone(),
            None => (0..rng.random_range(0..8)).flat_map(|_| field(rng)).collect(),
        };
        if rng.random_bool(0.5) {
            mutate(rng, &mut record);
        }
        records += 1;
        let told = |what: String| Err(format!("{}: {what}", to_hex(&record)));
        let ours = match read(&record) {
            Ok(ours) => ours,
            Err(what) => return told(what),
        };
        rejected += u64::from(ours.is_err());
        let theirs = DynamicMessage::decode(message.clone(), record.as_slice());
        match (ours, theirs) {
            (Ok(here), Ok(theirs)) => {
                let again = theirs.encode_to_vec();
                let there = read(&again)?;
                if there.as_ref() != Ok(&here) {
                    return told(format!("{here}\nhere, and there {}\n{there:?}", to_hex(&again)));
                }
            }
            // What another member of a `oneof` replaces is not looked into.
            (Ok(_), Err(_)) if has_members(&record) => {}
            (Ok(here), Err(error)) => return told(format!("{here}\nhere, and there {error}")),
            // What the wire format allows and a column does not hold; a field of another wire type, which the other
            // reader takes for one that it does not know.
            (Err(RecordFault { reason: RejectReason::OutOfRange | RejectReason::WrongType, .. }), _) => {}
            (Err(_), Ok(_)) if has_odd_map(&record) => {}
            (Err(_), Err(_)) => {}
            (Err(fault), Ok(_)) => return told(format!("{fault:?} here, and there a message")),
        }
    }
    Ok((records, rejected))
}

/// Whether a message has more than one member of its `oneof`, each of which has a tag of two bytes.
fn has_members(record: &[u8]) -> bool {
    let members = [[0xd0, 1], [0xda, 1], [0xe2, 1]];
    members.iter().filter(|tag| record.windows(2).any(|bytes| bytes == *tag)).count() > 1
}

/// Whether fields 24 or 25, the maps, are of another wire type: the other reader takes them for maps all the same.
fn has_odd_map(record: &[u8]) -> bool {
    record.windows(2).any(|tag| matches!(tag, [0xc0..=0xcf, 1]) && tag[0] & 7 != 2)
}

/// A row as text; the entries of maps in the order of their text, since they have none of their own.
fn text(row: &RecordBatch) -> Result<String, String> {
    let options = FormatOptions::new().with_null("null");
    let one = |column: &dyn Array, at: usize| {
        let formatter = ArrayFormatter::try_new(column, &options).map_err(|error| error.to_string())?;
        Ok(formatter.value(at).try_to_string().unwrap_or_else(|_| "beyond the calendar".to_owned()))
    };
    let columns = row.columns().iter().map(|column| match column.data_type() {
        DataType::Map(..) => {
            let entries = column.as_map().value(0);
            let mut entries = (0..entries.len()).map(|at| one(&entries, at)).collect::<Result<Vec<_>, _>>()?;
            entries.sort();
            Ok(entries.join(", "))
        }
        _ => one(column, 0),
    });
    Ok(columns.collect::<Result<Vec<_>, String>>()?.join(" | "))
}

/// A field of a random number with a value that fits it, mostly.
fn field(rng: &mut StdRng) -> Vec<u8> {
    let number = rng.random_range(1..36);
    let place = |rng: &mut StdRng| {
        let parts = [vec![8, rng.random_range(0..128)], vec![18, 1, b'n'], vec![26, 2, 1, 2], vec![24, 5], vec![]];
        [parts[rng.random_range(0..5)].clone(), parts[rng.random_range(0..5)].clone()].concat()
    };
    let value = match number {
        1 | 10 | 12 => return [varint(number << 3 | 1), rng.random::<f64>().to_le_bytes().to_vec()].concat(),
        2 | 9 | 11 => return [varint(number << 3 | 5), rng.random::<f32>().to_le_bytes().to_vec()].concat(),
        3..=8 | 13 | 16 | 18 | 26 => {
            let value = rng.random::<u64>() >> rng.random_range(0..64);
            return [varint(number << 3), varint(value)].concat();
        }
        14 | 19 | 21 | 27 => ["", "a", "é"][rng.random_range(0..3)].as_bytes().to_vec(),
        17 | 22 | 28 => place(rng),
        20 | 31 => (0..rng.random_range(0..4)).flat_map(|_| varint(rng.random_range(0..300))).collect(),
        23 => (0..rng.random_range(0..3)).flat_map(|_| rng.random::<f64>().to_le_bytes()).collect(),
        24 => [vec![10, 1, b'a' + rng.random_range(0..3)], vec![16, rng.random_range(0..128)]].concat(),
        25 => {
            let place = place(rng);
            let length = u8::try_from(place.len()).unwrap_or(0);
            [vec![8, rng.random_range(0..3), 18, length], place].concat()
        }
        29 => [vec![8, rng.random_range(0..128)], vec![16, rng.random_range(0..128)]].concat(),
        30 => vec![10, 1, b'w'],
        32 => vec![8, rng.random_range(0..128)],
        _ => vec![0; rng.random_range(0..3)],
    };
    [varint(number << 3 | 2), varint(value.len() as u64), value].concat()
}

fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number > 0x7f {
        bytes.push(u8::try_from(number & 0x7f).unwrap_or(0) | 0x80);
        number >>= 7;
    }
    bytes.push(u8::try_from(number).unwrap_or(0));
    bytes
}
