//! Signs in to the store of a location, as the configuration or the environment says.

use std::collections::BTreeMap;
use std::path::{Path as FilePath, PathBuf};
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

/// Variables that name the server of the installation's buckets; absent for Amazon's.
const S3_ENDPOINT: [&str; 2] = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"];

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
/// Variables that name the account of the installation.
pub(crate) const AZURE_ACCOUNT: [&str; 2] = ["AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT"];
const AZURE_SAS: [&str; 2] = ["AZURE_STORAGE_SAS_TOKEN", "sastoken"];
const GOOGLE: [&str; 3] = ["credentials.json", "user-gcp-sa.json", "credentials"];

/// The secret of a namespace that a store is signed in to with.
struct Keys<'a> {
    opening: &'a Opening<'a>,
    name: &'a str,
    /// None for what is no text.
    values: &'a BTreeMap<String, Option<String>>,
}

impl Keys<'_> {
    fn find(&self, names: &[&str]) -> Result<Option<&str>, Error> {
        let found = names
            .iter()
            .find_map(|name| self.values.get_key_value(*name));
        match found {
            None => Ok(None),
            Some((_, Some(value))) => Ok(Some(value.trim())),
            Some((key, None)) => Err(Error::Unconfigured {
                uri: self.opening.location.shown(),
                problem: format!("key {key} of secret `{}` is no text in UTF-8", self.name),
            }),
        }
    }

    fn need(&self, names: &[&str]) -> Result<&str, Error> {
        self.find(names)?.ok_or_else(|| {
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
                variable(&S3_ENDPOINT),
                variable(&["AWS_REGION", "AWS_DEFAULT_REGION"]),
            )
        });
        if self.location.scheme() == Scheme::Minio && self.config.is_none() {
            return Err(self.unconfigured("no store with an endpoint is configured for minio://"));
        }
        // The keys of the environment are for where it says, not for an endpoint that the configuration adds.
        let of_environment = endpoint == variable(&S3_ENDPOINT);
        if let Some(endpoint) = endpoint {
            builder = builder
                .with_allow_http(endpoint.starts_with("http://"))
                .with_endpoint(endpoint);
        }
        builder = builder.with_region(region.unwrap_or_else(|| DEFAULT_REGION.to_owned()));
        if let Some(keys) = self.keys()? {
            let (id, secret) = (keys.need(&S3_ID)?, keys.need(&S3_SECRET)?);
            builder = builder
                .with_access_key_id(self.sendable(id)?)
                .with_secret_access_key(secret);
            if let Some(token) = keys.find(&S3_TOKEN)? {
                builder = builder.with_token(self.sendable(token)?);
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
                    .with_access_key_id(self.sendable(id)?)
                    .with_secret_access_key(secret.unwrap_or_default());
                let token = self
                    .config
                    .and_then(|config| config.session_token_file.as_deref());
                if let Some(token) = self.secret(token)? {
                    builder = builder.with_token(self.sendable(&token)?);
                }
            }
            None if !of_environment || self.config.is_some_and(|config| config.anonymous) => {
                builder = builder.with_skip_signature(true);
            }
            None => builder = self.s3_environment(builder)?,
        }
        self.built(builder.build())
    }

    /// What is sent in a header as it is. The library takes it for granted that a header can have it.
    fn sendable<'t>(&self, text: &'t str) -> Result<&'t str, Error> {
        if text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Ok(text);
        }
        Err(self
            .wrong("the id of its key or its session token has characters that neither can have"))
    }

    fn s3_environment(&self, mut builder: AmazonS3Builder) -> Result<AmazonS3Builder, Error> {
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
                if matches!(key, Key::AccessKeyId | Key::Token) {
                    self.sendable(value)?;
                }
                builder = builder.with_config(key, value);
            }
        }
        Ok(builder.with_skip_signature(!signs))
    }

    fn gcs(&self) -> Result<Arc<dyn ObjectStore>, Error> {
        let mut builder = GoogleCloudStorageBuilder::new()
            .with_bucket_name(self.location.bucket())
            .with_retry(retries())
            .with_http_connector(self.connector.clone());
        let endpoint = self.config.and_then(|config| config.endpoint.as_deref());
        if let Some(endpoint) = endpoint {
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
        // Google's tokens are for Google.
        let variable = self
            .access
            .variable(&["GOOGLE_APPLICATION_CREDENTIALS"])
            .filter(|_| endpoint.is_none());
        builder = match known.or(variable).filter(|_| !anonymous) {
            Some(path) => builder.with_application_credentials(path),
            None => builder.with_skip_signature(true),
        };
        self.built(builder.build())
    }

    fn azure(&self) -> Result<Arc<dyn ObjectStore>, Error> {
        use AzureConfigKey as Key;
        let account = self.azure_account()?;
        let mut builder = MicrosoftAzureBuilder::new()
            .with_container_name(self.location.bucket())
            .with_account(&account)
            .with_retry(retries())
            .with_http_connector(self.connector.clone());
        if let Some(endpoint) = self.config.and_then(|config| config.endpoint.clone()) {
            builder = builder
                .with_allow_http(endpoint.starts_with("http://"))
                .with_endpoint(endpoint);
        }
        if let Some(keys) = self.keys()? {
            let builder = match keys.find(&AZURE_SAS)? {
                Some(sas) => builder.with_config(Key::SasKey, sas),
                None => builder.with_config(Key::AccessKey, keys.need(&AZURE_KEY)?),
            };
            return self.built(builder.build());
        }
        let file = |of: fn(&StoreConfig) -> &Option<PathBuf>| {
            self.secret(self.config.and_then(|config| of(config).as_deref()))
        };
        let key = file(|config| &config.account_key_file)?.map(|key| (Key::AccessKey, key));
        let sas = file(|config| &config.sas_token_file)?.map(|sas| (Key::SasKey, sas));
        if let Some((name, value)) = key.or(sas) {
            return self.built(builder.with_config(name, value).build());
        }
        let anonymous = self.config.is_some_and(|config| config.anonymous);
        let variables = self.azure_environment(&account);
        let signs = !anonymous && !variables.is_empty();
        for (name, value) in variables.into_iter().filter(|_| signs) {
            builder = builder.with_config(name, value);
        }
        self.built(builder.with_skip_signature(!signs).build())
    }

    /// The storage account: the one that the configuration names, else the URI, else the environment.
    fn azure_account(&self) -> Result<String, Error> {
        let named = self.location.account();
        let own = self.config.and_then(|config| config.account.as_deref());
        if let (Some(named), Some(own)) = (named, own)
            && named != own
        {
            return Err(Error::Unconfigured {
                uri: self.location.shown(),
                problem: format!(
                    "it names the storage account `{named}`, and its store is configured for `{own}`"
                ),
            });
        }
        let known = self.access.variable(&AZURE_ACCOUNT);
        match own.or(named).or(known) {
            Some(account) => Ok(account.to_owned()),
            None => Err(self.unconfigured("no storage account is configured for its container")),
        }
    }

    /// The variables that sign in to an account. A URI may name any, and whoever has that one would get what signs in to
    /// ours; so they are for the account of the environment and for those of the configuration. A key or a signature is
    /// that of one account.
    fn azure_environment(&self, account: &str) -> Vec<(AzureConfigKey, String)> {
        use AzureConfigKey as Key;
        let own = self.access.variable(&AZURE_ACCOUNT);
        let configured = self.config.is_some();
        let one = own.map_or(configured, |own| own == account);
        if !one && !configured || self.config.is_some_and(|config| config.endpoint.is_some()) {
            return Vec::new();
        }
        let of_one: [(Key, &[&str]); 2] = [
            (Key::AccessKey, &AZURE_KEY[..2]),
            (Key::SasKey, &AZURE_SAS[..1]),
        ];
        let of_tenant: [(Key, &[&str]); 4] = [
            (Key::ClientId, &["AZURE_CLIENT_ID"]),
            (Key::ClientSecret, &["AZURE_CLIENT_SECRET"]),
            (Key::AuthorityId, &["AZURE_TENANT_ID"]),
            (Key::FederatedTokenFile, &["AZURE_FEDERATED_TOKEN_FILE"]),
        ];
        let found = of_one
            .into_iter()
            .filter(|_| one)
            .chain(of_tenant)
            .filter_map(|(key, names)| Some((key, self.access.variable(names)?.to_owned())));
        found.collect()
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
            Err(_) => Err(self.wrong(match self.location.scheme() {
                Scheme::S3 | Scheme::Minio => {
                    "its bucket, endpoint or region is none that S3 has"
                }
                Scheme::Gcs => {
                    "its bucket is none that Google has, or its credentials are no file with those of a service account or an \
                     authorized user, as Google gives them"
                }
                Scheme::Azure => {
                    "its container or account is none that Azure has, or its key is not Base64, or its shared access signature is no \
                     list of name=value"
                }
                Scheme::Http => "it is no address of a web server",
            })),
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

    /// Says what may be wrong without the cause, which may quote the key that it could not read.
    pub(crate) fn wrong(&self, why: &'static str) -> Error {
        Error::Unconfigured {
            uri: self.location.shown(),
            problem: format!("its store cannot be used: {why}"),
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
            let mut file = std::fs::File::open(path)?.take(MAX_SECRET + 1);
            if file.read_to_string(&mut text)? as u64 > MAX_SECRET {
                return Err(std::io::Error::other(format!(
                    "it has more than {MAX_SECRET} bytes"
                )));
            }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Environment;

    /// What of the environment signs in to the account that a URI or a store names.
    fn signs(uri: &str, store: Option<StoreConfig>, own: &str) -> Result<Vec<&'static str>, Error> {
        let variables = [
            ("AZURE_STORAGE_ACCOUNT_NAME", own),
            ("AZURE_STORAGE_KEY", "a2V5"),
            ("AZURE_STORAGE_SAS_TOKEN", "sig=x"),
            ("AZURE_CLIENT_ID", "id"),
        ];
        let stores: Vec<StoreConfig> = store.into_iter().collect();
        let access = Access::new(&stores, &Environment::of(variables));
        let location = Location::parse(uri)?;
        let opening = Opening {
            config: access.find(uri, ""),
            access: &access,
            location: &location,
            connector: &Connector::default(),
        };
        let found = opening.azure_environment(&opening.azure_account()?);
        let named = found.iter().map(|(key, _)| match key {
            AzureConfigKey::AccessKey => "key",
            AzureConfigKey::SasKey => "sas",
            _ => "tenant",
        });
        Ok(named.collect())
    }

    #[test]
    fn what_signs_in_is_for_the_account_that_was_configured() {
        let all = ["key", "sas", "tenant"];
        let theirs = "abfss://c@theirs.dfs.core.windows.net/x";
        let ours = "abfss://c@ours.dfs.core.windows.net/x";
        assert_eq!(signs(ours, None, "ours").unwrap(), all);
        assert_eq!(signs("az://c/x", None, "ours").unwrap(), all);
        assert!(signs(theirs, None, "ours").unwrap().is_empty());
        // Without an account of its own, the environment signs in to none that only a URI names.
        assert!(signs(theirs, None, "").unwrap().is_empty());
        assert!(signs("az://c/x", None, "").is_err());
        let store = |uri: &str, account: Option<&str>| StoreConfig {
            uri: uri.to_owned(),
            account: account.map(str::to_owned),
            ..StoreConfig::default()
        };
        let trusted = || Some(store("abfss://c@theirs.dfs.core.windows.net", None));
        assert_eq!(signs(theirs, trusted(), "ours").unwrap(), ["tenant"]);
        assert_eq!(signs(theirs, trusted(), "").unwrap(), all);
        let named = || Some(store("az://c", Some("other")));
        assert_eq!(signs("az://c/x", named(), "ours").unwrap(), ["tenant"]);
        let wrong = Some(store(
            "abfss://c@theirs.dfs.core.windows.net",
            Some("other"),
        ));
        assert!(signs(theirs, wrong, "ours").is_err());
    }
}
