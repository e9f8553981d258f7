//! Asking a registry over HTTP.
//!
//! Nothing is asked twice here: an epoch that fails for what may come back is tried again as a whole.

use std::collections::HashSet;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use url::Url;

use super::options::{Credentials, SchemaRegistryOptions};
use super::{ReferredSchema, RegisteredSchema, SchemaId, SchemaLanguage};
use crate::http::{body, told};
use crate::{Error, Result};

/// Bytes of an answer, at most.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// Schemas that one may refer to, however far.
const REFERENCES_MAX: usize = 1_000;

#[derive(Debug)]
pub(super) struct RegistryClient {
    client: reqwest::Client,
    url: Url,
    credentials: Option<Credentials>,
}

/// A schema as a registry answers it.
#[derive(Debug, Deserialize)]
struct Answer {
    schema: String,
    #[serde(rename = "schemaType", default)]
    language: SchemaLanguage,
    #[serde(default)]
    references: Vec<Reference>,
}

#[derive(Debug, Clone, Deserialize)]
struct Reference {
    name: String,
    subject: String,
    version: u64,
}

/// What a registry says when it cannot answer.
#[derive(Debug, Deserialize)]
struct Refusal {
    error_code: u64,
}

impl RegistryClient {
    pub(super) fn new(options: &SchemaRegistryOptions) -> Result<Self> {
        let client = reqwest::Client::builder().timeout(options.timeout).build();
        let client = client.map_err(|error| Error::Invalid {
            message: format!("cannot make a client for schema registry `{}`: {}", options.url(), told(&error)),
        })?;
        Ok(Self { client, url: options.url.clone(), credentials: options.credentials.clone() })
    }

    pub(super) fn url(&self) -> &str {
        self.url.as_str()
    }

    /// The schema of a number.
    pub(super) async fn schema(&self, id: SchemaId) -> Result<Option<RegisteredSchema>> {
        let action = format!("ask for schema {}", id.0);
        self.registered(&["schemas", "ids", &id.0.to_string()], &action).await
    }

    /// The newest schema of a subject.
    pub(super) async fn newest(&self, subject: &str) -> Result<Option<RegisteredSchema>> {
        let action = format!("ask for the newest schema of subject `{subject}`");
        self.registered(&["subjects", subject, "versions", "latest"], &action).await
    }

    async fn registered(&self, path: &[&str], action: &str) -> Result<Option<RegisteredSchema>> {
        let Some(Answer { schema, language, references }) = self.get(path, action).await? else { return Ok(None) };
        let references = self.referred(references).await?;
        Ok(Some(RegisteredSchema { language, schema, references }))
    }

    /// The schemas behind references and behind theirs, those that are referred to first.
    async fn referred(&self, references: Vec<Reference>) -> Result<Vec<ReferredSchema>> {
        let (mut found, mut seen) = (Vec::new(), HashSet::new());
        // Those at hand, and the schemas that wait for them.
        let mut open: Vec<(Reference, Option<String>)> =
            references.into_iter().rev().map(|reference| (reference, None)).collect();
        while let Some((reference, text)) = open.pop() {
            if let Some(schema) = text {
                found.push(ReferredSchema { name: reference.name, schema });
                continue;
            }
            if !seen.insert((reference.name.clone(), reference.subject.clone(), reference.version)) {
                continue;
            }
            let Reference { subject, version, .. } = &reference;
            let action = format!("ask for version {version} of subject `{subject}`");
            if seen.len() > REFERENCES_MAX {
                let reason = format!("a schema refers to more than {REFERENCES_MAX} others");
                return Err(self.unexpected(&action, &reason));
            }
            let answer: Option<Answer> =
                self.get(&["subjects", subject, "versions", &version.to_string()], &action).await?;
            let Some(answer) = answer else {
                return Err(self.unexpected(&action, "a schema refers to it, and it is not there"));
            };
            open.push((reference, Some(answer.schema)));
            open.extend(answer.references.into_iter().rev().map(|reference| (reference, None)));
        }
        Ok(found)
    }

    /// Asks; `None` where the registry says that there is no such thing.
    async fn get<T: DeserializeOwned>(&self, path: &[&str], action: &str) -> Result<Option<T>> {
        let mut url = self.url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        let request = self.client.get(url).header("Accept", "application/vnd.schemaregistry.v1+json, application/json");
        let request = match &self.credentials {
            None => request,
            Some(Credentials::Basic { username, password }) => request.basic_auth(username, Some(password.reveal())),
            Some(Credentials::Bearer(token)) => request.bearer_auth(token.reveal()),
        };
        let response = request.send().await.map_err(|error| self.unavailable(action, told(&error)))?;
        let status = response.status();
        let body = body(response, ANSWER_BYTES_MAX).await.map_err(|error| self.unavailable(action, told(&error)))?;
        let Some(body) = body else {
            return Err(self.unexpected(action, &format!("its answer is longer than {ANSWER_BYTES_MAX} bytes")));
        };
        match status.as_u16() {
            200..=299 => match serde_json::from_slice(&body) {
                Ok(answer) => Ok(Some(answer)),
                Err(_) => Err(self.unexpected(action, "its answer is none of a schema registry")),
            },
            401 | 403 => Err(Error::RegistryDenied { url: self.url().to_owned(), status: status.as_u16() }),
            // Any web server answers 404; only a registry says 40401, 40402 or 40403 with it.
            404 => match serde_json::from_slice::<Refusal>(&body) {
                Ok(Refusal { error_code: 40_401..=40_403 }) => Ok(None),
                _ => Err(self.unexpected(action, "it answered 404, but not as a schema registry does")),
            },
            code => Err(self.unavailable(action, format!("it answered {code}"))),
        }
    }

    fn unavailable(&self, action: &str, reason: String) -> Error {
        Error::Registry { url: self.url().to_owned(), action: action.to_owned(), reason }
    }

    fn unexpected(&self, action: &str, reason: &str) -> Error {
        Error::Invalid {
            message: format!("cannot {action} at schema registry `{}`: {reason}; check `schema_registry`", self.url()),
        }
    }
}
