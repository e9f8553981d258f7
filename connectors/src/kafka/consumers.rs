//! The consumers of a source that stay from one epoch to the next: what they fetched ahead is there when it is wanted.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bessemer_schemas::OffsetRange;
use rdkafka::consumer::Consumer as _;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::client::{Consumer, consumer, failed};
use super::options::KafkaSourceOptions;
use super::queue::RecordQueue;
use crate::scan::ScanOffsets;
use crate::{Error, Result};

/// A partition as one consumer reads it.
pub(super) struct Lane {
    /// What was fetched and is not taken yet.
    pub(super) queue: RecordQueue,
    /// The offset from which on it is not taken yet.
    pub(super) next: i64,
    /// All records before this offset came, as a broker said.
    pub(super) end: i64,
}

/// Topic and partition.
type Place = (String, i32);

/// The lanes of some ranges, taken from a consumer.
pub(super) struct Taken {
    pub(super) consumer: Arc<Consumer>,
    /// By the first of the ranges that follow one another in a partition of a topic.
    pub(super) lanes: BTreeMap<usize, Lane>,
}

impl Lane {
    /// Whether it is in `range`, of which something is left.
    pub(super) fn is_in(&self, range: &OffsetRange) -> bool {
        (range.start..range.end).contains(&self.next)
    }
}

/// A run of ranges that follow one another in a partition of a topic.
struct Run {
    /// The first of the ranges.
    at: usize,
    place: Place,
    start: i64,
    end: i64,
}

impl Run {
    /// Whether `range`, of `place`, follows the last of its ranges.
    fn leads_to(&self, place: &Place, range: &OffsetRange) -> bool {
        self.place == *place && self.end == range.start
    }
}

/// A consumer, and its lanes; `None` where one is being read.
struct Kept {
    consumer: Arc<Consumer>,
    /// How many partitions share what it may keep ahead.
    partitions: usize,
    lanes: BTreeMap<Place, Option<Lane>>,
}

impl Kept {
    /// The lanes of `runs`, those that are new taken up.
    fn take(&mut self, options: &KafkaSourceOptions, runs: Vec<Run>) -> Result<Taken> {
        let (known, new): (Vec<_>, Vec<_>) = runs.into_iter().partition(|run| self.lanes.contains_key(&run.place));
        let places: Vec<_> = new.iter().map(|run| run.place.clone()).collect();
        let mut taken = lanes(options, &self.consumer, new)?;
        self.lanes.extend(places.into_iter().map(|place| (place, None)));
        for run in known {
            taken.extend(self.lanes.insert(run.place, None).flatten().map(|lane| (run.at, lane)));
        }
        Ok(Taken { consumer: Arc::clone(&self.consumer), lanes: taken })
    }

    /// Whether it can read on at the start of `run`, or has never read the place.
    fn fits(&self, run: &Run) -> bool {
        self.lanes.get(&run.place).is_none_or(|lane| lane.as_ref().is_some_and(|lane| lane.next == run.start))
    }

    /// Whether it is elsewhere in the place: whoever read it did not commit. One that is at the end has just read the run
    /// for another set of the epoch.
    fn strayed(&self, run: &Run) -> bool {
        let lane = self.lanes.get(&run.place).and_then(Option::as_ref);
        lane.is_some_and(|lane| lane.next != run.start && lane.next != run.end)
    }
}

/// The consumers of a source. Two sets that read the same offsets have one each.
#[derive(Default)]
pub(super) struct Consumers(Mutex<Vec<Kept>>);

