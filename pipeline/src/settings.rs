//! Engine options: `SET key = value`, and the options of `CREATE PIPELINE`.

use std::path::Path;
use std::time::Duration;

use bessemer_connectors::{Location, StoreOptions};
use bessemer_schemas::{Definition, Diagnostic, SliceLimits};
use bessemer_transforms::ProcessMemory;

use crate::schedule::Schedule;

/// How this pipeline is run.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Partitions of the plans; `None`: as in the last manifest, or as many as there are cores in the first run.
    pub(crate) partitions: Option<u32>,
    /// Memory for the operators of a plan, in bytes. Default 2 GiB: a laptop has it, and operators spill beyond.
    pub(crate) memory_bytes: u64,
    /// What all pipelines of a daemon share; `None` outside of one.
    pub(crate) process_memory: Option<ProcessMemory>,
    /// Bounds of a slice.
    pub(crate) limits: SliceLimits,
    /// How often the daemon looks for what is new and commits it; `None`: as fast as is cheap.
    pub(crate) epoch_age: Option<Duration>,
    /// When the daemon runs it; `None`: it follows its sources for ever.
    pub(crate) schedule: Option<Schedule>,
    /// Where manifests and quarantine live.
    pub(crate) state: Location,
}

impl Settings {
    /// Takes the settings out of the definition; `base` is the folder of its first file.
    pub(crate) fn parse(definition: &mut Definition, base: &Path) -> (Option<Self>, Vec<Diagnostic>) {
        let mut map = std::mem::take(&mut definition.settings);
        let defaults = SliceLimits::default();
        let partitions = map.take_u64("partitions", 1).and_then(|number| u32::try_from(number).ok());
        let memory_bytes = map.take_bytes("memory_bytes").map_or(2 << 30, |size| size.0);
        let limits = SliceLimits {
            bytes: map.take_bytes("epoch_bytes").map_or(defaults.bytes, |size| size.0),
            rows: map.take_u64("epoch_rows", 1).unwrap_or(defaults.rows),
            files: map.take_u64("epoch_files", 1).unwrap_or(defaults.files),
        };
        let epoch_age = map.take_duration("epoch_age_max");
        let mut diagnostics = map.finish("`SET`");

        let mut map = std::mem::take(&mut definition.pipeline.options);
        // For people and catalogues; nothing in the engine depends on them.
        let _described = (map.take_text("owner"), map.take_text("description"));
        let span =
            map.entries().iter().find(|entry| entry.key == "state").map_or(map.owner_span(), |entry| entry.value_span);
        let text = map.take_text("state").unwrap_or_else(|| format!(".bessemer/{}", definition.pipeline.name.value));
        let schedule = Schedule::take(&mut map);
        let store = StoreOptions::take(&mut map);
        diagnostics.extend(map.finish("a pipeline"));
        match Location::parse(&text, base, &store) {
            Ok(state) => {
                let process_memory = None;
                (
                    Some(Self { partitions, memory_bytes, process_memory, limits, epoch_age, schedule, state }),
                    diagnostics,
                )
            }
            Err(error) => {
                diagnostics.push(
                    Diagnostic::error(error.to_string(), span)
                        .with_help("write a folder or a URL such as `'s3://bucket/state'`"),
                );
                (None, diagnostics)
            }
        }
    }
}
