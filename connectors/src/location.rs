//! Where objects are: a URL or path, resolved to a store and a prefix in it.

mod client;
mod options;

use std::path::{Component, Path as FsPath, PathBuf};
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use url::Url;

pub use options::StoreOptions;

use crate::{Error, Result};

/// A folder of objects: a store, a prefix in it, and, for local disk, the folder itself.
#[derive(Debug, Clone)]
pub struct Location {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    local: Option<PathBuf>,
    text: String,
    is_http: bool,
}

impl Location {
    /// Resolves `text`: a path (relative ones against `base`), `file://`, `s3://`, `s3a://`, `gs://`, `az://`, `abfs://`,
    /// `abfss://`, `http://`, `https://`. Touches no network; a local folder need not exist.
    pub fn parse(text: &str, base: &FsPath, options: &StoreOptions) -> Result<Self> {
        match scheme(text) {
            None => Self::local(&base.join(text)),
            Some("file") => Self::local(&file_path(text)?),
            Some("s3" | "s3a" | "gs" | "az" | "abfs" | "abfss" | "http" | "https") => Self::remote(text, options),
            Some(scheme) => Err(bad(
                text,
                format!(
                    "`{scheme}://` is no store that Bessemer knows: write a path, or `s3://`, `gs://`, `az://`, `abfss://`, \
                     `http://`, `https://`"
                ),
            )),
        }
    }

    /// A folder on local disk, which need not exist; object paths are relative to it.
    pub fn local(folder: &FsPath) -> Result<Self> {
        let folder = std::path::absolute(folder).map_err(|source| Error::disk("find", folder, source))?;
        let folder = without_dots(&folder);
        let text = folder.display().to_string();
        let spelled = folder.to_str().ok_or_else(|| bad(&text, "its name is not UTF-8"))?;
        let prefix = Path::parse(spelled).map_err(|error| bad(&text, error.to_string()))?;
        Ok(Self { store: Arc::new(LocalFileSystem::new()), prefix, local: Some(folder), text, is_http: false })
    }

    /// A prefix in a store made elsewhere (in memory, or wrapped to fail on purpose).
    pub fn in_store(store: Arc<dyn ObjectStore>, prefix: Path) -> Self {
        let text = format!("{store}/{prefix}");
        Self { store, prefix, local: None, text, is_http: false }
    }

    /// The store.
    pub fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    /// The prefix in the store.
    pub fn prefix(&self) -> &Path {
        &self.prefix
    }

    /// The folder, if this is local disk.
    pub fn local_folder(&self) -> Option<&FsPath> {
        self.local.as_deref()
    }

    /// Whether this is a plain web server: read-only, and it lists nothing.
    pub fn is_http(&self) -> bool {
        self.is_http
    }

    /// For messages: never contains a credential.
    pub fn as_text(&self) -> &str {
        &self.text
    }

    /// The full path in the store of `relative` (which may contain `/`), spelled as it is: an object is named as the
    /// store names it. What no store accepts (`..`, control characters) is percent-encoded.
    pub fn path(&self, relative: &str) -> Path {
        let parts = || relative.split('/').filter(|part| !part.is_empty());
        let joined = std::iter::once(self.prefix.as_ref()).filter(|part| !part.is_empty()).chain(parts());
        Path::parse(joined.collect::<Vec<_>>().join("/"))
            .unwrap_or_else(|_| parts().fold(self.prefix.clone(), Path::join))
    }

    /// A folder below this one.
    #[must_use]
    pub fn child(&self, relative: &str) -> Self {
        Self {
            store: Arc::clone(&self.store),
            prefix: self.path(relative),
            local: self.local.as_ref().map(|folder| folder.join(relative)),
            text: format!("{}/{relative}", self.text.trim_end_matches('/')),
            is_http: self.is_http,
        }
    }

    fn remote(text: &str, options: &StoreOptions) -> Result<Self> {
        let url = Url::parse(text).map_err(|error| bad(text, error.to_string()))?;
        if url.query().is_some() || url.fragment().is_some() {
            let text = text.split(['?', '#']).next().unwrap_or(text);
            return Err(bad(text, "a query (`?`) or fragment (`#`) is not part of an object's name"));
        }
        if url.password().is_some() {
            let reason = "credentials do not belong in a URL: use the environment or options";
            return Err(bad(&text_without_credentials(&url), reason));
        }
        let store = client::connect(&url, options)?;
        let is_http = matches!(url.scheme(), "http" | "https");
        let prefix = if is_http { Path::from_url_path(url.path()) } else { Path::parse(key(text)) };
        let prefix = prefix.map_err(|error| bad(&text_without_credentials(&url), error.to_string()))?;
        let text = if is_http { text_without_credentials(&url) } else { text.to_owned() };
        Ok(Self { store, prefix, local: None, text: text.trim_end_matches('/').to_owned(), is_http })
    }
}

/// What follows the bucket in its URL. It is a key as it stands: `%3A` in it is no escape, since `hour=10%3A00` is a name
/// that Hive gives a folder.
fn key(url: &str) -> &str {
    let (_, rest) = url.split_once("://").unwrap_or(("", url));
    rest.split_once('/').map_or("", |(_, key)| key.trim_matches('/'))
}

/// The scheme of `text`, if it is a URL: `s3` of `s3://bucket`. A drive letter or a colon in a file name is none.
pub(crate) fn scheme(text: &str) -> Option<&str> {
    let (scheme, _) = text.split_once("://")?;
    let is_scheme = scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
    (is_scheme && !scheme.is_empty()).then_some(scheme)
}

fn file_path(text: &str) -> Result<PathBuf> {
    let rest = text.strip_prefix("file://").unwrap_or(text);
    let path = rest.strip_prefix("localhost").filter(|path| path.starts_with('/')).unwrap_or(rest);
    if !path.starts_with('/') {
        return Err(bad(
            text,
            "a `file://` URL has an absolute path, `file:///data/flights`; a plain path may be relative",
        ));
    }
    Ok(PathBuf::from(path))
}

/// Takes `.` and `..` out of a path by its text alone: a store's paths have neither.
fn without_dots(path: &FsPath) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut plain, component| {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                plain.pop();
            }
            other => plain.push(other),
        }
        plain
    })
}

fn text_without_credentials(url: &Url) -> String {
    if url.password().is_none() {
        return url.to_string();
    }
    let mut url = url.clone();
    // Fails only for URLs that cannot have a password, and this one has.
    if url.set_password(Some("***")).is_err() {
        return url.scheme().to_owned();
    }
    url.to_string()
}

fn bad(location: &str, reason: impl Into<String>) -> Error {
    Error::BadLocation { location: location.to_owned(), reason: reason.into() }
}

#[cfg(test)]
mod tests;
