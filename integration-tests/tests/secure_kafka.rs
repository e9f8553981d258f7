//! Apache Kafka that asks who comes, by SASL, certificates and tokens: who is let in, and what is told where it refuses.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use bessemer_integration_tests::{
    Bessemer, Listening, Outcome, Permission, Pipeline, RealKafka, SecureListener, TokenEndpoint, send, wait_until,
};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};

/// The password of `reader`; nothing may ever show it.
const PASSWORD: &str = "reader-secret";
/// A refusal is told long before `broker_timeout`, which is 30 s, even on a busy machine.
const SOON: Duration = Duration::from_secs(25);
/// How long tokens live that do not end in a test.
const HOUR_SECONDS: u32 = 3_600;

/// A broker that asks who comes. `reader` may read topic `numbers` and see topic `seen`, and use group `allowed`.
struct Secure {
    kafka: RealKafka,
    /// What `kafka.sh` puts there; the broker reads its certificates there, too.
    certificates: tempfile::TempDir,
}

fn kafka() -> Result<Option<&'static Secure>> {
    static KAFKA: LazyLock<Result<Option<Secure>>> = LazyLock::new(Secure::start);
    match &*KAFKA {
        Ok(kafka) => Ok(kafka.as_ref()),
        Err(error) => bail!("{error:#}"),
    }
}

/// The same, where the program can do TLS.
fn kafka_with_tls() -> Result<Option<&'static Secure>> {
    static HAS_TLS: LazyLock<Result<bool>> = LazyLock::new(has_tls);
    match &*HAS_TLS {
        Ok(true) => kafka(),
        Ok(false) => Ok(None),
        Err(error) => bail!("{error:#}"),
    }
}

/// Asks the program, which must say how to come by one that can where it cannot.
fn has_tls() -> Result<bool> {
    let probe = Pipeline::new(&definition("127.0.0.1:1", "numbers", "properties.security.protocol = 'SSL'"))?;
    let outcome = Bessemer::find()?.call(["check", &probe.path()])?;
    if outcome.code == Some(0) {
        return Ok(true);
    }
    outcome.expect_code(2)?;
    for words in ["needs TLS, which this build of Bessemer lacks", "--features kafka-tls"] {
        ensure!(outcome.stderr.contains(words), "`{words}` is not in: {}", outcome.stderr);
    }
    // Past what the test harness captures: nobody reads what a test says that ends well.
    writeln!(std::io::stderr(), "skipped what needs a program with TLS: test with `--features kafka-tls`")?;
    Ok(false)
}

