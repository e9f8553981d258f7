//! Options for the client of a store, as they stand in a definition.

use std::time::Duration;

use bessemer_schemas::{Diagnostic, OptionMap, OptionValue, Secret};

/// Longest time for one request to a store with all its repetitions: a bucket that never answers ends in an error
/// within it.
const STORE_TIMEOUT: Duration = Duration::from_mins(1);

/// Most repetitions of one request; the time-out ends most sooner.
const STORE_RETRY_MAX: u64 = 8;

/// Options for the client of a store. They go before the store's environment variables (`AWS_…`, `GOOGLE_…`, `AZURE_…`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreOptions {
    pub(super) aws: Vec<(String, Secret)>,
    pub(super) gcs: Vec<(String, Secret)>,
    pub(super) azure: Vec<(String, Secret)>,
    pub(super) http: Vec<(String, Secret)>,
    pub(super) timeout: Duration,
    pub(super) retry_max: usize,
}

impl Default for StoreOptions {
    fn default() -> Self {
        let retry_max = usize::try_from(STORE_RETRY_MAX).unwrap_or(0);
        Self { aws: vec![], gcs: vec![], azure: vec![], http: vec![], timeout: STORE_TIMEOUT, retry_max }
    }
}

impl StoreOptions {
    /// Takes `aws.*` (or `s3.*`), `gcs.*`, `azure.*` and `http.*`, `store_timeout` and `store_retry_max`. A key that the
    /// store's client does not know is reported with the nearest one.
    pub fn take(options: &mut OptionMap) -> Self {
        let timeout = options.take_duration("store_timeout").unwrap_or(STORE_TIMEOUT);
        let retry_max = options.take_u64("store_retry_max", 0).unwrap_or(STORE_RETRY_MAX);
        let mut aws = take_section(options, "aws.", super::client::aws_key);
        aws.extend(take_section(options, "s3.", super::client::aws_key));
        Self {
            aws,
            gcs: take_section(options, "gcs.", super::client::gcs_key),
            azure: take_section(options, "azure.", super::client::azure_key),
            http: take_section(options, "http.", super::client::http_key),
            timeout,
            retry_max: usize::try_from(retry_max).unwrap_or(usize::MAX),
        }
    }

    /// Adds one option by its full name, `aws.region`; later ones win. For programs and tests; a section or key that
    /// does not exist is ignored by no client and so refused when a store is made.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<String>) -> Self {
        let (section, key) = key.split_once('.').unwrap_or(("http", key));
        let entry = (key.to_owned(), Secret::new(value));
        match section {
            "aws" | "s3" => self.aws.push(entry),
            "gcs" => self.gcs.push(entry),
            "azure" => self.azure.push(entry),
            _ => self.http.push(entry),
        }
        self
    }

    /// Bounds one request with all its repetitions.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
}

/// Whether a key is known; if not, the keys to choose from.
pub(super) type KeyCheck = fn(&str) -> Result<(), &'static [&'static str]>;

fn take_section(options: &mut OptionMap, prefix: &'static str, check: KeyCheck) -> Vec<(String, Secret)> {
    let mut taken = Vec::new();
    for entry in options.take_prefix(prefix) {
        let key = entry.key.trim_start_matches(prefix).to_owned();
        match check(&key) {
            Ok(()) => {
                let value = match &entry.value {
                    OptionValue::Secret(secret) => secret.clone(),
                    plain => Secret::new(plain.to_string()),
                };
                taken.push((key, value));
            }
            Err(known) => {
                let message = format!("unknown option `{}` for {}", entry.key, options.owner());
                let help = match bessemer_schemas::nearest(&key, known.iter().copied()) {
                    Some(name) => format!("did you mean `{prefix}{name}`?"),
                    None => format!("some of the options are {}", listed(prefix, known)),
                };
                let label = "the store's client has no such option";
                options.report(Diagnostic::error(message, entry.key_span).with_label(label).with_help(help));
            }
        }
    }
    taken
}

fn listed(prefix: &str, keys: &[&str]) -> String {
    keys.iter().map(|key| format!("`{prefix}{key}`")).collect::<Vec<_>>().join(", ")
}
