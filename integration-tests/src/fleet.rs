//! Gateway, pipelines and runner as processes of their own, over TCP, with a token for each.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use testkit::process::Signal;
use testkit::{Process, TempDir, free_port, temp_dir};

use crate::client::Client;
use crate::witness::Witness;
use crate::{LIMIT, sweep};

/// Where the services keep their rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stores {
    /// A file for each.
    Sqlite,
    /// A database of the test's PostgreSQL server for each.
    Postgres,
}

/// A process of the fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The public port.
    Gateway,
    /// Pipelines and runs.
    Pipelines,
    /// Workloads.
    Runner,
}

impl Part {
    /// All of them, in an order in which they can start.
    pub const ALL: [Self; 3] = [Self::Runner, Self::Pipelines, Self::Gateway];

    /// The name of its program.
    pub fn program(self) -> &'static str {
        match self {
            Self::Gateway => "flumina-gateway",
            Self::Pipelines => "flumina-pipeline-orchestrator",
            Self::Runner => "flumina-runner",
        }
    }

    /// What callers must present to it.
    pub fn token(self) -> &'static str {
        match self {
            Self::Gateway => "secret-of-the-gateway",
            Self::Pipelines => "secret-of-the-pipelines",
            Self::Runner => "secret-of-the-runner",
        }
    }

    fn index(self) -> usize {
        self as usize
    }
}

/// The fleet. Dropping it kills it and everything that it started.
#[derive(Debug)]
pub struct Fleet {
    folder: TempDir,
    ports: [u16; 3],
    admin_ports: [u16; 3],
    databases: Vec<String>,
    running: [Option<Process>; 3],
    boot: String,
}

impl Fleet {
    /// A fleet of which nothing runs yet.
    pub fn new(stores: Stores) -> Self {
        let databases = match stores {
            Stores::Sqlite => Vec::new(),
            Stores::Postgres => (0..2)
                .map(|_| testkit::postgres().create_database())
                .collect(),
        };
        Self {
            folder: temp_dir(),
            ports: std::array::from_fn(|_| free_port()),
            admin_ports: std::array::from_fn(|_| free_port()),
            databases,
            running: [None, None, None],
            boot: "boot-one".to_owned(),
        }
    }

    /// A fleet that answers.
    pub async fn started(stores: Stores) -> Self {
        let mut fleet = Self::new(stores);
        for part in Part::ALL {
            fleet.start(part, &[]).await;
        }
        fleet
    }

    /// Starts a process with more variables and waits until it is ready.
    pub async fn start(&mut self, part: Part, env: &[(&str, &str)]) {
        let mut command = self.command(part);
        command.envs(env.iter().copied());
        let process = Process::spawn(part.program(), command);
        self.running[part.index()] = Some(process);
        let health = Client::new(&self.url(part), None);
        testkit::eventually(part.program(), LIMIT, || async {
            if health.serving("").await {
                Ok(())
            } else {
                Err(self.output(part))
            }
        })
        .await;
    }

    /// The command that starts a process.
    pub fn command(&self, part: Part) -> Command {
        let config = self.path(&format!("{}.toml", part.program()));
        fs::write(&config, self.config(part)).expect("a configuration file");
        let mut command = Command::new(testkit::binary(part.program()));
        command.arg("--config").arg(config);
        for name in ["FLUMINA_ABORT", "FLUMINA_AGENT_ABORT", "FLUMINA_TOKEN"] {
            command.env_remove(name);
        }
        command
    }

    fn config(&self, part: Part) -> String {
        let data = self.data_dir(part);
        let data = data.display();
        let mut text = format!(
            "listen = \"127.0.0.1:{}\"\ntoken = \"{}\"\n[process.admin]\nlisten = \"127.0.0.1:{}\"\n",
            self.ports[part.index()],
            part.token(),
            self.admin_ports[part.index()],
        );
        match part {
            Part::Gateway => {
                let (url, token) = (self.url(Part::Pipelines), Part::Pipelines.token());
                let (runner, own) = (self.url(Part::Runner), Part::Runner.token());
                text.push_str(&format!(
                    "[peers]\npipelines = \"{url}\"\ntoken = \"{token}\"\nrunner = \"{runner}\"\nrunner_token = \"{own}\"\n"
                ));
            }
            Part::Pipelines => {
                let (url, token) = (self.url(Part::Runner), Part::Runner.token());
                text.push_str(&format!(
                    "[runner]\naddress = \"{url}\"\ntoken = \"{token}\"\n"
                ));
                text.push_str(&format!("[pipelines]\ndata_dir = \"{data}\"\n"));
            }
            Part::Runner => {
                let boot = &self.boot;
                text.push_str(&format!(
                    "[runner]\ndata_dir = \"{data}\"\ncores = 4\nstop_grace_seconds = 2\nboot_id = \"{boot}\"\n"
                ));
            }
        }
        if let Some(url) = self.database(part) {
            text.push_str(&format!("database_url = \"{url}\"\n"));
        }
        text
    }

    /// The URL of a part's database on PostgreSQL.
    pub fn database(&self, part: Part) -> Option<&str> {
        let index = match part {
            Part::Gateway => return None,
            Part::Pipelines => 0,
            Part::Runner => 1,
        };
        self.databases.get(index).map(String::as_str)
    }

    /// A part's directory.
    pub fn data_dir(&self, part: Part) -> PathBuf {
        self.path(part.program())
    }

    /// A path in the fleet's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The witness file of this fleet's pipelines.
    pub fn witness(&self) -> Witness {
        Witness::new(self.path("witness"))
    }

    /// Where a part listens.
    pub fn url(&self, part: Part) -> String {
        format!("http://127.0.0.1:{}", self.ports[part.index()])
    }

    /// Where a part's admin port listens, as `HOST:PORT`.
    pub fn admin(&self, part: Part) -> String {
        format!("127.0.0.1:{}", self.admin_ports[part.index()])
    }

    /// A client of the gateway with its token.
    pub fn client(&self) -> Client {
        self.client_of(Part::Gateway)
    }

    /// A client of a part with its token.
    pub fn client_of(&self, part: Part) -> Client {
        Client::new(&self.url(part), Some(part.token()))
    }

    /// What a part printed so far.
    pub fn output(&self, part: Part) -> String {
        self.running[part.index()]
            .as_ref()
            .map(Process::output)
            .unwrap_or_default()
    }

    /// SIGKILL to one process; steps go on.
    pub fn kill(&mut self, part: Part) {
        let mut process = self.running[part.index()]
            .take()
            .expect("a running process");
        process.kill();
    }

    /// SIGTERM to one process, and its end.
    pub fn stop(&mut self, part: Part) -> std::process::ExitStatus {
        let mut process = self.running[part.index()]
            .take()
            .expect("a running process");
        process.signal(Signal::TERM);
        process.wait(LIMIT)
    }

    /// Agents and programs.
    pub fn processes(&self) -> Vec<sweep::Found> {
        sweep::found(&self.data_dir(Part::Runner))
    }

    /// Waits until no agent and no program is left.
    pub async fn wait_quiet(&self) {
        testkit::eventually("no process is left", LIMIT, || async {
            let left = self.processes();
            if left.is_empty() { Ok(()) } else { Err(left) }
        })
        .await;
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.running = [None, None, None];
        self.processes().iter().for_each(sweep::kill);
    }
}