/// What is wrong: the exit code, and words that the error has.
type Problem<'a> = (i32, &'a [&'a str]);

impl Secure {
    fn start() -> Result<Option<Self>> {
        let certificates = tempfile::tempdir()?;
        let Some(kafka) = RealKafka::start_secure(certificates.path())? else { return Ok(None) };
        for topic in ["numbers", "seen", "hidden"] {
            kafka.create_topic(topic, 1, &[])?;
            send_numbers(&kafka, topic, 0)?;
        }
        kafka.allow("reader", Permission::ReadGroup("allowed"))?;
        kafka.allow("reader", Permission::ReadTopic("numbers"))?;
        kafka.allow("reader", Permission::ReadTopic("growing"))?;
        kafka.allow("reader", Permission::DescribeTopic("seen"))?;
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", kafka.secure_servers(SecureListener::SaslPlaintext));
        config.set("security.protocol", "sasl_plaintext").set("sasl.mechanism", "PLAIN");
        config.set("sasl.username", "reader").set("sasl.password", PASSWORD);
        let reader: BaseConsumer = config.create()?;
        // Brokers learn of access lists by and by; this was the last one.
        wait_until("access lists", || {
            let metadata = reader.fetch_metadata(Some("seen"), Duration::from_secs(5));
            Ok(metadata.is_ok_and(|metadata| metadata.topics().iter().all(|topic| topic.error().is_none())))
        })?;
        Ok(Some(Self { kafka, certificates }))
    }

    fn certificate(&self, name: &str) -> String {
        self.certificates.path().join(name).display().to_string()
    }

    /// Options of TLS, and more.
    fn tls(&self, protocol: &str, more: &str) -> String {
        let authority = self.certificate("ca.pem");
        format!("properties.security.protocol = '{protocol}', properties.ssl.ca.location = '{authority}'{more}")
    }

    /// Options of TLS and a mechanism with a password.
    fn sasl_tls(&self, mechanism: &str) -> String {
        let who = format!(
            ", properties.sasl.mechanism = '{mechanism}', properties.sasl.username = 'reader',
             properties.sasl.password = secret('KAFKA_PASSWORD')"
        );
        self.tls("SASL_SSL", &who)
    }

    /// Options of TLS and tokens.
    fn tokens(&self, url: &str) -> String {
        let who = format!(
            ", properties.sasl.mechanism = 'OAUTHBEARER', properties.sasl.oauthbearer.method = 'oidc',
             properties.sasl.oauthbearer.token.endpoint.url = '{url}',
             properties.sasl.oauthbearer.client.id = 'reader-id',
             properties.sasl.oauthbearer.client.secret = secret('KAFKA_PASSWORD'),
             properties.sasl.oauthbearer.scope = 'kafka'"
        );
        self.tls("SASL_SSL", &who)
    }

    fn run(&self, at: SecureListener, topic: &str, options: &str, password: &str) -> Result<(Pipeline, Outcome)> {
        run(&self.kafka.secure_servers(at), topic, options, password)
    }

    /// Runs, which must fail soon, and with nothing committed.
    fn expect_problem(
        &self,
        at: SecureListener,
        topic: &str,
        options: &str,
        password: &str,
        (code, words): Problem<'_>,
    ) -> Result<()> {
        let started = Instant::now();
        let (pipeline, outcome) = self.run(at, topic, options, password)?;
        outcome.expect_code(code)?;
        for words in words {
            ensure!(outcome.stderr.contains(words), "`{words}` is not in: {}", outcome.stderr);
        }
        ensure!(started.elapsed() < SOON, "it took {:?}", started.elapsed());
        ensure!(!outcome.stderr.contains(password), "a password was told");
        ensure!(!pipeline.folder().join("features").exists(), "something was committed");
        Ok(())
    }
}

/// Sends ten numbers.
fn send_numbers(kafka: &RealKafka, topic: &str, first: i64) -> Result<()> {
    let numbers = (first..first + 10).map(|number| format!(r#"{{"number": {number}}}"#));
    send(&kafka.producer(&[])?, topic, 0, numbers)
}

fn definition(servers: &str, topic: &str, options: &str) -> String {
    format!(
        "CREATE PIPELINE numbers;
         CREATE SOURCE numbers (number BIGINT NOT NULL)
         WITH (connector = 'kafka', bootstrap_servers = '{servers}', topic = '{topic}', format = 'json', {options});
         CREATE FEATURE SET seen WITH (path = 'features/seen') AS SELECT number FROM numbers;"
    )
}

fn run(servers: &str, topic: &str, options: &str, password: &str) -> Result<(Pipeline, Outcome)> {
    let pipeline = Pipeline::new(&definition(servers, topic, options))?;
    let bessemer = Bessemer::find()?.env("KAFKA_PASSWORD", password);
    let outcome = bessemer.call(["run", "-vv", &pipeline.path()])?;
    Ok((pipeline, outcome))
}

/// The ten numbers are there, and the password is in no file and no word.
fn expect_numbers((pipeline, outcome): &(Pipeline, Outcome)) -> Result<()> {
    outcome.expect_code(0)?;
    ensure!(pipeline.rows("seen")?.rows.len() == 10, "not all numbers were read");
    ensure!(!outcome.stdout.contains(PASSWORD) && !outcome.stderr.contains(PASSWORD), "the password was told");
    let explained = Bessemer::find()?.env("KAFKA_PASSWORD", PASSWORD).call(["explain", &pipeline.path()])?;
    ensure!(!explained.stdout.contains(PASSWORD), "the password was explained");
    for file in files(pipeline.folder())? {
        let bytes = fs::read(&file)?;
        let is_told = bytes.windows(PASSWORD.len()).any(|window| window == PASSWORD.as_bytes());
        ensure!(!is_told, "the password is in {}", file.display());
    }
    Ok(())
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { found.append(&mut files(&path)?) } else { found.push(path) }
    }
    Ok(found)
}

/// Options of a name, and more.
fn plain(user: &str, more: &str) -> String {
    format!(
        "properties.security.protocol = 'SASL_PLAINTEXT', properties.sasl.mechanism = 'PLAIN',
         properties.sasl.username = '{user}', properties.sasl.password = secret('KAFKA_PASSWORD'){more}"
    )
}

#[test]
fn a_name_and_a_password_read_and_no_password_is_shown() -> Result<()> {
    use SecureListener::SaslPlaintext;
    let Some(secure) = kafka()? else { return Ok(()) };
    expect_numbers(&secure.run(SaslPlaintext, "numbers", &plain("reader", ""), PASSWORD)?)?;
    let with_group = plain("reader", ", group_id = 'allowed'");
    expect_numbers(&secure.run(SaslPlaintext, "numbers", &with_group, PASSWORD)?)
}

#[test]
fn a_wrong_password_is_told_as_such_and_soon() -> Result<()> {
    let Some(secure) = kafka()? else { return Ok(()) };
    let problem = (2, &["no permission", "Authentication failed"][..]);
    secure.expect_problem(SecureListener::SaslPlaintext, "numbers", &plain("reader", ""), "swordfish", problem)
}

#[test]
fn what_somebody_may_not_do_is_named() -> Result<()> {
    use SecureListener::SaslPlaintext;
    let Some(secure) = kafka()? else { return Ok(()) };
    let problem = (2, &["no permission to read topic `hidden`"][..]);
    secure.expect_problem(SaslPlaintext, "hidden", &plain("stranger", ""), "stranger-secret", problem)?;
    let problem = (2, &["no permission to read partition 0 of `seen`"][..]);
    secure.expect_problem(SaslPlaintext, "seen", &plain("reader", ""), PASSWORD, problem)?;
    let problem = (2, &["no permission to", "group `forbidden`"][..]);
    let with_group = plain("reader", ", group_id = 'forbidden'");
    secure.expect_problem(SaslPlaintext, "numbers", &with_group, PASSWORD, problem)
}

#[test]
fn who_does_not_say_that_brokers_want_more_is_told_what_that_may_be() -> Result<()> {
    let Some(secure) = kafka()? else { return Ok(()) };
    for listener in [SecureListener::Elsewhere, SecureListener::SaslTls, SecureListener::SaslPlaintext] {
        // How the end of a connection is seen depends on when it comes.
        let problem = (3, &["properties.security.protocol"][..]);
        secure.expect_problem(listener, "numbers", "broker_timeout = '1s'", PASSWORD, problem)?;
    }
    Ok(())
}

#[test]
fn every_mechanism_reads_over_tls() -> Result<()> {
    use SecureListener::SaslTls;
    let Some(secure) = kafka_with_tls()? else { return Ok(()) };
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        expect_numbers(&secure.run(SaslTls, "numbers", &secure.sasl_tls(mechanism), PASSWORD)?)?;
    }
    let endpoint = TokenEndpoint::start(HOUR_SECONDS)?;
    expect_numbers(&secure.run(SaslTls, "numbers", &secure.tokens(endpoint.url()), PASSWORD)?)
}

#[test]
fn wrong_credentials_are_told_over_tls_too() -> Result<()> {
    use SecureListener::SaslTls;
    let Some(secure) = kafka_with_tls()? else { return Ok(()) };
    let problem = (2, &["no permission", "Authentication failed"][..]);
    secure.expect_problem(SaslTls, "numbers", &secure.sasl_tls("PLAIN"), "swordfish", problem)?;
    for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let problem = (2, &["no permission", "Authentication failed"][..]);
        secure.expect_problem(SaslTls, "numbers", &secure.sasl_tls(mechanism), "swordfish", problem)?;
    }
    let endpoint = TokenEndpoint::start(HOUR_SECONDS)?;
    let problem = (2, &["no token from `http://127.0.0.1", "it answered 401", "client.secret"][..]);
    secure.expect_problem(SaslTls, "numbers", &secure.tokens(endpoint.url()), "swordfish", problem)
}

