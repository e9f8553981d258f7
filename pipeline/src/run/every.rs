//! Snapshot sets that say `EMIT EVERY INTERVAL '…'`. A run for ever reads their sources as it does those of sets that
//! append, which is what moves the watermarks, and replaces the sets only once these have passed a multiple of the interval
//! since it was done last. Meanwhile those that are kept up to date from a state take in what was read now and
//! then, so that a replacement need not read it all again. A run that ends replaces them at its end, like any other snapshot set.

use std::collections::BTreeMap;

use bessemer_connectors::manifest_store::History;
use bessemer_schemas::Watermark;
use bessemer_transforms::PlannedSet;

/// Where the watermark of all that `set` reads is: that of the slowest source.
pub(super) fn watermark(set: &PlannedSet, watermarks: &BTreeMap<String, Watermark>) -> Option<i64> {
    set.sources.keys().map(|name| watermarks.get(name).and_then(|watermark| watermark.at)).min().flatten()
}

/// Whether a run for ever replaces `set` now, if something it reads has changed.
pub(super) fn is_due(set: &PlannedSet, history: &History) -> bool {
    let Some(every) = set.emit_every else { return true };
    let before = history.emitted_at().get(&set.name).copied();
    watermark(set, &history.watermarks()).is_some_and(|now| has_passed(every, before, now))
}

/// Whether `set`, though it is not due, takes in what was read since it last did: the first manifests that say what that
/// was are folded by now. Else it would read more and more of its sources again, and at last all of them.
pub(super) fn is_behind(set: &PlannedSet, history: &History) -> bool {
    let state = history.states().remove(&set.name).filter(|_| set.incremental().is_some());
    let first = history.recent().first().map(|manifest| manifest.epoch);
    state.zip(first).is_some_and(|(state, first)| state.through.next() < first)
}

/// Whether a multiple of `every` lies between `before` and `now`. The watermark never goes back, but that of other sources,
/// which the set has now, may be before.
fn has_passed(every: i64, before: Option<i64>, now: i64) -> bool {
    let number = |at: i64| at.checked_div_euclid(every);
    before.is_none_or(|before| number(before) != number(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_due_when_the_watermark_has_passed_a_multiple_of_its_interval() {
        for (before, now, expected) in [
            (None, -700, true),
            (Some(0), 0, false),
            (Some(0), 59, false),
            (Some(0), 60, true),
            (Some(59), 60, true),
            (Some(60), 119, false),
            (Some(61), 500, true),
            (Some(500), 61, true),
            // Before 1970, too.
            (Some(-61), -60, true),
            (Some(-60), -1, false),
            (Some(-1), 0, true),
            (Some(7), i64::MAX, true),
        ] {
            assert_eq!(has_passed(60, before, now), expected, "{before:?} to {now}");
        }
    }
}
