//! `quarantine`: what was refused, why, and where it came from; and to replay it.

use std::sync::Arc;

use bessemer_connectors::manifest_store::History;
use bessemer_connectors::sink::{QuarantineOwner, quarantine_location, read_rows};
use bessemer_schemas::DataFile;
use datafusion::arrow::array::{ArrayRef, AsArray, RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use futures::TryStreamExt;
use serde::Serialize;

use crate::cli::{QuarantineAction, QuarantineArgs, ReplayArgs};
use crate::command::history;
use crate::command::preview::print_batches;
use crate::command::run::{cancel_on_interrupt, print_summary};
use crate::error::{Error, Result};
use crate::load::{self, Parsed};
use crate::output;
use crate::progress::Progress;
use crate::run::replay::ReplayRequest;
use crate::run::{self, Repaired, RunOptions};

#[derive(Debug, Serialize)]
struct Summary {
    of: String,
    name: String,
    rows: u64,
    files: u64,
}

/// Lists the quarantine, or shows the records of one source or feature set.
pub(crate) async fn quarantine(args: &QuarantineArgs) -> Result<()> {
    if let Some(QuarantineAction::Replay(args)) = &args.action {
        return Box::pin(replay(args)).await;
    }
    let (parsed, _, history) = history(std::slice::from_ref(&args.path)).await?;
    let owners = owners(&parsed);
    let Some(name) = &args.name else {
        return list(&owners, &history, args.json).await;
    };
    let Some((of, _)) = owners.iter().find(|(_, owner)| owner == name) else {
        let names: Vec<_> = owners.iter().map(|(_, owner)| owner.as_str()).collect();
        return Err(load::unknown("source or feature set", name, &names));
    };
    let files: Vec<DataFile> = history.quarantine_files(&format!("{of}:{name}")).try_collect().await?;
    let batches = show(&parsed, of, name, &files, args.limit).await?;
    print_batches(&batches, args.json)?;
    if !args.json {
        let total = files.iter().map(|file| file.rows).sum();
        output::note(format!("{} in quarantine", output::plural(total, "record")));
    }
    Ok(())
}

/// Decodes quarantined records again.
async fn replay(args: &ReplayArgs) -> Result<()> {
    let (parsed, ..) = history(std::slice::from_ref(&args.path)).await?;
    if let Some(set) = &args.set {
        parsed.set(set)?;
        let message = format!(
            "rows in the quarantine of feature set `{set}` cannot be replayed: they are what its query made, and the records \
             behind them are not kept; another expectation holds for the rows to come"
        );
        return Err(Error::Unknown { message });
    }
    let repaired = args.repaired.as_deref().map(Repaired::read).transpose()?;
    let request = ReplayRequest { source: args.source.clone(), reasons: args.reasons.clone(), repaired };
    let progress = Progress::new(args.json);
    let cancel = cancel_on_interrupt(progress.clone());
    let options = RunOptions { from_now: args.from.is_some(), ..RunOptions::default() };
    let summary = run::replay::replay(parsed, &request, options, &progress, &cancel).await;
    progress.finish();
    let summary = summary?;
    if args.json {
        return output::json(&summary);
    }
    if summary.epochs == 0 {
        return output::line(format!("{}: nothing in quarantine is to be replayed", summary.pipeline));
    }
    print_summary(&summary)
}

fn owners(parsed: &Parsed) -> Vec<(&'static str, String)> {
    let sources = parsed.definition.sources.iter().map(|source| ("source", source.name.value.clone()));
    let sets = parsed.definition.feature_sets.iter().map(|set| ("set", set.name.value.clone()));
    sources.chain(sets).collect()
}

async fn list(owners: &[(&'static str, String)], history: &History, json: bool) -> Result<()> {
    let mut lines = Vec::new();
    for (of, name) in owners {
        let files: Vec<DataFile> = history.quarantine_files(&format!("{of}:{name}")).try_collect().await?;
        let rows = files.iter().map(|file| file.rows).sum();
        lines.push(Summary { of: (*of).to_owned(), name: name.clone(), rows, files: files.len() as u64 });
    }
    if json {
        return output::json(&lines);
    }
    let rows = lines.iter().map(|line| {
        let of = if line.of == "set" { "feature set" } else { "source" };
        vec![of.to_owned(), line.name.clone(), output::count(line.rows), output::count(line.files)]
    });
    output::table(&["of", "name", "#records", "#files"], rows.collect())
}

/// The batch with its keys and original bytes as text.
fn with_readable_bytes(batch: &RecordBatch) -> Result<RecordBatch, bessemer_connectors::Error> {
    let (schema, columns, _) = batch.clone().into_parts();
    let is_bytes =
        |field: &Field| matches!(field.name().as_str(), "original" | "key") && *field.data_type() == DataType::Binary;
    let readable = schema.fields().iter().zip(columns).map(|(field, column)| {
        if !is_bytes(field) {
            return (Arc::clone(field), column);
        }
        let texts: StringArray =
            column.as_binary::<i32>().iter().map(|bytes| bytes.map(output::readable_bytes)).collect();
        (Arc::new(Field::new(field.name(), DataType::Utf8, true)), Arc::new(texts) as ArrayRef)
    });
    let (fields, columns): (Vec<_>, Vec<_>) = readable.unzip();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

async fn show(parsed: &Parsed, of: &str, name: &str, files: &[DataFile], limit: u64) -> Result<Vec<RecordBatch>> {
    let owner = if of == "set" { QuarantineOwner::Set(name) } else { QuarantineOwner::Source(name) };
    let location = quarantine_location(&parsed.settings.state, owner);
    let batches: Vec<RecordBatch> = read_rows(&location, files, limit).try_collect().await?;
    batches.iter().map(|batch| Ok(with_readable_bytes(batch)?)).collect()
}