#[test]
fn a_certificate_says_who_comes() -> Result<()> {
    use SecureListener::ClientCertificate;
    let Some(secure) = kafka_with_tls()? else { return Ok(()) };
    let own = format!(
        ", properties.ssl.certificate.location = '{}', properties.ssl.key.location = '{}',
         properties.ssl.key.password = secret('KAFKA_PASSWORD')",
        secure.certificate("reader.pem"),
        secure.certificate("reader.key")
    );
    let options = secure.tls("SSL", &own);
    let (pipeline, outcome) = secure.run(ClientCertificate, "numbers", &options, "key-secret")?;
    expect_numbers(&(pipeline, outcome))?;
    let problem = (2, &["no permission to read topic `hidden`"][..]);
    secure.expect_problem(ClientCertificate, "hidden", &options, "key-secret", problem)?;
    let problem = (2, &["the client refuses its settings", "ssl.key.location"][..]);
    secure.expect_problem(ClientCertificate, "numbers", &options, "swordfish", problem)?;
    // The broker tells it after the handshake, as if the connection had failed.
    let problem = (3, &["alert bad certificate"][..]);
    let without = secure.tls("SSL", ", broker_timeout = '1s'");
    secure.expect_problem(ClientCertificate, "numbers", &without, PASSWORD, problem)
}

