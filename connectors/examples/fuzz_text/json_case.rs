//! Seeded JSON lines, mostly right, often broken, decoded in random pieces and compared with the reference.

use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::types::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int64Type, TimestampMicrosecondType, UInt16Type,
    UInt64Type,
};
use arrow::array::{Array, ArrayRef, Int64Array, StringArray};
use arrow_schema::{DataType, Field, Fields, Schema, TimeUnit};
use bessemer_connectors::formats::text::{DecodeLimits, JsonOptions, OnExtra, TextFormat};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};

use crate::harness::{Case, Decoded, decode, mutate};
use crate::reference::{Cell, Declared, Verdict, judge};

/// Decodes one random object both ways; the number of records, or what differs.
pub(crate) fn check(rng: &mut StdRng) -> Result<usize, String> {
    let columns = columns();
    let mut object = Vec::new();
    for _ in 0..rng.random_range(0..20) {
        let mut line = record(rng).into_bytes();
        if rng.random_bool(0.5) {
            mutate(rng, &mut line, b"{}[]\",:\\ \t\r\n0123456789.-+eEtrufalsn/\x00\x1f\x7f\x80\xc3\xa9\xed\xa0\xffTZ");
        }
        object.extend_from_slice(&line);
        object.extend_from_slice(if rng.random_bool(0.2) { b"\r\n" } else { b"\n" });
    }
    if rng.random_bool(0.3) {
        object.pop();
    }

    let on_extra = if rng.random_bool(0.1) { OnExtra::Reject } else { OnExtra::Ignore };
    let projection: Vec<usize> = (0..columns.len()).filter(|_| rng.random_bool(0.7)).collect();
    let max_record_bytes = if rng.random_bool(0.1) { rng.random_range(1..300) } else { 1 << 20 };
    let case = Case {
        schema: Arc::new(Schema::new(columns.iter().map(|column| column.field.clone()).collect::<Vec<_>>())),
        projection: projection.clone(),
        format: TextFormat::Json(JsonOptions { on_extra, ..JsonOptions::default() }),
        defaults: columns.iter().map(default_array).collect(),
        limits: DecodeLimits { batch_rows: rng.random_range(1..8), max_record_bytes },
    };
    let decoded = decode(rng, &case, &object).map_err(|error| format!("{error}\n{}", object.escape_ascii()))?;
    compare(&object, &columns, on_extra, &case, &decoded)
}

fn compare(
    object: &[u8],
    columns: &[Declared],
    on_extra: OnExtra,
    case: &Case,
    decoded: &Decoded,
) -> Result<usize, String> {
    let differs = |record: u64, line: &[u8], what: String| {
        Err(format!("record {record} `{}`: {what}\nobject: {}", line.escape_ascii(), object.escape_ascii()))
    };
    let (mut record, mut start) = (0, 0_u64);
    let object_body = object.strip_suffix(b"\n").unwrap_or(object);
    for (line_number, full) in object_body.split(|byte| *byte == b'\n').enumerate() {
        let line = full.strip_suffix(b"\r").unwrap_or(full);
        let place = (line_number as u64 + 1, start);
        start += full.len() as u64 + 1;
        if line.iter().all(|byte| matches!(byte, b' ' | b'\t')) {
            continue;
        }
        let verdict = if full.len() > case.limits.max_record_bytes {
            Verdict::Reject("record_too_long")
        } else {
            judge(line, columns, on_extra == OnExtra::Reject)
        };
        let row = decoded.rows.get(&record);
        let reject = decoded.rejects.get(&record);
        match (&verdict, row, reject) {
            (Verdict::Row(expected), Some(row), None) => {
                let cells: Vec<Cell> = row.iter().map(|(array, at)| cell(array, *at)).collect();
                let expected: Vec<&Cell> = case.projection.iter().map(|at| &expected[*at]).collect();
                let same = cells.len() == expected.len() && cells.iter().zip(&expected).all(|(a, b)| alike(a, b));
                if !same {
                    return differs(record, line, format!("is {cells:?}, should be {expected:?}"));
                }
            }
            (Verdict::Reject(reason), None, Some(reject)) if *reason == reject.reason => {}
            (Verdict::Unknown, Some(_), None) | (Verdict::Unknown, None, Some(_)) => {}
            _ => {
                let found = reject.map(|reject| reject.reason.as_str());
                return differs(
                    record,
                    line,
                    format!("row {}, reject {found:?}, should be {verdict:?}", row.is_some()),
                );
            }
        }
        if let Some(reject) = reject {
            let is_long = reject.reason == "record_too_long";
            if (reject.line, reject.byte_start) != place || (!is_long && reject.original != line) {
                return differs(record, line, format!("is put at {reject:?}"));
            }
        }
        record += 1;
    }
    let count = usize::try_from(record).map_err(|error| error.to_string())?;
    if decoded.rows.len() + decoded.rejects.len() != count {
        return differs(record, b"", format!("{} rows, {} rejects", decoded.rows.len(), decoded.rejects.len()));
    }
    Ok(count)
}

