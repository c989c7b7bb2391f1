//! What a person wants to see first when a step fails: the frame of their own code and the error.

/// The interesting end of a step's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// `train.py:12 in fit` of the innermost frame of user code.
    pub(crate) frame: Option<String>,
    /// The source line of that frame.
    pub(crate) source: Option<String>,
    /// `ValueError: no rows`.
    pub(crate) error: String,
}

/// Folders whose code is not the user's.
const LIBRARIES: &[&str] = &[
    "/site-packages/",
    "/lib/python",
    "<frozen",
    "/kfp/dsl/",
    "flumina_bootstrap",
];

/// Reads the last Python traceback of a log.
pub(crate) fn find(log: &str) -> Option<Failure> {
    let lines: Vec<&str> = log.lines().collect();
    let start = lines
        .iter()
        .rposition(|line| line.trim_end() == "Traceback (most recent call last):")?;
    let mut user = None;
    let mut error = None;
    for (index, line) in lines.iter().enumerate().skip(start + 1) {
        if let Some(frame) = frame(line) {
            if !LIBRARIES.iter().any(|library| line.contains(library)) {
                user = Some((
                    frame,
                    lines.get(index + 1).map(|source| source.trim().to_owned()),
                ));
            }
            continue;
        }
        if !line.starts_with(' ') && !line.is_empty() {
            error = Some((*line).to_owned());
            break;
        }
    }
    let (frame, source) = user.unzip();
    Some(Failure {
        frame,
        source: source.flatten(),
        error: error?,
    })
}

/// `  File "/x/train.py", line 12, in fit` → `train.py:12 in fit`.
fn frame(line: &str) -> Option<String> {
    let rest = line.trim_start().strip_prefix("File \"")?;
    let (path, rest) = rest.split_once("\", line ")?;
    let (number, function) = rest.split_once(", in ").unwrap_or((rest, ""));
    let file = path.rsplit('/').next().unwrap_or(path);
    let place = format!("{file}:{number}");
    Some(if function.is_empty() {
        place
    } else {
        format!("{place} in {function}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = r#"loading
Traceback (most recent call last):
  File "/usr/lib/python3.11/runpy.py", line 198, in _run_module_as_main
    return _run_code(code, main_globals, None,
  File "/env/lib/python3.11/site-packages/kfp/dsl/executor.py", line 411, in execute
    result = self.func(**func_kwargs)
  File "/data/files/ephemeral_component.py", line 9, in train
    fit(rows)
  File "/data/files/ephemeral_component.py", line 5, in fit
    raise ValueError("no rows")
ValueError: no rows
trailing output
"#;

    #[test]
    fn the_innermost_frame_of_user_code_is_found() {
        let failure = find(LOG).unwrap();
        assert_eq!(
            failure.frame.as_deref(),
            Some("ephemeral_component.py:5 in fit")
        );
        assert_eq!(
            failure.source.as_deref(),
            Some("raise ValueError(\"no rows\")")
        );
        assert_eq!(failure.error, "ValueError: no rows");
    }

    #[test]
    fn a_log_without_a_traceback_has_no_frame() {
        assert_eq!(find("one\ntwo\n"), None);
        assert_eq!(find("Traceback (most recent call last):\n"), None);
    }
}
