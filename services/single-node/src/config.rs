//! One TOML file for the whole fleet, with a section per service, and how it becomes each service's configuration.
//!
//! ```toml
//! [process]                 # log, threads, admin port, grace: as in every service's own program
//! [gateway]                 # all but `process` and `peers`: the peers are in this process
//! [pipeline-orchestrator]   # all but places: they are in the data directory
//! [runner]                  # all but places
//! [[stores]]                # artifact stores besides the data directory; any number
//! ```
//! Variables are those of the services: `FLUMINA_GATEWAY__LISTEN` is `gateway.listen`. Flags win over everything.

use std::net::SocketAddr;
use std::path::Path;

use auth::Secret;
use runtime::{ConfigError, ProcessConfig, ServiceConfig as _};
use serde::{Deserialize, Serialize};

use crate::data_dir::{DataDir, PIPELINES_DATABASE, RUNNER_DATABASE};
use crate::{Error, UpOptions};

/// The sections of the file.
const SECTIONS: [&str; 4] = ["process", "gateway", "pipeline-orchestrator", "runner"];
/// What a service's end may take beyond the end of its steps, in seconds.
const GRACE_MARGIN: u64 = 10;

/// The configuration of the fleet.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// The one process.
    pub(crate) process: ProcessConfig,
    /// The public port.
    pub(crate) gateway: gateway::Config,
    /// Pipelines and runs.
    #[serde(rename = "pipeline-orchestrator")]
    pub(crate) pipelines: pipeline_orchestrator::Config,
    /// Steps.
    pub(crate) runner: runner::Config,
    /// Artifact stores besides the one in the data directory, for all services.
    pub(crate) stores: Vec<objects::StoreConfig>,
}

impl Config {
    /// Reads file and variables, puts the flags over them and checks the result.
    pub(crate) fn load(options: &UpOptions) -> Result<Self, Error> {
        let file = options.config.as_deref();
        let mut config: Self = runtime::load_sections(file, &SECTIONS, &[])?;
        let admin_chosen = says_admin_port(file)?;
        if let Some(listen) = &options.listen {
            config.gateway.listen = address(listen)?;
        }
        config.gateway.insecure |= options.insecure;
        if options.token.is_some() {
            config.gateway.token.clone_from(&options.token);
        }
        // One token for both ports, unless the admin port has one of its own.
        if config.process.admin.token.is_none() {
            let token = config.gateway.token.clone();
            config.process.admin.token = token;
        }
        if !admin_chosen {
            config
                .process
                .admin
                .listen
                .set_port(admin_port(config.gateway.listen));
        }
        // Steps that are stopped get their own grace first.
        let needed = config.runner.stop_grace_seconds + GRACE_MARGIN;
        config.process.grace_seconds = config.process.grace_seconds.max(needed);
        let problems = config.problems();
        if problems.is_empty() {
            Ok(config)
        } else {
            Err(ConfigError(problems).into())
        }
    }

    fn problems(&self) -> Vec<String> {
        let gateway = in_section("gateway", self.gateway.validate());
        let pipelines = in_section("pipeline-orchestrator", self.pipelines.problems());
        let runner = in_section("runner", self.runner.problems());
        let process = self.process.validate();
        let all = process
            .into_iter()
            .chain(gateway)
            .chain(pipelines)
            .chain(runner);
        let stores = self.stores.iter().enumerate().flat_map(|(number, store)| {
            let wrong = store.problems().into_iter();
            wrong.map(move |problem| format!("stores[{number}].{problem}"))
        });
        all.chain(stores).chain(self.misplaced()).collect()
    }

    /// Keys that mean something only where a service is a process of its own.
    fn misplaced(&self) -> Vec<String> {
        let gateway = gateway::Config::default();
        let pipelines = pipeline_orchestrator::Config::default();
        let runner = runner::Config::default();
        let table = [
            ("gateway.process", self.gateway.process != gateway.process),
            ("gateway.peers", self.gateway.peers != gateway.peers),
            (
                "pipeline-orchestrator.data_dir",
                self.pipelines.data_dir != pipelines.data_dir,
            ),
            (
                "pipeline-orchestrator.database_url",
                self.pipelines.database_url.is_some(),
            ),
            (
                "pipeline-orchestrator.artifact_root",
                self.pipelines.artifact_root.is_some(),
            ),
            ("runner.data_dir", self.runner.data_dir != runner.data_dir),
            ("runner.database_url", self.runner.database_url.is_some()),
            (
                "pipeline-orchestrator.stores",
                !self.pipelines.stores.is_empty(),
            ),
            ("runner.stores", !self.runner.stores.is_empty()),
        ];
        let wrong = table.into_iter().filter(|(_, given)| *given);
        wrong
            .map(|(key, _)| {
                format!("{key}: not in a single node, where everything is in this process, its data directory and [[stores]]")
            })
            .collect()
    }

    /// Puts everything that the services keep into the data directory.
    pub(crate) fn place(&mut self, dir: &DataDir) {
        self.pipelines.data_dir = dir.root().to_owned();
        self.pipelines.database_url = Some(database(dir, PIPELINES_DATABASE));
        self.pipelines.artifact_root = Some(dir.join("artifacts"));
        self.runner.data_dir = dir.join("runner");
        self.runner.database_url = Some(database(dir, RUNNER_DATABASE));
        self.pipelines.stores.clone_from(&self.stores);
        self.runner.stores.clone_from(&self.stores);
    }

