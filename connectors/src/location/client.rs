//! The clients of the stores beyond local disk, behind the cargo feature `cloud`.

use std::sync::Arc;

use object_store::ObjectStore;
use url::Url;

use super::StoreOptions;
use crate::{Error, Result};

const AWS_KEYS: &[&str] = &[
    "access_key_id",
    "secret_access_key",
    "session_token",
    "region",
    "endpoint",
    "allow_http",
    "virtual_hosted_style_request",
    "skip_signature",
    "unsigned_payload",
    "checksum_algorithm",
    "request_payer",
    "s3_express",
    "conditional_put",
    "imdsv1_fallback",
    "metadata_endpoint",
    "timeout",
    "connect_timeout",
    "proxy_url",
];
const GCS_KEYS: &[&str] = &[
    "service_account_path",
    "service_account_key",
    "application_credentials",
    "base_url",
    "skip_signature",
    "allow_http",
    "timeout",
    "connect_timeout",
    "proxy_url",
];
const AZURE_KEYS: &[&str] = &[
    "account_name",
    "access_key",
    "sas_token",
    "bearer_token",
    "client_id",
    "client_secret",
    "tenant_id",
    "endpoint",
    "use_emulator",
    "use_azure_cli",
    "skip_signature",
    "allow_http",
    "timeout",
    "connect_timeout",
    "proxy_url",
];
const HTTP_KEYS: &[&str] =
    &["allow_http", "allow_invalid_certificates", "timeout", "connect_timeout", "proxy_url", "user_agent"];

#[cfg(feature = "cloud")]
pub(super) use cloud::connect;

/// Whether the client of S3 knows `key`.
pub(super) fn aws_key(key: &str) -> Result<(), &'static [&'static str]> {
    known(key, AWS_KEYS, parses::<keys::Aws>)
}

/// Whether the client of Google Cloud Storage knows `key`.
pub(super) fn gcs_key(key: &str) -> Result<(), &'static [&'static str]> {
    known(key, GCS_KEYS, parses::<keys::Gcs>)
}

/// Whether the client of Azure Blob Storage knows `key`.
pub(super) fn azure_key(key: &str) -> Result<(), &'static [&'static str]> {
    known(key, AZURE_KEYS, parses::<keys::Azure>)
}

/// Whether the client of web servers knows `key`.
pub(super) fn http_key(key: &str) -> Result<(), &'static [&'static str]> {
    known(key, HTTP_KEYS, parses::<keys::Http>)
}

fn known(key: &str, common: &'static [&'static str], parses: fn(&str) -> bool) -> Result<(), &'static [&'static str]> {
    if common.contains(&key) || parses(key) { Ok(()) } else { Err(common) }
}

fn parses<K: std::str::FromStr>(key: &str) -> bool {
    key.parse::<K>().is_ok()
}

#[cfg(feature = "cloud")]
mod keys {
    //! What the clients call their options.
    pub(super) use object_store::ClientConfigKey as Http;
    pub(super) use object_store::aws::AmazonS3ConfigKey as Aws;
    pub(super) use object_store::azure::AzureConfigKey as Azure;
    pub(super) use object_store::gcp::GoogleConfigKey as Gcs;
}

#[cfg(not(feature = "cloud"))]
mod keys {
    //! Without clients, the common names only: no location can use them anyway.
    pub(super) use Unknown as Aws;
    pub(super) use Unknown as Azure;
    pub(super) use Unknown as Gcs;
    pub(super) use Unknown as Http;

    /// No key.
    pub(super) enum Unknown {}

    impl std::str::FromStr for Unknown {
        type Err = ();

        fn from_str(_: &str) -> Result<Self, ()> {
            Err(())
        }
    }
}

/// A build without clients.
#[cfg(not(feature = "cloud"))]
pub(super) fn connect(_url: &Url, _options: &StoreOptions) -> Result<Arc<dyn ObjectStore>> {
    Err(Error::NotBuilt { what: "client for remote stores", feature: "cloud" })
}

