//! Tokens for OAUTHBEARER: the client credentials grant of OAuth 2.0 (RFC 6749, section 4.4).
//!
//! librdkafka can ask for them itself, but needs libcurl for it; here the HTTP client asks that is there anyway.

use std::path::PathBuf;
use std::time::Duration;

use bessemer_schemas::{Diagnostic, OptionEntry, OptionMap, Secret};
use serde::Deserialize;
use url::Url;

use super::security::revealed;
use crate::http::{body, told};

/// What the options begin with.
const PREFIX: &str = "properties.sasl.oauthbearer.";
/// Options about the endpoint that do not.
const HTTPS_PREFIX: &str = "properties.https.";

/// How long a token lives of which the endpoint does not say it.
const LIFE: Duration = Duration::from_mins(5);

/// Bytes of an answer, at most.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// What says where tokens come from, and who asks for them.
const HELP: &str = "write `properties.sasl.oauthbearer.token.endpoint.url = 'https://…'`, \
                    `properties.sasl.oauthbearer.client.id = 'name'` and \
                    `properties.sasl.oauthbearer.client.secret = secret('NAME')`";

/// Where tokens come from, and who asks.
#[derive(Debug, Clone)]
pub(super) struct TokenEndpoint {
    url: Url,
    client_id: String,
    client_secret: Secret,
    scope: Option<String>,
    /// A file of authorities that the endpoint's certificate may be signed by, beside those of the system.
    authorities: Option<PathBuf>,
    /// How long it may take to answer.
    timeout: Duration,
}

/// What somebody shows for a while.
#[derive(Debug)]
pub(super) struct Token {
    pub(super) text: String,
    /// Who shows it.
    pub(super) client_id: String,
    pub(super) life: Duration,
}

/// Why there is no token.
#[derive(Debug, Clone)]
pub(super) struct NoToken {
    /// Whether the endpoint will say the same again.
    pub(super) is_refusal: bool,
    /// What it said; no credential.
    pub(super) reason: String,
}

/// RFC 6749, section 5.1.
#[derive(Deserialize)]
struct Answer {
    access_token: String,
    expires_in: Option<u64>,
}

/// The options as they are written.
#[derive(Default)]
struct Written {
    url: Option<Url>,
    client_id: Option<String>,
    client_secret: Option<Secret>,
    scope: Option<String>,
    authorities: Option<PathBuf>,
}

impl TokenEndpoint {
    /// Whether an option is one of those that it is made of, and none of the client's.
    pub(super) fn has_option(key: &str) -> bool {
        key.starts_with(PREFIX) || key.starts_with(HTTPS_PREFIX)
    }

    /// Makes it of those of `entries` that are about it; problems are reported.
    pub(super) fn take(options: &mut OptionMap, entries: &[OptionEntry], timeout: Duration) -> Option<Self> {
        let mut written = Written::default();
        let mut is_sound = true;
        for entry in entries.iter().filter(|entry| Self::has_option(&entry.key)) {
            if let Err((what, help)) = written.set(entry) {
                is_sound = false;
                let message = format!("option `{}` {what}", entry.key);
                options.report(Diagnostic::error(message, entry.key_span).with_help(help));
            }
        }
        if !is_sound {
            return None;
        }
        let Written {
            url: Some(url),
            client_id: Some(client_id),
            client_secret: Some(client_secret),
            scope,
            authorities,
        } = written
        else {
            let message = "mechanism `OAUTHBEARER` needs to know where tokens come from, and who asks for them";
            options.report(Diagnostic::error(message, options.owner_span()).with_help(HELP));
            return None;
        };
        Some(Self { url, client_id, client_secret, scope, authorities, timeout })
    }

    /// Asks for a token; waits for it.
    pub(super) fn ask(&self) -> Result<Token, NoToken> {
        let ended = |_| self.unavailable("the question ended early");
        // On a thread of its own: the client wants a token wherever it is polled or ended, which may be where nobody may
        // wait for a future.
        std::thread::scope(|scope| scope.spawn(|| self.ask_here()).join().map_err(ended)?)
    }

    fn ask_here(&self) -> Result<Token, NoToken> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map_err(|error| self.unavailable(&error.to_string()))?.block_on(self.request())
    }

    async fn request(&self) -> Result<Token, NoToken> {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "client_credentials");
        if let Some(scope) = &self.scope {
            form.append_pair("scope", scope);
        }
        let request = self
            .client()?
            .post(self.url.clone())
            .basic_auth(&self.client_id, Some(self.client_secret.reveal()))
            .header("Content-Type", "application/x-www-form-urlencoded")
            .header("Accept", "application/json")
            .body(form.finish());
        let response = request.send().await.map_err(|error| self.unavailable(&told(&error)))?;
        let status = response.status().as_u16();
        let body = body(response, ANSWER_BYTES_MAX).await.map_err(|error| self.unavailable(&told(&error)))?;
        match status {
            200..=299 => {}
            408 | 429 | 500.. => return Err(self.unavailable(&format!("it answered {status}"))),
            _ => {
                let what = "check `properties.sasl.oauthbearer.client.id`, `….client.secret` and `….scope`";
                return Err(self.refused(&format!("it answered {status}; {what}")));
            }
        }
        let answer = body.and_then(|body| serde_json::from_slice::<Answer>(&body).ok());
        let Some(Answer { access_token: text, expires_in }) = answer else {
            return Err(self.refused("its answer is none of a token endpoint"));
        };
        let life = expires_in.map_or(LIFE, Duration::from_secs);
        Ok(Token { text, client_id: self.client_id.clone(), life })
    }

    fn client(&self) -> Result<reqwest::Client, NoToken> {
        let mut client = reqwest::Client::builder().timeout(self.timeout);
        if let Some(path) = &self.authorities {
            let unread = |error: &dyn std::fmt::Display| {
                self.refused(&format!("`{}` holds no certificates to read: {error}", path.display()))
            };
            let pem = std::fs::read(path).map_err(|error| unread(&error))?;
            for authority in reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| unread(&error))? {
                client = client.add_root_certificate(authority);
            }
        }
        client.build().map_err(|error| self.refused(&told(&error)))
    }

    fn unavailable(&self, reason: &str) -> NoToken {
        NoToken { is_refusal: false, reason: format!("no token from `{}`: {reason}", self.url) }
    }

    fn refused(&self, reason: &str) -> NoToken {
        NoToken { is_refusal: true, ..self.unavailable(reason) }
    }
}

