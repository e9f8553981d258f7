//! `replay --verify`: is what is committed what its epochs make of their slices?

use bessemer_schemas::Epoch;

use crate::cli::VerifyArgs;
use crate::command::history;
use crate::command::run::cancel_on_interrupt;
use crate::error::{Error, Result};
use crate::output::{self, count, plural};
use crate::progress::Progress;
use crate::run::verify::{self, Verdict};

/// Runs epochs once more, and compares.
pub(crate) async fn replay(args: &VerifyArgs) -> Result<()> {
    let (parsed, store, history) = history(std::slice::from_ref(&args.path)).await?;
    let newest = history.newest().map_or(0, |newest| newest.epoch.0);
    let (first, last) = args.epochs.clone().unwrap_or(1..=newest).into_inner();
    if first > newest {
        let message = format!("there is no epoch {first}: the last one is {newest}");
        return Err(Error::Unknown { message });
    }
    let progress = Progress::new(args.json);
    let cancel = cancel_on_interrupt(progress.clone());
    let epochs = Epoch(first.max(1))..=Epoch(last.min(newest));
    let verified = Box::pin(verify::verify(parsed, &store, &history, epochs, &progress, &cancel)).await;
    progress.finish();
    let verified = verified?;
    if args.json {
        output::json(&verified)?;
    } else if verified.is_empty() {
        output::line("no epoch among these wrote a row")?;
    } else {
        let rows = verified.iter().map(|set| {
            let (verdict, what) = match &set.verdict {
                Verdict::Same => ("same", ""),
                Verdict::Differs { what } => ("differs", what.as_str()),
                Verdict::Skipped { what } => ("skipped", what.as_str()),
            };
            let (epoch, rows) = (count(set.epoch), count(set.rows));
            let compared = format!("{} of {}", set.files_compared, set.files);
            vec![epoch, set.set.clone(), rows, compared, verdict.to_owned(), what.to_owned()]
        });
        output::table(&["#epoch", "feature set", "#rows", "#files compared", "verdict", "because"], rows.collect())?;
    }
    match verified.iter().filter(|set| matches!(set.verdict, Verdict::Differs { .. })).count() as u64 {
        0 => Ok(()),
        differing => {
            let verb = if differing == 1 { "is" } else { "are" };
            let what = format!("{} of an epoch {verb}", plural(differing, "feature set"));
            Err(Error::Differs { what })
        }
    }
}
