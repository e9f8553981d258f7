//! Apache Kafka itself, on loopback: what the mock brokers cannot show.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rand::Rng;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::access::{Permission, allow};
use crate::{repository, wait_until};

/// How long the brokers may take for anything but to start.
const PATIENCE: Duration = Duration::from_mins(1);

/// How long they may take to start, which is three processes of Java on a busy machine.
const START: Duration = Duration::from_mins(3);

/// How long one look takes whether they are there yet.
const LOOK: Duration = Duration::from_secs(1);

/// Exit code of the script where something that it needs is not on this machine.
const UNAVAILABLE: i32 = 69;

/// What can be done to one broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeCommand {
    /// It is killed with `-9`.
    Kill,
    /// It is started again.
    Start,
    /// It is stopped with SIGSTOP: its connections stay, and nothing answers.
    Freeze,
    /// It goes on.
    Thaw,
}

/// How a broker asks who comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecureListener {
    /// By SASL, over TLS.
    SaslTls,
    /// By SASL, without TLS.
    SaslPlaintext,
    /// By a certificate, over TLS.
    ClientCertificate,
    /// Not at all, over TLS; it shows the certificate of another host.
    Elsewhere,
}

/// Brokers in processes of their own. They end with this value, or with the process that holds it.
pub struct RealKafka {
    /// Stops the brokers when its standard input ends.
    script: Child,
    nodes: u16,
    port: u16,
    admin: AdminClient<DefaultClientContext>,
}

impl RealKafka {
    /// Starts `nodes` brokers, 1 or 3, and waits until they answer. `None`, and the reason is printed, where Java or
    /// Kafka is not on this machine.
    pub fn start(nodes: u16) -> Result<Option<Self>> {
        let port = free_ports(2 * nodes)?;
        Self::serve(nodes, port, &["serve", &port.to_string(), &nodes.to_string()])
    }

    /// Starts one broker that also asks who comes, at [`Self::secure_servers`], as `kafka.sh serve-secure` says.
    pub fn start_secure(certificates: &Path) -> Result<Option<Self>> {
        let port = free_ports(6)?;
        Self::serve(1, port, &["serve-secure", &port.to_string(), &certificates.display().to_string()])
    }

    fn serve(nodes: u16, port: u16, arguments: &[&str]) -> Result<Option<Self>> {
        let script = Command::new(repository().join("integration-tests/kafka/kafka.sh"))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start kafka.sh")?;
        let admin = client(&bootstrap_servers(port, nodes)).create()?;
        let mut kafka = Self { script, nodes, port, admin };
        Ok(kafka.wait()?.then_some(kafka))
    }

    /// Waits until all brokers answer; whether they are there at all.
    fn wait(&mut self) -> Result<bool> {
        let mut ended = None;
        let started = Instant::now();
        wait_until("the start of Kafka", || {
            ensure!(started.elapsed() < START, "Kafka does not answer");
            ended = self.script.try_wait()?;
            let metadata = self.admin.inner().fetch_metadata(None, LOOK);
            Ok(ended.is_some() || metadata.is_ok_and(|metadata| metadata.brokers().len() == usize::from(self.nodes)))
        })?;
        let Some(status) = ended else { return Ok(true) };
        let mut said = String::new();
        if let Some(stderr) = &mut self.script.stderr {
            stderr.read_to_string(&mut said)?;
        }
        ensure!(status.code() == Some(UNAVAILABLE), "Kafka does not start: {said}");
        // Past what the test harness captures: nobody reads what a test says that ends well.
        writeln!(std::io::stderr(), "skipped what needs Apache Kafka: {}", said.trim())?;
        Ok(false)
    }

    /// Where the brokers are.
    pub fn bootstrap_servers(&self) -> String {
        bootstrap_servers(self.port, self.nodes)
    }

    /// Does something to a node, the first of which is 1; does not wait for what comes of it.
    pub fn command(&self, command: NodeCommand, node: u16) -> Result<()> {
        let word = match command {
            NodeCommand::Kill => "kill",
            NodeCommand::Start => "start",
            NodeCommand::Freeze => "freeze",
            NodeCommand::Thaw => "thaw",
        };
        let mut stdin = self.script.stdin.as_ref().context("the brokers were stopped")?;
        Ok(writeln!(stdin, "{word} {node}")?)
    }

    /// Waits until all brokers are there again.
    pub fn wait_for_nodes(&self) -> Result<()> {
        wait_until("the return of a broker", || {
            let metadata = self.admin.inner().fetch_metadata(None, LOOK);
            Ok(metadata.is_ok_and(|metadata| metadata.brokers().len() == usize::from(self.nodes)))
        })
    }

    /// Where a broker asks who comes, in one of its ways.
    pub fn secure_servers(&self, listener: SecureListener) -> String {
        let after = match listener {
            SecureListener::SaslTls => 2,
            SecureListener::SaslPlaintext => 3,
            SecureListener::ClientCertificate => 4,
            SecureListener::Elsewhere => 5,
        };
        bootstrap_servers(self.port + after, 1)
    }

    /// Lets a user do something.
    pub fn allow(&self, user: &str, permission: Permission<'_>) -> Result<()> {
        allow(self.admin.inner(), user, permission)
    }