#[cfg(feature = "cloud")]
mod cloud {
    use bessemer_schemas::Secret;
    use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
    use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
    use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
    use object_store::http::HttpBuilder;
    use object_store::{BackoffConfig, ClientConfigKey, RetryConfig};

    use super::{Arc, Error, ObjectStore, Result, StoreOptions, Url};

    /// Makes the client for `url`; touches no network.
    pub(in super::super) fn connect(url: &Url, options: &StoreOptions) -> Result<Arc<dyn ObjectStore>> {
        match url.scheme() {
            "s3" | "s3a" => s3(url, options),
            "gs" => google(url, options),
            "az" | "abfs" | "abfss" => azure(url, options),
            _ => http(url, options),
        }
    }

    fn s3(url: &Url, options: &StoreOptions) -> Result<Arc<dyn ObjectStore>> {
        let builder = AmazonS3Builder::from_env().with_url(url.as_str()).with_retry(retry(options));
        let (key, value) = request_timeout(options);
        let builder = builder.with_config(AmazonS3ConfigKey::Client(key), value);
        let builder = configured(url, &options.aws, builder, AmazonS3Builder::with_config)?;
        Ok(Arc::new(builder.build().map_err(|error| refused(url, &error))?))
    }

    fn google(url: &Url, options: &StoreOptions) -> Result<Arc<dyn ObjectStore>> {
        let builder = GoogleCloudStorageBuilder::from_env().with_url(url.as_str()).with_retry(retry(options));
        let (key, value) = request_timeout(options);
        let builder = builder.with_config(GoogleConfigKey::Client(key), value);
        let builder = configured(url, &options.gcs, builder, GoogleCloudStorageBuilder::with_config)?;
        Ok(Arc::new(builder.build().map_err(|error| refused(url, &error))?))
    }

    fn azure(url: &Url, options: &StoreOptions) -> Result<Arc<dyn ObjectStore>> {
        let builder = MicrosoftAzureBuilder::from_env().with_url(url.as_str()).with_retry(retry(options));
        let (key, value) = request_timeout(options);
        let builder = builder.with_config(AzureConfigKey::Client(key), value);
        let builder = configured(url, &options.azure, builder, MicrosoftAzureBuilder::with_config)?;
        Ok(Arc::new(builder.build().map_err(|error| refused(url, &error))?))
    }

    fn http(url: &Url, options: &StoreOptions) -> Result<Arc<dyn ObjectStore>> {
        let mut server = url.clone();
        server.set_path("/");
        let (key, value) = request_timeout(options);
        // The scheme says already that plain HTTP is meant.
        let builder = HttpBuilder::new()
            .with_url(server.as_str())
            .with_retry(retry(options))
            .with_config(ClientConfigKey::AllowHttp, "true")
            .with_config(key, value);
        let builder = configured(url, &options.http, builder, HttpBuilder::with_config)?;
        Ok(Arc::new(builder.build().map_err(|error| refused(url, &error))?))
    }

    /// Half of the time for the last request, half for all before it: together the bound that was asked for.
    fn retry(options: &StoreOptions) -> RetryConfig {
        RetryConfig {
            backoff: BackoffConfig::default(),
            max_retries: options.retry_max,
            retry_timeout: options.timeout / 2,
        }
    }

    fn request_timeout(options: &StoreOptions) -> (ClientConfigKey, String) {
        (ClientConfigKey::Timeout, format!("{}ms", (options.timeout / 2).as_millis()))
    }

    fn configured<B, K: std::str::FromStr>(
        url: &Url,
        entries: &[(String, Secret)],
        builder: B,
        with: fn(B, K, String) -> B,
    ) -> Result<B> {
        entries.iter().try_fold(builder, |builder, (name, value)| match name.parse::<K>() {
            Ok(key) => Ok(with(builder, key, value.reveal().to_owned())),
            Err(_) => Err(Error::BadLocation {
                location: url.to_string(),
                reason: format!("the store's client has no option `{name}`"),
            }),
        })
    }

    fn refused(url: &Url, error: &object_store::Error) -> Error {
        Error::BadLocation { location: url.to_string(), reason: error.to_string() }
    }
}
