//! What programs really did: a file to which each adds lines with O_APPEND.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// A witness file. Lines are `WHAT STEP WORKLOAD PID`.
#[derive(Debug, Clone)]
pub struct Witness {
    path: PathBuf,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// `start`, `end`, or what a script says in between.
    pub what: String,
    /// The step's name.
    pub step: String,
    /// The workload's id: run, task and attempt, joined by dots.
    pub workload: String,
    /// The program's process id.
    pub pid: i32,
}

impl Mark {
    /// The run.
    pub fn run(&self) -> &str {
        self.workload.split('.').next().unwrap()
    }

    /// The attempt's number.
    pub fn attempt(&self) -> i32 {
        let number = self.workload.rsplit('.').next().unwrap();
        number.parse().expect("the number of an attempt")
    }
}

impl Witness {
    /// A file that may not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Everything so far. A line that is not whole fails the test: appends of one line are atomic.
    pub fn marks(&self) -> Vec<Mark> {
        let text = fs::read_to_string(&self.path).unwrap_or_default();
        text.lines().map(parse).collect()
    }

    /// The marks of a run.
    pub fn of_run(&self, run: &str) -> Vec<Mark> {
        let mut marks = self.marks();
        marks.retain(|mark| mark.run() == run);
        marks
    }

    /// How often each workload of a run started.
    pub fn starts(&self, run: &str) -> BTreeMap<String, usize> {
        let mut starts = BTreeMap::new();
        for mark in self.of_run(run) {
            if mark.what == "start" {
                *starts.entry(mark.workload).or_default() += 1;
            }
        }
        starts
    }

    /// Waits for a mark.
    pub async fn wait_for(&self, what: &str, step: &str) -> Mark {
        let text = format!("the witness of `{what} {step}`");
        testkit::eventually(&text, crate::LIMIT, || async {
            let marks = self.marks();
            let found = marks
                .iter()
                .find(|mark| mark.what == what && mark.step == step);
            found.cloned().ok_or(marks.len())
        })
        .await
    }
}

fn parse(line: &str) -> Mark {
    let words: Vec<&str> = line.split(' ').collect();
    let [what, step, workload, pid] = words[..] else {
        panic!("the witness says `{line}`");
    };
    Mark {
        what: what.to_owned(),
        step: step.to_owned(),
        workload: workload.to_owned(),
        pid: pid.parse().expect("a process id"),
    }
}
