//! What is new: partitions and their ends, cut into slices.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bessemer_schemas::{OffsetRange, SliceLimits};
use rdkafka::consumer::Consumer as _;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::metadata::MetadataTopic;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList, TopicPartitionListElem};

use super::client::{Consumer, blocking, failed, patience, patiently};
use super::options::{KafkaSourceOptions, OnDataLoss, Startup, Topics};
use super::source::KafkaSource;
use super::topic_id::topic_ids;
use crate::{Error, Result};

/// Offsets of a slice, where nothing else bounds it: some seconds of work, so that a crash repeats little.
const SLICE_OFFSETS: u64 = 2_000_000;

/// What to do where records are gone that nobody has read.
pub(super) const GO_ON: &str = "say `on_data_loss = 'record'` to count lost records and go on, or start a new pipeline";
/// What to do where a topic is no longer the one that was read.
const START_ANEW: &str = "start a new pipeline";

/// A partition as its leader describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Described {
    pub(super) topic: String,
    pub(super) partition: i32,
    /// The oldest offset that is left.
    pub(super) low: i64,
    /// The offset after the last one that may be read.
    pub(super) end: i64,
    /// The topic's id, where the brokers know ids.
    pub(super) topic_id: Option<String>,
}

/// Where a partition ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionEnd {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset after the last one that may be read.
    pub end: i64,
}

/// What is there beyond what was read, as the brokers said when they were asked: one arrival.
#[derive(Debug)]
pub struct Backlog {
    /// Of every partition, with or without something new.
    found: Vec<OffsetRange>,
    left: VecDeque<OffsetRange>,
}

impl Backlog {
    /// What was `found` of each partition, from where it was read to its end, beyond what was `read`.
    pub fn new(found: Vec<OffsetRange>, read: &[OffsetRange]) -> Self {
        let is_known = |range: &OffsetRange| {
            read.iter().any(|read| (&read.topic, read.partition) == (&range.topic, range.partition))
        };
        let left = found.iter().filter(|range| !range.is_empty() || !is_known(range)).cloned().collect();
        Self { found, left }
    }

    /// The next slice: as much of every partition as of the others, so that none runs ahead. Partitions that were just
    /// found are in it even if they are empty. Empty when nothing is left.
    pub fn next_slice(&mut self, limits: &mut SliceLimits) -> Vec<OffsetRange> {
        self.next_slice_without(limits, |_| false)
    }

    /// The same without those partitions that `wait`, of which there must be others. Nobody gets more of the slice for that:
    /// it would be as far ahead by the next one.
    pub fn next_slice_without(
        &mut self,
        limits: &mut SliceLimits,
        waits: impl Fn(&OffsetRange) -> bool,
    ) -> Vec<OffsetRange> {
        let mut budget = limits.rows.min(SLICE_OFFSETS);
        if budget == 0 {
            return Vec::new();
        }
        let mut taken: BTreeMap<usize, OffsetRange> = BTreeMap::new();
        let mut sharing = self.left.len() as u64;
        // The shortest first: what they leave of their share is for the others.
        let mut order: Vec<usize> =
            self.left.iter().enumerate().filter(|(_, range)| !waits(range)).map(|(at, _)| at).collect();
        order.sort_by_key(|at| self.left[*at].offsets());
        for at in order {
            let range = &mut self.left[at];
            let share =
                range.offsets().min((budget / sharing.max(1)).max(1)).min(budget.max(u64::from(range.is_empty())));
            sharing -= 1;
            let end =
                range.start.saturating_add(i64::try_from(share).unwrap_or(i64::MAX)).min(range.end.max(range.start));
            if share == 0 && !range.is_empty() {
                continue;
            }
            taken.insert(at, OffsetRange { end, ..range.clone() });
            range.start = end;
            budget -= share.min(budget);
        }
        // Those that were just found are taken with the first slice, also where they are empty.
        self.left.retain(|range| !range.is_empty());
        limits.rows = limits.rows.saturating_sub(taken.values().map(OffsetRange::offsets).sum());
        taken.into_values().collect()
    }

    /// All that is left, at once.
    pub fn rest(&mut self) -> Vec<OffsetRange> {
        std::mem::take(&mut self.left).into()
    }

    /// What of every partition was not read when the brokers were asked; an empty range where that is nothing.
    pub fn found(&self) -> &[OffsetRange] {
        &self.found
    }

    /// What is left of each partition that has anything left.
    pub fn left(&self) -> impl Iterator<Item = &OffsetRange> {
        self.left.iter()
    }

    /// Offsets that are left.
    pub fn offsets(&self) -> u64 {
        self.left.iter().map(OffsetRange::offsets).sum()
    }
}

impl KafkaSource {
    /// Asks the brokers for what is there beyond `read`: the offsets that were read so far.
    pub async fn backlog(self: &Arc<Self>, read: Vec<OffsetRange>) -> Result<Backlog> {
        let this = Arc::clone(self);
        blocking(move || this.asking(|consumer| this.ask(consumer, &read))).await
    }