    /// Makes a topic with settings of its own, and waits until all its partitions can be written.
    pub fn create_topic(&self, topic: &str, partitions: i32, settings: &[(&str, &str)]) -> Result<()> {
        let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(i32::from(self.nodes)));
        for (key, value) in settings {
            new = new.set(key, value);
        }
        for made in now(self.admin.create_topics([&new], &options()))?? {
            made.map_err(|(topic, code)| anyhow::anyhow!("topic `{topic}` was not made: {code}"))?;
        }
        self.wait_for_partitions(topic, partitions)
    }

    /// Deletes a topic, and waits until it is gone.
    pub fn delete_topic(&self, topic: &str) -> Result<()> {
        for deleted in now(self.admin.delete_topics(&[topic], &options()))?? {
            deleted.map_err(|(topic, code)| anyhow::anyhow!("topic `{topic}` was not deleted: {code}"))?;
        }
        wait_until("the end of a topic", || Ok(self.partitions(topic)?.is_empty()))
    }

    /// Adds partitions to a topic, up to `partitions`.
    pub fn add_partitions(&self, topic: &str, partitions: i32) -> Result<()> {
        let new = NewPartitions::new(topic, usize::try_from(partitions)?);
        for made in now(self.admin.create_partitions([&new], &options()))?? {
            made.map_err(|(topic, code)| anyhow::anyhow!("topic `{topic}` got no more partitions: {code}"))?;
        }
        self.wait_for_partitions(topic, partitions)
    }

    /// Deletes the records of a partition before `offset`.
    pub fn delete_records(&self, topic: &str, partition: i32, offset: i64) -> Result<()> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(offset))?;
        for deleted in now(self.admin.delete_records(&list, &options()))??.elements() {
            deleted.error().context("records were not deleted")?;
        }
        Ok(())
    }

    /// A producer with settings of its own.
    pub fn producer(&self, settings: &[(&str, &str)]) -> Result<BaseProducer> {
        let mut config = client(&self.bootstrap_servers());
        config.set("linger.ms", "5").set("enable.idempotence", "true");
        for (key, value) in settings {
            config.set(*key, *value);
        }
        Ok(config.create()?)
    }

    fn wait_for_partitions(&self, topic: &str, partitions: i32) -> Result<()> {
        wait_until("the start of a topic", || {
            let leaders = self.partitions(topic)?;
            Ok(leaders.len() == usize::try_from(partitions)? && leaders.iter().all(|leader| *leader >= 0))
        })
    }

    /// The leader of each partition of a topic; none where there is no such topic.
    fn partitions(&self, topic: &str) -> Result<Vec<i32>> {
        let metadata = self.admin.inner().fetch_metadata(Some(topic), PATIENCE)?;
        let topic = metadata.topics().iter().find(|found| found.name() == topic && found.error().is_none());
        let partitions = topic.into_iter().flat_map(rdkafka::metadata::MetadataTopic::partitions);
        Ok(partitions.map(rdkafka::metadata::MetadataPartition::leader).collect())
    }
}

impl Drop for RealKafka {
    fn drop(&mut self) {
        // It stops the brokers once nobody can say anything to it any more.
        drop(self.script.stdin.take());
        // An error says that there is nobody to wait for.
        drop(self.script.wait());
    }
}

/// Sends values to a partition, in order; without a transaction they are there when it returns.
pub fn send(
    producer: &BaseProducer,
    topic: &str,
    partition: i32,
    values: impl IntoIterator<Item = String>,
) -> Result<()> {
    send_keyed(producer, topic, partition, values.into_iter().map(|value| (String::new(), value)))
}

/// Sends keys and values to a partition, in order.
pub fn send_keyed(
    producer: &BaseProducer,
    topic: &str,
    partition: i32,
    records: impl IntoIterator<Item = (String, String)>,
) -> Result<()> {
    for (key, value) in records {
        let record = BaseRecord::to(topic).partition(partition).key(&key).payload(&value);
        producer.send(record).map_err(|(error, _)| error)?;
    }
    Ok(producer.flush(PATIENCE)?)
}

fn client(bootstrap_servers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap_servers).set("reconnect.backoff.max.ms", "500");
    config
}

fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(PATIENCE)).request_timeout(Some(PATIENCE))
}

fn bootstrap_servers(port: u16, nodes: u16) -> String {
    let addresses: Vec<_> = (0..nodes).map(|node| format!("127.0.0.1:{}", port + 2 * node)).collect();
    addresses.join(",")
}

/// Waits for an answer.
fn now<T>(answer: impl Future<Output = T>) -> Result<T> {
    Ok(tokio::runtime::Builder::new_current_thread().build()?.block_on(answer))
}

/// The first of `count` consecutive ports that nobody listens on. They lie below those that systems give to clients.
fn free_ports(count: u16) -> Result<u16> {
    for _ in 0..100 {
        let first = rand::rng().random_range(20_000..30_000);
        let held = (first..first + count).map(|port| TcpListener::bind(("127.0.0.1", port)));
        if held.collect::<std::io::Result<Vec<_>>>().is_ok() {
            return Ok(first);
        }
    }
    bail!("there are no {count} free ports after one another")
}
