//! How far a pipeline is behind: where the brokers' partitions end, whatever its epochs are doing, and though it is paused.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bessemer_connectors::kafka::KafkaSource;
use bessemer_connectors::manifest_store::ManifestStore;
use bessemer_connectors::{Source, SourceOptions};
use tracing::debug;

use crate::error::Result;
use crate::load::Parsed;
use crate::telemetry::Observer;

/// How often the brokers are asked: as often as anyone scrapes.
const PERIOD: Duration = Duration::from_secs(5);

/// Asks the brokers of every topic again and again, and tells the observer, if somebody may ask it.
pub(super) async fn follow(parsed: &Parsed, store: ManifestStore, observer: &Observer) -> Infallible {
    let mut clock = tokio::time::interval(PERIOD);
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut sources = None;
    loop {
        clock.tick().await;
        if !observer.is_asked() {
            continue;
        }
        if sources.is_none() {
            sources = known(open(parsed, &store, observer).await);
        }
        for source in sources.iter().flatten() {
            if let Some(ends) = known(source.ends().await.map_err(Into::into)) {
                observer.ended(source.name(), &ends);
            }
        }
    }
}

/// Clients of their own for the topics, so that nothing waits for an epoch; what was committed before is told.
async fn open(parsed: &Parsed, store: &ManifestStore, observer: &Observer) -> Result<Vec<Arc<KafkaSource>>> {
    let history = store.history().await?;
    let mut sources = Vec::new();
    for (definition, options) in parsed.definition.sources.iter().zip(&parsed.sources) {
        if !matches!(options, SourceOptions::Kafka(_)) {
            continue;
        }
        if let Source::Kafka(source) = Source::open(definition, options.clone(), Some(&parsed.settings.state)).await? {
            observer.committed_before(source.name(), &history.offsets_read(source.name()));
            sources.push(source);
        }
    }
    Ok(sources)
}

/// What there is; the next epoch has the same trouble, and says so: the lag stays as it was, with its time.
fn known<T>(asked: Result<T>) -> Option<T> {
    asked.inspect_err(|error| debug!(%error, "the lag is not known")).ok()
}
