//! Signs in to the store of a location, as the configuration or the environment says.

use std::collections::BTreeMap;
use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::http::HttpBuilder;
use object_store::{BackoffConfig, ObjectStore, RetryConfig};

use crate::Error;
use crate::access::{Access, StoreConfig};
use crate::client::Connector;
use crate::location::{Location, Scheme};

/// A secret in a file is at most this large, in bytes.
const MAX_SECRET: u64 = 64 * 1024;
const DEFAULT_REGION: &str = "us-east-1";

/// What a secret may call its keys, the first one in messages.
const S3_ID: [&str; 4] = [
    "AWS_ACCESS_KEY_ID",
    "accesskey",
    "access_key_id",
    "access_key",
];
const S3_SECRET: [&str; 4] = [
    "AWS_SECRET_ACCESS_KEY",
    "secretkey",
    "secret_access_key",
    "secret_key",
];
const S3_TOKEN: [&str; 3] = ["AWS_SESSION_TOKEN", "sessiontoken", "session_token"];
const AZURE_KEY: [&str; 3] = [
    "AZURE_STORAGE_KEY",
    "AZURE_STORAGE_ACCOUNT_KEY",
    "accountkey",
];
const AZURE_SAS: [&str; 2] = ["AZURE_STORAGE_SAS_TOKEN", "sastoken"];
const GOOGLE: [&str; 3] = ["credentials.json", "user-gcp-sa.json", "credentials"];

/// The secret of a namespace that a store is signed in to with.
struct Keys<'a> {
    opening: &'a Opening<'a>,
    name: &'a str,
    values: &'a BTreeMap<String, String>,
}

impl Keys<'_> {
    fn find(&self, names: &[&str]) -> Option<&str> {
        let found = names.iter().find_map(|name| self.values.get(*name));
        found.map(|value| value.trim())
    }

    fn need(&self, names: &[&str]) -> Result<&str, Error> {
        self.find(names).ok_or_else(|| {
            let has: Vec<&str> = self.values.keys().map(String::as_str).collect();
            let (name, has) = (self.name, has.join(", "));
            Error::Unconfigured {
                uri: self.opening.location.shown(),
                problem: format!(
                    "secret `{name}` has no key {}; it has: {has}",
                    names.join(" or ")
                ),
            }
        })
    }
}

/// A location that is being opened.
pub(crate) struct Opening<'a> {
    pub(crate) config: Option<&'a StoreConfig>,
    pub(crate) access: &'a Access,
    pub(crate) location: &'a Location,
    pub(crate) connector: &'a Connector,
}

