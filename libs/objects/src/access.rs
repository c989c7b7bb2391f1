//! Which stores there are and how to sign in to them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::location::{Location, Scheme};
use crate::opening::AZURE_ACCOUNT;

/// Variables of an installation that stand in where no store is configured.
const VARIABLES: [&str; 22] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "AZURE_STORAGE_ACCOUNT",
    "AZURE_STORAGE_ACCOUNT_NAME",
    "AZURE_STORAGE_KEY",
    "AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_STORAGE_SAS_TOKEN",
    "AZURE_CLIENT_ID",
    "AZURE_CLIENT_SECRET",
    "AZURE_TENANT_ID",
    "AZURE_FEDERATED_TOKEN_FILE",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];

/// A store, or a part of one, and how to sign in to it. Secrets are in files that only their owner can read; the
/// configuration names these.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreConfig {
    /// What begins with it is kept there: `s3://bucket`, `s3://bucket/folder`, `minio://`, `gs://bucket`, `az://container`; or a
    /// directory, such as a mounted `/mnt/nfs/artifacts`.
    pub uri: String,
    /// The namespaces that may use it; empty for all.
    pub namespaces: Vec<String>,
    /// `http://HOST:PORT` of the service; absent for the one of the provider. `minio://` needs it.
    pub endpoint: Option<String>,
    /// The region of an S3 bucket; absent for `us-east-1`.
    pub region: Option<String>,
    /// The id of an S3 access key.
    pub access_key_id: Option<String>,
    /// A file with the S3 secret access key.
    pub secret_access_key_file: Option<PathBuf>,
    /// A file with an S3 session token.
    pub session_token_file: Option<PathBuf>,
    /// A file with Google credentials as JSON.
    pub credentials_file: Option<PathBuf>,
    /// The Azure storage account.
    pub account: Option<String>,
    /// A file with the key of the Azure account.
    pub account_key_file: Option<PathBuf>,
    /// A file with a shared access signature of Azure.
    pub sas_token_file: Option<PathBuf>,
    /// The secret of the namespace whose keys sign in: `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, or `accesskey` and
    /// `secretkey`; `AZURE_STORAGE_KEY` or `AZURE_STORAGE_SAS_TOKEN`; `credentials.json` of Google. Only steps get it.
    pub secret: Option<String>,
    /// Whether requests are not signed.
    pub anonymous: bool,
}

impl StoreConfig {
    /// What is wrong, as `key: what and what would be right`.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.directory().is_some() {
            return problems;
        }
        match Location::parse_prefix(&self.uri) {
            Ok(Scheme::Minio) if self.endpoint.is_none() => {
                problems
                    .push("endpoint: minio:// needs the http:// address of its server".to_owned());
            }
            Ok(_) => {}
            Err(error) => problems.push(format!("uri: {error}")),
        }
        if let Some(endpoint) = &self.endpoint
            && !endpoint.starts_with("http://")
            && !endpoint.starts_with("https://")
        {
            problems.push("endpoint: must begin with http:// or https://".to_owned());
        }
        if let (Some(account), Ok(named)) = (&self.account, Location::parse(&self.uri))
            && let Some(named) = named.account().filter(|named| named != account)
        {
            problems.push(format!(
                "account: is `{account}`, and `uri` names `{named}`"
            ));
        }
        if self.access_key_id.is_some() != self.secret_access_key_file.is_some() {
            problems.push("access_key_id: goes together with secret_access_key_file".to_owned());
        }
        if let Some(secret) = &self.secret {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
            if !(1..=253).contains(&secret.len()) || !secret.bytes().all(plain) {
                problems.push("secret: must name a secret of the namespace".to_owned());
            } else if self.signs_in_otherwise() {
                problems.push(
                    "secret: stands for keys in files; set it or them, or anonymous".to_owned(),
                );
            }
        }
        problems
    }

    fn signs_in_otherwise(&self) -> bool {
        let files = [
            &self.secret_access_key_file,
            &self.session_token_file,
            &self.credentials_file,
            &self.account_key_file,
            &self.sas_token_file,
        ];
        self.anonymous || files.into_iter().any(Option::is_some)
    }

    /// The directory, when the store is one.
    pub fn directory(&self) -> Option<&Path> {
        let path = self.uri.strip_prefix("file://").unwrap_or(&self.uri);
        let below_root = path.len() > 1 && path.starts_with('/');
        below_root.then(|| Path::new(path))
    }

    /// Whether a URI is kept here.
    fn holds(&self, uri: &str) -> bool {
        let own = self.uri.trim_end_matches('/');
        uri.strip_prefix(own)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    fn open_to(&self, namespace: &str) -> bool {
        self.namespaces.is_empty() || self.namespaces.iter().any(|name| name == namespace)
    }
}

