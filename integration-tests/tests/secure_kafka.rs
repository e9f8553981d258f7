//! Apache Kafka that asks who comes, by SASL: who is let in, and what is told where it refuses.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use bessemer_integration_tests::{Bessemer, Outcome, Permission, Pipeline, RealKafka, send, wait_until};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};

/// The password of `reader`; nothing may ever show it.
const PASSWORD: &str = "reader-secret";
/// A refusal is told long before `broker_timeout`, which is 30 s, even on a busy machine.
const SOON: Duration = Duration::from_secs(25);

/// A broker that asks who comes. `reader` may read topic `numbers` and see topic `seen`, and use group `allowed`.
struct Secure {
    kafka: RealKafka,
    /// The broker reads its certificate there.
    _certificates: tempfile::TempDir,
}

fn kafka() -> Result<Option<&'static Secure>> {
    static KAFKA: LazyLock<Result<Option<Secure>>> = LazyLock::new(Secure::start);
    match &*KAFKA {
        Ok(kafka) => Ok(kafka.as_ref()),
        Err(error) => bail!("{error:#}"),
    }
}

impl Secure {
    fn start() -> Result<Option<Self>> {
        let certificates = tempfile::tempdir()?;
        let Some(kafka) = RealKafka::start_secure(certificates.path())? else { return Ok(None) };
        for topic in ["numbers", "seen", "hidden"] {
            kafka.create_topic(topic, 1, &[])?;
            send(&kafka.producer(&[])?, topic, 0, (0..10).map(|number| format!(r#"{{"number": {number}}}"#)))?;
        }
        kafka.allow("reader", Permission::ReadGroup("allowed"))?;
        kafka.allow("reader", Permission::ReadTopic("numbers"))?;
        kafka.allow("reader", Permission::DescribeTopic("seen"))?;
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", kafka.sasl_servers()).set("security.protocol", "sasl_plaintext");
        config.set("sasl.mechanism", "PLAIN").set("sasl.username", "reader").set("sasl.password", PASSWORD);
        let reader: BaseConsumer = config.create()?;
        // Brokers learn of access lists by and by; this was the last one.
        wait_until("access lists", || {
            let metadata = reader.fetch_metadata(Some("seen"), Duration::from_secs(5));
            Ok(metadata.is_ok_and(|metadata| metadata.topics().iter().all(|topic| topic.error().is_none())))
        })?;
        Ok(Some(Self { kafka, _certificates: certificates }))
    }

    fn run(&self, topic: &str, options: &str, password: &str) -> Result<(Pipeline, Outcome)> {
        run(&self.kafka.sasl_servers(), topic, options, password)
    }

    /// Runs, which must be refused with these words, soon, and with nothing committed.
    fn expect_refusal(&self, topic: &str, options: &str, password: &str, words: &[&str]) -> Result<()> {
        let started = Instant::now();
        let (pipeline, outcome) = self.run(topic, options, password)?;
        outcome.expect_code(2)?;
        for words in words {
            ensure!(outcome.stderr.contains(words), "`{words}` is not in: {}", outcome.stderr);
        }
        ensure!(started.elapsed() < SOON, "it took {:?}", started.elapsed());
        ensure!(!outcome.stderr.contains(password), "a password was told");
        ensure!(!pipeline.folder().join("features").exists(), "something was committed");
        Ok(())
    }
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
    let Some(secure) = kafka()? else { return Ok(()) };
    expect_numbers(&secure.run("numbers", &plain("reader", ""), PASSWORD)?)?;
    expect_numbers(&secure.run("numbers", &plain("reader", ", group_id = 'allowed'"), PASSWORD)?)
}

#[test]
fn a_wrong_password_is_told_as_such_and_soon() -> Result<()> {
    let Some(secure) = kafka()? else { return Ok(()) };
    let words = ["no permission", "Authentication failed"];
    secure.expect_refusal("numbers", &plain("reader", ""), "swordfish", &words)
}

#[test]
fn what_somebody_may_not_do_is_named() -> Result<()> {
    let Some(secure) = kafka()? else { return Ok(()) };
    let words = ["no permission to read topic `hidden`"];
    secure.expect_refusal("hidden", &plain("stranger", ""), "stranger-secret", &words)?;
    let words = ["no permission to read partition 0 of `seen`"];
    secure.expect_refusal("seen", &plain("reader", ""), PASSWORD, &words)?;
    let words = ["no permission to", "group `forbidden`"];
    secure.expect_refusal("numbers", &plain("reader", ", group_id = 'forbidden'"), PASSWORD, &words)
}
