//! `bare-datafusion FOLDER OUT QUERY`: runs a query over the Parquet files of a folder, as table `orders`, and writes the
//! answer as Parquet with ZSTD 1. No expectations, no manifest, no ledger.

use std::error::Error;

use datafusion::config::TableParquetOptions;
use datafusion::dataframe::DataFrameWriteOptions;
use datafusion::prelude::{ParquetReadOptions, SessionContext};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, out, query] = &arguments[..] else { return Err("bare-datafusion FOLDER OUT QUERY".into()) };
    let session = SessionContext::new();
    session.register_parquet("orders", folder, ParquetReadOptions::default()).await?;
    let mut parquet = TableParquetOptions::default();
    parquet.global.compression = Some("zstd(1)".to_owned());
    session.sql(query).await?.write_parquet(out, DataFrameWriteOptions::default(), Some(parquet)).await?;
    Ok(())
}