fn columns() -> Vec<Declared> {
    let entries =
        Fields::from(vec![Field::new("keys", DataType::Utf8, false), Field::new("values", DataType::Int64, true)]);
    let inner = Fields::from(vec![Field::new("a", DataType::Utf8, true), Field::new("b", DataType::Int64, false)]);
    let list = Field::new("item", DataType::Int64, true);
    let structs = DataType::List(Arc::new(Field::new("item", DataType::Struct(inner.clone()), true)));
    let declare = |name: &str, data_type: DataType, nullable: bool, default: Option<Cell>| Declared {
        field: Field::new(name, data_type, nullable),
        default,
    };
    vec![
        declare("id", DataType::Int64, false, None),
        declare("i8", DataType::Int8, true, None),
        declare("u16", DataType::UInt16, true, None),
        declare("u64", DataType::UInt64, true, None),
        declare("x", DataType::Float64, true, None),
        declare("y", DataType::Float32, true, None),
        declare("ok", DataType::Boolean, true, None),
        declare("s", DataType::Utf8, true, Some(Cell::Text("none".to_owned()))),
        declare("v", DataType::Utf8View, true, None),
        declare("day", DataType::Date32, true, None),
        declare("ts", DataType::Timestamp(TimeUnit::Microsecond, None), true, None),
        declare("dec", DataType::Decimal128(10, 2), true, None),
        declare("list", DataType::List(Arc::new(list)), true, None),
        declare("st", DataType::Struct(inner), true, None),
        declare(
            "map",
            DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries), false)), false),
            true,
            None,
        ),
        declare("sts", structs, true, None),
        declare("d\"q", DataType::Int64, false, Some(Cell::Whole(7))),
    ]
}

fn default_array(column: &Declared) -> Option<ArrayRef> {
    match column.default.as_ref()? {
        Cell::Text(text) => Some(Arc::new(StringArray::from(vec![text.as_str()]))),
        Cell::Whole(value) => Some(Arc::new(Int64Array::from(vec![i64::try_from(*value).ok()?]))),
        _ => None,
    }
}

/// The text of a record: each declared key with some probability, in some order, and undeclared ones.
fn record(rng: &mut StdRng) -> String {
    let mut members = vec![format!("\"id\":{}", whole(rng))];
    let keys = ["i8", "u16", "u64", "x", "y", "ok", "s", "v", "day", "ts", "dec", "list", "st", "map", "sts", "d\\\"q"];
    for key in keys {
        if rng.random_bool(0.5) {
            let blank = if rng.random_bool(0.1) { " " } else { "" };
            let value = if rng.random_bool(0.1) { any(rng, 0) } else { right(rng, key) };
            members.push(format!("\"{key}\"{blank}:{blank}{value}"));
        }
    }
    for _ in 0..rng.random_range(0..3) {
        let key = ["extra", "other", "i\\u00638", "\\u0069d", "", "é"].choose(rng).copied().unwrap_or("");
        members.push(format!("\"{key}\": {}", any(rng, 0)));
    }
    if rng.random_bool(0.2) {
        members.shuffle(rng);
    }
    format!("{{{}}}", members.join(if rng.random_bool(0.1) { " , " } else { "," }))
}

