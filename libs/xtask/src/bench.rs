//! `cargo xtask bench AREA`: builds for release and runs `integration-tests/bench/AREA.py`.

use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::setup::{self, Need};
use crate::workspace::Workspace;

pub(crate) fn run(workspace: &Workspace, area: &str) -> Result<()> {
    let folder = workspace.root.join("integration-tests/bench");
    let script = folder.join(format!("{area}.py"));
    // The area is a word of ours, not a path.
    let plain = area.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    if !plain || !script.is_file() {
        bail!("no measurement `{area}`: {} is missing", script.display());
    }
    let mut build = workspace.cargo();
    build.args(["build", "--release", "--locked", "-p", "flumina-cli"]);
    let status = build.status().context("cannot run cargo")?;
    ensure!(status.success(), "the release build failed");

    let env = setup::prepare(workspace, Need::Everything)?;
    let status = Command::new(env.python("kfp-2.17")?)
        .arg(&script)
        .arg("--flumina")
        .arg(workspace.binary("release", "flumina"))
        .arg("--out")
        .arg(folder.join("results"))
        .env("FLUMINA_TESTENV", env.write(workspace)?)
        .env("PATH", env.path()?)
        .status()
        .context("cannot start the measurement")?;
    ensure!(
        status.success(),
        "the measurement `{area}` failed or missed its bar"
    );
    Ok(())
}
