//! Ids of topics (KIP-516): a topic that was deleted and made anew has another one.
//!
//! `rdkafka` has no call for them; librdkafka's `DescribeTopics` does. This asks it directly.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_int};
use std::ptr::{self, NonNull};
use std::time::Duration;

use rdkafka::bindings as raw;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{IsError, KafkaError, RDKafkaErrorCode};

use super::client::Consumer;
use super::native::Owned;

/// What librdkafka calls an id of zeros, which is no id.
const NO_ID: &str = "AAAAAAAAAAAAAAAAAAAAAA";

/// What librdkafka says where it makes nothing of what it was asked to.
const FAILED: KafkaError = KafkaError::MetadataFetch(RDKafkaErrorCode::Fail);

/// The longest time that librdkafka lets such a question take.
const TIMEOUT_MILLIS_MAX: c_int = 3_600_000;

/// The ids of these topics, by name, as Kafka's tools write them. Brokers that know no ids give none.
pub(super) fn topic_ids<'a>(
    consumer: &Consumer,
    topics: impl Iterator<Item = &'a str>,
    patience: Duration,
) -> Result<BTreeMap<String, String>, KafkaError> {
    let mut topics = topics.peekable();
    let topic = topics.peek().copied();
    // A name with a NUL is no name of a topic.
    let names: Vec<CString> = topics.filter_map(|topic| CString::new(topic).ok()).collect();
    if names.is_empty() {
        return Ok(BTreeMap::new());
    }
    // Any broker knows them; librdkafka would ask the controller, which it may never have spoken to.
    let metadata = consumer.fetch_metadata(topic, patience)?;
    let broker = Some(metadata.orig_broker_id()).filter(|id| *id >= 0);
    let broker = broker.or_else(|| Some(metadata.brokers().first()?.id())).unwrap_or_default();
    let described = describe(consumer, broker, &names, patience);
    match described {
        Err(KafkaError::MetadataFetch(RDKafkaErrorCode::UnsupportedFeature | RDKafkaErrorCode::UnsupportedVersion)) => {
            Ok(BTreeMap::new())
        }
        described => described,
    }
}

#[expect(unsafe_code, reason = "rdkafka wraps no call that tells the ids of topics")]
fn describe(
    consumer: &Consumer,
    broker: i32,
    names: &[CString],
    patience: Duration,
) -> Result<BTreeMap<String, String>, KafkaError> {
    let mut pointers: Vec<_> = names.iter().map(|name| name.as_ptr()).collect();
    let millis = c_int::try_from(patience.as_millis()).unwrap_or(c_int::MAX).min(TIMEOUT_MILLIS_MAX);
    let client = consumer.client().native_ptr();
    // SAFETY: `client` lives as long as `consumer`; `pointers` are `pointers.len()` strings that end with NUL, which are
    // copied; the other arguments were made by the lines before, for the same client, and are destroyed after the call,
    // which copies what it needs of them. Of an error no text is asked for: its length is zero.
    let event = unsafe {
        let queue = Owned::new(raw::rd_kafka_queue_new(client), raw::rd_kafka_queue_destroy).ok_or(FAILED)?;
        let topics = raw::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
        let topics = Owned::new(topics, raw::rd_kafka_TopicCollection_destroy).ok_or(FAILED)?;
        let operation = raw::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
        let options = Owned::new(raw::rd_kafka_AdminOptions_new(client, operation), raw::rd_kafka_AdminOptions_destroy)
            .ok_or(FAILED)?;
        let set = raw::rd_kafka_AdminOptions_set_request_timeout(options.pointer(), millis, ptr::null_mut(), 0);
        checked(set)?;
        checked(raw::rd_kafka_AdminOptions_set_broker(options.pointer(), broker, ptr::null_mut(), 0))?;
        raw::rd_kafka_DescribeTopics(client, topics.pointer(), options.pointer(), queue.pointer());
        // The request ends by its own timeout: its answer always comes.
        Owned::new(raw::rd_kafka_queue_poll(queue.pointer(), -1), raw::rd_kafka_event_destroy).ok_or(FAILED)?
    };
    let mut ids = BTreeMap::new();
    // SAFETY: `event` lives to the end of the function, and what is read here belongs to it: `count` descriptions, each
    // with a name and an id whose text ends with NUL.
    unsafe {
        checked(raw::rd_kafka_event_error(event.pointer()))?;
        let Some(result) = NonNull::new(raw::rd_kafka_event_DescribeTopics_result(event.pointer()).cast_mut()) else {
            return Err(KafkaError::MetadataFetch(RDKafkaErrorCode::BadMessage));
        };
        let mut count = 0;
        let topics = raw::rd_kafka_DescribeTopics_result_topics(result.as_ptr(), &raw mut count);
        for at in 0..count {
            let topic = *topics.add(at);
            checked(raw::rd_kafka_error_code(raw::rd_kafka_TopicDescription_error(topic)))?;
            let name = CStr::from_ptr(raw::rd_kafka_TopicDescription_name(topic)).to_string_lossy();
            let Some(id) = NonNull::new(raw::rd_kafka_TopicDescription_topic_id(topic).cast_mut()) else { continue };
            let Some(text) = NonNull::new(raw::rd_kafka_Uuid_base64str(id.as_ptr()).cast_mut()) else { continue };
            let text = CStr::from_ptr(text.as_ptr()).to_string_lossy();
            if text != NO_ID {
                ids.insert(name.into_owned(), text.into_owned());
            }
        }
    }
    Ok(ids)
}

fn checked(code: raw::rd_kafka_resp_err_t) -> Result<(), KafkaError> {
    if code.is_error() { Err(KafkaError::MetadataFetch(code.into())) } else { Ok(()) }
}