impl Written {
    /// Takes one option; `Err` with what is wrong, and what to write instead.
    fn set(&mut self, entry: &OptionEntry) -> Result<(), (&'static str, &'static str)> {
        let value = revealed(entry);
        let text = value.reveal();
        match entry.key.strip_prefix("properties.").unwrap_or_default() {
            "sasl.oauthbearer.token.endpoint.url" => self.url = Some(address(text)?),
            "sasl.oauthbearer.client.id" | "sasl.oauthbearer.client.credentials.client.id" => {
                self.client_id = Some(text.to_owned());
            }
            "sasl.oauthbearer.client.secret" | "sasl.oauthbearer.client.credentials.client.secret" => {
                self.client_secret = Some(value);
            }
            "sasl.oauthbearer.scope" => self.scope = Some(text.to_owned()),
            "https.ca.location" => self.authorities = Some(PathBuf::from(text)),
            "sasl.oauthbearer.method" if text.eq_ignore_ascii_case("oidc") => {}
            "sasl.oauthbearer.method" => return Err(("cannot be this", "the only method is `'oidc'`")),
            "sasl.oauthbearer.grant.type" if text == "client_credentials" => {}
            "sasl.oauthbearer.grant.type" => {
                return Err(("cannot be this", "the only grant is `'client_credentials'`"));
            }
            _ => {
                let help = "tokens are asked for with `token.endpoint.url`, `client.id`, `client.secret` and `scope` \
                            after `properties.sasl.oauthbearer.`, and with `properties.https.ca.location`";
                return Err(("is not known here", help));
            }
        }
        Ok(())
    }
}

/// An address that may be shown.
fn address(text: &str) -> Result<Url, (&'static str, &'static str)> {
    let url = text.parse::<Url>().ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    let url = url.ok_or(("is no address", "write for example `'https://login.example.com/oauth2/token'`"))?;
    if url.username().is_empty() && url.password().is_none() { Ok(url) } else { Err(("has credentials in it", HELP)) }
}

#[cfg(test)]
mod tests {
    use bessemer_schemas::{OptionValue, Span};

    use super::*;

    fn take(written: &[(&str, &str)]) -> Result<TokenEndpoint, Vec<String>> {
        let entry = |(key, value): &(&str, &str)| OptionEntry {
            key: format!("properties.{key}"),
            key_span: Span::default(),
            value: OptionValue::Text((*value).to_owned()),
            value_span: Span::default(),
        };
        let entries: Vec<_> = written.iter().map(entry).collect();
        let mut options = OptionMap::new("source `flights`", Span::default(), Vec::new());
        let taken = TokenEndpoint::take(&mut options, &entries, LIFE);
        let diagnostics = options.finish("connector `kafka`");
        assert!(diagnostics.iter().all(|diagnostic| diagnostic.help.is_some()));
        taken.ok_or_else(|| diagnostics.into_iter().map(|diagnostic| diagnostic.message).collect())
    }

    #[test]
    fn both_names_of_a_client_are_known_and_nobody_is_shown_its_secret() {
        let url = ("sasl.oauthbearer.token.endpoint.url", "https://login.example.com/token");
        for [id, secret] in [
            ["sasl.oauthbearer.client.id", "sasl.oauthbearer.client.secret"],
            ["sasl.oauthbearer.client.credentials.client.id", "sasl.oauthbearer.client.credentials.client.secret"],
        ] {
            let method = ("sasl.oauthbearer.method", "OIDC");
            let taken = take(&[url, (id, "reader"), (secret, "swordfish"), method]).unwrap();
            assert_eq!((taken.client_id.as_str(), taken.client_secret.reveal()), ("reader", "swordfish"));
            assert!(!format!("{taken:?}").contains("swordfish"));
        }
    }

    #[test]
    fn problems_are_told_at_their_options() {
        let needs = "mechanism `OAUTHBEARER` needs to know where tokens come from, and who asks for them";
        for (key, value, message) in [
            ("method", "default", "option `properties.sasl.oauthbearer.method` cannot be this"),
            ("grant.type", "password", "option `properties.sasl.oauthbearer.grant.type` cannot be this"),
            ("token.endpoint.url", "login", "option `properties.sasl.oauthbearer.token.endpoint.url` is no address"),
            (
                "token.endpoint.url",
                "http://me:swordfish@login",
                "option `properties.sasl.oauthbearer.token.endpoint.url` has credentials in it",
            ),
            ("extensions", "a=b", "option `properties.sasl.oauthbearer.extensions` is not known here"),
            ("client.id", "reader", needs),
        ] {
            assert_eq!(take(&[(&format!("sasl.oauthbearer.{key}"), value)]).unwrap_err(), [message]);
        }
    }
}
