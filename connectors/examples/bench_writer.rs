//! CPU seconds per million rows of the feature-set writer against the Parquet library's own `ArrowWriter`, same codec,
//! same row groups, into local files.
//!
//! `cargo run --release -p bessemer-connectors --example bench_writer [MILLIONS]`; Linux only, for it reads `/proc`.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::error::Error;
use std::num::NonZeroUsize;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray};
use arrow::record_batch::RecordBatch;
use bessemer_connectors::Location;
use bessemer_connectors::sink::{FeatureSetOptions, SetWriter, WriterNaming, WrittenSet};
use bessemer_schemas::{Claim, Epoch, PartitionField};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;

const BATCH_ROWS: usize = 8_192;

/// Ticks per second of `/proc/self/stat`, fixed by the kernel's interface.
const TICKS: f64 = 100.0;

type Outcome<T> = Result<T, Box<dyn Error>>;

#[tokio::main]
async fn main() -> Outcome<()> {
    let millions: usize = std::env::args().nth(1).map_or(Ok(5), |text| text.parse())?;
    let batches: Vec<_> = (0..millions * 1_000_000 / BATCH_ROWS).map(batch).collect::<Outcome<_>>()?;
    let rows = (batches.len() * BATCH_ROWS) as f64 / 1e6;
    let folder = std::env::temp_dir().join(format!("bench_writer-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let location = Location::local(&folder)?;

    println!("{:<34}{:>20}{:>16}{:>12}", "", "CPU s / million rows", "s / million rows", "MB");
    let report = |name: &str, (cpu, wall, bytes): (f64, f64, u64)| {
        println!("{name:<34}{:>20.3}{:>16.3}{:>12.1}", cpu / rows, wall / rows, bytes as f64 / 1e6);
    };
    for _ in 0..2 {
        report("ArrowWriter", arrow_writer(&folder, &batches)?);
        for (name, encoders, partition_by) in [
            ("SetWriter, one encoder", 1, ""),
            ("SetWriter, two encoders", 2, ""),
            ("SetWriter, a partition per day", 1, "day(at)"),
        ] {
            report(name, set_writer(&location, &batches, encoders, partition_by).await?);
        }
    }
    std::fs::remove_dir_all(folder)?;
    Ok(())
}

fn arrow_writer(folder: &std::path::Path, batches: &[RecordBatch]) -> Outcome<(f64, f64, u64)> {
    let (cpu, start) = (cpu_seconds()?, std::time::Instant::now());
    let options = FeatureSetOptions::with_defaults(Location::local(folder)?);
    let properties = WriterProperties::builder()
        .set_compression(options.compression)
        .set_max_row_group_row_count(Some(options.row_group_rows.get()))
        .build();
    let path = folder.join("arrow.parquet");
    let mut writer = ArrowWriter::try_new(std::fs::File::create(&path)?, batches[0].schema(), Some(properties))?;
    for batch in batches {
        writer.write(batch)?;
    }
    writer.close()?;
    std::fs::File::open(&path)?.sync_all()?;
    let bytes = std::fs::metadata(path)?.len();
    Ok((cpu_seconds()? - cpu, start.elapsed().as_secs_f64(), bytes))
}

async fn set_writer(
    location: &Location,
    batches: &[RecordBatch],
    encoders: usize,
    partition_by: &str,
) -> Outcome<(f64, f64, u64)> {
    let (cpu, start) = (cpu_seconds()?, std::time::Instant::now());
    let mut options = FeatureSetOptions::with_defaults(location.clone());
    if !partition_by.is_empty() {
        options.partition_by = PartitionField::parse_list(partition_by)?;
    }
    let mut set = WrittenSet::new("bench", "bench");
    set.encoders = NonZeroUsize::new(encoders).ok_or("no encoders")?;
    let naming = WriterNaming { epoch: Epoch(1), claim: Claim(1), attempt: 0, stream: 0 };
    let mut writer = SetWriter::new(&options, &batches[0].schema(), naming, set)?;
    for batch in batches {
        writer.write(batch).await?;
    }
    let files = writer.finish().await?;
    let bytes = files.iter().map(|file| file.bytes).sum();
    Ok((cpu_seconds()? - cpu, start.elapsed().as_secs_f64(), bytes))
}

/// Something like a row of a feature set: keys, a time, numbers of few and of many values, text, nulls.
fn batch(number: usize) -> Outcome<RecordBatch> {
    let ids = || (number * BATCH_ROWS..(number + 1) * BATCH_ROWS).map(|id| i64::try_from(id).unwrap_or(i64::MAX));
    let mix = |id: i64| id.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e).rotate_left(23);
    let carriers = ["AA", "UA", "DL", "WN", "B6", "EV", "MQ", "US"];
    let carrier = |id: i64| carriers[usize::try_from(mix(id).rem_euclid(8)).unwrap_or(0)];
    let delay = |id: i64| (mix(id) % 10 != 0).then_some((mix(id) % 600) as f64 / 2.0);
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(Int64Array::from_iter_values(ids()))),
        ("carrier", Arc::new(StringArray::from_iter_values(ids().map(carrier)))),
        ("tail", Arc::new(StringArray::from_iter_values(ids().map(|id| format!("N{}", mix(id) % 5_000))))),
        ("at", Arc::new(TimestampMicrosecondArray::from_iter_values(ids().map(|id| id * 300_000)))),
        ("delay", Arc::new(ids().map(delay).collect::<Float64Array>())),
        ("distance", Arc::new(Int64Array::from_iter_values(ids().map(|id| mix(id) % 3_000)))),
        ("noise", Arc::new(Float64Array::from_iter_values(ids().map(|id| mix(id) as f64 / 1e12)))),
        ("speed", Arc::new(Float64Array::from_iter_values(ids().map(|id| (mix(id) % 5_000) as f64 / 10.0)))),
    ];
    Ok(RecordBatch::try_from_iter(columns)?)
}

fn cpu_seconds() -> Outcome<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // The name of the program stands in parentheses and may hold spaces.
    let fields: Vec<_> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |idx: usize| -> Outcome<f64> { Ok(fields.get(idx).ok_or("a short /proc/self/stat")?.parse()?) };
    Ok((ticks(11)? + ticks(12)?) / TICKS)
}