fn right(rng: &mut StdRng, key: &str) -> String {
    match key {
        "i8" | "u16" | "u64" | "d\\\"q" => whole(rng),
        "ok" => rng.random_bool(0.5).to_string(),
        "s" | "v" => string(rng),
        "day" => format!("\"{}\"", day(rng)),
        "ts" => format!("\"{}\"", timestamp(rng)),
        "dec" if rng.random_bool(0.3) => format!("\"{}\"", real(rng)),
        "x" | "y" | "dec" => real(rng),
        "list" => list(rng, whole),
        "st" => structure(rng),
        "sts" => list(rng, structure),
        _ => {
            let members: Vec<_> = (0..rng.random_range(0..4)).map(|at| format!("\"k{at}\":{}", whole(rng))).collect();
            format!("{{{}}}", members.join(","))
        }
    }
}

fn list(rng: &mut StdRng, item: fn(&mut StdRng) -> String) -> String {
    let items: Vec<_> = (0..rng.random_range(0..4)).map(|_| item(rng)).collect();
    format!("[{}]", items.join(", "))
}

fn structure(rng: &mut StdRng) -> String {
    let extra = if rng.random_bool(0.1) { format!(",\"c\":{}", any(rng, 2)) } else { String::new() };
    format!("{{\"a\":{},\"b\":{}{extra}}}", string(rng), whole(rng))
}

fn whole(rng: &mut StdRng) -> String {
    match rng.random_range(0..12) {
        0 => rng.random::<i64>().to_string(),
        1 => rng.random::<u64>().to_string(),
        2 => "9223372036854775808".to_owned(),
        3 => format!("{}.0", rng.random_range(-200..200)),
        4 => format!("{}e{}", rng.random_range(-99..99), rng.random_range(0..4)),
        5 => "-0".to_owned(),
        6 => rng.random_range(-70_000..70_000).to_string(),
        _ => rng.random_range(-200..200).to_string(),
    }
}

fn real(rng: &mut StdRng) -> String {
    match rng.random_range(0..8) {
        0 => f64::from_bits(rng.random()).to_string(),
        1 => format!("{:e}", rng.random::<f64>()),
        2 => format!("{:e}", f32::from_bits(rng.random())),
        3 => format!("{}E+{}", rng.random_range(-99..99), rng.random_range(0..400)),
        4 => rng.random_range(-1000..1000).to_string(),
        _ => format!("{}.{:02}", rng.random_range(-100_000..100_000), rng.random_range(0..100)),
    }
}

fn day(rng: &mut StdRng) -> String {
    format!("{:04}-{:02}-{:02}", rng.random_range(0..10_000), rng.random_range(1..13), rng.random_range(1..32))
}

fn timestamp(rng: &mut StdRng) -> String {
    let separator = if rng.random_bool(0.7) { 'T' } else { ' ' };
    let (hour, minute) = (rng.random_range(0..25), rng.random_range(0..61));
    let second = if rng.random_bool(0.9) { format!(":{:02}", rng.random_range(0..60)) } else { String::new() };
    let digits = rng.random_range(1..9);
    let fraction = if rng.random_bool(0.5) && !second.is_empty() {
        format!(".{:0digits$}", rng.random_range(0..1_000))
    } else {
        String::new()
    };
    let zone = ["", "", "Z", "+02", "-0330", "+05:30", "+24:00", "X"].choose(rng).copied().unwrap_or("");
    format!("{}{separator}{hour:02}:{minute:02}{second}{fraction}{zone}", day(rng))
}

fn string(rng: &mut StdRng) -> String {
    let parts =
        ["a", "Zürich", "\\n", "\\u00e9", "\\ud83d\\ude00", "\\\"", "\\\\", "long plain text", "日本", " ", "\\/"];
    let odd = ["\\ud800", "\\udc00x", "\\x", "\t", "\\u12"];
    let mut text = String::new();
    for _ in 0..rng.random_range(0..5) {
        text += parts.choose(rng).copied().unwrap_or("");
    }
    if rng.random_bool(0.03) {
        text += odd.choose(rng).copied().unwrap_or("");
    }
    format!("\"{text}\"")
}

