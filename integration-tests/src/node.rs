//! The single node through the real `flumina` program.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use rustix::process::{Pid, kill_process};
use testkit::process::Signal;
use testkit::{Process, TempDir, temp_dir};

use crate::client::Client;
use crate::witness::Witness;
use crate::{LIMIT, sweep};

/// How a node is started.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Variables of the process.
    pub env: Vec<(String, String)>,
    /// The machine's boot, as the runner sees it; the real one when empty.
    pub boot: String,
    /// The program and its first arguments that start `flumina`, such as strace; none when empty.
    pub wrapper: Vec<String>,
    /// Where it listens; a free port of loopback when empty.
    pub listen: String,
}

impl Options {
    /// With a variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// On another boot of the machine.
    #[must_use]
    pub fn boot(mut self, boot: &str) -> Self {
        self.boot = boot.to_owned();
        self
    }
}

/// A node with a data directory of its own. Dropping it kills it and everything that it started.
#[derive(Debug)]
pub struct Node {
    folder: TempDir,
    process: Option<Process>,
    url: String,
}

impl Node {
    /// A data directory without a process.
    pub fn new() -> Self {
        let node = Self {
            folder: temp_dir(),
            process: None,
            url: String::new(),
        };
        fs::create_dir(node.data_dir()).expect("a data directory");
        node
    }

    /// A node that is ready.
    pub fn started() -> Self {
        let mut node = Self::new();
        node.start(&Options::default());
        node
    }

    /// The data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// A path beside the data directory, for gates and the like.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The witness file of this node's pipelines.
    pub fn witness(&self) -> Witness {
        Witness::new(self.path("witness"))
    }

    /// Starts the process without waiting.
    pub fn spawn(&mut self, options: &Options) {
        assert!(self.process.is_none(), "it runs already");
        self.process = Some(Process::spawn("flumina", self.command(options)));
    }

    /// Starts the process and waits until it is ready.
    pub fn start(&mut self, options: &Options) {
        self.spawn(options);
        self.url = self.process().wait_for_line("ready ", LIMIT);
    }

    /// Starts the process; false when it ended before it was ready.
    pub fn try_start(&mut self, options: &Options) -> bool {
        self.spawn(options);
        let ready = testkit::eventually_blocking("ready, or the end", LIMIT, || {
            let output = self.process().output();
            let line = output.lines().find_map(|line| line.strip_prefix("ready "));
            match line {
                Some(url) => Ok(Some(url.to_owned())),
                None if self.ended() => Ok(None),
                None => Err(output),
            }
        });
        self.url = ready.clone().unwrap_or_default();
        ready.is_some()
    }

    /// Whether the process has ended without being waited for: it is a zombie, or gone.
    fn ended(&self) -> bool {
        let path = format!("/proc/{}/stat", self.process().pid());
        let stat = fs::read_to_string(path).unwrap_or_default();
        stat.is_empty() || stat.contains(") Z ")
    }

    /// The command that starts it.
    pub fn command(&self, options: &Options) -> Command {
        let config = self.path("config.toml");
        let mut text = "[process.admin]\nlisten = \"127.0.0.1:0\"\n[runner]\ncores = 4\nstop_grace_seconds = 2\n".to_owned();
        if !options.boot.is_empty() {
            text.push_str(&format!("boot_id = \"{}\"\n", options.boot));
        }
        fs::write(&config, text).expect("a configuration file");
        let flumina = testkit::binary("flumina");
        let mut command = match options.wrapper.split_first() {
            Some((wrapper, args)) => {
                let mut command = Command::new(wrapper);
                command.args(args).arg(flumina);
                command
            }
            None => Command::new(flumina),
        };
        let listen = match options.listen.as_str() {
            "" => "127.0.0.1:0",
            listen => listen,
        };
        command
            .args(["up", "--listen", listen, "--data-dir"])
            .arg(self.data_dir());
        command.arg("--config").arg(config);
        for name in [
            "FLUMINA_ABORT",
            "FLUMINA_AGENT_ABORT",
            "FLUMINA_TOKEN",
            "FLUMINA_SERVER",
        ] {
            command.env_remove(name);
        }
        command.envs(options.env.iter().map(|(name, value)| (name, value)));
        command
    }

    /// The running process.
    pub fn process(&self) -> &Process {
        self.process.as_ref().expect("a running process")
    }

    /// The number of `flumina` itself, which a wrapper may have started as its child.
    pub fn pid(&self) -> u32 {
        let pid = self.process().pid();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        let wrapped = fs::read_to_string(format!("/proc/{pid}/comm")).expect("a running process");
        match children.unwrap_or_default().split_whitespace().next() {
            Some(child) if wrapped.trim() != "flumina" => child.parse().expect("a number"),
            _ => pid,
        }
    }

    /// Whether there is one.
    pub fn running(&self) -> bool {
        self.process.is_some()
    }

    /// Where it listens.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A client.
    pub fn client(&self) -> Client {
        Client::new(&self.url, None)
    }

    /// Waits for the end of the process and returns how it ended and what it printed.
    pub fn wait(&mut self) -> (ExitStatus, String) {
        let mut process = self.process.take().expect("a running process");
        let status = process.wait(LIMIT);
        (status, process.output())
    }

    /// SIGKILL; steps go on.
    pub fn kill(&mut self) {
        self.process().signal(Signal::KILL);
        self.wait();
    }

    /// SIGKILL to the process alone: what it was forking lives on for as long as the guard that is returned.
    pub fn kill_alone(&mut self) -> Process {
        let mut process = self.process.take().expect("a running process");
        process.kill();
        process
    }

    /// SIGTERM, and the end in good order.
    pub fn stop(&mut self) -> (ExitStatus, String) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("a process id"), Signal::TERM).expect("a running process");
        self.wait()
    }

    /// SIGKILL to the process, then to agents and programs.
    pub fn kill_everything(&mut self) {
        if self.running() {
            self.kill();
        }
        sweep::kill_all(&self.data_dir());
    }

    /// Agents and programs.
    pub fn processes(&self) -> Vec<sweep::Found> {
        sweep::found(&self.data_dir())
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

impl Default for Node {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // The service first, or it would repeat what is lost.
        self.process = None;
        let dir: &Path = &self.data_dir();
        let left = sweep::found(dir);
        left.iter().for_each(sweep::kill);
    }
}
