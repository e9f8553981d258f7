//! `preview`: the first rows of anything that has rows.

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::json::LineDelimitedWriter;
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};

use crate::cli::PreviewArgs;
use crate::error::{Error, Result};
use crate::load;
use crate::output;
use crate::run::preview;

/// Shows the first rows of a source, view or feature set.
pub(crate) async fn preview(args: &PreviewArgs) -> Result<()> {
    let loaded = load::load(load::parse(std::slice::from_ref(&args.path))?, None).await?;
    let batches = preview::rows(&loaded, args.name.as_deref(), args.limit).await?;
    print_batches(&batches, args.json)
}

/// Prints batches as a table, or one JSON object a row.
pub(crate) fn print_batches(batches: &[RecordBatch], json: bool) -> Result<()> {
    if json {
        let mut writer = LineDelimitedWriter::new(Vec::new());
        let batches: Vec<_> = batches.iter().collect();
        writer.write_batches(&batches).and_then(|()| writer.finish()).map_err(internal)?;
        return output::raw(&writer.into_inner());
    }
    let Some(first) = batches.first() else {
        return output::line("no rows");
    };
    let schema = first.schema();
    let header: Vec<_> = schema
        .fields()
        .iter()
        .map(|field| if field.data_type().is_numeric() { format!("#{}", field.name()) } else { field.name().clone() })
        .collect();
    let mut rows = Vec::new();
    for batch in batches {
        rows.extend(cells(batch).map_err(internal)?);
    }
    output::table(&header.iter().map(String::as_str).collect::<Vec<_>>(), rows)
}

/// The batch's values as text; a few rows for people, so row by row is fine here.
fn cells(batch: &RecordBatch) -> Result<Vec<Vec<String>>, ArrowError> {
    let options = FormatOptions::default().with_null("");
    let columns = batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options));
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    Ok((0..batch.num_rows()).map(|row| columns.iter().map(|column| column.value(row).to_string()).collect()).collect())
}

fn internal(error: ArrowError) -> Error {
    Error::Connector(error.into())
}
