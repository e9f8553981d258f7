//! The options of a schema registry, from `WITH (…)`.

use std::time::Duration;

use bessemer_schemas::{Diagnostic, OptionMap, Secret};
use url::Url;

/// Where a registry is, and who asks.
#[derive(Debug, Clone)]
pub(crate) struct SchemaRegistryOptions {
    pub(super) url: Url,
    pub(super) credentials: Option<Credentials>,
    /// How long an answer may take.
    pub(super) timeout: Duration,
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Credentials {
    /// `schema_registry_username` and `schema_registry_password`.
    Basic { username: String, password: Secret },
    /// `schema_registry_token`.
    Bearer(Secret),
}

impl SchemaRegistryOptions {
    /// Takes `schema_registry` and what belongs to it out of `options`; problems are reported there.
    pub(crate) fn take(options: &mut OptionMap, timeout: Duration) -> Option<Self> {
        let span = options.entries().iter().find(|entry| entry.key == "schema_registry").map(|entry| entry.value_span);
        let text = options.take_text("schema_registry");
        let username = options.take_text("schema_registry_username");
        let password = options.take_secret("schema_registry_password");
        let token = options.take_secret("schema_registry_token");
        let problem = |options: &mut OptionMap, message: &str, help: &str| {
            let span = span.unwrap_or(options.owner_span());
            options.report(Diagnostic::error(message, span).with_help(help));
        };
        let credentials = match (username, password, token) {
            (None, None, None) => None,
            (Some(username), Some(password), None) => Some(Credentials::Basic { username, password }),
            (None, None, Some(token)) => Some(Credentials::Bearer(token)),
            _ => {
                let help =
                    "write `schema_registry_username` and `schema_registry_password`, or `schema_registry_token`";
                problem(options, "it is not clear who asks the schema registry", help);
                None
            }
        };
        let Some(text) = text else {
            if credentials.is_some() {
                let message = "there are credentials, and no schema registry to show them to";
                problem(options, message, "add `schema_registry = 'http://…'`, or leave them out");
            }
            return None;
        };
        match parse_url(&text) {
            Ok(url) => Some(Self { url, credentials, timeout }),
            Err(reason) => {
                let help = "write for example `schema_registry = 'http://localhost:8081'`";
                problem(options, &format!("option `schema_registry` is no address: {reason}"), help);
                None
            }
        }
    }

    /// The address.
    pub(crate) fn url(&self) -> &str {
        self.url.as_str()
    }
}

fn parse_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| error.to_string())?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("`{}://` is not `http://` or `https://`", url.scheme()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("credentials do not belong in it: there are options for them".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("a query (`?`) or fragment (`#`) has no place in it".to_owned());
    }
    Ok(url)
}
