//! Options of the runner.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use auth::Secret;
use runtime::{ProcessConfig, ServiceConfig};
use serde::{Deserialize, Serialize};

use crate::domain::accelerators::{self, Pool};
use crate::domain::image::Rule;
use crate::domain::quantity;

const DATABASE: &str = "runner.sqlite";

/// Options of the runner as a part of any process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where workloads, environments and the database are.
    pub data_dir: PathBuf,
    /// `postgres://…` of another database than the file in the data directory.
    pub database_url: Option<Secret>,
    /// The agent's program; absent for the one that this program brings.
    pub agent: Option<PathBuf>,
    /// Cores that workloads may use; absent for those of the machine.
    pub cores: Option<f64>,
    /// Memory that workloads may use, such as `8Gi`; absent for that of the machine.
    pub memory: Option<String>,
    /// Accelerators that tasks may ask for; absent for the NVIDIA devices of the machine, empty for none.
    pub accelerators: Option<Vec<Pool>>,
    /// A cgroup2 directory that is delegated to the runner: each step gets a cgroup below it, with its limits of memory and
    /// cores; absent for none.
    pub cgroup: Option<PathBuf>,
    /// Refuse requests above the machine instead of cutting them.
    pub strict: bool,
    /// Refuse images that no rule and no interpreter stand for.
    pub strict_images: bool,
    /// What stands for images; the first that matches wins.
    pub images: Vec<Rule>,
    /// The default Python interpreter: a name on PATH or an absolute path.
    pub python: String,
    /// The program `uv`; absent for the one on PATH, or one that is installed into the data directory.
    pub uv: Option<PathBuf>,
    /// Variables that every program gets.
    pub environment: BTreeMap<String, String>,
    /// Variables that programs get from the runner's own environment, besides those for language, proxies,
    /// certificates and package indexes.
    pub pass_environment: Vec<String>,
    /// The time between SIGTERM and SIGKILL, in seconds.
    pub stop_grace_seconds: u64,
    /// How long the members of a gang wait for each other, in seconds.
    pub gang_wait_seconds: u64,
    /// How long an unused Python environment is kept, in days.
    pub keep_environments_days: u64,
    /// What is added to the oom score of programs, so that the machine ends them before Flumina; 0 to 1000.
    pub oom_score_adj: i32,
    /// The largest text of one output parameter, in bytes.
    pub max_parameter_bytes: u64,
    /// The file with the key that secrets are encrypted with, outside the data directory; absent for
    /// `flumina/secrets.key` in the user's configuration. It is made with the first secret.
    pub secrets_key: Option<PathBuf>,
    /// Refuse to mount volumes that do not exist instead of making them.
    pub strict_volumes: bool,
    /// Stores of the network, and how to sign in to them.
    pub stores: Vec<objects::StoreConfig>,
    /// The program that moves artifacts between stores and this machine, with its leading arguments; empty for this program.
    pub transfer: Vec<String>,
    /// Overrides the id of the machine's boot, for tests.
    pub boot_id: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("runner-data"),
            database_url: None,
            agent: None,
            cores: None,
            memory: None,
            accelerators: None,
            cgroup: None,
            strict: false,
            strict_images: false,
            images: Vec::new(),
            python: "python3".to_owned(),
            uv: None,
            environment: BTreeMap::new(),
            pass_environment: Vec::new(),
            stop_grace_seconds: 10,
            gang_wait_seconds: 600,
            keep_environments_days: 30,
            oom_score_adj: 500,
            max_parameter_bytes: 16 * 1024 * 1024,
            secrets_key: None,
            strict_volumes: false,
            stores: Vec::new(),
            transfer: Vec::new(),
            boot_id: None,
        }
    }
}

impl Config {
    /// The database to open.
    pub fn database(&self) -> sql::Options {
        match &self.database_url {
            Some(url) => sql::Options::url(url.expose()),
            None => sql::Options::file(&self.data_dir.join(DATABASE)),
        }
    }

    /// The file of the database; none when it is on a server or somewhere else.
    pub(crate) fn database_file(&self) -> Option<PathBuf> {
        let own = self.database_url.is_none();
        own.then(|| self.data_dir.join(DATABASE))
    }

    /// What is wrong, as `key: what and what would be right`.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.data_dir.as_os_str().is_empty() {
            problems.push("data_dir: must name a directory".to_owned());
        }
        if self
            .cores
            .is_some_and(|cores| !(0.01..=1e5).contains(&cores))
        {
            problems.push("cores: must be between 0.01 and 100000".to_owned());
        }
        if let Some(memory) = &self.memory
            && quantity::bytes(memory).is_none_or(|bytes| bytes == 0)
        {
            problems.push(format!("memory: `{memory}` is not a size such as 8Gi"));
        }
        if !(0..=1000).contains(&self.oom_score_adj) {
            problems.push("oom_score_adj: must be between 0 and 1000".to_owned());
        }
        if self.python.is_empty() {
            problems.push("python: must name an interpreter".to_owned());
        }
        let wrong = accelerators::problems(self.accelerators.as_deref().unwrap_or_default());
        problems.extend(
            wrong
                .into_iter()
                .map(|problem| format!("accelerators{problem}")),
        );
        for (number, store) in self.stores.iter().enumerate() {
            let wrong = store.problems().into_iter();
            problems.extend(wrong.map(|problem| format!("stores[{number}].{problem}")));
        }
        problems
    }
}

/// The configuration of the runner as a process of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
    pub runner: Config,
}

impl Default for Standalone {
    fn default() -> Self {
        Self {
            process: ProcessConfig::default(),
            listen: SocketAddr::from(([127, 0, 0, 1], 9002)),
            token: None,
            insecure: false,
            runner: Config::default(),
        }
    }
}

impl ServiceConfig for Standalone {
    fn process(&self) -> &ProcessConfig {
        &self.process
    }

    fn token_keys() -> &'static [&'static str] {
        &["token", "process.admin.token"]
    }

    fn validate(&self) -> Vec<String> {
        let problems = self.runner.problems();
        problems
            .into_iter()
            .map(|problem| format!("runner.{problem}"))
            .collect()
    }
}
