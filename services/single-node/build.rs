//! Builds the agent that the program carries: a small static binary of its own profile.
//!
//! The nested cargo has a target directory of its own beside the outer profiles, so it never waits for the lock that
//! the outer cargo holds while this script runs. `FLUMINA_AGENT_BIN` names a finished agent instead.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the agent is made of, relative to the root of the workspace.
const SOURCES: [&str; 8] = [
    "Cargo.lock",
    "Cargo.toml",
    "rust-toolchain.toml",
    "services/agent/Cargo.toml",
    "services/agent/src",
    "libs/step/Cargo.toml",
    "libs/step/src",
    "libs/api/step",
];

fn main() -> Result<(), String> {
    println!("cargo::rerun-if-env-changed=FLUMINA_AGENT_BIN");
    let out = PathBuf::from(variable("OUT_DIR")?);
    let agent = match env::var_os("FLUMINA_AGENT_BIN") {
        Some(path) => {
            println!("cargo::rerun-if-changed={}", Path::new(&path).display());
            PathBuf::from(path)
        }
        None => build(&out)?,
    };
    // Within OUT_DIR, so that the compiler notices a new one.
    let copy = out.join("flumina-agent");
    fs::copy(&agent, &copy)
        .map_err(|error| format!("cannot read the agent {}: {error}", agent.display()))?;
    println!("cargo::rustc-env=FLUMINA_AGENT={}", copy.display());
    Ok(())
}

fn build(out: &Path) -> Result<PathBuf, String> {
    let root = PathBuf::from(variable("CARGO_MANIFEST_DIR")?).join("../..");
    for source in SOURCES {
        println!("cargo::rerun-if-changed={}", root.join(source).display());
    }
    let triple = static_target(&variable("TARGET")?);
    let target = target_dir(out).join("agent-build");
    let mut cargo = Command::new(variable("CARGO")?);
    cargo
        .current_dir(&root)
        .args([
            "build",
            "--locked",
            "--profile",
            "agent",
            "--package",
            "flumina-agent",
            "--target",
            &triple,
        ])
        .arg("--target-dir")
        .arg(&target);
    for (name, _) in env::vars_os() {
        if belongs_to_outer_build(&name) {
            cargo.env_remove(name);
        }
    }
    // Static: it runs in whatever file system a workload has.
    cargo.env("RUSTFLAGS", "-C target-feature=+crt-static");
    let status = cargo
        .status()
        .map_err(|error| format!("cannot start {cargo:?}: {error}"))?;
    if !status.success() {
        return Err(format!(
            "the agent could not be built ({status}): {cargo:?}"
        ));
    }
    Ok(target.join(triple).join("agent/flumina-agent"))
}

/// Settings of the outer build (its profile, its wrapper such as clippy, its target) are not for the agent; where
/// cargo keeps crates, its network options, linkers and the job server are.
fn belongs_to_outer_build(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else {
        return false;
    };
    let kept = ["CARGO_HOME", "CARGO_MAKEFLAGS"].contains(&name)
        || [
            "CARGO_NET_",
            "CARGO_HTTP_",
            "CARGO_REGISTR",
            "CARGO_SOURCE_",
        ]
        .iter()
        .any(|start| name.starts_with(start))
        || (name.starts_with("CARGO_TARGET_") && name.ends_with("_LINKER"));
    let outer = name.starts_with("CARGO")
        || name.starts_with("RUSTC")
        || name.starts_with("RUSTDOC")
        || name.starts_with("CLIPPY_")
        || [
            "RUSTFLAGS",
            "TARGET",
            "HOST",
            "PROFILE",
            "OUT_DIR",
            "OPT_LEVEL",
            "DEBUG",
        ]
        .contains(&name);
    outer && !kept
}

/// The target of the outer build with the C library that can be linked statically everywhere.
fn static_target(target: &str) -> String {
    match target.strip_suffix("-linux-musl") {
        Some(machine) => format!("{machine}-linux-gnu"),
        None => target.to_owned(),
    }
}

/// The directory that cargo marks as its cache. With `--target`, so is the target's own directory in it.
fn target_dir(out: &Path) -> PathBuf {
    let marked = |dir: &&Path| dir.join("CACHEDIR.TAG").is_file();
    let inner = out.ancestors().find(marked).unwrap_or(out);
    inner.parent().filter(marked).unwrap_or(inner).to_owned()
}

#[expect(
    clippy::disallowed_methods,
    reason = "cargo talks to build scripts by variables"
)]
fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|error| format!("{name}: {error}"))
}