impl Opening<'_> {
    /// The store of the location's bucket.
    pub(crate) fn store(&self) -> Result<Arc<dyn ObjectStore>, Error> {
        match self.location.scheme() {
            Scheme::S3 | Scheme::Minio => self.s3(),
            Scheme::Gcs => self.gcs(),
            Scheme::Azure => self.azure(),
            Scheme::Http => self.http(),
        }
    }

    fn s3(&self) -> Result<Arc<dyn ObjectStore>, Error> {
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(self.location.bucket())
            .with_retry(retries())
            .with_http_connector(self.connector.clone());
        let variable = |names: &[&str]| self.access.variable(names).map(str::to_owned);
        let configured = self
            .config
            .map(|config| (config.endpoint.clone(), config.region.clone()));
        let (endpoint, region) = configured.unwrap_or_else(|| {
            (
                variable(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]),
                variable(&["AWS_REGION", "AWS_DEFAULT_REGION"]),
            )
        });
        if self.location.scheme() == Scheme::Minio && self.config.is_none() {
            return Err(self.unconfigured("no store with an endpoint is configured for minio://"));
        }
        if let Some(endpoint) = endpoint {
            builder = builder
                .with_allow_http(endpoint.starts_with("http://"))
                .with_endpoint(endpoint);
        }
        builder = builder.with_region(region.unwrap_or_else(|| DEFAULT_REGION.to_owned()));
        if let Some(keys) = self.keys()? {
            let (id, secret) = (keys.need(&S3_ID)?, keys.need(&S3_SECRET)?);
            builder = builder
                .with_access_key_id(id)
                .with_secret_access_key(secret);
            if let Some(token) = keys.find(&S3_TOKEN) {
                builder = builder.with_token(token);
            }
            return self.built(builder.build());
        }
        match self.config.and_then(|config| config.access_key_id.as_ref()) {
            Some(id) => {
                let secret = self.secret(
                    self.config
                        .and_then(|config| config.secret_access_key_file.as_deref()),
                )?;
                builder = builder
                    .with_access_key_id(id)
                    .with_secret_access_key(secret.unwrap_or_default());
                let token = self
                    .config
                    .and_then(|config| config.session_token_file.as_deref());
                if let Some(token) = self.secret(token)? {
                    builder = builder.with_token(token);
                }
            }
            None if self.config.is_some_and(|config| config.anonymous) => {
                builder = builder.with_skip_signature(true);
            }
            None => builder = self.s3_environment(builder),
        }
        self.built(builder.build())
    }

    fn s3_environment(&self, mut builder: AmazonS3Builder) -> AmazonS3Builder {
        use AmazonS3ConfigKey as Key;
        let table = [
            ("AWS_ACCESS_KEY_ID", Key::AccessKeyId),
            ("AWS_SECRET_ACCESS_KEY", Key::SecretAccessKey),
            ("AWS_SESSION_TOKEN", Key::Token),
            ("AWS_WEB_IDENTITY_TOKEN_FILE", Key::WebIdentityTokenFile),
            ("AWS_ROLE_ARN", Key::RoleArn),
            ("AWS_ROLE_SESSION_NAME", Key::RoleSessionName),
        ];
        let mut signs = false;
        for (name, key) in table {
            if let Some(value) = self.access.variable(&[name]) {
                signs |= matches!(key, Key::AccessKeyId | Key::WebIdentityTokenFile);
                builder = builder.with_config(key, value);
            }
        }
        builder.with_skip_signature(!signs)
    }

    fn gcs(&self) -> Result<Arc<dyn ObjectStore>, Error> {
        let mut builder = GoogleCloudStorageBuilder::new()
            .with_bucket_name(self.location.bucket())
            .with_retry(retries())
            .with_http_connector(self.connector.clone());
        if let Some(endpoint) = self.config.and_then(|config| config.endpoint.as_deref()) {
            builder = builder.with_base_url(endpoint);
            if endpoint.starts_with("http://") {
                let options = object_store::ClientOptions::new().with_allow_http(true);
                builder = builder.with_client_options(options);
            }
        }
        if let Some(keys) = self.keys()? {
            let credentials = keys.need(&GOOGLE)?;
            return self.built(builder.with_service_account_key(credentials).build());
        }
        let own = self
            .config
            .and_then(|config| config.credentials_file.as_deref());
        let known = own.and_then(FilePath::to_str);
        let anonymous = self.config.is_some_and(|config| config.anonymous);
        let variable = self.access.variable(&["GOOGLE_APPLICATION_CREDENTIALS"]);
        builder = match known.or(variable).filter(|_| !anonymous) {
            Some(path) => builder.with_application_credentials(path),
            None => builder.with_skip_signature(true),
        };
        self.built(builder.build())
    }

    fn azure(&self) -> Result<Arc<dyn ObjectStore>, Error> {
        use AzureConfigKey as Key;
        let mut builder = MicrosoftAzureBuilder::new()
            .with_container_name(self.location.bucket())
            .with_retry(retries())
            .with_http_connector(self.connector.clone());
        let variable = |names: &[&str]| self.access.variable(names).map(str::to_owned);
        let account = self
            .config
            .and_then(|config| config.account.clone())
            .or_else(|| self.location.account().map(str::to_owned))
            .or_else(|| variable(&["AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT"]));
        let Some(account) = account else {
            return Err(self.unconfigured("no storage account is configured for its container"));
        };
        builder = builder.with_account(account);
        if let Some(endpoint) = self.config.and_then(|config| config.endpoint.clone()) {
            builder = builder
                .with_allow_http(endpoint.starts_with("http://"))
                .with_endpoint(endpoint);
        }
        if let Some(keys) = self.keys()? {
            let builder = match keys.find(&AZURE_SAS) {
                Some(sas) => builder.with_config(Key::SasKey, sas),
                None => builder.with_config(Key::AccessKey, keys.need(&AZURE_KEY)?),
            };
            return self.built(builder.build());
        }
        let key = self.secret(
            self.config
                .and_then(|config| config.account_key_file.as_deref()),
        )?;
        let sas = self.secret(
            self.config
                .and_then(|config| config.sas_token_file.as_deref()),
        )?;
        let anonymous = self.config.is_some_and(|config| config.anonymous);
        let own = key.map(|key| (Key::AccessKey, key));
        let own = own.or_else(|| sas.map(|sas| (Key::SasKey, sas)));
        if let Some((name, value)) = own {
            return self.built(builder.with_config(name, value).build());
        }
        let table = [
            (
                Key::AccessKey,
                variable(&["AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_KEY"]),
            ),
            (Key::SasKey, variable(&["AZURE_STORAGE_SAS_TOKEN"])),
            (Key::ClientId, variable(&["AZURE_CLIENT_ID"])),
            (Key::ClientSecret, variable(&["AZURE_CLIENT_SECRET"])),
            (Key::AuthorityId, variable(&["AZURE_TENANT_ID"])),
            (
                Key::FederatedTokenFile,
                variable(&["AZURE_FEDERATED_TOKEN_FILE"]),
            ),
        ];
        let mut signs = false;
        for (name, value) in table {
            if let Some(value) = value.filter(|_| !anonymous) {
                signs = true;
                builder = builder.with_config(name, value);
            }
        }
        self.built(builder.with_skip_signature(!signs).build())
    }

    fn http(&self) -> Result<Arc<dyn ObjectStore>, Error> {
        let options = object_store::ClientOptions::new().with_allow_http(true);
        let builder = HttpBuilder::new()
            .with_url(self.location.uri())
            .with_client_options(options)
            .with_retry(retries())
            .with_http_connector(self.connector.clone());
        self.built(builder.build())
    }

    fn built<S: ObjectStore>(
        &self,
        built: object_store::Result<S>,
    ) -> Result<Arc<dyn ObjectStore>, Error> {
        match built {
            Ok(store) => Ok(Arc::new(store)),
            Err(error) => Err(self.wrong(&error)),
        }
    }

    /// The secret that the store is signed in to with.
    fn keys(&self) -> Result<Option<Keys<'_>>, Error> {
        let Some(name) = self.config.and_then(|config| config.secret.as_deref()) else {
            return Ok(None);
        };
        match self.access.secret(name) {
            Some(values) => Ok(Some(Keys {
                opening: self,
                name,
                values,
            })),
            None => Err(Error::Unconfigured {
                uri: self.location.shown(),
                problem: format!(
                    "its store is signed in to with secret `{name}` of the run's namespace, which only steps get"
                ),
            }),
        }
    }

    fn unconfigured(&self, problem: &str) -> Error {
        Error::Unconfigured {
            uri: self.location.shown(),
            problem: format!("{problem}; add one to `stores` of the configuration"),
        }
    }

    pub(crate) fn wrong(&self, error: &dyn std::error::Error) -> Error {
        Error::Unconfigured {
            uri: self.location.shown(),
            problem: format!("its store cannot be used: {error}"),
        }
    }

    /// The text of a file that holds a secret.
    fn secret(&self, path: Option<&FilePath>) -> Result<Option<String>, Error> {
        let Some(path) = path else {
            return Ok(None);
        };
        let read = || -> std::io::Result<String> {
            use std::io::Read as _;
            let mut text = String::new();
            std::fs::File::open(path)?
                .take(MAX_SECRET)
                .read_to_string(&mut text)?;
            Ok(text.trim().to_owned())
        };
        read().map(Some).map_err(|error| Error::Unconfigured {
            uri: self.location.shown(),
            problem: format!("the secret in {} cannot be read: {error}", path.display()),
        })
    }
}

/// A store that does not answer is given up after a minute.
fn retries() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(200),
            max_backoff: Duration::from_secs(5),
            base: 2.0,
        },
        max_retries: 4,
        retry_timeout: Duration::from_secs(60),
    }
}