impl Consumers {
    /// Takes lanes that begin where the ranges do, of a consumer that is there or of one that is made for all of
    /// `partitions` partitions. What was read before is read by a consumer of its own, which does not stay.
    ///
    /// The ranges are numbered from `first` on; `begun` are the offsets at which those go on that were begun.
    pub(super) fn take(
        &self,
        options: &KafkaSourceOptions,
        ranges: &[ScanOffsets],
        first: usize,
        begun: &BTreeMap<usize, i64>,
        partitions: usize,
    ) -> Result<Taken> {
        let mut runs: Vec<Run> = Vec::new();
        for (at, ScanOffsets { range, .. }) in (first..).zip(ranges) {
            let start = begun.get(&at).copied();
            if start == Some(range.end) {
                continue;
            }
            let place = (range.topic.clone(), range.partition);
            match runs.last_mut() {
                Some(run) if start.is_none_or(|start| start == range.start) && run.leads_to(&place, range) => {
                    run.end = range.end;
                }
                _ => runs.push(Run { at, place, start: start.unwrap_or(range.start), end: range.end }),
            }
        }
        let mut places: Vec<_> = runs.iter().map(|run| &run.place).collect();
        places.sort_unstable();
        let is_new = begun.is_empty() && ranges.iter().all(|offsets| offsets.is_new);
        if !is_new || places.windows(2).any(|pair| pair[0] == pair[1]) {
            let consumer = consumer(options, runs.len())?;
            let lanes = lanes(options, &consumer, runs)?;
            return Ok(Taken { consumer, lanes });
        }

        let mut kept = self.lock();
        // One that was made for fewer partitions would keep too much ahead. To end a client takes time: not in the lock.
        let is_over = |kept: &Kept| kept.partitions < partitions || runs.iter().any(|run| kept.strayed(run));
        let (over, mut staying): (Vec<_>, Vec<_>) = std::mem::take(&mut *kept).into_iter().partition(is_over);
        let at = match staying.iter().position(|kept| runs.iter().all(|run| kept.fits(run))) {
            Some(at) => at,
            None => {
                staying.push(Kept { consumer: consumer(options, partitions)?, partitions, lanes: BTreeMap::new() });
                staying.len() - 1
            }
        };
        let taken = staying[at].take(options, runs);
        if taken.is_err() {
            staying.remove(at);
        }
        *kept = staying;
        drop(kept);
        drop(over);
        taken
    }

    /// Gives lanes back, each where it was read to.
    pub(super) fn give_back(&self, taken: Taken, ranges: &[ScanOffsets]) {
        let mut kept = self.lock();
        let Some(kept) = kept.iter_mut().find(|kept| Arc::ptr_eq(&kept.consumer, &taken.consumer)) else { return };
        for (at, lane) in taken.lanes {
            let range = &ranges[at].range;
            kept.lanes.insert((range.topic.clone(), range.partition), Some(lane));
        }
    }

    /// Drops a consumer that was not read to the end of its ranges.
    pub(super) fn discard(&self, consumer: &Arc<Consumer>) {
        let mut kept = self.lock();
        let (gone, staying): (Vec<_>, Vec<_>) =
            std::mem::take(&mut *kept).into_iter().partition(|kept| Arc::ptr_eq(&kept.consumer, consumer));
        *kept = staying;
        drop(kept);
        drop(gone);
    }

    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets `consumer` read more places.
fn lanes(options: &KafkaSourceOptions, consumer: &Arc<Consumer>, runs: Vec<Run>) -> Result<BTreeMap<usize, Lane>> {
    let failed = |action: &str, error| failed(options, action, Some(consumer.context()), &error);
    let mut list = TopicPartitionList::with_capacity(runs.len());
    let mut lanes = BTreeMap::new();
    for Run { at, place: (topic, partition), start, .. } in runs {
        list.add_partition_offset(&topic, partition, Offset::Offset(start))
            .map_err(|error| failed("name a partition", error))?;
        let no_queue = || Error::Internal { message: "the client makes no queue for a partition".to_owned() };
        let queue = RecordQueue::split(consumer, &topic, partition).ok_or_else(no_queue)?;
        lanes.insert(at, Lane { queue, next: start, end: 0 });
    }
    if !lanes.is_empty() {
        consumer.incremental_assign(&list).map_err(|error| failed("take up partitions", error))?;
    }
    Ok(lanes)
}
