//! What it wrote opens in the readers that people use, with the expected schema, statistics and rows.

use std::process::Command;

use anyhow::{Result, ensure};
use bessemer_integration_tests::{Bessemer, Flights, Pipeline, repository};

const SKIPPED: &str = "skipped: other readers (BESSEMER_TEST_PYTHON names no Python with pyarrow, duckdb, polars and \
                       deltalake; `.ci/run` makes one)";

/// What a script says that finds nothing wrong.
fn told(mut script: Command) -> Result<String> {
    let output = script.output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn pyarrow_duckdb_polars_and_deltalake_read_the_same_rows() -> Result<()> {
    let Some(python) = std::env::var_os("BESSEMER_TEST_PYTHON") else {
        println!("{SKIPPED}");
        eprintln!("{SKIPPED}");
        return Ok(());
    };
    let flights = Flights::example()?;
    let pipeline = Pipeline::flights(&flights.data.display().to_string(), |text| text)?;
    Bessemer::find()?.json(["run", &pipeline.path(), "--json"])?;
    let mut command = Command::new(python);
    command
        .arg(repository().join("integration-tests/readers/read_sets.py"))
        .arg(&pipeline.features)
        .arg(repository().join("integration-tests/oracle/expected/example/counts.json"));
    println!("{}", told(command)?);
    Ok(())
}

#[test]
fn duckdb_joins_in_time_as_a_pipeline_does() -> Result<()> {
    let Some(python) = std::env::var_os("BESSEMER_TEST_PYTHON") else {
        println!("{SKIPPED}");
        eprintln!("{SKIPPED}");
        return Ok(());
    };
    let data = Flights::example()?.data;
    let pipeline = Pipeline::new(&JOINS_IN_TIME.replace("'data/", &format!("'{}/", data.display())))?;
    Bessemer::find()?.json(["run", &pipeline.path(), "--json"])?;
    let mut command = Command::new(python);
    command.arg(repository().join("integration-tests/readers/asof_join.py")).arg(&pipeline.features);
    println!("{}", told(command)?);
    Ok(())
}

/// Flights with the weather before and after them, from a source and from a table.
const JOINS_IN_TIME: &str = "
CREATE PIPELINE joins; SET partitions = 3;
CREATE SOURCE flights (
    dep_delay INT, carrier VARCHAR NOT NULL, flight INT NOT NULL, origin VARCHAR NOT NULL, minute INT NOT NULL,
    time_hour TIMESTAMPTZ NOT NULL
) WITH (path = 'data/flights*.csv.gz', format = 'csv', null_values = 'NA');
CREATE SOURCE observations (origin VARCHAR NOT NULL, temp DOUBLE, time_hour TIMESTAMPTZ NOT NULL)
WITH (path = 'data/weather*.csv.gz', format = 'csv', null_values = 'NA');
CREATE TABLE known (origin VARCHAR NOT NULL, temp DOUBLE, time_hour TIMESTAMPTZ NOT NULL)
WITH (path = 'data/weather*.csv.gz', format = 'csv', null_values = 'NA');
CREATE VIEW ids AS
SELECT concat_ws(' ', carrier, flight, origin, time_hour, minute) AS id, origin, time_hour AS scheduled FROM flights;
CREATE FEATURE SET departures WITH (path = 'features/departures') AS SELECT * FROM ids;
CREATE FEATURE SET weather WITH (path = 'features/weather')
AS SELECT origin, temp, time_hour AS hour FROM observations;
CREATE FEATURE SET before EVENT TIME (scheduled) WITH (path = 'features/before')
AS SELECT f.id, f.scheduled, w.time_hour AS hour, w.temp
   FROM ids f ASOF LEFT JOIN known w MATCH_CONDITION (f.scheduled > w.time_hour) ON f.origin = w.origin;
CREATE FEATURE SET after WITH (path = 'features/after')
AS SELECT f.id, w.time_hour AS hour, w.temp
   FROM ids f ASOF JOIN observations w MATCH_CONDITION (f.scheduled <= w.time_hour) USING (origin);
";
