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

/// A consumer, and its lanes; `None` where one is being read.
struct Kept {
    consumer: Arc<Consumer>,
    lanes: BTreeMap<Place, Option<Lane>>,
}

impl Kept {
    /// Whether it can read on at `start`, or has never read the place.
    fn fits(&self, (place, start): &(Place, i64)) -> bool {
        self.lanes.get(place).is_none_or(|lane| lane.as_ref().is_some_and(|lane| lane.next == *start))
    }

    /// Whether it is elsewhere in the place: whoever read it did not commit.
    fn strayed(&self, (place, start): &(Place, i64)) -> bool {
        self.lanes.get(place).is_some_and(|lane| lane.as_ref().is_some_and(|lane| lane.next != *start))
    }
}

/// The consumers of a source. Two scans of one epoch that read the same offsets have one each.
#[derive(Default)]
pub(super) struct Consumers(Mutex<Vec<Kept>>);

impl Consumers {
    /// Takes lanes that begin where the ranges do, of a consumer that is there or of one that is made for all of
    /// `partitions` partitions. What was read before is read by a consumer of its own, which does not stay.
    ///
    /// `begun` is the offset at which the first range goes on, if that was begun.
    pub(super) fn take(
        &self,
        options: &KafkaSourceOptions,
        ranges: &[ScanOffsets],
        first: usize,
        begun: Option<i64>,
        partitions: usize,
    ) -> Result<Taken> {
        let mut starts: Vec<(usize, (Place, i64))> = Vec::new();
        for (at, offsets) in ranges.iter().enumerate() {
            let range = &offsets.range;
            if at.checked_sub(1).is_some_and(|before| follows(&ranges[before].range, range)) {
                continue;
            }
            let start = begun.filter(|_| at == 0).unwrap_or(range.start);
            starts.push((first + at, ((range.topic.clone(), range.partition), start)));
        }
        let mut places: Vec<_> = starts.iter().map(|(_, (place, _))| place).collect();
        places.sort_unstable();
        let is_new = begun.is_none() && ranges.iter().all(|offsets| offsets.is_new);
        if !is_new || places.windows(2).any(|pair| pair[0] == pair[1]) {
            let consumer = consumer(options, starts.len())?;
            let lanes = lanes(options, &consumer, starts)?;
            return Ok(Taken { consumer, lanes });
        }

        let mut kept = self.lock();
        kept.retain(|kept| !starts.iter().any(|(_, start)| kept.strayed(start)));
        let kept = match kept.iter_mut().position(|kept| starts.iter().all(|(_, start)| kept.fits(start))) {
            Some(at) => &mut kept[at],
            None => {
                let consumer = consumer(options, partitions)?;
                kept.push_mut(Kept { consumer, lanes: BTreeMap::new() })
            }
        };
        let (known, new): (Vec<_>, Vec<_>) =
            starts.into_iter().partition(|(_, (place, _))| kept.lanes.contains_key(place));
        let mut taken = BTreeMap::new();
        for (at, (place, _)) in known {
            taken.extend(kept.lanes.insert(place, None).flatten().map(|lane| (at, lane)));
        }
        kept.lanes.extend(new.iter().map(|(_, (place, _))| (place.clone(), None)));
        taken.append(&mut lanes(options, &kept.consumer, new)?);
        Ok(Taken { consumer: Arc::clone(&kept.consumer), lanes: taken })
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
        self.lock().retain(|kept| !Arc::ptr_eq(&kept.consumer, consumer));
    }

    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether `range` begins where `before` ends, in the same partition: one lane then serves both.
fn follows(before: &OffsetRange, range: &OffsetRange) -> bool {
    before.topic == range.topic && before.partition == range.partition && before.end == range.start
}

/// Lets `consumer` read more places.
fn lanes(
    options: &KafkaSourceOptions,
    consumer: &Arc<Consumer>,
    starts: Vec<(usize, (Place, i64))>,
) -> Result<BTreeMap<usize, Lane>> {
    let failed = |action: &str, error| failed(options, action, Some(consumer.context()), &error);
    let mut list = TopicPartitionList::with_capacity(starts.len());
    let mut lanes = BTreeMap::new();
    for (at, ((topic, partition), start)) in starts {
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
