//! `status`, `log` and `inspect`: what the manifests say.

use bessemer_connectors::manifest_store::ManifestStore;
use bessemer_schemas::{DataFile, Epoch, Failure, Manifest, ManifestKind, SourceSlice};
use futures::TryStreamExt;
use serde::Serialize;

use crate::cli::{InspectArgs, LogArgs, PipelineArgs};
use crate::command::history;
use crate::command::runs::Runs;
use crate::command::watermarks::WatermarkStatus;
use crate::error::{Error, Result};
use crate::load;
use crate::output::{self, count};

#[derive(Debug, Serialize)]
struct Status {
    pipeline: String,
    state: &'static str,
    epoch: u64,
    committed_at: Option<String>,
    failure: Option<Failure>,
    #[serde(flatten)]
    runs: Runs,
    watermarks: Vec<WatermarkStatus>,
    feature_sets: Vec<SetStatus>,
}

#[derive(Debug, Serialize)]
struct SetStatus {
    name: String,
    rows: u64,
    files: u64,
    bytes: u64,
    quarantined: u64,
    path: String,
}

/// Shows where a pipeline stands.
pub(crate) async fn status(args: &PipelineArgs) -> Result<()> {
    let parsed = load::parse(&args.paths)?;
    let store = ManifestStore::new(parsed.settings.state.clone(), parsed.name());
    let (history, runs) = (store.history().await?, Runs::of(&parsed, &store).await?);
    let newest = history.newest();
    if newest.is_none() && runs.is_nothing() {
        return Err(Error::NoEpoch { pipeline: parsed.name().to_owned() });
    }
    let failure = history.last_failure().cloned();
    let mut sets = Vec::new();
    for (set, options) in parsed.definition.feature_sets.iter().zip(&parsed.sets) {
        let name = &set.name.value;
        let files: Vec<DataFile> = history.live_files(name).try_collect().await?;
        let quarantined: Vec<DataFile> = history.quarantine_files(&format!("set:{name}")).try_collect().await?;
        sets.push(SetStatus {
            name: name.clone(),
            rows: files.iter().map(|file| file.rows).sum(),
            files: files.len() as u64,
            bytes: files.iter().map(|file| file.bytes).sum(),
            quarantined: quarantined.iter().map(|file| file.rows).sum(),
            path: options.location.as_text().to_owned(),
        });
    }
    let status = Status {
        pipeline: parsed.name().to_owned(),
        state: match newest {
            None => "new",
            Some(_) if failure.is_some() => "failed",
            Some(_) => "ok",
        },
        epoch: newest.map_or(0, |newest| newest.epoch.0),
        committed_at: newest.map(|newest| output::instant(newest.committed_at)),
        failure,
        runs,
        watermarks: WatermarkStatus::all(&parsed, &history),
        feature_sets: sets,
    };
    if args.json { output::json(&status) } else { status.print() }
}

impl Status {
    fn print(&self) -> Result<()> {
        output::line(match &self.committed_at {
            Some(at) => format!("{}: {}, epoch {} at {at}", self.pipeline, self.state, self.epoch),
            None => format!("{}: no epoch yet", self.pipeline),
        })?;
        self.runs.print()?;
        self.watermarks.iter().try_for_each(WatermarkStatus::print)?;
        if let Some(failure) = &self.failure {
            output::line(format!(
                "failed: expectation `{}` of feature set `{}`, {}",
                failure.expectation,
                failure.set,
                output::plural(failure.violations, "violation")
            ))?;
            for row in &failure.sample {
                output::line(format!("  {row}"))?;
            }
        }
        let rows = self.feature_sets.iter().map(|set| {
            let size = bessemer_schemas::ByteSize(set.bytes).to_string();
            vec![set.name.clone(), count(set.rows), count(set.files), size, count(set.quarantined), set.path.clone()]
        });
        output::table(&["feature set", "#rows", "#files", "#size", "#quarantined", "path"], rows.collect())
    }
}

