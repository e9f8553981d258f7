//! `bare-datafusion OUT QUERY TABLE=FOLDER…`: runs a query over tables, each the Parquet files of a folder, and writes the
//! answer as Parquet with ZSTD 1. No expectations, no manifest, no ledger.

use std::error::Error;

use datafusion::config::TableParquetOptions;
use datafusion::dataframe::DataFrameWriteOptions;
use datafusion::prelude::{ParquetReadOptions, SessionContext};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let usage = "bare-datafusion OUT QUERY TABLE=FOLDER…";
    let [out, query, tables @ ..] = &arguments[..] else { return Err(usage.into()) };
    let session = SessionContext::new();
    for table in tables {
        let (name, folder) = table.split_once('=').ok_or(usage)?;
        session.register_parquet(name, folder, ParquetReadOptions::default()).await?;
    }
    let mut parquet = TableParquetOptions::default();
    parquet.global.compression = Some("zstd(1)".to_owned());
    session.sql(query).await?.write_parquet(out, DataFrameWriteOptions::default(), Some(parquet)).await?;
    Ok(())
}
