//! What it wrote opens in the readers that people use, with the expected schema, statistics and rows.

use std::process::Command;

use anyhow::{Result, ensure};
use bessemer_integration_tests::{Bessemer, Flights, Pipeline, repository};

#[test]
fn pyarrow_duckdb_polars_and_deltalake_read_the_same_rows() -> Result<()> {
    let Some(python) = std::env::var_os("BESSEMER_TEST_PYTHON") else {
        println!(
            "skipped: BESSEMER_TEST_PYTHON names no Python with pyarrow, duckdb, polars, deltalake (`.ci/run` makes one)"
        );
        eprintln!("skipped: other readers (BESSEMER_TEST_PYTHON is not set; `.ci/run` sets it)");
        return Ok(());
    };
    let flights = Flights::example()?;
    let pipeline = Pipeline::flights(&flights.data.display().to_string(), |text| text)?;
    Bessemer::find()?.json(["run", &pipeline.path(), "--json"])?;
    let output = Command::new(python)
        .arg(repository().join("integration-tests/readers/read_sets.py"))
        .arg(&pipeline.features)
        .arg(repository().join("integration-tests/oracle/expected/example/counts.json"))
        .output()?;
    println!("{}", String::from_utf8_lossy(&output.stdout));
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
