//! What `status` says of watermarks: where each is, and which partition holds it back.

use bessemer_connectors::manifest_store::History;
use bessemer_schemas::{PartitionWatermark, Watermark};
use serde::Serialize;

use crate::error::Result;
use crate::load::Parsed;
use crate::output::{self, instant};

/// The watermark of a source.
#[derive(Debug, Serialize)]
pub(super) struct WatermarkStatus {
    source: String,
    /// Nothing before every partition has had a row, and nothing once it is final.
    at: Option<String>,
    is_final: bool,
    /// The slowest partition that is not idle.
    held_by: Option<PartitionStatus>,
    idle: Vec<PartitionStatus>,
}

/// A partition of a topic.
#[derive(Debug, Serialize)]
struct PartitionStatus {
    topic: String,
    partition: i32,
    /// Nothing before its first row.
    at: Option<String>,
}

impl WatermarkStatus {
    /// Of the sources that have one, in the order written.
    pub(super) fn all(parsed: &Parsed, history: &History) -> Vec<Self> {
        let watermarks = history.watermarks();
        let sources = parsed.definition.sources.iter().map(|source| &source.name.value);
        sources.filter_map(|name| Some(Self::of(name, watermarks.get(name)?))).collect()
    }

    fn of(source: &str, watermark: &Watermark) -> Self {
        let is_final = watermark.is_final;
        Self {
            source: source.to_owned(),
            at: watermark.at.filter(|_| !is_final).map(instant),
            is_final,
            held_by: watermark.held_by().filter(|_| !is_final).map(PartitionStatus::of),
            idle: watermark.partitions.iter().filter(|known| known.is_idle).map(PartitionStatus::of).collect(),
        }
    }

    pub(super) fn print(&self) -> Result<()> {
        let at = match &self.at {
            _ if self.is_final => "closed by `run --final`",
            Some(at) => at,
            None => "not there yet",
        };
        let held = self.held_by.as_ref().map(|held| match &held.at {
            Some(at) => format!(", held back by {}, which is at {at}", held.name()),
            None => format!(", held back by {}, which has had no row yet", held.name()),
        });
        let idle: Vec<_> = self.idle.iter().map(PartitionStatus::name).collect();
        let idle = if idle.is_empty() { String::new() } else { format!("; idle: {}", idle.join(", ")) };
        output::line(format!("watermark of `{}`: {at}{}{idle}", self.source, held.unwrap_or_default()))
    }
}

impl PartitionStatus {
    fn of(known: &PartitionWatermark) -> Self {
        Self { topic: known.topic.clone(), partition: known.partition, at: known.at.map(instant) }
    }

    fn name(&self) -> String {
        format!("partition {} of `{}`", self.partition, self.topic)
    }
}