#[test]
fn a_certificate_that_cannot_be_trusted_is_told_as_such_and_soon() -> Result<()> {
    use SecureListener::{Elsewhere, SaslTls};
    let Some(secure) = kafka_with_tls()? else { return Ok(()) };
    let right = secure.sasl_tls("PLAIN");
    let problem = (2, &["certificate verify failed", "signed by an authority"][..]);
    secure.expect_problem(SaslTls, "numbers", &right.replace("/ca.pem", "/other-ca.pem"), PASSWORD, problem)?;
    let problem = (2, &["the client refuses its settings", "ssl.ca.location"][..]);
    secure.expect_problem(SaslTls, "numbers", &right.replace("/ca.pem", "/no-ca.pem"), PASSWORD, problem)?;
    let problem = (2, &["certificate verify failed", "for the host that `bootstrap_servers`"][..]);
    secure.expect_problem(Elsewhere, "numbers", &secure.tls("SSL", ""), PASSWORD, problem)?;
    let trusting = secure.tls("SSL", ", properties.ssl.endpoint.identification.algorithm = 'none'");
    expect_numbers(&secure.run(Elsewhere, "numbers", &trusting, PASSWORD)?)
}

#[test]
fn who_wants_tls_where_there_is_none_is_told_so() -> Result<()> {
    let Some(secure) = kafka_with_tls()? else { return Ok(()) };
    let problem = (3, &["SSL handshake failed", "connecting to a PLAINTEXT broker listener?"][..]);
    let options = secure.sasl_tls("PLAIN") + ", broker_timeout = '1s'";
    secure.expect_problem(SecureListener::SaslPlaintext, "numbers", &options, PASSWORD, problem)
}

#[test]
fn a_token_endpoint_that_is_away_may_come_back() -> Result<()> {
    let Some(secure) = kafka_with_tls()? else { return Ok(()) };
    let options = secure.tokens("http://127.0.0.1:1/token") + ", broker_timeout = '1s'";
    let problem = (3, &["no token from `http://127.0.0.1:1/token`"][..]);
    secure.expect_problem(SecureListener::SaslTls, "numbers", &options, PASSWORD, problem)
}

#[test]
fn a_daemon_outlives_its_tokens() -> Result<()> {
    let Some(secure) = kafka_with_tls()? else { return Ok(()) };
    secure.kafka.create_topic("growing", 1, &[])?;
    send_numbers(&secure.kafka, "growing", 0)?;
    let endpoint = TokenEndpoint::start(1)?;
    let servers = secure.kafka.secure_servers(SecureListener::SaslTls);
    let pipeline = Pipeline::new(&definition(&servers, "growing", &secure.tokens(endpoint.url())))?;
    let bessemer = Bessemer::find()?.env("KAFKA_PASSWORD", PASSWORD);
    let daemon = bessemer.start_listening(["daemon", &pipeline.path(), "--listen", "127.0.0.1:0"])?;
    let daemon = Listening::wait(daemon, "listening url=http://")?;
    // A file may be there in part.
    let rows = |rows| Ok(pipeline.rows("seen").is_ok_and(|seen| seen.rows.len() == rows));
    wait_until("the first numbers", || rows(10))?;
    let given = endpoint.given();
    wait_until("other tokens", || Ok(endpoint.given() > given + 2))?;
    send_numbers(&secure.kafka, "growing", 10)?;
    wait_until("the other numbers", || rows(20))?;
    let (status, said) = daemon.stop()?;
    ensure!(status.success(), "{status}: {said}");
    Ok(())
}