    /// Asks the brokers where every partition ends, with one question to each of them.
    pub async fn ends(self: &Arc<Self>) -> Result<Vec<PartitionEnd>> {
        let this = Arc::clone(self);
        blocking(move || this.asking(|consumer| ends(this.options(), consumer))).await
    }

    fn ask(&self, consumer: &Consumer, read: &[OffsetRange]) -> Result<Backlog> {
        let options = self.options();
        let described = describe(options, consumer)?;
        self.partitions().store(described.len(), Ordering::Relaxed);
        self.check_group(consumer, &described)?;
        let is_first = read.is_empty();
        let mut found = Vec::with_capacity(described.len());
        let starts = if is_first { starts(options, consumer, &described)? } else { vec![None; described.len()] };
        for (partition, start) in described.iter().zip(starts) {
            let so_far = read
                .iter()
                .find(|range| (range.topic.as_str(), range.partition) == (&*partition.topic, partition.partition));
            let start = match so_far {
                Some(range) => self.resume(range, partition)?,
                // What was made after the first look is read from its beginning.
                None => start.unwrap_or(partition.low).max(partition.low).min(partition.end),
            };
            let Described { topic, partition, end, topic_id, .. } = partition.clone();
            found.push(OffsetRange { topic, partition, start, end, topic_id, late_before: None, is_apart: false });
        }
        self.check_gone(read, &described)?;
        Ok(Backlog::new(found, read))
    }

    /// Where reading goes on; an error where it cannot.
    fn resume(&self, read: &OffsetRange, partition: &Described) -> Result<i64> {
        let lost = |reason: String, help| Error::OffsetsLost {
            name: self.name().to_owned(),
            topic: partition.topic.clone(),
            partition: partition.partition,
            reason,
            help,
        };
        let next = read.end;
        if let (Some(before), Some(now)) = (&read.topic_id, &partition.topic_id)
            && before != now
        {
            let reason = format!("the topic was deleted and made anew after it was read up to offset {next}");
            return Err(lost(reason, START_ANEW));
        }
        if partition.end < next {
            let end = partition.end;
            let reason = format!(
                "it was read up to offset {next} and now ends at {end}: the topic was made anew or its log was cut off"
            );
            return Err(lost(reason, START_ANEW));
        }
        if partition.low > next && self.options().on_data_loss == OnDataLoss::Fail {
            let low = partition.low;
            return Err(lost(format!("offsets {next} to {} were deleted before they were read", low - 1), GO_ON));
        }
        // With `on_data_loss = 'record'` the scan counts what is lost, from here.
        Ok(next)
    }

    /// Whether the offsets of `group_id` may be looked at: asked once, before anything is read, because they are published
    /// only after a commit.
    fn check_group(&self, consumer: &Consumer, found: &[Described]) -> Result<()> {
        let Some(group) = &self.options().group_id else { return Ok(()) };
        if found.is_empty() || self.asked_for_group.load(Ordering::Relaxed) {
            return Ok(());
        }
        match group_offsets(self.options(), consumer, group, found) {
            Err(error @ Error::BrokerDenied { .. }) => Err(error),
            // Nothing depends on the group: what may come back is told when offsets are published.
            _ => {
                self.asked_for_group.store(true, Ordering::Relaxed);
                Ok(())
            }
        }
    }

    /// A partition that was read and is no more.
    fn check_gone(&self, read: &[OffsetRange], described: &[Described]) -> Result<()> {
        let is_there = |range: &&OffsetRange| {
            described.iter().any(|found| (found.topic.as_str(), found.partition) == (&*range.topic, range.partition))
        };
        match read.iter().find(|range| !is_there(range)) {
            None => Ok(()),
            Some(gone) => Err(Error::OffsetsLost {
                name: self.name().to_owned(),
                topic: gone.topic.clone(),
                partition: gone.partition,
                reason: format!("it was read up to offset {} and is no longer there", gone.end),
                help: START_ANEW,
            }),
        }
    }
}

/// All partitions of the topics, by topic and number.
pub(super) fn describe(options: &KafkaSourceOptions, consumer: &Consumer) -> Result<Vec<Described>> {
    let mut partitions = Vec::new();
    let topics = topics(options, consumer)?;
    // Before the offsets are asked for: those of a topic that is made anew meanwhile are then found out by the next look.
    let ids = topic_ids(consumer, topics.keys().map(String::as_str), patience(options));
    let ids = ids.map_err(|error| failed(options, "describe topics", Some(consumer.context()), &error))?;
    for (topic, count) in topics {
        for partition in 0..count {
            let watermarks = consumer.fetch_watermarks(&topic, partition, patience(options));
            let (low, end) = watermarks.map_err(|error| {
                failed(
                    options,
                    &format!("ask for the end of partition {partition} of `{topic}`"),
                    Some(consumer.context()),
                    &error,
                )
            })?;
            partitions.push(Described {
                topic: topic.clone(),
                partition,
                low,
                end,
                topic_id: ids.get(&topic).cloned(),
            });
        }
    }
    Ok(partitions)
}

