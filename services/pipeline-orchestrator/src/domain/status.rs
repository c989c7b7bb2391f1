//! The states of runs, tasks and attempts, and the moves between them.

use serde::{Deserialize, Serialize};

/// An enum that is stored and shown by name.
macro_rules! named {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $text)] $variant,)+
        }

        impl $name {
            /// Every value.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The name that is stored and shown.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }

            /// The value of a stored name.
            pub fn parse(text: &str) -> Option<Self> {
                match text {
                    $($text => Some(Self::$variant),)+
                    _ => None,
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}

named!(
    /// What a task is.
    TaskKind {
        /// The pipeline itself.
        Root = "ROOT",
        /// A program.
        Container = "CONTAINER",
        /// A group of tasks.
        Dag = "DAG",
        /// Brings an artifact in by its URI.
        Importer = "IMPORTER",
        /// A component once per item; its tasks are the iterations.
        Loop = "LOOP",
    }
);

impl TaskKind {
    /// Whether the task holds other tasks.
    pub const fn groups(self) -> bool {
        match self {
            Self::Root | Self::Dag | Self::Loop => true,
            Self::Container | Self::Importer => false,
        }
    }
}

named!(
    /// The state of a task.
    TaskStatus {
        /// It waits for tasks before it.
        Pending = "PENDING",
        /// Its attempt is committed; the machine has not started the program yet.
        Ready = "READY",
        /// Its program, or its group, runs; an importer waits for an answer.
        Running = "RUNNING",
        /// It ended well.
        Succeeded = "SUCCEEDED",
        /// It failed.
        Failed = "FAILED",
        /// It never started, by a rule of the pipeline; the reason says which.
        Skipped = "SKIPPED",
        /// It is being stopped.
        Canceling = "CANCELING",
        /// It was stopped, or never started because the run was stopped.
        Canceled = "CANCELED",
        /// Its outputs are those of another task with the same key.
        Cached = "CACHED",
    }
);

impl TaskStatus {
    /// Whether nothing can happen to the task any more.
    pub const fn ended(self) -> bool {
        match self {
            Self::Pending | Self::Ready | Self::Running | Self::Canceling => false,
            Self::Succeeded | Self::Failed | Self::Skipped | Self::Canceled | Self::Cached => true,
        }
    }

    /// The state after `action`.
    ///
    /// # Errors
    /// The action is not possible in this state.
    pub const fn after(self, action: TaskAction) -> Result<Self, IllegalMove> {
        use TaskAction as A;
        use TaskStatus as S;
        let next = match (self, action) {
            (S::Pending, A::Launch) => S::Ready,
            (S::Ready | S::Running, A::Repeat) => S::Ready,
            (S::Pending, A::Open) | (S::Ready, A::Run) => S::Running,
            (S::Ready | S::Running | S::Canceling, A::Succeed) => S::Succeeded,
            (S::Pending | S::Ready | S::Running | S::Canceling, A::Fail) => S::Failed,
            (S::Pending, A::Skip) => S::Skipped,
            (S::Pending, A::Reuse) => S::Cached,
            (S::Ready | S::Running, A::Cancel) => S::Canceling,
            (S::Pending | S::Canceling, A::End) => S::Canceled,
            (S::Succeeded | S::Failed | S::Skipped | S::Canceled | S::Cached, A::Reset) => {
                S::Pending
            }
            (
                S::Pending
                | S::Ready
                | S::Running
                | S::Succeeded
                | S::Failed
                | S::Skipped
                | S::Canceling
                | S::Canceled
                | S::Cached,
                A::Launch
                | A::Open
                | A::Run
                | A::Repeat
                | A::Succeed
                | A::Fail
                | A::Skip
                | A::Reuse
                | A::Cancel
                | A::End
                | A::Reset,
            ) => {
                return Err(IllegalMove {
                    status: self.as_str(),
                    action: action.as_str(),
                });
            }
        };
        Ok(next)
    }
}

named!(
    /// What can be done to a task.
    TaskAction {
        /// Its first attempt is committed.
        Launch = "launch",
        /// Its group is opened, or its look-up asked.
        Open = "open",
        /// Its program started.
        Run = "run",
        /// A lost or a failed attempt is followed by another, now or after a wait.
        Repeat = "repeat",
        /// It ended well.
        Succeed = "succeed",
        /// It failed.
        Fail = "fail",
        /// It will never start.
        Skip = "skip",
        /// It takes the outputs of another task.
        Reuse = "reuse",
        /// It is asked to stop.
        Cancel = "cancel",
        /// It stopped, or will never start because the run is being stopped.
        End = "end",
        /// The run is retried and the task is to be executed again.
        Reset = "reset",
    }
);

/// The action is not possible in the state: a fault of the engine, or of what was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{action} is not possible in state {status}")]
pub struct IllegalMove {
    /// The state.
    pub status: &'static str,
    /// The action.
    pub action: &'static str,
}

named!(
    /// The state of a run.
    RunStatus {
        /// It is stored; the engine has not started it.
        Pending = "PENDING",
        /// It runs.
        Running = "RUNNING",
        /// Every task ended well.
        Succeeded = "SUCCEEDED",
        /// A task failed.
        Failed = "FAILED",
        /// It is being stopped.
        Canceling = "CANCELING",
        /// It was stopped.
        Canceled = "CANCELED",
    }
);

impl RunStatus {
    /// Whether nothing can happen to the run any more.
    pub const fn ended(self) -> bool {
        match self {
            Self::Pending | Self::Running | Self::Canceling => false,
            Self::Succeeded | Self::Failed | Self::Canceled => true,
        }
    }

    /// The state after `action`.
    ///
    /// # Errors
    /// The action is not possible in this state.
    pub const fn after(self, action: RunAction) -> Result<Self, IllegalMove> {
        use RunAction as A;
        use RunStatus as S;
        let next = match (self, action) {
            (S::Pending, A::Start) => S::Running,
            (S::Running, A::Succeed) => S::Succeeded,
            // A run that took too long is stopped first.
            (S::Running | S::Canceling, A::Fail) => S::Failed,
            (S::Running, A::Cancel) => S::Canceling,
            (S::Pending | S::Canceling, A::End) => S::Canceled,
            (S::Failed | S::Canceled, A::Retry) => S::Pending,
            (
                S::Pending | S::Running | S::Succeeded | S::Failed | S::Canceling | S::Canceled,
                A::Start | A::Succeed | A::Fail | A::Cancel | A::End | A::Retry,
            ) => {
                return Err(IllegalMove {
                    status: self.as_str(),
                    action: action.as_str(),
                });
            }
        };
        Ok(next)
    }
}

named!(
    /// What can be done to a run.
    RunAction {
        /// The engine starts it.
        Start = "start",
        /// Its root ended well.
        Succeed = "succeed",
        /// Its root failed.
        Fail = "fail",
        /// It is asked to stop.
        Cancel = "cancel",
        /// It stopped.
        End = "end",
        /// It ended without success and is to go on from there.
        Retry = "retry",
    }
);

named!(
    /// The state of an attempt: that of its workload, as far as it is known.
    AttemptStatus {
        /// It is committed; the runner has not answered yet.
        Committed = "COMMITTED",
        /// It waits for the machine.
        Queued = "QUEUED",
        /// Its environment is being built.
        Preparing = "PREPARING",
        /// Its program runs.
        Running = "RUNNING",
        /// It is being stopped.
        Stopping = "STOPPING",
        /// It ended well.
        Succeeded = "SUCCEEDED",
        /// It failed, or the runner refused it.
        Failed = "FAILED",
        /// It was stopped on request.
        Stopped = "STOPPED",
        /// Nobody knows how far it came.
        Lost = "LOST",
    }
);

/// What a report about an attempt means, given what is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advance {
    /// The attempt enters the reported state.
    Enter,
    /// The state is the same; its details may be new.
    Same,
    /// The report is late: the attempt is past that.
    Stale,
}

impl AttemptStatus {
    /// Whether the attempt is over.
    pub const fn ended(self) -> bool {
        match self {
            Self::Committed | Self::Queued | Self::Preparing | Self::Running | Self::Stopping => {
                false
            }
            Self::Succeeded | Self::Failed | Self::Stopped | Self::Lost => true,
        }
    }

    /// What it means that the runner reports `reported`. An end is never taken back, and a program that runs does
    /// not wait again; waiting for the machine and for the environment may take turns.
    pub const fn advance(self, reported: Self) -> Advance {
        use AttemptStatus as S;
        match (self, reported) {
            (S::Queued, S::Queued)
            | (S::Preparing, S::Preparing)
            | (S::Running, S::Running)
            | (S::Stopping, S::Stopping) => Advance::Same,
            (
                S::Committed | S::Queued | S::Preparing,
                S::Queued
                | S::Preparing
                | S::Running
                | S::Stopping
                | S::Succeeded
                | S::Failed
                | S::Stopped
                | S::Lost,
            )
            | (S::Running, S::Stopping | S::Succeeded | S::Failed | S::Stopped | S::Lost)
            | (S::Stopping, S::Succeeded | S::Failed | S::Stopped | S::Lost) => Advance::Enter,
            (
                S::Committed
                | S::Queued
                | S::Preparing
                | S::Running
                | S::Stopping
                | S::Succeeded
                | S::Failed
                | S::Stopped
                | S::Lost,
                S::Committed
                | S::Queued
                | S::Preparing
                | S::Running
                | S::Stopping
                | S::Succeeded
                | S::Failed
                | S::Stopped
                | S::Lost,
            ) => Advance::Stale,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Display;

    use super::*;

    #[test]
    fn names_read_back() {
        for status in TaskStatus::ALL {
            assert_eq!(TaskStatus::parse(status.as_str()), Some(*status));
        }
        assert_eq!(TaskStatus::parse("DONE"), None);
    }

    /// A row per action, a column per state.
    fn grid<A: Display + Copy, S: Display + Copy>(
        actions: &[A],
        states: &[S],
        cell: impl Fn(A, S) -> String,
    ) -> String {
        let row = |first: &str, cells: Vec<String>| {
            let cells: String = cells.iter().map(|cell| format!(" {cell:<10}")).collect();
            format!("{first:<10}{}\n", cells.trim_end())
        };
        let mut table = row("", states.iter().map(S::to_string).collect());
        for action in actions {
            let cells = states.iter().map(|state| cell(*action, *state)).collect();
            table.push_str(&row(&action.to_string(), cells));
        }
        table
    }

    #[test]
    fn transitions_are_those_of_the_committed_table() {
        let next = |next: Result<String, IllegalMove>| next.unwrap_or_else(|_| "-".to_owned());
        let runs = grid(RunAction::ALL, RunStatus::ALL, |action, status| {
            next(status.after(action).map(|next| next.to_string()))
        });
        let tasks = grid(TaskAction::ALL, TaskStatus::ALL, |action, status| {
            next(status.after(action).map(|next| next.to_string()))
        });
        let attempts = grid(
            AttemptStatus::ALL,
            AttemptStatus::ALL,
            |reported, status| format!("{:?}", status.advance(reported)),
        );
        let table = format!(
            "A run, by what is done to it\n{runs}\nA task, by what is done to it\n{tasks}\n\
             An attempt, by what is reported\n{attempts}"
        );
        insta::with_settings!({ prepend_module_to_snapshot => false }, {
            insta::assert_snapshot!("transitions", table);
        });
    }

    #[test]
    fn an_end_is_final_unless_the_run_is_retried() {
        for status in TaskStatus::ALL.iter().filter(|status| status.ended()) {
            let mut possible = TaskAction::ALL.iter();
            assert!(possible.all(|a| *a == TaskAction::Reset || status.after(*a).is_err()));
        }
        for status in RunStatus::ALL.iter().filter(|status| status.ended()) {
            let mut possible = RunAction::ALL.iter();
            assert!(possible.all(|a| *a == RunAction::Retry || status.after(*a).is_err()));
        }
        assert!(RunStatus::Succeeded.after(RunAction::Retry).is_err());
        for status in AttemptStatus::ALL.iter().filter(|status| status.ended()) {
            let stale = |reported: &AttemptStatus| status.advance(*reported) == Advance::Stale;
            assert!(AttemptStatus::ALL.iter().all(stale));
        }
    }
}
