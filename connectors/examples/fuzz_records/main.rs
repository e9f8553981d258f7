//! Fuzz of the decoders of records: Avro against `arrow-avro`, Protobuf against `prost-reflect`, the framing of schema
//! registries and the payloads of topics against what must hold.
//!
//! `cargo run --release --example fuzz_records -- --target avro --minutes 10 [--seed N]` stops at the first difference,
//! with the record and the seed of its case, and exits with 1. Targets: `avro`, `protobuf`, `framing`, `payload`. It begins
//! with the records in `corpus/`.

#![expect(clippy::print_stdout, reason = "a program that prints")]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

mod avro_case;
mod bytes;
mod framing_case;
mod payload_case;
mod protobuf_case;

/// Checks one random case: the number of its records, those that were rejected of them, or what differs.
type Check = fn(&mut StdRng, &[Vec<u8>]) -> Result<(u64, u64), String>;

/// What is compared.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Target {
    Avro,
    Protobuf,
    Framing,
    Payload,
}

impl Target {
    fn check(self) -> Check {
        match self {
            Self::Avro => avro_case::check,
            Self::Protobuf => protobuf_case::check,
            Self::Framing => framing_case::check,
            Self::Payload => payload_case::check,
        }
    }
}

/// Compares a decoder of records with another one, until they differ.
#[derive(Debug, Parser)]
struct Options {
    /// What is compared.
    #[arg(long)]
    target: Target,
    /// How long.
    #[arg(long, default_value_t = 1.0)]
    minutes: f64,
    /// Where the random cases begin.
    #[arg(long, default_value_t = rand::rng().random(), hide_default_value = true)]
    seed: u64,
}

fn main() -> ExitCode {
    let Options { target, minutes, seed } = Options::parse();
    let check = target.check();
    let target = format!("{target:?}").to_lowercase();
    let corpus = bytes::corpus(&target);
    println!("{target}: seed {seed}, {minutes} minutes, {} records in the corpus", corpus.len());
    let begun = Instant::now();
    let end = Duration::from_secs_f64(minutes * 60.0);
    let (mut cases, mut records, mut rejected, mut next) = (0_u64, 0, 0, Duration::from_mins(1));
    while begun.elapsed() < end {
        let case_seed = seed.wrapping_add(cases);
        match check(&mut StdRng::seed_from_u64(case_seed), &corpus) {
            Ok((more, bad)) => {
                records += more;
                rejected += bad;
            }
            Err(difference) => {
                println!("case seed {case_seed}:\n{difference}");
                return ExitCode::FAILURE;
            }
        }
        cases += 1;
        if begun.elapsed() >= next {
            next += Duration::from_mins(1);
            println!("{cases} cases, {records} records, {rejected} of them rejected");
        }
    }
    println!("{target}: no difference in {cases} cases, {records} records, {rejected} of them rejected");
    ExitCode::SUCCESS
}
