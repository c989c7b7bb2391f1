//! The states of a workload and what moves it between them.

use std::fmt;

/// Where a workload is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    /// It waits for cores, memory or its gang.
    Queued,
    /// Its Python environment is being built.
    Preparing,
    /// Its agent was, or is about to be, started.
    Running,
    /// It was told to end.
    Stopping,
    /// The program and the collection of its outputs succeeded.
    Succeeded,
    /// It failed.
    Failed,
    /// It was stopped on request.
    Stopped,
    /// Its agent or the machine died before a result was recorded.
    Lost,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 8] = [
        Self::Queued,
        Self::Preparing,
        Self::Running,
        Self::Stopping,
        Self::Succeeded,
        Self::Failed,
        Self::Stopped,
        Self::Lost,
    ];

    /// The name in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "QUEUED",
            Self::Preparing => "PREPARING",
            Self::Running => "RUNNING",
            Self::Stopping => "STOPPING",
            Self::Succeeded => "SUCCEEDED",
            Self::Failed => "FAILED",
            Self::Stopped => "STOPPED",
            Self::Lost => "LOST",
        }
    }

    /// The state of a name in the database.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }

    /// Whether nothing happens to it any more.
    pub const fn ended(self) -> bool {
        matches!(
            self,
            Self::Succeeded | Self::Failed | Self::Stopped | Self::Lost
        )
    }

    /// Whether it may have an agent.
    pub const fn placed(self) -> bool {
        matches!(self, Self::Running | Self::Stopping)
    }
}

/// What happens to a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// Its environment must be built first.
    Prepare,
    /// Its environment is there.
    Ready,
    /// It has its cores and memory.
    Admit,
    /// Somebody asked for its end.
    Stop,
    /// Its result says success.
    Succeed,
    /// Its result says failure, or it cannot be started.
    Fail,
    /// Its result says that it was stopped.
    EndStopped,
    /// Its agent is gone and left no result.
    Lose,
}

impl Event {
    /// Every event.
    pub const ALL: [Self; 8] = [
        Self::Prepare,
        Self::Ready,
        Self::Admit,
        Self::Stop,
        Self::Succeed,
        Self::Fail,
        Self::EndStopped,
        Self::Lose,
    ];
}

/// An event that a state does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Illegal {
    /// The state.
    pub state: State,
    /// The event.
    pub event: Event,
}

impl fmt::Display for Illegal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} cannot happen in {:?}", self.event, self.state)
    }
}

impl std::error::Error for Illegal {}

/// The state after an event.
pub const fn next(state: State, event: Event) -> Result<State, Illegal> {
    let to = match state {
        State::Queued => match event {
            Event::Prepare => State::Preparing,
            Event::Admit => State::Running,
            Event::Stop => State::Stopped,
            Event::Fail => State::Failed,
            Event::Ready | Event::Succeed | Event::EndStopped | Event::Lose => {
                return Err(Illegal { state, event });
            }
        },
        State::Preparing => match event {
            Event::Ready => State::Queued,
            Event::Stop => State::Stopped,
            Event::Fail => State::Failed,
            Event::Prepare | Event::Admit | Event::Succeed | Event::EndStopped | Event::Lose => {
                return Err(Illegal { state, event });
            }
        },
        State::Running => match event {
            Event::Stop => State::Stopping,
            Event::Succeed => State::Succeeded,
            Event::Fail => State::Failed,
            Event::EndStopped => State::Stopped,
            Event::Lose => State::Lost,
            Event::Prepare | Event::Ready | Event::Admit => return Err(Illegal { state, event }),
        },
        State::Stopping => match event {
            Event::Stop => State::Stopping,
            // It was faster than the request.
            Event::Succeed => State::Succeeded,
            Event::Fail => State::Failed,
            // Ending the agent by force leaves no result; that is what was asked for.
            Event::EndStopped | Event::Lose => State::Stopped,
            Event::Prepare | Event::Ready | Event::Admit => return Err(Illegal { state, event }),
        },
        State::Succeeded | State::Failed | State::Stopped | State::Lost => match event {
            Event::Stop => state,
            Event::Prepare
            | Event::Ready
            | Event::Admit
            | Event::Succeed
            | Event::Fail
            | Event::EndStopped
            | Event::Lose => return Err(Illegal { state, event }),
        },
    };
    Ok(to)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    #[test]
    fn the_transition_table_is_the_committed_one() {
        let mut table = String::new();
        for state in State::ALL {
            for event in Event::ALL {
                if let Ok(to) = next(state, event) {
                    writeln!(table, "{state:?} + {event:?} -> {to:?}").unwrap();
                }
            }
        }
        assert_eq!(table, include_str!("transitions.txt"), "\n{table}");
    }

    #[test]
    fn what_has_ended_stays_as_it_is() {
        for state in State::ALL.into_iter().filter(|state| state.ended()) {
            for event in Event::ALL {
                assert!(next(state, event).is_ok_and(|to| to == state) || event != Event::Stop);
            }
        }
    }

    #[test]
    fn names_read_back() {
        for state in State::ALL {
            assert_eq!(State::parse(state.as_str()), Some(state));
        }
        assert_eq!(State::parse("?"), None);
    }
}
