//! How far a pipeline is behind: where the brokers' partitions end, whatever its epochs are doing, and though it is paused.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bessemer_connectors::kafka::KafkaSource;
use bessemer_connectors::manifest_store::ManifestStore;
use bessemer_connectors::{Source, SourceOptions};
use bessemer_schemas::Epoch;
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
    let mut told = None;
    loop {
        clock.tick().await;
        if !observer.is_asked() {
            continue;
        }
        if sources.is_none() {
            sources = known(open(parsed).await);
        }
        // First what is committed: then what comes in between counts, and is not counted twice.
        if observer.is_at_rest()
            && let Some(sources) = &sources
            && let Some(newest) = known(tell_committed(&store, told, sources, observer).await)
        {
            told = newest;
        }
        for source in sources.iter().flatten() {
            if let Some(ends) = known(source.ends().await.map_err(Into::into)) {
                observer.ended(source.name(), &ends);
            }
        }
    }
}

/// Tells what was committed since the epoch that was `told`, by a run that is not the daemon's. The epoch that is told now.
async fn tell_committed(
    store: &ManifestStore,
    told: Option<Epoch>,
    sources: &[Arc<KafkaSource>],
    observer: &Observer,
) -> Result<Option<Epoch>> {
    // Two or three requests where nothing was committed, which is nearly always.
    let newest = store.newest().await?.map(|manifest| manifest.epoch);
    if newest != told {
        observer.committed_so_far(sources.iter().map(|source| source.name()), &store.history().await?);
    }
    Ok(newest)
}

/// Clients of their own for the topics, so that nothing waits for an epoch.
async fn open(parsed: &Parsed) -> Result<Vec<Arc<KafkaSource>>> {
    let mut sources = Vec::new();
    for (definition, options) in parsed.definition.sources.iter().zip(&parsed.sources) {
        if !matches!(options, SourceOptions::Kafka(_)) {
            continue;
        }
        if let Source::Kafka(source) = Source::open(definition, options.clone(), Some(&parsed.settings.state)).await? {
            sources.push(source);
        }
    }
    Ok(sources)
}

/// What there is; the next epoch has the same trouble, and says so: the lag stays as it was, with its time.
fn known<T>(asked: Result<T>) -> Option<T> {
    asked.inspect_err(|error| debug!(%error, "the lag is not known")).ok()
}
