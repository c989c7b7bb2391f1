//! A type per kind of id, so that a run's id is never taken for an experiment's.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The text is not an id of the kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a valid {kind}: {expected}")]
pub struct InvalidId {
    /// What was given, at most its first 64 characters.
    pub text: String,
    /// The kind of id.
    pub kind: &'static str,
    /// What would be right.
    pub expected: &'static str,
}

impl InvalidId {
    fn new(text: &str, kind: &'static str, expected: &'static str) -> Self {
        Self {
            text: text.chars().take(64).collect(),
            kind,
            expected,
        }
    }
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Uuid);

        impl $name {
            /// A new id that sorts after earlier ones (UUID version 7).
            pub fn generate() -> Self {
                Self(Uuid::now_v7())
            }

            /// The id that belongs to a name: the same name gives the same id (UUID version 5).
            pub fn derived(name: &str) -> Self {
                Self(Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.as_hyphenated().fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                // Other spellings (braces, URN, no hyphens) would give one thing two names.
                let uuid = Uuid::try_parse(text).ok().filter(|uuid| {
                    text.len() == 36 && uuid.as_hyphenated().to_string().eq_ignore_ascii_case(text)
                });
                uuid.map(Self)
                    .ok_or_else(|| InvalidId::new(text, $kind, "expected a UUID with hyphens"))
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;

            fn try_from(text: String) -> Result<Self, InvalidId> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.to_string()
            }
        }
    };
}

uuid_id!(
    /// A run of a pipeline.
    RunId, "run id");
uuid_id!(
    /// A pipeline.
    PipelineId, "pipeline id");
uuid_id!(
    /// A version of a pipeline.
    PipelineVersionId, "pipeline version id");
uuid_id!(
    /// An experiment.
    ExperimentId, "experiment id");
uuid_id!(
    /// A schedule, which the adopted contract calls a recurring run.
    ScheduleId, "recurring run id");
uuid_id!(
    /// A backfill of a schedule.
    BackfillId, "backfill id");
uuid_id!(
    /// A key that makes the repetition of a call harmless.
    RequestId, "request id");

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub i64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let plain = text.bytes().all(|byte| byte.is_ascii_digit());
                text.parse()
                    .ok()
                    .filter(|number: &i64| plain && *number > 0)
                    .map(Self)
                    .ok_or_else(|| InvalidId::new(text, $kind, "expected a whole number from 1"))
            }
        }
    };
}

number_id!(
    /// A task of a run, unique in the installation.
    TaskId, "task id");
number_id!(
    /// An artifact, unique in the installation.
    ArtifactId, "artifact id");

/// A workload, named by whoever asks for it: 1 to 128 characters of `a-z A-Z 0-9 . _ -`, not starting with a dot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct WorkloadId(String);

impl WorkloadId {
    /// The attempt of a task of a run.
    pub fn of_attempt(run: RunId, task: TaskId, attempt: u32) -> Self {
        Self(format!("{run}.{task}.{attempt}"))
    }

    /// The id as text; it is safe as the name of a file.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for WorkloadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for WorkloadId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let valid =
            (1..=128).contains(&text.len()) && text.bytes().all(allowed) && !text.starts_with('.');
        if !valid {
            let expected =
                "expected 1 to 128 characters of a-z A-Z 0-9 . _ -, not starting with a dot";
            return Err(InvalidId::new(text, "workload id", expected));
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for WorkloadId {
    type Error = InvalidId;

    fn try_from(text: String) -> Result<Self, InvalidId> {
        text.parse()
    }
}

impl From<WorkloadId> for String {
    fn from(id: WorkloadId) -> String {
        id.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuid_ids_have_one_spelling() {
        let id = RunId::generate();
        assert_eq!(id.to_string().parse(), Ok(id));
        for text in [
            "",
            "x",
            "{67e55044-10b1-426f-9247-bb680e5fe0c8}",
            "67e5504410b1426f9247bb680e5fe0c8",
        ] {
            assert!(text.parse::<RunId>().is_err(), "{text}");
        }
        assert_eq!(RunId::derived("a"), RunId::derived("a"));
    }

    #[test]
    fn numbers_are_plain_and_positive() {
        assert_eq!("7".parse(), Ok(TaskId(7)));
        for text in ["", "0", "-1", "+7", "07x", "9223372036854775808"] {
            assert!(text.parse::<TaskId>().is_err(), "{text}");
        }
    }

    #[test]
    fn workload_ids_are_safe_file_names() {
        let attempt = WorkloadId::of_attempt(RunId::derived("r"), TaskId(3), 1);
        assert_eq!(attempt.as_str().parse(), Ok(attempt.clone()));
        for text in ["", ".", "..", ".x", "a/b", "a b", &"a".repeat(129)] {
            assert!(text.parse::<WorkloadId>().is_err(), "{text}");
        }
    }
}