/// What of a process's environment signs in to stores that are not configured.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment(BTreeMap<String, String>);

impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.keys()).finish()
    }
}

impl Environment {
    /// Keeps the variables that mean something here.
    pub fn of<'a>(variables: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let known = variables
            .into_iter()
            .filter(|(name, value)| VARIABLES.contains(name) && !value.is_empty());
        Self(
            known
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
        )
    }
}

/// Secrets that stores are signed in to with: texts by key, by the secret's name; null for what is no text.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secrets(BTreeMap<String, BTreeMap<String, Option<String>>>);

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.keys()).finish()
    }
}

/// The namespace of all runs, while there is one.
pub const NAMESPACE: &str = "default";

/// The stores of an installation. It has secrets in it, so it is written only to files that nobody else can read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Access {
    stores: Vec<StoreConfig>,
    environment: Environment,
    /// In memory only.
    #[serde(skip)]
    secrets: Secrets,
}

impl Access {
    /// These stores, and what stands in where none is configured.
    pub fn new(stores: &[StoreConfig], environment: &Environment) -> Self {
        Self {
            stores: stores.to_vec(),
            environment: environment.clone(),
            secrets: Secrets::default(),
        }
    }

    /// The same with what a step was given.
    #[must_use]
    pub fn with_secrets(self, secrets: Secrets) -> Self {
        Self { secrets, ..self }
    }

    /// A secret that was given.
    pub(crate) fn secret(&self, name: &str) -> Option<&BTreeMap<String, Option<String>>> {
        self.secrets.0.get(name)
    }

    /// The secrets that a namespace signs in with to the stores that a text names.
    pub fn secrets_for(&self, namespace: &str, text: &str) -> BTreeSet<&str> {
        let stores = self.stores.iter().filter(|store| {
            store.open_to(namespace) && text.contains(store.uri.trim_end_matches('/'))
        });
        stores.filter_map(|store| store.secret.as_deref()).collect()
    }

    /// Whether any store is signed in to with a secret of a namespace.
    pub fn has_secrets(&self) -> bool {
        self.stores.iter().any(|store| store.secret.is_some())
    }

    /// Whether it can sign in to a URI by itself, without the secret of a namespace.
    pub fn signs_in(&self, location: &Location, namespace: &str) -> bool {
        let store = self.find(location.uri(), namespace);
        store.is_none_or(|store| store.secret.is_none())
    }

    /// What a namespace may use of it.
    pub fn of(&self, namespace: &str) -> Self {
        Self {
            stores: self
                .stores
                .iter()
                .filter(|store| store.open_to(namespace))
                .cloned()
                .collect(),
            environment: self.environment.clone(),
            secrets: self.secrets.clone(),
        }
    }

    /// The directories that are stores.
    pub fn directories(&self) -> impl Iterator<Item = &Path> {
        self.stores.iter().filter_map(StoreConfig::directory)
    }

    /// The store of a URI: one that names the namespace comes first, then the one that says most of the URI.
    pub(crate) fn find(&self, uri: &str, namespace: &str) -> Option<&StoreConfig> {
        self.stores
            .iter()
            .filter(|store| store.holds(uri) && store.open_to(namespace))
            .max_by_key(|store| {
                let own = !namespace.is_empty() && !store.namespaces.is_empty();
                (own, store.uri.len())
            })
    }

    pub(crate) fn variable(&self, names: &[&str]) -> Option<&str> {
        names
            .iter()
            .find_map(|name| self.environment.0.get(*name))
            .map(String::as_str)
    }

