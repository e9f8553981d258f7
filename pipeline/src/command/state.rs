//! `state`: what snapshot sets are kept up to date from, partial aggregates or the first row of each key, and what is kept
//! for rows that are not final yet.

use bessemer_schemas::SetState;
use serde::Serialize;

use crate::cli::{PipelineArgs, StateArgs};
use crate::command::history;
use crate::command::run::cancel_on_interrupt;
use crate::error::Result;
use crate::output::{self, count};
use crate::progress::Progress;
use crate::run::restore;

/// What both tell of a state.
#[derive(Debug, Serialize)]
struct Kept {
    set: String,
    /// Groups, keys, or rows that others may depend on.
    rows: u64,
    files: u64,
    bytes: u64,
    /// The epoch that computed it over everything.
    since: u64,
    /// The last epoch whose rows are in it.
    through: u64,
}

impl Kept {
    fn of(set: String, state: &SetState) -> Self {
        Self {
            set,
            rows: state.rows(),
            files: state.files.added.len() as u64,
            bytes: state.files.added.iter().map(|file| file.bytes).sum(),
            since: state.since.0,
            through: state.through.0,
        }
    }
}

#[derive(Debug, Serialize)]
struct State {
    #[serde(flatten)]
    kept: Kept,
    fingerprint: String,
    /// Of a set that emits rows once they are final: how many segments its state is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    segments: Option<usize>,
}

#[derive(Debug, Serialize)]
struct Rebuilt {
    #[serde(flatten)]
    kept: Kept,
    because: &'static str,
}

/// Lists the states of a pipeline, or makes those anew that are lost.
pub(crate) async fn state(args: &StateArgs) -> Result<()> {
    if args.rebuild { rebuild(&args.pipeline).await } else { list(&args.pipeline).await }
}

async fn list(args: &PipelineArgs) -> Result<()> {
    let (parsed, _, history) = history(&args.paths).await?;
    let states = history.states().into_iter().map(|(set, state)| State {
        kept: Kept::of(set, &state),
        segments: (state.closed.is_some() || !state.segments.is_empty()).then_some(state.segments.len()),
        fingerprint: state.fingerprint.0,
    });
    let states: Vec<_> = states.collect();
    if args.json {
        return output::json(&states);
    }
    if states.is_empty() {
        return output::line(format!("{}: no feature set keeps anything from one epoch to the next", parsed.name()));
    }
    let rows = states.iter().map(|state| {
        let short: String = state.fingerprint.chars().take(12).collect();
        let Kept { set, rows, files, bytes, since, through } = &state.kept;
        vec![set.clone(), count(*rows), count(*files), count(*bytes), since.to_string(), through.to_string(), short]
    });
    let header = ["feature set", "#rows", "#files", "#bytes", "#since epoch", "#through epoch", "fingerprint"];
    output::table(&header, rows.collect())
}

async fn rebuild(args: &PipelineArgs) -> Result<()> {
    let (parsed, _, _) = history(&args.paths).await?;
    let name = parsed.name().to_owned();
    let progress = Progress::new(args.json);
    let cancel = cancel_on_interrupt(progress.clone());
    let rebuilt = Box::pin(restore::rebuild(parsed, &progress, &cancel)).await;
    progress.finish();
    let rebuilt = rebuilt?.into_iter();
    let rebuilt = rebuilt.map(|made| Rebuilt { kept: Kept::of(made.set, &made.state), because: made.because });
    let rebuilt: Vec<_> = rebuilt.collect();
    if args.json {
        return output::json(&rebuilt);
    }
    if rebuilt.is_empty() {
        return output::line(format!("{name}: nothing is lost that rows to come depend on; nothing was made anew"));
    }
    let rows = rebuilt.iter().map(|Rebuilt { kept: Kept { set, rows, files, bytes, since, through }, because }| {
        let epochs = format!("{since} to {through}");
        vec![set.clone(), count(*rows), count(*files), count(*bytes), epochs, (*because).to_owned()]
    });
    output::table(&["feature set", "#rows", "#files", "#bytes", "#of epochs", "because"], rows.collect())
}
