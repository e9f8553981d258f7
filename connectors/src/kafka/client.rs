//! Clients of the brokers: how they are set up, and what their errors mean.

use std::error::Error as StdError;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::{TimeDelta, Utc};
use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};

use super::options::{Isolation, KafkaSourceOptions};
use super::token::{NoToken, TokenEndpoint};
use crate::{Error, Result};

/// Bytes that one consumer keeps ahead of its reader, over all its partitions.
const PREFETCH_BYTES: u64 = 64 << 20;
/// The least of them for each partition.
const PREFETCH_PARTITION_BYTES: u64 = 1 << 20;
/// Records that it keeps ahead: each costs the client some 400 bytes beside its own, which it does not count.
const PREFETCH_RECORDS: u64 = 64 << 10;
/// Twice as many where each partition would have fewer than these: a reader uses them up in the time of a fetch.
const PREFETCH_PARTITION_RECORDS: u64 = 8 << 10;
/// The least of them for each partition.
const PREFETCH_PARTITION_RECORDS_MIN: u64 = 512;
/// Bytes that one answer brings over all partitions, but where each of many is to bring the least.
const FETCH_BYTES: u64 = 32 << 20;
/// The client's setting for how many of them are of one partition.
const FETCH_SETTING: &str = "fetch.message.max.bytes";
/// The most that it brings of the only partition, and of each of several, and the least.
const FETCH_ONE_BYTES: u64 = 1 << 20;
const FETCH_PARTITION_BYTES: u64 = 512 << 10;
const FETCH_PARTITION_BYTES_MIN: u64 = 64 << 10;
/// How long a partition of which enough is kept ahead is left alone. The client's own choice is a second, in which a
/// reader uses up everything and then waits.
const PREFETCH_PAUSE: &str = "5";

/// A consumer that is assigned offsets, never subscribed.
pub(super) type Consumer = BaseConsumer<Context>;

/// How long a question waits for the first time; it is asked again with twice the time, and in between the client is
/// heard, which tells a refusal by itself.
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// How long the client is heard before a question.
const HEARING: Duration = Duration::from_millis(1);
/// How long it is heard after one that was not answered.
const HEARING_FAILED: Duration = Duration::from_millis(20);

/// What the client's log calls the end of a connection.
const CONNECTION_ENDED: &str = "FAIL";
/// How a connection fails that nobody took.
const NOT_CONNECTED: [&str; 2] = ["Connect to ", "in state CONNECT"];
/// What may be wrong with a certificate: OpenSSL says only that something is.
const CERTIFICATE: &str = "a broker's certificate must be signed by an authority in `properties.ssl.ca.location`, and be \
                           for the host that `bootstrap_servers`, or another broker, names";
/// What may be wrong where brokers take a connection and end it.
const PROTOCOL: &str = "where they want TLS or SASL, say so in `properties.security.protocol`";

/// Takes what the client says by itself: logs, and errors that belong to no request. Gives it tokens.
#[derive(Debug)]
pub(super) struct Context {
    tokens: Option<TokenEndpoint>,
    /// Whether the user has named the group; else nothing depends on what brokers say about it.
    has_group: bool,
    heard: Mutex<Heard>,
}

/// The last errors that belong to no request.
#[derive(Debug, Default, Clone)]
struct Heard {
    /// Until when the last token lives, or why there is none.
    token: Option<std::result::Result<Instant, NoToken>>,
    /// How the last connection ended: the client calls that no error where a broker ended it.
    ended: Option<String>,
    /// Why nothing arrives.
    trouble: Option<Trouble>,
    /// Why the group cannot be used: this is told once.
    group: Option<Trouble>,
}

#[derive(Debug, Clone)]
struct Trouble {
    code: Option<RDKafkaErrorCode>,
    reason: String,
}

impl Heard {
    /// What brokers, or a token endpoint, will not grant.
    fn refusal(&self) -> Option<String> {
        // Without a token, what brokers say is the echo of that.
        if let Some(no_token) = self.no_token() {
            return no_token.is_refusal.then(|| no_token.reason.clone());
        }
        let refused = |trouble: &&Trouble| trouble.code.is_some_and(is_refusal);
        let trouble = self.trouble.as_ref().filter(refused).or(self.group.as_ref())?;
        Some(match trouble.code {
            Some(RDKafkaErrorCode::SSL) => format!("{}; {CERTIFICATE}", trouble.reason),
            _ => trouble.reason.clone(),
        })
    }

