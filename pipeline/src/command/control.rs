//! `pause`, `resume` and `drain`: a request that lies beside the manifests, where the daemon finds it, now or when it is
//! started.

use bessemer_connectors::manifest_store::ManifestStore;
use bessemer_schemas::{Control, FORMAT_VERSION, Wish};
use serde::Serialize;

use crate::cli::PipelineArgs;
use crate::error::Result;
use crate::host::{Host, Machine};
use crate::load;
use crate::output;

#[derive(Debug, Serialize)]
struct Answer<'a> {
    pipeline: &'a str,
    control: Option<Control>,
}

/// Asks the daemon for something; `None` takes back what was asked before.
pub(crate) async fn ask(args: &PipelineArgs, wish: Option<Wish>) -> Result<()> {
    let parsed = load::parse(&args.paths)?;
    let store = ManifestStore::new(parsed.settings.state.clone(), parsed.name());
    let before = store.control().await;
    // Asked again, it is the same request; one that cannot be read is replaced.
    let control = match (wish, before) {
        (Some(wish), Ok(Some(before))) if before.wish == wish && wish == Wish::Pause => Some(before),
        (Some(wish), _) => Some(Control { format_version: FORMAT_VERSION, wish, since: Machine.now_micros() }),
        (None, _) => None,
    };
    store.set_control(control.as_ref()).await?;
    let pipeline = parsed.name();
    if args.json {
        return output::json(&Answer { pipeline, control });
    }
    output::line(match wish {
        None => format!("{pipeline}: the daemon goes on with it"),
        Some(Wish::Drain) => {
            format!("{pipeline}: the daemon commits what is there now, then pauses; `bessemer status` says when it has")
        }
        Some(_) => format!("{pipeline}: the daemon begins no epoch until `bessemer resume`"),
    })
}