#[derive(Debug, Serialize)]
struct EpochLine {
    epoch: u64,
    kind: ManifestKind,
    committed_at: String,
    duration_ms: i64,
    objects: u64,
    bytes_read: u64,
    records: u64,
    undecodable: u64,
    rows_written: u64,
    rows_quarantined: u64,
    files_added: u64,
    ignored: u64,
}

/// Lists the epochs.
pub(crate) async fn log(args: &LogArgs) -> Result<()> {
    let (_, store, history) = history(&args.pipeline.paths).await?;
    let Some(newest) = history.newest() else { return Ok(()) };
    let first = Epoch((newest.epoch.0 + 1).saturating_sub(args.last).max(1));
    let lines: Vec<_> = store.manifests(first..=newest.epoch).map_ok(|manifest| line(&manifest)).try_collect().await?;
    if args.pipeline.json {
        return output::json(&lines);
    }
    let header = [
        "#epoch",
        "kind",
        "committed",
        "#duration",
        "#objects",
        "#read",
        "#records",
        "#undecodable",
        "#written",
        "#quarantined",
        "#files",
        "#ignored",
    ];
    let rows = lines.iter().map(|line| {
        vec![
            count(line.epoch),
            kind_text(line.kind).to_owned(),
            line.committed_at.clone(),
            output::seconds(line.duration_ms * 1_000),
            count(line.objects),
            bessemer_schemas::ByteSize(line.bytes_read).to_string(),
            count(line.records),
            count(line.undecodable),
            count(line.rows_written),
            count(line.rows_quarantined),
            count(line.files_added),
            count(line.ignored),
        ]
    });
    output::table(&header, rows.collect())
}

/// Shows a manifest.
pub(crate) async fn inspect(args: &InspectArgs) -> Result<()> {
    let (_, store, history) = history(std::slice::from_ref(&args.path)).await?;
    // What the history holds of a manifest lacks its base.
    let epoch = args.epoch.map(Epoch).or_else(|| history.newest().map(|newest| newest.epoch));
    match epoch {
        Some(epoch) => output::json(&store.read(epoch).await?),
        None => Ok(()),
    }
}

fn line(manifest: &Manifest) -> EpochLine {
    let sources = manifest.sources.values();
    let sets = manifest.sets.values();
    EpochLine {
        epoch: manifest.epoch.0,
        kind: manifest.kind,
        committed_at: output::instant(manifest.committed_at),
        duration_ms: (manifest.committed_at - manifest.started_at) / 1_000,
        objects: manifest.slice.sources.values().map(objects_of).sum(),
        bytes_read: sources.clone().map(|ledger| ledger.bytes).sum(),
        records: sources.clone().map(|ledger| ledger.records).sum(),
        undecodable: sources.clone().map(|ledger| ledger.undecodable).sum(),
        rows_written: sets.clone().map(|set| set.ledger.written).sum(),
        rows_quarantined: sets
            .clone()
            .map(|set| set.ledger.quarantined)
            .chain(sources.map(|ledger| ledger.quarantined))
            .sum(),
        ignored: manifest.slice.sources.values().map(SourceSlice::ignored).sum(),
        files_added: sets.map(|set| set.files.added.len() as u64).sum(),
    }
}

fn objects_of(slice: &SourceSlice) -> u64 {
    match slice {
        SourceSlice::Objects { objects, block, .. } | SourceSlice::Table { objects, block, .. } => {
            objects.len() as u64 + block.as_ref().map_or(0, |block| block.entries)
        }
        _ => 0,
    }
}

fn kind_text(kind: ManifestKind) -> &'static str {
    match kind {
        ManifestKind::Open => "open",
        ManifestKind::Data => "data",
        ManifestKind::Failed => "failed",
        ManifestKind::Compaction => "compaction",
        _ => "other",
    }
}
