//! A set's plan as a person reads it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use datafusion::logical_expr::LogicalPlan;

use crate::{Error, Plan, PlannedSet, Result, Upkeep};

impl Plan {
    /// The plan of the feature set `name` as a tree: its kind and why, what it reads, how it is sorted, its operators.
    pub fn explain(&self, name: &str) -> Result<String> {
        let set = self.set(name).ok_or_else(|| Error::UnknownName {
            name: name.to_owned(),
            hint: bessemer_schemas::nearest(name, self.sets.iter().map(|set| set.name.as_str())).map(str::to_owned),
        })?;
        Ok(set.explain())
    }
}

impl PlannedSet {
    /// What it is computed from, where that is more than what is new.
    pub fn upkeep_text(&self) -> Option<String> {
        match &self.upkeep {
            Upkeep::Slice => None,
            Upkeep::Emitting(_) => {
                Some("each row appears once, when the watermark has passed what it depends on".to_owned())
            }
            Upkeep::Incremental(incremental) => Some(format!("kept up to date from {}", incremental.keeps())),
            Upkeep::Everything { reason } => Some(format!("computed over everything: {reason}")),
        }
    }

    /// See [`Plan::explain`].
    pub fn explain(&self) -> String {
        let mut lines = vec![format!("feature set {} ({})", self.name, self.kind.as_str())];
        lines.extend(self.reasons.iter().map(|reason| format!("  snapshot because of {}", reason.text)));
        lines.extend(self.upkeep_text().map(|text| format!("  {text}")));
        lines.extend(self.emit_every.map(|every| {
            let every = Duration::from_micros(every.unsigned_abs());
            format!("  replaced by a daemon each time that {every:?} of event time have passed")
        }));
        lines.extend(scans("sources", &self.sources));
        lines.extend(scans("tables", &self.tables));
        if self.is_sorted() {
            lines.push(format!("  sorted by {}", self.order.join(", ")));
        }
        let mut text = lines.join("\n");
        text.push('\n');
        tree(&self.optimized, "  ", &mut text);
        text
    }
}

fn scans(what: &str, names: &BTreeMap<String, usize>) -> Option<String> {
    let names: Vec<_> = names
        .iter()
        .map(|(name, times)| if *times > 1 { format!("{name} ({times} scans)") } else { name.clone() })
        .collect();
    (!names.is_empty()).then(|| format!("  {what} {}", names.join(", ")))
}

fn tree(plan: &LogicalPlan, indent: &str, text: &mut String) {
    // Writing to a string cannot fail.
    let _written = writeln!(text, "{indent}└─ {}", plan.display());
    let deeper = format!("{indent}   ");
    plan.inputs().into_iter().for_each(|input| tree(input, &deeper, text));
}
