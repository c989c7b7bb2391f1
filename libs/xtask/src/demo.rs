//! `cargo xtask demo`: Flumina with a real pipeline, from nothing.
//!
//! Builds the development binary, starts it on a free port with a data directory of its own, runs
//! `examples/pipelines/breast_cancer.py` with the kfp SDK and leaves Flumina running for a look around.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::setup::{self, KFP, Need};
use crate::workspace::{self, Workspace};

const PIPELINE: &str = "examples/pipelines/breast_cancer.py";

/// The demo's Flumina.
struct Demo {
    flumina: PathBuf,
    data: PathBuf,
    log: PathBuf,
    /// With uv in front, for the environments of steps.
    path: OsString,
}

pub(crate) fn run(workspace: &Workspace, stop: bool) -> Result<()> {
    println!("building Flumina (the first time takes some minutes)");
    let mut build = workspace.cargo();
    build.args(["build", "--locked", "--quiet", "--bins"]);
    build.args(["-p", "flumina-cli", "-p", "flumina-agent"]);
    let status = build.status().context("cannot run cargo")?;
    ensure!(status.success(), "the build failed");

    println!("preparing Python with the kfp SDK");
    let env = setup::prepare(workspace, Need::Demo)?;
    let folder = workspace::xdg("XDG_DATA_HOME", ".local/share")?.join("flumina-demo");
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let demo = Demo {
        flumina: workspace.binary("debug", "flumina"),
        // A data directory holds nothing but what Flumina put there.
        data: folder.join("data"),
        log: folder.join("demo.log"),
        path: env.path()?,
    };
    demo.down()?;
    let url = demo.up()?;
    println!("Flumina is ready at {url}\n");

    let outcome = demo.pipeline(&url, env.python(KFP)?, &workspace.root.join(PIPELINE));
    if stop {
        demo.down()?;
    }
    let run = outcome?;
    if !stop {
        demo.farewell(&url, &run);
    }
    Ok(())
}

impl Demo {
    fn command(&self) -> Command {
        let mut command = Command::new(&self.flumina);
        command.env("PATH", &self.path);
        command
    }

    /// Stops what an earlier demo left running. Nothing running is fine.
    fn down(&self) -> Result<()> {
        let output = self
            .command()
            .arg("down")
            .arg("--data-dir")
            .arg(&self.data)
            .output();
        output.with_context(|| format!("cannot run {}", self.flumina.display()))?;
        Ok(())
    }