    /// Whether anything is known that would let us write to a URI.
    pub fn can_write(&self, location: &Location, namespace: &str) -> bool {
        if let Some(store) = self.find(location.uri(), namespace) {
            return !store.anonymous;
        }
        match location.scheme() {
            Scheme::S3 => self
                .variable(&["AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE"])
                .is_some(),
            Scheme::Gcs => self.variable(&["GOOGLE_APPLICATION_CREDENTIALS"]).is_some(),
            Scheme::Azure => {
                let own = self.variable(&AZURE_ACCOUNT);
                own.is_some_and(|own| location.account().is_none_or(|named| named == own))
            }
            Scheme::Minio | Scheme::Http => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(uri: &str, namespaces: &[&str]) -> StoreConfig {
        StoreConfig {
            uri: uri.to_owned(),
            namespaces: namespaces.iter().map(|&name| name.to_owned()).collect(),
            ..StoreConfig::default()
        }
    }

    #[test]
    fn the_nearest_store_of_the_namespace_is_taken() {
        let stores = [
            store("s3://data", &[]),
            store("s3://data/models", &[]),
            store("s3://data", &["team"]),
            store("minio://", &[]),
        ];
        let access = Access::new(&stores, &Environment::default());
        let found = |uri: &str, namespace: &str| {
            access
                .find(uri, namespace)
                .map(|store| (store.uri.as_str(), store.namespaces.len()))
        };
        assert_eq!(found("s3://data/x", "other"), Some(("s3://data", 0)));
        assert_eq!(
            found("s3://data/models/x", "other"),
            Some(("s3://data/models", 0))
        );
        assert_eq!(found("s3://data/models/x", "team"), Some(("s3://data", 1)));
        assert_eq!(found("s3://database/x", "team"), None);
        assert_eq!(found("minio://b/k", "team"), Some(("minio://", 0)));
        assert_eq!(access.of("other").stores.len(), 3);
    }

    #[test]
    fn variables_stand_in_for_stores_that_are_not_configured() {
        let location = Location::parse("s3://bucket/key").unwrap();
        assert!(!Access::default().can_write(&location, "default"));
        let known = [("AWS_ACCESS_KEY_ID", "id"), ("HOME", "/root")];
        let access = Access::new(&[], &Environment::of(known));
        assert!(access.can_write(&location, "default"));
        assert_eq!(access.environment.0.len(), 1);
        assert!(!format!("{access:?}").contains("\"id\""));
    }

    #[test]
    fn a_namespace_is_given_the_secrets_of_its_stores_and_they_do_not_print() {
        let signed = |uri: &str, namespaces: &[&str], secret: &str| StoreConfig {
            secret: Some(secret.to_owned()),
            ..store(uri, namespaces)
        };
        let stores = [
            signed("s3://data", &["team"], "own"),
            signed("s3://data", &[], "all"),
            signed("minio://", &[], "minio"),
            store("gs://plain", &[]),
        ];
        let access = Access::new(&stores, &Environment::default());
        let wanted = |namespace: &str, text: &str| {
            let found = access.secrets_for(namespace, text);
            found.into_iter().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(wanted("team", "{\"uri\":\"s3://data/x\"}"), "all own");
        assert_eq!(wanted("other", "s3://data/x minio://b/k"), "all minio");
        assert_eq!(wanted("other", "gs://plain/x"), "");
        let location = Location::parse("s3://data/x").unwrap();
        assert!(access.can_write(&location, "") && !access.signs_in(&location, ""));
        let given: Secrets = serde_json::from_str(r#"{"all":{"secretkey":"hush"}}"#).unwrap();
        let access = access.with_secrets(given);
        let known = &access.secret("all").unwrap()["secretkey"];
        assert_eq!(known.as_deref(), Some("hush"));
        assert!(!format!("{access:?}").contains("hush"));
        assert!(!serde_json::to_string(&access).unwrap().contains("hush"));
    }

    #[test]
    fn problems_name_the_key() {
        let table = [
            (store("ftp://host", &[]), "uri: "),
            (store("", &[]), "uri: "),
            (store("minio://", &[]), "endpoint: "),
            (
                StoreConfig {
                    endpoint: Some("localhost:9000".to_owned()),
                    ..store("s3://b", &[])
                },
                "endpoint: ",
            ),
            (
                StoreConfig {
                    secret: Some("a/b".to_owned()),
                    ..store("s3://b", &[])
                },
                "secret: ",
            ),
            (
                StoreConfig {
                    secret: Some("keys".to_owned()),
                    anonymous: true,
                    ..store("s3://b", &[])
                },
                "secret: ",
            ),
            (
                StoreConfig {
                    access_key_id: Some("id".to_owned()),
                    ..store("s3://b", &[])
                },
                "access_key_id: ",
            ),
        ];
        for (store, key) in table {
            let problems = store.problems();
            assert!(
                problems.len() == 1 && problems[0].starts_with(key),
                "{problems:?}"
            );
        }
        for fine in ["/mnt/nfs", "file:///mnt/nfs", "gs://b", "s3://b/c"] {
            assert!(store(fine, &[]).problems().is_empty(), "{fine}");
        }
    }
}