fn any(rng: &mut StdRng, depth: usize) -> String {
    match rng.random_range(0..if depth < 4 { 10 } else { 7 }) {
        0 => "null".to_owned(),
        1 => "true".to_owned(),
        2 => whole(rng),
        3 => real(rng),
        4 => format!("\"{}\"", timestamp(rng)),
        5 => {
            ["01", "+1", ".5", "1.", "NaN", "nul", "'a'", "1e", "--1", ""].choose(rng).copied().unwrap_or("").to_owned()
        }
        6 => string(rng),
        7 if rng.random_bool(0.02) => {
            let deep = rng.random_range(120..132);
            format!("{}{}", "[".repeat(deep), "]".repeat(deep))
        }
        7 => {
            let items: Vec<_> = (0..rng.random_range(0..4)).map(|_| any(rng, depth + 1)).collect();
            format!("[{}]", items.join(","))
        }
        _ => {
            let count = if rng.random_bool(0.1) { 20 } else { 4 };
            let key = |rng: &mut StdRng| format!("k{}", rng.random_range(0..count * 8));
            let members: Vec<_> =
                (0..rng.random_range(0..count)).map(|_| format!("\"{}\":{}", key(rng), any(rng, depth + 1))).collect();
            format!("{{{}}}", members.join(","))
        }
    }
}

/// The value at `at`.
fn cell(array: &ArrayRef, at: usize) -> Cell {
    if array.is_null(at) {
        return Cell::Null;
    }
    match array.data_type() {
        DataType::Boolean => Cell::Bool(array.as_boolean().value(at)),
        DataType::Int8 => Cell::Whole(array.as_primitive::<Int8Type>().value(at).into()),
        DataType::UInt16 => Cell::Whole(array.as_primitive::<UInt16Type>().value(at).into()),
        DataType::UInt64 => Cell::Whole(array.as_primitive::<UInt64Type>().value(at).into()),
        DataType::Int64 => Cell::Whole(array.as_primitive::<Int64Type>().value(at).into()),
        DataType::Float64 => Cell::Real(array.as_primitive::<Float64Type>().value(at)),
        DataType::Float32 => Cell::Single(array.as_primitive::<Float32Type>().value(at)),
        DataType::Utf8 => Cell::Text(array.as_string::<i32>().value(at).to_owned()),
        DataType::Utf8View => Cell::Text(array.as_string_view().value(at).to_owned()),
        DataType::Date32 => Cell::Whole(array.as_primitive::<Date32Type>().value(at).into()),
        DataType::Timestamp(..) => Cell::Whole(array.as_primitive::<TimestampMicrosecondType>().value(at).into()),
        DataType::Decimal128(..) => Cell::Whole(array.as_primitive::<Decimal128Type>().value(at)),
        DataType::List(_) => {
            let items = array.as_list::<i32>().value(at);
            Cell::List((0..items.len()).map(|item| cell(&items, item)).collect())
        }
        DataType::Struct(_) => Cell::List(array.as_struct().columns().iter().map(|column| cell(column, at)).collect()),
        DataType::Map(..) => {
            let entries = array.as_map().value(at);
            let (keys, values) = (entries.column(0).as_string::<i32>(), entries.column(1));
            Cell::Map((0..entries.len()).map(|entry| (keys.value(entry).to_owned(), cell(values, entry))).collect())
        }
        other => Cell::Text(format!("unexpected type {other}")),
    }
}

/// Steps between floats that count as equal: without its feature `float_roundtrip`, `serde_json` does not round
/// correctly. That the decoder does, is tested against the standard library, beside its numbers.
const STEPS_MAX: u64 = 8;

/// Equal, save for how `serde_json` rounds.
fn alike(found: &Cell, expected: &Cell) -> bool {
    match (found, expected) {
        (Cell::Real(a), Cell::Real(b)) => a.to_bits().abs_diff(b.to_bits()) <= STEPS_MAX,
        (Cell::Single(a), Cell::Single(b)) => a.to_bits().abs_diff(b.to_bits()) <= 1,
        (Cell::List(a), Cell::List(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| alike(a, b)),
        (a, b) => a == b,
    }
}
