//! Interpreters with the packages that tests use.

use std::path::PathBuf;
use std::process::Command;

use crate::env;

/// The current kfp SDK, with scikit-learn and pandas.
pub fn kfp() -> PathBuf {
    kfp_version("2.17")
}

/// An SDK by its minor version: `2.17`, `2.9`, `2.4`.
pub fn kfp_version(minor: &str) -> PathBuf {
    env().python(&format!("kfp-{minor}"))
}

/// gRPC, requests, pytest and the like.
pub fn tools() -> PathBuf {
    env().python("tools")
}

/// Runs a script and returns what it printed. Panics with its errors when it fails.
pub fn run(python: PathBuf, args: &[&str]) -> String {
    let output = Command::new(&python).args(args).output();
    let output = output.unwrap_or_else(|error| panic!("{}: {error}", python.display()));
    assert!(
        output.status.success(),
        "{} {} ended with {}\n{}{}",
        python.display(),
        args.join(" "),
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}