    /// Why nothing arrives.
    fn reason(&self) -> Option<String> {
        if let Some(no_token) = self.no_token() {
            return Some(no_token.reason.clone());
        }
        let trouble = self.trouble.as_ref()?;
        Some(match (trouble.code, &self.ended) {
            (Some(RDKafkaErrorCode::AllBrokersDown), Some(ended)) => format!("{ended}; {PROTOCOL}"),
            // A broker that ends a connection may do so while the client reads, or before it has sent: that is an error.
            (Some(RDKafkaErrorCode::BrokerTransportFailure), _)
                if !NOT_CONNECTED.iter().any(|words| trouble.reason.contains(words)) =>
            {
                format!("{}; {PROTOCOL}", trouble.reason)
            }
            _ => trouble.reason.clone(),
        })
    }

    fn no_token(&self) -> Option<&NoToken> {
        self.token.as_ref()?.as_ref().err()
    }
}

impl Context {
    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brokers have answered: what was wrong before is over.
    pub(super) fn recovered(&self) {
        self.heard().trouble = None;
    }

    /// Whether its token has ended: brokers may have refused it meanwhile, which says nothing about the next one.
    pub(super) fn is_outlived(&self) -> bool {
        match &self.heard().token {
            None => false,
            Some(Ok(end)) => *end <= Instant::now(),
            Some(Err(_)) => true,
        }
    }
}

impl ClientContext for Context {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // The thread that says it comes before it.
        if facility == CONNECTION_ENDED {
            let ended = message.split_once("]: ").map_or(message, |(_, ended)| ended);
            self.heard().ended = Some(ended.to_owned());
        }
        // What else matters of it comes as an error, too; a broker that is away fills a log with the rest.
        tracing::debug!(?level, facility, message, "kafka client");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let trouble = Some(Trouble { code: error.rdkafka_error_code(), reason: reason.to_owned() });
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::GroupAuthorizationFailed) if !self.has_group => {}
            Some(RDKafkaErrorCode::GroupAuthorizationFailed) => self.heard().group = trouble,
            // What it sums up has been told, and says why.
            Some(RDKafkaErrorCode::AllBrokersDown) if self.heard().trouble.is_some() => {}
            _ => self.heard().trouble = trouble,
        }
    }

    fn generate_oauth_token(&self, _: Option<&str>) -> std::result::Result<OAuthToken, Box<dyn StdError>> {
        let Some(tokens) = &self.tokens else { return Err("no token endpoint".into()) };
        let asked = Instant::now();
        let token = tokens.ask();
        let end = |life| asked.checked_add(life).unwrap_or(asked);
        self.heard().token = Some(token.as_ref().map(|token| end(token.life)).map_err(Clone::clone));
        let token = token.map_err(|error| error.reason)?;
        let life = TimeDelta::from_std(token.life)?;
        let end = Utc::now().checked_add_signed(life).ok_or("a token lives too long")?;
        Ok(OAuthToken { token: token.text, principal_name: token.client_id, lifetime_ms: end.timestamp_millis() })
    }
}

impl ConsumerContext for Context {}

