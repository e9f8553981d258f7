//! CPU seconds of exact statistics beside DataFusion's own, in one thread, over the same batches.
//!
//! `cargo run --release --example bench_aggregates [-- ROWS]`

#![expect(clippy::print_stdout, reason = "a benchmark prints")]

use std::num::NonZeroUsize;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch};
use bessemer_transforms::{SessionOptions, exact_aggregates, session};
use datafusion::datasource::MemTable;
use datafusion::execution::{FunctionRegistry, SessionState};
use datafusion::prelude::SessionContext;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

const BATCH_ROWS: usize = 8_192;
const ROUNDS: usize = 3;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome<()> {
    let rows = std::env::args().nth(1).map_or(Ok(5_000_000), |text| text.parse::<usize>())?;
    let options = SessionOptions {
        partitions: NonZeroUsize::MIN,
        memory_bytes: 4 << 30,
        process_memory: None,
        spill_dir: std::env::temp_dir(),
        spill_bytes_max: 1 << 30,
        batch_rows: NonZeroUsize::new(BATCH_ROWS).ok_or("no rows of a batch")?,
    };
    let theirs = session(&options)?;
    let mut ours = theirs.clone();
    for function in exact_aggregates() {
        ours.register_udaf(function)?;
    }

    println!("{rows} rows; CPU s a million, ours and DataFusion's");
    for (name, groups) in [("no group", 1), ("a thousand groups", 1_000), ("a million groups", 1_000_000)] {
        let table = Arc::new(table(rows, groups)?);
        for function in ["sum(x)", "avg(x)", "var(x)", "corr(x, y)"] {
            let query = match groups {
                1 => format!("SELECT {function} FROM t"),
                _ => format!("SELECT g, {function} FROM t GROUP BY g"),
            };
            let mut best = [f64::INFINITY; 2];
            for _ in 0..ROUNDS {
                for (best, state) in best.iter_mut().zip([&ours, &theirs]) {
                    *best = best.min(measure(state, &table, &query).await?);
                }
            }
            #[expect(clippy::cast_precision_loss, reason = "few rows")]
            let [ours, theirs] = best.map(|seconds| seconds * 1e6 / rows as f64);
            println!("{name:20} {function:12} {ours:.4} {theirs:.4}  {:.2}", ours / theirs);
        }
    }
    Ok(())
}

/// Values of both signs and of some sizes, by a generator with a fixed seed.
fn table(rows: usize, groups: u64) -> Outcome<MemTable> {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    #[expect(clippy::cast_precision_loss, reason = "any number will do")]
    let mut number = || (next() >> 11) as f64 / 2_f64.powi(43) - 512.;
    let mut batches = Vec::new();
    let mut left = rows;
    while left > 0 {
        let size = left.min(BATCH_ROWS);
        left -= size;
        let x: Float64Array = (0..size).map(|_| Some(number())).collect();
        let y: Float64Array = (0..size).map(|_| Some(number())).collect();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "any group will do")]
        let group = |x: f64| (x.abs() * 1e9) as u64 % groups;
        let g: Int64Array = x.values().iter().map(|x| group(*x).cast_signed()).map(Some).collect();
        let columns = [("g", Arc::new(g) as ArrayRef), ("x", Arc::new(x)), ("y", Arc::new(y))];
        batches.push(RecordBatch::try_from_iter(columns)?);
    }
    let schema = batches.first().ok_or("no rows")?.schema();
    Ok(MemTable::try_new(schema, vec![batches])?)
}

async fn measure(state: &SessionState, table: &Arc<MemTable>, query: &str) -> Outcome<f64> {
    let context = SessionContext::new_with_state(state.clone());
    context.register_table("t", Arc::clone(table) as _)?;
    let frame = context.sql(query).await?;
    let before = cpu_seconds()?;
    let found = frame.collect().await?;
    std::hint::black_box(found);
    let seconds = cpu_seconds()? - before;
    context.deregister_table("t")?;
    Ok(seconds)
}

/// CPU time of this thread, which is the only one.
fn cpu_seconds() -> Outcome<f64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanos: f64 = text.split(' ').next().ok_or("an empty schedstat")?.parse()?;
    Ok(nanos / 1e9)
}
