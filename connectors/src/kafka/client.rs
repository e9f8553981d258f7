//! Clients of the brokers: how they are set up, and what their errors mean.

use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::options::{Isolation, KafkaSourceOptions};
use crate::{Error, Result};

/// Bytes that one consumer keeps ahead of its reader, over all its partitions.
const PREFETCH_BYTES: u64 = 64 << 20;
/// The least of them for each partition.
const PREFETCH_PARTITION_BYTES: u64 = 1 << 20;
/// Records that it keeps ahead: each costs the client some 400 bytes beside its own, which it does not count.
const PREFETCH_RECORDS: u64 = 256 << 10;
/// The least of them for each partition.
const PREFETCH_PARTITION_RECORDS: u64 = 1 << 10;

/// A consumer that is assigned offsets, never subscribed.
pub(super) type Consumer = BaseConsumer<Context>;

/// Takes what the client says by itself: logs, and errors that belong to no request.
#[derive(Debug, Default)]
pub(super) struct Context {
    /// The last such error: why nothing arrives.
    trouble: Mutex<Option<Trouble>>,
}

#[derive(Debug, Clone)]
struct Trouble {
    code: Option<RDKafkaErrorCode>,
    reason: String,
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // What matters of it comes as an error, too; a broker that is away fills a log with the rest.
        tracing::debug!(?level, facility, message, "kafka client");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if let Ok(mut trouble) = self.trouble.lock() {
            *trouble = Some(Trouble { code: error.rdkafka_error_code(), reason: reason.to_owned() });
        }
    }
}

impl ConsumerContext for Context {}

/// Makes a consumer for about `partitions` partitions. Connects to nobody yet.
pub(super) fn consumer(options: &KafkaSourceOptions, partitions: usize) -> Result<Arc<Consumer>> {
    let partitions = partitions.max(1) as u64;
    let prefetch_bytes = (PREFETCH_BYTES / partitions).max(PREFETCH_PARTITION_BYTES);
    let prefetch_records = (PREFETCH_RECORDS / partitions).max(PREFETCH_PARTITION_RECORDS);
    let isolation = match options.isolation {
        Isolation::ReadCommitted => "read_committed",
        Isolation::ReadUncommitted => "read_uncommitted",
    };
    let mut config = ClientConfig::new();
    config
        .set("queued.max.messages.kbytes", (prefetch_bytes >> 10).to_string())
        // Below it more is fetched.
        .set("queued.min.messages", prefetch_records.to_string())
        // The end of a partition is told by an empty answer, which the broker holds back this long.
        .set("fetch.wait.max.ms", "100")
        .set("fetch.error.backoff.ms", "100");
    for (key, value) in &options.properties {
        config.set(key, value.reveal());
    }
    config
        .set("bootstrap.servers", &options.bootstrap_servers)
        // Nobody joins the group; its name is for lag tools, which read what is published after each commit.
        .set("group.id", options.group_id.as_deref().unwrap_or("bessemer"))
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("enable.partition.eof", "true")
        .set("auto.offset.reset", "error")
        .set("allow.auto.create.topics", "false")
        .set("isolation.level", isolation);
    let client: Consumer = config
        .create_with_context(Context::default())
        .map_err(|error| failed(options, "make a client", None, &error))?;
    Ok(Arc::new(client))
}

/// The situation that an error of the client is.
pub(super) fn failed(
    options: &KafkaSourceOptions,
    action: &str,
    context: Option<&Context>,
    error: &KafkaError,
) -> Error {
    let trouble = context.and_then(|context| context.trouble.lock().ok()?.clone());
    let brokers = options.bootstrap_servers.clone();
    let own = error.rdkafka_error_code();
    let code = trouble.as_ref().and_then(|trouble| trouble.code).filter(|code| is_refusal(*code)).or(own);
    let reason = match (&trouble, code) {
        (Some(trouble), _) => trouble.reason.clone(),
        (None, Some(code)) => code.to_string(),
        (None, None) => error.to_string(),
    };
    match code {
        Some(code) if is_refusal(code) => Error::BrokerDenied { brokers, action: action.to_owned(), reason },
        _ => Error::Broker { brokers, action: action.to_owned(), reason },
    }
}

/// Whether the brokers will say the same again however often they are asked.
fn is_refusal(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::Authentication
            | Code::SaslAuthenticationFailed
            | Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::SSL
            | Code::UnsupportedSASLMechanism
            | Code::UnsupportedVersion
    )
}

/// Runs `work` where it may block: the client's questions to brokers do.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let ended = tokio::task::spawn_blocking(work).await;
    ended.map_err(|error| Error::Internal { message: format!("a question to the brokers ended early: {error}") })?
}

/// How long one question may take.
pub(super) fn patience(options: &KafkaSourceOptions) -> Duration {
    options.timeout
}
