//! What the API says about a run, held against what its programs did.

use std::collections::BTreeMap;

use api_pipelines::v1 as own;
use api_runner::v1::State as Workload;

use crate::{Client, Mark, Witness};

/// Everything that is known about a run that has ended.
#[derive(Debug)]
pub struct Verdict {
    /// The run.
    pub run: own::Run,
    /// Its programs' tasks.
    pub tasks: Vec<own::Task>,
    /// What the programs did.
    pub marks: Vec<Mark>,
    /// The logs by workload.
    pub logs: BTreeMap<String, String>,
}

impl Verdict {
    /// Waits for the end of a run and collects.
    pub async fn of(client: &Client, run: &str, witness: &Witness) -> Self {
        let ended = client.wait_end(run).await;
        let tasks = client.tasks(run).await;
        let mut logs = BTreeMap::new();
        for task in &tasks {
            for attempt in &task.attempts {
                let log = client.log(run, &task.task_id, attempt.number).await;
                logs.insert(attempt.workload_id.clone(), log.unwrap_or_default());
            }
        }
        Self {
            run: ended,
            tasks,
            marks: witness.of_run(run),
            logs,
        }
    }

    /// The promise, whatever died: no program started twice, none without an attempt that is visible, attempts
    /// without gaps, a new attempt only after a lost one or one whose program says that it failed, and every line that was printed in the log.
    pub fn assert_promise(&self) {
        let mut known = BTreeMap::new();
        for task in &self.tasks {
            let count = task.attempts.len();
            for (index, attempt) in task.attempts.iter().enumerate() {
                assert_eq!(attempt.number as usize, index + 1, "{self:#?}");
                known.insert(attempt.workload_id.clone(), attempt);
                let repeated = index + 1 < count;
                let failed = || {
                    let mut marks = self.done_by(&attempt.workload_id);
                    attempt.state() == Workload::Failed && marks.any(|mark| mark.what == "fail")
                };
                let allowed = !repeated || attempt.state() == Workload::Lost || failed();
                assert!(allowed, "{self:#?}");
            }
        }
        let mut starts: BTreeMap<&str, usize> = BTreeMap::new();
        for mark in self.marks.iter().filter(|mark| mark.what == "start") {
            let workload = mark.workload.as_str();
            assert!(
                known.contains_key(workload),
                "{workload} is not an attempt: {self:#?}"
            );
            *starts.entry(workload).or_default() += 1;
        }
        for (workload, count) in &starts {
            assert_eq!(*count, 1, "{workload} started {count} times: {self:#?}");
        }
        for (workload, attempt) in known {
            if attempt.state() == Workload::Succeeded {
                let did: Vec<&str> = self
                    .done_by(&workload)
                    .map(|mark| mark.what.as_str())
                    .collect();
                assert_eq!(did, ["start", "end"], "{workload}: {self:#?}");
            }
            self.assert_log(&workload);
        }
    }

    /// Every step ended well.
    pub fn assert_succeeded(&self) {
        assert_eq!(self.run.state(), own::State::Succeeded, "{self:#?}");
        for task in &self.tasks {
            assert_eq!(task.state(), own::State::Succeeded, "{self:#?}");
            let last = task.attempts.last().expect("an attempt");
            assert_eq!(last.state(), Workload::Succeeded, "{self:#?}");
        }
    }

    /// Nothing was lost, so nothing was repeated.
    pub fn assert_nothing_lost(&self) {
        for task in &self.tasks {
            assert_eq!(task.attempts.len(), 1, "{self:#?}");
        }
        assert_eq!(self.lost(), 0, "{self:#?}");
    }

    /// How many attempts were lost.
    pub fn lost(&self) -> usize {
        let attempts = self.tasks.iter().flat_map(|task| &task.attempts);
        attempts
            .filter(|attempt| attempt.state() == Workload::Lost)
            .count()
    }

    /// A task by name.
    pub fn task(&self, name: &str) -> &own::Task {
        let found = self.tasks.iter().find(|task| task.name == name);
        found.unwrap_or_else(|| panic!("no task {name}: {self:#?}"))
    }

    fn done_by<'a>(&'a self, workload: &'a str) -> impl Iterator<Item = &'a Mark> {
        self.marks
            .iter()
            .filter(move |mark| mark.workload == workload)
    }

    /// A line is printed before its mark is left.
    fn assert_log(&self, workload: &str) {
        let mut expected = String::new();
        for mark in self.done_by(workload) {
            let line = if mark.what == "start" { "one" } else { "two" };
            expected.push_str(&format!("{line} {}\n", mark.step));
        }
        let log = &self.logs[workload];
        assert!(
            log.starts_with(&expected),
            "the log of {workload} is `{log}`, but the program printed `{expected}`"
        );
    }
}
