//! `explain`: how each feature set is computed.

use serde::Serialize;

use crate::cli::ExplainArgs;
use crate::error::Result;
use crate::load;
use crate::output;

#[derive(Debug, Serialize)]
struct Explained {
    name: String,
    kind: String,
    why: Vec<String>,
    /// Of a snapshot set, what it is computed from.
    upkeep: Option<String>,
    sources: Vec<String>,
    path: String,
    plan: String,
}

/// Shows the plan of each feature set as a tree.
pub(crate) async fn explain(args: &ExplainArgs) -> Result<()> {
    let loaded = load::load(load::parse(&args.pipeline.paths)?, None).await?;
    let names: Vec<_> = loaded.plan.sets.iter().map(|set| set.name.as_str()).collect();
    if let Some(name) = args.set.as_deref().filter(|name| !names.contains(name)) {
        return Err(load::unknown("feature set", name, &names));
    }
    let mut explained = Vec::new();
    for set in loaded.plan.sets.iter().filter(|set| args.set.as_ref().is_none_or(|name| *name == set.name)) {
        explained.push(Explained {
            name: set.name.clone(),
            kind: set.kind.to_string(),
            why: set.reasons.iter().map(|reason| reason.text.clone()).collect(),
            upkeep: set.upkeep_text(),
            sources: set.sources.keys().chain(set.tables.keys()).cloned().collect(),
            path: loaded.parsed.set(&set.name)?.location.as_text().to_owned(),
            plan: set.explain(),
        });
    }
    if args.pipeline.json {
        return output::json(&explained);
    }
    for (at, set) in explained.iter().enumerate() {
        if at > 0 {
            output::line("")?;
        }
        output::line(format!("{} ({}) -> {}", set.name, set.kind, set.path))?;
        for why in &set.why {
            output::line(format!("  {}: {why}", set.kind))?;
        }
        for text in set.plan.lines() {
            output::line(format!("  {text}"))?;
        }
    }
    Ok(())
}