fn ends(options: &KafkaSourceOptions, consumer: &Consumer) -> Result<Vec<PartitionEnd>> {
    let mut asked = TopicPartitionList::new();
    for (topic, count) in topics(options, consumer)? {
        for partition in 0..count {
            // In place of a time, this asks for the end.
            let added = asked.add_partition_offset(&topic, partition, Offset::End);
            added.map_err(|error| failed(options, "name partitions", None, &error))?;
        }
    }
    if asked.count() == 0 {
        return Ok(Vec::new());
    }
    let answered = consumer.offsets_for_times(asked, patience(options));
    let answered = answered
        .map_err(|error| failed(options, "ask for the ends of partitions", Some(consumer.context()), &error))?;
    let end = |element: &TopicPartitionListElem<'_>| match element.offset() {
        Offset::Offset(end) => {
            Some(PartitionEnd { topic: element.topic().to_owned(), partition: element.partition(), end })
        }
        // A partition that has no leader for the moment.
        _ => None,
    };
    Ok(answered.elements().iter().filter_map(end).collect())
}

/// Names of the topics with the number of their partitions, by name.
fn topics(options: &KafkaSourceOptions, consumer: &Consumer) -> Result<BTreeMap<String, i32>> {
    let brokers = || options.bootstrap_servers.clone();
    let ask = |topic: Option<&str>| {
        patiently(options, consumer, "ask for topics", |wait| consumer.fetch_metadata(topic, wait))
    };
    let mut found = BTreeMap::new();
    match &options.topics {
        Topics::Named(names) => {
            for name in names {
                let metadata = ask(Some(name))?;
                let topic = metadata.topics().iter().find(|topic| topic.name() == name);
                let error = topic.and_then(MetadataTopic::error).map(RDKafkaErrorCode::from);
                match (topic, error) {
                    (_, Some(RDKafkaErrorCode::TopicAuthorizationFailed)) => {
                        let (action, reason) =
                            (format!("read topic `{name}`"), "its description is refused".to_owned());
                        return Err(Error::BrokerDenied { brokers: brokers(), action, reason });
                    }
                    (Some(topic), None) if !topic.partitions().is_empty() => {
                        found.insert(name.clone(), i32::try_from(topic.partitions().len()).unwrap_or(i32::MAX));
                    }
                    (_, None | Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic)) => {
                        return Err(Error::TopicMissing { topic: name.clone(), brokers: brokers() });
                    }
                    (_, Some(code)) => {
                        let reason = code.to_string();
                        return Err(Error::Broker {
                            brokers: brokers(),
                            action: format!("describe topic `{name}`"),
                            reason,
                        });
                    }
                }
            }
        }
        Topics::Matching(pattern) => {
            let metadata = ask(None)?;
            let matching = metadata.topics().iter().filter(|topic| pattern.is_match(topic.name()));
            for topic in matching.filter(|topic| topic.error().is_none()) {
                found.insert(topic.name().to_owned(), i32::try_from(topic.partitions().len()).unwrap_or(i32::MAX));
            }
        }
    }
    Ok(found)
}

/// Where each partition begins that was never read; `None`: with its oldest record.
fn starts(options: &KafkaSourceOptions, consumer: &Consumer, found: &[Described]) -> Result<Vec<Option<i64>>> {
    let answered = |list: &TopicPartitionList| -> Vec<Option<i64>> {
        let of = |partition: &Described| match list.find_partition(&partition.topic, partition.partition)?.offset() {
            Offset::Offset(offset) => Some(offset),
            // Beyond the last record.
            Offset::End => Some(partition.end),
            _ => None,
        };
        found.iter().map(of).collect()
    };
    let patience = patience(options);
    Ok(match &options.startup {
        Startup::Earliest => vec![None; found.len()],
        Startup::Latest => found.iter().map(|partition| Some(partition.end)).collect(),
        Startup::Offsets(offsets) => {
            let of = |partition: &Described| {
                offsets.iter().find(|(number, _)| *number == partition.partition).map(|(_, offset)| *offset)
            };
            found.iter().map(of).collect()
        }
        Startup::Timestamp(millis) => {
            let list = named(options, found, Offset::Offset(*millis))?;
            let list = consumer.offsets_for_times(list, patience);
            let list =
                list.map_err(|error| failed(options, "ask for offsets by time", Some(consumer.context()), &error))?;
            answered(&list)
        }
        Startup::Group(group) => answered(&group_offsets(options, consumer, group, found)?),
    })
}

/// The offsets that a group has committed.
fn group_offsets(
    options: &KafkaSourceOptions,
    consumer: &Consumer,
    group: &str,
    found: &[Described],
) -> Result<TopicPartitionList> {
    let list = named(options, found, Offset::Invalid)?;
    let action = format!("ask for the offsets of group `{group}`");
    patiently(options, consumer, &action, |wait| consumer.committed_offsets(list.clone(), wait))
}

/// Partitions as the client names them, all with one offset.
fn named(options: &KafkaSourceOptions, found: &[Described], offset: Offset) -> Result<TopicPartitionList> {
    let mut list = TopicPartitionList::with_capacity(found.len());
    for partition in found {
        let added = list.add_partition_offset(&partition.topic, partition.partition, offset);
        added.map_err(|error| failed(options, "name partitions", None, &error))?;
    }
    Ok(list)
}
