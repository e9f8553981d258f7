//! The records of one partition, in the order of their offsets, and at which offset they end.
//!
//! `rdkafka` has such a queue, too. It tells that the end of a partition was reached, and keeps to itself at which
//! offset. Without it an end proves nothing: a replica that has just become the leader, and one that is not the leader
//! (KIP-392), may know of fewer records than were promised to be there.

use std::borrow::Cow;
use std::ffi::{CStr, CString, c_int};
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::bindings as raw;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{IsError as _, KafkaError};

use super::client::Consumer;
use super::native::Owned;

/// Where a consumer puts the records of one of its partitions.
pub(super) struct RecordQueue {
    queue: Owned<raw::rd_kafka_queue_t>,
    /// The queue is a part of it, and is destroyed before.
    _consumer: Arc<Consumer>,
}

/// What came.
pub(super) enum Polled<'a> {
    Record(Record<'a>),
    /// There is no record at or after this offset, as far as the broker knows; all before it came.
    End(i64),
    Refused(KafkaError),
}

impl RecordQueue {
    /// The queue of a partition that is not assigned yet: its records then never go anywhere else.
    #[expect(unsafe_code, reason = "rdkafka's own queue does not tell where a partition ends")]
    pub(super) fn split(consumer: &Arc<Consumer>, topic: &str, partition: i32) -> Option<Self> {
        let topic = CString::new(topic).ok()?;
        let client = consumer.client().native_ptr();
        // SAFETY: `client` lives as long as `consumer`, which is kept as long as the queue; `topic` ends with NUL and is
        // copied; a queue that was asked for is a reference of our own, which `rd_kafka_queue_destroy` gives back. To
        // forward it to nothing is how librdkafka says that it is read by itself.
        let queue = unsafe {
            let queue = raw::rd_kafka_queue_get_partition(client, topic.as_ptr(), partition);
            let queue = Owned::new(queue, raw::rd_kafka_queue_destroy)?;
            raw::rd_kafka_queue_forward(queue.pointer(), ptr::null_mut());
            queue
        };
        Some(Self { queue, _consumer: Arc::clone(consumer) })
    }

    /// What comes next; nothing where nothing comes within `patience`.
    #[expect(unsafe_code, reason = "rdkafka's own queue does not tell where a partition ends")]
    pub(super) fn poll(&self, patience: Duration) -> Option<Polled<'_>> {
        let millis = c_int::try_from(patience.as_millis()).unwrap_or(c_int::MAX);
        // SAFETY: the queue lives as long as `self`. The event that it gives is ours to destroy; a message and an error
        // are parts of it and are read while it lives. A topic partition is a copy, ours to destroy.
        unsafe {
            let event = raw::rd_kafka_queue_poll(self.queue.pointer(), millis);
            let event = Owned::new(event, raw::rd_kafka_event_destroy)?;
            match raw::rd_kafka_event_type(event.pointer()) {
                raw::RD_KAFKA_EVENT_FETCH => {
                    let message = raw::rd_kafka_event_message_next(event.pointer());
                    let message = NonNull::new(message.cast_mut())?;
                    let code = message.as_ref().err;
                    if code.is_error() {
                        return Some(Polled::Refused(KafkaError::MessageConsumption(code.into())));
                    }
                    Some(Polled::Record(Record { message, _event: event, queue: PhantomData }))
                }
                raw::RD_KAFKA_EVENT_ERROR => {
                    let code = raw::rd_kafka_event_error(event.pointer());
                    if code != raw::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__PARTITION_EOF {
                        return Some(Polled::Refused(KafkaError::MessageConsumption(code.into())));
                    }
                    let place = raw::rd_kafka_event_topic_partition(event.pointer());
                    let place = Owned::new(place, raw::rd_kafka_topic_partition_destroy)?;
                    Some(Polled::End((*place.pointer()).offset))
                }
                // Nothing else goes to the queue of a partition.
                _ => None,
            }
        }
    }
}

/// A record as it was fetched.
pub(super) struct Record<'a> {
    message: NonNull<raw::rd_kafka_message_t>,
    /// The message is a part of it.
    _event: Owned<raw::rd_kafka_event_t>,
    queue: PhantomData<&'a RecordQueue>,
}

#[expect(unsafe_code, reason = "the parts of a record lie where librdkafka put them")]
impl Record<'_> {
    pub(super) fn offset(&self) -> i64 {
        self.message().offset
    }

    pub(super) fn key(&self) -> Option<&[u8]> {
        let message = self.message();
        // SAFETY: librdkafka says where the key is and how long; it is there as long as the message.
        unsafe { bytes(message.key.cast(), message.key_len) }
    }

    pub(super) fn value(&self) -> Option<&[u8]> {
        let message = self.message();
        // SAFETY: librdkafka says where the value is and how long; it is there as long as the message.
        unsafe { bytes(message.payload.cast(), message.len) }
    }

    /// Milliseconds since 1970, UTC.
    pub(super) fn timestamp(&self) -> Option<i64> {
        // SAFETY: the message lives as long as `self`; whose clock it is may be left out.
        let millis = unsafe { raw::rd_kafka_message_timestamp(self.message.as_ptr(), ptr::null_mut()) };
        (millis != -1).then_some(millis)
    }

    /// Names and values of the headers, in order.
    pub(super) fn headers(&self) -> impl Iterator<Item = (Cow<'_, str>, Option<&[u8]>)> {
        let mut headers = ptr::null_mut();
        // SAFETY: the message lives as long as `self`, and the headers as long as it.
        let found = unsafe { raw::rd_kafka_message_headers(self.message.as_ptr(), &raw mut headers) };
        let headers = NonNull::new(headers).filter(|_| !found.is_error());
        (0..).map_while(move |at| {
            let (mut name, mut value, mut length) = (ptr::null(), ptr::null(), 0);
            // SAFETY: the headers live as long as the message; where there is an `at`-th one its name ends with NUL, and
            // its value is as long as is said.
            unsafe {
                let headers = headers?.as_ptr();
                let found = raw::rd_kafka_header_get_all(headers, at, &raw mut name, &raw mut value, &raw mut length);
                if found.is_error() {
                    return None;
                }
                Some((CStr::from_ptr(name).to_string_lossy(), bytes(value.cast(), length)))
            }
        })
    }

    fn message(&self) -> &raw::rd_kafka_message_t {
        // SAFETY: the message is a part of the event, which lives as long as `self`; nobody writes to it.
        unsafe { self.message.as_ref() }
    }
}

/// # Safety
///
/// `length` bytes are at `start`, unless that is null, as long as the result is used.
#[expect(unsafe_code, reason = "the parts of a record lie where librdkafka put them")]
unsafe fn bytes<'a>(start: *const u8, length: usize) -> Option<&'a [u8]> {
    // SAFETY: as the caller promises.
    (!start.is_null()).then(|| unsafe { std::slice::from_raw_parts(start, length) })
}