    /// Starts Flumina in the background and returns its address once it is ready.
    fn up(&self) -> Result<String> {
        let log = &self.log;
        let mut child = self
            .command()
            .args(["up", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(&self.data)
            // Ctrl-C in this terminal is for the demo, not for the server that outlives it.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(log).with_context(|| log.display().to_string())?)
            .spawn()
            .with_context(|| format!("cannot start {}", self.flumina.display()))?;
        match ready(&mut child) {
            Some(url) => Ok(url),
            None => {
                drop(child.kill());
                bail!(
                    "Flumina did not start; its log says\n{}",
                    fs::read_to_string(log).unwrap_or_default()
                )
            }
        }
    }

    /// Submits with the SDK, follows, and prints what came out. Returns the run's id.
    fn pipeline(&self, url: &str, python: &Path, script: &Path) -> Result<String> {
        let output = Command::new(python)
            .arg(script)
            .args(["--host", url])
            .env("PATH", &self.path)
            .stderr(Stdio::inherit())
            .output()
            .context("cannot run the example")?;
        ensure!(
            output.status.success(),
            "the kfp SDK could not submit {}",
            script.display()
        );
        let text = String::from_utf8_lossy(&output.stdout);
        let run = run_id(&text).context("the example did not print the id of its run")?;
        self.client(url, &["run", "watch", run])?;
        println!();
        self.client(url, &["run", "get", run])?;
        println!("\nmetrics");
        print!("{}", self.metrics(url, run)?);
        println!("\nartifacts");
        self.client(url, &["artifact", "list", "--run", run])?;
        Ok(run.to_owned())
    }

    fn metrics(&self, url: &str, run: &str) -> Result<String> {
        let listing = [
            "artifact",
            "list",
            "--type",
            "system.Metrics",
            "-o",
            "json",
            "--run",
            run,
        ];
        let output = self
            .command()
            .args(listing)
            .args(["--server", url])
            .output()?;
        ensure!(
            output.status.success(),
            "cannot list metrics\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(metrics(&serde_json::from_slice(&output.stdout)?))
    }

    fn client(&self, url: &str, args: &[&str]) -> Result<()> {
        let status = self.command().args(args).args(["--server", url]).status();
        let status = status.with_context(|| format!("cannot run {}", self.flumina.display()))?;
        ensure!(status.success(), "`flumina {}` failed", args.join(" "));
        Ok(())
    }

    fn farewell(&self, url: &str, run: &str) {
        let flumina = self.flumina.display();
        let data = self.data.display();
        let log = self.log.display();
        println!(
            "
Flumina keeps running at {url}
  artifacts      {data}/artifacts
  its own log    {log}
  a step's log   {flumina} run logs {run} train-forest --server {url}
  replay a step  {flumina} step replay {run} train-forest --server {url}
  stop           {flumina} down --data-dir {data}"
        );
    }
}

/// A line per artifact of metrics, oldest first, named by the folder of the task that wrote it.
fn metrics(listing: &Value) -> String {
    let mut lines = String::new();
    let artifacts = listing["artifacts"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    for artifact in artifacts.iter().rev() {
        let values = artifact["metadata"].as_object();
        let values: Vec<String> = values
            .into_iter()
            .flatten()
            .filter(|(_, value)| value.is_number())
            .map(|(name, value)| format!("{name} {value}"))
            .collect();
        let uri = artifact["uri"].as_str().unwrap_or_default();
        // Below a run: task, attempt, output.
        let task = uri.rsplit('/').nth(2).unwrap_or_default();
        lines.push_str(&format!("  {task:<18}{}\n", values.join(", ")));
    }
    lines
}

/// The address after `ready`, the one line that `flumina up` prints; `None` when it ends instead.
fn ready(child: &mut Child) -> Option<String> {
    let lines = BufReader::new(child.stdout.take()?).lines();
    lines
        .map_while(Result::ok)
        .find_map(|line| line.strip_prefix("ready ").map(str::to_owned))
}

/// The id after `run `, the last such line.
fn run_id(text: &str) -> Option<&str> {
    text.lines()
        .rev()
        .find_map(|line| line.strip_prefix("run "))
        .map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn say(script: &str) -> Child {
        Command::new("sh")
            .args(["-c", script])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    }

    #[test]
    fn the_address_is_read_from_the_ready_line() {
        let mut child = say("echo ready http://127.0.0.1:4711; exec sleep 60");
        assert_eq!(ready(&mut child).as_deref(), Some("http://127.0.0.1:4711"));
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_server_that_ends_before_it_is_ready_is_noticed() {
        let mut child = say("echo something else");
        assert_eq!(ready(&mut child), None);
        child.wait().unwrap();
    }

    #[test]
    fn metrics_are_named_by_their_task() {
        let listing = serde_json::json!({"artifacts": [
            {"uri": "/d/p/r/pick/1/summary", "metadata": {"best_auc": 0.99, "display_name": "summary"}},
            {"uri": "/d/p/r/evaluate/1/metrics", "metadata": {"accuracy": 0.5, "auc": 0.75}},
        ]});
        assert_eq!(
            metrics(&listing),
            "  evaluate          accuracy 0.5, auc 0.75\n  pick              best_auc 0.99\n"
        );
    }

    #[test]
    fn the_run_is_the_last_that_the_example_names() {
        assert_eq!(run_id("compiled\nrun 1-2\n"), Some("1-2"));
        assert_eq!(run_id("nothing"), None);
    }
}
