//! `compact`: small files become fewer, on demand.

use crate::cli::CompactArgs;
use crate::command::run::cancel_on_interrupt;
use crate::error::Result;
use crate::load;
use crate::output::{self, count};
use crate::progress::Progress;
use crate::run;

/// Merges the small files of append sets.
pub(crate) async fn compact(args: &CompactArgs) -> Result<()> {
    let parsed = load::parse(std::slice::from_ref(&args.path))?;
    let progress = Progress::new(args.json);
    let cancel = cancel_on_interrupt(progress.clone());
    let compacted = Box::pin(run::compact(parsed, &args.sets, &progress, &cancel)).await;
    progress.finish();
    let compacted = compacted?;
    if args.json {
        return output::json(&compacted);
    }
    let size = |bytes| bessemer_schemas::ByteSize(bytes).to_string();
    let rows = compacted.iter().map(|set| {
        let (before, after) = (size(set.bytes_before), size(set.bytes_after));
        vec![set.name.clone(), count(set.files_before), count(set.files_after), before, after]
    });
    output::table(&["feature set", "#files before", "#files after", "#size before", "#size after"], rows.collect())
}
