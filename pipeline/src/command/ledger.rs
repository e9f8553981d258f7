//! `ledger`: what became of every record and row.

use bessemer_connectors::manifest_store::History;
use bessemer_schemas::{Epoch, Imbalance, Manifest, ManifestKind, OffsetRange, SetLedger, SourceLedger, SourceSlice};
use futures::TryStreamExt;
use serde::Serialize;

use crate::cli::LedgerArgs;
use crate::command::history;
use crate::error::Result;
use crate::output::{self, count};

#[derive(Debug, Serialize)]
struct SourceLine {
    epoch: Option<u64>,
    source: String,
    #[serde(flatten)]
    ledger: SourceLedger,
    verdict: String,
}

#[derive(Debug, Serialize)]
struct SetLine {
    epoch: Option<u64>,
    set: String,
    #[serde(flatten)]
    ledger: SetLedger,
    verdict: String,
}

/// How far a partition of a topic was read.
#[derive(Debug, Serialize)]
struct OffsetLine {
    epoch: Option<u64>,
    source: String,
    #[serde(flatten)]
    range: OffsetRange,
}

#[derive(Debug, Default, Serialize)]
struct Answer {
    balanced: bool,
    sources: Vec<SourceLine>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    offsets: Vec<OffsetLine>,
    sets: Vec<SetLine>,
}

/// Prints the ledger: totals, or each epoch.
pub(crate) async fn ledger(args: &LedgerArgs) -> Result<()> {
    let (_, store, history) = history(&args.pipeline.paths).await?;
    let mut answer = Answer::default();
    if args.epochs {
        let Some(newest) = history.newest() else { return Ok(()) };
        let mut manifests = store.manifests(Epoch::FIRST..=newest.epoch);
        while let Some(manifest) = manifests.try_next().await? {
            answer.add_epoch(&manifest);
        }
    } else {
        answer.add_totals(&history);
    }
    let balanced = answer.verdicts().all(|verdict| verdict == BALANCED);
    answer.balanced = balanced;
    if args.pipeline.json { output::json(&answer) } else { answer.print() }
}

const BALANCED: &str = "balanced";

impl Answer {
    fn add_epoch(&mut self, manifest: &Manifest) {
        if manifest.kind != ManifestKind::Data {
            return;
        }
        let epoch = Some(manifest.epoch.0);
        for (name, ledger) in &manifest.sources {
            self.source(epoch, name, *ledger);
        }
        for (name, slice) in &manifest.slice.sources {
            if let SourceSlice::Kafka { ranges } = slice {
                self.offsets(epoch, name, ranges.clone());
            }
        }
        for (name, set) in &manifest.sets {
            self.set(epoch, name, set.ledger);
        }
    }

    fn add_totals(&mut self, history: &History) {
        for (name, ledger) in history.source_totals() {
            self.offsets(None, &name, history.offsets_read(&name));
            self.source(None, &name, ledger);
        }
        for (name, ledger) in history.set_totals() {
            self.set(None, &name, ledger);
        }
    }

    fn source(&mut self, epoch: Option<u64>, name: &str, ledger: SourceLedger) {
        let verdict = verdict(ledger.balance(name));
        self.sources.push(SourceLine { epoch, source: name.to_owned(), ledger, verdict });
    }

    fn offsets(&mut self, epoch: Option<u64>, name: &str, ranges: Vec<OffsetRange>) {
        let lines = ranges.into_iter().map(|range| OffsetLine { epoch, source: name.to_owned(), range });
        self.offsets.extend(lines);
    }

    fn set(&mut self, epoch: Option<u64>, name: &str, ledger: SetLedger) {
        let verdict = verdict(ledger.balance(name));
        self.sets.push(SetLine { epoch, set: name.to_owned(), ledger, verdict });
    }

    fn verdicts(&self) -> impl Iterator<Item = &str> {
        self.sources.iter().map(|line| line.verdict.as_str()).chain(self.sets.iter().map(|line| line.verdict.as_str()))
    }

    /// Sources over topics, and how far each partition was read.
    fn print_topics(&self) -> Result<()> {
        let header = [
            "#epoch",
            "source",
            "#offsets",
            "#gaps",
            "#lost",
            "#replayed",
            "#records",
            "#tombstones",
            "#decoded",
            "#undecodable",
            "#bad time",
            "#late",
            "#admitted",
            "verdict",
        ];
        let rows = self.sources.iter().filter(|line| line.ledger.offsets > 0).map(|line| {
            let ledger = &line.ledger;
            let counts = [
                ledger.offsets,
                ledger.gaps,
                ledger.lost,
                ledger.replayed,
                ledger.records,
                ledger.tombstones,
                ledger.decoded,
                ledger.undecodable,
                ledger.bad_event_time,
                ledger.late,
                ledger.admitted,
            ];
            let mut row = vec![epoch_text(line.epoch), line.source.clone()];
            row.extend(counts.map(count));
            row.push(line.verdict.clone());
            row
        });
        table(&header, rows.collect())?;
        let rows = self.offsets.iter().map(|line| {
            let range = &line.range;
            let mut row = vec![epoch_text(line.epoch), line.source.clone(), range.topic.clone()];
            row.extend([i64::from(range.partition), range.start, range.end].map(|number| number.to_string()));
            row
        });
        table(&["#epoch", "source", "topic", "#partition", "#from offset", "#to offset"], rows.collect())
    }

    fn print(&self) -> Result<()> {
        let epoch = epoch_text;
        let header = [
            "#epoch",
            "source",
            "#objects",
            "#replayed",
            "#records",
            "#decoded",
            "#undecodable",
            "#bad time",
            "#late",
            "#admitted",
            "verdict",
        ];
        let rows = self.sources.iter().filter(|line| line.ledger.offsets == 0).map(|line| {
            let ledger = &line.ledger;
            let counts = [
                ledger.objects,
                ledger.replayed,
                ledger.records,
                ledger.decoded,
                ledger.undecodable,
                ledger.bad_event_time,
                ledger.late,
                ledger.admitted,
            ];
            let mut row = vec![epoch(line.epoch), line.source.clone()];
            row.extend(counts.map(count));
            row.push(line.verdict.clone());
            row
        });
        table(&header, rows.collect())?;
        self.print_topics()?;
        let header = [
            "#epoch",
            "feature set",
            "#admitted",
            "#expanded",
            "#absorbed",
            "#left out",
            "#produced",
            "#dropped",
            "#quarantined",
            "#written",
            "verdict",
        ];
        let rows = self.sets.iter().map(|line| {
            let ledger = &line.ledger;
            let counts = [
                ledger.admitted,
                ledger.expanded,
                ledger.absorbed,
                ledger.dropped_by_query,
                ledger.produced,
                ledger.dropped,
                ledger.quarantined,
                ledger.written,
            ];
            let mut row = vec![epoch(line.epoch), line.set.clone()];
            row.extend(counts.map(count));
            row.push(line.verdict.clone());
            row
        });
        output::table(&header, rows.collect())?;
        output::line("")?;
        output::line(if self.balanced {
            "balanced: every record and every row is accounted for"
        } else {
            "NOT balanced"
        })
    }
}

fn epoch_text(epoch: Option<u64>) -> String {
    epoch.map_or_else(|| "all".to_owned(), count)
}

/// A table with a blank line behind it; nothing where it has no row.
fn table(header: &[&str], rows: Vec<Vec<String>>) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    output::table(header, rows)?;
    output::line("")
}

fn verdict(balance: Result<(), Imbalance>) -> String {
    balance.map_or_else(|imbalance| imbalance.to_string(), |()| BALANCED.to_owned())
}
