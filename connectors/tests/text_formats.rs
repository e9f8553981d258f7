//! A short run of the differential fuzz; `examples/fuzz_text` is the long one.

use rand::SeedableRng;
use rand::rngs::StdRng;

#[path = "../examples/fuzz_text/csv_case.rs"]
mod csv_case;
#[path = "../examples/fuzz_text/harness.rs"]
mod harness;
#[path = "../examples/fuzz_text/json_case.rs"]
mod json_case;
#[path = "../examples/fuzz_text/reference.rs"]
mod reference;

const OBJECTS: u64 = 1500;

#[test]
fn json_lines_are_read_as_serde_json_reads_them() {
    for seed in 0..OBJECTS {
        json_case::check(&mut StdRng::seed_from_u64(seed)).unwrap_or_else(|difference| panic!("{seed}: {difference}"));
    }
}

#[test]
fn csv_is_read_as_the_csv_crate_reads_it() {
    for seed in 0..OBJECTS {
        csv_case::check(&mut StdRng::seed_from_u64(seed)).unwrap_or_else(|difference| panic!("{seed}: {difference}"));
    }
}
