//! CPU seconds per million records of JSON lines and CSV to Arrow, one thread.
//!
//! `cargo run --release --example bench_text [-- RECORDS]`

#![expect(clippy::print_stdout, reason = "a benchmark prints")]

use std::fmt::Write as _;
use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use bessemer_connectors::formats::text::{
    CsvOptions, DecodeLimits, JsonOptions, TextDecoder, TextDecoderOptions, TextFormat,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

const CHUNK_BYTES: usize = 1 << 20;
const ROUNDS: usize = 5;

fn main() -> Outcome<()> {
    let records = std::env::args().nth(1).map_or(Ok(1_000_000), |text| text.parse::<usize>())?;
    let (json, csv) = generate(records, 42);
    println!("{records} records; json {} bytes each, csv {}", json.len() / records, csv.len() / records);
    let (lines, table) = (TextFormat::Json(JsonOptions::default()), TextFormat::Csv(CsvOptions::default()));
    measure("json", &json, &lines, None, records)?;
    measure("json, two columns", &json, &lines, Some(&[0, 3]), records)?;
    measure("csv", &csv, &table, None, records)?;
    measure("csv, two columns", &csv, &table, Some(&[0, 3]), records)?;
    Ok(())
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("ts", DataType::Timestamp(TimeUnit::Microsecond, None), false),
        Field::new("user", DataType::Utf8, false),
        Field::new("value", DataType::Float64, true),
        Field::new("ok", DataType::Boolean, true),
        Field::new("city", DataType::Utf8, true),
        Field::new("n", DataType::Int64, true),
    ]))
}

fn generate(records: usize, seed: u64) -> (Vec<u8>, Vec<u8>) {
    let cities = ["Berlin", "Oslo", "San Francisco", "Zürich", "Kyoto"];
    let mut rng = StdRng::seed_from_u64(seed);
    let (mut json, mut csv) = (String::new(), String::from("id,ts,user,value,ok,city,n\n"));
    for id in 0..records {
        let (day, hour, minute, second) =
            (rng.random_range(1..=28), rng.random_range(0..24), rng.random_range(0..60), rng.random_range(0..60));
        let ts = format!("2013-05-{day:02}T{hour:02}:{minute:02}:{second:02}");
        let user = format!("u{}", rng.random_range(0..100_000));
        let value = f64::from(rng.random_range(-1_000_000..1_000_000_i32)) / 1000.0;
        let ok = rng.random_bool(0.5);
        let city = cities[rng.random_range(0..cities.len())];
        let n = rng.random_range(0..1000);
        _ = writeln!(
            json,
            r#"{{"id":{id},"ts":"{ts}","user":"{user}","value":{value},"ok":{ok},"city":"{city}","n":{n}}}"#
        );
        _ = writeln!(csv, "{id},{ts},{user},{value},{ok},{city},{n}");
    }
    (json.into_bytes(), csv.into_bytes())
}

fn measure(name: &str, bytes: &[u8], format: &TextFormat, projection: Option<&[usize]>, records: usize) -> Outcome<()> {
    let mut best = f64::INFINITY;
    for _ in 0..ROUNDS {
        let mut decoder = TextDecoder::new(TextDecoderOptions {
            schema: schema(),
            projection: projection.map(<[usize]>::to_vec),
            format: format.clone(),
            defaults: Vec::new(),
            limits: DecodeLimits::default(),
        })?;
        let before = cpu_seconds()?;
        let mut rows = 0;
        for chunk in bytes.chunks(CHUNK_BYTES) {
            decoder.feed(chunk).map_err(|fault| format!("{fault:?}"))?;
            while let Some(decoded) = decoder.next_batch() {
                rows += decoded.batch.num_rows();
            }
        }
        decoder.finish_object().map_err(|fault| format!("{fault:?}"))?;
        while let Some(decoded) = decoder.next_batch() {
            rows += decoded.batch.num_rows();
        }
        best = best.min(cpu_seconds()? - before);
        if rows != records {
            return Err(format!("{rows} rows of {records} records").into());
        }
    }
    let per_million = best * 1e6 / records as f64;
    println!("{name:20} {per_million:.3} CPU s per million, {:.0} MB/s", bytes.len() as f64 / best / 1e6);
    Ok(())
}

/// CPU time of this thread, which is the only one.
fn cpu_seconds() -> Outcome<f64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanos: f64 = text.split(' ').next().ok_or("an empty schedstat")?.parse()?;
    Ok(nanos / 1e9)
}
