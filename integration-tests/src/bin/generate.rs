//! Makes the rows that the benchmarks read: the same for the same numbers, on every machine.
//!
//! ```text
//! generate orders ROWS FILES FOLDER      Parquet, ZSTD 1
//! generate events ROWS FILES FOLDER      JSON lines of about 110 bytes
//! generate nexmark ROWS FILES FOLDER     events of Nexmark, as `integration-tests/nexmark/files.sql` reads them
//! ```

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use arrow::array::{Float64Array, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use bessemer_integration_tests::write_nexmark;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const SEED: u64 = 0x00be_55e3;
const BATCH_ROWS: u64 = 65_536;
/// 2013-01-01, in microseconds since 1970.
const FIRST_MOMENT: i64 = 1_356_998_400_000_000;
const MICROS_PER_YEAR: i64 = 365 * 86_400_000_000;
const REGIONS: [&str; 8] = ["north", "south", "east", "west", "centre", "coast", "island", "abroad"];
const STATUSES: [&str; 4] = ["paid", "shipped", "returned", "open"];
const KINDS: [&str; 5] = ["view", "click", "cart", "order", "leave"];

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [what, rows, files, folder] = &arguments[..] else { bail!("generate orders|events|nexmark ROWS FILES FOLDER") };
    let (rows, files) = (rows.parse::<u64>()?, files.parse::<u64>()?);
    let folder = PathBuf::from(folder);
    if what == "nexmark" {
        return write_nexmark(&folder, rows, files);
    }
    fs::create_dir_all(&folder)?;
    for file in 0..files {
        let range = rows * file / files..rows * (file + 1) / files;
        match what.as_str() {
            "orders" => write_orders(&folder.join(format!("orders-{file:04}.parquet")), range),
            "events" => write_events(&folder.join(format!("events-{file:04}.json")), range),
            other => bail!("`{other}` is neither `orders` nor `events` nor `nexmark`"),
        }?;
    }
    Ok(())
}

fn write_orders(path: &Path, rows: Range<u64>) -> Result<()> {
    let schema = order_schema();
    let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?)).build();
    let mut writer = ArrowWriter::try_new(File::create(path)?, Arc::clone(&schema), Some(properties))?;
    let mut random = StdRng::seed_from_u64(SEED ^ rows.start);
    let mut first = rows.start;
    while first < rows.end {
        let last = rows.end.min(first + BATCH_ROWS);
        writer.write(&orders(&schema, first..last, &mut random)?)?;
        first = last;
    }
    writer.close().map(drop).context("cannot finish the file")
}

fn order_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("order_id", DataType::Int64, false),
        Field::new("customer_id", DataType::Int64, false),
        Field::new("product", DataType::Utf8, false),
        Field::new("region", DataType::Utf8, false),
        Field::new("status", DataType::Utf8, false),
        Field::new("quantity", DataType::Int32, false),
        Field::new("price", DataType::Float64, false),
        Field::new("discount", DataType::Float64, true),
        Field::new("ordered_at", DataType::Timestamp(TimeUnit::Microsecond, None), false),
    ]))
}

fn orders(schema: &SchemaRef, rows: Range<u64>, random: &mut StdRng) -> Result<RecordBatch> {
    let ids: Vec<i64> = rows.map(i64::try_from).collect::<Result<_, _>>()?;
    let each = 0..ids.len();
    let customers: Int64Array = each.clone().map(|_| Some(random.random_range(0..1_000_000))).collect();
    let products: StringArray =
        each.clone().map(|_| Some(format!("product-{:04}", random.random_range(0..5_000)))).collect();
    let regions: StringArray = each.clone().map(|_| Some(pick(&REGIONS, random))).collect();
    let statuses: StringArray = each.clone().map(|_| Some(pick(&STATUSES, random))).collect();
    let quantities: Int32Array = each.clone().map(|_| Some(random.random_range(1..20))).collect();
    let prices: Float64Array =
        each.clone().map(|_| Some(f64::from(random.random_range(100..100_000)) / 100.)).collect();
    let discounts: Float64Array =
        each.map(|_| random.random_bool(0.3).then(|| f64::from(random.random_range(0..50)) / 100.)).collect();
    let moments: TimestampMicrosecondArray =
        ids.iter().map(|_| Some(FIRST_MOMENT + random.random_range(0..MICROS_PER_YEAR))).collect();
    Ok(RecordBatch::try_new(
        Arc::clone(schema),
        vec![
            Arc::new(Int64Array::from(ids)),
            Arc::new(customers),
            Arc::new(products),
            Arc::new(regions),
            Arc::new(statuses),
            Arc::new(quantities),
            Arc::new(prices),
            Arc::new(discounts),
            Arc::new(moments),
        ],
    )?)
}

fn write_events(path: &Path, rows: Range<u64>) -> Result<()> {
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let mut random = StdRng::seed_from_u64(SEED ^ rows.start);
    for id in rows {
        let user = random.random_range(0..1_000_000);
        let kind = pick(&KINDS, &mut random);
        let value = f64::from(random.random_range(0..1_000_000)) / 1000.;
        let is_new = random.random_bool(0.5);
        let visit = random.random_range(1..1000);
        // A day of 2013 and a moment of it; every month has 28 days.
        let (month, day) = (random.random_range(1..=12), random.random_range(1..=28));
        let (hour, minute, second) =
            (random.random_range(0..24), random.random_range(0..60), random.random_range(0..60));
        writeln!(
            out,
            r#"{{"id":{id},"user":"u{user:06}","kind":"{kind}","value":{value},"is_new":{is_new},"visit":{visit},"at":"2013-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z"}}"#
        )?;
    }
    out.flush().context("cannot finish the file")
}

fn pick<'a>(words: &[&'a str], random: &mut StdRng) -> &'a str {
    words[random.random_range(0..words.len())]
}
