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

/// Records that are taken from the client at once: what a call costs is then nothing beside them.
pub(super) const BATCH: usize = 1_024;

/// Where a consumer puts the records of one of its partitions.
pub(super) struct RecordQueue {
    /// What was taken and is not used up. It is a part of the queue, and is destroyed before.
    batch: Vec<Owned<raw::rd_kafka_message_t>>,
    /// The first of them that was not taken off.
    next: usize,
    queue: Owned<raw::rd_kafka_queue_t>,
    /// The queue is a part of it, and is destroyed before.
    _consumer: Arc<Consumer>,
}

/// What comes next.
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
        Some(Self { batch: Vec::with_capacity(BATCH), next: 0, queue, _consumer: Arc::clone(consumer) })
    }

    /// What comes next, and stays there until it is taken off; nothing where nothing comes within `patience`.
    pub(super) fn peek(&mut self, patience: Duration) -> Option<Polled<'_>> {
        if self.next == self.batch.len() {
            self.fetch(patience);
        }
        let message = NonNull::new(self.batch.get(self.next)?.pointer())?;
        let record = Record { message, queue: PhantomData };
        let code = record.message().err;
        Some(match code {
            raw::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__PARTITION_EOF => Polled::End(record.offset()),
            _ if code.is_error() => Polled::Refused(KafkaError::MessageConsumption(code.into())),
            _ => Polled::Record(record),
        })
    }

    /// Takes off what [`Self::peek`] gave.
    pub(super) fn advance(&mut self) {
        self.next += 1;
    }

    /// Takes what is there; waits for the first of it.
    #[expect(unsafe_code, reason = "rdkafka's own queue does not tell where a partition ends")]
    fn fetch(&mut self, patience: Duration) {
        self.batch.clear();
        self.next = 0;
        let mut messages = [ptr::null_mut(); BATCH];
        // A call that waits does so until it has as many as it was asked for.
        for (size, patience) in [(BATCH, Duration::ZERO), (1, patience)] {
            let millis = c_int::try_from(patience.as_millis()).unwrap_or(c_int::MAX);
            // SAFETY: the queue lives as long as `self`; there is room for `size` messages. Those that come are ours to
            // destroy.
            let came =
                unsafe { raw::rd_kafka_consume_batch_queue(self.queue.pointer(), millis, messages.as_mut_ptr(), size) };
            let came = messages.iter().take(usize::try_from(came).unwrap_or(0));
            // SAFETY: as above.
            self.batch.extend(came.filter_map(|it| unsafe { Owned::new(*it, raw::rd_kafka_message_destroy) }));
            if !self.batch.is_empty() {
                return;
            }
        }
    }
}

/// A record as it was fetched.
#[derive(Clone, Copy)]
pub(super) struct Record<'a> {
    message: NonNull<raw::rd_kafka_message_t>,
    queue: PhantomData<&'a RecordQueue>,
}

#[expect(unsafe_code, reason = "the parts of a record lie where librdkafka put them")]
impl<'a> Record<'a> {
    pub(super) fn offset(self) -> i64 {
        self.message().offset
    }

    pub(super) fn key(self) -> Option<&'a [u8]> {
        let message = self.message();
        // SAFETY: librdkafka says where the key is and how long; it is there as long as the message.
        unsafe { bytes(message.key.cast(), message.key_len) }
    }

    pub(super) fn value(self) -> Option<&'a [u8]> {
        let message = self.message();
        // SAFETY: librdkafka says where the value is and how long; it is there as long as the message.
        unsafe { bytes(message.payload.cast(), message.len) }
    }

    /// Milliseconds since 1970, UTC.
    pub(super) fn timestamp(self) -> Option<i64> {
        // SAFETY: the message lives as long as `self`; whose clock it is may be left out.
        let millis = unsafe { raw::rd_kafka_message_timestamp(self.message.as_ptr(), ptr::null_mut()) };
        (millis != -1).then_some(millis)
    }

    /// Names and values of the headers, in order.
    pub(super) fn headers(self) -> impl Iterator<Item = (Cow<'a, str>, Option<&'a [u8]>)> {
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

    fn message(self) -> &'a raw::rd_kafka_message_t {
        // SAFETY: the message is ours as long as its place in the batch, which is borrowed for `'a`; nobody writes to it.
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
