//! What the operating system lets a program be given, checked before it answers with a bare "argument list too long".

use std::ffi::OsStr;

use rustix::process::{Resource, getrlimit};

use crate::failure::{ARGUMENT_TOO_LARGE, Failure, STEP_INVALID};

/// The longest single argument or variable, with its final NUL: MAX_ARG_STRLEN of Linux, 32 pages.
const LONGEST: usize = 128 * 1024;

/// Room for all arguments and variables together: a quarter of the stack's limit, between 128 KiB and 6 MiB (execve(2)).
fn room() -> usize {
    let stack = getrlimit(Resource::Stack).current.unwrap_or(u64::MAX);
    usize::try_from(stack / 4)
        .unwrap_or(usize::MAX)
        .clamp(LONGEST, 6 << 20)
}

/// Refuses what exec would, by name.
pub(crate) fn check(args: &[String], env: &[(String, String)]) -> Result<(), Failure> {
    let mut total = 0;
    for (index, arg) in args.iter().enumerate() {
        let name = || format!("argument {index} of the command ({})", excerpt(arg));
        total += check_one(arg, arg.len(), name)?;
    }
    for (name, value) in env {
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(Failure::new(
                STEP_INVALID,
                format!("{name:?} cannot name an environment variable"),
            ));
        }
        total += check_one(value, name.len() + 1 + value.len(), || {
            format!("environment variable {name}")
        })?;
    }
    let room = room();
    if total > room {
        return Err(Failure::new(
            ARGUMENT_TOO_LARGE,
            format!(
                "the command and its environment take {total} bytes, more than the {room} that Linux allows; \
                 pass large values as artifacts, whose paths are short"
            ),
        ));
    }
    Ok(())
}

fn check_one(text: &str, length: usize, name: impl Fn() -> String) -> Result<usize, Failure> {
    if text.contains('\0') {
        return Err(Failure::new(
            STEP_INVALID,
            format!("{} contains a NUL character", name()),
        ));
    }
    if length >= LONGEST {
        return Err(Failure::new(
            ARGUMENT_TOO_LARGE,
            format!(
                "{} takes {length} bytes, more than the {} that Linux allows for one; \
                 pass the value as an artifact, whose path is short",
                name(),
                LONGEST - 1
            ),
        ));
    }
    Ok(length + 1 + size_of::<*const u8>())
}

fn excerpt(text: &str) -> String {
    let start: String = text.chars().take(40).collect();
    let dots = if start.len() < text.len() { "…" } else { "" };
    format!("{:?}{dots}", OsStr::new(&start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_large_argument_is_named() {
        let args = ["sh".to_owned(), "-c".to_owned(), "x".repeat(LONGEST)];
        let failure = check(&args, &[]).unwrap_err();
        assert_eq!(failure.reason, ARGUMENT_TOO_LARGE);
        assert!(
            failure.message.contains("argument 2"),
            "{}",
            failure.message
        );
        assert!(failure.message.contains("artifact"), "{}", failure.message);
        assert!(failure.message.len() < 300);
        assert_eq!(check(&["x".repeat(LONGEST - 1)], &[]), Ok(()));
    }

    #[test]
    fn a_large_variable_is_named() {
        let env = [("BIG".to_owned(), "x".repeat(LONGEST - 4))];
        let failure = check(&[], &env).unwrap_err();
        assert!(
            failure.message.contains("variable BIG"),
            "{}",
            failure.message
        );
    }

    #[test]
    fn many_arguments_are_added_up() {
        let args = vec!["x".repeat(100_000); 100];
        assert_eq!(check(&args, &[]).unwrap_err().reason, ARGUMENT_TOO_LARGE);
    }

    #[test]
    fn what_exec_cannot_say_is_refused() {
        assert_eq!(
            check(&["a\0b".to_owned()], &[]).unwrap_err().reason,
            STEP_INVALID
        );
        for name in ["", "A=B"] {
            assert_eq!(
                check(&[], &[(name.to_owned(), String::new())])
                    .unwrap_err()
                    .reason,
                STEP_INVALID
            );
        }
    }
}
