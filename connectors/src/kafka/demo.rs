//! A Kafka cluster inside this process, for demonstrations: brokers on loopback, gone when it is dropped.

use std::fmt;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};

use crate::{Error, Result};

/// How long the brokers may take to accept a record.
const PATIENCE: Duration = Duration::from_secs(30);

/// A cluster of one broker with one topic. It keeps records in memory, and only some megabytes of them: no store for
/// anything that matters.
pub struct DemoCluster {
    brokers: MockCluster<'static, DefaultProducerContext>,
    topic: String,
    partitions: i32,
}

/// Sends records to a [`DemoCluster`], from any thread.
pub struct DemoProducer {
    producer: BaseProducer,
    topic: String,
    partitions: i32,
}

impl DemoCluster {
    /// Starts it with a topic.
    pub fn start(topic: &str, partitions: i32) -> Result<Self> {
        let brokers = MockCluster::new(1).map_err(|error| failed("start", &error))?;
        brokers.create_topic(topic, partitions, 1).map_err(|error| failed("make a topic", &error))?;
        Ok(Self { brokers, topic: topic.to_owned(), partitions })
    }

    /// A producer for its topic.
    pub fn producer(&self) -> Result<DemoProducer> {
        let producer = ClientConfig::new()
            .set("bootstrap.servers", self.bootstrap_servers())
            .set("linger.ms", "5")
            .create()
            .map_err(|error| failed("make a producer", &error))?;
        Ok(DemoProducer { producer, topic: self.topic.clone(), partitions: self.partitions })
    }

    /// Where it is, as option `bootstrap_servers` has it.
    pub fn bootstrap_servers(&self) -> String {
        self.brokers.bootstrap_servers()
    }
}

impl DemoProducer {
    /// Sends a record to the partition of its key. May block while the producer's queue is full.
    pub fn send(&self, key: &str, value: &[u8]) -> Result<()> {
        let partition = key.bytes().fold(0_u32, |hash, byte| hash.wrapping_mul(31).wrapping_add(u32::from(byte)));
        let partition = i32::try_from(partition % self.partitions.max(1).unsigned_abs()).unwrap_or(0);
        let mut record = BaseRecord::to(&self.topic).partition(partition).key(key).payload(value);
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), refused)) => {
                    self.producer.poll(Duration::from_millis(10));
                    record = refused;
                }
                Err((error, _)) => return Err(failed("send a record", &error)),
            }
        }
    }

    /// Waits until everything that was sent is in the log.
    pub fn flush(&self) -> Result<()> {
        self.producer.flush(PATIENCE).map_err(|error| failed("accept records", &error))
    }
}

impl fmt::Debug for DemoProducer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DemoProducer").field("topic", &self.topic).finish_non_exhaustive()
    }
}

impl fmt::Debug for DemoCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DemoCluster").field("topic", &self.topic).finish_non_exhaustive()
    }
}

fn failed(action: &str, error: &KafkaError) -> Error {
    Error::Broker { brokers: "in this process".to_owned(), action: action.to_owned(), reason: error.to_string() }
}
