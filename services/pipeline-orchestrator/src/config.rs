//! Options of the pipelines service.

use std::net::SocketAddr;
use std::path::PathBuf;

use auth::Secret;
use runtime::{ProcessConfig, ServiceConfig};
use serde::{Deserialize, Serialize};

use crate::domain::schedule::check_time_zone;
use crate::domain::{CacheMode, CachePolicy};

/// Options of the service as a part of any process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the database is.
    pub data_dir: PathBuf,
    /// `postgres://…` of another database than the file in the data directory.
    pub database_url: Option<Secret>,
    /// The folder of the artifact store; absent for `artifacts` in the data directory.
    pub artifact_root: Option<PathBuf>,
    /// Stores of the network, and how to sign in to them.
    pub stores: Vec<objects::StoreConfig>,
    /// What signs in to stores that are not configured; not part of the configuration.
    #[serde(skip)]
    pub environment: objects::Environment,
    /// How long the answer to a call with an idempotency key is kept, in hours.
    pub keep_answers_hours: u64,
    /// The time zone of schedules that name none, such as `Europe/Berlin`.
    pub schedule_time_zone: String,
    /// How steps that need not run again are found.
    pub cache: Cache,
}

/// The cache of steps, for runs that do not say otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cache {
    /// `identity`: input artifacts count by which they are, as in Kubeflow. `content`: by what is in them. `off`: none.
    pub mode: CacheMode,
    /// How old a result may be, in hours; 0 for any age.
    pub max_age_hours: u64,
}

impl Cache {
    /// The same as runs keep it.
    pub fn policy(self) -> CachePolicy {
        CachePolicy {
            mode: self.mode,
            max_age_s: self.max_age_hours.saturating_mul(3600),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("pipelines-data"),
            database_url: None,
            artifact_root: None,
            stores: Vec::new(),
            environment: objects::Environment::default(),
            keep_answers_hours: 24,
            schedule_time_zone: "UTC".to_owned(),
            cache: Cache::default(),
        }
    }
}

impl Config {
    /// What is wrong, as `key: what and what would be right`.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.data_dir.as_os_str().is_empty() {
            problems.push("data_dir: must name a directory".to_owned());
        }
        for (number, store) in self.stores.iter().enumerate() {
            let wrong = store.problems().into_iter();
            problems.extend(wrong.map(|problem| format!("stores[{number}].{problem}")));
        }
        if !(1..=24 * 365).contains(&self.keep_answers_hours) {
            problems.push("keep_answers_hours: must be between 1 and 8760".to_owned());
        }
        if let Err(message) = check_time_zone(&self.schedule_time_zone) {
            problems.push(format!("schedule_time_zone: {message}"));
        }
        if self.cache.max_age_hours > 24 * 365 * 100 {
            problems.push("cache.max_age_hours: must be at most 876000".to_owned());
        }
        if let Some(url) = &self.database_url {
            let known = ["postgres://", "postgresql://", "sqlite:"];
            if !known.iter().any(|scheme| url.expose().starts_with(scheme)) {
                problems.push("database_url: must begin with postgres:// or sqlite:".to_owned());
            }
        }
        problems
    }

    /// The database to open.
    pub fn database(&self) -> sql::Options {
        match &self.database_url {
            Some(url) => sql::Options::url(url.expose()),
            None => sql::Options::file(&self.data_dir.join("pipelines.sqlite")),
        }
    }

    /// The folder of the artifact store.
    pub fn artifacts(&self) -> PathBuf {
        match &self.artifact_root {
            Some(root) => root.clone(),
            None => self.data_dir.join("artifacts"),
        }
    }
}

/// Where a peer is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Peer {
    /// `http://HOST:PORT`.
    pub address: String,
    /// What it asks for.
    pub token: Option<Secret>,
}

impl Default for Peer {
    fn default() -> Self {
        Self {
            address: "http://127.0.0.1:9002".to_owned(),
            token: None,
        }
    }
}

/// The configuration of the service as a process of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Standalone {
    /// The options of the process.
    pub process: ProcessConfig,
    /// Where it listens; off loopback it needs a token.
    pub listen: SocketAddr,
    /// What callers must present.
    pub token: Option<Secret>,
    /// Whether it may listen off loopback without a token.
    pub insecure: bool,
    /// The runner.
    pub runner: Peer,
    /// The service.
    pub pipelines: Config,
}

impl Default for Standalone {
    fn default() -> Self {
        Self {
            process: ProcessConfig::default(),
            listen: SocketAddr::from(([127, 0, 0, 1], 9001)),
            token: None,
            insecure: false,
            runner: Peer::default(),
            pipelines: Config::default(),
        }
    }
}

impl ServiceConfig for Standalone {
    fn process(&self) -> &ProcessConfig {
        &self.process
    }

    fn token_keys() -> &'static [&'static str] {
        &["token", "process.admin.token", "runner.token"]
    }

    fn validate(&self) -> Vec<String> {
        let problems = self.pipelines.problems();
        problems
            .into_iter()
            .map(|problem| format!("pipelines.{problem}"))
            .collect()
    }
}