/// The settings of a consumer for about `partitions` partitions.
pub(super) fn settings(options: &KafkaSourceOptions, partitions: usize) -> ClientConfig {
    let partitions = partitions.max(1) as u64;
    let prefetch_bytes = (PREFETCH_BYTES / partitions).max(PREFETCH_PARTITION_BYTES);
    let prefetch_records = (PREFETCH_RECORDS / partitions)
        .max(PREFETCH_PARTITION_RECORDS.min(2 * PREFETCH_RECORDS / partitions))
        .max(PREFETCH_PARTITION_RECORDS_MIN);
    let fetch_bytes = match partitions {
        1 => FETCH_ONE_BYTES,
        _ => (FETCH_BYTES / partitions).clamp(FETCH_PARTITION_BYTES_MIN, FETCH_PARTITION_BYTES),
    };
    let isolation = match options.isolation {
        Isolation::ReadCommitted => "read_committed",
        Isolation::ReadUncommitted => "read_uncommitted",
    };
    let mut config = ClientConfig::new();
    config
        .set("queued.max.messages.kbytes", (prefetch_bytes >> 10).to_string())
        // Below it more is fetched.
        .set("queued.min.messages", prefetch_records.to_string())
        .set(FETCH_SETTING, fetch_bytes.to_string())
        .set("fetch.queue.backoff.ms", PREFETCH_PAUSE)
        // The end of a partition is told by an empty answer, which the broker holds back this long.
        .set("fetch.wait.max.ms", "100")
        .set("fetch.error.backoff.ms", "100");
    for (key, value) in &options.properties {
        // Of two names of one setting the client takes either.
        config.set(if key == "max.partition.fetch.bytes" { FETCH_SETTING } else { key }, value.reveal());
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
    config
}

/// Makes a consumer for about `partitions` partitions. Connects to nobody yet.
pub(super) fn consumer(options: &KafkaSourceOptions, partitions: usize) -> Result<Arc<Consumer>> {
    let has_group = options.group_id.is_some();
    let context = Context { tokens: options.tokens.clone(), has_group, heard: Mutex::default() };
    match settings(options, partitions).create_with_context(context) {
        Ok(client) => Ok(Arc::new(client)),
        // Nobody was asked yet: it is about the settings, such as a file that is not there.
        Err(KafkaError::ClientCreation(reason)) => Err(Error::Invalid {
            message: format!("the client refuses its settings: {reason}; check the options `properties.*`"),
        }),
        Err(error) => Err(failed(options, "make a client", None, &error)),
    }
}

/// Asks brokers what `ask` asks within a time, for as long as `broker_timeout` allows, but no longer than until they,
/// or a token endpoint, refuse it.
pub(super) fn patiently<T>(
    options: &KafkaSourceOptions,
    client: &Consumer,
    action: &str,
    ask: impl Fn(Duration) -> KafkaResult<T>,
) -> Result<T> {
    let started = Instant::now();
    let mut wait = FIRST_WAIT;
    loop {
        hear(client, HEARING);
        let left = options.timeout.saturating_sub(started.elapsed());
        let error = match ask(wait.min(left)) {
            Ok(answer) => {
                client.context().recovered();
                return Ok(answer);
            }
            Err(error) => error,
        };
        hear(client, HEARING_FAILED);
        let is_refused = client.context().heard().refusal().is_some();
        if is_refused || !may_come(&error) || started.elapsed() >= options.timeout {
            return Err(failed(options, action, Some(client.context()), &error));
        }
        wait *= 2;
    }
}

/// Takes what the client says by itself.
fn hear(client: &Consumer, how_long: Duration) {
    // The errors are with the context by then.
    while client.poll(how_long).is_some() {}
}

/// Whether an answer is only late.
fn may_come(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{BrokerTransportFailure, OperationTimedOut, WaitingForCoordinator};
    matches!(error.rdkafka_error_code(), Some(BrokerTransportFailure | OperationTimedOut | WaitingForCoordinator))
}

/// The situation that an error of the client is.
pub(super) fn failed(
    options: &KafkaSourceOptions,
    action: &str,
    context: Option<&Context>,
    error: &KafkaError,
) -> Error {
    let heard = context.map(|context| context.heard().clone()).unwrap_or_default();
    let (brokers, action) = (options.bootstrap_servers.clone(), action.to_owned());
    let own = error.rdkafka_error_code();
    if let Some(code) = own.filter(|code| is_refusal(*code)) {
        return Error::BrokerDenied { brokers, action, reason: code.to_string() };
    }
    if let Some(refusal) = heard.refusal() {
        return Error::BrokerDenied { brokers, action, reason: refusal };
    }
    let reason = heard.reason().unwrap_or_else(|| own.map_or_else(|| error.to_string(), |code| code.to_string()));
    Error::Broker { brokers, action, reason }
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
