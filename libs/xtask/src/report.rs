//! One line per step, failures whole, totals at the end.

use std::fs::{self, File};
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result};

/// Tests counted so far, and where steps log.
#[derive(Debug)]
pub(crate) struct Report {
    logs: PathBuf,
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

/// How one program ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) success: bool,
    /// Standard output and standard error in the order of writing.
    pub(crate) output: String,
}

impl Report {
    pub(crate) fn new(logs: PathBuf) -> Result<Self> {
        fs::create_dir_all(&logs).with_context(|| logs.display().to_string())?;
        Ok(Self {
            logs,
            passed: 0,
            failed: 0,
        })
    }

    /// Runs a step of our own. What it returns on success is a note for its line; a failure counts as one.
    pub(crate) fn step<T>(
        &mut self,
        name: &str,
        work: impl FnOnce() -> Result<T>,
        note: impl FnOnce(&T) -> String,
    ) -> Option<T> {
        let line = Line::start(name);
        match work() {
            Ok(value) => {
                line.end("ok", &note(&value));
                Some(value)
            }
            Err(error) => {
                line.end("FAILED", "");
                println!("{error:#}\n");
                self.failed += 1;
                None
            }
        }
    }

    /// Runs a program as a step that passes or fails as a whole. A failure counts as one.
    pub(crate) fn program(&mut self, name: &str, command: &mut Command) -> Result<bool> {
        let line = Line::start(name);
        let ran = self.capture(name, command)?;
        line.end(if ran.success { "ok" } else { "FAILED" }, "");
        if !ran.success {
            println!("{}\n", ran.output.trim_end());
            self.failed += 1;
        }
        Ok(ran.success)
    }

    /// Runs a program that counts its own tests; `count` reads them from its output.
    pub(crate) fn tests(
        &mut self,
        name: &str,
        command: &mut Command,
        count: impl FnOnce(&Ran) -> Counts,
        abridge: impl FnOnce(&str) -> String,
    ) -> Result<()> {
        let line = Line::start(name);
        let ran = self.capture(name, command)?;
        let mut counts = count(&ran);
        if !ran.success && counts.failed == 0 {
            counts.failed = 1;
        }
        self.passed += counts.passed;
        self.failed += counts.failed;
        let note = format!("{} passed, {} failed", counts.passed, counts.failed);
        line.end(if counts.failed == 0 { "ok" } else { "FAILED" }, &note);
        if counts.failed > 0 {
            println!("{}\n", abridge(&ran.output).trim_end());
        }
        Ok(())
    }

    /// The closing line.
    pub(crate) fn finish(&self) -> bool {
        println!("{} passed, {} failed", self.passed, self.failed);
        self.failed == 0
    }

    fn capture(&self, name: &str, command: &mut Command) -> Result<Ran> {
        let path = self
            .logs
            .join(format!("{}.log", name.replace(['/', ' '], "-")));
        run_logged(&path, command)
    }
}

/// Tests of one program.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

/// Runs the program with both outputs in one log file.
pub(crate) fn run_logged(path: &Path, command: &mut Command) -> Result<Ran> {
    let log = File::create(path).with_context(|| path.display().to_string())?;
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .status()
        .with_context(|| format!("cannot run {program}"))?;
    let output = String::from_utf8_lossy(&fs::read(path)?).into_owned();
    Ok(Ran {
        success: status.success(),
        output,
    })
}

/// A line on the screen that gets its result when the step ends.
struct Line {
    name: String,
    start: Instant,
    live: bool,
}

impl Line {
    fn start(name: &str) -> Self {
        let live = std::io::stdout().is_terminal();
        if live {
            print!("       {name} …");
            drop(std::io::stdout().flush());
        }
        Self {
            name: name.to_owned(),
            start: Instant::now(),
            live,
        }
    }

    fn end(self, result: &str, note: &str) {
        let seconds = self.start.elapsed().as_secs_f64();
        if self.live {
            print!("\r\x1b[K");
        }
        let line = format!("{result:<7}{:<32}{seconds:>7.1} s  {note}", self.name);
        println!("{}", line.trim_end());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::Scratch;

    #[test]
    fn a_failing_program_is_counted_and_its_output_kept() {
        let scratch = Scratch::new("report").unwrap();
        let mut report = Report::new(scratch.path().to_path_buf()).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo out; echo err >&2; exit 3"]);
        assert!(!report.program("a step", &mut command).unwrap());
        assert_eq!(report.failed, 1);
        let log = fs::read_to_string(scratch.path().join("a-step.log")).unwrap();
        assert_eq!(log, "out\nerr\n");
    }

    #[test]
    fn a_test_program_that_dies_without_counting_is_one_failure() {
        let scratch = Scratch::new("report-died").unwrap();
        let mut report = Report::new(scratch.path().to_path_buf()).unwrap();
        let mut command = Command::new("false");
        report
            .tests("died", &mut command, |_| Counts::default(), str::to_owned)
            .unwrap();
        assert_eq!((report.passed, report.failed), (0, 1));
        assert!(!report.finish());
    }
}
