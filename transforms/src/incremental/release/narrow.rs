//! Rows of those keys only that have rows which become final: what an epoch emits costs what its keys hold, not all that
//! is kept.

use std::sync::Arc;

use datafusion::error::Result;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::streaming::PartitionStream;

use super::Released;
use super::kept::Kept;
use super::keys::keys;
use crate::given;
use crate::incremental::emits::{Between, Range};
use crate::incremental::resident::{Lookup, SegmentRows};

/// So many times as many rows are kept as become final where it is worth to look up what is needed.
const NARROW: i128 = 8;

/// By what rows of the `inputs` of `above` are found; nothing where rows of any keys may meet.
pub(super) fn lookups(above: &LogicalPlan, inputs: &[Kept]) -> Option<Vec<Lookup>> {
    let keys = keys(above, inputs.len())?;
    let places = inputs.iter().zip(&keys).map(|(input, keys)| {
        let places = keys.iter().map(|key| input.state.index_of(&given::name(*key)).ok());
        places.collect::<Option<Vec<_>>>()
    });
    let mut places = places.collect::<Option<Vec<_>>>()?;
    // Equal values have equal hashes where they are of one type, but for zeros of either sign.
    let type_of = |input: usize, at: usize| inputs.get(input).map(|input| input.state.field(at).data_type());
    let count = places.first()?.len();
    let is_hashed = |key: &usize| {
        let types = places.iter().enumerate().map(|(input, places)| type_of(input, *places.get(*key)?));
        let types: Vec<_> = types.collect();
        types.windows(2).all(|pair| pair[0] == pair[1])
            && types.first().copied().flatten().is_some_and(|of| !of.is_floating())
    };
    let hashed: Vec<_> = (0..count).filter(is_hashed).collect();
    for places in &mut places {
        *places = hashed.iter().filter_map(|key| places.get(*key).copied()).collect();
    }
    let lookups = inputs.iter().zip(places).map(|(input, keys)| Lookup { time: input.time, keys });
    (!hashed.is_empty()).then(|| lookups.collect())
}

impl Kept {
    /// The times of its rows, in ticks, without one of which no row of the set has a time from `from` on to before `to`,
    /// in nanoseconds; nothing where its rows make none be there.
    fn own(&self, from: i128, to: i128) -> Option<Range> {
        let (back, ahead) = self.need.own?;
        let ticks = |nanos: i128| i64::try_from(nanos).unwrap_or(if nanos < 0 { i64::MIN } else { i64::MAX });
        Some((ticks((from - back).div_euclid(self.tick())), ticks(-(-(to + ahead)).div_euclid(self.tick()))))
    }
}

impl Released {
    /// Whether few rows of `segments` make rows be there that are `between`, if their times are spread evenly.
    pub(super) fn has_small_part(&self, segments: &[(usize, Range, u64)], between: Between) -> bool {
        let (Some(from), Some(to)) = (between.from, between.to) else { return false };
        let (mut own, mut all) = (0_i128, 0_i128);
        for (input, (oldest, newest), rows) in segments {
            let rows = i128::from(*rows);
            all += rows;
            let range = self.inputs.get(*input).and_then(|input| input.own(self.nanos(from), self.nanos(to)));
            if let Some((from, to)) = range {
                let common = i128::from(to.min(newest.saturating_add(1))) - i128::from(from.max(*oldest));
                own += rows * common.max(0) / (i128::from(*newest) - i128::from(*oldest) + 1);
            }
        }
        own.saturating_mul(NARROW) <= all
    }

    /// What is read of `segments` for rows that are `between`: of those in memory the rows of their keys, of others all.
    pub(super) fn narrowed(
        &self,
        segments: &[Vec<SegmentRows>],
        between: Between,
    ) -> Result<Vec<Vec<Arc<dyn PartitionStream>>>> {
        let hashes = self.hashes(segments, between)?;
        let read = |segment: &SegmentRows| {
            Ok(match (segment, &hashes) {
                (SegmentRows::Resident(rows), Some(hashes)) => Arc::new(rows.with_keys(hashes)?),
                _ => segment.all(),
            })
        };
        segments.iter().map(|segments| segments.iter().map(read).collect()).collect()
    }

    /// The hashes of the keys of rows that are `between`; nothing where these are not known, or may be any.
    fn hashes(&self, segments: &[Vec<SegmentRows>], between: Between) -> Result<Option<Vec<u64>>> {
        let (Some(from), Some(to), Some(lookups)) = (between.from, between.to, &self.lookups) else { return Ok(None) };
        let mut hashes = Vec::new();
        for ((input, lookup), segments) in self.inputs.iter().zip(lookups).zip(segments) {
            let Some(range) = input.own(self.nanos(from), self.nanos(to)) else { continue };
            for segment in segments {
                let SegmentRows::Resident(rows) = segment else { return Ok(None) };
                rows.add_keys(lookup, range, &mut hashes)?;
            }
        }
        hashes.sort_unstable();
        hashes.dedup();
        Ok(Some(hashes))
    }
}