    /// The defaults, placed in a directory.
    pub(crate) fn placed(dir: &DataDir) -> Self {
        let mut config = Self::default();
        config.place(dir);
        config
    }
}

fn in_section(section: &str, problems: Vec<String>) -> Vec<String> {
    problems
        .into_iter()
        .map(|problem| format!("{section}.{problem}"))
        .collect()
}

fn database(dir: &DataDir, name: &str) -> Secret {
    Secret::new(format!("sqlite:{}", dir.join(name).display()))
}

/// Whether file or variables name the admin port.
fn says_admin_port(file: Option<&Path>) -> Result<bool, ConfigError> {
    let all: serde_json::Value = runtime::load_sections(file, &SECTIONS, &[])?;
    Ok(all.pointer("/process/admin/listen").is_some())
}

/// The admin port is the one above the public port, so that several fleets need one choice each; 0 for 0.
fn admin_port(public: SocketAddr) -> u16 {
    match public.port() {
        0 | u16::MAX => 0,
        port => port + 1,
    }
}

/// The value of `--listen`.
fn address(text: &str) -> Result<SocketAddr, ConfigError> {
    let numeric = match text.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None => text.to_owned(),
    };
    numeric.parse().map_err(|_| {
        ConfigError(vec![format!(
            "--listen: `{text}` is not ADDRESS:PORT, such as 127.0.0.1:8080 or [::1]:8080"
        )])
    })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn options(config: Option<PathBuf>, listen: Option<&str>) -> UpOptions {
        UpOptions {
            data_dir: PathBuf::new(),
            listen: listen.map(str::to_owned),
            config,
            insecure: false,
            stop_on_exit: false,
            token: None,
        }
    }

    fn load(text: &str, listen: Option<&str>) -> Result<Config, String> {
        let temp = testkit::temp_dir();
        let file = temp.path().join("flumina.toml");
        std::fs::write(&file, text).unwrap();
        Config::load(&options(Some(file), listen)).map_err(|error| error.to_string())
    }

    #[test]
    fn flags_win_over_the_file() {
        let text = "[gateway]\nlisten = \"127.0.0.1:1\"\n[runner]\nstop_grace_seconds = 30\n";
        let config = load(text, Some("localhost:7000")).unwrap();
        assert_eq!(config.gateway.listen, "127.0.0.1:7000".parse().unwrap());
        assert_eq!(
            config.process.admin.listen,
            "127.0.0.1:7001".parse().unwrap()
        );
        assert_eq!(config.process.grace_seconds, 40);
    }

    #[test]
    fn the_admin_port_stays_where_it_was_put() {
        let text = "[process.admin]\nlisten = \"127.0.0.1:8081\"\n";
        let config = load(text, Some("127.0.0.1:7000")).unwrap();
        assert_eq!(config.process.admin.listen.port(), 8081);
        assert_eq!(
            load("", Some("127.0.0.1:0"))
                .unwrap()
                .process
                .admin
                .listen
                .port(),
            0
        );
        assert_eq!(load("", None).unwrap().process, {
            let mut process = ProcessConfig::default();
            process.grace_seconds = process.grace_seconds.max(20);
            process
        });
    }

    #[test]
    fn the_token_protects_both_ports() {
        let token = |text: &str, variable: Option<&str>| {
            let temp = testkit::temp_dir();
            let file = temp.path().join("flumina.toml");
            std::fs::write(&file, text).unwrap();
            let mut options = options(Some(file), None);
            options.token = variable.map(Secret::new);
            let config = Config::load(&options).unwrap();
            (config.gateway.token, config.process.admin.token)
        };
        let secret = |text: &str| Some(Secret::new(text));
        assert_eq!(token("", None), (None, None));
        assert_eq!(token("", Some("a")), (secret("a"), secret("a")));
        let file = "[gateway]\ntoken = \"b\"\n";
        assert_eq!(token(file, None), (secret("b"), secret("b")));
        let file = "[process.admin]\ntoken = \"c\"\n";
        assert_eq!(token(file, Some("a")), (secret("a"), secret("c")));
    }

    #[test]
    fn errors_name_the_key() {
        let table = [
            ("[runner]\ncorse = 2\n", "unknown key `runner.corse`"),
            ("[runer]\n", "unknown key `runer`"),
            ("[runner]\ncores = 0\n", "runner.cores: must be"),
            ("[runner]\ncores = \"x\"\n", "the key `runner.cores`"),
            (
                "[runner]\ndata_dir = \"/x\"\n",
                "runner.data_dir: not in a single node",
            ),
            (
                "[gateway.peers]\npipelines = \"http://x\"\n",
                "gateway.peers: not in",
            ),
            (
                "[gateway.limits]\nstreams = 0\n",
                "gateway.limits.streams: must be",
            ),
            (
                "[[stores]]\nuri = \"ftp://host\"\n",
                "stores[0].uri: `ftp://host`",
            ),
            ("[[stores]]\nuri = \"s3://b\"\nkey = \"x\"\n", "stores"),
            (
                "[[runner.stores]]\nuri = \"s3://b\"\n",
                "runner.stores: not in",
            ),
            ("[process.log]\nfilter = \"=loud\"\n", "process.log.filter"),
        ];
        for (text, expected) in table {
            let error = load(text, None).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
        let error = load("", Some("8080")).unwrap_err();
        assert!(error.contains("--listen: `8080`"), "{error}");
    }
}
