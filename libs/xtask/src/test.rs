//! `cargo xtask test`: every check and every test, one line per step, totals on the last line.

use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::conformance;
use crate::report::{Counts, Ran, Report};
use crate::setup::{self, Need};
use crate::tidy;
use crate::workspace::Workspace;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Everything.
    Full,
    /// Rust only: the unit and integration tests of every crate.
    Quick,
}

pub(crate) fn run(workspace: &Workspace, scope: Scope) -> Result<ExitCode> {
    let mut report = Report::new(workspace.logs())?;
    let need = match scope {
        Scope::Full => Need::Everything,
        Scope::Quick => Need::Rust,
    };
    let env = std::thread::scope(|threads| {
        // Downloads wait for the network while the compiler works.
        let setup = threads.spawn(|| setup::prepare(workspace, need));
        let built = compile(workspace, &mut report);
        let setup = setup
            .join()
            .unwrap_or_else(|_| anyhow::bail!("setup panicked"));
        let env = report.step("environment", || setup, |_| String::new());
        built.map(|built| env.filter(|_| built))
    })?;
    if let Some(env) = env {
        let file = env.write(workspace)?;
        let mut tests = workspace.cargo();
        tests
            .args(["test", "--workspace", "--locked", "--no-fail-fast"])
            .env("FLUMINA_TESTENV", &file)
            .env("PATH", env.path()?);
        if scope == Scope::Quick {
            tests.args(["--exclude", "flumina-integration-tests"]);
        }
        report.tests("cargo test", &mut tests, count, abridge)?;
        if scope == Scope::Full {
            conformance::run(workspace, &mut report, &env, &file)?;
        }
    }
    if report.failed > 0 {
        println!("logs: {}", workspace.logs().display());
    }
    // The totals are the last line, for people and for whatever reads the output.
    Ok(if report.finish() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Checks and builds; whether there is something to test.
fn compile(workspace: &Workspace, report: &mut Report) -> Result<bool> {
    let mut format = workspace.cargo();
    format.args(["fmt", "--all", "--", "--check", "--color=never"]);
    report.program("format", &mut format)?;
    tidy::check(workspace, report);
    report.program("clippy", &mut clippy(workspace))?;
    // Tests and programs in one command, so that both use the same features of every package.
    let mut build = workspace.cargo();
    build.args(["build", "--workspace", "--locked", "--bins", "--tests"]);
    report.program("build", &mut build)
}

fn clippy(workspace: &Workspace) -> Command {
    let mut command = workspace.cargo();
    command.args([
        "clippy",
        "--workspace",
        "--locked",
        "--all-targets",
        "--quiet",
    ]);
    command.args(["--", "-D", "warnings"]);
    command
}

/// Sums the lines by which test programs end. A test that is ignored counts as failed: it proves nothing.
fn count(ran: &Ran) -> Counts {
    let mut counts = Counts::default();
    for line in ran.output.lines() {
        let Some(result) = line.strip_prefix("test result: ") else {
            continue;
        };
        for part in result.split([';', '.']) {
            let mut words = part.split_whitespace();
            let number = words.next().and_then(|word| word.parse::<u64>().ok());
            match (number, words.next()) {
                (Some(number), Some("passed")) => counts.passed += number,
                (Some(number), Some("failed" | "ignored")) => counts.failed += number,
                _ => {}
            }
        }
    }
    counts
}

/// The output without what went well.
fn abridge(output: &str) -> String {
    let dull = |line: &&str| {
        (line.starts_with("test ") && line.ends_with(" ... ok"))
            || line.starts_with("test result: ok")
            || line.starts_with("     Running ")
            || line.starts_with("running ")
            || line.trim().is_empty()
    };
    let kept: Vec<&str> = output.lines().filter(|line| !dull(line)).collect();
    kept.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\
running 3 tests
test a ... ok
test b ... FAILED
test c ... ignored

failures:
    b: left != right

test result: FAILED. 1 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s

     Running tests/it/main.rs (x)
test result: ok. 40 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s
";

    #[test]
    fn results_are_summed_and_ignored_tests_fail() {
        let ran = Ran {
            success: false,
            output: OUTPUT.to_owned(),
        };
        assert_eq!(
            count(&ran),
            Counts {
                passed: 41,
                failed: 2
            }
        );
    }

    #[test]
    fn an_abridged_failure_keeps_its_reason() {
        let text = abridge(OUTPUT);
        assert!(text.contains("left != right") && text.contains("test b ... FAILED"));
        assert!(!text.contains("test a") && !text.contains("40 passed"));
    }
}
