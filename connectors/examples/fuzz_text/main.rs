//! Differential fuzz of the text decoders: JSON lines against `serde_json`, CSV against the `csv` crate.
//!
//! `cargo run --release --example fuzz_text -- --minutes 10 [--seed N]` stops at the first difference, with the record
//! and the seed of its case, and exits with 1.

#![expect(clippy::print_stdout, reason = "a program that prints")]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

mod csv_case;
mod harness;
mod json_case;
mod reference;

/// Compares the text decoders with others, until they differ.
#[derive(Debug, Parser)]
struct Options {
    /// How long.
    #[arg(long, default_value_t = 1.0)]
    minutes: f64,
    /// Where the random cases begin.
    #[arg(long, default_value_t = rand::rng().random(), hide_default_value = true)]
    seed: u64,
}

fn main() -> ExitCode {
    let Options { minutes, seed } = Options::parse();
    println!("seed {seed}, {minutes} minutes");
    let begun = Instant::now();
    let end = Duration::from_secs_f64(minutes * 60.0);
    let (mut cases, mut records, mut next) = (0_u64, 0, Duration::from_secs(10));
    while begun.elapsed() < end {
        let case_seed = seed.wrapping_add(cases);
        let mut rng = StdRng::seed_from_u64(case_seed);
        let outcome = if case_seed % 2 == 0 { json_case::check(&mut rng) } else { csv_case::check(&mut rng) };
        match outcome {
            Ok(count) => records += count,
            Err(difference) => {
                println!("case seed {case_seed} ({}):\n{difference}", if case_seed % 2 == 0 { "json" } else { "csv" });
                return ExitCode::FAILURE;
            }
        }
        cases += 1;
        if begun.elapsed() >= next {
            next += Duration::from_secs(10);
            println!(
                "{cases} objects, {records} records, {:.0} records/s",
                records as f64 / begun.elapsed().as_secs_f64()
            );
        }
    }
    println!("no difference in {cases} objects, {records} records");
    ExitCode::SUCCESS
}
