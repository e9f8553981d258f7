//! A Kafka cluster inside the test's own process, on loopback: the client library's mock brokers.

use std::time::Duration;

use anyhow::Result;
use rdkafka::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};

/// How long the brokers may take to accept what was sent.
const FLUSH: Duration = Duration::from_mins(1);

/// Brokers, and a producer that is connected to them.
pub struct KafkaCluster {
    /// The brokers, to inject faults into.
    pub mock: MockCluster<'static, DefaultProducerContext>,
    producer: BaseProducer,
}

impl KafkaCluster {
    /// Starts `brokers` brokers.
    pub fn start(brokers: i32) -> Result<Self> {
        let mock = MockCluster::new(brokers)?;
        let producer = ClientConfig::new()
            .set("bootstrap.servers", mock.bootstrap_servers())
            .set("linger.ms", "1")
            .set("enable.idempotence", "true")
            .create()?;
        Ok(Self { mock, producer })
    }

    /// Makes a topic.
    pub fn create_topic(&self, topic: &str, partitions: i32) -> Result<()> {
        Ok(self.mock.create_topic(topic, partitions, 1)?)
    }

    /// Where the brokers are.
    pub fn bootstrap_servers(&self) -> String {
        self.mock.bootstrap_servers()
    }

    /// Where the brokers say that each of the first `partitions` partitions ends.
    pub fn ends(&self, topic: &str, partitions: i32) -> Result<Vec<i64>> {
        let end = |partition| Ok(self.producer.client().fetch_watermarks(topic, partition, FLUSH)?.1);
        (0..partitions).map(end).collect()
    }

    /// Sends a record whose key or value may be missing; it is there when this returns.
    pub fn send_one(&self, topic: &str, partition: i32, key: Option<&str>, value: Option<&str>) -> Result<()> {
        let mut record: BaseRecord<'_, str, str> = BaseRecord::to(topic).partition(partition);
        (record.key, record.payload) = (key, value);
        self.producer.send(record).map_err(|(error, _)| error)?;
        self.producer.flush(FLUSH)?;
        Ok(())
    }

    /// Sends records to a partition, in order; they are there when it returns.
    pub fn send(&self, topic: &str, partition: i32, values: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Result<()> {
        for value in values {
            let record: BaseRecord<'_, (), [u8]> = BaseRecord::to(topic).partition(partition).payload(value.as_ref());
            self.producer.send(record).map_err(|(error, _)| error)?;
        }
        self.producer.flush(FLUSH)?;
        Ok(())
    }
}
